//! Programs that are told to use Queue instead of rsh, ssh or the shell: rsync, git, tar, scp, make, libtool.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use queue_harness::{Cluster, LIMIT, Output, Status, queue as install, wait_until};

use crate::world::{World, bare, bash, runs};

pub(crate) fn trials(w: &Arc<World>) -> Vec<Trial> {
    let mut trials = vec![
        w.shared("programs::rsync", rsync),
        w.shared("programs::git", git),
        w.shared("programs::tar_pipeline", tar_pipeline),
        w.shared("programs::scp_and_sftp", scp_and_sftp),
        w.shared("programs::binary_through_cat", binary_through_cat),
        w.shared("programs::rsh_leaves_the_background", rsh_leaves_the_background),
        w.shared(
            "programs::rsh_on_any_host_leaves_nothing",
            rsh_on_any_host_leaves_nothing,
        ),
        w.shared("programs::rsh_waits_for_the_streams", rsh_waits_for_the_streams),
        w.shared("programs::rsh_exit_status", rsh_exit_status),
        w.shared("programs::rsh_own_failures", rsh_own_failures),
        w.shared("programs::options_of_ssh", options_of_ssh),
        w.shared("programs::list_of_hosts", list_of_hosts),
        w.shared("programs::make_job_server", make_job_server),
        w.shared("programs::make_failing_recipe", make_failing_recipe),
        w.shared("programs::autotools_project", autotools_project),
    ];
    trials.push(Trial::test("programs::host_named_like_a_verb", || {
        host_named_like_a_verb().map_err(|e| format!("{e:?}").into())
    }));
    trials
}

/// A line for bash as alice on h1 that ends at the first error.
fn script(c: &Cluster, line: &str) -> Result<Output> {
    let line = format!("set -euo pipefail\n{line}");
    bash(c, &line).timeout(Duration::from_secs(120)).ok()
}

/// Fills the directory `$d` with files of many kinds.
const TREE: &str = "mkdir -p $d/sub/deep\n\
    head -c 3000000 /dev/urandom >$d/large; : >$d/empty; echo x >\"$d/a name with 'quotes' and \\\"\"\n\
    ln -s large $d/link; printf '#!/bin/sh\\n' >$d/sub/deep/script; chmod 750 $d/sub/deep/script; chmod 700 $d/sub\n\
    touch -d 2001-02-03T04:05:06 $d/empty\n";

fn rsync(c: &Cluster) -> Result<()> {
    // The remote path is relative to the home directory there, wherever we are here.
    let line = format!(
        "d=$HOME/rsync-src; {TREE}\ncd /srv/shared\n\
         rsync -a -e queue $d/ h2:rsync-there/\n\
         rsync -a -e 'qsh -x -o BatchMode=yes' alice@h2:rsync-there/ $HOME/rsync-back\n\
         diff -r $d $HOME/rsync-back\n\
         [ -z \"$(rsync -aic --delete -e queue $HOME/rsync-back/ h2:rsync-there/ | grep -v '^\\.')\" ]\n\
         echo more >>$d/large; rm $d/empty\n\
         rsync -az --delete -e queue $d/ h2:rsync-there/\n\
         qsh h2 'cd rsync-there && sha256sum large && test ! -e empty && stat -c %a sub/deep/script'\n\
         sha256sum <$d/large"
    );
    let out = script(c, &line)?;
    let text = out.text();
    let words: Vec<&str> = text.split_whitespace().collect();
    ensure!(
        words.len() == 5 && words[0] == words[3] && words[2] == "750" && out.stderr.is_empty(),
        "{out:?}"
    );
    ensure!(c.host(2).exists("/home/alice/rsync-there/sub/deep/script"));
    // What goes wrong there is told as rsync tells it.
    let out = bash(c, "rsync -a -e queue h2:no-such-directory/ $HOME/x").run()?;
    ensure!(
        out.status == Status::Exit(23) && out.error().contains("no-such-directory"),
        "{out:?}"
    );
    let out = bash(c, "rsync -a -e queue no-such-host:x/ $HOME/x").run()?;
    ensure!(
        out.status == Status::Exit(255) && out.error().contains("no-such-host"),
        "{out:?}"
    );
    Ok(())
}

