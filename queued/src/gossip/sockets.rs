//! The UDP sockets: opened on the addresses and the port of the TCP ones, and the right one chosen for each
//! receiver. Knows addresses; no keys.

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, bind, setsockopt, socket, sockopt,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use tokio::net::UdpSocket;

/// Room for a report of each of a thousand hosts at once, and more.
const BUFFER: usize = 2 << 20;

/// Opens the sockets, on the same addresses and port as TCP; all addresses if none is given.
///
/// # Errors
/// The port is taken, or not permitted.
pub(crate) fn open(listen_on: &[IpAddr], port: u16) -> anyhow::Result<Vec<std::net::UdpSocket>> {
    let one = |ip: IpAddr| {
        open_one(SocketAddr::new(ip, port)).map_err(|e| {
            let at = if ip.is_unspecified() {
                String::new()
            } else {
                format!(" of {ip}")
            };
            match e {
                nix::errno::Errno::EADDRINUSE => anyhow::anyhow!(
                    "cannot receive on UDP port {port}{at}: another program has it; \
                     'ss -lunp sport = :{port}' shows which, --port chooses another one"
                ),
                e => anyhow::anyhow!("cannot receive on UDP port {port}{at}: {}", e.desc()),
            }
        })
    };
    if !listen_on.is_empty() {
        return listen_on.iter().copied().map(one).collect();
    }
    // One socket for both families; where there is no IPv6, the old one alone.
    match open_one(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)) {
        Ok(s) => Ok(vec![s]),
        Err(nix::errno::Errno::EADDRINUSE) => one(Ipv6Addr::UNSPECIFIED.into()).map(|s| vec![s]),
        Err(_) => one(Ipv4Addr::UNSPECIFIED.into()).map(|s| vec![s]),
    }
}

fn open_one(at: SocketAddr) -> nix::Result<std::net::UdpSocket> {
    let family = if at.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let s: OwnedFd = socket(family, SockType::Datagram, flags, None)?;
    // Above the system's limit for root; up to it for anybody else.
    if setsockopt(&s, sockopt::RcvBufForce, &BUFFER).is_err() {
        let _ = setsockopt(&s, sockopt::RcvBuf, &BUFFER);
    }
    if setsockopt(&s, sockopt::SndBufForce, &BUFFER).is_err() {
        let _ = setsockopt(&s, sockopt::SndBuf, &BUFFER);
    }
    match at {
        SocketAddr::V4(a) => bind(s.as_raw_fd(), &SockaddrIn::from(a))?,
        SocketAddr::V6(a) => {
            setsockopt(&s, sockopt::Ipv6V6Only, &!a.ip().is_unspecified())?;
            bind(s.as_raw_fd(), &SockaddrIn6::from(a))?;
        }
    }
    Ok(s.into())
}

/// One socket.
#[derive(Debug)]
struct Socket {
    at: SocketAddr,
    /// Sends without the event loop: what the kernel does not take at once is lost.
    out: std::net::UdpSocket,
    /// The same one, in the event loop.
    back: Arc<UdpSocket>,
}

/// All sockets.
#[derive(Debug)]
pub(super) struct Sockets(Vec<Socket>);

impl Sockets {
    /// Takes them into the event loop.
    pub(super) fn new(udp: Vec<std::net::UdpSocket>) -> io::Result<Self> {
        let one = |s: std::net::UdpSocket| {
            Ok(Socket {
                at: s.local_addr()?,
                out: s.try_clone()?,
                back: Arc::new(UdpSocket::from_std(s)?),
            })
        };
        udp.into_iter().map(one).collect::<io::Result<_>>().map(Self)
    }

    /// Each of them, for receiving.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<UdpSocket>> {
        self.0.iter().map(|s| &s.back)
    }

    /// Sends, or not: nothing waits.
    pub(super) fn send(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        let mut failed = io::ErrorKind::AddrNotAvailable.into();
        // From loopback one gets nowhere else.
        let unlike = |s: &Socket| s.at.ip().is_loopback() != to.ip().is_loopback();
        for last in [false, true] {
            for socket in self.0.iter().filter(|s| unlike(s) == last) {
                let Some(to) = seen_from(&socket.at, to) else {
                    continue;
                };
                match socket.out.send_to(datagram, to) {
                    Ok(_) => return Ok(()),
                    Err(e) => failed = e,
                }
            }
        }
        Err(failed)
    }
}

/// How a socket with this address names the receiver; `None`: it is of the other family.
fn seen_from(own: &SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
    match (own, to) {
        (SocketAddr::V4(_), SocketAddr::V4(_)) | (SocketAddr::V6(_), SocketAddr::V6(_)) => Some(to),
        (SocketAddr::V6(o), SocketAddr::V4(t)) if o.ip().is_unspecified() => {
            Some(SocketAddr::new(t.ip().to_ipv6_mapped().into(), t.port()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_receiver_gets_the_socket_of_its_family() {
        let a = |s: &str| s.parse::<SocketAddr>().unwrap();
        let seen = |own: &str, to: &str| seen_from(&a(own), a(to)).map(|t| t.to_string());
        let same = |s: &str| Some(s.to_owned());
        assert_eq!(seen("0.0.0.0:1", "10.0.0.1:7"), same("10.0.0.1:7"));
        assert_eq!(seen("[::]:1", "10.0.0.1:7"), same("[::ffff:10.0.0.1]:7"));
        assert_eq!(seen("[::]:1", "[fd00::1]:7"), same("[fd00::1]:7"));
        assert_eq!(seen("[fd00::2]:1", "10.0.0.1:7"), None);
        assert_eq!(seen("10.0.0.2:1", "[fd00::1]:7"), None);
    }

    #[tokio::test]
    async fn one_socket_serves_both_families() {
        let sockets = Sockets::new(open(&[], 0).unwrap()).unwrap();
        let Socket { at, back, .. } = &sockets.0[0];
        let mut buf = [0; 8];
        for home in ["127.0.0.1", "::1"] {
            let to = SocketAddr::new(home.parse().unwrap(), at.port());
            if sockets.send(b"x", to).is_ok() {
                let (n, from) = back.recv_from(&mut buf).await.unwrap();
                assert_eq!((n, from.ip().to_canonical()), (1, to.ip()));
            } else {
                assert_eq!(home, "::1", "only IPv6 may be missing");
            }
        }
    }

    #[tokio::test]
    async fn loopback_is_reached_from_loopback() {
        // Whatever the order: what is sent arrives.
        let free = || std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr();
        let port = free().unwrap().port();
        let listen = ["127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap()];
        let sockets = Sockets::new(open(&listen, port).unwrap()).unwrap();
        let to: SocketAddr = format!("127.0.0.2:{port}").parse().unwrap();
        sockets.send(b"x", to).unwrap();
        let second = &sockets.0[1].back;
        assert_eq!(second.recv_from(&mut [0; 8]).await.unwrap().1.port(), port);
        let e = open(&listen, port).unwrap_err().to_string();
        assert!(e.contains("UDP port") && e.contains("another program"), "{e}");
    }
}
