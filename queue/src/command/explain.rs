//! `queue explain`: how each host is judged for a command, and what would happen.

use super::view::{self, json};
use crate::human;
use crate::messages::{Failure, printable, write_all};
use crate::place::Daemon;
use crate::table::Table;
use libqueue::wire::{Explained, Judged, Place, reply, request};
use queue_exec::layout::Layout;
use serde::Serialize;
use std::fmt::Write as _;

/// Of how many hosts the terms are explained in words.
const IN_WORDS: usize = 3;

/// Asks the daemon and shows what it says.
///
/// # Errors
/// No daemon, or it does not know.
pub fn run(place: Place, as_json: bool) -> Result<(), Failure> {
    let mut daemon = Daemon::dial(&Layout::for_client())?;
    let reply::Kind::Explained(e) = daemon.request(request::Kind::Explain(place))? else {
        return Err(daemon.strange());
    };
    let text = if as_json {
        json(&Json::new(&e), false)?
    } else {
        as_text(&e, view::width())
    };
    write_all(1, text.as_bytes());
    Ok(())
}

fn as_text(e: &Explained, width: Option<usize>) -> String {
    let mut out = String::new();
    for line in e.formula.lines() {
        let _ = writeln!(out, "{}", printable(line));
    }
    if !e.formula.is_empty() {
        out.push('\n');
    }
    out += &table(e).render(width);
    for h in e.hosts.iter().filter(|h| h.no.is_empty()).take(IN_WORDS) {
        out += &in_words(h);
    }
    if !e.verdict.is_empty() {
        let _ = writeln!(out, "\n{}", printable(&e.verdict));
    }
    out
}

/// One line a host, one column a term.
fn table(e: &Explained) -> Table {
    let mut names: Vec<&str> = Vec::new();
    for t in e.hosts.iter().flat_map(|h| &h.terms) {
        if !names.contains(&t.name.as_str()) {
            names.push(&t.name);
        }
    }
    let heads: Vec<String> = names
        .iter()
        .map(|n| format!(">{}", printable(n).to_uppercase()))
        .collect();
    let mut all = vec!["HOST", ">SCORE", ">CHANCE"];
    all.extend(heads.iter().map(String::as_str));
    all.extend([">AS OF", "WHY NOT"]);
    let mut table = Table::new(&all);
    for h in &e.hosts {
        let may = h.no.is_empty();
        let or_dash = |s: Option<String>| s.unwrap_or_else(|| "-".to_owned());
        let judged = may || !h.terms.is_empty();
        let mut row = vec![
            printable(&h.host),
            or_dash(judged.then(|| human::number(h.score))),
            or_dash(may.then(|| percent(h.chance))),
        ];
        row.extend(names.iter().map(|n| {
            let term = h.terms.iter().find(|t| t.name == *n);
            or_dash(term.map(|t| human::number(t.value)))
        }));
        row.push(seconds(h.age_ms));
        row.push(printable(&h.no));
        table.row(row);
    }
    table
}

fn in_words(h: &Judged) -> String {
    let mut out = format!("\n{}\n", printable(&h.host));
    let width = h.terms.iter().map(|t| t.name.chars().count()).max().unwrap_or(0);
    for t in &h.terms {
        let line = format!(
            "  {:width$}  {:>5}  {}",
            printable(&t.name),
            human::number(t.value),
            printable(&t.text)
        );
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

fn percent(p: f64) -> String {
    format!("{:.0}%", (p * 100.0).clamp(0.0, 100.0))
}

fn seconds(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{:.1}s", ms as f64 / 1000.0),
        ms => human::age(ms),
    }
}

#[derive(Serialize)]
struct Json<'a> {
    formula: &'a str,
    hosts: Vec<JsonHost<'a>>,
    verdict: &'a str,
}

#[derive(Serialize)]
struct JsonHost<'a> {
    host: &'a str,
    eligible: bool,
    why_not: Option<&'a str>,
    score: Option<f64>,
    chance: f64,
    age_ms: u64,
    terms: Vec<JsonTerm<'a>>,
}

#[derive(Serialize)]
struct JsonTerm<'a> {
    name: &'a str,
    value: f64,
    text: &'a str,
}

impl<'a> Json<'a> {
    fn new(e: &'a Explained) -> Self {
        let host = |h: &'a Judged| JsonHost {
            host: &h.host,
            eligible: h.no.is_empty(),
            why_not: (!h.no.is_empty()).then_some(&h.no),
            score: (h.no.is_empty() || !h.terms.is_empty()).then_some(h.score),
            chance: h.chance,
            age_ms: h.age_ms,
            terms: h
                .terms
                .iter()
                .map(|t| JsonTerm {
                    name: &t.name,
                    value: t.value,
                    text: &t.text,
                })
                .collect(),
        };
        Self {
            formula: &e.formula,
            hosts: e.hosts.iter().map(host).collect(),
            verdict: &e.verdict,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libqueue::wire::Term;

    fn explained() -> Explained {
        let term = |name: &str, value, text: &str| Term {
            name: name.into(),
            value,
            text: text.into(),
        };
        Explained {
            formula: "score = demand * scarcity".into(),
            hosts: vec![
                Judged {
                    host: "h2".into(),
                    score: 1.25,
                    terms: vec![
                        term("demand", 1.25, "2 of 8 cores busy"),
                        term("scarcity", 1.0, ""),
                    ],
                    chance: 0.625,
                    age_ms: 1_340,
                    ..Judged::default()
                },
                Judged {
                    host: "h3".into(),
                    no: "draining: new\x1b disks".into(),
                    age_ms: 90_000,
                    ..Judged::default()
                },
            ],
            verdict: "it would run on h2".into(),
        }
    }

    #[test]
    fn as_lines() {
        assert_eq!(
            as_text(&explained(), None),
            "score = demand * scarcity\n\
             \n\
             HOST  SCORE  CHANCE  DEMAND  SCARCITY  AS OF  WHY NOT\n\
             h2     1.25     62%    1.25      1.00   1.3s\n\
             h3        -       -       -         -    90s  draining: new\\x1b disks\n\
             \n\
             h2\n\
             \x20 demand     1.25  2 of 8 cores busy\n\
             \x20 scarcity   1.00\n\
             \n\
             it would run on h2\n"
        );
    }

    #[test]
    fn as_json() {
        let v = serde_json::to_value(Json::new(&explained())).unwrap();
        assert_eq!(v["hosts"][0]["terms"][0]["value"], 1.25);
        assert_eq!(v["hosts"][1]["why_not"], "draining: new\u{1b} disks");
        assert!(v["hosts"][1]["score"].is_null() && v["hosts"][1]["eligible"] == false);
    }
}
