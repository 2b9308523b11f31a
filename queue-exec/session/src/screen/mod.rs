//! What a terminal that shows this session's output would show: kept for whoever attaches later. Output comes here
//! after it was sent, and is understood only when there is time, or somebody wants to see it; of a flood the middle
//! is never looked at. Knows bytes and terminals' control sequences; must not know clients or processes.

mod lines;
mod modes;
mod paint;
mod raw;

use lines::Lines;
use modes::Modes;
pub use paint::Whom;
use std::num::NonZeroU16;
use std::panic::{AssertUnwindSafe, catch_unwind};
use vt100::Parser;

/// Lines that have left the screen at the top and are kept.
const SCROLLBACK: usize = 500;
/// Bytes that may wait to be understood; of more, what nobody would see is dropped, or they are understood at once.
const RAW_MAX: usize = 256 * 1024;
/// So much is worth being understood when there is nothing else to do.
const WORTHWHILE: usize = 16 * 1024;
/// Bytes understood at a time, so that what is urgent waits for no more than about a millisecond.
const SLICE: usize = 8 * 1024;
/// A window beyond this is not kept: a cell costs 32 bytes.
const CELLS_MAX: u32 = 200_000;

/// The screen of a terminal.
pub struct Screen {
    rows: NonZeroU16,
    cols: NonZeroU16,
    /// Made when there is something to understand.
    parser: Option<Box<Parser<Modes>>>,
    lines: Lines,
    /// Came and was not understood yet.
    raw: Vec<u8>,
    /// The window is too large to be kept.
    off: bool,
}

/// Sizes as a terminal can have them.
fn size(rows: u32, cols: u32) -> Option<(NonZeroU16, NonZeroU16)> {
    // Nobody said how large it is: what terminals are by custom.
    let (rows, cols) = match (rows, cols) {
        (0, _) | (_, 0) => (24, 80),
        // One column has no room for a wide character.
        (r, c) => (r, c.max(2)),
    };
    if rows.saturating_mul(cols) > CELLS_MAX {
        return None;
    }
    let short = |n: u32| u16::try_from(n).ok().and_then(NonZeroU16::new);
    Some((short(rows)?, short(cols)?))
}

impl Screen {
    /// An empty one.
    pub fn new(rows: u32, cols: u32) -> Self {
        let (off, size) = match size(rows, cols) {
            Some(s) => (false, s),
            None => (true, (Parser::DEFAULT_ROWS, Parser::DEFAULT_COLS)),
        };
        Self {
            rows: size.0,
            cols: size.1,
            parser: None,
            lines: Lines::default(),
            raw: Vec::new(),
            off,
        }
    }

    /// Takes output.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.off {
            return;
        }
        self.raw.extend_from_slice(bytes);
        if self.raw.len() >= RAW_MAX {
            self.reduce(RAW_MAX / 2);
            if self.raw.len() > RAW_MAX * 3 / 4 {
                self.catch_up();
            }
        }
    }

    /// Whether it should be called again when there is nothing else to do.
    pub fn has_work(&self) -> bool {
        self.raw.len() >= WORTHWHILE
    }

    /// Does a little of that.
    pub fn work(&mut self) {
        self.reduce(usize::MAX);
        let n = raw::complete(&self.raw[..SLICE.min(self.raw.len())]);
        self.understand(n.max(1).min(self.raw.len()));
    }

    /// The window has another size.
    pub fn resize(&mut self, rows: u32, cols: u32) {
        let Some((rows, cols)) = size(rows, cols) else {
            *self = Self::new(rows, cols);
            return;
        };
        if self.off {
            *self = Self::new(rows.get().into(), cols.get().into());
        }
        if (rows, cols) == (self.rows, self.cols) {
            return;
        }
        self.catch_up();
        (self.rows, self.cols) = (rows, cols);
        if self.parser.is_some() {
            self.guard(|p| p.set_size(rows, cols));
        }
    }

    /// Drops what would have left the screen again; of what would still be above it so many bytes are kept.
    fn reduce(&mut self, bytes: usize) {
        let rows = usize::from(self.rows.get());
        if !self.lines.are_plain() {
            return;
        }
        if let Some((n, pen)) = raw::droppable(&self.raw, rows, rows + SCROLLBACK, bytes) {
            self.raw.splice(..n, pen);
        }
    }

    /// Understands everything that is complete.
    fn catch_up(&mut self) {
        let n = raw::complete(&self.raw);
        self.understand(n);
    }

    /// Understands so many bytes.
    fn understand(&mut self, n: usize) {
        let rest = self.raw.split_off(n);
        let bytes = std::mem::replace(&mut self.raw, rest);
        if bytes.is_empty() {
            return;
        }
        let bytes = self.lines.translate(bytes);
        self.guard(|p| p.process(&bytes));
    }

    /// Lets the parser do something. One that fails costs what was on the screen, and not the session.
    fn guard(&mut self, act: impl FnOnce(&mut Parser<Modes>)) {
        let (rows, cols) = (self.rows, self.cols);
        let mut parser = self.parser.take().unwrap_or_else(|| {
            Box::new(Parser::new_with_callbacks(
                rows,
                cols,
                SCROLLBACK,
                Modes::default(),
            ))
        });
        if catch_unwind(AssertUnwindSafe(|| act(&mut parser))).is_ok() {
            self.parser = Some(parser);
        } else {
            self.lines = Lines::default();
        }
    }
}

#[cfg(test)]
mod tests;
