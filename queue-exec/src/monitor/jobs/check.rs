//! Everything that can be said against a run: its warrant, its source's certificate, its hash, policy. What was
//! found good is remembered, because an array runs one warrant a million times. Knows runs; not attempts.

use super::super::Monitor;
use super::super::serve::code_of;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use queue_exec::cert::HostCert;
use queue_exec::policy::Allowed;
use queue_exec::protocol::{RUN_MAX, Refusal};
use queue_exec::state::{Identity, unix_now};
use queue_exec::ticket::TicketError;
use queue_exec::warrant::{LIFETIME, Warrant};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::rc::Rc;

/// Warrants remembered, and bytes of their runs.
const ENTRIES_MAX: usize = 512;
const BYTES_MAX: usize = 32 << 20;

/// A run that may be run here.
#[derive(Debug)]
pub(in crate::monitor) struct Checked {
    pub(in crate::monitor) warrant: Warrant,
    pub(in crate::monitor) allowed: Allowed,
    source: Rc<HostCert>,
}

/// The bytes of a run, as they came.
#[derive(Debug)]
pub(in crate::monitor) enum Run {
    /// In the packet.
    Inline(Vec<u8>),
    /// In a memory file that nobody can change any more.
    Sealed(OwnedFd),
}

impl Run {
    /// Takes what came: the descriptor counts if the packet has none.
    ///
    /// # Errors
    /// The memory file could change, or is too large.
    pub(super) fn new(bytes: Vec<u8>, fd: Option<OwnedFd>) -> Result<Self, (Refusal, String)> {
        match fd {
            Some(fd) if bytes.is_empty() => {
                seals(&fd).map_err(|e| (Refusal::Denied, format!("the run's file {e}")))?;
                Ok(Self::Sealed(fd))
            }
            _ => Ok(Self::Inline(bytes)),
        }
    }

    /// For the packet to the session: its bytes, and its descriptor.
    pub(super) fn into_parts(self) -> (Vec<u8>, Option<OwnedFd>) {
        match self {
            Self::Inline(bytes) => (bytes, None),
            Self::Sealed(fd) => (Vec::new(), Some(fd)),
        }
    }
}

/// That nobody can change it or make it shorter.
fn seals(fd: &OwnedFd) -> Result<(), String> {
    let needed = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    let has = fcntl(fd.as_fd(), FcntlArg::F_GET_SEALS).map_err(|e| format!("is no memory file: {e}"))?;
    if !SealFlag::from_bits_truncate(has).contains(needed) {
        return Err("is not sealed".to_owned());
    }
    match nix::sys::stat::fstat(fd.as_fd()) {
        Ok(m) if u64::try_from(m.st_size).is_ok_and(|n| n <= RUN_MAX as u64) => Ok(()),
        Ok(m) => Err(format!("has {} bytes, more than {RUN_MAX}", m.st_size)),
        Err(e) => Err(format!("cannot be looked at: {e}")),
    }
}

/// What a warrant was found good for.
#[derive(Debug)]
struct Entry {
    source_cert: Vec<u8>,
    content: Content,
    checked: Rc<Checked>,
}

/// The run whose hash was found right. To compare it is a hundred times faster than to hash it again.
#[derive(Debug)]
enum Content {
    Bytes(Vec<u8>),
    /// Held open, so that its numbers stay its own.
    File {
        _held: File,
        id: (u64, u64),
    },
}

impl Content {
    fn is(&self, run: &Run) -> bool {
        match (self, run) {
            (Self::Bytes(a), Run::Inline(b)) => a == b,
            (Self::File { id, .. }, Run::Sealed(fd)) => {
                nix::sys::stat::fstat(fd.as_fd()).is_ok_and(|m| (m.st_dev, m.st_ino) == *id)
            }
            _ => false,
        }
    }
}

/// Warrants that were found good, under the keys and the policy of now.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// Read anew together with the policy: another one, and nothing here counts any more.
    identity: Option<Rc<Identity>>,
    entries: HashMap<Vec<u8>, Entry>,
    bytes: usize,
}

impl Cache {
    /// Makes sure that nothing in it is older than the identity and the policy.
    fn refresh(&mut self, identity: &Rc<Identity>) {
        if !self.identity.as_ref().is_some_and(|i| Rc::ptr_eq(i, identity)) {
            *self = Self {
                identity: Some(Rc::clone(identity)),
                ..Self::default()
            };
        }
    }

    fn get(&self, warrant: &[u8], source_cert: &[u8], run: &Run) -> Option<&Rc<Checked>> {
        let e = self.entries.get(warrant)?;
        (e.source_cert == source_cert && e.content.is(run)).then_some(&e.checked)
    }

    fn put(&mut self, warrant: &[u8], source_cert: &[u8], content: (Content, usize), checked: &Rc<Checked>) {
        let (content, len) = content;
        if self.entries.len() >= ENTRIES_MAX || self.bytes + len > BYTES_MAX {
            self.entries.clear();
            self.bytes = 0;
        }
        self.bytes += len;
        let entry = Entry {
            source_cert: source_cert.to_vec(),
            content,
            checked: Rc::clone(checked),
        };
        self.entries.insert(warrant.to_vec(), entry);
    }
}

