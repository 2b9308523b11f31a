//! The task: takes what happens, asks the engines, keeps their effects in order, and starts them anew when their
//! store failed. What an effect does is in `effects`.

use super::desk::{self, Desk, Jobs, Spool, Which, Word};
use super::frames::Outbox;
use super::gate::Gate;
use super::here::{Files, Here};
use super::runs::{Lack, Runs};
use super::{Batch, Event, Input, classes, not_ready};
use crate::driver::{Driver, Event as DriverEvent};
use crate::engine::jobs::agent::Agent;
use crate::engine::jobs::leader::Leader;
use crate::engine::jobs::types::{AgentEffect, AgentInput, Clock, HostView, LeaderEffect, LeaderInput};
use crate::engine::types::{AskId, Input as EngineInput};
use crate::exec::Exec;
use crate::mesh::clock_ms;
use crate::store::reader::Reader;
use crate::store::spool::SqliteSpool;
use crate::store::sqlite::SqliteStore;
use crate::store::{Op, SpoolOp, StoreError};
use libqueue::wire::job::{JobReply, Key, Submitted, down, job_reply, up};
use libqueue::wire::{self, Error, HostState, reply};
use nix::time::{ClockId, clock_gettime};
use queue_exec::state::random;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::sleep;

/// Inputs taken at once: their operations go into one commit.
const AT_ONCE: usize = 256;
/// The longest sleep: timers do not count a suspended machine's time, the engines do.
const SLEEP_MS: u64 = 10_000;
/// Pauses before a store that failed is loaded anew.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// What comes while a store is being opened waits so long for it: a disk may be slow.
const EARLY: Duration = Duration::from_secs(10);
/// A store that works for so long is well again.
const WELL: Duration = Duration::from_secs(60);

/// One engine with what belongs to it.
pub(super) struct Side<E, O, F, D> {
    pub(super) engine: Option<E>,
    pub(super) gate: Gate<O, F>,
    pub(super) desk: Option<D>,
    /// The store as it was before it failed: to be closed before it is opened anew.
    before: Option<D>,
    /// Which time it was opened.
    pub(super) generation: u64,
    /// Why it is not there.
    pub(super) why: String,
    /// When it is to be opened, if that is to be done.
    retry: Option<Instant>,
    pause: Duration,
    since: Instant,
}

impl<E, O, F, D: Desk<O>> Side<E, O, F, D> {
    fn new() -> Self {
        Self {
            engine: None,
            gate: Gate::default(),
            desk: None,
            before: None,
            generation: 0,
            why: "it is just starting: try again in a moment".into(),
            retry: None,
            pause: RETRY.0,
            since: Instant::now(),
        }
    }

    /// Everything that it had is void.
    fn drop_engine(&mut self) {
        self.engine = None;
        self.gate = Gate::default();
        self.before = self.desk.take().or(self.before.take());
        self.generation += 1;
    }

    /// It failed: how long until it is tried again.
    fn failed(&mut self, why: String) -> Duration {
        if self.since.elapsed() > WELL && self.engine.is_some() {
            self.pause = RETRY.0;
        }
        self.drop_engine();
        self.why = why;
        let pause = self.pause;
        self.retry = Some(Instant::now() + pause);
        self.pause = (pause * 2).min(RETRY.1);
        pause
    }

    /// It is being opened: it is not known yet whether it will work.
    fn is_opening(&self) -> bool {
        self.engine.is_none() && self.retry.is_none()
    }

    /// Hands over what is to be written.
    fn flush(&mut self) {
        if let Some(desk) = &self.desk
            && let Some((ops, number)) = self.gate.take_ops()
        {
            desk.commit(ops, number);
        }
    }
}

/// The agent's way to the leader.
pub(super) enum Link {
    /// There is none.
    None,
    /// The leader is here.
    Local { link: u64, conn: u64 },
    /// It is elsewhere.
    Remote { link: u64, outbox: Arc<Outbox> },
}

