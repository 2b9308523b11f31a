//! The real session process and its init, with the test in the place of monitor and client.

mod attach;
mod fake;
mod resume;

use fake::{LIMIT, Run, answer, claim, gone, own_name, packet, session_binary, sh};
use libqueue::link::{Link, LinkError, wait};
use libqueue::stream::{Channel, Event};
use libqueue::tls::{Peer, client_config};
use libqueue::wire::{Form, FromSession, Launch, LaunchError, Look, Pty, Winsize, from_session, to_session};
use nix::poll::PollFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use prost::Message as _;
use queue_exec::{client, protocol};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

/// A signal by way of the host, and an end by way of the host.
#[test]
fn the_host_may_signal_and_end_it() {
    let kill = |r: &Run, by: &str, signal: u8| {
        let m = protocol::ToSession::Kill {
            by: by.into(),
            signal,
        };
        client::send(r.monitor.as_fd(), &m.encode(), None).unwrap();
    };
    let script = "trap 'echo usr1' USR1; trap '' HUP; trap 'echo term; exit 3' TERM; setsid sh -c 'echo $$; exec sleep 1000' & \
                  while :; do sleep 0.1; done";
    let mut r = Run::start(&sh(script));
    r.until("a pid", |r| r.out[1].ends_with(b"\n"));
    let pid: i32 = String::from_utf8_lossy(&r.out[1]).trim().parse().unwrap();
    kill(&r, "bob@h3", 10);
    r.until("usr1", |r| r.out[1].ends_with(b"usr1\n"));
    assert!(!gone(pid) && r.said.len() == 1, "{:?}", r.said);
    let start = Instant::now();
    kill(&r, "bob@h3", 0);
    let notice = from_session::Kind::Notice("killed by bob@h3".into());
    r.until("the notice", |r| r.said.contains(&notice));
    let (code, signal, out) = r.finish();
    assert_eq!((code, signal), (Some(3), None), "as the command ended");
    assert!(out[1].ends_with(b"term\n"), "{out:?}");
    assert!(gone(pid), "sleep lives on");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());

    // Nor does the form matter in which things may stay.
    let l = Launch {
        form: Form::Rsh as i32,
        argv: vec![b"echo $$; sleep 1000".to_vec()],
        leave: true,
        ..Launch::default()
    };
    let mut r = Run::start(&l);
    r.until("a pid", |r| r.out[1].ends_with(b"\n"));
    kill(&r, "root@h1", 0);
    assert_eq!(r.finish().1, Some(libc::SIGHUP as u32));
}

/// A session that looks sees the command of another one, as far as its user may.
#[test]
fn a_session_can_look_at_another() {
    let mut l = sh("echo ready; read x; exit 5");
    l.env.push(b"SECRET=1 2".to_vec());
    let mut other = Run::start(&l);
    other.until("ready", |r| r.out[1].ends_with(b"\n"));
    let look = |wanted: &[[u8; 16]], env: bool, seen: &[protocol::Seen]| {
        let l = Launch {
            look: Some(Look {
                sessions: wanted.iter().map(|n| n.to_vec()).collect(),
                env,
            }),
            ..Launch::default()
        };
        let mut r = Run::start(&l);
        assert_eq!(packet(&r.monitor), protocol::FromSession::Look);
        let m = protocol::ToSession::Seen {
            sessions: seen.to_vec(),
        };
        client::send(r.monitor.as_fd(), &m.encode(), None).unwrap();
        r.until("what it saw", |r| !r.said.is_empty());
        let from_session::Kind::Looked(looked) = r.said[0].clone() else {
            panic!("{:?}", r.said)
        };
        assert_eq!(r.finish().0, Some(0));
        looked.sessions
    };
    let seen = |nonce, pid| protocol::Seen { nonce, pid };
    let (a, b, c) = ([1; 16], [2; 16], [3; 16]);
    // The second has nothing below it.
    let both = [seen(a, other.child.id()), seen(b, std::process::id())];
    let found = look(&[], false, &both);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].id, a);
    let argv = [&b"sh"[..], b"-c", b"echo ready; read x; exit 5"];
    assert_eq!(found[0].argv, argv);
    assert_eq!(
        (found[0].cwd.as_slice(), found[0].tty.as_str()),
        (&b"/tmp"[..], "")
    );
    assert!(found[0].env.is_empty() && found[0].pid > 0, "{found:?}");
    let found = look(&[b, a, c], true, &both);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!((found[1].id.as_slice(), found[1].pid), (&b[..], 0));
    assert!(found[0].env.contains(&b"SECRET=1 2".to_vec()), "{found:?}");
    assert!(look(&[c], true, &both).is_empty());
    other.input(b"\n");
    assert_eq!(other.finish().0, Some(5));
}

