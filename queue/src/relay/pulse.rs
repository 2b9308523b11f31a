//! Whether the session itself still answers where its host's kernel does: a machine may be frozen, stopped in a debugger,
//! or so short of memory that nothing runs. Asked only after something was said that nothing followed, so that an idle
//! session costs nothing. Pure: times and counts.

use std::time::{Duration, Instant};

/// What was said is followed by something after so long, or the session is asked.
const PATIENCE: Duration = Duration::from_secs(1);
/// An answer that takes longer is told to the user.
const FROZEN: Duration = Duration::from_secs(2);

/// If more time than this has passed between two looks while an answer is awaited, we did not run, and it may lie here.
const ASLEEP: Duration = Duration::from_millis(1500);

/// What is known of the session's pulse.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// It has answered before: older ones do not.
    known: bool,
    /// Whether it ever will was asked.
    tried: bool,
    /// How much had come when something came last.
    received: u64,
    /// Something was said then, and nothing has come since.
    said: Option<Instant>,
    /// It was asked then, and nothing has come since.
    asked: Option<Instant>,
    /// When it was looked at last.
    felt: Option<Instant>,
    /// The user was told.
    frozen: bool,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Nothing.
    None,
    /// Ask it.
    Ask,
    /// Tell the user that it does not answer.
    Frozen,
}

impl Pulse {
    /// Something was said to it.
    pub(super) fn said(&mut self, now: Instant) {
        self.said.get_or_insert(now);
    }

    /// It was asked.
    pub(super) fn asked(&mut self, now: Instant) {
        self.tried = true;
        self.asked = Some(now);
    }

    /// It has answered.
    pub(super) fn is_known(&mut self) {
        self.known = true;
    }

    /// So much has come by now. Whether it was frozen and is no longer.
    pub(super) fn heard(&mut self, received: u64) -> bool {
        if std::mem::replace(&mut self.received, received) == received {
            return false;
        }
        (self.said, self.asked) = (None, None);
        std::mem::take(&mut self.frozen)
    }

    /// Whether the user was told that it does not answer.
    pub(super) fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Whether to look again soon.
    pub(super) fn is_waiting(&self) -> bool {
        self.known && !self.frozen && (self.said.is_some() || self.asked.is_some())
    }

    /// What is to be done now. `arrived`: all that was said is known to have arrived there, so that nothing but the
    /// session itself is waited for.
    pub(super) fn feel(&mut self, now: Instant, arrived: bool) -> Beat {
        let before = self.felt.replace(now);
        if self.asked.is_some() && (!arrived || before.is_some_and(|t| now > t + ASLEEP)) {
            self.asked = Some(now);
        }
        let since = |t: Option<Instant>, d: Duration| t.is_some_and(|t| now >= t + d);
        if !self.tried {
            return Beat::Ask;
        }
        if !self.known || self.frozen {
            return Beat::None;
        }
        if since(self.asked, FROZEN) {
            self.frozen = true;
            return Beat::Frozen;
        }
        if self.asked.is_none() && since(self.said, PATIENCE) {
            return Beat::Ask;
        }
        Beat::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(t: Instant) -> Pulse {
        let mut p = Pulse::default();
        assert_eq!(
            p.feel(t, true),
            Beat::Ask,
            "once, to know whether it answers at all"
        );
        p.asked(t);
        p.is_known();
        assert!(!p.heard(10));
        p
    }

    #[test]
    fn one_that_answers_is_asked_only_after_something_was_said() {
        let t = Instant::now();
        let at = |s: u64| t + Duration::from_secs(s);
        let mut p = known(t);
        assert_eq!((p.feel(at(100), true), p.is_waiting()), (Beat::None, false));
        p.said(at(100));
        assert_eq!((p.feel(at(100), true), p.is_waiting()), (Beat::None, true));
        assert!(!p.heard(11));
        assert_eq!(p.feel(at(102), true), Beat::None, "something came");
        p.said(at(102));
        assert_eq!(p.feel(at(103), true), Beat::Ask);
        p.asked(at(103));
        assert_eq!(p.feel(at(104), true), Beat::None);
        assert!(!p.heard(12));
        assert_eq!(p.feel(at(106), true), Beat::None);
    }

    #[test]
    fn one_that_does_not_is_told_once_and_its_return() {
        let t = Instant::now();
        let at = |s: u64| t + Duration::from_secs(s);
        let mut p = known(t);
        p.said(t);
        assert_eq!(p.feel(at(1), true), Beat::Ask);
        p.asked(at(1));
        assert_eq!(p.feel(at(2), true), Beat::None);
        assert_eq!(p.feel(at(3), true), Beat::Frozen);
        assert!(p.is_frozen() && !p.is_waiting());
        p.said(at(4));
        assert_eq!(p.feel(at(9), true), Beat::None);
        assert!(!p.heard(10), "nothing new");
        assert!(p.heard(11) && !p.is_frozen());
    }

    #[test]
    fn time_in_which_no_answer_can_have_been_heard_does_not_count() {
        let t = Instant::now();
        let at = |s: u64| t + Duration::from_secs(s);
        let mut p = known(t);
        p.said(t);
        assert_eq!(p.feel(at(1), true), Beat::Ask);
        p.asked(at(1));
        assert_eq!(p.feel(at(600), true), Beat::None, "we were stopped");
        // A slow line: the question itself is still on its way.
        for s in 601..660 {
            assert_eq!(p.feel(at(s), false), Beat::None);
        }
        assert_eq!(p.feel(at(660), true), Beat::None);
        assert_eq!(p.feel(at(661), true), Beat::Frozen);
    }

    #[test]
    fn an_older_one_is_never_taken_for_frozen() {
        let t = Instant::now();
        let mut p = Pulse::default();
        p.asked(t);
        for s in 1..100 {
            p.said(t);
            assert_eq!(p.feel(t + Duration::from_secs(s), true), Beat::None);
        }
    }
}
