//! What the monitor does and refuses.

use crate::host::{Host, LIMIT, alive, as_user, refused, wait_for};
use queue_exec::authority;
use queue_exec::cert::HostCert;
use queue_exec::client;
use queue_exec::protocol::{PACKET_MAX, Refusal, Reply, Request};
use queue_exec::state::{Room, random, unix_now};
use queue_exec::ticket::{Ticket, TicketError};
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Command;
use std::time::Duration;

pub(crate) type Test = (&'static str, bool, fn());

/// Name, whether it needs root, and the test.
pub(crate) const ALL: &[Test] = &[
    ("users_may_have_their_word_signed_and_nothing_else", true, permits),
    ("sign_names_the_user_that_the_kernel_names", true, sign),
    ("a_process_in_another_user_namespace_is_denied", true, namespaces),
    ("good_tickets_start_sessions_and_others_do_not", true, tickets),
    ("a_removed_host_is_refused", true, revoked),
    ("policy_is_read_again_when_told", true, policy),
    ("a_slow_name_service_holds_up_nobody_else", true, parked),
    ("a_tree_ends_with_its_session_or_stays_as_told", true, trees),
    ("sessions_are_executed_where_the_zygote_fails", true, executed),
    ("kill_tree_spares_the_session", true, kill_tree),
    ("a_restarted_monitor_takes_its_sessions_back", true, adopt),
    (
        "trees_of_sessions_that_died_meanwhile_are_killed_before_ready",
        true,
        orphans,
    ),
    ("the_daemon_sees_sessions_come_and_go", true, watch),
    (
        "launches_wait_for_a_session_process_and_are_told_if_there_is_none",
        true,
        no_session,
    ),
    ("hosts_are_admitted_by_token", true, admit),
    ("a_host_without_a_key_is_not_ready", true, not_ready),
    ("a_single_user_install_serves_its_owner", true, single),
    ("a_misbehaving_client_or_session_is_ended", true, nonsense),
];

fn host() -> Host {
    let mut h = Host::new(0);
    h.up();
    h
}

fn sign_request(target: &[u8], login: &str) -> Request {
    Request::Sign {
        target_cert: target.to_vec(),
        login: login.into(),
        nonce: random(),
        request: [4; 32],
        client_key: [5; 32],
    }
}

fn permits() {
    let h = host();
    let k = [0; 32];
    let admit = Request::Admit {
        token: "t".into(),
        secret: "s".into(),
        name: "n".into(),
        host_key: k,
        tls_key: k,
        dry_run: false,
    };
    let start = Request::Start {
        note: Vec::new(),
        ticket: vec![1],
        source_cert: vec![2],
    };
    let adopt = Request::Adopt { nonce: [0; 16] };
    let control = Request::Control {
        ticket: vec![1],
        source_cert: vec![2],
        body: vec![3],
    };
    for r in [
        start,
        control,
        admit,
        Request::Revoke { list: vec![] },
        Request::Watch,
        Request::Reload,
        adopt,
    ] {
        as_user(1, || {
            let c = h.dial();
            let reply = client::ask(c.as_fd(), &r, None).unwrap();
            assert_eq!(refused(&reply, ""), Refusal::Denied, "{r:?}");
            let again = client::ask(c.as_fd(), &r, None);
            assert!(again.is_err(), "the connection is closed: {again:?}");
        });
    }
    assert_eq!(h.ask(&Request::Watch), Reply::Done);
    assert_eq!(h.ask(&Request::Reload), Reply::Done);
}

fn sign() {
    let h = host();
    let m = h.member("h2");
    let target = HostCert::verify(&m.cert, &h.authority).unwrap();
    let here = HostCert::verify(&h.cert, &h.authority).unwrap();
    for (uid, login, user, want) in [
        (1, "", "daemon", "daemon"),
        (1, "root", "daemon", "root"),
        (0, "", "root", "root"),
    ] {
        let Reply::Signed {
            ticket,
            source_cert,
            target_key,
        } = h.ask_as(uid, &sign_request(&m.cert, login))
        else {
            panic!("not signed");
        };
        assert_eq!((source_cert, target_key), (h.cert.clone(), target.host_key));
        let t = Ticket::verify(&ticket, &here, &target, queue_exec::state::unix_now()).unwrap();
        assert_eq!(
            (t.user.as_str(), t.login.as_str(), t.source.as_str()),
            (user, want, "h1")
        );
        // It is for that host only.
        let elsewhere = Ticket::verify(&ticket, &here, &here, queue_exec::state::unix_now());
        assert!(matches!(elsewhere, Err(TicketError::NotForUs(_))));
    }
    let junk = h.ask_as(1, &sign_request(b"junk", ""));
    assert_eq!(refused(&junk, "malformed"), Refusal::BadTicket);
    let overflow = h.ask_as(65534, &sign_request(&m.cert, ""));
    assert_eq!(refused(&overflow, "overflow uid"), Refusal::Denied);
}

fn namespaces() {
    let h = host();
    let out = Command::new(std::env::current_exe().unwrap())
        .arg("--ask-from-userns")
        .arg(h.layout.exec_socket())
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(
        text.contains("Denied") && text.contains("user namespace"),
        "{text}"
    );
}

fn tickets() {
    let h = host();
    let m = h.member("h2");
    let t = m.ticket(&h, "alice");
    let bytes = t.sign(&m.key);
    let refuse = |t: &[u8], cert: &[u8], text: &str| refused(&h.start(t, cert).0, text);

    let mut bad = bytes.clone();
    bad[70] ^= 1;
    assert_eq!(refuse(&bad, &m.cert, ""), Refusal::BadTicket);
    assert_eq!(refuse(&bytes[..50], &m.cert, "malformed"), Refusal::BadTicket);
    assert_eq!(refuse(&bytes, &h.cert, "signature"), Refusal::BadTicket);
    let mut forged = m.cert.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert_eq!(refuse(&bytes, &forged, "signature"), Refusal::BadTicket);
    let other = Ticket {
        target: "h3".into(),
        ..t.clone()
    }
    .sign(&m.key);
    assert_eq!(refuse(&other, &m.cert, "for h3"), Refusal::BadTicket);
    let late = Ticket {
        issued: t.issued - 3600,
        ..t.clone()
    }
    .sign(&m.key);
    assert_eq!(refuse(&late, &m.cert, "too late"), Refusal::Clock);
    let early = Ticket {
        issued: t.issued + 3600,
        ..t.clone()
    }
    .sign(&m.key);
    assert_eq!(refuse(&early, &m.cert, "ahead"), Refusal::Clock);
    let root = Ticket {
        user: "root".into(),
        login: "root".into(),
        ..t.clone()
    }
    .sign(&m.key);
    assert_eq!(refuse(&root, &m.cert, "may not vouch for root"), Refusal::Policy);
    let su = Ticket {
        login: "bob".into(),
        ..t.clone()
    }
    .sign(&m.key);
    assert_eq!(refuse(&su, &m.cert, "may not run as bob"), Refusal::Policy);
    let without = h.ask(&Request::Start {
        note: Vec::new(),
        ticket: bytes.clone(),
        source_cert: m.cert.clone(),
    });
    assert_eq!(refused(&without, "descriptor"), Refusal::Denied);

    // None of that used it up.
    let (reply, _c) = h.start(&bytes, &m.cert);
    assert_eq!(
        reply,
        Reply::Started {
            nonce: t.nonce,
            login: "alice".into()
        }
    );
    assert_eq!(refuse(&bytes, &m.cert, "used before"), Refusal::BadTicket);

    // The session is told what it has to check, and inherits nothing.
    let s = h.session(&m, "alice");
    let want = "hello alice as alice uid-min 1000 root false cgroup ";
    assert!(s.hello.starts_with(want), "{}", s.hello);
    // 0, 1, 2, the monitor, the connection.
    assert!(s.hello.contains("fds 5 env "), "{}", s.hello);
    assert!(s.hello.contains("env PATH,LANG pid"), "{}", s.hello);
}

fn revoked() {
    let h = host();
    let m = h.member("h2");
    drop(h.session(&m, "alice"));
    let list = authority::remove(&h.layout, "h2").unwrap();
    // The authority's own file was changed under it; the list says as much.
    assert_eq!(h.ask(&Request::Revoke { list: list.clone() }), Reply::Done);
    let t = m.ticket(&h, "alice").sign(&m.key);
    assert_eq!(
        refused(&h.start(&t, &m.cert).0, "h2 was removed"),
        Refusal::BadTicket
    );
    let sign = h.ask_as(1, &sign_request(&m.cert, ""));
    assert_eq!(refused(&sign, "h2 was removed"), Refusal::BadTicket);
    let mut bad = list;
    bad[40] ^= 1;
    assert_eq!(
        refused(&h.ask(&Request::Revoke { list: bad }), ""),
        Refusal::BadTicket
    );
}

fn policy() {
    let h = host();
    let m = h.member("h2");
    let conf = h.layout.exec_conf();
    fs::write(&conf, "vouch h2 bob\nlogin bob root\n").unwrap();
    assert_eq!(h.ask(&Request::Reload), Reply::Done);
    let start = |user: &str, login: &str| {
        let t = Ticket {
            login: login.into(),
            ..m.ticket(&h, user)
        };
        h.start(&t.sign(&m.key), &m.cert).0
    };
    assert_eq!(refused(&start("alice", "alice"), "exec.conf"), Refusal::Policy);
    assert!(matches!(start("bob", "root"), Reply::Started { .. }));
    fs::write(&conf, "vouch h2 alice\nwram 3\n").unwrap();
    assert_eq!(
        refused(&h.ask(&Request::Reload), "exec.conf:2: unknown word"),
        Refusal::Internal
    );
    assert_eq!(refused(&start("alice", "alice"), "exec.conf"), Refusal::Policy);
    fs::write(&conf, "vouch h2 alice\n").unwrap();
    // SAFETY: our own child.
    unsafe { libc::kill(h.pid(), libc::SIGHUP) };
    wait_for("the policy", || {
        matches!(start("alice", "alice"), Reply::Started { .. })
    });
}

fn parked() {
    let mut h = Host::new(0);
    let go = h.dir.join("go");
    h = h.with_lookup(&format!(
        "while ! [ -e {} ]; do sleep 0.05; done; echo carol",
        go.display()
    ));
    h.up();
    let target = h.cert.clone();
    std::thread::scope(|s| {
        let slow = s.spawn(|| h.ask_as(12345, &sign_request(&target, "")));
        let asked = || {
            fs::read_dir("/proc").unwrap().flatten().any(|e| {
                fs::read_to_string(e.path().join("cmdline"))
                    .is_ok_and(|c| c.contains(h.dir.to_str().unwrap()) && c.contains("--print-user\0"))
            })
        };
        wait_for("the look-up to run", asked);
        for _ in 0..20 {
            assert!(matches!(
                h.ask_as(1, &sign_request(&target, "")),
                Reply::Signed { .. }
            ));
        }
        assert!(!slow.is_finished());
        fs::write(&go, "").unwrap();
        let Reply::Signed { ticket, .. } = slow.join().unwrap() else {
            panic!("not signed")
        };
        assert_eq!(Ticket::parse(&ticket).unwrap().0.user, "carol");
    });
    // It is remembered.
    fs::remove_file(&go).unwrap();
    assert!(matches!(
        h.ask_as(12345, &sign_request(&target, "")),
        Reply::Signed { .. }
    ));
    // A uid without a name gets nothing signed.
    let mut h = Host::new(0).with_lookup("exit 2");
    h.up();
    let none = h.ask_as(12345, &sign_request(&h.cert, ""));
    assert_eq!(refused(&none, "uid 12345 has no user name"), Refusal::Policy);
}

fn trees() {
    trees_of(host());
}

fn executed() {
    let mut h = Host::new(0);
    fs::write(h.dir.join("lib/no-zygote"), "").unwrap();
    h.up();
    trees_of(h);
}

fn trees_of(h: Host) {
    let m = h.member("h2");
    for word in ["die", "end"] {
        let mut s = h.session(&m, "alice");
        let pids = s.spawn();
        assert_eq!(h.records().len(), 1);
        s.say(word);
        s.gone();
        wait_for("the tree's end", || !pids.iter().any(|p| alive(*p)));
        wait_for("the record's end", || h.records().is_empty());
    }
    let mut s = h.session(&m, "alice");
    let pids = s.spawn();
    s.say("leave");
    s.gone();
    wait_for("the record's end", || h.records().is_empty());
    // Whoever is to be killed has been killed when the next session is.
    let mut next = h.session(&m, "alice");
    let killed = next.spawn();
    next.say("die");
    wait_for("the other tree's end", || !killed.iter().any(|p| alive(*p)));
    assert!(pids.iter().all(|p| alive(*p)), "left alone");
    for p in pids {
        // SAFETY: processes that this test had started, alive a moment ago.
        unsafe { libc::kill(p, libc::SIGKILL) };
    }
}

fn kill_tree() {
    let h = host();
    let m = h.member("h2");
    let mut s = h.session(&m, "alice");
    let pids = s.spawn();
    s.say("kill tree");
    s.say("kill tree");
    wait_for("the tree's end", || !pids.iter().any(|p| alive(*p)));
    assert_eq!(s.ask("echo"), "echo");
    assert!(alive(s.pid));
}

fn adopt() {
    let mut h = host();
    let m = h.member("h2");
    let old = m.ticket(&h, "alice").sign(&m.key);
    let (_, _keep) = h.start(&old, &m.cert);
    let mut s = h.session(&m, "alice");
    let pids = s.spawn();
    assert_eq!(s.ask("become 1"), "became");
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        h.down(signal);
        assert_eq!(s.ask("echo"), "echo", "nothing happens to it meanwhile");
        h.up();
        // Somebody else cannot take it.
        let thief = h.ask_as(1, &Request::Adopt { nonce: s.nonce });
        assert_eq!(refused(&thief, "no session of yours"), Refusal::Denied);
        assert_eq!(s.read(), "adopted");
        assert!(pids.iter().all(|p| alive(*p)));
        // Nor can a ticket be used again because the monitor is new.
        assert_eq!(
            refused(&h.start(&old, &m.cert).0, "used before"),
            Refusal::BadTicket
        );
    }
    s.say("end");
    wait_for("the tree's end", || !pids.iter().any(|p| alive(*p)));
    wait_for("the record's end", || h.records().len() == 1);
}

