//! Output of jobs on its way to the terminal: where it is read ([`source`]), how it is shown ([`show`]), and how one
//! stays with jobs that run ([`follow`]).

pub mod follow;
pub mod show;
pub mod source;
