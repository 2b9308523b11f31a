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

use super::explain::of_it;
use super::fit::{Claim, Known, No, Terms, fit, never, there};
use super::grant::Granting;
use super::place::{View, draw_two, keeps_first, score, weight};
use super::types::{AskId, Effect, Effects, Now};
use super::wait::Queue;
use super::{Engine, wire};
use libqueue::expr::Expr;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use wire::{ErrorCode, HostState, Load, Need, Placed, gossip, reply};

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
/// A launch takes no longer to arrive; until then the host's word may not show it.
const ARRIVES: Duration = Duration::from_millis(200);
/// One that takes part in what a host has is most likely shown by what is heard of it so long after.
const SHOWS: Duration = Duration::from_millis(20);
/// A launch that no word of the host could show counts no longer than this.
const FLIGHT: Duration = Duration::from_secs(10);
/// Launches remembered for each host.
const FLIGHTS: usize = 4096;
/// What is known of a full host is asked again when it is older than this.
const STALE: Duration = Duration::from_millis(100);

/// What the engine remembers for placing.
#[derive(Debug, Default)]
pub(super) struct Placing {
    /// What runs here.
    pub(super) granting: Granting,
    /// Who waits for room.
    pub(super) queue: Queue,
    looks: BTreeMap<AskId, Look>,
    asked: BTreeMap<u64, Asked>,
    seen: BTreeMap<String, Seen>,
}

/// A question that is on its way to a host.
#[derive(Debug)]
struct Asked {
    look: AskId,
    host: String,
    number: u64,
    sent: Now,
}

/// What we know of a host beyond its reports.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Whose: other keys are another host.
    number: u64,
    /// Launches that we handed to it, with what they need.
    flights: VecDeque<(Now, Claim)>,
    /// How long it takes to answer.
    usual: Option<Duration>,
    /// When it missed a word.
    missed: Option<Now>,
    /// Its last word.
    word: Option<(Now, Load)>,
    /// Launches for which it was drawn and that are not decided yet.
    undecided: u32,
}

/// Where it may run, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// Anywhere.
    Any,
    /// There only.
    Only(String),
    /// There, or else anywhere.
    Prefer(String),
}

/// What is asked for, understood.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) target: Target,
    /// Hosts that the asker just tried.
    pub(super) avoid: Vec<String>,
    pub(super) need: Need,
    pub(super) expr: Option<Expr>,
}

impl Wanted {
    /// Whether what holds for one holds for the other.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.target == other.target && self.need == other.need && self.avoid == other.avoid
    }
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

/// How good a host is for a request: of two kinds, the lesser one is taken first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tier {
    /// As good as it says.
    Good,
    /// It was not heard when it should have been.
    Doubtful,
    /// It was full when it was heard last.
    Full,
}

/// A host that may be taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) host: &'a str,
    pub(super) tier: Tier,
    pub(super) score: f64,
}

/// What others are about to take, for those who wait.
#[derive(Debug, Default, Clone)]
pub(super) struct Taken {
    /// By host.
    pub(super) claims: BTreeMap<String, Claim>,
    /// Hosts that are kept for somebody who came first.
    pub(super) held: BTreeSet<String>,
}

impl Seen {
    /// Its last word.
    pub(super) fn word(&self) -> Option<(Now, Load)> {
        self.word
    }

    /// Launches on their way to it, if it was heard at that time, for its score: how many, and their cores.
    fn flights(&self, now: Now, heard: Option<Now>) -> (f64, u32) {
        let under_way = |at: Now| now < at + ARRIVES || (heard.is_none_or(|h| h < at) && now < at + FLIGHT);
        let f = self.flights.iter().rev().take_while(|(at, _)| under_way(*at));
        let undecided = f64::from(self.undecided) / 2.0;
        f.fold((undecided, 0), |(n, cores), (_, c)| {
            (n + 1.0, c.cores.saturating_add(cores))
        })
    }

    /// What they take there. `sure`: counted as long as they may not be shown; else only where nothing was heard
    /// since, because to be told that a host is full when it is not is worse than to be refused there.
    fn claims(&self, now: Now, heard: Option<Now>, sure: bool) -> Claim {
        let hidden = |at: Now| heard.is_none_or(|h| h < at) && now < at + FLIGHT;
        let unsure = |at: Now| now < at + ARRIVES && heard.is_none_or(|h| h < at + SHOWS);
        let f = self
            .flights
            .iter()
            .rev()
            .take_while(|(at, _)| hidden(*at) || (sure && unsure(*at)));
        f.map(|(_, c)| *c).fold(Claim::default(), Claim::and)
    }
}

impl Placing {
    /// What we know of a host with this number beyond its reports.
    pub(super) fn seen(&self, host: &str, number: u64) -> Option<&Seen> {
        self.seen.get(host).filter(|s| s.number == number)
    }

