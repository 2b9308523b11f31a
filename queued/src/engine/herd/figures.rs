//! The figures of placement, as tables: `bench/placement.sh` prints them.

use super::*;

/// One line of a table.
macro_rules! row {
    ($($t:tt)*) => { eprintln!($($t)*) };
}

fn equal(n: usize, cores: u32) -> Vec<Kind> {
    vec![
        Kind {
            cores,
            power: 1.0,
            base: 0.0
        };
        n
    ]
}

/// Launchers that all look at the same moment, wave after wave.
fn herd(seed: u64, hosts: usize, each: usize, work: Work, gap: Duration, words: bool) -> (f64, f64, usize) {
    let mut w = World::new(seed, &equal(hosts, 4), 30.min(hosts));
    w.words = words;
    w.run(5 * SEC);
    for wave in 0..each {
        for l in 0..30 {
            let jitter = w.rng.between(Duration::ZERO, MS / 10);
            w.launch(
                gap * wave as u32 + jitter,
                l % w.launchers,
                work,
                Place::default(),
            );
        }
    }
    w.finish(3600 * SEC);
    let n = w.counts();
    let mean = n.iter().sum::<usize>() as f64 / n.len() as f64;
    let worst = *n.iter().max().unwrap_or(&0);
    (mean, worst as f64 / mean, worst)
}

const LONG: Work = Work::Sleep(Duration::from_secs(600));
const SHORT: Work = Work::Sleep(Duration::from_millis(2));

fn herd_rows(rows: &[(usize, usize, Work, Duration, &str)]) {
    row!(
        "{:<44} {:>6} {:>6} {:>10}",
        "30 launchers that look at once, on",
        "mean",
        "worst",
        "worst/mean"
    );
    for (hosts, each, work, gap, what) in rows {
        for words in [true, false] {
            let (mean, ratio, worst) = herd(7, *hosts, *each, *work, *gap, words);
            let what = format!("{what}{}", if words { "" } else { ", nobody asked" });
            row!("{what:<44} {mean:>6.1} {worst:>6} {ratio:>10.2}");
            assert!(!words || ratio <= 1.25, "{what}: {ratio}");
        }
    }
}

#[test]
fn many_launchers_do_not_herd() {
    herd_rows(&[
        (10, 20, LONG, 200 * MS, "10 hosts, what lasts"),
        (10, 20, SHORT, 200 * MS, "10 hosts, what ends at once"),
        (10, 40, Work::Cpu(1.0), SEC, "10 hosts, 1 s of a core each"),
    ]);
}

#[test]
#[ignore = "takes a minute: bench/placement.sh"]
fn many_launchers_do_not_herd_on_1000_hosts() {
    herd_rows(&[
        (1000, 1000, LONG, 20 * MS, "1000 hosts, what lasts"),
        (1000, 1000, SHORT, 20 * MS, "1000 hosts, what ends at once"),
    ]);
}

fn share(kinds: &[Kind], work: Work, n: usize, gap: Duration) -> Vec<usize> {
    let mut w = World::new(3, kinds, 1);
    w.run(20 * SEC);
    for i in 0..n {
        w.launch(gap * i as u32, 0, work, Place::default());
    }
    w.finish(3600 * SEC);
    w.counts()
}

#[test]
fn launches_spread_in_proportion() {
    let kind = |cores, base| Kind {
        cores,
        power: 1.0,
        base,
    };
    let (even, loads, cores) = (
        [kind(2, 0.0); 3],
        [kind(2, 0.1), kind(2, 0.2), kind(2, 0.3)],
        [kind(1, 0.0), kind(2, 0.0), kind(4, 0.0)],
    );
    row!("{:<44} {:>18}", "200 launches over 3 hosts", "each got");
    for (work, kind) in [
        (Work::Sleep(60 * SEC), "what lasts"),
        (Work::Sleep(2 * MS), "what ends at once"),
        (Work::Cpu(5.0), "5 s of a core"),
    ] {
        for (gap, pace) in [
            (Duration::ZERO, "at once"),
            (MS, "1 ms apart"),
            (10 * MS, "10 ms apart"),
        ] {
            for (kinds, shares, off, name) in [
                (even, [1.0, 1.0, 1.0], 0.15, "equal"),
                (loads, [1.0, 1.0, 1.0], 0.2, "load 0.1, 0.2, 0.3"),
                (cores, [1.0, 2.0, 4.0], 0.2, "1, 2, 4 cores"),
            ] {
                let n = share(&kinds, work, 200, gap);
                row!(
                    "{:<44} {:>5} {:>5} {:>5}",
                    format!("{name}, {kind}, {pace}"),
                    n[0],
                    n[1],
                    n[2]
                );
                let sum: f64 = shares.iter().sum();
                for (n, share) in n.iter().zip(shares) {
                    let expected = 200.0 * share / sum;
                    assert!(
                        (*n as f64 - expected).abs() <= off * expected,
                        "{name}, {kind}, {pace}: {n:?}"
                    );
                }
            }
        }
    }
}

