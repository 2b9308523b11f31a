//! Names of uids, without ever asking a name service in the monitor itself: `/etc/passwd` is parsed here
//! (again whenever it changes); any other uid is looked up by a short-lived process with a time limit, and
//! whoever waits for it is parked. `/etc/passwd` counts before other services, as in nearly every nsswitch.conf.

use crate::monitor::log::log;
use crate::monitor::lookup::Lookup;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

pub(crate) use crate::monitor::lookup::LOOKUP_TIMEOUT;
/// How long a looked-up name is believed, and that there is none.
const KNOWN_FOR: Duration = Duration::from_secs(60);
const UNKNOWN_FOR: Duration = Duration::from_secs(5);
/// Look-ups at the same time, names remembered, bytes of `/etc/passwd`.
const RUNNING_MAX: usize = 16;
const CACHE_MAX: usize = 16_384;
const PASSWD_MAX: u64 = 16 << 20;
/// More than a name is not waited for.
const NAME_TEXT_MAX: usize = 1024;

/// Answer to "what is this uid's name".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Known(String),
    /// There is none, or the look-up failed.
    Unknown,
    /// It is being looked up; [`Names::finish`] will tell.
    Wait,
    /// It has to be looked up: register the descriptor of [`Names::descriptor`], then wait.
    Started,
    /// Too many look-ups at once.
    Busy,
}

/// The file's identity and time of change.
type Stamp = (u64, u64, i64, i64, u64);

/// The names.
pub(crate) struct Names {
    passwd: PathBuf,
    stamp: Option<Stamp>,
    local: HashMap<u32, String>,
    cache: HashMap<u32, (Option<String>, Instant)>,
    running: HashMap<u32, Lookup>,
    dying: Vec<Child>,
    program: OsString,
}

impl Names {
    /// `program` is started as `PROGRAM --print-user UID`, and prints the name.
    pub(crate) fn new(passwd: PathBuf, program: OsString) -> Self {
        let (local, cache, running) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self {
            passwd,
            stamp: None,
            local,
            cache,
            running,
            dying: Vec::new(),
            program,
        }
    }

    /// The name, if it is known at once.
    pub(crate) fn get(&mut self, uid: u32) -> Answer {
        self.refresh();
        if let Some(name) = self.local.get(&uid) {
            return Answer::Known(name.clone());
        }
        match self.cache.get(&uid) {
            Some((name, until)) if *until > Instant::now() => {
                return name.clone().map_or(Answer::Unknown, Answer::Known);
            }
            _ => {}
        }
        if self.running.contains_key(&uid) {
            return Answer::Wait;
        }
        if self.running.len() + self.dying.len() >= RUNNING_MAX {
            return Answer::Busy;
        }
        match Lookup::start(&self.program, "--print-user", &uid.to_string()) {
            Ok(r) => {
                self.running.insert(uid, r);
                Answer::Started
            }
            Err(e) => {
                log!("cannot look uid {uid} up: {}: {e}", self.program.display());
                Answer::Busy
            }
        }
    }

    /// Where the running look-up's answer will come from.
    pub(crate) fn descriptor(&self, uid: u32) -> Option<BorrowedFd<'_>> {
        self.running.get(&uid).map(Lookup::fd)
    }

    /// Takes what the look-up has printed: `Some` when it is over. `timed_out` ends it.
    pub(crate) fn finish(&mut self, uid: u32, timed_out: bool) -> Option<Option<String>> {
        let r = self.running.get_mut(&uid)?;
        let over = r.read(NAME_TEXT_MAX);
        if !over && !timed_out {
            return None;
        }
        let (text, child) = self.running.remove(&uid)?.end();
        let name = std::str::from_utf8(&text)
            .ok()
            .map(str::trim)
            .filter(|n| over && valid(n))
            .map(str::to_owned);
        if timed_out {
            log!(
                "looking up uid {uid} took longer than {} s",
                LOOKUP_TIMEOUT.as_secs()
            );
        }
        self.dying.push(child);
        self.reap();
        if self.cache.len() >= CACHE_MAX {
            self.cache.clear();
        }
        let keep = if name.is_some() { KNOWN_FOR } else { UNKNOWN_FOR };
        self.cache.insert(uid, (name.clone(), Instant::now() + keep));
        Some(name)
    }

    /// Collects ended look-up processes; `true` if some are still there (one stuck in the kernel cannot be
    /// waited for).
    pub(crate) fn reap(&mut self) -> bool {
        self.dying.retain_mut(|c| matches!(c.try_wait(), Ok(None)));
        !self.dying.is_empty()
    }

    /// The uid of a name in the passwd file.
    pub(crate) fn local_uid(&mut self, name: &str) -> Option<u32> {
        self.refresh();
        self.local.iter().find(|(_, n)| *n == name).map(|(u, _)| *u)
    }

    fn refresh(&mut self) {
        let stamp = fs::metadata(&self.passwd)
            .ok()
            .filter(|m| m.is_file() && m.len() <= PASSWD_MAX)
            .map(|m| (m.dev(), m.ino(), m.mtime(), m.mtime_nsec(), m.len()));
        if stamp == self.stamp {
            return;
        }
        self.local = stamp
            .and_then(|_| fs::read(&self.passwd).ok())
            .map(|b| parse(&b))
            .unwrap_or_default();
        self.stamp = stamp;
    }
}

