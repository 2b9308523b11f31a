//! What keeps a job from each host, in words.

use super::host::Host;
use super::line::{Line, Place};
use super::{Scheduler, Shape};
use crate::engine::fit::Claim;
use libqueue::expr::Expr;
use libqueue::resources::lacks;
use libqueue::size;
use libqueue::wire::Need;
use libqueue::wire::job::WhyHost;
use std::cmp::Reverse;

impl Scheduler {
    pub(super) fn why_hosts(&self, shape: &Shape, priority: i32) -> Vec<WhyHost> {
        let pinned = !shape.host.is_empty();
        let (expr, bad) = match Expr::parse(&shape.need.expr) {
            _ if shape.need.expr.is_empty() => (None, None),
            Ok(e) => (Some(e), None),
            Err(e) => (None, Some(format!("-R: {e}"))),
        };
        let mut all = Vec::new();
        for (name, at) in &self.names {
            let h = &self.hosts[*at as usize];
            if !h.member || (pinned && *name != shape.host) {
                continue;
            }
            all.push(match &bad {
                Some(text) => WhyHost {
                    host: name.clone(),
                    blockers: vec![text.clone()],
                    never: true,
                },
                None => self.why_host(h, shape, expr.as_ref(), priority),
            });
        }
        if pinned && all.is_empty() {
            all.push(WhyHost {
                host: shape.host.clone(),
                blockers: vec!["no host of the cluster has this name".into()],
                never: true,
            });
        }
        all
    }

    /// What would make a job start, in words, as far as hosts are concerned. `id` is how people name it.
    pub(crate) fn remedies(&self, shape: &Shape, id: &str) -> Vec<String> {
        let need = &shape.need;
        let expr = Expr::parse(&need.expr).ok().filter(|_| !need.expr.is_empty());
        if expr.is_none() && !need.expr.is_empty() {
            return vec![format!(
                "queue modify {id} -R 'EXPRESSION': the one that it has cannot be read"
            )];
        }
        let members = || {
            let pinned = |h: &&Host| shape.host.is_empty() || h.name == shape.host;
            self.hosts
                .iter()
                .filter(|h| h.member && h.facts.is_some())
                .filter(pinned)
        };
        let lacks_ever = |h: &Host| {
            let facts = h.facts.as_ref()?;
            lacks(need, expr.as_ref(), &h.name, facts, None)
        };
        let able: Vec<&Host> = members().filter(|h| lacks_ever(h).is_none()).collect();
        if able.is_empty() {
            return never(members().collect(), &Claim::of(need), lacks_ever, &shape.host, id);
        }
        let c = Claim::of(need);
        let open: Vec<&&Host> = able.iter().filter(|h| h.usable).collect();
        if open.iter().any(|h| h.has_room(&c) && h.reserved.is_none()) {
            return Vec::new();
        }
        let mut out = Vec::new();
        // The one that is nearest.
        let far = |h: &Host| {
            let t = h.taken();
            let left = h.cap.cores.saturating_sub(t.cores);
            (c.cores.saturating_sub(left), h.advance.len())
        };
        if let Some(h) = open.iter().min_by_key(|h| far(h)) {
            let short = far(h).0;
            let s = if short == 1 { "" } else { "s" };
            if short > 0 {
                out.push(format!("{} would do with {short} more core{s}", h.name));
            }
            let on = |s: &&super::Sent| self.hosts[s.host as usize].name == h.name;
            let some: Vec<String> = self
                .sent
                .iter()
                .filter(|(_, s)| on(s))
                .take(4)
                .map(|(k, _)| libqueue::job::name(k.job, k.task))
                .collect();
            if !some.is_empty() {
                let more = if some.len() == 4 { ", ..." } else { "" };
                out.push(format!(
                    "wait for, or kill, what runs on {}: {}{more}",
                    h.name,
                    some.join(", ")
                ));
            }
        }
        for h in able.iter().filter(|h| !h.usable).take(3) {
            out.extend(match h.refusal() {
                Some("draining") => Some(format!("queue undrain {}", h.name)),
                Some("down") => Some(format!("{} would do, but it is down", h.name)),
                Some(text) => Some(format!("{} would do, but {text}", h.name)),
                None => None,
            });
        }
        out
    }

    /// How many tasks of jobs that come before that place, and wait for hosts, there are at least: one of each job.
    pub(crate) fn ahead(&self, rank: (Reverse<i32>, u64, u64)) -> u64 {
        let place = Place {
            priority: rank.0,
            order: rank.1,
            job: rank.2,
        };
        self.jobs.values().filter(|s| s.place < place).count() as u64
    }

    fn why_host(&self, h: &Host, shape: &Shape, expr: Option<&Expr>, priority: i32) -> WhyHost {
        let need = &shape.need;
        let mut blockers: Vec<String> = h.refusal().map(str::to_owned).into_iter().collect();
        let mut never = false;
        if let Some(facts) = &h.facts {
            if let Some(text) = lacks(need, expr, &h.name, facts, None) {
                blockers.push(text);
                never = true;
            } else if blockers.is_empty() {
                blockers.extend(full(h, &Claim::of(need)));
                let bare = Need {
                    expr: need.expr.clone(),
                    ..Need::default()
                };
                blockers.extend(lacks(&bare, expr, &h.name, facts, Some(&h.load_now())));
            }
        }
        if let Some(job) = h.reserved.filter(|_| need.cores > 0)
            && !self.is_of(job, shape, priority)
        {
            blockers.push(format!("reserved for {job}, which has waited longest"));
        }
        WhyHost {
            host: h.name.clone(),
            blockers,
            never,
        }
    }

