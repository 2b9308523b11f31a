//! Making a host's disk, and booting the host from it.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::enter::{self, Plan, Space};
use crate::process::Process;
use crate::{accounts, cgroup};

/// Directories that each host has for itself.
const DISK: [&str; 5] = ["etc", "var", "root", "home", "srv"];

/// What is known of a host before it runs.
pub(crate) struct Machine<'a> {
    pub(crate) cluster: &'a Path,
    pub(crate) number: u8,
    pub(crate) k: usize,
    pub(crate) hosts: usize,
    pub(crate) shared_home: bool,
    pub(crate) ephemeral: bool,
}

impl Machine<'_> {
    fn dir(&self) -> PathBuf {
        self.cluster.join(format!("h{}", self.k))
    }

    /// Makes the disk of a new host.
    pub(crate) fn make_disk(&self) -> Result<()> {
        let d = self.dir();
        for t in DISK {
            fs::create_dir_all(d.join("up").join(t))?;
            fs::create_dir_all(d.join("moving").join(t))?;
        }
        let mode = |p: &Path, m| fs::set_permissions(p, fs::Permissions::from_mode(m));
        mode(&d.join("up/root"), 0o700)?;
        let etc = d.join("up/etc");
        let homes = if self.shared_home {
            self.cluster.join("home")
        } else {
            d.join("up/home")
        };
        accounts::write(&etc, &homes, self.k, self.shared_home)?;
        fs::write(etc.join("hostname"), format!("h{}\n", self.k))?;
        let id: String = fs::read_to_string("/proc/sys/kernel/random/uuid")?.replace('-', "");
        fs::write(etc.join("machine-id"), id)?;
        // No name servers: a name that is not in /etc/hosts is unknown, at once.
        fs::write(etc.join("resolv.conf"), "")?;
        fs::create_dir_all(etc.join("profile.d"))?;
        let bin = self.cluster.join("prefix/bin");
        fs::write(
            etc.join("profile.d/queue-hosts.sh"),
            format!("PATH={}:$PATH\n", bin.display()),
        )?;
        // What root's shell reads on this machine (version managers and the like) is not the hosts' business.
        for f in [".bashrc", ".profile", ".bash_profile", ".bash_login"] {
            fs::write(d.join("up/root").join(f), "")?;
        }
        // An installation of the machine itself must not show through: a device 0/0 hides what is below.
        for p in ["etc/queue", "var/lib/queue"] {
            if Path::new("/").join(p).exists() {
                let at = d.join("up").join(p);
                fs::create_dir_all(at.parent().context("no parent")?)?;
                mknod(&at, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0))?;
            }
        }
        fs::write(d.join("loadavg"), crate::host::loadavg(0.0))?;
        Ok(())
    }

    /// Boots from the disk; the network is made afterwards. Returns PID 1.
    pub(crate) fn boot(&self) -> Result<Process> {
        let d = self.dir();
        let mut hosts = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost\n");
        for j in 1..=self.hosts {
            hosts.push_str(&format!("10.78.{}.{j} h{j}\n", self.number));
        }
        // While the host is down its disk is ours to write to.
        fs::write(d.join("up/etc/hosts"), hosts)?;
        match fs::remove_dir_all(d.join("tmp")) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e).context("emptying /tmp"),
            _ => fs::create_dir(d.join("tmp"))?,
        }
        fs::set_permissions(d.join("tmp"), fs::Permissions::from_mode(0o1777))?;
        let cgroup = cgroup::make(&d);
        let homes = if self.shared_home {
            self.cluster.join("home")
        } else {
            PathBuf::new()
        };
        let log = d.join("boot.log");
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", include_str!("boot.sh"), "boot"])
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("D", &d)
            .env("SHARED", self.cluster.join("shared"))
            .env("HOMES", homes)
            .env("CGROUP", if cgroup.is_some() { "1" } else { "" })
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?);
        let mut plan = Plan::new(Space::New(CString::new(format!("h{}", self.k))?));
        plan.cgroup = cgroup.as_deref().map(cgroup::door).transpose()?;
        plan.session = true;
        plan.mortal = self.ephemeral;
        enter::prepare(&mut command, plan);
        let mut child = enter::spawn_from_lasting_thread(command).with_context(|| {
            format!(
                "starting h{} (are all kinds of namespaces there and allowed?)",
                self.k
            )
        })?;
        let mut line = String::new();
        let out = child.stdout.take().context("no stdout")?;
        BufReader::new(out).read_line(&mut line)?;
        let pid = line
            .strip_prefix("ready ")
            .and_then(|p| p.trim().parse::<i32>().ok());
        // Somebody has to collect the stand-in when the host ends.
        std::thread::spawn(move || child.wait());
        let Some(pid) = pid else {
            bail!(
                "h{} did not boot: {}",
                self.k,
                fs::read_to_string(&log).unwrap_or_default().trim()
            );
        };
        Process::of(pid)
    }
}
