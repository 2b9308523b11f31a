//! Accounts by name: their uid, and the names of their groups, for deciding who is an operator. Asked of the name
//! service by a process of its own each, with a time limit, and remembered for a minute, as names of uids are.

use crate::monitor::log::log;
use crate::monitor::lookup::{LOOKUP_TIMEOUT, Lookup};
use nix::unistd::{Group, User, getgrouplist};
use std::collections::HashMap;
use std::ffi::{CString, OsString};
use std::io::{self, Write as _};
use std::os::fd::BorrowedFd;
use std::process::Child;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long an account is believed.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// Look-ups at the same time, and accounts remembered.
const RUNNING_MAX: usize = 8;
const CACHE_MAX: usize = 1024;
/// Bytes of an answer.
const TEXT_MAX: usize = 256 * 1024;
/// Last line of a whole answer.
const END: &str = ".";

/// An account of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    /// Names of its groups.
    pub(crate) groups: Vec<String>,
}

/// What a look-up gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    Account(Rc<Account>),
    /// This host has none of that name.
    None,
    /// The name service did not answer.
    Failed,
}

/// Answer to a question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Known(Found),
    /// This look-up will tell.
    Wait(u32),
    /// This look-up was started: its descriptor has to be watched.
    Started(u32),
}

/// The accounts.
pub(crate) struct Accounts {
    program: OsString,
    cache: HashMap<String, (Rc<Account>, Instant)>,
    running: HashMap<u32, (String, Lookup)>,
    dying: Vec<Child>,
    next: u32,
}

impl Accounts {
    /// `program` is started as `PROGRAM --print-account NAME`.
    pub(crate) fn new(program: OsString) -> Self {
        Self {
            program,
            cache: HashMap::new(),
            running: HashMap::new(),
            dying: Vec::new(),
            next: 0,
        }
    }

    /// The account, if it is known at once.
    pub(crate) fn get(&mut self, name: &str) -> Answer {
        match self.cache.get(name) {
            Some((account, until)) if *until > Instant::now() => {
                return Answer::Known(Found::Account(Rc::clone(account)));
            }
            _ => {}
        }
        if let Some((id, _)) = self.running.iter().find(|(_, (n, _))| n == name) {
            return Answer::Wait(*id);
        }
        if self.running.len() + self.dying.len() >= RUNNING_MAX
            || name.starts_with('-')
            || name.contains('\0')
        {
            return Answer::Known(Found::Failed);
        }
        match Lookup::start(&self.program, "--print-account", name) {
            Ok(lookup) => {
                self.next = self.next.wrapping_add(1);
                self.running.insert(self.next, (name.to_owned(), lookup));
                Answer::Started(self.next)
            }
            Err(e) => {
                log!("cannot look account {name} up: {}: {e}", self.program.display());
                Answer::Known(Found::Failed)
            }
        }
    }

    /// Where a running look-up's answer will come from.
    pub(crate) fn descriptor(&self, id: u32) -> Option<BorrowedFd<'_>> {
        self.running.get(&id).map(|(_, l)| l.fd())
    }

    /// Takes what a look-up has printed: `Some` when it is over. `timed_out` ends it.
    pub(crate) fn finish(&mut self, id: u32, timed_out: bool) -> Option<Found> {
        let (_, lookup) = self.running.get_mut(&id)?;
        if !lookup.read(TEXT_MAX) && !timed_out {
            return None;
        }
        let (name, lookup) = self.running.remove(&id)?;
        if timed_out {
            log!(
                "looking up account {name} took longer than {} s",
                LOOKUP_TIMEOUT.as_secs()
            );
        }
        let (text, child) = lookup.end();
        self.dying.push(child);
        self.reap();
        let found = parse(&text);
        if let Found::Account(account) = &found {
            if self.cache.len() >= CACHE_MAX {
                self.cache.clear();
            }
            self.cache
                .insert(name, (Rc::clone(account), Instant::now() + KNOWN_FOR));
        }
        Some(found)
    }

    /// Forgets what it knows.
    pub(crate) fn forget(&mut self) {
        self.cache.clear();
    }

    /// Collects ended look-up processes; `true` if some are still there.
    pub(crate) fn reap(&mut self) -> bool {
        self.dying.retain_mut(|c| matches!(c.try_wait(), Ok(None)));
        !self.dying.is_empty()
    }
}

