//! A new revocation list. Anybody may bring one: it proves itself by the authority's signature.

use super::error;
use crate::driver::{Driver, Event};
use crate::engine::types::Input;
use libqueue::wire::{Empty, ErrorCode, reply};

pub(super) async fn answer(list: &[u8], driver: &Driver) -> reply::Kind {
    match driver.context().verifier.revocations(list) {
        Ok(list) => {
            driver.send(Event::Input(Input::Revoke(list))).await;
            reply::Kind::Done(Empty {})
        }
        Err(e) => error(
            ErrorCode::Denied,
            format!("the revocation list does not count: {e}"),
        ),
    }
}
