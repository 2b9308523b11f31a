//! The one table of verbs: the parser, `--help`, and the tests that compare the manual page all read it. Pure
//! data.

use crate::options::{Id, Opt, opt};

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

const JSON: Opt = opt(Id::Json, "", &["json"], "", "print JSON, for programs");
const HELP: Opt = opt(Id::Help, "", &["help"], "", "show this and exit 0");
const WATCH: Opt = opt(
    Id::Watch,
    "",
    &["watch"],
    "[SECONDS]",
    "show it again every SECONDS (default: 2) until Ctrl-C; with --json, one line each time",
);

const NAME: Opt = opt(
    Id::Named("name"),
    "",
    &["name"],
    "NAME",
    "only jobs of this name; * and ? stand for anything",
);
const GROUP: Opt = opt(
    Id::Named("group"),
    "g",
    &["group"],
    "GROUP",
    "only jobs of this group; * and ? stand for anything",
);
const CLASS: Opt = opt(
    Id::Named("class"),
    "",
    &["class"],
    "CLASS",
    "only jobs of this class",
);
const STATE: Opt = opt(
    Id::Named("state"),
    "",
    &["state"],
    "STATE,...",
    "only jobs in one of these states",
);
const USER: Opt = opt(Id::User, "u", &["user"], "USER", "only that user's; `me` is you");
const HOST: Opt = opt(Id::Host, "h", &["host"], "HOST", "only on that host");
const ALL: Opt = opt(Id::All, "a", &["all"], "", "all of yours");

