//! The one table of verbs: the parser, `--help`, and the tests that compare the manual page all read it. Pure
//! data.

use crate::options::{Id, Opt};

/// A verb.
#[derive(Debug, Clone, Copy)]
pub struct Verb {
    /// Its name.
    pub name: &'static str,
    /// How it is written, each without `queue NAME`.
    pub usage: &'static [&'static str],
    /// What it does, in one line.
    pub summary: &'static str,
    /// What else there is to know.
    pub text: &'static str,
    /// Its options.
    pub options: &'static [Opt],
    /// Examples, each with what it does.
    pub examples: &'static [(&'static str, &'static str)],
}

const fn opt(
    id: Id,
    short: &'static str,
    long: &'static [&'static str],
    value: &'static str,
    help: &'static str,
) -> Opt {
    Opt {
        id,
        short,
        long,
        value,
        help,
    }
}

const JSON: Opt = opt(Id::Json, "", &["json"], "", "print JSON, for programs");
const HELP: Opt = opt(Id::Help, "", &["help"], "", "show this and exit 0");
const WATCH: Opt = opt(
    Id::Watch,
    "",
    &["watch"],
    "[SECONDS]",
    "show it again every SECONDS (default: 2) until Ctrl-C; with --json, one line each time",
);

/// The verbs that work, in the order of `queue --help`.
#[rustfmt::skip]
pub const VERBS: &[Verb] = &[
    Verb {
        name: "hosts",
        usage: &["[-l] [-R EXPR] [--watch [SECONDS]] [--json]", "remove NAME"],
        summary: "the hosts of the cluster: state, load, what is free",
        text: "\
LOAD is the load average of the last minute, BUSY/CORES the cores in use and all there are, FREE/MEM the memory \
that is available and all of it. PRESSURE is the share of the last 10 s in which something had to wait, for the \
scarcest of cpu, memory and io. A star marks the host that you are on.
States: up, suspect (it missed a question), down, left (it was stopped), draining (it takes nothing new, and \
sessions still run there), drained (none is left).
`remove` takes a host out of the cluster for good: as root, on the host that holds the cluster's authority.
",
        options: &[
            opt(Id::Long, "l", &["long"], "", "more columns: reserved, disk, power, system, version, address"),
            opt(Id::Expr, "R", &[], "EXPR", "only hosts for which this holds, as 'gpus>0 && mem_free>=8G'"),
            WATCH, JSON, HELP,
        ],
        examples: &[
            ("queue hosts --watch", "all hosts, every two seconds"),
            ("queue hosts -R 'raid>=200G'", "those that have it"),
        ],
    },
    Verb {
        name: "explain",
        usage: &["[OPTIONS] [-- COMMAND [ARG...]]"],
        summary: "why a command would run where: scores, or what is lacking",
        text: "\
Takes the options that the command would be started with (`queue --help` lists them), and runs nothing. Of two \
hosts that are drawn by chance, the one with the lower score gets the command: so those who look at the same \
moment do not all choose the same host.
",
        options: &[
            opt(Id::Json, "", &["json"], "", "print JSON, for programs"), HELP,
        ],
        examples: &[
            ("queue explain -- make", "how each host is judged now"),
            ("queue explain --gpus 2 -- ./run", "which of them would do"),
        ],
    },
    Verb {
        name: "jobs",
        usage: &["[-u USER] [-h HOST] [--watch [SECONDS]] [--json]"],
        summary: "all that runs in the cluster: who, what, where, since when",
        text: "\
FROM is the host that it was started from, CPU the cores that it uses now, TIME its CPU time so far, PROCS the \
number of its processes. Command lines are shown to those to whom they belong, and to \
operators on hosts that start commands for them (not to root of another host); others see `-`.
",
        options: &[
            opt(Id::User, "u", &["user"], "USER", "only that user's; `me` is you"),
            opt(Id::Host, "h", &["host"], "HOST", "only on that host"),
            WATCH, JSON, HELP,
        ],
        examples: &[
            ("queue jobs -u me", "what I have running"),
            ("queue jobs --watch 5", "like top, for all hosts"),
        ],
    },
    Verb {
        name: "show",
        usage: &["ID... [--env] [--json]"],
        summary: "all about a session of yours: command, directory, state",
        text: "IDs are those of `queue jobs`; as many digits as make it clear which one is meant are enough.\n",
        options: &[
            opt(Id::Env, "", &["env"], "", "its environment, too"), JSON, HELP,
        ],
        examples: &[("queue show s1a2b3c4d", "")],
    },
    Verb {
        name: "kill",
        usage: &["ID... [-s SIGNAL] [--json]", "[--user USER] [--host HOST] [--all] [-s SIGNAL] [--json]"],
        summary: "end sessions, with all that they started",
        text: "\
The command gets HUP, TERM and at last KILL, and so does all that it started; its `queue` says who did it. IDs are \
those of `queue jobs`; as many digits as make it clear which one is meant are enough. Without IDs, all sessions of \
yours end that the options leave. Those of others are for operators.
Exit code: 0 if all of them were told, 1 if some were not, 125 if none was.
",
        options: &[
            opt(Id::Signal, "s", &["signal"], "SIGNAL", "send only this signal, by name or number, to the foreground"),
            opt(Id::User, "u", &["user"], "USER", "all of that user's sessions (`me` is you)"),
            opt(Id::Host, "h", &["host"], "HOST", "all on that host"),
            opt(Id::All, "a", &["all"], "", "all of yours"),
            JSON, HELP,
        ],
        examples: &[
            ("queue kill s1a2", ""),
            ("queue kill --all --host h2", "all of mine on h2"),
            ("queue kill -s INT s1a2", "as Ctrl-C would"),
        ],
    },
    Verb {
        name: "drain",
        usage: &["HOST... [--reason TEXT] [--json]"],
        summary: "start nothing new on hosts; what runs there goes on (operators)",
        text: "\
It lasts until `queue undrain`, also over restarts. `queue HOST` still opens a shell there. Operators are root of \
the host itself, root of the other hosts, and whom `operators` in its queued.toml names.
",
        options: &[
            opt(Id::Reason, "", &["reason"], "TEXT", "why, for those who wonder"), JSON, HELP,
        ],
        examples: &[("queue drain h2 --reason 'new disks at noon'", "")],
    },
    Verb {
        name: "undrain",
        usage: &["HOST... [--json]"],
        summary: "let drained hosts take commands again (operators)",
        text: "",
        options: &[JSON, HELP],
        examples: &[],
    },
    Verb {
        name: "admin",
        usage: &["rotate-keys [--json]"],
        summary: "rotate-keys: new keys for what hosts tell each other (root)",
        text: "\
As root, on the host that holds the cluster's authority. The new keys reach all hosts within seconds, and the old \
ones are good until then: nothing stops. They change by themselves when a host is removed.
",
        options: &[JSON, HELP],
        examples: &[],
    },
];

/// Finds a verb.
pub fn by_name(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|v| v.name == name)
}
