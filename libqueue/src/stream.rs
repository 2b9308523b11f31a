//! The session's byte stream as a pure state machine: numbered bytes per channel, credit per channel, and
//! control messages that no full channel can block. Bytes in, bytes out; no I/O, no clock.
//!
//! A frame is a byte with kind (high four bits) and channel (low four), a 24-bit big-endian length, and the
//! payload. Offsets are counted by both ends and not sent, because the transport keeps order; credit is an
//! absolute offset.
//!
//! The stream outlives its connection where both ends know how: all frames of a direction are one sequence of
//! numbered bytes; each end keeps what the other has not acknowledged, and on a new connection both say how many
//! bytes they have and go on from there, in the middle of a frame if need be. So no byte is lost and none comes
//! twice. What is kept is bounded by the credit of the channels.
//!
//! Knows nothing of terminals, processes or TLS.

mod kept;

use kept::Kept;

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
const ACK: u8 = 0x50;

/// Received bytes that are acknowledged by themselves; as often as credit is given, so that it costs no packet of
/// its own.
const ACK_EVERY: u64 = WINDOW / 4;
/// Received bytes that are acknowledged together with something else that is sent.
const ACK_ALONG: u64 = 4096;
/// Bytes of frames that are neither data nor bounded by credit (control messages), beyond which a peer that has not
/// been heard of for long gets no more of them.
pub const CONTROL_BACKLOG: u64 = 16 << 20;

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
    kept: Kept,
    resumable: bool,
    /// Bytes of the peer's sequence that came, and how many of them it was told of.
    received: u64,
    acknowledged: u64,
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
            kept: Kept::default(),
            resumable: false,
            received: 0,
            acknowledged: 0,
        }
    }

    /// From now on what is sent is kept until the peer acknowledges it, and what comes is acknowledged. Before
    /// anything is sent, and only if the peer does the same.
    pub fn make_resumable(&mut self) {
        self.resumable = true;
    }

    /// Whether the stream can go on over another connection.
    pub fn is_resumable(&self) -> bool {
        self.resumable
    }

    /// How many bytes of the peer's sequence came: told to it on a new connection.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// How many bytes are kept for the peer.
    pub fn kept(&self) -> u64 {
        self.kept.len()
    }

    /// Whether the peer is known to have everything that was ever sent.
    pub fn is_all_acknowledged(&self) -> bool {
        self.kept.len() == 0
    }

    /// Whether a peer can have this many bytes of ours. An honest one that says fewer than it has acknowledged said
    /// so before, on a connection that it has given up since.
    pub fn can_resume(&self, peer_received: u64) -> bool {
        self.resumable && (self.kept.base()..=self.kept.given()).contains(&peer_received)
    }

    /// A new connection takes the old one's place; the peer has this many bytes of ours. Nothing that still comes
    /// on the old one may be given to [`receive`](Self::receive).
    ///
    /// # Errors
    /// The peer claims what cannot be ([`can_resume`](Self::can_resume)); then nothing has changed.
    pub fn resume(&mut self, peer_received: u64) -> Result<(), ProtocolError> {
        if !self.can_resume(peer_received) {
            return Err(ProtocolError::Malformed);
        }
        self.kept.acknowledged(peer_received);
        self.kept.rewind(peer_received);
        // The number that was told on the new connection is news enough.
        self.acknowledged = self.received;
        Ok(())
    }

    /// Bytes for the transport, as far as they lie together; empty: nothing.
    pub fn outgoing(&self) -> &[u8] {
        self.kept.outgoing()
    }

    /// Notes that the transport took so many of [`outgoing`](Self::outgoing).
    pub fn taken(&mut self, n: usize) {
        self.kept.taken(n);
        if !self.resumable {
            self.kept.acknowledged(self.kept.given());
        }
    }

    /// Acknowledges what came, if there is reason to.
    fn acknowledge(&mut self, least: u64) {
        if self.resumable && self.received - self.acknowledged >= least {
            self.acknowledged = self.received;
            let mut f = [0; HEAD + 8];
            f[..HEAD].copy_from_slice(&head(ACK, 8));
            f[HEAD..].copy_from_slice(&self.received.to_be_bytes());
            self.kept.push(&f);
        }
    }

    /// Acknowledges whatever came and is not acknowledged yet: when nothing has come for a while, so that the peer need
    /// not keep it, and so that the way there is tried. Whether there was anything. An acknowledgement is itself a frame
    /// that came: only one of the two ends may do this, or they answer each other for ever.
    pub fn acknowledge_rest(&mut self) -> bool {
        let any = self.has_unacknowledged();
        self.acknowledge(1);
        any
    }

    /// Whether something came that is not acknowledged yet.
    pub fn has_unacknowledged(&self) -> bool {
        self.resumable && self.received > self.acknowledged
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

    /// Where to put bytes that are to be sent on a channel: room for its credit, or one frame, or somewhat less.
    /// Empty if nothing may be sent.
    pub fn space(&mut self, c: Channel) -> &mut [u8] {
        let n = self.credit(c).min(DATA_MAX);
        if n == 0 {
            return &mut [];
        }
        self.acknowledge(ACK_ALONG);
        &mut self.kept.space(HEAD + n)[HEAD..]
    }

    /// Sends the first `n` bytes that were put into [`space`](Self::space), which was asked for just before.
    pub fn commit(&mut self, c: Channel, n: usize) {
        debug_assert!(
            self.writes(c) && n <= self.credit(c) && n <= DATA_MAX,
            "{c:?} {n}"
        );
        if n > 0 {
            self.writing[c as usize].sent += n as u64;
            self.kept.space(HEAD + n)[..HEAD].copy_from_slice(&head(DATA | c as u8, n));
            self.kept.commit(HEAD + n);
        }
    }

    /// Sends bytes on a channel, as many as may be; says how many.
    pub fn send(&mut self, c: Channel, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            let space = self.space(c);
            let n = space.len().min(bytes.len() - sent);
            if n == 0 {
                break;
            }
            space[..n].copy_from_slice(&bytes[sent..sent + n]);
            self.commit(c, n);
            sent += n;
        }
        sent
    }

    /// Ends a channel, unless that was said before.
    pub fn eof(&mut self, c: Channel) {
        let w = &mut self.writing[c as usize];
        if !std::mem::replace(&mut w.ended, true) {
            self.kept.push(&head(EOF | c as u8, 0));
        }
    }

    /// Says that we no longer read a channel, unless that was said before or it has ended; what still comes is
    /// dropped.
    pub fn close(&mut self, c: Channel) {
        let r = &mut self.reading[c as usize];
        let news = !r.closed && !r.ended;
        r.closed = true;
        if news {
            self.kept.push(&head(CLOSE | c as u8, 0));
        }
    }

    /// Sends a control message.
    pub fn control(&mut self, message: &[u8]) {
        self.acknowledge(ACK_ALONG);
        let h = head(CONTROL, message.len());
        let space = self.kept.space(HEAD + message.len());
        if space.len() == HEAD + message.len() {
            space[..HEAD].copy_from_slice(&h);
            space[HEAD..].copy_from_slice(message);
            self.kept.commit(HEAD + message.len());
        } else {
            self.kept.push(&[&h[..], message].concat());
        }
    }

    /// Notes that `n` received bytes have gone where they belong; gives the peer credit when it is time.
    pub fn consumed(&mut self, c: Channel, n: usize) {
        let r = &mut self.reading[c as usize];
        r.consumed += n as u64;
        debug_assert!(r.consumed <= r.received);
        let limit = r.consumed + WINDOW;
        if r.ended || r.closed || limit - r.granted < WINDOW / 4 {
            return;
        }
        r.granted = limit;
        let mut f = [0; HEAD + 8];
        f[..HEAD].copy_from_slice(&head(CREDIT | c as u8, 8));
        f[HEAD..].copy_from_slice(&limit.to_be_bytes());
        self.kept.push(&f);
        self.acknowledge(ACK_ALONG);
    }

    /// Takes bytes from the transport and tells the sink what they mean. Data is told piece by piece as it
    /// comes, without waiting for the end of its frame. After an error the stream must not be used again.
    ///
    /// # Errors
    /// The peer broke the rules.
    pub fn receive(&mut self, input: &[u8], sink: impl FnMut(Event<'_>)) -> Result<(), ProtocolError> {
        self.received += input.len() as u64;
        self.understand(input, sink)?;
        self.acknowledge(ACK_EVERY + ACK_EVERY / 2);
        Ok(())
    }

    fn understand<'a>(
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
        if h[0] == ACK && self.resumable {
            if len != 8 {
                return Err(ProtocolError::Malformed);
            }
            self.partial = Partial::Body(ACK, Vec::with_capacity(8), 8);
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
        if kind == ACK {
            // Never what was not sent. One that the connection broke on comes again, and says less then than the
            // new connection began with.
            if limit > self.kept.given() {
                return Err(ProtocolError::Malformed);
            }
            self.kept.acknowledged(limit.max(self.kept.base()));
            return Ok(());
        }
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
mod sim;
#[cfg(test)]
mod tests;
