//! What the leader starts from, read from its store in SQLite.

use super::select::{self, JOB, job_row};
use super::sqlite::int;
use super::{DeliveryRow, Loaded};
use libqueue::wire::job::{Block, Letter};
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _};

/// Jobs that are over whose final states are loaded: the latest.
const OVER_MAX: u64 = 1_000_000;
/// Jobs that ended so long ago, in milliseconds, are no longer told to `--dedupe`.
pub(super) const DAY: u64 = 86_400_000;

/// A number of the table of single values.
fn meta(c: &Connection, name: &str) -> rusqlite::Result<u64> {
    let n = c
        .query_row("SELECT value FROM meta WHERE name = ?1", [name], |r| {
            r.get::<_, i64>(0)
        })
        .optional()?;
    Ok(n.unwrap_or(0).cast_unsigned())
}

/// Everything that the leader starts from, as it was at one moment.
pub(super) fn load(conn: &mut Connection) -> rusqlite::Result<Loaded> {
    let tx = conn.transaction()?;
    let c: &Connection = &tx;
    let mut loaded = Loaded {
        epoch: meta(c, "epoch")?,
        next_id: meta(c, "next_id")?.max(1),
        last_number: meta(c, "last_number")?,
        ..Loaded::default()
    };
    let u = |r: &rusqlite::Row<'_>, n: usize| r.get::<_, i64>(n).map(i64::cast_unsigned);
    select::each(
        c,
        "SELECT host, first, beyond FROM block ORDER BY host",
        [],
        |r| {
            let block = Block {
                from: u(r, 1)?,
                to: u(r, 2)?,
            };
            loaded.blocks.push((r.get(0)?, block));
            Ok(true)
        },
    )?;
    select::each(
        c,
        &format!("SELECT {JOB} FROM job j WHERE state = 0 ORDER BY id"),
        [],
        |r| {
            loaded.jobs.push(job_row(r, 0)?);
            Ok(true)
        },
    )?;
    let sql = "SELECT t.job, t.task, t.state, t.attempt, t.failures, t.not_before_ms, t.held \
               FROM job j CROSS JOIN task t ON t.job = j.id WHERE j.state = 0 ORDER BY t.job, t.task";
    select::each(c, sql, [], |r| {
        loaded.tasks.push(select::task_row(r)?);
        Ok(true)
    })?;
    let sql = format!(
        "SELECT {} FROM flying ORDER BY job, task, attempt",
        select::FLYING
    );
    select::each(c, &sql, [], |r| {
        loaded.attempts.push(select::flying(r, 0)?);
        Ok(true)
    })?;
    let sql = "SELECT id, state FROM job WHERE state <> 0 ORDER BY ended_ms DESC LIMIT ?1";
    select::each(c, sql, [int(OVER_MAX)], |r| {
        loaded.over.push((u(r, 0)?, r.get::<_, u8>(1)?));
        Ok(true)
    })?;
    select::each(c, "SELECT id FROM deleted", [], |r| {
        loaded.over.push((u(r, 0)?, 0));
        Ok(true)
    })?;
    loaded.over.sort_unstable();
    let since = int(select::now_ms().saturating_sub(DAY));
    let sql = "SELECT identity, id, ended_ms FROM job WHERE state <> 0 AND identity IS NOT NULL AND ended_ms >= ?1 \
               ORDER BY id";
    select::each(c, sql, [since], |r| {
        loaded.identities.push((r.get(0)?, u(r, 1)?, u(r, 2)?));
        Ok(true)
    })?;
    select::each(c, "SELECT name, total FROM limits ORDER BY name", [], |r| {
        loaded.limits.push((r.get(0)?, r.get(1)?));
        Ok(true)
    })?;
    select::each(c, "SELECT letter FROM letter ORDER BY number", [], |r| {
        let bytes = r.get_ref(0)?.as_blob()?;
        loaded.letters.extend(Letter::decode(bytes).ok());
        Ok(true)
    })?;
    let sql = "SELECT number, job, source, target, tries FROM delivery ORDER BY number";
    select::each(c, sql, [], |r| {
        loaded.deliveries.push(delivery(r)?);
        Ok(true)
    })?;
    Ok(loaded)
}

/// A row of `delivery`.
pub(super) fn delivery(r: &rusqlite::Row<'_>) -> rusqlite::Result<DeliveryRow> {
    Ok(DeliveryRow {
        number: r.get::<_, i64>(0)?.cast_unsigned(),
        job: r.get::<_, i64>(1)?.cast_unsigned(),
        from: r.get(2)?,
        to: r.get(3)?,
        tries: r.get(4)?,
    })
}
