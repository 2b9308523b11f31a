//! `queue kill`: ends sessions, or sends them a signal.

use super::{outcome, parallel, sessions, view};
use crate::control;
use crate::messages::{Failure, printable, say, write_all};
use crate::verbs::Which;
use libqueue::wire::SessionInfo;
use queue_exec::protocol::Control;
use serde::Serialize;

#[derive(Serialize)]
struct Outcome {
    id: String,
    host: String,
    ok: bool,
    text: String,
}

/// Tells their hosts. The exit code tells whether all were told.
///
/// # Errors
/// No daemon.
pub fn run(which: &Which, signal: u8, json: bool) -> Result<u8, Failure> {
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
    let worked = outcomes.iter().filter(|o| o.ok).count();
    failed += outcomes.len() - worked;
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
