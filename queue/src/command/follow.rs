//! `queue attach` of a batch job: shows its output as it comes, and ends as it ends. Whoever leaves leaves it alone.

use super::attached::{self, Signals, leave};
use super::batch;
use super::output::follow::{Event, Follow, Options};
use super::output::show::Screen;
use crate::messages::{Failure, printable, say};
use crate::relay::End;
use libqueue::job;
use libqueue::wire::job::{Detail, IdRange, Selection, State};

/// What is said of a job that is not there.
pub fn unknown(id: &str) -> Failure {
    Failure::own(format!(
        "there is no job {}: `queue jobs` lists them",
        printable(id)
    ))
}

/// The same of several.
pub fn unknown_all(ids: &[IdRange]) -> Failure {
    let all: Vec<String> = ids.iter().map(job::typed).collect();
    unknown(&all.join(", "))
}

/// What is said of output that only others may see.
pub fn private(id: u64, user: &str) -> Failure {
    Failure::own(format!(
        "output of job {id} is for {} and operators only",
        printable(user)
    ))
}

/// Follows it, for `me`. `None`: there is no such job.
///
/// # Errors
/// It is somebody else's, or nobody knows how it ended.
pub fn run(id: &str, me: &str, escape: Option<u8>) -> Result<Option<End>, Failure> {
    let ids = job::ids(id).map_err(Failure::own)?;
    let first = ids.first().copied().ok_or_else(|| unknown(id))?;
    let details = batch::show::fetch(ids.clone())?.jobs;
    if details.is_empty() {
        return Ok(None);
    }
    // Root, as everywhere, may.
    let other = details
        .iter()
        .filter_map(|d| d.job.as_ref())
        .find(|j| j.user != me);
    if let Some(j) = other.filter(|_| me != "root") {
        return Err(private(j.id, &j.user));
    }
    for d in &details {
        if let Some(why) = waits(d) {
            say(&why, false);
        }
    }
    let signals = Signals::catch()?;
    let which = Selection {
        ids: ids.clone(),
        ..Selection::default()
    };
    let mut follow = Follow::new(
        Options {
            which: which.clone(),
            fds: [true; 2],
            error_to: 2,
            prefix: !is_one(&ids, &details),
            tail: None,
            old: None,
            patient: false,
            tries: 0,
            here: super::log::here()?,
        },
        Screen::default(),
    );
    let to = follow.sender();
    signals.tell(to.clone())?;
    attached::keys(escape, to);
    let end = follow.run(
        |event| match event {
            // As a file would be left that is followed.
            Event::Signal(signal) => {
                leave(id);
                Some(Ok(End::Signal(signal)))
            }
            Event::Left => {
                leave(id);
                Some(Ok(End::Code(0)))
            }
            _ => None,
        },
        |follow, over| attached::end(follow, first.from, &which, &over, true),
    );
    end.map(Some)
}

/// Whether only one task is meant.
fn is_one(ids: &[IdRange], details: &[Detail]) -> bool {
    matches!(ids, [id] if id.from == id.to)
        && matches!(details, [d] if d.job.as_ref().is_some_and(|j| j.counts.is_empty()))
}

/// Why a job does not run yet.
fn waits(d: &Detail) -> Option<String> {
    let j = d.job.as_ref()?;
    let state = j.state();
    let reason = batch::reason(j);
    let not_yet = matches!(
        state,
        State::Waiting | State::Ready | State::Suspended | State::Lost
    );
    (not_yet && j.counts.is_empty()).then(|| {
        let because = if reason.is_empty() {
            String::new()
        } else {
            format!(": {reason}")
        };
        format!(
            "{} is {}{because}",
            job::name(j.id, j.task),
            job::state_name(state)
        )
    })
}
