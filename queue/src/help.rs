//! `--help`, made from the option table.

use crate::forms::Topic;
use crate::options::{LATER, LAUNCH, Opt, QSH, RSH, VERBS};
use std::fmt::Write as _;

/// Columns of the option's spelling.
const LEFT: usize = 26;
/// Width of a line.
const WIDTH: usize = 100;

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
            s += "\nOptions of the launch form:\n";
            table(&mut s, LAUNCH);
            s += "\nOptions of the rsh form (they end at HOST):\n";
            table(&mut s, RSH);
            s += "\nVerbs:\n";
            for (name, takes, help) in VERBS {
                entry(&mut s, &format!("{name} {takes}"), help);
            }
            s += "\nIn later versions (refused with a clear line now):\n";
            table(&mut s, LATER);
            s += TAIL;
        }
        Topic::Qsh => {
            s += QSH_HEAD;
            s += "\nOptions (they end at HOST):\n";
            table(&mut s, RSH);
            table(&mut s, QSH);
            entry(&mut s, "--no-stdin, --tee FILE", "as in `queue --help`");
            s += QSH_TAIL;
        }
        Topic::QueueSh => s += QUEUE_SH,
        Topic::Hosts => {
            s += "Usage: queue hosts [--json]\n       queue hosts remove NAME\n\n";
            for (name, takes, help) in VERBS {
                entry(&mut s, &format!("{name} {takes}"), help);
            }
        }
    }
    s
}

fn table(s: &mut String, options: &[Opt]) {
    for o in options {
        let mut names: Vec<String> = o.short.chars().map(|c| format!("-{c}")).collect();
        names.extend(o.long.iter().map(|w| format!("--{w}")));
        let mut left = names.join(", ");
        if !o.value.is_empty() {
            left = format!("{left} {}", o.value);
        }
        entry(s, &left, o.help);
    }
}

/// One entry: the spelling on the left, the text wrapped on the right.
fn entry(s: &mut String, left: &str, text: &str) {
    let _ = write!(s, "  {left}");
    let mut column = 2 + left.chars().count();
    if column + 2 > LEFT {
        s.push('\n');
        column = 0;
    }
    for word in text.split(' ') {
        let room = column > LEFT && column + 1 + word.len() > WIDTH;
        if room {
            s.push('\n');
            column = 0;
        }
        if column < LEFT {
            let _ = write!(s, "{:1$}", "", LEFT - column);
            column = LEFT;
        } else {
            s.push(' ');
            column += 1;
        }
        s.push_str(word);
        column += word.chars().count();
    }
    s.push('\n');
}

const QUEUE: &str = "\
queue runs a command on another host as if it were local: same terminal, signals, exit code, environment,
directory.

Usage:
  queue [OPTIONS] -- COMMAND [ARG...]        launch: COMMAND is executed as given, no shell in between
  queue [OPTIONS] [USER@]HOST [COMMAND...]   rsh form: run by the login shell on HOST; `+` is any host
  queue -c STRING [NAME ARG...]              shell form, as sh; also `queue ./script`, `make SHELL=queue`
  queue VERB ...                             look at the cluster
  qsh ...                                    always the rsh form
  queue-sh ...                               always the shell form

Examples:
  queue -- hostname                          on the least loaded host
  queue -h h2 -- make -j4                    on h2, in this directory
  queue -- vim notes                         with the terminal, window size and Ctrl-Z as usual
  tar cf - src | queue h2 tar xf -           rsh form: a pipeline through h2's login shell
  rsync -a -e queue src/ h2:src/             wherever a program wants an rsh command
  make -j8 SHELL=queue-sh                    every recipe on the least loaded host
  queue hosts                                who is there, and how loaded
";

const TAIL: &str = "
Exit code: the command's own, all of 0 to 255; if it died of a signal, so does queue. Failures of queue itself:
125 (255 in the rsh form), 126 found but not executable, 127 not found; one line on standard error says why.
Environment: QUEUE_SOCKET names the daemon's socket if it is not the usual one.
";

const QSH_HEAD: &str = "\
qsh runs a command on another host, as rsh and ssh do.

Usage: qsh [OPTIONS] [USER@]HOST [COMMAND...]

HOST may be `+`, the least loaded one. Without COMMAND: a login shell. The words of COMMAND are joined by blanks
and run by your login shell there, in your home directory.
";

const QSH_TAIL: &str = "
Exit code: the command's own; 255 if qsh itself failed. What ssh takes and has no meaning here is ignored.
";

const QUEUE_SH: &str = "\
queue-sh is a shell that runs somewhere else: /bin/sh with the same arguments on the least loaded host, in this
directory and environment, without a terminal.

Usage: queue-sh [-e...] -c STRING [NAME ARG...] | queue-sh SCRIPT [ARG...]

Example: make -j8 SHELL=queue-sh

A recipe that was handed make's job server (a make within make) runs here, so that -j keeps its meaning.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_and_verb_is_in_the_help_and_no_line_is_too_long() {
        let text = help(Topic::Queue);
        for o in LAUNCH.iter().chain(LATER).chain(RSH) {
            for c in o.short.chars() {
                assert!(text.contains(&format!("-{c}")), "-{c}");
            }
            for w in o.long {
                assert!(text.contains(&format!("--{w}")), "--{w}");
            }
        }
        for topic in [Topic::Queue, Topic::Qsh, Topic::QueueSh, Topic::Hosts] {
            for line in help(topic).lines() {
                assert!(line.len() <= 120, "{line}");
            }
        }
    }
}
