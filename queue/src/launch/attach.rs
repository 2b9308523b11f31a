//! The way to a session that runs already.

use super::host::{Asker, Fault, Wanted};
use super::{ANSWER_NAMED, CONNECT_CHOSEN, CONNECT_NAMED, Session};
use crate::control::locate;
use crate::messages::Failure;
use crate::sign::{self, Signer};
use libqueue::tls::KeyPair;
use libqueue::wire;
use prost::Message as _;
use queue_exec::layout::Layout;
use queue_exec::ticket::Nonce;

/// Gets a connection to a session that runs on `host`, as the account `login` there (empty: the same name); `again`: one
/// was there before, so little time is spent on a host that does not answer, and the user knows.
///
/// # Errors
/// The host cannot be reached, or it will not.
pub fn attach(
    host: &str,
    login: &str,
    session: Nonce,
    wanted: &wire::Attach,
    again: bool,
) -> Result<Session, Failure> {
    let layout = Layout::for_client();
    let signer = Signer::dial(&layout);
    let placed = locate(&layout, host)?;
    let first = wanted.encode_to_vec();
    let key = KeyPair::generate().map_err(|e| Failure::own(e.to_string()))?;
    let asker = Asker {
        layout: &layout,
        key: &key,
        login,
        wanted: Wanted::Attach(session),
        hash: sign::hash(&first)?,
        resume: wanted.resume,
        limit: if again { CONNECT_CHOSEN } else { CONNECT_NAMED },
        answer: ANSWER_NAMED,
        tell: !again,
    };
    match asker.try_host(&placed, Some(signer)) {
        Ok((link, way, spent)) => Ok(Session {
            link,
            host: placed.host,
            launch: first,
            no_stdin: false,
            way,
            spent: vec![spent],
        }),
        Err(Fault::Host(f) | Fault::NoRoom(f, _) | Fault::Final(f)) => Err(f),
    }
}
