//! Reads rows of the leader's store in SQLite, on whichever connection.

use super::load::delivery;
use super::rows::{EntriesBytes, Rest, set_flags};
use super::source::{Figure, Record, Source, Span, Visit, in_range};
use super::sqlite::int;
use super::{AttemptRow, DeliveryRow, JobRow, StoreError, TaskRow, error};
use libqueue::wire::job::{JobRun, Key, Outcome, TaskRange};
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, Params, Row, params};
use std::path::Path;
use std::time::SystemTime;

/// Columns of a job, as [`job_row`] reads them; the table is `j`.
pub(super) const JOB: &str = "j.id, j.owner, j.login, j.submit_host, j.submitted_ms, j.command, j.state, j.reason, \
                              j.ended_ms, j.rest";
const JOB_COLUMNS: usize = 10;
/// Columns of an attempt that has not ended, as [`flying`] reads them.
pub(super) const FLYING: &str = "job, task, attempt, host, life, epoch, sent_ms, lease_ms, started_ms";
/// Columns of one that has, as [`record`] reads them.
const ATTEMPT: &str = "a.job, a.task, a.attempt, a.host, a.epoch, a.sent_ms, a.lease_ms, a.started_ms, a.ended_ms, \
                       a.cause, a.code, a.signal, a.flags, a.text, a.began_ms, a.wall_ms, a.cpu_us, a.maxrss_kib, \
                       a.written, a.output, a.error, e.head, e.tail";
const ENDS: &str = "LEFT JOIN ends e ON e.job = a.job AND e.task = a.task AND e.attempt = a.attempt";

/// Milliseconds since the epoch.
pub(super) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

fn uint(r: &Row<'_>, n: usize) -> rusqlite::Result<u64> {
    r.get::<_, i64>(n).map(i64::cast_unsigned)
}

