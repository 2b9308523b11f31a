//! What a dispatch costs in a large cluster. Run with
//! `cargo test --profile ci -p queued schedule::bench -- --ignored --nocapture`.

use super::*;
use libqueue::wire::{Facts, Load};
use std::collections::VecDeque;

const HOSTS: u64 = 10_000;
const SHAPES: u64 = 1_000;
const JOBS: u64 = 100_000;

fn host(n: u64) -> HostView {
    let cores = [4, 8, 16, 32, 64][(n % 5) as usize];
    let mut facts = Facts {
        cores,
        mem: u64::from(cores) << 32,
        disk: 1 << 40,
        power: 1.0,
        arch: ["x86_64", "aarch64"][(n % 2) as usize].into(),
        ..Facts::default()
    };
    facts.resources.insert("rack".into(), format!("r{}", n % 20));
    HostView {
        name: format!("host{n}"),
        dead: false,
        load: Some(Load {
            cores,
            mem_total: facts.mem,
            mem_available: facts.mem,
            disk_free: facts.disk,
            ..Load::default()
        }),
        facts: Some(facts),
    }
}

fn need(n: u64) -> Need {
    let expr = match n % 4 {
        0 => format!("rack==r{}", n % 20),
        1 => "arch==x86_64".to_owned(),
        _ => String::new(),
    };
    Need {
        cores: 1 + (n % 8) as u32,
        mem: (n % 1000) << 24,
        expr,
        ..Need::default()
    }
}

#[test]
#[ignore = "a measurement: run it alone, with optimisation"]
#[allow(clippy::print_stdout, reason = "its result")]
fn cost_of_a_dispatch() {
    #[allow(clippy::disallowed_methods, reason = "a measurement")]
    let clock = std::time::Instant::now();
    let mut s = Scheduler::new(1);
    for n in 0..HOSTS {
        s.host(&host(n), true);
    }
    let hosts = clock.elapsed();
    let shape = |n: u64| Shape {
        need: need(n % SHAPES),
        ..Shape::default()
    };
    let put = |s: &mut Scheduler, job: u64| {
        s.put(Entry {
            job,
            shape: shape(job.wrapping_mul(0x9e37_79b9) >> 3),
            priority: (job % 7) as i32,
            order: job,
            ready: 1,
        });
    };
    let mut next = 0;
    while next < JOBS {
        put(&mut s, next);
        next += 1;
    }
    let filled = clock.elapsed();
    // 100,000 wait all the time: for each that is sent one comes, and once the cluster is full one ends.
    let (mut on, mut now, mut sent) = (VecDeque::new(), 0, 0_u64);
    let mut full = None;
    let mut ended = 0_u64;
    let mut worst = std::time::Duration::ZERO;
    while sent < 4 * JOBS {
        now += 1;
        let turn = clock.elapsed();
        match s.pick(now) {
            Some(p) => {
                let line = s.jobs[&p.job].line;
                let need = s.lines[line as usize].shape.need.clone();
                let key = Key {
                    job: p.job,
                    task: 0,
                    attempt: 1,
                };
                s.sent(now, &p.host, key, &need);
                s.take_out(p.job);
                if !s.sent[&key].advance {
                    s.started(now, key);
                }
                on.push_back(key);
                put(&mut s, next);
                next += 1;
                sent += 1;
            }
            None => {
                if full.is_none() {
                    full = Some((clock.elapsed(), sent));
                }
                let key = on.pop_front().unwrap();
                s.gone(now, key, Some(5000));
                ended += 1;
            }
        }
        worst = worst.max(clock.elapsed() - turn);
    }
    let all = clock.elapsed();
    let (at, before) = full.unwrap();
    let per = |d: std::time::Duration, n: u64| d.as_secs_f64() * 1e6 / n as f64;
    println!(
        "{HOSTS} hosts in {hosts:?}, {JOBS} jobs of {} shapes put in {:?}; \
         filling: {:.1} us a dispatch ({before}); full: {:.1} us a dispatch ({}, {ended} ended); longest turn {worst:?}",
        s.lines.len(),
        filled - hosts,
        per(at - filled, before),
        per(all - at, sent - before),
        sent - before,
    );
    let mean = per(all - filled, sent);
    assert!(mean <= 100.0, "{mean:.1} us");
}
