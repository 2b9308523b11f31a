//! The connection with the leader: hellos, whom this host listens to, and errands that it is sent on. Knows numbers
//! of connections and epochs: what was said on another connection, or by an earlier leader, counts for nothing.

use super::held::Stage;
use super::{Agent, Exec};
use crate::engine::jobs::types::{AgentEffect, Clock, LinkId};
use crate::engine::types::Level;
use libqueue::wire::job::{
    Deliver, Delivered, Dispatch, EndedAttempt, Held as Told, Key, Letter, Mailed, Outcome, Welcome,
    WorkHello, down, up,
};
use prost::Message as _;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Results in a hello take at most so many bytes; those that find no place there follow one by one.
const HELLO_BYTES: usize = 4 << 20;
/// So many errands that were done are remembered, should the leader not have heard it.
const DONE: usize = 256;

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: LinkId,
    /// The leader said welcome, and it is not an earlier one.
    pub(super) welcomed: bool,
    /// When the hellos were sent that were not answered yet.
    hellos: VecDeque<u64>,
    /// The latest time at which something was sent of which the leader said that it came.
    pub(super) acknowledged: Option<u64>,
    /// Requests for leases that were not answered: number, and when they were sent.
    pub(super) renewals: VecDeque<(u64, u64)>,
    /// When the last of these was sent.
    pub(super) renewed: Option<u64>,
    /// What the last hello said of queue-exec: its life, and whether it had told all.
    said: (Option<[u8; 16]>, bool),
}

/// What this host was asked to do besides: deliveries and letters, by number.
#[derive(Debug, Default)]
pub(super) struct Errands {
    delivering: BTreeSet<u64>,
    delivered: BTreeMap<u64, Delivered>,
    mailing: BTreeSet<u64>,
    mailed: BTreeMap<u64, Mailed>,
}

fn remember<T>(done: &mut BTreeMap<u64, T>, number: u64, what: T) {
    done.insert(number, what);
    if done.len() > DONE {
        done.pop_first();
    }
}

impl Agent {
    pub(super) fn linked(&mut self, clock: Clock, id: LinkId, out: &mut Vec<AgentEffect>) {
        if id <= self.last_link {
            return;
        }
        if self.link.take().is_some() {
            self.lost_link(out);
        }
        self.last_link = id;
        self.link = Some(Link {
            id,
            welcomed: false,
            hellos: VecDeque::new(),
            acknowledged: None,
            renewals: VecDeque::new(),
            renewed: None,
            said: (None, false),
        });
        self.hello(clock, out);
    }

    pub(super) fn unlinked(&mut self, id: LinkId, out: &mut Vec<AgentEffect>) {
        if self.link.as_ref().is_some_and(|l| l.id == id) {
            self.link = None;
            self.lost_link(out);
        }
    }

    fn lost_link(&mut self, out: &mut Vec<AgentEffect>) {
        self.keep_all(out);
        self.drop_runs();
    }

    /// Says all that is here.
    fn hello(&mut self, clock: Clock, out: &mut Vec<AgentEffect>) {
        let complete = self.exec == Exec::Told;
        let Some(link) = &mut self.link else { return };
        link.said = (self.life, complete);
        link.hellos.push_back(clock.boot);
        let mut left = HELLO_BYTES;
        let mut later = Vec::new();
        let tell = |(key, held): (&Key, &super::held::Held)| {
            let mut told = Told {
                key: Some(*key),
                stopped: held.stopped,
                ..Told::default()
            };
            match &held.stage {
                Stage::Runs(running) => told.running.clone_from(running),
                Stage::Ended { outcome, .. } => {
                    let len = outcome.encoded_len();
                    if len <= left {
                        left -= len;
                        told.ended = Some(Outcome::clone(outcome));
                    } else {
                        later.push((*key, Outcome::clone(outcome)));
                    }
                }
                _ => {}
            }
            told
        };
        let held = self.held.iter().map(tell).collect();
        let hello = WorkHello {
            life: self.life.map(Vec::from).unwrap_or_default(),
            link: link.id,
            epoch: self.epoch,
            held,
            complete,
            mailer: self.mailer,
            block_used: self.submissions.highest(),
        };
        out.push(AgentEffect::Send(link.id, up::Kind::Hello(hello)));
        for (key, outcome) in later {
            let ended = EndedAttempt {
                key: Some(key),
                outcome: Some(outcome),
            };
            self.tell(up::Kind::Ended(ended), out);
        }
    }