/// A host's way to the leader.
pub(super) struct Conn {
    pub(super) host: String,
    pub(super) outbox: Arc<Outbox>,
}

/// What the two engines of one host say to each other.
#[allow(
    clippy::large_enum_variant,
    reason = "each is handed on at once; few wait at a time"
)]
pub(super) enum Local {
    ToLeader(u64, up::Kind),
    ToAgent(u64, down::Kind),
}

/// A submitter who waits.
pub(super) struct Waiting {
    pub(super) tx: oneshot::Sender<Result<Submitted, Error>>,
    /// Its bytes count as long as it waits.
    pub(super) _permit: OwnedSemaphorePermit,
}

/// The task's own state.
pub(super) struct Task {
    pub(super) batch: Batch,
    pub(super) driver: Driver,
    pub(super) exec: Exec,
    pub(super) host: String,
    pub(super) agent: Side<Agent, SpoolOp, AgentEffect, Spool>,
    pub(super) leader: Side<Leader, Op, LeaderEffect, Jobs>,
    pub(super) link: Link,
    /// Not before this time another link within this host.
    couple_at: Option<Instant>,
    pub(super) conns: BTreeMap<u64, Conn>,
    pub(super) local: VecDeque<Local>,
    pub(super) answers: BTreeMap<AskId, Waiting>,
    pub(super) asks: BTreeMap<AskId, mpsc::Sender<JobReply>>,
    /// Grants of this host that no session uses yet.
    pub(super) grants: BTreeMap<Key, AskId>,
    /// Those that were asked for; and of them, those that are not wanted any more.
    pub(super) asked: Vec<Key>,
    pub(super) unwanted: Vec<Key>,
    pub(super) here: Here,
    pub(super) files: Files,
    pub(super) runs: Runs,
    /// What was fetched for the effect that waits.
    pub(super) known: Lack,
    /// Outcomes that queue-exec is to forget.
    pub(super) forget: Vec<Key>,
    views: BTreeMap<String, HostView>,
    inputs: Vec<AgentInput>,
    /// The agent was started, and the leader is to be here.
    begun: bool,
    leads: bool,
    /// What came while the store that it needs was being opened, and until when it waits for that.
    early: VecDeque<(Instant, Input)>,
    /// Who waits for the stores to be open.
    ready: Vec<oneshot::Sender<()>>,
}

/// The time.
pub(super) fn now() -> Clock {
    let boot = clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map_or(0, |t| t.tv_sec() as u64 * 1000 + t.tv_nsec() as u64 / 1_000_000);
    Clock {
        boot,
        wall: clock_ms(),
    }
}

/// What was odd about a store.
fn warn(warnings: &[String]) {
    for w in warnings {
        tracing::warn!("{w}");
    }
}

/// Takes one of these out, if it is there.
fn take(keys: &mut Vec<Key>, key: Key) -> bool {
    let at = keys.iter().position(|k| *k == key);
    at.map(|i| keys.swap_remove(i)).is_some()
}

impl Task {
    pub(super) fn new(batch: Batch, driver: Driver, exec: Exec) -> Self {
        let host = driver.context().identity.own.name.clone();
        Self {
            batch,
            driver,
            exec,
            host,
            agent: Side::new(),
            leader: Side::new(),
            link: Link::None,
            couple_at: None,
            conns: BTreeMap::new(),
            local: VecDeque::new(),
            answers: BTreeMap::new(),
            asks: BTreeMap::new(),
            grants: BTreeMap::new(),
            asked: Vec::new(),
            unwanted: Vec::new(),
            here: Here::default(),
            files: Files::default(),
            runs: Runs::default(),
            known: Lack::default(),
            forget: Vec::new(),
            views: BTreeMap::new(),
            inputs: Vec::new(),
            begun: false,
            leads: false,
            early: VecDeque::new(),
            ready: Vec::new(),
        }
    }

