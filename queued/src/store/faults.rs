//! What disks and people do to a store: a torn log at every byte that matters, a full disk, foreign and newer files.

use super::conformance::{Dir, ended, exited, job, over, sent};
use super::sqlite::SqliteStore;
use super::{JobStore as _, Loaded, StoreError, wal};
use libqueue::wire::job::State;
use std::fs;
use std::path::Path;

fn open(path: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(path)
}

fn scan(bytes: &[u8]) -> wal::Tail {
    wal::scan(&mut &bytes[..]).unwrap()
}

/// A database and its log as a crash leaves them, and the length of the log after each commit.
struct Crashed {
    db: Vec<u8>,
    wal: Vec<u8>,
    ends: Vec<usize>,
}

fn crashed() -> Crashed {
    let dir = Dir::new("crashed");
    // What is set up first is in the database itself.
    drop(open(&dir.db()).unwrap());
    let db = fs::read(dir.db()).unwrap();
    let mut store = open(&dir.db()).unwrap();
    let log = wal::beside(&dir.db(), "-wal");
    let mut ends = Vec::new();
    for id in 1..=6 {
        store.commit(&[job(id)]).unwrap();
        ends.push(fs::metadata(&log).unwrap().len() as usize);
    }
    let wal = fs::read(&log).unwrap();
    assert_eq!(wal.len(), *ends.last().unwrap());
    Crashed { db, wal, ends }
}

/// Opens what a crash left, with this log: the jobs that are there, and what was said.
fn recovered(c: &Crashed, log: &[u8], dir: &Dir) -> (usize, Vec<String>) {
    for f in fs::read_dir(&dir.0).unwrap() {
        fs::remove_file(f.unwrap().path()).unwrap();
    }
    fs::write(dir.db(), &c.db).unwrap();
    fs::write(wal::beside(&dir.db(), "-wal"), log).unwrap();
    let mut store = open(&dir.db()).unwrap();
    let warnings = store.warnings().to_vec();
    let loaded = store.load().unwrap();
    // It goes on from there.
    store.commit(&[job(100)]).unwrap();
    assert_eq!(store.load().unwrap().jobs.len(), loaded.jobs.len() + 1);
    (loaded.jobs.len(), warnings)
}

fn copies(dir: &Dir) -> Vec<Vec<u8>> {
    let all = fs::read_dir(&dir.0).unwrap().map(|f| f.unwrap().path());
    let damaged = all.filter(|p| p.to_string_lossy().contains("jobs.db-wal.damaged-"));
    damaged.map(|p| fs::read(p).unwrap()).collect()
}

#[test]
fn a_log_that_is_cut_keeps_every_commit_before_the_cut() {
    let c = crashed();
    let dir = Dir::new("cut");
    let frame = 4096 + 24;
    let frames = (c.wal.len() - 32) / frame;
    assert_eq!((c.wal.len() - 32) % frame, 0);
    for n in 0..frames {
        for cut in [0, 1, 12, 23, 24, 25, 2000, frame - 1] {
            let len = 32 + n * frame + cut;
            let (jobs, warnings) = recovered(&c, &c.wal[..len], &dir);
            let whole = c.ends.iter().filter(|e| **e <= len).count();
            assert_eq!(jobs, whole, "{len} bytes");
            let torn = cut != 0;
            assert_eq!(warnings.len(), usize::from(torn), "{len} bytes: {warnings:?}");
            assert_eq!(
                copies(&dir),
                if torn { vec![c.wal[..len].to_vec()] } else { vec![] }
            );
        }
    }
    let (jobs, warnings) = recovered(&c, &c.wal, &dir);
    assert_eq!((jobs, warnings.len()), (6, 0));
    let (jobs, warnings) = recovered(&c, &c.wal[..20], &dir);
    assert_eq!((jobs, warnings.len()), (0, 1));
}

#[test]
fn a_damaged_page_loses_what_follows_and_it_is_said_how_much() {
    let c = crashed();
    let dir = Dir::new("damaged");
    let frame = 4096 + 24;
    let frames = (c.wal.len() - 32) / frame;
    for n in 0..frames {
        for at in [16, 24 + 100] {
            let mut log = c.wal.clone();
            log[32 + n * frame + at] ^= 0x40;
            let (jobs, warnings) = recovered(&c, &log, &dir);
            assert_eq!(jobs, c.ends.iter().filter(|e| **e <= 32 + n * frame).count());
            assert_eq!(warnings.len(), 1);
            let lost = format!("{} records behind", frames - n - 1);
            assert_eq!(warnings[0].contains(&lost), n + 1 < frames, "{warnings:?}");
            assert_eq!(copies(&dir), [log]);
        }
    }
}

#[test]
fn an_old_run_of_the_log_is_no_damage() {
    let dir = Dir::new("runs");
    let mut store = open(&dir.db()).unwrap();
    let log = wal::beside(&dir.db(), "-wal");
    // The log is written back and begun again: behind the new run there is the rest of the old one.
    for id in 1..=400 {
        store.commit(&[job(id)]).unwrap();
    }
    store.checkpoint();
    store.commit(&[job(1_000)]).unwrap();
    let tail = scan(&fs::read(&log).unwrap());
    assert!(tail.good < tail.len, "{tail:?}");
    assert!(!tail.torn && tail.after == 0, "{tail:?}");
    assert_eq!(scan(b""), wal::Tail::default());
    assert!(scan(&[0; 100]).torn);
}

