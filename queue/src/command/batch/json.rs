//! What JSON says of jobs. Pure.

use libqueue::job;
use libqueue::wire::Need;
use libqueue::wire::job::{Count, Detail, Job, Outcome, Plan, Restart, Run, State, Tried, mail_when};
use serde_json::{Map, Value, json};

fn text(b: &[u8]) -> String {
    String::from_utf8_lossy(b).into_owned()
}

fn or_null(s: &str) -> Value {
    match s.is_empty() {
        true => Value::Null,
        false => s.into(),
    }
}

fn time(ms: u64) -> Value {
    match ms {
        0 => Value::Null,
        ms => ms.into(),
    }
}

/// A job or task.
pub fn job(j: &Job) -> Value {
    json!({
        "id": job::name(j.id, j.task),
        "job": j.id,
        "task": if j.task == 0 { Value::Null } else { j.task.into() },
        "user": j.user,
        "name": or_null(&j.name),
        "group": or_null(&j.group),
        "class": or_null(&j.class),
        "state": job::state_name(j.state()),
        "reason": or_null(&j.reason),
        "priority": j.priority,
        "submitted_ms": time(j.submitted_ms),
        "started_ms": time(j.started_ms),
        "ended_ms": time(j.ended_ms),
        "host": or_null(&j.host),
        "submit_host": or_null(&j.submit_host),
        "attempts": j.attempts,
        "need": j.need.as_ref().map(need),
        "tasks": if j.counts.is_empty() { Value::Null } else { counts(&j.counts) },
        "result": j.outcome.as_ref().map(outcome),
        "command": or_null(&j.command),
    })
}

fn need(n: &Need) -> Value {
    json!({
        "cores": n.cores, "memory_bytes": n.mem, "gpus": n.gpus, "disk_bytes": n.disk, "expression": n.expr,
    })
}

/// Numbers by state.
pub fn counts(all: &[Count]) -> Value {
    let mut m = Map::new();
    for c in all {
        let state = State::try_from(c.state).unwrap_or_default();
        m.insert(job::state_name(state).to_owned(), c.number.into());
    }
    m.into()
}

/// How an attempt ended.
pub fn outcome(o: &Outcome) -> Value {
    json!({
        "cause": job::cause_name(o.cause()),
        "text": job::in_words(o),
        "code": o.code,
        "signal": o.signal,
        "core_dumped": o.core,
        "started_ms": time(o.started_ms),
        "wall_ms": o.wall_ms,
        "cpu_ms": o.cpu_us / 1000,
        "peak_memory_bytes": o.maxrss_kib.saturating_mul(1024),
        "output_bytes": o.written,
        "output_file": or_null(&text(&o.output)),
        "error_file": or_null(&text(&o.error)),
        "head": text(&o.head),
        "tail": text(&o.tail),
    })
}

/// An attempt.
pub fn attempt(t: &Tried) -> Value {
    let key = t.key.unwrap_or_default();
    json!({
        "id": job::name(key.job, key.task),
        "attempt": key.attempt,
        "host": t.host,
        "sent_ms": time(t.sent_ms),
        "started_ms": t.running.as_ref().map_or(Value::Null, |r| time(r.started_ms)),
        "ended_ms": time(t.ended_ms),
        "pid": t.running.as_ref().map(|r| r.pid),
        "result": t.outcome.as_ref().map(outcome),
    })
}

/// The plan.
pub fn plan(p: &Plan) -> Value {
    let mut mail = Vec::new();
    for (bit, name) in [
        (mail_when::BEGIN, "begin"),
        (mail_when::END, "end"),
        (mail_when::FAIL, "fail"),
    ] {
        if p.mail.unwrap_or_default() & bit != 0 {
            mail.push(name);
        }
    }
    json!({
        "host": or_null(&p.host),
        "prefer": or_null(&p.prefer),
        "retries": p.retries,
        "time_ms": time(p.time_ms),
        "not_before_ms": time(p.at_ms),
        "limits": p.limits.iter().map(|l| &l.name).collect::<Vec<_>>(),
        "restart": restart(p.restart()),
        "mail": mail,
        "tasks_at_once": p.array.as_ref().map(|a| a.at_once).filter(|n| *n > 0),
    })
}

/// A restart policy's name.
pub fn restart(r: Restart) -> &'static str {
    match r {
        Restart::Unset | Restart::Ask => "ask",
        Restart::Restart => "restart",
        Restart::Fail => "fail",
    }
}

fn run(r: &Run, env: bool) -> Value {
    let mut v = json!({
        "argv": r.argv.iter().map(|a| text(a)).collect::<Vec<_>>(),
        "directory": text(&r.cwd),
        "umask": format!("{:03o}", r.umask),
        "script": if r.script.is_empty() { Value::Null } else { text(&r.script).into() },
    });
    if env && let Some(m) = v.as_object_mut() {
        let all: Vec<String> = r.env.iter().map(|e| text(e)).collect();
        m.insert("environment".into(), all.into());
    }
    v
}

/// Everything about a job.
pub fn detail(d: &Detail, env: bool) -> Value {
    let mut v = d.job.as_ref().map_or_else(|| json!({}), job);
    if let Some(m) = v.as_object_mut() {
        m.insert("plan".into(), d.plan.as_ref().map_or(Value::Null, plan));
        m.insert("run".into(), d.run.as_ref().map_or(Value::Null, |r| run(r, env)));
        let tried: Vec<Value> = d.attempts.iter().map(attempt).collect();
        m.insert("tried".into(), tried.into());
        m.insert("home".into(), or_null(&d.home));
    }
    v
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_null() {
        let v = job(&Job {
            id: 12,
            state: State::Ready as i32,
            ..Job::default()
        });
        assert_eq!(
            (v["id"].as_str(), v["state"].as_str()),
            (Some("12"), Some("ready"))
        );
        assert!(
            v["task"].is_null() && v["host"].is_null() && v["command"].is_null() && v["started_ms"].is_null()
        );
        let d = detail(
            &Detail {
                run: Some(Run {
                    argv: vec![b"make".to_vec()],
                    env: vec![b"A=b".to_vec()],
                    umask: 0o22,
                    ..Run::default()
                }),
                ..Detail::default()
            },
            true,
        );
        assert_eq!(d["run"]["environment"][0], "A=b");
        assert_eq!(d["run"]["umask"], "022");
    }
}
