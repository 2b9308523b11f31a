//! `queue attach` and `queue detach`: which session is meant, and the way to it. What happens then is the relay's.

use super::sessions::{self, account};
use super::{follow, outcome, parallel, view};
use crate::messages::{Failure, printable, say, write_all};
use crate::plan::PtyFor;
use crate::relay::{self, End, Role, Setting};
use crate::signals::Inherited;
use crate::verbs::attach::{Attach, Detach};
use crate::{context, control, launch, sys, terminal};
use libqueue::job;
use libqueue::wire::{self, SessionInfo, Sessions};
use nix::libc;
use queue_exec::protocol::Control;
use queue_exec::ticket::Nonce;
use std::time::{Duration, Instant};

/// How long one who watches goes on asking for a host that does not answer, and how often.
const GRACE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(500);

/// `queue attach`.
///
/// # Errors
/// There is no such session, or one cannot attach to it; or the connection was lost for good.
pub fn attach(ask: &Attach) -> Result<End, Failure> {
    let me = sessions::me()?;
    let job = ask.id.as_deref().filter(|id| job::is_id(id));
    if let Some(id) = job
        && let Some(end) = follow::run(id, &me, ask.escape)?
    {
        return Ok(end);
    }
    let all = sessions::fetch()?;
    // Digits alone may be the beginning of a session's id as well.
    if let Some(id) = job
        && sessions::find(&all, id).is_err()
    {
        return Err(follow::unknown(id));
    }
    if ask.json {
        return list(ask, &all, &me);
    }
    let s = match &ask.id {
        Some(id) => sessions::find(&all, id)?,
        // Who only looks may mean one that somebody is attached to.
        None => match only(&all, &me, Some(true), "queue attach") {
            Err(_) if ask.watch => only(&all, &me, None, "queue attach --watch")?,
            found => found?,
        },
    };
    ours(s, &me)?;
    let facts = context::facts();
    if !(ask.watch || facts.tty[0] && facts.tty[1]) {
        return Err(Failure::own(
            "standard input and output have to be a terminal: `queue attach --watch` only looks",
        ));
    }
    let nonce = nonce(s)?;
    let inherited = Inherited::read();
    let mut lost: Option<Instant> = None;
    loop {
        let size = terminal::size();
        let wanted = wire::Attach {
            session: s.id.clone(),
            watch: ask.watch,
            size,
            host: nix::sys::utsname::uname()
                .map(|u| u.nodename().to_string_lossy().into_owned())
                .unwrap_or_default(),
            // Who watches attaches anew: he wants to see what is, not what was.
            resume: !ask.watch,
        };
        let mut session = match launch::attach(&s.host, account(s, &me), nonce, &wanted, lost.is_some()) {
            Ok(session) => session,
            Err(e) => {
                let Some(since) = lost else { return Err(e) };
                let gone = sessions::fetch().is_ok_and(|now| {
                    now.sessions.iter().all(|n| n.id != s.id)
                        && !now.silent.iter().any(|h| h.starts_with(&s.host))
                });
                if gone || since.elapsed() > GRACE {
                    return Err(e);
                }
                std::thread::sleep(AGAIN);
                continue;
            }
        };
        if lost.take().is_some() {
            say(&format!("{} answers again", printable(&s.host)), false);
        }
        session.no_stdin = !facts.tty[0];
        let setting = Setting {
            facts: &facts,
            pty: Some(PtyFor { fds: [true; 3] }),
            inherited,
            tee: None,
            escape: ask.escape,
            role: if ask.watch { Role::Watch } else { Role::Attach },
            watching: ask.watch.then(|| sessions::id(&s.id)),
            forwarding: None,
        };
        match relay::run(session, setting)? {
            End::Cut => {
                // Signals end us again, as the terminal is ours.
                sys::sigmask(libc::SIG_SETMASK, Some(inherited.blocked));
                say(
                    &format!(
                        "connection to {} lost; waiting for it, Ctrl-C to give up",
                        printable(&s.host)
                    ),
                    false,
                );
                lost = Some(Instant::now());
            }
            end => return Ok(end),
        }
    }
}

