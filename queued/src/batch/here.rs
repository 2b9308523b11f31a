//! What queue-exec has said of jobs on this host: said again to an agent that starts anew. And the sealed memory
//! files of large runs, made once for all tasks of an array. Knows what was said; judges nothing.

use super::Event;
use crate::engine::jobs::types::AgentInput;
use libqueue::wire::job::{Key, Outcome};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;

/// Most files kept.
const FILES: usize = 32;

#[derive(Debug, Default)]
struct Job {
    started: bool,
    running: Vec<u8>,
    stopped: bool,
    lease: u64,
    ended: Option<Vec<u8>>,
}

/// The mirror.
#[derive(Debug, Default)]
pub(super) struct Here {
    life: Option<[u8; 16]>,
    told: bool,
    jobs: BTreeMap<Key, Job>,
}

impl Here {
    /// Remembers it, and translates it for the agent.
    pub(super) fn take(&mut self, event: Event, out: &mut Vec<AgentInput>) {
        match event {
            Event::Up(life) => {
                self.jobs.clear();
                (self.life, self.told) = (Some(life), false);
                out.push(AgentInput::ExecUp(life));
            }
            Event::Down => {
                self.jobs.clear();
                (self.life, self.told) = (None, false);
                out.push(AgentInput::ExecDown);
            }
            Event::Told => {
                self.told = true;
                out.push(AgentInput::ExecTold);
            }
            Event::Started(key, running, lease) => {
                let job = self.jobs.entry(key).or_default();
                job.started = true;
                if lease > 0 && job.lease == 0 {
                    job.lease = lease;
                    // The agent knows it of those that it started itself.
                    if !self.told {
                        out.push(AgentInput::ExecLease(key, lease));
                    }
                }
                out.push(AgentInput::ExecStarted(key, decode(&running)));
                job.running = running;
            }
            Event::Stopped(key, stopped) => {
                self.jobs.entry(key).or_default().stopped = stopped;
                out.push(AgentInput::ExecStopped(key, stopped));
            }
            Event::Ended(key, outcome) => {
                out.push(AgentInput::ExecEnded(key, decode(&outcome)));
                let job = self.jobs.entry(key).or_default();
                *job = Job {
                    ended: Some(outcome),
                    ..Job::default()
                };
            }
            Event::NotRun(key, text, elsewhere) => out.push(AgentInput::NotRun(key, text, elsewhere)),
            Event::Delivered(number, failed, hopeless) => {
                out.push(AgentInput::Delivered(libqueue::wire::job::Delivered {
                    number,
                    failed,
                    hopeless,
                }));
            }
        }
    }

    /// The leader has these outcomes.
    pub(super) fn forget(&mut self, keys: &[Key]) {
        for k in keys {
            self.jobs.remove(k);
        }
    }

    /// All of it again.
    pub(super) fn again(&self) -> Vec<AgentInput> {
        let Some(life) = self.life else {
            return Vec::new();
        };
        let mut out = vec![AgentInput::ExecUp(life)];
        for (key, job) in &self.jobs {
            if job.lease > 0 {
                out.push(AgentInput::ExecLease(*key, job.lease));
            }
            if job.started {
                out.push(AgentInput::ExecStarted(*key, decode(&job.running)));
            }
            if job.stopped {
                out.push(AgentInput::ExecStopped(*key, true));
            }
            if let Some(outcome) = &job.ended {
                out.push(AgentInput::ExecEnded(*key, decode::<Outcome>(outcome)));
            }
        }
        if self.told {
            out.push(AgentInput::ExecTold);
        }
        out
    }
}

/// What queue-exec passed on; empty, or of a version that we do not know: nothing.
fn decode<M: prost::Message + Default>(bytes: &[u8]) -> Option<M> {
    if bytes.is_empty() {
        return None;
    }
    M::decode(bytes)
        .inspect_err(|e| tracing::error!("queue-exec passed on what cannot be read: {e}"))
        .ok()
}

/// Runs that are too large for a packet, by job.
#[derive(Debug, Default)]
pub(super) struct Files(BTreeMap<u64, OwnedFd>);

impl Files {
    /// The sealed file of a job's run.
    ///
    /// # Errors
    /// As the system says: no memory, no descriptors.
    pub(super) fn get(&mut self, job: u64, run: &[u8]) -> io::Result<OwnedFd> {
        if let Some(fd) = self.0.get(&job) {
            return fd.try_clone();
        }
        let fd = sealed(run)?;
        let again = fd.try_clone()?;
        if self.0.len() >= FILES {
            // The job with the lowest number is nearest to its end.
            self.0.pop_first();
        }
        self.0.insert(job, fd);
        Ok(again)
    }

    /// No more attempts of it come.
    pub(super) fn remove(&mut self, job: u64) {
        self.0.remove(&job);
    }
}

fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = memfd_create(c"queue-run", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    let all =
        SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&file, FcntlArg::F_ADD_SEALS(all))?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use libqueue::wire::job::Running;
    use prost::Message as _;

    fn key(job: u64) -> Key {
        Key {
            job,
            task: 0,
            attempt: 1,
        }
    }

    #[test]
    fn a_new_agent_is_told_what_is_still_true() {
        let mut h = Here::default();
        let mut out = Vec::new();
        let running = Running {
            pid: 7,
            ..Running::default()
        };
        let outcome = Outcome {
            code: Some(0),
            ..Outcome::default()
        };
        for e in [
            Event::Up([1; 16]),
            Event::Started(key(1), Vec::new(), 5),
            Event::Started(key(2), Vec::new(), 0),
            Event::Told,
            Event::Started(key(1), running.encode_to_vec(), 5),
            Event::Stopped(key(1), true),
            Event::Ended(key(2), outcome.encode_to_vec()),
            Event::Ended(key(3), Vec::new()),
        ] {
            h.take(e, &mut out);
        }
        assert_eq!(out.len(), 9);
        h.forget(&[key(3)]);
        assert_eq!(
            h.again(),
            [
                AgentInput::ExecUp([1; 16]),
                AgentInput::ExecLease(key(1), 5),
                AgentInput::ExecStarted(key(1), Some(running)),
                AgentInput::ExecStopped(key(1), true),
                AgentInput::ExecEnded(key(2), Some(outcome)),
                AgentInput::ExecTold,
            ]
        );
        h.take(Event::Down, &mut out);
        assert!(h.again().is_empty());
    }

    #[test]
    fn a_large_run_is_sealed_and_kept() {
        use std::os::unix::fs::FileExt as _;
        let mut f = Files::default();
        let a = File::from(f.get(1, b"hello").unwrap());
        let b = File::from(f.get(1, b"never looked at").unwrap());
        let mut buf = [0; 5];
        b.read_exact_at(&mut buf, 0).unwrap();
        assert_eq!(&buf, b"hello");
        assert!(a.write_at(b"x", 0).is_err());
        for job in 2..100 {
            f.get(job, b"x").unwrap();
        }
        assert_eq!(f.0.len(), FILES);
    }
}
