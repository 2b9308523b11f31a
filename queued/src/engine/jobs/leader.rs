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
use super::types::{Clock, LeaderEffect, LeaderInput};
use super::view::Watchers;
use crate::engine::rng::Rng;
use crate::engine::types::Level;
use crate::store::{Loaded, Op};
use dispatch::Batch;
use home::Home;
use libqueue::wire::job::{Class, Key, query, up};
use limits::Limits;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use table::{Change, HostState, Job, Live, Over};

mod dispatch;
mod home;
mod limits;
pub(super) mod table;

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
    pub(super) children: BTreeMap<Key, BTreeSet<u64>>,
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
        let leader = Self {
            host: host.to_owned(),
            epoch: loaded.epoch + 1,
            next_id: loaded.next_id.max(1),
            clock,
            since_ms: clock.wall,
            jobs: BTreeMap::new(),
            ended: BTreeMap::new(),
            ended_order: Default::default(),
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
            batch: BTreeMap::new(),
            rng: Rng::new(seed),
        };
        out.push(LeaderEffect::Store(Op::Epoch(leader.epoch)));
        leader
    }

    /// Something happened.
    pub(crate) fn handle(&mut self, clock: Clock, input: LeaderInput, out: &mut Vec<LeaderEffect>) {
        self.clock = clock;
        if let LeaderInput::Ask { ask, who, query } = input {
            self.answer(clock, ask, &who, query, out);
        }
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

    /// The job, whether it is over or not.
    pub(super) fn job(&self, id: u64) -> Option<&Job> {
        self.jobs.get(&id).or_else(|| self.ended.get(&id))
    }
}

