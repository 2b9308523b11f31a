//! The daemon's own room: its TLS key, what cluster it is in, the members it knows. Reads and writes files;
//! opens no connection and decides nothing. Nothing secret but the TLS key is here: the host key and the
//! authority's key lie in queue-exec's room, which only root reads.

use crate::engine::types::{Drain, Entry, Host, Revoked};
use crate::verify::Verifier;
use anyhow::{Context as _, bail};
use libqueue::frame;
use libqueue::tls::KeyPair;
use libqueue::wire::{Keys, RosterEntry};
use nix::unistd::{Gid, Uid, chown};
use prost::Message as _;
use queue_exec::cert::{HostCert, PublicKey, fingerprint};
use queue_exec::layout::Layout;
use queue_exec::state::{write_atomic, write_atomic_for};
use serde::Deserialize;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// TLS key, PKCS#8 DER.
pub(crate) const TLS_KEY: &str = "tls.key";
/// What [`Cluster`] says, as TOML.
pub(crate) const CLUSTER: &str = "cluster";
/// One file for each other member.
pub(crate) const MEMBERS: &str = "members";
/// The signed revocation list, if there is one.
pub(crate) const REVOKED: &str = "revoked";
/// The authority's public key.
pub(crate) const AUTHORITY_PUB: &str = "authority.pub";
/// The gossip keys, an encoded [`Keys`].
pub(crate) const KEYS: &str = "gossip.keys";
/// Which run of the daemon was the last one, in decimal.
pub(crate) const BOOT: &str = "boot";
/// There while this host is drained: seconds since the epoch, who, and why, a line each.
pub(crate) const DRAINED: &str = "drained";
/// This host's certificate.
pub(crate) const HOST_CERT: &str = "host.cert";

/// What the `cluster` file says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cluster {
    /// The cluster's name.
    pub name: String,
    /// Whether this host holds the authority.
    #[serde(default)]
    pub authority: bool,
    /// Where others reach this host, if that was said at `init` or `join`.
    pub advertise: Option<String>,
    /// Port that was said then.
    pub port: Option<u16>,
}

impl Cluster {
    /// The file's text. Only words that need no quoting in TOML get here.
    fn text(&self) -> String {
        let mut s = "# Written by 'queued init' or 'queued join'; queued.toml overrides it.\n".to_owned();
        s += &format!("name = \"{}\"\nauthority = {}\n", self.name, self.authority);
        if let Some(a) = &self.advertise {
            s += &format!("advertise = \"{a}\"\n");
        }
        if let Some(p) = self.port {
            s += &format!("port = {p}\n");
        }
        s
    }

    /// Whether a name may be a cluster's.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn check_name(name: &str) -> Result<(), String> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.is_empty() || name.len() > 64 || !name.chars().all(good) {
            return Err(format!(
                "'{name}' cannot be a cluster's name: up to 64 letters, digits, -, _ and dots"
            ));
        }
        Ok(())
    }
}

/// What the room says of this host.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// The cluster, and how this host takes part in it.
    pub cluster: Cluster,
    /// The authority's public key.
    pub authority: PublicKey,
    /// This host.
    pub own: Host,
    /// Key of its TLS connections.
    pub tls: KeyPair,
    /// Other members.
    pub members: Vec<Entry>,
    /// The revocation list.
    pub revoked: Revoked,
    /// The gossip keys, if there are any yet.
    pub keys: Option<Keys>,
    /// Why nothing new is started here, if so.
    pub drain: Option<Drain>,
}

/// Writes this host's renewed certificate down.
///
/// # Errors
/// As the file system says.
pub(crate) fn keep_cert(layout: &Layout, cert: &[u8]) -> anyhow::Result<()> {
    write_atomic(&layout.queued_state().join(HOST_CERT), cert, 0o600)?;
    Ok(())
}

/// Reads the gossip keys; `None` if there are none, or nothing of use.
///
/// # Errors
/// As the file system says.
pub(crate) fn read_keys(layout: &Layout) -> anyhow::Result<Option<Keys>> {
    let path = layout.queued_state().join(KEYS);
    match fs::read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => bail!("cannot read {}: {e}", path.display()),
        Ok(b) => Ok(Keys::decode(&b[..]).ok()),
    }
}

