//! A session that runs nothing, and says what it sees of others. It is the user's process, so the kernel decides
//! what it may read of them in `/proc`; no daemon ever has a command line in its hands.
//!
//! Where `/proc` hides processes (`hidepid`), those that carry a session cannot be seen, and the command below
//! them is not found.

use crate::child::Init;
use crate::monitor::Monitor;
use crate::pam;
use libqueue::link::{Link, LinkError, wait};
use libqueue::stream::FIRST_CONTROL_MAX;
use libqueue::wire::{
    Ended, FromSession, LaunchError, LaunchFailed, Look, Looked, LookedSession, from_session,
};
use nix::poll::PollFlags;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use prost::Message as _;
use queue_exec::protocol::{self, Seen};
use queue_init::ToInit;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::time::{Duration, Instant};

/// How long the monitor may take: it may have to ask the name service who is an operator.
const SEEN_WITHIN: Duration = Duration::from_secs(12);
/// How long the client may take to read it.
const SEND_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of one command's arguments, and of its environment.
const ARGV_MAX: usize = 64 * 1024;
const ENV_MAX: usize = 256 * 1024;
/// All of it together: it goes in the first message, which may be larger than later ones.
const ALL_MAX: usize = FIRST_CONTROL_MAX - (1 << 20);

/// What a field costs beside its content.
const FIELD: usize = 16;

/// What a session that looks consists of.
pub(crate) struct Looker {
    pub(crate) look: Look,
    pub(crate) link: Link,
    pub(crate) init: Init,
    pub(crate) monitor: Monitor,
    pub(crate) host: String,
    /// The open PAM session.
    pub(crate) pam: Option<pam::Holder>,
}

impl Looker {
    /// Looks, says it, and ends.
    pub(crate) fn run(mut self) {
        // There is nothing for it to do.
        let _ = self.init.tell(&ToInit::Leave, None);
        let _ = waitpid(Pid::from_raw(self.init.pid()), None);
        let last = match self.monitor.seen(Instant::now() + SEEN_WITHIN) {
            Some(seen) => {
                let looked = Looked {
                    sessions: look_at(&self.look, &seen),
                };
                let message = FromSession {
                    kind: Some(from_session::Kind::Looked(looked)),
                };
                // A client that has gone is noticed below.
                let _ = self.link.send_control(&message.encode_to_vec());
                from_session::Kind::Ended(Ended {
                    code: Some(0),
                    ..Ended::default()
                })
            }
            None => from_session::Kind::Failed(LaunchFailed {
                code: LaunchError::Internal as i32,
                errno: 0,
                text: format!(
                    "queue-exec on {} does not say which sessions there are: try again",
                    self.host
                ),
            }),
        };
        let _ = self.say(last);
        pam::close(self.pam);
        self.monitor.tell(&protocol::FromSession::Ended { leave: false });
    }

    /// The last word, and until it was read.
    fn say(&mut self, last: from_session::Kind) -> Result<(), LinkError> {
        let message = FromSession { kind: Some(last) };
        self.link.send_control(&message.encode_to_vec())?;
        self.link.send_goodbye()?;
        self.link.flush_all(SEND_WITHIN)?;
        let end = Instant::now() + SEND_WITHIN;
        while !self.link.is_peer_closed() {
            let Some(socket) = self.link.socket() else {
                return Ok(());
            };
            wait(socket, PollFlags::POLLIN, end)?;
            self.link.receive(|_| {})?;
        }
        Ok(())
    }
}

/// Of `/proc/PID/stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: u32,
    ppid: u32,
    name: Vec<u8>,
    state: char,
    tty: u32,
    start: u64,
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(pid: u32, text: &[u8]) -> Option<Self> {
        // The name is in parentheses and may contain anything, parentheses too.
        let open = text.iter().position(|b| *b == b'(')?;
        let close = text.iter().rposition(|b| *b == b')')?;
        let name = text.get(open + 1..close)?.to_vec();
        let rest = std::str::from_utf8(&text[close + 1..]).ok()?;
        let f: Vec<&str> = rest.split_ascii_whitespace().collect();
        Some(Self {
            pid,
            ppid: f.get(1)?.parse().ok()?,
            name,
            state: f.first()?.chars().next()?,
            tty: f.get(4)?.parse::<i32>().ok()? as u32,
            start: f.get(19)?.parse().ok()?,
        })
    }

    fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// Looks at the sessions asked for, as far as there are such.
fn look_at(look: &Look, seen: &[Seen]) -> Vec<LookedSession> {
    let wanted: BTreeSet<&[u8]> = look.sessions.iter().map(Vec::as_slice).collect();
    let mut children: BTreeMap<u32, Vec<Process>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|n| n.parse().ok());
        if let Some(p) = pid.and_then(Process::read) {
            children.entry(p.ppid).or_default().push(p);
        }
    }
    let mut room = ALL_MAX;
    let mut found = Vec::new();
    for s in seen {
        if !wanted.is_empty() && !wanted.contains(&s.nonce[..]) {
            continue;
        }
        let command = command(&children, s.pid);
        if wanted.is_empty() && command.is_none() {
            // Another one that looks, or one that is ending.
            continue;
        }
        let mut one = command.and_then(|p| read(p, look.env)).unwrap_or_default();
        one.id = s.nonce.to_vec();
        // What does not fit is left out: environments first.
        let fits = |one: &LookedSession| one.encoded_len() + FIELD <= room;
        if !fits(&one) {
            one.env.clear();
        }
        if !fits(&one) {
            one.argv.clear();
        }
        if !fits(&one) {
            break;
        }
        room -= one.encoded_len() + FIELD;
        found.push(one);
    }
    found
}

