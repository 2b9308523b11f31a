//! Attempts that run here: how they begin, what their sessions say of them, how they are ended. Knows attempts and
//! the journal; which session runs one is `runners`' business.

use super::super::Monitor;
use super::super::events::Timer;
use super::super::log::log;
use super::super::sessions::Phase;
use super::check::Run;
use super::runners::{Ending, Wanted, What, Work};
use queue_exec::protocol::{FromRunner, JobKey, JobReply, Refusal, Reply, ToRunner, ToSession};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// An attempt that was to end, and has not, loses its tree after this: its session's own steps take 5 s.
const TREE_AFTER: Duration = Duration::from_secs(15);
/// And its session after that.
const SESSION_AFTER: Duration = Duration::from_secs(5);
/// A session ends its tree when the lease is over; we do if it does not within this, in milliseconds.
const LEASE_SLACK: u64 = 5000;
/// Number of that cause, as sessions and leaders count them.
const CAUSE_LEASE: u8 = 12;
/// Attempts that are here at a time, ended ones included. The daemon's queue of events has room for them.
const ATTEMPTS_MAX: usize = 8000;
/// A session that was taken back says within this how far its job is.
const SAY_WITHIN: Duration = Duration::from_secs(60);
const SIGNAL_MAX: u8 = 64;

/// An attempt, for people: `12.3` is task 3 of job 12.
fn name(key: JobKey) -> String {
    match key.task {
        0 => format!("attempt {} of job {}", key.attempt, key.job),
        task => format!("attempt {} of job {}.{task}", key.attempt, key.job),
    }
}

/// Milliseconds of `CLOCK_BOOTTIME`, by which leases are counted.
fn boottime_ms() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map_or(0, |t| {
        t.tv_sec().unsigned_abs() * 1000 + t.tv_nsec().unsigned_abs() / 1_000_000
    })
}

/// What the daemon sent with [`queue_exec::protocol::JobRequest::Run`].
pub(super) struct Asked {
    pub(super) key: JobKey,
    pub(super) warrant: Vec<u8>,
    pub(super) source_cert: Vec<u8>,
    pub(super) run: Vec<u8>,
    pub(super) fd: Option<OwnedFd>,
    pub(super) params: Vec<u8>,
    pub(super) lease: u64,
    pub(super) note: Vec<u8>,
}

impl Monitor {
    // ---- Asked by the daemon -------------------------------------------------------------------------

    pub(super) fn run_requested(&mut self, conn: u32, request: u32, asked: Asked) {
        match self.check_attempt(asked) {
            Ok((checked, run, what)) => self.place(Wanted {
                conn,
                request,
                since: Instant::now(),
                checked,
                run,
                what,
            }),
            Err((code, text)) => {
                log!("job refused: {text}");
                self.refuse(conn, request, code, &text);
            }
        }
    }

    /// Everything that can be said against an attempt.
    fn check_attempt(
        &mut self,
        asked: Asked,
    ) -> Result<(std::rc::Rc<super::check::Checked>, Run, What), (Refusal, String)> {
        let key = asked.key;
        if key.attempt == 0 {
            return Err((Refusal::Denied, format!("{}: attempts count from 1", name(key))));
        }
        let run = Run::new(asked.run, asked.fd)?;
        let checked = self.check_run(&asked.warrant, &asked.source_cert, &run)?;
        let waits =
            |what: &What| matches!(what, What::Job { key: k, .. } if (k.job, k.task) == (key.job, key.task));
        if self.jobs.journal.seen(key) || self.jobs.waiting.iter().any(|w| waits(&w.what)) {
            let text = format!("{}, or a newer one, was here before", name(key));
            return Err((Refusal::Denied, text));
        }
        self.room_for_one()?;
        if self.jobs.journal.attempts().len() >= ATTEMPTS_MAX {
            let text = format!("{ATTEMPTS_MAX} attempts are here, and their ends not taken note of yet");
            return Err((Refusal::Busy, text));
        }
        let what = What::Job {
            key,
            params: asked.params,
            lease: asked.lease,
            note: asked.note,
        };
        Ok((checked, run, what))
    }

    /// Whether one more may run.
    pub(in crate::monitor) fn room_for_one(&self) -> Result<(), (Refusal, String)> {
        let waiting = self.parked.starts.len() + self.jobs.waiting.len();
        let max = self.policy.max_sessions;
        // The first figure is cheap, and mostly enough.
        if self.sessions.len() + waiting >= max && self.live_sessions() + waiting >= max {
            let text = format!(
                "{} runs as many sessions as it may (max-sessions {max})",
                self.host_name()
            );
            return Err((Refusal::Busy, text));
        }
        Ok(())
    }

    pub(super) fn end_requested(
        &mut self,
        conn: u32,
        request: u32,
        key: JobKey,
        signal: u8,
        cause: u8,
        text: String,
    ) {
        match self.end_attempt(key, signal, cause, text) {
            Ok(()) => self.reply(conn, request, &Reply::Done),
            Err((code, text)) => self.refuse(conn, request, code, &text),
        }
    }

