//! The sessions of the cluster, and which of them are meant. What belongs to a user alone, command lines for one,
//! is fetched from the hosts as that user.

use super::parallel;
use crate::look;
use crate::messages::{Failure, printable};
use crate::place::Daemon;
use crate::verbs::Filter;
use crate::whoami;
use libqueue::wire::{Empty, Look, LookedSession, SessionInfo, Sessions, reply, request};
use nix::unistd::geteuid;
use queue_exec::layout::Layout;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Digits of an id that are shown.
const SHOWN: usize = 8;
/// Digits that have to be given.
const GIVEN: usize = 3;

/// All sessions, by host and age.
///
/// # Errors
/// No daemon.
pub fn fetch() -> Result<Sessions, Failure> {
    let mut daemon = Daemon::dial(&Layout::for_client())?;
    let reply::Kind::Sessions(mut all) = daemon.request(request::Kind::Sessions(Empty {}))? else {
        return Err(daemon.strange());
    };
    // Those that only look at others come and go, ours among them.
    all.sessions.retain(|s| !s.need.as_ref().is_some_and(|n| n.look));
    all.sessions
        .sort_by(|a, b| (&a.host, a.since_ms, &a.id).cmp(&(&b.host, b.since_ms, &b.id)));
    Ok(all)
}

/// What people call a session.
pub fn id(nonce: &[u8]) -> String {
    let mut id = String::from("s");
    id.push_str(&hex(nonce)[..SHOWN.min(2 * nonce.len())]);
    id
}

/// All of an id's digits.
pub fn hex(nonce: &[u8]) -> String {
    nonce.iter().fold(String::new(), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

/// Whether a number may be the beginning of a session's id.
pub fn may_be(number: &str) -> bool {
    number.len() >= GIVEN && number.bytes().all(|b| b.is_ascii_digit())
}

/// The session that is meant.
///
/// # Errors
/// None, or several.
pub fn find<'a>(all: &'a Sessions, text: &str) -> Result<&'a SessionInfo, Failure> {
    let shown = printable(text);
    let digits = text.strip_prefix(['s', 'S']).unwrap_or(text).to_ascii_lowercase();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Failure::own(format!(
            "`{shown}` is no id of a session: `queue jobs` shows them, as s1a2b3c4d"
        )));
    }
    if digits.len() < GIVEN {
        return Err(Failure::own(format!(
            "`{shown}` is too short: give at least {GIVEN} digits"
        )));
    }
    let fits: Vec<&SessionInfo> = all
        .sessions
        .iter()
        .filter(|s| hex(&s.id).starts_with(&digits))
        .collect();
    match fits[..] {
        [one] => Ok(one),
        [] => Err(nowhere(&all.silent, &shown)),
        _ => {
            let all: Vec<String> = fits
                .iter()
                .map(|s| {
                    // More digits than are shown otherwise, where those are the same.
                    let more = (digits.len() + 1).max(SHOWN).min(2 * s.id.len());
                    format!(
                        "s{} ({} on {})",
                        &hex(&s.id)[..more],
                        printable(&s.user),
                        printable(&s.host)
                    )
                })
                .collect();
            Err(Failure::own(format!("{shown} is ambiguous: {}", all.join(", "))))
        }
    }
}

/// No host that answered has it; `silent` is what the others, with their names, said instead.
fn nowhere(silent: &[String], shown: &str) -> Failure {
    if silent.is_empty() {
        return Failure::own(format!(
            "no such session: {shown} (`queue jobs` shows all that run)"
        ));
    }
    let hosts: Vec<String> = silent
        .iter()
        .map(|s| printable(s.split(": ").next().unwrap_or(s)))
        .collect();
    Failure::own(format!(
        "{} cannot be asked, so whether there is a session {shown} is not known: {} (`queue jobs` shows those of all other hosts)",
        hosts.join(", "),
        printable(&silent.join("; "))
    ))
}

/// Our name, as the kernel knows us.
///
/// # Errors
/// There is none.
pub fn me() -> Result<String, Failure> {
    let uid = geteuid();
    whoami::name(uid).ok_or_else(|| Failure::own(format!("there is no user with the number {uid} here")))
}

/// Keeps those that fit.
pub fn retain(all: &mut Vec<SessionInfo>, filter: &Filter, me: &str) {
    let user = filter.user.as_deref().map(|u| if u == "me" { me } else { u });
    all.retain(|s| user.is_none_or(|u| s.user == u) && filter.host.as_deref().is_none_or(|h| s.host == h));
}

/// The account that one has to be to look at a session, or to end it; empty: the same name as here.
pub fn account<'a>(session: &'a SessionInfo, me: &str) -> &'a str {
    if session.user == me && session.login != me {
        &session.login
    } else {
        ""
    }
}

