//! Patterns of the shell, on one word: `*`, `?`, `[a-z]`, `[^a-z]` (also `[!a-z]`), and a backslash before what is
//! meant literally.

/// One element of a pattern at its start, and what is left of the pattern.
enum Element {
    /// Any number of characters.
    Any,
    /// One character: whether it fits.
    One(bool),
}

/// Whether all of `text` fits `pattern`. Time is at most the product of the two lengths.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let p: Vec<char> = pattern.chars().collect();
    let t: Vec<char> = text.chars().collect();
    let (mut i, mut j) = (0, 0);
    // Where to go on when it does not fit: the last `*` takes one character more.
    let mut back: Option<(usize, usize)> = None;
    loop {
        if j == t.len() && p[i..].iter().all(|c| *c == '*') {
            return true;
        }
        let fits = (i < p.len()).then(|| element(&p, i, t.get(j).copied()));
        match fits {
            Some((Element::Any, next)) => {
                back = Some((next, j));
                i = next;
                continue;
            }
            Some((Element::One(true), next)) => {
                (i, j) = (next, j + 1);
                continue;
            }
            _ => {}
        }
        match back {
            Some((after, at)) if at < t.len() => {
                back = Some((after, at + 1));
                (i, j) = (after, at + 1);
            }
            _ => return false,
        }
    }
}

/// The element at `i`, judged for the character `c` (`None`: the text has ended).
fn element(p: &[char], i: usize, c: Option<char>) -> (Element, usize) {
    match p[i] {
        '*' => (Element::Any, i + 1),
        '?' => (Element::One(c.is_some()), i + 1),
        '[' => match set(p, i, c) {
            Some(found) => found,
            // Never closed: it means itself.
            None => (Element::One(c == Some('[')), i + 1),
        },
        '\\' if i + 1 < p.len() => (Element::One(c == Some(p[i + 1])), i + 2),
        literal => (Element::One(c == Some(literal)), i + 1),
    }
}

/// A set `[...]` at `i`; a `]` right at its start belongs to it.
fn set(p: &[char], i: usize, c: Option<char>) -> Option<(Element, usize)> {
    let mut k = i + 1;
    let not = matches!(p.get(k), Some('^' | '!'));
    k += usize::from(not);
    let first = k;
    let mut found = false;
    loop {
        let from = *p.get(k)?;
        if from == ']' && k > first {
            break;
        }
        match (p.get(k + 1), p.get(k + 2)) {
            (Some('-'), Some(to)) if *to != ']' => {
                found |= c.is_some_and(|c| (from..=*to).contains(&c));
                k += 3;
            }
            _ => {
                found |= c == Some(from);
                k += 1;
            }
        }
    }
    Some((Element::One(c.is_some() && found != not), k + 1))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        for (pattern, text) in [
            ("gpu*", "gpu17"),
            ("gpu*", "gpu"),
            ("*", ""),
            ("", ""),
            ("*A100*", "NVIDIA A100-SXM4"),
            ("h?", "h1"),
            ("h[1-3]", "h2"),
            ("h[^1-3]", "h4"),
            ("h[!1-3]x", "hyx"),
            ("[]a]", "]"),
            ("[a-]", "-"),
            ("a[b", "a[b"),
            ("a\\*", "a*"),
            ("*a*b*c", "xaybzc"),
            ("a*b", "aXbXb"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("gpu*", "xgpu"),
            ("h?", "h"),
            ("h?", "h12"),
            ("h[1-3]", "h4"),
            ("h[^1-3]", "h2"),
            ("h[^1-3]", "h"),
            ("a\\*", "ab"),
            ("", "a"),
            ("a*b", "aXc"),
            ("[", ""),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        // Many stars cost no exponential time.
        assert!(!matches(&"a*".repeat(200), &"a".repeat(199)));
        assert!(!matches(&format!("{}b", "*a".repeat(200)), &"a".repeat(800)));
    }
}
