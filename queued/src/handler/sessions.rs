//! Which sessions are there in the cluster?

use crate::driver::Driver;
use crate::exec::Exec;
use libqueue::wire::{SessionInfo, Sessions, reply};

pub(super) async fn answer(_driver: &Driver, _exec: &Exec) -> reply::Kind {
    reply::Kind::Sessions(Sessions::default())
}

/// The sessions that run on this host.
pub(crate) async fn own(exec: &Exec) -> Sessions {
    let info = |s: crate::exec::Session| SessionInfo {
        id: s.id.to_vec(),
        login: s.login,
        user: s.user,
        from: s.from,
        since_ms: s.since_ms,
        need: Some(s.need),
        clock_ms: crate::mesh::clock_ms(),
        ..SessionInfo::default()
    };
    Sessions {
        sessions: exec.sessions().into_iter().map(info).collect(),
        silent: Vec::new(),
    }
}
