//! Connections with hosts: hellos, and comparing what a host has with what is written. Knows which message belongs to
//! which connection; what an outcome means is decided elsewhere.
//!
//! What a complete hello does not name is not there: an attempt that went out on an earlier connection and never
//! started cannot start any more, because hosts take attempts only of the connection on which they came. One that
//! went out on the connection of the hello is not judged by it, as it may still be on its way.

use super::table::{HostState, Link, Phase, Stage};
use super::{Leader, LeaderEffect, Timer, log};
use crate::engine::jobs::types::HostView;
use crate::engine::types::Level;
use crate::store::Op;
use libqueue::wire::job::{
    Block, Cause, Held, Key, KillAttempt, Outcome, Renew, Renewed, Welcome, WorkHello, down,
};
use std::collections::BTreeSet;

/// Numbers in a host's first block, and in its largest.
const BLOCK: (u64, u64) = (100, 10_000);
/// A host that uses its block up in this time gets twice as many.
const BLOCK_QUICK: u64 = 10_000;

impl Leader {
    /// A host opens a connection, or says again what it has.
    pub(super) fn hello(&mut self, host: &str, conn: u64, hello: &WorkHello, out: &mut Vec<LeaderEffect>) {
        let boot = self.clock.boot;
        let new = !self.conns.contains_key(&conn);
        let state = self.hosts.entry(host.to_owned()).or_default();
        let current = state.link.as_ref().map(|l| l.conn);
        if (new && hello.link <= state.last_link) || (!new && current != Some(conn)) {
            return out.push(LeaderEffect::Close {
                conn,
                why: format!("{host} has a newer connection"),
            });
        }
        if new && let Some(old) = current {
            self.conns.remove(&old);
            self.post.mailer(host, old, false);
            self.home.unlinked(old);
            out.push(LeaderEffect::Close {
                conn: old,
                why: format!("{host} has a newer connection"),
            });
        }
        self.outdone(host, hello, out);
        let state = self.hosts.entry(host.to_owned()).or_default();
        if new {
            state.last_link = hello.link;
            state.link = Some(Link {
                conn,
                link: hello.link,
                complete: false,
                runs: BTreeSet::new(),
            });
            self.conns.insert(conn, host.to_owned());
        }
        if !hello.life.is_empty() {
            state.life.clone_from(&hello.life);
        }
        let complete = hello.complete && !hello.life.is_empty();
        if let Some(link) = &mut state.link {
            link.complete = complete;
        }
        // What it does not name may still be lost: it has as long as any other to name it.
        state.lost = false;
        state.away = (!complete).then_some(boot);
        if !complete {
            self.timer(boot + super::lost::AWAY, Timer::Away(host.to_owned()));
        }
        out.push(LeaderEffect::Send {
            conn,
            message: down::Kind::Welcome(Welcome {
                epoch: self.epoch,
                link: hello.link,
            }),
        });
        self.post.mailer(host, conn, hello.mailer);
        for held in &hello.held {
            self.held(host, conn, held, out);
        }
        if complete {
            self.absent(host, conn, hello, out);
        }
        self.show_host(host);
        self.deliveries_of(host, out);
    }

    /// A host has heard of a later leader, or of numbers that nobody gave: the store is older than what was done with
    /// it. What was given away since then must not be given again.
    fn outdone(&mut self, host: &str, hello: &WorkHello, out: &mut Vec<LeaderEffect>) {
        let held = hello.held.iter().filter_map(|h| h.key).map(|k| k.job);
        let highest = held.chain([hello.block_used]).max().unwrap_or(0);
        if highest >= self.next_id && highest < u64::MAX - 2 * BLOCK.1 {
            self.next_id = highest + BLOCK.1;
            out.push(LeaderEffect::Store(Op::NextId(self.next_id)));
            let text =
                format!("{host} knows of job {highest}, which this store does not: is it an old copy?");
            log(out, Level::Error, text);
        }
        if hello.epoch > self.epoch {
            self.epoch = hello.epoch + 1;
            out.push(LeaderEffect::Store(Op::Epoch(self.epoch)));
            let text = format!("{host} knows a later leader than this store does: is it an old copy?");
            log(out, Level::Error, text);
            // All others have to hear of the new number.
            let conns: Vec<(u64, String)> = std::mem::take(&mut self.conns).into_iter().collect();
            for (conn, other) in conns {
                self.conns.insert(conn, other.clone());
                self.unlinked(&other, conn);
                out.push(LeaderEffect::Close {
                    conn,
                    why: "the leader has a new epoch".to_owned(),
                });
            }
        }
    }

