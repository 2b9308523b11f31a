//! The launch form without a terminal: what goes there, what comes back, how it ends.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use queue_harness::{Cluster, LIMIT, Output, Status, accounts, wait_until};

use crate::world::{World, bash, queue, runs};

pub(crate) fn trials(w: &Arc<World>) -> Vec<Trial> {
    vec![
        w.shared("launch::runs_on_the_host_named", runs_on_the_host_named),
        w.shared("launch::argv_is_executed_as_given", argv_is_executed_as_given),
        w.shared("launch::every_exit_code", every_exit_code),
        w.shared("launch::death_by_every_signal", death_by_every_signal),
        w.shared("launch::environment_of_a_megabyte", environment_of_a_megabyte),
        w.shared("launch::working_directory", working_directory),
        w.shared("launch::missing_directory", missing_directory),
        w.shared("launch::umask_and_nice", umask_and_nice),
        w.shared("launch::limits_tighten_only", limits_tighten_only),
        w.shared("launch::groups_are_the_hosts", groups_are_the_hosts),
        w.shared(
            "launch::streams_are_apart_and_binary",
            streams_are_apart_and_binary,
        ),
        w.shared("launch::a_gigabyte_both_ways", a_gigabyte_both_ways),
        w.shared("launch::yes_head", yes_head),
        w.shared("launch::stdout_closed_early", stdout_closed_early),
        w.shared("launch::background_children_end", background_children_end),
        w.shared("launch::not_found_not_executable", not_found_not_executable),
        w.shared("launch::own_failures", own_failures),
        w.shared("launch::descriptors_do_not_travel", descriptors_do_not_travel),
        w.shared("launch::no_stdin_keeps_the_list", no_stdin_keeps_the_list),
        w.shared("launch::signals_arrive_once", signals_arrive_once),
        w.shared(
            "launch::ignored_signals_stay_ignored",
            ignored_signals_stay_ignored,
        ),
        w.shared("launch::killed_queue_ends_the_tree", killed_queue_ends_the_tree),
        w.shared("launch::tee_writes_the_same", tee_writes_the_same),
        w.shared("launch::many_at_once", many_at_once),
        w.alone("launch::unreachable_host", unreachable_host),
    ]
}

/// One line, by `queue`, that holds these words.
fn says(out: &Output, words: &[&str]) -> Result<()> {
    let text = out.error();
    ensure!(
        text.starts_with("queue: ") && text.lines().count() == 1,
        "not one line of queue's: {out:?}"
    );
    for word in words {
        ensure!(text.contains(word), "{word:?} is missing: {out:?}");
    }
    Ok(())
}

fn runs_on_the_host_named(c: &Cluster) -> Result<()> {
    for host in ["h1", "h2", "h3"] {
        assert_eq!(queue(c, &["-h", host, "--", "hostname"]).ok()?.text(), host);
    }
    for any in [
        &["-h", "+", "--", "hostname"][..],
        &["--", "hostname"],
        &["-i", "--", "hostname"],
    ] {
        let name = queue(c, any).ok()?.text();
        assert!(["h1", "h2", "h3"].contains(&name.as_str()), "{name}");
    }
    assert_eq!(queue(c, &["-H", "h3", "--", "hostname"]).ok()?.text(), "h3");
    Ok(())
}

fn argv_is_executed_as_given(c: &Cluster) -> Result<()> {
    let long = "x".repeat(100_000);
    let mut args: Vec<OsString> = [
        "",
        " a  b ",
        "'",
        "\"",
        "$HOME `id` $(id)",
        "*",
        "-h",
        "--",
        "-i",
        "\\",
        "line\nline\n",
        "\t",
        "é",
        &long,
    ]
    .iter()
    .map(OsString::from)
    .collect();
    args.push(OsString::from_vec(b"\xff\xfe bytes \x01".to_vec()));
    let argv: Vec<OsString> = ["queue", "-h", "h2", "--", "printf", "%s\\0"]
        .iter()
        .map(OsString::from)
        .collect();
    let out = c.host(1).command(argv.iter().chain(&args)).user("alice").ok()?;
    let got: Vec<&[u8]> = out.stdout.split(|b| *b == 0).collect();
    let sent: Vec<&[u8]> = args.iter().map(|a| a.as_bytes()).chain([&b""[..]]).collect();
    assert!(got == sent, "{:?}", String::from_utf8_lossy(&out.stdout));
    Ok(())
}

