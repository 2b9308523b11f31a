//! Tickets that somebody signed who may not, for what he may not, or that were used before. Whoever makes them here is
//! root on h1 and has its key: what is refused is refused for what it says.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use ed25519_dalek::SigningKey;
use libqueue::wire::{KIND_SESSION, SessionAnswer, SessionHello, preamble};
use libtest_mimic::Trial;
use prost::Message;
use queue_exec::cert::{HostCert, Vouch, fingerprint};
use queue_exec::ticket::Ticket;
use queue_harness::{Cluster, LIMIT, Status, queue as install, wait_until};

use super::play::{connect, tell};
use super::{attacker, daemon, launch, port, reported, unharmed};
use crate::world::{World, named, until_state};

pub(super) fn trials(w: &Arc<World>) -> Vec<Trial> {
    vec![
        w.shared(
            "hostile::tickets_are_taken_as_signed_here_now_and_once",
            forged_tickets,
        ),
        w.alone("hostile::a_removed_host_is_refused_at_once", a_removed_host),
    ]
}

fn forged_tickets(c: &Cluster) -> Result<()> {
    let h2 = daemon(c, 2)?;
    let out = attacker(c, 1, "root", "tickets", &[&port(c, 2), "h2"]).ok()?;
    let tried = reported(&out, "tried");
    let said = |name: &str| {
        let line = tried
            .iter()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(": "));
        line.with_context(|| format!("{name} was not tried: {tried:?}"))
    };
    ensure!(said("good")? == "granted", "{tried:?}");
    ensure!(said("another good one")? == "granted", "{tried:?}");
    for (name, why) in [
        ("used again", "used before"),
        ("for h3", "is for h3"),
        ("of yesterday", "old"),
        ("of tomorrow", "ahead"),
        ("of the last second", "ahead"),
        ("of another cluster", "is for h2"),
        ("with another key", "signature"),
        ("in the name of h3", "signature"),
        ("for root", "root"),
        ("of root for alice", ""),
        ("for an account that is none", ""),
        ("with a certificate of its own", "signature"),
        ("with a certificate of another cluster", "another cluster"),
        ("with an expired certificate", "expired"),
        ("cut short", "malformed"),
        ("with something behind it", "malformed"),
        ("none at all", ""),
    ] {
        let answer = said(name)?;
        ensure!(
            answer.starts_with("refused") && answer.contains(why),
            "{name}: {answer}"
        );
    }
    // Each byte of it, and each of the certificate.
    let altered = said("altered")?;
    ensure!(altered == "0 granted", "{altered}");
    unharmed(c, 2, h2)
}

// ---- A host that is removed --------------------------------------------------------------------------

