//! A page of jobs. Of an array with a million tasks only the rows of the page are made: the others are counted, or
//! compared by a number each.

use super::which::{Hit, How};
use super::{refuse, reply};
use crate::engine::jobs::leader::Leader;
use crate::engine::jobs::leader::table::{Job, Stage};
use crate::engine::jobs::types::{Asker, Clock, LeaderEffect};
use crate::engine::types::AskId;
use libqueue::wire::ErrorCode;
use libqueue::wire::job::{List, Page, job_reply};
use std::collections::BTreeMap;
use std::iter::Peekable;

/// Rows of a page, if nothing is said, and at most.
const PAGE: u32 = 1000;
const PAGE_MAX: u32 = 10_000;
/// Who watches is told so often at most, in milliseconds.
const EVERY: u64 = 500;

/// What a page is sorted by.
const SORTS: [&str; 9] = [
    "id",
    "priority",
    "state",
    "user",
    "name",
    "host",
    "submitted",
    "started",
    "time",
];

/// Somebody watches a page.
#[derive(Debug)]
pub(super) struct Watch {
    who: Asker,
    list: List,
    /// What he was told last.
    last: Page,
    /// Not to be told again before.
    next: u64,
    pub(super) due: Option<u64>,
}

impl Leader {
    /// Answers with a page, and goes on if it is watched.
    pub(super) fn list(
        &mut self,
        clock: Clock,
        ask: AskId,
        who: &Asker,
        list: List,
        out: &mut Vec<LeaderEffect>,
    ) {
        let name = list.sort.trim_start_matches('-');
        if !(name.is_empty() || SORTS.contains(&name)) {
            let text = format!("cannot sort by `{name}`: {}", SORTS.join(", "));
            return refuse(ask, ErrorCode::BadRequest, text, out);
        }
        let page = self.page(who, &list);
        reply(ask, job_reply::Kind::Page(page.clone()), !list.watch, out);
        if list.watch {
            let watch = Watch {
                who: who.clone(),
                list,
                last: page,
                next: clock.boot + EVERY,
                due: None,
            };
            self.watchers.lists.insert(ask, watch);
        }
    }

    /// If something changed, whoever watches is to be told soon.
    pub(super) fn watch_lists(&mut self, clock: Clock, changed: bool) {
        let seen = (
            self.jobs.len(),
            self.ended.len(),
            self.next_order,
            self.over.len(),
        );
        if std::mem::replace(&mut self.watchers.seen, seen) == seen && !changed {
            return;
        }
        let mut lists = std::mem::take(&mut self.watchers.lists);
        for (ask, w) in &mut lists {
            self.watchers.remind(*ask, &mut w.due, w.next.max(clock.boot));
        }
        self.watchers.lists = lists;
    }

    /// Tells who watches, if the page is another one.
    pub(super) fn list_again(&mut self, clock: Clock, ask: AskId, out: &mut Vec<LeaderEffect>) {
        let Some(mut w) = self.watchers.lists.remove(&ask) else {
            return;
        };
        w.due = None;
        w.next = clock.boot + EVERY;
        let page = self.page(&w.who, &w.list);
        if page.jobs != w.last.jobs || page.total != w.last.total {
            reply(ask, job_reply::Kind::Page(page.clone()), false, out);
            w.last = page;
        }
        self.watchers.lists.insert(ask, w);
    }

    /// A page.
    pub(super) fn page(&self, who: &Asker, list: &List) -> Page {
        let which = list.which.clone().unwrap_or_default();
        let how = How {
            // Who names a job, or a state of the end, wants to see it although it is over.
            ended: list.ended || !which.ids.is_empty() || !which.states.is_empty(),
            tasks: list.tasks,
            look: true,
        };
        let hits = self.chosen(who, &which, how);
        let limit = match list.limit {
            0 => PAGE,
            n => n.min(PAGE_MAX),
        } as usize;
        // Tasks that were asked for by number are shown as such.
        let split =
            |h: &Hit<'_>| h.job.tasks.is_array() && (list.tasks || h.part != super::which::Part::Whole);
        let rows = |h: &Hit<'_>| if split(h) { h.units() } else { 1 };
        let total: usize = hits.iter().map(rows).sum();
        let offset = usize::try_from(list.offset).unwrap_or(usize::MAX).min(total);
        let (name, down) = match list.sort.strip_prefix('-') {
            Some(n) => (n, true),
            None => (list.sort.as_str(), false),
        };
        let chosen: Vec<(u32, u32)> = if matches!(name, "" | "id") {
            slice(&hits, rows, offset, limit, down)
        } else {
            self.sorted(&hits, split, name, down, offset, limit)
        };
        let row = |(h, n): (u32, u32)| {
            let hit = &hits[h as usize];
            self.row(who, hit.job, split(hit).then(|| hit.unit(n as usize)))
        };
        Page {
            jobs: chosen.into_iter().map(row).collect(),
            total: total as u64,
            now_ms: self.clock.wall,
        }
    }