/// What was seen of sessions.
#[derive(Debug, Default)]
pub struct Seen {
    sessions: BTreeMap<Vec<u8>, LookedSession>,
    /// Why hosts did not show theirs, with their names.
    pub failed: Vec<String>,
}

impl Seen {
    /// What was seen of one.
    pub fn of(&self, session: &SessionInfo) -> Option<&LookedSession> {
        self.sessions.get(&session.id)
    }
}

/// Looks at sessions, on all their hosts at once.
pub fn look_at(sessions: &[&SessionInfo], env: bool, me: &str) -> Seen {
    let mut by_host: BTreeMap<(&str, &str), Vec<Vec<u8>>> = BTreeMap::new();
    for s in sessions {
        by_host
            .entry((&s.host, account(s, me)))
            .or_default()
            .push(s.id.clone());
    }
    let by_host: Vec<_> = by_host.into_iter().collect();
    let looked = parallel::each(&by_host, |((host, login), ids)| {
        look::look(
            host,
            login,
            Look {
                sessions: ids.clone(),
                env,
            },
        )
    });
    let mut seen = Seen::default();
    for result in looked {
        match result {
            Ok(l) => seen
                .sessions
                .extend(l.sessions.into_iter().map(|s| (s.id.clone(), s))),
            Err(e) => seen.failed.push(e.text),
        }
    }
    seen
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn session(first: u32, host: &str, user: &str) -> SessionInfo {
        SessionInfo {
            id: [&first.to_be_bytes()[..], &[7; 12]].concat(),
            host: host.into(),
            login: user.into(),
            user: user.into(),
            from: "h1".into(),
            since_ms: 1_795_321_166_000,
            clock_ms: 1_795_321_166_000 + 125_000,
            cpu_ms: 61_500,
            cpu_now: 1.94,
            mem: 300 << 20,
            processes: 3,
            ..SessionInfo::default()
        }
    }

    fn all() -> Sessions {
        Sessions {
            sessions: vec![
                session(0x1a2b_3c4d, "h1", "alice"),
                session(0x1a2b_9999, "h2", "bob"),
                session(0xffff_0000, "h2", "alice"),
            ],
            silent: vec!["h3: no\x1b answer".into()],
        }
    }

    #[test]
    fn ids() {
        let all = all();
        for (text, n) in [
            ("s1a2b3", 0),
            ("1A2B9", 1),
            ("s1a2b99990707", 1),
            ("fff", 2),
            ("Sffff0000", 2),
        ] {
            assert_eq!(find(&all, text).unwrap(), &all.sessions[n], "{text}");
        }
        assert_eq!(id(&all.sessions[0].id), "s1a2b3c4d");
        assert!(may_be("123") && may_be("01234567") && !may_be("12") && !may_be("123.4") && !may_be("s123"));
        for (text, part) in [
            (
                "s1a2b",
                "s1a2b is ambiguous: s1a2b3c4d (alice on h1), s1a2b9999 (bob on h2)",
            ),
            ("s12", "too short"),
            ("", "no id"),
            ("s", "no id"),
            ("12.3", "no id"),
            ("\x1b", "`\\x1b` is no id"),
            (
                "abcdef",
                "h3 cannot be asked, so whether there is a session abcdef is not known: h3: no\\x1b answer",
            ),
        ] {
            let e = find(&all, text).unwrap_err();
            assert!(e.text.contains(part), "{text}: {}", e.text);
        }
        let heard = Sessions {
            silent: Vec::new(),
            ..all
        };
        let e = find(&heard, "abcdef").unwrap_err();
        assert!(e.text.starts_with("no such session: abcdef ("), "{}", e.text);
    }

    #[test]
    fn filters() {
        let hosts = |user: Option<&str>, host: Option<&str>| {
            let mut v = all().sessions;
            let filter = Filter {
                user: user.map(str::to_owned),
                host: host.map(str::to_owned),
            };
            retain(&mut v, &filter, "alice");
            v.iter().map(|s| id(&s.id)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(hosts(None, None), "s1a2b3c4d s1a2b9999 sffff0000");
        assert_eq!(hosts(Some("me"), None), "s1a2b3c4d sffff0000");
        assert_eq!(hosts(Some("bob"), None), "s1a2b9999");
        assert_eq!(hosts(Some("me"), Some("h2")), "sffff0000");
    }

    #[test]
    fn one_looks_as_whom_it_runs() {
        let mut s = session(1, "h1", "alice");
        assert_eq!(account(&s, "alice"), "");
        s.login = "bob".into();
        assert_eq!(account(&s, "alice"), "bob");
        assert_eq!(account(&s, "root"), "");
    }
}