#[test]
fn output_and_status_come_back() {
    let mut l = sh("cat; echo err >&2; pwd; umask; exit 77");
    let mut r = Run::start(&l);
    r.input(b"in\n");
    let eof = |r: &mut Run| {
        r.link.send_eof(Channel::Stdin).unwrap();
        r.link.flush_all(LIMIT).unwrap();
    };
    eof(&mut r);
    let (code, signal, out) = r.finish();
    assert_eq!((code, signal), (Some(77), None));
    assert_eq!(String::from_utf8_lossy(&out[1]), "in\n/tmp\n0027\n");
    assert_eq!(out[2], b"err\n");
    l = sh("kill -SEGV $$");
    let (code, signal, _) = Run::start(&l).finish();
    assert_eq!((code, signal), (None, Some(11)));
    l.no_stdin = true;
    l.argv[1] = b"wc -c".to_vec();
    assert_eq!(Run::start(&l).finish().2[1], b"0\n");
}

#[test]
fn failures_are_told_apart() {
    let fail = |l: &Launch| {
        let mut r = Run::start(l);
        r.until("the failure", |r| !r.said.is_empty());
        match r.said.remove(0) {
            from_session::Kind::Failed(f) => (LaunchError::try_from(f.code).unwrap(), f.text),
            k => panic!("{k:?}"),
        }
    };
    let launch = |program: &str| Launch {
        argv: vec![program.as_bytes().to_vec()],
        cwd: b"/".to_vec(),
        ..Launch::default()
    };
    assert_eq!(fail(&launch("no-such-program")).0, LaunchError::NotFound);
    assert_eq!(fail(&launch("/etc/passwd")).0, LaunchError::NotExecutable);
    let (code, text) = fail(&Launch {
        cwd: b"/no/such/place".to_vec(),
        ..launch("true")
    });
    assert_eq!(code, LaunchError::Directory);
    assert!(text.contains("/no/such/place"), "{text}");
    assert_eq!(fail(&Launch::default()).0, LaunchError::Request);
}

#[test]
fn terminal_has_size_modes_and_job_control() {
    let mut l = sh(
        "stty size; stty -a | grep -o -- '-echo '; tty; read line; echo \"got $line\"; kill -STOP $$; echo on",
    );
    l.pty = Some(Pty {
        stdin: true,
        stdout: true,
        stderr: true,
        modes: None,
        size: Some(Winsize {
            rows: 33,
            cols: 101,
            xpixel: 0,
            ypixel: 0,
        }),
    });
    let mut r = Run::start(&l);
    r.until("the terminal's name", |r| {
        String::from_utf8_lossy(&r.out[1]).contains("/dev/pts/")
    });
    assert!(
        r.out[1].starts_with(b"33 101\r\n"),
        "{:?}",
        String::from_utf8_lossy(&r.out[1])
    );
    r.input(b"hello\r");
    r.until("the stop", |r| {
        r.said
            .iter()
            .any(|k| matches!(k, from_session::Kind::Stopped(19)))
    });
    assert!(String::from_utf8_lossy(&r.out[1]).contains("got hello"));
    r.tell(to_session::Kind::Continue(libqueue::wire::Empty {}));
    let (code, _, out) = r.finish();
    assert_eq!(code, Some(0));
    assert!(String::from_utf8_lossy(&out[1]).ends_with("on\r\n"));
}

#[test]
fn signals_reach_the_foreground_group_once() {
    let mut r = Run::start(&sh(
        "trap 'echo usr1' USR1; trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.1; done",
    ));
    r.until("ready", |r| r.out[1].starts_with(b"ready"));
    r.tell(to_session::Kind::Signal(10));
    r.until("usr1", |r| r.out[1].ends_with(b"usr1\n"));
    r.tell(to_session::Kind::Signal(15));
    let (code, _, out) = r.finish();
    assert_eq!(
        (code, String::from_utf8_lossy(&out[1]).as_ref()),
        (Some(3), "ready\nusr1\nterm\n")
    );
}

