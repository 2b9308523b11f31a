//! Shows something once, or again and again: redrawn in place on a terminal, one after the other elsewhere.

use crate::messages::{Failure, say, write_all};
use crate::sys;
use crate::table::cut;
use crate::verbs::View;
use nix::errno::Errno;
use nix::libc;
use nix::unistd::isatty;
use serde::Serialize;
use std::time::{Duration, Instant};

/// How what is shown is to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people, in lines of at most so many columns.
    Text(Option<usize>),
    /// For programs; `true`: in one line.
    Json(bool),
}

/// What is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// For standard output, with its line ends.
    pub text: String,
    /// What is missing in it and why, each in one line.
    pub notes: Vec<String>,
}

/// Shows what `make` makes. Ends with the first failure, unless something was shown before: then the next try may
/// be better.
///
/// # Errors
/// As `make`.
pub fn run(view: View, make: impl Fn(Format) -> Result<Shown, Failure>) -> Result<u8, Failure> {
    let format = || match view.json {
        true => Format::Json(view.watch.is_some()),
        false => Format::Text(width()),
    };
    let mut shown = make(format())?;
    let Some(pause) = view.watch else {
        write_all(1, shown.text.as_bytes());
        for note in &shown.notes {
            say(note, false);
        }
        return Ok(u8::from(!shown.notes.is_empty()));
    };
    let mut before = 0;
    loop {
        if view.json {
            write_all(1, shown.text.as_bytes());
        } else if let Some(size) = size() {
            let (text, lines) = redraw(&shown, before, size);
            write_all(1, text.as_bytes());
            before = lines;
        } else {
            let notes: String = shown.notes.iter().map(|n| format!("queue: {n}\n")).collect();
            write_all(1, format!("{}{notes}\n", shown.text).as_bytes());
        }
        if !pause_for(pause) {
            return Ok(0);
        }
        shown = make(format()).or_else(|e| match view.json {
            true => Err(e),
            false => Ok(Shown {
                text: String::new(),
                notes: vec![e.text],
            }),
        })?;
    }
}

/// Waits that long; `false`: nobody reads what would come next.
fn pause_for(pause: Duration) -> bool {
    let end = Instant::now() + pause;
    loop {
        let left = end.saturating_duration_since(Instant::now()).as_millis();
        let mut out = [libc::pollfd {
            fd: 1,
            events: 0,
            revents: 0,
        }];
        match sys::poll(&mut out, i32::try_from(left).unwrap_or(i32::MAX)) {
            Ok(0) if left == 0 => return true,
            Ok(0) | Err(Errno::EINTR) => {}
            _ => return false,
        }
    }
}

/// The bytes that put it in the place of what was shown before, which had so many lines; and how many it has.
fn redraw(shown: &Shown, before: usize, (rows, columns): (usize, usize)) -> (String, usize) {
    let mut lines: Vec<String> = shown.text.lines().map(|l| cut(l, Some(columns))).collect();
    lines.extend(
        shown
            .notes
            .iter()
            .map(|n| cut(&format!("queue: {n}"), Some(columns))),
    );
    // What scrolled away cannot be drawn again.
    let room = rows.saturating_sub(1).max(1);
    if lines.len() > room {
        let more = lines.len() - room + 1;
        lines.truncate(room - 1);
        lines.push(format!("... and {more} more lines"));
    }
    let mut out = match before.min(room) {
        0 => String::new(),
        n => format!("\r\x1b[{n}A"),
    };
    for line in &lines {
        out.push_str(line);
        out.push_str("\x1b[K\n");
    }
    out.push_str("\x1b[J");
    (out, lines.len())
}

/// Rows and columns of the terminal on standard output.
fn size() -> Option<(usize, usize)> {
    let terminal = isatty(sys::stdio(1)).unwrap_or(false);
    let [rows, columns, ..] = sys::window_size(sys::stdio(1)).filter(|_| terminal)?;
    Some(match (rows, columns) {
        (0, _) | (_, 0) => (24, 80),
        (r, c) => (r.into(), usize::from(c).max(40)),
    })
}

/// How long lines may be: as the terminal is wide, without end elsewhere.
pub fn width() -> Option<usize> {
    size().map(|(_, columns)| columns)
}

/// As JSON, with its line end.
///
/// # Errors
/// Never in practice.
pub fn json(value: &impl Serialize, one_line: bool) -> Result<String, Failure> {
    let text = match one_line {
        true => serde_json::to_string(value),
        false => serde_json::to_string_pretty(value),
    };
    text.map(|s| libqueue::text::json(&s) + "\n")
        .map_err(|e| Failure::own(format!("JSON: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redraws_in_place_and_keeps_to_the_screen() {
        let shown = Shown {
            text: "HOST\nh1\nh2-with-a-long-line\n".into(),
            notes: vec!["h3: gone".into()],
        };
        let (text, lines) = redraw(&shown, 0, (24, 12));
        assert_eq!(
            (text.as_str(), lines),
            (
                "HOST\x1b[K\nh1\x1b[K\nh2-with-a...\x1b[K\nqueue: h3...\x1b[K\n\x1b[J",
                4
            )
        );
        let (text, lines) = redraw(&shown, 4, (4, 40));
        assert_eq!(
            (text.as_str(), lines),
            (
                "\r\x1b[3AHOST\x1b[K\nh1\x1b[K\n... and 2 more lines\x1b[K\n\x1b[J",
                3
            )
        );
    }
}
