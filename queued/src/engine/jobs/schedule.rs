//! Which job goes to which host: queues of jobs by what they need, hosts by what is free. Knows needs, priorities
//! and hosts; not why a job is ready, nor what becomes of an attempt.
//!
//! Jobs that want the same are one *line*. A line that may be taken by any host is *open*: hosts are drawn for it. Once
//! no host was found it is *shut*: only a host of which something was heard since can have room for it. Such a host
//! is *fresh*, and looks for the first shut line that it can take. So, however many wait, a dispatch costs a few hosts
//! that are drawn, or one look along the shut lines by a host that has become free.
//!
//! A host without room may hold a few attempts *in advance*, about 100 ms of its work, so that it need not wait for
//! the leader between two short jobs. The first job in order that has found no host for 30 s gets one reserved.

use super::types::HostView;
use crate::engine::fit::Claim;
use crate::engine::rng::Rng;
use host::Host;
use libqueue::wire::Need;
use libqueue::wire::job::{Key, WhyHost};
use line::{Line, Place, Want};
use rooms::Rooms;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

#[cfg(test)]
mod bench;
mod find;
mod host;
mod line;
mod reserve;
mod rooms;
mod stray;
mod tables;
#[cfg(test)]
mod tests;
mod why;

/// What a job wants of a host: jobs that want the same are one queue.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Shape {
    /// Reserved while it runs.
    pub need: Need,
    /// Only this host.
    pub host: String,
    /// Rather this host.
    pub prefer: String,
}

/// A job with tasks that could start.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// The job.
    pub job: u64,
    /// What it wants.
    pub shape: Shape,
    /// Higher first.
    pub priority: i32,
    /// Lower first, among the same priority.
    pub order: u64,
    /// So many of its tasks could start.
    pub ready: u32,
}

/// A job and the host that should take one task of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pick {
    /// The job.
    pub job: u64,
    /// The host.
    pub host: String,
}

/// Where a job stands: its line, and its place in it.
#[derive(Debug, Clone, Copy)]
struct Stand {
    line: u32,
    place: Place,
}

/// An attempt that is on a host.
#[derive(Debug)]
struct Sent {
    host: u32,
    /// Its line; absent: the job was not here when it was sent. Such an attempt is not moved.
    line: Option<u32>,
    claim: Claim,
    started: bool,
    /// It waits there until others end.
    advance: bool,
    /// If it has not started by then, it may be moved.
    due: u64,
}

