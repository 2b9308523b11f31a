//! Starting programs in new or existing namespaces: what happens between fork and exec.
//!
//! A PID namespace takes effect for children only, so the process that [`prepare`] is applied to forks once
//! more: the first one (the *stand-in*) stays outside, holds nothing open, and ends as the second one ends.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Sender, channel};

use anyhow::{Context, Result};

const ALL: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWCGROUP;

/// Which namespaces the program runs in.
pub(crate) enum Space {
    /// New ones of every kind, with this host name.
    New(CString),
    /// A new network, nothing else.
    NewNet,
    /// All namespaces of this process (a pidfd).
    Join(OwnedFd),
    /// Only the network of this process (a pidfd).
    JoinNet(OwnedFd),
}

/// Who the program runs as.
pub(crate) struct Ids {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

/// Everything that happens to a program on its way into a host.
pub(crate) struct Plan {
    /// Which namespaces.
    pub(crate) space: Space,
    /// The `cgroup.procs` to enter through.
    pub(crate) cgroup: Option<File>,
    /// Whose credentials; `None` keeps root's.
    pub(crate) ids: Option<Ids>,
    /// Directories to try, in this order; failing all is an error if there is one at all.
    pub(crate) dirs: Vec<CString>,
    /// In a session of its own, without a terminal.
    pub(crate) session: bool,
    /// Dies when the calling *thread* does.
    pub(crate) mortal: bool,
}

impl Plan {
    /// Only the namespaces.
    pub(crate) fn new(space: Space) -> Self {
        Self {
            space,
            cgroup: None,
            ids: None,
            dirs: Vec::new(),
            session: false,
            mortal: false,
        }
    }
}

/// Makes `command` follow the plan when it is started.
pub(crate) fn prepare(command: &mut Command, plan: Plan) {
    let parent = std::process::id() as i32;
    // SAFETY: the closure runs after a fork of a program that may have threads, so it only makes system calls
    // and touches memory that was allocated before.
    unsafe { command.pre_exec(move || follow(&plan, parent)) };
}

fn follow(plan: &Plan, parent: i32) -> io::Result<()> {
    if plan.mortal {
        die_with_parent()?;
        // SAFETY: no arguments.
        if unsafe { libc::getppid() } != parent {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
    }
    if let Some(door) = &plan.cgroup {
        // SAFETY: one byte of a static buffer.
        check(unsafe { libc::write(door.as_raw_fd(), b"0".as_ptr().cast(), 1) } as i32)?;
    }
    // SAFETY: system calls with descriptors and numbers only; the buffers named outlive the calls.
    unsafe {
        libc::umask(0o022);
        let forks = match &plan.space {
            Space::New(_) => check(libc::unshare(ALL)).map(|()| true)?,
            Space::NewNet => check(libc::unshare(libc::CLONE_NEWNET)).map(|()| false)?,
            Space::Join(fd) => check(libc::setns(fd.as_raw_fd(), ALL)).map(|()| true)?,
            Space::JoinNet(fd) => check(libc::setns(fd.as_raw_fd(), libc::CLONE_NEWNET)).map(|()| false)?,
        };
        if forks {
            let child = libc::fork();
            check(child)?;
            if child > 0 {
                stand_in(child);
            }
            if plan.mortal {
                die_with_parent()?;
            }
        }
        if plan.session {
            check(libc::setsid())?;
        }
        if let Space::New(name) = &plan.space {
            check(libc::sethostname(name.as_ptr(), name.as_bytes().len()))?;
        }
        if let Some(ids) = &plan.ids {
            check(libc::setgroups(ids.groups.len(), ids.groups.as_ptr()))?;
            check(libc::setresgid(ids.gid, ids.gid, ids.gid))?;
            check(libc::setresuid(ids.uid, ids.uid, ids.uid))?;
        }
        let mut found = plan.dirs.is_empty();
        for dir in &plan.dirs {
            if libc::chdir(dir.as_ptr()) == 0 {
                found = true;
                break;
            }
        }
        if !found {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn die_with_parent() -> io::Result<()> {
    // SAFETY: a system call with numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })
}

/// The child of the stand-in; written before the handlers that read it are set.
static CHILD: AtomicI32 = AtomicI32::new(0);

extern "C" fn pass_on(signal: i32) {
    // SAFETY: kill is async-signal-safe.
    unsafe { libc::kill(CHILD.load(Ordering::Relaxed), signal) };
}

/// Waits for the child and ends in the same way.
fn stand_in(child: i32) -> ! {
    CHILD.store(child, Ordering::Relaxed);
    let handler: extern "C" fn(i32) = pass_on;
    // SAFETY: system calls on numbers and local variables; the process is a copy that never returns.
    unsafe {
        // Ctrl-C of a terminal reaches the child by itself.
        libc::signal(libc::SIGINT, libc::SIG_IGN);
        libc::signal(libc::SIGQUIT, libc::SIG_IGN);
        for s in [libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2] {
            libc::signal(s, handler as libc::sighandler_t);
        }
        libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0);
        let mut status = 0;
        while libc::waitpid(child, &mut status, 0) < 0 {
            if *libc::__errno_location() != libc::EINTR {
                libc::_exit(125);
            }
        }
        if libc::WIFEXITED(status) {
            libc::_exit(libc::WEXITSTATUS(status));
        }
        let signal = libc::WTERMSIG(status);
        let none = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        libc::setrlimit(libc::RLIMIT_CORE, &none);
        libc::signal(signal, libc::SIG_DFL);
        libc::kill(libc::getpid(), signal);
        libc::_exit(128 + signal)
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// Starts the command from a thread that lives as long as this process does. The kernel ties a mortal child
/// to the thread that forked it, and the threads of a test runner come and go.
pub(crate) fn spawn_from_lasting_thread(mut command: Command) -> Result<Child> {
    static THREAD: OnceLock<Sender<Job>> = OnceLock::new();
    let thread = THREAD.get_or_init(|| {
        let (sender, jobs) = channel::<Job>();
        std::thread::spawn(move || {
            for job in jobs {
                job();
            }
        });
        sender
    });
    let (reply, result) = channel();
    let job: Job = Box::new(move || {
        let _ = reply.send(command.spawn());
    });
    thread.send(job).ok().context("the spawning thread is gone")?;
    Ok(result.recv().context("the spawning thread is gone")??)
}
