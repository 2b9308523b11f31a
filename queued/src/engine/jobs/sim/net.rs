//! Connections between agents and the leader: ordered, slow at times, cut with what is under way, half open, or
//! still delivering when there is another one already.

use super::world::{Broken, Event, World};
use crate::engine::jobs::types::{AgentInput, LeaderInput, LinkId};
use libqueue::wire::job::{Dispatch, down, up};
use std::collections::VecDeque;

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// That of the host.
    Agent,
    /// That of the leader.
    Leader,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) host: usize,
    pub(super) link: LinkId,
    /// Which ends use it.
    pub(super) agent: bool,
    pub(super) leader: bool,
    /// Under way; `None`: it is closed behind that.
    up: VecDeque<Option<up::Kind>>,
    down: VecDeque<Option<down::Kind>>,
    /// When the last message arrives, each way.
    last: [u64; 2],
    /// Nothing comes through any more.
    broken: bool,
    /// It is slow.
    slow: u64,
}

impl World {
    /// A daemon connects, if it can.
    pub(super) fn connect(&mut self, h: usize, life: u64) {
        let host = &self.hosts[h];
        if host.life != life || host.conn.is_some() || host.daemon.is_none() {
            return;
        }
        if host.cut > self.now || !self.lead.runs() || self.hosts[0].frozen > self.now {
            let after = self.range(100, 1500);
            self.at(after, Event::Connect(h, life));
            return;
        }
        let id = self.lead.new_conn();
        let slow = if self.chance(10) && !self.calm {
            self.range(10, 3000)
        } else {
            3
        };
        let host = &mut self.hosts[h];
        host.last_link += 1;
        host.conn = Some(id);
        let link = host.last_link;
        let conn = Conn {
            host: h,
            link,
            agent: true,
            leader: true,
            up: VecDeque::new(),
            down: VecDeque::new(),
            last: [0; 2],
            broken: false,
            slow,
        };
        self.conns.insert(id, conn);
        self.agent(h, AgentInput::Linked(link));
    }

    fn push(&mut self, id: u64, to: Side) {
        let slow = self.conns.get(&id).map_or(3, |c| c.slow);
        let delay = self.range(0, slow);
        let now = self.now;
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let last = &mut conn.last[to as usize];
        *last = (*last).max(now + delay);
        let after = *last - now;
        self.at(after, Event::Arrives(id, to));
    }

    pub(super) fn send_up(&mut self, h: usize, link: LinkId, message: up::Kind) {
        let Some(id) = self.hosts[h].conn else { return };
        let Some(conn) = self.conns.get_mut(&id).filter(|c| c.agent && c.link == link) else {
            return;
        };
        conn.up.push_back(Some(message));
        self.push(id, Side::Leader);
    }

    pub(super) fn send_down(&mut self, id: u64, message: down::Kind) {
        let Some(conn) = self.conns.get_mut(&id).filter(|c| c.leader) else {
            return;
        };
        conn.down.push_back(Some(message));
        self.push(id, Side::Agent);
    }

    /// The agent wants another connection.
    pub(super) fn unlink(&mut self, h: usize, link: LinkId) {
        let Some(id) = self.hosts[h].conn else { return };
        if self.conns.get(&id).is_some_and(|c| c.link == link) {
            self.hosts[h].conn = None;
            self.close(id, Side::Agent, false);
            let (life, after) = (self.hosts[h].life, self.range(10, 500));
            self.at(after, Event::Connect(h, life));
        }
    }

    /// One end closes. `lossy`: of what it sent, the last part may be lost.
    pub(super) fn close(&mut self, id: u64, side: Side, lossy: bool) {
        let lost = if lossy { self.rng.next() as usize } else { 0 };
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let to = match side {
            Side::Agent => {
                conn.agent = false;
                conn.up.truncate(conn.up.len() - lost % (conn.up.len() + 1));
                conn.up.push_back(None);
                Side::Leader
            }
            Side::Leader => {
                conn.leader = false;
                conn.down.truncate(conn.down.len() - lost % (conn.down.len() + 1));
                conn.down.push_back(None);
                Side::Agent
            }
        };
        self.push(id, to);
        // Arrivals of what was lost find what comes behind it: there is one for each, and one more.
    }

