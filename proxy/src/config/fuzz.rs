//! Any text as a configuration file.

use std::path::Path;

use super::file::ConfigFile;
use super::keys::KEYS;
use super::layer::Layer;
use crate::fuzzing::within;

/// The passwords in the corpus.
const PASSWORD: &str = "hunter2-and-more";

/// A file is read or refused in one line, by no message that has a password in it; and what it says is printed in a way
/// that is read as the same again.
pub(crate) fn configuration(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    // Anywhere else, a mistake in it may be told.
    let is_secret = text.lines().filter(|line| line.contains(PASSWORD)).all(|line| {
        let key = line.split('=').next().unwrap_or_default().trim();
        key == "password" || key == "console_password"
    });
    let path = Path::new("spillway.toml");
    // Some three bytes for each of the text's in the parser's tables, as a byte may be a table: `a.a.a.a`.
    let file = within(4096 * (text.len() + 16), || ConfigFile::parse(&text, path));
    let file = match file {
        Ok(file) => file,
        Err(error) => {
            let told = error.to_string();
            assert!(!is_secret || !told.contains(PASSWORD), "tells a password: {told}");
            assert!(!told.contains("\u{1b}"), "speaks to the terminal: {told:?}");
            return;
        }
    };
    let shown = format!("{file:?}");
    assert!(!is_secret || !shown.contains(PASSWORD), "shows a password: {shown}");
    for route in &file.routes {
        let _ = route.own.clone().inheriting(file.top.clone()).over_defaults();
        check_printed(&route.own, path);
    }
    check_printed(&file.top, path);
}

fn check_printed(layer: &Layer, path: &Path) {
    let mut text = String::new();
    let mut left_out = Vec::new();
    for key in KEYS {
        match layer.settings.printed(key) {
            None => {}
            Some(Ok(value)) => text += &format!("{key} = {value}\n"),
            Some(Err(_)) => left_out.push(*key),
        }
    }
    let again = match ConfigFile::parse(&text, path) {
        Ok(again) => again,
        Err(error) => panic!("printed as {text:?}, and cannot be read: {error}"),
    };
    assert_eq!(layer.settings.differing(&again.top.settings), left_out, "printed as {text:?}");
}
