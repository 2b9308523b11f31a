//! Where output belongs: whether this host sees the directory of the submission, and the user's spool for what has
//! to be brought there. Knows files; nothing of jobs that run.
//!
//! The spool of a user, `<state>/spool/<login>`, is made by root and the user's own. In it, for each job or task, a
//! directory `<job>` or `<job>.<task>` with the files and with `.home`, which names each file and, after a NUL, the
//! path where it belongs, ended by a NUL; and `.run-<pid>`, the scripts of a session that runs.

use libqueue::wire::job::Run;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fstat, mkdirat};
use nix::unistd::{Gid, Uid, fchownat};
use queue_exec::protocol::JobKey;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// File that says where the others of its directory belong.
const HOME: &str = ".home";
/// Scripts of the session with this process id.
const SCRIPTS: &str = ".run-";

const DIR: OFlag = OFlag::O_DIRECTORY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Makes a user's spool: still as root, or as the owner of a single-user install.
///
/// # Errors
/// What is wrong with it: it, or the directory that it is in, belongs to somebody else.
pub(crate) fn make_spool(path: &Path, uid: u32, gid: u32) -> Result<(), String> {
    let wrong = |what: &Path, why: &str| format!("{}: {why}", what.display());
    let failed = |what: &Path, e: &dyn std::fmt::Display| format!("{}: {e}", what.display());
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(wrong(path, "not a place for a spool"));
    };
    let own = nix::unistd::geteuid();
    let trusted = |s: &FileStat| {
        (s.st_uid == 0 || s.st_uid == own.as_raw()) && s.st_mode & (libc::S_IWGRP | libc::S_IWOTH) == 0
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(parent)
        .map_err(|e| failed(parent, &e))?;
    let dir = nix::fcntl::open(parent, DIR, Mode::empty()).map_err(|e| failed(parent, &e.desc()))?;
    if !fstat(&dir).is_ok_and(|s| trusted(&s)) {
        return Err(wrong(
            parent,
            "must belong to root, and nobody else may write there",
        ));
    }
    match mkdirat(&dir, name, Mode::S_IRWXU) {
        Ok(()) if own.is_root() => {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            fchownat(&dir, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
                .map_err(|e| failed(path, &e.desc()))?;
        }
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(e) => return Err(failed(path, &e.desc())),
    }
    let spool = openat(&dir, name, DIR, Mode::empty()).map_err(|e| failed(path, &e.desc()))?;
    match fstat(&spool) {
        Ok(s) if s.st_uid == uid && s.st_mode & 0o077 == 0 => Ok(()),
        _ => Err(wrong(
            path,
            "must be a directory of its user's alone; move it away",
        )),
    }
}

/// Whether this host sees the directory of the submission: it has the file that was made there for this job.
pub(crate) fn is_here(run: &Run) -> bool {
    let Some(path) = nonce_file(run) else { return false };
    let mut found = Vec::new();
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .and_then(|f| f.take(4096).read_to_end(&mut found))
        .is_ok()
        && found.trim_ascii_end() == run.nonce_file.as_bytes()
}

/// Removes that file.
pub(crate) fn forget(run: &Run) {
    if let Some(path) = nonce_file(run)
        && is_here(run)
    {
        // Whoever removed it before us did the same.
        let _ = fs::remove_file(path);
    }
}

fn nonce_file(run: &Run) -> Option<PathBuf> {
    let name = run.nonce_file.as_str();
    let plain = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
    plain.then(|| Path::new(OsStr::from_bytes(&run.cwd)).join(name))
}

/// A user's spool, as the user sees it.
pub(crate) struct Spool {
    path: PathBuf,
    /// The room for scripts, once there is one.
    scripts: Option<PathBuf>,
}

impl Spool {
    /// Of this user; rooms of sessions that are gone are removed.
    pub(crate) fn open(path: PathBuf) -> Self {
        for e in fs::read_dir(&path).into_iter().flatten().flatten() {
            let name = e.file_name();
            let pid = name
                .to_str()
                .and_then(|n| n.strip_prefix(SCRIPTS))
                .and_then(|p| p.parse::<u32>().ok());
            if pid.is_some_and(|p| !Path::new("/proc").join(p.to_string()).exists()) {
                let _ = fs::remove_dir_all(e.path());
            }
        }
        Self { path, scripts: None }
    }

    /// Directory for what a job or task writes; it need not exist.
    pub(crate) fn room(&self, key: JobKey) -> PathBuf {
        self.path.join(match key.task {
            0 => key.job.to_string(),
            task => format!("{}.{task}", key.job),
        })
    }

    /// Writes a script down, so that an interpreter can open it: its name is what it sees as `$0`.
    pub(crate) fn script(&mut self, name: &[u8], text: &[u8]) -> io::Result<PathBuf> {
        let dir = match &self.scripts {
            Some(dir) => dir.clone(),
            None => {
                let dir = self.path.join(format!("{SCRIPTS}{}", std::process::id()));
                make_dir(&dir)?;
                self.scripts.insert(dir).clone()
            }
        };
        let name = base_name(name).unwrap_or_else(|| "script".into());
        let path = dir.join(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o700)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)?;
        file.write_all(text)?;
        Ok(path)
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if let Some(dir) = &self.scripts {
            let _ = fs::remove_dir_all(dir);
        }
    }
}

