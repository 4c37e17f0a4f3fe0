//! The commands in the documentation, as a reader would type them.

use std::path::Path;
use std::{fs, iter};

use anyhow::{Context as _, Result};

/// A fenced block of shell commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The file, and the line of its first command.
    pub place: String,
    /// Commands, continued lines put together.
    pub commands: Vec<String>,
}

/// The ```` ```sh ```` blocks of a Markdown file.
pub fn shell_blocks(path: &Path) -> Result<Vec<Block>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(blocks_of(&text, &name))
}

fn blocks_of(text: &str, name: &str) -> Vec<Block> {
    let mut lines = text.lines().enumerate();
    let block = || {
        let (start, _) = lines.find(|(_, line)| line.trim() == "```sh")?;
        let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```");
        let commands = commands_of(&inside.collect::<Vec<_>>());
        Some(Block { place: format!("{name}:{}", start + 2), commands })
    };
    iter::from_fn(block).collect()
}

fn commands_of(lines: &[&str]) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut is_continued = false;
    for line in lines {
        let (line, continues) = line.strip_suffix('\\').map_or((*line, false), |line| (line, true));
        match commands.last_mut().filter(|_| is_continued) {
            Some(command) => command.push_str(line),
            None => commands.push(line.to_owned()),
        }
        is_continued = continues;
    }
    commands.retain(|command| !command.trim().is_empty() && !command.trim_start().starts_with('#'));
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_with_their_lines() {
        let text = "a\n```sh\none \\\n  two\n# a comment\n\nthree\n```\n```toml\nx = 1\n```\n  ```sh\n  four\n  ```\n";
        let block = |line: usize, commands: &[&str]| Block {
            place: format!("README.md:{line}"),
            commands: commands.iter().map(|&command| command.to_owned()).collect(),
        };
        assert_eq!(blocks_of(text, "README.md"), [block(3, &["one   two", "three"]), block(13, &["  four"])]);
    }
}
