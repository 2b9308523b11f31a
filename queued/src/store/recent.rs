//! Jobs that ended a short time ago, for a leader that begins: it has them in memory as the one before it had. Made of
//! rows, from whichever store; what a leader does with them is not known here.

use super::source::{Source, Span};
use super::{LastEnd, Recent, StoreError};
use libqueue::wire::job::Outcome;

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
            if let Some(outcome) = r.outcome.filter(|_| r.ended_ms != 0) {
                ends.push(LastEnd {
                    key: r.row.key,
                    host: r.row.host,
                    ended_ms: r.ended_ms,
                    outcome: Outcome {
                        head: Vec::new(),
                        tail: Vec::new(),
                        ..outcome
                    },
                });
            }
            Ok(true)
        })?;
        all.push(Recent { job, tasks, ends });
    }
    Ok(all)
}