/// The uid and the groups, a line each, and the end; only the end if there is no such account.
fn parse(text: &[u8]) -> Found {
    let Ok(text) = std::str::from_utf8(text) else {
        return Found::Failed;
    };
    let mut lines: Vec<&str> = text.lines().collect();
    if lines.pop() != Some(END) {
        return Found::Failed;
    }
    match lines.split_first().map(|(uid, groups)| (uid.parse(), groups)) {
        None => Found::None,
        Some((Ok(uid), groups)) => Found::Account(Rc::new(Account {
            uid,
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
        })),
        Some((Err(_), _)) => Found::Failed,
    }
}

/// What the look-up process does: prints the account, by the name service.
pub(crate) fn print_account(name: &str) -> i32 {
    let mut text = String::new();
    match User::from_name(name) {
        Err(_) => return 1,
        Ok(None) => {}
        Ok(Some(user)) => {
            text.push_str(&format!("{}\n", user.uid));
            let Ok(c_name) = CString::new(name) else { return 1 };
            let Ok(groups) = getgrouplist(&c_name, user.gid) else {
                return 1;
            };
            for gid in groups {
                match Group::from_gid(gid) {
                    // A group whose name is no line cannot be named in a file of lines either.
                    Ok(Some(g)) if !g.name.contains('\n') => text.push_str(&format!("{}\n", g.name)),
                    Ok(_) => {}
                    Err(_) => return 1,
                }
            }
        }
    }
    text.push_str(END);
    text.push('\n');
    i32::from(io::stdout().write_all(text.as_bytes()).is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_only_when_it_is_whole() {
        let account = |uid, groups: &[&str]| {
            Found::Account(Rc::new(Account {
                uid,
                groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            }))
        };
        assert_eq!(
            parse(b"1000\nalice\nwheel\n.\n"),
            account(1000, &["alice", "wheel"])
        );
        assert_eq!(parse(b"0\n.\n"), account(0, &[]));
        assert_eq!(parse(b".\n"), Found::None);
        for bad in [&b""[..], b"1000\nalice\n", b"x\n.\n", b"-1\n.\n", b"1\n\xff\n.\n"] {
            assert_eq!(parse(bad), Found::Failed, "{bad:?}");
        }
    }

    #[test]
    fn a_process_looks_up_and_the_answer_is_kept() {
        let wait = |a: &mut Accounts, id: u32| {
            let until = Instant::now() + LOOKUP_TIMEOUT;
            loop {
                if let Some(found) = a.finish(id, Instant::now() > until) {
                    return found;
                }
                std::thread::yield_now();
            }
        };
        // Prints "--print-account NAME", which is no answer.
        let mut a = Accounts::new("echo".into());
        let Answer::Started(id) = a.get("alice") else {
            panic!("not started")
        };
        assert_eq!(a.get("alice"), Answer::Wait(id));
        assert!(a.descriptor(id).is_some());
        assert_eq!(wait(&mut a, id), Found::Failed);
        assert!(
            matches!(a.get("alice"), Answer::Started(_)),
            "a failure is not kept"
        );
        assert_eq!(a.get("--help"), Answer::Known(Found::Failed));
        let mut a = Accounts::new("/nonexistent".into());
        assert_eq!(a.get("alice"), Answer::Known(Found::Failed));
        let account = Rc::new(Account {
            uid: 1,
            groups: vec![],
        });
        let later = Instant::now() + LOOKUP_TIMEOUT;
        a.cache.insert("bob".into(), (account.clone(), later));
        assert_eq!(a.get("bob"), Answer::Known(Found::Account(account)));
        a.forget();
        assert_eq!(a.get("bob"), Answer::Known(Found::Failed));
    }
}
