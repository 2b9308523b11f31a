//! Another program takes this one's place: same process; the socket, its clients and the sessions' channels kept.
//! Sessions are found by their records, as by a monitor that was started again, and notice nothing; whoever asks
//! meanwhile waits in the socket. Knows what has to be over before, and what goes along; nothing about versions.

use super::Monitor;
use super::cleanup::Task;
use super::conn::Conn;
use super::events::{Source, Timer};
use super::jobs::Work;
use super::log::log;
use super::notify;
use super::sessions::{Phase, Session};
use super::tree;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use queue_exec::codec::{Malformed, Reader, Writer, hex};
use queue_exec::protocol::{About, AttachState, JobReply, PACKET_MAX, Refusal, Reply};
use queue_exec::takeover::{self, Inherited};
use queue_exec::ticket::Nonce;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// What was begun is given so long to be over; what is not is refused then, or begun anew by the next program.
const SETTLE: Duration = Duration::from_secs(3);
/// It is looked at this often.
const LOOK: Duration = Duration::from_millis(2);
/// Processes of the program before that nobody waits for are collected this often.
const STRAYS: Duration = Duration::from_secs(1);

const MAGIC: &[u8] = b"queue-exec 1\0";

/// An upgrade that was asked for.
#[derive(Debug)]
pub(super) struct Upgrade {
    conn: u32,
    request: u32,
    since: Instant,
}

/// What the program before left for this one.
#[derive(Debug)]
pub(super) struct Left {
    lock: OwnedFd,
    listener: OwnedFd,
    /// The limit of open files that the first one was started with.
    pub(super) nofile: libc::rlimit,
    served: Served,
}

/// Whom it served.
#[derive(Debug)]
pub(super) struct Served {
    /// Clients, and whether they watch.
    conns: Vec<(OwnedFd, bool)>,
    /// Sessions that its watchers know.
    live: Vec<Nonce>,
    /// Sessions with their channels, and what is not in their records.
    sessions: Vec<(Nonce, OwnedFd, Vec<u8>)>,
}

impl Left {
    /// Reads the note; without one that it understands the program starts like any other.
    pub(super) fn read(mut inherited: Inherited) -> Result<Self, Malformed> {
        let note = inherited.note().to_vec();
        let mut r = Reader::new(&note, MAGIC, "note of the queue-exec before")?;
        let lost = Malformed("note of the queue-exec before");
        let lock = inherited.take(r.u32()?).ok_or(lost)?;
        let listener = inherited.take(r.u32()?).ok_or(Malformed("socket"))?;
        let nofile = libc::rlimit {
            rlim_cur: r.u64()?,
            rlim_max: r.u64()?,
        };
        let mut conns = Vec::new();
        for _ in 0..r.u32()? {
            let (number, watching) = (r.u32()?, r.u8()? != 0);
            if let Some(fd) = inherited.take(number) {
                conns.push((fd, watching));
            }
        }
        let mut live = Vec::new();
        for _ in 0..r.u32()? {
            live.push(r.fixed()?);
        }
        let mut sessions = Vec::new();
        for _ in 0..r.u32()? {
            let (nonce, number) = (r.fixed()?, r.u32()?);
            let state = r.bytes(PACKET_MAX)?.to_vec();
            if let Some(fd) = inherited.take(number) {
                sessions.push((nonce, fd, state));
            }
        }
        let served = Served {
            conns,
            live,
            sessions,
        };
        Ok(Self {
            lock,
            listener,
            nofile,
            served,
        })
    }

    /// The lock, the socket, and the rest.
    pub(super) fn split(self) -> (OwnedFd, OwnedFd, Served) {
        (self.lock, self.listener, self.served)
    }
}

impl Monitor {
    /// Says which program this is.
    pub(super) fn about(&mut self, conn: u32, request: u32) {
        let count = |runner: bool| {
            let all = self.sessions.values().filter(|s| match &s.phase {
                Phase::Live { .. } => !runner,
                Phase::Runner(r) => runner && r.job().is_some(),
                Phase::Starting | Phase::Warm { .. } => false,
            });
            all.count() as u32
        };
        let about = About {
            version: env!("CARGO_PKG_VERSION").into(),
            program: self.own.to_string_lossy().into_owned(),
            image: self.image,
            sessions: count(false),
            jobs: count(true),
        };
        self.reply(conn, request, &Reply::About(about));
    }

    /// Root wants the program at our path to take over.
    pub(super) fn upgrade_requested(&mut self, conn: u32, request: u32) {
        if self.upgrade.is_some() {
            let text = "another program is taking over already";
            return self.refuse(conn, request, Refusal::Busy, text);
        }
        if let Err(e) = takeover::executable(&self.own) {
            return self.refuse(conn, request, Refusal::Internal, &e.to_string());
        }
        self.upgrade = Some(Upgrade {
            conn,
            request,
            since: Instant::now(),
        });
        // From here on nothing new is begun: it waits in the sockets.
        self.events.remove(self.listener.as_fd());
        for c in self.conns.values() {
            self.events.remove(c.fd());
        }
        self.events.after(Duration::ZERO, Timer::Upgrade);
    }

