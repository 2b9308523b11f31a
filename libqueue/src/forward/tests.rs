//! The rules one by one, then two ends against each other, then an end against nonsense.

use super::*;

const X11: i32 = Service::X11 as i32;

fn message(id: u32, kind: Kind) -> Forward {
    Forward { id, kind: Some(kind) }
}

fn told(t: &mut Table) -> Vec<Forward> {
    std::iter::from_fn(|| t.outgoing()).collect()
}

/// Gives all that one end has said to the other.
fn carry(from: &mut Table, to: &mut Table) -> Vec<Heard> {
    told(from).into_iter().map(|m| to.receive(m)).collect()
}

fn pair() -> (Table, Table, u32) {
    let (mut s, mut f) = (Table::new(Side::Session), Table::new(Side::Front));
    let id = s.open(Service::X11).expect("room");
    assert_eq!(carry(&mut s, &mut f), [Heard::Opened(id, Service::X11)]);
    (s, f, id)
}

#[test]
fn both_directions_end_apart() {
    let (mut s, mut f, id) = pair();
    s.send(id, b"question");
    s.end(id);
    s.end(id);
    assert_eq!(carry(&mut s, &mut f), [Heard::News(id), Heard::News(id)]);
    assert_eq!(f.waiting(id), b"question");
    assert!(f.is_peer_ended(id) && !f.is_ended(id) && s.room(id) == 0);
    f.written(id, 5);
    assert_eq!(f.waiting(id), b"ion");
    f.written(id, 3);
    f.send(id, b"answer");
    f.end(id);
    // Both directions have ended: said at once, and the number is free when the other one has said so too.
    assert_eq!((f.len(), f.service(id)), (1, None));
    assert_eq!(carry(&mut f, &mut s).len(), 3);
    // Here it is not over before what came is written.
    assert_eq!((s.waiting(id), s.len()), (&b"answer"[..], 1));
    s.written(id, 6);
    assert_eq!((s.len(), f.len()), (0, 1));
    carry(&mut s, &mut f);
    assert_eq!(f.len(), 0);
}

#[test]
fn what_came_before_the_end_is_not_lost() {
    let (mut s, mut f, id) = pair();
    f.send(id, b"last words");
    f.close(id, "refused");
    let heard = carry(&mut f, &mut s);
    assert_eq!(heard, [Heard::News(id), Heard::Over(id, b"last words".to_vec())]);
    assert_eq!(carry(&mut s, &mut f), [Heard::Nothing]);
    assert!(s.is_empty() && f.is_empty());
}

#[test]
fn no_more_is_under_way_than_the_window() {
    let (mut s, mut f, id) = pair();
    let mut sent = 0;
    while s.room(id) > 0 {
        let n = s.room(id);
        assert!(n <= DATA_MAX);
        s.send(id, &vec![1; n]);
        sent += n;
    }
    assert_eq!(sent, WINDOW as usize);
    carry(&mut s, &mut f);
    assert_eq!(f.waiting(id).len(), sent);
    f.written(id, 1000);
    assert!(told(&mut f).is_empty(), "not for so little");
    f.written(id, WINDOW as usize / 4);
    assert_eq!(
        told(&mut f),
        [message(id, Kind::Credit(1000 + WINDOW / 4))],
        "all that was written"
    );
    s.receive(message(id, Kind::Credit(1000 + WINDOW / 4)));
    assert_eq!(s.room(id), DATA_MAX);
}

#[test]
fn as_many_as_may_be_and_no_more() {
    let (mut s, mut f) = (Table::new(Side::Session), Table::new(Side::Front));
    let ids: Vec<u32> = (0..MAX).map(|_| s.open(Service::Agent).expect("room")).collect();
    assert_eq!(s.open(Service::Agent), None);
    carry(&mut s, &mut f);
    assert_eq!((s.len(), f.len()), (MAX, MAX));
    s.close(ids[0], "");
    assert_eq!(s.open(Service::Agent), None, "not before the other end agrees");
    carry(&mut s, &mut f);
    carry(&mut f, &mut s);
    let again = s.open(Service::Agent).expect("room again");
    assert_eq!(again, MAX as u32 + 1, "a number of its own");
    assert_eq!(carry(&mut s, &mut f), [Heard::Opened(again, Service::Agent)]);
    // One too many is refused and leaves nothing behind.
    assert_eq!(f.receive(message(900, Kind::Open(X11))), Heard::Nothing);
    assert_eq!(f.len(), MAX);
    let said = told(&mut f);
    assert!(matches!(&said[..], [Forward { id: 900, kind: Some(Kind::Close(why)) }] if !why.is_empty()));
}

