//! The monitor: one loop that waits for the kernel and answers small questions. Nothing in it blocks: sockets
//! are non-blocking, queues are bounded, names are looked up by other processes, and whoever has to wait is
//! parked while others go on. (Accepted exceptions, all on local files: reading keys and policy on reload, and
//! the authority's few synced writes when a host joins or a revocation list comes in.)
//!
//! This file: the state, the set-up and the loop. `serve` answers requests, `launch` starts what was asked for,
//! `control` ends it when asked, `jobs` runs batch jobs, `pool` keeps processes ready (forked by the `zygote`, or executed), `sessions`
//! follows them, `cleanup` ends what they leave, `upgrade` makes room for another version of this program.

mod accounts;
mod cgroup;
mod cleanup;
mod conn;
mod control;
mod events;
mod jobs;
mod launch;
pub(crate) mod log;
mod lookup;
mod names;
mod notify;
mod peer;
mod permit;
mod pool;
mod record;
mod rejoin;
mod serve;
mod sessions;
mod spawn;
mod tree;
mod trust;
mod upgrade;
mod zygote;

pub(crate) use accounts::print_account;
pub(crate) use log::log;
pub(crate) use names::print_user;

use accounts::Accounts;
use conn::Conn;
use events::{Events, Source, Timer};
use names::Names;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use peer::Roles;
use queue_exec::layout::{DAEMON_USER, Layout};
use queue_exec::operators::Operators;
use queue_exec::policy::Policy;
use queue_exec::protocol::PACKET_MAX;
use queue_exec::state::{random, unix_now};
use queue_exec::takeover::{self, Inherited};
use sessions::Session;
use spawn::Program;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use trust::{Seen, Trust};

/// Where local accounts are.
const PASSWD: &str = "/etc/passwd";
/// Connections at the same time; what is above the first is left for daemon and root.
const CONNS_MAX: usize = 4096;
const CONNS_RESERVE: usize = 64;
/// Connections of one user.
const CONNS_USER: usize = 512;
/// A connection that has nothing parked and asks nothing for so long is closed, unless it watches.
const IDLE: Duration = Duration::from_secs(60);

/// What the command line says.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) layout: Layout,
    /// Serve the owner of this process only.
    pub(crate) single: bool,
    pub(crate) ready_fd: Option<OwnedFd>,
    /// Program for `--print-user UID` and `--print-account NAME`; this one itself by default.
    pub(crate) lookup: Option<OsString>,
    /// Of `NOTIFY_SOCKET`.
    pub(crate) notify: Option<OsString>,
    /// What the program before this one left.
    pub(crate) inherited: Option<Inherited>,
}

/// All state.
pub(crate) struct Monitor {
    layout: Layout,
    /// The owner's name, in a single-user install.
    owner: Option<String>,
    events: Events,
    listener: OwnedFd,
    signals: SignalFd,
    lock: Flock<File>,
    roles: Roles,
    policy: Policy,
    operators: Operators,
    trust: Trust,
    seen: Seen,
    names: Names,
    accounts: Accounts,
    conns: HashMap<u32, Conn>,
    sessions: HashMap<u32, Session>,
    pool: pool::Pool,
    zygote: zygote::Zygote,
    cleanups: HashMap<u32, cleanup::Cleanup>,
    jobs: jobs::Jobs,
    parked: serve::Parked,
    program: Program,
    cgroups: Option<cgroup::Parent>,
    boot: String,
    next_id: u32,
    buffer: Vec<u8>,
    notify: Option<OsString>,
    stopping: bool,
    /// Where this program was started from, and its name among those that came after each other.
    own: PathBuf,
    image: [u8; 16],
    upgrade: Option<upgrade::Upgrade>,
    /// Processes of the program before this one, to be collected.
    strays: Vec<i32>,
}

/// Runs until it is told to stop.
///
/// # Errors
/// What kept it from starting, for people.
pub(crate) fn run(options: Options) -> Result<(), String> {
    let left = options.inherited.and_then(|i| {
        let left = upgrade::Left::read(i);
        left.inspect_err(|e| log!("{e}: starting as if there had been none"))
            .ok()
    });
    let mut m = Monitor::start(
        options.layout,
        options.single,
        options.lookup,
        options.notify,
        left,
    )?;
    m.fill_pool();
    let _ = notify::systemd(m.notify.as_deref(), "READY=1\n");
    if let Some(fd) = options.ready_fd {
        notify::ready_fd(fd).map_err(|e| format!("--ready-fd: {e}"))?;
    }
    m.turn_around()
}

