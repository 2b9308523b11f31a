//! Stays with a batch job that was just submitted (`-w`): shows its output as it comes and ends as it ends. A signal
//! that would end us ends the job.

use super::output::follow::{Event, Follow, Options};
use super::output::show::Screen;
use crate::leader;
use crate::messages::{Failure, printable, say};
use crate::relay::End;
use crate::relay::escape::{self, Action, Escape};
use crate::signals::Inherited;
use crate::sys::{self, bit};
use crate::tee::Tee;
use crate::terminal;
use libqueue::job;
use libqueue::wire::job::{Act, Cause, Deed, IdRange, Over, Selection, job_reply, query};
use nix::errno::Errno;
use nix::libc;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

/// Signals that end the job, unless whoever started us ignores or blocks them.
const FATAL: [i32; 4] = [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGHUP];

/// How often the leader is asked again: it had the job a moment ago, so it is being restarted.
const TRIES: u32 = 60;

/// How often to see whether we are in the foreground again.
const BACKGROUND: Duration = Duration::from_millis(200);

/// The signals that are watched for.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
}

impl Signals {
    /// Keeps them from ending us from now on.
    ///
    /// # Errors
    /// As `signalfd(2)`.
    pub fn catch() -> Result<Self, Failure> {
        let inherited = Inherited::read();
        let all = FATAL.iter().fold(0, |m, s| m | bit(*s));
        let mask = all & !(inherited.ignored | inherited.blocked);
        sys::sigmask(libc::SIG_BLOCK, Some(mask));
        let fd = sys::signalfd(mask).map_err(|e| Failure::own(format!("signals: {e}")))?;
        Ok(Self { fd })
    }

