//! What of this process goes along, so that the remote one is like a child of our shell: environment,
//! directory, umask, nice value, limits, signals, terminal. Reads it from the kernel and writes it down as a
//! [`wire::Launch`].

use crate::forms::{Run, What};
use crate::messages::Failure;
use crate::plan::{self, Facts, PtyFor};
use crate::signals::Inherited;
use crate::sys;
use libqueue::wire;
use nix::libc;
use nix::sys::stat::{FileStat, Mode, stat, umask};
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

/// Number of resource limits that Linux has.
pub(crate) const LIMITS: u32 = 16;
/// The kernel's size of `c_cc`, which is smaller than the C library's.
const NCCS: usize = 19;

/// Looks at the standard descriptors.
pub fn facts() -> Facts {
    let tty = [0, 1, 2].map(|n| nix::unistd::isatty(sys::stdio(n)).unwrap_or(false));
    Facts {
        tty,
        foreground: tty[0] && crate::terminal::in_foreground(),
    }
}

/// The message that describes the command.
///
/// # Errors
/// If the working directory cannot be named.
pub fn launch(run: &Run, pty: Option<PtyFor>, inherited: Inherited) -> Result<wire::Launch, Failure> {
    let rsh = matches!(run.what, What::Rsh(_));
    let bytes = |v: &[std::ffi::OsString]| v.iter().map(|w| w.as_bytes().to_vec()).collect();
    let mut env = sys::environ();
    if rsh {
        env.retain(|e| plan::goes_along(e, &run.send_env));
        env.extend(run.set_env.iter().map(|e| e.as_bytes().to_vec()));
    }
    Ok(wire::Launch {
        form: plan::form(&run.what) as i32,
        argv: match &run.what {
            What::Launch(v) | What::Shell(v) => bytes(v),
            What::Rsh(c) => c.iter().map(|c| c.as_bytes().to_vec()).collect(),
        },
        env,
        cwd: if rsh { Vec::new() } else { directory()? },
        umask: (!rsh).then(own_umask),
        nice: sys::nice(),
        rlimits: (0..LIMITS)
            .filter_map(|resource| {
                sys::rlimit(resource).map(|(soft, hard)| wire::Rlimit { resource, soft, hard })
            })
            .collect(),
        ignored: inherited.ignored,
        blocked: inherited.blocked,
        pty: pty.map(terminal),
        no_stdin: run.no_stdin || is_dev_null(0),
        leave: plan::leave(run),
        submit_host: nix::sys::utsname::uname()
            .map(|u| u.nodename().to_string_lossy().into_owned())
            .unwrap_or_default(),
        // With 0 the session ends with its connection, and nothing is kept.
        resume: std::env::var_os("QUEUE_RESUME").is_none_or(|v| v != "0"),
        ..wire::Launch::default()
    })
}

/// The shell's name of the working directory if it is right, so that symbolic links keep their names; else the
/// kernel's.
pub(crate) fn directory() -> Result<Vec<u8>, Failure> {
    if let Some(pwd) = std::env::var_os("PWD") {
        let same = |a: &FileStat, b: &FileStat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
        let plain = Path::new(&pwd).is_absolute()
            && !pwd
                .as_bytes()
                .split(|b| *b == b'/')
                .any(|part| part == b"." || part == b"..");
        if plain && matches!((stat(Path::new(&pwd)), stat(".")), (Ok(a), Ok(b)) if same(&a, &b)) {
            return Ok(pwd.into_vec());
        }
    }
    let cwd = nix::unistd::getcwd().map_err(|e| {
        Failure::own(format!(
            "the working directory has no name any more ({}): cd to one that is there",
            e.desc()
        ))
    })?;
    Ok(cwd.into_os_string().into_vec())
}

/// The kernel tells a process its umask only by replacing it; there is one thread, so nobody sees the gap.
pub(crate) fn own_umask() -> u32 {
    let old = umask(Mode::empty());
    umask(old);
    old.bits()
}

fn terminal(pty: PtyFor) -> wire::Pty {
    // The first terminal among the descriptors that it stands for.
    let model = (0..3).find(|n| nix::unistd::isatty(sys::stdio(*n)).unwrap_or(false));
    let modes = model.and_then(|n| sys::modes(sys::stdio(n))).map(|t| {
        let t = plan::original(&t);
        // Without its keyboard, our terminal keeps its modes and does its own line ends.
        let oflag = if pty.fds[0] || !pty.fds[1] {
            t.c_oflag
        } else {
            t.c_oflag & !libc::OPOST
        };
        wire::Termios {
            iflag: t.c_iflag,
            oflag,
            cflag: t.c_cflag,
            lflag: t.c_lflag,
            cc: t.c_cc[..NCCS.min(t.c_cc.len())].to_vec(),
        }
    });
    let [stdin, stdout, stderr] = pty.fds;
    wire::Pty {
        stdin,
        stdout,
        stderr,
        modes,
        size: crate::terminal::size(),
    }
}

/// Whether a descriptor is `/dev/null`, which need not be read over the network.
fn is_dev_null(n: usize) -> bool {
    nix::sys::stat::fstat(sys::stdio(n))
        .is_ok_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFCHR && s.st_rdev == libc::makedev(1, 3))
}

/// Whether the job server of a make is live here (see [`crate::jobserver`]).
pub fn has_job_server(args: &[std::ffi::OsString]) -> bool {
    crate::jobserver::is_live(
        std::env::var_os("MAKEFLAGS").as_deref(),
        args,
        sys::is_open,
        |p: &OsStr| Path::new(p).exists(),
    )
}