/// Writes the gossip keys down; as root, for their `owner`.
///
/// # Errors
/// As the file system says.
pub(crate) fn keep_keys(layout: &Layout, keys: &Keys, owner: Option<(Uid, Gid)>) -> anyhow::Result<()> {
    let path = layout.queued_state().join(KEYS);
    write_atomic_for(&path, &keys.encode_to_vec(), 0o600, raw(owner))?;
    Ok(())
}

/// Names this run of the daemon: the time of its start in milliseconds since the epoch, but in any case more
/// than that of the run before. Written down before it is used.
///
/// # Errors
/// As the file system says.
pub(crate) fn next_boot(layout: &Layout) -> anyhow::Result<u64> {
    let path = layout.queued_state().join(BOOT);
    let last = fs::read_to_string(&path).ok().and_then(|t| t.trim().parse().ok());
    let boot = crate::mesh::clock_ms().max(last.map_or(0, |n: u64| n.saturating_add(1)));
    write_atomic(&path, format!("{boot}\n").as_bytes(), 0o600)?;
    Ok(boot)
}

/// Writes down that this host is drained, or that it is no longer.
///
/// # Errors
/// As the file system says.
pub(crate) fn keep_drain(layout: &Layout, drain: Option<&Drain>) -> anyhow::Result<()> {
    let path = layout.queued_state().join(DRAINED);
    match drain {
        Some(d) => {
            let text = format!("{}\n{}\n{}\n", d.since, d.by, d.reason.replace('\n', " "));
            write_atomic(&path, text.as_bytes(), 0o600)?;
        }
        None => match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
            _ => {}
        },
    }
    Ok(())
}

fn read_drain(text: &str) -> Option<Drain> {
    let mut lines = text.lines();
    Some(Drain {
        since: lines.next()?.parse().ok()?,
        by: lines.next()?.to_owned(),
        reason: lines.next().unwrap_or_default().to_owned(),
    })
}

/// Whether this host was set up.
pub(crate) fn exists(layout: &Layout) -> bool {
    let dir = layout.queued_state();
    // Others than its owner see only that the room is there.
    let closed = |p: PathBuf| fs::metadata(p).is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied);
    dir.join(HOST_CERT).exists() || dir.join(CLUSTER).exists() || closed(dir.join(CLUSTER))
}

impl Identity {
    /// Reads the room.
    ///
    /// # Errors
    /// What does not fit, with the file.
    pub(crate) fn load(layout: &Layout) -> anyhow::Result<Self> {
        let dir = layout.queued_state();
        let need = |name: &str| {
            let p = dir.join(name);
            fs::read(&p).with_context(|| format!("cannot read {}", p.display()))
        };
        let path = dir.join(CLUSTER);
        let text =
            String::from_utf8(need(CLUSTER)?).with_context(|| format!("{} is not text", path.display()))?;
        let cluster: Cluster = toml::from_str(&text)
            .map_err(|e| anyhow::anyhow!("{}: {}", path.display(), e.message().replace('\n', " ")))?;
        let authority: PublicKey = need(AUTHORITY_PUB)?
            .try_into()
            .map_err(|_| anyhow::anyhow!("{} is not a key of 32 bytes", dir.join(AUTHORITY_PUB).display()))?;
        let cert = need(HOST_CERT)?;
        let said = HostCert::verify(&cert, &authority)
            .with_context(|| format!("{} does not fit", dir.join(HOST_CERT).display()))?;
        let key = dir.join(TLS_KEY);
        let m = fs::metadata(&key).with_context(|| format!("cannot read {}", key.display()))?;
        if m.mode() & 0o077 != 0 {
            bail!(
                "{}: others may read it (mode {:04o}): chmod 600 it",
                key.display(),
                m.mode() & 0o7777
            );
        }
        let tls =
            KeyPair::from_pkcs8(&need(TLS_KEY)?).with_context(|| format!("{} is no key", key.display()))?;
        if tls.public() != said.tls_key {
            bail!(
                "{} and {HOST_CERT} beside it do not belong together: join the host again",
                key.display()
            );
        }
        let verifier = Verifier::new(authority);
        let mut members = Vec::new();
        for (name, entry) in read_members(&dir)? {
            match verifier.entry(&entry) {
                Ok(e) if e.host.name != said.name => members.push(e),
                Ok(_) => {}
                Err(e) => tracing::warn!("{}: {e}", dir.join(MEMBERS).join(name).display()),
            }
        }
        let revoked = match fs::read(dir.join(REVOKED)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Revoked::default(),
            Err(e) => bail!("cannot read {}: {e}", dir.join(REVOKED).display()),
            Ok(b) => verifier
                .revocations(&b)
                .with_context(|| format!("{} does not fit", dir.join(REVOKED).display()))?,
        };
        let optional = |name: &str| match fs::read(dir.join(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            r => r
                .map(Some)
                .with_context(|| format!("cannot read {}", dir.join(name).display())),
        };
        let keys = optional(KEYS)?.and_then(|b| match Keys::decode(&b[..]) {
            Ok(k) if verifier.keys(&k).is_ok() => Some(k),
            // They come again from any member.
            _ => {
                tracing::warn!("{} does not fit: left out", dir.join(KEYS).display());
                None
            }
        });
        let drain = optional(DRAINED)?.and_then(|b| read_drain(&String::from_utf8_lossy(&b)));
        let own = Host {
            name: said.name,
            serial: said.serial,
            tls_key: said.tls_key,
            cert,
        };
        Ok(Self {
            cluster,
            authority,
            own,
            tls,
            members,
            revoked,
            keys,
            drain,
        })
    }

    /// The cluster's fingerprint.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        fingerprint(&self.authority)
    }
}

