//! What the monitor is asked. Pure: bytes in, bytes out. Who may ask it is not known here.

use super::{BLOB_MAX, JobRequest, MAGIC};
use crate::cert::{NAME_MAX, PublicKey, USER_MAX};
use crate::codec::{Malformed, Reader, Writer};
use crate::ticket::Nonce;

/// Asked of the monitor. The 32-bit id in front of each packet comes back with its reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Any local user: "say for me who I am". The user is the kernel's word for the asking process.
    Sign {
        /// Certificate of the host that is to run the request.
        target_cert: Vec<u8>,
        /// Account to use there; empty for the same name.
        login: String,
        /// Random, made by the asker.
        nonce: Nonce,
        /// SHA-256 of the request.
        request: [u8; 32],
        /// The asker's key for the session's TLS.
        client_key: PublicKey,
    },
    /// The daemon, with the descriptor of the new connection: start a session for this ticket and hand the
    /// connection to it.
    Start {
        /// The ticket as received.
        ticket: Vec<u8>,
        /// Certificate of the host that signed it.
        source_cert: Vec<u8>,
        /// The daemon's own note about the session, at most [`NOTE_MAX`] bytes: kept with it, and said again with
        /// `Reply::SessionStarted`, so that a restarted daemon knows what was granted.
        note: Vec<u8>,
    },
    /// The daemon of the authority's host: admit a host that showed a token.
    Admit {
        /// Which token.
        token: String,
        /// Its secret, as received.
        secret: String,
        /// Name that the host wants.
        name: String,
        /// Its key for tickets.
        host_key: PublicKey,
        /// Its key for TLS.
        tls_key: PublicKey,
        /// Only say whether it would be admitted: nothing is counted, written or issued, the answer is
        /// `Reply::Done`.
        dry_run: bool,
    },
    /// The daemon: a newer revocation list came in.
    Revoke {
        /// The signed list.
        list: Vec<u8>,
    },
    /// The daemon, once a connection: report sessions that run now, then each start and end
    /// (`Reply::SessionStarted`, `Reply::SessionEnded`, with id 0).
    Watch,
    /// The daemon or root: read keys, certificates and policy from disk again.
    Reload,
    /// The daemon: a user asks this host for something. The ticket is checked as that of a session; its request
    /// hash is that of `body`, an encoded `Control`. Answered by `Reply::Controlled` once it is done (a kill:
    /// once the session was told), or by `Reply::Refused`.
    Control {
        /// The ticket as received.
        ticket: Vec<u8>,
        /// Certificate of the host that signed it.
        source_cert: Vec<u8>,
        /// The encoded request.
        body: Vec<u8>,
    },
    /// The daemon of the authority's host: a member asks for a new certificate, by showing the one it has. Answered
    /// by `Reply::Admitted`.
    Renew {
        /// The one it has.
        cert: Vec<u8>,
    },
    /// The daemon: the authority sent this new certificate for this host's name and keys. Answered by
    /// `Reply::Done`.
    Install {
        /// The new one.
        cert: Vec<u8>,
    },
    /// A session process that lost its monitor: take me back. Checked against the session's record and the
    /// kernel's word for the process.
    Adopt {
        /// The session.
        nonce: Nonce,
    },
    /// The daemon, with a new connection for a session that lost its own. The session itself finds out whether the
    /// other end has the right key. Answered by `Reply::Done` or `Reply::Gone`.
    Connect {
        /// The session.
        session: Nonce,
        /// Random, made by the one who connects.
        challenge: Nonce,
    },
    /// The daemon, with the connection of somebody who wants to see a session that runs. The ticket is checked as
    /// that of a new one, and its account must be the session's. Answered by `Reply::Done` (the session has the
    /// connection) or `Reply::Refused`.
    Attach {
        /// The ticket as received.
        ticket: Vec<u8>,
        /// Certificate of the host that signed it.
        source_cert: Vec<u8>,
        /// The session.
        session: Nonce,
    },
    /// About batch jobs.
    Job(JobRequest),
    /// The daemon or root: which program runs. Answered by `Reply::About`.
    About,
    /// Root: the program at this one's path is to take its place. Not answered: the connection ends with this
    /// program. `Reply::Refused`: it goes on.
    Upgrade,
}

/// Longest note about a session.
pub const NOTE_MAX: usize = 1024;

