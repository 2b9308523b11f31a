//! Real daemons of several single-user installations on the loopback interface: members that come, go, move,
//! are copied and removed; what the port and the local socket answer; how the daemon begins and ends.
//! The programs beside `queued` have to be built (`cargo build --workspace`).

mod errand;
mod keys;
mod rejoin;
mod site;

use libqueue::wire::{
    ErrorCode, HostState, KIND_SESSION, Place, SessionAnswer, SessionHello, preamble, reply, request,
};
use nix::sys::signal::Signal;
use prost::Message as _;
use site::{LIMIT, Site, free_port, wait_for};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

#[test]
fn three_hosts_know_each_other_and_place_by_name() {
    let sites = Site::cluster(&["h1", "h2", "h3"]);
    for s in &sites {
        for name in ["h1", "h2", "h3"] {
            assert_eq!(s.place(name), Ok(name.to_owned()));
        }
        assert!(s.place("+").is_ok());
        assert!(s.place("h9").unwrap_err().contains("no host h9"));
        let authority: Vec<_> = s
            .hosts()
            .into_iter()
            .filter(|h| h.authority)
            .map(|h| h.name)
            .collect();
        assert_eq!(authority, ["h1"], "as {} sees it", s.name);
    }
}

#[test]
fn a_killed_member_is_down_at_once_and_back_at_once() {
    let mut sites = Site::cluster(&["h1", "h2"]);
    let killed = Instant::now();
    sites[1].stop(Signal::SIGKILL);
    wait_for("h2 to be down", || {
        sites[0].host("h2").is_some_and(|h| h.state() == HostState::Down)
    });
    // Not by silence, which takes 6 s.
    assert!(
        killed.elapsed() < Duration::from_secs(5),
        "{:?}",
        killed.elapsed()
    );
    let e = sites[0].place("h2").unwrap_err();
    assert!(
        e.contains("h2 does not answer") && e.contains(&sites[1].address()),
        "{e}"
    );
    sites[1].start();
    wait_for("h2 to be up", || sites[0].all_up(&["h1", "h2"]));
    // One that is stopped says so.
    assert!(sites[1].stop(Signal::SIGTERM));
    wait_for("h2's farewell", || {
        sites[0].host("h2").is_some_and(|h| h.reason.contains("stopped"))
    });
    assert!(!sites[1].dir.join("run/queued.sock").exists());
}

#[test]
fn a_member_that_hangs_is_down_by_its_silence() {
    let sites = Site::cluster(&["h1", "h2"]);
    sites[1].signal(Signal::SIGSTOP);
    wait_for("h2 to be down", || {
        sites[0]
            .host("h2")
            .is_some_and(|h| h.state() == HostState::Down && h.reason.contains("no sign of life"))
    });
    assert_eq!(sites[0].place("+"), Ok("h1".into()));
    sites[1].signal(Signal::SIGCONT);
    wait_for("h2 to be up", || {
        sites[0].all_up(&["h1", "h2"]) && sites[1].all_up(&["h1", "h2"])
    });
}

#[test]
fn a_member_that_moves_is_followed() {
    let mut sites = Site::cluster(&["h1", "h2", "h3"]);
    assert!(sites[1].stop(Signal::SIGTERM));
    sites[1].port = free_port();
    sites[1].configure("");
    sites[1].start();
    let address = sites[1].address();
    for s in &sites {
        wait_for("the new address", || {
            s.all_up(&["h1", "h2", "h3"]) && s.host("h2").is_some_and(|h| h.address == address)
        });
    }
    // It is written down: one that starts anew finds it there.
    assert!(sites[2].stop(Signal::SIGTERM));
    sites[2].start();
    wait_for("h3 to find h2", || sites[2].all_up(&["h1", "h2", "h3"]));
}

#[test]
fn a_hangup_has_it_read_its_configuration_again() {
    let sites = Site::cluster(&["h1", "h2"]);
    sites[1].configure("log = 'shout'");
    sites[1].signal(Signal::SIGHUP);
    wait_for("the complaint", || sites[1].log().contains("queued.toml:4:7: "));
    let elsewhere = format!("127.0.0.2:{}", sites[1].port);
    fs::write(
        sites[1].dir.join("queued.toml"),
        format!("port = {}\nadvertise = '127.0.0.2'\n", sites[1].port),
    )
    .expect("queued.toml");
    sites[1].signal(Signal::SIGHUP);
    wait_for("the new address", || {
        sites[0].all_up(&["h1", "h2"]) && sites[0].host("h2").is_some_and(|h| h.address == elsewhere)
    });
}

