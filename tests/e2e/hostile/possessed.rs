//! A daemon in somebody else's hands: he is the user `queue`, has its sockets, keys and files, and what users gave it.
//! He can lose and refuse what is asked for. He cannot become anybody, read anybody's session, or change what is run.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ed25519_dalek::SigningKey;
use libqueue::frame;
use libqueue::tls::{KeyPair, Peer, client_config, server_config, server_name};
use libqueue::wire::job::Run;
use libqueue::wire::{
    self, PREAMBLE_LEN, Placed, SessionAnswer, SessionHello, parse_preamble, reply, request,
};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prost::Message;
use queue_exec::cert::{HostCert, Vouch};
use queue_exec::client;
use queue_exec::layout::Layout;
use queue_exec::protocol::{Control, JobKey, JobRequest, Refusal, Reply, Request};
use queue_exec::ticket::{Grant, Ticket};
use queue_harness::{Cluster, LIMIT, Status, queue as install, wait_until};
use rustls::{ClientConnection, ServerConnection};
use sha2::{Digest, Sha256};

use super::play::tell;
use super::{attacker, daemon, launch, reported, unharmed};
use crate::world::{World, all_up, named, queue};

pub(super) fn trials(w: &Arc<World>) -> Vec<Trial> {
    vec![
        w.alone("hostile::a_possessed_daemon_becomes_nobody", becomes_nobody),
        w.alone(
            "hostile::a_possessed_target_does_not_get_between_the_ends",
            target_in_between,
        ),
        w.alone(
            "hostile::a_possessed_source_does_not_get_between_the_ends",
            source_in_between,
        ),
    ]
}

/// Gives the attackers what a daemon knows: certificates.
fn share_certs(c: &Cluster) -> Result<()> {
    for k in 1..=3 {
        let cert = c.host(k).read("/var/lib/queue/queued/host.cert")?;
        fs::write(c.shared().join(format!("h{k}.cert")), cert)?;
    }
    Ok(())
}

fn shared(name: &str) -> String {
    format!("/srv/shared/{name}")
}

fn becomes_nobody(c: &Cluster) -> Result<()> {
    share_certs(c)?;
    let h2 = daemon(c, 2)?;
    // A session of alice's that lives through all of it, and a ticket and a warrant of hers that went through the
    // daemon.
    let mut session = queue(
        c,
        &["-h", "h2", "--", "sh", "-c", "echo up; read x; echo $x 73011"],
    )
    .spawn_piped()?;
    wait_until(LIMIT, "the session", || session.stdout() == b"up\n")?;
    attacker(
        c,
        1,
        "alice",
        "captured",
        &[&shared("h2.cert"), &shared("captured")],
    )
    .ok()?;
    let watched = attacker(
        c,
        2,
        "queue",
        "possessed",
        &[&shared("h1.cert"), &shared("captured")],
    )
    .run()?;
    ensure!(watched.status == Status::Exit(0), "{watched:?}");
    let tried = reported(&watched, "tried");
    let said = |name: &str| {
        let line = tried
            .iter()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(": "));
        line.with_context(|| format!("{name} was not tried: {tried:?}"))
    };
    for name in ["sign", "warrant", "adopt", "upgrade"] {
        ensure!(said(name)?.starts_with("Denied"), "{name}: {}", said(name)?);
    }
    for name in [
        "start, forged",
        "start, signed with the key of TLS",
        "start, by a host of its own",
        "start, altered",
        "start, used before",
        "start, for control",
        "control, forged",
        "control, with a captured ticket",
        "attach, forged",
        "install",
        "renew",
        "revoke",
        "admit",
        "run, forged",
        "run, altered",
        "run, again",
        "deliver, altered",
    ] {
        ensure!(said(name)?.starts_with("refused"), "{name}: {}", said(name)?);
    }
    ensure!(said("start, captured")? == "started", "{tried:?}");
    ensure!(said("run, as it was meant")? == "Done", "{tried:?}");
    // It holds both ends of the connection, and reads nothing.
    for name in ["between the ends", "between the ends, resumed"] {
        ensure!(said(name)?.starts_with("nothing"), "{name}: {}", said(name)?);
    }
    let opened: Vec<_> = tried.iter().filter(|l| l.contains(": opened")).collect();
    ensure!(opened.is_empty(), "{opened:?}");
    ensure!(
        tried.iter().filter(|l| l.ends_with(": closed")).count() >= 15,
        "{tried:?}"
    );
    session.stdin()?.write_all(b"still mine\n")?;
    let out = session.wait(LIMIT)?;
    ensure!(
        (out.status, out.text().as_str()) == (Status::Exit(0), "up\nstill mine 73011"),
        "{out:?}"
    );
    unharmed(c, 2, h2)?;
    launch(c).map(drop)
}

