//! `queue admin spool`: the other side of `queue admin fetch`. Gives what a job wrote into this user's spool here,
//! with the paths where it belongs, and removes what has arrived.
//!
//! A task that still writes holds a lock on its file: its room is left alone, and so is one in which something was
//! written while it was given.
//!
//! Records: `F`, length and bytes of the name of the room and of the path, each length in 4 bytes, then the length
//! of the file in 8 and its bytes; `E` after the last one. Then `done` is read, which removes the rooms.

use super::tail::small;
use crate::messages::{Failure, reason};
use crate::whoami;
use nix::libc;
use nix::unistd::geteuid;
use queue_exec::layout::Layout;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// File in a room that says where the others belong.
const HOME: &str = ".home";
/// Largest such file.
const HOME_MAX: u64 = 1 << 20;
/// In front of the name of a room that could not be put back after it was given, because a new one has its name.
const LATE: &str = ".late-";
/// What the other side says when all is there.
pub const DONE: &[u8] = b"done\n";

/// Gives a job's output.
///
/// # Errors
/// It cannot be read.
pub fn run(job: u64, root: Option<&Path>) -> Result<u8, Failure> {
    let root = match root {
        Some(r) => r.to_owned(),
        None => usual()?,
    };
    let mut out = BufWriter::with_capacity(64 * 1024, Stdout);
    give(&root, job, &mut out, &mut io::stdin().lock())
        .map_err(|e| Failure::own(format!("spool {}: {}", root.display(), reason(&e))))?;
    Ok(0)
}

/// Where this user's spool is.
fn usual() -> Result<PathBuf, Failure> {
    let uid = geteuid();
    match whoami::name(uid) {
        Some(name) => Ok(Layout::for_client().state.join("spool").join(name)),
        None => Err(Failure::own(format!(
            "there is no user with the number {uid} here"
        ))),
    }
}

struct Stdout;

impl Write for Stdout {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        Ok(nix::unistd::write(crate::sys::stdio(1), data)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives the records, and removes what they came from once the other side has it.
///
/// # Errors
/// A file cannot be read, or nobody takes it.
pub fn give(root: &Path, job: u64, out: &mut impl Write, answer: &mut impl Read) -> io::Result<()> {
    let mut given = Vec::new();
    for (room, dir) in rooms(root, job)? {
        let homes = homes(&dir)?;
        if homes
            .keys()
            .any(|name| is_written(&dir.join(OsStr::from_bytes(name))))
        {
            continue;
        }
        let mut sizes = Vec::new();
        for (name, home) in homes {
            let path = dir.join(OsStr::from_bytes(&name));
            if let Some(size) = file(&room, &path, &home, out)? {
                sizes.push((name, size));
            }
        }
        given.push((dir, sizes));
    }
    out.write_all(b"E")?;
    out.flush()?;
    let mut said = Vec::new();
    answer.take(DONE.len() as u64).read_to_end(&mut said)?;
    if said != DONE {
        // It is all still here, and fetched another time.
        return Ok(());
    }
    for (dir, sizes) in given {
        remove(&dir, &sizes)?;
    }
    Ok(())
}

/// The rooms of a job and of its tasks, by task.
fn rooms(root: &Path, job: u64) -> io::Result<Vec<(String, PathBuf)>> {
    let mut all = BTreeMap::new();
    let entries = match fs::read_dir(root) {
        Ok(e) => e,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let (late, room) = match name.strip_prefix(LATE) {
            Some(room) => (false, room),
            None => (true, name.as_str()),
        };
        let (id, task) = room.split_once('.').unwrap_or((room, "0"));
        let (Ok(id), Ok(task)) = (id.parse::<u64>(), task.parse::<u32>()) else {
            continue;
        };
        if id == job && entry.file_type()?.is_dir() {
            // What was put aside is the older one.
            all.insert((task, late), (room.to_owned(), entry.path()));
        }
    }
    Ok(all.into_values().collect())
}

/// Names of files in a room, and where each belongs.
fn homes(dir: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let text = match small(&dir.join(HOME), HOME_MAX) {
        Ok(t) => t,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(e),
    };
    let parts: Vec<&[u8]> = text.split(|b| *b == 0).collect();
    let pairs = parts.as_chunks::<2>().0.iter();
    Ok(pairs
        .filter(|[name, home]| !name.is_empty() && !name.contains(&b'/') && home.starts_with(b"/"))
        .map(|[name, home]| (name.to_vec(), home.to_vec()))
        .collect())
}

/// One record; its length. `None`: the file is not there.
fn file(room: &str, path: &Path, home: &[u8], out: &mut impl Write) -> io::Result<Option<u64>> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    let file = match opened {
        Ok(f) if f.metadata()?.is_file() => f,
        Ok(_) => return Ok(None),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let size = file.metadata()?.len();
    out.write_all(b"F")?;
    for part in [room.as_bytes(), home] {
        out.write_all(&(part.len() as u32).to_be_bytes())?;
        out.write_all(part)?;
    }
    out.write_all(&size.to_be_bytes())?;
    copy(file, size, out)?;
    Ok(Some(size))
}

fn copy(file: File, size: u64, out: &mut impl Write) -> io::Result<()> {
    let n = io::copy(&mut file.take(size), out)?;
    if n < size {
        return Err(io::Error::other("a file became shorter while it was read"));
    }
    Ok(())
}

/// Whether somebody has it open to write more.
fn is_written(path: &Path) -> bool {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    file.is_ok_and(|f| matches!(f.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Removes a room, unless something was written there meanwhile. Under its new name nobody finds it any more; who
/// has opened a file of it before holds a lock, or has added to it, or sees that it is gone.
fn remove(dir: &Path, sizes: &[(Vec<u8>, u64)]) -> io::Result<()> {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Ok(());
    };
    let room = name.to_string_lossy();
    let aside = parent.join(format!("{LATE}{}", room.strip_prefix(LATE).unwrap_or(&room)));
    if aside != dir {
        fs::rename(dir, &aside)?;
    }
    let mut locks = Vec::new();
    let untouched = sizes.iter().all(|(name, size)| {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(aside.join(OsStr::from_bytes(name)));
        let Ok(file) = file else { return false };
        let locked = !matches!(file.try_lock(), Err(TryLockError::WouldBlock));
        let same = file.metadata().is_ok_and(|m| m.len() == *size);
        locks.push(file);
        locked && same
    });
    if untouched {
        return fs::remove_dir_all(&aside);
    }
    // Back, if there is no new one; else it is given another time.
    if aside != dir && !dir.exists() {
        fs::rename(&aside, dir)?;
    }
    Ok(())
}