    /// Whether a job is of this shape and priority.
    fn is_of(&self, job: u64, shape: &Shape, priority: i32) -> bool {
        self.jobs.get(&job).is_some_and(|s| {
            let line: &Line = &self.lines[s.line as usize];
            s.place.priority.0 == priority && line.shape == *shape
        })
    }
}

/// No host has it even when it is empty.
fn never(
    members: Vec<&Host>,
    c: &Claim,
    lacks: impl Fn(&Host) -> Option<String>,
    pinned: &str,
    id: &str,
) -> Vec<String> {
    if members.is_empty() {
        return vec![match pinned {
            "" => "no host of the cluster is known to the leader yet".to_owned(),
            p => {
                format!("there is no host {p}, or it has not said yet what it is: queue modify {id} --host +")
            }
        }];
    }
    let who = match pinned {
        "" => "no host of the cluster",
        _ => "not even an empty",
    };
    let most = |f: fn(&Claim) -> u64| members.iter().map(|h| f(&h.cap)).max().unwrap_or(0);
    let sizes: [(&str, &str, u64, u64, bool); 4] = [
        (
            "--cores",
            "cores",
            c.cores.into(),
            most(|c| c.cores.into()),
            false,
        ),
        ("--gpus", "GPUs", c.gpus.into(), most(|c| c.gpus.into()), false),
        ("--mem", "memory", c.mem, most(|c| c.mem), true),
        ("--disk", "disk space", c.disk, most(|c| c.disk), true),
    ];
    let mut out = Vec::new();
    for (option, what, asked, has, bytes) in sizes {
        if asked <= has {
            continue;
        }
        let (has, size) = match bytes {
            true => (format!("{} of {what}", size::show(has)), size::at_most(has)),
            false => (format!("{has} {what}"), has.to_string()),
        };
        out.push(format!(
            "{who} {pinned} can ever run it: the largest has {has}; queue modify {id} {option} {size}"
        ));
    }
    if out.is_empty() {
        let one = members
            .iter()
            .find_map(|h| Some(format!("{} {}", h.name, lacks(h)?)));
        let one = one.map_or(String::new(), |t| format!(": {t}"));
        out.push(format!(
            "{who} {pinned} can ever run it{one}; queue modify {id} with another -R, or less of --cores, --mem, \
             --gpus, --disk"
        ));
    }
    out.iter().map(|t| t.replace("  ", " ")).collect()
}

/// What others have taken that it would need.
fn full(h: &Host, c: &Claim) -> Vec<String> {
    let mut out = Vec::new();
    let (jobs, other, cap) = (h.seated, h.other, h.cap);
    let short =
        |asked: u64, has: u64, jobs: u64, other: u64| asked > has.saturating_sub(jobs).saturating_sub(other);
    if c.cores > 0
        && short(
            c.cores.into(),
            cap.cores.into(),
            jobs.cores.into(),
            other.cores.into(),
        )
    {
        out.push(taken("core", c.cores, cap.cores, jobs.cores, other.cores));
    } else if c.cores > 0 && !h.advance.is_empty() {
        let n = h.advance.len();
        out.push(format!("{n} more wait there already"));
    } else if c.cores == 0 && h.zero >= cap.cores.saturating_mul(2) {
        out.push(format!("{} jobs without a core run there already", h.zero));
    }
    if c.gpus > 0
        && short(
            c.gpus.into(),
            cap.gpus.into(),
            jobs.gpus.into(),
            other.gpus.into(),
        )
    {
        out.push(taken("GPU", c.gpus, cap.gpus, jobs.gpus, other.gpus));
    }
    let l = h.load;
    let sizes = [
        (
            "memory",
            c.mem,
            cap.mem,
            jobs.mem,
            other.mem,
            l.map(|l| l.mem_available),
        ),
        (
            "disk space",
            c.disk,
            cap.disk,
            jobs.disk,
            other.disk,
            l.map(|l| l.disk_free),
        ),
    ];
    for (what, asked, has, jobs, other, real) in sizes {
        let free = has.saturating_sub(jobs).saturating_sub(other);
        let now = free.min(real.unwrap_or(u64::MAX));
        if asked > now {
            let why = if asked > free {
                format!("{} are reserved", size::show(jobs.saturating_add(other)))
            } else {
                "the rest is in use".to_owned()
            };
            out.push(format!(
                "{} of {} of {what} free, {} asked: {why}",
                size::show(now),
                size::show(has),
                size::show(asked)
            ));
        }
    }
    let sessions = jobs.sessions.saturating_add(other.sessions);
    if sessions >= cap.sessions {
        out.push(format!(
            "{sessions} sessions run, max_sessions there is {}",
            cap.sessions
        ));
    }
    out
}

/// `4 of 4 cores taken by jobs`, `1 of 4 cores free, 2 asked: 2 taken by jobs, 1 by commands`.
fn taken(what: &str, asked: u32, has: u32, jobs: u32, other: u32) -> String {
    let free = has.saturating_sub(jobs).saturating_sub(other);
    let s = if has == 1 { "" } else { "s" };
    let by = match (jobs, other) {
        (j, 0) => format!("{j} taken by jobs"),
        (0, o) => format!("{o} taken by commands"),
        (j, o) => format!("{j} taken by jobs, {o} by commands"),
    };
    if free > 0 {
        return format!("{free} of {has} {what}{s} free, {asked} asked: {by}");
    }
    match (jobs, other) {
        (j, 0) => format!("{j} of {has} {what}{s} taken by jobs"),
        (0, o) => format!("{o} of {has} {what}{s} taken by commands"),
        _ => format!("all {has} {what}{s} taken: {by}"),
    }
}
