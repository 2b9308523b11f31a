//! How fast jobs are taken: `submit THREADS JOBS [--each]`.
//!
//! Each thread has a [`Client`] of its own and submits its share of jobs that run `/bin/true`, on hold, so that none of
//! them starts; many of a thread's jobs are under way at any time, or with `--each` one. Says how many a second were
//! on disk, and how long one took with `--each`: `queue delete --all` takes them away again.

use queue_exec::layout::Layout;
use queue_front::messages::{Failure, say, write_all};
use queue_front::submit::Job;
use queue_front::submit::client::Client;
use std::sync::Mutex;
use std::time::{Duration, Instant};

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(f) => {
            say(&f.text, false);
            f.code().into()
        }
    }
}

fn run() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |n: usize| {
        words
            .get(n)
            .and_then(|w| w.parse::<usize>().ok())
            .filter(|n| *n > 0)
    };
    let (Some(threads), Some(jobs)) = (number(0), number(1)) else {
        return Err(Failure::own("usage: submit THREADS JOBS [--each]"));
    };
    let each = words.get(2).is_some_and(|w| w == "--each");
    let times = Mutex::new(Vec::new());
    let layout = Layout::for_client();
    let mut clients = (0..threads)
        .map(|_| Client::dial(&layout))
        .collect::<Result<Vec<_>, _>>()?;
    let job = job();
    let begun = Instant::now();
    let results: Vec<Result<(), Failure>> = std::thread::scope(|scope| {
        let all: Vec<_> = clients
            .iter_mut()
            .enumerate()
            .map(|(n, client)| {
                let share = jobs / threads + usize::from(n < jobs % threads);
                let (job, times) = (&job, &times);
                scope.spawn(move || submit(client, job, share, each.then_some(times)))
            })
            .collect();
        let joined = all.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined
            .map(|r| r.unwrap_or_else(|_| Err(Failure::own("a thread failed"))))
            .collect()
    });
    let took = begun.elapsed();
    results.into_iter().collect::<Result<(), _>>()?;
    let mut times = times.into_inner().unwrap_or_default();
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    let latency = if each {
        format!(", one {:.2?} (p50), {:.2?} (p99)", at(50), at(99))
    } else {
        String::new()
    };
    let rate = jobs as f64 / took.as_secs_f64();
    let text = format!("{jobs} jobs of {threads} threads in {took:.2?}: {rate:.0}/s{latency}\n");
    write_all(1, text.as_bytes());
    Ok(())
}

fn job() -> Job {
    let mut job = Job::default();
    job.run.argv = vec![b"/bin/true".to_vec()];
    job.run.env = vec![b"PATH=/usr/bin:/bin".to_vec()];
    job.run.cwd = b"/".to_vec();
    job.run.umask = 0o022;
    (job.run.name, job.plan.name) = ("true".into(), "true".into());
    (job.run.class, job.plan.class) = ("wait".into(), "wait".into());
    job.plan.hold = true;
    job
}

fn submit(
    client: &mut Client,
    job: &Job,
    share: usize,
    times: Option<&Mutex<Vec<Duration>>>,
) -> Result<(), Failure> {
    if let Some(times) = times {
        let mut own = Vec::with_capacity(share);
        for _ in 0..share {
            let begun = Instant::now();
            client.submit(job)?;
            own.push(begun.elapsed());
        }
        if let Ok(mut all) = times.lock() {
            all.append(&mut own);
        }
        return Ok(());
    }
    let mut failed = None;
    client.submit_all(std::iter::repeat_n(job, share), |result| {
        failed = result.err();
        failed.is_none()
    })?;
    failed.map_or(Ok(()), Err)
}
