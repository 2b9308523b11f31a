//! What follows when an attempt ends: done, again, failed or buried. Knows causes and numbers, not hosts.
//!
//! A failure of its own counts against the retries that its owner asked for, with a pause that doubles. What was not
//! its fault never does: it is tried again, unless its command may have run and its owner did not say that it may
//! be run again.

use super::table::{Extra, Stage};
use crate::engine::rng::Rng;
use libqueue::wire::job::{Cause, Outcome};

/// First pause after a failure.
const PAUSE: u64 = 30_000;
/// Longest pause, before chance is added.
const PAUSE_MAX: u64 = 1_800_000;
/// Chance adds up to this.
const JITTER: usize = 30_000;
/// After more of our own failures in a row the job is buried.
const TROUBLES: u32 = 5;
/// Longest pause after a failure of our own.
const TROUBLE_MAX: u64 = 30_000;

/// What becomes of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Its stage.
    pub stage: Stage,
    /// Failures of its own.
    pub failures: u32,
    /// Failures of ours in a row.
    pub troubles: u32,
    /// [`Stage::Back`]: so long, in milliseconds.
    pub pause: u64,
}

/// What is known of the attempt besides its outcome.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Terms {
    /// It may be tried again so often.
    pub retries: u32,
    /// Its owner says that it may be run again if it was lost.
    pub restart: bool,
    /// Somebody wanted it to end.
    pub killed: bool,
    /// It was asked back.
    pub revoked: bool,
}

/// The pause before try number `failures` + 1.
pub(super) fn pause(failures: u32, rng: &mut Rng) -> u64 {
    let doubled = PAUSE << failures.saturating_sub(1).min(10);
    doubled.min(PAUSE_MAX) + rng.below(JITTER + 1) as u64
}

