//! Two streams over connections that break: a simulation in which everything that can happen between the two real
//! ends happens, by a seed. Cuts at any byte, connections of which only one end knows that they are dead, old ones
//! that still deliver, several new ones at once and out of order, the same one twice, both ends cutting at once.
//!
//! The ends obey the rules of [`crate::link::join`]; the network obeys none but TCP's: within a connection and a
//! direction bytes come in order, or not at all. What must hold is looked at after every step. `SEED=n` replays one.

mod end;

use super::{CONTROL_MAX, Channel, FIRST_CONTROL_MAX, Role, WINDOW, kept};
use end::{End, Random, STATUS};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

/// So many seeds each time.
const SEEDS: u64 = 40_000;
/// A run that takes more steps than this is stuck.
const STEPS: u64 = 400_000;

/// One direction of a connection.
#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    /// What is written from now on is lost.
    broken: bool,
}

impl Pipe {
    fn write(&mut self, bytes: &[u8]) {
        if !self.broken {
            self.bytes.extend(bytes);
        }
    }
}

/// How an end sees a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Nothing was said on it.
    New,
    /// `queue` has said its number and how much it has.
    Told,
    Current,
    Gone,
}

/// A connection. Direction 0 is from `queue` to the session.
struct Conn {
    number: u64,
    pipes: [Pipe; 2],
    at: [At; 2],
    /// What came of the peer's first word.
    heard: [Vec<u8>; 2],
}

const FRONT: usize = 0;
const SESSION: usize = 1;
/// Length of the first word: the number, and how much came.
const WORD: usize = 16;

fn word(number: u64, received: u64) -> [u8; WORD] {
    let mut w = [0; WORD];
    w[..8].copy_from_slice(&number.to_be_bytes());
    w[8..].copy_from_slice(&received.to_be_bytes());
    w
}

