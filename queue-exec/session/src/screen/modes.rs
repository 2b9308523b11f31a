//! What a terminal can be told that the parser does not keep: its title, how keys are reported, and a few modes.
//! Pure.

use std::collections::BTreeMap;

/// Private modes that are kept beside those of the parser, and whether they are on at first: line wrap, reports of
/// the focus, the wheel in the alternate screen, and the mouse in decimal.
const PRIVATE: [(u16, bool); 4] = [(7, true), (1004, false), (1007, false), (1015, false)];
/// Longest title that is kept, in bytes.
const TITLE_MAX: usize = 1024;
/// How often a program may put the way in which keys are reported on its stack.
const KEYS_MAX: usize = 8;

/// All of that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Modes {
    title: Option<String>,
    private: BTreeMap<u16, bool>,
    insert: bool,
    /// xterm's `modifyOtherKeys`.
    other_keys: u16,
    /// The stack of the kitty protocol.
    keys: Vec<u16>,
}

impl Modes {
    /// What brings a terminal there: a fresh one, or one that was told all of it before.
    pub(super) fn enter(&self, fresh: bool) -> String {
        let mut s = String::new();
        if let Some(t) = &self.title {
            s += &format!("\x1b]2;{t}\x07");
        }
        for (mode, on) in &self.private {
            s += &format!("\x1b[?{mode}{}", if *on { 'h' } else { 'l' });
        }
        if self.insert {
            s += "\x1b[4h";
        }
        if self.other_keys != 0 {
            s += &format!("\x1b[>4;{}m", self.other_keys);
        }
        if fresh {
            for flags in &self.keys {
                s += &format!("\x1b[>{flags}u");
            }
        } else if let Some(flags) = self.keys.last() {
            s += &format!("\x1b[={flags};1u");
        }
        s
    }

    /// What brings a terminal back. A title stays: what it was before is not known.
    pub(super) fn leave(&self) -> String {
        let mut s = String::new();
        for (mode, on) in PRIVATE {
            if self.private.get(&mode).is_some_and(|now| *now != on) {
                s += &format!("\x1b[?{mode}{}", if on { 'h' } else { 'l' });
            }
        }
        if self.insert {
            s += "\x1b[4l";
        }
        if self.other_keys != 0 {
            s += "\x1b[>4;0m";
        }
        if !self.keys.is_empty() {
            s += &format!("\x1b[<{}u", self.keys.len());
        }
        s
    }
}

impl vt100::Callbacks for Modes {
    fn set_window_title(&mut self, _: &mut vt100::Screen, title: &[u8]) {
        let mut title = queue_exec::protocol::printable(&String::from_utf8_lossy(title));
        while title.len() > TITLE_MAX {
            title.pop();
        }
        self.title = Some(title);
    }

    fn unhandled_csi(
        &mut self,
        _: &mut vt100::Screen,
        i1: Option<u8>,
        _: Option<u8>,
        params: &[&[u16]],
        c: char,
    ) {
        let first = |n: usize| params.get(n).and_then(|p| p.first()).copied();
        match (i1, c) {
            (Some(b'?'), 'h' | 'l') => {
                for p in params {
                    if let [mode] = p
                        && PRIVATE.iter().any(|(m, _)| m == mode)
                    {
                        self.private.insert(*mode, c == 'h');
                    }
                }
            }
            (None, 'h' | 'l') if first(0) == Some(4) => self.insert = c == 'h',
            (Some(b'>'), 'm') if first(0) == Some(4) => self.other_keys = first(1).unwrap_or(0),
            (Some(b'>'), 'u') if self.keys.len() < KEYS_MAX => self.keys.push(first(0).unwrap_or(0)),
            (Some(b'<'), 'u') => {
                let n = usize::from(first(0).unwrap_or(1).max(1));
                self.keys.truncate(self.keys.len().saturating_sub(n));
            }
            (Some(b'='), 'u') => {
                if let Some(last) = self.keys.last_mut() {
                    *last = first(0).unwrap_or(0);
                }
            }
            // A soft reset.
            (Some(b'!'), 'p') => self.insert = false,
            _ => {}
        }
    }
}