fn orphans() {
    let mut h = host();
    let m = h.member("h2");
    let mut s = h.session(&m, "alice");
    let pids = s.spawn();
    h.down(libc::SIGKILL);
    // SAFETY: a process that this test had started.
    unsafe { libc::kill(s.pid, libc::SIGKILL) };
    wait_for("the session's end", || !alive(s.pid));
    assert!(pids.iter().all(|p| alive(*p)));
    h.up();
    assert!(!pids.iter().any(|p| alive(*p)), "before it says ready");
    assert!(h.records().is_empty());
}

/// The next event that concerns a session.
pub(crate) fn event(c: &OwnedFd) -> Reply {
    let mut buf = vec![0; PACKET_MAX];
    loop {
        let (n, _) = client::receive(c.as_fd(), &mut buf).unwrap();
        let (id, reply) = Reply::decode(&buf[..n]).unwrap();
        assert_eq!(id, 0);
        if !matches!(reply, Reply::Job(_)) {
            return reply;
        }
    }
}

fn watch() {
    let mut h = host();
    let m = h.member("h2");
    let began = unix_now() * 1000;
    let check = |e: Reply, s: &crate::host::Talk| {
        let Reply::SessionStarted {
            nonce,
            login,
            pid,
            ruser,
            rhost,
            since,
            note,
        } = e
        else {
            panic!("{e:?}")
        };
        assert_eq!((nonce, login.as_str(), pid), (s.nonce, "alice", s.pid as u32));
        assert_eq!((ruser.as_str(), rhost.as_str()), ("alice", "h2"));
        assert!((began..=(unix_now() + 1) * 1000).contains(&since), "{since}");
        assert_eq!(note, s.nonce);
        since
    };
    let mut first = h.session(&m, "alice");
    let c = h.dial();
    assert_eq!(
        client::ask(c.as_fd(), &Request::Watch, None).unwrap(),
        Reply::Done
    );
    let since = check(event(&c), &first);
    let mut second = h.session(&m, "alice");
    check(event(&c), &second);
    second.say("end");
    assert_eq!(event(&c), Reply::SessionEnded { nonce: second.nonce });
    // A restarted monitor knows it as well, and a restarted daemon gets it from there.
    h.down(libc::SIGKILL);
    h.up();
    assert_eq!(first.read(), "adopted");
    let c = h.dial();
    assert_eq!(
        client::ask(c.as_fd(), &Request::Watch, None).unwrap(),
        Reply::Done
    );
    assert_eq!(check(event(&c), &first), since);
    first.say("end");
    assert_eq!(event(&c), Reply::SessionEnded { nonce: first.nonce });
}