impl Monitor {
    /// Everything that can be said against a run, whatever the attempt.
    pub(super) fn check_run(
        &mut self,
        warrant: &[u8],
        source_cert: &[u8],
        run: &Run,
    ) -> Result<Rc<Checked>, (Refusal, String)> {
        let id = self.member()?;
        self.jobs.cache.refresh(&id);
        if let Some(c) = self.jobs.cache.get(warrant, source_cert, run) {
            let now = unix_now();
            c.source
                .check_now(now, &id.revoked)
                .map_err(|e| (code_of(&e), e.to_string()))?;
            if c.warrant.issued + LIFETIME >= now {
                return Ok(Rc::clone(c));
            }
        }
        let source = self
            .trust
            .host(&id, source_cert)
            .map_err(|e| (code_of(&e), e.to_string()))?;
        let w = Warrant::verify(warrant, &source, &id.cluster, unix_now()).map_err(|e| match e {
            TicketError::Clock(s) => (Refusal::Clock, clock(s, &source.name)),
            TicketError::Malformed => (Refusal::BadTicket, "malformed warrant".to_owned()),
            _ => (
                Refusal::BadTicket,
                format!(
                    "the warrant's signature is not {}'s: submit the job again",
                    source.name
                ),
            ),
        })?;
        let (content, hash) =
            read(run).map_err(|e| (Refusal::Internal, format!("cannot read the run: {e}")))?;
        if hash != w.run {
            let text = "the run is not the one that its warrant was signed for: submit the job again";
            return Err((Refusal::BadTicket, text.to_owned()));
        }
        if !is_name(&w.login) {
            let text = format!("{:?} cannot be the name of an account", w.login);
            return Err((Refusal::Policy, text));
        }
        let allowed = self
            .policy
            .may(&source, &w.user, &w.login)
            .map_err(|e| (Refusal::Policy, e))?;
        let checked = Rc::new(Checked {
            warrant: w,
            allowed,
            source,
        });
        self.jobs.cache.put(warrant, source_cert, content, &checked);
        Ok(checked)
    }
}

/// Whether it can be the name of an account, and of a directory.
pub(super) fn is_name(login: &str) -> bool {
    !login.is_empty() && !login.contains([':', '/']) && login != "." && login != ".."
}

/// What is wrong with a warrant's time.
fn clock(s: i64, source: &str) -> String {
    if s > 0 {
        format!(
            "the clock of {source} was {s} s ahead of this host's when the job was submitted: set the clocks"
        )
    } else {
        let days = s.unsigned_abs() / 86_400;
        format!("the job was submitted {days} days ago, and its warrant has expired: submit it again")
    }
}

/// The run's hash, and what to remember it by.
fn read(run: &Run) -> std::io::Result<((Content, usize), [u8; 32])> {
    match run {
        Run::Inline(bytes) => {
            let len = bytes.len();
            Ok(((Content::Bytes(bytes.clone()), len), Sha256::digest(bytes).into()))
        }
        Run::Sealed(fd) => {
            let file = File::from(fd.try_clone()?);
            let m = file.metadata()?;
            let mut hash = Sha256::new();
            let mut buf = vec![0; 256 * 1024];
            let mut at = 0;
            loop {
                // By position: the session finds the descriptor's offset where the daemon left it.
                match file.read_at(&mut buf, at)? {
                    0 => break,
                    n => {
                        hash.update(&buf[..n]);
                        at += n as u64;
                    }
                }
            }
            let id = (m.dev(), m.ino());
            Ok((
                (Content::File { _held: file, id }, at as usize),
                hash.finalize().into(),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use std::io::Write as _;

    fn memory(bytes: &[u8], seal: bool) -> OwnedFd {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let mut f = File::from(memfd_create(c"run", flags).unwrap());
        f.write_all(bytes).unwrap();
        if seal {
            let all = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
            fcntl(&f, FcntlArg::F_ADD_SEALS(all)).unwrap();
        }
        f.into()
    }

    #[test]
    fn a_run_that_could_change_is_none() {
        let run = |fd| Run::new(vec![], Some(fd));
        let refusal = |r: Result<Run, (Refusal, String)>| r.unwrap_err().1;
        assert!(run(memory(b"x", true)).is_ok());
        assert!(refusal(run(memory(b"x", false))).contains("not sealed"));
        let file = File::open("/dev/null").unwrap().into();
        assert!(refusal(run(file)).contains("no memory file"));
        let large = memory(&vec![0; RUN_MAX + 1], true);
        assert!(refusal(run(large)).contains("more than"));
        // With bytes in the packet a descriptor counts for nothing.
        let r = Run::new(vec![1], Some(memory(b"x", false))).unwrap();
        assert!(matches!(r, Run::Inline(b) if b == [1]));
    }

    #[test]
    fn what_is_remembered_is_that_very_run() {
        let bytes = vec![7; 300_000];
        let a = Run::new(vec![], Some(memory(&bytes, true))).unwrap();
        let ((content, len), hash) = read(&a).unwrap();
        assert_eq!(len, bytes.len());
        assert_eq!(hash[..], Sha256::digest(&bytes)[..]);
        assert!(content.is(&a));
        let b = Run::new(vec![], Some(memory(&bytes, true))).unwrap();
        assert!(!content.is(&b), "another file, whatever is in it");
        assert!(!content.is(&Run::Inline(bytes)));
        let ((content, _), _) = read(&Run::Inline(vec![1, 2])).unwrap();
        assert!(content.is(&Run::Inline(vec![1, 2])) && !content.is(&Run::Inline(vec![1, 3])));
    }

    #[test]
    fn names_of_accounts_are_names_of_directories() {
        assert!(is_name("alice") && is_name("a.b-c$"));
        for bad in ["", ".", "..", "a/b", "../x", "a:b"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