    pub(super) async fn run(mut self, mut inputs: mpsc::UnboundedReceiver<Input>) {
        self.reload();
        let mut some = Vec::with_capacity(AT_ONCE);
        loop {
            self.retry();
            let pause = self.pause();
            tokio::select! {
                biased;
                n = inputs.recv_many(&mut some, AT_ONCE) => if n == 0 {
                    return;
                },
                () = sleep(pause) => {}
            }
            let mut last = None;
            for input in some.drain(..) {
                match input {
                    Input::Stop(tx) => last = Some(tx),
                    input => self.input(input, false).await,
                }
            }
            self.early().await;
            self.tick();
            self.settle().await;
            if let Some(tx) = last {
                self.close().await;
                let _ = tx.send(());
                return;
            }
        }
    }

    /// Writes what was said and closes the stores.
    async fn close(self) {
        let (spool, jobs) = (self.agent.desk, self.leader.desk);
        let both = move || {
            if let Some(spool) = spool {
                let _ = spool.stop();
            }
            if let Some(jobs) = jobs {
                jobs.stop();
            }
        };
        let _ = tokio::task::spawn_blocking(both).await;
    }

    /// How long nothing is to be done, if nothing happens.
    fn pause(&self) -> Duration {
        let now = now().boot;
        let wakes = [
            self.agent.engine.as_ref().and_then(Agent::wake),
            self.leader.engine.as_ref().and_then(Leader::wake),
        ];
        let engine = wakes.into_iter().flatten().min();
        let ms = engine.map_or(SLEEP_MS, |at| at.saturating_sub(now).clamp(1, SLEEP_MS));
        let early = self.early.front().map(|(until, _)| *until);
        let retries = [self.agent.retry, self.leader.retry, self.couple_at, early];
        let retry = retries.into_iter().flatten().min();
        let left = retry.map(|at| at.saturating_duration_since(Instant::now()));
        left.map_or(Duration::from_millis(ms), |l| l.min(Duration::from_millis(ms)))
    }

    fn tick(&mut self) {
        let clock = now();
        let due = |at: Option<u64>| at.is_some_and(|at| at <= clock.boot);
        if due(self.agent.engine.as_ref().and_then(Agent::wake)) {
            self.tell_agent(AgentInput::Tick);
        }
        if due(self.leader.engine.as_ref().and_then(Leader::wake)) {
            self.tell_leader(LeaderInput::Tick);
        }
    }

    pub(super) fn tell_agent(&mut self, input: AgentInput) {
        let Some(engine) = &mut self.agent.engine else {
            return;
        };
        let mut out = Vec::new();
        engine.handle(now(), input, &mut out);
        for e in out {
            match e {
                AgentEffect::Spool(op) => self.agent.gate.op(op),
                e => self.agent.gate.effect(e),
            }
        }
    }

    pub(super) fn tell_leader(&mut self, input: LeaderInput) {
        let Some(engine) = &mut self.leader.engine else {
            return;
        };
        let mut out = Vec::new();
        engine.handle(now(), input, &mut out);
        self.leader_said(out);
    }

    fn leader_said(&mut self, out: Vec<LeaderEffect>) {
        for e in out {
            match e {
                LeaderEffect::Store(op) => {
                    match &op {
                        Op::Job { submit, .. } => self.runs.submitted(submit),
                        Op::Over { job, .. } | Op::Delete(job) => self.runs.remove(*job),
                        _ => {}
                    }
                    self.leader.gate.op(op);
                }
                e => self.leader.gate.effect(e),
            }
        }
    }

