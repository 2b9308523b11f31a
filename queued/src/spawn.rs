//! Finds queue-exec and starts it where no service manager does. It is started before root is given up, in a
//! process group of its own, and left running when `queued` ends: sessions depend on it, not on `queued`.

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use queue_exec::client;
use queue_exec::layout::Layout;
use queue_exec::protocol::{Reply, Request};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a started queue-exec may take until it answers.
const START: Duration = Duration::from_secs(10);
/// At least so long between two starts.
const AGAIN: Duration = Duration::from_secs(2);

/// One that we started.
#[derive(Debug)]
enum Started {
    /// As this program.
    Here(Child),
    /// As the program that this one took over from.
    Before(Pid),
}

impl Started {
    fn pid(&self) -> Option<Pid> {
        match self {
            Self::Here(c) => i32::try_from(c.id()).ok().map(Pid::from_raw),
            Self::Before(pid) => Some(*pid),
        }
    }

    /// How it ended, if it has.
    fn ended(&mut self) -> Option<String> {
        match self {
            Self::Here(c) => match c.try_wait() {
                Ok(s) => s.map(|s| s.to_string()),
                Err(e) => Some(e.to_string()),
            },
            Self::Before(pid) => match waitpid(*pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => None,
                Ok(s) => Some(format!("{s:?}")),
                Err(e) => Some(e.to_string()),
            },
        }
    }
}

/// Starts queue-exec.
#[derive(Debug)]
pub(crate) struct Spawner {
    layout: Layout,
    program: PathBuf,
    child: Option<Started>,
    last: Option<Instant>,
}

/// Whether a queue-exec answers.
pub(crate) fn answers(layout: &Layout) -> bool {
    client::dial(layout).is_ok()
}

/// Has a running queue-exec read its keys again.
pub(crate) fn reload(layout: &Layout) -> std::io::Result<()> {
    use std::os::fd::AsFd as _;
    let Ok(fd) = client::dial(layout) else {
        return Ok(());
    };
    match client::ask(fd.as_fd(), &Request::Reload, None)? {
        Reply::Refused { text, .. } => Err(std::io::Error::other(text)),
        _ => Ok(()),
    }
}

impl Spawner {
    /// Looks for the program: beside `queued`, in `../lib/queue` and `../libexec/queue` of it, and where
    /// packages put it.
    ///
    /// # Errors
    /// Where it was looked for.
    pub(crate) fn find(layout: &Layout) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("cannot tell where queued itself is")?;
        let here = own.parent().map(PathBuf::from).unwrap_or_default();
        let places = [
            here.join("queue-exec"),
            here.join("../lib/queue/queue-exec"),
            here.join("../libexec/queue/queue-exec"),
            "/usr/local/lib/queue/queue-exec".into(),
            "/usr/lib/queue/queue-exec".into(),
        ];
        let Some(program) = places.iter().find(|p| p.is_file()) else {
            let all: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
            bail!("there is no queue-exec: looked for {}", all.join(", "));
        };
        let program = program.canonicalize().unwrap_or_else(|_| program.clone());
        Ok(Self {
            layout: layout.clone(),
            program,
            child: None,
            last: None,
        })
    }

    /// The same, with one that the program before this one started.
    #[must_use]
    pub(crate) fn having(mut self, pid: i32) -> Self {
        self.child = Some(Started::Before(Pid::from_raw(pid)));
        self
    }

    /// Process id of the one that we started.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.child.as_ref().and_then(Started::pid).map(Pid::as_raw)
    }

    /// Starts it.
    ///
    /// # Errors
    /// If the program cannot be executed.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        let mut c = Command::new(&self.program);
        if !self.layout.root {
            c.arg("--user");
        }
        c.arg("--state")
            .arg(&self.layout.state)
            .arg("--run")
            .arg(&self.layout.run);
        c.arg("--config").arg(&self.layout.config);
        // Our readiness is not its readiness, and Ctrl-C in our terminal is not meant for it.
        c.env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .process_group(0)
            .current_dir("/");
        let child = c
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        self.child = Some(Started::Here(child));
        self.last = Some(Instant::now());
        Ok(())
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// If it ended, or does not answer in time.
    pub(crate) fn wait(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + START;
        while !answers(&self.layout) {
            if let Some(c) = &mut self.child
                && let Some(status) = c.ended()
            {
                bail!(
                    "{} ended at once ({status}): its message is above",
                    self.program.display()
                );
            }
            if Instant::now() > until {
                bail!(
                    "{} does not answer at {}",
                    self.program.display(),
                    self.layout.exec_socket().display()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Starts it again if the one that we started has ended. A root install cannot: we are no longer root.
    pub(crate) fn again(&mut self) {
        let ended = match &mut self.child {
            Some(c) => c.ended().is_some(),
            None => true,
        };
        if self.layout.root || !ended || self.last.is_some_and(|t| t.elapsed() < AGAIN) {
            return;
        }
        match self.start() {
            Ok(()) => tracing::warn!("started queue-exec again"),
            Err(e) => tracing::error!("{e:#}"),
        }
    }

    /// Ends the one that we started, if it is of no use to anybody: single-user, and no session runs.
    pub(crate) fn end(&mut self) {
        if self.layout.root {
            return;
        }
        if let Some(c) = &mut self.child
            && let Some(pid) = c.pid()
            && c.ended().is_none()
        {
            let _ = kill(pid, Signal::SIGTERM);
        }
    }
}
