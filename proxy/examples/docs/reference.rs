//! The configuration reference: every setting with its flag, variable, key, type and default.

use clap::builder::PossibleValue;
use clap::{Arg, Command};

/// The page.
pub(crate) fn render(program: &Command) -> String {
    let mut page = HEAD.to_owned();
    let commands: Vec<&Command> = program.get_subcommands().collect();
    let shown_in = |command: &Command, id: &str| {
        command.get_arguments().any(|arg| arg.get_id().as_str() == id && !arg.is_hide_set())
    };
    let Some(serve) = commands.iter().find(|command| command.get_name() == "serve") else { return page };
    for setting in serve.get_arguments().filter(|arg| arg.get_env().is_some()) {
        let everywhere = commands
            .iter()
            .filter(|command| matches!(command.get_name(), "serve" | "run"))
            .all(|command| shown_in(command, setting.get_id().as_str()));
        page += &section(setting, !everywhere);
        page += match setting.get_id().as_str() {
            "user" => PASSWORD,
            "web" => WEB_PASSWORD,
            "console" => CONSOLE_PASSWORD,
            _ => "",
        };
    }
    page
}

fn section(setting: &Arg, is_for_serve: bool) -> String {
    let help = setting.get_help().map(ToString::to_string).unwrap_or_default();
    let (text, default) = split_default(&help);
    let mut names = Vec::new();
    if let Some(variable) = setting.get_env() {
        names.push(format!("variable `{}`", variable.to_string_lossy()));
    }
    match key(setting) {
        Some(key) => names.push(format!("key `{key}`")),
        None => names.push("no key".to_owned()),
    }
    let long = setting.get_long().unwrap_or_default();
    let only = if is_for_serve { " (`serve`)" } else { "" };
    let default = default.map(|default| format!("- default: {default}\n")).unwrap_or_default();
    format!("\n## `--{long}`{only}\n\n{text}.\n\n- {}\n- {}\n{default}", names.join(", "), kind(setting))
}

/// The key in the file; the file's own name has none.
fn key(setting: &Arg) -> Option<&str> {
    Some(setting.get_id().as_str()).filter(|&id| id != "config")
}

/// The help's text, and what it says in brackets of the default.
fn split_default(help: &str) -> (&str, Option<&str>) {
    match help.split_once(" [default: ") {
        Some((text, default)) => (text, Some(default.trim_end_matches(']'))),
        None => (help, None),
    }
}

/// What is to be given.
fn kind(setting: &Arg) -> String {
    let name = setting.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
    let choices = setting.get_possible_values();
    let kind = match TYPES.iter().find(|(known, _)| *known == name) {
        Some((_, kind)) => format!("{name}: {kind}"),
        None if choices.is_empty() => name.to_owned(),
        None => format!("one of {}", list(&choices)),
    };
    let separator = match setting.get_value_delimiter() {
        Some(',') => "; several by commas, in the file as a list",
        _ if matches!(setting.get_action(), clap::ArgAction::Append) => {
            "; may be repeated, in the file as a list"
        }
        _ => "",
    };
    kind + separator
}

fn list(choices: &[PossibleValue]) -> String {
    let names: Vec<_> = choices.iter().map(|choice| format!("`{}`", choice.get_name())).collect();
    names.join(", ")
}

const HEAD: &str = "\
# Configuration

<!-- Made by `make docs` from the definition of the command line; changes go there. -->

Each setting is a flag of `spillway serve` and `spillway run`, a variable, or a key of the TOML file that `--config` names;
in this order. What is marked with `serve` has no meaning for `run`, whose proxy is private.

```toml
# /etc/spillway/spillway.toml
upstream = [\"db1:3306\", \"db2:3306\"]
listen = \"127.0.0.1:3307\"
spool_dir = \"/var/cache/spillway\"
memory = \"512MiB\"
shutdown_grace = \"30m\"
tls_self_signed = true
```

Sizes, times and versions are strings in the file, in quotes; on and off is `true` and `false` there. An unknown key is an
error that names its line.
";

/// It has no flag, so clap knows nothing of it.
const PASSWORD: &str = "
## `password`

The password of `--user`. It has no flag, as others could read it in the list of processes.

- variable `SPILLWAY_PASSWORD`, key `password`
- text; the file that holds it must belong to root or to Spillway's own user and be closed to all others
";

/// The same.
const WEB_PASSWORD: &str = "
## `web_password` (`serve`)

The password of the web page's user, `admin`. It has no flag either.

- variable `SPILLWAY_WEB_PASSWORD`, key `web_password`
- text; the file that holds it must belong to root or to Spillway's own user and be closed to all others
";

/// The same.
const CONSOLE_PASSWORD: &str = "
## `console_password` (`serve`)

The password of the console's user, `admin`. It has no flag either.

- variable `SPILLWAY_CONSOLE_PASSWORD`, key `console_password`
- text; the file that holds it must belong to root or to Spillway's own user and be closed to all others
";

const TYPES: [(&str, &str); 14] = [
    ("SERVER", "`HOST`, `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`"),
    ("ADDR", "`ADDR:PORT`, `[IPV6]:PORT` or `unix:PATH`"),
    ("ADDR:PORT", "`ADDR:PORT` or `[IPV6]:PORT`"),
    ("DIR", "a directory"),
    ("FILE", "a file"),
    ("PATH", "a file or a directory"),
    ("SIZE", "bytes: `64MiB`, `1.5GB`, `4096`"),
    ("TIME", "`200us`, `30s`, `5m`, `12h`, `1m 30s`"),
    ("BOOL", "`true` or `false`; the flag alone is `true`"),
    ("NUMBER", "a whole number"),
    ("NAME", "text"),
    ("SQL", "a statement"),
    ("NETWORK", "`ADDRESS/BITS`, an address, `localhost` or `*`"),
    ("LEVEL", "`error`, `warn`, `info`, `debug` or `trace`, or `MODULE=LEVEL` pairs, separated by commas"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use spillway::cli::Cli;
    use spillway::config::Settings;

    use super::*;

    const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

    #[test]
    fn the_page_is_up_to_date() {
        let written =
            fs::read_to_string(format!("{ROOT}/docs/configuration.md")).expect("docs/configuration.md");
        assert!(
            written == render(&Cli::definition()),
            "docs/configuration.md is out of date: run `make docs`"
        );
    }

    /// What the file takes is told by its own complaint about a key that it does not know.
    #[test]
    fn every_key_is_on_the_page() {
        let error = toml::from_str::<Settings>("surely_unknown = 1").expect_err("no such key").to_string();
        let (_, known) = error.split_once("expected one of ").expect("serde lists the keys");
        let known: BTreeSet<&str> = known.split('`').skip(1).step_by(2).collect();
        let page = render(&Cli::definition());
        let shown: BTreeSet<&str> =
            page.split("key `").skip(1).filter_map(|rest| rest.split('`').next()).collect();
        assert_eq!(shown, known);
    }

    /// Options that are commented out are `#key = value`; prose is `# …`.
    #[test]
    fn the_example_file_is_accepted_with_all_its_options() {
        let text = fs::read_to_string(format!("{ROOT}/packaging/spillway.toml")).expect("the example");
        toml::from_str::<Settings>(&text).expect("as it is");
        let is_option = |line: &&str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
        let options: Vec<&str> = text.lines().filter(is_option).map(|line| &line[1..]).collect();
        assert!(options.len() > 10, "{options:?}");
        toml::from_str::<Settings>(&options.join("\n")).expect("what it offers");
    }
}
