//! People's questions to the leader: TLS with this host's own key, one question, then answers until it is told all.
//! Who asks is queue-exec's to say; the answers are the leader's. Knows connections; decides nothing about jobs.

use super::{Batch, Input, link};
use crate::control::code_of;
use crate::door::Inside;
use crate::driver::{Driver, Event};
use crate::engine::jobs::types::Asker;
use crate::exec::{self, Exec, Gone};
use crate::mesh;
use libqueue::frame;
use libqueue::tls::peer_key;
use libqueue::wire::job::{JobAsk, JobReply, Query, job_reply, query};
use libqueue::wire::{Error, ErrorCode, Placed};
use prost::Message as _;
use queue_exec::protocol::{JobReply as ExecReply, JobRequest, Reply, Request};
use queue_exec::ticket::Ticket;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// How long TLS and the question may take.
const TALK: Duration = Duration::from_secs(5);
/// How long queue-exec may take: it may have to ask the name service.
const DECIDE: Duration = Duration::from_secs(12);
/// How long one write may take.
const WRITE: Duration = Duration::from_secs(30);
/// Largest question, and largest one from an address that is not known: it is in memory before it is known who asks.
const ASK_MAX: usize = 1 << 20;
const ASK_MAX_STRANGER: usize = 64 * 1024;
/// Answers that wait for one asker; one that takes no more is cut off.
const ANSWERS: usize = 256;
/// Askers at the same time.
const ASKERS: usize = 10_000;

/// Places for those who wait for answers.
pub(crate) fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(ASKERS))
}

type Refused = (ErrorCode, String);

/// Serves one. `known`: it comes from a known address. `proved` is called once it is known who asks, with whether he
/// waits for what is yet to happen; what it returns is kept until he is answered.
#[expect(clippy::too_many_arguments, reason = "where it goes, and what is known of it")]
pub(crate) async fn serve(
    stream: TcpStream,
    from: SocketAddr,
    driver: &Driver,
    exec: &Exec,
    batch: &Batch,
    places: &Arc<Semaphore>,
    known: bool,
    proved: impl FnOnce(bool) -> Option<Inside>,
) {
    let context = driver.context();
    let ask = async {
        let mut tls = TlsAcceptor::from(context.server.clone()).accept(stream).await?;
        let max = if known { ASK_MAX } else { ASK_MAX_STRANGER };
        let ask: JobAsk = mesh::read_frame_of(&mut tls, max).await?;
        io::Result::Ok((tls, ask))
    };
    let (tls, ask) = match timeout(TALK, ask).await {
        Ok(Ok(r)) => r,
        Ok(Err(e)) => return tracing::debug!("no question from {from}: {e}"),
        Err(_) => return tracing::debug!("no question from {from}: too slow"),
    };
    let key = peer_key(tls.get_ref().1.peer_certificates());
    let (read, mut write) = split(tls);
    let talk = async {
        let _place = places.clone().try_acquire_owned().map_err(|_| {
            let text = format!("{ASKERS} questions are open here: try again later");
            (ErrorCode::Full, text)
        })?;
        let (who, query) = question(ask, key, driver, exec).await?;
        // Whoever waits for what is yet to happen asks the next program again.
        let waits = match &query.kind {
            Some(query::Kind::Wait(_)) => true,
            Some(query::Kind::List(l)) => l.watch,
            _ => false,
        };
        let _inside = proved(waits);
        let kind = query.kind.ok_or_else(|| {
            let text = "the leader does not know this question: it is of an older version".to_owned();
            (ErrorCode::BadRequest, text)
        })?;
        let asker = who.host.clone();
        let number = batch.number();
        let (tx, rx) = mpsc::channel(ANSWERS);
        batch.send(Input::Ask {
            ask: number,
            who,
            query: Box::new(kind),
            tx,
        });
        if let Err(e) = answer(rx, read, &mut write, &asker, driver).await {
            tracing::debug!("{from} did not wait for the answer: {e}");
        }
        batch.send(Input::Gone(number));
        Ok::<(), Refused>(())
    };
    if let Err((code, text)) = talk.await {
        tracing::info!("refused a question about jobs from {from}: {text}");
        let code = code as i32;
        let kind = Some(job_reply::Kind::Error(Error { code, text }));
        let _ = timeout(TALK, write.write_all(&frame::encode(&JobReply { kind }))).await;
    }
    let _ = timeout(TALK, write.shutdown()).await;
}

