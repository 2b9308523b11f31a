//! Runners: sessions that run jobs of one user, one after the other. Finds one for a job, hires one if there is
//! none, and ends those that are not needed. Knows sessions; why a job may run was decided before.

use super::super::Monitor;
use super::super::events::Timer;
use super::super::launch::unix_now_ms;
use super::super::log::log;
use super::super::record::About;
use super::super::sessions::Phase;
use super::super::tree;
use super::check::{Checked, Run};
use queue_exec::attempts::Attempt;
use queue_exec::client;
use queue_exec::codec::{Malformed, Reader, Writer};
use queue_exec::policy::Allowed;
use queue_exec::protocol::{JobKey, PACKET_MAX, Refusal, Reply, ToRunner, ToSession};
use queue_exec::state::{Identity, random};
use std::os::fd::AsFd as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A runner without a job ends after this.
const IDLE: Duration = Duration::from_secs(10);
/// A runner gets no further job when it is this old: what it knows of its account (its groups) is as old.
const AGE_MAX: Duration = Duration::from_secs(60);
/// One that was told to go, and does not, is killed.
const GO_WITHIN: Duration = Duration::from_secs(10);
/// Jobs that wait for a session process to start.
const WAITING_MAX: usize = 1024;
/// So long.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// A delivery takes no longer.
pub(super) const DELIVERY_MAX: Duration = Duration::from_secs(600);

/// A session that was hired.
#[derive(Debug)]
pub(in crate::monitor) struct Runner {
    /// For whom, as with sessions.
    pub(in crate::monitor) about: About,
    /// Under which keys and policy, and what it checked of its account. `None`: an earlier monitor's.
    hired: Option<(Rc<Identity>, Allowed, Instant)>,
    pub(in crate::monitor) work: Work,
    /// Somebody wants its job ended.
    pub(super) ending: Option<Ending>,
    /// End of its job's lease, in milliseconds of `CLOCK_BOOTTIME`; 0: none that is known.
    pub(super) lease: u64,
    /// When its timer is due, if it has one.
    pub(super) timer: Option<Instant>,
}

/// What a runner does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::monitor) enum Work {
    /// Waits for a job since.
    Idle(Instant),
    /// Runs it.
    Job(JobKey),
    /// The same, and what is left of its tree is being killed: its outcome is known.
    Last(JobKey, Vec<u8>),
    /// Brings output home, for this request on this connection.
    Deliver(u32, u32),
    /// Goes.
    Over,
}

/// An end under way.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) cause: u8,
    pub(super) text: String,
    /// Its tree is killed then.
    pub(super) tree_at: Instant,
    /// And it itself.
    pub(super) session_at: Instant,
    pub(super) tree_killed: bool,
}

/// What a runner is wanted for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) conn: u32,
    pub(super) request: u32,
    pub(super) since: Instant,
    pub(super) checked: Rc<Checked>,
    pub(super) run: Run,
    pub(super) what: What,
}

/// Kinds of work.
#[derive(Debug)]
pub(super) enum What {
    Job {
        key: JobKey,
        params: Vec<u8>,
        lease: u64,
        note: Vec<u8>,
    },
    Deliver {
        job: u64,
        from: String,
    },
}

impl Runner {
    /// Of an earlier monitor.
    pub(in crate::monitor) fn found(about: About, job: Option<JobKey>) -> Self {
        Self {
            about,
            hired: None,
            work: job.map_or(Work::Over, Work::Job),
            ending: None,
            lease: 0,
            timer: None,
        }
    }

    /// Writes down for another program what it does not hear from anybody else.
    pub(in crate::monitor) fn write(&self, w: &mut Writer) {
        let left = |at: Instant| at.saturating_duration_since(Instant::now()).as_millis() as u64;
        w.u64(self.lease).u8(u8::from(self.ending.is_some()));
        if let Some(e) = &self.ending {
            w.u8(e.cause).bytes(e.text.as_bytes());
            w.u64(left(e.tree_at)).u64(left(e.session_at));
            w.u8(u8::from(e.tree_killed));
        }
    }

