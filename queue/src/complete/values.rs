//! What values options have, and what stands behind a verb. Pure. Most of it follows from the tables: `HOST` in one
//! is a host here.

use super::line::{Plan, Want};
use super::look::Source;
use crate::options::{Id, Opt};
use crate::verbs::jobs::SORT_KEYS;
use crate::verbs::table::Verb;
use libqueue::complete::{Group, Item};
use libqueue::job;
use libqueue::wire::job::State;
use nix::sys::signal::Signal;

/// Which hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hosts {
    /// All members.
    All,
    /// Those where something can be started.
    Usable,
    /// Those that can be drained.
    Undrained,
    /// Those that are drained.
    Drained,
}

/// Which jobs and sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Which {
    /// Jobs in one of these states.
    pub states: &'static [State],
    /// Only those that are held, or only those that are not.
    pub held: Option<bool>,
    /// Also sessions.
    pub sessions: bool,
}

const LIVE: &[State] = &[
    State::Waiting,
    State::Ready,
    State::Running,
    State::Suspended,
    State::Lost,
    State::Buried,
];
const OVER: &[State] = &[State::Done, State::Failed, State::Killed];
const ALL: &[State] = &[
    State::Waiting,
    State::Ready,
    State::Running,
    State::Suspended,
    State::Lost,
    State::Buried,
    State::Done,
    State::Failed,
    State::Killed,
];

/// Those for which a verb does something.
fn which(verb: &str) -> Which {
    use State::{Buried, Done, Failed, Killed, Lost, Ready, Running, Suspended, Waiting};
    let (states, held, sessions): (&'static [State], _, _) = match verb {
        "show" => (ALL, None, true),
        "log" => (
            &[Running, Suspended, Lost, Buried, Done, Failed, Killed],
            None,
            false,
        ),
        "wait" => (&[Waiting, Ready, Running, Suspended, Lost], None, false),
        "hold" => (&[Waiting, Ready], Some(false), false),
        "release" => (&[Waiting, Ready], Some(true), false),
        "explain" => (&[Waiting, Ready], None, false),
        "suspend" => (&[Running], None, false),
        "resume" => (&[Suspended], None, false),
        "retry" => (&[Lost, Buried, Failed, Killed], None, false),
        "delete" => (&[Waiting, Ready, Buried, Done, Failed, Killed], None, false),
        "history" => (OVER, None, false),
        "jobs" | "modify" => (LIVE, None, false),
        "attach" | "detach" => (&[Running, Suspended], None, true),
        _ => (LIVE, None, true),
    };
    Which {
        states,
        held,
        sessions,
    }
}

fn words(tag: &'static str, title: &'static str, all: &[(&str, &str)]) -> Want {
    Want::Words(Group {
        tag,
        title,
        items: all.iter().map(|(v, h)| Item::new(*v, *h)).collect(),
    })
}

/// `+`.
pub fn any_host() -> Want {
    words("hosts", "host", &[("+", "the least loaded host")])
}

/// Whatever the cluster knows of a kind.
fn known(source: Source) -> Plan {
    Plan::of(vec![Want::Known(source)])
}

/// The last of several values with commas between them; the others stay, and need not be said again.
fn last_of(text: &str, plan: Plan) -> Plan {
    let cut = text.rfind(',').map_or(0, |i| i + 1);
    let mut plan = plan.behind(&text[..cut]);
    let before = text[..cut].split(',').filter(|w| !w.is_empty());
    plan.given.extend(before.map(str::to_owned));
    plan
}

