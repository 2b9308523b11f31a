//! The verbs: what each asks the daemon and the hosts, and what it shows. They may take their time; nothing here
//! is in the path of a launch.

pub mod admin;
pub mod attach;
pub mod attached;
pub mod batch;
pub mod drain;
pub mod explain;
pub mod fetch;
pub mod follow;
pub mod hosts;
pub mod jobs;
pub mod kill;
pub mod list;
pub mod log;
pub mod output;
pub mod parallel;
pub mod sessions;
pub mod show;
pub mod spool;
pub mod submit;
pub mod tail;
pub mod view;

use crate::messages::Failure;
use crate::verbs::Ask;
use crate::verbs::inner::Inner;

/// Does what a verb asks for, and gives the exit code.
///
/// # Errors
/// Nothing could be done.
pub fn run(ask: Ask) -> Result<u8, Failure> {
    match ask {
        Ask::Hosts { view, long, expr } => list::run(view, long, expr.as_deref()),
        Ask::RemoveHost { name, json } => hosts::remove(&name, json).map(|()| 0),
        Ask::Explain { place, json } => explain::run(place, json).map(|()| 0),
        Ask::Jobs { view, filter, list } => jobs::run(view, filter.as_ref(), &list),
        Ask::Job(ask) => batch::run(*ask),
        Ask::Show { ids, env, json } => show::run(&ids, env, json),
        Ask::Kill {
            which,
            jobs,
            numbers,
            signal,
            json,
        } => kill::sort_out(which, jobs.map(|a| *a), &numbers)
            .and_then(|(which, jobs)| kill::run(which.as_ref(), jobs, signal, json)),
        Ask::Drain { hosts, reason, json } => drain::run(&hosts, reason.as_deref(), json),
        Ask::RotateKeys { json } => admin::rotate_keys(json).map(|()| 0),
    }
}

/// Does what another part of queue wants of this one.
///
/// # Errors
/// It could not be done.
pub fn inner(inner: &Inner) -> Result<u8, Failure> {
    match inner {
        Inner::Tail(t) => tail::run(t),
        Inner::Spool { job, root } => spool::run(*job, root.as_deref()),
        Inner::Fetch { job, from } => fetch::run(*job, from),
        Inner::Complete(question) => crate::complete::run(question),
    }
}

/// The exit code of what was for several things: 0, or 1 if some failed, or that of a failure if all did.
fn outcome(worked: usize, failed: usize) -> u8 {
    match (worked, failed) {
        (_, 0) => 0,
        (0, _) => libqueue::exit::FAILED,
        _ => 1,
    }
}
