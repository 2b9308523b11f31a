//! Keeps the scheduler's tables: which number a line, a host or a class of hosts has, and when it is free again.

use super::host::Host;
use super::line::{Line, Want};
use super::{Scheduler, Shape};
use crate::engine::jobs::types::HostView;

impl Scheduler {
    /// The line of a shape: a new one is searched for on all hosts.
    pub(super) fn line_of(&mut self, shape: Shape) -> u32 {
        let want = Want::of(&shape);
        if let Some(at) = self.by_want.get(&want) {
            return *at;
        }
        let line = Line::new(shape);
        let at = match self.free_lines.pop() {
            Some(at) => {
                self.lines[at as usize] = line;
                at
            }
            None => {
                self.lines.push(line);
                (self.lines.len() - 1) as u32
            }
        };
        self.by_want.insert(want, at);
        at
    }

    /// Forgets a line that nobody needs.
    pub(super) fn drop_line(&mut self, at: u32) {
        let line = &self.lines[at as usize];
        if line.refs > 0 || !line.queue.is_empty() {
            return;
        }
        self.by_want.remove(&Want::of(&line.shape));
        self.free_lines.push(at);
    }

    /// The host of a name; a new one takes nothing yet.
    pub(super) fn slot(&mut self, name: &str) -> u32 {
        if let Some(at) = self.names.get(name) {
            return *at;
        }
        let at = match self.free_hosts.pop() {
            Some(at) => {
                self.hosts[at as usize] = Host::new(name);
                at
            }
            None => {
                self.hosts.push(Host::new(name));
                (self.hosts.len() - 1) as u32
            }
        };
        self.names.insert(name.to_owned(), at);
        at
    }

    /// Forgets a host that is no member, once nothing is there.
    pub(super) fn drop_host(&mut self, at: u32) {
        let h = &self.hosts[at as usize];
        if h.member || !h.is_empty() {
            return;
        }
        self.names.remove(&h.name);
        let class = h.class;
        self.leave_class(class);
        self.hosts[at as usize] = Host::default();
        self.free_hosts.push(at);
    }

    /// Hosts with the same facts are one class: what a line asks of them is found out once.
    pub(super) fn class_of(&mut self, at: u32, view: &HostView) -> u32 {
        let h = &self.hosts[at as usize];
        if h.facts == view.facts && h.class != 0 {
            return h.class;
        }
        let old = h.class;
        let Some(f) = &view.facts else {
            self.leave_class(old);
            return 0;
        };
        let mut f = f.clone();
        f.version = 0;
        let next = self.free_classes.pop();
        let fresh = next.unwrap_or(self.classes.len() as u32 + 1);
        let c = self
            .classes
            .entry(prost::Message::encode_to_vec(&f))
            .or_insert((fresh, 0));
        c.1 += 1;
        let class = c.0;
        if class == fresh {
            for l in &mut self.lines {
                l.forget_class(class);
            }
        } else if let Some(n) = next {
            self.free_classes.push(n);
        }
        self.leave_class(old);
        class
    }

    pub(super) fn leave_class(&mut self, class: u32) {
        if class == 0 {
            return;
        }
        let Some((key, c)) = self.classes.iter_mut().find(|(_, c)| c.0 == class) else {
            return;
        };
        c.1 -= 1;
        if c.1 == 0 {
            let key = key.clone();
            self.classes.remove(&key);
            self.free_classes.push(class);
        }
    }
}
