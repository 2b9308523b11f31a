//! Reads a file of output, also while it grows: here for a reader here, or (`queue admin tail`) in a session of ours
//! on the host that has it. Knows files; not jobs.
//!
//! A file that grows is watched by inotify. Writes of other hosts to a shared file system are not told that way, so
//! it is looked at now and then anyhow.

use crate::messages::{Failure, reason};
use crate::sys;
use crate::verbs::inner::Tail;
use nix::errno::Errno;
use nix::libc;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// How often a file is looked at that is watched, and one that cannot be, in milliseconds.
const LOOK: [i32; 2] = [500, 100];
/// How long to wait at its end for bytes that were promised: a network file system may show them late.
const LATE: Duration = Duration::from_secs(3);
/// Read at once.
const CHUNK: usize = 64 * 1024;
/// A line from the other side is no longer than this.
const LINE_MAX: usize = 64;

/// Exit code of `queue admin tail` for a file that is not there.
pub const GONE: u8 = 3;

/// Why a file is not shown.
#[derive(Debug)]
pub enum Fault {
    /// It is not there, or may not be read.
    File(io::Error),
    /// Nobody takes it.
    Reader(io::Error),
}

/// `queue admin tail`.
///
/// # Errors
/// It cannot be read.
pub fn run(t: &Tail) -> Result<u8, Failure> {
    let mut out = |data: &[u8]| write_out(data);
    match copy(t, sys::stdio(0), &mut out) {
        Ok(()) => Ok(0),
        Err(Fault::Reader(_)) => Ok(0),
        Err(Fault::File(e)) if e.kind() == io::ErrorKind::NotFound => Ok(GONE),
        Err(Fault::File(e)) => Err(Failure::own(format!("{}: {}", t.path.display(), reason(&e)))),
    }
}

fn write_out(mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        match nix::unistd::write(sys::stdio(1), data) {
            Ok(n) => data = &data[n..],
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Gives the file's bytes to `out`. With `follow`, `control` may say `until BYTES`: the file has that many when all
/// is written; it is closed when nobody wants more.
///
/// # Errors
/// See [`Fault`].
pub fn copy(
    t: &Tail,
    control: BorrowedFd<'_>,
    out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), Fault> {
    let mut control = Control {
        fd: t.follow.then_some(control),
        line: Vec::new(),
        until: None,
    };
    let file = loop {
        match open(&t.path) {
            Ok(Some(file)) => break file,
            Ok(None) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound && t.follow => {
                // Made at the first byte. Nothing was written if the end is known and it is not there.
                match control.until {
                    None => {}
                    Some(0) => return Ok(()),
                    Some(_) => return Err(Fault::File(e)),
                }
                let dir = t.path.parent().unwrap_or(Path::new("/"));
                let watch = watch(dir, libc::IN_CREATE | libc::IN_MOVED_TO);
                // It may have been made just before the watch began.
                if !t.path.exists() && control.until.is_none() {
                    control.wait(watch.as_ref());
                }
            }
            Err(e) => return Err(Fault::File(e)),
        }
    };
    let mut at = match t.lines {
        Some(n) => last_lines(&file, n).map_err(Fault::File)?,
        None => t.offset,
    };
    let watch = t.follow.then(|| watch(&t.path, libc::IN_MODIFY)).flatten();
    let mut buf = vec![0; CHUNK];
    let mut late = None;
    loop {
        match file.read_at(&mut buf, at) {
            Ok(0) => {}
            Ok(n) => {
                out(&buf[..n]).map_err(Fault::Reader)?;
                at += n as u64;
                continue;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Fault::File(e)),
        }
        if !t.follow {
            return Ok(());
        }
        if let Some(until) = control.until {
            let end = *late.get_or_insert_with(|| Instant::now() + LATE);
            if at >= until || Instant::now() >= end {
                return Ok(());
            }
        }
        // Somebody emptied it: what is new stands at its front.
        if file.metadata().is_ok_and(|m| m.len() < at) {
            at = 0;
            continue;
        }
        control.wait(watch.as_ref());
    }
}

/// Opens it; `None`: it is no file but a device or the like, of which nothing is kept.
fn open(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC)
        .open(path)?;
    Ok(file.metadata()?.is_file().then_some(file))
}

fn watch(path: &Path, mask: u32) -> Option<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    sys::notify(&path, mask).ok()
}

/// Where the last lines of a file begin.
fn last_lines(file: &File, lines: u64) -> io::Result<u64> {
    let mut at = file.metadata()?.len();
    let mut buf = vec![0; CHUNK];
    // The line end of the last line ends it, and begins none.
    let (mut left, mut first) = (lines, true);
    if lines == 0 {
        return Ok(at);
    }
    while at > 0 {
        let n = at.min(CHUNK as u64) as usize;
        at -= n as u64;
        file.read_exact_at(&mut buf[..n], at)?;
        for i in (0..n).rev() {
            if buf[i] == b'\n' && !std::mem::take(&mut first) {
                left -= 1;
                if left == 0 {
                    return Ok(at + i as u64 + 1);
                }
            }
            first = false;
        }
    }
    Ok(0)
}

