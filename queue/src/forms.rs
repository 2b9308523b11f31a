//! Which form is it, and what does it ask for: launch, rsh, shell, or a verb. Pure: arguments in, a [`Command`]
//! or an error out.

use crate::args::{End, Found, Parsed, parse};
use crate::messages::Failure;
use crate::need::Need;
use crate::options::{BATCH, Id, VERB_NAMES};
use crate::relay::escape;
use crate::submit::options::Batch;
use crate::verbs::attach::{self, Attach, Detach};
use crate::verbs::inner::{self, Inner};
use crate::verbs::log::{self, Log};
use crate::verbs::table::{self, Verb};
use crate::verbs::{self, Ask};
use libqueue::wire::Place;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

mod shell;
use shell::{Shell, looks_like_shell};

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

/// A batch job as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The options, in order: those of a script stand in front of them.
    pub found: Vec<Found>,
    /// What is to be run.
    pub what: Work,
    /// Stay, show its output, end as it ends.
    pub attached: bool,
    /// Print JSON.
    pub json: bool,
}

/// What a batch job runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// An argument list.
    Launch(Vec<OsString>),
    /// A script and its arguments.
    Script(Vec<OsString>),
    /// Arguments of `/bin/sh`, from `-c` on.
    Shell(Vec<OsString>),
}

/// Something to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// How it was asked for, with the words.
    pub what: What,
    /// Where.
    pub host: Target,
    /// What it needs there.
    pub need: Need,
    /// Wait until a host has room.
    pub wait: bool,
    /// The account there, or empty for the same name.
    pub login: String,
    /// Which terminal.
    pub tty: Tty,
    /// Standard input is not read.
    pub no_stdin: bool,
    /// A file that gets the output as well.
    pub tee: Option<PathBuf>,
    /// The character in front of words for us among the keys; `None`: there are no such words.
    pub escape: Option<u8>,
    /// How long a host may take to accept the connection, if that was said.
    pub connect_timeout: Option<Duration>,
    /// Variables that go along in the rsh form besides the usual ones: names, where `*` and `?` are patterns.
    pub send_env: Vec<OsString>,
    /// `NAME=VALUE` for the rsh form.
    pub set_env: Vec<OsString>,
    /// X11 connections are forwarded to our display.
    pub x11: bool,
    /// Connections to the authentication agent are forwarded to ours.
    pub agent: bool,
}

impl Run {
    /// What the daemon is asked for.
    pub fn place(&self) -> Place {
        let named = matches!(self.host, Target::Only(_));
        // An administrator's way into a host that is drained or full, as ssh would be.
        let by_name = named && matches!(self.what, What::Rsh(_));
        Place {
            host: match &self.host {
                Target::Any => String::new(),
                Target::Only(h) | Target::Prefer(h) => h.clone(),
            },
            prefer: matches!(self.host, Target::Prefer(_)),
            avoid: Vec::new(),
            need: self.need.wire(by_name),
            wait: self.wait,
        }
    }
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// An argument list.
    Launch(Vec<OsString>),
    /// One string for the login shell there, or the login shell itself.
    Rsh(Option<OsString>),
    /// Arguments of `/bin/sh`.
    Shell(Vec<OsString>),
}

/// Where to run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The best host.
    Any,
    /// Only this one.
    Only(String),
    /// This one if possible.
    Prefer(String),
}

/// Which terminal to make there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tty {
    /// One if stdin and stdout are terminals and we are in the foreground.
    Auto,
    /// For every standard descriptor that is a terminal (`-p`).
    Full,
    /// For input only (`-o`).
    Input,
    /// None (`-n`, the rsh form with a command, the shell form).
    None,
    /// For all three, if stdin is a terminal (`-t`, the rsh form without a command).
    Login,
    /// For all three, in any case (`-tt`).
    Force,
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

