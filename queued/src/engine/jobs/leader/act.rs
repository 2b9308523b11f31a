//! What people do with jobs: kill, hold, suspend, retry, delete, modify and their opposites. Owners and operators
//! may; each job is reported by itself. One pass over the jobs that are meant.

use super::submit::{fill_restart, need};
use super::table::{DELETED, Phase, Stage};
use super::{Leader, LeaderEffect, Timer, keys_of};
use crate::engine::jobs::post::EventKind;
use crate::engine::jobs::select::Picked;
use crate::engine::jobs::types::Asker;
use crate::engine::types::AskId;
use crate::store::Op;
use libqueue::wire::Need;
use libqueue::wire::job::{
    Act, Acted, Cause, Change, Deed, IdRange, Key, KillAttempt, Outcome, Restart, Selection, State, down,
    job_reply,
};

/// Lines of an answer.
const LINES: usize = 100;
/// Stops a tree, and lets it go on.
const SIGSTOP: u32 = 19;
const SIGCONT: u32 = 18;

type Said = Result<String, String>;

/// What is said of numbers that no job has.
fn absent_text(range: &IdRange) -> String {
    format!(
        "there is no job {}: `queue jobs` lists them",
        libqueue::job::typed(range)
    )
}

/// What is asked besides which jobs.
struct Wish<'a> {
    by: String,
    act: &'a Act,
}

impl Leader {
    /// Does it, and answers once it is on disk.
    pub(super) fn act(&mut self, ask: AskId, who: &Asker, act: Act, out: &mut Vec<LeaderEffect>) {
        let deed = Deed::try_from(act.deed).unwrap_or(Deed::Unknown);
        let which = act.which.clone().unwrap_or_default();
        let named = !which.ids.is_empty();
        let ended = named || !which.states.is_empty() || matches!(deed, Deed::Retry | Deed::Delete);
        let found = self.select(who, &which, true, ended);
        let wish = Wish {
            by: format!("{}@{}", who.user, who.host),
            act: &act,
        };
        let mut acted = Acted::default();
        // Only numbers: what is not found has no such task. A job that is no array has none.
        let numbers = Selection {
            ids: which.ids.clone(),
            ..Selection::default()
        };
        for range in which.ids.iter().filter(|r| r.tasks.is_some()) {
            let gone = found.jobs.iter().all(|p| p.job != range.from) && self.job(range.from).is_some();
            if gone && which == numbers && acted.failed.len() < LINES {
                acted.failed.push(absent_text(range));
            }
        }
        for range in &found.rest {
            self.not_here(*range, who, deed, found.jobs.is_empty(), &mut acted, out);
        }
        for picked in &found.jobs {
            let Some(job) = self.job(picked.job) else { continue };
            let said = if job.row.owner != who.user && !who.operator {
                Err(format!("it is a job of {}", job.row.owner))
            } else {
                match deed {
                    Deed::Kill if act.signal != 0 => self.signal(picked, act.signal, &wish, out),
                    Deed::Kill => self.kill(picked, &wish, out),
                    Deed::Hold => self.hold(picked, &wish, out),
                    Deed::Release => self.release(picked, out),
                    Deed::Suspend => self.signal(picked, SIGSTOP, &wish, out),
                    Deed::Resume => self.signal(picked, SIGCONT, &wish, out),
                    Deed::Retry => self.retry(picked, &wish, out),
                    Deed::Delete => self.delete(picked, out),
                    Deed::Modify => self.modify(picked, act.change.as_ref(), out),
                    Deed::Unknown => Err("nobody said what to do: another version of queue?".to_owned()),
                }
            };
            match said {
                Ok(line) => {
                    acted.number += picked.tasks.as_ref().map_or(1, |t| t.len() as u64);
                    if acted.lines.len() < LINES {
                        acted.lines.push(format!("{}: {line}", picked.job));
                    }
                }
                // Whoever says "all" means those that it can be done with.
                Err(text) if named && acted.failed.len() < LINES => {
                    acted.failed.push(format!("{}: {text}", picked.job));
                }
                Err(_) => {}
            }
        }
        out.push(LeaderEffect::Reply {
            ask,
            reply: job_reply::Kind::Acted(acted),
            last: true,
        });
    }

