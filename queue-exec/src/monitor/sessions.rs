//! The sessions: what each process says, how each ends, and how a restarted monitor takes them back. What a
//! session says is believed for that session only: from its "running" on it is its user's process.

use super::Monitor;
use super::cgroup::Cgroup;
use super::cleanup::Task;
use super::events::{Source, Timer};
use super::jobs::{Runner, Work};
use super::log::log;
use super::record::{About, Record};
use super::tree::{self, Id};
use queue_exec::cert::PublicKey;
use queue_exec::client;
use queue_exec::codec::hex;
use queue_exec::protocol::{AttachState, FromSession, Refusal, Reply};
use queue_exec::ticket::Nonce;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// A session that said it has ended, and does not, is killed after this; closing a PAM session may take a
/// while.
const END_WITHIN: Duration = Duration::from_secs(30);
/// A session whose channel broke has ended or is killed.
const DIE_WITHIN: Duration = Duration::from_secs(2);
/// Sessions of an earlier monitor come back within this, or are ended.
const ADOPT_WITHIN: Duration = Duration::from_secs(60);
/// Trees of sessions that died together with an earlier monitor are given so long to go before we say that we
/// are ready.
const RECOVER_WITHIN: Duration = Duration::from_secs(3);

/// One session process.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) process: Id,
    pub(super) pidfd: OwnedFd,
    /// `None` while a session of an earlier monitor has not come back, or after it broke.
    pub(super) channel: Option<OwnedFd>,
    pub(super) cgroup: Option<Cgroup>,
    /// Its own children, where there is no cgroup to find its tree by.
    pub(super) children: Vec<Id>,
    pub(super) phase: Phase,
    /// Its tree is being killed at its wish.
    pub(super) killing: bool,
    /// It is killed when it has not got further by then.
    pub(super) deadline: Option<Instant>,
    /// Somebody wants it ended: who.
    pub(super) unwanted: Option<String>,
}

/// How far it is.
#[derive(Debug)]
pub(super) enum Phase {
    /// Executed, not ready.
    Starting,
    /// Waiting to be claimed.
    Warm {
        /// For its grant.
        key: PublicKey,
    },
    /// Claimed.
    Live {
        about: Box<About>,
        /// It said that it has ended, and whether its processes may stay.
        ended: Option<bool>,
    },
    /// Hired to run jobs.
    Runner(Box<Runner>),
}

impl Monitor {
    pub(super) fn live_sessions(&self) -> usize {
        self.sessions
            .values()
            .filter(|s| match &s.phase {
                Phase::Live { .. } => true,
                Phase::Runner(r) => r.is_busy(),
                Phase::Starting | Phase::Warm { .. } => false,
            })
            .count()
    }

    pub(super) fn set_deadline(&mut self, id: u32, within: Duration) {
        if let Some(s) = self.sessions.get_mut(&id) {
            s.deadline = Some(Instant::now() + within);
            self.events.after(within, Timer::Session(id));
        }
    }

    pub(super) fn session_timer(&mut self, id: u32) {
        let Some(s) = self.sessions.get(&id) else { return };
        if s.deadline.is_none_or(|d| d > Instant::now()) {
            return;
        }
        if let Some(about) = s.phase.about() {
            let why = match &s.unwanted {
                Some(by) => format!("{by} wants it ended, and it does not end"),
                None => "it neither came back nor ended".to_owned(),
            };
            log!(
                "session {}: process {} is killed: {why}",
                hex(&about.nonce),
                s.process.0
            );
        }
        tree::kill_fd(&s.pidfd);
    }

