//! From the pipes of a job to its files, which are made with the first byte. Knows descriptors and files; not which
//! job they belong to, nor when it ends. Blocks where a file system does: whoever calls it while a command runs does
//! so in a thread of its own (`pump`), so that limits and signals do not wait for a file server.

use super::ends::Ends;
use super::home::create_spooled;
use libqueue::links;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// How large the pipe of a busy job becomes.
const BUSY_PIPE: libc::c_int = 1 << 20;
/// A read that brings less shows a pipe that is nearly empty.
const SMALL: u64 = 32 * 1024;
/// Reads of one pipe before the others, and the end, are looked at.
const ROUND: usize = 16;
/// A reader of a named pipe may let us wait so long, in milliseconds.
const SLOW_READER: u16 = 10_000;
/// Kept where the submission says nothing.
pub(crate) const DEFAULT_CAP: u64 = 1 << 30;

/// A file that output goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Where it is written.
    pub(crate) path: PathBuf,
    /// Where it belongs, if it is written to the spool.
    pub(crate) home: Option<Vec<u8>>,
    /// Written in front: which attempt this is.
    pub(crate) header: String,
    /// Permissions.
    pub(crate) mode: u32,
}

/// One pipe of the command.
struct Source {
    pipe: OwnedFd,
    sink: usize,
    open: bool,
    grown: bool,
}

/// One file.
struct Sink {
    target: Target,
    file: Option<File>,
    /// Bytes of the command in it.
    written: u64,
    /// Bytes that are not in it.
    dropped: u64,
    /// Why nothing more is written.
    failed: Option<String>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) head: Vec<u8>,
    pub(crate) tail: Vec<u8>,
    /// Bytes that the command wrote.
    pub(crate) total: u64,
    /// Bytes were dropped.
    pub(crate) cut: bool,
    /// For each target: whether there is a file with something in it.
    pub(crate) files: Vec<bool>,
    /// What went wrong, for people.
    pub(crate) lost: String,
}

/// All output of one run.
pub(crate) struct Output {
    sources: Vec<Source>,
    sinks: Vec<Sink>,
    ends: Ends,
    total: u64,
    kept: u64,
    cap: u64,
}

/// A pipe: the end that we read, without waiting, and the command's.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    libqueue::link::set_nonblocking(&ours)?;
    Ok((ours, theirs))
}

impl Output {
    /// From these pipes to these files, the same number of them.
    pub(crate) fn new(pipes: Vec<OwnedFd>, targets: Vec<Target>, cap: u64) -> Self {
        let source = |(sink, pipe)| Source {
            pipe,
            sink,
            open: true,
            grown: false,
        };
        let sink = |target| Sink {
            target,
            file: None,
            written: 0,
            dropped: 0,
            failed: None,
        };
        Self {
            sources: pipes.into_iter().enumerate().map(source).collect(),
            sinks: targets.into_iter().map(sink).collect(),
            ends: Ends::default(),
            total: 0,
            kept: 0,
            cap: if cap == 0 { DEFAULT_CAP } else { cap },
        }
    }

    /// For the poll: the pipes that somebody may still write to.
    pub(crate) fn pipes(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sources.iter().filter(|s| s.open).map(|s| s.pipe.as_fd())
    }

    /// A pipe has no writer any more and nothing in it: it is not looked at again.
    pub(crate) fn close_ended(&mut self) {
        for s in &mut self.sources {
            // In this order: who has gone writes nothing more.
            s.open = s.open && !(is_hung_up(&s.pipe) && left(&s.pipe) == 0);
        }
    }

    /// Whether all that was written was read.
    pub(crate) fn is_drained(&self) -> bool {
        self.sources.iter().all(|s| !s.open || left(&s.pipe) == 0)
    }

    /// Reads what is in each pipe, or much of it; `true` if that was much.
    pub(crate) fn round(&mut self, buf: &mut [u8]) -> bool {
        let start = self.total;
        for i in 0..self.sources.len() {
            for _ in 0..ROUND {
                let before = self.total;
                // Little more has come meanwhile than one write.
                if !self.read(i, buf) || self.total - before < SMALL {
                    break;
                }
            }
        }
        self.total - start >= SMALL
    }

    /// Reads what is left now: nobody who counts writes any more.
    pub(crate) fn rest(&mut self, buf: &mut [u8]) {
        for i in 0..self.sources.len() {
            let mut left = left(&self.sources[i].pipe);
            while left > 0 {
                let before = self.total;
                let n = left.min(buf.len());
                if !self.read(i, &mut buf[..n]) {
                    break;
                }
                left -= ((self.total - before) as usize).min(left);
            }
        }
    }

    /// One read; `false` if there is nothing now.
    fn read(&mut self, i: usize, buf: &mut [u8]) -> bool {
        let s = &mut self.sources[i];
        if !s.open {
            return false;
        }
        match nix::unistd::read(&s.pipe, buf) {
            Ok(0) => s.open = false,
            Ok(n) => {
                if n >= 1 << 16 && !s.grown {
                    s.grown = true;
                    // SAFETY: no memory is involved. A refusal (the user's quota of pipe pages) costs only speed.
                    unsafe { libc::fcntl(s.pipe.as_raw_fd(), libc::F_SETPIPE_SZ, BUSY_PIPE) };
                }
                let sink = s.sink;
                self.put(sink, &buf[..n]);
                return true;
            }
            Err(Errno::EINTR) => return true,
            Err(Errno::EAGAIN) => {}
            Err(_) => s.open = false,
        }
        false
    }

    fn put(&mut self, sink: usize, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        self.ends.take(bytes);
        let room = usize::try_from(self.cap - self.kept).unwrap_or(usize::MAX);
        let s = &mut self.sinks[sink];
        let n = s.write(&bytes[..bytes.len().min(room)]);
        s.dropped += (bytes.len() - n) as u64;
        self.kept += n as u64;
    }

