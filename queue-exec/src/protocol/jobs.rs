//! What concerns batch jobs in the monitor's protocol. Pure: bytes in, bytes out. What is executed (`run`), how
//! (`params`), how it runs (`running`) and how it ended (`outcome`) are bytes that the monitor passes on and does
//! not read, but for the hash of `run`, which a warrant covers.

use super::{BLOB_MAX, NOTE_MAX, PATH_MAX, TEXT_MAX, printable};
use crate::cert::{NAME_MAX, USER_MAX};
use crate::codec::{Malformed, Reader, Writer};
use crate::ticket::Nonce;

/// Largest `run` that goes in the packet; a larger one comes with it as the descriptor of a sealed memory file.
pub const RUN_INLINE_MAX: usize = 24 * 1024;
/// Largest `run` at all.
pub const RUN_MAX: usize = 8 << 20;
/// Largest `params`.
pub const PARAMS_MAX: usize = 20 * 1024;
/// Largest `outcome` or `running`.
pub const OUTCOME_MAX: usize = 24 * 1024;
/// Most attempts named at once.
pub const KEYS_MAX: usize = 1024;

/// An attempt of a job: `task` is 0 where it is no array; attempts count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey {
    /// The job.
    pub job: u64,
    /// The task.
    pub task: u32,
    /// The attempt.
    pub attempt: u32,
}

impl JobKey {
    fn write(self, w: &mut Writer) -> &mut Writer {
        w.u64(self.job).u32(self.task).u32(self.attempt)
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            job: r.u64()?,
            task: r.u32()?,
            attempt: r.u32()?,
        })
    }

    /// Sixteen bytes: names the attempt where sessions are named by their nonce.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut w = Writer::new(b"");
        self.write(&mut w);
        let mut b = [0; 16];
        b.copy_from_slice(w.as_bytes());
        b
    }

    /// The attempt with these bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let [job @ .., a, b, c, d, e, f, g, h] = bytes;
        Self {
            job: u64::from_be_bytes(job),
            task: u32::from_be_bytes([a, b, c, d]),
            attempt: u32::from_be_bytes([e, f, g, h]),
        }
    }
}

/// Asked of the monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobRequest {
    /// Any local user: "say for me that I want this run". Answered by [`JobReply::Warrant`].
    Warrant {
        /// Account to run as; empty for the same name.
        login: String,
        /// SHA-256 of the run.
        run: [u8; 32],
    },
    /// The daemon: start this attempt. Answered by `Done` once a session has it, or by `Refused`: then nothing was
    /// started. An attempt of which an equal or newer one was ever seen here is refused (`Denied`).
    ///
    /// A run too large for the packet is in a memory file with the seals `SHRINK`, `GROW` and `WRITE`, from its
    /// first byte to its last; nobody moves the descriptor's offset.
    Run {
        /// Which.
        key: JobKey,
        /// The submitter's warrant.
        warrant: Vec<u8>,
        /// Certificate of the host that signed it.
        source_cert: Vec<u8>,
        /// The run, if it is not in the descriptor.
        run: Vec<u8>,
        /// How it is run.
        params: Vec<u8>,
        /// The tree ends at this time of `CLOCK_BOOTTIME`, in milliseconds, unless that is put off; 0: never.
        lease: u64,
        /// The daemon's note: said again with [`JobReply::Started`].
        note: Vec<u8>,
    },
    /// The daemon: end this attempt, or send it a signal. Answered by `Done`; `Refused` if it does not run here.
    End {
        /// Which.
        key: JobKey,
        /// 0: end it (TERM, KILL).
        signal: u8,
        /// Number of the cause, for its outcome.
        cause: u8,
        /// Who or why, for its outcome.
        text: String,
    },
    /// The daemon: these leases end later. Answered by `Done`; attempts that do not run here are passed over.
    Lease {
        /// Attempt, and the new end of its lease.
        leases: Vec<(JobKey, u64)>,
    },
    /// The daemon: the leader has these outcomes. Answered by `Done`.
    Forget {
        /// Whose.
        keys: Vec<JobKey>,
    },
    /// The daemon of the leader: who asks this? Answered by [`JobReply::Vouched`].
    Vouch {
        /// The ticket as received.
        ticket: Vec<u8>,
        /// Certificate of the host that signed it.
        source_cert: Vec<u8>,
        /// SHA-256 of the question.
        body: [u8; 32],
    },
    /// The daemon of the submitting host: bring home what this job wrote on another host, as its user. Answered by
    /// [`JobReply::Delivered`] when that is over.
    Deliver {
        /// The job.
        job: u64,
        /// Its warrant.
        warrant: Vec<u8>,
        /// Certificate of the host that signed it: this one.
        source_cert: Vec<u8>,
        /// The run, if it is not in the descriptor.
        run: Vec<u8>,
        /// The host that has it; empty: nothing is to be brought, only the nonce file removed.
        from: String,
    },
}

