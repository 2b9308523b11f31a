//! A running program replaced by the one that is now at its path: same process, the descriptors that matter kept. The
//! old program writes a note about them into memory and executes the new one with `--takeover N`, the note's
//! descriptor. Knows descriptors and programs; not what they are for.

use crate::codec::{Malformed, Reader, Writer};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{AccessFlags, access, execv};
use std::collections::BTreeSet;
use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The option that names the note's descriptor.
pub const OPTION: &str = "--takeover";

/// Options with a value that were for this program only.
const OURS: [&str; 2] = [OPTION, "--ready-fd"];

/// First bytes of a note. What follows the list of descriptors has a version of its own.
const MAGIC: &[u8] = b"QUEUE takeover 1\0";
/// Largest note: it may carry what programs asked and nobody answered yet.
const NOTE_MAX: u64 = 256 << 20;

/// Where this program was started from, so that what is there later can take its place. Ask at the start: the file
/// may be replaced at any time.
///
/// # Errors
/// `/proc` is not there.
pub fn program() -> io::Result<PathBuf> {
    let exe = fs::read_link("/proc/self/exe")?;
    let own = fs::metadata("/proc/self/exe").map(|m| (m.dev(), m.ino()))?;
    let is_own = |p: &PathBuf| fs::metadata(p).is_ok_and(|m| (m.dev(), m.ino()) == own);
    let said = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    // By the name that was typed, not by what a link pointed to: a package may install beside and turn the link.
    let found = if said.components().count() > 1 {
        std::path::absolute(&said).ok().filter(is_own)
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places: Vec<PathBuf> = std::env::split_paths(&path).collect();
        let places = places.into_iter().filter(|d| d.is_absolute());
        places.map(|d| d.join(&said)).find(is_own)
    };
    Ok(found.unwrap_or(exe))
}

/// Whether there is something at this path that can be executed.
///
/// # Errors
/// What is wrong, with the path.
pub fn executable(program: &Path) -> io::Result<()> {
    let told = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", program.display()));
    if !fs::metadata(program).map_err(told)?.is_file() {
        return Err(io::Error::other(format!("{} is no program", program.display())));
    }
    access(program, AccessFlags::X_OK).map_err(|e| told(e.into()))
}

/// Executes the program in place of this one, with the same arguments, and `fds` and the note passed on. Returns only
/// if that failed: then everything is as it was.
pub fn hand_over(program: &Path, fds: &[BorrowedFd<'_>], note: &[u8]) -> io::Error {
    let kept = |keep: bool, fd: BorrowedFd<'_>| {
        let flags = if keep { FdFlag::empty() } else { FdFlag::FD_CLOEXEC };
        fcntl(fd, FcntlArg::F_SETFD(flags)).map(drop)
    };
    let go = || -> io::Result<()> {
        let memory = write_note(fds, note)?;
        let args = arguments(std::env::args_os(), memory.as_raw_fd())?;
        let path = CString::new(program.as_os_str().as_encoded_bytes())?;
        for fd in fds {
            kept(true, *fd)?;
        }
        kept(true, memory.as_fd())?;
        match execv(&path, &args)? {}
    };
    let failed = match go() {
        Ok(()) => io::ErrorKind::Other.into(),
        Err(e) => e,
    };
    for fd in fds {
        let _ = kept(false, *fd);
    }
    io::Error::new(
        failed.kind(),
        format!("cannot execute {}: {failed}", program.display()),
    )
}

