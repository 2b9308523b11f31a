//! Submissions: each is checked, its names and defaults are resolved, and it is answered once it is on disk. Told
//! twice, it is answered twice and kept once: its number, which its host gave it, is what it is known by.

use super::after::hinders;
use super::table::{Job, range_len};
use super::{Change, Leader, LeaderEffect};
use crate::engine::jobs::post::EventKind;
use crate::engine::jobs::types::Asker;
use crate::store::{JobRow, Op};
use libqueue::expr::Expr;
use libqueue::wire::Need;
use libqueue::wire::job::{
    After, Array, Class, Key, Plan, Rejected, Restart, Run, State, Submit, Submitted, TASKS_MAX, down,
};
use prost::Message as _;
use queue_exec::warrant::Warrant;
use std::collections::BTreeMap;

/// Classes that are always there.
const BUILT_IN: [&str; 2] = ["wait", "now"];
/// Length of a lease where nobody said one.
const LEASE: u64 = 15 * 60_000;
/// No lease is shorter.
const LEASE_MIN: u64 = 1000;
/// A job waits for at most so many others.
const AFTER_MAX: usize = 100_000;
/// Longest name of anything, in bytes.
const NAME_MAX: usize = 255;
/// Characters of a command that lists show.
const COMMAND: usize = 200;
/// What a reason of a refused job begins with.
const REJECTED: &str = "rejected: ";

impl Leader {
    /// A host hands a submission on.
    pub(super) fn submit(&mut self, host: &str, conn: u64, submit: Submit, out: &mut Vec<LeaderEffect>) {
        let id = submit.id;
        if let Some(answer) = self.known(host, &submit) {
            return out.push(LeaderEffect::Send {
                conn,
                message: answer,
            });
        }
        if id == 0 || id >= self.next_id {
            let text = format!("{host} was never given the number {id}");
            let message = down::Kind::Rejected(Rejected { id, text });
            return out.push(LeaderEffect::Send { conn, message });
        }
        let row = match self.prepare(host, &submit) {
            Ok(row) => row,
            Err(text) => return self.reject(host, conn, submit, text, out),
        };
        let dedupe = submit.plan.as_ref().and_then(|p| p.dedupe.as_ref());
        if let Some(window) = dedupe.map(|d| d.window_ms)
            && let Some(other) = self.same(&row.identity, window)
        {
            return out.push(LeaderEffect::Send {
                conn,
                message: down::Kind::Accepted(Submitted {
                    id: other,
                    existed: true,
                    spooled: String::new(),
                }),
            });
        }
        for (name, total) in self.new_limits(&row.plan.limits.clone()) {
            out.push(LeaderEffect::Store(Op::Limit(name, Some(total))));
        }
        out.push(LeaderEffect::Store(Op::Job {
            submit: Box::new(submit),
            row: Box::new(row.clone()),
        }));
        out.push(LeaderEffect::Send {
            conn,
            message: down::Kind::Accepted(Submitted {
                id,
                existed: false,
                spooled: String::new(),
            }),
        });
        self.insert(row);
        if let Some(job) = self.jobs.get(&id) {
            let after = job.state(self.clock.wall);
            self.changes.push(Change {
                job: id,
                task: 0,
                before: State::Unknown,
                after,
                attempt: 0,
            });
        }
        self.judge_past(id, out);
    }

    /// The answer to a submission that was here before.
    fn known(&self, host: &str, submit: &Submit) -> Option<down::Kind> {
        let id = submit.id;
        let Some(job) = self.job(id) else {
            self.over.get(id)?;
            return Some(accepted(id));
        };
        let text = if job.row.submit_host != host || job.row.submitted_ms != submit.at_ms {
            format!("the number {id} is that of another job")
        } else if let Some(text) = job.row.reason.strip_prefix(REJECTED) {
            text.to_owned()
        } else {
            return Some(accepted(id));
        };
        Some(down::Kind::Rejected(Rejected { id, text }))
    }

    /// A job with this identity that has not ended, or not long ago.
    fn same(&self, identity: &[u8], window: u64) -> Option<u64> {
        let (id, ended) = *self.identities.get(identity)?;
        let counts = !identity.is_empty() && (ended == 0 || ended.saturating_add(window) > self.clock.wall);
        counts.then_some(id)
    }