    /// Goes as soon as nothing is under way.
    pub(super) fn upgrade_timer(&mut self) {
        let Some(u) = &self.upgrade else { return };
        let late = u.since.elapsed() >= SETTLE;
        if !late && self.is_busy() {
            self.events.after(LOOK, Timer::Upgrade);
            return;
        }
        if late {
            self.give_up();
        }
        self.replace();
    }

    /// Whether something is under way that does not outlive this program.
    fn is_busy(&self) -> bool {
        let parked = self.parked.any() || self.jobs.waiting() > 0;
        let ending = || {
            self.sessions.values().any(|s| match &s.phase {
                Phase::Live { ended, .. } => ended.is_some(),
                Phase::Runner(r) => matches!(r.work, Work::Last(..) | Work::Deliver(..)),
                Phase::Starting | Phase::Warm { .. } => false,
            })
        };
        let killing = || self.cleanups.values().any(|c| c.kind() != Task::Leave);
        parked || ending() || killing()
    }

    /// Refuses what takes too long: it may be asked again.
    fn give_up(&mut self) {
        let text = "queue-exec is being replaced there: try again";
        self.refuse_starts(text);
        self.refuse_parked(text);
        let mut delivering = Vec::new();
        for s in self.sessions.values_mut() {
            if let Phase::Runner(r) = &mut s.phase
                && let Work::Deliver(conn, request) = r.work
            {
                r.work = Work::Over;
                delivering.push((conn, request));
            }
        }
        for (conn, request) in delivering {
            self.park(conn, false);
            let (failed, hopeless) = (text.to_owned(), false);
            let reply = Reply::Job(JobReply::Delivered { failed, hopeless });
            self.reply(conn, request, &reply);
        }
    }

