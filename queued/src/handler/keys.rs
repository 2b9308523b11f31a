//! New gossip keys. Anybody may bring them: they prove themselves by the authority's signature.

use super::error;
use crate::driver::{Driver, Event};
use crate::engine::types::Input;
use libqueue::wire::{Empty, ErrorCode, Keys, reply};

pub(super) async fn answer(keys: Keys, driver: &Driver) -> reply::Kind {
    match driver.context().verifier.keys(&keys) {
        Ok(()) => {
            driver.send(Event::Input(Input::Keys(keys))).await;
            reply::Kind::Done(Empty {})
        }
        Err(e) => error(ErrorCode::Denied, format!("the gossip keys do not count: {e}")),
    }
}
