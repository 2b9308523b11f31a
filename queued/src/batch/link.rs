//! Work connections: between the agent of a host and the leader on another one. The agent's side finds the leader,
//! connects and connects again; the leader's side accepts members and nobody else, and verifies what they submit.
//! Knows sockets, keys and frames; what is said is the engines' business.

use super::frames::{Frames, Outbox};
use super::{Batch, Input, UNIT, permits};
use crate::context::Context;
use crate::driver::{Driver, Event};
use crate::engine::types::Entry;
use crate::mesh::{self, HANDSHAKE, Refusal};
use libqueue::tls::{self, peer_key};
use libqueue::wire::job::{Down, FRAME_MAX, KIND_WORK, Rejected, Up, down, up};
use libqueue::wire::preamble;
use nix::sys::socket::{setsockopt, sockopt};
use queue_exec::state::random;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, split};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Pauses between two attempts to connect.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How often it is looked who leads.
const LOOK: Duration = Duration::from_secs(5);
/// Bytes that may wait for one connection: one that takes no more is closed.
const OUTBOX: usize = 256 << 20;
/// Bytes that were read from one connection and that the engines have not seen yet.
const INBOX: usize = 2 * FRAME_MAX;
/// How long a closed connection may take to write what it still has.
const LINGER: Duration = Duration::from_secs(2);

/// A peer that is gone without a word is noticed by the kernel: probes begin after [`PROBE`] of silence, and whatever
/// is not acknowledged within [`SILENT`] ends the connection.
const PROBE: u32 = 3;
const SILENT: u32 = 8_000;

fn watch_peer(tcp: &impl AsFd) -> nix::Result<()> {
    let fd = tcp.as_fd();
    setsockopt(&fd, sockopt::KeepAlive, &true)?;
    setsockopt(&fd, sockopt::TcpKeepIdle, &PROBE)?;
    setsockopt(&fd, sockopt::TcpKeepInterval, &2)?;
    setsockopt(&fd, sockopt::TcpKeepCount, &3)?;
    setsockopt(&fd, sockopt::TcpUserTimeout, &SILENT)
}

/// Who leads the cluster, as far as is known.
pub(crate) async fn leader(driver: &Driver) -> Option<Entry> {
    ask_leader(driver).await.map(|(entry, _)| entry)
}

/// Who leads, and why that host refuses this one, if it does.
async fn ask_leader(driver: &Driver) -> Option<(Entry, Option<String>)> {
    let (tx, rx) = oneshot::channel();
    driver.send(Event::Leader(tx)).await;
    rx.await.ok().flatten()
}

/// Keeps this host's connection with the leader, for ever. A leader on this host itself is the task's own business.
pub(super) async fn keep(driver: Driver, batch: Batch) {
    let mut pause = RETRY.0;
    let mut told = String::new();
    loop {
        let context = driver.context();
        let Some((entry, refusal)) = ask_leader(&driver).await else {
            sleep(LOOK).await;
            continue;
        };
        if entry.host.is_same(&context.identity.own) {
            (pause, told) = (RETRY.0, String::new());
            sleep(LOOK).await;
            continue;
        }
        let name = &entry.host.name;
        let since = Instant::now();
        let why = match refusal {
            // A cloned image would take the connection of the host it is a copy of, again and again.
            Some(why) => why,
            None => match open(&context, &entry).await {
                Ok(tls) => {
                    tracing::info!("connected with the leader {name} at {}", entry.address);
                    told.clear();
                    talk(tls, &entry, &driver, &batch).await
                }
                Err(Refusal::Said(e) | Refusal::Failed(e)) => e,
            },
        };
        if since.elapsed() > LOOK {
            pause = RETRY.0;
        }
        if why != told {
            tracing::warn!(
                "no connection with the leader {name}: {why}; submissions are kept here until it is back"
            );
            told = why;
        }
        // Not all hosts at the same moment.
        let [lot] = random::<1>();
        sleep(pause.mul_f64(0.5 + f64::from(lot) / 256.0)).await;
        pause = (pause * 2).min(RETRY.1);
    }
}

async fn open(context: &Context, entry: &Entry) -> Result<mesh::ClientTls, Refusal> {
    let address = &entry.address;
    let mut tcp = mesh::connect(address).await?;
    let failed = |e: io::Error| Refusal::Failed(mesh::explain(&e, address));
    watch_peer(&tcp).map_err(|e| failed(e.into()))?;
    let config = context
        .client(entry.host.tls_key)
        .map_err(|e| Refusal::Failed(e.to_string()))?;
    let hands = async {
        tcp.write_all(&preamble(KIND_WORK, &[])).await?;
        TlsConnector::from(config).connect(tls::server_name(), tcp).await
    };
    let slow = |_| failed(io::ErrorKind::TimedOut.into());
    timeout(HANDSHAKE, hands).await.map_err(slow)?.map_err(failed)
}

