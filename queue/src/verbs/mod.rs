//! What a verb's words ask for. Pure: words in, an [`Ask`] or an error out. What is done about it is
//! [`crate::command`]'s.

pub mod attach;
pub mod inner;
pub mod jobs;
pub mod log;
pub mod table;

use crate::messages::Failure;
use crate::nearest;
use crate::need;
use crate::options::{Id, Opt};
use jobs::JobAsk;
use libqueue::job;
use libqueue::wire::Place;
use libqueue::wire::job::{Act, List};
use nix::sys::signal::Signal;
use std::ffi::OsString;
use std::str::FromStr as _;
use std::time::Duration;
use table::Verb;

/// How often is shown again what is watched, if nothing is said.
const WATCH: Duration = Duration::from_secs(2);

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// `queue hosts`.
    Hosts {
        /// How it is shown.
        view: View,
        /// With all columns.
        long: bool,
        /// Only those for which this holds.
        expr: Option<String>,
    },
    /// `queue hosts remove NAME`.
    RemoveHost {
        /// The host.
        name: String,
        /// As JSON.
        json: bool,
    },
    /// `queue explain`.
    Explain {
        /// What would be asked of the daemon.
        place: Place,
        /// As JSON.
        json: bool,
    },
    /// `queue jobs`.
    Jobs {
        /// How it is shown.
        view: View,
        /// Which sessions; `None`: only batch jobs are meant.
        filter: Option<Filter>,
        /// Which batch jobs.
        list: Box<List>,
    },
    /// What is about batch jobs alone.
    Job(Box<JobAsk>),
    /// `queue show`.
    Show {
        /// Which sessions.
        ids: Vec<String>,
        /// With their environment.
        env: bool,
        /// As JSON.
        json: bool,
    },
    /// `queue kill`.
    Kill {
        /// Which sessions; `None`: only batch jobs are meant.
        which: Option<Which>,
        /// Which batch jobs; `None`: only sessions are meant.
        jobs: Option<Box<Act>>,
        /// The numbers of those jobs as typed: one that is no job's may be the beginning of a session's id.
        numbers: Vec<String>,
        /// Only this signal; 0: end them.
        signal: u8,
        /// As JSON.
        json: bool,
    },
    /// `queue drain` and `queue undrain`.
    Drain {
        /// The hosts.
        hosts: Vec<String>,
        /// Why; `None`: not any more.
        reason: Option<String>,
        /// As JSON.
        json: bool,
    },
    /// `queue admin rotate-keys`.
    RotateKeys {
        /// As JSON.
        json: bool,
    },
}

/// How something is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct View {
    /// As JSON.
    pub json: bool,
    /// Again and again.
    pub watch: Option<Duration>,
}

/// Which sessions, by what they have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this user's; `me` is the one who asks.
    pub user: Option<String>,
    /// Only on this host.
    pub host: Option<String>,
}

/// Which sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// These.
    Ids(Vec<String>),
    /// All that fit.
    Filter(Filter),
}

/// The words behind a verb, taken apart.
pub(crate) struct Given {
    pub(crate) found: Vec<(Id, String)>,
    pub(crate) words: Vec<String>,
}

impl Given {
    fn has(&self, id: Id) -> bool {
        self.found.iter().any(|(i, _)| *i == id)
    }

    fn value(&self, id: Id) -> Option<&str> {
        let mut all = self.found.iter().rev();
        all.find(|(i, _)| *i == id).map(|(_, v)| v.as_str())
    }
}

/// Whether `--help` is among the words of a verb, before a `--`.
pub fn wants_help(words: &[OsString]) -> bool {
    let mut options = words.iter().take_while(|w| *w != "--");
    options.any(|w| w == "--help")
}

/// Reads the words of any verb but `explain`, whose options are the launch form's.
///
/// # Errors
/// One line for the user.
pub fn ask(verb: &'static Verb, words: &[OsString], json: bool) -> Result<Ask, Failure> {
    let given = take_apart(verb, words)?;
    let json = json || given.has(Id::Json);
    let usage = || usage(verb);
    if let Some(ask) = jobs::ask(verb, &given, json) {
        return ask.map(|a| Ask::Job(Box::new(a)));
    }
    Ok(match verb.name {
        "hosts" => return hosts(&given, json),
        "jobs" => {
            if let Some(w) = given.words.iter().find(|w| !job::is_id(w)) {
                none(verb, std::slice::from_ref(w))?;
            }
            let only_jobs = !given.words.is_empty()
                || [
                    "group", "name", "class", "state", "tasks", "ended", "sort", "limit", "offset",
                ]
                .iter()
                .any(|n| given.has(Id::Named(n)));
            Ask::Jobs {
                view: view(&given, json)?,
                filter: if only_jobs { None } else { Some(filter(&given)?) },
                list: Box::new(jobs::list(&given)?),
            }
        }
        "show" if !given.words.is_empty() => Ask::Show {
            env: given.has(Id::Env),
            ids: given.words,
            json,
        },
        "kill" => kill(&given, json)?,
        "drain" | "undrain" if !given.words.is_empty() => Ask::Drain {
            reason: (verb.name == "drain").then(|| given.value(Id::Reason).unwrap_or_default().to_owned()),
            hosts: given.words.iter().map(|h| host(h)).collect::<Result<_, _>>()?,
            json,
        },
        "admin" if given.words == ["rotate-keys"] => Ask::RotateKeys { json },
        _ => return Err(usage()),
    })
}

