//! Why a job does not run: everything that keeps it, each host, and what would make it start.

use super::row::{at_once, names, private, span, veil};
use super::which::{How, Part};
use super::{refuse, reply};
use crate::engine::jobs::leader::Leader;
use crate::engine::jobs::leader::table::{Gate, Job, Stage};
use crate::engine::jobs::schedule::Shape;
use crate::engine::jobs::types::{Asker, Clock, LeaderEffect};
use crate::engine::types::AskId;
use libqueue::job::{in_words, state_name};
use libqueue::wire::ErrorCode;
use libqueue::wire::job::{AfterHow, Selection, State, Why, job_reply};

/// What is gathered.
#[derive(Default)]
struct Reasons {
    blockers: Vec<String>,
    remedies: Vec<String>,
}

/// There is no job of that number.
fn unknown(which: &Selection) -> String {
    let name = which
        .ids
        .first()
        .map_or_else(|| "of that name".to_owned(), libqueue::job::typed);
    format!("there is no job {name}: `queue jobs` lists them")
}

impl Leader {
    /// Explains the first job, or task, that is meant.
    pub(super) fn explain(
        &mut self,
        clock: Clock,
        ask: AskId,
        who: &Asker,
        which: &Selection,
        out: &mut Vec<LeaderEffect>,
    ) {
        let how = How {
            ended: true,
            ..How::default()
        };
        let hits = self.chosen(who, which, how);
        let Some(hit) = hits.first() else {
            let text = match self.elsewhere(which).first() {
                Some(r) => {
                    let state = self.over.state(r.from).map_or("over", state_name);
                    format!("job {} has ended ({state}): queue show {0}", r.from)
                }
                None => unknown(which),
            };
            return refuse(ask, ErrorCode::BadRequest, text, out);
        };
        let job = hit.job;
        let task = match &hit.part {
            Part::Tasks(t) => t.first().copied(),
            Part::Whole => None,
        };
        let mut why = Why {
            job: Some(self.row(who, job, task)),
            ..Why::default()
        };
        let mut r = Reasons::default();
        let single = task.or((!job.tasks.is_array()).then_some(0));
        let mut waits = true;
        if let Some(i) = single {
            waits = self.why_task(who, job, i, &mut r);
        } else if job.tasks.idle() == 0 {
            waits = false;
            r.blockers.push("no task of it waits to be started".into());
            if job.tasks.count(Stage::Buried) > 0 {
                r.remedies
                    .push(format!("queue retry {} runs the buried ones again", job.row.id));
            }
        }
        if waits {
            self.why_job(clock, job, &mut r);
            let plan = &job.row.plan;
            let shape = Shape {
                need: job.need(),
                host: plan.host.clone(),
                prefer: plan.prefer.clone(),
            };
            why.hosts = self.sched.why(&shape, job.priority());
            r.remedies
                .extend(self.sched.remedies(&shape, &job.row.id.to_string()));
            why.ahead = self.sched.ahead(job.rank());
        }
        why.blockers = r.blockers;
        why.remedies = r.remedies;
        reply(ask, job_reply::Kind::Why(why), true, out);
    }

    /// What keeps a task by itself; whether it waits to be sent.
    fn why_task(&self, who: &Asker, job: &Job, i: u32, r: &mut Reasons) -> bool {
        let name = job.label(i);
        let live = self.live_of(job, i);
        let host = live.map_or("its host", |l| l.row.host.as_str());
        let extra = job.tasks.extra(i);
        let ended = || {
            let fate = extra.and_then(|e| e.fate.as_ref());
            let how = fate.map(|f| in_words(&veil(&f.outcome, private(who, &job.row.owner))));
            how.or_else(|| (!job.row.reason.is_empty()).then(|| job.row.reason.clone()))
                .map_or(String::new(), |t| format!(": {t}"))
        };
        let (blocker, remedy) = match job.tasks.stage(i) {
            Stage::Fresh | Stage::Again => return true,
            Stage::Back => {
                let at = extra.map_or(0, |e| e.not_before_ms);
                let rest = span(at.saturating_sub(self.clock.wall));
                let n = extra.map_or(0, |e| e.failures);
                let s = if n == 1 { "" } else { "s" };
                let times = if n > 0 {
                    format!(" after {n} failure{s}")
                } else {
                    String::new()
                };
                let text = format!("between two tries{times}{}: the next one in {rest}", ended());
                (text, String::new())
            }
            Stage::Held => (format!("{name} is held"), format!("queue release {name}")),
            Stage::Sent => (
                format!("sent to {host}: it starts there as soon as there is room"),
                String::new(),
            ),
            Stage::Running => (format!("it runs on {host}"), String::new()),
            Stage::Suspended => (format!("it is stopped on {host}"), format!("queue resume {name}")),
            Stage::Lost => (
                format!("{host} does not answer, and it may still run there"),
                format!(
                    "wait for {host}, or, if you know that it is dead: queue retry --confirm-dead {name} \
                     (or --may-double)"
                ),
            ),
            Stage::Buried => {
                let times = match extra.map_or(0, |e| e.failures) {
                    0 | 1 => String::new(),
                    n => format!(" after {n} failures"),
                };
                // As `queue show` has it: what cannot be started is buried at once.
                (
                    format!("it is buried{times}{}", ended()),
                    format!("queue retry {name} runs it again, once what made it fail is mended"),
                )
            }
            s => {
                let what = state_name(s.state(false));
                (
                    format!("it is over, {what}{}", ended()),
                    format!("queue retry {name} runs it again"),
                )
            }
        };
        r.blockers.push(blocker);
        if !(remedy.is_empty() || job.tasks.stage(i) == Stage::Done) {
            r.remedies.push(remedy);
        }
        false
    }

