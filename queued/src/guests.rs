//! Places for connections that have proved nothing yet. Strangers and those who come from an address that is known
//! have rooms of their own, so that a crowd of the former takes nothing from the latter. In a room that is full,
//! the oldest connection of the address with the most gives way: whoever means it proves himself within
//! milliseconds. Knows addresses and counts; reads nothing and decides nothing about members.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore};

/// Strangers at the same time, in all and of one address. Each may cost some 100 KiB (TLS keeps a handshake message
/// of up to 64 KiB), so this bounds what they can make us remember.
const STRANGERS: Limits = Limits {
    all: 512,
    each: 128,
    busy: 64,
};
/// The same for known addresses: `make -j` on many hosts at once comes in one burst.
const KNOWN: Limits = Limits {
    all: 2048,
    each: 512,
    busy: 1024,
};
/// An address from which somebody proved himself is known for so long after.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// So many such addresses are remembered.
const ADDRESSES: usize = 4096;

#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Places.
    all: usize,
    /// Places of one address.
    each: usize,
    /// Questions to queue-exec at the same time.
    busy: usize,
}

/// All who have proved nothing yet.
#[derive(Debug)]
pub(crate) struct Guests {
    state: Mutex<State>,
    busy: [Arc<Semaphore>; 2],
}

#[derive(Debug, Default)]
struct State {
    rooms: [Room; 2],
    next: u64,
    /// Where members are, and this host itself.
    members: BTreeSet<IpAddr>,
    /// Where somebody proved himself, and when.
    proven: BTreeMap<IpAddr, Instant>,
}

#[derive(Debug, Default)]
struct Room {
    places: BTreeMap<u64, Arc<Notify>>,
    /// Who has which; numbers rise with time.
    each: BTreeMap<IpAddr, BTreeSet<u64>>,
}

/// One place; free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    all: Arc<Guests>,
    ip: IpAddr,
    room: usize,
    number: u64,
}

impl Guests {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            busy: [STRANGERS, KNOWN].map(|l| Arc::new(Semaphore::new(l.busy))),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where members are.
    pub(crate) fn members(&self, all: impl Iterator<Item = IpAddr>) {
        self.state().members = all.collect();
    }

    /// A connection from there, and how it learns that it has to go. There is always room for the newcomer.
    pub(crate) fn enter(self: &Arc<Self>, ip: IpAddr, now: Instant) -> (Guest, Arc<Notify>) {
        let mut state = self.state();
        let room = usize::from(state.knows(ip, now));
        let limits = if room == 0 { STRANGERS } else { KNOWN };
        let number = state.next;
        state.next += 1;
        let ip = one(ip);
        let leave = Arc::new(Notify::new());
        state.rooms[room].make_room(ip, limits);
        state.rooms[room].places.insert(number, leave.clone());
        state.rooms[room].each.entry(ip).or_default().insert(number);
        let guest = Guest {
            all: self.clone(),
            ip,
            room,
            number,
        };
        (guest, leave)
    }
}

impl State {
    fn knows(&self, ip: IpAddr, now: Instant) -> bool {
        ip.is_loopback()
            || self.members.contains(&ip)
            || self
                .proven
                .get(&one(ip))
                .is_some_and(|at| now.saturating_duration_since(*at) < REMEMBERED)
    }

    fn remember(&mut self, ip: IpAddr, now: Instant) {
        if self.proven.len() >= ADDRESSES && !self.proven.contains_key(&ip) {
            let oldest = self.proven.iter().min_by_key(|(_, at)| **at).map(|(ip, _)| *ip);
            oldest.map(|ip| self.proven.remove(&ip));
        }
        self.proven.insert(ip, now);
    }
}

/// Whom an address counts for: whoever has an IPv6 address has a network of them.
fn one(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(ip) if !ip.is_loopback() => {
            let bits = ip.to_bits() & !u128::from(u64::MAX);
            Ipv6Addr::from_bits(bits).into()
        }
        ip => ip,
    }
}

impl Room {
    /// Makes a place free for somebody from there.
    fn make_room(&mut self, ip: IpAddr, limits: Limits) {
        let own = self.each.get(&ip).map_or(0, BTreeSet::len);
        let from = if own >= limits.each {
            Some(ip)
        } else if self.places.len() >= limits.all {
            self.each.iter().max_by_key(|(_, n)| n.len()).map(|(ip, _)| *ip)
        } else {
            None
        };
        let oldest = from.and_then(|ip| Some((ip, *self.each.get(&ip)?.first()?)));
        if let Some((ip, number)) = oldest
            && let Some(leave) = self.free(ip, number)
        {
            leave.notify_one();
        }
    }

