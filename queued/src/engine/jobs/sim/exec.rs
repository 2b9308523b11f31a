//! A model of queue-exec and its sessions: a journal that outlives its processes and not the host's power, sessions
//! that run on without it, and that end what they run when their lease does.

use super::world::{Broken, Event, World, after};
use crate::engine::jobs::types::{AgentEffect, AgentInput};
use crate::engine::rng::Rng;
use libqueue::wire::job::{Attempt, Cause, Key, KillAttempt, Outcome, Running};
use libqueue::wire::{ErrorCode, Need};
use std::collections::{BTreeMap, VecDeque};

const STOP: u32 = 19;
const CONT: u32 = 18;

/// What happens to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its command is executed.
    Start,
    /// Its command ends by itself.
    End,
    /// Its lease may have run out.
    Deadline,
    /// It was killed, and all of it is gone.
    Killed,
}

/// An attempt in the journal, with its session.
#[derive(Debug)]
pub(super) struct Session {
    cores: u32,
    lent: Option<Key>,
    lease: u64,
    deadline: u64,
    running: Option<Running>,
    /// Its command lives.
    pub(super) live: bool,
    stopped: bool,
    /// Its command would have ended while it was stopped.
    due: bool,
    kill: Option<KillAttempt>,
    /// It is over; `None` inside: nobody knows how.
    pub(super) ended: Option<Option<Outcome>>,
    /// It is in the journal.
    known: bool,
}

/// queue-exec.
#[derive(Debug)]
pub(super) struct Exec {
    pub(super) up: bool,
    life: [u8; 16],
    /// Highest attempt of each task.
    journal: BTreeMap<(u64, u32), u32>,
    pub(super) sessions: BTreeMap<Key, Session>,
    /// On the way to it, and from it to the daemon.
    to: VecDeque<AgentEffect>,
    from: VecDeque<AgentInput>,
    /// What the daemon asks its host to grant.
    pub(super) wanted: Option<(Key, Need, Option<Key>)>,
}

impl Exec {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let mut life = [0; 16];
        life[..8].copy_from_slice(&rng.next().to_be_bytes());
        Self {
            up: true,
            life,
            journal: BTreeMap::new(),
            sessions: BTreeMap::new(),
            to: VecDeque::new(),
            from: VecDeque::new(),
            wanted: None,
        }
    }
}

impl World {
    /// Whether the lease of a session has run out.
    pub(super) fn expired(&self, h: usize, s: &Session) -> bool {
        s.deadline > 0 && self.hosts[h].boot(self.now) >= s.deadline
    }

    pub(super) fn grants_anew(&mut self, h: usize) {
        let host = &mut self.hosts[h];
        let running = host
            .exec
            .sessions
            .iter()
            .filter(|(_, s)| s.known && s.ended.is_none());
        // In whose slot one runs, a daemon that was restarted does not know.
        let taken = |s: &Session| if s.lent.is_some() { 0 } else { s.cores };
        host.grants = running.map(|(k, s)| (*k, (taken(s), None))).collect();
    }

    /// The host answers whether something may start.
    pub(super) fn grant(&mut self, h: usize, life: u64, key: Key) {
        let generous = self.broken == Broken::Grants;
        let host = &mut self.hosts[h];
        if host.life != life {
            return;
        }
        let Some((_, need, lent)) = host.exec.wanted.take().filter(|w| w.0 == key) else {
            return;
        };
        let own = host.grants.values().filter(|(_, lent)| lent.is_none());
        let used: u32 = own.map(|(cores, _)| *cores).sum::<u32>() + host.busy;
        let mut no = if need.cores > host.cores {
            Some(ErrorCode::Unfit)
        } else if host.draining {
            Some(ErrorCode::Draining)
        } else if lent.is_none() && used + need.cores > host.cores && !generous {
            Some(ErrorCode::Full)
        } else {
            None
        };
        if let Some(parent) = lent {
            if !host.grants.contains_key(&parent) {
                // It has ended, and its daemon does not know that yet.
                no = no.or(Some(ErrorCode::Full));
            }
            let twice = host.grants.values().any(|(_, lent)| *lent == Some(parent));
            assert!(!twice, "{key:?} is the second one in the slot of {parent:?}");
        }
        let answer = match no {
            Some(code) => AgentInput::NotGranted(key, code, "no".to_owned()),
            None => {
                host.grants.insert(key, (need.cores, lent));
                AgentInput::Granted(key)
            }
        };
        self.agent(h, answer);
    }

