//! The server's side of joining: shows the authority and its own certificate before the joiner sends
//! anything secret, checks clock and name, has queue-exec admit it, and tells everybody. Knows the messages;
//! tokens and certificates are queue-exec's.

use crate::context::Context;
use crate::driver::{Driver, Event};
use crate::engine::types::{Entry, Host, Input};
use crate::exec::{self, Exec};
use crate::mesh::{HANDSHAKE, clock_ms, read_frame_of, skew};
use crate::{name, verify};
use libqueue::frame;
use libqueue::tls::peer_key;
use libqueue::wire::{Error, ErrorCode, JoinOffer, JoinReply, JoinRequest, PROTOCOL, Roster, RosterEntry};
use queue_exec::cert::CLOCK_SKEW;
use queue_exec::protocol::{Refusal, Reply, Request};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// How long a joiner may take to ask.
const ASK: Duration = Duration::from_secs(10);
/// Largest request: it comes from somebody unknown.
const REQUEST_MAX: usize = 4096;
/// A joiner asks once to try and once in earnest.
const REQUESTS: usize = 4;

/// Serves a connection whose preamble was a joiner's.
pub(crate) async fn serve(
    stream: TcpStream,
    from: SocketAddr,
    context: Arc<Context>,
    driver: Driver,
    exec: Exec,
) {
    let local = stream.local_addr().ok().map(|a| a.ip());
    let mut tls = match timeout(
        HANDSHAKE,
        TlsAcceptor::from(context.server.clone()).accept(stream),
    )
    .await
    {
        Ok(Ok(tls)) => tls,
        Ok(Err(e)) => return tracing::debug!("no join from {from}: {e}"),
        Err(_) => return tracing::debug!("no join from {from}: too slow"),
    };
    let Some(tls_key) = peer_key(tls.get_ref().1.peer_certificates()) else {
        return;
    };
    let offer = JoinOffer {
        authority: context.identity.authority.to_vec(),
        cert: context.identity.own.cert.clone(),
        clock_ms: clock_ms(),
        protocol: PROTOCOL,
        cluster: context.identity.cluster.name.clone(),
    };
    let talk = async {
        tls.write_all(&frame::encode(&offer)).await?;
        for _ in 0..REQUESTS {
            let wanted: JoinRequest = timeout(ASK, read_frame_of(&mut tls, REQUEST_MAX)).await??;
            let reply = match answer(&wanted, tls_key, from.ip(), local, &context, &driver, &exec).await {
                Ok(reply) => reply,
                Err(error) => {
                    tracing::warn!(
                        "did not admit {} ({from}): {}",
                        printable(&wanted.name),
                        error.text
                    );
                    JoinReply {
                        error: Some(error),
                        ..JoinReply::default()
                    }
                }
            };
            timeout(ASK, tls.write_all(&frame::encode(&reply))).await??;
        }
        std::io::Result::Ok(())
    };
    if let Err(e) = talk.await
        && e.kind() != std::io::ErrorKind::UnexpectedEof
    {
        tracing::debug!("join from {from}: {e}");
    }
    let _ = timeout(Duration::from_secs(1), tls.shutdown()).await;
}

fn printable(text: &str) -> String {
    libqueue::text::plain(text, 80)
}

fn error(code: ErrorCode, text: impl Into<String>) -> Error {
    Error {
        code: code as i32,
        text: text.into(),
    }
}

async fn answer(
    wanted: &JoinRequest,
    tls_key: [u8; 32],
    from: IpAddr,
    local: Option<IpAddr>,
    context: &Context,
    driver: &Driver,
    exec: &Exec,
) -> Result<JoinReply, Error> {
    let own = &context.identity.own.name;
    clock(wanted.clock_ms, own)?;
    name::check(&wanted.name, wanted.force).map_err(|e| error(ErrorCode::Name, e.to_string()))?;
    if !context.identity.cluster.authority {
        let text =
            format!("{own} does not hold the cluster's authority: make a token where 'queued init' ran");
        return Err(error(ErrorCode::NotReady, text));
    }
    let host_key: [u8; 32] = wanted
        .host_key
        .as_slice()
        .try_into()
        .map_err(|_| error(ErrorCode::BadRequest, "the request has no host key of 32 bytes"))?;
    let address = address(wanted, from)?;
    let request = Request::Admit {
        token: wanted.token.clone(),
        secret: wanted.secret.clone(),
        name: wanted.name.clone(),
        host_key,
        tls_key,
        dry_run: wanted.dry_run,
    };
    let cert = match exec.ask(request, None).await {
        Ok(Reply::Admitted { cert }) => cert,
        Ok(Reply::Done) if wanted.dry_run => {
            return Ok(JoinReply {
                cluster: context.identity.cluster.name.clone(),
                address,
                ..JoinReply::default()
            });
        }
        Ok(Reply::Refused { code, text }) => return Err(error(code_of(code), text)),
        Ok(_) => {
            return Err(error(
                ErrorCode::Internal,
                format!("queue-exec on {own} is of another version"),
            ));
        }
        Err(_) => return Err(error(ErrorCode::NotReady, exec::away(own))),
    };
    let host = context.verifier.host(&cert).map_err(|e| {
        error(
            ErrorCode::Internal,
            format!("the new certificate does not fit: {e}"),
        )
    })?;
    tracing::info!("admitted {} at {address}", host.name);
    let roster = roster(context, driver, &host, local).await;
    let (tx, rx) = tokio::sync::oneshot::channel();
    driver.send(Event::Revocations(tx)).await;
    let revocations = rx.await.unwrap_or_default();
    let (tx, rx) = tokio::sync::oneshot::channel();
    driver.send(Event::Keys(tx)).await;
    let keys = rx.await.unwrap_or_default();
    driver
        .send(Event::Input(Input::Joined(Entry {
            host,
            address: address.clone(),
            authority: false,
        })))
        .await;
    Ok(JoinReply {
        keys,
        error: None,
        cert,
        roster: Some(Roster {
            members: roster,
            wanted: false,
        }),
        revocations,
        cluster: context.identity.cluster.name.clone(),
        address,
    })
}

