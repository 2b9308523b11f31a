//! A session's stream: the same however it is cut, over one connection or over many. What is forwarded in it.

use libqueue::forward::{self, DATA_MAX, Heard, MAX, Side, Table};
use libqueue::stream::{Channel, Event, Role, Stream, WINDOW};
use libqueue::wire::{Forward, Service};
use prost::Message as _;
use std::collections::BTreeMap;

/// A session's stream means the same however the transport cuts it, and however often it breaks.
pub fn stream(data: &[u8]) {
    for resumable in [false, true] {
        cut(data, resumable);
        pair(data, resumable);
    }
}

/// Bytes as they come, in pieces of different sizes.
fn cut(data: &[u8], resumable: bool) {
    let play = |role: Role, step: usize| {
        let mut s = Stream::new(role);
        if resumable {
            s.make_resumable();
        }
        let mut seen: Vec<(u8, Vec<u8>)> = Vec::new();
        for piece in data.chunks(step.max(1)) {
            let mut used = Vec::new();
            let more = s.receive(piece, |e| {
                let (kind, bytes) = match e {
                    Event::Data(c, d) => {
                        used.push((c, d.len()));
                        (c as u8, d.to_vec())
                    }
                    Event::Eof(c) => (0x10 | c as u8, Vec::new()),
                    Event::Closed(c) => (0x20 | c as u8, Vec::new()),
                    Event::Control(m) => (0x40, m.to_vec()),
                };
                match seen.last_mut() {
                    // Data comes piece by piece.
                    Some((k, b)) if *k == kind && kind < 0x10 => b.extend_from_slice(&bytes),
                    _ => seen.push((kind, bytes)),
                }
            });
            if let Err(e) = more {
                return (seen, Some(e));
            }
            for (c, n) in used {
                s.consumed(c, n);
            }
        }
        assert_eq!(s.received(), data.len() as u64);
        for c in Channel::ALL {
            let _ = (s.credit(c), s.is_closed(c), s.is_ended(c));
            s.eof(c);
            s.close(c);
        }
        (seen, None)
    };
    for role in [Role::Front, Role::Session] {
        let whole = play(role, data.len());
        for step in [1, 3, 7] {
            let cut = play(role, step);
            // Credit is given between pieces, so only a stream without errors has to be the same.
            if whole.1.is_none() && cut.1.is_none() {
                assert_eq!(whole.0, cut.0);
            }
        }
    }
}

/// One end, what its owner sent and got, and what is on its way to it.
struct End {
    role: Role,
    stream: Stream,
    sent: [Vec<u8>; 3],
    got: [Vec<u8>; 3],
    checked: [usize; 3],
    unconsumed: [usize; 3],
    finished: [bool; 3],
    ended: [bool; 3],
    dropped: [bool; 3],
    said: Vec<Vec<u8>>,
    heard: Vec<Vec<u8>>,
    way: Vec<u8>,
}

/// Takes what a stream has for the transport, `most` bytes at most.
fn drain(s: &mut Stream, most: usize) -> Vec<u8> {
    let mut v = Vec::new();
    while v.len() < most && !s.outgoing().is_empty() {
        let n = s.outgoing().len().min(most - v.len());
        v.extend_from_slice(&s.outgoing()[..n]);
        s.taken(n);
    }
    v
}

impl End {
    fn new(role: Role, resumable: bool) -> Self {
        let mut stream = Stream::new(role);
        if resumable {
            stream.make_resumable();
        }
        Self {
            role,
            stream,
            sent: Default::default(),
            got: Default::default(),
            checked: [0; 3],
            unconsumed: [0; 3],
            finished: [false; 3],
            ended: [false; 3],
            dropped: [false; 3],
            said: Vec::new(),
            heard: Vec::new(),
            way: Vec::new(),
        }
    }

