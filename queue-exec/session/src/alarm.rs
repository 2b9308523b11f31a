//! The limit on what may take for ever before the session is the user's: name service and PAM. When the time
//! is over, a signal handler tells client and monitor and ends the process, wherever it hangs.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::os::fd::RawFd;
use std::sync::OnceLock;

/// Seconds that account look-up and PAM may take together.
pub(crate) const LIMIT: u32 = 8;

struct LastWords {
    client: RawFd,
    to_client: Vec<u8>,
    monitor: RawFd,
    to_monitor: Vec<u8>,
}

static LAST_WORDS: OnceLock<LastWords> = OnceLock::new();

extern "C" fn ring(_: libc::c_int) {
    if let Some(w) = LAST_WORDS.get() {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: send and _exit are async-signal-safe; the buffers live for ever and nobody changes them.
        unsafe {
            libc::send(w.client, w.to_client.as_ptr().cast(), w.to_client.len(), flags);
            libc::send(w.monitor, w.to_monitor.as_ptr().cast(), w.to_monitor.len(), flags);
            libc::_exit(1);
        }
    }
}

/// Sets the alarm, with what is to be said when it rings.
pub(crate) fn set(client: RawFd, to_client: Vec<u8>, monitor: RawFd, to_monitor: Vec<u8>) {
    let _ = LAST_WORDS.set(LastWords {
        client,
        to_client,
        monitor,
        to_monitor,
    });
    let action = SigAction::new(SigHandler::Handler(ring), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler only does what is allowed in one.
    let _ = unsafe { sigaction(Signal::SIGALRM, &action) };
    nix::unistd::alarm::set(LIMIT);
}

/// It went well.
pub(crate) fn cancel() {
    nix::unistd::alarm::cancel();
    // SAFETY: back to the default.
    let _ = unsafe {
        sigaction(
            Signal::SIGALRM,
            &SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty()),
        )
    };
}
