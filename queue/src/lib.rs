//! The front end: a local process that stands in for a command on another host.
//!
//! Knows the grammar of the command line, terminals, signals, and the client's end of a session. Must not know
//! placement, membership, policy, or how a process is started: it asks the daemon for a host, `queue-exec` for a
//! signature, and then talks to the session alone. One thread, one `poll` loop, no runtime: it is in the path of
//! every recipe of a make. (Verbs that ask many hosts at once use a thread for each, and so does who stays with jobs.)
#![deny(unsafe_code)]

pub mod args;
pub mod command;
pub mod complete;
pub mod context;
pub mod control;
pub mod forms;
pub mod forward;
pub mod help;
pub mod human;
pub mod input;
pub mod jobserver;
pub mod keyboard;
pub mod launch;
pub mod leader;
pub mod look;
pub mod messages;
pub mod nearest;
pub mod need;
pub mod options;
pub mod output;
pub mod place;
pub mod plan;
pub mod relay;
pub mod sign;
pub mod signals;
pub mod submit;
pub mod sys;
pub mod table;
pub mod tee;
pub mod terminal;
pub mod verbs;
pub mod waiting;
pub mod whoami;

use forms::{Command, Run, What};
use messages::{Failure, write_all};
use relay::End;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt as _;

/// Does what the arguments ask for, and ends the process as it has to end. Returns the exit code.
pub fn main(args: &[OsString]) -> u8 {
    sys::open_missing();
    // A panic is a fault of ours; the terminal must not stay behind raw, and one line is enough.
    std::panic::set_hook(Box::new(|info| {
        terminal::restore();
        let place = info
            .location()
            .map(|l| format!(" at {}:{}", l.file(), l.line()))
            .unwrap_or_default();
        messages::say(&format!("internal error{place}: please report this"), false);
    }));
    let (name, rest) = match args.split_first() {
        Some((name, rest)) => (name.clone(), rest),
        None => ("queue".into(), &[][..]),
    };
    let result = forms::decide(&name, rest).and_then(|command| match command {
        Command::Run(run) => self::run(&run, forms::has_verbs(&name)),
        Command::Submit(s) => command::submit::run(&s),
        Command::Attach(a) => command::attach::attach(&a),
        other => inform(other).map(End::Code),
    });
    match result {
        Ok(End::Code(code)) => code,
        Ok(End::Signal(signal)) => signals::die_of(signal),
        // Only who watches hears of this, and attaches anew.
        Ok(End::Cut) => libqueue::exit::FAILED,
        Err(failure) => {
            signals::ignore_broken_pipes();
            if !failure.text.is_empty() {
                messages::say(&failure.text, false);
            }
            failure.code()
        }
    }
}

fn inform(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Verb(ask) => return command::run(ask),
        Command::Detach(d) => return command::attach::detach(&d),
        Command::Log(log) => return command::log::run(&log),
        Command::Inner(inner) => return command::inner(&inner),
        Command::Help(topic) => write_all(1, help::help(topic).as_bytes()),
        Command::Version => write_all(1, help::version().as_bytes()),
        Command::PrintConfig { host, login } => {
            let user = if login.is_empty() {
                String::new()
            } else {
                format!("user {login}\n")
            };
            write_all(1, format!("host {host}\n{user}hostname {host}\n").as_bytes());
        }
        Command::Run(_) | Command::Submit(_) | Command::Attach(_) => {}
    }
    Ok(0)
}

/// `verbs`: the first word may be a verb.
fn run(run: &Run, verbs: bool) -> Result<End, Failure> {
    let rsh = matches!(run.what, What::Rsh(_));
    run_session(run).map_err(|f| {
        let f = nearest::hint(run, verbs, f);
        if rsh { f.in_rsh() } else { f }
    })
}

fn run_session(run: &Run) -> Result<End, Failure> {
    if let What::Shell(args) = &run.what
        && context::has_job_server(args)
    {
        return Err(run_here(args));
    }
    let inherited = signals::Inherited::read();
    let facts = context::facts();
    let pty = plan::pty(run.tty, &facts);
    let tee = run.tee.as_deref().map(tee::Tee::create).transpose()?;
    let ask = launch::Ask {
        place: run.place(),
        login: run.login.clone(),
        connect: run.connect_timeout,
        answer: None,
        tell: true,
    };
    let wanted = forward::Wanted::new(run, forward::Surroundings::ours);
    let session = launch::open(&ask, || {
        let mut launch = context::launch(run, pty, inherited)?;
        wanted.tell(&mut launch);
        Ok(launch)
    })?;
    let forwarding = wanted.start(&session);
    let setting = relay::Setting {
        facts: &facts,
        pty,
        inherited,
        tee,
        escape: run.escape,
        role: relay::Role::Start,
        watching: None,
        forwarding,
    };
    relay::run(session, setting)
}

/// Becomes `/bin/sh` with these arguments.
fn run_here(args: &[OsString]) -> Failure {
    let words = std::iter::once(&b"sh"[..]).chain(args.iter().map(|a| a.as_bytes()));
    // Words come from an argument list, so none has a zero inside.
    let argv: Vec<CString> = words.filter_map(|w| CString::new(w).ok()).collect();
    Failure::own(format!("/bin/sh: {}", sys::exec(c"/bin/sh", &argv).desc()))
}
