//! Errands: one question to one member, one answer, over a member connection of their own that ends with it. Who
//! runs one is no link and gives no sign of life. Knows the connection and who answers which question; the answers
//! themselves are those of the rooms that have them.

use crate::context::Context;
use crate::driver::{Driver, Event};
use crate::engine::types::Host;
use crate::exec::Exec;
use crate::mesh::{self, Refusal};
use crate::{handler, renew};
use libqueue::frame;
use libqueue::wire::{self, member};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long everything after the connection may take the one who asks: TLS, question, answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long the one who is asked may take to think.
const THINK: Duration = Duration::from_secs(4);
/// Largest question.
const QUESTION_MAX: usize = 4096;
/// How long the other end is given to read our last words.
const LINGER: Duration = Duration::from_secs(1);

/// Asks a member something.
///
/// # Errors
/// Why there is no answer, in one line without the host's name.
pub(crate) async fn ask(
    context: &Arc<Context>,
    address: &str,
    key: [u8; 32],
    question: member::Kind,
) -> Result<member::Kind, String> {
    let told = |r| match r {
        Refusal::Said(text) | Refusal::Failed(text) => text,
    };
    let tcp = mesh::connect(address).await.map_err(told)?;
    let talk = async {
        let mut tls = mesh::introduce(context, tcp, address, key, true)
            .await
            .map_err(told)?;
        let question = wire::Member { kind: Some(question) };
        let broke = |e: std::io::Error| mesh::explain(&e, address);
        tls.write_all(&frame::encode(&question)).await.map_err(broke)?;
        let answer = loop {
            let said: wire::Member = mesh::read_frame(&mut tls).await.map_err(broke)?;
            match said.kind {
                // What the host knows of this one's removal comes on a link.
                Some(member::Kind::Revocations(_)) => {}
                Some(member::Kind::Bye(text) | member::Kind::Failed(text)) => return Err(printable(&text)),
                Some(kind) => break kind,
                None => return Err("it answered in a way that this version does not know".into()),
            }
        };
        let _ = tls.shutdown().await;
        Ok(answer)
    };
    timeout(ANSWER, talk)
        .await
        .unwrap_or_else(|_| Err(mesh::explain(&std::io::ErrorKind::TimedOut.into(), address)))
}

fn printable(text: &str) -> String {
    libqueue::text::plain(text, 500)
}

/// Serves an errand whose hello was a good one: reads the question, answers, closes.
pub(crate) async fn serve<S>(
    mut tls: S,
    who: &Host,
    from: SocketAddr,
    context: &Context,
    driver: &Driver,
    exec: &Exec,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let talk = async {
        let said: wire::Member = mesh::read_frame_of(&mut tls, QUESTION_MAX).await?;
        let kind = if is_removed(who, context, driver).await {
            member::Kind::Bye(format!("{} was removed from the cluster", who.name))
        } else {
            let failed = |text: &str| member::Kind::Failed(text.to_owned());
            match said.kind {
                Some(question) => timeout(THINK, answer(question, who, driver, exec))
                    .await
                    .unwrap_or_else(|_| failed("queue-exec there takes too long to answer")),
                None => failed("queued there does not know this question: it is of an older version"),
            }
        };
        tls.write_all(&frame::encode(&wire::Member { kind: Some(kind) }))
            .await?;
        tls.shutdown().await?;
        let _ = timeout(LINGER, tokio::io::copy(&mut tls, &mut tokio::io::sink())).await;
        std::io::Result::Ok(())
    };
    match timeout(mesh::HANDSHAKE + THINK, talk).await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => tracing::debug!("errand of {} from {from}: {e}", who.name),
        Err(_) => tracing::debug!("errand of {} from {from}: too slow", who.name),
    }
}

/// Whether the host is on the revocation list as it is now.
async fn is_removed(who: &Host, context: &Context, driver: &Driver) -> bool {
    let (tx, rx) = oneshot::channel();
    driver.send(Event::Revocations(tx)).await;
    let bytes = rx.await.unwrap_or_default();
    let list = context.verifier.revocations(&bytes).unwrap_or_default();
    list.serials.contains(&who.serial)
}

async fn answer(question: member::Kind, who: &Host, driver: &Driver, exec: &Exec) -> member::Kind {
    match question {
        member::Kind::SessionsAsk(_) => member::Kind::Sessions(handler::sessions::own(exec).await),
        member::Kind::Renew(_) => renew::answer(who, driver, exec).await,
        _ => member::Kind::Failed("that is not a question".into()),
    }
}
