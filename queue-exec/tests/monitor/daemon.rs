//! The daemon's part about jobs: hands them over, and hears what becomes of them.

use crate::host::{Host, LIMIT, Member};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use queue_exec::client;
use queue_exec::protocol::{JobKey, JobReply, JobRequest, PACKET_MAX, Reply, Request};
use queue_exec::state::unix_now;
use queue_exec::ticket::Nonce;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

pub(crate) fn key(job: u64) -> JobKey {
    JobKey {
        job,
        task: 0,
        attempt: 1,
    }
}

/// A run by `user` of the host `m`.
pub(crate) fn request(h: &Host, m: &Member, user: &str, key: JobKey, run: &str) -> JobRequest {
    JobRequest::Run {
        key,
        warrant: m.warrant(h, user, run.as_bytes()).sign(&m.key),
        source_cert: m.cert.clone(),
        run: run.into(),
        params: b"params".to_vec(),
        lease: 0,
        note: b"note".to_vec(),
    }
}

/// The daemon's two connections.
pub(crate) struct Daemon {
    pub(crate) events: OwnedFd,
    pub(crate) asks: OwnedFd,
    pub(crate) life: Nonce,
    /// What was told before everything was told.
    pub(crate) told: Vec<JobReply>,
}

impl Daemon {
    pub(crate) fn new(h: &Host) -> Self {
        let events = h.dial();
        let watching = client::ask(events.as_fd(), &Request::Watch, None).unwrap();
        assert_eq!(watching, Reply::Done);
        let mut d = Self {
            events,
            asks: h.dial(),
            life: [0; 16],
            told: Vec::new(),
        };
        let JobReply::Life { life } = d.event() else {
            panic!("life comes first")
        };
        d.life = life;
        loop {
            match d.event() {
                JobReply::Told => return d,
                e => d.told.push(e),
            }
        }
    }

    pub(crate) fn next(&self, within: Duration) -> Option<JobReply> {
        let until = Instant::now() + within;
        let mut buf = vec![0; PACKET_MAX];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap();
            if poll(
                &mut [PollFd::new(self.events.as_fd(), PollFlags::POLLIN)],
                timeout,
            )
            .unwrap()
                == 0
            {
                return None;
            }
            let (n, _) = client::receive(self.events.as_fd(), &mut buf).unwrap();
            match Reply::decode(&buf[..n]).unwrap() {
                (0, Reply::Job(e)) => return Some(e),
                (0, Reply::SessionStarted { .. } | Reply::SessionEnded { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) fn event(&self) -> JobReply {
        self.next(LIMIT + LIMIT).expect("no event came")
    }

    pub(crate) fn ask(&self, r: JobRequest) -> Reply {
        client::ask(self.asks.as_fd(), &Request::Job(r), None).unwrap()
    }

    pub(crate) fn run(&self, r: JobRequest) {
        assert_eq!(self.ask(r), Reply::Done);
    }

    /// Waits for the start: process id, and what its session said.
    pub(crate) fn started(&self, key: JobKey) -> (i32, String) {
        match self.event() {
            JobReply::Started {
                key: k,
                login,
                pid,
                running,
                note,
                since,
            } => {
                assert_eq!((k, &note[..]), (key, &b"note"[..]));
                assert!(!login.is_empty() && since / 1000 >= unix_now() - 60);
                (pid as i32, String::from_utf8(running).unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn ended(&self, key: JobKey) -> String {
        match self.event() {
            JobReply::Ended { key: k, outcome } => {
                assert_eq!(k, key);
                String::from_utf8(outcome).unwrap()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Runs a job to its end: process id of its session, and its outcome.
    pub(crate) fn through(&self, r: JobRequest) -> (i32, String) {
        let JobRequest::Run { key, .. } = r else {
            panic!("{r:?}")
        };
        self.run(r);
        let (pid, _) = self.started(key);
        (pid, self.ended(key))
    }

    pub(crate) fn end(&self, key: JobKey, signal: u8) -> Reply {
        self.ask(JobRequest::End {
            key,
            signal,
            cause: 10,
            text: "killed by bob".into(),
        })
    }

    pub(crate) fn forget(&self, keys: &[JobKey]) {
        assert_eq!(self.ask(JobRequest::Forget { keys: keys.to_vec() }), Reply::Done);
    }
}
