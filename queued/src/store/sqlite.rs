//! The leader's store in SQLite: how changes are written. One transaction for each commit.

use super::rows::{EntriesBytes, Rest, flags};
use super::{
    AttemptRow, JobRow, JobStore, Loaded, Op, StoreError, TaskRow, error, history, load, open, recent,
    schema, select,
};
use crate::engine::jobs::types::{Asker, Read};
use libqueue::wire::job::{JobRun, Key, Outcome, Submit, job_reply};
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use std::path::Path;

/// The store.
#[derive(Debug)]
pub(crate) struct SqliteStore {
    db: open::Database,
    /// The certificate that was used last, and its number: nearly all jobs come from a few hosts.
    cert: Option<(Vec<u8>, i64)>,
}

/// Numbers of 64 bits, as SQLite has them.
pub(super) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl SqliteStore {
    /// Opens the store, or makes it.
    ///
    /// # Errors
    /// It cannot be opened; it was not touched.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            db: open::open(path, schema::JOBS)?,
            cert: None,
        })
    }

    /// What was odd when it was opened, for the log.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.db.warnings
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.db.path
    }

    fn failed(&self, what: &str, e: &rusqlite::Error) -> StoreError {
        error::sqlite(&self.db.path, what, e)
    }

    /// Writes the log back into the database: for tests.
    #[cfg(test)]
    pub(super) fn checkpoint(&self) {
        let done = self
            .db
            .conn
            .query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()));
        assert!(done.is_ok(), "{done:?}");
    }

    /// Pages that it may have: for tests of a full disk.
    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: u64) -> u64 {
        let sql = format!("PRAGMA max_page_count = {pages}");
        self.db
            .conn
            .query_row(&sql, [], |r| r.get::<_, i64>(0))
            .unwrap_or(0)
            .cast_unsigned()
    }

    /// Pages that it has.
    #[cfg(test)]
    pub(super) fn pages(&self) -> u64 {
        self.db
            .conn
            .query_row("PRAGMA page_count", [], |r| r.get::<_, i64>(0))
            .unwrap_or(0)
            .cast_unsigned()
    }
}

impl JobStore for SqliteStore {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        let mut loaded = load::load(&mut self.db.conn).map_err(|e| self.failed("load", &e))?;
        let rows = select::Rows::new(&self.db.conn, &self.db.path);
        loaded.recent = recent::recent(&rows)?;
        loaded.ends = recent::ends(&rows, &loaded.tasks)?;
        Ok(loaded)
    }

    fn commit(&mut self, ops: &[Op]) -> Result<(), StoreError> {
        let cert = &mut self.cert;
        let done = self
            .db
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .and_then(|tx| {
                for op in ops {
                    apply(&tx, cert, op)?;
                }
                tx.commit()
            });
        done.map_err(|e| {
            // What was known may have been rolled back.
            self.cert = None;
            self.failed("write to", &e)
        })
    }

    fn run(&self, job: u64) -> Result<Option<JobRun>, StoreError> {
        select::run(&self.db.conn, job).map_err(|e| self.failed("read", &e))
    }

    fn entries(&self, job: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        select::entries(&self.db.conn, job).map_err(|e| self.failed("read", &e))
    }

    fn read(
        &self,
        who: &Asker,
        read: Read,
        reply: &mut dyn FnMut(job_reply::Kind),
    ) -> Result<(), StoreError> {
        let source = select::Rows::new(&self.db.conn, &self.db.path);
        match read {
            Read::Export => super::export::export(&self.db.path, reply),
            read => history::answer(&source, who, read, reply),
        }
    }
}

/// Runs a prepared statement.
fn run(c: &Connection, sql: &str, p: impl rusqlite::Params) -> rusqlite::Result<usize> {
    c.prepare_cached(sql)?.execute(p)
}

