//! The key ring: which shared keys are taken, and which one is used for sending. A new key is taken at once,
//! used a little later, when the others have it, and the one before it is taken a while longer: so a rotation
//! interrupts nothing. Knows keys and time as it is told; no sockets, no signatures.

use super::window::Senders;
use libqueue::seal::{Head, SenderKey, SharedKey};
use std::time::{Duration, Instant};

/// A new key is used for sending after this time.
const SPREAD: Duration = Duration::from_secs(3);
/// The key before the newest is still taken for so long,
const KEPT: Duration = Duration::from_secs(60);
/// and only for so long if a host was removed: it knows that key.
const KEPT_REMOVED: Duration = Duration::from_secs(10);
/// Keys at once, for rotations that follow each other quickly.
const KEYS: usize = 4;

/// Who seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Own {
    /// This host's number.
    pub host: u64,
    /// Which run of this daemon.
    pub boot: u64,
}

/// One key.
#[derive(Debug)]
struct Slot {
    version: u64,
    shared: SharedKey,
    /// When it may be used for sending: others have it by then.
    spread: Instant,
    /// When it goes; `None`: it is the newest one.
    until: Option<Instant>,
    /// What this host seals with.
    own: Option<(Own, SenderKey)>,
    /// Of each key, so that nothing that was sealed with an earlier one can do harm under a later one.
    senders: Senders,
}

/// All keys that are in use, the newest first.
#[derive(Debug, Default)]
pub(super) struct Ring {
    slots: Vec<Slot>,
    removed: Option<Instant>,
}

/// What became of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened<'a> {
    /// Who says it is from, and what it says.
    Payload(Head, &'a [u8]),
    /// Not ours, damaged, or a replay.
    Refused,
    /// Sealed with a key that this host does not have (any more, or yet).
    OtherKey,
}

impl Ring {
    /// Takes a key in; one that is not newer than all others is known already.
    pub(super) fn adopt(&mut self, now: Instant, version: u64, key: &[u8; 32]) {
        if self.slots.first().is_some_and(|s| s.version >= version) {
            return;
        }
        if let Some(before) = self.slots.first_mut() {
            before.until = Some(now + KEPT);
        }
        let slot = Slot {
            version,
            shared: SharedKey::new(key),
            spread: now + SPREAD,
            until: None,
            own: None,
            senders: Senders::default(),
        };
        self.slots.insert(0, slot);
        self.slots.truncate(KEYS);
        if self.removed.is_some_and(|at| now < at + KEPT) {
            self.hurry(now);
        }
    }

    /// A host was removed from the cluster: the keys that it knows go sooner.
    pub(super) fn removed(&mut self, now: Instant) {
        self.removed = Some(now);
        self.hurry(now);
    }

    /// Takes any datagram of this host for new, once.
    pub(super) fn forget(&mut self, host: u64) {
        for slot in &mut self.slots {
            slot.senders.forget(host);
        }
    }

    fn hurry(&mut self, now: Instant) {
        for until in self.slots.iter_mut().filter_map(|s| s.until.as_mut()) {
            *until = (*until).min(now + KEPT_REMOVED);
        }
    }

    /// Lets go of what is over.
    fn expire(&mut self, now: Instant) {
        self.slots.retain(|s| s.until.is_none_or(|t| now < t));
    }

