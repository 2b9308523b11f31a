//! Leases: an attempt that has one may run until a time that is counted from a moment at which the leader was
//! spoken to, and only moments count of which the leader said that it heard them. Knows times; the session itself
//! ends the tree at the deadline.

use super::Agent;
use super::held::{Held, Stage};
use crate::engine::jobs::types::{AgentEffect, Clock};
use libqueue::wire::job::{Key, Renew, Renewed, up};

/// An answer that did not come for so long is asked for again, if an attempt waits for it.
const PATIENCE: u64 = 1000;

impl Held {
    /// It may run now.
    pub(super) fn leased(&self, clock: Clock) -> bool {
        self.lease == 0 || self.deadline > clock.boot
    }

    /// It may run for a while.
    pub(super) fn leased_enough(&self, clock: Clock) -> bool {
        self.lease == 0 || self.deadline >= clock.boot + self.lease / 2
    }

    fn has_lease(&self) -> bool {
        self.lease > 0 && !matches!(self.stage, Stage::Ended { .. })
    }
}

impl Agent {
    /// The end of a lease that comes with a dispatch: counts from the last moment of which the leader, before it sent
    /// that, said that it heard us.
    pub(super) fn first_deadline(&self, lease: u64) -> u64 {
        let heard = self.link.as_ref().and_then(|l| l.acknowledged);
        heard.filter(|_| lease > 0).map_or(0, |at| at + lease)
    }

    /// When leases are to be extended: at a third of the shortest, and, not answered, after a sixth again.
    pub(super) fn renewal_due(&self) -> Option<u64> {
        let link = self.link.as_ref().filter(|l| l.welcomed)?;
        let running = self.held.values().filter(|h| h.in_exec() && h.has_lease());
        let due = |h: &Held| {
            let third = h.deadline.saturating_sub(h.lease - h.lease / 3);
            third.max(link.renewed.map_or(0, |at| at + (h.lease / 6).max(1)))
        };
        running.map(due).min()
    }

    pub(super) fn leases_due(&mut self, clock: Clock, out: &mut Vec<AgentEffect>) {
        if self.renewal_due().is_some_and(|t| t <= clock.boot) {
            self.renew(clock, out);
        }
    }

    /// An attempt cannot start for want of a lease that is long enough.
    pub(super) fn renew_to_start(&mut self, clock: Clock, out: &mut Vec<AgentEffect>) {
        let Some(link) = self.link.as_ref().filter(|l| l.welcomed) else {
            return;
        };
        let waits = !link.renewals.is_empty() && link.renewed.is_some_and(|at| clock.boot < at + PATIENCE);
        if !waits {
            self.renew(clock, out);
        }
        self.try_later(clock);
    }

    /// Asks for all leases to be extended.
    pub(super) fn renew(&mut self, clock: Clock, out: &mut Vec<AgentEffect>) {
        let Some(link) = self.link.as_mut().filter(|l| l.welcomed) else {
            return;
        };
        let leased = self.held.iter().filter(|(_, h)| h.has_lease());
        let keys: Vec<Key> = leased.map(|(k, _)| *k).collect();
        if keys.is_empty() {
            return;
        }
        self.renewals += 1;
        link.renewed = Some(clock.boot);
        link.renewals.push_back((self.renewals, clock.boot));
        let renew = Renew {
            number: self.renewals,
            keys,
        };
        out.push(AgentEffect::Send(link.id, up::Kind::Renew(renew)));
    }

    /// The leader extended some leases.
    pub(super) fn renewed(&mut self, clock: Clock, renewed: Renewed, out: &mut Vec<AgentEffect>) {
        let Some(link) = self.link.as_mut() else { return };
        let known = link.renewals.iter().find(|(n, _)| *n == renewed.number);
        let Some(sent) = known.map(|(_, at)| *at) else {
            return;
        };
        link.renewals.retain(|(n, _)| *n > renewed.number);
        link.acknowledged = Some(link.acknowledged.map_or(sent, |at| at.max(sent)));
        let mut started = false;
        for key in renewed.keys {
            let Some(held) = self.held.get_mut(&key).filter(|h| h.has_lease()) else {
                continue;
            };
            let deadline = sent + held.lease;
            // What has run out stays so: its session ends it, or has already.
            let over = held.in_exec() && held.deadline > 0 && held.deadline <= clock.boot;
            if over || deadline <= held.deadline {
                continue;
            }
            held.deadline = deadline;
            if held.in_exec() {
                out.push(AgentEffect::Lease(key, deadline));
            } else {
                started = true;
            }
        }
        if started {
            self.starting.look_again();
        }
    }
}
