//! The screen as output: what brings another terminal to show the same, in the same modes. Pure.

use super::{Modes, SCROLLBACK, Screen};
use vt100::Parser;

/// For whom the screen is painted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// A terminal that showed something else until now: what is on it goes up, and what left the screen here
    /// before goes there as well. If a program fills the screen and nothing has left it, what is on the terminal
    /// stays, and is there again when the program is over.
    Newcomer,
    /// One that shows this session, or did until something was written over it.
    Same,
}

impl Screen {
    /// Paints everything. What comes afterwards can be sent as it comes.
    pub fn paint(&mut self, whom: Whom) -> Vec<u8> {
        self.catch_up();
        let mut out = String::new();
        // Whatever was not finished there is over.
        out += "\x1b\\";
        if self.off {
            return out.into_bytes();
        }
        self.guard(|p| paint(p, whom, &mut out));
        let mut out = out.into_bytes();
        out.extend(self.lines.chosen());
        // The beginning of what is not complete yet.
        out.extend_from_slice(&self.raw);
        out
    }

    /// What brings a terminal that shows this session back to what is usual.
    pub fn leave(&mut self) -> Vec<u8> {
        self.catch_up();
        let mut out = String::new();
        if !self.off {
            self.guard(|p| out = leave(p));
        }
        out.into_bytes()
    }

    /// The text that is on it now.
    #[cfg(test)]
    pub(super) fn text(&mut self) -> String {
        self.catch_up();
        let mut text = String::new();
        self.guard(|p| text = p.screen().contents());
        text
    }
}

fn paint(p: &mut Parser<Modes>, whom: Whom, out: &mut String) {
    let (rows, _) = p.screen().size();
    let alternate = p.screen().alternate_screen();
    if whom == Whom::Same {
        // The other screen comes first: it keeps where the cursor is, and what follows moves that.
        *out += if alternate { "\x1b[?1049h" } else { "\x1b[?1049l" };
        // A soft reset: colours, region, origin, insertion, keypad. Not every terminal knows it.
        *out += "\x1b[!p\x1b[?6l\x1b[r";
    } else if alternate && p.screen().scrollback_len() == 0 {
        below(p, out);
        *out += "\x1b[m\x1b[?1049h";
    } else {
        let mut main = copy(p);
        if alternate {
            main.process(b"\x1b[?47l");
        }
        above(&mut main, out);
        // What is on the screen goes up, not away.
        *out += "\x1b[m";
        for _ in 1..rows.get() {
            *out += "\r\n";
        }
        if alternate {
            *out += &main.screen().contents_formatted();
            *out += "\x1b[m\x1b[?1049h";
        }
    }
    *out += &p.screen().contents_formatted();
    if let Some((top, bottom, origin)) = region(p) {
        *out += &format!("\x1b[{top};{bottom}r");
        if origin {
            *out += "\x1b[?6h";
            *out += &place(p.screen(), top);
        } else {
            *out += &p.screen().cursor_state_formatted();
        }
    }
    *out += &p.screen().attributes_formatted();
    *out += &p.screen().input_mode_formatted();
    *out += &p.callbacks().enter(whom == Whom::Newcomer);
}

/// Places the cursor where positions count from line `top`; behind the last column by writing what is there.
fn place(s: &vt100::Screen, top: u16) -> String {
    let (row, mut col) = s.cursor_position();
    let cols = s.size().1.get();
    let mut last = None;
    if col >= cols {
        let wide = s
            .cell(row, cols - 1)
            .is_some_and(vt100::Cell::is_wide_continuation);
        col = cols - if wide { 2 } else { 1 };
        last = s.rows_formatted(col, cols - col).nth(row.into());
    }
    let line = (row + 2).saturating_sub(top).max(1);
    format!("\x1b[{line};{}H\x1b[m{}", col + 1, last.unwrap_or_default())
}

/// The main screen of a program that is on the other one, below what is on the terminal, which stays: it is there
/// again when the program is over, as if it had been started here.
fn below(p: &Parser<Modes>, out: &mut String) {
    let mut main = copy(p);
    main.process(b"\x1b[?47l");
    let s = main.screen();
    let (row, col) = s.cursor_position();
    let lines: Vec<String> = s.rows_formatted(0, s.size().1.get()).collect();
    let texts = s.rows(0, s.size().1.get());
    let last = texts
        .enumerate()
        .filter(|(_, t)| !t.is_empty())
        .map(|(n, _)| n)
        .last();
    let last = last.unwrap_or(0).max(row.into());
    *out += "\x1b[m\x1b[J";
    for (n, line) in lines.iter().take(last + 1).enumerate() {
        if n > 0 {
            *out += "\x1b[m\r\n";
        }
        *out += line;
    }
    *out += "\r";
    if last > row.into() {
        *out += &format!("\x1b[{}A", last - usize::from(row));
    }
    if col > 0 {
        *out += &format!("\x1b[{col}C");
    }
}

/// The lines that have left the screen at the top.
fn above(p: &mut Parser<Modes>, out: &mut String) {
    let (_, cols) = p.screen().size();
    for back in (1..=p.screen().scrollback_len().min(SCROLLBACK)).rev() {
        p.screen_mut().set_scrollback(back);
        if let Some(line) = p.screen().rows_formatted(0, cols.get()).next() {
            *out += &line;
            *out += "\x1b[m\r\n";
        }
    }
    p.screen_mut().set_scrollback(0);
}

/// A second terminal that shows the same, to try things on.
fn copy(p: &Parser<Modes>) -> Parser<Modes> {
    let (rows, cols) = p.screen().size();
    let mut copy = Parser::new_with_callbacks(rows, cols, 0, Modes::default());
    *copy.screen_mut() = p.screen().clone();
    copy
}

/// The lines that scroll, counted from 1, if those are not all, and whether positions count from the first of them.
/// The parser does not tell, but places the cursor accordingly.
fn region(p: &Parser<Modes>) -> Option<(u16, u16, bool)> {
    let mut probe = copy(p);
    probe.process(b"\x1b[1;1H");
    let origin = probe.screen().cursor_position().0 > 0;
    probe.process(b"\x1b[?6h\x1b[1;1H");
    let top = probe.screen().cursor_position().0 + 1;
    probe.process(b"\x1b[9999;1H");
    let bottom = probe.screen().cursor_position().0 + 1;
    (top > 1 || bottom < p.screen().size().0.get()).then_some((top, bottom, origin))
}

fn leave(p: &Parser<Modes>) -> String {
    let mut out = p.callbacks().leave();
    let s = p.screen();
    if region(p).is_some() {
        // It moves the cursor.
        out += "\x1b7\x1b[?6l\x1b[r\x1b8";
    }
    if s.alternate_screen() {
        out += "\x1b[?1049l";
    }
    out += "\x1b[m\x1b(B\x0f";
    let fresh = Parser::new(s.size().0, s.size().1, 0);
    out += &fresh.screen().input_mode_diff(s);
    if s.hide_cursor() {
        out += "\x1b[?25h";
    }
    out
}