fn every_exit_code(c: &Cluster) -> Result<()> {
    let line =
        "for i in $(seq 0 255); do queue -h h2 -- sh -c \"exit $i\"; [ $? = $i ] || echo \"$i: $?\"; done";
    let out = bash(c, line).ok()?;
    assert!(out.text().is_empty() && out.error().is_empty(), "{out:?}");
    Ok(())
}

fn death_by_every_signal(c: &Cluster) -> Result<()> {
    // Those that end a process by default.
    let deadly = (1..=16).chain([24, 25, 26, 27, 29, 30, 31, 34, 40, 64]);
    for n in deadly {
        let line = format!("ulimit -c 0; exec queue -h h2 -- sh -c 'kill -{n} $$'");
        let out = bash(c, &line).run()?;
        assert_eq!(out.status, Status::Signal(n), "{out:?}");
        assert!(out.error().is_empty(), "{out:?}");
    }
    Ok(())
}

fn environment(out: &Output) -> BTreeMap<OsString, OsString> {
    let pairs = out.stdout.split(|b| *b == 0).filter_map(|v| {
        let at = v.iter().position(|b| *b == b'=')?;
        Some((
            OsStr::from_bytes(&v[..at]).to_owned(),
            OsStr::from_bytes(&v[at + 1..]).to_owned(),
        ))
    });
    pairs.collect()
}

fn environment_of_a_megabyte(c: &Cluster) -> Result<()> {
    let large: String = "0123456789\n= $x\t".chars().cycle().take(110_000).collect();
    let with = |argv: &[&str]| {
        let mut command = c
            .host(1)
            .command(argv)
            .user("alice")
            .env("EMPTY", "")
            .env("LD_DEBUG_X", "1");
        for i in 0..10 {
            command = command.env(format!("LARGE_{i}"), &large);
        }
        command.env("BYTES", OsString::from_vec(b"\xff\n\x01".to_vec()))
    };
    let here = environment(&with(&["env", "-0"]).ok()?);
    let there = environment(&with(&["queue", "-h", "h2", "--", "env", "-0"]).ok()?);
    for (name, value) in &here {
        ensure!(there.get(name) == Some(value), "{name:?} differs");
    }
    for name in there.keys().filter(|n| !here.contains_key(*n)) {
        ensure!(
            name.as_bytes().starts_with(b"QUEUE_"),
            "{name:?} came from nowhere"
        );
    }
    Ok(())
}

fn working_directory(c: &Cluster) -> Result<()> {
    let dir = c.shared().join("a dir\nwith a newline");
    c.host(1)
        .command([OsStr::new("mkdir"), dir.as_os_str()])
        .user("alice")
        .ok()?;
    let out = queue(c, &["-h", "h2", "--", "pwd"]).dir(&dir).ok()?;
    assert_eq!(out.stdout, [dir.as_os_str().as_bytes(), b"\n"].concat());
    assert_eq!(queue(c, &["-h", "h2", "--", "pwd"]).dir("/").ok()?.text(), "/");
    Ok(())
}

fn missing_directory(c: &Cluster) -> Result<()> {
    c.host(1).sh("mkdir -p only-on-h1").user("alice").ok()?;
    let proof = c.shared().join("ran-without-directory");
    let touch = proof.display().to_string();
    let out = queue(c, &["-h", "h2", "--", "touch", &touch])
        .dir("/home/alice/only-on-h1")
        .run()?;
    assert_eq!(out.status, Status::Exit(125), "{out:?}");
    says(&out, &["/home/alice/only-on-h1", "h2"])?;
    assert!(!proof.exists(), "it ran all the same");
    // Not allowed to enter is told as well.
    let out = queue(c, &["-h", "h2", "--", "true"])
        .user("root")
        .dir("/home/bob")
        .user("alice")
        .run();
    // The harness itself may not start a program there as alice; then there is nothing to look at.
    if let Ok(out) = out {
        assert_eq!(out.status, Status::Exit(125), "{out:?}");
    }
    Ok(())
}

