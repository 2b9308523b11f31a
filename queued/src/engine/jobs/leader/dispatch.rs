//! Sends attempts to hosts.

/// What goes to one host with this input.
#[derive(Debug, Default)]
pub(crate) struct Batch {}
