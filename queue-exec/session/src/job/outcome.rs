//! How a run ended, in the words of its outcome. Pure.

use super::output::Written;
use super::start::{Plan, Refused, show};
use libqueue::wire::job::{Cause, Outcome};
use nix::errno::Errno;
use queue_exec::protocol::printable;
use queue_init::Stage;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

/// Longest text of an outcome, in bytes: it goes through several hands in packets.
const TEXT: usize = 1024;

/// A command that was not executed: why, and the code that a shell would give.
pub(crate) fn start_failure(plan: &Plan, stage: Stage, errno: i32) -> Outcome {
    let why = Errno::from_raw(errno).desc();
    let name = show(&plan.name);
    let (cause, text) = match stage {
        Stage::Directory => (
            Cause::Directory,
            format!(
                "working directory {}: {why}; share it with this host",
                show(&plan.spec.cwd)
            ),
        ),
        Stage::Exec if errno == libc::ENOENT && plan.script.is_some() => (
            Cause::NotFound,
            format!(
                "{name}: its interpreter {} was not found",
                show(&plan.spec.program)
            ),
        ),
        Stage::Exec if errno == libc::ENOENT => (Cause::NotFound, format!("{name}: command not found")),
        Stage::Exec if errno == libc::EAGAIN || errno == libc::ENOMEM => {
            (Cause::Internal, format!("{name} could not be executed: {why}"))
        }
        Stage::Exec => (Cause::NotExecutable, format!("{name}: {why}")),
        Stage::Become | Stage::Process => {
            (Cause::Internal, format!("the process could not be set up: {why}"))
        }
    };
    let mut outcome = refused((cause, text));
    outcome.code = match cause {
        Cause::NotFound => Some(127),
        Cause::NotExecutable => Some(126),
        _ => None,
    };
    outcome
}

/// One that was not started.
pub(crate) fn refused((cause, text): Refused) -> Outcome {
    Outcome {
        cause: cause as i32,
        text: line(&text),
        ..Outcome::default()
    }
}

/// One line of bounded length.
pub(crate) fn line(text: &str) -> String {
    let mut s = printable(text);
    if s.len() > TEXT {
        let cut = (0..=TEXT).rev().find(|i| s.is_char_boundary(*i)).unwrap_or(0);
        s.truncate(cut);
    }
    s
}

/// Puts in how the first process ended; it alone decides unless there is a verdict.
pub(crate) fn status(outcome: &mut Outcome, status: i32) {
    if libc::WIFEXITED(status) {
        outcome.cause = Cause::Exited as i32;
        outcome.code = Some(libc::WEXITSTATUS(status) as u32);
    } else {
        outcome.cause = Cause::Signal as i32;
        outcome.signal = Some(libc::WTERMSIG(status) as u32);
        outcome.core = libc::WCOREDUMP(status);
    }
}

/// Puts in what came of the output.
pub(crate) fn written(outcome: &mut Outcome, plan: &Plan, w: Written) {
    let path = |i: usize| match (plan.targets.get(i), w.files.get(i)) {
        (Some(t), Some(true)) => t.path.as_os_str().as_bytes().to_vec(),
        _ => Vec::new(),
    };
    outcome.output = path(0);
    outcome.error = path(1);
    let spooled = |(t, there): (&super::output::Target, &bool)| *there && t.home.is_some();
    outcome.spooled = plan.targets.iter().zip(&w.files).any(spooled);
    outcome.head = w.head;
    outcome.tail = w.tail;
    outcome.written = w.total;
    outcome.cut = w.cut;
    add(outcome, &w.lost);
}

/// Adds to its text.
pub(crate) fn add(outcome: &mut Outcome, text: &str) {
    if text.is_empty() {
        return;
    }
    let joined = match outcome.text.as_str() {
        "" => text.to_owned(),
        before => format!("{before}; {text}"),
    };
    outcome.text = line(&joined);
}

/// A number of bytes, as `--mem` has it: `4 G`, `3.9 G`.
pub(crate) fn size(bytes: u64) -> String {
    let units = [(1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    for (unit, name) in units {
        if bytes >= unit {
            return if bytes.is_multiple_of(unit) {
                format!("{} {name}", bytes / unit)
            } else {
                format!("{:.1} {name}", bytes as f64 / unit as f64)
            };
        }
    }
    format!("{bytes} bytes")
}

/// A time: `60 s`, `0.5 s`.
pub(crate) fn seconds(t: Duration) -> String {
    let tenths = t.as_millis() / 100;
    match (tenths / 10, tenths % 10) {
        (s, 0) => format!("{s} s"),
        (s, _) if s >= 10 => format!("{s} s"),
        (s, t) => format!("{s}.{t} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        for (n, text) in [
            (4u64 << 30, "4 G"),
            ((4 << 30) + (100 << 20), "4.1 G"),
            (1000, "1000 bytes"),
            (1536, "1.5 K"),
            (3 << 40, "3 T"),
        ] {
            assert_eq!(size(n), text);
        }
        for (ms, text) in [
            (60_012, "60 s"),
            (1_000, "1 s"),
            (520, "0.5 s"),
            (9_960, "9.9 s"),
            (75_900, "75 s"),
        ] {
            assert_eq!(seconds(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn texts_stay_in_one_short_line() {
        let mut o = refused((Cause::Internal, "a\nb".into()));
        add(&mut o, &"é".repeat(5000));
        assert!(o.text.starts_with("a b; é") && o.text.len() <= TEXT);
    }

    #[test]
    fn a_status_tells_code_or_signal() {
        let mut o = Outcome::default();
        status(&mut o, 10 << 8);
        assert_eq!((o.code, o.signal, o.core), (Some(10), None, false));
        let mut o = Outcome::default();
        status(&mut o, 11 | 0x80);
        assert_eq!(
            (o.cause, o.code, o.signal, o.core),
            (Cause::Signal as i32, None, Some(11), true)
        );
    }
}
