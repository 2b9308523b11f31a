//! What local programs are told of all hosts, and of one that does not exist. Part of the engine; where
//! something runs is decided in `choose.rs`.

use super::grant::drained;
use super::want::error;
use super::{Engine, Now, wire};
use std::time::Duration;
use wire::{ErrorCode, HostInfo, HostState};

/// Names that a line has room for.
const NAMES: usize = 20;

fn ms(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

impl Engine {
    /// There is no host of that name.
    pub(super) fn no_such_host(&self, name: &str) -> wire::Error {
        let all = std::iter::once(&self.own.name).chain(self.peers.keys());
        let known: Vec<&str> = all.take(NAMES).map(String::as_str).collect();
        let more = match (1 + self.peers.len()).saturating_sub(NAMES) {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        let text = format!(
            "no host {name} in cluster {}: there are {}{more} (queue hosts shows them)",
            self.cluster,
            known.join(", ")
        );
        error(ErrorCode::NoSuchHost, text)
    }

    /// All hosts, by name.
    pub(super) fn hosts(&self, now: Now) -> wire::Hosts {
        let reason = if self.expelled {
            format!(
                "removed from cluster {}: join it again (queued join TOKEN)",
                self.cluster
            )
        } else if !self.monitor {
            "queue-exec does not run: start it (systemctl start queue-exec, or `queued run` anew)".into()
        } else {
            self.drain
                .as_ref()
                .map(|d| drained(d, &self.own.name))
                .unwrap_or_default()
        };
        let own = HostInfo {
            name: self.own.name.clone(),
            address: self.advertised.clone(),
            state: if self.expelled || !self.monitor {
                HostState::Down
            } else {
                HostState::Up
            } as i32,
            load: self.load.map(|_| self.current_load(now)),
            age_ms: self.load.map_or(0, |(at, _)| ms(now.saturating_sub(at))),
            reason,
            authority: self.authority,
            version: self.version.clone(),
            local: true,
            facts: (self.facts.version != 0).then(|| self.facts.clone()),
        };
        let others = self.peers.values().map(|p| {
            let load = self.known(now, &p.host.name).and_then(|h| h.load);
            HostInfo {
                name: p.host.name.clone(),
                address: p.address.clone(),
                state: p.state as i32,
                load: load.map(|(_, l)| l),
                age_ms: load.map_or(0, |(at, _)| ms(now.saturating_sub(at))),
                reason: match load {
                    Some((_, l)) if l.cores == 0 && p.state == HostState::Up => {
                        "queue-exec does not run there".into()
                    }
                    Some((_, l)) if l.draining && p.state == HostState::Up => "is being drained".into(),
                    _ => p.reason.clone(),
                },
                authority: p.authority,
                version: p.version.clone(),
                local: false,
                facts: p.facts.clone(),
            }
        });
        let mut hosts: Vec<HostInfo> = std::iter::once(own).chain(others).collect();
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        wire::Hosts {
            hosts,
            cluster: self.cluster.clone(),
        }
    }
}
