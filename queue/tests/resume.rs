//! Sessions that outlive their connections, against a faked cluster: connections that break again and again, hosts
//! that refuse, say that all is over, or say nothing; being let go, and looking on.

mod fake;

use fake::{Again, Fake, Host, LIMIT};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

/// A `queue` whose session loses its connection after so many bytes.
fn start(fake: &Fake, command: &str) -> Child {
    let mut c = fake.queue(&["--", command]);
    c.stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    c.spawn().unwrap()
}

/// Gives it this input, and waits for its end.
fn feed(mut child: Child, input: Vec<u8>) -> Output {
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    out
}

fn bytes(n: usize) -> Vec<u8> {
    (0..n).map(|i| ((i * i) >> 7) as u8).collect()
}

fn text(b: &[u8]) -> String {
    String::from_utf8_lossy(b).into_owned()
}

#[test]
fn no_byte_is_lost_or_doubled() {
    let fake = Fake::new(&[Host::Resumes]);
    let input = bytes(4_000_000);
    let out = feed(start(&fake, "breaks 300000 3"), input.clone());
    assert_eq!(out.status.code(), Some(3), "{}", text(&out.stderr));
    assert!(out.stdout == input, "{} bytes", out.stdout.len());
    assert_eq!(text(&out.stderr), "", "nothing is told of what takes no time");
}

#[test]
fn who_says_no_is_asked_again() {
    let fake = Fake::new(&[Host::Resumes]);
    fake.again
        .lock()
        .unwrap()
        .extend([Again::Refuses, Again::Closes, Again::GoneSaysAnother]);
    let input = bytes(1_000_000);
    let out = feed(start(&fake, "breaks 400000 0"), input.clone());
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(out.stdout == input && fake.again.lock().unwrap().is_empty());
}

#[test]
fn what_is_over_is_over() {
    let fake = Fake::new(&[Host::Resumes]);
    fake.again.lock().unwrap().extend([Again::Refuses, Again::Gone]);
    let begun = Instant::now();
    let out = feed(start(&fake, "breaks 0 0"), bytes(10));
    assert_eq!(out.status.code(), Some(125));
    let said = text(&out.stderr);
    assert!(
        said.contains("connection to h0 lost (the session is over there)") && said.lines().count() == 1,
        "{said}"
    );
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn who_is_silent_is_waited_for_until_the_user_has_enough() {
    let fake = Fake::new(&[Host::Resumes]);
    fake.again.lock().unwrap().extend([Again::Silent; 1000]);
    let mut child = start(&fake, "breaks 0 0");
    child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    let begun = Instant::now();
    let mut said = String::new();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    err.read_line(&mut said).unwrap();
    assert_eq!(said, "queue: h0 does not answer; waiting\n");
    assert!(
        begun.elapsed() > Duration::from_millis(1500),
        "{:?}",
        begun.elapsed()
    );
    let pid = Pid::from_raw(child.id() as i32);
    kill(pid, Signal::SIGINT).unwrap();
    // The first one is for the command; it has been read when another signal can be sent.
    let end = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < end, "it goes on");
        kill(pid, Signal::SIGINT).unwrap();
        std::thread::yield_now();
    };
    assert_eq!(status.signal(), Some(2));
    said.clear();
    err.read_line(&mut said).unwrap();
    assert!(said.starts_with("queue: given up: h0 does not answer"), "{said}");
}

#[test]
fn it_answers_again() {
    let fake = Fake::new(&[Host::Resumes]);
    fake.again.lock().unwrap().extend([Again::Closes; 1000]);
    let mut child = start(&fake, "breaks 0 0");
    child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    err.read_line(&mut said).unwrap();
    assert!(said.contains("does not answer"), "{said}");
    fake.again.lock().unwrap().clear();
    said.clear();
    err.read_line(&mut said).unwrap();
    assert_eq!(said, "queue: h0 answers again\n");
    let out = feed(child, b"y".to_vec());
    assert_eq!((out.status.code(), text(&out.stdout)), (Some(0), "xy".into()));
}

#[test]
fn being_let_go() {
    let fake = Fake::new(&[Host::Resumes]);
    for (how, part) in [
        (
            "detached 0",
            "detached from s1a2b3c4d on h0: 'queue attach s1a2b3c4d' comes back",
        ),
        ("detached 1", "alice@h3 detached s1a2b3c4d on h0"),
        ("detached 2", "alice@h3 took s1a2b3c4d on h0 over"),
    ] {
        let out = fake.queue(&["--", how]).stdin(Stdio::null()).output().unwrap();
        let said = text(&out.stderr);
        assert!(
            said.starts_with("queue: ") && said.contains(part),
            "{how}: {said}"
        );
        assert_eq!((out.status.code(), said.lines().count()), (Some(0), 1), "{how}");
    }
}

#[test]
fn attaching() {
    let fake = Fake::new(&[Host::Resumes]);
    let me = nix::unistd::User::from_uid(nix::unistd::geteuid())
        .unwrap()
        .unwrap()
        .name;
    let session = |first: u8, detached| libqueue::wire::SessionInfo {
        id: [&[first, 0x2b, 0x3c, 0x4d][..], &[7; 12]].concat(),
        host: "h0".into(),
        login: me.clone(),
        user: me.clone(),
        detached,
        ..Default::default()
    };
    let run = |words: &[&str]| fake.queue(words).stdin(Stdio::null()).output().unwrap();
    let out = run(&["attach"]);
    assert!(
        text(&out.stderr).contains("no session of yours is detached"),
        "{out:?}"
    );
    fake.sessions.lock().unwrap().sessions = vec![session(0x1a, true), session(0xba, false)];
    let out = run(&["attach"]);
    assert_eq!(out.status.code(), Some(125));
    assert!(text(&out.stderr).contains("have to be a terminal"), "{out:?}");
    for words in [&["attach", "--watch"][..], &["attach", "--watch", "ba2b"]] {
        let out = run(words);
        assert_eq!(
            (out.status.code(), text(&out.stdout)),
            (Some(7), "watched\r\n".into())
        );
    }
    let out = run(&["detach", "ba2b3", "1a2b", "fff"]);
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    assert_eq!(text(&out.stdout), "sba2b3c4d on h0 is told\n");
    let said = text(&out.stderr);
    assert!(said.contains("s1a2b3c4d on h0 is detached already") && said.contains("no such session: fff"));
    // The only one that is attached.
    let out = run(&["detach", "--json"]);
    assert!(text(&out.stdout).contains("\"ok\": true"), "{out:?}");
    assert_eq!(fake.controls.lock().unwrap().len(), 2);
    let out = run(&["attach", "--json"]);
    assert!(text(&out.stdout).contains("\"detached\": true"), "{out:?}");
}
