//! Further connections for sessions that run: whose they may be, and who gets them.

use crate::control::ACCOUNTS;
use crate::host::{Host, Member, Talk, refused, wait_for};
use crate::tests::{Test, event};
use queue_exec::cert::HostCert;
use queue_exec::client;
use queue_exec::codec::hex;
use queue_exec::protocol::{AttachState, Control, Refusal, Reply, Request};
use queue_exec::state::random;
use queue_exec::ticket::{Gone, Grant, Nonce, Ticket};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

/// Name, whether it needs root, and the test.
pub(crate) const ALL: &[Test] = &[
    ("a_session_that_runs_gets_a_further_connection", true, connect),
    ("that_a_session_is_gone_is_signed_for_who_asks", true, gone),
    ("a_session_without_a_monitor_is_not_gone", true, away),
    ("who_attaches_runs_as_the_session_does", true, attach),
    ("a_ticket_attaches_once_to_this_host", true, tickets),
    (
        "a_restarted_monitor_knows_the_keys_for_those_who_attach",
        true,
        adopted,
    ),
    (
        "a_session_without_a_key_on_record_is_not_attached_to",
        true,
        keyless,
    ),
    ("detaching_is_for_the_owner_and_its_state_is_told", true, detach),
];

fn host(policy: &str) -> Host {
    let mut h = Host::new(0).with_lookup(ACCOUNTS);
    fs::write(h.layout.exec_conf(), policy).unwrap();
    h.up();
    h
}

/// A session whose process has become an ordinary user.
fn session(h: &Host, m: &Member, user: &str, uid: u32) -> Talk {
    let mut s = h.session(m, user);
    assert_eq!(s.ask(&format!("become {uid}")), "became");
    s
}

