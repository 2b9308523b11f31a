//! Asks the zygote (`queue-session --zygote`) for new session processes: it has everything loaded and forks
//! in a tenth of the time that executing the program takes. It answers by packets, so that nobody waits for
//! it; if it fails, sessions are executed one by one. Knows the zygote; not what a session is for.

use super::Monitor;
use super::cgroup::Cgroup;
use super::events::{Source, Timer};
use super::log::log;
use super::spawn::{Spawned, channel, spawn};
use super::tree;
use queue_exec::client;
use queue_exec::codec::Reader;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// An answer takes a fraction of a millisecond; after this the zygote has failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// So many that failed before they gave a session, and no further one is tried.
const HOPELESS: u32 = 2;

/// A session that was asked for.
#[derive(Debug)]
struct Pending {
    channel: OwnedFd,
    cgroup: Option<Cgroup>,
    since: Instant,
}

/// The zygote, if it runs, and what it was asked for.
#[derive(Debug, Default)]
pub(super) struct Zygote {
    process: Option<Spawned>,
    pending: VecDeque<Pending>,
    failures: u32,
}

impl Zygote {
    /// Ends it; the next request starts a new one.
    fn end(&mut self) {
        if let Some(p) = self.process.take() {
            tree::kill_fd(&p.pidfd);
            // It holds nothing that would keep it: this is over at once.
            let id = nix::sys::wait::Id::PIDFd(p.pidfd.as_fd());
            let _ = nix::sys::wait::waitid(id, nix::sys::wait::WaitPidFlag::WEXITED);
        }
    }
}

impl Monitor {
    /// Asks for a session in this cgroup. `Ok(false)`: there is no zygote to ask.
    pub(super) fn ask_zygote(&mut self, cgroup: Option<&Cgroup>, dir: Option<&OwnedFd>) -> io::Result<bool> {
        if self.zygote.failures >= HOPELESS {
            return Ok(false);
        }
        if self.zygote.process.is_none() {
            let z = spawn(&self.program.zygote(), None)?;
            self.events.add(z.channel.as_fd(), Source::Zygote)?;
            self.zygote.process = Some(z);
        }
        let Some(z) = &self.zygote.process else {
            return Ok(false);
        };
        let (ours, theirs) = channel()?;
        let kind: &[u8] = if dir.is_some() { b"C" } else { b"F" };
        let sent = client::send(z.channel.as_fd(), kind, Some(theirs.as_fd())).and_then(|()| match dir {
            Some(dir) => client::send(z.channel.as_fd(), b"D", Some(dir.as_fd())),
            None => Ok(()),
        });
        if let Err(e) = sent {
            self.zygote_failed(&e.to_string());
            return Ok(false);
        }
        let since = Instant::now();
        self.zygote.pending.push_back(Pending {
            channel: ours,
            cgroup: cgroup.cloned(),
            since,
        });
        self.events.after(ANSWER_WITHIN, Timer::Zygote);
        Ok(true)
    }

    /// It has answered, or gone.
    pub(super) fn zygote_ready(&mut self) {
        let Some(z) = &self.zygote.process else { return };
        let mut buf = [0; 64];
        let (n, pidfd) = match client::receive(z.channel.as_fd(), &mut buf) {
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return,
            Err(e) => return self.zygote_failed(&e.to_string()),
            Ok((0, _)) => return self.zygote_failed("it ended"),
            Ok(got) => got,
        };
        let number = |magic: &[u8]| {
            let mut r = Reader::new(&buf[..n], magic, "answer of the zygote").ok()?;
            r.u32().ok()
        };
        match (number(b"P"), number(b"E"), pidfd) {
            (Some(pid), None, Some(pidfd)) => {
                let Some(p) = self.zygote.pending.pop_front() else {
                    return self.zygote_failed("it forked unasked");
                };
                self.zygote.failures = 0;
                let spawned = Spawned {
                    pid: pid as i32,
                    pidfd,
                    channel: p.channel,
                };
                if let Err(e) = self.session_spawned(spawned, p.cgroup) {
                    self.pool_lost(&format!("cannot watch a session process: {e}"));
                }
            }
            (None, Some(errno), None) => {
                if let Some(p) = self.zygote.pending.pop_front() {
                    p.cgroup.map(|c| c.remove());
                }
                let e = io::Error::from_raw_os_error(errno as i32);
                self.pool_lost(&format!("cannot fork a session process: {e}"));
            }
            _ => self.zygote_failed("it said what it should not"),
        }
    }

    pub(super) fn zygote_timer(&mut self) {
        if self
            .zygote
            .pending
            .front()
            .is_some_and(|p| p.since.elapsed() >= ANSWER_WITHIN)
        {
            self.zygote_failed("it does not answer");
        }
    }

    fn zygote_failed(&mut self, why: &str) {
        log!("the zygote has failed: {why}");
        self.zygote.failures += 1;
        self.end_zygote();
        for p in std::mem::take(&mut self.zygote.pending) {
            p.cgroup.map(|c| c.remove());
            self.pool.starting = self.pool.starting.saturating_sub(1);
        }
        // From another one, or executed.
        self.fill_pool();
    }

    /// The site's configuration of names and accounts may have changed: the next session is forked from a zygote
    /// that has read it anew.
    pub(super) fn renew_zygote(&mut self) {
        if self.zygote.pending.is_empty() {
            self.end_zygote();
        }
    }

    /// Ends it, and forgets what it was asked for.
    pub(super) fn end_zygote_for_good(&mut self) {
        self.end_zygote();
        for p in std::mem::take(&mut self.zygote.pending) {
            p.cgroup.map(|c| c.remove());
        }
    }

    /// Ends it.
    pub(super) fn end_zygote(&mut self) {
        if let Some(z) = &self.zygote.process {
            self.events.remove(z.channel.as_fd());
        }
        self.zygote.end();
    }
}