    /// Reads what [`Runner::write`] wrote.
    pub(in crate::monitor) fn read(&mut self, r: &mut Reader<'_>) -> Result<(), Malformed> {
        self.lease = r.u64()?;
        if r.u8()? != 0 {
            let (cause, text) = (r.u8()?, r.text(PACKET_MAX)?);
            let now = Instant::now();
            let tree_at = now + Duration::from_millis(r.u64()?);
            let session_at = now + Duration::from_millis(r.u64()?);
            self.ending = Some(Ending {
                cause,
                text,
                tree_at,
                session_at,
                tree_killed: r.u8()? != 0,
            });
        }
        Ok(())
    }

    /// It does something: counts as a session.
    pub(in crate::monitor) fn is_busy(&self) -> bool {
        !matches!(self.work, Work::Idle(_) | Work::Over)
    }

    /// The attempt that it runs.
    pub(in crate::monitor) fn job(&self) -> Option<JobKey> {
        match self.work {
            Work::Job(key) | Work::Last(key, _) => Some(key),
            _ => None,
        }
    }

    /// Whether it can run that one: same account, same submitter, under the same keys and policy.
    fn fits(&self, c: &Checked, identity: &Rc<Identity>) -> bool {
        let w = &c.warrant;
        let same =
            (&self.about.login, &self.about.ruser, &self.about.rhost) == (&w.login, &w.user, &w.source);
        same && self.hired.as_ref().is_some_and(|(id, allowed, since)| {
            Rc::ptr_eq(id, identity) && *allowed == c.allowed && since.elapsed() < AGE_MAX
        })
    }
}

impl Monitor {
    pub(in crate::monitor) fn runner(&mut self, id: u32) -> Option<&mut Runner> {
        match self.sessions.get_mut(&id).map(|s| &mut s.phase) {
            Some(Phase::Runner(r)) => Some(r),
            _ => None,
        }
    }

    /// Gives work to a free runner, or to a new one, at once or when there is one.
    pub(super) fn place(&mut self, wanted: Wanted) {
        if matches!(wanted.what, What::Job { .. })
            && let Some(id) = self.free_runner(&wanted.checked)
        {
            return self.give(id, wanted);
        }
        match self.pool.warm.pop_front() {
            Some(id) => self.hire(id, wanted),
            None => self.wait_for_runner(wanted),
        }
    }

    /// The one that was used last: the others may end.
    fn free_runner(&mut self, c: &Checked) -> Option<u32> {
        let identity = self.trust.identity().ok()?;
        let fits = |id: &u32| match self.sessions.get(id).map(|s| &s.phase) {
            Some(Phase::Runner(r)) => r.fits(c, &identity),
            _ => false,
        };
        let at = self.jobs.idle.iter().rposition(fits)?;
        self.jobs.idle.remove(at)
    }

    fn wait_for_runner(&mut self, wanted: Wanted) {
        let full = self.jobs.waiting.len() >= WAITING_MAX || wanted.since.elapsed() >= WAIT_MAX;
        if full || self.pool_fails() {
            let text = "no session process is to be had here at the moment: try again, or another host";
            return self.refuse(wanted.conn, wanted.request, Refusal::Busy, text);
        }
        self.park(wanted.conn, true);
        self.jobs.waiting.push_back(wanted);
        self.events.after(WAIT_MAX, Timer::Starts);
        self.fill_pool();
    }

    /// A session is ready: the first job that waits gets it.
    pub(in crate::monitor) fn hire_for_first(&mut self, id: u32) -> bool {
        while let Some(wanted) = self.jobs.waiting.pop_front() {
            self.park(wanted.conn, false);
            // Whoever asked and has gone was told nothing: he may ask again, of another attempt.
            if self.conns.contains_key(&wanted.conn) {
                self.hire(id, wanted);
                return true;
            }
        }
        false
    }

    /// Gives up jobs that have waited too long, or all.
    pub(in crate::monitor) fn refuse_waiting(&mut self, all: bool, text: &str) {
        while self
            .jobs
            .waiting
            .front()
            .is_some_and(|w| all || w.since.elapsed() >= WAIT_MAX)
        {
            if let Some(w) = self.jobs.waiting.pop_front() {
                self.park(w.conn, false);
                self.refuse(w.conn, w.request, Refusal::Busy, text);
            }
        }
    }

