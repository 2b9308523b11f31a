//! The first and last bytes of a job's output, for its history. A line that a program draws again and again
//! (`\r`) counts as what it showed first and last. Pure: bytes in, bytes out.

use libqueue::wire::job::ENDS_MAX;

/// What stands for the states of a line that were left out.
const LEFT_OUT: &[u8] = b"[...]\n";

/// Collects both ends.
#[derive(Default)]
pub(crate) struct Ends {
    head: Vec<u8>,
    /// What followed the head: the last bytes of it, or somewhat more.
    tail: Vec<u8>,
    line: Line,
    /// A `\r` came, and it is not known yet what follows it.
    returned: bool,
}

/// The line that is being written.
#[derive(Default)]
enum Line {
    /// Nothing of it yet.
    #[default]
    Empty,
    /// It is passed on as it comes.
    Plain,
    /// It is drawn again: what it showed before, what it shows now, and whether there was more between.
    Drawn { last: Vec<u8>, now: Vec<u8>, more: bool },
}

impl Ends {
    /// Takes the next bytes.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if !self.returned && !matches!(self.line, Line::Drawn { .. }) {
                // The common case, fast: all up to the next return.
                let n = if bytes.contains(&b'\r') {
                    bytes.iter().position(|b| *b == b'\r').unwrap_or(bytes.len())
                } else {
                    bytes.len()
                };
                if n > 0 {
                    self.line = if bytes[n - 1] == b'\n' {
                        Line::Empty
                    } else {
                        Line::Plain
                    };
                    self.keep(&bytes[..n]);
                }
                self.returned = n < bytes.len();
                bytes = &bytes[(n + 1).min(bytes.len())..];
                continue;
            }
            if self.returned && bytes[0] != b'\r' {
                self.returned = false;
                if bytes[0] == b'\n' {
                    // Only the end of a line as some write it.
                    if !matches!(self.line, Line::Drawn { .. }) {
                        self.keep(b"\r");
                    }
                } else {
                    self.draw_again();
                }
                continue;
            }
            if self.returned {
                bytes = &bytes[1..];
                continue;
            }
            let n = bytes
                .iter()
                .position(|b| matches!(b, b'\r' | b'\n'))
                .unwrap_or(bytes.len());
            if let Line::Drawn { now, .. } = &mut self.line {
                let room = ENDS_MAX.saturating_sub(now.len());
                now.extend_from_slice(&bytes[..n.min(room)]);
            }
            match bytes.get(n) {
                Some(b'\r') => self.returned = true,
                Some(_) => {
                    self.end_line();
                    self.keep(b"\n");
                }
                None => {}
            }
            bytes = &bytes[(n + 1).min(bytes.len())..];
        }
    }

    /// The line begins anew.
    fn draw_again(&mut self) {
        match &mut self.line {
            // It showed nothing yet.
            Line::Empty => {}
            Line::Plain => {
                self.line = Line::Drawn {
                    last: Vec::new(),
                    now: Vec::new(),
                    more: false,
                }
            }
            Line::Drawn { last, now, more } => {
                if !now.is_empty() {
                    *more |= !last.is_empty();
                    std::mem::swap(last, now);
                    now.clear();
                }
            }
        }
    }

    /// Passes on what a line showed last.
    fn end_line(&mut self) {
        if let Line::Drawn { last, now, more } = std::mem::take(&mut self.line) {
            let more = more || !(last.is_empty() || now.is_empty());
            let shown = if now.is_empty() { last } else { now };
            if !shown.is_empty() {
                self.keep(b"\n");
                if more {
                    self.keep(LEFT_OUT);
                }
                self.keep(&shown);
            }
        }
    }

    fn keep(&mut self, mut bytes: &[u8]) {
        let room = ENDS_MAX - self.head.len();
        if room > 0 {
            let n = room.min(bytes.len());
            self.head.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
        }
        if bytes.len() >= ENDS_MAX {
            self.tail.clear();
            bytes = &bytes[bytes.len() - ENDS_MAX..];
        } else if self.tail.len() + bytes.len() > 4 * ENDS_MAX {
            self.tail.drain(..self.tail.len() - ENDS_MAX);
        }
        self.tail.extend_from_slice(bytes);
    }

    /// Head and tail.
    pub(crate) fn finish(mut self) -> (Vec<u8>, Vec<u8>) {
        self.end_line();
        let more = self.tail.len().saturating_sub(ENDS_MAX);
        self.tail.drain(..more);
        (self.head, self.tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(bytes: &[u8], step: usize) -> (String, String) {
        let mut e = Ends::default();
        bytes.chunks(step).for_each(|c| e.take(c));
        let (head, tail) = e.finish();
        let text = |b: Vec<u8>| String::from_utf8(b).unwrap();
        (text(head), text(tail))
    }

    #[test]
    fn redrawn_lines_show_first_and_last() {
        for (written, kept) in [
            ("a\nb\n", "a\nb\n"),
            ("a\r\nb\r\n", "a\r\nb\r\n"),
            ("x\n10%\r20%\r30%\r100%\ndone\n", "x\n10%\n[...]\n100%\ndone\n"),
            ("10%\r100%", "10%\n100%"),
            ("\r10%\r20%\r30%\r\n", "10%\n[...]\n30%\n"),
            ("10%\r20%\r\r30%\r", "10%\n[...]\n30%"),
            ("a\r", "a"),
            ("1\r2\n3\r4\r5\n6", "1\n2\n3\n[...]\n5\n6"),
            ("", ""),
        ] {
            for step in 1..=written.len().max(1) {
                let (head, tail) = ends(written.as_bytes(), step);
                assert_eq!(
                    (head.as_str(), tail.as_str()),
                    (kept, ""),
                    "{written:?} by {step}"
                );
            }
        }
    }

    #[test]
    fn head_and_tail_do_not_overlap() {
        let all: String = (0..3000).map(|i| format!("{i:04}\n")).collect();
        for step in [1, 7, 1000, 5000, 15_000] {
            for len in [
                10,
                ENDS_MAX,
                ENDS_MAX + 1,
                2 * ENDS_MAX,
                2 * ENDS_MAX + 3,
                all.len(),
            ] {
                let (head, tail) = ends(&all.as_bytes()[..len], step);
                assert_eq!(head, all[..len.min(ENDS_MAX)]);
                assert_eq!(tail, all[len.saturating_sub(ENDS_MAX).max(head.len())..len]);
            }
        }
    }
}
