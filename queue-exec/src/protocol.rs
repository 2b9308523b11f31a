//! What is said on `queue-exec`'s socket (`SOCK_SEQPACKET`, one message a packet) and on the socket pair
//! between the monitor and each session process. Pure: bytes in, bytes out.
//!
//! Who may ask what, in which state, is the monitor's permit table (`permit.rs`), not decided here.

mod jobs;

pub use jobs::{
    FromRunner, JobKey, JobReply, JobRequest, KEYS_MAX, OUTCOME_MAX, PARAMS_MAX, RUN_INLINE_MAX, RUN_MAX,
    ToRunner,
};

use crate::cert::{NAME_MAX, PublicKey, USER_MAX};
use crate::codec::{Malformed, Reader, Writer};
use crate::ticket::Nonce;

/// Largest packet on any of these sockets.
pub const PACKET_MAX: usize = 64 * 1024;
/// Largest certificate or ticket carried.
pub const BLOB_MAX: usize = 16 * 1024;
/// Longest explanation carried.
pub const TEXT_MAX: usize = 2048;

/// Longest path carried.
const PATH_MAX: usize = 4096;

const MAGIC: &[u8] = b"QX1";

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
        /// [`Reply::SessionStarted`], so that a restarted daemon knows what was granted.
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
        /// [`Reply::Done`].
        dry_run: bool,
    },
    /// The daemon: a newer revocation list came in.
    Revoke {
        /// The signed list.
        list: Vec<u8>,
    },
    /// The daemon, once a connection: report sessions that run now, then each start and end
    /// ([`Reply::SessionStarted`], [`Reply::SessionEnded`], with id 0).
    Watch,
    /// The daemon or root: read keys, certificates and policy from disk again.
    Reload,
    /// The daemon: a user asks this host for something. The ticket is checked as that of a session; its request
    /// hash is that of `body`, an encoded [`Control`]. Answered by [`Reply::Controlled`] once it is done (a kill:
    /// once the session was told), or by [`Reply::Refused`].
    Control {
        /// The ticket as received.
        ticket: Vec<u8>,
        /// Certificate of the host that signed it.
        source_cert: Vec<u8>,
        /// The encoded request.
        body: Vec<u8>,
    },
    /// The daemon of the authority's host: a member asks for a new certificate, by showing the one it has. Answered
    /// by [`Reply::Admitted`].
    Renew {
        /// The one it has.
        cert: Vec<u8>,
    },
    /// The daemon: the authority sent this new certificate for this host's name and keys. Answered by
    /// [`Reply::Done`].
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
    /// other end has the right key. Answered by [`Reply::Done`] or [`Reply::Gone`].
    Connect {
        /// The session.
        session: Nonce,
        /// Random, made by the one who connects.
        challenge: Nonce,
    },
    /// The daemon, with the connection of somebody who wants to see a session that runs. The ticket is checked as
    /// that of a new one, and its account must be the session's. Answered by [`Reply::Done`] (the session has the
    /// connection) or [`Reply::Refused`].
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
    /// The daemon or root: which program runs. Answered by [`Reply::About`].
    About,
    /// Root: the program at this one's path is to take its place. Not answered: the connection ends with this
    /// program. [`Reply::Refused`]: it goes on.
    Upgrade,
}

/// Answers and events of the monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To [`Request::Sign`].
    Signed {
        /// The ticket, signed.
        ticket: Vec<u8>,
        /// This host's own certificate.
        source_cert: Vec<u8>,
        /// The target's key, out of its verified certificate: it signs the grant.
        target_key: PublicKey,
    },
    /// To [`Request::Start`]: the session has the connection.
    Started {
        /// The session's id: the ticket's nonce.
        nonce: Nonce,
        /// The local account it runs as.
        login: String,
    },
    /// To [`Request::Admit`] and [`Request::Renew`].
    Admitted {
        /// The host's new certificate.
        cert: Vec<u8>,
    },
    /// To [`Request::Control`]: the asker may, and what the monitor has to do for it is done. What it does not
    /// do itself (draining) is the daemon's.
    Controlled {
        /// Who asked: `alice@h1`.
        by: String,
        /// What he asked for.
        control: Control,
    },
    /// Done, nothing to tell.
    Done,
    /// Not done.
    Refused {
        /// What kind of failure, for programs.
        code: Refusal,
        /// What, where, and what to do next, for people.
        text: String,
    },
    /// Event: a session runs.
    SessionStarted {
        /// The session.
        nonce: Nonce,
        /// Local account.
        login: String,
        /// Process id of the session process.
        pid: u32,
        /// The user on the host that it came from.
        ruser: String,
        /// That host.
        rhost: String,
        /// When it began, in milliseconds since the epoch.
        since: u64,
        /// The daemon's note.
        note: Vec<u8>,
    },
    /// Event: a session ended.
    SessionEnded {
        /// The session.
        nonce: Nonce,
    },
    /// To [`Request::Connect`]: there is no such session any more.
    Gone {
        /// This host's word for it, signed ([`crate::ticket::Gone`]).
        proof: Vec<u8>,
    },
    /// Event: whether somebody is attached to a session has changed.
    SessionState {
        /// The session.
        nonce: Nonce,
        /// How it is now.
        attached: AttachState,
    },
    /// About batch jobs.
    Job(JobReply),
    /// To [`Request::About`].
    About(About),
}