    /// Puts a job into all tables. Its place in the queues is looked at later.
    pub(super) fn insert(&mut self, row: JobRow) {
        let id = row.id;
        let job = Job::new(row, self.next_order);
        self.next_order += 1;
        let row = &job.row;
        for (before, _) in &row.after {
            self.dependants.entry(*before).or_default().insert(id);
        }
        if row.plan.at_ms > self.clock.wall {
            self.at.insert((row.plan.at_ms, id));
        }
        if let Some(parent) = row.plan.parent.filter(|p| self.live.contains_key(p)) {
            self.children.entry(parent).or_default().jobs.insert(id);
        }
        if !row.identity.is_empty() {
            self.identities.insert(row.identity.clone(), (id, 0));
        }
        self.jobs.insert(id, job);
        self.tally(id);
        self.dirty.insert(id);
    }

    /// A job is no longer there for the one that waits for it.
    pub(super) fn forget_child(&mut self, job: &Job) {
        if let Some(children) = job.row.plan.parent.and_then(|p| self.children.get_mut(&p)) {
            children.jobs.remove(&job.row.id);
        }
    }

    /// What a job waits for may have ended before it came.
    pub(super) fn judge_past(&mut self, id: u64, out: &mut Vec<LeaderEffect>) {
        let Some(job) = self.jobs.get(&id) else { return };
        if job.row.after.is_empty() {
            return;
        }
        // One that has ended may still be there because of an attempt that was given up.
        let state_of = |before: u64| self.over.state(before).or_else(|| self.jobs.get(&before)?.ended);
        let states: BTreeMap<u64, State> = job
            .row
            .after
            .iter()
            .filter_map(|(b, _)| Some((*b, state_of(*b)?)))
            .collect();
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let wall = self.clock.wall;
        let was = job.blocked(wall);
        let mut bad = None;
        let mut past = Vec::new();
        job.row.after.retain(|(before, how)| {
            let Some(state) = states.get(before).copied() else {
                return true;
            };
            bad = bad.take().or_else(|| hinders(*before, *how, state));
            past.push(*before);
            false
        });
        if past.is_empty() {
            return;
        }
        for before in past {
            if let Some(d) = self.dependants.get_mut(&before) {
                d.remove(&id);
                if d.is_empty() {
                    self.dependants.remove(&before);
                }
            }
        }
        match bad {
            Some(text) => self.fail_dependant(id, text, out),
            None => {
                out.push(LeaderEffect::Store(Op::Row(Box::new(job.row.clone()))));
                self.unblocked(id, was);
            }
        }
    }

    /// Keeps a record of a submission that is refused, and says so.
    fn reject(&mut self, host: &str, conn: u64, submit: Submit, text: String, out: &mut Vec<LeaderEffect>) {
        let id = submit.id;
        let mut row = self.bare_row(host, &submit);
        // It has no tasks that anybody could count.
        row.plan.array = None;
        row.plan.limits.clear();
        row.identity.clear();
        row.state = State::Failed as i32;
        row.reason = format!("{REJECTED}{text}");
        row.ended_ms = self.clock.wall;
        out.push(LeaderEffect::Store(Op::Job {
            submit: Box::new(submit),
            row: Box::new(row.clone()),
        }));
        out.push(LeaderEffect::Send {
            conn,
            message: down::Kind::Rejected(Rejected { id, text }),
        });
        self.insert(row);
        self.stage(id, 0, super::Stage::Failed);
        let key = Key {
            job: id,
            task: 0,
            attempt: 0,
        };
        self.tell(EventKind::Rejected, key, None, State::Failed, "");
        self.look_over(id, out);
    }

    fn bare_row(&self, host: &str, submit: &Submit) -> JobRow {
        // What a warrant says is checked where the job runs; a wrong one here only makes a wrong entry in a list.
        let login = Warrant::parse(&submit.warrant).map(|(w, _, _)| w.login);
        let run = Run::decode(&submit.run[..]).unwrap_or_default();
        let plan = submit.plan.clone().unwrap_or_default();
        JobRow {
            id: submit.id,
            owner: submit.owner.clone(),
            login: login.unwrap_or_else(|_| submit.owner.clone()),
            submit_host: host.to_owned(),
            submitted_ms: submit.at_ms,
            command: command(&run),
            identity: plan
                .dedupe
                .as_ref()
                .map(|d| d.identity.clone())
                .unwrap_or_default(),
            entries: !submit.entries.is_empty(),
            held: if plan.hold {
                submit.owner.clone()
            } else {
                String::new()
            },
            // A host in it sees the directory of the submission; with a file made to find that out, the host of the
            // submission itself is the first.
            home_hosts: if run.nonce_file.is_empty() {
                Vec::new()
            } else {
                vec![host.to_owned()]
            },
            plan,
            ..JobRow::default()
        }
    }

