//! `queue-session --zygote`: a process that has everything loaded that costs time (the C library's name
//! service, the cryptography) and no secret, and forks a session whenever the monitor asks. A session made so
//! is ready after a tenth of the processor time that executing it anew would take, and shares its memory.
//!
//! Runs as root like the monitor and reads nothing but the monitor's packets.

use nix::errno::Errno;
use queue_exec::client;
use queue_exec::codec::Writer;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

/// Of `linux/sched.h`; the constants of the libc crate are too narrow.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What the monitor asks: fork, with the session's channel, and with a cgroup's directory if `b"C"`.
pub(crate) const FORK: &[u8] = b"F";
/// As [`FORK`], into the cgroup whose directory follows in a packet of its own.
pub(crate) const FORK_INTO: &[u8] = b"C";

/// Serves the monitor. `Some`: we are a new session, with this channel. `None`: the monitor is gone.
pub(crate) fn serve(monitor: OwnedFd) -> Option<OwnedFd> {
    let mut buf = [0; 16];
    loop {
        let (n, channel) = client::receive(monitor.as_fd(), &mut buf).ok()?;
        let channel = channel?;
        let cgroup = match &buf[..n] {
            FORK => None,
            FORK_INTO => client::receive(monitor.as_fd(), &mut buf).ok()?.1,
            _ => return None,
        };
        let mut pidfd: RawFd = -1;
        match fork(cgroup.as_ref(), &mut pidfd) {
            Ok(0) => return Some(channel),
            Ok(pid) => {
                // SAFETY: the kernel just made it for us.
                let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
                let packet = Writer::new(b"P").u32(pid as u32).finish();
                client::send(monitor.as_fd(), &packet, Some(pidfd.as_fd())).ok()?;
            }
            Err(e) => {
                let packet = Writer::new(b"E").u32(e as i32 as u32).finish();
                client::send(monitor.as_fd(), &packet, None).ok()?;
            }
        }
    }
}

/// A fork whose child is the monitor's child, not ours, so that the monitor sees its end as with any other.
fn fork(cgroup: Option<&OwnedFd>, pidfd: &mut RawFd) -> Result<i32, Errno> {
    // SAFETY: all-zero is a valid clone_args.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = (libc::CLONE_PIDFD | libc::CLONE_PARENT) as u64;
    args.pidfd = std::ptr::from_mut(pidfd) as u64;
    if let Some(dir) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = dir.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM this is a fork of a process with one thread; `args` and `pidfd` outlive the call.
    let n = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    Errno::result(n).map(|n| n as i32)
}
