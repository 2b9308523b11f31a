//! The agent of a host: takes submissions, keeps them until the leader has them, and runs attempts. Pure.
//!
//! It knows this host's spool, its queue-exec and one connection with the leader; not why an attempt is sent here,
//! nor what becomes of its result. What queue-exec has survives this daemon; what only waits to be started here does
//! not need to: a host that comes back without it tells the leader so.

mod held;
mod lease;
mod link;
mod start;
mod submit;
#[cfg(test)]
mod tests;

use super::types::{AgentEffect, AgentInput, Clock, LinkId};
use crate::engine::types::Level;
use crate::store::Spooled;
use held::Held;
use libqueue::wire::job::{Key, up};
use link::{Errands, Link};
use start::Starting;
use std::collections::BTreeMap;
use submit::Submissions;

/// queue-exec, as far as it was heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Exec {
    /// It does not answer.
    #[default]
    Down,
    /// It is telling what runs here.
    Telling,
    /// All is known.
    Told,
}

/// The agent.
#[derive(Debug)]
pub(crate) struct Agent {
    host: String,
    submissions: Submissions,
    /// All attempts that are here, until the leader has their results.
    held: BTreeMap<Key, Held>,
    starting: Starting,
    link: Option<Link>,
    /// Highest number of a connection, and epoch of a leader.
    last_link: LinkId,
    epoch: u64,
    exec: Exec,
    /// Names the records of queue-exec; none yet: it was never there.
    life: Option<[u8; 16]>,
    /// Lengths of leases, told before the attempts that have them.
    lengths: BTreeMap<Key, u64>,
    /// Number of the last `Renew`.
    renewals: u64,
    mailer: bool,
    errands: Errands,
}

impl Agent {
    /// From what this host's spool has.
    pub(crate) fn new(_clock: Clock, host: &str, spooled: Spooled) -> Self {
        Self {
            host: host.to_owned(),
            submissions: Submissions::new(spooled),
            held: BTreeMap::new(),
            starting: Starting::default(),
            link: None,
            last_link: 0,
            epoch: 0,
            exec: Exec::Down,
            life: None,
            lengths: BTreeMap::new(),
            renewals: 0,
            mailer: false,
            errands: Errands::default(),
        }
    }

    /// Something happened.
    pub(crate) fn handle(&mut self, clock: Clock, input: AgentInput, out: &mut Vec<AgentEffect>) {
        match input {
            AgentInput::Tick => {
                self.submissions_due(clock, out);
                self.leases_due(clock, out);
            }
            AgentInput::Submit { ask, submit } => self.submit(clock, ask, submit, out),
            AgentInput::Linked(link) => self.linked(clock, link, out),
            AgentInput::Unlinked(link) => self.unlinked(link, out),
            AgentInput::Heard(link, message) => self.heard(clock, link, message, out),
            AgentInput::ExecUp(life) => self.exec_up(life),
            AgentInput::ExecDown => self.exec = Exec::Down,
            AgentInput::ExecTold => self.exec_told(clock, out),
            AgentInput::ExecLease(key, length) => {
                self.lengths.insert(key, length);
            }
            AgentInput::ExecStarted(key, running) => self.exec_started(key, running, out),
            AgentInput::ExecStopped(key, stopped) => self.exec_stopped(key, stopped, out),
            AgentInput::ExecEnded(key, outcome) => self.exec_ended(key, outcome, out),
            AgentInput::Granted(key) => self.granted(clock, key, out),
            AgentInput::NotGranted(key, code, text) => self.not_granted(clock, key, code, text, out),
            AgentInput::NotRun(key, text, elsewhere) => self.not_run(key, text, elsewhere, out),
            AgentInput::Delivered(delivered) => self.delivered(delivered, out),
            AgentInput::Mailed(mailed) => self.mailed(mailed, out),
            AgentInput::Mailer(mailer) => self.mailer_is(mailer, out),
        }
        self.start_some(clock, out);
    }

    /// When a `Tick` is due, in milliseconds of [`Clock::boot`].
    pub(crate) fn wake(&self) -> Option<u64> {
        let starting = self.starting.wake().filter(|_| self.exec == Exec::Told);
        [self.submissions.wake(), starting, self.renewal_due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The attempts that are here.
    #[cfg(test)]
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> {
        self.held.keys().copied()
    }

    /// Tells the leader, if there is a connection. What it must know will also be in the next hello.
    fn tell(&self, message: up::Kind, out: &mut Vec<AgentEffect>) {
        if let Some(link) = &self.link {
            out.push(AgentEffect::Send(link.id, message));
        }
    }

    fn log(&self, level: Level, text: impl Into<String>, out: &mut Vec<AgentEffect>) {
        out.push(AgentEffect::Log(level, text.into()));
    }
}