    /// Does what may be done, and hands the rest to the writers.
    async fn settle(&mut self) {
        loop {
            self.couple();
            let mut idle = true;
            while let Some(e) = self.agent.gate.next() {
                idle = false;
                self.agent_effect(e).await;
            }
            while let Some(e) = self.leader.gate.next() {
                idle = false;
                self.leader_effect(e);
            }
            while let Some(m) = self.local.pop_front() {
                idle = false;
                self.local(m);
            }
            if idle {
                break;
            }
        }
        self.agent.flush();
        self.leader.flush();
        self.flush_forget();
        let agent = self.agent.engine.is_some() || self.agent.retry.is_some();
        let leader = !self.leads || self.leader.engine.is_some() || self.leader.retry.is_some();
        if agent && leader {
            for tx in self.ready.drain(..) {
                let _ = tx.send(());
            }
        }
    }

    fn local(&mut self, m: Local) {
        match (m, &self.link) {
            (Local::ToLeader(to, message), Link::Local { conn, .. }) if to == *conn => {
                let host = self.host.clone();
                self.tell_leader(LeaderInput::Heard {
                    host,
                    conn: to,
                    message,
                });
            }
            (Local::ToAgent(to, message), Link::Local { link, .. }) if to == *link => {
                self.heard(to, message);
            }
            // Of a link that is no more.
            _ => {}
        }
    }

    /// The leader said something to this host.
    fn heard(&mut self, link: u64, message: down::Kind) {
        if let down::Kind::JobOver(job) = &message {
            self.files.remove(*job);
        }
        self.tell_agent(AgentInput::Heard(link, message));
    }

    /// Takes what happened; `late`: it has waited long enough for a store.
    async fn input(&mut self, input: Input, late: bool) {
        match input {
            Input::Submit(submit, permit, tx) => {
                if self.agent.is_opening() && !late {
                    self.wait_for_store(Input::Submit(submit, permit, tx));
                    return;
                }
                if self.agent.engine.is_none() {
                    let text = format!("{} takes no jobs: {}", self.host, self.agent.why);
                    let _ = tx.send(Err(not_ready(text)));
                    return;
                }
                let ask = self.batch.number();
                self.answers.insert(ask, Waiting { tx, _permit: permit });
                self.tell_agent(AgentInput::Submit { ask, submit });
            }
            Input::Ask { ask, who, query, tx } => {
                if self.leads && self.leader.is_opening() && !late {
                    self.wait_for_store(Input::Ask { ask, who, query, tx });
                    return;
                }
                if self.leader.engine.is_none() {
                    let text = format!("the leader on {} is not ready: {}", self.host, self.leader.why);
                    let _ = tx.try_send(JobReply {
                        kind: Some(job_reply::Kind::Error(not_ready(text))),
                    });
                    return;
                }
                self.asks.insert(ask, tx);
                let query = *query;
                self.tell_leader(LeaderInput::Ask { ask, who, query });
            }
            Input::Gone(ask) => {
                if self.asks.remove(&ask).is_some() {
                    self.tell_leader(LeaderInput::Gone(ask));
                } else {
                    let his = |i: &Input| matches!(i, Input::Ask { ask: a, .. } if *a == ask);
                    self.early.retain(|(_, i)| !his(i));
                }
            }
            Input::Linked(link, outbox) => {
                self.uncouple();
                self.link = Link::Remote { link, outbox };
                self.tell_agent(AgentInput::Linked(link));
            }
            Input::Unlinked(gone) => {
                if matches!(&self.link, Link::Remote { link, .. } if *link == gone) {
                    self.link = Link::None;
                    self.tell_agent(AgentInput::Unlinked(gone));
                }
            }
            Input::Said(link, kind, permit) => {
                self.heard(link, *kind);
                drop(permit);
            }
            Input::Arrived { conn, host, outbox } => {
                if self.leader.engine.is_none() {
                    outbox.close();
                    return;
                }
                self.conns.insert(conn, Conn { host, outbox });
            }
            Input::Left(conn) => {
                if let Some(c) = self.conns.remove(&conn) {
                    self.tell_leader(LeaderInput::Unlinked { host: c.host, conn });
                }
            }
            Input::Heard(conn, message, permit) => {
                if let Some(c) = self.conns.get(&conn) {
                    let host = c.host.clone();
                    self.tell_leader(LeaderInput::Heard {
                        host,
                        conn,
                        message: *message,
                    });
                }
                drop(permit);
            }
            Input::Exec(event) => self.exec_said(event).await,
            Input::Granted(key, ask, reply) => self.granted(key, ask, reply).await,
            Input::Hosts(hosts) => self.hosts(hosts),
            Input::Mailed(m) => self.tell_agent(AgentInput::Mailed(m)),
            Input::Store(word) => self.store_said(word),
            Input::Reload => self.reload(),
            Input::Ready(tx) => self.ready.push(tx),
            // Taken out before.
            Input::Stop(_) => {}
        }
    }

