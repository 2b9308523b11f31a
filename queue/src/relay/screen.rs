//! What the command has made of the terminal: which of its modes are not as they were. Pure: bytes in.
//!
//! Two things follow: whether a program fills the whole screen, so that a line of ours spoils it; and how to get an
//! ordinary screen back when we leave before the command does.

/// Modes of `CSI ? N h` that are off in an ordinary terminal, and matter to whoever comes next: keys, screens, mouse,
/// focus, pasting.
const OFF: [u16; 17] = [
    1, 5, 6, 9, 66, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 2004, 47, 1049,
];
/// Those that are on.
const ON: [u16; 2] = [7, 25];
/// Another name of the second screen.
const SCREEN_TOO: u16 = 1047;
/// Parameters of a sequence that are looked at.
const PARAMS: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ground,
    Escape,
    /// Behind `CSI`.
    Sequence,
    /// Behind `CSI ?`.
    Private,
}

/// The terminal's modes.
#[derive(Debug)]
pub(super) struct Screen {
    state: State,
    params: [u16; PARAMS],
    n: usize,
    /// Bits for [`OFF`] and, behind them, [`ON`]: which are the other way round.
    changed: u32,
    keypad: bool,
    touched: bool,
    last: u8,
}

impl Default for Screen {
    fn default() -> Self {
        Self {
            state: State::Ground,
            params: [0; PARAMS],
            n: 0,
            changed: 0,
            keypad: false,
            touched: false,
            last: b'\n',
        }
    }
}

fn bit(mode: u16) -> u32 {
    let mode = if mode == SCREEN_TOO { 47 } else { mode };
    OFF.iter()
        .chain(&ON)
        .position(|m| *m == mode)
        .map_or(0, |n| 1 << n)
}

impl Screen {
    /// Takes output.
    pub(super) fn see(&mut self, mut data: &[u8]) {
        if let Some(last) = data.last() {
            self.last = *last;
        }
        while let Some((&b, rest)) = data.split_first() {
            if self.state == State::Ground {
                // Most of what comes has none.
                let Some(at) = data.iter().position(|b| *b == 0x1b) else {
                    return;
                };
                self.touched = true;
                self.state = State::Escape;
                data = &data[at + 1..];
                continue;
            }
            data = rest;
            self.step(b);
        }
    }

    fn step(&mut self, b: u8) {
        self.state = match (self.state, b) {
            (_, 0x1b) => State::Escape,
            (State::Escape, b'[') => {
                self.params = [0; PARAMS];
                self.n = 0;
                State::Sequence
            }
            (State::Escape, b'c') => {
                self.changed = 0;
                self.keypad = false;
                State::Ground
            }
            (State::Escape, b'=' | b'>') => {
                self.keypad = b == b'=';
                State::Ground
            }
            (State::Sequence, b'?') => State::Private,
            (State::Private, b'0'..=b'9') => {
                if let Some(p) = self.params.get_mut(self.n) {
                    *p = p.saturating_mul(10).saturating_add(u16::from(b - b'0'));
                }
                State::Private
            }
            (State::Private, b';') => {
                self.n += 1;
                State::Private
            }
            (State::Private, b'h' | b'l') => {
                for p in self.params.iter().take(self.n + 1) {
                    let bit = bit(*p);
                    if (b == b'h') != ON.contains(p) {
                        self.changed |= bit;
                    } else {
                        self.changed &= !bit;
                    }
                }
                State::Ground
            }
            // Further bytes of a sequence that is of no interest.
            (State::Sequence | State::Private, 0x20..=0x3f) => self.state,
            _ => State::Ground,
        };
    }

    fn is(&self, mode: u16) -> bool {
        self.changed & bit(mode) != 0
    }

    /// Whether a program may fill the whole screen: it is on the second one, or has the cursor keys for itself.
    pub(super) fn is_full(&self) -> bool {
        self.is(1049) || self.is(47) || self.is(1)
    }

    /// Whether the cursor is where a line begins, as far as is known.
    pub(super) fn is_at_start(&self) -> bool {
        self.last == b'\n' && !self.is_full()
    }

    /// The screen that [`leave`](Self::leave) makes of it. The cursor of the first screen is where it was when the
    /// program went to the second one: that is where a line begins, as it was started by a line.
    pub(super) fn left(&self) -> Self {
        let second = self.is(1049) || self.is(47);
        Self {
            last: if second { b'\n' } else { self.last },
            ..Self::default()
        }
    }

    /// What makes an ordinary screen of it; nothing if it is one.
    pub(super) fn leave(&self) -> Vec<u8> {
        if !self.touched {
            return Vec::new();
        }
        let mut out = Vec::new();
        if self.is_full() {
            // All lines scroll again.
            out.extend_from_slice(b"\x1b7\x1b[r\x1b8");
        }
        out.extend_from_slice(b"\x1b[m");
        if self.keypad {
            out.extend_from_slice(b"\x1b>");
        }
        for mode in ON {
            if self.is(mode) {
                out.extend_from_slice(format!("\x1b[?{mode}h").as_bytes());
            }
        }
        // The second screen comes last in the list.
        for mode in OFF {
            if self.is(mode) {
                out.extend_from_slice(format!("\x1b[?{mode}l").as_bytes());
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(text: &str, n: usize) -> Screen {
        let mut s = Screen::default();
        for piece in text.as_bytes().chunks(n) {
            s.see(piece);
        }
        s
    }

    #[test]
    fn programs_that_fill_the_screen() {
        for (text, full) in [
            ("ls\r\n\x1b[01;34mdir\x1b[0m\r\n", false),
            ("\x1b[?2004h$ ", false),
            ("\x1b[?1049h\x1b[22;0;0t\x1b[H\x1b[2J", true),
            ("\x1b[?1049hx\x1b[?1049l", false),
            ("\x1b[?47h", true),
            ("\x1b[?1047h\x1b[?47l", false),
            ("\x1b[?1h\x1b=", true),
            ("\x1b[?12;25;1049h", true),
            ("\x1b[?1049h\x1bc", false),
            ("\x1b[1049h \x1b[>1049h \x1b]0;?1049h\x07", false),
            ("\x1b\x1b[?1049h", true),
            ("\x1b[?9999999999h\x1b[?;;;;;;;;;;;;;;1049h", false),
        ] {
            for n in 1..=text.len() {
                assert_eq!(after(text, n).is_full(), full, "{text:?} by {n}");
            }
        }
    }

    #[test]
    fn the_way_back() {
        let leave = |text: &str| String::from_utf8(after(text, 3).leave()).unwrap();
        assert_eq!(leave("plain\r\n"), "");
        assert_eq!(leave("\x1b[31mred"), "\x1b[m");
        assert_eq!(
            leave("\x1b[?1049h\x1b[?1h\x1b=\x1b[?25l\x1b[?1000;1006h\x1b[?2004h\x1b[?2004l"),
            "\x1b7\x1b[r\x1b8\x1b[m\x1b>\x1b[?25h\x1b[?1l\x1b[?1000l\x1b[?1006l\x1b[?1049l"
        );
        assert!(after("a\r\n", 1).is_at_start() && !after("a", 1).is_at_start());
        assert!(Screen::default().is_at_start());
        let left = |text: &str| after(text, 2).left().is_at_start();
        assert!(left("a\r\n") && left("$ vi\r\n\x1b[?1049hx") && !left("a\r\n$ "));
        // A shell that has the cursor keys for itself while it asks.
        assert!(!left("\x1b[?1h$ "));
    }
}
