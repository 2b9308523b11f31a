//! `queue stats`, `queue limits`, `queue classes`.

use super::json;
use super::list::counts;
use crate::command::view::{self, Format, Shown, json as encode};
use crate::human;
use crate::leader;
use crate::messages::{Failure, printable, write_all};
use crate::need::in_words;
use crate::table::Table;
use crate::verbs::View;
use libqueue::job;
use libqueue::wire::Empty;
use libqueue::wire::job::{Class, Limit, LimitsAsk, Stats, StatsAsk, UserStats, job_reply, mail_when, query};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Figures.
///
/// # Errors
/// The leader cannot be reached.
pub fn stats(ask: StatsAsk, view: View) -> Result<u8, Failure> {
    view::run(view, |format| {
        let job_reply::Kind::Stats(s) = leader::reply(query::Kind::Stats(ask.clone()))? else {
            return Err(leader::strange());
        };
        let text = match format {
            Format::Text(width) => stats_text(&s, width),
            Format::Json(one_line) => encode(&stats_value(&s), one_line)?,
        };
        Ok(Shown {
            text,
            notes: Vec::new(),
        })
    })
}

fn stats_text(s: &Stats, width: Option<usize>) -> String {
    let mut out = format!("Now: {}\n", counts(&s.counts));
    let _ = writeln!(out, "\nIn the last {}:", human::age(s.window_ms));
    out += &usage("USER", &s.users).render(width);
    if !s.hosts.is_empty() {
        out.push('\n');
        out += &usage("HOST", &s.hosts).render(width);
    }
    if !s.causes.is_empty() {
        out.push('\n');
        let mut t = Table::new(&["FAILURES", ">NUMBER", "MOST ON"]);
        for c in &s.causes {
            t.row(vec![
                job::cause_name(c.cause()).to_owned(),
                c.number.to_string(),
                printable(&c.host),
            ]);
        }
        out += &t.render(width);
    }
    let _ = writeln!(
        out,
        "\nThe leader leads since {}; its store has {}; {} letters wait.",
        human::moment(s.since_ms),
        libqueue::size::show(s.store_bytes),
        s.letters
    );
    out
}

fn usage(head: &str, all: &[UserStats]) -> Table {
    let mut t = Table::new(&[head, ">WELL", ">BADLY", ">WALL", ">CPU", ">MEAN WAIT"]);
    for u in all {
        t.row(vec![
            if u.name.is_empty() {
                "(all)".to_owned()
            } else {
                printable(&u.name)
            },
            u.done.to_string(),
            u.failed.to_string(),
            human::cpu_time(u.wall_ms),
            human::cpu_time(u.cpu_ms),
            human::cpu_time(u.wait_ms),
        ]);
    }
    t
}

fn stats_value(s: &Stats) -> Value {
    let usage = |all: &[UserStats]| -> Vec<Value> {
        all.iter()
            .map(|u| {
                json!({
                    "name": u.name, "well": u.done, "badly": u.failed, "wall_ms": u.wall_ms, "cpu_ms": u.cpu_ms,
                    "mean_wait_ms": u.wait_ms,
                })
            })
            .collect()
    };
    let causes: Vec<Value> = s
        .causes
        .iter()
        .map(|c| json!({ "cause": job::cause_name(c.cause()), "number": c.number, "most_on": c.host }))
        .collect();
    json!({
        "now": json::counts(&s.counts), "window_ms": s.window_ms, "users": usage(&s.users), "hosts": usage(&s.hosts),
        "failures": causes, "leading_since_ms": s.since_ms, "letters": s.letters, "store_bytes": s.store_bytes,
    })
}

/// Limits.
///
/// # Errors
/// The leader cannot be reached, or refuses.
pub fn limits(ask: LimitsAsk, as_json: bool) -> Result<u8, Failure> {
    let job_reply::Kind::Limits(l) = leader::reply(query::Kind::Limits(ask))? else {
        return Err(leader::strange());
    };
    let text = if as_json {
        let all: Vec<Value> = l
            .limits
            .iter()
            .map(|l| json!({ "name": l.name, "total": l.total, "used": l.used, "waiting": l.waiting }))
            .collect();
        encode(&all, false)?
    } else if l.limits.is_empty() {
        "There are no limits; `queue limits NAME:N` sets one.\n".to_owned()
    } else {
        limits_table(&l.limits).render(view::width())
    };
    write_all(1, text.as_bytes());
    Ok(0)
}

fn limits_table(all: &[Limit]) -> Table {
    let mut t = Table::new(&["LIMIT", ">UNITS", ">USED", ">WAITING"]);
    for l in all {
        t.row(vec![
            printable(&l.name),
            l.total.map_or_else(|| "-".to_owned(), |n| n.to_string()),
            l.used.to_string(),
            l.waiting.to_string(),
        ]);
    }
    t
}

/// Classes.
///
/// # Errors
/// The leader cannot be reached.
pub fn classes(as_json: bool) -> Result<u8, Failure> {
    let job_reply::Kind::Classes(c) = leader::reply(query::Kind::Classes(Empty {}))? else {
        return Err(leader::strange());
    };
    let text = if as_json {
        let all: Vec<Value> = c.classes.iter().map(class_value).collect();
        encode(&all, false)?
    } else {
        let mut t = Table::new(&[
            "CLASS",
            ">PRIORITY",
            ">RETRIES",
            "RESTART",
            ">TIME",
            "MAIL",
            ">MAX RUNNING",
            "NEEDS",
        ]);
        for c in &c.classes {
            t.row(vec![
                printable(&c.name),
                c.priority.to_string(),
                c.retries.to_string(),
                json::restart(c.restart()).to_owned(),
                if c.time_ms == 0 {
                    "-".to_owned()
                } else {
                    human::age(c.time_ms)
                },
                mail(c.mail),
                if c.max_running == 0 {
                    "-".to_owned()
                } else {
                    c.max_running.to_string()
                },
                c.need.as_ref().map(in_words).unwrap_or_default(),
            ]);
        }
        t.render(view::width())
    };
    write_all(1, text.as_bytes());
    Ok(0)
}

fn mail(bits: u32) -> String {
    let all = [
        (mail_when::BEGIN, "begin"),
        (mail_when::END, "end"),
        (mail_when::FAIL, "fail"),
    ];
    let said: Vec<&str> = all
        .iter()
        .filter(|(b, _)| bits & b != 0)
        .map(|(_, n)| *n)
        .collect();
    match said.is_empty() {
        true => "never".to_owned(),
        false => said.join(","),
    }
}

fn class_value(c: &Class) -> Value {
    json!({
        "name": c.name, "priority": c.priority, "retries": c.retries, "restart": json::restart(c.restart()),
        "lease_ms": c.lease_ms, "time_ms": c.time_ms, "mail": mail(c.mail), "max_running": c.max_running,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_mail() {
        assert_eq!(mail(0), "never");
        assert_eq!(mail(mail_when::BEGIN | mail_when::FAIL), "begin,fail");
    }
}
