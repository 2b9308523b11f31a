//! What the monitor wants, and what it has to be told again when it was away.

use super::super::channel::{Heard as Said, Retried};
use super::super::{deliver, outcome, start};
use super::{Runner, State, WAIT_FOR_MONITOR};
use libqueue::wire::job::Cause;
use queue_exec::protocol::{FromRunner, ToRunner};
use std::os::fd::OwnedFd;
use std::time::Instant;

impl Runner {
    pub(super) fn hear_monitor(&mut self) {
        match self.channel.read() {
            Said::Message(m, file) => self.told(m, file),
            Said::Lost => self.find_monitor(),
            Said::Nothing => {}
        }
    }

    pub(super) fn find_monitor(&mut self) {
        if self.job.is_none() && self.last.is_none() {
            // Nobody waits for a word of us.
            self.over = true;
            return;
        }
        match self.channel.retry() {
            Some(Retried::Back) => {
                self.alone_since = None;
                self.say_again();
            }
            // A monitor that knows us not, or lets us go.
            Some(Retried::Denied) if self.job.is_none() => self.over = true,
            Some(Retried::Denied | Retried::Nobody) => {
                let since = *self.alone_since.get_or_insert_with(Instant::now);
                if self.job.is_none() && since.elapsed() >= WAIT_FOR_MONITOR {
                    self.over = true;
                }
            }
            None => {}
        }
    }

    fn say_again(&mut self) {
        if let Some(m) = self.last.take() {
            self.channel.tell(&m);
            self.last = Some(m);
        }
        if let Some(job) = self.job.as_deref() {
            if let Some(m) = &job.told {
                self.channel.tell(m);
            }
            if job.stopped {
                self.channel.tell(&FromRunner::Stopped {
                    key: job.key,
                    stopped: true,
                });
            }
        }
    }

    fn told(&mut self, m: ToRunner, file: Option<OwnedFd>) {
        match m {
            ToRunner::Job {
                key,
                run,
                params,
                lease,
            } => {
                if self.job.is_some() || self.leaving {
                    let text = "the session is busy with another job".to_owned();
                    return self.tell_ended(key, &outcome::refused((Cause::NotStarted, text)), false);
                }
                // Whoever gives us the next one has heard of the one before.
                self.last = None;
                let run = start::read_run(run, file);
                if let Err(why) = run.and_then(|run| self.start(key, &run, &params, lease)) {
                    let _ = self.lease.set(0);
                    self.over_with(key, &outcome::refused(why), false);
                }
            }
            ToRunner::End {
                key,
                signal,
                cause,
                text,
            } => {
                let Some(job) = self.job.as_deref().filter(|j| j.key == key) else {
                    return;
                };
                match (signal, job.state) {
                    (0, _) => {
                        let cause = Cause::try_from(i32::from(cause)).unwrap_or(Cause::Killed);
                        self.end(cause, text);
                    }
                    (n, State::Running { .. }) => self.signal(n),
                    (n, State::Starting) => {
                        if let Some(job) = self.job.as_deref_mut() {
                            job.early.push(n);
                        }
                    }
                    _ => {}
                }
            }
            ToRunner::Lease { key, lease } => {
                if self.job.as_deref().is_some_and(|j| j.key == key) && self.lease.set(lease).is_err() {
                    self.kill(Cause::Internal, "the lease cannot be watched".to_owned());
                }
                self.lease_due();
            }
            ToRunner::Deliver { job, run, from } => {
                let run = start::read_run(run, file).and_then(|r| start::decode(&r, &[]));
                let answer = match run {
                    Ok((run, _)) => {
                        let account = &self.here.account;
                        deliver::deliver(job, &run, &from, account, &self.socket)
                    }
                    Err((_, failed)) => FromRunner::Delivered {
                        failed,
                        hopeless: true,
                    },
                };
                self.channel.tell(&answer);
                self.last = Some(answer);
                self.leaving = true;
            }
            // Once is enough.
            ToRunner::Hire { .. } => {}
        }
    }
}
