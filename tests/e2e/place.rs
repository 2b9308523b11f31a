//! Where commands go when nobody says where: evenly, in proportion, never to who cannot, is not willing or is
//! silent; and what is said when it is nowhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use queue_harness::{Cluster, LIMIT, Output, Status, wait_until};

use crate::world::{World, all_up, bash, configure, host, queue, until_state};

pub(crate) fn trials(w: &Arc<World>) -> Vec<Trial> {
    // Those that launch by the hundred wait until the last ones are forgotten: not one after the other.
    vec![
        w.alone("place::two_hundred_at_once", two_hundred_at_once),
        w.alone("place::drained_host", drained_host),
        w.alone("place::full_host", full_host),
        w.alone("place::waits_for_a_slot", waits_for_a_slot),
        w.alone("place::other_loads", other_loads),
        w.alone("place::needs", needs),
        w.alone("place::reservations", reservations),
        w.alone("place::other_cores", other_cores),
        w.alone("place::unwilling_host", unwilling_host),
        w.alone("place::explained", explained),
        w.alone("place::limited_by_a_cgroup", limited_by_a_cgroup),
        w.alone("place::other_powers", other_powers),
        w.alone("place::black_hole", black_hole),
    ]
}

/// Waits until every host has as good as forgotten what ran there.
fn idle(c: &Cluster) -> Result<()> {
    wait_until(LIMIT, "the hosts to be idle", || {
        (1..=3).all(|k| {
            let own = host(c, k, &format!("h{k}"));
            own.is_ok_and(|h| h["sessions"] == 0 && h["starts"].as_f64().is_some_and(|n| n < 0.5))
        })
    })
}

/// How many of 200 launches at once each host gets; none may fail.
fn two_hundred(c: &Cluster) -> Result<[usize; 3]> {
    idle(c)?;
    // A file each: lines of many writers may meet in a pipe.
    let line = "d=$(mktemp -d); for i in $(seq 200); do queue -- hostname >$d/$i 2>&1 & p[$i]=$!; done; \
        for i in $(seq 200); do wait ${p[$i]} || sed s/^/failed:/ $d/$i >&2; done; cat $d/*; rm -r $d";
    let out = bash(c, line).timeout(Duration::from_secs(60)).ok()?;
    ensure!(out.stderr.is_empty(), "{}", out.error());
    let mut got = BTreeMap::<String, usize>::new();
    for host in out.text().lines() {
        *got.entry(host.to_owned()).or_default() += 1;
    }
    ensure!(
        out.stderr.is_empty() && got.values().sum::<usize>() == 200,
        "{out:?}"
    );
    let of = |name: &str| got.get(name).copied().unwrap_or_default();
    let shares = [of("h1"), of("h2"), of("h3")];
    ensure!(shares.iter().sum::<usize>() == 200, "{got:?}");
    Ok(shares)
}

/// Whether shares are as these weights, within so much of each.
fn near(shares: [usize; 3], weights: [f64; 3], within: f64) -> Result<()> {
    let whole: f64 = weights.iter().sum();
    for (got, weight) in shares.iter().zip(weights) {
        let wanted = 200.0 * weight / whole;
        let off = (*got as f64 - wanted).abs() / wanted;
        ensure!(off <= within, "{shares:?} is not as {weights:?}, within {within}");
    }
    Ok(())
}

fn two_hundred_at_once(c: &Cluster) -> Result<()> {
    near(two_hundred(c)?, [1.0; 3], 0.15)
}

fn other_loads(c: &Cluster) -> Result<()> {
    let set = |loads: [f64; 3]| {
        let all = c.hosts().zip(loads);
        all.map(|(h, load)| h.load(load)).collect::<Result<Vec<()>>>()
    };
    set([0.1, 0.2, 0.3])?;
    let known = wait_until(LIMIT, "the loads to be known", || {
        let out = c.host(1).command(["queue", "hosts"]).run();
        out.is_ok_and(|o| ["0.10", "0.20", "0.30"].iter().all(|l| o.text().contains(l)))
    });
    let shares = known.and_then(|()| two_hundred(c));
    set([0.0; 3])?;
    // So small a load, against a hundred commands a core, is next to nothing.
    near(shares?, [1.0; 3], 0.2)
}