    fn end_attempt(
        &mut self,
        key: JobKey,
        signal: u8,
        cause: u8,
        text: String,
    ) -> Result<(), (Refusal, String)> {
        if signal > SIGNAL_MAX {
            return Err((Refusal::Denied, format!("there is no signal {signal}")));
        }
        let Some(&id) = self.jobs.running.get(&key) else {
            let waits = |w: &Wanted| matches!(w.what, What::Job { key: k, .. } if k == key);
            if signal == 0
                && let Some(at) = self.jobs.waiting.iter().position(waits)
                && let Some(w) = self.jobs.waiting.remove(at)
            {
                self.park(w.conn, false);
                self.refuse(w.conn, w.request, Refusal::Busy, "it was ended before it began");
                return Ok(());
            }
            if self.jobs.journal.get(key).is_some_and(|a| a.outcome.is_some()) {
                return Ok(());
            }
            return Err((Refusal::Policy, format!("{} does not run here", name(key))));
        };
        if signal == 0 {
            let now = Instant::now();
            if let Some(r) = self.runner(id) {
                let (tree_at, tree_killed) = match &r.ending {
                    Some(e) => (e.tree_at, e.tree_killed),
                    None => (now + TREE_AFTER, false),
                };
                r.ending = Some(Ending {
                    cause,
                    text: text.clone(),
                    tree_at,
                    session_at: tree_at + SESSION_AFTER,
                    tree_killed,
                });
            }
            self.arm_runner(id);
        }
        let end = ToSession::Job(ToRunner::End {
            key,
            signal,
            cause,
            text,
        });
        // One that does not listen is told to end when it is back, or meets its end by us.
        if self.send_to(id, &end, None) || signal == 0 {
            Ok(())
        } else {
            let text = format!(
                "the session of {} does not listen at the moment: try again",
                name(key)
            );
            Err((Refusal::Busy, text))
        }
    }

    pub(super) fn lease_requested(&mut self, conn: u32, request: u32, leases: &[(JobKey, u64)]) {
        for (key, lease) in leases {
            let Some(&id) = self.jobs.running.get(key) else {
                continue;
            };
            if let Some(r) = self.runner(id) {
                r.lease = *lease;
            }
            self.send_to(
                id,
                &ToSession::Job(ToRunner::Lease {
                    key: *key,
                    lease: *lease,
                }),
                None,
            );
            self.arm_runner(id);
        }
        self.reply(conn, request, &Reply::Done);
    }

    pub(super) fn forget_requested(&mut self, conn: u32, request: u32, mut keys: Vec<JobKey>) {
        // Nothing that runs is forgotten.
        keys.retain(|k| self.jobs.journal.get(*k).is_some_and(|a| a.outcome.is_some()));
        if !keys.is_empty() {
            self.jobs.journal.forgotten(keys);
        }
        self.reply(conn, request, &Reply::Done);
    }

    /// The daemon is told everything that is here.
    pub(in crate::monitor) fn tell_attempts(&mut self, conn: u32) {
        let life = self.jobs.journal.life();
        let mut events = vec![JobReply::Life { life }];
        for (key, a) in self.jobs.journal.attempts() {
            match &a.outcome {
                Some(outcome) => events.push(JobReply::Ended {
                    key: *key,
                    outcome: outcome.clone(),
                }),
                None => {
                    events.extend(self.started(*key));
                    if a.stopped {
                        events.push(JobReply::Stopped {
                            key: *key,
                            stopped: true,
                        });
                    }
                }
            }
        }
        events.push(JobReply::Told);
        for e in events {
            self.reply(conn, 0, &Reply::Job(e));
        }
    }

    fn started(&self, key: JobKey) -> Option<JobReply> {
        let a = self.jobs.journal.get(key)?;
        Some(JobReply::Started {
            key,
            login: a.login.clone(),
            pid: a.process.0.unsigned_abs(),
            running: a.running.clone(),
            note: a.note.clone(),
            since: a.since,
        })
    }

    // ---- Said by a session ---------------------------------------------------------------------------

    /// What a runner says; `false` if it is of no more use.
    pub(in crate::monitor) fn runner_says(&mut self, id: u32, m: FromRunner) -> bool {
        let Some(work) = self.runner(id).map(|r| r.work.clone()) else {
            return false;
        };
        // What it says of another attempt than the one that it has was said to an earlier monitor, too.
        let of = |key: JobKey| work == Work::Job(key);
        match m {
            FromRunner::Started { key, running } if of(key) => {
                self.heard_of(id);
                let first = self.jobs.journal.get(key).is_some_and(|a| a.running.is_empty());
                if !running.is_empty() && first {
                    self.jobs.journal.started(key, running);
                    if let Some(event) = self.started(key) {
                        self.tell_watchers(&Reply::Job(event));
                    }
                }
            }
            FromRunner::Stopped { key, stopped }
                if of(key) && self.jobs.journal.get(key).is_some_and(|a| a.stopped != stopped) =>
            {
                self.jobs.journal.stopped(key, stopped);
                self.tell_watchers(&Reply::Job(JobReply::Stopped { key, stopped }));
            }
            FromRunner::Ended { key, outcome, last } if of(key) => {
                self.heard_of(id);
                if last {
                    if let Some(r) = self.runner(id) {
                        r.work = Work::Last(key, outcome);
                        r.ending = None;
                        r.lease = 0;
                    }
                    // It is killed with its tree, if it is not faster: its end is the end of the attempt.
                    self.kill_session(id);
                } else {
                    self.attempt_over(key, outcome);
                    self.runner_free(id, true);
                }
            }
            FromRunner::Delivered { failed, hopeless } => {
                if let Work::Deliver(conn, request) = work {
                    self.park(conn, false);
                    self.reply(
                        conn,
                        request,
                        &Reply::Job(JobReply::Delivered { failed, hopeless }),
                    );
                    self.dismiss(id);
                }
            }
            _ => {}
        }
        true
    }

