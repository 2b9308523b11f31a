//! The one connection with queue-exec: requests by number, each with at most one descriptor, and the events
//! of sessions that start and end. Reconnects for ever. Knows the monitor's protocol; decides nothing.

use crate::batch::{Batch, Event as JobEvent, Input as BatchInput, wire_key};
use crate::driver::{Driver, Event};
use crate::engine::types::{AskId, Input, SessionId};
use crate::spawn::Spawner;
use crate::usage::Meter;
use libqueue::wire::job::Key;
use libqueue::wire::{Need, SessionNote};
use prost::Message as _;
use queue_exec::client;
use queue_exec::layout::Layout;
use queue_exec::protocol::{AttachState, JobKey, JobReply, JobRequest, PACKET_MAX, Refusal, Reply, Request};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

/// Requests that wait to be sent.
const QUEUE: usize = 1024;
/// Pauses between two attempts to connect.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// A monitor that does not take a packet for so long is stuck.
const STUCK: Duration = Duration::from_secs(10);

/// Why there is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    /// It was not asked: there is no connection.
    Away,
    /// It was asked and went: nobody knows what it did.
    Lost,
}

struct Asked {
    request: Request,
    fd: Option<OwnedFd>,
    by: By,
}

/// Who gets the reply.
enum By {
    /// Somebody who waits for it.
    One(oneshot::Sender<Result<Reply, Gone>>),
    /// The task of batch jobs.
    Batch(JobAsk),
}

/// What the task of batch jobs wants to know of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobAsk {
    /// Whether this attempt was started.
    Run(Key),
    /// How this delivery ended.
    Deliver(u64),
    /// Nothing.
    Tell,
}

/// Asks the monitor.
#[derive(Debug, Clone)]
pub(crate) struct Exec {
    asks: mpsc::Sender<Asked>,
    /// The task of batch jobs must not wait; it has few requests under way.
    jobs: mpsc::UnboundedSender<Asked>,
    up: watch::Receiver<bool>,
    sessions: Sessions,
    meter: Meter,
    spawner: Arc<Mutex<Option<Spawner>>>,
    attempts: Attempts,
}

/// A session as the monitor tells it.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// Its nonce.
    pub id: SessionId,
    /// Local account.
    pub login: String,
    /// Process id of its session process.
    pub pid: u32,
    /// The user who started it.
    pub user: String,
    /// Where he did.
    pub from: String,
    /// When, in milliseconds since the epoch.
    pub since_ms: u64,
    /// What it was granted.
    pub need: Need,
    /// Who is attached to it.
    pub attached: AttachState,
}

type Sessions = Arc<Mutex<BTreeMap<SessionId, Session>>>;
/// The attempts of batch jobs that run here.
type Attempts = Arc<Mutex<BTreeSet<JobKey>>>;

impl Exec {
    /// Starts the task that keeps the connection. `spawner`: starts queue-exec again where we may.
    pub(crate) fn start(layout: Layout, driver: Driver, batch: Batch, spawner: Option<Spawner>) -> Self {
        let (asks, asked) = mpsc::channel(QUEUE);
        let (jobs, of_jobs) = mpsc::unbounded_channel();
        let (up_tx, up) = watch::channel(false);
        let sessions = Sessions::default();
        let attempts = Attempts::default();
        let spawner = Arc::new(Mutex::new(spawner));
        let keeper = Keeper {
            layout,
            driver,
            batch,
            spawner: spawner.clone(),
            up: up_tx,
            sessions: sessions.clone(),
            attempts: attempts.clone(),
        };
        let queue = Queue { asked, of_jobs };
        tokio::spawn(keeper.run(queue));
        Self {
            asks,
            jobs,
            up,
            sessions,
            meter: Meter::default(),
            spawner,
            attempts,
        }
    }

