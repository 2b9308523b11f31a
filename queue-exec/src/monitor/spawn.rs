//! Starts a session process: forked straight into its cgroup where the kernel can do that, with descriptor 3
//! as its channel to the monitor and nothing else of ours. Knows clone, exec and descriptors; not what a
//! session is for.

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::ffi::{CString, OsStr};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// The channel's number in the child.
const CHANNEL: RawFd = 3;
/// Descriptors prepared for the child stay out of the way of 0 to 3.
const ABOVE: RawFd = 10;

/// Of `linux/sched.h`; the constant of the libc crate is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What is executed, made once.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: CString,
    argv: Vec<CString>,
    envp: [CString; 2],
    /// The limit of open files that the monitor was started with; its own is higher.
    pub(crate) nofile: libc::rlimit,
}

/// A started process.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    /// Our end of the channel, non-blocking.
    pub(crate) channel: OwnedFd,
}

impl Program {
    pub(crate) fn new(path: &Path, nofile: libc::rlimit) -> io::Result<Self> {
        let name = path.file_name().unwrap_or(OsStr::new("queue-session"));
        Ok(Self {
            path: CString::new(path.as_os_str().as_bytes())?,
            argv: vec![CString::new(name.as_bytes())?],
            envp: [
                c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
                c"LANG=C.UTF-8".into(),
            ],
            nofile,
        })
    }

    /// The same program as a zygote.
    pub(crate) fn zygote(&self) -> Self {
        let mut z = self.clone();
        z.argv.push(c"--zygote".into());
        z
    }
}

/// A channel to a session process: our end, non-blocking, and its.
pub(crate) fn channel() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    nix::fcntl::fcntl(
        &ours,
        nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
    )?;
    Ok((ours, theirs))
}

/// Starts the program, in the cgroup whose directory is open as `cgroup`.
pub(crate) fn spawn(program: &Program, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Spawned> {
    let (ours, theirs) = channel()?;
    let theirs = high(theirs)?;
    let null = high(
        OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?
            .into(),
    )?;
    // Opened before the fork: the child must not allocate.
    let procs = match cgroup {
        Some(dir) => Some(high(open_at(dir, c"cgroup.procs")?)?),
        None => None,
    };
    let argv: Vec<_> = program
        .argv
        .iter()
        .map(|a| a.as_ptr())
        .chain([std::ptr::null()])
        .collect();
    let envp = [
        program.envp[0].as_ptr(),
        program.envp[1].as_ptr(),
        std::ptr::null(),
    ];

    let mut pidfd: RawFd = -1;
    let (pid, moved) = match fork_into(cgroup, &mut pidfd) {
        Ok(pid) => (pid, true),
        // No clone3 here (seccomp), or it cannot put us there: the child moves itself.
        // SAFETY: we have one thread, and the child calls nothing but async-signal-safe functions.
        Err(_) => match unsafe { libc::fork() } {
            n if n < 0 => return Err(io::Error::last_os_error()),
            n => (n, false),
        },
    };
    if pid == 0 {
        let procs = procs.as_ref().filter(|_| !moved).map(|p| p.as_raw_fd());
        child(program, &argv, &envp, theirs.as_raw_fd(), null.as_raw_fd(), procs);
    }
    if pidfd < 0 {
        // SAFETY: no pointers; the child cannot be reaped by anybody else, so its id is its own still.
        pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as RawFd;
        if pidfd < 0 {
            let e = io::Error::last_os_error();
            // SAFETY: as above.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            return Err(e);
        }
    }
    // SAFETY: the kernel just made this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Spawned {
        pid,
        pidfd,
        channel: ours,
    })
}

/// `fork` that returns a pidfd, and puts the child into the cgroup at once.
fn fork_into(cgroup: Option<BorrowedFd<'_>>, pidfd: &mut RawFd) -> io::Result<i32> {
    // SAFETY: all-zero is a valid clone_args.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = libc::CLONE_PIDFD as u64;
    args.pidfd = std::ptr::from_mut(pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(dir) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = dir.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM this is a fork; `args` and `pidfd` live through the call. We have one thread, and
    // the child calls nothing but async-signal-safe functions.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) } {
        n if n < 0 => Err(io::Error::last_os_error()),
        n => Ok(n as i32),
    }
}

/// The child: arranges descriptors, signals and limits, and executes. Only async-signal-safe calls.
fn child(
    program: &Program,
    argv: &[*const libc::c_char],
    envp: &[*const libc::c_char],
    channel: RawFd,
    null: RawFd,
    procs: Option<RawFd>,
) -> ! {
    // SAFETY: plain system calls on descriptors and memory that the parent prepared; nothing is allocated, no
    // lock is taken. Standard error stays the log.
    unsafe {
        if let Some(fd) = procs
            && libc::write(fd, c"0".as_ptr().cast(), 1) != 1
        {
            libc::_exit(126);
        }
        if libc::dup2(null, 0) < 0 || libc::dup2(null, 1) < 0 || libc::dup2(channel, CHANNEL) < 0 {
            libc::_exit(126);
        }
        libc::syscall(libc::SYS_close_range, CHANNEL + 1, u32::MAX, 0);
        // The handlers of ignored signals survive exec.
        for sig in 1..=64 {
            libc::signal(sig, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const program.nofile);
        libc::chdir(c"/".as_ptr());
        libc::umask(0o022);
        libc::execve(program.path.as_ptr(), argv.as_ptr(), envp.as_ptr());
        libc::_exit(127)
    }
}

fn open_at(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> io::Result<OwnedFd> {
    Ok(nix::fcntl::openat(
        dir,
        name,
        nix::fcntl::OFlag::O_WRONLY | nix::fcntl::OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )?)
}

fn high(fd: OwnedFd) -> io::Result<OwnedFd> {
    let n = nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(ABOVE))?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(n) })
}
