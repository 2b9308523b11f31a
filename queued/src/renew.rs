//! This host's certificate renews itself: when less than a third of its time is left, the authority's host is
//! asked for the next one, and queue-exec puts it in place. On the authority's host: the answer. Knows when and
//! whom to ask; what may be issued and installed is queue-exec's.

use crate::admit::span;
use crate::driver::{Driver, Event};
use crate::engine::types::{Entry, Host, Input};
use crate::exec::{self, Exec};
use crate::{errand, identity};
use libqueue::wire::{Empty, member};
use queue_exec::cert::HostCert;
use queue_exec::protocol::{Reply, Request};
use queue_exec::state::{random, unix_now};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::sleep;

/// It is looked at at least so often: the clock may be set, the host may sleep.
const LOOK: u64 = 86_400;
/// Pauses between attempts, in seconds.
const RETRY: (u64, u64) = (1, 3600);

/// When to look again, or that it is time.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Now,
    /// In so many seconds.
    Later(u64),
}

/// A third of the time before the end, and up to a tenth of that later, so that a cluster that was set up in one
/// hour does not ask in one second. `chance` is 0 to 255.
fn plan(issued: u64, expires: u64, now: u64, chance: u8) -> Plan {
    let third = expires.saturating_sub(issued) / 3;
    let at = expires.saturating_sub(third - third / 2550 * u64::from(chance));
    match at.saturating_sub(now) {
        0 => Plan::Now,
        left => Plan::Later(left.min(LOOK)),
    }
}

/// The pause after a failure with so many seconds left.
fn pause(left: u64) -> u64 {
    (left / 20).clamp(RETRY.0, RETRY.1)
}

/// Keeps this host's certificate valid, for ever.
pub(crate) async fn keep(driver: Driver, exec: Exec) {
    exec.ready().await;
    let [chance] = random();
    let mut told = String::new();
    loop {
        let context = driver.context();
        let Ok((cert, _, _)) = HostCert::parse(&context.identity.own.cert) else {
            return;
        };
        let now = unix_now();
        if let Plan::Later(seconds) = plan(cert.issued, cert.expires, now, chance) {
            sleep(Duration::from_secs(seconds)).await;
            continue;
        }
        let left = cert.expires.saturating_sub(now);
        match once(&driver, &exec).await {
            Ok(true) => {
                told.clear();
                continue;
            }
            // The authority has nothing newer: its clock is behind.
            Ok(false) => {}
            Err(e) if e != told => {
                tracing::warn!(
                    "this host's certificate ends in {} and cannot be renewed yet: {e}",
                    span(left)
                );
                told = e;
            }
            Err(_) => {}
        }
        sleep(Duration::from_secs(pause(left))).await;
    }
}

/// Gets a new certificate and puts it in place; `false`: there is none yet.
async fn once(driver: &Driver, exec: &Exec) -> Result<bool, String> {
    let context = driver.context();
    let own = &context.identity.own;
    let new = if context.identity.cluster.authority {
        issue(own, &own.name, exec).await?
    } else {
        let (tx, rx) = oneshot::channel();
        driver.send(Event::Roster(tx)).await;
        let members = rx.await.unwrap_or_default();
        let holder = members
            .iter()
            .find(|m| m.authority)
            .ok_or("no host is known to hold the cluster's authority")?;
        let question = member::Kind::Renew(Empty {});
        let name = &holder.host.name;
        match errand::ask(&context, &holder.address, holder.host.tls_key, question).await {
            Ok(member::Kind::Renewed(cert)) => cert,
            Ok(_) => {
                return Err(format!(
                    "{name} answered in a way that this version does not know"
                ));
            }
            Err(e) => return Err(format!("{name}: {e}")),
        }
    };
    if new == own.cert {
        return Ok(false);
    }
    let host = context.verifier.host(&new).map_err(|e| e.to_string())?;
    if !host.is_same(own) || host.serial <= own.serial {
        return Err("the new certificate is not for this host".into());
    }
    match exec.ask(Request::Install { cert: new.clone() }, None).await {
        Ok(Reply::Done) => {}
        Ok(Reply::Refused { text, .. }) => return Err(text),
        Ok(_) => return Err("queue-exec is of another version".into()),
        Err(_) => return Err(exec::away(&own.name)),
    }
    identity::keep_cert(&context.layout, &new).map_err(|e| format!("{e:#}"))?;
    let (tx, rx) = oneshot::channel();
    driver.send(Event::Reload(tx)).await;
    rx.await.unwrap_or_else(|_| Err("queued is ending".into()))?;
    tracing::info!(
        "this host's certificate is renewed: number {} follows {}",
        host.serial,
        own.serial
    );
    Ok(true)
}

/// Has the authority issue a new certificate.
async fn issue(who: &Host, own: &str, exec: &Exec) -> Result<Vec<u8>, String> {
    let request = Request::Renew {
        cert: who.cert.clone(),
    };
    match exec.ask(request, None).await {
        Ok(Reply::Admitted { cert }) => Ok(cert),
        Ok(Reply::Refused { text, .. }) => Err(text),
        Ok(_) => Err(format!("queue-exec on {own} is of another version")),
        Err(_) => Err(exec::away(own)),
    }
}

/// Answers a member that wants a new certificate, and tells everybody of it.
pub(crate) async fn answer(who: &Host, driver: &Driver, exec: &Exec) -> member::Kind {
    let context = driver.context();
    let own = &context.identity.own.name;
    if !context.identity.cluster.authority {
        return member::Kind::Failed(format!("{own} does not hold the cluster's authority"));
    }
    let issued = match issue(who, own, exec).await {
        Ok(cert) => context
            .verifier
            .host(&cert)
            .map_err(|e| format!("the new certificate does not fit: {e}")),
        Err(e) => Err(e),
    };
    match issued {
        Ok(host) => {
            let cert = host.cert.clone();
            if host.serial != who.serial {
                tracing::info!("renewed the certificate of {}", host.name);
                let entry = Entry {
                    host,
                    address: String::new(),
                    authority: false,
                };
                driver.send(Event::Input(Input::Joined(entry))).await;
            }
            member::Kind::Renewed(cert)
        }
        Err(e) => {
            tracing::warn!("did not renew the certificate of {}: {e}", who.name);
            member::Kind::Failed(e)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_before_the_end_and_not_all_at_once() {
        const DAY: u64 = 86_400;
        let at = |chance| (0..400).find(|d| plan(0, 400 * DAY, d * DAY, chance) == Plan::Now);
        assert_eq!((at(0), at(128), at(255)), (Some(267), Some(274), Some(280)));
        assert_eq!(plan(0, 400 * DAY, 0, 0), Plan::Later(LOOK));
        assert_eq!(plan(1000, 1009, 1005, 9), Plan::Later(1));
        assert_eq!(plan(1000, 1009, 1006, 9), Plan::Now);
        // Whatever a certificate says.
        for (issued, expires) in [(0, 0), (9, 3), (0, u64::MAX), (u64::MAX, u64::MAX)] {
            for chance in [0, 255] {
                let _ = plan(issued, expires, 500, chance);
            }
        }
        assert_eq!((pause(0), pause(200), pause(u64::MAX)), (1, 10, 3600));
    }
}
