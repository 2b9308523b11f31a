//! `queue-exec`: the only program of Queue that runs as root. A monitor with one loop that never blocks: it
//! signs tickets for local users, verifies those of other hosts, and starts session processes. Nobody types
//! it; `queued` or systemd starts it.

mod monitor;

use monitor::{Options, log};
use queue_exec::layout::Layout;
use queue_exec::policy::Policy;
use queue_exec::takeover::{self, Inherited};
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
Usage: queue-exec [OPTIONS]
The privileged helper of queued; started by queued or by systemd.

  --user              serve the user who runs it, and nobody else (the default if not root)
  --state DIR         /var/lib/queue
  --run DIR           /run/queue
  --config DIR        /etc/queue
  --ready-fd N        write READY and a newline to descriptor N when usable
  --lookup PROGRAM    look names of uids up with PROGRAM --print-user UID, accounts with --print-account NAME
  --print-user UID    print the name of a uid, and exit
  --print-account NAME
                      print the uid and the groups of an account, and exit
  --check             say whether it could start, or what is wrong with the policy and the session program
  --help, --version
";

enum Command {
    Run(Options),
    PrintUser(u32),
    PrintAccount(String),
    Say(String),
    Check(Layout),
}

fn main() -> ExitCode {
    match parse(std::env::args_os().skip(1)) {
        Ok(Command::PrintUser(uid)) => ExitCode::from(monitor::print_user(uid) as u8),
        Ok(Command::PrintAccount(name)) => ExitCode::from(monitor::print_account(&name) as u8),
        Ok(Command::Say(text)) => ExitCode::from(u8::from(io::stdout().write_all(text.as_bytes()).is_err())),
        Ok(Command::Check(layout)) => match check(&layout) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                log!("{e}");
                ExitCode::FAILURE
            }
        },
        Ok(Command::Run(options)) => match monitor::run(options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                log!("{e}");
                ExitCode::FAILURE
            }
        },
        Err(e) => {
            log!("{e}");
            ExitCode::from(2)
        }
    }
}

fn parse(args: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let mut args = args;
    let root = nix::unistd::geteuid().is_root();
    let (mut user, mut ready, mut lookup) = (!root, None, None);
    let (mut state, mut run, mut config) = (None, None, None);
    let (mut checks, mut inherited) = (false, None);
    while let Some(arg) = args.next() {
        let name = arg.to_string_lossy().into_owned();
        let mut value = || args.next().ok_or_else(|| format!("{name} needs a value"));
        match name.as_str() {
            "--user" => user = true,
            "--state" => state = Some(directory(&name, value()?)?),
            "--run" => run = Some(directory(&name, value()?)?),
            "--config" => config = Some(directory(&name, value()?)?),
            "--lookup" => lookup = Some(value()?),
            "--ready-fd" => ready = Some(descriptor(&value()?)?),
            "--print-user" => {
                let v = value()?;
                let uid = v.to_str().and_then(|s| s.parse().ok());
                return uid
                    .map(Command::PrintUser)
                    .ok_or_else(|| "--print-user needs a number".to_owned());
            }
            "--print-account" => {
                return match value()?.into_string() {
                    Ok(name) => Ok(Command::PrintAccount(name)),
                    Err(_) => Err("--print-account needs a name".to_owned()),
                };
            }
            "--check" => checks = true,
            takeover::OPTION => {
                let note = Inherited::receive(&value()?.to_string_lossy());
                inherited = Some(note.map_err(|e| e.to_string())?);
            }
            "--help" => return Ok(Command::Say(USAGE.into())),
            "--version" => {
                return Ok(Command::Say(format!(
                    "queue-exec {}\n",
                    env!("CARGO_PKG_VERSION")
                )));
            }
            _ => return Err(format!("unknown option {name}: try --help")),
        }
    }
    let mut layout = Layout::for_daemon(!user);
    layout.state = state.unwrap_or(layout.state);
    layout.run = run.unwrap_or(layout.run);
    layout.config = config.unwrap_or(layout.config);
    if checks {
        return Ok(Command::Check(layout));
    }
    let notify = std::env::var_os("NOTIFY_SOCKET");
    Ok(Command::Run(Options {
        layout,
        single: user,
        ready_fd: ready,
        lookup,
        notify,
        inherited,
    }))
}

/// What keeps a start from coming to anything.
fn check(layout: &Layout) -> Result<(), String> {
    Policy::load(&layout.exec_conf()).map_err(|e| e.to_string())?;
    let exe = std::env::current_exe().map_err(|e| format!("/proc/self/exe: {e}"))?;
    let session = exe.with_file_name("queue-session");
    let told = std::process::Command::new(&session)
        .arg("--version")
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|e| format!("{}: {e}", session.display()))?;
    let text = String::from_utf8_lossy(&told.stdout);
    if !told.status.success() || !text.starts_with("queue-session ") {
        return Err(format!("{} does not start ({})", session.display(), told.status));
    }
    Ok(())
}

fn directory(name: &str, value: OsString) -> Result<PathBuf, String> {
    let p = PathBuf::from(value);
    if p.is_absolute() {
        Ok(p)
    } else {
        Err(format!("{name}: {} is not an absolute path", p.display()))
    }
}

fn descriptor(value: &OsString) -> Result<OwnedFd, String> {
    let n: RawFd = value
        .to_str()
        .and_then(|s| s.parse().ok())
        .filter(|n| *n > 2)
        .ok_or_else(|| "--ready-fd needs the number of a descriptor".to_owned())?;
    // SAFETY: only asks whether it is open, and closes it on exec.
    if unsafe { libc::fcntl(n, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(format!("--ready-fd: descriptor {n} is not open"));
    }
    // SAFETY: it is open, and whoever started us gave it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(n) })
}
