//! A session's life once it is the user's: one poll loop between the connection, the command's pipes or
//! terminal, init and the monitor. Nothing in it blocks.

use crate::account::Account;
use crate::child::{Heard, Init};
use crate::monitor::{Monitor, News};
use crate::plan::{Here, spec};
use crate::pump::{Pumped, Sink, Source, pipe};
use crate::terminal;
use libqueue::link::{Link, LinkError};
use libqueue::stream::{Channel, DATA_MAX, Event};
use libqueue::wire::{
    Ended, FromSession, Launch, LaunchError, LaunchFailed, Started, ToSession, from_session, to_session,
};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use prost::Message as _;
use queue_exec::protocol;
use queue_init::{FromInit, Stage, ToInit};
use std::os::fd::{AsRawFd as _, OwnedFd};
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

/// What arrived and has not been dealt with yet.
pub(crate) struct Inbox {
    /// The first control message: the launch.
    pub(crate) launch: Option<Vec<u8>>,
    sink: Sink,
    consumed: usize,
    ended: bool,
    closed: Vec<Channel>,
    controls: Vec<Vec<u8>>,
}

impl Inbox {
    /// Nothing yet; input is kept until the command is there to take it.
    pub(crate) fn new() -> Self {
        Self {
            launch: None,
            sink: Sink::waiting(),
            consumed: 0,
            ended: false,
            closed: Vec::new(),
            controls: Vec::new(),
        }
    }

    /// Takes one event of the link.
    pub(crate) fn event(&mut self, e: Event<'_>) {
        match e {
            Event::Data(_, bytes) => self.consumed += self.sink.take(bytes),
            Event::Eof(_) => self.ended = true,
            Event::Closed(c) => self.closed.push(c),
            Event::Control(m) if self.launch.is_none() => self.launch = Some(m.to_vec()),
            Event::Control(m) => self.controls.push(m.to_vec()),
        }
    }
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