    /// Numbers that are not in memory.
    fn not_here(
        &mut self,
        range: IdRange,
        who: &Asker,
        deed: Deed,
        nothing: bool,
        acted: &mut Acted,
        out: &mut Vec<LeaderEffect>,
    ) {
        let past = self.over.range(range.from, range.to).map(|(id, _)| id);
        let past: Vec<u64> = past.filter(|id| self.over.state(*id).is_some()).collect();
        let single = range.from == range.to;
        for id in past {
            if deed == Deed::Delete && who.operator {
                self.over.set(id, DELETED);
                self.drop_deliveries(id, out);
                out.push(LeaderEffect::Store(Op::Delete(id)));
                acted.number += 1;
                if acted.lines.len() < LINES {
                    acted.lines.push(format!("{id}: deleted"));
                }
            } else if acted.failed.len() < LINES {
                let text = match deed {
                    Deed::Delete => "it ended long ago: only an operator can delete it now",
                    Deed::Retry => "it ended long ago: submit it again",
                    _ => "it has ended",
                };
                acted.failed.push(format!("{id}: {text}"));
            }
        }
        let absent = single && self.over.state(range.from).is_none();
        if (absent || (nothing && acted.failed.is_empty() && acted.number == 0)) && acted.failed.len() < LINES
        {
            acted.failed.push(absent_text(&range));
        }
    }

    /// Tasks that are meant and have an attempt somewhere.
    fn out_of(&self, picked: &Picked) -> Vec<u32> {
        let Some(job) = self.jobs.get(&picked.job) else {
            return Vec::new();
        };
        match &picked.tasks {
            None => job.tasks.out().collect(),
            Some(list) => list
                .iter()
                .copied()
                .filter(|i| job.tasks.stage(*i).is_out())
                .collect(),
        }
    }

    /// Tasks that are meant and are at such a stage.
    fn at_stage(&self, picked: &Picked, wanted: impl Fn(Stage) -> bool) -> Vec<u32> {
        let Some(job) = self.job(picked.job) else {
            return Vec::new();
        };
        match &picked.tasks {
            None => {
                let all = (0..).zip(job.tasks.stages());
                all.filter(|(_, s)| wanted(**s)).map(|(i, _)| i).collect()
            }
            Some(list) => list
                .iter()
                .copied()
                .filter(|i| wanted(job.tasks.stage(*i)))
                .collect(),
        }
    }

    fn words(&self, picked: &Picked, n: usize, what: &str) -> String {
        let array = self.job(picked.job).is_some_and(|j| j.tasks.is_array());
        match n {
            _ if !array => what.to_owned(),
            1 => format!("1 task {what}"),
            n => format!("{n} tasks {what}"),
        }
    }

    fn kill(&mut self, picked: &Picked, wish: &Wish<'_>, out: &mut Vec<LeaderEffect>) -> Said {
        let id = picked.job;
        if self.jobs.get(&id).is_none_or(|j| j.ended.is_some()) {
            return Err("it has ended".to_owned());
        }
        let going = self.out_of(picked);
        let reason = format!("killed by {}", wish.by);
        let waiting = match &picked.tasks {
            None => self.end_rest(id, Stage::Killed, reason, out) as usize,
            Some(_) => {
                let rest = self.at_stage(picked, |s| !s.is_over() && !s.is_out());
                for index in &rest {
                    self.stage(id, *index, Stage::Killed);
                    self.write_task(id, *index, out);
                }
                rest.len()
            }
        };
        for index in &going {
            self.kill_out(id, *index, wish, out);
        }
        if waiting + going.len() == 0 {
            return Err("it has ended".to_owned());
        }
        let runs = self.at_stage(picked, |s| s.is_out()).len();
        if waiting > 0 {
            let outcome = Outcome {
                cause: Cause::Killed as i32,
                text: format!("killed by {}", wish.by),
                ..Outcome::default()
            };
            let key = Key {
                job: id,
                task: 0,
                attempt: 0,
            };
            let array = self.jobs.get(&id).is_some_and(|j| j.tasks.is_array());
            if !array && going.is_empty() {
                self.keep_fate(id, 0, &outcome, "");
            }
            self.tell(EventKind::Ended, key, Some(&outcome), State::Killed, "");
        }
        let what = if runs > 0 { "being killed" } else { "killed" };
        let said = self.words(picked, waiting + going.len(), what);
        self.look_over(id, out);
        Ok(said)
    }

