//! Forwarded connections (X11, the authentication agent) inside a session's control messages: which are open, what
//! each end may still send, what waits to be written. Pure: messages in, messages out; both ends use it.
//!
//! ```text
//! session                      queue
//!   Open(service) ─────────────▶   somebody connected there; here the display or the agent is connected to
//!   Data ◀───────────────────────▶ at most [`WINDOW`] bytes beyond what the other end has written
//!   Credit ◀─────────────────────▶ so many of them are written
//!   Eof ◀────────────────────────▶ nothing more in this direction
//!   Close ◀──────────────────────▶ over; the other end answers with its own, and then the number is free
//! ```
//!
//! A connection counts until both have said `Close`, so both always agree that no more than [`MAX`] are open. Numbers
//! only grow and are never used again, so a message about a connection that is over changes nothing. A peer that
//! breaks a rule loses that connection; the session goes on.
//!
//! Knows numbers and bytes; must not know sockets, X11, or what the stream below does. [`pump`] has the sockets.

pub mod pump;
mod watch;

use crate::wire::{Empty, Forward, Service, forward::Kind};
use std::collections::{BTreeMap, VecDeque};

/// Bytes of one direction of a connection that may be under way: sent, and not written at the other end.
pub const WINDOW: u32 = 128 * 1024;
/// Connections that may be open at once in a session.
pub const MAX: usize = 64;
/// Most bytes in one message, so that what else the session has to say does not wait for long.
pub const DATA_MAX: usize = 16 * 1024;
/// Most that is told of a reason.
const REASON_MAX: usize = 200;

/// Which end this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where the command runs: it alone opens.
    Session,
    /// `queue`.
    Front,
}

/// What a message of the peer's was about.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A new connection.
    Opened(u32, Service),
    /// There is more to be written, or less to be waited for.
    News(u32),
    /// It is over: the peer said so, or broke a rule. These bytes had come before and were not written yet.
    Over(u32, Vec<u8>),
    /// Nothing to do: about a connection that is over, or from a newer version.
    Nothing,
}

/// One connection.
#[derive(Debug)]
struct Entry {
    service: Service,
    /// Bytes that may be sent.
    credit: u32,
    /// Bytes that the peer may send.
    allowed: u32,
    /// Bytes that were written and that the peer has not been told of.
    written: u32,
    /// Bytes that came; those before `at` are written.
    waiting: Vec<u8>,
    at: usize,
    eof_sent: bool,
    eof_came: bool,
    /// We said that it is over, and the peer has not yet.
    closed: bool,
    /// The peer said so, and we have still to write what came before.
    peer_closed: bool,
}

impl Entry {
    fn new(service: Service) -> Self {
        Self {
            service,
            credit: WINDOW,
            allowed: WINDOW,
            written: 0,
            waiting: Vec::new(),
            at: 0,
            eof_sent: false,
            eof_came: false,
            closed: false,
            peer_closed: false,
        }
    }

    /// Takes what came; whether it was within the rules.
    fn take(&mut self, kind: Kind) -> bool {
        match kind {
            Kind::Data(bytes) => {
                let Some(left) = u32::try_from(bytes.len())
                    .ok()
                    .and_then(|n| self.allowed.checked_sub(n))
                else {
                    return false;
                };
                if self.eof_came {
                    return false;
                }
                self.allowed = left;
                self.waiting.extend_from_slice(&bytes);
                true
            }
            Kind::Eof(_) => !std::mem::replace(&mut self.eof_came, true),
            Kind::Credit(n) => match self.credit.checked_add(n) {
                Some(sum) if sum <= WINDOW => {
                    self.credit = sum;
                    true
                }
                _ => false,
            },
            // Its number is in use.
            Kind::Open(_) => false,
            Kind::Close(_) => true,
        }
    }
}

/// All forwarded connections of a session, as one end sees them.
#[derive(Debug)]
pub struct Table {
    side: Side,
    open: BTreeMap<u32, Entry>,
    /// Highest number that was ever used.
    last: u32,
    out: VecDeque<Forward>,
    /// No connection is wanted any more.
    over: bool,
}

impl Table {
    /// Nothing open.
    pub fn new(side: Side) -> Self {
        Self {
            side,
            open: BTreeMap::new(),
            last: 0,
            out: VecDeque::new(),
            over: false,
        }
    }

    /// Messages for the peer, to be sent in this order.
    pub fn outgoing(&mut self) -> Option<Forward> {
        self.out.pop_front()
    }