fn read_members(dir: &Path) -> anyhow::Result<Vec<(String, RosterEntry)>> {
    let dir = dir.join(MEMBERS);
    let list = match fs::read_dir(&dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        r => r.with_context(|| format!("cannot read {}", dir.display()))?,
    };
    let mut out = Vec::new();
    for f in list {
        let f = f.with_context(|| format!("cannot read {}", dir.display()))?;
        let Ok(name) = f.file_name().into_string() else {
            continue;
        };
        if name.starts_with('.') {
            continue;
        }
        let bytes = fs::read(f.path()).with_context(|| format!("cannot read {}", f.path().display()))?;
        match frame::decode::<RosterEntry>(&bytes) {
            Ok(e) => out.push((name, e)),
            Err(e) => tracing::warn!("{}: {e}", f.path().display()),
        }
    }
    out.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(out)
}

/// Writes a member down.
///
/// # Errors
/// As the system calls.
pub(crate) fn keep(layout: &Layout, entry: &Entry) -> anyhow::Result<()> {
    let dir = layout.queued_state().join(MEMBERS);
    DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    write_atomic(&dir.join(file_name(&entry.host.name)), &encode(entry), 0o600)?;
    Ok(())
}

/// Forgets a member.
///
/// # Errors
/// As the system calls.
pub(crate) fn forget(layout: &Layout, name: &str) -> io::Result<()> {
    match fs::remove_file(layout.queued_state().join(MEMBERS).join(file_name(name))) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        r => r,
    }
}

/// Writes the revocation list down.
///
/// # Errors
/// As the system calls.
pub(crate) fn keep_revoked(layout: &Layout, bytes: &[u8]) -> anyhow::Result<()> {
    write_atomic(&layout.queued_state().join(REVOKED), bytes, 0o600)?;
    Ok(())
}

/// Writes the cluster file anew.
///
/// # Errors
/// As the system calls.
pub(crate) fn keep_cluster(
    layout: &Layout,
    cluster: &Cluster,
    owner: Option<(Uid, Gid)>,
) -> anyhow::Result<()> {
    let path = layout.queued_state().join(CLUSTER);
    write_atomic_for(&path, cluster.text().as_bytes(), 0o600, raw(owner))?;
    Ok(())
}

fn raw(owner: Option<(Uid, Gid)>) -> Option<(u32, u32)> {
    owner.map(|(uid, gid)| (uid.as_raw(), gid.as_raw()))
}

/// Certified names have only letters, digits, `-`, `_` and dots, and do not begin with a dot; what does not
/// look so gets no say in paths.
fn file_name(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
                c
            } else {
                '_'
            }
        })
        .collect()
}

fn encode(entry: &Entry) -> Vec<u8> {
    use prost::Message as _;
    let e = RosterEntry {
        cert: entry.host.cert.clone(),
        address: entry.address.clone(),
        authority: entry.authority,
    };
    e.encode_to_vec()
}

/// A new room that is not in place yet; dropped without [`Fresh::put`], it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Fresh {
    tmp: PathBuf,
    dir: PathBuf,
    put: bool,
}

