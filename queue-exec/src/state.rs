//! The root-only room (`Layout::exec_state`): keys, certificate, revocation list, tokens. Knows file names,
//! modes and how a file is replaced so that a crash leaves the old or the new one. Must not know who asks, nor
//! what a token or a host is allowed to do (`authority`).
//!
//! Everything here blocks on a local disk. That is accepted even in the monitor: it reads at start and on
//! reload, and writes when a host joins or is removed, which is rare.

use crate::cert::{Fingerprint, HostCert, PublicKey, Revocations, fingerprint};
use ed25519_dalek::SigningKey;
use nix::fcntl::{Flock, FlockArg};
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The host's private key, 32 raw bytes.
pub const HOST_KEY: &str = "host.key";
/// The authority's private key, on one host of the cluster.
pub const AUTHORITY_KEY: &str = "authority.key";
/// The authority's public key, 32 raw bytes.
pub const AUTHORITY_PUB: &str = "authority.pub";
/// This host's certificate.
pub const HOST_CERT: &str = "host.cert";
/// The signed revocation list; absent while nothing was revoked.
pub const REVOKED: &str = "revoked";
/// The last serial number issued, in decimal (authority only).
pub const SERIAL: &str = "serial";
/// The gossip key made last (authority only).
pub const GOSSIP: &str = "gossip.key";
/// How long certificates are valid, in seconds and in decimal (authority only); absent: as long as usual.
pub const LIFETIME: &str = "lifetime";
/// One file for each token (authority only).
pub const TOKENS: &str = "tokens";
/// The certificates issued, one file for each name (authority only).
pub const ISSUED: &str = "issued";

/// No file here is larger.
const FILE_MAX: u64 = 4 << 20;

/// What went wrong with which file, and what to do about it.
#[derive(Debug)]
pub struct StateError {
    /// The file or directory.
    pub path: PathBuf,
    /// One line for people.
    pub text: String,
    /// It is not there at all: this host was not set up.
    pub missing: bool,
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.text)
    }
}

impl std::error::Error for StateError {}

impl StateError {
    /// An error of a system call on `path`.
    pub fn io(path: &Path, e: &io::Error) -> Self {
        Self {
            path: path.to_owned(),
            text: e.to_string(),
            missing: e.kind() == io::ErrorKind::NotFound,
        }
    }

    /// Anything else about `path`.
    pub fn other(path: &Path, text: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            text: text.into(),
            missing: false,
        }
    }
}

/// The open room: a directory that was checked to belong to nobody else.
#[derive(Debug, Clone)]
pub struct Room {
    dir: PathBuf,
}

/// Held while the authority's files are read and changed together. Root's command line and the monitor both
/// do that.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "held for its drop")] Flock<File>);

/// What a host needs to sign and to check.
#[derive(Clone)]
pub struct Identity {
    /// Signs tickets and grants.
    pub host_key: SigningKey,
    /// The authority's public key.
    pub authority: PublicKey,
    /// Its fingerprint, the id of the cluster.
    pub cluster: Fingerprint,
    /// This host's certificate, checked against the authority and the key.
    pub cert: HostCert,
    /// The same as it is sent.
    pub cert_bytes: Vec<u8>,
    /// Hosts that were removed.
    pub revoked: Revocations,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("cert", &self.cert)
            .finish_non_exhaustive()
    }
}