/// Whether a durable job is wanted: `-b` or `-w`, unless `-i` comes after it.
pub(crate) fn is_batch(found: &[Found]) -> bool {
    found
        .iter()
        .filter_map(|f| f.launch)
        .fold(false, |is, o| match o.id {
            Id::Batch | Id::Wait => true,
            Id::Interactive => false,
            _ => is,
        })
}

fn batch(parsed: &Parsed<'_>) -> Result<Command, Failure> {
    if let Some(c) = informative(&parsed.found, Topic::Queue) {
        return Ok(c);
    }
    if let Some(f) = parsed.found.iter().find(|f| f.launch.is_none()) {
        return Err(Failure::own(format!(
            "{} is of the rsh form, which runs at once: a batch job is `queue -b -- COMMAND`",
            f.spelled
        )));
    }
    let has = |id| parsed.found.iter().any(|f| f.launch.is_some_and(|o| o.id == id));
    let string = parsed
        .found
        .iter()
        .rfind(|f| f.launch.is_some_and(|o| o.id == Id::CommandString));
    let what = match (string, parsed.end) {
        (Some(s), _) => {
            let head = ["-c".into(), s.value.clone()];
            Work::Shell(head.into_iter().chain(parsed.rest.iter().cloned()).collect())
        }
        (None, End::Dashes) => {
            runnable(parsed.rest)?;
            Work::Launch(parsed.rest.to_vec())
        }
        (None, End::Word) => {
            let word = parsed.rest[0].to_string_lossy();
            if VERB_NAMES.contains(&&*word) {
                return Err(Failure::own(format!(
                    "-b in front of `{word}` is ambiguous: say `queue -b -- {word} ...` to run that, `queue -b ./{word}` for a script, `queue {word} --help` for the verb"
                )));
            }
            no_descriptors(parsed.rest)?;
            Work::Script(parsed.rest.to_vec())
        }
        (None, End::Nothing) => {
            return Err(Failure::own(
                "nothing to run: `queue -b [OPTIONS] -- COMMAND [ARG...]`, or `queue -b [OPTIONS] SCRIPT [ARG...]`",
            ));
        }
    };
    // What is wrong with the options is told before anything is read.
    let batch = Batch::new(&parsed.found)?;
    let attached = has(Id::Wait);
    if batch.tee.is_some() && !attached {
        return Err(Failure::own(
            "--tee is for those who stay: add -w, or say --output FILE",
        ));
    }
    Ok(Command::Submit(Submission {
        found: parsed.found.clone(),
        what,
        attached,
        json: has(Id::Json),
    }))
}

/// What of the interface is to come.
pub(crate) fn later(f: &Found) -> Failure {
    match f.spelled.as_str() {
        "--checkpoint" => Failure::own(
            "--checkpoint comes with migration, which is not in this version yet: a job that saves its state itself gets a warning with --signal",
        ),
        s => Failure::not_yet(s),
    }
}

fn verb(verb: &str, parsed: &Parsed<'_>) -> Result<Command, Failure> {
    let mut json = false;
    let known = table::by_name(verb);
    let topic = known.map_or(Topic::Queue, Topic::Verb);
    for f in &parsed.found {
        match f.launch.map(|o| o.id) {
            Some(Id::Json) => json = true,
            Some(Id::Help) => return Ok(Command::Help(topic)),
            Some(Id::Version) => return Ok(Command::Version),
            _ => {
                return Err(Failure::own(format!(
                    "{0} in front of `{verb}` is ambiguous: say `qsh {0} {verb} ...` for a host of that name, `queue {verb} --help` for the verb",
                    f.spelled
                )));
            }
        }
    }
    let words = &parsed.rest[1..];
    if verb == "admin"
        && let Some(inner) = inner::read(words)
    {
        return inner.map(Command::Inner);
    }
    if verb == "help" {
        return help(words);
    }
    let Some(known) = known else {
        return Err(Failure::not_yet(&format!("`queue {verb}`")));
    };
    if verbs::wants_help(words) {
        return Ok(Command::Help(topic));
    }
    if verb == "explain" {
        return explain(words, json);
    }
    if verb == "attach" {
        return attach::attach(known, words, json).map(Command::Attach);
    }
    if verb == "detach" {
        return attach::detach(known, words, json).map(Command::Detach);
    }
    if verb == "log" {
        return log::read(known, words, json).map(Command::Log);
    }
    verbs::ask(known, words, json).map(Command::Verb)
}