    /// Nothing comes through any more, and nobody is told; each end gives up some time.
    pub(super) fn fall_silent(&mut self, id: u64) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        conn.broken = true;
        conn.up.clear();
        conn.down.clear();
        for side in [Side::Agent, Side::Leader] {
            let after = self.range(1000, 40_000);
            self.at(after, Event::GiveUp(id, side));
        }
    }

    /// A host is cut off for so long: each end may give up meanwhile.
    pub(super) fn cut(&mut self, h: usize, time: u64) {
        self.hosts[h].cut = self.now + time;
        let ids: Vec<u64> = self
            .conns
            .iter()
            .filter(|(_, c)| c.host == h)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            for side in [Side::Agent, Side::Leader] {
                let after = self.range(1000, 40_000);
                self.at(after, Event::GiveUp(id, side));
            }
        }
        self.at(5000, Event::Member(h));
        self.at(time + 1000, Event::Member(h));
    }

    pub(super) fn gives_up(&mut self, id: u64, side: Side) {
        let Some(conn) = self.conns.get(&id) else { return };
        let silent = conn.broken || self.hosts[conn.host].cut > self.now;
        if silent
            && (if side == Side::Agent {
                conn.agent
            } else {
                conn.leader
            })
        {
            self.ends(id, side);
        }
    }

    /// An end gives a connection up, by itself or as it hears that it is closed.
    pub(super) fn ends(&mut self, id: u64, side: Side) {
        let Some(conn) = self.conns.get(&id) else { return };
        let (h, link) = (conn.host, conn.link);
        match side {
            Side::Agent => {
                self.close(id, side, false);
                if self.hosts[h].conn == Some(id) {
                    self.hosts[h].conn = None;
                    let (life, after) = (self.hosts[h].life, self.range(10, 1000));
                    // Sometimes the next connection is there before the end of this one is told.
                    if self.chance(80) {
                        self.agent(h, AgentInput::Unlinked(link));
                    } else {
                        self.at(after + 5, Event::Later(h, life, AgentInput::Unlinked(link)));
                    }
                    self.at(after, Event::Connect(h, life));
                }
            }
            Side::Leader => {
                self.close(id, side, false);
                let host = self.hosts[h].name.clone();
                self.leader(LeaderInput::Unlinked { host, conn: id });
            }
        }
    }

    /// The first message that is under way arrives.
    pub(super) fn arrives(&mut self, id: u64, side: Side) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let cut = self.hosts[conn.host].cut;
        if cut > self.now {
            let after = cut - self.now;
            self.at(after, Event::Arrives(id, side));
            return;
        }
        if conn.broken {
            return;
        }
        let h = conn.host;
        match side {
            Side::Leader => {
                let Some(message) = conn.up.pop_front() else {
                    return;
                };
                if !conn.leader {
                    return;
                }
                match message {
                    Some(message) => {
                        let host = self.hosts[h].name.clone();
                        self.leader(LeaderInput::Heard {
                            host,
                            conn: id,
                            message,
                        });
                    }
                    None => self.ends(id, Side::Leader),
                }
            }
            Side::Agent => {
                let Some(message) = conn.down.pop_front() else {
                    return;
                };
                let (link, open) = (conn.link, conn.agent);
                match message {
                    Some(message) => self.heard(h, id, link, open, message),
                    None if open => self.ends(id, Side::Agent),
                    None => {}
                }
            }
        }
    }

    fn heard(&mut self, h: usize, id: u64, mut link: LinkId, open: bool, mut message: down::Kind) {
        let current = self.hosts[h].conn;
        if self.broken == Broken::Links && !open && current != Some(id) {
            let newer = current.and_then(|c| self.conns.get(&c));
            if let (Some(newer), down::Kind::Dispatch(Dispatch { link: quoted, .. })) = (newer, &mut message)
            {
                *quoted = newer.link;
                link = newer.link;
            }
        }
        // What comes on a connection that this end gave up is mostly not read, but it may be.
        if open || self.broken == Broken::Links || self.chance(30) {
            self.agent(h, AgentInput::Heard(link, message));
        }
    }
}
