//! The thread that writes: it owns the store, takes requests from a channel, and commits all that came in meanwhile
//! in one transaction (group commit). Knows order; not what is written.

use super::{JobStore, Op, SpoolOp, SpoolStore, StoreError};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{Builder, JoinHandle};

/// Most requests in one transaction.
const REQUESTS: usize = 1_000;
/// No more requests are added to a transaction that has so many changes.
const CHANGES: usize = 20_000;

/// What is written durably, whole or not at all.
pub(crate) trait Commit<T>: Send {
    /// All of it, or nothing.
    ///
    /// # Errors
    /// Nothing was written.
    fn commit(&mut self, ops: &[T]) -> Result<(), StoreError>;
}

impl Commit<Op> for Box<dyn JobStore> {
    fn commit(&mut self, ops: &[Op]) -> Result<(), StoreError> {
        (**self).commit(ops)
    }
}

impl Commit<SpoolOp> for Box<dyn SpoolStore> {
    fn commit(&mut self, ops: &[SpoolOp]) -> Result<(), StoreError> {
        (**self).commit(ops)
    }
}

/// Sends changes to the thread that writes them. May be used from tasks: it never blocks.
#[derive(Debug)]
pub(crate) struct Writer<T, S> {
    requests: Sender<(u64, Vec<T>)>,
    thread: JoinHandle<S>,
}

impl<T: Send + 'static, S: Commit<T> + 'static> Writer<T, S> {
    /// Starts the thread. `done` is called on it with the number of the last request that is on disk, after each
    /// transaction; after an error it is called no more, and nothing that was sent later is written: end this writer
    /// with [`Writer::stop`], load the store, start anew.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub(crate) fn start(
        store: S,
        done: impl Fn(Result<u64, StoreError>) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (requests, taken) = mpsc::channel();
        let thread = Builder::new()
            .name("store".to_owned())
            .spawn(move || write(store, &taken, &done))
            .map_err(|e| StoreError::Io(format!("cannot start the thread that writes the store: {e}")))?;
        Ok(Self { requests, thread })
    }

    /// Has changes written. Numbers rise from one request to the next. A request without changes is told back in its
    /// turn.
    pub(crate) fn send(&self, number: u64, ops: Vec<T>) {
        // The thread ends only with this sender; if it panicked, `done` says nothing more, and `stop` says it.
        let _ = self.requests.send((number, ops));
    }

    /// Ends the thread once everything that was sent is written, and gives the store back.
    ///
    /// # Errors
    /// The thread has panicked: the store has to be opened anew.
    pub(crate) fn stop(self) -> Result<S, StoreError> {
        drop(self.requests);
        let broken =
            |_| StoreError::Io("the thread that writes the store has panicked: open it again".to_owned());
        self.thread.join().map_err(broken)
    }
}

/// Writes until there is no sender any more.
fn write<T, S: Commit<T>>(
    mut store: S,
    requests: &Receiver<(u64, Vec<T>)>,
    done: &dyn Fn(Result<u64, StoreError>),
) -> S {
    while let Ok((mut number, mut ops)) = requests.recv() {
        let more = requests.try_iter().take(REQUESTS - 1);
        for (n, o) in more {
            number = n;
            ops.extend(o);
            if ops.len() >= CHANGES {
                break;
            }
        }
        let written = if ops.is_empty() {
            Ok(())
        } else {
            store.commit(&ops)
        };
        let failed = written.is_err();
        done(written.map(|()| number));
        if failed {
            // What was sent since then builds on what was not written.
            requests.iter().for_each(drop);
        }
    }
    store
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Condvar, Mutex};

    /// Remembers transactions; fails the one that contains a certain number; waits until it is let go.
    #[derive(Clone, Default)]
    struct Fake {
        commits: Arc<Mutex<Vec<Vec<u32>>>>,
        gate: Arc<(Mutex<bool>, Condvar)>,
        bad: Option<u32>,
    }

    impl Commit<u32> for Fake {
        fn commit(&mut self, ops: &[u32]) -> Result<(), StoreError> {
            let (open, changed) = &*self.gate;
            drop(changed.wait_while(open.lock().unwrap(), |o| !*o).unwrap());
            if ops.iter().any(|o| Some(*o) == self.bad) {
                return Err(StoreError::Full("full".to_owned()));
            }
            self.commits.lock().unwrap().push(ops.to_vec());
            Ok(())
        }
    }

    type Told = Arc<Mutex<Vec<Result<u64, StoreError>>>>;

    fn told() -> (Told, impl Fn(Result<u64, StoreError>) + Send) {
        let all = Arc::new(Mutex::new(Vec::new()));
        let copy = Arc::clone(&all);
        (all, move |r| copy.lock().unwrap().push(r))
    }

    fn open(fake: &Fake) {
        *fake.gate.0.lock().unwrap() = true;
        fake.gate.1.notify_all();
    }

    #[test]
    fn all_that_comes_meanwhile_is_one_transaction_and_the_order_stays() {
        let fake = Fake::default();
        let (told, done) = told();
        let writer = Writer::start(fake.clone(), done).unwrap();
        for n in 0..2_500u32 {
            writer.send(u64::from(n) + 1, vec![n]);
        }
        open(&fake);
        writer.stop().unwrap();
        let commits = fake.commits.lock().unwrap();
        assert!(commits.len() <= 4, "{}", commits.len());
        assert!(commits.iter().all(|c| c.len() <= REQUESTS));
        assert_eq!(commits.concat(), (0..2_500).collect::<Vec<_>>());
        assert_eq!(told.lock().unwrap().last(), Some(&Ok(2_500)));
        assert_eq!(told.lock().unwrap().len(), commits.len());
    }

    #[test]
    fn after_a_failure_nothing_is_written_nor_told() {
        let fake = Fake {
            bad: Some(7),
            ..Fake::default()
        };
        open(&fake);
        let (told, done) = told();
        let writer = Writer::start(fake.clone(), done).unwrap();
        writer.send(1, vec![1]);
        while told.lock().unwrap().is_empty() {
            std::thread::yield_now();
        }
        writer.send(2, vec![7]);
        while told.lock().unwrap().len() < 2 {
            std::thread::yield_now();
        }
        writer.send(3, vec![8]);
        writer.send(4, vec![]);
        let store = writer.stop().unwrap();
        assert_eq!(*store.commits.lock().unwrap(), [[1]]);
        let full = StoreError::Full("full".to_owned());
        assert_eq!(*told.lock().unwrap(), [Ok(1), Err(full)]);
    }

    #[test]
    fn a_request_without_changes_is_told_in_its_turn() {
        let fake = Fake::default();
        open(&fake);
        let (told, done) = told();
        let writer = Writer::start(fake.clone(), done).unwrap();
        writer.send(1, Vec::new());
        writer.stop().unwrap();
        assert_eq!(*told.lock().unwrap(), [Ok(1)]);
        assert!(fake.commits.lock().unwrap().is_empty());
    }
}
