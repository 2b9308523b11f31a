//! What the monitor holds to be true: its own keys and certificate, other hosts' certificates that were
//! verified before, and the tickets that were used already. Knows signatures and time; no users, no policy.

use crate::monitor::log::log;
use queue_exec::cert::{CLOCK_SKEW, CertError, HostCert};
use queue_exec::state::{Identity, Room, StateError, unix_now};
use queue_exec::ticket::{LIFETIME, Nonce, Ticket};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Certificates remembered. Only verified ones are, so nobody but the authority can fill it.
const CERTS_MAX: usize = 8192;
/// Tickets remembered: 1000 launches a second for as long as a ticket can be used.
const NONCES_MAX: usize = 400_000;
/// Width of a bucket of expiry times, in seconds.
const BUCKET: u64 = 60;
/// One entry of the log of nonces: the nonce, and when it expires.
const ENTRY: usize = 24;
/// The log is rewritten when it is this large and mostly expired.
const LOG_MIN: u64 = 256 * 1024;

/// Keys, and certificates seen.
#[derive(Debug)]
pub(crate) struct Trust {
    identity: Result<Rc<Identity>, String>,
    certs: HashMap<Vec<u8>, Rc<HostCert>>,
}

impl Trust {
    /// Reads the room. A host that is in no cluster yet is not an error: it is not ready.
    pub(crate) fn load(dir: &Path) -> Self {
        let identity = Room::open(dir)
            .and_then(|r| r.identity())
            .map(Rc::new)
            .map_err(|e: StateError| {
                if !e.missing {
                    log!("{e}");
                }
                format!("this host is not set up: {e}")
            });
        Self {
            identity,
            certs: HashMap::new(),
        }
    }

    /// What we sign with, or why we cannot.
    pub(crate) fn identity(&self) -> Result<Rc<Identity>, &str> {
        self.identity.as_ref().map(Rc::clone).map_err(String::as_str)
    }

    /// A certificate, verified now or earlier, valid at this time and not revoked.
    pub(crate) fn host(&mut self, id: &Identity, bytes: &[u8]) -> Result<Rc<HostCert>, CertError> {
        let cert = match self.certs.get(bytes) {
            Some(c) => Rc::clone(c),
            None => {
                let c = Rc::new(HostCert::verify(bytes, &id.authority)?);
                if self.certs.len() >= CERTS_MAX {
                    self.certs.clear();
                }
                self.certs.insert(bytes.to_vec(), Rc::clone(&c));
                c
            }
        };
        cert.check_now(unix_now(), &id.revoked)?;
        Ok(cert)
    }
}

/// The tickets used, until they expire. Kept in a file too (in the run directory, not synced: it has to survive
/// the monitor, not the machine), so that a restarted monitor does not accept one again.
#[derive(Debug)]
pub(crate) struct Seen {
    path: PathBuf,
    log: Option<File>,
    written: u64,
    buckets: BTreeMap<u64, HashSet<Nonce>>,
    count: usize,
}

/// Why a nonce is not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// The ticket was used before.
    Replayed,
    /// There is no room to remember it.
    Full,
}

impl Seen {
    /// Reads the log that an earlier monitor left.
    pub(crate) fn load(path: PathBuf) -> Self {
        let mut s = Self {
            log: None,
            written: 0,
            buckets: BTreeMap::new(),
            count: 0,
            path,
        };
        let now = unix_now();
        for e in fs::read(&s.path).unwrap_or_default().chunks_exact(ENTRY) {
            if let (Ok(nonce), Ok(at)) = (e[..16].try_into(), e[16..].try_into())
                && u64::from_be_bytes(at) >= now
                && s.count < NONCES_MAX
            {
                s.remember(nonce, u64::from_be_bytes(at));
            }
        }
        s.rewrite();
        s
    }

