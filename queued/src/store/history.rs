//! Answers from the store: what has ended, and what the leader does not keep in memory. Knows rows and messages; not
//! where the rows are kept.

use super::filter::{self, Filter, private, veil};
use super::source::{Record, Source, Span, in_range};
use super::{JobRow, StoreError, stats};
use crate::engine::jobs::types::{Asker, Read};
use libqueue::job::exit_code;
use libqueue::wire::job::{
    Count, Detail, Details, History, IdRange, Job, Key, Output, Outputs, Over, Page, Run, State, TaskRange,
    Tried, job_reply,
};
use prost::Message as _;
use std::collections::{BTreeMap, BTreeSet};

/// Jobs on a page, if nothing is said, and at most.
const PAGE: u32 = 100;
const PAGE_MAX: u32 = 10_000;
/// Attempts shown of one job.
const ATTEMPTS: usize = 100;
/// Jobs or tasks of which everything is told at once.
const DETAILS: usize = 1_000;
/// Outputs that are told at once.
const OUTPUTS: usize = 10_000;
/// Bad ends that are named.
const BAD: usize = 20;

/// Completes an answer.
pub(super) fn answer(
    source: &dyn Source,
    who: &Asker,
    read: Read,
    reply: &mut dyn FnMut(job_reply::Kind),
) -> Result<(), StoreError> {
    reply(match read {
        Read::History(ask) => job_reply::Kind::Page(history(source, who, &ask)?),
        Read::Details { found, ids } => job_reply::Kind::Details(details(source, who, found, &ids)?),
        Read::Outputs { found, ids } => job_reply::Kind::Outputs(outputs(source, who, found, &ids)?),
        Read::Stats(known) => job_reply::Kind::Stats(stats::stats(source, known)?),
        Read::Over { over, ids } => job_reply::Kind::Over(end(source, who, over, &ids)?),
        Read::Export => job_reply::Kind::Over(Over::default()),
    });
    Ok(())
}

/// A job as a list shows it.
fn listed(j: &JobRow, who: &Asker, task: u32, attempts: u32, started: u64, last: Option<&Record>) -> Job {
    let private = private(who, &j.owner);
    let outcome = last.and_then(|r| r.outcome.clone());
    Job {
        id: j.id,
        task,
        user: j.owner.clone(),
        name: j.plan.name.clone(),
        group: j.plan.group.clone(),
        class: j.plan.class.clone(),
        state: j.state,
        reason: j.reason.clone(),
        priority: j.plan.priority.unwrap_or(0),
        submitted_ms: j.submitted_ms,
        started_ms: started,
        ended_ms: j.ended_ms,
        host: last.map(|r| r.row.host.clone()).unwrap_or_default(),
        attempts,
        outcome: outcome.map(|o| if private { o } else { veil(o) }),
        counts: Vec::new(),
        command: if private { j.command.clone() } else { String::new() },
        submit_host: j.submit_host.clone(),
        need: j.plan.need.clone(),
    }
}

/// Number of an array's tasks.
fn size(j: &JobRow) -> u64 {
    let ranges = j.plan.array.iter().flat_map(|a| &a.ranges);
    ranges
        .filter(|r| r.from <= r.to)
        .map(|r| u64::from((r.to - r.from) / r.step.max(1)) + 1)
        .sum()
}

/// Tasks by state. Those that nothing was written of share the state of their job.
fn counts(source: &dyn Source, j: &JobRow, only: Option<&TaskRange>) -> Result<Vec<Count>, StoreError> {
    let mut by: BTreeMap<i32, u64> = BTreeMap::new();
    let mut written = 0;
    source.tasks(j.id, &mut |t| {
        if t.task != 0 && in_range(only, t.task) {
            *by.entry(t.state).or_default() += 1;
            written += 1;
        }
        Ok(true)
    })?;
    let all = only.map_or_else(
        || size(j),
        |r| u64::from((r.to - r.from.min(r.to)) / r.step.max(1)) + 1,
    );
    let rest = all.min(size(j)).saturating_sub(written);
    if rest > 0 {
        *by.entry(j.state).or_default() += rest;
    }
    Ok(by
        .into_iter()
        .map(|(state, number)| Count { state, number })
        .collect())
}

/// A job with what its attempts tell.
fn full(source: &dyn Source, who: &Asker, j: &JobRow) -> Result<Job, StoreError> {
    let (n, started, last) = source.summary(j.id, None)?;
    let array = j.plan.array.is_some();
    let mut job = listed(j, who, 0, n, started, last.as_ref());
    if array {
        job.counts = counts(source, j, None)?;
        job.outcome = None;
    }
    Ok(job)
}

