//! The front end: a local process that stands in for a command on another host.
//!
//! Knows the grammar of the command line, terminals, signals, and the client's end of a session. Must not know
//! placement, membership, policy, or how a process is started: it asks the daemon for a host, `queue-exec` for a
//! signature, and then talks to the session alone. One thread, one `poll` loop, no runtime: it is in the path of
//! every recipe of a make.
#![deny(unsafe_code)]

pub mod args;
pub mod forms;
pub mod messages;
pub mod options;
pub mod signals;
pub mod sys;
