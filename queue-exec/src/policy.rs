//! The executing host's policy: reads `exec.conf`, and decides whether a host may have a user run something
//! here, and under which account. Pure but for [`Policy::load`]: no name service, no clock, no keys.
//!
//! What needs the account's uid (is it an ordinary one?) is finished by the session process, which alone may
//! look accounts up: it is told [`Allowed`].
//!
//! ```text
//! vouch HOST|* USER...    whom a host may vouch for, instead of what its certificate says; the line of a host
//!                         counts before that of *. USER: a name, * for all ordinary users, none. root only by name.
//! login USER LOGIN...     whom USER may run as with -l. LOGIN: a name, or * for all ordinary users.
//! uid-min N               an ordinary user's uid is at least this (1000)
//! pam yes|no              open a PAM session for each (no)
//! max-sessions N          more are refused (4096)
//! warm N                  processes kept ready for the next launch (2)
//! grace N                 seconds that a session waits for a client that cannot be reached (60)
//! ```

use crate::cert::{HostCert, USER_MAX, Vouch};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// No policy file is larger.
const FILE_MAX: u64 = 1 << 20;

/// The policy of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// By host name in lower case, or `*`.
    vouch: BTreeMap<String, Vec<String>>,
    /// By user name.
    login: BTreeMap<String, Vec<String>>,
    /// Lowest uid of an ordinary user.
    pub uid_min: u32,
    /// Whether sessions open a PAM session.
    pub pam: bool,
    /// Most sessions at a time.
    pub max_sessions: usize,
    /// Session processes kept ready.
    pub warm: usize,
    /// Seconds an unreachable client is waited for.
    pub grace: u32,
    /// In a single-user install: its owner's name and uid.
    owner: Option<(String, u32)>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            vouch: BTreeMap::new(),
            login: BTreeMap::new(),
            uid_min: 1000,
            pam: false,
            max_sessions: 4096,
            warm: 2,
            grace: 60,
            owner: None,
        }
    }
}

/// What the session still has to check of the account: uid 0 needs `root`, any other uid must be at least
/// `uid_min`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// Lowest uid.
    pub uid_min: u32,
    /// Whether uid 0 is allowed.
    pub root: bool,
}

impl Allowed {
    /// Whether it fits the account's uid.
    pub fn fits(&self, uid: u32) -> bool {
        match uid {
            0 => self.root,
            n => n >= self.uid_min,
        }
    }
}

const ROOT: Allowed = Allowed {
    uid_min: 0,
    root: true,
};

/// Somebody who asks this host itself for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// What has to hold for his account.
    pub allowed: Allowed,
    /// He is an operator, whatever `operators` says.
    pub operator: bool,
}

/// What is wrong with a policy file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    /// The file.
    pub file: PathBuf,
    /// Line number, or 0 for the file as a whole.
    pub line: usize,
    /// What is wrong.
    pub text: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file.display(), self.text),
            n => write!(f, "{}:{n}: {}", self.file.display(), self.text),
        }
    }
}

impl std::error::Error for PolicyError {}

impl Policy {
    /// Reads the file; the default policy if there is none. It must belong to root, or to the caller in a
    /// single-user install, and nobody else may be able to change it.
    ///
    /// # Errors
    /// What is wrong, with file and line.
    pub fn load(file: &Path) -> Result<Self, PolicyError> {
        match read_trusted(file)? {
            Some(text) => Self::parse(&text, file),
            None => Ok(Self::default()),
        }
    }

    /// Reads the text of a policy; `file` is for errors only.
    ///
    /// # Errors
    /// The first thing wrong, with its line.
    pub fn parse(text: &str, file: &Path) -> Result<Self, PolicyError> {
        let mut p = Self::default();
        for (i, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            if let Some(key) = words.next() {
                p.directive(key, &words.collect::<Vec<_>>())
                    .map_err(|text| PolicyError {
                        file: file.to_owned(),
                        line: i + 1,
                        text,
                    })?;
            }
        }
        Ok(p)
    }

