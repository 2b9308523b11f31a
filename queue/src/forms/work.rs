//! What is to be run, as it was asked for. Knows no words of the command line.

use crate::args::Found;
use crate::need::Need;
use libqueue::wire::Place;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// A batch job as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The options, in order: those of a script stand in front of them.
    pub found: Vec<Found>,
    /// What is to be run.
    pub what: Work,
    /// Stay, show its output, end as it ends.
    pub attached: bool,
    /// Print JSON.
    pub json: bool,
}

/// What a batch job runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// An argument list.
    Launch(Vec<OsString>),
    /// A script and its arguments.
    Script(Vec<OsString>),
    /// Arguments of `/bin/sh`, from `-c` on.
    Shell(Vec<OsString>),
}

/// Something to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// How it was asked for, with the words.
    pub what: What,
    /// Where.
    pub host: Target,
    /// What it needs there.
    pub need: Need,
    /// Wait until a host has room.
    pub wait: bool,
    /// The account there, or empty for the same name.
    pub login: String,
    /// Which terminal.
    pub tty: Tty,
    /// Standard input is not read.
    pub no_stdin: bool,
    /// A file that gets the output as well.
    pub tee: Option<PathBuf>,
    /// The character in front of words for us among the keys; `None`: there are no such words.
    pub escape: Option<u8>,
    /// How long a host may take to accept the connection, if that was said.
    pub connect_timeout: Option<Duration>,
    /// Variables that go along in the rsh form besides the usual ones: names, where `*` and `?` are patterns.
    pub send_env: Vec<OsString>,
    /// `NAME=VALUE` for the rsh form.
    pub set_env: Vec<OsString>,
    /// X11 connections are forwarded to our display.
    pub x11: bool,
    /// Connections to the authentication agent are forwarded to ours.
    pub agent: bool,
}

impl Run {
    /// What the daemon is asked for.
    pub fn place(&self) -> Place {
        let named = matches!(self.host, Target::Only(_));
        // An administrator's way into a host that is drained or full, as ssh would be.
        let by_name = named && matches!(self.what, What::Rsh(_));
        Place {
            host: match &self.host {
                Target::Any => String::new(),
                Target::Only(h) | Target::Prefer(h) => h.clone(),
            },
            prefer: matches!(self.host, Target::Prefer(_)),
            avoid: Vec::new(),
            need: self.need.wire(by_name),
            wait: self.wait,
        }
    }
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// An argument list.
    Launch(Vec<OsString>),
    /// One string for the login shell there, or the login shell itself.
    Rsh(Option<OsString>),
    /// Arguments of `/bin/sh`.
    Shell(Vec<OsString>),
}

/// Where to run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The best host.
    Any,
    /// Only this one.
    Only(String),
    /// This one if possible.
    Prefer(String),
}

/// Which terminal to make there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tty {
    /// One if stdin and stdout are terminals and we are in the foreground.
    Auto,
    /// For every standard descriptor that is a terminal (`-p`).
    Full,
    /// For input only (`-o`).
    Input,
    /// None (`-n`, the rsh form with a command, the shell form).
    None,
    /// For all three, if stdin is a terminal (`-t`, the rsh form without a command).
    Login,
    /// For all three, in any case (`-tt`).
    Force,
}