    /// The rows of a page by something else than the number: each row is a number by which it is compared.
    fn sorted(
        &self,
        hits: &[Hit<'_>],
        split: impl Fn(&Hit<'_>) -> bool,
        name: &str,
        down: bool,
        offset: usize,
        limit: usize,
    ) -> Vec<(u32, u32)> {
        let mut all: Vec<(u64, u32, u32)> = Vec::new();
        let ranks = self.ranks(hits, name);
        for (h, hit) in (0..).zip(hits) {
            if !split(hit) {
                let index = (!hit.job.tasks.is_array()).then_some(0);
                all.push((self.rank(hit.job, index, name, &ranks), h, 0));
                continue;
            }
            // Most tasks of a large array have nothing of their own: they are not looked up one by one.
            let job = hit.job;
            let blocked = job.blocked(self.clock.wall);
            let states = Stage::ALL.map(|s| s.state(blocked) as u64);
            let own = matches!(name, "started" | "time" | "host");
            let plain = if own {
                0
            } else {
                self.rank(job, None, name, &ranks)
            };
            let mut known = job.tasks.extras().keys().copied().peekable();
            for n in 0..hit.units() {
                let i = hit.unit(n);
                let rank = if name == "state" {
                    states[job.tasks.stage(i) as usize]
                } else if own && is_next(&mut known, i) {
                    self.rank(job, Some(i), name, &ranks)
                } else {
                    plain
                };
                all.push((rank, h, n as u32));
            }
        }
        if down {
            for r in &mut all {
                r.0 = u64::MAX - r.0;
            }
        }
        let end = offset.saturating_add(limit).min(all.len());
        if end < all.len() {
            all.select_nth_unstable(end);
            all.truncate(end);
        }
        if offset > 0 && offset < all.len() {
            all.select_nth_unstable(offset);
        }
        let page = all.get_mut(offset..).unwrap_or_default();
        page.sort_unstable();
        page.iter().map(|(_, h, n)| (*h, *n)).collect()
    }

    /// Texts by which rows are sorted, each with its place.
    fn ranks(&self, hits: &[Hit<'_>], name: &str) -> BTreeMap<String, u64> {
        let mut texts = BTreeMap::new();
        for h in hits {
            let r = &h.job.row;
            match name {
                "user" => texts.insert(r.owner.clone(), 0),
                "name" => texts.insert(r.plan.name.clone(), 0),
                "host" => {
                    for i in h.job.tasks.extras().keys() {
                        texts.insert(self.host_of(h.job, *i).to_owned(), 0);
                    }
                    None
                }
                _ => None,
            };
        }
        for (n, v) in (1..).zip(texts.values_mut()) {
            *v = n;
        }
        texts
    }

    /// A number by which a row is compared.
    fn rank(&self, job: &Job, task: Option<u32>, name: &str, ranks: &BTreeMap<String, u64>) -> u64 {
        let place = |t: &str| ranks.get(t).copied().unwrap_or_default();
        let wall = self.clock.wall;
        let times = || {
            let i = task?;
            if let Some(l) = self.live_of(job, i) {
                let from = l.row.started_ms;
                return (from > 0).then(|| (from, wall.saturating_sub(from)));
            }
            let f = job.tasks.extra(i)?.fate.as_ref()?;
            Some((f.outcome.started_ms, f.outcome.wall_ms))
        };
        match name {
            // Shifted, so that negative ones come first.
            "priority" => (i64::from(job.priority()) + (1 << 32)) as u64,
            "state" => match task {
                Some(i) => job.task_state(i, wall) as u64,
                None => job.state(wall) as u64,
            },
            "user" => place(&job.row.owner),
            "name" => place(&job.row.plan.name),
            "host" => task.map_or(0, |i| place(self.host_of(job, i))),
            "submitted" => job.row.submitted_ms,
            "started" => times().map_or(0, |t| t.0),
            "time" => times().map_or(0, |t| t.1),
            _ => job.row.id,
        }
    }
}

/// Whether the number is the next one of some that ascend; those before it are dropped.
fn is_next(all: &mut Peekable<impl Iterator<Item = u32>>, n: u32) -> bool {
    while all.next_if(|k| *k < n).is_some() {}
    all.next_if_eq(&n).is_some()
}

/// Rows of a page by number: those before and after it are only counted.
fn slice(
    hits: &[Hit<'_>],
    rows: impl Fn(&Hit<'_>) -> usize,
    offset: usize,
    limit: usize,
    down: bool,
) -> Vec<(u32, u32)> {
    let mut found = Vec::new();
    let mut skip = offset;
    let count = hits.len();
    for k in 0..count {
        let h = if down { count - 1 - k } else { k };
        let n = rows(&hits[h]);
        if skip >= n {
            skip -= n;
            continue;
        }
        for x in skip..n {
            if found.len() == limit {
                return found;
            }
            let x = if down { n - 1 - x } else { x };
            found.push((h as u32, x as u32));
        }
        skip = 0;
    }
    found
}
