//! Everything that decides: who is a member, whom to dial, which connection to keep, who is alive, where a
//! command runs. Pure: `handle(now, input, &mut effects)`. It has no clock, does no input or output, starts
//! no task, and draws lots only from its own seeded source, so that a simulation can play any history.
//!
//! It must not know sockets, TLS, files or signatures: hosts come in verified.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod answer;
mod members;
pub(crate) mod place;
pub(crate) mod rng;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
pub(crate) mod types;

use libqueue::wire::{self, member};
use rng::Rng;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use types::{ConnId, Drain, Effect, Effects, Entry, Hello, Host, Input, Level, Message, Now, Revoked};

/// A host that says nothing for so long is down. Load reports, every 2 s, are the sign of life.
pub(crate) const SILENCE: Duration = Duration::from_secs(6);
/// While the connection of a host was heard within this time, another host with its name is a clone.
const ALIVE: Duration = Duration::from_secs(3);
/// First pause after a failed dial; doubled each time.
const BACKOFF: Duration = Duration::from_millis(500);
/// Longest pause between two dials of a host that does not answer.
const BACKOFF_MAX: Duration = Duration::from_secs(8);
/// Pause after a host answered and refused us.
const REFUSED: Duration = Duration::from_secs(20);
/// Addresses that others named, kept for each host.
const RUMOURS: usize = 4;
/// Launches remembered for each host.
const HANDED: usize = 1024;

/// What the engine is started with.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// This host.
    pub own: Host,
    /// Name of the cluster.
    pub cluster: String,
    /// Whether this host holds the authority.
    pub authority: bool,
    /// Random, made at this start.
    pub boot: Vec<u8>,
    /// Where programs on this host reach it.
    pub dial_self: String,
    /// What `queue hosts` shows as its address.
    pub advertised: String,
    /// Version of this software.
    pub version: String,
    /// Members that were written down.
    pub members: Vec<Entry>,
    /// The revocation list that was written down.
    pub revoked: Revoked,
    /// Why nothing new is started here, if so.
    pub drain: Option<Drain>,
    /// Seed of the engine's lots.
    pub seed: u64,
}

/// An established connection.
#[derive(Debug)]
struct Link {
    conn: ConnId,
    /// Whether we dialled it.
    dialled: bool,
    boot: Vec<u8>,
    /// IP address of the other end.
    from: String,
    heard: Now,
}

/// What we do about a host that is not connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dial {
    /// Nothing: it is connected.
    Rest,
    /// At this time, after so many failures in a row.
    At(Now, u32),
    /// Under way.
    Busy(u32),
}

/// Another member.
#[derive(Debug)]
struct Peer {
    host: Host,
    /// The last one it was reached at, or the first one we were told.
    address: String,
    /// Others that somebody named.
    rumours: VecDeque<String>,
    authority: bool,
    version: String,
    state: wire::HostState,
    /// Why it is down, or why the last dial failed.
    reason: String,
    link: Option<Link>,
    dial: Dial,
    load: Option<(Now, wire::Load)>,
    /// Times of the launches that we handed to it.
    handed: VecDeque<Now>,
}

/// The engine.
#[derive(Debug)]
pub(crate) struct Engine {
    own: Host,
    cluster: String,
    authority: bool,
    boot: Vec<u8>,
    dial_self: String,
    advertised: String,
    version: String,
    peers: BTreeMap<String, Peer>,
    conns: BTreeMap<ConnId, String>,
    revoked: Revoked,
    load: Option<(Now, wire::Load)>,
    handed: VecDeque<Now>,
    monitor: bool,
    /// This host was removed from the cluster.
    expelled: bool,
    stopped: bool,
    /// Why nothing new is started here, if so.
    drain: Option<Drain>,
    /// What this host is.
    facts: wire::Facts,
    /// The gossip keys.
    keys: wire::Keys,
    rng: Rng,
}

impl Engine {
    /// An engine that knows what is written down, and dials everybody at once.
    pub(crate) fn new(now: Now, setup: Setup) -> Self {
        let expelled = setup.revoked.serials.contains(&setup.own.serial);
        let mut e = Self {
            own: setup.own,
            cluster: setup.cluster,
            authority: setup.authority,
            boot: setup.boot,
            dial_self: setup.dial_self,
            advertised: setup.advertised,
            version: setup.version,
            peers: BTreeMap::new(),
            conns: BTreeMap::new(),
            revoked: setup.revoked,
            load: None,
            handed: VecDeque::new(),
            monitor: false,
            expelled,
            stopped: false,
            drain: setup.drain,
            facts: wire::Facts::default(),
            keys: wire::Keys::default(),
            rng: Rng::new(setup.seed),
        };
        for m in setup.members {
            e.learn(now, m, None, &mut Effects::default());
        }
        // Whoever just started is dialled by nobody soon, so he does not wait for it.
        for p in e.peers.values_mut() {
            p.dial = Dial::At(now + e.rng.between(Duration::ZERO, Duration::from_millis(50)), 0);
        }
        e
    }

