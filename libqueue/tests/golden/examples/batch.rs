//! Batch jobs: submitted, started, ended.

use super::{ask, hosts, session};
use libqueue::wire;

/// [`wire::job::Run`].
pub(super) fn run() -> wire::job::Run {
    wire::job::Run {
        argv: vec![b"argv".to_vec(), Vec::new()],
        env: vec![b"env".to_vec(), Vec::new()],
        cwd: b"/home/alice".to_vec(),
        umask: 807,
        nice: -103,
        rlimits: vec![session::rlimit(), Default::default()],
        script: b"#!/bin/sh\nmake\n".to_vec(),
        output: b"/home/alice/out".to_vec(),
        error: b"/home/alice/err".to_vec(),
        submit_host: "h1".into(),
        nonce_file: "nonce file".into(),
        entries: Some(entries()),
        output_cap: 884_763_263_079,
        discard: true,
        name: "h3".into(),
        class: "night".into(),
        nonce: b"nonce".to_vec(),
        array: true,
    }
}

/// [`wire::job::Entries`].
pub(super) fn entries() -> wire::job::Entries {
    wire::job::Entries {
        count: 828,
        root: b"root".to_vec(),
    }
}

/// [`wire::job::Plan`].
pub(super) fn plan() -> wire::job::Plan {
    wire::job::Plan {
        name: "h3".into(),
        group: "g 1".into(),
        class: "night".into(),
        priority: Some(-106),
        need: Some(hosts::need()),
        host: "h2".into(),
        prefer: "prefer".into(),
        retries: Some(842),
        time_ms: 919_123_001_451,
        warn_signal: 856,
        warn_ms: 936_302_870_637,
        after: vec![after(), Default::default()],
        at_ms: 944_892_805_230,
        array: Some(array()),
        limits: vec![limit_use(), Default::default()],
        dedupe: Some(dedupe()),
        restart: wire::job::Restart::Ask as i32,
        lease_ms: 953_482_739_823,
        mail: Some(884),
        mail_to: "mail to".into(),
        hold: true,
        parent: Some(key()),
        attached: true,
        silent: true,
    }
}

/// [`wire::job::After`].
pub(super) fn after() -> wire::job::After {
    wire::job::After {
        jobs: Some(ask::selection()),
        how: wire::job::AfterHow::Fail as i32,
    }
}

/// [`wire::job::Array`].
pub(super) fn array() -> wire::job::Array {
    wire::job::Array {
        ranges: vec![task_range(), Default::default()],
        at_once: 891,
    }
}

/// [`wire::job::TaskRange`].
pub(super) fn task_range() -> wire::job::TaskRange {
    wire::job::TaskRange {
        from: 898,
        to: 905,
        step: 912,
    }
}

/// [`wire::job::LimitUse`].
pub(super) fn limit_use() -> wire::job::LimitUse {
    wire::job::LimitUse {
        name: "h3".into(),
        total: Some(919),
    }
}

/// [`wire::job::Dedupe`].
pub(super) fn dedupe() -> wire::job::Dedupe {
    wire::job::Dedupe {
        identity: b"identity".to_vec(),
        window_ms: 1_013_612_281_974,
    }
}

/// [`wire::job::Submit`].
pub(super) fn submit() -> wire::job::Submit {
    wire::job::Submit {
        run: b"run".to_vec(),
        plan: Some(plan()),
        warrant: b"warrant".to_vec(),
        cert: b"cert".to_vec(),
        entries: vec![b"entries".to_vec(), Vec::new()],
        id: 1_022_202_216_567,
        at_ms: 1_030_792_151_160,
        owner: "alice@h1".into(),
    }
}

/// [`wire::job::Submitted`].
pub(super) fn submitted() -> wire::job::Submitted {
    wire::job::Submitted {
        id: 1_039_382_085_753,
        existed: true,
        spooled: "spooled".into(),
    }
}

/// [`wire::job::Key`].
pub(super) fn key() -> wire::job::Key {
    wire::job::Key {
        job: 1_047_972_020_346,
        task: 961,
        attempt: 968,
    }
}