/// Reads the words of `queue explain` behind which a batch job's number stands.
///
/// # Errors
/// One line for the user.
pub fn explain_job(words: &[OsString], json: bool) -> Result<Ask, Failure> {
    let verb = table::by_name("explain").ok_or_else(|| Failure::own("no such verb"))?;
    let given = take_apart(verb, words)?;
    Ok(Ask::Job(Box::new(JobAsk::Explain {
        which: jobs::selection(&given, &given.words)?,
        json: json || given.has(Id::Json),
    })))
}

fn hosts(given: &Given, json: bool) -> Result<Ask, Failure> {
    let words: Vec<&str> = given.words.iter().map(String::as_str).collect();
    match words[..] {
        [] => {
            if let Some(e) = given.value(Id::Expr) {
                need::expression("-R", e)?;
            }
            Ok(Ask::Hosts {
                view: view(given, json)?,
                long: given.has(Id::Long),
                expr: given.value(Id::Expr).map(str::to_owned),
            })
        }
        ["remove", name] => Ok(Ask::RemoveHost {
            name: name.to_owned(),
            json,
        }),
        ["remove", ..] => Err(Failure::own("`queue hosts remove` takes one NAME")),
        [other, ..] => Err(Failure::own(format!(
            "`queue hosts` does not know `{other}`: it takes options and `remove NAME` (a host named hosts is reached by `qsh hosts`)"
        ))),
    }
}

/// Numbers are batch jobs, everything else are sessions; what has no word for sessions means jobs alone.
fn kill(given: &Given, json: bool) -> Result<Ask, Failure> {
    let (numbers, sessions): (Vec<String>, Vec<String>) =
        given.words.iter().cloned().partition(|w| job::is_id(w));
    let only_jobs = ["group", "name", "class", "state"]
        .iter()
        .any(|n| given.has(Id::Named(n)));
    let filtered = only_jobs || given.has(Id::All) || filter(given)? != Filter::default();
    if !given.words.is_empty() && filtered && !sessions.is_empty() {
        return Err(Failure::own(
            "`queue kill` takes IDs of sessions, or --user, --host and --all, not both",
        ));
    }
    let act = jobs::kill(given, &numbers)?;
    let about_jobs = filtered || !numbers.is_empty();
    Ok(Ask::Kill {
        which: match (sessions.is_empty(), numbers.is_empty()) {
            (false, _) => Some(Which::Ids(sessions)),
            (true, false) => None,
            (true, true) if only_jobs => None,
            (true, true) => Some(which(given)?),
        },
        jobs: about_jobs.then(|| Box::new(act)),
        numbers,
        signal: given.value(Id::Signal).map_or(Ok(0), signal)?,
        json,
    })
}

fn which(given: &Given) -> Result<Which, Failure> {
    let filter = filter(given)?;
    let filtered = given.has(Id::All) || filter != Filter::default();
    match (given.words.is_empty(), filtered) {
        (false, false) => Ok(Which::Ids(given.words.clone())),
        (true, true) => Ok(Which::Filter(Filter {
            user: Some(filter.user.unwrap_or_else(|| "me".to_owned())),
            ..filter
        })),
        (false, true) => Err(Failure::own(
            "`queue kill` takes IDs, or --user, --host and --all, not both",
        )),
        (true, false) => Err(Failure::own(
            "`queue kill` needs an ID (`queue jobs` lists them), or --all, --host or --user",
        )),
    }
}

fn filter(given: &Given) -> Result<Filter, Failure> {
    Ok(Filter {
        user: given.value(Id::User).map(str::to_owned),
        host: given.value(Id::Host).map(host).transpose()?,
    })
}

fn view(given: &Given, json: bool) -> Result<View, Failure> {
    let watch = match given.value(Id::Watch) {
        None => None,
        Some("") => Some(WATCH),
        Some(s) => Some(
            s.parse()
                .ok()
                .and_then(|s| Duration::try_from_secs_f64(s).ok())
                .filter(|d| *d >= Duration::from_millis(100) && *d <= Duration::from_secs(86_400))
                .ok_or_else(|| {
                    Failure::own(format!(
                        "--watch: `{s}` is no number of seconds, from 0.1 to a day"
                    ))
                })?,
        ),
    };
    Ok(View { json, watch })
}

