//! One host under test: directories, an authority, the running monitor; and what a second host would send.

use ed25519_dalek::SigningKey;
use queue_exec::authority::{self, Applicant};
use queue_exec::cert::{HostCert, PublicKey};
use queue_exec::client;
use queue_exec::codec::hex;
use queue_exec::layout::Layout;
use queue_exec::protocol::{Refusal, Reply, Request};
use queue_exec::state::{Room, random, unix_now};
use queue_exec::ticket::{Nonce, Ticket};
use queue_exec::warrant::Warrant;
use sha2::{Digest as _, Sha256};
use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Nothing here takes longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// The monitor, and everything it needs.
pub(crate) struct Host {
    pub(crate) dir: PathBuf,
    pub(crate) layout: Layout,
    pub(crate) authority: PublicKey,
    /// Certificate of the host itself, "h1".
    pub(crate) cert: Vec<u8>,
    uid: u32,
    lookup: Option<PathBuf>,
    monitor: Option<Child>,
}

/// Another member, as far as it can be seen from the first.
pub(crate) struct Member {
    pub(crate) key: SigningKey,
    pub(crate) cert: Vec<u8>,
    pub(crate) name: String,
}

/// A session under way: our end of its connection.
pub(crate) struct Talk {
    pub(crate) nonce: Nonce,
    pub(crate) pid: i32,
    pub(crate) hello: String,
    stream: BufReader<UnixStream>,
}

pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < until, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs `f` in a thread with the credentials of `uid`.
pub(crate) fn as_user<T: Send>(uid: u32, f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|s| {
        s.spawn(|| {
            if uid != nix::unistd::geteuid().as_raw() {
                // SAFETY: raw system calls change this thread only; that is what is wanted.
                unsafe {
                    assert_eq!(libc::syscall(libc::SYS_setresgid, uid, uid, uid), 0);
                    assert_eq!(libc::syscall(libc::SYS_setresuid, uid, uid, uid), 0);
                }
            }
            f()
        })
        .join()
        .unwrap()
    })
}

/// Whether a process runs (one that only waits to be waited for does not).
pub(crate) fn alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| {
        s.rsplit_once(')')
            .is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
    })
}

impl Host {
    /// A root install; or, with another uid, the single-user install of that user.
    pub(crate) fn new(uid: u32) -> Self {
        let dir = std::env::temp_dir().join(format!("queue-monitor-{}", hex(&random::<6>())));
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
        let lib = dir.join("lib");
        fs::create_dir(&lib).unwrap();
        place(env!("CARGO_BIN_EXE_queue-exec").as_ref(), &lib.join("queue-exec"));
        place(&std::env::current_exe().unwrap(), &lib.join("queue-session"));
        let layout = Layout {
            root: uid == 0,
            config: dir.join("etc"),
            state: dir.join("state"),
            run: dir.join("run"),
        };
        for d in [&layout.config, &layout.state, &layout.run] {
            fs::create_dir(d).unwrap();
            chown(d, Some(uid), Some(uid)).unwrap();
        }
        let made = as_user(uid, || {
            authority::init(&layout, "h1", &[1; 32], &[], None).unwrap()
        });
        Self {
            dir,
            layout,
            authority: made.authority,
            cert: made.cert,
            uid,
            lookup: None,
            monitor: None,
        }
    }

    /// A program for looking uids up: a shell script.
    pub(crate) fn with_lookup(mut self, script: &str) -> Self {
        let p = self.dir.join("lookup");
        fs::write(&p, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&p, Permissions::from_mode(0o755)).unwrap();
        self.lookup = Some(p);
        self
    }

