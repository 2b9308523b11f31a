//! `queued check`: says what is wrong with configuration, keys and permissions, by file and line. Changes
//! nothing.

use super::{Site, config_file, note, say};
use crate::account;
use crate::batch::classes;
use crate::context::Context;
use crate::identity::{self, Identity};
use crate::spawn::Spawner;
use libqueue::config::Config;
use nix::unistd::{Group, User};
use queue_exec::cert::{HostCert, Revocations};
use queue_exec::layout::Layout;
use queue_exec::operators::Operators;
use queue_exec::policy::Policy;
use queue_exec::state::{Room, unix_now};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// A certificate that ends this soon is worth a word.
const SOON: u64 = 30 * 86_400;

/// The number of faults found; each is told in a line of its own.
pub(super) fn run() -> anyhow::Result<usize> {
    let mut faults = Vec::new();
    let root = nix::unistd::geteuid().is_root();
    let layout = Layout::for_daemon(root || account::is_daemon_user());
    let file = config_file(&layout);
    changeable(&file, &mut faults);
    match Config::load(&file) {
        Ok(c) => values(&c, &file, &mut faults),
        Err(e) => faults.push(e.to_string()),
    }
    class_files(&file, &mut faults);
    match Policy::load(&layout.exec_conf()) {
        Ok(_) => {}
        Err(e) if !root && layout.root && e.text.contains("denied") => {}
        Err(e) => faults.push(e.to_string()),
    }
    // Without a configuration that can be read, the rest would be looked for in the wrong place.
    if let Ok(site) = Site::open() {
        if identity::exists(&site.layout) {
            keys(&site, &mut faults);
        } else {
            note(
                "this host is in no cluster yet: 'queued init', 'queued join TOKEN', or 'queued run' for itself alone",
            );
        }
        if site.config.spawn_exec
            && let Err(e) = Spawner::find(&site.layout)
        {
            faults.push(e.to_string());
        }
    }
    for f in &faults {
        note(f);
    }
    if faults.is_empty() {
        say(&format!(
            "{} and {}: no fault found",
            file.display(),
            layout.exec_conf().display()
        ));
    }
    Ok(faults.len())
}

/// The classes of batch jobs beside it.
fn class_files(config_file: &Path, faults: &mut Vec<String>) {
    let (_, wrong) = classes::load(config_file);
    faults.extend(wrong.iter().map(ToString::to_string));
    for file in classes::files(&classes::directory(config_file), &mut Vec::new()) {
        changeable(&file, faults);
    }
}

/// Others must not be able to change what the daemon reads.
fn changeable(file: &Path, faults: &mut Vec<String>) {
    let Ok(m) = fs::metadata(file) else { return };
    if m.mode() & 0o022 != 0 {
        faults.push(format!(
            "{}: others may change it (mode {:04o}): chmod go-w it",
            file.display(),
            m.mode() & 0o7777
        ));
    }
}

/// Values that are spelled well, but mean nothing here.
fn values(c: &Config, file: &Path, faults: &mut Vec<String>) {
    let mut wrong = |key, text| faults.push(Config::blame(file, key, text).to_string());
    if !c.disk_path.is_dir() {
        wrong(
            "disk-path",
            format!("disk-path: {} is no directory", c.disk_path.display()),
        );
    }
    for name in c.operators.names() {
        let (what, known) = match name.strip_prefix('@') {
            Some(group) => ("group", Group::from_name(group).is_ok_and(|g| g.is_some())),
            None => ("user", User::from_name(name).is_ok_and(|u| u.is_some())),
        };
        if !known {
            let plain = name.trim_start_matches('@');
            wrong("operators", format!("operators: there is no {what} {plain} here"));
        }
    }
    if c.mail.enabled {
        if let Some(program) = c.mail.sendmail.as_deref().filter(|p| !p.is_file()) {
            wrong(
                "sendmail",
                format!("sendmail: there is no program {}", program.display()),
            );
        }
        if let Some(secret) = c.mail.password_file.as_deref() {
            let said = match fs::metadata(secret) {
                Err(e) => Some(format!("password-file: {}: {e}", secret.display())),
                Ok(m) if m.mode() & 0o077 != 0 => Some(format!(
                    "password-file: others may read {} (mode {:04o}): chmod 600 it",
                    secret.display(),
                    m.mode() & 0o7777
                )),
                Ok(_) => None,
            };
            if let Some(said) = said {
                wrong("password-file", said);
            }
        }
    }
    // queue-exec reads this key itself, and has rules of its own about whose file it believes.
    if !c.operators.names().is_empty()
        && let Err(e) = Operators::load(file)
    {
        faults.push(e.to_string());
    }
}

fn keys(site: &Site, faults: &mut Vec<String>) {
    let dir = site.layout.queued_state();
    if let Ok(m) = fs::metadata(&dir)
        && m.mode() & 0o077 != 0
    {
        faults.push(format!(
            "{}: others may look in (mode {:04o}): chmod 700 it",
            dir.display(),
            m.mode() & 0o7777
        ));
    }
    if site.root
        && let Ok(Some(u)) = account::find()
    {
        for f in [identity::TLS_KEY, identity::CLUSTER, identity::HOST_CERT] {
            let p = dir.join(f);
            if fs::metadata(&p).is_ok_and(|m| m.uid() != u.uid.as_raw()) {
                faults.push(format!(
                    "{}: does not belong to user {}: chown it",
                    p.display(),
                    u.name
                ));
            }
        }
    }
    let id = match Identity::load(&site.layout) {
        Ok(id) => id,
        Err(e) => return faults.push(format!("{e:#}")),
    };
    let name = &id.own.name;
    if let Some(n) = site
        .config
        .name
        .as_deref()
        .filter(|n| !n.eq_ignore_ascii_case(name))
    {
        let file = site.config_file.display();
        faults.push(format!(
            "{file}: name is {n}, but this host joined as {name}: remove the line, or join again"
        ));
    }
    if let Ok(c) = HostCert::verify(&id.own.cert, &id.authority) {
        let revoked = Revocations {
            version: id.revoked.version,
            serials: id.revoked.serials.clone(),
        };
        if let Err(e) = c.check_now(unix_now(), &revoked) {
            faults.push(format!("{}: {e}", dir.join(identity::HOST_CERT).display()));
        } else if c.expires < unix_now() + SOON {
            note(&format!(
                "the certificate of {name} ends in {} days: join again",
                (c.expires - unix_now()) / 86_400
            ));
        }
    }
    if site.root || !site.layout.root {
        match Room::open(&site.layout.exec_state()).and_then(|r| r.identity()) {
            Ok(exec) if exec.cert_bytes != id.own.cert => faults.push(format!(
                "{} and {} hold different certificates: join the host again",
                site.layout.exec_state().display(),
                dir.display()
            )),
            Ok(_) => {}
            Err(e) => faults.push(e.to_string()),
        }
    }
    if let Err(e) = Context::new(site.layout.clone(), site.config.clone(), id, [0; 16], None) {
        faults.push(format!("{e:#}"));
    }
}
