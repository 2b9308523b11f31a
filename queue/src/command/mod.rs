//! The verbs.

pub mod hosts;