    fn directive(&mut self, key: &str, args: &[&str]) -> Result<(), String> {
        match (key, args) {
            ("vouch", [host, users @ ..]) if !users.is_empty() => {
                if users.contains(&"none") && users.len() > 1 {
                    return Err("'none' stands alone".into());
                }
                names(users)?;
                let list = self.vouch.entry(host.to_ascii_lowercase()).or_default();
                list.extend(users.iter().filter(|u| **u != "none").map(|u| (*u).to_owned()));
            }
            ("vouch", _) => return Err("expected: vouch HOST|* USER...".into()),
            ("login", [user, logins @ ..]) if !logins.is_empty() => {
                names(args)?;
                if *user == "*" {
                    return Err("login needs the name of a user, not *".into());
                }
                self.login
                    .entry((*user).to_owned())
                    .or_default()
                    .extend(logins.iter().map(|l| (*l).to_owned()));
            }
            ("login", _) => return Err("expected: login USER LOGIN...".into()),
            ("uid-min", [n]) => self.uid_min = number(n, 1, u32::MAX)?,
            ("max-sessions", [n]) => self.max_sessions = number(n, 1, 100_000)? as usize,
            ("warm", [n]) => self.warm = number(n, 0, 64)? as usize,
            ("grace", [n]) => self.grace = number(n, 0, 7 * 86_400)?,
            ("pam", ["yes"]) => self.pam = true,
            ("pam", ["no"]) => self.pam = false,
            ("pam", _) => return Err("expected: pam yes|no".into()),
            ("uid-min" | "max-sessions" | "warm" | "grace", _) => {
                return Err(format!("expected: {key} NUMBER"));
            }
            _ => return Err(format!("unknown word '{key}'")),
        }
        Ok(())
    }

    /// Makes it the policy of a single-user install: its owner, as himself, and nobody else.
    #[must_use]
    pub fn owned_by(mut self, name: &str, uid: u32) -> Self {
        self.owner = Some((name.to_owned(), uid));
        self
    }