/// A page of what ended.
fn history(source: &dyn Source, who: &Asker, ask: &History) -> Result<Page, StoreError> {
    let filter = Filter::new(who, ask);
    let span = Span {
        since: ask.since_ms,
        until: match ask.until_ms {
            0 => u64::MAX,
            n => n,
        },
    };
    let limit = match ask.limit {
        0 => PAGE,
        n => n.min(PAGE_MAX),
    } as usize;
    let mut page = Page {
        now_ms: source.now_ms(),
        ..Page::default()
    };
    let mut chosen: Vec<JobRow> = Vec::new();
    if ask.attempts {
        source.ended(span, filter.owner(), &mut |(j, r)| {
            let state = r.outcome.as_ref().map_or(State::Unknown, filter::attempt_state) as i32;
            if filter.job(&j, Some(r.row.key.task), state) && filter.attempt(&j, Some(&r)) {
                if page.total >= ask.offset && page.jobs.len() < limit {
                    let started = r.outcome.as_ref().map_or(0, |o| o.started_ms);
                    let mut job = listed(&j, who, r.row.key.task, r.row.key.attempt, started, Some(&r));
                    job.state = state;
                    job.ended_ms = r.ended_ms;
                    page.jobs.push(job);
                }
                page.total += 1;
            }
            Ok(true)
        })?;
        return Ok(page);
    }
    source.over(span, filter.owner(), &mut |j| {
        let last = match filter.job(&j, None, j.state) {
            false => return Ok(true),
            true if filter.deep() => source.summary(j.id, None)?.2,
            true => None,
        };
        if !filter.deep() || filter.attempt(&j, last.as_ref()) {
            if page.total >= ask.offset && chosen.len() < limit {
                chosen.push(j);
            }
            page.total += 1;
        }
        Ok(true)
    })?;
    for j in &chosen {
        page.jobs.push(full(source, who, j)?);
    }
    Ok(page)
}

/// An attempt as people see it.
fn tried(r: Record, private: bool) -> Tried {
    Tried {
        key: Some(r.row.key),
        host: r.row.host,
        sent_ms: r.row.sent_ms,
        ended_ms: r.ended_ms,
        outcome: r.outcome.map(|o| if private { o } else { veil(o) }),
        running: None,
    }
}

/// Adds what the store knows of a job's attempts to what is known already; oldest first.
fn attempts(
    source: &dyn Source,
    d: &mut Detail,
    id: u64,
    tasks: Option<&TaskRange>,
    private: bool,
) -> Result<(), StoreError> {
    for r in source.latest(id, tasks, ATTEMPTS)? {
        match d.attempts.iter_mut().find(|t| t.key == Some(r.row.key)) {
            Some(t) => {
                let stored = tried(r, private);
                t.host = stored.host;
                t.sent_ms = stored.sent_ms;
                t.ended_ms = stored.ended_ms;
                t.outcome = stored.outcome.or(t.outcome.take());
            }
            None => d.attempts.push(tried(r, private)),
        }
    }
    d.attempts
        .sort_by_key(|t| (t.sent_ms, t.key.map(|k| (k.task, k.attempt))));
    let surplus = d.attempts.len().saturating_sub(ATTEMPTS);
    d.attempts.drain(..surplus);
    Ok(())
}

/// Where spooled output is now, in words.
fn home(source: &dyn Source, id: u64) -> Result<String, StoreError> {
    let words = source
        .homes(id)?
        .into_iter()
        .filter(|(d, _)| !d.from.is_empty())
        .map(|(d, why)| match why {
            None => format!("on {}, being brought to {}", d.from, d.to),
            Some(why) if why.is_empty() => format!("brought from {} to {}", d.from, d.to),
            Some(why) => format!("still on {}: {why}", d.from),
        });
    Ok(words.collect::<Vec<_>>().join("; "))
}

fn decoded(source: &dyn Source, id: u64) -> Result<Option<Run>, StoreError> {
    Ok(source.run(id)?.and_then(|r| Run::decode(&r.run[..]).ok()))
}

