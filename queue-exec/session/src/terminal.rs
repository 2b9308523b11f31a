//! The command's terminal: opened as the user, so that its node is his (tmux, screen and gpg open it by name).

use libqueue::wire::{Pty, Termios, Winsize};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// A terminal that was made.
pub(crate) struct Terminal {
    pub(crate) master: OwnedFd,
    pub(crate) slave: OwnedFd,
    pub(crate) name: String,
    /// The character that stands for end of file.
    pub(crate) eof: u8,
}

/// Makes a terminal with the given modes and size.
pub(crate) fn open(pty: &Pty) -> io::Result<Terminal> {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname_r(&master)?;
    let slave: OwnedFd = nix::fcntl::open(
        name.as_str(),
        OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )?;
    // SAFETY: a PtyMaster is an owned descriptor; taking it over leaves nobody else to close it.
    let master = unsafe { OwnedFd::from_raw_fd(std::os::fd::IntoRawFd::into_raw_fd(master)) };
    let eof = modes(&slave, pty.modes.as_ref())?;
    if let Some(size) = pty.size {
        resize(&master, size);
    }
    Ok(Terminal {
        master,
        slave,
        name,
        eof,
    })
}

/// Sets the modes; gives the end-of-file character.
fn modes(slave: &OwnedFd, wanted: Option<&Termios>) -> io::Result<u8> {
    // SAFETY: an all-zero termios is a valid value to be overwritten; valid pointers throughout.
    unsafe {
        let mut t: libc::termios = std::mem::zeroed();
        Errno::result(libc::tcgetattr(slave.as_raw_fd(), &raw mut t))?;
        if let Some(w) = wanted {
            t.c_iflag = w.iflag;
            t.c_oflag = w.oflag;
            // The speed bits belong to the line here; keep what the kernel gave.
            t.c_cflag = (t.c_cflag & libc::CBAUD) | (w.cflag & !libc::CBAUD);
            t.c_lflag = w.lflag;
            for (have, want) in t.c_cc.iter_mut().zip(&w.cc) {
                *have = *want;
            }
            Errno::result(libc::tcsetattr(slave.as_raw_fd(), libc::TCSANOW, &raw const t))?;
        }
        Ok(t.c_cc[libc::VEOF])
    }
}

/// Sets the window size; the kernel tells the foreground group.
pub(crate) fn resize(master: &OwnedFd, size: Winsize) {
    let short = |v: u32| u16::try_from(v).unwrap_or(u16::MAX);
    let ws = libc::winsize {
        ws_row: short(size.rows),
        ws_col: short(size.cols),
        ws_xpixel: short(size.xpixel),
        ws_ypixel: short(size.ypixel),
    };
    // SAFETY: valid pointer.
    unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const ws) };
}

/// The group in the foreground of the terminal.
pub(crate) fn foreground(master: &OwnedFd) -> Option<i32> {
    let mut group: libc::pid_t = 0;
    // SAFETY: valid pointer.
    let ok = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPGRP, &raw mut group) } == 0;
    (ok && group > 1).then_some(group)
}

/// Lets the terminal send one of the signals that its keys send.
pub(crate) fn signal(master: &OwnedFd, signal: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSIG, signal) };
}
