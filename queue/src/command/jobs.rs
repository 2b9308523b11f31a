//! `queue jobs`: batch jobs, and everything that runs in the cluster.

use super::sessions::{self, Seen};
use super::view::{self, Format, Shown};
use super::{batch, follow};
use crate::human;
use crate::messages::{Failure, printable};
use crate::nearest;
use crate::need::in_words;
use crate::table::Table;
use crate::verbs::{Filter, View};
use libqueue::size;
use libqueue::wire::job::{List, Page, Selection};
use libqueue::wire::{LookedSession, Need, SessionInfo, Sessions};
use nix::unistd::User;
use serde::Serialize;

/// Shows them: batch jobs first, then sessions (without `filter`: batch jobs alone). The exit code is 1 if some are
/// missing.
///
/// # Errors
/// No daemon.
pub fn run(view: View, filter: Option<&Filter>, list: &List) -> Result<u8, Failure> {
    let me = sessions::me()?;
    view::run(view, |format| {
        let mut notes = Vec::new();
        let page = match batch::list::fetch(list) {
            Ok(page) => Some(page),
            // Sessions can be seen without the leader.
            Err(e) if filter.is_some() => {
                notes.push(format!("batch jobs: {}", e.text));
                None
            }
            Err(e) => return Err(e),
        };
        if let Some(p) = &page {
            notes.extend(missing(p, list)?);
        }
        let sessions = filter.map(|f| look(f, &me, &mut notes)).transpose()?;
        let text = match format {
            Format::Text(width) => as_text(page.as_ref(), sessions.as_ref(), width),
            Format::Json(one_line) => {
                let jobs: Vec<_> = page
                    .iter()
                    .flat_map(|p| p.jobs.iter().map(batch::json::job))
                    .collect();
                let mut v = serde_json::json!({ "jobs": jobs, "total": page.as_ref().map(|p| p.total) });
                if let (Some(m), Some((all, seen))) = (v.as_object_mut(), &sessions) {
                    let shown: Vec<_> = all
                        .sessions
                        .iter()
                        .map(|s| JsonSession::new(s, seen.of(s), false))
                        .collect();
                    m.insert("sessions".into(), serde_json::to_value(shown).unwrap_or_default());
                    m.insert("silent".into(), all.silent.clone().into());
                }
                view::json(&v, one_line)?
            }
        };
        if let Some(f) = filter
            && page.as_ref().is_none_or(|p| p.jobs.is_empty())
            && sessions.as_ref().is_none_or(|(all, _)| all.sessions.is_empty())
        {
            exists(f)?;
        }
        notes.extend(page.iter().filter_map(|p| batch::list::more(p, list)));
        Ok(Shown { text, notes })
    })
}

/// Those that were asked for by number and are not there.
///
/// # Errors
/// None is.
fn missing(page: &Page, list: &List) -> Result<Vec<String>, Failure> {
    let Some(which) = &list.which else {
        return Ok(Vec::new());
    };
    let only_ids = Selection {
        ids: which.ids.clone(),
        ..Selection::default()
    };
    // Others may be hidden by another condition, or stand on the next page.
    if which.ids.is_empty() || *which != only_ids || page.total != page.jobs.len() as u64 || list.offset > 0 {
        return Ok(Vec::new());
    }
    let gone = batch::missing(&which.ids, page.jobs.iter().map(|j| (j.id, j.task)));
    if page.jobs.is_empty() {
        return Err(follow::unknown(&gone.join(" ")));
    }
    Ok(gone.iter().map(|id| follow::unknown(id).text).collect())
}

/// That a filter with which nothing was found is none with which nothing can be found.
///
/// # Errors
/// There is no such user, or no such host.
fn exists(filter: &Filter) -> Result<(), Failure> {
    if let Some(host) = &filter.host {
        let hosts = nearest::hosts();
        // Without them nothing can be said.
        if !hosts.is_empty() && !hosts.contains(host) {
            return Err(Failure::own(format!(
                "no host {} in this cluster: there are {}",
                printable(host),
                printable(&hosts.join(", "))
            )));
        }
    }
    match filter.user.as_deref() {
        Some(user) if user != "me" && matches!(User::from_name(user), Ok(None)) => {
            Err(Failure::own(format!(
                "nothing of {0} runs, and there is no user {0} on this host",
                printable(user)
            )))
        }
        _ => Ok(()),
    }
}

fn as_text(page: Option<&Page>, sessions: Option<&(Sessions, Seen)>, width: Option<usize>) -> String {
    let mut out = String::new();
    // What is empty is not shown, unless everything is.
    if let Some(page) = page.filter(|p| !p.jobs.is_empty() || sessions.is_none()) {
        out += &batch::list::table(page).render(width);
    }
    if let Some((all, seen)) = sessions.filter(|(all, _)| !all.sessions.is_empty() || out.is_empty()) {
        if !out.is_empty() {
            out.push('\n');
        }
        out += &table(&all.sessions, seen).render(width);
    }
    out
}

