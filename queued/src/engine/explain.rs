//! How the hosts are judged for a command, for people; and why none will do. Part of the engine; decides nothing:
//! it asks those who do.

use super::candidates::{Candidate, Tier};
use super::fit::{Known, No, distance, never};
use super::place::{FORMULA, chances, score};
use super::types::Now;
use super::want::{Target, Wanted, error};
use super::{Engine, wire};
use libqueue::size;
use std::collections::BTreeMap;
use wire::{ErrorCode, Explained, Judged, Need, reply};

/// Hosts that are named in one line.
const NAMED: usize = 3;

impl Engine {
    /// Each host, its score term by term, its chance, and why not.
    pub(super) fn explain(&self, now: Now, place: wire::Place) -> reply::Kind {
        let wait = place.wait;
        let wanted = match self.understand(place) {
            Ok(w) => w,
            Err(e) => return reply::Kind::Error(e),
        };
        let (good, no) = self.candidates(now, &wanted, None);
        let chance = drawn(&wanted, &good);
        let no: BTreeMap<&str, &No> = no.iter().map(|(h, n)| (h.as_str(), n)).collect();
        let judged = |h: Known<'_>| {
            let view = self.view(now, &h);
            let s = score(&view, wanted.need.cores);
            let named = match &wanted.target {
                Target::Only(n) => n == h.name,
                Target::Any | Target::Prefer(_) => true,
            };
            let why = match no.get(h.name) {
                Some(no) => no.text.clone(),
                None if !named => "another one was named".into(),
                None if wanted.avoid.iter().any(|a| a == h.name) => "was just tried".into(),
                None => good
                    .iter()
                    .find(|c| c.host == h.name)
                    .and_then(|c| c.doubt.as_ref())
                    .map(|no| no.text.clone())
                    .unwrap_or_default(),
            };
            Judged {
                host: h.name.to_owned(),
                score: s.value,
                terms: s.terms(&view),
                no: why,
                chance: chance.get(h.name).copied().unwrap_or_default(),
                age_ms: u64::try_from(h.age(now).as_millis()).unwrap_or(u64::MAX),
            }
        };
        let mut hosts: Vec<Judged> = self.all_known(now).map(judged).collect();
        hosts.sort_by(|a, b| {
            let key = |j: &Judged| !j.no.is_empty();
            key(a)
                .cmp(&key(b))
                .then(a.score.total_cmp(&b.score))
                .then_with(|| a.host.cmp(&b.host))
        });
        reply::Kind::Explained(Explained {
            verdict: self.verdict(now, &wanted, wait, &hosts),
            hosts,
            formula: FORMULA.into(),
        })
    }

    fn verdict(&self, now: Now, w: &Wanted, wait: bool, hosts: &[Judged]) -> String {
        if let Some(e) = self.impossible(now, w) {
            return e.text;
        }
        let may: Vec<&str> = hosts
            .iter()
            .filter(|h| h.no.is_empty())
            .map(|h| h.host.as_str())
            .collect();
        match (&w.target, &may[..]) {
            (Target::Only(_) | Target::Prefer(_), [one]) => format!("it goes to {one}, which was named"),
            (Target::Any, [one]) => format!("it goes to {one}: no other host will do"),
            (_, [a, b]) => format!("{a} and {b} are asked how they are, and the better one is taken"),
            (_, [_, _, ..]) => format!(
                "two of {} hosts are drawn by chance, both are asked how they are, and the better one is taken",
                may.len()
            ),
            (_, []) => {
                let (good, mut no) = self.candidates(now, w, None);
                no.extend(
                    good.into_iter()
                        .filter_map(|c| Some((c.host.to_owned(), c.doubt?))),
                );
                let e = self.no_host(now, w, &no).text;
                if wait { format!("it waits: {e}") } else { e }
            }
        }
    }

    /// Why no host takes it.
    pub(super) fn no_host(&self, _now: Now, w: &Wanted, no: &[(String, No)]) -> wire::Error {
        if let (Target::Only(_), [(host, no)]) = (&w.target, no) {
            let hint = match no.code {
                ErrorCode::HostDown if no.text == "does not answer" => {
                    ": is it on, and does queued run there?"
                }
                _ => "",
            };
            return error(no.code, format!("{}{hint}", no.of(host)));
        }
        let tried = match w.avoid.len() {
            0 => String::new(),
            _ => format!(", {} tried", w.avoid.join(", ")),
        };
        let code = [ErrorCode::Full, ErrorCode::Draining, ErrorCode::Unfit];
        let Some(code) = code.into_iter().find(|c| no.iter().any(|(_, n)| n.code == *c)) else {
            if let ([(host, no)], true) = (no, self.peers.is_empty()) {
                return error(ErrorCode::NoHost, no.of(host));
            }
            let text = format!(
                "no host answers ({} in cluster {}{tried}): queue hosts shows why",
                1 + self.peers.len(),
                self.cluster
            );
            return error(ErrorCode::NoHost, text);
        };
        error(
            code,
            format!("no host takes it now: {}{tried}", self.reasons(w, no)),
        )
    }

    /// Why not, host by host as far as a line is long; what may change soonest comes first.
    pub(super) fn reasons(&self, w: &Wanted, no: &[(String, No)]) -> String {
        let mut no: Vec<&(String, No)> = no.iter().collect();
        no.sort_by_key(|(h, n)| {
            let rank = match n.code {
                ErrorCode::Full => 0,
                ErrorCode::Draining => 1,
                ErrorCode::HostDown | ErrorCode::NotReady => 2,
                _ => 3,
            };
            (rank, h.clone())
        });
        let mut parts: Vec<String> = no
            .iter()
            .take(NAMED)
            .map(|(h, n)| format!("{h} {}", n.text))
            .collect();
        match no.len().saturating_sub(NAMED) {
            0 => {}
            n => parts.push(format!("and {n} more")),
        }
        if parts.is_empty() {
            return format!("all hosts were tried: {}", w.avoid.join(", "));
        }
        parts.join("; ")
    }

    /// The host that comes nearest to what none can do, and what it lacks.
    pub(super) fn nearest(&self, all: &[Known<'_>], w: &Wanted) -> wire::Error {
        let far = |h: &&Known<'_>| distance(h, &w.need, w.expr.as_ref(), None);
        let Some(h) = all.iter().min_by(|a, b| far(a).total_cmp(&far(b))) else {
            return error(
                ErrorCode::NoHost,
                format!("there is no host in cluster {}", self.cluster),
            );
        };
        let lacks = never(h, &w.need, w.expr.as_ref()).unwrap_or_default();
        let text = format!(
            "no host has {}: {} comes nearest, {}",
            what(&w.need),
            h.name,
            of_it(&lacks)
        );
        error(ErrorCode::Unfit, text)
    }
}