    fn launch(
        &mut self,
        launch: &Launch,
        account: &Account,
        client: &str,
        pam_env: &[Vec<u8>],
    ) -> Result<(), Refused> {
        let internal =
            |what: &'static str| move |e: std::io::Error| (LaunchError::Internal, format!("{what}: {e}"));
        let mut theirs: [Option<OwnedFd>; 3] = [None, None, None];
        let pty = launch.pty.clone().unwrap_or_default();
        if launch.pty.is_some() {
            let t = terminal::open(&pty).map_err(internal("no terminal could be made"))?;
            let slave = |on: bool| {
                if on {
                    t.slave.try_clone().map(Some)
                } else {
                    Ok(None)
                }
            };
            theirs = [
                slave(pty.stdin).map_err(internal("terminal"))?,
                slave(pty.stdout).map_err(internal("terminal"))?,
                slave(pty.stderr).map_err(internal("terminal"))?,
            ];
            let master = Rc::new(t.master);
            if pty.stdout || pty.stderr {
                self.sources
                    .push(Source::new(Channel::Stdout, master.clone(), true));
            }
            if pty.stdin {
                self.inbox.sink.connect(Some(master.clone()), Some(t.eof));
            }
            self.master = Some(master);
            self.tty = t.name;
        }
        if theirs[0].is_none() {
            if launch.no_stdin {
                let null = std::fs::File::open("/dev/null").map_err(internal("/dev/null"))?;
                theirs[0] = Some(null.into());
                self.inbox.sink.connect(None, None);
            } else {
                let (ours, end) = pipe(false).map_err(internal("pipe"))?;
                theirs[0] = Some(end);
                self.inbox.sink.connect(Some(Rc::new(ours)), None);
            }
        }
        for (i, channel) in [(1, Channel::Stdout), (2, Channel::Stderr)] {
            if theirs[i].is_none() {
                let (ours, end) = pipe(true).map_err(internal("pipe"))?;
                theirs[i] = Some(end);
                self.sources.push(Source::new(channel, Rc::new(ours), false));
            }
        }
        let here = Here {
            host: &self.host,
            client,
            tty: &self.tty,
            pam_env,
        };
        let spec = spec(launch, account, &here).map_err(|e| (LaunchError::Request, e.to_owned()))?;
        self.cwd.clone_from(&spec.cwd);
        self.program.clone_from(&spec.program);
        let raw = theirs
            .each_ref()
            .map(|f| f.as_ref().map_or(-1, |f| f.as_raw_fd()));
        self.init
            .tell(&ToInit::Exec(Box::new(spec)), Some(raw))
            .map_err(internal("the session's init process is gone"))?;
        self.tree_empty = false;
        Ok(())
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

    fn receive(&mut self) -> Result<(), LinkError> {
        // Bounded, so that a client that never stops sending does not keep us from the command's output.
        for _ in 0..4 {
            let inbox = &mut self.inbox;
            let more = self.link.receive(|e| inbox.event(e))?;
            self.read_inbox()?;
            if !more {
                break;
            }
        }
        if self.link.is_peer_closed() && self.client == Client::Here {
            self.client = Client::Gone;
            self.hang_up();
        }
        Ok(())
    }

    fn read_inbox(&mut self) -> Result<(), LinkError> {
        let consumed = std::mem::take(&mut self.inbox.consumed);
        if consumed > 0 {
            self.link.consumed(Channel::Stdin, consumed)?;
        }
        if std::mem::take(&mut self.inbox.ended) {
            self.inbox.sink.end();
        }
        self.stdin_closed();
        for c in std::mem::take(&mut self.inbox.closed) {
            self.closed(c);
        }
        for m in std::mem::take(&mut self.inbox.controls) {
            match ToSession::decode(&m[..]) {
                Ok(ToSession { kind: Some(kind) }) => self.control(kind),
                // From a newer version: what we do not know we do not do.
                Ok(ToSession { kind: None }) => {}
                Err(_) => return Err(LinkError::Protocol(libqueue::stream::ProtocolError::Malformed)),
            }
        }
        Ok(())
    }

    /// The client no longer wants a channel: the command gets a broken pipe.
    fn closed(&mut self, c: Channel) {
        let master = self.master.clone();
        self.sources.retain(|s| {
            let terminal = master
                .as_ref()
                .is_some_and(|m| m.as_raw_fd() == s.fd().as_raw_fd());
            s.channel != c || terminal
        });
    }

    fn drain_input(&mut self) {
        let n = self.inbox.sink.drain();
        if n > 0
            && let Err(e) = self.link.consumed(Channel::Stdin, n)
        {
            self.lost(&e);
        }
        self.stdin_closed();
    }

    fn stdin_closed(&mut self) {
        if !self.inbox.sink.is_open() && !self.link.stream().is_ended(Channel::Stdin) {
            // An error here shows again at the next flush.
            let _ = self.link.send_close(Channel::Stdin);
        }
    }

    fn pump(&mut self) -> Result<(), LinkError> {
        let gone = self.client == Client::Gone;
        let mut i = 0;
        while i < self.sources.len() {
            let s = &mut self.sources[i];
            if !s.is_due() {
                i += 1;
                continue;
            }
            let mut result = Pumped::Nothing;
            // A few reads a round: fair between the channels, and few polls a byte.
            for _ in 0..4 {
                result = if gone || self.link.stream().is_closed(s.channel) {
                    drop_output(s, &mut self.buf)
                } else {
                    s.pump(&mut self.link)?
                };
                if result != Pumped::Some {
                    break;
                }
            }
            // Once for what was read: the other end is woken up less often.
            if !gone {
                self.link.flush()?;
            }
            if result == Pumped::End {
                let channel = s.channel;
                self.sources.remove(i);
                if !gone && !self.sources.iter().any(|s| s.channel == channel) {
                    self.link.send_eof(channel)?;
                }
            } else {
                i += 1;
            }
        }
        self.report_if_drained()
    }

    fn report_if_drained(&mut self) -> Result<(), LinkError> {
        if !self.sources.is_empty() {
            return Ok(());
        }
        if let Command::Draining(ended) = &self.command {
            let message = from(from_session::Kind::Ended(ended.clone()));
            self.command = Command::Over;
            self.told(&message)?;
            if !self.leave && !self.tree_empty && self.hangup.is_none() {
                self.hang_up();
            }
        }
        Ok(())
    }

    /// Says the last word, and goodbye.
    fn told(&mut self, message: &[u8]) -> Result<(), LinkError> {
        if self.client == Client::Gone {
            return Ok(());
        }
        self.client = Client::Told;
        self.linger = Some(Instant::now() + LINGER);
        self.link.send_control(message)?;
        self.link.send_goodbye()?;
        self.link.flush()?;
        Ok(())
    }

    fn failed(&mut self, code: LaunchError, errno: u32, text: String) {
        self.command = Command::Over;
        self.leave = false;
        self.slow_start = None;
        self.sources.clear();
        self.inbox.sink.shut();
        let failed = LaunchFailed {
            code: code as i32,
            errno,
            text: protocol::printable(&text),
        };
        if self.told(&from(from_session::Kind::Failed(failed))).is_err() {
            self.client = Client::Gone;
        }
    }

    /// The connection is of no use any more.
    fn lost(&mut self, _why: &LinkError) {
        let told = self.client == Client::Told;
        self.client = Client::Gone;
        self.linger = None;
        self.inbox.sink.end();
        if !told || self.command != Command::Over {
            self.leave = false;
            self.hang_up();
        }
    }

    fn control(&mut self, kind: to_session::Kind) {
        match kind {
            to_session::Kind::Signal(n) => self.signal(n),
            to_session::Kind::Resize(size) => {
                if let Some(m) = &self.master {
                    terminal::resize(m, size);
                }
            }
            to_session::Kind::Continue(_) => self.signal(libc::SIGCONT as u32),
            to_session::Kind::Hangup(_) => {
                self.leave = false;
                self.hang_up();
            }
            to_session::Kind::Detach(_) | to_session::Kind::Redraw(_) | to_session::Kind::Forward(_) => {}
        }
    }

    /// Somebody asked the host to end this session, or to send it a signal.
    fn kill(&mut self, by: &str, signal: u8) {
        if signal != 0 {
            return self.signal(u32::from(signal));
        }
        if self.client == Client::Here {
            let text = protocol::printable(&format!("killed by {by}"));
            if let Err(e) = self.link.send_control(&from(from_session::Kind::Notice(text))) {
                self.lost(&e);
            }
        }
        self.leave = false;
        self.hang_up();
    }

    /// To the foreground group; what ends or continues everything to the first group as well.
    fn signal(&mut self, n: u32) {
        let Command::Running { pid } = self.command else {
            if self.command == Command::Starting {
                self.early_signals.push(n);
                self.abandon_start(n);
            }
            return;
        };
        let n = n as i32;
        if !(1..=64).contains(&n) {
            return;
        }
        let foreground = self
            .master
            .as_ref()
            .and_then(|m| terminal::foreground(m))
            .unwrap_or(pid);
        let both = [libc::SIGTERM, libc::SIGHUP, libc::SIGCONT].contains(&n) && foreground != pid;
        for group in [Some(foreground), both.then_some(pid)].into_iter().flatten() {
            // SAFETY: no memory is involved; a group of our own user.
            let sent = unsafe { libc::kill(-group, n) };
            if sent != 0
                && Errno::last() == Errno::EPERM
                && let Some(m) = &self.master
            {
                // Somebody else's program (sudo): the terminal itself may send what keys send.
                terminal::signal(m, n);
            }
        }
    }

    /// The start hangs (a dead file server) and the user has had enough.
    fn abandon_start(&mut self, n: u32) {
        let ends = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];
        if ends.contains(&(n as i32)) && self.slow_start.is_none() {
            let ended = Ended {
                signal: Some(n),
                ..Ended::default()
            };
            self.leave = false;
            self.sources.clear();
            self.command = Command::Draining(ended);
            if let Err(e) = self.report_if_drained() {
                self.lost(&e);
            }
        }
    }

