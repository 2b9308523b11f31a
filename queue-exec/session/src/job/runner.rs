//! A runner's life: one poll loop between the monitor, init, the job's pipes and the clocks. One job after the other,
//! each to its end. Nothing in it waits for a file system while a command runs.

mod end;
mod hear;

use super::channel::Channel;
use super::limits::{Due, Lease, Time};
use super::memory::{Cgroups, Samples, Tree};
use super::outcome::{self, seconds, size};
use super::output::{Output, pipe};
use super::pump::Pump;
use super::start::{self, Here, Plan, Refused};
use crate::child::{Heard, Init};
use crate::pam;
use libqueue::wire::job::{Cause, Outcome, Params};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use prost::Message as _;
use queue_exec::protocol::{FromRunner, JobKey};
use queue_init::{FromInit, ToInit};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A job is told of, and its output moved, when it has run so long. Most that are shorter need one message instead
/// of two, and no further thread.
const WINDOW: Duration = Duration::from_millis(3);
/// From TERM to KILL.
const GRACE: Duration = Duration::from_secs(5);
/// Who forks while he is being killed is killed again, so often and after so long.
const AGAIN: Duration = Duration::from_millis(500);
const TIMES: u32 = 10;
/// A runner with an outcome that nobody may have heard waits so long for a monitor.
const WAIT_FOR_MONITOR: Duration = Duration::from_secs(60);
/// Descriptors of the poll: init, monitor, lease, and two pipes or the thread.
const FDS: usize = 5;
/// A pipe that nobody asked to be larger holds no more.
const PIPE: usize = 64 * 1024;

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Init was told; nothing came back yet.
    Starting,
    Running {
        pid: i32,
    },
    /// The first process ended; others of its tree may be there.
    Exited,
    /// Nothing is left but the output.
    Empty,
}

/// Where its output is.
enum Moving {
    /// It is thrown away.
    None,
    /// In the pipes, with us.
    Here(Output),
    /// With the thread that moves it.
    Away,
}

/// The job that runs.
struct Job {
    key: JobKey,
    plan: Plan,
    params: Params,
    state: State,
    outcome: Outcome,
    output: Moving,
    /// Nothing is told before this.
    window: Option<Instant>,
    /// What was told of its start.
    told: Option<FromRunner>,
    stopped: bool,
    started: Instant,
    time: Time,
    samples: Samples,
    /// Why we ended it; decides the outcome's cause.
    verdict: Option<Refused>,
    /// KILL was sent by one of us.
    killed: bool,
    /// Which step of the end comes next, and when.
    ending: Option<(u32, Instant)>,
    /// Signals that came before there was anybody to get them.
    early: Vec<u8>,
}

/// What is needed to begin.
pub(crate) struct Begin {
    pub(crate) init: Init,
    pub(crate) channel: Channel,
    pub(crate) here: Here,
    pub(crate) null: OwnedFd,
    /// It has a cgroup of its own.
    pub(crate) cgroup: bool,
    pub(crate) pam: Option<pam::Holder>,
    pub(crate) socket: String,
}

/// A session that runs jobs.
pub(crate) struct Runner {
    init: Init,
    channel: Channel,
    here: Here,
    null: OwnedFd,
    pam: Option<pam::Holder>,
    socket: String,
    cgroups: Cgroups,
    tree: Tree,
    lease: Lease,
    job: Option<Box<Job>>,
    pump: Option<Pump>,
    buf: Vec<u8>,
    /// What was said last of a job that is over; said again to a monitor that takes us back.
    last: Option<FromRunner>,
    /// Nobody may have heard the last word, and there is no monitor, since.
    alone_since: Option<Instant>,
    /// Nothing more is taken on.
    leaving: bool,
    over: bool,
}

/// What a descriptor of the poll stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Channel,
    Init,
    Lease,
    Pump,
    Pipe,
}

impl Runner {
    /// As the user.
    pub(crate) fn new(b: Begin) -> Self {
        let cgroups = Cgroups::find();
        let tree = Tree {
            top: b.init.pid(),
            procs: cgroups.procs.clone().filter(|_| b.cgroup),
        };
        Self {
            init: b.init,
            channel: b.channel,
            here: b.here,
            null: b.null,
            pam: b.pam,
            socket: b.socket,
            cgroups,
            tree,
            lease: Lease::default(),
            job: None,
            pump: None,
            buf: Vec::new(),
            last: None,
            alone_since: None,
            leaving: false,
            over: false,
        }
    }

