//! Output is brought home: where a host did not see the directory of the submission, the output of its attempts is
//! fetched from there. Knows which host has something and which one wants it; not how it travels.
//!
//! For a job and a host there is one delivery at a time. What ends while it is under way goes with the next one;
//! while an array runs there is one each ten seconds.

use super::table::Live;
use super::{Leader, LeaderEffect, Timer, log};
use crate::engine::types::Level;
use crate::store::{DeliveryRow, Op};
use libqueue::wire::job::{Delivered, Outcome};
use std::collections::BTreeMap;

/// An array's output is fetched from a host no more often.
const ARRAY: u64 = 10_000;
/// First pause after a failure; doubled each time.
const PAUSE: u64 = 5000;
/// Longest pause.
const PAUSE_MAX: u64 = 600_000;

/// A delivery.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    /// What is on disk of it.
    pub row: DeliveryRow,
    /// It was sent over this connection; 0: it waits.
    pub conn: u64,
    /// Not to be tried before.
    pub due: u64,
    /// Something more ended there since it was sent.
    pub again: bool,
}

/// All deliveries.
#[derive(Debug, Default)]
pub(crate) struct Home {
    /// By number.
    pub deliveries: BTreeMap<u64, Delivery>,
    by: BTreeMap<(u64, String), u64>,
    last: u64,
}

impl Home {
    /// A connection ended: what went over it has to be sent again.
    pub(super) fn unlinked(&mut self, conn: u64) {
        for d in self.deliveries.values_mut().filter(|d| d.conn == conn) {
            (d.conn, d.due) = (0, 0);
        }
    }

    /// What the store has.
    pub(super) fn load(&mut self, rows: Vec<DeliveryRow>, last_number: u64) {
        self.last = last_number;
        for row in rows {
            self.last = self.last.max(row.number);
            self.add(row, 0);
        }
    }

    fn add(&mut self, row: DeliveryRow, due: u64) {
        self.by.insert((row.job, row.from.clone()), row.number);
        let delivery = Delivery {
            conn: 0,
            due,
            again: false,
            row,
        };
        self.deliveries.insert(delivery.row.number, delivery);
    }

    fn remove(&mut self, number: u64) -> Option<Delivery> {
        let d = self.deliveries.remove(&number)?;
        self.by.remove(&(d.row.job, d.row.from.clone()));
        Some(d)
    }
}

impl Leader {
    /// A host has output of a job that is to be brought home; an empty name: only the file that was made to find out
    /// who sees the directory is to be removed.
    pub(super) fn fetch(&mut self, job: u64, from: &str, out: &mut Vec<LeaderEffect>) {
        let now = self.clock.boot;
        let Some(j) = self.job(job) else { return };
        let wait = if j.tasks.is_array() && j.ended.is_none() {
            ARRAY
        } else {
            0
        };
        let to = j.row.submit_host.clone();
        if let Some(number) = self.home.by.get(&(job, from.to_owned())) {
            if let Some(d) = self.home.deliveries.get_mut(number) {
                d.again |= d.conn != 0;
            }
            return;
        }
        self.home.last += 1;
        let row = DeliveryRow {
            number: self.home.last,
            job,
            from: from.to_owned(),
            to,
            tries: 0,
        };
        out.push(LeaderEffect::Store(Op::Delivery(row.clone())));
        let number = row.number;
        self.home.add(row, now + wait);
        self.try_or_wait(number, out);
    }

    fn try_or_wait(&mut self, number: u64, out: &mut Vec<LeaderEffect>) {
        let now = self.clock.boot;
        let Some(d) = self.home.deliveries.get_mut(&number) else {
            return;
        };
        if d.conn != 0 {
            return;
        }
        if d.due > now {
            let due = d.due;
            return self.timer(due, Timer::Delivery(number));
        }
        // Without a connection it is sent after the next hello.
        let Some(link) = self.hosts.get(&d.row.to).and_then(|h| h.link.as_ref()) else {
            return;
        };
        d.conn = link.conn;
        out.push(LeaderEffect::Deliver {
            conn: link.conn,
            job: d.row.job,
            from: d.row.from.clone(),
            number,
        });
    }