/// The program that runs, and what it has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Its version.
    pub version: String,
    /// Where it was started from.
    pub program: String,
    /// Random, made when it was executed.
    pub image: [u8; 16],
    /// Sessions that run.
    pub sessions: u32,
    /// Attempts of batch jobs that run.
    pub jobs: u32,
}

/// Who is attached to a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttachState {
    /// Nobody is, and nobody is waited for: its user has detached it.
    pub detached: bool,
    /// How many only look.
    pub watchers: u32,
}

/// What a user may ask a host for, beside a session. It is carried in a ticket's request hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// End a session: of one's own, or any as an operator.
    Kill {
        /// Which.
        session: Nonce,
        /// Only send this signal to it; 0: end it and its tree (HUP, TERM, KILL).
        signal: u8,
    },
    /// Start nothing new on this host: operators only.
    Drain {
        /// Why, for people; may be empty.
        reason: String,
    },
    /// Start things again.
    Undrain,
    /// Let whoever is attached to a session of one's own go; the command stays.
    Detach {
        /// Which.
        session: Nonce,
    },
}

/// Longest note about a session.
pub const NOTE_MAX: usize = 1024;

/// Kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// The request is not well formed, or not permitted to this asker or now.
    Denied = 1,
    /// The ticket or certificate does not verify.
    BadTicket = 2,
    /// Policy: this host does not accept that user from there, or that login.
    Policy = 3,
    /// The clocks are too far apart, or the ticket is too old.
    Clock = 4,
    /// Too many sessions, or no process could be started.
    Busy = 5,
    /// The token is wrong, expired or used up.
    Token = 6,
    /// The name is taken, or not allowed.
    Name = 7,
    /// That host key belongs to another member already.
    Clone = 8,
    /// This host is not ready: no key or certificate yet.
    NotReady = 9,
    /// Something failed here (disk, kernel).
    Internal = 10,
}

impl Refusal {
    fn from_u8(v: u8) -> Result<Self, Malformed> {
        Ok(match v {
            1 => Self::Denied,
            2 => Self::BadTicket,
            3 => Self::Policy,
            4 => Self::Clock,
            5 => Self::Busy,
            6 => Self::Token,
            7 => Self::Name,
            8 => Self::Clone,
            9 => Self::NotReady,
            10 => Self::Internal,
            _ => return Err(Malformed("refusal code")),
        })
    }
}

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

impl Reply {
    /// The packet for this reply.
    pub fn encode(&self, id: u32) -> Vec<u8> {
        let mut w = Writer::new(MAGIC);
        w.u32(id);
        match self {
            Self::Signed {
                ticket,
                source_cert,
                target_key,
            } => w.u8(1).bytes(ticket).bytes(source_cert).fixed(target_key),
            Self::Started { nonce, login } => w.u8(2).fixed(nonce).bytes(login.as_bytes()),
            Self::Admitted { cert } => w.u8(3).bytes(cert),
            Self::Done => w.u8(4),
            Self::Refused { code, text } => w.u8(5).u8(*code as u8).bytes(printable(text).as_bytes()),
            Self::SessionStarted {
                nonce,
                login,
                pid,
                ruser,
                rhost,
                since,
                note,
            } => {
                w.u8(6).fixed(nonce).bytes(login.as_bytes()).u32(*pid);
                w.bytes(ruser.as_bytes()).bytes(rhost.as_bytes());
                w.u64(*since).bytes(note)
            }
            Self::SessionEnded { nonce } => w.u8(7).fixed(nonce),
            Self::Controlled { by, control } => w.u8(8).bytes(by.as_bytes()).bytes(&control.encode()),
            Self::Job(job) => {
                job.write(w.u8(9));
                &mut w
            }
            Self::Gone { proof } => w.u8(10).bytes(proof),
            Self::SessionState { nonce, attached } => {
                w.u8(11).fixed(nonce);
                w.u8(u8::from(attached.detached)).u32(attached.watchers)
            }
            Self::About(a) => {
                w.u8(20).bytes(a.version.as_bytes()).bytes(a.program.as_bytes());
                w.fixed(&a.image).u32(a.sessions).u32(a.jobs)
            }
        };
        w.finish()
    }