    /// Another hello, if the last one was not complete or of other records.
    pub(super) fn hello_again(&mut self, clock: Clock, out: &mut Vec<AgentEffect>) {
        if self.link.as_ref().is_some_and(|l| l.said != (self.life, true)) {
            self.hello(clock, out);
        }
    }

    fn welcome(&mut self, clock: Clock, welcome: Welcome, out: &mut Vec<AgentEffect>) {
        let Some(link) = &mut self.link else { return };
        if welcome.link != link.id {
            return;
        }
        if welcome.epoch < self.epoch {
            let text = format!(
                "the leader of epoch {} is not listened to: there was one of epoch {}",
                welcome.epoch, self.epoch
            );
            out.push(AgentEffect::Unlink(link.id));
            self.log(Level::Error, text, out);
            self.link = None;
            self.lost_link(out);
            return;
        }
        self.epoch = welcome.epoch;
        if let Some(sent) = link.hellos.pop_front() {
            link.acknowledged = Some(link.acknowledged.map_or(sent, |at| at.max(sent)));
        }
        if !std::mem::replace(&mut link.welcomed, true) {
            self.submit_all(out);
        }
        self.renew(clock, out);
    }

    pub(super) fn heard(
        &mut self,
        clock: Clock,
        id: LinkId,
        message: down::Kind,
        out: &mut Vec<AgentEffect>,
    ) {
        let Some(link) = self.link.as_ref().filter(|l| l.id == id) else {
            return;
        };
        if let down::Kind::Welcome(w) = message {
            self.welcome(clock, w, out);
            return;
        }
        if !link.welcomed {
            return;
        }
        match message {
            down::Kind::Welcome(_) => {}
            down::Kind::Accepted(submitted) => self.accepted(submitted, out),
            down::Kind::Rejected(rejected) => self.rejected(rejected, out),
            down::Kind::Block(block) => self.numbers(clock, block, out),
            down::Kind::Dispatch(dispatch) => self.dispatched(dispatch, out),
            down::Kind::Revoke(key) => self.revoke(key, out),
            down::Kind::Kill(kill) => self.kill(kill, out),
            down::Kind::Forget(key) => self.forget(key, out),
            down::Kind::Renewed(renewed) => self.renewed(clock, renewed, out),
            down::Kind::JobOver(job) => self.job_over(job),
            down::Kind::Deliver(deliver) => self.deliver(deliver, out),
            down::Kind::Letter(letter) => self.letter(letter, out),
        }
    }

    fn dispatched(&mut self, dispatch: Dispatch, out: &mut Vec<AgentEffect>) {
        let here = self.link.as_ref().map(|l| l.id);
        if dispatch.epoch != self.epoch || Some(dispatch.link) != here {
            return;
        }
        for run in dispatch.runs {
            self.starting.keep_run(run);
        }
        for attempt in dispatch.attempts {
            self.take_in(attempt, out);
        }
    }

    fn deliver(&mut self, deliver: Deliver, out: &mut Vec<AgentEffect>) {
        let number = deliver.number;
        if let Some(done) = self.errands.delivered.get(&number) {
            self.tell(up::Kind::Delivered(done.clone()), out);
        } else if self.errands.delivering.insert(number) {
            out.push(AgentEffect::Deliver(Box::new(deliver)));
        }
    }

    pub(super) fn delivered(&mut self, delivered: Delivered, out: &mut Vec<AgentEffect>) {
        let number = delivered.number;
        self.errands.delivering.remove(&number);
        if delivered.failed.is_empty() || delivered.hopeless {
            remember(&mut self.errands.delivered, number, delivered.clone());
        }
        self.tell(up::Kind::Delivered(delivered), out);
    }

    fn letter(&mut self, letter: Letter, out: &mut Vec<AgentEffect>) {
        let number = letter.number;
        if let Some(done) = self.errands.mailed.get(&number) {
            self.tell(up::Kind::Mailed(done.clone()), out);
        } else if self.errands.mailing.insert(number) {
            out.push(AgentEffect::Mail(Box::new(letter)));
        }
    }

    pub(super) fn mailed(&mut self, mailed: Mailed, out: &mut Vec<AgentEffect>) {
        let number = mailed.number;
        self.errands.mailing.remove(&number);
        if mailed.failed.is_empty() || mailed.hopeless {
            remember(&mut self.errands.mailed, number, mailed.clone());
        }
        self.tell(up::Kind::Mailed(mailed), out);
    }

    pub(super) fn mailer_is(&mut self, mailer: bool, out: &mut Vec<AgentEffect>) {
        if std::mem::replace(&mut self.mailer, mailer) != mailer {
            self.tell(up::Kind::Mailer(mailer), out);
        }
    }
}