    fn wait_for_store(&mut self, input: Input) {
        self.early.push_back((Instant::now() + EARLY, input));
    }

    /// Takes again what waited for a store, as soon as one of them is open, or failed, or has taken too long.
    async fn early(&mut self) {
        let now = Instant::now();
        for (until, input) in std::mem::take(&mut self.early) {
            let opening = match &input {
                Input::Submit(..) => self.agent.is_opening(),
                _ => self.leads && self.leader.is_opening(),
            };
            if opening && now < until {
                self.early.push_back((until, input));
            } else {
                self.input(input, true).await;
            }
        }
    }

    async fn exec_said(&mut self, event: Event) {
        match &event {
            // It uses its grant: the driver knows by the session's note.
            Event::Started(key, ..) => drop(self.grants.remove(key)),
            // One that is over at once is never said to have started: then its grant was not used by a session.
            Event::NotRun(key, ..) | Event::Ended(key, ..) => {
                if let Some(ask) = self.grants.remove(key) {
                    self.ungrant(ask).await;
                }
            }
            _ => {}
        }
        let mut inputs = std::mem::take(&mut self.inputs);
        self.here.take(event, &mut inputs);
        for i in inputs.drain(..) {
            self.tell_agent(i);
        }
        self.inputs = inputs;
    }

    async fn granted(&mut self, key: Key, ask: AskId, said: reply::Kind) {
        let unwanted = take(&mut self.unwanted, key);
        take(&mut self.asked, key);
        match said {
            reply::Kind::Error(e) => {
                if !unwanted {
                    self.tell_agent(AgentInput::NotGranted(key, e.code(), e.text));
                }
            }
            _ if unwanted || self.agent.engine.is_none() => self.ungrant(ask).await,
            _ => {
                self.grants.insert(key, ask);
                self.tell_agent(AgentInput::Granted(key));
            }
        }
    }

    pub(super) async fn ungrant(&self, ask: AskId) {
        self.driver
            .send(DriverEvent::Input(EngineInput::Ungrant { ask }))
            .await;
    }

    /// Tells the leader what has changed.
    fn hosts(&mut self, hosts: wire::Hosts) {
        let mut new: BTreeMap<String, HostView> = BTreeMap::new();
        for h in hosts.hosts {
            let view = HostView {
                dead: matches!(h.state(), HostState::Down | HostState::Left),
                name: h.name,
                facts: h.facts,
                load: h.load,
            };
            new.insert(view.name.clone(), view);
        }
        let gone: Vec<String> = self
            .views
            .keys()
            .filter(|n| !new.contains_key(*n))
            .cloned()
            .collect();
        let changed: Vec<HostView> = new
            .values()
            .filter(|v| self.views.get(&v.name) != Some(*v))
            .cloned()
            .collect();
        self.views = new;
        if !changed.is_empty() {
            self.tell_leader(LeaderInput::Hosts(changed));
        }
        if !gone.is_empty() {
            self.tell_leader(LeaderInput::HostsGone(gone.clone()));
            // A host that was removed is cut off at once.
            for c in self.conns.values().filter(|c| gone.contains(&c.host)) {
                c.outbox.close();
            }
        }
    }

