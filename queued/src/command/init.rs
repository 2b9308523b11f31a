//! `queued init`: makes this host the first of a cluster. Also what `queued run` does with nothing set up.

use super::{Init, Site, note, say};
use crate::address;
use crate::identity::{self, Cluster, Contents, Fresh, Identity};
use crate::verify::wire_keys;
use anyhow::{Context as _, bail};
use libqueue::tls::KeyPair;
use queue_exec::authority::{self, Installed};
use std::time::Duration;

pub(super) fn run(args: &Init) -> anyhow::Result<()> {
    let site = Site::open()?;
    site.need_root("init")?;
    let typed = args
        .advertise
        .as_deref()
        .map(address::parse)
        .transpose()
        .map_err(anyhow::Error::msg)?;
    if let Some(t) = &typed {
        t.resolve(libqueue::config::PORT).map_err(anyhow::Error::msg)?;
    }
    if let Some(c) = &args.name {
        Cluster::check_name(c).map_err(anyhow::Error::msg)?;
    }
    if identity::exists(&site.layout) {
        return again(&site, args);
    }
    let name = site.host_name(args.host.as_deref(), args.force)?;
    let new = New {
        host: &name,
        cluster: args.name.as_deref(),
        advertise: args.advertise.as_deref(),
        lifetime: args.cert_lifetime,
    };
    let id = first(&site, &new)?;
    say(&format!(
        "{name} is the first host of cluster {} now.",
        id.cluster.name
    ));
    say(&format!(
        "Run here: {}; then, for each further host: queued token",
        site.how_to_run()
    ));
    tell_daemon(&site);
    Ok(())
}

/// What a new cluster is made of.
#[derive(Debug, Default)]
pub(super) struct New<'a> {
    /// This host's name.
    pub host: &'a str,
    /// The cluster's, if said.
    pub cluster: Option<&'a str>,
    /// Where others reach this host, if said.
    pub advertise: Option<&'a str>,
    /// How long its certificates are valid, if said.
    pub lifetime: Option<Duration>,
}

/// Sets a host up: keys, certificate, directories; all of it or nothing.
pub(super) fn first(site: &Site, new: &New<'_>) -> anyhow::Result<Identity> {
    let owner = site.owner()?;
    let tls = KeyPair::generate().context("cannot make a key")?;
    let made = authority::init(&site.layout, new.host, &tls.public(), &[], new.lifetime)?;
    let put = put(site, new, &tls, &made, owner);
    if put.is_err() {
        // `authority::init` made that room a moment ago.
        let _ = std::fs::remove_dir_all(site.layout.exec_state());
    }
    put?;
    Identity::load(&site.layout)
}

/// Writes the daemon's room.
fn put(
    site: &Site,
    new: &New<'_>,
    tls: &KeyPair,
    made: &Installed,
    owner: Option<(nix::unistd::Uid, nix::unistd::Gid)>,
) -> anyhow::Result<()> {
    let cluster = Cluster {
        name: new.cluster.unwrap_or("queue").to_owned(),
        authority: true,
        advertise: new.advertise.map(str::to_owned),
        port: None,
    };
    let keys = wire_keys(&queue_exec::keys::new_key(&site.layout)?);
    let contents = Contents {
        cluster: &cluster,
        authority: &made.authority,
        cert: &made.cert,
        tls,
        members: &[],
        revoked: &[],
        keys: Some(&keys),
    };
    Fresh::write(&site.layout, &contents, owner).and_then(Fresh::put)
}

/// On a host that is set up: only what does not touch anybody else can change.
fn again(site: &Site, args: &Init) -> anyhow::Result<()> {
    let id = Identity::load(&site.layout)?;
    let name = &id.own.name;
    let alone = id.cluster.authority && id.members.is_empty();
    let same = args.host.as_ref().is_none_or(|h| h.eq_ignore_ascii_case(name));
    if !alone || !same || (args.name.is_none() && args.advertise.is_none()) {
        bail!(
            "this host is {name} of cluster {} already, with {} other hosts: 'queued token' lets hosts join it; to \
             begin anew stop queued and queue-exec and remove {} and {}",
            id.cluster.name,
            id.members.len(),
            site.layout.queued_state().display(),
            site.layout.exec_state().display()
        );
    }
    let cluster = Cluster {
        name: args.name.clone().unwrap_or(id.cluster.name),
        advertise: args.advertise.clone().or(id.cluster.advertise),
        ..id.cluster
    };
    identity::keep_cluster(&site.layout, &cluster, site.owner()?)?;
    say(&format!(
        "{name} was set up already; its cluster is called {} now.",
        cluster.name
    ));
    tell_daemon(site);
    Ok(())
}

fn tell_daemon(site: &Site) {
    use libqueue::wire::{Empty, request};
    if let Err(e) = crate::spawn::reload(&site.layout) {
        note(&format!(
            "queue-exec runs, but did not take it up: {e}; restart it"
        ));
    }
    if let Err(e) = site.ask(request::Kind::Reload(Empty {})) {
        note(&format!("queued runs, but did not take it up: {e:#}; restart it"));
    }
}