    /// Checks a submission and fills in what it leaves open.
    fn prepare(&self, host: &str, submit: &Submit) -> Result<JobRow, String> {
        let mut row = self.bare_row(host, submit);
        if let Ok((warrant, _, _)) = Warrant::parse(&submit.warrant)
            && (warrant.user != submit.owner || warrant.source != host)
        {
            return Err(format!(
                "its warrant is that of {} on {}",
                warrant.user, warrant.source
            ));
        }
        if submit.plan.is_none() || submit.owner.is_empty() {
            return Err("it has no plan or no owner: another version of queue?".to_owned());
        }
        let class = self.fill_class(&mut row.plan)?;
        fill(&mut row.plan, &class)?;
        let tasks = row.plan.array.as_ref().map_or(Ok(1), count_tasks)?;
        if !submit.entries.is_empty() && submit.entries.len() != tasks as usize {
            let n = submit.entries.len();
            return Err(format!("it has {n} entries for {tasks} tasks"));
        }
        let p = &row.plan;
        let names = [
            ("name", &p.name),
            ("group", &p.group),
            ("host", &p.host),
            ("preferred host", &p.prefer),
        ];
        for (what, text) in names.into_iter().chain([("address for mail", &p.mail_to)]) {
            // `queue` refuses these itself; another client may not.
            if text.len() > NAME_MAX || text.chars().any(libqueue::text::is_odd) {
                return Err(format!(
                    "its {what} is longer than {NAME_MAX} bytes, or has characters that cannot be shown"
                ));
            }
        }
        for l in &row.plan.limits {
            if l.name.is_empty() || l.name.chars().any(libqueue::text::is_odd) {
                return Err("a limit needs a name".to_owned());
            }
        }
        let who = Asker {
            user: submit.owner.clone(),
            host: host.to_owned(),
            operator: false,
        };
        row.after = self.resolve(&who, &row.plan.after, row.id)?;
        Ok(row)
    }

    fn fill_class(&self, plan: &mut Plan) -> Result<Class, String> {
        if plan.class.is_empty() {
            BUILT_IN[0].clone_into(&mut plan.class);
        }
        let none = || format!("there is no class \"{}\": see `queue classes`", plan.class);
        self.class(&plan.class).ok_or_else(none)
    }

    /// A class by its name.
    pub(super) fn class(&self, name: &str) -> Option<Class> {
        let built_in = || Class {
            name: name.to_owned(),
            ..Class::default()
        };
        let known = self.classes.get(name).cloned();
        known.or_else(|| BUILT_IN.contains(&name).then(built_in))
    }

