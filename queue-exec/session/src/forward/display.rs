//! The X11 display of a session: the first number that is free on both families of `localhost`. A display that has
//! only one of them would leave the other one to somebody else, who would be shown the cookie.

use nix::errno::Errno;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::OwnedFd;

/// Displays before these are left to true ones, as sshd does.
const FIRST: u16 = 10;
const LAST: u16 = 999;
/// Port of display 0.
const PORT: u16 = 6000;

/// Listens; says as which display.
///
/// # Errors
/// No number is free, or this host does not let us listen.
pub(super) fn listen() -> io::Result<(u16, Vec<OwnedFd>)> {
    for number in FIRST..=LAST {
        if let Some(sockets) = on(PORT + number)? {
            return Ok((number, sockets));
        }
    }
    let text = format!("no display from {FIRST} to {LAST} is free: end sessions that forward X11");
    Err(io::Error::new(io::ErrorKind::AddrInUse, text))
}

/// Listens on one port; `None`: it is in use.
fn on(port: u16) -> io::Result<Option<Vec<OwnedFd>>> {
    let mut sockets = Vec::new();
    for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        match TcpListener::bind((address, port)) {
            Ok(l) => {
                l.set_nonblocking(true)?;
                sockets.push(l.into());
            }
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => return Ok(None),
            // This host has no IPv6.
            Err(e) if address.is_ipv6() && has_no_such_family(&e) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(Some(sockets))
}

fn has_no_such_family(e: &io::Error) -> bool {
    let none = [Errno::EADDRNOTAVAIL, Errno::EAFNOSUPPORT];
    none.iter().any(|n| e.raw_os_error() == Some(*n as i32))
}
