//! The loop between the local descriptors and the session, until the command has ended.
//!
//! Knows what each message means for the local process: the proxy rule. It never waits anywhere but in its
//! `poll`, so a slow reader of one channel delays neither signals nor the other channel.

mod forward;
mod local;
mod receive;
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
use libqueue::link::Link;
use libqueue::stream::Channel;
use libqueue::wire::Winsize;
use nix::errno::Errno;
use nix::libc;
use sink::Sink;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

/// While we are in the background of our terminal: how often to see whether we still are. A shell's `fg` tells
/// a running job nothing.
const FOREGROUND_CHECK: i32 = 200;
/// How long to wait for the end of the command after our terminal went away.
const HANGUP: Duration = Duration::from_secs(8);
/// A receive that brought at least this much is followed by another one without asking `poll`.
const PLENTY: usize = 16 * 1024;
/// How many reads or receives may follow each other before the rest gets its turn.
const ROUNDS: usize = 8;

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With this exit code.
    Code(u8),
    /// By this signal.
    Signal(i32),
}

/// Runs the session to its end. The terminal is as before afterwards, however this returns.
///
/// # Errors
/// Nothing was run, the connection was lost, or output could not be written.
pub fn run(
    session: Session,
    facts: &Facts,
    pty: Option<PtyFor>,
    inherited: Inherited,
    tee: Option<Tee>,
    forwarding: Option<Forwarding>,
) -> Result<End, Failure> {
    let signals = Signals::catch(inherited).map_err(|e| Failure::own(format!("signals: {e}")))?;
    let keyboard = pty.is_some_and(|p| p.fds[0]) && facts.tty[0];
    let mut relay = Relay {
        link: session.link,
        host: printable(&session.host),
        signals,
        // The terminal on standard output shows what the remote one made of it, or plain lines.
        keys: Keyboard::new(
            keyboard.then(|| Terminal::new(pty.is_some_and(|p| p.fds[1]) && facts.tty[1])),
            facts.tty[0],
        ),
        input: (!session.no_stdin).then(|| Input::new(facts.tty[0])),
        interrupted: false,
        sinks: [Sink::new(1, pty), Sink::new(2, pty)],
        tee,
        forwarding,
        pty: pty.is_some(),
        size: terminal::size(),
        send_failed: false,
        ended: None,
        failed: None,
        stopping: None,
        hangup: None,
    };
    if session.way.is_some() {
        relay.link.make_resumable();
    }
    relay
        .link
        .send_control(&session.launch)
        .map_err(|e| relay.lost(&e))?;
    let result = relay.run();
    relay.keys.give_back();
    // The process ends now, and the kernel takes the rest back faster than we could give it.
    std::mem::forget(relay);
    result
}

struct Relay {
    link: Link,
    host: String,
    signals: Signals,
    keys: Keyboard,
    input: Option<Input>,
    /// A signal that would have ended us came before the command ran.
    interrupted: bool,
    sinks: [Sink; 2],
    tee: Option<Tee>,
    /// What of the session is forwarded to here.
    forwarding: Option<Forwarding>,
    pty: bool,
    size: Option<Winsize>,
    /// Sending failed; what the peer said before is still worth reading.
    send_failed: bool,
    ended: Option<End>,
    /// Something of ours failed on the way: the end is a failure whatever the command says.
    failed: Option<Failure>,
    /// The command stopped: so shall we.
    stopping: Option<i32>,
    hangup: Option<Instant>,
}

impl Relay {
    fn run(&mut self) -> Result<End, Failure> {
        let mut forwards = false;
        loop {
            if let Some(signal) = self.stopping.take() {
                self.stop(signal);
            }
            self.forward(forwards);
            self.flush();
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
            self.send_failed = self.link.flush().is_err();
        }
    }

    fn wait(&mut self) -> Result<Ready, Failure> {
        const NONE: libc::pollfd = libc::pollfd {
            fd: -1,
            events: 0,
            revents: 0,
        };
        let mut fds = [NONE; 6];
        fds[0] = libc::pollfd {
            fd: self.signals.raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        if self.ended.is_none() {
            let out = if self.link.backlog() > 0 && !self.send_failed {
                libc::POLLOUT
            } else {
                0
            };
            fds[1] = libc::pollfd {
                fd: self.link.socket().map_or(-1, |s| s.as_raw_fd()),
                events: libc::POLLIN | out,
                revents: 0,
            };
            if let Some(input) = &self.input
                && self.keys.may_read()
                && !self.send_failed
                && self.link.room(Channel::Stdin) > 0
            {
                fds[2] = libc::pollfd {
                    fd: input.raw_fd(),
                    events: libc::POLLIN,
                    revents: 0,
                };
            }
        }
        if let Some(f) = &self.forwarding {
            fds[5] = libc::pollfd {
                fd: f.fd().as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
        }
        for (fd, sink) in fds[3..5].iter_mut().zip(&self.sinks) {
            if sink.output.is_waiting() {
                *fd = libc::pollfd {
                    fd: sink.output.raw_fd(),
                    events: libc::POLLOUT,
                    revents: 0,
                };
            }
        }
        let away = self.keys.is_away() && self.ended.is_none();
        let mut timeout = if away { FOREGROUND_CHECK } else { -1 };
        if let Some(end) = self.hangup {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::own(format!(
                    "the terminal was closed; {} does not say whether the command has ended",
                    self.host
                )));
            }
            timeout = left.as_millis() as i32 + 1;
        }
        match sys::poll(&mut fds, timeout) {
            Ok(0) if away => self.look_for_foreground(),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(Failure::own(format!("poll: {}", e.desc()))),
        }
        let r = |n: usize| fds[n].revents != 0;
        Ok(Ready {
            signal: r(0),
            network: fds[1].revents & !libc::POLLOUT != 0,
            input: r(2),
            output: [r(3), r(4)],
            forward: r(5),
        })
    }
}

/// What `poll` said.
struct Ready {
    signal: bool,
    network: bool,
    input: bool,
    output: [bool; 2],
    forward: bool,
}
