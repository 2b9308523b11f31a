//! A session's life once it is the user's: one poll loop between the connection, the command's pipes or
//! terminal, init and the monitor. Nothing in it blocks.

mod client;
mod command;
mod hangup;
mod inbox;
mod output;
mod start;

pub(crate) use inbox::Inbox;

use crate::account::Account;
use crate::child::Init;
use crate::monitor::{Monitor, News};
use crate::pump::Source;
use libqueue::link::{Link, LinkError};
use libqueue::wire::{Ended, FromSession, Launch, LaunchError, from_session};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use prost::Message as _;
use queue_exec::protocol;
use queue_init::ToInit;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// From the hang-up to TERM, from TERM to KILL, and from KILL to giving up: within the 5 s of the contract.
const HANGUP_STEPS: [Duration; 3] = [
    Duration::from_millis(1000),
    Duration::from_millis(2000),
    Duration::from_millis(1000),
];
/// How long a client that has been told the status may take to say goodbye.
const LINGER: Duration = Duration::from_secs(10);
/// After this long without a sign from the new process the user is told what we wait for.
const SLOW_START: Duration = Duration::from_secs(3);

/// How the connection is.
#[derive(Debug, PartialEq, Eq)]
enum Client {
    Here,
    /// It was told the status; it may still be reading.
    Told,
    Gone,
}

/// How the command is.
#[derive(Debug, PartialEq)]
enum Command {
    /// Init was told; nothing came back yet.
    Starting,
    Running {
        pid: i32,
    },
    /// It ended so, and its last output is still under way.
    Draining(Ended),
    /// All was reported, or nothing was ever run.
    Over,
}

/// Everything that a session is.
pub(crate) struct Session {
    link: Link,
    init: Init,
    monitor: Monitor,
    host: String,
    client: Client,
    command: Command,
    leave: bool,
    tree_empty: bool,
    sources: Vec<Source>,
    inbox: Inbox,
    master: Option<Rc<OwnedFd>>,
    tty: String,
    cwd: Vec<u8>,
    program: Vec<u8>,
    /// Signals that came before there was anybody to get them.
    early_signals: Vec<u32>,
    /// Which step of the hang-up comes next, and when.
    hangup: Option<(usize, Instant)>,
    linger: Option<Instant>,
    slow_start: Option<Instant>,
    link_ready: bool,
    buf: Vec<u8>,
}

fn from(kind: from_session::Kind) -> Vec<u8> {
    FromSession { kind: Some(kind) }.encode_to_vec()
}

/// Why a launch is refused before anything is tried.
pub(crate) type Refused = (LaunchError, String);

/// What is needed to begin.
pub(crate) struct Begin {
    pub(crate) link: Link,
    pub(crate) init: Init,
    pub(crate) monitor: Monitor,
    pub(crate) host: String,
    pub(crate) account: Account,
    pub(crate) client_address: String,
    pub(crate) pam_env: Vec<Vec<u8>>,
    pub(crate) inbox: Inbox,
    pub(crate) launch: Result<Launch, Refused>,
}

impl Session {
    /// Makes pipes and terminal and tells init to go. What is wrong is told to the client, and the session is
    /// then over.
    pub(crate) fn begin(b: Begin) -> Self {
        let mut s = Self {
            link: b.link,
            init: b.init,
            monitor: b.monitor,
            host: b.host,
            client: Client::Here,
            command: Command::Starting,
            leave: b.launch.as_ref().is_ok_and(|l| l.leave),
            tree_empty: true,
            sources: Vec::new(),
            inbox: b.inbox,
            master: None,
            tty: String::new(),
            cwd: Vec::new(),
            program: Vec::new(),
            early_signals: Vec::new(),
            hangup: None,
            linger: None,
            slow_start: Some(Instant::now() + SLOW_START),
            link_ready: true,
            buf: Vec::new(),
        };
        let launched = b
            .launch
            .and_then(|l| s.launch(&l, &b.account, &b.client_address, &b.pam_env));
        if let Err((code, text)) = launched {
            s.failed(code, 0, text);
        }
        s
    }

    /// Runs until the session is over.
    pub(crate) fn run(&mut self) {
        // What the client sent right behind its launch.
        if let Err(e) = self.read_inbox() {
            self.lost(&e);
        }
        loop {
            if let Err(e) = self.step() {
                self.lost(&e);
            }
            if self.is_over() {
                break;
            }
            self.wait();
        }
        // With nothing left to be ended, init need not look for it either.
        if self.leave || self.tree_empty {
            let _ = self.init.tell(&ToInit::Leave, None);
        }
    }

