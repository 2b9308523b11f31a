//! `queue explain ID`: everything that keeps a job from running.

use super::{json, list};
use crate::command::view::{self, json as encode};
use crate::leader;
use crate::messages::{Failure, printable, write_all};
use crate::table::Table;
use libqueue::job;
use libqueue::wire::job::{IdRange, Selection, Why, job_reply, query};
use serde_json::json;
use std::fmt::Write as _;

/// Asks and shows.
///
/// # Errors
/// The leader cannot be reached, or there is no such job.
pub fn run(which: Selection, as_json: bool) -> Result<u8, Failure> {
    // One after the other: each is a page of its own.
    for (i, ids) in which.ids.iter().enumerate() {
        if i > 0 && !as_json {
            write_all(1, b"\n");
        }
        let one = Selection {
            ids: vec![*ids],
            ..Selection::default()
        };
        explain(one, as_json)?;
    }
    Ok(0)
}

fn ask(which: Selection) -> Result<Why, Failure> {
    match leader::reply(query::Kind::Explain(which))? {
        job_reply::Kind::Why(why) => Ok(why),
        _ => Err(leader::strange()),
    }
}

/// Why no host can ever run this job, and what would help, if that is known to be so.
pub fn hopeless(id: u64) -> Option<String> {
    let ids = vec![IdRange {
        from: id,
        to: id,
        tasks: None,
    }];
    let why = ask(Selection {
        ids,
        ..Selection::default()
    })
    .ok()?;
    let never = !why.hosts.is_empty() && why.hosts.iter().all(|h| h.never);
    why.remedies.into_iter().next().filter(|_| never)
}

fn explain(which: Selection, as_json: bool) -> Result<(), Failure> {
    let why = ask(which)?;
    let text = if as_json {
        encode(&as_value(&why), false)?
    } else {
        as_text(&why, view::width())
    };
    write_all(1, text.as_bytes());
    Ok(())
}

fn as_value(why: &Why) -> serde_json::Value {
    let hosts: Vec<_> = why
        .hosts
        .iter()
        .map(|h| json!({ "host": h.host, "blockers": h.blockers, "never": h.never }))
        .collect();
    json!({
        "job": why.job.as_ref().map(json::job),
        "blockers": why.blockers,
        "hosts": hosts,
        "remedies": why.remedies,
        "ahead": why.ahead,
    })
}

fn as_text(why: &Why, width: Option<usize>) -> String {
    let mut out = String::new();
    if let Some(j) = &why.job {
        let state = match j.counts.is_empty() {
            true => job::state_name(j.state()).to_owned(),
            false => list::counts(&j.counts),
        };
        let place = if j.host.is_empty() {
            String::new()
        } else {
            format!(" on {}", printable(&j.host))
        };
        let _ = writeln!(out, "{} is {state}{place}", job::name(j.id, j.task));
        let reason = super::reason(j);
        if !reason.is_empty() && why.blockers.is_empty() {
            let _ = writeln!(out, "  {reason}");
        }
    }
    for b in &why.blockers {
        let _ = writeln!(out, "  {}", printable(b));
    }
    if why.ahead > 0 {
        let _ = writeln!(out, "  {} jobs come before it", why.ahead);
    }
    if !why.hosts.is_empty() {
        out.push('\n');
        let mut t = Table::new(&["HOST", "WHAT KEEPS IT FROM THERE"]);
        for h in &why.hosts {
            let all: Vec<String> = h.blockers.iter().map(|b| printable(b)).collect();
            let what = match (all.is_empty(), h.never) {
                (true, _) => "nothing".to_owned(),
                (false, true) => format!("never: {}", all.join("; ")),
                (false, false) => all.join("; "),
            };
            t.row(vec![printable(&h.host), what]);
        }
        out += &t.render(width);
    }
    if !why.remedies.is_empty() {
        out.push_str("\nWhat would help:\n");
        for r in &why.remedies {
            let _ = writeln!(out, "  {}", printable(r));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use libqueue::wire::job::{Job, State, WhyHost};

    #[test]
    fn as_lines() {
        let why = Why {
            job: Some(Job {
                id: 12,
                state: State::Ready as i32,
                ..Job::default()
            }),
            blockers: vec!["limit license: 3 of 3 used by 7, 9, 11".into()],
            hosts: vec![
                WhyHost {
                    host: "h1".into(),
                    blockers: vec!["2 of 2 cores taken".into()],
                    never: false,
                },
                WhyHost {
                    host: "h2".into(),
                    ..WhyHost::default()
                },
            ],
            remedies: vec!["kill or wait for 7".into()],
            ahead: 2,
        };
        assert_eq!(
            as_text(&why, None),
            "12 is ready\n  limit license: 3 of 3 used by 7, 9, 11\n  2 jobs come before it\n\
             \nHOST  WHAT KEEPS IT FROM THERE\nh1    2 of 2 cores taken\nh2    nothing\n\
             \nWhat would help:\n  kill or wait for 7\n"
        );
    }
}
