//! `queued join`: makes this host a member. Everything is prepared aside and put in place in two renames, so
//! that a failure leaves the host as it was.

use super::{Join, Site, note, say};
use crate::applicant::{self, Admission, Talk};
use crate::engine::types::Entry;
use crate::identity::{self, Cluster, Contents, Fresh, Identity};
use crate::verify::Verifier;
use crate::{address, discover, spawn};
use anyhow::{Context as _, bail};
use libqueue::config::PORT;
use libqueue::tls::KeyPair;
use libqueue::wire::{Empty, HostState, JoinRequest, reply, request};
use queue_exec::authority;
use queue_exec::layout::Layout;
use queue_exec::state::Room;
use queue_exec::token::{Token, proof};
use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long the daemon may take to be connected with somebody.
const CONNECTED: Duration = Duration::from_secs(3);
/// No token is longer.
const TOKEN_MAX: u64 = 4096;
/// Where the keys lie between a request and its answer: whoever asks again with the same ones uses no
/// further use of the token up.
const JOINING: &str = ".joining";

pub(super) fn run(args: &Join) -> anyhow::Result<()> {
    let site = Site::open()?;
    site.need_root("joining")?;
    let token: Token = read_token(&args.token)?.parse()?;
    let name = site.host_name(args.host.as_deref(), args.force)?;
    let typed = args.advertise.as_deref().or(site.config.advertise.as_deref());
    let typed = typed
        .map(address::parse)
        .transpose()
        .map_err(anyhow::Error::msg)?;
    let port = args
        .port
        .or(site.config.port)
        .or(typed.as_ref().and_then(|t| t.port))
        .unwrap_or(PORT);
    let said = typed
        .map(|t| t.resolve(port).map(|a| a[0]))
        .transpose()
        .map_err(anyhow::Error::msg)?;
    let alone = standing(&site.layout, &token)?;

    let keys = Keys::open(&site.layout)?;
    let mut talk = reach(&token, &keys.tls)?;
    let wanted = JoinRequest {
        token: token.id.clone(),
        secret: proof(&token.secret, &name, &keys.host_key(), &keys.tls.public()),
        name: name.clone(),
        host_key: keys.host_key().to_vec(),
        address: said.map(|a| a.to_string()).unwrap_or_default(),
        port: u32::from(port),
        force: args.force,
        clock_ms: 0,
        dry_run: true,
    };
    talk.ask(wanted.clone()).map_err(|e| anyhow::anyhow!(e.text))?;
    // From here on it would be admitted: what can fail here does so before it is.
    let owner = site.owner()?;
    keys.keep(&site.layout)?;
    let reply = match talk.ask(JoinRequest {
        dry_run: false,
        ..wanted
    }) {
        Ok(r) => r,
        Err(e) if e.open => bail!(
            "{}; run the same command again: it uses the token up only once",
            e.text
        ),
        Err(e) => {
            forget_keys(&site.layout);
            bail!(e.text)
        }
    };
    let got = talk.check(reply, &name, &keys.tls, &keys.host_key())?;
    let cluster = Cluster {
        name: if Cluster::check_name(&talk.cluster).is_ok() {
            talk.cluster.clone()
        } else {
            "queue".into()
        },
        authority: false,
        advertise: args.advertise.clone(),
        port: args
            .port
            .or((port != PORT && site.config.port.is_none()).then_some(port)),
    };
    install(&site, &keys, &talk, &got, &cluster, owner, alone)?;
    forget_keys(&site.layout);
    let others = got.reply.roster.as_ref().map_or(1, |r| r.members.len());
    say(&format!(
        "{name} is a member of cluster {} now, at {} ({} hosts).",
        cluster.name,
        got.reply.address,
        others + 1
    ));
    talk.close();
    tell_daemons(&site);
    Ok(())
}

