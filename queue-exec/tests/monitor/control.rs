//! What users ask of the host itself: who may, and what then happens.

use crate::host::{Host, LIMIT, Member, Talk, alive, refused, wait_for};
use crate::tests::Test;
use queue_exec::codec::hex;
use queue_exec::protocol::{Control, Refusal, Reply};
use queue_exec::ticket::{Nonce, Ticket};
use sha2::{Digest as _, Sha256};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

/// Name, whether it needs root, and the test.
pub(crate) const ALL: &[Test] = &[
    ("one_ends_ones_own_sessions_and_nobody_elses", true, own),
    ("operators_end_any_session_and_drain", true, operators),
    ("root_of_a_trusted_host_is_an_operator", true, remote_root),
    ("a_control_ticket_counts_for_one_request_once", true, tickets),
    ("a_control_needs_an_account_of_its_own_kind", true, accounts),
    ("a_slow_name_service_holds_up_only_who_needs_it", true, slow),
    ("a_session_that_does_not_end_is_ended", true, stubborn),
    ("a_session_sees_those_of_its_user", true, looks),
    ("the_owner_of_a_single_user_install_is_operator", true, single),
];

/// Accounts as the tests want them.
pub(crate) const ACCOUNTS: &str = "[ \"$1\" = --print-account ] || exit 2
case $2 in
  alice) printf '2001\\nalice\\n.\\n' ;;
  bob) printf '2002\\nbob\\nwheel\\nusers\\n.\\n' ;;
  carol) printf '2003\\nusers\\n.\\n' ;;
  daemon) printf '1\\ndaemon\\n.\\n' ;;
  service) printf '300\\nservice\\nwheel\\n.\\n' ;;
  broken) printf '2004\\nwheel\\n' ;;
  *) echo . ;;
esac";

fn host(operators: &str) -> Host {
    let mut h = Host::new(0).with_lookup(ACCOUNTS);
    fs::write(h.layout.queued_toml(), operators).unwrap();
    h.up();
    h
}

fn request(control: &Control) -> [u8; 32] {
    Sha256::digest(control.encode()).into()
}

fn ask(h: &Host, m: &Member, user: &str, control: &Control) -> Reply {
    let t = Ticket {
        request: request(control),
        ..m.ticket(h, user)
    };
    h.control(&t.sign(&m.key), &m.cert, &control.encode())
}

fn kill(session: Nonce, signal: u8) -> Control {
    Control::Kill { session, signal }
}

fn drain() -> Control {
    Control::Drain {
        reason: "new disk".into(),
    }
}

fn done(by: &str, control: &Control) -> Reply {
    Reply::Controlled {
        by: by.into(),
        control: control.clone(),
    }
}

fn short(s: &Talk) -> String {
    format!("s{}", &hex(&s.nonce)[..8])
}

fn own() {
    let h = host("");
    let (m, n) = (h.member("h2"), h.member("h3"));
    let (mut a, mut b) = (h.session(&m, "alice"), h.session(&m, "bob"));
    let pids = a.spawn();
    // A signal, and from another host of hers.
    let usr1 = kill(a.nonce, 10);
    assert_eq!(ask(&h, &n, "alice", &usr1), done("alice@h3", &usr1));
    assert_eq!(a.read(), "kill 10 alice@h3");
    assert_eq!(a.ask("echo"), "echo");

    for signal in [0, 9] {
        let no = ask(&h, &m, "carol", &kill(a.nonce, signal));
        let text = format!("session {} runs as alice: only alice and operators", short(&a));
        assert_eq!(refused(&no, &text), Refusal::Policy);
    }
    let end = kill(a.nonce, 0);
    assert_eq!(ask(&h, &m, "alice", &end), done("alice@h2", &end));
    assert_eq!(a.read(), "kill 0 alice@h2");
    a.gone();
    wait_for("the tree's end", || !pids.iter().any(|p| alive(*p)));
    wait_for("the record's end", || h.records().len() == 1);
    let again = ask(&h, &m, "alice", &end);
    assert_eq!(refused(&again, "no session s"), Refusal::Policy);
    // Nothing of all that came to the other one.
    assert_eq!(b.ask("echo"), "echo");
    let bad = ask(&h, &m, "bob", &kill(b.nonce, 65));
    assert_eq!(refused(&bad, "no such signal"), Refusal::BadTicket);
}