    /// Tells of them, in a thread of its own.
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn tell(self, to: SyncSender<Event>) -> Result<(), Failure> {
        let watch = move || {
            loop {
                let mut fds = [libc::pollfd {
                    fd: self.fd.as_raw_fd(),
                    events: libc::POLLIN,
                    revents: 0,
                }];
                let _ = sys::poll(&mut fds, -1);
                while let Some((signal, _)) = sys::read_signal(&self.fd) {
                    if to.send(Event::Signal(signal)).is_err() {
                        return;
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().spawn(watch);
        thread
            .map(drop)
            .map_err(|e| Failure::own(format!("a thread for signals: {e}")))
    }
}

/// Looks for escapes in what is typed, in a thread of its own. The terminal stays as it is: they end with Enter.
pub fn keys(escape: Option<u8>, to: SyncSender<Event>) {
    if escape.is_none() || !nix::unistd::isatty(sys::stdio(0)).unwrap_or(false) {
        return;
    }
    // In the background a read fails instead of stopping us.
    sys::sigmask(libc::SIG_BLOCK, Some(bit(libc::SIGTTIN)));
    let watch = move || {
        let mut escape = Escape::new(escape);
        let mut buf = [0; 256];
        loop {
            let n = match terminal::in_foreground() {
                true => nix::unistd::read(sys::stdio(0), &mut buf),
                false => Err(Errno::EIO),
            };
            let n = match n {
                Ok(0) => return,
                Ok(n) => n,
                Err(Errno::EIO | Errno::EINTR) => {
                    std::thread::sleep(BACKGROUND);
                    continue;
                }
                Err(_) => return,
            };
            let mut rest = &buf[..n];
            while !rest.is_empty() {
                let (taken, action) = escape.take(rest, &mut Vec::new());
                rest = &rest[taken..];
                match action {
                    Some(Action::GiveUp | Action::Detach) => {
                        let _ = to.send(Event::Left);
                        return;
                    }
                    Some(Action::Suspend) => sys::kill_own(libc::SIGTSTP, true),
                    Some(Action::Help) => {
                        let c = escape::show(escape.char().unwrap_or(escape::DEFAULT));
                        say(
                            &format!("{c}. and {c}d leave the job alone; Enter ends each"),
                            false,
                        );
                    }
                    None => {}
                }
            }
        }
    };
    // Without it there are no escapes.
    let _ = std::thread::Builder::new().spawn(watch);
}

/// Says how to come back to a job that is left alone.
pub fn leave(id: &str) {
    say(
        &format!("job {} goes on: `queue attach {0}` comes back", printable(id)),
        false,
    );
}

/// What to stay with.
#[derive(Debug)]
pub struct Job {
    /// Its number.
    pub id: u64,
    /// It has tasks.
    pub array: bool,
    /// It waits on this host for the leader.
    pub spooled: bool,
    /// Name of this host.
    pub here: String,
    /// Its output's file, and what was in it before.
    pub old: Option<(PathBuf, u64)>,
    /// The escape character.
    pub escape: Option<u8>,
}

/// Stays.
///
/// # Errors
/// Nobody knows how it ended.
pub fn stay(job: Job, signals: Signals, tee: Option<Tee>) -> Result<End, Failure> {
    let id = job.id;
    let mut follow = Follow::new(
        Options {
            which: selection(id),
            fds: [true; 2],
            error_to: 2,
            prefix: job.array,
            tail: None,
            old: job.old,
            patient: job.spooled,
            tries: TRIES,
            here: job.here,
        },
        Screen { tee },
    );
    let to = follow.sender();
    signals.tell(to.clone())?;
    keys(job.escape, to.clone());
    let mut dying = None;
    follow.run(
        |event| match event {
            Event::Signal(signal) if dying.is_none() => {
                dying = Some(signal);
                let done = to.clone();
                // The next signal is for us, should the leader not answer.
                let kill = move || {
                    let _ = done.send(Event::Killed(kill(id)));
                };
                match std::thread::Builder::new().spawn(kill) {
                    Ok(_) => None,
                    Err(_) => Some(Ok(End::Signal(signal))),
                }
            }
            Event::Signal(signal) => Some(Ok(End::Signal(signal))),
            Event::Killed(result) => {
                if let Err(f) = result {
                    say(
                        &format!("job {id} may go on (`queue kill {id}`): {}", f.text),
                        false,
                    );
                }
                dying.map(|s| Ok(End::Signal(s)))
            }
            Event::Left => {
                leave(&id.to_string());
                Some(Ok(End::Code(0)))
            }
            _ => None,
        },
        |follow, over| end(follow, id, &selection(id), &over, false),
    )
}

/// Only this job.
pub fn selection(id: u64) -> Selection {
    Selection {
        ids: vec![IdRange {
            from: id,
            to: id,
            tasks: None,
        }],
        ..Selection::default()
    }
}

fn kill(id: u64) -> Result<(), Failure> {
    let act = Act {
        deed: Deed::Kill as i32,
        which: Some(selection(id)),
        ..Act::default()
    };
    match leader::reply(query::Kind::Act(act))? {
        job_reply::Kind::Acted(_) => Ok(()),
        _ => Err(leader::strange()),
    }
}

/// How we end when it has. `tell`: also of one job whose exit code says it.
///
/// # Errors
/// Nobody knows how it ended.
pub fn end(follow: &mut Follow, id: u64, which: &Selection, over: &Over, tell: bool) -> Result<End, Failure> {
    if over.nothing {
        return Err(Failure::own(format!(
            "the leader does not know job {id} any more: `queue history {id}` may"
        )));
    }
    // Its file is wanted by whoever goes on behind us.
    super::batch::wait::until_home(which);
    for j in &over.bad {
        let name = job::name(j.id, j.task);
        match &j.outcome {
            // The exit code says it, of one job at least.
            Some(o) if !tell && matches!(o.cause(), Cause::Exited | Cause::Signal) && over.bad.len() == 1 => {
            }
            Some(_) if tell => follow.screen.note(&super::batch::wait::bad(j)),
            Some(o) => follow
                .screen
                .note(&format!("{name}: {}", printable(&job::in_words(o)))),
            None => follow.screen.note(&format!("{name}: {}", printable(&j.reason))),
        }
    }
    if over.code == 0 && over.signal.is_none() && follow.screen.tee.as_ref().is_some_and(Tee::has_failed) {
        // The file is incomplete, which was told.
        return Err(Failure::own(""));
    }
    Ok(match over.signal {
        Some(s) if s > 0 => End::Signal(s as i32),
        _ => End::Code(u8::try_from(over.code).unwrap_or(libqueue::exit::FAILED)),
    })
}