fn umask_and_nice(c: &Cluster) -> Result<()> {
    assert_eq!(
        bash(c, "umask 037; exec queue -h h2 -- sh -c umask").ok()?.text(),
        "0037"
    );
    assert_eq!(
        bash(c, "umask 000; exec queue -h h2 -- sh -c umask").ok()?.text(),
        "0000"
    );
    assert_eq!(bash(c, "exec nice -n 7 queue -h h2 -- nice").ok()?.text(), "7");
    assert_eq!(queue(c, &["-h", "h2", "--", "nice"]).ok()?.text(), "0");
    Ok(())
}

fn limits_tighten_only(c: &Cluster) -> Result<()> {
    let line = "ulimit -Sn 123; ulimit -Hn 234; ulimit -c 0; exec queue -h h2 -- sh -c 'ulimit -Sn; ulimit -Hn; ulimit -c'";
    assert_eq!(bash(c, line).ok()?.text(), "123\n234\n0");
    // h3 allows less than the caller has: its monitor, and all that came or will come from it.
    let lower = "for p in $(pgrep -x queue-exec) $(pgrep -x queue-session) $(pgrep -x queue-init); do \
        prlimit --pid $p --memlock=65536:65536; done";
    c.host(3).sh(lower).run()?;
    let out = bash(c, "ulimit -Hl; queue -h h3 -- sh -c 'ulimit -Sl; ulimit -Hl'")
        .ok()?
        .text();
    let values: Vec<&str> = out.lines().collect();
    ensure!(
        values.len() == 3 && values[0] != "64" && values[1..] == ["64", "64"],
        "{values:?}"
    );
    // And what is asked for below that still counts.
    let line = "ulimit -Sl 16; exec queue -h h3 -- sh -c 'ulimit -Sl; ulimit -Hl'";
    assert_eq!(bash(c, line).ok()?.text(), "16\n64");
    Ok(())
}

fn groups_are_the_hosts(c: &Cluster) -> Result<()> {
    for k in 1..=3 {
        let out = queue(c, &["-h", &format!("h{k}"), "--", "id", "-Gn"]).ok()?;
        assert_eq!(out.text(), format!("alice at-h{k}"));
        // Her uid is another one on each host: names are what counts.
        let out = queue(c, &["-h", &format!("h{k}"), "--", "id", "-u"])
            .user("carol")
            .ok()?;
        assert_eq!(out.text(), accounts::uid("carol", k, false).to_string());
    }
    Ok(())
}

fn streams_are_apart_and_binary(c: &Cluster) -> Result<()> {
    let script =
        "import sys; b=bytes(range(256))*300; sys.stdout.buffer.write(b); sys.stderr.buffer.write(b[::-1])";
    let out = queue(c, &["-h", "h2", "--", "python3", "-c", script]).ok()?;
    let bytes: Vec<u8> = (0..=255u8).cycle().take(256 * 300).collect();
    let back: Vec<u8> = bytes.iter().rev().copied().collect();
    assert!(
        out.stdout == bytes && out.stderr == back,
        "{} {}",
        out.stdout.len(),
        out.stderr.len()
    );
    let mut seed = 1u64;
    let data: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (seed >> 56) as u8
    })
    .take(9_000_001)
    .collect();
    let out = queue(c, &["-h", "h2", "--", "cat"]).stdin(data.clone()).ok()?;
    assert!(
        out.stdout == data,
        "{} of {} bytes came back",
        out.stdout.len(),
        data.len()
    );
    // Nothing in, nothing out.
    let out = queue(c, &["-h", "h2", "--", "cat"]).ok()?;
    assert!(out.stdout.is_empty() && out.stderr.is_empty(), "{out:?}");
    Ok(())
}

fn a_gigabyte_both_ways(c: &Cluster) -> Result<()> {
    // No two megabytes alike, every byte value in each.
    let make = "import os,sys\nb=os.urandom(1<<20)+bytes(range(256))\n\
        for i in range(1024): sys.stdout.buffer.write(i.to_bytes(4,'big')+b[i:]+b[:i])";
    let line = format!(
        "set -o pipefail; d=$(mktemp -d); mkfifo $d/f; sha256sum <$d/f >$d/sum & \
         python3 -c \"{make}\" | tee $d/f | queue -h h2 -- cat | sha256sum; s=$?; wait; cat $d/sum; rm -r $d; exit $s"
    );
    let out = bash(c, &line).timeout(Duration::from_secs(180)).ok()?;
    let text = out.text();
    let sums: Vec<&str> = text.lines().collect();
    ensure!(
        sums.len() == 2 && sums[0] == sums[1] && out.stderr.is_empty(),
        "{out:?}"
    );
    Ok(())
}

