//! What does not have a column of its own, as bytes: the part of a job's row that no search needs, and entries.

use super::JobRow;
use libqueue::wire::job::{Cause, Outcome, Plan, State};
use prost::Message;

/// The part of a [`JobRow`] that is kept as bytes.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Rest {
    /// The plan.
    #[prost(message, optional, tag = "1")]
    plan: Option<Plan>,
    /// Tasks have entries.
    #[prost(bool, tag = "2")]
    entries: bool,
    /// Who holds it.
    #[prost(string, tag = "3")]
    held: String,
    /// Jobs that it waits for.
    #[prost(uint64, repeated, tag = "4")]
    after: Vec<u64>,
    /// How each of them must have ended.
    #[prost(int32, repeated, tag = "5")]
    how: Vec<i32>,
    /// Hosts that see the directory of the submission.
    #[prost(string, repeated, tag = "6")]
    home_hosts: Vec<String>,
    /// Identity for `--dedupe`.
    #[prost(bytes = "vec", tag = "7")]
    identity: Vec<u8>,
}

impl Rest {
    /// Of a row.
    pub(super) fn of(row: &JobRow) -> Vec<u8> {
        Self {
            plan: Some(row.plan.clone()),
            entries: row.entries,
            held: row.held.clone(),
            after: row.after.iter().map(|a| a.0).collect(),
            how: row.after.iter().map(|a| a.1).collect(),
            home_hosts: row.home_hosts.clone(),
            identity: row.identity.clone(),
        }
        .encode_to_vec()
    }

    /// Fills in a row that has its columns.
    pub(super) fn fill(self, row: &mut JobRow) {
        row.plan = self.plan.unwrap_or_default();
        row.entries = self.entries;
        row.held = self.held;
        row.after = self.after.into_iter().zip(self.how).collect();
        row.home_hosts = self.home_hosts;
        row.identity = self.identity;
    }
}

/// Entries of an array, as they are kept: one after the other, with their lengths.
#[derive(Clone, PartialEq, Message)]
pub(super) struct EntriesBytes {
    /// Task by task.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(super) all: Vec<Vec<u8>>,
}

/// Flags of an outcome in one column.
pub(super) fn flags(o: &Outcome) -> i64 {
    i64::from(o.core) | i64::from(o.spooled) << 1 | i64::from(o.cut) << 2
}

/// Takes them apart.
pub(super) fn set_flags(o: &mut Outcome, flags: i64) {
    o.core = flags & 1 != 0;
    o.spooled = flags & 2 != 0;
    o.cut = flags & 4 != 0;
}

/// Numbers with their names.
type Names = Vec<(i32, &'static str)>;

/// States and causes by number and name, as the views of the database show them.
pub(super) fn names() -> (Names, Names) {
    let states = (0..)
        .map_while(|n| State::try_from(n).ok())
        .map(|s| (s as i32, libqueue::job::state_name(s)));
    let causes = (0..)
        .map_while(|n| Cause::try_from(n).ok())
        .map(|c| (c as i32, libqueue::job::cause_name(c)));
    (states.collect(), causes.collect())
}
