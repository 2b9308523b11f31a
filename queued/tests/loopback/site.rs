//! A single-user installation under a directory in /tmp, on a port of 127.0.0.1. Everything it started ends
//! with it. As root the programs run as another user, since root's installation would be the machine's.

use libqueue::frame;
use libqueue::wire::{Empty, HostInfo, HostState, Place, Reply, Request, reply, request};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, chown};
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Whatever is waited for comes within this time, or never.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// `daemon` on every Unix: some account that is neither root nor nobody.
const OTHER: u32 = 1;

/// Waits for a condition.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < until, "waited {LIMIT:?} for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn as_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Where the programs are: beside `queued`, or, where another user could not get there, copied.
fn programs() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let built = Path::new(env!("CARGO_BIN_EXE_queued"))
            .parent()
            .expect("a directory")
            .to_owned();
        let names = ["queued", "queue-exec", "queue-session", "queue"];
        for n in names {
            assert!(
                built.join(n).exists(),
                "{} is not built: cargo build --workspace first",
                built.join(n).display()
            );
        }
        let reached = built
            .ancestors()
            .all(|d| fs::metadata(d).is_ok_and(|m| m.permissions().mode() & 0o001 != 0));
        if !as_root() || reached {
            return built;
        }
        let dir = PathBuf::from(format!("/tmp/queued-test-programs-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory for the programs");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("its mode");
        for n in names {
            fs::copy(built.join(n), dir.join(n)).expect("a copy of a program");
        }
        dir
    })
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a port")
        .port()
}

pub(crate) struct Site {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) port: u16,
    daemon: Option<Child>,
}