    /// Ends an attempt that is somewhere. That it is to end is written down: a later leader knows it, too.
    fn kill_out(&mut self, id: u64, index: u32, wish: &Wish<'_>, out: &mut Vec<LeaderEffect>) {
        let Some(job) = self.jobs.get(&id) else { return };
        let (key, lost) = (job.key(index), job.tasks.stage(index) == Stage::Lost);
        let row = crate::store::TaskRow {
            state: State::Killed as i32,
            ..job.task_row(index)
        };
        let Some(live) = self.live.get_mut(&key) else {
            return;
        };
        let kill = KillAttempt {
            key: Some(key),
            signal: 0,
            by: wish.by.clone(),
            cause: Cause::Killed as i32,
        };
        live.kill = Some(kill.clone());
        live.old = lost;
        let host = live.row.host.clone();
        out.push(LeaderEffect::Store(Op::Task(row)));
        if lost {
            self.stage(id, index, Stage::Killed);
            self.tell(EventKind::Ended, key, None, State::Killed, &host);
        }
        if let Some(link) = self.hosts.get(&host).and_then(|h| h.link.as_ref()) {
            out.push(LeaderEffect::Send {
                conn: link.conn,
                message: down::Kind::Kill(kill),
            });
        }
    }

    /// Sends a signal to what runs.
    fn signal(&mut self, picked: &Picked, signal: u32, wish: &Wish<'_>, out: &mut Vec<LeaderEffect>) -> Said {
        let mut sent = 0;
        let mut away = None;
        for index in self.out_of(picked) {
            let Some(key) = self.jobs.get(&picked.job).map(|j| j.key(index)) else {
                continue;
            };
            let Some(live) = self.live.get(&key) else { continue };
            let fits = match signal {
                SIGSTOP => live.phase == Phase::Running,
                // It may have been asked to stop a moment ago, and not have said that it has.
                _ => live.phase != Phase::Sent,
            };
            if !fits {
                continue;
            }
            let Some(link) = self.hosts.get(&live.row.host).and_then(|h| h.link.as_ref()) else {
                away = Some(live.row.host.clone());
                continue;
            };
            sent += 1;
            out.push(LeaderEffect::Send {
                conn: link.conn,
                message: down::Kind::Kill(KillAttempt {
                    key: Some(key),
                    signal,
                    by: wish.by.clone(),
                    cause: Cause::Signal as i32,
                }),
            });
        }
        let what = match signal {
            SIGSTOP => "suspended".to_owned(),
            SIGCONT => "resumed".to_owned(),
            n => format!("sent signal {n}"),
        };
        match (sent, away) {
            (0, Some(host)) => Err(format!("its host {host} cannot be reached now")),
            (0, None) => Err("it does not run".to_owned()),
            (n, _) => Ok(self.words(picked, n, &what)),
        }
    }

    fn hold(&mut self, picked: &Picked, wish: &Wish<'_>, out: &mut Vec<LeaderEffect>) -> Said {
        let id = picked.job;
        let wall = self.clock.wall;
        let Some(job) = self.jobs.get_mut(&id).filter(|j| j.ended.is_none()) else {
            return Err("it has ended".to_owned());
        };
        if picked.tasks.is_some() {
            let list = self.at_stage(picked, |s| s.is_idle() || s == Stage::Back);
            for index in &list {
                self.stage(id, *index, Stage::Held);
                self.write_task(id, *index, out);
            }
            self.tally(id);
            return match list.len() {
                0 => Err("none of these tasks waits".to_owned()),
                n => Ok(self.words(picked, n, "held")),
            };
        }
        if !job.row.held.is_empty() {
            return Err(format!("{} holds it already", job.row.held));
        }
        let was = job.blocked(wall);
        job.row.held = wish.by.clone();
        out.push(LeaderEffect::Store(Op::Row(Box::new(job.row.clone()))));
        self.unblocked(id, was);
        self.revoke_all(id, out);
        Ok("held".to_owned())
    }

