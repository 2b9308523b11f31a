//! What the verbs about batch jobs ask for. Pure: the words of a verb in, messages for the leader out. `me` stands
//! for the asker until he is known.

use super::table::Verb;
use super::{Given, View, host, none, signal, view};
use crate::messages::Failure;
use crate::need;
use crate::options::Id;
use libqueue::job;
use libqueue::wire::Need;
use libqueue::wire::job::{
    Act, Change, Deed, History, IdRange, LimitsAsk, List, Restart, Selection, StatsAsk, Wait, mail_when,
};

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum JobAsk {
    /// `queue explain ID`.
    Explain {
        /// Which.
        which: Selection,
        /// As JSON.
        json: bool,
    },
    /// `queue wait`.
    Wait {
        /// For which.
        wait: Wait,
        /// Say nothing.
        quiet: bool,
        /// As JSON.
        json: bool,
    },
    /// `queue hold`, `release`, `suspend`, `resume`, `retry`, `delete`, `modify`.
    Act {
        /// What.
        act: Act,
        /// As JSON.
        json: bool,
    },
    /// `queue stats`.
    Stats {
        /// What.
        ask: StatsAsk,
        /// How it is shown.
        view: View,
    },
    /// `queue history`.
    History {
        /// What.
        ask: History,
        /// As JSON.
        json: bool,
    },
    /// `queue history --export FILE`.
    Export {
        /// The file.
        file: String,
    },
    /// `queue limits`.
    Limits {
        /// What.
        ask: LimitsAsk,
        /// As JSON.
        json: bool,
    },
    /// `queue classes`.
    Classes {
        /// As JSON.
        json: bool,
    },
}

const fn named(name: &'static str) -> Id {
    Id::Named(name)
}

/// Numbers among the words.
pub(super) fn ids(words: &[String]) -> Result<Vec<IdRange>, Failure> {
    let mut all = Vec::new();
    for w in words {
        all.extend(job::ids(w).map_err(Failure::own)?);
    }
    Ok(all)
}

/// Which jobs are meant, by number and by what they have in common. The numbers are those of `words`.
pub(super) fn selection(given: &Given, words: &[String]) -> Result<Selection, Failure> {
    let text = |id| given.value(id).unwrap_or_default().to_owned();
    let mut states = Vec::new();
    for name in text(named("state")).split(',').filter(|s| !s.is_empty()) {
        let state = job::state(name).ok_or_else(|| {
            let all: Vec<&str> = job::STATES.iter().map(|(_, n)| *n).collect();
            Failure::own(format!("--state: `{name}` is no state: {}", all.join(", ")))
        })?;
        states.push(state as i32);
    }
    Ok(Selection {
        ids: ids(words)?,
        all: given.has(Id::All),
        user: text(Id::User),
        name: text(named("name")),
        group: text(named("group")),
        states,
        class: text(named("class")),
        host: given.value(Id::Host).map(host).transpose()?.unwrap_or_default(),
        words: Vec::new(),
    })
}

/// Whether anything is said of which jobs are meant.
pub(super) fn is_said(s: &Selection) -> bool {
    *s != Selection::default()
}

fn number<T: std::str::FromStr>(given: &Given, id: Id, name: &str) -> Result<Option<T>, Failure> {
    given
        .value(id)
        .map(|v| {
            v.parse()
                .map_err(|_| Failure::own(format!("{name}: `{v}` is no such number")))
        })
        .transpose()
}

fn duration(given: &Given, id: Id, name: &str) -> Result<Option<u64>, Failure> {
    given
        .value(id)
        .map(|v| libqueue::duration::parse(v).map_err(|e| Failure::own(format!("{name}: {e}"))))
        .transpose()
}

/// By what `queue jobs` sorts.
pub(crate) const SORT_KEYS: [&str; 9] = [
    "id",
    "priority",
    "state",
    "user",
    "name",
    "host",
    "submitted",
    "started",
    "time",
];