    /// The jobs that are meant by `--after`.
    fn resolve(&self, who: &Asker, all: &[After], id: u64) -> Result<Vec<(u64, i32)>, String> {
        let mut found = Vec::new();
        for after in all {
            let Some(which) = &after.jobs else { continue };
            if which.ids.iter().any(|r| r.tasks.is_some()) {
                return Err("it can wait for a whole job only, not for some of its tasks".to_owned());
            }
            for r in &which.ids {
                let to = if r.to == 0 { r.from } else { r.to };
                let live = self.jobs.range(r.from..=to.max(r.from)).map(|(i, _)| *i);
                let past = self
                    .over
                    .range(r.from, to)
                    .filter(|(i, _)| self.over.state(*i).is_some());
                let before = found.len();
                let jobs = live.chain(past.map(|(i, _)| i)).filter(|i| *i != id);
                found.extend(jobs.take(AFTER_MAX + 1).map(|i| (i, after.how)));
                if found.len() == before {
                    return Err(format!("there is no job {} to wait for", r.from));
                }
            }
            for word in which
                .words
                .iter()
                .chain([&which.name, &which.group])
                .filter(|w| !w.is_empty())
            {
                let before = found.len();
                let mine = self.ended.values().chain(self.jobs.values());
                let mine = mine.filter(|j| j.row.owner == who.user && j.row.id != id);
                let named = mine.filter(|j| {
                    let plan = &j.row.plan;
                    (word != &which.group && super::glob(word, &plan.name))
                        || (word != &which.name && super::glob(word, &plan.group))
                });
                found.extend(named.map(|j| (j.row.id, after.how)));
                if found.len() == before {
                    return Err(format!(
                        "none of your jobs, and no group of them, is called \"{word}\""
                    ));
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        if found.len() > AFTER_MAX {
            return Err(format!("it cannot wait for more than {AFTER_MAX} jobs"));
        }
        Ok(found)
    }
}

fn accepted(id: u64) -> down::Kind {
    down::Kind::Accepted(Submitted {
        id,
        existed: false,
        spooled: String::new(),
    })
}

/// The class's defaults, then those of all.
fn fill(plan: &mut Plan, class: &Class) -> Result<(), String> {
    plan.priority = Some(plan.priority.unwrap_or(class.priority));
    plan.retries = Some(plan.retries.unwrap_or(class.retries));
    plan.mail = Some(plan.mail.unwrap_or(class.mail));
    if plan.time_ms == 0 {
        plan.time_ms = class.time_ms;
    }
    if plan.host == "+" {
        plan.host.clear();
    }
    plan.need = Some(need(plan.need.take(), class)?);
    fill_restart(plan, class);
    Ok(())
}

/// Policy and lease.
pub(super) fn fill_restart(plan: &mut Plan, class: &Class) {
    if plan.restart == Restart::Unset as i32 || Restart::try_from(plan.restart).is_err() {
        plan.restart = match Restart::try_from(class.restart) {
            Ok(Restart::Unset) | Err(_) => Restart::Ask as i32,
            Ok(r) => r as i32,
        };
    }
    plan.lease_ms = if plan.restart == Restart::Restart as i32 {
        let said = [plan.lease_ms, class.lease_ms].into_iter().find(|l| *l > 0);
        said.unwrap_or(LEASE).max(LEASE_MIN)
    } else {
        0
    };
}

/// What it needs: what was said, else the class's, else one core.
pub(super) fn need(said: Option<Need>, class: &Class) -> Result<Need, String> {
    let mut need = said.unwrap_or_default();
    let default = class.need.clone().unwrap_or_default();
    if need.cores == 0 {
        need.cores = default.cores.max(1);
    }
    if need.mem == 0 {
        need.mem = default.mem;
    }
    if need.gpus == 0 {
        need.gpus = default.gpus;
    }
    if need.disk == 0 {
        need.disk = default.disk;
    }
    if need.expr.is_empty() {
        need.expr = default.expr;
    }
    // Those are ways around a host's own rules.
    (need.by_name, need.look) = (false, false);
    if !need.expr.is_empty()
        && let Err(e) = Expr::parse(&need.expr)
    {
        return Err(format!(
            "what it needs (\"{}\") is not understood: {e}",
            need.expr
        ));
    }
    Ok(need)
}

fn count_tasks(array: &Array) -> Result<u32, String> {
    let (mut n, mut last) = (0u64, 0u32);
    for r in &array.ranges {
        if r.from == 0 || r.to < r.from {
            return Err(format!(
                "{}-{} is no range of tasks: they are counted from 1",
                r.from, r.to
            ));
        }
        if r.from <= last {
            return Err("the ranges of its tasks overlap, or are not in order".to_owned());
        }
        last = r.to;
        n += u64::from(range_len(r));
    }
    if n == 0 || n > u64::from(TASKS_MAX) {
        return Err(format!("an array has 1 to {TASKS_MAX} tasks, not {n}"));
    }
    Ok(n as u32)
}

/// The command in one line, for lists.
fn command(run: &Run) -> String {
    let mut text = String::new();
    for (i, arg) in run.argv.iter().enumerate() {
        if i > 0 {
            text.push(' ');
        }
        let arg = String::from_utf8_lossy(arg);
        text.extend(
            arg.chars()
                .map(|c| if libqueue::text::is_odd(c) { ' ' } else { c })
                .take(COMMAND + 1),
        );
        if text.len() > 4 * COMMAND {
            break;
        }
    }
    if text.chars().count() > COMMAND {
        text = text.chars().take(COMMAND - 1).collect();
        text.push('…');
    }
    text
}
