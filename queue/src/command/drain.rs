//! `queue drain` and `queue undrain`.

use super::{outcome, parallel, view};
use crate::control;
use crate::messages::{Failure, printable, say, write_all};
use queue_exec::protocol::Control;
use serde::Serialize;

#[derive(Serialize)]
struct Outcome<'a> {
    host: &'a str,
    ok: bool,
    text: String,
}

/// Tells the hosts; no reason: they take commands again. The exit code tells whether all were told.
///
/// # Errors
/// The result cannot be shown.
pub fn run(hosts: &[String], reason: Option<&str>, json: bool) -> Result<u8, Failure> {
    let control = match reason {
        Some(reason) => Control::Drain {
            reason: reason.to_owned(),
        },
        None => Control::Undrain,
    };
    let outcomes = parallel::each(hosts, |host| match control::ask(host, "", &control) {
        Ok(text) => Outcome {
            host,
            ok: true,
            text: said(host, &text, reason.is_some()),
        },
        Err(e) => Outcome {
            host,
            ok: false,
            text: e.text,
        },
    });
    let failed = outcomes.iter().filter(|o| !o.ok).count();
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
    Ok(outcome(outcomes.len() - failed, failed))
}

/// What a host has done, in its words if it has any.
fn said(host: &str, text: &str, drain: bool) -> String {
    let host = printable(host);
    match (text, drain) {
        ("", true) => format!("{host} takes nothing new"),
        ("", false) => format!("{host} takes commands again"),
        (text, _) => text.to_owned(),
    }
}