    /// Nothing more comes: says in the files what is not in them.
    pub(crate) fn finish(mut self) -> Written {
        let cap = self.cap;
        for s in &mut self.sinks {
            s.note(cap);
        }
        let (head, tail) = self.ends.finish();
        Written {
            head,
            tail,
            total: self.total,
            cut: self.sinks.iter().any(|s| s.dropped > 0),
            files: self.sinks.iter().map(|s| s.written > 0).collect(),
            lost: self
                .sinks
                .iter_mut()
                .find_map(|s| s.failed.take())
                .unwrap_or_default(),
        }
    }
}

/// Bytes that wait in a pipe.
fn left(pipe: &OwnedFd) -> usize {
    let mut n: libc::c_int = 0;
    // SAFETY: valid pointer.
    unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut n) };
    usize::try_from(n).unwrap_or(0)
}

fn is_hung_up(pipe: &OwnedFd) -> bool {
    let mut p = [PollFd::new(pipe.as_fd(), PollFlags::empty())];
    poll(&mut p, PollTimeout::ZERO).is_ok() && p[0].revents().is_some_and(|r| r.contains(PollFlags::POLLHUP))
}

impl Sink {
    /// Writes; says how many bytes are in the file.
    fn write(&mut self, bytes: &[u8]) -> usize {
        if bytes.is_empty() || self.failed.is_some() {
            return 0;
        }
        if self.file.is_none() {
            let opened = self.open();
            match opened {
                Ok(f) => self.file = Some(f),
                Err(e) => {
                    self.fail(&e);
                    return 0;
                }
            }
            // In a file that has nothing of an earlier attempt it tells nothing.
            let first = self.target.home.is_none()
                && self
                    .file
                    .as_ref()
                    .is_some_and(|f| f.metadata().is_ok_and(|m| m.is_file() && m.len() == 0));
            let header = std::mem::take(&mut self.target.header);
            if !header.is_empty() && !first {
                self.put(header.as_bytes());
            }
        }
        let n = self.put(bytes);
        self.written += n as u64;
        n
    }

    fn open(&self) -> io::Result<File> {
        let t = &self.target;
        if let Some(home) = &t.home {
            return create_spooled(&t.path, home, t.mode);
        }
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(t.mode);
        // So that a named pipe without a reader is an error, and no trap.
        links::open(&t.path, &mut options, libc::O_NOCTTY | libc::O_NONBLOCK)
    }

    /// Writes as much as goes.
    fn put(&mut self, bytes: &[u8]) -> usize {
        let Some(file) = &self.file else { return 0 };
        let mut done = 0;
        while done < bytes.len() {
            match nix::unistd::write(file, &bytes[done..]) {
                Ok(n) => done += n,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    let mut p = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
                    if !poll(&mut p, PollTimeout::from(SLOW_READER)).is_ok_and(|n| n > 0) {
                        self.fail(&Errno::EAGAIN.into());
                        break;
                    }
                }
                Err(e) => {
                    self.fail(&e.into());
                    break;
                }
            }
        }
        done
    }

    fn fail(&mut self, e: &io::Error) {
        let path = self.target.path.display();
        let what = if self.written > 0 { "cut" } else { "lost" };
        let why = match e.raw_os_error() {
            Some(libc::ENOSPC) => "disk full".to_owned(),
            Some(libc::EDQUOT) => "disk quota used up".to_owned(),
            Some(n) => Errno::from_raw(n).desc().to_owned(),
            None => e.to_string(),
        };
        self.failed = Some(format!("output {what}: {why} at {path}"));
    }

    /// Says at the end of the file what is not in it.
    fn note(&mut self, cap: u64) {
        if self.dropped == 0 || self.file.is_none() {
            return;
        }
        let why = match &self.failed {
            Some(why) => why.clone(),
            None => format!("at most {} are kept", super::outcome::size(cap)),
        };
        let note = format!(
            "\n--- {} bytes more were written and dropped: {why} ---\n",
            self.dropped
        );
        // There may be room again. If not, the outcome says the same.
        let failed = self.failed.clone();
        self.put(note.as_bytes());
        self.failed = failed;
    }
}

/// Where a file is, as its path is made from what the user wrote: `%j %a %h %x %u %%`.
pub(crate) fn expand(template: &[u8], names: &Names<'_>) -> Vec<u8> {
    let mut path = Vec::with_capacity(template.len() + 8);
    let mut rest = template.iter().copied();
    // A name is one part of a path, whatever is in it.
    let part = |s: &str| s.replace('/', "_").into_bytes();
    while let Some(b) = rest.next() {
        if b != b'%' {
            path.push(b);
            continue;
        }
        match rest.next() {
            Some(b'j') => path.extend(names.job.to_string().into_bytes()),
            Some(b'a') => path.extend(names.task.to_string().into_bytes()),
            Some(b'h') => path.extend(part(names.host)),
            Some(b'x') => path.extend(part(names.name)),
            Some(b'u') => path.extend(part(names.user)),
            Some(b'%') => path.push(b'%'),
            // Not one of ours: as it was.
            other => path.extend([b'%'].into_iter().chain(other)),
        }
    }
    path
}

/// What may stand in the name of a file.
pub(crate) struct Names<'a> {
    pub(crate) job: u64,
    pub(crate) task: u32,
    pub(crate) host: &'a str,
    pub(crate) name: &'a str,
    pub(crate) user: &'a str,
}

/// A path below a directory, or as it is if it is absolute.
pub(crate) fn below(dir: &[u8], path: &[u8]) -> PathBuf {
    Path::new(OsStr::from_bytes(dir)).join(OsStr::from_bytes(path))
}