    /// Whether there is no key at all.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Seals a payload; `false`: there is no key, or the payload is too long.
    pub(super) fn seal(
        &mut self,
        now: Instant,
        own: Own,
        counter: u64,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> bool {
        self.expire(now);
        // The newest that all others have by now. Where every one is fresh, the oldest.
        let last = self.slots.len().saturating_sub(1);
        let spread = self.slots.iter().position(|s| now >= s.spread);
        let Some(slot) = self.slots.get_mut(spread.unwrap_or(last)) else {
            return false;
        };
        let head = Head {
            key: slot.shared.id(),
            host: own.host,
            boot: own.boot,
            counter,
        };
        if slot.own.as_ref().is_none_or(|(o, _)| *o != own) {
            slot.own = Some((own, slot.shared.sender(own.host, own.boot)));
        }
        slot.own
            .as_ref()
            .is_some_and(|(_, key)| key.seal(&head, payload, out))
    }

    /// Opens a datagram in place.
    pub(super) fn open<'a>(&mut self, now: Instant, datagram: &'a mut [u8]) -> Opened<'a> {
        let Some(head) = Head::parse(datagram) else {
            return Opened::Refused;
        };
        self.expire(now);
        let Some(slot) = self.slots.iter_mut().find(|s| s.shared.id() == head.key) else {
            return Opened::OtherKey;
        };
        let Some(payload) = slot.senders.open(&slot.shared, &head, datagram) else {
            return Opened::Refused;
        };
        // Whoever sends with it knows that the others have it: a host that was away goes over to it at once.
        slot.spread = slot.spread.min(now);
        Opened::Payload(head, payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Own = Own { host: 1, boot: 5 };

    fn send(ring: &mut Ring, now: Instant, counter: u64) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(ring.seal(now, OWN, counter, b"hello", &mut out));
        out
    }

    fn hears(ring: &mut Ring, now: Instant, datagram: &[u8]) -> bool {
        matches!(ring.open(now, &mut datagram.to_vec()), Opened::Payload(h, b"hello") if h.host == 1)
    }

    #[test]
    fn a_rotation_interrupts_nothing() {
        let t = Instant::now();
        let s = Duration::from_secs;
        let (mut a, mut b) = (Ring::default(), Ring::default());
        assert!(a.is_empty() && !a.seal(t, OWN, 1, b"x", &mut Vec::new()));
        a.adopt(t, 1, &[1; 32]);
        b.adopt(t, 1, &[1; 32]);
        let first = send(&mut a, t, 1);
        assert!(hears(&mut b, t, &first), "the only key is used at once");
        // One has the new key a second before the other: both hear each other all the time.
        a.adopt(t + s(10), 2, &[2; 32]);
        let d = send(&mut a, t + s(10), 2);
        assert!(hears(&mut b, t + s(10), &d));
        b.adopt(t + s(11), 2, &[2; 32]);
        let d = send(&mut a, t + s(13), 3);
        assert_ne!(d[1..5], first[1..5], "the new key");
        assert!(hears(&mut b, t + s(13), &d));
        // A latecomer's datagrams are heard for a minute, replays of that time are not.
        let mut late = Ring::default();
        late.adopt(t, 1, &[1; 32]);
        let d = send(&mut late, t + s(69), 4);
        assert!(hears(&mut b, t + s(70), &d) && !hears(&mut b, t + s(70), &d));
        let d = send(&mut late, t + s(71), 5);
        assert_eq!(b.open(t + s(72), &mut d.clone()), Opened::OtherKey);
        // Old news and known news change nothing.
        b.adopt(t + s(80), 1, &[1; 32]);
        b.adopt(t + s(80), 2, &[9; 32]);
        assert_eq!(b.slots.len(), 1);
    }

    #[test]
    fn after_a_removal_the_old_key_goes_sooner_whatever_comes_first() {
        let t = Instant::now();
        let s = Duration::from_secs;
        for list_first in [true, false] {
            let mut gone = Ring::default();
            gone.adopt(t, 1, &[1; 32]);
            let mut ring = Ring::default();
            ring.adopt(t, 1, &[1; 32]);
            if list_first {
                ring.removed(t + s(20));
            }
            ring.adopt(t + s(21), 2, &[2; 32]);
            if !list_first {
                ring.removed(t + s(21));
            }
            let (d, e) = (
                send(&mut gone, t + s(30), 7),
                send(&mut ring.clone_keys(), t + s(32), 1),
            );
            assert!(hears(&mut ring, t + s(30), &d));
            let d = send(&mut gone, t + s(31), 8);
            assert_eq!(ring.open(t + s(32), &mut d.clone()), Opened::OtherKey);
            assert_eq!(
                gone.open(t + s(32), &mut e.clone()),
                Opened::OtherKey,
                "nor does it read"
            );
        }
    }