struct World {
    r: Random,
    ends: [End; 2],
    conns: Vec<Conn>,
    resumable: bool,
    /// The highest number that the session heard, and the last one that `queue` gave.
    highest: u64,
    number: u64,
    /// `queue` lets several new connections that it has spoken on wait for an answer, and takes the first.
    many: bool,
    /// The command reads its input to the end.
    reads_all: bool,
    /// Things that may still go wrong.
    faults: usize,
    /// Largest piece of anything.
    piece: usize,
    over: bool,
    /// How often the stream went on over another connection.
    resumed: u64,
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Everything came, the status last.
    Done,
    /// The connection broke where that is the end.
    Lost,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut r = Random::new(seed);
        // Most are small, so that there are many.
        let (most, piece) = match seed % 400 {
            0 => (7 << 20, 200_000),
            1..8 => (200_000, 20_000),
            _ => (3000, 400),
        };
        let mut ends = [End::new(Role::Front), End::new(Role::Session)];
        for c in Channel::ALL {
            let total = r.below(most) as u64;
            let writer = usize::from(c != Channel::Stdin);
            // Seldom nothing at all, seldom two of that size.
            ends[writer].total[c as usize] = if r.one_in(5) { total / 16 } else { total };
        }
        let first = match seed % 50 {
            0 if seed.is_multiple_of(800) => 1 + r.below(FIRST_CONTROL_MAX - 4),
            0 => r.below(300_000),
            _ => r.below(piece),
        };
        ends[FRONT].controls.push(first);
        for e in &mut ends {
            for _ in 0..r.below(6) {
                e.controls.push(r.below(piece.min(CONTROL_MAX - 4)));
            }
        }
        let resumable = !r.one_in(16);
        if resumable {
            ends[FRONT].stream.make_resumable();
        }
        let faults = if resumable { r.below(14) } else { r.below(2) };
        let mut w = Self {
            ends,
            conns: Vec::new(),
            resumable,
            highest: 0,
            number: 0,
            many: r.one_in(2),
            reads_all: r.one_in(2),
            faults,
            piece,
            over: false,
            resumed: 0,
            r,
        };
        w.connect([At::Current, At::Current]);
        w.ends[FRONT].current = Some(0);
        w.ends[SESSION].current = Some(0);
        w
    }

    fn connect(&mut self, at: [At; 2]) {
        self.conns.push(Conn {
            number: self.number,
            pipes: Default::default(),
            at,
            heard: Default::default(),
        });
    }

    // ---- what the owners do --------------------------------------------------------------------------------

    /// An end produces something.
    fn produce(&mut self, e: usize) {
        let c = Channel::ALL[self.r.below(3)];
        let most = 1 + self.r.below(self.piece);
        let kind = self.r.below(12);
        let everything_else = self.is_everything_else_said();
        let end = &mut self.ends[e];
        match kind {
            // The session has nothing to say before it knows what is to be run, and after the status.
            _ if e == SESSION && (end.controls_got == 0 || self.over) => {}
            0 | 1 if end.controls_sent < end.controls.len() => {
                let (n, len) = (end.controls_sent, end.controls[end.controls_sent]);
                end.controls_sent += 1;
                end.say(n as u32, len);
            }
            // Nothing goes before the first message, which says that.
            _ if e == FRONT && end.controls_sent == 0 => {}
            2 if e == SESSION && everything_else => {
                self.over = true;
                let len = self.r.below(40);
                end.say(STATUS, len);
            }
            3 if self.r.one_in(60) && !end.stream.writes(c) => {
                end.closed[c as usize] = true;
                end.stream.close(c);
                // What it holds is dropped.
                let n = std::mem::take(&mut end.unconsumed[c as usize]);
                end.stream.consumed(c, n);
            }
            _ if end.stream.writes(c) && !end.is_over(c) => {
                end.send(c, most);
                if end.sent[c as usize] == end.total[c as usize] {
                    end.stream.eof(c);
                }
            }
            _ => {}
        }
    }

    /// Whether only the status is left for the session to say.
    fn is_everything_else_said(&self) -> bool {
        let s = &self.ends[SESSION];
        let read = !self.reads_all || s.ended[0] || s.closed[0];
        let written = s.is_over(Channel::Stdout) && s.is_over(Channel::Stderr);
        read && written && s.controls_sent == s.controls.len()
    }

    fn consume(&mut self, e: usize) {
        let c = self.r.below(3);
        let most = 1 + self.r.below(2 * self.piece);
        let end = &mut self.ends[e];
        let n = end.unconsumed[c].min(most);
        end.unconsumed[c] -= n;
        end.stream.consumed(Channel::ALL[c], n);
        // Nothing comes for a while.
        if self.r.one_in(16) {
            let end = &mut self.ends[e];
            let any = end.stream.has_unacknowledged();
            assert_eq!(end.stream.acknowledge_rest(), any);
            assert!(!end.stream.has_unacknowledged());
            end.rests += u64::from(any);
        }
    }

    /// An end's connection takes something.
    fn write(&mut self, e: usize) {
        let Some(i) = self.ends[e].current else { return };
        let most = 1 + self.r.below(self.piece);
        let stream = &mut self.ends[e].stream;
        let n = stream.outgoing().len().min(most);
        self.conns[i].pipes[e].write(&stream.outgoing()[..n]);
        stream.taken(n);
    }

    /// Something comes out of a connection.
    fn deliver(&mut self, i: usize, from: usize) {
        let to = 1 - from;
        let most = 1 + self.r.below(self.piece);
        let conn = &mut self.conns[i];
        let n = conn.pipes[from].bytes.len().min(most);
        let mut bytes: Vec<u8> = conn.pipes[from].bytes.drain(..n).collect();
        if conn.at[to] != At::Current && conn.at[to] != At::Gone {
            let want = WORD - conn.heard[to].len();
            let rest = bytes.split_off(want.min(bytes.len()));
            conn.heard[to].extend_from_slice(&bytes);
            if conn.heard[to].len() < WORD {
                return;
            }
            self.heard(i, to);
            bytes = rest;
        }
        // Nobody listens on the others any more.
        if self.conns[i].at[to] == At::Current && !bytes.is_empty() {
            let peer = self.ends[from].role;
            self.ends[to].take(&bytes, peer);
            if to == SESSION && self.resumable && self.ends[SESSION].controls_got > 0 {
                self.ends[SESSION].stream.make_resumable();
            }
        }
    }

    /// The peer's word has come on a new connection.
    fn heard(&mut self, i: usize, e: usize) {
        let w = &self.conns[i].heard[e];
        let number = u64::from_be_bytes(w[..8].try_into().expect("8 bytes"));
        let received = u64::from_be_bytes(w[8..].try_into().expect("8 bytes"));
        if e == SESSION {
            // An old one that comes late; or one that `queue` gave up for another, on which it has got further.
            if number <= self.highest || !self.ends[SESSION].stream.can_resume(received) {
                self.conns[i].at[SESSION] = At::Gone;
                return;
            }
            self.highest = number;
            self.cut(SESSION);
            let told = word(number, self.ends[SESSION].stream.received());
            self.conns[i].pipes[SESSION].write(&told);
        } else {
            assert_eq!(number, self.conns[i].number, "the session repeats the number");
            for (j, other) in self.conns.iter_mut().enumerate() {
                // What was said there is no longer true.
                if j != i && other.at[FRONT] == At::Told {
                    other.at[FRONT] = At::Gone;
                }
            }
        }
        self.conns[i].at[e] = At::Current;
        self.ends[e].current = Some(i);
        self.ends[e].stream.resume(received).expect("an honest peer");
        self.resumed += 1;
    }

    /// An end has done with its connection.
    fn cut(&mut self, e: usize) {
        if let Some(i) = self.ends[e].current.take() {
            self.conns[i].at[e] = At::Gone;
        }
    }

    /// `queue` begins a new connection.
    fn attempt(&mut self) {
        let pending = self
            .conns
            .iter()
            .filter(|c| matches!(c.at[FRONT], At::New | At::Told));
        if self.resumable && pending.count() < 4 {
            self.number += 1;
            self.connect([At::New, At::New]);
        }
    }

    /// TLS is through on a new connection: `queue` says what it has.
    fn secure(&mut self, i: usize) {
        let conn = &self.conns[i];
        if conn.at[FRONT] != At::New || conn.pipes[FRONT].broken {
            return;
        }
        let newest = self
            .conns
            .iter()
            .filter(|c| matches!(c.at[FRONT], At::Told | At::Current));
        if newest.map(|c| c.number).max() > Some(conn.number) {
            self.conns[i].at[FRONT] = At::Gone;
            return;
        }
        self.cut(FRONT);
        if !self.many {
            for other in &mut self.conns {
                if other.at[FRONT] == At::Told {
                    other.at[FRONT] = At::Gone;
                }
            }
        }
        let told = word(self.conns[i].number, self.ends[FRONT].stream.received());
        self.conns[i].pipes[FRONT].write(&told);
        self.conns[i].at[FRONT] = At::Told;
    }

    // ---- what goes wrong -----------------------------------------------------------------------------------

    fn fault(&mut self) {
        self.faults -= 1;
        let i = self.some_connection();
        match self.r.below(8) {
            // The cable: some of what is under way still comes, much later perhaps.
            0 | 1 => self.break_pipes(i, [true, true]),
            2 => self.break_pipes(i, [true, false]),
            3 => self.break_pipes(i, [false, true]),
            // A reset: of which one end hears, or both.
            4 => self.reset(i, [true, false]),
            5 => self.reset(i, [false, true]),
            6 => self.reset(i, [true, true]),
            // Impatience; and the same word once more.
            _ => {
                self.attempt();
                if self.highest > 0 && self.r.one_in(2) {
                    let number = 1 + self.r.below(self.highest as usize) as u64;
                    let received = self.r.below(self.ends[SESSION].stream.kept.given() as usize + 1);
                    self.connect([At::Gone, At::New]);
                    if let Some(c) = self.conns.last_mut() {
                        c.pipes[FRONT].write(&word(number, received as u64));
                    }
                }
            }
        }
    }

    /// Cuts each direction at some byte of what is under way.
    fn break_pipes(&mut self, i: usize, which: [bool; 2]) {
        for (p, _) in self.conns[i].pipes.iter_mut().zip(which).filter(|(_, w)| *w) {
            p.broken = true;
            let n = self.r.below(p.bytes.len() + 1);
            p.bytes.truncate(n);
        }
    }

    /// The connection is dead, and these ends know.
    fn reset(&mut self, i: usize, knows: [bool; 2]) {
        self.break_pipes(i, [true, true]);
        for e in [FRONT, SESSION] {
            if knows[e] {
                if self.ends[e].current == Some(i) {
                    self.cut(e);
                } else {
                    self.conns[i].at[e] = At::Gone;
                }
            }
        }
    }

    fn some_connection(&mut self) -> usize {
        // Mostly those that are in use, or new; the others are history.
        let e = self.r.below(2);
        let used = self.ends[e].current.filter(|_| self.r.one_in(2));
        let n = self.conns.len();
        let some = n - 1 - self.r.below(n.min(4));
        let any = self.r.below(n);
        used.unwrap_or(if self.r.one_in(3) { any } else { some })
    }

    /// Whether `queue` needs another connection: in the end it always notices.
    fn is_stranded(&self) -> bool {
        let alive = |c: &Conn| !c.pipes[0].broken && !c.pipes[1].broken && c.at[SESSION] != At::Gone;
        let waits = |c: &Conn| matches!(c.at[FRONT], At::New | At::Told | At::Current);
        !self.conns.iter().any(|c| alive(c) && waits(c))
    }

    // ---- what must hold ------------------------------------------------------------------------------------

    fn check(&self) {
        for (end, peer) in [(&self.ends[0], &self.ends[1]), (&self.ends[1], &self.ends[0])] {
            let (s, p) = (&end.stream, &peer.stream);
            for c in Channel::ALL.into_iter().filter(|c| s.writes(*c)) {
                let (w, r) = (&s.writing[c as usize], &p.reading[c as usize]);
                assert!(w.sent <= w.limit, "credit negative on {c:?}");
                assert!(w.limit <= r.granted, "more credit on {c:?} than was given");
                assert!(r.received <= w.sent, "more on {c:?} than was sent");
                assert_eq!(w.sent, end.sent[c as usize]);
                assert!(
                    r.closed || r.granted <= r.consumed + WINDOW,
                    "credit twice on {c:?}"
                );
                assert!(
                    peer.unconsumed[c as usize] as u64 <= WINDOW,
                    "more than a window held on {c:?}"
                );
            }
            assert!(p.received <= s.kept.given(), "more came than was sent");
            if s.is_resumable() {
                assert!(s.kept.base() <= p.received, "dropped what did not come");
            } else {
                assert!(
                    s.outgoing().len() as u64 <= s.kept(),
                    "kept what nobody will ask for"
                );
            }
            assert!(s.acknowledged <= s.received, "acknowledged what did not come");
            let (kept, bound) = (s.kept(), end.bound(self.piece));
            assert!(kept <= bound, "{:?} keeps {kept}, more than {bound}", end.role);
            let memory = s.kept.memory() as u64;
            // A large first message has a piece of its own, which stays until the last byte of it is acknowledged.
            let large = end.controls.first().map_or(0, |n| n + 8);
            // Spare pieces stay while any is in use.
            let spare = if kept == 0 { 0 } else { kept::SPARE };
            let most = 2 * kept + ((4 + spare) * kept::PIECE + large) as u64;
            assert!(memory <= most, "{memory} bytes of memory for {kept}");
        }
    }

    fn step(&mut self) {
        let e = self.r.below(2);
        match self.r.below(16) {
            0..4 => self.produce(e),
            4..7 => self.write(e),
            7..11 => {
                let i = self.some_connection();
                self.deliver(i, e);
            }
            11 | 12 => self.consume(e),
            13 => {
                let i = self.some_connection();
                self.secure(i);
            }
            14 => {
                if self.is_stranded() {
                    self.attempt();
                }
            }
            _ => {
                // Seldom before the session knows that it can be resumed: then it is the end.
                let early = !self.is_known() && self.resumable && !self.r.one_in(100);
                if self.faults > 0 && self.r.one_in(2) && !early {
                    self.fault();
                }
            }
        }
        // What `queue` has waited for long enough it gives up.
        if self.is_stranded() && self.r.one_in(8) {
            for c in &mut self.conns {
                if matches!(c.at[FRONT], At::New | At::Told)
                    && (c.pipes[0].broken || c.pipes[1].broken || c.at[SESSION] == At::Gone)
                {
                    c.at[FRONT] = At::Gone;
                }
            }
        }
    }

    /// Whether both ends know that the stream can go on over another connection.
    fn is_known(&self) -> bool {
        self.ends.iter().all(|e| e.stream.is_resumable())
    }

    fn run(&mut self) -> Outcome {
        for _ in 0..STEPS {
            self.step();
            self.check();
            if self.ends[FRONT].status {
                self.is_complete();
                return Outcome::Done;
            }
            // Before the session knows that it can be resumed, or if it can not, a broken connection is the end.
            let c = &self.conns[0];
            let broken = c.pipes[0].broken || c.pipes[1].broken || c.at.contains(&At::Gone);
            if broken && !self.is_known() {
                return Outcome::Lost;
            }
        }
        panic!("it does not end");
    }

    /// The status has come: so has everything else.
    fn is_complete(&self) {
        let (front, session) = (&self.ends[FRONT], &self.ends[SESSION]);
        for c in [Channel::Stdout, Channel::Stderr] {
            let c = c as usize;
            let whole = front.ended[c] && front.got[c] == session.total[c];
            assert!(whole || front.closed[c], "the status came before the end of {c}");
        }
        assert_eq!(front.controls_got as usize, session.controls.len());
        if self.reads_all && !session.closed[0] {
            assert_eq!(session.got[0], front.total[0], "the input came whole");
        }
    }
}

fn run(seed: u64) -> (Outcome, u64) {
    let mut w = World::new(seed);
    let outcome = w.run();
    (outcome, w.resumed)
}

#[test]
fn every_byte_once_in_order_whatever_breaks() {
    if let Some(seed) = std::env::var("SEED").ok().and_then(|s| s.parse().ok()) {
        run(seed);
        return;
    }
    let (next, done, resumed) = (AtomicU64::new(1), AtomicU64::new(0), AtomicU64::new(0));
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > SEEDS {
                return;
            }
            let result = std::panic::catch_unwind(|| run(seed));
            let Ok((outcome, n)) = result else {
                next.store(SEEDS + 1, Ordering::Relaxed);
                panic!("seed {seed} fails: SEED={seed} replays it");
            };
            done.fetch_add(u64::from(outcome == Outcome::Done), Ordering::Relaxed);
            resumed.fetch_add(n, Ordering::Relaxed);
        }
    };
    std::thread::scope(|s| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            s.spawn(worker);
        }
    });
    // It did what it is for.
    let (done, resumed) = (done.into_inner(), resumed.into_inner());
    assert!(done > SEEDS * 3 / 4, "only {done} came to their end");
    assert!(resumed > 2 * SEEDS, "only {resumed} connections were taken over");
}
