//! Stays with a batch job that was just submitted (`-w`): shows its output as it comes and ends as it ends. A signal
//! that would end us ends the job.

use super::output::follow::{Event, Follow, Options};
use super::output::show::Screen;
use crate::leader;
use crate::messages::{Failure, printable, say};
use crate::relay::End;
use crate::signals::Inherited;
use crate::sys::{self, bit};
use crate::tee::Tee;
use libqueue::job;
use libqueue::wire::job::{Act, Cause, Deed, IdRange, Over, Selection, job_reply, query};
use nix::libc;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;

/// Signals that end the job, unless whoever started us ignores or blocks them.
const FATAL: [i32; 4] = [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGHUP];

/// How often the leader is asked again: it had the job a moment ago, so it is being restarted.
const TRIES: u32 = 60;

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
    fn tell(self, to: SyncSender<Event>) -> Result<(), Failure> {
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
            _ => None,
        },
        |follow, over| end(follow, id, &over),
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

fn end(follow: &mut Follow, id: u64, over: &Over) -> Result<End, Failure> {
    if over.nothing {
        return Err(Failure::own(format!(
            "the leader does not know job {id} any more: `queue history {id}` may"
        )));
    }
    // Its file is wanted by whoever goes on behind us.
    super::batch::wait::until_home(&selection(id));
    for j in &over.bad {
        let name = job::name(j.id, j.task);
        match &j.outcome {
            // The exit code says it, of one job at least.
            Some(o) if matches!(o.cause(), Cause::Exited | Cause::Signal) && over.bad.len() == 1 => {}
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