/// The list that `queue jobs` asks for.
pub(super) fn list(given: &Given) -> Result<List, Failure> {
    let sort = given.value(named("sort")).unwrap_or_default();
    let key = sort.strip_prefix('-').unwrap_or(sort);
    if !sort.is_empty() && !SORT_KEYS.contains(&key) {
        return Err(Failure::own(format!(
            "--sort: `{sort}` is none of {}",
            SORT_KEYS.join(", ")
        )));
    }
    Ok(List {
        which: Some(selection(given, &given.words)?),
        tasks: given.has(named("tasks")) || given.words.iter().any(|w| w.contains('.')),
        ended: given.has(named("ended")),
        sort: sort.to_owned(),
        limit: number(given, named("limit"), "--limit")?.unwrap_or_default(),
        offset: number(given, named("offset"), "--offset")?.unwrap_or_default(),
        watch: false,
    })
}

/// Reads the words of a verb that is about batch jobs alone; `None`: it is not.
pub(super) fn ask(verb: &'static Verb, given: &Given, json: bool) -> Option<Result<JobAsk, Failure>> {
    let deed = match verb.name {
        "hold" => Deed::Hold,
        "release" => Deed::Release,
        "suspend" => Deed::Suspend,
        "resume" => Deed::Resume,
        "retry" => Deed::Retry,
        "delete" => Deed::Delete,
        "modify" => Deed::Modify,
        "wait" => return Some(wait(verb, given, json)),
        "stats" => return Some(stats(verb, given, json)),
        "history" => return Some(history(given, json)),
        "limits" => return Some(limits(given, json)),
        "classes" => return Some(none(verb, &given.words).map(|()| JobAsk::Classes { json })),
        _ => return None,
    };
    Some(act(verb, given, deed, json))
}

/// What is needed to know which jobs are meant.
fn meant(verb: &Verb, given: &Given) -> Result<Selection, Failure> {
    let which = selection(given, &given.words)?;
    if is_said(&which) {
        return Ok(which);
    }
    Err(Failure::own(format!(
        "`queue {0}` needs to know which jobs: IDs as 12, 12.3 or 10-20 (`queue jobs` lists them), --group, --name, --user, --class, --state, --host, or --all",
        verb.name
    )))
}

fn act(verb: &'static Verb, given: &Given, deed: Deed, json: bool) -> Result<JobAsk, Failure> {
    let mut act = Act {
        deed: deed as i32,
        may_double: given.has(named("may-double")),
        confirm_dead: given.has(named("confirm-dead")),
        ..Act::default()
    };
    if deed == Deed::Modify {
        let change = change(given)?;
        if change == Change::default() {
            return Err(Failure::own(
                "`queue modify` needs something to change: --priority, --time, --mem, ... (`queue modify --help`)",
            ));
        }
        act.change = Some(change);
        // Here these name what is to be, not which jobs are meant.
        let which = Selection {
            ids: ids(&given.words)?,
            all: given.has(Id::All),
            ..Selection::default()
        };
        if !is_said(&which) {
            return Err(Failure::own(
                "`queue modify` needs IDs of jobs (`queue jobs` lists them), or --all",
            ));
        }
        act.which = Some(which);
    } else {
        act.which = Some(meant(verb, given)?);
    }
    Ok(JobAsk::Act { act, json })
}

fn change(given: &Given) -> Result<Change, Failure> {
    let text = |id| given.value(id).map(str::to_owned);
    let mut need = None::<Need>;
    if let Some(n) = number(given, named("cores"), "--cores")? {
        need.get_or_insert_default().cores = n;
    }
    if let Some(n) = number(given, named("gpus"), "--gpus")? {
        need.get_or_insert_default().gpus = n;
    }
    if let Some(v) = given.value(named("mem")) {
        need.get_or_insert_default().mem =
            libqueue::size::parse(v).map_err(|e| Failure::own(format!("--mem: {e}")))?;
    }
    if let Some(v) = given.value(Id::Expr) {
        need::expression("-R", v)?;
        need.get_or_insert_default().expr = v.to_owned();
    }
    let mail = given.value(named("mail")).map(mail).transpose()?;
    let restart = given
        .value(named("restart"))
        .map(|v| match v {
            "restart" => Ok(Restart::Restart as i32),
            "fail" => Ok(Restart::Fail as i32),
            "ask" => Ok(Restart::Ask as i32),
            _ => Err(Failure::own(format!(
                "--restart: `{v}` is none of restart, fail, ask"
            ))),
        })
        .transpose()?;
    Ok(Change {
        priority: number(given, named("priority"), "--priority")?,
        need,
        time_ms: duration(given, named("time"), "--time")?,
        retries: number(given, named("retries"), "--retries")?,
        name: text(named("name")),
        group: text(named("group")),
        at_ms: None,
        host: given
            .value(Id::Host)
            .map(|h| if h == "+" { Ok(String::new()) } else { host(h) })
            .transpose()?,
        at_once: number(given, named("at-once"), "--at-once")?,
        mail,
        restart,
        class: text(named("class")),
    })
}

