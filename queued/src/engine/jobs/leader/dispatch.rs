//! Sends attempts to hosts: keeps the scheduler's queues as jobs want them, and makes an attempt of each of its picks.
//! An attempt is on disk before it goes out. Knows what a job wants; where there is room, the scheduler knows.

use super::table::{Live, Phase, Stage};
use super::{Leader, LeaderEffect};
use crate::engine::jobs::schedule::{Entry, Pick, Shape};
use crate::store::{AttemptRow, Op};
use libqueue::wire::job::{Attempt, Dispatch, Key, Params, Restart, down};
use std::collections::BTreeSet;

/// At most so many attempts go in one message.
const PART: usize = 256;

/// What goes to one host with this input.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    attempts: Vec<Attempt>,
    runs: Vec<u64>,
    entries: BTreeSet<u64>,
}

impl Leader {
    /// Looks at all jobs that changed, and sends what can be sent.
    pub(super) fn send_out(&mut self, out: &mut Vec<LeaderEffect>) {
        loop {
            self.refresh_all(out);
            while let Some(pick) = self.sched.pick(self.clock.boot) {
                self.take(&pick, out);
            }
            if !self.let_in() && self.dirty.is_empty() {
                break;
            }
        }
        for key in self.sched.misplaced(self.clock.boot) {
            self.revoke(key, out);
        }
        self.flush(out);
    }

    fn refresh_all(&mut self, out: &mut Vec<LeaderEffect>) {
        self.let_in();
        while let Some(id) = self.dirty.pop_first() {
            self.lend(id, out);
            self.refresh(id);
        }
    }

    /// Puts a job where it belongs: into the scheduler's queues, among those that wait for a unit, or nowhere.
    fn refresh(&mut self, id: u64) {
        let wall = self.clock.wall;
        let Some(job) = self.jobs.get(&id) else { return };
        let ready = job.ready(wall);
        if ready == 0 {
            if job.row.plan.at_ms > wall {
                // Its time had come, and the wall clock was set back.
                self.at.insert((job.row.plan.at_ms, id));
            }
            return self.withdraw(id);
        }
        if !self.enter(id) {
            if let Some(job) = self.jobs.get_mut(&id)
                && std::mem::take(&mut job.put) > 0
            {
                self.sched.take_out(id);
            }
            return;
        }
        let Some(job) = self.jobs.get_mut(&id).filter(|j| j.put != ready) else {
            return;
        };
        job.put = ready;
        let entry = Entry {
            job: id,
            shape: Shape {
                need: job.need(),
                host: job.row.plan.host.clone(),
                prefer: job.row.plan.prefer.clone(),
            },
            priority: job.priority(),
            order: job.order,
            ready,
        };
        self.sched.put(entry);
    }

    fn take(&mut self, pick: &Pick, out: &mut Vec<LeaderEffect>) {
        let linked = self
            .hosts
            .get(&pick.host)
            .is_some_and(|h| h.is_linked() && !h.dead);
        if !linked {
            return self.sched.host_gone(&pick.host);
        }
        let wall = self.clock.wall;
        let Some(job) = self.jobs.get(&pick.job).filter(|j| j.ready(wall) > 0) else {
            if let Some(job) = self.jobs.get_mut(&pick.job) {
                job.put = 0;
            }
            self.dirty.insert(pick.job);
            return self.sched.take_out(pick.job);
        };
        if self.has_units(job) {
            self.send(pick.job, &pick.host, None, out);
        } else {
            // It was let in when there was a unit; another one took it.
            self.withdraw(pick.job);
        }
        if let Some(job) = self.jobs.get_mut(&pick.job) {
            if job.put > 0 {
                job.put = u32::MAX;
            }
            self.refresh(pick.job);
        }
    }

    /// Makes the next attempt of a job, for a host.
    fn send(&mut self, id: u64, host: &str, lent: Option<Key>, out: &mut Vec<LeaderEffect>) {
        let clock = self.clock;
        let Some(index) = self.jobs.get_mut(&id).and_then(|j| j.tasks.next()) else {
            return;
        };
        if let Some(job) = self.jobs.get_mut(&id) {
            job.tasks.extra_mut(index).attempt += 1;
        }
        self.stage(id, index, Stage::Sent);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.live += 1;
        let key = job.key(index);
        let plan = &job.row.plan;
        let lease_ms = if plan.restart == Restart::Restart as i32 {
            plan.lease_ms
        } else {
            0
        };
        let need = job.need();
        let params = params(job, index, host);
        let last = params.last;
        let attempt = Attempt {
            key: Some(key),
            need: Some(need.clone()),
            params: Some(params),
            lease_ms,
            parent: plan.parent,
        };
        let Some(state) = self.hosts.get_mut(host) else {
            return;
        };
        let row = AttemptRow {
            key,
            host: host.to_owned(),
            life: state.life.clone(),
            epoch: self.epoch,
            sent_ms: clock.wall,
            lease_ms,
            started_ms: 0,
        };
        out.push(LeaderEffect::Store(Op::Attempt(row.clone())));
        state.attempts.insert(key);
        let batch = self.batch.entry(host.to_owned()).or_default();
        let mut conn = 0;
        if let Some(link) = &mut state.link {
            conn = link.conn;
            if link.runs.insert(id) {
                batch.runs.push(id);
                job.sent_to.retain(|c| self.conns.contains_key(c));
                job.sent_to.push(conn);
            }
        }
        if job.row.entries {
            batch.entries.insert(id);
        }
        batch.attempts.push(attempt);
        if lent.is_none() {
            self.sched.sent(clock.boot, host, key, &need);
        }
        let live = Live {
            row,
            need,
            phase: Phase::Sent,
            running: None,
            conn,
            old: false,
            revoked: false,
            kill: None,
            lost: false,
            lease_until: if lease_ms > 0 { clock.boot + lease_ms } else { 0 },
            lent,
            last,
        };
        self.live.insert(key, live);
        self.take_units(id);
    }

