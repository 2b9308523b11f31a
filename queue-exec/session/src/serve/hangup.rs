//! Ending the whole tree of processes, step by step. Knows signals and when; must not know why.

use super::{Command, HANGUP_STEPS, Session};
use queue_exec::protocol;
use queue_init::ToInit;
use std::time::Instant;

impl Session {
    /// Ends the whole tree: HUP and CONT now, then TERM, then KILL.
    pub(super) fn hang_up(&mut self) {
        if self.hangup.is_none() && !self.tree_empty {
            self.hangup_step(0);
        } else if self.tree_empty && self.command == Command::Starting {
            self.command = Command::Over;
        }
    }

    pub(super) fn hangup_step(&mut self, step: usize) {
        let signals: &[i32] = match step {
            0 => &[libc::SIGHUP, libc::SIGCONT],
            1 => &[libc::SIGTERM, libc::SIGCONT],
            2 => &[libc::SIGKILL],
            _ => {
                // Stuck in the kernel. The monitor keeps the cgroup until it is empty.
                self.hangup = None;
                self.tree_empty = true;
                if self.command != Command::Over {
                    self.command = Command::Over;
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
        self.hangup = Some((step + 1, Instant::now() + HANGUP_STEPS[step]));
    }
}