/// Writes one change.
fn apply(c: &Connection, cert: &mut Option<(Vec<u8>, i64)>, op: &Op) -> rusqlite::Result<()> {
    match op {
        Op::Epoch(n) => set(c, "epoch", *n)?,
        Op::NextId(n) => set(c, "next_id", *n)?,
        Op::Block { host, block } => {
            let p = params![host, int(block.from), int(block.to)];
            run(c, "INSERT OR REPLACE INTO block VALUES (?1, ?2, ?3)", p)?;
        }
        Op::Job { submit, row } => job(c, cert, submit, row)?,
        Op::Row(r) => put_row(c, r)?,
        Op::Task(t) => put_task(c, t)?,
        Op::Attempt(a) => put_attempt(c, a)?,
        Op::Started { key, at_ms } => {
            let p = params![int(key.job), key.task, key.attempt, int(*at_ms)];
            let sql = "UPDATE flying SET started_ms = ?4 WHERE job = ?1 AND task = ?2 AND attempt = ?3";
            run(c, sql, p)?;
        }
        Op::Ended {
            key,
            at_ms,
            outcome,
            task,
        } => {
            ended(c, key, *at_ms, outcome)?;
            put_task(c, task)?;
        }
        Op::Over { job, state, at_ms } => {
            let p = params![int(*job), *state as i32, int(*at_ms)];
            run(c, "UPDATE job SET state = ?2, ended_ms = ?3 WHERE id = ?1", p)?;
        }
        Op::Delete(job) => delete(c, *job)?,
        Op::Limit(name, Some(total)) => {
            run(
                c,
                "INSERT OR REPLACE INTO limits VALUES (?1, ?2)",
                params![name, total],
            )?;
        }
        Op::Limit(name, None) => {
            run(c, "DELETE FROM limits WHERE name = ?1", [name])?;
        }
        Op::Letter(l) => {
            let p = params![int(l.number), l.encode_to_vec()];
            run(c, "INSERT OR REPLACE INTO letter VALUES (?1, ?2)", p)?;
            raise(c, "last_number", l.number)?;
        }
        Op::LetterGone(n) => {
            run(c, "DELETE FROM letter WHERE number = ?1", [int(*n)])?;
        }
        Op::Delivery(d) => {
            let p = params![int(d.number), int(d.job), d.from, d.to, d.tries];
            run(
                c,
                "INSERT OR REPLACE INTO delivery VALUES (?1, ?2, ?3, ?4, ?5)",
                p,
            )?;
            raise(c, "last_number", d.number)?;
        }
        Op::DeliveryGone(n, why) => {
            let sql = "INSERT OR REPLACE INTO delivered SELECT job, source, target, ?2 FROM delivery \
                       WHERE number = ?1 AND source <> ''";
            run(c, sql, params![int(*n), why])?;
            run(c, "DELETE FROM delivery WHERE number = ?1", [int(*n)])?;
        }
    }
    Ok(())
}

fn set(c: &Connection, name: &str, value: u64) -> rusqlite::Result<()> {
    run(
        c,
        "INSERT OR REPLACE INTO meta VALUES (?1, ?2)",
        params![name, int(value)],
    )?;
    Ok(())
}

fn raise(c: &Connection, name: &str, value: u64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = max(value, excluded.value)";
    run(c, sql, params![name, int(value)])?;
    Ok(())
}

fn identity(row: &JobRow) -> Option<&[u8]> {
    (!row.identity.is_empty()).then_some(&row.identity[..])
}

fn put_row(c: &Connection, r: &JobRow) -> rusqlite::Result<()> {
    let sql =
        "INSERT OR REPLACE INTO job VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
    let p = params![
        int(r.id),
        r.owner,
        r.login,
        r.submit_host,
        int(r.submitted_ms),
        r.plan.name,
        r.plan.group,
        r.plan.class,
        r.command,
        r.state,
        r.reason,
        int(r.ended_ms),
        identity(r),
        Rest::of(r)
    ];
    run(c, sql, p)?;
    Ok(())
}