impl Site {
    pub(crate) fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = PathBuf::from(format!("/tmp/queued-test-{}-{n}-{name}", std::process::id()));
        let s = Self {
            name: name.into(),
            dir,
            port: free_port(),
            daemon: None,
        };
        fs::create_dir_all(s.dir.join("run")).expect("a directory");
        s.configure("");
        s.own(&s.dir);
        s.own(&s.dir.join("run"));
        s
    }

    /// A copy of everything that another one has, on a port of its own.
    pub(crate) fn copy_of(other: &Self) -> Self {
        let s = Self::new(&other.name);
        // Stores are being written; a copy has none.
        let script = "tar -C $0 --exclude='*.db*' -cf - state | tar -C $1 -xpf -";
        let mut all = Command::new("sh");
        all.args(["-c", script]).args([&other.dir, &s.dir]);
        assert!(all.status().is_ok_and(|s| s.success()));
        s
    }

    fn own(&self, path: &Path) {
        if as_root() {
            chown(path, Some(OTHER.into()), Some(OTHER.into())).expect("chown");
        }
    }

    /// Writes queued.toml: name, port and address, and these lines.
    pub(crate) fn configure(&self, more: &str) {
        let text = format!(
            "name = \"{}\"\nport = {}\nadvertise = \"127.0.0.1\"\n{more}\n",
            self.name, self.port
        );
        fs::write(self.dir.join("queued.toml"), text).expect("queued.toml");
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut c = Command::new(programs().join(program));
        c.args(args).stdin(Stdio::null()).current_dir("/");
        c.env("QUEUE_CONFIG", self.dir.join("queued.toml"))
            .env("HOME", &self.dir);
        c.env("QUEUE_SOCKET", self.dir.join("run/queued.sock"))
            .env_remove("NOTIFY_SOCKET");
        if as_root() {
            c.uid(OTHER).gid(OTHER);
        }
        c
    }

    pub(crate) fn queued(&self, args: &[&str]) -> Output {
        self.command("queued", args).output().expect("queued")
    }

    /// Runs `queued` and gives what it printed.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let out = self.queued(args);
        assert!(
            out.status.success(),
            "queued {args:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    /// Runs `queued`, which has to fail with status 1, and gives what it said.
    #[track_caller]
    pub(crate) fn fails(&self, args: &[&str]) -> String {
        let out = self.queued(args);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "queued {args:?}: {said}");
        assert!(said.lines().any(|l| l.starts_with("queued: ")), "{said}");
        said
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Starts the daemon and waits until it says READY.
    #[track_caller]
    pub(crate) fn start(&mut self) {
        let log = fs::File::create(self.dir.join("log")).expect("a log");
        let child = self
            .command("queued", &["run"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("queued");
        self.daemon = Some(child);
        let mut over = false;
        wait_for("READY", || {
            over = self
                .daemon
                .as_mut()
                .is_some_and(|c| matches!(c.try_wait(), Ok(Some(_))));
            over || self.log().contains("queued: READY: ")
        });
        assert!(!over, "queued ended: {}", self.log());
    }

    fn pid(&self) -> Option<Pid> {
        let id = self.daemon.as_ref()?.id();
        Some(Pid::from_raw(i32::try_from(id).ok()?))
    }

    pub(crate) fn signal(&self, s: Signal) {
        kill(self.pid().expect("a daemon"), s).expect("a signal");
    }

    /// Sends a signal that ends it, and waits for the end: whether it ended well.
    pub(crate) fn stop(&mut self, s: Signal) -> bool {
        self.signal(s);
        self.daemon
            .take()
            .is_some_and(|mut c| c.wait().is_ok_and(|s| s.success()))
    }

    /// Ends queue-exec, if it runs.
    pub(crate) fn stop_exec(&self) {
        for p in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = p.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else {
                continue;
            };
            let line = fs::read(p.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            let run = self.dir.join("run");
            if line.contains("queue-exec\0") && line.split('\0').any(|a| Path::new(a) == run) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                wait_for("the end of queue-exec", || !is_alive(pid));
            }
        }
    }

    pub(crate) fn ask(&self, kind: request::Kind) -> Option<reply::Kind> {
        let mut s = UnixStream::connect(self.dir.join("run/queued.sock")).ok()?;
        s.set_read_timeout(Some(LIMIT)).ok()?;
        s.write_all(&frame::encode(&Request { kind: Some(kind) })).ok()?;
        frame::read::<Reply>(&mut s).ok()?.kind
    }

    pub(crate) fn hosts(&self) -> Vec<HostInfo> {
        match self.ask(request::Kind::Hosts(Empty {})) {
            Some(reply::Kind::Hosts(h)) => h.hosts,
            _ => Vec::new(),
        }
    }

    pub(crate) fn host(&self, name: &str) -> Option<HostInfo> {
        self.hosts().into_iter().find(|h| h.name == name)
    }

    /// Whether exactly these hosts are known and up.
    pub(crate) fn all_up(&self, names: &[&str]) -> bool {
        let hosts = self.hosts();
        hosts.iter().map(|h| h.name.as_str()).eq(names.iter().copied())
            && hosts
                .iter()
                .all(|h| h.state() == HostState::Up && h.load.is_some_and(|l| l.cores > 0))
    }

    pub(crate) fn place(&self, host: &str) -> Result<String, String> {
        let place = Place {
            host: host.into(),
            ..Place::default()
        };
        match self.ask(request::Kind::Place(place)) {
            Some(reply::Kind::Placed(p)) => Ok(p.host),
            Some(reply::Kind::Error(e)) => Err(e.text),
            other => Err(format!("{other:?}")),
        }
    }

    /// A cluster of so many hosts, running.
    #[track_caller]
    pub(crate) fn cluster(names: &[&str]) -> Vec<Self> {
        Self::cluster_of(names, &[])
    }

    /// As [`Site::cluster`], with more said to `queued init`.
    #[track_caller]
    pub(crate) fn cluster_of(names: &[&str], more: &[&str]) -> Vec<Self> {
        let mut sites: Vec<Self> = names.iter().map(|n| Self::new(n)).collect();
        sites[0].ok(&[&["init", "--name", "test"][..], more].concat());
        sites[0].start();
        for i in 1..sites.len() {
            let token = sites[0].ok(&["token"]);
            sites[i].ok(&["join", &token]);
            sites[i].start();
        }
        for s in &sites {
            wait_for(&format!("all hosts up on {}", s.name), || s.all_up(names));
        }
        sites
    }
}

fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .and_then(|s| s.split_whitespace().next())
        .is_some_and(|state| state != "Z")
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "--- log of {}:\n{}", self.name, self.log());
        }
        if let Some(mut c) = self.daemon.take() {
            let _ = c.kill();
            let _ = c.wait();
        }
        self.stop_exec();
        let _ = fs::remove_dir_all(&self.dir);
    }
}
