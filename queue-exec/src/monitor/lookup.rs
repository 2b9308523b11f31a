//! One question to the name service, asked by a short-lived process: the service may be slow, or never answer,
//! and the monitor does not wait. Knows the process and its output; not what was asked.

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// A look-up that takes longer has failed.
pub(crate) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// A look-up under way.
#[derive(Debug)]
pub(crate) struct Lookup {
    child: Child,
    out: ChildStdout,
    text: Vec<u8>,
}

impl Lookup {
    /// Starts `program option value`, which prints the answer.
    pub(crate) fn start(program: &OsStr, option: &str, value: &str) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args([option, value])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let Some(out) = child.stdout.take() else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        nix::fcntl::fcntl(&out, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
        Ok(Self {
            child,
            out,
            text: Vec::new(),
        })
    }

    /// Where the answer will come from.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.out.as_fd()
    }

    /// Takes what it has printed; `true` if nothing more comes, or more than `max`.
    pub(crate) fn read(&mut self, max: usize) -> bool {
        let mut buf = [0; 4096];
        match self.out.read(&mut buf) {
            Ok(0) => true,
            Ok(n) => {
                self.text.extend_from_slice(&buf[..n]);
                self.text.len() > max
            }
            Err(e) => e.kind() != io::ErrorKind::WouldBlock && e.kind() != io::ErrorKind::Interrupted,
        }
    }

    /// Ends it: what it printed, and the process that has to be waited for.
    pub(crate) fn end(mut self) -> (Vec<u8>, Child) {
        let _ = self.child.kill();
        (self.text, self.child)
    }
}
