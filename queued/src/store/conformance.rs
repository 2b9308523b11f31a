//! What holds for all stores: one suite, run on each.

use super::memory::{MemorySpool, MemoryStore};
use super::spool::SqliteSpool;
use super::sqlite::SqliteStore;
use super::*;
use libqueue::wire::job::{
    AfterHow, Array, Cause, Count, Detail, History, IdRange, Output, Over, Run, Selection, Stats, TaskRange,
};
use prost::Message as _;
use std::path::PathBuf;

/// A directory that is removed in the end.
#[derive(Debug)]
pub(super) struct Dir(pub PathBuf);

impl Dir {
    pub(super) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("queue-store-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub(super) fn db(&self) -> PathBuf {
        self.0.join("jobs.db")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a test on each store.
fn on_each(name: &str, test: fn(&mut dyn JobStore)) {
    test(&mut MemoryStore::default());
    let dir = Dir::new(name);
    let mut store = SqliteStore::open(&dir.db()).unwrap();
    test(&mut store);
    let loaded = store.load().unwrap();
    drop(store);
    assert_eq!(
        SqliteStore::open(&dir.db()).unwrap().load().unwrap(),
        loaded,
        "opened again"
    );
}

/// Now, by the clock that the SQLite store looks at.
fn now() -> u64 {
    super::select::now_ms()
}

pub(super) fn submit(id: u64) -> Box<Submit> {
    let run = Run {
        argv: vec![b"true".to_vec(), id.to_string().into_bytes()],
        cwd: b"/home/alice".to_vec(),
        env: vec![b"SECRET=hunter2".to_vec()],
        ..Run::default()
    };
    Box::new(Submit {
        run: run.encode_to_vec(),
        warrant: format!("warrant {id}").into_bytes(),
        cert: format!("cert {}", id % 3).into_bytes(),
        id,
        owner: "alice".to_owned(),
        ..Submit::default()
    })
}

pub(super) fn row(id: u64) -> Box<JobRow> {
    Box::new(JobRow {
        id,
        owner: "alice".to_owned(),
        login: "al".to_owned(),
        submit_host: "h1".to_owned(),
        submitted_ms: now() - 10_000,
        plan: Plan {
            name: format!("job-{id}"),
            group: "night".to_owned(),
            class: "main".to_owned(),
            priority: Some(-3),
            ..Plan::default()
        },
        command: format!("true {id}"),
        after: vec![(7, AfterHow::Any as i32)],
        home_hosts: vec!["h1".to_owned(), "h2".to_owned()],
        held: "alice@h1".to_owned(),
        entries: true,
        ..JobRow::default()
    })
}

pub(super) fn job(id: u64) -> Op {
    Op::Job {
        submit: submit(id),
        row: row(id),
    }
}

fn key(job: u64, task: u32, attempt: u32) -> Key {
    Key { job, task, attempt }
}

pub(super) fn sent(job: u64, task: u32, attempt: u32, host: &str) -> Op {
    Op::Attempt(AttemptRow {
        key: key(job, task, attempt),
        host: host.to_owned(),
        life: vec![7; 16],
        epoch: 3,
        sent_ms: now() - 5_000,
        lease_ms: 900_000,
        started_ms: 0,
    })
}

pub(super) fn exited(code: u32) -> Outcome {
    Outcome {
        cause: Cause::Exited as i32,
        code: Some(code),
        started_ms: now() - 4_000,
        wall_ms: 1_500,
        cpu_us: 700_000,
        maxrss_kib: 4_096,
        ..Outcome::default()
    }
}

pub(super) fn ended(job: u64, task: u32, attempt: u32, outcome: Outcome, state: State) -> Op {
    Op::Ended {
        key: key(job, task, attempt),
        at_ms: now() - 1_000,
        outcome: Box::new(outcome),
        task: TaskRow {
            job,
            task,
            state: state as i32,
            attempt,
            ..TaskRow::default()
        },
    }
}

pub(super) fn over(job: u64, state: State) -> Op {
    Op::Over {
        job,
        state,
        at_ms: now() - 500,
    }
}

fn asker(user: &str, operator: bool) -> Asker {
    Asker {
        user: user.to_owned(),
        host: "h1".to_owned(),
        operator,
    }
}

fn ask(store: &dyn JobStore, who: &Asker, read: Read) -> job_reply::Kind {
    let mut all = Vec::new();
    store.read(who, read, &mut |k| all.push(k)).unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn page(store: &dyn JobStore, who: &Asker, ask_for: History) -> (Vec<(u64, u32)>, u64) {
    match ask(store, who, Read::History(ask_for)) {
        job_reply::Kind::Page(p) => (p.jobs.iter().map(|j| (j.id, j.task)).collect(), p.total),
        other => panic!("{other:?}"),
    }
}

fn ids(from: u64, to: u64) -> Vec<IdRange> {
    vec![IdRange {
        from,
        to,
        tasks: None,
    }]
}

fn array(id: u64, tasks: u32) -> Op {
    let mut row = row(id);
    row.plan.array = Some(Array {
        ranges: vec![TaskRange {
            from: 1,
            to: tasks,
            step: 1,
        }],
        at_once: 0,
    });
    Op::Job {
        submit: submit(id),
        row,
    }
}

#[test]
fn a_new_store_is_empty() {
    on_each("new", |s| {
        let empty = Loaded {
            next_id: 1,
            ..Loaded::default()
        };
        assert_eq!(s.load().unwrap(), empty);
        assert_eq!(s.run(1).unwrap(), None);
        assert!(s.entries(1).unwrap().is_empty());
    });
}

#[test]
fn single_values_limits_letters_and_deliveries() {
    on_each("values", |s| {
        let block = |from| Block { from, to: from + 10 };
        let put = |host: &str, from| Op::Block {
            host: host.to_owned(),
            block: block(from),
        };
        let letter = |number| {
            Op::Letter(Box::new(Letter {
                number,
                to: "alice".to_owned(),
                subject: "Ünicode".to_owned(),
                ..Letter::default()
            }))
        };
        let delivery = |number, tries| {
            Op::Delivery(DeliveryRow {
                number,
                job: 4,
                from: "h2".to_owned(),
                to: "h1".to_owned(),
                tries,
            })
        };
        s.commit(&[
            Op::Epoch(1),
            Op::NextId(11),
            put("h1", 1),
            Op::Limit("license".to_owned(), Some(3)),
            Op::Limit("disk".to_owned(), Some(1)),
            letter(1),
            letter(2),
            delivery(3, 0),
            delivery(9, 0),
        ])
        .unwrap();
        s.commit(&[
            Op::Epoch(2),
            Op::NextId(21),
            put("h1", 11),
            put("h0", 21),
            Op::Limit("disk".to_owned(), None),
            Op::LetterGone(1),
            delivery(3, 2),
            Op::DeliveryGone(9, "no".to_owned()),
        ])
        .unwrap();
        let l = s.load().unwrap();
        assert_eq!((l.epoch, l.next_id, l.last_number), (2, 21, 9));
        assert_eq!(
            l.blocks,
            [("h0".to_owned(), block(21)), ("h1".to_owned(), block(11))]
        );
        assert_eq!(l.limits, [("license".to_owned(), 3)]);
        assert_eq!(l.letters.iter().map(|l| l.number).collect::<Vec<_>>(), [2]);
        assert_eq!(l.letters[0].subject, "Ünicode");
        assert_eq!(l.deliveries.len(), 1);
        assert_eq!((l.deliveries[0].number, l.deliveries[0].tries), (3, 2));
    });
}

#[test]
fn a_job_comes_back_as_it_was_submitted() {
    on_each("job", |s| {
        let mut with = submit(2);
        with.entries = vec![b"a".to_vec(), Vec::new(), b"\xff\0".to_vec()];
        let second = Op::Job {
            submit: with.clone(),
            row: row(2),
        };
        s.commit(&[job(1), second]).unwrap();
        let l = s.load().unwrap();
        let same = |mut a: JobRow, b: &JobRow| {
            a.submitted_ms = b.submitted_ms;
            assert_eq!(a, *b);
        };
        same(*row(1), &l.jobs[0]);
        same(*row(2), &l.jobs[1]);
        assert!(l.tasks.is_empty() && l.attempts.is_empty() && l.over.is_empty());
        for id in 1..=2 {
            let run = s.run(id).unwrap().unwrap();
            let was = submit(id);
            assert_eq!((run.run, run.warrant, run.cert), (was.run, was.warrant, was.cert));
        }
        assert_eq!(s.entries(2).unwrap(), with.entries);
        assert!(s.entries(1).unwrap().is_empty());
        let mut changed = row(1);
        changed.plan.name = "other".to_owned();
        changed.after.clear();
        changed.held.clear();
        s.commit(&[Op::Row(changed.clone())]).unwrap();
        assert_eq!(s.load().unwrap().jobs[0], *changed);
        assert!(s.run(1).unwrap().is_some());
    });
}

#[test]
fn an_attempt_is_loaded_until_it_ends_and_a_job_until_it_is_over() {
    on_each("attempts", |s| {
        s.commit(&[array(1, 3), sent(1, 1, 1, "h1"), sent(1, 2, 1, "h2"), job(2)])
            .unwrap();
        let started = Op::Started {
            key: key(1, 2, 1),
            at_ms: 77,
        };
        s.commit(&[started, ended(1, 1, 1, exited(0), State::Done)])
            .unwrap();
        let l = s.load().unwrap();
        assert_eq!(l.attempts.len(), 1);
        assert_eq!((l.attempts[0].key, l.attempts[0].started_ms), (key(1, 2, 1), 77));
        assert_eq!((l.attempts[0].life.len(), l.attempts[0].epoch), (16, 3));
        assert_eq!(l.tasks.len(), 1);
        assert_eq!((l.tasks[0].task, l.tasks[0].state), (1, State::Done as i32));
        let held = TaskRow {
            job: 1,
            task: 3,
            state: State::Waiting as i32,
            attempt: 2,
            failures: 1,
            not_before_ms: 5,
            held: true,
        };
        s.commit(&[Op::Task(held)]).unwrap();
        assert_eq!(s.load().unwrap().tasks[1], held);
        // An attempt may outlive its job.
        s.commit(&[over(1, State::Failed)]).unwrap();
        let l = s.load().unwrap();
        assert_eq!(l.jobs.iter().map(|j| j.id).collect::<Vec<_>>(), [2]);
        assert_eq!(l.over, [(1, State::Failed as u8)]);
        assert!(l.tasks.is_empty());
        assert_eq!(l.attempts.len(), 1);
        // A job that is tried again is live again, with its tasks.
        let Op::Job { row, .. } = array(1, 3) else {
            unreachable!()
        };
        s.commit(&[Op::Row(row)]).unwrap();
        let l = s.load().unwrap();
        assert_eq!((l.jobs.len(), l.tasks.len(), l.over.len()), (2, 2, 0));
        s.commit(&[Op::Delete(1)]).unwrap();
        let l = s.load().unwrap();
        assert_eq!((l.jobs.len(), l.tasks.len(), l.attempts.len()), (1, 0, 0));
        assert_eq!(s.run(1).unwrap(), None);
        // Its number stays known: a host may submit it again out of its spool.
        assert_eq!(l.over, [(1, State::Unknown as u8)]);
    });
}

#[test]
fn identities_of_the_last_day() {
    on_each("identities", |s| {
        let with = |id: u64, identity: &[u8]| {
            let mut r = row(id);
            r.identity = identity.to_vec();
            Op::Job {
                submit: submit(id),
                row: r,
            }
        };
        let long_ago = Op::Over {
            job: 3,
            state: State::Done,
            at_ms: now() - 2 * 86_400_000,
        };
        s.commit(&[with(1, b"x"), with(2, b"y"), with(3, b"z"), job(4)])
            .unwrap();
        s.commit(&[over(1, State::Done), long_ago, over(4, State::Done)])
            .unwrap();
        let l = s.load().unwrap();
        assert_eq!(l.identities.len(), 1);
        assert_eq!((&l.identities[0].0[..], l.identities[0].1), (&b"x"[..], 1));
        assert_eq!(l.jobs[0].identity, b"y");
        let lately: Vec<u64> = l.recent.iter().map(|r| r.job.id).collect();
        assert_eq!(lately, [1, 4], "what ended days ago is the history's");
        assert_eq!(l.over.len(), 3);
    });
}

/// Jobs 1 to 5 that have ended: 3 failed with output, 4 is bob's and was killed, 5 is an array.
fn past(s: &mut dyn JobStore) {
    let mut bobs = row(4);
    bobs.owner = "bob".to_owned();
    bobs.plan.name = "bobs-job".to_owned();
    bobs.command = "secret of bob".to_owned();
    let failed = Outcome {
        head: b"first words\n".to_vec(),
        tail: b"Segmentation fault".to_vec(),
        written: 99,
        output: b"/spool/al/queue-3.out".to_vec(),
        spooled: true,
        core: true,
        ..exited(3)
    };
    let killed = Outcome {
        cause: Cause::Killed as i32,
        signal: Some(15),
        text: "killed by carol@h9".to_owned(),
        head: b"bobs words".to_vec(),
        ..Outcome::default()
    };
    s.commit(&[
        job(1),
        sent(1, 0, 1, "h1"),
        ended(1, 0, 1, exited(0), State::Done),
        over(1, State::Done),
        job(2),
        sent(2, 0, 1, "h2"),
        ended(2, 0, 1, exited(1), State::Waiting),
        sent(2, 0, 2, "h1"),
        ended(2, 0, 2, exited(0), State::Done),
        over(2, State::Done),
        job(3),
        sent(3, 0, 1, "h2"),
        ended(3, 0, 1, failed, State::Failed),
        over(3, State::Failed),
        Op::Job {
            submit: submit(4),
            row: bobs,
        },
        sent(4, 0, 1, "h3"),
        ended(4, 0, 1, killed, State::Killed),
        over(4, State::Killed),
        array(5, 4),
        sent(5, 1, 1, "h1"),
        sent(5, 2, 1, "h1"),
        sent(5, 3, 1, "h1"),
        ended(5, 1, 1, exited(0), State::Done),
        ended(5, 2, 1, exited(9), State::Failed),
        ended(5, 3, 1, exited(0), State::Done),
        over(5, State::Failed),
    ])
    .unwrap();
}

#[test]
fn history_is_searched() {
    on_each("history", |s| {
        past(s);
        let alice = asker("alice", false);
        let found = |h: History| page(s, &alice, h);
        let numbers = |h: History| found(h).0.iter().map(|j| j.0).collect::<Vec<_>>();
        assert_eq!(numbers(History::default()), [5, 4, 3, 2, 1]);
        let text = |t: &str| History {
            text: t.to_owned(),
            ..History::default()
        };
        assert_eq!(numbers(text("SEGMENTATION")), [3]);
        assert_eq!(numbers(text("first fault")), [3]);
        assert_eq!(numbers(text("job-2 night")), [2]);
        assert_eq!(numbers(text("carol")), [4]);
        assert!(
            numbers(text("bobs words")).is_empty(),
            "others' output is not searched"
        );
        assert!(numbers(text("secret")).is_empty(), "nor their commands");
        assert_eq!(page(s, &asker("bob", false), text("secret")).0, [(4, 0)]);
        assert_eq!(page(s, &asker("carol", true), text("bobs words")).0, [(4, 0)]);
        let which = |w: Selection| History {
            which: Some(w),
            ..History::default()
        };
        let all = Selection {
            all: true,
            ..Selection::default()
        };
        assert_eq!(numbers(which(all.clone())), [5, 3, 2, 1]);
        assert_eq!(page(s, &asker("carol", true), which(all)).1, 5);
        let name = Selection {
            name: "job-?".to_owned(),
            states: vec![State::Failed as i32],
            ..Selection::default()
        };
        assert_eq!(numbers(which(name)), [5, 3]);
        let host = Selection {
            host: "h1".to_owned(),
            ids: ids(1, 4),
            ..Selection::default()
        };
        assert_eq!(numbers(which(host)), [2, 1]);
        let second = History {
            limit: 2,
            offset: 1,
            ..History::default()
        };
        assert_eq!(found(second), (vec![(4, 0), (3, 0)], 5));
        let since = History {
            since_ms: now() + 60_000,
            ..History::default()
        };
        assert_eq!(found(since).1, 0);
        let attempts = History {
            attempts: true,
            limit: 3,
            ..History::default()
        };
        let (rows, n) = found(attempts);
        assert_eq!((rows.len(), n), (3, 8));
    });
}

#[test]
fn a_page_shows_everything_but_secrets() {
    on_each("page", |s| {
        past(s);
        let alice = asker("alice", false);
        let job_reply::Kind::Page(p) = ask(s, &alice, Read::History(History::default())) else {
            panic!()
        };
        let by = |id: u64| p.jobs.iter().find(|j| j.id == id).unwrap();
        let two = by(2);
        assert_eq!(
            (two.attempts, &two.host[..], &two.command[..]),
            (2, "h1", "true 2")
        );
        assert_eq!(two.outcome.as_ref().unwrap().code, Some(0));
        assert!(two.started_ms > 0 && two.ended_ms > two.started_ms);
        let three = by(3).outcome.as_ref().unwrap();
        assert!(three.core && three.spooled && !three.cut);
        assert_eq!((&three.tail[..], three.written), (&b"Segmentation fault"[..], 99));
        let bobs = by(4);
        assert!(bobs.command.is_empty() && bobs.outcome.as_ref().unwrap().head.is_empty());
        assert_eq!(bobs.outcome.as_ref().unwrap().text, "killed by carol@h9");
        let count = |state: State, number| Count {
            state: state as i32,
            number,
        };
        assert_eq!(by(5).counts, [count(State::Done, 2), count(State::Failed, 2)]);
    });
}

#[test]
fn details_of_jobs_in_memory_and_not() {
    on_each("details", |s| {
        past(s);
        s.commit(&[job(6), sent(6, 0, 1, "h1")]).unwrap();
        let alice = asker("alice", false);
        let known = Detail {
            job: Some(libqueue::wire::job::Job {
                id: 6,
                ..Default::default()
            }),
            ..Detail::default()
        };
        let read = Read::Details {
            found: vec![(known, true)],
            ids: ids(2, 5),
        };
        let job_reply::Kind::Details(d) = ask(s, &alice, read) else {
            panic!()
        };
        assert_eq!(d.jobs.len(), 5);
        assert_eq!(d.jobs[0].attempts.len(), 1);
        assert!(d.jobs[0].run.is_some());
        assert_eq!(
            d.jobs[1]
                .attempts
                .iter()
                .map(|t| t.key.unwrap().attempt)
                .collect::<Vec<_>>(),
            [1, 2]
        );
        assert_eq!(d.jobs[1].run.as_ref().unwrap().argv[1], b"2");
        assert!(d.jobs[3].run.is_none(), "bob's");
        assert_eq!(d.jobs[4].attempts.len(), 3);
        let one = IdRange {
            from: 5,
            to: 5,
            tasks: Some(TaskRange {
                from: 2,
                to: 9,
                step: 1,
            }),
        };
        let read = Read::Details {
            found: Vec::new(),
            ids: vec![one],
        };
        let job_reply::Kind::Details(d) = ask(s, &alice, read) else {
            panic!()
        };
        let rows: Vec<(u32, i32, usize)> = d
            .jobs
            .iter()
            .map(|d| {
                d.job
                    .as_ref()
                    .map(|j| (j.task, j.state, d.attempts.len()))
                    .unwrap()
            })
            .collect();
        let (done, failed) = (State::Done as i32, State::Failed as i32);
        assert_eq!(rows, [(2, failed, 1), (3, done, 1), (4, failed, 0)]);
    });
}

#[test]
fn what_is_no_array_has_no_tasks() {
    on_each("no array", |s| {
        past(s);
        let alice = asker("alice", false);
        let one = || IdRange {
            tasks: Some(TaskRange {
                from: 5,
                to: 5,
                step: 1,
            }),
            ..ids(2, 2)[0]
        };
        let details = Read::Details {
            found: Vec::new(),
            ids: vec![one()],
        };
        assert!(matches!(ask(s, &alice, details), job_reply::Kind::Details(d) if d.jobs.is_empty()));
        let outputs = Read::Outputs {
            found: Vec::new(),
            ids: vec![one()],
        };
        assert!(matches!(ask(s, &alice, outputs), job_reply::Kind::Outputs(o) if o.outputs.is_empty()));
        let nothing = Over {
            nothing: true,
            ..Over::default()
        };
        let over = Read::Over {
            over: nothing.clone(),
            ids: vec![one()],
        };
        assert_eq!(ask(s, &alice, over), job_reply::Kind::Over(nothing));
    });
}

#[test]
fn outputs_are_where_they_were_brought() {
    on_each("outputs", |s| {
        past(s);
        let alice = asker("alice", false);
        let outputs = |s: &dyn JobStore| -> Vec<Output> {
            let read = Read::Outputs {
                found: Vec::new(),
                ids: ids(2, 5),
            };
            match ask(s, &alice, read) {
                job_reply::Kind::Outputs(o) => o.outputs,
                other => panic!("{other:?}"),
            }
        };
        let all = outputs(s);
        let keys: Vec<_> = all.iter().map(|o| o.key.unwrap()).collect();
        assert_eq!(
            keys,
            [
                key(2, 0, 2),
                key(3, 0, 1),
                key(5, 1, 1),
                key(5, 2, 1),
                key(5, 3, 1)
            ]
        );
        assert_eq!((&all[1].host[..], all[1].spooled), ("h2", true));
        let delivery = Op::Delivery(DeliveryRow {
            number: 1,
            job: 3,
            from: "h2".to_owned(),
            to: "h1".to_owned(),
            tries: 0,
        });
        s.commit(&[delivery, Op::DeliveryGone(1, String::new())]).unwrap();
        let all = outputs(s);
        assert_eq!((&all[1].host[..], all[1].spooled), ("h1", false));
        assert_eq!(all[1].path, b"/home/alice/queue-3.out");
        assert_eq!(all[1].outcome.as_ref().unwrap().head, b"first words\n");
        let details = |user| {
            let read = Read::Details {
                found: Vec::new(),
                ids: ids(3, 3),
            };
            match ask(s, &asker(user, false), read) {
                job_reply::Kind::Details(d) => d.jobs[0].attempts[0].outcome.clone().unwrap(),
                other => panic!("{other:?}"),
            }
        };
        let shown = details("alice");
        assert_eq!(
            (&shown.output[..], shown.spooled),
            (&b"/home/alice/queue-3.out"[..], false)
        );
        assert!(details("carol").output.is_empty());
    });
}

#[test]
fn the_end_of_a_wait() {
    on_each("over", |s| {
        past(s);
        let alice = asker("alice", false);
        let end = |s: &dyn JobStore, over: Over, ids: Vec<IdRange>| match ask(
            s,
            &alice,
            Read::Over { over, ids },
        ) {
            job_reply::Kind::Over(o) => o,
            other => panic!("{other:?}"),
        };
        let none = || Over {
            nothing: true,
            ..Over::default()
        };
        assert_eq!(end(s, none(), ids(90, 99)), none());
        let good = end(s, none(), ids(1, 2));
        assert_eq!((good.code, good.nothing, good.bad.len()), (0, false, 0));
        assert_eq!(good.counts[0].number, 2);
        let killed = end(s, none(), ids(4, 4));
        assert_eq!((killed.code, killed.signal), (143, Some(15)));
        let all = end(s, none(), ids(1, 5));
        assert_eq!((all.code, all.signal), (3, None));
        let bad: Vec<_> = all.bad.iter().map(|j| (j.id, j.task)).collect();
        assert_eq!(bad, [(3, 0), (4, 0), (5, 2)]);
        let task = |n| {
            vec![IdRange {
                from: 5,
                to: 5,
                tasks: Some(TaskRange {
                    from: n,
                    to: n,
                    step: 1,
                }),
            }]
        };
        assert_eq!(end(s, none(), task(2)).code, 9);
        assert_eq!(end(s, none(), task(3)).code, 0);
        let known = Over {
            code: 44,
            counts: vec![Count {
                state: State::Done as i32,
                number: 3,
            }],
            ..Over::default()
        };
        let more = end(s, known, ids(3, 3));
        assert_eq!((more.code, more.counts[0].number), (44, 3));
    });
}

#[test]
fn figures_by_user_host_and_cause() {
    on_each("stats", |s| {
        past(s);
        let job_reply::Kind::Stats(stats) = ask(s, &asker("x", false), Read::Stats(Stats::default())) else {
            panic!()
        };
        let user = |name: &str| stats.users.iter().find(|u| u.name == name).unwrap();
        assert_eq!((user("alice").done, user("alice").failed), (4, 3));
        assert_eq!((user("bob").done, user("bob").failed), (0, 1));
        let all = user("");
        assert_eq!(
            (all.done, all.failed, all.wall_ms, all.cpu_ms),
            (4, 4, 7 * 1_500, 7 * 700)
        );
        assert!((5_000..8_000).contains(&all.wait_ms), "{}", all.wait_ms);
        assert_eq!(
            stats.hosts.iter().map(|h| &h.name[..]).collect::<Vec<_>>(),
            ["h1", "h2", "h3"]
        );
        assert_eq!(
            (stats.causes[0].cause, stats.causes[0].number),
            (Cause::Exited as i32, 3)
        );
        assert_eq!(stats.causes[0].host, "h2");
    });
}

#[test]
fn what_is_said_last_of_an_attempt_holds() {
    on_each("twice", |s| {
        let lost = Outcome {
            cause: Cause::HostLost as i32,
            head: b"old".to_vec(),
            ..Outcome::default()
        };
        s.commit(&[job(1), sent(1, 0, 1, "h1"), ended(1, 0, 1, lost, State::Failed)])
            .unwrap();
        s.commit(&[
            ended(1, 0, 1, exited(0), State::Done),
            ended(8, 0, 1, exited(0), State::Done),
        ])
        .unwrap();
        let read = Read::Details {
            found: Vec::new(),
            ids: ids(1, 1),
        };
        let job_reply::Kind::Details(d) = ask(s, &asker("alice", false), read) else {
            panic!()
        };
        assert_eq!(d.jobs[0].attempts.len(), 1);
        let t = &d.jobs[0].attempts[0];
        assert_eq!((&t.host[..], t.outcome.as_ref().unwrap().code), ("h1", Some(0)));
        assert!(t.outcome.as_ref().unwrap().head.is_empty());
    });
}

#[test]
fn spools() {
    let dir = Dir::new("spool");
    let path = dir.0.join("spool.db");
    for s in [
        &mut MemorySpool::default() as &mut dyn SpoolStore,
        &mut SqliteSpool::open(&path).unwrap(),
    ] {
        assert_eq!(s.load().unwrap(), Spooled::default());
        let block = Block { from: 10, to: 20 };
        s.commit(&[
            SpoolOp::Block(block),
            SpoolOp::Put(submit(11)),
            SpoolOp::Put(submit(10)),
            SpoolOp::Used(12),
        ])
        .unwrap();
        s.commit(&[SpoolOp::Gone(11), SpoolOp::Used(11)]).unwrap();
        let l = s.load().unwrap();
        assert_eq!(l.block, Some(Block { from: 12, to: 20 }));
        assert_eq!(l.submits, [*submit(10)]);
    }
    let l = SqliteSpool::open(&path).unwrap().load().unwrap();
    assert_eq!(l.submits.len(), 1);
}