    /// What keeps all of a job.
    fn why_job(&self, clock: Clock, job: &Job, r: &mut Reasons) {
        let (row, id) = (&job.row, job.row.id);
        if !row.held.is_empty() {
            r.blockers.push(format!("held by {}", row.held));
            r.remedies.push(format!("queue release {id}"));
        }
        if row.plan.at_ms > clock.wall {
            let rest = span(row.plan.at_ms - clock.wall);
            r.blockers.push(format!("it is to start in {rest}"));
            r.remedies.push(format!("wait {rest}"));
        }
        for (before, how) in &row.after {
            self.why_after(*before, *how, r);
        }
        let full = |g: &Gate| self.limits.gates.get(g).is_some_and(|s| s.free() == 0);
        for gate in job.gates().filter(full) {
            self.why_gate(&gate, r);
        }
        if let Some(n) = at_once(job).filter(|n| job.live >= *n) {
            r.blockers
                .push(format!("{} of its tasks run, and {n} may at once", job.live));
            r.remedies
                .push(format!("queue modify {id} --at-once {}", n.saturating_mul(2)));
        }
    }

    /// It waits for another job.
    fn why_after(&self, before: u64, how: i32, r: &mut Reasons) {
        let end = match AfterHow::try_from(how).unwrap_or(AfterHow::Ok) {
            AfterHow::Ok => "to end well",
            AfterHow::Any => "to end",
            AfterHow::Fail => "to fail",
        };
        let Some(other) = self.job(before) else {
            r.blockers
                .push(format!("it waits for {before} {end}, which is not known"));
            return;
        };
        let state = other.state(self.clock.wall);
        let on = match self.live_of(other, 0) {
            Some(l) if state == State::Running => format!(" on {}", l.row.host),
            _ => String::new(),
        };
        r.blockers.push(format!(
            "it waits for {before} {end}, which is {}{on}",
            state_name(state)
        ));
        r.remedies.push(match state {
            State::Buried => format!("queue retry {before}"),
            State::Suspended => format!("queue resume {before}"),
            State::Waiting if !other.row.held.is_empty() => format!("queue release {before}"),
            State::Waiting | State::Ready => format!("queue explain {before} says what that one waits for"),
            State::Lost => format!("queue explain {before} says what can be done about that one"),
            _ => format!("wait for {before}"),
        });
    }

    /// A limit, or its class, is used up.
    fn why_gate(&self, gate: &Gate, r: &mut Reasons) {
        let Some(state) = self.limits.gates.get(gate) else {
            return;
        };
        let (used, total) = (state.used, state.total.unwrap_or(0));
        let holders = self.live.keys().filter(|k| {
            let job = self.job(k.job);
            job.is_some_and(|j| j.gates().any(|g| g == *gate))
        });
        let holders: Vec<String> = holders.map(|k| libqueue::job::name(k.job, k.task)).collect();
        let by = match holders.len() {
            0 => String::new(),
            _ => format!(", by {}", names(&holders)),
        };
        let more = used + 1;
        let (what, remedy) = match gate {
            Gate::Limit(l) => (
                format!("limit {l}: {used} of {total} in use{by}"),
                format!("queue limits {l}:{more} (operators)"),
            ),
            Gate::Class(c) => (
                format!("class {c}: {used} of {total} of its jobs run{by}"),
                format!("a larger max-running of class {c} in queued.toml (operators)"),
            ),
        };
        r.blockers.push(what);
        if !holders.is_empty() {
            r.remedies.push(format!("kill or wait for {}", names(&holders)));
        }
        r.remedies.push(remedy);
    }
}
