//! Tables in the documentation that a command measures and writes.

use anyhow::{Context as _, Result};

/// The text with `tables` between the lines `<!-- name:begin -->` and `<!-- name:end -->`.
///
/// # Errors
/// Where one of the lines is missing, or they stand in the other order.
pub fn splice(text: &str, name: &str, tables: &str) -> Result<String> {
    let [begin, end] = ["begin", "end"].map(|edge| format!("<!-- {name}:{edge} -->"));
    let (before, rest) = text.split_once(&begin).with_context(|| format!("no line {begin}"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("no line {end} behind {begin}"))?;
    Ok(format!("{before}{begin}\n{}\n{end}{after}", tables.trim()))
}

/// The text in lines of no more than 118 characters.
pub fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut length = 0;
    for word in text.split(' ') {
        let width = word.chars().count();
        let fits = length + 1 + width <= 118;
        if length > 0 {
            lines.push(if fits { ' ' } else { '\n' });
        }
        length = if fits { length + 1 + width } else { width };
        lines += word;
    }
    lines + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() -> Result<()> {
        let (begin, end) = ("<!-- x:begin -->", "<!-- x:end -->");
        let text = format!("before\n{begin}\nold\n{end}\nafter\n");
        let once = splice(&text, "x", "new\n")?;
        assert_eq!(once, format!("before\n{begin}\nnew\n{end}\nafter\n"));
        assert_eq!(splice(&once, "x", "new\n")?, once);
        assert!(splice("nothing", "x", "new").is_err());
        assert!(splice(&text, "y", "new").is_err());
        assert!(splice(&format!("{end} {begin}"), "x", "new").is_err());
        Ok(())
    }
}