    fn send(&mut self, c: Channel, n: usize) {
        let all = &mut self.sent[c as usize];
        let bytes: Vec<u8> = (all.len()..all.len() + n)
            .map(|i| (i ^ i >> 8 ^ c as usize) as u8)
            .collect();
        let n = self.stream.send(c, &bytes);
        all.extend_from_slice(&bytes[..n]);
    }

    fn say(&mut self, n: usize) {
        let m = vec![self.said.len() as u8; n];
        self.stream.control(&m);
        self.said.push(m);
    }

    fn consume(&mut self, c: Channel, most: usize) {
        let n = self.unconsumed[c as usize].min(most);
        self.unconsumed[c as usize] -= n;
        self.stream.consumed(c, n);
    }

    /// Bytes of the transport arrive.
    fn arrive(&mut self, most: usize) {
        let n = self.way.len().min(most);
        let bytes: Vec<u8> = self.way.drain(..n).collect();
        let (got, unconsumed, ended, heard, dropped) = (
            &mut self.got,
            &mut self.unconsumed,
            &mut self.ended,
            &mut self.heard,
            &self.dropped,
        );
        let result = self.stream.receive(&bytes, |e| match e {
            Event::Data(c, d) => {
                assert!(!ended[c as usize] && !dropped[c as usize], "{c:?} was over");
                got[c as usize].extend_from_slice(d);
                unconsumed[c as usize] += d.len();
            }
            Event::Eof(c) => assert!(
                !std::mem::replace(&mut ended[c as usize], true),
                "{c:?} ended twice"
            ),
            Event::Closed(_) => {}
            Event::Control(m) => heard.push(m.to_vec()),
        });
        assert_eq!(result, Ok(()), "from an honest peer");
    }

    /// What came is what the peer sent, from its beginning on.
    fn check(&mut self, peer: &Self) {
        for c in Channel::ALL {
            let (got, sent) = (&self.got[c as usize], &peer.sent[c as usize]);
            let new = std::mem::replace(&mut self.checked[c as usize], got.len())..got.len();
            let same = sent.get(new.clone()) == Some(&got[new]);
            assert!(same, "{c:?}: bytes lost, doubled or changed");
            assert!(
                !self.ended[c as usize] || got.len() == sent.len() && peer.finished[c as usize],
                "{c:?} ended early"
            );
        }
        assert!(peer.said.starts_with(&self.heard));
        // What is kept is bounded: a frame's head is four bytes, and a frame has one at least.
        let controls: usize = self.said.iter().map(|m| m.len() + 4).sum();
        let others = 100_000 * 12;
        assert!(self.stream.kept() <= 10 * WINDOW + controls as u64 + others);
    }
}

/// Enough to fill a window three times, and not so much that a run takes long.
const MOST: usize = 3 * WINDOW as usize;

/// Two ends, played after the bytes: what they send, how much of it arrives, and when the connection breaks.
fn pair(data: &[u8], resumable: bool) {
    let mut ends = [Role::Front, Role::Session].map(|r| End::new(r, resumable));
    for (at, op) in data.chunks_exact(2).take(400).enumerate() {
        let [front, session] = &mut ends;
        let (this, other) = if op[0] & 0x80 == 0 {
            (front, session)
        } else {
            (session, front)
        };
        let channel = match this.role {
            Role::Front => Channel::Stdin,
            Role::Session if op[0] & 0x40 == 0 => Channel::Stdout,
            Role::Session => Channel::Stderr,
        };
        let amount = usize::from(op[1] & 0x1f) << ((op[1] >> 5) * 2);
        match op[0] & 0x0f {
            0..=2 if this.sent[channel as usize].len() < MOST => this.send(channel, amount),
            3 | 4 => {
                let bytes = drain(&mut this.stream, amount);
                other.way.extend(bytes);
            }
            5 | 6 => this.arrive(amount),
            7 => Channel::ALL.iter().for_each(|c| this.consume(*c, amount)),
            8 => this.say(amount.min(1000)),
            9 => {
                this.stream.eof(channel);
                this.finished[channel as usize] = true;
            }
            10 if op[1] == 0 => {
                let c = [Channel::Stdout, Channel::Stderr][usize::from(op[0] >> 6 & 1)];
                let c = if this.role == Role::Front {
                    c
                } else {
                    Channel::Stdin
                };
                this.stream.close(c);
                this.dropped[c as usize] = true;
                // Its owner throws away what it has.
                this.consume(c, usize::MAX);
            }
            11 | 12 if resumable => {
                // Nothing but the truth is believed, and a lie changes nothing.
                assert!(this.stream.resume(u64::MAX - u64::from(op[1])).is_err());
                reconnect(this, other);
            }
            13 if resumable && at > 20 => return garbage(this, &data[2 * at..]),
            _ => {}
        }
        let [front, session] = &mut ends;
        front.check(session);
        session.check(front);
    }
    finish(ends, resumable);
}

