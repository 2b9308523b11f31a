//! Keeps session processes ready, so that a launch does not wait for one to start. Knows how many; not for
//! whom.

use super::Monitor;
use super::cgroup::Cgroup;
use super::cleanup::Task;
use super::events::{Source, Timer};
use super::log::log;
use super::peer::has_ended;
use super::sessions::{Phase, Session};
use super::spawn::{Spawned, spawn};
use super::tree;
use queue_exec::codec::hex;
use queue_exec::state::random;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// After a launch took a warm session, its replacement is not started before this: the launch in progress
/// should have the processors. A short command is over by then, and its end starts the replacement.
const REPLENISH_AFTER: Duration = Duration::from_millis(5);
/// A session process that is not ready by then has failed.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// After a failure the next try waits, longer each time.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(30);
/// Stopping waits no longer for session processes that it ended.
const STOP_WITHIN: Duration = Duration::from_millis(500);
/// So many failures in a row, and waiting launches are told.
const HOPELESS: u32 = 3;

/// Sessions that wait to be claimed.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// The oldest is taken first.
    pub(super) warm: VecDeque<u32>,
    pub(super) starting: usize,
    failures: u32,
    retry_at: Option<Instant>,
    armed: bool,
}

impl Monitor {
    /// Starts what is missing.
    pub(super) fn fill_pool(&mut self) {
        while self.missing() > 0 && self.start_one() {}
    }

    /// Starts one of those that are missing.
    pub(super) fn fill_pool_by_one(&mut self) {
        if self.missing() > 0 {
            self.start_one();
        }
        self.pool_is_short();
    }

    /// A warm session was taken, or ended: see to it soon.
    pub(super) fn pool_is_short(&mut self) {
        if self.missing() > 0 && !self.pool.armed {
            self.pool.armed = true;
            let backoff = self
                .pool
                .retry_at
                .map_or(Duration::ZERO, |t| t.saturating_duration_since(Instant::now()));
            self.events.after(backoff.max(REPLENISH_AFTER), Timer::Pool);
        }
    }

    pub(super) fn pool_timer(&mut self) {
        self.pool.armed = false;
        self.fill_pool_by_one();
    }

    fn missing(&self) -> usize {
        let wanted = self
            .policy
            .warm
            .max(self.parked.starts.len() + self.jobs.waiting());
        wanted.saturating_sub(self.pool.warm.len() + self.pool.starting)
    }

    /// Whether starting sessions fails at the moment.
    pub(super) fn pool_fails(&self) -> bool {
        self.pool.failures >= HOPELESS
    }

    /// Starts a session process; `false` if that failed or is not to be tried yet.
    fn start_one(&mut self) -> bool {
        if self.pool.retry_at.is_some_and(|t| t > Instant::now()) {
            self.pool_is_short();
            return false;
        }
        match self.start_session() {
            Ok(()) => {
                self.pool.starting += 1;
                true
            }
            Err(e) => {
                self.pool_failed(&format!("cannot start a session process: {e}"));
                false
            }
        }
    }

