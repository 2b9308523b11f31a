//! From the link to the local descriptors, and what the session says. Knows what each message means for us.

use super::sink::{broken, deliver};
use super::{End, Leave, PLENTY, ROUNDS, Relay, Role, notice};
use crate::messages::{Failure, Kind, printable};
use libqueue::link::LinkError;
use libqueue::stream::{Channel, Event};
use libqueue::wire::{self, FromSession, LaunchError, LaunchFailed, from_session};
use prost::Message as _;
use std::io;

/// What the sink of one receive collects.
#[derive(Default)]
struct Batch {
    bytes: usize,
    written: [usize; 2],
    controls: Vec<from_session::Kind>,
    stdin_closed: bool,
}

impl Relay {
    /// Receives and delivers. A lost connection is an error unless the end was told before.
    pub(super) fn receive(&mut self) -> Result<(), Failure> {
        for _ in 0..ROUNDS {
            let mut batch = Batch::default();
            let (link, sinks, tee) = (&mut self.link, &mut self.sinks, &mut self.tee);
            let (failed, keys, screen) = (&mut self.failed, &mut self.keys, &mut self.screen);
            let screen_too = [self.tty[1], self.tty[2]];
            let result = link.receive(|event| match event {
                Event::Data(channel, data) => {
                    let n = usize::from(channel == Channel::Stderr);
                    batch.bytes += data.len();
                    // It has been started, then, and its output comes from a terminal that does line ends.
                    keys.start();
                    if let Some(t) = tee.as_mut() {
                        t.write(data, keys.is_raw());
                    }
                    if screen_too[n] {
                        screen.see(data);
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
            if batch.bytes > 0 {
                self.greet();
            }
            match result {
                _ if self.ended.is_some() || self.leaving.is_some() => return Ok(()),
                Err(e) => return self.broken(&e),
                // It has gone for good.
                Ok(_) if self.link.is_peer_closed() => {
                    return Err(self.lost(&LinkError::Io(io::ErrorKind::UnexpectedEof.into())));
                }
                Ok(true) if batch.bytes >= PLENTY => self.flush(),
                Ok(_) => return Ok(()),
            }
        }
        Ok(())
    }

    pub(super) fn consumed(&mut self, channel: Channel, n: usize) {
        if n > 0 {
            self.send_failed |= self.link.consumed(channel, n).is_err();
        }
    }

    /// Lets the command's own write fail as soon as ours did.
    pub(super) fn tell_broken(&mut self, n: usize, channel: Channel) {
        let sink = &mut self.sinks[n];
        if sink.broken && !sink.told {
            sink.told = true;
            self.send_failed |= self.link.send_close(channel).is_err();
        }
    }

    pub(super) fn drain(&mut self, n: usize) {
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

    pub(super) fn on_control(&mut self, kind: from_session::Kind) -> Result<(), Failure> {
        match kind {
            from_session::Kind::Started(s) => {
                self.keys.start();
                if let Some(r) = &mut self.resume {
                    r.set_grace(s.grace);
                }
            }
            from_session::Kind::Failed(f) => return Err(self.not_run(&f)),
            // Who only looks has no part in it.
            from_session::Kind::Stopped(_) if self.role == Role::Watch => {}
            from_session::Kind::Stopped(signal) => self.stopping = Some(signal as i32),
            from_session::Kind::Continued(_) => self.stopping = None,
            from_session::Kind::Ended(e) => {
                self.ended = Some(match (e.code, e.signal) {
                    (_, Some(signal)) => End::Signal(signal as i32),
                    (code, None) => End::Code(code.unwrap_or_default() as u8),
                });
                self.stopping = None;
            }
            from_session::Kind::Forward(m) => self.forwarded(m),
            from_session::Kind::Detached(d) => {
                self.leaving = Some(Leave {
                    said: notice::detached(&self.host, &d),
                    result: Ok(End::Code(0)),
                });
            }
            from_session::Kind::Attached(a) => self.attached(&a),
            from_session::Kind::Looked(_) => {}
            from_session::Kind::Pong(_) => self.pulse.is_known(),
            from_session::Kind::Notice(text) => {
                self.say(&format!("{}: {text}", self.host));
                if std::mem::take(&mut self.spoiled) {
                    self.redraw();
                }
            }
        }
        Ok(())
    }

    /// We are attached: from here on the keys are the command's.
    fn attached(&mut self, a: &wire::Attached) {
        self.keys.start();
        if let Some(r) = &mut self.resume {
            r.set_grace(a.grace);
        }
        // Behind the screen, which is about to come, if there is one.
        self.greet = self.watching.is_some() && self.escape.is_some();
        if a.tty.is_empty() {
            self.greet();
        }
        if self.role == Role::Watch
            && let (Some(theirs), Some(ours)) = (a.size, self.size)
            && (theirs.cols > ours.cols || theirs.rows > ours.rows)
        {
            self.say(&format!(
                "the window there has {} columns and {} lines, this one has fewer: not all of it can be seen",
                theirs.cols, theirs.rows
            ));
        }
    }

    /// Tells one who looks what he sees and how to leave it.
    fn greet(&mut self) {
        if std::mem::take(&mut self.greet)
            && let Some(id) = &self.watching
        {
            self.post(&format!("watching {id} on {} (q leaves)", self.host));
            // A program that fills the screen is shown whole again at the next key.
            self.helped = std::mem::take(&mut self.spoiled);
        }
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
}