/// What was on its way is lost; both say how much they have.
fn reconnect(this: &mut End, other: &mut End) {
    this.way.clear();
    other.way.clear();
    let (a, b) = (this.stream.received(), other.stream.received());
    assert_eq!((this.stream.resume(b), other.stream.resume(a)), (Ok(()), Ok(())));
}

/// A peer that is not what it should be ends in an error, or is understood; in neither case worse.
fn garbage(end: &mut End, data: &[u8]) {
    for piece in data.chunks(50) {
        let result = end.stream.receive(piece, |_| {});
        let _ = end.stream.resume(u64::from(piece[0]) << (piece[0] % 40));
        drain(&mut end.stream, 10_000);
        if result.is_err() {
            return;
        }
    }
}

/// The connection breaks once more, and then holds: everything arrives.
fn finish(mut ends: [End; 2], resumable: bool) {
    let [front, session] = &mut ends;
    if resumable {
        reconnect(front, session);
    }
    loop {
        let mut moved = 0;
        for turn in 0..2 {
            let (this, other) = if turn == 0 {
                (&mut *front, &mut *session)
            } else {
                (&mut *session, &mut *front)
            };
            let bytes = drain(&mut this.stream, usize::MAX);
            other.way.extend(bytes);
            moved += other.way.len();
            other.arrive(usize::MAX);
            Channel::ALL.iter().for_each(|c| other.consume(*c, usize::MAX));
        }
        if moved == 0 {
            break;
        }
    }
    front.check(session);
    session.check(front);
    for (this, peer) in [(&*front, &*session), (&*session, &*front)] {
        for c in Channel::ALL {
            let i = c as usize;
            assert!(
                this.dropped[i] || this.got[i].len() == peer.sent[i].len(),
                "{c:?}: bytes are missing"
            );
            assert!(
                this.dropped[i] || this.ended[i] == peer.finished[i],
                "{c:?}: its end is missing"
            );
        }
        assert_eq!(this.heard, peer.said);
    }
}

/// Forwarded connections: messages of a peer that keeps to no rule, and two ends that do.
pub fn forward(data: &[u8]) {
    for side in [Side::Session, Side::Front] {
        hostile(data, side);
    }
    honest(data);
}

/// Messages as they come. Nothing grows beyond its bounds.
fn hostile(data: &[u8], side: Side) {
    let mut t = Table::new(side);
    if side == Side::Session {
        (0..3).for_each(|_| _ = t.open(Service::X11));
    }
    let mut rest = data;
    while let Ok(m) = Forward::decode_length_delimited(&mut rest) {
        let id = m.id;
        match t.receive(m) {
            Heard::Opened(id, _) => assert!(side == Side::Front && t.service(id).is_some()),
            Heard::News(id) => assert!(t.service(id).is_some()),
            Heard::Over(id, bytes) => assert!(bytes.len() <= WINDOW_OF_ONE && t.service(id).is_none()),
            Heard::Nothing => {}
        }
        assert!(t.len() <= MAX && t.waiting(id).len() <= WINDOW_OF_ONE && t.room(id) <= DATA_MAX);
        // Now and then its owner does something.
        match rest.first() {
            Some(b) if b % 8 == 1 => t.written(id, usize::from(*b) * 100),
            Some(b) if b % 8 == 2 => t.end(id),
            Some(b) if b % 8 == 3 => t.close(id, "done"),
            Some(b) if b % 8 == 4 => t.send(id, &vec![1; t.room(id)]),
            _ => {}
        }
    }
    while t.outgoing().is_some() {}
    t.give_up("over");
    assert!(t.ids().is_empty());
}

