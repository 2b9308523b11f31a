use super::*;

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
                filter: Filter {
                    user: Some("me".into()),
                    host: Some("h2".into()),
                },
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
    let kill = |which, signal| Ask::Kill {
        which,
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
