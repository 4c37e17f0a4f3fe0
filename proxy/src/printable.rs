//! Words of others, made fit for one line of a log or of an error.

/// Characters that are shown.
const MAX_CHARS: usize = 200;

/// Text from the network: without line breaks and control characters, and not too long.
pub(crate) fn printable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut chars = text.chars();
    let shown: String =
        chars.by_ref().take(MAX_CHARS).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if chars.next().is_some() { shown + "…" } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_a_line() {
        assert_eq!(printable(b"dump"), "dump");
        assert_eq!(printable(b"a\nERROR forged\x1b[1m"), "a\u{fffd}ERROR forged\u{fffd}[1m");
        assert_eq!(printable(b"\xff"), "\u{fffd}");
        assert_eq!(printable(&[b'x'; 1000]).chars().count(), MAX_CHARS + 1);
    }
}