fn nonce(s: &SessionInfo) -> Result<Nonce, Failure> {
    s.id[..]
        .try_into()
        .map_err(|_| Failure::own("its host gave an id that this version does not know"))
}

/// That one may attach to it: the user who started it, and the account that it runs as. Its host has the last word;
/// this one is said before anything else that is wrong.
fn ours(s: &SessionInfo, me: &str) -> Result<(), Failure> {
    if s.user == me || s.login == me {
        return Ok(());
    }
    Err(Failure::own(format!(
        "{} on {} belongs to {user}: only {user} may attach to it",
        sessions::id(&s.id),
        printable(&s.host),
        user = printable(&s.user)
    )))
}

/// What could be attached to, as JSON.
fn list(ask: &Attach, all: &Sessions, me: &str) -> Result<End, Failure> {
    let found: Vec<&SessionInfo> = match &ask.id {
        Some(id) => {
            let s = sessions::find(all, id)?;
            ours(s, me)?;
            vec![s]
        }
        None => all.sessions.iter().filter(|s| s.user == me).collect(),
    };
    let found: Vec<_> = found
        .iter()
        .map(|s| {
            serde_json::json!({
                "id": sessions::id(&s.id),
                "session": sessions::hex(&s.id),
                "host": s.host,
                "user": s.user,
                "detached": s.detached,
                "watchers": s.watchers,
            })
        })
        .collect();
    write_all(1, view::json(&found, false)?.as_bytes());
    Ok(End::Code(0))
}

/// The only session of ours that is detached, or that is not; or the only one.
fn only<'a>(
    all: &'a Sessions,
    me: &str,
    detached: Option<bool>,
    verb: &str,
) -> Result<&'a SessionInfo, Failure> {
    let fits: Vec<&SessionInfo> = all
        .sessions
        .iter()
        .filter(|s| s.user == me && detached.is_none_or(|d| s.detached == d))
        .collect();
    let state = match detached {
        Some(true) => "is detached",
        Some(false) => "is attached",
        None => "runs",
    };
    match fits[..] {
        [one] => Ok(one),
        [] => {
            let silent = match all.silent.len() {
                0 => String::new(),
                _ => format!("; not asked: {}", printable(&all.silent.join("; "))),
            };
            Err(Failure::own(format!(
                "no session of yours {state}: `queue jobs -u me` lists all that run, `{verb} ID` takes one{silent}"
            )))
        }
        _ => {
            let all: Vec<String> = fits
                .iter()
                .map(|s| format!("{} on {}", sessions::id(&s.id), printable(&s.host)))
                .collect();
            Err(Failure::own(format!(
                "more than one session of yours {state}, say which: {}",
                all.join(", ")
            )))
        }
    }
}

/// `queue detach`. The exit code tells whether all were told.
///
/// # Errors
/// No daemon, or it is not clear which is meant.
pub fn detach(ask: &Detach) -> Result<u8, Failure> {
    let me = sessions::me()?;
    let all = sessions::fetch()?;
    let mut failed = 0;
    let mut found: Vec<&SessionInfo> = Vec::new();
    if ask.ids.is_empty() {
        found.push(match inside(&all, &me) {
            Some(s) => s,
            None => only(&all, &me, Some(false), "queue detach")?,
        });
    }
    for id in &ask.ids {
        match sessions::find(&all, id) {
            Ok(s) if found.contains(&s) => {}
            Ok(s) => found.push(s),
            Err(e) => {
                say(&batch_job(id).unwrap_or(e).text, false);
                failed += 1;
            }
        }
    }
    let told = parallel::each(&found, |s| one(s, &me));
    let worked = told.iter().filter(|t| t.is_ok()).count();
    failed += told.len() - worked;
    let mut json = Vec::new();
    for (s, result) in found.iter().zip(&told) {
        let id = sessions::id(&s.id);
        match result {
            _ if ask.json => json.push(serde_json::json!({
                "id": id,
                "host": s.host,
                "ok": result.is_ok(),
                "text": result.as_ref().map_or_else(|e| e.text.clone(), |()| "told".to_owned()),
            })),
            Ok(()) => write_all(1, format!("{id} on {} is told\n", printable(&s.host)).as_bytes()),
            Err(e) => say(&e.text, false),
        }
    }
    if ask.json {
        write_all(1, view::json(&json, false)?.as_bytes());
    }
    Ok(outcome(worked, failed))
}

