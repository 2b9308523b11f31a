//! Finding a host for a line: a few are drawn among those with room, and the best of them is taken.

use super::Scheduler;
use super::line::Place;
use super::rooms::Rooms;
use crate::engine::rng::Rng;

/// So many are compared.
const DRAWN: usize = 8;
/// If there are not more than this, all are.
const ALL: usize = 32;

impl Scheduler {
    /// The first job that can be taken, and the host.
    pub(super) fn pick_now(&mut self) -> Option<(u64, u32)> {
        loop {
            let open = self.open.first().copied();
            let fresh = self.fresh.first().copied();
            match (open, fresh) {
                (Some((place, line)), f) if f.is_none_or(|(p, _)| place < p) => {
                    if let Some(host) = self.find(line, place.job) {
                        return Some((place.job, host));
                    }
                    self.open.remove(&(place, line));
                    self.shut.insert((place, line));
                    self.lines[line as usize].search = false;
                }
                (_, Some((place, host))) => match self.first_for(host, place) {
                    Some((p, line)) if p == place => {
                        let host = self.choose_fresh(line, place, host);
                        return Some((place.job, host));
                    }
                    later => self.freshen(host, later.map(|(p, _)| p)),
                },
                (_, None) => return None,
            }
        }
    }

    /// The first shut line that a host can take, from a place on.
    fn first_for(&mut self, host: u32, from: Place) -> Option<(Place, u32)> {
        let h = &self.hosts[host as usize];
        let (cores, hold) = (h.room_cores(), h.may_hold());
        for (place, l) in self.shut.range((from, 0)..) {
            let line = &mut self.lines[*l as usize];
            // What most lines fail at, looked at first.
            if line.claim.cores > cores && !hold {
                continue;
            }
            if line.room(h, place.job) || line.advance(h) {
                return Some((*place, *l));
            }
        }
        None
    }

    /// The best of the fresh hosts for a job that one of them can take.
    fn choose_fresh(&mut self, line: u32, place: Place, one: u32) -> u32 {
        let line = &mut self.lines[line as usize];
        if let Some(p) = self.names.get(&line.shape.prefer)
            && line.room(&self.hosts[*p as usize], place.job)
        {
            return *p;
        }
        let others = self.fresh.iter().map(|(_, h)| *h).filter(|h| *h != one);
        let mut all: Vec<u32> = others.take(DRAWN - 1).collect();
        all.push(one);
        let hosts = &self.hosts;
        let (mut room, mut ahead) = (Vec::new(), Vec::new());
        for h in all {
            if line.room(&hosts[h as usize], place.job) {
                room.push(h);
            } else if line.advance(&hosts[h as usize]) {
                ahead.push(h);
            }
        }
        let cores = line.claim.cores;
        best(room, |h| hosts[h as usize].score(cores))
            .or_else(|| best(ahead, |h| hosts[h as usize].backlog()))
            .unwrap_or(one)
    }

    /// The host that takes the first job of an open line: with room, or in advance.
    fn find(&mut self, at: u32, job: u64) -> Option<u32> {
        let line = &mut self.lines[at as usize];
        let hosts = &self.hosts;
        let named = |name: &str| self.names.get(name).copied().filter(|_| !name.is_empty());
        let (only, prefer) = (named(&line.shape.host), named(&line.shape.prefer));
        if !line.shape.host.is_empty() && only.is_none() {
            return None;
        }
        for h in only.into_iter().chain(prefer) {
            if line.room(&hosts[h as usize], job) {
                return Some(h);
            }
        }
        if let Some(h) = only {
            return line.advance(&hosts[h as usize]).then_some(h);
        }
        let cores = line.claim.cores;
        let room = draw(&self.rooms, cores, &mut self.rng, |h| {
            line.room(&hosts[h as usize], job)
        });
        if !room.is_empty() {
            return best(room, |h| hosts[h as usize].score(cores));
        }
        let ahead = draw(&self.ahead, 0, &mut self.rng, |h| {
            line.advance(&hosts[h as usize])
        });
        best(ahead, |h| hosts[h as usize].backlog())
    }
}

/// The lowest; the first one among equals.
fn best(hosts: Vec<u32>, value: impl Fn(u32) -> f64) -> Option<u32> {
    let mut best: Option<(f64, u32)> = None;
    for h in hosts {
        let v = value(h);
        if best.is_none_or(|(b, _)| v < b) {
            best = Some((v, h));
        }
    }
    best.map(|(_, h)| h)
}

/// Hosts that will do: some drawn by chance, all where there are few. Empty only if none will do.
pub(super) fn draw(
    from: &Rooms,
    least: u32,
    rng: &mut Rng,
    mut will_do: impl FnMut(u32) -> bool,
) -> Vec<u32> {
    let count = from.count(least);
    let mut found = Vec::new();
    if count > ALL {
        for _ in 0..2 * DRAWN {
            let h = from.nth(least, rng.below(count));
            found.extend(h.filter(|h| !found.contains(h)).filter(|h| will_do(*h)));
            if found.len() == DRAWN {
                return found;
            }
        }
        if !found.is_empty() {
            return found;
        }
    }
    // From anywhere on, round to there.
    let start = rng.below(count);
    let round = from
        .all(least)
        .skip(start)
        .chain(from.all(least).take(start))
        .filter(|h| will_do(*h));
    if count > ALL {
        round.take(DRAWN).collect()
    } else {
        round.collect()
    }
}
