//! The frames of one direction: those that the transport has still to take, and behind them those that the peer
//! has not acknowledged, kept for the case that the connection breaks. Knows offsets; not what frames mean.

use std::collections::VecDeque;

/// Size of a piece of memory: one whole data frame.
pub(super) const PIECE: usize = 64 * 1024;
/// A frame begins in a piece only if so much of it fits there; smaller reads would cost more than memory.
const WORTHWHILE: usize = 32 * 1024;
/// Pieces kept for the next frames while others are in use: what a channel's credit needs, or each acknowledgement
/// would give memory back to the system that the next frames ask for again. The one that was freed last is taken
/// first: it is still in the processor's cache.
pub(super) const SPARE: usize = 20;
/// The same once everything is acknowledged.
const SPARE_IDLE: usize = 2;

#[derive(Debug)]
struct Piece {
    buf: Box<[u8]>,
    /// Where what is kept begins, and where it ends.
    start: usize,
    end: usize,
}

impl Piece {
    fn new(size: usize) -> Self {
        Self {
            buf: vec![0; size].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    fn len(&self) -> usize {
        self.end - self.start
    }
}

/// What is kept, as numbered bytes: `base..end`, of which `..next` were given to the transport.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pieces: VecDeque<Piece>,
    spare: Vec<Piece>,
    base: u64,
    end: u64,
    /// Number of the byte that the transport gets next, and where it is: piece, and place in it.
    next: u64,
    at: (usize, usize),
    /// The highest number that a transport was given.
    given: u64,
}

impl Kept {
    /// Number of the first byte that is kept.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// Number of the byte behind the last one that any transport was given.
    pub(super) fn given(&self) -> u64 {
        self.given
    }

    /// How many bytes are kept.
    pub(super) fn len(&self) -> u64 {
        self.end - self.base
    }

    /// How much memory that takes.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.pieces.iter().chain(&self.spare).map(|p| p.buf.len()).sum()
    }

    /// Room for one frame: at most `most` bytes, and not much fewer than that.
    pub(super) fn space(&mut self, most: usize) -> &mut [u8] {
        self.make_room(most.min(WORTHWHILE), most);
        self.pieces.back_mut().map_or(&mut [], |p| {
            let n = most.min(p.buf.len() - p.end);
            &mut p.buf[p.end..p.end + n]
        })
    }

    /// Notes that so much of the [`space`](Self::space) was filled.
    pub(super) fn commit(&mut self, n: usize) {
        if let Some(p) = self.pieces.back_mut() {
            p.end += n;
            self.end += n as u64;
        }
    }

    /// Appends a frame.
    pub(super) fn push(&mut self, frame: &[u8]) {
        self.make_room(frame.len(), frame.len());
        if let Some(p) = self.pieces.back_mut() {
            p.buf[p.end..p.end + frame.len()].copy_from_slice(frame);
        }
        self.commit(frame.len());
    }

    /// Sees to it that the last piece has room for at least `least` bytes.
    fn make_room(&mut self, least: usize, most: usize) {
        if let Some(p) = self.pieces.back_mut() {
            if p.len() == 0 && self.pieces.len() == 1 && self.next == self.end {
                let p = &mut self.pieces[0];
                (p.start, p.end) = (0, 0);
                self.at = (0, 0);
            }
            if let Some(p) = self.pieces.back()
                && p.buf.len() - p.end >= least
            {
                return;
            }
        }
        // A large frame (an environment) has a piece of its own, which is not kept for others.
        let piece = if most > PIECE {
            Piece::new(most)
        } else {
            self.spare.pop().unwrap_or_else(|| Piece::new(PIECE))
        };
        self.pieces.push_back(piece);
    }

    /// What the transport gets next, as far as it lies together; empty: nothing.
    pub(super) fn outgoing(&self) -> &[u8] {
        let (mut piece, mut place) = self.at;
        while let Some(p) = self.pieces.get(piece) {
            if place < p.end {
                return &p.buf[place..p.end];
            }
            piece += 1;
            place = self.pieces.get(piece).map_or(0, |p| p.start);
        }
        &[]
    }

