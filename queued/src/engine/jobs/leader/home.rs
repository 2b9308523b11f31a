//! Output that is brought home.

/// Deliveries.
#[derive(Debug, Default)]
pub(crate) struct Home {}
