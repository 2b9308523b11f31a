//! Asks the local `queue-exec` to say who we are: a ticket for one request to one host. Knows its socket.

use crate::messages::{Failure, printable, reason};
use crate::place::nobody;
use crate::sys;
use aws_lc_rs::digest;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use queue_exec::client;
use queue_exec::layout::Layout;
use queue_exec::protocol::{Reply, Request};
use queue_exec::ticket::Nonce;
use std::os::fd::{AsFd as _, OwnedFd};

/// How long the local `queue-exec` may take, in seconds.
const PATIENCE: i64 = 15;
/// Room for a reply of `queue-exec`: two blobs and a key.
const REPLY_ROOM: usize = 2 * queue_exec::protocol::BLOB_MAX + 4096;

/// A connection to the local `queue-exec`.
#[derive(Debug)]
pub struct Signer {
    sock: OwnedFd,
    path: String,
}

/// What is to be signed.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Certificate of the host that it is for.
    pub target_cert: &'a [u8],
    /// Account there; empty for the same name.
    pub login: &'a str,
    /// Made by [`nonce`].
    pub nonce: Nonce,
    /// SHA-256 of the request.
    pub request: [u8; 32],
    /// Our key in TLS.
    pub client_key: [u8; 32],
}

/// What was signed.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The ticket.
    pub ticket: Vec<u8>,
    /// Certificate of this host, whose `queue-exec` signed it.
    pub source_cert: Vec<u8>,
    /// The key with which the other host signs.
    pub target_key: [u8; 32],
}

impl From<Signer> for OwnedFd {
    fn from(signer: Signer) -> Self {
        signer.sock
    }
}

impl Signer {
    /// Connects.
    ///
    /// # Errors
    /// No `queue-exec`: says how to get one.
    pub fn dial(layout: &Layout) -> Result<Self, Failure> {
        let path = layout.exec_socket().display().to_string();
        let failed = |e: std::io::Error| {
            Failure::own(if nobody(&e) {
                format!(
                    "no queue-exec answers at {path}: it starts with `queued run` (as root) or its own unit"
                )
            } else {
                format!("queue-exec at {path}: {}", reason(&e))
            })
        };
        let sock = client::dial(layout).map_err(failed)?;
        setsockopt(&sock, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE, 0))
            .map_err(|e| failed(e.into()))?;
        Ok(Self { sock, path })
    }

    /// Asks; the answer is fetched by [`Signer::answer`].
    ///
    /// # Errors
    /// If `queue-exec` went away.
    pub fn ask(&self, subject: &Subject<'_>) -> Result<(), Failure> {
        let request = Request::Sign {
            target_cert: subject.target_cert.to_owned(),
            login: subject.login.to_owned(),
            nonce: subject.nonce,
            request: subject.request,
            client_key: subject.client_key,
        };
        self.send(&request, 1)
    }

    /// Waits for the answer.
    ///
    /// # Errors
    /// It does not sign this, or went away.
    pub fn answer(&self) -> Result<Signed, Failure> {
        let reply = loop {
            if let (1, reply) = self.receive()? {
                break reply;
            }
        };
        match reply {
            Reply::Signed {
                ticket,
                source_cert,
                target_key,
            } => Ok(Signed {
                ticket,
                source_cert,
                target_key,
            }),
            Reply::Refused { text, .. } => Err(Failure::own(printable(&text))),
            _ => Err(self.strange()),
        }
    }

    /// Asks for anything; the answer is fetched by [`Signer::receive`] with the same number.
    ///
    /// # Errors
    /// If `queue-exec` went away.
    pub(crate) fn send(&self, request: &Request, number: u32) -> Result<(), Failure> {
        client::send(self.sock.as_fd(), &request.encode(number), None)
            .map_err(|e| Failure::own(format!("queue-exec at {}: {}", self.path, reason(&e))))
    }

    /// Waits for an answer, and gives the number of its request.
    ///
    /// # Errors
    /// `queue-exec` went away, or says what we do not understand.
    pub(crate) fn receive(&self) -> Result<(u32, Reply), Failure> {
        let path = &self.path;
        let mut buf = vec![0; REPLY_ROOM];
        let n = match client::receive(self.sock.as_fd(), &mut buf) {
            Ok((0, _)) => {
                return Err(Failure::own(format!(
                    "queue-exec at {path} went away: see its log"
                )));
            }
            Ok((n, _)) => n,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                return Err(Failure::own(format!(
                    "queue-exec at {path} does not answer ({PATIENCE} s): see its log"
                )));
            }
            Err(e) => return Err(Failure::own(format!("queue-exec at {path}: {}", reason(&e)))),
        };
        Reply::decode(&buf[..n]).map_err(|_| self.strange())
    }

    /// For an answer that makes no sense.
    pub(crate) fn strange(&self) -> Failure {
        Failure::own(format!(
            "queue-exec at {} gave an answer that this version does not know",
            self.path
        ))
    }
}

/// A number that no other request has.
///
/// # Errors
/// The system gives no randomness.
pub fn nonce() -> Result<Nonce, Failure> {
    let mut n = Nonce::default();
    sys::random(&mut n).map_err(|_| Failure::own("the system gives no random numbers"))?;
    Ok(n)
}

/// What a ticket says of a request.
///
/// # Errors
/// Never in practice: the library's digest is of another length.
pub fn hash(request: &[u8]) -> Result<[u8; 32], Failure> {
    let hash = digest::digest(&digest::SHA256, request);
    hash.as_ref().try_into().map_err(|_| Failure::own("no SHA-256"))
}
