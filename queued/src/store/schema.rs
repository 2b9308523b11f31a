//! The tables of the store, its versions, and the views that site scripts may use.

use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::fmt::Write as _;

/// Marks a file as a store of queue: "queu".
pub(super) const APPLICATION: i64 = 0x7175_6575;

/// What leads from one version of the leader's store to the next; version N is what the first N of them make.
pub(super) const JOBS: &[&str] = &[JOBS_1];
/// The same for the spool of a host.
pub(super) const SPOOL: &[&str] = &[SPOOL_1];

/// A job's row is written at its submission, and once more when it is over; what it executes is beside it and never
/// changes. An attempt is in `flying` until it ends: that table stays small, and `attempt` is only appended to.
const JOBS_1: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE block (host TEXT PRIMARY KEY, first INTEGER NOT NULL, beyond INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE job (
    id INTEGER PRIMARY KEY,
    owner TEXT NOT NULL, login TEXT NOT NULL, submit_host TEXT NOT NULL, submitted_ms INTEGER NOT NULL,
    name TEXT NOT NULL, grp TEXT NOT NULL, class TEXT NOT NULL, command TEXT NOT NULL,
    state INTEGER NOT NULL, reason TEXT NOT NULL, ended_ms INTEGER NOT NULL,
    identity BLOB, rest BLOB NOT NULL);
CREATE INDEX job_live ON job (id) WHERE state = 0;
CREATE INDEX job_over ON job (ended_ms, state) WHERE state <> 0;
CREATE INDEX job_identity ON job (ended_ms, identity) WHERE state <> 0 AND identity IS NOT NULL;
CREATE TABLE cert (id INTEGER PRIMARY KEY, cert BLOB NOT NULL UNIQUE);
CREATE TABLE run (job INTEGER PRIMARY KEY, run BLOB NOT NULL, warrant BLOB NOT NULL, cert INTEGER NOT NULL);
CREATE TABLE entries (job INTEGER PRIMARY KEY, entries BLOB NOT NULL);
CREATE TABLE task (
    job INTEGER NOT NULL, task INTEGER NOT NULL, state INTEGER NOT NULL, attempt INTEGER NOT NULL,
    failures INTEGER NOT NULL, not_before_ms INTEGER NOT NULL, held INTEGER NOT NULL,
    PRIMARY KEY (job, task)) WITHOUT ROWID;
CREATE TABLE flying (
    job INTEGER NOT NULL, task INTEGER NOT NULL, attempt INTEGER NOT NULL,
    host TEXT NOT NULL, life BLOB NOT NULL, epoch INTEGER NOT NULL, sent_ms INTEGER NOT NULL,
    lease_ms INTEGER NOT NULL, started_ms INTEGER NOT NULL,
    PRIMARY KEY (job, task, attempt)) WITHOUT ROWID;
CREATE TABLE attempt (
    job INTEGER NOT NULL, task INTEGER NOT NULL, attempt INTEGER NOT NULL,
    host TEXT NOT NULL, epoch INTEGER NOT NULL, sent_ms INTEGER NOT NULL, lease_ms INTEGER NOT NULL,
    started_ms INTEGER NOT NULL, ended_ms INTEGER NOT NULL,
    cause INTEGER NOT NULL, code INTEGER, signal INTEGER, flags INTEGER NOT NULL, text TEXT NOT NULL,
    began_ms INTEGER NOT NULL, wall_ms INTEGER NOT NULL, cpu_us INTEGER NOT NULL, maxrss_kib INTEGER NOT NULL,
    written INTEGER NOT NULL, output BLOB NOT NULL, error BLOB NOT NULL,
    PRIMARY KEY (job, task, attempt)) WITHOUT ROWID;
CREATE INDEX attempt_ended ON attempt (ended_ms);
CREATE TABLE ends (
    job INTEGER NOT NULL, task INTEGER NOT NULL, attempt INTEGER NOT NULL,
    head BLOB NOT NULL, tail BLOB NOT NULL,
    PRIMARY KEY (job, task, attempt)) WITHOUT ROWID;
CREATE TABLE limits (name TEXT PRIMARY KEY, total INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE letter (number INTEGER PRIMARY KEY, letter BLOB NOT NULL);
CREATE TABLE delivery (
    number INTEGER PRIMARY KEY, job INTEGER NOT NULL, source TEXT NOT NULL, target TEXT NOT NULL,
    tries INTEGER NOT NULL);
CREATE TABLE delivered (
    job INTEGER NOT NULL, source TEXT NOT NULL, target TEXT NOT NULL, failed TEXT NOT NULL,
    PRIMARY KEY (job, source)) WITHOUT ROWID;
CREATE TABLE deleted (id INTEGER PRIMARY KEY);
";

const SPOOL_1: &str = "
CREATE TABLE block (one INTEGER PRIMARY KEY CHECK (one = 1), first INTEGER NOT NULL, beyond INTEGER NOT NULL);
CREATE TABLE submit (id INTEGER PRIMARY KEY, submit BLOB NOT NULL);
";

/// The views: what they show is promised to site scripts; the tables below are not. Times are UTC, `NULL` where a
/// thing has not happened; a job that is not over has the state `live`.
const VIEWS: &str = "
CREATE VIEW jobs_v AS SELECT
    j.id, j.owner AS user, j.login, j.name, j.grp AS \"group\", j.class, j.submit_host,
    CASE j.state WHEN 0 THEN 'live' ELSE s.name END AS state, j.reason, j.command,
    datetime(j.submitted_ms / 1000, 'unixepoch') AS submitted,
    CASE j.ended_ms WHEN 0 THEN NULL ELSE datetime(j.ended_ms / 1000, 'unixepoch') END AS ended,
    j.submitted_ms, j.ended_ms
  FROM job j LEFT JOIN state_name s ON s.id = j.state;
CREATE VIEW attempts_v AS SELECT
    a.job, a.task, a.attempt, j.owner AS user, j.name, j.grp AS \"group\", j.class, a.host,
    c.name AS cause, a.code, a.signal, a.text,
    datetime(a.sent_ms / 1000, 'unixepoch') AS sent,
    CASE a.began_ms WHEN 0 THEN NULL ELSE datetime(a.began_ms / 1000, 'unixepoch') END AS started,
    datetime(a.ended_ms / 1000, 'unixepoch') AS ended,
    a.wall_ms / 1000.0 AS wall_s, a.cpu_us / 1e6 AS cpu_s, a.maxrss_kib AS peak_kib, a.written AS output_bytes,
    a.sent_ms, a.ended_ms
  FROM attempt a LEFT JOIN job j ON j.id = a.job LEFT JOIN cause_name c ON c.id = a.cause;
CREATE VIEW usage_by_user_v AS SELECT
    j.owner AS user, date(a.ended_ms / 1000, 'unixepoch') AS day,
    count(*) AS attempts, sum(a.cause = 0 AND a.code = 0) AS done, sum(NOT (a.cause = 0 AND a.code IS 0)) AS failed,
    sum(a.wall_ms) / 1000.0 AS wall_s, sum(a.cpu_us) / 1e6 AS cpu_s, max(a.maxrss_kib) AS peak_kib
  FROM attempt a JOIN job j ON j.id = a.job WHERE a.began_ms <> 0
  GROUP BY j.owner, day;
";

/// Brings a database from the version that it has to the newest one, all in one transaction.
pub(super) fn migrate(conn: &mut Connection, steps: &[&str], from: usize) -> rusqlite::Result<()> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in &steps[from..] {
        tx.execute_batch(step)?;
    }
    if steps.len() == JOBS.len() && std::ptr::eq(steps, JOBS) {
        views(&tx)?;
    }
    tx.execute_batch(&format!(
        "PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {};",
        steps.len()
    ))?;
    tx.commit()
}

/// Makes the views anew, with the names that they show.
pub(super) fn views(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut sql = String::from(
        "DROP VIEW IF EXISTS jobs_v; DROP VIEW IF EXISTS attempts_v; DROP VIEW IF EXISTS usage_by_user_v;\n\
         DROP TABLE IF EXISTS state_name; DROP TABLE IF EXISTS cause_name;\n\
         CREATE TABLE state_name (id INTEGER PRIMARY KEY, name TEXT NOT NULL);\n\
         CREATE TABLE cause_name (id INTEGER PRIMARY KEY, name TEXT NOT NULL);\n",
    );
    let (states, causes) = super::rows::names();
    for (table, names) in [("state_name", states), ("cause_name", causes)] {
        for (id, name) in names {
            let _ = writeln!(sql, "INSERT INTO {table} VALUES ({id}, '{name}');");
        }
    }
    sql.push_str(VIEWS);
    tx.execute_batch(&sql)
}
