//! `queue kill`: ends jobs and sessions, or sends them a signal.

use super::{batch, outcome, parallel, sessions, view};
use crate::control;
use crate::messages::{Failure, printable, say, write_all};
use crate::verbs::Which;
use libqueue::job;
use libqueue::wire::SessionInfo;
use libqueue::wire::job::{Act, Acted};
use queue_exec::protocol::Control;
use serde::Serialize;

#[derive(Serialize)]
struct Outcome {
    id: String,
    host: String,
    ok: bool,
    text: String,
}

/// Digits of a session's id that have to be given where they may be a job's number as well: all that are shown. A slip
/// in a number must not end somebody's session.
const WHOLE: usize = 8;

/// Takes numbers that are no jobs' for the ids of sessions, if they are.
///
/// # Errors
/// A number is no job's, and only the beginning of a session's id.
pub fn sort_out(
    which: Option<Which>,
    mut jobs: Option<Act>,
    numbers: &[String],
) -> Result<(Option<Which>, Option<Act>), Failure> {
    let is_unclear = |n: &&String| sessions::may_be(n);
    let unclear: Vec<&String> = numbers.iter().filter(is_unclear).collect();
    let Some(selection) = jobs.as_mut().and_then(|a| a.which.as_mut()) else {
        return Ok((which, jobs));
    };
    if unclear.is_empty() {
        return Ok((which, jobs));
    }
    let ranges = |n: &String| job::ids(n).unwrap_or_default();
    let asked = unclear.iter().flat_map(|n| ranges(n)).collect();
    // Without the leader they are numbers of jobs, of which nobody knows anything now.
    let Ok(known) = batch::show::fetch(asked) else {
        return Ok((which, jobs));
    };
    let there = known
        .jobs
        .iter()
        .filter_map(|d| d.job.as_ref())
        .map(|j| (j.id, j.task));
    let mut meant = match which {
        Some(Which::Ids(ids)) => ids,
        None => Vec::new(),
        filter => return Ok((filter, jobs)),
    };
    let mut all = None;
    for n in unclear {
        let gone = !batch::missing(&ranges(n), there.clone()).is_empty();
        if !gone {
            continue;
        }
        if all.is_none() {
            all = Some(sessions::fetch()?);
        }
        let Some(s) = all.as_ref().and_then(|all| sessions::find(all, n).ok()) else {
            continue;
        };
        if n.len() < WHOLE {
            return Err(Failure::own(format!(
                "there is no job {n}; the session that begins like this is ended by `queue kill {}`",
                sessions::id(&s.id)
            )));
        }
        let range = ranges(n);
        selection.ids.retain(|r| !range.contains(r));
        meant.push(n.clone());
    }
    if selection.ids.is_empty() {
        jobs = None;
    }
    Ok(((!meant.is_empty()).then_some(Which::Ids(meant)), jobs))
}

/// Tells their hosts. The exit code tells whether all were told.
///
/// # Errors
/// No daemon.
pub fn run(which: Option<&Which>, jobs: Option<Act>, signal: u8, json: bool) -> Result<u8, Failure> {
    let mut acted = None;
    if let Some(mut act) = jobs {
        act.which = act.which.map(batch::mine).transpose()?;
        match batch::act::ask(act) {
            Ok(a) => acted = Some(a),
            // Sessions can be ended without the leader.
            Err(e) if which.is_some() => say(&format!("batch jobs: {}", e.text), false),
            Err(e) => return Err(e),
        }
    }
    let Some(which) = which else {
        return shown(acted.unwrap_or_default(), json);
    };
    if let Some(a) = acted
        .as_ref()
        .filter(|a| !json && (a.number > 0 || !a.failed.is_empty()))
    {
        batch::act::show(a);
    }
    let me = sessions::me()?;
    let mut all = sessions::fetch()?;
    let mut failed = 0;
    let mut found: Vec<SessionInfo> = Vec::new();
    match which {
        Which::Ids(ids) => {
            for text in ids {
                match sessions::find(&all, text) {
                    Ok(s) if found.contains(s) => {}
                    Ok(s) => found.push(s.clone()),
                    Err(e) => {
                        say(&e.text, false);
                        failed += 1;
                    }
                }
            }
        }
        Which::Filter(filter) => {
            sessions::retain(&mut all.sessions, filter, &me);
            found = all.sessions;
            // Their sessions go on, and the user should know.
            for silent in &all.silent {
                say(&printable(silent), false);
                failed += 1;
            }
        }
    }
    let outcomes = parallel::each(&found, |s| one(s, signal, &me));
    let mut worked = outcomes.iter().filter(|o| o.ok).count();
    failed += outcomes.len() - worked;
    if let Some(a) = &acted {
        worked += usize::try_from(a.number).unwrap_or(usize::MAX);
        failed += a.failed.len();
    }
    if json {
        write_all(1, view::json(&outcomes, false)?.as_bytes());
    } else {
        for o in &outcomes {
            match o.ok {
                true => write_all(1, format!("{}\n", o.text).as_bytes()),
                false => say(&o.text, false),
            }
        }
    }
    Ok(outcome(worked, failed))
}

/// What was done with batch jobs alone.
fn shown(acted: Acted, json: bool) -> Result<u8, Failure> {
    if json {
        let all: Vec<_> = acted
            .lines
            .iter()
            .map(|l| serde_json::json!({ "ok": true, "text": l }))
            .chain(
                acted
                    .failed
                    .iter()
                    .map(|l| serde_json::json!({ "ok": false, "text": l })),
            )
            .collect();
        write_all(1, view::json(&all, false)?.as_bytes());
    } else {
        batch::act::show(&acted);
    }
    Ok(batch::act::code(&acted))
}

fn one(s: &SessionInfo, signal: u8, me: &str) -> Outcome {
    let (id, host) = (sessions::id(&s.id), printable(&s.host));
    let result = match s.id[..].try_into() {
        Ok(session) => control::ask(
            &s.host,
            sessions::account(s, me),
            &Control::Kill { session, signal },
        ),
        Err(_) => Err(Failure::own(
            "its host gave an id that this version does not know",
        )),
    };
    let what = format!("{id} of {} on {host}", printable(&s.user));
    let (ok, text) = match (result, signal) {
        (Ok(_), 0) => (true, format!("{what} is told to end")),
        (Ok(_), n) => (true, format!("{what} gets signal {n}")),
        // A host that refuses names the session.
        (Err(e), _) if e.text.contains(&id) => (false, e.text),
        (Err(e), _) => (false, format!("{id} of {}: {}", printable(&s.user), e.text)),
    };
    Outcome { id, host, ok, text }
}