    /// A delivery may be due.
    pub(super) fn delivery_due(&mut self, number: u64, out: &mut Vec<LeaderEffect>) {
        self.try_or_wait(number, out);
    }

    /// A host is there again: what comes from it or goes to it is tried at once.
    pub(super) fn deliveries_of(&mut self, host: &str, out: &mut Vec<LeaderEffect>) {
        let all = self.home.deliveries.values_mut();
        let mine = all.filter(|d| d.conn == 0 && (d.row.to == host || d.row.from == host));
        let numbers: Vec<u64> = mine
            .map(|d| {
                d.due = 0;
                d.row.number
            })
            .collect();
        for number in numbers {
            self.try_or_wait(number, out);
        }
    }

    /// A host says what became of a delivery.
    pub(super) fn delivered(&mut self, host: &str, d: &Delivered, out: &mut Vec<LeaderEffect>) {
        let now = self.clock.boot;
        let Some(delivery) = self.home.deliveries.get_mut(&d.number) else {
            return;
        };
        if delivery.row.to != host || delivery.conn == 0 {
            return;
        }
        if !d.failed.is_empty() && !d.hopeless {
            delivery.row.tries += 1;
            let pause = PAUSE << (delivery.row.tries - 1).min(10);
            delivery.due = now + pause.min(PAUSE_MAX);
            delivery.conn = 0;
            out.push(LeaderEffect::Store(Op::Delivery(delivery.row.clone())));
            return self.try_or_wait(d.number, out);
        }
        let Some(delivery) = self.home.remove(d.number) else {
            return;
        };
        out.push(LeaderEffect::Store(Op::DeliveryGone(d.number, d.failed.clone())));
        let (job, from) = (delivery.row.job, &delivery.row.from);
        if !d.failed.is_empty() {
            let text = format!("output of job {job} stays on {from}: {}", d.failed);
            log(out, Level::Warn, text);
        } else if delivery.again {
            self.fetch(job, from, out);
        }
    }

    /// An attempt has ended: whether its host saw the directory of the submission.
    pub(super) fn at_home(&mut self, live: &Live, outcome: &Outcome, out: &mut Vec<LeaderEffect>) {
        let Some(job) = self.jobs.get_mut(&live.row.key.job) else {
            return;
        };
        let host = &live.row.host;
        let wrote = !outcome.output.is_empty() && !outcome.spooled;
        let known = job.row.submit_host == *host || job.row.home_hosts.iter().any(|h| h == host);
        // A session that sees the directory removes the file when it starts, if it was told to.
        job.file_gone |= live.last && outcome.started_ms > 0 && (known || wrote);
        // Only who was found to see it by the file that was made for that counts.
        if wrote && !known && job.row.home_hosts.first() == Some(&job.row.submit_host) {
            job.row.home_hosts.push(host.clone());
            out.push(LeaderEffect::Store(Op::Row(Box::new(job.row.clone()))));
        }
    }

    /// All tasks of a job are over: what is still out is fetched now, and the file that was made for it is removed.
    pub(super) fn home_at_end(&mut self, id: u64, out: &mut Vec<LeaderEffect>) {
        let Some(job) = self.jobs.get(&id) else { return };
        let made = job.row.home_hosts.first() == Some(&job.row.submit_host) && !job.file_gone;
        let from = (id, String::new())..=(id, char::MAX.to_string());
        let numbers: Vec<u64> = self.home.by.range(from).map(|(_, n)| *n).collect();
        let none = numbers.is_empty();
        for number in numbers {
            if let Some(d) = self.home.deliveries.get_mut(&number) {
                d.due = d.due.min(self.clock.boot);
            }
            self.try_or_wait(number, out);
        }
        // A delivery removes it as well.
        if made && none {
            self.fetch(id, "", out);
        }
    }

    /// A job is deleted: nobody wants its output.
    pub(super) fn drop_deliveries(&mut self, id: u64, out: &mut Vec<LeaderEffect>) {
        let from = (id, String::new())..=(id, char::MAX.to_string());
        let numbers: Vec<u64> = self.home.by.range(from).map(|(_, n)| *n).collect();
        for number in numbers {
            self.home.remove(number);
            out.push(LeaderEffect::Store(Op::DeliveryGone(
                number,
                "the job was deleted".to_owned(),
            )));
        }
    }
}
