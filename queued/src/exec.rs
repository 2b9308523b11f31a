//! The one connection with queue-exec: requests by number, each with at most one descriptor, and the events
//! of sessions that start and end. Reconnects for ever. Knows the monitor's protocol; decides nothing.

use crate::driver::{Driver, Event};
use crate::engine::types::{AskId, Input, SessionId};
use crate::spawn::Spawner;
use crate::usage::Meter;
use libqueue::wire::{Need, SessionNote};
use prost::Message as _;
use queue_exec::client;
use queue_exec::layout::Layout;
use queue_exec::protocol::{PACKET_MAX, Reply, Request};
use std::collections::BTreeMap;
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

struct Job {
    request: Request,
    fd: Option<OwnedFd>,
    reply: oneshot::Sender<Result<Reply, Gone>>,
}

/// Asks the monitor.
#[derive(Debug, Clone)]
pub(crate) struct Exec {
    jobs: mpsc::Sender<Job>,
    up: watch::Receiver<bool>,
    sessions: Sessions,
    meter: Meter,
    spawner: Arc<Mutex<Option<Spawner>>>,
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
}

type Sessions = Arc<Mutex<BTreeMap<SessionId, Session>>>;

impl Exec {
    /// Starts the task that keeps the connection. `spawner`: starts queue-exec again where we may.
    pub(crate) fn start(layout: Layout, driver: Driver, spawner: Option<Spawner>) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (up_tx, up) = watch::channel(false);
        let sessions = Sessions::default();
        let spawner = Arc::new(Mutex::new(spawner));
        let keeper = Keeper {
            layout,
            driver,
            spawner: spawner.clone(),
            up: up_tx,
            sessions: sessions.clone(),
        };
        tokio::spawn(keeper.run(queue));
        Self {
            jobs,
            up,
            sessions,
            meter: Meter::default(),
            spawner,
        }
    }

    /// Asks, with a descriptor if given, and waits for the answer.
    ///
    /// # Errors
    /// If there was nobody to ask, or he went.
    pub(crate) async fn ask(&self, request: Request, fd: Option<OwnedFd>) -> Result<Reply, Gone> {
        let (reply, answer) = oneshot::channel();
        self.jobs
            .send(Job { request, fd, reply })
            .await
            .map_err(|_| Gone::Away)?;
        answer.await.unwrap_or(Err(Gone::Lost))
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

    /// Measures what they use.
    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Ends the queue-exec that we started, unless sessions need it.
    pub(crate) fn end(&self) {
        if self.sessions().is_empty()
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

/// Keeps the connection.
struct Keeper {
    layout: Layout,
    driver: Driver,
    spawner: Arc<Mutex<Option<Spawner>>>,
    up: watch::Sender<bool>,
    sessions: Sessions,
}

impl Keeper {
    async fn run(self, mut queue: mpsc::Receiver<Job>) {
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
                    job = queue.recv() => match job {
                        Some(j) => drop(j.reply.send(Err(Gone::Away))),
                        None => return,
                    },
                }
            }
            pause = (pause * 2).min(RETRY.1);
        }
    }

    async fn tell(&self, up: bool) {
        self.known().clear();
        self.driver.send(Event::Input(Input::Monitor(up))).await;
        // Last: whoever waits for it finds the driver informed.
        let _ = self.up.send(up);
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
        };
        self.driver.send(Event::Input(input)).await;
    }

    async fn ended(&self, session: SessionId) {
        self.known().remove(&session);
        self.driver.send(Event::Input(Input::Ended { session })).await;
    }

    /// Until the connection ends (with why) or nobody can ask any more.
    async fn talk(&self, stream: &UnixStream, queue: &mut mpsc::Receiver<Job>) -> Option<io::Error> {
        let mut pending: BTreeMap<u32, oneshot::Sender<Result<Reply, Gone>>> = BTreeMap::new();
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
                            };
                            self.started(session, ours.then_some(note.grant)).await;
                        }
                        (0, Reply::SessionEnded { nonce }) => self.ended(nonce).await,
                        (id, reply) => match pending.remove(&id) {
                            Some(tx) => drop(tx.send(Ok(reply))),
                            None => if let Reply::Refused { text, .. } = reply {
                                tracing::error!("queue-exec: {text}");
                            },
                        },
                    }
                }
                job = queue.recv() => {
                    let job = job?;
                    id = id.checked_add(1).unwrap_or(1).max(1);
                    while pending.contains_key(&id) {
                        id = id.checked_add(1).unwrap_or(1).max(1);
                    }
                    match send(stream, &job.request.encode(id), job.fd.as_ref()).await {
                        Ok(()) => drop(pending.insert(id, job.reply)),
                        Err(e) => {
                            let _ = job.reply.send(Err(Gone::Away));
                            return Some(e);
                        }
                    }
                }
            }
        }
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
