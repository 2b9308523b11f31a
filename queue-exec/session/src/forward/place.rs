//! A directory of the session's that only the user can enter, and that goes with it.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Where everybody can make directories.
const EVERYBODYS: &str = "/tmp";
const NAME: &str = "queue-XXXXXX";

/// The directory and what is in it.
pub(super) struct Place {
    dir: PathBuf,
    files: Vec<PathBuf>,
}

impl Place {
    /// Makes it: where PAM says that the user's own files of this session belong, else in `/tmp`.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn make(pam_env: &[Vec<u8>]) -> io::Result<Self> {
        let own = pam_env.iter().find_map(|e| e.strip_prefix(b"XDG_RUNTIME_DIR="));
        let own = own.map(|d| Path::new(std::ffi::OsStr::from_bytes(d)));
        let made = match own.filter(|d| is_private(d)) {
            Some(d) => nix::unistd::mkdtemp(&d.join(NAME)).or_else(|_| in_everybodys()),
            None => in_everybodys(),
        };
        let dir = made.map_err(|e| io::Error::other(format!("{EVERYBODYS}: {}", e.desc())))?;
        Ok(Self {
            dir,
            files: Vec::new(),
        })
    }

    /// A file that only the user can read.
    ///
    /// # Errors
    /// As `write(2)`.
    pub(super) fn write(&mut self, name: &str, content: &[u8]) -> io::Result<PathBuf> {
        let path = self.dir.join(name);
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&path)?;
        self.files.push(path.clone());
        file.write_all(content)?;
        Ok(path)
    }

    /// A socket that only the user can connect to.
    ///
    /// # Errors
    /// As `bind(2)`.
    pub(super) fn listen(&mut self, name: &str) -> io::Result<(PathBuf, OwnedFd)> {
        let path = self.dir.join(name);
        let listener = UnixListener::bind(&path)?;
        self.files.push(path.clone());
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok((path, listener.into()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What somebody else put there stays, and with it the directory.
        for f in &self.files {
            let _ = fs::remove_file(f);
        }
        let _ = fs::remove_dir(&self.dir);
    }
}

fn in_everybodys() -> nix::Result<PathBuf> {
    nix::unistd::mkdtemp(&Path::new(EVERYBODYS).join(NAME))
}

/// Whether a directory is ours, and nobody else can enter it.
fn is_private(dir: &Path) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    dir.is_absolute()
        && fs::symlink_metadata(dir).is_ok_and(|m| m.is_dir() && m.uid() == own && m.mode() & 0o077 == 0)
}