    /// Asks back what has not started.
    fn revoke_all(&mut self, id: u64, out: &mut Vec<LeaderEffect>) {
        let keys: Vec<Key> = self.live.range(keys_of(id)).map(|(k, _)| *k).collect();
        for key in keys {
            self.revoke(key, out);
        }
    }

    fn release(&mut self, picked: &Picked, out: &mut Vec<LeaderEffect>) -> Said {
        let id = picked.job;
        let clock = self.clock;
        if self.jobs.get(&id).is_none_or(|j| j.ended.is_some()) {
            return Err("it has ended".to_owned());
        }
        let list = self.at_stage(picked, |s| s == Stage::Held);
        for index in &list {
            let due = self.jobs.get(&id).and_then(|j| j.tasks.extra(*index));
            let due = due
                .filter(|e| e.not_before_ms > 0 && e.due > clock.boot)
                .map(|e| e.due);
            match due {
                Some(due) => {
                    self.stage(id, *index, Stage::Back);
                    self.timer(due, Timer::Back(id, *index));
                }
                None => self.stage(id, *index, Stage::Again),
            }
            self.write_task(id, *index, out);
        }
        self.tally(id);
        let Some(job) = self.jobs.get_mut(&id) else {
            return Err("it has ended".to_owned());
        };
        if picked.tasks.is_none() && !job.row.held.is_empty() {
            let was = job.blocked(clock.wall);
            job.row.held.clear();
            out.push(LeaderEffect::Store(Op::Row(Box::new(job.row.clone()))));
            self.unblocked(id, was);
            return Ok("released".to_owned());
        }
        match list.len() {
            0 if !job.row.held.is_empty() => Err(format!(
                "its job is held as a whole: queue release {id} releases all of it"
            )),
            0 => Err("it is not held".to_owned()),
            n => Ok(self.words(picked, n, "released")),
        }
    }

    fn retry(&mut self, picked: &Picked, wish: &Wish<'_>, out: &mut Vec<LeaderEffect>) -> Said {
        let id = picked.job;
        let Some(job) = self.job(id) else {
            return Err("it has ended".to_owned());
        };
        if job.row.reason.starts_with("rejected: ") {
            return Err("it was rejected: submit it again".to_owned());
        }
        let bad = |s| {
            matches!(
                s,
                Stage::Buried | Stage::Failed | Stage::Killed | Stage::Lost | Stage::Back
            )
        };
        let list = self.at_stage(picked, bad);
        if list.is_empty() {
            let well = self.job(id).is_some_and(|j| j.tasks.all_over());
            return Err(if well { "it ended well" } else { "it has not ended" }.to_owned());
        }
        let mut again = Vec::with_capacity(list.len());
        let mut doubtful = None;
        for index in list {
            match self.may_run_again(id, index, wish, out) {
                Ok(()) => again.push(index),
                Err(host) => doubtful = Some(host),
            }
        }
        if again.is_empty() {
            let host = doubtful.unwrap_or_default();
            return Err(format!(
                "it may still run on {host}: say --confirm-dead if {host} is dead, or --may-double"
            ));
        }
        self.start_again(id, &again, out);
        Ok(self.words(picked, again.len(), "to be run again"))
    }

    /// Whether nothing of a task may still run; else the host where it may.
    fn may_run_again(
        &mut self,
        id: u64,
        index: u32,
        wish: &Wish<'_>,
        out: &mut Vec<LeaderEffect>,
    ) -> Result<(), String> {
        let Some(task) = self.job(id).map(|j| j.tasks.number(index)) else {
            return Ok(());
        };
        let key = |attempt| Key {
            job: id,
            task,
            attempt,
        };
        let live: Vec<Key> = self.live.range(key(0)..=key(u32::MAX)).map(|(k, _)| *k).collect();
        for key in live {
            let Some(attempt) = self.live.get_mut(&key) else {
                continue;
            };
            let host = attempt.row.host.clone();
            let state = self.hosts.get(&host);
            let dead = state.is_none_or(|h| h.dead && !h.member);
            if wish.act.confirm_dead && attempt.lost || dead {
                let outcome = Outcome {
                    cause: Cause::HostLost as i32,
                    text: if dead {
                        format!("{host} is no longer a member")
                    } else {
                        format!("{} says that {host} is dead", wish.by)
                    },
                    ..Outcome::default()
                };
                // The job stays here while it is done: it is to be run again.
                attempt.old = false;
                self.end_for_retry(key, index, &outcome, out);
            } else if wish.act.may_double {
                attempt.old = true;
                // A number is left out: whoever reads the store sees that this attempt does not count.
                if let Some(job) = self.jobs.get_mut(&id) {
                    let extra = job.tasks.extra_mut(index);
                    extra.attempt = extra.attempt.max(key.attempt + 1);
                }
            } else {
                return Err(host);
            }
        }
        Ok(())
    }

