//! Completion in real shells: bash, zsh and fish on h1 load the scripts as they are installed and ask a real cluster
//! for its hosts, jobs, sessions and classes.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use queue_harness::{Cluster, LIMIT, Output, Running, Status, Tmux, wait_for, wait_until};
use serde_json::Value;

use crate::world::{World, all_up, named};

pub(crate) fn trials(w: &Arc<World>) -> Vec<Trial> {
    vec![
        w.shared("completions::bash_candidates", bash_candidates),
        w.shared("completions::fish_candidates", fish_candidates),
        w.shared("completions::bash_on_a_terminal", bash_on_a_terminal),
        w.shared("completions::zsh_on_a_terminal", zsh_on_a_terminal),
        w.shared("completions::fish_on_a_terminal", fish_on_a_terminal),
        w.shared("completions::own_ids_by_verb", own_ids_by_verb),
        w.shared("completions::mistyped", mistyped),
        w.alone("completions::drained_hosts", drained_hosts),
        w.alone("completions::silent_daemon", silent_daemon),
    ]
}

/// Puts a script of `contrib/completions` where h1 has it.
fn script(c: &Cluster, name: &str) -> Result<String> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let from = top
        .context("no directory above")?
        .join("contrib/completions")
        .join(name);
    let text = std::fs::read(&from).with_context(|| from.display().to_string())?;
    // Each shell has a directory of its own: zsh would try to read the others' files.
    let dir = format!("/srv/completions/{}", name.replace('.', "-"));
    c.host(1)
        .sh(&format!("install -d -m 755 /srv/completions {dir}"))
        .ok()?;
    let at = format!("{dir}/{name}");
    // Several tests may need it: it comes into being at once.
    let part = format!("{at}.{:?}", std::thread::current().id());
    c.host(1).write(&part, text)?;
    c.host(1)
        .sh(&format!("chmod 644 '{part}' && mv '{part}' {at}"))
        .ok()?;
    Ok(at)
}

fn say(c: &Cluster, user: &str, args: &[&str]) -> Result<Output> {
    c.host(1).command(["queue"].iter().chain(args)).user(user).run()
}

/// What a shell is given for these words: the candidates, in order.
fn asked(c: &Cluster, user: &str, words: &[&str]) -> Result<Vec<String>> {
    let out = say(
        c,
        user,
        &[&["admin", "complete", "--shell", "zsh", "--"], words].concat(),
    )?;
    ensure!(out.status == Status::Exit(0) && out.stderr.is_empty(), "{out:?}");
    let text = out.text();
    let lines = text.lines().filter_map(|l| l.strip_prefix("w\t"));
    Ok(lines
        .map(|l| l.split('\t').next().unwrap_or_default().to_owned())
        .collect())
}

/// A job of this user's that runs until it is killed, with this name; its number.
fn job(c: &Cluster, user: &str, name: &str, seconds: &str) -> Result<String> {
    let args = ["-b", "--mail", "never", "--name", name, "--", "sleep", seconds];
    let out = c
        .host(1)
        .command(["queue"].iter().chain(&args))
        .user(user)
        .dir("/tmp")
        .ok()?;
    let id = out.text().trim().to_owned();
    wait_until(LIMIT, "the job to run", || {
        let out = say(c, user, &["jobs", &id, "--json"]);
        out.is_ok_and(|o| o.text().contains("\"running\""))
    })?;
    Ok(id)
}

/// A session of this user's on h2, and what people call it.
fn session(c: &Cluster, user: &str, seconds: &str) -> Result<(Running, String)> {
    let line = ["queue", "-h", "h2", "--", "sleep", seconds];
    let running = c.host(1).command(line).user(user).spawn()?;
    let id = wait_for(LIMIT, "the session", || {
        let out = say(c, user, &["jobs", "--user", "me", "--json"]).ok()?;
        let all: Value = serde_json::from_slice(&out.stdout).ok()?;
        let mut list = all["sessions"].as_array()?.iter();
        let one = list.find(|s| s["command"][1] == seconds)?;
        Some(one["id"].as_str()?.to_owned())
    })?;
    Ok((running, id))
}

