//! Finding one's cluster on the LAN: the authority's host says by multicast DNS where it can be joined, and a host
//! that holds a token without an address listens for that. What is heard only says where to ask; whether it is
//! the right cluster is decided by the token's fingerprint, as with any other address. Knows mDNS; knows
//! nothing of members and of what a joiner says.

use crate::context::Context;
use anyhow::{Context as _, bail};
use libqueue::config::Config;
use mdns_sd::{IfKind, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo};
use queue_exec::cert::Fingerprint;
use queue_exec::codec::hex;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// The service's type.
const SERVICE: &str = "_gnuqueue._tcp.local.";
/// How long a joiner listens.
pub(crate) const LISTEN: Duration = Duration::from_secs(5);
/// Interfaces and addresses are looked through this often, in seconds. Answers need no look.
const INTERFACES: u32 = 30;
/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_millis(500);

/// What of a fingerprint is said aloud: enough to find one's own cluster among others.
fn prefix(authority: &Fingerprint) -> String {
    hex(&authority[..8])
}

/// What is announced: all that follows from the shared state, so that a change of it can be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Service {
    cluster: String,
    host: String,
    fingerprint: Fingerprint,
    port: u16,
    listen: Vec<IpAddr>,
}

impl Service {
    /// `None`: nothing is to be announced. Hosts join where the authority is; whoever listens on loopback only
    /// has nobody to tell.
    fn of(c: &Context) -> Option<Self> {
        (c.identity.cluster.authority && c.config.mdns && heard_outside(&c.config)).then(|| Self {
            cluster: c.identity.cluster.name.clone(),
            host: c.identity.own.name.clone(),
            fingerprint: c.identity.fingerprint(),
            port: c.port,
            listen: c.config.listen.clone(),
        })
    }

    fn announce(&self) -> mdns_sd::Result<ServiceDaemon> {
        let print = prefix(&self.fingerprint);
        let text = [
            ("cluster", self.cluster.as_str()),
            ("host", &self.host),
            ("fingerprint", &print),
            ("version", env!("CARGO_PKG_VERSION")),
        ];
        // A host name of its own: another responder on this machine may have the usual one.
        let name = format!("gnuqueue-{print}.local.");
        let info = ServiceInfo::new(SERVICE, &print, &name, "", self.port, &text[..])?.enable_addr_auto();
        let daemon = ServiceDaemon::new()?;
        daemon.set_ip_check_interval(INTERFACES)?;
        let certain: Vec<IfKind> = self
            .listen
            .iter()
            .filter(|ip| !ip.is_unspecified() && !ip.is_loopback())
            .map(|ip| IfKind::Addr(*ip))
            .collect();
        if self.listen.iter().any(IpAddr::is_unspecified) || certain.is_empty() {
            daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?;
        } else {
            daemon.disable_interface(IfKind::All)?;
            daemon.enable_interface(certain)?;
        }
        daemon.register(info)?;
        Ok(daemon)
    }
}

/// Whether the configuration has a daemon listen where other hosts reach it.
pub(crate) fn heard_outside(c: &Config) -> bool {
    c.listen.is_empty() || c.listen.iter().any(|ip| !ip.is_loopback())
}

/// Announces what there is to announce, as the shared state changes, until `stop` is dropped; then says goodbye.
pub(crate) async fn announce(mut contexts: watch::Receiver<Arc<Context>>, mut stop: oneshot::Receiver<()>) {
    let mut now: Option<(Service, ServiceDaemon)> = None;
    loop {
        let wanted = Service::of(&contexts.borrow_and_update());
        if now.as_ref().map(|(s, _)| s) != wanted.as_ref() {
            if let Some((_, daemon)) = now.take() {
                quiet(daemon).await;
            }
            now = wanted.and_then(|s| match s.announce() {
                Ok(daemon) => Some((s, daemon)),
                Err(e) => {
                    tracing::warn!("mDNS does not work here ({e}): tokens need an address");
                    None
                }
            });
        }
        tokio::select! {
            _ = &mut stop => break,
            changed = contexts.changed() => if changed.is_err() { break },
        }
    }
    if let Some((_, daemon)) = now {
        quiet(daemon).await;
    }
}

/// Takes the announcement back and ends the thread.
async fn quiet(daemon: ServiceDaemon) {
    let _ = tokio::task::spawn_blocking(move || {
        if let Ok(done) = daemon.shutdown() {
            let _ = done.recv_timeout(GOODBYE);
        }
    })
    .await;
}

