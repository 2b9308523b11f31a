//! A session's life once it is the user's: one poll loop between the connection, the command's pipes or
//! terminal, init and the monitor. Nothing in it blocks.

mod attach;
mod client;
mod command;
mod forward;
mod guests;
mod hangup;
mod inbox;
mod output;
mod rejoin;
mod start;
mod talk;

pub(crate) use inbox::Inbox;

use crate::account::Account;
use crate::child::Init;
use crate::forward::Forwarding;
use crate::monitor::{Monitor, News};
use crate::pump::Source;
use attach::Arrival;
use client::Client;
use guests::Guest;
use hangup::HangUp;
use libqueue::link::Link;
use libqueue::tls::KeyPair;
use libqueue::wire::{Ended, FromSession, Launch, LaunchError, Winsize, from_session};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use prost::Message as _;
use queue_exec::protocol;
use queue_init::ToInit;
use queue_screen::Screen;
use rejoin::Pending;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// After this long without a sign from the new process the user is told what we wait for.
const SLOW_START: Duration = Duration::from_secs(3);

/// How often in the time of grace it is found out whether the client's host answers.
const LISTEN: u32 = 8;

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
    /// Whoever is attached; none: it has gone.
    client: Option<Client>,
    /// Those beside it.
    guests: Vec<Guest>,
    /// Those who will be attached.
    arrivals: Vec<Arrival>,
    /// Its user detached it: nobody is waited for.
    detached: bool,
    /// Whoever is attached came later: if he vanishes the command stays, as if he had detached it.
    attached_later: bool,
    /// How `queue attach` calls it.
    name: String,
    /// What its terminal shows.
    screen: Option<Screen>,
    /// Input comes from a keyboard.
    keyboard: bool,
    size: Option<Winsize>,
    /// Output that was just sent, for those beside the client.
    tap: Vec<u8>,
    /// Signal that has stopped the command, or 0.
    stopped: u32,
    /// The last word, once it was said.
    status: Option<from_session::Kind>,
    /// Connections that are to take a broken one's place.
    pending: Vec<Pending>,
    /// The session's own key for TLS.
    key: KeyPair,
    /// How long a client whose host does not answer is waited for.
    grace: Duration,
    /// When to find out next whether it does.
    listen_at: Instant,
    init: Init,
    monitor: Monitor,
    host: String,
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
    hangup: Option<HangUp>,
    slow_start: Option<Instant>,
    /// What leads to the launching client's display and agent.
    forwarding: Option<Forwarding>,
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
    pub(crate) key: KeyPair,
    pub(crate) client_key: [u8; 32],
    pub(crate) grace: Duration,
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
            client: Some(Client::new(b.link, b.client_key)),
            guests: Vec::new(),
            arrivals: Vec::new(),
            detached: false,
            attached_later: false,
            name: format!("s{}", queue_exec::codec::hex(&b.monitor.nonce()[..4])),
            screen: None,
            keyboard: false,
            size: None,
            tap: Vec::new(),
            stopped: 0,
            status: None,
            pending: Vec::new(),
            key: b.key,
            grace: b.grace,
            listen_at: Instant::now() + b.grace / LISTEN,
            init: b.init,
            monitor: b.monitor,
            host: b.host,
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
            slow_start: Some(Instant::now() + SLOW_START),
            forwarding: None,
            buf: Vec::new(),
        };
        let launched = b
            .launch
            .and_then(|l| s.launch(&l, &b.account, &b.client_address, &b.pam_env));
        if let Err((code, text)) = launched {
            s.failed(code, 0, &text);
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
            self.step();
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
        // The monitor ends whatever is left of us.
        self.forwarding = None;
        self.monitor
            .tell(&protocol::FromSession::Ended { leave: self.leave });
    }

    fn is_over(&self) -> bool {
        self.command == Command::Over
            && (self.tree_empty || (self.leave && self.hangup.is_none()))
            && self.client.is_none()
            && self.guests.is_empty()
    }

    /// Sleeps until something happens, then does what is not the connection's.
    fn wait(&mut self) {
        let now = Instant::now();
        let timers = [
            self.hangup.as_ref().map(|h| h.at),
            self.client.as_ref().and_then(Client::deadline),
            self.has_connection().then_some(self.listen_at),
            self.pending.iter().map(Pending::deadline).min(),
            self.guests.iter().filter_map(|g| g.client.deadline()).min(),
            self.arrivals.iter().filter_map(Arrival::deadline).min(),
            self.slow_start,
            self.monitor.retry_at(),
        ];
        let timeout = timers.into_iter().flatten().min().map_or(PollTimeout::NONE, |t| {
            let ms = t.saturating_duration_since(now).as_millis() as u64 + 1;
            PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = Vec::with_capacity(8);
        if let Some((socket, events)) = self.client.as_ref().and_then(Client::poll) {
            fds.push((Who::Client, PollFd::new(socket, events)));
        }
        for (i, g) in self.guests.iter().enumerate() {
            if let Some((socket, events)) = g.client.poll() {
                fds.push((Who::Guest(i), PollFd::new(socket, events)));
            }
        }
        for (i, a) in self.arrivals.iter().enumerate() {
            if let Some((socket, events)) = a.poll() {
                fds.push((Who::Arrival(i), PollFd::new(socket, events)));
            }
        }
        for (i, p) in self.pending.iter().enumerate() {
            let (socket, events) = p.poll();
            fds.push((Who::Pending(i), PollFd::new(socket, events)));
        }
        if !self.tree_empty || self.command == Command::Starting {
            fds.push((Who::Init, PollFd::new(self.init.fd(), PollFlags::POLLIN)));
        }
        if let Some(fd) = self.monitor.fd() {
            fds.push((Who::Monitor, PollFd::new(fd, PollFlags::POLLIN)));
        }
        for (i, s) in self.sources.iter().enumerate() {
            if self.may_read(s) {
                fds.push((Who::Source(i), PollFd::new(s.fd(), PollFlags::POLLIN)));
            }
        }
        if let Some(fd) = self.inbox.sink.wants() {
            fds.push((Who::Sink, PollFd::new(fd, PollFlags::POLLOUT)));
        }
        if let Some(f) = &self.forwarding {
            fds.push((Who::Forward, PollFd::new(f.fd(), PollFlags::POLLIN)));
        }
        let (who, mut polls): (Vec<Who>, Vec<PollFd<'_>>) = fds.into_iter().unzip();
        // The screen has time until there is nothing else to do.
        let work = self.screen.as_ref().is_some_and(Screen::has_work);
        match poll(&mut polls, if work { PollTimeout::ZERO } else { timeout }) {
            Ok(0) if work => {
                drop(polls);
                if let Some(s) = &mut self.screen {
                    s.work();
                }
                return self.timers();
            }
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
        // Those with a number first: what else happens may remove some, and their numbers with them.
        for w in &ready {
            match w {
                Who::Source(i) => self.sources[*i].ready = true,
                Who::Pending(i) => self.pending[*i].ready = true,
                Who::Guest(i) => self.guests[*i].client.ready = true,
                Who::Arrival(i) => self.arrivals[*i].ready = true,
                Who::Client => {
                    if let Some(c) = &mut self.client {
                        c.ready = true;
                    }
                }
                Who::Init | Who::Monitor | Who::Sink | Who::Forward => {}
            }
        }
        for w in ready {
            match w {
                Who::Init => self.hear_init(),
                Who::Monitor => self.hear_monitor(),
                Who::Sink => self.drain_input(),
                Who::Forward => self.forward(true),
                Who::Client | Who::Source(_) | Who::Pending(_) | Who::Guest(_) | Who::Arrival(_) => {}
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
                self.say(from_session::Kind::Notice(protocol::printable(&text)));
            }
        }
        self.check_client(now);
        self.check_pending(now);
        self.check_arrivals(now);
        self.check_hangup(now);
    }

    fn hear_monitor(&mut self) {
        match self.monitor.read() {
            News::Connection(fd) => self.connection(fd),
            News::Attach(fd, who) => self.arrive(fd, who),
            News::Detach(by) => self.detach(&by),
            News::Kill { by, signal } => self.kill(&by, signal),
            News::Seen(_) | News::Nothing => {}
        }
    }

    fn has_connection(&self) -> bool {
        let guests = self.guests.iter().map(|g| &g.client);
        self.client.iter().chain(guests).any(|c| !c.link.is_cut())
    }

    /// Moves bytes between connections and command as far as they go.
    fn step(&mut self) {
        self.rejoin();
        if self.client.as_mut().is_some_and(|c| std::mem::take(&mut c.ready)) {
            self.receive();
        }
        self.pump();
        self.forward(false);
        if let Some(Err(e)) = self.client.as_mut().map(Client::flush) {
            self.lost(&e);
        }
        self.part_if_done();
        self.receive_arrivals();
        self.serve_guests();
        self.tell_state();
    }
}

/// What a descriptor of the poll stands for.
#[derive(Clone, Copy)]
enum Who {
    Client,
    Pending(usize),
    Guest(usize),
    Arrival(usize),
    Init,
    Monitor,
    Source(usize),
    Sink,
    Forward,
}