    /// A host names an attempt that it has.
    fn held(&mut self, host: &str, conn: u64, held: &Held, out: &mut Vec<LeaderEffect>) {
        let Some(key) = held.key else { return };
        if held.ended.is_some() {
            return self.attempt_ended(host, conn, key, held.ended.clone(), out);
        }
        let Some(live) = self.live.get_mut(&key).filter(|l| l.row.host == host) else {
            return self.kill_stray(conn, key, out);
        };
        live.lost = false;
        if live.old {
            let kill = live.kill.clone();
            return match kill {
                Some(kill) => out.push(LeaderEffect::Send {
                    conn,
                    message: down::Kind::Kill(kill),
                }),
                None => self.kill_stray(conn, key, out),
            };
        }
        let (kill, revoked) = (live.kill.clone(), live.revoked);
        if held.running.is_some() && live.phase == Phase::Sent {
            self.started(host, conn, key, held.running.clone(), out);
        }
        let Some(live) = self.live.get_mut(&key) else {
            return;
        };
        if held.running.is_some() {
            live.running.clone_from(&held.running);
            live.phase = if held.stopped {
                Phase::Stopped
            } else {
                Phase::Running
            };
        }
        let to = stage_of(live.phase);
        if let Some(index) = self.index(key) {
            self.stage(key.job, index, to);
        }
        if let Some(kill) = kill {
            out.push(LeaderEffect::Send {
                conn,
                message: down::Kind::Kill(kill),
            });
        } else if revoked && to == Stage::Sent {
            out.push(LeaderEffect::Send {
                conn,
                message: down::Kind::Revoke(key),
            });
        }
    }

    /// An attempt runs somewhere that is not known here, or another one took its place.
    pub(super) fn kill_stray(&self, conn: u64, key: Key, out: &mut Vec<LeaderEffect>) {
        out.push(LeaderEffect::Send {
            conn,
            message: down::Kind::Kill(KillAttempt {
                key: Some(key),
                signal: 0,
                by: format!("the leader {}", self.host),
                cause: Cause::Superseded as i32,
            }),
        });
    }

    /// Ends what a host should have and does not.
    fn absent(&mut self, host: &str, conn: u64, hello: &WorkHello, out: &mut Vec<LeaderEffect>) {
        let Some(state) = self.hosts.get(host) else { return };
        let held: BTreeSet<Key> = hello.held.iter().filter_map(|h| h.key).collect();
        let absent = state.attempts.difference(&held).copied();
        let absent: Vec<Key> = absent
            .filter(|k| self.live.get(k).is_some_and(|l| l.conn != conn))
            .collect();
        for key in absent {
            let Some(live) = self.live.get(&key) else { continue };
            let outcome = if live.row.life != hello.life {
                Outcome {
                    cause: Cause::SessionLost as i32,
                    text: format!("{host} was restarted while it ran"),
                    ..Outcome::default()
                }
            } else if live.phase == Phase::Sent {
                Outcome {
                    cause: Cause::NotStarted as i32,
                    text: format!("{host} did not start it before the connection broke"),
                    ..Outcome::default()
                }
            } else {
                Outcome {
                    cause: Cause::SessionLost as i32,
                    text: format!("{host} does not know it any more"),
                    ..Outcome::default()
                }
            };
            self.end_attempt(key, &outcome, None, out);
        }
    }

    /// A connection ended.
    pub(super) fn unlinked(&mut self, host: &str, conn: u64) {
        let boot = self.clock.boot;
        if self.conns.remove(&conn).is_none() {
            return;
        }
        self.post.mailer(host, conn, false);
        self.home.unlinked(conn);
        let Some(state) = self.hosts.get_mut(host) else {
            return;
        };
        if state.link.as_ref().is_none_or(|l| l.conn != conn) {
            return;
        }
        state.link = None;
        if state.away.is_none() {
            state.away = Some(boot);
        }
        self.timer(boot + super::lost::AWAY, Timer::Away(host.to_owned()));
        if self.hosts.get(host).is_some_and(|h| h.dead) {
            self.timer(boot, Timer::Away(host.to_owned()));
        }
        self.show_host(host);
    }