    /// Links the two engines of this host, if both are there and this host leads.
    fn couple(&mut self) {
        if self.agent.engine.is_none()
            || self.leader.engine.is_none()
            || !matches!(self.link, Link::None)
            || self.couple_at.is_some_and(|at| Instant::now() < at)
        {
            return;
        }
        self.couple_at = None;
        let (link, conn) = (self.batch.number(), self.batch.number());
        self.link = Link::Local { link, conn };
        self.tell_agent(AgentInput::Linked(link));
    }

    /// Ends the link within this host; a new one follows soon.
    pub(super) fn uncouple(&mut self) {
        let Link::Local { link, conn } = self.link else {
            return;
        };
        self.link = Link::None;
        self.couple_at = Some(Instant::now() + Duration::from_millis(50));
        let host = self.host.clone();
        self.tell_leader(LeaderInput::Unlinked { host, conn });
        self.tell_agent(AgentInput::Unlinked(link));
    }

    fn store_said(&mut self, word: Word) {
        match word {
            Word::Spool(generation, opened) if generation == self.agent.generation => match opened {
                Ok(opened) => {
                    let (desk, spooled) = *opened;
                    self.agent.desk = Some(desk);
                    self.agent.since = Instant::now();
                    self.agent.engine = Some(Agent::new(now(), &self.host, spooled));
                    self.agent_begins();
                }
                Err(e) => self.agent_failed("cannot be opened", &e),
            },
            Word::Jobs(generation, opened) if generation == self.leader.generation => match opened {
                Ok(opened) => {
                    let (desk, loaded) = *opened;
                    self.leader.desk = Some(desk);
                    self.leader.since = Instant::now();
                    let seed = u64::from_ne_bytes(random());
                    let mut out = Vec::new();
                    let leader = Leader::new(now(), &self.host, loaded, seed, &mut out);
                    self.leader.engine = Some(leader);
                    self.leader_said(out);
                    self.leader_begins();
                }
                Err(e) => self.leader_failed("cannot be opened", &e),
            },
            Word::Committed(Which::Spool(g), number) if g == self.agent.generation => {
                self.agent.gate.committed(number);
            }
            Word::Committed(Which::Jobs(g), number) if g == self.leader.generation => {
                self.leader.gate.committed(number);
            }
            Word::Failed(Which::Spool(g), e) if g == self.agent.generation => {
                self.agent_failed("failed", &e);
            }
            Word::Failed(Which::Jobs(g), e) if g == self.leader.generation => {
                self.leader_failed("failed", &e);
            }
            Word::Fetched(g, fetched) if g == self.leader.generation => {
                for run in fetched.runs {
                    self.runs.put_run(run);
                }
                for (job, entries) in fetched.entries {
                    self.runs.put_entries(job, entries);
                }
                self.known = fetched.asked;
                self.leader.gate.resume();
            }
            // Of an engine that is no more.
            _ => {}
        }
    }

    fn agent_begins(&mut self) {
        for i in self.here.again() {
            self.tell_agent(i);
        }
        self.mailer();
        if let Link::Remote { link, .. } = self.link {
            self.tell_agent(AgentInput::Linked(link));
        }
    }

    fn leader_begins(&mut self) {
        self.tell_classes();
        let views: Vec<HostView> = self.views.values().cloned().collect();
        if !views.is_empty() {
            self.tell_leader(LeaderInput::Hosts(views));
        }
        tracing::info!("{} leads the cluster's batch jobs", self.host);
    }

