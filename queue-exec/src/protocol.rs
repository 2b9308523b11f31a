//! What is said on `queue-exec`'s socket (`SOCK_SEQPACKET`, one message a packet) and on the socket pair
//! between the monitor and each session process. Pure: bytes in, bytes out.
//!
//! Who may ask what, in which state, is the monitor's permit table (`permit.rs`), not decided here.

mod control;
mod jobs;
mod reply;
mod request;
mod session;

pub use control::Control;
pub use jobs::{
    FromRunner, JobKey, JobReply, JobRequest, KEYS_MAX, OUTCOME_MAX, PARAMS_MAX, RUN_INLINE_MAX, RUN_MAX,
    ToRunner,
};
pub use reply::{About, Refusal, Reply};
pub use request::{NOTE_MAX, Request};
pub use session::{FromSession, SEEN_MAX, Seen, ToSession};

use crate::codec::{Malformed, Reader};

/// Largest packet on any of these sockets.
pub const PACKET_MAX: usize = 64 * 1024;

/// Largest certificate or ticket carried.
pub const BLOB_MAX: usize = 16 * 1024;

/// Longest explanation carried.
pub const TEXT_MAX: usize = 2048;

/// Longest path carried.
const PATH_MAX: usize = 4096;

const MAGIC: &[u8] = b"QX1";

/// Who is attached to a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttachState {
    /// Nobody is, and nobody is waited for: its user has detached it.
    pub detached: bool,
    /// How many only look.
    pub watchers: u32,
}

impl AttachState {
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            detached: r.u8()? != 0,
            watchers: r.u32()?,
        })
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