/// Connects with the authority's host: where the token says, or where it is found on the LAN.
fn reach(token: &Token, tls: &KeyPair) -> anyhow::Result<Talk> {
    if !token.address.is_empty() {
        return applicant::connect(token, tls);
    }
    discover::find(&token.authority, |address| {
        let token = Token {
            address: address.to_string(),
            ..token.clone()
        };
        applicant::connect(&token, tls)
    })
}

fn read_token(arg: &str) -> anyhow::Result<String> {
    if arg != "-" {
        return Ok(arg.to_owned());
    }
    let mut text = String::new();
    std::io::stdin()
        .take(TOKEN_MAX)
        .read_to_string(&mut text)
        .context("cannot read the token from standard input")?;
    Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
}

/// Whether this host may join: it is in no cluster, was removed from its cluster, joins its cluster again,
/// or made itself a cluster that has nobody else in it (`true`).
fn standing(layout: &Layout, token: &Token) -> anyhow::Result<bool> {
    if !identity::exists(layout) {
        return Ok(false);
    }
    let id = Identity::load(layout).with_context(|| {
        format!(
            "this host was set up before, but not readable now; remove {} to begin anew",
            layout.state.display()
        )
    })?;
    let (name, cluster) = (&id.own.name, &id.cluster.name);
    let mine = id.fingerprint() == token.authority;
    if id.cluster.authority {
        if mine {
            bail!(
                "this token is for other hosts: {name} is in cluster {cluster} already, and made the token"
            );
        }
        let room = Room::open(&layout.exec_state())?;
        let issued = room.list(queue_exec::state::ISSUED)?;
        if id.members.is_empty() && issued.iter().all(|n| n.eq_ignore_ascii_case(name)) {
            return Ok(true);
        }
        bail!(
            "this host, {name}, holds the authority of cluster {cluster} with {} other hosts: it cannot join another one. \
             To give that cluster up, stop queued and queue-exec and remove {}",
            id.members.len().max(issued.len().saturating_sub(1)),
            layout.state.display()
        );
    }
    if mine || id.revoked.serials.contains(&id.own.serial) {
        return Ok(false);
    }
    let holder = id
        .members
        .iter()
        .find(|m| m.authority)
        .map_or("the authority's host", |m| &m.host.name);
    let others: Vec<&str> = id.members.iter().take(5).map(|m| m.host.name.as_str()).collect();
    bail!(
        "this host is {name} of cluster {cluster} (with {}): leave it first, by 'queue hosts remove {name}' on {holder}; \
         if that cluster is gone, stop queued and queue-exec and remove {}",
        others.join(", "),
        layout.state.display()
    )
}

/// The keys that this host asks with.
struct Keys {
    tls: KeyPair,
    host: HostKey,
}

/// The key for tickets, in whatever type queue-exec's library has it.
struct HostKey {
    public: [u8; 32],
    secret: [u8; 32],
}

impl Keys {
    /// Those of a join whose answer was lost, or new ones; the host key stays what it is.
    fn open(layout: &Layout) -> anyhow::Result<Self> {
        if let Ok(room) = Room::open(&joining(layout))
            && let (Some(host), Some(tls)) = (room.key("host.key")?, room.read("tls.key")?)
            && let Ok(tls) = KeyPair::from_pkcs8(&tls)
        {
            let host = HostKey {
                public: host.verifying_key().to_bytes(),
                secret: host.to_bytes(),
            };
            return Ok(Self { tls, host });
        }
        let host = authority::generate_host_key(layout)?;
        let host = HostKey {
            public: host.verifying_key().to_bytes(),
            secret: host.to_bytes(),
        };
        Ok(Self {
            tls: KeyPair::generate().context("cannot make a key")?,
            host,
        })
    }

    fn host_key(&self) -> [u8; 32] {
        self.host.public
    }

    fn keep(&self, layout: &Layout) -> anyhow::Result<()> {
        let room = Room::create(&joining(layout))?;
        room.write("host.key", &self.host.secret)?;
        room.write("tls.key", self.tls.pkcs8())?;
        Ok(())
    }
}

