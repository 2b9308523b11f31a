//! PAM account and session (service `queue`). The session has to be closed by root after the user's last
//! process, so a small root process keeps it open: it sees the end on a pipe, closes, and exits.

use nix::errno::Errno;
use nix::unistd::{ForkResult, fork, pipe2};
use pam_client2::{Context, ConversationHandler, ErrorCode, Flag};
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

/// Name of the service: `/etc/pam.d/queue`.
const SERVICE: &str = "queue";
/// How long the closing may take before we go without it, in milliseconds.
const CLOSE_LIMIT: libc::c_int = 5000;

/// The process that closes the PAM session.
pub(crate) struct Holder {
    /// Its end tells the process that the session is over.
    open: OwnedFd,
    pid: libc::pid_t,
}

/// Nobody is there to be asked; what the modules say is kept for the error.
#[derive(Default)]
struct Said(Vec<String>);

impl ConversationHandler for Said {
    fn prompt_echo_on(&mut self, _: &CStr) -> Result<CString, ErrorCode> {
        Err(ErrorCode::CONV_ERR)
    }

    fn prompt_echo_off(&mut self, _: &CStr) -> Result<CString, ErrorCode> {
        Err(ErrorCode::CONV_ERR)
    }

    fn text_info(&mut self, msg: &CStr) {
        self.0.push(msg.to_string_lossy().into_owned());
    }

    fn error_msg(&mut self, msg: &CStr) {
        self.0.push(msg.to_string_lossy().into_owned());
    }
}

/// Asks whether the account may be used now, and opens a session for it. Gives the environment that the
/// modules made.
///
/// # Errors
/// What PAM said, in one line.
pub(crate) fn open(login: &str, ruser: &str, rhost: &str) -> Result<(Holder, Vec<Vec<u8>>), String> {
    let mut pam = Context::new(SERVICE, Some(login), Said::default()).map_err(|e| e.to_string())?;
    let items = pam
        .set_ruser(Some(ruser))
        .and_then(|()| pam.set_rhost(Some(rhost)))
        .and_then(|()| pam.set_tty(Some(SERVICE)));
    items.map_err(|e| e.to_string())?;
    if let Err(e) = pam.acct_mgmt(Flag::NONE) {
        return Err(
            [vec![e.to_string()], std::mem::take(&mut pam.conversation_mut().0)]
                .concat()
                .join("; "),
        );
    }
    let session = pam.open_session(Flag::NONE).map_err(|e| e.to_string())?;
    let env = session
        .envlist()
        .iter_tuples()
        .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
        .collect();
    let (over, open) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| e.desc().to_owned())?;
    // SAFETY: we have one thread; the child only waits and closes the PAM session.
    match unsafe { fork() }.map_err(|e| e.desc().to_owned())? {
        ForkResult::Child => {
            keep_only(over);
            drop(session);
            drop(pam);
            // SAFETY: nothing of the parent's may be run or flushed twice.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            // It is the child's to close.
            let _ = session.leak();
            std::mem::forget(pam);
            drop(over);
            Ok((
                Holder {
                    open,
                    pid: child.as_raw(),
                },
                env,
            ))
        }
    }
}

/// Lets go of everything but the pipe, and waits for its end. Signals that users' programs send about do not
/// matter: this is root's process.
fn keep_only(over: OwnedFd) {
    let fd = over.as_raw_fd();
    std::mem::forget(over);
    // SAFETY: the descriptors of a forked process that will use none but `fd`, which is moved to 0.
    unsafe {
        libc::dup2(fd, 0);
        libc::syscall(libc::SYS_close_range, 1, libc::c_uint::MAX, 0);
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
        let mut byte = 0u8;
        while libc::read(0, (&raw mut byte).cast(), 1) == -1 && Errno::last() == Errno::EINTR {}
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const all, std::ptr::null_mut());
    }
}

/// Has the PAM session closed, and waits for that as long as is reasonable.
pub(crate) fn close(holder: Option<Holder>) {
    let Some(Holder { open, pid }) = holder else {
        return;
    };
    drop(open);
    // SAFETY: our own child, whose number cannot be reused before it is waited for.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0) as libc::c_int;
        if fd >= 0 {
            let fd = OwnedFd::from_raw_fd(fd);
            let mut p = libc::pollfd {
                fd: fd.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            libc::poll(&raw mut p, 1, CLOSE_LIMIT);
        }
        libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG);
    }
}
