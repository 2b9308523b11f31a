//! The verbs about batch jobs: each asks the leader, and shows what it says.

pub mod act;
pub mod explain;
pub mod figures;
pub mod history;
pub mod json;
pub mod list;
pub mod show;
pub mod wait;

use super::sessions;
use crate::human;
use crate::messages::{Failure, printable};
use crate::verbs::jobs::JobAsk;
use libqueue::job;
use libqueue::wire::job::{IdRange, Job, Selection};

/// Does what is asked for, and gives the exit code.
///
/// # Errors
/// Nothing could be done.
pub fn run(ask: JobAsk) -> Result<u8, Failure> {
    match ask {
        JobAsk::Explain { which, json } => explain::run(named(which)?, json),
        JobAsk::Wait {
            mut wait,
            quiet,
            json,
        } => {
            wait.which = wait.which.map(mine).transpose()?;
            wait::run(wait, quiet, json)
        }
        JobAsk::Act { mut act, json } => {
            act.which = act.which.map(mine).transpose()?;
            act::run(act, json)
        }
        JobAsk::Stats { ask, view } => figures::stats(ask, view),
        JobAsk::History { ask, json } => history::run(ask, json),
        JobAsk::Export { file } => history::export(&file),
        JobAsk::Limits { ask, json } => figures::limits(ask, json),
        JobAsk::Classes { json } => figures::classes(json),
    }
}

/// With the asker's name where `me` stands.
///
/// # Errors
/// He has none.
pub fn named(mut which: Selection) -> Result<Selection, Failure> {
    if which.user == "me" {
        which.user = sessions::me()?;
    }
    Ok(which)
}

/// The same, for what is done and not only looked at: without numbers and without a user, one's own are meant.
///
/// # Errors
/// He has none.
pub fn mine(which: Selection) -> Result<Selection, Failure> {
    let mut which = named(which)?;
    if which.ids.is_empty() && which.user.is_empty() {
        which.user = sessions::me()?;
    }
    Ok(which)
}

/// Which of these are not among those that there are (job and task), each as one types it.
pub fn missing(ids: &[IdRange], there: impl Iterator<Item = (u64, u32)> + Clone) -> Vec<String> {
    let is_in = |r: &IdRange, (id, task): (u64, u32)| {
        (r.from..=r.to).contains(&id)
            && r.tasks
                .as_ref()
                .is_none_or(|t| (t.from..=t.to.max(t.from)).contains(&task))
    };
    let gone = |r: &&IdRange| !there.clone().any(|j| is_in(r, j));
    ids.iter().filter(gone).map(job::typed).collect()
}

/// What is shown as a job's result or the reason for its state.
pub fn reason(j: &Job) -> String {
    if !j.reason.is_empty() {
        return printable(&j.reason);
    }
    match &j.outcome {
        Some(o) if matches!(j.state(), libqueue::wire::job::State::Running) && o.started_ms == 0 => {
            String::new()
        }
        Some(o) => printable(&job::in_words(o)),
        None => String::new(),
    }
}

/// How long it has run, or ran.
pub fn run_time(j: &Job, now_ms: u64) -> String {
    let ended = if j.ended_ms > 0 { j.ended_ms } else { now_ms };
    match (j.started_ms, &j.outcome) {
        (0, _) => "-".to_owned(),
        (_, Some(o)) if j.ended_ms > 0 && o.wall_ms > 0 => human::cpu_time(o.wall_ms),
        (start, _) => human::cpu_time(ended.saturating_sub(start)),
    }
}

/// Now, by this host's clock, in milliseconds since the epoch.
pub fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named() {
        let there = [(1, 0), (3, 1), (3, 2)];
        let gone = |typed: &str| missing(&job::ids(typed).unwrap(), there.into_iter()).join(" ");
        for (typed, said) in [
            ("1", ""),
            ("1-9", ""),
            ("3", ""),
            ("3.2", ""),
            ("2", "2"),
            ("4-9", "4-9"),
            ("3.5", "3.5"),
            ("1.5", "1.5"),
            ("3.5-9", "3.5-9"),
            ("1,7", "7"),
        ] {
            assert_eq!(gone(typed), said, "{typed}");
        }
    }
}
