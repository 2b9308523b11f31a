//! `--help`, made from the option table.

use crate::forms::Topic;
use crate::options::{BATCH, LAUNCH, Opt, QSH, RSH};
use crate::verbs::table::{VERBS, Verb};
use std::fmt::Write as _;

/// Columns of the option's spelling.
const LEFT: usize = 22;
/// Width of a line.
const WIDTH: usize = 80;

/// The text of `--version`.
pub fn version() -> String {
    format!("queue {}\n", env!("CARGO_PKG_VERSION"))
}

/// The text of `--help`.
pub fn help(topic: Topic) -> String {
    let mut s = String::with_capacity(6000);
    match topic {
        Topic::Queue => {
            s += QUEUE;
            s += "\nOptions in front of `--` (those in front of HOST: `qsh --help`):\n";
            table(&mut s, LAUNCH);
            s += "\nWith -b or -w (and in a script, in lines that begin with #QUEUE):\n";
            table(&mut s, BATCH);
            s += "\nVerbs (more: `queue VERB --help`):\n";
            for v in VERBS {
                entry(&mut s, v.name, v.summary, 12);
            }
            s += TAIL;
        }
        Topic::Qsh => {
            s += QSH_HEAD;
            s += "\nOptions (they end at HOST):\n";
            table(&mut s, RSH);
            table(&mut s, QSH);
            entry(&mut s, "--no-stdin, --tee FILE", "as in `queue --help`", LEFT);
            s += QSH_TAIL;
        }
        Topic::QueueSh => s += QUEUE_SH,
        Topic::Verb(v) => verb(&mut s, v),
    }
    s
}

fn verb(s: &mut String, v: &Verb) {
    for (i, usage) in v.usage.iter().enumerate() {
        let head = if i == 0 { "Usage:" } else { "      " };
        usage_line(s, &format!("{head} queue {} {usage}", v.name), v.name.len());
    }
    let mut summary = v.summary.chars();
    let first = summary.next().into_iter().flat_map(char::to_uppercase);
    let _ = writeln!(s, "\n{}{}.", first.collect::<String>(), summary.as_str());
    if !v.text.is_empty() {
        s.push('\n');
        for paragraph in v.text.lines() {
            entry(s, "", paragraph, 0);
        }
    }
    s.push_str("\nOptions:\n");
    table(s, v.options);
    if !v.examples.is_empty() {
        s.push_str("\nExamples:\n");
    }
    for (example, what) in v.examples {
        let _ = writeln!(s, "{}", format!("  {example:<38} {what}").trim_end());
    }
}

/// One way to write a verb; what does not fit stands below its first word.
fn usage_line(s: &mut String, line: &str, name: usize) {
    let below = "Usage: queue  ".len() + name;
    let mut column = 0;
    // An option and its value stay together.
    let mut open = 0_i32;
    let mut part = String::new();
    for word in line.split(' ') {
        part += if part.is_empty() && column == 0 { "" } else { " " };
        part += word;
        open += word.matches('[').count() as i32 - word.matches(']').count() as i32;
        if open > 0 {
            continue;
        }
        let length = part.chars().count();
        if column + length > WIDTH {
            let _ = write!(s, "\n{:below$}", "");
            part.remove(0);
            column = below - 1;
        }
        column += length;
        s.push_str(&std::mem::take(&mut part));
    }
    s.push_str(&part);
    s.push('\n');
}

fn table(s: &mut String, options: &[Opt]) {
    for o in options {
        let mut names: Vec<String> = o.short.chars().map(|c| format!("-{c}")).collect();
        names.extend(o.long.iter().map(|w| format!("--{w}")));
        let mut left = names.join(", ");
        if !o.value.is_empty() {
            // `--word[=VALUE]` is one word.
            let gap = if o.value.starts_with("[=") { "" } else { " " };
            left = format!("{left}{gap}{}", o.value);
        }
        entry(s, &left, o.help, LEFT);
    }
}