/// `queue help [VERB]`.
fn help(words: &[OsString]) -> Result<Command, Failure> {
    let topic = match words {
        [] => Topic::Queue,
        [one, ..] => match one.to_str() {
            Some("queue" | "help" | "--help") => Topic::Queue,
            Some("qsh") => Topic::Qsh,
            Some("queue-sh") => Topic::QueueSh,
            name => match name.and_then(table::by_name) {
                Some(verb) => Topic::Verb(verb),
                None if name.is_some_and(|n| VERB_NAMES.contains(&n)) => {
                    return Err(Failure::not_yet(&format!("`queue {}`", one.to_string_lossy())));
                }
                None => {
                    return Err(Failure::own(format!(
                        "no help on `{}`: `queue help` lists the verbs (a host named help is reached by `qsh help`)",
                        one.to_string_lossy()
                    )));
                }
            },
        },
    };
    Ok(Command::Help(topic))
}

/// `queue explain`: the options are the launch form's, and so is the command.
fn explain(words: &[OsString], mut json: bool) -> Result<Command, Failure> {
    let mut parsed = parse(words, false)?;
    parsed.found.retain(|f| {
        let is_json = f.launch.is_some_and(|o| o.id == Id::Json);
        json |= is_json;
        !is_json
    });
    if let Some(f) = parsed.found.iter().find(|f| f.launch.is_none()) {
        return Err(Failure::own(format!(
            "`queue explain` does not know {}",
            f.spelled
        )));
    }
    if let (End::Word, Some(w)) = (parsed.end, parsed.rest.first()) {
        // Of a job that is there already.
        if parsed.found.is_empty() && w.to_str().is_some_and(libqueue::job::is_id) {
            return verbs::explain_job(words, json).map(Command::Verb);
        }
        return Err(Failure::own(format!(
            "the command comes behind `--`: `queue explain ... -- {} ...`",
            w.to_string_lossy()
        )));
    }
    // How it would be submitted says nothing of where it would run.
    if is_batch(&parsed.found) {
        Batch::new(&parsed.found)?;
    }
    parsed.found.retain(|f| {
        let id = f.launch.map(|o| o.id);
        !BATCH.iter().any(|o| Some(o.id) == id) && !matches!(id, Some(Id::Batch | Id::Wait))
    });
    let o = launch_options(&parsed)?;
    let place = o.into_run(What::Launch(Vec::new()), Tty::None).place();
    Ok(Command::Verb(Ask::Explain { place, json }))
}

/// Collects what the options of either form set.
struct Options {
    host: Target,
    need: Need,
    wait: bool,
    login: String,
    tty: Option<Tty>,
    no_stdin: bool,
    tee: Option<PathBuf>,
    escape: Option<u8>,
    connect_timeout: Option<Duration>,
    send_env: Vec<OsString>,
    set_env: Vec<OsString>,
    x11: bool,
    agent: bool,
}

impl Options {
    fn new() -> Self {
        Self {
            host: Target::Any,
            need: Need::default(),
            wait: false,
            login: String::new(),
            tty: None,
            no_stdin: false,
            tee: None,
            escape: Some(escape::DEFAULT),
            connect_timeout: None,
            send_env: Vec::new(),
            set_env: Vec::new(),
            x11: false,
            agent: false,
        }
    }

    /// What is forwarded is said alike in all forms; the last word counts.
    fn forward(&mut self, id: Id) {
        match id {
            Id::X11 | Id::NoX11 => self.x11 = id == Id::X11,
            _ => self.agent = id == Id::Agent,
        }
    }

