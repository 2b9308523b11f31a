//! Asks a host itself for something that is no command: to end a session, to take no new ones. One connection,
//! one question, one answer; who asks is said by a ticket, as for a session.

use crate::launch::{start_connect, unreachable, wait};
use crate::messages::{Failure, printable, reason};
use crate::place::Daemon;
use crate::sign::{self, Signer, Subject};
use libqueue::frame;
use libqueue::link::LinkError;
use libqueue::tls::{KeyPair, Peer, client_config, server_name};
use libqueue::wire::{self, ControlAsk, ControlReply, Need, Place, Placed, reply, request};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{getsockopt, sockopt};
use queue_exec::cert::HostCert;
use queue_exec::layout::Layout;
use queue_exec::protocol::Control;
use rustls::{ClientConnection, StreamOwned};
use std::io::{self, Write as _};
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

/// How long a host may take to accept the connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long it may take for each step after that: its name service has a say in who is an operator.
const ANSWER: Duration = Duration::from_secs(20);

/// Asks a host, as the account `login` there (empty: the same name). What was done, in its words.
///
/// # Errors
/// It cannot be reached, or it will not.
pub fn ask(host: &str, login: &str, control: &Control) -> Result<String, Failure> {
    let layout = Layout::for_client();
    let placed = locate(&layout, host)?;
    let body = control.encode();
    let key = KeyPair::generate().map_err(|e| Failure::own(e.to_string()))?;
    let signer = Signer::dial(&layout)?;
    signer.ask(&Subject {
        target_cert: &placed.cert,
        login,
        nonce: sign::nonce()?,
        request: sign::hash(&body)?,
        client_key: key.public(),
    })?;
    // The certificate came from the daemon; that it is this cluster's is what the signature says.
    let signed = signer.answer()?;
    let ask = ControlAsk {
        ticket: signed.ticket,
        source_cert: signed.source_cert,
        body,
    };
    let name = printable(&placed.host);
    let reply =
        exchange(&placed, &key, &ask)?.map_err(|e| Failure::own(format!("{name}: {}", said(&name, &e))))?;
    match reply.error {
        Some(e) => Err(Failure::own(format!("{name}: {}", printable(&e.text)))),
        None => Ok(printable(&reply.text)),
    }
}

/// Where a host is, whether or not it takes commands.
///
/// # Errors
/// No daemon, or it knows no such host.
pub(crate) fn locate(layout: &Layout, host: &str) -> Result<Placed, Failure> {
    let mut daemon = Daemon::dial(layout)?;
    let place = Place {
        host: host.to_owned(),
        need: Some(Need {
            by_name: true,
            ..Need::default()
        }),
        ..Place::default()
    };
    match daemon.request(request::Kind::Place(place))? {
        reply::Kind::Placed(placed) => Ok(placed),
        _ => Err(daemon.strange()),
    }
}

/// The outer error: no connection. The inner one: a connection, and no answer.
fn exchange(
    placed: &Placed,
    key: &KeyPair,
    ask: &ControlAsk,
) -> Result<Result<ControlReply, io::Error>, Failure> {
    let (cert, ..) = HostCert::parse(&placed.cert)
        .map_err(|e| Failure::own(format!("the certificate of {}: {e}", printable(&placed.host))))?;
    let config =
        client_config(key, Peer::Pinned(cert.tls_key)).map_err(|e| Failure::own(format!("TLS: {e}")))?;
    let sock = connected(&placed.address).map_err(|e| unreachable(placed, &e, CONNECT))?;
    Ok(talk(sock, config, ask))
}

pub(crate) fn connected(address: &str) -> Result<TcpStream, LinkError> {
    let sock = start_connect(address)?;
    wait(sock.as_fd(), libc::POLLOUT, Instant::now() + CONNECT)?;
    match getsockopt(&sock, sockopt::SocketError)? {
        0 => {}
        e => return Err(Errno::from_raw(e).into()),
    }
    let sock = TcpStream::from(sock);
    sock.set_nonblocking(false)?;
    sock.set_read_timeout(Some(ANSWER))?;
    sock.set_write_timeout(Some(ANSWER))?;
    Ok(sock)
}

fn talk(
    mut sock: TcpStream,
    config: std::sync::Arc<rustls::ClientConfig>,
    ask: &ControlAsk,
) -> io::Result<ControlReply> {
    let tls = ClientConnection::new(config, server_name()).map_err(io::Error::other)?;
    sock.write_all(&wire::preamble(wire::KIND_CONTROL, &[]))?;
    let mut stream = StreamOwned::new(tls, sock);
    stream.write_all(&frame::encode(ask))?;
    stream.flush()?;
    frame::read(&mut stream)
}

/// Why there was no answer, in words.
pub(crate) fn said(host: &str, e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!(
            "accepted the connection and then said nothing for {} s: see the log of queued there",
            ANSWER.as_secs()
        ),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            format!(
                "closed the connection without an answer: see the log of queued on {host}; is it of an older version?"
            )
        }
        _ => format!("no answer ({}): see the log of queued there", reason(e)),
    }
}