    /// Asks, with a descriptor if given, and waits for the answer.
    ///
    /// # Errors
    /// If there was nobody to ask, or he went.
    pub(crate) async fn ask(&self, request: Request, fd: Option<OwnedFd>) -> Result<Reply, Gone> {
        let (reply, answer) = oneshot::channel();
        let by = By::One(reply);
        self.asks
            .send(Asked { request, fd, by })
            .await
            .map_err(|_| Gone::Away)?;
        answer.await.unwrap_or(Err(Gone::Lost))
    }

    /// Asks about batch jobs; what there is to tell goes to their task.
    pub(crate) fn job(&self, request: JobRequest, fd: Option<OwnedFd>, ask: JobAsk) {
        let (request, by) = (Request::Job(request), By::Batch(ask));
        let _ = self.jobs.send(Asked { request, fd, by });
    }

    /// Waits until the monitor answers.
    pub(crate) async fn ready(&self) {
        let _ = self.up.clone().wait_for(|up| *up).await;
    }

    /// The sessions that run here.
    pub(crate) fn sessions(&self) -> Vec<Session> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.values().cloned().collect()
    }

    /// One of them.
    pub(crate) fn session(&self, id: &SessionId) -> Option<Session> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(id).cloned()
    }

    /// Measures what they use.
    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Process id of the queue-exec that we started.
    pub(crate) fn child(&self) -> Option<i32> {
        let spawner = self.spawner.lock().unwrap_or_else(PoisonError::into_inner);
        spawner.as_ref().and_then(Spawner::pid)
    }

    /// Ends the queue-exec that we started, unless sessions need it.
    pub(crate) fn end(&self) {
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner).len();
        if self.sessions().is_empty()
            && attempts == 0
            && let Some(s) = self
                .spawner
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .as_mut()
        {
            s.end();
        }
    }
}

/// What to tell people when it is away.
pub(crate) fn away(host: &str) -> String {
    format!(
        "queue-exec on {host} does not run: start it there (systemctl start queue-exec, or `queued run` anew)"
    )
}

/// Requests that wait to be sent.
struct Queue {
    asked: mpsc::Receiver<Asked>,
    of_jobs: mpsc::UnboundedReceiver<Asked>,
}

impl Queue {
    async fn next(&mut self) -> Option<Asked> {
        tokio::select! {
            a = self.asked.recv() => a,
            Some(a) = self.of_jobs.recv() => Some(a),
        }
    }
}

/// Keeps the connection.
struct Keeper {
    layout: Layout,
    driver: Driver,
    batch: Batch,
    spawner: Arc<Mutex<Option<Spawner>>>,
    up: watch::Sender<bool>,
    sessions: Sessions,
    attempts: Attempts,
}

