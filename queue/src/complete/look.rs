//! What the cluster knows: hosts, jobs, sessions, classes. Each is asked for by a thread of its own, and what has
//! not come after a moment is done without: somebody sits in front of a prompt.

use super::values::{Hosts, Which};
use crate::command::{batch, sessions};
use crate::human;
use crate::leader;
use crate::place::Daemon;
use libqueue::complete::{Group, Item};
use libqueue::job;
use libqueue::wire::job::{Job, List, Page, Selection, State, job_reply, query};
use libqueue::wire::{Empty, HostInfo, HostState, reply, request};
use queue_exec::layout::Layout;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// How long all of it may take.
const LIMIT: Duration = Duration::from_millis(300);
/// Most jobs, and most sessions, that are offered.
const MOST: usize = 100;
/// Most sessions whose commands are asked for: each host that has some is.
const LOOKED_AT: usize = 16;

/// Something that the cluster knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Hosts.
    Hosts(Hosts),
    /// Numbers of jobs of one's own, and of sessions.
    Ids(Which),
    /// Groups of such jobs.
    Groups,
    /// Names of such jobs.
    Names,
    /// Job classes.
    Classes,
    /// Limits of the cluster.
    Limits,
}

/// Where a group belongs: the number of its source, and which part of it.
type Place = (usize, u8);
type Post = Sender<(Place, Group)>;

/// Asks for all of these, and takes what comes in time. `help`: what they are is shown as well.
pub fn fetch(sources: &[Source], help: bool) -> Vec<Group> {
    let end = Instant::now() + LIMIT;
    let (post, mail) = channel();
    for (i, source) in sources.iter().copied().enumerate() {
        match source {
            Source::Hosts(which) => start(&post, move |p| put(p, (i, 0), hosts(which))),
            Source::Classes => start(&post, move |p| put(p, (i, 0), classes())),
            Source::Limits => start(&post, move |p| put(p, (i, 0), limits())),
            Source::Groups => start(&post, move |p| put(p, (i, 0), labels(|j| &j.group))),
            Source::Names => start(&post, move |p| put(p, (i, 0), labels(|j| &j.name))),
            Source::Ids(which) => {
                start(&post, move |p| put(p, (i, 0), jobs(which)));
                if which.sessions {
                    start(&post, move |p| own_sessions(p, (i, 1), help));
                }
            }
        }
    }
    // When the last thread has ended, so does the wait.
    drop(post);
    let mut found = BTreeMap::new();
    while let Ok((place, group)) = mail.recv_timeout(end.saturating_duration_since(Instant::now())) {
        found.insert(place, group);
    }
    found.into_values().collect()
}

/// A thread that nobody waits for; without one there is less to offer.
fn start(post: &Post, work: impl FnOnce(&Post) + Send + 'static) {
    let post = post.clone();
    let _ = std::thread::Builder::new().spawn(move || work(&post));
}

fn put(post: &Post, place: Place, group: Option<Group>) {
    if let Some(group) = group {
        let _ = post.send((place, group));
    }
}

fn hosts(which: Hosts) -> Option<Group> {
    let mut daemon = Daemon::dial(&Layout::for_client()).ok()?;
    let reply::Kind::Hosts(all) = daemon.request(request::Kind::Hosts(Empty {})).ok()? else {
        return None;
    };
    let fits = |h: &&HostInfo| {
        let drained = h.load.as_ref().is_some_and(|l| l.draining);
        let up = matches!(h.state(), HostState::Up | HostState::Suspect);
        match which {
            Hosts::All => true,
            Hosts::Usable => up,
            Hosts::Undrained => up && !drained,
            Hosts::Drained => drained,
        }
    };
    let items = all
        .hosts
        .iter()
        .filter(fits)
        .map(|h| Item::new(&h.name, about(h)));
    Some(Group {
        tag: "hosts",
        title: "host",
        items: items.collect(),
    })
}