    /// Executes it. Returns if that failed: then we go on.
    fn replace(&mut self) {
        let Some(u) = self.upgrade.take() else { return };
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC);
        let usec = now.map_or(0, |t| t.tv_sec() * 1_000_000 + t.tv_nsec() / 1000);
        let reloading = format!("RELOADING=1\nMONOTONIC_USEC={usec}\n");
        let _ = notify::systemd(self.notify.as_deref(), &reloading);
        self.end_unclaimed();
        log!("{} takes over", self.own.display());
        let mut fds = vec![self.lock.as_fd(), self.listener.as_fd()];
        let mut note = Writer::new(MAGIC);
        for fd in &fds {
            note.u32(fd.as_raw_fd().unsigned_abs());
        }
        let nofile = self.program.nofile;
        note.u64(nofile.rlim_cur).u64(nofile.rlim_max);
        // Who has not read all that he was told, or waits for what will not come, sees the end of his connection.
        let kept = |(id, c): &(&u32, &Conn)| **id != u.conn && c.parked == 0 && !c.has_queued();
        let conns: Vec<&Conn> = self.conns.iter().filter(kept).map(|(_, c)| c).collect();
        note.u32(conns.len() as u32);
        for c in conns {
            note.u32(c.fd.as_raw_fd().unsigned_abs()).u8(u8::from(c.watching));
            fds.push(c.fd());
        }
        let live = self.sessions.values().filter_map(|s| match &s.phase {
            Phase::Live { about, .. } => Some(about.nonce),
            _ => None,
        });
        let live: Vec<Nonce> = live.collect();
        note.u32(live.len() as u32);
        for nonce in &live {
            note.fixed(nonce);
        }
        let channels: Vec<(&Session, &OwnedFd)> = self
            .sessions
            .values()
            .filter_map(|s| s.channel.as_ref().map(|c| (s, c)))
            .filter(|(s, _)| s.phase.about().is_some())
            .collect();
        note.u32(channels.len() as u32);
        for (s, channel) in channels {
            let nonce = s.phase.about().map_or([0; 16], |a| a.nonce);
            note.fixed(&nonce).u32(channel.as_raw_fd().unsigned_abs());
            note.bytes(&state(s));
            fds.push(channel.as_fd());
        }
        let e = takeover::hand_over(&self.own, &fds, &note.finish());
        log!("{e}: the program that runs goes on");
        let _ = notify::systemd(self.notify.as_deref(), "READY=1\n");
        let _ = self.events.add(self.listener.as_fd(), Source::Listener);
        for (id, c) in &mut self.conns {
            c.wants_out = c.has_queued();
            let again = self.events.add(c.fd.as_fd(), Source::Conn(*id));
            let _ = again.and_then(|()| self.events.change(c.fd.as_fd(), Source::Conn(*id), c.wants_out));
        }
        self.fill_pool();
        self.refuse(u.conn, u.request, Refusal::Internal, &e.to_string());
    }

    // ---- The next program ----------------------------------------------------------------------------

    /// Takes the clients over, and then what runs; tells who watches what has ended meanwhile.
    pub(super) fn take_over(&mut self, served: Served) {
        let Served {
            conns,
            live,
            sessions,
        } = served;
        let mut watching = Vec::new();
        for (fd, watches) in conns {
            let Ok(peer) = self.roles.of(fd.as_fd()) else {
                continue;
            };
            let id = self.new_id();
            if self.events.add(fd.as_fd(), Source::Conn(id)).is_ok() {
                let mut c = Conn::new(fd, peer);
                c.watching = watches;
                self.conns.insert(id, c);
                self.events.after(super::IDLE, Timer::Idle(id));
                watching.extend(watches.then_some(id));
            }
        }
        self.recover();
        for (nonce, channel, state) in sessions {
            self.reconnect(&nonce, channel, &state);
        }
        let is_live = |nonce: &Nonce| {
            self.sessions.values().any(|s| match &s.phase {
                Phase::Live { about, .. } => about.nonce == *nonce,
                _ => false,
            })
        };
        let ended: Vec<Nonce> = live.into_iter().filter(|n| !is_live(n)).collect();
        for nonce in ended {
            self.tell_watchers(&Reply::SessionEnded { nonce });
        }
        for id in watching {
            // All of them again: their leases and ends are with the daemon.
            self.tell_attempts(id);
        }
        let known = |pid: &i32| self.sessions.values().any(|s| s.process.0 == *pid);
        let own = tree::children(std::process::id() as i32);
        self.strays = own.into_iter().map(|c| c.0).filter(|p| !known(p)).collect();
        self.strays_timer();
    }

    /// A session of the program before has its channel again.
    fn reconnect(&mut self, nonce: &Nonce, channel: OwnedFd, state: &[u8]) {
        let mut all = self.sessions.iter();
        let is_it = |s: &Session| s.channel.is_none() && s.phase.about().is_some_and(|a| a.nonce == *nonce);
        let Some(id) = all.find(|(_, s)| is_it(s)).map(|(id, _)| *id) else {
            return;
        };
        if self.events.add(channel.as_fd(), Source::Channel(id)).is_err() {
            // It comes back by itself.
            return;
        }
        let Some(s) = self.sessions.get_mut(&id) else {
            return;
        };
        s.channel = Some(channel);
        s.deadline = None;
        match restore(s, state) {
            Ok(Some(left)) => self.set_deadline(id, left),
            Ok(None) => {}
            Err(e) => log!("session {}: {e}", hex(nonce)),
        }
        self.arm_runner(id);
    }

    /// Collects what the program before has started and nobody else waits for.
    pub(super) fn strays_timer(&mut self) {
        self.strays.retain(|pid| {
            let status = waitpid(Pid::from_raw(*pid), Some(WaitPidFlag::WNOHANG));
            matches!(status, Ok(WaitStatus::StillAlive))
        });
        if !self.strays.is_empty() {
            self.events.after(STRAYS, Timer::Strays);
        }
    }
}

const STATE: &[u8] = b"session 1\0";

/// What a session's record does not say, because a monitor that was started again would be told it.
fn state(s: &Session) -> Vec<u8> {
    let mut w = Writer::new(STATE);
    let left = s.deadline.map_or(0, |d| {
        d.saturating_duration_since(Instant::now()).as_millis() as u64 + 1
    });
    w.u64(left);
    w.bytes(s.unwanted.as_deref().unwrap_or_default().as_bytes());
    let attached = s.phase.about().map(|a| a.attached).unwrap_or_default();
    w.u8(u8::from(attached.detached)).u32(attached.watchers);
    if let Phase::Runner(r) = &s.phase {
        r.write(&mut w);
    }
    w.finish()
}

/// Reads that; how long the session has left for what it is to do.
fn restore(s: &mut Session, state: &[u8]) -> Result<Option<Duration>, Malformed> {
    let mut r = Reader::new(state, STATE, "state of a session")?;
    let left = r.u64()?;
    let by = r.text(PACKET_MAX)?;
    s.unwanted = Some(by).filter(|b| !b.is_empty());
    let attached = AttachState {
        detached: r.u8()? != 0,
        watchers: r.u32()?,
    };
    match &mut s.phase {
        Phase::Live { about, .. } => about.attached = attached,
        Phase::Runner(runner) => runner.read(&mut r)?,
        Phase::Starting | Phase::Warm { .. } => {}
    }
    Ok((left > 0).then(|| Duration::from_millis(left)))
}
