//! The shell of batch jobs: one task that owns this host's agent and, on the host of the cluster's authority, the
//! leader. It hands them what happens, with the time, and does what they want done: strictly in the order in which
//! they said it, and never before what they wrote down first is on disk.
//!
//! `task` is that task, `gate` the order, `desk` the threads that write and read the stores; `link` connects agents
//! with the leader, `ask` serves people, `runs` keeps what jobs execute, `here` what runs on this host, `classes`
//! reads the classes. None of them decides anything about a job.

pub(crate) mod ask;
pub(crate) mod classes;
mod desk;
mod effects;
pub(crate) mod frames;
mod gate;
mod here;
pub(crate) mod link;
mod runs;
mod task;

use crate::driver::Driver;
use crate::engine::jobs::types::Asker;
use crate::engine::types::AskId;
use crate::exec::Exec;
use crate::mesh::clock_ms;
use desk::Word;
pub(crate) use effects::wire_key;
use frames::Outbox;
use libqueue::wire::job::{JobReply, Key, Mailed, Submit, Submitted, down, query, up};
use libqueue::wire::{self, Error, ErrorCode, reply};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Bytes of submissions that may wait for their answer; whoever has more to say waits.
const SUBMITS: usize = 64 << 20;
/// Unit of the permits for it.
const UNIT: usize = 4096;

/// What happens.
#[derive(Debug)]
pub(crate) enum Input {
    /// A local program submits; it was checked.
    Submit(
        Box<Submit>,
        OwnedSemaphorePermit,
        oneshot::Sender<Result<Submitted, Error>>,
    ),
    /// Somebody asks the leader.
    Ask {
        /// Names the question.
        ask: AskId,
        /// Who.
        who: Asker,
        /// What.
        query: Box<query::Kind>,
        /// For the answers: closed after the last one.
        tx: mpsc::Sender<JobReply>,
    },
    /// He does not listen any more.
    Gone(AskId),
    /// There is a connection with the leader on another host.
    Linked(u64, Arc<Outbox>),
    /// It ended.
    Unlinked(u64),
    /// The leader said something on it.
    Said(u64, Box<down::Kind>, OwnedSemaphorePermit),
    /// A host opened a connection with the leader, which is to be here.
    Arrived {
        /// The connection.
        conn: u64,
        /// The host.
        host: String,
        /// The way to it.
        outbox: Arc<Outbox>,
    },
    /// It ended.
    Left(u64),
    /// A host said something.
    Heard(u64, Box<up::Kind>, OwnedSemaphorePermit),
    /// queue-exec said something about jobs.
    Exec(Event),
    /// The answer to a grant that was asked for.
    Granted(Key, AskId, reply::Kind),
    /// All hosts, as membership sees them.
    Hosts(wire::Hosts),
    /// A letter was sent, or could not be.
    Mailed(Mailed),
    /// A store said something.
    Store(Word),
    /// Configuration and identity were read anew.
    Reload,
    /// Tell when the stores are open, or cannot be.
    Ready(oneshot::Sender<()>),
    /// Everything is to be on disk and the stores closed: nothing follows.
    Stop(oneshot::Sender<()>),
}

/// What queue-exec says about jobs.
#[derive(Debug)]
pub(crate) enum Event {
    /// It answers, and tells next what runs here. The life of its records.
    Up([u8; 16]),
    /// It does not answer any more.
    Down,
    /// It has told all.
    Told,
    /// An attempt runs; the encoded `Running`, empty as long as the command was not executed; the length of its lease
    /// in milliseconds, 0: none.
    Started(Key, Vec<u8>, u64),
    /// An attempt was stopped, or goes on.
    Stopped(Key, bool),
    /// An attempt has ended; the encoded `Outcome`, empty if nobody knows it.
    Ended(Key, Vec<u8>),
    /// It was not started: why, and whether it may be elsewhere or later.
    NotRun(Key, String, bool),
    /// A delivery is over: its number, why it failed, and whether it makes no sense to try again.
    Delivered(u64, String, bool),
}

/// The way to the task.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    tx: mpsc::UnboundedSender<Input>,
    numbers: Arc<AtomicU64>,
    room: Arc<Semaphore>,
}

impl Batch {
    /// Hands something over. Those who could flood the task hold a permit for what they say.
    pub(crate) fn send(&self, input: Input) {
        let _ = self.tx.send(input);
    }

    /// A new number: for connections and questions. They rise, also from one start of the daemon to the next.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits until the stores are open, or it is known why not.
    pub(crate) async fn ready(&self) {
        let (tx, rx) = oneshot::channel();
        self.send(Input::Ready(tx));
        let _ = rx.await;
    }

    /// Ends the task, with everything on disk and the stores closed.
    pub(crate) async fn stop(&self) {
        let (tx, rx) = oneshot::channel();
        self.send(Input::Stop(tx));
        let _ = rx.await;
    }

    /// Submits, once there is room for so many bytes; the answer comes later.
    pub(crate) async fn submit(&self, submit: Submit, bytes: usize) -> Answer {
        let (tx, rx) = oneshot::channel();
        let units = permits(bytes, SUBMITS);
        if let Ok(permit) = self.room.clone().acquire_many_owned(units).await {
            self.send(Input::Submit(Box::new(submit), permit, tx));
        }
        rx
    }
}

/// The answer to a submission, which is yet to come.
pub(crate) type Answer = oneshot::Receiver<Result<Submitted, Error>>;

/// Units for so many bytes, never more than there are.
fn permits(bytes: usize, all: usize) -> u32 {
    (bytes / UNIT + 1).min(all / UNIT) as u32
}

/// The task is not there, or not ready: why.
pub(crate) fn not_ready(text: impl Into<String>) -> Error {
    Error {
        code: ErrorCode::NotReady as i32,
        text: text.into(),
    }
}

/// Gets the task ready: the way to it is needed by those whom it needs.
#[derive(Debug)]
pub(crate) struct Ready {
    batch: Batch,
    inputs: mpsc::UnboundedReceiver<Input>,
}

impl Ready {
    /// A task that is yet to run.
    pub(crate) fn new() -> Self {
        let (tx, inputs) = mpsc::unbounded_channel();
        // Later starts begin higher: no daemon opens a thousand connections each millisecond.
        let first = clock_ms().saturating_mul(1024).max(1);
        Self {
            batch: Batch {
                tx,
                numbers: Arc::new(AtomicU64::new(first)),
                room: Arc::new(Semaphore::new(SUBMITS / UNIT)),
            },
            inputs,
        }
    }

    /// The way to it.
    pub(crate) fn batch(&self) -> Batch {
        self.batch.clone()
    }

    /// Runs for ever.
    pub(crate) async fn run(self, driver: Driver, exec: Exec) {
        tokio::spawn(link::keep(driver.clone(), self.batch.clone()));
        task::Task::new(self.batch, driver, exec).run(self.inputs).await;
    }
}
