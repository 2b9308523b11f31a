//! What of a cluster concerns batch jobs: submissions are taken down, the leader says what a test wants, and a
//! session that is to run the front end there does.

use super::{Channel, LIMIT, Seen, Session};
use aws_lc_rs::digest::{SHA256, digest};
use libqueue::frame;
use libqueue::tls::{KeyPair, Peer, server_config};
use libqueue::wire::job::{FRAME_MAX, JobAsk, JobReply, Query, Run, Submit, Submitted, job_reply, query};
use libqueue::wire::{Error, ErrorCode, reply};
use nix::poll::PollFlags;
use prost::Message as _;
use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

/// What the leader does with a question.
#[allow(dead_code, reason = "each test file uses its part")]
#[allow(clippy::large_enum_variant, reason = "there are few of them")]
pub(crate) enum Step {
    /// Says this.
    Say(job_reply::Kind),
    /// Waits until this holds.
    Until(Box<dyn Fn() -> bool + Send>),
    /// Does what is only known then.
    Later(Box<dyn FnOnce() -> Vec<Self> + Send>),
}

type Answer = Box<dyn Fn(&query::Kind) -> Vec<Step> + Send>;

/// What is known of batch jobs.
#[derive(Default)]
pub(crate) struct Jobs {
    /// What was submitted, in order.
    pub(crate) submitted: Vec<Submit>,
    /// What the daemon says to a submission, but for the number.
    pub(crate) says: Submitted,
    /// It refuses them.
    pub(crate) refuses: bool,
    /// What the leader was asked, in order.
    pub(crate) asked: Vec<query::Kind>,
    /// What it answers.
    pub(crate) answer: Option<Answer>,
}

impl Jobs {
    /// What the last one that was submitted executes.
    #[allow(dead_code, reason = "each test file uses its part")]
    pub(crate) fn last_run(&self) -> Run {
        Run::decode(&self.submitted.last().unwrap().run[..]).unwrap()
    }
}

pub(super) fn submit(jobs: &Mutex<Jobs>, s: Submit) -> reply::Kind {
    let mut jobs = jobs.lock().unwrap();
    assert_eq!(
        s.warrant[..32],
        *digest(&SHA256, &s.run).as_ref(),
        "the run is the one that was signed"
    );
    assert_eq!(s.cert, b"source");
    jobs.submitted.push(s);
    if jobs.refuses {
        return reply::Kind::Error(Error {
            code: ErrorCode::BadRequest as i32,
            text: "there is no class\x1b night".into(),
        });
    }
    reply::Kind::Submitted(Submitted {
        id: 11 + jobs.submitted.len() as u64,
        ..jobs.says.clone()
    })
}

/// The leader is asked.
pub(super) fn answer(conn: TcpStream, key: &KeyPair, jobs: &Mutex<Jobs>) {
    let tls = rustls::ServerConnection::new(server_config(key, Peer::Any).unwrap()).unwrap();
    let mut stream = rustls::StreamOwned::new(tls, conn);
    let ask: JobAsk = frame::read_up_to(&mut stream, FRAME_MAX).unwrap();
    assert_eq!(digest(&SHA256, &ask.query).as_ref(), &ask.ticket[16..48]);
    let kind = Query::decode(&ask.query[..]).unwrap().kind.unwrap();
    let steps = {
        let mut jobs = jobs.lock().unwrap();
        jobs.asked.push(kind.clone());
        match (&jobs.answer, &kind) {
            (Some(a), _) => a(&kind),
            // There are no jobs.
            (None, query::Kind::List(_)) => vec![Step::Say(job_reply::Kind::Page(Default::default()))],
            (None, _) => Vec::new(),
        }
    };
    let mut steps: VecDeque<Step> = steps.into();
    while let Some(step) = steps.pop_front() {
        match step {
            Step::Later(more) => more().into_iter().rev().for_each(|s| steps.push_front(s)),
            Step::Say(kind) => {
                let reply = JobReply { kind: Some(kind) };
                stream.write_all(&frame::encode(&reply)).unwrap();
                stream.flush().unwrap();
            }
            Step::Until(holds) => {
                let end = Instant::now() + LIMIT;
                while !holds() && Instant::now() < end {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }
    stream.conn.send_close_notify();
    let _ = stream.flush();
}

impl Session {
    /// Runs the front end here.
    pub(super) fn front_end(&mut self, words: &[Vec<u8>]) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_queue"))
            .args(words.iter().map(|w| std::ffi::OsStr::from_bytes(w)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take();
        let mut stdout = child.stdout.take().unwrap();
        let (tx, rx) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buf = vec![0; 65536];
            while let Ok(n @ 1..) = stdout.read(&mut buf) {
                if tx.send(buf[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        loop {
            match rx.recv_timeout(Duration::from_millis(5)) {
                Ok(data) => {
                    if !self.write(Channel::Stdout, &data) {
                        break;
                    }
                    continue;
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
            let mut fds = [nix::poll::PollFd::new(
                self.link.socket().unwrap(),
                PollFlags::POLLIN,
            )];
            if nix::poll::poll(&mut fds, 0_u8).is_ok_and(|n| n > 0) && self.pump(PollFlags::POLLIN).is_err() {
                break;
            }
            while let Some(seen) = self.events.pop_front() {
                match (seen, &mut stdin) {
                    (Seen::Data(d), Some(to)) => to.write_all(&d).unwrap(),
                    (Seen::Eof, _) => stdin = None,
                    _ => {}
                }
            }
        }
        drop(stdin);
        let code = child.wait().unwrap().code().unwrap_or(255);
        self.end(code as u32);
    }
}
