//! How a job is ended, and what is told of it then.

use super::super::outcome;
use super::super::output::Written;
use super::{AGAIN, GRACE, Moving, Runner, State, TIMES};
use crate::pam;
use libqueue::wire::job::{Cause, Outcome};
use prost::Message as _;
use queue_exec::protocol::{FromRunner, JobKey};
use queue_init::ToInit;
use std::time::{Duration, Instant};

impl Runner {
    /// Ends it in order: TERM, and KILL later.
    pub(super) fn end(&mut self, cause: Cause, text: String) {
        if self.judge(cause, text) {
            self.signal_tree(libc::SIGTERM);
            self.signal_tree(libc::SIGCONT);
            self.plan_end(1, GRACE);
        }
    }

    /// Ends it at once.
    pub(super) fn kill(&mut self, cause: Cause, text: String) {
        if self.judge(cause, text) {
            self.end_step(1);
        }
    }

    /// The first verdict counts, and none if it has ended by itself; `false` if there is nothing to be ended.
    fn judge(&mut self, cause: Cause, text: String) -> bool {
        let Some(job) = self.job.as_deref_mut() else {
            return false;
        };
        if matches!(job.state, State::Starting | State::Running { .. }) {
            job.verdict.get_or_insert((cause, text));
        }
        job.state != State::Empty
    }

    /// The first process is gone, others are left: they go, too.
    pub(super) fn clear_up(&mut self) {
        for signal in [libc::SIGHUP, libc::SIGTERM, libc::SIGCONT] {
            self.signal_tree(signal);
        }
        self.plan_end(1, GRACE);
    }

    fn plan_end(&mut self, step: u32, after: Duration) {
        if let Some(job) = self.job.as_deref_mut() {
            let next = Instant::now() + after;
            // What is further on, or sooner, stays.
            job.ending = match job.ending {
                Some((s, at)) if s > step || (s == step && at <= next) => Some((s, at)),
                _ => Some((step, next)),
            };
        }
    }

    pub(super) fn end_step(&mut self, step: u32) {
        let Some(job) = self.job.as_deref_mut() else {
            return;
        };
        if step > TIMES {
            // Of another user, or stuck in the kernel: the monitor's.
            self.leaving = true;
            return self.report(true);
        }
        job.killed = true;
        if job.state == State::Starting {
            // Init waits for a directory with its child, which then dies, too.
            // SAFETY: no memory is involved; our own child, which nobody else waits for.
            unsafe { libc::kill(self.init.pid(), libc::SIGKILL) };
        } else {
            self.signal_tree(libc::SIGKILL);
        }
        if let Some(job) = self.job.as_deref_mut() {
            job.ending = Some((step + 1, Instant::now() + AGAIN));
        }
    }

    pub(super) fn signal_tree(&mut self, signal: i32) {
        let _ = self.init.tell(&ToInit::SignalTree(signal), None);
    }

    /// A signal from outside: to the first group, or to all if it stops or continues.
    pub(super) fn signal(&mut self, n: u8) {
        let n = i32::from(n);
        let Some(job) = self.job.as_deref_mut() else {
            return;
        };
        let State::Running { pid } = job.state else { return };
        job.killed |= n == libc::SIGKILL;
        if n == libc::SIGSTOP || n == libc::SIGTSTP || n == libc::SIGCONT {
            job.time.suspend(Instant::now(), n != libc::SIGCONT);
            self.signal_tree(n);
        } else {
            // SAFETY: no memory is involved; a group of our own user.
            unsafe { libc::kill(-pid, n) };
        }
    }

    pub(super) fn lease_due(&mut self) {
        if self.lease.is_over() {
            let text = "its lease ran out: this host could not reach the leader in time".to_owned();
            // The end of it is not put off by an end in order that is under way.
            self.kill(Cause::Lease, text);
            // It is said once; the steps go on by themselves.
            let _ = self.lease.set(0);
        }
    }

    /// Tells how it ended, and is ready for the next one.
    pub(super) fn report(&mut self, last: bool) {
        let Some(mut job) = self.job.take() else { return };
        let _ = self.lease.set(0);
        let written = match job.output {
            Moving::Here(output) => output.finish(),
            Moving::None => Written::default(),
            Moving::Away => {
                // With a thread that does not come back; we do not, either.
                self.leaving = true;
                Written {
                    lost: "its output is not known to be written".to_owned(),
                    ..Written::default()
                }
            }
        };
        let o = &mut job.outcome;
        if let Some((cause, text)) = job.verdict {
            o.cause = cause as i32;
            o.text = outcome::line(&text);
        }
        o.maxrss_kib = o.maxrss_kib.max(job.samples.peak / 1024);
        outcome::written(o, &job.plan, written);
        if let Some(script) = &job.plan.script {
            let _ = std::fs::remove_file(script);
        }
        self.over_with(job.key, &job.outcome, last || self.leaving);
    }

    pub(super) fn over_with(&mut self, key: JobKey, outcome: &Outcome, last: bool) {
        // With PAM there is one job only, and its session is closed before anybody may think that it is over.
        pam::close(self.pam.take());
        self.tell_ended(key, outcome, last);
    }

    pub(super) fn tell_ended(&mut self, key: JobKey, outcome: &Outcome, last: bool) {
        let outcome = outcome.encode_to_vec();
        let m = FromRunner::Ended { key, outcome, last };
        self.channel.tell(&m);
        self.last = Some(m);
    }
}
