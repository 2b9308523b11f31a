//! What the programs of Queue share: wire messages and frames, the session stream, TLS with raw public keys,
//! exit codes. Knows formats; must not know policy, placement, terminals or processes.

pub mod complete;
pub mod config;
pub mod duration;
pub mod exit;
pub mod expr;
pub mod forward;
pub mod frame;
pub mod job;
pub mod link;
pub mod links;
pub mod resources;
pub mod seal;
pub mod size;
pub mod stream;
pub mod text;
pub mod tls;
pub mod wire;
