//! Batch jobs: their warrants, and the attempts that run here.

use super::Monitor;
use queue_exec::protocol::{JobRequest, Refusal};
use std::os::fd::OwnedFd;

impl Monitor {
    /// Somebody asks for something that concerns jobs.
    pub(super) fn job_requested(&mut self, conn: u32, request: u32, _: JobRequest, _: Option<OwnedFd>) {
        self.refuse(conn, request, Refusal::Internal, "not built yet");
    }
}