fn a_removed_host(c: &Cluster) -> Result<()> {
    let (h1, h4) = (c.host(1), c.host(4));
    // It may vouch for bob only.
    let token = install::token(h1, &["--vouch", "bob"])?;
    h4.command(["queued", "join", "-", "--advertise", &h4.address()])
        .stdin(token + "\n")
        .ok()?;
    let result = (|| {
        install::run_queued(h4)?;
        until_state(c, LIMIT, &[1, 2, 3], "h4", "up")?;
        let run = |user: &str| {
            h4.command(["queue", "-h", "h2", "--", "id", "-un"])
                .user(user)
                .run()
        };
        let out = run("bob")?;
        ensure!(
            (out.status, out.text().as_str()) == (Status::Exit(0), "bob"),
            "{out:?}"
        );
        let out = run("alice")?;
        ensure!(
            out.status == Status::Exit(125) && out.error().contains("alice"),
            "{out:?}"
        );
        // Its key, its certificate and its place on the network stay with whoever has the host.
        let before = attacker(c, 4, "root", "bob", &[&port(c, 2), "h2"]).ok()?;
        ensure!(reported(&before, "tried") == ["bob: granted"], "{before:?}");
        let mut held = attacker(c, 4, "root", "bob-later", &[&port(c, 2), "h2"]).spawn_piped()?;
        wait_until(LIMIT, "a ticket", || held.stdout().starts_with(b"signed"))?;
        h1.command(["queue", "hosts", "remove", "h4"]).ok()?;
        // At once: no host takes anything of it any more, not even what it signed before.
        held.stdin()?.write_all(b"\n")?;
        let held = held.wait(LIMIT)?;
        let told = reported(&held, "tried");
        ensure!(told.len() == 1 && told[0].contains("was removed"), "{held:?}");
        for k in 1..=3 {
            let name = format!("h{k}");
            let after = attacker(c, 4, "root", "bob", &[&port(c, k), &name]).ok()?;
            let told = reported(&after, "tried");
            ensure!(
                told.len() == 1 && told[0].contains("was removed"),
                "h{k}: {after:?}"
            );
        }
        let out = run("bob")?;
        ensure!(out.status == Status::Exit(125), "{out:?}");
        // Nobody has a connection with it, or knows it, any more.
        wait_until(LIMIT, "h4 to be forgotten", || {
            (1..=3).all(|k| {
                let all = crate::world::hosts(c, k).unwrap_or_default();
                !all.is_empty() && all.iter().all(|h| h["name"] != "h4")
            })
        })?;
        // Nor does it come back by itself: not with its daemon started anew, and not into anybody's list.
        for pid in named(c, 4, "queued") {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        wait_until(LIMIT, "the end of its daemon", || {
            named(c, 4, "queued").is_empty()
        })?;
        let _ = install::run_queued(h4);
        let out = run("bob")?;
        ensure!(out.status == Status::Exit(125), "{out:?}");
        ensure!(crate::world::hosts(c, 2)?.iter().all(|h| h["name"] != "h4"));
        launch(c).map(drop)
    })();
    // As it was: a stranger.
    for name in ["queued", "queue-exec"] {
        for pid in named(c, 4, name) {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
    h4.sh("rm -rf /var/lib/queue /run/queue").ok()?;
    result
}

// ---- The attackers -----------------------------------------------------------------------------------

/// What queued answers to a session's preamble.
pub(super) fn attempt(to: &str, ticket: &[u8], cert: &[u8]) -> Result<SessionAnswer> {
    let hello = SessionHello {
        ticket: ticket.to_vec(),
        source_cert: cert.to_vec(),
        need: None,
    };
    let mut s = connect(to)?;
    s.write_all(&preamble(KIND_SESSION, &hello.encode_to_vec()))?;
    let mut head = [0; 2];
    s.read_exact(&mut head)?;
    let mut body = vec![0; usize::from(u16::from_be_bytes(head))];
    s.read_exact(&mut body)?;
    Ok(SessionAnswer::decode(&body[..])?)
}

fn outcome(to: &str, ticket: &[u8], cert: &[u8]) -> String {
    match attempt(to, ticket, cert) {
        Ok(a) if a.refused.is_empty() && !a.grant.is_empty() => "granted".into(),
        Ok(a) => format!("refused {}", a.refused),
        Err(e) => format!("refused without a word: {e}"),
    }
}

fn try_one(name: &str, to: &str, ticket: &[u8], cert: &[u8]) {
    tell("tried", format!("{name}: {}", outcome(to, ticket, cert)));
}

fn now() -> u64 {
    let d = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    d.as_secs()
}

/// This host's own key and certificate, as root has them.
fn own() -> Result<(SigningKey, Vec<u8>, HostCert)> {
    let key: [u8; 32] = std::fs::read("/var/lib/queue/exec/host.key")?[..].try_into()?;
    let cert = std::fs::read("/var/lib/queue/exec/host.cert")?;
    let (parsed, ..) = HostCert::parse(&cert).map_err(|e| anyhow::anyhow!("{e}"))?;
    Ok((SigningKey::from_bytes(&key), cert, parsed))
}

/// A ticket for alice that says the truth, but for its nonce.
fn truth(cert: &HostCert, target: &str, n: u8) -> Ticket {
    let mut nonce = [n; 16];
    nonce[8..].copy_from_slice(&now().to_be_bytes());
    nonce[4..8].copy_from_slice(&std::process::id().to_be_bytes());
    Ticket {
        cluster: cert.cluster,
        source: cert.name.clone(),
        user: "alice".into(),
        login: "alice".into(),
        target: target.into(),
        nonce,
        issued: now(),
        request: [7; 32],
        client_key: [8; 32],
    }
}

/// What is not as it should be.
type Change<'a> = &'a dyn Fn(&mut Ticket);

/// All kinds of tickets, with this host's own key.
pub(super) fn tickets(to: &str, target: &str) -> Result<()> {
    let (key, bytes, cert) = own()?;
    let mut n = 0;
    let mut with = |change: &dyn Fn(&mut Ticket)| {
        n += 1;
        let mut t = truth(&cert, target, n);
        change(&mut t);
        t
    };
    let good = with(&|_| {}).sign(&key);
    try_one("good", to, &good, &bytes);
    try_one("used again", to, &good, &bytes);
    let said: [(&str, Change<'_>); 8] = [
        ("for h3", &|t| t.target = "h3".into()),
        ("of yesterday", &|t| t.issued -= 86_400),
        ("of tomorrow", &|t| t.issued += 86_400),
        ("of the last second", &|t| t.issued = u64::MAX),
        ("of another cluster", &|t| t.cluster = [9; 32]),
        ("in the name of h3", &|t| t.source = "h3".into()),
        ("for root", &|t| {
            (t.user, t.login) = ("root".into(), "root".into())
        }),
        ("of root for alice", &|t| t.user = "root".into()),
    ];
    for (name, change) in said {
        try_one(name, to, &with(change).sign(&key), &bytes);
    }
    let odd = with(&|t| t.login = "nobody-there".into()).sign(&key);
    try_one("for an account that is none", to, &odd, &bytes);
    let other = SigningKey::from_bytes(&[5; 32]);
    try_one("with another key", to, &with(&|_| {}).sign(&other), &bytes);
    // Certificates that no authority signed, or another one, and one that would have been good once.
    let forged = HostCert {
        host_key: other.verifying_key().to_bytes(),
        vouch: Vouch::Only(vec!["root".into(), "*".into()]),
        ..cert.clone()
    };
    let by_itself = forged.sign(&other);
    try_one(
        "with a certificate of its own",
        to,
        &with(&|_| {}).sign(&other),
        &by_itself,
    );
    let elsewhere = HostCert {
        cluster: fingerprint(&other.verifying_key().to_bytes()),
        ..forged.clone()
    };
    let foreign = elsewhere.sign(&other);
    try_one(
        "with a certificate of another cluster",
        to,
        &with(&|_| {}).sign(&other),
        &foreign,
    );
    let authority: [u8; 32] = std::fs::read("/var/lib/queue/exec/authority.key")?[..].try_into()?;
    let expired = HostCert {
        expires: now() - 86_400,
        ..cert.clone()
    };
    let expired = expired.sign(&SigningKey::from_bytes(&authority));
    try_one(
        "with an expired certificate",
        to,
        &with(&|_| {}).sign(&key),
        &expired,
    );
    let t = with(&|_| {}).sign(&key);
    try_one("cut short", to, &t[..t.len() - 1], &bytes);
    try_one("with something behind it", to, &[&t[..], &[0]].concat(), &bytes);
    try_one("none at all", to, &[], &[]);
    // Every byte altered, of a ticket that is good but for that.
    let mut granted = 0;
    for i in 0..t.len() {
        let mut bad = t.clone();
        bad[i] ^= 1 << (i % 8);
        granted += usize::from(outcome(to, &bad, &bytes) == "granted");
    }
    for i in (0..bytes.len()).step_by(3) {
        let mut bad = bytes.clone();
        bad[i] ^= 1 << (i % 8);
        granted += usize::from(outcome(to, &t, &bad) == "granted");
    }
    tell("tried", format!("altered: {granted} granted"));
    try_one("another good one", to, &t, &bytes);
    Ok(())
}

/// A ticket for bob; presented at once, or when somebody says so.
pub(super) fn bob(to: &str, target: &str, later: bool) -> Result<()> {
    let (key, bytes, cert) = own()?;
    let mut t = truth(&cert, target, 77);
    (t.user, t.login) = ("bob".into(), "bob".into());
    let ticket = t.sign(&key);
    if later {
        tell("signed", "bob");
        let _ = std::io::stdin().read(&mut [0])?;
    }
    try_one("bob", to, &ticket, &bytes);
    Ok(())
}