/// The queues and the hosts.
#[derive(Debug)]
pub(crate) struct Scheduler {
    rng: Rng,
    hosts: Vec<Host>,
    free_hosts: Vec<u32>,
    names: BTreeMap<String, u32>,
    /// Hosts that take work, by free cores.
    rooms: Rooms,
    /// Hosts that may hold more in advance.
    ahead: Rooms,
    /// Facts, encoded, that hosts have in common; and how many hosts have them.
    classes: BTreeMap<Vec<u8>, (u32, u32)>,
    free_classes: Vec<u32>,
    lines: Vec<Line>,
    free_lines: Vec<u32>,
    by_want: BTreeMap<Want, u32>,
    /// First jobs of lines that any host may take.
    open: BTreeSet<(Place, u32)>,
    /// First jobs of lines that only a fresh host can take.
    shut: BTreeSet<(Place, u32)>,
    /// Fresh hosts, by the first of the shut lines that it can take: that one, or none that comes before it.
    fresh: BTreeSet<(Place, u32)>,
    jobs: BTreeMap<u64, Stand>,
    sent: BTreeMap<Key, Sent>,
    strays: stray::Strays,
    starving: reserve::Starving,
    /// Counts changes of what hosts could ever take.
    generation: u64,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Scheduler {
    /// Chance is only from here.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            hosts: Vec::new(),
            free_hosts: Vec::new(),
            names: BTreeMap::new(),
            rooms: Rooms::default(),
            ahead: Rooms::default(),
            classes: BTreeMap::new(),
            free_classes: Vec::new(),
            lines: Vec::new(),
            free_lines: Vec::new(),
            by_want: BTreeMap::new(),
            open: BTreeSet::new(),
            shut: BTreeSet::new(),
            fresh: BTreeSet::new(),
            jobs: BTreeMap::new(),
            sent: BTreeMap::new(),
            strays: stray::Strays::default(),
            starving: reserve::Starving::default(),
            generation: 1,
        }
    }

    /// A host is there, or changed. Hosts that are dead, or whose agent is not `linked`, get nothing.
    pub(crate) fn host(&mut self, view: &HostView, linked: bool) {
        let at = self.slot(&view.name);
        let class = self.class_of(at, view);
        let h = &mut self.hosts[at as usize];
        let before = (h.usable, h.cap);
        h.update(view, linked, class);
        if before != (h.usable, h.cap) {
            self.generation += 1;
        }
        self.host_event(at);
    }

    /// A host is no longer a member.
    pub(crate) fn host_gone(&mut self, name: &str) {
        let Some(at) = self.names.get(name).copied() else {
            return;
        };
        self.hosts[at as usize].leave();
        self.generation += 1;
        self.host_event(at);
        self.drop_host(at);
    }

    /// Puts a job in, or changes it; with `ready` 0 it is taken out.
    pub(crate) fn put(&mut self, entry: Entry) {
        if entry.ready == 0 {
            return self.take_out(entry.job);
        }
        let place = Place {
            priority: Reverse(entry.priority),
            order: entry.order,
            job: entry.job,
        };
        if let Some(s) = self.jobs.get(&entry.job) {
            if s.place == place && self.lines[s.line as usize].shape == entry.shape {
                return;
            }
            self.take_out(entry.job);
        }
        let line = self.line_of(entry.shape);
        self.jobs.insert(entry.job, Stand { line, place });
        self.change_queue(line, |q| {
            q.insert(place);
        });
    }

    /// Takes a job out.
    pub(crate) fn take_out(&mut self, job: u64) {
        let Some(s) = self.jobs.remove(&job) else { return };
        self.change_queue(s.line, |q| {
            q.remove(&s.place);
        });
        self.drop_line(s.line);
        self.lift_for(job);
    }

    /// The first job, by priority and then order, that some host has room for (or may hold in advance), and the host.
    /// The caller either sends an attempt (`sent`) and puts the job again with what is left, or takes it out.
    pub(crate) fn pick(&mut self, now: u64) -> Option<Pick> {
        loop {
            if let Some((job, host)) = self.pick_now() {
                let host = self.hosts[host as usize].name.clone();
                return Some(Pick { job, host });
            }
            if !self.watch_starving(now) {
                return None;
            }
        }
    }

    /// An attempt was sent to a host. The job should still be in: only then the attempt can be moved.
    pub(crate) fn sent(&mut self, now: u64, host: &str, key: Key, need: &Need) {
        if self.sent.contains_key(&key) {
            return;
        }
        let at = self.slot(host);
        let line = self.jobs.get(&key.job).map(|s| s.line);
        let claim = Claim::of(need);
        let h = &mut self.hosts[at as usize];
        let advance = h.usable && !h.has_room(&claim);
        let due = if advance {
            h.advance.push_back(key);
            now + stray::ADVANCE
        } else {
            h.seat(&claim);
            now + stray::SEATED
        };
        if let Some(l) = line {
            self.lines[l as usize].refs += 1;
        }
        self.strays.wait(due, key, advance);
        self.sent.insert(
            key,
            Sent {
                host: at,
                line,
                claim,
                started: false,
                advance,
                due,
            },
        );
        self.sort_host(at);
    }

    /// It started there.
    pub(crate) fn started(&mut self, now: u64, key: Key) {
        let Some(s) = self.sent.get_mut(&key).filter(|s| !s.started) else {
            return;
        };
        s.started = true;
        self.strays.forget(s.due, key);
        if !std::mem::take(&mut s.advance) {
            return;
        }
        let (at, claim) = (s.host, s.claim);
        let h = &mut self.hosts[at as usize];
        h.advance.retain(|k| *k != key);
        h.seat(&claim);
        self.move_up(now, at);
        self.host_event(at);
    }

    /// It is no longer there: ended, refused, taken back. `ran`: how long it ran, in milliseconds.
    pub(crate) fn gone(&mut self, now: u64, key: Key, ran: Option<u64>) {
        let Some(s) = self.sent.remove(&key) else { return };
        if !s.started {
            self.strays.forget(s.due, key);
        }
        if let Some(l) = s.line {
            self.lines[l as usize].refs -= 1;
            self.drop_line(l);
        }
        let h = &mut self.hosts[s.host as usize];
        if s.advance {
            h.advance.retain(|k| *k != key);
        } else {
            h.unseat(&s.claim);
        }
        if let Some(ms) = ran {
            h.ran(ms);
        }
        self.move_up(now, s.host);
        self.host_event(s.host);
        self.drop_host(s.host);
    }

    /// When `pick` or `misplaced` may have more to say although nothing else happens.
    pub(crate) fn wake(&self) -> Option<u64> {
        let stray = self.strays.wake().filter(|_| self.rooms.any(1));
        let all = [self.starving.wake(), stray, self.strays.wake_held()];
        all.into_iter().flatten().min()
    }

    /// What keeps a job of this shape from each host.
    pub(crate) fn why(&self, shape: &Shape, priority: i32) -> Vec<WhyHost> {
        self.why_hosts(shape, priority)
    }

    /// Seats what waits on a host, in its order, as far as there is room: the host does the same.
    fn move_up(&mut self, now: u64, at: u32) {
        let h = &mut self.hosts[at as usize];
        while let Some(key) = h.advance.front().copied() {
            let Some(s) = self.sent.get_mut(&key) else {
                h.advance.pop_front();
                continue;
            };
            if !h.has_for(&s.claim) {
                break;
            }
            h.advance.pop_front();
            h.seat(&s.claim);
            s.advance = false;
            self.strays.forget(s.due, key);
            s.due = now + stray::SEATED;
            self.strays.wait(s.due, key, false);
        }
    }

    /// Something changed on a host: it may have more than before.
    fn host_event(&mut self, at: u32) {
        self.sort_host(at);
        if !self.hosts[at as usize].usable {
            self.lift_at(at);
            return self.freshen(at, None);
        }
        self.strays.room();
        if !self.shut.is_empty() {
            self.freshen(at, Some(Place::FIRST));
        }
    }

    /// A host is fresh, and nothing before that place is for it; `None`: nothing is.
    fn freshen(&mut self, at: u32, place: Option<Place>) {
        let h = &mut self.hosts[at as usize];
        if let Some(old) = std::mem::replace(&mut h.fresh, place) {
            self.fresh.remove(&(old, at));
        }
        if let Some(new) = place {
            self.fresh.insert((new, at));
        }
    }

    /// Puts a host where it belongs.
    fn sort_host(&mut self, at: u32) {
        let h = &self.hosts[at as usize];
        self.rooms.set(at, h.usable.then(|| h.room_cores()));
        self.ahead.set(at, h.may_hold().then_some(0));
    }

    /// Changes who stands in a line, and keeps the heads right.
    fn change_queue(&mut self, at: u32, change: impl FnOnce(&mut BTreeSet<Place>)) {
        let line = &mut self.lines[at as usize];
        let before = line.head();
        change(&mut line.queue);
        let after = line.head();
        if before == after {
            return;
        }
        let search = line.search;
        if let Some(b) = before {
            let set = if search { &mut self.open } else { &mut self.shut };
            set.remove(&(b, at));
        }
        let Some(a) = after else { return };
        if before.is_none() || search {
            // Nobody has looked for room for an empty line.
            self.lines[at as usize].search = true;
            self.open.insert((a, at));
            return;
        }
        self.shut.insert((a, at));
        if before.is_some_and(|b| a < b) {
            // Fresh hosts have seen less.
            let late: Vec<u32> = self.fresh.range((a, 0)..).map(|(_, h)| *h).collect();
            for h in late {
                self.freshen(h, Some(a));
            }
        }
    }
}
