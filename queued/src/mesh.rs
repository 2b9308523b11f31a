//! Member connections: TLS with both ends' keys known, hello from each side, then messages both ways. Knows
//! sockets and certificates; whom to dial, whether to keep a connection and what to say are the engine's.

use crate::context::Context;
use crate::driver::{Command, Driver, Event, OUTBOX};
use crate::engine::types::{ConnId, Hello, Host, Input, Message};
use crate::errand;
use crate::exec::Exec;
use libqueue::frame;
use libqueue::text::plain;
use libqueue::tls::{self, peer_key};
use libqueue::wire::{self, KIND_MEMBER, MemberHello, PROTOCOL, member, preamble};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// How long a connection may take until it is established.
const CONNECT: Duration = Duration::from_secs(3);
/// How long TLS and the hellos may take.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(5);
/// Largest hello: it is in memory before it is known whose it is.
const HELLO_MAX: usize = 32 * 1024;
/// How long one write may take.
const WRITE: Duration = Duration::from_secs(6);
/// How long the other end is given to read our last words.
const LINGER: Duration = Duration::from_secs(1);
/// Longest boot id and version kept.
const WORD_MAX: usize = 64;

/// Milliseconds since the epoch, by this host's clock.
pub(crate) fn clock_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// By how many seconds another clock is ahead of ours.
pub(crate) fn skew(theirs_ms: u64) -> i64 {
    (theirs_ms as i64).wrapping_sub(clock_ms() as i64) / 1000
}

/// A failed attempt to connect, for people.
pub(crate) fn explain(e: &io::Error, address: &str) -> String {
    match e.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("connection refused at {address}: queued does not run there, or listens elsewhere")
        }
        io::ErrorKind::TimedOut => {
            format!("no answer from {address}: the host is off or cut off, or a firewall drops the port")
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            format!("no way to {address}: the host is off, or the network is cut")
        }
        _ => format!("{address}: {e}"),
    }
}

/// Why there is no connection.
pub(crate) enum Refusal {
    /// The other end answered, and said no.
    Said(String),
    /// It did not come to that.
    Failed(String),
}

/// Dials a member and talks until the connection ends.
pub(crate) async fn dial(
    context: Arc<Context>,
    driver: Driver,
    name: String,
    address: String,
    key: [u8; 32],
) {
    let fail = |text: String, refused: bool| {
        Event::Input(Input::DialFailed {
            name: name.clone(),
            text,
            refused,
        })
    };
    match open(&context, &driver, &address, key).await {
        Err(Refusal::Said(text)) => driver.send(fail(text, true)).await,
        Err(Refusal::Failed(text)) => driver.send(fail(text, false)).await,
        Ok((stream, host, hello, from)) => {
            let conn = driver.conn();
            let (tx, rx) = mpsc::channel(OUTBOX);
            driver.send(Event::Connected(conn, tx)).await;
            driver
                .send(Event::Input(Input::Reached {
                    conn,
                    host,
                    hello,
                    from,
                }))
                .await;
            talk(stream, conn, rx, &context, &driver, None).await;
        }
    }
}

pub(crate) type ClientTls = tokio_rustls::client::TlsStream<TcpStream>;

async fn open(
    context: &Arc<Context>,
    driver: &Driver,
    address: &str,
    key: [u8; 32],
) -> Result<(ClientTls, Host, Hello, String), Refusal> {
    let failed = |e: io::Error| Refusal::Failed(explain(&e, address));
    let tcp = connect(address).await?;
    let to = tcp.peer_addr().map_err(failed)?;
    let handshake = async {
        let mut tls = introduce(context, tcp, address, key, false).await?;
        loop {
            let said: wire::Member = read_frame(&mut tls).await.map_err(failed)?;
            match said.kind {
                Some(member::Kind::Hello(h)) => {
                    let (host, hello) = check_hello(context, h, Some(key)).map_err(Refusal::Failed)?;
                    return Ok((tls, host, hello, to.ip().to_string()));
                }
                Some(member::Kind::Bye(text)) => return Err(Refusal::Said(text)),
                // Comes before the last words to a host that was removed.
                Some(member::Kind::Revocations(b)) => {
                    if let Ok(list) = context.verifier.revocations(&b) {
                        driver.send(Event::Input(Input::Revoke(list))).await;
                    }
                }
                _ => return Err(Refusal::Failed(format!("{address} speaks another language"))),
            }
        }
    };
    let slow = |_| failed(io::ErrorKind::TimedOut.into());
    timeout(HANDSHAKE, handshake).await.map_err(slow)?
}

/// Connects, in limited time.
///
/// # Errors
/// Why not, for people.
pub(crate) async fn connect(address: &str) -> Result<TcpStream, Refusal> {
    let failed = |e: io::Error| Refusal::Failed(explain(&e, address));
    let to: SocketAddr = address
        .parse()
        .map_err(|_| Refusal::Failed(format!("'{address}' is not an address")))?;
    let tcp = timeout(CONNECT, TcpStream::connect(to))
        .await
        .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
        .map_err(failed)?;
    let _ = tcp.set_nodelay(true);
    Ok(tcp)
}