/// Shares of hosts that have these lines in their configuration, and of which this then holds.
fn shares_of(c: &Cluster, lines: [&str; 3], known: [&str; 3]) -> Result<[usize; 3]> {
    for (k, line) in (1..).zip(lines) {
        configure(c, k, line)?;
    }
    let shares = wait_until(LIMIT, "that to be known", || {
        let mut all = known.iter().zip(["h1", "h2", "h3"]);
        all.all(|(e, name)| {
            let out = queue(c, &["-R", &format!("{e} && host=={name}"), "--", "hostname"]).run();
            out.is_ok_and(|o| o.text() == name)
        })
    })
    .and_then(|()| two_hundred(c));
    for k in 1..=3 {
        configure(c, k, "")?;
    }
    shares
}

fn other_cores(c: &Cluster) -> Result<()> {
    let shares = shares_of(
        c,
        ["cores = 1", "cores = 2", "cores = 4"],
        ["cores==1", "cores==2", "cores==4"],
    )?;
    near(shares, [1.0, 2.0, 4.0], 0.2)
}

fn other_powers(c: &Cluster) -> Result<()> {
    let shares = shares_of(
        c,
        ["power = 1.0", "power = 2.0", "power = 4.0"],
        ["power==1", "power==2", "power==4"],
    )?;
    near(shares, [1.0, 2.0, 4.0], 0.2)
}

/// How long each of so many launches takes, one after the other, in milliseconds; sorted.
fn one_by_one(c: &Cluster, n: usize) -> Result<(Vec<f64>, String)> {
    let line = format!(
        "for i in $(seq {n}); do s=${{EPOCHREALTIME/./}}; h=$(queue -- hostname) || exit; \
         echo \"$(( ${{EPOCHREALTIME/./}} - s )) $h\"; done"
    );
    let out = bash(c, &line).ok()?;
    let us = out.text();
    let us = us
        .lines()
        .map(|l| l.split(' ').next().unwrap_or_default().parse::<f64>());
    let mut all: Vec<f64> = us.collect::<Result<_, _>>().with_context(|| format!("{out:?}"))?;
    all.iter_mut().for_each(|t| *t /= 1000.0);
    all.sort_by(f64::total_cmp);
    Ok((all, out.text()))
}

fn black_hole(c: &Cluster) -> Result<()> {
    let (before, _) = one_by_one(c, 100)?;
    c.isolate(3)?;
    // From the first moment on, before anybody can know.
    let during = one_by_one(c, 200);
    c.heal()?;
    let (during, text) = during?;
    ensure!(!text.contains("h3"), "{text}");
    let (p50, p50_before) = (during[100], before[50]);
    ensure!(during[199] < 1000.0, "{} ms; {during:?}", during[199]);
    // The figures are the bench's; other tests run beside this one.
    ensure!(
        p50 < p50_before * 2.0 + 5.0,
        "p50 {p50} ms, before {p50_before} ms"
    );
    all_up(c, LIMIT)
}

/// Queue's own refusal, with these words.
fn fails(out: &Output, words: &[&str]) -> Result<()> {
    ensure!(out.status == Status::Exit(125), "{out:?}");
    for word in words {
        ensure!(out.error().contains(word), "{word:?} is missing: {out:?}");
    }
    Ok(())
}

/// Waits until nothing runs there any more, as far as h1 knows.
fn free(c: &Cluster, name: &str) -> Result<()> {
    wait_until(LIMIT, &format!("{name} to be free"), || {
        host(c, 1, name).is_ok_and(|h| h["sessions"] == 0)
    })
}