fn git(c: &Cluster) -> Result<()> {
    let line = "cd; export GIT_CONFIG_GLOBAL=$HOME/gitconfig\n\
        git config --global user.name alice; git config --global user.email alice@h1; git config --global init.defaultBranch main\n\
        qsh h2 git init -q --bare -b main git-there.git\n\
        export GIT_SSH_COMMAND=queue\n\
        git clone -q h2:git-there.git git-here 2>/dev/null\n\
        cd git-here; head -c 2000000 /dev/urandom >blob; echo one >file; git add .; git commit -qm one\n\
        git push -q origin HEAD:main\n\
        unset GIT_SSH_COMMAND; export GIT_SSH=qsh\n\
        git clone -q ssh://alice@h2:22/~/git-there.git ../git-again\n\
        cd ../git-again; echo two >>file; git commit -qam two; git push -q origin HEAD:main\n\
        cd ../git-here; GIT_SSH_COMMAND='queue -x' git pull -q origin main\n\
        cmp blob ../git-again/blob; cat file; git ls-remote -q origin refs/heads/main | cut -f1; git rev-parse HEAD";
    let out = script(c, line)?;
    let text = out.text();
    let lines: Vec<&str> = text.lines().collect();
    ensure!(
        lines.len() == 4 && lines[..2] == ["one", "two"] && lines[2] == lines[3],
        "{out:?}"
    );
    let out = bash(c, "cd; GIT_SSH_COMMAND=queue git clone h2:no-such.git git-none").run()?;
    ensure!(
        out.status == Status::Exit(128) && out.error().contains("no-such.git"),
        "{out:?}"
    );
    Ok(())
}

fn tar_pipeline(c: &Cluster) -> Result<()> {
    let line = format!(
        "d=$HOME/tar-src; {TREE}\ncd $d\n\
         qsh h2 'rm -rf tar-there; mkdir tar-there'\n\
         tar cf - . | qsh h2 'tar xf - -C tar-there'\n\
         mkdir -p $HOME/tar-back; qsh h2 'tar czf - -C tar-there .' | tar xzf - -C $HOME/tar-back\n\
         diff -r $d $HOME/tar-back\n\
         stat -c '%a %Y %n' empty sub/deep/script >$HOME/tar-a; cd $HOME/tar-back\n\
         stat -c '%a %Y %n' empty sub/deep/script | cmp - $HOME/tar-a"
    );
    let out = script(c, &line)?;
    ensure!(out.text().is_empty() && out.stderr.is_empty(), "{out:?}");
    Ok(())
}

fn scp_and_sftp(c: &Cluster) -> Result<()> {
    let line = "cd; head -c 3000000 /dev/urandom >scp-src; rm -f scp-back sftp-back\n\
        for how in '' -O; do\n\
          scp -q $how -S $(command -v qsh) scp-src h2:scp-there\n\
          scp -q $how -S $(command -v qsh) h2:scp-there scp-back; cmp scp-src scp-back; rm scp-back\n\
        done\n\
        printf 'get scp-there sftp-back\\n' | sftp -q -b - -S $(command -v qsh) h2 >/dev/null; cmp scp-src sftp-back";
    script(c, line).map(drop)
}

fn binary_through_cat(c: &Cluster) -> Result<()> {
    let line = "python3 -c 'import sys,os; sys.stdout.buffer.write(bytes(range(256))*999+os.urandom(5000001))' >bin\n\
        for q in queue qsh 'qsh -T' 'qsh -n -o StdinNull=no'; do\n\
          case $q in *-n*) qsh h2 'cat >bin-there' <bin; $q h2 cat bin-there;; *) $q h2 cat <bin;; esac | sha256sum\n\
        done; sha256sum <bin";
    let out = script(c, line)?;
    let text = out.text();
    let sums: Vec<&str> = text.lines().collect();
    ensure!(
        sums.len() == 5 && sums.iter().all(|s| *s == sums[0]) && out.stderr.is_empty(),
        "{out:?}"
    );
    Ok(())
}