impl Room {
    /// Opens an existing room and checks that it is ours and closed to others.
    ///
    /// # Errors
    /// If it is missing (`missing` is set), not a directory, somebody else's, or open to others.
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        let m = fs::symlink_metadata(dir).map_err(|e| StateError::io(dir, &e))?;
        if !m.is_dir() {
            return Err(StateError::other(dir, "is not a directory"));
        }
        check_private(dir, &m)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Opens the room, or makes it (and its parents, mode 0755).
    ///
    /// # Errors
    /// As [`Room::open`] and `mkdir(2)`.
    pub fn create(dir: &Path) -> Result<Self, StateError> {
        if let Some(parent) = dir.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(parent)
                .map_err(|e| StateError::io(parent, &e))?;
        }
        match DirBuilder::new().mode(0o700).create(dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(StateError::io(dir, &e)),
            _ => Self::open(dir),
        }
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Reads a file; `None` if it is not there. Refuses links, and files that others may read or change.
    ///
    /// # Errors
    /// As `open(2)`, or if the file is not private.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        let path = self.path(name);
        let f = match OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path)
        {
            Ok(f) => f,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StateError::io(&path, &e)),
        };
        let m = f.metadata().map_err(|e| StateError::io(&path, &e))?;
        check_private(&path, &m)?;
        if !m.is_file() || m.len() > FILE_MAX {
            return Err(StateError::other(&path, "is not a file of reasonable size"));
        }
        let mut v = Vec::with_capacity(m.len() as usize);
        f.take(FILE_MAX)
            .read_to_end(&mut v)
            .map_err(|e| StateError::io(&path, &e))?;
        Ok(Some(v))
    }

    /// Replaces a file (mode 0600) so that a crash leaves either the old or the new one, and it is on the disk
    /// when this returns.
    ///
    /// # Errors
    /// As the system calls.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        write_atomic(&self.path(name), bytes, 0o600)
    }

    /// Removes a file durably; it need not be there.
    ///
    /// # Errors
    /// As `unlink(2)`.
    pub fn remove(&self, name: &str) -> Result<(), StateError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StateError::io(&path, &e)),
            _ => sync_parent(&path),
        }
    }

    /// Makes a directory in the room.
    ///
    /// # Errors
    /// As `mkdir(2)`.
    pub fn mkdir(&self, name: &str) -> Result<(), StateError> {
        Self::create(&self.path(name)).map(drop)
    }

    /// The names in a directory of the room; none if it is not there. Temporary files are left out.
    ///
    /// # Errors
    /// As `readdir(3)`.
    pub fn list(&self, name: &str) -> Result<Vec<String>, StateError> {
        let path = self.path(name);
        let dir = match fs::read_dir(&path) {
            Ok(d) => d,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(StateError::io(&path, &e)),
        };
        let mut names = Vec::new();
        for entry in dir {
            let entry = entry.map_err(|e| StateError::io(&path, &e))?;
            if let Ok(n) = entry.file_name().into_string()
                && !n.starts_with('.')
            {
                names.push(n);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Locks the room against other writers, waiting up to `wait`; `None` if it is still held then. The monitor
    /// gives no time and tries again later.
    ///
    /// # Errors
    /// As `open(2)` and `flock(2)`.
    pub fn lock(&self, wait: Duration) -> Result<Option<Lock>, StateError> {
        let until = Instant::now() + wait;
        let mut f = File::open(&self.dir).map_err(|e| StateError::io(&self.dir, &e))?;
        loop {
            match Flock::lock(f, FlockArg::LockExclusiveNonblock) {
                Ok(l) => return Ok(Some(Lock(l))),
                Err((back, nix::errno::Errno::EWOULDBLOCK | nix::errno::Errno::EINTR)) => {
                    if Instant::now() >= until {
                        return Ok(None);
                    }
                    f = back;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((_, e)) => return Err(StateError::io(&self.dir, &e.into())),
            }
        }
    }

    /// Reads a private key; `None` if it is not there.
    ///
    /// # Errors
    /// As [`Room::read`], or if it is not 32 bytes.
    pub fn key(&self, name: &str) -> Result<Option<SigningKey>, StateError> {
        let Some(b) = self.read(name)? else {
            return Ok(None);
        };
        let raw: [u8; 32] = b.try_into().map_err(|_| {
            StateError::other(
                &self.path(name),
                "is not a key (32 bytes): restore it, or join again",
            )
        })?;
        Ok(Some(SigningKey::from_bytes(&raw)))
    }

    /// Reads the authority's public key; `None` if this host is in no cluster.
    ///
    /// # Errors
    /// As [`Room::read`], or if it is not 32 bytes.
    pub fn authority(&self) -> Result<Option<PublicKey>, StateError> {
        let Some(b) = self.read(AUTHORITY_PUB)? else {
            return Ok(None);
        };
        b.try_into()
            .map(Some)
            .map_err(|_| StateError::other(&self.path(AUTHORITY_PUB), "is not a key (32 bytes)"))
    }

    /// Reads and checks the revocation list; an empty one if there is none.
    ///
    /// # Errors
    /// As [`Room::read`], or if the authority did not sign it.
    pub fn revocations(&self, authority: &PublicKey) -> Result<Revocations, StateError> {
        match self.read(REVOKED)? {
            None => Ok(Revocations::default()),
            Some(b) => Revocations::verify(&b, authority)
                .map_err(|e| StateError::other(&self.path(REVOKED), e.to_string())),
        }
    }

    /// Loads what the host signs and checks with, and checks that it belongs together.
    ///
    /// # Errors
    /// `missing` is set if the host is not in a cluster yet; else what does not fit.
    pub fn identity(&self) -> Result<Identity, StateError> {
        let absent = |name: &str| StateError {
            path: self.path(name),
            text: "is missing: this host is in no cluster yet (queued init, or queued join TOKEN)".into(),
            missing: true,
        };
        let cert_bytes = self.read(HOST_CERT)?.ok_or_else(|| absent(HOST_CERT))?;
        let authority = self.authority()?.ok_or_else(|| absent(AUTHORITY_PUB))?;
        let host_key = self.key(HOST_KEY)?.ok_or_else(|| absent(HOST_KEY))?;
        let cert = HostCert::verify(&cert_bytes, &authority)
            .map_err(|e| StateError::other(&self.path(HOST_CERT), e.to_string()))?;
        if cert.host_key != host_key.verifying_key().to_bytes() {
            return Err(StateError::other(
                &self.path(HOST_CERT),
                "does not belong to host.key: join this host again",
            ));
        }
        let revoked = self.revocations(&authority)?;
        Ok(Identity {
            cluster: fingerprint(&authority),
            host_key,
            authority,
            cert,
            cert_bytes,
            revoked,
        })
    }
}

/// Puts a complete new room where `dir` is, in one step: the old one, if any, is gone afterwards. `fill` writes
/// the files.
///
/// # Errors
/// As the system calls and `fill`; then `dir` is as it was.
pub fn replace_room(
    dir: &Path,
    fill: impl FnOnce(&Room) -> Result<(), StateError>,
) -> Result<Room, StateError> {
    let name = dir
        .file_name()
        .map_or_else(Default::default, |n| n.to_string_lossy().into_owned());
    let fresh = dir.with_file_name(format!(".{name}.new"));
    remove_tree(&fresh)?;
    let made = Room::create(&fresh).and_then(|room| {
        fill(&room)?;
        sync_dir(&fresh)
    });
    if let Err(e) = made {
        let _ = fs::remove_dir_all(&fresh);
        return Err(e);
    }
    let put = match fs::symlink_metadata(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => fs::rename(&fresh, dir),
        // Plain rename cannot replace a directory that is not empty; the exchange can, and atomically.
        _ => nix::fcntl::renameat2(
            nix::fcntl::AT_FDCWD,
            &fresh,
            nix::fcntl::AT_FDCWD,
            dir,
            nix::fcntl::RenameFlags::RENAME_EXCHANGE,
        )
        .map_err(io::Error::from),
    };
    if let Err(e) = put {
        let _ = fs::remove_dir_all(&fresh);
        return Err(StateError::io(dir, &e));
    }
    sync_parent(dir)?;
    remove_tree(&fresh)?;
    Room::open(dir)
}

/// Replaces a file atomically and durably: written beside, synced, renamed, directory synced.
///
/// # Errors
/// As the system calls.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), StateError> {
    write_atomic_for(path, bytes, mode, None)
}

/// The same for an owner (user and group) in whose directory it may be: the file that was made here is given to him
/// by its descriptor, never by its name, which he might have given to another file meanwhile.
///
/// # Errors
/// As the system calls.
pub fn write_atomic_for(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    owner: Option<(u32, u32)>,
) -> Result<(), StateError> {
    let name = path
        .file_name()
        .map_or_else(Default::default, |n| n.to_string_lossy().into_owned());
    let tmp = path.with_file_name(format!(".{name}.tmp"));
    let result = (|| {
        match fs::remove_file(&tmp) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut f = OpenOptions::new()
            .write(true)
            .create_new(true)
            .custom_flags(libc::O_NOFOLLOW)
            .mode(mode)
            .open(&tmp)?;
        f.write_all(bytes)?;
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::fchown(&f, Some(uid), Some(gid))?;
        }
        f.sync_all()?;
        fs::rename(&tmp, path)
    })();
    if let Err(e) = result {
        let _ = fs::remove_file(&tmp);
        return Err(StateError::io(path, &e));
    }
    sync_parent(path)
}

/// `N` random bytes of the kernel.
pub fn random<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    let mut done = 0;
    while done < N {
        // SAFETY: the pointer and length describe the rest of `out`.
        let n = unsafe { libc::getrandom(out[done..].as_mut_ptr().cast(), N - done, 0) };
        match usize::try_from(n) {
            Ok(n) => done += n,
            // Only EINTR is possible; without randomness nothing may go on.
            Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            Err(_) => std::process::abort(),
        }
    }
    out
}

