//! The joiner's side of joining: connects, checks the authority's fingerprint before anything secret is sent,
//! asks, and checks what it gets. Writes nothing. Blocking: it is one short talk of a command.

use crate::admit::span;
use crate::mesh::{clock_ms, explain, skew};
use crate::verify::Verifier;
use anyhow::{anyhow, bail};
use libqueue::frame;
use libqueue::tls::{self, KeyPair, Peer, peer_key};
use libqueue::wire::{JoinOffer, JoinReply, JoinRequest, KIND_JOIN, PROTOCOL, preamble};
use queue_exec::cert::{CLOCK_SKEW, HostCert, PublicKey, Revocations, fingerprint};
use queue_exec::state::unix_now;
use queue_exec::token::Token;
use rustls::{ClientConnection, StreamOwned};
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// For all attempts to connect together.
const CONNECT: Duration = Duration::from_secs(4);
/// For each answer.
const ANSWER: Duration = Duration::from_secs(10);

/// A connection with a member whose authority is the token's.
pub(crate) struct Talk {
    stream: StreamOwned<ClientConnection, TcpStream>,
    /// The authority's public key.
    pub authority: PublicKey,
    /// Name of the member.
    pub member: String,
    /// Name of the cluster.
    pub cluster: String,
    /// The member's address, as we reached it.
    pub address: SocketAddr,
}

/// What a joiner gets.
#[derive(Debug)]
pub(crate) struct Admission {
    /// Our certificate.
    pub cert: Vec<u8>,
    /// What it says.
    pub said: HostCert,
    /// The rest of the answer.
    pub reply: JoinReply,
}

/// A refusal or failure: whether the request may have been granted all the same.
#[derive(Debug)]
pub(crate) struct AskError {
    /// What to tell people.
    pub text: String,
    /// The answer did not come: nobody here knows.
    pub open: bool,
}

/// Connects and checks the offer. Nothing of the token but its address is sent.
///
/// # Errors
/// What failed, where, and what to do.
pub(crate) fn connect(token: &Token, tls: &KeyPair) -> anyhow::Result<Talk> {
    let (tcp, address) = dial(&token.address)?;
    let not_queue = |e: &io::Error| {
        anyhow!(
            "{address} does not answer as queued does ({e}): is it the port of queued, of the same version?"
        )
    };
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(ANSWER))?;
    tcp.set_write_timeout(Some(ANSWER))?;
    let config = tls::client_config(tls, Peer::Any)?;
    let mut stream = StreamOwned::new(ClientConnection::new(config, tls::server_name())?, tcp);
    stream
        .sock
        .write_all(&preamble(KIND_JOIN, &[]))
        .map_err(|e| not_queue(&e))?;
    let offer: JoinOffer = frame::read(&mut stream).map_err(|e| not_queue(&e))?;
    let shown = peer_key(stream.conn.peer_certificates());
    let (authority, said) = check_offer(&offer, token, shown)?;
    let cluster = libqueue::text::plain(&offer.cluster, 64);
    Ok(Talk {
        stream,
        authority,
        member: said.name,
        cluster,
        address,
    })
}

fn dial(address: &str) -> anyhow::Result<(TcpStream, SocketAddr)> {
    let typed = crate::address::parse(address).map_err(anyhow::Error::msg)?;
    let all = typed
        .resolve(libqueue::config::PORT)
        .map_err(anyhow::Error::msg)?;
    let until = Instant::now() + CONNECT;
    let mut why = String::new();
    for a in all {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&a, left) {
            Ok(s) => return Ok((s, a)),
            Err(e) => why = explain(&e, &a.to_string()),
        }
    }
    bail!(
        "cannot reach the host that made the token: {why}. Check that queued runs there, that {address} is reached \
         from here, and that the port is open in its firewall; 'queued init --advertise' sets another address"
    )
}

