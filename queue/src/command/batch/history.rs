//! `queue history`: jobs that have ended; and a copy of the store.

use super::{json, list, named, now_ms};
use crate::command::view::{self, json as encode};
use crate::human;
use crate::leader;
use crate::messages::{Failure, printable, reason, say, write_all};
use crate::table::Table;
use libqueue::job;
use libqueue::wire::job::{History, Page, job_reply, query};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

/// Searches and shows. The times of the question are ages.
///
/// # Errors
/// The leader cannot be reached, or refuses.
pub fn run(mut ask: History, as_json: bool) -> Result<u8, Failure> {
    let now = now_ms();
    let before = |age: u64| if age == 0 { 0 } else { now.saturating_sub(age) };
    (ask.since_ms, ask.until_ms) = (before(ask.since_ms), before(ask.until_ms));
    ask.which = ask.which.map(named).transpose()?;
    let (offset, attempts) = (ask.offset, ask.attempts);
    let job_reply::Kind::Page(page) = leader::reply(query::Kind::History(ask))? else {
        return Err(leader::strange());
    };
    if as_json {
        let jobs: Vec<_> = page.jobs.iter().map(json::job).collect();
        let value = serde_json::json!({ "jobs": jobs, "total": page.total });
        write_all(1, encode(&value, false)?.as_bytes());
        return Ok(0);
    }
    write_all(1, table(&page, attempts).render(view::width()).as_bytes());
    let rest = page.total.saturating_sub(offset + page.jobs.len() as u64);
    if rest > 0 {
        let next = offset + page.jobs.len() as u64;
        say(
            &format!("{rest} more: --offset {next} shows the next ones"),
            false,
        );
    }
    Ok(0)
}

fn table(page: &Page, attempts: bool) -> Table {
    let mut t = Table::new(&[
        "ID", "USER", "NAME", "HOST", "ENDED", ">TIME", "STATE", "RESULT", "COMMAND",
    ]);
    for j in &page.jobs {
        let or_dash = |s: String| if s.is_empty() { "-".to_owned() } else { s };
        let id = job::name(j.id, j.task);
        t.row(vec![
            if attempts {
                format!("{id} #{}", j.attempts)
            } else {
                id
            },
            printable(&j.user),
            or_dash(printable(&j.name)),
            or_dash(printable(&j.host)),
            human::moment(j.ended_ms).trim_end_matches(" UTC").to_owned(),
            super::run_time(j, page.now_ms),
            match j.counts.is_empty() {
                true => job::state_name(j.state()).to_owned(),
                false => list::counts(&j.counts),
            },
            or_dash(super::reason(j)),
            or_dash(printable(&j.command)),
        ]);
    }
    t
}

/// Writes a copy of the store.
///
/// # Errors
/// The leader refuses, or the file cannot be written; then nothing of it is left.
pub fn export(file: &str) -> Result<u8, Failure> {
    let failed = |e: std::io::Error| {
        let next = match e.kind() {
            std::io::ErrorKind::AlreadyExists => ": name another file, or remove that one",
            _ => "",
        };
        Failure::own(format!("--export: {file}: {}{next}", reason(&e)))
    };
    if file == "-" {
        return Err(Failure::own(
            "--export: it writes a database, which needs a file with a name: `queue history --export jobs.db`",
        ));
    }
    let mut answers = leader::ask(query::Kind::Export(libqueue::wire::Empty {}))?;
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .map_err(failed)?;
    let mut copy = || -> Result<u64, Failure> {
        let mut bytes = 0;
        loop {
            match answers.next_reply() {
                Ok(Some(job_reply::Kind::Chunk(c))) => {
                    out.write_all(&c).map_err(failed)?;
                    bytes += c.len() as u64;
                }
                Ok(Some(job_reply::Kind::Over(_))) => {
                    out.sync_all().map_err(failed)?;
                    return Ok(bytes);
                }
                Ok(Some(job_reply::Kind::Error(e))) => return Err(Failure::own(printable(&e.text))),
                Ok(Some(_)) => return Err(leader::strange()),
                Ok(None) => return Err(answers.lost(&std::io::ErrorKind::UnexpectedEof.into())),
                Err(e) => return Err(answers.lost(&e)),
            }
        }
    };
    match copy() {
        Ok(bytes) => {
            let text = format!(
                "{file}: {}, SQLite; views jobs_v, attempts_v, usage_by_user_v\n",
                libqueue::size::show(bytes)
            );
            write_all(1, text.as_bytes());
            Ok(0)
        }
        Err(e) => {
            let _ = std::fs::remove_file(file);
            Err(e)
        }
    }
}
