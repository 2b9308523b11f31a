//! The init process itself: one poll loop between the session, the command and the orphans of its tree.

use crate::{FromInit, HEAD, MESSAGE_MAX, Spec, Stage, ToInit, command, tree};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::io::{IoSliceMut, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, IntoRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

/// What is known of the command.
enum Command {
    /// None yet.
    None,
    /// Executed.
    Running { pid: i32 },
    /// Its status was reported, or it could not be executed.
    Ended,
}

struct Init {
    session: UnixStream,
    command: Command,
    told_empty: bool,
    cpu_us: u64,
    maxrss_kib: u64,
    /// Messages that go out together, before we sleep.
    out: Vec<u8>,
    /// For the children.
    stack: command::Stack,
}

/// Becomes the init process of a session, in a process that was forked for it, has one thread and holds no
/// secret; returns when the session is over. Every descriptor but the session's and standard error is closed.
#[must_use]
pub fn run(session: OwnedFd) -> ExitCode {
    let Ok(session) = alone(session) else {
        return ExitCode::FAILURE;
    };
    if SigSet::all().thread_block().is_err() {
        return ExitCode::FAILURE;
    }
    // SAFETY: a new session for us alone, and orphans of our tree come to us instead of to PID 1. The name is
    // what `ps` shows.
    unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_NAME, c"queue-init".as_ptr());
    }
    let mut init = Init {
        session: UnixStream::from(session),
        command: Command::None,
        told_empty: false,
        cpu_us: 0,
        maxrss_kib: 0,
        out: Vec::new(),
        stack: command::Stack::default(),
    };
    command::defaults();
    match init.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Lets go of all descriptors of the process that forked us.
fn alone(session: OwnedFd) -> Result<OwnedFd, Errno> {
    let fd = session.into_raw_fd();
    // SAFETY: whoever owned them was left behind with the fork; `fd` is ours and moves to 3.
    unsafe {
        if fd != 3 {
            Errno::result(libc::dup3(fd, 3, libc::O_CLOEXEC))?;
        }
        libc::syscall(libc::SYS_close_range, 4, libc::c_uint::MAX, 0);
        Ok(OwnedFd::from_raw_fd(3))
    }
}