    /// Notes that the transport took so much of [`outgoing`](Self::outgoing).
    pub(super) fn taken(&mut self, n: usize) {
        if n == 0 {
            // Behind the last byte there may be room for more.
            return;
        }
        while self.pieces.get(self.at.0).is_some_and(|p| self.at.1 >= p.end) {
            let next = self.at.0 + 1;
            self.at = (next, self.pieces.get(next).map_or(0, |p| p.start));
        }
        self.at.1 += n;
        self.next += n as u64;
        self.given = self.given.max(self.next);
    }

    /// The peer has everything before this number: it need not be kept. The number is between
    /// [`base`](Self::base) and [`given`](Self::given).
    pub(super) fn acknowledged(&mut self, upto: u64) {
        let mut n = upto.saturating_sub(self.base) as usize;
        self.base = self.base.max(upto);
        while let Some(p) = self.pieces.front_mut() {
            let here = n.min(p.len());
            p.start += here;
            n -= here;
            if p.len() > 0 || self.pieces.len() == 1 {
                break;
            }
            if let Some(mut p) = self.pieces.pop_front() {
                self.at = match self.at.0.checked_sub(1) {
                    Some(i) => (i, self.at.1),
                    None => (0, self.pieces.front().map_or(0, |p| p.start)),
                };
                if p.buf.len() == PIECE && self.spare.len() < SPARE {
                    (p.start, p.end) = (0, 0);
                    self.spare.push(p);
                }
            }
        }
        if self.next < self.base {
            self.rewind(self.base);
        }
        if self.len() == 0 {
            self.spare.truncate(SPARE_IDLE);
        }
        // An emptied piece of unusual size is of no more use.
        if self.len() == 0 && self.pieces.front().is_some_and(|p| p.buf.len() != PIECE) {
            self.pieces.clear();
            self.at = (0, 0);
        }
    }

    /// The next transport begins with this byte, which is kept or the next to be made.
    pub(super) fn rewind(&mut self, to: u64) {
        self.next = to;
        let mut skip = (to - self.base) as usize;
        self.at = (0, self.pieces.front().map_or(0, |p| p.start));
        for (i, p) in self.pieces.iter().enumerate() {
            self.at = (i, p.start + skip.min(p.len()));
            if skip <= p.len() {
                break;
            }
            skip -= p.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a plain vector, with every kind of step.
    #[test]
    fn keeps_what_a_plain_vector_would() {
        let mut seed = 1u64;
        let mut random = move |n: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        let (mut kept, mut all) = (Kept::default(), Vec::new());
        let (mut next, mut given, mut base) = (0usize, 0usize, 0usize);
        for _ in 0..20_000 {
            match random(6) {
                0 => {
                    let frame: Vec<u8> = (0..random(200_000) * random(2) + random(90))
                        .map(|i| i as u8)
                        .collect();
                    kept.push(&frame);
                    all.extend_from_slice(&frame);
                }
                1 => {
                    let most = 1 + random(PIECE as u64) as usize;
                    let s = kept.space(most);
                    assert!(s.len() <= most && s.len() >= most.min(WORTHWHILE));
                    let n = random(s.len() as u64 + 1) as usize;
                    for (i, b) in s[..n].iter_mut().enumerate() {
                        *b = (i * 7) as u8;
                    }
                    all.extend_from_slice(&s[..n]);
                    kept.commit(n);
                }
                2 | 3 => {
                    let out = kept.outgoing();
                    assert_eq!(out.is_empty(), next == all.len());
                    let n = random(out.len() as u64 + 1) as usize;
                    assert!(out[..n] == all[next..next + n]);
                    kept.taken(n);
                    next += n;
                    given = given.max(next);
                }
                4 => {
                    let to = base + random((given - base) as u64 + 1) as usize;
                    kept.acknowledged(to as u64);
                    base = to;
                    next = next.max(base);
                }
                _ => {
                    let to = base + random((given - base) as u64 + 1) as usize;
                    kept.rewind(to as u64);
                    next = to;
                }
            }
            assert_eq!(
                (kept.base, kept.next, kept.given, kept.end),
                (base as u64, next as u64, given as u64, all.len() as u64)
            );
        }
        assert!(base > 1 << 20, "the test did something");
    }
}
