//! The threads that write and read the stores, so that the task never waits for a disk. Operations that come while a
//! commit runs go together into the next one. Knows stores by their traits; not what an operation means.

use super::Input;
use super::runs::{Entries, Lack};
use crate::engine::jobs::types::{Asker, Read};
use crate::store::{JobStore, Loaded, Op, SpoolOp, SpoolStore, Spooled, StoreError};
use libqueue::wire::job::{JobReply, JobRun, job_reply};
use libqueue::wire::{Error, ErrorCode};
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use tokio::sync::mpsc;

/// Operations of one commit, beyond which the rest waits for the next.
const MOST: usize = 20_000;

/// Which store, and which time it was opened: words of an earlier one count for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The leader's.
    Jobs(u64),
    /// The agent's.
    Spool(u64),
}

/// What a desk says.
pub(crate) enum Word {
    /// The leader's store is open.
    Jobs(u64, Result<(Desk<Op>, Box<Loaded>), StoreError>),
    /// The agent's store is open.
    Spool(u64, Result<(Desk<SpoolOp>, Box<Spooled>), StoreError>),
    /// All operations up to this one are on disk.
    Committed(Which, u64),
    /// These are not, and none that follows will be.
    Failed(Which, StoreError),
    /// What was to be fetched; what is not here is nowhere.
    Fetched(u64, Box<Fetched>),
}

impl std::fmt::Debug for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Word")
    }
}

/// Runs and entries from the store.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    /// What was asked for.
    pub(super) asked: Lack,
    /// Runs that are there.
    pub(super) runs: Vec<JobRun>,
    /// Entries that are there.
    pub(super) entries: Vec<(u64, Entries)>,
}

enum Work<O> {
    Commit(Vec<O>, u64),
    Fetch(Lack),
    Read(Asker, Box<Read>, mpsc::Sender<JobReply>),
}

/// The way to a store's thread. The store is closed when it is dropped and all work is done.
pub(crate) struct Desk<O>(Sender<Work<O>>);

impl<O> Desk<O> {
    /// Write these down; the number is that of the last one.
    pub(super) fn commit(&self, ops: Vec<O>, number: u64) {
        // If it has ended, it has said so.
        let _ = self.0.send(Work::Commit(ops, number));
    }
}

impl Desk<Op> {
    /// Fetch runs and entries.
    pub(super) fn fetch(&self, lack: Lack) {
        let _ = self.0.send(Work::Fetch(lack));
    }

    /// Answer somebody from the store.
    pub(super) fn read(&self, who: Asker, read: Read, tx: mpsc::Sender<JobReply>) {
        let _ = self.0.send(Work::Read(who, Box::new(read), tx));
    }
}

/// Opens the leader's store in a thread of its own, which then serves it.
pub(super) fn open_jobs<S: JobStore + 'static>(
    generation: u64,
    open: impl FnOnce() -> Result<S, StoreError> + Send + 'static,
    tell: mpsc::UnboundedSender<Input>,
) -> io::Result<()> {
    let (tx, rx) = channel();
    let serve = move || {
        let opened = open().and_then(|mut s| s.load().map(|l| (s, l)));
        let (mut store, loaded) = match opened {
            Ok(r) => r,
            Err(e) => return say(&tell, Word::Jobs(generation, Err(e))),
        };
        say(&tell, Word::Jobs(generation, Ok((Desk(tx), Box::new(loaded)))));
        let which = Which::Jobs(generation);
        let mut next = None;
        while let Some(work) = next.take().or_else(|| rx.recv().ok()) {
            match work {
                Work::Commit(ops, number) => {
                    let done = write(ops, number, &rx, &mut next, |ops| store.commit(ops));
                    if !report(which, done, &tell) {
                        return;
                    }
                }
                Work::Fetch(lack) => {
                    let fetched = Box::new(fetch(&store, lack));
                    say(&tell, Word::Fetched(generation, fetched));
                }
                Work::Read(who, read, tx) => answer(&store, &who, *read, &tx),
            }
        }
    };
    thread::Builder::new().name("jobs".into()).spawn(serve).map(drop)
}

/// Opens the agent's store in a thread of its own, which then serves it.
pub(super) fn open_spool<S: SpoolStore + 'static>(
    generation: u64,
    open: impl FnOnce() -> Result<S, StoreError> + Send + 'static,
    tell: mpsc::UnboundedSender<Input>,
) -> io::Result<()> {
    let (tx, rx) = channel();
    let serve = move || {
        let opened = open().and_then(|mut s| s.load().map(|l| (s, l)));
        let (mut store, spooled) = match opened {
            Ok(r) => r,
            Err(e) => return say(&tell, Word::Spool(generation, Err(e))),
        };
        say(&tell, Word::Spool(generation, Ok((Desk(tx), Box::new(spooled)))));
        let which = Which::Spool(generation);
        let mut next = None;
        while let Some(work) = next.take().or_else(|| rx.recv().ok()) {
            if let Work::Commit(ops, number) = work {
                let done = write(ops, number, &rx, &mut next, |ops| store.commit(ops));
                if !report(which, done, &tell) {
                    return;
                }
            }
        }
    };
    thread::Builder::new().name("spool".into()).spawn(serve).map(drop)
}

