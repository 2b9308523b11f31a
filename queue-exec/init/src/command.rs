//! From a new process to an `execve`: everything that happens in the child, in the order that matters.
//!
//! The child borrows the parent's memory until it has executed the program or ended, and the parent waits for
//! that, as with `vfork(2)` and `posix_spawn(3)`: nothing is copied, and errors come back in a variable. It
//! has a stack, descriptors, signal dispositions, directory and limits of its own. A directory that hangs
//! (a dead file server) therefore hangs init as well, until the monitor kills the child.

use crate::{Spec, Stage};
use nix::errno::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

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

/// The children's stack, one child at a time; made with the first one.
#[derive(Default)]
pub(crate) struct Stack(Vec<u128>);

impl Stack {
    /// Its end, from which it grows down.
    fn top(&mut self) -> *mut libc::c_void {
        if self.0.is_empty() {
            self.0 = vec![0; STACK / size_of::<u128>()];
        }
        // SAFETY: one past the last element of the allocation.
        unsafe { self.0.as_mut_ptr().add(self.0.len()).cast() }
    }
}

/// Gives all signals their default disposition, which the children inherit. Every one is blocked in init.
pub(crate) fn defaults() {
    for n in 1..=NSIG {
        disposition(n, libc::SIG_DFL);
    }
}

fn disposition(signal: i32, to: libc::sighandler_t) {
    // SAFETY: plain system call with a valid pointer; an all-zero sigaction is a valid value. Fails for KILL, STOP
    // and the two that glibc keeps for itself, which is right.
    unsafe {
        let mut act: libc::sigaction = std::mem::zeroed();
        act.sa_sigaction = to;
        libc::sigaction(signal, &raw const act, std::ptr::null_mut());
    }
}

/// What parent and child share.
struct Shared<'a> {
    spec: &'a Spec,
    program: Program,
    stdio: [RawFd; 3],
    failure: Option<Failure>,
}

extern "C" fn child(arg: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the parent passed this and waits while we use it.
    let shared = unsafe { &mut *arg.cast::<Shared<'_>>() };
    shared.failure = Some(become_command(shared.spec, &mut shared.program, shared.stdio));
    127
}

/// Starts the command; gives its process id once the program is executed.
///
/// # Errors
/// What was being done, and why it failed.
pub(crate) fn start(spec: &Spec, stdio: [OwnedFd; 3], stack: &mut Stack) -> Result<i32, Failure> {
    if spec.terminal < 3 {
        let tty = stdio[usize::from(spec.terminal)].as_raw_fd();
        // SAFETY: makes the terminal ours; we lead a session without one.
        Errno::result(unsafe { libc::ioctl(tty, libc::TIOCSCTTY, 0) }).map_err(|e| (Stage::Process, e))?;
    }
    let mut shared = Shared {
        spec,
        program: Program::new(spec),
        stdio: stdio.each_ref().map(|f| f.as_raw_fd()),
        failure: None,
    };
    // SAFETY: the child runs on a stack of its own; CLONE_VFORK keeps us here until it has let go of our memory. We
    // have one thread.
    let pid = unsafe {
        libc::clone(
            child,
            stack.top(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            (&raw mut shared).cast(),
        )
    };
    let pid = Errno::result(pid).map_err(|e| (Stage::Process, e))?;
    // Written by the child, which the compiler does not know of.
    // SAFETY: a valid pointer to a live value.
    match unsafe { std::ptr::read_volatile(&raw const shared.failure) } {
        None => Ok(pid),
        Some(failure) => {
            // It has ended, or is about to.
            // SAFETY: our own child.
            while unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) } < 0 && Errno::last() == Errno::EINTR
            {
            }
            Err(failure)
        }
    }
}

/// Becomes the command. Only returns if that failed.
fn become_command(spec: &Spec, program: &mut Program, stdio: [RawFd; 3]) -> Failure {
    match prepare(spec, &program.cwd, stdio) {
        Ok(()) => exec(program),
        Err(failure) => failure,
    }
}

