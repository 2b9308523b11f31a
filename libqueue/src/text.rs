//! Text that came from elsewhere, made safe to show: whatever could drive a terminal (control characters, escape
//! sequences begin with them; those of C1 too) or make a line read other than it is (marks that turn the direction
//! of writing). Pure. `queue-exec` has a rule of its own, as it links none of this.

use std::fmt::Write as _;

/// Whether a character is to be shown as what it is only in words.
pub fn is_odd(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Marks of direction: implicit ones, embeddings, overrides, isolates; and the ends of lines and
            // paragraphs that are no control characters.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// One line of harmless text: odd characters are spelled out, line ends and tabs become blanks.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.trim_end().chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            c if is_odd(c) => spell(&mut out, c),
            c => out.push(c),
        }
    }
    out
}

fn spell(out: &mut String, c: char) {
    // Writing to a string does not fail.
    let _ = if c.is_control() {
        write!(out, "\\x{:02x}", c as u32)
    } else {
        write!(out, "\\u{{{:x}}}", c as u32)
    };
}

/// What is left of a text that is kept or passed on: at most so many characters, no odd ones.
pub fn plain(text: &str, max: usize) -> String {
    text.chars().filter(|c| !is_odd(*c)).take(max).collect()
}

/// JSON as it may go to a terminal: the same value, with odd characters as escapes. They can only be in strings there,
/// but for the blanks and line ends of its layout.
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_odd(c) && c != '\n' {
            // None of them is above U+FFFF.
            let _ = write!(out, "\\u{:04x}", c as u32);
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: &str = "a\x1b[2J\x07\u{7f}\u{9b}31m\u{202e}b\u{2066}\u{61c}\u{2028}\r\n\tc\0";

    #[test]
    fn nothing_odd_is_left() {
        for text in [printable(BAD), plain(BAD, 100), json(BAD)] {
            assert!(!text.chars().any(|c| is_odd(c) && c != '\n'), "{text:?}");
        }
        assert_eq!(
            printable(BAD),
            "a\\x1b[2J\\x07\\x7f\\x9b31m\\u{202e}b\\u{2066}\\u{61c}\\u{2028}   c\\x00"
        );
        assert_eq!(plain(BAD, 4), "a[2J");
        assert_eq!(plain("grüße 日本 ☃", 100), "grüße 日本 ☃");
        assert_eq!(printable("grüße 日本 ☃\n"), "grüße 日本 ☃");
    }

    #[test]
    fn json_means_the_same() {
        assert_eq!(
            json("{\n  \"a\": \"\u{9b}\u{202e}ü\"\n}"),
            "{\n  \"a\": \"\\u009b\\u202eü\"\n}"
        );
    }
}