    /// Reads one packet of a session.
    pub(super) fn channel_ready(&mut self, id: u32) -> bool {
        let Some(channel) = self.sessions.get(&id).and_then(|s| s.channel.as_ref()) else {
            return false;
        };
        let message = match client::receive(channel.as_fd(), &mut self.buffer) {
            Ok((0, _)) => None,
            Ok((n, _)) => FromSession::decode(&self.buffer[..n]).ok(),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return false;
            }
            Err(_) => None,
        };
        match message {
            Some(m) => self.session_says(id, m),
            None => {
                self.channel_broke(id);
                false
            }
        }
    }

    fn channel_broke(&mut self, id: u32) {
        let Some(s) = self.sessions.get_mut(&id) else {
            return;
        };
        s.channel = None;
        if s.phase.about().is_some() {
            if matches!(&s.phase, Phase::Runner(r) if !r.is_busy()) {
                self.jobs.gone(id);
            }
            // Either its end follows at once, or it has gone mad.
            self.set_deadline(id, DIE_WITHIN);
        } else {
            tree::kill_fd(&s.pidfd);
        }
    }

    /// `false` if the session is of no more use.
    fn session_says(&mut self, id: u32, message: FromSession) -> bool {
        let Some(s) = self.sessions.get_mut(&id) else {
            return false;
        };
        match (message, &mut s.phase) {
            (FromSession::Ready { session_key }, Phase::Starting) => {
                s.phase = Phase::Warm { key: session_key };
                s.deadline = None;
                self.session_ready(id);
            }
            (FromSession::Job(m), Phase::Runner(_)) => return self.runner_says(id, m),
            (FromSession::Running, Phase::Live { .. } | Phase::Runner(_)) => self.note_children(id),
            (FromSession::Failed { text }, phase @ (Phase::Live { .. } | Phase::Runner(_))) => {
                let login = phase.about().map_or("", |a| &a.login);
                log!("no session for {login}: {text}");
            }
            (FromSession::Look, Phase::Live { .. }) => self.look(id),
            (FromSession::State(state), Phase::Live { .. }) => self.attach_state(id, state),
            (FromSession::KillTree, Phase::Live { .. } | Phase::Runner(_)) => self.kill_others(id),
            (FromSession::Ended { .. }, Phase::Runner(_)) => self.set_deadline(id, END_WITHIN),
            (FromSession::Ended { leave }, Phase::Live { about, ended }) => {
                *ended = Some(leave);
                if leave {
                    // From here on a restarted monitor must not kill what it left.
                    Record::remove(&self.layout.sessions(), &about.nonce);
                }
                // What is left of the tree otherwise is killed at the process's end, which follows at once: most
                // have nothing left, and a look at each would cost every launch.
                self.set_deadline(id, END_WITHIN);
            }
            (m, phase) => {
                log!(
                    "process {} said {m:?} while {}: it is ended",
                    s.process.0,
                    phase.name()
                );
                tree::kill_fd(&s.pidfd);
                return false;
            }
        }
        true
    }

    /// Where there is no cgroup, the children are written down while their parent is known.
    fn note_children(&mut self, id: u32) {
        let Some(s) = self.sessions.get_mut(&id) else {
            return;
        };
        if s.cgroup.is_none() {
            // It may have died since it said so; then what was known before counts.
            let children = tree::children(s.process.0);
            s.children.retain(|c| !children.contains(c));
            s.children.extend(children);
            self.write_record(id);
        }
    }

    /// `false` if that failed.
    pub(super) fn write_record(&self, id: u32) -> bool {
        let Some(s) = self.sessions.get(&id) else {
            return false;
        };
        let Some(about) = s.phase.about() else {
            return false;
        };
        let record = Record {
            about: about.clone(),
            runner: matches!(s.phase, Phase::Runner(_)),
            process: s.process,
            boot: self.boot.clone(),
            cgroup: s.cgroup.as_ref().map(|c| c.path().to_owned()),
            children: s.children.clone(),
        };
        if let Err(e) = record.write(&self.layout.sessions()) {
            log!(
                "no record of session {}: {e}: a restarted monitor will not know it",
                hex(&about.nonce)
            );
            return false;
        }
        true
    }

    pub(super) fn kill_others(&mut self, id: u32) {
        let Some(s) = self.sessions.get_mut(&id) else {
            return;
        };
        if !std::mem::replace(&mut s.killing, true) {
            let (cgroup, roots) = (s.cgroup.clone(), s.children.clone());
            self.clean(Task::Others { session: id }, cgroup, roots, None, None);
        }
    }

    /// A session process has ended: what it left is killed, unless it said that it may stay.
    pub(super) fn session_died(&mut self, id: u32) {
        // Its last words may still be in the socket.
        let mut words = 0;
        while words < 64 && self.channel_ready(id) {
            words += 1;
        }
        let Some(s) = self.sessions.remove(&id) else {
            return;
        };
        s.reap();
        match s.phase {
            Phase::Starting => self.unclaimed_died(id, true),
            Phase::Warm { .. } => self.unclaimed_died(id, false),
            Phase::Live { about, ended } => {
                let nonce = about.nonce;
                self.tell_watchers(&Reply::SessionEnded { nonce });
                if ended == Some(true) {
                    Record::remove(&self.layout.sessions(), &nonce);
                    self.clean(Task::Leave, s.cgroup, Vec::new(), None, None);
                } else {
                    self.clean(Task::All, s.cgroup, s.children, Some(nonce), None);
                }
                self.fill_pool_by_one();
                return;
            }
            Phase::Runner(r) => {
                self.jobs.gone(id);
                let attempt = self.runner_died(r.work);
                self.clean(Task::All, s.cgroup, s.children, Some(r.about.nonce), attempt);
                self.fill_pool_by_one();
                return;
            }
        }
        self.clean(Task::All, s.cgroup, s.children, None, None);
    }

    /// Finds the sessions of an earlier monitor: those that live are awaited, the trees of the others killed.
    pub(super) fn recover(&mut self) {
        for r in Record::load(&self.layout.sessions()) {
            let nonce = r.about.nonce;
            if r.boot != self.boot {
                Record::remove(&self.layout.sessions(), &nonce);
                continue;
            }
            let cgroup = r.cgroup.map(Cgroup::at);
            let pidfd = Some(r.process)
                .filter(|p| tree::alive(*p))
                .and_then(|p| tree::open(p.0, Some(p.1)));
            let id = self.new_id();
            let job = r.runner.then(|| self.jobs.found(r.process, id)).flatten();
            match pidfd {
                // It has nothing to do, or nothing that is known.
                Some(pidfd) if r.runner && job.is_none() => {
                    tree::kill_fd(&pidfd);
                    let tops = [&[r.process], &r.children[..]].concat();
                    self.clean(Task::All, cgroup, tops, Some(nonce), None);
                }
                Some(pidfd) if self.events.add(pidfd.as_fd(), Source::Death(id)).is_ok() => {
                    let phase = if r.runner {
                        Phase::Runner(Box::new(Runner::found(r.about, job)))
                    } else {
                        Phase::Live {
                            about: Box::new(r.about),
                            ended: None,
                        }
                    };
                    let session = Session {
                        process: r.process,
                        pidfd,
                        channel: None,
                        cgroup,
                        children: r.children,
                        phase,
                        killing: false,
                        deadline: None,
                        unwanted: None,
                    };
                    self.sessions.insert(id, session);
                    self.set_deadline(id, ADOPT_WITHIN);
                }
                _ => {
                    let attempt = job.map(|key| (key, Vec::new()));
                    self.clean(Task::All, cgroup, r.children, Some(nonce), attempt);
                }
            }
        }
        for key in self.jobs.orphans() {
            self.attempt_over(key, Vec::new());
        }
        self.finish_cleanups(RECOVER_WITHIN);
        self.nonce_timer();
    }

    /// A session of an earlier monitor has come back on this connection.
    pub(super) fn adopt(&mut self, conn: u32, request: u32, nonce: &Nonce) {
        let Some(pid) = self.conns.get(&conn).map(|c| c.peer.pid) else {
            return;
        };
        let found = self.sessions.iter().find(|(_, s)| {
            let wanted = !matches!(&s.phase, Phase::Runner(r) if r.work == Work::Over);
            let known = wanted && s.phase.about().is_some_and(|a| a.nonce == *nonce);
            // Its process id is the kernel's word; the process with that id is the recorded one if it has its
            // start time, and lives.
            known && s.channel.is_none() && s.process.0 == pid && tree::alive(s.process)
        });
        let Some((&id, _)) = found else {
            let dismissed = |s: &Session| {
                s.process.0 == pid && matches!(&s.phase, Phase::Runner(r) if r.about.nonce == *nonce)
            };
            if self.sessions.values().any(dismissed) {
                // It was let go, and asks whether its monitor has died.
                self.refuse(conn, request, Refusal::Denied, "there is nothing to do");
            } else {
                self.deny(conn, request, "no session of yours waits for its monitor");
            }
            return;
        };
        let Some(mut c) = self.conns.remove(&conn) else {
            return;
        };
        let changed = self
            .events
            .change(c.fd.as_fd(), Source::Channel(id), false)
            .is_ok();
        if changed && c.send(request, &Reply::Done) && !c.has_queued() {
            if let Some(s) = self.sessions.get_mut(&id) {
                s.channel = Some(c.fd);
                s.deadline = None;
            }
            self.end_unwanted(id);
            self.runner_adopted(id);
        } else {
            self.events.remove(c.fd.as_fd());
        }
    }

    /// Tells the daemon.
    pub(super) fn tell_watchers(&mut self, event: &Reply) {
        let watching: Vec<u32> = self
            .conns
            .iter()
            .filter(|(_, c)| c.watching)
            .map(|(id, _)| *id)
            .collect();
        for id in watching {
            self.reply(id, 0, event);
        }
    }

    /// The daemon wants to know of sessions from now on.
    pub(super) fn watch(&mut self, conn: u32, request: u32) {
        let Some(c) = self.conns.get_mut(&conn) else {
            return;
        };
        if std::mem::replace(&mut c.watching, true) {
            return self.refuse(conn, request, Refusal::Denied, "this connection watches already");
        }
        self.reply(conn, request, &Reply::Done);
        let live: Vec<Reply> = self
            .sessions
            .values()
            .flat_map(|s| match &s.phase {
                Phase::Live { about, .. } => {
                    let (nonce, attached) = (about.nonce, about.attached);
                    let state = (attached != AttachState::default())
                        .then_some(Reply::SessionState { nonce, attached });
                    [Some(about.started(s.process.0)), state]
                }
                _ => [None, None],
            })
            .flatten()
            .collect();
        for event in live {
            self.reply(conn, 0, &event);
        }
        self.tell_attempts(conn);
    }
}

impl Session {
    /// Collects the process. One of an earlier monitor is not our child: then there is nothing to collect.
    pub(super) fn reap(&self) {
        let flags = nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOHANG;
        let _ = nix::sys::wait::waitid(nix::sys::wait::Id::PIDFd(self.pidfd.as_fd()), flags);
    }
}

impl Phase {
    /// Whom it is for, once that is known.
    pub(super) fn about(&self) -> Option<&About> {
        match self {
            Self::Starting | Self::Warm { .. } => None,
            Self::Live { about, .. } => Some(about),
            Self::Runner(r) => Some(&r.about),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Warm { .. } => "waiting to be claimed",
            Self::Live { .. } => "claimed",
            Self::Runner(_) => "hired",
        }
    }
}