    /// Whether the user `user` of the host with the (verified) certificate `source` may run something here as
    /// `login`.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn may(&self, source: &HostCert, user: &str, login: &str) -> Result<Allowed, String> {
        if let Some((owner, uid)) = &self.owner {
            return match user == owner && login == owner {
                true => Ok(Allowed {
                    uid_min: *uid,
                    root: *uid == 0,
                }),
                false => Err(format!(
                    "this is the single-user installation of {owner}: it runs nothing for others"
                )),
            };
        }
        let named = self.vouched(source, user)?;
        let root = ROOT;
        let system = Allowed {
            uid_min: 1,
            root: false,
        };
        let ordinary = Allowed {
            uid_min: self.uid_min,
            root: false,
        };
        if user == "root" {
            // Vouched for by name: as on this host itself, root may become anybody.
            return Ok(root);
        }
        if login == user {
            return Ok(if named { system } else { ordinary });
        }
        let logins = self.login.get(user).map(Vec::as_slice).unwrap_or_default();
        if logins.iter().any(|l| l == login) {
            Ok(if login == "root" { root } else { system })
        } else if login != "root" && logins.iter().any(|l| l == "*") {
            Ok(ordinary)
        } else {
            Err(format!(
                "{user} may not run as {login} here: a line 'login {user} {login}' in exec.conf on the executing host would allow it, once queue-exec has got a SIGHUP"
            ))
        }
    }

    /// Whether the user `user` of that host may ask this host itself for something (to end a session, to drain)
    /// as `login`: as with sessions. Root of another host counts as an operator here where that host may vouch
    /// for all ordinary users: it can end whatever they run anyhow, by asking as them. A host that may vouch for
    /// a few only has no such root.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn may_ask(&self, source: &HostCert, user: &str, login: &str) -> Result<Asker, String> {
        if self.owner.is_none() && (user, login) == ("root", "root") {
            let (list, _) = self.vouches(source);
            if list.iter().any(|u| u == "*") {
                return Ok(Asker {
                    allowed: ROOT,
                    operator: true,
                });
            }
        }
        let allowed = self.may(source, user, login)?;
        Ok(Asker {
            allowed,
            operator: self.owner.is_some() || login == "root",
        })
    }

    /// Whom the host may vouch for, and where that stands.
    fn vouches<'a>(&'a self, source: &'a HostCert) -> (Cow<'a, [String]>, &'static str) {
        let host = source.name.to_ascii_lowercase();
        let line = self.vouch.get(&host).or_else(|| self.vouch.get("*"));
        match (line, &source.vouch) {
            (Some(list), _) => (Cow::Borrowed(list), "exec.conf"),
            (None, Vouch::Only(names)) => (Cow::Borrowed(names), "its certificate"),
            (None, Vouch::Users) => (Cow::Owned(vec!["*".to_owned()]), "its certificate"),
        }
    }

    /// Whether the host may vouch for the user; `true` if by name, not only as an ordinary user.
    fn vouched(&self, source: &HostCert, user: &str) -> Result<bool, String> {
        let (list, where_) = self.vouches(source);
        if list.iter().any(|u| u == user && u != "*") {
            return Ok(true);
        }
        if user != "root" && user != "*" && list.iter().any(|u| u == "*") {
            return Ok(false);
        }
        // The whole line: one that names only this user would shut the others out.
        let all: Vec<&str> = list
            .iter()
            .map(String::as_str)
            .filter(|u| *u != "none")
            .chain([user])
            .collect();
        Err(format!(
            "{0} may not vouch for {user} here (by {where_}): the line 'vouch {0} {1}' in exec.conf on the executing host would allow it, once queue-exec has got a SIGHUP",
            source.name,
            all.join(" ")
        ))
    }
}

/// Reads a file that only root (in a single-user install its owner) can change; `None` if there is none.
///
/// # Errors
/// That somebody else can change it, or as the file system says.
pub(crate) fn read_trusted(file: &Path) -> Result<Option<String>, PolicyError> {
    let error = |text: String| PolicyError {
        file: file.to_owned(),
        line: 0,
        text,
    };
    let f = match OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(file)
    {
        Ok(f) => f,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(error(e.to_string())),
    };
    let m = f.metadata().map_err(|e| error(e.to_string()))?;
    if m.uid() != 0 && m.uid() != nix::unistd::geteuid().as_raw() {
        return Err(error(format!(
            "belongs to uid {}, not to root: chown root it",
            m.uid()
        )));
    }
    if m.mode() & 0o022 != 0 {
        return Err(error(format!(
            "others may change it (mode {:04o}): chmod go-w it",
            m.mode() & 0o7777
        )));
    }
    if !m.is_file() || m.len() > FILE_MAX {
        return Err(error("is not a file of reasonable size".into()));
    }
    let mut text = String::new();
    f.take(FILE_MAX)
        .read_to_string(&mut text)
        .map_err(|e| error(e.to_string()))?;
    Ok(Some(text))
}

fn names(words: &[&str]) -> Result<(), String> {
    match words
        .iter()
        .find(|w| w.len() > USER_MAX || w.chars().any(|c| c.is_control() || matches!(c, ':' | '/' | ',')))
    {
        Some(w) => Err(format!("'{w}' is not a user name")),
        None => Ok(()),
    }
}