fn write_note(fds: &[BorrowedFd<'_>], note: &[u8]) -> io::Result<File> {
    let mut memory = File::from(memfd_create(c"queue-takeover", MFdFlags::MFD_CLOEXEC)?);
    let mut head = Writer::new(MAGIC);
    head.u32(fds.len() as u32);
    for fd in fds {
        head.u32(fd.as_raw_fd().unsigned_abs());
    }
    memory.write_all(&head.finish())?;
    memory.write_all(note)?;
    memory.rewind()?;
    Ok(memory)
}

/// The same arguments, with another note.
fn arguments(args: impl Iterator<Item = OsString>, note: RawFd) -> io::Result<Vec<CString>> {
    let mut all = Vec::new();
    let mut skip = false;
    for a in args {
        if std::mem::take(&mut skip) {
            continue;
        }
        if OURS.iter().any(|o| a == *o) {
            skip = true;
        } else {
            all.push(CString::new(a.into_vec())?);
        }
    }
    all.push(CString::new(OPTION)?);
    all.push(CString::new(note.to_string())?);
    Ok(all)
}

/// What the program before this one left. Descriptors that are not taken are closed with it.
#[derive(Debug)]
pub struct Inherited {
    fds: BTreeSet<RawFd>,
    note: Vec<u8>,
}

impl Inherited {
    /// Reads the note. Call it once, before anything else is opened: only then these descriptors are nobody else's.
    ///
    /// # Errors
    /// The number is not that of a note.
    pub fn receive(number: &str) -> io::Result<Self> {
        let not = || {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{OPTION} {number}: no note there"),
            )
        };
        let fd: RawFd = number.parse().map_err(|_| not())?;
        if fd <= 2 {
            return Err(not());
        }
        // By its name, so that a number that is somebody's descriptor is not closed.
        let name = fs::read_link(format!("/proc/self/fd/{fd}")).map_err(|_| not())?;
        if !name.to_string_lossy().starts_with("/memfd:queue-takeover") {
            return Err(not());
        }
        // SAFETY: it is open, it is a note, and notes are only made to be taken here.
        let memory = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        let mut bytes = Vec::new();
        memory.take(NOTE_MAX).read_to_end(&mut bytes)?;
        let read = |bytes: &[u8]| -> Result<Self, Malformed> {
            let mut r = Reader::new(bytes, MAGIC, "note of the program before")?;
            let n = r.u32()?;
            let mut fds = BTreeSet::new();
            for _ in 0..n {
                fds.insert(r.u32()? as RawFd);
            }
            Ok(Self {
                fds,
                note: r.rest().to_vec(),
            })
        };
        let mut inherited =
            read(&bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
        inherited.fds.retain(|n| *n > 2 && close_on_exec(*n).is_ok());
        Ok(inherited)
    }

    /// What it has to say beside the descriptors.
    pub fn note(&self) -> &[u8] {
        &self.note
    }

    /// Takes one of the descriptors by its number; each once.
    pub fn take(&mut self, number: u32) -> Option<OwnedFd> {
        let fd = RawFd::try_from(number).ok()?;
        // SAFETY: it was passed on to us and is open; who takes it is its only owner, because it leaves the set.
        self.fds.remove(&fd).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

impl Drop for Inherited {
    fn drop(&mut self) {
        for fd in std::mem::take(&mut self.fds) {
            // SAFETY: as in `take`.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
}

/// Fails if it is not open.
fn close_on_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: no memory is involved; a number that is not open is an error.
    match unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_and_its_descriptors_arrive_once() {
        let (a, b) = io::pipe().unwrap();
        let fds = [OwnedFd::from(a), OwnedFd::from(b)];
        let all: Vec<BorrowedFd<'_>> = fds.iter().map(|f| f.as_fd()).collect();
        let memory = write_note(&all, b"what it says").unwrap();
        let numbers: Vec<u32> = fds.iter().map(|f| f.as_raw_fd().unsigned_abs()).collect();
        let note = memory.as_raw_fd().to_string();
        // As after the exec: nobody else owns them.
        std::mem::forget((fds, memory));
        let mut got = Inherited::receive(&note).unwrap();
        assert_eq!(got.note(), b"what it says");
        let first = File::from(got.take(numbers[0]).unwrap());
        assert!(got.take(numbers[0]).is_none() && got.take(1).is_none());
        // The writing end was not taken: it is closed, so the reading end is at its end.
        drop(got);
        let mut text = String::new();
        let mut first = first;
        assert_eq!(first.read_to_string(&mut text).unwrap(), 0);
    }

    #[test]
    fn what_is_no_note_is_left_alone() {
        let f = File::open("/dev/null").unwrap();
        for bad in [f.as_raw_fd().to_string(), "1".into(), "x".into(), "65000".into()] {
            assert!(Inherited::receive(&bad).is_err(), "{bad}");
        }
        assert!(f.metadata().is_ok());
    }

    #[test]
    fn the_arguments_stay_but_for_the_note() {
        let args = |given: &[&str]| -> Vec<String> {
            let all = arguments(given.iter().map(OsString::from), 9).unwrap();
            all.into_iter().map(|c| c.into_string().unwrap()).collect()
        };
        assert_eq!(args(&["queued", "run"]), ["queued", "run", OPTION, "9"]);
        assert_eq!(
            args(&["q", OPTION, "7", "--port", "1", "--ready-fd", "3"]),
            ["q", "--port", "1", OPTION, "9"]
        );
    }

    #[test]
    fn a_program_is_looked_at_before() {
        assert!(executable(Path::new("/bin/sh")).is_ok());
        for bad in ["/", "/etc/passwd", "/nowhere"] {
            let e = executable(Path::new(bad)).unwrap_err().to_string();
            assert!(e.contains(bad), "{e}");
        }
        assert!(program().unwrap().is_absolute());
    }
}
