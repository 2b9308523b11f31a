//! The loop between the local descriptors and the session, until the command has ended.
//!
//! Knows what each message means for the local process: the proxy rule. It never waits anywhere but in its
//! `poll`, so a slow reader of one channel delays neither signals nor the other channel.

pub mod escape;
mod forward;
mod local;
mod notice;
mod outage;
mod pulse;
mod receive;
mod resume;
mod retry;
mod screen;
mod sink;

use crate::forward::Forwarding;
use crate::input::Input;
use crate::keyboard::Keyboard;
use crate::launch::Session;
use crate::messages::{Failure, Kind, printable};
use crate::plan::{Facts, PtyFor};
use crate::signals::{Inherited, Signals};
use crate::sys;
use crate::tee::Tee;
use crate::terminal::{self, Terminal};
use escape::Escape;
use libqueue::link::Link;
use libqueue::stream::Channel;
use libqueue::wire::Winsize;
use nix::errno::Errno;
use nix::libc;
use pulse::Pulse;
use resume::Resume;
use screen::Screen;
use sink::Sink;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// While we are in the background of our terminal: how often to see whether we still are. A shell's `fg` tells
/// a running job nothing.
const FOREGROUND_CHECK: Duration = Duration::from_millis(200);
/// How long to wait for the end of the command after our terminal went away.
const HANGUP: Duration = Duration::from_secs(8);
/// A receive that brought at least this much is followed by another one without asking `poll`.
const PLENTY: usize = 16 * 1024;
/// How many reads or receives may follow each other before the rest gets its turn.
const ROUNDS: usize = 8;

/// Descriptors that are polled always: signals, the network, the three standard ones, what is forwarded.
const FDS: usize = 6;
/// Keys that wait for a command that does not read.
const TYPED_MAX: usize = 64 * 1024;

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With this exit code.
    Code(u8),
    /// By this signal.
    Signal(i32),
    /// Only for who watches: the connection broke, and another one can be made.
    Cut,
}

/// How this process stands to the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It has started it.
    Start,
    /// It has taken over a terminal of it.
    Attach,
    /// It only looks.
    Watch,
}

/// What is as it is from the beginning.
#[derive(Debug)]
pub struct Setting<'a> {
    /// What our descriptors are.
    pub facts: &'a Facts,
    /// Which of the command's are its terminal.
    pub pty: Option<PtyFor>,
    /// Signals as they were.
    pub inherited: Inherited,
    /// A copy of the output.
    pub tee: Option<Tee>,
    /// The escape character.
    pub escape: Option<u8>,
    /// What we are to the command.
    pub role: Role,
    /// The session that is only looked at, as people call it.
    pub watching: Option<String>,
    /// What is forwarded.
    pub forwarding: Option<Forwarding>,
}

/// Runs the session to its end. The terminal is as before afterwards, however this returns.
///
/// # Errors
/// Nothing was run, the connection was lost, or output could not be written.
pub fn run(session: Session, setting: Setting<'_>) -> Result<End, Failure> {
    let Setting {
        facts,
        pty,
        inherited,
        role,
        ..
    } = setting;
    let signals = Signals::catch(inherited).map_err(|e| Failure::own(format!("signals: {e}")))?;
    let keyboard = pty.is_some_and(|p| p.fds[0]) && facts.tty[0];
    let mut relay = Relay {
        link: session.link,
        host: printable(&session.host),
        role,
        tty: facts.tty,
        signals,
        // The terminal on standard output shows what the remote one made of it, or plain lines.
        keys: Keyboard::new(
            keyboard.then(|| Terminal::new(pty.is_some_and(|p| p.fds[1]) && facts.tty[1])),
            facts.tty[0],
        ),
        escape: keyboard.then(|| Escape::new(setting.escape)),
        typed: Vec::new(),
        input: (!session.no_stdin).then(|| Input::new(facts.tty[0])),
        interrupted: false,
        given: 0,
        sinks: [Sink::new(1, pty), Sink::new(2, pty)],
        screen: Screen::default(),
        spoiled: false,
        posted: false,
        watching: setting.watching,
        greet: false,
        helped: false,
        tee: setting.tee,
        forwarding: setting.forwarding,
        pty: pty.is_some(),
        size: terminal::size(),
        send_failed: false,
        resume: None,
        looked: None,
        seen: 0,
        pulse: Pulse::default(),
        sent: None,
        ended: None,
        failed: None,
        leaving: None,
        stopping: None,
        hangup: None,
        spent: session.spent,
        fds: Vec::with_capacity(FDS),
    };
    if let Some(way) = session.way {
        relay.link.make_resumable();
        relay.resume = Some(Resume::new(way, session.host));
    }
    relay
        .link
        .send_control(&session.launch)
        .map_err(|e| relay.lost(&e))?;
    let result = relay.run();
    relay.keys.give_back();
    if relay.ended.is_none() {
        relay.tidy();
    }
    let result = match relay.leaving.take() {
        Some(leave) => {
            if !leave.said.is_empty() {
                relay.say(&leave.said);
            }
            leave.result
        }
        None => result,
    };
    if result.as_ref().is_err_and(|f| !f.text.is_empty()) {
        // What failed is said by whoever called us.
        relay.begin_line();
    }
    // The process ends now, and the kernel takes the rest back faster than we could give it.
    std::mem::forget(relay);
    result
}

