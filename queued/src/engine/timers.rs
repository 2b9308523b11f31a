//! What is due when: one ordered map for the whole engine. An entry that no longer holds when its time comes is
//! for its reader to notice; taking one out early is not needed.

use super::swim;
use super::types::Now;
use std::collections::BTreeMap;

/// What is due.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Due {
    /// Dial this host, if that is still wanted then.
    Dial(String),
    /// See whether this host still lives: what was heard from it is getting old.
    Life(String),
    /// Say something on all links, and see who says nothing.
    Links,
    /// A timer of the membership protocol.
    Swim(swim::Timer),
    /// Look for members of whom nothing is known.
    Seek,
    /// Tell others how much there is to do here.
    Report,
}

/// The map.
#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeMap<(Now, u64), Due>,
    count: u64,
}

impl Timers {
    /// Something is due then.
    pub(super) fn set(&mut self, at: Now, due: Due) {
        self.count += 1;
        self.due.insert((at, self.count), due);
    }

    /// When the next one is.
    pub(super) fn first(&self) -> Option<Now> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next one that is due by now, and since when.
    pub(super) fn pop(&mut self, now: Now) -> Option<(Now, Due)> {
        if self.first()? > now {
            return None;
        }
        self.due.pop_first().map(|((at, _), due)| (at, due))
    }
}