fn operators() {
    let h = host("name = \"h1\"\noperators = [\n  'carol', # her\n  \"@wheel\",\n]\n\n[resources]\n");
    let m = h.member("h2");
    let end = |by: &str| {
        let mut s = h.session(&m, "alice");
        let c = kill(s.nonce, 0);
        assert_eq!(ask(&h, &m, by, &c), done(&format!("{by}@h2"), &c));
        s.read();
        s.gone();
    };
    for by in ["carol", "bob"] {
        end(by);
        for c in [drain(), Control::Undrain] {
            assert_eq!(ask(&h, &m, by, &c), done(&format!("{by}@h2"), &c));
        }
    }
    let no = ask(&h, &m, "alice", &drain());
    let text = format!(
        "only operators may drain h1: root, or whoever `operators` in {} there names",
        h.layout.queued_toml().display()
    );
    assert_eq!(refused(&no, &text), Refusal::Policy);
    let no = ask(&h, &m, "alice", &Control::Undrain);
    assert_eq!(refused(&no, "only operators may undrain h1"), Refusal::Policy);

    // Read again when told, and what is wrong makes nobody an operator.
    let reload = || {
        assert_eq!(h.ask(&queue_exec::protocol::Request::Reload), Reply::Done);
    };
    let toml = h.layout.queued_toml();
    let drains = |user: &str| matches!(ask(&h, &m, user, &drain()), Reply::Controlled { .. });
    fs::write(&toml, "operators = \"alice\"\n").unwrap();
    assert!(!drains("alice"));
    reload();
    assert!(drains("alice") && !drains("bob") && !drains("carol"));
    fs::write(&toml, "operators = [\"alice\"\n").unwrap();
    reload();
    assert!(!drains("alice"));
    fs::write(&toml, "[operators]\nalice = 1\n").unwrap();
    reload();
    assert!(!drains("alice"));
    fs::write(&toml, "operators = \"alice\"\n").unwrap();
    fs::set_permissions(&toml, Permissions::from_mode(0o666)).unwrap();
    reload();
    assert!(!drains("alice"), "others may change it");
    fs::set_permissions(&toml, Permissions::from_mode(0o644)).unwrap();
    reload();
    assert!(drains("alice"));
    fs::remove_file(&toml).unwrap();
    reload();
    assert!(!drains("alice"));
}

fn remote_root() {
    let h = host("");
    let m = h.member("h2");
    let mut s = h.session(&m, "alice");
    let c = kill(s.nonce, 15);
    assert_eq!(ask(&h, &m, "root", &c), done("root@h2", &c));
    assert_eq!(s.read(), "kill 15 root@h2");
    assert_eq!(ask(&h, &m, "root", &drain()), done("root@h2", &drain()));
    // For a session he still needs to be named.
    let t = m.ticket(&h, "root").sign(&m.key);
    let no = h.start(&t, &m.cert).0;
    assert_eq!(refused(&no, "may not vouch for root"), Refusal::Policy);
    // A host that is trusted with a few has no root that counts here.
    fs::write(h.layout.exec_conf(), "vouch h2 alice\n").unwrap();
    assert_eq!(h.ask(&queue_exec::protocol::Request::Reload), Reply::Done);
    for c in [c, drain()] {
        let no = ask(&h, &m, "root", &c);
        assert_eq!(refused(&no, "may not vouch for root"), Refusal::Policy);
    }
    let c = kill(s.nonce, 15);
    assert_eq!(ask(&h, &m, "alice", &c), done("alice@h2", &c));
    let no = ask(&h, &m, "bob", &c);
    assert_eq!(refused(&no, "may not vouch for bob"), Refusal::Policy);
}

