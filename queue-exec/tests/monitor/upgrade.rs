//! Another program takes the monitor's place while it is used.

use crate::daemon::{Daemon, key, request};
use crate::host::{Host, LIMIT, alive, refused, wait_for};
use crate::tests::Test;
use queue_exec::client;
use queue_exec::protocol::{About, JobReply, PACKET_MAX, Refusal, Reply, Request};
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::time::Instant;

/// Name, whether it needs root, and the test.
pub(crate) const ALL: &[Test] = &[
    ("another_program_takes_over_and_nobody_notices", true, upgrade),
    ("jobs_go_on_under_another_program", true, jobs),
    ("a_program_that_cannot_be_executed_changes_nothing", true, broken),
    ("only_root_has_the_program_replaced", true, permitted),
];

fn about(h: &Host) -> About {
    match h.ask(&Request::About) {
        Reply::About(a) => a,
        other => panic!("{other:?}"),
    }
}

fn program(h: &Host) -> PathBuf {
    h.dir.join("lib/queue-exec")
}

/// The file at the program's path is another one from now on, as after an installation.
fn install(h: &Host) {
    let new = h.dir.join("lib/queue-exec.new");
    fs::copy(program(h), &new).unwrap();
    fs::rename(new, program(h)).unwrap();
}

/// Asks for it, and waits for the end of the connection.
fn replace(h: &Host) {
    let e = client::ask(h.dial().as_fd(), &Request::Upgrade, None).unwrap_err();
    assert_eq!(e.kind(), io::ErrorKind::UnexpectedEof, "{e}");
}

/// Whether the process executes the file that is at the program's path.
fn is_current(h: &Host) -> bool {
    let runs = fs::metadata(format!("/proc/{}/exe", h.pid())).unwrap();
    let is = fs::metadata(program(h)).unwrap();
    (runs.dev(), runs.ino()) == (is.dev(), is.ino())
}

fn send(c: &OwnedFd, r: &Request) {
    client::send(c.as_fd(), &r.encode(7), None).unwrap();
}

fn read(c: &OwnedFd) -> (u32, Reply) {
    let mut buf = vec![0; PACKET_MAX];
    let (n, _) = client::receive(c.as_fd(), &mut buf).unwrap();
    Reply::decode(&buf[..n]).unwrap()
}

fn upgrade() {
    let mut h = Host::new(0);
    h.up();
    let m = h.member("h2");
    let mut s = h.session(&m, "alice");
    let mut other = h.session(&m, "bob");
    let pids = s.spawn();
    assert_eq!(s.ask("become 1"), "became");
    let (idle, watching) = (h.dial(), h.dial());
    send(&watching, &Request::Watch);
    let next = || loop {
        // What there is to tell of jobs is told again by each program.
        let (id, reply) = read(&watching);
        if !matches!(reply, Reply::Job(_)) {
            return (id, reply);
        }
    };
    assert_eq!(next(), (7, Reply::Done));
    for _ in 0..2 {
        assert!(matches!(next(), (0, Reply::SessionStarted { .. })));
    }
    let before = about(&h);
    assert_eq!((before.sessions, before.jobs), (2, 0));
    assert_eq!(before.program, program(&h).to_str().unwrap());
    let mut image = before.image;
    for round in 0..3 {
        install(&h);
        assert!(!is_current(&h));
        let old = m.ticket(&h, "carol").sign(&m.key);
        let (reply, conn) = h.start(&old, &m.cert);
        assert!(matches!(reply, Reply::Started { .. }), "{reply:?}");
        drop(conn);
        let Reply::SessionStarted { nonce, .. } = next().1 else {
            panic!("no start")
        };
        assert_eq!(next(), (0, Reply::SessionEnded { nonce }));
        // Asked before, answered by the next one if not by this one: nothing is lost.
        replace(&h);
        send(&idle, &Request::About);
        let (7, Reply::About(now)) = read(&idle) else {
            panic!("no answer on a connection from before")
        };
        assert!(is_current(&h) && now.image != image, "round {round}");
        assert_eq!((now.sessions, &now.program), (2, &before.program));
        image = now.image;
        // They did not even lose their monitor.
        assert_eq!(other.ask("echo"), "echo");
        assert_eq!(s.ask("echo"), "echo");
        assert!(pids.iter().all(|p| alive(*p)));
        // Nor can a ticket be used again because the program is new.
        let again = h.start(&old, &m.cert).0;
        assert_eq!(refused(&again, "used before"), Refusal::BadTicket);
        assert!(fs::read_dir(format!("/proc/{}/fd", h.pid())).unwrap().count() < 40);
    }
    other.say("end");
    assert_eq!(next(), (0, Reply::SessionEnded { nonce: other.nonce }));
    s.say("end");
    assert_eq!(next(), (0, Reply::SessionEnded { nonce: s.nonce }));
    wait_for("the tree's end", || !pids.iter().any(|p| alive(*p)));
    wait_for("the records' end", || h.records().is_empty());
    let children = || {
        let list = format!("/proc/{0}/task/{0}/children", h.pid());
        let all = fs::read_to_string(list).unwrap();
        let state = |p: &str| fs::read_to_string(format!("/proc/{p}/stat")).unwrap_or_default();
        all.split_whitespace()
            .filter(|p| state(p).contains(") Z "))
            .count()
    };
    wait_for("nobody to be left uncollected", || children() == 0);
}

