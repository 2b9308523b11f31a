//! Which sessions are there in the cluster? This host's from queue-exec and `/proc`, the others' by errands. No
//! command lines: those are seen by a session that runs as the user who asks, and by nobody else.

use super::ending;
use crate::driver::{Driver, Event, Question};
use crate::engine::types::Entry;
use crate::errand;
use crate::exec::{Exec, Session};
use crate::mesh::clock_ms;
use libqueue::frame;
use libqueue::wire::{Empty, HostInfo, HostState, SessionInfo, Sessions, member, reply};
use prost::Message as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Hosts asked at the same time.
const AT_ONCE: usize = 64;
/// How long one may take.
const EACH: Duration = Duration::from_secs(3);
/// In a cluster of so many hosts all are asked: a report is a moment old, and does not know of what just began.
const SMALL: usize = 32;
/// An answer is one frame; a part of it is for the hosts that are silent.
const ROOM: usize = frame::MAX - 64 * 1024;

/// The sessions that run on this host, but for those that only look at others.
pub(crate) async fn own(exec: &Exec) -> Sessions {
    let sessions: Vec<Session> = exec.sessions().into_iter().filter(|s| !s.need.look).collect();
    let used = exec
        .meter()
        .measure(sessions.iter().map(|s| s.pid).collect())
        .await;
    let clock_ms = clock_ms();
    let mut sessions: Vec<SessionInfo> = sessions
        .into_iter()
        .map(|s| {
            let used = used.get(&s.pid).copied().unwrap_or_default();
            SessionInfo {
                id: s.id.to_vec(),
                host: String::new(),
                login: s.login,
                user: s.user,
                from: s.from,
                since_ms: s.since_ms,
                cpu_ms: used.cpu_ms,
                cpu_now: used.cpu_now,
                mem: used.mem,
                processes: used.processes,
                need: Some(s.need),
                clock_ms,
                detached: s.attached.detached,
                watchers: s.attached.watchers,
            }
        })
        .collect();
    sessions.sort_by(|a, b| (a.since_ms, &a.id).cmp(&(b.since_ms, &b.id)));
    let mut all = Sessions {
        sessions,
        silent: Vec::new(),
    };
    shorten(&mut all);
    all
}

pub(super) async fn answer(driver: &Driver, exec: &Exec) -> reply::Kind {
    let Some(reply::Kind::Hosts(hosts)) = driver.ask(Question::Hosts).await else {
        return ending();
    };
    let (tx, rx) = oneshot::channel();
    driver.send(Event::Roster(tx)).await;
    let roster: BTreeMap<String, Entry> = rx
        .await
        .unwrap_or_default()
        .into_iter()
        .map(|e| (e.host.name.clone(), e))
        .collect();
    let context = driver.context();
    let small = hosts.hosts.len() <= SMALL;
    let mut all = Sessions::default();
    let mut errands = JoinSet::new();
    let room = Arc::new(Semaphore::new(AT_ONCE));
    for host in hosts.hosts.iter().filter(|h| !h.local) {
        match (plan(host, small), roster.get(&host.name)) {
            (Plan::Ask, Some(entry)) => {
                let (context, room, name) = (context.clone(), room.clone(), host.name.clone());
                let (address, key) = (host.address.clone(), entry.host.tls_key);
                errands.spawn(async move {
                    let _place = room.acquire_owned().await;
                    let question = member::Kind::SessionsAsk(Empty {});
                    let answer = match timeout(EACH, errand::ask(&context, &address, key, question)).await {
                        Ok(Ok(member::Kind::Sessions(s))) => Ok(s.sessions),
                        Ok(Ok(_)) => Err("queued there is of another version".to_owned()),
                        Ok(Err(text)) => Err(text),
                        Err(_) => Err(format!("no answer within {} s", EACH.as_secs())),
                    };
                    (name, answer)
                });
            }
            (Plan::Silent(why), _) => all.silent.push(format!("{}: {why}", host.name)),
            (Plan::Leave, _) | (Plan::Ask, None) => {}
        }
    }
    let here = &context.identity.own.name;
    let take = |all: &mut Sessions, host: &str, sessions: Vec<SessionInfo>| {
        // Whose they are is not for the host to say.
        let named = sessions.into_iter().map(|s| SessionInfo {
            host: host.to_owned(),
            ..s
        });
        all.sessions.extend(named);
    };
    take(&mut all, here, own(exec).await.sessions);
    while let Some(done) = errands.join_next().await {
        match done {
            Ok((host, Ok(sessions))) => take(&mut all, &host, sessions),
            Ok((host, Err(why))) => all.silent.push(format!("{host}: {why}")),
            Err(_) => {}
        }
    }
    all.silent.sort();
    all.sessions
        .sort_by(|a, b| (&a.host, a.since_ms, &a.id).cmp(&(&b.host, b.since_ms, &b.id)));
    shorten(&mut all);
    reply::Kind::Sessions(all)
}

