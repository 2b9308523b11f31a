//! The leader: all jobs that have not ended, their attempts, and who may run what. Pure.

use super::types::{Clock, LeaderEffect, LeaderInput};
use crate::store::Loaded;

/// The leader.
#[derive(Debug)]
pub(crate) struct Leader {}

impl Leader {
    /// From what the store has. Effects: the new epoch, and what follows from it.
    pub(crate) fn new(
        _clock: Clock,
        _host: &str,
        _loaded: Loaded,
        _seed: u64,
        _out: &mut Vec<LeaderEffect>,
    ) -> Self {
        Self {}
    }

    /// Something happened.
    pub(crate) fn handle(&mut self, _clock: Clock, _input: LeaderInput, _out: &mut Vec<LeaderEffect>) {}

    /// When a `Tick` is due, in milliseconds of [`Clock::boot`].
    pub(crate) fn wake(&self) -> Option<u64> {
        None
    }
}
