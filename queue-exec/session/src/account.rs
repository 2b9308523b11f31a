//! The account: looked up here, in a process of its own, because a name service may be slow or hang; and
//! becoming it. This is all that the session does as root.

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, User};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;

/// What is known of the account.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: Vec<u8>,
    pub(crate) shell: Vec<u8>,
}

/// Asks the name service (NSS). May take as long as it likes: the caller has set an alarm.
///
/// # Errors
/// A line for people: no such account, or not allowed by the numbers.
pub(crate) fn look_up(login: &str, host: &str, uid_min: u32, allow_root: bool) -> Result<Account, String> {
    let user = match User::from_name(login) {
        Ok(Some(u)) => u,
        Ok(None) => return Err(format!("{host} has no account {login}")),
        Err(e) => return Err(format!("{host} could not look up account {login}: {}", e.desc())),
    };
    let uid = user.uid.as_raw();
    if uid == 0 && !allow_root {
        return Err(format!(
            "{host} does not let other hosts vouch for root; see queue-exec(8), `vouch`"
        ));
    }
    if uid != 0 && uid < uid_min {
        return Err(format!(
            "account {login} has uid {uid} on {host}, below uid-min {uid_min}: not an ordinary user; see queue-exec(8)"
        ));
    }
    let name = CString::new(login).map_err(|_| "account name with a NUL".to_owned())?;
    let groups = if Uid::effective().is_root() {
        nix::unistd::getgrouplist(&name, user.gid)
            .map_err(|e| format!("{host} could not look up the groups of {login}: {}", e.desc()))?
            .into_iter()
            .map(Gid::as_raw)
            .collect()
    } else {
        Vec::new()
    };
    Ok(Account {
        name: user.name,
        uid,
        gid: user.gid.as_raw(),
        groups,
        home: user.dir.as_os_str().as_bytes().to_vec(),
        shell: if user.shell.as_os_str().is_empty() {
            b"/bin/sh".to_vec()
        } else {
            user.shell.as_os_str().as_bytes().to_vec()
        },
    })
}

/// Makes this process the user's for good.
///
/// # Errors
/// As the system calls; in a single-user install, `EPERM` for anybody but the owner.
pub(crate) fn become_user(a: &Account) -> Result<(), Errno> {
    if !Uid::effective().is_root() {
        return if Uid::effective().as_raw() == a.uid {
            Ok(())
        } else {
            Err(Errno::EPERM)
        };
    }
    let groups: Vec<Gid> = a.groups.iter().map(|g| Gid::from_raw(*g)).collect();
    let (uid, gid) = (Uid::from_raw(a.uid), Gid::from_raw(a.gid));
    nix::unistd::setgroups(&groups)?;
    nix::unistd::setresgid(gid, gid, gid)?;
    nix::unistd::setresuid(uid, uid, uid)?;
    if !uid.is_root() && nix::unistd::setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok()
    {
        return Err(Errno::EPERM);
    }
    Ok(())
}