    /// Makes a runner of a warm session. If it has just died, the job waits for the next one.
    fn hire(&mut self, id: u32, wanted: Wanted) {
        let Ok(me) = self.trust.identity() else {
            self.pool.warm.push_front(id);
            let text = "this host has lost its keys";
            return self.refuse(wanted.conn, wanted.request, Refusal::NotReady, text);
        };
        let w = &wanted.checked.warrant;
        let pam = self.policy.pam;
        let about = About {
            nonce: random(),
            login: w.login.clone(),
            ruser: w.user.clone(),
            rhost: w.source.clone(),
            since: unix_now_ms(),
            ..About::default()
        };
        let Some(s) = self.sessions.get_mut(&id) else {
            return self.wait_for_runner(wanted);
        };
        if !matches!(s.phase, Phase::Warm { .. }) || s.channel.is_none() {
            return self.wait_for_runner(wanted);
        }
        let hire = ToSession::Job(ToRunner::Hire {
            nonce: about.nonce,
            login: about.login.clone(),
            ruser: about.ruser.clone(),
            rhost: about.rhost.clone(),
            host: me.cert.name.clone(),
            pam,
            cgroup: s.cgroup.is_some(),
            uid_min: wanted.checked.allowed.uid_min,
            allow_root: wanted.checked.allowed.root,
            socket: self.layout.exec_socket().to_string_lossy().into_owned(),
            spool: self.layout.spool().join(&w.login).to_string_lossy().into_owned(),
        });
        s.phase = Phase::Runner(Box::new(Runner {
            about,
            hired: Some((me, wanted.checked.allowed, Instant::now())).filter(|_| !pam),
            work: Work::Over,
            ending: None,
            lease: 0,
            timer: None,
        }));
        // Before the session becomes anybody: whatever it starts is found by this.
        if !self.write_record(id) {
            self.kill_session(id);
            let text = "cannot write a record of the session: see the log of queue-exec";
            return self.refuse(wanted.conn, wanted.request, Refusal::Internal, text);
        }
        if self.send_to(id, &hire, None) {
            self.give(id, wanted);
        } else {
            self.kill_session(id);
            self.wait_for_runner(wanted);
        }
        self.pool_is_short();
    }

    /// Gives work to a runner that has none.
    pub(super) fn give(&mut self, id: u32, wanted: Wanted) {
        let Wanted {
            conn,
            request,
            since,
            checked,
            run,
            what,
        } = wanted;
        let process = self.sessions.get(&id).map_or((0, 0), |s| s.process);
        let (bytes, fd) = run.into_parts();
        match what {
            What::Job {
                key,
                params,
                lease,
                note,
            } => {
                let attempt = Attempt {
                    login: checked.warrant.login.clone(),
                    process,
                    since: unix_now_ms(),
                    note,
                    ..Attempt::default()
                };
                let note = attempt.note.clone();
                if let Err(e) = self.jobs.journal.handed(key, attempt) {
                    let text = format!("cannot write the journal of attempts: {e}");
                    log!("{text}");
                    self.runner_free(id, false);
                    return self.refuse(conn, request, Refusal::Internal, &text);
                }
                let job = ToSession::Job(ToRunner::Job {
                    key,
                    run: bytes,
                    params,
                    lease,
                });
                if self.send_to(id, &job, fd.as_ref()) {
                    self.jobs.running.insert(key, id);
                    if let Some(r) = self.runner(id) {
                        r.work = Work::Job(key);
                        r.lease = lease;
                    }
                    if lease != 0 {
                        self.arm_runner(id);
                    }
                    return self.reply(conn, request, &Reply::Done);
                }
                // It has died or gone mad; the attempt never was.
                self.jobs.journal.retracted(key);
                self.kill_session(id);
                if let ToSession::Job(ToRunner::Job {
                    key,
                    run,
                    params,
                    lease,
                }) = job
                {
                    let run = fd.map_or(Run::Inline(run), Run::Sealed);
                    let what = What::Job {
                        key,
                        params,
                        lease,
                        note,
                    };
                    self.place(Wanted {
                        conn,
                        request,
                        since,
                        checked,
                        run,
                        what,
                    });
                }
            }
            What::Deliver { job, from } => {
                let m = ToSession::Job(ToRunner::Deliver {
                    job,
                    run: bytes,
                    from,
                });
                if !self.send_to(id, &m, fd.as_ref()) {
                    self.kill_session(id);
                    let text = "the session ended before it began: try again";
                    return self.refuse(conn, request, Refusal::Busy, text);
                }
                self.park(conn, true);
                if let Some(r) = self.runner(id) {
                    r.work = Work::Deliver(conn, request);
                }
                self.set_deadline(id, DELIVERY_MAX);
            }
        }
    }

