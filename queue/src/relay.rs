//! The loop between the local descriptors and the session, until the command has ended.
//!
//! Knows what each message means for the local process: the proxy rule. It never waits anywhere but in its
//! `poll`, so a slow reader of one channel delays neither signals nor the other channel.

use crate::input::{Got, Input};
use crate::keyboard::Keyboard;
use crate::launch::Session;
use crate::messages::{Failure, Kind, link_reason, printable, say};
use crate::output::Output;
use crate::plan::{Facts, PtyFor};
use crate::signals::{self, Inherited, Received, Signals};
use crate::sys;
use crate::tee::Tee;
use crate::terminal::{self, Terminal};
use libqueue::link::{Link, LinkError};
use libqueue::stream::{Channel, Event};
use libqueue::wire::{
    Empty, FromSession, LaunchError, LaunchFailed, ToSession, Winsize, from_session, to_session,
};
use nix::errno::Errno;
use nix::libc;
use prost::Message as _;
use std::io;
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

/// What the sink of one receive collects.
#[derive(Default)]
struct Batch {
    bytes: usize,
    written: [usize; 2],
    controls: Vec<from_session::Kind>,
    stdin_closed: bool,
}

/// Standard output or error as a channel's destination.
struct Sink {
    output: Output,
    /// Nobody reads it any more, or it failed.
    broken: bool,
    /// The peer was told.
    told: bool,
    /// The command has closed it: so shall we, once everything is written.
    ended: bool,
}

impl Sink {
    fn new(n: usize, pty: Option<PtyFor>) -> Self {
        Self {
            output: Output::new(n, !pty.is_some_and(|p| p.fds[n] && p.fds[0])),
            broken: false,
            told: false,
            ended: false,
        }
    }

