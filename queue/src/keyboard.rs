//! Who has the keys: the shell here, or the command there. Keeps [`Terminal`] in step with three questions: does
//! the command run, are we in the foreground, is the terminal still there.

use crate::terminal::{Terminal, in_foreground};

/// The terminal on standard input, if it is one.
#[derive(Debug)]
pub struct Keyboard {
    /// Set if its keys go to a terminal there.
    terminal: Option<Terminal>,
    /// Standard input is a terminal.
    tty: bool,
    /// It belongs to somebody else now: it is neither read nor made raw.
    background: bool,
    /// The command runs. Before that our terminal stays as it is, so that Ctrl-C can end a start that hangs.
    started: bool,
}

impl Keyboard {
    /// `terminal`: to be made raw while its keys go there. `tty`: standard input is a terminal.
    pub fn new(terminal: Option<Terminal>, tty: bool) -> Self {
        let background = terminal.is_some() && !in_foreground();
        Self {
            terminal,
            tty,
            background,
            started: false,
        }
    }

    /// The command runs: from here on the keys are its own.
    pub fn start(&mut self) {
        if self.started {
            return;
        }
        self.started = true;
        if let Some(t) = &mut self.terminal
            && !self.background
        {
            self.background = !t.enter();
        }
    }

    /// Whether the command runs.
    pub fn is_started(&self) -> bool {
        self.started
    }

    /// Whether our terminal is raw.
    pub fn is_raw(&self) -> bool {
        self.terminal.as_ref().is_some_and(Terminal::is_raw)
    }

    /// Whether standard input may be read now.
    pub fn may_read(&self) -> bool {
        !self.background && (self.started || self.terminal.is_none())
    }

    /// Whether we wait for the terminal to become ours again.
    pub fn is_away(&self) -> bool {
        self.background
    }

    /// Looks again whose it is, and takes it if it is ours. Whether it is.
    pub fn look(&mut self) -> bool {
        self.background = match &mut self.terminal {
            Some(t) if self.started => !t.enter(),
            Some(_) => !in_foreground(),
            None => self.tty && !in_foreground(),
        };
        !self.background
    }

    /// A read said that we are in the background.
    pub fn lost(&mut self) {
        self.background = true;
        if let Some(t) = &mut self.terminal {
            t.forget();
        }
    }

    /// Gives the terminal back, until [`Keyboard::look`].
    pub fn give_back(&mut self) {
        if let Some(t) = &mut self.terminal {
            t.leave();
            self.background = true;
        }
    }

    /// The terminal is closed for good.
    pub fn gone(&mut self) {
        self.background = false;
        if let Some(mut t) = self.terminal.take() {
            t.forget();
        }
    }
}