fn yes_head(c: &Cluster) -> Result<()> {
    // Many times: what is on its way when the reader leaves differs each time.
    let line =
        "for i in $(seq 40); do queue -h h2 -- yes yes-head-out | head -n 2; echo ${PIPESTATUS[0]}; done";
    let out = bash(c, line).ok()?;
    assert_eq!(
        out.stdout,
        b"yes-head-out\nyes-head-out\n141\n".repeat(40),
        "{out:?}"
    );
    assert!(out.stderr.is_empty(), "{out:?}");
    wait_until(LIMIT, "the end of yes there", || !runs(c, 2, "yes yes-head-out"))?;
    let line =
        "for i in $(seq 80); do yes yes-head-in | queue -h h2 -- head -n 2; echo ${PIPESTATUS[*]}; done";
    let out = bash(c, line).ok()?;
    assert_eq!(
        out.stdout,
        b"yes-head-in\nyes-head-in\n141 0\n".repeat(80),
        "{out:?}"
    );
    assert!(out.stderr.is_empty(), "{out:?}");
    Ok(())
}

fn stdout_closed_early(c: &Cluster) -> Result<()> {
    let mut running = queue(
        c,
        &[
            "-h",
            "h2",
            "--",
            "sh",
            "-c",
            "echo one; exec >&-; read x; echo $x >&2; exit 4",
        ],
    )
    .spawn_piped()?;
    wait_until(LIMIT, "the end of stdout", || running.stdout_ended())?;
    assert_eq!(running.stdout(), b"one\n");
    assert_eq!(running.status()?, None, "the command still waits for its input");
    std::io::Write::write_all(running.stdin()?, b"two\n")?;
    let out = running.wait(LIMIT)?;
    assert_eq!(
        (out.status, out.error().as_str()),
        (Status::Exit(4), "two"),
        "{out:?}"
    );
    // The other way round: who reads our input stops early, and goes on to work.
    let out = bash(
        c,
        "head -c 5000000 /dev/zero | queue -h h2 -- sh -c 'exec <&-; echo done'; echo ${PIPESTATUS[1]}",
    );
    assert_eq!(out.ok()?.text(), "done\n0");
    Ok(())
}

fn background_children_end(c: &Cluster) -> Result<()> {
    let start = Instant::now();
    let out = queue(
        c,
        &["-h", "h2", "--", "sh", "-c", "sleep 71001 & echo out; exit 3"],
    )
    .run()?;
    assert_eq!(
        (out.status, out.text().as_str()),
        (Status::Exit(3), "out"),
        "{out:?}"
    );
    // One that left its session, its group and its streams.
    let daemon = "setsid sh -c 'setsid sleep 71002 & sleep 71003' >/dev/null 2>&1 </dev/null & echo out";
    let out = queue(c, &["-h", "h2", "--", "sh", "-c", daemon]).run()?;
    assert_eq!(
        (out.status, out.text().as_str()),
        (Status::Exit(0), "out"),
        "{out:?}"
    );
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    wait_until(LIMIT, "the end of the trees", || !runs(c, 2, "sleep 7100"))
}

fn not_found_not_executable(c: &Cluster) -> Result<()> {
    let out = queue(c, &["-h", "h2", "--", "no-such-command-at-all"]).run()?;
    assert_eq!(out.status, Status::Exit(127), "{out:?}");
    says(&out, &["no-such-command-at-all", "h2"])?;
    let out = queue(c, &["-h", "h2", "--", "/no/such/path"]).run()?;
    assert_eq!(out.status, Status::Exit(127), "{out:?}");
    says(&out, &["/no/such/path"])?;
    for path in ["/etc/passwd", "/etc"] {
        let out = queue(c, &["-h", "h2", "--", path]).run()?;
        assert_eq!(out.status, Status::Exit(126), "{out:?}");
        says(&out, &[path])?;
    }
    // A script whose interpreter is missing is there, but cannot be run.
    let script = c.shared().join("bad-interpreter");
    std::fs::write(&script, "#!/no/such/interpreter\n")?;
    c.host(1)
        .command([OsStr::new("chmod"), OsStr::new("755"), script.as_os_str()])
        .ok()?;
    let out = queue(c, &["-h", "h2", "--", &script.display().to_string()]).run()?;
    assert!(
        [Status::Exit(126), Status::Exit(127)].contains(&out.status),
        "{out:?}"
    );
    says(&out, &["bad-interpreter"])
}