/// Begins a member connection: TLS with the host that has this key, and our hello.
///
/// # Errors
/// Why not, for people.
pub(crate) async fn introduce(
    context: &Context,
    mut tcp: TcpStream,
    address: &str,
    key: [u8; 32],
    errand: bool,
) -> Result<ClientTls, Refusal> {
    let failed = |e: io::Error| Refusal::Failed(explain(&e, address));
    let local = tcp.local_addr().ok().map(|a| a.ip());
    tcp.write_all(&preamble(KIND_MEMBER, &[])).await.map_err(failed)?;
    let config = context.client(key).map_err(|e| Refusal::Failed(e.to_string()))?;
    let mut tls = TlsConnector::from(config)
        .connect(tls::server_name(), tcp)
        .await
        .map_err(|e| {
            if e.kind() == io::ErrorKind::InvalidData {
                let text =
                    format!("the host at {address} has another key: another host has that address now");
                return Refusal::Failed(text);
            }
            failed(e)
        })?;
    tls.write_all(&frame::encode(&hello(context, local, errand)))
        .await
        .map_err(failed)?;
    Ok(tls)
}

/// Serves a connection whose preamble was a member's. `proved` is called once it is known to be one's.
pub(crate) async fn serve(
    stream: TcpStream,
    from: SocketAddr,
    context: Arc<Context>,
    driver: Driver,
    exec: Exec,
    proved: impl FnOnce(),
) {
    let local = stream.local_addr().ok().map(|a| a.ip());
    let handshake = async {
        let mut tls = TlsAcceptor::from(context.server.clone()).accept(stream).await?;
        let said: wire::Member = read_frame_of(&mut tls, HELLO_MAX).await?;
        io::Result::Ok((tls, said))
    };
    let (mut tls, said) = match timeout(HANDSHAKE, handshake).await {
        Ok(Ok(r)) => r,
        Ok(Err(e)) => return tracing::debug!("no member connection from {from}: {e}"),
        Err(_) => return tracing::debug!("no member connection from {from}: too slow"),
    };
    let key = peer_key(tls.get_ref().1.peer_certificates());
    let mut errand = false;
    let checked = match said.kind {
        Some(member::Kind::Hello(h)) => {
            errand = h.errand;
            check_hello(&context, h, key)
        }
        _ => Err("a member connection begins with a hello".to_owned()),
    };
    let (host, hello) = match checked {
        Ok(r) => r,
        Err(text) => {
            tracing::warn!("refused a member connection from {from}: {text}");
            return last_words(&mut tls, text).await;
        }
    };
    if !is_current(&context, &driver) {
        return;
    }
    proved();
    if errand {
        return errand::serve(tls, &host, from, &context, &driver, &exec).await;
    }
    let conn = driver.conn();
    let (tx, rx) = mpsc::channel(OUTBOX);
    driver.send(Event::Connected(conn, tx)).await;
    let from = crate::address::plain(from.ip()).to_string();
    driver
        .send(Event::Input(Input::Arrived {
            conn,
            host,
            hello,
            from,
        }))
        .await;
    talk(tls, conn, rx, &context, &driver, local).await;
}

/// Whether what was verified with this context still counts: the host may have joined another cluster.
fn is_current(context: &Context, driver: &Driver) -> bool {
    driver.context().identity.authority == context.identity.authority
}

async fn last_words<S: AsyncRead + AsyncWrite + Unpin>(tls: &mut S, text: String) {
    let bye = wire::Member {
        kind: Some(member::Kind::Bye(text)),
    };
    let _ = timeout(LINGER, async {
        tls.write_all(&frame::encode(&bye)).await?;
        tls.shutdown().await?;
        tokio::io::copy(tls, &mut tokio::io::sink()).await
    })
    .await;
}

/// Our hello, with the address that is right for a connection with this local address.
fn hello(context: &Context, local: Option<std::net::IpAddr>, errand: bool) -> wire::Member {
    let h = MemberHello {
        errand,
        cert: context.identity.own.cert.clone(),
        address: context.address_for(local),
        boot: context.boot.to_vec(),
        version: env!("CARGO_PKG_VERSION").into(),
        clock_ms: clock_ms(),
        protocol: PROTOCOL,
    };
    wire::Member {
        kind: Some(member::Kind::Hello(h)),
    }
}

/// A hello is good if its certificate is, and is for the key that TLS showed.
fn check_hello(context: &Context, h: MemberHello, key: Option<[u8; 32]>) -> Result<(Host, Hello), String> {
    if h.protocol != PROTOCOL {
        return Err(format!(
            "{} speaks protocol {PROTOCOL}, the other end {}: use the same version of Queue on all hosts",
            context.identity.own.name, h.protocol
        ));
    }
    let skew = skew(h.clock_ms);
    let host = context.verifier.host(&h.cert).map_err(|e| e.to_string())?;
    if key != Some(host.tls_key) {
        return Err(format!(
            "the certificate of {} is for another key than this connection's",
            host.name
        ));
    }
    let word = |s: &str| plain(s, WORD_MAX);
    let hello = Hello {
        address: crate::verify::address(&h.address),
        boot: h.boot.into_iter().take(WORD_MAX).collect(),
        version: word(&h.version),
        skew,
    };
    Ok((host, hello))
}

