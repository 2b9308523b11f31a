//! Jobs in the real session process and its init, with the test in the place of the monitor.

use libqueue::wire::job::{Cause, Entries, Outcome, Params, Run, Running};
use nix::poll::PollFlags;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, listen, socket, socketpair,
};
use prost::Message as _;
use queue_exec::client;
use queue_exec::entries::Tree;
use queue_exec::protocol::{
    FromRunner, FromSession, JobKey, PACKET_MAX, Reply, Request, ToRunner, ToSession,
};
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);

fn own_name() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid())
        .unwrap()
        .unwrap()
        .name
}

fn boot_ms() -> u64 {
    let t = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap();
    t.tv_sec() as u64 * 1000 + t.tv_nsec() as u64 / 1_000_000
}

fn key(job: u64) -> JobKey {
    JobKey {
        job,
        task: 0,
        attempt: 1,
    }
}

/// A directory of its own for each test.
struct Room(PathBuf);

impl Room {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("queue-jobs-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("cwd")).unwrap();
        Self(dir)
    }

    fn cwd(&self) -> PathBuf {
        self.0.join("cwd")
    }

    fn run(&self, argv: &[&str]) -> Run {
        Run {
            argv: argv.iter().map(|a| a.as_bytes().to_vec()).collect(),
            env: vec![b"PATH=/usr/bin:/bin".to_vec()],
            cwd: self.cwd().to_str().unwrap().into(),
            umask: 0o22,
            submit_host: "h2".into(),
            ..Run::default()
        }
    }