    /// How many connections are open, those included that the peer has still to close.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn say(&mut self, id: u32, kind: Kind) {
        self.out.push_back(Forward { id, kind: Some(kind) });
    }

    /// The session: somebody connected. `None`: as many as may be are open already, or nothing is forwarded any more.
    pub fn open(&mut self, service: Service) -> Option<u32> {
        if self.side != Side::Session || self.over || self.open.len() >= MAX {
            return None;
        }
        self.last = self.last.checked_add(1)?;
        self.open.insert(self.last, Entry::new(service));
        self.say(self.last, Kind::Open(service as i32));
        Some(self.last)
    }

    /// What a connection is for; `None`: it is over.
    pub fn service(&self, id: u32) -> Option<Service> {
        self.live(id).map(|e| e.service)
    }

    /// How many bytes may be sent on a connection now: at most one message.
    pub fn room(&self, id: u32) -> usize {
        self.live(id)
            .filter(|e| !e.eof_sent)
            .map_or(0, |e| (e.credit as usize).min(DATA_MAX))
    }

    /// Sends bytes, at most [`room`](Self::room).
    pub fn send(&mut self, id: u32, bytes: &[u8]) {
        let n = bytes.len();
        debug_assert!(n <= self.room(id), "{n} bytes on {id}");
        if let Some(e) = self.open.get_mut(&id).filter(|e| !e.closed)
            && n > 0
        {
            e.credit = e.credit.saturating_sub(n as u32);
            self.say(id, Kind::Data(bytes.to_vec()));
        }
    }

    /// Whether our direction has ended.
    pub fn is_ended(&self, id: u32) -> bool {
        self.live(id).is_none_or(|e| e.eof_sent)
    }

    /// Nothing more will be sent. Once both directions have ended and all is written, the connection is over.
    pub fn end(&mut self, id: u32) {
        if let Some(e) = self.open.get_mut(&id).filter(|e| !e.closed)
            && !std::mem::replace(&mut e.eof_sent, true)
        {
            self.say(id, Kind::Eof(Empty {}));
            self.finish(id);
        }
    }

    /// Bytes to be written here.
    pub fn waiting(&self, id: u32) -> &[u8] {
        self.live(id).map_or(&[], |e| &e.waiting[e.at..])
    }

    /// Whether nothing more will come than what waits.
    pub fn is_peer_ended(&self, id: u32) -> bool {
        self.live(id).is_none_or(|e| e.eof_came)
    }

    /// The first `n` bytes of [`waiting`](Self::waiting) are written: the peer gets credit when it is time.
    pub fn written(&mut self, id: u32, n: usize) {
        let Some(e) = self.open.get_mut(&id).filter(|e| !e.closed) else {
            return;
        };
        let n = n.min(e.waiting.len() - e.at);
        e.at += n;
        if e.at == e.waiting.len() {
            // A connection that is quiet keeps no memory.
            e.waiting = Vec::new();
            e.at = 0;
        } else if e.at >= DATA_MAX {
            e.waiting.drain(..e.at);
            e.at = 0;
        }
        e.written += n as u32;
        if e.written >= WINDOW / 4 && !e.eof_came {
            let n = std::mem::take(&mut e.written);
            e.allowed += n;
            self.say(id, Kind::Credit(n));
        }
        self.finish(id);
    }

    /// Both directions have ended, and nothing waits.
    fn finish(&mut self, id: u32) {
        if self
            .live(id)
            .is_some_and(|e| e.eof_sent && e.eof_came && e.at == e.waiting.len())
        {
            self.close(id, "");
        }
    }

    /// Ends a connection in both directions. What waits is thrown away.
    pub fn close(&mut self, id: u32, reason: &str) {
        if let Some(e) = self.open.get_mut(&id).filter(|e| !e.closed) {
            e.closed = true;
            (e.waiting, e.at) = (Vec::new(), 0);
            if e.peer_closed {
                self.open.remove(&id);
            }
            let cut = reason.floor_char_boundary(REASON_MAX);
            self.say(id, Kind::Close(reason[..cut].to_owned()));
        }
    }

    /// Ends all connections, and opens none from now on.
    pub fn give_up(&mut self, reason: &str) {
        self.over = true;
        for id in self.ids() {
            self.close(id, reason);
        }
    }

    /// Whether [`give_up`](Self::give_up) was called.
    pub fn has_given_up(&self) -> bool {
        self.over
    }

    /// The connections that are not over.
    pub fn ids(&self) -> Vec<u32> {
        let live = self.open.iter().filter(|(_, e)| !e.closed);
        live.map(|(id, _)| *id).collect()
    }

    fn live(&self, id: u32) -> Option<&Entry> {
        self.open.get(&id).filter(|e| !e.closed)
    }

    /// Takes a message of the peer's.
    pub fn receive(&mut self, message: Forward) -> Heard {
        let Forward { id, kind: Some(kind) } = message else {
            return Heard::Nothing;
        };
        let Some(e) = self.open.get_mut(&id) else {
            return match kind {
                Kind::Open(service) => self.opened(id, service),
                _ => Heard::Nothing,
            };
        };
        if let Kind::Close(_) = kind {
            if e.eof_came && e.eof_sent && !e.closed && !e.peer_closed {
                // It is done; we are slower.
                e.peer_closed = true;
                return Heard::News(id);
            }
            let (told, rest) = (e.closed, e.waiting.split_off(e.at));
            if !told {
                self.say(id, Kind::Close(String::new()));
            }
            self.open.remove(&id);
            return if told {
                Heard::Nothing
            } else {
                Heard::Over(id, rest)
            };
        }
        if e.closed {
            return Heard::Nothing;
        }
        if !e.take(kind) {
            self.close(id, "the other end broke the rules of forwarding");
            return Heard::Over(id, Vec::new());
        }
        self.finish(id);
        if self.live(id).is_none() {
            return Heard::Over(id, Vec::new());
        }
        Heard::News(id)
    }

    fn opened(&mut self, id: u32, service: i32) -> Heard {
        // A number that was used before belongs to a connection that is over.
        if self.side != Side::Front || id <= self.last {
            return Heard::Nothing;
        }
        self.last = id;
        let service = Service::try_from(service).unwrap_or(Service::Unknown);
        let refused = if self.over {
            "nothing is forwarded any more"
        } else if self.open.len() >= MAX {
            "too many forwarded connections"
        } else if service == Service::Unknown {
            "that service is not known here"
        } else {
            self.open.insert(id, Entry::new(service));
            return Heard::Opened(id, service);
        };
        // It never was in the table, so the answer to this finds nothing.
        self.say(id, Kind::Close(refused.to_owned()));
        Heard::Nothing
    }
}

#[cfg(test)]
mod tests;
