//! The line drawing characters of the VT100, which programs choose by a change of the character set: the parser
//! knows only Unicode, so they are replaced before it sees them. Pure.

/// What stands in the special set for the bytes from 0x60.
const SPECIAL: [char; 31] = [
    '◆', '▒', '␉', '␌', '␍', '␊', '°', '±', '␤', '␋', '┘', '┐', '┌', '└', '┼', '⎺', '⎻', '─', '⎼', '⎽', '├',
    '┤', '┴', '┬', '│', '≤', '≥', 'π', '≠', '£', '·',
];

/// Which character sets are chosen. Used only outside of control sequences.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lines {
    /// Whether G0 and G1 are the special set.
    special: [bool; 2],
    /// Which of them is in use.
    shifted: bool,
}

impl Lines {
    /// Whether text means what it says.
    pub(super) fn are_plain(self) -> bool {
        !self.special[usize::from(self.shifted)]
    }

    /// Replaces them. The bytes begin outside of any control sequence.
    pub(super) fn translate(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        let chosen = |w: &[u8]| matches!(w, [0x1b, b'(' | b')']) || matches!(w, [0x0e | 0x0f, ..]);
        if *self == Self::default() && !bytes.windows(2).any(chosen) && !matches!(bytes.last(), Some(0x0e)) {
            return bytes;
        }
        let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 2);
        let mut i = 0;
        while let Some(b) = bytes.get(i) {
            match b {
                0x1b => {
                    let n = sequence(&bytes[i..]);
                    match &bytes[i..i + n] {
                        [0x1b, b'(', set] => self.special[0] = *set == b'0',
                        [0x1b, b')', set] => self.special[1] = *set == b'0',
                        s => {
                            if *s == b"\x1bc"[..] || *s == b"\x1b[!p"[..] {
                                *self = Self::default();
                            }
                            out.extend_from_slice(s);
                        }
                    }
                    i += n;
                    continue;
                }
                0x0e => self.shifted = true,
                0x0f => self.shifted = false,
                0x60..=0x7e if !self.are_plain() => {
                    let c = SPECIAL[usize::from(b - 0x60)];
                    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                b => out.push(*b),
            }
            i += 1;
        }
        out
    }

    /// What brings a terminal there from the usual sets.
    pub(super) fn chosen(self) -> Vec<u8> {
        let mut s = Vec::new();
        for (on, text) in [
            (self.special[0], &b"\x1b(0"[..]),
            (self.special[1], b"\x1b)0"),
            (self.shifted, b"\x0e"),
        ] {
            if on {
                s.extend_from_slice(text);
            }
        }
        s
    }
}

/// Length of the control sequence that begins here, as far as it is there.
fn sequence(bytes: &[u8]) -> usize {
    let until = |from: usize, end: std::ops::RangeInclusive<u8>| {
        bytes
            .iter()
            .skip(from)
            .position(|b| end.contains(b) || *b == 0x1b)
            .map_or(bytes.len(), |p| {
                // Another one that begins within is not part of it.
                from + p + usize::from(bytes[from + p] != 0x1b)
            })
    };
    match bytes.get(1) {
        None => 1,
        Some(b'[') => until(2, 0x40..=0x7e),
        Some(b']' | b'P' | b'X' | b'^' | b'_') => until(2, 7..=7),
        Some(0x20..=0x2f) => until(2, 0x30..=0x7e),
        Some(0x1b) => 1,
        Some(_) => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_drawn() {
        let mut l = Lines::default();
        let mut t = |s: &str| String::from_utf8(l.translate(s.as_bytes().to_vec())).unwrap();
        assert_eq!(t("lqk"), "lqk");
        assert_eq!(t("\x1b(0lqk\x1b[1mx\x1b(Bx"), "┌─┐\x1b[1m│x");
        assert_eq!(t("\x1b)0x\x0ex\x0fx"), "x│x");
        assert_eq!(t("\x0e"), "");
        assert_eq!(t("q\x1b]0;quux\x07q"), "─\x1b]0;quux\x07─");
        assert_eq!(t("\x1bcq"), "\x1bcq");
        assert_eq!(t("\x1b(0"), "");
        assert_eq!(l.chosen(), b"\x1b(0");
        assert!(!l.are_plain());
    }
}