    /// Reads a packet: the id of the request it answers (0: an event) and the reply.
    pub fn decode(packet: &[u8]) -> Result<(u32, Self), Malformed> {
        let mut r = Reader::new(packet, MAGIC, "reply of queue-exec")?;
        let id = r.u32()?;
        let reply = match r.u8()? {
            1 => Self::Signed {
                ticket: r.bytes(BLOB_MAX)?.to_vec(),
                source_cert: r.bytes(BLOB_MAX)?.to_vec(),
                target_key: r.fixed()?,
            },
            2 => Self::Started {
                nonce: r.fixed()?,
                login: r.text(USER_MAX)?,
            },
            3 => Self::Admitted {
                cert: r.bytes(BLOB_MAX)?.to_vec(),
            },
            4 => Self::Done,
            5 => Self::Refused {
                code: Refusal::from_u8(r.u8()?)?,
                text: r.text(TEXT_MAX)?,
            },
            6 => Self::SessionStarted {
                nonce: r.fixed()?,
                login: r.text(USER_MAX)?,
                pid: r.u32()?,
                ruser: r.text(USER_MAX)?,
                rhost: r.text(NAME_MAX)?,
                since: r.u64()?,
                note: r.bytes(NOTE_MAX)?.to_vec(),
            },
            7 => Self::SessionEnded { nonce: r.fixed()? },
            8 => Self::Controlled {
                by: r.text(TEXT_MAX)?,
                control: Control::decode(r.bytes(BLOB_MAX)?)?,
            },
            9 => Self::Job(JobReply::read(&mut r)?),
            10 => Self::Gone {
                proof: r.bytes(BLOB_MAX)?.to_vec(),
            },
            11 => Self::SessionState {
                nonce: r.fixed()?,
                attached: AttachState::read(&mut r)?,
            },
            20 => Self::About(About {
                version: r.text(NAME_MAX)?,
                program: r.text(PATH_MAX)?,
                image: r.fixed()?,
                sessions: r.u32()?,
                jobs: r.u32()?,
            }),
            _ => return Err(Malformed("reply of queue-exec")),
        };
        r.end()?;
        Ok((id, reply))
    }
}

impl AttachState {
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            detached: r.u8()? != 0,
            watchers: r.u32()?,
        })
    }
}

const CONTROL: &[u8] = b"QUEUE control 1\0";

