//! Very large clusters: the membership protocol and the pace of reports alone, without engines around them, as
//! ten thousand of those do not fit. Measures bandwidth, the time until a death is known, false deaths, and how
//! old load figures are. `bench/membership.sh` prints the table; what matters is asserted here.

use crate::engine::report::{ALL, Pace, Turn};
use crate::engine::rng::Rng;
use crate::engine::swim::{Id, Swim, Timer, Verdict};
use crate::engine::wire::{self, gossip};
use prost::Message as _;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// IP and UDP headers, and what sealing adds.
const OVERHEAD: usize = 28 + 48;
/// One way through the network: at least, and how much more at most.
const LATENCY: (Duration, Duration) = (Duration::from_micros(150), Duration::from_micros(400));
/// How often a host's load changes so much that it matters, on average.
const CHANGE: Duration = Duration::from_secs(2);
/// Age of load figures is taken at so many hosts.
const OBSERVERS: usize = 100;

enum Event {
    Packet { to: usize, data: Vec<u8> },
    Timer { host: usize, timer: Timer },
    Change { host: usize },
    Report { host: usize },
}

struct Swarm {
    now: Duration,
    rng: Rng,
    hosts: Vec<Swim>,
    dead: BTreeSet<usize>,
    pace: Vec<Pace>,
    turn: Vec<Turn>,
    /// Of 1,000 datagrams so many are lost.
    loss: usize,
    queue: BTreeMap<(Duration, u64), Event>,
    count: u64,
    membership: usize,
    reports: usize,
    report: usize,
    /// For some hosts: when what they know of each host was said.
    known: Vec<Vec<Duration>>,
    /// Who learned of the death that is looked for, and when.
    learned: Vec<Duration>,
    false_deaths: usize,
    slandered: BTreeSet<u64>,
}

fn id(i: usize) -> Id {
    let [_, a, b, c] = (i as u32 + 1).to_be_bytes();
    Id::new(
        i as u64 + 1,
        2000,
        std::net::SocketAddr::from(([10, a, b, c], 7838)),
    )
}

/// What a usual load report takes.
fn report() -> usize {
    let load = wire::Load {
        load1: 1.5,
        load5: 1.2,
        load15: 1.1,
        cores: 16,
        mem_total: 64 << 30,
        mem_available: 40 << 30,
        sessions: 5,
        running: 4.2,
        busy: 3.9,
        psi_cpu: 2.5,
        psi_io: 0.5,
        starts: 1.3,
        cores_reserved: 4,
        mem_reserved: 8 << 30,
        disk_free: 200 << 30,
        facts: u64::MAX / 3,
        seq: 1_700_000_000_000,
        ..wire::Load::default()
    };
    let gossip = wire::Gossip {
        kind: Some(gossip::Kind::Report(load)),
    };
    gossip.encoded_len() + OVERHEAD
}

impl Swarm {
    /// `members`: with the membership protocol, else with reports only.
    fn new(seed: u64, n: usize, loss: usize, members: bool) -> Self {
        let mut rng = Rng::new(seed);
        let hosts = (0..if members { n } else { 0 })
            .map(|i| {
                let mut s = Swim::new(id(i), n, Rng::new(rng.next()));
                s.meet((0..n).filter(|j| *j != i).map(id));
                s
            })
            .collect();
        let mut w = Self {
            now: Duration::ZERO,
            rng,
            hosts,
            dead: BTreeSet::new(),
            pace: vec![Pace::default(); n],
            turn: vec![Turn::default(); n],
            loss,
            queue: BTreeMap::new(),
            count: 0,
            membership: 0,
            reports: 0,
            report: report(),
            known: vec![vec![Duration::ZERO; n]; OBSERVERS.min(n)],
            learned: Vec::new(),
            false_deaths: 0,
            slandered: BTreeSet::new(),
        };
        for i in 0..n {
            // They did not all start in the same moment.
            let offset = w.rng.between(Duration::ZERO, Duration::from_millis(500));
            if members {
                w.settle(i, offset);
            }
            let host = i;
            let offset = w.rng.between(Duration::ZERO, Duration::from_secs(2));
            w.at(offset, Event::Change { host });
            w.at(offset, Event::Report { host });
        }
        w
    }