/// Decides.
pub(super) fn verdict(outcome: &Outcome, before: Option<&Extra>, terms: Terms, rng: &mut Rng) -> Verdict {
    let (failures, troubles) = before.map_or((0, 0), |e| (e.failures, e.troubles));
    let is = |stage| Verdict {
        stage,
        failures,
        troubles,
        pause: 0,
    };
    let cause = Cause::try_from(outcome.cause).unwrap_or(Cause::Internal);
    let well = cause == Cause::Exited && outcome.code == Some(0);
    if well {
        return Verdict {
            troubles: 0,
            ..is(Stage::Done)
        };
    }
    if terms.killed {
        return is(Stage::Killed);
    }
    let again = |troubles: u32, pause: u64| Verdict {
        stage: if pause == 0 { Stage::Again } else { Stage::Back },
        failures,
        troubles,
        pause,
    };
    let trouble = |may_run_again: bool| {
        if !may_run_again || troubles >= TROUBLES {
            return is(Stage::Buried);
        }
        again(troubles + 1, (1000u64 << troubles.min(10)).min(TROUBLE_MAX))
    };
    match cause {
        // A command that is not there will not be there in a minute.
        Cause::Exited if matches!(outcome.code, Some(126 | 127)) && terms.retries > 0 => is(Stage::Buried),
        Cause::NotFound | Cause::NotExecutable | Cause::Directory | Cause::Account | Cause::Pam => {
            is(Stage::Buried)
        }
        Cause::Killed => is(Stage::Killed),
        Cause::HostLost | Cause::Rejected | Cause::Dependency => is(Stage::Failed),
        Cause::Exited | Cause::Signal | Cause::Memory | Cause::OutOfMemory | Cause::Time | Cause::Disk => {
            let failures = failures.saturating_add(1);
            if failures <= terms.retries {
                Verdict {
                    stage: Stage::Back,
                    failures,
                    troubles: 0,
                    pause: pause(failures, rng),
                }
            } else {
                Verdict {
                    stage: if terms.retries > 0 {
                        Stage::Buried
                    } else {
                        Stage::Failed
                    },
                    failures,
                    troubles: 0,
                    pause: 0,
                }
            }
        }
        Cause::SessionLost => trouble(terms.restart),
        Cause::Internal => trouble(terms.restart || outcome.started_ms == 0),
        Cause::Lease if terms.restart => again(troubles, 0),
        Cause::Lease => is(Stage::Buried),
        Cause::NotStarted if terms.revoked => again(troubles, 0),
        // A host that sends everything back is not asked a thousand times a second.
        Cause::NotStarted | Cause::Superseded | Cause::Unfit => {
            let pause = match troubles {
                0 => 0,
                n => 500u64 << n.min(TROUBLES - 1),
            };
            again((troubles + 1).min(TROUBLES - 1), pause)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(cause: Cause, code: Option<u32>) -> Outcome {
        Outcome {
            cause: cause as i32,
            code,
            ..Outcome::default()
        }
    }

    #[test]
    fn pauses_double_up_to_half_an_hour() {
        let mut rng = Rng::new(1);
        let bounds = [
            (1, 30),
            (2, 60),
            (3, 120),
            (4, 240),
            (5, 480),
            (6, 960),
            (7, 1800),
            (8, 1800),
            (400, 1800),
        ];
        for (n, low) in bounds {
            for _ in 0..200 {
                let p = pause(n, &mut rng);
                assert!((low * 1000..=low * 1000 + 30_000).contains(&p), "{n}: {p}");
            }
        }
    }

    #[test]
    fn own_failures_count() {
        let mut rng = Rng::new(2);
        let failed = outcome(Cause::Exited, Some(3));
        let none = Terms::default();
        assert_eq!(verdict(&failed, None, none, &mut rng).stage, Stage::Failed);
        let three = Terms { retries: 3, ..none };
        let mut extra = Extra::default();
        for n in 1..=3 {
            let v = verdict(&failed, Some(&extra), three, &mut rng);
            assert_eq!((v.stage, v.failures), (Stage::Back, n));
            extra.failures = v.failures;
        }
        assert_eq!(
            verdict(&failed, Some(&extra), three, &mut rng).stage,
            Stage::Buried
        );
        for code in [126, 127] {
            let v = verdict(&outcome(Cause::Exited, Some(code)), None, three, &mut rng);
            assert_eq!(v.stage, Stage::Buried);
            let v = verdict(&outcome(Cause::Exited, Some(code)), None, none, &mut rng);
            assert_eq!(v.stage, Stage::Failed);
        }
        let well = outcome(Cause::Exited, Some(0));
        let killed = Terms {
            killed: true,
            ..three
        };
        assert_eq!(verdict(&well, Some(&extra), killed, &mut rng).stage, Stage::Done);
        assert_eq!(verdict(&failed, None, killed, &mut rng).stage, Stage::Killed);
        for cause in [
            Cause::NotFound,
            Cause::NotExecutable,
            Cause::Directory,
            Cause::Account,
            Cause::Pam,
        ] {
            assert_eq!(
                verdict(&outcome(cause, None), None, three, &mut rng).stage,
                Stage::Buried
            );
        }
    }

    #[test]
    fn our_failures_burn_no_retry() {
        let mut rng = Rng::new(3);
        let terms = Terms {
            restart: true,
            ..Terms::default()
        };
        for cause in [Cause::Internal, Cause::SessionLost] {
            let mut extra = Extra::default();
            for n in 0..5 {
                let v = verdict(&outcome(cause, None), Some(&extra), terms, &mut rng);
                assert_eq!((v.stage, v.failures, v.troubles), (Stage::Back, 0, n + 1));
                extra.troubles = v.troubles;
            }
            let v = verdict(&outcome(cause, None), Some(&extra), terms, &mut rng);
            assert_eq!(v.stage, Stage::Buried);
        }
        let ask = Terms::default();
        let lost = outcome(Cause::SessionLost, None);
        assert_eq!(verdict(&lost, None, ask, &mut rng).stage, Stage::Buried);
        let mut extra = Extra::default();
        for n in 0..50 {
            let v = verdict(&outcome(Cause::NotStarted, None), Some(&extra), ask, &mut rng);
            assert_eq!(v.stage, if n == 0 { Stage::Again } else { Stage::Back });
            assert!(v.pause <= 30_000 && v.failures == 0);
            extra.troubles = v.troubles;
        }
    }
}
