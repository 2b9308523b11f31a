//! `queue hosts remove NAME`.

use crate::messages::{Failure, printable, write_all};
use crate::place::Daemon;
use libqueue::wire::{Empty, reply, request};
use queue_exec::authority;
use queue_exec::layout::Layout;
use queue_exec::state::AUTHORITY_KEY;

/// Takes a host out of the cluster: its certificates are revoked by the authority, and the daemon spreads that.
///
/// # Errors
/// Not root, not the authority's host, or no such host.
pub fn remove(name: &str, json: bool) -> Result<(), Failure> {
    let root = nix::unistd::geteuid().is_root();
    let client = Layout::for_client();
    if client.root && !root {
        return Err(Failure::own(format!(
            "only root may remove a host: `sudo queue hosts remove {name}` on {}",
            authority_host(&client)
        )));
    }
    let layout = Layout::for_daemon(root);
    if !layout.exec_state().join(AUTHORITY_KEY).exists() {
        return Err(Failure::own(format!(
            "this host does not hold the cluster's authority: say `queue hosts remove {name}` on {}",
            authority_host(&client)
        )));
    }
    let list = authority::remove(&layout, name).map_err(|e| Failure::own(printable(&e.text)))?;
    let spread = Daemon::dial(&client).and_then(|mut d| match d.request(request::Kind::Revoke(list))? {
        reply::Kind::Done(_) => Ok(()),
        _ => Err(d.strange()),
    });
    if let Err(e) = spread {
        return Err(Failure::own(format!(
            "{name} is removed, but the other hosts do not know it yet: {}",
            e.text
        )));
    }
    let name = printable(name);
    let text = if json {
        serde_json::json!({ "removed": name }).to_string() + "\n"
    } else {
        format!("{name} is removed from the cluster; what it still knows admits it nowhere\n")
    };
    write_all(1, text.as_bytes());
    Ok(())
}

/// Where the authority is, in words.
fn authority_host(layout: &Layout) -> String {
    let unknown = || "the host that ran `queued init`".to_owned();
    let Ok(mut daemon) = Daemon::dial(layout) else {
        return unknown();
    };
    match daemon.request(request::Kind::Hosts(Empty {})) {
        Ok(reply::Kind::Hosts(h)) => h
            .hosts
            .iter()
            .find(|h| h.authority)
            .map_or_else(unknown, |h| printable(&h.name)),
        _ => unknown(),
    }
}