    /// The scheduler is to know whether a host can be sent anything.
    pub(super) fn show_host(&mut self, host: &str) {
        let Some(state) = self.hosts.get(host) else { return };
        let linked = state.is_linked();
        match &state.view {
            Some(view) => self.sched.host(view, linked),
            None => {
                let view = HostView {
                    name: host.to_owned(),
                    dead: state.dead,
                    facts: None,
                    load: None,
                };
                self.sched.host(&view, linked);
            }
        }
    }

    /// Membership says something of hosts.
    pub(super) fn host_views(&mut self, views: Vec<HostView>) {
        let boot = self.clock.boot;
        for view in views {
            let name = view.name.clone();
            let state = self.hosts.entry(name.clone()).or_default();
            state.member = true;
            if view.dead && !state.dead {
                state.dead_since = boot;
                self.timers
                    .insert((boot + super::lost::DEAD, Timer::Away(name.clone())));
            }
            state.dead = view.dead;
            state.view = Some(view);
            self.show_host(&name);
        }
    }

    /// These hosts are no longer members: what ran there is lost at once.
    pub(super) fn hosts_gone(&mut self, names: &[String], out: &mut Vec<LeaderEffect>) {
        for name in names {
            let Some(state) = self.hosts.get_mut(name) else {
                continue;
            };
            state.member = false;
            state.dead = true;
            state.view = None;
            if let Some(conn) = state.link.as_ref().map(|l| l.conn) {
                self.unlinked(name, conn);
                out.push(LeaderEffect::Close {
                    conn,
                    why: format!("{name} is no longer a member"),
                });
            }
            self.lose(name, out);
            self.removed(name, out);
            self.sched.host_gone(name);
            if self.hosts.get(name).is_some_and(|h| h.attempts.is_empty()) {
                let block = self.hosts.get(name).map(|h| (h.last_link, h.block));
                if let Some((last_link, block)) = block {
                    // Should it come back: its connections go on counting.
                    let rest = HostState {
                        last_link,
                        block,
                        ..HostState::default()
                    };
                    self.hosts.insert(name.clone(), rest);
                }
            }
        }
    }

    /// A host's numbers are short.
    pub(super) fn give_block(&mut self, host: &str, conn: u64, out: &mut Vec<LeaderEffect>) {
        let boot = self.clock.boot;
        let Some(state) = self.hosts.get_mut(host) else {
            return;
        };
        let (last, at) = state.block;
        let size = match last {
            0 => BLOCK.0,
            n if boot < at + BLOCK_QUICK => (2 * n).min(BLOCK.1),
            n => n,
        };
        state.block = (size, boot);
        let block = Block {
            from: self.next_id,
            to: self.next_id + size,
        };
        self.next_id = block.to;
        out.push(LeaderEffect::Store(Op::NextId(self.next_id)));
        out.push(LeaderEffect::Store(Op::Block {
            host: host.to_owned(),
            block,
        }));
        out.push(LeaderEffect::Send {
            conn,
            message: down::Kind::Block(block),
        });
    }

    /// Leases are to be extended: only of attempts that still count.
    pub(super) fn renew(&mut self, host: &str, conn: u64, renew: Renew, out: &mut Vec<LeaderEffect>) {
        let boot = self.clock.boot;
        let mut keys = Vec::with_capacity(renew.keys.len());
        for key in renew.keys {
            match self.live.get_mut(&key) {
                Some(live) if live.row.host == host && !live.old && live.row.lease_ms > 0 => {
                    live.lease_until = boot + live.row.lease_ms;
                    keys.push(key);
                }
                _ => {}
            }
        }
        out.push(LeaderEffect::Send {
            conn,
            message: down::Kind::Renewed(Renewed {
                number: renew.number,
                keys,
            }),
        });
    }
}

/// The stage of a task whose attempt is at this phase.
pub(super) fn stage_of(phase: Phase) -> Stage {
    match phase {
        Phase::Sent => Stage::Sent,
        Phase::Running => Stage::Running,
        Phase::Stopped => Stage::Suspended,
    }
}