impl Control {
    /// The bytes that a ticket's request hash is made of.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new(CONTROL);
        match self {
            Self::Kill { session, signal } => w.u8(1).fixed(session).u8(*signal),
            Self::Drain { reason } => w.u8(2).bytes(printable(reason).as_bytes()),
            Self::Undrain => w.u8(3),
            Self::Detach { session } => w.u8(4).fixed(session),
        };
        w.finish()
    }

    /// Reads what `encode` wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes, CONTROL, "control request")?;
        let c = match r.u8()? {
            1 => Self::Kill {
                session: r.fixed()?,
                signal: r.u8()?,
            },
            2 => Self::Drain {
                reason: r.text(TEXT_MAX)?,
            },
            3 => Self::Undrain,
            4 => Self::Detach { session: r.fixed()? },
            _ => return Err(Malformed("control request")),
        };
        r.end()?;
        Ok(c)
    }
}

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
        /// Path of the monitor's socket: where to send [`Request::Adopt`] when the monitor was lost.
        socket: String,
    },
    /// With a descriptor: another connection for a session that lost its own. Nothing about it was verified.
    Connection,
    /// With a descriptor: somebody wants to see the session. Everything in it was verified.
    Attach {
        /// Who: `alice@h3`.
        by: String,
        /// SHA-256 that the [`Attach` message](Request::Attach) must have.
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

/// A text as the other side will accept it: one line, no control characters, of bounded length.
pub fn printable(text: &str) -> String {
    let mut s: String = text
        .chars()
        .map(|c| if crate::codec::is_odd(c) { ' ' } else { c })
        .collect();
    if s.len() > TEXT_MAX {
        let cut = (0..=TEXT_MAX).rev().find(|i| s.is_char_boundary(*i)).unwrap_or(0);
        s.truncate(cut);
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_comes_back_as_it_went() {
        let (n, k) = ([1; 16], [2; 32]);
        for (i, m) in [
            Request::Sign {
                target_cert: vec![1; 300],
                login: "bob".into(),
                nonce: n,
                request: k,
                client_key: k,
            },
            Request::Start {
                ticket: vec![3; 9],
                source_cert: vec![],
                note: vec![4; 20],
            },
            Request::Control {
                ticket: vec![3; 9],
                source_cert: vec![5],
                body: vec![4; 20],
            },
            Request::Admit {
                token: "t".into(),
                secret: "s".into(),
                name: "h".into(),
                host_key: k,
                tls_key: k,
                dry_run: true,
            },
            Request::Revoke { list: vec![0; 7] },
            Request::Watch,
            Request::Reload,
            Request::Adopt { nonce: n },
            Request::Renew { cert: vec![7; 300] },
            Request::Install { cert: vec![8; 300] },
            Request::Connect {
                session: n,
                challenge: [9; 16],
            },
            Request::Attach {
                ticket: vec![3; 9],
                source_cert: vec![5],
                session: n,
            },
            Request::About,
            Request::Upgrade,
        ]
        .into_iter()
        .enumerate()
        {
            let p = m.encode(i as u32);
            assert_eq!(Request::decode(&p), Ok((i as u32, m)));
            assert!(Request::decode(&p[..p.len() - 1]).is_err());
        }
        for m in [
            Reply::Signed {
                ticket: vec![1],
                source_cert: vec![2],
                target_key: k,
            },
            Reply::Started {
                nonce: n,
                login: "a".into(),
            },
            Reply::Admitted { cert: vec![5] },
            Reply::Done,
            Reply::Refused {
                code: Refusal::Clone,
                text: "no".into(),
            },
            Reply::SessionStarted {
                nonce: n,
                login: "a".into(),
                pid: 7,
                ruser: "b".into(),
                rhost: "h1".into(),
                since: 1_700_000_000_000,
                note: vec![1, 2, 3],
            },
            Reply::Controlled {
                by: "alice@h1".into(),
                control: Control::Kill {
                    session: n,
                    signal: 15,
                },
            },
            Reply::Controlled {
                by: "root@h1".into(),
                control: Control::Drain {
                    reason: "new disk".into(),
                },
            },
            Reply::SessionEnded { nonce: n },
            Reply::Gone { proof: vec![1; 90] },
            Reply::SessionState {
                nonce: n,
                attached: AttachState {
                    detached: true,
                    watchers: 3,
                },
            },
            Reply::Controlled {
                by: "alice@h1".into(),
                control: Control::Detach { session: n },
            },
        ] {
            let p = m.encode(9);
            assert_eq!(Reply::decode(&p), Ok((9, m)));
        }
        let claim = ToSession::Claim {
            nonce: n,
            login: "a".into(),
            ruser: "b".into(),
            rhost: "c".into(),
            host: "d".into(),
            request: k,
            client_key: k,
            grant: vec![1, 2],
            pam: true,
            grace: 60,
            cgroup: false,
            uid_min: 1000,
            allow_root: true,
            socket: "/run/queue/exec.sock".into(),
        };
        assert_eq!(ToSession::decode(&claim.encode()), Ok(claim));
        for m in [
            ToSession::Connection,
            ToSession::Attach {
                by: "bob@h2".into(),
                request: k,
                client_key: k,
                grant: vec![1, 2],
            },
            ToSession::Detach { by: "bob@h2".into() },
            ToSession::Seen {
                sessions: vec![Seen { nonce: n, pid: 9 }],
            },
            ToSession::Kill {
                by: "bob@h2".into(),
                signal: 0,
            },
        ] {
            assert_eq!(ToSession::decode(&m.encode()), Ok(m));
        }
        for m in [
            FromSession::Ready { session_key: k },
            FromSession::Running,
            FromSession::Failed { text: "x".into() },
            FromSession::KillTree,
            FromSession::Ended { leave: true },
            FromSession::Look,
            FromSession::State(AttachState {
                detached: false,
                watchers: 1,
            }),
        ] {
            assert_eq!(FromSession::decode(&m.encode()), Ok(m));
        }
    }

    #[test]
    fn texts_become_one_harmless_line() {
        assert_eq!(printable("a\n\x1b[2J"), "a  [2J");
        assert!(printable(&"é".repeat(TEXT_MAX)).len() <= TEXT_MAX);
    }
}