/// Answers and events of the monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobReply {
    /// To [`JobRequest::Warrant`].
    Warrant {
        /// The warrant, signed.
        warrant: Vec<u8>,
        /// This host's own certificate.
        source_cert: Vec<u8>,
    },
    /// To [`JobRequest::Vouch`].
    Vouched {
        /// The user on his host.
        user: String,
        /// That host.
        host: String,
        /// He is an operator here.
        operator: bool,
    },
    /// To [`JobRequest::Deliver`].
    Delivered {
        /// Why not; empty: done.
        failed: String,
        /// It makes no sense to try again.
        hopeless: bool,
    },
    /// Event, first after `Watch`: names the life of the records of attempts here. Attempts started in another life
    /// no longer run.
    Life {
        /// Random.
        life: Nonce,
    },
    /// Event: an attempt runs. One that is over at once may never be said to run.
    Started {
        /// Which.
        key: JobKey,
        /// Local account.
        login: String,
        /// Process id of its session process.
        pid: u32,
        /// Its `Running`; empty as long as the command has not been executed.
        running: Vec<u8>,
        /// The daemon's note.
        note: Vec<u8>,
        /// When it was handed to its session, in milliseconds since the epoch.
        since: u64,
    },
    /// Event: an attempt was stopped, or goes on.
    Stopped {
        /// Which.
        key: JobKey,
        /// Stopped.
        stopped: bool,
    },
    /// Event: an attempt has ended and nothing of it runs any more. Said again to each new watcher until `Forget`.
    Ended {
        /// Which.
        key: JobKey,
        /// Its `Outcome`; empty: its session, or we, died, and nobody knows.
        outcome: Vec<u8>,
    },
    /// Event, after `Watch`: all attempts that are here were told.
    Told,
}

/// To a session that runs jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToRunner {
    /// Be a runner of jobs for this user, one after the other. Everything in it was verified.
    Hire {
        /// Names this session, for `Adopt`.
        nonce: Nonce,
        /// The local account to become.
        login: String,
        /// The submitter on his host, for logs and PAM.
        ruser: String,
        /// That host.
        rhost: String,
        /// Name of this host.
        host: String,
        /// Whether a PAM session is to be opened: then it runs one job only.
        pam: bool,
        /// Whether it lives in a cgroup of its own.
        cgroup: bool,
        /// As in `Claim`.
        uid_min: u32,
        /// As in `Claim`.
        allow_root: bool,
        /// Path of the monitor's socket.
        socket: String,
        /// Directory of this user for output that is to be brought home; it need not exist: the session makes it
        /// before it becomes the user.
        spool: String,
    },
    /// Run this one.
    Job {
        /// Which.
        key: JobKey,
        /// The run, if it is not in the descriptor; its hash was checked.
        run: Vec<u8>,
        /// How.
        params: Vec<u8>,
        /// As in [`JobRequest::Run`].
        lease: u64,
    },
    /// End it, or send it a signal: as [`JobRequest::End`].
    End {
        /// Which.
        key: JobKey,
        /// 0: end it.
        signal: u8,
        /// Cause.
        cause: u8,
        /// Text.
        text: String,
    },
    /// Its lease ends later.
    Lease {
        /// Which.
        key: JobKey,
        /// When.
        lease: u64,
    },
    /// Bring output home, then exit: as [`JobRequest::Deliver`].
    Deliver {
        /// The job.
        job: u64,
        /// The run, if it is not in the descriptor.
        run: Vec<u8>,
        /// From which host.
        from: String,
    },
}