/// The word of who reads.
struct Control<'a> {
    fd: Option<BorrowedFd<'a>>,
    line: Vec<u8>,
    until: Option<u64>,
}

impl Control<'_> {
    /// Waits until something may have changed.
    fn wait(&mut self, watch: Option<&OwnedFd>) {
        let fd = |fd: Option<BorrowedFd<'_>>| libc::pollfd {
            fd: fd.map_or(-1, |f| f.as_raw_fd()),
            events: libc::POLLIN,
            revents: 0,
        };
        let mut fds = [fd(self.fd), fd(watch.map(AsFd::as_fd))];
        let _ = sys::poll(&mut fds, LOOK[usize::from(watch.is_none())]);
        if fds[1].revents != 0
            && let Some(w) = watch
        {
            let mut events = [0; 4096];
            let _ = nix::unistd::read(w, &mut events);
        }
        if fds[0].revents != 0 {
            self.read();
        }
    }

    fn read(&mut self) {
        let Some(fd) = self.fd else { return };
        let mut buf = [0; LINE_MAX];
        match nix::unistd::read(fd, &mut buf) {
            Ok(0) | Err(Errno::EIO | Errno::ECONNRESET | Errno::EBADF) => {
                self.fd = None;
                self.until.get_or_insert(0);
            }
            Ok(n) => self.line.extend_from_slice(&buf[..n]),
            Err(_) => {}
        }
        if let Some(end) = self.line.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            let number = std::str::from_utf8(&line)
                .ok()
                .and_then(|l| l.trim().strip_prefix("until ")?.parse().ok());
            self.until = Some(number.unwrap_or(0));
        } else if self.line.len() > LINE_MAX {
            self.until.get_or_insert(0);
        }
    }
}

/// Reads all of a small file; for what is beside output.
///
/// # Errors
/// As reading, or it is larger.
pub fn small(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(max + 1).read_to_end(&mut text)?;
    if text.len() as u64 > max {
        return Err(io::Error::other("too large"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;
    use std::sync::mpsc;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("queue-tail-{name}-{}", std::process::id()));
            std::fs::create_dir(&dir).unwrap();
            Self(dir)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn all(t: &Tail) -> Result<Vec<u8>, Fault> {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut got = Vec::new();
        copy(t, ours.as_fd(), &mut |d| {
            got.extend_from_slice(d);
            Ok(())
        })?;
        Ok(got)
    }

    #[test]
    fn parts_of_a_file() {
        let dir = Dir::new("parts");
        let path = dir.0.join("out");
        let t = |offset, lines| Tail {
            path: path.clone(),
            offset,
            lines,
            follow: false,
        };
        assert!(matches!(all(&t(0, None)), Err(Fault::File(e)) if e.kind() == io::ErrorKind::NotFound));
        std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
        for (offset, lines, want) in [
            (0, None, "one\ntwo\nthree\n"),
            (4, None, "two\nthree\n"),
            (99, None, ""),
            (0, Some(1), "three\n"),
            (0, Some(2), "two\nthree\n"),
            (0, Some(9), "one\ntwo\nthree\n"),
            (0, Some(0), ""),
        ] {
            assert_eq!(
                all(&t(offset, lines)).unwrap(),
                want.as_bytes(),
                "{offset} {lines:?}"
            );
        }
        std::fs::write(&path, "one\ntwo").unwrap();
        assert_eq!(all(&t(0, Some(1))).unwrap(), b"two");
        let null = Tail {
            path: "/dev/null".into(),
            ..Tail::default()
        };
        assert_eq!(all(&null).unwrap(), b"");
    }

    #[test]
    fn a_file_that_comes_and_grows_is_followed_to_its_end() {
        let dir = Dir::new("grows");
        let path = dir.0.join("out");
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (tx, rx) = mpsc::channel::<Vec<u8>>();
        let t = Tail {
            path: path.clone(),
            follow: true,
            ..Tail::default()
        };
        let reader = std::thread::spawn(move || {
            copy(&t, ours.as_fd(), &mut |d| {
                tx.send(d.to_vec()).map_err(io::Error::other)
            })
        });
        let expect = |want: &str| {
            let mut got = Vec::new();
            while got.len() < want.len() {
                got.extend(rx.recv_timeout(Duration::from_secs(10)).unwrap());
            }
            assert_eq!(got, want.as_bytes());
        };
        let mut file = File::create(&path).unwrap();
        file.write_all(b"one\n").unwrap();
        expect("one\n");
        file.write_all(b"two").unwrap();
        expect("two");
        theirs.write_all(b"until 10\n").unwrap();
        // It moved meanwhile: the open file is read on.
        std::fs::rename(&path, dir.0.join("moved")).unwrap();
        file.write_all(b"end").unwrap();
        expect("end");
        reader.join().unwrap().unwrap();
    }

    #[test]
    fn what_wrote_nothing_ends_at_once() {
        let dir = Dir::new("nothing");
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"until 0\n").unwrap();
        let t = Tail {
            path: dir.0.join("never"),
            follow: true,
            ..Tail::default()
        };
        copy(&t, ours.as_fd(), &mut |_| Ok(())).unwrap();
    }
}
