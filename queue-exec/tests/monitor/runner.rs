//! The fake session as a runner of jobs: does what the first word of a run says.

use crate::fake::{TREE, adopt, tell};
use queue_exec::client;
use queue_exec::protocol::{FromRunner, FromSession, JobKey, PACKET_MAX, Reply, ToRunner, ToSession};
use queue_exec::ticket::Nonce;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::process::{Child, Command, Stdio};

/// For whom it was hired.
pub(crate) struct Hired {
    pub(crate) nonce: Nonce,
    pub(crate) socket: String,
    /// Told with each outcome.
    pub(crate) hello: String,
}

struct Runner {
    monitor: Option<OwnedFd>,
    hired: Hired,
    /// The job that runs: its key, its first word, and what it has said of it.
    job: Option<(JobKey, String, Vec<u8>)>,
    /// What it said last of a job that is over.
    last: Option<FromRunner>,
    /// A process of the job.
    child: Option<Child>,
    /// What it was told meanwhile.
    heard: String,
}

pub(crate) fn run(monitor: OwnedFd, hired: Hired) {
    let mut r = Runner {
        monitor: Some(monitor),
        hired,
        job: None,
        last: None,
        child: None,
        heard: String::new(),
    };
    r.say(&FromSession::Running);
    let mut packet = vec![0; PACKET_MAX];
    loop {
        if r.monitor.is_none() && !r.come_back() {
            return;
        }
        let Some(fd) = &r.monitor else { continue };
        if !readable(fd, r.child.is_some()) {
            r.look_after_child();
            continue;
        }
        match client::receive(fd.as_fd(), &mut packet) {
            Ok((n @ 1.., fd)) => {
                let Ok(ToSession::Job(m)) = ToSession::decode(&packet[..n]) else {
                    return;
                };
                if !r.hear(m, fd) {
                    return;
                }
            }
            _ => r.monitor = None,
        }
    }
}

fn readable(fd: &OwnedFd, soon: bool) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let timeout = if soon {
        PollTimeout::from(20u8)
    } else {
        PollTimeout::NONE
    };
    poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout).is_ok_and(|n| n > 0)
}

impl Runner {
    fn say(&mut self, m: &FromSession) {
        tell(self.monitor.as_ref(), m);
    }

    fn tell(&mut self, m: FromRunner) {
        if matches!(m, FromRunner::Ended { .. }) {
            self.last = Some(m.clone());
        }
        self.say(&FromSession::Job(m));
    }

    /// The monitor has gone: whoever has nothing to tell the next one goes, too.
    fn come_back(&mut self) -> bool {
        if self.job.is_none() && self.last.is_none() {
            return false;
        }
        match adopt(&self.hired.socket, self.hired.nonce) {
            Some((fd, Reply::Done)) => self.monitor = Some(fd),
            Some(_) => return false,
            // The test is over.
            None if !std::path::Path::new(&self.hired.socket).exists() => return false,
            None => {
                std::thread::sleep(std::time::Duration::from_millis(20));
                return true;
            }
        }
        match (&self.job, &self.last) {
            (Some((key, word, said)), _) if word != "mute" => {
                let (key, running) = (*key, said.clone());
                self.tell(FromRunner::Started { key, running });
            }
            (None, Some(last)) => self.tell(last.clone()),
            _ => {}
        }
        true
    }

    /// `false` to go.
    fn hear(&mut self, m: ToRunner, fd: Option<OwnedFd>) -> bool {
        match m {
            ToRunner::Hire { .. } => return false,
            ToRunner::Job {
                key,
                run,
                params,
                lease,
            } => {
                let run = match fd {
                    Some(fd) => {
                        let mut word = [0; 2];
                        File::from(fd).read_exact_at(&mut word, 0).unwrap();
                        word.to_vec()
                    }
                    None => run,
                };
                let text = String::from_utf8_lossy(&run).into_owned();
                let word = text.split(' ').next().unwrap_or_default().to_owned();
                self.job = Some((key, word.clone(), Vec::new()));
                return self.begin(key, &word, &params, lease);
            }
            ToRunner::End {
                key, signal, text, ..
            } => {
                let Some((k, word, _)) = &self.job else {
                    return true;
                };
                assert_eq!(*k, key);
                match (word.as_str(), signal) {
                    ("deaf" | "deaftree", 0) => {}
                    ("tree", 0) => {
                        self.over(key, text, true);
                    }
                    (_, 0) => self.over(key, text, false),
                    (_, n) => self.heard.push_str(&format!(", signal {n}")),
                }
            }
            ToRunner::Lease { key, lease } => {
                assert!(self.job.as_ref().is_some_and(|(k, ..)| *k == key));
                self.heard.push_str(&format!(", lease {lease}"));
            }
            ToRunner::Deliver { job, run, from } => match from.as_str() {
                "dies" => return false,
                _ => {
                    let failed = format!("{job} {} {from} {}", run.len(), self.hired.hello);
                    self.tell(FromRunner::Delivered {
                        failed,
                        hopeless: from.is_empty(),
                    });
                }
            },
        }
        true
    }

    fn started(&mut self, key: JobKey, running: &str) {
        let running = running.as_bytes().to_vec();
        if let Some((_, _, said)) = &mut self.job {
            said.clone_from(&running);
        }
        self.tell(FromRunner::Started { key, running });
    }

    fn over(&mut self, key: JobKey, text: String, last: bool) {
        self.job = None;
        let outcome = format!("{text}{}", std::mem::take(&mut self.heard)).into_bytes();
        self.tell(FromRunner::Ended { key, outcome, last });
    }

    fn begin(&mut self, key: JobKey, word: &str, params: &[u8], lease: u64) -> bool {
        let pid = std::process::id();
        match word {
            "ok" => {
                self.started(key, "runs");
                let params = String::from_utf8_lossy(params);
                let text = format!("{pid} {params} {lease} {}", self.hired.hello);
                self.over(key, text, false);
            }
            "die" => {
                self.started(key, "runs");
                return false;
            }
            "stop" => {
                self.started(key, "runs");
                self.tell(FromRunner::Stopped { key, stopped: true });
            }
            // A tree with a process that has left it.
            "tree" => {
                let mut child = Command::new("sh")
                    .args(["-c", TREE])
                    .stdin(Stdio::null())
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap();
                let mut pids = String::new();
                child.stdout.take().unwrap().read_to_string(&mut pids).unwrap();
                // It is the monitor's to end.
                std::mem::forget(child);
                let pids: Vec<&str> = pids.split_whitespace().collect();
                self.started(key, &pids.join(" "));
            }
            "deaftree" => {
                self.child = Command::new("sleep").arg("1000").spawn().ok();
                self.started(key, "runs");
            }
            "mute" => {}
            _ => self.started(key, "runs"),
        }
        true
    }

    fn look_after_child(&mut self) {
        if let Some(child) = &mut self.child
            && !matches!(child.try_wait(), Ok(None))
        {
            self.child = None;
            if let Some((key, ..)) = self.job {
                self.over(key, "its tree is gone".into(), false);
            }
        }
    }
}