fn own_failures(c: &Cluster) -> Result<()> {
    let out = queue(c, &["-h", "no-such-host", "--", "true"]).run()?;
    assert_eq!(out.status, Status::Exit(125), "{out:?}");
    says(&out, &["no-such-host"])?;
    let out = queue(c, &["--no-such-option", "--", "true"]).run()?;
    assert_eq!(out.status, Status::Exit(125), "{out:?}");
    says(&out, &["--no-such-option"])?;
    let out = queue(c, &["-h", "h2", "--", "true"])
        .env("QUEUE_SOCKET", "/run/nowhere/queued.sock")
        .run()?;
    assert_eq!(out.status, Status::Exit(125), "{out:?}");
    says(&out, &["/run/nowhere/queued.sock"])?;
    let out = queue(c, &["-h", "h2", "-l", "bob", "--", "true"]).run()?;
    assert_eq!(out.status, Status::Exit(125), "{out:?}");
    says(&out, &["bob", "h2"])?;
    // Root may act as root here, but no host takes another one's word for it.
    let out = queue(c, &["-h", "h2", "--", "id"]).user("root").run()?;
    assert_eq!(out.status, Status::Exit(125), "{out:?}");
    says(&out, &["root", "h2"])
}

fn descriptors_do_not_travel(c: &Cluster) -> Result<()> {
    let out = bash(c, "queue -h h2 -- cat <(echo hidden)").run()?;
    assert_eq!(out.status, Status::Exit(125), "{out:?}");
    says(&out, &["/dev/fd/"])
}

fn no_stdin_keeps_the_list(c: &Cluster) -> Result<()> {
    let line =
        "printf 'h2\\nh3\\nh1\\n' | while read h; do queue -h $h --no-stdin -- sh -c 'hostname; cat'; done";
    assert_eq!(bash(c, line).ok()?.text(), "h2\nh3\nh1");
    Ok(())
}

fn signals_arrive_once(c: &Cluster) -> Result<()> {
    let script = "import signal,time\n\
        n={}\n\
        def f(s,_): n[s]=n.get(s,0)+1; print(s,n[s],flush=True)\n\
        for s in (1,2,3,10,12,15,28,34,50): signal.signal(s,f)\n\
        print('up',flush=True)\n\
        while True: time.sleep(0.02)";
    let running = queue(c, &["-h", "h2", "--", "python3", "-c", script]).spawn()?;
    // (It sleeps in short pieces: a signal just before pause(2) would be noticed only with the next one.)
    let shows = |text: &str| String::from_utf8_lossy(&running.stdout()) == text;
    let mut expected = String::from("up\n");
    wait_until(LIMIT, "the command", || shows(&expected))?;
    for s in [1, 2, 3, 10, 12, 15, 28, 34, 50] {
        // nix knows no real-time signals.
        // SAFETY: a system call with numbers only.
        let sent = unsafe { libc::kill(running.pid()?, s) };
        assert_eq!(sent, 0);
        expected.push_str(&format!("{s} 1\n"));
        wait_until(LIMIT, &format!("signal {s}, once"), || shows(&expected))
            .map_err(|e| e.context(format!("{:?}", String::from_utf8_lossy(&running.stdout()))))?;
    }
    Ok(())
}