/// Ends the daemon of a host, as whoever took it over would.
fn seize(c: &Cluster, k: usize) -> Result<()> {
    for pid in named(c, k, "queued") {
        kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    }
    wait_until(LIMIT, "the end of the daemon", || {
        named(c, k, "queued").is_empty()
    })
}

fn give_back(c: &Cluster, k: usize) -> Result<()> {
    install::run_queued(c.host(k))?;
    all_up(c, LIMIT)?;
    launch(c).map(drop)
}

fn target_in_between(c: &Cluster) -> Result<()> {
    launch(c)?;
    seize(c, 2)?;
    let result = (|| {
        let middle = attacker(c, 2, "queue", "middle", &["7838"]).spawn_piped()?;
        wait_until(LIMIT, "it to listen", || middle.stdout().starts_with(b"ready"))
            .with_context(|| String::from_utf8_lossy(&middle.stderr()).into_owned())?;
        let secret = "SECRET=73012";
        let out = queue(c, &["-h", "h2", "--", "echo", secret]).run()?;
        ensure!(
            out.status == Status::Exit(125) && out.error().contains("is not h2, or its keys have changed"),
            "{out:?}"
        );
        let seen = middle.wait(LIMIT)?;
        let told = reported(&seen, "got");
        ensure!(told.len() == 1 && told[0].starts_with("nothing"), "{seen:?}");
        anyhow::Ok(())
    })();
    give_back(c, 2)?;
    result
}

fn source_in_between(c: &Cluster) -> Result<()> {
    share_certs(c)?;
    seize(c, 1)?;
    let result = (|| {
        for cert in ["h2", "own"] {
            let middle = attacker(c, 1, "queue", "fake-daemon", &[&shared("h2.cert"), cert]).spawn_piped()?;
            wait_until(LIMIT, "it to listen", || middle.stdout().starts_with(b"ready"))
                .with_context(|| String::from_utf8_lossy(&middle.stderr()).into_owned())?;
            let out = queue(c, &["-h", "h2", "--", "echo", "SECRET=73013"]).run()?;
            let why = if cert == "h2" {
                "is not h2, or its keys have changed"
            } else {
                "certificate"
            };
            ensure!(
                out.status == Status::Exit(125) && out.error().contains(why),
                "{cert}: {out:?}"
            );
            drop(middle);
        }
        anyhow::Ok(())
    })();
    give_back(c, 1)?;
    result
}

// ---- The attackers -----------------------------------------------------------------------------------

/// What the run of the captured warrant is.
fn harmless() -> Vec<u8> {
    let run = Run {
        argv: vec![b"true".to_vec()],
        cwd: b"/".to_vec(),
        discard: true,
        ..Run::default()
    };
    run.encode_to_vec()
}

/// As alice: a ticket for the target, and a warrant, as her `queue` would have them signed and hand them out.
pub(super) fn captured(cert: &str, to: &str) -> Result<()> {
    let target_cert = fs::read(cert)?;
    let layout = Layout::system();
    let mut files = Vec::new();
    for i in 0..2u8 {
        let exec = client::dial(&layout)?;
        let sign = Request::Sign {
            target_cert: target_cert.clone(),
            login: String::new(),
            nonce: rand(i),
            request: [7; 32],
            client_key: KeyPair::generate()?.public(),
        };
        match client::ask(exec.as_fd(), &sign, None)? {
            Reply::Signed { ticket, .. } => files.push((format!("{to}.ticket{i}"), ticket)),
            r => bail!("not signed: {r:?}"),
        }
    }
    let exec = client::dial(&layout)?;
    let run = Sha256::digest(harmless()).into();
    let warrant = Request::Job(JobRequest::Warrant {
        login: String::new(),
        run,
    });
    match client::ask(exec.as_fd(), &warrant, None)? {
        Reply::Job(queue_exec::protocol::JobReply::Warrant { warrant, .. }) => {
            files.push((format!("{to}.warrant"), warrant));
        }
        r => bail!("not signed: {r:?}"),
    }
    for (name, bytes) in files {
        fs::write(name, bytes)?;
    }
    Ok(())
}

fn rand(i: u8) -> [u8; 16] {
    let mut n = [i; 16];
    n[..8].copy_from_slice(&std::process::id().to_be_bytes().repeat(2));
    n
}

