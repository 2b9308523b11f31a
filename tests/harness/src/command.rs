//! Running programs in a host, with a limit on their time, and their results.

use std::ffi::{CString, OsString};
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::enter::{self, Ids, Plan, Space};
use crate::host::Host;
use crate::process::{child_of, pidfd};

/// How long a program may run unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A program to be run in a host. Its environment is that of a login (and `PATH` begins with the cluster's
/// `bin`), its directory the user's home, it has no terminal, a session of its own, and umask 022.
pub struct HostCommand<'a> {
    host: Host<'a>,
    argv: Vec<OsString>,
    user: String,
    env: Vec<(OsString, Option<OsString>)>,
    dirs: Vec<PathBuf>,
    input: Vec<u8>,
    timeout: Duration,
    session: bool,
}

impl<'a> HostCommand<'a> {
    pub(crate) fn new(host: Host<'a>, argv: Vec<OsString>) -> Self {
        Self {
            host,
            argv,
            user: "root".into(),
            env: Vec::new(),
            dirs: Vec::new(),
            input: Vec::new(),
            timeout: TIMEOUT,
            session: true,
        }
    }

    /// Runs it as this user of the host; default: root.
    pub fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.user);
        self
    }

    /// Adds a variable to the environment.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), Some(value.into())));
        self
    }

    /// Takes a variable out of the environment.
    pub fn env_remove(mut self, name: impl Into<OsString>) -> Self {
        self.env.push((name.into(), None));
        self
    }

    /// Runs it in this directory; asked several times: in the first that can be entered.
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dirs.push(dir.into());
        self
    }

    /// Gives it this input; default: `/dev/null`.
    pub fn stdin(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Ends it after this time; default: a minute.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Leaves it in the caller's session, at the caller's terminal.
    pub fn on_terminal(mut self) -> Self {
        self.session = false;
        self
    }

    /// Runs it to its end, and to the end of its outputs.
    pub fn run(mut self) -> Result<Output> {
        let (input, timeout) = (std::mem::take(&mut self.input), self.timeout);
        let mut running = if input.is_empty() {
            self.spawn()?
        } else {
            self.spawn_piped()?
        };
        if let Some(mut stdin) = running.stdin.take() {
            // It may end without reading all of it: no error of ours.
            std::thread::spawn(move || stdin.write_all(&input));
        }
        running.wait(timeout)
    }

    /// Runs it as [`HostCommand::run`] does, and makes an error of an exit status that is not 0.
    pub fn ok(self) -> Result<Output> {
        let what = self.describe();
        let out = self.run()?;
        ensure!(out.status == Status::Exit(0), "{what}: {out:?}");
        Ok(out)
    }

    /// Starts it; input from `/dev/null`, outputs collected.
    pub fn spawn(self) -> Result<Running> {
        self.spawn_with(Stdio::null(), Stdio::piped(), Stdio::piped())
    }

    /// Starts it with a pipe as input: [`Running::stdin`].
    pub fn spawn_piped(self) -> Result<Running> {
        self.spawn_with(Stdio::piped(), Stdio::piped(), Stdio::piped())
    }

    /// Starts it with these as its standard streams; outputs that are pipes are collected.
    pub fn spawn_with(self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Result<Running> {
        let what = self.describe();
        let mut command = self.prepare()?;
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        let mut child = command.spawn().with_context(|| format!("starting {what}"))?;
        Ok(Running {
            what,
            pid: child_of(child.id() as i32),
            stdin: child.stdin.take(),
            stdout: Collector::new(child.stdout.take()),
            stderr: Collector::new(child.stderr.take()),
            child,
            started: Instant::now(),
            ended: false,
        })
    }

    /// Starts it detached: it is not ended with the returned handle's drop, and its outputs are appended to a
    /// file of the machine. Returns its process number as the machine sees it.
    pub fn detach(self, log: &Path) -> Result<i32> {
        let file = OpenOptions::new().create(true).append(true).open(log)?;
        let mut running = self.spawn_with(Stdio::null(), file.try_clone()?.into(), file.into())?;
        running.ended = true;
        let pid = running
            .pid
            .with_context(|| format!("{} ended at once, see {}", running.what, log.display()))?;
        // Collects it when it ends, if this process is still there then.
        std::thread::spawn(move || running.child.wait());
        Ok(pid)
    }

    /// Becomes the program; returns only an error.
    pub fn exec(self) -> anyhow::Error {
        let what = self.describe();
        match self.prepare() {
            Ok(mut command) => anyhow::Error::from(command.exec()).context(format!("running {what}")),
            Err(e) => e,
        }
    }

    fn describe(&self) -> String {
        let words: Vec<_> = self.argv.iter().map(|a| a.to_string_lossy()).collect();
        let line: String = words.join(" ").chars().take(200).collect();
        format!("`{line}` as {} on {}", self.user, self.host.name())
    }

    fn prepare(&self) -> Result<Command> {
        let account = self.host.account(&self.user)?;
        let (program, args) = self.argv.split_first().context("no program given")?;
        let mut command = Command::new(program);
        let bin = self.host.cluster().prefix().join("bin");
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        command
            .args(args)
            .env_clear()
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("HOME", &account.home)
            .env("USER", &account.name)
            .env("LOGNAME", &account.name)
            .env("SHELL", &account.shell)
            .env("LANG", "C.UTF-8");
        for (name, value) in &self.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let mut plan = Plan::new(Space::Join(self.host.process()?.open()?));
        plan.cgroup = self
            .host
            .cgroup()
            .map(|dir| crate::cgroup::door(&dir))
            .transpose()?;
        for dir in &self.dirs {
            plan.dirs.push(CString::new(dir.as_os_str().as_bytes())?);
        }
        if self.dirs.is_empty() {
            plan.dirs.push(account.home_c()?);
        }
        plan.ids = Some(Ids {
            uid: account.uid,
            gid: account.gid,
            groups: account.groups,
        });
        plan.session = self.session;
        enter::prepare(&mut command, plan);
        Ok(command)
    }
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// With this code.
    Exit(i32),
    /// Of this signal.
    Signal(i32),
}

impl From<ExitStatus> for Status {
    fn from(s: ExitStatus) -> Self {
        s.code()
            .map_or_else(|| Self::Signal(s.signal().unwrap_or(0)), Self::Exit)
    }
}

/// What a program left behind.
#[derive(Clone)]
pub struct Output {
    /// How it ended.
    pub status: Status,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: Vec<u8>,
    /// From its start to the end of its outputs.
    pub elapsed: Duration,
}

impl Output {
    /// Standard output as text, without the white space around it.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    /// Standard error as text, without the white space around it.
    pub fn error(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let short = |b: &[u8]| -> String { String::from_utf8_lossy(b).chars().take(2000).collect() };
        write!(
            f,
            "{:?}, stdout {:?}, stderr {:?}",
            self.status,
            short(&self.stdout),
            short(&self.stderr)
        )
    }
}

/// A program that runs in a host; killed if dropped before its end.
pub struct Running {
    what: String,
    child: Child,
    pid: Option<i32>,
    stdin: Option<ChildStdin>,
    stdout: Collector,
    stderr: Collector,
    started: Instant,
    ended: bool,
}

impl Running {
    /// Its process number as the machine sees it.
    pub fn pid(&self) -> Result<i32> {
        self.pid.with_context(|| format!("{} ended at once", self.what))
    }

    /// Its input, if it was started with a pipe and the pipe is not closed yet.
    pub fn stdin(&mut self) -> Result<&mut ChildStdin> {
        self.stdin.as_mut().context("no pipe to standard input")
    }

    /// Closes its input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> Vec<u8> {
        self.stdout.so_far()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> Vec<u8> {
        self.stderr.so_far()
    }

    /// Whether nobody can write to its standard output any more.
    pub fn stdout_ended(&self) -> bool {
        self.stdout.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Sends it a signal (to the process alone).
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.pid()?), signal)?)
    }

    /// How it ended, if it has.
    pub fn status(&mut self) -> Result<Option<Status>> {
        Ok(self.child.try_wait()?.map(Status::from))
    }

    /// Waits for its end without waiting for the end of its outputs.
    pub fn wait_exit(&mut self, limit: Duration) -> Result<Status> {
        let fd = pidfd(self.child.id() as i32)?;
        let mut poll = libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.status()? {
                self.ended = true;
                return Ok(status);
            }
            let left = deadline.saturating_duration_since(Instant::now()).as_millis() as i32;
            if left == 0 {
                let (out, err) = (self.stdout(), self.stderr());
                let text =
                    |b: &[u8]| String::from_utf8_lossy(&b[b.len().saturating_sub(1000)..]).into_owned();
                bail!(
                    "{} did not end in {limit:?}; stdout {:?}, stderr {:?}",
                    self.what,
                    text(&out),
                    text(&err)
                );
            }
            // SAFETY: one pollfd, a local variable.
            unsafe { libc::poll(&mut poll, 1, left) };
        }
    }

    /// Waits for its end and for the end of its outputs; both within the limit, or it is killed.
    pub fn wait(mut self, limit: Duration) -> Result<Output> {
        self.stdin = None;
        let deadline = Instant::now() + limit;
        let status = self.wait_exit(limit)?;
        let rest = || deadline.saturating_duration_since(Instant::now());
        for (stream, name) in [(&mut self.stdout, "stdout"), (&mut self.stderr, "stderr")] {
            ensure!(
                stream.finish(rest()),
                "{} ended ({status:?}) but its {name} stays open",
                self.what
            );
        }
        let (stdout, stderr) = (self.stdout.so_far(), self.stderr.so_far());
        Ok(Output {
            status,
            stdout,
            stderr,
            elapsed: self.started.elapsed(),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // It leads a session, so its number is also that of its group.
        if let Some(pid) = self.pid {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            let _ = kill(Pid::from_raw(-pid), Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a stream to its end in a thread.
struct Collector {
    data: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    fn new(stream: Option<impl Read + Send + 'static>) -> Self {
        let data = Arc::new(Mutex::new(Vec::new()));
        let into = data.clone();
        let read = |mut stream: Box<dyn Read + Send>, into: Arc<Mutex<Vec<u8>>>| {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(n @ 1..) = stream.read(&mut buffer) {
                into.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend_from_slice(&buffer[..n]);
            }
        };
        let thread = stream.map(|s| std::thread::spawn(move || read(Box::new(s), into)));
        Self { data, thread }
    }

    fn so_far(&self) -> Vec<u8> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the end of the stream; false: not within the limit.
    fn finish(&mut self, limit: Duration) -> bool {
        let Some(thread) = &self.thread else { return true };
        if crate::wait::wait_until(limit, "the end of a stream", || thread.is_finished()).is_err() {
            return false;
        }
        self.thread.take().is_none_or(|t| t.join().is_ok())
    }
}
