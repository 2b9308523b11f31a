use super::*;
use libqueue::wire::job::{Deed, IdRange, Selection, TaskRange, Wait};

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace()
        .map(|w| w.replace('%', " ").into())
        .collect()
}

/// What a line behind `queue` means.
fn meaning(line: &str) -> Result<Ask, Failure> {
    let all = words(line);
    let verb = table::by_name(all[0].to_str().unwrap()).unwrap();
    ask(verb, &all[1..], false)
}

#[test]
fn hosts_and_jobs() {
    let hosts = |watch: Option<f64>, json, long, expr: Option<&str>| Ask::Hosts {
        view: View {
            json,
            watch: watch.map(Duration::from_secs_f64),
        },
        long,
        expr: expr.map(str::to_owned),
    };
    for (typed, means) in [
        ("hosts", hosts(None, false, false, None)),
        ("hosts -l --json", hosts(None, true, true, None)),
        ("hosts --watch", hosts(Some(2.0), false, false, None)),
        ("hosts --watch 5 -l", hosts(Some(5.0), false, true, None)),
        ("hosts --watch=0.5", hosts(Some(0.5), false, false, None)),
        (
            "hosts -lR raid>=200G",
            hosts(None, false, true, Some("raid>=200G")),
        ),
        ("hosts -Rgpus>0", hosts(None, false, false, Some("gpus>0"))),
        (
            "hosts remove h2 --json",
            Ask::RemoveHost {
                name: "h2".into(),
                json: true,
            },
        ),
        (
            "jobs -u me -h h2 --watch 1",
            Ask::Jobs {
                view: View {
                    json: false,
                    watch: Some(Duration::from_secs(1)),
                },
                filter: Some(Filter {
                    user: Some("me".into()),
                    host: Some("h2".into()),
                }),
                list: Box::new(List {
                    which: Some(Selection {
                        user: "me".into(),
                        host: "h2".into(),
                        ..Selection::default()
                    }),
                    ..List::default()
                }),
            },
        ),
    ] {
        assert_eq!(meaning(typed), Ok(means), "{typed}");
    }
}

#[test]
fn sessions_and_hosts() {
    let filter = |user: &str, host: Option<&str>| {
        Which::Filter(Filter {
            user: Some(user.to_owned()),
            host: host.map(str::to_owned),
        })
    };
    // Options mean batch jobs as well; ids of sessions do not.
    let kill = |which: Which, signal: u8| Ask::Kill {
        numbers: Vec::new(),
        jobs: match &which {
            Which::Ids(_) => None,
            Which::Filter(f) => Some(Box::new(Act {
                deed: Deed::Kill as i32,
                which: Some(Selection {
                    all: f.user.as_deref() == Some("me") && f.host.is_none(),
                    user: f.user.clone().filter(|u| u != "me").unwrap_or_default(),
                    host: f.host.clone().unwrap_or_default(),
                    ..Selection::default()
                }),
                signal: signal.into(),
                ..Act::default()
            })),
        },
        which: Some(which),
        signal,
        json: false,
    };
    let ids = |v: &[&str]| v.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    for (typed, means) in [
        (
            "show s1a2 --env 1b3",
            Ask::Show {
                ids: ids(&["s1a2", "1b3"]),
                env: true,
                json: false,
            },
        ),
        ("kill s1a2", kill(Which::Ids(ids(&["s1a2"])), 0)),
        ("kill -s INT s1a2", kill(Which::Ids(ids(&["s1a2"])), 2)),
        ("kill s1a2 --signal=sigusr1", kill(Which::Ids(ids(&["s1a2"])), 10)),
        ("kill -s64 s1a2", kill(Which::Ids(ids(&["s1a2"])), 64)),
        ("kill --all", kill(filter("me", None), 0)),
        ("kill --host h2", kill(filter("me", Some("h2")), 0)),
        ("kill --user bob -h h2 -s 9", kill(filter("bob", Some("h2")), 9)),
        (
            "drain h2 h3 --reason new%disks",
            Ask::Drain {
                hosts: ids(&["h2", "h3"]),
                reason: Some("new disks".into()),
                json: false,
            },
        ),
        (
            "drain -- h2",
            Ask::Drain {
                hosts: ids(&["h2"]),
                reason: Some(String::new()),
                json: false,
            },
        ),
        (
            "undrain h2 --json",
            Ask::Drain {
                hosts: ids(&["h2"]),
                reason: None,
                json: true,
            },
        ),
        ("admin rotate-keys", Ask::RotateKeys { json: false }),
    ] {
        assert_eq!(meaning(typed), Ok(means), "{typed}");
    }
}