/// What bash would put in: for each line its pieces as readline divides it, `|` between them.
fn in_bash(c: &Cluster, user: &str, lines: &[&str]) -> Result<Vec<Vec<String>>> {
    let path = script(c, "queue.bash")?;
    let try_one = r#"
        set -u
        source "$1"
        shift
        for line; do
            IFS='|' read -r -d '' -a COMP_WORDS < <(printf '%s\0' "$line")
            [[ $line != *'|' ]] || COMP_WORDS+=('')
            COMP_LINE=${line//'| '/' '} COMP_LINE=${COMP_LINE//|/} COMP_POINT=${#COMP_LINE}
            COMP_WORDS=("${COMP_WORDS[@]# }")
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            _queue
            printf '%s\037' "${COMPREPLY[@]}"
            echo
        done"#;
    let argv = ["bash", "--norc", "-c", try_one, "bash", &path];
    let out = c.host(1).command(argv.iter().chain(lines)).user(user).run()?;
    ensure!(out.status == Status::Exit(0) && out.stderr.is_empty(), "{out:?}");
    let text = out.text();
    let all: Vec<Vec<String>> = text
        .lines()
        .map(|l| {
            l.split('\x1f')
                .filter(|w| !w.is_empty())
                .map(str::to_owned)
                .collect()
        })
        .collect();
    ensure!(all.len() == lines.len(), "{text}");
    Ok(all)
}

fn bash_candidates(c: &Cluster) -> Result<()> {
    let name = "compl it's 1";
    job(c, "bob", name, "77101")?;
    let hosts = ["h1", "h2", "h3"];
    let cases: &[(&str, &[&str])] = &[
        ("queue| ki", &["kill"]),
        ("queue| hosts| remove| h", &hosts),
        ("queue| -h| ", &["+", "h1", "h2", "h3"]),
        // What bash divides and the user did not is one word; it replaces the last piece.
        ("queue| kill| --host|=", &hosts),
        ("queue| kill| --host|=|h2", &["h2"]),
        ("queue| alice|@", &["@h1", "@h2", "@h3"]),
        ("qsh| alice|@|h3", &["@h3"]),
        ("queue| -b| --mail|=|begin,e", &["begin,end"]),
        ("queue| jobs| --state| ready,los", &["ready,lost"]),
        ("queue| -b| --restart| ", &["restart", "fail", "ask"]),
        ("queue| -d| ", &["now", "wait"]),
        ("queued| to", &["token"]),
        ("queued| token| --vou", &["--vouch"]),
        ("queue-sh| --ver", &["--version"]),
        // What needs quotes has them; what begins with one has no others.
        ("queue| kill| --name| compl", &["compl\\ it\\'s\\ 1"]),
        ("queue| kill| --name| \"compl", &["compl it's 1"]),
        ("queue| kill| --name| 'compl", &[]),
        ("queue| kill| --name| compl\\ it", &["compl\\ it\\'s\\ 1"]),
        // Behind a host it is the other command's line: there, those of this one.
        ("queue| h2| queued| to", &["token"]),
        ("queue| -h| h2| --| qsh| alice|@|h3", &["@h3"]),
        ("queue| --frob| ", &[]),
        ("queue| $(touch /tmp/completed)| ", &[]),
        ("queue| jobs| -u| bo", &["bob"]),
    ];
    let lines: Vec<&str> = cases.iter().map(|(line, _)| *line).collect();
    let got = in_bash(c, "bob", &lines)?;
    for ((line, wanted), got) in cases.iter().zip(&got) {
        ensure!(got == wanted, "{line}: {got:?} instead of {wanted:?}");
    }
    ensure!(!c.host(1).exists("/tmp/completed"), "a word was run");
    let commands = &in_bash(c, "bob", &["queue| h2| slee", "queue| --| slee"])?;
    ensure!(
        commands.iter().all(|l| l.iter().any(|w| w == "sleep")),
        "{commands:?}"
    );
    let out = say(c, "bob", &["kill", "--name", name])?;
    ensure!(out.status == Status::Exit(0), "{out:?}");
    Ok(())
}

fn fish_candidates(c: &Cluster) -> Result<()> {
    let path = script(c, "queue.fish")?;
    let id = job(c, "bob", "fishy", "77102")?;
    let (mut running, session) = session(c, "bob", "77103")?;
    let job_line = format!("{id}\trunning fishy: sleep 77102");
    let cases: &[(&str, &[&str])] = &[
        (
            "queue ki",
            &["kill\tend jobs and sessions, with all that they started"],
        ),
        ("queue hosts remove h2", &["h2\tup, "]),
        ("queue kill --host=h2", &["--host=h2\tup, "]),
        ("queue alice@h3", &["alice@h3\tup, "]),
        ("queue -b --mail begin,f", &["begin,fail\twhen it has failed"]),
        ("queue kill --name fis", &["fishy"]),
        ("queue log ", &[&job_line]),
        ("queue jobs --class ", &["now\tpriority 100", "wait\tpriority 0"]),
        ("queue show s", &[&format!("{session}\th2, ")]),
        ("queue -- qsh -o Req", &["RequestTTY=\ta terminal there"]),
        (
            "queue h2 queued to",
            &["token\tPrint a token that lets a host join"],
        ),
        (
            "queued token --tt",
            &["--ttl\tHow long it may be used: 90s, 15m, 12h, 7d"],
        ),
        ("queue --tee=/etc/passw", &["--tee=/etc/passwd"]),
        ("queue -h h1 -- cat /etc/passw", &["/etc/passwd"]),
        ("queue --frob ", &[]),
    ];
    for (line, wanted) in cases {
        let run = [
            "fish",
            "--no-config",
            "-c",
            "source $argv[1]; complete -C $argv[2]",
            &path,
            line,
        ];
        let out = c.host(1).command(run).user("bob").run()?;
        ensure!(
            out.status == Status::Exit(0) && out.stderr.is_empty(),
            "{line}: {out:?}"
        );
        let text = out.text();
        for w in *wanted {
            ensure!(
                text.lines().any(|l| l.starts_with(w)),
                "{line}: no {w:?} in {text}"
            );
        }
        ensure!(!wanted.is_empty() || text.is_empty(), "{line}: {text}");
    }
    running.signal(Signal::SIGTERM)?;
    running.wait_exit(LIMIT)?;
    say(c, "bob", &["kill", &id])?;
    Ok(())
}

/// What is typed, and what the screen shows after the tabulator was pressed (once more, where it lists).
type Typed<'a> = (&'a str, &'a [&'a str]);

