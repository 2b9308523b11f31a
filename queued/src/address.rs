//! Addresses: as people type them, and this machine's own. Knows the resolver and the interfaces; opens no
//! connection.

use nix::net::if_::InterfaceFlags;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};

/// An address as typed: a name or IP address, and perhaps a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Typed {
    /// Name or IP address.
    pub host: String,
    /// Port, if given.
    pub port: Option<u16>,
}

/// Reads `HOST`, `HOST:PORT`, `IP6` or `[IP6]:PORT`.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Typed, String> {
    let bad = || format!("'{text}' is not an address: HOST, HOST:PORT or [IP6]:PORT");
    let port = |p: &str| {
        p.parse::<u16>()
            .ok()
            .filter(|p| *p != 0)
            .map(Some)
            .ok_or_else(bad)
    };
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
        host.parse::<IpAddr>().map_err(|_| bad())?;
        match rest.strip_prefix(':') {
            Some(p) => (host, port(p)?),
            None if rest.is_empty() => (host, None),
            None => return Err(bad()),
        }
    } else if text.parse::<IpAddr>().is_ok() {
        (text, None)
    } else {
        match text.split_once(':') {
            Some((host, p)) => (host, port(p)?),
            None => (text, None),
        }
    };
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if host.is_empty() || host.len() > 253 || !host.chars().all(good) {
        return Err(bad());
    }
    Ok(Typed {
        host: host.to_owned(),
        port,
    })
}

impl Typed {
    /// Looks the name up; IPv4 first, as more networks carry it.
    ///
    /// # Errors
    /// What the resolver said, in one line.
    pub(crate) fn resolve(&self, default_port: u16) -> Result<Vec<SocketAddr>, String> {
        let port = self.port.unwrap_or(default_port);
        let mut all: Vec<SocketAddr> = (self.host.as_str(), port)
            .to_socket_addrs()
            .map_err(|e| format!("cannot find the address of {}: {e}", self.host))?
            .collect();
        all.sort_by_key(SocketAddr::is_ipv6);
        all.dedup();
        if all.is_empty() {
            return Err(format!("{} has no address", self.host));
        }
        Ok(all)
    }
}

/// This machine's address as others most likely see it: the one its default route uses, else that of the
/// first interface that is up, else loopback.
pub(crate) fn own() -> IpAddr {
    // Connecting a UDP socket sends nothing; the kernel only chooses the route. The targets are addresses
    // reserved for documentation.
    for (bind, target) in [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")] {
        let Ok(s) = UdpSocket::bind(bind) else { continue };
        if s.connect(target).is_ok()
            && let Ok(a) = s.local_addr()
            && !a.ip().is_loopback()
            && !a.ip().is_unspecified()
        {
            return a.ip();
        }
    }
    let usable = |ip: &IpAddr| match ip {
        IpAddr::V4(a) => !a.is_loopback() && !a.is_link_local() && !a.is_unspecified(),
        IpAddr::V6(a) => !a.is_loopback() && !a.is_unicast_link_local() && !a.is_unspecified(),
    };
    let mut all: Vec<IpAddr> = nix::ifaddrs::getifaddrs()
        .map(|i| {
            i.filter(|a| a.flags.contains(InterfaceFlags::IFF_UP))
                .filter_map(|a| {
                    let s = a.address?;
                    let v4 = s.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
                    v4.or_else(|| s.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
                })
                .filter(usable)
                .collect()
        })
        .unwrap_or_default();
    all.sort_by_key(IpAddr::is_ipv6);
    all.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// An IPv4 address in IPv6 clothes as what it is.
pub(crate) fn plain(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_typed() {
        let t = |host: &str, port| {
            Ok(Typed {
                host: host.into(),
                port,
            })
        };
        assert_eq!(parse("h1"), t("h1", None));
        assert_eq!(parse("h1.example:80"), t("h1.example", Some(80)));
        assert_eq!(parse("10.0.0.1:7838"), t("10.0.0.1", Some(7838)));
        assert_eq!(parse("::1"), t("::1", None));
        assert_eq!(parse("[::1]"), t("::1", None));
        assert_eq!(parse("[::1]:9"), t("::1", Some(9)));
        for bad in [
            "", ":1", "h:", "h:0", "h:99999", "[::1", "[h]:1", "a b", "h:1:2", "[::1]x", "h/x", "é",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let a = parse("127.0.0.1:9").unwrap().resolve(7838).unwrap();
        assert_eq!(a, ["127.0.0.1:9".parse().unwrap()]);
        assert_eq!(
            parse("::1").unwrap().resolve(7).unwrap(),
            ["[::1]:7".parse().unwrap()]
        );
    }

    #[test]
    fn own_address_is_one_that_can_be_bound() {
        assert!(std::net::TcpListener::bind((own(), 0)).is_ok());
    }
}
