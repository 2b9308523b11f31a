//! Which sessions are there in the cluster?

use crate::driver::Driver;
use crate::exec::Exec;
use libqueue::wire::{Sessions, reply};

pub(super) async fn answer(_driver: &Driver, _exec: &Exec) -> reply::Kind {
    reply::Kind::Sessions(Sessions::default())
}
