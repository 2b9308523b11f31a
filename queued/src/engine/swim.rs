//! Who is alive: SWIM, by foca, which does no input or output. Wrapped so that the rest of the engine sees
//! identities, verdicts, datagrams and times only. Knows no names, no certificates and no links: which host
//! numbers count is asked of the caller, and nobody else's enters the list.
//!
//! An identity is the number of a host, an epoch and an address. Of two with one number the later epoch counts;
//! it rises at each start, each time the host was declared dead by mistake, and when its address changes. An odd
//! epoch is a farewell: whoever has it said goodbye.

mod codec;
#[cfg(test)]
mod tests;

use super::rng::Rng;
use codec::{Codec, Packet};
use foca::{Config, Foca, Header, Member, Message, NoCustomBroadcast, Notification, PeriodicParams, State};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU8, NonZeroUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Each host asks another one this often whether it is alive. At one second, one death in a hundred would wait
/// more than four of them for the first host to ask; nothing else costs so little time.
const PERIOD: Duration = Duration::from_millis(500);
/// It has this long to answer before others are asked to ask it.
const ANSWER: Duration = Duration::from_millis(200);
/// How many others are asked; also how many are gossiped with at a time.
const HELPERS: usize = 4;
/// News are passed on this often, while there are any.
const GOSSIP: Duration = Duration::from_millis(200);
/// A random host is asked for hosts this often, in case news got lost.
const ANNOUNCE: Duration = Duration::from_secs(20);
/// Largest packet, so that none is fragmented.
const PACKET: usize = 1200;
/// Declared dead twice within this time: our epoch is far behind what others remember (a clock that was set
/// back), so it rises by more.
const AGAIN: Duration = Duration::from_secs(10);
/// Largest such rise, as a power of two.
const STRIDE_MAX: u32 = 38;
/// Epochs so far ahead of this host's clock are nobody's: ten years. Else one lie about a host, with an epoch near the
/// end of all numbers, could be outlived by none of its own. As a host that outlives a lie takes the next epoch, it is
/// heard as soon as the clocks have gone on by a millisecond.
const AHEAD: u64 = 10 * 365 * 86_400 * 1000 * 2;
/// No clock is so far behind but by mistake: 2025.
const NEVER_BEFORE: u64 = 1_735_689_600_000 * 2;
/// A suspicion that should have been decided so long ago was not: we were frozen ourselves, and may have the
/// answer in a buffer.
const FROZEN: Duration = Duration::from_secs(1);

/// A timer of the protocol.
pub(super) type Timer = foca::Timer<Id>;

/// A host at one time of its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id {
    /// Its number.
    pub host: u64,
    /// Which of its lives.
    pub epoch: u64,
    /// IPv6 address (IPv4 in IPv6 clothes) and port: there may be ten thousand of them.
    at: [u8; 18],
}

impl Id {
    /// The identity of that host, then, there.
    pub(super) fn new(host: u64, epoch: u64, address: SocketAddr) -> Self {
        let ip: Ipv6Addr = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let mut at = [0; 18];
        at[..16].copy_from_slice(&ip.octets());
        at[16..].copy_from_slice(&address.port().to_be_bytes());
        Self { host, epoch, at }
    }

    /// An epoch from a time in milliseconds since 1970.
    pub(super) fn epoch(clock_ms: u64) -> u64 {
        clock_ms << 1
    }

    /// Where it is.
    pub(super) fn address(&self) -> SocketAddr {
        let [ip @ .., high, low] = self.at;
        let ip = IpAddr::from(ip).to_canonical();
        SocketAddr::new(ip, u16::from_be_bytes([high, low]))
    }

    /// Whether it said goodbye.
    pub(super) fn left(&self) -> bool {
        self.epoch & 1 == 1
    }

    fn farewell(self) -> Self {
        Self {
            epoch: self.epoch | 1,
            ..self
        }
    }