/// Goes through the rows of a query until told to end.
pub(super) fn each(
    c: &Connection,
    sql: &str,
    p: impl Params,
    mut row: impl FnMut(&Row<'_>) -> rusqlite::Result<bool>,
) -> rusqlite::Result<()> {
    let mut statement = c.prepare_cached(sql)?;
    let mut rows = statement.query(p)?;
    while let Some(r) = rows.next()? {
        if !row(r)? {
            break;
        }
    }
    Ok(())
}

/// A job, from the columns [`JOB`].
pub(super) fn job_row(r: &Row<'_>, at: usize) -> rusqlite::Result<JobRow> {
    let mut row = JobRow {
        id: uint(r, at)?,
        owner: r.get(at + 1)?,
        login: r.get(at + 2)?,
        submit_host: r.get(at + 3)?,
        submitted_ms: uint(r, at + 4)?,
        command: r.get(at + 5)?,
        state: r.get(at + 6)?,
        reason: r.get(at + 7)?,
        ended_ms: uint(r, at + 8)?,
        ..JobRow::default()
    };
    let rest = Rest::decode(r.get_ref(at + 9)?.as_blob()?).map_err(|e| {
        rusqlite::Error::FromSqlConversionFailure(at + 9, rusqlite::types::Type::Blob, Box::new(e))
    })?;
    rest.fill(&mut row);
    Ok(row)
}

/// A task, from all its columns.
pub(super) fn task_row(r: &Row<'_>) -> rusqlite::Result<TaskRow> {
    Ok(TaskRow {
        job: uint(r, 0)?,
        task: r.get(1)?,
        state: r.get(2)?,
        attempt: r.get(3)?,
        failures: r.get(4)?,
        not_before_ms: uint(r, 5)?,
        held: r.get(6)?,
    })
}

fn key(r: &Row<'_>, at: usize) -> rusqlite::Result<Key> {
    Ok(Key {
        job: uint(r, at)?,
        task: r.get(at + 1)?,
        attempt: r.get(at + 2)?,
    })
}

/// An attempt that has not ended, from the columns [`FLYING`].
pub(super) fn flying(r: &Row<'_>, at: usize) -> rusqlite::Result<AttemptRow> {
    Ok(AttemptRow {
        key: key(r, at)?,
        host: r.get(at + 3)?,
        life: r.get(at + 4)?,
        epoch: uint(r, at + 5)?,
        sent_ms: uint(r, at + 6)?,
        lease_ms: uint(r, at + 7)?,
        started_ms: uint(r, at + 8)?,
    })
}

/// An attempt that has ended, from the columns [`ATTEMPT`].
fn record(r: &Row<'_>, at: usize) -> rusqlite::Result<Record> {
    let blob = |n: usize| r.get::<_, Option<Vec<u8>>>(at + n).map(Option::unwrap_or_default);
    let mut outcome = Outcome {
        cause: r.get(at + 9)?,
        code: r.get(at + 10)?,
        signal: r.get(at + 11)?,
        text: r.get(at + 13)?,
        started_ms: uint(r, at + 14)?,
        wall_ms: uint(r, at + 15)?,
        cpu_us: uint(r, at + 16)?,
        maxrss_kib: uint(r, at + 17)?,
        written: uint(r, at + 18)?,
        output: blob(19)?,
        error: blob(20)?,
        head: blob(21)?,
        tail: blob(22)?,
        ..Outcome::default()
    };
    set_flags(&mut outcome, r.get(at + 12)?);
    Ok(Record {
        row: AttemptRow {
            key: key(r, at)?,
            host: r.get(at + 3)?,
            epoch: uint(r, at + 4)?,
            sent_ms: uint(r, at + 5)?,
            lease_ms: uint(r, at + 6)?,
            started_ms: uint(r, at + 7)?,
            life: Vec::new(),
        },
        ended_ms: uint(r, at + 8)?,
        outcome: Some(outcome),
    })
}

/// What a job executes.
pub(super) fn run(c: &Connection, job: u64) -> rusqlite::Result<Option<JobRun>> {
    let sql = "SELECT r.run, r.warrant, c.cert FROM run r JOIN cert c ON c.id = r.cert WHERE r.job = ?1";
    c.prepare_cached(sql)?
        .query_row([int(job)], |r| {
            Ok(JobRun {
                job,
                run: r.get(0)?,
                warrant: r.get(1)?,
                cert: r.get(2)?,
            })
        })
        .optional()
}

/// Entries of a job's tasks.
pub(super) fn entries(c: &Connection, job: u64) -> rusqlite::Result<Vec<Vec<u8>>> {
    let bytes = c
        .prepare_cached("SELECT entries FROM entries WHERE job = ?1")?
        .query_row([int(job)], |r| {
            EntriesBytes::decode(r.get_ref(0)?.as_blob()?).map_err(|e| {
                rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, Box::new(e))
            })
        })
        .optional()?;
    Ok(bytes.map(|b| b.all).unwrap_or_default())
}

/// The rows of a store, by one connection.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    conn: &'a Connection,
    path: &'a Path,
}

impl<'a> Rows<'a> {
    /// Reads with this connection; the path is for errors.
    pub(super) fn new(conn: &'a Connection, path: &'a Path) -> Self {
        Self { conn, path }
    }

    fn failed(&self, e: &rusqlite::Error) -> StoreError {
        error::sqlite(self.path, "read", e)
    }

    /// Goes through rows that are first made into something.
    fn visit<T>(
        &self,
        sql: &str,
        p: impl Params,
        mut make: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
        visit: Visit<'_, T>,
    ) -> Result<(), StoreError> {
        let mut wrong = None;
        let read = each(self.conn, sql, p, |r| {
            let made = make(r)?;
            Ok(visit(made).unwrap_or_else(|e| {
                wrong = Some(e);
                false
            }))
        });
        match wrong {
            Some(e) => Err(e),
            None => read.map_err(|e| self.failed(&e)),
        }
    }
}