/// `TERM`, `SIGTERM`, `15`.
fn signal(text: &str) -> Result<u8, Failure> {
    let name = text.to_ascii_uppercase();
    let number = match name.parse::<u8>() {
        Ok(n) => Some(n).filter(|n| (1..=64).contains(n)),
        Err(_) => Signal::from_str(&name)
            .or_else(|_| Signal::from_str(&format!("SIG{name}")))
            .ok()
            .map(|s| s as u8),
    };
    number.ok_or_else(|| {
        Failure::own(format!(
            "-s: `{text}` is no signal: TERM, INT, KILL, ... or a number from 1 to 64"
        ))
    })
}

fn host(name: &str) -> Result<String, Failure> {
    if name.is_empty()
        || name == "+"
        || name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control())
    {
        return Err(Failure::own(format!(
            "`{name}` is no host name: `queue hosts` lists them"
        )));
    }
    Ok(name.to_owned())
}

fn none(verb: &Verb, words: &[String]) -> Result<(), Failure> {
    match words.first() {
        None => Ok(()),
        Some(w) => Err(Failure::own(format!(
            "`queue {0}` does not know `{w}` (`queue {0} --help` tells more; a host named `{0}` is reached by `qsh {0}`)",
            verb.name
        ))),
    }
}

fn usage(verb: &Verb) -> Failure {
    Failure::own(format!(
        "usage: queue {0} {1} (`queue {0} --help` tells more)",
        verb.name,
        verb.usage.first().unwrap_or(&"")
    ))
}

/// Options and words of a verb, in any order; behind `--` there are only words.
pub(crate) fn take_apart(verb: &'static Verb, words: &[OsString]) -> Result<Given, Failure> {
    let mut given = Given {
        found: Vec::new(),
        words: Vec::new(),
    };
    let mut rest = words.iter();
    let mut only_words = false;
    while let Some(word) = rest.next() {
        let word = word
            .to_str()
            .ok_or_else(|| Failure::own(format!("`{}` is not valid UTF-8", word.to_string_lossy())))?;
        if only_words || !word.starts_with('-') || word == "-" {
            given.words.push(word.to_owned());
            continue;
        }
        if word == "--" {
            only_words = true;
            continue;
        }
        // `-abc` is `-a -b -c`, of which the last may have its value.
        let (long, mut todo) = match word.strip_prefix("--") {
            Some(name) => (true, name),
            None => (false, &word[1..]),
        };
        while !todo.is_empty() {
            let (name, behind) = if long {
                let (name, value) = todo.split_once('=').map_or((todo, None), |(n, v)| (n, Some(v)));
                (name, value)
            } else {
                let cut = todo.chars().next().map_or(0, char::len_utf8);
                let (name, behind) = todo.split_at(cut);
                (name, Some(behind).filter(|b| !b.is_empty()))
            };
            let dashes = if long { "--" } else { "-" };
            let spelled = format!("{dashes}{name}");
            let opt = find(verb, long, name).ok_or_else(|| {
                let failure = Failure::own(format!(
                    "`queue {0}` does not know {spelled} (`queue {0} --help` lists its options)",
                    verb.name
                ));
                let words = verb.options.iter().flat_map(|o| o.long.iter().copied());
                nearest::option(name, words.filter(|_| long), failure)
            })?;
            todo = "";
            let value = match (opt.value, behind) {
                ("", Some(_)) if long => {
                    return Err(Failure::own(format!("{spelled} takes no value")));
                }
                ("", more) => {
                    todo = more.unwrap_or("");
                    String::new()
                }
                (_, Some(v)) => v.to_owned(),
                (v, None) if v.starts_with('[') => optional(&mut rest),
                (v, None) => rest
                    .next()
                    .and_then(|w| w.to_str())
                    .ok_or_else(|| Failure::own(format!("{spelled} needs a value: {v}")))?
                    .to_owned(),
            };
            given.found.push((opt.id, value));
        }
    }
    Ok(given)
}

/// The next word, if it is a number.
fn optional(rest: &mut std::slice::Iter<'_, OsString>) -> String {
    let next = rest.as_slice().first().and_then(|w| w.to_str());
    match next.filter(|w| w.parse::<f64>().is_ok()) {
        Some(w) => {
            rest.next();
            w.to_owned()
        }
        None => String::new(),
    }
}

fn find(verb: &'static Verb, long: bool, name: &str) -> Option<&'static Opt> {
    verb.options.iter().find(|o| {
        if long {
            o.long.contains(&name)
        } else {
            o.short == name
        }
    })
}

#[cfg(test)]
mod tests;
