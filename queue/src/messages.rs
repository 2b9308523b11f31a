//! What this program says by itself: one line on standard error that names what failed, where, and what to do.

use crate::sys;
use libqueue::exit;
use libqueue::link::LinkError;
pub use libqueue::text::printable;
use nix::errno::Errno;

/// Why nothing was run, or why we do not know how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which exit code.
    pub kind: Kind,
    /// One line without prefix; empty if it was said already.
    pub text: String,
}

/// Kinds of [`Failure`], each with its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Our own failure: 125, or 255 in the rsh form.
    Own,
    /// Our own failure in a form that is known to be rsh's, before the rest is known.
    OwnRsh,
    /// Our own failure: there is no such host.
    NoSuchHost,
    /// Found but not executable: 126.
    NotExecutable,
    /// Not found: 127.
    NotFound,
}

impl Failure {
    /// Our own failure.
    pub fn own(text: impl Into<String>) -> Self {
        Self {
            kind: Kind::Own,
            text: text.into(),
        }
    }

    /// Something that the interface has and this version has not.
    pub fn not_yet(what: &str) -> Self {
        Self::own(format!(
            "{what} is not in this version yet (`queue --help` lists what is)"
        ))
    }

    /// The same failure with the exit code of the rsh form.
    #[must_use]
    pub fn in_rsh(mut self) -> Self {
        if matches!(self.kind, Kind::Own | Kind::NoSuchHost) {
            self.kind = Kind::OwnRsh;
        }
        self
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        match self.kind {
            Kind::Own | Kind::NoSuchHost => exit::FAILED,
            Kind::OwnRsh => exit::RSH_FAILED,
            Kind::NotExecutable => exit::NOT_EXECUTABLE,
            Kind::NotFound => exit::NOT_FOUND,
        }
    }
}

/// An error of the system in its own words, without Rust's number behind it.
pub fn reason(e: &std::io::Error) -> String {
    e.raw_os_error()
        .map_or_else(|| e.to_string(), |n| Errno::from_raw(n).desc().to_owned())
}

/// Why a connection failed, in words.
pub fn link_reason(e: &LinkError) -> String {
    match e {
        LinkError::Io(e) if e.raw_os_error().is_some() => reason(e),
        e => e.to_string(),
    }
}

/// Writes one line to standard error, whole, with our prefix. `raw`: the terminal needs its carriage return.
/// Nothing can be done if that fails.
pub fn say(text: &str, raw: bool) {
    let line = format!("queue: {}{}\n", printable(text), if raw { "\r" } else { "" });
    write_all(2, line.as_bytes());
}

/// Writes to standard output or error, waiting as long as it takes.
pub fn write_all(n: usize, mut data: &[u8]) {
    while !data.is_empty() {
        match nix::unistd::write(sys::stdio(n), data) {
            Ok(0) => return,
            Ok(k) => data = &data[k..],
            Err(Errno::EINTR) => {}
            // Somebody else made it non-blocking.
            Err(Errno::EAGAIN) => {
                let mut fd = [nix::libc::pollfd {
                    fd: n as i32,
                    events: nix::libc::POLLOUT,
                    revents: 0,
                }];
                let _ = sys::poll(&mut fd, 1000);
            }
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_drive_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\x07\u{9b}c\nd\n"), "a\\x1b[2Jb\\x07\\x9bc d");
        assert_eq!(printable("grüße \u{202e}x"), "grüße \\u{202e}x");
    }

    #[test]
    fn exit_codes() {
        assert_eq!(Failure::own("x").code(), 125);
        assert_eq!(Failure::own("x").in_rsh().code(), 255);
        assert_eq!(
            Failure {
                kind: Kind::NotFound,
                text: String::new()
            }
            .in_rsh()
            .code(),
            127
        );
    }
}