    /// A later life of the same host; never a farewell.
    fn after(self, epoch: u64, stride: u64) -> Self {
        Self {
            epoch: (epoch | 1).saturating_add(1).saturating_add(stride) & !1,
            ..self
        }
    }
}

impl foca::Identity for Id {
    type Addr = u64;

    fn renew(&self) -> Option<Self> {
        Some(self.after(self.epoch, 0))
    }

    fn addr(&self) -> u64 {
        self.host
    }

    fn win_addr_conflict(&self, other: &Self) -> bool {
        (self.epoch, self.at) > (other.epoch, other.at)
    }
}

/// What the protocol holds of a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing yet.
    #[default]
    None,
    /// It answers.
    Alive,
    /// It did not answer; if it does not object, it will be declared dead.
    Suspect,
    /// It is dead, or said goodbye.
    Down,
}

/// A verdict that is new, or is said again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    /// On whom.
    pub id: Id,
    /// The verdict.
    pub verdict: Verdict,
}

/// What is to be done after a call.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Packets, and to whom.
    pub sends: Vec<(Id, Vec<u8>)>,
    /// Timers to be handed back after this time.
    pub timers: Vec<(Duration, Timer)>,
    /// Verdicts, the oldest first.
    pub changes: Vec<Change>,
    /// A packet named hosts whose certificates are not known.
    pub strangers: bool,
    /// We were declared dead and took a new identity.
    pub rejoined: bool,
    /// Another host with our certificate is there.
    pub twin: Option<SocketAddr>,
}

impl foca::Runtime<Id> for Done {
    fn notify(&mut self, n: Notification<'_, Id>) {
        if matches!(n, Notification::Rejoin(_)) {
            self.rejoined = true;
        }
    }

    fn send_to(&mut self, to: Id, data: &[u8]) {
        self.sends.push((to, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer, after: Duration) {
        self.timers.push((after, event));
    }
}

/// The engine's lots, as foca draws them.
#[derive(Debug)]
struct Chance(Rng);

impl rand::TryRng for Chance {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.0.next() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.next())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.0.next().to_be_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

/// The settings for a cluster of this size.
fn config(hosts: usize) -> Config {
    let n = |n: usize| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
    // Each host passes a piece of news on so many times. It misses none of them by chance with e to the minus that,
    // and nobody repeats who died.
    let rounds = 4.0 * (hosts as f64 + 1.0).log10() + 8.0;
    Config {
        probe_period: PERIOD,
        probe_rtt: ANSWER,
        num_indirect_probes: n(HELPERS),
        max_transmissions: NonZeroU8::new(rounds.clamp(8.0, 40.0) as u8).unwrap_or(NonZeroU8::MIN),
        // Where few can be asked to ask, a host that is only busy has a little longer to object.
        suspect_to_down_after: if hosts <= super::links::MESH {
            Duration::from_millis(4000)
        } else {
            Duration::from_millis(3000)
        },
        // The list of members is bounded by the certificates.
        remove_down_after: None,
        max_packet_size: n(PACKET),
        notify_down_members: true,
        periodic_announce: Some(PeriodicParams {
            frequency: ANNOUNCE,
            num_members: n(1),
        }),
        // Whoever is missing is sought by name, see `Engine::seek`.
        periodic_announce_to_down_members: None,
        periodic_gossip: Some(PeriodicParams {
            frequency: GOSSIP,
            num_members: n(HELPERS),
        }),
    }
}

/// The protocol.
pub(super) struct Swim {
    foca: Foca<Id, Codec, Chance, NoCustomBroadcast>,
    applied: Arc<Mutex<Vec<Change>>>,
    done: Done,
    hosts: usize,
    /// The last epoch that anybody can have at time zero.
    last: u64,
    /// When we were last declared dead, and how often in quick succession.
    rejoined: Option<Duration>,
    strides: u32,
}

impl std::fmt::Debug for Swim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Swim")
            .field("own", self.own())
            .field("active", &self.foca.num_members())
            .finish_non_exhaustive()
    }
}

