//! Answers to local programs: where to run, and how all hosts are. Part of the engine; decides by the score
//! of `place.rs` and by what membership knows.

use super::place::{REMEMBER, View, best};
use super::{Engine, HANDED, Now, wire};
use std::collections::VecDeque;
use std::time::Duration;
use wire::{ErrorCode, HostInfo, HostState, Placed, reply};

fn error(code: ErrorCode, text: String) -> wire::Error {
    wire::Error {
        code: code as i32,
        text,
    }
}

fn ms(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

impl Engine {
    /// Chooses a host, and remembers that it was handed a launch.
    pub(super) fn place(&mut self, now: Now, wanted: &wire::Place) -> reply::Kind {
        if self.expelled {
            let (n, c) = (&self.own.name, &self.cluster);
            let text =
                format!("this host, {n}, was removed from cluster {c}: join it again (queued join TOKEN)");
            return reply::Kind::Error(error(ErrorCode::Denied, text));
        }
        let any = wanted.host.is_empty() || wanted.host == "+";
        if !any {
            match self.named(now, &wanted.host) {
                Ok(placed) if !wanted.prefer || !wanted.avoid.contains(&placed.host) => {
                    return reply::Kind::Placed(placed);
                }
                Err(e) if !wanted.prefer => return reply::Kind::Error(e),
                _ => {}
            }
        }
        self.anywhere(now, &wanted.avoid)
    }

    /// The host of that name, if it may be there.
    fn named(&mut self, now: Now, name: &str) -> Result<Placed, wire::Error> {
        if name == self.own.name {
            if !self.monitor {
                return Err(error(ErrorCode::NotReady, self.no_monitor()));
            }
            remember(&mut self.handed, now);
            return Ok(self.placed_here());
        }
        let exact = self.peers.contains_key(name).then(|| name.to_owned());
        let found = exact.or_else(|| self.peers.keys().find(|n| n.eq_ignore_ascii_case(name)).cloned());
        let Some((name, p)) = found.and_then(|n| self.peers.get_mut(&n).map(|p| (n, p))) else {
            let known: Vec<&str> = std::iter::once(&self.own.name)
                .chain(self.peers.keys())
                .take(20)
                .map(String::as_str)
                .collect();
            let text = format!(
                "no host {name} in cluster {}: there are {} (queue hosts shows them)",
                self.cluster,
                known.join(", ")
            );
            return Err(error(ErrorCode::NoSuchHost, text));
        };
        // One that was not met yet since we started may well be there: the asker's connection tells.
        if p.state == HostState::Down {
            let reason = match p.reason.as_str() {
                "" => format!(
                    "no connection with {}: is it on, and does queued run there?",
                    p.address
                ),
                r => r.to_owned(),
            };
            let text = format!("{name} does not answer: {reason}");
            return Err(error(ErrorCode::HostDown, text));
        }
        remember(&mut p.handed, now);
        Ok(Placed {
            host: name,
            address: p.address.clone(),
            cert: p.host.cert.clone(),
            local: false,
        })
    }

    /// The least loaded of the hosts that answer.
    fn anywhere(&mut self, now: Now, avoid: &[String]) -> reply::Kind {
        let mut names = Vec::new();
        let mut views = Vec::new();
        if self.monitor && !avoid.contains(&self.own.name) {
            names.push(self.own.name.clone());
            views.push(view(now, self.load, &self.handed));
        }
        for (name, p) in &self.peers {
            let willing = p.load.is_some_and(|(_, l)| l.cores > 0);
            if p.state == HostState::Up && p.link.is_some() && willing && !avoid.contains(name) {
                names.push(name.clone());
                views.push(view(now, p.load, &p.handed));
            }
        }
        let Some(name) = best(&views, &mut self.rng).and_then(|i| names.get(i)) else {
            let text = if avoid.is_empty() && !self.monitor && self.peers.is_empty() {
                self.no_monitor()
            } else {
                let tried = if avoid.is_empty() {
                    String::new()
                } else {
                    format!(", {} tried", avoid.join(", "))
                };
                format!(
                    "no host answers ({} in cluster {}{tried}): queue hosts shows why",
                    1 + self.peers.len(),
                    self.cluster
                )
            };
            return reply::Kind::Error(error(ErrorCode::NoHost, text));
        };
        if *name == self.own.name {
            remember(&mut self.handed, now);
            return reply::Kind::Placed(self.placed_here());
        }
        let name = name.clone();
        match self.named(now, &name) {
            Ok(p) => reply::Kind::Placed(p),
            Err(e) => reply::Kind::Error(e),
        }
    }

    fn no_monitor(&self) -> String {
        format!(
            "queue-exec on {} does not run: start it there (systemctl start queue-exec, or `queued run` anew)",
            self.own.name
        )
    }

    fn placed_here(&self) -> Placed {
        Placed {
            host: self.own.name.clone(),
            address: self.dial_self.clone(),
            cert: self.own.cert.clone(),
            local: true,
        }
    }

    /// All hosts, by name.
    pub(super) fn hosts(&self, now: Now) -> wire::Hosts {
        let reason = if self.expelled {
            format!(
                "removed from cluster {}: join it again (queued join TOKEN)",
                self.cluster
            )
        } else if self.monitor {
            String::new()
        } else {
            "queue-exec does not run: start it (systemctl start queue-exec, or `queued run` anew)".into()
        };
        let own = HostInfo {
            name: self.own.name.clone(),
            address: self.advertised.clone(),
            state: if self.expelled || !self.monitor {
                HostState::Down
            } else {
                HostState::Up
            } as i32,
            load: self.load.map(|(_, l)| l),
            age_ms: self.load.map_or(0, |(at, _)| ms(now.saturating_sub(at))),
            reason,
            authority: self.authority,
            version: self.version.clone(),
            local: true,
            facts: Some(self.facts.clone()),
        };
        let others = self.peers.values().map(|p| HostInfo {
            name: p.host.name.clone(),
            address: p.address.clone(),
            state: p.state as i32,
            load: p.load.map(|(_, l)| l),
            age_ms: p.load.map_or(0, |(at, _)| ms(now.saturating_sub(at))),
            reason: match p.load {
                Some((_, l)) if l.cores == 0 && p.state == HostState::Up => {
                    "queue-exec does not run there".into()
                }
                _ => p.reason.clone(),
            },
            authority: p.authority,
            version: p.version.clone(),
            local: false,
            facts: p.facts.clone(),
        });
        let mut hosts: Vec<HostInfo> = std::iter::once(own).chain(others).collect();
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        wire::Hosts {
            hosts,
            cluster: self.cluster.clone(),
        }
    }
}

fn remember(handed: &mut VecDeque<Now>, now: Now) {
    while handed.front().is_some_and(|t| *t + REMEMBER < now) || handed.len() >= HANDED {
        handed.pop_front();
    }
    handed.push_back(now);
}

fn view(now: Now, load: Option<(Now, wire::Load)>, handed: &VecDeque<Now>) -> View {
    let (at, load) = load.unwrap_or_default();
    View {
        load1: load.load1,
        cores: load.cores,
        sessions: load.sessions,
        handed: handed
            .iter()
            .map(|t| now.saturating_sub(*t))
            .filter(|age| *age <= REMEMBER)
            .collect(),
        report_age: now.saturating_sub(at),
    }
}
