//! Submissions of this host's users, until the leader has them on disk. Knows numbers and the spool; not who may
//! submit, nor what becomes of a job.
//!
//! A number is given once: a few at a time are written down as given before the first of them is used.

use super::Agent;
use crate::engine::jobs::types::{AgentEffect, Clock};
use crate::engine::types::{AskId, Level};
use crate::store::{SpoolOp, Spooled};
use libqueue::wire::job::{Block, Rejected, Submit, Submitted, up};
use libqueue::wire::{Empty, Error, ErrorCode};
use std::collections::{BTreeMap, VecDeque};

/// The leader has so long to take a submission before it is written down here.
const PATIENCE: u64 = 1000;
/// Who needs a number of the leader's, as this host has none left, waits so long for it: he cannot be helped otherwise,
/// and a leader that has just been started may be slow.
const NUMBER: u64 = 10_000;
/// So many numbers are written down as given at once.
const AHEAD: u64 = 64;
/// Of what waits here, so many are under way to the leader at once.
const WINDOW: usize = 64;

/// One that the leader does not have, as far as is known.
#[derive(Debug)]
struct Pending {
    submit: Box<Submit>,
    /// Who waits for the answer; until then it is only here in memory.
    ask: Option<AskId>,
    /// It is written down here from then on, in milliseconds; 0: it is already.
    spool_at: u64,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Submissions {
    block: Option<Block>,
    /// How many numbers the block had.
    size: u64,
    /// Numbers below this one are written down as given.
    used: u64,
    /// Comes after the block.
    next_block: Option<Block>,
    pending: BTreeMap<u64, Pending>,
    /// Those that wait for a number, and till when.
    numberless: VecDeque<(u64, AskId, Box<Submit>)>,
    /// Sent on this connection, in order: the leader answers in order.
    under_way: VecDeque<u64>,
    /// To be sent on this connection.
    to_send: VecDeque<u64>,
    /// The leader was asked for numbers on this connection.
    asked: bool,
    /// The leader is slow: it did not answer in time, and nothing since.
    slow: bool,
}

impl Submissions {
    pub(super) fn new(spooled: Spooled) -> Self {
        let pending = |submit: Submit| {
            let pending = Pending {
                submit: Box::new(submit),
                ask: None,
                spool_at: 0,
            };
            (pending.submit.id, pending)
        };
        let block = spooled.block.filter(|b| b.from < b.to);
        Self {
            size: block.map_or(0, |b| b.to - b.from),
            used: block.map_or(0, |b| b.from),
            block,
            next_block: None,
            pending: spooled.submits.into_iter().map(pending).collect(),
            numberless: VecDeque::new(),
            under_way: VecDeque::new(),
            to_send: VecDeque::new(),
            asked: false,
            slow: false,
        }
    }

    pub(super) fn wake(&self) -> Option<u64> {
        let numberless = self.numberless.front().map(|(until, ..)| *until);
        // Those that are not written down are the latest: numbers rise with time, and all wait equally long.
        let unspooled = self.under_way.iter().filter_map(|id| self.pending.get(id));
        let unspooled = unspooled.map(|p| p.spool_at).find(|at| *at > 0);
        [numberless, unspooled].into_iter().flatten().min()
    }

    /// Highest number that may have been given away.
    pub(super) fn highest(&self) -> u64 {
        self.used.saturating_sub(1)
    }

    /// The next number.
    fn number(&mut self, out: &mut Vec<AgentEffect>) -> Option<u64> {
        if self.block.is_none_or(|b| b.from >= b.to) {
            let next = self.next_block.take()?;
            self.size = next.to - next.from;
            self.used = next.from;
            self.block = Some(next);
            out.push(AgentEffect::Spool(SpoolOp::Block(next)));
        }
        let block = self.block.as_mut()?;
        let id = block.from;
        block.from += 1;
        if id >= self.used {
            self.used = (id + AHEAD).min(block.to);
            out.push(AgentEffect::Spool(SpoolOp::Used(self.used)));
        }
        Some(id)
    }

