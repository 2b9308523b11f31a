//! Answers what people ask of the leader, and tells those that wait. Reads the leader's tables; changes nothing in
//! them but limits.

use super::leader::Leader;
use super::types::{Asker, Clock, LeaderEffect};
use crate::engine::types::AskId;
use libqueue::wire::job::query;

/// Those that wait for jobs, or watch them.
#[derive(Debug, Default)]
pub(crate) struct Watchers {}

impl Leader {
    /// Answers a question that only looks, or sets a limit.
    pub(super) fn answer(
        &mut self,
        _clock: Clock,
        _ask: AskId,
        _who: &Asker,
        _query: query::Kind,
        _out: &mut Vec<LeaderEffect>,
    ) {
    }

    /// After each input: `self.changes` has what is new.
    pub(super) fn tell_waiters(&mut self, _clock: Clock, _out: &mut Vec<LeaderEffect>) {}

    /// Who asked no longer listens.
    pub(super) fn asker_gone(&mut self, _ask: AskId) {}

    /// When `tell_waiters` has more to say although nothing happens.
    pub(super) fn view_wake(&self) -> Option<u64> {
        None
    }
}