fn details(
    source: &dyn Source,
    who: &Asker,
    found: Vec<(Detail, bool)>,
    ids: &[IdRange],
) -> Result<Details, StoreError> {
    let mut all = Details::default();
    let mut known = BTreeSet::new();
    for (mut d, private) in found {
        let (id, task) = d.job.as_ref().map_or((0, 0), |j| (j.id, j.task));
        known.insert((id, task));
        let one = TaskRange {
            from: task,
            to: task,
            step: 1,
        };
        let array = d.job.as_ref().is_some_and(|j| !j.counts.is_empty());
        let tasks = (task != 0 || !array).then_some(&one);
        attempts(source, &mut d, id, tasks, private)?;
        if private && d.run.is_none() {
            d.run = decoded(source, id)?;
        }
        if d.home.is_empty() {
            d.home = home(source, id)?;
        }
        bring(source, id, &mut d)?;
        all.jobs.push(d);
    }
    for range in ids {
        source.jobs(range.from, range.to, &mut |j| {
            if !may_have(range, &j) {
                return Ok(true);
            }
            let numbers: Vec<u32> = match range.tasks {
                Some(t) => (t.from..=t.to)
                    .step_by(t.step.max(1) as usize)
                    .take(DETAILS)
                    .collect(),
                None => vec![0],
            };
            for task in numbers {
                if all.jobs.len() < DETAILS && known.insert((j.id, task)) {
                    all.jobs.extend(detail(source, who, &j, task)?);
                }
            }
            Ok(all.jobs.len() < DETAILS)
        })?;
    }
    Ok(all)
}

/// Everything about a job that is not in memory, or one of its tasks, if it has such a task.
fn detail(source: &dyn Source, who: &Asker, j: &JobRow, task: u32) -> Result<Option<Detail>, StoreError> {
    let private = private(who, &j.owner);
    let one = TaskRange {
        from: task,
        to: task,
        step: 1,
    };
    let mut d = Detail {
        plan: Some(j.plan.clone()),
        home: home(source, j.id)?,
        ..Detail::default()
    };
    if task == 0 {
        d.job = Some(full(source, who, j)?);
    } else {
        let ranges = j.plan.array.iter().flat_map(|a| &a.ranges);
        if !ranges.into_iter().any(|r| in_range(Some(r), task)) {
            return Ok(None);
        }
        let (n, started, last) = source.summary(j.id, Some(task))?;
        let mut job = listed(j, who, task, n, started, last.as_ref());
        let mut state = j.state;
        source.tasks(j.id, &mut |t| {
            if t.task == task {
                state = t.state;
            }
            Ok(t.task < task)
        })?;
        job.state = state;
        job.ended_ms = last.map_or(j.ended_ms, |r| r.ended_ms);
        d.job = Some(job);
    }
    let array = j.plan.array.is_some();
    attempts(
        source,
        &mut d,
        j.id,
        (task != 0 || !array).then_some(&one),
        private,
    )?;
    if private {
        d.run = decoded(source, j.id)?;
    }
    bring(source, j.id, &mut d)?;
    Ok(Some(d))
}

fn outputs(
    source: &dyn Source,
    who: &Asker,
    found: Vec<Output>,
    ids: &[IdRange],
) -> Result<Outputs, StoreError> {
    let mut all = found;
    let known: BTreeSet<(u64, u32)> = all
        .iter()
        .filter_map(|o| o.key)
        .map(|k| (k.job, k.task))
        .collect();
    for range in ids {
        source.jobs(range.from, range.to, &mut |j| {
            if !may_have(range, &j) {
                return Ok(true);
            }
            if !private(who, &j.owner) {
                return Ok(true);
            }
            let mut states = BTreeMap::new();
            source.tasks(j.id, &mut |t| {
                states.insert(t.task, t.state);
                Ok(true)
            })?;
            let homes = source.homes(j.id)?;
            let brought = |host: &str| {
                homes
                    .iter()
                    .find(|(d, why)| d.from == host && why.as_deref() == Some(""))
            };
            let cwd = if homes.is_empty() {
                None
            } else {
                decoded(source, j.id)?.map(|r| r.cwd)
            };
            let mut any = false;
            source.last(j.id, range.tasks.as_ref(), &mut |r| {
                any = true;
                let key = r.row.key;
                if known.contains(&(key.job, key.task)) {
                    return Ok(true);
                }
                let o = r.outcome.unwrap_or_default();
                let mut out = Output {
                    key: Some(key),
                    host: r.row.host,
                    path: o.output.clone(),
                    spooled: o.spooled,
                    state: states.get(&key.task).copied().unwrap_or(j.state),
                    error: o.error.clone(),
                    outcome: (r.ended_ms != 0).then_some(o),
                    place: None,
                };
                if out.path.is_empty() && out.error.is_empty() {
                    out.host.clear();
                } else if let Some((d, _)) = out.spooled.then(|| brought(&out.host)).flatten() {
                    out.host.clone_from(&d.to);
                    out.spooled = false;
                    let cwd = cwd.as_deref().unwrap_or_default();
                    out.path = moved(cwd, &out.path);
                    out.error = moved(cwd, &out.error);
                }
                all.push(out);
                Ok(all.len() < OUTPUTS)
            })?;
            if !any && !known.contains(&(j.id, 0)) {
                all.push(Output {
                    key: Some(Key {
                        job: j.id,
                        task: 0,
                        attempt: 0,
                    }),
                    state: j.state,
                    ..Output::default()
                });
            }
            Ok(all.len() < OUTPUTS)
        })?;
    }
    Ok(Outputs { outputs: all })
}

