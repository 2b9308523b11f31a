//! `queue`'s own exit codes, as `env(1)` and `timeout(1)` use them; everything else is the command's own.

/// No host, refused, connection lost, bad option: `queue` itself failed.
pub const FAILED: u8 = 125;
/// The command was found but cannot be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// The command was not found.
pub const NOT_FOUND: u8 = 127;
/// `queue`'s own failures in the rsh form, as `ssh(1)`'s.
pub const RSH_FAILED: u8 = 255;
