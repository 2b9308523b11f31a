//! Brings home what a job wrote on another host: has the installed front end fetch it, as the user. Knows how to
//! start that; nothing of how it fetches.

use super::home;
use crate::account::Account;
use libqueue::wire::job::Run;
use nix::errno::Errno;
use queue_exec::layout::Layout;
use queue_exec::protocol::FromRunner;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Exit code of what may go well later (`EX_TEMPFAIL`).
const TEMPORARY: i32 = 75;
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Fetches, and removes the file that the submission left.
pub(crate) fn deliver(job: u64, run: &Run, from: &str, account: &Account, socket: &str) -> FromRunner {
    home::forget(run);
    let answer = |failed: &str, hopeless: bool| FromRunner::Delivered {
        failed: failed.to_owned(),
        hopeless,
    };
    if from.is_empty() {
        return answer("", false);
    }
    let Some(queue) = front_end() else {
        return answer("the program queue is not installed beside queue-session", true);
    };
    let text = |b: &[u8]| OsStr::from_bytes(b).to_owned();
    let mut command = Command::new(queue);
    command
        .args(["admin", "fetch", &job.to_string(), from])
        .env_clear()
        .env("HOME", text(&account.home))
        .env("USER", &account.name)
        .env("LOGNAME", &account.name)
        .env("PATH", PATH)
        .env("LANG", "C.UTF-8")
        // It writes nowhere else, whatever the other host says.
        .env("QUEUE_FETCH_OUTPUT", text(&run.output))
        .env("QUEUE_FETCH_ERROR", text(&run.error))
        .current_dir(text(&run.cwd))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    // An installation that is not the system's is found by its sockets.
    if let Some(dir) = Path::new(socket).parent().filter(|d| *d != Layout::system().run) {
        command.env("QUEUE_SOCKET", dir.join("queued.sock"));
    }
    let umask = run.umask & 0o777;
    // SAFETY: only async-signal-safe calls. It ends with us.
    unsafe {
        command.pre_exec(move || {
            libc::umask(umask);
            Errno::result(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            Ok(())
        });
    }
    match command.output() {
        Ok(out) if out.status.success() => answer("", false),
        Ok(out) => {
            let said = String::from_utf8_lossy(&out.stderr);
            let last = said
                .lines()
                .rev()
                .find(|l| !l.trim().is_empty())
                .unwrap_or("it failed without a word");
            // Killed: by somebody who ends everything here.
            let again = out.status.code().is_none_or(|c| c == TEMPORARY);
            answer(&super::outcome::line(last), !again)
        }
        // The directory of the submission is gone, or not readable: trying again may help.
        Err(e) => answer(&format!("{}: {e}", super::start::show(&run.cwd)), false),
    }
}

/// The front end of this installation: in `bin` where we are in `lib/queue`, or beside us in a build.
fn front_end() -> Option<PathBuf> {
    let exe = std::fs::read_link("/proc/self/exe").ok()?;
    let dir = exe.parent()?;
    [dir.join("../../bin/queue"), dir.join("queue")]
        .into_iter()
        .find(|p| p.is_file())
}
