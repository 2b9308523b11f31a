//! Whether a make has handed us its job server: then the command is a make itself and runs here, because the
//! descriptors cannot travel and `-j` would lose its meaning. Pure but for one question about descriptors.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

/// Decides for the shell form. `is_open` tells whether a descriptor is open here.
pub fn is_live(
    makeflags: Option<&OsStr>,
    args: &[OsString],
    is_open: impl Fn(i32) -> bool,
    exists: impl Fn(&OsStr) -> bool,
) -> bool {
    let Some(flags) = makeflags else { return false };
    // The last one counts: make appends one that is invalid for recipes that are no make.
    let Some(auth) = flags
        .as_bytes()
        .split(|b| *b == b' ')
        .filter_map(|w| {
            w.strip_prefix(b"--jobserver-auth=")
                .or_else(|| w.strip_prefix(b"--jobserver-fds="))
        })
        .next_back()
    else {
        return false;
    };
    if let Some(path) = auth.strip_prefix(b"fifo:") {
        // Since GNU make 4.4 every recipe gets the name of the fifo, not only those which are a make.
        return exists(OsStr::from_bytes(path)) && args.iter().any(|a| calls_make(a.as_bytes()));
    }
    let mut fds = auth
        .split(|b| *b == b',')
        .map(|n| std::str::from_utf8(n).ok()?.parse::<i32>().ok());
    matches!((fds.next(), fds.next()), (Some(Some(r)), Some(Some(w))) if r >= 0 && w >= 0 && is_open(r) && is_open(w))
}

/// Whether a command line has a word that is a make's name.
fn calls_make(line: &[u8]) -> bool {
    line.split(|b| b.is_ascii_whitespace() || b";&|()\"'`".contains(b))
        .any(|w| {
            matches!(
                w.rsplit(|b| *b == b'/').next(),
                Some(b"make" | b"gmake" | b"$MAKE" | b"${MAKE}")
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_live_job_server_counts() {
        let live = |flags: &str, line: &str, open: &[i32]| {
            let args = ["-c".into(), line.into()];
            is_live(
                Some(OsStr::new(flags)),
                &args,
                |fd| open.contains(&fd),
                |p| p == "/tmp/GMfifo1",
            )
        };
        assert!(live(" -j8 --jobserver-auth=3,4", "x", &[3, 4]));
        assert!(live("w --jobserver-fds=3,4 -j", "x", &[3, 4]));
        assert!(!live(" -j8 --jobserver-auth=3,4", "x", &[3]));
        assert!(!live(
            " -j8 --jobserver-auth=3,4 --jobserver-auth=-2,-2",
            "x",
            &[3, 4]
        ));
        assert!(!live("k", "make", &[3, 4]));
        assert!(!live(" --jobserver-auth=3", "make", &[3, 4]));
        assert!(live(
            " -j8 --jobserver-auth=fifo:/tmp/GMfifo1",
            "cd sub && /usr/bin/make all",
            &[]
        ));
        assert!(!live(
            " -j8 --jobserver-auth=fifo:/tmp/GMfifo1",
            "gcc -o remake x.c",
            &[]
        ));
        assert!(!live(" -j8 --jobserver-auth=fifo:/tmp/gone", "make", &[]));
        assert!(!is_live(None, &[], |_| true, |_| true));
    }
}