/// The fingerprint first, then the certificate and the key that TLS showed, then the clock.
fn check_offer(
    offer: &JoinOffer,
    token: &Token,
    shown: Option<[u8; 32]>,
) -> anyhow::Result<(PublicKey, HostCert)> {
    let at = &token.address;
    if offer.protocol != PROTOCOL {
        bail!(
            "{at} speaks protocol {}, this host {PROTOCOL}: use the same version of Queue on all hosts",
            offer.protocol
        );
    }
    let wrong = || {
        anyhow!(
            "{at} belongs to another cluster than the token: its authority has another fingerprint. Somebody else \
             answers there, or the cluster was made anew; nothing was sent. Make a new token"
        )
    };
    let authority: PublicKey = offer.authority.as_slice().try_into().map_err(|_| wrong())?;
    if fingerprint(&authority) != token.authority {
        return Err(wrong());
    }
    let forged =
        |e: String| anyhow!("{at} does not prove to be of the token's cluster ({e}); nothing was sent");
    let said = HostCert::verify(&offer.cert, &authority).map_err(|e| forged(e.to_string()))?;
    if shown != Some(said.tls_key) {
        return Err(forged(format!("it has not the key of {}", said.name)));
    }
    let ahead = -skew(offer.clock_ms);
    if ahead.unsigned_abs() > CLOCK_SKEW {
        let way = if ahead > 0 { "ahead of" } else { "behind" };
        bail!(
            "this host's clock is {} {way} {}'s: set the clocks (timedatectl, chronyc), then join again",
            span(ahead.unsigned_abs()),
            said.name
        );
    }
    said.check_now(unix_now(), &Revocations::default())
        .map_err(|e| forged(e.to_string()))?;
    Ok((authority, said))
}

impl Talk {
    /// Asks; a dry run has no certificate in its answer.
    ///
    /// # Errors
    /// What the member said, or what failed.
    pub(crate) fn ask(&mut self, mut wanted: JoinRequest) -> Result<JoinReply, AskError> {
        wanted.clock_ms = clock_ms();
        let open = !wanted.dry_run;
        let lost = |e: io::Error| AskError {
            text: format!("the connection to {} broke: {e}", self.member),
            open,
        };
        let send = self
            .stream
            .write_all(&frame::encode(&wanted))
            .and_then(|()| self.stream.flush());
        send.map_err(lost)?;
        let lost = |e: io::Error| AskError {
            text: format!("no answer from {}: {e}", self.member),
            open,
        };
        let reply: JoinReply = frame::read(&mut self.stream).map_err(lost)?;
        match reply.error {
            None => Ok(reply),
            Some(e) => {
                let text = libqueue::text::plain(&e.text, 1000);
                Err(AskError {
                    text: format!("{} did not admit this host: {text}", self.member),
                    open: false,
                })
            }
        }
    }

    /// Checks that an answer is for us.
    ///
    /// # Errors
    /// What does not fit.
    pub(crate) fn check(
        &self,
        reply: JoinReply,
        name: &str,
        tls: &KeyPair,
        host_key: &PublicKey,
    ) -> anyhow::Result<Admission> {
        Verifier::new(self.authority).host(&reply.cert)?;
        let said = HostCert::verify(&reply.cert, &self.authority)?;
        if said.name != name || said.tls_key != tls.public() || said.host_key != *host_key {
            bail!("the certificate that {} sent is not for this host", self.member);
        }
        if !reply.revocations.is_empty() {
            Revocations::verify(&reply.revocations, &self.authority)?;
        }
        Ok(Admission {
            cert: reply.cert.clone(),
            said,
            reply,
        })
    }

    /// Ends the talk politely.
    pub(crate) fn close(mut self) {
        self.stream.conn.send_close_notify();
        let _ = self.stream.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(authority: [u8; 32]) -> Token {
        Token {
            address: "10.0.0.1:7838".into(),
            authority,
            id: "a".into(),
            secret: "b".into(),
        }
    }

    #[test]
    fn another_authority_is_told_before_anything_else() {
        let offer = JoinOffer {
            authority: vec![1; 32],
            cert: vec![],
            clock_ms: 0,
            protocol: PROTOCOL,
            cluster: String::new(),
        };
        let e = check_offer(&offer, &token([9; 32]), None)
            .unwrap_err()
            .to_string();
        assert!(
            e.contains("another cluster") && e.contains("nothing was sent"),
            "{e}"
        );
        let e = check_offer(&offer, &token(fingerprint(&[1; 32])), None)
            .unwrap_err()
            .to_string();
        assert!(
            e.contains("does not prove") && e.contains("nothing was sent"),
            "{e}"
        );
        let old = JoinOffer {
            protocol: 99,
            ..offer
        };
        assert!(
            check_offer(&old, &token([9; 32]), None)
                .unwrap_err()
                .to_string()
                .contains("same version")
        );
    }

    #[test]
    fn nobody_there() {
        let e = dial("127.0.0.1:1").unwrap_err().to_string();
        assert!(
            e.contains("127.0.0.1:1") && e.contains("refused") && e.contains("firewall"),
            "{e}"
        );
    }
}
