//! Jobs that want the same of a host, in their order, and what is known about who could take them.

use super::Shape;
use super::host::Host;
use crate::engine::fit::Claim;
use libqueue::expr::Expr;
use libqueue::resources::lacks;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// Names whose value changes while the facts stay the same.
const CHANGES: &[&str] = &["mem_free", "disk_free", "load", "running", "sessions", "jobs"];

/// A job's place: the lowest is first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) priority: Reverse<i32>,
    pub(super) order: u64,
    pub(super) job: u64,
}

impl Place {
    /// Before all jobs.
    pub(super) const FIRST: Self = Self {
        priority: Reverse(i32::MAX),
        order: 0,
        job: 0,
    };
}

/// A shape, as something that can be looked up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Want {
    numbers: (u32, u64, u32, u64, bool, bool),
    expr: String,
    host: String,
    prefer: String,
}

impl Want {
    pub(super) fn of(s: &Shape) -> Self {
        let n = &s.need;
        Self {
            numbers: (n.cores, n.mem, n.gpus, n.disk, n.by_name, n.look),
            expr: n.expr.clone(),
            host: s.host.clone(),
            prefer: s.prefer.clone(),
        }
    }
}

/// What is known of a class of hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fits {
    Unknown,
    Yes,
    No,
}

/// A line of jobs.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) shape: Shape,
    pub(super) claim: Claim,
    expr: Option<Expr>,
    /// The expression cannot be read: no host has that.
    bad: bool,
    /// What it asks for differs between hosts of the same facts.
    own: bool,
    /// It changes: it has to be looked up now.
    changes: bool,
    pub(super) queue: BTreeSet<Place>,
    /// Attempts of this line that are on hosts.
    pub(super) refs: u32,
    /// Any host may have room: all are searched. Otherwise only those that are fresh.
    pub(super) search: bool,
    classes: Vec<Fits>,
    /// With which generation of hosts none could ever take it.
    pub(super) nowhere: u64,
}

impl Line {
    pub(super) fn new(shape: Shape) -> Self {
        let text = &shape.need.expr;
        let parsed = (!text.is_empty()).then(|| Expr::parse(text));
        let word = |c: char| !c.is_alphanumeric() && c != '_';
        let changes = text.split(word).any(|w| CHANGES.contains(&w));
        let own = changes || text.split(word).any(|w| w == "host");
        let bad = matches!(parsed, Some(Err(_)));
        Self {
            claim: Claim::of(&shape.need),
            expr: parsed.and_then(Result::ok),
            bad,
            own,
            changes,
            queue: BTreeSet::new(),
            refs: 0,
            search: true,
            classes: Vec::new(),
            nowhere: 0,
            shape,
        }
    }

    /// Its first job.
    pub(super) fn head(&self) -> Option<Place> {
        self.queue.first().copied()
    }

    /// A class is another one now.
    pub(super) fn forget_class(&mut self, class: u32) {
        if let Some(f) = self.classes.get_mut(class as usize) {
            *f = Fits::Unknown;
        }
    }

    /// Whether the host could take it if nothing else were there.
    pub(super) fn could(&mut self, h: &Host) -> bool {
        let s = &self.shape;
        if self.bad || !(s.host.is_empty() || s.host == h.name) || !h.could(&self.claim) {
            return false;
        }
        let (Some(expr), Some(facts)) = (&self.expr, &h.facts) else {
            return h.facts.is_some();
        };
        let fits = || lacks(&s.need, Some(expr), &h.name, facts, None).is_none();
        if self.own {
            return fits();
        }
        let c = h.class as usize;
        if self.classes.len() <= c {
            self.classes.resize(c + 1, Fits::Unknown);
        }
        if self.classes[c] == Fits::Unknown {
            self.classes[c] = if fits() { Fits::Yes } else { Fits::No };
        }
        self.classes[c] == Fits::Yes
    }

    /// Whether the host has room for this job of the line now.
    pub(super) fn room(&mut self, h: &Host, job: u64) -> bool {
        let free = h.reserved.is_none_or(|r| r == job) || self.claim.cores == 0;
        free && h.has_room(&self.claim) && self.could(h) && self.now(h)
    }

    /// Whether the host may hold one in advance.
    pub(super) fn advance(&mut self, h: &Host) -> bool {
        !self.changes && h.may_hold_this(&self.claim) && self.could(h)
    }

    /// Whether what changes is as it is wanted.
    fn now(&self, h: &Host) -> bool {
        match (&self.expr, &h.facts) {
            (Some(e), Some(f)) if self.changes => {
                lacks(&self.shape.need, Some(e), &h.name, f, Some(&h.load_now())).is_none()
            }
            _ => true,
        }
    }
}