/// Where `n` launches go.
fn where_to(c: &Cluster, options: &[&str], n: usize) -> Result<Vec<String>> {
    let one = |_| {
        let argv = [options, &["--", "hostname"]].concat();
        Ok(queue(c, &argv).ok()?.text())
    };
    (0..n).map(one).collect()
}

fn never(c: &Cluster, options: &[&str], name: &str) -> Result<()> {
    let hosts = where_to(c, options, 20)?;
    ensure!(!hosts.iter().any(|h| h == name), "{hosts:?}");
    Ok(())
}

fn drained_host(c: &Cluster) -> Result<()> {
    let drain = |verb: &[&str]| c.host(3).command(["queue"].iter().chain(verb)).ok();
    let out = c.host(3).command(["queue", "drain", "h3"]).user("alice").run()?;
    fails(&out, &["h3"])?;
    drain(&["drain", "h3", "--reason", "new disk"])?;
    let tested = until_state(c, LIMIT, &[1], "h3", "drained").and_then(|()| {
        never(c, &[], "h3")?;
        never(c, &["-H", "h3"], "h3")?;
        let out = queue(c, &["-h", "h3", "--", "true"]).run()?;
        fails(&out, &["h3", "drain", "new disk"])?;
        // The rsh form on it by name: somebody looks after it.
        let out = c.host(1).command(["qsh", "h3", "hostname"]).user("alice").ok()?;
        ensure!(out.text() == "h3", "{out:?}");
        // From another member root may, there and back.
        Ok(())
    });
    let undone = c.host(1).command(["queue", "undrain", "h3"]).ok();
    if undone.is_err() {
        drain(&["undrain", "h3"])?;
    }
    tested?;
    undone.context("root of another host")?;
    until_state(c, LIMIT, &[1, 2, 3], "h3", "up")?;
    ensure!(queue(c, &["-h", "h3", "--", "hostname"]).ok()?.text() == "h3");
    ensure!(where_to(c, &["-H", "h3"], 5)?.iter().all(|h| h == "h3"));
    Ok(())
}

fn full_host(c: &Cluster) -> Result<()> {
    free(c, "h3")?;
    configure(c, 3, "max-sessions = 1")?;
    let first = queue(c, &["-h", "h3", "--", "sh", "-c", "echo up; sleep 74001"]).spawn()?;
    let tested = wait_until(LIMIT, "the session", || first.stdout() == b"up\n").and_then(|()| {
        never(c, &[], "h3")?;
        let out = queue(c, &["-h", "h3", "--", "true"]).run()?;
        fails(&out, &["h3", "1"])?;
        let out = c.host(1).command(["qsh", "h3", "hostname"]).user("alice").ok()?;
        ensure!(out.text() == "h3", "{out:?}");
        Ok(())
    });
    drop(first);
    configure(c, 3, "")?;
    tested
}

fn waits_for_a_slot(c: &Cluster) -> Result<()> {
    free(c, "h3")?;
    configure(c, 3, "max-sessions = 1")?;
    let line = ["-h", "h3", "--", "sh", "-c", "echo up; sleep 74002"];
    let first = queue(c, &line).spawn()?;
    let tested = (|| {
        wait_until(LIMIT, "the session", || first.stdout() == b"up\n")?;
        let waits = |n: &str| {
            queue(
                c,
                &["-q", "-h", "h3", "--", "sh", "-c", &format!("echo {n}; hostname")],
            )
        };
        let told = |r: &queue_harness::Running| {
            let text = String::from_utf8_lossy(&r.stderr()).into_owned();
            text.starts_with("queue: ") && text.contains("h3") && text.contains("wait")
        };
        let one = waits("one").spawn()?;
        wait_until(LIMIT, "to be told what it waits for", || told(&one))
            .with_context(|| String::from_utf8_lossy(&one.stderr()).into_owned())?;
        let two = waits("two").spawn()?;
        wait_until(LIMIT, "to be told what it waits for", || told(&two))?;
        // One who has waited enough leaves.
        let three = waits("three").spawn()?;
        wait_until(LIMIT, "to be told what it waits for", || told(&three))?;
        three.signal(Signal::SIGINT)?;
        let out = three.wait(LIMIT)?;
        ensure!(out.status == Status::Signal(Signal::SIGINT as i32), "{out:?}");
        ensure!(one.stdout().is_empty() && two.stdout().is_empty());
        first.signal(Signal::SIGTERM)?;
        let (one, two) = (one.wait(LIMIT)?, two.wait(LIMIT)?);
        ensure!(
            one.text() == "one\nh3" && two.text() == "two\nh3",
            "{one:?} {two:?}"
        );
        Ok(())
    })();
    drop(first);
    configure(c, 3, "")?;
    tested
}

