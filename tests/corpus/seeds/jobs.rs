//! Batch jobs.

use ed25519_dalek::SigningKey;
use libqueue::frame;
use libqueue::wire::job::{
    After, Array, Attempt, Count, Detail, Details, Dispatch, Down, IdRange, Job, JobReply, JobRun, Key,
    LimitUse, List, Outcome, Page, Params, Plan, Query, Run, Running, Selection, StartedAttempt, State,
    Submit, TaskRange, Tried, Up, down, job_reply, query, up,
};
use prost::Message as _;
use queue_exec::cert::Fingerprint;
use queue_exec::warrant::Warrant;

type Seed = (&'static str, &'static str, Vec<u8>);

/// Of all kinds.
pub(super) fn all(cluster: Fingerprint, host_key: &SigningKey) -> Vec<Seed> {
    let warrant = Warrant {
        cluster,
        source: "h1".into(),
        user: "alice".into(),
        login: "bob".into(),
        issued: 1_800_000_000,
        run: [9; 32],
    }
    .sign(host_key);
    let mut all = messages(&warrant);
    all.push(("warrant", "warrant", warrant));
    all.push(("warrant", "entries", b"one\ntwo\n\nfour\nfive".to_vec()));
    all
}

fn messages(warrant: &[u8]) -> Vec<Seed> {
    let key = Key {
        job: 12,
        task: 3,
        attempt: 1,
    };
    let run = Run {
        argv: vec![b"make".to_vec(), b"a b".to_vec()],
        env: vec![b"A=1".to_vec()],
        cwd: b"/home/alice".to_vec(),
        script: b"#!/bin/sh\nmake\n".to_vec(),
        submit_host: "h1".into(),
        ..Run::default()
    };
    let plan = Plan {
        name: "build".into(),
        priority: Some(-5),
        after: vec![After {
            jobs: Some(Selection {
                ids: vec![IdRange {
                    from: 3,
                    to: 5,
                    tasks: None,
                }],
                words: vec!["other".into()],
                ..Selection::default()
            }),
            how: 1,
        }],
        array: Some(Array {
            ranges: vec![TaskRange {
                from: 1,
                to: 9,
                step: 2,
            }],
            at_once: 2,
        }),
        limits: vec![LimitUse {
            name: "license".into(),
            total: Some(3),
        }],
        at_ms: 1_800_000_000_000,
        ..Plan::default()
    };
    let submit = Submit {
        run: run.encode_to_vec(),
        plan: Some(plan.clone()),
        warrant: warrant.to_vec(),
        entries: vec![b"one".to_vec(), b"two".to_vec()],
        id: 12,
        ..Submit::default()
    };
    let outcome = Outcome {
        signal: Some(11),
        core: true,
        started_ms: 1_800_000_000_000,
        wall_ms: 1500,
        maxrss_kib: 2048,
        head: b"x\x1b[2J\nlast\n".to_vec(),
        output: b"/home/alice/out".to_vec(),
        ..Outcome::default()
    };
    let job = Job {
        id: 12,
        user: "alice".into(),
        name: "build\u{202e}".into(),
        state: State::Failed as i32,
        reason: "no room".into(),
        submitted_ms: 1_800_000_000_000,
        outcome: Some(outcome.clone()),
        counts: vec![Count {
            state: State::Done as i32,
            number: 4,
        }],
        ..Job::default()
    };
    let running = Running {
        pid: 77,
        started_ms: 1_800_000_000_000,
        ..Running::default()
    };
    let detail = Detail {
        job: Some(job.clone()),
        plan: Some(plan),
        run: Some(run.clone()),
        attempts: vec![Tried {
            key: Some(key),
            host: "h2".into(),
            outcome: Some(outcome.clone()),
            running: Some(running.clone()),
            ..Tried::default()
        }],
        home: "h1:/home/alice/out".into(),
    };
    let page = Page {
        jobs: vec![
            job.clone(),
            Job {
                user: "bob".into(),
                ..job
            },
        ],
        total: 3,
        now_ms: 1_800_000_100_000,
    };
    let dispatch = Dispatch {
        epoch: 3,
        link: 4,
        runs: vec![JobRun {
            job: 12,
            run: run.encode_to_vec(),
            warrant: warrant.to_vec(),
            cert: vec![1; 20],
        }],
        attempts: vec![Attempt {
            key: Some(key),
            params: Some(Params {
                key: Some(key),
                entry: Some(b"one".to_vec()),
                entry_proof: vec![2; 64],
                ..Params::default()
            }),
            lease_ms: 60_000,
            ..Attempt::default()
        }],
    };
    let started = Up {
        kind: Some(up::Kind::Started(StartedAttempt {
            key: Some(key),
            running: Some(running),
        })),
    };
    let list = Query {
        kind: Some(query::Kind::List(List {
            which: Some(Selection {
                all: true,
                states: vec![State::Running as i32],
                ..Selection::default()
            }),
            sort: "-time".into(),
            ..List::default()
        })),
    };
    let reply = |kind| JobReply { kind: Some(kind) }.encode_to_vec();
    vec![
        ("submit", "submit", submit.encode_to_vec()),
        ("submit", "run", run.encode_to_vec()),
        ("submit", "up", frame::encode(&started)),
        (
            "submit",
            "down",
            Down {
                kind: Some(down::Kind::Dispatch(dispatch)),
            }
            .encode_to_vec(),
        ),
        ("submit", "query", list.encode_to_vec()),
        ("submit", "outcome", outcome.encode_to_vec()),
        ("submit", "page", reply(job_reply::Kind::Page(page))),
        (
            "submit",
            "details",
            reply(job_reply::Kind::Details(Details { jobs: vec![detail] })),
        ),
    ]
}