impl Monitor {
    fn start(
        layout: Layout,
        single: bool,
        lookup: Option<OsString>,
        notify: Option<OsString>,
        left: Option<upgrade::Left>,
    ) -> Result<Self, String> {
        // Keys must not end in a core file, and no process of the same user may look into us. Not
        // PR_SET_NO_NEW_PRIVS: users' commands may run sudo.
        // SAFETY: no pointers.
        unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
        let nofile = left
            .as_ref()
            .map_or_else(raise_nofile, |l: &upgrade::Left| l.nofile);
        let own = takeover::program().map_err(|e| format!("/proc/self/exe: {e}"))?;
        let exe = fs::read_link("/proc/self/exe").map_err(|e| format!("/proc/self/exe: {e}"))?;
        let session = exe.with_file_name("queue-session");
        let lookup = lookup.unwrap_or_else(|| exe.into_os_string());
        let mut names = Names::new(PASSWD.into(), lookup.clone());
        let uid = nix::unistd::geteuid().as_raw();
        let mut policy = Policy::load(&layout.exec_conf()).map_err(|e| e.to_string())?;
        let mut owner = None;
        if single {
            let name = wait_for_name(&mut names, uid).ok_or_else(|| format!("uid {uid} has no name"))?;
            policy = policy.owned_by(&name, uid);
            owner = Some(name);
        }
        let operators = control::operators(&layout.queued_toml());
        let daemon = names.local_uid(DAEMON_USER);
        let roles =
            Roles::new(daemon, single.then_some(uid)).map_err(|e| format!("/proc/self/ns/user: {e}"))?;
        prepare_run(&layout, single)?;
        let events = Events::new().map_err(|e| format!("epoll: {e}"))?;
        let (lock, listener, state) = match left {
            Some(l) => {
                let (lock, listener, state) = l.split();
                (lock_run(&layout, Some(lock.into()))?, listener, Some(state))
            }
            None => {
                let lock = lock_run(&layout, None)?;
                let listener = bind_socket(&layout, single);
                let listener = listener.map_err(|e| format!("{}: {e}", layout.exec_socket().display()))?;
                (lock, listener, None)
            }
        };
        let signals = block_signals().map_err(|e| format!("signalfd: {e}"))?;
        let cgroups = match fs::metadata(&layout.run)
            .and_then(|m| cgroup::Parent::create(&format!("{:x}-{:x}", m.dev(), m.ino())))
        {
            Ok(c) => Some(c),
            Err(e) => {
                log!("sessions run without cgroups of their own: {e}");
                None
            }
        };
        events
            .add(listener.as_fd(), Source::Listener)
            .and_then(|()| events.add(signals.as_fd(), Source::Signals))
            .map_err(|e| format!("epoll: {e}"))?;
        let boot = tree::boot_id();
        let mut m = Self {
            jobs: jobs::Jobs::load(&layout, &boot),
            trust: Trust::load(&layout.exec_state()),
            seen: Seen::load(layout.sessions().join("nonces")),
            program: Program::new(&session, nofile).map_err(|e| format!("{}: {e}", session.display()))?,
            layout,
            owner,
            events,
            listener,
            signals,
            lock,
            roles,
            policy,
            operators,
            names,
            accounts: Accounts::new(lookup),
            conns: HashMap::new(),
            sessions: HashMap::new(),
            pool: pool::Pool::default(),
            zygote: zygote::Zygote::default(),
            cleanups: HashMap::new(),
            parked: serve::Parked::default(),
            cgroups,
            boot,
            next_id: 0,
            buffer: vec![0; PACKET_MAX],
            notify,
            stopping: false,
            own,
            image: random(),
            upgrade: None,
            strays: Vec::new(),
        };
        match state {
            Some(state) => m.take_over(state),
            None => m.recover(),
        }
        Ok(m)
    }

