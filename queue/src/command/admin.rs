//! `queue admin rotate-keys`, and what the other verbs share that only root on the authority's host may do.

use crate::messages::{Failure, printable, write_all};
use crate::place::Daemon;
use libqueue::wire::{Empty, Keys, reply, request};
use queue_exec::keys;
use queue_exec::layout::Layout;
use queue_exec::state::AUTHORITY_KEY;

/// Makes new gossip keys, which the daemon spreads: hosts go over to them by themselves, and none is missed
/// meanwhile.
///
/// # Errors
/// Not root, not the authority's host, or no daemon.
pub fn rotate_keys(json: bool) -> Result<(), Failure> {
    let at = Authority::here("queue admin rotate-keys", "make new gossip keys")?;
    let version = at.rotate()?;
    let text = if json {
        serde_json::json!({ "version": version }).to_string() + "\n"
    } else {
        format!("new gossip keys (number {version}); all hosts use them in a few seconds\n")
    };
    write_all(1, text.as_bytes());
    Ok(())
}

/// The installation that holds the authority, with us as its owner.
pub(super) struct Authority {
    /// Where its files are.
    pub(super) layout: Layout,
    /// Where its daemon is.
    client: Layout,
}

impl Authority {
    /// This host's.
    ///
    /// # Errors
    /// Where to say `command` instead, to do `what`.
    pub(super) fn here(command: &str, what: &str) -> Result<Self, Failure> {
        let root = nix::unistd::geteuid().is_root();
        let client = Layout::for_client();
        if client.root && !root {
            return Err(Failure::own(format!(
                "only root may {what}: `sudo {command}` on {}",
                holder(&client)
            )));
        }
        let layout = Layout::for_daemon(root);
        if !layout.exec_state().join(AUTHORITY_KEY).exists() {
            return Err(Failure::own(format!(
                "this host does not hold the cluster's authority: say `{command}` on {}",
                holder(&client)
            )));
        }
        Ok(Self { layout, client })
    }

    /// Hands something to the daemon, which spreads it.
    ///
    /// # Errors
    /// No daemon, or it does not take it.
    pub(super) fn spread(&self, what: request::Kind) -> Result<(), Failure> {
        let mut daemon = Daemon::dial(&self.client)?;
        match daemon.request(what)? {
            reply::Kind::Done(_) => Ok(()),
            _ => Err(daemon.strange()),
        }
    }

    /// Makes new gossip keys and has them spread: their number.
    ///
    /// # Errors
    /// They could not be made, or not be spread.
    pub(super) fn rotate(&self) -> Result<u64, Failure> {
        let key = keys::new_key(&self.layout).map_err(|e| Failure::own(printable(&e.text)))?;
        let version = key.version;
        let keys = Keys {
            version,
            key: key.key.to_vec(),
            signature: key.signature.to_vec(),
        };
        self.spread(request::Kind::Keys(keys)).map_err(|e| {
            Failure::own(format!(
                "new gossip keys are made, but the other hosts do not have them yet: {}",
                e.text
            ))
        })?;
        Ok(version)
    }
}

/// Where the authority is, in words.
fn holder(layout: &Layout) -> String {
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
