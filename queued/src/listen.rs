//! The TCP port: accepts, reads the preamble and not a byte more, and passes the connection on by its kind. A
//! session's goes to queue-exec as a descriptor. Whoever has not proved anything yet has little time and few
//! connections. Knows no users and no placement.

use crate::batch::{Batch, ask, link};
use crate::door::{Door, Visitor};
use crate::driver::{Driver, Event};
use crate::engine::types::Input;
use crate::exec::{self, Exec, Gone};
use crate::{address, admit, control, mesh, rejoin};
use libqueue::wire::job::{KIND_JOBS, KIND_WORK};
use libqueue::wire::{
    KIND_ATTACH, KIND_CONTROL, KIND_JOIN, KIND_MEMBER, KIND_RESUME, KIND_SESSION, PREAMBLE_LEN,
    SessionAnswer, SessionHello, SessionNote, parse_preamble, reply,
};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, bind, listen, setsockopt, socket,
    sockopt,
};
use prost::Message as _;
use queue_exec::protocol::{Reply, Request};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// How long a preamble may take.
const PREAMBLE: Duration = Duration::from_secs(5);
/// How long queue-exec may take to start a session.
const START: Duration = Duration::from_secs(15);
/// Connections that have proved nothing yet: in all, and from one address.
const UNKNOWN: usize = 1024;
const UNKNOWN_EACH: usize = 256;
/// How long the other end is given to read a refusal.
const LINGER: Duration = Duration::from_secs(2);
/// Longest body of a preamble: a ticket and a certificate.
const BODY_MAX: usize = 2 * queue_exec::protocol::BLOB_MAX + 64;

/// Binds the addresses; all of them if none is given.
///
/// # Errors
/// Which address, and why not.
pub(crate) fn open(listen_on: &[IpAddr], port: u16) -> anyhow::Result<Vec<std::net::TcpListener>> {
    let one = |ip: IpAddr| {
        open_one(SocketAddr::new(ip, port)).map_err(|e| {
            let at = if ip.is_unspecified() {
                String::new()
            } else {
                format!(" of {ip}")
            };
            match e {
                nix::errno::Errno::EADDRINUSE => anyhow::anyhow!(
                    "cannot listen on port {port}{at}: another program (another queued?) has it; \
                     'ss -ltnp sport = :{port}' shows which, --port chooses another one"
                ),
                e => anyhow::anyhow!("cannot listen on port {port}{at}: {}", e.desc()),
            }
        })
    };
    if !listen_on.is_empty() {
        return listen_on.iter().copied().map(one).collect();
    }
    // One socket for both families; where there is no IPv6, the old one alone.
    match open_one(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)) {
        Ok(s) => Ok(vec![s]),
        Err(nix::errno::Errno::EADDRINUSE) => one(Ipv6Addr::UNSPECIFIED.into()).map(|s| vec![s]),
        Err(_) => one(Ipv4Addr::UNSPECIFIED.into()).map(|s| vec![s]),
    }
}

fn open_one(at: SocketAddr) -> nix::Result<std::net::TcpListener> {
    let family = if at.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let s: OwnedFd = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&s, sockopt::ReuseAddr, &true)?;
    setsockopt(&s, sockopt::TcpNoDelay, &true)?;
    match at {
        SocketAddr::V4(a) => bind(s.as_raw_fd(), &SockaddrIn::from(a))?,
        SocketAddr::V6(a) => {
            setsockopt(&s, sockopt::Ipv6V6Only, &!a.ip().is_unspecified())?;
            bind(s.as_raw_fd(), &SockaddrIn6::from(a))?;
        }
    }
    // `make -j64` on many hosts at once arrives in one burst.
    listen(&s, Backlog::new(4096).unwrap_or(Backlog::MAXCONN))?;
    Ok(s.into())
}

/// Counts connections that have proved nothing, by address.
#[derive(Debug, Default)]
struct Unknown(Mutex<BTreeMap<IpAddr, usize>>);

/// One of them; dropped when it has proved something or is closed.
struct Guest {
    all: Arc<Unknown>,
    ip: IpAddr,
}

