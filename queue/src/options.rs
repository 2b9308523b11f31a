//! The one table of options: the parser, `--help`, and the tests that compare the manual pages all read it.
//! Pure data.
//!
//! It is a table and not clap because the grammar is rsh's: options end at the host, `-h` takes a value, `-p` and
//! `-o` mean one thing or another by what follows, and the front end is in the path of every recipe of a make,
//! where building a parser costs more than parsing.

/// What an option is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Id {
    Interactive,
    Batch,
    Queue,
    Wait,
    Class,
    Host,
    Prefer,
    PtyFull,
    PtyInput,
    PtyNone,
    NoStdin,
    Login,
    Tee,
    Escape,
    Cores,
    Mem,
    Gpus,
    Disk,
    Expr,
    Json,
    Help,
    Version,
    /// Of verbs only.
    Long,
    Watch,
    User,
    Env,
    Signal,
    All,
    Reason,
    Follow,
    Head,
    Tail,
    Raw,
    /// An option of a verb, known by its word.
    Named(&'static str),
    CommandString,
    Name,
    Group,
    Priority,
    Retries,
    Time,
    Warning,
    After,
    AfterOk,
    AfterAny,
    AfterFail,
    At,
    Delay,
    Array,
    EachLine,
    FromJson,
    Limit,
    Output,
    Error,
    OutputCap,
    Mail,
    MailTo,
    Dedupe,
    Restart,
    Lease,
    Hold,
    /// Known to the interface, not to this version.
    Later,
    NullStdin,
    Tty,
    NoTty,
    Subsystem,
    Port,
    SshOption,
    PrintConfig,
    /// X11 is forwarded, or is not.
    X11,
    NoX11,
    /// Connections to the agent are forwarded, or are not.
    Agent,
    NoAgent,
    /// Means something to ssh and nothing here.
    Ignored,
    /// Means something that we cannot do: refused rather than ignored.
    Refused,
}

/// One option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opt {
    /// What it is.
    pub id: Id,
    /// Its letters.
    pub short: &'static str,
    /// Its words, without the dashes.
    pub long: &'static [&'static str],
    /// Name of its value, or empty; in brackets if it may be left out, and with a `=` in front of it if it has to be
    /// in the same word then.
    pub value: &'static str,
    /// What it does, with its default, for `--help`.
    pub help: &'static str,
}