fn about(h: &HostInfo) -> String {
    let here = if h.local { ", this one" } else { "" };
    match (h.state(), &h.load) {
        (HostState::Up | HostState::Suspect, Some(l)) => format!(
            "{}, load {}, {} cores{here}",
            if l.draining { "drained" } else { "up" },
            human::number(l.load1),
            l.cores
        ),
        (HostState::Down, _) => format!("down{here}"),
        (HostState::Left, _) => format!("left{here}"),
        _ => format!("up{here}"),
    }
}

/// Jobs of one's own, the latest first.
fn page(states: &[State]) -> Option<Page> {
    let list = List {
        which: Some(Selection {
            user: sessions::me().ok()?,
            states: states.iter().map(|s| *s as i32).collect(),
            ..Selection::default()
        }),
        ended: states.iter().any(|s| job::is_over(*s)),
        sort: "-id".into(),
        limit: MOST as u32,
        ..List::default()
    };
    batch::list::fetch(&list).ok()
}

fn jobs(which: Which) -> Option<Group> {
    let page = page(which.states)?;
    let fits = |j: &&Job| which.held.is_none_or(|held| is_held(j) == held);
    let items = page.jobs.iter().filter(fits).map(|j| {
        let state = job::state_name(j.state());
        let name = match j.name.as_str() {
            "" => String::new(),
            name => format!(" {name}:"),
        };
        Item::new(job::name(j.id, j.task), format!("{state}{name} {}", j.command))
    });
    Some(Group {
        tag: "jobs",
        title: "job",
        items: items.collect(),
    })
}

/// Whether somebody holds it: it says "held", and by whom.
fn is_held(j: &Job) -> bool {
    j.reason.split(' ').next() == Some("held")
}

/// A property of one's jobs, each value once.
fn labels(of: fn(&Job) -> &String) -> Option<Group> {
    let all: Vec<State> = job::STATES.iter().map(|(s, _)| *s).collect();
    let page = page(&all)?;
    let values: BTreeSet<&String> = page.jobs.iter().map(of).filter(|v| !v.is_empty()).collect();
    Some(Group {
        tag: "names",
        title: "name",
        items: values.into_iter().map(|v| Item::new(v, "")).collect(),
    })
}

/// Sessions of one's own: at first without their commands, which take longer.
fn own_sessions(post: &Post, place: Place, help: bool) {
    let (Ok(me), Ok(mut all)) = (sessions::me(), sessions::fetch()) else {
        return;
    };
    all.sessions.retain(|s| s.user == me);
    all.sessions.truncate(MOST);
    let group = |command: &dyn Fn(&libqueue::wire::SessionInfo) -> String| Group {
        tag: "sessions",
        title: "session",
        items: all
            .sessions
            .iter()
            .map(|s| {
                let age = human::age(crate::command::jobs::age_ms(s));
                Item::new(sessions::id(&s.id), format!("{}, {age}{}", s.host, command(s)))
            })
            .collect(),
    };
    put(post, place, Some(group(&|_| String::new())));
    if help && !all.sessions.is_empty() && all.sessions.len() <= LOOKED_AT {
        let seen = sessions::look_at(&all.sessions.iter().collect::<Vec<_>>(), false, &me);
        let command = |s: &_| {
            let looked = seen.of(s).map(crate::command::jobs::command);
            looked.map_or_else(String::new, |c| format!(": {c}"))
        };
        put(post, place, Some(group(&command)));
    }
}

fn classes() -> Option<Group> {
    let job_reply::Kind::Classes(all) = leader::reply(query::Kind::Classes(Empty {})).ok()? else {
        return None;
    };
    let items = all
        .classes
        .iter()
        .map(|c| Item::new(&c.name, format!("priority {}, retries {}", c.priority, c.retries)));
    Some(Group {
        tag: "classes",
        title: "class",
        items: items.collect(),
    })
}

fn limits() -> Option<Group> {
    let ask = query::Kind::Limits(libqueue::wire::job::LimitsAsk::default());
    let job_reply::Kind::Limits(all) = leader::reply(ask).ok()? else {
        return None;
    };
    let items = all.limits.iter().map(|l| {
        let total = l
            .total
            .map_or_else(|| "not limited".to_owned(), |n| format!("{n} at once"));
        Item::new(&l.name, total)
    });
    Some(Group {
        tag: "limits",
        title: "limit",
        items: items.collect(),
    })
}
