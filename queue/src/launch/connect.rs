//! Connections to hosts, and the answer that comes in clear. Knows sockets; not what is wanted of the host.

use super::quiet::Quiet;
use crate::messages::{Failure, link_reason, printable};
use crate::sys;
use libqueue::link::{Link, LinkError};
use libqueue::wire::{Placed, SessionAnswer};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, recv, setsockopt, socket, sockopt,
};
use prost::Message as _;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Why a host did not even accept a connection.
pub(crate) fn unreachable(placed: &Placed, e: &LinkError, limit: Duration) -> Failure {
    let (host, address) = (printable(&placed.host), printable(&placed.address));
    Failure::own(match e {
        LinkError::Io(e) if e.raw_os_error() == Some(libc::ECONNREFUSED) => {
            format!("no queued listens on {host} ({address}): start it there, or see `queue hosts`")
        }
        LinkError::Timeout => {
            format!(
                "{host} ({address}) does not answer: nothing for {} s",
                limit.as_secs()
            )
        }
        e => format!("{host} ({address}) cannot be reached: {}", link_reason(e)),
    })
}

/// After how many seconds an idle peer is asked whether it is there, how often then, and how many of these
/// questions may be unanswered until the kernel gives up. We look ourselves much earlier
/// ([`libqueue::link::silence`]). There is no `TCP_USER_TIMEOUT`: it would end connections to a peer that is
/// stopped and has its buffers full.
const KEEP_ALIVE: (u32, u32, u32) = (2, 1, 58);

/// Starts connecting. Dead peers are noticed by the kernel within a minute or so.
pub(crate) fn start_connect(address: &str) -> Result<OwnedFd, LinkError> {
    let address: SocketAddr = address
        .parse()
        .map_err(|_| std::io::Error::other("the daemon gave an address that is none"))?;
    let family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let sock = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&sock, sockopt::TcpNoDelay, &true)?;
    setsockopt(&sock, sockopt::KeepAlive, &true)?;
    setsockopt(&sock, sockopt::TcpKeepIdle, &KEEP_ALIVE.0)?;
    setsockopt(&sock, sockopt::TcpKeepInterval, &KEEP_ALIVE.1)?;
    setsockopt(&sock, sockopt::TcpKeepCount, &KEEP_ALIVE.2)?;
    match connect(sock.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(sock),
        Err(e) => Err(e.into()),
    }
}

/// Reads the answer that comes in clear, and not one byte more.
pub(super) fn answer(link: &Link, quiet: &mut Quiet<'_>, end: Instant) -> Result<SessionAnswer, LinkError> {
    let socket = link.socket().ok_or(LinkError::Timeout)?;
    let mut head = [0; 2];
    read_exact(socket, &mut head, quiet, end)?;
    let mut body = vec![0; usize::from(u16::from_be_bytes(head))];
    read_exact(socket, &mut body, quiet, end)?;
    SessionAnswer::decode(&body[..])
        .map_err(|e| LinkError::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, e)))
}

fn read_exact(
    sock: BorrowedFd<'_>,
    mut buf: &mut [u8],
    quiet: &mut Quiet<'_>,
    end: Instant,
) -> Result<(), LinkError> {
    while !buf.is_empty() {
        match recv(sock.as_raw_fd(), buf, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return Err(LinkError::Io(std::io::ErrorKind::UnexpectedEof.into())),
            Ok(n) => buf = &mut buf[n..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => quiet.wait(sock, libc::POLLIN, end)?,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

pub(crate) fn wait(sock: BorrowedFd<'_>, events: i16, end: Instant) -> Result<(), LinkError> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(LinkError::Timeout);
        }
        let mut fds = [libc::pollfd {
            fd: sock.as_raw_fd(),
            events,
            revents: 0,
        }];
        match sys::poll(&mut fds, left.as_millis() as i32 + 1) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
}
