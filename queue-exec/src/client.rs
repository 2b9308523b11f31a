//! Talks to `queue-exec`: connect (and make sure that it is the real one), send a request with or without a
//! descriptor, receive a reply. Blocking and descriptor-level, so that both the front end and an event loop
//! can use it.

use crate::layout::Layout;
use crate::protocol::{PACKET_MAX, Reply, Request};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, connect,
    getsockopt, recvmsg, sendmsg, socket, sockopt,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// Connects to the monitor's socket and checks that root (or, in a single-user install, the same user) is at
/// the other end, so that nobody else can pose as the monitor.
///
/// # Errors
/// As `connect(2)`; `PermissionDenied` if somebody else listens there.
pub fn dial(layout: &Layout) -> io::Result<OwnedFd> {
    let fd = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    connect(fd.as_raw_fd(), &UnixAddr::new(&layout.exec_socket())?)?;
    let peer = getsockopt(&fd, sockopt::PeerCredentials)?.uid();
    let own = nix::unistd::geteuid().as_raw();
    if peer != 0 && (layout.root || peer != own) {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "{}: belongs to uid {peer}, not to root",
                layout.exec_socket().display()
            ),
        ));
    }
    Ok(fd)
}

/// Sends one packet, with a descriptor if given.
///
/// # Errors
/// As `sendmsg(2)`.
pub fn send(to: BorrowedFd<'_>, packet: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let iov = [IoSlice::new(packet)];
    let fds = fd.map(|f| [f.as_raw_fd()]);
    let cmsg: Vec<ControlMessage<'_>> = fds.iter().map(|f| ControlMessage::ScmRights(f)).collect();
    loop {
        match sendmsg::<()>(to.as_raw_fd(), &iov, &cmsg, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Receives one packet into `buf` and at most one descriptor (close-on-exec); further ones are closed.
/// Zero bytes mean that the peer has gone.
///
/// # Errors
/// As `recvmsg(2)`; `InvalidData` if the packet was larger than `buf`.
pub fn receive(from: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 4]);
    let mut iov = [IoSliceMut::new(buf)];
    let msg = loop {
        match recvmsg::<()>(
            from.as_raw_fd(),
            &mut iov,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        ) {
            Ok(m) => break m,
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    };
    let mut got = None;
    for c in msg.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = c {
            for fd in fds {
                // SAFETY: the kernel just installed this descriptor for us; nobody else knows it.
                got = Some(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    if msg.flags.contains(MsgFlags::MSG_TRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "packet too large"));
    }
    Ok((msg.bytes, got))
}

/// Asks and waits for the answer.
///
/// # Errors
/// As [`send`] and [`receive`]; `UnexpectedEof` if the monitor ended, `InvalidData` if it spoke nonsense.
pub fn ask(monitor: BorrowedFd<'_>, request: &Request, fd: Option<BorrowedFd<'_>>) -> io::Result<Reply> {
    send(monitor, &request.encode(1), fd)?;
    let mut buf = vec![0; PACKET_MAX];
    loop {
        let (n, _) = receive(monitor, &mut buf)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (id, reply) =
            Reply::decode(&buf[..n]).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        if id == 1 {
            return Ok(reply);
        }
    }
}