#[test]
fn batch_jobs() {
    let range = |from, to| IdRange {
        from,
        to,
        tasks: None,
    };
    let of = |ids: Vec<IdRange>| Selection {
        ids,
        ..Selection::default()
    };
    let act = |deed: Deed, which| {
        Ok(Ask::Job(Box::new(JobAsk::Act {
            act: Act {
                deed: deed as i32,
                which: Some(which),
                ..Act::default()
            },
            json: false,
        })))
    };
    let task = IdRange {
        from: 12,
        to: 12,
        tasks: Some(TaskRange {
            from: 3,
            to: 3,
            step: 1,
        }),
    };
    assert_eq!(
        meaning("hold 12.3 10-20"),
        act(Deed::Hold, of(vec![task, range(10, 20)]))
    );
    assert_eq!(
        meaning("retry --state buried -a"),
        act(
            Deed::Retry,
            Selection {
                all: true,
                states: vec![libqueue::wire::job::State::Buried as i32],
                ..Selection::default()
            }
        )
    );
    assert_eq!(
        meaning("wait 12,15 --any -q"),
        Ok(Ask::Job(Box::new(JobAsk::Wait {
            wait: Wait {
                which: Some(of(vec![range(12, 12), range(15, 15)])),
                any: true,
                follow: false,
            },
            quiet: true,
            json: false,
        })))
    );
    let Ok(Ask::Job(ask)) = explain_job(&words("12 --json"), false) else {
        panic!()
    };
    let JobAsk::Explain { which, json: true } = *ask else {
        panic!()
    };
    assert_eq!(which, of(vec![range(12, 12)]));
    // Numbers are jobs, words with an s are sessions.
    let Ok(Ask::Kill { which, jobs, .. }) = meaning("kill 12 s1a2") else {
        panic!()
    };
    assert_eq!(which, Some(Which::Ids(vec!["s1a2".into()])));
    assert_eq!(jobs.unwrap().which, Some(of(vec![range(12, 12)])));
    let Ok(Ask::Kill {
        which: None,
        jobs: Some(_),
        ..
    }) = meaning("kill --group nightly")
    else {
        panic!()
    };
    let Ok(Ask::Jobs {
        filter: None, list, ..
    }) = meaning("jobs 12 --tasks --sort -started -n 5")
    else {
        panic!()
    };
    assert!(list.tasks && list.sort == "-started" && list.limit == 5);
    let Ok(Ask::Job(ask)) = meaning("history 12 No%space left --since 2h") else {
        panic!()
    };
    let JobAsk::History { ask, .. } = *ask else {
        panic!()
    };
    assert_eq!((ask.text.as_str(), ask.since_ms), ("No space left", 7_200_000));
    let Ok(Ask::Job(ask)) = meaning("limits license:3") else {
        panic!()
    };
    let JobAsk::Limits { ask, .. } = *ask else {
        panic!()
    };
    assert_eq!((ask.set.as_str(), ask.total), ("license", Some(3)));
    let Ok(Ask::Job(ask)) = meaning("modify 12 --priority -5 --mem 2G --mail begin,fail") else {
        panic!()
    };
    let JobAsk::Act { act, .. } = *ask else { panic!() };
    let change = act.change.unwrap();
    assert_eq!(
        (change.priority, change.need.unwrap().mem, change.mail),
        (Some(-5), 2 << 30, Some(5))
    );
    for (typed, part) in [
        ("hold", "needs to know which jobs"),
        ("wait x", "no number of a job"),
        ("hold --state frob", "no state"),
        ("modify 12", "something to change"),
        ("modify --priority 3", "IDs of jobs"),
        ("jobs --sort frob", "none of"),
        ("limits x", "x:3"),
        ("modify 12 --mail often", "none of begin"),
    ] {
        let e = meaning(typed).unwrap_err();
        assert!(
            e.text.contains(part) && !e.text.contains('\n'),
            "{typed}: {}",
            e.text
        );
    }
}

#[test]
fn errors_say_what_is_wrong() {
    for (typed, part) in [
        ("hosts --frob", "--frob"),
        ("hosts -x", "-x"),
        ("hosts uptime", "qsh hosts"),
        ("hosts remove", "one NAME"),
        ("hosts remove a b", "one NAME"),
        ("hosts --watch=x", "no number of seconds"),
        ("hosts --watch 0", "no number of seconds"),
        ("hosts -R", "-R needs a value: EXPR"),
        ("hosts -R a>", "-R: "),
        ("hosts --json=1", "takes no value"),
        ("jobs x", "does not know `x`"),
        ("show", "usage: queue show ID"),
        ("kill", "needs an ID"),
        ("kill s1a2 --all", "not both"),
        ("kill -s FOO s1a2", "no signal"),
        ("kill -s 0 s1a2", "no signal"),
        ("kill -s 65 s1a2", "no signal"),
        ("drain", "usage: queue drain HOST"),
        ("drain +", "no host name"),
        ("undrain h2 --reason x", "--reason"),
        ("admin", "usage: queue admin rotate-keys"),
        ("admin frob", "usage: queue admin rotate-keys"),
    ] {
        let e = meaning(typed).unwrap_err();
        assert!(
            e.text.contains(part) && !e.text.contains('\n'),
            "{typed}: {}",
            e.text
        );
        assert_eq!(e.code(), 125);
    }
}

#[test]
fn tables_agree() {
    for v in table::VERBS {
        assert!(crate::options::VERB_NAMES.contains(&v.name));
        for (i, o) in v.options.iter().enumerate() {
            assert!(o.short.len() <= 1 && !o.help.is_empty());
            assert!(
                v.options[..i]
                    .iter()
                    .all(|p| (p.short.is_empty() || p.short != o.short)
                        && p.long.iter().all(|l| !o.long.contains(l))),
                "{}: {o:?}",
                v.name
            );
        }
    }
}