/// Seconds since the epoch, by this host's clock.
pub fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

fn check_private(path: &Path, m: &fs::Metadata) -> Result<(), StateError> {
    let us = nix::unistd::geteuid().as_raw();
    if m.uid() != us {
        return Err(StateError::other(
            path,
            format!("belongs to uid {}, not to {us}", m.uid()),
        ));
    }
    if m.mode() & 0o077 != 0 {
        return Err(StateError::other(
            path,
            format!("is open to others (mode {:04o}): chmod go= it", m.mode() & 0o7777),
        ));
    }
    Ok(())
}

fn sync_dir(dir: &Path) -> Result<(), StateError> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(|e| StateError::io(dir, &e))
}

fn sync_parent(path: &Path) -> Result<(), StateError> {
    path.parent().map_or(Ok(()), sync_dir)
}

fn remove_tree(dir: &Path) -> Result<(), StateError> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StateError::io(dir, &e)),
        _ => Ok(()),
    }
}

/// A directory for one unit test, removed afterwards.
#[cfg(test)]
pub(crate) mod testdir {
    use std::path::{Path, PathBuf};

    pub(crate) struct TestDir(PathBuf);

    impl TestDir {
        pub(crate) fn new() -> Self {
            let d =
                std::env::temp_dir().join(format!("queue-exec-{}", crate::codec::hex(&super::random::<8>())));
            std::fs::create_dir_all(&d).unwrap();
            Self(d)
        }

