//! Where a command runs: two good hosts are drawn by weight, both are asked for a fresh word, the better one is
//! taken. Part of the engine; the score is `place.rs`'s, who is out of the question says `fit.rs`, and those who
//! wait for room are kept in `wait.rs`.
//!
//! A word that is late is not waited for: once one is in, the other has three times as long as that host usually
//! takes (at least 2 ms), and none has more than 25 ms. A host that missed a word is not drawn again until it is
//! heard from, unless there is no other; so a host that vanished costs one launch a few milliseconds.
//!
//! What goes out and comes in here may be lost, late, doubled or forged: the worst that can happen is a choice
//! that is not the best one. The executing host grants.

use super::candidates::{Candidate, Taken, Tier};
use super::fit::{Claim, No};
use super::grant::Granting;
use super::place::{draw_two, keeps_first, score, weight};
use super::report::sane_load;
use super::seen::Memory;
use super::types::{AskId, Effect, Effects, Now};
use super::wait::Queue;
use super::want::{Target, Wanted};
use super::{Engine, wire};
use std::collections::BTreeMap;
use std::time::Duration;
use wire::{ErrorCode, Load, Need, Placed, gossip, reply};

#[cfg(test)]
mod tests;

/// No word is waited for longer.
const WORD_MAX: Duration = Duration::from_millis(25);
/// Once one word is in, the other one has at least so long.
const WORD_MIN: Duration = Duration::from_millis(2);
/// A host's usual time for a word, before it is known.
const WORD_USUAL: Duration = Duration::from_millis(4);
/// Afterwards a host is taken without asking.
const ROUNDS: u32 = 6;
/// A word that comes later is none.
const LATE: Duration = Duration::from_secs(2);
/// What the engine remembers for placing.
#[derive(Debug, Default)]
pub(super) struct Placing {
    /// What runs here.
    pub(super) granting: Granting,
    /// Who waits for room.
    pub(super) queue: Queue,
    looks: BTreeMap<AskId, Look>,
    asked: BTreeMap<u64, Asked>,
    pub(super) seen: Memory,
    /// When what is old is thrown away.
    tidy: Now,
}

/// A question that is on its way to a host.
#[derive(Debug)]
struct Asked {
    look: AskId,
    host: String,
    number: u64,
    sent: Now,
}

/// A question for a host that is being answered.
#[derive(Debug)]
pub(super) struct Look {
    ask: AskId,
    pub(super) wanted: Wanted,
    /// Its place in the queue, if it waits.
    waiter: Option<u64>,
    round: u32,
    drawn: Vec<Drawn>,
    /// Hosts that said no, and why.
    no: BTreeMap<String, No>,
    /// Hosts that did not answer.
    silent: Vec<String>,
}

#[derive(Debug)]
struct Drawn {
    host: String,
    number: u64,
    sent: Now,
    /// When it should have answered, if the other one did.
    due: Now,
    /// What it said: yes, or why not.
    word: Option<Result<(), No>>,
}

impl Look {
    pub(super) fn new(ask: AskId, wanted: Wanted, waiter: Option<u64>) -> Self {
        Self {
            ask,
            wanted,
            waiter,
            round: 0,
            drawn: Vec::new(),
            no: BTreeMap::new(),
            silent: Vec::new(),
        }
    }

    /// One that asks nobody.
    #[cfg(test)]
    pub(super) fn blind(ask: AskId, wanted: Wanted) -> Self {
        Self {
            round: ROUNDS,
            ..Self::new(ask, wanted, None)
        }
    }

    /// When it is decided with what is there.
    fn deadline(&self) -> Option<Now> {
        let pending = self.drawn.iter().filter(|d| d.word.is_none());
        let any = self.drawn.iter().any(|d| matches!(d.word, Some(Ok(()))));
        pending.map(|d| if any { d.due } else { d.sent + WORD_MAX }).max()
    }
}

impl Placing {
    /// What those who wait are about to take.
    pub(super) fn taken(&self) -> Taken {
        let mut taken = Taken {
            claims: BTreeMap::new(),
            held: self.queue.held().cloned().collect(),
        };
        for l in self.looks.values().filter(|l| l.waiter.is_some()) {
            for d in &l.drawn {
                let c = taken.claims.entry(d.host.clone()).or_default();
                *c = c.and(Claim::of(&l.wanted.need));
            }
        }
        taken
    }

    /// Whether nothing is under way.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.looks.is_empty() && self.seen.is_idle()
    }

    /// When something is due.
    pub(super) fn wake(&self) -> Option<Now> {
        let looks = self.looks.values().filter_map(Look::deadline).min();
        looks
            .into_iter()
            .chain(self.queue.wake())
            .chain(self.granting.wake())
            .min()
    }
}

