//! How people write and read jobs: numbers, ranges, states, causes. Pure. Knows words; not what a job is made of.

use crate::wire::job::{Cause, IdRange, Outcome, State, TaskRange};

/// Most numbers in one list.
const RANGES_MAX: usize = 10_000;

/// Reads `12`, `12.3`, `12.1-5`, `12.1-9:2`, `10-20`, several with commas between them.
///
/// # Errors
/// What is wrong, for people.
pub fn ids(text: &str) -> Result<Vec<IdRange>, String> {
    let all: Vec<IdRange> = text
        .split(',')
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .map(one)
        .collect::<Result<_, _>>()?;
    match all.len() {
        0 => Err(format!("`{text}` names no job")),
        n if n > RANGES_MAX => Err(format!("more than {RANGES_MAX} numbers at once")),
        _ => Ok(all),
    }
}

/// Numbers of jobs as they are typed: `12`, `10-20`, `12.3` or `12.1-5`.
pub fn typed(range: &IdRange) -> String {
    match &range.tasks {
        Some(t) if t.to > t.from => format!("{}.{}-{}", range.from, t.from, t.to),
        Some(t) => name(range.from, t.from),
        None if range.to > range.from => format!("{}-{}", range.from, range.to),
        None => range.from.to_string(),
    }
}

/// Whether a word is meant as the number of a job (and not as a session, a name or a group).
pub fn is_id(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
        && word.chars().all(|c| c.is_ascii_digit() || ".,-:".contains(c))
}

fn one(text: &str) -> Result<IdRange, String> {
    let bad = || format!("`{text}` is no number of a job: write 12, 12.3 (a task), 12.1-5 or 10-20");
    let number = |s: &str| s.parse::<u64>().ok().filter(|n| *n > 0).ok_or_else(bad);
    if let Some((job, tasks)) = text.split_once('.') {
        let id = number(job)?;
        return Ok(IdRange {
            from: id,
            to: id,
            tasks: Some(task_range(tasks).ok_or_else(bad)?),
        });
    }
    let (from, to) = match text.split_once('-') {
        Some((from, to)) => (number(from)?, number(to)?),
        None => (number(text)?, number(text)?),
    };
    if from > to {
        return Err(format!("`{text}`: the first number is the larger one"));
    }
    Ok(IdRange {
        from,
        to,
        tasks: None,
    })
}

/// Reads `3`, `1-5` or `1-9:2`.
pub fn task_range(text: &str) -> Option<TaskRange> {
    let (range, step) = match text.split_once(':') {
        Some((r, s)) => (r, s.parse().ok().filter(|s| *s > 0)?),
        None => (text, 1),
    };
    let (from, to) = match range.split_once('-') {
        Some((from, to)) => (from.parse().ok()?, to.parse().ok()?),
        None => {
            let n = range.parse().ok()?;
            (n, n)
        }
    };
    (from <= to).then_some(TaskRange { from, to, step })
}

/// How a job or task is written: `12`, `12.3`.
pub fn name(job: u64, task: u32) -> String {
    match task {
        0 => job.to_string(),
        t => format!("{job}.{t}"),
    }
}

/// All states, in the order of a job's life.
pub const STATES: [(State, &str); 9] = [
    (State::Waiting, "waiting"),
    (State::Ready, "ready"),
    (State::Running, "running"),
    (State::Suspended, "suspended"),
    (State::Lost, "lost"),
    (State::Done, "done"),
    (State::Failed, "failed"),
    (State::Killed, "killed"),
    (State::Buried, "buried"),
];

/// A state's name.
pub fn state_name(state: State) -> &'static str {
    STATES
        .iter()
        .find(|(s, _)| *s == state)
        .map_or("unknown", |(_, n)| n)
}

/// A state by its name.
pub fn state(name: &str) -> Option<State> {
    STATES.iter().find(|(_, n)| *n == name).map(|(s, _)| *s)
}

/// Whether a job in this state has come to its end. A buried one has not: it waits for somebody to look at it.
pub fn is_over(state: State) -> bool {
    matches!(state, State::Done | State::Failed | State::Killed)
}

/// A cause's name in JSON and in the views of an exported store.
pub fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::Exited => "exited",
        Cause::Signal => "signal",
        Cause::NotFound => "not-found",
        Cause::NotExecutable => "not-executable",
        Cause::Directory => "directory",
        Cause::Account => "account",
        Cause::Pam => "pam",
        Cause::Memory => "memory",
        Cause::OutOfMemory => "out-of-memory",
        Cause::Time => "time",
        Cause::Killed => "killed",
        Cause::HostLost => "host-lost",
        Cause::Lease => "lease",
        Cause::SessionLost => "session-lost",
        Cause::Rejected => "rejected",
        Cause::Dependency => "dependency",
        Cause::Disk => "disk",
        Cause::Internal => "internal",
        Cause::NotStarted => "not-started",
        Cause::Superseded => "superseded",
        Cause::Unfit => "unfit",
    }
}

