//! Submits jobs: the local `queue-exec` signs each, the local daemon answers when it is on disk. Two connections,
//! kept for as many jobs as there are; no thread of its own. A thread has a client of its own.

use super::Job;
use crate::messages::{Failure, printable, reason};
use crate::place::Daemon;
use crate::sign::{self, Signer};
use libqueue::wire::job::{FRAME_MAX, Submit, Submitted};
use libqueue::wire::{Empty, reply, request};
use prost::Message as _;
use queue_exec::layout::Layout;
use queue_exec::protocol::{JobReply, JobRequest, RUN_MAX, Reply, Request};
use std::borrow::Borrow;
use std::collections::{BTreeMap, VecDeque};

/// Most jobs that wait for their signature, and most that wait for the daemon: the answers to them fit into the
/// sockets' buffers, so nobody waits for the other.
const WINDOW: usize = 32;
/// Room in a frame for what stands beside run and entries.
const FRAME_ROOM: usize = 64 * 1024;

/// The two connections.
#[derive(Debug)]
pub struct Client {
    daemon: Daemon,
    signer: Signer,
    /// Name of this host; empty: asked for, not answered yet.
    host: String,
    /// Number of the next request to `queue-exec`.
    number: u32,
    /// Jobs that wait for their signature, with the number of the request.
    unsigned: VecDeque<(u32, Submit)>,
    /// Answers of `queue-exec` that nobody has taken yet.
    early: BTreeMap<u32, Reply>,
    /// Jobs that the daemon has not answered.
    sent: usize,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// The daemon or `queue-exec` does not run.
    pub fn dial(layout: &Layout) -> Result<Self, Failure> {
        let mut daemon = Daemon::dial(layout)?;
        daemon.ask(request::Kind::Status(Empty {}))?;
        Ok(Self {
            signer: Signer::dial(layout)?,
            daemon,
            host: String::new(),
            number: 1,
            unsigned: VecDeque::new(),
            early: BTreeMap::new(),
            sent: 0,
        })
    }

    /// Name of this host.
    ///
    /// # Errors
    /// The daemon went away.
    pub fn host(&mut self) -> Result<&str, Failure> {
        if self.host.is_empty() {
            match self.daemon.answer()? {
                reply::Kind::Status(s) => self.host = s.host,
                _ => return Err(self.daemon.strange()),
            }
        }
        Ok(&self.host)
    }

    /// Submits one job, and returns when it is on disk.
    ///
    /// # Errors
    /// It is refused, or nobody could take it: it is not submitted.
    pub fn submit(&mut self, job: &Job) -> Result<Submitted, Failure> {
        self.begin(job)?;
        self.signed()?;
        self.finish()
    }

    /// Submits many, with several under way at any time; `done` is told of each, in order. Ends early if `done` says
    /// no.
    ///
    /// # Errors
    /// The connections broke, or a job cannot be sent at all; those that the daemon refuses are told to `done`.
    pub fn submit_all<J: Borrow<Job>>(
        &mut self,
        jobs: impl IntoIterator<Item = J>,
        mut done: impl FnMut(Result<Submitted, Failure>) -> bool,
    ) -> Result<(), Failure> {
        let mut jobs = jobs.into_iter().fuse();
        let mut more = true;
        loop {
            while more && self.unsigned.len() < WINDOW {
                match jobs.next() {
                    Some(job) => self.begin(job.borrow())?,
                    None => more = false,
                }
            }
            if self.unsigned.is_empty() && self.sent == 0 {
                return Ok(());
            }
            while !self.unsigned.is_empty() && self.sent < WINDOW {
                self.signed()?;
            }
            // Half of them, so that the other half keeps the daemon busy meanwhile.
            let keep = if more { WINDOW / 2 } else { 0 };
            while self.sent > keep {
                let answer = self.finish();
                more &= done(answer);
            }
        }
    }

    /// Asks for the signature of a job.
    fn begin(&mut self, job: &Job) -> Result<(), Failure> {
        self.host()?;
        let mut run = job.run.clone();
        run.submit_host.clone_from(&self.host);
        run.nonce = sign::nonce()?.to_vec();
        let run = run.encode_to_vec();
        if run.len() > RUN_MAX {
            return Err(Failure::own(format!(
                "arguments, environment and script are {} bytes together; at most {RUN_MAX} can go along",
                run.len()
            )));
        }
        let entries: usize = job.entries.iter().map(|e| e.len() + 8).sum();
        if run.len() + entries + FRAME_ROOM > FRAME_MAX {
            return Err(Failure::own(format!(
                "the entries of all tasks are {entries} bytes together, which is more than one job can have ({} MiB): divide them among several jobs",
                FRAME_MAX >> 20
            )));
        }
        let hash = sign::hash(&run)?;
        let number = self.number;
        // 0 is for events.
        self.number = self.number.wrapping_add(1).max(1);
        self.signer.send(
            &Request::Job(JobRequest::Warrant {
                login: job.login.clone(),
                run: hash,
            }),
            number,
        )?;
        let submit = Submit {
            run,
            plan: Some(job.plan.clone()),
            entries: job.entries.clone(),
            ..Submit::default()
        };
        self.unsigned.push_back((number, submit));
        Ok(())
    }

    /// Waits for the oldest signature, and hands its job to the daemon.
    fn signed(&mut self) -> Result<(), Failure> {
        let Some((number, mut submit)) = self.unsigned.pop_front() else {
            return Ok(());
        };
        let reply = loop {
            if let Some(reply) = self.early.remove(&number) {
                break reply;
            }
            let (id, reply) = self.signer.receive()?;
            self.early.insert(id, reply);
        };
        match reply {
            Reply::Job(JobReply::Warrant { warrant, source_cert }) => {
                (submit.warrant, submit.cert) = (warrant, source_cert);
            }
            Reply::Refused { text, .. } => return Err(Failure::own(printable(&text))),
            _ => return Err(self.signer.strange()),
        }
        self.daemon.ask(request::Kind::Submit(submit))?;
        self.sent += 1;
        Ok(())
    }

    /// Waits for the daemon's answer to the oldest job.
    fn finish(&mut self) -> Result<Submitted, Failure> {
        self.sent = self.sent.saturating_sub(1);
        match self.daemon.answer()? {
            reply::Kind::Submitted(s) => Ok(s),
            _ => Err(self.daemon.strange()),
        }
    }
}

/// Why a file of the user cannot be read.
pub(super) fn unreadable(what: &str, path: &std::path::Path, e: &std::io::Error) -> Failure {
    Failure::own(format!("{what}{}: {}", path.display(), reason(e)))
}