#[test]
fn who_breaks_a_rule_loses_that_connection() {
    let broken = [
        vec![Kind::Data(vec![0; WINDOW as usize + 1])],
        vec![Kind::Data(vec![0; WINDOW as usize]), Kind::Data(vec![0; 1])],
        vec![Kind::Eof(Empty {}), Kind::Data(vec![1])],
        vec![Kind::Eof(Empty {}), Kind::Eof(Empty {})],
        vec![Kind::Credit(1)],
        vec![Kind::Credit(u32::MAX)],
        vec![Kind::Open(X11)],
    ];
    for kinds in broken {
        let (mut s, mut f, id) = pair();
        let other = s.open(Service::Agent).expect("room");
        carry(&mut s, &mut f);
        let shown = format!("{:?}", kinds.last()).chars().take(40).collect::<String>();
        let mut heard = Heard::Nothing;
        for k in kinds {
            heard = f.receive(message(id, k));
        }
        assert!(matches!(heard, Heard::Over(i, _) if i == id), "{shown}");
        assert_eq!((f.waiting(id).len(), f.room(id)), (0, 0), "{shown}");
        let said = told(&mut f);
        assert!(
            matches!(said.last(), Some(Forward { kind: Some(Kind::Close(why)), .. }) if why.contains("rules"))
        );
        // What still comes on it changes nothing; the other one is as before.
        assert_eq!(f.receive(message(id, Kind::Data(vec![1; 10]))), Heard::Nothing);
        f.receive(message(other, Kind::Data(b"x".to_vec())));
        assert_eq!(f.waiting(other), b"x");
    }
}

#[test]
fn numbers_and_sides() {
    let (mut s, mut f, id) = pair();
    // Only the session opens.
    assert_eq!(f.open(Service::X11), None);
    assert_eq!(s.receive(message(77, Kind::Open(X11))), Heard::Nothing);
    assert_eq!(s.len(), 1);
    // A number that is over is over.
    s.close(id, "");
    carry(&mut s, &mut f);
    assert_eq!(f.receive(message(id, Kind::Open(X11))), Heard::Nothing);
    assert_eq!(f.receive(message(id, Kind::Data(vec![1]))), Heard::Nothing);
    assert_eq!(f.len(), 0);
    // Something that a newer version forwards, and a message without a meaning.
    told(&mut f);
    assert_eq!(f.receive(message(5, Kind::Open(99))), Heard::Nothing);
    assert_eq!(told(&mut f).len(), 1);
    assert_eq!(f.receive(Forward { id: 9, kind: None }), Heard::Nothing);
    f.give_up("detached");
    assert_eq!(f.receive(message(6, Kind::Open(X11))), Heard::Nothing);
    assert_eq!(f.len(), 0);
    // Reasons are for people, and short.
    let (_, mut f, id) = pair();
    f.close(id, &"ü".repeat(500));
    assert!(
        matches!(&told(&mut f)[..], [Forward { kind: Some(Kind::Close(w)), .. }] if w.len() <= REASON_MAX)
    );
}

/// Numbers that look like chance, the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n.max(1)
    }
}

/// What a program at one end of a connection has said and heard.
#[derive(Default)]
struct Said {
    sent: usize,
    heard: usize,
    /// One end broke the connection off.
    broken: bool,
}

fn byte(id: u32, at: usize, side: usize) -> u8 {
    (at.wrapping_mul(31) ^ (id as usize * 7) ^ (side * 101)) as u8
}

/// One end's program writes, reads or ends somewhere.
fn act(t: &mut Table, side: usize, all: &mut BTreeMap<(u32, usize), Said>, chance: &mut Chance) {
    if side == 0 && chance.below(8) == 0 {
        t.open(Service::X11);
    }
    let ids = t.ids();
    let Some(id) = ids.get(chance.below(ids.len())).copied() else {
        return;
    };
    match chance.below(10) {
        0..4 => {
            let n = t.room(id).min(1 + chance.below(DATA_MAX));
            let said = all.entry((id, side)).or_default();
            let bytes: Vec<u8> = (said.sent..said.sent + n).map(|i| byte(id, i, side)).collect();
            said.sent += n;
            t.send(id, &bytes);
        }
        4..8 => read(t, id, side, all, 1 + chance.below(3 * DATA_MAX)),
        8 if chance.below(6) == 0 => t.end(id),
        9 if chance.below(40) == 0 => {
            for side in 0..2 {
                all.entry((id, side)).or_default().broken = true;
            }
            t.close(id, "enough");
        }
        _ => {}
    }
}

