//! The leader: all jobs that have not ended, their attempts, and who may run what. Pure.
//!
//! Each kind of input has its module: `submit` takes jobs, `hosts` keeps connections and compares what hosts have
//! with what is written, `dispatch` sends attempts, `results` takes outcomes, `retry` decides what follows from one,
//! `lost` what becomes of attempts on lost hosts, `after` tells dependants, `limits` parks jobs that wait for a unit,
//! `act` does what people want, `home` has output brought home. `table` is what is in memory.
//!
//! Two rules hold everywhere. What is written down is told only after the commit: effects are in order, and
//! `Store` comes first. And what counts (units of limits, tasks at once) follows from the attempts that have not
//! ended: `check` counts it anew.

use super::post::Post;
use super::schedule::Scheduler;
use super::select::glob;
use super::types::{Clock, LeaderEffect, LeaderInput};
use super::view::Watchers;
use crate::engine::rng::Rng;
use crate::engine::types::Level;
use crate::store::{Loaded, Op};
use dispatch::Batch;
use home::Home;
use libqueue::wire::job::{Class, Key, State, query, up};
use limits::Limits;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
pub(super) use table::Change;
use table::{Children, HostState, Job, Live, Over, Stage};

mod act;
mod after;
#[cfg(test)]
mod check;
mod dispatch;
mod finish;
mod home;
mod hosts;
mod limits;
mod lost;
mod reload;
mod results;
mod retry;
mod submit;
pub(super) mod table;
#[cfg(test)]
mod tests;

/// Identities of jobs that ended are known for a day, in milliseconds.
const DAY: u64 = 86_400_000;

/// Something that is due at a time of `CLOCK_BOOTTIME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A task, by its index, may be tried again.
    Back(u64, u32),
    /// A host has been away for so long.
    Away(String),
    /// The lease of an attempt has run out, with the margin.
    Lease(Key),
    /// A delivery is to be tried.
    Delivery(u64),
    /// Old things in memory are dropped.
    Prune,
}

/// The leader.
#[derive(Debug)]
pub(crate) struct Leader {
    /// Name of its own host.
    pub(super) host: String,
    /// Rises with each start.
    pub(super) epoch: u64,
    /// First number that was never given away.
    pub(super) next_id: u64,
    /// The time of the input that is being handled, or the last one.
    pub(super) clock: Clock,
    /// Since when it leads, in milliseconds since the epoch.
    pub(super) since_ms: u64,
    /// Jobs that are not over.
    pub(super) jobs: BTreeMap<u64, Job>,
    /// Jobs that are over and still in memory: people look at them, or run them again.
    pub(super) ended: BTreeMap<u64, Job>,
    /// The same in the order in which they ended: well, and not well.
    pub(super) ended_order: [VecDeque<u64>; 2],
    /// How much they are, so that memory does not grow for ever.
    ended_weight: [u64; 2],
    /// States of all jobs that are over.
    pub(super) over: Over,
    /// Attempts that have not ended.
    pub(super) live: BTreeMap<Key, Live>,
    /// Hosts.
    pub(super) hosts: BTreeMap<String, HostState>,
    /// Connections that said hello, and whose they are.
    pub(super) conns: BTreeMap<u64, String>,
    /// What is configured, by name.
    pub(super) classes: BTreeMap<String, Class>,
    /// Units of limits and classes.
    pub(super) limits: Limits,
    /// Jobs with an identity: the latest with it, and when it ended (0: not).
    pub(super) identities: BTreeMap<Vec<u8>, (u64, u64)>,
    /// By what they wait for: jobs that wait.
    pub(super) dependants: BTreeMap<u64, BTreeSet<u64>>,
    /// Jobs submitted by an attempt that waits for them.
    pub(super) children: BTreeMap<Key, Children>,
    /// How many jobs of an owner and group have not ended.
    pub(super) groups: BTreeMap<(String, String), u32>,
    /// What the next job gets as its order.
    pub(super) next_order: u64,
    /// Which job goes where.
    pub(super) sched: Scheduler,
    /// Letters.
    pub(super) post: Post,
    /// Output that is brought home.
    pub(super) home: Home,
    /// Those that wait and watch.
    pub(super) watchers: Watchers,
    /// What changed during this input.
    pub(super) changes: Vec<Change>,
    /// What is due.
    timers: BTreeSet<(u64, Timer)>,
    /// Jobs that start at a time of the day, in milliseconds since the epoch.
    at: BTreeSet<(u64, u64)>,
    /// Jobs whose place in the queues has to be looked at.
    dirty: BTreeSet<u64>,
    /// Jobs that ended during this input, for those that wait for them.
    news: VecDeque<(u64, State)>,
    /// Attempts that go out with this input, by host.
    batch: BTreeMap<String, Batch>,
    rng: Rng,
}