    /// Tells the monitor that this was all.
    pub(crate) fn end(mut self) {
        self.monitor
            .tell(&protocol::FromSession::Ended { leave: self.leave });
    }

    fn is_over(&self) -> bool {
        self.command == Command::Over
            && (self.tree_empty || (self.leave && self.hangup.is_none()))
            && self.client == Client::Gone
    }

    /// Sleeps until something happens, then does what is not the connection's.
    fn wait(&mut self) {
        let now = Instant::now();
        let timers = [
            self.hangup.map(|(_, t)| t),
            self.linger,
            self.slow_start,
            self.monitor.retry_at(),
        ];
        let timeout = timers.into_iter().flatten().min().map_or(PollTimeout::NONE, |t| {
            let ms = t.saturating_duration_since(now).as_millis() as u64 + 1;
            PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = Vec::with_capacity(8);
        if self.client != Client::Gone {
            let mut events = PollFlags::POLLIN;
            if self.link.backlog() > 0 {
                events |= PollFlags::POLLOUT;
            }
            if let Some(socket) = self.link.socket() {
                fds.push((Who::Link, PollFd::new(socket, events)));
            }
        }
        if !self.tree_empty || self.command == Command::Starting {
            fds.push((Who::Init, PollFd::new(self.init.fd(), PollFlags::POLLIN)));
        }
        if let Some(fd) = self.monitor.fd() {
            fds.push((Who::Monitor, PollFd::new(fd, PollFlags::POLLIN)));
        }
        for (i, s) in self.sources.iter().enumerate() {
            if self.link.room(s.channel) > 0 || self.client == Client::Gone {
                fds.push((Who::Source(i), PollFd::new(s.fd(), PollFlags::POLLIN)));
            }
        }
        if let Some(fd) = self.inbox.sink.wants() {
            fds.push((Who::Sink, PollFd::new(fd, PollFlags::POLLOUT)));
        }
        let (who, mut polls): (Vec<Who>, Vec<PollFd<'_>>) = fds.into_iter().unzip();
        match poll(&mut polls, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            // Out of memory in the kernel: nothing better to do than to try again.
            Err(_) => return,
        }
        let ready: Vec<Who> = who
            .into_iter()
            .zip(&polls)
            .filter(|(_, p)| p.any() == Some(true))
            .map(|(w, _)| w)
            .collect();
        drop(polls);
        // Sources first: what else happens may remove some, and their numbers with them.
        for w in &ready {
            if let Who::Source(i) = w {
                self.sources[*i].ready = true;
            }
        }
        for w in ready {
            match w {
                Who::Init => self.hear_init(),
                Who::Monitor => match self.monitor.read() {
                    // A later version resumes on it; this one has nothing to do with a second connection.
                    News::Connection(fd) | News::Attach(fd, _) => drop(fd),
                    News::Detach(_) => {}
                    News::Kill { by, signal } => self.kill(&by, signal),
                    News::Seen(_) | News::Nothing => {}
                },
                Who::Sink => self.drain_input(),
                Who::Link => self.link_ready = true,
                Who::Source(_) => {}
            }
        }
        self.timers();
    }

    fn timers(&mut self) {
        let now = Instant::now();
        self.monitor.retry();
        if self.slow_start.is_some_and(|t| now >= t) {
            self.slow_start = None;
            if self.command == Command::Starting {
                let dir = String::from_utf8_lossy(&self.cwd).into_owned();
                let text = format!(
                    "{}: still waiting for {dir} (does its file system answer?)",
                    self.host
                );
                let _ = self
                    .link
                    .send_control(&from(from_session::Kind::Notice(protocol::printable(&text))));
            }
        }
        if self.linger.is_some_and(|t| now >= t) {
            self.linger = None;
            self.client = Client::Gone;
        }
        if let Some((step, at)) = self.hangup
            && now >= at
        {
            self.hangup_step(step);
        }
    }

    /// Moves bytes between connection and command as far as they go.
    fn step(&mut self) -> Result<(), LinkError> {
        if self.client != Client::Gone && std::mem::take(&mut self.link_ready) {
            self.receive()?;
        }
        self.pump()?;
        if self.client != Client::Gone {
            self.link.flush()?;
        }
        if self.client == Client::Told && self.link.is_peer_closed() {
            self.client = Client::Gone;
        }
        Ok(())
    }
}

/// What a descriptor of the poll stands for.
#[derive(Clone, Copy)]
enum Who {
    Link,
    Init,
    Monitor,
    Source(usize),
    Sink,
}