/// Values of an option, of which `text` is typed. `verb`: that whose option it is.
pub fn of_option(opt: &Opt, verb: Option<&Verb>, text: &str) -> Plan {
    let changes = verb.is_none_or(|v| v.name == "modify");
    match opt.id {
        Id::Host | Id::Prefer if changes => {
            let mut plan = known(Source::Hosts(Hosts::Usable));
            if opt.id == Id::Host {
                plan.wants.push(any_host());
            }
            plan
        }
        Id::Host => known(Source::Hosts(Hosts::All)),
        Id::Class => {
            let two = words(
                "classes",
                "class",
                &[("now", "at once"), ("wait", "when there is room")],
            );
            Plan::of(vec![two, Want::Known(Source::Classes)])
        }
        Id::Named("class") => known(Source::Classes),
        Id::Group | Id::Named("group") => known(Source::Groups),
        Id::Named("name") if !changes => known(Source::Names),
        Id::After | Id::AfterOk | Id::AfterAny | Id::AfterFail => {
            // `ok:12,15`.
            let cut = text.rfind(':').map_or(0, |i| i + 1);
            let ids = Which {
                states: LIVE,
                held: None,
                sessions: false,
            };
            last_of(&text[cut..], known(Source::Ids(ids))).behind(&text[..cut])
        }
        Id::Limit => known(Source::Limits),
        Id::Mail | Id::Named("mail") => last_of(text, Plan::of(vec![words("values", "when", MAIL)])),
        Id::Restart | Id::Named("restart") => Plan::of(vec![words("values", "policy", RESTART)]),
        Id::Named("state") => {
            let all = job::STATES.map(|(_, name)| (name, ""));
            last_of(text, Plan::of(vec![words("states", "state", &all)]))
        }
        Id::Named("sort") => {
            let all: Vec<(&str, &str)> = SORT_KEYS.iter().map(|k| (*k, "")).collect();
            let cut = usize::from(text.starts_with('-'));
            Plan::of(vec![words("values", "key", &all)]).behind(&text[..cut])
        }
        Id::Signal | Id::Warning => {
            let all = Signal::iterator().map(|s| Item::new(s.as_str().trim_start_matches("SIG"), ""));
            Plan::of(vec![Want::Words(Group {
                tag: "signals",
                title: "signal",
                items: all.collect(),
            })])
        }
        Id::SshOption => ssh(text),
        Id::User => Plan::of(vec![words("users", "user", &[("me", "you")]), Want::Users]),
        _ => match opt.value {
            "HOST" => known(Source::Hosts(Hosts::All)),
            "USER" => Plan::of(vec![Want::Users]),
            "FILE" => Plan::of(vec![Want::Files]),
            "CHAR" => Plan::of(vec![words(
                "values",
                "character",
                &[("none", "no character is special")],
            )]),
            _ => Plan::default(),
        },
    }
}

const MAIL: &[(&str, &str)] = &[
    ("begin", "when it starts"),
    ("end", "when it has ended well"),
    ("fail", "when it has failed"),
    ("all", "all of them"),
    ("never", "none of them"),
];
const RESTART: &[(&str, &str)] = &[
    ("restart", "start it again elsewhere"),
    ("fail", "it has failed"),
    ("ask", "wait until somebody decides"),
];

/// `KEY=VALUE` of ssh, of those that count.
fn ssh(text: &str) -> Plan {
    match text.split_once('=') {
        None => Plan::of(vec![
            words(
                "values",
                "setting of ssh",
                &[
                    ("User=", "the account there"),
                    ("RequestTTY=", "a terminal there"),
                    ("ConnectTimeout=", "seconds that a host may take"),
                    ("SendEnv=", "variables that go along"),
                    ("SetEnv=", "NAME=VALUE for the command"),
                    ("StdinNull=", "stdin from /dev/null"),
                    ("ForwardX11=", "programs there open their windows here"),
                    ("ForwardAgent=", "ssh there asks the ssh-agent here"),
                ],
            ),
            Want::Open,
        ]),
        Some((key, _)) => {
            let plan = match key.to_ascii_lowercase().as_str() {
                "requesttty" => Plan::of(vec![words(
                    "values",
                    "value",
                    &[("yes", ""), ("no", ""), ("force", "")],
                )]),
                "stdinnull" | "forwardx11" | "forwardagent" => {
                    Plan::of(vec![words("values", "value", &[("yes", ""), ("no", "")])])
                }
                "user" => Plan::of(vec![Want::Users]),
                _ => Plan::default(),
            };
            plan.behind(&text[..=key.len()])
        }
    }
}

