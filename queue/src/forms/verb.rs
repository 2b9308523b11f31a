//! Verbs: which one it is, and who reads its words. What they do is not known here.

use super::launch::launch_options;
use super::{Command, Topic, Tty, What, is_batch};
use crate::args::{End, Parsed, parse};
use crate::messages::Failure;
use crate::options::{BATCH, Id, VERB_NAMES};
use crate::submit::options::Batch;
use crate::verbs::inner;
use crate::verbs::{self, Ask, attach, log, table};
use std::ffi::OsString;

pub(super) fn verb(verb: &str, parsed: &Parsed<'_>) -> Result<Command, Failure> {
    let mut json = false;
    let known = table::by_name(verb);
    let topic = known.map_or(Topic::Queue, Topic::Verb);
    for f in &parsed.found {
        match f.launch.map(|o| o.id) {
            Some(Id::Json) => json = true,
            Some(Id::Help) => return Ok(Command::Help(topic)),
            Some(Id::Version) => return Ok(Command::Version),
            _ => {
                return Err(Failure::own(format!(
                    "{0} in front of `{verb}` is ambiguous: say `qsh {0} {verb} ...` for a host of that name, `queue {verb} --help` for the verb",
                    f.spelled
                )));
            }
        }
    }
    let words = &parsed.rest[1..];
    if verb == "admin"
        && let Some(inner) = inner::read(words)
    {
        return inner.map(Command::Inner);
    }
    if verb == "help" {
        return help(words);
    }
    let Some(known) = known else {
        return Err(Failure::not_yet(&format!("`queue {verb}`")));
    };
    if verbs::wants_help(words) {
        return Ok(Command::Help(topic));
    }
    if verb == "explain" {
        return explain(words, json);
    }
    if verb == "attach" {
        return attach::attach(known, words, json).map(Command::Attach);
    }
    if verb == "detach" {
        return attach::detach(known, words, json).map(Command::Detach);
    }
    if verb == "log" {
        return log::read(known, words, json).map(Command::Log);
    }
    verbs::ask(known, words, json).map(Command::Verb)
}

/// `queue help [VERB]`.
fn help(words: &[OsString]) -> Result<Command, Failure> {
    let topic = match words {
        [] => Topic::Queue,
        [one, ..] => match one.to_str() {
            Some("queue" | "help" | "--help") => Topic::Queue,
            Some("qsh") => Topic::Qsh,
            Some("queue-sh") => Topic::QueueSh,
            name => match name.and_then(table::by_name) {
                Some(verb) => Topic::Verb(verb),
                None if name.is_some_and(|n| VERB_NAMES.contains(&n)) => {
                    return Err(Failure::not_yet(&format!("`queue {}`", one.to_string_lossy())));
                }
                None => {
                    return Err(Failure::own(format!(
                        "no help on `{}`: `queue help` lists the verbs (a host named help is reached by `qsh help`)",
                        one.to_string_lossy()
                    )));
                }
            },
        },
    };
    Ok(Command::Help(topic))
}

/// `queue explain`: the options are the launch form's, and so is the command.
fn explain(words: &[OsString], mut json: bool) -> Result<Command, Failure> {
    let mut parsed = parse(words, false)?;
    parsed.found.retain(|f| {
        let is_json = f.launch.is_some_and(|o| o.id == Id::Json);
        json |= is_json;
        !is_json
    });
    if let Some(f) = parsed.found.iter().find(|f| f.launch.is_none()) {
        return Err(Failure::own(format!(
            "`queue explain` does not know {}",
            f.spelled
        )));
    }
    if let (End::Word, Some(w)) = (parsed.end, parsed.rest.first()) {
        // Of a job that is there already.
        if parsed.found.is_empty() && w.to_str().is_some_and(libqueue::job::is_id) {
            return verbs::explain_job(words, json).map(Command::Verb);
        }
        return Err(Failure::own(format!(
            "the command comes behind `--`: `queue explain ... -- {} ...`",
            w.to_string_lossy()
        )));
    }
    // How it would be submitted says nothing of where it would run.
    if is_batch(&parsed.found) {
        Batch::new(&parsed.found)?;
    }
    parsed.found.retain(|f| {
        let id = f.launch.map(|o| o.id);
        !BATCH.iter().any(|o| Some(o.id) == id) && !matches!(id, Some(Id::Batch | Id::Wait))
    });
    let o = launch_options(&parsed)?;
    let place = o.into_run(What::Launch(Vec::new()), Tty::None).place();
    Ok(Command::Verb(Ask::Explain { place, json }))
}