fn needs(c: &Cluster) -> Result<()> {
    configure(c, 2, "[resources]\nraid = \"200G\"\nroom = \"b12\"")?;
    configure(c, 3, "gpus = 2")?;
    let tested = (|| {
        let on = |options: &[&str], name: &str| {
            let mut last = None;
            wait_until(LIMIT, &format!("{options:?} to go to {name}"), || {
                last = queue(c, &[options, &["--", "hostname"]].concat()).run().ok();
                last.as_ref().is_some_and(|o| o.text() == name)
            })
            .with_context(|| format!("{last:?}"))
        };
        on(&["-R", "raid>=200G"], "h2")?;
        on(&["-R", "room==b12 && cores>=1"], "h2")?;
        on(&["--gpus", "1"], "h3")?;
        for (options, words) in [
            (&["-R", "raid>=500G"][..], &["h2", "raid"][..]),
            (&["--cores", "99"], &["cores", "99"]),
            (&["--mem", "900T"], &["memory", "900T"]),
            (&["--disk", "900P"], &["disk"]),
            (&["--gpus", "3"], &["h3", "GPU"]),
            (&["-h", "h1", "--gpus", "1"], &["h1", "GPU"]),
            (&["-R", "raid>="], &["-R"]),
        ] {
            // What can never be, is not waited for either.
            for wait in [&[][..], &["-q"]] {
                let argv = [wait, options, &["--", "true"]].concat();
                let out = queue(c, &argv).run()?;
                fails(&out, words).with_context(|| format!("{argv:?}"))?;
                ensure!(out.elapsed < Duration::from_secs(2), "{:?}", out.elapsed);
            }
        }
        Ok(())
    })();
    configure(c, 2, "")?;
    configure(c, 3, "")?;
    tested
}

fn reservations(c: &Cluster) -> Result<()> {
    // Both GPUs of h3 are taken: whoever comes now has to wait, whoever cannot wait is told.
    configure(c, 3, "gpus = 2")?;
    let tested = (|| {
        let taken = |n: &'static str| {
            let mut last = None;
            let held = queue_harness::wait_for(LIMIT, "a GPU", || {
                let line = ["--gpus", n, "--", "sh", "-c", "echo up; sleep 74003"];
                let running = queue(c, &line).spawn().ok()?;
                let up = wait_until(LIMIT, "up", || {
                    running.stdout() == b"up\n" || running.stdout_ended()
                });
                if up.is_ok() && running.stdout() == b"up\n" {
                    return Some(running);
                }
                last = Some(running.stderr());
                None
            });
            held.with_context(|| format!("{last:?}"))
        };
        let both = taken("2")?;
        let out = queue(c, &["--gpus", "1", "--", "true"]).run()?;
        fails(&out, &["h3", "GPU"])?;
        let later = queue(c, &["-q", "--gpus", "1", "--", "hostname"]).spawn()?;
        wait_until(LIMIT, "to be told what it waits for", || {
            !later.stderr().is_empty()
        })?;
        // Who needs none is not in its way, and starts at once.
        ensure!(queue(c, &["-h", "h3", "--", "hostname"]).ok()?.text() == "h3");
        both.signal(Signal::SIGTERM)?;
        ensure!(later.wait(LIMIT)?.text() == "h3");
        Ok(())
    })();
    configure(c, 3, "")?;
    tested
}

