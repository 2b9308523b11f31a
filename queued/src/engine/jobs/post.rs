//! Which letters are written: one for what happened, or a digest of much. Knows owners, and what became of jobs;
//! not how mail is sent.

use super::types::{Clock, LeaderEffect};
use crate::store::JobRow;
use libqueue::wire::job::{Key, Letter, Mailed, Outcome, State};

/// What happened to a job or a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// An attempt has started.
    Begin,
    /// It is done, failed, killed or buried: `state` says which.
    Ended,
    /// Its host is lost.
    Lost,
    /// It was refused at submission: `job.reason` says why.
    Rejected,
}

/// Something that its owner may want to know.
#[derive(Debug, Clone)]
pub(crate) struct Event<'a> {
    /// What.
    pub kind: EventKind,
    /// The job.
    pub job: &'a JobRow,
    /// The attempt; attempt 0: none was made.
    pub key: Key,
    /// How it ended, with the ends of its output.
    pub outcome: Option<&'a Outcome>,
    /// What it is now.
    pub state: State,
    /// Where; may be empty.
    pub host: &'a str,
    /// Tasks by state now; of a job that is no array: one.
    pub counts: &'a [(State, u32)],
    /// Nothing of the job runs or will, unless somebody acts.
    pub last_of_job: bool,
    /// Nor of its group (of the same owner); the same as `last_of_job` without a group.
    pub last_of_group: bool,
}

/// The letters.
#[derive(Debug, Default)]
pub(crate) struct Post {}

impl Post {
    /// From letters that were not sent yet, and the highest number of one.
    pub(crate) fn new(_letters: Vec<Letter>, _last_number: u64) -> Self {
        Self::default()
    }

    /// Something happened.
    pub(crate) fn event(&mut self, _clock: Clock, _event: Event<'_>) {}

    /// The time named by `wake` has come, or something else happened: writes and sends what is due.
    pub(crate) fn tick(&mut self, _clock: Clock, _out: &mut Vec<LeaderEffect>) {}

    /// When `tick` is due, in milliseconds of [`Clock::boot`]; at once if something happened.
    pub(crate) fn wake(&self) -> Option<u64> {
        None
    }

    /// A host says what became of a letter.
    pub(crate) fn mailed(
        &mut self,
        _clock: Clock,
        _host: &str,
        _mailed: Mailed,
        _out: &mut Vec<LeaderEffect>,
    ) {
    }

    /// Whether a host can send mail; a connection that ended cannot.
    pub(crate) fn mailer(&mut self, _host: &str, _conn: u64, _able: bool) {}

    /// Letters that wait to be sent.
    pub(crate) fn waiting(&self) -> u64 {
        0
    }
}
