//! `queue show ID...`: all about batch jobs, and sessions of one's own.

use super::jobs::{JsonSession, age_ms, attached, command, user};
use super::{batch, follow, outcome, sessions, view};
use crate::human;
use crate::messages::{Failure, printable, say, write_all};
use crate::need::in_words;
use libqueue::job;
use libqueue::size;
use libqueue::wire::{LookedSession, SessionInfo};
use std::fmt::Write as _;

/// Shows them. The exit code tells whether all could be shown.
///
/// # Errors
/// No daemon.
pub fn run(ids: &[String], env: bool, json: bool) -> Result<u8, Failure> {
    let (jobs, mut ids): (Vec<String>, Vec<String>) = ids.iter().cloned().partition(|w| job::is_id(w));
    let mut details = Vec::new();
    let mut gone = Vec::new();
    if !jobs.is_empty() {
        let mut ranges = Vec::new();
        for w in &jobs {
            ranges.extend(job::ids(w).map_err(Failure::own)?);
        }
        details = batch::show::fetch(ranges)?.jobs;
        let there = || {
            details
                .iter()
                .filter_map(|d| d.job.as_ref())
                .map(|j| (j.id, j.task))
        };
        for w in &jobs {
            let missing = batch::missing(&job::ids(w).map_err(Failure::own)?, there());
            // Digits alone may be the beginning of a session's id as well.
            if !missing.is_empty() && sessions::fetch().is_ok_and(|all| sessions::find(&all, w).is_ok()) {
                ids.push(w.clone());
            } else {
                gone.extend(missing);
            }
        }
        if details.is_empty() && ids.is_empty() {
            return Err(follow::unknown(&gone.join(" ")));
        }
        for id in &gone {
            say(&follow::unknown(id).text, false);
        }
        if ids.is_empty() {
            let text = match json {
                true => view::json(
                    &details
                        .iter()
                        .map(|d| batch::show::value(d, env))
                        .collect::<Vec<_>>(),
                    false,
                )?,
                false => details
                    .iter()
                    .map(|d| batch::show::text(d, env))
                    .collect::<Vec<_>>()
                    .join("\n"),
            };
            write_all(1, text.as_bytes());
            return Ok(outcome(details.len(), gone.len()));
        }
    }
    let ids = &ids;
    let me = sessions::me()?;
    let all = sessions::fetch()?;
    let mut failed = gone.len();
    let mut fail = |text: &str| {
        say(text, false);
        failed += 1;
    };
    let mut found: Vec<&SessionInfo> = Vec::new();
    for text in ids {
        match sessions::find(&all, text) {
            Ok(s) if found.contains(&s) => {}
            Ok(s) => found.push(s),
            Err(e) => fail(&e.text),
        }
    }
    let seen = sessions::look_at(&found, env, &me);
    let mut shown = Vec::new();
    for s in found {
        match seen.of(s) {
            None if s.user != me => fail(&format!(
                "{} belongs to {}: only that user and operators see more of it than `queue jobs` shows",
                sessions::id(&s.id),
                printable(&s.user)
            )),
            // Of one's own something is known in any case; why that is all is told below.
            looked => shown.push((s, looked)),
        }
    }
    for reason in &seen.failed {
        fail(reason);
    }
    let text = if json {
        let jobs = details.iter().map(|d| batch::show::value(d, env));
        let all: Vec<_> = shown
            .iter()
            .map(|(s, looked)| serde_json::to_value(JsonSession::new(s, *looked, env)).unwrap_or_default())
            .collect();
        view::json(&jobs.chain(all).collect::<Vec<_>>(), false)?
    } else {
        let jobs = details.iter().map(|d| batch::show::text(d, env));
        let all = shown.iter().map(|(s, looked)| as_text(s, *looked, env));
        jobs.chain(all).collect::<Vec<_>>().join("\n")
    };
    write_all(1, text.as_bytes());
    Ok(outcome(details.len() + shown.len(), failed))
}

fn as_text(s: &SessionInfo, looked: Option<&LookedSession>, env: bool) -> String {
    let mut out = format!("{}\n", sessions::id(&s.id));
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "  {name:<11}{value}");
    };
    let path = |b: &[u8]| printable(&String::from_utf8_lossy(b));
    line("user", &format!("{}, from {}", user(s), printable(&s.from)));
    line("host", &printable(&s.host));
    line("attached", &attached(s, looked));
    line(
        "since",
        &format!("{} ({})", human::age(age_ms(s)), human::moment(s.since_ms)),
    );
    if let Some(l) = looked {
        line("command", &command(l));
        if l.pid > 0 {
            line("directory", &path(&l.cwd));
            line("state", &state(&l.state));
            line("pid", &l.pid.to_string());
            line("terminal", if l.tty.is_empty() { "none" } else { &l.tty });
        }
    }
    line(
        "cpu",
        &format!(
            "{} cores now, {} in all",
            human::number(s.cpu_now),
            human::cpu_time(s.cpu_ms)
        ),
    );
    line("memory", &size::show(s.mem));
    line("processes", &s.processes.to_string());
    let need = s.need.as_ref().map(in_words).unwrap_or_default();
    line(
        "needs",
        if need.is_empty() {
            "nothing in particular"
        } else {
            &need
        },
    );
    if let Some(l) = looked.filter(|_| env) {
        out.push_str("  environment\n");
        for e in &l.env {
            let _ = writeln!(out, "    {}", path(e));
        }
    }
    out
}

/// The kernel's letter in words.
fn state(letter: &str) -> String {
    let words = match letter {
        "R" => "runs",
        "S" | "I" => "sleeps",
        "D" => "waits for a device",
        "T" => "stopped",
        "t" => "stopped by a debugger",
        "Z" | "X" => "has ended",
        _ => return printable(letter),
    };
    format!("{words} ({letter})")
}

#[cfg(test)]
mod tests {
    use super::super::sessions::tests::session;
    use super::*;
    use libqueue::wire::Need;

    #[test]
    fn as_lines() {
        let mut s = session(0x1a2b_3c4d, "h2", "alice");
        s.need = Some(Need {
            cores: 2,
            mem: 4 << 30,
            ..Need::default()
        });
        let looked = LookedSession {
            pid: 4711,
            argv: vec![b"make".to_vec(), b"-j 2".to_vec()],
            cwd: b"/home/alice/a\x1bb".to_vec(),
            env: vec![b"LANG=C".to_vec()],
            state: "T".into(),
            tty: "/dev/pts/3".into(),
            ..LookedSession::default()
        };
        assert_eq!(
            as_text(&s, Some(&looked), true),
            "s1a2b3c4d\n\
            \x20 user       alice, from h1\n\
            \x20 host       h2\n\
            \x20 attached   alice\n\
            \x20 since      2m (2026-11-22 04:19:26 UTC)\n\
            \x20 command    make '-j 2'\n\
            \x20 directory  /home/alice/a\\x1bb\n\
            \x20 state      stopped (T)\n\
            \x20 pid        4711\n\
            \x20 terminal   /dev/pts/3\n\
            \x20 cpu        1.94 cores now, 1:01.5 in all\n\
            \x20 memory     300M\n\
            \x20 processes  3\n\
            \x20 needs      2 cores, 4.0G memory\n\
            \x20 environment\n\
            \x20   LANG=C\n"
        );
        assert!(!as_text(&s, None, true).contains("command"));
    }
}
