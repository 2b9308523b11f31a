//! Words for queue itself among typed keys: `~.` and its like at the start of a line. Pure: typed bytes in, bytes for
//! the command and at most one [`Action`] out.
//!
//! Everything else passes byte for byte. What is pasted passes whole where the terminal says that it is pasted
//! (bracketed paste): a text may well have `~.` at the start of a line.

/// The escape character if nothing else is said.
pub const DEFAULT: u8 = b'~';

/// What is wanted of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// `~.`: end it, or leave if nobody answers.
    GiveUp,
    /// `~d`: leave, and the command stays.
    Detach,
    /// `~^Z`: stop here, and the command runs on.
    Suspend,
    /// `~?`: say what there is.
    Help,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// At the start of a line.
    Start,
    /// The escape character was typed there; it is held back.
    Escaped,
    /// Elsewhere.
    Middle,
}

/// In front of what is pasted, and behind it.
const PASTE: [&[u8]; 2] = [b"\x1b[200~", b"\x1b[201~"];

/// Looks for escapes.
#[derive(Debug)]
pub struct Escape {
    char: Option<u8>,
    at: At,
    pasting: bool,
    /// How much of the next mark of [`PASTE`] has come.
    mark: usize,
}

impl Escape {
    /// With this character; `None`: there are no escapes.
    pub fn new(char: Option<u8>) -> Self {
        Self {
            char,
            at: At::Start,
            pasting: false,
            mark: 0,
        }
    }

    /// The character.
    pub fn char(&self) -> Option<u8> {
        self.char
    }

    /// Takes typed bytes up to the first escape, adds those that are the command's to `out`, and says how many were
    /// taken: the rest is to be offered again.
    pub fn take(&mut self, typed: &[u8], out: &mut Vec<u8>) -> (usize, Option<Action>) {
        let Some(char) = self.char else {
            out.extend_from_slice(typed);
            return (typed.len(), None);
        };
        for (i, &b) in typed.iter().enumerate() {
            let was_pasting = self.pasting;
            self.look_for_paste(b);
            if self.at == At::Escaped {
                let action = match b {
                    b'.' => Some(Action::GiveUp),
                    b'd' => Some(Action::Detach),
                    0x1a => Some(Action::Suspend),
                    b'?' => Some(Action::Help),
                    _ => None,
                };
                if action.is_some() && b != char {
                    self.at = At::Start;
                    return (i + 1, action);
                }
                // Twice: one of them.
                out.push(char);
                self.at = At::Middle;
                if b == char {
                    continue;
                }
            } else if b == char && self.at == At::Start && !was_pasting {
                self.at = At::Escaped;
                continue;
            }
            out.push(b);
            self.at = if matches!(b, b'\r' | b'\n') {
                At::Start
            } else {
                At::Middle
            };
        }
        (typed.len(), None)
    }

    fn look_for_paste(&mut self, b: u8) {
        let mark = PASTE[usize::from(self.pasting)];
        if b != mark[self.mark] {
            self.mark = 0;
        }
        if b == mark[self.mark] {
            self.mark += 1;
        }
        if self.mark == mark.len() {
            self.mark = 0;
            self.pasting = !self.pasting;
        }
    }
}

/// Reads what was given as the escape character: one character, `^X` for a control character, or `none`.
pub fn parse(text: &[u8]) -> Option<Option<u8>> {
    match *text {
        [c] if c.is_ascii() && !matches!(c, b'\r' | b'\n' | 0) => Some(Some(c)),
        [b'^', c @ b'@'..=b'_'] if c != b'@' && c != b'M' && c != b'J' => Some(Some(c & 0x1f)),
        [b'^', c @ b'a'..=b'z'] if c != b'm' && c != b'j' => Some(Some(c & 0x1f)),
        _ if text.eq_ignore_ascii_case(b"none") => Some(None),
        _ => None,
    }
}

/// How the character is shown.
pub fn show(char: u8) -> String {
    match char {
        0..=0x1f => format!("^{}", (char | 0x40) as char),
        0x7f => "^?".into(),
        _ => (char as char).into(),
    }
}

