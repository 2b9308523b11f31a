//! The limits of a job: its time, with a warning before, and its lease. Knows clocks; not what is done about it.

use nix::sys::time::TimeSpec;
use nix::sys::timer::TimerSetTimeFlags;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

/// Time limit of a run.
#[derive(Debug)]
pub(crate) struct Time {
    started: Instant,
    limit: Option<Duration>,
    warning: Option<(i32, Duration)>,
    /// Since when it is suspended, and how long it was before.
    suspended: Option<Instant>,
    slept: Duration,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Send this signal.
    Warning(i32),
    /// The time is over: it ran so long of so long.
    Over(Duration, Duration),
    /// Nothing.
    Nothing,
}

impl Time {
    /// Counts from now; zero: no limit, no warning.
    pub(crate) fn start(now: Instant, limit_ms: u64, signal: u32, before_ms: u64) -> Self {
        let limit = (limit_ms > 0).then(|| Duration::from_millis(limit_ms));
        let signal = i32::try_from(signal).ok().filter(|s| (1..=64).contains(s));
        let before = Duration::from_millis(before_ms);
        Self {
            started: now,
            limit,
            warning: signal
                .zip(limit)
                .map(|(s, limit)| (s, limit.saturating_sub(before))),
            suspended: None,
            slept: Duration::ZERO,
        }
    }

    fn ran(&self, now: Instant) -> Duration {
        let until = self.suspended.unwrap_or(now);
        until
            .saturating_duration_since(self.started)
            .saturating_sub(self.slept)
    }

    /// It was suspended from outside, or goes on: meanwhile its time does not run.
    pub(crate) fn suspend(&mut self, now: Instant, suspended: bool) {
        match (suspended, self.suspended) {
            (true, None) => self.suspended = Some(now),
            (false, Some(since)) => {
                self.slept += now.saturating_duration_since(since);
                self.suspended = None;
            }
            _ => {}
        }
    }

    /// When something is due next.
    pub(crate) fn next(&self) -> Option<Instant> {
        let after = self.warning.map_or(self.limit, |w| Some(w.1))?;
        self.suspended
            .is_none()
            .then(|| self.started + self.slept + after)
    }

    /// What is due now; each once.
    pub(crate) fn due(&mut self, now: Instant) -> Due {
        let ran = self.ran(now);
        if let Some(limit) = self.limit.filter(|l| ran >= *l) {
            self.limit = None;
            self.warning = None;
            return Due::Over(ran, limit);
        }
        match self.warning.filter(|w| ran >= w.1) {
            Some((signal, _)) => {
                self.warning = None;
                Due::Warning(signal)
            }
            None => Due::Nothing,
        }
    }
}

/// Milliseconds of `CLOCK_BOOTTIME`: they go on while the machine sleeps.
pub(crate) fn boot_ms() -> u64 {
    let t =
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap_or_else(|_| TimeSpec::new(0, 0));
    t.tv_sec() as u64 * 1000 + t.tv_nsec() as u64 / 1_000_000
}

/// A lease: who holds it must be gone at its end, also when the machine slept meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    end: u64,
    timer: Option<TimerFd>,
}

impl Lease {
    /// Sets its end; 0: there is none.
    pub(crate) fn set(&mut self, end: u64) -> io::Result<()> {
        if end == 0 && self.end == 0 {
            return Ok(());
        }
        self.end = end;
        let timer = match &self.timer {
            Some(t) => t,
            None => {
                let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
                self.timer.insert(TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?)
            }
        };
        if end == 0 {
            timer.unset()?;
        } else {
            let at = Expiration::OneShot(TimeSpec::from_duration(Duration::from_millis(end)));
            timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        }
        Ok(())
    }

    /// For the poll, while there is one.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.timer.as_ref().filter(|_| self.end > 0).map(|t| t.as_fd())
    }

    /// Whether it is over.
    pub(crate) fn is_over(&self) -> bool {
        self.end > 0 && boot_ms() >= self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_warned_of_and_stands_still_while_suspended() {
        let t0 = Instant::now();
        let at = |s: u64| t0 + Duration::from_secs(s);
        let mut t = Time::start(t0, 60_000, 10, 20_000);
        assert_eq!(t.next(), Some(at(40)));
        assert_eq!(t.due(at(39)), Due::Nothing);
        t.suspend(at(39), true);
        assert_eq!((t.next(), t.due(at(100))), (None, Due::Nothing));
        t.suspend(at(139), false);
        assert_eq!(t.next(), Some(at(140)));
        assert_eq!(t.due(at(140)), Due::Warning(10));
        assert_eq!((t.next(), t.due(at(159))), (Some(at(160)), Due::Nothing));
        let minute = Duration::from_secs(60);
        assert_eq!(t.due(at(160)), Due::Over(minute, minute));
        assert_eq!((t.next(), t.due(at(300))), (None, Due::Nothing));
        let mut none = Time::start(t0, 0, 10, 5);
        assert_eq!((none.next(), none.due(at(1 << 20))), (None, Due::Nothing));
        // A warning longer before than the job may run comes at once.
        assert_eq!(Time::start(t0, 1000, 10, 5000).due(t0), Due::Warning(10));
    }

    #[test]
    fn a_lease_ends_by_the_clock_that_never_stops() {
        let mut l = Lease::default();
        l.set(0).unwrap();
        assert!(l.fd().is_none() && !l.is_over());
        l.set(boot_ms() + 3_600_000).unwrap();
        assert!(l.fd().is_some() && !l.is_over());
        l.set(boot_ms()).unwrap();
        assert!(l.is_over());
        l.set(0).unwrap();
        assert!(l.fd().is_none() && !l.is_over());
    }
}
