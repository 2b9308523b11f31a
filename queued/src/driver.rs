//! The one task that owns the engine: hands it what happens, with the time, and does what it wants done. No
//! other task touches the engine. Knows which room does what; decides nothing.

use crate::batch::{Batch, Input as BatchInput};
use crate::context::Context;
use crate::engine::types::{AskId, ConnId, Effect, Effects, Entry, Input, Level, Now};
use crate::engine::{Engine, Setup};
use crate::exec::Exec;
use crate::gossip::Gossip;
use crate::identity::{self, Identity};
use crate::mesh;
use crate::probe::{Found, Prober};
use libqueue::wire::job::Key;
use libqueue::wire::{self, member, reply};
use queue_exec::protocol::{Reply, Request};
use queue_exec::state::random;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep_until;

/// The load is measured this often; whether it is worth a report is the engine's.
const MEASURE: Duration = Duration::from_secs(1);
/// When a host's state changes the leader is told at once, but not more often than this.
const VIEWS: Duration = Duration::from_millis(100);
/// Events that wait for the driver.
const QUEUE: usize = 1024;
/// Messages that wait for one member; one that takes no more is cut off.
pub(crate) const OUTBOX: usize = 256;

/// What a connection is told to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Say hello.
    Welcome,
    /// Send this.
    Send(member::Kind),
    /// Say this, if anything, and close.
    Close(Option<String>),
}

/// What a local program asks.
#[derive(Debug)]
pub(crate) enum Question {
    /// Where to run.
    Place(wire::Place),
    /// How hosts are judged for this.
    Explain(wire::Place),
    /// All hosts.
    Hosts,
}

/// Who waits for an answer of the engine.
#[derive(Debug)]
enum Asker {
    /// For one answer.
    Once(oneshot::Sender<reply::Kind>),
    /// For the answer, and before it for what there is to tell.
    Stream(mpsc::Sender<reply::Kind>),
    /// For a grant and its number.
    Grant(oneshot::Sender<(AskId, reply::Kind)>),
    /// The task of batch jobs, for a grant.
    Job(Key),
    /// The same, for all hosts.
    Views,
}

/// What happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// For the engine as it is.
    Input(Input),
    /// A member connection to which effects may be sent from now on.
    Connected(ConnId, mpsc::Sender<Command>),
    /// A local program asks.
    Ask(Question, oneshot::Sender<reply::Kind>),
    /// A local program asks, and waits as long as it takes; it is told meanwhile why. Dropping the receiver takes
    /// the question back.
    Wait(Question, mpsc::Sender<reply::Kind>),
    /// May a session with this need, from this host itself or not, start here? Answered with the number of the
    /// grant.
    Grant(wire::Need, bool, oneshot::Sender<(AskId, reply::Kind)>),
    /// May an attempt of a batch job with this need start here? The task of batch jobs is told.
    JobGrant(Key, wire::Need),
    /// Asks who holds the authority, and leads; and why that host refuses this one, if it does.
    Leader(oneshot::Sender<Option<(Entry, Option<String>)>>),
    /// Asks who has this key.
    Member([u8; 32], oneshot::Sender<Option<Entry>>),
    /// Asks for all members, this host first.
    Roster(oneshot::Sender<Vec<Entry>>),
    /// Asks for the revocation list.
    Revocations(oneshot::Sender<Vec<u8>>),
    /// Asks for the gossip keys, if there are any yet.
    Keys(oneshot::Sender<Option<wire::Keys>>),
    /// Read configuration, keys and members again.
    Reload(oneshot::Sender<Result<(), String>>),
    /// End.
    Stop(oneshot::Sender<()>),
}

/// The way to the driver.
#[derive(Debug, Clone)]
pub(crate) struct Driver {
    events: mpsc::Sender<Event>,
    conns: Arc<AtomicU64>,
    talks: watch::Sender<usize>,
    context: watch::Receiver<Arc<Context>>,
}

impl Driver {
    /// Hands an event over. Nobody is left to care if the driver has ended.
    pub(crate) async fn send(&self, e: Event) {
        let _ = self.events.send(e).await;
    }