    fn end_for_retry(&mut self, key: Key, index: u32, outcome: &Outcome, out: &mut Vec<LeaderEffect>) {
        // Not over before it is looked at again: `start_again` follows.
        if let Some(job) = self.jobs.get_mut(&key.job) {
            job.ended = None;
        }
        self.end_attempt(key, outcome, Some(Stage::Again), out);
        self.stage(key.job, index, Stage::Again);
    }

    /// Puts tasks back to where they can be sent, with all their retries.
    fn start_again(&mut self, id: u64, list: &[u32], out: &mut Vec<LeaderEffect>) {
        if !self.take_back(id) {
            return;
        }
        let Some(job) = self.jobs.get(&id) else { return };
        out.push(LeaderEffect::Store(Op::Row(Box::new(job.row.clone()))));
        let identity = job.row.identity.clone();
        if !identity.is_empty() {
            self.identities.insert(identity, (id, 0));
        }
        for index in list {
            if let Some(job) = self.jobs.get_mut(&id)
                && job.tasks.extra(*index).is_some()
            {
                let extra = job.tasks.extra_mut(*index);
                (extra.failures, extra.troubles, extra.not_before_ms, extra.due) = (0, 0, 0, 0);
            }
            self.stage(id, *index, Stage::Again);
            self.write_task(id, *index, out);
        }
        self.tally(id);
        self.dirty.insert(id);
    }

    fn delete(&mut self, picked: &Picked, out: &mut Vec<LeaderEffect>) -> Said {
        let id = picked.job;
        if picked.tasks.is_some() {
            return Err("only a whole job can be deleted".to_owned());
        }
        if self.jobs.get(&id).is_some_and(|j| j.live > 0) {
            return Err("it runs: kill it first".to_owned());
        }
        if let Some(job) = self.jobs.get(&id) {
            // The file that was made to find out who sees the directory: once, because nothing of the job is left that
            // could be tried again.
            let made = job.row.home_hosts.first() == Some(&job.row.submit_host);
            let link = self.hosts.get(&job.row.submit_host).and_then(|h| h.link.as_ref());
            if let Some(link) = link.filter(|_| made) {
                out.push(LeaderEffect::Deliver {
                    conn: link.conn,
                    job: id,
                    from: String::new(),
                    number: 0,
                });
            }
            self.remove(id);
        } else {
            self.delete_ended(id);
            // Who waits for it has nothing to wait for any more.
            self.changes.push(super::Change {
                job: id,
                task: 0,
                before: State::Unknown,
                after: State::Unknown,
                attempt: 0,
            });
        }
        self.over.set(id, DELETED);
        self.drop_deliveries(id, out);
        out.push(LeaderEffect::Store(Op::Delete(id)));
        Ok("deleted".to_owned())
    }

    /// Takes a job out of all tables; those that wait for it are told that it will not run.
    fn remove(&mut self, id: u64) {
        self.withdraw(id);
        let wall = self.clock.wall;
        if let Some(job) = self.jobs.get_mut(&id) {
            let (before, array) = (job.state(wall), job.tasks.is_array());
            self.changes.push(super::Change {
                job: id,
                task: 0,
                before,
                after: State::Unknown,
                attempt: if array { 0 } else { job.key(0).attempt },
            });
        }
        self.uncount(id);
        let Some(job) = self.jobs.remove(&id) else { return };
        for (before, _) in &job.row.after {
            if let Some(d) = self.dependants.get_mut(before) {
                d.remove(&id);
            }
        }
        self.forget_child(&job);
        if self.identities.get(&job.row.identity).is_some_and(|k| k.0 == id) {
            self.identities.remove(&job.row.identity);
        }
        self.news.push_back((id, State::Killed));
    }

