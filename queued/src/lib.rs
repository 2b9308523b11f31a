//! `queued`: the daemon, one per host.
pub mod engine;
