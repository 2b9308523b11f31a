//! Who are you?

use crate::driver::Driver;
use libqueue::wire::{Status, reply};

pub(super) fn answer(driver: &Driver) -> reply::Kind {
    let c = driver.context();
    reply::Kind::Status(Status {
        host: c.identity.own.name.clone(),
        cluster: c.identity.cluster.name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        authority: c.identity.cluster.authority,
        address: c.address(),
        fingerprint: c.identity.fingerprint().to_vec(),
        boot: c.boot.to_vec(),
        program: c.program.to_string_lossy().into_owned(),
    })
}