    /// A job does not count in its group until it is counted again.
    fn uncount(&mut self, id: u64) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let name = (job.row.owner.clone(), job.row.plan.group.clone());
        if !std::mem::replace(&mut job.quiet, true)
            && let Some(n) = self.groups.get_mut(&name)
        {
            *n -= 1;
            if *n == 0 {
                self.groups.remove(&name);
            }
        }
    }

    fn modify(&mut self, picked: &Picked, change: Option<&Change>, out: &mut Vec<LeaderEffect>) -> Said {
        let id = picked.job;
        let Some(change) = change.filter(|c| **c != Change::default()) else {
            return Err("nobody said what to change".to_owned());
        };
        if picked.tasks.is_some() {
            return Err("only a whole job can be changed".to_owned());
        }
        let Some(job) = self.jobs.get(&id).filter(|j| j.ended.is_none()) else {
            return Err("it has ended".to_owned());
        };
        let mut plan = job.row.plan.clone();
        let class = change.class.as_ref().unwrap_or(&plan.class).clone();
        if change.class.is_some() && job.live > 0 {
            return Err("something of it runs: its class can be changed while it waits".to_owned());
        }
        let Some(class) = self.class(&class) else {
            return Err(format!("there is no class \"{class}\": see `queue classes`"));
        };
        if let Some(at_once) = change.at_once {
            let Some(array) = &mut plan.array else {
                return Err("it is no array".to_owned());
            };
            array.at_once = at_once;
        }
        if let Some(said) = &change.need {
            let said = amended(plan.need.take().unwrap_or_default(), said);
            plan.need = Some(need(Some(said), &class)?);
        }
        if let Some(restart) = change.restart {
            if Restart::try_from(restart).is_err() {
                return Err("there is no such restart policy".to_owned());
            }
            plan.restart = restart;
            fill_restart(&mut plan, &class);
        }
        plan.class = class.name;
        plan.priority = change.priority.or(plan.priority);
        plan.retries = change.retries.or(plan.retries);
        plan.mail = change.mail.or(plan.mail);
        plan.time_ms = change.time_ms.unwrap_or(plan.time_ms);
        plan.at_ms = change.at_ms.unwrap_or(plan.at_ms);
        if let Some(name) = &change.name {
            plan.name.clone_from(name);
        }
        if let Some(group) = &change.group {
            plan.group.clone_from(group);
        }
        if let Some(host) = &change.host {
            plan.host = if host == "+" { String::new() } else { host.clone() };
        }
        let again = change.need.is_some() || change.host.is_some() || change.time_ms.is_some();
        self.replace_plan(id, plan, out);
        if again {
            self.revoke_all(id, out);
        }
        Ok("changed".to_owned())
    }

    fn replace_plan(&mut self, id: u64, plan: libqueue::wire::job::Plan, out: &mut Vec<LeaderEffect>) {
        let wall = self.clock.wall;
        // Its place depends on what is changed: it leaves as what it was.
        self.withdraw(id);
        self.uncount(id);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let was = job.blocked(wall);
        if plan.at_ms > wall {
            self.at.insert((plan.at_ms, id));
        }
        job.row.plan = plan;
        out.push(LeaderEffect::Store(Op::Row(Box::new(job.row.clone()))));
        self.tally(id);
        self.unblocked(id, was);
    }
}

/// A need of which something was changed: the rest stays.
fn amended(old: Need, said: &Need) -> Need {
    let or = |new: u64, old: u64| if new > 0 { new } else { old };
    Need {
        cores: if said.cores > 0 { said.cores } else { old.cores },
        mem: or(said.mem, old.mem),
        gpus: if said.gpus > 0 { said.gpus } else { old.gpus },
        disk: or(said.disk, old.disk),
        expr: if said.expr.is_empty() {
            old.expr
        } else {
            said.expr.clone()
        },
        ..old
    }
}
