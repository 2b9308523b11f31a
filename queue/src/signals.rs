//! Signals as the proxy rule wants them: what was inherited is known and kept, what arrives is read one by one
//! from a descriptor, and stopping or dying by a signal is done so that the shell sees it.
//!
//! Actions are never changed while the command runs: everything is blocked and read from a `signalfd`, so a
//! stop or a death needs no more than unblocking that one signal. What was ignored or blocked by whoever
//! started us is left alone. A fault of our own (a real `SIGSEGV`) still kills: the kernel does not let those
//! be blocked.

use crate::sys::{self, Mask, bit};
use nix::libc;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

/// Ignored and blocked signals at the time we were started.
///
/// That is still visible because the program starts without Rust's runtime (see `main.rs`), which would
/// have set `SIGPIPE` to be ignored.
#[derive(Debug, Clone, Copy)]
pub struct Inherited {
    /// Ignored.
    pub ignored: Mask,
    /// Blocked.
    pub blocked: Mask,
}

impl Inherited {
    /// Asks the kernel.
    pub fn read() -> Self {
        Self {
            ignored: sys::ignored(),
            blocked: sys::sigmask(libc::SIG_BLOCK, None),
        }
    }
}

/// A signal that was sent to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub signal: i32,
    /// Whether it is the kernel's comment on something we did ourselves (a write to a broken pipe).
    pub own: bool,
}

/// All signals that are to be forwarded, as a descriptor.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
    mask: Mask,
    pid: u32,
}

impl Signals {
    /// Blocks everything catchable that was neither ignored nor blocked at the start, and opens the descriptor.
    ///
    /// # Errors
    /// As `signalfd(2)`.
    pub fn catch(inherited: Inherited) -> io::Result<Self> {
        let mask = !(bit(libc::SIGKILL) | bit(libc::SIGSTOP) | inherited.ignored | inherited.blocked);
        sys::sigmask(libc::SIG_BLOCK, Some(mask));
        Ok(Self {
            fd: sys::signalfd(mask)?,
            mask,
            pid: std::process::id(),
        })
    }

    /// Readable when a signal has come.
    pub fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Whether this signal is read here (it was neither ignored nor blocked at the start).
    pub fn has(&self, signal: i32) -> bool {
        self.mask & bit(signal) != 0
    }

    /// Takes the next one.
    pub fn read(&self) -> Option<Received> {
        sys::read_signal(&self.fd).map(|(signal, pid)| Received {
            signal,
            own: signal == libc::SIGPIPE && pid == self.pid,
        })
    }

    /// Stops this process, or its whole group, with the given signal, and returns when it was continued. If the
    /// kernel drops the signal (an orphaned group), it stops by `SIGSTOP`: whoever watches us must see a stop.
    pub fn stop(&self, signal: i32, group: bool) {
        sys::sigmask(libc::SIG_UNBLOCK, Some(bit(signal)));
        sys::kill_own(signal, group);
        sys::sigmask(libc::SIG_BLOCK, Some(bit(signal) & self.mask));
        // Continuing leaves a SIGCONT that waits to be read; without one we were never stopped.
        let stopped =
            signal == libc::SIGSTOP || !self.has(libc::SIGCONT) || sys::pending() & bit(libc::SIGCONT) != 0;
        if !stopped {
            sys::kill_own(libc::SIGSTOP, false);
        }
    }
}

/// Ends this process by a signal, as its command ended: the shell sees a death by that signal, with no core
/// file of ours beside the real one.
pub fn die_of(signal: i32) -> ! {
    sys::no_core();
    if signal != libc::SIGKILL {
        sys::set_action(signal, false);
    }
    // To this thread alone: another one may be reading the process's signals.
    sys::raise(signal);
    sys::sigmask(libc::SIG_UNBLOCK, Some(bit(signal)));
    // Only a signal that does not end a process comes here, and no command dies of one.
    std::process::exit(128 + signal)
}

/// Whether a signal's default action ends a process.
pub fn is_fatal(signal: i32) -> bool {
    !matches!(
        signal,
        libc::SIGCHLD
            | libc::SIGCONT
            | libc::SIGURG
            | libc::SIGWINCH
            | libc::SIGTSTP
            | libc::SIGTTIN
            | libc::SIGTTOU
            | libc::SIGSTOP
    )
}

/// Lets a write to a broken pipe fail instead of ending us, for what comes after the command: our exit code
/// matters more than an error line that nobody reads.
pub fn ignore_broken_pipes() {
    sys::set_action(libc::SIGPIPE, true);
}