/// Until it ends: why.
async fn talk<S: AsyncRead + AsyncWrite>(tls: S, entry: &Entry, driver: &Driver, batch: &Batch) -> String {
    let (read, mut write) = split(tls);
    let outbox = Arc::new(Outbox::new(OUTBOX));
    let link = batch.number();
    let room = Arc::new(Semaphore::new(INBOX / UNIT));
    batch.send(Input::Linked(link, outbox.clone()));
    let reading = async {
        let mut frames = Frames::new(read, FRAME_MAX);
        loop {
            let (down, n): (Down, usize) = match frames.next().await {
                Ok(r) => r,
                Err(e) => return e,
            };
            let Ok(permit) = room.clone().acquire_many_owned(permits(n, INBOX)).await else {
                return io::ErrorKind::BrokenPipe.into();
            };
            // What a newer leader says and we do not know is not for us.
            if let Some(kind) = down.kind {
                batch.send(Input::Said(link, Box::new(kind), permit));
            }
        }
    };
    let looking = async {
        loop {
            sleep(LOOK).await;
            match leader(driver).await {
                Some(now) if now.host.is_same(&entry.host) => {}
                _ => return,
            }
        }
    };
    let why = tokio::select! {
        e = reading => explain(&e),
        w = outbox.drain(&mut write) => match w {
            Ok(()) => "it was closed".to_owned(),
            Err(e) => explain(&e),
        },
        () = looking => "another host leads now".to_owned(),
    };
    batch.send(Input::Unlinked(link));
    let _ = timeout(LINGER, write.shutdown()).await;
    why
}

fn explain(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::UnexpectedEof => "the connection was closed".into(),
        io::ErrorKind::TimedOut => "it does not answer any more".into(),
        _ => e.to_string(),
    }
}

/// Serves a host's connection with the leader on this host. `proved` is called when it is known to be a member's.
pub(crate) async fn serve(
    stream: TcpStream,
    from: SocketAddr,
    driver: &Driver,
    batch: &Batch,
    proved: impl FnOnce(),
) {
    let context = driver.context();
    let _ = watch_peer(&stream);
    let tls = match timeout(
        HANDSHAKE,
        TlsAcceptor::from(context.server.clone()).accept(stream),
    )
    .await
    {
        Ok(Ok(tls)) => tls,
        Ok(Err(e)) => return tracing::debug!("no work connection from {from}: {e}"),
        Err(_) => return tracing::debug!("no work connection from {from}: too slow"),
    };
    let Some(host) = member(peer_key(tls.get_ref().1.peer_certificates()), driver).await else {
        return tracing::warn!("refused a work connection from {from}: it is no member's");
    };
    if !context.identity.cluster.authority {
        return tracing::warn!("refused a work connection of {host} ({from}): this host does not lead");
    }
    proved();
    let (read, mut write) = split(tls);
    let outbox = Arc::new(Outbox::new(OUTBOX));
    let conn = batch.number();
    batch.send(Input::Arrived {
        conn,
        host: host.clone(),
        outbox: outbox.clone(),
    });
    let reading = hear(read, conn, &host, &context, &outbox, batch);
    let why = tokio::select! {
        e = reading => explain(&e),
        w = outbox.drain(&mut write) => w.map_or_else(|e| explain(&e), |()| "it was closed".into()),
    };
    batch.send(Input::Left(conn));
    tracing::debug!("work connection of {host} from {from} ended: {why}");
    let _ = timeout(LINGER, write.shutdown()).await;
}

/// The member that has this key.
async fn member(key: Option<[u8; 32]>, driver: &Driver) -> Option<String> {
    let key = key?;
    let (tx, rx) = oneshot::channel();
    driver.send(Event::Member(key, tx)).await;
    rx.await.ok().flatten().map(|e| e.host.name)
}

/// Hears a host, until the connection ends.
async fn hear<R: AsyncRead + Unpin>(
    read: R,
    conn: u64,
    host: &str,
    context: &Context,
    outbox: &Outbox,
    batch: &Batch,
) -> io::Error {
    let room = Arc::new(Semaphore::new(INBOX / UNIT));
    let mut frames = Frames::new(read, FRAME_MAX);
    loop {
        let (up, n): (Up, usize) = match frames.next().await {
            Ok(r) => r,
            Err(e) => return e,
        };
        let Ok(permit) = room.clone().acquire_many_owned(permits(n, INBOX)).await else {
            return io::ErrorKind::BrokenPipe.into();
        };
        let Some(mut kind) = up.kind else { continue };
        if let up::Kind::Submit(submit) = &mut kind
            && let Err(text) = context.verifier.submission(submit, host)
        {
            tracing::warn!("refused job {} of {host}: {text}", submit.id);
            let rejected = down::Kind::Rejected(Rejected { id: submit.id, text });
            outbox.push(&Down { kind: Some(rejected) });
            continue;
        }
        batch.send(Input::Heard(conn, Box::new(kind), permit));
    }
}
