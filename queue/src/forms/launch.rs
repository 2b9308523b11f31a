//! The launch form, `queue [OPTIONS] -- COMMAND`. Nothing of the other forms.

use super::options::Options;
use super::words::{escape_char, no_descriptors, target, text};
use super::{Command, Target, Tty, What, later};
use crate::args::Parsed;
use crate::messages::Failure;
use crate::options::Id;
use std::ffi::OsString;

pub(super) fn launch(parsed: &Parsed<'_>) -> Result<Command, Failure> {
    let o = launch_options(parsed)?;
    runnable(parsed.rest)?;
    Ok(o.run(What::Launch(parsed.rest.to_vec()), Tty::Auto))
}

/// A command that can go to another host.
pub(super) fn runnable(words: &[OsString]) -> Result<(), Failure> {
    match words.first() {
        None => Err(Failure::own(
            "nothing to run behind `--`: `queue [OPTIONS] -- COMMAND [ARG...]`",
        )),
        Some(w) if w.is_empty() => Err(Failure::own("the command behind `--` is an empty word")),
        Some(_) => no_descriptors(words),
    }
}

pub(super) fn launch_options(parsed: &Parsed<'_>) -> Result<Options, Failure> {
    let mut o = Options::new();
    // The last one that names a class counts; the other later options refuse at once.
    let mut class = (OsString::from("now"), String::new());
    for f in &parsed.found {
        let Some(opt) = f.launch else { continue };
        match opt.id {
            Id::Interactive => class = ("now".into(), String::new()),
            Id::Queue => class = ("wait".into(), f.spelled.clone()),
            Id::Class => {
                class = (
                    f.value.clone(),
                    format!("{} {}", f.spelled, f.value.to_string_lossy()),
                )
            }
            Id::Host => o.host = target(&f.value, &f.spelled, Target::Only)?,
            Id::Prefer => o.host = target(&f.value, &f.spelled, Target::Prefer)?,
            Id::PtyFull => o.tty = Some(Tty::Full),
            Id::PtyInput => o.tty = Some(Tty::Input),
            Id::PtyNone => o.tty = Some(Tty::None),
            Id::NoStdin => o.no_stdin = true,
            id @ (Id::X11 | Id::NoX11 | Id::Agent | Id::NoAgent) => o.forward(id),
            Id::Login => o.login = text(&f.value, &f.spelled)?,
            Id::Tee => o.tee = Some(f.value.clone().into()),
            Id::Escape => o.escape = escape_char(&f.value, &f.spelled)?,
            Id::Json => {
                return Err(Failure::own(
                    "--json is for verbs, as in `queue hosts --json`, and for -b",
                ));
            }
            // An -i behind them took it back.
            Id::Batch | Id::Wait => {}
            id @ (Id::Cores | Id::Mem | Id::Gpus | Id::Disk | Id::Expr) => {
                o.need.take(id, &f.spelled, &text(&f.value, &f.spelled)?)?;
            }
            Id::Later => return Err(later(f)),
            _ => {
                return Err(Failure::own(format!(
                    "{0} is for batch jobs: `queue -b {0} ... -- COMMAND` returns at once, with -w in place of -b it stays",
                    f.spelled
                )));
            }
        }
    }
    o.wait = match class.0.to_str() {
        Some("now") => false,
        Some("wait") => true,
        _ => {
            return Err(Failure::own(format!(
                "{}: a class is for batch jobs: `queue -b {0} ... -- COMMAND` returns at once, with -w in place of -b it stays",
                class.1
            )));
        }
    };
    // What waits for room has to take some.
    // A job that waits for its own command has a slot, and lends it: to wait for another one could be for ever.
    let in_a_job = std::env::var_os("QUEUE_JOB_ID").is_some();
    if o.wait && o.need.cores == 0 && !in_a_job {
        o.need.cores = 1;
    }
    Ok(o)
}
