//! The session's byte stream as a pure state machine: numbered bytes per channel, credit per channel, and
//! control messages that no full channel can block. Bytes in, bytes out; no I/O, no clock.
//!
//! A frame is a byte with kind (high four bits) and channel (low four), a 24-bit big-endian length, and the
//! payload. Offsets are counted by both ends and not sent, because the transport keeps order; credit is an
//! absolute offset, so that a later resume only has to exchange offsets.
//!
//! Knows nothing of terminals, processes or TLS.

use std::fmt;

/// Length of a frame's head.
pub const HEAD: usize = 4;
/// Largest payload of a data frame: with its head exactly four TLS records.
pub const DATA_MAX: usize = 65_536 - HEAD;
/// Largest control message once the launch is through.
pub const CONTROL_MAX: usize = 64 * 1024;
/// Largest first control message: a whole environment and argument list (the kernel's own limit for both
/// together is 6 MiB).
pub const FIRST_CONTROL_MAX: usize = 8 << 20;
/// Bytes that may be under way on a channel beyond what its reader has consumed.
pub const WINDOW: u64 = 1 << 20;

/// A channel for bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Channel {
    /// From `queue` to the command.
    Stdin = 0,
    /// From the command, or its terminal.
    Stdout = 1,
    /// From the command, where it is apart.
    Stderr = 2,
}

impl Channel {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Stdin, Self::Stdout, Self::Stderr];

    fn from_u8(v: u8) -> Option<Self> {
        Self::ALL.get(usize::from(v)).copied()
    }
}

/// Which end of the stream this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `queue`: writes stdin, reads the others.
    Front,
    /// The session process.
    Session,
}

/// What arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Bytes of a channel, in order. Report them with [`Stream::consumed`] once they are written.
    Data(Channel, &'a [u8]),
    /// No more bytes on this channel.
    Eof(Channel),
    /// The peer no longer reads this channel: what is sent on it is thrown away (a broken pipe).
    Closed(Channel),
    /// A control message.
    Control(&'a [u8]),
}

/// The peer broke the rules; the connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolError {
    /// A kind or channel that does not exist.
    UnknownFrame(u8),
    /// Data on a channel that this end writes, or after its end.
    Unexpected(Channel),
    /// More data than credit was given for.
    OverCredit(Channel),
    /// A frame that is too long for its kind.
    TooLong(usize),
    /// Credit that shrinks, or a frame with the wrong length.
    Malformed,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownFrame(b) => write!(f, "unknown frame 0x{b:02x}"),
            Self::Unexpected(c) => write!(f, "unexpected data on {c:?}"),
            Self::OverCredit(c) => write!(f, "more data on {c:?} than was asked for"),
            Self::TooLong(n) => write!(f, "frame of {n} bytes"),
            Self::Malformed => f.write_str("malformed frame"),
        }
    }
}

impl std::error::Error for ProtocolError {}

const DATA: u8 = 0x00;
const EOF: u8 = 0x10;
const CLOSE: u8 = 0x20;
const CREDIT: u8 = 0x30;
const CONTROL: u8 = 0x40;

/// One channel as its writer sees it.
#[derive(Debug, Clone, Copy)]
struct Writing {
    sent: u64,
    limit: u64,
    ended: bool,
    closed: bool,
}

/// One channel as its reader sees it.
#[derive(Debug, Clone, Copy)]
struct Reading {
    received: u64,
    consumed: u64,
    granted: u64,
    ended: bool,
    closed: bool,
}

/// A frame that is not complete yet.
#[derive(Debug)]
enum Partial {
    /// Fewer than [`HEAD`] bytes of a head.
    Head([u8; HEAD], usize),
    /// Payload bytes of a data frame still to come.
    Data(Channel, usize),
    /// A small payload, collected.
    Body(u8, Vec<u8>, usize),
}

/// One end of a session's stream.
#[derive(Debug)]
pub struct Stream {
    role: Role,
    writing: [Writing; 3],
    reading: [Reading; 3],
    partial: Partial,
    first_control_seen: bool,
}