    fn sh(&self, script: &str) -> Run {
        self.run(&["sh", "-c", script])
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A hired session.
struct Runner {
    channel: Option<OwnedFd>,
    child: Child,
    next: u64,
}

fn start() -> (OwnedFd, Child) {
    start_as(Path::new(env!("CARGO_BIN_EXE_queue-session")), None)
}

/// Starts that program, in the cgroup that has this list of processes.
fn start_as(program: &Path, procs: Option<PathBuf>) -> (OwnedFd, Child) {
    let kind = (AddressFamily::Unix, SockType::SeqPacket);
    let (ours, theirs) = socketpair(kind.0, kind.1, None, SockFlag::SOCK_CLOEXEC).unwrap();
    let fd = theirs.as_raw_fd();
    let mut command = Command::new(program);
    command.env_clear();
    // SAFETY: there is nobody else in the child who could hold a lock.
    unsafe {
        command.pre_exec(move || {
            if let Some(p) = &procs {
                fs::write(p, "0")?;
            }
            nix::errno::Errno::result(libc::dup2(fd, 3))?;
            Ok(())
        });
    }
    let child = command.spawn().unwrap();
    drop(theirs);
    assert!(matches!(packet(&ours), FromSession::Ready { .. }));
    (ours, child)
}

fn packet(channel: &OwnedFd) -> FromSession {
    let mut buf = vec![0; PACKET_MAX];
    libqueue::link::wait(channel.as_fd(), PollFlags::POLLIN, Instant::now() + LIMIT).unwrap();
    let (n, _) = client::receive(channel.as_fd(), &mut buf).unwrap();
    FromSession::decode(&buf[..n]).unwrap()
}

fn hire(login: &str, spool: &Path, socket: &Path) -> ToSession {
    ToSession::Job(ToRunner::Hire {
        nonce: [7; 16],
        login: login.to_owned(),
        ruser: login.to_owned(),
        rhost: "h1".into(),
        host: "h2".into(),
        pam: false,
        cgroup: false,
        uid_min: 0,
        allow_root: true,
        socket: socket.to_str().unwrap().to_owned(),
        spool: spool.to_str().unwrap().to_owned(),
    })
}

impl Runner {
    fn new(room: &Room) -> Self {
        Self::of(room, start())
    }

    fn of(room: &Room, (channel, child): (OwnedFd, Child)) -> Self {
        let m = hire(
            &own_name(),
            &room.0.join("spool").join(own_name()),
            &room.0.join("exec.sock"),
        );
        client::send(channel.as_fd(), &m.encode(), None).unwrap();
        assert_eq!(packet(&channel), FromSession::Running);
        Self {
            channel: Some(channel),
            child,
            next: 1,
        }
    }

    fn tell(&self, m: ToRunner) {
        let channel = self.channel.as_ref().unwrap();
        client::send(channel.as_fd(), &ToSession::Job(m).encode(), None).unwrap();
    }

    fn hear(&self) -> FromRunner {
        match packet(self.channel.as_ref().unwrap()) {
            FromSession::Job(m) => m,
            m => panic!("{m:?}"),
        }
    }

    fn give(&mut self, run: &Run, params: &Params, lease: u64) -> JobKey {
        let key = key(self.next);
        self.next += 1;
        self.give_as(key, run, params, lease);
        key
    }

    fn give_as(&mut self, key: JobKey, run: &Run, params: &Params, lease: u64) {
        let (run, params) = (run.encode_to_vec(), params.encode_to_vec());
        self.tell(ToRunner::Job {
            key,
            run,
            params,
            lease,
        });
    }

    fn started(&self, key: JobKey) -> Running {
        match self.hear() {
            FromRunner::Started { key: k, running } if k == key => Running::decode(&running[..]).unwrap(),
            m => panic!("{m:?}"),
        }
    }

    /// The outcome; whether the session started is of no interest.
    fn ended(&self, key: JobKey) -> Outcome {
        loop {
            match self.hear() {
                FromRunner::Ended {
                    key: k,
                    outcome,
                    last: false,
                } if k == key => return Outcome::decode(&outcome[..]).unwrap(),
                FromRunner::Started { .. } | FromRunner::Stopped { .. } => {}
                m => panic!("{m:?}"),
            }
        }
    }

    fn outcome(&mut self, run: &Run, params: &Params) -> Outcome {
        let key = self.give(run, params, 0);
        self.ended(key)
    }

    /// It must be as good as new.
    fn still_works(mut self, room: &Room) {
        let mut run = room.sh("echo fine");
        run.output = b"still".to_vec();
        let o = self.outcome(&run, &Params::default());
        assert_eq!((o.code, &o.head[..]), (Some(0), &b"fine\n"[..]), "{o:?}");
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // Without a monitor it would wait for one; its init sees to its tree.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cause(o: &Outcome) -> Cause {
    Cause::try_from(o.cause).unwrap()
}

fn gone(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |s| {
        s.rsplit_once(") ").is_some_and(|(_, r)| r.starts_with('Z'))
    })
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < until, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn jobs_follow_each_other_and_each_has_what_it_needs() {
    let room = Room::new("order");
    let mut r = Runner::new(&room);
    let mut run =
        room.sh("pwd; umask; cat; echo $QUEUE_JOB_ID $QUEUE_ATTEMPT $QUEUE_HOST; echo err >&2; exit 10");
    let o = r.outcome(&run, &Params::default());
    assert_eq!(
        (cause(&o), o.code, o.signal, o.text.as_str()),
        (Cause::Exited, Some(10), None, "")
    );
    let text = format!("{}\n0022\n1 1 h2\nerr\n", room.cwd().display());
    assert_eq!(String::from_utf8_lossy(&o.head), text);
    let path = room.cwd().join("queue-1.out");
    assert_eq!(
        (o.output.as_slice(), o.spooled),
        (path.to_str().unwrap().as_bytes(), false)
    );
    assert_eq!(read(&path), text);
    assert!(
        o.started_ms > 1_600_000_000_000 && o.cpu_us > 0 && o.maxrss_kib > 0,
        "{o:?}"
    );
    // Nothing written, no file.
    let o = r.outcome(&room.run(&["true"]), &Params::default());
    assert_eq!((o.code, o.written, o.output.len()), (Some(0), 0, 0));
    assert!(!room.cwd().join("queue-2.out").exists());
    // Two files; a second attempt adds to them.
    run = room.sh("echo o; echo e >&2");
    run.output = b"%x-%j.out".to_vec();
    run.error = b"%x.%u.err".to_vec();
    run.name = "n".into();
    let key = key(3);
    r.give_as(key, &run, &Params::default(), 0);
    let o = r.ended(key);
    let error = room.cwd().join(format!("n.{}.err", own_name()));
    assert_eq!(o.error, error.to_str().unwrap().as_bytes());
    r.give_as(JobKey { attempt: 2, ..key }, &run, &Params::default(), 0);
    r.ended(JobKey { attempt: 2, ..key });
    let text = read(&room.cwd().join("n-3.out"));
    assert!(
        text.starts_with("o\n--- attempt 2 on h2, 20") && text.ends_with(" ---\no\n"),
        "{text}"
    );
    assert!(read(&error).contains("attempt 2"));
    r.next = 4;
    let o = r.outcome(&room.sh("kill -SEGV $$"), &Params::default());
    assert_eq!((cause(&o), o.code, o.signal), (Cause::Signal, None, Some(11)));
    run.discard = true;
    let o = r.outcome(&run, &Params::default());
    assert_eq!((o.code, o.written, o.head.len()), (Some(0), 0, 0));
    r.still_works(&room);
}

#[test]
fn what_cannot_be_started_says_why() {
    let room = Room::new("start");
    let mut r = Runner::new(&room);
    let mut o = |run: &Run| {
        let o = r.outcome(run, &Params::default());
        assert_eq!(o.started_ms, 0);
        (cause(&o), o.code, o.text)
    };
    let found = o(&room.run(&["no-such-program"]));
    assert_eq!(
        found,
        (
            Cause::NotFound,
            Some(127),
            "no-such-program: command not found".into()
        )
    );
    assert_eq!(o(&room.run(&["/etc/passwd"])).0, Cause::NotExecutable);
    let mut run = room.run(&["true"]);
    run.cwd = b"/no/such/place".to_vec();
    let (why, code, text) = o(&run);
    assert!(
        why == Cause::Directory && code.is_none() && text.contains("/no/such/place"),
        "{text}"
    );
    assert_eq!(o(&Run::default()).0, Cause::Rejected);
    let key = r.give(&room.run(&["true"]), &Params::default(), boot_ms() - 1);
    assert_eq!(cause(&r.ended(key)), Cause::Lease);
    r.still_works(&room);
}

#[test]
fn scripts_run_by_their_interpreter() {
    let room = Room::new("script");
    let mut r = Runner::new(&room);
    let mut run = room.run(&["/home/alice/my job.sh", "a b", "c"]);
    run.script = b"#!/bin/sh -e\necho \"$# $2 ${0##*/}\"\nfalse\necho never\n".to_vec();
    let o = r.outcome(&run, &Params::default());
    assert_eq!(
        (o.code, String::from_utf8_lossy(&o.head).as_ref()),
        (Some(1), "2 c my job.sh\n")
    );
    run.script = b"echo plain $1".to_vec();
    assert_eq!(r.outcome(&run, &Params::default()).head, b"plain a b\n");
    run.script = b"#!/no/such/thing\n".to_vec();
    let o = r.outcome(&run, &Params::default());
    assert_eq!((cause(&o), o.code), (Cause::NotFound, Some(127)));
    if Path::new("/usr/bin/python3").exists() {
        run.script = b"#!/usr/bin/env python3\nimport sys\nprint(sys.argv[1:])\n".to_vec();
        assert_eq!(r.outcome(&run, &Params::default()).head, b"['a b', 'c']\n");
    }
    // In a memory file, because it is large.
    run.script = [b"exit 7\n".to_vec(), vec![b'#'; 300_000]].concat();
    let bytes = run.encode_to_vec();
    let file = nix::sys::memfd::memfd_create(c"run", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
    let mut file = fs::File::from(file);
    std::io::Write::write_all(&mut file, &bytes).unwrap();
    let key = key(r.next);
    r.next += 1;
    let m = ToSession::Job(ToRunner::Job {
        key,
        run: Vec::new(),
        params: Vec::new(),
        lease: 0,
    });
    client::send(
        r.channel.as_ref().unwrap().as_fd(),
        &m.encode(),
        Some(file.as_fd()),
    )
    .unwrap();
    assert_eq!(r.ended(key).code, Some(7));
    r.still_works(&room);
    // Killed, it left its room; the next one removes that.
    Runner::new(&room).still_works(&room);
    let left: Vec<_> = fs::read_dir(room.0.join("spool").join(own_name()))
        .unwrap()
        .flatten()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_task_gets_the_entry_that_was_submitted() {
    let room = Room::new("entry");
    let mut r = Runner::new(&room);
    let entries = ["one", "two"];
    let tree = Tree::new(&entries);
    let mut run = room.sh("echo $QUEUE_TASK_ID $QUEUE_ENTRY");
    run.array = true;
    run.entries = Some(Entries {
        count: 2,
        root: tree.root().to_vec(),
    });
    let mut params = Params {
        entry: Some(b"two".to_vec()),
        entry_index: 1,
        entry_proof: tree.proof(1),
        ..Params::default()
    };
    let key = JobKey { task: 9, ..key(1) };
    r.give_as(key, &run, &params, 0);
    let o = r.ended(key);
    assert_eq!(
        (&o.head[..], o.output.ends_with(b"/queue-1.9.out")),
        (&b"9 two\n"[..], true)
    );
    params.entry = Some(b"one".to_vec());
    r.next = 2;
    assert_eq!(cause(&r.outcome(&run, &params)), Cause::Rejected);
    r.still_works(&room);
}

#[test]
fn output_stays_in_the_spool_where_home_is_not() {
    let room = Room::new("spool");
    let mut r = Runner::new(&room);
    let mut run = room.sh("echo out");
    run.submit_host = "h1".into();
    run.nonce_file = ".queue-nonce".into();
    let o = r.outcome(&run, &Params::default());
    let spool = room.0.join("spool").join(own_name()).join("1");
    let path = spool.join("queue-1.out");
    assert_eq!(
        (o.spooled, o.output.as_slice()),
        (true, path.to_str().unwrap().as_bytes())
    );
    assert_eq!(read(&path), "out\n");
    let note = format!("queue-1.out\0{}\0", room.cwd().join("queue-1.out").display());
    assert_eq!(read(&spool.join(".home")), note);
    // The same directory, as its file shows.
    fs::write(room.cwd().join(".queue-nonce"), ".queue-nonce").unwrap();
    let o = r.outcome(&run, &Params::default());
    assert!(!o.spooled && room.cwd().join("queue-2.out").exists());
    let last = Params {
        last: true,
        ..Params::default()
    };
    assert!(!r.outcome(&run, &last).spooled);
    assert!(!room.cwd().join(".queue-nonce").exists());
    assert!(r.outcome(&run, &Params::default()).spooled);
    r.still_works(&room);
}

#[test]
fn time_is_limited_with_a_warning() {
    let room = Room::new("time");
    let mut r = Runner::new(&room);
    let params = Params {
        time_ms: 1000,
        warn_signal: 10,
        warn_ms: 500,
        ..Params::default()
    };
    let start = Instant::now();
    let run = room.sh("exec 2>/dev/null; trap 'echo warned' USR1; trap 'echo term; exit 4' TERM; while :; do sleep 0.05; done");
    let o = r.outcome(&run, &params);
    assert_eq!(
        (cause(&o), o.text.as_str(), o.code),
        (Cause::Time, "ran 1 s of 1 s", Some(4))
    );
    assert_eq!(o.head, b"warned\nterm\n");
    assert!(
        o.wall_ms >= 1000 && start.elapsed() < Duration::from_secs(4),
        "{o:?}"
    );
    // One that will not hear, and has fled: double fork, session of its own.
    let script =
        "trap '' TERM HUP; setsid sh -c 'trap \"\" TERM HUP; echo $$; exec sleep 1000' & wait; sleep 1000";
    let params = Params {
        time_ms: 300,
        ..Params::default()
    };
    let o = r.outcome(&room.sh(script), &params);
    assert_eq!((cause(&o), o.signal), (Cause::Time, Some(9)), "{o:?}");
    let pid = String::from_utf8_lossy(&o.head).trim().parse().unwrap();
    assert!(gone(pid));
    assert!((5000..8000).contains(&o.wall_ms), "TERM, 5 s, KILL: {o:?}");
    r.still_works(&room);
}

#[test]
fn somebody_ends_it_or_stops_it() {
    let room = Room::new("end");
    let mut r = Runner::new(&room);
    let end = |key, signal, text: &str| ToRunner::End {
        key,
        signal,
        cause: Cause::Killed as u8,
        text: text.into(),
    };
    let key = r.give(&room.run(&["sleep", "1000"]), &Params::default(), 0);
    let running = r.started(key);
    assert!(running.pid > 1 && running.output.ends_with(b"/queue-1.out") && !running.spooled);
    r.tell(end(JobKey { job: 99, ..key }, 0, "nobody"));
    for (signal, stopped) in [
        (libc::SIGSTOP, true),
        (libc::SIGCONT, false),
        (libc::SIGSTOP, true),
    ] {
        r.tell(end(key, signal as u8, ""));
        assert_eq!(r.hear(), FromRunner::Stopped { key, stopped });
    }
    r.tell(end(key, 0, "killed by alice@h1"));
    let o = r.ended(key);
    assert_eq!(
        (cause(&o), o.signal, o.text.as_str()),
        (Cause::Killed, Some(15), "killed by alice@h1")
    );
    // A signal is only a signal.
    let key = r.give(
        &room.sh("exec 2>/dev/null; trap 'echo usr1; exit 3' USR1; echo on; while :; do sleep 0.05; done"),
        &Params::default(),
        0,
    );
    r.started(key);
    let out = room.cwd().join("queue-2.out");
    wait_for("live output", || {
        fs::read_to_string(&out).is_ok_and(|t| t == "on\n")
    });
    r.tell(end(key, libc::SIGUSR1 as u8, ""));
    let o = r.ended(key);
    assert_eq!(
        (cause(&o), o.code, &o.head[..]),
        (Cause::Exited, Some(3), &b"on\nusr1\n"[..])
    );
    r.still_works(&room);
}

#[test]
fn nothing_outlives_its_lease() {
    let room = Room::new("lease");
    let mut r = Runner::new(&room);
    let key = r.give(
        &room.sh("trap '' TERM HUP; sleep 1000 & wait"),
        &Params::default(),
        boot_ms() + 600,
    );
    let running = r.started(key);
    r.tell(ToRunner::Lease {
        key,
        lease: boot_ms() + 1200,
    });
    let o = r.ended(key);
    assert_eq!((cause(&o), o.signal), (Cause::Lease, Some(9)), "{o:?}");
    assert!(
        (1000..3000).contains(&o.wall_ms) && gone(running.pid as i32),
        "{o:?}"
    );
    r.still_works(&room);
}

#[test]
fn memory_is_limited() {
    let room = Room::new("memory");
    if !Path::new("/usr/bin/python3").exists() {
        return;
    }
    let mut r = Runner::new(&room);
    let params = Params {
        mem: 100 << 20,
        ..Params::default()
    };
    let eat = "import time\nx = b'x' * (150 << 20)\ntime.sleep(1000)";
    let o = r.outcome(&room.run(&["sh", "-c", "python3 -c \"$0\" & wait", eat]), &params);
    assert_eq!((cause(&o), o.signal), (Cause::Memory, Some(9)), "{o:?}");
    assert!(
        o.text.ends_with(" M of 100 M") && o.maxrss_kib > 150 << 10,
        "{o:?}"
    );
    // Shared memory counts once.
    let share = "import os, time\nx = b'x' * (60 << 20)\nfor i in range(3):\n if os.fork() == 0: break\ntime.sleep(1.2)";
    let o = r.outcome(&room.run(&["python3", "-c", share]), &params);
    assert_eq!((cause(&o), o.code), (Cause::Exited, Some(0)), "{o:?}");
    r.still_works(&room);
}

#[test]
fn the_whole_tree_ends_with_its_first_process() {
    let room = Room::new("tree");
    let mut r = Runner::new(&room);
    // The pipe stays open in the background, and so does a process that fled.
    let o = r.outcome(
        &room.sh("sleep 1000 & echo $!; setsid sleep 1000 & echo $!; exit 4"),
        &Params::default(),
    );
    assert_eq!(o.code, Some(4));
    for pid in String::from_utf8_lossy(&o.head).lines() {
        assert!(gone(pid.parse().unwrap()), "{pid} lives on");
    }
    // What it says while it is ended is still kept.
    let o = r.outcome(
        &room.sh(
            "exec 2>/dev/null; (trap 'echo bye; exit' TERM; trap '' HUP; while :; do sleep 0.05; done) & sleep 0.2; exit 5",
        ),
        &Params::default(),
    );
    assert_eq!((o.code, &o.head[..]), (Some(5), &b"bye\n"[..]));
    // Descriptors closed, session changed.
    let o = r.outcome(
        &room.sh("exec >&- 2>&- <&-; sleep 0.1; exit 6"),
        &Params::default(),
    );
    assert_eq!((o.code, o.written), (Some(6), 0));
    let o = r.outcome(
        &room.run(&["setsid", "-w", "sh", "-c", "echo in; exit 7"]),
        &Params::default(),
    );
    assert_eq!((o.code, &o.head[..]), (Some(7), &b"in\n"[..]));
    r.still_works(&room);
}

#[test]
fn much_output_is_cut_and_keeps_nobody_waiting() {
    let room = Room::new("much");
    let mut r = Runner::new(&room);
    let mut run = room.sh("head -c 300000000 /dev/zero; echo end");
    run.output_cap = 1 << 20;
    let o = r.outcome(&run, &Params::default());
    assert_eq!((o.code, o.written, o.cut), (Some(0), 300_000_004, true));
    assert!(o.head.len() == 4096 && o.tail.len() == 4096 && o.tail.ends_with(b"\0end\n"));
    let text = fs::read(room.cwd().join("queue-1.out")).unwrap();
    let note = String::from_utf8_lossy(&text[1 << 20..]).into_owned();
    assert!(
        note.contains("--- 298951428 bytes more were written and dropped: at most 1 M are kept ---"),
        "{note}"
    );
    // It never stops writing, and is ended all the same.
    let params = Params {
        time_ms: 500,
        ..Params::default()
    };
    run = room.run(&["yes"]);
    run.output_cap = 1 << 20;
    let o = r.outcome(&run, &params);
    assert_eq!((cause(&o), o.signal), (Cause::Time, Some(15)));
    run = room.sh("printf 'start\\n10%%\\r20%%\\r30%%\\ndone\\n'");
    assert_eq!(
        r.outcome(&run, &Params::default()).head,
        b"start\n10%\n[...]\n30%\ndone\n"
    );
    r.still_works(&room);
}

/// A disk that is full costs the output, not the job.
#[test]
fn a_full_disk_is_told() {
    let room = Room::new("disk");
    let mut r = Runner::new(&room);
    let mut run = room.sh("sleep 0.1; echo lost");
    run.output = b"/dev/full".to_vec();
    let o = r.outcome(&run, &Params::default());
    assert_eq!(
        (o.code, o.text.as_str()),
        (Some(0), "output lost: disk full at /dev/full")
    );
    assert_eq!((&o.head[..], o.output.len(), o.cut), (&b"lost\n"[..], 0, true));
    run.output = b"no/such/directory".to_vec();
    let o = r.outcome(&run, &Params::default());
    assert!(
        o.text.starts_with("output lost: No such file or directory at "),
        "{}",
        o.text
    );
    r.still_works(&room);
}

#[test]
fn a_small_disk_is_filled_and_no_more() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let room = Room::new("small");
    let disk = room.0.join("disk");
    fs::create_dir(&disk).unwrap();
    let flags = nix::mount::MsFlags::empty();
    if nix::mount::mount(Some("none"), &disk, Some("tmpfs"), flags, Some("size=1m")).is_err() {
        return;
    }
    let mut r = Runner::new(&room);
    let mut run = room.sh("head -c 3000000 /dev/zero; exit 3");
    run.output = disk.join("out").to_str().unwrap().into();
    let o = r.outcome(&run, &Params::default());
    let size = fs::metadata(disk.join("out")).unwrap().len();
    nix::mount::umount(&disk).unwrap();
    assert_eq!(
        (o.code, o.written, o.cut, size),
        (Some(3), 3_000_000, true, 1 << 20)
    );
    assert_eq!(
        o.text,
        format!("output cut: disk full at {}", disk.join("out").display())
    );
    r.still_works(&room);
}

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

/// The kernel kills it for want of memory; needs root, and a memory controller that has a directory here.
#[test]
fn the_kernels_kill_is_told_from_others() {
    let own = read(Path::new("/proc/self/cgroup"));
    let Some(path) = own.lines().find_map(|l| l.split_once(":memory:")).map(|l| l.1) else {
        return;
    };
    let name = format!("queue-jobs-{}", std::process::id());
    let dir = Path::new("/sys/fs/cgroup/memory")
        .join(path.trim_start_matches('/'))
        .join(name);
    if fs::create_dir(&dir).is_err() || fs::write(dir.join("memory.limit_in_bytes"), "60M").is_err() {
        let _ = fs::remove_dir(&dir);
        return;
    }
    let room = Room::new("oom");
    let program = Path::new(env!("CARGO_BIN_EXE_queue-session"));
    let mut r = Runner::of(&room, start_as(program, Some(dir.join("cgroup.procs"))));
    let eat = room.run(&["python3", "-c", "x = b'x' * (300 << 20)"]);
    let params = Params {
        mem: 1 << 30,
        ..Params::default()
    };
    let o = r.outcome(&eat, &params);
    let killed = r.outcome(&room.sh("kill -9 $$"), &params);
    drop(r);
    wait_for("an empty cgroup", || fs::remove_dir(&dir).is_ok());
    assert_eq!((cause(&o), o.signal), (Cause::OutOfMemory, Some(9)), "{o:?}");
    assert!(
        o.text.starts_with("killed by the kernel, ") && o.text.ends_with(" M of 1 G"),
        "{o:?}"
    );
    assert_eq!(cause(&killed), Cause::Signal);
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