fn make_dir(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && fs::symlink_metadata(dir)?.is_dir() => Ok(()),
        r => r,
    }
}

/// Last part of a path, if it names something.
pub(crate) fn base_name(path: &[u8]) -> Option<OsString> {
    Path::new(OsStr::from_bytes(path))
        .file_name()
        .map(OsStr::to_owned)
}

/// Opens a file of a spool for appending, makes its directory, and writes down where it belongs. It is locked as long
/// as it is open, so that who brings it home sees that more is to come.
pub(crate) fn create_spooled(path: &Path, home: &[u8], mode: u32) -> io::Result<File> {
    loop {
        let file = open_spooled(path, home, mode)?;
        // Without locks on that file system it is brought home when the leader says so.
        let _ = file.lock_shared();
        // What was there before has just been brought home and removed.
        if file.metadata()?.nlink() > 0 {
            return Ok(file);
        }
    }
}

fn open_spooled(path: &Path, home: &[u8], mode: u32) -> io::Result<File> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    make_dir(dir)?;
    let append = |path: &Path, mode: u32| {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(mode)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
    };
    // First, so that no file is ever there of which nobody knows where it belongs.
    append(&dir.join(HOME), 0o600)?.write_all(&[name.as_bytes(), b"\0", home, b"\0"].concat())?;
    append(path, mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tmp(PathBuf);

    impl Tmp {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("queue-home-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }
    }

    impl Drop for Tmp {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn own() -> (u32, u32) {
        (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
    }

    #[test]
    fn a_spool_is_made_once_and_no_link_is_followed() {
        let t = Tmp::new("spool");
        let (uid, gid) = own();
        let spool = t.0.join("state/spool/alice");
        make_spool(&spool, uid, gid).unwrap();
        make_spool(&spool, uid, gid).unwrap();
        assert!(make_spool(&spool, uid + 1, gid).is_err(), "somebody else's");
        std::os::unix::fs::symlink(&spool, t.0.join("state/spool/bob")).unwrap();
        assert!(make_spool(&t.0.join("state/spool/bob"), uid, gid).is_err());
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(t.0.join("state/spool"), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(
            make_spool(&spool, uid, gid).is_err(),
            "anybody may write beside it"
        );
    }

    #[test]
    fn the_directory_is_known_by_its_file() {
        let t = Tmp::new("nonce");
        let run = Run {
            cwd: t.0.as_os_str().as_bytes().to_vec(),
            nonce_file: ".queue-1f2e".into(),
            ..Run::default()
        };
        assert!(!is_here(&run));
        let path = t.0.join(".queue-1f2e");
        fs::write(&path, "other").unwrap();
        forget(&run);
        assert!(!is_here(&run) && path.exists(), "not ours");
        fs::write(&path, ".queue-1f2e\n").unwrap();
        assert!(is_here(&run));
        forget(&run);
        assert!(!path.exists());
        for bad in ["", "..", "../x", "/etc/passwd"] {
            assert!(
                nonce_file(&Run {
                    nonce_file: bad.into(),
                    ..run.clone()
                })
                .is_none()
            );
        }
    }

    #[test]
    fn scripts_go_with_their_session() {
        let t = Tmp::new("scripts");
        fs::create_dir(t.0.join(".run-999999999")).unwrap();
        let mut spool = Spool::open(t.0.clone());
        let path = spool.script(b"/home/alice/my job.sh", b"#!/bin/sh\n").unwrap();
        assert_eq!(path.file_name().unwrap(), "my job.sh");
        drop(spool);
        assert_eq!(fs::read_dir(&t.0).unwrap().count(), 0);
    }
}
