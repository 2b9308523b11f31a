//! Batch jobs, the part that decides: pure state machines, no clock, no disk, no network.
//!
//! `leader` is the one that knows all jobs and sends attempts to hosts; `agent` is the one on each host that takes
//! submissions and runs attempts; `schedule` chooses which job goes to which host; `view` answers what people ask;
//! `post` decides which letters are written. `sim` plays them all against crashes and partitions.

pub(crate) mod agent;
pub(crate) mod leader;
mod post;
pub(crate) mod schedule;
mod select;
#[cfg(test)]
mod sim;
pub(crate) mod types;
mod view;