    fn at(&mut self, after: Duration, e: Event) {
        self.count += 1;
        self.queue.insert((self.now + after, self.count), e);
    }

    fn lost(&mut self) -> bool {
        self.rng.below(1000) < self.loss
    }

    fn settle(&mut self, i: usize, offset: Duration) {
        let done = self.hosts[i].take();
        for (after, timer) in done.timers {
            self.at(after + offset, Event::Timer { host: i, timer });
        }
        for (to, data) in done.sends {
            self.membership += data.len() + 3 + OVERHEAD;
            let wait = LATENCY.0 + self.rng.between(Duration::ZERO, LATENCY.1);
            if !self.lost() {
                let to = to.host as usize - 1;
                self.at(wait, Event::Packet { to, data });
            }
        }
        for c in done.changes {
            if c.verdict == Verdict::Down {
                if self.dead.contains(&(c.id.host as usize - 1)) {
                    self.learned.push(self.now);
                } else {
                    self.false_deaths += 1;
                    self.slandered.insert(c.id.host);
                }
            }
        }
    }

    fn tell(&mut self, host: usize) {
        for to in self.turn[host].next(self.pace.len() - 1, &mut self.rng) {
            self.reports += self.report;
            // All but the host itself.
            let to = to + usize::from(to >= host);
            if to < self.known.len() && !self.lost() {
                self.known[to][host] = self.now;
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let n = self.pace.len();
        while let Some(first) = self.queue.first_entry().filter(|e| e.key().0 <= end) {
            let ((at, _), event) = first.remove_entry();
            self.now = at;
            match event {
                Event::Packet { to, data } if !self.dead.contains(&to) => {
                    self.hosts[to].packet(at, &data, |h| h <= n as u64);
                    self.settle(to, Duration::ZERO);
                }
                Event::Timer { host, timer } if !self.dead.contains(&host) => {
                    self.hosts[host].timer(at, at, timer);
                    self.settle(host, Duration::ZERO);
                }
                Event::Change { host } if !self.dead.contains(&host) => {
                    if let Some(due) = self.pace[host].soon(at, n - 1) {
                        self.at(due - at, Event::Report { host });
                    }
                    let wait = self.rng.between(Duration::ZERO, CHANGE * 2);
                    self.at(wait, Event::Change { host });
                }
                Event::Report { host } if !self.dead.contains(&host) => {
                    if let Some(next) = self.pace[host].is_due(at) {
                        self.at(next - at, Event::Report { host });
                        self.tell(host);
                    }
                }
                _ => {}
            }
        }
        self.now = end;
    }
}

/// One line of the table.
#[derive(Debug)]
struct Line {
    hosts: usize,
    loss: f64,
    /// Bits per second and host.
    membership: f64,
    reports: f64,
    /// Until the first, the median and the last host knew of a death; the worst of all deaths.
    first: Duration,
    median: Duration,
    last: Duration,
    /// Hosts that did not learn of it at all.
    ignorant: usize,
    /// Wrong verdicts of some host on another, and on how many different ones, in this time.
    false_deaths: usize,
    slandered: usize,
    time: Duration,
    /// Age of load figures: median, and what one in a hundred exceeds.
    age: (Duration, Duration),
}

/// Age of load figures: median, and what one in a hundred exceeds.
fn ages(n: usize, loss: usize) -> (Duration, Duration) {
    let mut w = Swarm::new(11, n, loss, false);
    let mut ages: Vec<Duration> = Vec::new();
    w.run(Duration::from_secs(if n <= ALL { 20 } else { 100 }));
    // At several moments, as those that report in step have the same age.
    for _ in 0..7 {
        w.run(Duration::from_millis(1300));
        for (o, known) in w.known.iter().enumerate() {
            let others = known.iter().enumerate().filter(|(j, _)| *j != o);
            ages.extend(others.map(|(_, t)| w.now - *t));
        }
    }
    ages.sort_unstable();
    (ages[ages.len() / 2], ages[ages.len() * 99 / 100])
}

fn measure(n: usize, loss: usize, deaths: usize, idle: Duration) -> Line {
    let age = ages(n, loss);
    let mut w = Swarm::new(7, n, loss, true);
    w.run(Duration::from_secs(5));
    (w.membership, w.reports) = (0, 0);
    w.run(idle);
    let rate = |bytes: usize| bytes as f64 * 8.0 / idle.as_secs_f64() / n as f64;
    let (membership, reports) = (rate(w.membership), rate(w.reports));
    let (mut first, mut median, mut last) = Default::default();
    let mut ignorant = 0;
    for d in 0..deaths {
        w.learned.clear();
        w.dead.insert(d * (n / deaths));
        let died = w.now;
        let others = n - w.dead.len();
        while w.learned.len() < others && w.now < died + Duration::from_secs(20) {
            w.run(Duration::from_millis(100));
        }
        ignorant += others.saturating_sub(w.learned.len());
        let after = |t: Option<&Duration>| t.map_or(Duration::MAX, |t| *t - died);
        first = after(w.learned.first()).max(first);
        median = after(w.learned.get(w.learned.len() / 2)).max(median);
        last = after(w.learned.last()).max(last);
    }
    Line {
        hosts: n,
        loss: loss as f64 / 10.0,
        membership,
        reports,
        first,
        median,
        last,
        ignorant,
        false_deaths: w.false_deaths,
        slandered: w.slandered.len(),
        time: w.now,
        age,
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let s = |d: Duration| format!("{:.1}", d.as_secs_f64());
        write!(
            f,
            "{:>6} {:>5} %  {:>9.1} {:>9.1}   {:>5} {:>5} {:>5} {:>4}   {:>6} {:>4} {:>6}   {:>6} {:>6}",
            self.hosts,
            self.loss,
            self.membership / 1000.0,
            self.reports / 1000.0,
            s(self.first),
            s(self.median),
            s(self.last),
            self.ignorant,
            self.false_deaths,
            self.slandered,
            s(self.time),
            s(self.age.0),
            s(self.age.1),
        )
    }
}

/// What is promised.
fn check(l: &Line) {
    assert_eq!(l.ignorant, 0, "{l:?}");
    assert!(l.last < Duration::from_secs(10), "{l:?}");
    assert!(l.reports < 550_000.0, "{l:?}");
    assert!(l.membership < 60_000.0, "{l:?}");
    if l.loss <= 5.0 {
        assert_eq!(l.false_deaths, 0, "{l:?}");
    }
    if l.hosts <= ALL {
        // Two reports in a row lost, or one and a bit.
        let limit = if l.loss <= 5.0 { 9 } else { 15 };
        assert!(l.age.1 < Duration::from_secs(limit), "{l:?}");
    }
}

#[test]
fn a_hundred_hosts() {
    for loss in [0, 50, 100] {
        check(&measure(100, loss, 5, Duration::from_secs(20)));
    }
}

#[test]
fn ten_thousand_are_told_in_turn() {
    let (median, worst) = ages(10_000, 0);
    assert!(worst < Duration::from_secs(60), "{median:?} {worst:?}");
}

#[test]
fn a_thousand_hosts() {
    for loss in [0, 50] {
        check(&measure(1000, loss, 1, Duration::from_secs(10)));
    }
}

/// The whole table; `QUEUE_SWARM_HOSTS` and `QUEUE_SWARM_LOSS` choose among its lines.
#[test]
#[ignore = "takes minutes, and 5 GiB with ten thousand hosts; bench/membership.sh runs it"]
#[expect(clippy::print_stdout, reason = "the table is what it is run for")]
fn table() {
    let list = |name: &str, all: &[usize]| -> Vec<usize> {
        std::env::var_os(name)
            .and_then(|v| v.into_string().ok())
            .map_or_else(
                || all.to_vec(),
                |v| v.split_whitespace().filter_map(|w| w.parse().ok()).collect(),
            )
    };
    println!(
        "                       kbit/s and host     a death is known, s      false deaths          age of load, s"
    );
    println!(
        " hosts    loss  membership   reports   first   med  last none    count hosts   in s   median    p99"
    );
    for n in list("QUEUE_SWARM_HOSTS", &[100, 1000]) {
        for loss in list("QUEUE_SWARM_LOSS", &[0, 2, 5, 10]) {
            let (deaths, idle) = match n {
                0..=100 => (20, 60),
                101..=1000 => (5, 30),
                _ => (1, 6),
            };
            println!("{}", measure(n, loss * 10, deaths, Duration::from_secs(idle)));
        }
    }
}