/// Sizes of commands in seconds of a core.
fn sizes(name: &str, rng: &mut Rng) -> f64 {
    let u = ((rng.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    match name {
        "exponential, 1 s" => -u.ln(),
        "exponential, 10 s" => -10.0 * u.ln(),
        // Bounded at 1000 times the least.
        _ => 0.5 * (1.0 - u * (1.0 - 1000f64.powf(-1.5))).powf(-1.0 / 1.5),
    }
}

const SIZES: [&str; 3] = ["exponential, 1 s", "exponential, 10 s", "Pareto 1.5"];

/// Mean slowdown of commands that arrive by chance.
fn workload(hosts: usize, size: &str, load: f64, chooser: Chooser, jobs: usize) -> f64 {
    let kinds: Vec<Kind> = (0..hosts)
        .map(|i| Kind {
            cores: [1, 2, 4, 8][i % 4],
            power: [1.0, 0.7, 1.5][i % 3],
            base: 0.0,
        })
        .collect();
    let mut w = World::new(11, &kinds, hosts);
    w.chooser = chooser;
    let capacity: f64 = kinds.iter().map(|k| f64::from(k.cores) * k.power).sum();
    let mut rng = Rng::new(17);
    let mean = (0..200_000).map(|_| sizes(size, &mut rng)).sum::<f64>() / 200_000.0;
    let rate = load * capacity / mean;
    let mut at = 0.0;
    for _ in 0..jobs {
        let u = ((rng.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        at -= u.ln() / rate;
        let launcher = rng.below(hosts);
        w.launch(
            Duration::from_secs_f64(at),
            launcher,
            Work::Cpu(sizes(size, &mut rng)),
            Place::default(),
        );
    }
    w.finish(100_000 * SEC);
    w.slowdown(Duration::from_secs_f64(at / 5.0))
}

fn workload_rows(all: &[(usize, usize)], sizes: &[&str], loads: &[f64]) {
    let rivals = [Chooser::Random, Chooser::RoundRobin, Chooser::LoadAverage];
    row!(
        "{:<44} {:>8} {:>8} {:>8} {:>8}",
        "mean slowdown (1, 2, 4, 8 cores, power 0.7-1.5)",
        "ours",
        "random",
        "robin",
        "loadavg"
    );
    for (hosts, jobs) in all {
        for size in sizes {
            for load in loads {
                let ours = workload(*hosts, size, *load, Chooser::Ours, *jobs);
                let others = rivals.map(|c| workload(*hosts, size, *load, c, *jobs));
                let what = format!("{hosts} hosts, {size}, load {load}");
                let [a, b, c] = others;
                row!("{what:<48} {ours:>7.2} {a:>8.2} {b:>8.2} {c:>8.2}");
                assert!(others.iter().all(|o| ours < *o), "{what}: {ours} {others:?}");
            }
        }
    }
}

#[test]
fn better_than_the_simple_ones() {
    workload_rows(&[(10, 1500)], &SIZES, &[0.7, 0.9]);
}

#[test]
#[ignore = "takes minutes: bench/placement.sh"]
fn better_than_the_simple_ones_for_long() {
    workload_rows(&[(10, 30_000), (100, 60_000)], &SIZES, &[0.5, 0.7, 0.9]);
}

/// How long the choice itself takes.
#[test]
#[ignore = "a figure: bench/placement.sh"]
#[expect(clippy::disallowed_methods, reason = "it is the time that is measured")]
fn time_of_a_choice() {
    row!("{:<44} {:>8}", "time to draw and ask, hosts", "us");
    for hosts in [3, 100, 1000] {
        let mut w = World::new(7, &equal(hosts, 4), 1);
        w.run(5 * SEC);
        let e = &mut w.machines[0].engine;
        let start = std::time::Instant::now();
        for i in 0..1000 {
            let mut out = Effects::default();
            e.place(5 * SEC, i + 1, Place::default(), &mut out);
            e.gone(5 * SEC, i + 1);
        }
        let took = start.elapsed() / 1000;
        row!("{hosts:<44} {:>8}", took.as_micros());
    }
}
