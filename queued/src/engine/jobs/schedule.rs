//! Which job goes to which host: queues of jobs by what they need, hosts by what is free. Knows needs, priorities
//! and hosts; not why a job is ready, nor what becomes of an attempt.

use super::types::HostView;
use libqueue::wire::Need;
use libqueue::wire::job::{Key, WhyHost};

/// What a job wants of a host: jobs that want the same are one queue.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Shape {
    /// Reserved while it runs.
    pub need: Need,
    /// Only this host.
    pub host: String,
    /// Rather this host.
    pub prefer: String,
}

/// A job with tasks that could start.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// The job.
    pub job: u64,
    /// What it wants.
    pub shape: Shape,
    /// Higher first.
    pub priority: i32,
    /// Lower first, among the same priority.
    pub order: u64,
    /// So many of its tasks could start.
    pub ready: u32,
}

/// A job and the host that should take one task of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pick {
    /// The job.
    pub job: u64,
    /// The host.
    pub host: String,
}

/// The queues and the hosts.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {}

impl Scheduler {
    /// Chance is only from here.
    pub(crate) fn new(_seed: u64) -> Self {
        Self::default()
    }

    /// A host is there, or changed. Hosts that are dead, or whose agent is not `linked`, get nothing.
    pub(crate) fn host(&mut self, _view: &HostView, _linked: bool) {}

    /// A host is no longer a member.
    pub(crate) fn host_gone(&mut self, _name: &str) {}

    /// Puts a job in, or changes it; with `ready` 0 it is taken out.
    pub(crate) fn put(&mut self, _entry: Entry) {}

    /// Takes a job out.
    pub(crate) fn take_out(&mut self, _job: u64) {}

    /// The first job, by priority and then order, that some host has room for (or may hold in advance), and the host.
    /// The caller either sends an attempt (`sent`) and puts the job again with what is left, or takes it out.
    pub(crate) fn pick(&mut self, _now: u64) -> Option<Pick> {
        None
    }

    /// An attempt was sent to a host.
    pub(crate) fn sent(&mut self, _now: u64, _host: &str, _key: Key, _need: &Need) {}

    /// It started there.
    pub(crate) fn started(&mut self, _now: u64, _key: Key) {}

    /// It is no longer there: ended, refused, taken back. `ran`: how long it ran, in milliseconds.
    pub(crate) fn gone(&mut self, _now: u64, _key: Key, _ran: Option<u64>) {}

    /// Attempts that wait on a full host while another one has room: to be revoked.
    pub(crate) fn misplaced(&mut self, _now: u64) -> Vec<Key> {
        Vec::new()
    }

    /// When `pick` or `misplaced` may have more to say although nothing else happens.
    pub(crate) fn wake(&self) -> Option<u64> {
        None
    }

    /// What keeps a job of this shape from each host.
    pub(crate) fn why(&self, _shape: &Shape, _priority: i32) -> Vec<WhyHost> {
        Vec::new()
    }
}