    /// A job that another one submitted and waits for is sent to that one's host, to run in its slot: without that,
    /// jobs that wait for others could fill all hosts.
    fn lend(&mut self, id: u64, out: &mut Vec<LeaderEffect>) {
        let wall = self.clock.wall;
        let Some(job) = self.jobs.get(&id) else { return };
        let Some(parent) = job.row.plan.parent else { return };
        let Some(live) = self
            .live
            .get(&parent)
            .filter(|l| l.phase == Phase::Running && !l.old)
        else {
            return;
        };
        let (need, room) = (job.need(), &live.need);
        let fits = need.cores <= room.cores && need.gpus <= room.gpus && need.mem <= room.mem.max(1 << 30);
        let host = live.row.host.clone();
        let there = job.row.plan.host.is_empty() || job.row.plan.host == host;
        let linked = self.hosts.get(&host).is_some_and(|h| h.is_linked() && !h.dead);
        let busy = self.children.get(&parent).is_some_and(|c| c.lent);
        if fits && there && linked && !busy && job.ready(wall) > 0 && self.has_units(job) {
            self.withdraw(id);
            self.children.entry(parent).or_default().lent = true;
            self.send(id, &host, Some(parent), out);
        }
    }

    /// Asks an attempt back that has not started.
    pub(super) fn revoke(&mut self, key: Key, out: &mut Vec<LeaderEffect>) {
        let Some(live) = self.live.get_mut(&key) else {
            return;
        };
        if live.phase != Phase::Sent || live.revoked || live.old {
            return;
        }
        live.revoked = true;
        let link = self.hosts.get(&live.row.host).and_then(|h| h.link.as_ref());
        if let Some(link) = link {
            out.push(LeaderEffect::Send {
                conn: link.conn,
                message: down::Kind::Revoke(key),
            });
        }
    }

    fn flush(&mut self, out: &mut Vec<LeaderEffect>) {
        while let Some((host, batch)) = self.batch.pop_first() {
            let Some(link) = self.hosts.get(&host).and_then(|h| h.link.as_ref()) else {
                continue;
            };
            let mut attempts = batch.attempts;
            let (mut runs, entries) = (batch.runs, batch.entries);
            while !attempts.is_empty() {
                let rest = attempts.split_off(attempts.len().min(PART));
                let here: BTreeSet<u64> = attempts.iter().filter_map(|a| a.key).map(|k| k.job).collect();
                let (now, later): (Vec<u64>, Vec<u64>) = runs.into_iter().partition(|r| here.contains(r));
                runs = later;
                out.push(LeaderEffect::Dispatch {
                    conn: link.conn,
                    dispatch: Dispatch {
                        epoch: self.epoch,
                        link: link.link,
                        runs: Vec::new(),
                        attempts,
                    },
                    runs: now,
                    entries: entries.intersection(&here).copied().collect(),
                });
                attempts = rest;
            }
        }
    }
}

fn params(job: &super::Job, index: u32, host: &str) -> Params {
    let plan = &job.row.plan;
    let need = job.need();
    let extra = job.tasks.extra(index);
    let tries = extra.map_or(0, |e| e.failures);
    let only = job.tasks.idle() == 0 && job.live <= 1;
    Params {
        key: Some(job.key(index)),
        entry: None,
        entry_index: index,
        entry_proof: Vec::new(),
        time_ms: plan.time_ms,
        warn_signal: plan.warn_signal,
        warn_ms: plan.warn_ms,
        mem: need.mem,
        home_here: job.row.submit_host == host || job.row.home_hosts.iter().any(|h| h == host),
        last: only && tries >= plan.retries.unwrap_or(0) && plan.restart != Restart::Restart as i32,
        restarts: tries + extra.map_or(0, |e| e.troubles),
        cores: need.cores,
    }
}
