//! What monitor and session process say to each other on their socket pair. Pure: bytes in, bytes out. Nothing of what
//! a session says to its client.

use super::{AttachState, BLOB_MAX, FromRunner, MAGIC, PATH_MAX, TEXT_MAX, ToRunner, printable};
use crate::cert::{NAME_MAX, PublicKey, USER_MAX};
use crate::codec::{Malformed, Reader, Writer};
use crate::ticket::Nonce;

/// A session as the monitor knows it, told to a session that looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The session.
    pub nonce: Nonce,
    /// Process id of its session process; the command's tree is below it.
    pub pid: u32,
}

/// Most sessions told at once.
pub const SEEN_MAX: usize = 1024;

/// The monitor's half of the talk with a session process.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "one exists at a time, for as long as it takes to encode it"
)]
pub enum ToSession {
    /// With the connection's descriptor: be this session. Everything in it was verified.
    Claim {
        /// The session's id.
        nonce: Nonce,
        /// The local account to become.
        login: String,
        /// The user on the source host, for logs and PAM (`PAM_RUSER`).
        ruser: String,
        /// The source host, for logs and PAM (`PAM_RHOST`).
        rhost: String,
        /// Name of this host.
        host: String,
        /// SHA-256 that the request must have.
        request: [u8; 32],
        /// Key that the client must have.
        client_key: PublicKey,
        /// The signed grant, to be sent first on the connection.
        grant: Vec<u8>,
        /// Whether a PAM session is to be opened.
        pam: bool,
        /// Seconds an unreachable client is waited for.
        grace: u32,
        /// Whether ended processes can be killed through a cgroup (else the session walks its tree).
        cgroup: bool,
        /// The account's uid must not be lower than this (system accounts), unless it is 0, for which
        /// `allow_root` alone counts. Policy has to be finished by the session, because only it may look
        /// accounts up.
        uid_min: u32,
        /// Whether the account may have uid 0.
        allow_root: bool,
        /// Path of the monitor's socket: where to send `Request::Adopt` when the monitor was lost.
        socket: String,
    },
    /// With a descriptor: another connection for a session that lost its own. Nothing about it was verified.
    Connection,
    /// With a descriptor: somebody wants to see the session. Everything in it was verified.
    Attach {
        /// Who: `alice@h3`.
        by: String,
        /// SHA-256 that the [`Attach` message](super::Request::Attach) must have.
        request: [u8; 32],
        /// Key that the client must have.
        client_key: PublicKey,
        /// The signed grant for the session's own key, to be sent first on the connection.
        grant: Vec<u8>,
    },
    /// Let whoever is attached go; the command stays.
    Detach {
        /// Who wants it: `alice@h3`.
        by: String,
    },
    /// To [`FromSession::Look`]: the sessions that its user may look at.
    Seen {
        /// Each of them.
        sessions: Vec<Seen>,
    },
    /// End the session as if its client had hung up.
    Kill {
        /// Who wants it, for the client: `alice@h1`.
        by: String,
        /// Only send this signal to the foreground group; 0: end it.
        signal: u8,
    },
    /// About batch jobs; `Hire` instead of `Claim`.
    Job(ToRunner),
}

/// The session's half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromSession {
    /// Warm: waiting to be claimed; this is its public key.
    Ready {
        /// For the grant.
        session_key: PublicKey,
    },
    /// It has become the user. From now on it is not trusted with more than its own session.
    Running,
    /// It could not become the user (no such account, name service too slow, PAM said no).
    Failed {
        /// For the daemon's log; the client was told by the session where that was possible.
        text: String,
    },
    /// Kill what is left of my tree, me excepted.
    KillTree,
    /// The session is over; it will exit now. `leave`: processes it started may go on (the rsh form).
    Ended {
        /// Leave the rest of the tree alone.
        leave: bool,
    },
    /// Which sessions of my user (for an operator: of anybody) are there? Answered by [`ToSession::Seen`].
    Look,
    /// Who is attached has changed.
    State(AttachState),
    /// About batch jobs.
    Job(FromRunner),
}