    /// Takes one input and says what is to be done about it.
    pub(crate) fn handle(&mut self, now: Now, input: Input, out: &mut Effects) {
        match input {
            Input::Tick => {}
            Input::Arrived {
                conn,
                host,
                hello,
                from,
            } => self.met(now, conn, host, hello, from, false, out),
            Input::Reached {
                conn,
                host,
                hello,
                from,
            } => self.met(now, conn, host, hello, from, true, out),
            Input::DialFailed { name, text, refused } => self.dial_failed(now, &name, text, refused, out),
            Input::Lost { conn, text } => self.lost(now, conn, text, out),
            Input::Heard { conn, message } => self.heard(now, conn, message, out),
            Input::OwnLoad(load) => {
                self.load = Some((now, load));
                for conn in self.links() {
                    out.push(Effect::Send {
                        conn,
                        message: member::Kind::Load(load),
                    });
                }
            }
            Input::OwnFacts(facts) => self.facts = facts,
            Input::OwnAddress(address) => self.advertised = address,
            Input::Datagram { .. } => {}
            Input::Keys(keys) => self.new_keys(keys, out),
            Input::Grant { ask, .. } => out.push(Effect::Answer {
                ask,
                reply: wire::reply::Kind::Done(wire::Empty {}),
            }),
            Input::Ungrant { .. } | Input::Started { .. } | Input::Ended { .. } | Input::Gone { .. } => {}
            Input::Drain(drain) => {
                self.drain.clone_from(&drain);
                out.push(Effect::KeepDrain(drain));
            }
            Input::Explain { ask, .. } => out.push(Effect::Answer {
                ask,
                reply: wire::reply::Kind::Explained(wire::Explained::default()),
            }),
            Input::Monitor(up) => self.monitor = up,
            Input::Joined(entry) => self.learn(now, entry, None, out),
            Input::Revoke(list) => self.revoke(list, out),
            Input::Place { ask, place } => {
                let reply = self.place(now, &place);
                out.push(Effect::Answer { ask, reply });
            }
            Input::Hosts { ask } => {
                let reply = wire::reply::Kind::Hosts(self.hosts(now));
                out.push(Effect::Answer { ask, reply });
            }
            Input::Stop => self.stop(out),
        }
        if !self.stopped {
            self.silent(now, out);
            self.dial(now, out);
        }
    }

    /// Newer keys are adopted, and passed on.
    fn new_keys(&mut self, keys: wire::Keys, out: &mut Effects) {
        if keys.version <= self.keys.version {
            return;
        }
        self.keys = keys;
        for conn in self.links() {
            out.push(Effect::Send {
                conn,
                message: member::Kind::Keys(self.keys.clone()),
            });
        }
        out.push(Effect::Keys(self.keys.clone()));
    }

    /// When a `Tick` is due, if nothing else happens before.
    pub(crate) fn wake(&self) -> Option<Now> {
        if self.stopped || self.expelled {
            return None;
        }
        self.peers
            .values()
            .filter_map(|p| match (&p.link, p.dial) {
                (Some(l), _) => Some(l.heard + SILENCE),
                (None, Dial::At(at, _)) => Some(at),
                (None, _) => None,
            })
            .min()
    }

    /// The signed revocation list; empty if there is none.
    pub(crate) fn revocations(&self) -> &[u8] {
        &self.revoked.bytes
    }

    /// All members as they are passed on, this host first. Its own address is for the reader to know: he is
    /// connected with it.
    pub(crate) fn roster(&self, except: &str) -> Vec<Entry> {
        let own = Entry {
            host: self.own.clone(),
            address: String::new(),
            authority: self.authority,
        };
        std::iter::once(own)
            .chain(
                self.peers
                    .values()
                    .filter(|p| p.host.name != except)
                    .map(Peer::entry),
            )
            .collect()
    }

    fn links(&self) -> Vec<ConnId> {
        self.peers
            .values()
            .filter_map(|p| p.link.as_ref().map(|l| l.conn))
            .collect()
    }

    fn stop(&mut self, out: &mut Effects) {
        self.stopped = true;
        for conn in std::mem::take(&mut self.conns).into_keys() {
            out.push(Effect::Close {
                conn,
                bye: Some(format!("queued on {} was stopped", self.own.name)),
            });
        }
        for p in self.peers.values_mut() {
            p.link = None;
        }
    }
}

impl Peer {
    fn entry(&self) -> Entry {
        Entry {
            host: self.host.clone(),
            address: self.address.clone(),
            authority: self.authority,
        }
    }
}

/// A roster as it goes over the wire.
pub(crate) fn wire_roster(entries: Vec<Entry>) -> wire::Roster {
    let members = entries
        .into_iter()
        .map(|e| wire::RosterEntry {
            cert: e.host.cert,
            address: e.address,
            authority: e.authority,
        })
        .collect();
    wire::Roster { members }
}
