//! One host: connect, show the ticket, check the grant, finish TLS.

use super::Way;
use super::connect::{answer, start_connect, unreachable};
use super::quiet::Quiet;
use crate::messages::{Failure, link_reason, printable};
use crate::sign::{self, Signer, Subject};
use libqueue::link::{Link, LinkError};
use libqueue::tls::{KeyPair, Peer, client_config};
use libqueue::wire::{self, AttachHello, ErrorCode, Placed, SessionHello};
use nix::libc;
use prost::Message as _;
use queue_exec::layout::Layout;
use queue_exec::ticket::{Grant, Nonce};
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How long TLS may take.
const HANDSHAKE: Duration = Duration::from_secs(20);

/// Why one host did not do.
pub(super) enum Fault {
    /// Another one may.
    Host(Failure),
    /// It has no room, takes nothing new, or is not up to it: nothing was begun. Another one may do, and where it
    /// is only a matter of time this one later.
    NoRoom(Failure, ErrorCode),
    /// None will.
    Final(Failure),
}

/// What is wanted of the host.
pub(super) enum Wanted {
    /// A new session, for a command that needs this.
    Session(Option<wire::Need>),
    /// To see this one.
    Attach(Nonce),
}

/// What stays the same from host to host.
pub(super) struct Asker<'a> {
    pub(super) layout: &'a Layout,
    pub(super) key: &'a KeyPair,
    pub(super) login: &'a str,
    pub(super) wanted: Wanted,
    pub(super) hash: [u8; 32],
    /// The stream is to outlive its connection.
    pub(super) resume: bool,
    pub(super) limit: Duration,
    pub(super) answer: Duration,
    /// The user is told of a host that says nothing.
    pub(super) tell: bool,
}

impl Asker<'_> {
    /// A session there, how to come back to it, and the connection over which we were vouched for.
    pub(super) fn try_host(
        &self,
        placed: &Placed,
        signer: Option<Result<Signer, Failure>>,
    ) -> Result<(Link, Option<Way>, OwnedFd), Fault> {
        let host = printable(&placed.host);
        let mut quiet = Quiet::new(&host, self.tell);
        let result = self.ask(placed, signer, &host, &mut quiet);
        quiet.over();
        result
    }

    fn ask(
        &self,
        placed: &Placed,
        signer: Option<Result<Signer, Failure>>,
        host: &str,
        quiet: &mut Quiet<'_>,
    ) -> Result<(Link, Option<Way>, OwnedFd), Fault> {
        let begun = Instant::now();
        let sock = start_connect(&placed.address).map_err(|e| self.unreachable(placed, &e))?;

        let nonce = sign::nonce().map_err(Fault::Final)?;
        let signer = signer
            .unwrap_or_else(|| Signer::dial(self.layout))
            .map_err(Fault::Final)?;
        let subject = Subject {
            target_cert: &placed.cert,
            login: self.login,
            nonce,
            request: self.hash,
            client_key: self.key.public(),
        };
        signer.ask(&subject).map_err(Fault::Final)?;
        let pin = Arc::new(OnceLock::new());
        let config = client_config(self.key, Peer::Later(pin.clone()))
            .map_err(|e| Fault::Final(Failure::own(format!("TLS: {e}"))))?;
        let mut link = Link::client(sock, config.clone()).map_err(|e| self.unreachable(placed, &e))?;
        let signed = signer.answer().map_err(Fault::Final)?;
        let (kind, hello, session) = match &self.wanted {
            Wanted::Session(need) => {
                let hello = SessionHello {
                    ticket: signed.ticket,
                    source_cert: signed.source_cert,
                    need: need.clone(),
                };
                (wire::KIND_SESSION, hello.encode_to_vec(), nonce)
            }
            Wanted::Attach(session) => {
                let hello = AttachHello {
                    ticket: signed.ticket,
                    source_cert: signed.source_cert,
                    session: session.to_vec(),
                };
                (wire::KIND_ATTACH, hello.encode_to_vec(), *session)
            }
        };
        link.prepend(&wire::preamble(kind, &hello));
        while !link.flush().map_err(|e| self.unreachable(placed, &e))? {
            link.socket()
                .ok_or(LinkError::Timeout)
                .and_then(|s| quiet.wait(s, libc::POLLOUT, begun + self.limit))
                .map_err(|e| self.unreachable(placed, &e))?;
        }
        let answer = answer(&link, quiet, Instant::now() + self.answer).map_err(|e| {
            Fault::Host(Failure::own(match e {
                LinkError::Timeout => {
                    format!(
                        "{host} accepted the connection and then said nothing for {} s",
                        self.answer.as_secs()
                    )
                }
                e => format!(
                    "{host} gave no answer ({}): see the log of queued there",
                    link_reason(&e)
                ),
            }))
        })?;
        if !answer.refused.is_empty() {
            let failure = Failure::own(format!("{host}: {}", printable(&answer.refused)));
            return Err(match answer.code() {
                code @ (ErrorCode::Full | ErrorCode::Draining | ErrorCode::Unfit) => {
                    Fault::NoRoom(failure, code)
                }
                _ => Fault::Host(failure),
            });
        }
        let grant = Grant::verify(&answer.grant, &signed.target_key)
            .ok()
            .filter(|g| g.nonce == nonce)
            .ok_or_else(|| {
                Fault::Host(Failure::own(format!(
                    "{} is not {host}, or its keys have changed: nothing was sent to it",
                    printable(&placed.address)
                )))
            })?;
        let _ = pin.set(grant.session_key);
        quiet
            .until(Instant::now() + HANDSHAKE, |end| {
                link.handshake(end.saturating_duration_since(Instant::now()), |_| {})
            })
            .map_err(|e| Fault::Host(Failure::own(format!("{host}: no session ({})", link_reason(&e)))))?;
        let way = (self.resume && answer.resume).then(|| Way {
            address: placed.address.clone(),
            session,
            config,
            host_key: signed.target_key,
        });
        Ok((link, way, signer.into()))
    }

    fn unreachable(&self, placed: &Placed, e: &LinkError) -> Fault {
        Fault::Host(unreachable(placed, e, self.limit))
    }
}
