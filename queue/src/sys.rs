//! The kernel calls that need `unsafe`, each wrapped so that its callers need none. The only file here with
//! `unsafe`; it knows numbers and bytes, and nothing of what they are for.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

/// A set of signals: bit N-1 for signal N, as the kernel has it. (`sigset_t` of the C library hides two.)
pub type Mask = u64;

/// The bit of a signal.
pub fn bit(signal: i32) -> Mask {
    if (1..=64).contains(&signal) {
        1 << (signal - 1)
    } else {
        0
    }
}

/// Standard input, output or error.
pub fn stdio(n: usize) -> BorrowedFd<'static> {
    // SAFETY: `open_missing` has made sure that 0, 1 and 2 are open, and nothing here ever closes them
    // (`dup_over` replaces them, which leaves them open).
    unsafe { BorrowedFd::borrow_raw(n.min(2) as RawFd) }
}

/// Opens `/dev/null` in place of whichever of the descriptors 0 to 2 is closed, so that no socket of ours gets
/// a number that others take for standard output.
pub fn open_missing() {
    for fd in 0..3 {
        // SAFETY: asks for the flags of a number; touches no memory.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
            // SAFETY: a constant string with its terminating zero. The lowest free number is `fd`.
            let _ = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
        }
    }
}

/// Makes descriptor `n` (0 to 2) another name for `fd`.
pub fn dup_over(fd: &OwnedFd, n: usize) -> io::Result<()> {
    // SAFETY: both are open descriptors; no memory is involved.
    Errno::result(unsafe { libc::dup2(fd.as_raw_fd(), n.min(2) as RawFd) })?;
    Ok(())
}

/// Whether a descriptor is open.
pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: asks for the flags of a number; touches no memory.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// The environment exactly as it was given, entries without `=` included.
pub fn environ() -> Vec<Vec<u8>> {
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    let mut all = Vec::with_capacity(64);
    // SAFETY: the C library keeps a list of strings that ends with a null pointer; this program has one thread
    // and never changes its environment.
    unsafe {
        let mut p = environ;
        while !p.is_null() && !(*p).is_null() {
            all.push(CStr::from_ptr(*p).to_bytes().to_vec());
            p = p.add(1);
        }
    }
    all
}

/// Signals that are ignored now.
pub fn ignored() -> Mask {
    // 32 and 33 belong to the C library, which refuses to tell of them.
    (1..=64).filter(|s| *s != 32 && *s != 33).fold(0, |mask, signal| {
        // SAFETY: an all-zero `sigaction` is a valid one.
        let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: only asks; `now` is valid for writing.
        let ok = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut now) } == 0;
        if ok && now.sa_sigaction == libc::SIG_IGN {
            mask | bit(signal)
        } else {
            mask
        }
    })
}

/// Sets a signal's action to the default, or to being ignored.
pub fn set_action(signal: i32, ignore: bool) {
    // SAFETY: an all-zero `sigaction` is a valid one.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = if ignore { libc::SIG_IGN } else { libc::SIG_DFL };
    // SAFETY: `action` is valid and installs no function of ours.
    let _ = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
}

/// Changes the set of blocked signals and gives the former one. `how` is `SIG_BLOCK` and its like.
pub fn sigmask(how: libc::c_int, set: Option<Mask>) -> Mask {
    let mut old: Mask = 0;
    let new = set.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: both point to 8 bytes, which is what the last argument says. The raw call is used because the C
    // library's leaves out signals 32 and 33.
    let _ = unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, new, &raw mut old, 8) };
    old
}

/// Signals that are pending.
pub fn pending() -> Mask {
    let mut set: Mask = 0;
    // SAFETY: points to 8 bytes, which is what the last argument says.
    let _ = unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut set, 8) };
    set
}

