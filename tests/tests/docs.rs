//! Every command in the documentation runs as it is written: in a copy of this machine (an overlay over its files, a
//! network of its own) in which the hosts, accounts and directories that the documentation speaks of exist.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spillway_tests::binary::workspace;
use spillway_tests::docs::{Block, shell_blocks};
use spillway_tests::{client, process, spillway_bin};

const LIMIT: Duration = Duration::from_secs(120);

/// What is run elsewhere: by CI itself, or only by hand, as it needs what a test cannot have.
const ELSEWHERE: [(&str, &str); 3] = [
    ("make ", "CI runs `make test`, which builds all that the others use"),
    ("cargo ", "the tests are built by it"),
    ("sudo ", "it is for a system under systemd, which is not to be changed here"),
];

fn documents() -> Result<Vec<PathBuf>> {
    let mut documents = vec![workspace().join("README.md")];
    for entry in fs::read_dir(workspace().join("docs"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            documents.push(path);
        }
    }
    documents.sort();
    Ok(documents)
}

fn is_elsewhere(command: &str) -> bool {
    ELSEWHERE.iter().any(|(start, _)| command.trim_start().starts_with(start))
}

#[test]
fn every_command_runs() -> Result<()> {
    let blocks: Vec<Block> =
        documents()?.iter().map(|path| shell_blocks(path)).collect::<Result<Vec<_>>>()?.concat();
    let commands =
        blocks.iter().flat_map(|block| &block.commands).filter(|command| !is_elsewhere(command)).count();
    ensure!(blocks.len() >= 6 && commands >= 8, "the documentation has lost its commands: {blocks:#?}");

    let mut script = String::from(include_str!("docs/world.sh"));
    for block in &blocks {
        writeln!(script, "begin {}", quoted(&block.place))?;
        for command in block.commands.iter().filter(|command| !is_elsewhere(command)) {
            // A server stays until its block is over.
            let how = if command.trim_start().starts_with("spillway serve") { "serve" } else { "run" };
            writeln!(script, "{how} {}", quoted(command))?;
        }
        writeln!(script, "end")?;
    }
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("docs.sh");
    fs::write(&file, script)?;
    let mut command = client::clean("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--", "bash"]).arg(&file);
    command.arg(spillway_bin());
    let finished = process::run(&mut command, LIMIT)?;
    ensure!(finished.code() == 0, "{}\n{}", finished.text(), finished.stderr);
    Ok(())
}

/// What `make` is said to do, it knows.
#[test]
fn every_target_of_make_is_there() -> Result<()> {
    let makefile = fs::read_to_string(workspace().join("Makefile"))?;
    for path in documents()? {
        for block in shell_blocks(&path)? {
            for command in &block.commands {
                let Some(target) = command.trim_start().strip_prefix("make ") else { continue };
                let target = target.split_whitespace().next().context("make what?")?;
                let is_there = makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
                ensure!(is_there, "{}: make {target}", block.place);
            }
        }
    }
    Ok(())
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The failure catalogue speaks of messages that there are.
#[test]
fn every_message_of_the_catalogue_is_in_the_program() -> Result<()> {
    let catalogue = fs::read_to_string(workspace().join("docs/errors.md"))?;
    let (_, ours) =
        catalogue.split_once("## What a client is told").context("the part about our messages")?;
    let program = sources(&workspace().join("proxy/src"))?;
    // A string that goes on in the next line of the source is one.
    let program: String = program.lines().map(|line| line.trim().trim_end_matches('\\')).collect();
    let mut messages = 0;
    for line in ours.lines().filter(|line| line.starts_with("| `")) {
        let cell = line.split('|').nth(1).unwrap_or_default();
        for message in cell.split('`').skip(1).step_by(2) {
            messages += 1;
            let message = message.strip_prefix("spillway: ").unwrap_or(message);
            for part in message
                .split('…')
                .map(|part| part.trim_matches([' ', ':', ',', '\'']))
                .filter(|part| part.len() > 2)
            {
                ensure!(program.contains(part), "`{part}` of `{message}` is no message of the program");
            }
        }
    }
    ensure!(messages > 30, "{messages} messages");
    Ok(())
}

fn sources(dir: &Path) -> Result<String> {
    let mut text = String::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            text.push_str(&sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path)?);
        }
    }
    Ok(text)
}