#[test]
fn a_copied_host_is_refused_and_the_first_one_stays() {
    let sites = Site::cluster(&["h1", "h2"]);
    // Up is known by datagrams, perhaps; which of two was there first is known by its connection.
    wait_for("h1 to be connected with h2", || {
        sites[0].host("h2").is_some_and(|h| !h.version.is_empty())
    });
    let mut copy = Site::copy_of(&sites[1]);
    copy.start();
    let said = |s: &Site| s.host("h1").map(|h| h.reason).unwrap_or_default();
    wait_for("the refusal", || said(&copy).contains("cloned image"));
    let text = said(&copy);
    assert!(
        text.contains(&sites[1].address()) && text.contains(&copy.address()),
        "{text}"
    );
    assert!(sites[0].log().contains("cloned image"));
    assert!(sites[0].all_up(&["h1", "h2"]));
    assert_eq!(sites[0].host("h2").map(|h| h.address), Some(sites[1].address()));
}

#[test]
fn a_removed_host_is_out_everywhere_at_once_and_may_join_again() {
    let mut sites = Site::cluster(&["h1", "h2", "h3", "h4"]);
    // h4 is away when it happens.
    assert!(sites[3].stop(Signal::SIGTERM));
    for gone in ["h3", "h4"] {
        let out = sites[0]
            .command("queue", &["hosts", "remove", gone])
            .output()
            .expect("queue");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
    for s in &sites[..2] {
        wait_for("the others without them", || s.all_up(&["h1", "h2"]));
        assert!(s.place("h3").unwrap_err().contains("no host h3"));
    }
    wait_for("h3 to know", || {
        sites[2].place("h1").is_err_and(|e| e.contains("was removed"))
    });
    sites[3].start();
    wait_for("h4 to learn", || {
        sites[3].place("+").is_err_and(|e| e.contains("was removed"))
    });
    let token = sites[0].ok(&["token"]);
    let said = sites[2].ok(&["join", &token]);
    assert!(said.contains("queued has taken it up"), "{said}");
    for s in &sites[..3] {
        wait_for("h3 to be back", || s.all_up(&["h1", "h2", "h3"]));
    }
}

#[test]
fn with_nothing_set_up_it_works_alone_and_joins_without_a_restart() {
    let mut alone = Site::new("h2");
    alone.start();
    wait_for("itself", || alone.all_up(&["h2"]));
    assert_eq!(alone.place("+"), Ok("h2".into()));
    let sites = Site::cluster(&["h1"]);
    let token = sites[0].ok(&["token"]);
    let begun = Instant::now();
    let said = alone.ok(&["join", &token]);
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(
        said.contains("h2 is a member of cluster test now") && said.contains("h1 answer"),
        "{said}"
    );
    wait_for("both", || {
        alone.all_up(&["h1", "h2"]) && sites[0].all_up(&["h1", "h2"])
    });
    assert_eq!(alone.ok(&["check"]).lines().count(), 1);
    // Now it has a cluster that is not its own alone.
    let other = Site::cluster(&["h9"]);
    let token = other[0].ok(&["token"]);
    let e = alone.fails(&["join", &token]);
    assert!(e.contains("leave it first") && e.contains("on h1"), "{e}");
    let e = sites[0].fails(&["join", &token]);
    assert!(e.contains("holds the authority"), "{e}");
}

#[test]
fn one_installation_runs_one_daemon() {
    let mut one = Site::new("h1");
    one.start();
    let e = one.fails(&["run"]);
    assert!(e.contains("runs already"), "{e}");
    // Another one on the same port is told so, and leaves the first one alone.
    let mut two = Site::new("h2");
    two.port = one.port;
    two.configure("spawn-exec = false");
    let e = two.fails(&["run"]);
    assert!(
        e.contains("cannot listen") && e.contains(&one.port.to_string()),
        "{e}"
    );
    assert!(one.all_up(&["h1"]));
    // A socket that a killed one left is no obstacle.
    one.stop(Signal::SIGKILL);
    assert!(one.dir.join("run/queued.sock").exists());
    one.start();
}

#[test]
fn configuration_errors_name_file_line_and_column() {
    let site = Site::new("h1");
    site.ok(&["init"]);
    site.ok(&["check"]);
    site.configure("prot = 1");
    for args in [&["check"][..], &["run"]] {
        let e = site.fails(args);
        assert!(e.contains("queued.toml:4:1: unknown field `prot`"), "{e}");
    }
    for (text, said) in [
        ("power = 0", "4:9: power 0 is none: use 0.01 to 100"),
        ("disk-path = '/none'", "4:1: disk-path: /none is no directory"),
        (
            "operators = '@none'",
            "4:1: operators: there is no group none here",
        ),
        ("[resources]\nmem = 1", "5:1: mem is known of every host"),
    ] {
        site.configure(text);
        let e = site.fails(&["check"]);
        assert!(e.contains(&format!("queued.toml:{said}")), "{e}");
    }
    site.configure("operators = 'root'\n[resources]\nraid = '200G'");
    site.ok(&["check"]);
    site.configure("");
    fs::write(site.dir.join("exec.conf"), "warm 2\nwarn 3\n").expect("exec.conf");
    let e = site.fails(&["check"]);
    assert!(e.contains("exec.conf:2: "), "{e}");
    let e = site.fails(&["init"]);
    assert!(e.contains("already"), "{e}");
}

fn session(site: &Site, hello: &SessionHello) -> TcpStream {
    let mut s = TcpStream::connect(site.address()).expect("a connection");
    s.set_read_timeout(Some(LIMIT)).expect("a limit");
    s.write_all(&preamble(KIND_SESSION, &hello.encode_to_vec()))
        .expect("a preamble");
    // What follows is meant for the session and must not disturb the refusal.
    s.write_all(&[22; 400]).expect("more");
    s
}

/// The whole answer: a refusal, then a clean end.
fn refusal(mut s: TcpStream) -> String {
    let mut all = Vec::new();
    s.read_to_end(&mut all).expect("an answer and a clean end");
    let n = usize::from(u16::from_be_bytes([all[0], all[1]]));
    assert_eq!(all.len(), 2 + n);
    let a = SessionAnswer::decode(&all[2..]).expect("an answer");
    assert!(a.grant.is_empty());
    a.refused
}

/// A daemon that does not outlive its test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_session_that_is_not_to_be_is_told_why() {
    let mut site = Site::new("h1");
    site.configure("spawn-exec = false");
    site.ok(&["init"]);
    // Without queue-exec it never says READY; it answers all the same.
    let daemon = site
        .command("queued", &["run"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("queued");
    let mut daemon = Ended(daemon);
    let hello = SessionHello {
        ticket: vec![1; 200],
        source_cert: vec![2; 200],
        need: None,
    };
    wait_for("the port", || TcpStream::connect(site.address()).is_ok());
    let text = refusal(session(&site, &hello));
    assert!(text.contains("queue-exec") && text.contains("start it"), "{text}");
    wait_for("the socket", || !site.hosts().is_empty());
    let own = site.host("h1").expect("itself");
    assert!(
        own.state() == HostState::Down && own.reason.contains("queue-exec"),
        "{own:?}"
    );
    let place = request::Kind::Place(Place::default());
    assert!(matches!(site.ask(place), Some(reply::Kind::Error(e)) if e.code() == ErrorCode::NoHost));
    daemon.0.kill().expect("a kill");
    daemon.0.wait().expect("its end");
    site.configure("");
    site.start();
    let text = refusal(session(&site, &hello));
    assert!(text.contains("malformed"), "{text}");
    // A single-user installation starts its queue-exec again.
    site.stop_exec();
    wait_for("queue-exec to be back", || site.all_up(&["h1"]));
}

#[test]
fn what_is_not_our_protocol_is_closed_without_a_word() {
    let mut site = Site::new("h1");
    site.start();
    let rubbish: [&[u8]; 5] = [
        b"GET / HTTP/1.0\r\n\r\n",
        b"QUE1X\0\0\0",
        b"QUE1M\0\xff\xff",
        b"QUE1S\0\xff\xff",
        b"QUE1J\0\0\0not TLS at all, but long enough to be looked at",
    ];
    for bytes in rubbish {
        let mut s = TcpStream::connect(site.address()).expect("a connection");
        s.set_read_timeout(Some(LIMIT)).expect("a limit");
        s.write_all(bytes).expect("rubbish");
        let mut answer = Vec::new();
        // A TLS alert is all that anybody may get.
        let _ = s.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer[0] == 21, "{bytes:?}: {answer:?}");
    }
    // Who says nothing is closed after a while.
    let mut s = TcpStream::connect(site.address()).expect("a connection");
    s.set_read_timeout(Some(LIMIT)).expect("a limit");
    let begun = Instant::now();
    assert_eq!(s.read(&mut [0]).expect("an end"), 0);
    assert!(begun.elapsed() > Duration::from_secs(3));
    assert!(site.all_up(&["h1"]));
}

#[test]
fn the_local_socket_survives_rubbish_and_refuses_large_questions() {
    use std::os::unix::net::UnixStream;
    let mut site = Site::new("h1");
    site.start();
    for bytes in [&[0xff; 64][..], &[0, 0, 0, 3, 0xff, 0xff, 0xff], &[0, 0, 0, 0]] {
        let mut s = UnixStream::connect(site.dir.join("run/queued.sock")).expect("a connection");
        s.set_read_timeout(Some(LIMIT)).expect("a limit");
        s.write_all(bytes).expect("rubbish");
        let r: libqueue::wire::Reply = libqueue::frame::read(&mut s).expect("an answer");
        assert!(matches!(r.kind, Some(reply::Kind::Error(e)) if e.code() == ErrorCode::BadRequest));
    }
    assert!(matches!(
        site.ask(request::Kind::Revoke(vec![1; 99])),
        Some(reply::Kind::Error(_))
    ));
    assert!(site.all_up(&["h1"]));
}
