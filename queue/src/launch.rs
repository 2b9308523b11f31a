//! The way to a session: ask the daemon for a host, the local `queue-exec` for a signature, connect, check the
//! grant, and finish TLS. What can overlap does: each wait is filled with the next step's preparation.
//!
//! Nothing is run before the [`wire::Launch`] is sent, which happens after this; so another host can be tried
//! as long as we are here.

use crate::forms::{Run, Target};
use crate::messages::{Failure, link_reason, printable, reason};
use crate::place::{Daemon, nobody};
use crate::sys;
use aws_lc_rs::{digest, rand};
use libqueue::link::{Link, LinkError};
use libqueue::stream::FIRST_CONTROL_MAX;
use libqueue::tls::{KeyPair, Peer, client_config};
use libqueue::wire::{self, Place, Placed, SessionAnswer, SessionHello, reply, request};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use prost::Message as _;
use queue_exec::client;
use queue_exec::layout::Layout;
use queue_exec::protocol::{Reply, Request};
use queue_exec::ticket::{Grant, Nonce};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How many hosts are tried when the choice is ours.
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
/// How long the local `queue-exec` may take, in seconds.
const SIGN: i64 = 15;
/// Room for a reply of `queue-exec`: two blobs and a key.
const REPLY_ROOM: usize = 2 * queue_exec::protocol::BLOB_MAX + 4096;

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
}

/// Why one host did not do.
enum Fault {
    /// Another one may.
    Host(Failure),
    /// None will.
    Final(Failure),
}

/// Gets a session for a request on a host that fits.
///
/// # Errors
/// No daemon, no host, or refused.
pub fn open(run: &Run, request: impl FnOnce() -> Result<wire::Launch, Failure>) -> Result<Session, Failure> {
    let layout = Layout::for_client();
    let mut place = match &run.host {
        Target::Any => Place::default(),
        Target::Only(h) => Place {
            host: h.clone(),
            ..Place::default()
        },
        Target::Prefer(h) => Place {
            host: h.clone(),
            prefer: true,
            ..Place::default()
        },
    };
    let ours = !matches!(run.host, Target::Only(_));
    let mut daemon = Daemon::dial(&layout)?;
    daemon.ask(request::Kind::Place(place.clone()))?;

    // While the daemon thinks:
    let key = KeyPair::generate().map_err(|e| Failure::own(e.to_string()))?;
    let launch = request()?;
    let no_stdin = launch.no_stdin;
    let launch = encode(&launch)?;
    let hash = digest::digest(&digest::SHA256, &launch);
    let hash: [u8; 32] = hash.as_ref().try_into().map_err(|_| Failure::own("no SHA-256"))?;
    let mut monitor = Some(dial_monitor(&layout));
    let limit = run
        .connect_timeout
        .unwrap_or(if ours { CONNECT_CHOSEN } else { CONNECT_NAMED });

    let asker = Asker {
        layout: &layout,
        key: &key,
        login: &run.login,
        hash,
        limit,
        answer: if ours { ANSWER_CHOSEN } else { ANSWER_NAMED },
    };
    let mut before: Option<Failure> = None;
    loop {
        let placed = match daemon.answer() {
            Ok(reply::Kind::Placed(placed)) => placed,
            Ok(_) => return Err(daemon.strange()),
            // What was wrong with the last host tells more than that there is no other one.
            Err(e) => return Err(before.unwrap_or(e)),
        };
        let failure = match asker.try_host(&placed, monitor.take()) {
            Ok(link) => {
                return Ok(Session {
                    link,
                    host: placed.host,
                    launch,
                    no_stdin,
                });
            }
            Err(Fault::Final(f)) => return Err(f),
            Err(Fault::Host(f)) => f,
        };
        place.avoid.push(placed.host);
        if !ours || place.avoid.len() >= TRIES {
            return Err(failure);
        }
        before = Some(failure);
        daemon = Daemon::dial(&layout)?;
        daemon.ask(request::Kind::Place(place.clone()))?;
    }
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
    hash: [u8; 32],
    limit: Duration,
    answer: Duration,
}