/// What a new room is filled with.
#[derive(Debug)]
pub(crate) struct Contents<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The authority's public key.
    pub authority: &'a PublicKey,
    /// This host's certificate.
    pub cert: &'a [u8],
    /// TLS key.
    pub tls: &'a KeyPair,
    /// Other members.
    pub members: &'a [Entry],
    /// The revocation list, or empty.
    pub revoked: &'a [u8],
    /// The gossip keys, if there are any.
    pub keys: Option<&'a Keys>,
}

impl Fresh {
    /// Writes a complete room beside the place where it is to be; `owner` in a root install.
    ///
    /// # Errors
    /// As the system calls; then nothing is left.
    pub(crate) fn write(
        layout: &Layout,
        what: &Contents<'_>,
        owner: Option<(Uid, Gid)>,
    ) -> anyhow::Result<Self> {
        let dir = layout.queued_state();
        let tmp = dir.with_file_name(".queued.new");
        let fresh = Self { tmp, dir, put: false };
        fresh.remove_tmp();
        if let Some(parent) = fresh.dir.parent() {
            let mode = if layout.root { 0o755 } else { 0o700 };
            DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(parent)
                .with_context(|| format!("cannot make {}", parent.display()))?;
        }
        fresh
            .fill(what, owner)
            .with_context(|| format!("cannot write {}", fresh.tmp.display()))?;
        Ok(fresh)
    }

    fn fill(&self, what: &Contents<'_>, owner: Option<(Uid, Gid)>) -> anyhow::Result<()> {
        let dirs = [self.tmp.clone(), self.tmp.join(MEMBERS)];
        for d in &dirs {
            DirBuilder::new().mode(0o700).create(d)?;
        }
        let file = |name: &str, bytes: &[u8]| {
            write_atomic_for(&self.tmp.join(name), bytes, 0o600, raw(owner))?;
            anyhow::Ok(())
        };
        file(TLS_KEY, what.tls.pkcs8())?;
        file(CLUSTER, what.cluster.text().as_bytes())?;
        file(AUTHORITY_PUB, what.authority)?;
        file(HOST_CERT, what.cert)?;
        if !what.revoked.is_empty() {
            file(REVOKED, what.revoked)?;
        }
        if let Some(keys) = what.keys {
            file(KEYS, &keys.encode_to_vec())?;
        }
        for m in what.members {
            file(&format!("{MEMBERS}/{}", file_name(&m.host.name)), &encode(m))?;
        }
        if let Some((uid, gid)) = owner {
            // The outer one last: until then nobody else can put another thing in the place of what is in it.
            for d in dirs.iter().rev() {
                chown(d, Some(uid), Some(gid))?;
            }
        }
        Ok(())
    }

    /// Puts it in place, in one step; what was there is gone.
    ///
    /// # Errors
    /// As the system calls; then everything is as it was.
    pub(crate) fn put(mut self) -> anyhow::Result<()> {
        use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
        if self.dir.exists() {
            renameat2(
                AT_FDCWD,
                &self.tmp,
                AT_FDCWD,
                &self.dir,
                RenameFlags::RENAME_EXCHANGE,
            )
            .with_context(|| format!("cannot replace {}", self.dir.display()))?;
            self.remove_tmp();
        } else {
            fs::rename(&self.tmp, &self.dir)
                .with_context(|| format!("cannot make {}", self.dir.display()))?;
        }
        self.put = true;
        if let Some(parent) = self.dir.parent() {
            fs::File::open(parent)?.sync_all()?;
        }
        Ok(())
    }

    fn remove_tmp(&self) {
        let _ = fs::remove_dir_all(&self.tmp);
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.put {
            self.remove_tmp();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_file_comes_back() {
        for c in [
            Cluster {
                name: "a.b-c_1".into(),
                authority: true,
                advertise: Some("[::1]:7".into()),
                port: Some(9),
            },
            Cluster {
                name: "x".into(),
                ..Cluster::default()
            },
        ] {
            assert_eq!(toml::from_str::<Cluster>(&c.text()), Ok(c));
        }
        assert!(Cluster::check_name("prod").is_ok());
        for bad in ["", "a b", "a\"", "a\n", &"x".repeat(65)] {
            assert!(Cluster::check_name(bad).is_err());
        }
    }

    #[test]
    fn a_file_name_stays_in_its_directory() {
        assert_eq!(file_name("node-1.example_x"), "node-1.example_x");
        assert_eq!(file_name("../x"), ".._x");
    }
}