    fn run(self, what: What, tty: Tty) -> Command {
        Command::Run(self.into_run(what, tty))
    }

    fn into_run(self, what: What, tty: Tty) -> Run {
        Run {
            what,
            host: self.host,
            need: self.need,
            wait: self.wait,
            login: self.login,
            tty: self.tty.unwrap_or(tty),
            no_stdin: self.no_stdin,
            tee: self.tee,
            escape: self.escape,
            connect_timeout: self.connect_timeout,
            send_env: self.send_env,
            set_env: self.set_env,
            x11: self.x11,
            agent: self.agent,
        }
    }
}

fn launch(parsed: &Parsed<'_>) -> Result<Command, Failure> {
    let o = launch_options(parsed)?;
    runnable(parsed.rest)?;
    Ok(o.run(What::Launch(parsed.rest.to_vec()), Tty::Auto))
}

/// A command that can go to another host.
fn runnable(words: &[OsString]) -> Result<(), Failure> {
    match words.first() {
        None => Err(Failure::own(
            "nothing to run behind `--`: `queue [OPTIONS] -- COMMAND [ARG...]`",
        )),
        Some(w) if w.is_empty() => Err(Failure::own("the command behind `--` is an empty word")),
        Some(_) => no_descriptors(words),
    }
}

fn launch_options(parsed: &Parsed<'_>) -> Result<Options, Failure> {
    let mut o = Options::new();
    // The last one that names a class counts; the other later options refuse at once.
    let mut class = (OsString::from("now"), String::new());
    for f in &parsed.found {
        let Some(opt) = f.launch else { continue };
        match opt.id {
            Id::Interactive => class = ("now".into(), String::new()),
            Id::Queue => class = ("wait".into(), f.spelled.clone()),
            Id::Class => {
                class = (
                    f.value.clone(),
                    format!("{} {}", f.spelled, f.value.to_string_lossy()),
                )
            }
            Id::Host => o.host = target(&f.value, &f.spelled, Target::Only)?,
            Id::Prefer => o.host = target(&f.value, &f.spelled, Target::Prefer)?,
            Id::PtyFull => o.tty = Some(Tty::Full),
            Id::PtyInput => o.tty = Some(Tty::Input),
            Id::PtyNone => o.tty = Some(Tty::None),
            Id::NoStdin => o.no_stdin = true,
            id @ (Id::X11 | Id::NoX11 | Id::Agent | Id::NoAgent) => o.forward(id),
            Id::Login => o.login = text(&f.value, &f.spelled)?,
            Id::Tee => o.tee = Some(f.value.clone().into()),
            Id::Escape => o.escape = escape_char(&f.value, &f.spelled)?,
            Id::Json => {
                return Err(Failure::own(
                    "--json is for verbs, as in `queue hosts --json`, and for -b",
                ));
            }
            // An -i behind them took it back.
            Id::Batch | Id::Wait => {}
            id @ (Id::Cores | Id::Mem | Id::Gpus | Id::Disk | Id::Expr) => {
                o.need.take(id, &f.spelled, &text(&f.value, &f.spelled)?)?;
            }
            Id::Later => return Err(later(f)),
            _ => {
                return Err(Failure::own(format!(
                    "{0} is for batch jobs: `queue -b {0} ... -- COMMAND` returns at once, with -w in place of -b it stays",
                    f.spelled
                )));
            }
        }
    }
    o.wait = match class.0.to_str() {
        Some("now") => false,
        Some("wait") => true,
        _ => {
            return Err(Failure::own(format!(
                "{}: a class is for batch jobs: `queue -b {0} ... -- COMMAND` returns at once, with -w in place of -b it stays",
                class.1
            )));
        }
    };
    // What waits for room has to take some.
    // A job that waits for its own command has a slot, and lends it: to wait for another one could be for ever.
    let in_a_job = std::env::var_os("QUEUE_JOB_ID").is_some();
    if o.wait && o.need.cores == 0 && !in_a_job {
        o.need.cores = 1;
    }
    Ok(o)
}