    /// The loop. One packet of each ready socket a turn, so that nobody gets more than his share.
    fn turn_around(&mut self) -> Result<(), String> {
        let mut ready = Vec::new();
        while !self.stopping {
            self.events.wait(&mut ready).map_err(|e| format!("epoll: {e}"))?;
            for source in ready.drain(..) {
                match source {
                    Source::Listener => self.accept(),
                    Source::Signals => self.take_signals(),
                    Source::Conn(id) => self.conn_ready(id),
                    Source::Channel(id) => drop(self.channel_ready(id)),
                    Source::Death(id) => self.session_died(id),
                    Source::Lookup(uid) => self.lookup_ready(uid, false),
                    Source::Account(id) => self.account_ready(id, false),
                    Source::Zygote => self.zygote_ready(),
                }
            }
            for timer in self.events.due(Instant::now()) {
                match timer {
                    Timer::Pool => self.pool_timer(),
                    Timer::Session(id) => self.session_timer(id),
                    Timer::Cleanup(id) => self.cleanup_step(id),
                    Timer::Idle(id) => self.idle_timer(id),
                    Timer::Lookup(uid) => self.lookup_ready(uid, true),
                    Timer::Account(id) => self.account_ready(id, true),
                    Timer::Starts => self.starts_timer(),
                    Timer::Admit => self.admit_again(),
                    Timer::Nonces => self.nonce_timer(),
                    Timer::Reap => self.reap_timer(),
                    Timer::Zygote => self.zygote_timer(),
                    Timer::Runner(id) => self.runner_timer(id),
                    Timer::Runners => self.idle_runners(),
                    Timer::Upgrade => self.upgrade_timer(),
                    Timer::Strays => self.strays_timer(),
                }
            }
        }
        let _ = notify::systemd(self.notify.as_deref(), "STOPPING=1\n");
        self.end_unclaimed();
        Ok(())
    }

    fn new_id(&mut self) -> u32 {
        loop {
            self.next_id = self.next_id.wrapping_add(1);
            let id = self.next_id;
            if !(self.conns.contains_key(&id)
                || self.sessions.contains_key(&id)
                || self.cleanups.contains_key(&id))
            {
                return id;
            }
        }
    }

    fn accept(&mut self) {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = match nix::sys::socket::accept4(self.listener.as_raw_fd(), flags) {
            // SAFETY: the kernel just made this descriptor for us.
            Ok(fd) => unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) },
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR | nix::errno::Errno::ECONNABORTED) => {
                return;
            }
            Err(e) => {
                log!("accept: {e}");
                return;
            }
        };
        let Ok(peer) = self.roles.of(fd.as_fd()) else {
            return;
        };
        let special = matches!(peer.role, permit::Role::Daemon | permit::Role::Root);
        let full = if special {
            CONNS_MAX
        } else {
            CONNS_MAX - CONNS_RESERVE
        };
        let mine = || self.conns.values().filter(|c| c.peer.uid == peer.uid).count();
        if self.conns.len() >= full || (!special && self.conns.len() >= CONNS_USER && mine() >= CONNS_USER) {
            return;
        }
        let id = self.new_id();
        if self.events.add(fd.as_fd(), Source::Conn(id)).is_ok() {
            self.conns.insert(id, Conn::new(fd, peer));
            self.events.after(IDLE, Timer::Idle(id));
        }
    }

    fn idle_timer(&mut self, id: u32) {
        let Some(c) = self.conns.get(&id) else { return };
        if c.watching || c.parked > 0 || c.active.elapsed() < IDLE {
            self.events.after(IDLE, Timer::Idle(id));
        } else {
            self.conns.remove(&id);
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(s)) = self.signals.read_signal() {
            if s.ssi_signo == Signal::SIGHUP as u32 {
                match self.reload() {
                    Ok(()) => log!("read keys and policy again"),
                    Err(e) => log!("{e}: the policy stays as it was"),
                }
            } else {
                self.stopping = true;
            }
        }
    }

    /// Reads keys, policy and the daemon's uid again. What is wrong with the policy leaves the old one.
    fn reload(&mut self) -> Result<(), String> {
        self.trust = Trust::load(&self.layout.exec_state());
        let mut policy = Policy::load(&self.layout.exec_conf()).map_err(|e| e.to_string())?;
        match &self.owner {
            Some(name) => policy = policy.owned_by(name, nix::unistd::geteuid().as_raw()),
            None => self.roles.daemon = self.names.local_uid(DAEMON_USER),
        }
        self.policy = policy;
        self.operators = control::operators(&self.layout.queued_toml());
        self.accounts.forget();
        self.dismiss_idle();
        self.renew_zygote();
        self.fill_pool();
        Ok(())
    }

    fn nonce_timer(&mut self) {
        self.seen.expire(unix_now());
        if !self.seen.is_empty() {
            self.events.after(Duration::from_secs(60), Timer::Nonces);
        }
    }

    fn reap_timer(&mut self) {
        // Both of them, whatever the first says.
        if self.names.reap() | self.accounts.reap() {
            self.events.after(Duration::from_secs(1), Timer::Reap);
        }
    }
}