    /// Starts the monitor, and waits until it says that it is ready.
    pub(crate) fn up(&mut self) {
        let (ours, theirs) = std::io::pipe().unwrap();
        let fd = theirs.as_raw_fd();
        let mut c = Command::new(self.dir.join("lib/queue-exec"));
        c.arg("--state")
            .arg(&self.layout.state)
            .arg("--run")
            .arg(&self.layout.run);
        c.arg("--config")
            .arg(&self.layout.config)
            .args(["--ready-fd", &fd.to_string()]);
        c.args(
            self.lookup
                .iter()
                .flat_map(|l| ["--lookup".as_ref(), l.as_os_str()]),
        );
        if self.uid != nix::unistd::geteuid().as_raw() {
            c.uid(self.uid).gid(self.uid);
        }
        // SAFETY: fcntl is async-signal-safe.
        unsafe {
            c.pre_exec(move || {
                nix::errno::Errno::result(libc::fcntl(fd, libc::F_SETFD, 0))
                    .map(drop)
                    .map_err(Into::into)
            });
        }
        let child = c.spawn().unwrap();
        drop(theirs);
        self.monitor = Some(child);
        let mut line = String::new();
        BufReader::new(ours).read_line(&mut line).unwrap();
        assert_eq!(line, "READY\n", "the monitor did not start");
    }

    pub(crate) fn pid(&self) -> i32 {
        self.monitor.as_ref().unwrap().id() as i32
    }

    /// Ends the monitor by a signal, and waits for it.
    pub(crate) fn down(&mut self, signal: i32) {
        let mut c = self.monitor.take().unwrap();
        // SAFETY: our own child, not waited for yet.
        unsafe { libc::kill(c.id() as i32, signal) };
        c.wait().unwrap();
    }

    /// A connection with the credentials of this thread.
    pub(crate) fn dial(&self) -> OwnedFd {
        client::dial(&self.layout).unwrap()
    }

    /// Asks on a connection of its own.
    pub(crate) fn ask(&self, r: &Request) -> Reply {
        client::ask(self.dial().as_fd(), r, None).unwrap()
    }

    /// Asks as somebody else.
    pub(crate) fn ask_as(&self, uid: u32, r: &Request) -> Reply {
        as_user(uid, || self.ask(r))
    }

    /// Admits a second host.
    pub(crate) fn member(&self, name: &str) -> Member {
        let key = SigningKey::from_bytes(&random());
        let t = as_user(self.uid, || {
            authority::create_token(&self.layout, Duration::from_secs(60), 1, &[], None).unwrap()
        });
        let who = Applicant {
            token: &t.id,
            secret: &t.secret,
            name,
            host_key: &key.verifying_key().to_bytes(),
            tls_key: &random(),
        };
        let admit = || {
            let room = Room::open(&self.layout.exec_state()).unwrap();
            authority::admit(&room, &who, false, LIMIT).unwrap().unwrap()
        };
        let cert = as_user(self.uid, admit);
        Member {
            key,
            cert,
            name: name.to_owned(),
        }
    }

    /// Starts a session by a ticket; what the monitor says.
    pub(crate) fn start(&self, ticket: &[u8], source_cert: &[u8]) -> (Reply, UnixStream) {
        self.start_noted(ticket, source_cert, &[])
    }

    /// The same with a note of the daemon's.
    pub(crate) fn start_noted(&self, ticket: &[u8], source_cert: &[u8], note: &[u8]) -> (Reply, UnixStream) {
        self.connect(&Request::Start {
            note: note.to_vec(),
            ticket: ticket.to_vec(),
            source_cert: source_cert.to_vec(),
        })
    }