    fn free(&mut self, ip: IpAddr, number: u64) -> Option<Arc<Notify>> {
        if let Some(all) = self.each.get_mut(&ip) {
            all.remove(&number);
            if all.is_empty() {
                self.each.remove(&ip);
            }
        }
        self.places.remove(&number)
    }
}

impl Guest {
    /// Whether it comes from a known address.
    pub(crate) fn is_known(&self) -> bool {
        self.room == 1
    }

    /// Its turn to have queue-exec asked something that must not be broken off.
    pub(crate) fn turns(&self) -> Arc<Semaphore> {
        self.all.busy[self.room].clone()
    }

    /// It needs its place no longer; `false`: somebody else has it, and it has to go.
    pub(crate) fn leave(self) -> bool {
        self.all.state().rooms[self.room]
            .free(self.ip, self.number)
            .is_some()
    }

    /// It has proved who it is: as [`Guest::leave`], and its address is known from now on.
    pub(crate) fn proved(self) {
        self.all.state().remember(self.ip, Instant::now());
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.all.state().rooms[self.room].free(self.ip, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: usize) -> IpAddr {
        let [_, _, a, b] = (n as u32).to_be_bytes();
        [10, 0, a, b].into()
    }

    /// Whether it was told to go.
    fn is_out(guest: &Guest) -> bool {
        let state = guest.all.state();
        !state.rooms[guest.room].places.contains_key(&guest.number)
    }

    #[test]
    fn who_has_the_most_gives_way_and_the_others_stay() {
        let all = Guests::new();
        let now = Instant::now();
        let (joiner, _told) = all.enter(ip(1), now);
        let crowd: Vec<_> = (0..10_000).map(|i| all.enter(ip(100 + i % 50), now)).collect();
        assert!(!is_out(&joiner));
        assert!(!is_out(&crowd[9_999].0) && is_out(&crowd[0].0));
        let inside = crowd.iter().filter(|(g, _)| !is_out(g)).count();
        assert_eq!(inside, STRANGERS.all - 1);
        drop(crowd);
        assert!(joiner.leave());
        let state = all.state();
        assert!(state.rooms[0].places.is_empty() && state.rooms[0].each.is_empty());
    }

    #[test]
    fn one_address_has_its_share_only() {
        let all = Guests::new();
        let now = Instant::now();
        let first = all.enter(ip(1), now).0;
        let more: Vec<_> = (1..STRANGERS.each).map(|_| all.enter(ip(1), now)).collect();
        assert!(!is_out(&first));
        let last = all.enter(ip(1), now).0;
        assert!(is_out(&first) && more.iter().all(|(g, _)| !is_out(g)));
        assert!(!first.leave() && last.leave());
    }

    #[tokio::test]
    async fn whoever_has_to_go_is_told() {
        let all = Guests::new();
        let now = Instant::now();
        let (_first, told) = all.enter(ip(1), now);
        let _rest: Vec<_> = (0..STRANGERS.each).map(|_| all.enter(ip(1), now)).collect();
        told.notified().await;
    }

    #[test]
    fn members_and_who_proved_himself_have_a_room_of_their_own() {
        let all = Guests::new();
        let now = Instant::now();
        all.members([ip(1)].into_iter());
        let member = all.enter(ip(1), now).0;
        assert!(member.is_known() && all.enter([127, 0, 0, 1].into(), now).0.is_known());
        let stranger = all.enter(ip(2), now).0;
        assert!(!stranger.is_known());
        stranger.proved();
        let now = Instant::now();
        assert!(all.enter(ip(2), now).0.is_known());
        assert!(!all.enter(ip(2), now + REMEMBERED).0.is_known());
        let _crowd: Vec<_> = (0..5_000).map(|i| all.enter(ip(100 + i), now)).collect();
        assert!(!is_out(&member));
        // What is remembered is bounded.
        for i in 0..2 * ADDRESSES {
            all.enter(ip(10_000 + i), now).0.proved();
        }
        assert!(all.state().proven.len() <= ADDRESSES);
    }

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let a: IpAddr = "2001:db8::1".parse().unwrap();
        let b: IpAddr = "2001:db8::ffff:1".parse().unwrap();
        assert_eq!(one(a), one(b));
        assert_ne!(one(a), one("2001:db8:0:1::1".parse().unwrap()));
        assert_eq!(one(ip(3)), ip(3));
    }
}