    fn agent_failed(&mut self, what: &str, e: &StoreError) {
        let pause = self.agent.failed(format!("its store of submissions {what}: {e}"));
        tracing::error!(
            "the store of submissions {what}: {e}; batch jobs cannot be submitted or run here until it works, next \
             try in {} s",
            pause.as_secs()
        );
        let ask = |w: Waiting| {
            let text = format!(
                "{}: the store of submissions {what}: {e}; whether the job was taken is not known: look with `queue jobs`",
                self.host
            );
            let _ = w.tx.send(Err(not_ready(text)));
        };
        std::mem::take(&mut self.answers).into_values().for_each(ask);
        match &self.link {
            Link::Remote { outbox, .. } => {
                outbox.close();
                self.link = Link::None;
            }
            _ => self.uncouple(),
        }
        self.unwanted.clone_from(&self.asked);
        // What was granted and not started runs out by itself.
        self.grants.clear();
    }

    fn leader_failed(&mut self, what: &str, e: &StoreError) {
        let pause = self.leader.failed(format!("its store of jobs {what}: {e}"));
        tracing::error!(
            "the store of jobs {what}: {e}; no batch job is started or accepted until it works, next try in {} s",
            pause.as_secs()
        );
        self.leader_gone(&format!("the store of jobs {what}: {e}"));
    }

    /// The leader's engine is gone: nobody is linked with it, and nobody gets an answer.
    fn leader_gone(&mut self, why: &str) {
        for (_, c) in std::mem::take(&mut self.conns) {
            c.outbox.close();
        }
        self.uncouple();
        self.known = Lack::default();
        self.runs = Runs::default();
        for (_, tx) in std::mem::take(&mut self.asks) {
            let text = format!("the leader on {} is not ready: {why}", self.host);
            let _ = tx.try_send(JobReply {
                kind: Some(job_reply::Kind::Error(not_ready(text))),
            });
        }
    }

    /// Opens the stores whose time has come.
    fn retry(&mut self) {
        let due = |at: Option<Instant>| at.is_some_and(|at| Instant::now() >= at);
        if due(self.agent.retry) {
            self.agent.retry = None;
            let path = self.state("spool.db");
            let open = move || SqliteSpool::open(&path).inspect(|s| warn(s.warnings()));
            let (generation, before) = (self.agent.generation, self.agent.before.take());
            let started = desk::open_spool(generation, open, before, self.batch.tx.clone());
            if let Err(e) = started {
                self.agent_failed("cannot be opened", &StoreError::Io(e.to_string()));
            }
        }
        if due(self.leader.retry) {
            self.leader.retry = None;
            let path = self.state("jobs.db");
            let open = move || {
                let store = SqliteStore::open(&path)?;
                warn(store.warnings());
                let reader = Reader::open(store.path())?;
                Ok((store, reader))
            };
            let (generation, before) = (self.leader.generation, self.leader.before.take());
            let started = desk::open_jobs(generation, open, before, self.batch.tx.clone());
            if let Err(e) = started {
                self.leader_failed("cannot be opened", &StoreError::Io(e.to_string()));
            }
        }
    }

    fn state(&self, name: &str) -> PathBuf {
        self.driver.context().layout.queued_state().join(name)
    }

    fn tell_classes(&mut self) {
        if self.leader.engine.is_none() {
            return;
        }
        let (classes, faults) = classes::load(&self.driver.context().config_file);
        for f in faults {
            tracing::error!("a class of jobs does not count: {f}");
        }
        self.tell_leader(LeaderInput::Classes(classes));
    }

    /// Configuration and identity may be others.
    fn reload(&mut self) {
        let context = self.driver.context();
        let identity = &context.identity;
        let renamed = identity.own.name != self.host;
        let leads = identity.cluster.authority;
        if renamed || !self.begun {
            self.begun = true;
            self.uncouple();
            self.host.clone_from(&identity.own.name);
            self.agent.drop_engine();
            self.agent.retry = Some(Instant::now());
        }
        if self.leads != leads || renamed {
            self.leads = leads;
            self.leader.drop_engine();
            self.leader.retry = leads.then(Instant::now);
            if !leads {
                "this host does not lead the cluster".clone_into(&mut self.leader.why);
            }
            self.leader_gone("another host leads now, or this one has another name");
        } else {
            self.tell_classes();
        }
        self.mailer();
    }
}