fn ask(what: &Request, fd: Option<&OwnedFd>) -> String {
    let asked = client::dial(&Layout::system())
        .and_then(|exec| client::ask(exec.as_fd(), what, fd.map(|f| f.as_fd())));
    match asked {
        Ok(Reply::Refused {
            code: Refusal::Denied,
            text,
        }) => format!("Denied {text}"),
        Ok(Reply::Refused { code, text }) => format!("refused {code:?} {text}"),
        Ok(Reply::Started { .. }) => "started".into(),
        Ok(Reply::Done) => "Done".into(),
        Ok(r) => format!("answered {r:?}"),
        Err(e) => format!("failed {e}"),
    }
}

/// Whatever an attempt is refused with: by the table, or for what it says.
fn attempt(name: &str, what: &Request, fd: Option<&OwnedFd>) {
    let said = ask(what, fd);
    let said = match name {
        "sign" | "warrant" | "adopt" | "upgrade" => said,
        _ => said.replace("Denied", "refused Denied"),
    };
    tell("tried", format!("{name}: {said}"));
}

/// A TCP connection within this host: what it hands over, and what it keeps.
fn tcp_pair() -> Result<(OwnedFd, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let ours = TcpStream::connect(listener.local_addr()?)?;
    let (theirs, _) = listener.accept()?;
    ours.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok((theirs.into(), ours))
}

