//! A job or a task as a list shows it, with the reason for its state in a few words.

use crate::engine::jobs::leader::Leader;
use crate::engine::jobs::leader::table::{Gate, Job, Live, Stage};
use crate::engine::jobs::types::Asker;
use libqueue::wire::job::{self, Count, Key, Outcome, State, Tried};
use std::collections::BTreeMap;

/// Others that are named in one line.
pub(super) const NAMED: usize = 5;

/// Whether the asker may see commands and output of this owner.
pub(super) fn private(who: &Asker, owner: &str) -> bool {
    who.operator || who.user == owner
}

/// An outcome as the asker may see it.
pub(super) fn veil(o: &Outcome, private: bool) -> Outcome {
    if private {
        return o.clone();
    }
    Outcome {
        head: Vec::new(),
        tail: Vec::new(),
        output: Vec::new(),
        error: Vec::new(),
        ..o.clone()
    }
}

/// Tasks by state.
pub(super) fn counts(all: &BTreeMap<State, u64>) -> Vec<Count> {
    let count = |(s, n): (&State, &u64)| Count {
        state: *s as i32,
        number: *n,
    };
    all.iter().map(count).collect()
}

/// A span of time for people: `48 s`, `5 min`, `3 h 5 min`, `2 d 3 h`.
pub(super) fn span(ms: u64) -> String {
    let s = ms.div_ceil(1000);
    let (min, h, d) = (s / 60, s / 3600, s / 86_400);
    let two = |a: u64, x: &str, b: u64, y: &str| match b {
        0 => format!("{a} {x}"),
        b => format!("{a} {x} {b} {y}"),
    };
    match s {
        0..120 => format!("{s} s"),
        120..3600 => format!("{min} min"),
        3600..86_400 => two(h, "h", min % 60, "min"),
        _ => two(d, "d", h % 24, "h"),
    }
}

/// `7, 9 and 11`, `7, 9 and 40 others`.
pub(super) fn names(all: &[String]) -> String {
    match all {
        [] => String::new(),
        [one] => one.clone(),
        _ if all.len() > NAMED => {
            format!("{} and {} others", all[..NAMED].join(", "), all.len() - NAMED)
        }
        [some @ .., last] => format!("{} and {last}", some.join(", ")),
    }
}

impl Leader {
    /// The attempt of a task that has not ended.
    pub(super) fn live_of(&self, job: &Job, index: u32) -> Option<&Live> {
        let key = job.key(index);
        if key.attempt == 0 {
            None
        } else {
            self.live.get(&key)
        }
    }

    /// A job, or one of its tasks, for a list.
    pub(super) fn row(&self, who: &Asker, job: &Job, task: Option<u32>) -> job::Job {
        let (r, plan, wall) = (&job.row, &job.row.plan, self.clock.wall);
        let private = private(who, &r.owner);
        let array = job.tasks.is_array();
        let mut row = job::Job {
            id: r.id,
            user: r.owner.clone(),
            name: plan.name.clone(),
            group: plan.group.clone(),
            class: plan.class.clone(),
            priority: job.priority(),
            submitted_ms: r.submitted_ms,
            command: if private { r.command.clone() } else { String::new() },
            submit_host: r.submit_host.clone(),
            need: plan.need.clone(),
            ..job::Job::default()
        };
        let Some(i) = task.or((!array).then_some(0)) else {
            row.state = job.state(wall) as i32;
            row.ended_ms = r.ended_ms;
            row.counts = counts(&widen(job.tasks.states(job.blocked(wall))));
            row.reason = self.reason(job, None);
            return row;
        };
        let stage = job.tasks.stage(i);
        row.task = job.tasks.number(i);
        row.state = job.task_state(i, wall) as i32;
        row.host = self.host_of(job, i).to_owned();
        row.attempts = job.key(i).attempt;
        let extra = job.tasks.extra(i);
        if let Some(f) = extra.and_then(|e| e.fate.as_ref()) {
            row.outcome = Some(veil(&f.outcome, private));
            row.started_ms = f.outcome.started_ms;
            if stage.is_over() || stage == Stage::Buried {
                row.ended_ms = f.ended_ms;
            }
        }
        // One that was given up may still be out there: how the job ended is known all the same.
        let given_up = stage.is_over() || stage == Stage::Buried;
        if let Some(l) = self.live_of(job, i).filter(|_| !given_up) {
            row.started_ms = started(l);
            row.outcome = None;
        }
        if row.ended_ms == 0 && stage.is_over() && !array {
            row.ended_ms = r.ended_ms;
        }
        row.reason = self.reason(job, Some(i));
        row
    }