    /// The daemon asks something.
    pub(super) fn exec_asked(&mut self, h: usize, what: AgentEffect) {
        if self.hosts[h].exec.up {
            self.hosts[h].exec.to.push_back(what);
            let (life, after) = (self.hosts[h].life, self.range(0, 3));
            self.at(after, Event::ExecTakes(h, life));
        }
    }

    pub(super) fn exec_takes(&mut self, h: usize, life: u64) {
        if self.hosts[h].life == life
            && let Some(what) = self.hosts[h].exec.to.pop_front()
        {
            self.exec_does(h, what);
        }
    }

    fn exec_does(&mut self, h: usize, what: AgentEffect) {
        match what {
            AgentEffect::Run {
                attempt, deadline, ..
            } => self.exec_runs(h, &attempt, deadline),
            AgentEffect::End(kill) => self.exec_ends(h, kill),
            AgentEffect::Lease(key, deadline) => {
                let over = self.hosts[h]
                    .exec
                    .sessions
                    .get(&key)
                    .is_some_and(|s| self.expired(h, s));
                if over {
                    self.session(h, key, Phase::Deadline);
                } else if let Some(s) = self.hosts[h].exec.sessions.get_mut(&key) {
                    s.deadline = deadline;
                }
            }
            AgentEffect::Forget(keys) => {
                let sessions = &mut self.hosts[h].exec.sessions;
                sessions.retain(|k, s| !keys.contains(k) || s.ended.is_none());
            }
            _ => {}
        }
    }

    fn exec_runs(&mut self, h: usize, attempt: &Attempt, deadline: u64) {
        let key = attempt.key.unwrap_or_default();
        let refused = !self.calm && self.chance(2);
        let elsewhere = self.chance(50);
        let exec = &mut self.hosts[h].exec;
        let last = exec.journal.get(&(key.job, key.task)).copied().unwrap_or(0);
        if last >= key.attempt {
            self.says(
                h,
                AgentInput::NotRun(key, format!("attempt {last} was here"), true),
            );
            return;
        }
        if refused {
            self.says(h, AgentInput::NotRun(key, "refused".to_owned(), elsewhere));
            return;
        }
        exec.journal.insert((key.job, key.task), key.attempt);
        let granted = self.hosts[h].grants.get(&key).copied();
        // The daemon that asked may be gone: then nobody counts.
        let (cores, lent) = granted.unwrap_or((0, None));
        assert!(
            granted.is_some() || self.hosts[h].daemon.is_none(),
            "{key:?} runs without a grant"
        );
        let session = Session {
            cores,
            lent,
            lease: attempt.lease_ms,
            deadline,
            running: None,
            live: false,
            stopped: false,
            due: false,
            kill: None,
            ended: None,
            known: true,
        };
        self.hosts[h].exec.sessions.insert(key, session);
        self.says(h, AgentInput::ExecStarted(key, None));
        let after = self.range(1, 10);
        self.at(after, Event::Session(h, key, Phase::Start));
    }

    fn exec_ends(&mut self, h: usize, kill: KillAttempt) {
        let key = kill.key.unwrap_or_default();
        let Some(s) = self.hosts[h].exec.sessions.get_mut(&key) else {
            return;
        };
        if s.ended.is_some() {
            return;
        }
        match kill.signal {
            0 => {
                let first = s.kill.is_none();
                s.kill.get_or_insert(kill);
                if first {
                    let after = if self.chance(80) { 20 } else { 5000 };
                    self.at(after, Event::Session(h, key, Phase::Killed));
                }
            }
            STOP | CONT if s.stopped != (kill.signal == STOP) => {
                s.stopped = kill.signal == STOP;
                let (stopped, due) = (s.stopped, s.due);
                self.says(h, AgentInput::ExecStopped(key, stopped));
                if !stopped && due {
                    self.at(1, Event::Session(h, key, Phase::End));
                }
            }
            _ => {}
        }
    }