/// What a host lacks, after its name: `it has 2 cores of 8`, `it fails raid>=1T: raid is 200G`.
pub(super) fn of_it(lacks: &str) -> String {
    if lacks.starts_with("has ") {
        format!("it {lacks}")
    } else {
        format!("it fails {lacks}")
    }
}

/// Who would be drawn, and how likely it is that he is taken.
fn drawn(w: &Wanted, good: &[Candidate<'_>]) -> BTreeMap<String, f64> {
    let sure = |c: &Candidate<'_>| [(c.host.to_owned(), 1.0)].into();
    if let Target::Only(n) | Target::Prefer(n) = &w.target
        && let Some(c) = good.iter().find(|c| c.host == *n && c.tier != Tier::Full)
    {
        return sure(c);
    }
    let best = good.iter().map(|c| c.tier).filter(|t| *t != Tier::Full).min();
    let good: Vec<&Candidate<'_>> = good.iter().filter(|c| Some(c.tier) == best).collect();
    let scores: Vec<f64> = good.iter().map(|c| c.score).collect();
    good.iter()
        .map(|c| c.host.to_owned())
        .zip(chances(&scores))
        .collect()
}

/// What is asked for, for people: `64 cores and 8G of memory`.
fn what(n: &Need) -> String {
    let plural = |n: u32, what: &str| {
        if n == 1 {
            format!("1 {what}")
        } else {
            format!("{n} {what}s")
        }
    };
    let mut parts = Vec::new();
    if n.cores > 0 {
        parts.push(plural(n.cores, "core"));
    }
    if n.mem > 0 {
        parts.push(format!("{} of memory", size::show(n.mem)));
    }
    if n.gpus > 0 {
        parts.push(plural(n.gpus, "GPU"));
    }
    if n.disk > 0 {
        parts.push(format!("{} of disk space", size::show(n.disk)));
    }
    if !n.expr.is_empty() {
        parts.push(format!("'{}'", n.expr));
    }
    match parts.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => "what is asked".into(),
    }
}