/// Clocks must agree, or no ticket would be accepted between the two.
fn clock(theirs_ms: u64, own: &str) -> Result<(), Error> {
    let ahead = skew(theirs_ms);
    if ahead.unsigned_abs() <= CLOCK_SKEW {
        return Ok(());
    }
    let by = span(ahead.unsigned_abs());
    let text = if ahead > 0 {
        format!("your clock is {by} ahead of {own}'s: set the clocks (timedatectl, chronyc), then join again")
    } else {
        format!("your clock is {by} behind {own}'s: set the clocks (timedatectl, chronyc), then join again")
    };
    Err(error(ErrorCode::Clock, text))
}

/// A time for people.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Where the joiner will be reached: as it says, else where it came from.
fn address(wanted: &JoinRequest, from: IpAddr) -> Result<String, Error> {
    if !wanted.address.is_empty() {
        let a = verify::address(&wanted.address);
        let bad = || {
            error(
                ErrorCode::BadRequest,
                format!("'{}' is not IP:PORT", printable(&wanted.address)),
            )
        };
        return if a.is_empty() { Err(bad()) } else { Ok(a) };
    }
    let port = u16::try_from(wanted.port).ok().filter(|p| *p != 0);
    let port = port.ok_or_else(|| error(ErrorCode::BadRequest, "the request names no port"))?;
    Ok(SocketAddr::new(crate::address::plain(from), port).to_string())
}

/// All members for a newcomer, ourselves with the address at which it reached us.
async fn roster(
    context: &Context,
    driver: &Driver,
    newcomer: &Host,
    local: Option<IpAddr>,
) -> Vec<RosterEntry> {
    let (tx, rx) = tokio::sync::oneshot::channel();
    driver.send(Event::Roster(tx)).await;
    let mut members = rx.await.unwrap_or_default();
    members.retain(|e| e.host.name != newcomer.name);
    members
        .into_iter()
        .map(|e| {
            let own = e.host.name == context.identity.own.name;
            let address = if own {
                context.address_for(local)
            } else {
                e.address
            };
            RosterEntry {
                cert: e.host.cert,
                address,
                authority: e.authority,
            }
        })
        .collect()
}

fn code_of(r: Refusal) -> ErrorCode {
    match r {
        Refusal::Token => ErrorCode::Token,
        Refusal::Name => ErrorCode::Name,
        Refusal::Clone => ErrorCode::Clone,
        Refusal::Clock => ErrorCode::Clock,
        Refusal::NotReady => ErrorCode::NotReady,
        Refusal::Denied | Refusal::Policy => ErrorCode::Denied,
        Refusal::BadTicket => ErrorCode::BadRequest,
        Refusal::Busy | Refusal::Internal => ErrorCode::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_is_told_with_its_direction() {
        assert!(clock(clock_ms(), "h1").is_ok());
        assert!(clock(clock_ms() + 200_000, "h1").is_ok());
        let e = clock(clock_ms() + 3_600_500, "h1").unwrap_err();
        assert!(e.text.contains("60 min ahead of h1's"), "{}", e.text);
        assert_eq!(e.code, ErrorCode::Clock as i32);
        let e = clock(clock_ms() - 7_200_000, "h1").unwrap_err();
        assert!(e.text.contains("2 h behind h1's"), "{}", e.text);
        assert!(clock(0, "h1").is_err() && clock(u64::MAX, "h1").is_err());
    }

    #[test]
    fn the_address_is_what_it_says_or_where_it_came_from() {
        let r = |address: &str, port| JoinRequest {
            address: address.into(),
            port,
            ..JoinRequest::default()
        };
        let from = "::ffff:10.0.0.9".parse().unwrap();
        assert_eq!(address(&r("", 7838), from).unwrap(), "10.0.0.9:7838");
        assert_eq!(address(&r("10.1.1.1:9", 7838), from).unwrap(), "10.1.1.1:9");
        assert!(address(&r("h1:9", 7838), from).is_err());
        assert!(address(&r("", 0), from).is_err() && address(&r("", 70_000), from).is_err());
    }
}