    /// It says something to the daemon, if there is one.
    fn says(&mut self, h: usize, what: AgentInput) {
        let host = &mut self.hosts[h];
        if host.exec.up && host.daemon.is_some() {
            host.exec.from.push_back(what);
            let (life, after) = (host.life, self.range(0, 3));
            self.at(after, Event::ExecSays(h, life));
        }
    }

    pub(super) fn exec_says(&mut self, h: usize, life: u64) {
        if self.hosts[h].life != life {
            return;
        }
        let Some(what) = self.hosts[h].exec.from.pop_front() else {
            return;
        };
        if let AgentInput::ExecEnded(key, _) = &what {
            self.hosts[h].grants.remove(key);
        }
        self.agent(h, what);
    }

    /// The daemon is new: it is told everything.
    pub(super) fn exec_tells(&mut self, h: usize) {
        let exec = &self.hosts[h].exec;
        let mut all = vec![AgentInput::ExecUp(exec.life)];
        for (key, s) in exec.sessions.iter().filter(|(_, s)| s.known) {
            if s.lease > 0 {
                all.push(AgentInput::ExecLease(*key, s.lease));
            }
            if let Some(how) = &s.ended {
                all.push(AgentInput::ExecEnded(*key, how.clone()));
            } else {
                all.push(AgentInput::ExecStarted(*key, s.running.clone()));
                if s.stopped {
                    all.push(AgentInput::ExecStopped(*key, true));
                }
            }
        }
        all.push(AgentInput::ExecTold);
        for what in all {
            self.says(h, what);
        }
    }

    /// The daemon is gone. What it asked last may have come, or not.
    pub(super) fn exec_unwatched(&mut self, h: usize) {
        self.hosts[h].exec.from.clear();
        self.hosts[h].exec.wanted = None;
        let mut to = std::mem::take(&mut self.hosts[h].exec.to);
        let lost = self.rng.below(to.len() + 1);
        to.truncate(to.len() - lost);
        for what in to {
            self.exec_does(h, what);
        }
    }

    /// It is killed; some sessions with it.
    pub(super) fn stop_exec(&mut self, h: usize) {
        if !self.hosts[h].exec.up {
            return;
        }
        let forgets = self.broken == Broken::Journal;
        let exec = &mut self.hosts[h].exec;
        exec.up = false;
        exec.to.clear();
        exec.from.clear();
        if forgets {
            exec.journal.clear();
        }
        for s in exec.sessions.values_mut().filter(|s| s.ended.is_none()) {
            s.known = !forgets;
            if self.rng.below(10) == 0 {
                s.live = false;
                s.ended = Some(None);
            }
        }
        self.tell(|| format!("h{h} queue-exec is killed"));
        self.agent(h, AgentInput::ExecDown);
        let after = self.range(50, 5000);
        self.at(after, Event::StartExec(h));
    }

    pub(super) fn start_exec(&mut self, h: usize) {
        let host = &mut self.hosts[h];
        if host.power && !host.exec.up {
            host.exec.up = true;
            self.grants_anew(h);
            self.exec_tells(h);
        }
    }

