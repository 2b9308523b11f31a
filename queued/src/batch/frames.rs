//! Frames of up to 16 MiB over a stream: a reader that takes them out of a growing buffer, and an outbox that
//! gathers them, so that many go in one write. Knows lengths and bytes; not what a message means.

use bytes::{Buf as _, BytesMut};
use libqueue::wire::job::FRAME_MAX;
use prost::Message;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::time::timeout;

/// How long the other end may take nothing at all.
const WRITE: Duration = Duration::from_secs(10);
/// What one read asks for.
const READ: usize = 16 * 1024;
/// A part of what waits that is written at a time.
const PART: usize = 64 * 1024;
/// An outbox keeps a buffer of this size.
const KEEP: usize = 256 * 1024;

/// Reads frames. What was read and not yet taken stays when a call is dropped.
#[derive(Debug)]
pub(crate) struct Frames<R> {
    reader: R,
    buf: BytesMut,
    max: usize,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    /// From this stream, none larger than `max`.
    pub(crate) fn new(reader: R, max: usize) -> Self {
        Self {
            reader,
            buf: BytesMut::new(),
            max: max.min(FRAME_MAX),
        }
    }

    /// The same, with what was read before.
    pub(crate) fn after(mut self, said: &[u8]) -> Self {
        self.buf.extend_from_slice(said);
        self
    }

    /// What was read and not taken.
    pub(crate) fn into_rest(self) -> Vec<u8> {
        self.buf.to_vec()
    }

    /// A whole message that is there already, and its length.
    ///
    /// # Errors
    /// `InvalidData`: it is too long, or none.
    pub(crate) fn take<M: Message + Default>(&mut self) -> io::Result<Option<(M, usize)>> {
        let bad = |e: String| io::Error::new(io::ErrorKind::InvalidData, e);
        let Some(head) = self.buf.first_chunk::<4>() else {
            return Ok(None);
        };
        let n = u32::from_be_bytes(*head) as usize;
        if n > self.max {
            return Err(bad(format!(
                "message of {n} bytes is over the limit of {}",
                self.max
            )));
        }
        if self.buf.len() < 4 + n {
            return Ok(None);
        }
        let m = M::decode(&self.buf[4..4 + n]).map_err(|e| bad(format!("malformed message: {e}")))?;
        self.buf.advance(4 + n);
        Ok(Some((m, n)))
    }

    /// The next message, and its length. May be dropped and called again.
    ///
    /// # Errors
    /// As the stream's; `UnexpectedEof` at its end.
    pub(crate) async fn next<M: Message + Default>(&mut self) -> io::Result<(M, usize)> {
        loop {
            if let Some(m) = self.take()? {
                return Ok(m);
            }
            // Grows as the bytes come, not as they are announced.
            self.buf.reserve(READ);
            if self.reader.read_buf(&mut self.buf).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Whether a part of a message is there.
    pub(crate) fn has_rest(&self) -> bool {
        !self.buf.is_empty()
    }
}

/// Frames that wait to be written.
#[derive(Debug)]
pub(crate) struct Outbox {
    buf: Mutex<Vec<u8>>,
    more: Notify,
    closed: AtomicBool,
    max: usize,
}

impl Outbox {
    /// Takes so many bytes before it is full.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            buf: Mutex::default(),
            more: Notify::new(),
            closed: AtomicBool::new(false),
            max,
        }
    }

    /// One more frame. `false`: it is full, the other end takes too little.
    pub(crate) fn push<M: Message>(&self, m: &M) -> bool {
        let n = m.encoded_len();
        let mut buf = self.buf.lock().unwrap_or_else(PoisonError::into_inner);
        if buf.len() + n > self.max || n > FRAME_MAX {
            return false;
        }
        let was_empty = buf.is_empty();
        buf.reserve(4 + n);
        buf.extend_from_slice(&(n as u32).to_be_bytes());
        m.encode_raw(&mut *buf);
        drop(buf);
        if was_empty {
            self.more.notify_one();
        }
        true
    }

    /// Nothing is to follow: [`Outbox::drain`] ends when all is written.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.more.notify_one();
    }

    /// Writes until it is closed.
    ///
    /// # Errors
    /// As the stream's; `TimedOut` if it takes nothing.
    pub(crate) async fn drain<W: AsyncWrite + Unpin>(&self, w: &mut W) -> io::Result<()> {
        let mut full = Vec::new();
        loop {
            std::mem::swap(
                &mut full,
                &mut *self.buf.lock().unwrap_or_else(PoisonError::into_inner),
            );
            if full.is_empty() {
                if self.closed.load(Ordering::Acquire) {
                    return Ok(());
                }
                self.more.notified().await;
                continue;
            }
            // In parts, so that the limit is for progress, not for the size.
            for part in full.chunks(PART) {
                timeout(WRITE, w.write_all(part))
                    .await
                    .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            }
            timeout(WRITE, w.flush())
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            full.clear();
            full.shrink_to(KEEP);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libqueue::wire::job::{Up, up};

    fn mail(n: usize) -> Up {
        Up {
            kind: Some(up::Kind::Submit(libqueue::wire::job::Submit {
                run: vec![7; n],
                ..Default::default()
            })),
        }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    }

    #[test]
    fn frames_of_all_sizes_come_through_in_order() {
        runtime().block_on(async {
            let (a, b) = tokio::io::duplex(1000);
            let outbox = Outbox::new(4 << 20);
            let sizes = [0, 1, 5000, 100_000, 2, 3, (1 << 20) + 5];
            let (_, mut w) = tokio::io::split(a);
            for n in sizes {
                assert!(outbox.push(&mail(n)));
            }
            outbox.close();
            let write = async { outbox.drain(&mut w).await.unwrap() };
            let read = async {
                let mut frames = Frames::new(b, FRAME_MAX);
                for n in sizes {
                    let (m, len): (Up, usize) = frames.next().await.unwrap();
                    assert_eq!(m, mail(n));
                    assert_eq!(len, m.encoded_len());
                }
                assert!(!frames.has_rest());
            };
            tokio::join!(write, read);
        });
    }

    #[test]
    fn too_much_is_refused_on_both_sides() {
        let outbox = Outbox::new(1000);
        assert!(outbox.push(&mail(900)));
        assert!(!outbox.push(&mail(200)));
        runtime().block_on(async {
            for (bytes, kind) in [
                (vec![0xff; 8], io::ErrorKind::InvalidData),
                (vec![0, 0, 0, 2, 0xff, 0xff], io::ErrorKind::InvalidData),
                (vec![0, 0, 0, 9, 1], io::ErrorKind::UnexpectedEof),
                (vec![], io::ErrorKind::UnexpectedEof),
            ] {
                let e = Frames::new(&bytes[..], 100).next::<Up>().await.unwrap_err();
                assert_eq!(e.kind(), kind, "{bytes:?}");
            }
        });
    }

    #[test]
    fn a_dropped_read_loses_nothing() {
        runtime().block_on(async {
            let (mut a, b) = tokio::io::duplex(64);
            let bytes = libqueue::frame::encode(&mail(10));
            let mut frames = Frames::new(b, FRAME_MAX);
            for part in bytes.chunks(3) {
                assert!(frames.take::<Up>().unwrap().is_none());
                a.write_all(part).await.unwrap();
                let read = frames.reader.read_buf(&mut frames.buf).await.unwrap();
                assert_eq!(read, part.len());
            }
            assert_eq!(frames.next::<Up>().await.unwrap().0, mail(10));
            assert!(!frames.has_rest());
        });
    }
}