    /// More numbers. What was given away already, or is here, is not taken from them again.
    fn more(&mut self, new: Block, out: &mut Vec<AgentEffect>) {
        let known = [self.block, self.next_block].into_iter().flatten();
        let top = known.map(|b| b.to).max().unwrap_or(0).max(self.used);
        let from = new.from.max(top);
        if from >= new.to {
            return;
        }
        let new = Block { from, to: new.to };
        match self.block.filter(|b| b.from < b.to) {
            None => {
                self.size = new.to - new.from;
                self.used = new.from;
                self.block = Some(new);
                out.push(AgentEffect::Spool(SpoolOp::Block(new)));
            }
            Some(_) => self.next_block = Some(new),
        }
    }

    fn left(&self) -> u64 {
        let known = [self.block, self.next_block].into_iter().flatten();
        known.map(|b| b.to.saturating_sub(b.from)).sum()
    }
}

fn error(code: ErrorCode, text: impl Into<String>) -> Error {
    Error {
        code: code as i32,
        text: text.into(),
    }
}

impl Agent {
    fn may_send(&self) -> bool {
        self.link.as_ref().is_some_and(|l| l.welcomed)
    }

    pub(super) fn submit(
        &mut self,
        clock: Clock,
        ask: AskId,
        submit: Box<Submit>,
        out: &mut Vec<AgentEffect>,
    ) {
        match self.submissions.number(out) {
            Some(id) => self.submit_as(clock, id, ask, submit, out),
            None => {
                let until = clock.boot + NUMBER;
                self.submissions.numberless.push_back((until, ask, submit));
            }
        }
        self.want_numbers(out);
    }

    fn no_numbers(&self) -> Error {
        let text = format!(
            "{}: the leader cannot be reached, and this host has no job numbers of its own (left); try again when the \
             host with the cluster's authority is up",
            self.host
        );
        error(ErrorCode::NotReady, text)
    }

    fn submit_as(
        &mut self,
        clock: Clock,
        id: u64,
        ask: AskId,
        mut submit: Box<Submit>,
        out: &mut Vec<AgentEffect>,
    ) {
        submit.id = id;
        submit.at_ms = clock.wall;
        let spool_at = clock.boot + PATIENCE;
        let pending = Pending {
            submit,
            ask: Some(ask),
            spool_at,
        };
        self.submissions.pending.insert(id, pending);
        if !self.may_send() {
            self.spool(id, "the leader cannot be reached", out);
        } else if self.submissions.slow {
            self.spool(id, "the leader does not answer", out);
            self.submissions.to_send.push_back(id);
        } else {
            self.send(id, out);
        }
    }

    fn send(&mut self, id: u64, out: &mut Vec<AgentEffect>) {
        let (Some(link), Some(p)) = (&self.link, self.submissions.pending.get(&id)) else {
            return;
        };
        self.submissions.under_way.push_back(id);
        let submit = (*p.submit).clone();
        out.push(AgentEffect::Send(link.id, up::Kind::Submit(submit)));
    }

    /// Writes it down here, and says so to who waits.
    fn spool(&mut self, id: u64, why: &str, out: &mut Vec<AgentEffect>) {
        let Some(p) = self.submissions.pending.get_mut(&id) else {
            return;
        };
        p.spool_at = 0;
        out.push(AgentEffect::Spool(SpoolOp::Put(p.submit.clone())));
        if let Some(ask) = p.ask.take() {
            let answer = Submitted {
                id,
                spooled: why.to_owned(),
                ..Submitted::default()
            };
            out.push(AgentEffect::Answer(ask, Ok(answer)));
        }
    }

    /// What waited too long.
    pub(super) fn submissions_due(&mut self, clock: Clock, out: &mut Vec<AgentEffect>) {
        let late = self.submissions.under_way.iter().copied();
        let late = late.filter(|id| {
            let p = self.submissions.pending.get(id);
            p.is_some_and(|p| p.spool_at > 0 && p.spool_at <= clock.boot)
        });
        for id in late.collect::<Vec<_>>() {
            self.submissions.slow = true;
            self.spool(id, "the leader does not answer", out);
        }
        while let Some((_, ask, _)) = self
            .submissions
            .numberless
            .pop_front_if(|(at, ..)| *at <= clock.boot)
        {
            out.push(AgentEffect::Answer(ask, Err(self.no_numbers())));
        }
    }