fn line(c: UnixStream) -> String {
    let mut line = String::new();
    BufReader::new(c).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// Nobody has this connection.
fn is_closed(mut c: &UnixStream) -> bool {
    matches!(c.read(&mut [0]), Ok(0))
}

fn go_on(h: &Host, session: Nonce, challenge: Nonce) -> (Reply, UnixStream) {
    h.connect(&Request::Connect { session, challenge })
}

fn attach_by(h: &Host, m: &Member, ticket: &Ticket, session: Nonce) -> (Reply, UnixStream) {
    h.connect(&Request::Attach {
        ticket: ticket.sign(&m.key),
        source_cert: m.cert.clone(),
        session,
    })
}

/// What the host itself signs with.
fn host_key(h: &Host) -> [u8; 32] {
    HostCert::verify(&h.cert, &h.authority).unwrap().host_key
}

fn connect() {
    let h = host("");
    let m = h.member("h2");
    let (mut a, mut b) = (h.session(&m, "alice"), h.session(&m, "bob"));
    // Any number of them, and each goes to the one it is for.
    for _ in 0..3 {
        let (reply, c) = go_on(&h, a.nonce, random());
        assert_eq!(reply, Reply::Done);
        assert_eq!(line(c), "go on");
    }
    assert_eq!(a.ask("echo"), "echo");
    assert_eq!(b.ask("echo"), "echo");
    // Without a connection there is nothing to give.
    let (session, challenge) = (a.nonce, random());
    let without = h.ask(&Request::Connect { session, challenge });
    assert_eq!(refused(&without, "descriptor"), Refusal::Denied);
    // It is the daemon that brings them, and no user.
    let user = h.ask_as(1, &Request::Connect { session, challenge });
    assert_eq!(refused(&user, ""), Refusal::Denied);
}

fn gone() {
    let h = host("");
    let m = h.member("h2");
    let mut s = h.session(&m, "alice");
    let (ended, never) = (s.nonce, random());
    s.say("end");
    s.gone();
    wait_for("the session's end", || h.records().is_empty());
    let key = host_key(&h);
    for session in [ended, never] {
        let challenge = random();
        let (reply, c) = go_on(&h, session, challenge);
        let Reply::Gone { proof } = reply else {
            panic!("{reply:?}")
        };
        let word = Gone { session, challenge };
        assert!(word.is_signed(&proof, &key));
        // For this session, this question, and by this host alone.
        let (other, again) = (
            Gone {
                session: random(),
                ..word
            },
            Gone {
                challenge: random(),
                ..word
            },
        );
        assert!(!other.is_signed(&proof, &key) && !again.is_signed(&proof, &key));
        assert!(!word.is_signed(&proof, &m.key.verifying_key().to_bytes()));
        assert!(is_closed(&c));
    }
}

fn away() {
    let mut h = host("");
    let m = h.member("h2");
    let mut s = h.session(&m, "alice");
    // It cannot come back to the next monitor yet.
    // SAFETY: a process that this test had started.
    unsafe { libc::kill(s.pid, libc::SIGSTOP) };
    h.down(libc::SIGKILL);
    h.up();
    let (reply, c) = go_on(&h, s.nonce, random());
    assert_eq!(refused(&reply, "try again"), Refusal::Busy, "no proof: it lives");
    assert!(is_closed(&c));
    // SAFETY: as above.
    unsafe { libc::kill(s.pid, libc::SIGCONT) };
    assert_eq!(s.read(), "adopted");
    let (reply, c) = go_on(&h, s.nonce, random());
    assert_eq!(reply, Reply::Done);
    assert_eq!(line(c), "go on");
}

/// What an accepted one is told, for this ticket.
fn is_attached(h: &Host, t: &Ticket, reply: &Reply, c: UnixStream) {
    assert_eq!(*reply, Reply::Done);
    let said = line(c);
    let words: Vec<&str> = said.split(' ').collect();
    let by = format!("{}@{}", t.user, t.source);
    assert_eq!(words[..4], ["attach", &by, &hex(&t.request), &hex(&t.client_key)]);
    let grant: Vec<u8> = (0..words[4].len() / 2)
        .map(|i| u8::from_str_radix(&words[4][2 * i..2 * i + 2], 16).unwrap())
        .collect();
    // For this ticket and the key that the session has.
    let want = Grant {
        nonce: t.nonce,
        session_key: [7; 32],
    };
    assert_eq!(Grant::verify(&grant, &host_key(h)), Ok(want));
}

fn attach() {
    let h = host("login carol alice\nvouch h4 none\n");
    let (m, n, p) = (h.member("h2"), h.member("h3"), h.member("h4"));
    let a = session(&h, &m, "alice", 2001);
    let b = session(&h, &m, "bob", 5);
    // From wherever she is.
    for from in [&m, &n] {
        let t = from.ticket(&h, "alice");
        let (reply, c) = attach_by(&h, from, &t, a.nonce);
        is_attached(&h, &t, &reply, c);
    }
    // Who may run commands as she may do this as well.
    let t = Ticket {
        login: "alice".into(),
        ..m.ticket(&h, "carol")
    };
    let (reply, c) = attach_by(&h, &m, &t, a.nonce);
    is_attached(&h, &t, &reply, c);

    let no = |from: &Member, t: &Ticket, session: Nonce, text: &str| {
        let (reply, c) = attach_by(&h, from, t, session);
        assert_eq!(refused(&reply, text), Refusal::Policy);
        assert!(is_closed(&c));
    };
    no(
        &m,
        &m.ticket(&h, "bob"),
        a.nonce,
        "runs as alice: only alice may attach",
    );
    no(&p, &p.ticket(&h, "alice"), a.nonce, "may not vouch for alice");
    let as_her = Ticket {
        login: "alice".into(),
        ..m.ticket(&h, "bob")
    };
    no(&m, &as_her, a.nonce, "bob may not run as alice");
    // His account turned out to be the system's: names do not say that, the kernel does.
    no(
        &m,
        &m.ticket(&h, "bob"),
        b.nonce,
        "bob may not use the account bob",
    );
    no(&m, &m.ticket(&h, "alice"), random(), "it has ended");
    let user = h.ask_as(
        1,
        &Request::Attach {
            ticket: m.ticket(&h, "alice").sign(&m.key),
            source_cert: m.cert.clone(),
            session: a.nonce,
        },
    );
    assert_eq!(refused(&user, ""), Refusal::Denied);
}

fn tickets() {
    let h = host("");
    let (m, n) = (h.member("h2"), h.member("h3"));
    let s = session(&h, &m, "alice", 2001);
    let good = m.ticket(&h, "alice");
    let no = |t: &Ticket, by: &Member, text: &str| {
        let (reply, c) = h.connect(&Request::Attach {
            ticket: t.sign(&by.key),
            source_cert: m.cert.clone(),
            session: s.nonce,
        });
        assert!(is_closed(&c));
        refused(&reply, text)
    };
    let elsewhere = Ticket {
        target: "h3".into(),
        ..good.clone()
    };
    assert_eq!(no(&elsewhere, &m, "for h3"), Refusal::BadTicket);
    for issued in [good.issued - 3600, good.issued + 3600] {
        let t = Ticket {
            issued,
            ..good.clone()
        };
        assert_eq!(no(&t, &m, "clock"), Refusal::Clock);
    }
    assert_eq!(no(&good, &n, "signature"), Refusal::BadTicket);
    let of_another_cluster = Ticket {
        cluster: random(),
        ..good.clone()
    };
    assert_eq!(no(&of_another_cluster, &m, ""), Refusal::BadTicket);
    // None of that used it up; now it is, for whatever else it might start.
    let (reply, c) = attach_by(&h, &m, &good, s.nonce);
    is_attached(&h, &good, &reply, c);
    assert_eq!(no(&good, &m, "used before"), Refusal::BadTicket);
    let (reply, _c) = h.start(&good.sign(&m.key), &m.cert);
    assert_eq!(refused(&reply, "used before"), Refusal::BadTicket);
    // The one that the session was started with is as good as used.
    let first = Ticket {
        nonce: s.nonce,
        ..good.clone()
    };
    assert_eq!(no(&first, &m, "used before"), Refusal::BadTicket);
}

fn adopted() {
    let mut h = host("");
    let m = h.member("h2");
    let mut s = session(&h, &m, "alice", 2001);
    let used = m.ticket(&h, "alice");
    assert_eq!(attach_by(&h, &m, &used, s.nonce).0, Reply::Done);
    h.down(libc::SIGKILL);
    h.up();
    assert_eq!(s.read(), "adopted");
    let t = m.ticket(&h, "alice");
    let (reply, c) = attach_by(&h, &m, &t, s.nonce);
    is_attached(&h, &t, &reply, c);
    let (again, _) = attach_by(&h, &m, &used, s.nonce);
    assert_eq!(refused(&again, "used before"), Refusal::BadTicket);
}

fn keyless() {
    let mut h = host("");
    let m = h.member("h2");
    let mut s = session(&h, &m, "alice", 2001);
    h.down(libc::SIGKILL);
    // As an earlier version wrote it.
    let record = h.layout.sessions().join(hex(&s.nonce));
    let text = fs::read_to_string(&record).unwrap();
    let old: String = text
        .split_inclusive('\n')
        .filter(|l| !l.starts_with("key "))
        .collect();
    assert!(old.len() < text.len());
    fs::write(&record, old).unwrap();
    h.up();
    assert_eq!(s.read(), "adopted");
    let (reply, _) = attach_by(&h, &m, &m.ticket(&h, "alice"), s.nonce);
    assert_eq!(refused(&reply, "older version"), Refusal::Policy);
    // A connection of its own client it takes: that is the session's to say.
    let (reply, c) = go_on(&h, s.nonce, random());
    assert_eq!(reply, Reply::Done);
    assert_eq!(line(c), "go on");
}

fn detach() {
    let h = host("");
    let m = h.member("h2");
    let mut s = session(&h, &m, "alice", 2001);
    let control = Control::Detach { session: s.nonce };
    let ask = |user: &str| {
        let t = Ticket {
            request: Sha256::digest(control.encode()).into(),
            ..m.ticket(&h, user)
        };
        h.control(&t.sign(&m.key), &m.cert, &control.encode())
    };
    let watching = || {
        let c = h.dial();
        let told = client::ask(c.as_fd(), &Request::Watch, None).unwrap();
        assert_eq!(told, Reply::Done);
        assert!(matches!(event(&c), Reply::SessionStarted { nonce, .. } if nonce == s.nonce));
        c
    };
    let c = watching();
    assert_eq!(refused(&ask("bob"), "only alice may detach it"), Refusal::Policy);
    let by = "alice@h2".to_owned();
    assert_eq!(
        ask("alice"),
        Reply::Controlled {
            by,
            control: control.clone()
        }
    );
    let told = Reply::SessionState {
        nonce: s.nonce,
        attached: AttachState {
            detached: true,
            watchers: 2,
        },
    };
    assert_eq!(event(&c), told);
    // Who comes later is told as well.
    assert_eq!(event(&watching()), told);
    assert_eq!(s.read(), "detach alice@h2");
    s.say("end");
    assert_eq!(event(&c), Reply::SessionEnded { nonce: s.nonce });
    s.gone();
    wait_for("the session's end", || h.records().is_empty());
    assert_eq!(refused(&ask("alice"), "has ended"), Refusal::Policy);
}