    fn seen_mut(&mut self, host: &str, number: u64) -> &mut Seen {
        if self.seen.get(host).is_none_or(|s| s.number != number) {
            let new = Seen {
                number,
                ..Seen::default()
            };
            self.seen.insert(host.to_owned(), new);
        }
        self.seen.entry(host.to_owned()).or_default()
    }

    /// A host was drawn for one more launch, or that was decided.
    fn undecided(&mut self, host: &str, more: bool) {
        if let Some(s) = self.seen.get_mut(host) {
            s.undecided = if more {
                s.undecided + 1
            } else {
                s.undecided.saturating_sub(1)
            };
        }
    }

    /// A launch that we handed to `host` is there.
    pub(super) fn arrived(&mut self, host: &str, need: &Need) {
        let Some(s) = self.seen.get_mut(host) else { return };
        let claim = Claim::of(need);
        if let Some((_, c)) = s.flights.iter_mut().find(|(_, c)| *c == claim) {
            // For the score it goes on counting as it would elsewhere.
            *c = Claim::default();
        }
    }

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

    /// Makes sense of what is asked for.
    pub(super) fn understand(&self, place: wire::Place) -> Result<Wanted, wire::Error> {
        if self.expelled {
            let (n, c) = (&self.own.name, &self.cluster);
            let text =
                format!("this host, {n}, was removed from cluster {c}: join it again (queued join TOKEN)");
            return Err(error(ErrorCode::Denied, text));
        }
        let need = place.need.unwrap_or_default();
        let expr = match need.expr.trim() {
            "" => None,
            e => Some(Expr::parse(e).map_err(|e| error(ErrorCode::BadRequest, format!("-R: {e}")))?),
        };
        let target = if place.host.is_empty() || place.host == "+" {
            Target::Any
        } else {
            match (self.spelled(&place.host), place.prefer) {
                (Some(h), false) => Target::Only(h),
                (Some(h), true) if !place.avoid.contains(&h) => Target::Prefer(h),
                (_, true) => Target::Any,
                (None, false) => return Err(self.no_such_host(&place.host)),
            }
        };
        Ok(Wanted {
            target,
            avoid: place.avoid,
            need,
            expr,
        })
    }

    /// The name of a host as the cluster spells it.
    fn spelled(&self, name: &str) -> Option<String> {
        let mut all = std::iter::once(&self.own.name).chain(self.peers.keys());
        let exact = all.clone().find(|n| *n == name);
        exact
            .or_else(|| all.find(|n| n.eq_ignore_ascii_case(name)))
            .cloned()
    }

