//! `queue show ID`: everything about batch jobs.

use super::{json, list};
use crate::human;
use crate::leader;
use crate::messages::{Failure, printable};
use crate::need::in_words;
use libqueue::job;
use libqueue::size;
use libqueue::wire::job::{
    After, AfterHow, Cause, Detail, Details, IdRange, Outcome, Plan, Run, Selection, Tried, job_reply, query,
};
use serde_json::Value;
use std::fmt::Write as _;

/// Lines of output that are shown.
const LINES: usize = 10;

/// Fetches them.
///
/// # Errors
/// The leader cannot be reached, or there is no such job.
pub fn fetch(ids: Vec<IdRange>) -> Result<Details, Failure> {
    let which = Selection {
        ids,
        ..Selection::default()
    };
    match leader::reply(query::Kind::Show(which))? {
        job_reply::Kind::Details(d) => Ok(d),
        _ => Err(leader::strange()),
    }
}

/// As JSON.
pub fn value(d: &Detail, env: bool) -> Value {
    json::detail(d, env)
}

/// As text.
pub fn text(d: &Detail, env: bool) -> String {
    let Some(j) = &d.job else { return String::new() };
    let mut out = format!("{}\n", job::name(j.id, j.task));
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(out, "  {name:<11}{value}");
        }
    };
    let state = match j.counts.is_empty() {
        true => job::state_name(j.state()).to_owned(),
        false => list::counts(&j.counts),
    };
    let reason = super::reason(j);
    let because = if reason.is_empty() {
        String::new()
    } else {
        format!(": {reason}")
    };
    line("state", &format!("{state}{because}"));
    line(
        "user",
        &format!("{}, from {}", printable(&j.user), printable(&j.submit_host)),
    );
    line("name", &printable(&j.name));
    line("group", &printable(&j.group));
    line("class", &printable(&j.class));
    line("submitted", &human::moment(j.submitted_ms));
    if let Some(r) = &d.run {
        line("command", &command(r));
        line("directory", &printable(&String::from_utf8_lossy(&r.cwd)));
    } else {
        line("command", &printable(&j.command));
    }
    let need = j.need.as_ref().map(in_words).unwrap_or_default();
    line("needs", &need);
    if let Some(p) = &d.plan {
        for (name, value) in plan(p) {
            line(name, &value);
        }
    }
    line("output", &printable(&d.home));
    // What was only sent somewhere, and taken back, is of no interest.
    let taken_back = |t: &&Tried| t.outcome.as_ref().is_some_and(|o| o.cause() == Cause::NotStarted);
    for t in d.attempts.iter().filter(|t| !taken_back(t)) {
        out += &attempt(t);
    }
    let last = d.attempts.iter().rev().find_map(|t| t.outcome.as_ref());
    if let Some(o) = last {
        out += &ends(o);
    }
    if let Some(r) = d.run.as_ref().filter(|_| env) {
        out.push_str("  environment\n");
        for e in &r.env {
            let _ = writeln!(out, "    {}", printable(&String::from_utf8_lossy(e)));
        }
    }
    out
}

fn command(r: &Run) -> String {
    let words: Vec<String> = r.argv.iter().map(|w| crate::command::jobs::quoted(w)).collect();
    let script = if r.script.is_empty() {
        String::new()
    } else {
        format!(" (a script of {} bytes, as it was at submission)", r.script.len())
    };
    words.join(" ") + &script
}

fn plan(p: &Plan) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    if let Some(n) = p.priority.filter(|n| *n != 0) {
        all.push(("priority", n.to_string()));
    }
    if !p.host.is_empty() {
        all.push(("only on", printable(&p.host)));
    }
    if !p.prefer.is_empty() {
        all.push(("rather on", printable(&p.prefer)));
    }
    if p.time_ms > 0 {
        all.push(("time limit", human::age(p.time_ms)));
    }
    if let Some(n) = p.retries.filter(|n| *n > 0) {
        all.push(("retries", n.to_string()));
    }
    if p.at_ms > 0 {
        all.push(("not before", human::moment(p.at_ms)));
    }
    if !p.after.is_empty() {
        let said: Vec<String> = p.after.iter().map(after).collect();
        all.push(("after", said.join(", ")));
    }
    if !p.limits.is_empty() {
        let said: Vec<String> = p.limits.iter().map(|l| printable(&l.name)).collect();
        all.push(("limits", said.join(", ")));
    }
    all.push(("if lost", json::restart(p.restart()).to_owned()));
    all
}