fn tickets() {
    let h = host("operators = 'bob'");
    let (m, n) = (h.member("h2"), h.member("h3"));
    let mut s = h.session(&m, "alice");
    let c = kill(s.nonce, 15);
    let body = c.encode();
    let t = Ticket {
        request: request(&c),
        ..m.ticket(&h, "alice")
    };
    let bytes = t.sign(&m.key);
    let refuse = |t: &[u8], cert: &[u8], body: &[u8], text: &str| refused(&h.control(t, cert, body), text);

    let mut bad = bytes.clone();
    bad[70] ^= 1;
    assert_eq!(refuse(&bad, &m.cert, &body, ""), Refusal::BadTicket);
    assert_eq!(refuse(&bytes, &n.cert, &body, "signature"), Refusal::BadTicket);
    assert_eq!(refuse(b"junk", &m.cert, &body, "malformed"), Refusal::BadTicket);
    // For another request than it was signed for: not as the daemon likes it.
    for other in [kill(s.nonce, 0), drain(), Control::Undrain] {
        let no = refuse(&bytes, &m.cert, &other.encode(), "signed for");
        assert_eq!(no, Refusal::BadTicket);
    }
    let changed = |f: &dyn Fn(&mut Ticket)| {
        let mut t = Ticket {
            nonce: queue_exec::state::random(),
            ..t.clone()
        };
        f(&mut t);
        t.sign(&m.key)
    };
    let elsewhere = changed(&|t| t.target = "h3".into());
    assert_eq!(refuse(&elsewhere, &m.cert, &body, "for h3"), Refusal::BadTicket);
    let late = changed(&|t| t.issued -= 3600);
    assert_eq!(refuse(&late, &m.cert, &body, "too late"), Refusal::Clock);
    let su = changed(&|t| t.login = "bob".into());
    assert_eq!(refuse(&su, &m.cert, &body, "may not run as bob"), Refusal::Policy);
    let garbled = changed(&|t| t.request = Sha256::digest(b"what?").into());
    assert_eq!(
        refuse(&garbled, &m.cert, b"what?", "malformed"),
        Refusal::BadTicket
    );
    assert_eq!(s.ask("echo"), "echo", "nothing reached it");

    // None of that used it up; it is good for once, as a launch or as this.
    assert_eq!(h.control(&bytes, &m.cert, &body), done("alice@h2", &c));
    assert_eq!(s.read(), "kill 15 alice@h2");
    assert_eq!(refuse(&bytes, &m.cert, &body, "used before"), Refusal::BadTicket);
    let start = h.start(&bytes, &m.cert).0;
    assert_eq!(refused(&start, "used before"), Refusal::BadTicket);
    // And a launch's is none of these, whoever has it.
    let launch = m.ticket(&h, "bob").sign(&m.key);
    let no = refuse(&launch, &m.cert, &drain().encode(), "signed for");
    assert_eq!(no, Refusal::BadTicket);
    // One that was refused is used up as well.
    let no = changed(&|t| {
        t.user = "carol".into();
        t.login = "carol".into();
    });
    assert_eq!(refuse(&no, &m.cert, &body, "runs as alice"), Refusal::Policy);
    assert_eq!(refuse(&no, &m.cert, &body, "used before"), Refusal::BadTicket);
    assert_eq!(s.ask("echo"), "echo");
}

fn accounts() {
    let h = host("operators = \"@wheel\"");
    let m = h.member("h2");
    let no = ask(&h, &m, "nobody-here", &drain());
    assert_eq!(refused(&no, "h1 has no account nobody-here"), Refusal::Policy);
    // In the group, and yet not vouched for as a system account has to be.
    let no = ask(&h, &m, "service", &drain());
    assert_eq!(refused(&no, "no ordinary user on h1 (uid 300)"), Refusal::Policy);
    let no = ask(&h, &m, "daemon", &drain());
    assert_eq!(refused(&no, "no ordinary user on h1 (uid 1)"), Refusal::Policy);
    // Half an answer is none.
    let no = ask(&h, &m, "broken", &drain());
    assert_eq!(refused(&no, "name service of h1"), Refusal::Busy);
    fs::write(h.layout.exec_conf(), "vouch h2 service\n").unwrap();
    assert_eq!(h.ask(&queue_exec::protocol::Request::Reload), Reply::Done);
    assert_eq!(ask(&h, &m, "service", &drain()), done("service@h2", &drain()));
}

