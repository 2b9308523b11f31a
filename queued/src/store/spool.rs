//! The spool of a host, in SQLite: numbers that it may give away, and submissions that the leader does not have yet.

use super::sqlite::int;
use super::{SpoolOp, SpoolStore, Spooled, StoreError, error, open, schema};
use libqueue::wire::job::{Block, Submit};
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use std::path::Path;

/// The spool.
#[derive(Debug)]
pub(crate) struct SqliteSpool {
    db: open::Database,
}

impl SqliteSpool {
    /// Opens the spool, or makes it.
    ///
    /// # Errors
    /// It cannot be opened; it was not touched.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            db: open::open(path, schema::SPOOL)?,
        })
    }

    /// What was odd when it was opened, for the log.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.db.warnings
    }
}

impl SpoolStore for SqliteSpool {
    fn load(&mut self) -> Result<Spooled, StoreError> {
        load(&self.db.conn).map_err(|e| error::sqlite(&self.db.path, "load", &e))
    }

    fn commit(&mut self, ops: &[SpoolOp]) -> Result<(), StoreError> {
        let path = &self.db.path;
        let tx = self
            .db
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate);
        tx.and_then(|tx| {
            for op in ops {
                apply(&tx, op)?;
            }
            tx.commit()
        })
        .map_err(|e| error::sqlite(path, "write to", &e))
    }
}

fn apply(c: &Connection, op: &SpoolOp) -> rusqlite::Result<()> {
    let run = |sql: &str, p: &[&dyn rusqlite::ToSql]| c.prepare_cached(sql)?.execute(p).map(drop);
    match op {
        SpoolOp::Block(b) => run(
            "INSERT OR REPLACE INTO block VALUES (1, ?1, ?2)",
            params![int(b.from), int(b.to)],
        ),
        SpoolOp::Used(n) => run("UPDATE block SET first = max(first, ?1)", params![int(*n)]),
        SpoolOp::Put(s) => run(
            "INSERT OR REPLACE INTO submit VALUES (?1, ?2)",
            params![int(s.id), s.encode_to_vec()],
        ),
        SpoolOp::Gone(id) => run("DELETE FROM submit WHERE id = ?1", params![int(*id)]),
    }
}

fn load(c: &Connection) -> rusqlite::Result<Spooled> {
    let block = c
        .query_row("SELECT first, beyond FROM block", [], |r| {
            Ok(Block {
                from: r.get::<_, i64>(0)?.cast_unsigned(),
                to: r.get::<_, i64>(1)?.cast_unsigned(),
            })
        })
        .optional()?;
    let mut submits = Vec::new();
    super::select::each(c, "SELECT submit FROM submit ORDER BY id", [], |r| {
        let submit = Submit::decode(r.get_ref(0)?.as_blob()?).map_err(|e| {
            rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, Box::new(e))
        })?;
        submits.push(submit);
        Ok(true)
    })?;
    Ok(Spooled { block, submits })
}
