//! What is wanted at many places of many lines.

use super::*;

/// The plan for a line with `|` at the cursor: words are divided by blanks.
fn at(line: &str) -> Plan {
    let line = line.strip_suffix('|').expect("the cursor is at the end");
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    plan(&words)
}

/// In short: candidates, and what else is wanted.
fn short(line: &str) -> String {
    let plan = at(line);
    let mut out = Vec::new();
    if !plan.keep.is_empty() {
        out.push(format!("[{}]", plan.keep));
    }
    for want in &plan.wants {
        out.push(match want {
            Want::Words(g) if g.items.len() > 5 => format!("{}...", g.tag),
            Want::Words(g) => {
                let values: Vec<&str> = g.items.iter().map(|i| i.value.as_str()).collect();
                values.join(",")
            }
            Want::Files => "FILES".into(),
            Want::Users => "USERS".into(),
            Want::Open => "OPEN".into(),
            Want::Command(n) => format!("COMMAND {n}"),
            Want::Known(Source::Hosts(h)) => format!("HOSTS {h:?}"),
            Want::Known(Source::Ids(w)) => {
                let states = w.states.len();
                format!("IDS {states}{}", if w.sessions { " and sessions" } else { "" })
            }
            Want::Known(s) => format!("{s:?}"),
        });
    }
    out.join(" ")
}

/// The candidates.
fn values(line: &str) -> Vec<String> {
    let words = at(line).wants.into_iter().flat_map(|w| match w {
        Want::Words(g) => g.items,
        _ => Vec::new(),
    });
    words.map(|i| i.value).collect()
}

#[test]
fn each_place_has_its_own() {
    for (line, what) in [
        // The first word: a verb, a host, a script.
        ("queue |", "verbs... HOSTS Usable +"),
        ("/usr/bin/queue ki|", "verbs... HOSTS Usable +"),
        ("queue --json |", "verbs... HOSTS Usable +"),
        ("queue alice@|", "[alice@] HOSTS Usable"),
        ("queue ./x|", "FILES"),
        ("queue -t |", "HOSTS Usable +"),
        ("queue --tee x |", "HOSTS Usable +"),
        // Behind it.
        ("queue h2 |", "COMMAND 2"),
        ("queue h2 ls -|", "COMMAND 2"),
        ("queue -l bob h2 ls |", "COMMAND 4"),
        ("queue ./x a|", "COMMAND 1"),
        ("queue -- |", "COMMAND 2"),
        ("queue -h h2 -- make -|", "COMMAND 4"),
        ("queue -b --time 2h -- make |", "COMMAND 5"),
        ("queue -t -- |", "HOSTS Usable +"),
        ("queue -- -t -- |", "COMMAND 2"),
        // Options and their values.
        ("queue -|", "options..."),
        ("queue --|", "options..."),
        ("queue -h |", "HOSTS Usable +"),
        ("queue -h h|", "HOSTS Usable +"),
        ("queue -qh |", "HOSTS Usable +"),
        ("queue -hh|", "[-h] HOSTS Usable +"),
        ("queue -qhh|", "[-qh] HOSTS Usable +"),
        ("queue --host=h|", "[--host=] HOSTS Usable +"),
        ("queue -H |", "HOSTS Usable"),
        ("queue -h h2 |", "--"),
        ("queue --cores 4 |", "--"),
        ("queue --cores |", ""),
        ("queue -d |", "now,wait Classes"),
        ("queue -l |", "USERS"),
        ("queue --tee |", "FILES"),
        ("queue --tee=/|", "[--tee=] FILES"),
        ("queue -o |", "--"),
        ("queue -p 22 |", "HOSTS Usable +"),
        ("queue --frob |", ""),
        // Batch jobs.
        ("queue -b |", "FILES --"),
        ("queue -b ./job |", "COMMAND 2"),
        ("queue -b --mail |", "begin,end,fail,all,never"),
        (
            "queue -b --mail=begin,e|",
            "[--mail=begin,] begin,end,fail,all,never",
        ),
        ("queue -b --restart |", "restart,fail,ask"),
        ("queue -b --after |", "IDS 6"),
        ("queue -b --after ok:12,|", "[ok:12,] IDS 6"),
        ("queue -b --group |", "Groups"),
        ("queue -b --limit |", "Limits"),
        ("queue -b --signal |", "signals..."),
        ("queue -b --dedupe |", "FILES --"),
        ("queue -b -c |", ""),
        ("queue -b -c true |", "FILES"),
        ("queue -ec |", ""),
        ("queue -ec true |", "FILES"),
        // Verbs.
        ("queue kill |", "IDS 6 and sessions"),
        ("queue kill 12 |", "IDS 6 and sessions"),
        ("queue kill 12,|", "[12,] IDS 6 and sessions"),
        ("queue kill -h |", "HOSTS All"),
        ("queue kill --host=|", "[--host=] HOSTS All"),
        ("queue kill -s |", "signals..."),
        ("queue kill -|", "options..."),
        ("queue kill -- |", "IDS 6 and sessions"),
        ("queue kill -- -|", "IDS 6 and sessions"),
        ("queue --json kill |", "IDS 6 and sessions"),
        ("queue jobs -u |", "me USERS"),
        ("queue jobs --state |", "states..."),
        ("queue jobs --state ready,|", "[ready,] states..."),
        ("queue jobs --sort -|", "[-] values..."),
        ("queue jobs --class |", "Classes"),
        ("queue jobs --name |", "Names"),
        ("queue jobs --watch |", "IDS 6"),
        ("queue show |", "IDS 9 and sessions"),
        ("queue log -f |", "IDS 7"),
        ("queue release |", "IDS 2"),
        ("queue modify 12 --restart |", "restart,fail,ask"),
        ("queue modify 12 --name |", ""),
        ("queue modify 12 -h |", "HOSTS Usable +"),
        ("queue hosts |", "remove"),
        ("queue hosts remove |", "HOSTS All"),
        ("queue hosts remove h1 |", ""),
        ("queue drain h1 |", "HOSTS Undrained"),
        ("queue undrain |", "HOSTS Drained"),
        ("queue limits |", "Limits OPEN"),
        ("queue admin |", "rotate-keys"),
        ("queue classes |", ""),
        ("queue history --export |", "FILES"),
        ("queue explain |", "IDS 2"),
        ("queue explain -h |", "HOSTS Usable +"),
        ("queue explain -h h1 |", "--"),
        ("queue explain --gpus 2 -- |", "COMMAND 5"),
        ("queue explain 12 |", "IDS 2"),
        ("queue help |", "verbs..."),
        ("queue help kill |", ""),
        ("queue kill --frob |", ""),
        ("queue web |", ""),
        // The other names.
        ("qsh |", "HOSTS Usable +"),
        ("qsh bob@h|", "[bob@] HOSTS Usable"),
        ("qsh h2 |", "COMMAND 2"),
        ("qsh -l bob -- h2 ls |", "COMMAND 5"),
        ("qsh kill |", "COMMAND 2"),
        ("qsh -|", "options..."),
        ("qsh -l |", "USERS"),
        ("qsh -o |", "values... OPEN"),
        ("qsh -o RequestTTY=|", "[RequestTTY=] yes,no,force"),
        ("qsh --tee=|", "[--tee=] FILES"),
        ("queue-sh |", "FILES"),
        ("queue-sh -|", "-c,-e,--help,--version"),
        ("queue-sh -c |", ""),
        ("queue-sh -c x |", "FILES"),
        ("queue-sh ./x -|", "COMMAND 1"),
        ("-qsh |", "HOSTS Usable +"),
        ("q |", "verbs... HOSTS Usable +"),
    ] {
        assert_eq!(short(line), what, "{line}");
    }
    assert_eq!(plan(&[]), Plan::default());
    assert_eq!(plan(&["queue".into()]), Plan::default());
}

