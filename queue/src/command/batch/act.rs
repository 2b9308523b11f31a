//! Does something with jobs: hold, release, suspend, resume, retry, delete, modify, kill.

use crate::command::outcome;
use crate::command::view::json;
use crate::leader;
use crate::messages::{Failure, printable, say, write_all};
use libqueue::wire::job::{Act, Acted, job_reply, query};
use serde_json::json;

/// Asks the leader to.
///
/// # Errors
/// It cannot be reached, or refuses.
pub fn ask(act: Act) -> Result<Acted, Failure> {
    match leader::reply(query::Kind::Act(act))? {
        job_reply::Kind::Acted(acted) => Ok(acted),
        _ => Err(leader::strange()),
    }
}

/// Does it, and says what was done. The exit code: 0 if all was, 1 if some was, 125 if nothing was.
///
/// # Errors
/// As [`ask`].
pub fn run(act: Act, as_json: bool) -> Result<u8, Failure> {
    let acted = ask(act)?;
    let code = outcome(
        usize::try_from(acted.number).unwrap_or(usize::MAX),
        acted.failed.len(),
    );
    if as_json {
        let value = json!({ "number": acted.number, "done": acted.lines, "failed": acted.failed });
        write_all(1, json(&value, false)?.as_bytes());
        return Ok(code);
    }
    show(&acted);
    Ok(code)
}

/// The exit code for it: 0 if all was done, 1 if some was, 125 if nothing was, also because there was nothing.
pub fn code(acted: &Acted) -> u8 {
    match (acted.number, acted.failed.len()) {
        (0, 0) => libqueue::exit::FAILED,
        (n, failed) => outcome(usize::try_from(n).unwrap_or(usize::MAX), failed),
    }
}

/// Says what was done.
pub fn show(acted: &Acted) {
    let mut text = String::new();
    for line in &acted.lines {
        text.push_str(&printable(line));
        text.push('\n');
    }
    let more = acted.number.saturating_sub(acted.lines.len() as u64);
    if more > 0 && !acted.lines.is_empty() {
        text.push_str(&format!("... and {more} more\n"));
    }
    write_all(1, text.as_bytes());
    for line in &acted.failed {
        say(&printable(line), false);
    }
    if acted.number == 0 && acted.failed.is_empty() {
        say("there are no such jobs", false);
    }
}