    /// Hands an event over if there is plenty of room: for what may be lost, and may come in floods.
    pub(crate) fn offer(&self, e: Event) -> bool {
        self.events.capacity() > QUEUE / 4 && self.events.try_send(e).is_ok()
    }

    /// Asks the engine.
    pub(crate) async fn ask(&self, q: Question) -> Option<reply::Kind> {
        let (tx, rx) = oneshot::channel();
        self.send(Event::Ask(q, tx)).await;
        rx.await.ok()
    }

    /// Asks the engine, and waits as long as it takes.
    pub(crate) async fn wait(&self, q: Question) -> mpsc::Receiver<reply::Kind> {
        let (tx, rx) = mpsc::channel(16);
        self.send(Event::Wait(q, tx)).await;
        rx
    }

    /// Asks the engine for a grant; to be undone by [`Input::Ungrant`] if nothing comes of it.
    pub(crate) async fn grant(&self, need: wire::Need, from_here: bool) -> Option<(AskId, reply::Kind)> {
        let (tx, rx) = oneshot::channel();
        self.send(Event::Grant(need, from_here, tx)).await;
        rx.await.ok()
    }

    /// A new name for a connection.
    pub(crate) fn conn(&self) -> ConnId {
        self.conns.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts a member connection until what is returned is dropped.
    pub(crate) fn talking(&self) -> Talking {
        self.talks.send_modify(|n| *n += 1);
        Talking(self.talks.clone())
    }

    /// Waits until no member connection is left.
    pub(crate) async fn idle(&self) {
        let _ = self.talks.subscribe().wait_for(|n| *n == 0).await;
    }

    /// What is shared, as it is now.
    pub(crate) fn context(&self) -> Arc<Context> {
        self.context.borrow().clone()
    }

    /// The same, and word of its changes.
    pub(crate) fn contexts(&self) -> watch::Receiver<Arc<Context>> {
        self.context.clone()
    }
}

/// A member connection that still has something to say.
#[derive(Debug)]
pub(crate) struct Talking(watch::Sender<usize>);

impl Drop for Talking {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

/// The task's own state.
struct Task {
    context: watch::Sender<Arc<Context>>,
    driver: Driver,
    exec: Option<Exec>,
    batch: Batch,
    gossip: Gossip,
    engine: Engine,
    start: Instant,
    conns: BTreeMap<ConnId, mpsc::Sender<Command>>,
    asks: BTreeMap<AskId, Asker>,
    next_ask: AskId,
    monitor: bool,
    measure_at: Instant,
    /// Some host's state changed since the leader was told of the hosts, and when it was.
    stale: bool,
    views_at: Instant,
    /// Tells facts and loads.
    prober: Option<Prober>,
    /// The gossip keys that are in use.
    keys: Option<wire::Keys>,
}

/// Gets the task ready: the way to it is needed by those whom it needs.
#[derive(Debug)]
pub(crate) struct Ready {
    context: watch::Sender<Arc<Context>>,
    driver: Driver,
    events: mpsc::Receiver<Event>,
}

impl Ready {
    /// A driver that is yet to run.
    pub(crate) fn new(context: Arc<Context>) -> Self {
        let (tx, events) = mpsc::channel(QUEUE);
        let (context, rx) = watch::channel(context);
        let driver = Driver {
            events: tx,
            conns: Arc::new(AtomicU64::new(1)),
            talks: watch::channel(0).0,
            context: rx,
        };
        Self {
            context,
            driver,
            events,
        }
    }

    /// The way to it.
    pub(crate) fn driver(&self) -> Driver {
        self.driver.clone()
    }