    /// Something happens to a session.
    pub(super) fn session(&mut self, h: usize, key: Key, phase: Phase) {
        let Some(s) = self.hosts[h].exec.sessions.get(&key) else {
            return;
        };
        if s.ended.is_some() {
            return;
        }
        if self.expired(h, s) {
            self.session_ends(h, key, Cause::Lease, None);
            return;
        }
        match phase {
            Phase::Start => self.command_starts(h, key),
            Phase::End if s.stopped => {
                if let Some(s) = self.hosts[h].exec.sessions.get_mut(&key) {
                    s.due = true;
                }
            }
            Phase::End => {
                let fails = self.chance(if key.job.is_multiple_of(4) { 60 } else { 5 });
                self.session_ends(h, key, Cause::Exited, Some(u32::from(fails)));
            }
            Phase::Deadline => self.watch_lease(h, key),
            Phase::Killed => {
                let cause = s.kill.as_ref().and_then(|k| Cause::try_from(k.cause).ok());
                self.session_ends(h, key, cause.unwrap_or(Cause::Killed), None);
            }
        }
    }

    fn watch_lease(&mut self, h: usize, key: Key) {
        let host = &self.hosts[h];
        let deadline = host.exec.sessions.get(&key).map_or(0, |s| s.deadline);
        if deadline > 0 {
            let time = after(deadline, host.booted, host.rate, self.now);
            self.at(time, Event::Session(h, key, Phase::Deadline));
        }
    }

    fn command_starts(&mut self, h: usize, key: Key) {
        self.commands += 1;
        let running = Running {
            pid: self.commands as u32,
            started_ms: self.clock(h).wall,
            ..Running::default()
        };
        self.tell(|| format!("h{h} {key:?} lives"));
        if let Some(s) = self.hosts[h].exec.sessions.get_mut(&key) {
            s.live = true;
            s.running = Some(running.clone());
        }
        self.check_start(h, key);
        let time = match self.rng.below(10) {
            0..=5 => self.range(1, 300),
            6..=8 => self.range(300, 8000),
            _ => self.range(8000, 60_000),
        };
        self.at(time, Event::Session(h, key, Phase::End));
        self.watch_lease(h, key);
        self.says(h, AgentInput::ExecStarted(key, Some(running)));
    }

    fn session_ends(&mut self, h: usize, key: Key, cause: Cause, code: Option<u32>) {
        let Some(s) = self.hosts[h].exec.sessions.get_mut(&key) else {
            return;
        };
        let outcome = Outcome {
            cause: cause as i32,
            code,
            started_ms: s.running.as_ref().map_or(0, |r| r.started_ms),
            ..Outcome::default()
        };
        s.live = false;
        s.ended = Some(Some(outcome.clone()));
        if code == Some(0) {
            self.well.insert(key);
        }
        self.tell(|| format!("h{h} {key:?} is over: {cause:?} {code:?}"));
        if self.hosts[h].exec.sessions.get(&key).is_some_and(|s| s.known) {
            self.says(h, AgentInput::ExecEnded(key, Some(outcome)));
        }
    }

    /// The power is gone: nothing is left of it but what is on disk.
    pub(super) fn power_off(&mut self, h: usize) {
        self.exec_power_off(h);
        if let Some(conn) = self.hosts[h].conn.take() {
            self.fall_silent(conn);
        }
        self.stop_daemon(h);
        if h == 0 {
            self.stop_lead();
        }
        // What was asked just now went nowhere.
        let mut fresh = Exec::new(&mut self.rng);
        fresh.up = false;
        let host = &mut self.hosts[h];
        host.exec = fresh;
        host.power = false;
        host.frozen = 0;
        host.grants.clear();
        self.tell(|| format!("h{h} has no power"));
        let time = self.range(1000, 60_000);
        self.at(time, Event::PowerOn(h));
    }

    fn exec_power_off(&mut self, h: usize) {
        let exec = &mut self.hosts[h].exec;
        exec.up = false;
        exec.to.clear();
        exec.from.clear();
    }

    pub(super) fn power_on(&mut self, h: usize) {
        let now = self.now;
        let showed = self.range(1000, 100_000);
        let host = &mut self.hosts[h];
        host.power = true;
        host.booted = (now, showed);
        self.at(100, Event::StartExec(h));
        let after = self.range(1, 1000);
        self.at(after, Event::StartQueued(h));
    }
}