    impl Ring {
        /// Another host with the same keys.
        fn clone_keys(&self) -> Self {
            let mut r = Self::default();
            for s in self.slots.iter().rev() {
                r.adopt(s.spread - SPREAD, s.version, &[s.version as u8; 32]);
            }
            r
        }
    }

    #[test]
    fn whoever_was_away_goes_over_to_the_others_key_at_once() {
        let t = Instant::now();
        let s = Duration::from_secs;
        let mut a = Ring::default();
        a.adopt(t, 1, &[1; 32]);
        a.adopt(t, 2, &[2; 32]);
        // It comes back with the old key, gets the new one, and nobody takes the old one any more.
        let mut b = Ring::default();
        b.adopt(t + s(100), 1, &[1; 32]);
        b.adopt(t + s(100), 2, &[2; 32]);
        let d = send(&mut b, t + s(100), 1);
        assert_eq!(a.open(t + s(100), &mut d.clone()), Opened::OtherKey);
        let d = send(&mut a, t + s(100), 1);
        assert!(hears(&mut b, t + s(100), &d));
        let d = send(&mut b, t + s(100), 2);
        assert!(hears(&mut a, t + s(100), &d));
    }

    #[test]
    fn quick_rotations_keep_what_others_still_send_with() {
        let t = Instant::now();
        let (mut a, mut b) = (Ring::default(), Ring::default());
        for r in [&mut a, &mut b] {
            r.adopt(t, 1, &[1; 32]);
        }
        let later = t + Duration::from_secs(20);
        for v in 2..=3 {
            b.adopt(later, v, &[v as u8; 32]);
        }
        let d = send(&mut a, later, 1);
        assert!(hears(&mut b, later, &d));
        let d = send(&mut b, later, 1);
        assert!(hears(&mut a, later, &d), "not yet with the new one");
        for v in 4..=9 {
            b.adopt(later, v, &[v as u8; 32]);
        }
        assert_eq!(b.slots.len(), KEYS);
    }

    #[test]
    fn no_nonce_is_used_twice_with_a_key() {
        let t = Instant::now();
        let mut ring = Ring::default();
        let mut seen = std::collections::BTreeSet::new();
        let mut counter = 0;
        for (version, host) in [(1, 1), (2, 1), (2, 9), (3, 9), (3, 1)] {
            let now = t + Duration::from_secs(20 * version);
            ring.adopt(now, version, &[version as u8; 32]);
            for second in 0..6 {
                counter += 1;
                let mut out = Vec::new();
                let own = Own { host, boot: 5 };
                assert!(ring.seal(now + Duration::from_secs(second), own, counter, b"x", &mut out));
                let h = Head::parse(&out).unwrap();
                assert!(seen.insert((h.key, h.host, h.boot, h.counter)), "{h:?}");
            }
        }
    }

    #[test]
    fn who_was_spoken_for_with_the_last_numbers_is_heard_again() {
        let t = Instant::now();
        let (mut liar, mut meant, mut b) = (Ring::default(), Ring::default(), Ring::default());
        for r in [&mut liar, &mut meant, &mut b] {
            r.adopt(t, 1, &[1; 32]);
        }
        for (boot, counter) in [(OWN.boot, u64::MAX), (u64::MAX - 1, 1), (u64::MAX, 1)] {
            let mut out = Vec::new();
            assert!(liar.seal(t, Own { boot, ..OWN }, counter, b"hello", &mut out));
            assert!(hears(&mut b, t, &out));
        }
        let d = send(&mut meant, t, 7);
        assert!(!hears(&mut b, t, &d));
        b.forget(OWN.host);
        assert!(hears(&mut b, t, &d) && !hears(&mut b, t, &d));
    }
}
