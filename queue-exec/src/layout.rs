//! Where the files of an installation lie: a root install, or one user's own (XDG base directories).
//! Knows paths and nothing of their contents.

use std::path::{Path, PathBuf};

/// Owner of the daemon in a root install.
pub const DAEMON_USER: &str = "queue";

/// The directories of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Whether it is a root install (`queue-exec` runs as root and serves all users).
    pub root: bool,
    /// `queued.toml`, `exec.conf`: `/etc/queue`.
    pub config: PathBuf,
    /// `/var/lib/queue`: root's in a root install, with a room for each of the two daemons.
    pub state: PathBuf,
    /// `/run/queue`: the sockets. In a root install root's, group `queue`, mode 1775.
    pub run: PathBuf,
}

impl Layout {
    /// The root install.
    pub fn system() -> Self {
        Self {
            root: true,
            config: "/etc/queue".into(),
            state: "/var/lib/queue".into(),
            run: "/run/queue".into(),
        }
    }

    /// The single-user install of the calling user, by the XDG base directory specification.
    pub fn user() -> Self {
        let var = |name: &str| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        let home = var("HOME").unwrap_or_else(|| "/".into());
        let state = var("XDG_STATE_HOME")
            .unwrap_or_else(|| home.join(".local/state"))
            .join("queue");
        Self {
            root: false,
            config: var("XDG_CONFIG_HOME")
                .unwrap_or_else(|| home.join(".config"))
                .join("queue"),
            run: var("XDG_RUNTIME_DIR").map_or_else(|| state.join("run"), |d| d.join("queue")),
            state,
        }
    }

    /// For daemons: root gets the system's, others their own. `QUEUE_CONFIG` (a file) and `QUEUE_SOCKET`
    /// move the configuration and the sockets; with `QUEUE_CONFIG` set, state lies beside the file unless
    /// it says otherwise (`state-dir`).
    pub fn for_daemon(root: bool) -> Self {
        let mut l = if root { Self::system() } else { Self::user() };
        if let Some(dir) = env_parent("QUEUE_CONFIG") {
            if !root {
                l.state = dir.join("state");
                l.run = dir.join("run");
            }
            l.config = dir;
        }
        if let Some(dir) = env_parent("QUEUE_SOCKET") {
            l.run = dir;
        }
        l
    }

    /// For the front end: `QUEUE_SOCKET`, else the system's if it runs, else the user's own if that runs,
    /// else the system's (whose absence is then reported).
    pub fn for_client() -> Self {
        if let Some(run) = env_parent("QUEUE_SOCKET") {
            let system = Self::system();
            let root = run == system.run;
            return Self {
                run,
                ..if root {
                    system
                } else {
                    Self {
                        root: false,
                        ..Self::user()
                    }
                }
            };
        }
        let system = Self::system();
        if system.queued_socket().exists() {
            return system;
        }
        let user = Self::user();
        if user.queued_socket().exists() {
            user
        } else {
            system
        }
    }

    /// The daemon's socket.
    pub fn queued_socket(&self) -> PathBuf {
        self.run.join("queued.sock")
    }

    /// The monitor's socket.
    pub fn exec_socket(&self) -> PathBuf {
        self.run.join("exec.sock")
    }

    /// Records of live sessions, one file each, so that a restarted monitor finds them.
    pub fn sessions(&self) -> PathBuf {
        self.run.join("sessions")
    }

    /// Output of batch jobs that is to be brought home, in a directory for each user.
    pub fn spool(&self) -> PathBuf {
        self.state.join("spool")
    }

    /// The daemon's room: TLS key, members.
    pub fn queued_state(&self) -> PathBuf {
        self.state.join("queued")
    }

    /// The monitor's room, root only: host key, certificate, and on one host the authority.
    pub fn exec_state(&self) -> PathBuf {
        self.state.join("exec")
    }

    /// The daemon's configuration file.
    pub fn queued_toml(&self) -> PathBuf {
        self.config.join("queued.toml")
    }

    /// The monitor's policy file.
    pub fn exec_conf(&self) -> PathBuf {
        self.config.join("exec.conf")
    }
}

fn env_parent(name: &str) -> Option<PathBuf> {
    let v = std::env::var_os(name).filter(|v| !v.is_empty())?;
    Path::new(&v)
        .parent()
        .filter(|p| p.is_absolute())
        .map(Path::to_owned)
}