/// Neither a vanished client nor a command that left its children behind leaves a process.
#[test]
fn the_whole_tree_ends() {
    // setsid: out of group and session; the double fork: out of the family.
    let script = "setsid sh -c 'sleep 1000 & echo $!; trap \"\" HUP TERM; while :; do sleep 1; done' & wait";
    let mut r = Run::start(&sh(script));
    r.until("a pid", |r| r.out[1].ends_with(b"\n"));
    let pid: i32 = String::from_utf8_lossy(&r.out[1]).trim().parse().unwrap();
    assert!(!gone(pid));
    let Run { front, mut child, .. } = r;
    let start = Instant::now();
    drop(front);
    assert!(child.wait().unwrap().success());
    assert!(gone(pid), "sleep lives on");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());

    let (code, _, out) = Run::start(&sh("sleep 1000 & echo $!; exit 4")).finish();
    assert_eq!(code, Some(4));
    let pid: i32 = String::from_utf8_lossy(&out[1]).trim().parse().unwrap();
    assert!(gone(pid), "sleep lives on");
}

/// The rsh form on a named host: what is left in the background stays, and its output is waited for.
#[test]
fn what_is_to_stay_stays() {
    let l = Launch {
        form: Form::Rsh as i32,
        argv: vec![b"(sleep 0.3; echo late) & sleep 1000 >/dev/null 2>&1 & echo $!".to_vec()],
        leave: true,
        ..Launch::default()
    };
    let (code, _, out) = Run::start(&l).finish();
    assert_eq!(code, Some(0));
    let text = String::from_utf8_lossy(&out[1]).into_owned();
    let pid: i32 = text.lines().next().unwrap().parse().unwrap();
    assert!(text.ends_with("late\n"), "{text}");
    assert!(!gone(pid), "sleep ended");
    // SAFETY: no memory is involved; it is a process that this test started.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

#[test]
fn a_request_that_was_not_signed_for_and_an_unknown_account_are_refused() {
    let (_, mut child, mut front, ..) = claim("no-such-account", b"", 60);
    let a = answer(&mut front);
    assert!(
        a.grant.is_empty() && a.refused.contains("h2 has no account no-such-account"),
        "{a:?}"
    );
    child.wait().unwrap();

    let bytes = sh("true").encode_to_vec();
    let (monitor, mut child, mut front, key, session_key) = claim(&own_name(), &bytes, 60);
    answer(&mut front);
    let mut link = Link::client(
        front.into(),
        client_config(&key, Peer::Pinned(session_key)).unwrap(),
    )
    .unwrap();
    link.handshake(LIMIT, |_| {}).unwrap();
    link.send_control(&sh("id").encode_to_vec()).unwrap();
    link.flush_all(LIMIT).unwrap();
    let mut said = Vec::new();
    while said.is_empty() {
        wait(link.socket().unwrap(), PollFlags::POLLIN, Instant::now() + LIMIT).unwrap();
        let r = link.receive(|e| {
            if let Event::Control(m) = e {
                said.extend(FromSession::decode(m).unwrap().kind);
            }
        });
        assert!(!matches!(r, Err(LinkError::Protocol(_))));
    }
    let from_session::Kind::Failed(f) = &said[0] else {
        panic!("{said:?}")
    };
    assert_eq!(f.code, LaunchError::Request as i32);
    drop((link, monitor));
    child.wait().unwrap();
}

/// Two sessions forked from one zygote have nothing in common: each makes its key after the fork.
#[test]
fn a_zygote_gives_sessions_with_keys_of_their_own() {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .unwrap();
    let fd = theirs.as_raw_fd();
    let mut command = Command::new(session_binary());
    command.arg("--zygote").env_clear();
    // SAFETY: dup2 is async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            nix::errno::Errno::result(libc::dup2(fd, 3))?;
            Ok(())
        });
    }
    let mut zygote = command.spawn().unwrap();
    drop(theirs);
    let mut keys = std::collections::BTreeSet::new();
    for _ in 0..8 {
        let (channel, its) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        client::send(ours.as_fd(), b"F", Some(its.as_fd())).unwrap();
        drop(its);
        let mut buf = [0; 64];
        let (n, pidfd) = client::receive(ours.as_fd(), &mut buf).unwrap();
        assert!(n == 5 && buf[0] == b'P' && pidfd.is_some(), "{:?}", &buf[..n]);
        let protocol::FromSession::Ready { session_key } = packet(&channel) else {
            panic!("not ready")
        };
        keys.insert(session_key);
        // It is our child, though the zygote made it: without a channel it ends, and leaves a status to us.
        drop(channel);
        let pid = i32::from_be_bytes([buf[1], buf[2], buf[3], buf[4]]);
        nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).unwrap();
    }
    assert_eq!(keys.len(), 8);
    drop(ours);
    assert!(!zygote.wait().unwrap().success());
}