impl Asker<'_> {
    fn try_host(&self, placed: &Placed, monitor: Option<Result<OwnedFd, Failure>>) -> Result<Link, Fault> {
        let host = printable(&placed.host);
        let begun = Instant::now();
        let sock = start_connect(&placed.address).map_err(|e| self.unreachable(placed, &e))?;

        let nonce = nonce().map_err(Fault::Final)?;
        let monitor = monitor
            .unwrap_or_else(|| dial_monitor(self.layout))
            .map_err(Fault::Final)?;
        self.ask_to_sign(&monitor, placed, nonce).map_err(Fault::Final)?;
        let pin = Arc::new(OnceLock::new());
        let config = client_config(self.key, Peer::Later(pin.clone()))
            .map_err(|e| Fault::Final(Failure::own(format!("TLS: {e}"))))?;
        let mut link = Link::client(sock, config).map_err(|e| self.unreachable(placed, &e))?;
        let (hello, target_key) =
            signed(&monitor, &self.layout.exec_socket().display().to_string()).map_err(Fault::Final)?;

        link.prepend(&wire::preamble(wire::KIND_SESSION, &hello));
        while !link.flush().map_err(|e| self.unreachable(placed, &e))? {
            wait(link.socket(), libc::POLLOUT, begun + self.limit)
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
            return Err(Fault::Host(Failure::own(format!(
                "{host}: {}",
                printable(&answer.refused)
            ))));
        }
        let grant = Grant::verify(&answer.grant, &target_key)
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
        Ok(link)
    }

    fn unreachable(&self, placed: &Placed, e: &LinkError) -> Fault {
        let (host, address) = (printable(&placed.host), printable(&placed.address));
        Fault::Host(Failure::own(match e {
            LinkError::Io(e) if e.raw_os_error() == Some(libc::ECONNREFUSED) => {
                format!("no queued listens on {host} ({address}): start it there, or see `queue hosts`")
            }
            LinkError::Timeout => {
                format!(
                    "{host} ({address}) does not answer: nothing for {} s",
                    self.limit.as_secs()
                )
            }
            e => format!("{host} ({address}) cannot be reached: {}", link_reason(e)),
        }))
    }

    /// Asks the local monitor to sign; its answer is fetched by [`signed`].
    fn ask_to_sign(&self, monitor: &OwnedFd, placed: &Placed, nonce: Nonce) -> Result<(), Failure> {
        let request = Request::Sign {
            target_cert: placed.cert.clone(),
            login: self.login.to_owned(),
            nonce,
            request: self.hash,
            client_key: self.key.public(),
        };
        client::send(monitor.as_fd(), &request.encode(1), None).map_err(|e| {
            Failure::own(format!(
                "queue-exec at {}: {}",
                self.layout.exec_socket().display(),
                reason(&e)
            ))
        })
    }
}

/// Connects to the local monitor.
fn dial_monitor(layout: &Layout) -> Result<OwnedFd, Failure> {
    let failed = |e: std::io::Error| {
        let path = layout.exec_socket();
        let path = path.display();
        Failure::own(if nobody(&e) {
            format!("no queue-exec answers at {path}: it starts with `queued run` (as root) or its own unit")
        } else {
            format!("queue-exec at {path}: {}", reason(&e))
        })
    };
    let monitor = client::dial(layout).map_err(failed)?;
    setsockopt(&monitor, sockopt::ReceiveTimeout, &TimeVal::new(SIGN, 0)).map_err(|e| failed(e.into()))?;
    Ok(monitor)
}

fn nonce() -> Result<Nonce, Failure> {
    let mut n = Nonce::default();
    rand::fill(&mut n).map_err(|_| Failure::own("the system gives no random numbers"))?;
    Ok(n)
}

/// The signed ticket as the body of the preamble, and the key that has to sign the grant.
fn signed(monitor: &OwnedFd, path: &str) -> Result<(Vec<u8>, [u8; 32]), Failure> {
    let mut buf = vec![0; REPLY_ROOM];
    let strange = || {
        Failure::own(format!(
            "queue-exec at {path} gave an answer that this version does not know"
        ))
    };
    loop {
        let n = match client::receive(monitor.as_fd(), &mut buf) {
            Ok((0, _)) => {
                return Err(Failure::own(format!(
                    "queue-exec at {path} went away: see its log"
                )));
            }
            Ok((n, _)) => n,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                return Err(Failure::own(format!(
                    "queue-exec at {path} does not answer ({SIGN} s): see its log"
                )));
            }
            Err(e) => return Err(Failure::own(format!("queue-exec at {path}: {}", reason(&e)))),
        };
        match Reply::decode(&buf[..n]).map_err(|_| strange())? {
            (
                1,
                Reply::Signed {
                    ticket,
                    source_cert,
                    target_key,
                },
            ) => {
                return Ok((
                    SessionHello {
                        ticket,
                        source_cert,
                        need: None,
                    }
                    .encode_to_vec(),
                    target_key,
                ));
            }
            (1, Reply::Refused { text, .. }) => return Err(Failure::own(printable(&text))),
            (1, _) => return Err(strange()),
            _ => {}
        }
    }
}

/// Starts connecting. Dead peers are noticed by the kernel within a minute or so.
fn start_connect(address: &str) -> Result<OwnedFd, LinkError> {
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
    let mut head = [0; 2];
    read_exact(link.socket(), &mut head, end)?;
    let mut body = vec![0; usize::from(u16::from_be_bytes(head))];
    read_exact(link.socket(), &mut body, end)?;
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

fn wait(sock: BorrowedFd<'_>, events: i16, end: Instant) -> Result<(), LinkError> {
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
