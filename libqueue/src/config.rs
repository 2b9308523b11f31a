//! `queued.toml`: its keys, what they mean, and errors that name file, line and column. Knows text; must not
//! know what the daemon does with it.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

pub mod class;
mod mail;
mod values;

pub use mail::{Mail, Tls};

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
    #[serde(deserialize_with = "values::resources")]
    pub resources: BTreeMap<String, Resource>,
    /// Cores to give to commands, instead of all that the daemon may use.
    #[serde(deserialize_with = "values::cores")]
    pub cores: Option<u32>,
    /// How fast a core is, compared with other hosts' (1.0).
    #[serde(deserialize_with = "values::power")]
    pub power: f64,
    /// At most so many sessions at once; 0: no limit of the daemon's.
    pub max_sessions: u32,
    /// `false`: commands of other hosts are refused here.
    pub willing: bool,
    /// GPUs, where they are not found by themselves.
    #[serde(deserialize_with = "values::gpus")]
    pub gpus: Option<u32>,
    /// Where commands put their temporary files: this disk's space is told, and reserved by `--disk`.
    pub disk_path: PathBuf,
    /// Users, or groups written `@NAME`, who may see, end and drain everything.
    pub operators: Operators,
    /// Whether the authority's host says on the LAN where it is (mDNS), for tokens without an address.
    pub mdns: bool,
    /// Whether and how this host sends letters about batch jobs.
    pub mail: Mail,
}

/// Value of one key of `[resources]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// A count.
    Count(u64),
    /// A size or a word.
    Text(String),
}

/// One name or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operators {
    /// `operators = "@wheel"`.
    One(String),
    /// `operators = ["alice", "@wheel"]`.
    Many(Vec<String>),
}

impl Operators {
    /// The names, groups with their `@`.
    pub fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Many(names) => names,
        }
    }
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
            cores: None,
            power: 1.0,
            max_sessions: 0,
            willing: true,
            gpus: None,
            disk_path: PathBuf::from("/tmp"),
            operators: Operators::default(),
            mdns: true,
            mail: Mail::default(),
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
        let c: Self = parse_as(text, file)?;
        let key = |name: &str, said: String| ConfigError {
            file: file.to_owned(),
            at: find_key(text, name),
            text: said,
        };
        if c.port == Some(0) {
            return Err(key("port", "port 0 is none: use 1 to 65535".into()));
        }
        let dirs = [
            ("state-dir", c.state_dir.as_deref()),
            ("disk-path", Some(c.disk_path.as_path())),
        ];
        if let Some((name, _)) = dirs.iter().find(|(_, d)| d.is_some_and(|d| !d.is_absolute())) {
            return Err(key(name, format!("{name} must begin with /")));
        }
        for (name, value) in [("name", &c.name), ("advertise", &c.advertise)] {
            if value
                .as_ref()
                .is_some_and(|v| v.is_empty() || v.chars().any(|c| c.is_control() || c == ' '))
            {
                return Err(key(name, format!("{name} must be one word")));
            }
        }
        match c.mail.wrong() {
            Some((name, said)) => Err(key(name, said)),
            None => Ok(c),
        }
    }

    /// What is wrong with the value of a top-level key, found by whoever knows more than this file does.
    pub fn blame(file: &Path, key: &str, text: String) -> ConfigError {
        let content = std::fs::read_to_string(file).unwrap_or_default();
        ConfigError {
            file: file.to_owned(),
            at: find_key(&content, key),
            text,
        }
    }
}

/// Reads the text of any configuration file; `file` is for errors only.
///
/// # Errors
/// The first thing wrong, with its place.
pub fn parse_as<T: serde::de::DeserializeOwned>(text: &str, file: &Path) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|e| ConfigError {
        file: file.to_owned(),
        at: e.span().map(|s| position(text, s.start)),
        text: e.message().lines().map(str::trim).collect::<Vec<_>>().join(" "),
    })
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

    #[test]
    fn resources_and_who_may() {
        let c = parse(
            "cores = 64\npower = 2\nmax-sessions = 20\nwilling = false\ngpus = 4\ndisk-path = '/scratch'\n\
             operators = ['alice', '@wheel']\nmdns = false\n\
             [resources]\nraid = '200G'\nmatlab = 3\nroom = 'b12'\nssd = true\n",
        )
        .unwrap();
        assert_eq!(
            (c.power, c.max_sessions, c.willing, c.mdns),
            (2.0, 20, false, false)
        );
        assert_eq!(c.cores, Some(64));
        assert_eq!((c.gpus, c.disk_path.as_path()), (Some(4), Path::new("/scratch")));
        assert_eq!(c.operators.names(), ["alice", "@wheel"]);
        let shown: Vec<String> = c.resources.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(shown, ["matlab=3", "raid=200G", "room=b12", "ssd=yes"]);
        assert_eq!(
            parse("operators = '@wheel'").unwrap().operators.names(),
            ["@wheel"]
        );
        assert!(Config::default().operators.names().is_empty());
        assert_eq!(parse("gpus = 0").unwrap().gpus, Some(0));
    }

    #[test]
    fn wrong_resources_are_named_with_their_place() {
        for (text, place, word) in [
            ("[resources]\nraid = '200 G'", "2:8", "neither a size"),
            ("[resources]\nraid = ''", "2:8", "neither a size"),
            ("[resources]\nraid = -1", "2:8", "below 0"),
            ("[resources]\nraid = 1.5", "2:8", "expected a count"),
            ("[resources]\nraid = ['a']", "2:8", "expected a count"),
            ("port = 1\n[resources]\nok = 1\nRaid = 1", "4:1", "small letters"),
            ("[resources]\n'a b' = 1", "2:1", "small letters"),
            ("[resources]\nmem_free = 1", "2:1", "known of every host"),
            ("resources = 1", "1:13", "a table of resources"),
            ("power = 0", "1:9", "0.01 to 100"),
            ("power = nan", "1:9", "0.01 to 100"),
            ("power = inf", "1:9", "0.01 to 100"),
            ("power = 101", "1:9", "0.01 to 100"),
            ("cores = 0", "1:9", "1 to 8192"),
            ("gpus = 65", "1:8", "0 to 64"),
            ("max-sessions = -1", "1:16", "u32"),
            ("willing = 'no'", "1:11", "boolean"),
            ("operators = ''", "1:13", "@wheel"),
            ("operators = 'a b'", "1:13", "@wheel"),
            ("operators = ['a', '@@b']", "1:13", "@wheel"),
            ("operators = 3", "1:13", "in brackets"),
            ("\ndisk-path = 'tmp'", "2:1", "must begin with /"),
        ] {
            let e = parse(text).unwrap_err();
            assert!(e.starts_with(&format!("queued.toml:{place}: ")), "{text}: {e}");
            assert!(e.contains(word) && !e.contains('\n'), "{text}: {e}");
        }
        let many: String = (0..50).map(|i| format!("name{i} = 'value'\n")).collect();
        let e = parse(&format!("[resources]\n{many}")).unwrap_err();
        assert!(e.contains("640 bytes at most"), "{e}");
    }
}
