use super::*;
use libqueue::wire::job::{Array, Plan, TaskRange, down};

const START: Clock = Clock {
    boot: 1_000_000,
    wall: 1_741_083_060_000,
};

/// The post, a clock, and what it did.
struct Office {
    post: Post,
    clock: Clock,
    store: BTreeMap<u64, Letter>,
    sent: Vec<Letter>,
    logs: Vec<String>,
}

impl Office {
    fn new() -> Self {
        let mut o = Self::without_mailer();
        o.post.mailer("h1", 1, true);
        o
    }

    fn without_mailer() -> Self {
        Self {
            post: Post::new(Vec::new(), 0),
            clock: START,
            store: BTreeMap::new(),
            sent: Vec::new(),
            logs: Vec::new(),
        }
    }

    fn take(&mut self, out: Vec<LeaderEffect>) {
        for e in out {
            match e {
                LeaderEffect::Store(Op::Letter(l)) => drop(self.store.insert(l.number, *l)),
                LeaderEffect::Store(Op::LetterGone(n)) => assert!(self.store.remove(&n).is_some(), "{n}"),
                LeaderEffect::Send {
                    message: down::Kind::Letter(l),
                    ..
                } => {
                    assert_eq!(self.store.get(&l.number), Some(&l), "on disk before it is sent");
                    self.sent.push(l);
                }
                LeaderEffect::Log(_, text) => self.logs.push(text),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Goes on for so long, ticking when it is asked to; each letter is confirmed.
    fn pass(&mut self, ms: u64) {
        let end = self.clock.boot + ms;
        let mut turns = 0;
        while let Some(w) = self.post.wake().filter(|w| *w <= end) {
            self.to(w.max(self.clock.boot));
            self.tick();
            turns += 1;
            assert!(turns < 10_000, "it ticks for ever");
        }
        self.to(end);
    }

    fn to(&mut self, boot: u64) {
        self.clock.wall += boot - self.clock.boot;
        self.clock.boot = boot;
    }

    fn tick(&mut self) {
        let mut out = Vec::new();
        self.post.tick(self.clock, &mut out);
        self.take(out);
    }

    fn mailed(&mut self, number: u64, failed: &str, hopeless: bool) {
        let mut out = Vec::new();
        let m = Mailed {
            number,
            failed: failed.to_owned(),
            hopeless,
        };
        self.post.mailed(self.clock, "h1", m, &mut out);
        self.take(out);
    }

    fn confirm(&mut self) {
        for n in self.sent.iter().map(|l| l.number).collect::<Vec<_>>() {
            self.mailed(n, "", false);
        }
    }

    fn event(&mut self, e: Event<'_>) {
        self.post.event(self.clock, e);
    }

    fn subjects(&self) -> Vec<&str> {
        self.sent.iter().map(|l| &l.subject[..]).collect()
    }
}

fn job(id: u64, change: impl FnOnce(&mut Plan)) -> JobRow {
    let mut row = JobRow {
        id,
        owner: "alice".into(),
        submit_host: "h1".into(),
        submitted_ms: START.wall - 60_000,
        command: "make all".into(),
        plan: Plan {
            name: "build".into(),
            class: "main".into(),
            ..Plan::default()
        },
        ..JobRow::default()
    };
    change(&mut row.plan);
    row
}

fn outcome(cause: Cause, code: Option<u32>, signal: Option<u32>) -> Outcome {
    Outcome {
        cause: cause as i32,
        code,
        signal,
        started_ms: START.wall - 10_000,
        wall_ms: 4_200,
        cpu_us: 3_100_000,
        maxrss_kib: 4 << 20,
        ..Outcome::default()
    }
}

fn ended<'a>(job: &'a JobRow, task: u32, state: State, o: &'a Outcome) -> Event<'a> {
    Event {
        kind: EventKind::Ended,
        job,
        key: Key {
            job: job.id,
            task,
            attempt: 1,
        },
        outcome: Some(o),
        state,
        host: "h2",
        counts: &[],
        last_of_job: true,
        last_of_group: true,
    }
}

fn failed() -> Outcome {
    outcome(Cause::Exited, Some(3), None)
}

#[test]
fn one_failure_is_one_letter() {
    let mut o = Office::new();
    let j = job(12, |_| {});
    let out = Outcome {
        head: b"cc: no such file\n\x1b[1m".to_vec(),
        written: 20,
        output: b"/home/alice/queue-12.out".to_vec(),
        ..failed()
    };
    o.event(ended(&j, 0, State::Failed, &out));
    o.pass(4_000);
    assert!(o.sent.is_empty(), "it waits for company");
    assert_eq!(o.store.len(), 1, "but is on disk");
    o.pass(1_000);
    assert_eq!(o.subjects(), ["Unsuccessful+Output: 12 build [main]: exit 3"]);
    let l = o.sent[0].clone();
    assert_eq!(l.to, "alice");
    for part in [
        "Job 12 build: exit 3.",
        "host       h2",
        "exit code  3",
        "wall       4.2 s",
        "CPU        3.1 s",
        "memory     4.0G at most",
        "attempts   1",
        "queue retry 12",
        "queue log 12",
        "cc: no such file\n?[1m",
        "/home/alice/queue-12.out (20B)",
    ] {
        assert!(l.body.contains(part), "{part} in:\n{}", l.body);
    }
    let headers: Vec<_> = l
        .headers
        .iter()
        .map(|h| format!("{}={}", h.name, h.value))
        .collect();
    let all = [
        "User=alice",
        "Job=12",
        "State=failed",
        "Class=main",
        "Name=build",
        "Host=h2",
        "Exit=3",
    ];
    assert_eq!(headers, all);
    o.confirm();
    assert!(o.store.is_empty());
    o.pass(10 * 86_400_000);
    assert_eq!(o.sent.len(), 1);
    assert_eq!(o.post.wake(), None);
}

#[test]
fn who_wants_what() {
    let ok = outcome(Cause::Exited, Some(0), None);
    let bad = failed();
    let own = Outcome {
        text: "killed by alice@h1".into(),
        ..outcome(Cause::Killed, None, Some(15))
    };
    let others = Outcome {
        text: "killed by alicette@h1".into(),
        ..own.clone()
    };
    let n = |change: fn(&mut Plan), state, out: &Outcome| {
        let mut o = Office::new();
        let j = job(1, change);
        o.event(ended(&j, 0, state, out));
        o.pass(20_000);
        o.sent.len()
    };
    assert_eq!(n(|_| {}, State::Done, &ok), 0);
    assert_eq!(n(|_| {}, State::Failed, &bad), 1);
    assert_eq!(n(|_| {}, State::Killed, &own), 0);
    assert_eq!(n(|_| {}, State::Killed, &others), 1);
    assert_eq!(n(|p| p.mail = Some(mail_when::NEVER), State::Failed, &bad), 0);
    assert_eq!(n(|p| p.mail = Some(mail_when::END), State::Failed, &bad), 0);
    assert_eq!(n(|p| p.mail = Some(mail_when::END), State::Done, &ok), 1);
    assert_eq!(n(|p| p.silent = true, State::Failed, &bad), 0);
    assert_eq!(n(|p| p.attached = true, State::Failed, &bad), 0);
}

#[test]
fn subjects_tell_the_truth() {
    let subject = |kind, state, out: Option<Outcome>, reason: &str| {
        let mut o = Office::new();
        let mut j = job(7, |p| {
            p.mail = Some(mail_when::BEGIN | mail_when::END | mail_when::FAIL)
        });
        j.reason = reason.into();
        let none = Outcome::default();
        let e = Event {
            kind,
            outcome: out.as_ref(),
            ..ended(&j, 0, state, &none)
        };
        o.post.event(o.clock, e);
        o.pass(6_000);
        o.sent.remove(0).subject
    };
    let core = Outcome {
        core: true,
        ..outcome(Cause::Signal, None, Some(11))
    };
    let is = |a: String, b: &str| assert_eq!(a, format!("{b}"));
    use EventKind::{Begin, Ended, Lost, Rejected};
    is(
        subject(Begin, State::Running, None, ""),
        "Started: 7 build [main]: runs on h2",
    );
    is(
        subject(
            Ended,
            State::Done,
            Some(outcome(Cause::Exited, Some(0), None)),
            "",
        ),
        "Success: 7 build [main]: exit 0",
    );
    let crash = subject(Ended, State::Failed, Some(core.clone()), "");
    is(crash, "Crash: 7 build [main]: killed by SIGSEGV (core dumped)");
    let buried = subject(Ended, State::Buried, Some(core), "");
    is(buried, "Buried: 7 build [main]: killed by SIGSEGV (core dumped)");
    is(
        subject(Lost, State::Lost, None, ""),
        "Lost: 7 build [main]: host h2 is lost",
    );
    let refused = subject(Rejected, State::Failed, None, "rejected: no such\r\nBcc: mallory");
    is(
        refused,
        "Unsuccessful: 7 build [main]: rejected: no such  Bcc: mallory",
    );
}

#[test]
fn a_burst_is_one_digest() {
    let mut o = Office::new();
    let bad = failed();
    for id in 1..=200 {
        let j = job(id, |_| {});
        let out = if id % 10 == 0 {
            outcome(Cause::Memory, None, Some(9))
        } else {
            bad.clone()
        };
        o.event(ended(&j, 0, State::Failed, &out));
        o.pass(1_000);
    }
    assert!(o.sent.is_empty());
    let drafts = o.store.values().next().unwrap();
    assert!(drafts.body.contains("jobs ended badly"), "{}", drafts.body);
    o.pass(29_000);
    assert_eq!(o.subjects(), ["Unsuccessful: 200 jobs ended badly"]);
    let body = &o.sent[0].body;
    for part in [
        "180  exit 3 (1, 2, 3, 4, 5, ...; on h2 180)",
        "20  over memory (10, 20,",
        "and 180 more",
    ] {
        assert!(body.contains(part), "{part} in:\n{body}");
    }
    o.confirm();
    assert!(o.store.is_empty());
}

#[test]
fn a_burst_without_end_is_told_every_ten_minutes() {
    let mut o = Office::new();
    let bad = failed();
    for id in 1..=1_300 {
        let j = job(id, |_| {});
        o.event(ended(&j, 0, State::Failed, &bad));
        o.pass(1_000);
        o.confirm();
    }
    assert_eq!(o.sent.len(), 2);
    o.pass(60_000);
    assert_eq!(o.sent.len(), 3);
    let n: u64 = o
        .sent
        .iter()
        .map(|l| {
            l.headers
                .iter()
                .find(|h| h.name == "Digest")
                .unwrap()
                .value
                .parse::<u64>()
                .unwrap()
        })
        .sum();
    assert_eq!(n, 1_300);
}

fn tasks(p: &mut Plan) {
    p.array = Some(Array {
        ranges: vec![TaskRange {
            from: 1,
            to: 100,
            step: 1,
        }],
        at_once: 0,
    });
}

/// Ends an array of 100 tasks, of which each tenth fails.
fn run_array(o: &mut Office, j: &JobRow, group_over: bool) {
    let (ok, bad) = (outcome(Cause::Exited, Some(0), None), failed());
    for t in 1..=100u32 {
        let fails = t % 10 == 0;
        let (state, out) = if fails {
            (State::Failed, &bad)
        } else {
            (State::Done, &ok)
        };
        let counts = [(State::Done, 90), (State::Failed, 10)];
        let e = Event {
            counts: &counts,
            last_of_job: t == 100,
            last_of_group: t == 100 && group_over,
            ..ended(j, t, state, out)
        };
        o.post.event(o.clock, e);
        o.pass(10_000);
    }
}

#[test]
fn an_array_is_one_digest() {
    let mut o = Office::new();
    run_array(&mut o, &job(5, tasks), true);
    assert_eq!(
        o.subjects(),
        ["Unsuccessful: 5 build [main]: 10 of 100 tasks ended badly"]
    );
    let body = &o.sent[0].body;
    for part in [
        "Array 5 build is over: 90 done, 10 failed.",
        "10  exit 3 (5.10, 5.20, 5.30, 5.40, 5.50, ...",
        "5.100 build: exit 3 on h2",
    ] {
        assert!(body.contains(part), "{part} in:\n{body}");
    }
    o.confirm();
    assert!(o.store.is_empty());
    // Nothing failed: only who wants to know gets a letter.
    let ok = outcome(Cause::Exited, Some(0), None);
    for (mail, n) in [(None, 0), (Some(mail_when::END), 1)] {
        let mut o = Office::new();
        let j = job(6, |p| {
            tasks(p);
            p.mail = mail;
        });
        let counts = [(State::Done, 100)];
        for t in 1..=100 {
            let e = Event {
                counts: &counts,
                last_of_job: t == 100,
                ..ended(&j, t, State::Done, &ok)
            };
            o.event(e);
        }
        o.pass(10_000);
        assert_eq!(o.sent.len(), n);
        assert!(n == 0 || o.sent[0].subject == "Success: 6 build [main]: all 100 tasks done");
    }
}

#[test]
fn a_group_is_one_digest_when_nothing_of_it_is_live() {
    let mut o = Office::new();
    let bad = failed();
    let ok = outcome(Cause::Exited, Some(0), None);
    let group = |p: &mut Plan| p.group = "night".into();
    for id in 1..=3 {
        let j = job(id, group);
        let e = Event {
            last_of_group: false,
            ..ended(&j, 0, State::Failed, &bad)
        };
        o.event(e);
        o.pass(600_000);
    }
    let array = job(4, |p| {
        tasks(p);
        group(p);
    });
    run_array(&mut o, &array, false);
    assert!(o.sent.is_empty());
    let last = job(5, group);
    o.event(ended(&last, 0, State::Done, &ok));
    o.pass(6_000);
    assert_eq!(o.subjects(), ["Unsuccessful: group night: 4 jobs ended badly"]);
    let body = &o.sent[0].body;
    assert!(body.contains("4 build: 10 of 100 tasks ended badly"), "{body}");
    o.confirm();
    assert!(o.store.is_empty());
}

#[test]
fn what_was_gathered_survives_the_leader() {
    let mut o = Office::new();
    let bad = failed();
    let j = job(1, |p| p.group = "night".into());
    let e = Event {
        last_of_group: false,
        ..ended(&j, 0, State::Failed, &bad)
    };
    o.event(e);
    o.pass(1);
    let letters: Vec<Letter> = o.store.values().cloned().collect();
    assert_eq!(letters.len(), 1);
    let last = letters[0].number;
    o.post = Post::new(letters, last);
    o.post.mailer("h9", 4, true);
    o.pass(1);
    assert_eq!(o.subjects(), ["Unsuccessful: 1 build [main]: exit 3"]);
    o.confirm();
    o.event(ended(&job(2, |_| {}), 0, State::Failed, &bad));
    o.pass(6_000);
    assert!(o.sent[1].number > last);
}

#[test]
fn a_letter_is_tried_again_elsewhere_and_given_up_after_three_days() {
    let mut o = Office::without_mailer();
    let bad = failed();
    o.event(ended(&job(1, |_| {}), 0, State::Failed, &bad));
    o.pass(HOUR);
    assert!(o.sent.is_empty());
    assert_eq!(o.post.waiting(), 1);
    o.post.mailer("h1", 1, true);
    o.pass(0);
    assert_eq!(o.sent.len(), 1, "at once when somebody can");
    let number = o.sent[0].number;
    o.mailed(number, "try later", false);
    o.pass(59_000);
    assert_eq!(o.sent.len(), 1);
    o.pass(1_000);
    assert_eq!(o.sent.len(), 2);
    // Silence counts as a failure; a connection that ended, too.
    o.pass(180_000);
    assert_eq!(o.sent.len(), 3);
    o.post.mailer("h1", 1, false);
    o.pass(200_000);
    assert_eq!(o.sent.len(), 3);
    o.post.mailer("h1", 2, true);
    o.pass(0);
    assert_eq!(o.sent.len(), 4);
    for _ in 0..200 {
        o.mailed(number, "greylisted", false);
        o.pass(HOUR);
    }
    assert!(o.store.is_empty() && o.post.waiting() == 0);
    assert!(o.sent.len() < 100, "{}", o.sent.len());
    // That letters wait is said once.
    assert_eq!(o.logs.len(), 2);
    assert!(
        o.logs[0].contains("tried again: h1 says try later"),
        "{}",
        o.logs[0]
    );
    assert!(
        o.logs[1].contains("given up: h1 says greylisted"),
        "{}",
        o.logs[1]
    );
    assert_eq!(o.post.wake(), None);
}

#[test]
fn a_refused_address_is_not_tried_again_and_without_a_mailer_nothing_is_said() {
    let mut o = Office::new();
    let bad = failed();
    o.event(ended(&job(1, |_| {}), 0, State::Failed, &bad));
    o.pass(6_000);
    let number = o.sent[0].number;
    o.mailed(number, "550 no such user", true);
    assert!(o.store.is_empty() && o.logs.len() == 1);
    o.mailed(number, "", false);
    // The operator hears of it; but not that his own letters are refused.
    o.pass(1);
    assert_eq!(o.subjects()[1..], ["queue: a letter to alice is given up"]);
    let l = &o.sent[1];
    assert!(
        l.to.is_empty() && l.body.contains("h1 says 550 no such user"),
        "{l:?}"
    );
    assert!(l.body.contains("Unsuccessful: 1 build [main]: exit 3"), "{l:?}");
    o.mailed(l.number, "550 nobody here", true);
    o.pass(HOUR);
    assert!(o.sent.len() == 2 && o.store.is_empty() && o.logs.len() == 2);
    let mut o = Office::without_mailer();
    o.event(ended(&job(1, |_| {}), 0, State::Failed, &bad));
    o.pass(4 * 86_400_000);
    assert!(o.store.is_empty() && o.logs.is_empty());
}

#[test]
fn an_operator_gets_ten_an_hour_and_a_summary() {
    let mut o = Office::new();
    let out = Outcome {
        head: b"private".to_vec(),
        written: 7,
        ..outcome(Cause::Internal, None, None)
    };
    for id in 1..=35 {
        let j = job(id, |p| p.silent = true);
        o.event(ended(&j, 0, State::Failed, &out));
        o.pass(1_000);
        o.confirm();
    }
    assert_eq!(o.sent.len(), 10);
    assert!(
        o.sent
            .iter()
            .all(|l| l.to.is_empty() && !l.body.contains("private"))
    );
    assert!(
        o.sent[0]
            .subject
            .starts_with("queue: error on h2: job 1 build: failed for an internal reason")
    );
    for _ in 0..60 {
        o.pass(60_000);
        o.confirm();
    }
    assert_eq!(o.sent.len(), 11);
    assert_eq!(o.sent[10].subject, "queue: 25 more errors in the last hour");
    o.confirm();
    assert!(o.store.is_empty());
    o.event(ended(&job(40, |p| p.silent = true), 0, State::Failed, &out));
    o.pass(1_000);
    assert_eq!(o.sent.len(), 12);
}

#[test]
fn few_letters_are_on_their_way_at_once() {
    let mut o = Office::new();
    let bad = failed();
    for id in 1..=50 {
        let j = job(id, |p| p.mail_to = format!("u{id}@example.org"));
        o.event(ended(&j, 0, State::Failed, &bad));
    }
    o.pass(5_000);
    assert_eq!(o.sent.len(), 4);
    for n in 0..50 {
        let number = o.sent[n].number;
        o.mailed(number, "", false);
        o.pass(0);
    }
    assert_eq!(o.sent.len(), 50);
    assert!(o.store.is_empty());
}
