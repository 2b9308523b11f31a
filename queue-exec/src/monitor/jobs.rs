//! Batch jobs: warrants for those who submit, and the attempts that run here.
//!
//! The daemon says what is to run, and cannot invent it: a warrant, signed on the submitter's host, covers whose it
//! is and what is executed (`check`), and each attempt is run once, which the journal remembers (`journal`).
//! Sessions that run jobs are kept for the next one of the same user (`runners`). What happens to an attempt from
//! then on is in `attempts`.

mod attempts;
mod check;
mod journal;
mod runners;

pub(super) use runners::{Runner, Work};

use super::Monitor;
use super::log::log;
use super::tree::Id;
use check::Run;
use journal::Journal;
use queue_exec::layout::Layout;
use queue_exec::protocol::{JobKey, JobReply, JobRequest, Refusal, Reply, Request};
use queue_exec::state::unix_now;
use queue_exec::warrant::Warrant;
use runners::{Wanted, What};
use std::collections::{HashMap, VecDeque};
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

/// Everything about jobs.
#[derive(Debug)]
pub(super) struct Jobs {
    journal: Journal,
    cache: check::Cache,
    /// The sessions of attempts that run.
    running: HashMap<JobKey, u32>,
    /// Runners without a job; the one that was used last is the last.
    idle: VecDeque<u32>,
    idle_max: usize,
    idle_timer: bool,
    /// Jobs that wait for a session process.
    waiting: VecDeque<Wanted>,
}

impl Jobs {
    /// Reads the journal, and makes the room for output that is to be brought home.
    pub(super) fn load(layout: &Layout, boot: &str) -> Self {
        let spool = layout.spool();
        // Users have to get to their own directories in it, and see no others.
        let made = DirBuilder::new()
            .create(&spool)
            .and_then(|()| fs::set_permissions(&spool, Permissions::from_mode(0o711)));
        match made {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                log!(
                    "{}: {e}: output cannot be brought home from here",
                    spool.display()
                );
            }
            _ => {}
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            journal: Journal::load(layout.sessions().join("jobs.journal"), boot),
            cache: check::Cache::default(),
            running: HashMap::new(),
            idle: VecDeque::new(),
            idle_max: cores * 2,
            idle_timer: false,
            waiting: VecDeque::new(),
        }
    }

    /// Jobs that wait for a session process.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// A session has gone.
    pub(super) fn gone(&mut self, id: u32) {
        self.idle.retain(|i| *i != id);
    }

    /// The attempt that a session process of an earlier monitor has; from now on it is found as `id`.
    pub(super) fn found(&mut self, process: Id, id: u32) -> Option<JobKey> {
        let mut all = self.journal.attempts().iter();
        let (&key, _) = all.find(|(_, a)| a.outcome.is_none() && a.process == process)?;
        self.running.insert(key, id);
        Some(key)
    }

    /// Attempts that were handed to sessions of which nothing is left.
    pub(super) fn orphans(&self) -> Vec<JobKey> {
        let all = self.journal.attempts().iter();
        all.filter(|(k, a)| a.outcome.is_none() && !self.running.contains_key(k))
            .map(|(k, _)| *k)
            .collect()
    }
}

impl Monitor {
    /// Somebody asks for something that concerns jobs.
    pub(super) fn job_requested(&mut self, conn: u32, request: u32, r: JobRequest, fd: Option<OwnedFd>) {
        match r {
            JobRequest::Warrant { .. } => self.sign(conn, request, Request::Job(r)),
            JobRequest::Run {
                key,
                warrant,
                source_cert,
                run,
                params,
                lease,
                note,
            } => {
                let asked = attempts::Asked {
                    key,
                    warrant,
                    source_cert,
                    run,
                    fd,
                    params,
                    lease,
                    note,
                };
                self.run_requested(conn, request, asked);
            }
            JobRequest::End {
                key,
                signal,
                cause,
                text,
            } => self.end_requested(conn, request, key, signal, cause, text),
            JobRequest::Lease { leases } => self.lease_requested(conn, request, &leases),
            JobRequest::Forget { keys } => self.forget_requested(conn, request, keys),
            JobRequest::Vouch {
                ticket,
                source_cert,
                body,
            } => self.vouch_requested(conn, request, &ticket, &source_cert, &body),
            JobRequest::Deliver {
                job,
                warrant,
                source_cert,
                run,
                from,
            } => match self.check_delivery(&warrant, &source_cert, (run, fd), job, from) {
                Ok((checked, run, what)) => self.place(Wanted {
                    conn,
                    request,
                    since: Instant::now(),
                    checked,
                    run,
                    what,
                }),
                Err((code, text)) => {
                    log!("delivery refused: {text}");
                    self.refuse(conn, request, code, &text);
                }
            },
        }
    }

    /// The user has said what he wants: it is said for him.
    pub(super) fn sign_warrant(&mut self, conn: u32, request: u32, login: &str, run: [u8; 32], user: &str) {
        let id = match self.member() {
            Ok(id) => id,
            Err((code, text)) => return self.refuse(conn, request, code, &text),
        };
        let login = if login.is_empty() { user } else { login };
        if !check::is_name(login) {
            let text = "that cannot be the name of an account";
            return self.refuse(conn, request, Refusal::Policy, text);
        }
        let warrant = Warrant {
            cluster: id.cluster,
            source: id.cert.name.clone(),
            user: user.to_owned(),
            login: login.to_owned(),
            issued: unix_now(),
            run,
        }
        .sign(&id.host_key);
        let source_cert = id.cert_bytes.clone();
        self.reply(
            conn,
            request,
            &Reply::Job(JobReply::Warrant { warrant, source_cert }),
        );
    }

    /// Everything that can be said against bringing output home.
    fn check_delivery(
        &mut self,
        warrant: &[u8],
        source_cert: &[u8],
        (run, fd): (Vec<u8>, Option<OwnedFd>),
        job: u64,
        from: String,
    ) -> Result<(std::rc::Rc<check::Checked>, Run, What), (Refusal, String)> {
        let run = Run::new(run, fd)?;
        let checked = self.check_run(warrant, source_cert, &run)?;
        let here = self.host_name();
        if checked.warrant.source != here {
            let text = format!(
                "job {job} was submitted on {}: its output belongs there, not on {here}",
                checked.warrant.source
            );
            return Err((Refusal::Policy, text));
        }
        let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if from.starts_with(['-', '.']) || !from.chars().all(in_name) {
            return Err((Refusal::Denied, "that cannot be the name of a host".to_owned()));
        }
        self.room_for_one()?;
        Ok((checked, run, What::Deliver { job, from }))
    }
}