impl Swim {
    /// A host that knows nobody yet.
    pub(super) fn new(own: Id, hosts: usize, rng: Rng) -> Self {
        let codec = Codec::default();
        let applied = codec.applied.clone();
        Self {
            last: own.epoch.max(NEVER_BEFORE).saturating_add(AHEAD),
            foca: Foca::new(own, config(hosts), Chance(rng), codec),
            applied,
            done: Done::default(),
            hosts,
            rejoined: None,
            strides: 0,
        }
    }

    /// Our own identity.
    pub(super) fn own(&self) -> &Id {
        self.foca.identity()
    }

    /// How many others are alive.
    #[cfg(test)]
    pub(super) fn active(&self) -> usize {
        self.foca.num_members()
    }

    /// Knows these hosts as alive, and that it is nothing new.
    #[cfg(test)]
    pub(super) fn meet(&mut self, ids: impl Iterator<Item = Id>) {
        let _ = self
            .foca
            .apply_many(ids.map(Member::alive), false, &mut self.done);
    }

    /// Adapts to the size of the cluster.
    pub(super) fn resize(&mut self, hosts: usize) {
        if hosts != self.hosts {
            self.hosts = hosts;
            // Only what may be changed depends on the size.
            let _ = self.foca.set_config(config(hosts));
        }
    }

    /// The last epoch that anybody can have now.
    fn limit(&self, now: Duration) -> u64 {
        let passed = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.last.saturating_add(passed.saturating_mul(2))
    }

    /// A packet came in. `known`: whether a host number is a member's.
    pub(super) fn packet(&mut self, now: Duration, data: &[u8], known: impl Fn(u64) -> bool) {
        let Ok(mut packet) = Packet::read(data) else {
            return;
        };
        let own = *self.own();
        let limit = self.limit(now);
        let impossible = |id: &Id| id.epoch > limit;
        let stranger = |id: &Id| id.host != own.host && !known(id.host);
        let via = match &packet.header.message {
            Message::PingReq { target: id, .. }
            | Message::IndirectAck { target: id, .. }
            | Message::IndirectPing { origin: id, .. }
            | Message::ForwardedAck { origin: id, .. } => Some(id),
            _ => None,
        };
        if impossible(&packet.header.src) || via.is_some_and(impossible) {
            return;
        }
        if stranger(&packet.header.src) || via.is_some_and(stranger) {
            self.done.strangers = true;
            return;
        }
        let mut later = None;
        let mut all = true;
        if let Some(members) = &mut packet.members {
            members.retain(|m| {
                let id = m.id();
                let keep = if impossible(id) {
                    false
                } else if id.host == own.host {
                    // A life of ours that we do not remember: it cannot be argued with, only outlived.
                    let unknown = id.epoch > own.epoch;
                    if unknown {
                        later = later.max(Some(id.epoch));
                        if m.state() == State::Alive && !id.left() && id.address() != own.address() {
                            self.done.twin = Some(id.address());
                        }
                    }
                    !unknown
                } else {
                    let known = !stranger(id);
                    self.done.strangers |= !known;
                    known
                };
                all &= keep;
                keep
            });
        }
        let sifted;
        let data = if all {
            data
        } else {
            sifted = packet.bytes();
            &sifted
        };
        // What foca refuses is not for us, or forged.
        let _ = self.foca.handle_data(data, &mut self.done);
        if let Some(epoch) = later {
            let id = own.after(epoch, 0);
            let _ = self.foca.change_identity(id, &mut self.done);
        }
        self.outlive(now);
    }