fn unwilling_host(c: &Cluster) -> Result<()> {
    configure(c, 3, "willing = false")?;
    let tested = (|| {
        let mut out = None;
        wait_until(LIMIT, "it to be known", || {
            out = queue(c, &["-h", "h3", "--", "true"]).run().ok();
            out.as_ref().is_some_and(|o| o.status == Status::Exit(125))
        })?;
        fails(&out.context("no output")?, &["h3", "willing"])?;
        never(c, &[], "h3")?;
        let own = c
            .host(3)
            .command(["queue", "-h", "h3", "--", "hostname"])
            .user("alice");
        ensure!(own.ok()?.text() == "h3");
        Ok(())
    })();
    configure(c, 3, "")?;
    tested
}

fn explained(c: &Cluster) -> Result<()> {
    let out = queue(c, &["explain", "--", "true"]).ok()?;
    for host in ["h1", "h2", "h3"] {
        ensure!(out.text().contains(host), "{host} is missing: {out:?}");
    }
    let out = queue(c, &["explain", "--cores", "99", "--", "true"]).run()?;
    let text = out.text();
    for host in ["h1", "h2", "h3"] {
        let why = text.lines().find(|l| l.contains(host));
        ensure!(why.is_some_and(|l| l.contains("cores")), "{host}: {out:?}");
    }
    let out = queue(c, &["explain", "--json", "--", "true"]).ok()?;
    let all: serde_json::Value = serde_json::from_slice(&out.stdout)?;
    ensure!(all["hosts"].as_array().is_some_and(|l| l.len() == 3), "{all}");
    let run = bash(c, "rm -f ran; queue explain -- touch ran; ls ran").run()?;
    ensure!(run.status != Status::Exit(0), "it ran: {run:?}");
    Ok(())
}

/// Gives the cgroup of a daemon one core, as the machine has it: in version 2 the host's own, in version 1 one that
/// is made here. 77: neither is to be had.
const ONE_CORE: &str = "\
if [ -w /sys/fs/cgroup/cpu.max ]; then echo '100000 100000' >/sys/fs/cgroup/cpu.max; exit; fi
mkdir -p /run/cpu && mount -t cgroup -o cpu none /run/cpu 2>/dev/null || exit 77
mkdir -p /run/cpu/queue-tests && echo 100000 >/run/cpu/queue-tests/cpu.cfs_quota_us || exit 77
for p in $(pgrep -x queued); do echo $p >/run/cpu/queue-tests/cgroup.procs; done";
const ALL_CORES: &str = "\
if [ -w /sys/fs/cgroup/cpu.max ]; then echo max >/sys/fs/cgroup/cpu.max; exit; fi
[ -d /run/cpu/queue-tests ] || exit 0
for p in $(cat /run/cpu/queue-tests/cgroup.procs); do echo $p >/run/cpu/cgroup.procs; done
rmdir /run/cpu/queue-tests; umount /run/cpu";

fn limited_by_a_cgroup(c: &Cluster) -> Result<()> {
    let cores = || host(c, 1, "h3").map(|h| h["cores"].as_u64().unwrap_or_default());
    let all = cores()?;
    let limited = c.host(3).sh(ONE_CORE).run()?;
    let tested = (|| {
        if all < 2 || limited.status == Status::Exit(77) {
            return Ok(());
        }
        ensure!(limited.status == Status::Exit(0), "{limited:?}");
        configure(c, 3, "")?;
        let known = |n: u64| cores().is_ok_and(|k| k == n);
        wait_until(LIMIT, "the one core to be known", || known(1))?;
        let out = queue(c, &["-h", "h3", "--cores", "2", "--", "true"]).run()?;
        fails(&out, &["h3", "1 core of 2"])
    })();
    c.host(3).sh(ALL_CORES).ok()?;
    configure(c, 3, "")?;
    tested?;
    wait_until(LIMIT, "all cores to be known", || cores().is_ok_and(|n| n == all))
}