/// The primary group of a name in the passwd file, for the run directory.
pub(crate) fn local_group(passwd: &std::path::Path, name: &str) -> Option<u32> {
    let text = fs::read(passwd).ok()?;
    let text = String::from_utf8_lossy(&text);
    let mut fields = text
        .lines()
        .map(|l| l.split(':').collect::<Vec<_>>())
        .find(|f| f[0] == name)?;
    fields.truncate(4);
    fields.get(3)?.parse().ok()
}

/// Reads a passwd file; of several names with one uid the first counts, as with getpwuid(3).
fn parse(text: &[u8]) -> HashMap<u32, String> {
    let mut map = HashMap::new();
    for line in text.split(|b| *b == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else {
            continue;
        };
        let mut f = line.split(':');
        let (Some(name), _, Some(uid)) = (f.next(), f.next(), f.next()) else {
            continue;
        };
        // Lines of NIS compatibility begin with + or -.
        if let Ok(uid) = uid.parse()
            && valid(name)
            && !name.starts_with(['+', '-'])
        {
            map.entry(uid).or_insert_with(|| name.to_owned());
        }
    }
    map
}

fn valid(name: &str) -> bool {
    (1..=queue_exec::cert::USER_MAX).contains(&name.len())
        && !name
            .chars()
            .any(|c| c.is_control() || matches!(c, ':' | '/' | '\n'))
}

/// What the look-up process does: prints the name of a uid, by the name service.
pub(crate) fn print_user(uid: u32) -> i32 {
    use std::io::Write as _;
    match nix::unistd::User::from_uid(uid.into()) {
        Ok(Some(u)) => i32::from(writeln!(io::stdout(), "{}", u.name).is_err()),
        Ok(None) => 2,
        Err(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwd(text: &str) -> PathBuf {
        use std::sync::atomic::{AtomicU32, Ordering};
        static N: AtomicU32 = AtomicU32::new(0);
        let n = N.fetch_add(1, Ordering::Relaxed);
        let p = std::env::temp_dir().join(format!("queue-passwd-{}-{n}", std::process::id()));
        fs::write(&p, text).unwrap();
        p
    }

    #[test]
    fn passwd_is_read_again_when_it_changes() {
        let p = passwd(
            "root:x:0:0::/:/bin/sh\n+nis\nalice:x:1000:1000::/:/bin/sh\nalias:x:1000:1::/:\nbad:x:no:\n",
        );
        let mut n = Names::new(p.clone(), "/nonexistent".into());
        assert_eq!(n.get(1000), Answer::Known("alice".into()));
        assert_eq!(n.get(1001), Answer::Busy, "the look-up program cannot be started");
        assert_eq!((n.local_uid("root"), n.local_uid("bob")), (Some(0), None));
        fs::write(&p, "bob:x:1001:7::/:/bin/sh\n").unwrap();
        assert_eq!(n.get(1001), Answer::Known("bob".into()));
        assert_eq!(local_group(&p, "bob"), Some(7));
        fs::remove_file(&p).unwrap();
    }

    fn wait(n: &mut Names, uid: u32) -> Option<String> {
        let until = Instant::now() + LOOKUP_TIMEOUT;
        loop {
            if let Some(name) = n.finish(uid, Instant::now() > until) {
                return name;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn other_uids_are_looked_up_by_a_process() {
        let p = passwd("");
        // `echo --print-user 7` prints something that is a name as far as we can tell.
        let mut n = Names::new(p.clone(), "echo".into());
        assert_eq!(n.get(7), Answer::Started);
        assert_eq!(n.get(7), Answer::Wait);
        assert!(n.descriptor(7).is_some());
        assert_eq!(wait(&mut n, 7), Some("--print-user 7".into()));
        assert_eq!(n.get(7), Answer::Known("--print-user 7".into()));
        let mut n = Names::new(p.clone(), "false".into());
        assert_eq!(n.get(7), Answer::Started);
        assert_eq!(wait(&mut n, 7), None);
        assert_eq!(n.get(7), Answer::Unknown);
        assert_eq!(n.finish(7, true), None, "nothing runs");
        fs::remove_file(&p).unwrap();
    }
}