fn shell(args: &[OsString]) -> Command {
    Options::new().run(What::Shell(args.to_vec()), Tty::None)
}

fn rsh(parsed: &Parsed<'_>, qsh: bool) -> Result<Command, Failure> {
    rsh_command(parsed, qsh).map_err(Failure::in_rsh)
}

fn rsh_command(parsed: &Parsed<'_>, qsh: bool) -> Result<Command, Failure> {
    let mut o = Options::new();
    let (mut subsystem, mut print_config) = (false, false);
    for f in &parsed.found {
        let Some(opt) = f.rsh.or(f.launch) else { continue };
        match opt.id {
            Id::Login => o.login = text(&f.value, &f.spelled)?,
            Id::NullStdin | Id::NoStdin => o.no_stdin = true,
            id @ (Id::X11 | Id::NoX11 | Id::Agent | Id::NoAgent) => o.forward(id),
            Id::Tty => {
                o.tty = Some(if matches!(o.tty, Some(Tty::Login | Tty::Force)) {
                    Tty::Force
                } else {
                    Tty::Login
                })
            }
            Id::NoTty => o.tty = Some(Tty::None),
            Id::Subsystem => subsystem = true,
            Id::PrintConfig => print_config = true,
            Id::SshOption => ssh_option(&f.value, &mut o)?,
            Id::Tee => o.tee = Some(f.value.clone().into()),
            Id::Escape => o.escape = escape_char(&f.value, &f.spelled)?,
            Id::Port | Id::Ignored => {}
            Id::Refused => {
                return Err(Failure::own(format!(
                    "{} is not done here: qsh runs commands and forwards no connections",
                    f.spelled
                )));
            }
            _ => {
                return Err(Failure::own(format!(
                    "{} does not belong to the rsh form",
                    f.spelled
                )));
            }
        }
    }
    let program = if qsh { "qsh" } else { "queue" };
    let Some((host, words)) = parsed.rest.split_first() else {
        return Err(Failure::own(format!(
            "no host: `{program} [OPTIONS] [USER@]HOST [COMMAND...]`"
        )));
    };
    let host = text(host, "HOST")?;
    let (user, host) = host.rsplit_once('@').map_or(("", host.as_str()), |(u, h)| (u, h));
    if o.login.is_empty() {
        user.clone_into(&mut o.login);
    }
    o.host = target(OsStr::new(host), "HOST", Target::Only)?;
    if print_config {
        return Ok(Command::PrintConfig {
            host: host.to_owned(),
            login: o.login,
        });
    }
    // GNU parallel and others put a `--` behind the host as well; ssh drops it.
    let words = match words.split_first() {
        Some((dashes, rest)) if dashes == "--" => rest,
        _ => words,
    };
    no_descriptors(words)?;
    let mut command = words.join(OsStr::new(" "));
    if subsystem {
        if command != "sftp" {
            return Err(Failure::own(format!(
                "no such subsystem: `{}`",
                command.to_string_lossy()
            )));
        }
        command = SFTP.into();
    }
    let (command, tty) = if command.is_empty() {
        (None, Tty::Login)
    } else {
        (Some(command), Tty::None)
    };
    Ok(o.run(What::Rsh(command), tty))
}

/// Where distributions keep the program behind ssh's subsystem. Said to `/bin/sh`, because a login shell
/// may be any.
const SFTP: &str = "exec /bin/sh -c 'PATH=$PATH:/usr/lib/openssh:/usr/libexec/openssh:/usr/lib/ssh:/usr/libexec; exec sftp-server'";

