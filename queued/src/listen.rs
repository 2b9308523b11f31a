//! The TCP port: accepts, reads the preamble and not a byte more, and passes the connection on by its kind. A
//! session's goes to queue-exec as a descriptor. Whoever has not proved anything yet has little time, and a place
//! (`guests`) only until others need it more. Knows no users and no placement.

use crate::batch::{Batch, ask, link};
use crate::door::{Door, Visitor};
use crate::driver::{Driver, Event};
use crate::engine::types::Input;
use crate::exec::{self, Exec, Gone};
use crate::guests::{Guest, Guests};
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
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};

/// How long a preamble may take.
const PREAMBLE: Duration = Duration::from_secs(5);
/// How long queue-exec may take to start a session.
const START: Duration = Duration::from_secs(15);
/// How often it is looked where members are.
const LOOK: Duration = Duration::from_secs(2);
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
    /// Places for those who have proved nothing yet.
    pub guests: Arc<Guests>,
}

/// Keeps in mind where members are, for ever.
pub(crate) async fn look(guests: Arc<Guests>, driver: Driver) {
    loop {
        let (tx, rx) = oneshot::channel();
        driver.send(Event::Roster(tx)).await;
        let Ok(all) = rx.await else { return };
        let ip = |e: &crate::engine::types::Entry| Some(e.address.parse::<SocketAddr>().ok()?.ip());
        guests.members(all.iter().filter_map(ip).map(address::plain));
        sleep(LOOK).await;
    }
}

/// Serves one listening socket, and before it those who came to the program before this one, until the door is shut.
pub(crate) async fn serve(listener: TcpListener, before: Vec<TcpStream>, rooms: Rooms) {
    let mut before = before.into_iter();
    loop {
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
        let (guest, told) = rooms.guests.enter(from.ip(), Instant::now());
        let rooms = rooms.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = greet(stream, from, guest, rooms) => {}
                () = told.notified() => {
                    tracing::debug!("closed a connection from {from} that had proved nothing: others need the place");
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

/// Serves one connection.
async fn greet(stream: TcpStream, from: SocketAddr, guest: Guest, rooms: Rooms) {
    let Rooms {
        driver,
        exec,
        batch,
        askers,
        door,
        guests,
    } = rooms;
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
    let proved = |guest: Guest| move || guest.proved();
    match kind {
        KIND_SESSION => {
            let Ok(_turn) = guest.turns().acquire_owned().await else {
                return;
            };
            // What was begun with queue-exec is not broken off.
            if !guest.leave() {
                return;
            }
            match session(stream, &body, from, &driver, &exec).await {
                Ok(()) => guests.enter(from.ip(), Instant::now()).0.proved(),
                Err(None) => {}
                Err(Some((stream, text, code))) => {
                    let (_guest, told) = guests.enter(from.ip(), Instant::now());
                    tokio::spawn(async move {
                        tokio::select! {
                            () = refuse(stream, refusal(text, code)) => {}
                            () = told.notified() => {}
                        }
                        drop((_guest, inside));
                    });
                }
            }
        }
        KIND_RESUME | KIND_ATTACH => {
            let Ok(_turn) = guest.turns().acquire_owned().await else {
                return;
            };
            // What was begun with queue-exec is not broken off.
            if !guest.leave() {
                return;
            }
            let wish = if kind == KIND_RESUME {
                rejoin::resume(&body)
            } else {
                rejoin::attach(&body)
            };
            rejoin::serve(stream, wish, from, &driver.context().identity.own.name, &exec).await;
        }
        KIND_MEMBER => mesh::serve(stream, from, driver.context(), driver, exec, proved(guest)).await,
        KIND_CONTROL => {
            control::serve(stream, from, &driver, &exec).await;
            drop(guest);
        }
        KIND_WORK => link::serve(stream, from, &driver, &batch, proved(guest)).await,
        KIND_JOBS => {
            let known = guest.is_known();
            ask::serve(
                stream,
                from,
                &driver,
                &exec,
                &batch,
                &askers,
                known,
                move |waits: bool| {
                    guest.proved();
                    inside.filter(|_| !waits)
                },
            )
            .await;
        }
        _ => {
            admit::serve(stream, from, driver.context(), driver, exec).await;
            drop(guest);
        }
    }
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

/// Hands a session's connection to queue-exec. If that comes to nothing: what is to be said on it, unless nothing
/// can be.
async fn session(
    stream: TcpStream,
    body: &[u8],
    from: SocketAddr,
    driver: &Driver,
    exec: &Exec,
) -> Result<(), Option<(TcpStream, String, i32)>> {
    let host = || driver.context().identity.own.name.clone();
    let Ok(hello) = SessionHello::decode(body) else {
        let text = "malformed session request: another version of Queue?".to_owned();
        return Err(Some((stream, text, 0)));
    };
    // Out of our event loop before anybody else reads from it.
    let Ok(std) = stream.into_std() else {
        return Err(None);
    };
    let back = |std, text, code| match TcpStream::from_std(std) {
        Ok(s) => Err(Some((s, text, code))),
        Err(e) => {
            tracing::error!("cannot answer {from}: {e}");
            Err(None)
        }
    };
    let need = hello.need.unwrap_or_default();
    let from_here = from.ip().to_canonical().is_loopback()
        || std
            .local_addr()
            .is_ok_and(|a| a.ip().to_canonical() == from.ip().to_canonical());
    let Some((grant, granted)) = driver.grant(need.clone(), from_here).await else {
        return Err(None);
    };
    if let reply::Kind::Error(e) = granted {
        tracing::info!("refused a session from {from}: {}", e.text);
        return back(std, e.text, e.code);
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
        driver.send(Event::Input(Input::Ungrant { ask: grant })).await;
        return Err(None);
    };
    let refused = match timeout(START, exec.ask(request, Some(fd.into()))).await {
        Ok(Ok(Reply::Started { login, .. })) => {
            tracing::debug!("a session of {login} from {from} started");
            return Ok(());
        }
        Ok(Ok(Reply::Refused { text, .. })) => text,
        Ok(Ok(_)) => format!("queue-exec on {} is of another version", host()),
        Ok(Err(Gone::Away)) => exec::away(&host()),
        // It may have started the session; then the connection is not ours to write to.
        Ok(Err(Gone::Lost)) | Err(_) => {
            tracing::error!("queue-exec did not say whether the session from {from} started");
            return Err(None);
        }
    };
    driver.send(Event::Input(Input::Ungrant { ask: grant })).await;
    tracing::info!("refused a session from {from}: {refused}");
    back(std, refused, 0)
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
    fn a_port_in_use_is_told() {
        let first = open(&[Ipv4Addr::LOCALHOST.into()], 0).unwrap();
        let port = first[0].local_addr().unwrap().port();
        let e = open(&[Ipv4Addr::LOCALHOST.into()], port).unwrap_err().to_string();
        assert!(e.contains("another program") && e.contains("--port"), "{e}");
        assert!(first[0].local_addr().unwrap().ip().is_loopback());
    }
}
