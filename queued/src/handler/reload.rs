//! Read configuration, keys and members again: for root and the daemon's own user.

use super::{ending, error};
use crate::driver::{Driver, Event};
use libqueue::wire::{Empty, ErrorCode, reply};
use tokio::sync::oneshot;

pub(super) async fn answer(uid: u32, driver: &Driver) -> reply::Kind {
    if uid != 0 && uid != nix::unistd::geteuid().as_raw() {
        return error(
            ErrorCode::Denied,
            "only root may have queued read its configuration again",
        );
    }
    let (tx, rx) = oneshot::channel();
    driver.send(Event::Reload(tx)).await;
    match rx.await {
        Ok(Ok(())) => reply::Kind::Done(Empty {}),
        Ok(Err(text)) => {
            tracing::error!("not read again: {text}");
            error(ErrorCode::Internal, text)
        }
        Err(_) => ending(),
    }
}