/// From a session that runs jobs.
///
/// A monitor that died may not have read the last of these. A session that was adopted says again how far it is:
/// `Started` of the attempt that it runs, with empty `running` if the command has not been executed yet (and `Stopped`
/// if it is), or `Ended` of the one that it ran last. One that waits for a job is not adopted, but denied, and exits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromRunner {
    /// The command was executed.
    Started {
        /// Which.
        key: JobKey,
        /// Its `Running`.
        running: Vec<u8>,
    },
    /// Stopped, or goes on.
    Stopped {
        /// Which.
        key: JobKey,
        /// Stopped.
        stopped: bool,
    },
    /// It is over, its tree is empty, its output written. The session waits for the next one.
    Ended {
        /// Which.
        key: JobKey,
        /// Its `Outcome`.
        outcome: Vec<u8>,
        /// The tree could not be emptied by the session (processes of other users): the monitor is to kill what is
        /// left, and this session exits.
        last: bool,
    },
    /// The delivery is over; the session exits.
    Delivered {
        /// Why not; empty: done.
        failed: String,
        /// It makes no sense to try again.
        hopeless: bool,
    },
}

fn keys(w: &mut Writer, keys: &[JobKey]) {
    w.u16(keys.len().min(KEYS_MAX) as u16);
    for k in keys.iter().take(KEYS_MAX) {
        k.write(w);
    }
}

fn read_keys(r: &mut Reader<'_>) -> Result<Vec<JobKey>, Malformed> {
    let n = usize::from(r.u16()?);
    if n > KEYS_MAX {
        return Err(Malformed("list of attempts"));
    }
    (0..n).map(|_| JobKey::read(r)).collect()
}

impl JobRequest {
    pub(super) fn write(&self, w: &mut Writer) {
        match self {
            Self::Warrant { login, run } => {
                w.u8(1).bytes(login.as_bytes()).fixed(run);
            }
            Self::Run {
                key,
                warrant,
                source_cert,
                run,
                params,
                lease,
                note,
            } => {
                key.write(w.u8(2)).bytes(warrant).bytes(source_cert).bytes(run);
                w.bytes(params).u64(*lease).bytes(note);
            }
            Self::End {
                key,
                signal,
                cause,
                text,
            } => {
                let text = printable(text);
                key.write(w.u8(3)).u8(*signal).u8(*cause).bytes(text.as_bytes());
            }
            Self::Lease { leases } => {
                w.u8(4).u16(leases.len().min(KEYS_MAX) as u16);
                for (k, end) in leases.iter().take(KEYS_MAX) {
                    k.write(w).u64(*end);
                }
            }
            Self::Forget { keys: k } => keys(w.u8(5), k),
            Self::Vouch {
                ticket,
                source_cert,
                body,
            } => {
                w.u8(6).bytes(ticket).bytes(source_cert).fixed(body);
            }
            Self::Deliver {
                job,
                warrant,
                source_cert,
                run,
                from,
            } => {
                w.u8(7).u64(*job).bytes(warrant).bytes(source_cert);
                w.bytes(run).bytes(from.as_bytes());
            }
        }
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match r.u8()? {
            1 => Self::Warrant {
                login: r.text(USER_MAX)?,
                run: r.fixed()?,
            },
            2 => Self::Run {
                key: JobKey::read(r)?,
                warrant: r.bytes(BLOB_MAX)?.to_vec(),
                source_cert: r.bytes(BLOB_MAX)?.to_vec(),
                run: r.bytes(RUN_INLINE_MAX)?.to_vec(),
                params: r.bytes(PARAMS_MAX)?.to_vec(),
                lease: r.u64()?,
                note: r.bytes(NOTE_MAX)?.to_vec(),
            },
            3 => Self::End {
                key: JobKey::read(r)?,
                signal: r.u8()?,
                cause: r.u8()?,
                text: r.text(TEXT_MAX)?,
            },
            4 => {
                let n = usize::from(r.u16()?);
                if n > KEYS_MAX {
                    return Err(Malformed("list of leases"));
                }
                let one = |r: &mut Reader<'_>| Ok((JobKey::read(r)?, r.u64()?));
                Self::Lease {
                    leases: (0..n).map(|_| one(r)).collect::<Result<_, Malformed>>()?,
                }
            }
            5 => Self::Forget { keys: read_keys(r)? },
            6 => Self::Vouch {
                ticket: r.bytes(BLOB_MAX)?.to_vec(),
                source_cert: r.bytes(BLOB_MAX)?.to_vec(),
                body: r.fixed()?,
            },
            7 => Self::Deliver {
                job: r.u64()?,
                warrant: r.bytes(BLOB_MAX)?.to_vec(),
                source_cert: r.bytes(BLOB_MAX)?.to_vec(),
                run: r.bytes(RUN_INLINE_MAX)?.to_vec(),
                from: r.text(NAME_MAX)?,
            },
            _ => return Err(Malformed("request about jobs")),
        })
    }
}

