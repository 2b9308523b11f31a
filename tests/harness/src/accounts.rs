//! The users of the hosts, and look-ups in a host's own user files.
//!
//! - `alice` (2001) and `bob` (2002): the same on all hosts;
//! - `carol`: another uid on each host (2100+K), so that a uid sent over the wire is found out
//!   (the same, 2100, on all if homes are shared);
//! - each of them is, on host K, also in group `at-hK` (3000+K), so that groups sent over the wire are found out;
//! - no user or group `queue`, even if the machine has one: the product makes it.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// The ordinary users of each host.
pub const USERS: [&str; 3] = ["alice", "bob", "carol"];

/// The uid, and gid of the group of his own, of one of [`USERS`] on host `k`.
pub fn uid(user: &str, k: usize, shared_home: bool) -> u32 {
    match user {
        "alice" => 2001,
        "bob" => 2002,
        _ if shared_home => 2100,
        _ => 2100 + k as u32,
    }
}

/// The gid of the group `at-hK`.
pub fn host_gid(k: usize) -> u32 {
    3000 + k as u32
}

/// What a process needs to become a user.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
    pub(crate) shell: String,
}

impl Account {
    /// The account as the host's own files have it; `root` is the host's root directory.
    pub(crate) fn find(root: &Path, user: &str) -> Result<Self> {
        let passwd = fs::read_to_string(root.join("etc/passwd")).context("reading the host's /etc/passwd")?;
        let group = fs::read_to_string(root.join("etc/group")).context("reading the host's /etc/group")?;
        let mut account = None;
        for line in passwd.lines() {
            let f: Vec<&str> = line.split(':').collect();
            if let [name, _, uid, gid, _, home, shell] = f[..]
                && name == user
            {
                account = Some((uid.parse()?, gid.parse()?, home.to_owned(), shell.to_owned()));
            }
        }
        let Some((uid, gid, home, shell)) = account else {
            bail!("the host has no user {user}")
        };
        let mut groups = vec![gid];
        for line in group.lines() {
            let f: Vec<&str> = line.split(':').collect();
            if let [_, _, id, members] = f[..]
                && members.split(',').any(|m| m == user)
            {
                groups.push(id.parse()?);
            }
        }
        groups.dedup();
        Ok(Self {
            name: user.into(),
            uid,
            gid,
            groups,
            home,
            shell,
        })
    }

    /// The home directory for `chdir`.
    pub(crate) fn home_c(&self) -> Result<CString> {
        Ok(CString::new(self.home.as_str())?)
    }
}

/// Writes the files that tell host `k` of `n` who and where it is, into the directory that will be laid over
/// `/etc`, and makes the homes.
pub(crate) fn write(etc: &Path, home: &Path, k: usize, shared_home: bool) -> Result<()> {
    let shell = if Path::new("/bin/bash").exists() {
        "/bin/bash"
    } else {
        "/bin/sh"
    };
    let (mut passwd, mut group, mut shadow) = (String::new(), String::new(), String::new());
    let ours = |name: &str| USERS.contains(&name) || name == "queue";
    let ids: Vec<String> = USERS.iter().map(|u| uid(u, k, shared_home).to_string()).collect();
    let keep = |file: &str, into: &mut String| -> Result<()> {
        for line in fs::read_to_string(file)
            .with_context(|| format!("reading {file}"))?
            .lines()
        {
            let mut fields = line.split(':');
            let name = fields.next().unwrap_or_default();
            let id = fields.nth(1).unwrap_or_default();
            // The third field of the shadow file is no id.
            let taken = file != "/etc/shadow" && ids.iter().any(|i| i == id);
            if !ours(name) && !taken {
                into.push_str(line);
                into.push('\n');
            }
        }
        Ok(())
    };
    keep("/etc/passwd", &mut passwd)?;
    keep("/etc/group", &mut group)?;
    if Path::new("/etc/shadow").exists() {
        keep("/etc/shadow", &mut shadow)?;
    }
    for user in USERS {
        let id = uid(user, k, shared_home);
        passwd.push_str(&format!("{user}:x:{id}:{id}:{user}:/home/{user}:{shell}\n"));
        group.push_str(&format!("{user}:x:{id}:\n"));
        shadow.push_str(&format!("{user}:*:19000:0:99999:7:::\n"));
        let dir = home.join(user);
        if !dir.exists() {
            fs::create_dir(&dir)?;
            chown(&dir, Some(id), Some(id))?;
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        }
    }
    group.push_str(&format!("at-h{k}:x:{}:{}\n", host_gid(k), USERS.join(",")));
    for (name, text, mode) in [
        ("passwd", passwd, 0o644),
        ("group", group, 0o644),
        ("shadow", shadow, 0o640),
    ] {
        let file = etc.join(name);
        fs::write(&file, text)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}