/// Why the number of a job cannot be detached; `None`: it is none, or the leader does not say.
fn batch_job(id: &str) -> Option<Failure> {
    let ids = job::ids(id).ok().filter(|_| job::is_id(id))?;
    let there = super::batch::show::fetch(ids).ok()?;
    Some(match there.jobs.is_empty() {
        true => follow::unknown(id),
        false => Failure::own(format!(
            "{id} is a batch job: it needs nobody to be attached, and goes on when `queue attach` is left"
        )),
    })
}

fn one(s: &SessionInfo, me: &str) -> Result<(), Failure> {
    if s.detached {
        return Err(Failure::own(format!(
            "{} on {} is detached already",
            sessions::id(&s.id),
            printable(&s.host)
        )));
    }
    let session = nonce(s)?;
    control::ask(&s.host, account(s, me), &Control::Detach { session }).map(drop)
}

/// The session that we run in: one of our forebears is its command.
fn inside<'a>(all: &'a Sessions, me: &str) -> Option<&'a SessionInfo> {
    let here = std::env::var("QUEUE_HOST").ok()?;
    let mine: Vec<&SessionInfo> = all
        .sessions
        .iter()
        .filter(|s| s.user == me && s.host == here)
        .collect();
    let seen = sessions::look_at(&mine, false, me);
    let forebears = forebears();
    mine.into_iter().find(|s| {
        seen.of(s)
            .is_some_and(|l| l.pid > 0 && forebears.contains(&l.pid))
    })
}

/// Process ids of our parent, its parent, and so on.
fn forebears() -> Vec<u32> {
    let mut all = Vec::new();
    let mut pid = std::os::unix::process::parent_id();
    while pid > 1 && !all.contains(&pid) {
        all.push(pid);
        // The name, in parentheses, may have anything in it.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let behind = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        pid = behind
            .split_whitespace()
            .nth(1)
            .and_then(|p| p.parse().ok())
            .unwrap_or(0);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::sessions::tests::session;
    use super::*;

    #[test]
    fn the_only_one() {
        let mut all = Sessions {
            sessions: vec![
                session(0x1a2b_3c4d, "h1", "alice"),
                session(0x0bad_cafe, "h2", "bob"),
            ],
            silent: vec!["h3: no answer".into()],
        };
        let text = |all: &Sessions, detached| {
            only(all, "alice", detached, "queue attach").map_or_else(|e| e.text, |s| sessions::id(&s.id))
        };
        assert_eq!(text(&all, Some(false)), "s1a2b3c4d");
        assert_eq!(text(&all, None), "s1a2b3c4d");
        assert!(text(&all, Some(true)).contains("no session of yours is detached"));
        assert!(text(&all, Some(true)).contains("not asked: h3: no answer"));
        all.sessions[0].detached = true;
        assert_eq!(text(&all, Some(true)), "s1a2b3c4d");
        let mut second = session(0xffff_0000, "h2", "alice");
        second.detached = true;
        all.sessions.push(second);
        assert!(text(&all, Some(true)).contains("say which: s1a2b3c4d on h1, sffff0000 on h2"));
    }

    #[test]
    fn whose_it_is() {
        let mut s = session(0x1a2b_3c4d, "h1", "alice");
        assert!(ours(&s, "alice").is_ok());
        let e = ours(&s, "bob").unwrap_err();
        assert!(
            e.text
                .starts_with("s1a2b3c4d on h1 belongs to alice: only alice may"),
            "{}",
            e.text
        );
        s.login = "bob".into();
        assert!(ours(&s, "bob").is_ok() && ours(&s, "alice").is_ok());
    }

    #[test]
    fn forebears_end() {
        let all = forebears();
        assert!(!all.is_empty() && !all.contains(&0) && !all.contains(&std::process::id()));
    }
}
