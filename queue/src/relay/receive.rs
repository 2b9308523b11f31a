//! From the link to the local descriptors, and what the session says. Knows what each message means for us.

use super::sink::{broken, deliver};
use super::{End, PLENTY, ROUNDS, Relay};
use crate::messages::{Failure, Kind, link_reason, printable, say};
use libqueue::link::LinkError;
use libqueue::stream::{Channel, Event};
use libqueue::wire::{FromSession, LaunchError, LaunchFailed, from_session};
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

    pub(super) fn consumed(&mut self, channel: Channel, n: usize) {
        if n > 0 && !self.send_failed {
            self.send_failed = self.link.consumed(channel, n).is_err();
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
            from_session::Kind::Forward(m) => self.forwarded(m),
            from_session::Kind::Looked(_)
            | from_session::Kind::Detached(_)
            | from_session::Kind::Attached(_) => {}
            from_session::Kind::Notice(text) => {
                say(&format!("{}: {text}", self.host), self.keys.is_raw());
            }
        }
        Ok(())
    }

    pub(super) fn not_run(&self, f: &LaunchFailed) -> Failure {
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

    pub(super) fn lost(&self, e: &LinkError) -> Failure {
        Failure::own(format!(
            "connection to {} lost ({}): how the command ended is not known, what is left of it will be ended there",
            self.host,
            link_reason(e)
        ))
    }
}