fn no_session() {
    let mut h = Host::new(0);
    fs::write(h.layout.exec_conf(), "warm 0\n").unwrap();
    h.up();
    let m = h.member("h2");
    drop(h.session(&m, "alice"));
    // More at once than are ready.
    fs::write(h.layout.exec_conf(), "warm 1\n").unwrap();
    assert_eq!(h.ask(&Request::Reload), Reply::Done);
    std::thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| drop(h.session(&m, "alice")));
        }
    });
    // Now it cannot be executed.
    fs::write(h.layout.exec_conf(), "warm 0\n").unwrap();
    fs::remove_file(h.dir.join("lib/queue-session")).unwrap();
    h.down(libc::SIGKILL);
    h.up();
    let t = m.ticket(&h, "alice").sign(&m.key);
    assert_eq!(refused(&h.start(&t, &m.cert).0, "session process"), Refusal::Busy);
    assert!(matches!(
        h.ask_as(1, &sign_request(&h.cert, "")),
        Reply::Signed { .. }
    ));
}

fn admit() {
    let h = host();
    let t = authority::create_token(&h.layout, Duration::from_secs(60), 1, &[], None).unwrap();
    let r = |secret: &str, name: &str, dry_run| Request::Admit {
        token: t.id.clone(),
        secret: secret.into(),
        name: name.into(),
        host_key: [8; 32],
        tls_key: [9; 32],
        dry_run,
    };
    assert_eq!(
        refused(&h.ask(&r("x", "h2", false)), "wrong secret"),
        Refusal::Token
    );
    assert_eq!(
        refused(&h.ask(&r(&t.secret, "h1", false)), "h1 already"),
        Refusal::Name
    );
    assert_eq!(h.ask(&r(&t.secret, "h2", true)), Reply::Done);
    // Root's command line holds the files for a moment: it waits, others do not.
    let room = Room::open(&h.layout.exec_state()).unwrap();
    let lock = room.lock(LIMIT).unwrap();
    std::thread::scope(|s| {
        let waiting = s.spawn(|| h.ask(&r(&t.secret, "h2", false)));
        assert!(matches!(
            h.ask_as(1, &sign_request(&h.cert, "")),
            Reply::Signed { .. }
        ));
        drop(lock);
        let Reply::Admitted { cert } = waiting.join().unwrap() else {
            panic!("not admitted")
        };
        assert_eq!(HostCert::verify(&cert, &h.authority).unwrap().name, "h2");
    });
}