    /// Takes a (verified) ticket's nonce, once.
    pub(crate) fn take(&mut self, ticket: &Ticket) -> Result<(), Unfit> {
        // Ticket::verify accepts it up to and including this second.
        let expires = ticket.issued + LIFETIME + CLOCK_SKEW;
        if self.buckets.values().any(|b| b.contains(&ticket.nonce)) {
            return Err(Unfit::Replayed);
        }
        if self.count >= NONCES_MAX {
            return Err(Unfit::Full);
        }
        self.remember(ticket.nonce, expires);
        if let Some(f) = &mut self.log {
            let mut e = [0; ENTRY];
            e[..16].copy_from_slice(&ticket.nonce);
            e[16..].copy_from_slice(&expires.to_be_bytes());
            match f.write_all(&e) {
                Ok(()) => self.written += ENTRY as u64,
                Err(e) => {
                    log!(
                        "{}: {e}: a restarted monitor will not know the tickets used till then",
                        self.path.display()
                    );
                    self.log = None;
                }
            }
        }
        Ok(())
    }

    fn remember(&mut self, nonce: Nonce, expires: u64) {
        if self.buckets.entry(expires / BUCKET).or_default().insert(nonce) {
            self.count += 1;
        }
    }

    /// Forgets what has expired.
    pub(crate) fn expire(&mut self, now: u64) {
        let live = self.buckets.split_off(&(now / BUCKET));
        self.count -= std::mem::replace(&mut self.buckets, live)
            .values()
            .map(HashSet::len)
            .sum::<usize>();
        if self.written > LOG_MIN && self.written > 2 * (self.count * ENTRY) as u64 {
            self.rewrite();
        }
    }

    /// Whether there is anything to expire.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn rewrite(&mut self) {
        let tmp = self.path.with_extension("new");
        let made = (|| -> io::Result<File> {
            let _ = fs::remove_file(&tmp);
            let mut f = OpenOptions::new()
                .append(true)
                .create_new(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&tmp)?;
            let mut all = Vec::with_capacity(self.count * ENTRY);
            for (bucket, nonces) in &self.buckets {
                for n in nonces {
                    all.extend_from_slice(n);
                    // The end of its bucket: never too early.
                    all.extend_from_slice(&(bucket * BUCKET + BUCKET - 1).to_be_bytes());
                }
            }
            f.write_all(&all)?;
            fs::rename(&tmp, &self.path)?;
            Ok(f)
        })();
        match made {
            Ok(f) => {
                self.log = Some(f);
                self.written = (self.count * ENTRY) as u64;
            }
            Err(e) => log!("{}: {e}", self.path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(n: u32, issued: u64) -> Ticket {
        let mut nonce = [0; 16];
        nonce[..4].copy_from_slice(&n.to_be_bytes());
        Ticket {
            cluster: [0; 32],
            source: String::new(),
            user: String::new(),
            login: String::new(),
            target: String::new(),
            nonce,
            issued,
            request: [0; 32],
            client_key: [0; 32],
        }
    }

    #[test]
    fn a_ticket_counts_once_even_after_a_restart() {
        let path = std::env::temp_dir().join(format!("queue-nonces-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let now = unix_now();
        let mut s = Seen::load(path.clone());
        assert!(s.is_empty());
        assert_eq!(s.take(&ticket(1, now)), Ok(()));
        assert_eq!(s.take(&ticket(1, now)), Err(Unfit::Replayed));
        assert_eq!(s.take(&ticket(2, now - 10_000)), Ok(()));
        let mut s = Seen::load(path.clone());
        assert_eq!(s.take(&ticket(1, now)), Err(Unfit::Replayed));
        assert_eq!(
            s.take(&ticket(2, now - 10_000)),
            Ok(()),
            "long expired, so not kept"
        );
        let until = now + LIFETIME + CLOCK_SKEW;
        s.expire(until);
        assert_eq!(
            s.take(&ticket(1, now)),
            Err(Unfit::Replayed),
            "still usable, so still known"
        );
        s.expire(until + BUCKET);
        assert!(s.is_empty());
        for n in 0..20_000 {
            s.take(&ticket(n, now - 10_000)).unwrap();
        }
        s.expire(now);
        assert_eq!(fs::metadata(&path).unwrap().len(), 0, "rewritten");
        fs::remove_file(&path).unwrap();
    }
}