    /// How a host stands to a request.
    pub(super) fn judge_host<'a>(
        &self,
        now: Now,
        h: &Known<'a>,
        w: &Wanted,
        taken: Option<&Taken>,
    ) -> Result<Candidate<'a>, No> {
        let named = matches!(&w.target, Target::Only(n) if n == h.name);
        there(h, named && !h.own)?;
        let heard = h.load.map(|(at, _)| at);
        let mut before = h
            .seen
            .map(|s| s.claims(now, heard, taken.is_some()))
            .unwrap_or_default();
        if let Some(t) = taken {
            before = before.and(t.claims.get(h.name).copied().unwrap_or_default());
            if t.held.contains(h.name) {
                return Err(No::new(ErrorCode::Full, "is kept for a request that came first"));
            }
        }
        let terms = Terms {
            named,
            from_here: h.own,
            before,
        };
        let silent = h
            .seen
            .and_then(|s| s.missed)
            .is_some_and(|m| heard.is_none_or(|h| h <= m));
        let tier = match fit(h, &w.need, w.expr.as_ref(), terms) {
            Ok(()) if silent || matches!(h.state, HostState::Suspect | HostState::Unknown) => Tier::Doubtful,
            Ok(()) => Tier::Good,
            // It may have changed since; its word decides. Who waits is told when it did.
            Err(no) if no.is_full() && taken.is_none() && !h.own && h.age(now) > STALE => Tier::Full,
            // Why it is drained it says itself.
            Err(no) if no.code == ErrorCode::Draining && named && taken.is_none() && !h.own => Tier::Full,
            Err(no) => return Err(no),
        };
        Ok(Candidate {
            host: h.name,
            tier,
            score: score(&self.view(now, h), w.need.cores).value,
        })
    }

    /// What the score of a host is made from.
    pub(super) fn view(&self, now: Now, h: &Known<'_>) -> View {
        let heard = h.load.map(|(at, _)| at);
        let (flights, flight_cores) = h.seen.map(|s| s.flights(now, heard)).unwrap_or_default();
        View {
            load: h.now(),
            power: h.power(),
            flights,
            flight_cores,
        }
    }

    /// All hosts that may be taken, and why the others not.
    pub(super) fn candidates<'a>(
        &'a self,
        now: Now,
        w: &Wanted,
        taken: Option<&Taken>,
    ) -> (Vec<Candidate<'a>>, Vec<(String, No)>) {
        let (mut good, mut no) = (Vec::new(), Vec::new());
        let judge = |h: Known<'a>| match self.judge_host(now, &h, w, taken) {
            Ok(c) => good.push(c),
            Err(n) => no.push((h.name.to_owned(), n)),
        };
        match &w.target {
            Target::Only(name) => self.known(now, name).into_iter().for_each(judge),
            Target::Any | Target::Prefer(_) => {
                let avoid = |h: &Known<'_>| w.avoid.iter().any(|a| a == h.name);
                self.all_known(now).filter(|h| !avoid(h)).for_each(judge);
            }
        }
        (good, no)
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
        let straight = none_left || look.round >= rounds || (drawn.len() == 1 && tier != Tier::Full);
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
                sent: now,
                due: now,
                word: None,
                host,
            };
            if drawn.host == self.own.name {
                self.placing.seen_mut(&drawn.host, self.own.number());
                let word = self.word(now, self.own.number(), 0, &look.wanted.need);
                drawn.word = Some(verdict(&word));
            } else if let Some(p) = self.peers.get(&drawn.host) {
                let number = p.host.number();
                let id = self.rng.next();
                let usual = self.placing.seen_mut(&drawn.host, number).usual;
                drawn.due = now + (usual.unwrap_or(WORD_USUAL) * 3).clamp(WORD_MIN, WORD_MAX);
                self.placing.asked.insert(
                    id,
                    Asked {
                        look: look.ask,
                        host: drawn.host.clone(),
                        number,
                        sent: now,
                    },
                );
                let need = (look.wanted.need != Need::default()).then(|| look.wanted.need.clone());
                out.push(Effect::Datagram {
                    address: p.address.clone(),
                    message: gossip::Kind::Ask(wire::Ask { id, need }),
                });
            }
            self.placing.undecided(&drawn.host, true);
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
            self.placing.undecided(&d.host, false);
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
                    if let Some(p) = self.peers.get(&d.host) {
                        self.placing.seen_mut(&d.host, p.host.number()).missed = Some(now);
                    }
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
            let seen = self.placing.seen_mut(host, to.number());
            while seen.flights.len() >= FLIGHTS
                || seen.flights.front().is_some_and(|(at, _)| now > *at + FLIGHT)
            {
                seen.flights.pop_front();
            }
            seen.flights.push_back((now, Claim::of(&look.wanted.need)));
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
        let seen = self.placing.seen_mut(&a.host, a.number);
        let took = now.saturating_sub(a.sent);
        seen.usual = Some(seen.usual.map_or(took, |u| (u * 3 + took) / 4));
        seen.missed = None;
        // What we sent there we know better ourselves.
        let starts = (load.starts - f64::from(word.yours) / 2.0).max(0.0);
        seen.word = Some((now, Load { starts, ..load }));
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
        let Self {
            placing, peers, own, ..
        } = self;
        if placing.asked.len() > 64 {
            placing.asked.retain(|_, a| now < a.sent + LATE);
        }
        if placing.seen.len() > peers.len() + 1 {
            placing
                .seen
                .retain(|n, _| *n == own.name || peers.contains_key(n));
        }
        self.tidy_grants(now);
        self.serve_queue(now, news, out);
    }

    /// Whoever asked this is no longer there.
    pub(super) fn gone(&mut self, ask: AskId) {
        if let Some(look) = self.placing.looks.remove(&ask) {
            for d in &look.drawn {
                self.placing.undecided(&d.host, false);
            }
        }
        self.placing.queue.forget(ask);
    }

    /// What no host could do even if it were empty is said at once.
    pub(super) fn impossible(&self, now: Now, w: &Wanted) -> Option<wire::Error> {
        if w.need.look || (w.expr.is_none() && Claim::of(&w.need) == Claim::of(&Need::default())) {
            return None;
        }
        if let Target::Only(name) = &w.target {
            let h = self.known(now, name)?;
            let text = never(&h, &w.need, w.expr.as_ref())?;
            return Some(error(
                ErrorCode::Unfit,
                format!("{name} cannot do that: {}", of_it(&text)),
            ));
        }
        let all: Vec<Known<'_>> = self.all_known(now).collect();
        if all
            .iter()
            .any(|h| h.facts.is_none() || never(h, &w.need, w.expr.as_ref()).is_none())
        {
            return None;
        }
        Some(self.nearest(&all, w))
    }
}

/// What a word says.
fn verdict(word: &wire::Word) -> Result<(), No> {
    let code = match word.code() {
        ErrorCode::Unknown if word.no.is_empty() => return Ok(()),
        ErrorCode::Unknown => ErrorCode::NoHost,
        code => code,
    };
    let text: String = word.no.chars().filter(|c| !c.is_control()).take(300).collect();
    Err(No::new(code, text))
}

/// Answers a question.
pub(super) fn answer(ask: AskId, reply: reply::Kind, out: &mut Effects) {
    out.push(Effect::Answer { ask, reply });
}

/// A failure, for people and programs.
pub(super) fn error(code: ErrorCode, text: String) -> wire::Error {
    wire::Error {
        code: code as i32,
        text,
    }
}
