//! Further connections for sessions that run: one that takes a broken one's place, and that of somebody who wants to
//! see a session. Both go to queue-exec as descriptors. Nothing is placed or granted for them: the session has what
//! it needs. Knows the preambles' bodies; whose connection it may be is for queue-exec and the session to find out.

use crate::exec::{self, Exec, Gone};
use crate::listen::refuse;
use libqueue::wire::{AttachHello, ResumeHello, SessionAnswer};
use prost::Message as _;
use queue_exec::protocol::{Reply, Request};
use queue_exec::ticket::Nonce;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest body of a [`ResumeHello`]: two numbers of 16 bytes, and room for what a later version may add.
pub(crate) const RESUME_MAX: usize = 128;
/// How long queue-exec may take to pass a connection on. Whoever lost one tries again long before.
const PASS: Duration = Duration::from_secs(5);

/// What somebody wants of a session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    request: Request,
    /// For the log.
    what: &'static str,
}

/// What a connection that goes on with a session says of it; `None`: malformed.
pub(crate) fn resume(body: &[u8]) -> Option<Wish> {
    let hello = ResumeHello::decode(body).ok()?;
    let request = Request::Connect {
        session: nonce(hello.session)?,
        challenge: nonce(hello.challenge)?,
    };
    Some(Wish {
        request,
        what: "resume",
    })
}

/// The same of one that attaches.
pub(crate) fn attach(body: &[u8]) -> Option<Wish> {
    let hello = AttachHello::decode(body).ok()?;
    let request = Request::Attach {
        session: nonce(hello.session)?,
        ticket: hello.ticket,
        source_cert: hello.source_cert,
    };
    Some(Wish {
        request,
        what: "attach",
    })
}

fn nonce(bytes: Vec<u8>) -> Option<Nonce> {
    bytes.try_into().ok()
}

/// Hands the connection to queue-exec.
pub(crate) async fn serve(stream: TcpStream, wish: Option<Wish>, from: SocketAddr, host: &str, exec: &Exec) {
    let Some(Wish { request, what }) = wish else {
        return refuse(stream, refusal("malformed request: another version of Queue?")).await;
    };
    // Out of our event loop before anybody else reads from it.
    let Ok(std) = stream.into_std() else {
        return;
    };
    let Ok(fd) = std.try_clone() else {
        return tracing::error!("out of descriptors: {from} could not {what}");
    };
    let answer = match timeout(PASS, exec.ask(request, Some(OwnedFd::from(fd)))).await {
        Ok(Ok(Reply::Done)) => return tracing::debug!("{what} from {from}: the session has the connection"),
        Ok(Ok(Reply::Gone { proof })) => SessionAnswer {
            gone: proof,
            ..refusal("that session has ended")
        },
        Ok(Ok(Reply::Refused { text, .. })) => refusal(&text),
        Ok(Ok(_)) => refusal(&format!("queue-exec on {host} is of another version")),
        Ok(Err(Gone::Away)) => refusal(&exec::away(host)),
        // The session may have it; then it is not ours to write to. Whoever waits for it tries again.
        Ok(Err(Gone::Lost)) | Err(_) => {
            return tracing::info!("queue-exec did not say whether the session has what {from} brought");
        }
    };
    tracing::info!("{what} from {from} refused: {}", answer.refused);
    match TcpStream::from_std(std) {
        Ok(s) => refuse(s, answer).await,
        Err(e) => tracing::error!("cannot answer {from}: {e}"),
    }
}

fn refusal(text: &str) -> SessionAnswer {
    SessionAnswer {
        refused: text.to_owned(),
        ..SessionAnswer::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_first_is_taken_whole_or_not_at_all() {
        let hello = ResumeHello {
            session: vec![1; 16],
            challenge: vec![2; 16],
        };
        let body = hello.encode_to_vec();
        assert!(body.len() <= RESUME_MAX);
        let wish = resume(&body).unwrap();
        let (session, challenge) = ([1; 16], [2; 16]);
        assert_eq!(wish.request, Request::Connect { session, challenge });
        for n in [0, 15, 17] {
            let (mut a, mut b) = (hello.clone(), hello.clone());
            a.session = vec![1; n];
            b.challenge = vec![2; n];
            assert_eq!(resume(&a.encode_to_vec()), None);
            assert_eq!(resume(&b.encode_to_vec()), None);
            let a = AttachHello {
                session: vec![1; n],
                ..AttachHello::default()
            };
            assert_eq!(attach(&a.encode_to_vec()), None);
        }
        assert_eq!(resume(&body[..body.len() - 1]), None);
        let a = AttachHello {
            ticket: vec![3; 200],
            source_cert: vec![4; 300],
            session: vec![1; 16],
        };
        let want = Request::Attach {
            ticket: vec![3; 200],
            source_cert: vec![4; 300],
            session,
        };
        assert_eq!(attach(&a.encode_to_vec()).map(|w| w.request), Some(want));
    }
}