    fn start_session(&mut self) -> io::Result<()> {
        let (cgroup, dir): (Option<Cgroup>, Option<OwnedFd>) = match self
            .cgroups
            .as_ref()
            .map(|c| c.make(&format!("s-{}", hex(&random::<8>()))))
            .transpose()
        {
            Ok(made) => made.unzip(),
            Err(e) => {
                log!("no cgroup for a session: {e}");
                (None, None)
            }
        };
        match self.ask_zygote(cgroup.as_ref(), dir.as_ref()) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(e) => log!("no zygote: {e}"),
        }
        match spawn(&self.program, dir.as_ref().map(|d| d.as_fd())) {
            Ok(s) => self.session_spawned(s, cgroup),
            Err(e) => {
                cgroup.map(|c| c.remove());
                Err(e)
            }
        }
    }

    /// A session process is there, if not ready yet.
    pub(super) fn session_spawned(&mut self, spawned: Spawned, cgroup: Option<Cgroup>) -> io::Result<()> {
        let id = self.new_id();
        let start = tree::stat(spawned.pid).map_or(0, |s| s.start);
        let watched = self
            .events
            .add(spawned.channel.as_fd(), Source::Channel(id))
            .and_then(|()| self.events.add(spawned.pidfd.as_fd(), Source::Death(id)));
        if let Err(e) = watched {
            tree::kill_fd(&spawned.pidfd);
            return Err(e);
        }
        let session = Session {
            process: (spawned.pid, start),
            pidfd: spawned.pidfd,
            channel: Some(spawned.channel),
            cgroup,
            children: Vec::new(),
            phase: Phase::Starting,
            killing: false,
            deadline: None,
            unwanted: None,
        };
        self.sessions.insert(id, session);
        self.set_deadline(id, READY_WITHIN);
        Ok(())
    }

    /// A session process is ready: a waiting launch gets it, else it waits.
    pub(super) fn session_ready(&mut self, id: u32) {
        if let Some(s) = self.sessions.get_mut(&id)
            && s.cgroup.is_none()
        {
            // Its init, which holds its tree together.
            s.children = tree::children(s.process.0);
        }
        self.pool.starting -= 1;
        self.pool.failures = 0;
        self.pool.retry_at = None;
        match self.parked.starts.pop_front() {
            Some(start) => {
                self.park(start.conn, false);
                self.hand_over(id, start);
            }
            None if self.hire_for_first(id) => {}
            None => self.pool.warm.push_back(id),
        }
    }

    /// One that was not claimed has ended.
    pub(super) fn unclaimed_died(&mut self, id: u32, was_starting: bool) {
        if was_starting {
            self.pool.starting -= 1;
        }
        self.pool.warm.retain(|w| *w != id);
        let when = if was_starting {
            "before it was ready"
        } else {
            "while it waited"
        };
        self.pool_failed(&format!("a session process ended {when}"));
    }

    /// We are told to stop: who waits to be claimed ends now. Claimed sessions and jobs live on, and
    /// find the next monitor.
    pub(super) fn end_unclaimed(&mut self) {
        self.end_zygote_for_good();
        let unclaimed = self.sessions.extract_if(|_, s| match &s.phase {
            Phase::Live { .. } => false,
            Phase::Runner(r) => !r.is_busy(),
            Phase::Starting | Phase::Warm { .. } => true,
        });
        let (ids, unclaimed): (Vec<u32>, Vec<Session>) = unclaimed.unzip();
        for id in ids {
            self.jobs.gone(id);
        }
        (self.pool.warm, self.pool.starting) = (VecDeque::new(), 0);
        for s in &unclaimed {
            tree::kill_fd(&s.pidfd);
            let record = match &s.phase {
                Phase::Runner(r) => Some(r.about.nonce),
                _ => None,
            };
            self.clean(Task::All, s.cgroup.clone(), vec![s.process], record, None);
        }
        self.finish_cleanups(STOP_WITHIN);
        let until = Instant::now() + STOP_WITHIN;
        for s in &unclaimed {
            while !has_ended(s.pidfd.as_fd()) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
            s.reap();
        }
        if let Some(c) = &self.cgroups {
            c.remove_if_empty();
        }
    }

    /// One that was being started will not come.
    pub(super) fn pool_lost(&mut self, why: &str) {
        self.pool.starting = self.pool.starting.saturating_sub(1);
        self.pool_failed(why);
    }

    fn pool_failed(&mut self, why: &str) {
        let delay = RETRY_FIRST
            .saturating_mul(1 << self.pool.failures.min(16))
            .min(RETRY_LONGEST);
        self.pool.failures = self.pool.failures.saturating_add(1);
        self.pool.retry_at = Some(Instant::now() + delay);
        log!("{why}; next try in {} ms", delay.as_millis());
        if self.pool.failures + 1 == HOPELESS
            && let Some(c) = self.cgroups.take()
        {
            // Linux 6.14 and later kill at birth what is forked from a cgroup that was once killed as a whole
            // into a child of it; there may be other reasons. A session without a cgroup is better than none.
            log!(
                "sessions run without cgroups of their own from now on: perhaps they cannot live in one here"
            );
            c.remove_if_empty();
        }
        if self.pool_fails() {
            self.refuse_starts("no session process can be started here: see the log of queue-exec");
        }
        self.pool_is_short();
    }
}
