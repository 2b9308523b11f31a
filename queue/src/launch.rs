//! The way to a session: ask the daemon for a host, the local `queue-exec` for a signature, connect, check the
//! grant, and finish TLS. What can overlap does: each wait is filled with the next step's preparation.
//!
//! Nothing is run before the [`wire::Launch`] is sent, which happens after this; so another host can be tried
//! as long as we are here.

use crate::messages::{Failure, link_reason, printable};
use crate::place::Daemon;
use crate::sign::{self, Signer, Subject};
use crate::sys;
use crate::waiting::Line;
use libqueue::link::{Link, LinkError};
use libqueue::stream::FIRST_CONTROL_MAX;
use libqueue::tls::{KeyPair, Peer, client_config};
use libqueue::wire::{self, ErrorCode, Place, Placed, SessionAnswer, SessionHello, reply, request};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, recv, setsockopt, socket, sockopt,
};
use prost::Message as _;
use queue_exec::cert::PublicKey;
use queue_exec::layout::Layout;
use queue_exec::ticket::{Grant, Nonce};
use rustls::ClientConfig;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How many hosts may fail when the choice is ours. One that only has no room is not counted.
const TRIES: usize = 3;
/// How long a host of our choice may take to accept a connection; then another one is tried.
const CONNECT_CHOSEN: Duration = Duration::from_secs(1);
/// How long a host that the user named may take.
const CONNECT_NAMED: Duration = Duration::from_secs(10);
/// How long a host of our choice may take to start a session; then another one is tried. A session that comes
/// too late finds nobody and runs nothing. A slow name service there says so sooner, after 8 s.
const ANSWER_CHOSEN: Duration = Duration::from_secs(10);
/// How long a host that the user named may take: more than its queued and its session grant each other.
const ANSWER_NAMED: Duration = Duration::from_secs(30);
/// How long TLS may take.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// After a host that we waited for had no room after all: how long until it is asked for again, at first and at
/// How often, and how long after one another, a host that has no room is asked again before that is an error.
const PAUSES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(50);
/// most.
const AGAIN: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(2)];

/// What a session is wanted for.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// Where.
    pub place: Place,
    /// The account there; empty for the same name.
    pub login: String,
    /// How long a host may take to accept the connection, if that was said.
    pub connect: Option<Duration>,
    /// How long it may take to start the session, if that was said.
    pub answer: Option<Duration>,
}

impl Ask {
    /// Whether the choice of the host is ours.
    fn chooses(&self) -> bool {
        matches!(self.place.host.as_str(), "" | "+") || self.place.prefer
    }
}

/// A session that waits for its first message.
#[derive(Debug)]
pub struct Session {
    /// The connection, TLS finished.
    pub link: Link,
    /// The host's name.
    pub host: String,
    /// The encoded request, to be sent first.
    pub launch: Vec<u8>,
    /// Whether it says that standard input is not read.
    pub no_stdin: bool,
    /// How to come back to it when the connection breaks; `None`: the session cannot do that.
    pub way: Option<Way>,
}

/// What is needed to come back to a session.
#[derive(Debug, Clone)]
pub struct Way {
    /// Where its host listens, `IP:PORT`.
    pub address: String,
    /// The session: its ticket's nonce.
    pub session: Nonce,
    /// TLS with the session's key and ours.
    pub config: Arc<ClientConfig>,
    /// The host's key: it signs that there is no such session any more ([`queue_exec::ticket::Gone`]).
    pub host_key: PublicKey,
}

/// Why one host did not do.
enum Fault {
    /// Another one may.
    Host(Failure),
    /// It has no room, takes nothing new, or is not up to it: nothing was begun. Another one may do, and where it
    /// is only a matter of time this one later.
    NoRoom(Failure, ErrorCode),
    /// None will.
    Final(Failure),
}