fn say(tell: &mpsc::UnboundedSender<Input>, word: Word) {
    let _ = tell.send(Input::Store(word));
}

/// Commits these and what else waits to be written. The number of the last operation that is on disk now.
fn write<O>(
    mut ops: Vec<O>,
    mut number: u64,
    waiting: &Receiver<Work<O>>,
    next: &mut Option<Work<O>>,
    mut commit: impl FnMut(&[O]) -> Result<(), StoreError>,
) -> Result<u64, StoreError> {
    while ops.len() < MOST {
        match waiting.try_recv() {
            Ok(Work::Commit(more, last)) => {
                ops.extend(more);
                number = last;
            }
            Ok(other) => {
                *next = Some(other);
                break;
            }
            Err(_) => break,
        }
    }
    commit(&ops).map(|()| number)
}

/// Whether it goes on.
fn report(which: Which, done: Result<u64, StoreError>, tell: &mpsc::UnboundedSender<Input>) -> bool {
    match done {
        Ok(number) => {
            say(tell, Word::Committed(which, number));
            true
        }
        Err(e) => {
            say(tell, Word::Failed(which, e));
            false
        }
    }
}

fn fetch(store: &dyn JobStore, asked: Lack) -> Fetched {
    let failed = |job: &u64, e: &StoreError| tracing::error!("cannot read what job {job} executes: {e}");
    let mut f = Fetched::default();
    for job in &asked.runs {
        match store.run(*job) {
            Ok(run) => f.runs.extend(run),
            Err(e) => failed(job, &e),
        }
    }
    for job in &asked.entries {
        match store.entries(*job) {
            Ok(entries) => f.entries.push((*job, Entries::new(entries))),
            Err(e) => failed(job, &e),
        }
    }
    f.asked = asked;
    f
}

fn answer(store: &dyn JobStore, who: &Asker, read: Read, tx: &mpsc::Sender<JobReply>) {
    let mut say = |kind| drop(tx.blocking_send(JobReply { kind: Some(kind) }));
    if let Err(e) = store.read(who, read, &mut say) {
        tracing::error!("cannot answer from the store of jobs: {e}");
        say(job_reply::Kind::Error(Error {
            code: ErrorCode::Internal as i32,
            text: format!("the leader's store: {e}"),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Condvar, Mutex};

    /// Commits when it is let, and fails at a given operation.
    struct Slow {
        gate: Arc<(Mutex<bool>, Condvar)>,
        commits: Arc<Mutex<Vec<usize>>>,
        bad: u64,
    }

    impl SpoolStore for Slow {
        fn load(&mut self) -> Result<Spooled, StoreError> {
            Ok(Spooled::default())
        }

        fn commit(&mut self, ops: &[SpoolOp]) -> Result<(), StoreError> {
            let (lock, wake) = &*self.gate;
            drop(wake.wait_while(lock.lock().unwrap(), |open| !*open).unwrap());
            self.commits.lock().unwrap().push(ops.len());
            if ops.contains(&SpoolOp::Used(self.bad)) {
                return Err(StoreError::Full("no room".into()));
            }
            Ok(())
        }
    }

    fn word(rx: &mut mpsc::UnboundedReceiver<Input>) -> Word {
        match rx.blocking_recv() {
            Some(Input::Store(w)) => w,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_comes_during_a_commit_goes_into_the_next() {
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let commits = Arc::new(Mutex::new(Vec::new()));
        let slow = Slow {
            gate: gate.clone(),
            commits: commits.clone(),
            bad: 99,
        };
        let (tx, mut rx) = mpsc::unbounded_channel();
        open_spool(3, move || Ok(slow), tx).unwrap();
        let Word::Spool(3, Ok((desk, _))) = word(&mut rx) else {
            panic!()
        };
        for n in 1..=50 {
            desk.commit(vec![SpoolOp::Used(n)], n);
        }
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        let mut last = 0;
        while last < 50 {
            match word(&mut rx) {
                Word::Committed(Which::Spool(3), n) => {
                    assert!(n > last);
                    last = n;
                }
                _ => panic!(),
            }
        }
        assert!(commits.lock().unwrap().len() < 50);
        assert_eq!(commits.lock().unwrap().iter().sum::<usize>(), 50);
        // After a failure nothing more is written.
        desk.commit(vec![SpoolOp::Used(99)], 51);
        assert!(matches!(
            word(&mut rx),
            Word::Failed(Which::Spool(3), StoreError::Full(_))
        ));
        desk.commit(vec![SpoolOp::Used(1)], 52);
        drop(desk);
        assert!(rx.blocking_recv().is_none());
    }
}