fn rsh_leaves_the_background(c: &Cluster) -> Result<()> {
    for (n, line) in [
        "qsh h2 'nohup sleep 74001 >/dev/null 2>&1 </dev/null & echo started'",
        "queue h2 'setsid sleep 74002 >/dev/null 2>&1 </dev/null & echo started'",
    ]
    .iter()
    .enumerate()
    {
        let out = bash(c, line).ok()?;
        ensure!(out.text() == "started" && out.stderr.is_empty(), "{out:?}");
        let what = format!("sleep 7400{}", n + 1);
        wait_until(LIMIT, "the background process", || runs(c, 2, &what))?;
        // Another launch comes and goes; this one stays.
        script(c, "qsh h2 true; queue -h h2 -- true")?;
        ensure!(runs(c, 2, &what), "{what} was ended");
        let out = bash(c, &format!("qsh h2 pkill -xf '\"{what}\"'")).ok()?;
        ensure!(out.stderr.is_empty(), "{out:?}");
        wait_until(LIMIT, "its end", || !runs(c, 2, &what))?;
    }
    Ok(())
}

fn rsh_on_any_host_leaves_nothing(c: &Cluster) -> Result<()> {
    let line = "qsh + 'nohup sleep 74003 >/dev/null 2>&1 </dev/null & echo started'";
    let out = bash(c, line).ok()?;
    ensure!(out.text() == "started", "{out:?}");
    wait_until(LIMIT, "the end of the background process", || {
        (1..=3).all(|k| !runs(c, k, "sleep 74003"))
    })
}

fn rsh_waits_for_the_streams(c: &Cluster) -> Result<()> {
    let go = c.shared().join("go-rsh-streams");
    let line = format!(
        "qsh h2 '(until [ -e {} ]; do sleep .02; done; echo late) & echo early; exit 3'",
        go.display()
    );
    let mut running = bash(c, &line).spawn()?;
    wait_until(LIMIT, "the first line", || running.stdout() == b"early\n")?;
    // A whole other launch long it stays where it is.
    script(c, "qsh h2 true")?;
    ensure!(
        running.status()?.is_none(),
        "it did not wait for the background process"
    );
    fs::write(&go, "")?;
    let out = running.wait(LIMIT)?;
    ensure!(
        out.status == Status::Exit(3) && out.text() == "early\nlate",
        "{out:?}"
    );
    Ok(())
}

fn rsh_exit_status(c: &Cluster) -> Result<()> {
    let line = "for i in 0 1 2 37 125 126 127 128 254 255; do qsh h2 \"exit $i\"; echo $?; queue h2 exit $i; echo $?; done";
    let out = bash(c, line).ok()?;
    let want: Vec<String> = [0, 1, 2, 37, 125, 126, 127, 128, 254, 255]
        .iter()
        .flat_map(|i| [i.to_string(), i.to_string()])
        .collect();
    ensure!(out.text() == want.join("\n") && out.stderr.is_empty(), "{out:?}");
    // The shell there tells that a command was not found; its status is the command's.
    let out = bash(c, "qsh h2 no-such-command-at-all").run()?;
    ensure!(
        out.status == Status::Exit(127) && out.error().contains("no-such-command-at-all"),
        "{out:?}"
    );
    // Words are joined by spaces, and the shell there sees the line, in the home directory: as with rsh.
    let out = bash(c, "qsh h2 echo 'a  b' '$HOME;' pwd")
        .dir("/srv/shared")
        .ok()?;
    ensure!(out.text() == "a b /home/alice\n/home/alice", "{out:?}");
    let out = bash(c, "cd /srv/shared; qsh h2 'echo $HOME; pwd; echo \"c  d\"'").ok()?;
    ensure!(out.text() == "/home/alice\n/home/alice\nc  d", "{out:?}");
    Ok(())
}