/// How an attempt ended, in words: "exit 3", "killed by SIGSEGV (core dumped)", "over memory: 4.1 G of 4 G".
pub fn in_words(o: &Outcome) -> String {
    let with = |what: &str| match o.text.is_empty() {
        true => what.to_owned(),
        false => format!("{what}: {}", o.text),
    };
    match o.cause() {
        Cause::Exited => match o.code {
            Some(code) => with(&format!("exit {code}")),
            None => with("ended"),
        },
        Cause::Signal => {
            let name = o.signal.map_or_else(|| "a signal".to_owned(), signal_name);
            let core = if o.core { " (core dumped)" } else { "" };
            with(&format!("killed by {name}{core}"))
        }
        Cause::NotFound => with("command not found"),
        Cause::NotExecutable => with("not executable"),
        Cause::Directory => with("no such directory"),
        Cause::Account => with("no such account"),
        Cause::Pam => with("PAM refused"),
        Cause::Memory => with("over memory"),
        Cause::OutOfMemory => with("out of memory"),
        Cause::Time => with("over time"),
        Cause::Killed if o.text.is_empty() => "killed".to_owned(),
        Cause::Killed => o.text.clone(),
        Cause::HostLost => with("host lost"),
        Cause::Lease => with("lease ran out"),
        Cause::SessionLost => with("session lost"),
        Cause::Rejected => with("rejected"),
        Cause::Dependency => with("dependency"),
        Cause::Disk => with("disk full"),
        Cause::Internal => with("failed for an internal reason"),
        Cause::NotStarted => with("not started"),
        Cause::Superseded => with("superseded"),
        Cause::Unfit => with("no host could run it"),
    }
}

/// A signal's name: `SIGTERM`, `signal 34`.
pub fn signal_name(n: u32) -> String {
    i32::try_from(n)
        .ok()
        .and_then(|n| nix::sys::signal::Signal::try_from(n).ok())
        .map_or_else(|| format!("signal {n}"), |s| s.as_str().to_owned())
}

/// The exit code that stands for an outcome, as a shell's `$?` would: 125 where there is none.
pub fn exit_code(o: &Outcome) -> u8 {
    match (o.code, o.signal) {
        (Some(code), _) => code as u8,
        (None, Some(signal)) => (128 + (signal & 127)) as u8,
        (None, None) => crate::exit::FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_jobs() {
        let r = |from, to| IdRange {
            from,
            to,
            tasks: None,
        };
        assert_eq!(ids("12"), Ok(vec![r(12, 12)]));
        assert_eq!(ids("12,15, 10-20"), Ok(vec![r(12, 12), r(15, 15), r(10, 20)]));
        let task = |from, to, step| IdRange {
            from: 12,
            to: 12,
            tasks: Some(TaskRange { from, to, step }),
        };
        assert_eq!(ids("12.3"), Ok(vec![task(3, 3, 1)]));
        assert_eq!(ids("12.1-9:2"), Ok(vec![task(1, 9, 2)]));
        for bad in [
            "", ",", "0", "x", "12.", "12.x", "5-3", "12.5-3", "1-2-3", "12.1:0", "-3",
        ] {
            assert!(ids(bad).is_err(), "{bad}");
        }
        assert!(is_id("12.3") && is_id("10-20") && !is_id("s12") && !is_id("1a") && !is_id(""));
    }

    #[test]
    fn outcomes_in_words() {
        let o = |cause: Cause, code, signal, text: &str| Outcome {
            cause: cause as i32,
            code,
            signal,
            text: text.into(),
            ..Outcome::default()
        };
        for (outcome, words, code) in [
            (o(Cause::Exited, Some(3), None, ""), "exit 3", 3),
            (o(Cause::Signal, None, Some(11), ""), "killed by SIGSEGV", 139),
            (
                o(Cause::Memory, None, Some(9), "4.1 G of 4 G"),
                "over memory: 4.1 G of 4 G",
                137,
            ),
            (
                o(Cause::Killed, None, Some(15), "killed by alice@h1"),
                "killed by alice@h1",
                143,
            ),
            (o(Cause::HostLost, None, None, ""), "host lost", 125),
        ] {
            assert_eq!(
                (in_words(&outcome), exit_code(&outcome)),
                (words.to_owned(), code)
            );
        }
        for (s, n) in STATES {
            assert_eq!((state_name(s), state(n)), (n, Some(s)));
        }
    }
}