/// We go before the command has ended.
struct Leave {
    /// What the user is told.
    said: String,
    result: Result<End, Failure>,
}

struct Relay {
    link: Link,
    host: String,
    role: Role,
    /// Which of our descriptors are a terminal.
    tty: [bool; 3],
    signals: Signals,
    keys: Keyboard,
    /// For keys that go to a terminal there.
    escape: Option<Escape>,
    /// Keys that wait for room.
    typed: Vec<u8>,
    input: Option<Input>,
    /// A signal that would have ended us came before the command ran.
    interrupted: bool,
    /// Signals that came while the user knew that nothing answers.
    given: sys::Mask,
    sinks: [Sink; 2],
    screen: Screen,
    /// Something of ours was written over what a program shows.
    spoiled: bool,
    /// The last line of the screen says that the host does not answer.
    posted: bool,
    /// The session that is only looked at, as people call it.
    watching: Option<String>,
    /// That is to be said.
    greet: bool,
    /// What escapes there are is on the screen.
    helped: bool,
    tee: Option<Tee>,
    forwarding: Option<Forwarding>,
    pty: bool,
    size: Option<Winsize>,
    /// Sending failed; what the peer said before is still worth reading.
    send_failed: bool,
    resume: Option<Resume>,
    /// When it was last looked whether the host still answers.
    looked: Option<Instant>,
    /// What is closed when the request is on its way.
    spent: Vec<OwnedFd>,
    /// How much had come by then.
    seen: u64,
    pulse: Pulse,
    /// When something was sent of which it is not known that it arrived.
    sent: Option<Instant>,
    ended: Option<End>,
    /// Something of ours failed on the way: the end is a failure whatever the command says.
    failed: Option<Failure>,
    leaving: Option<Leave>,
    /// The command stopped: so shall we.
    stopping: Option<i32>,
    hangup: Option<Instant>,
    fds: Vec<libc::pollfd>,
}

impl Relay {
    fn run(&mut self) -> Result<End, Failure> {
        let mut forwards = false;
        loop {
            if let Some(signal) = self.stopping.take() {
                self.stop(signal);
            }
            self.pass_typed();
            self.forward(forwards);
            self.flush();
            if self.leaving.is_some() {
                return Ok(End::Cut);
            }
            if let Some(end) = self.ended
                && !self.sinks.iter().any(|s| s.output.is_waiting())
            {
                return self.finish(end);
            }
            let ready = self.wait()?;
            forwards = ready.forward;
            if ready.signal {
                while let Some(r) = self.signals.read() {
                    if let Some(end) = self.on_signal(r) {
                        return Ok(end);
                    }
                }
            }
            if ready.nobody_reads {
                self.leaving = Some(Leave {
                    said: String::new(),
                    result: Ok(End::Signal(libc::SIGPIPE)),
                });
            }
            if ready.network {
                self.receive()?;
            }
            for n in 0..2 {
                if ready.output[n] {
                    self.drain(n);
                }
            }
            if ready.input {
                self.read_input();
            }
            self.attend()?;
        }
    }

