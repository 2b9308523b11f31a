//! The record of a live session, by which a restarted monitor finds it: one small file in a root-only
//! directory. Knows the format; not what is done with it. Not synced: it has to survive the monitor, and a
//! record of another boot says only that the session is gone.

use crate::monitor::tree::Id;
use queue_exec::cert::PublicKey;
use queue_exec::codec::{hex, unhex};
use queue_exec::protocol::{AttachState, Reply};
use queue_exec::ticket::Nonce;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const FIRST_LINE: &str = "queue session 1";

/// Who a claimed session is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) nonce: Nonce,
    /// Local account.
    pub(crate) login: String,
    /// The user on the host that it came from, and that host.
    pub(crate) ruser: String,
    pub(crate) rhost: String,
    /// When it was claimed, in milliseconds since the epoch.
    pub(crate) since: u64,
    /// The daemon's note.
    pub(crate) note: Vec<u8>,
    /// Its key, for the grants of those who attach. Job runners, and sessions of earlier versions, have none.
    pub(crate) key: Option<PublicKey>,
    /// Who is attached, as it said. Not kept: it says so again to a restarted monitor.
    pub(crate) attached: AttachState,
}

impl About {
    /// What the daemon is told of it.
    pub(crate) fn started(&self, pid: i32) -> Reply {
        Reply::SessionStarted {
            nonce: self.nonce,
            login: self.login.clone(),
            pid: pid.unsigned_abs(),
            ruser: self.ruser.clone(),
            rhost: self.rhost.clone(),
            since: self.since,
            note: self.note.clone(),
        }
    }
}

/// What is kept of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) about: About,
    /// The session process.
    pub(crate) process: Id,
    pub(crate) boot: String,
    pub(crate) cgroup: Option<PathBuf>,
    /// Its init process and the like, where there is no cgroup to find them by.
    pub(crate) children: Vec<Id>,
    /// It runs batch jobs.
    pub(crate) runner: bool,
}

impl Record {
    fn file(dir: &Path, nonce: &Nonce) -> PathBuf {
        dir.join(hex(nonce))
    }

    /// Writes or replaces it.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        let a = &self.about;
        let mut text = format!(
            "{FIRST_LINE}\nprocess {} {}\nboot {}\nlogin {}\nfrom {}@{}\nsince {}\nnote {}\n",
            self.process.0,
            self.process.1,
            self.boot,
            a.login,
            a.ruser,
            a.rhost,
            a.since,
            hex(&a.note),
        )
        .into_bytes();
        if let Some(p) = &self.cgroup {
            text.extend_from_slice(b"cgroup ");
            text.extend_from_slice(p.as_os_str().as_bytes());
            text.push(b'\n');
        }
        if let Some(key) = &a.key {
            text.extend_from_slice(format!("key {}\n", hex(key)).as_bytes());
        }
        if self.runner {
            text.extend_from_slice(b"runner yes\n");
        }
        for (pid, start) in &self.children {
            text.extend_from_slice(format!("child {pid} {start}\n").as_bytes());
        }
        let path = Self::file(dir, &a.nonce);
        let tmp = dir.join(format!(".{}", hex(&a.nonce)));
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&tmp)?
            .write_all(&text)?;
        fs::rename(tmp, path)
    }

    /// Removes it.
    pub(crate) fn remove(dir: &Path, nonce: &Nonce) {
        let _ = fs::remove_file(Self::file(dir, nonce));
    }

    /// All records there; files that are none are removed.
    pub(crate) fn load(dir: &Path) -> Vec<Self> {
        let mut all = Vec::new();
        for e in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = e.file_name();
            let Some(name) = name.to_str().filter(|n| n.trim_start_matches('.').len() == 32) else {
                continue;
            };
            match unhex(name).and_then(|n| Self::parse(n, &fs::read_to_string(e.path()).ok()?)) {
                Some(r) => all.push(r),
                None => drop(fs::remove_file(e.path())),
            }
        }
        all
    }

    fn parse(nonce: Nonce, text: &str) -> Option<Self> {
        let id = |v: &str| -> Option<Id> {
            let (pid, start) = v.split_once(' ')?;
            Some((pid.parse().ok().filter(|p| *p > 1)?, start.parse().ok()?))
        };
        let mut lines = text.lines();
        if lines.next()? != FIRST_LINE {
            return None;
        }
        let mut about = About {
            nonce,
            ..About::default()
        };
        let (mut process, mut boot, mut cgroup, mut children) = (None, None, None, Vec::new());
        let mut runner = false;
        for line in lines {
            let (key, value) = line.split_once(' ')?;
            match key {
                "process" => process = Some(id(value)?),
                "boot" => boot = Some(value.to_owned()),
                "login" => about.login = value.to_owned(),
                "from" => {
                    let (user, host) = value.rsplit_once('@')?;
                    (about.ruser, about.rhost) = (user.to_owned(), host.to_owned());
                }
                "since" => about.since = value.parse().ok()?,
                "note" => about.note = bytes(value)?,
                "key" => about.key = bytes(value)?.try_into().ok(),
                "cgroup" => cgroup = Some(PathBuf::from(value)),
                "child" => children.push(id(value)?),
                "runner" => runner = true,
                _ => {}
            }
        }
        // Records of an earlier version have an account and no more.
        (!about.login.is_empty()).then_some(())?;
        Some(Self {
            about,
            process: process?,
            boot: boot?,
            cgroup,
            children,
            runner,
        })
    }
}

/// The reverse of [`hex`], for any length.
fn bytes(hex: &str) -> Option<Vec<u8>> {
    if !hex.is_ascii() || !hex.len().is_multiple_of(2) {
        return None;
    }
    (0..hex.len() / 2)
        .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_and_garbage_is_swept() {
        let dir = std::env::temp_dir().join(format!("queue-records-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let r = Record {
            about: About {
                nonce: [7; 16],
                login: "alice".into(),
                ruser: "al@ce".into(),
                rhost: "h1".into(),
                since: 1_700_000_000_123,
                note: vec![0, 255, 10],
                key: Some([5; 32]),
                attached: AttachState::default(),
            },
            process: (12, 34),
            boot: "b".into(),
            cgroup: Some("/sys/fs/cgroup/x y".into()),
            children: vec![(13, 35)],
            runner: true,
        };
        r.write(&dir).unwrap();
        r.write(&dir).unwrap();
        fs::write(dir.join("nonces"), "kept").unwrap();
        for junk in [
            "",
            "x",
            "queue session 1\n",
            "queue session 1\nprocess 0 1\nboot b\nlogin a\n",
            "queue session 1\nprocess 7 1\nboot b\n",
            "queue session 1\nprocess 7 1\nboot b\nlogin a\nnote zz\n",
        ] {
            fs::write(dir.join(hex(&[8; 16])), junk).unwrap();
            assert_eq!(Record::load(&dir), std::slice::from_ref(&r));
            assert!(!dir.join(hex(&[8; 16])).exists());
        }
        let old = "queue session 1\nprocess 7 1\nboot b\nlogin a\n";
        let old = Record::parse([9; 16], old).unwrap();
        assert_eq!((old.about.login.as_str(), old.runner), ("a", false));
        Record::remove(&dir, &[7; 16]);
        assert_eq!(Record::load(&dir), []);
        assert_eq!(fs::read(dir.join("nonces")).unwrap(), b"kept");
        fs::remove_dir_all(&dir).unwrap();
    }
}
