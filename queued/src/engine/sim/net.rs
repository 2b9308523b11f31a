//! The network of the simulated world: connections that deliver in order, hang and break, and datagrams that get
//! lost, come late and come twice.

use super::world::{Event, LATENCY, TIMEOUT, World, ms};
use crate::engine::types::{ConnId, Hello, Input, Message};
use crate::engine::wire::gossip;
use std::collections::VecDeque;
use std::time::Duration;

/// One end of a connection: node, its boot, its name for it.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct End {
    pub node: usize,
    pub boot: u64,
    pub conn: ConnId,
}

#[derive(Clone)]
pub(super) enum Item {
    Arrive,
    Welcome,
    Message(Message),
    Close(Option<String>),
}

/// A connection: the dialler is end 0.
pub(super) struct Conn {
    pub ends: [End; 2],
    pub open: [bool; 2],
    /// Whether the dialler was welcomed.
    pub up: bool,
    /// An end moved away: nothing gets through any more.
    pub dark: bool,
    /// On the way to each end, in order.
    pub way: [VecDeque<Item>; 2],
}

impl World {
    /// The connection on which one node is linked with another.
    pub(super) fn link(&self, i: usize, j: usize) -> Option<usize> {
        let e = self.nodes[i].engine.as_ref()?;
        let p = e.peers.get(&self.nodes[j].host.name)?;
        self.ids.get(&(i, p.link.as_ref()?.conn)).copied()
    }

    pub(super) fn cut(&self, a: usize, b: usize) -> bool {
        self.cuts.contains(&(a.min(b), a.max(b)))
    }

    pub(super) fn send(&mut self, conn: usize, to: usize, item: Item) {
        self.conns[conn].way[to].push_back(item);
        let wait = LATENCY + Duration::from_micros(self.rng.next() % 500);
        self.at(wait, Event::Deliver { conn, to });
    }

    pub(super) fn dial(&mut self, i: usize, name: String, to: &str, key: [u8; 32]) {
        let boot = self.nodes[i].boot;
        let target = self.places.get(to).copied();
        let over = |wait, text| {
            let over = Event::DialOver {
                node: i,
                boot,
                name: name.clone(),
                conn: None,
                text,
            };
            (wait, over)
        };
        let failed = match target {
            // Nobody is there.
            None => Some(over(TIMEOUT, "no answer")),
            Some(j) if self.cut(i, j) => Some(over(TIMEOUT, "no answer")),
            Some(j) if self.nodes[j].host.tls_key != key => Some(over(LATENCY, "wrong")),
            Some(j) if self.nodes[j].engine.is_none() => Some(over(LATENCY, "refused")),
            Some(_) => None,
        };
        if let Some((wait, event)) = failed {
            return self.at(wait, event);
        }
        let Some(j) = target else { return };
        self.seq += 2;
        let ends = [(i, self.seq), (j, self.seq + 1)].map(|(node, conn)| End {
            node,
            boot: self.nodes[node].boot,
            conn,
        });
        self.seq += 2;
        let c = self.conns.len();
        for end in ends {
            self.ids.insert((end.node, end.conn), c);
        }
        self.conns.push(Conn {
            ends,
            open: [true, true],
            up: false,
            dark: false,
            way: Default::default(),
        });
        self.send(c, 1, Item::Arrive);
        let over = Event::DialOver {
            node: i,
            boot,
            name,
            conn: Some(c),
            text: "no hello",
        };
        self.at(TIMEOUT * 2, over);
    }

    pub(super) fn datagram(&mut self, from: usize, to: String, message: gossip::Kind) {
        if !self.datagrams {
            return;
        }
        // Most come at once, some late, a few twice.
        let copies = if self.rng.below(200) == 0 { 2 } else { 1 };
        for _ in 0..copies {
            if self.rng.below(1000) < self.loss {
                continue;
            }
            let late = if self.rng.below(100) == 0 { 100_000 } else { 700 };
            let wait = LATENCY + Duration::from_micros(self.rng.next() % late);
            let (to, message) = (to.clone(), message.clone());
            self.at(wait, Event::Packet { to, from, message });
        }
    }

    pub(super) fn forward(&mut self, i: usize, conn: ConnId, item: Item) {
        let Some(&c) = self.ids.get(&(i, conn)) else {
            return;
        };
        let e = usize::from(self.conns[c].ends[0].node != i);
        if self.conns[c].open[e] {
            self.send(c, 1 - e, item);
        }
    }

    pub(super) fn deliver(&mut self, c: usize, to: usize) {
        let [a, b] = self.conns[c].ends;
        if self.conns[c].dark {
            return;
        }
        if self.cut(a.node, b.node) {
            // TCP: it comes when the network is back, in order.
            return self.at(ms(200), Event::Deliver { conn: c, to });
        }
        let Some(item) = self.conns[c].way[to].pop_front() else {
            return;
        };
        let (end, other) = (self.conns[c].ends[to], self.conns[c].ends[1 - to]);
        let alive = self.nodes[end.node].engine.is_some();
        if self.nodes[end.node].boot != end.boot || !self.conns[c].open[to] {
            // Its kernel knows nothing of it: the sender is told so.
            if alive && self.conns[c].open[1 - to] && !matches!(item, Item::Close(_)) {
                self.send(c, 1 - to, Item::Close(None));
            }
            return;
        }
        if !alive {
            return;
        }
        let hello = |w: &Self, n: usize| Hello {
            address: w.nodes[n].address.clone(),
            boot: w.nodes[n].boot.to_be_bytes().to_vec(),
            version: "0".into(),
            skew: 0,
        };
        let from = self.nodes[other.node].address.clone();
        let host = self.nodes[other.node].host.clone();
        let conn = end.conn;
        let input = match item {
            Item::Arrive => Input::Arrived {
                conn,
                host,
                hello: hello(self, other.node),
                from,
            },
            Item::Welcome => {
                self.conns[c].up = true;
                Input::Reached {
                    conn,
                    host,
                    hello: hello(self, other.node),
                    from,
                }
            }
            Item::Message(Message::Revocations(l)) if to == 0 && !self.conns[c].up => Input::Revoke(l),
            Item::Message(message) => Input::Heard { conn, message },
            Item::Close(bye) => {
                self.conns[c].open[to] = false;
                if to == 0 && !self.conns[c].up {
                    self.conns[c].up = true;
                    let refused = bye.is_some();
                    Input::DialFailed {
                        name: host.name,
                        text: bye.unwrap_or_default(),
                        refused,
                    }
                } else if let Some(text) = bye {
                    Input::Heard {
                        conn,
                        message: Message::Bye(text),
                    }
                } else {
                    Input::Lost {
                        conn,
                        text: "closed".into(),
                    }
                }
            }
        };
        self.input(end.node, input);
    }
}
