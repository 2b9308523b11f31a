//! The stores as the task has them: opened in threads of their own, written by the store's writer, read beside it,
//! so that the task never waits for a disk. Knows stores; not what an operation means.

use super::Input;
use super::runs::{Entries, Lack};
use crate::engine::jobs::types::{Asker, Read};
use crate::store::reader::Reader;
use crate::store::writer::{Commit, Writer};
use crate::store::{JobStore, Loaded, Op, SpoolOp, SpoolStore, Spooled, StoreError};
use libqueue::wire::job::{JobReply, JobRun, job_reply};
use libqueue::wire::{Error, ErrorCode};
use std::io;
use std::sync::Arc;
use std::thread;
use tokio::sync::{Semaphore, mpsc};

/// Long answers at the same time; the others wait.
const READERS: usize = 4;

/// Which store, and which time it was opened: words of an earlier one count for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The leader's.
    Jobs(u64),
    /// The agent's.
    Spool(u64),
}

/// What is said of a store.
pub(crate) enum Word {
    /// The leader's is open, or cannot be.
    Jobs(u64, Result<Box<(Jobs, Loaded)>, StoreError>),
    /// The agent's is open, or cannot be.
    Spool(u64, Result<Box<(Spool, Spooled)>, StoreError>),
    /// All operations up to this one are on disk.
    Committed(Which, u64),
    /// These are not, and none that follows will be.
    Failed(Which, StoreError),
    /// What was to be fetched; what is not here is nowhere.
    Fetched(u64, Box<Fetched>),
}

impl std::fmt::Debug for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Jobs(n, r) => write!(f, "Jobs({n}, {:?})", r.as_ref().err()),
            Self::Spool(n, r) => write!(f, "Spool({n}, {:?})", r.as_ref().err()),
            Self::Committed(which, n) => write!(f, "Committed({which:?}, {n})"),
            Self::Failed(which, e) => write!(f, "Failed({which:?}, {e})"),
            Self::Fetched(n, _) => write!(f, "Fetched({n})"),
        }
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

type Tell = mpsc::UnboundedSender<Input>;

fn say(tell: &Tell, word: Word) {
    let _ = tell.send(Input::Store(word));
}

/// Writes: the task's way to a store.
pub(super) trait Desk<O> {
    /// Write these down; the number is that of the last one.
    fn commit(&self, ops: Vec<O>, number: u64);
}

/// The agent's store.
pub(crate) type Spool = Writer<SpoolOp, Box<dyn SpoolStore>>;

impl Desk<SpoolOp> for Spool {
    fn commit(&self, ops: Vec<SpoolOp>, number: u64) {
        self.send(number, ops);
    }
}

/// The leader's store.
pub(crate) struct Jobs {
    writer: Writer<Op, Box<dyn JobStore>>,
    reader: Reader,
    places: Arc<Semaphore>,
}

impl Desk<Op> for Jobs {
    fn commit(&self, ops: Vec<Op>, number: u64) {
        self.writer.send(number, ops);
    }
}

impl Jobs {
    /// Closes it.
    pub(super) fn stop(self) {
        // If its thread has panicked, opening it anew says what is wrong.
        let _ = self.writer.stop();
    }

    /// Fetches runs and entries.
    pub(super) fn fetch(&self, lack: Lack, generation: u64, tell: Tell) {
        let reader = self.reader.clone();
        tokio::task::spawn_blocking(move || {
            let fetched = Box::new(fetch(&reader, lack));
            say(&tell, Word::Fetched(generation, fetched));
        });
    }

    /// Answers somebody from the store.
    pub(super) fn read(&self, who: Asker, read: Read, tx: mpsc::Sender<JobReply>) {
        let (reader, places) = (self.reader.clone(), self.places.clone());
        tokio::spawn(async move {
            let place = tokio::select! {
                p = places.acquire_owned() => p,
                () = tx.closed() => return,
            };
            let _ = tokio::task::spawn_blocking(move || answer(&reader, &who, read, &tx)).await;
            drop(place);
        });
    }
}

