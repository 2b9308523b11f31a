//! The local socket, `queued.sock`: one frame asks, one frame answers, as often as the program likes. Each
//! kind of question has a file of its own. Knows who asks by the kernel's word; decides nothing about hosts.

mod explain;
mod hosts;
mod keys;
mod leader;
mod place;
mod reload;
mod revoke;
pub(crate) mod sessions;
mod status;
mod submit;
mod upgrade;

use crate::batch::Batch;
use crate::door::Door;
use crate::driver::Driver;
use crate::exec::Exec;
use crate::mesh::read_frame_of;
use libqueue::frame;
use libqueue::wire::job::FRAME_MAX;
use libqueue::wire::{self, ErrorCode, reply, request};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

/// Connections of one user; root is not counted.
const EACH: usize = 512;
/// How long an answer may take to be read.
const WRITE: Duration = Duration::from_secs(10);

/// What the rooms are to a question.
#[derive(Clone)]
pub(crate) struct Rooms {
    pub driver: Driver,
    pub exec: Exec,
    pub batch: Batch,
    pub door: Door,
}

/// Serves the socket, and before it those who came to the program before this one with what they said so far, until
/// the door is shut.
pub(crate) async fn serve(listener: UnixListener, before: Vec<(UnixStream, Vec<u8>)>, rooms: Rooms) {
    let users = Arc::new(Mutex::new(BTreeMap::<u32, usize>::new()));
    let mut before = before.into_iter();
    loop {
        let accepted = match before.next() {
            Some(b) => Ok(b),
            None => tokio::select! {
                biased;
                () = rooms.door.shut() => return,
                r = listener.accept() => r.map(|(s, _)| (s, Vec::new())),
            },
        };
        let (stream, said) = match accepted {
            Ok(s) => s,
            Err(e) => {
                tracing::warn!("cannot accept a local connection: {e}");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Without the kernel's word he is nobody.
        let Ok(uid) = stream.peer_cred().map(|c| c.uid()) else {
            continue;
        };
        {
            let mut users = users.lock().unwrap_or_else(PoisonError::into_inner);
            let n = users.entry(uid).or_insert(0);
            if *n >= EACH && uid != 0 {
                tracing::warn!("uid {uid} has {EACH} connections: refused one more");
                continue;
            }
            *n += 1;
        }
        let (rooms, users) = (rooms.clone(), users.clone());
        tokio::spawn(async move {
            talk(stream, said, uid, &rooms).await;
            let mut users = users.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(n) = users.get_mut(&uid) {
                *n -= 1;
                if *n == 0 {
                    users.remove(&uid);
                }
            }
        });
    }
}

async fn talk(mut stream: UnixStream, mut said: Vec<u8>, uid: u32, rooms: &Rooms) {
    let Rooms {
        driver,
        exec,
        batch,
        door,
    } = rooms;
    let mut next = None;
    loop {
        if next.is_none() && said.is_empty() {
            tokio::select! {
                biased;
                () = door.shut() => return door.leave_local(stream, said),
                r = stream.readable() => if r.is_err() {
                    return;
                },
            }
        }
        let inside = door.enter();
        let read = async {
            match (next.take(), frame::take(&mut said)) {
                (Some(q), _) => Ok(q),
                (None, Ok(Some(q))) => Ok(q),
                // A submission may be as large as this.
                (None, _) => {
                    let begun = std::mem::take(&mut said);
                    read_frame_of(&mut begun.chain(&mut stream), FRAME_MAX).await
                }
            }
        };
        let question: wire::Request = match read.await {
            Ok(q) => q,
            Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
                let kind = error(ErrorCode::BadRequest, e.to_string());
                let _ = answer(&mut stream, kind).await;
                return;
            }
            Err(_) => return,
        };
        let kind = match question.kind {
            Some(request::Kind::Place(p)) if p.wait => {
                drop(inside);
                let again = wire::Request {
                    kind: Some(request::Kind::Place(p.clone())),
                };
                tokio::select! {
                    biased;
                    () = door.shut() => {
                        let said = [frame::encode(&again), said].concat();
                        return door.leave_local(stream, said);
                    }
                    kind = place::wait(p, &mut stream, driver) => match kind {
                        Some(kind) => kind,
                        None => return,
                    },
                }
            }
            Some(request::Kind::Place(p)) => place::answer(p, driver).await,
            Some(request::Kind::Explain(p)) => explain::answer(p, driver).await,
            Some(request::Kind::Sessions(_)) => sessions::answer(driver, exec).await,
            Some(request::Kind::Keys(keys)) => keys::answer(keys, driver).await,
            Some(request::Kind::Hosts(_)) => hosts::answer(driver).await,
            Some(request::Kind::Reload(_)) => reload::answer(uid, driver).await,
            Some(request::Kind::Revoke(list)) => revoke::answer(&list, driver, exec).await,
            Some(request::Kind::Status(_)) => status::answer(driver),
            Some(request::Kind::Leader(_)) => leader::answer(driver).await,
            Some(request::Kind::Upgrade(_)) => match upgrade::answer(uid, stream, driver, door) {
                Ok(()) => return,
                Err((kind, back)) => {
                    stream = back;
                    kind
                }
            },
            Some(request::Kind::Submit(s)) => {
                let begun = std::mem::take(&mut said);
                match submit::serve(s, &begun, &mut stream, uid, batch, driver, door).await {
                    submit::Next::Asked(q) => {
                        next = Some(*q);
                        continue;
                    }
                    submit::Next::End => return,
                    submit::Next::Left(rest) => return door.leave_local(stream, rest),
                }
            }
            None => error(
                ErrorCode::BadRequest,
                "queued does not know this question: is it an older version?",
            ),
        };
        if !answer(&mut stream, kind).await {
            return;
        }
    }
}

async fn answer(stream: &mut UnixStream, kind: reply::Kind) -> bool {
    let bytes = frame::encode(&wire::Reply { kind: Some(kind) });
    matches!(timeout(WRITE, stream.write_all(&bytes)).await, Ok(Ok(())))
}

fn error(code: ErrorCode, text: impl Into<String>) -> reply::Kind {
    reply::Kind::Error(wire::Error {
        code: code as i32,
        text: text.into(),
    })
}

fn ending() -> reply::Kind {
    error(ErrorCode::NotReady, "queued is ending")
}