fn not_ready() {
    let mut h = Host::new(0);
    let away = h.dir.join("away");
    fs::rename(h.layout.exec_state(), &away).unwrap();
    h.up();
    let c = h.dial();
    for _ in 0..2 {
        let reply = client::ask(c.as_fd(), &sign_request(&h.cert, ""), None).unwrap();
        assert_eq!(refused(&reply, "not set up"), Refusal::NotReady);
    }
    fs::rename(&away, h.layout.exec_state()).unwrap();
    assert_eq!(h.ask(&Request::Reload), Reply::Done);
    assert!(matches!(
        client::ask(c.as_fd(), &sign_request(&h.cert, ""), None).unwrap(),
        Reply::Signed { .. }
    ));
}

fn single() {
    let mut h = Host::new(1);
    h.up();
    let Reply::Signed { ticket, .. } = h.ask_as(1, &sign_request(&h.cert, "")) else {
        panic!("not signed")
    };
    assert_eq!(Ticket::parse(&ticket).unwrap().0.user, "daemon");
    let stranger = as_user(0, || {
        client::ask(
            crate::fake::dial_any(h.layout.exec_socket().to_str().unwrap()).as_fd(),
            &Request::Watch,
            None,
        )
        .unwrap()
    });
    assert_eq!(refused(&stranger, "another user's"), Refusal::Denied);
    let m = h.member("h2");
    let t = m.ticket(&h, "alice").sign(&m.key);
    assert_eq!(refused(&h.start(&t, &m.cert).0, "single-user"), Refusal::Policy);
    // Without a right to make cgroups the tree is found by parentage.
    for word in ["die", "end", "kill tree"] {
        let mut s = h.session(&m, "daemon");
        let pids = s.spawn();
        // As the real session, whose init is there before it runs.
        s.say("running");
        wait_for("its children to be noted", || {
            let file = h.layout.sessions().join(queue_exec::codec::hex(&s.nonce));
            s.hello.contains("cgroup true") || fs::read_to_string(file).is_ok_and(|t| t.contains("\nchild "))
        });
        s.say(word);
        // The first has left the tree: it would be found below a real init, which adopts orphans.
        let all = if s.hello.contains("cgroup true") {
            &pids[..]
        } else {
            &pids[1..]
        };
        wait_for("the tree's end", || !all.iter().any(|p| alive(*p)));
        for p in pids.iter().filter(|p| alive(**p)) {
            // SAFETY: a process that this test had started, alive a moment ago.
            unsafe { libc::kill(*p, libc::SIGKILL) };
        }
        if word == "kill tree" {
            assert_eq!(s.ask("echo"), "echo");
        }
    }
}

fn nonsense() {
    let h = host();
    let m = h.member("h2");
    for packet in [&b"x"[..], b"QX1", b"QX1\0\0\0\x01\xff", &[0; 60_000]] {
        as_user(1, || {
            let c = h.dial();
            client::send(c.as_fd(), packet, None).unwrap();
            let mut buf = vec![0; PACKET_MAX];
            let (n, _) = client::receive(c.as_fd(), &mut buf).unwrap();
            assert_eq!(
                refused(&Reply::decode(&buf[..n]).unwrap().1, "malformed"),
                Refusal::Denied
            );
            assert_eq!(client::receive(c.as_fd(), &mut buf).unwrap().0, 0);
        });
    }
    let mut s = h.session(&m, "alice");
    let pids = s.spawn();
    s.say("nonsense");
    s.gone();
    wait_for("the tree's end", || !pids.iter().any(|p| alive(*p)));
    assert!(matches!(
        h.ask_as(1, &sign_request(&h.cert, "")),
        Reply::Signed { .. }
    ));
}
