//! What the privileged side of Queue shares with the programs that talk to it: the binary protocol of
//! `queue-exec`'s socket, host certificates, tickets and grants, and where the files lie.
//!
//! Knows: bytes, Ed25519, paths. Must not know: TLS, tokio, clusters, placement, `libqueue`. Everything
//! here is linked into a root process, so it parses fixed layouts with a limit on every length.

pub mod attempts;
pub mod authority;
pub mod cert;
pub mod client;
pub mod codec;
pub mod entries;
pub mod keys;
pub mod layout;
mod ledger;
pub mod operators;
pub mod policy;
pub mod protocol;
pub mod renewal;
pub mod state;
pub mod takeover;
pub mod ticket;
pub mod token;
pub mod warrant;
