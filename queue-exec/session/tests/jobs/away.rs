//! Monitors that come and go, and other ends of a session; output that is brought home.

use crate::fake::*;

use libqueue::wire::job::{Cause, Outcome, Params};
use nix::poll::PollFlags;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, listen, socket};
use prost::Message as _;
use queue_exec::client;
use queue_exec::protocol::{FromRunner, FromSession, PACKET_MAX, Reply, Request, ToRunner, ToSession};
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;
use std::time::Instant;

/// The monitor dies and comes back: it hears again what it may have missed.
#[test]
fn a_new_monitor_hears_of_job_and_outcome() {
    let room = Room::new("adopt");
    let kind = (AddressFamily::Unix, SockType::SeqPacket);
    let socket = socket(kind.0, kind.1, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(
        socket.as_raw_fd(),
        &UnixAddr::new(&room.0.join("exec.sock")).unwrap(),
    )
    .unwrap();
    listen(&socket, Backlog::new(8).unwrap()).unwrap();
    let adopted = |answer: Reply| {
        libqueue::link::wait(socket.as_fd(), PollFlags::POLLIN, Instant::now() + LIMIT).unwrap();
        // SAFETY: the kernel just made it for us.
        let fd =
            unsafe { OwnedFd::from_raw_fd(accept4(socket.as_raw_fd(), SockFlag::SOCK_CLOEXEC).unwrap()) };
        let mut buf = vec![0; PACKET_MAX];
        let (n, _) = client::receive(fd.as_fd(), &mut buf).unwrap();
        let (id, request) = Request::decode(&buf[..n]).unwrap();
        assert_eq!(request, Request::Adopt { nonce: [7; 16] });
        client::send(fd.as_fd(), &answer.encode(id), None).unwrap();
        fd
    };
    let mut r = Runner::new(&room);
    let flag = room.cwd().join("go");
    let run = room.sh("while ! [ -e go ]; do sleep 0.05; done; exit 9");
    let key = r.give(&run, &Params::default(), 0);
    let running = r.started(key);
    r.channel = None;
    r.channel = Some(adopted(Reply::Done));
    assert_eq!(r.started(key), running);
    fs::write(&flag, "").unwrap();
    let o = r.ended(key);
    assert_eq!(o.code, Some(9));
    r.channel = None;
    r.channel = Some(adopted(Reply::Done));
    assert_eq!(r.ended(key), o, "nobody said that he had heard it");
    // A later job shows that he has. Dismissed, it goes at once when it is told so.
    assert_eq!(r.outcome(&room.run(&["true"]), &Params::default()).code, Some(0));
    r.channel = None;
    let code = queue_exec::protocol::Refusal::Denied;
    adopted(Reply::Refused {
        code,
        text: "no".into(),
    });
    assert!(r.child.wait().unwrap().success());
}

#[test]
fn an_unknown_account_is_an_outcome() {
    let room = Room::new("account");
    let (channel, mut child) = start();
    let m = hire(
        "no-such-account",
        &room.0.join("spool/x"),
        &room.0.join("exec.sock"),
    );
    client::send(channel.as_fd(), &m.encode(), None).unwrap();
    assert!(
        matches!(packet(&channel), FromSession::Failed { text } if text == "h2 has no account no-such-account")
    );
    let m = ToSession::Job(ToRunner::Job {
        key: key(1),
        run: room.run(&["true"]).encode_to_vec(),
        params: Vec::new(),
        lease: 0,
    });
    client::send(channel.as_fd(), &m.encode(), None).unwrap();
    let FromSession::Job(FromRunner::Ended {
        key: k,
        outcome,
        last: true,
    }) = packet(&channel)
    else {
        panic!("no end")
    };
    let o = Outcome::decode(&outcome[..]).unwrap();
    assert_eq!(
        (k, cause(&o), o.text.as_str()),
        (key(1), Cause::Account, "h2 has no account no-such-account")
    );
    child.wait().unwrap();
    // One that was never given a job goes with its channel.
    let mut r = Runner::new(&room);
    r.channel = None;
    assert!(r.child.wait().unwrap().success());
}

/// Somebody kills init: the outcome says that nobody knows, and the session goes.
#[test]
fn an_init_that_is_killed_ends_the_session() {
    let room = Room::new("init");
    let mut r = Runner::new(&room);
    let key = r.give(&room.run(&["sleep", "1000"]), &Params::default(), 0);
    let pid = r.started(key).pid as i32;
    let stat = read(Path::new(&format!("/proc/{pid}/stat")));
    let init: i32 = stat
        .rsplit_once(") ")
        .unwrap()
        .1
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    // SAFETY: no memory is involved; processes that this test started.
    unsafe { libc::kill(init, libc::SIGKILL) };
    let FromRunner::Ended {
        outcome, last: true, ..
    } = r.hear()
    else {
        panic!("no end")
    };
    assert_eq!(cause(&Outcome::decode(&outcome[..]).unwrap()), Cause::SessionLost);
    r.child.wait().unwrap();
    // The monitor would do this.
    // SAFETY: as above.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Output is fetched by the front end of the same installation, as the user, and what it says is passed on.
#[test]
fn the_front_end_brings_output_home() {
    use std::os::unix::fs::PermissionsExt as _;
    let room = Room::new("deliver");
    for dir in ["bin", "lib/queue"] {
        fs::create_dir_all(room.0.join(dir)).unwrap();
    }
    let session = room.0.join("lib/queue/queue-session");
    fs::copy(env!("CARGO_BIN_EXE_queue-session"), &session).unwrap();
    let queue = room.0.join("bin/queue");
    let script = "#!/bin/sh\n{ echo \"$@\"; pwd; umask; env | grep ^QUEUE_ | sort; } >said\necho working >&2\necho no luck today >&2\nexit $(cat code)\n";
    fs::write(&queue, script).unwrap();
    fs::set_permissions(&queue, fs::Permissions::from_mode(0o755)).unwrap();
    let nonce = room.cwd().join(".nonce");
    let deliver = |code: &str, from: &str| {
        fs::write(&nonce, ".nonce").unwrap();
        fs::write(room.cwd().join("code"), code).unwrap();
        let r = Runner::of(&room, start_as(&session, None));
        let mut run = room.run(&["true"]);
        run.umask = 0o77;
        run.nonce_file = ".nonce".into();
        let run = run.encode_to_vec();
        r.tell(ToRunner::Deliver {
            job: 12,
            run,
            from: from.into(),
        });
        let FromRunner::Delivered { failed, hopeless } = r.hear() else {
            panic!("not delivered")
        };
        assert!(!nonce.exists());
        (failed, hopeless)
    };
    assert_eq!(deliver("1", ""), (String::new(), false), "nothing to be fetched");
    assert!(!room.cwd().join("said").exists());
    assert_eq!(deliver("0", "h3"), (String::new(), false));
    let said = format!(
        "admin fetch 12 h3\n{}\n0077\nQUEUE_FETCH_ERROR=\nQUEUE_FETCH_OUTPUT=\nQUEUE_SOCKET={}\n",
        room.cwd().display(),
        room.0.join("queued.sock").display()
    );
    assert_eq!(read(&room.cwd().join("said")), said);
    assert_eq!(deliver("75", "h3"), ("no luck today".into(), false));
    assert_eq!(deliver("1", "h3"), ("no luck today".into(), true));
}

/// Root's session becomes the user, and makes his spool before.
#[test]
fn a_job_runs_as_its_user() {
    use std::os::unix::fs::MetadataExt as _;
    let nobody = nix::unistd::User::from_name("nobody").ok().flatten();
    let Some(user) = nobody.filter(|_| nix::unistd::geteuid().is_root()) else {
        return;
    };
    let room = Room::new("user");
    let spool = room.0.join("state/spool/nobody");
    let (channel, child) = start();
    let m = hire("nobody", &spool, &room.0.join("exec.sock"));
    client::send(channel.as_fd(), &m.encode(), None).unwrap();
    assert_eq!(packet(&channel), FromSession::Running);
    let mut r = Runner {
        channel: Some(channel),
        child,
        next: 1,
    };
    let mut run = room.sh("id -u; id -G; touch mine");
    run.submit_host = "h1".into();
    let o = r.outcome(&run, &Params::default());
    let text = String::from_utf8_lossy(&o.head).into_owned();
    assert!(text.starts_with(&format!("{}\n{}", user.uid, user.gid)), "{text}");
    assert!(!room.cwd().join("mine").exists(), "the directory is root's");
    for (path, mode) in [(spool.clone(), 0o700), (spool.join("1/queue-1.out"), 0o644)] {
        let meta = fs::metadata(&path).unwrap();
        assert_eq!(
            (meta.uid(), meta.mode() & 0o7777),
            (user.uid.as_raw(), mode),
            "{}",
            path.display()
        );
    }
    r.still_works(&room);
}