/// The command of a session: of what its init process has below it, the oldest. (The others were left to init
/// by parents that ended.)
fn command(children: &BTreeMap<u32, Vec<Process>>, session: u32) -> Option<&Process> {
    let of = |pid: u32| children.get(&pid).into_iter().flatten();
    of(session)
        .filter(|p| p.name == b"queue-init")
        .flat_map(|init| of(init.pid))
        .filter(|p| !p.is_dead())
        .min_by_key(|p| (p.start, p.pid))
}

/// What the kernel lets us read of it; `None` if it has ended meanwhile.
fn read(p: &Process, env: bool) -> Option<LookedSession> {
    let path = |what: &str| format!("/proc/{}/{what}", p.pid);
    let looked = LookedSession {
        id: Vec::new(),
        pid: p.pid,
        argv: strings(&path("cmdline"), ARGV_MAX),
        cwd: fs::read_link(path("cwd"))
            .map(|c| c.into_os_string().into_vec())
            .unwrap_or_default(),
        env: if env {
            strings(&path("environ"), ENV_MAX)
        } else {
            Vec::new()
        },
        state: p.state.to_string(),
        tty: terminal(p.tty),
    };
    // All of that was this very process's.
    let still = Process::read(p.pid).is_some_and(|now| now.start == p.start && !now.is_dead());
    still.then_some(looked)
}

/// The strings of a file, each ended by a NUL; nothing if it cannot be read. At most `max` bytes.
fn strings(path: &str, max: usize) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|f| f.take(max as u64).read_to_end(&mut bytes));
    if read.is_err() || bytes.is_empty() {
        return Vec::new();
    }
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes.split(|b| *b == 0).map(<[u8]>::to_vec).collect()
}

/// The name of the terminal with this number, as in proc(5).
fn terminal(number: u32) -> String {
    let major = (number >> 8) & 0xfff;
    let minor = (number & 0xff) | ((number >> 12) & 0xf_ff00);
    match major {
        136..=143 => format!("/dev/pts/{}", ((major - 136) << 8) + minor),
        4 if minor < 64 => format!("/dev/tty{minor}"),
        4 => format!("/dev/ttyS{}", minor - 64),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_stat_whatever_the_name() {
        let line = b"12 (a) b (c) S 34 1 1 34816 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2";
        let p = Process::parse(12, line).unwrap();
        assert_eq!((p.ppid, p.name.as_slice(), p.state), (34, &b"a) b (c"[..], 'S'));
        assert_eq!((p.tty, p.start), (34816, 98765));
        for cut in 0..line.len() - 9 {
            assert_eq!(Process::parse(12, &line[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn the_command_is_the_oldest_below_init() {
        let p = |pid, ppid, name: &str, state, start| Process {
            pid,
            ppid,
            name: name.into(),
            state,
            tty: 0,
            start,
        };
        let mut children: BTreeMap<u32, Vec<Process>> = BTreeMap::new();
        for one in [
            p(10, 1, "queue-session", 'S', 1),
            p(11, 10, "queue-session", 'S', 2),
            p(12, 10, "queue-init", 'S', 2),
            p(13, 12, "sleep", 'S', 9),
            p(30, 12, "make", 'S', 5),
            p(14, 12, "true", 'Z', 3),
            p(15, 30, "cc", 'R', 6),
        ] {
            children.entry(one.ppid).or_default().push(one);
        }
        assert_eq!(command(&children, 10).map(|p| p.pid), Some(30));
        assert_eq!(command(&children, 12), None);
        assert_eq!(command(&children, 99), None);
    }

    #[test]
    fn terminals_have_names() {
        assert_eq!(terminal(0), "");
        assert_eq!(terminal(34816), "/dev/pts/0");
        assert_eq!(terminal(34819), "/dev/pts/3");
        assert_eq!(
            terminal((300 & 0xff) | (136 << 8) | ((300 & !0xff) << 12)),
            "/dev/pts/300"
        );
        assert_eq!(terminal(0x401), "/dev/tty1");
        assert_eq!(terminal(0x440), "/dev/ttyS0");
    }

    #[test]
    fn we_see_ourselves() {
        let own = std::process::id();
        let p = Process::read(own).unwrap();
        let seen = read(&p, true).unwrap();
        assert_eq!(seen.pid, own);
        assert!(!seen.argv.is_empty() && !seen.cwd.is_empty());
        assert!(
            read(
                &Process {
                    start: p.start + 1,
                    ..p
                },
                false
            )
            .is_none()
        );
        assert_eq!(strings("/proc/self/no-such-file", 10), Vec::<Vec<u8>>::new());
        assert!(strings("/proc/self/environ", 10).concat().len() <= 10);
    }
}