fn slow() {
    let mut h = Host::new(0);
    let go = h.dir.join("go");
    h = h.with_lookup(&format!(
        "while ! [ -e {} ]; do sleep 0.05; done\n{ACCOUNTS}",
        go.display()
    ));
    fs::write(h.layout.queued_toml(), "operators = ['@wheel']").unwrap();
    fs::write(h.layout.exec_conf(), "vouch h2 daemon *\n").unwrap();
    h.up();
    let m = h.member("h2");
    std::thread::scope(|s| {
        let waiting: Vec<_> = (0..3).map(|_| s.spawn(|| ask(&h, &m, "bob", &drain()))).collect();
        // Who is known here, and asks for what is his, is not held up. Nor is anybody's launch.
        let mut one = h.session(&m, "daemon");
        let c = kill(one.nonce, 0);
        assert_eq!(ask(&h, &m, "daemon", &c), done("daemon@h2", &c));
        assert_eq!(one.read(), "kill 0 daemon@h2");
        assert!(waiting.iter().all(|w| !w.is_finished()));
        fs::write(&go, "").unwrap();
        for w in waiting {
            assert_eq!(w.join().unwrap(), done("bob@h2", &drain()));
        }
    });
    // It is remembered.
    fs::remove_file(&go).unwrap();
    assert_eq!(ask(&h, &m, "bob", &drain()), done("bob@h2", &drain()));
}

fn stubborn() {
    let mut h = host("");
    let m = h.member("h2");
    let mut s = h.session(&m, "alice");
    let pids = s.spawn();
    assert_eq!(s.ask("stubborn"), "stubborn");
    let begin = Instant::now();
    let c = kill(s.nonce, 0);
    assert_eq!(ask(&h, &m, "alice", &c), done("alice@h2", &c));
    assert_eq!(s.read(), "kill 0 alice@h2");
    assert_eq!(s.ask("echo"), "echo");
    wait_for("the tree's end", || {
        !pids.iter().any(|p| alive(*p)) && !alive(s.pid)
    });
    assert!(begin.elapsed() > Duration::from_secs(8), "it had its time");
    assert!(begin.elapsed() < LIMIT);
    wait_for("the record's end", || h.records().is_empty());

    // One that was away when it was to end is told when it is back.
    let mut s = h.session(&m, "alice");
    h.down(libc::SIGKILL);
    // SAFETY: a process that this test had started.
    unsafe { libc::kill(s.pid, libc::SIGSTOP) };
    h.up();
    let c = kill(s.nonce, 0);
    assert_eq!(ask(&h, &m, "alice", &c), done("alice@h2", &c));
    // SAFETY: as above.
    unsafe { libc::kill(s.pid, libc::SIGCONT) };
    assert_eq!(s.read(), "adopted");
    assert_eq!(s.read(), "kill 0 alice@h2");
    s.gone();
}

fn looks() {
    let h = host("operators = ['@wheel', 'dora']");
    let m = h.member("h2");
    let mut all: Vec<Talk> = ["alice", "alice", "alice", "bob", "carol"]
        .iter()
        .map(|u| h.session(&m, u))
        .collect();
    let told: Vec<String> = all
        .iter()
        .map(|s| format!("{} {}", hex(&s.nonce), s.pid))
        .collect();
    let mut look = |i: usize| {
        let line = all[i].ask("look");
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[0], "seen");
        let seen: Vec<usize> = words[1..]
            .chunks(2)
            .map(|w| told.iter().position(|t| *t == w.join(" ")).unwrap())
            .collect();
        seen
    };
    let sorted = |mut v: Vec<usize>| {
        v.sort_unstable();
        v
    };
    assert_eq!(sorted(look(0)), [1, 2]);
    assert_eq!(sorted(look(2)), [0, 1]);
    assert!(look(4).is_empty());
    // An operator: all, his own first.
    assert_eq!(sorted(look(3)), [0, 1, 2, 4]);
    assert_eq!(sorted(look(3)), [0, 1, 2, 4]);
    drop(all.remove(2));
    wait_for("its end", || h.records().len() == 4);
    let mut dora = h.session(&m, "dora");
    assert_eq!(dora.ask("look").split(' ').count(), 1 + 2 * 4);
}

fn single() {
    let mut h = Host::new(1);
    h.up();
    let m = h.member("h2");
    let mut s = h.session(&m, "daemon");
    assert_eq!(ask(&h, &m, "daemon", &drain()), done("daemon@h2", &drain()));
    let c = kill(s.nonce, 15);
    assert_eq!(ask(&h, &m, "daemon", &c), done("daemon@h2", &c));
    assert_eq!(s.read(), "kill 15 daemon@h2");
    for user in ["root", "alice"] {
        let no = ask(&h, &m, user, &drain());
        assert_eq!(refused(&no, "single-user"), Refusal::Policy);
    }
}