/// The sessions that are meant, and what can be seen of them.
fn look(filter: &Filter, me: &str, notes: &mut Vec<String>) -> Result<(Sessions, Seen), Failure> {
    let mut all = sessions::fetch()?;
    sessions::retain(&mut all.sessions, filter, me);
    if let Some(h) = &filter.host {
        all.silent.retain(|s| s.split([':', ' ']).next() == Some(h));
    }
    // An operator asks for somebody else by name, or is root; for the others only their own would answer.
    let any = me == "root" || filter.user.as_deref().is_some_and(|u| u != "me");
    let mine: Vec<&SessionInfo> = all.sessions.iter().filter(|s| any || s.user == me).collect();
    let seen = sessions::look_at(&mine, false, me);
    notes.extend(all.silent.iter().map(|s| printable(s)));
    if !any {
        notes.extend(seen.failed.iter().map(|f| format!("command lines: {f}")));
    }
    Ok((all, seen))
}

fn table(all: &[SessionInfo], seen: &Seen) -> Table {
    let mut t = Table::new(&[
        "ID", "USER", "HOST", "FROM", "WHO", ">SINCE", ">CPU", ">TIME", ">MEM", ">PROCS", "COMMAND",
    ]);
    for s in all {
        let looked = seen.of(s);
        t.row(vec![
            sessions::id(&s.id),
            user(s),
            printable(&s.host),
            printable(&s.from),
            who(s, looked),
            human::age(age_ms(s)),
            human::number(s.cpu_now),
            human::cpu_time(s.cpu_ms),
            size::show(s.mem),
            s.processes.to_string(),
            looked.map_or_else(|| "-".to_owned(), command),
        ]);
    }
    t
}

/// Whether somebody is attached, and how many look on beside. One that is known to have no terminal cannot be
/// attached to.
fn who(s: &SessionInfo, looked: Option<&LookedSession>) -> String {
    let watched = match s.watchers {
        0 => String::new(),
        n => format!("+{n}"),
    };
    let state = match s.detached {
        true => "detached",
        false if looked.is_some_and(|l| l.pid > 0 && l.tty.is_empty()) => "-",
        false => "attached",
    };
    format!("{state}{watched}")
}

/// The same in words.
pub fn attached(s: &SessionInfo, looked: Option<&LookedSession>) -> String {
    let state = match s.detached {
        true => format!(
            "nobody: detached; `queue attach {}` comes back",
            sessions::id(&s.id)
        ),
        false if looked.is_some_and(|l| l.pid > 0 && l.tty.is_empty()) => {
            "no terminal to attach to".to_owned()
        }
        false => printable(&s.user),
    };
    match s.watchers {
        0 => state,
        1 => format!("{state}; one looks on"),
        n => format!("{state}; {n} look on"),
    }
}

/// Who it is: `alice`, or `alice as bob` where the account is another one's.
pub fn user(s: &SessionInfo) -> String {
    if s.login == s.user || s.login.is_empty() {
        printable(&s.user)
    } else {
        format!("{} as {}", printable(&s.user), printable(&s.login))
    }
}

/// How long it has been running, by its host's clock.
pub fn age_ms(s: &SessionInfo) -> u64 {
    s.clock_ms.saturating_sub(s.since_ms)
}

/// Its command line, as a shell would take it.
pub fn command(looked: &LookedSession) -> String {
    if looked.pid == 0 {
        return "(has ended)".to_owned();
    }
    let words: Vec<String> = looked.argv.iter().map(|w| quoted(w)).collect();
    match words.is_empty() {
        true => "-".to_owned(),
        false => words.join(" "),
    }
}

/// A word, quoted for a shell where it needs that.
pub(crate) fn quoted(word: &[u8]) -> String {
    let text = printable(&String::from_utf8_lossy(word));
    let plain = |c: char| c.is_alphanumeric() || "_-+=:,./@%^".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// What JSON says of a session.
#[derive(Debug, Serialize)]
pub struct JsonSession<'a> {
    id: String,
    session: String,
    user: &'a str,
    login: &'a str,
    host: &'a str,
    from: &'a str,
    since_ms: u64,
    age_ms: u64,
    cpu_now: f64,
    cpu_ms: u64,
    memory_bytes: u64,
    processes: u32,
    detached: bool,
    watchers: u32,
    need: Option<JsonNeed<'a>>,
    /// `null`: not ours to see.
    command: Option<Vec<String>>,
    pid: Option<u32>,
    directory: Option<String>,
    state: Option<&'a str>,
    terminal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
struct JsonNeed<'a> {
    cores: u32,
    memory_bytes: u64,
    gpus: u32,
    disk_bytes: u64,
    expression: &'a str,
}

impl<'a> JsonNeed<'a> {
    fn new(need: &'a Need) -> Self {
        Self {
            cores: need.cores,
            memory_bytes: need.mem,
            gpus: need.gpus,
            disk_bytes: need.disk,
            expression: &need.expr,
        }
    }
}