fn prepare(spec: &Spec, cwd: &CStr, stdio: [RawFd; 3]) -> Result<(), Failure> {
    let process = |e: Errno| (Stage::Process, e);
    // SAFETY: plain system calls on our own process.
    unsafe {
        // Should init be killed while we hang in a directory, nothing may be executed any more.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
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
    directory(spec, cwd)?;
    // SAFETY: no pointers. What is executed may outlive init if it likes.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0) };
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

fn directory(spec: &Spec, cwd: &CStr) -> Result<(), Failure> {
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
    for n in (1..=NSIG).filter(|n| bit(spec.ignored, *n)) {
        disposition(n, libc::SIG_IGN);
    }
    // SAFETY: plain system calls with valid pointers; an all-zero sigset_t is a valid value.
    unsafe {
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut mask);
        for n in (1..=NSIG).filter(|n| bit(spec.blocked, *n)) {
            libc::sigaddset(&raw mut mask, n);
        }
        libc::sigprocmask(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut());
    }
}

/// Everything that `execve(2)` wants, made before the child is: what the child allocates is never freed.
struct Program {
    /// Where the program may be.
    files: Vec<CString>,
    cwd: CString,
    /// They own what `args` and `env` point to.
    _argv: Vec<CString>,
    _env: Vec<CString>,
    /// A place for a shell, then the arguments.
    args: Vec<*const libc::c_char>,
    env: Vec<*const libc::c_char>,
}

impl Program {
    fn new(spec: &Spec) -> Self {
        let strings = |list: &[Vec<u8>]| -> Vec<CString> { list.iter().map(|a| cstring(a)).collect() };
        let (mut argv, env) = (strings(&spec.argv), strings(&spec.env));
        if argv.is_empty() {
            // As the kernel does it.
            argv.push(CString::default());
        }
        let pointers = |before: usize, list: &[CString]| -> Vec<*const libc::c_char> {
            let mut v = Vec::with_capacity(before + list.len() + 1);
            v.resize(before, std::ptr::null());
            v.extend(list.iter().map(|s| s.as_ptr()));
            v.push(std::ptr::null());
            v
        };
        Self {
            files: files(spec),
            cwd: cstring(&spec.cwd),
            args: pointers(1, &argv),
            env: pointers(0, &env),
            _argv: argv,
            _env: env,
        }
    }
}

/// The files that may be meant, in the order of the search path of the new environment.
fn files(spec: &Spec) -> Vec<CString> {
    if spec.program.contains(&b'/') || spec.program.is_empty() {
        return vec![cstring(&spec.program)];
    }
    let path = spec.env.iter().find_map(|e| e.strip_prefix(b"PATH="));
    path.unwrap_or(b"/usr/local/bin:/usr/bin:/bin")
        .split(|c| *c == b':')
        .map(|dir| {
            let dir = if dir.is_empty() { b"." } else { dir };
            cstring(&[dir, b"/", &spec.program].concat())
        })
        .collect()
}

/// As `execvpe(3)`, but telling 126 from 127 apart: a file that is there and cannot be executed is reported before
/// one that is not there. Allocates nothing.
fn exec(program: &mut Program) -> Failure {
    let mut failed = Errno::ENOENT;
    let searched = program.files.len() > 1;
    for i in 0..program.files.len() {
        let file = program.files[i].as_ptr();
        // Asking is cheaper than an attempt, and most directories do not have it.
        // SAFETY: a valid C string.
        let missing = searched && unsafe { libc::access(file, libc::F_OK) } != 0;
        if missing && matches!(Errno::last(), Errno::ENOENT | Errno::ENOTDIR) {
            continue;
        }
        match exec_file(file, program) {
            Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE | Errno::ENODEV | Errno::ETIMEDOUT if searched => {
            }
            // Perhaps there is a better one further on; else this is what is reported.
            Errno::EACCES if searched => {
                if !is_dir(file) {
                    failed = Errno::EACCES;
                }
            }
            e => return (Stage::Exec, e),
        }
    }
    (Stage::Exec, failed)
}

fn is_dir(file: *const libc::c_char) -> bool {
    // SAFETY: an all-zero stat is a valid value to be overwritten; valid pointers.
    unsafe {
        let mut s: libc::stat = std::mem::zeroed();
        libc::stat(file, &raw mut s) == 0 && s.st_mode & libc::S_IFMT == libc::S_IFDIR
    }
}

fn exec_file(file: *const libc::c_char, program: &mut Program) -> Errno {
    let env = program.env.as_ptr();
    // SAFETY: NULL-terminated arrays of valid C strings that outlive the call.
    unsafe { libc::execve(file, program.args[1..].as_ptr(), env) };
    let e = Errno::last();
    if e != Errno::ENOEXEC {
        return e;
    }
    // A script without `#!`: run by the shell, as every shell and execvp do. It takes the place of the name.
    let name = std::mem::replace(&mut program.args[1], file);
    program.args[0] = c"/bin/sh".as_ptr();
    // SAFETY: as above.
    unsafe { libc::execve(c"/bin/sh".as_ptr(), program.args.as_ptr(), env) };
    program.args[1] = name;
    Errno::ENOEXEC
}