fn jobs() {
    let mut h = Host::new(0);
    h.up();
    let m = h.member("h2");
    let d = Daemon::new(&h);
    d.run(request(&h, &m, "alice", key(1), "stay"));
    let (pid, _) = d.started(key(1));
    install(&h);
    replace(&h);
    // The daemon is told all of it once more, on the connection that it has.
    let end = Instant::now() + LIMIT;
    let mut told = Vec::new();
    while !matches!(told.last(), Some(JobReply::Told)) {
        told.push(d.next(end.saturating_duration_since(Instant::now())).unwrap());
    }
    assert_eq!(told[0], JobReply::Life { life: d.life });
    assert!(
        matches!(&told[1], JobReply::Started { key: k, pid: p, .. } if (*k, *p as i32) == (key(1), pid)),
        "{told:?}"
    );
    let now = about(&h);
    assert_eq!((now.sessions, now.jobs), (0, 1));
    assert!(alive(pid) && is_current(&h));
    assert_eq!(d.end(key(1), 0), Reply::Done, "it listens as before");
    d.ended(key(1));
    wait_for("the end", || about(&h).jobs == 0);
}

fn broken() {
    let mut h = Host::new(0);
    h.up();
    let m = h.member("h2");
    let mut s = h.session(&m, "alice");
    let before = about(&h).image;
    let path = program(&h);
    let kept = h.dir.join("lib/kept");
    fs::rename(&path, &kept).unwrap();
    let refusal = |text: &str| {
        let reply = h.ask(&Request::Upgrade);
        assert_eq!(refused(&reply, text), Refusal::Internal);
        // The one that runs serves as before.
        assert_eq!(about(&h).image, before);
        drop(h.session(&m, "bob"));
    };
    refusal("No such file");
    fs::write(&path, b"\x7fELF, but not really").unwrap();
    refusal("denied");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    refusal("cannot execute");
    assert_eq!(s.ask("echo"), "echo");
    fs::rename(kept, path).unwrap();
    replace(&h);
    assert_eq!(s.ask("echo"), "echo");
    assert_ne!(about(&h).image, before);
}

fn permitted() {
    let mut h = Host::new(0);
    h.up();
    let before = about(&h).image;
    for r in [Request::Upgrade, Request::About] {
        assert_eq!(refused(&h.ask_as(1, &r), "not for you"), Refusal::Denied);
    }
    assert_eq!(about(&h).image, before);
}
