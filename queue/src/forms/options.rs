//! What the options of either form set. Knows none of their names.

use super::{Command, Run, Target, Tty, What};
use crate::need::Need;
use crate::options::Id;
use crate::relay::escape;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Collects what the options of either form set.
pub(super) struct Options {
    pub(super) host: Target,
    pub(super) need: Need,
    pub(super) wait: bool,
    pub(super) login: String,
    pub(super) tty: Option<Tty>,
    pub(super) no_stdin: bool,
    pub(super) tee: Option<PathBuf>,
    pub(super) escape: Option<u8>,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) send_env: Vec<OsString>,
    pub(super) set_env: Vec<OsString>,
    pub(super) x11: bool,
    pub(super) agent: bool,
}

impl Options {
    pub(super) fn new() -> Self {
        Self {
            host: Target::Any,
            need: Need::default(),
            wait: false,
            login: String::new(),
            tty: None,
            no_stdin: false,
            tee: None,
            escape: Some(escape::DEFAULT),
            connect_timeout: None,
            send_env: Vec::new(),
            set_env: Vec::new(),
            x11: false,
            agent: false,
        }
    }

    /// What is forwarded is said alike in all forms; the last word counts.
    pub(super) fn forward(&mut self, id: Id) {
        match id {
            Id::X11 | Id::NoX11 => self.x11 = id == Id::X11,
            _ => self.agent = id == Id::Agent,
        }
    }

    pub(super) fn run(self, what: What, tty: Tty) -> Command {
        Command::Run(self.into_run(what, tty))
    }

    pub(super) fn into_run(self, what: What, tty: Tty) -> Run {
        Run {
            what,
            host: self.host,
            need: self.need,
            wait: self.wait,
            login: self.login,
            tty: self.tty.unwrap_or(tty),
            no_stdin: self.no_stdin,
            tee: self.tee,
            escape: self.escape,
            connect_timeout: self.connect_timeout,
            send_env: self.send_env,
            set_env: self.set_env,
            x11: self.x11,
            agent: self.agent,
        }
    }
}