/// `begin,end,fail`, `all`, `never`.
pub(crate) fn mail(text: &str) -> Result<u32, Failure> {
    let mut bits = mail_when::NEVER;
    for word in text.split(',') {
        bits |= match word.trim() {
            "begin" => mail_when::BEGIN,
            "end" => mail_when::END,
            "fail" => mail_when::FAIL,
            "all" => mail_when::BEGIN | mail_when::END | mail_when::FAIL,
            "never" => mail_when::NEVER,
            other => {
                return Err(Failure::own(format!(
                    "--mail: `{other}` is none of begin, end, fail, all, never"
                )));
            }
        };
    }
    Ok(bits)
}

fn wait(verb: &'static Verb, given: &Given, json: bool) -> Result<JobAsk, Failure> {
    Ok(JobAsk::Wait {
        wait: Wait {
            which: Some(meant(verb, given)?),
            any: given.has(named("any")),
            follow: false,
        },
        quiet: given.has(named("quiet")),
        json,
    })
}

fn stats(verb: &'static Verb, given: &Given, json: bool) -> Result<JobAsk, Failure> {
    none(verb, &given.words)?;
    Ok(JobAsk::Stats {
        ask: StatsAsk {
            window_ms: duration(given, named("window"), "--window")?.unwrap_or_default(),
        },
        view: view(given, json)?,
    })
}

fn history(given: &Given, json: bool) -> Result<JobAsk, Failure> {
    if let Some(file) = given.value(named("export")) {
        return Ok(JobAsk::Export {
            file: file.to_owned(),
        });
    }
    let (numbers, words): (Vec<String>, Vec<String>) =
        given.words.iter().cloned().partition(|w| job::is_id(w));
    let text = match given.value(named("text")) {
        Some(t) => t.to_owned(),
        None => words.join(" "),
    };
    Ok(JobAsk::History {
        ask: History {
            which: Some(selection(given, &numbers)?),
            since_ms: duration(given, named("since"), "--since")?.unwrap_or_default(),
            until_ms: duration(given, named("until"), "--until")?.unwrap_or_default(),
            text,
            limit: number(given, named("limit"), "--limit")?.unwrap_or_default(),
            offset: number(given, named("offset"), "--offset")?.unwrap_or_default(),
            attempts: given.has(named("attempts")),
        },
        json,
    })
}

fn limits(given: &Given, json: bool) -> Result<JobAsk, Failure> {
    let ask = match given.words.as_slice() {
        [] => LimitsAsk::default(),
        [one] => {
            let (name, total) = one.rsplit_once([':', '=']).ok_or_else(|| {
                Failure::own(format!(
                    "`queue limits {one}`: write {one}:3 to set it, {one}:none to remove it"
                ))
            })?;
            let total = match total {
                "none" | "" => None,
                n => Some(n.parse().map_err(|_| {
                    Failure::own(format!("`queue limits {one}`: `{n}` is no number of units"))
                })?),
            };
            LimitsAsk {
                set: name.to_owned(),
                total,
            }
        }
        _ => return Err(Failure::own("`queue limits` sets one limit at a time: NAME:N")),
    };
    Ok(JobAsk::Limits { ask, json })
}

/// What `queue kill` asks of the leader.
pub(super) fn kill(given: &Given, words: &[String]) -> Result<Act, Failure> {
    Ok(Act {
        deed: Deed::Kill as i32,
        which: Some(selection(given, words)?),
        signal: given.value(Id::Signal).map_or(Ok(0), signal)?.into(),
        ..Act::default()
    })
}