fn rsh_own_failures(c: &Cluster) -> Result<()> {
    for (line, words) in [
        ("qsh no-such-host true", &["no-such-host"][..]),
        ("queue no-such-host true", &["no-such-host"]),
        ("qsh", &["host"]),
        ("qsh -l", &["-l"]),
        ("qsh -l bob h2 true", &["bob"]),
        ("qsh root@h2 true", &["root"]),
        ("qsh -L 8000:h2:80 h2", &["-L"]),
        ("qsh -s h2 no-such-subsystem", &["no-such-subsystem"]),
        ("QUEUE_SOCKET=/nowhere/x qsh h2 true", &["/nowhere"]),
    ] {
        let out = bash(c, line).run()?;
        let text = out.error();
        ensure!(
            out.status == Status::Exit(255) && text.starts_with("queue: ") && text.lines().count() == 1,
            "{line}: {out:?}"
        );
        for word in words {
            ensure!(text.contains(word), "{line}: {word:?} is missing: {out:?}");
        }
    }
    Ok(())
}

fn options_of_ssh(c: &Cluster) -> Result<()> {
    for options in [
        "-l alice",
        "-lalice",
        "-x",
        "-T",
        "-q",
        "-4",
        "-6",
        "-a",
        "-p 22",
        "-p22",
        "-o BatchMode=yes",
        "-oBatchMode=yes",
        "-o 'StrictHostKeyChecking no'",
        "-o User=alice",
        "-o ConnectTimeout=5",
        "-xqT",
        "-x -l alice -p 22 -o BatchMode=yes -T",
        "--",
        "-F /dev/null -i key -e none -c aes128-ctr -m x -b 1.2.3.4 -S none",
        "-o ControlMaster=auto -o ControlPath=/tmp/%r@%h:%p",
    ] {
        let out = bash(c, &format!("qsh {options} h2 'hostname; id -un; cat'"))
            .stdin("in")
            .ok()?;
        ensure!(
            out.text() == "h2\nalice\nin" && out.stderr.is_empty(),
            "{options}: {out:?}"
        );
    }
    // Through `queue`, those that are not options of its own, or are told apart by their values.
    for options in [
        "-l alice",
        "-x",
        "-T",
        "-p 22",
        "-o BatchMode=yes",
        "-x -l alice -p 22 -o BatchMode=yes -T",
        "-xT",
    ] {
        let out = bash(c, &format!("queue {options} h2 'hostname; id -un; cat'"))
            .stdin("in")
            .ok()?;
        ensure!(
            out.text() == "h2\nalice\nin" && out.stderr.is_empty(),
            "{options}: {out:?}"
        );
    }
    for q in ["qsh", "queue"] {
        let out = bash(c, &format!("{q} -n h2 'hostname; cat'; cat"))
            .stdin("kept")
            .ok()?;
        ensure!(out.text() == "h2\nkept", "{q} -n: {out:?}");
        let out = bash(c, &format!("{q} -G h2")).ok()?;
        ensure!(out.text().contains("h2"), "{q} -G: {out:?}");
    }
    // A terminal where one is asked for, none else.
    let out = bash(
        c,
        "qsh -tt h2 'tty </dev/tty >/dev/null && stty size >/dev/null && echo tty'; qsh h2 'tty || true'",
    )
    .ok()?;
    ensure!(out.text() == "tty\r\nnot a tty", "{out:?}");
    let out = bash(
        c,
        "qsh -o SendEnv=FOO_* -o SetEnv=BAR=2 h2 'echo $FOO_1 $BAR $LC_ALL $OTHER'",
    )
    .env("FOO_1", "1")
    .env("LC_ALL", "C")
    .env("OTHER", "no")
    .ok()?;
    ensure!(out.text() == "1 2 C", "{out:?}");
    Ok(())
}

