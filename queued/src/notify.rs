//! Tells the service manager how we are, as `sd_notify(3)` does; nothing where there is none.

use nix::time::{ClockId, clock_gettime};
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends a state such as `READY=1`. A manager that does not listen is its own problem.
pub(crate) fn tell(state: &str) {
    if let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|n| !n.is_empty()) {
        let _ = send(&name, state);
    }
}

/// Not usable for a moment: `READY=1` follows.
pub(crate) fn reloading() {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC);
    let usec = now.map_or(0, |t| t.tv_sec() * 1_000_000 + t.tv_nsec() / 1000);
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={usec}\n"));
}

fn send(name: &OsStr, state: &str) -> std::io::Result<()> {
    let to = match name.as_bytes().strip_prefix(b"@") {
        Some(hidden) => SocketAddr::from_abstract_name(hidden)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let s = UnixDatagram::unbound()?;
    s.set_nonblocking(true)?;
    s.send_to_addr(state.as_bytes(), &to)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrives_at_a_path_and_at_an_abstract_name() {
        let dir = std::env::temp_dir().join(format!("queued-notify-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("s");
        let hidden = format!("queued-notify-{}", std::process::id());
        let a = UnixDatagram::bind(&path).unwrap();
        let b = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&hidden).unwrap()).unwrap();
        for (s, name) in [
            (a, path.clone().into_os_string()),
            (b, format!("@{hidden}").into()),
        ] {
            send(&name, "READY=1").unwrap();
            let mut buf = [0; 32];
            assert_eq!(s.recv(&mut buf).unwrap(), 7);
            assert_eq!(&buf[..7], b"READY=1");
        }
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(send(path.as_os_str(), "x").is_err());
    }
}
