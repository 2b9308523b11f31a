//! Tells whoever started us that we are usable: systemd's datagram, or a line on a descriptor.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends a state to systemd, as `sd_notify(3)`; does nothing without `NOTIFY_SOCKET`.
pub(crate) fn systemd(socket: Option<&OsStr>, state: &str) -> io::Result<()> {
    let Some(name) = socket.map(OsStr::as_bytes).filter(|n| !n.is_empty()) else {
        return Ok(());
    };
    let to = match name.strip_prefix(b"@") {
        Some(abs) => SocketAddr::from_abstract_name(abs)?,
        None => SocketAddr::from_pathname(OsStr::from_bytes(name))?,
    };
    let s = UnixDatagram::unbound()?;
    s.set_nonblocking(true)?;
    s.send_to_addr(state.as_bytes(), &to).map(drop)
}

/// Writes the ready line on a descriptor given with `--ready-fd`, and closes it.
pub(crate) fn ready_fd(fd: OwnedFd) -> io::Result<()> {
    std::fs::File::from(fd).write_all(b"READY\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_datagram_arrives() {
        let dir = std::env::temp_dir().join(format!("queue-notify-{}", std::process::id()));
        let s = UnixDatagram::bind(&dir).unwrap();
        systemd(Some(dir.as_os_str()), "READY=1\n").unwrap();
        let mut buf = [0; 64];
        let n = s.recv(&mut buf).unwrap();
        std::fs::remove_file(&dir).unwrap();
        assert_eq!(&buf[..n], b"READY=1\n");
        systemd(None, "READY=1\n").unwrap();
    }
}