/// Has the attempts whose output was brought home say where it is now.
fn bring(source: &dyn Source, id: u64, d: &mut Detail) -> Result<(), StoreError> {
    let Some(run) = &d.run else { return Ok(()) };
    for (delivery, why) in source.homes(id)? {
        if delivery.from.is_empty() || why.as_deref() != Some("") {
            continue;
        }
        let there = d.attempts.iter_mut().filter(|t| t.host == delivery.from);
        for o in there.filter_map(|t| t.outcome.as_mut()).filter(|o| o.spooled) {
            o.spooled = false;
            o.output = moved(&run.cwd, &o.output);
            o.error = moved(&run.cwd, &o.error);
        }
    }
    Ok(())
}

/// A file of a spool, where it was brought to.
fn moved(cwd: &[u8], path: &[u8]) -> Vec<u8> {
    match path.rsplit(|b| *b == b'/').next() {
        Some(name) if !name.is_empty() => [cwd, b"/", name].concat(),
        _ => Vec::new(),
    }
}

/// What is no array has no tasks: whoever names one means another job.
fn may_have(range: &IdRange, j: &JobRow) -> bool {
    range.tasks.is_none() || j.plan.array.is_some()
}

/// Completes the end of a wait.
fn end(source: &dyn Source, who: &Asker, mut over: Over, ids: &[IdRange]) -> Result<Over, StoreError> {
    let mut by: BTreeMap<i32, u64> = over.counts.iter().map(|c| (c.state, c.number)).collect();
    let mut seen = BTreeSet::new();
    for range in ids {
        source.jobs(range.from, range.to, &mut |j| {
            if !may_have(range, &j) {
                return Ok(true);
            }
            if !seen.insert((j.id, range.tasks)) || !filter::ended(j.state) {
                return Ok(true);
            }
            over.nothing = false;
            if j.plan.array.is_none() {
                *by.entry(j.state).or_default() += 1;
            } else {
                for c in counts(source, &j, range.tasks.as_ref())? {
                    *by.entry(c.state).or_default() += c.number;
                }
            }
            if j.state != State::Done as i32 || j.plan.array.is_some() {
                bad(source, who, &j, range.tasks.as_ref(), &mut over)?;
            }
            Ok(true)
        })?;
    }
    over.counts = by
        .into_iter()
        .map(|(state, number)| Count { state, number })
        .collect();
    let total: u64 = over.counts.iter().map(|c| c.number).sum();
    match &over.bad[..] {
        [only] if total == 1 => {
            over.signal = only.outcome.as_ref().and_then(|o| o.signal).or(over.signal);
        }
        _ => over.signal = None,
    }
    Ok(over)
}

/// Adds a job's tasks that did not end well, and the code of the first.
fn bad(
    source: &dyn Source,
    who: &Asker,
    j: &JobRow,
    tasks: Option<&TaskRange>,
    over: &mut Over,
) -> Result<(), StoreError> {
    let array = j.plan.array.is_some();
    let mut states = BTreeMap::new();
    source.tasks(j.id, &mut |t| {
        let asked = !array || in_range(tasks, t.task);
        if asked && filter::ended(t.state) && t.state != State::Done as i32 {
            states.insert(t.task, t.state);
        }
        Ok(states.len() < BAD)
    })?;
    if states.is_empty() && j.state != State::Done as i32 && (!array || tasks.is_none()) {
        states.insert(0, j.state);
    }
    for (task, state) in states {
        let (n, started, last) = source.summary(j.id, Some(task))?;
        let mut job = listed(j, who, task, n, started, last.as_ref());
        job.state = state;
        if over.code == 0 {
            over.code = job
                .outcome
                .as_ref()
                .map_or(u32::from(libqueue::exit::FAILED), |o| match exit_code(o) {
                    0 => u32::from(libqueue::exit::FAILED),
                    n => u32::from(n),
                });
        }
        if over.bad.len() < BAD {
            over.bad.push(job);
        }
    }
    Ok(())
}