/// Opens the leader's store in a thread of its own; an earlier one is closed first.
pub(super) fn open_jobs<S: JobStore + 'static>(
    generation: u64,
    open: impl FnOnce() -> Result<(S, Reader), StoreError> + Send + 'static,
    before: Option<Jobs>,
    tell: Tell,
) -> io::Result<()> {
    let run = move || {
        if let Some(jobs) = before {
            jobs.stop();
        }
        let opened = open().and_then(|(mut store, reader)| {
            let loaded = store.load()?;
            let writer = writer(
                Box::new(store) as Box<dyn JobStore>,
                Which::Jobs(generation),
                &tell,
            )?;
            let places = Arc::new(Semaphore::new(READERS));
            let jobs = Jobs {
                writer,
                reader,
                places,
            };
            Ok(Box::new((jobs, loaded)))
        });
        say(&tell, Word::Jobs(generation, opened));
    };
    thread::Builder::new()
        .name("open jobs".into())
        .spawn(run)
        .map(drop)
}

/// Opens the agent's store in a thread of its own; an earlier one is closed first.
pub(super) fn open_spool<S: SpoolStore + 'static>(
    generation: u64,
    open: impl FnOnce() -> Result<S, StoreError> + Send + 'static,
    before: Option<Spool>,
    tell: Tell,
) -> io::Result<()> {
    let run = move || {
        if let Some(spool) = before {
            let _ = spool.stop();
        }
        let opened = open().and_then(|mut store| {
            let spooled = store.load()?;
            let spool = writer(
                Box::new(store) as Box<dyn SpoolStore>,
                Which::Spool(generation),
                &tell,
            )?;
            Ok(Box::new((spool, spooled)))
        });
        say(&tell, Word::Spool(generation, opened));
    };
    thread::Builder::new()
        .name("open spool".into())
        .spawn(run)
        .map(drop)
}

fn writer<T, S>(store: S, which: Which, tell: &Tell) -> Result<Writer<T, S>, StoreError>
where
    T: Send + 'static,
    S: Commit<T> + 'static,
{
    let tell = tell.clone();
    Writer::start(store, move |done| match done {
        Ok(number) => say(&tell, Word::Committed(which, number)),
        Err(e) => say(&tell, Word::Failed(which, e)),
    })
}

fn fetch(store: &Reader, asked: Lack) -> Fetched {
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

fn answer(store: &Reader, who: &Asker, read: Read, tx: &mpsc::Sender<JobReply>) {
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
    use std::sync::{Condvar, Mutex};

    /// Commits when it is let, and fails at a given operation.
    struct Slow {
        gate: Arc<(Mutex<bool>, Condvar)>,
        bad: u64,
    }

    impl SpoolStore for Slow {
        fn load(&mut self) -> Result<Spooled, StoreError> {
            Ok(Spooled::default())
        }

        fn commit(&mut self, ops: &[SpoolOp]) -> Result<(), StoreError> {
            let (lock, wake) = &*self.gate;
            drop(wake.wait_while(lock.lock().unwrap(), |open| !*open).unwrap());
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
    fn words_name_the_time_that_the_store_was_opened() {
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let slow = Slow {
            gate: gate.clone(),
            bad: 99,
        };
        let (tx, mut rx) = mpsc::unbounded_channel();
        open_spool(3, move || Ok(slow), None, tx.clone()).unwrap();
        let Word::Spool(3, Ok(opened)) = word(&mut rx) else {
            panic!()
        };
        let spool = opened.0;
        for n in 1..=50 {
            spool.commit(vec![SpoolOp::Used(n)], n);
        }
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        let mut last = 0;
        while last < 50 {
            let Word::Committed(Which::Spool(3), n) = word(&mut rx) else {
                panic!()
            };
            assert!(n > last);
            last = n;
        }
        spool.commit(vec![SpoolOp::Used(99)], 51);
        assert!(matches!(
            word(&mut rx),
            Word::Failed(Which::Spool(3), StoreError::Full(_))
        ));
        // Opened anew, the earlier one is closed first.
        let bad = || Err::<Slow, _>(StoreError::Damaged("bad".into()));
        open_spool(4, bad, Some(spool), tx).unwrap();
        assert!(matches!(
            word(&mut rx),
            Word::Spool(4, Err(StoreError::Damaged(_)))
        ));
        assert!(rx.blocking_recv().is_none());
    }
}