/// Types each line and a tabulator, looks, and clears the line.
fn type_all(t: &Tmux<'_>, cases: &[Typed<'_>]) -> Result<()> {
    for (typed, wanted) in cases {
        t.keys(typed)?;
        t.wait_text(typed.trim_end())?;
        t.press("Tab")?;
        let all = |s: &str| wanted.iter().all(|w| s.contains(w));
        // A second one, where the first only went as far as is clear.
        if t.wait_for(Duration::from_secs(2), all).is_err() {
            t.press("Tab")?;
            t.wait_for(LIMIT, all)
                .with_context(|| format!("{typed}: waited for {wanted:?}"))?;
        }
        t.press("C-u")?;
        t.wait_for(LIMIT, |s| s.lines().any(|l| l.trim() == "%"))?;
        t.line("clear")?;
        t.wait_for(LIMIT, |s| {
            let mut lines = s.lines().filter(|l| !l.trim().is_empty());
            lines.next().is_some_and(|l| l.trim() == "%") && lines.next().is_none()
        })?;
    }
    Ok(())
}

/// What all of them do.
const ALL: &[Typed<'_>] = &[
    ("queue undr", &["queue undrain"]),
    ("queue kill --sig", &["queue kill --signal"]),
    ("queue jobs --state=ready,susp", &["--state=ready,suspended"]),
    ("qsh h", &["h1", "h2", "h3"]),
    ("qsh bob@h", &["h1", "h2", "h3"]),
    ("queued joi", &["queued join"]),
    ("queue -b --tee=/etc/passw", &["--tee=/etc/passwd"]),
    ("queue -h h2 -- cat /etc/passw", &["cat /etc/passwd"]),
    ("queue h2 queue undr", &["queue h2 queue undrain"]),
    ("queue h1 >/etc/passw", &[">/etc/passwd"]),
];