    fn hear_init(&mut self) {
        match self.init.hear() {
            Heard::Gone => {
                if matches!(self.command, Command::Starting | Command::Running { .. }) {
                    // Somebody killed it. What it held together is ended by the monitor.
                    self.leave = false;
                    self.command = Command::Draining(Ended {
                        signal: Some(libc::SIGKILL as u32),
                        ..Ended::default()
                    });
                    self.sources.iter_mut().for_each(Source::only_rest);
                    self.monitor.tell(&protocol::FromSession::KillTree);
                }
                self.tree_empty = true;
            }
            Heard::Messages(messages) => {
                for m in messages {
                    if let Err(e) = self.on_init(m) {
                        self.lost(&e);
                    }
                }
            }
        }
    }

    fn on_init(&mut self, m: FromInit) -> Result<(), LinkError> {
        match m {
            FromInit::Started { pid } => {
                if self.command == Command::Starting {
                    self.command = Command::Running { pid };
                    self.slow_start = None;
                    let started = Started {
                        pid: pid as u32,
                        tty: self.tty.clone(),
                    };
                    if self.client == Client::Here {
                        self.link
                            .send_control(&from(from_session::Kind::Started(started)))?;
                    }
                    for n in std::mem::take(&mut self.early_signals) {
                        self.signal(n);
                    }
                }
            }
            FromInit::Failed { stage, errno } => {
                self.tree_empty = true;
                let (code, text) = self.start_failure(stage, errno);
                self.failed(code, errno as u32, text);
            }
            FromInit::Stopped { signal } => {
                if self.client == Client::Here {
                    // What it wrote before it stopped is shown before the caller stops as well.
                    self.sources.iter_mut().for_each(|s| s.ready = true);
                    self.pump()?;
                    self.link
                        .send_control(&from(from_session::Kind::Stopped(signal as u32)))?;
                }
            }
            FromInit::Continued => {
                if self.client == Client::Here {
                    self.link
                        .send_control(&from(from_session::Kind::Continued(libqueue::wire::Empty {})))?;
                }
            }
            FromInit::Exited {
                status,
                cpu_us,
                maxrss_kib,
            } => {
                let ended = if libc::WIFEXITED(status) {
                    Ended {
                        code: Some(libc::WEXITSTATUS(status) as u32),
                        ..Ended::default()
                    }
                } else {
                    Ended {
                        signal: Some(libc::WTERMSIG(status) as u32),
                        core: libc::WCOREDUMP(status),
                        ..Ended::default()
                    }
                };
                self.inbox.sink.shut();
                self.command = Command::Draining(Ended {
                    cpu_us,
                    maxrss_kib,
                    ..ended
                });
                let wait_for_eof = self.leave && self.master.is_none() && self.client == Client::Here;
                if !wait_for_eof {
                    self.sources.iter_mut().for_each(Source::only_rest);
                }
            }
            FromInit::Empty { .. } => {
                self.tree_empty = true;
                self.hangup = None;
            }
        }
        Ok(())
    }