impl Keeper {
    async fn run(self, mut queue: Queue) {
        let mut pause = RETRY.0;
        let mut told = false;
        loop {
            match connect(&self.layout).await {
                Ok(stream) => {
                    (pause, told) = (RETRY.0, false);
                    self.tell(true).await;
                    let why = self.talk(&stream, &mut queue).await;
                    self.tell(false).await;
                    match why {
                        Some(e) => tracing::error!("queue-exec went away: {e}"),
                        None => return,
                    }
                }
                Err(e) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(
                            "queue-exec does not answer at {}: {e}",
                            self.layout.exec_socket().display()
                        );
                    }
                    if let Some(s) = self
                        .spawner
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .as_mut()
                    {
                        s.again();
                    }
                }
            }
            // Whoever asks meanwhile is told at once.
            let wait = sleep(pause);
            tokio::pin!(wait);
            loop {
                tokio::select! {
                    () = &mut wait => break,
                    asked = queue.next() => match asked {
                        Some(a) => self.reply(a.by, Err(Gone::Away)),
                        None => return,
                    },
                }
            }
            pause = (pause * 2).min(RETRY.1);
        }
    }

    async fn tell(&self, up: bool) {
        self.known().clear();
        self.attempts().clear();
        if !up {
            self.job(JobEvent::Down);
        }
        self.driver.send(Event::Input(Input::Monitor(up))).await;
        // Last: whoever waits for it finds the driver informed.
        let _ = self.up.send(up);
    }

    fn attempts(&self) -> MutexGuard<'_, BTreeSet<JobKey>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn job(&self, event: JobEvent) {
        self.batch.send(BatchInput::Exec(event));
    }

    /// Tells whoever asked.
    fn reply(&self, by: By, reply: Result<Reply, Gone>) {
        let ask = match by {
            By::One(tx) => return drop(tx.send(reply)),
            By::Batch(ask) => ask,
        };
        let away = "queue-exec does not run here".to_owned();
        let event = match (ask, reply) {
            (JobAsk::Run(key), Ok(Reply::Refused { code, text })) => {
                JobEvent::NotRun(key, text, elsewhere(code))
            }
            (JobAsk::Run(key), Err(Gone::Away)) => JobEvent::NotRun(key, away, true),
            // It will tell whether it has it.
            (JobAsk::Run(_), _) => return,
            (JobAsk::Deliver(number), Ok(Reply::Job(JobReply::Delivered { failed, hopeless }))) => {
                JobEvent::Delivered(number, failed, hopeless)
            }
            (JobAsk::Deliver(number), Ok(Reply::Refused { text, .. })) => {
                JobEvent::Delivered(number, text, false)
            }
            (JobAsk::Deliver(number), Ok(_)) => {
                JobEvent::Delivered(number, "queue-exec is of another version".into(), false)
            }
            (JobAsk::Deliver(number), Err(_)) => JobEvent::Delivered(number, away, false),
            (JobAsk::Tell, Ok(Reply::Refused { text, .. })) => {
                return tracing::debug!("queue-exec, about a batch job: {text}");
            }
            (JobAsk::Tell, _) => return,
        };
        self.job(event);
    }

    /// An event about batch jobs.
    async fn about_jobs(&self, said: JobReply) {
        match said {
            JobReply::Life { life } => self.job(JobEvent::Up(life)),
            JobReply::Told => self.job(JobEvent::Told),
            JobReply::Started {
                key, running, note, ..
            } => {
                let note = SessionNote::decode(&note[..]).unwrap_or_default();
                // The same attempt is told twice: as its session has it, and as its command runs.
                let is_new = self.attempts().insert(key);
                if is_new {
                    let ours = note.boot == self.driver.context().boot;
                    let input = Input::Started {
                        grant: (ours && note.grant > 0).then_some(note.grant),
                        session: key.to_bytes(),
                        need: note.need.unwrap_or_default(),
                        job: true,
                    };
                    self.driver.send(Event::Input(input)).await;
                }
                self.job(JobEvent::Started(wire_key(key), running, note.lease_ms));
            }
            JobReply::Stopped { key, stopped } => self.job(JobEvent::Stopped(wire_key(key), stopped)),
            JobReply::Ended { key, outcome } => {
                if self.attempts().remove(&key) {
                    let session = key.to_bytes();
                    self.driver.send(Event::Input(Input::Ended { session })).await;
                }
                self.job(JobEvent::Ended(wire_key(key), outcome));
            }
            JobReply::Warrant { .. } | JobReply::Vouched { .. } | JobReply::Delivered { .. } => {}
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<SessionId, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn started(&self, session: Session, grant: Option<AskId>) {
        tracing::debug!("session {} of {} started", session.pid, session.login);
        let (id, need) = (session.id, session.need.clone());
        self.known().insert(id, session);
        let input = Input::Started {
            grant,
            session: id,
            need,
            job: false,
        };
        self.driver.send(Event::Input(input)).await;
    }

    async fn ended(&self, session: SessionId) {
        self.known().remove(&session);
        self.driver.send(Event::Input(Input::Ended { session })).await;
    }

    /// Until the connection ends (with why) or nobody can ask any more.
    async fn talk(&self, stream: &UnixStream, queue: &mut Queue) -> Option<io::Error> {
        let mut pending = Pending::new(self);
        let mut id = 1u32;
        if let Err(e) = send(stream, &Request::Watch.encode(id), None).await {
            return Some(e);
        }
        let mut buf = vec![0; PACKET_MAX];
        loop {
            tokio::select! {
                got = stream.async_io(Interest::READABLE, || client::receive(stream.as_fd(), &mut buf)) => {
                    let (id, reply) = match got {
                        Ok((0, _)) => return Some(io::ErrorKind::UnexpectedEof.into()),
                        Ok((n, _)) => match Reply::decode(&buf[..n]) {
                            Ok(r) => r,
                            Err(e) => return Some(io::Error::new(io::ErrorKind::InvalidData, e)),
                        },
                        Err(e) => return Some(e),
                    };
                    match (id, reply) {
                        (0, Reply::SessionStarted { nonce, login, pid, ruser, rhost, since, note }) => {
                            let note = SessionNote::decode(&note[..]).unwrap_or_default();
                            let ours = note.boot == self.driver.context().boot;
                            let session = Session {
                                id: nonce,
                                login,
                                pid,
                                user: ruser,
                                from: rhost,
                                since_ms: since,
                                need: note.need.unwrap_or_default(),
                                attached: AttachState::default(),
                            };
                            self.started(session, ours.then_some(note.grant)).await;
                        }
                        (0, Reply::SessionEnded { nonce }) => self.ended(nonce).await,
                        (0, Reply::SessionState { nonce, attached }) => {
                            if let Some(s) = self.known().get_mut(&nonce) {
                                s.attached = attached;
                            }
                        }
                        (0, Reply::Job(said)) => self.about_jobs(said).await,
                        (id, reply) => match pending.by.remove(&id) {
                            Some(by) => self.reply(by, Ok(reply)),
                            None => if let Reply::Refused { text, .. } = reply {
                                tracing::error!("queue-exec: {text}");
                            },
                        },
                    }
                }
                asked = queue.next() => {
                    let asked = asked?;
                    id = id.checked_add(1).unwrap_or(1).max(1);
                    while pending.by.contains_key(&id) {
                        id = id.checked_add(1).unwrap_or(1).max(1);
                    }
                    match send(stream, &asked.request.encode(id), asked.fd.as_ref()).await {
                        Ok(()) => drop(pending.by.insert(id, asked.by)),
                        Err(e) => {
                            self.reply(asked.by, Err(Gone::Away));
                            return Some(e);
                        }
                    }
                }
            }
        }
    }
}

/// Requests without a reply yet. Their askers are told when the connection ends.
struct Pending<'a> {
    keeper: &'a Keeper,
    by: BTreeMap<u32, By>,
}