/// A descriptor from which these (blocked) signals are read. Non-blocking, close-on-exec.
pub fn signalfd(set: Mask) -> io::Result<OwnedFd> {
    let flags = libc::SFD_NONBLOCK | libc::SFD_CLOEXEC;
    // SAFETY: points to 8 bytes, which is what the third argument says.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const set, 8, flags) })?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Reads one signal: its number and the process that sent it (0: the kernel).
pub fn read_signal(fd: &OwnedFd) -> Option<(i32, u32)> {
    // SAFETY: all-zero is a valid value of this structure of plain numbers.
    let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::signalfd_siginfo>();
    // SAFETY: `info` is valid for `size` bytes, any of which may be written.
    let n = unsafe { libc::read(fd.as_raw_fd(), (&raw mut info).cast(), size) };
    (n == size as isize).then_some((info.ssi_signo as i32, info.ssi_pid))
}

/// Sends a signal to this process, or to its whole process group.
pub fn kill_own(signal: i32, group: bool) {
    // SAFETY: touches no memory. Raw, because real-time signals have no name.
    let _ = unsafe { libc::kill(if group { 0 } else { libc::getpid() }, signal) };
}

/// Fills a buffer with random bytes of the kernel's: for a few of them a generator of our own takes long to begin.
pub fn random(buf: &mut [u8]) -> io::Result<()> {
    // SAFETY: pointer and length are those of the slice. So few bytes come at once, or not at all.
    let n = Errno::result(unsafe { libc::getrandom(buf.as_mut_ptr().cast(), buf.len(), 0) })?;
    if n as usize == buf.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::Interrupted.into())
    }
}

/// Sends a signal to the calling thread.
pub fn raise(signal: i32) {
    // SAFETY: a number only. Raw, because real-time signals have no name.
    let _ = unsafe { libc::raise(signal) };
}

/// Lets this process leave no core file and no trace to others.
pub fn no_core() {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `none` is valid for reading; the second call has numbers only.
    unsafe {
        let _ = libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        let _ = libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
    }
}

/// Soft and hard limit of a resource by its Linux number.
pub fn rlimit(resource: u32) -> Option<(u64, u64)> {
    let mut l = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `l` is valid for writing; an unknown number is an error.
    let ok = unsafe { libc::getrlimit(resource as _, &raw mut l) } == 0;
    ok.then_some((l.rlim_cur, l.rlim_max))
}

/// This process's nice value.
pub fn nice() -> i32 {
    // SAFETY: numbers only. A nice value of -1 and an error look alike; an error cannot happen for oneself.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

/// Size of a terminal: rows, columns, and both in pixels.
pub fn window_size(fd: BorrowedFd<'_>) -> Option<[u16; 4]> {
    let mut w = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: this request writes one `winsize`.
    let ok = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &raw mut w) } == 0;
    ok.then_some([w.ws_row, w.ws_col, w.ws_xpixel, w.ws_ypixel])
}

/// Waits for events; entries with a negative descriptor are passed over. A negative time is for ever.
pub fn poll(fds: &mut [libc::pollfd], ms: i32) -> Result<usize, Errno> {
    // SAFETY: pointer and length are those of the slice.
    Errno::result(unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as _, ms) }).map(|n| n as usize)
}

/// Writes without waiting, whatever the descriptor's own flags are. `EOPNOTSUPP`: this kind cannot.
pub fn write_nowait(fd: BorrowedFd<'_>, data: &[u8]) -> Result<usize, Errno> {
    let iov = libc::iovec {
        iov_base: data.as_ptr().cast_mut().cast(),
        iov_len: data.len(),
    };
    // SAFETY: one vector over `data`, which is only read.
    let n = unsafe { libc::pwritev2(fd.as_raw_fd(), &raw const iov, 1, -1, libc::RWF_NOWAIT) };
    Errno::result(n).map(|n| n as usize)
}