    fn start_failure(&self, stage: Stage, errno: i32) -> (LaunchError, String) {
        let why = Errno::from_raw(errno).desc();
        let show = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        match stage {
            Stage::Directory => (
                LaunchError::Directory,
                format!(
                    "working directory {}: {why}; share it with this host, or cd elsewhere first",
                    show(&self.cwd)
                ),
            ),
            Stage::Exec if errno == libc::ENOENT => (
                LaunchError::NotFound,
                format!("{}: command not found", show(&self.program)),
            ),
            Stage::Exec => (
                LaunchError::NotExecutable,
                format!("{}: {why}", show(&self.program)),
            ),
            Stage::Become | Stage::Process => (
                LaunchError::Internal,
                format!("the process could not be set up: {why}"),
            ),
        }
    }

    /// Ends the whole tree: HUP and CONT now, then TERM, then KILL.
    fn hang_up(&mut self) {
        if self.hangup.is_none() && !self.tree_empty {
            self.hangup_step(0);
        } else if self.tree_empty && self.command == Command::Starting {
            self.command = Command::Over;
        }
    }

    fn hangup_step(&mut self, step: usize) {
        let signals: &[i32] = match step {
            0 => &[libc::SIGHUP, libc::SIGCONT],
            1 => &[libc::SIGTERM, libc::SIGCONT],
            2 => &[libc::SIGKILL],
            _ => {
                // Stuck in the kernel. The monitor keeps the cgroup until it is empty.
                self.hangup = None;
                self.tree_empty = true;
                if self.command != Command::Over {
                    self.command = Command::Over;
                }
                return;
            }
        };
        for n in signals {
            let _ = self.init.tell(&ToInit::SignalTree(*n), None);
        }
        if step == 2 {
            // What runs as another user (sudo) is out of our reach.
            self.monitor.tell(&protocol::FromSession::KillTree);
        }
        self.hangup = Some((step + 1, Instant::now() + HANGUP_STEPS[step]));
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

/// Reads and throws away: nobody wants it, but the command must not block on a terminal that nobody reads.
fn drop_output(s: &Source, buf: &mut Vec<u8>) -> Pumped {
    buf.resize(DATA_MAX, 0);
    match nix::unistd::read(s.fd(), buf) {
        Ok(0) => Pumped::End,
        Ok(_) | Err(Errno::EINTR) => Pumped::Some,
        Err(Errno::EAGAIN) => Pumped::Nothing,
        Err(_) => Pumped::End,
    }
}
