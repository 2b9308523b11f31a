//! Ending the whole tree of processes, step by step. Knows signals and when; must not know why.

use super::{Command, Session};
use libqueue::wire::Ended;
use queue_exec::protocol;
use queue_init::ToInit;
use std::time::{Duration, Instant};

/// From the hang-up to TERM, from TERM to KILL, and from KILL to giving up: within the 5 s of the contract.
const STEPS: [Duration; 3] = [
    Duration::from_millis(1000),
    Duration::from_millis(2000),
    Duration::from_millis(1000),
];
/// The same after the client was waited for: together with that within the 5 s.
const STEPS_LATE: [Duration; 3] = [
    Duration::from_millis(700),
    Duration::from_millis(1500),
    Duration::from_millis(1000),
];

/// How far the hang-up is.
pub(super) struct HangUp {
    step: usize,
    pub(super) at: Instant,
    steps: &'static [Duration; 3],
}

impl Session {
    /// Ends the whole tree: HUP and CONT now, then TERM, then KILL.
    pub(super) fn hang_up(&mut self) {
        self.begin_hangup(&STEPS);
    }

    /// The same, some of the time being over.
    pub(super) fn hang_up_soon(&mut self) {
        self.begin_hangup(&STEPS_LATE);
    }

    fn begin_hangup(&mut self, steps: &'static [Duration; 3]) {
        if self.hangup.is_none() && !self.tree_empty {
            self.hangup_step(0, steps);
        } else if self.tree_empty && self.command == Command::Starting {
            self.command = Command::Over;
        }
    }

    /// Takes the next step if its time has come.
    pub(super) fn check_hangup(&mut self, now: Instant) {
        if let Some(HangUp { step, at, steps }) = self.hangup
            && now >= at
        {
            self.hangup_step(step, steps);
        }
    }

    fn hangup_step(&mut self, step: usize, steps: &'static [Duration; 3]) {
        let signals: &[i32] = match step {
            0 => &[libc::SIGHUP, libc::SIGCONT],
            1 => &[libc::SIGTERM, libc::SIGCONT],
            2 => &[libc::SIGKILL],
            _ => {
                // Stuck in the kernel. The monitor keeps the cgroup until it is empty.
                self.hangup = None;
                self.tree_empty = true;
                if self.command != Command::Over {
                    self.sources.clear();
                    self.command = Command::Draining(Ended {
                        signal: Some(libc::SIGKILL as u32),
                        ..Ended::default()
                    });
                    self.report_if_drained();
                }
                return;
            }
        };
        for n in signals {
            let _ = self.init.tell(&ToInit::SignalTree(*n), None);
        }
        if step == 2 {
            // What runs as another user (sudo) is out of our reach.
            self.monitor.tell(&protocol::FromSession::KillTree);
        }
        self.hangup = Some(HangUp {
            step: step + 1,
            at: Instant::now() + steps[step],
            steps,
        });
    }
}
