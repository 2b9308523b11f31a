//! From a new process to an `execve`: everything that happens in the child, in the order that matters.
//!
//! The child borrows the parent's memory until it has executed the program or ended, and the parent waits for
//! that, as with `vfork(2)` and `posix_spawn(3)`: nothing is copied, and errors come back in a variable. It
//! has a stack, descriptors, signal dispositions, directory and limits of its own. A directory that hangs
//! (a dead file server) therefore hangs init as well, until the monitor kills the child.

use crate::{Spec, Stage};
use nix::errno::Errno;
use std::ffi::CString;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;

/// Largest signal number (`_NSIG` on Linux).
const NSIG: i32 = 64;

/// What stopped the child short of running the program.
type Failure = (Stage, Errno);

fn cstring(b: &[u8]) -> CString {
    // A NUL cannot come: the session refuses requests with one. Cut there rather than fail.
    CString::new(b.split(|c| *c == 0).next().unwrap_or_default()).unwrap_or_default()
}

/// Stack of the child until it executes: what `execvpe(3)` needs, and the buffers of path names.
const STACK: usize = 128 * 1024;

/// What parent and child share.
struct Shared<'a> {
    spec: &'a Spec,
    stdio: [RawFd; 3],
    failure: Option<Failure>,
}

extern "C" fn child(arg: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the parent passed this and waits while we use it.
    let shared = unsafe { &mut *arg.cast::<Shared<'_>>() };
    shared.failure = Some(become_command(shared.spec, shared.stdio));
    127
}

/// Starts the command; gives its process id once the program is executed.
///
/// # Errors
/// What was being done, and why it failed.
pub(crate) fn start(spec: &Spec, stdio: [OwnedFd; 3]) -> Result<i32, Failure> {
    if spec.terminal < 3 {
        let tty = stdio[usize::from(spec.terminal)].as_raw_fd();
        // SAFETY: makes the terminal ours; we lead a session without one.
        Errno::result(unsafe { libc::ioctl(tty, libc::TIOCSCTTY, 0) }).map_err(|e| (Stage::Process, e))?;
    }
    let mut stack = vec![0u128; STACK / size_of::<u128>()];
    let mut shared = Shared {
        spec,
        stdio: stdio.each_ref().map(|f| f.as_raw_fd()),
        failure: None,
    };
    // SAFETY: the child runs on a stack of its own, which grows down from the end of `stack`; CLONE_VFORK keeps
    // us here until it has let go of our memory. We have one thread.
    let pid = unsafe {
        libc::clone(
            child,
            stack.as_mut_ptr().add(stack.len()).cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            (&raw mut shared).cast(),
        )
    };
    let pid = Errno::result(pid).map_err(|e| (Stage::Process, e))?;
    // Written by the child, which the compiler does not know of.
    // SAFETY: a valid pointer to a live value.
    match unsafe { std::ptr::read_volatile(&raw const shared.failure) } {
        None => Ok(pid),
        Some(failure) => Err(failure),
    }
}

/// Becomes the command. Only returns if that failed.
fn become_command(spec: &Spec, stdio: [RawFd; 3]) -> Failure {
    match prepare(spec, stdio) {
        Ok(()) => exec(spec),
        Err(failure) => failure,
    }
}

fn prepare(spec: &Spec, stdio: [RawFd; 3]) -> Result<(), Failure> {
    let process = |e: Errno| (Stage::Process, e);
    // SAFETY: plain system calls on our own process.
    unsafe {
        Errno::result(libc::setpgid(0, 0)).map_err(process)?;
        // Everything is still blocked here, SIGTTOU included, so this works from the background.
        if spec.terminal < 3 {
            let tty = stdio[usize::from(spec.terminal)];
            Errno::result(libc::tcsetpgrp(tty, libc::getpid())).map_err(process)?;
        }
    }
    // The three may be in each other's way (0 as the new 1, ...): move them up first.
    let mut up: [RawFd; 3] = [-1; 3];
    for (u, fd) in up.iter_mut().zip(&stdio) {
        // SAFETY: duplicating a descriptor that we own.
        *u = Errno::result(unsafe { libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, 10) }).map_err(process)?;
    }
    for (to, from) in up.iter().enumerate() {
        // SAFETY: as above; 0 to 2 are ours to replace.
        Errno::result(unsafe { libc::dup2(*from, to as RawFd) }).map_err(process)?;
    }
    limits(spec);
    directory(spec)?;
    signals(spec);
    // SAFETY: marks descriptors close-on-exec; the error pipe stays usable until then.
    unsafe {
        if libc::syscall(
            libc::SYS_close_range,
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        ) != 0
        {
            for fd in 3..1024 {
                libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
    Ok(())
}

/// Umask, nice value and limits: what the host allows, or tighter.
fn limits(spec: &Spec) {
    // SAFETY: plain system calls with valid pointers.
    unsafe {
        if let Some(mask) = spec.umask {
            libc::umask(mask & 0o777);
        }
        let now = libc::getpriority(libc::PRIO_PROCESS, 0);
        if spec.nice > now {
            libc::setpriority(libc::PRIO_PROCESS, 0, spec.nice);
        }
        for (resource, soft, hard) in &spec.rlimits {
            let mut have = libc::rlimit {
                rlim_cur: 0,
                rlim_max: 0,
            };
            if *resource >= 16 || libc::getrlimit(*resource, &raw mut have) != 0 {
                continue;
            }
            let rlim_max = have.rlim_max.min(*hard);
            let want = libc::rlimit {
                rlim_cur: (*soft).min(rlim_max),
                rlim_max,
            };
            libc::setrlimit(*resource, &raw const want);
        }
    }
}

fn directory(spec: &Spec) -> Result<(), Failure> {
    let cwd = cstring(&spec.cwd);
    // SAFETY: a valid C string.
    match Errno::result(unsafe { libc::chdir(cwd.as_ptr()) }) {
        Ok(_) => Ok(()),
        // SAFETY: as above.
        Err(_) if spec.cwd_optional && unsafe { libc::chdir(c"/".as_ptr()) } == 0 => Ok(()),
        Err(e) => Err((Stage::Directory, e)),
    }
}

/// Dispositions and mask as the caller's. Before this all signals are blocked.
fn signals(spec: &Spec) {
    let bit = |set: u64, n: i32| set & (1 << (n - 1)) != 0;
    // SAFETY: plain system calls with valid pointers; an all-zero sigset_t and sigaction are valid values.
    unsafe {
        for n in 1..=NSIG {
            let mut act: libc::sigaction = std::mem::zeroed();
            act.sa_sigaction = if bit(spec.ignored, n) {
                libc::SIG_IGN
            } else {
                libc::SIG_DFL
            };
            // Fails for KILL, STOP and the two that glibc keeps for itself, which is right.
            libc::sigaction(n, &raw const act, std::ptr::null_mut());
        }
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut mask);
        for n in (1..=NSIG).filter(|n| bit(spec.blocked, *n)) {
            libc::sigaddset(&raw mut mask, n);
        }
        libc::sigprocmask(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut());
    }
}

/// As `execvpe(3)`, but with the search path of the new environment, and telling 126 from 127 apart: a file
/// that is there and cannot be executed is reported before one that is not there.
fn exec(spec: &Spec) -> Failure {
    let argv: Vec<CString> = spec.argv.iter().map(|a| cstring(a)).collect();
    let env: Vec<CString> = spec.env.iter().map(|e| cstring(e)).collect();
    let mut failed = Errno::ENOENT;
    if spec.program.contains(&b'/') || spec.program.is_empty() {
        failed = exec_file(&spec.program, &argv, &env);
    } else {
        let path = spec.env.iter().find_map(|e| e.strip_prefix(b"PATH="));
        for dir in path
            .unwrap_or(b"/usr/local/bin:/usr/bin:/bin")
            .split(|c| *c == b':')
        {
            let dir = if dir.is_empty() { b"." } else { dir };
            let file = [dir, b"/", &spec.program].concat();
            match exec_file(&file, &argv, &env) {
                Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE | Errno::ENODEV | Errno::ETIMEDOUT => {}
                // Perhaps there is a better one further on; else this is what is reported.
                Errno::EACCES => {
                    let is_dir = std::path::Path::new(std::ffi::OsStr::from_bytes(&file)).is_dir();
                    if !is_dir {
                        failed = Errno::EACCES;
                    }
                }
                e => {
                    failed = e;
                    break;
                }
            }
        }
    }
    (Stage::Exec, failed)
}

fn exec_file(file: &[u8], argv: &[CString], env: &[CString]) -> Errno {
    let program = cstring(file);
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter()
            .map(|s| s.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (args, env) = (pointers(argv), pointers(env));
    // SAFETY: NUL-terminated arrays of valid C strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    let e = Errno::last();
    if e != Errno::ENOEXEC {
        return e;
    }
    // A script without `#!`: run by the shell, as every shell and execvp do.
    let mut script = vec![c"/bin/sh".as_ptr(), program.as_ptr()];
    script.extend(args.iter().skip(1));
    // SAFETY: as above; `args` ends with a null pointer.
    unsafe { libc::execve(c"/bin/sh".as_ptr(), script.as_ptr(), env.as_ptr()) };
    Errno::ENOEXEC
}
