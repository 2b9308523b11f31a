//! A new revocation list. Anybody may bring one: it proves itself by the authority's signature. Once this is
//! answered, a host that it names starts nothing here any more.

use super::error;
use crate::driver::{Driver, Event};
use crate::engine::types::Input;
use crate::exec::Exec;
use libqueue::wire::{Empty, ErrorCode, reply};
use queue_exec::protocol::Request;
use std::time::Duration;
use tokio::time::timeout;

/// How long queue-exec may take; if it does not run, nothing is started, and it is told when it does.
const TOLD: Duration = Duration::from_secs(2);

pub(super) async fn answer(list: &[u8], driver: &Driver, exec: &Exec) -> reply::Kind {
    match driver.context().verifier.revocations(list) {
        Ok(list) => {
            let request = Request::Revoke {
                list: list.bytes.clone(),
            };
            let _ = timeout(TOLD, exec.ask(request, None)).await;
            driver.send(Event::Input(Input::Revoke(list))).await;
            reply::Kind::Done(Empty {})
        }
        Err(e) => error(
            ErrorCode::Denied,
            format!("the revocation list does not count: {e}"),
        ),
    }
}
