//! What this host knows of another one beyond its reports: the launches that it sent there itself, the last fresh
//! word, how fast it answers. Pure; part of placing.

use super::fit::Claim;
use super::types::Now;
use libqueue::wire::{Load, Need};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A launch takes no longer to arrive; until then the host's word may not show it.
const ARRIVES: Duration = Duration::from_millis(200);
/// One that takes part in what a host has is most likely shown by what is heard of it so long after.
const SHOWS: Duration = Duration::from_millis(20);
/// A launch that no word of the host could show counts no longer than this.
const FLIGHT: Duration = Duration::from_secs(10);
/// Launches remembered for each host.
const FLIGHTS: usize = 4096;
/// A host of which nothing was heard or asked for so long is forgotten.
const FORGET: Duration = Duration::from_secs(60);

/// What we know of a host beyond its reports.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// When it was last of interest.
    touched: Now,
    /// Launches that we handed to it, with what they need.
    flights: VecDeque<(Now, Claim)>,
    /// How long it takes to answer.
    pub(super) usual: Option<Duration>,
    /// When it missed a word.
    pub(super) missed: Option<Now>,
    /// Its last word.
    pub(super) word: Option<(Now, Load)>,
    /// Launches for which it was drawn and that are not decided yet.
    undecided: u32,
}

/// Of each host, by its number.
#[derive(Debug, Default)]
pub(super) struct Memory(BTreeMap<u64, Seen>);

impl Seen {
    /// Launches on their way to it, if it was heard at that time, for its score: how many, and their cores.
    pub(super) fn flights(&self, now: Now, heard: Option<Now>) -> (f64, u32) {
        let under_way = |at: Now| now < at + ARRIVES || (heard.is_none_or(|h| h < at) && now < at + FLIGHT);
        let f = self.flights.iter().rev().take_while(|(at, _)| under_way(*at));
        let undecided = f64::from(self.undecided) / 2.0;
        f.fold((undecided, 0), |(n, cores), (_, c)| {
            (n + 1.0, c.cores.saturating_add(cores))
        })
    }

    /// What they take there. `sure`: counted as long as they may not be shown; else only where nothing was heard
    /// since, because to be told that a host is full when it is not is worse than to be refused there.
    pub(super) fn claims(&self, now: Now, heard: Option<Now>, sure: bool) -> Claim {
        let hidden = |at: Now| heard.is_none_or(|h| h < at) && now < at + FLIGHT;
        let unsure = |at: Now| heard.is_none_or(|h| h < at + SHOWS) && now < at + FLIGHT;
        let f = self
            .flights
            .iter()
            .rev()
            .take_while(|(at, _)| hidden(*at) || (sure && unsure(*at)));
        f.map(|(_, c)| *c).fold(Claim::default(), Claim::and)
    }

    /// A launch was sent there.
    pub(super) fn sent(&mut self, now: Now, need: &Need) {
        let old = |f: &VecDeque<(Now, Claim)>| f.front().is_some_and(|(at, _)| now > *at + FLIGHT);
        while self.flights.len() >= FLIGHTS || old(&self.flights) {
            self.flights.pop_front();
        }
        self.flights.push_back((now, Claim::of(need)));
    }

    /// It answered a question that was asked so long ago.
    pub(super) fn answered(&mut self, now: Now, took: Duration, load: Load) {
        self.usual = Some(self.usual.map_or(took, |u| (u * 3 + took) / 4));
        self.missed = None;
        self.word = Some((now, load));
    }
}

impl Memory {
    /// Of one host.
    pub(super) fn get(&self, number: u64) -> Option<&Seen> {
        self.0.get(&number)
    }

    /// Of one host that is of interest now.
    pub(super) fn of(&mut self, now: Now, number: u64) -> &mut Seen {
        let s = self.0.entry(number).or_default();
        s.touched = now;
        s
    }

    /// It was drawn for one more launch, or that was decided.
    pub(super) fn undecided(&mut self, now: Now, number: u64, more: bool) {
        let s = self.of(now, number);
        s.undecided = if more {
            s.undecided + 1
        } else {
            s.undecided.saturating_sub(1)
        };
    }

    /// A launch that we sent to a host is there.
    pub(super) fn arrived(&mut self, number: u64, need: &Need) {
        let Some(s) = self.0.get_mut(&number) else { return };
        let claim = Claim::of(need);
        if let Some((_, c)) = s.flights.iter_mut().find(|(_, c)| *c == claim) {
            // For the score it goes on counting as it would elsewhere.
            *c = Claim::default();
        }
    }

    /// Whether no launch is undecided.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.0.values().all(|s| s.undecided == 0)
    }

    /// Forgets what is of no interest any more.
    pub(super) fn tidy(&mut self, now: Now) {
        self.0.retain(|_, s| s.undecided > 0 || now < s.touched + FORGET);
    }
}
