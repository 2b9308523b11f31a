//! One end of the simulated stream, and what its owner holds: text by which every byte is known, and what came.

use super::super::{ACK_ALONG, ACK_EVERY, Channel, Event, HEAD, Role, Stream, WINDOW};
use std::sync::OnceLock;

/// xorshift64*, as in the tests beside.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        let mut r = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..4 {
            r.below(2);
        }
        r
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// A period of text that fits no frame, so that what is displaced differs.
const PERIOD: usize = 65_521;

fn table() -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut r = Random::new(7);
        (0..PERIOD).map(|_| r.below(256) as u8).collect()
    })
}

/// Goes through a buffer and the text that belongs there, in pieces.
fn text(key: usize, offset: u64, len: usize) -> impl Iterator<Item = (usize, &'static [u8])> {
    let mut done = 0;
    std::iter::from_fn(move || {
        (done < len).then(|| {
            let at = ((key * 977) as u64 + offset + done as u64) as usize % PERIOD;
            let n = (PERIOD - at).min(len - done);
            let piece = (done, &table()[at..at + n]);
            done += n;
            piece
        })
    })
}

fn fill(buf: &mut [u8], key: usize, offset: u64) {
    for (at, t) in text(key, offset, buf.len()) {
        buf[at..at + t.len()].copy_from_slice(t);
    }
}

fn is_text(buf: &[u8], key: usize, offset: u64) -> bool {
    text(key, offset, buf.len()).all(|(at, t)| buf[at..at + t.len()] == *t)
}

/// Content of the nth control message of an end: its number, and some text.
fn message(from: Role, n: u32, len: usize) -> Vec<u8> {
    let mut m = vec![0; 4 + len];
    m[..4].copy_from_slice(&n.to_be_bytes());
    fill(&mut m[4..], 5 + from as usize, u64::from(n) * 31);
    m
}

/// The session's last message.
pub(super) const STATUS: u32 = u32::MAX;

/// One end, and what its owner holds.
pub(super) struct End {
    pub(super) role: Role,
    pub(super) stream: Stream,
    /// By channel: what is to be sent in all; what was; what came; what of that is not consumed.
    pub(super) total: [u64; 3],
    pub(super) sent: [u64; 3],
    pub(super) got: [u64; 3],
    pub(super) unconsumed: [usize; 3],
    pub(super) ended: [bool; 3],
    /// Channels that this end has closed, as their reader.
    pub(super) closed: [bool; 3],
    /// Lengths of the control messages that are to be sent, and how many were sent and came.
    pub(super) controls: Vec<usize>,
    pub(super) controls_sent: usize,
    pub(super) controls_got: u32,
    pub(super) status: bool,
    /// For the bound of what is kept.
    pub(super) frames: u64,
    pub(super) control_bytes: u64,
    /// How often the rest of what came was acknowledged.
    pub(super) rests: u64,
    /// Its connection: one of the world's.
    pub(super) current: Option<usize>,
}

impl End {
    pub(super) fn new(role: Role) -> Self {
        Self {
            role,
            stream: Stream::new(role),
            total: [0; 3],
            sent: [0; 3],
            got: [0; 3],
            unconsumed: [0; 3],
            ended: [false; 3],
            closed: [false; 3],
            controls: Vec::new(),
            controls_sent: 0,
            controls_got: 0,
            status: false,
            frames: 0,
            control_bytes: 0,
            rests: 0,
            current: None,
        }
    }

    pub(super) fn send(&mut self, c: Channel, most: usize) {
        let left = self.total[c as usize] - self.sent[c as usize];
        let space = self.stream.space(c);
        let n = (left.min(most as u64) as usize).min(space.len());
        fill(&mut space[..n], c as usize, self.sent[c as usize]);
        self.stream.commit(c, n);
        self.sent[c as usize] += n as u64;
        self.frames += 1;
    }

    pub(super) fn say(&mut self, number: u32, len: usize) {
        let m = message(self.role, number, len);
        self.control_bytes += m.len() as u64 + HEAD as u64;
        self.stream.control(&m);
    }

    pub(super) fn take(&mut self, bytes: &[u8], peer: Role) {
        let Self {
            got,
            unconsumed,
            ended,
            closed,
            controls_got,
            status,
            ..
        } = self;
        self.stream
            .receive(bytes, |e| {
                assert!(!*status, "{e:?} after the status");
                match e {
                    Event::Data(c, d) => {
                        let c = c as usize;
                        assert!(!ended[c] && !closed[c], "data after the end of {c}");
                        assert!(is_text(d, c, got[c]), "channel {c} differs behind {}", got[c]);
                        got[c] += d.len() as u64;
                        unconsumed[c] += d.len();
                    }
                    Event::Eof(c) => {
                        assert!(!ended[c as usize], "a second end of {c:?}");
                        ended[c as usize] = true;
                    }
                    Event::Closed(_) => {}
                    Event::Control(m) => {
                        let n = u32::from_be_bytes(*m.first_chunk().expect("a number"));
                        assert!(
                            m == message(peer, n, m.len() - 4),
                            "control message {n} is damaged"
                        );
                        if n == STATUS {
                            *status = true;
                        } else {
                            assert_eq!(n, *controls_got, "control messages in order");
                            *controls_got += 1;
                        }
                    }
                }
            })
            .expect("an honest peer");
    }

    /// Whether a channel that this end writes has come to its end.
    pub(super) fn is_over(&self, c: Channel) -> bool {
        self.stream.is_closed(c) || self.stream.writing[c as usize].ended
    }

    /// What is kept can not be more than this: a window for each channel, what is acknowledged late, and what no
    /// credit bounds.
    pub(super) fn bound(&self, piece: usize) -> u64 {
        let channels = Channel::ALL.iter().filter(|c| self.stream.writes(**c)).count() as u64;
        let small = 12 * (1 + self.stream.received / ACK_ALONG + 2 * (self.stream.received / (WINDOW / 4)));
        channels * WINDOW
            + ACK_EVERY
            + ACK_EVERY / 2
            + piece as u64
            + HEAD as u64 * self.frames
            + 2 * HEAD as u64 * 3
            + self.control_bytes
            + small
            + 12 * self.rests
    }
}