    /// A timer is due, since `due`.
    pub(super) fn timer(&mut self, now: Duration, due: Duration, timer: Timer) {
        if now >= due + FROZEN && matches!(timer, foca::Timer::ChangeSuspectToDown { .. }) {
            self.done.timers.push((FROZEN, timer));
            return;
        }
        // foca 2.0.0 tells a host that it is dead when its time is up even if it has objected by then, and the
        // host would take a new identity for nothing. So only suspicions that still stand get that far.
        if let foca::Timer::ChangeSuspectToDown {
            member_id,
            incarnation,
            ..
        } = &timer
        {
            let stands = |m: &Member<Id>| m.incarnation() == *incarnation && m.state() == State::Suspect;
            let mut all = self.foca.iter_membership_state();
            if !all.any(|m| m.id() == member_id && stands(m)) {
                return;
            }
        }
        let _ = self.foca.handle_timer(timer, &mut self.done);
        self.outlive(now);
    }

    /// After we were declared dead twice in a row: a great leap.
    fn outlive(&mut self, now: Duration) {
        if !std::mem::take(&mut self.done.rejoined) {
            return;
        }
        if self.rejoined.replace(now).is_some_and(|t| now < t + AGAIN) {
            self.strides = (self.strides + 3).min(STRIDE_MAX);
            let own = *self.own();
            let leap = own.after(own.epoch, 1 << self.strides);
            // Not past what others take for possible.
            let id = if leap.epoch < self.limit(now).saturating_sub(AHEAD / 2) {
                leap
            } else {
                own.after(own.epoch, 0)
            };
            let _ = self.foca.change_identity(id, &mut self.done);
        } else {
            self.strides = 0;
        }
        self.done.rejoined = true;
    }

    /// Makes ourselves known to a host, whatever its epoch.
    pub(super) fn announce(&mut self, host: u64, address: SocketAddr) {
        let _ = self.foca.announce(Id::new(host, 0, address), &mut self.done);
    }

    /// We are somewhere else now.
    pub(super) fn moved(&mut self, address: SocketAddr) {
        let own = *self.own();
        if own.address() != address {
            let id = Id::new(own.host, own.after(own.epoch, 0).epoch, address);
            let _ = self.foca.change_identity(id, &mut self.done);
        }
    }

    /// A host said goodbye to us: tell everybody.
    pub(super) fn left(&mut self, id: Id) {
        self.declare(id.farewell(), true);
    }

    /// A host is no member any more: others know that from elsewhere.
    pub(super) fn forget(&mut self, id: Id) {
        self.declare(id, false);
    }

    fn declare(&mut self, id: Id, tell: bool) {
        let _ = self
            .foca
            .apply_many(std::iter::once(Member::down(id)), tell, &mut self.done);
    }

    /// Goodbye, to at most `most` of those that are alive.
    pub(super) fn leave(&mut self, most: usize, rng: &mut Rng) {
        let src = self.own().farewell();
        let mut all: Vec<Id> = self.foca.iter_members().map(|m| *m.id()).collect();
        while all.len() > most {
            all.swap_remove(rng.below(all.len()));
        }
        for dst in all {
            let header = Header {
                src,
                src_incarnation: 0,
                dst,
                message: Message::Gossip,
            };
            let members = Some(vec![Member::new(src, 0, State::Down)]);
            self.done.sends.push((dst, Packet { header, members }.bytes()));
        }
    }

    /// What there is to do. Of several verdicts on one identity the last one counts.
    pub(super) fn take(&mut self) -> Done {
        let mut done = std::mem::take(&mut self.done);
        let own = self.own().host;
        let applied = std::mem::take(&mut *self.applied.lock().unwrap_or_else(PoisonError::into_inner));
        let mut last = BTreeMap::new();
        for (i, c) in applied.iter().enumerate().filter(|(_, c)| c.id.host != own) {
            last.insert(c.id.host, i);
        }
        let mut kept: Vec<usize> = last.into_values().collect();
        kept.sort_unstable();
        done.changes = kept.into_iter().filter_map(|i| applied.get(i).copied()).collect();
        done
    }
}

/// An address of the engine as an address; one that is none is nowhere.
pub(super) fn address(text: &str) -> SocketAddr {
    text.parse()
        .unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0))
}
