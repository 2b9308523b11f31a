//! Where a display is: what `DISPLAY` means, as X's own library reads it, and how to connect to it without waiting.

use super::xauthority::{Address, INTERNET, INTERNET6, LOCAL};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, UnixAddr, connect, setsockopt, socket, sockopt,
};
use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Port of display 0.
const PORT: u16 = 6000;
/// Where displays of this host have their sockets.
const SOCKETS: &str = "/tmp/.X11-unix";

/// How it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// A socket of this host.
    Unix(PathBuf),
    /// A host that has still to be found.
    Name(String),
    /// A host.
    Ip(IpAddr),
}

/// A display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Display {
    /// How it is reached.
    pub at: At,
    /// Its number, from 0.
    pub number: u32,
    /// The screen that programs use unless told otherwise.
    pub screen: u32,
}

impl Display {
    /// `:0`, `unix:0.1`, `host:10`, `[::1]:0`, or a path that ends with `:0` as launchd makes them.
    ///
    /// # Errors
    /// A line for people.
    pub fn parse(name: &OsStr, exists: impl Fn(&OsStr) -> bool) -> Result<Self, String> {
        let no = || "this is no name of a display, like `:0` or `localhost:10.0`".to_owned();
        let bytes = name.as_bytes();
        let colon = bytes.iter().rposition(|b| *b == b':').ok_or_else(no)?;
        let digits = std::str::from_utf8(&bytes[colon + 1..]).map_err(|_| no())?;
        let (number, screen) = digits.split_once('.').unwrap_or((digits, "0"));
        let number: u32 = number.parse().map_err(|_| no())?;
        let screen: u32 = screen.parse().map_err(|_| no())?;
        let host = &bytes[..colon];
        let path = bytes.strip_prefix(b"unix:").unwrap_or(bytes);
        let at = if path.starts_with(b"/") {
            // The whole is the name of a socket, or all but the screen is.
            let end = path.iter().rposition(|b| *b == b'.').unwrap_or(path.len());
            let whole = OsStr::from_bytes(path);
            let at = if exists(whole) {
                whole
            } else {
                OsStr::from_bytes(&path[..end])
            };
            At::Unix(at.into())
        } else if matches!(host, b"" | b"unix") {
            At::Unix(Path::new(SOCKETS).join(format!("X{number}")))
        } else {
            let host = std::str::from_utf8(host).map_err(|_| no())?;
            let host = host.strip_prefix("tcp/").unwrap_or(host);
            let plain = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
            match plain.unwrap_or(host).parse() {
                Ok(ip) => At::Ip(ip),
                // DECnet, of which nobody knows any more.
                Err(_) if host.ends_with(':') => return Err(no()),
                Err(_) => At::Name(host.to_owned()),
            }
        };
        let in_range = |n: u32| n <= u32::from(u16::MAX - PORT);
        if !in_range(number) {
            return Err(no());
        }
        Ok(Self { at, number, screen })
    }

    /// Finds the host. This program asks no name service: it knows `localhost` and what `/etc/hosts` says.
    ///
    /// # Errors
    /// A line for people.
    pub fn find(mut self, hosts: impl FnOnce() -> Vec<u8>) -> Result<Self, String> {
        if let At::Name(name) = &self.at {
            let ip = match name.as_str() {
                "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
                _ => in_hosts(&hosts(), name),
            };
            let unknown = || format!("{name} is not in /etc/hosts: write its address instead of its name");
            self.at = At::Ip(ip.ok_or_else(unknown)?);
        }
        Ok(self)
    }

    /// How its cookie may be filed. What is on this host goes by the host's name.
    pub fn addresses(&self, host: &OsStr) -> Vec<Address> {
        let local = (LOCAL, host.as_bytes().to_vec());
        match &self.at {
            At::Unix(_) | At::Name(_) => vec![local],
            At::Ip(ip) => {
                let own = match ip.to_canonical() {
                    IpAddr::V4(a) => (INTERNET, a.octets().to_vec()),
                    IpAddr::V6(a) => (INTERNET6, a.octets().to_vec()),
                };
                if ip.is_loopback() {
                    vec![local, own]
                } else {
                    vec![own]
                }
            }
        }
    }

    /// Starts connecting.
    ///
    /// # Errors
    /// As `connect(2)`.
    pub fn connect(&self) -> nix::Result<OwnedFd> {
        match &self.at {
            At::Unix(path) => unix(path),
            At::Name(_) => Err(Errno::EHOSTUNREACH),
            At::Ip(ip) => {
                let port = PORT + self.number as u16;
                let family = if ip.is_ipv4() {
                    AddressFamily::Inet
                } else {
                    AddressFamily::Inet6
                };
                let sock = stream(family)?;
                setsockopt(&sock, sockopt::TcpNoDelay, &true)?;
                match connect(
                    sock.as_raw_fd(),
                    &SockaddrStorage::from(SocketAddr::new(*ip, port)),
                ) {
                    Ok(()) | Err(Errno::EINPROGRESS) => Ok(sock),
                    Err(e) => Err(e),
                }
            }
        }
    }
}

fn stream(family: AddressFamily) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(family, SockType::Stream, flags, None)
}

/// Connects to a socket of this host, which either takes it at once or not at all.
///
/// # Errors
/// As `connect(2)`.
pub fn unix(path: &Path) -> nix::Result<OwnedFd> {
    let sock = stream(AddressFamily::Unix)?;
    connect(sock.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(sock)
}

/// The first address that a file of hosts has for a name.
fn in_hosts(file: &[u8], name: &str) -> Option<IpAddr> {
    String::from_utf8_lossy(file).lines().find_map(|line| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let ip: IpAddr = words.next()?.parse().ok()?;
        words.any(|w| w.eq_ignore_ascii_case(name)).then_some(ip)
    })
}