fn list_of_hosts(c: &Cluster) -> Result<()> {
    for line in [
        "while read h; do queue --no-stdin -h $h -- hostname; done",
        "while read h; do qsh -n $h hostname; done",
        "while read h; do queue -h $h -- hostname </dev/null; done",
    ] {
        let out = bash(c, line).stdin("h1\nh2\nh3\n").ok()?;
        ensure!(
            out.text() == "h1\nh2\nh3" && out.stderr.is_empty(),
            "{line}: {out:?}"
        );
    }
    // All at once.
    let out = bash(
        c,
        "printf '%s\\n' h1 h2 h3 h1 h2 h3 | xargs -P6 -I{} qsh {} hostname | sort",
    )
    .ok()?;
    ensure!(out.text() == "h1\nh1\nh2\nh2\nh3\nh3", "{out:?}");
    Ok(())
}

fn host_named_like_a_verb() -> Result<()> {
    let c = bare(2)?;
    let (first, second) = (c.host(1), c.host(2));
    first
        .command([
            "queued",
            "init",
            "--name",
            "verbs",
            "--advertise",
            &first.address(),
        ])
        .ok()?;
    install::run_queued(first)?;
    let line = format!(
        "hostname jobs && exec queued join - --force --advertise {}",
        second.address()
    );
    second.sh(&line).stdin(install::token(first, &[])? + "\n").ok()?;
    install::run_queued(second)?;
    let mut last = None;
    wait_until(LIMIT, "the host named jobs", || {
        last = bash(&c, "qsh jobs hostname").run().ok();
        last.as_ref().is_some_and(|o| o.text() == "jobs")
    })
    .with_context(|| format!("{last:?}"))?;
    let out = bash(
        &c,
        "queue -h jobs -- hostname; qsh -x -l alice jobs 'hostname; id -un'",
    )
    .ok()?;
    ensure!(out.text() == "jobs\njobs\nalice", "{out:?}");
    // To `queue` it is the verb.
    let out = bash(&c, "queue jobs hostname").run()?;
    ensure!(
        !out.text().contains("jobs\n") && out.status != Status::Exit(0),
        "{out:?}"
    );
    c.down()
}

/// Makes a directory on all hosts that alice owns, with this makefile.
fn makefile(c: &Cluster, name: &str, text: &str) -> Result<PathBuf> {
    let dir = c.shared().join(name);
    let at = dir.display();
    c.host(1)
        .sh(&format!("rm -rf {at}; mkdir {at}"))
        .user("alice")
        .ok()?;
    fs::write(dir.join("Makefile"), text)?;
    Ok(dir)
}

/// Recipes that say where they run and how many of them do at a time; the first of each part wait for each
/// other, so that they do run at a time.
const JOBS: &str = "\
all: one two
\t@echo top $$(hostname) $$QUEUE_HOST >>log
one two:
\t+@echo make $$(hostname) >>log; $(MAKE) --no-print-directory PART=$@ part
TASKS = 1 2 3 4 5 6
part: $(TASKS:%=task-%)
task-%:
\t@mkdir running-$(PART)-$*; ls -d running-* | wc -l >>counts; : >met-$(PART); \\
\tn=0; until [ -e met-one ] && [ -e met-two ] || [ $$n = 1000 ]; do n=$$((n+1)); sleep .02; done; \\
\techo task $$(hostname) >>log; rmdir running-$(PART)-$*
.PHONY: all one two part
";

