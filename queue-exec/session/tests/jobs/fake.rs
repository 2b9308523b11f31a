//! The test in the place of the monitor.

use libqueue::wire::job::{Cause, Outcome, Params, Run, Running};
use nix::poll::PollFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use prost::Message as _;
use queue_exec::client;
use queue_exec::protocol::{FromRunner, FromSession, JobKey, PACKET_MAX, ToRunner, ToSession};
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn own_name() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid())
        .unwrap()
        .unwrap()
        .name
}

pub(crate) fn boot_ms() -> u64 {
    let t = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap();
    t.tv_sec() as u64 * 1000 + t.tv_nsec() as u64 / 1_000_000
}

pub(crate) fn key(job: u64) -> JobKey {
    JobKey {
        job,
        task: 0,
        attempt: 1,
    }
}

/// A directory of its own for each test.
pub(crate) struct Room(pub(crate) PathBuf);

impl Room {
    pub(crate) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("queue-jobs-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("cwd")).unwrap();
        Self(dir)
    }

    pub(crate) fn cwd(&self) -> PathBuf {
        self.0.join("cwd")
    }

    pub(crate) fn run(&self, argv: &[&str]) -> Run {
        Run {
            argv: argv.iter().map(|a| a.as_bytes().to_vec()).collect(),
            env: vec![b"PATH=/usr/bin:/bin".to_vec()],
            cwd: self.cwd().to_str().unwrap().into(),
            umask: 0o22,
            submit_host: "h2".into(),
            ..Run::default()
        }
    }

    pub(crate) fn sh(&self, script: &str) -> Run {
        self.run(&["sh", "-c", script])
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A hired session.
pub(crate) struct Runner {
    pub(crate) channel: Option<OwnedFd>,
    pub(crate) child: Child,
    pub(crate) next: u64,
}

pub(crate) fn start() -> (OwnedFd, Child) {
    start_as(Path::new(env!("CARGO_BIN_EXE_queue-session")), None)
}

/// Starts that program, in the cgroup that has this list of processes.
pub(crate) fn start_as(program: &Path, procs: Option<PathBuf>) -> (OwnedFd, Child) {
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

pub(crate) fn packet(channel: &OwnedFd) -> FromSession {
    let mut buf = vec![0; PACKET_MAX];
    libqueue::link::wait(channel.as_fd(), PollFlags::POLLIN, Instant::now() + LIMIT).unwrap();
    let (n, _) = client::receive(channel.as_fd(), &mut buf).unwrap();
    FromSession::decode(&buf[..n]).unwrap()
}

pub(crate) fn hire(login: &str, spool: &Path, socket: &Path) -> ToSession {
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
    pub(crate) fn new(room: &Room) -> Self {
        Self::of(room, start())
    }

    pub(crate) fn of(room: &Room, (channel, child): (OwnedFd, Child)) -> Self {
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

    pub(crate) fn tell(&self, m: ToRunner) {
        let channel = self.channel.as_ref().unwrap();
        client::send(channel.as_fd(), &ToSession::Job(m).encode(), None).unwrap();
    }

    pub(crate) fn hear(&self) -> FromRunner {
        match packet(self.channel.as_ref().unwrap()) {
            FromSession::Job(m) => m,
            m => panic!("{m:?}"),
        }
    }

    pub(crate) fn give(&mut self, run: &Run, params: &Params, lease: u64) -> JobKey {
        let key = key(self.next);
        self.next += 1;
        self.give_as(key, run, params, lease);
        key
    }

    pub(crate) fn give_as(&mut self, key: JobKey, run: &Run, params: &Params, lease: u64) {
        let (run, params) = (run.encode_to_vec(), params.encode_to_vec());
        self.tell(ToRunner::Job {
            key,
            run,
            params,
            lease,
        });
    }

    pub(crate) fn started(&self, key: JobKey) -> Running {
        match self.hear() {
            FromRunner::Started { key: k, running } if k == key => Running::decode(&running[..]).unwrap(),
            m => panic!("{m:?}"),
        }
    }

    /// The outcome; whether the session started is of no interest.
    pub(crate) fn ended(&self, key: JobKey) -> Outcome {
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

    pub(crate) fn outcome(&mut self, run: &Run, params: &Params) -> Outcome {
        let key = self.give(run, params, 0);
        self.ended(key)
    }

    /// It must be as good as new.
    pub(crate) fn still_works(mut self, room: &Room) {
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

pub(crate) fn cause(o: &Outcome) -> Cause {
    Cause::try_from(o.cause).unwrap()
}

pub(crate) fn gone(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |s| {
        s.rsplit_once(") ").is_some_and(|(_, r)| r.starts_with('Z'))
    })
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < until, "{what}");
        std::thread::yield_now();
    }
}
