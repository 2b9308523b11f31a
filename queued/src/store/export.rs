//! A copy of the store for site scripts: a database of its own, with the views that are promised, and without what
//! jobs executed (environment, arguments, warrants) and printed.

use super::{StoreError, error, schema};
use libqueue::wire::job::{Over, job_reply};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Bytes of one answer.
const CHUNK: usize = 1 << 20;

/// How often a copy of a busy store is begun, and the first pause before the next time; each later one is twice as long.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(100);

/// The tables that go along: what the views are made of.
const TABLES: [&str; 3] = ["job", "task", "attempt"];

/// A file that is removed in the end.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Sends a copy of the store at `path`, as it is at one moment.
pub(super) fn export(path: &Path, reply: &mut dyn FnMut(job_reply::Kind)) -> Result<(), StoreError> {
    let copy = filled(path)?;
    let cannot = |e: std::io::Error| error::system(&copy.0, "read", &e);
    let mut file = File::open(&copy.0).map_err(cannot)?;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        let n = (&mut file)
            .take(CHUNK as u64)
            .read_to_end(&mut chunk)
            .map_err(cannot)?;
        if n == 0 {
            break;
        }
        reply(job_reply::Kind::Chunk(chunk));
    }
    reply(job_reply::Kind::Over(Over::default()));
    Ok(())
}

/// A copy with all in it. SQLite may call a store on a disk that has much to do busy, and that without waiting.
fn filled(path: &Path) -> Result<Temporary, StoreError> {
    let mut tries = 0;
    loop {
        let copy = Temporary(name(path)?);
        let mut step = "";
        let e = match fill(path, &copy.0, &mut step) {
            Ok(()) => return Ok(copy),
            Err(e) => e,
        };
        tries += 1;
        if tries == TRIES || e.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) {
            return Err(error::sqlite(&copy.0, "write", &e));
        }
        let code = e.sqlite_error().map_or(0, |e| e.extended_code);
        tracing::warn!("an export of the store could not {step}: {e} (SQLite's code {code}); it begins anew");
        thread::sleep(PAUSE * 2_u32.pow(tries - 1));
    }
}

/// Makes an empty file beside the store, for the daemon only. One that a killed export left is taken again.
fn name(path: &Path) -> Result<PathBuf, StoreError> {
    let mut last = None;
    for n in 0..8 {
        let name = super::wal::beside(path, &format!(".export-{n}"));
        let _ = clear(&name);
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&name)
        {
            Ok(_) => return Ok(name),
            Err(e) => last = Some(error::system(&name, "make", &e)),
        }
    }
    Err(last.unwrap_or_else(|| StoreError::Io("cannot make a copy of the store".to_owned())))
}

/// Removes a file that was left an hour ago or earlier.
fn clear(name: &Path) -> std::io::Result<()> {
    let age = fs::metadata(name)?.modified()?.elapsed().unwrap_or_default();
    if age.as_secs() > 3600 {
        fs::remove_file(name)?;
    }
    Ok(())
}

/// The name of a database that is opened with the usual locks (`SQLite`'s "URI Filenames").
fn locked(path: &Path) -> String {
    let mut uri = String::from("file:");
    for b in path.as_os_str().as_bytes() {
        match b {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => uri.push(char::from(*b)),
            b => uri.push_str(&format!("%{b:02x}")),
        }
    }
    uri + "?vfs=unix"
}

fn fill(path: &Path, copy: &Path, step: &mut &'static str) -> rusqlite::Result<()> {
    *step = "open the copy";
    // Nobody else has the copy: it needs no locks.
    let mut conn = Connection::open_with_flags_and_vfs(copy, OpenFlags::default(), c"unix-none")?;
    conn.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")?;
    *step = "open the store";
    conn.execute("ATTACH ?1 AS store", [locked(path)])?;
    let tx = conn.transaction()?;
    *step = "copy a table";
    for table in TABLES {
        let sql: String = tx.query_row(
            "SELECT sql FROM store.sqlite_schema WHERE type = 'table' AND name = ?1",
            [table],
            |r| r.get(0),
        )?;
        tx.execute_batch(&sql)?;
        tx.execute_batch(&format!("INSERT INTO main.{table} SELECT * FROM store.{table};"))?;
    }
    *step = "finish the copy";
    // The plan may have more in it than a script should know.
    tx.execute_batch("UPDATE main.job SET rest = x'', identity = NULL;")?;
    schema::views(&tx)?;
    tx.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names() {
        let path = Path::new("/var/lib/a b/100%?x#ü");
        assert_eq!(locked(path), "file:/var/lib/a%20b/100%25%3fx%23%c3%bc?vfs=unix");
    }
}