    /// The command's end, unless something of ours failed.
    fn finish(&mut self, end: End) -> Result<End, Failure> {
        if let Some(f) = self.failed.take() {
            return Err(f);
        }
        // As tee(1): the command's own failure counts more than the incomplete file, which was told.
        if end == End::Code(0) && self.tee.as_ref().is_some_and(Tee::has_failed) {
            return Err(Failure {
                kind: Kind::Own,
                text: String::new(),
            });
        }
        Ok(end)
    }

    fn flush(&mut self) {
        if !self.send_failed && self.link.backlog() > 0 {
            self.sent.get_or_insert_with(Instant::now);
            self.send_failed = self.link.flush().is_err();
            self.spent.clear();
        }
    }

    /// Whether standard input is wanted now.
    fn wants_input(&self) -> bool {
        self.keys.may_read()
            && match &self.escape {
                // Escapes are wanted even if the command does not read.
                Some(_) => self.typed.len() < TYPED_MAX || self.is_silent(),
                None => self.role != Role::Watch && !self.send_failed && self.link.room(Channel::Stdin) > 0,
            }
    }

    fn wait(&mut self) -> Result<Ready, Failure> {
        let mut fds = std::mem::take(&mut self.fds);
        fds.clear();
        let poll = |fd, events| libc::pollfd {
            fd,
            events,
            revents: 0,
        };
        fds.extend([poll(-1, libc::POLLIN); FDS]);
        fds[0].fd = self.signals.raw_fd();
        if self.ended.is_none() {
            let out = if self.link.backlog() > 0 && !self.send_failed {
                libc::POLLOUT
            } else {
                0
            };
            fds[1] = poll(
                self.link.socket().map_or(-1, |s| s.as_raw_fd()),
                libc::POLLIN | out,
            );
            if let Some(input) = &self.input
                && self.wants_input()
            {
                fds[2].fd = input.raw_fd();
            }
            if let Some(f) = &self.forwarding {
                fds[5].fd = f.fd().as_raw_fd();
            }
            if let Some(r) = &self.resume {
                r.polled(&mut fds);
            }
        }
        for (fd, sink) in fds[3..5].iter_mut().zip(&self.sinks) {
            if sink.output.is_waiting() {
                *fd = poll(sink.output.raw_fd(), libc::POLLOUT);
            }
        }
        let idle_watch = self.role == Role::Watch && fds[3].fd < 0;
        if idle_watch {
            // Errors alone: nobody would notice before something comes that he does not read.
            fds[3] = poll(1, 0);
        }
        let now = Instant::now();
        let away = self.keys.is_away() && self.ended.is_none();
        if self.hangup.is_some_and(|end| end <= now) {
            return Err(Failure::own(format!(
                "the terminal was closed; {} does not say whether the command has ended",
                self.host
            )));
        }
        let due = [
            away.then(|| now + FOREGROUND_CHECK),
            self.hangup,
            self.attend_at(now),
        ];
        let timeout = due.into_iter().flatten().min().map_or(-1, |t| {
            i32::try_from(t.saturating_duration_since(now).as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
        });
        match sys::poll(&mut fds, timeout) {
            Ok(0) if away => self.look_for_foreground(),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(Failure::own(format!("poll: {}", e.desc()))),
        }
        let r = |n: usize| fds[n].revents != 0;
        let ready = Ready {
            signal: r(0),
            network: fds[1].revents & !libc::POLLOUT != 0,
            input: r(2),
            output: [r(3) && !idle_watch, r(4)],
            forward: r(5),
            nobody_reads: idle_watch && fds[3].revents & libc::POLLERR != 0,
        };
        self.fds = fds;
        Ok(ready)
    }
}

/// What `poll` said.
struct Ready {
    signal: bool,
    network: bool,
    input: bool,
    output: [bool; 2],
    forward: bool,
    /// Standard output of one who looks.
    nobody_reads: bool,
}