#[test]
fn a_full_disk_fails_the_commit_and_nothing_else() {
    let dir = Dir::new("full");
    let mut store = open(&dir.db()).unwrap();
    store.commit(&[job(1)]).unwrap();
    let pages = store.pages();
    store.limit_pages(pages + 4);
    let many: Vec<_> = (2..200).map(job).collect();
    let full = store.commit(&many).unwrap_err();
    assert!(
        matches!(&full, StoreError::Full(e) if e.contains("jobs.db")),
        "{full:?}"
    );
    assert_eq!(store.load().unwrap().jobs.len(), 1, "nothing half done");
    store.limit_pages(1 << 20);
    store.commit(&many).unwrap();
    assert_eq!(store.load().unwrap().jobs.len(), 199);
    assert!(store.run(77).unwrap().is_some());
}

#[test]
fn what_is_not_a_store_of_this_version_is_not_touched() {
    let dir = Dir::new("foreign");
    let refused = |bytes: &[u8]| {
        fs::write(dir.db(), bytes).unwrap();
        let e = open(&dir.db()).unwrap_err();
        assert_eq!(fs::read(dir.db()).unwrap(), bytes);
        match e {
            StoreError::Damaged(e) => e,
            other => panic!("{other:?}"),
        }
    };
    assert!(refused(&b"once upon a time ".repeat(600)).contains("jobs.db"));
    drop(fs::remove_file(dir.db()));
    let other = rusqlite::Connection::open(dir.db()).unwrap();
    other.execute_batch("CREATE TABLE t (x)").unwrap();
    drop(other);
    let bytes = fs::read(dir.db()).unwrap();
    assert!(refused(&bytes).contains("none of queue"));
    fs::remove_file(dir.db()).unwrap();
    drop(open(&dir.db()).unwrap());
    let newer = rusqlite::Connection::open(dir.db()).unwrap();
    newer.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(newer);
    let bytes = fs::read(dir.db()).unwrap();
    assert!(refused(&bytes).contains("newer queued (version 99"));
    // A log without its database is not thrown away.
    fs::remove_file(dir.db()).unwrap();
    let log = wal::beside(&dir.db(), "-wal");
    fs::write(&log, b"log").unwrap();
    let e = open(&dir.db()).unwrap_err();
    assert!(
        matches!(&e, StoreError::Damaged(e) if e.contains("missing or empty")),
        "{e:?}"
    );
    assert_eq!(fs::read(&log).unwrap(), b"log");
    assert!(!dir.db().exists());
}

#[test]
fn what_cannot_be_opened_is_named() {
    let dir = Dir::new("open");
    let e = open(&dir.0.join("none").join("jobs.db")).unwrap_err();
    assert!(
        matches!(&e, StoreError::Io(e) if e.contains("none/jobs.db")),
        "{e:?}"
    );
    fs::create_dir(dir.db()).unwrap();
    assert!(matches!(open(&dir.db()), Err(StoreError::Io(_))));
    fs::remove_dir(dir.db()).unwrap();
    let first = open(&dir.db()).unwrap();
    let e = open(&dir.db()).unwrap_err();
    assert!(
        matches!(&e, StoreError::Io(e) if e.contains("another queued")),
        "{e:?}"
    );
    drop(first);
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(
        fs::metadata(dir.db()).unwrap().permissions().mode() & 0o777,
        0o600
    );
    open(&dir.db()).unwrap();
}

#[test]
fn an_export_has_the_views_and_no_secrets() {
    use super::reader::Reader;
    use crate::engine::jobs::types::{Asker, Read};
    use libqueue::wire::job::job_reply::Kind;
    let dir = Dir::new("export");
    let mut store = open(&dir.db()).unwrap();
    let failed = ended(2, 0, 1, exited(3), State::Failed);
    store
        .commit(&[
            job(1),
            job(2),
            sent(2, 0, 1, "h2"),
            failed,
            over(2, State::Failed),
        ])
        .unwrap();
    let reader = Reader::open(&dir.db()).unwrap();
    let mut bytes = Vec::new();
    let mut ends = 0;
    let mut take = |k| match k {
        Kind::Chunk(c) => bytes.extend(c),
        Kind::Over(_) => ends += 1,
        other => panic!("{other:?}"),
    };
    reader.read(&Asker::default(), Read::Export, &mut take).unwrap();
    assert_eq!(ends, 1);
    for secret in ["hunter2", "warrant 2", "cert 2"] {
        assert!(
            !bytes.windows(secret.len()).any(|w| w == secret.as_bytes()),
            "{secret}"
        );
    }
    let copy = dir.0.join("copy.db");
    fs::write(&copy, &bytes).unwrap();
    let conn = rusqlite::Connection::open(&copy).unwrap();
    let rows = |sql: &str| -> Vec<String> {
        let mut s = conn.prepare(sql).unwrap();
        s.query_map([], |r| r.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect()
    };
    assert_eq!(rows("SELECT state FROM jobs_v ORDER BY id"), ["live", "failed"]);
    assert_eq!(
        rows("SELECT cause || ' ' || code || ' ' || host || ' ' || wall_s FROM attempts_v"),
        ["exited 3 h2 1.5"]
    );
    assert_eq!(
        rows("SELECT user || ' ' || done || ' ' || failed FROM usage_by_user_v"),
        ["alice 0 1"]
    );
    let left: Vec<_> = fs::read_dir(&dir.0)
        .unwrap()
        .map(|f| f.unwrap().file_name())
        .collect();
    assert!(
        !left.iter().any(|n| n.to_string_lossy().contains("export")),
        "{left:?}"
    );
    // Readers see each commit at once, and run while one is being made.
    store.commit(&[job(3)]).unwrap();
    assert_eq!(reader.run(3).unwrap().unwrap().job, 3);
    assert_ne!(store.load().unwrap(), Loaded::default());
}
