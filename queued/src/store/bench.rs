//! What the store costs; run by hand: `cargo test --profile ci -p queued store::bench -- --ignored --nocapture`.

use super::conformance::{Dir, ended, exited, job, over, row, sent};
use super::reader::Reader;
use super::sqlite::SqliteStore;
use super::writer::Writer;
use super::{JobStore, Op, TaskRow};
use libqueue::wire::job::{Array, Run, State, TaskRange};
use prost::Message as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// CPU time of this process.
fn cpu() -> Duration {
    let u = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    let of = |t: nix::sys::time::TimeVal| Duration::new(t.tv_sec() as u64, t.tv_usec() as u32 * 1000);
    of(u.user_time()) + of(u.system_time())
}

fn say(what: &str, n: u64, wall: Duration, used: Duration) {
    let each = |d: Duration| d.as_secs_f64() * 1e6 / n as f64;
    let rate = n as f64 / wall.as_secs_f64();
    tracing::info!(
        "{what}: {n} in {wall:.2?}: {rate:.0}/s, {:.1} us wall, {:.1} us CPU each",
        each(wall),
        each(used)
    );
}

fn quiet() {
    let _ = tracing_subscriber::fmt().with_env_filter("info").try_init();
}

/// A job with an environment of 2 KiB.
fn large(id: u64) -> Op {
    let Op::Job { mut submit, row } = job(id) else {
        unreachable!()
    };
    let run = Run {
        argv: vec![b"true".to_vec()],
        env: (0..40)
            .map(|n| format!("VARIABLE_{n}=a value of some length, as they are").into_bytes())
            .collect(),
        cwd: b"/home/alice/project".to_vec(),
        ..Run::default()
    };
    submit.run = run.encode_to_vec();
    submit.warrant = vec![5; 220];
    Op::Job { submit, row }
}

#[test]
#[ignore = "measures"]
fn jobs_by_64_submitters() {
    quiet();
    let dir = Dir::new("bench-jobs");
    let store: Box<dyn JobStore> = Box::new(SqliteStore::open(&dir.db()).unwrap());
    let state = Arc::new((Mutex::new(0u64), Condvar::new()));
    let told = Arc::clone(&state);
    let writer = Writer::start(store, move |r| {
        *told.0.lock().unwrap() = r.unwrap();
        told.1.notify_all();
    })
    .unwrap();
    let writer = Mutex::new((0u64, writer));
    let total = 64_000u64;
    let ops: Vec<Mutex<Option<Op>>> = (1..=total).map(|n| Mutex::new(Some(large(n)))).collect();
    let next = AtomicU64::new(0);
    let (begin, used) = (Instant::now(), cpu());
    std::thread::scope(|s| {
        for _ in 0..64 {
            s.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let Some(op) = ops.get(n as usize) else { break };
                    let op = op.lock().unwrap().take().unwrap();
                    let number = {
                        let mut w = writer.lock().unwrap();
                        w.0 += 1;
                        w.1.send(w.0, vec![op]);
                        w.0
                    };
                    drop(
                        state
                            .1
                            .wait_while(state.0.lock().unwrap(), |d| *d < number)
                            .unwrap(),
                    );
                }
            });
        }
    });
    say(
        "jobs, 64 submitters, each waits for the disk",
        total,
        begin.elapsed(),
        cpu() - used,
    );
    drop(ops);
    let store = writer.into_inner().unwrap().1.stop().unwrap();
    drop(store);
    let begin = Instant::now();
    let mut store = SqliteStore::open(&dir.db()).unwrap();
    assert_eq!(store.load().unwrap().jobs.len() as u64, total);
    tracing::info!("opened and loaded in {:.2?}", begin.elapsed());
}

#[test]
#[ignore = "measures"]
fn attempts_and_ends() {
    quiet();
    let dir = Dir::new("bench-ends");
    let mut store = SqliteStore::open(&dir.db()).unwrap();
    let total = 10_000u64;
    for chunk in (1..=total).collect::<Vec<_>>().chunks(1_000) {
        store
            .commit(&chunk.iter().map(|n| large(*n)).collect::<Vec<_>>())
            .unwrap();
    }
    for batch in [10, 100] {
        let ops: Vec<Op> = (1..=total)
            .flat_map(|n| {
                let done = ended(n, 0, batch, exited(0), State::Done);
                [sent(n, 0, batch, "h1"), done, over(n, State::Done)]
            })
            .collect();
        let (begin, used) = (Instant::now(), cpu());
        for chunk in ops.chunks(3 * batch as usize) {
            store.commit(chunk).unwrap();
        }
        let what = format!("attempt, end and over, {batch} jobs a commit");
        say(&what, total, begin.elapsed(), cpu() - used);
    }
    let reader = Reader::open(&dir.db()).unwrap();
    let begin = Instant::now();
    for n in 1..=total {
        assert!(reader.run(n).unwrap().is_some());
    }
    say("run by id", total, begin.elapsed(), Duration::ZERO);
}

#[test]
#[ignore = "measures"]
fn loading_a_large_store() {
    quiet();
    let dir = Dir::new("bench-load");
    let mut store = SqliteStore::open(&dir.db()).unwrap();
    for chunk in (1..=100_000u64).collect::<Vec<_>>().chunks(5_000) {
        store
            .commit(&chunk.iter().map(|n| large(*n)).collect::<Vec<_>>())
            .unwrap();
    }
    let mut big = row(200_000);
    big.plan.array = Some(Array {
        ranges: vec![TaskRange {
            from: 1,
            to: 1_000_000,
            step: 1,
        }],
        at_once: 0,
    });
    let Op::Job { submit, .. } = job(200_000) else {
        unreachable!()
    };
    store.commit(&[Op::Job { submit, row: big }]).unwrap();
    let task = |n: u32| {
        Op::Task(TaskRow {
            job: 200_000,
            task: n,
            state: State::Done as i32,
            attempt: 1,
            ..TaskRow::default()
        })
    };
    for chunk in (1..=500_000u32).collect::<Vec<_>>().chunks(20_000) {
        store
            .commit(
                &chunk
                    .iter()
                    .map(|n| task(n.wrapping_mul(7) % 500_000 + 1))
                    .collect::<Vec<_>>(),
            )
            .unwrap();
    }
    drop(store);
    let begin = Instant::now();
    let mut store = SqliteStore::open(&dir.db()).unwrap();
    let opened = begin.elapsed();
    let loaded = store.load().unwrap();
    let what = (loaded.jobs.len(), loaded.tasks.len());
    tracing::info!(
        "{what:?} jobs and tasks: opened in {opened:.2?}, loaded after {:.2?}",
        begin.elapsed()
    );
}

#[test]
#[ignore = "measures"]
fn one_commit_after_the_other() {
    quiet();
    for batch in [1, 16, 64, 1_000] {
        let dir = Dir::new("bench-batch");
        let mut store = SqliteStore::open(&dir.db()).unwrap();
        let total = 20_000u64.min(batch * 2_000);
        let ops: Vec<Op> = (1..=total).map(large).collect();
        let (begin, used) = (Instant::now(), cpu());
        for chunk in ops.chunks(batch as usize) {
            store.commit(chunk).unwrap();
        }
        say(
            &format!("jobs, {batch} a commit"),
            total,
            begin.elapsed(),
            cpu() - used,
        );
    }
}