impl Leader {
    /// From what the store has. Effects: the new epoch, and what follows from it.
    pub(crate) fn new(
        clock: Clock,
        host: &str,
        loaded: Loaded,
        seed: u64,
        out: &mut Vec<LeaderEffect>,
    ) -> Self {
        let mut leader = Self {
            host: host.to_owned(),
            epoch: loaded.epoch + 1,
            next_id: loaded.next_id.max(1),
            clock,
            since_ms: clock.wall,
            jobs: BTreeMap::new(),
            ended: BTreeMap::new(),
            ended_order: Default::default(),
            ended_weight: [0; 2],
            over: Over::default(),
            live: BTreeMap::new(),
            hosts: BTreeMap::new(),
            conns: BTreeMap::new(),
            classes: BTreeMap::new(),
            limits: Limits::default(),
            identities: BTreeMap::new(),
            dependants: BTreeMap::new(),
            children: BTreeMap::new(),
            groups: BTreeMap::new(),
            next_order: 1,
            sched: Scheduler::new(seed),
            post: Post::new(Vec::new(), 0),
            home: Home::default(),
            watchers: Watchers::default(),
            changes: Vec::new(),
            timers: BTreeSet::new(),
            at: BTreeSet::new(),
            dirty: BTreeSet::new(),
            news: VecDeque::new(),
            batch: BTreeMap::new(),
            rng: Rng::new(seed),
        };
        out.push(LeaderEffect::Store(Op::Epoch(leader.epoch)));
        leader.reload(loaded, out);
        leader.settle(clock, out);
        leader
    }

    /// Something happened.
    pub(crate) fn handle(&mut self, clock: Clock, input: LeaderInput, out: &mut Vec<LeaderEffect>) {
        self.clock = clock;
        match input {
            LeaderInput::Tick => {}
            LeaderInput::Heard { host, conn, message } => self.heard(&host, conn, message, out),
            LeaderInput::Unlinked { host, conn } => self.unlinked(&host, conn),
            LeaderInput::Hosts(views) => self.host_views(views),
            LeaderInput::HostsGone(names) => self.hosts_gone(&names, out),
            LeaderInput::Classes(classes) => self.set_classes(classes),
            LeaderInput::Ask { ask, who, query } => match query {
                query::Kind::Act(act) => self.act(ask, &who, act, out),
                other => self.answer(clock, ask, &who, other, out),
            },
            LeaderInput::Gone(ask) => self.asker_gone(ask),
        }
        self.settle(clock, out);
    }

    /// What follows from an input: what is due, who goes where, who is told.
    fn settle(&mut self, clock: Clock, out: &mut Vec<LeaderEffect>) {
        self.due(out);
        self.tell_dependants(out);
        self.send_out(out);
        if self.post.wake().is_some_and(|at| at <= clock.boot) {
            self.post.tick(clock, out);
        }
        self.tell_waiters(clock, out);
        self.changes.clear();
    }

    /// When a `Tick` is due, in milliseconds of [`Clock::boot`].
    pub(crate) fn wake(&self) -> Option<u64> {
        // The wall clock may jump: who waits for a time of the day looks once a minute.
        let at = self.at.first().map(|(wall, _)| {
            let rest = wall.saturating_sub(self.clock.wall);
            self.clock.boot + rest.min(60_000)
        });
        let timer = self.timers.first().map(|(due, _)| *due);
        [timer, at, self.sched.wake(), self.post.wake(), self.view_wake()]
            .into_iter()
            .flatten()
            .min()
    }

    fn due(&mut self, out: &mut Vec<LeaderEffect>) {
        let now = self.clock.boot;
        while self.timers.first().is_some_and(|(due, _)| *due <= now) {
            let Some((due, timer)) = self.timers.pop_first() else {
                break;
            };
            match timer {
                Timer::Back(job, index) => self.back(job, index, due),
                Timer::Away(host) => self.away_too_long(&host, out),
                Timer::Lease(key) => self.lease_over(key, out),
                Timer::Delivery(number) => self.delivery_due(number, out),
                Timer::Prune => self.prune(),
            }
        }
        while self.at.first().is_some_and(|(wall, _)| *wall <= self.clock.wall) {
            if let Some((_, job)) = self.at.pop_first() {
                self.dirty.insert(job);
            }
        }
    }

    fn timer(&mut self, due: u64, timer: Timer) {
        self.timers.insert((due, timer));
    }

    fn heard(&mut self, host: &str, conn: u64, message: up::Kind, out: &mut Vec<LeaderEffect>) {
        if let up::Kind::Hello(hello) = message {
            return self.hello(host, conn, &hello, out);
        }
        // What an earlier connection still says counts for nothing: the hello of the next one says it again.
        if self.conns.get(&conn).is_none_or(|h| h != host) {
            return;
        }
        match message {
            up::Kind::Hello(_) => {}
            up::Kind::Submit(submit) => self.submit(host, conn, submit, out),
            up::Kind::WantBlock(_) => self.give_block(host, conn, out),
            up::Kind::Started(s) => {
                if let Some(key) = s.key {
                    self.started(host, conn, key, s.running, out);
                }
            }
            up::Kind::Ended(e) => {
                if let Some(key) = e.key {
                    self.attempt_ended(host, conn, key, e.outcome, out);
                }
            }
            up::Kind::Renew(renew) => self.renew(host, conn, renew, out),
            up::Kind::Stopped(s) => {
                if let Some(key) = s.key {
                    self.stopped(host, key, s.stopped);
                }
            }
            up::Kind::Delivered(d) => self.delivered(host, &d, out),
            up::Kind::Mailed(m) => self.post.mailed(self.clock, host, m, out),
            up::Kind::Mailer(able) => self.post.mailer(host, conn, able),
        }
    }

    /// The job, whether it is over or not.
    pub(super) fn job(&self, id: u64) -> Option<&Job> {
        self.jobs.get(&id).or_else(|| self.ended.get(&id))
    }
}

/// All attempts of a job.
fn keys_of(job: u64) -> RangeInclusive<Key> {
    let key = |n| Key {
        job,
        task: n,
        attempt: n,
    };
    key(0)..=key(u32::MAX)
}

fn log(out: &mut Vec<LeaderEffect>, level: Level, text: String) {
    out.push(LeaderEffect::Log(level, text));
}