    /// Runs until it is stopped.
    pub(crate) async fn run(self, exec: Exec, gossip: Gossip, batch: Batch) {
        let context = self.context.borrow().clone();
        let mut task = Task {
            engine: Engine::new(Duration::ZERO, setup(&context)),
            context: self.context,
            driver: self.driver,
            exec: Some(exec),
            batch,
            gossip,
            start: Instant::now(),
            conns: BTreeMap::new(),
            asks: BTreeMap::new(),
            next_ask: 1,
            monitor: false,
            measure_at: Instant::now(),
            stale: false,
            views_at: Instant::now(),
            prober: None,
            keys: None,
        };
        if let Some(keys) = context.identity.keys.clone() {
            task.handle(Input::Keys(keys));
        }
        task.prober = prober(&context, task.driver.clone());
        task.run(self.events).await;
    }
}

/// What looks at this host. Without it, others think it has nothing to give.
fn prober(c: &Context, driver: Driver) -> Option<Prober> {
    let tell = move |found| {
        let input = match found {
            Found::Facts(f) => Input::OwnFacts(f),
            Found::Load(l) => Input::OwnLoad(l),
        };
        driver.events.blocking_send(Event::Input(input)).is_ok()
    };
    Prober::start(&c.config, tell)
        .inspect_err(|e| tracing::error!("cannot start the thread that measures the load: {e}"))
        .ok()
}

fn setup(c: &Context) -> Setup {
    let Identity {
        cluster,
        own,
        members,
        revoked,
        ..
    } = &c.identity;
    Setup {
        own: own.clone(),
        cluster: cluster.name.clone(),
        authority: cluster.authority,
        boot: c.boot.to_vec(),
        epoch: mesh::clock_ms(),
        dial_self: c.dial_self(),
        advertised: c.address(),
        version: env!("CARGO_PKG_VERSION").into(),
        members: members.clone(),
        revoked: revoked.clone(),
        drain: c.identity.drain.clone(),
        seed: u64::from_ne_bytes(random()),
    }
}

impl Task {
    async fn run(&mut self, mut events: mpsc::Receiver<Event>) {
        loop {
            let wake = self.engine.wake().map(|t| self.start + t);
            let mut next = wake.map_or(self.measure_at, |w| w.min(self.measure_at));
            if self.stale {
                next = next.min(self.views_at + VIEWS);
            }
            let event = tokio::select! {
                e = events.recv() => e,
                () = sleep_until(next.into()) => {
                    if self.stale && Instant::now() >= self.views_at + VIEWS {
                        self.views();
                    } else if Instant::now() >= self.measure_at {
                        self.measure();
                    } else {
                        self.handle(Input::Tick);
                    }
                    continue;
                }
            };
            match event {
                None => return,
                Some(Event::Input(input)) => {
                    if let Input::Monitor(up) = input {
                        self.monitor = up;
                        self.handle(input);
                        self.measure();
                    } else {
                        self.handle(input);
                    }
                }
                Some(Event::Connected(conn, tx)) => {
                    self.conns.insert(conn, tx);
                }
                Some(Event::Ask(question, tx)) => {
                    let ask = self.asker(Asker::Once(tx));
                    self.handle(input(ask, question));
                }
                Some(Event::Wait(question, tx)) => {
                    let driver = self.driver.clone();
                    let ask = self.asker(Asker::Stream(tx.clone()));
                    tokio::spawn(async move {
                        tx.closed().await;
                        driver.send(Event::Input(Input::Gone { ask })).await;
                    });
                    self.handle(input(ask, question));
                }
                Some(Event::Grant(need, from_here, tx)) => {
                    let ask = self.asker(Asker::Grant(tx));
                    self.handle(Input::Grant { ask, need, from_here });
                }
                Some(Event::JobGrant(key, need)) => {
                    let ask = self.asker(Asker::Job(key));
                    self.handle(Input::Grant {
                        ask,
                        need,
                        from_here: false,
                    });
                }
                Some(Event::Leader(tx)) => {
                    let leader = self.engine.roster("").into_iter().find(|e| e.authority);
                    let _ = tx.send(leader.map(|e| {
                        let refusal = self.engine.refusal(&e.host.name);
                        (e, refusal)
                    }));
                }
                Some(Event::Member(key, tx)) => {
                    let mut all = self.engine.roster("").into_iter();
                    let _ = tx.send(all.find(|e| e.host.tls_key == key));
                }
                Some(Event::Roster(tx)) => {
                    let _ = tx.send(self.engine.roster(""));
                }
                Some(Event::Revocations(tx)) => {
                    let _ = tx.send(self.engine.revocations().to_vec());
                }
                Some(Event::Keys(tx)) => {
                    let _ = tx.send(self.keys.clone());
                }
                Some(Event::Reload(tx)) => {
                    let _ = tx.send(self.reload());
                }
                Some(Event::Stop(tx)) => {
                    self.handle(Input::Stop);
                    let _ = tx.send(());
                    return;
                }
            }
        }
    }