/// Reads without waiting, whatever the descriptor's own flags are. `EOPNOTSUPP`: this kind cannot.
pub fn read_nowait(fd: BorrowedFd<'_>, buf: &mut [u8]) -> Result<usize, Errno> {
    let iov = libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    };
    // SAFETY: one vector over `buf`, which is ours to write.
    let n = unsafe { libc::preadv2(fd.as_raw_fd(), &raw const iov, 1, -1, libc::RWF_NOWAIT) };
    Errno::result(n).map(|n| n as usize)
}

/// Becomes another program, with this environment. Returns only if that fails.
pub fn exec(path: &CStr, argv: &[CString]) -> Errno {
    let mut pointers: Vec<*const libc::c_char> = argv.iter().map(|a| a.as_ptr()).collect();
    pointers.push(std::ptr::null());
    // SAFETY: a list of strings that ends with a null pointer, all alive until the call ends.
    unsafe { libc::execv(path.as_ptr(), pointers.as_ptr()) };
    Errno::last()
}

/// Ends the process with exit code 0, whatever other threads do: nothing that they may use is taken down before.
pub fn leave() -> ! {
    // SAFETY: it does not return, and touches no memory of ours.
    unsafe { libc::_exit(0) }
}

/// The modes of a terminal, with all bits (nix keeps only those it knows).
pub fn modes(fd: BorrowedFd<'_>) -> Option<libc::termios> {
    let mut modes = std::mem::MaybeUninit::uninit();
    // SAFETY: the call fills in one `termios` if it succeeds, and only then is it read.
    unsafe { (libc::tcgetattr(fd.as_raw_fd(), modes.as_mut_ptr()) == 0).then(|| modes.assume_init()) }
}

/// Gives a terminal these modes, now.
pub fn set_modes(fd: BorrowedFd<'_>, modes: &libc::termios) {
    // SAFETY: the call reads one `termios`, and a descriptor that is no terminal is an error.
    unsafe { libc::tcsetattr(fd.as_raw_fd(), libc::TCSANOW, modes) };
}

/// Year, month, day, hour, minute and second of local time at a second since the epoch.
pub fn local_time(second: i64) -> Option<[u32; 6]> {
    // SAFETY: all-zero is a valid value of this structure of plain numbers and one pointer.
    let mut t: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: reads one number, fills in one `tm`.
    if unsafe { libc::localtime_r(&raw const second, &raw mut t) }.is_null() {
        return None;
    }
    let all = [
        t.tm_year + 1900,
        t.tm_mon + 1,
        t.tm_mday,
        t.tm_hour,
        t.tm_min,
        t.tm_sec,
    ];
    let mut out = [0; 6];
    for (to, from) in out.iter_mut().zip(all) {
        *to = u32::try_from(from).ok()?;
    }
    Some(out)
}

/// The second since the epoch of a local time.
pub fn second_of(local: [u32; 6]) -> Option<i64> {
    let [y, mo, d, h, mi, s] = local.map(|n| n as libc::c_int);
    // SAFETY: all-zero is a valid value of this structure of plain numbers and one pointer.
    let mut t: libc::tm = unsafe { std::mem::zeroed() };
    (t.tm_year, t.tm_mon, t.tm_mday) = (y - 1900, mo - 1, d);
    (t.tm_hour, t.tm_min, t.tm_sec, t.tm_isdst) = (h, mi, s, -1);
    // SAFETY: reads and normalises one `tm`.
    let second = unsafe { libc::mktime(&raw mut t) };
    (second != -1).then_some(second)
}

/// A descriptor that becomes readable when something happens to a path. Non-blocking, close-on-exec.
pub fn notify(path: &CStr, mask: u32) -> io::Result<OwnedFd> {
    // SAFETY: numbers only.
    let fd = Errno::result(unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) })?;
    // SAFETY: the kernel just made this descriptor for us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: a string with its terminating zero, which is only read.
    Errno::result(unsafe { libc::inotify_add_watch(fd.as_raw_fd(), path.as_ptr(), mask) })?;
    Ok(fd)
}