fn bash_on_a_terminal(c: &Cluster) -> Result<()> {
    let path = script(c, "queue.bash")?;
    let line = "env PS1='% ' INPUTRC=/dev/null bash --norc --noprofile -i";
    let t = Tmux::start(c.host(1), "carol", 100, 40, line)?;
    t.wait_text("%")?;
    t.line(&format!("source {path}; clear"))?;
    type_all(&t, ALL)
}

fn zsh_on_a_terminal(c: &Cluster) -> Result<()> {
    let path = script(c, "_queue")?;
    let dir = Path::new(&path).parent().context("no directory")?.display();
    let (_one, one) = session(c, "carol", "77104")?;
    let (_two, two) = session(c, "carol", "77105")?;
    let t = Tmux::start(c.host(1), "carol", 100, 40, "env PS1='%% ' zsh -f -i")?;
    t.wait_text("%")?;
    t.line(&format!(
        "fpath=({dir} $fpath); autoload -U compinit; compinit -u -D; unsetopt prompt_sp; clear"
    ))?;
    type_all(&t, ALL)?;
    type_all(
        &t,
        &[
            ("queue ex", &["queue explain"]),
            ("queue wa", &["queue wait"]),
            ("queue re", &["-- run buried, failed", "-- start held jobs again"]),
            ("qsh -o Reque", &["RequestTTY="]),
            ("queue show ", &[&one, &two, "sleep 77104", "sleep 77105"]),
        ],
    )
}

fn fish_on_a_terminal(c: &Cluster) -> Result<()> {
    let path = script(c, "queue.fish")?;
    let line = format!(
        "fish --no-config -C 'source {path}; function fish_prompt; echo -n \"% \"; end; function fish_right_prompt; end'"
    );
    let t = Tmux::start(c.host(1), "carol", 100, 40, &line)?;
    t.wait_text("%")?;
    type_all(&t, ALL)?;
    type_all(
        &t,
        &[("queue re", &["run buried, failed", "start held jobs again"])],
    )
}

/// Each verb is offered those it does something for, and of others nobody's.
fn own_ids_by_verb(c: &Cluster) -> Result<()> {
    let running = job(c, "alice", "hers", "77106")?;
    let out = c
        .host(1)
        .command(["queue", "-b", "--hold", "--mail", "never", "--", "sleep", "77107"])
        .user("alice")
        .dir("/tmp")
        .ok()?;
    let held = out.text().trim().to_owned();
    let has = |user: &str, verb: &str, id: &str| -> Result<bool> {
        Ok(asked(c, user, &["queue", verb, ""])?.iter().any(|v| v == id))
    };
    for (verb, of_running, of_held) in [
        ("show", true, true),
        ("kill", true, true),
        ("wait", true, true),
        ("log", true, false),
        ("suspend", true, false),
        ("resume", false, false),
        ("hold", false, false),
        ("release", false, true),
        ("delete", false, true),
        ("explain", false, true),
        ("retry", false, false),
        ("history", false, false),
    ] {
        let (r, h) = (has("alice", verb, &running)?, has("alice", verb, &held)?);
        ensure!((r, h) == (of_running, of_held), "{verb}: {r} {h}");
        ensure!(
            !has("bob", verb, &running)? && !has("bob", verb, &held)?,
            "{verb} of bob"
        );
    }
    // What stands there already is not offered again.
    let left = asked(c, "alice", &["queue", "kill", &running, ""])?;
    ensure!(!left.contains(&running) && left.contains(&held), "{left:?}");
    say(c, "alice", &["kill", &running, &held])?;
    wait_until(LIMIT, "the job to be over", || {
        has("alice", "history", &running).unwrap_or(false)
    })?;
    ensure!(
        !has("alice", "kill", &running)? && has("alice", "show", &running)?,
        "after its end"
    );
    Ok(())
}