/// One entry: the spelling on the left, the text wrapped on the right, from column `at` on.
fn entry(s: &mut String, left: &str, text: &str, at: usize) {
    let mut column = 0;
    if !left.is_empty() {
        let _ = write!(s, "  {left}");
        column = 2 + left.chars().count();
        if column + 2 > at {
            s.push('\n');
            column = 0;
        }
    }
    let mut first = true;
    for word in text.split(' ') {
        let length = word.chars().count();
        if !first && column + 1 + length > WIDTH {
            s.push('\n');
            (column, first) = (0, true);
        }
        if first {
            let _ = write!(s, "{:1$}", "", at.saturating_sub(column));
            column = at;
        } else {
            s.push(' ');
            column += 1;
        }
        first = false;
        s.push_str(word);
        column += length;
    }
    s.push('\n');
}

const QUEUE: &str = "\
queue runs a command on another host as if it were local: same terminal,
signals, exit code, environment and directory.

Usage:
  queue [OPTIONS] -- COMMAND [ARG...]   COMMAND as given, no shell in between
  queue [OPTIONS] [USER@]HOST [CMD...]  as rsh (qsh): by the login shell on HOST
  queue -c STRING [NAME ARG...]         as sh (queue-sh); also `queue ./script`
  queue -b [OPTIONS] -- COMMAND         a durable job; also `queue -b SCRIPT`
  queue VERB ...                        what runs, what waits, and the hosts

  queue -- hostname                     on the least loaded host
  queue -h h2 -- make -j4               on h2, in this directory
  queue -q --cores 4 -- ./simulate      as soon as a host has four cores for it
  queue h2                              a login shell on h2 (`+`: on any host)
  rsync -a -e queue src/ h2:src/        wherever a program wants an rsh command
  make -j8 SHELL=queue-sh               every recipe on the least loaded host
  queue -b --time 2h -- ./simulate      later; its output comes to queue-12.out
  queue -b --array 1-100 ./task.sh      a hundred tasks; see `queue log`
";

const TAIL: &str = "
Exit code: the command's own; if it died of a signal, so does queue. Of queue
itself: 125 it failed (255 as rsh), 126 not executable, 127 not found.
";

const QSH_HEAD: &str = "\
qsh runs a command on another host, as rsh and ssh do.

Usage: qsh [OPTIONS] [USER@]HOST [COMMAND...]

HOST may be `+`, the least loaded one. Without COMMAND: a login shell. The words
of COMMAND are joined by blanks and run by your login shell there, in your home
directory.
";

const QSH_TAIL: &str = "
Exit code: the command's own; 255 if qsh itself failed. What ssh takes and has
no meaning here is ignored.
";

const QUEUE_SH: &str = "\
queue-sh is a shell that runs somewhere else: /bin/sh with the same arguments on
the least loaded host, in this directory and environment, without a terminal.

Usage: queue-sh [-e...] -c STRING [NAME ARG...] | queue-sh SCRIPT [ARG...]

Example: make -j8 SHELL=queue-sh

A recipe that was handed make's job server (a make within make) runs here, so
that -j keeps its meaning.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::LATER;

    #[test]
    fn what_works_is_in_the_help_and_what_does_not_is_not() {
        let text = help(Topic::Queue);
        for o in LAUNCH.iter().chain(BATCH) {
            for c in o.short.chars() {
                assert!(text.contains(&format!("-{c}")), "-{c}");
            }
            for w in o.long {
                assert!(text.contains(&format!("--{w}")), "--{w}");
            }
        }
        for v in VERBS {
            assert!(text.contains(&format!("\n  {} ", v.name)), "{}", v.name);
        }
        for o in LATER.iter().flat_map(|o| o.long) {
            assert!(!text.contains(&format!("--{o}")), "--{o}");
        }
        assert!(text.lines().count() <= 110, "{}", text.lines().count());
    }

    #[test]
    fn no_line_is_too_long() {
        let verbs = VERBS.iter().map(Topic::Verb);
        for topic in [Topic::Queue, Topic::Qsh, Topic::QueueSh]
            .into_iter()
            .chain(verbs)
        {
            for line in help(topic).lines() {
                assert!(line.len() <= WIDTH, "{line}");
                assert_eq!(line.trim_end(), line);
            }
        }
    }

    #[test]
    fn every_verb_has_its_own_help() {
        for v in VERBS {
            let text = help(Topic::Verb(v));
            assert!(text.starts_with(&format!("Usage: queue {} ", v.name)), "{text}");
            assert!(text.contains("--json") && text.contains("--help"), "{text}");
        }
    }
}
