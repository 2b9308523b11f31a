//! Opens a database of ours: looks before it touches, and never deletes or replaces what it cannot read.

use super::{StoreError, error, schema, wal};
use rusqlite::{Connection, OpenFlags};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Pages of the log after which it is written back into the database: 16 MiB.
const CHECKPOINT: u32 = 4096;
/// Statements that each connection keeps prepared.
const STATEMENTS: usize = 64;

/// An open database, alone to write it.
#[derive(Debug)]
pub(super) struct Database {
    /// The connection that writes.
    pub conn: Connection,
    /// Where it is.
    pub path: PathBuf,
    /// What was odd: for the log.
    pub warnings: Vec<String>,
    /// Held as long as this is open: nobody else writes.
    _lock: File,
}

/// Opens a database, or makes it; `steps` lead to its newest version.
pub(super) fn open(path: &Path, steps: &[&str]) -> Result<Database, StoreError> {
    let lock = lock(path)?;
    look(path)?;
    let mut warnings = Vec::new();
    let cannot = |e: std::io::Error| error::system(path, "open", &e);
    let date = date().map_err(|e| error::sqlite(path, "open", &e))?;
    warnings.extend(
        wal::inspect(path, &date).map_err(|e| error::system(&wal::beside(path, "-wal"), "read", &e))?,
    );
    let mut file = OpenOptions::new();
    drop(
        file.read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(cannot)?,
    );
    let mut conn = connect(path, false)?;
    let failed = |what: &'static str| move |e: rusqlite::Error| error::sqlite(path, what, &e);
    let version = pragma(&conn, "user_version").map_err(failed("read"))?;
    let application = pragma(&conn, "application_id").map_err(failed("read"))?;
    let tables = conn
        .query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get::<_, i64>(0))
        .map_err(failed("read"))?;
    let at = path.display();
    if application != schema::APPLICATION && (version != 0 || application != 0 || tables != 0) {
        return Err(StoreError::Damaged(format!(
            "{at} is a database, but none of queue; it was not touched: move it away if it is not needed"
        )));
    }
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    if version > steps.len() {
        return Err(StoreError::Damaged(format!(
            "{at} was written by a newer queued (version {version}, this one knows {}); it was not touched: install \
             that queued again",
            steps.len()
        )));
    }
    conn.execute_batch(&format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = {CHECKPOINT};
         PRAGMA journal_size_limit = 67108864;"
    ))
    .map_err(failed("prepare"))?;
    if version < steps.len() {
        schema::migrate(&mut conn, steps, version).map_err(failed("set up"))?;
    }
    if let Some(dir) = path.parent() {
        File::open(dir)
            .and_then(|d| d.sync_all())
            .map_err(|e| error::system(dir, "sync", &e))?;
    }
    Ok(Database {
        conn,
        path: path.to_owned(),
        warnings,
        _lock: lock,
    })
}

/// Opens one more connection, to read only.
pub(super) fn reader(path: &Path) -> Result<Connection, StoreError> {
    connect(path, true)
}

fn connect(path: &Path, read_only: bool) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let failed = |e: rusqlite::Error| error::sqlite(path, "open", &e);
    let conn = Connection::open_with_flags(path, flags).map_err(failed)?;
    conn.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    conn.execute_batch(
        "PRAGMA trusted_schema = OFF; PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY;",
    )
    .map_err(failed)?;
    if read_only {
        conn.execute_batch("PRAGMA query_only = ON; PRAGMA wal_autocheckpoint = 0;")
            .map_err(failed)?;
    }
    Ok(conn)
}

fn pragma(conn: &Connection, name: &str) -> rusqlite::Result<i64> {
    conn.query_row(&format!("PRAGMA {name}"), [], |r| r.get(0))
}

/// Date and time, as part of a file's name.
fn date() -> rusqlite::Result<String> {
    Connection::open_in_memory()?.query_row("SELECT strftime('%Y%m%d-%H%M%S', 'now')", [], |r| r.get(0))
}

/// Only one daemon at a time.
fn lock(path: &Path) -> Result<File, StoreError> {
    let name = wal::beside(path, ".lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)
        .map_err(|e| error::system(&name, "open", &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::Io(format!(
            "{} is in use by another queued; end that one first",
            path.display()
        ))),
        Err(fs::TryLockError::Error(e)) => Err(error::system(&name, "lock", &e)),
    }
}

/// SQLite takes an empty file for a new database, and removes a log that has none: so that is looked at before.
fn look(path: &Path) -> Result<(), StoreError> {
    let len = |p: &Path| match fs::metadata(p) {
        Ok(m) => Ok(Some(m.len())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(error::system(p, "look at", &e)),
    };
    let log = wal::beside(path, "-wal");
    if len(path)?.unwrap_or(0) == 0 && len(&log)?.unwrap_or(0) > 0 {
        return Err(StoreError::Damaged(format!(
            "{} is missing or empty, but its log {} is there; nothing was touched: put a copy of the database back, or \
             move the log away to begin with nothing",
            path.display(),
            log.display()
        )));
    }
    Ok(())
}