fn joining(layout: &Layout) -> PathBuf {
    layout.state.join(JOINING)
}

fn forget_keys(layout: &Layout) {
    let _ = fs::remove_dir_all(joining(layout));
}

/// Puts both rooms in place. `alone`: this host's own authority is given up.
fn install(
    site: &Site,
    keys: &Keys,
    talk: &Talk,
    got: &Admission,
    cluster: &Cluster,
    owner: Option<(nix::unistd::Uid, nix::unistd::Gid)>,
    alone: bool,
) -> anyhow::Result<()> {
    let verifier = Verifier::new(talk.authority);
    let mut members: Vec<Entry> = got
        .reply
        .roster
        .iter()
        .flat_map(|r| &r.members)
        .filter_map(|m| verifier.entry(m).ok())
        .filter(|e| e.host.name != got.said.name)
        .collect();
    for m in members.iter_mut().filter(|m| m.host.name == talk.member) {
        // This one is known to work from here.
        m.address = talk.address.to_string();
    }
    // Without them, or with others than the authority's, they come with the first connection.
    let gossip = got.reply.keys.as_ref().filter(|k| verifier.keys(k).is_ok());
    let contents = Contents {
        keys: gossip,
        cluster,
        authority: &talk.authority,
        cert: &got.cert,
        tls: &keys.tls,
        members: &members,
        revoked: &got.reply.revocations,
    };
    let fresh = Fresh::write(&site.layout, &contents, owner)?;
    let exec = site.layout.exec_state();
    let aside = exec.with_file_name(".exec.old");
    if alone {
        let _ = fs::remove_dir_all(&aside);
        fs::rename(&exec, &aside).with_context(|| format!("cannot put {} aside", exec.display()))?;
    }
    let put = Room::open(&joining(&site.layout))
        .map_err(anyhow::Error::from)
        .and_then(|room| {
            let key = room.key("host.key")?.context("the host key is gone")?;
            let list = Some(got.reply.revocations.as_slice()).filter(|l| !l.is_empty());
            authority::install_joined(&site.layout, &key, &talk.authority, &got.cert, list)?;
            fresh.put()
        });
    if alone {
        if put.is_err() {
            let _ = fs::remove_dir_all(&exec);
            let _ = fs::rename(&aside, &exec);
        } else {
            let _ = fs::remove_dir_all(&aside);
        }
    }
    put
}

/// Has running daemons take it up, or says how to start them.
fn tell_daemons(site: &Site) {
    if let Err(e) = spawn::reload(&site.layout) {
        note(&format!(
            "queue-exec runs, but did not take it up ({e}): restart it"
        ));
    }
    match site.ask(request::Kind::Reload(Empty {})) {
        Ok(None) => say(&format!("Now run: {}", site.how_to_run())),
        Err(e) => note(&format!(
            "queued runs, but did not take it up ({e:#}): restart it"
        )),
        Ok(Some(_)) => {
            let up = wait_for_others(site);
            if up.is_empty() {
                say("queued has taken it up; no other host answers yet ('queue hosts' shows why).");
            } else {
                say(&format!("queued has taken it up; {} answer.", up.join(", ")));
            }
        }
    }
}

fn wait_for_others(site: &Site) -> Vec<String> {
    let until = Instant::now() + CONNECTED;
    loop {
        let Ok(Some(reply::Kind::Hosts(h))) = site.ask(request::Kind::Hosts(Empty {})) else {
            return Vec::new();
        };
        let others: Vec<_> = h.hosts.into_iter().filter(|h| !h.local).collect();
        let up: Vec<String> = others
            .iter()
            .filter(|h| h.state == HostState::Up as i32)
            .map(|h| h.name.clone())
            .collect();
        let open = others.iter().any(|h| h.state == HostState::Unknown as i32);
        if !open || Instant::now() > until {
            return up;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