    /// Why it is in its state, in a few words; empty: the state says all.
    fn reason(&self, job: &Job, task: Option<u32>) -> String {
        let wall = self.clock.wall;
        let Some(i) = task else {
            let t = &job.tasks;
            return if job.ended.is_some() {
                job.row.reason.clone()
            } else if t.count(Stage::Running) == 0 && t.idle() > 0 {
                self.waits(job, wall)
            } else {
                String::new()
            };
        };
        match job.tasks.stage(i) {
            Stage::Fresh | Stage::Again => self.waits(job, wall),
            Stage::Back => {
                let at = job.tasks.extra(i).map_or(0, |e| e.not_before_ms);
                format!("next try in {}", span(at.saturating_sub(wall)))
            }
            Stage::Held => "held".into(),
            Stage::Sent => match self.live_of(job, i) {
                Some(l) => format!("sent to {}", l.row.host),
                None => String::new(),
            },
            Stage::Running => match self.live_of(job, i).and_then(|l| l.kill.as_ref()) {
                Some(k) if !k.by.is_empty() => format!("being killed by {}", k.by),
                Some(_) => "being killed".into(),
                None => String::new(),
            },
            Stage::Lost => match self.live_of(job, i) {
                Some(l) => format!("{} does not answer; it may still run there", l.row.host),
                None => String::new(),
            },
            Stage::Suspended => String::new(),
            Stage::Done | Stage::Failed | Stage::Killed | Stage::Buried => {
                let known = job.tasks.extra(i).is_some_and(|e| e.fate.is_some());
                if known {
                    String::new()
                } else {
                    job.row.reason.clone()
                }
            }
        }
    }

    /// What a job waits for that has not been sent.
    fn waits(&self, job: &Job, wall: u64) -> String {
        let r = &job.row;
        if !r.held.is_empty() {
            return format!("held by {}", r.held);
        }
        if !r.after.is_empty() {
            let all: Vec<String> = r.after.iter().map(|(id, _)| id.to_string()).collect();
            return format!("after {}", names(&all));
        }
        if r.plan.at_ms > wall {
            return format!("starts in {}", span(r.plan.at_ms - wall));
        }
        if let Some(gate) = self.full_gate(job) {
            return match gate {
                Gate::Limit(l) => format!("limit {l} is used up"),
                Gate::Class(c) => format!("as many jobs of class {c} run as may"),
            };
        }
        match at_once(job) {
            Some(n) if job.live >= n => format!("{n} tasks at once"),
            _ => "no room yet".into(),
        }
    }

    /// A limit or class that has no unit for it.
    pub(super) fn full_gate(&self, job: &Job) -> Option<Gate> {
        let full = |g: &Gate| self.limits.gates.get(g).is_some_and(|s| s.free() == 0);
        job.parked.clone().or_else(|| job.gates().find(full))
    }

    /// The last attempt of a task as people see it; `None`: there is none.
    pub(super) fn tried(&self, job: &Job, index: u32, private: bool) -> Option<Tried> {
        let key = job.key(index);
        if key.attempt == 0 {
            return None;
        }
        if let Some(l) = self.live.get(&key) {
            return Some(tried(key, l, private));
        }
        let fate = job.tasks.extra(index).and_then(|e| e.fate.as_ref());
        Some(Tried {
            key: Some(key),
            host: fate.map(|f| f.host.clone()).unwrap_or_default(),
            ended_ms: fate.map_or(0, |f| f.ended_ms),
            outcome: fate.map(|f| veil(&f.outcome, private)),
            ..Tried::default()
        })
    }
}

/// An attempt that has not ended.
pub(super) fn tried(key: Key, l: &Live, private: bool) -> Tried {
    let running = l.running.clone().map(|mut r| {
        if !private {
            r.output.clear();
            r.error.clear();
        }
        r
    });
    Tried {
        key: Some(key),
        host: l.row.host.clone(),
        sent_ms: l.row.sent_ms,
        running,
        ..Tried::default()
    }
}

/// When an attempt started, by the leader's clock if that is known.
fn started(l: &Live) -> u64 {
    match l.row.started_ms {
        0 => l.running.as_ref().map_or(0, |r| r.started_ms),
        n => n,
    }
}

/// So many tasks may run at once, if that is limited.
pub(super) fn at_once(job: &Job) -> Option<u32> {
    let n = job.row.plan.array.as_ref().map_or(0, |a| a.at_once);
    (n > 0).then_some(n)
}

/// Counts as messages have them.
pub(super) fn widen(all: BTreeMap<State, u32>) -> BTreeMap<State, u64> {
    all.into_iter().map(|(s, n)| (s, n.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_names() {
        let all = [
            (0, "0 s"),
            (47_001, "48 s"),
            (300_000, "5 min"),
            (11_100_000, "3 h 5 min"),
            (7_200_000, "2 h"),
            (183_600_000, "2 d 3 h"),
        ];
        for (ms, text) in all {
            assert_eq!(span(ms), text);
        }
        let n = |n: u32| (1..=n).map(|i| i.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&n(1)), "1");
        assert_eq!(names(&n(3)), "1, 2 and 3");
        assert_eq!(names(&n(9)), "1, 2, 3, 4, 5 and 4 others");
    }
}
