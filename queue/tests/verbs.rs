//! The verbs, and what a command needs, against a faked cluster.

mod fake;

use fake::{Fake, Host};
use libqueue::wire::{Need, SessionInfo};
use queue_exec::protocol::Control;
use serde_json::Value;
use std::process::{Command, Output, Stdio};

fn output(c: &mut Command) -> Output {
    c.stdin(Stdio::null()).output().unwrap()
}

/// Exit code, standard output, standard error.
fn say(fake: &Fake, args: &[&str]) -> (i32, String, String) {
    let o = output(&mut fake.queue(args));
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    (o.status.code().unwrap_or(-1), text(&o.stdout), text(&o.stderr))
}

fn me() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid())
        .unwrap()
        .unwrap()
        .name
}

fn session(first: u32, host: &str, user: &str) -> SessionInfo {
    SessionInfo {
        id: [&first.to_be_bytes()[..], &[7; 12]].concat(),
        host: host.into(),
        login: user.into(),
        user: user.into(),
        from: "h0".into(),
        since_ms: 1_000_000,
        clock_ms: 1_065_000,
        processes: 2,
        ..SessionInfo::default()
    }
}

/// Two hosts; two sessions of ours, one of somebody else's, one that only looks.
fn busy() -> Fake {
    let fake = Fake::new(&[Host::Well, Host::Well]);
    let mut looks = session(0x7777_7777, "h0", "eve");
    looks.need = Some(Need {
        look: true,
        ..Need::default()
    });
    let mut as_bob = session(0x1a2b_0002, "h0", &me());
    as_bob.login = "bob".into();
    *fake.sessions.lock().unwrap() = libqueue::wire::Sessions {
        sessions: vec![
            looks,
            session(0xbad0_0003, "h1", "eve"),
            as_bob,
            session(0x1a2b_0001, "h1", &me()),
        ],
        silent: Vec::new(),
    };
    fake
}

#[test]
fn what_is_needed_goes_along() {
    let fake = Fake::one();
    let args = ["--cores", "2", "--mem", "1G", "-R", "gpus>0", "--", "true"];
    assert_eq!(say(&fake, &args).0, 0);
    let need = Need {
        cores: 2,
        mem: 1 << 30,
        expr: "gpus>0".into(),
        ..Need::default()
    };
    assert_eq!(fake.asked.lock().unwrap()[0].need.as_ref(), Some(&need));
    assert_eq!(fake.needed.lock().unwrap()[0].as_ref(), Some(&need));
    // Nothing in particular, and the way in by name.
    assert_eq!(say(&fake, &["--", "true"]).0, 0);
    assert_eq!(fake.needed.lock().unwrap()[1], None);
    assert_eq!(say(&fake, &["h0", "true"]).0, 0);
    assert!(fake.needed.lock().unwrap()[2].as_ref().unwrap().by_name);
}

#[test]
fn a_full_host_is_not_one_of_the_three_tries() {
    let fake = Fake::new(&[Host::Full, Host::Full, Host::Full, Host::Full, Host::Well]);
    assert_eq!(
        say(&fake, &["--", "exit", "9"]),
        (9, String::new(), String::new())
    );
    assert_eq!(
        fake.asked.lock().unwrap().last().unwrap().avoid,
        ["h0", "h1", "h2", "h3"]
    );
    let (code, _, err) = say(&fake, &["-h", "h1", "--", "true"]);
    assert_eq!((code, err.as_str()), (125, "queue: h1: no\\x1b room\n"));
    // The last reason is worth more than that no host is left.
    let fake = Fake::new(&[Host::Full, Host::Full]);
    let (code, _, err) = say(&fake, &["--", "true"]);
    assert_eq!((code, err.as_str()), (125, "queue: h1: no\\x1b room\n"));
}

#[test]
fn waits_and_says_why_once_where_it_stays() {
    let fake = Fake::new(&[Host::FullOnce]);
    for args in [&["-q", "--", "exit", "9"][..], &["-qh", "h0", "--", "exit", "9"]] {
        let (code, out, err) = say(&fake, args);
        assert_eq!((code, out.as_str()), (9, ""));
        let line = "queue: waiting: all hosts are\\x1b full (2 ahead)\n";
        assert!(err.starts_with(line), "{err}");
    }
    let asked = fake.asked.lock().unwrap();
    // It was full at first, and was not given up for that.
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|p| p.wait && p.avoid.is_empty()));
    assert!(asked.iter().all(|p| p.need.as_ref().unwrap().cores == 1));
}