/// What `~?` says, in lines.
pub fn help(char: u8) -> Vec<String> {
    let c = show(char);
    vec![
        format!("{c}.   give up: end the command, or leave if its host does not answer"),
        format!("{c}d   detach: leave, and the command goes on (`queue attach` comes back)"),
        format!("{c}^Z  suspend queue here; the command goes on"),
        format!("{c}?   this"),
        format!("{c}{c}   the character itself"),
        "only at the start of a line: in an editor or a pager press Enter first".into(),
        format!("`queue detach ID` in another terminal does what {c}d does (`queue jobs` shows the ID)"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All of it, cut into pieces of `n` bytes: what passes, and the actions, each as a letter in brackets.
    fn run(char: Option<u8>, typed: &[u8], n: usize) -> Vec<u8> {
        let mut e = Escape::new(char);
        let mut all = Vec::new();
        for piece in typed.chunks(n) {
            let mut rest = piece;
            while !rest.is_empty() {
                let mut out = Vec::new();
                let (taken, action) = e.take(rest, &mut out);
                assert!(taken > 0 && taken <= rest.len());
                rest = &rest[taken..];
                all.extend(out);
                let told: &[u8] = match action {
                    None => b"",
                    Some(Action::GiveUp) => b"<.>",
                    Some(Action::Detach) => b"<d>",
                    Some(Action::Suspend) => b"<z>",
                    Some(Action::Help) => b"<?>",
                };
                all.extend_from_slice(told);
            }
        }
        all
    }

    #[test]
    fn escapes_stand_at_the_start_of_a_line() {
        for (typed, want) in [
            ("~.", "<.>"),
            ("ls\r~.", "ls\r<.>"),
            ("ls\n~d", "ls\n<d>"),
            ("ls\r\n~?x", "ls\r\n<?>x"),
            ("~\u{1a}~.", "<z><.>"),
            ("x~.", "x~."),
            ("x~.\r~.", "x~.\r<.>"),
            ("~~.\r", "~.\r"),
            ("~~~.", "~~."),
            ("~x~.", "~x~."),
            ("~\r~.", "~\r<.>"),
            ("~", ""),
            ("~~", "~"),
            ("~ü~.", "~ü~."),
            ("grüße ~.\r~.", "grüße ~.\r<.>"),
            ("\x1b[A~.", "\x1b[A~."),
            ("~\x1b[A", "~\x1b[A"),
            ("a\r~~\r~~\r~d", "a\r~\r~\r<d>"),
        ] {
            for n in 1..=typed.len() {
                let got = run(Some(b'~'), typed.as_bytes(), n);
                assert_eq!(String::from_utf8_lossy(&got), want, "{typed:?} by {n}");
            }
        }
    }

    #[test]
    fn what_is_pasted_passes() {
        for (typed, want) in [
            (
                "\x1b[200~a\r~.\r~d\x1b[201~\r~.",
                "\x1b[200~a\r~.\r~d\x1b[201~\r<.>",
            ),
            ("\x1b[200~~.\x1b[201~~.", "\x1b[200~~.\x1b[201~~."),
            (
                "\r\x1b[200~\r~.\x1b[200~\r~.\x1b[201~",
                "\r\x1b[200~\r~.\x1b[200~\r~.\x1b[201~",
            ),
            // A mark that begins twice.
            ("\x1b[2\x1b[200~\r~.\x1b[201~", "\x1b[2\x1b[200~\r~.\x1b[201~"),
            // None at all.
            ("\x1b[200x\r~.", "\x1b[200x\r<.>"),
        ] {
            for n in 1..=typed.len() {
                let got = run(Some(b'~'), typed.as_bytes(), n);
                assert_eq!(String::from_utf8_lossy(&got), want, "{typed:?} by {n}");
            }
        }
    }

    #[test]
    fn other_characters_and_none() {
        assert_eq!(run(None, b"~.\r~d", 1), b"~.\r~d");
        assert_eq!(run(Some(b'%'), b"~.\r%d%%", 1), b"~.\r<d>%");
        // A character that is a command as well: twice is itself.
        assert_eq!(run(Some(b'.'), b"...d\r.d", 2), b"..d\r<d>");
        assert_eq!(run(Some(0x1d), b"\x1d.", 1), b"<.>");
        for n in 1..20 {
            let all: Vec<u8> = (0..=255).collect();
            assert_eq!(run(Some(b'~'), &all, n), all);
        }
    }

    #[test]
    fn characters_as_given() {
        for (text, want) in [
            ("~", Some(Some(b'~'))),
            ("%", Some(Some(b'%'))),
            ("^", Some(Some(b'^'))),
            ("^]", Some(Some(0x1d))),
            ("^a", Some(Some(1))),
            ("none", Some(None)),
            ("None", Some(None)),
            ("", None),
            ("ab", None),
            ("ä", None),
            ("^M", None),
            ("^@", None),
            ("\r", None),
        ] {
            assert_eq!(parse(text.as_bytes()), want, "{text}");
        }
        assert_eq!((show(b'~'), show(0x1d)), ("~".into(), "^]".into()));
        assert!(help(b'%').iter().any(|l| l.starts_with("%d")));
    }
}
