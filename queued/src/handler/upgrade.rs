//! Another program is to take this one's place: for root; in a single-user install for its owner.

use super::error;
use crate::door::Door;
use crate::driver::Driver;
use libqueue::wire::{ErrorCode, reply};
use queue_exec::takeover;
use tokio::net::UnixStream;

/// Has it done; who asks listens on, until this program ends or tells why it does not.
#[allow(
    clippy::result_large_err,
    reason = "who is refused is answered on the connection that he gets back"
)]
pub(super) fn answer(
    uid: u32,
    stream: UnixStream,
    driver: &Driver,
    door: &Door,
) -> Result<(), (reply::Kind, UnixStream)> {
    let context = driver.context();
    let permitted = uid == 0 || (!context.layout.root && uid == nix::unistd::geteuid().as_raw());
    if !permitted {
        let text = "only root may have queued replaced: sudo queued upgrade";
        return Err((error(ErrorCode::Denied, text), stream));
    }
    if let Err(e) = takeover::executable(&context.program) {
        return Err((error(ErrorCode::Internal, e.to_string()), stream));
    }
    if let Ok(s) = stream.into_std() {
        door.upgrade(s);
    }
    Ok(())
}