fn head(kind: u8, len: usize) -> [u8; HEAD] {
    let n = (len as u32).to_be_bytes();
    [kind, n[1], n[2], n[3]]
}

impl Stream {
    /// A fresh stream.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            writing: [Writing {
                sent: 0,
                limit: WINDOW,
                ended: false,
                closed: false,
            }; 3],
            reading: [Reading {
                received: 0,
                consumed: 0,
                granted: WINDOW,
                ended: false,
                closed: false,
            }; 3],
            partial: Partial::Head([0; HEAD], 0),
            first_control_seen: role == Role::Front,
        }
    }

    fn writes(&self, c: Channel) -> bool {
        (c == Channel::Stdin) == (self.role == Role::Front)
    }

    /// How many bytes may be sent on a channel now; 0 once it has ended or the peer closed it.
    pub fn credit(&self, c: Channel) -> usize {
        let w = &self.writing[c as usize];
        if w.ended || w.closed {
            0
        } else {
            (w.limit - w.sent) as usize
        }
    }

    /// Whether the peer stopped reading this channel.
    pub fn is_closed(&self, c: Channel) -> bool {
        self.writing[c as usize].closed
    }

    /// Whether the peer has ended this channel.
    pub fn is_ended(&self, c: Channel) -> bool {
        self.reading[c as usize].ended
    }

    /// Accounts for `len` bytes about to be sent and gives the head that goes in front of them. `len` must be
    /// at most [`Stream::credit`] and [`DATA_MAX`].
    pub fn data_head(&mut self, c: Channel, len: usize) -> [u8; HEAD] {
        debug_assert!(
            self.writes(c) && len <= self.credit(c) && len <= DATA_MAX,
            "{c:?} {len}"
        );
        self.writing[c as usize].sent += len as u64;
        head(DATA | c as u8, len)
    }

    /// Ends a channel; `None` if that was said before.
    pub fn eof(&mut self, c: Channel) -> Option<[u8; HEAD]> {
        let w = &mut self.writing[c as usize];
        (!std::mem::replace(&mut w.ended, true)).then(|| head(EOF | c as u8, 0))
    }

    /// Says that we no longer read a channel; what still comes is dropped. `None` if said before, or if the
    /// channel has ended.
    pub fn close(&mut self, c: Channel) -> Option<[u8; HEAD]> {
        let r = &mut self.reading[c as usize];
        let news = !r.closed && !r.ended;
        r.closed = true;
        news.then(|| head(CLOSE | c as u8, 0))
    }

    /// A control message.
    pub fn control(message: &[u8]) -> Vec<u8> {
        let mut v = Vec::with_capacity(HEAD + message.len());
        v.extend_from_slice(&head(CONTROL, message.len()));
        v.extend_from_slice(message);
        v
    }

    /// Notes that `n` received bytes have gone where they belong; gives a credit frame when it is time.
    pub fn consumed(&mut self, c: Channel, n: usize) -> Option<[u8; HEAD + 8]> {
        let r = &mut self.reading[c as usize];
        r.consumed += n as u64;
        debug_assert!(r.consumed <= r.received);
        let limit = r.consumed + WINDOW;
        if r.ended || r.closed || limit - r.granted < WINDOW / 4 {
            return None;
        }
        r.granted = limit;
        let mut f = [0; HEAD + 8];
        f[..HEAD].copy_from_slice(&head(CREDIT | c as u8, 8));
        f[HEAD..].copy_from_slice(&limit.to_be_bytes());
        Some(f)
    }

    /// Takes bytes from the transport and tells the sink what they mean. Data is told piece by piece as it
    /// comes, without waiting for the end of its frame. After an error the stream must not be used again.
    ///
    /// # Errors
    /// The peer broke the rules.
    pub fn receive<'a>(
        &mut self,
        mut input: &'a [u8],
        mut sink: impl FnMut(Event<'_>),
    ) -> Result<(), ProtocolError> {
        while !input.is_empty() {
            match &mut self.partial {
                Partial::Head(bytes, have) => {
                    let n = (HEAD - *have).min(input.len());
                    bytes[*have..*have + n].copy_from_slice(&input[..n]);
                    *have += n;
                    input = &input[n..];
                    if *have == HEAD {
                        let h = *bytes;
                        self.begin(h, &mut sink)?;
                    }
                }
                Partial::Data(c, left) => {
                    let (c, n) = (*c, (*left).min(input.len()));
                    let (now, rest): (&'a [u8], &'a [u8]) = input.split_at(n);
                    input = rest;
                    *left -= n;
                    if *left == 0 {
                        self.partial = Partial::Head([0; HEAD], 0);
                    }
                    let r = &mut self.reading[c as usize];
                    r.received += n as u64;
                    if r.closed {
                        r.consumed += n as u64;
                    } else {
                        sink(Event::Data(c, now));
                    }
                }
                Partial::Body(kind, body, want) => {
                    let n = (*want - body.len()).min(input.len());
                    body.extend_from_slice(&input[..n]);
                    input = &input[n..];
                    if body.len() == *want {
                        let (kind, body) = (*kind, std::mem::take(body));
                        self.partial = Partial::Head([0; HEAD], 0);
                        self.body(kind, &body, &mut sink)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, h: [u8; HEAD], sink: &mut impl FnMut(Event<'_>)) -> Result<(), ProtocolError> {
        self.partial = Partial::Head([0; HEAD], 0);
        let len = u32::from_be_bytes([0, h[1], h[2], h[3]]) as usize;
        let kind = h[0] & 0xf0;
        let unknown = ProtocolError::UnknownFrame(h[0]);
        if kind == CONTROL {
            let max = if self.first_control_seen {
                CONTROL_MAX
            } else {
                FIRST_CONTROL_MAX
            };
            if h[0] != CONTROL {
                return Err(unknown);
            }
            if len > max {
                return Err(ProtocolError::TooLong(len));
            }
            self.first_control_seen = true;
            if len == 0 {
                sink(Event::Control(&[]));
            } else {
                // Grows as bytes really come: a length alone allocates nothing to speak of.
                self.partial = Partial::Body(CONTROL, Vec::with_capacity(len.min(CONTROL_MAX)), len);
            }
            return Ok(());
        }
        let c = Channel::from_u8(h[0] & 0x0f).ok_or(unknown)?;
        let ours = self.writes(c);
        match (kind, len) {
            (DATA, _) => {
                let r = &self.reading[c as usize];
                if ours || r.ended {
                    return Err(ProtocolError::Unexpected(c));
                }
                if len > DATA_MAX {
                    return Err(ProtocolError::TooLong(len));
                }
                if !r.closed && r.received + len as u64 > r.granted {
                    return Err(ProtocolError::OverCredit(c));
                }
                if len > 0 {
                    self.partial = Partial::Data(c, len);
                }
            }
            (EOF, 0) => {
                let r = &mut self.reading[c as usize];
                if ours || r.ended {
                    return Err(ProtocolError::Unexpected(c));
                }
                r.ended = true;
                if !r.closed {
                    sink(Event::Eof(c));
                }
            }
            (CLOSE, 0) if ours => {
                if !std::mem::replace(&mut self.writing[c as usize].closed, true) {
                    sink(Event::Closed(c));
                }
            }
            (CREDIT, 8) if ours => self.partial = Partial::Body(h[0], Vec::with_capacity(8), 8),
            (EOF | CLOSE | CREDIT, _) => return Err(ProtocolError::Malformed),
            _ => return Err(unknown),
        }
        Ok(())
    }

    fn body(&mut self, kind: u8, body: &[u8], sink: &mut impl FnMut(Event<'_>)) -> Result<(), ProtocolError> {
        if kind == CONTROL {
            sink(Event::Control(body));
            return Ok(());
        }
        let limit = u64::from_be_bytes(body.try_into().map_err(|_| ProtocolError::Malformed)?);
        let w = &mut self.writing[usize::from(kind & 0x0f)];
        // Never backwards, and never more than a window past what was sent: that could not have been consumed.
        if limit < w.limit || limit > w.sent + WINDOW {
            return Err(ProtocolError::Malformed);
        }
        w.limit = limit;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
