//! The local terminal while its keys go elsewhere: raw modes, and the way back from them whatever happens.
//!
//! Modes are touched only while we are in the foreground: in the background they are another program's.

use crate::plan;
use crate::sys;
use libqueue::wire::Winsize;
use nix::libc;
use nix::unistd::{getpgrp, tcgetpgrp};
use std::os::fd::BorrowedFd;
use std::sync::Mutex;

/// Modes to go back to, for whoever ends this process (a panic's report as well). Set while raw.
static BEFORE: Mutex<Option<libc::termios>> = Mutex::new(None);

/// Whether we are in the foreground of the terminal on standard input.
pub fn in_foreground() -> bool {
    tcgetpgrp(sys::stdio(0)).is_ok_and(|g| g == getpgrp())
}

/// Whether line ends of plain lines are left to us there: another of us has the terminal for a command that
/// does its own (of the recipes of `make -j`, one gets the terminal as its input).
pub fn others_have_line_ends(fd: BorrowedFd<'_>) -> bool {
    sys::modes(fd)
        .is_some_and(|now| now.c_oflag & libc::OPOST == 0 && plan::original(&now).c_oflag & libc::OPOST != 0)
}

/// The window's size, from the first standard descriptor that has one.
pub fn size() -> Option<Winsize> {
    (0..3)
        .find_map(|n| sys::window_size(sys::stdio(n)))
        .map(|[rows, cols, xpixel, ypixel]| Winsize {
            rows: rows.into(),
            cols: cols.into(),
            xpixel: xpixel.into(),
            ypixel: ypixel.into(),
        })
}

/// Puts the modes back if they are changed. For a panic's hook; [`Terminal`] does it in all other cases.
pub fn restore() {
    let before = BEFORE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .take();
    if let Some(modes) = before {
        sys::set_modes(sys::stdio(0), &modes);
    }
}

/// The terminal on standard input, as the keyboard of a remote one.
#[derive(Debug)]
pub struct Terminal {
    output_too: bool,
    raw: Option<libc::termios>,
}

impl Terminal {
    /// Takes charge of it, without changing anything yet. `output_too`: standard output is the remote terminal's
    /// as well.
    pub fn new(output_too: bool) -> Self {
        Self {
            output_too,
            raw: None,
        }
    }

    /// Whether keys go through now.
    pub fn is_raw(&self) -> bool {
        self.raw.is_some()
    }

    /// Makes it raw, if we are in the foreground. Whether it is raw now.
    pub fn enter(&mut self) -> bool {
        if !in_foreground() {
            self.forget();
            return false;
        }
        let Some(modes) = sys::modes(sys::stdio(0)) else {
            return false;
        };
        let unchanged = self.raw.as_ref().is_some_and(|r| plan::same(r, &modes));
        if !unchanged {
            let before = plan::original(&modes);
            let raw = plan::raw(&before, self.output_too);
            // Raw already: another one of us has it (eight recipes in one terminal), and gives it back.
            if !plan::same(&raw, &modes) {
                *BEFORE.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(before);
                sys::set_modes(sys::stdio(0), &raw);
            }
            self.raw = Some(raw);
        }
        true
    }

    /// Puts it back as it was.
    pub fn leave(&mut self) {
        if self.raw.take().is_some() {
            restore();
        }
    }

    /// Somebody else took it (a shell that put us into the background): its modes are not ours to change.
    pub fn forget(&mut self) {
        self.raw = None;
        *BEFORE.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.leave();
    }
}