    /// Runs jobs until nobody wants any more.
    pub(crate) fn run(&mut self) {
        while !self.over {
            self.wait();
            self.timers();
            if self.leaving && self.job.is_none() && self.channel.is_flushed() {
                self.over = true;
            }
        }
        if self.job.is_none() {
            let _ = self.init.tell(&ToInit::Leave, None);
        }
        pam::close(self.pam.take());
    }

    fn wait(&mut self) {
        let now = Instant::now();
        let job = self.job.as_deref();
        let timers = [
            self.channel.retry_at(),
            job.and_then(|j| j.window),
            job.and_then(|j| j.ending.map(|e| e.1)),
            job.filter(|j| j.is_running()).and_then(|j| j.time.next()),
            job.filter(|j| j.is_running()).map(|j| j.samples.next),
        ];
        let timeout = timers.into_iter().flatten().min().map_or(PollTimeout::NONE, |t| {
            let ms = t.saturating_duration_since(now).as_micros().div_ceil(1000);
            PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
        });
        let mut who = Vec::with_capacity(FDS);
        let mut fds = Vec::with_capacity(FDS);
        let mut add = |w: Who, fd, events| {
            who.push(w);
            fds.push(PollFd::new(fd, events));
        };
        add(Who::Init, self.init.fd(), PollFlags::POLLIN);
        if let Some((fd, events)) = self.channel.fd() {
            add(Who::Channel, fd, events);
        }
        if let Some(fd) = self.lease.fd() {
            add(Who::Lease, fd, PollFlags::POLLIN);
        }
        match job.map(|j| &j.output) {
            Some(Moving::Here(o)) if job.is_some_and(|j| j.window.is_none()) => {
                o.pipes().for_each(|p| add(Who::Pipe, p, PollFlags::POLLIN));
            }
            Some(Moving::Away) => {
                if let Some(p) = &self.pump {
                    add(Who::Pump, p.done(), PollFlags::POLLIN);
                }
            }
            _ => {}
        }
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            // Out of memory in the kernel: nothing better to do than to try again.
            Err(_) => return,
        }
        let mut ready = [PollFlags::empty(); FDS];
        for (r, p) in ready.iter_mut().zip(&fds) {
            *r = p.revents().unwrap_or(PollFlags::empty());
        }
        for (w, flags) in who.into_iter().zip(ready).filter(|(_, f)| !f.is_empty()) {
            match w {
                Who::Init => self.hear_init(),
                Who::Channel => {
                    if flags.contains(PollFlags::POLLOUT) {
                        self.channel.flush();
                    }
                    if flags.intersects(!PollFlags::POLLOUT) {
                        self.hear_monitor();
                    }
                }
                Who::Lease => self.lease_due(),
                Who::Pump => self.moved(),
                Who::Pipe => self.output_due(),
            }
        }
    }

    fn timers(&mut self) {
        if self.channel.retry_at().is_some() {
            self.find_monitor();
        }
        let Some(job) = self.job.as_deref_mut() else {
            return;
        };
        let now = Instant::now();
        if job.window.is_some_and(|t| now >= t) {
            job.window = None;
            self.tell_started();
        }
        let Some(job) = self.job.as_deref_mut() else {
            return;
        };
        if job.is_running() {
            match job.time.due(now) {
                Due::Over(ran, limit) => {
                    let text = format!("ran {} of {}", seconds(ran), seconds(limit));
                    self.end(Cause::Time, text);
                }
                Due::Warning(signal) => self.signal_tree(signal),
                Due::Nothing => {}
            }
            self.weigh(now);
        }
        if let Some((step, at)) = self.job.as_deref().and_then(|j| j.ending)
            && now >= at
        {
            self.end_step(step);
        }
    }

    fn weigh(&mut self, now: Instant) {
        let Some(job) = self.job.as_deref_mut() else {
            return;
        };
        if now < job.samples.next {
            return;
        }
        let over = job.samples.take(now, &self.tree);
        let limit = job.samples.limit;
        if let Some(sum) = over {
            self.kill(Cause::Memory, format!("{} of {}", size(sum), size(limit)));
        } else {
            self.cgroups.look(now);
        }
    }

    // ---- The start -----------------------------------------------------------------------------------

    fn start(&mut self, key: JobKey, run: &[u8], params: &[u8], lease: u64) -> Result<(), Refused> {
        let (run, params) = start::decode(run, params)?;
        let mut plan = start::plan(run, &params, key, &mut self.here)?;
        let failed = |what: &'static str| move |e: std::io::Error| (Cause::Internal, format!("{what}: {e}"));
        self.lease
            .set(lease)
            .map_err(failed("the lease cannot be watched"))?;
        // Looking for the place of the output may have taken any time.
        if self.lease.is_over() {
            return Err((Cause::Lease, "its lease ran out before it was started".to_owned()));
        }
        let mut pipes = Vec::with_capacity(2);
        let mut theirs = Vec::with_capacity(2);
        for _ in &plan.targets {
            let (ours, its) = pipe().map_err(failed("no pipe could be made"))?;
            pipes.push(ours);
            theirs.push(its);
        }
        let null = self.null.as_raw_fd();
        let end = |i: usize| theirs.get(i).map(|f| f.as_raw_fd());
        let out = end(0).unwrap_or(null);
        let stdio = [null, out, end(1).unwrap_or(out)];
        let exec = ToInit::Exec(Box::new(std::mem::take(&mut plan.spec)));
        self.init
            .tell(&exec, Some(stdio))
            .map_err(failed("the session's init process is gone"))?;
        if let ToInit::Exec(spec) = exec {
            plan.spec = *spec;
        }
        let now = Instant::now();
        self.cgroups.look(now);
        let output = if plan.targets.is_empty() {
            Moving::None
        } else {
            Moving::Here(Output::new(pipes, plan.targets.clone(), plan.cap))
        };
        self.job = Some(Box::new(Job {
            key,
            state: State::Starting,
            outcome: Outcome::default(),
            output,
            window: Some(now + WINDOW),
            told: None,
            stopped: false,
            started: now,
            time: Time::start(now, params.time_ms, params.warn_signal, params.warn_ms),
            samples: start::samples(now, &params),
            verdict: None,
            killed: false,
            ending: None,
            early: Vec::new(),
            plan,
            params,
        }));
        Ok(())
    }

    fn tell_started(&mut self) {
        let Some(job) = self.job.as_deref_mut() else {
            return;
        };
        if let (State::Running { pid }, None) = (job.state, &job.told) {
            let running = job.plan.running(pid, job.outcome.started_ms).encode_to_vec();
            let m = FromRunner::Started {
                key: job.key,
                running,
            };
            self.channel.tell(&m);
            job.told = Some(m);
        }
    }

    // ---- Init ----------------------------------------------------------------------------------------

    fn hear_init(&mut self) {
        match self.init.hear() {
            Heard::Gone => self.init_gone(),
            Heard::Messages(messages) => {
                for m in messages {
                    self.on_init(m);
                }
                // Most leave nothing behind, and that is told in the same breath.
                if let Some(job) = self.job.as_deref()
                    && job.state == State::Exited
                    && job.ending.is_none()
                {
                    self.clear_up();
                }
            }
        }
    }

    fn on_init(&mut self, m: FromInit) {
        let Some(job) = self.job.as_deref_mut() else {
            return;
        };
        match m {
            FromInit::Started { pid } => {
                job.state = State::Running { pid };
                job.started = Instant::now();
                job.outcome.started_ms = unix_ms();
                let p = &job.params;
                job.time = Time::start(job.started, p.time_ms, p.warn_signal, p.warn_ms);
                job.samples = start::samples(job.started, p);
                let early = std::mem::take(&mut job.early);
                if job.window.is_none() {
                    self.tell_started();
                }
                for n in early {
                    self.signal(n);
                }
            }
            FromInit::Failed { stage, errno } => {
                job.outcome = outcome::start_failure(&job.plan, stage, errno);
                job.output = Moving::None;
                self.report(false);
            }
            FromInit::Stopped { .. } => self.stopped(true),
            FromInit::Continued => self.stopped(false),
            FromInit::Exited {
                status, maxrss_kib, ..
            } => {
                job.state = State::Exited;
                job.outcome.wall_ms = job.started.elapsed().as_millis() as u64;
                job.outcome.maxrss_kib = maxrss_kib;
                outcome::status(&mut job.outcome, status);
                self.kernel_killed();
            }
            FromInit::Empty { cpu_us, maxrss_kib } => {
                job.state = State::Empty;
                job.ending = None;
                job.outcome.cpu_us = cpu_us;
                job.outcome.maxrss_kib = job.outcome.maxrss_kib.max(maxrss_kib);
                self.drain();
            }
        }
    }

    /// Whether it was the kernel that killed it, or a process of it.
    fn kernel_killed(&mut self) {
        let Some(job) = self.job.as_deref_mut() else {
            return;
        };
        let direct = job.outcome.signal == Some(libc::SIGKILL as u32);
        // As shells say it.
        let below = job.outcome.code == Some(128 + libc::SIGKILL as u32);
        if job.killed || job.verdict.is_some() || !(direct || below) || !self.cgroups.has_killed() {
            return;
        }
        let peak = size(job.samples.peak.max(job.outcome.maxrss_kib * 1024));
        let figures = match job.samples.limit {
            0 => peak,
            limit => format!("{peak} of {}", size(limit)),
        };
        if direct {
            job.verdict = Some((Cause::OutOfMemory, format!("killed by the kernel, {figures}")));
        } else {
            let text = format!("the kernel killed a process for want of memory, {figures}");
            outcome::add(&mut job.outcome, &text);
        }
    }

    fn stopped(&mut self, stopped: bool) {
        let Some(job) = self.job.as_deref_mut() else {
            return;
        };
        if std::mem::replace(&mut job.stopped, stopped) != stopped {
            let key = job.key;
            self.tell_started();
            self.channel.tell(&FromRunner::Stopped { key, stopped });
        }
    }

    fn init_gone(&mut self) {
        self.leaving = true;
        let Some(job) = self.job.as_deref_mut() else {
            self.over = true;
            return;
        };
        if job.state != State::Empty {
            let lost = || {
                (
                    Cause::SessionLost,
                    "the init process of its session was killed".to_owned(),
                )
            };
            if matches!(job.state, State::Starting | State::Running { .. }) {
                job.verdict.get_or_insert_with(lost);
                job.outcome.wall_ms = job.started.elapsed().as_millis() as u64;
            }
            job.state = State::Empty;
            job.ending = None;
            self.drain();
        }
    }

    // ---- Output --------------------------------------------------------------------------------------

    /// Something is in a pipe, or will never be again.
    fn output_due(&mut self) {
        let Some(job) = self.job.as_deref_mut() else {
            return;
        };
        if !matches!(job.output, Moving::Here(_)) {
            // The other pipe had something, too.
            return;
        }
        let Moving::Here(mut output) = std::mem::replace(&mut job.output, Moving::None) else {
            return;
        };
        if output.is_drained() {
            output.close_ended();
            job.output = Moving::Here(output);
            return;
        }
        if self.pump.is_none() {
            self.pump = Pump::start().ok();
        }
        job.output = match &self.pump {
            Some(p) => p.give(output).map_or(Moving::Away, Moving::Here),
            // No thread: it waits in the pipe, and comes when there is one, or in the end.
            None => {
                job.window = Some(Instant::now() + GRACE);
                Moving::Here(output)
            }
        };
    }

    /// The tree is gone: what is left in the pipes.
    fn drain(&mut self) {
        let Some(job) = self.job.as_deref_mut() else {
            return;
        };
        match &mut job.output {
            Moving::Away => {
                if let Some(p) = &self.pump {
                    p.stop();
                }
            }
            Moving::Here(output) => {
                if !output.is_drained() {
                    // Nothing runs that a slow file system could keep from being ended.
                    self.buf.resize(PIPE, 0);
                    output.rest(&mut self.buf);
                }
                self.report(false);
            }
            Moving::None => self.report(false),
        }
    }

    /// The thread gave the output back.
    fn moved(&mut self) {
        let Some(output) = self.pump.as_ref().and_then(Pump::take) else {
            return;
        };
        if let Some(job) = self.job.as_deref_mut() {
            job.output = Moving::Here(output);
            if job.state == State::Empty {
                self.report(false);
            }
        }
    }
}

impl Job {
    fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }
}

fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64)
}
