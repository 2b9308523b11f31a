//! `queue hosts remove NAME`.

use super::admin::Authority;
use crate::messages::{Failure, printable, write_all};
use libqueue::wire::request;
use queue_exec::authority;

/// Takes a host out of the cluster: its certificates are revoked by the authority, and the gossip keys that it knows
/// are replaced; the daemon spreads both.
///
/// # Errors
/// Not root, not the authority's host, or no such host.
pub fn remove(name: &str, json: bool) -> Result<(), Failure> {
    let at = Authority::here(&format!("queue hosts remove {name}"), "remove a host")?;
    let list = authority::remove(&at.layout, name).map_err(|e| Failure::own(printable(&e.text)))?;
    // Whatever becomes of the one, the other is done; the first is the one that matters.
    let spread = at.spread(request::Kind::Revoke(list));
    let rotated = at.rotate();
    let name = printable(name);
    spread.map_err(|e| {
        Failure::own(format!(
            "{name} is removed, but the other hosts do not know it yet: {}",
            e.text
        ))
    })?;
    rotated.map_err(|e| {
        Failure::own(format!(
            "{name} is removed, but can still read what the hosts tell each other: {}; say `queue admin rotate-keys`",
            e.text
        ))
    })?;
    let text = if json {
        serde_json::json!({ "removed": name }).to_string() + "\n"
    } else {
        format!("{name} is removed from the cluster; what it still knows admits it nowhere\n")
    };
    write_all(1, text.as_bytes());
    Ok(())
}