/// What all verbs say about the ways to name jobs.
const WHICH: &str = "[ID...] [-u USER] [-g GROUP] [--state STATE,...] [-a]";

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
        usage: &["[OPTIONS] [-- COMMAND [ARG...]]", "ID... [--json]"],
        summary: "why a command would run where, or why a job does not run",
        text: "\
With the number of a batch job: everything that keeps it from running, on each host, and what would make it start.
Otherwise it takes the options that the command would be started with, and runs nothing. Of two \
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
        usage: &[WHICH, "[--tasks] [--ended] [--sort KEY] [--watch [SECONDS]] [--json]"],
        summary: "batch jobs that have not ended, and all that runs in the cluster",
        text: "\
First the batch jobs: waiting (held, delayed, or after another one: the reason says so), ready (there is no room \
yet), running, suspended, lost (its host is), buried (it failed as often as it may: `queue retry`); with --ended also \
done, failed and killed ones of the last hour (`queue history` has all). Then what was started with `queue` directly: \
FROM is the host that it was started from, WHO says if it is detached and how many watch it, CPU the cores that it uses now, TIME its CPU time so far, PROCS the \
number of its processes. Command lines are shown to those to whom they belong, and to \
operators on hosts that start commands for them (not to root of another host); others see `-`.
",
        options: &[
            USER, HOST, GROUP, NAME, CLASS, STATE,
            opt(Id::Named("tasks"), "t", &["tasks"], "", "tasks of arrays one by one"),
            opt(Id::Named("ended"), "e", &["ended"], "", "also jobs that ended in the last hour"),
            opt(Id::Named("sort"), "", &["sort"], "KEY",
                "id (default), priority, state, user, name, host, submitted, started, time; -KEY: the other way round"),
            opt(Id::Named("limit"), "n", &["limit"], "N", "at most N batch jobs (default: 1000)"),
            opt(Id::Named("offset"), "", &["offset"], "N", "skip the first N batch jobs"),
            opt(Id::All, "a", &["all"], "", "everybody's (default)"),
            WATCH, JSON, HELP,
        ],
        examples: &[
            ("queue jobs -u me", "what I have running"),
            ("queue jobs 12 --tasks --state failed,buried", "which tasks of an array went wrong"),
            ("queue jobs --watch 5", "like top, for all hosts"),
        ],
    },
    Verb {
        name: "show",
        usage: &["ID... [--env] [--json]"],
        summary: "all about a job or a session of yours: command, directory, attempts",
        text: "\
IDs are those of `queue jobs`: 12 or 12.3 of batch jobs, also those that ended; of sessions as many digits as make it \
clear which one is meant.
",
        options: &[
            opt(Id::Env, "", &["env"], "", "its environment, too"), JSON, HELP,
        ],
        examples: &[("queue show 12", ""), ("queue show s1a2b3c4d", "")],
    },
    Verb {
        name: "kill",
        usage: &["ID... [-s SIGNAL] [--json]", "[-u USER] [-h HOST] [-g GROUP] [--state STATE,...] [-a]"],
        summary: "end jobs and sessions, with all that they started",
        text: "\
A batch job that has not started never will; one that runs gets TERM and after 5 s KILL. Of a session, the command gets HUP, TERM and at last KILL, and so does all that it started; its `queue` says who did it. IDs are \
those of `queue jobs`; as many digits as make it clear which one is meant are enough. Without IDs, all sessions of \
yours end that the options leave. Those of others are for operators.
Exit code: 0 if all of them were told, 1 if some were not, 125 if none was.
",
        options: &[
            opt(Id::Signal, "s", &["signal"], "SIGNAL", "send only this signal, by name or number, to the foreground"),
            opt(Id::User, "u", &["user"], "USER", "all of that user (`me` is you)"),
            opt(Id::Host, "h", &["host"], "HOST", "all on that host"),
            GROUP, NAME, CLASS, STATE, ALL, JSON, HELP,
        ],
        examples: &[
            ("queue kill 12", ""),
            ("queue kill --group nightly --state ready,waiting", "what of it has not started"),
            ("queue kill s1a2", ""),
            ("queue kill --all --host h2", "all of mine on h2"),
            ("queue kill -s INT s1a2", "as Ctrl-C would"),
        ],
    },
    Verb {
        name: "wait",
        usage: &[WHICH, "[--any] [--quiet] [--json]"],
        summary: "until jobs have ended; exits as they did",
        text: "\
Shows a progress bar on a terminal. The exit code is 0 if all of them ended well, else that of the first one that did \
not (128 + N for signal N, 125 if it never ran). A buried job counts as ended badly. Without numbers, those are meant \
that have not ended; with --group or --name also those that ended within the last hour. It costs nothing while it waits, and goes on when the leader was restarted.
",
        options: &[
            opt(Id::Named("any"), "", &["any"], "", "until one of them has ended"),
            opt(Id::Named("quiet"), "q", &["quiet"], "", "say nothing"),
            USER, HOST, GROUP, NAME, CLASS, STATE, ALL, JSON, HELP,
        ],
        examples: &[("queue wait 12 15", ""), ("queue wait --group nightly && mail-the-report", "")],
    },
    Verb {
        name: "hold",
        usage: &[WHICH],
        summary: "do not start jobs that wait",
        text: "",
        options: &[USER, HOST, GROUP, NAME, CLASS, STATE, ALL, JSON, HELP],
        examples: &[("queue hold 12.100-200", "some tasks of an array")],
    },
    Verb {
        name: "release",
        usage: &[WHICH],
        summary: "start held jobs again",
        text: "",
        options: &[USER, HOST, GROUP, NAME, CLASS, STATE, ALL, JSON, HELP],
        examples: &[],
    },
    Verb {
        name: "suspend",
        usage: &[WHICH],
        summary: "stop running jobs where they are (SIGSTOP); they keep their slot",
        text: "",
        options: &[USER, HOST, GROUP, NAME, CLASS, STATE, ALL, JSON, HELP],
        examples: &[],
    },
    Verb {
        name: "resume",
        usage: &[WHICH],
        summary: "let suspended jobs go on",
        text: "",
        options: &[USER, HOST, GROUP, NAME, CLASS, STATE, ALL, JSON, HELP],
        examples: &[],
    },
    Verb {
        name: "retry",
        usage: &[WHICH, "[--confirm-dead] [--may-double]"],
        summary: "run buried, failed, killed or lost jobs again",
        text: "\
A lost job may still run on the host that cannot be reached. It is started again when you know that this host is dead \
(--confirm-dead), or take the risk that it runs twice (--may-double).
",
        options: &[
            opt(Id::Named("confirm-dead"), "", &["confirm-dead"], "", "the host of a lost job is dead: I have looked"),
            opt(Id::Named("may-double"), "", &["may-double"], "", "a lost job may run twice"),
            USER, HOST, GROUP, NAME, CLASS, STATE, ALL, JSON, HELP,
        ],
        examples: &[("queue retry --state buried --all", "")],
    },
    Verb {
        name: "delete",
        usage: &[WHICH],
        summary: "forget jobs that do not run, and their history",
        text: "",
        options: &[USER, HOST, GROUP, NAME, CLASS, STATE, ALL, JSON, HELP],
        examples: &[],
    },
    Verb {
        name: "modify",
        usage: &["ID... [-a] OPTIONS"],
        summary: "change what is not yet done about jobs",
        text: "The attempts that run now go on as they are.\n",
        options: &[
            opt(Id::Named("priority"), "", &["priority"], "N", "its priority"),
            opt(Id::Named("cores"), "", &["cores"], "N", "cores that it needs"),
            opt(Id::Named("mem"), "", &["mem"], "SIZE", "memory that it needs, and may use"),
            opt(Id::Named("gpus"), "", &["gpus"], "N", "GPUs that it needs"),
            opt(Id::Expr, "R", &[], "EXPR", "what must hold for its host"),
            opt(Id::Named("time"), "", &["time"], "TIME", "how long it may run"),
            opt(Id::Named("retries"), "", &["retries"], "N", "how often it is tried again"),
            opt(Id::Host, "h", &["host"], "HOST", "its host; +: any"),
            opt(Id::Named("at-once"), "", &["at-once"], "N", "tasks of an array that may run at once"),
            opt(Id::Named("restart"), "", &["restart"], "POLICY", "restart, fail or ask: when its host is lost"),
            opt(Id::Named("mail"), "", &["mail"], "WHEN", "begin,end,fail, all or never"),
            opt(Id::Named("name"), "", &["name"], "NAME", "its name"),
            opt(Id::Named("group"), "g", &["group"], "GROUP", "its group"),
            opt(Id::Named("class"), "", &["class"], "CLASS", "its class"),
            ALL, JSON, HELP,
        ],
        examples: &[("queue modify 12 --priority 10 --mem 8G", "")],
    },
    Verb {
        name: "history",
        usage: &["[ID...] [WORD...] [-u USER] [--state STATE,...] [--since TIME] [-n N]", "--export FILE"],
        summary: "jobs that have ended, for ever, and searchable",
        text: "\
WORDs must occur in the name, group, command, result or the ends of the output. --export writes a copy of the store as \
an SQLite file with views for scripts (operators): jobs_v, attempts_v, usage_by_user_v.
",
        options: &[
            opt(Id::Named("since"), "", &["since"], "TIME", "ended not longer ago than this, as 2h or 7d"),
            opt(Id::Named("until"), "", &["until"], "TIME", "ended longer ago than this"),
            opt(Id::Named("text"), "", &["text"], "WORDS", "words that must occur"),
            opt(Id::Named("attempts"), "", &["attempts"], "", "each attempt by itself"),
            opt(Id::Named("limit"), "n", &["limit"], "N", "at most N (default: 100), the latest first"),
            opt(Id::Named("offset"), "", &["offset"], "N", "skip the first N"),
            opt(Id::Named("export"), "", &["export"], "FILE", "write a copy of the store (operators)"),
            USER, HOST, GROUP, NAME, CLASS, STATE, ALL, JSON, HELP,
        ],
        examples: &[("queue history --since 1d --state failed", ""), ("queue history 'No space left'", "")],
    },
    Verb {
        name: "stats",
        usage: &["[--window TIME] [--watch [SECONDS]] [--json]"],
        summary: "figures: jobs by state, users, hosts, causes of failures",
        text: "",
        options: &[
            opt(Id::Named("window"), "", &["window"], "TIME", "of the last TIME (default: 1d)"), WATCH, JSON, HELP,
        ],
        examples: &[],
    },
    Verb {
        name: "limits",
        usage: &["[NAME:N] [--json]"],
        summary: "limits of the cluster, as --limit uses them",
        text: "`queue limits license:3` sets one, `queue limits license:none` removes it (operators).\n",
        options: &[JSON, HELP],
        examples: &[],
    },
    Verb {
        name: "classes",
        usage: &["[--json]"],
        summary: "job classes, and what they set",
        text: "Classes are files on the leader's host: /etc/queue/classes/NAME.toml.\n",
        options: &[JSON, HELP],
        examples: &[],
    },
    super::log::VERB,
    super::attach::ATTACH,
    super::attach::DETACH,
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