fn read(t: &mut Table, id: u32, side: usize, all: &mut BTreeMap<(u32, usize), Said>, most: usize) {
    let n = t.waiting(id).len().min(most);
    let heard = &mut all.entry((id, 1 - side)).or_default().heard;
    for (i, b) in t.waiting(id)[..n].iter().enumerate() {
        assert_eq!(*b, byte(id, *heard + i, 1 - side), "byte {} of {id}", *heard + i);
    }
    *heard += n;
    t.written(id, n);
}

fn check(t: &Table) {
    assert!(t.len() <= MAX);
    for id in t.ids() {
        assert!(t.waiting(id).len() <= WINDOW as usize);
    }
}

/// Every byte once, in order, and bounded, whatever the two ends do and however slow the way is.
#[test]
fn two_ends() {
    let (mut whole, mut broken) = (0, 0);
    for seed in 1..60 {
        let mut chance = Chance(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let mut ends = [Table::new(Side::Session), Table::new(Side::Front)];
        let mut way: [VecDeque<Forward>; 2] = Default::default();
        let mut all = BTreeMap::new();
        for _ in 0..1500 {
            let side = chance.below(2);
            act(&mut ends[side], side, &mut all, &mut chance);
            while let Some(m) = ends[side].outgoing() {
                way[side].push_back(m);
            }
            for _ in 0..chance.below(4) {
                if let Some(m) = way[1 - side].pop_front() {
                    // Which of the two gets it does not matter: a message is for the other end.
                    ends[side].receive(m);
                }
            }
            ends.iter().for_each(check);
            let bytes: usize = way.iter().flatten().map(prost::Message::encoded_len).sum();
            assert!(bytes <= 2 * MAX * (WINDOW as usize + 1024), "{bytes} under way");
        }
        // All are read out and ended: nothing is left, and those that nobody broke off lost nothing.
        for _ in 0..10_000 {
            for side in 0..2 {
                for id in ends[side].ids() {
                    read(&mut ends[side], id, side, &mut all, usize::MAX);
                    ends[side].end(id);
                }
                while let Some(m) = ends[side].outgoing() {
                    way[side].push_back(m);
                }
                while let Some(m) = way[side].pop_front() {
                    ends[1 - side].receive(m);
                }
            }
            if ends.iter().all(Table::is_empty) {
                break;
            }
        }
        assert!(ends.iter().all(Table::is_empty), "seed {seed}");
        for ((id, side), said) in &all {
            if said.broken {
                broken += 1;
                assert!(said.heard <= said.sent, "seed {seed}, {id} from {side}");
            } else {
                whole += usize::from(said.sent > 0);
                assert_eq!(said.heard, said.sent, "seed {seed}, {id} from {side}");
            }
        }
    }
    assert!(whole > 500 && broken > 50, "{whole} whole, {broken} broken off");
}

/// Nonsense from the other end costs no more than its connections.
#[test]
fn nonsense() {
    for seed in 1..300 {
        let mut chance = Chance(0xd134_2543_de82_ef95_u64.wrapping_mul(seed));
        let side = if seed % 2 == 0 { Side::Session } else { Side::Front };
        let mut t = Table::new(side);
        for _ in 0..500 {
            let id = chance.below(90) as u32;
            let kind = match chance.below(6) {
                0 => Kind::Open(chance.below(5) as i32 - 1),
                1 => Kind::Data(vec![0; chance.below(2 * DATA_MAX)]),
                2 => Kind::Eof(Empty {}),
                3 => Kind::Close("x".repeat(chance.below(300))),
                4 => Kind::Credit(chance.below(1 << 33) as u32),
                _ => Kind::Data(Vec::new()),
            };
            t.receive(message(id, kind));
            if side == Side::Session && chance.below(4) == 0 {
                t.open(Service::Agent);
            }
            if let Some(id) = t.ids().first().copied() {
                let n = t.room(id).min(chance.below(DATA_MAX));
                t.send(id, &vec![0; n]);
                t.written(id, chance.below(WINDOW as usize));
            }
            check(&t);
            while let Some(m) = t.outgoing() {
                assert!(prost::Message::encoded_len(&m) <= crate::stream::CONTROL_MAX / 2);
            }
        }
    }
}