fn ignored_signals_stay_ignored(c: &Cluster) -> Result<()> {
    let line = "trap '' USR1 HUP; exec queue -h h2 -- sh -c 'kill -USR1 $$; kill -HUP $$; echo alive'";
    assert_eq!(bash(c, line).ok()?.text(), "alive");
    // SIGPIPE too: then the command is told by an error instead.
    let line = "trap '' PIPE; exec queue -h h2 -- sh -c 'kill -PIPE $$; echo alive'";
    assert_eq!(bash(c, line).ok()?.text(), "alive");
    let mask = "import signal,sys,os\n\
        signal.pthread_sigmask(signal.SIG_BLOCK,[signal.SIGUSR2])\n\
        os.execvp('queue',['queue','-h','h2','--','grep','SigBlk','/proc/self/status'])";
    let out = c.host(1).command(["python3", "-c", mask]).user("alice").ok()?;
    assert_eq!(
        out.text(),
        format!("SigBlk:\t{:016x}", 1u64 << (libc::SIGUSR2 - 1))
    );
    let out = queue(
        c,
        &[
            "-h",
            "h2",
            "--",
            "grep",
            "-E",
            "Sig(Blk|Ign)",
            "/proc/self/status",
        ],
    )
    .ok()?;
    for line in out.text().lines() {
        let set = u64::from_str_radix(line.split_whitespace().last().unwrap_or_default(), 16)?;
        // 32 and 33 are the C library's own, whose posix_spawn leaves them ignored.
        assert_eq!(set & !(0b11 << 31), 0, "{line}");
    }
    Ok(())
}

fn killed_queue_ends_the_tree(c: &Cluster) -> Result<()> {
    // It ignores what can be ignored.
    let script = "trap '' HUP TERM; echo up; sleep 72001 & sleep 72002";
    let running = queue(c, &["-h", "h2", "--", "sh", "-c", script]).spawn()?;
    wait_until(LIMIT, "the command", || {
        running.stdout() == b"up\n" && runs(c, 2, "sleep 72002")
    })?;
    running.signal(Signal::SIGKILL)?;
    // Five seconds, and one for this machine.
    wait_until(Duration::from_secs(6), "the end of the tree", || {
        !runs(c, 2, "sleep 7200")
    })
}

fn tee_writes_the_same(c: &Cluster) -> Result<()> {
    let line =
        "rm -f tee; queue -h h2 --tee tee -- sh -c 'printf \"a\\0b\\377\"; exit 5'; echo \" $?\"; cat tee";
    let out = bash(c, line).ok()?;
    assert_eq!(out.stdout, b"a\0b\xff 5\na\0b\xff", "{out:?}");
    let out = bash(c, "queue -h h2 --tee /dev/full -- echo hello").run()?;
    assert_eq!(
        out.text(),
        "hello",
        "a full disk takes nothing from the output: {out:?}"
    );
    assert!(out.error().contains("/dev/full"), "{out:?}");
    let out = bash(c, "queue -h h2 --tee /etc/not-mine -- echo hello").run()?;
    assert_eq!(out.status, Status::Exit(125), "{out:?}");
    says(&out, &["/etc/not-mine"])
}

fn many_at_once(c: &Cluster) -> Result<()> {
    let line = "for i in $(seq 40); do queue -- sh -c \"echo $i; exit $i\" & p[$i]=$!; done; \
        for i in $(seq 40); do wait ${p[$i]}; [ $? = $i ] || echo \"bad $i\"; done";
    let out = bash(c, line).ok()?;
    let mut got: Vec<u32> = out.text().lines().map(|l| l.parse().unwrap_or(0)).collect();
    got.sort_unstable();
    assert!(got == (1..=40).collect::<Vec<_>>(), "{out:?}");
    Ok(())
}

fn unreachable_host(c: &Cluster) -> Result<()> {
    c.isolate(3)?;
    let start = Instant::now();
    let out = queue(c, &["-h", "h3", "--", "true"]).run();
    // Work goes on where it can.
    let rest = bash(c, "for i in 1 2 3 4 5 6; do queue -- hostname || exit; done").run();
    c.heal()?;
    let (out, rest) = (out?, rest?);
    assert_eq!(out.status, Status::Exit(125), "{out:?}");
    says(&out, &["h3"])?;
    assert!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
    assert_eq!(rest.status, Status::Exit(0), "{rest:?}");
    assert!(!rest.text().contains("h3"), "{rest:?}");
    wait_until(LIMIT, "h3 to be back", || {
        queue(c, &["-h", "h3", "--", "true"]).ok().is_ok()
    })
}
