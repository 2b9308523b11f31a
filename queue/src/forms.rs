//! Which form is it, and what does it ask for: launch, rsh, shell, or a verb. Pure: arguments in, a [`Command`]
//! or an error out.

mod batch;
mod launch;
mod options;
mod rsh;
mod shell;
mod verb;
mod words;
mod work;

use batch::batch;
pub(crate) use batch::{is_batch, later};
use launch::launch;
use options::Options;
use rsh::rsh;
use shell::{Shell, looks_like_shell};
use verb::verb;
pub(crate) use words::{escape_char, target, text};
pub use work::{Run, Submission, Target, Tty, What, Work};

use crate::args::{End, Found, Parsed, parse};
use crate::messages::Failure;
use crate::options::{Id, VERB_NAMES};
use crate::verbs::Ask;
use crate::verbs::attach::{Attach, Detach};
use crate::verbs::inner::Inner;
use crate::verbs::log::Log;
use crate::verbs::table::Verb;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Run something on a host.
    Run(Run),
    /// Submit a batch job.
    Submit(Submission),
    /// Do what a verb says.
    Verb(Ask),
    /// Show the output of jobs.
    Log(Log),
    /// Take a session over, look at it, or follow a job.
    Attach(Attach),
    /// Leave sessions alone.
    Detach(Detach),
    /// The other end of what we do on another host.
    Inner(Inner),
    /// `--help`.
    Help(Topic),
    /// `--version`.
    Version,
    /// `-G`: show what ssh would show of its configuration.
    PrintConfig {
        /// The host.
        host: String,
        /// The account, or empty.
        login: String,
    },
}

/// Which help.
#[derive(Debug, Clone, Copy)]
pub enum Topic {
    /// Of `queue`.
    Queue,
    /// Of `qsh`.
    Qsh,
    /// Of `queue-sh`.
    QueueSh,
    /// Of a verb.
    Verb(&'static Verb),
}

impl PartialEq for Topic {
    fn eq(&self, other: &Self) -> bool {
        let name = |t: &Self| match t {
            Self::Queue => "queue",
            Self::Qsh => "qsh",
            Self::QueueSh => "queue-sh",
            Self::Verb(v) => v.name,
        };
        name(self) == name(other)
    }
}

/// Decides. `name` is `argv[0]`.
///
/// # Errors
/// One line for the user, with the exit code of the form it came from.
pub fn decide(name: &OsStr, args: &[OsString]) -> Result<Command, Failure> {
    match base(name) {
        b"qsh" => qsh(args).map_err(Failure::in_rsh),
        b"queue-sh" => match args {
            [one] if one == "--help" => Ok(Command::Help(Topic::QueueSh)),
            [one] if one == "--version" => Ok(Command::Version),
            _ => Ok(shell(args)),
        },
        _ => queue(args),
    }
}

/// `name` without directories and the dash of a login shell.
fn base(name: &OsStr) -> &[u8] {
    let base = name.as_bytes().rsplit(|b| *b == b'/').next().unwrap_or_default();
    base.strip_prefix(b"-").unwrap_or(base)
}

/// Whether a program of this name has verbs.
pub fn has_verbs(name: &OsStr) -> bool {
    !matches!(base(name), b"qsh" | b"queue-sh")
}

fn qsh(args: &[OsString]) -> Result<Command, Failure> {
    let parsed = parse(args, true)?;
    if let Some(c) = informative(&parsed.found, Topic::Qsh) {
        return Ok(c);
    }
    rsh(&parsed, true)
}

fn queue(args: &[OsString]) -> Result<Command, Failure> {
    // `sh` has a -b, too; but nobody hands it to a shell in front of a command.
    if let Ok(parsed) = parse(args, false)
        && is_batch(&parsed.found)
    {
        return batch(&parsed);
    }
    match looks_like_shell(args) {
        Shell::Yes => return Ok(shell(args)),
        Shell::Unclear(flag) => {
            return Err(Failure::own(format!(
                "{flag} in front of a shell's arguments is ambiguous: say `queue-sh {flag} ...` for the shell's option, `queue {flag} -- COMMAND` for queue's"
            )));
        }
        Shell::No => {}
    }
    let parsed = parse(args, false)?;
    let verb = match (parsed.end, parsed.rest.first()) {
        (End::Word, Some(w)) => VERB_NAMES.iter().find(|v| w == **v).copied(),
        _ => None,
    };
    if let Some(verb) = verb {
        return self::verb(verb, &parsed);
    }
    if let Some(c) = informative(&parsed.found, Topic::Queue) {
        return Ok(c);
    }
    let only_launch = parsed.found.iter().find(|f| f.rsh.is_none() && !neutral(f));
    let only_rsh = parsed.found.iter().find(|f| f.launch.is_none());
    match (parsed.end, only_launch, only_rsh) {
        (_, Some(l), Some(r)) => Err(Failure::own(format!(
            "{} is of `queue ... -- COMMAND` and {} of the rsh form: say `qsh {} ... HOST` for the latter",
            l.spelled, r.spelled, r.spelled
        ))),
        (End::Dashes, _, None) => launch(&parsed),
        // Programs put these in front of `-- HOST`; by hand it is more often a slip.
        (End::Dashes, _, Some(r)) if matches!(r.spelled.as_str(), "-t" | "-T") => Err(Failure::own(format!(
            "{} with `--` is ambiguous: say `queue -p -- COMMAND` for a terminal, or `qsh {} HOST COMMAND`",
            r.spelled, r.spelled
        ))),
        (End::Dashes | End::Word, None, _) => rsh(&parsed, false),
        (End::Word, Some(l), _) => Err(needs_dashes(l, &parsed)),
        (End::Nothing, Some(l), _) if matches!(l.launch, Some(o) if o.id == Id::Later) => Err(later(l)),
        (End::Nothing, ..) if args.is_empty() => Err(Failure::own(
            "nothing to run: `queue -- COMMAND`, `queue HOST [COMMAND]` or `queue hosts`; `queue --help` tells more",
        )),
        (End::Nothing, ..) => Err(Failure::own(
            "nothing to run: the command comes last, as in `queue [OPTIONS] -- COMMAND`; `queue HOST` gives a login shell",
        )),
    }
}

/// Options of the launch form that make sense in the rsh form as well, where they are no letters of ssh's.
pub(crate) fn neutral(f: &Found) -> bool {
    f.launch.is_some_and(|o| {
        matches!(
            o.id,
            Id::NoStdin | Id::Tee | Id::Escape | Id::Json | Id::Help | Id::Version
        )
    })
}

fn needs_dashes(l: &Found, parsed: &Parsed<'_>) -> Failure {
    let word = parsed
        .rest
        .first()
        .map_or_else(String::new, |w| w.to_string_lossy().into_owned());
    match l.spelled.as_str() {
        "-p" | "-o" => Failure::own(format!(
            "{0} in front of `{word}` is ambiguous: say `queue {0} -- {word} ...` to run that, or `qsh -t {word} ...` for a terminal on that host",
            l.spelled
        )),
        s => Failure::own(format!(
            "with {s} the command comes behind `--`: `queue {s} ... -- {word} ...`"
        )),
    }
}

/// `--help` and `--version`, wherever they stand among the options.
fn informative(found: &[Found], topic: Topic) -> Option<Command> {
    found.iter().find_map(|f| match f.launch?.id {
        Id::Help => Some(Command::Help(topic)),
        Id::Version => Some(Command::Version),
        _ => None,
    })
}

fn shell(args: &[OsString]) -> Command {
    Options::new().run(What::Shell(args.to_vec()), Tty::None)
}

#[cfg(test)]
mod tests;