/// What to do about a host.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Ask,
    /// It cannot be asked, and had sessions when it was last heard of.
    Silent(String),
    /// It has none.
    Leave,
}

fn plan(host: &HostInfo, small: bool) -> Plan {
    let had = host.load.as_ref().is_some_and(|l| l.sessions > 0);
    match host.state() {
        HostState::Up | HostState::Suspect => {
            if had || small || host.load.is_none() {
                Plan::Ask
            } else {
                Plan::Leave
            }
        }
        _ if !had => Plan::Leave,
        HostState::Left => Plan::Silent("it left the cluster".into()),
        _ if host.reason.is_empty() => Plan::Silent("it is down".into()),
        _ => Plan::Silent(host.reason.clone()),
    }
}

/// Leaves out what one frame does not hold, and says so.
fn shorten(all: &mut Sessions) {
    let mut room = ROOM;
    let fit = all
        .sessions
        .iter()
        .take_while(|s| {
            let n = s.encoded_len() + 8;
            let fits = n <= room;
            room = room.saturating_sub(n);
            fits
        })
        .count();
    let left_out = all.sessions.len() - fit;
    all.sessions.truncate(fit);
    all.silent.truncate(256);
    if left_out > 0 {
        all.silent
            .push(format!("{left_out} more sessions: too many for one answer"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libqueue::wire::Load;

    fn host(state: HostState, sessions: Option<u32>) -> HostInfo {
        HostInfo {
            state: state as i32,
            load: sessions.map(|sessions| Load {
                sessions,
                ..Load::default()
            }),
            ..HostInfo::default()
        }
    }

    #[test]
    fn asks_whoever_may_have_some() {
        use HostState::{Down, Left, Suspect, Unknown, Up};
        assert_eq!(plan(&host(Up, Some(1)), false), Plan::Ask);
        assert_eq!(plan(&host(Suspect, Some(1)), false), Plan::Ask);
        assert_eq!(plan(&host(Up, None), false), Plan::Ask);
        assert_eq!(plan(&host(Up, Some(0)), true), Plan::Ask);
        assert_eq!(plan(&host(Up, Some(0)), false), Plan::Leave);
        assert_eq!(plan(&host(Down, Some(0)), true), Plan::Leave);
        assert_eq!(plan(&host(Unknown, None), true), Plan::Leave);
        for state in [Down, Left] {
            assert!(matches!(plan(&host(state, Some(2)), true), Plan::Silent(_)));
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_told() {
        let one = SessionInfo {
            id: vec![7; 16],
            user: "u".repeat(200),
            ..SessionInfo::default()
        };
        let mut all = Sessions {
            sessions: vec![one; 10_000],
            silent: vec!["h3: no answer".into()],
        };
        shorten(&mut all);
        assert!(all.encoded_len() < frame::MAX, "{}", all.encoded_len());
        assert!(all.sessions.len() > 3000);
        let told = format!("{} more sessions", 10_000 - all.sessions.len());
        assert!(all.silent[1].starts_with(&told), "{:?}", all.silent);
    }
}
