//! Any text as what a client says of itself.

use super::{help, option_files};
use crate::fuzzing::within;

/// ```text
/// n  --help    NUL    n  --print-defaults
/// ```
///
/// Neither is believed to be whole, and nothing that it says is longer than it.
pub(crate) fn client_help(input: &[u8]) {
    let (help, defaults) = match input.iter().position(|&byte| byte == 0) {
        Some(nul) => (&input[..nul], &input[nul + 1..]),
        None => (input, &[][..]),
    };
    let help = String::from_utf8_lossy(help);
    let Ok(table) = within(64 * (help.len() + 1024), || help::parse(&help)) else { return };
    let given = within(64 * (defaults.len() + 64), || option_files::given_in_line(defaults, &table));
    let len: usize = given.iter().filter_map(|given| Some(given.value.as_ref()?.len())).sum();
    assert!(len <= defaults.len());
}
