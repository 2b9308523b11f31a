//! What is shown while a command waits for a host: one line that changes on a terminal, one line in all where
//! standard error is something else.

use crate::messages::{printable, say, write_all};
use crate::sys;
use crate::table::cut;
use libqueue::wire::Waiting;
use nix::unistd::{getpgrp, isatty, tcgetpgrp};

/// Back to the first column, and the rest of the line emptied.
const ERASE: &str = "\r\x1b[K";

/// The line.
#[derive(Debug, Default)]
pub struct Line {
    /// It has been said where it stays.
    said: bool,
    /// It stands on the terminal now.
    drawn: bool,
}

impl Line {
    /// Shows why nothing has begun yet.
    pub fn show(&mut self, waiting: &Waiting) {
        self.write(&text(waiting));
    }

    /// Shows this text.
    pub fn write(&mut self, text: &str) {
        if !is_ours() {
            if !std::mem::replace(&mut self.said, true) {
                say(text, false);
            }
            return;
        }
        let columns = sys::window_size(sys::stdio(2)).map_or(80, |s| usize::from(s[1]));
        // The last column stays free: some terminals begin a new line there.
        let line = cut(
            &format!("queue: {}", printable(text)),
            Some(columns.saturating_sub(1).max(20)),
        );
        write_all(2, format!("{ERASE}{line}").as_bytes());
        self.drawn = true;
    }

    /// Takes it away.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) && is_ours() {
            write_all(2, ERASE.as_bytes());
        }
    }
}

/// Whether standard error is a terminal that we are in the foreground of: a line that changes would disturb
/// another program's.
pub fn is_ours() -> bool {
    isatty(sys::stdio(2)).unwrap_or(false) && tcgetpgrp(sys::stdio(2)).is_ok_and(|g| g == getpgrp())
}

fn text(waiting: &Waiting) -> String {
    let reason = &waiting.reason;
    match waiting.ahead {
        0 => format!("waiting: {reason}"),
        n => format!("waiting: {reason} ({n} ahead)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_why_and_who_comes_first() {
        let w = |ahead| Waiting {
            reason: "all are full".into(),
            ahead,
        };
        assert_eq!(text(&w(0)), "waiting: all are full");
        assert_eq!(text(&w(2)), "waiting: all are full (2 ahead)");
    }
}
