//! Man pages: one for the program and one for each command.

use std::fs;
use std::io;
use std::path::Path;

use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use spillway::cli::Cli;

/// Writes `spillway.1`, `spillway-serve.1` and so on.
pub(crate) fn write(dir: &Path) -> io::Result<()> {
    let mut all = Cli::definition().disable_help_subcommand(true);
    all.build();
    let commands = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    for mut command in commands.chain([all.clone()]) {
        let name = command.get_name().to_owned();
        // `[OPTIONS]` in the place of forty of them.
        let usage = command.render_usage().to_string();
        let command = command.override_usage(usage.trim_start_matches("Usage: ").to_owned());
        let man = Man::new(command).source(concat!("spillway ", env!("CARGO_PKG_VERSION")));
        let mut page = Vec::new();
        man.render(&mut page)?;
        further(&name).to_writer(&mut page)?;
        fs::write(dir.join(man.get_filename()), page)?;
    }
    Ok(())
}

/// What the definition does not say.
fn further(command: &str) -> Roff {
    let mut page = Roff::new();
    let sections: &[(&str, &[(&str, &str)])] = match command {
        "serve" => &[("SIGNALS", &SIGNALS), ("ENVIRONMENT", &ENVIRONMENT), ("EXIT STATUS", &SERVE_STATUS)],
        "run" => &[("ENVIRONMENT", &PASSWORD), ("EXIT STATUS", &RUN_STATUS)],
        _ => &[("FILES", &FILES)],
    };
    for (title, entries) in sections {
        page.control("SH", [*title]);
        for (name, text) in *entries {
            page.control("TP", []).text([bold(*name)]).text([roman(*text)]);
        }
    }
    page
}

const SIGNALS: [(&str, &str); 2] = [
    (
        "SIGTERM, SIGINT",
        "No new clients. Sessions may end by themselves for --shutdown-grace; a second signal ends them at once.",
    ),
    ("SIGHUP", "Certificates and keys are read again."),
];

const ENVIRONMENT: [(&str, &str); 4] = [
    ("SPILLWAY_PASSWORD", "Password for --auth stored."),
    ("LISTEN_FDS, LISTEN_PID", "Sockets that the service manager has opened, in the place of --listen."),
    (
        "NOTIFY_SOCKET",
        "Where the service manager is told that Spillway is ready, reloads or stops, and its sessions.",
    ),
    ("WATCHDOG_USEC, WATCHDOG_PID", "How often the service manager wants to be told that Spillway is alive."),
];

const PASSWORD: [(&str, &str); 1] = [ENVIRONMENT[0]];

const SERVE_STATUS: [(&str, &str); 4] = [
    ("0", "A signal ended it."),
    ("2", "The command line cannot be used."),
    ("70", "Something failed that should not."),
    ("78", "A setting or an address cannot be used."),
];

const RUN_STATUS: [(&str, &str); 4] = [
    ("The command's own", "128+n if signal n ended it."),
    ("74", "The command ended with 0, but a response had ended with an error of Spillway's."),
    ("2, 78", "The command line or a setting cannot be used; nothing was started."),
    ("126, 127", "The command cannot be executed, or was not found."),
];

const FILES: [(&str, &str); 2] = [
    ("/etc/spillway/spillway.toml", "Configuration of the service."),
    ("/usr/share/doc/spillway/docs/configuration.md", "All settings, with their types and defaults."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        write(dir.path())?;
        let page = |name: &str| fs::read_to_string(dir.path().join(name));
        assert!(page("spillway.1")?.contains("spillway\\-serve(1)"));
        assert!(page("spillway-serve.1")?.contains("SPILLWAY_SPOOL_DIR"));
        let run = page("spillway-run.1")?;
        assert!(run.contains("[OPTIONS] <COMMAND>") && !run.contains("shutdown"), "{run}");
        Ok(())
    }
}