fn job(c: &Connection, cert: &mut Option<(Vec<u8>, i64)>, s: &Submit, row: &JobRow) -> rusqlite::Result<()> {
    put_row(c, row)?;
    let number = match cert {
        Some((known, n)) if *known == s.cert => *n,
        _ => {
            run(c, "INSERT OR IGNORE INTO cert (cert) VALUES (?1)", [&s.cert])?;
            let n = c
                .prepare_cached("SELECT id FROM cert WHERE cert = ?1")?
                .query_row([&s.cert], |r| r.get(0))?;
            *cert = Some((s.cert.clone(), n));
            n
        }
    };
    let p = params![int(row.id), s.run, s.warrant, number];
    run(c, "INSERT OR REPLACE INTO run VALUES (?1, ?2, ?3, ?4)", p)?;
    if !s.entries.is_empty() {
        let all = EntriesBytes {
            all: s.entries.clone(),
        };
        let p = params![int(row.id), all.encode_to_vec()];
        run(c, "INSERT OR REPLACE INTO entries VALUES (?1, ?2)", p)?;
    }
    Ok(())
}

fn put_task(c: &Connection, t: &TaskRow) -> rusqlite::Result<()> {
    let p = params![
        int(t.job),
        t.task,
        t.state,
        t.attempt,
        t.failures,
        int(t.not_before_ms),
        t.held
    ];
    run(
        c,
        "INSERT OR REPLACE INTO task VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        p,
    )?;
    Ok(())
}

fn put_attempt(c: &Connection, a: &AttemptRow) -> rusqlite::Result<()> {
    let p = params![
        int(a.key.job),
        a.key.task,
        a.key.attempt,
        a.host,
        a.life,
        int(a.epoch),
        int(a.sent_ms),
        int(a.lease_ms),
        int(a.started_ms)
    ];
    run(
        c,
        "INSERT OR REPLACE INTO flying VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        p,
    )?;
    Ok(())
}

/// Host, epoch, sent, lease, started: what an attempt's row keeps.
type Sent = (String, i64, i64, i64, i64);

/// Moves an attempt to where the ended ones are. What is said of it last holds.
fn ended(c: &Connection, key: &Key, at_ms: u64, o: &Outcome) -> rusqlite::Result<()> {
    let id = (int(key.job), key.task, key.attempt);
    let sent = |r: &rusqlite::Row<'_>| -> rusqlite::Result<Sent> {
        Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?))
    };
    let mut flying = c.prepare_cached(
        "DELETE FROM flying WHERE job = ?1 AND task = ?2 AND attempt = ?3 \
         RETURNING host, epoch, sent_ms, lease_ms, started_ms",
    )?;
    let row = match flying.query_row(id, sent).optional()? {
        Some(row) => row,
        None => {
            run(
                c,
                "DELETE FROM ends WHERE job = ?1 AND task = ?2 AND attempt = ?3",
                id,
            )?;
            let sql = "SELECT host, epoch, sent_ms, lease_ms, started_ms FROM attempt \
                       WHERE job = ?1 AND task = ?2 AND attempt = ?3";
            c.prepare_cached(sql)?
                .query_row(id, sent)
                .optional()?
                .unwrap_or_default()
        }
    };
    let p = params![
        id.0,
        id.1,
        id.2,
        row.0,
        row.1,
        row.2,
        row.3,
        row.4,
        int(at_ms),
        o.cause,
        o.code,
        o.signal,
        flags(o),
        o.text,
        int(o.started_ms),
        int(o.wall_ms),
        int(o.cpu_us),
        int(o.maxrss_kib),
        int(o.written),
        o.output,
        o.error
    ];
    run(
        c,
        "INSERT OR REPLACE INTO attempt VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, \
         ?17, ?18, ?19, ?20, ?21)",
        p,
    )?;
    if !o.head.is_empty() || !o.tail.is_empty() {
        let p = params![id.0, id.1, id.2, o.head, o.tail];
        run(c, "INSERT OR REPLACE INTO ends VALUES (?1, ?2, ?3, ?4, ?5)", p)?;
    }
    Ok(())
}

fn delete(c: &Connection, job: u64) -> rusqlite::Result<()> {
    run(c, "DELETE FROM job WHERE id = ?1", [int(job)])?;
    for table in [
        "run",
        "entries",
        "task",
        "flying",
        "attempt",
        "ends",
        "delivery",
        "delivered",
    ] {
        run(c, &format!("DELETE FROM {table} WHERE job = ?1"), [int(job)])?;
    }
    // Its host may still have it in its spool: it must not come back.
    run(c, "INSERT OR REPLACE INTO deleted VALUES (?1)", [int(job)])?;
    Ok(())
}
