//! Who typed `queue jbos` meant a verb, and who typed `queue gaus` a host: what the error suggests. Pure but for
//! [`hint`], which asks the daemon for the hosts.

use crate::forms::{Run, Target, What};
use crate::messages::{Failure, Kind, printable};
use crate::place::Daemon;
use crate::verbs::table::VERBS;
use libqueue::wire::{Empty, reply, request};
use queue_exec::layout::Layout;

/// Most that are suggested: more than that is a list, and there are better ones.
const MOST: usize = 2;

/// Adds what was meant to the error that there is no such host. `verbs`: the host stood where a verb may.
pub fn hint(run: &Run, verbs: bool, failure: Failure) -> Failure {
    let (Kind::NoSuchHost, Target::Only(typed) | Target::Prefer(typed)) = (failure.kind, &run.host) else {
        return failure;
    };
    let verbs = verbs && matches!(run.what, What::Rsh(_)) && run.login.is_empty();
    let hosts = hosts();
    let mut text = failure.text;
    if let Some(s) = suggestion(typed, &hosts, verbs) {
        text = format!("did you mean {s}? {text}");
    }
    if verbs {
        // Where the host is a bare word a command may have been meant.
        text += &format!("; a command comes after --: queue -- {}", printable(typed));
    }
    Failure {
        kind: Kind::Own,
        text,
    }
}

/// Names of the cluster's hosts; none if the daemon does not say.
pub fn hosts() -> Vec<String> {
    let ask = || {
        let mut daemon = Daemon::dial(&Layout::for_client())?;
        match daemon.request(request::Kind::Hosts(Empty {}))? {
            reply::Kind::Hosts(all) => Ok(all.hosts),
            _ => Err(daemon.strange()),
        }
    };
    // Without them there is less to suggest.
    let all = ask().unwrap_or_default();
    all.into_iter().map(|h| h.name).collect()
}

/// What is spelled most nearly like this, in words; `None`: nothing is near, or too much.
fn suggestion(typed: &str, hosts: &[String], verbs: bool) -> Option<String> {
    let verbs = VERBS.iter().map(|v| v.name).chain(["help"]).filter(|_| verbs);
    let hosts = hosts.iter().map(String::as_str);
    let all = verbs
        .map(|v| (v, format!("`queue {v}`")))
        .chain(hosts.map(|h| (h, format!("host {}", printable(h)))));
    nearest(typed, all)
}

/// The error that there is no option of that name, with the one in front that was meant, if it is clear.
pub fn option<'a>(typed: &str, words: impl Iterator<Item = &'a str>, failure: Failure) -> Failure {
    match nearest(typed, words.map(|w| (w, format!("--{w}")))) {
        Some(s) => Failure {
            text: format!("did you mean {s}? {}", failure.text),
            ..failure
        },
        None => failure,
    }
}

/// Of names, each with how it is shown, those that are spelled most nearly like what was typed.
fn nearest<'a>(typed: &str, all: impl Iterator<Item = (&'a str, String)>) -> Option<String> {
    let typed = typed.to_ascii_lowercase();
    // One slip in a short word, two in a longer one.
    let slips = match typed.chars().count() {
        0..=2 => return None,
        3..=4 => 1,
        _ => 2,
    };
    let mut near: Vec<(usize, String)> = all
        .map(|(name, shown)| (distance(&typed, name), shown))
        .filter(|(d, _)| *d <= slips)
        .collect();
    let least = near.iter().map(|(d, _)| *d).min()?;
    near.retain(|(d, _)| *d == least);
    let shown: Vec<String> = near.into_iter().map(|(_, s)| s).collect();
    (shown.len() <= MOST).then(|| shown.join(" or "))
}

/// How many letters have to be put in, left out, replaced, or swapped with the next one (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut least = (last[j] + usize::from(x != y))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, d) in [
            ("", "", 0),
            ("", "abc", 3),
            ("jobs", "jobs", 0),
            ("jbos", "jobs", 1),
            ("hlep", "help", 1),
            ("job", "jobs", 1),
            ("jobss", "jobs", 1),
            ("kitten", "sitting", 3),
            ("ab", "ba", 1),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (d, d), "{a} {b}");
        }
    }

    #[test]
    fn what_is_near_is_suggested_and_nothing_else() {
        let hosts = ["gauss", "h1", "h2", "h3", "node11", "node12", "node13", "joss"].map(str::to_owned);
        for (typed, verbs, said) in [
            ("jbos", true, Some("`queue jobs`")),
            ("hlep", true, Some("`queue help`")),
            ("jbos", false, None),
            ("Hosst", true, Some("`queue hosts`")),
            ("gaus", true, Some("host gauss")),
            ("gaus", false, Some("host gauss")),
            // Two are as near; three are too many.
            ("joos", true, Some("`queue jobs` or host joss")),
            ("node14", true, None),
            ("h4", true, None),
            ("euler", true, None),
            ("", true, None),
        ] {
            assert_eq!(suggestion(typed, &hosts, verbs).as_deref(), said, "{typed}");
        }
        let option = |typed: &str| {
            let words = ["priority", "prefer", "name"].into_iter();
            option(typed, words, Failure::own("unknown option")).text
        };
        assert_eq!(option("prioritty"), "did you mean --priority? unknown option");
        assert_eq!(option("frobnicate"), "unknown option");
        let hostile = ["ga\x1bss".to_owned()];
        assert_eq!(suggestion("gauss", &hostile, true).unwrap(), "host ga\\x1bss");
    }
}