#[test]
fn jobs_have_command_lines_of_ones_own() {
    let fake = busy();
    let (code, out, err) = say(&fake, &["jobs", "-u", "me"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 3, "{out}");
    assert!(lines[0].starts_with("ID ") && lines[0].ends_with("COMMAND"));
    // By host, then by age.
    assert!(lines[1].starts_with("s1a2b0002 ") && lines[1].contains(" as bob  h0 "));
    assert!(
        lines[2].starts_with("s1a2b0001 ")
            && lines[2].ends_with("  65s  0.00  0:00.0   0B      2  sleep 76001")
    );
    let looks = fake.launched.lock().unwrap();
    assert!(looks.len() == 2 && looks.iter().all(|l| l.look.is_some() && l.env.is_empty()));
    assert!(
        fake.needed
            .lock()
            .unwrap()
            .iter()
            .all(|n| n.as_ref().is_some_and(|n| n.look))
    );
}

#[test]
fn jobs_of_others_and_silent_hosts() {
    let fake = busy();
    fake.sessions.lock().unwrap().silent = vec!["h3: no\x1b answer".into()];
    let (code, out, err) = say(&fake, &["jobs", "--json"]);
    assert_eq!((code, err.as_str()), (1, "queue: h3: no\\x1b answer\n"));
    let all: Value = serde_json::from_str(&out).unwrap();
    let jobs = all["sessions"].as_array().unwrap();
    assert_eq!(
        (jobs.len(), all["silent"][0].as_str()),
        (3, Some("h3: no\x1b answer"))
    );
    let of = |id: &str| jobs.iter().find(|j| j["id"] == id).unwrap();
    assert_eq!(of("s1a2b0001")["command"], serde_json::json!(["sleep", "76001"]));
    if me() != "root" {
        assert!(of("sbad00003")["command"].is_null());
    }
    let (_, out, _) = say(&fake, &["jobs", "-h", "h1", "-u", "eve"]);
    assert_eq!(out.lines().count(), 2, "{out}");
    // None at all is no error.
    let (code, out, _) = say(&fake, &["jobs", "-h", "h1", "-u", "nobody"]);
    assert_eq!((code, out.lines().count()), (0, 1));
}

#[test]
fn show_tells_everything_of_ones_own() {
    let fake = busy();
    let (code, out, err) = say(&fake, &["show", "1a2b0001", "--env"]);
    assert_eq!((code, err.as_str()), (0, ""));
    for part in ["s1a2b0001\n", "sleep 76001", "/srv", "4711", "sleeps (S)", "A=b"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    for (id, part) in [
        ("s1a2b", "s1a2b is ambiguous: s1a2b0002"),
        ("s99999", "no such session: s99999"),
        ("x", "`x` is no id"),
    ] {
        let (code, out, err) = say(&fake, &["show", id]);
        assert_eq!((code, out.as_str()), (125, ""), "{id}");
        assert!(err.contains(part) && err.lines().count() == 1, "{err}");
    }
    assert_eq!(say(&fake, &["show", "s1a2b0001", "s99999"]).0, 1);
}

#[test]
fn kill_asks_the_hosts_of_the_sessions() {
    let fake = busy();
    let (code, out, err) = say(&fake, &["kill", "s1a2b0001", "-s", "USR1"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, format!("s1a2b0001 of {} on h1 gets signal 10\n", me()));
    let (code, _, err) = say(&fake, &["kill", "sbad"]);
    assert_eq!(
        (code, err.as_str()),
        (125, "queue: sbad00003 of eve: h1: only operators\\x1b may\n")
    );
    // All of one's own, and nobody else's.
    let (code, out, _) = say(&fake, &["kill", "--all", "--json"]);
    let all: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, all.as_array().unwrap().len()), (0, 2));
    assert_eq!(say(&fake, &["kill", "s1a2b0002", "s99999"]).0, 1);
    let nonce = |first: u32| <[u8; 16]>::try_from(session(first, "", "").id).unwrap();
    let controls = fake.controls.lock().unwrap();
    assert_eq!(
        controls[0],
        (
            1,
            Control::Kill {
                session: nonce(0x1a2b_0001),
                signal: 10
            }
        )
    );
    assert!(controls.contains(&(
        0,
        Control::Kill {
            session: nonce(0x1a2b_0002),
            signal: 0
        }
    )));
    assert!(fake.launched.lock().unwrap().is_empty());
}

#[test]
fn drain_and_undrain() {
    let fake = Fake::new(&[Host::Well, Host::Well, Host::Deaf]);
    let (code, out, err) = say(&fake, &["drain", "h0", "h1", "--reason", "new disks"]);
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (0, "h0 takes nothing new\nh1 takes nothing new\n", "")
    );
    let (code, out, err) = say(&fake, &["undrain", "h1", "h2"]);
    assert_eq!((code, out.as_str()), (1, "h1 takes commands again\n"));
    assert!(
        err.starts_with("queue: no queued listens on h2 (127.0.0.1:"),
        "{err}"
    );
    assert_eq!(say(&fake, &["drain", "h9"]).0, 125);
    let controls = fake.controls.lock().unwrap();
    assert!(controls.contains(&(
        0,
        Control::Drain {
            reason: "new disks".into()
        }
    )));
    assert_eq!(controls.last(), Some(&(1, Control::Undrain)));
    // A host that takes nothing new is still found by its name.
    assert!(
        fake.asked
            .lock()
            .unwrap()
            .iter()
            .all(|p| p.need.as_ref().is_some_and(|n| n.by_name))
    );
}

#[test]
fn hosts_and_explain() {
    let fake = Fake::new(&[Host::Well, Host::Well]);
    let (code, out, _) = say(&fake, &["hosts"]);
    assert_eq!((code, out.lines().count()), (0, 3));
    assert!(out.contains("h1    up     0.00       0.0/2"), "{out}");
    let (_, out, _) = say(&fake, &["hosts", "-R", "host==h1 && raid>=1G", "--json"]);
    let all: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(all["hosts"].as_array().unwrap().len(), 1);
    let (code, out, _) = say(&fake, &["explain", "--cores", "3", "--", "true"]);
    assert_eq!(code, 0);
    assert!(
        out.starts_with("score = 1\n") && out.ends_with("3 cores on h0\n"),
        "{out}"
    );
    let (_, out, _) = say(&fake, &["explain", "--json"]);
    assert_eq!(
        serde_json::from_str::<Value>(&out).unwrap()["hosts"][0]["chance"],
        1.0
    );
    assert!(fake.launched.lock().unwrap().is_empty());
}

#[test]
fn watch_repeats_until_interrupted() {
    use std::io::{BufRead as _, BufReader};
    let fake = Fake::one();
    let mut child = fake
        .queue(&["hosts", "--watch", "0.1", "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        let line = lines.next().unwrap().unwrap();
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["cluster"], "fake");
    }
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(nix::libc::SIGINT)
    );
}