fn number(word: &str, min: u32, max: u32) -> Result<u32, String> {
    match word.parse() {
        Ok(n) if (min..=max).contains(&n) => Ok(n),
        _ => Err(format!("'{word}' is not a number from {min} to {max}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, vouch: Vouch) -> HostCert {
        HostCert {
            cluster: [0; 32],
            serial: 1,
            name: name.into(),
            host_key: [0; 32],
            tls_key: [0; 32],
            vouch,
            issued: 0,
            expires: u64::MAX,
        }
    }

    fn parse(text: &str) -> Result<Policy, String> {
        Policy::parse(text, Path::new("exec.conf")).map_err(|e| e.to_string())
    }

    const ORDINARY: Allowed = Allowed {
        uid_min: 1000,
        root: false,
    };
    const SYSTEM: Allowed = Allowed {
        uid_min: 1,
        root: false,
    };
    #[test]
    fn without_a_file_the_certificate_decides() {
        let p = Policy::default();
        let all = host("h1", Vouch::Users);
        assert_eq!(p.may(&all, "alice", "alice"), Ok(ORDINARY));
        assert!(
            p.may(&all, "root", "root")
                .unwrap_err()
                .contains("may not vouch for root")
        );
        assert!(
            p.may(&all, "alice", "root")
                .unwrap_err()
                .contains("'login alice root'")
        );
        assert!(p.may(&all, "alice", "bob").is_err());
        assert!(p.may(&all, "*", "*").is_err());
        let some = host("h1", Vouch::Only(vec!["alice".into(), "root".into()]));
        assert_eq!(p.may(&some, "alice", "alice"), Ok(SYSTEM));
        assert_eq!(p.may(&some, "root", "root"), Ok(ROOT));
        assert_eq!(p.may(&some, "root", "bob"), Ok(ROOT));
        assert!(p.may(&some, "bob", "bob").is_err());
        let none = host("h1", Vouch::Only(vec![]));
        assert!(p.may(&none, "alice", "alice").is_err());
        let star = host("h1", Vouch::Only(vec!["*".into()]));
        assert_eq!(p.may(&star, "alice", "alice"), Ok(ORDINARY));
        assert!(p.may(&star, "root", "root").is_err());
    }

    #[test]
    fn the_file_overrides_the_certificate() {
        let p = parse(
            "# comment\nvouch H2 alice # only her\n vouch h3 none\nvouch * *\nvouch h4 root *\nlogin alice bob root\nlogin carl *\nuid-min 500",
        )
        .unwrap();
        let h = |n: &str| host(n, Vouch::Only(vec!["root".into()]));
        assert_eq!(p.may(&h("h2"), "alice", "alice"), Ok(SYSTEM));
        assert!(p.may(&h("h2"), "bob", "bob").is_err());
        assert!(p.may(&h("h3"), "alice", "alice").is_err());
        assert!(
            p.may(&h("h9"), "root", "root").is_err(),
            "the file counts, not the certificate"
        );
        assert_eq!(
            p.may(&h("h9"), "bob", "bob"),
            Ok(Allowed {
                uid_min: 500,
                root: false
            })
        );
        assert_eq!(p.may(&h("h4"), "root", "daemon"), Ok(ROOT));
        assert_eq!(p.may(&h("h9"), "alice", "bob"), Ok(SYSTEM));
        assert_eq!(p.may(&h("h9"), "alice", "root"), Ok(ROOT));
        assert!(p.may(&h("h9"), "carl", "root").is_err());
        assert_eq!(
            p.may(&h("h9"), "carl", "bob"),
            Ok(Allowed {
                uid_min: 500,
                root: false
            })
        );
    }

    #[test]
    fn a_single_user_install_serves_its_owner_only() {
        let p = parse("vouch * * root\nlogin alice bob")
            .unwrap()
            .owned_by("alice", 1000);
        let h = host("h1", Vouch::Users);
        assert_eq!(
            p.may(&h, "alice", "alice"),
            Ok(Allowed {
                uid_min: 1000,
                root: false
            })
        );
        for (u, l) in [
            ("alice", "bob"),
            ("bob", "bob"),
            ("root", "root"),
            ("bob", "alice"),
        ] {
            assert!(p.may(&h, u, l).unwrap_err().contains("single-user"));
        }
    }

    #[test]
    fn who_may_ask_the_host_itself() {
        let p = parse("vouch h2 alice root\nvouch h3 bob\nvouch h5 none\nlogin alice root bob").unwrap();
        let h = |n: &str| host(n, Vouch::Users);
        let asker = |allowed, operator| Ok(Asker { allowed, operator });
        let ask = |h: &HostCert, u: &str, l: &str| p.may_ask(h, u, l);
        assert_eq!(ask(&h("h4"), "alice", "alice"), asker(ORDINARY, false));
        assert_eq!(ask(&h("h4"), "alice", "root"), asker(ROOT, true));
        assert_eq!(ask(&h("h4"), "alice", "bob"), asker(SYSTEM, false));
        // Root counts from where all are vouched for, or he by name; and as root only.
        assert_eq!(ask(&h("h4"), "root", "root"), asker(ROOT, true));
        assert!(
            p.may(&h("h4"), "root", "root").is_err(),
            "for sessions he does not"
        );
        assert!(ask(&h("h4"), "root", "bob").is_err());
        assert_eq!(ask(&h("h2"), "root", "root"), asker(ROOT, true));
        assert_eq!(ask(&h("h2"), "root", "bob"), asker(ROOT, false));
        for few in ["h3", "h5"] {
            assert!(ask(&h(few), "root", "root").is_err(), "{few}");
        }
        let few = host("h4", Vouch::Only(vec!["bob".into()]));
        assert!(p.may_ask(&few, "root", "root").is_err());
        let own = p.clone().owned_by("alice", 1000);
        let asked = own.may_ask(&h("h4"), "alice", "alice");
        assert_eq!(asked.map(|a| a.operator), Ok(true));
        assert!(own.may_ask(&h("h4"), "root", "root").is_err());
        assert!(ORDINARY.fits(1000) && !ORDINARY.fits(999) && !ORDINARY.fits(0));
        assert!(SYSTEM.fits(1) && !SYSTEM.fits(0) && ROOT.fits(0) && ROOT.fits(7));
    }

    #[test]
    fn numbers_and_switches() {
        let p = parse("pam yes\nmax-sessions 10\nwarm 0\ngrace 5\n\n").unwrap();
        assert_eq!((p.pam, p.max_sessions, p.warm, p.grace), (true, 10, 0, 5));
        assert_eq!(parse(""), Ok(Policy::default()));
    }

    #[test]
    fn errors_name_file_and_line() {
        assert_eq!(
            parse("warm 2\nwram 3"),
            Err("exec.conf:2: unknown word 'wram'".into())
        );
        for bad in [
            "vouch",
            "vouch h1",
            "vouch h1 none alice",
            "vouch h1 a:b",
            "login",
            "login a",
            "login * b",
            "login a b/c",
            "uid-min",
            "uid-min 0",
            "uid-min -1",
            "uid-min 99999999999",
            "uid-min 1 2",
            "pam",
            "pam maybe",
            "warm 65",
            "warm two",
            "max-sessions 0",
            "grace -1",
            "\0",
            "vouch h1 \u{1b}[2J",
            "é",
        ] {
            assert!(parse(bad).unwrap_err().starts_with("exec.conf:1: "), "{bad:?}");
        }
    }

    #[test]
    fn a_file_that_others_may_change_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let t = crate::state::testdir::TestDir::new();
        let f = t.path().join("exec.conf");
        assert_eq!(Policy::load(&f), Ok(Policy::default()));
        std::fs::write(&f, "warm 7\n").unwrap();
        std::fs::set_permissions(&f, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(Policy::load(&f).unwrap().warm, 7);
        std::fs::set_permissions(&f, std::fs::Permissions::from_mode(0o664)).unwrap();
        let e = Policy::load(&f).unwrap_err().to_string();
        assert!(
            e.contains("others may change it") && e.contains("exec.conf: "),
            "{e}"
        );
    }
}