impl JobReply {
    pub(super) fn write(&self, w: &mut Writer) {
        match self {
            Self::Warrant { warrant, source_cert } => {
                w.u8(1).bytes(warrant).bytes(source_cert);
            }
            Self::Vouched { user, host, operator } => {
                w.u8(2).bytes(user.as_bytes()).bytes(host.as_bytes());
                w.u8(u8::from(*operator));
            }
            Self::Delivered { failed, hopeless } => {
                w.u8(3)
                    .bytes(printable(failed).as_bytes())
                    .u8(u8::from(*hopeless));
            }
            Self::Life { life } => {
                w.u8(4).fixed(life);
            }
            Self::Started {
                key,
                login,
                pid,
                running,
                note,
                since,
            } => {
                key.write(w.u8(5)).bytes(login.as_bytes()).u32(*pid);
                w.bytes(running).bytes(note).u64(*since);
            }
            Self::Stopped { key, stopped } => {
                key.write(w.u8(6)).u8(u8::from(*stopped));
            }
            Self::Ended { key, outcome } => {
                key.write(w.u8(7)).bytes(outcome);
            }
            Self::Told => {
                w.u8(8);
            }
        }
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match r.u8()? {
            1 => Self::Warrant {
                warrant: r.bytes(BLOB_MAX)?.to_vec(),
                source_cert: r.bytes(BLOB_MAX)?.to_vec(),
            },
            2 => Self::Vouched {
                user: r.text(USER_MAX)?,
                host: r.text(NAME_MAX)?,
                operator: r.u8()? != 0,
            },
            3 => Self::Delivered {
                failed: r.text(TEXT_MAX)?,
                hopeless: r.u8()? != 0,
            },
            4 => Self::Life { life: r.fixed()? },
            5 => Self::Started {
                key: JobKey::read(r)?,
                login: r.text(USER_MAX)?,
                pid: r.u32()?,
                running: r.bytes(OUTCOME_MAX)?.to_vec(),
                note: r.bytes(NOTE_MAX)?.to_vec(),
                since: r.u64()?,
            },
            6 => Self::Stopped {
                key: JobKey::read(r)?,
                stopped: r.u8()? != 0,
            },
            7 => Self::Ended {
                key: JobKey::read(r)?,
                outcome: r.bytes(OUTCOME_MAX)?.to_vec(),
            },
            8 => Self::Told,
            _ => return Err(Malformed("reply about jobs")),
        })
    }
}

impl ToRunner {
    pub(super) fn write(&self, w: &mut Writer) {
        match self {
            Self::Hire {
                nonce,
                login,
                ruser,
                rhost,
                host,
                pam,
                cgroup,
                uid_min,
                allow_root,
                socket,
                spool,
            } => {
                w.u8(1).fixed(nonce);
                for s in [login, ruser, rhost, host] {
                    w.bytes(s.as_bytes());
                }
                w.u8(u8::from(*pam)).u8(u8::from(*cgroup)).u32(*uid_min);
                w.u8(u8::from(*allow_root));
                w.bytes(socket.as_bytes()).bytes(spool.as_bytes());
            }
            Self::Job {
                key,
                run,
                params,
                lease,
            } => {
                key.write(w.u8(2)).bytes(run).bytes(params).u64(*lease);
            }
            Self::End {
                key,
                signal,
                cause,
                text,
            } => {
                let text = printable(text);
                key.write(w.u8(3)).u8(*signal).u8(*cause).bytes(text.as_bytes());
            }
            Self::Lease { key, lease } => {
                key.write(w.u8(4)).u64(*lease);
            }
            Self::Deliver { job, run, from } => {
                w.u8(5).u64(*job).bytes(run).bytes(from.as_bytes());
            }
        }
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match r.u8()? {
            1 => Self::Hire {
                nonce: r.fixed()?,
                login: r.text(USER_MAX)?,
                ruser: r.text(USER_MAX)?,
                rhost: r.text(NAME_MAX)?,
                host: r.text(NAME_MAX)?,
                pam: r.u8()? != 0,
                cgroup: r.u8()? != 0,
                uid_min: r.u32()?,
                allow_root: r.u8()? != 0,
                socket: r.text(PATH_MAX)?,
                spool: r.text(PATH_MAX)?,
            },
            2 => Self::Job {
                key: JobKey::read(r)?,
                run: r.bytes(RUN_INLINE_MAX)?.to_vec(),
                params: r.bytes(PARAMS_MAX)?.to_vec(),
                lease: r.u64()?,
            },
            3 => Self::End {
                key: JobKey::read(r)?,
                signal: r.u8()?,
                cause: r.u8()?,
                text: r.text(TEXT_MAX)?,
            },
            4 => Self::Lease {
                key: JobKey::read(r)?,
                lease: r.u64()?,
            },
            5 => Self::Deliver {
                job: r.u64()?,
                run: r.bytes(RUN_INLINE_MAX)?.to_vec(),
                from: r.text(NAME_MAX)?,
            },
            _ => return Err(Malformed("message to a runner")),
        })
    }
}

