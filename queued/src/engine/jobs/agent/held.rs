//! The attempts that are on this host, and what queue-exec says of them. Knows stages; neither grants nor
//! connections beyond telling the leader.

use super::{Agent, Exec};
use crate::engine::jobs::types::{AgentEffect, Clock};
use libqueue::wire::job::{
    Attempt, Cause, EndedAttempt, Key, KillAttempt, Outcome, Running, StartedAttempt, StoppedAttempt, up,
};

/// How far an attempt is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stage {
    /// Its turn has not come.
    Waiting,
    /// This host was asked whether it may start.
    Asking,
    /// It was handed to queue-exec, which has not said that it has it.
    Handed,
    /// queue-exec has it; with what is known once its command was executed.
    Runs(Option<Running>),
    /// It is over. `told`: queue-exec said so, and keeps it until it is told to forget.
    Ended { outcome: Box<Outcome>, told: bool },
}

/// An attempt.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) stage: Stage,
    /// As it was sent; absent if an earlier life of this daemon got it, and once it is over.
    pub(super) attempt: Option<Box<Attempt>>,
    pub(super) stopped: bool,
    /// The leader wants its end.
    pub(super) end: Option<KillAttempt>,
    /// Length of its lease, and its end by this host's clock, in milliseconds; 0: none, or not known.
    pub(super) lease: u64,
    pub(super) deadline: u64,
    /// Place in the order of starts, from 1.
    pub(super) place: u64,
    /// queue-exec has spoken of it since it was there again.
    pub(super) seen: bool,
}

impl Held {
    pub(super) fn new(stage: Stage) -> Self {
        Self {
            stage,
            attempt: None,
            stopped: false,
            end: None,
            lease: 0,
            deadline: 0,
            place: 0,
            seen: false,
        }
    }

    /// Nothing of it was given to queue-exec.
    pub(super) fn waits(&self) -> bool {
        matches!(self.stage, Stage::Waiting | Stage::Asking)
    }

    /// queue-exec has it, or was given it.
    pub(super) fn in_exec(&self) -> bool {
        matches!(self.stage, Stage::Handed | Stage::Runs(_))
    }
}

/// An outcome made here.
pub(super) fn outcome(cause: Cause, text: impl Into<String>) -> Outcome {
    Outcome {
        cause: cause as i32,
        text: text.into(),
        ..Outcome::default()
    }
}

impl Agent {
    pub(super) fn exec_up(&mut self, life: [u8; 16]) {
        self.exec = Exec::Telling;
        self.life = Some(life);
        self.lengths.clear();
        for held in self.held.values_mut() {
            held.seen = false;
        }
    }

    pub(super) fn exec_told(&mut self, clock: Clock, out: &mut Vec<AgentEffect>) {
        self.exec = Exec::Told;
        self.lengths.clear();
        let missing = |h: &&Held| h.in_exec() && !h.seen;
        if self.held.values().any(|h| missing(&h)) {
            self.miss(out);
        }
        for (key, held) in self.held.iter().filter(|(_, h)| h.in_exec()) {
            if let Some(end) = &held.end {
                out.push(AgentEffect::End(end.clone()));
            }
            if held.deadline > clock.boot {
                out.push(AgentEffect::Lease(*key, held.deadline));
            }
        }
        self.hello_again(clock, out);
    }

    /// Attempts that queue-exec was given and does not know: what it never took starts anew, what ran is lost.
    fn miss(&mut self, out: &mut Vec<AgentEffect>) {
        let missing = self.held.iter().filter(|(_, h)| h.in_exec() && !h.seen);
        let missing: Vec<Key> = missing.map(|(k, _)| *k).collect();
        for key in missing {
            let Some(held) = self.held.get_mut(&key) else {
                continue;
            };
            if held.stage != Stage::Handed {
                let text = "its session was lost: the records of queue-exec do not know it";
                self.end(key, outcome(Cause::SessionLost, text), false, out);
                continue;
            }
            out.push(AgentEffect::Ungrant(key));
            if held.end.is_some() || held.attempt.is_none() {
                self.end_unstarted(key, out);
            } else {
                held.stage = Stage::Waiting;
                self.starting.free(&key);
                self.starting.wait(held.place, key);
            }
        }
    }

