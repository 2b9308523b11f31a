//! Letters that are written and not yet confirmed: which go to which host, when they are tried again, when they are
//! given up. What is here is also in the store.

use crate::engine::jobs::types::{Clock, LeaderEffect};
use crate::engine::types::Level;
use crate::store::Op;
use libqueue::wire::job::{Letter, Mailed, down};
use std::collections::BTreeMap;

/// Letters on their way to one host at once.
const AT_ONCE: usize = 4;
/// A host that says nothing for so long has lost the letter.
const SILENT: u64 = 180_000;
/// First pause after a failure, doubled each time, and the longest.
const PAUSE: u64 = 60_000;
const PAUSE_MAX: u64 = 3_600_000;
/// After so long a letter is given up: three days.
const OLD: u64 = 3 * 86_400_000;
/// Letters that are kept; the oldest go first.
const MOST: usize = 10_000;

/// A letter on its way.
#[derive(Debug)]
struct Out {
    letter: Letter,
    /// When it is sent; or, if it was, when that counts as failed.
    due: u64,
    tries: u32,
    /// Where it was sent.
    at: Option<(String, u64)>,
    /// What was said last.
    failed: String,
}

/// The outbox.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    letters: BTreeMap<u64, Out>,
    /// Hosts that can send mail, with their connections.
    mailers: BTreeMap<String, u64>,
    last: u64,
    /// The last try of any letter failed: said once, until one is sent again.
    failing: bool,
}

impl Outbox {
    /// With letters of an earlier time.
    pub(super) fn new(letters: Vec<Letter>, last: u64) -> Self {
        let mut all = Self {
            last,
            ..Self::default()
        };
        for l in letters {
            all.last = all.last.max(l.number);
            all.add(l, 0);
        }
        all
    }

    /// A number for a letter.
    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// A letter that is in the store.
    pub(super) fn add(&mut self, letter: Letter, due: u64) {
        let out = Out {
            due,
            tries: 0,
            at: None,
            failed: String::new(),
            letter,
        };
        self.letters.insert(out.letter.number, out);
    }

    /// How many wait.
    pub(super) fn len(&self) -> u64 {
        self.letters.len() as u64
    }

    /// Whether a host can send mail.
    pub(super) fn mailer(&mut self, host: &str, conn: u64, able: bool) {
        if able {
            self.mailers.insert(host.to_owned(), conn);
            return;
        }
        if self.mailers.get(host) == Some(&conn) {
            self.mailers.remove(host);
        }
        for out in self.letters.values_mut() {
            if out.at.as_ref().is_some_and(|(h, c)| h == host && *c == conn) {
                // It may have been sent: its number makes the same Message-ID, should it be sent again.
                out.at = None;
            }
        }
    }

    /// What became of a letter; one that is refused for good is given back, with the reason.
    pub(super) fn mailed(
        &mut self,
        clock: Clock,
        host: &str,
        m: Mailed,
        out: &mut Vec<LeaderEffect>,
    ) -> Option<(Letter, String)> {
        let letter = self.letters.get_mut(&m.number)?;
        let why = format!("{host} says {}", m.failed);
        if m.failed.is_empty() || m.hopeless {
            let gone = self.letters.remove(&m.number)?;
            out.push(LeaderEffect::Store(Op::LetterGone(m.number)));
            if m.failed.is_empty() {
                self.failing = false;
                return None;
            }
            out.push(given_up(&gone.letter, &why));
            return Some((gone.letter, why));
        }
        letter.at = None;
        letter.tries += 1;
        letter.due = clock.boot + (PAUSE << (letter.tries - 1).min(6)).min(PAUSE_MAX);
        if !std::mem::replace(&mut self.failing, true) {
            let text = format!("letters cannot be sent now, and are tried again: {why}");
            out.push(LeaderEffect::Log(Level::Warn, text));
        }
        letter.failed = why;
        None
    }

    /// Sends what is due, and gives up what is too old.
    pub(super) fn tick(&mut self, clock: Clock, out: &mut Vec<LeaderEffect>) {
        let surplus = self.letters.len().saturating_sub(MOST);
        let old = |o: &Out| o.letter.at_ms != 0 && clock.wall >= o.letter.at_ms.saturating_add(OLD);
        let mut gone: Vec<u64> = self.letters.keys().take(surplus).copied().collect();
        gone.extend(
            self.letters
                .values()
                .skip(surplus)
                .filter(|o| old(o))
                .map(|o| o.letter.number),
        );
        for n in gone {
            let Some(o) = self.letters.remove(&n) else {
                continue;
            };
            out.push(LeaderEffect::Store(Op::LetterGone(n)));
            // Where nobody ever could send mail that is no news.
            if !o.failed.is_empty() {
                out.push(given_up(&o.letter, &o.failed));
            }
        }
        if self.mailers.is_empty() {
            return;
        }
        for o in self
            .letters
            .values_mut()
            .filter(|o| o.at.is_some() && o.due <= clock.boot)
        {
            // The host was silent; perhaps it has sent it.
            o.at = None;
            o.tries += 1;
        }
        let mut busy: BTreeMap<&str, usize> = BTreeMap::new();
        let mut sent = Vec::new();
        for (host, _) in self.letters.values().filter_map(|o| o.at.as_ref()) {
            if let Some((name, _)) = self.mailers.get_key_value(host) {
                *busy.entry(name).or_default() += 1;
            }
        }
        for o in self
            .letters
            .values()
            .filter(|o| o.at.is_none() && o.due <= clock.boot)
        {
            let start = (o.letter.number as usize + o.tries as usize) % self.mailers.len();
            let hosts = self.mailers.iter().cycle().skip(start).take(self.mailers.len());
            let free = hosts
                .into_iter()
                .find(|(h, _)| busy.get(h.as_str()).is_none_or(|n| *n < AT_ONCE));
            let Some((host, conn)) = free else { break };
            *busy.entry(host).or_default() += 1;
            sent.push((o.letter.number, host.clone(), *conn));
        }
        for (number, host, conn) in sent {
            let Some(o) = self.letters.get_mut(&number) else {
                continue;
            };
            o.at = Some((host, conn));
            o.due = clock.boot + SILENT;
            out.push(LeaderEffect::Send {
                conn,
                message: down::Kind::Letter(o.letter.clone()),
            });
        }
    }

    /// When `tick` is due.
    pub(super) fn wake(&self, clock: Clock) -> Option<u64> {
        let first = self.letters.values().next()?;
        // To give up old letters needs no precision.
        let old = first.letter.at_ms.saturating_add(OLD).saturating_sub(clock.wall);
        let old = clock.boot + old.clamp(1_000, 3_600_000);
        if self.mailers.is_empty() {
            return Some(old);
        }
        let full = self.letters.values().filter(|o| o.at.is_some()).count() >= AT_ONCE * self.mailers.len();
        let due = self
            .letters
            .values()
            .filter(|o| o.at.is_some() || !full)
            .map(|o| o.due)
            .min();
        due.map(|d| d.min(old))
    }
}

fn given_up(letter: &Letter, why: &str) -> LeaderEffect {
    let (to, number) = (&letter.to, letter.number);
    let to = if to.is_empty() { "the operator" } else { to };
    LeaderEffect::Log(
        Level::Warn,
        format!("letter {number} to {to} ({}) is given up: {why}", letter.subject),
    )
}