/// [`wire::job::Outcome`].
pub(super) fn outcome() -> wire::job::Outcome {
    wire::job::Outcome {
        cause: wire::job::Cause::Unfit as i32,
        code: Some(975),
        signal: Some(982),
        core: true,
        text: "it is full, twice".into(),
        started_ms: 1_090_921_693_311,
        wall_ms: 1_099_511_627_904,
        cpu_us: 1_108_101_562_497,
        maxrss_kib: 1_116_691_497_090,
        head: b"head".to_vec(),
        tail: b"tail".to_vec(),
        written: 1_125_281_431_683,
        output: b"/home/alice/out".to_vec(),
        spooled: true,
        error: b"/home/alice/err".to_vec(),
        cut: true,
    }
}

/// [`wire::job::Running`].
pub(super) fn running() -> wire::job::Running {
    wire::job::Running {
        pid: 1024,
        started_ms: 1_142_461_300_869,
        output: b"/home/alice/out".to_vec(),
        spooled: true,
        error: b"/home/alice/err".to_vec(),
    }
}

/// [`wire::job::Up`].
pub(super) fn up_kinds() -> Vec<(&'static str, wire::job::Up)> {
    use wire::job::up::Kind;
    let kind = |k| wire::job::Up { kind: Some(k) };
    vec![
        ("Hello", kind(Kind::Hello(work_hello()))),
        ("Submit", kind(Kind::Submit(submit()))),
        ("WantBlock", kind(Kind::WantBlock(wire::Empty {}))),
        ("Started", kind(Kind::Started(started_attempt()))),
        ("Ended", kind(Kind::Ended(ended_attempt()))),
        ("Renew", kind(Kind::Renew(renew()))),
        ("Stopped", kind(Kind::Stopped(stopped_attempt()))),
        ("Delivered", kind(Kind::Delivered(delivered()))),
        ("Mailed", kind(Kind::Mailed(mailed()))),
        ("Mailer", kind(Kind::Mailer(true))),
    ]
}

/// [`wire::job::WorkHello`].
pub(super) fn work_hello() -> wire::job::WorkHello {
    wire::job::WorkHello {
        life: b"life".to_vec(),
        link: 1_151_051_235_462,
        epoch: 1_159_641_170_055,
        held: vec![held(), Default::default()],
        complete: true,
        mailer: true,
        block_used: 1_168_231_104_648,
    }
}

/// [`wire::job::Held`].
pub(super) fn held() -> wire::job::Held {
    wire::job::Held {
        key: Some(key()),
        running: Some(running()),
        ended: Some(outcome()),
        stopped: true,
    }
}

/// [`wire::job::StartedAttempt`].
pub(super) fn started_attempt() -> wire::job::StartedAttempt {
    wire::job::StartedAttempt {
        key: Some(key()),
        running: Some(running()),
    }
}

/// [`wire::job::EndedAttempt`].
pub(super) fn ended_attempt() -> wire::job::EndedAttempt {
    wire::job::EndedAttempt {
        key: Some(key()),
        outcome: Some(outcome()),
    }
}

/// [`wire::job::StoppedAttempt`].
pub(super) fn stopped_attempt() -> wire::job::StoppedAttempt {
    wire::job::StoppedAttempt {
        key: Some(key()),
        stopped: true,
    }
}

/// [`wire::job::Renew`].
pub(super) fn renew() -> wire::job::Renew {
    wire::job::Renew {
        number: 1_176_821_039_241,
        keys: vec![key(), Default::default()],
    }
}

/// [`wire::job::Down`].
pub(super) fn down_kinds() -> Vec<(&'static str, wire::job::Down)> {
    use wire::job::down::Kind;
    let kind = |k| wire::job::Down { kind: Some(k) };
    vec![
        ("Welcome", kind(Kind::Welcome(welcome()))),
        ("Accepted", kind(Kind::Accepted(submitted()))),
        ("Rejected", kind(Kind::Rejected(rejected()))),
        ("Block", kind(Kind::Block(block()))),
        ("Dispatch", kind(Kind::Dispatch(dispatch()))),
        ("Revoke", kind(Kind::Revoke(key()))),
        ("Kill", kind(Kind::Kill(kill_attempt()))),
        ("Forget", kind(Kind::Forget(key()))),
        ("Renewed", kind(Kind::Renewed(renewed()))),
        ("JobOver", kind(Kind::JobOver(1_185_410_973_834))),
        ("Deliver", kind(Kind::Deliver(deliver()))),
        ("Letter", kind(Kind::Letter(letter()))),
    ]
}