    fn now(&self) -> Now {
        self.start.elapsed()
    }

    /// A new question's name.
    fn asker(&mut self, asker: Asker) -> AskId {
        let ask = self.next_ask;
        self.next_ask += 1;
        self.asks.insert(ask, asker);
        ask
    }

    /// Has the load measured: the engine is told by an event.
    fn measure(&mut self) {
        self.measure_at = Instant::now() + MEASURE;
        let address = self.context.borrow().address();
        self.handle(Input::OwnAddress(address));
        self.views();
        if let Some(prober) = &self.prober {
            prober.measure();
        }
    }

    /// Tells the leader, if it is here, how the hosts are.
    fn views(&mut self) {
        (self.stale, self.views_at) = (false, Instant::now());
        if self.context.borrow().identity.cluster.authority {
            let ask = self.asker(Asker::Views);
            self.handle(Input::Hosts { ask });
        }
    }

    fn handle(&mut self, input: Input) {
        self.stale |= matches!(
            input,
            Input::Arrived { .. }
                | Input::Reached { .. }
                | Input::Lost { .. }
                | Input::Drain(_)
                | Input::Monitor(_)
        );
        if let Input::Lost { conn, .. } = &input {
            self.conns.remove(conn);
        }
        let mut out = Effects::default();
        self.engine.handle(self.now(), input, &mut out);
        for e in out.0 {
            self.effect(e);
        }
    }

    fn effect(&mut self, e: Effect) {
        let context = self.context.borrow().clone();
        let failed = |what: &str, e: &dyn std::fmt::Display| tracing::error!("cannot write {what} down: {e}");
        match e {
            Effect::Dial { name, address, key } => {
                tokio::spawn(mesh::dial(context, self.driver.clone(), name, address, key));
            }
            Effect::Welcome { conn } => self.command(conn, Command::Welcome),
            Effect::Send { conn, message } => self.command(conn, Command::Send(message)),
            Effect::Close { conn, bye } => {
                self.stale = true;
                self.command(conn, Command::Close(bye));
                self.conns.remove(&conn);
            }
            Effect::Datagram { address, message } => self.gossip.send(&address, message),
            Effect::Unheard(host) => self.gossip.forget(host),
            Effect::Keys(keys) => {
                self.gossip.adopt(&keys);
                if let Err(e) = identity::keep_keys(&context.layout, &keys, None) {
                    failed("the gossip keys", &e);
                }
                self.keys = Some(keys);
            }
            Effect::KeepDrain(drain) => {
                if let Err(e) = identity::keep_drain(&context.layout, drain.as_ref()) {
                    failed("that this host is drained", &e);
                }
            }
            Effect::Progress { ask, reply } => {
                // Whoever does not listen misses what is only told; he gets the answer itself.
                if let Some(Asker::Stream(tx)) = self.asks.get(&ask) {
                    let _ = tx.try_send(reply);
                }
            }
            Effect::Answer { ask, reply } => match self.asks.remove(&ask) {
                Some(Asker::Once(tx)) => drop(tx.send(reply)),
                Some(Asker::Grant(tx)) => drop(tx.send((ask, reply))),
                Some(Asker::Job(key)) => self.batch.send(BatchInput::Granted(key, ask, reply)),
                Some(Asker::Views) => {
                    if let reply::Kind::Hosts(hosts) = reply {
                        self.batch.send(BatchInput::Hosts(hosts));
                    }
                }
                Some(Asker::Stream(tx)) => {
                    tokio::spawn(async move { tx.send(reply).await });
                }
                None => {}
            },
            Effect::Keep(entry) => {
                self.stale = true;
                if let Err(e) = identity::keep(&context.layout, &entry) {
                    failed(&entry.host.name, &e);
                }
            }
            Effect::Forget(name) => {
                self.stale = true;
                if let Err(e) = identity::forget(&context.layout, &name) {
                    failed(&name, &e);
                }
            }
            Effect::Revoked(bytes) => {
                self.stale = true;
                self.gossip.removed();
                if let Err(e) = identity::keep_revoked(&context.layout, &bytes) {
                    failed("the revocation list", &e);
                }
                if let Some(exec) = self.exec.clone() {
                    tokio::spawn(tell_revoked(exec, bytes));
                }
            }
            Effect::Log(level, text) => match level {
                Level::Error => tracing::error!("{text}"),
                Level::Warn => tracing::warn!("{text}"),
                Level::Info => tracing::info!("{text}"),
                Level::Debug => tracing::debug!("{text}"),
            },
        }
    }