/// The run directory, and the room of records in it.
fn prepare_run(layout: &Layout, single: bool) -> Result<(), String> {
    let run = &layout.run;
    let err = |e: io::Error| format!("{}: {e}", run.display());
    let group = if single {
        None
    } else {
        names::local_group(Path::new(PASSWD), DAEMON_USER)
    };
    DirBuilder::new()
        .recursive(true)
        .mode(if single { 0o700 } else { 0o755 })
        .create(run)
        .map_err(err)?;
    let us = nix::unistd::geteuid().as_raw();
    check_dir(run, us)?;
    if !single {
        // Sticky: the daemon makes its socket here, and cannot take ours away.
        let mode = if group.is_some() { 0o1775 } else { 0o1755 };
        std::os::unix::fs::chown(run, Some(0), Some(group.unwrap_or(0))).map_err(err)?;
        fs::set_permissions(run, Permissions::from_mode(mode)).map_err(err)?;
    }
    let sessions = layout.sessions();
    match DirBuilder::new().mode(0o700).create(&sessions) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(format!("{}: {e}", sessions.display()));
        }
        _ => {}
    }
    check_dir(&sessions, us)?;
    if fs::symlink_metadata(&sessions).is_ok_and(|m| m.mode() & 0o077 != 0) {
        return Err(format!("{}: is open to others: chmod 700 it", sessions.display()));
    }
    Ok(())
}

fn check_dir(dir: &Path, owner: u32) -> Result<(), String> {
    let m = fs::symlink_metadata(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    if !m.is_dir() || m.uid() != owner {
        return Err(format!("{}: is not a directory of uid {owner}", dir.display()));
    }
    Ok(())
}

/// One monitor for one run directory.
fn lock_run(layout: &Layout, held: Option<File>) -> Result<Flock<File>, String> {
    let dir = layout.sessions();
    let f = match held {
        Some(f) => f,
        None => File::open(&dir).map_err(|e| format!("{}: {e}", dir.display()))?,
    };
    Flock::lock(f, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| match e {
        nix::errno::Errno::EWOULDBLOCK => format!("another queue-exec serves {}", layout.run.display()),
        e => format!("{}: {e}", dir.display()),
    })
}

/// Binds under a private name and renames, so that the socket is there from one moment to the next, and a
/// stale one is replaced.
fn bind_socket(layout: &Layout, single: bool) -> io::Result<OwnedFd> {
    let path = layout.exec_socket();
    let tmp: PathBuf = layout
        .sessions()
        .join(format!("socket-{}", queue_exec::codec::hex(&random::<4>())));
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(&tmp)?)?;
    fs::set_permissions(&tmp, Permissions::from_mode(if single { 0o600 } else { 0o666 }))?;
    listen(&fd, Backlog::new(1024)?)?;
    fs::rename(&tmp, &path)?;
    Ok(fd)
}

fn block_signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    for s in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(s);
    }
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// Each session costs up to three descriptors here. Returns the limit as it was, for the children.
fn raise_nofile() -> libc::rlimit {
    let mut old = libc::rlimit {
        rlim_cur: 1024,
        rlim_max: 1024,
    };
    // SAFETY: the structure is valid for both calls.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut old);
        let new = libc::rlimit {
            rlim_cur: old.rlim_max,
            ..old
        };
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const new);
    }
    old
}

/// The name of the owner of a single-user install: the one time that a look-up is waited for, before anybody
/// is served.
fn wait_for_name(names: &mut Names, uid: u32) -> Option<String> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    match names.get(uid) {
        names::Answer::Known(n) => return Some(n),
        names::Answer::Started => {}
        _ => return None,
    }
    let until = Instant::now() + names::LOOKUP_TIMEOUT;
    loop {
        if let Some(fd) = names.descriptor(uid) {
            let _ = poll(
                &mut [PollFd::new(fd, PollFlags::POLLIN)],
                PollTimeout::from(100u8),
            );
        }
        if let Some(name) = names.finish(uid, Instant::now() > until) {
            return name;
        }
    }
}