/// Listens for hosts that announce this authority, and gives each address to `attempt` until that succeeds.
/// Several may answer, also such that lie; `attempt` finds that out.
///
/// # Errors
/// Nobody answered, or with nobody who did the attempt succeeded.
pub(crate) fn find<T>(
    authority: &Fingerprint,
    mut attempt: impl FnMut(SocketAddr) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let until = Instant::now() + LISTEN;
    let daemon = ServiceDaemon::new().context("cannot listen for mDNS")?;
    let events = daemon.browse(SERVICE).context("cannot listen for mDNS")?;
    let print = prefix(authority);
    let (mut tried, mut others) = (BTreeSet::new(), BTreeSet::new());
    let mut last = None;
    let found = loop {
        let left = until.saturating_duration_since(Instant::now());
        let Ok(event) = events.recv_timeout(left) else {
            break None;
        };
        let ServiceEvent::ServiceResolved(service) = event else {
            continue;
        };
        if service.txt_properties.get_property_val_str("fingerprint") != Some(&print) {
            others.insert(cluster_of(&service));
            continue;
        }
        let fresh: Vec<SocketAddr> = addresses(&service)
            .into_iter()
            .filter(|a| tried.insert(*a))
            .collect();
        let mut done = None;
        for address in fresh {
            match attempt(address) {
                Ok(v) => {
                    done = Some(v);
                    break;
                }
                Err(e) => last = Some(e),
            }
        }
        if done.is_some() {
            break done;
        }
    };
    if let Ok(done) = daemon.shutdown() {
        let _ = done.recv_timeout(GOODBYE);
    }
    match (found, last) {
        (Some(v), _) => Ok(v),
        (None, Some(e)) => Err(e.context("the cluster was found on this LAN, but could not be joined")),
        (None, None) => bail!("{}", nobody(&others)),
    }
}

fn nobody(others: &BTreeSet<String>) -> String {
    let seen = if others.is_empty() {
        String::new()
    } else {
        let names: Vec<&str> = others.iter().take(5).map(String::as_str).collect();
        format!(" (only of other clusters: {})", names.join(", "))
    };
    format!(
        "nobody on this LAN announced the token's cluster in {} s{seen}: queued has to run on the host that made the \
         token, in the same LAN, with UDP port 5353 open on both and no 'mdns = false' there; or use a token with an \
         address, as 'queued token' without --lan prints it",
        LISTEN.as_secs()
    )
}

/// The name for people, as it came: made printable.
fn cluster_of(s: &ResolvedService) -> String {
    let name = s.txt_properties.get_property_val_str("cluster").unwrap_or("?");
    let good = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '?');
    name.chars().filter(good).take(64).collect()
}

/// Where it can be tried; IPv4 first. Link-local IPv6 ones are no use as a member's address.
fn addresses(s: &ResolvedService) -> Vec<SocketAddr> {
    let mut all: Vec<IpAddr> = s.addresses.iter().map(ScopedIp::to_ip_addr).collect();
    all.retain(|ip| match ip {
        IpAddr::V4(a) => !a.is_loopback() && !a.is_unspecified() && !a.is_multicast(),
        IpAddr::V6(a) => {
            !a.is_loopback() && !a.is_unspecified() && !a.is_multicast() && !a.is_unicast_link_local()
        }
    });
    all.sort_by_key(|ip| (ip.is_ipv6(), *ip));
    all.into_iter()
        .filter(|_| s.port != 0)
        .map(|ip| SocketAddr::new(ip, s.port))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_heard_outside_announces() {
        let listen = |ips: &[&str]| Config {
            listen: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            ..Config::default()
        };
        assert!(heard_outside(&listen(&[])));
        assert!(heard_outside(&listen(&["127.0.0.1", "10.0.0.1"])));
        assert!(heard_outside(&listen(&["0.0.0.0"])));
        assert!(!heard_outside(&listen(&["127.0.0.1", "::1"])));
    }

    #[test]
    fn what_is_said_aloud_is_a_prefix() {
        let print: Fingerprint = std::array::from_fn(|i| i as u8);
        assert_eq!(prefix(&print), "0001020304050607");
    }

    #[test]
    fn the_error_names_what_to_look_at() {
        let e = nobody(&BTreeSet::from(["lab".to_owned()]));
        for word in ["5 s", "5353", "lab", "--lan", "mdns = false"] {
            assert!(e.contains(word), "{word}: {e}");
        }
    }
}