fn after(a: &After) -> String {
    let how = match a.how() {
        AfterHow::Ok => "",
        AfterHow::Any => "any:",
        AfterHow::Fail => "fail:",
    };
    let Some(s) = &a.jobs else { return how.to_owned() };
    let mut said: Vec<String> = s
        .ids
        .iter()
        .map(|r| {
            if r.from == r.to {
                r.from.to_string()
            } else {
                format!("{}-{}", r.from, r.to)
            }
        })
        .collect();
    said.extend(s.words.iter().map(|w| printable(w)));
    format!("{how}{}", said.join(","))
}

fn attempt(t: &Tried) -> String {
    let key = t.key.unwrap_or_default();
    let which = match key.task {
        0 => format!("attempt {}", key.attempt),
        task => format!("{}.{task} attempt {}", key.job, key.attempt),
    };
    let started = t.running.as_ref().map_or(0, |r| r.started_ms);
    let started = t
        .outcome
        .as_ref()
        .map(|o| o.started_ms)
        .filter(|s| *s > 0)
        .unwrap_or(started);
    let mut out = format!("  {which} on {}", printable(&t.host));
    match (started, &t.outcome) {
        (0, None) => out.push_str(", sent there"),
        (0, Some(_)) => {}
        (ms, _) => {
            let _ = write!(out, ", started {}", human::moment(ms));
        }
    }
    if let Some(o) = &t.outcome {
        let _ = write!(out, ": {}", printable(&job::in_words(o)));
        if o.started_ms > 0 {
            let _ = write!(
                out,
                " ({} wall, {} CPU, peak {})",
                human::cpu_time(o.wall_ms),
                human::cpu_time(o.cpu_us / 1000),
                size::show(o.maxrss_kib.saturating_mul(1024))
            );
        }
        if !o.output.is_empty() {
            let _ = write!(
                out,
                "\n    output: {}",
                printable(&String::from_utf8_lossy(&o.output))
            );
        }
    } else if let Some(r) = &t.running {
        let _ = write!(out, ", runs as process {}", r.pid);
    }
    out.push('\n');
    out
}

/// The last lines that it wrote.
fn ends(o: &Outcome) -> String {
    let bytes = if o.tail.is_empty() { &o.head } else { &o.tail };
    if bytes.is_empty() {
        return String::new();
    }
    let text = String::from_utf8_lossy(bytes).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LINES);
    let mut out = String::from("  last of its output\n");
    for l in &lines[from..] {
        let _ = writeln!(out, "    {}", printable(l));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use libqueue::wire::job::{Job, Key, State};

    #[test]
    fn as_lines() {
        let d = Detail {
            job: Some(Job {
                id: 12,
                user: "alice".into(),
                submit_host: "h1".into(),
                state: State::Failed as i32,
                submitted_ms: 1_795_321_166_000,
                outcome: Some(Outcome {
                    code: Some(3),
                    ..Outcome::default()
                }),
                ..Job::default()
            }),
            run: Some(Run {
                argv: vec![b"make".to_vec(), b"a b".to_vec()],
                cwd: b"/home/alice".to_vec(),
                ..Run::default()
            }),
            attempts: vec![Tried {
                key: Some(Key {
                    job: 12,
                    task: 0,
                    attempt: 1,
                }),
                host: "h2".into(),
                outcome: Some(Outcome {
                    cause: Cause::Exited as i32,
                    code: Some(3),
                    started_ms: 1_795_321_166_000,
                    wall_ms: 1_500,
                    cpu_us: 200_000,
                    maxrss_kib: 2048,
                    head: b"x\x1b[2J\nno rule\n".to_vec(),
                    ..Outcome::default()
                }),
                ..Tried::default()
            }],
            // A leader may be of any honesty.
            home: "h1\x1b]0;x\x07".into(),
            ..Detail::default()
        };
        let text = text(&d, false);
        for part in [
            "12\n  state      failed: exit 3\n",
            "  user       alice, from h1\n",
            "  command    make 'a b'\n",
            "  attempt 1 on h2, started 2026-11-22 04:19:26 UTC: exit 3 (0:01.5 wall, 0:00.2 CPU, peak 2.0M)\n",
            "  output     h1\\x1b]0;x\\x07\n",
            "  last of its output\n    x\\x1b[2J\n    no rule\n",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        let mut d = d;
        d.attempts[0].outcome.get_or_insert_default().maxrss_kib = u64::MAX;
        assert!(super::text(&d, false).contains("peak 16384P"));
        assert!(value(&d, false)["tried"][0]["result"]["peak_memory_bytes"] == u64::MAX);
    }
}
