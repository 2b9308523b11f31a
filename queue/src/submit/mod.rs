//! Batch jobs on their way to the daemon: what is run and how it is planned, out of what was typed and of what
//! this process is; the signature; the daemon's answer that it is on disk.
//!
//! [`client::Client`] is also the way for programs: it keeps its connections, and many jobs may be under way.

pub mod build;
pub mod client;
pub mod directives;
pub mod entries;
pub mod nonce;
pub mod options;
pub mod values;

use libqueue::wire::job::{Plan, Run};

/// A batch job.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Job {
    /// What is executed. What only the client knows (`submit_host`, `nonce`) it fills in.
    pub run: Run,
    /// When and where.
    pub plan: Plan,
    /// One for each task, if tasks have entries.
    pub entries: Vec<Vec<u8>>,
    /// The account to run as; empty for the same name.
    pub login: String,
}