/// `KEY=VALUE` or `KEY VALUE`, names in any case, as in `ssh_config(5)`. Unknown ones are ignored: they
/// configure what we do not have.
fn ssh_option(value: &OsStr, o: &mut Options) -> Result<(), Failure> {
    let bytes = value.as_bytes();
    let cut = bytes
        .iter()
        .position(|b| matches!(b, b'=' | b' ' | b'\t'))
        .unwrap_or(bytes.len());
    let key = String::from_utf8_lossy(&bytes[..cut]).to_ascii_lowercase();
    let rest = OsStr::from_bytes(bytes.get(cut + 1..).unwrap_or_default().trim_ascii());
    let word = rest.to_string_lossy();
    let words = || {
        rest.as_bytes()
            .split(u8::is_ascii_whitespace)
            .filter(|w| !w.is_empty())
    };
    match key.as_str() {
        "user" if o.login.is_empty() => o.login = text(rest, "-o User")?,
        "connecttimeout" => {
            o.connect_timeout = word.parse().ok().filter(|s| *s > 0).map(Duration::from_secs);
        }
        "forwardx11" | "forwardagent" => {
            // An agent's path, which ssh takes as well, is not guessed at.
            let on = word.eq_ignore_ascii_case("yes");
            match key.as_str() {
                _ if !on && !word.eq_ignore_ascii_case("no") => {}
                "forwardx11" => o.x11 = on,
                _ => o.agent = on,
            }
        }
        "escapechar" => o.escape = escape_char(rest, "-o EscapeChar")?,
        "stdinnull" => o.no_stdin |= word.eq_ignore_ascii_case("yes"),
        "sendenv" => o
            .send_env
            .extend(words().map(|w| OsStr::from_bytes(w).to_owned())),
        "setenv" => o.set_env.push(rest.to_owned()),
        "requesttty" => {
            o.tty = match word.to_ascii_lowercase().as_str() {
                "no" => Some(Tty::None),
                "yes" => Some(Tty::Login),
                "force" => Some(Tty::Force),
                _ => o.tty,
            }
        }
        _ => {}
    }
    Ok(())
}

/// The escape character.
pub(crate) fn escape_char(value: &OsStr, spelled: &str) -> Result<Option<u8>, Failure> {
    escape::parse(value.as_bytes()).ok_or_else(|| {
        Failure::own(format!(
            "{spelled}: `{}` is no escape character: one character, ^X for a control character, or none",
            value.to_string_lossy()
        ))
    })
}

pub(crate) fn target(name: &OsStr, spelled: &str, named: fn(String) -> Target) -> Result<Target, Failure> {
    let name = text(name, spelled)?;
    if name == "+" {
        return Ok(Target::Any);
    }
    if name.is_empty() || name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
        return Err(Failure::own(format!("{spelled}: `{name}` is no host name")));
    }
    Ok(named(name))
}

pub(crate) fn text(value: &OsStr, spelled: &str) -> Result<String, Failure> {
    value.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::own(format!(
            "{spelled}: `{}` is not valid UTF-8",
            value.to_string_lossy()
        ))
    })
}

/// `<(...)` and its like name a descriptor of the shell here, which cannot travel.
fn no_descriptors(words: &[OsString]) -> Result<(), Failure> {
    let names_descriptor = |w: &[u8]| {
        [&b"/dev/fd/"[..], b"/proc/self/fd/"].iter().any(|dir| {
            w.strip_prefix(*dir)
                .and_then(|n| std::str::from_utf8(n).ok()?.parse::<u32>().ok())
                .is_some_and(|n| n > 2)
        })
    };
    match words.iter().find(|w| {
        names_descriptor(w.as_bytes())
            || w.as_bytes()
                .splitn(2, |b| *b == b'=')
                .nth(1)
                .is_some_and(names_descriptor)
    }) {
        Some(w) => Err(Failure::own(format!(
            "`{}` is a descriptor of this shell and cannot go to another host: use a pipe or a file instead of <(...)",
            w.to_string_lossy()
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