/// Who asks what, verified.
async fn question(
    ask: JobAsk,
    key: Option<[u8; 32]>,
    driver: &Driver,
    exec: &Exec,
) -> Result<(Asker, Query), Refused> {
    let context = driver.context();
    let host = &context.identity.own.name;
    if !context.identity.cluster.authority {
        let leads = link::leader(driver).await;
        let text = match leads {
            Some(e) => format!(
                "{host} does not lead this cluster, {} does: ask there",
                e.host.name
            ),
            None => format!("{host} does not lead this cluster"),
        };
        return Err((ErrorCode::NotReady, text));
    }
    let bad = |text: String| (ErrorCode::BadRequest, text);
    // What it is worth is queue-exec's to say. This connection is at least that of whom it was signed for.
    let (ticket, ..) = Ticket::parse(&ask.ticket).map_err(|e| bad(e.to_string()))?;
    if key != Some(ticket.client_key) {
        return Err(bad(
            "the ticket is for another key than this connection's".to_owned()
        ));
    }
    let request = Request::Job(JobRequest::Vouch {
        ticket: ask.ticket,
        source_cert: ask.source_cert,
        body: Sha256::digest(&ask.query).into(),
    });
    let query = Query::decode(&ask.query[..]).map_err(|e| bad(format!("malformed question: {e}")))?;
    match timeout(DECIDE, exec.ask(request, None)).await {
        Ok(Ok(Reply::Job(ExecReply::Vouched { user, host, operator }))) => {
            Ok((Asker { user, host, operator }, query))
        }
        Ok(Ok(Reply::Refused { code, text })) => Err((code_of(code), text)),
        Ok(Ok(_)) => {
            let text = format!("queue-exec on {host} is of another version");
            Err((ErrorCode::Internal, text))
        }
        Ok(Err(Gone::Away | Gone::Lost)) => Err((ErrorCode::NotReady, exec::away(host))),
        Err(_) => {
            let text = format!("queue-exec on {host} takes too long to answer");
            Err((ErrorCode::NotReady, text))
        }
    }
}

/// Passes the answers on until the last one, or until nobody listens.
async fn answer<R, W>(
    mut answers: mpsc::Receiver<JobReply>,
    mut read: R,
    write: &mut W,
    asker: &str,
    driver: &Driver,
) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut some = Vec::with_capacity(16);
    let mut bytes = Vec::new();
    loop {
        let mut byte = [0];
        tokio::select! {
            n = answers.recv_many(&mut some, 16) => if n == 0 {
                return Ok(());
            },
            // He has nothing to say: this is the end, or nonsense.
            _ = read.read(&mut byte) => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        bytes.clear();
        for mut reply in some.drain(..) {
            if let Some(job_reply::Kind::Outputs(outputs)) = &mut reply.kind {
                let places = roster(driver).await;
                for o in outputs.outputs.iter_mut().filter(|o| !o.host.is_empty()) {
                    o.place = places.get(&o.host).map(|p| Placed {
                        local: p.host == asker,
                        ..p.clone()
                    });
                }
            }
            bytes.extend_from_slice(&frame::encode(&reply));
        }
        let all = async {
            write.write_all(&bytes).await?;
            write.flush().await
        };
        timeout(WRITE, all)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    }
}

/// All members, to connect to.
async fn roster(driver: &Driver) -> BTreeMap<String, Placed> {
    let (tx, rx) = oneshot::channel();
    driver.send(Event::Roster(tx)).await;
    let own = driver.context().address();
    let place = |e: crate::engine::types::Entry| {
        let address = if e.address.is_empty() {
            own.clone()
        } else {
            e.address
        };
        let placed = Placed {
            host: e.host.name.clone(),
            address,
            cert: e.host.cert,
            local: false,
        };
        (e.host.name, placed)
    };
    rx.await.unwrap_or_default().into_iter().map(place).collect()
}
