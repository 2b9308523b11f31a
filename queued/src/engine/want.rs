//! What a local program asks for when it asks for a host, understood; and what nobody can ever do. Part of the
//! engine.

use super::explain::of_it;
use super::fit::{Claim, Known, never};
use super::types::Now;
use super::{Engine, wire};
use libqueue::expr::Expr;
use wire::{ErrorCode, Need};

/// Where it may run, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// Anywhere.
    Any,
    /// There only.
    Only(String),
    /// There, or else anywhere.
    Prefer(String),
}

/// What is asked for, understood.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) target: Target,
    /// Hosts that the asker just tried.
    pub(super) avoid: Vec<String>,
    pub(super) need: Need,
    pub(super) expr: Option<Expr>,
}

impl Wanted {
    /// Whether what holds for one holds for the other.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.target == other.target && self.need == other.need && self.avoid == other.avoid
    }
}

impl Engine {
    /// Makes sense of what is asked for.
    pub(super) fn understand(&self, place: wire::Place) -> Result<Wanted, wire::Error> {
        if self.expelled {
            let (n, c) = (&self.own.name, &self.cluster);
            let text =
                format!("this host, {n}, was removed from cluster {c}: join it again (queued join TOKEN)");
            return Err(error(ErrorCode::Denied, text));
        }
        let need = place.need.unwrap_or_default();
        let expr = match need.expr.trim() {
            "" => None,
            e => Some(Expr::parse(e).map_err(|e| error(ErrorCode::BadRequest, format!("-R: {e}")))?),
        };
        let target = if place.host.is_empty() || place.host == "+" {
            Target::Any
        } else {
            match (self.spelled(&place.host), place.prefer) {
                (Some(h), false) => Target::Only(h),
                (Some(h), true) if !place.avoid.contains(&h) => Target::Prefer(h),
                (_, true) => Target::Any,
                (None, false) => return Err(self.no_such_host(&place.host)),
            }
        };
        Ok(Wanted {
            target,
            avoid: place.avoid,
            need,
            expr,
        })
    }

    /// The name of a host as the cluster spells it.
    fn spelled(&self, name: &str) -> Option<String> {
        let mut all = std::iter::once(&self.own.name).chain(self.peers.keys());
        let exact = all.clone().find(|n| *n == name);
        exact
            .or_else(|| all.find(|n| n.eq_ignore_ascii_case(name)))
            .cloned()
    }

    /// What no host could do even if it were empty is said at once.
    pub(super) fn impossible(&self, now: Now, w: &Wanted) -> Option<wire::Error> {
        if w.need.look || (w.expr.is_none() && Claim::of(&w.need) == Claim::of(&Need::default())) {
            return None;
        }
        if let Target::Only(name) = &w.target {
            let h = self.known(now, name)?;
            let text = never(&h, &w.need, w.expr.as_ref())?;
            return Some(error(
                ErrorCode::Unfit,
                format!("{name} cannot do that: {}", of_it(&text)),
            ));
        }
        let all: Vec<Known<'_>> = self.all_known(now).collect();
        if all
            .iter()
            .any(|h| h.facts.is_none() || never(h, &w.need, w.expr.as_ref()).is_none())
        {
            return None;
        }
        Some(self.nearest(&all, w))
    }
}

/// A failure, for people and programs.
pub(super) fn error(code: ErrorCode, text: String) -> wire::Error {
    wire::Error {
        code: code as i32,
        text,
    }
}
