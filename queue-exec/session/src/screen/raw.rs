//! Output as bytes: where a control sequence is not complete yet, and which part of a flood would leave no trace on
//! the screen. Pure.

/// An unfinished sequence that is longer than this is no longer waited for.
const UNFINISHED_MAX: usize = 4096;
/// Bytes of the pen's colours that are carried over.
const PEN_MAX: usize = 1024;

/// How many bytes end outside of any control sequence and any character.
pub(super) fn complete(raw: &[u8]) -> usize {
    let from = raw.len().saturating_sub(UNFINISHED_MAX);
    if let Some(p) = raw[from..].iter().rposition(|b| *b == 0x1b)
        && !is_finished(&raw[from + p..])
    {
        return from + p;
    }
    // A character of UTF-8 that is not whole.
    for back in 1..=raw.len().min(3) {
        let at = raw.len() - back;
        let want = match raw[at] {
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            0x80..=0xbf => continue,
            _ => break,
        };
        return if want > back { at } else { raw.len() };
    }
    raw.len()
}

/// Whether the sequence that begins here is whole.
fn is_finished(sequence: &[u8]) -> bool {
    let last = |range: std::ops::RangeInclusive<u8>, from: usize| {
        sequence
            .get(from..)
            .is_some_and(|s| s.iter().any(|b| range.contains(b)))
    };
    match sequence.get(1) {
        None => false,
        Some(b'[') => last(0x40..=0x7e, 2),
        // A string: until BEL, or until the next ESC, which would have been found instead.
        Some(b']' | b'P' | b'X' | b'^' | b'_') => sequence.contains(&7),
        Some(0x20..=0x2f) => last(0x30..=0x7e, 2),
        Some(_) => true,
    }
}

/// Of plain output (text and colours, line after line): how much at the beginning can be dropped, because it would
/// leave a screen of `rows` lines, and everything that is kept above it (`keep` lines in all, but no more than about
/// `bytes`), and what has to take its place so that the colours are right.
pub(super) fn droppable(raw: &[u8], rows: usize, keep: usize, bytes: usize) -> Option<(usize, Vec<u8>)> {
    let (mut lines, mut at) = (0, raw.len());
    while lines < keep && (raw.len() - at < bytes || lines < rows) {
        at = raw[..at].iter().rposition(|b| *b == b'\n')?;
        lines += 1;
    }
    // A line that begins at the left.
    if lines < rows || at == 0 || raw[at - 1] != b'\r' {
        return None;
    }
    let n = at + 1;
    Some((n, pen(&raw[..n])?))
}

/// What the colours of plain output come to; `None` if it is not plain.
fn pen(raw: &[u8]) -> Option<Vec<u8>> {
    let mut pen = Vec::new();
    let mut rest = raw;
    while let Some(p) = rest.iter().position(|b| matches!(b, 0x1b | 0x0e | 0x0f)) {
        rest = &rest[p..];
        let n = rest
            .iter()
            .take(64)
            .skip(2)
            .position(|b| (0x40..=0x7e).contains(b))?
            + 3;
        let sequence = &rest[..n];
        match sequence {
            [0x1b, b'[', b'm'] | [0x1b, b'[', b'0', b'm'] => pen.clear(),
            [0x1b, b'[', b'0'..=b'9' | b';' | b':', .., b'm'] => pen.extend_from_slice(sequence),
            // Clears within its line.
            [0x1b, b'[', b'K'] | [0x1b, b'[', b'0'..=b'2', b'K'] => {}
            _ => return None,
        }
        if pen.len() > PEN_MAX {
            return None;
        }
        rest = &rest[n..];
    }
    pen.splice(..0, *b"\x1b[m");
    Some(pen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_where_a_sequence_is_not_complete() {
        for (text, n) in [
            (&b""[..], 0),
            (b"abc", 3),
            (b"abc\x1b", 3),
            (b"a\x1b[", 1),
            (b"a\x1b[38;5", 1),
            (b"a\x1b[38;5m", 8),
            (b"\x1b[m\x1b(", 3),
            (b"\x1b(0", 3),
            (b"x\x1b]0;title", 1),
            (b"x\x1b]0;title\x07", 10 + 1),
            (b"x\x1b]0;title\x1b\\", 12),
            (b"\x1bM", 2),
            ("aé".as_bytes(), 3),
            (b"a\xc3", 1),
            (b"a\xe2\x82", 1),
            (b"a\xe2\x82\xac", 4),
            (b"a\xf0\x9f\x98", 1),
            (b"a\xff", 2),
            (b"a\x80\x80\x80\x80", 5),
        ] {
            assert_eq!(complete(text), n, "{text:?}");
        }
        let long = [&b"\x1b]0;"[..], &[b'x'; 2 * UNFINISHED_MAX]].concat();
        assert_eq!(complete(&long), long.len(), "not waited for without end");
    }

    #[test]
    fn drops_only_what_leaves_no_trace() {
        let flood = "some text\r\n".repeat(1000);
        let (n, pen) = droppable(flood.as_bytes(), 24, 100, usize::MAX).unwrap();
        assert_eq!((flood.len() - n, pen.as_slice()), (99 * 11, &b"\x1b[m"[..]));
        let (n, _) = droppable(flood.as_bytes(), 24, 100, 550).unwrap();
        assert_eq!(flood.len() - n, 50 * 11, "enough bytes");
        let (n, _) = droppable(flood.as_bytes(), 24, 100, 10).unwrap();
        assert_eq!(flood.len() - n, 23 * 11, "the screen in any case");
        let red = format!("\x1b[31m{flood}");
        assert_eq!(
            droppable(red.as_bytes(), 24, 100, usize::MAX).unwrap().1,
            b"\x1b[m\x1b[31m"
        );
        let past = format!("\x1b[31mred\x1b[0m\x1b[K{flood}");
        assert_eq!(
            droppable(past.as_bytes(), 24, 100, usize::MAX).unwrap().1,
            b"\x1b[m"
        );
        for moved in [
            "\x1b[H",
            "\x1b[?25l",
            "\x1b(0",
            "\x0e",
            "\x1bM",
            "\x1b]0;x\x07",
            "\x1b[?1m",
            "\x1b[",
        ] {
            let text = format!("{moved}{flood}");
            assert_eq!(droppable(text.as_bytes(), 24, 100, usize::MAX), None, "{moved:?}");
            // Near the end it is not dropped anyway.
            let text = format!("{flood}{moved}");
            assert!(
                droppable(text.as_bytes(), 24, 100, usize::MAX).is_some(),
                "{moved:?}"
            );
        }
        assert_eq!(droppable(b"a\r\nb\r\n", 24, 100, usize::MAX), None);
        assert_eq!(
            droppable("x\n".repeat(1000).as_bytes(), 24, 100, usize::MAX),
            None,
            "stairs"
        );
    }
}