/// A verb with a slip is taken for a host, and the error says what was meant.
fn mistyped(c: &Cluster) -> Result<()> {
    for (program, args, meant) in [
        ("queue", &["jbos"][..], Some("did you mean `queue jobs`?")),
        ("queue", &["hlep"], Some("did you mean `queue help`?")),
        ("queue", &["-n", "kil", "12"], Some("did you mean `queue kill`?")),
        (
            "queue",
            &["-h", "hh2", "--", "true"],
            Some("did you mean host h2?"),
        ),
        // There is no verb where these stand.
        ("qsh", &["jbos"], None),
        ("queue", &["bob@jbos"], None),
        ("queue", &["euler"], None),
    ] {
        let out = c
            .host(1)
            .command([program].iter().chain(args))
            .user("bob")
            .run()?;
        let error = out.error();
        let code = if args.contains(&"--") { 125 } else { 255 };
        ensure!(out.status == Status::Exit(code), "{args:?}: {out:?}");
        ensure!(
            error.contains("no host ") && error.lines().count() == 1,
            "{args:?}: {error}"
        );
        match meant {
            Some(m) => ensure!(error.contains(m), "{args:?}: {error}"),
            None => ensure!(!error.contains("did you mean"), "{args:?}: {error}"),
        }
    }
    Ok(())
}

fn drained_hosts(c: &Cluster) -> Result<()> {
    say(c, "carol", &["drain", "h3"]).and_then(|o| {
        ensure!(o.status == Status::Exit(0), "{o:?}");
        Ok(())
    })?;
    let hosts = |verb: &str| asked(c, "carol", &["queue", verb, ""]);
    wait_until(LIMIT, "the drained host to be known", || {
        hosts("undrain").is_ok_and(|h| h == ["h3"])
    })?;
    ensure!(hosts("drain")? == ["h1", "h2"], "{:?}", hosts("drain")?);
    // It can be used by name all the same.
    let usable = asked(c, "carol", &["qsh", ""])?;
    ensure!(
        ["h1", "h2", "h3"].iter().all(|h| usable.iter().any(|u| u == h)),
        "{usable:?}"
    );
    say(c, "carol", &["undrain", "h3"])?;
    wait_until(LIMIT, "the host to be back", || {
        hosts("undrain").is_ok_and(|h| h.is_empty())
    })?;
    // Those that are down are not offered to run something on, but to be removed.
    c.host(3).kill()?;
    wait_until(Duration::from_secs(60), "h3 to be missed", || {
        asked(c, "carol", &["qsh", ""]).is_ok_and(|u| !u.iter().any(|h| h == "h3"))
    })?;
    let all = asked(c, "carol", &["queue", "hosts", "remove", ""])?;
    ensure!(all == ["h1", "h2", "h3"], "{all:?}");
    c.host(3).revive()?;
    queue_harness::queue::run_queued(c.host(3))?;
    all_up(c, Duration::from_secs(60))
}

/// With a daemon that says nothing, or none, there is less to offer, at once and without a word of complaint.
fn silent_daemon(c: &Cluster) -> Result<()> {
    let stop = |signal| -> Result<()> {
        for program in ["queued", "queue-exec"] {
            for pid in named(c, 1, program) {
                kill(Pid::from_raw(pid), signal)?;
            }
        }
        Ok(())
    };
    let verbs = |what: &str| -> Result<()> {
        let before = Instant::now();
        let first = asked(c, "alice", &["queue", ""])?;
        let ids = asked(c, "alice", &["queue", "kill", ""])?;
        let took = before.elapsed();
        ensure!(
            first.iter().any(|v| v == "kill") && !first.iter().any(|v| v == "h1"),
            "{what}: {first:?}"
        );
        ensure!(ids.is_empty(), "{what}: {ids:?}");
        // Twice 300 ms, and time for a busy machine.
        ensure!(took < Duration::from_secs(5), "{what}: {took:?}");
        let bash = in_bash(c, "alice", &["queue| kil", "queue| kill| "])?;
        ensure!(bash == [vec!["kill".to_owned()], vec![]], "{what}: {bash:?}");
        Ok(())
    };
    stop(Signal::SIGSTOP)?;
    let stopped = verbs("stopped");
    stop(Signal::SIGCONT)?;
    stopped?;
    // Without a daemon at all.
    let none = c
        .host(1)
        .command([
            "queue", "admin", "complete", "--shell", "fish", "--", "queue", "kill", "",
        ])
        .env("QUEUE_SOCKET", "/nowhere/queued.sock")
        .user("alice")
        .run()?;
    ensure!(
        none.status == Status::Exit(0) && none.stdout.is_empty() && none.stderr.is_empty(),
        "{none:?}"
    );
    all_up(c, Duration::from_secs(60))
}