/// Everything that the user `queue` may try on the executing host.
pub(super) fn possessed(h1_cert: &str, captured: &str) -> Result<()> {
    let h1 = fs::read(h1_cert)?;
    let own_cert = fs::read("/var/lib/queue/queued/host.cert")?;
    let (h1_parsed, ..) = HostCert::parse(&h1).map_err(|e| anyhow::anyhow!("{e}"))?;
    let ticket = fs::read(format!("{captured}.ticket0"))?;
    let second = fs::read(format!("{captured}.ticket1"))?;
    let warrant = fs::read(format!("{captured}.warrant"))?;
    let (said, ..) = Ticket::parse(&ticket).map_err(|e| anyhow::anyhow!("{e}"))?;
    let mine = SigningKey::from_bytes(&[3; 32]);
    let (fd, _kept) = tcp_pair()?;

    // To be signed for.
    let sign = Request::Sign {
        target_cert: own_cert.clone(),
        login: "alice".into(),
        nonce: [1; 16],
        request: [2; 32],
        client_key: [3; 32],
    };
    attempt("sign", &sign, None);
    attempt(
        "warrant",
        &Request::Job(JobRequest::Warrant {
            login: "alice".into(),
            run: [1; 32],
        }),
        None,
    );
    attempt("upgrade", &Request::Upgrade, None);

    // To have a session started as alice.
    let start = |ticket: &[u8], cert: &[u8]| Request::Start {
        ticket: ticket.to_vec(),
        source_cert: cert.to_vec(),
        note: Vec::new(),
    };
    let forged = Ticket {
        nonce: rand(9),
        ..said.clone()
    };
    attempt("start, forged", &start(&forged.sign(&mine), &h1), Some(&fd));
    // The one key that it has. PKCS#8 of Ed25519: the seed after 16 bytes.
    let pkcs8 = fs::read("/var/lib/queue/queued/tls.key").context("its own key")?;
    let seed: [u8; 32] = pkcs8.get(16..48).context("the key")?.try_into()?;
    let tls = SigningKey::from_bytes(&seed);
    let (own_parsed, ..) = HostCert::parse(&own_cert).map_err(|e| anyhow::anyhow!("{e}"))?;
    ensure!(
        tls.verifying_key().to_bytes() == own_parsed.tls_key,
        "that is not the key of TLS"
    );
    let as_h2 = Ticket {
        source: "h2".into(),
        nonce: rand(10),
        ..said.clone()
    };
    attempt(
        "start, signed with the key of TLS",
        &start(&as_h2.sign(&tls), &own_cert),
        Some(&fd),
    );
    let own_host = HostCert {
        host_key: mine.verifying_key().to_bytes(),
        vouch: Vouch::Only(vec!["*".into(), "root".into()]),
        ..h1_parsed.clone()
    };
    attempt(
        "start, by a host of its own",
        &start(&forged.sign(&mine), &own_host.sign(&tls)),
        Some(&fd),
    );
    let altered: Vec<u8> = {
        let at = ticket
            .windows(5)
            .position(|w| w == b"alice")
            .context("no alice")?;
        let mut t = ticket.clone();
        t[at..at + 5].copy_from_slice(b"carol");
        t
    };
    attempt("start, altered", &start(&altered, &h1), Some(&fd));

    // With what it was given: once, as it was meant; and then it is no wiser, with the connection in its hands.
    let (theirs, ours) = tcp_pair()?;
    attempt("start, captured", &start(&ticket, &h1), Some(&theirs));
    drop(theirs);
    tell("tried", format!("between the ends: {}", answer_and_tls(ours)));
    attempt("start, used before", &start(&ticket, &h1), Some(&fd));

    // A ticket for a session is none for anything else.
    let session = live_session()?;
    let body = Control::Kill { session, signal: 0 }.encode();
    let control = |ticket: &[u8]| Request::Control {
        ticket: ticket.to_vec(),
        source_cert: h1.clone(),
        body: body.clone(),
    };
    let for_kill = Ticket {
        nonce: rand(11),
        request: Sha256::digest(&body).into(),
        ..said.clone()
    };
    attempt("control, forged", &control(&for_kill.sign(&mine)), None);
    attempt("control, with a captured ticket", &control(&second), None);
    attempt(
        "start, for control",
        &start(&for_kill.sign(&mine), &h1),
        Some(&fd),
    );
    attempt("adopt", &Request::Adopt { nonce: session }, None);
    let attach = Request::Attach {
        ticket: Ticket {
            nonce: rand(12),
            ..said.clone()
        }
        .sign(&mine),
        source_cert: h1.clone(),
        session,
    };
    attempt("attach, forged", &attach, Some(&fd));
    // It may bring a connection for alice's session: that is what resuming is. The session talks to her key only.
    let (theirs, ours) = tcp_pair()?;
    let connected = ask(
        &Request::Connect {
            session,
            challenge: [4; 16],
        },
        Some(&theirs),
    );
    drop(theirs);
    tell(
        "tried",
        format!(
            "between the ends, resumed: {} ({connected})",
            answer_and_tls(ours)
        ),
    );

    // To become a host, or to change what hosts there are.
    attempt(
        "install",
        &Request::Install {
            cert: own_host.sign(&mine),
        },
        None,
    );
    attempt(
        "renew",
        &Request::Renew {
            cert: own_cert.clone(),
        },
        None,
    );
    let list = queue_exec::cert::Revocations {
        version: u64::MAX,
        serials: vec![1],
    };
    let list = list.sign(&own_parsed.cluster, &mine);
    attempt("revoke", &Request::Revoke { list }, None);
    let admit = Request::Admit {
        token: "x".into(),
        secret: "y".into(),
        name: "h9".into(),
        host_key: mine.verifying_key().to_bytes(),
        tls_key: own_parsed.tls_key,
        dry_run: false,
    };
    attempt("admit", &admit, None);

    // To run something else than what was signed for, or the same twice.
    let key = |attempt| JobKey {
        job: 990_000_000 + u64::from(std::process::id()),
        task: 0,
        attempt,
    };
    let run = |key, warrant: &[u8], run: Vec<u8>| {
        Request::Job(JobRequest::Run {
            key,
            warrant: warrant.to_vec(),
            source_cert: h1.clone(),
            run,
            params: Vec::new(),
            lease: 0,
            note: Vec::new(),
        })
    };
    let other = Run {
        argv: vec![b"/bin/sh".to_vec(), b"-c".to_vec(), b"id >/tmp/x".to_vec()],
        cwd: b"/".to_vec(),
        ..Run::default()
    };
    let (mut forged, ..) =
        queue_exec::warrant::Warrant::parse(&warrant).map_err(|e| anyhow::anyhow!("{e}"))?;
    forged.run = Sha256::digest(other.encode_to_vec()).into();
    attempt(
        "run, forged",
        &run(key(1), &forged.sign(&mine), other.encode_to_vec()),
        None,
    );
    attempt(
        "run, altered",
        &run(key(1), &warrant, other.encode_to_vec()),
        None,
    );
    attempt("run, as it was meant", &run(key(2), &warrant, harmless()), None);
    attempt("run, again", &run(key(2), &warrant, harmless()), None);
    let deliver = Request::Job(JobRequest::Deliver {
        job: 1,
        warrant: warrant.clone(),
        source_cert: h1.clone(),
        run: other.encode_to_vec(),
        from: "h3".into(),
    });
    attempt("deliver, altered", &deliver, None);

    files()
}

