//! What the monitor answers, and the events that it tells. Pure: bytes in, bytes out.

use super::{AttachState, BLOB_MAX, Control, JobReply, MAGIC, NOTE_MAX, PATH_MAX, TEXT_MAX, printable};
use crate::cert::{NAME_MAX, PublicKey, USER_MAX};
use crate::codec::{Malformed, Reader, Writer};
use crate::ticket::Nonce;

/// Answers and events of the monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To `Request::Sign`.
    Signed {
        /// The ticket, signed.
        ticket: Vec<u8>,
        /// This host's own certificate.
        source_cert: Vec<u8>,
        /// The target's key, out of its verified certificate: it signs the grant.
        target_key: PublicKey,
    },
    /// To `Request::Start`: the session has the connection.
    Started {
        /// The session's id: the ticket's nonce.
        nonce: Nonce,
        /// The local account it runs as.
        login: String,
    },
    /// To `Request::Admit` and `Request::Renew`.
    Admitted {
        /// The host's new certificate.
        cert: Vec<u8>,
    },
    /// To `Request::Control`: the asker may, and what the monitor has to do for it is done. What it does not
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
    /// To `Request::Connect`: there is no such session any more.
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
    /// To `Request::About`.
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
