//! Who leads the batch jobs of this cluster?

use super::error;
use crate::batch::link;
use crate::driver::Driver;
use libqueue::wire::{ErrorCode, Placed, reply};

pub(super) async fn answer(driver: &Driver) -> reply::Kind {
    let context = driver.context();
    match link::leader(driver).await {
        Some(e) => {
            let local = e.host.is_same(&context.identity.own);
            reply::Kind::Placed(Placed {
                host: e.host.name,
                address: if local { context.dial_self() } else { e.address },
                cert: e.host.cert,
                local,
            })
        }
        None => error(
            ErrorCode::NotReady,
            "the host that holds the cluster's authority, which leads its batch jobs, is not known here yet: try \
             again in a moment",
        ),
    }
}
