//! Whether a host can take a command at all: one answer for who looks for a host, for the host that grants, and
//! for `queue explain`. Part of the engine; knows nothing about who is better.

use super::seen::Seen;
use super::{Engine, Now, Peer, wire};
use libqueue::expr::{Expr, Sight};
use libqueue::resources::{lacks, lookup};
use std::cell::Cell;
use std::time::Duration;
use wire::{ErrorCode, Facts, HostState, Load, Need};

/// Why nothing runs on a host whose daemon is there.
const NO_MONITOR: &str = "starts nothing: queue-exec does not run there";

/// Why a host is out of the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct No {
    /// What kind of no.
    pub(super) code: ErrorCode,
    /// Goes on after the host's name: `is being drained`.
    pub(super) text: String,
}

impl No {
    pub(super) fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }

    /// The whole sentence.
    pub(super) fn of(&self, host: &str) -> String {
        if self.text == NO_MONITOR {
            return format!(
                "queue-exec on {host} does not run: start it there (systemctl start queue-exec, or `queued run` anew)"
            );
        }
        format!("{host} {}", self.text)
    }

    /// Nothing was wrong with the host but that others have what is needed: it may change any moment.
    pub(super) fn is_full(&self) -> bool {
        self.code == ErrorCode::Full
    }
}

/// What sessions have, or ask for: a sum of needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) sessions: u32,
    pub(super) cores: u32,
    pub(super) mem: u64,
    pub(super) gpus: u32,
    pub(super) disk: u64,
}

impl Claim {
    /// What a session with this need has.
    pub(super) fn of(need: &Need) -> Self {
        Self {
            sessions: 1,
            cores: need.cores,
            mem: need.mem,
            gpus: need.gpus,
            disk: need.disk,
        }
    }

    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            sessions: self.sessions.saturating_add(other.sessions),
            cores: self.cores.saturating_add(other.cores),
            mem: self.mem.saturating_add(other.mem),
            gpus: self.gpus.saturating_add(other.gpus),
            disk: self.disk.saturating_add(other.disk),
        }
    }

    /// The load of a host that has this, too.
    pub(super) fn on(self, load: &Load) -> Load {
        Load {
            sessions: load.sessions.saturating_add(self.sessions),
            cores_reserved: load.cores_reserved.saturating_add(self.cores),
            mem_reserved: load.mem_reserved.saturating_add(self.mem),
            gpus_reserved: load.gpus_reserved.saturating_add(self.gpus),
            disk_reserved: load.disk_reserved.saturating_add(self.disk),
            ..*load
        }
    }
}

/// A host as the engine knows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) name: &'a str,
    /// It is this host.
    pub(super) own: bool,
    pub(super) state: HostState,
    /// Why it is down.
    pub(super) reason: &'a str,
    /// When it was heard, and what it said.
    pub(super) load: Option<(Now, Load)>,
    pub(super) facts: Option<&'a Facts>,
    /// What we know of it beyond its reports.
    pub(super) seen: Option<&'a Seen>,
}

impl Known<'_> {
    /// What it said last; nothing runs there if it never did.
    pub(super) fn now(&self) -> Load {
        self.load.map(|(_, l)| l).unwrap_or_default()
    }

    /// Its power factor.
    pub(super) fn power(&self) -> f64 {
        self.facts.map_or(1.0, |f| f.power)
    }

    /// Age of what is known.
    pub(super) fn age(&self, now: Now) -> Duration {
        self.load.map_or(Duration::ZERO, |(at, _)| now.saturating_sub(at))
    }
}

/// Whom it is asked for, and how.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Terms {
    /// The host was named: whether it answers is for the asker's own connection to find out.
    pub(super) named: bool,
    /// The session comes from the host itself.
    pub(super) from_here: bool,
    /// What is about to come there, before this one.
    pub(super) before: Claim,
}

/// Whether the host answers, as far as is known.
pub(super) fn there(h: &Known<'_>, named: bool) -> Result<(), No> {
    match h.state {
        HostState::Down if h.reason.is_empty() => Err(No::new(ErrorCode::HostDown, "does not answer")),
        HostState::Down if h.own => Err(No::new(ErrorCode::NotReady, h.reason)),
        HostState::Down => Err(No::new(
            ErrorCode::HostDown,
            format!("does not answer: {}", h.reason),
        )),
        HostState::Left => Err(No::new(
            ErrorCode::HostDown,
            match h.reason {
                "" => "was stopped".to_owned(),
                r => format!("was stopped: {r}"),
            },
        )),
        HostState::Unknown if !named => Err(No::new(
            ErrorCode::HostDown,
            "has not been heard since this host started",
        )),
        HostState::Unknown | HostState::Suspect | HostState::Up => match h.load {
            _ if named => Ok(()),
            None => Err(No::new(ErrorCode::NotReady, "has not said yet how it is")),
            Some((_, l)) if l.cores == 0 => Err(No::new(ErrorCode::NotReady, NO_MONITOR)),
            Some(_) => Ok(()),
        },
    }
}