fn make_job_server(c: &Cluster) -> Result<()> {
    let dir = makefile(c, "job-server", JOBS)?;
    let run = |line: &str| bash(c, &format!("cd {} && {line}", dir.display())).run();
    let out = run("make -j3 SHELL=queue-sh")?;
    ensure!(out.status == Status::Exit(0), "{out:?}");
    // One warning would be enough to tell that a make did not get its job server.
    ensure!(!out.error().contains("jobserver"), "{out:?}");
    let log = fs::read_to_string(dir.join("log"))?;
    let of = |what: &str| -> Vec<&str> { log.lines().filter_map(|l| l.strip_prefix(what)).collect() };
    ensure!(
        of("make ") == ["h1", "h1"],
        "recursive make does not run here: {log}"
    );
    ensure!(of("task ").len() == 12, "{log}");
    let mut hosts = of("task ");
    hosts.sort_unstable();
    hosts.dedup();
    ensure!(hosts.len() > 1, "all recipes on one host: {log}");
    ensure!(of("top ").len() == 1, "{log}");
    let counts = fs::read_to_string(dir.join("counts"))?;
    let most = counts.lines().filter_map(|n| n.trim().parse::<u32>().ok()).max();
    ensure!(
        matches!(most, Some(2 | 3)),
        "-j3 means {most:?} at a time: {counts}"
    );
    Ok(())
}

fn make_failing_recipe(c: &Cluster) -> Result<()> {
    let text = "all: first second\nfirst:\n\t@echo out; exit 7\nsecond: first\n\t@: >second-ran\n\
        gone:\n\t@kill -9 $$$$\nignored:\n\t-@exit 5\n\t@echo still\nlost:\n\tno-such-command-at-all\n";
    let dir = makefile(c, "failing", text)?;
    let run = |goal: &str| bash(c, &format!("cd {} && make SHELL=queue-sh {goal}", dir.display())).run();
    for (goal, code, out_has, err_has) in [
        ("all", 2, "out", "Error 7"),
        ("gone", 2, "", "Killed"),
        ("ignored", 0, "still", "Error 5 (ignored)"),
        ("lost", 2, "", "Error 127"),
        ("-k all", 2, "out", "Error 7"),
    ] {
        let out = run(goal)?;
        ensure!(
            out.status == Status::Exit(code) && out.text().contains(out_has) && out.error().contains(err_has),
            "{goal}: {out:?}"
        );
    }
    ensure!(!dir.join("second-ran").exists(), "make went on after a failure");
    // `.ONESHELL`, other shell flags, and a script as the shell form's other use.
    let text = ".ONESHELL:\n.SHELLFLAGS = -euc\nall:\n\t@x=1\n\techo $$x\n\tfalse\n\techo not here\n";
    fs::write(dir.join("Makefile"), text)?;
    let out = run("all")?;
    ensure!(out.status == Status::Exit(2) && out.text() == "1", "{out:?}");
    Ok(())
}

/// A small library of Debian's that is built by autoconf, automake and libtool, with makefiles that call make.
const SOURCE: &str = "popt";

/// The unpacked-from archive, fetched once and kept with what cargo built.
fn source() -> Result<PathBuf> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian-source");
    let found = || -> Option<PathBuf> {
        let name = |p: &PathBuf| p.file_name().map(|n| n.to_string_lossy().into_owned());
        let mut files = fs::read_dir(&dir).ok()?.flatten().map(|e| e.path());
        files.find(|p| {
            name(p).is_some_and(|n| n.starts_with(&format!("{SOURCE}_")) && n.contains(".orig.tar"))
        })
    };
    if let Some(file) = found() {
        return Ok(file);
    }
    // A configuration of its own: the machine's lists and settings stay as they are. apt checks signatures.
    let script = format!(
        "set -eu; . /etc/os-release; apt={dir}/apt; rm -rf $apt; mkdir -p $apt/lists/partial $apt/cache/archives/partial $apt/new
         [ \"$ID\" = debian ] || {{ echo \"not a Debian machine\"; exit 1; }}
         # From where this machine has its packages.
         mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | sed -n 's/^URIs: *\\([^ ]*\\).*/\\1/p; s/^deb \\(\\[[^]]*\\] *\\)\\{{0,1\\}}\\([^ ]*\\) .*/\\2/p' | grep -v security | head -n 1)
         echo \"deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${{QUEUE_TEST_MIRROR:-$mirror}} $VERSION_CODENAME main\" >$apt/sources.list
         echo \"Dir::State::lists \\\"$apt/lists\\\"; Dir::Cache \\\"$apt/cache\\\"; Dir::Etc::sourcelist \\\"$apt/sources.list\\\"; Dir::Etc::sourceparts \\\"-\\\"; APT::Sandbox::User \\\"root\\\"; Acquire::Retries \\\"3\\\";\" >$apt/apt.conf
         export APT_CONFIG=$apt/apt.conf; cd $apt/new
         apt-get -qq update && apt-get -qq source --download-only {SOURCE}
         mv {SOURCE}_*.orig.tar.* {dir}/; rm -rf $apt",
        dir = dir.display()
    );
    let out = Command::new("sh").args(["-c", &script]).output()?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
    found().with_context(|| {
        format!(
            "the source of {SOURCE} could not be fetched from Debian (apt-get source {SOURCE}; \
             QUEUE_TEST_MIRROR=URL for another mirror, or put {SOURCE}_VERSION.orig.tar.xz into {}): {said}",
            dir.display()
        )
    })
}

