//! What the client sends: kept until it is dealt with, input until the command takes it. Knows events of the
//! stream; must not know what the control messages mean.

use super::Session;
use crate::pump::Sink;
use libqueue::link::LinkError;
use libqueue::stream::{Channel, Event, ProtocolError};
use libqueue::wire::ToSession;
use prost::Message as _;
use std::os::fd::AsRawFd as _;

/// What arrived and has not been dealt with yet.
pub(crate) struct Inbox {
    /// The first control message: the launch.
    pub(crate) launch: Option<Vec<u8>>,
    pub(super) sink: Sink,
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

    /// Whoever said all that has left: what he typed still goes to the command, and that is all.
    pub(super) fn forget(&mut self) {
        self.sink.disown();
        self.consumed = 0;
        self.ended = false;
        self.closed.clear();
        self.controls.clear();
    }

    /// Somebody else takes over, and this is what he has said so far.
    pub(super) fn take_over(&mut self, other: Self) {
        self.forget();
        self.consumed = self.sink.take(&other.sink.into_pending());
        self.controls = other.controls;
        self.ended = other.ended;
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

impl Session {
    pub(super) fn read_inbox(&mut self) -> Result<(), LinkError> {
        let consumed = std::mem::take(&mut self.inbox.consumed);
        if let Some(c) = &mut self.client {
            c.consumed(consumed)?;
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
                Err(_) => return Err(LinkError::Protocol(ProtocolError::Malformed)),
            }
        }
        Ok(())
    }

    /// The client no longer wants a channel: the command gets a broken pipe.
    pub(super) fn closed(&mut self, c: Channel) {
        let master = self.master.clone();
        self.sources.retain(|s| {
            let terminal = master
                .as_ref()
                .is_some_and(|m| m.as_raw_fd() == s.fd().as_raw_fd());
            s.channel != c || terminal
        });
    }

    pub(super) fn drain_input(&mut self) {
        let n = self.inbox.sink.drain();
        if let Some(Err(e)) = self.client.as_mut().map(|c| c.consumed(n)) {
            self.lost(&e);
        }
        self.stdin_closed();
    }

    pub(super) fn stdin_closed(&mut self) {
        if let Some(c) = &mut self.client
            && !c.is_told()
            && !self.inbox.sink.is_open()
            && !c.link.stream().is_ended(Channel::Stdin)
        {
            // An error here shows again at the next flush.
            let _ = c.link.send_close(Channel::Stdin);
        }
    }
}