/// Whether a host that is there takes this now.
pub(super) fn fit(h: &Known<'_>, need: &Need, expr: Option<&Expr>, terms: Terms) -> Result<(), No> {
    if need.look {
        return Ok(());
    }
    let load = terms.before.on(&h.now());
    if load.draining && !need.by_name {
        return Err(No::new(
            ErrorCode::Draining,
            "is being drained: it starts nothing new",
        ));
    }
    if h.facts.is_some_and(|f| f.unwilling) && !terms.from_here && !need.by_name {
        let text = "takes no work of other hosts (willing = false in its queued.toml)";
        return Err(No::new(ErrorCode::Unfit, text));
    }
    // Nothing was said of it that could decide: it decides itself.
    if h.load.is_none() && terms.named {
        return Ok(());
    }
    let bare = expr.is_none() && Claim::of(need) == Claim::of(&Need::default());
    if let Some(text) = never(h, need, expr).filter(|_| !bare) {
        return Err(No::new(ErrorCode::Unfit, text));
    }
    let most = h.facts.map_or(0, |f| f.max_sessions);
    if most > 0 && load.sessions >= most && !need.by_name {
        let text = format!(
            "is full: {} sessions run, max_sessions there is {most}",
            load.sessions
        );
        return Err(No::new(ErrorCode::Full, text));
    }
    if bare {
        return Ok(());
    }
    let text = match h.facts {
        Some(f) => lacks(need, expr, h.name, f, Some(&load)),
        None => lacks(need, expr, h.name, &guess(&load), Some(&load))
            .map(|t| format!("{t} (it has not said yet what it is)")),
    };
    text.map_or(Ok(()), |t| Err(No::new(ErrorCode::Full, t)))
}

/// What the host lacks even if nothing runs there; `None` as well if it is not known yet.
pub(super) fn never(h: &Known<'_>, need: &Need, expr: Option<&Expr>) -> Option<String> {
    lacks(need, expr, h.name, h.facts?, None)
}

/// How far it is from what is asked, of all it could ever have (`load` absent) or of what is free now: 0 is
/// enough. For comparing hosts only.
pub(super) fn distance(h: &Known<'_>, need: &Need, expr: Option<&Expr>, load: Option<&Load>) -> f64 {
    let Some(f) = h.facts else { return f64::MAX };
    let short = |asked: f64, has: f64| if asked > has { (asked - has) / asked } else { 0.0 };
    let l = load.copied().unwrap_or_default();
    let free = |all: u64, reserved: u64| all.saturating_sub(reserved) as f64;
    let sum = short(
        f64::from(need.cores),
        free(f.cores.into(), l.cores_reserved.into()),
    ) + short(need.mem as f64, free(f.mem, l.mem_reserved))
        + short(
            f64::from(need.gpus),
            free(f.gpus.len() as u64, l.gpus_reserved.into()),
        )
        + short(need.disk as f64, free(f.disk, l.disk_reserved));
    let bare = Need {
        expr: need.expr.clone(),
        ..Need::default()
    };
    let expr = expr.filter(|e| lacks(&bare, Some(e), h.name, f, load).is_some());
    sum + expr.map_or(0.0, |e| 1.0 + strange(e, h.name, f))
}

/// Of what an expression names, the part that the host does not have at all: less raid is nearer than none.
fn strange(expr: &Expr, host: &str, f: &Facts) -> f64 {
    let (named, absent) = (Cell::new(0.0), Cell::new(0.0));
    expr.judge(&|name| {
        let sight = lookup(name, host, f, Some(&Load::default())).into();
        named.set(named.get() + 1.0);
        if matches!(sight, Sight::Absent) {
            absent.set(absent.get() + 1.0);
        }
        sight
    });
    absent.get() / f64::max(named.get(), 1.0)
}

/// What a host is, as far as its load tells.
fn guess(load: &Load) -> Facts {
    Facts {
        cores: load.cores,
        mem: load.mem_total,
        disk: load.disk_free,
        power: 1.0,
        ..Facts::default()
    }
}

impl Engine {
    /// A host by its exact name.
    pub(super) fn known(&self, now: Now, name: &str) -> Option<Known<'_>> {
        if name == self.own.name {
            return Some(self.known_own(now));
        }
        let (name, p) = self.peers.get_key_value(name)?;
        Some(self.known_peer(name, p))
    }

    fn known_peer<'a>(&'a self, name: &'a str, p: &'a Peer) -> Known<'a> {
        let seen = self.placing.seen.get(p.host.number());
        // Whichever came last; it may have joined again since.
        let load = match (p.load, seen.and_then(|s| s.word)) {
            (Some(r), Some(w)) if w.0 > r.0 => Some(w),
            (r, w) => r.or(w),
        };
        Known {
            name,
            own: false,
            state: p.state,
            reason: &p.reason,
            load,
            facts: p.facts.as_ref(),
            seen,
        }
    }

    /// This host.
    pub(super) fn known_own(&self, now: Now) -> Known<'_> {
        let (state, reason) = if self.monitor && !self.expelled {
            (HostState::Up, "")
        } else {
            (HostState::Down, NO_MONITOR)
        };
        Known {
            name: &self.own.name,
            own: true,
            state,
            reason,
            load: self.load.is_some().then(|| (now, self.own_word(now))),
            facts: (self.facts.version != 0).then_some(&self.facts),
            seen: self.placing.seen.get(self.own.number()),
        }
    }

    /// All hosts, this one first.
    pub(super) fn all_known(&self, now: Now) -> impl Iterator<Item = Known<'_>> {
        std::iter::once(self.known_own(now)).chain(self.peers.iter().map(|(n, p)| self.known_peer(n, p)))
    }
}
