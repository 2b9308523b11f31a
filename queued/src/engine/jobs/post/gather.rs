//! Much that happened, gathered for one digest: how many, by cause, and the first ones by name.

use super::text::{Item, header, line};
use libqueue::wire::job::Header;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Causes that are told apart, and items that are named of each.
const CAUSES: usize = 50;
const NAMED: usize = 5;
/// Failures that are listed.
const FIRST: usize = 20;

/// Items with the same cause.
#[derive(Debug, Clone, PartialEq, Default)]
struct Cause {
    number: u64,
    first: Vec<String>,
    hosts: BTreeMap<String, u64>,
}

/// What was gathered.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Gather {
    /// Items that went well, and others.
    pub well: u64,
    /// See above.
    pub bad: u64,
    causes: BTreeMap<String, Cause>,
    /// Of causes beyond those that are told apart.
    others: u64,
    first: Vec<String>,
    /// The first item, in full: if it stays the only one.
    pub only: Option<Item>,
}

impl Gather {
    /// One more.
    pub(super) fn add(&mut self, item: Item) {
        if item.well {
            self.well += 1;
        } else {
            self.bad += 1;
            self.fail(&item.what, &item.how, &item.host);
        }
        self.only = (self.items() == 1).then_some(item);
    }

    /// Counts a failure by its cause.
    fn fail(&mut self, what: &str, how: &str, host: &str) {
        if self.first.len() < FIRST {
            let host = if host.is_empty() {
                String::new()
            } else {
                format!(" on {host}")
            };
            self.first.push(format!("{what}: {how}{host}"));
        }
        if self.causes.len() >= CAUSES && !self.causes.contains_key(how) {
            self.others += 1;
            return;
        }
        let cause = self.causes.entry(how.to_owned()).or_default();
        cause.number += 1;
        if cause.first.len() < NAMED {
            cause.first.push(what.to_owned());
        }
        if !host.is_empty() && (cause.hosts.len() < CAUSES || cause.hosts.contains_key(host)) {
            *cause.hosts.entry(host.to_owned()).or_default() += 1;
        }
    }

    /// How many items.
    pub(super) fn items(&self) -> u64 {
        self.well + self.bad
    }

    /// Causes, most frequent first, and the first failures.
    pub(super) fn describe(&self, body: &mut String) {
        if self.bad == 0 {
            return;
        }
        let mut causes: Vec<_> = self.causes.iter().collect();
        causes.sort_by_key(|(how, c)| (std::cmp::Reverse(c.number), (*how).clone()));
        body.push_str("\nCauses:\n");
        for (how, c) in causes {
            let more = if c.number > c.first.len() as u64 {
                ", ..."
            } else {
                ""
            };
            let numbers: Vec<&str> = c.first.iter().filter_map(|w| w.split(' ').next()).collect();
            let mut hosts: Vec<_> = c.hosts.iter().collect();
            hosts.sort_by_key(|(h, n)| (std::cmp::Reverse(**n), (*h).clone()));
            let hosts: Vec<String> = hosts
                .into_iter()
                .take(NAMED)
                .map(|(h, n)| format!("{h} {n}"))
                .collect();
            let on = if hosts.is_empty() {
                String::new()
            } else {
                format!("; on {}", hosts.join(", "))
            };
            let _ = writeln!(
                body,
                "  {:>6}  {how} ({}{more}{on})",
                c.number,
                numbers.join(", ")
            );
        }
        if self.others > 0 {
            let _ = writeln!(body, "  {:>6}  other causes", self.others);
        }
        let _ = writeln!(body, "\nThe first that ended badly:");
        for f in &self.first {
            let _ = writeln!(body, "  {f}");
        }
        if self.bad > self.first.len() as u64 {
            let _ = writeln!(body, "  and {} more", self.bad - self.first.len() as u64);
        }
    }

    /// One item of all that was gathered under a title; of a single one: that one.
    pub(super) fn digest(&self, subject: &str, opening: &str, next: &str, mut headers: Vec<Header>) -> Item {
        let mut body = format!("{opening}\n");
        self.describe(&mut body);
        if !next.is_empty() {
            let _ = write!(body, "\n{next}\n");
        }
        headers.push(header("Digest", self.items().to_string()));
        Item {
            subject: line(subject, 150),
            body,
            headers,
            what: String::new(),
            how: String::new(),
            host: String::new(),
            well: self.bad == 0,
        }
    }
}
