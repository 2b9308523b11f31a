//! Jobs that ended a short time ago, for a leader that begins: it has them in memory as the one before it had. Made of
//! rows, from whichever store; what a leader does with them is not known here.

use super::source::{Record, Source, Span};
use super::{LastEnd, Recent, StoreError, TaskRow};
use libqueue::wire::job::{Outcome, State, TaskRange};

/// So long ago, in milliseconds.
const HOUR: u64 = 3_600_000;
/// Most jobs, the latest: a start must not take long.
const JOBS: usize = 2_000;
/// Most tasks of all of them; the history has the others.
const TASKS: u64 = 50_000;

/// Jobs that ended in the last hour, the first to end first.
pub(super) fn recent(source: &dyn Source) -> Result<Vec<Recent>, StoreError> {
    let mut rows = Vec::new();
    let mut room = TASKS;
    let span = Span {
        since: source.now_ms().saturating_sub(HOUR),
        until: i64::MAX.cast_unsigned(),
    };
    source.over(span, "", &mut |job| {
        let ranges = job.plan.array.iter().flat_map(|a| &a.ranges);
        let tasks: u64 = ranges
            .map(|r| 1 + u64::from(r.to.saturating_sub(r.from)) / u64::from(r.step.max(1)))
            .sum();
        if let Some(left) = room.checked_sub(tasks.max(1)) {
            room = left;
            rows.push(job);
        }
        Ok(rows.len() < JOBS)
    })?;
    rows.reverse();
    let mut all = Vec::with_capacity(rows.len());
    for job in rows {
        let (mut tasks, mut ends) = (Vec::new(), Vec::new());
        source.tasks(job.id, &mut |t| {
            tasks.push(t);
            Ok(true)
        })?;
        source.last(job.id, None, &mut |r| {
            ends.extend(end(r));
            Ok(true)
        })?;
        all.push(Recent { job, tasks, ends });
    }
    Ok(all)
}

/// How an attempt ended, if it has, without its output.
fn end(r: Record) -> Option<LastEnd> {
    let outcome = r.outcome.filter(|_| r.ended_ms != 0)?;
    Some(LastEnd {
        key: r.row.key,
        host: r.row.host,
        ended_ms: r.ended_ms,
        outcome: Outcome {
            head: Vec::new(),
            tail: Vec::new(),
            ..outcome
        },
    })
}

/// How the last attempts of tasks ended that are over although their jobs are not: those that are buried, above all.
pub(super) fn ends(source: &dyn Source, tasks: &[TaskRow]) -> Result<Vec<LastEnd>, StoreError> {
    let bad = [State::Buried as i32, State::Failed as i32, State::Killed as i32];
    let mut ends = Vec::new();
    for t in tasks.iter().filter(|t| bad.contains(&t.state)).take(JOBS) {
        let range = TaskRange {
            from: t.task,
            to: t.task,
            step: 1,
        };
        // Of a job that is no array the only task is number 0, which no range means.
        let range = (t.task > 0).then_some(&range);
        source.last(t.job, range, &mut |r| {
            ends.extend(end(r));
            Ok(true)
        })?;
    }
    Ok(ends)
}