        pub(crate) fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for TestDir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testdir::TestDir;
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn files_come_back_and_open_ones_are_refused() {
        let t = TestDir::new();
        let dir = t.path().join("state/exec");
        assert!(Room::open(&dir).unwrap_err().missing);
        let room = Room::create(&dir).unwrap();
        assert_eq!(room.read("x").unwrap(), None);
        room.write("x", b"one").unwrap();
        room.write("x", b"two").unwrap();
        assert_eq!(room.read("x").unwrap().unwrap(), b"two");
        fs::set_permissions(room.path("x"), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(room.read("x").unwrap_err().text.contains("open to others"));
        std::os::unix::fs::symlink("x", room.path("link")).unwrap();
        assert!(room.read("link").is_err());
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Room::open(&dir).is_err());
        assert!(room.identity().is_err());
    }

    #[test]
    fn a_room_is_replaced_whole_or_not_at_all() {
        let t = TestDir::new();
        let dir = t.path().join("exec");
        let room = replace_room(&dir, |r| r.write("a", b"1")).unwrap();
        assert_eq!(room.list(".").unwrap(), ["a"]);
        let failed = replace_room(&dir, |r| {
            r.write("b", b"2")?;
            Err(StateError::other(r.dir(), "full"))
        });
        assert!(failed.is_err());
        assert_eq!(room.list(".").unwrap(), ["a"]);
        replace_room(&dir, |r| r.write("b", b"2")).unwrap();
        assert_eq!(room.list(".").unwrap(), ["b"]);
        assert_eq!(fs::read_dir(t.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_lock_excludes() {
        let t = TestDir::new();
        let room = Room::create(&t.path().join("exec")).unwrap();
        let first = room.lock(Duration::ZERO).unwrap();
        assert!(first.is_some());
        assert!(room.lock(Duration::from_millis(10)).unwrap().is_none());
        drop(first);
        assert!(room.lock(Duration::ZERO).unwrap().is_some());
    }

    #[test]
    fn what_is_written_for_another_goes_to_him_and_no_link_is_followed() {
        let t = TestDir::new();
        let d = t.path();
        let (path, other) = (d.join("revoked"), d.join("other"));
        fs::write(&other, "theirs").unwrap();
        // Whoever owns the directory has put links where the file and its forerunner are to be.
        for name in ["revoked", ".revoked.tmp"] {
            std::os::unix::fs::symlink(&other, d.join(name)).unwrap();
        }
        let us = nix::unistd::geteuid().as_raw();
        // Root may give it to anybody; others only to themselves.
        let to = if us == 0 { 54_321 } else { us };
        let group = nix::unistd::getegid().as_raw();
        write_atomic_for(&path, b"list", 0o600, Some((to, group))).unwrap();
        let m = fs::symlink_metadata(&path).unwrap();
        assert!(m.is_file() && m.uid() == to && m.mode() & 0o777 == 0o600);
        assert_eq!(fs::read(&other).unwrap(), b"theirs");
        assert_eq!(fs::metadata(&other).unwrap().uid(), us);
    }
}