    /// A runner has nothing to do any more: it gets what waits for one like it, or waits for that, or goes.
    pub(super) fn runner_free(&mut self, id: u32, usable: bool) {
        let Ok(identity) = self.trust.identity() else {
            return self.dismiss(id);
        };
        let Some(r) = self.runner(id) else { return };
        r.work = Work::Idle(Instant::now());
        r.ending = None;
        r.lease = 0;
        let reusable = usable
            && r.hired
                .as_ref()
                .is_some_and(|(i, _, since)| Rc::ptr_eq(i, &identity) && since.elapsed() < AGE_MAX);
        if !reusable {
            return self.dismiss(id);
        }
        if !self.jobs.waiting.is_empty()
            && let Some(Phase::Runner(r)) = self.sessions.get(&id).map(|s| &s.phase)
            && let Some(at) = self
                .jobs
                .waiting
                .iter()
                .position(|w| matches!(w.what, What::Job { .. }) && r.fits(&w.checked, &identity))
            && let Some(wanted) = self.jobs.waiting.remove(at)
        {
            self.park(wanted.conn, false);
            return self.give(id, wanted);
        }
        self.jobs.idle.push_back(id);
        if self.jobs.idle.len() > self.jobs.idle_max
            && let Some(oldest) = self.jobs.idle.pop_front()
        {
            self.dismiss(oldest);
        }
        self.arm_idle(IDLE);
    }

    fn arm_idle(&mut self, within: Duration) {
        if !self.jobs.idle.is_empty() && !std::mem::replace(&mut self.jobs.idle_timer, true) {
            self.events.after(within, Timer::Runners);
        }
    }

    /// Ends runners that have been idle for long.
    pub(in crate::monitor) fn idle_runners(&mut self) {
        self.jobs.idle_timer = false;
        while let Some(&id) = self.jobs.idle.front() {
            let idle = match self.runner(id).map(|r| &r.work) {
                Some(Work::Idle(since)) => since.elapsed(),
                _ => IDLE,
            };
            if idle < IDLE {
                return self.arm_idle(IDLE - idle);
            }
            self.jobs.idle.pop_front();
            self.dismiss(id);
        }
    }

    /// Ends all idle runners.
    pub(in crate::monitor) fn dismiss_idle(&mut self) {
        while let Some(id) = self.jobs.idle.pop_front() {
            self.dismiss(id);
        }
    }

    /// Lets a runner go: it exits when its channel is closed, and is denied if it wants to be taken back.
    pub(super) fn dismiss(&mut self, id: u32) {
        if let Some(r) = self.runner(id) {
            r.work = Work::Over;
        }
        if let Some(s) = self.sessions.get_mut(&id) {
            s.channel = None;
        }
        self.set_deadline(id, GO_WITHIN);
    }

    pub(super) fn kill_session(&mut self, id: u32) {
        if let Some(s) = self.sessions.get(&id) {
            tree::kill_fd(&s.pidfd);
        }
    }

    /// Tells a session something; `false` if it does not listen.
    pub(super) fn send_to(&self, id: u32, m: &ToSession, fd: Option<&std::os::fd::OwnedFd>) -> bool {
        let channel = self.sessions.get(&id).and_then(|s| s.channel.as_ref());
        channel.is_some_and(|c| client::send(c.as_fd(), &m.encode(), fd.map(|f| f.as_fd())).is_ok())
    }
}
