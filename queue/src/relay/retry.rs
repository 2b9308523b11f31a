//! When to try to connect again. Pure: moments in, moments out.
//!
//! Attempts follow each other quickly, since a host that comes back should be found at once, and each is given
//! time, since the way may be long: so several may be under way. Where somebody listens and says no, there is no
//! such hurry.

use std::time::{Duration, Instant};

/// The first pause, the longest one while nothing answers, and the longest one while somebody says no.
const PAUSE: [Duration; 3] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_secs(1),
];
/// How long to leave an attempt alone that somebody has accepted.
const ACCEPTED: Duration = Duration::from_secs(1);
/// How many attempts may be under way.
pub(super) const MOST: usize = 6;
/// How long an accepted attempt may take: that host may have much to do.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The pauses between attempts.
#[derive(Debug)]
pub(super) struct Retry {
    pause: Duration,
    due: Instant,
    refused: bool,
}

impl Retry {
    /// The first one is due now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            pause: PAUSE[0],
            due: now,
            refused: false,
        }
    }

    /// When the next one is due.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// One was begun; `round_trip`: the way there and back, if it is known.
    pub(super) fn begun(&mut self, now: Instant, round_trip: Option<Duration>) {
        // A long way: or all that may be under way would be given up before one of them could arrive.
        let way = round_trip.unwrap_or_default() * 4 / MOST as u32;
        if !self.refused {
            self.pause = self.pause.min(PAUSE[1]);
        }
        self.refused = false;
        self.due = now + self.pause.max(way);
        self.pause = (self.pause * 2).min(PAUSE[1].max(self.pause));
    }

    /// Somebody accepted one.
    pub(super) fn accepted(&mut self, now: Instant) {
        self.due = self.due.max(now + ACCEPTED);
    }

    /// One that was accepted came to nothing: no need to wait for it.
    pub(super) fn broken(&mut self, now: Instant) {
        self.due = self.due.min(now + self.pause);
    }

    /// Somebody said no.
    pub(super) fn refused(&mut self, now: Instant) {
        self.refused = true;
        self.pause = (self.pause * 2).min(PAUSE[2]);
        self.due = now + self.pause;
    }

    /// Something has changed: at once.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.pause = PAUSE[0];
        self.due = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn silence_is_asked_often() {
        let start = Instant::now();
        let mut r = Retry::new(start);
        let mut at = Vec::new();
        for _ in 0..6 {
            at.push((r.due() - start).as_millis());
            r.begun(r.due(), Some(ms(1)));
        }
        assert_eq!(at, [0, 50, 150, 350, 550, 750]);
    }

    #[test]
    fn a_long_way_is_given_time() {
        let now = Instant::now();
        let mut r = Retry::new(now);
        r.begun(now, Some(ms(900)));
        // Six of them are under way when the first one is given up: four round trips.
        assert_eq!(r.due() - now, ms(600));
        let mut unknown = Retry::new(now);
        unknown.begun(now, None);
        assert_eq!(unknown.due() - now, ms(50));
    }

    #[test]
    fn who_says_no_is_asked_less_often() {
        let mut now = Instant::now();
        let mut r = Retry::new(now);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            r.begun(now, None);
            r.refused(now);
            pauses.push((r.due() - now).as_millis());
            now = r.due();
        }
        assert_eq!(pauses, [200, 400, 800, 1000, 1000, 1000, 1000]);
        // Then it is silent: the host has gone.
        r.begun(now, None);
        now = r.due();
        r.begun(now, None);
        assert_eq!((r.due() - now).as_millis(), 200);
        // It has another address.
        r.hurry(now);
        assert_eq!(r.due(), now);
    }

    #[test]
    fn who_listens_is_given_time() {
        let now = Instant::now();
        let mut r = Retry::new(now);
        r.begun(now, None);
        r.accepted(now);
        assert_eq!(r.due() - now, ms(1000));
        r.broken(now + ms(10));
        assert!(r.due() - now <= ms(210), "{:?}", r.due() - now);
    }
}