    /// The connection is of use: everything that waits here goes to the leader.
    pub(super) fn submit_all(&mut self, out: &mut Vec<AgentEffect>) {
        self.submissions.to_send = self.submissions.pending.keys().copied().collect();
        self.send_waiting(out);
        self.want_numbers(out);
    }

    fn send_waiting(&mut self, out: &mut Vec<AgentEffect>) {
        while self.may_send() && self.submissions.under_way.len() < WINDOW {
            let Some(id) = self.submissions.to_send.pop_front() else {
                return;
            };
            self.send(id, out);
        }
    }

    /// There is no connection any more: what was under way is written down here.
    pub(super) fn keep_all(&mut self, out: &mut Vec<AgentEffect>) {
        self.submissions.under_way.clear();
        self.submissions.to_send.clear();
        self.submissions.asked = false;
        self.submissions.slow = false;
        let all = self.submissions.pending.iter().filter(|(_, p)| p.spool_at > 0);
        for id in all.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.spool(id, "the leader cannot be reached", out);
        }
    }

    fn want_numbers(&mut self, out: &mut Vec<AgentEffect>) {
        let s = &mut self.submissions;
        let enough = s.numberless.is_empty() && s.left() > 0 && s.left() >= s.size / 2;
        if enough || s.asked || !self.link.as_ref().is_some_and(|l| l.welcomed) {
            return;
        }
        self.submissions.asked = true;
        self.tell(up::Kind::WantBlock(Empty {}), out);
    }

    pub(super) fn numbers(&mut self, clock: Clock, block: Block, out: &mut Vec<AgentEffect>) {
        self.submissions.asked = false;
        self.submissions.more(block, out);
        while !self.submissions.numberless.is_empty() {
            let Some(id) = self.submissions.number(out) else {
                break;
            };
            if let Some((_, ask, submit)) = self.submissions.numberless.pop_front() {
                self.submit_as(clock, id, ask, submit, out);
            }
        }
    }

    /// The leader has answered: about which one? It names it, but for one of which there is another already.
    fn answered(&mut self, id: u64, existed: bool) -> Option<u64> {
        let s = &mut self.submissions;
        s.slow = false;
        // The other one may be under way, too: the order tells which is meant.
        let at = if existed {
            Some(0)
        } else {
            s.under_way.iter().position(|i| *i == id)
        }?;
        s.under_way.remove(at)
    }

    pub(super) fn accepted(&mut self, submitted: Submitted, out: &mut Vec<AgentEffect>) {
        let Some(id) = self.answered(submitted.id, submitted.existed) else {
            return;
        };
        let Some(p) = self.submissions.pending.remove(&id) else {
            return;
        };
        if let Some(ask) = p.ask {
            out.push(AgentEffect::Answer(ask, Ok(submitted)));
        } else {
            if submitted.id != id {
                let text = format!(
                    "job {id}, submitted while the leader was away, is job {}",
                    submitted.id
                );
                self.log(Level::Info, text, out);
            }
            out.push(AgentEffect::Spool(SpoolOp::Gone(id)));
        }
        self.send_waiting(out);
    }

    pub(super) fn rejected(&mut self, rejected: Rejected, out: &mut Vec<AgentEffect>) {
        let Some(id) = self.answered(rejected.id, false) else {
            return;
        };
        let Some(p) = self.submissions.pending.remove(&id) else {
            return;
        };
        if let Some(ask) = p.ask {
            out.push(AgentEffect::Answer(
                ask,
                Err(error(ErrorCode::Denied, rejected.text)),
            ));
        } else {
            let text = format!("job {id} of {}: rejected: {}", p.submit.owner, rejected.text);
            self.log(Level::Warn, text, out);
            out.push(AgentEffect::Spool(SpoolOp::Gone(id)));
        }
        self.send_waiting(out);
    }
}