/// Gets a session for a request on a host that fits.
///
/// # Errors
/// No daemon, no host, or refused.
pub fn open(ask: &Ask, request: impl FnOnce() -> Result<wire::Launch, Failure>) -> Result<Session, Failure> {
    let layout = Layout::for_client();
    let (mut place, ours) = (ask.place.clone(), ask.chooses());
    let mut daemon = Daemon::dial(&layout)?;
    daemon.ask(request::Kind::Place(place.clone()))?;

    // While the daemon thinks:
    let key = KeyPair::generate().map_err(|e| Failure::own(e.to_string()))?;
    let launch = request()?;
    let (no_stdin, resume) = (launch.no_stdin, launch.resume);
    let launch = encode(&launch)?;
    let hash = sign::hash(&launch)?;
    let mut signer = Some(Signer::dial(&layout));
    let or = |given: Option<Duration>, chosen, named| given.unwrap_or(if ours { chosen } else { named });

    let asker = Asker {
        layout: &layout,
        key: &key,
        login: &ask.login,
        need: ask.place.need.clone(),
        hash,
        resume,
        limit: or(ask.connect, CONNECT_CHOSEN, CONNECT_NAMED),
        answer: or(ask.answer, ANSWER_CHOSEN, ANSWER_NAMED),
    };
    let mut before: Option<Failure> = None;
    let mut failed = 0;
    let mut again = AGAIN[0];
    let mut pauses = PAUSES;
    loop {
        let placed = match placed(&mut daemon, place.wait) {
            Ok(placed) => placed,
            Err(_) if daemon.is_full() && pauses > 0 => {
                // What ran there may be ending right now: one command after the other has room.
                pauses -= 1;
                std::thread::sleep(PAUSE);
                place.avoid.clear();
                daemon = Daemon::dial(&layout)?;
                daemon.ask(request::Kind::Place(place.clone()))?;
                continue;
            }
            // What was wrong with the last host tells more than that there is no other one.
            Err(e) => return Err(before.unwrap_or(e)),
        };
        match asker.try_host(&placed, signer.take()) {
            Ok((link, way)) => {
                return Ok(Session {
                    link,
                    host: placed.host,
                    launch,
                    no_stdin,
                    way,
                });
            }
            Err(Fault::Final(f)) => return Err(f),
            Err(Fault::NoRoom(_, code)) if place.wait && code != ErrorCode::Unfit => {
                // Somebody else was faster: back to waiting.
                std::thread::sleep(again);
                again = (again * 2).min(AGAIN[1]);
            }
            Err(Fault::NoRoom(_, ErrorCode::Full)) if !ours && pauses > 0 => {
                pauses -= 1;
                std::thread::sleep(PAUSE);
            }
            Err(Fault::NoRoom(f, _)) if ours => {
                place.avoid.push(placed.host);
                before = Some(f);
            }
            Err(Fault::Host(f)) if ours && failed + 1 < TRIES => {
                failed += 1;
                place.avoid.push(placed.host);
                before = Some(f);
            }
            Err(Fault::Host(f) | Fault::NoRoom(f, _)) => return Err(f),
        }
        daemon = Daemon::dial(&layout)?;
        daemon.ask(request::Kind::Place(place.clone()))?;
    }
}

/// The daemon's choice, which may take as long as it likes if the user wants to wait.
fn placed(daemon: &mut Daemon, wait: bool) -> Result<Placed, Failure> {
    if wait {
        daemon.have_patience()?;
    }
    let mut line = Line::default();
    let result = loop {
        match daemon.answer() {
            Ok(reply::Kind::Placed(placed)) => break Ok(placed),
            Ok(reply::Kind::Waiting(w)) if wait => line.show(&w),
            Ok(_) => break Err(daemon.strange()),
            Err(e) => break Err(e),
        }
    };
    line.clear();
    result
}

fn encode(launch: &wire::Launch) -> Result<Vec<u8>, Failure> {
    let bytes = launch.encode_to_vec();
    if bytes.len() > FIRST_CONTROL_MAX {
        return Err(Failure::own(format!(
            "arguments and environment are {} bytes together; at most {FIRST_CONTROL_MAX} can go along",
            bytes.len()
        )));
    }
    Ok(bytes)
}

/// What stays the same from host to host.
struct Asker<'a> {
    layout: &'a Layout,
    key: &'a KeyPair,
    login: &'a str,
    need: Option<wire::Need>,
    hash: [u8; 32],
    /// The stream is to outlive its connection.
    resume: bool,
    limit: Duration,
    answer: Duration,
}

