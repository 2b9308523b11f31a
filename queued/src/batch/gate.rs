//! Holds an engine's effects until what the engine wrote down before them is on disk. Strictly in order: what was
//! said first is done first. Knows numbers and order; not what an effect is.

use std::collections::VecDeque;

/// The queue of one engine.
#[derive(Debug)]
pub(super) struct Gate<O, E> {
    /// Effects, each with the number of the last operation before it.
    effects: VecDeque<(u64, E)>,
    /// Operations that the writer has not been given yet.
    ops: Vec<O>,
    /// Number of the last operation.
    given: u64,
    /// All up to this one are on disk.
    durable: u64,
    /// Nothing comes out: the first effect lacks something that is being fetched.
    held: bool,
}

impl<O, E> Default for Gate<O, E> {
    fn default() -> Self {
        Self {
            effects: VecDeque::new(),
            ops: Vec::new(),
            given: 0,
            durable: 0,
            held: false,
        }
    }
}

impl<O, E> Gate<O, E> {
    /// The engine wants this written down.
    pub(super) fn op(&mut self, op: O) {
        self.given += 1;
        self.ops.push(op);
    }

    /// The engine wants this done.
    pub(super) fn effect(&mut self, effect: E) {
        self.effects.push_back((self.given, effect));
    }

    /// What the writer is to be given now, and the number of the last of it.
    pub(super) fn take_ops(&mut self) -> Option<(Vec<O>, u64)> {
        if self.ops.is_empty() {
            return None;
        }
        Some((std::mem::take(&mut self.ops), self.given))
    }

    /// All operations up to this one are on disk.
    pub(super) fn committed(&mut self, number: u64) {
        self.durable = self.durable.max(number);
    }

    /// What may be done now.
    pub(super) fn next(&mut self) -> Option<E> {
        if self.held || self.effects.front()?.0 > self.durable {
            return None;
        }
        self.effects.pop_front().map(|(_, e)| e)
    }

    /// Puts an effect back in front and lets nothing out until [`Gate::resume`].
    pub(super) fn hold(&mut self, effect: E) {
        self.effects.push_front((self.durable, effect));
        self.held = true;
    }

    /// What was lacking is there.
    pub(super) fn resume(&mut self) {
        self.held = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(gate: &mut Gate<u8, &'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| gate.next()).collect()
    }

    #[test]
    fn effects_wait_for_what_was_written_before_them() {
        let mut g = Gate::default();
        g.effect("free");
        g.op(1);
        g.effect("after 1");
        g.op(2);
        g.op(3);
        g.effect("after 3");
        assert_eq!(out(&mut g), ["free"]);
        assert_eq!(g.take_ops(), Some((vec![1, 2, 3], 3)));
        assert_eq!(g.take_ops(), None);
        g.op(4);
        g.effect("after 4");
        g.committed(2);
        assert_eq!(out(&mut g), ["after 1"]);
        g.committed(3);
        assert_eq!(out(&mut g), ["after 3"]);
        assert_eq!(g.take_ops(), Some((vec![4], 4)));
        assert!(out(&mut g).is_empty());
        g.committed(4);
        // An old word of the writer changes nothing.
        g.committed(1);
        assert_eq!(out(&mut g), ["after 4"]);
    }

    #[test]
    fn who_lacks_something_stops_all_behind_him() {
        let mut g: Gate<u8, &str> = Gate::default();
        g.effect("a");
        g.effect("b");
        let a = g.next().unwrap();
        g.hold(a);
        assert_eq!(g.next(), None);
        g.resume();
        assert_eq!(out(&mut g), ["a", "b"]);
    }
}
