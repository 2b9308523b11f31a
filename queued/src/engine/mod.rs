//! Everything that decides: who is a member, whom to dial, which connection to keep, who is alive, where a
//! command runs. Pure: `handle(now, input, &mut effects)`. It has no clock, does no input or output, starts
//! no task, and draws lots only from its own seeded source, so that a simulation can play any history.
//!
//! It must not know sockets, TLS, files or signatures: hosts come in verified.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod answer;
mod candidates;
mod choose;
mod explain;
mod fit;
mod grant;
mod held;
#[cfg(test)]
mod herd;
pub(crate) mod jobs;
mod life;
mod links;
mod meet;
mod members;
pub(crate) mod place;
mod report;
pub(crate) mod rng;
mod seen;
#[cfg(test)]
mod sim;
mod swim;
#[cfg(test)]
mod tests;
mod timers;
pub(crate) mod types;
mod wait;
mod want;

use libqueue::wire::{self, member};
use rng::Rng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use swim::{Swim, Verdict};
use timers::{Due, Timers};
use types::{ConnId, Drain, Effect, Effects, Entry, Hello, Host, Input, Level, Message, Now, Revoked};

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
/// A roster goes out in parts of so many members.
const ROSTER: usize = 512;
/// If the next thing to do is overdue for so long, this process did not run meanwhile.
const FROZEN: Duration = Duration::from_secs(1);

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
    /// The clock at this start, in milliseconds since 1970: of two lives of a host the later one counts.
    pub epoch: u64,
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
    /// When it began, when the other end said something, and when we did.
    since: Now,
    heard: Now,
    said: Now,
    /// Since when it is not needed any more.
    unwanted: Option<Now>,
    /// Whether it was said that no datagrams come.
    warned: bool,
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
    /// Its address changed while it was being dialled.
    moved: bool,
    /// The protocol says that it is here now.
    pending: Option<String>,
    /// Since something was last heard, a dial failed or its link fell silent; and what the last dial said.
    failed: bool,
    excuse: String,
    /// Its last answer to a dial was no, or ours.
    refused: bool,
    /// The last sign of life of any kind, and the last datagram.
    heard: Option<Now>,
    datagram: Option<Now>,
    /// What the membership protocol says, about which identity, and since when.
    verdict: Verdict,
    id: Option<swim::Id>,
    judged: Now,
    /// It was dead, and is waited for until then.
    back: Option<Now>,
    /// It takes part in that protocol.
    swims: bool,
    /// It said goodbye.
    left: bool,
    /// A timer is set for when its last sign of life is old.
    watched: bool,
    load: Option<(Now, wire::Load)>,
    /// Number of its last report.
    seq: u64,
    /// What it is, and when it was asked for that.
    facts: Option<wire::Facts>,
    facts_asked: Option<Now>,
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
    /// Names by number ([`Host::number`]), and the numbers of hosts that were removed.
    numbers: BTreeMap<u64, String>,
    gone: BTreeSet<u64>,
    conns: BTreeMap<ConnId, String>,
    /// Whom to link to, and whether that is to be computed anew.
    wanted: BTreeSet<String>,
    grown: bool,
    timers: Timers,
    swim: Swim,
    pace: report::Pace,
    /// Number of the last report, and what it said.
    seq: u64,
    told: Option<wire::Load>,
    turn: report::Turn,
    /// When a link was last asked for its members, and when a clone was last complained of.
    asked: Option<Now>,
    twin: Option<Now>,
    revoked: Revoked,
    load: Option<(Now, wire::Load)>,
    /// Where commands run, and what runs here.
    placing: choose::Placing,
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
        let mut rng = Rng::new(setup.seed);
        let id = swim::Id::new(
            setup.own.number(),
            swim::Id::epoch(setup.epoch),
            swim::address(&setup.advertised),
        );
        let mut e = Self {
            own: setup.own,
            cluster: setup.cluster,
            authority: setup.authority,
            boot: setup.boot,
            dial_self: setup.dial_self,
            advertised: setup.advertised,
            version: setup.version,
            peers: BTreeMap::new(),
            numbers: BTreeMap::new(),
            gone: BTreeSet::new(),
            conns: BTreeMap::new(),
            wanted: BTreeSet::new(),
            grown: false,
            timers: Timers::default(),
            swim: Swim::new(id, setup.members.len() + 1, Rng::new(rng.next())),
            pace: report::Pace::default(),
            seq: setup.epoch,
            told: None,
            turn: report::Turn::default(),
            asked: None,
            twin: None,
            revoked: setup.revoked,
            load: None,
            placing: choose::Placing::default(),
            monitor: false,
            expelled,
            stopped: false,
            drain: setup.drain,
            facts: wire::Facts::default(),
            keys: wire::Keys::default(),
            rng,
        };
        for m in setup.members {
            e.learn(now, m, None, &mut Effects::default());
        }
        e.grown = false;
        e.rewire(now);
        // Whoever just started is dialled by nobody soon, so he does not wait for it.
        for name in &e.wanted {
            if let Some(p) = e.peers.get_mut(name) {
                let at = now + e.rng.between(Duration::ZERO, Duration::from_millis(50));
                p.redial(&mut e.timers, at);
            }
        }
        let soon = now + e.rng.between(Duration::ZERO, Duration::from_millis(50));
        e.timers.set(soon, Due::Seek);
        e.timers.set(soon, Due::Links);
        e
    }

    /// Takes one input and says what is to be done about it.
    pub(crate) fn handle(&mut self, now: Now, input: Input, out: &mut Effects) {
        if self.timers.first().is_some_and(|t| now >= t + FROZEN) {
            self.thaw(now);
        }
        let news = input != Input::Tick;
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
            Input::OwnLoad(load) => self.own_load(now, load),
            Input::OwnFacts(facts) => {
                self.facts = facts;
                self.report_soon(now);
            }
            Input::OwnAddress(address) => self.own_address(now, address, out),
            Input::Datagram { from, message, .. } => self.datagram(now, from, message, out),
            Input::Keys(keys) => self.new_keys(keys, out),
            Input::Grant { ask, need, from_here } => self.grant(now, ask, need, from_here, out),
            Input::Ungrant { ask } => self.ungrant(now, ask),
            Input::Started {
                grant,
                session,
                need,
                job,
            } => {
                if job {
                    self.is_job(session);
                }
                self.started(now, grant, session, need);
            }
            Input::Ended { session } => self.ended(now, &session),
            Input::Gone { ask } => self.gone(now, ask),
            Input::Drain(drain) => self.set_drain(now, drain, out),
            Input::Explain { ask, place } => {
                let reply = self.explain(now, place);
                out.push(Effect::Answer { ask, reply });
            }
            Input::Monitor(up) => self.set_monitor(now, up),
            Input::Renewed(host) => self.renewed(host, out),
            Input::Joined(entry) => self.learn(now, entry, None, out),
            Input::Revoke(list) => self.revoke(list, out),
            Input::Place { ask, place } => self.place(now, ask, place, out),
            Input::Hosts { ask } => {
                let reply = wire::reply::Kind::Hosts(self.hosts(now));
                out.push(Effect::Answer { ask, reply });
            }
            Input::Stop => self.stop(now, out),
        }
        self.placing_turn(now, news, out);
        if self.stopped || self.expelled {
            return;
        }
        if std::mem::take(&mut self.grown) {
            self.rewire(now);
        }
        self.due(now, out);
    }

    /// Does what is due.
    fn due(&mut self, now: Now, out: &mut Effects) {
        while let Some((at, due)) = self.timers.pop(now) {
            match due {
                Due::Dial(name) => self.dial(now, &name, out),
                Due::Life(name) => self.aged(now, &name, out),
                Due::Links => self.care(now, out),
                Due::Swim(timer) => {
                    self.swim.timer(now, at, timer);
                    self.swum(now, out);
                }
                Due::Seek => self.seek_due(now, out),
                Due::Report => self.report_due(now, out),
            }
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
        self.timers.first().into_iter().chain(self.placing.wake()).min()
    }

    /// The signed revocation list; empty if there is none.
    pub(crate) fn revocations(&self) -> &[u8] {
        &self.revoked.bytes
    }

    /// All members as they are passed on, this host first. Its own address is for the reader to know: he is
    /// connected with it.
    pub(crate) fn roster(&self, except: &str) -> Vec<Entry> {
        std::iter::once(self.own_entry())
            .chain(
                self.peers
                    .values()
                    .filter(|p| p.host.name != except)
                    .map(Peer::entry),
            )
            .collect()
    }

    /// Why a member refuses this host, if it does.
    pub(crate) fn refusal(&self, name: &str) -> Option<String> {
        let p = self.peers.get(name).filter(|p| p.refused)?;
        Some(p.excuse.clone())
    }

    /// This host, without its address.
    fn own_entry(&self) -> Entry {
        Entry {
            host: self.own.clone(),
            address: String::new(),
            authority: self.authority,
        }
    }

    fn stop(&mut self, now: Now, out: &mut Effects) {
        if !self.expelled {
            self.farewell(now, out);
        }
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
    wire::Roster {
        members,
        wanted: false,
    }
}