    fn heard_of(&mut self, id: u32) {
        if let Some(s) = self.sessions.get_mut(&id) {
            s.deadline = None;
        }
    }

    /// Nothing of an attempt runs any more.
    pub(in crate::monitor) fn attempt_over(&mut self, key: JobKey, outcome: Vec<u8>) {
        self.jobs.running.remove(&key);
        self.jobs.journal.ended(key, outcome.clone());
        self.tell_watchers(&Reply::Job(JobReply::Ended { key, outcome }));
    }

    /// A runner has been taken back.
    pub(in crate::monitor) fn runner_adopted(&mut self, id: u32) {
        let Some(r) = self.runner(id) else { return };
        let (lease, ending) = (r.lease, r.ending.as_ref().map(|e| (e.cause, e.text.clone())));
        let Some(key) = r.job() else { return };
        if lease != 0 {
            self.send_to(id, &ToSession::Job(ToRunner::Lease { key, lease }), None);
        }
        if let Some((cause, text)) = ending {
            let end = ToRunner::End {
                key,
                signal: 0,
                cause,
                text,
            };
            self.send_to(id, &ToSession::Job(end), None);
        }
        if self.jobs.journal.get(key).is_some_and(|a| a.running.is_empty()) {
            // Perhaps it never got the job.
            self.set_deadline(id, SAY_WITHIN);
        }
    }

    /// A runner has died: what it leaves to be said once its tree is gone.
    pub(in crate::monitor) fn runner_died(&mut self, work: Work) -> Option<(JobKey, Vec<u8>)> {
        match work {
            Work::Job(key) => {
                log!("{}: its session has died", name(key));
                Some((key, Vec::new()))
            }
            Work::Last(key, outcome) => Some((key, outcome)),
            Work::Deliver(conn, request) => {
                self.park(conn, false);
                let failed = format!("the session on {} ended before it was done", self.host_name());
                let hopeless = false;
                self.reply(
                    conn,
                    request,
                    &Reply::Job(JobReply::Delivered { failed, hopeless }),
                );
                None
            }
            Work::Idle(_) | Work::Over => None,
        }
    }

    // ---- Time ----------------------------------------------------------------------------------------

    /// Plans the next look at a runner whose job is to end, now or with its lease.
    pub(in crate::monitor) fn arm_runner(&mut self, id: u32) {
        let Some(r) = self.runner(id) else { return };
        let now = Instant::now();
        let next = match &r.ending {
            Some(e) if e.tree_killed => e.session_at,
            Some(e) => e.tree_at,
            None if r.lease == 0 => return,
            None => {
                let left = r.lease.saturating_add(LEASE_SLACK).saturating_sub(boottime_ms());
                // One far away is looked at again.
                now + Duration::from_millis(left.min(3_600_000))
            }
        };
        if r.timer.is_none_or(|t| t > next) {
            r.timer = Some(next);
            self.events
                .after(next.saturating_duration_since(now), Timer::Runner(id));
        }
    }

    pub(in crate::monitor) fn runner_timer(&mut self, id: u32) {
        let now = Instant::now();
        let Some(Phase::Runner(r)) = self.sessions.get_mut(&id).map(|s| &mut s.phase) else {
            return;
        };
        if r.timer.is_some_and(|t| t > now) {
            // An earlier one, for what is over.
            return;
        }
        r.timer = None;
        let Some(key) = r.job() else { return };
        if r.ending.is_none() && r.lease != 0 && r.lease.saturating_add(LEASE_SLACK) <= boottime_ms() {
            r.ending = Some(Ending {
                cause: CAUSE_LEASE,
                text: "its lease is over".to_owned(),
                tree_at: now,
                session_at: now + SESSION_AFTER,
                tree_killed: false,
            });
        }
        match &mut r.ending {
            Some(e) if e.session_at <= now => {
                log!(
                    "{}: its session is killed, because it does not end it: {}",
                    name(key),
                    e.text
                );
                self.kill_session(id);
            }
            Some(e) if e.tree_at <= now && !e.tree_killed => {
                e.tree_killed = true;
                log!(
                    "{}: its tree is killed, because it does not end: {}",
                    name(key),
                    e.text
                );
                self.kill_others(id);
                self.arm_runner(id);
            }
            _ => self.arm_runner(id),
        }
    }
}
