//! Control connections: a user asks this host itself for something (to end a session, to drain). TLS with the
//! host's own key, one question, one answer. Who asks, and whether he may, is queue-exec's to say; what is left to
//! be done here is draining.

use crate::driver::{Driver, Event, Question};
use crate::engine::types::{Drain, Input};
use crate::exec::{self, Exec, Gone};
use crate::mesh::{self, clock_ms};
use libqueue::frame;
use libqueue::tls::peer_key;
use libqueue::wire::{ControlAsk, ControlReply, Error, ErrorCode};
use nix::sys::signal::Signal;
use queue_exec::codec::hex;
use queue_exec::protocol::{Control, Refusal, Reply, Request};
use queue_exec::ticket::{Nonce, Ticket};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// How long TLS and the question may take, and writing the answer.
const TALK: Duration = Duration::from_secs(5);
/// How long queue-exec may take: it may have to ask the name service.
const DECIDE: Duration = Duration::from_secs(12);
/// So long we wait for a session to be really gone; its own steps take 4 s.
const ENDED: Duration = Duration::from_secs(6);
/// So long for a session to let go of who is attached: it does so at once, or not at all.
const DETACHED: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);
/// Largest question.
const ASK_MAX: usize = 64 * 1024;

/// Serves one.
pub(crate) async fn serve(stream: TcpStream, from: SocketAddr, driver: &Driver, exec: &Exec) {
    let context = driver.context();
    let ask = async {
        let mut tls = TlsAcceptor::from(context.server.clone()).accept(stream).await?;
        let ask: ControlAsk = mesh::read_frame_of(&mut tls, ASK_MAX).await?;
        io::Result::Ok((tls, ask))
    };
    let (mut tls, ask) = match timeout(TALK, ask).await {
        Ok(Ok(r)) => r,
        Ok(Err(e)) => return tracing::debug!("no request from {from}: {e}"),
        Err(_) => return tracing::debug!("no request from {from}: too slow"),
    };
    let key = peer_key(tls.get_ref().1.peer_certificates());
    let host = &context.identity.own.name;
    let reply = match answer(ask, key, host, driver, exec).await {
        Ok(text) => {
            tracing::info!("{text}");
            ControlReply { error: None, text }
        }
        Err((code, text)) => {
            tracing::info!("refused a request from {from}: {text}");
            let code = code as i32;
            ControlReply {
                error: Some(Error { code, text }),
                text: String::new(),
            }
        }
    };
    if let Err(e) = say(&mut tls, &reply).await {
        tracing::debug!("{from} did not wait for the answer: {e}");
    }
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(tls: &mut S, reply: &ControlReply) -> io::Result<()> {
    let write = async {
        tls.write_all(&frame::encode(reply)).await?;
        tls.shutdown().await?;
        // Closing on what it still sends would reset the connection under the answer.
        tokio::io::copy(tls, &mut tokio::io::sink()).await.map(drop)
    };
    timeout(TALK, write)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

type Refused = (ErrorCode, String);

/// What was done, for people.
async fn answer(
    ask: ControlAsk,
    key: Option<[u8; 32]>,
    host: &str,
    driver: &Driver,
    exec: &Exec,
) -> Result<String, Refused> {
    let bad = |text: &str| (ErrorCode::BadRequest, text.to_owned());
    // What it is worth is queue-exec's to say. This connection is at least that of whom it was signed for.
    let (ticket, ..) = Ticket::parse(&ask.ticket).map_err(|e| bad(&e.to_string()))?;
    if key != Some(ticket.client_key) {
        return Err(bad("the ticket is for another key than this connection's"));
    }
    let request = Request::Control {
        ticket: ask.ticket,
        source_cert: ask.source_cert,
        body: ask.body,
    };
    let (by, control) = match timeout(DECIDE, exec.ask(request, None)).await {
        Ok(Ok(Reply::Controlled { by, control })) => (by, control),
        Ok(Ok(Reply::Refused { code, text })) => return Err((code_of(code), text)),
        Ok(Ok(_)) => {
            let text = format!("queue-exec on {host} is of another version");
            return Err((ErrorCode::Internal, text));
        }
        Ok(Err(Gone::Away)) => return Err((ErrorCode::NotReady, exec::away(host))),
        Ok(Err(Gone::Lost)) | Err(_) => {
            let text = format!("queue-exec on {host} did not say whether it did it: look, then try again");
            return Err((ErrorCode::Internal, text));
        }
    };
    Ok(match control {
        Control::Kill { session, signal: 0 } => end(session, &by, exec).await,
        Control::Kill { session, signal } => {
            let signal = Signal::try_from(i32::from(signal))
                .map_or_else(|_| format!("signal {signal}"), |s| s.as_str().to_owned());
            format!("{} got {signal}", name(&session))
        }
        Control::Detach { session } => detached(session, host, exec).await?,
        Control::Drain { reason } => {
            let drain = Drain {
                by,
                reason,
                since: clock_ms() / 1000,
            };
            set(driver, Some(drain)).await;
            format!("{host} takes nothing new; {}", left(running(exec)))
        }
        Control::Undrain => {
            set(driver, None).await;
            format!("{host} takes commands again")
        }
    })
}

/// How people know a session.
fn name(session: &Nonce) -> String {
    format!("s{}", hex(&session[..4]))
}

/// Waits until a session that was told to end is gone.
async fn end(session: Nonce, by: &str, exec: &Exec) -> String {
    let until = Instant::now() + ENDED;
    while exec.session(&session).is_some() {
        if Instant::now() >= until {
            return format!("{} was told to end (by {by}), and has not yet", name(&session));
        }
        sleep(LOOK).await;
    }
    format!("{} is ended", name(&session))
}

/// Waits until a session that was told to let go of its user says that it has.
async fn detached(session: Nonce, host: &str, exec: &Exec) -> Result<String, Refused> {
    let until = Instant::now() + DETACHED;
    loop {
        match exec.session(&session) {
            None => return Err((ErrorCode::BadRequest, format!("{} has ended", name(&session)))),
            Some(s) if s.attached.detached => return Ok(format!("{} is detached", name(&session))),
            Some(_) if Instant::now() >= until => {
                let text = format!(
                    "{} on {host} could not be detached: only a session with a terminal can, because there is \
                     something to come back to; 'queue -b' runs jobs without one",
                    name(&session)
                );
                return Err((ErrorCode::BadRequest, text));
            }
            Some(_) => sleep(LOOK).await,
        }
    }
}

/// Tells the engine, and waits until it knows.
async fn set(driver: &Driver, drain: Option<Drain>) {
    driver.send(Event::Input(Input::Drain(drain))).await;
    // One after the other.
    let _ = driver.ask(Question::Hosts).await;
}

fn running(exec: &Exec) -> usize {
    exec.sessions().iter().filter(|s| !s.need.look).count()
}

fn left(sessions: usize) -> String {
    match sessions {
        0 => "no session runs there".into(),
        1 => "1 session goes on".into(),
        n => format!("{n} sessions go on"),
    }
}

/// As it is told to programs.
pub(crate) fn code_of(r: Refusal) -> ErrorCode {
    match r {
        Refusal::Denied | Refusal::Policy => ErrorCode::Denied,
        Refusal::Clock => ErrorCode::Clock,
        Refusal::NotReady => ErrorCode::NotReady,
        Refusal::Busy => ErrorCode::Full,
        Refusal::BadTicket => ErrorCode::BadRequest,
        Refusal::Token | Refusal::Name | Refusal::Clone | Refusal::Internal => ErrorCode::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_people() {
        assert_eq!(name(&[0x1a; 16]), "s1a1a1a1a");
        assert_eq!(left(0), "no session runs there");
        assert_eq!(
            (left(1), left(3)),
            ("1 session goes on".into(), "3 sessions go on".into())
        );
        assert_eq!(code_of(Refusal::Policy), ErrorCode::Denied);
    }
}
