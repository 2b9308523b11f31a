//! Quotes of shells: what a word is without them, and how a candidate is put into a line that has some. Pure.

/// Characters that need no quotes in a word of bash.
fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || "_-+=:,./@%".contains(c)
}

/// A word without its quotes, and the quote that is still open at its end. Nothing is expanded.
pub(super) fn removed(word: &str) -> (String, Option<char>) {
    let mut out = String::with_capacity(word.len());
    let mut open = None;
    let mut chars = word.chars().peekable();
    while let Some(c) = chars.next() {
        match (open, c) {
            (None, '\'' | '"') => open = Some(c),
            (Some(q), c) if q == c => open = None,
            (None, '\\') => out.extend(chars.next()),
            // Within double quotes it is itself, unless one of these follows.
            (Some('"'), '\\') if matches!(chars.peek(), Some('"' | '\\' | '$' | '`')) => {
                out.extend(chars.next());
            }
            (_, c) => out.push(c),
        }
    }
    (out, open)
}

/// What bash is to put in place of the last piece of a word that was typed as `raw`, so that it reads `whole`. `lead`
/// is what stands in front of the piece. `None`: that cannot be written there.
pub(super) fn piece(whole: &str, raw: &str, lead: &str) -> Option<String> {
    let (kept, typed) = match raw.strip_prefix(lead) {
        Some(typed) => (removed(lead).0, typed),
        None => (String::new(), raw),
    };
    let rest = whole.strip_prefix(kept.as_str())?;
    match (typed.chars().next(), removed(typed).1) {
        // Behind a quote that is open from its begin on, which bash leaves there and closes.
        (Some('\''), Some('\'')) => (!rest.contains('\'')).then(|| rest.to_owned()),
        (Some('"'), Some('"')) => Some(escaped(rest, |c| matches!(c, '"' | '\\' | '$' | '`'))),
        (_, Some(_)) => None,
        (_, None) => Some(escaped(rest, |c| !is_plain(c))),
    }
}

fn escaped(text: &str, needs: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if needs(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_removed() {
        for (word, text, open) in [
            ("h1", "h1", None),
            ("", "", None),
            ("a\\ b", "a b", None),
            ("'a b'c", "a bc", None),
            ("'a\\", "a\\", Some('\'')),
            ("\"a\\$\\x", "a$\\x", Some('"')),
            ("a'b\"", "ab\"", Some('\'')),
            ("a\\", "a", None),
            ("ü'ß'", "üß", None),
        ] {
            assert_eq!(removed(word), (text.to_owned(), open), "{word}");
        }
    }

    #[test]
    fn bash_puts_it_where_it_belongs() {
        for (whole, raw, lead, put) in [
            ("h1", "h", "", Some("h1")),
            ("alice@h1", "alice@h", "alice@", Some("h1")),
            ("--host=h1", "--host=", "--host=", Some("h1")),
            ("my job", "my", "", Some("my\\ job")),
            ("my job", "my\\ j", "", Some("my\\ job")),
            ("my job", "'my j", "", Some("my job")),
            ("it's", "'it", "", None),
            ("a$b", "\"a", "", Some("a\\$b")),
            ("a$b", "a", "", Some("a\\$b")),
            ("x;rm -rf", "x", "", Some("x\\;rm\\ -rf")),
            ("--name=my job", "--name='my", "--name=", Some("my job")),
            ("my job", "my' j", "", None),
            ("other", "x@h", "x@", None),
        ] {
            assert_eq!(piece(whole, raw, lead).as_deref(), put, "{whole} for {raw}");
        }
    }
}
