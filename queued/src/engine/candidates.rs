//! Which hosts may be taken for a request, how good each of them looks from here, and why the others not. Part of
//! the engine; takes none.

use super::fit::{Claim, Known, No, Terms, fit, there};
use super::place::{View, score};
use super::types::Now;
use super::want::{Target, Wanted};
use super::{Engine, wire};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wire::{ErrorCode, HostState};

/// What is known of a full host is asked again when it is older than this.
pub(super) const STALE: Duration = Duration::from_millis(100);

/// How good a host is for a request: of two kinds, the lesser one is taken first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tier {
    /// As good as it says.
    Good,
    /// It was not heard when it should have been.
    Doubtful,
    /// It was full when it was heard last.
    Full,
}

/// A host that may be taken.
#[derive(Debug, Clone)]
pub(super) struct Candidate<'a> {
    pub(super) host: &'a str,
    pub(super) tier: Tier,
    /// What was wrong with it when it was heard last.
    pub(super) doubt: Option<No>,
    pub(super) score: f64,
}

/// What others are about to take, for those who wait.
#[derive(Debug, Default, Clone)]
pub(super) struct Taken {
    /// By host.
    pub(super) claims: BTreeMap<String, Claim>,
    /// Hosts that are kept for somebody who came first.
    pub(super) held: BTreeSet<String>,
}

impl Engine {
    /// How a host stands to a request.
    pub(super) fn judge_host<'a>(
        &self,
        now: Now,
        h: &Known<'a>,
        w: &Wanted,
        taken: Option<&Taken>,
    ) -> Result<Candidate<'a>, No> {
        let named = matches!(&w.target, Target::Only(n) if n == h.name);
        there(h, named && !h.own)?;
        let heard = h.load.map(|(at, _)| at);
        // What we sent to ourselves counts for those who wait until it is there; others may be shown already.
        let shown = heard.filter(|_| !h.own || taken.is_none());
        let claims = h.seen.map(|s| s.claims(now, shown, taken.is_some()));
        let mut before = claims.unwrap_or_default();
        if let Some(t) = taken {
            before = before.and(t.claims.get(h.name).copied().unwrap_or_default());
            if t.held.contains(h.name) {
                return Err(No::new(ErrorCode::Full, "is kept for a request that came first"));
            }
        }
        let terms = Terms {
            named,
            from_here: h.own,
            before,
        };
        let silent = h
            .seen
            .and_then(|s| s.missed)
            .is_some_and(|m| heard.is_none_or(|h| h <= m));
        let mut doubt = None;
        let tier = match fit(h, &w.need, w.expr.as_ref(), terms) {
            Ok(()) if silent || matches!(h.state, HostState::Suspect | HostState::Unknown) => Tier::Doubtful,
            Ok(()) => Tier::Good,
            // It may have changed since; its word decides. Who waits is told when it did.
            Err(no) if no.is_full() && taken.is_none() && !h.own && h.age(now) > STALE => {
                doubt = Some(no);
                Tier::Full
            }
            // Why it is drained it says itself.
            Err(no) if no.code == ErrorCode::Draining && named && taken.is_none() && !h.own => {
                doubt = Some(no);
                Tier::Full
            }
            Err(no) => return Err(no),
        };
        Ok(Candidate {
            host: h.name,
            tier,
            doubt,
            score: score(&self.view(now, h), w.need.cores).value,
        })
    }

    /// What the score of a host is made from.
    pub(super) fn view(&self, now: Now, h: &Known<'_>) -> View {
        let heard = h.load.map(|(at, _)| at);
        let (flights, flight_cores) = h.seen.map(|s| s.flights(now, heard)).unwrap_or_default();
        View {
            load: h.now(),
            power: h.power(),
            flights,
            flight_cores,
        }
    }

    /// All hosts that may be taken, and why the others not.
    pub(super) fn candidates<'a>(
        &'a self,
        now: Now,
        w: &Wanted,
        taken: Option<&Taken>,
    ) -> (Vec<Candidate<'a>>, Vec<(String, No)>) {
        let (mut good, mut no) = (Vec::new(), Vec::new());
        let judge = |h: Known<'a>| match self.judge_host(now, &h, w, taken) {
            Ok(c) => good.push(c),
            Err(n) => no.push((h.name.to_owned(), n)),
        };
        match &w.target {
            Target::Only(name) => self.known(now, name).into_iter().for_each(judge),
            Target::Any | Target::Prefer(_) => {
                let avoid = |h: &Known<'_>| w.avoid.iter().any(|a| a == h.name);
                self.all_known(now).filter(|h| !avoid(h)).for_each(judge);
            }
        }
        (good, no)
    }
}