/// [`wire::job::Welcome`].
pub(super) fn welcome() -> wire::job::Welcome {
    wire::job::Welcome {
        epoch: 1_194_000_908_427,
        link: 1_202_590_843_020,
    }
}

/// [`wire::job::Rejected`].
pub(super) fn rejected() -> wire::job::Rejected {
    wire::job::Rejected {
        id: 1_211_180_777_613,
        text: "it is full, twice".into(),
    }
}

/// [`wire::job::Block`].
pub(super) fn block() -> wire::job::Block {
    wire::job::Block {
        from: 1_219_770_712_206,
        to: 1_228_360_646_799,
    }
}

/// [`wire::job::Dispatch`].
pub(super) fn dispatch() -> wire::job::Dispatch {
    wire::job::Dispatch {
        epoch: 1_236_950_581_392,
        link: 1_245_540_515_985,
        runs: vec![job_run(), Default::default()],
        attempts: vec![attempt(), Default::default()],
    }
}

/// [`wire::job::JobRun`].
pub(super) fn job_run() -> wire::job::JobRun {
    wire::job::JobRun {
        job: 1_254_130_450_578,
        run: b"run".to_vec(),
        warrant: b"warrant".to_vec(),
        cert: b"cert".to_vec(),
    }
}

/// [`wire::job::Attempt`].
pub(super) fn attempt() -> wire::job::Attempt {
    wire::job::Attempt {
        key: Some(key()),
        need: Some(hosts::need()),
        params: Some(params()),
        lease_ms: 1_262_720_385_171,
        parent: Some(key()),
    }
}

/// [`wire::job::Params`].
pub(super) fn params() -> wire::job::Params {
    wire::job::Params {
        key: Some(key()),
        entry: Some(b"entry".to_vec()),
        entry_index: 1136,
        entry_proof: b"entry_proof".to_vec(),
        time_ms: 1_279_900_254_357,
        warn_signal: 1150,
        warn_ms: 1_297_080_123_543,
        mem: 1_305_670_058_136,
        home_here: true,
        last: true,
        restarts: 1171,
        cores: 1178,
    }
}

/// [`wire::job::KillAttempt`].
pub(super) fn kill_attempt() -> wire::job::KillAttempt {
    wire::job::KillAttempt {
        key: Some(key()),
        signal: 1185,
        by: "alice@h1".into(),
        cause: wire::job::Cause::Unfit as i32,
    }
}

/// [`wire::job::Renewed`].
pub(super) fn renewed() -> wire::job::Renewed {
    wire::job::Renewed {
        number: 1_340_029_796_508,
        keys: vec![key(), Default::default()],
    }
}

/// [`wire::job::Deliver`].
pub(super) fn deliver() -> wire::job::Deliver {
    wire::job::Deliver {
        run: Some(job_run()),
        from: "h1".into(),
        number: 1_348_619_731_101,
    }
}

/// [`wire::job::Delivered`].
pub(super) fn delivered() -> wire::job::Delivered {
    wire::job::Delivered {
        number: 1_357_209_665_694,
        failed: "failed".into(),
        hopeless: true,
    }
}

/// [`wire::job::Letter`].
pub(super) fn letter() -> wire::job::Letter {
    wire::job::Letter {
        number: 1_365_799_600_287,
        to: "alice@example.org".into(),
        subject: "subject".into(),
        body: "body".into(),
        at_ms: 1_374_389_534_880,
        headers: vec![header(), Default::default()],
    }
}

/// [`wire::job::Header`].
pub(super) fn header() -> wire::job::Header {
    wire::job::Header {
        name: "h3".into(),
        value: "value".into(),
    }
}

/// [`wire::job::Mailed`].
pub(super) fn mailed() -> wire::job::Mailed {
    wire::job::Mailed {
        number: 1_382_979_469_473,
        failed: "failed".into(),
        hopeless: true,
    }
}