impl<'a> JsonSession<'a> {
    /// With what was seen of it, and the environment if that was asked for.
    pub fn new(s: &'a SessionInfo, looked: Option<&'a LookedSession>, env: bool) -> Self {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let texts = |v: &[Vec<u8>]| v.iter().map(|w| text(w)).collect();
        Self {
            id: sessions::id(&s.id),
            session: sessions::hex(&s.id),
            user: &s.user,
            login: &s.login,
            host: &s.host,
            from: &s.from,
            since_ms: s.since_ms,
            age_ms: age_ms(s),
            cpu_now: s.cpu_now,
            cpu_ms: s.cpu_ms,
            memory_bytes: s.mem,
            processes: s.processes,
            detached: s.detached,
            watchers: s.watchers,
            need: s
                .need
                .as_ref()
                .filter(|n| !in_words(n).is_empty())
                .map(JsonNeed::new),
            command: looked.map(|l| texts(&l.argv)),
            pid: looked.map(|l| l.pid).filter(|p| *p > 0),
            directory: looked.map(|l| text(&l.cwd)),
            state: looked.map(|l| l.state.as_str()),
            terminal: looked.map(|l| l.tty.as_str()).filter(|t| !t.is_empty()),
            environment: looked.filter(|_| env).map(|l| texts(&l.env)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sessions::tests::session;
    use super::*;

    #[test]
    fn as_a_table() {
        let mut other = session(0x0bad_cafe, "h2", "bob");
        other.login = "www".into();
        assert_eq!(
            table(&[session(0x1a2b_3c4d, "h1", "alice"), other], &Seen::default()).render(Some(90)),
            "ID         USER        HOST  FROM  WHO       SINCE   CPU    TIME   MEM  PROCS  COMMAND\n\
             s1a2b3c4d  alice       h1    h1    attached     2m  1.94  1:01.5  300M      3  -\n\
             s0badcafe  bob as www  h2    h1    attached     2m  1.94  1:01.5  300M      3  -\n"
        );
    }

    #[test]
    fn who_looks() {
        let (one, mut two, mut three) = (
            session(1, "h1", "alice"),
            session(2, "h1", "alice"),
            session(3, "h2", "alice"),
        );
        (two.detached, two.watchers, three.watchers) = (true, 2, 1);
        let text = table(&[one, two, three], &Seen::default()).render(Some(90));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("FROM  WHO "), "{text}");
        assert!(
            lines[2].contains("detached+2") && lines[3].contains("attached+1"),
            "{text}"
        );
        // It has ended, or its terminal is not known: it may be attached to.
        let mut looked = LookedSession::default();
        assert_eq!(who(&session(1, "h1", "alice"), Some(&looked)), "attached");
        looked.pid = 7;
        assert_eq!(who(&session(1, "h1", "alice"), Some(&looked)), "-");
        let mut s = session(1, "h1", "alice");
        assert_eq!(attached(&s, None), "alice");
        assert_eq!(attached(&s, Some(&looked)), "no terminal to attach to");
        (s.detached, s.watchers) = (true, 2);
        assert_eq!(
            attached(&s, None),
            "nobody: detached; `queue attach s00000001` comes back; 2 look on"
        );
    }

    #[test]
    fn command_lines_are_readable_and_harmless() {
        let looked = |pid, argv: &[&[u8]]| LookedSession {
            pid,
            argv: argv.iter().map(|w| w.to_vec()).collect(),
            ..LookedSession::default()
        };
        for (l, text) in [
            (looked(1, &[b"make", b"-j8", b"CC=gcc"]), "make -j8 CC=gcc"),
            (
                looked(1, &[b"sh", b"-c", b"echo it's; \x1b[2J"]),
                "sh -c 'echo it'\\''s; \\x1b[2J'",
            ),
            (looked(1, &[b"x", b""]), "x ''"),
            (looked(1, &[]), "-"),
            (looked(0, &[b"x"]), "(has ended)"),
        ] {
            assert_eq!(command(&l), text);
        }
    }

    #[test]
    fn json_has_null_for_what_is_private() {
        let s = session(0x1a2b_3c4d, "h1", "alice");
        let looked = LookedSession {
            pid: 7,
            argv: vec![b"a".to_vec()],
            env: vec![b"A=b".to_vec()],
            ..LookedSession::default()
        };
        let v = serde_json::to_value(JsonSession::new(&s, None, true)).unwrap();
        assert!(v["command"].is_null() && v["pid"].is_null() && v.get("environment").is_none());
        assert_eq!(
            (v["id"].as_str(), v["age_ms"].as_u64()),
            (Some("s1a2b3c4d"), Some(125_000))
        );
        let v = serde_json::to_value(JsonSession::new(&s, Some(&looked), true)).unwrap();
        assert_eq!(
            (v["command"][0].as_str(), v["environment"][0].as_str()),
            (Some("a"), Some("A=b"))
        );
    }
}
