//! `queue log`: the output of jobs, from whichever host has it.

use super::output::follow::{Follow, Options, ends, gone};
use super::output::show::{Head, Lines, Screen};
use super::output::source::{Source, Told};
use super::view::json as encode;
use super::{batch, follow};
use crate::leader;
use crate::messages::{Failure, write_all};
use crate::place::Daemon;
use crate::verbs::inner::Tail;
use crate::verbs::log::Log;
use libqueue::job;
use libqueue::wire::job::{IdRange, Output, Selection, job_reply, query};
use libqueue::wire::{Empty, reply, request};
use queue_exec::layout::Layout;
use serde_json::json;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;

/// Shows it.
///
/// # Errors
/// There are no such jobs, or none of their output can be read.
pub fn run(log: &Log) -> Result<u8, Failure> {
    let which = Selection {
        ids: log.ids.clone(),
        ..Selection::default()
    };
    let here = here()?;
    if log.follow {
        return as_it_comes(log, which, here);
    }
    let outputs = match leader::reply(query::Kind::Outputs(which))? {
        job_reply::Kind::Outputs(o) => o.outputs,
        _ => return Err(leader::strange()),
    };
    if outputs.is_empty() {
        return Err(nothing(&log.ids));
    }
    if log.json {
        let all: Vec<_> = outputs.iter().map(as_json).collect();
        write_all(1, encode(&json!(all), false)?.as_bytes());
        return Ok(0);
    }
    let prefix = !log.raw && outputs.len() > 1;
    let (mut shown, mut failed) = (0, 0);
    for o in &outputs {
        match show(log, o, &here, prefix) {
            Ok(()) => shown += 1,
            Err(f) => {
                Screen::default().note(&f.text);
                failed += 1;
            }
        }
    }
    Ok(super::outcome(shown, failed))
}

/// Why there is no output: the jobs are somebody else's, or there are none.
fn nothing(ids: &[IdRange]) -> Failure {
    let there = batch::show::fetch(ids.to_vec()).unwrap_or_default();
    match there.jobs.iter().find_map(|d| d.job.as_ref()) {
        Some(j) => follow::private(j.id, &j.user),
        None => follow::unknown_all(ids),
    }
}

/// Name of this host.
pub(super) fn here() -> Result<String, Failure> {
    let mut daemon = Daemon::dial(&Layout::for_client())?;
    match daemon.request(request::Kind::Status(Empty {}))? {
        reply::Kind::Status(s) => Ok(s.host),
        _ => Err(daemon.strange()),
    }
}

/// Shows it while it is written.
fn as_it_comes(log: &Log, which: Selection, here: String) -> Result<u8, Failure> {
    // Tasks have numbers unless only one was asked for.
    let one = match log.ids[..] {
        [id] => id.from == id.to && id.tasks.is_none_or(|t| t.from == t.to),
        _ => false,
    };
    let has_tasks = match log.ids[..] {
        [id] if one && id.tasks.is_none() => is_array(&which)?,
        _ => false,
    };
    let ids = which.ids.clone();
    let mut follow = Follow::new(
        Options {
            which,
            fds: [!log.error, log.error],
            error_to: 1,
            prefix: !log.raw && (!one || has_tasks),
            tail: log.tail,
            old: None,
            patient: false,
            tries: 0,
            here,
        },
        Screen::default(),
    );
    follow.run(
        |_| None,
        |_, over| if over.nothing { Err(nothing(&ids)) } else { Ok(0) },
    )
}

/// Whether a job has tasks.
fn is_array(which: &Selection) -> Result<bool, Failure> {
    match leader::reply(query::Kind::Outputs(which.clone()))? {
        job_reply::Kind::Outputs(o) => Ok(o.outputs.iter().any(|o| o.key.is_some_and(|k| k.task > 0))),
        _ => Err(leader::strange()),
    }
}

/// One output, as far as it has come.
fn show(log: &Log, o: &Output, here: &str, prefix: bool) -> Result<(), Failure> {
    let key = o.key.unwrap_or_default();
    let name = job::name(key.job, key.task);
    let mut out = Out {
        lines: Lines::new(prefix.then_some(name.as_str())),
        head: Head::new(log.head),
    };
    let path = if log.error { &o.error } else { &o.path };
    let outcome = o.outcome.as_ref();
    if outcome.is_some_and(|o| o.written == 0) || key.attempt == 0 {
        return Ok(());
    }
    // The history has all of what is short.
    let whole = outcome.filter(|o| !log.error && o.error.is_empty() && o.head.len() as u64 == o.written);
    if let (Some(o), None) = (whole, log.tail) {
        out.put(&o.head);
    } else if path.is_empty() || o.host.is_empty() {
        if let (Some(o), false) = (outcome, log.error) {
            out.put(&ends(o));
        }
    } else {
        let tail = Tail {
            path: PathBuf::from(OsStr::from_bytes(path)),
            lines: log.tail,
            ..Tail::default()
        };
        let (to, from) = sync_channel(4);
        let host = Some(o.host.clone()).filter(|h| h != here);
        let _source = Source::start(host, tail, to, |t| t)?;
        let mut wrong = None;
        for told in from {
            match told {
                Told::Bytes(d) => out.put(&d),
                Told::End => break,
                Told::Gone => wrong = Some(None),
                Told::Failed(f) => wrong = Some(Some(f)),
            }
            if wrong.is_some() || out.head.is_done() {
                break;
            }
        }
        match (wrong, outcome) {
            (None, _) => {}
            // It runs, and has written nothing yet.
            (Some(None), None) => {}
            (Some(Some(f)), None) => return Err(Failure::own(format!("the output of {name}: {}", f.text))),
            (Some(why), Some(_)) if log.error => {
                return Err(Failure::own(gone(&name, path, &o.host, why.as_ref())));
            }
            (Some(why), Some(outcome)) => {
                Screen::default().note(&gone(&name, path, &o.host, why.as_ref()));
                out.put(&ends(outcome));
            }
        }
    }
    out.lines.end(|d| write_all(1, d));
    Ok(())
}

/// Where the bytes of one output go.
struct Out {
    lines: Lines,
    head: Head,
}

impl Out {
    fn put(&mut self, data: &[u8]) {
        self.lines.add(self.head.cut(data), |d| write_all(1, d));
    }
}

fn as_json(o: &Output) -> serde_json::Value {
    let key = o.key.unwrap_or_default();
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    let some = |b: &[u8]| Some(text(b)).filter(|t| !t.is_empty());
    json!({
        "id": job::name(key.job, key.task),
        "attempt": key.attempt,
        "state": job::state_name(o.state()),
        "host": Some(&o.host).filter(|h| !h.is_empty()),
        "path": some(&o.path),
        "error_path": some(&o.error),
        "spooled": o.spooled,
        "bytes": o.outcome.as_ref().map(|o| o.written),
        "cut": o.outcome.as_ref().map(|o| o.cut),
        "head": o.outcome.as_ref().map(|o| text(&o.head)),
        "tail": o.outcome.as_ref().map(|o| text(&o.tail)),
    })
}