impl Source for Rows<'_> {
    fn over(&self, span: Span, owner: &str, each: Visit<'_, JobRow>) -> Result<(), StoreError> {
        let sql = format!(
            "SELECT {JOB} FROM job j WHERE state <> 0 AND ended_ms >= ?1 AND ended_ms < ?2 AND (?3 = '' OR owner = ?3) \
             ORDER BY ended_ms DESC, id DESC"
        );
        let p = params![int(span.since), int(span.until), owner];
        self.visit(&sql, p, |r| job_row(r, 0), each)
    }

    fn jobs(&self, from: u64, to: u64, each: Visit<'_, JobRow>) -> Result<(), StoreError> {
        let sql = format!("SELECT {JOB} FROM job j WHERE id BETWEEN ?1 AND ?2 ORDER BY id");
        self.visit(&sql, params![int(from), int(to)], |r| job_row(r, 0), each)
    }

    fn latest(&self, job: u64, tasks: Option<&TaskRange>, most: usize) -> Result<Vec<Record>, StoreError> {
        let (from, to) = tasks.map_or((0, u32::MAX), |t| (t.from, t.to));
        let mut all = Vec::new();
        let sql = format!(
            "SELECT {FLYING} FROM flying WHERE job = ?1 AND task BETWEEN ?2 AND ?3 \
             ORDER BY sent_ms DESC, task DESC, attempt DESC"
        );
        let row = |r: &Row<'_>| {
            Ok(Record {
                row: flying(r, 0)?,
                ..Record::default()
            })
        };
        let mut take = |r: Record| {
            if in_range(tasks, r.row.key.task) {
                all.push(r);
            }
            Ok(all.len() < most)
        };
        self.visit(&sql, params![int(job), from, to], row, &mut take)?;
        let sql = format!(
            "SELECT {ATTEMPT} FROM attempt a {ENDS} WHERE a.job = ?1 AND a.task BETWEEN ?2 AND ?3 \
             ORDER BY a.ended_ms DESC, a.task DESC, a.attempt DESC"
        );
        if all.len() < most {
            let mut take = |r: Record| {
                if in_range(tasks, r.row.key.task) {
                    all.push(r);
                }
                Ok(all.len() < most)
            };
            self.visit(&sql, params![int(job), from, to], |r| record(r, 0), &mut take)?;
        }
        Ok(all)
    }

    fn summary(&self, job: u64, task: Option<u32>) -> Result<(u32, u64, Option<Record>), StoreError> {
        let (from, to) = task.map_or((0, u32::MAX), |t| (t, t));
        let p = params![int(job), from, to];
        let sql = "SELECT (SELECT count(*) FROM flying WHERE job = ?1 AND task BETWEEN ?2 AND ?3) + count(*), \
                   coalesce(min(nullif(coalesce(nullif(started_ms, 0), began_ms), 0)), 0) \
                   FROM attempt WHERE job = ?1 AND task BETWEEN ?2 AND ?3";
        let (n, started) = self
            .conn
            .prepare_cached(sql)
            .and_then(|mut s| s.query_row(p, |r| Ok((r.get(0)?, uint(r, 1)?))))
            .map_err(|e| self.failed(&e))?;
        let range = TaskRange { from, to, step: 1 };
        Ok((n, started, self.latest(job, Some(&range), 1)?.pop()))
    }

    fn ended(&self, span: Span, owner: &str, each: Visit<'_, (JobRow, Record)>) -> Result<(), StoreError> {
        let sql = format!(
            "SELECT {JOB}, {ATTEMPT} FROM attempt a CROSS JOIN job j ON j.id = a.job {ENDS} \
             WHERE a.ended_ms >= ?1 AND a.ended_ms < ?2 AND (?3 = '' OR j.owner = ?3) \
             ORDER BY a.ended_ms DESC, a.job DESC, a.task DESC, a.attempt DESC"
        );
        let p = params![int(span.since), int(span.until), owner];
        let make = |r: &Row<'_>| Ok((job_row(r, 0)?, record(r, JOB_COLUMNS)?));
        self.visit(&sql, p, make, each)
    }

    fn figures(&self, since: u64, each: Visit<'_, Figure>) -> Result<(), StoreError> {
        let sql = "SELECT coalesce(j.owner, ''), a.host, a.cause, a.code, a.wall_ms, a.cpu_us, a.attempt, \
                   coalesce(nullif(a.started_ms, 0), a.began_ms), coalesce(j.submitted_ms, 0) \
                   FROM attempt a LEFT JOIN job j ON j.id = a.job WHERE a.ended_ms >= ?1";
        let make = |r: &Row<'_>| {
            let (started, submitted) = (uint(r, 7)?, uint(r, 8)?);
            let first = r.get::<_, u32>(6)? == 1 && started > 0 && submitted > 0;
            Ok(Figure {
                owner: r.get(0)?,
                host: r.get(1)?,
                cause: r.get(2)?,
                code: r.get(3)?,
                wall_ms: uint(r, 4)?,
                cpu_us: uint(r, 5)?,
                waited_ms: first.then(|| started.saturating_sub(submitted)),
            })
        };
        self.visit(sql, [int(since)], make, each)
    }

    fn last(&self, job: u64, tasks: Option<&TaskRange>, visit: Visit<'_, Record>) -> Result<(), StoreError> {
        // Both by task and attempt, newest last: of each task the last one of both counts.
        let (from, to) = tasks.map_or((0, u32::MAX), |t| (t.from, t.to));
        let p = params![int(job), from, to];
        let mut sent = std::collections::BTreeMap::new();
        let sql = format!(
            "SELECT {FLYING} FROM flying WHERE job = ?1 AND task BETWEEN ?2 AND ?3 ORDER BY task, attempt"
        );
        each(self.conn, &sql, p, |r| {
            let row = flying(r, 0)?;
            sent.insert(row.key.task, row);
            Ok(true)
        })
        .map_err(|e| self.failed(&e))?;
        let going = std::cell::Cell::new(true);
        let mut tell = |r: Record| -> Result<bool, StoreError> {
            going.set(!in_range(tasks, r.row.key.task) || visit(r)?);
            Ok(going.get())
        };
        let sql = format!(
            "SELECT {ATTEMPT} FROM attempt a {ENDS} WHERE a.job = ?1 AND a.task BETWEEN ?2 AND ?3 \
             AND NOT EXISTS (SELECT 1 FROM attempt b WHERE b.job = a.job AND b.task = a.task AND b.attempt > a.attempt) \
             ORDER BY a.task"
        );
        let p = params![int(job), from, to];
        self.visit(&sql, p, |r| record(r, 0), &mut |r: Record| {
            while let Some(first) = sent.first_entry().filter(|f| *f.key() <= r.row.key.task) {
                let row = first.remove();
                let same = row.key.task == r.row.key.task;
                let newer = row.key.attempt > r.row.key.attempt;
                if (!same || newer) && !tell(unended(row))? {
                    return Ok(false);
                }
                if same && newer {
                    return Ok(true);
                }
            }
            tell(r)
        })?;
        for row in sent.into_values() {
            if !going.get() || !tell(unended(row))? {
                break;
            }
        }
        Ok(())
    }

    fn tasks(&self, job: u64, each: Visit<'_, TaskRow>) -> Result<(), StoreError> {
        let sql = "SELECT job, task, state, attempt, failures, not_before_ms, held FROM task WHERE job = ?1 ORDER BY task";
        self.visit(sql, [int(job)], task_row, each)
    }

    fn homes(&self, job: u64) -> Result<Vec<(DeliveryRow, Option<String>)>, StoreError> {
        let mut all = Vec::new();
        let sql = "SELECT number, job, source, target, tries, NULL FROM delivery WHERE job = ?1 \
                   UNION ALL SELECT 0, job, source, target, 0, failed FROM delivered WHERE job = ?1";
        each(self.conn, sql, [int(job)], |r| {
            all.push((delivery(r)?, r.get(5)?));
            Ok(true)
        })
        .map_err(|e| self.failed(&e))?;
        Ok(all)
    }

    fn run(&self, job: u64) -> Result<Option<JobRun>, StoreError> {
        run(self.conn, job).map_err(|e| self.failed(&e))
    }

    fn letters(&self) -> Result<u64, StoreError> {
        self.conn
            .query_row("SELECT count(*) FROM letter", [], |r| uint(r, 0))
            .map_err(|e| self.failed(&e))
    }

    fn bytes(&self) -> u64 {
        let len = |p: &Path| std::fs::metadata(p).map_or(0, |m| m.len());
        len(self.path) + len(&super::wal::beside(self.path, "-wal"))
    }

    fn now_ms(&self) -> u64 {
        now_ms()
    }
}

fn unended(row: AttemptRow) -> Record {
    Record {
        row,
        ..Record::default()
    }
}