/// The nonce of alice's session, as the monitor tells its daemon.
fn live_session() -> Result<[u8; 16]> {
    let exec = client::dial(&Layout::system())?;
    client::send(exec.as_fd(), &Request::Watch.encode(1), None)?;
    let mut buf = vec![0; queue_exec::protocol::PACKET_MAX];
    loop {
        let (n, _) = client::receive(exec.as_fd(), &mut buf)?;
        ensure!(n > 0, "the monitor hung up");
        match Reply::decode(&buf[..n])? {
            (_, Reply::SessionStarted { nonce, login, .. }) if login == "alice" => return Ok(nonce),
            (_, Reply::SessionStarted { .. } | Reply::SessionEnded { .. } | Reply::Done | Reply::Job(_)) => {}
            (_, r) => bail!("not watched: {r:?}"),
        }
    }
}

/// Plays the client with a key of its own: what it gets to read.
fn answer_and_tls(mut s: TcpStream) -> String {
    let played = (|| -> Result<usize> {
        let mut head = [0; 2];
        s.read_exact(&mut head)?;
        let mut body = vec![0; usize::from(u16::from_be_bytes(head))];
        s.read_exact(&mut body)?;
        let answer = SessionAnswer::decode(&body[..])?;
        ensure!(answer.refused.is_empty(), "refused: {}", answer.refused);
        let config = client_config(&KeyPair::generate()?, Peer::Any)?;
        let mut tls = ClientConnection::new(config, server_name())?;
        while tls.is_handshaking() {
            tls.complete_io(&mut s)?;
        }
        // In TLS 1.3 a client only learns afterwards that it was refused.
        let mut stream = rustls::Stream::new(&mut tls, &mut s);
        stream.write_all(b"anything")?;
        let mut buf = [0; 100];
        Ok(stream.read(&mut buf)?)
    })();
    match played {
        Ok(0) => "nothing: closed".into(),
        Ok(n) => format!("{n} bytes"),
        Err(e) => format!("nothing: {e:#}"),
    }
}

/// What lies about, and what others' processes are made of.
fn files() -> Result<()> {
    let closed = |what: &str, open: bool| {
        tell(
            "tried",
            format!("{what}: {}", if open { "opened" } else { "closed" }),
        );
    };
    for path in [
        "/var/lib/queue/exec/host.key",
        "/var/lib/queue/exec/host.cert",
        "/var/lib/queue/exec/authority.key",
        "/run/queue/sessions/jobs.journal",
        "/run/queue/sessions/nonces",
        "/home/alice/.bashrc",
    ] {
        closed(path, fs::File::open(path).is_ok());
    }
    for path in [
        "/var/lib/queue/exec",
        "/run/queue/sessions",
        "/home/alice",
        "/var/lib/queue/spool",
    ] {
        closed(path, fs::read_dir(path).is_ok());
    }
    for path in [
        "/etc/queue/exec.conf",
        "/run/queue/sessions/x",
        "/var/lib/queue/exec/x",
        "/var/lib/queue/spool/x",
    ] {
        closed(path, fs::write(path, "vouch * root\n").is_ok());
    }
    for (from, to) in [
        ("/run/queue/exec.sock", "/run/queue/old.sock"),
        ("/run/queue/sessions", "/run/queue/old"),
        ("/var/lib/queue/exec", "/var/lib/queue/old"),
        ("/var/lib/queue/queued", "/var/lib/queue/old"),
    ] {
        closed(&format!("rename {from}"), fs::rename(from, to).is_ok());
    }
    // Processes that are not its own, by what they are.
    let own = nix::unistd::geteuid().as_raw();
    for e in fs::read_dir("/proc")?.flatten() {
        use std::os::unix::fs::MetadataExt;
        let Some(pid) = e.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else {
            continue;
        };
        let comm = fs::read_to_string(e.path().join("comm")).unwrap_or_default();
        let comm = comm.trim();
        let Ok(owner) = fs::metadata(e.path()).map(|m| m.uid()) else {
            continue;
        };
        if !["queue-exec", "queue-session", "sh"].contains(&comm) || (owner == own && comm == "sh") {
            continue;
        }
        for file in ["environ", "mem", "fd", "cwd", "root", "exe"] {
            let path = e.path().join(file);
            let open = match file {
                "fd" => fs::read_dir(&path).is_ok(),
                "cwd" | "root" | "exe" => fs::read_link(&path).is_ok(),
                "environ" => fs::read(&path).is_ok_and(|b| !b.is_empty()),
                _ => fs::File::open(&path).is_ok(),
            };
            closed(&format!("{comm} {file}"), open);
        }
        closed(
            &format!("{comm} signal"),
            kill(Pid::from_raw(pid), Signal::SIGCONT).is_ok(),
        );
        closed(&format!("{comm} trace"), traced(pid));
    }
    Ok(())
}