impl<'a> Pending<'a> {
    fn new(keeper: &'a Keeper) -> Self {
        Self {
            keeper,
            by: BTreeMap::new(),
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        for by in std::mem::take(&mut self.by).into_values() {
            self.keeper.reply(by, Err(Gone::Lost));
        }
    }
}

/// Whether an attempt that was refused for this reason may be started on another host, or at another time.
fn elsewhere(code: Refusal) -> bool {
    match code {
        Refusal::Busy | Refusal::NotReady | Refusal::Internal | Refusal::Clock => true,
        Refusal::Denied
        | Refusal::BadTicket
        | Refusal::Policy
        | Refusal::Token
        | Refusal::Name
        | Refusal::Clone => false,
    }
}

async fn connect(layout: &Layout) -> io::Result<UnixStream> {
    let layout = layout.clone();
    // Connecting to a socket whose owner is stopped blocks.
    let fd = tokio::task::spawn_blocking(move || client::dial(&layout))
        .await
        .map_err(io::Error::other)??;
    let s = std::os::unix::net::UnixStream::from(fd);
    s.set_nonblocking(true)?;
    // It is a packet socket in the clothes of a stream one: only readiness and the descriptor are used.
    UnixStream::from_std(s)
}

async fn send(stream: &UnixStream, packet: &[u8], fd: Option<&OwnedFd>) -> io::Result<()> {
    let fd = fd.map(std::os::fd::AsFd::as_fd);
    timeout(
        STUCK,
        stream.async_io(Interest::WRITABLE, || client::send(stream.as_fd(), packet, fd)),
    )
    .await
    .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it takes no more requests"))?
}
