//! `queued.toml`: its keys, what they mean, and errors that name file, line and column. Knows text; must not
//! know what the daemon does with it.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Port of the daemon if nothing else is said.
pub const PORT: u16 = 7838;
/// No configuration file is larger.
const FILE_MAX: u64 = 1 << 20;

/// How much the daemon says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What somebody has to repair.
    Error,
    /// And what is unusual.
    Warn,
    /// And hosts that come and go, and sessions.
    #[default]
    Info,
    /// And each connection.
    Debug,
    /// And each message.
    Trace,
}

/// What `queued.toml` says. All keys are optional; a key that is not known is an error.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    /// Name of this host for `init` and `join`, instead of its host name. Later the certificate says it.
    pub name: Option<String>,
    /// Where others reach this host, `ADDRESS` or `ADDRESS:PORT`. Without it, each one is told the address
    /// that its connection uses.
    pub advertise: Option<String>,
    /// TCP port to listen on.
    pub port: Option<u16>,
    /// IP addresses to listen on; all if empty.
    pub listen: Vec<IpAddr>,
    /// How much is logged.
    pub log: LogLevel,
    /// Whether `queued` starts `queue-exec` if it does not run. Say `false` where the service manager does.
    pub spawn_exec: bool,
    /// Directory of keys and members, instead of `/var/lib/queue` (or the user's own).
    pub state_dir: Option<PathBuf>,
    /// What this host has beyond cores and memory, for `-R`: a size (`raid = "200G"`), a count (`matlab = 3`), or a
    /// word (`room = "b12"`).
    pub resources: BTreeMap<String, Resource>,
    /// How fast a core is, compared with other hosts' (1.0).
    pub power: f64,
    /// At most so many sessions at once; 0: no limit of the daemon's.
    pub max_sessions: u32,
    /// `false`: commands of other hosts are refused here.
    pub willing: bool,
    /// GPUs, where they are not found by themselves.
    pub gpus: Option<u32>,
    /// Users, or groups written `@NAME`, who may see, end and drain everything.
    pub operators: Operators,
    /// Whether the authority's host says on the LAN where it is (mDNS), for tokens without an address.
    pub mdns: bool,
}

/// Value of one key of `[resources]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Resource {
    /// A count.
    Count(u64),
    /// A size or a word.
    Text(String),
}

/// One name or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Operators {
    /// `operators = "@wheel"`.
    One(String),
    /// `operators = ["alice", "@wheel"]`.
    Many(Vec<String>),
}

impl Default for Operators {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: None,
            advertise: None,
            port: None,
            listen: Vec::new(),
            log: LogLevel::Info,
            spawn_exec: true,
            state_dir: None,
            resources: BTreeMap::new(),
            power: 1.0,
            max_sessions: 0,
            willing: true,
            gpus: None,
            operators: Operators::default(),
            mdns: true,
        }
    }
}

/// What is wrong with a configuration file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Line and column, from 1; `None` if it is about the file as a whole.
    pub at: Option<(usize, usize)>,
    /// What is wrong, in one line.
    pub text: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some((line, column)) => write!(f, "{}:{line}:{column}: {}", self.file.display(), self.text),
            None => write!(f, "{}: {}", self.file.display(), self.text),
        }
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads the file; the defaults if there is none.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        use std::io::Read as _;
        let error = |text: String| ConfigError {
            file: file.to_owned(),
            at: None,
            text,
        };
        let f = match std::fs::File::open(file) {
            Ok(f) => f,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(error(e.to_string())),
        };
        let mut text = String::new();
        f.take(FILE_MAX + 1)
            .read_to_string(&mut text)
            .map_err(|e| error(e.to_string()))?;
        if text.len() as u64 > FILE_MAX {
            return Err(error("is too large for a configuration".into()));
        }
        Self::parse(&text, file)
    }

    /// Reads the text of a configuration; `file` is for errors only.
    ///
    /// # Errors
    /// The first thing wrong, with its place.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let c: Self = toml::from_str(text).map_err(|e| ConfigError {
            file: file.to_owned(),
            at: e.span().map(|s| position(text, s.start)),
            text: e.message().lines().map(str::trim).collect::<Vec<_>>().join(" "),
        })?;
        let key = |name: &str, said: String| ConfigError {
            file: file.to_owned(),
            at: find_key(text, name),
            text: said,
        };
        if c.port == Some(0) {
            return Err(key("port", "port 0 is none: use 1 to 65535".into()));
        }
        if c.state_dir.as_ref().is_some_and(|d| !d.is_absolute()) {
            return Err(key("state-dir", "state-dir must begin with /".into()));
        }
        for (name, value) in [("name", &c.name), ("advertise", &c.advertise)] {
            if value
                .as_ref()
                .is_some_and(|v| v.is_empty() || v.chars().any(|c| c.is_control() || c == ' '))
            {
                return Err(key(name, format!("{name} must be one word")));
            }
        }
        Ok(c)
    }
}

/// Line and column (in characters), from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// Where a top-level key stands.
fn find_key(text: &str, key: &str) -> Option<(usize, usize)> {
    text.lines().enumerate().find_map(|(i, l)| {
        let rest = l.trim_start().strip_prefix(key)?;
        rest.trim_start()
            .starts_with('=')
            .then(|| (i + 1, l.len() - l.trim_start().len() + 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("queued.toml")).map_err(|e| e.to_string())
    }

    #[test]
    fn all_keys() {
        let c = parse(
            "name = 'h1'\nadvertise = '10.0.0.1'\nport = 7000\nlisten = ['127.0.0.1', '::1']\nlog = 'debug'\n\
             spawn-exec = false\nstate-dir = '/srv/queue'\n",
        )
        .unwrap();
        assert_eq!(c.port, Some(7000));
        assert_eq!(c.listen.len(), 2);
        assert_eq!((c.log, c.spawn_exec), (LogLevel::Debug, false));
        assert_eq!(parse(""), Ok(Config::default()));
    }

    #[test]
    fn errors_name_the_place_and_what_is_allowed() {
        let e = parse("port = 1\n\nprot = 2\n").unwrap_err();
        assert!(e.starts_with("queued.toml:3:1: "), "{e}");
        assert!(
            e.contains("unknown field `prot`") && e.contains("spawn-exec"),
            "{e}"
        );
        let e = parse("port = 'x'").unwrap_err();
        assert!(e.starts_with("queued.toml:1:8: "), "{e}");
        let e = parse("log = 'loud'").unwrap_err();
        assert!(e.contains("warn") && e.starts_with("queued.toml:1:"), "{e}");
        assert!(parse("port = 70000").is_err());
        assert_eq!(
            parse("\n  port = 0"),
            Err("queued.toml:2:3: port 0 is none: use 1 to 65535".into())
        );
        assert!(parse("x = [").unwrap_err().starts_with("queued.toml:1:"));
        assert!(
            parse("state-dir = 'a'")
                .unwrap_err()
                .starts_with("queued.toml:1:1: state-dir")
        );
        assert!(parse("name = 'a b'").is_err());
        assert!(parse("listen = ['localhost']").is_err());
    }
}