fn traced(pid: i32) -> bool {
    // SAFETY: numbers only. Should it succeed the test fails, and the process goes on when this one ends.
    unsafe { nix::libc::ptrace(nix::libc::PTRACE_ATTACH, pid, 0, 0) == 0 }
}

/// Answers one session's connection with a grant of its own and TLS of its own: what came out of it.
fn play_session(mut s: TcpStream, signs: &SigningKey) -> String {
    let key = KeyPair::generate();
    let played = (|| -> Result<usize> {
        s.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut head = [0; PREAMBLE_LEN];
        s.read_exact(&mut head)?;
        let (_, n) = parse_preamble(&head).context("no preamble")?;
        let mut body = vec![0; n];
        s.read_exact(&mut body)?;
        let hello = SessionHello::decode(&body[..])?;
        let (ticket, ..) = Ticket::parse(&hello.ticket).map_err(|e| anyhow::anyhow!("{e}"))?;
        let key = key?;
        let grant = Grant {
            nonce: ticket.nonce,
            session_key: key.public(),
        };
        let answer = SessionAnswer {
            grant: grant.sign(signs),
            ..SessionAnswer::default()
        }
        .encode_to_vec();
        s.write_all(&(answer.len() as u16).to_be_bytes())?;
        s.write_all(&answer)?;
        let mut tls = ServerConnection::new(server_config(&key, Peer::Any)?)?;
        while tls.is_handshaking() {
            let (read, _) = tls.complete_io(&mut s)?;
            ensure!(read > 0 || !tls.is_handshaking(), "closed");
        }
        let mut buf = [0; 1000];
        Ok(rustls::Stream::new(&mut tls, &mut s).read(&mut buf)?)
    })();
    match played {
        Ok(0) => "nothing: closed".into(),
        Ok(n) => format!("{n} bytes"),
        Err(e) => format!("nothing: {e:#}"),
    }
}

/// Listens where queued did; the first session's connection.
pub(super) fn middle(port: &str) -> Result<()> {
    let listener = TcpListener::bind(format!("0.0.0.0:{port}"))?;
    let pkcs8 = fs::read("/var/lib/queue/queued/tls.key")?;
    let seed: [u8; 32] = pkcs8.get(16..48).context("the key")?.try_into()?;
    let key = SigningKey::from_bytes(&seed);
    tell("ready", port);
    loop {
        let (s, _) = listener.accept()?;
        let mut head = [0; PREAMBLE_LEN];
        // Members try to get their daemon back.
        if s.peek(&mut head).is_ok_and(|n| n == PREAMBLE_LEN) && head[4] == wire::KIND_SESSION {
            tell("got", play_session(s, &key));
            return Ok(());
        }
    }
}

/// Sits at queued's socket and sends everybody to itself, with the right certificate or one of its own.
pub(super) fn fake_daemon(cert: &str, which: &str) -> Result<()> {
    let key = SigningKey::from_bytes(&[6; 32]);
    let mut cert = fs::read(cert)?;
    if which == "own" {
        let (parsed, ..) = HostCert::parse(&cert).map_err(|e| anyhow::anyhow!("{e}"))?;
        let own = HostCert {
            host_key: key.verifying_key().to_bytes(),
            ..parsed
        };
        cert = own.sign(&key);
    }
    let path = Path::new("/run/queue/queued.sock");
    let _ = fs::remove_file(path);
    let socket = UnixListener::bind(path)?;
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    std::thread::spawn(move || {
        for s in listener.incoming().flatten() {
            tell("got", play_session(s, &key));
        }
    });
    tell("ready", path.display());
    for s in socket.incoming() {
        let mut s = s?;
        while let Ok(asked) = frame::read::<wire::Request>(&mut s) {
            let kind = match asked.kind {
                Some(request::Kind::Place(_)) => reply::Kind::Placed(Placed {
                    host: "h2".into(),
                    address: address.clone(),
                    cert: cert.clone(),
                    local: false,
                }),
                _ => bail!("something else was asked"),
            };
            s.write_all(&frame::encode(&wire::Reply { kind: Some(kind) }))?;
        }
    }
    Ok(())
}
