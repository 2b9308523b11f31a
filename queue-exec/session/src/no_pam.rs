//! In place of `pam.rs` in a build without PAM: a host whose policy asks for it then refuses, rather than
//! letting people in without the check.

/// Never made.
pub(crate) enum Holder {}

/// Refuses.
pub(crate) fn open(_: &str, _: &str, _: &str) -> Result<(Holder, Vec<Vec<u8>>), String> {
    Err("exec.conf says `pam yes`, but this queue-session was built without PAM".to_owned())
}

/// Nothing to close.
pub(crate) fn close(_: Option<Holder>) {}