/// An entry of a table of options, on one line; the fields of [`Opt`] in their order.
pub(crate) const fn opt(
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

/// Options of the launch form, `queue [OPTIONS] -- COMMAND`.
#[rustfmt::skip]
pub const LAUNCH: &[Opt] = &[
    opt(Id::Interactive, "i", &["interactive", "immediate"], "", "now, wired to this terminal (default)"),
    opt(Id::Host, "h", &["host"], "HOST", "only that host, `+` is any (default: any)"),
    opt(Id::Prefer, "H", &["prefer"], "HOST", "that host if it is up and willing, else the best"),
    opt(Id::Queue, "q", &["queue"], "", "wait until a host has room for it, then start"),
    opt(Id::Cores, "", &["cores"], "N", "cores, kept for it while it runs (with -q: 1)"),
    opt(Id::Mem, "", &["mem"], "SIZE", "memory, as 512M or 4G, kept for it while it runs"),
    opt(Id::Gpus, "", &["gpus"], "N", "GPUs, kept for it while it runs"),
    opt(Id::Disk, "", &["disk"], "SIZE", "space for temporary files, kept while it runs"),
    opt(Id::Expr, "R", &[], "EXPR", "what the host must be: 'raid>=200G && arch==x86_64'"),
    opt(Id::PtyFull, "p", &[], "", "a terminal there for each standard descriptor that is one"),
    opt(Id::PtyInput, "o", &[], "", "a terminal for input only; output stays in pipes"),
    opt(Id::PtyNone, "n", &[], "", "no terminal (default: one if stdin and stdout are one)"),
    opt(Id::NoStdin, "", &["no-stdin"], "", "do not read stdin: the command gets /dev/null"),
    opt(Id::Login, "l", &[], "USER", "as that user, if that host allows it (default: same name)"),
    opt(Id::X11, "XY", &[], "", "programs there open their windows here (X11; default: -x)"),
    opt(Id::NoX11, "x", &[], "", "they do not"),
    opt(Id::Agent, "A", &[], "", "ssh there asks the ssh-agent here (default: -a)"),
    opt(Id::NoAgent, "a", &[], "", "it does not"),
    opt(Id::Tee, "", &["tee"], "FILE", "also write all output to FILE, which is emptied first"),
    opt(Id::Escape, "", &["escape"], "CHAR", "`CHAR.` gives up, `CHARd` detaches; none: nothing does (~)"),
    opt(Id::Batch, "br", &["batch"], "", "a durable job: print its id and return (more below)"),
    opt(Id::Wait, "w", &["wait"], "", "a durable job, but stay: show its output, end as it ends"),
    opt(Id::Class, "d", &["class", "spooldir", "queuedir"], "NAME", "job class: now (default), or wait, which is -q"),
    opt(Id::Help, "", &["help"], "", "show this and exit 0"),
    opt(Id::Version, "", &["version"], "", "show the version and exit 0"),
    opt(Id::Json, "", &["json"], "", "machine-readable output of verbs and of -b"),
];

/// Options of batch jobs: behind `-b` or `-w`, and in `#QUEUE` lines of a script.
#[rustfmt::skip]
pub const BATCH: &[Opt] = &[
    opt(Id::CommandString, "c", &[], "STRING", "the job is this command of the shell"),
    opt(Id::Name, "", &["name"], "NAME", "name, for people and --after (default: the command's)"),
    opt(Id::Group, "", &["group"], "NAME", "group, to wait for, kill or list together"),
    opt(Id::Priority, "", &["priority"], "N", "higher ones first (default: the class's, 0)"),
    opt(Id::Retries, "", &["retries"], "[N]", "try again after a failure, N times (3; default: never)"),
    opt(Id::Time, "", &["time"], "DUR", "end it after so long: 90 (s), 15m, 2h, 1d, 1:30:00"),
    opt(Id::Warning, "", &["signal"], "SIG[@DUR]", "signal that comes DUR (60) before that"),
    opt(Id::After, "", &["after"], "IDS", "start after these: 12,15 or ok:12, any:NAME, fail:12"),
    opt(Id::AfterOk, "", &["after-ok"], "IDS", "after they ended well, else it fails (as --after)"),
    opt(Id::AfterAny, "", &["after-any"], "IDS", "after they ended, however"),
    opt(Id::AfterFail, "", &["after-fail"], "IDS", "after they failed, else it is dropped"),
    opt(Id::At, "", &["at"], "TIME", "not before 22:30, 'tomorrow 6:00', '2026-12-24 18:00'"),
    opt(Id::Delay, "", &["delay"], "DUR", "not before so long from now"),
    opt(Id::Array, "", &["array"], "RANGE", "tasks 1-100, 1-9:2,20; 1-100%5: five at once"),
    opt(Id::EachLine, "", &["each-line"], "FILE", "a task for each line, in QUEUE_ENTRY (`-`: stdin)"),
    opt(Id::FromJson, "", &["from-json"], "FILE", "a task for each value of a JSON array"),
    opt(Id::Limit, "", &["limit"], "NAME[:N]", "counts against a limit of the cluster, of N at once"),
    opt(Id::Output, "", &["output"], "FILE", "output (queue-%j.out, of tasks queue-%j.%a.out)"),
    opt(Id::Error, "", &["error"], "FILE", "error output (default: where the output goes)"),
    opt(Id::OutputCap, "", &["output-cap"], "SIZE", "keep no more output than that (default: 1G)"),
    opt(Id::Mail, "", &["mail"], "WHEN", "begin,end,fail, all or never (default: fail)"),
    opt(Id::MailTo, "", &["mail-to"], "ADDRESS", "to whom (default: you)"),
    opt(Id::Dedupe, "", &["dedupe"], "[=DUR]", "not if the same waits or runs, or ended within DUR"),
    opt(Id::Restart, "", &["restart"], "POLICY", "host lost: restart elsewhere, fail, or ask (default)"),
    opt(Id::Lease, "", &["lease"], "DUR", "with restart: how long until then (default: 15m)"),
    opt(Id::Hold, "", &["hold"], "", "do not start it before `queue release`"),
];

/// Options of the launch form that the interface has and this version has not: they are recognised and refused.
#[rustfmt::skip]
pub const LATER: &[Opt] = &[
    opt(Id::Later, "", &["checkpoint"], "MODE", "how it is checkpointed"),
];

/// Options of the rsh form, as programs pass them to an "rsh" command.
#[rustfmt::skip]
pub const RSH: &[Opt] = &[
    opt(Id::Login, "l", &[], "USER", "as that user, if that host allows it (default: same name)"),
    opt(Id::NullStdin, "n", &[], "", "stdin from /dev/null"),
    opt(Id::Tty, "t", &[], "", "a terminal there if stdin is one here; twice: in any case (default: only without a command)"),
    opt(Id::NoTty, "T", &[], "", "no terminal there"),
    opt(Id::Subsystem, "s", &[], "", "the command is the name of a subsystem: sftp"),
    opt(Id::X11, "XY", &[], "", "programs there open their windows here (X11; default: -x)"),
    opt(Id::NoX11, "x", &[], "", "they do not"),
    opt(Id::Agent, "A", &[], "", "ssh there asks the ssh-agent here (default: -a)"),
    opt(Id::NoAgent, "a", &[], "", "it does not"),
    opt(Id::SshOption, "o", &[], "KEY=VALUE", "of ssh's: User, RequestTTY, ConnectTimeout, SendEnv, SetEnv, StdinNull, ForwardX11 and ForwardAgent count, others are ignored"),
    opt(Id::PrintConfig, "G", &[], "", "show what the options mean and exit 0"),
    opt(Id::Port, "p", &[], "PORT", "ignored: the cluster knows its hosts' ports"),
    opt(Id::Ignored, "qkKCv1246", &[], "", "ignored"),
];

/// Further options of ssh that `qsh` takes, because there they cannot mean anything else.
#[rustfmt::skip]
pub const QSH: &[Opt] = &[
    opt(Id::Escape, "e", &[], "CHAR", "as --escape: ^X for a control character, or none"),
    opt(Id::Ignored, "bBcEFiImPS", &[], "VALUE", "ignored, with its value"),
    opt(Id::Ignored, "gMy", &[], "", "ignored"),
    opt(Id::Refused, "DJLORwWQ", &[], "VALUE", "refused: connections are not forwarded"),
    opt(Id::Refused, "fNV", &[], "", "refused"),
];

/// Every first word that is a verb, now or in a later version.
pub const VERB_NAMES: &[&str] = &[
    "hosts", "jobs", "show", "log", "wait", "kill", "suspend", "resume", "hold", "release", "retry",
    "delete", "attach", "detach", "migrate", "explain", "classes", "limits", "modify", "drain", "undrain",
    "stats", "history", "cron", "admin", "top", "web", "help",
];

/// Finds an option by its letter.
pub fn by_letter(tables: &[&'static [Opt]], letter: char) -> Option<&'static Opt> {
    tables
        .iter()
        .flat_map(|t| t.iter())
        .find(|o| o.short.contains(letter))
}

/// Finds an option of the launch form by its word.
pub fn by_word(word: &str) -> Option<&'static Opt> {
    let all = LAUNCH.iter().chain(BATCH).chain(LATER);
    all.into_iter().find(|o| o.long.contains(&word))
}

/// The words of all options of the launch form that this version has.
pub fn words() -> impl Iterator<Item = &'static str> {
    LAUNCH.iter().chain(BATCH).flat_map(|o| o.long.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_letter_or_word_means_two_things_in_one_form() {
        for tables in [vec![LAUNCH, BATCH, LATER], vec![RSH, QSH]] {
            let mut letters = BTreeSet::new();
            let mut words = BTreeSet::new();
            for o in tables.iter().flat_map(|t| t.iter()) {
                assert_ne!(o.help, "");
                assert!(!o.short.is_empty() || !o.long.is_empty());
                for c in o.short.chars() {
                    assert!(letters.insert(c), "-{c} twice");
                }
                for w in o.long {
                    assert!(words.insert(w), "--{w} twice");
                }
            }
        }
    }

    #[test]
    fn letters_of_both_forms_take_a_value_in_both_or_in_none() {
        // The two that do not are told apart by what follows; see `args`.
        for c in ('a'..='z').chain('A'..='Z').filter(|c| !matches!(c, 'p' | 'o')) {
            if let (Some(a), Some(b)) = (by_letter(&[LAUNCH, BATCH, LATER], c), by_letter(&[RSH], c)) {
                assert_eq!(a.value.is_empty(), b.value.is_empty(), "-{c}");
            }
        }
    }
}
