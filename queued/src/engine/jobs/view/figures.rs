//! Figures, limits and classes.

use super::row::{counts, widen};
use super::{read, refuse, reply};
use crate::engine::jobs::leader::Leader;
use crate::engine::jobs::leader::table::Gate;
use crate::engine::jobs::types::{Asker, Clock, LeaderEffect, Read};
use crate::engine::types::AskId;
use crate::store::Op;
use libqueue::wire::ErrorCode;
use libqueue::wire::job::{Classes, Limit, Limits, LimitsAsk, Stats, StatsAsk, job_reply};
use std::collections::BTreeMap;

/// The window, if nothing is said: a day, in milliseconds.
const WINDOW: u64 = 86_400_000;
/// Longest name of a limit.
const NAME_MAX: usize = 64;

impl Leader {
    /// Figures: what is there now; the store adds what ended.
    pub(super) fn stats(
        &mut self,
        clock: Clock,
        ask: AskId,
        who: &Asker,
        stats: &StatsAsk,
        out: &mut Vec<LeaderEffect>,
    ) {
        let mut all = BTreeMap::new();
        for job in self.jobs.values() {
            for (state, n) in widen(job.tasks.states(job.blocked(clock.wall))) {
                *all.entry(state).or_default() += n;
            }
        }
        let known = Stats {
            counts: counts(&all),
            window_ms: match stats.window_ms {
                0 => WINDOW,
                n => n,
            },
            since_ms: self.since_ms,
            ..Stats::default()
        };
        read(ask, who, Read::Stats(known), out);
    }

    /// Limits; an operator may set one.
    pub(super) fn show_limits(
        &mut self,
        ask: AskId,
        who: &Asker,
        limits: LimitsAsk,
        out: &mut Vec<LeaderEffect>,
    ) {
        if !limits.set.is_empty() {
            if !who.operator {
                let text = "limits are set by operators (operators in queued.toml) only";
                return refuse(ask, ErrorCode::Denied, text, out);
            }
            let word = |c: char| c.is_alphanumeric() || "._-".contains(c);
            if limits.set.len() > NAME_MAX || !limits.set.chars().all(word) {
                let text = format!("a limit's name is letters, digits and ._- only, at most {NAME_MAX}");
                return refuse(ask, ErrorCode::BadRequest, text, out);
            }
            out.push(LeaderEffect::Store(Op::Limit(limits.set.clone(), limits.total)));
            self.set_total(&Gate::Limit(limits.set), limits.total);
        }
        let mut all: Vec<Limit> = Vec::new();
        for (gate, state) in &self.limits.gates {
            let Gate::Limit(name) = gate else { continue };
            all.push(Limit {
                name: name.clone(),
                total: state.total,
                used: state.used,
                waiting: 0,
            });
        }
        // Jobs and their tasks that wait for a unit.
        for job in self.jobs.values() {
            if let Some(Gate::Limit(name)) = self.full_gate(job)
                && let Ok(at) = all.binary_search_by(|l| l.name.as_str().cmp(&name))
                && !job.blocked(self.clock.wall)
            {
                all[at].waiting += u64::from(job.tasks.idle());
            }
        }
        reply(ask, job_reply::Kind::Limits(Limits { limits: all }), true, out);
    }

    /// Classes.
    pub(super) fn show_classes(&self, ask: AskId, out: &mut Vec<LeaderEffect>) {
        let classes = self.classes.values().cloned().collect();
        reply(ask, job_reply::Kind::Classes(Classes { classes }), true, out);
    }
}
