//! Who is at the other end of a connection, by the kernel's word. Knows uids, process ids and namespaces; no
//! names.
//!
//! The uid is that of the process that connected, at that moment, in our user namespace. A process in another
//! user namespace is refused, because what a uid means to it is its maker's choice. That is looked up in
//! `/proc` by process id, and the process might be gone and its id reused by then: where the kernel has
//! `SO_PEERPIDFD` (Linux 6.5) we make sure afterwards that the very process that connected still lives; on
//! older kernels somebody who wins that race gets himself taken for himself in the first namespace, which is
//! no more than he gets by connecting from there.

use crate::monitor::permit::Role;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

/// `SO_PEERPIDFD` of Linux 6.5, the same number on all architectures that Rust's std runs on with Linux but
/// parisc and sparc.
const SO_PEERPIDFD: i32 = 77;

const ENDED: &str = "the process that connected has ended";

/// The other end.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) uid: u32,
    pub(crate) pid: i32,
    pub(crate) role: Role,
    /// Why the role is "nobody".
    pub(crate) why: &'static str,
}

/// What roles are given by.
#[derive(Debug, Clone)]
pub(crate) struct Roles {
    /// The system user `queue`, if there is one.
    pub(crate) daemon: Option<u32>,
    /// The owner, in a single-user install.
    pub(crate) owner: Option<u32>,
    overflow: u32,
    namespace: (u64, u64),
}

impl Roles {
    pub(crate) fn new(daemon: Option<u32>, owner: Option<u32>) -> io::Result<Self> {
        let overflow = fs::read_to_string("/proc/sys/kernel/overflowuid")
            .ok()
            .and_then(|s| s.trim().parse().ok())
            .unwrap_or(65534);
        let own = fs::metadata("/proc/self/ns/user")?;
        Ok(Self {
            daemon,
            owner,
            overflow,
            namespace: (own.dev(), own.ino()),
        })
    }

    /// Asks the kernel. Done once for each connection: the answer cannot change.
    pub(crate) fn of(&self, fd: BorrowedFd<'_>) -> io::Result<Peer> {
        let cred = getsockopt(&fd, sockopt::PeerCredentials)?;
        let (uid, pid) = (cred.uid(), cred.pid());
        let nobody = |why| Peer {
            uid,
            pid,
            role: Role::Nobody,
            why,
        };
        if uid == self.overflow {
            return Ok(nobody("your uid is not one of this host's (overflow uid)"));
        }
        if pid <= 0 {
            return Ok(nobody(
                "your process cannot be seen from here (another PID namespace)",
            ));
        }
        let pidfd = match peer_pidfd(fd) {
            Err(e) if e.raw_os_error() == Some(libc::ENOPROTOOPT) => None,
            Err(_) => return Ok(nobody(ENDED)),
            Ok(p) => Some(p),
        };
        if !self.same_namespace(pid) {
            return Ok(nobody("your process is in another user namespace"));
        }
        if pidfd.is_some_and(|p| has_ended(p.as_fd())) {
            return Ok(nobody(ENDED));
        }
        let role = self.role(uid);
        Ok(Peer {
            uid,
            pid,
            role,
            why: if role == Role::Nobody {
                "this is another user's installation"
            } else {
                ""
            },
        })
    }

    fn role(&self, uid: u32) -> Role {
        match (self.owner, self.daemon) {
            (Some(owner), _) if uid == owner => Role::Root,
            (Some(_), _) => Role::Nobody,
            (None, _) if uid == 0 => Role::Root,
            (None, Some(d)) if uid == d => Role::Daemon,
            _ => Role::User,
        }
    }

    fn same_namespace(&self, pid: i32) -> bool {
        match fs::metadata(format!("/proc/{pid}/ns/user")) {
            Ok(m) => (m.dev(), m.ino()) == self.namespace,
            // We are root without CAP_SYS_PTRACE (in some containers), or its owner's process that hides itself
            // (an agent). The map is readable nevertheless, and who makes a namespace with the very map of ours
            // has the same uids in it.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                let map = |p: &str| fs::read(format!("/proc/{p}/uid_map")).ok();
                map("self").is_some_and(|own| map(&pid.to_string()) == Some(own))
            }
            Err(_) => false,
        }
    }
}

fn peer_pidfd(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut out: i32 = -1;
    let mut len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `out` and `len` are valid for the call and of the size it says.
    let r = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut out).cast(),
            &raw mut len,
        )
    };
    if r != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just installed this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(out) })
}

/// Whether the process behind a pidfd has ended.
pub(crate) fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn roles_by_uid() {
        let mut r = Roles::new(Some(990), None).unwrap();
        let of = |r: &Roles| [0, 990, 1000].map(|u| r.role(u));
        assert_eq!(of(&r), [Role::Root, Role::Daemon, Role::User]);
        r.daemon = None;
        assert_eq!(of(&r), [Role::Root, Role::User, Role::User]);
        r.owner = Some(1000);
        assert_eq!(of(&r), [Role::Nobody, Role::Nobody, Role::Root]);
    }

    #[test]
    fn we_are_in_our_own_namespace() {
        let (a, _b) = UnixStream::pair().unwrap();
        let us = nix::unistd::geteuid().as_raw();
        let mut r = Roles::new(None, Some(us)).unwrap();
        let p = r.of(a.as_fd()).unwrap();
        assert_eq!(
            (p.uid, p.role, p.pid),
            (us, Role::Root, std::process::id() as i32)
        );
        r.overflow = us;
        assert_eq!(r.of(a.as_fd()).unwrap().role, Role::Nobody);
        r.overflow = 65534;
        r.namespace.1 += 1;
        assert!(r.of(a.as_fd()).unwrap().why.contains("user namespace"));
    }
}