/// Reads one frame and not a byte more.
pub(crate) async fn read_frame<M, R>(r: &mut R) -> io::Result<M>
where
    M: prost::Message + Default,
    R: AsyncRead + Unpin,
{
    read_frame_of(r, frame::MAX).await
}

/// As [`read_frame`], with a limit of its own: for those who have not proved who they are.
pub(crate) async fn read_frame_of<M, R>(r: &mut R, max: usize) -> io::Result<M>
where
    M: prost::Message + Default,
    R: AsyncRead + Unpin,
{
    let bad = |e: String| io::Error::new(io::ErrorKind::InvalidData, e);
    let mut head = [0; 4];
    r.read_exact(&mut head).await?;
    let n = u32::from_be_bytes(head) as usize;
    if n > max {
        return Err(bad(format!("message of {n} bytes is over the limit of {max}")));
    }
    // Grows as the bytes come, not as they are announced.
    let mut payload = Vec::with_capacity(n.min(16 * 1024));
    if r.take(n as u64).read_to_end(&mut payload).await? < n {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    frame::decode(&payload).map_err(|e| bad(e.to_string()))
}

/// Talks until either end closes. `arrived`: the local address of a connection that waits to be welcomed.
async fn talk<S>(
    stream: S,
    conn: ConnId,
    mut commands: mpsc::Receiver<Command>,
    context: &Arc<Context>,
    driver: &Driver,
    local: Option<std::net::IpAddr>,
) where
    S: AsyncRead + AsyncWrite,
{
    let _counted = driver.talking();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let writing = async {
        let slow = |_| io::Error::new(io::ErrorKind::TimedOut, "it takes no more messages");
        while let Some(c) = commands.recv().await {
            let message = match c {
                Command::Welcome => hello(context, local, false),
                Command::Send(kind) => wire::Member { kind: Some(kind) },
                Command::Close(bye) => {
                    if let Some(text) = bye {
                        let bye = wire::Member {
                            kind: Some(member::Kind::Bye(text)),
                        };
                        let _ = timeout(LINGER, writer.write_all(&frame::encode(&bye))).await;
                    }
                    break;
                }
            };
            timeout(WRITE, writer.write_all(&frame::encode(&message)))
                .await
                .map_err(slow)??;
            if commands.is_empty() {
                timeout(WRITE, writer.flush()).await.map_err(slow)??;
            }
        }
        io::Result::Ok(())
    };
    let reading = async {
        loop {
            let said: wire::Member = read_frame(&mut reader).await?;
            if let Some(message) = understand(context, said) {
                driver.send(Event::Input(Input::Heard { conn, message })).await;
            }
        }
    };
    tokio::pin!(reading);
    let why: io::Error = tokio::select! {
        w = writing => match w {
            Ok(()) => {
                // Ours to close. The other end reads what we said before the connection goes.
                let _ = timeout(LINGER, writer.shutdown()).await;
                let _ = timeout(LINGER, &mut reading).await;
                return;
            }
            Err(e) => e,
        },
        r = &mut reading => match r {
            Err(e) => e,
            Ok(never) => never,
        },
    };
    let text = if why.kind() == io::ErrorKind::UnexpectedEof {
        "connection closed".into()
    } else {
        why.to_string()
    };
    driver.send(Event::Input(Input::Lost { conn, text })).await;
}

/// What a member said, verified; `None`: nothing of use (a newer version may say more than we know).
fn understand(context: &Context, said: wire::Member) -> Option<Message> {
    match said.kind? {
        member::Kind::Hello(_) => None,
        member::Kind::Load(l) => Some(Message::Load(l)),
        member::Kind::Roster(r) if r.wanted => Some(Message::RosterWanted),
        member::Kind::Roster(r) => {
            let entry = |m: &wire::RosterEntry| match context.verifier.entry(m) {
                Ok(e) => Some(e),
                Err(e) => {
                    tracing::debug!("left a member out: {e}");
                    None
                }
            };
            Some(Message::Roster(r.members.iter().filter_map(entry).collect()))
        }
        member::Kind::Revocations(b) => match context.verifier.revocations(&b) {
            Ok(list) => Some(Message::Revocations(list)),
            Err(e) => {
                tracing::warn!("a revocation list does not count: {e}");
                None
            }
        },
        member::Kind::Keys(keys) => match context.verifier.keys(&keys) {
            Ok(()) => Some(Message::Keys(keys)),
            Err(e) => {
                tracing::warn!("gossip keys do not count: {e}");
                None
            }
        },
        // Said on errands only.
        member::Kind::SessionsAsk(_)
        | member::Kind::Sessions(_)
        | member::Kind::Renew(_)
        | member::Kind::Renewed(_)
        | member::Kind::Failed(_) => None,
        member::Kind::Bye(text) => Some(Message::Bye(plain(&text, 500))),
    }
}