fn autotools_project(c: &Cluster) -> Result<()> {
    let archive = source()?;
    let dir = c.shared().join("autotools");
    // Where alice can read it.
    let copy = c.shared().join("autotools.tar");
    fs::copy(&archive, &copy)?;
    // A compiler that tells where it runs.
    let line = format!(
        "rm -rf {dir}; mkdir {dir}; cd {dir}; tar xf {archive} --strip-components 1 --no-same-owner\n\
         printf '#!/bin/sh\\necho ${{QUEUE_HOST:-here}} $(hostname) >>{dir}/cc-log\\nexec gcc \"$@\"\\n' >cc; chmod 755 cc\n\
         ./configure --quiet --disable-nls CC={dir}/cc >configure.log 2>&1 || {{ tail -n 40 configure.log; exit 1; }}\n\
         rm cc-log",
        dir = dir.display(),
        archive = copy.display()
    );
    let unpacked = c.host(1).command(["bash", "-euc", &line]).user("alice");
    unpacked.timeout(Duration::from_secs(300)).ok()?;
    let run = |line: &str| {
        let command = bash(c, &format!("cd {} && {line}", dir.display()));
        command.timeout(Duration::from_secs(300)).ok()
    };
    let out = run("make -j8 SHELL=queue-sh 2>&1")?;
    ensure!(!out.text().contains("jobserver"), "{out:?}");
    let log = fs::read_to_string(dir.join("cc-log"))?;
    let mut hosts = Vec::new();
    for line in log.lines() {
        let (told, own) = line.split_once(' ').context("bad line")?;
        ensure!(told == own, "QUEUE_HOST is {told} on {own}");
        hosts.push(own);
    }
    ensure!(hosts.len() > 10, "{log}");
    hosts.sort_unstable();
    hosts.dedup();
    ensure!(hosts.len() > 1, "everything was compiled on {hosts:?}");
    // libtool's results are usable, and the project's own tests say so as well.
    let out = run(
        "test -s src/.libs/libpopt.so && ldd tests/.libs/test1 | grep -c libpopt; \
        make -j8 check SHELL=queue-sh 2>&1",
    )?;
    ensure!(
        out.text().contains("# PASS:  1") && out.text().contains("# FAIL:  0"),
        "{out:?}"
    );
    run(
        "make SHELL=queue-sh DESTDIR=$PWD/installed install >/dev/null && test -s installed/usr/local/lib/libpopt.so",
    )?;
    // Nothing is left to compile: times of files are as with any shell.
    let compiled = || fs::read_to_string(dir.join("cc-log")).map(|l| l.lines().count());
    let before = compiled()?;
    run("make -j8 SHELL=queue-sh all")?;
    ensure!(compiled()? == before, "make compiles again what is there");
    Ok(())
}