impl ToSession {
    /// The packet.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new(MAGIC);
        match self {
            Self::Claim {
                nonce,
                login,
                ruser,
                rhost,
                host,
                request,
                client_key,
                grant,
                pam,
                grace,
                cgroup,
                uid_min,
                allow_root,
                socket,
            } => {
                w.u8(1).fixed(nonce);
                for s in [login, ruser, rhost, host] {
                    w.bytes(s.as_bytes());
                }
                w.fixed(request).fixed(client_key).bytes(grant);
                w.u8(u8::from(*pam)).u32(*grace).u8(u8::from(*cgroup));
                w.u32(*uid_min).u8(u8::from(*allow_root)).bytes(socket.as_bytes())
            }
            Self::Connection => w.u8(2),
            Self::Seen { sessions } => {
                w.u8(3).u32(sessions.len().min(SEEN_MAX) as u32);
                for s in sessions.iter().take(SEEN_MAX) {
                    w.fixed(&s.nonce).u32(s.pid);
                }
                &mut w
            }
            Self::Kill { by, signal } => w.u8(4).bytes(printable(by).as_bytes()).u8(*signal),
            Self::Job(job) => {
                job.write(w.u8(5));
                &mut w
            }
            Self::Attach {
                by,
                request,
                client_key,
                grant,
            } => {
                w.u8(6).bytes(printable(by).as_bytes()).fixed(request);
                w.fixed(client_key).bytes(grant)
            }
            Self::Detach { by } => w.u8(7).bytes(printable(by).as_bytes()),
        };
        w.finish()
    }

    /// Reads a packet.
    pub fn decode(packet: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(packet, MAGIC, "message to a session")?;
        let m = match r.u8()? {
            1 => Self::Claim {
                nonce: r.fixed()?,
                login: r.text(USER_MAX)?,
                ruser: r.text(USER_MAX)?,
                rhost: r.text(NAME_MAX)?,
                host: r.text(NAME_MAX)?,
                request: r.fixed()?,
                client_key: r.fixed()?,
                grant: r.bytes(BLOB_MAX)?.to_vec(),
                pam: r.u8()? != 0,
                grace: r.u32()?,
                cgroup: r.u8()? != 0,
                uid_min: r.u32()?,
                allow_root: r.u8()? != 0,
                socket: r.text(PATH_MAX)?,
            },
            2 => Self::Connection,
            3 => {
                let n = r.u32()? as usize;
                if n > SEEN_MAX {
                    return Err(Malformed("message to a session"));
                }
                let one = |r: &mut Reader<'_>| {
                    Ok(Seen {
                        nonce: r.fixed()?,
                        pid: r.u32()?,
                    })
                };
                Self::Seen {
                    sessions: (0..n).map(|_| one(&mut r)).collect::<Result<_, Malformed>>()?,
                }
            }
            4 => Self::Kill {
                by: r.text(TEXT_MAX)?,
                signal: r.u8()?,
            },
            5 => Self::Job(ToRunner::read(&mut r)?),
            6 => Self::Attach {
                by: r.text(TEXT_MAX)?,
                request: r.fixed()?,
                client_key: r.fixed()?,
                grant: r.bytes(BLOB_MAX)?.to_vec(),
            },
            7 => Self::Detach {
                by: r.text(TEXT_MAX)?,
            },
            _ => return Err(Malformed("message to a session")),
        };
        r.end()?;
        Ok(m)
    }
}

impl FromSession {
    /// The packet.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new(MAGIC);
        match self {
            Self::Ready { session_key } => w.u8(1).fixed(session_key),
            Self::Running => w.u8(2),
            Self::Failed { text } => w.u8(3).bytes(printable(text).as_bytes()),
            Self::KillTree => w.u8(4),
            Self::Ended { leave } => w.u8(5).u8(u8::from(*leave)),
            Self::Look => w.u8(6),
            Self::Job(job) => {
                job.write(w.u8(7));
                &mut w
            }
            Self::State(a) => w.u8(8).u8(u8::from(a.detached)).u32(a.watchers),
        };
        w.finish()
    }

    /// Reads a packet.
    pub fn decode(packet: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(packet, MAGIC, "message of a session")?;
        let m = match r.u8()? {
            1 => Self::Ready {
                session_key: r.fixed()?,
            },
            2 => Self::Running,
            3 => Self::Failed {
                text: r.text(TEXT_MAX)?,
            },
            4 => Self::KillTree,
            5 => Self::Ended { leave: r.u8()? != 0 },
            6 => Self::Look,
            7 => Self::Job(FromRunner::read(&mut r)?),
            8 => Self::State(AttachState::read(&mut r)?),
            _ => return Err(Malformed("message of a session")),
        };
        r.end()?;
        Ok(m)
    }
}
