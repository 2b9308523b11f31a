//! The thread that moves output while a command runs: a file server that hangs keeps nothing else from being done.

use super::output::Output;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Read and written at once.
const CHUNK: usize = 256 * 1024;

/// Wakes somebody who polls it.
struct Bell(OwnedFd);

impl Bell {
    fn new() -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = Errno::result(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the kernel just made it for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn ring(&self) {
        let _ = nix::unistd::write(&self.0, &1u64.to_ne_bytes());
    }

    fn quiet(&self) {
        let _ = nix::unistd::read(&self.0, &mut [0; 8]);
    }
}

/// The thread that moves output while a command runs.
pub(crate) struct Pump {
    work: Sender<Output>,
    back: Receiver<Output>,
    /// Readable once the thread gave something back.
    done: Arc<Bell>,
    stop: Arc<Bell>,
}

impl Pump {
    /// Starts it.
    pub(crate) fn start() -> io::Result<Self> {
        let (done, stop) = (Arc::new(Bell::new()?), Arc::new(Bell::new()?));
        let (work, work_there) = channel::<Output>();
        let (back_there, back) = channel();
        let (done_there, stop_there) = (done.clone(), stop.clone());
        std::thread::Builder::new()
            .name("output".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || {
                let mut buf = vec![0; CHUNK];
                while let Ok(mut output) = work_there.recv() {
                    pump(&mut output, &stop_there, &mut buf);
                    if back_there.send(output).is_err() {
                        break;
                    }
                    done_there.ring();
                }
            })?;
        Ok(Self {
            work,
            back,
            done,
            stop,
        })
    }

    /// Hands over what is to be moved; gives it back if the thread is gone.
    pub(crate) fn give(&self, output: Output) -> Option<Output> {
        self.work.send(output).err().map(|e| e.0)
    }

    /// For the poll: it is given back.
    pub(crate) fn done(&self) -> BorrowedFd<'_> {
        self.done.0.as_fd()
    }

    /// The command is gone: move what is left, and give it back.
    pub(crate) fn stop(&self) {
        self.stop.ring();
    }

    /// What was given back.
    pub(crate) fn take(&self) -> Option<Output> {
        self.done.quiet();
        self.back.try_recv().ok()
    }
}

/// Moves output until it is told to stop.
fn pump(output: &mut Output, stop: &Bell, buf: &mut [u8]) {
    loop {
        let busy = output.round(buf);
        let mut fds = vec![PollFd::new(stop.0.as_fd(), PollFlags::POLLIN)];
        // A busy writer fills the pipe meanwhile: fewer and larger reads and writes.
        let timeout = if busy {
            PollTimeout::from(1u8)
        } else {
            PollTimeout::NONE
        };
        if !busy {
            fds.extend(output.pipes().map(|p| PollFd::new(p, PollFlags::POLLIN)));
        }
        if poll(&mut fds, timeout).is_err() {
            continue;
        }
        if fds[0].any() == Some(true) {
            drop(fds);
            stop.quiet();
            output.rest(buf);
            return;
        }
    }
}