impl Asker<'_> {
    fn try_host(
        &self,
        placed: &Placed,
        signer: Option<Result<Signer, Failure>>,
    ) -> Result<(Link, Option<Way>), Fault> {
        let host = printable(&placed.host);
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
        let hello = SessionHello {
            ticket: signed.ticket,
            source_cert: signed.source_cert,
            need: self.need.clone(),
        }
        .encode_to_vec();

        link.prepend(&wire::preamble(wire::KIND_SESSION, &hello));
        while !link.flush().map_err(|e| self.unreachable(placed, &e))? {
            link.socket()
                .ok_or(LinkError::Timeout)
                .and_then(|s| wait(s, libc::POLLOUT, begun + self.limit))
                .map_err(|e| self.unreachable(placed, &e))?;
        }
        let answer = answer(&link, Instant::now() + self.answer).map_err(|e| {
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
        link.handshake(HANDSHAKE, |_| {})
            .map_err(|e| Fault::Host(Failure::own(format!("{host}: no session ({})", link_reason(&e)))))?;
        let way = (self.resume && answer.resume).then(|| Way {
            address: placed.address.clone(),
            session: nonce,
            config,
            host_key: signed.target_key,
        });
        Ok((link, way))
    }

    fn unreachable(&self, placed: &Placed, e: &LinkError) -> Fault {
        Fault::Host(unreachable(placed, e, self.limit))
    }
}

/// Why a host did not even accept a connection.
pub(crate) fn unreachable(placed: &Placed, e: &LinkError, limit: Duration) -> Failure {
    let (host, address) = (printable(&placed.host), printable(&placed.address));
    Failure::own(match e {
        LinkError::Io(e) if e.raw_os_error() == Some(libc::ECONNREFUSED) => {
            format!("no queued listens on {host} ({address}): start it there, or see `queue hosts`")
        }
        LinkError::Timeout => {
            format!(
                "{host} ({address}) does not answer: nothing for {} s",
                limit.as_secs()
            )
        }
        e => format!("{host} ({address}) cannot be reached: {}", link_reason(e)),
    })
}

/// Starts connecting. Dead peers are noticed by the kernel within a minute or so.
pub(crate) fn start_connect(address: &str) -> Result<OwnedFd, LinkError> {
    let address: SocketAddr = address
        .parse()
        .map_err(|_| std::io::Error::other("the daemon gave an address that is none"))?;
    let family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let sock = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&sock, sockopt::TcpNoDelay, &true)?;
    setsockopt(&sock, sockopt::KeepAlive, &true)?;
    setsockopt(&sock, sockopt::TcpKeepIdle, &15)?;
    setsockopt(&sock, sockopt::TcpKeepInterval, &5)?;
    setsockopt(&sock, sockopt::TcpUserTimeout, &60_000)?;
    match connect(sock.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(sock),
        Err(e) => Err(e.into()),
    }
}

/// Reads the answer that comes in clear, and not one byte more.
fn answer(link: &Link, end: Instant) -> Result<SessionAnswer, LinkError> {
    let socket = link.socket().ok_or(LinkError::Timeout)?;
    let mut head = [0; 2];
    read_exact(socket, &mut head, end)?;
    let mut body = vec![0; usize::from(u16::from_be_bytes(head))];
    read_exact(socket, &mut body, end)?;
    SessionAnswer::decode(&body[..])
        .map_err(|e| LinkError::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, e)))
}

fn read_exact(sock: BorrowedFd<'_>, mut buf: &mut [u8], end: Instant) -> Result<(), LinkError> {
    while !buf.is_empty() {
        match recv(sock.as_raw_fd(), buf, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return Err(LinkError::Io(std::io::ErrorKind::UnexpectedEof.into())),
            Ok(n) => buf = &mut buf[n..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => wait(sock, libc::POLLIN, end)?,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

pub(crate) fn wait(sock: BorrowedFd<'_>, events: i16, end: Instant) -> Result<(), LinkError> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(LinkError::Timeout);
        }
        let mut fds = [libc::pollfd {
            fd: sock.as_raw_fd(),
            events,
            revents: 0,
        }];
        match sys::poll(&mut fds, left.as_millis() as i32 + 1) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
}
