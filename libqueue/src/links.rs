//! Opening files where others may have put links. Knows the file system; not what the files are for.

use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::{Mode, fstat};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Links that lead from one to the next.
const LINKS: usize = 16;

/// Opens a file, `flags` beside the options. A link at its place is followed if it is the caller's own or root's: in a
/// directory where others may write, somebody could have put one there that leads to a file of the caller's own, which
/// would then take what he writes. Links on the way there are followed as always.
///
/// # Errors
/// As `open(2)`; a link that another user made.
pub fn open(path: &Path, options: &mut OpenOptions, flags: i32) -> io::Result<File> {
    let mut path = path.to_owned();
    options.custom_flags(flags | OFlag::O_NOFOLLOW.bits());
    for _ in 0..LINKS {
        match options.open(&path) {
            Err(e) if e.raw_os_error() == Some(Errno::ELOOP as i32) => {}
            r => return r,
        }
        // The very link that is looked at is the one that is followed.
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let link = nix::fcntl::open(&path, flags, Mode::empty())?;
        let m = fstat(&link)?;
        let Ok(target) = readlinkat(&link, "") else {
            // Something else has come into its place.
            continue;
        };
        if m.st_uid != nix::unistd::geteuid().as_raw() && m.st_uid != 0 {
            return Err(io::Error::other("it is a link that another user made"));
        }
        let dir = path.parent().unwrap_or(Path::new("/"));
        path = dir.join(target);
    }
    Err(Errno::ELOOP.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::{lchown, symlink};

    fn append(path: &Path) -> io::Result<File> {
        open(path, OpenOptions::new().append(true).create(true), 0)
    }

    #[test]
    fn a_link_is_followed_if_it_is_ones_own() {
        let dir = std::env::temp_dir().join(format!("queue-links-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        let target = dir.join("target");
        symlink("target", dir.join("own")).unwrap();
        symlink(dir.join("own"), dir.join("twice")).unwrap();
        symlink("round", dir.join("round")).unwrap();
        for name in ["own", "twice", "new"] {
            append(&dir.join(name)).unwrap().write_all(b"x").unwrap();
        }
        assert_eq!(fs::read(&target).unwrap(), b"xx");
        let round = append(&dir.join("round")).unwrap_err();
        assert_eq!(round.raw_os_error(), Some(Errno::ELOOP as i32));
        // Only root can give a link away.
        if nix::unistd::geteuid().is_root() {
            symlink("target", dir.join("theirs")).unwrap();
            lchown(dir.join("theirs"), Some(54_321), None).unwrap();
            let e = append(&dir.join("theirs")).unwrap_err();
            assert!(e.to_string().contains("another user"), "{e}");
            assert_eq!(fs::read(&target).unwrap(), b"xx");
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