impl Engine {
    /// A local program asks where to run.
    pub(super) fn place(&mut self, now: Now, ask: AskId, place: wire::Place, out: &mut Effects) {
        let wait = place.wait;
        let wanted = match self.understand(place) {
            Ok(w) => w,
            Err(e) => return answer(ask, reply::Kind::Error(e), out),
        };
        if let Some(e) = self.impossible(now, &wanted) {
            return answer(ask, reply::Kind::Error(e), out);
        }
        if wait {
            self.enqueue(now, ask, wanted, out);
        } else {
            self.look(now, Look::new(ask, wanted, None), out);
        }
    }

    /// Looks for a host: takes one, or asks two.
    pub(super) fn look(&mut self, now: Now, mut look: Look, out: &mut Effects) {
        let taken = look.waiter.map(|_| self.placing.taken());
        let (mut good, mut no) = self.candidates(now, &look.wanted, taken.as_ref());
        good.retain(|c| !look.no.contains_key(c.host));
        if let Target::Prefer(name) | Target::Only(name) = &look.wanted.target
            && good.iter().any(|c| c.host == *name && c.tier != Tier::Full)
            && !look.silent.contains(name)
        {
            // Named: straight there.
            let name = name.clone();
            return self.take(now, look, &name, out);
        }
        // Rather one that did not answer in time than none.
        let silent = |c: &Candidate<'_>| look.silent.iter().any(|s| s == c.host);
        let none_left = good.iter().all(silent);
        if !none_left {
            good.retain(|c| !silent(c));
        }
        let Some(tier) = good.iter().map(|c| c.tier).min() else {
            no.retain(|(h, _)| !look.no.contains_key(h));
            no.extend(std::mem::take(&mut look.no));
            return self.not_placed(now, look, no, out);
        };
        good.retain(|c| c.tier == tier);
        let weights = good.iter().map(|c| weight(c.score)).collect();
        let mut rng = self.rng.clone();
        let drawn = draw_two(weights, &mut rng);
        let drawn: Vec<String> = drawn.into_iter().map(|i| good[i].host.to_owned()).collect();
        self.rng = rng;
        let rounds = if tier == Tier::Doubtful { 1 } else { ROUNDS };
        let straight =
            none_left || look.round >= rounds || (drawn.len() == 1 && look.round == 0 && tier != Tier::Full);
        match drawn.first() {
            Some(first) if straight => {
                let first = first.clone();
                self.take(now, look, &first, out);
            }
            _ => self.ask(now, look, drawn, out),
        }
    }

    /// Asks hosts for a fresh word. This one's is there at once.
    fn ask(&mut self, now: Now, mut look: Look, hosts: Vec<String>, out: &mut Effects) {
        look.round += 1;
        look.drawn.clear();
        for host in hosts {
            let mut drawn = Drawn {
                number: self.own.number(),
                sent: now,
                due: now,
                word: None,
                host,
            };
            if drawn.host == self.own.name {
                let word = self.word(now, drawn.number, 0, &look.wanted.need);
                drawn.word = Some(verdict(&word));
            } else if let Some(p) = self.peers.get(&drawn.host) {
                drawn.number = p.host.number();
                let id = self.rng.next();
                let usual = self.placing.seen.of(now, drawn.number).usual;
                drawn.due = now + (usual.unwrap_or(WORD_USUAL) * 3).clamp(WORD_MIN, WORD_MAX);
                self.placing.asked.insert(
                    id,
                    Asked {
                        look: look.ask,
                        host: drawn.host.clone(),
                        number: drawn.number,
                        sent: now,
                    },
                );
                let need = (look.wanted.need != Need::default()).then(|| look.wanted.need.clone());
                out.push(Effect::Datagram {
                    address: p.address.clone(),
                    message: gossip::Kind::Ask(wire::Ask { id, need }),
                });
            }
            self.placing.seen.undecided(now, drawn.number, true);
            look.drawn.push(drawn);
        }
        self.decide(now, look, out);
    }

    /// Takes the better one, if enough is known.
    fn decide(&mut self, now: Now, mut look: Look, out: &mut Effects) {
        if look.deadline().is_some_and(|at| now < at) {
            self.placing.looks.insert(look.ask, look);
            return;
        }
        for d in &look.drawn {
            self.placing.seen.undecided(now, d.number, false);
        }
        let mut best: Option<(f64, String)> = None;
        for d in std::mem::take(&mut look.drawn) {
            match d.word {
                Some(Ok(())) => {
                    // Others may have been sent there since.
                    let Some(h) = self.known(now, &d.host) else {
                        continue;
                    };
                    let score = score(&self.view(now, &h), look.wanted.need.cores).value;
                    if best.as_ref().is_none_or(|(s, _)| !keeps_first(*s, score)) {
                        best = Some((score, d.host));
                    }
                }
                Some(Err(no)) => {
                    look.no.insert(d.host, no);
                }
                None => {
                    self.placing.seen.of(now, d.number).missed = Some(now);
                    look.silent.push(d.host);
                }
            }
        }
        match best {
            Some((_, host)) => self.take(now, look, &host, out),
            None => self.look(now, look, out),
        }
    }