    /// Brings a connection; what the monitor says, and our end.
    pub(crate) fn connect(&self, r: &Request) -> (Reply, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(LIMIT)).unwrap();
        let reply = as_user(self.uid, || {
            client::ask(self.dial().as_fd(), r, Some(theirs.as_fd())).unwrap()
        });
        (reply, ours)
    }

    /// A session of `user`, as vouched for by `from`. Its note is its nonce.
    pub(crate) fn session(&self, from: &Member, user: &str) -> Talk {
        let t = from.ticket(self, user);
        let (reply, stream) = self.start_noted(&t.sign(&from.key), &from.cert, &t.nonce);
        assert_eq!(
            reply,
            Reply::Started {
                nonce: t.nonce,
                login: user.into()
            }
        );
        let mut talk = Talk {
            nonce: t.nonce,
            pid: 0,
            hello: String::new(),
            stream: BufReader::new(stream),
        };
        talk.hello = talk.read();
        talk.pid = talk.hello.rsplit(' ').next().unwrap().parse().unwrap();
        talk
    }

    /// Brings what a user asks of the host itself.
    pub(crate) fn control(&self, ticket: &[u8], source_cert: &[u8], body: &[u8]) -> Reply {
        let r = Request::Control {
            ticket: ticket.to_vec(),
            source_cert: source_cert.to_vec(),
            body: body.to_vec(),
        };
        as_user(self.uid, || self.ask(&r))
    }

    /// Process ids of the sessions that run jobs, by their records.
    fn runners(&self) -> Vec<i32> {
        let dir = self.layout.sessions();
        let texts = self
            .records()
            .into_iter()
            .filter_map(|r| fs::read_to_string(dir.join(r)).ok());
        texts
            .filter(|t| t.contains("\nrunner yes\n"))
            .filter_map(|t| t.split_once("\nprocess ")?.1.split(' ').next()?.parse().ok())
            .collect()
    }

    /// The records of live sessions.
    pub(crate) fn records(&self) -> Vec<String> {
        let names = fs::read_dir(self.layout.sessions())
            .unwrap()
            .map(|e| e.unwrap().file_name());
        names
            .map(|n| n.into_string().unwrap())
            .filter(|n| n.len() == 32)
            .collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The sessions lost their connections before; let the monitor end what belongs to them. Those with jobs
        // would go on.
        for pid in self.runners() {
            // SAFETY: a process of this test, of which there is a record still.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        let until = Instant::now() + LIMIT;
        while self.monitor.is_some() && !self.records().is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        if self.monitor.is_some() {
            self.down(libc::SIGTERM);
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Member {
    /// A ticket from this host to `to`, not signed yet.
    pub(crate) fn ticket(&self, to: &Host, user: &str) -> Ticket {
        let here = HostCert::verify(&to.cert, &to.authority).unwrap();
        Ticket {
            cluster: here.cluster,
            source: self.name.clone(),
            user: user.into(),
            login: user.into(),
            target: here.name,
            nonce: random(),
            issued: unix_now(),
            request: [4; 32],
            client_key: [5; 32],
        }
    }
}

impl Member {
    /// The word of a user there that he wants this run, not signed yet.
    pub(crate) fn warrant(&self, to: &Host, user: &str, run: &[u8]) -> Warrant {
        let here = HostCert::verify(&to.cert, &to.authority).unwrap();
        Warrant {
            cluster: here.cluster,
            source: self.name.clone(),
            user: user.into(),
            login: user.into(),
            issued: unix_now(),
            run: Sha256::digest(run).into(),
        }
    }
}

impl Talk {
    pub(crate) fn say(&mut self, line: &str) {
        self.stream
            .get_mut()
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
    }

    pub(crate) fn read(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.read()
    }

    /// Has it start a tree of processes.
    pub(crate) fn spawn(&mut self) -> Vec<i32> {
        let pids: Vec<i32> = self.ask("spawn").split(' ').map(|p| p.parse().unwrap()).collect();
        assert_eq!(pids.len(), 3);
        assert!(pids.iter().all(|p| alive(*p)));
        pids
    }

    /// Waits for the session process to close the connection.
    pub(crate) fn gone(&mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).unwrap();
    }
}

/// The code of a refusal whose text contains `text`.
pub(crate) fn refused(reply: &Reply, text: &str) -> Refusal {
    match reply {
        Reply::Refused { code, text: t } if t.contains(text) => *code,
        other => panic!("not refused with '{text}': {other:?}"),
    }
}

fn place(from: &std::path::Path, to: &std::path::Path) {
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to).unwrap();
    }
}