impl Init {
    fn run(&mut self) -> std::io::Result<()> {
        let mut children = SigSet::empty();
        children.add(nix::sys::signal::SIGCHLD);
        let signals = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        loop {
            let mut fds = [
                PollFd::new(self.session.as_fd(), PollFlags::POLLIN),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
            let ready = fds.map(|f| f.any() == Some(true));
            if ready[1] {
                // There is never more than one of a kind; should one come meanwhile, the poll says so.
                signals.read_signal()?;
                self.reap();
            }
            if ready[0] && !self.message()? {
                self.flush();
                return Ok(());
            }
            self.flush();
        }
    }

    fn tell(&mut self, m: FromInit) {
        self.out.extend_from_slice(&m.encode());
    }

    fn flush(&mut self) {
        if !self.out.is_empty() {
            // A session that is gone is noticed by its end of file.
            let _ = self.session.write_all(&self.out);
            self.out.clear();
        }
    }

    /// One message of the session; `false`: we are done.
    fn message(&mut self) -> std::io::Result<bool> {
        let mut head = [0; HEAD];
        let Some(fds) = self.receive(&mut head)? else {
            // The session process is gone, and its monitor kills the tree if there is a cgroup. Else we do.
            self.orphaned();
            return Ok(false);
        };
        let len = u32::from_le_bytes(head) as usize;
        if len > MESSAGE_MAX {
            return Ok(false);
        }
        let mut payload = vec![0; len];
        self.session.read_exact(&mut payload)?;
        match ToInit::decode(&payload) {
            Ok(ToInit::Become { uid, gid, groups }) => {
                if let Err(e) = become_user(uid, gid, &groups) {
                    self.tell(FromInit::Failed {
                        stage: Stage::Become,
                        errno: e as i32,
                    });
                    return Ok(false);
                }
            }
            Ok(ToInit::Exec(spec)) => match <[OwnedFd; 3]>::try_from(fds) {
                Ok(stdio) => self.start(&spec, stdio),
                Err(_) => return Ok(false),
            },
            Ok(ToInit::SignalTree(signal)) => tree::signal(signal),
            Ok(ToInit::Leave) | Err(_) => return Ok(false),
        }
        Ok(true)
    }

    /// Fills `head`, with descriptors that came along; `None`: end of file.
    fn receive(&mut self, head: &mut [u8; HEAD]) -> std::io::Result<Option<Vec<OwnedFd>>> {
        let mut space = nix::cmsg_space!([std::os::fd::RawFd; 3]);
        let mut fds = Vec::new();
        let n = {
            let mut iov = [IoSliceMut::new(head)];
            let fd = self.session.as_raw_fd();
            let msg = match recvmsg::<()>(fd, &mut iov, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
                Ok(m) => m,
                Err(Errno::ECONNRESET) => return Ok(None),
                Err(e) => return Err(e.into()),
            };
            for c in msg.cmsgs()? {
                if let ControlMessageOwned::ScmRights(got) = c {
                    // SAFETY: the kernel just installed them for us.
                    fds.extend(got.into_iter().map(|f| unsafe { OwnedFd::from_raw_fd(f) }));
                }
            }
            msg.bytes
        };
        if n == 0 {
            return Ok(None);
        }
        self.session.read_exact(&mut head[n..])?;
        Ok(Some(fds))
    }

    fn start(&mut self, spec: &Spec, stdio: [OwnedFd; 3]) {
        (self.cpu_us, self.maxrss_kib) = (0, 0);
        match command::start(spec, stdio, &mut self.stack) {
            Ok(pid) => {
                self.command = Command::Running { pid };
                self.told_empty = false;
                self.tell(FromInit::Started { pid });
            }
            Err((stage, errno)) => {
                self.command = Command::Ended;
                // Its process was collected already: nothing is left to be told of.
                self.told_empty = true;
                self.tell(FromInit::Failed {
                    stage,
                    errno: errno as i32,
                });
            }
        }
    }

    fn ended(&mut self, status: i32) {
        self.command = Command::Ended;
        self.tell(FromInit::Exited {
            status,
            cpu_us: self.cpu_us,
            maxrss_kib: self.maxrss_kib,
        });
    }

    /// Takes every status there is.
    fn reap(&mut self) {
        loop {
            let mut status = 0;
            // SAFETY: an all-zero rusage is a valid value to be overwritten.
            let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
            let flags = libc::WNOHANG | libc::WUNTRACED | libc::WCONTINUED | libc::__WALL;
            // SAFETY: valid pointers.
            let pid = unsafe { libc::wait4(-1, &raw mut status, flags, &raw mut usage) };
            match pid {
                0 => return,
                -1 if Errno::last() == Errno::EINTR => continue,
                -1 => {
                    if !std::mem::replace(&mut self.told_empty, true) {
                        self.tell(FromInit::Empty {
                            cpu_us: self.cpu_us,
                            maxrss_kib: self.maxrss_kib,
                        });
                    }
                    return;
                }
                _ => {}
            }
            self.told_empty = false;
            let ended = libc::WIFEXITED(status) || libc::WIFSIGNALED(status);
            if ended {
                let us = |t: libc::timeval| t.tv_sec as u64 * 1_000_000 + t.tv_usec as u64;
                self.cpu_us += us(usage.ru_utime) + us(usage.ru_stime);
                self.maxrss_kib = self.maxrss_kib.max(usage.ru_maxrss as u64);
            }
            match self.command {
                Command::Running { pid: p } if p == pid && ended => self.ended(status),
                Command::Running { pid: p } if p == pid && libc::WIFSTOPPED(status) => {
                    self.tell(FromInit::Stopped {
                        signal: libc::WSTOPSIG(status),
                    });
                }
                Command::Running { pid: p } if p == pid => self.tell(FromInit::Continued),
                _ => {}
            }
        }
    }

    /// The session process has gone without a word: the tree must not outlive it.
    fn orphaned(&self) {
        for signal in [libc::SIGHUP, libc::SIGCONT, libc::SIGTERM] {
            tree::signal(signal);
        }
        for round in 0..40 {
            // SAFETY: valid arguments; reaps whatever has ended.
            while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG | libc::__WALL) } > 0 {}
            if !tree::any() {
                return;
            }
            if round >= 20 {
                tree::signal(libc::SIGKILL);
            }
            // Nothing else is left to be done by this process meanwhile.
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}

/// Takes on the user's identity for good.
fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: plain system calls with a valid pointer and length.
    unsafe {
        Errno::result(libc::setgroups(groups.len(), groups.as_ptr()))?;
        Errno::result(libc::setresgid(gid, gid, gid))?;
        Errno::result(libc::setresuid(uid, uid, uid))?;
        // There must be no way back.
        if uid != 0 && libc::setresuid(0, 0, 0) == 0 {
            return Err(Errno::EPERM);
        }
    }
    Ok(())
}
