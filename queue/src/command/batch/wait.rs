//! `queue wait`: until jobs have ended. What happens is pushed by the leader; when that is restarted, or cannot be
//! reached for a while, we ask again.

use super::{json, list};
use crate::command::follow;
use crate::command::view::json as encode;
use crate::leader;
use crate::messages::{Failure, printable, say, write_all};
use crate::sys;
use libqueue::job;
use libqueue::wire::ErrorCode;
use libqueue::wire::job::{Count, Job, Over, Progress, Selection, State, Wait, job_reply, query};
use nix::unistd::isatty;
use serde_json::json;
use std::time::{Duration, Instant};

/// A leader that is asked for the first time may take so long to begin.
const STARTING: Duration = Duration::from_secs(10);
/// Between two tries to reach the leader.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// The user is told after so long without a leader.
const TOLD_AFTER: Duration = Duration::from_secs(2);
/// So long output that comes home is waited for.
const HOME: Duration = Duration::from_secs(3);
/// Columns of the bar.
const BAR: usize = 30;

/// What one connection came to.
pub enum Turn {
    /// All that was waited for has happened.
    Over(Over),
    /// It broke: ask again.
    Broken(Failure),
    /// The leader is not ready, as it is just starting: likewise.
    NotReady(Failure),
}

/// Waits; the exit code is theirs.
///
/// # Errors
/// There are no such jobs, or the leader refuses.
pub fn run(wait: Wait, quiet: bool, as_json: bool) -> Result<u8, Failure> {
    let mut bar = Bar::new(quiet || as_json);
    let over = until_over(&wait, |p| bar.show(p))?;
    bar.clear();
    if let Some(which) = &wait.which {
        until_home(which);
    }
    if over.nothing && wait.which.as_ref().is_some_and(|w| w.ids.is_empty()) {
        // By what they have in common, those are meant that have not ended: there may be none any more.
        if as_json {
            write_all(
                1,
                encode(&json!({ "code": 0, "tasks": {}, "bad": [] }), false)?.as_bytes(),
            );
        } else if !quiet {
            say("nothing to wait for: no such job waits or runs", false);
        }
        return Ok(0);
    }
    if over.nothing {
        let ids = wait.which.map(|w| w.ids).unwrap_or_default();
        return Err(follow::unknown_all(&ids));
    }
    if as_json {
        let bad: Vec<_> = over.bad.iter().map(json::job).collect();
        let value = json!({
            "code": over.code, "signal": over.signal, "tasks": json::counts(&over.counts), "bad": bad,
        });
        write_all(1, encode(&value, false)?.as_bytes());
    } else if !quiet {
        for j in &over.bad {
            say(&bad(j), false);
        }
        if over.bad.len() >= 20 {
            say(&format!("in all: {}", list::counts(&over.counts)), false);
        }
    }
    Ok(u8::try_from(over.code).unwrap_or(libqueue::exit::FAILED))
}

/// That a job did not end well, and how.
pub fn bad(j: &Job) -> String {
    let name = if j.name.is_empty() {
        String::new()
    } else {
        format!(" ({})", printable(&j.name))
    };
    format!(
        "{}{name} {}: {}",
        job::name(j.id, j.task),
        job::state_name(j.state()),
        super::reason(j)
    )
}