    /// Sends the asker there.
    fn take(&mut self, now: Now, look: Look, host: &str, out: &mut Effects) {
        let local = host == self.own.name;
        let (address, to) = if local {
            (&self.dial_self, &self.own)
        } else if let Some(p) = self.peers.get(host) {
            (&p.address, &p.host)
        } else {
            // It was removed meanwhile.
            return self.not_placed(now, look, Vec::new(), out);
        };
        let placed = Placed {
            host: to.name.clone(),
            address: address.clone(),
            cert: to.cert.clone(),
            local,
        };
        if !look.wanted.need.look {
            let number = to.number();
            self.placing.seen.of(now, number).sent(now, &look.wanted.need);
        }
        if let Some(n) = look.waiter {
            self.placing.queue.remove(n);
        }
        answer(look.ask, reply::Kind::Placed(placed), out);
    }

    /// Nobody takes it now.
    fn not_placed(&mut self, now: Now, look: Look, no: Vec<(String, No)>, out: &mut Effects) {
        match look.waiter {
            Some(n) => self.placing.queue.rest(now, n),
            None => {
                let e = self.no_host(now, &look.wanted, &no);
                answer(look.ask, reply::Kind::Error(e), out);
            }
        }
    }

    /// Somebody wants a fresh word.
    pub(super) fn asked(&mut self, now: Now, host: &str, ask: wire::Ask, out: &mut Effects) {
        let Some(p) = self.peers.get(host) else { return };
        let (address, from) = (p.address.clone(), p.host.number());
        let word = self.word(now, from, ask.id, &ask.need.unwrap_or_default());
        out.push(Effect::Datagram {
            address,
            message: gossip::Kind::Word(word),
        });
    }

    /// A word came in. It counts if it was asked for, and of that host.
    pub(super) fn said(&mut self, now: Now, from: u64, word: wire::Word, out: &mut Effects) {
        if self.placing.asked.get(&word.id).is_none_or(|a| a.number != from) {
            return;
        }
        let Some(a) = self.placing.asked.remove(&word.id) else {
            return;
        };
        let Some(load) = word.load else { return };
        let load = sane_load(load);
        // What we sent there we know better ourselves.
        let starts = (load.starts - f64::from(word.yours) / 2.0).max(0.0);
        let seen = self.placing.seen.of(now, a.number);
        seen.answered(now, now.saturating_sub(a.sent), Load { starts, ..load });
        let Some(mut look) = self.placing.looks.remove(&a.look) else {
            return;
        };
        if let Some(i) = look
            .drawn
            .iter()
            .position(|d| d.host == a.host && d.sent == a.sent)
        {
            look.drawn[i].word = Some(verdict(&word));
        }
        self.decide(now, look, out);
    }

    /// Does what is due.
    pub(super) fn placing_turn(&mut self, now: Now, news: bool, out: &mut Effects) {
        if self.stopped {
            return;
        }
        let due = |l: &Look| l.deadline().is_none_or(|at| at <= now);
        let late: Vec<AskId> = self
            .placing
            .looks
            .values()
            .filter(|l| due(l))
            .map(|l| l.ask)
            .collect();
        for ask in late {
            if let Some(look) = self.placing.looks.remove(&ask) {
                self.decide(now, look, out);
            }
        }
        if now >= self.placing.tidy {
            self.placing.tidy = now + LATE;
            self.placing.asked.retain(|_, a| now < a.sent + LATE);
            self.placing.seen.tidy(now);
        }
        self.tidy_grants(now);
        self.serve_queue(now, news, out);
    }

    /// Whoever asked this is no longer there.
    pub(super) fn gone(&mut self, now: Now, ask: AskId) {
        if let Some(look) = self.placing.looks.remove(&ask) {
            for d in &look.drawn {
                self.placing.seen.undecided(now, d.number, false);
            }
        }
        self.placing.queue.forget(ask);
    }
}

/// What a word says.
fn verdict(word: &wire::Word) -> Result<(), No> {
    let code = match word.code() {
        ErrorCode::Unknown if word.no.is_empty() => return Ok(()),
        ErrorCode::Unknown => ErrorCode::NoHost,
        code => code,
    };
    let text = libqueue::text::plain(&word.no, 300);
    Err(No::new(code, text))
}

/// Answers a question.
pub(super) fn answer(ask: AskId, reply: reply::Kind, out: &mut Effects) {
    out.push(Effect::Answer { ask, reply });
}