    pub(super) fn exec_started(&mut self, key: Key, running: Option<Running>, out: &mut Vec<AgentEffect>) {
        let length = self.lengths.remove(&key).unwrap_or(0);
        let new = || Held {
            lease: length,
            ..Held::new(Stage::Handed)
        };
        let held = self.held.entry(key).or_insert_with(new);
        held.seen = true;
        let news = match &held.stage {
            Stage::Ended { .. } => return,
            Stage::Runs(had) => running.is_some() && *had != running,
            _ => running.is_some(),
        };
        self.starting.no_longer_waits(held.place);
        if news || !matches!(held.stage, Stage::Runs(_)) {
            held.stage = Stage::Runs(running.clone());
        }
        if news {
            let started = StartedAttempt {
                key: Some(key),
                running,
            };
            self.tell(up::Kind::Started(started), out);
        }
    }

    pub(super) fn exec_stopped(&mut self, key: Key, stopped: bool, out: &mut Vec<AgentEffect>) {
        let Some(held) = self.held.get_mut(&key) else {
            return;
        };
        if held.in_exec() && held.stopped != stopped {
            held.stopped = stopped;
            let stopped = StoppedAttempt {
                key: Some(key),
                stopped,
            };
            self.tell(up::Kind::Stopped(stopped), out);
        }
    }

    pub(super) fn exec_ended(&mut self, key: Key, how: Option<Outcome>, out: &mut Vec<AgentEffect>) {
        self.lengths.remove(&key);
        let held = self.held.entry(key);
        let held = held.or_insert_with(|| Held::new(Stage::Runs(None)));
        held.seen = true;
        if let Stage::Ended { told, .. } = &mut held.stage {
            *told = true;
            return;
        }
        let how = how.unwrap_or_else(|| {
            let text = "its session, or queue-exec, was killed while it ran";
            let mut lost = outcome(Cause::SessionLost, text);
            if let Stage::Runs(Some(running)) = &held.stage {
                lost.started_ms = running.started_ms;
                lost.output.clone_from(&running.output);
                lost.error.clone_from(&running.error);
                lost.spooled = running.spooled;
            }
            lost
        });
        self.end(key, how, true, out);
    }

    /// An attempt that never started has ended, as the leader wants it.
    pub(super) fn end_unstarted(&mut self, key: Key, out: &mut Vec<AgentEffect>) {
        let Some(held) = self.held.get(&key) else { return };
        let outcome = match &held.end {
            Some(kill) if kill.cause != Cause::NotStarted as i32 => Outcome {
                cause: kill.cause,
                text: if kill.by.is_empty() {
                    "ended before it started".to_owned()
                } else {
                    format!("ended by {} before it started", kill.by)
                },
                ..Outcome::default()
            },
            _ => outcome(Cause::NotStarted, "taken back before it started"),
        };
        self.end(key, outcome, false, out);
    }

    /// It is over: kept until the leader has it.
    pub(super) fn end(&mut self, key: Key, how: Outcome, told: bool, out: &mut Vec<AgentEffect>) {
        let Some(held) = self.held.get_mut(&key) else {
            return;
        };
        self.starting.no_longer_waits(held.place);
        self.starting.free(&key);
        held.attempt = None;
        held.end = None;
        held.stage = Stage::Ended {
            outcome: Box::new(how.clone()),
            told,
        };
        let ended = EndedAttempt {
            key: Some(key),
            outcome: Some(how),
        };
        self.tell(up::Kind::Ended(ended), out);
    }

    /// The leader has its result on disk.
    pub(super) fn forget(&mut self, key: Key, out: &mut Vec<AgentEffect>) {
        let Some(Stage::Ended { told, .. }) = self.held.get(&key).map(|h| &h.stage) else {
            return;
        };
        if *told {
            match out.last_mut() {
                Some(AgentEffect::Forget(keys)) => keys.push(key),
                _ => out.push(AgentEffect::Forget(vec![key])),
            }
        }
        self.held.remove(&key);
    }

    /// The leader wants the end of an attempt, or a signal sent to it.
    pub(super) fn kill(&mut self, kill: KillAttempt, out: &mut Vec<AgentEffect>) {
        let Some(key) = kill.key else { return };
        let Some(held) = self.held.get_mut(&key) else {
            return;
        };
        let ends = kill.signal == 0;
        if ends && !matches!(held.stage, Stage::Ended { .. }) {
            held.end = Some(kill.clone());
        }
        if held.waits() && ends {
            self.end_unstarted(key, out);
        } else if held.in_exec() && self.exec != Exec::Down {
            out.push(AgentEffect::End(kill));
        }
    }

    /// The leader wants an attempt back that has not started.
    pub(super) fn revoke(&mut self, key: Key, out: &mut Vec<AgentEffect>) {
        let Some(held) = self.held.get_mut(&key) else {
            return;
        };
        if held.waits() {
            self.end_unstarted(key, out);
        }
    }
}