impl FromRunner {
    pub(super) fn write(&self, w: &mut Writer) {
        match self {
            Self::Started { key, running } => {
                key.write(w.u8(1)).bytes(running);
            }
            Self::Stopped { key, stopped } => {
                key.write(w.u8(2)).u8(u8::from(*stopped));
            }
            Self::Ended { key, outcome, last } => {
                key.write(w.u8(3)).bytes(outcome).u8(u8::from(*last));
            }
            Self::Delivered { failed, hopeless } => {
                w.u8(4)
                    .bytes(printable(failed).as_bytes())
                    .u8(u8::from(*hopeless));
            }
        }
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match r.u8()? {
            1 => Self::Started {
                key: JobKey::read(r)?,
                running: r.bytes(OUTCOME_MAX)?.to_vec(),
            },
            2 => Self::Stopped {
                key: JobKey::read(r)?,
                stopped: r.u8()? != 0,
            },
            3 => Self::Ended {
                key: JobKey::read(r)?,
                outcome: r.bytes(OUTCOME_MAX)?.to_vec(),
                last: r.u8()? != 0,
            },
            4 => Self::Delivered {
                failed: r.text(TEXT_MAX)?,
                hopeless: r.u8()? != 0,
            },
            _ => return Err(Malformed("message of a runner")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FromSession, Reply, Request, ToSession};
    use super::*;

    const KEY: JobKey = JobKey {
        job: 0x0102_0304_0506_0708,
        task: 0x090a_0b0c,
        attempt: 0x0d0e_0f10,
    };

    #[test]
    fn an_attempt_is_sixteen_bytes() {
        let bytes: Vec<u8> = (1..=16).collect();
        assert_eq!(KEY.to_bytes()[..], bytes);
        assert_eq!(JobKey::from_bytes(KEY.to_bytes()), KEY);
    }

    #[test]
    fn each_request_comes_back_as_it_went() {
        for m in [
            JobRequest::Warrant {
                login: "bob".into(),
                run: [1; 32],
            },
            JobRequest::Run {
                key: KEY,
                warrant: vec![1; 300],
                source_cert: vec![2; 200],
                run: vec![3; RUN_INLINE_MAX],
                params: vec![4; PARAMS_MAX],
                lease: u64::MAX,
                note: vec![5; NOTE_MAX],
            },
            JobRequest::End {
                key: KEY,
                signal: 15,
                cause: 10,
                text: "killed by bob@h2".into(),
            },
            JobRequest::Lease {
                leases: vec![(KEY, 1), (KEY, 2)],
            },
            JobRequest::Forget {
                keys: vec![KEY; KEYS_MAX],
            },
            JobRequest::Vouch {
                ticket: vec![1],
                source_cert: vec![2],
                body: [3; 32],
            },
            JobRequest::Deliver {
                job: 7,
                warrant: vec![1],
                source_cert: vec![],
                run: vec![2; 9],
                from: "h2".into(),
            },
        ] {
            let p = Request::Job(m.clone()).encode(9);
            assert!(p.len() <= super::super::PACKET_MAX);
            assert_eq!(Request::decode(&p), Ok((9, Request::Job(m))));
            for cut in 0..p.len().min(100) {
                assert!(Request::decode(&p[..p.len() - 1 - cut]).is_err());
            }
        }
    }

    #[test]
    fn each_reply_comes_back_as_it_went() {
        for m in [
            JobReply::Warrant {
                warrant: vec![1],
                source_cert: vec![2],
            },
            JobReply::Vouched {
                user: "bob".into(),
                host: "h2".into(),
                operator: true,
            },
            JobReply::Delivered {
                failed: "no room".into(),
                hopeless: true,
            },
            JobReply::Life { life: [7; 16] },
            JobReply::Started {
                key: KEY,
                login: "bob".into(),
                pid: 12,
                running: vec![1; OUTCOME_MAX],
                note: vec![2; NOTE_MAX],
                since: 1_700_000_000_000,
            },
            JobReply::Stopped {
                key: KEY,
                stopped: true,
            },
            JobReply::Ended {
                key: KEY,
                outcome: vec![1; OUTCOME_MAX],
            },
            JobReply::Told,
        ] {
            let p = Reply::Job(m.clone()).encode(0);
            assert_eq!(Reply::decode(&p), Ok((0, Reply::Job(m))));
            assert!(Reply::decode(&p[..p.len() - 1]).is_err());
        }
    }

    #[test]
    fn what_is_said_with_runners_comes_back_as_it_went() {
        for m in [
            ToRunner::Hire {
                nonce: [1; 16],
                login: "a".into(),
                ruser: "b".into(),
                rhost: "c".into(),
                host: "d".into(),
                pam: true,
                cgroup: false,
                uid_min: 1000,
                allow_root: true,
                socket: "/run/queue/exec.sock".into(),
                spool: "/var/lib/queue/spool/a".into(),
            },
            ToRunner::Job {
                key: KEY,
                run: vec![1; RUN_INLINE_MAX],
                params: vec![2; PARAMS_MAX],
                lease: 3,
            },
            ToRunner::End {
                key: KEY,
                signal: 0,
                cause: 10,
                text: "killed by bob@h2".into(),
            },
            ToRunner::Lease { key: KEY, lease: 4 },
            ToRunner::Deliver {
                job: 7,
                run: vec![],
                from: String::new(),
            },
        ] {
            let m = ToSession::Job(m);
            let p = m.encode();
            assert!(ToSession::decode(&p[..p.len() - 1]).is_err());
            assert_eq!(ToSession::decode(&p), Ok(m));
        }
        for m in [
            FromRunner::Started {
                key: KEY,
                running: vec![1, 2],
            },
            FromRunner::Stopped {
                key: KEY,
                stopped: false,
            },
            FromRunner::Ended {
                key: KEY,
                outcome: vec![3; OUTCOME_MAX],
                last: true,
            },
            FromRunner::Delivered {
                failed: String::new(),
                hopeless: false,
            },
        ] {
            let m = FromSession::Job(m);
            let p = m.encode();
            assert!(FromSession::decode(&p[..p.len() - 1]).is_err());
            assert_eq!(FromSession::decode(&p), Ok(m));
        }
    }

    #[test]
    fn what_is_too_large_is_not_read() {
        let bad = [
            JobRequest::Run {
                key: KEY,
                warrant: vec![],
                source_cert: vec![],
                run: vec![0; RUN_INLINE_MAX + 1],
                params: vec![],
                lease: 0,
                note: vec![],
            },
            JobRequest::End {
                key: KEY,
                signal: 0,
                cause: 0,
                text: String::new(),
            },
        ];
        assert!(Request::decode(&Request::Job(bad[0].clone()).encode(1)).is_err());
        // More than fit are not written; a count that says so is not believed.
        let many = JobRequest::Forget {
            keys: vec![KEY; KEYS_MAX + 1],
        };
        let mut p = Request::Job(many).encode(1);
        let Ok((_, Request::Job(JobRequest::Forget { keys }))) = Request::decode(&p) else {
            panic!("not read");
        };
        assert_eq!(keys.len(), KEYS_MAX);
        let count = p.len() - KEYS_MAX * 16 - 2;
        p[count..count + 2].copy_from_slice(&(KEYS_MAX as u16 + 1).to_be_bytes());
        p.extend_from_slice(&KEY.to_bytes());
        assert!(Request::decode(&p).is_err());
        // Texts are made harmless.
        let mut text = Request::Job(bad[1].clone()).encode(1);
        let end = text.len();
        text[end - 1] = 1;
        text.push(b'\n');
        assert!(Request::decode(&text).is_err());
    }
}
