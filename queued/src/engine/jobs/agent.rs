//! The agent of a host: takes submissions, keeps them until the leader has them, and runs attempts. Pure.

use super::types::{AgentEffect, AgentInput, Clock};
use crate::store::Spooled;

/// The agent.
#[derive(Debug)]
pub(crate) struct Agent {}

impl Agent {
    /// From what this host's spool has.
    pub(crate) fn new(_clock: Clock, _host: &str, _spooled: Spooled) -> Self {
        Self {}
    }

    /// Something happened.
    pub(crate) fn handle(&mut self, _clock: Clock, _input: AgentInput, _out: &mut Vec<AgentEffect>) {}

    /// When a `Tick` is due, in milliseconds of [`Clock::boot`].
    pub(crate) fn wake(&self) -> Option<u64> {
        None
    }
}
