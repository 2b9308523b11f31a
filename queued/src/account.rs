//! The system user `queue`: making it, and becoming it for good. Used before any thread exists.

use anyhow::{Context as _, bail};
use nix::unistd::{Gid, Uid, User, setgroups, setresgid, setresuid};
use queue_exec::layout::DAEMON_USER;
use std::process::{Command, Stdio};

/// The account, or `None` if there is none.
///
/// # Errors
/// If the name service failed.
pub(crate) fn find() -> anyhow::Result<Option<User>> {
    User::from_name(DAEMON_USER).with_context(|| format!("cannot look up the system user '{DAEMON_USER}'"))
}

/// The account; made if it is not there (packages make it when they are installed).
///
/// # Errors
/// If no program that could make it succeeded.
pub(crate) fn ensure() -> anyhow::Result<User> {
    if let Some(u) = find()? {
        return Ok(u);
    }
    // shadow, Debian's adduser, busybox: whichever is there.
    let attempts: [(&str, &[&str]); 3] = [
        (
            "useradd",
            &[
                "--system",
                "--user-group",
                "--no-create-home",
                "--home-dir",
                "/var/lib/queue",
                "--shell",
                "/usr/sbin/nologin",
                DAEMON_USER,
            ],
        ),
        (
            "adduser",
            &[
                "--system",
                "--group",
                "--no-create-home",
                "--home",
                "/var/lib/queue",
                DAEMON_USER,
            ],
        ),
        (
            "adduser",
            &["-S", "-D", "-H", "-h", "/var/lib/queue", DAEMON_USER],
        ),
    ];
    let mut said = Vec::new();
    for (program, args) in attempts {
        let dirs = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"];
        let Some(path) = dirs
            .iter()
            .map(|d| format!("{d}/{program}"))
            .find(|p| std::path::Path::new(p).exists())
        else {
            continue;
        };
        let out = Command::new(&path).args(args).stdin(Stdio::null()).output();
        if let Some(u) = find()? {
            return Ok(u);
        }
        match out {
            Ok(o) => said.push(format!("{path}: {}", String::from_utf8_lossy(&o.stderr).trim())),
            Err(e) => said.push(format!("{path}: {e}")),
        }
    }
    bail!(
        "there is no system user '{DAEMON_USER}' and it could not be made ({}): make it by hand, e.g. useradd --system {DAEMON_USER}",
        if said.is_empty() {
            "no useradd or adduser here".to_owned()
        } else {
            said.join("; ")
        }
    )
}

/// Becomes that user, with its group alone, and makes sure that there is no way back.
///
/// # Errors
/// As the system calls; the process must then end.
pub(crate) fn become_user(user: &User) -> anyhow::Result<()> {
    setgroups(&[user.gid]).context("cannot drop root's groups")?;
    setresgid(user.gid, user.gid, user.gid).context("cannot change the group")?;
    setresuid(user.uid, user.uid, user.uid).context("cannot change the user")?;
    let root = Uid::from_raw(0);
    if user.uid.is_root()
        || setresuid(root, root, root).is_ok()
        || nix::unistd::setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0)).is_ok()
    {
        bail!(
            "user '{DAEMON_USER}' (uid {}) could become root again: refusing to run",
            user.uid
        );
    }
    Ok(())
}

/// Whether we run as that user already (a service manager did it).
pub(crate) fn is_daemon_user() -> bool {
    let uid = nix::unistd::geteuid();
    !uid.is_root() && find().ok().flatten().is_some_and(|u| u.uid == uid)
}
