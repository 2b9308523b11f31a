//! Asks the host that leads the batch jobs: one question, and as many answers as it gives. Who asks is said by a
//! ticket, as for a session. Knows the connection; not what the answers mean.

use crate::control::{connected, said};
use crate::launch::unreachable;
use crate::messages::{Failure, printable};
use crate::place::Daemon;
use crate::sign::{self, Signer, Subject};
use libqueue::frame;
use libqueue::tls::{KeyPair, Peer, client_config, server_name};
use libqueue::wire::job::{FRAME_MAX, JobAsk, JobReply, KIND_JOBS, Query, job_reply, query};
use libqueue::wire::{self, Empty, Placed, reply, request};
use nix::sys::socket::{setsockopt, sockopt};
use prost::Message as _;
use queue_exec::cert::HostCert;
use queue_exec::layout::Layout;
use rustls::{ClientConnection, StreamOwned};
use std::io::{self, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// How long the leader may take to accept the connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a silent connection is believed in while we wait without end: the kernel asks in between.
const KEEPALIVE: (u32, u32, u32) = (10, 5, 3);

/// Answers that come in.
#[derive(Debug)]
pub struct Answers {
    stream: StreamOwned<ClientConnection, TcpStream>,
    /// The leader's name.
    pub host: String,
}

impl Answers {
    /// The next one; `None`: there are no more. It may take as long as it likes.
    ///
    /// # Errors
    /// The connection broke.
    pub fn next_reply(&mut self) -> io::Result<Option<job_reply::Kind>> {
        match frame::read_up_to::<JobReply>(&mut self.stream, FRAME_MAX) {
            Ok(JobReply { kind: Some(kind) }) => Ok(Some(kind)),
            Ok(JobReply { kind: None }) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "an answer that this version does not know",
            )),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The connection, for who waits for other things as well. What TLS has decrypted already does not show there.
    pub fn socket(&self) -> &TcpStream {
        &self.stream.sock
    }

    /// Lets answers take as long as they like; a leader that lost power is still noticed.
    ///
    /// # Errors
    /// The socket does not do that.
    pub fn have_patience(&self) -> io::Result<()> {
        let sock = &self.stream.sock;
        sock.set_read_timeout(None)?;
        let (idle, interval, count) = KEEPALIVE;
        setsockopt(sock, sockopt::KeepAlive, &true)?;
        setsockopt(sock, sockopt::TcpKeepIdle, &idle)?;
        setsockopt(sock, sockopt::TcpKeepInterval, &interval)?;
        setsockopt(sock, sockopt::TcpKeepCount, &count)?;
        Ok(())
    }

    /// Why there is no answer, in words.
    pub fn lost(&self, e: &io::Error) -> Failure {
        let name = printable(&self.host);
        Failure::own(format!("{name}, which leads the jobs: {}", said(&name, e)))
    }
}

/// Asks.
///
/// # Errors
/// There is no daemon here, nobody leads, or the leader cannot be reached.
pub fn ask(kind: query::Kind) -> Result<Answers, Failure> {
    ask_encoded(&Query { kind: Some(kind) }.encode_to_vec())
}

fn ask_encoded(query: &[u8]) -> Result<Answers, Failure> {
    let layout = Layout::for_client();
    let placed = leader(&layout)?;
    let key = KeyPair::generate().map_err(|e| Failure::own(e.to_string()))?;
    let signer = Signer::dial(&layout)?;
    signer.ask(&Subject {
        target_cert: &placed.cert,
        login: "",
        nonce: sign::nonce()?,
        request: sign::hash(query)?,
        client_key: key.public(),
    })?;
    let signed = signer.answer()?;
    let ask = JobAsk {
        ticket: signed.ticket,
        source_cert: signed.source_cert,
        query: query.to_vec(),
    };
    let host = placed.host.clone();
    let (cert, ..) = HostCert::parse(&placed.cert)
        .map_err(|e| Failure::own(format!("the certificate of {}: {e}", printable(&host))))?;
    let config =
        client_config(&key, Peer::Pinned(cert.tls_key)).map_err(|e| Failure::own(format!("TLS: {e}")))?;
    let sock = connected(&placed.address).map_err(|e| {
        let away = unreachable(&placed, &e, CONNECT);
        let name = printable(&host);
        Failure::own(format!(
            "{name}, which leads the batch jobs, cannot be reached; jobs go on, and new ones wait here: {}",
            away.text
        ))
    })?;
    let talk = |mut sock: TcpStream| -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let tls = ClientConnection::new(config, server_name()).map_err(io::Error::other)?;
        sock.write_all(&wire::preamble(KIND_JOBS, &[]))?;
        let mut stream = StreamOwned::new(tls, sock);
        stream.write_all(&frame::encode(&ask))?;
        stream.flush()?;
        Ok(stream)
    };
    let stream = talk(sock).map_err(|e| {
        let name = printable(&host);
        Failure::own(format!("{name}, which leads the jobs: {}", said(&name, &e)))
    })?;
    Ok(Answers { stream, host })
}

/// Asks, and takes the one answer; an error that the leader reports becomes a [`Failure`] with its text.
///
/// # Errors
/// As [`ask`], or that.
pub fn reply(kind: query::Kind) -> Result<job_reply::Kind, Failure> {
    let mut answers = ask(kind)?;
    match answers.next_reply() {
        Ok(Some(job_reply::Kind::Error(e))) => Err(Failure::own(printable(&e.text))),
        Ok(Some(kind)) => Ok(kind),
        Ok(None) => Err(answers.lost(&io::ErrorKind::UnexpectedEof.into())),
        Err(e) => Err(answers.lost(&e)),
    }
}

/// For an answer of another kind than was asked for.
pub fn strange() -> Failure {
    Failure::own("the leader gave an answer that this version does not know: is it of another version?")
}

/// Where the leader is.
///
/// # Errors
/// There is no daemon here, or nobody leads.
pub fn leader(layout: &Layout) -> Result<Placed, Failure> {
    let mut daemon = Daemon::dial(layout)?;
    match daemon.request(request::Kind::Leader(Empty {}))? {
        reply::Kind::Placed(placed) => Ok(placed),
        _ => Err(daemon.strange()),
    }
}