    fn close_if_done(&mut self) {
        if self.ended && !self.output.is_waiting() {
            self.ended = false;
            self.output.close();
        }
    }
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
        loop {
            if let Some(signal) = self.stopping.take() {
                self.stop(signal);
            }
            self.flush();
            if let Some(end) = self.ended
                && !self.sinks.iter().any(|s| s.output.is_waiting())
            {
                return self.finish(end);
            }
            let ready = self.wait()?;
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
        let mut fds = [NONE; 5];
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
        for (fd, sink) in fds[3..].iter_mut().zip(&self.sinks) {
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
        })
    }

    /// Receives and delivers. A lost connection is an error unless the end was told before.
    fn receive(&mut self) -> Result<(), Failure> {
        for _ in 0..ROUNDS {
            let mut batch = Batch::default();
            let (link, sinks, tee) = (&mut self.link, &mut self.sinks, &mut self.tee);
            let (failed, keys) = (&mut self.failed, &mut self.keys);
            let result = link.receive(|event| match event {
                Event::Data(channel, data) => {
                    let n = usize::from(channel == Channel::Stderr);
                    batch.bytes += data.len();
                    // It has been started, then, and its output comes from a terminal that does line ends.
                    keys.start();
                    if let Some(t) = tee.as_mut() {
                        t.write(data, keys.is_raw());
                    }
                    batch.written[n] += deliver(&mut sinks[n], n, data, failed);
                }
                Event::Control(message) => {
                    // What a newer version says beyond this has to do without our understanding.
                    if let Ok(FromSession { kind: Some(kind) }) = FromSession::decode(message) {
                        batch.controls.push(kind);
                    }
                }
                Event::Closed(_) => batch.stdin_closed = true,
                Event::Eof(channel) => sinks[usize::from(channel == Channel::Stderr)].ended = true,
            });
            for (n, channel) in [Channel::Stdout, Channel::Stderr].into_iter().enumerate() {
                self.consumed(channel, batch.written[n]);
                self.tell_broken(n, channel);
                self.sinks[n].close_if_done();
            }
            if batch.stdin_closed
                && let Some(mut input) = self.input.take()
            {
                input.close();
            }
            for kind in batch.controls {
                self.on_control(kind)?;
            }
            match result {
                _ if self.ended.is_some() => return Ok(()),
                Err(e) => return Err(self.lost(&e)),
                Ok(_) if self.link.is_peer_closed() => {
                    return Err(self.lost(&LinkError::Io(io::ErrorKind::UnexpectedEof.into())));
                }
                Ok(true) if batch.bytes >= PLENTY => self.flush(),
                Ok(_) => return Ok(()),
            }
        }
        Ok(())
    }

    fn consumed(&mut self, channel: Channel, n: usize) {
        if n > 0 && !self.send_failed {
            self.send_failed = self.link.consumed(channel, n).is_err();
        }
    }

    /// Lets the command's own write fail as soon as ours did.
    fn tell_broken(&mut self, n: usize, channel: Channel) {
        let sink = &mut self.sinks[n];
        if sink.broken && !sink.told {
            sink.told = true;
            self.send_failed |= self.link.send_close(channel).is_err();
        }
    }

    fn drain(&mut self, n: usize) {
        let channel = if n == 0 { Channel::Stdout } else { Channel::Stderr };
        let sink = &mut self.sinks[n];
        match sink.output.drain() {
            Ok(written) => self.consumed(channel, written),
            Err(e) => {
                broken(sink, n, e, &mut self.failed);
                self.tell_broken(n, channel);
            }
        }
        self.sinks[n].close_if_done();
    }

    fn read_input(&mut self) {
        for _ in 0..ROUNDS {
            let Some(input) = &mut self.input else { return };
            if self.send_failed {
                return;
            }
            let space = self.link.space(Channel::Stdin);
            if space.is_empty() {
                return;
            }
            let sent = match input.read(space) {
                Got::Bytes(n) => self.link.commit(Channel::Stdin, n).map(|()| n),
                Got::Nothing => return,
                Got::Background => {
                    self.keys.lost();
                    return;
                }
                // Not under nohup, though: that is what it is for.
                Got::End if self.signals.has(libc::SIGHUP) && self.terminal_is_gone() => {
                    self.hang_up();
                    return;
                }
                Got::End => {
                    self.input = None;
                    self.link.send_eof(Channel::Stdin).map(|()| 0)
                }
            };
            // Sent by the loop, once for all: the other end is woken up less often.
            match sent {
                Ok(n) if n >= PLENTY => {}
                Ok(_) => return,
                Err(_) => self.send_failed = true,
            }
        }
    }

    fn control(&mut self, kind: to_session::Kind) {
        if !self.send_failed {
            let message = ToSession { kind: Some(kind) }.encode_to_vec();
            self.send_failed = self.link.send_control(&message).is_err();
        }
    }

    fn on_control(&mut self, kind: from_session::Kind) -> Result<(), Failure> {
        match kind {
            from_session::Kind::Started(_) => self.keys.start(),
            from_session::Kind::Failed(f) => return Err(self.not_run(&f)),
            from_session::Kind::Stopped(signal) => self.stopping = Some(signal as i32),
            from_session::Kind::Continued(_) => self.stopping = None,
            from_session::Kind::Ended(e) => {
                self.ended = Some(match (e.code, e.signal) {
                    (_, Some(signal)) => End::Signal(signal as i32),
                    (code, None) => End::Code(code.unwrap_or_default() as u8),
                });
                self.stopping = None;
            }
            from_session::Kind::Looked(_)
            | from_session::Kind::Detached(_)
            | from_session::Kind::Attached(_)
            | from_session::Kind::Forward(_) => {}
            from_session::Kind::Notice(text) => {
                say(&format!("{}: {text}", self.host), self.keys.is_raw());
            }
        }
        Ok(())
    }

    fn not_run(&self, f: &LaunchFailed) -> Failure {
        let kind = match f.code() {
            LaunchError::NotFound => Kind::NotFound,
            LaunchError::NotExecutable => Kind::NotExecutable,
            _ => Kind::Own,
        };
        Failure {
            kind,
            text: format!("{}: {}", self.host, printable(&f.text)),
        }
    }

    fn lost(&self, e: &LinkError) -> Failure {
        Failure::own(format!(
            "connection to {} lost ({}): how the command ended is not known, what is left of it will be ended there",
            self.host,
            link_reason(e)
        ))
    }

    /// A signal for us. `Some`: nothing is left to forward it to, and it ends us.
    fn on_signal(&mut self, r: Received) -> Option<End> {
        if r.own {
            return None;
        }
        if self.ended.is_some() {
            // Only a slow reader keeps us; a local command would be in its write now and die of it.
            return signals::is_fatal(r.signal).then_some(End::Signal(r.signal));
        }
        if !self.keys.is_started() && signals::is_fatal(r.signal) {
            // The first one is for the command, which may run by now; a second one is for us.
            if std::mem::replace(&mut self.interrupted, true) {
                return Some(End::Signal(r.signal));
            }
        }
        match r.signal {
            libc::SIGCONT => self.continued(),
            libc::SIGWINCH if self.pty => {
                let size = terminal::size();
                match size {
                    Some(s) if size != self.size => {
                        self.size = size;
                        self.control(to_session::Kind::Resize(s));
                    }
                    // Sent by hand: the size there would not change and nobody be told.
                    _ => self.control(to_session::Kind::Signal(libc::SIGWINCH as u32)),
                }
            }
            libc::SIGHUP if self.terminal_is_gone() => self.hang_up(),
            signal => self.control(to_session::Kind::Signal(signal as u32)),
        }
        None
    }

    /// Our terminal is gone for good: nobody is left to look after the command.
    fn hang_up(&mut self) {
        self.hangup.get_or_insert(Instant::now() + HANGUP);
        self.input = None;
        self.keys.gone();
        self.control(to_session::Kind::Hangup(Empty {}));
    }

    fn terminal_is_gone(&self) -> bool {
        if !self.input.as_ref().is_some_and(|i| i.tty) {
            return false;
        }
        let mut fd = [libc::pollfd {
            fd: 0,
            events: 0,
            revents: 0,
        }];
        sys::poll(&mut fd, 0).is_ok() && fd[0].revents & (libc::POLLHUP | libc::POLLERR) != 0
    }

    /// Stops as the command did. A stop from a keyboard stops the whole job: had the command been here, the
    /// terminal would have sent the signal to all of our process group (a script that runs us, the rest of a
    /// pipeline), and the shell waits for all of them. Every other stop concerns us alone.
    fn stop(&mut self, signal: i32) {
        let by_key = signal == libc::SIGTSTP && self.keys.is_raw();
        self.flush();
        self.keys.give_back();
        self.signals.stop(signal, by_key);
        if !self.signals.has(libc::SIGCONT) {
            self.continued();
        }
    }

    /// We were continued, in the foreground or not.
    fn continued(&mut self) {
        self.look_for_foreground();
        self.control(to_session::Kind::Continue(Empty {}));
    }

    fn look_for_foreground(&mut self) {
        // It may have been closed while it was not ours to read.
        if self.signals.has(libc::SIGHUP) && self.terminal_is_gone() {
            return self.hang_up();
        }
        if self.keys.look()
            && self.pty
            && let Some(size) = terminal::size()
        {
            self.size = Some(size);
            self.control(to_session::Kind::Resize(size));
        }
    }
}

/// What `poll` said.
struct Ready {
    signal: bool,
    network: bool,
    input: bool,
    output: [bool; 2],
}

/// Gives bytes to a local descriptor; how many need no more waiting for (written, or dropped for good).
fn deliver(sink: &mut Sink, n: usize, data: &[u8], failed: &mut Option<Failure>) -> usize {
    if sink.broken {
        return data.len();
    }
    sink.output.write(data).unwrap_or_else(|e| {
        let waiting = sink.output.discard();
        broken(sink, n, e, failed);
        waiting + data.len()
    })
}

/// Nobody reads it: the command learns that and decides. Any other error means lost output, which no exit code
/// of the command may hide.
fn broken(sink: &mut Sink, n: usize, e: Errno, failed: &mut Option<Failure>) {
    sink.broken = true;
    sink.output.discard();
    if !matches!(e, Errno::EPIPE | Errno::ECONNRESET | Errno::EIO) {
        let name = if n == 0 {
            "standard output"
        } else {
            "standard error"
        };
        failed.get_or_insert_with(|| Failure::own(format!("{name}: {}: output is lost", e.desc())));
    }
}