impl Request {
    /// The packet for this request.
    pub fn encode(&self, id: u32) -> Vec<u8> {
        let mut w = Writer::new(MAGIC);
        w.u32(id);
        match self {
            Self::Sign {
                target_cert,
                login,
                nonce,
                request,
                client_key,
            } => w
                .u8(1)
                .bytes(target_cert)
                .bytes(login.as_bytes())
                .fixed(nonce)
                .fixed(request)
                .fixed(client_key),
            Self::Start {
                ticket,
                source_cert,
                note,
            } => w.u8(2).bytes(ticket).bytes(source_cert).bytes(note),
            Self::Admit {
                token,
                secret,
                name,
                host_key,
                tls_key,
                dry_run,
            } => w
                .u8(3)
                .bytes(token.as_bytes())
                .bytes(secret.as_bytes())
                .bytes(name.as_bytes())
                .fixed(host_key)
                .fixed(tls_key)
                .u8(u8::from(*dry_run)),
            Self::Revoke { list } => w.u8(4).u32(list.len() as u32).fixed(list),
            Self::Watch => w.u8(5),
            Self::Reload => w.u8(6),
            Self::Adopt { nonce } => w.u8(7).fixed(nonce),
            Self::Control {
                ticket,
                source_cert,
                body,
            } => w.u8(8).bytes(ticket).bytes(source_cert).bytes(body),
            Self::Renew { cert } => w.u8(9).bytes(cert),
            Self::Install { cert } => w.u8(10).bytes(cert),
            Self::Job(job) => {
                job.write(w.u8(11));
                &mut w
            }
            Self::Connect { session, challenge } => w.u8(12).fixed(session).fixed(challenge),
            Self::Attach {
                ticket,
                source_cert,
                session,
            } => w.u8(13).bytes(ticket).bytes(source_cert).fixed(session),
            Self::About => w.u8(20),
            Self::Upgrade => w.u8(21),
        };
        w.finish()
    }

    /// Reads a packet: its id and the request.
    pub fn decode(packet: &[u8]) -> Result<(u32, Self), Malformed> {
        let mut r = Reader::new(packet, MAGIC, "request to queue-exec")?;
        let id = r.u32()?;
        let req = match r.u8()? {
            1 => Self::Sign {
                target_cert: r.bytes(BLOB_MAX)?.to_vec(),
                login: r.text(USER_MAX)?,
                nonce: r.fixed()?,
                request: r.fixed()?,
                client_key: r.fixed()?,
            },
            2 => Self::Start {
                ticket: r.bytes(BLOB_MAX)?.to_vec(),
                source_cert: r.bytes(BLOB_MAX)?.to_vec(),
                note: r.bytes(NOTE_MAX)?.to_vec(),
            },
            3 => Self::Admit {
                token: r.text(256)?,
                secret: r.text(256)?,
                name: r.text(NAME_MAX)?,
                host_key: r.fixed()?,
                tls_key: r.fixed()?,
                dry_run: r.u8()? != 0,
            },
            4 => {
                let n = r.u32()? as usize;
                if n != r.rest().len() {
                    return Err(Malformed("revocation list"));
                }
                return Ok((
                    id,
                    Self::Revoke {
                        list: r.rest().to_vec(),
                    },
                ));
            }
            5 => Self::Watch,
            6 => Self::Reload,
            7 => Self::Adopt { nonce: r.fixed()? },
            8 => Self::Control {
                ticket: r.bytes(BLOB_MAX)?.to_vec(),
                source_cert: r.bytes(BLOB_MAX)?.to_vec(),
                body: r.bytes(BLOB_MAX)?.to_vec(),
            },
            9 => Self::Renew {
                cert: r.bytes(BLOB_MAX)?.to_vec(),
            },
            10 => Self::Install {
                cert: r.bytes(BLOB_MAX)?.to_vec(),
            },
            11 => Self::Job(JobRequest::read(&mut r)?),
            12 => Self::Connect {
                session: r.fixed()?,
                challenge: r.fixed()?,
            },
            13 => Self::Attach {
                ticket: r.bytes(BLOB_MAX)?.to_vec(),
                source_cert: r.bytes(BLOB_MAX)?.to_vec(),
                session: r.fixed()?,
            },
            20 => Self::About,
            21 => Self::Upgrade,
            _ => return Err(Malformed("request to queue-exec")),
        };
        r.end()?;
        Ok((id, req))
    }
}