/// What may stand behind a verb and these words, where `text` is typed.
pub fn of_operand(verb: &Verb, before: &[String], text: &str) -> Plan {
    // As the usages say it: `ID...`, `[ID...]`, `HOST...`; a `HOST` further behind is an option's.
    let mut all = verb.usage.iter().flat_map(|u| u.split([' ', '[', ']']));
    let ids = all.any(|w| w.trim_end_matches("...") == "ID");
    let hosts = verb.usage.iter().any(|u| u.starts_with("HOST"));
    let mut plan = Plan::default();
    if before.is_empty() {
        // What is written in small letters at the begin of a usage is meant as it is.
        let first = verb.usage.iter().filter_map(|u| u.split(' ').next());
        let literal: Vec<(&str, &str)> = first
            .filter(|w| w.starts_with(|c: char| c.is_ascii_lowercase()))
            .map(|w| (w, ""))
            .collect();
        if !literal.is_empty() {
            plan.wants.push(words("verbs", "what", &literal));
        }
    }
    match verb.name {
        "hosts" if before == ["remove"] => plan.wants.push(Want::Known(Source::Hosts(Hosts::All))),
        "drain" => plan.wants.push(Want::Known(Source::Hosts(Hosts::Undrained))),
        "undrain" => plan.wants.push(Want::Known(Source::Hosts(Hosts::Drained))),
        "limits" if before.is_empty() => {
            plan.wants.push(Want::Known(Source::Limits));
            // `NAME:N`.
            plan.wants.push(Want::Open);
        }
        _ if hosts => plan.wants.push(Want::Known(Source::Hosts(Hosts::Usable))),
        name if ids => {
            plan.wants.push(Want::Known(Source::Ids(which(name))));
            plan = last_of(text, plan);
        }
        _ => {}
    }
    let words = before.iter().flat_map(|w| w.split(','));
    plan.given.extend(words.map(str::to_owned));
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{BATCH, LAUNCH, RSH};
    use crate::verbs;
    use crate::verbs::table::{VERBS, by_name};
    use std::ffi::OsString;

    /// Values that only who types them knows.
    const FREE: &[&str] = &[
        "N",
        "[N]",
        "SIZE",
        "DUR",
        "[=DUR]",
        "TIME",
        "RANGE",
        "EXPR",
        "STRING",
        "ADDRESS",
        "PORT",
        "TEXT",
        "WORDS",
        "[SECONDS]",
        "NAME",
        "SIG[@DUR]",
        "CHAR",
    ];

    #[test]
    fn every_value_is_completed_or_known_to_be_free() {
        let launch = LAUNCH.iter().chain(BATCH).chain(RSH).map(|o| (o, None));
        let verbs = VERBS
            .iter()
            .flat_map(|v| v.options.iter().map(move |o| (o, Some(v))));
        for (o, verb) in launch.chain(verbs).filter(|(o, _)| !o.value.is_empty()) {
            let plan = of_option(o, verb, "");
            assert!(
                !plan.wants.is_empty() || FREE.contains(&o.value),
                "{:?} {} of {:?}",
                o.id,
                o.value,
                verb.map(|v| v.name)
            );
        }
    }

    /// What is offered is what the parsers take.
    #[test]
    fn fixed_values_are_taken() {
        let run = |verb: &str, line: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            verbs::ask(by_name(verb).unwrap(), &words, false)
        };
        let fixed = |verb: &str, long: &str| -> Vec<String> {
            let v = by_name(verb).unwrap();
            let opt = v.options.iter().find(|o| o.long.contains(&long)).unwrap();
            let plan = of_option(opt, Some(v), "");
            let words = plan.wants.into_iter().flat_map(|w| match w {
                Want::Words(g) => g.items,
                _ => Vec::new(),
            });
            words.map(|i| i.value).collect()
        };
        for (verb, long, least) in [
            ("modify", "mail", 5),
            ("modify", "restart", 3),
            ("jobs", "state", 9),
            ("jobs", "sort", 9),
            ("kill", "signal", 20),
        ] {
            let all = fixed(verb, long);
            assert!(all.len() >= least, "--{long}: {all:?}");
            for value in all {
                let line = format!("12 --{long} {value}");
                assert!(run(verb, &line).is_ok(), "{verb} {line}");
                assert!(
                    run(verb, &format!("12 --{long} x{value}")).is_err(),
                    "{verb} x{value}"
                );
            }
        }
    }

    #[test]
    fn every_verb_knows_what_it_takes() {
        for v in VERBS {
            let plan = of_operand(v, &[], "");
            let takes = v.usage.iter().any(|u| {
                let first = u.trim_start_matches('[');
                first.starts_with("ID") || first.starts_with("HOST") || u.starts_with(char::is_lowercase)
            });
            assert!(!takes || !plan.wants.is_empty(), "{}", v.name);
        }
    }
}