#[test]
fn options_are_those_of_the_form() {
    let has = |line: &str, option: &str| values(line).iter().any(|v| v == option);
    for (line, with, without) in [
        (
            "queue -|",
            &["-h", "--host", "-b", "-t", "--json"][..],
            &["--array", "-k", "--checkpoint"][..],
        ),
        ("queue -b -|", &["--array", "--mail", "-h"], &["-t"]),
        ("queue -t -|", &["-l", "-T"], &["-h", "--cores"]),
        ("queue -h x -|", &["--cores", "-b"], &["-t", "-s"]),
        ("queue kill -|", &["-s", "--signal", "-a"], &["-b", "--cores"]),
        ("queue log --|", &["--follow", "--tail"], &["--signal"]),
        ("queue explain -|", &["--cores", "--array"], &["-t"]),
        (
            "qsh -|",
            &["-l", "-o", "-G", "--tee", "--help"],
            &["-h", "--cores", "-k", "-D"],
        ),
    ] {
        for o in with {
            assert!(has(line, o), "{line} has no {o}: {:?}", values(line));
        }
        for o in without {
            assert!(!has(line, o), "{line} has {o}");
        }
    }
    // Letters in one word are whole as they are.
    assert!(has("queue -bq|", "-bq") && !has("queue -b!|", "-b!"));
    // Each is explained.
    let all = at("queue -b -|").wants;
    let explained = |w: &Want| matches!(w, Want::Words(g) if g.items.iter().all(|i| !i.help.is_empty()));
    assert!(all.iter().all(explained));
}

#[test]
fn all_that_works_is_offered() {
    let verbs = values("queue |");
    for v in VERBS {
        assert!(verbs.iter().any(|x| x == v.name), "{}", v.name);
        let line = format!("queue {} -|", v.name);
        for o in v.options.iter().flat_map(|o| o.long) {
            let option = format!("--{o}");
            assert!(
                values(&line).contains(&option) || v.name == "explain",
                "{line} {option}"
            );
        }
    }
    assert!(
        !verbs.iter().any(|v| v == "cron"),
        "what is not there yet is not offered"
    );
}

#[test]
fn what_stands_there_is_not_offered_again() {
    assert_eq!(at("queue drain h1 h2 |").given, ["h1", "h2"]);
    assert_eq!(at("queue kill 12,13 14,|").given, ["14", "12", "13"]);
    assert_eq!(at("queue jobs --state ready,lost,|").given, ["ready", "lost"]);
}