impl Unknown {
    fn enter(self: &Arc<Self>, ip: IpAddr) -> Option<Guest> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let n = map.entry(ip).or_insert(0);
        if *n >= UNKNOWN_EACH {
            return None;
        }
        *n += 1;
        Some(Guest {
            all: self.clone(),
            ip,
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut map = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(n) = map.get_mut(&self.ip) {
            *n -= 1;
            if *n == 0 {
                map.remove(&self.ip);
            }
        }
    }
}

/// Where connections go.
#[derive(Debug, Clone)]
pub(crate) struct Rooms {
    /// The engine's.
    pub driver: Driver,
    /// queue-exec's.
    pub exec: Exec,
    /// That of batch jobs.
    pub batch: Batch,
    /// Places for those who wait for answers about jobs.
    pub askers: Arc<Semaphore>,
    /// Ours.
    pub door: Door,
}

/// Serves one listening socket, and before it those who came to the program before this one, until the door is shut.
pub(crate) async fn serve(listener: TcpListener, before: Vec<TcpStream>, rooms: Rooms) {
    let room = Arc::new(Semaphore::new(UNKNOWN));
    let unknown = Arc::new(Unknown::default());
    let mut before = before.into_iter();
    loop {
        // When all places are taken the kernel's queue holds the rest.
        let Ok(place) = room.clone().acquire_owned().await else {
            return;
        };
        let waited = before.next().and_then(|s| s.peer_addr().ok().map(|a| (s, a)));
        let accepted = match waited {
            Some(r) => Ok(r),
            None => tokio::select! {
                biased;
                () = rooms.door.shut() => return,
                r = listener.accept() => r,
            },
        };
        let (stream, from) = match accepted {
            Ok(r) => r,
            Err(e) => {
                // Out of descriptors, or a connection that was gone already.
                tracing::warn!("cannot accept a connection: {e}");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let from = SocketAddr::new(address::plain(from.ip()), from.port());
        let Some(guest) = unknown.enter(from.ip()) else {
            tracing::debug!("too many connections from {from} that say nothing: closed one");
            continue;
        };
        let Rooms {
            driver,
            exec,
            batch,
            askers,
            door,
        } = rooms.clone();
        tokio::spawn(async move {
            let Some(stream) = speaks(stream, &door).await else {
                return;
            };
            let mut inside = Some(door.enter());
            let Some((stream, kind, body)) = preamble(stream, from).await else {
                return;
            };
            if kind == KIND_MEMBER || kind == KIND_WORK {
                // They come back.
                inside = None;
            }
            if kind != KIND_MEMBER {
                door.open().await;
            }
            match kind {
                KIND_SESSION => {
                    drop(guest);
                    session(stream, &body, from, &driver, &exec).await;
                    drop(place);
                }
                KIND_RESUME | KIND_ATTACH => {
                    // All sessions of a host may come back at once.
                    drop(guest);
                    let wish = if kind == KIND_RESUME {
                        rejoin::resume(&body)
                    } else {
                        rejoin::attach(&body)
                    };
                    rejoin::serve(stream, wish, from, &driver.context().identity.own.name, &exec).await;
                    drop(place);
                }
                KIND_MEMBER => {
                    // A member connection lasts; its handshake has a limit of its own.
                    let watch = tokio::spawn(async move {
                        sleep(mesh::HANDSHAKE).await;
                        drop((guest, place));
                    });
                    mesh::serve(stream, from, driver.context(), driver, exec).await;
                    watch.abort();
                }
                KIND_CONTROL => {
                    control::serve(stream, from, &driver, &exec).await;
                    drop((guest, place));
                }
                KIND_WORK => {
                    link::serve(stream, from, &driver, &batch, || drop((guest, place))).await;
                }
                KIND_JOBS => {
                    let inside = inside.take();
                    let proved = |waits: bool| {
                        drop((guest, place));
                        inside.filter(|_| !waits)
                    };
                    ask::serve(stream, from, &driver, &exec, &batch, &askers, proved).await;
                }
                _ => {
                    admit::serve(stream, from, driver.context(), driver, exec).await;
                    drop((guest, place));
                }
            }
        });
    }
}

/// Waits until somebody who came says something, or is left for the next program.
async fn speaks(stream: TcpStream, door: &Door) -> Option<TcpStream> {
    let spoken = tokio::select! {
        biased;
        r = timeout(PREAMBLE, stream.readable()) => r.is_ok_and(|r| r.is_ok()),
        () = door.shut() => {
            if let Ok(s) = stream.into_std() {
                door.leave(Visitor::Remote(s));
            }
            return None;
        }
    };
    spoken.then_some(stream)
}

/// Reads the preamble; `None` if it is none of ours.
async fn preamble(mut stream: TcpStream, from: SocketAddr) -> Option<(TcpStream, u8, Vec<u8>)> {
    let read = async {
        let mut head = [0; PREAMBLE_LEN];
        stream.read_exact(&mut head).await.ok()?;
        let (kind, n) = parse_preamble(&head)?;
        let fits = match kind {
            KIND_SESSION | KIND_ATTACH => n <= BODY_MAX,
            KIND_RESUME => n <= rejoin::RESUME_MAX,
            KIND_MEMBER | KIND_JOIN | KIND_CONTROL | KIND_WORK | KIND_JOBS => n == 0,
            _ => false,
        };
        if !fits {
            return None;
        }
        let mut body = vec![0; n];
        stream.read_exact(&mut body).await.ok()?;
        Some((kind, body))
    };
    match timeout(PREAMBLE, read).await {
        Ok(Some((kind, body))) => Some((stream, kind, body)),
        Ok(None) => {
            tracing::debug!("what {from} sent is not Queue's protocol");
            None
        }
        Err(_) => {
            tracing::debug!("{from} said nothing for {} s", PREAMBLE.as_secs());
            None
        }
    }
}

/// Hands a session's connection to queue-exec.
async fn session(stream: TcpStream, body: &[u8], from: SocketAddr, driver: &Driver, exec: &Exec) {
    let host = || driver.context().identity.own.name.clone();
    let Ok(hello) = SessionHello::decode(body) else {
        let text = "malformed session request: another version of Queue?";
        return refuse(stream, refusal(text.into(), 0)).await;
    };
    // Out of our event loop before anybody else reads from it.
    let Ok(std) = stream.into_std() else {
        return;
    };
    let need = hello.need.unwrap_or_default();
    let from_here = from.ip().to_canonical().is_loopback()
        || std
            .local_addr()
            .is_ok_and(|a| a.ip().to_canonical() == from.ip().to_canonical());
    let Some((grant, granted)) = driver.grant(need.clone(), from_here).await else {
        return;
    };
    if let reply::Kind::Error(e) = granted {
        tracing::info!("refused a session from {from}: {}", e.text);
        return match TcpStream::from_std(std) {
            Ok(s) => refuse(s, refusal(e.text, e.code)).await,
            Err(e) => tracing::error!("cannot answer {from}: {e}"),
        };
    }
    let note = SessionNote {
        need: Some(need),
        grant,
        boot: driver.context().boot.to_vec(),
        ..SessionNote::default()
    };
    let request = Request::Start {
        ticket: hello.ticket,
        source_cert: hello.source_cert,
        note: note.encode_to_vec(),
    };
    let Ok(fd) = std.try_clone() else {
        tracing::error!("out of descriptors: a session from {from} was not started");
        return;
    };
    let refused = match timeout(START, exec.ask(request, Some(fd.into()))).await {
        Ok(Ok(Reply::Started { login, .. })) => {
            tracing::debug!("a session of {login} from {from} started");
            return;
        }
        Ok(Ok(Reply::Refused { text, .. })) => text,
        Ok(Ok(_)) => format!("queue-exec on {} is of another version", host()),
        Ok(Err(Gone::Away)) => exec::away(&host()),
        // It may have started the session; then the connection is not ours to write to.
        Ok(Err(Gone::Lost)) | Err(_) => {
            tracing::error!("queue-exec did not say whether the session from {from} started");
            return;
        }
    };
    driver.send(Event::Input(Input::Ungrant { ask: grant })).await;
    tracing::info!("refused a session from {from}: {refused}");
    match TcpStream::from_std(std) {
        Ok(s) => refuse(s, refusal(refused, 0)).await,
        Err(e) => tracing::error!("cannot answer {from}: {e}"),
    }
}

fn refusal(refused: String, code: i32) -> SessionAnswer {
    SessionAnswer {
        refused,
        code,
        ..SessionAnswer::default()
    }
}

/// Says why not and closes, so that the answer is read: the client has sent more than we read, and closing
/// on unread bytes would reset the connection under it.
pub(crate) async fn refuse(mut stream: TcpStream, mut answer: SessionAnswer) {
    while answer.refused.len() > 4096 {
        answer.refused.pop();
    }
    let answer = answer.encode_to_vec();
    let mut bytes = (answer.len() as u16).to_be_bytes().to_vec();
    bytes.extend(answer);
    let _ = timeout(LINGER, async {
        stream.write_all(&bytes).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(1 << 20), &mut tokio::io::sink()).await?;
        io::Result::Ok(())
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_for_strangers_are_counted_by_address() {
        let all = Arc::new(Unknown::default());
        let (a, b) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let mut guests: Vec<_> = (0..UNKNOWN_EACH).map(|_| all.enter(a).unwrap()).collect();
        assert!(all.enter(a).is_none());
        let other = all.enter(b);
        assert!(other.is_some());
        guests.pop();
        assert!(all.enter(a).is_some());
        drop((guests, other));
        assert!(all.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_port_in_use_is_told() {
        let first = open(&[Ipv4Addr::LOCALHOST.into()], 0).unwrap();
        let port = first[0].local_addr().unwrap().port();
        let e = open(&[Ipv4Addr::LOCALHOST.into()], port).unwrap_err().to_string();
        assert!(e.contains("another program") && e.contains("--port"), "{e}");
        assert!(first[0].local_addr().unwrap().ip().is_loopback());
    }
}
