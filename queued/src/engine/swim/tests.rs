//! Two hosts with a network of no delay, and packets that nobody sent.

use super::*;

const MS: Duration = Duration::from_millis(1);

fn id(n: u64, epoch: u64) -> Id {
    Id::new(n, epoch, address(&format!("10.0.0.{n}:1")))
}

/// Two hosts with a network of no delay.
struct Pair {
    hosts: [Swim; 2],
    timers: BTreeMap<(Duration, u64), (usize, Timer)>,
    now: Duration,
    count: u64,
    /// Nothing that this one says arrives.
    mute: Option<usize>,
    seen: Vec<(Duration, usize, Change)>,
}

impl Pair {
    fn new(epochs: [u64; 2]) -> Self {
        Self {
            hosts: [1, 2].map(|n| Swim::new(id(n, epochs[n as usize - 1]), 2, Rng::new(n))),
            timers: BTreeMap::new(),
            now: Duration::ZERO,
            count: 0,
            mute: None,
            seen: Vec::new(),
        }
    }

    fn settle(&mut self) {
        let mut quiet = false;
        while !std::mem::replace(&mut quiet, true) {
            for i in 0..2 {
                let done = self.hosts[i].take();
                for (after, t) in done.timers {
                    self.count += 1;
                    self.timers.insert((self.now + after, self.count), (i, t));
                }
                self.seen
                    .extend(done.changes.into_iter().map(|c| (self.now, i, c)));
                for (_, data) in done.sends {
                    quiet = false;
                    if self.mute != Some(i) {
                        self.hosts[1 - i].packet(self.now, &data, |_| true);
                    }
                }
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        while let Some(first) = self.timers.first_entry().filter(|e| e.key().0 <= end) {
            let ((at, _), (i, timer)) = first.remove_entry();
            self.now = at;
            self.hosts[i].timer(at, at, timer);
            self.settle();
        }
        self.now = end;
    }

    fn verdicts(&self, of: u64) -> Vec<Verdict> {
        let all = self.seen.iter().filter(|(_, _, c)| c.id.host == of);
        let mut all: Vec<Verdict> = all.map(|(_, _, c)| c.verdict).collect();
        all.dedup();
        all
    }
}

#[test]
fn a_suspicion_that_was_answered_has_no_consequences() {
    let mut p = Pair::new([2000, 2000]);
    p.hosts[0].announce(2, address("10.0.0.2:1"));
    p.run(1400 * MS);
    p.mute = Some(1);
    p.run(700 * MS);
    p.mute = None;
    p.run(20_000 * MS);
    assert_eq!(p.verdicts(2), [Verdict::Alive, Verdict::Suspect, Verdict::Alive]);
    assert_eq!((p.hosts[0].own().epoch, p.hosts[1].own().epoch), (2000, 2000));
}

#[test]
fn who_was_cut_off_is_down_and_comes_back_with_a_new_epoch() {
    let mut p = Pair::new([2000, 2000]);
    p.hosts[0].announce(2, address("10.0.0.2:1"));
    p.run(2000 * MS);
    p.mute = Some(1);
    p.run(9000 * MS);
    assert_eq!(p.verdicts(2), [Verdict::Alive, Verdict::Suspect, Verdict::Down]);
    p.mute = None;
    p.hosts[0].announce(2, address("10.0.0.2:1"));
    p.run(2000 * MS);
    assert_eq!(p.verdicts(2).last(), Some(&Verdict::Alive));
    assert!(p.hosts[1].own().epoch > 2000 && !p.hosts[1].own().left());
}

#[test]
fn a_clock_that_was_set_back_is_overcome() {
    // The first knows the second from a life that began an hour later than the present one.
    let mut p = Pair::new([Id::epoch(10_000_000), Id::epoch(6_400_000)]);
    p.hosts[0].declare(id(2, Id::epoch(10_000_000)), true);
    for _ in 0..20 {
        p.hosts[1].announce(1, address("10.0.0.1:1"));
        p.run(1000 * MS);
    }
    assert_eq!(p.verdicts(2).last(), Some(&Verdict::Alive));
}

#[test]
fn a_farewell_is_no_death() {
    let mut p = Pair::new([2000, 2000]);
    p.hosts[0].announce(2, address("10.0.0.2:1"));
    p.run(2000 * MS);
    p.hosts[1].leave(1000, &mut Rng::new(1));
    p.settle();
    let last = p.seen.last().unwrap();
    assert!(
        last.1 == 0 && last.2.id.left() && last.2.verdict == Verdict::Down,
        "{last:?}"
    );
}

#[test]
fn strangers_do_not_enter_the_list() {
    let mut s = Swim::new(id(1, 2000), 3, Rng::new(1));
    let packet = |src: Id, members: Vec<Member<Id>>| {
        let header = Header {
            src,
            src_incarnation: 0,
            dst: id(1, 2000),
            message: Message::Gossip,
        };
        Packet {
            header,
            members: Some(members),
        }
        .bytes()
    };
    let known = |n: u64| n == 2;
    s.packet(MS, &packet(id(3, 2), Vec::new()), known);
    assert!(s.take().strangers && s.active() == 0);
    s.packet(
        MS,
        &packet(id(2, 2), vec![Member::alive(id(3, 2)), Member::alive(id(4, 2))]),
        known,
    );
    assert!(s.take().strangers && s.active() == 1);
    // Nobody can make us send to an address of his choice.
    let header = Header {
        src: id(2, 2),
        src_incarnation: 0,
        dst: id(1, 2000),
        message: Message::PingReq {
            target: id(9, 2),
            probe_number: 1,
        },
    };
    s.packet(
        MS,
        &Packet {
            header,
            members: None,
        }
        .bytes(),
        known,
    );
    assert!(s.take().sends.is_empty());
    // A life of ours that we do not know is outlived.
    s.packet(MS, &packet(id(2, 2), vec![Member::alive(id(1, 5001))]), known);
    assert!(s.own().epoch > 5001 && !s.own().left());
}

#[test]
fn foreign_bytes_do_no_harm() {
    let mut p = Pair::new([2000, 2000]);
    p.hosts[0].announce(2, address("10.0.0.2:1"));
    let mut rng = Rng::new(5);
    let mut samples = Vec::new();
    for _ in 0..300 {
        let timer = p.timers.pop_first();
        for i in 0..2 {
            let done = p.hosts[i].take();
            for (after, t) in done.timers {
                p.count += 1;
                p.timers.insert((p.now + after, p.count), (i, t));
            }
            for (_, data) in done.sends {
                p.hosts[1 - i].packet(p.now, &data, |_| true);
                samples.push(data);
            }
        }
        if let Some(((at, _), (i, t))) = timer {
            p.now = at;
            p.hosts[i].timer(at, at, t);
        }
    }
    for _ in 0..20_000 {
        let mut bad = samples[rng.below(samples.len())].clone();
        for _ in 0..=rng.below(3) {
            let i = rng.below(bad.len());
            bad[i] = rng.next() as u8;
        }
        bad.truncate(rng.below(bad.len() + 1).max(bad.len() / 2));
        p.hosts[rng.below(2)].packet(p.now, &bad, |n| n < 100);
    }
    assert!(p.hosts.iter().all(|h| h.active() < 100));
}

#[test]
fn an_epoch_that_could_not_be_outlived_is_nobodys() {
    let known = |n| n < 9;
    let to = |dst: Id, src: Id, members: Vec<Member<Id>>| {
        let header = Header {
            src,
            src_incarnation: 0,
            dst,
            message: Message::Gossip,
        };
        let members = Some(members);
        Packet { header, members }.bytes()
    };
    let packet = |src, members| to(id(1, 2000), src, members);
    let mut s = Swim::new(id(1, 2000), 3, Rng::new(1));
    s.packet(MS, &packet(id(2, 2), vec![Member::alive(id(3, 2000))]), known);
    s.take();
    // Farewells in another's name, of the last epoch there is, and of the last one that is possible.
    for epoch in [u64::MAX, u64::MAX - 1, s.limit(MS) + 1] {
        s.packet(MS, &packet(id(2, 2), vec![Member::down(id(3, epoch))]), known);
        assert_eq!(s.take().changes, []);
        s.packet(MS, &packet(id(3, epoch), vec![]), known);
        assert_eq!(s.take().changes, []);
    }
    let last = s.limit(MS) | 1;
    s.packet(2 * MS, &packet(id(2, 2), vec![Member::down(id(3, last))]), known);
    assert_eq!(s.take().changes.last().map(|c| c.verdict), Some(Verdict::Down));
    // The one that is meant outlives it, and is heard a moment later.
    let mut meant = Swim::new(id(3, 2000), 3, Rng::new(2));
    meant.packet(
        2 * MS,
        &to(id(3, 2000), id(2, 2), vec![Member::down(id(3, last))]),
        known,
    );
    assert!(meant.own().epoch > last && !meant.own().left());
    let own = *meant.own();
    s.packet(10 * MS, &packet(id(2, 2), vec![Member::alive(own)]), known);
    let change = s.take().changes.pop().map(|c| (c.id.epoch, c.verdict));
    assert_eq!(change, Some((own.epoch, Verdict::Alive)));
    // Nobody can be made to leap out of what is possible.
    let lie = vec![Member::alive(id(3, u64::MAX - 1))];
    meant.packet(MS, &to(own, id(2, 2), lie), known);
    assert_eq!(meant.own(), &own);
}