const WINDOW_OF_ONE: usize = forward::WINDOW as usize;

/// What one end of a connection sent and what came of it at the other.
#[derive(Default)]
struct Pipe {
    sent: Vec<u8>,
    got: Vec<u8>,
}

/// Two ends, played after the bytes. What is written is what was sent, and both agree in the end.
fn honest(data: &[u8]) {
    let mut ends = [Table::new(Side::Session), Table::new(Side::Front)];
    let mut pipes: [BTreeMap<u32, Pipe>; 2] = Default::default();
    for op in data.chunks_exact(2).take(300) {
        let i = usize::from(op[0] >> 7);
        let id = u32::from(op[0] >> 4 & 7) + 1;
        let amount = usize::from(op[1]) << (op[1] % 8);
        let t = &mut ends[i];
        match op[0] & 0x0f {
            0 => _ = t.open(Service::Agent),
            1..=4 => {
                let pipe = pipes[i].entry(id).or_default();
                let n = amount.min(t.room(id));
                let bytes: Vec<u8> = (pipe.sent.len()..pipe.sent.len() + n)
                    .map(|k| (k ^ k >> 8) as u8)
                    .collect();
                t.send(id, &bytes);
                pipe.sent.extend(bytes);
            }
            5 | 6 => write(t, &mut pipes[1 - i], id, amount),
            7 => t.end(id),
            8 if op[1] == 0 => t.close(id, "enough"),
            _ => _ = carry(&mut ends, &mut pipes, i, usize::from(op[1] % 16)),
        }
        for (from, t) in [(1, &ends[0]), (0, &ends[1])] {
            for (id, p) in &pipes[from] {
                let came = p.got.len() + t.waiting(*id).len();
                assert!(came <= p.sent.len(), "{id}: more than was sent");
                assert!(t.waiting(*id).len() <= WINDOW_OF_ONE);
            }
            assert!(t.len() <= MAX);
        }
    }
    let mut quiet = false;
    while !quiet {
        quiet = true;
        for i in 0..2 {
            quiet &= carry(&mut ends, &mut pipes, i, usize::MAX) == 0;
        }
        for i in 0..2 {
            for id in ends[i].ids() {
                write(&mut ends[i], &mut pipes[1 - i], id, usize::MAX);
            }
        }
    }
    assert_eq!(ends[0].ids(), ends[1].ids());
    for (i, end) in ends.iter().enumerate() {
        for (id, p) in &pipes[1 - i] {
            assert!(p.sent.starts_with(&p.got), "{id}: changed");
            // One that is still open has lost nothing.
            assert!(
                end.service(*id).is_none() || p.sent.len() == p.got.len(),
                "{id}: lost"
            );
        }
    }
}

/// Messages arrive at the other end; says how many.
fn carry(ends: &mut [Table; 2], pipes: &mut [BTreeMap<u32, Pipe>; 2], from: usize, most: usize) -> usize {
    for n in 0..most {
        let Some(m) = ends[from].outgoing() else { return n };
        if let Heard::Over(id, rest) = ends[1 - from].receive(m) {
            pipes[from].entry(id).or_default().got.extend(rest);
        }
    }
    most
}

fn write(t: &mut Table, pipes: &mut BTreeMap<u32, Pipe>, id: u32, most: usize) {
    let bytes = t.waiting(id);
    let n = bytes.len().min(most);
    pipes.entry(id).or_default().got.extend(&bytes[..n]);
    t.written(id, n);
}