    fn command(&mut self, conn: ConnId, c: Command) {
        let Some(tx) = self.conns.get(&conn) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = tx.try_send(c) {
            // It takes nothing any more; without its end of the channel the connection ends itself.
            self.conns.remove(&conn);
            let driver = self.driver.clone();
            tokio::spawn(async move {
                let text = "it takes no more messages".into();
                driver.send(Event::Input(Input::Lost { conn, text })).await;
            });
        }
    }

    /// Reads everything again. Members and addresses are taken over; with other keys everything begins anew.
    fn reload(&mut self) -> Result<(), String> {
        let old = self.context.borrow().clone();
        let read = || {
            let config = libqueue::config::Config::load(&old.config_file)?;
            let identity = Identity::load(&old.layout)?;
            let new = Context::new(old.layout.clone(), config, identity, old.boot, Some(old.port))?;
            anyhow::Ok(
                new.with_config_file(old.config_file.clone())
                    .with_program(old.program.clone()),
            )
        };
        let new = Arc::new(read().map_err(|e| format!("{e:#}"))?);
        let same = new.identity.own.is_same(&old.identity.own)
            && new.identity.authority == old.identity.authority
            && new.identity.cluster.name == old.identity.cluster.name
            && new.address() == old.address();
        let _ = self.context.send(new.clone());
        self.batch.send(BatchInput::Reload);
        self.gossip.renew(&new);
        if same {
            self.handle(Input::Renewed(new.identity.own.clone()));
            for m in new.identity.members.clone() {
                self.handle(Input::Joined(m));
            }
            if !new.identity.revoked.bytes.is_empty() {
                self.handle(Input::Revoke(new.identity.revoked.clone()));
            }
            if let Some(keys) = new.identity.keys.clone() {
                self.handle(Input::Keys(keys));
            }
        } else {
            self.handle(Input::Stop);
            self.conns.clear();
            self.keys = None;
            self.engine = Engine::new(self.now(), setup(&new));
            if let Some(keys) = new.identity.keys.clone() {
                self.handle(Input::Keys(keys));
            }
            self.handle(Input::Monitor(self.monitor));
            self.measure();
            tracing::info!(
                "now {} of cluster {}",
                new.identity.own.name,
                new.identity.cluster.name
            );
        }
        if let Some(prober) = &self.prober {
            prober.configure(&new.config);
        }
        if let Some(exec) = self.exec.clone() {
            tokio::spawn(async move {
                if let Ok(Reply::Refused { text, .. }) = exec.ask(Request::Reload, None).await {
                    tracing::error!("queue-exec: {text}");
                }
            });
        }
        Ok(())
    }
}

fn input(ask: AskId, question: Question) -> Input {
    match question {
        Question::Place(place) => Input::Place { ask, place },
        Question::Explain(place) => Input::Explain { ask, place },
        Question::Hosts => Input::Hosts { ask },
    }
}

/// Until queue-exec has it: a removed host is refused there, too.
async fn tell_revoked(exec: Exec, list: Vec<u8>) {
    loop {
        exec.ready().await;
        match exec.ask(Request::Revoke { list: list.clone() }, None).await {
            Ok(Reply::Refused { text, .. }) => return tracing::error!("queue-exec: {text}"),
            Ok(_) => return,
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}