/// Waits through restarts of the leader, and tells of progress.
///
/// # Errors
/// The leader refuses; or it could not be reached from the beginning.
pub fn until_over(wait: &Wait, mut tell: impl FnMut(&Progress)) -> Result<Over, Failure> {
    let mut pause = AGAIN.0;
    let mut away: Option<(Instant, bool)> = None;
    let mut reached = false;
    let begun = Instant::now();
    loop {
        let turn = match leader::ask(query::Kind::Wait(wait.clone())) {
            Ok(mut answers) => {
                let turn = listen(&mut answers, |p| {
                    (reached, away, pause) = (true, None, AGAIN.0);
                    tell(p);
                })?;
                reached |= matches!(turn, Turn::Over(_));
                turn
            }
            Err(e) => Turn::Broken(e),
        };
        match turn {
            Turn::Over(over) => return Ok(over),
            Turn::Broken(e) if !reached => return Err(e),
            Turn::NotReady(e) if !reached && begun.elapsed() >= STARTING => return Err(e),
            Turn::Broken(e) | Turn::NotReady(e) => {
                let (since, told) = away.get_or_insert((Instant::now(), false));
                if since.elapsed() >= TOLD_AFTER && !std::mem::replace(told, true) {
                    say(&format!("{}; waiting for it", e.text), false);
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(AGAIN.1);
            }
        }
    }
}

/// What was written on other hosts is on its way here when a job ends: a script that waited wants to read it. It comes
/// within milliseconds; what takes longer is not waited for.
pub fn until_home(which: &Selection) {
    let until = Instant::now() + HOME;
    let mut pause = Duration::from_millis(5);
    while Instant::now() < until {
        let on_its_way = match leader::reply(query::Kind::Outputs(which.clone())) {
            Ok(job_reply::Kind::Outputs(all)) => all.outputs.iter().any(|o| o.spooled),
            _ => return,
        };
        if !on_its_way {
            return;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// Listens on one connection.
fn listen(answers: &mut leader::Answers, mut tell: impl FnMut(&Progress)) -> Result<Turn, Failure> {
    if let Err(e) = answers.have_patience() {
        return Ok(Turn::Broken(answers.lost(&e)));
    }
    loop {
        match answers.next_reply() {
            Ok(Some(job_reply::Kind::Progress(p))) => tell(&p),
            Ok(Some(job_reply::Kind::Over(over))) => return Ok(Turn::Over(over)),
            Ok(Some(job_reply::Kind::Error(e))) if e.code() == ErrorCode::NotReady => {
                return Ok(Turn::NotReady(Failure::own(printable(&e.text))));
            }
            Ok(Some(job_reply::Kind::Error(e))) => return Err(Failure::own(printable(&e.text))),
            Ok(Some(_)) => {}
            Ok(None) => {
                return Ok(Turn::Broken(
                    answers.lost(&std::io::ErrorKind::UnexpectedEof.into()),
                ));
            }
            Err(e) => return Ok(Turn::Broken(answers.lost(&e))),
        }
    }
}

/// A progress bar on the terminal of standard error.
struct Bar {
    on: bool,
    drawn: bool,
}

impl Bar {
    fn new(off: bool) -> Self {
        Self {
            on: !off && isatty(sys::stdio(2)).unwrap_or(false),
            drawn: false,
        }
    }

    fn show(&mut self, p: &Progress) {
        if self.on {
            write_all(2, format!("\r{}\x1b[K", bar(&p.counts)).as_bytes());
            self.drawn = true;
        }
    }

    fn clear(&mut self) {
        if self.drawn {
            write_all(2, b"\r\x1b[K");
        }
    }
}

/// `[#####.....]  50%  3 running, 2 ready, 5 done`.
fn bar(counts: &[Count]) -> String {
    let number = |over: bool| -> u64 {
        let is_over = |c: &Count| {
            let state = State::try_from(c.state).unwrap_or_default();
            job::is_over(state) || state == State::Buried
        };
        counts
            .iter()
            .filter(|c| is_over(c) == over)
            .map(|c| c.number)
            .sum()
    };
    let (over, all) = (number(true), number(true) + number(false));
    let share = if all == 0 { 0.0 } else { over as f64 / all as f64 };
    let full = (share * BAR as f64) as usize;
    format!(
        "[{}{}] {:3.0}%  {}",
        "#".repeat(full),
        ".".repeat(BAR - full),
        (share * 100.0).floor(),
        list::counts(counts)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_it_failed() {
        use libqueue::wire::job::{Cause, Outcome};
        let mut j = Job {
            id: 12,
            task: 2,
            state: State::Failed as i32,
            outcome: Some(Outcome {
                cause: Cause::Exited as i32,
                code: Some(3),
                ..Outcome::default()
            }),
            ..Job::default()
        };
        assert_eq!(bad(&j), "12.2 failed: exit 3");
        j.name = "a\x1b".into();
        assert_eq!(bad(&j), "12.2 (a\\x1b) failed: exit 3");
    }

    #[test]
    fn the_bar_tells_what_is_over() {
        let c = |state: State, number| Count {
            state: state as i32,
            number,
        };
        assert_eq!(
            bar(&[c(State::Running, 1), c(State::Done, 2), c(State::Buried, 1)]),
            "[######################........]  75%  1 running, 2 done, 1 buried"
        );
        assert!(bar(&[]).contains("  0%"));
    }
}
