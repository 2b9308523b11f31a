//! Batch jobs: what people ask the leader.

use super::{batch, hosts, local};
use libqueue::wire;

/// [`wire::job::JobAsk`].
pub(super) fn job_ask() -> wire::job::JobAsk {
    wire::job::JobAsk {
        ticket: b"ticket".to_vec(),
        source_cert: b"source_cert".to_vec(),
        query: b"query".to_vec(),
    }
}

/// [`wire::job::Query`].
pub(super) fn query_kinds() -> Vec<(&'static str, wire::job::Query)> {
    use wire::job::query::Kind;
    let kind = |k| wire::job::Query { kind: Some(k) };
    vec![
        ("List", kind(Kind::List(list()))),
        ("Show", kind(Kind::Show(selection()))),
        ("Explain", kind(Kind::Explain(selection()))),
        ("Wait", kind(Kind::Wait(wait()))),
        ("Act", kind(Kind::Act(act()))),
        ("Outputs", kind(Kind::Outputs(selection()))),
        ("Stats", kind(Kind::Stats(stats_ask()))),
        ("History", kind(Kind::History(history()))),
        ("Limits", kind(Kind::Limits(limits_ask()))),
        ("Export", kind(Kind::Export(wire::Empty {}))),
        ("Classes", kind(Kind::Classes(wire::Empty {}))),
    ]
}

/// [`wire::job::Selection`].
pub(super) fn selection() -> wire::job::Selection {
    wire::job::Selection {
        ids: vec![id_range(), Default::default()],
        all: true,
        user: "alice".into(),
        name: "h3".into(),
        group: "g 1".into(),
        states: vec![wire::job::State::Buried as i32, wire::job::State::Buried as i32],
        class: "night".into(),
        host: "h2".into(),
        words: vec!["words".into(), "other".into()],
    }
}

/// [`wire::job::IdRange`].
pub(super) fn id_range() -> wire::job::IdRange {
    wire::job::IdRange {
        from: 1_391_569_404_066,
        to: 1_400_159_338_659,
        tasks: Some(batch::task_range()),
    }
}

/// [`wire::job::List`].
pub(super) fn list() -> wire::job::List {
    wire::job::List {
        which: Some(selection()),
        tasks: true,
        ended: true,
        sort: "sort".into(),
        limit: 1248,
        offset: 1_417_339_207_845,
        watch: true,
    }
}

/// [`wire::job::Wait`].
pub(super) fn wait() -> wire::job::Wait {
    wire::job::Wait {
        which: Some(selection()),
        any: true,
        follow: true,
    }
}

/// [`wire::job::Act`].
pub(super) fn act() -> wire::job::Act {
    wire::job::Act {
        deed: wire::job::Deed::Modify as i32,
        which: Some(selection()),
        signal: 1262,
        change: Some(change()),
        may_double: true,
        confirm_dead: true,
    }
}

/// [`wire::job::Change`].
pub(super) fn change() -> wire::job::Change {
    wire::job::Change {
        priority: Some(-168),
        need: Some(hosts::need()),
        time_ms: Some(1_443_109_011_624),
        retries: Some(1283),
        name: Some("h3".into()),
        group: Some("g 1".into()),
        at_ms: Some(1_460_288_880_810),
        host: Some("h2".into()),
        at_once: Some(1297),
        mail: Some(1304),
        restart: Some(wire::job::Restart::Ask as i32),
        class: Some("night".into()),
    }
}

/// [`wire::job::StatsAsk`].
pub(super) fn stats_ask() -> wire::job::StatsAsk {
    wire::job::StatsAsk {
        window_ms: 1_486_058_684_589,
    }
}

/// [`wire::job::History`].
pub(super) fn history() -> wire::job::History {
    wire::job::History {
        which: Some(selection()),
        since_ms: 1_494_648_619_182,
        until_ms: 1_503_238_553_775,
        text: "it is full, twice".into(),
        limit: 1332,
        offset: 1_520_418_422_961,
        attempts: true,
    }
}

/// [`wire::job::LimitsAsk`].
pub(super) fn limits_ask() -> wire::job::LimitsAsk {
    wire::job::LimitsAsk {
        set: "set".into(),
        total: Some(1346),
    }
}

/// [`wire::job::JobReply`].
pub(super) fn job_reply_kinds() -> Vec<(&'static str, wire::job::JobReply)> {
    use wire::job::job_reply::Kind;
    let kind = |k| wire::job::JobReply { kind: Some(k) };
    vec![
        ("Error", kind(Kind::Error(local::error()))),
        ("Page", kind(Kind::Page(page()))),
        ("Details", kind(Kind::Details(details()))),
        ("Why", kind(Kind::Why(why()))),
        ("Progress", kind(Kind::Progress(progress()))),
        ("Over", kind(Kind::Over(over()))),
        ("Acted", kind(Kind::Acted(acted()))),
        ("Outputs", kind(Kind::Outputs(outputs()))),
        ("Stats", kind(Kind::Stats(stats()))),
        ("Limits", kind(Kind::Limits(limits()))),
        ("Chunk", kind(Kind::Chunk(b"Chunk".to_vec()))),
        ("Classes", kind(Kind::Classes(classes()))),
    ]
}

/// [`wire::job::Page`].
pub(super) fn page() -> wire::job::Page {
    wire::job::Page {
        jobs: vec![job(), Default::default()],
        total: 1_537_598_292_147,
        now_ms: 1_546_188_226_740,
    }
}

/// [`wire::job::Job`].
pub(super) fn job() -> wire::job::Job {
    wire::job::Job {
        id: 1_554_778_161_333,
        task: 1374,
        user: "alice".into(),
        name: "h3".into(),
        group: "g 1".into(),
        class: "night".into(),
        state: wire::job::State::Buried as i32,
        reason: "new disk".into(),
        priority: -184,
        submitted_ms: 1_580_547_965_112,
        started_ms: 1_589_137_899_705,
        ended_ms: 1_597_727_834_298,
        host: "h2".into(),
        attempts: 1409,
        outcome: Some(batch::outcome()),
        counts: vec![count(), Default::default()],
        command: "command".into(),
        submit_host: "h1".into(),
        need: Some(hosts::need()),
    }
}

/// [`wire::job::Count`].
pub(super) fn count() -> wire::job::Count {
    wire::job::Count {
        state: wire::job::State::Buried as i32,
        number: 1_614_907_703_484,
    }
}

/// [`wire::job::Details`].
pub(super) fn details() -> wire::job::Details {
    wire::job::Details {
        jobs: vec![detail(), Default::default()],
    }
}

/// [`wire::job::Detail`].
pub(super) fn detail() -> wire::job::Detail {
    wire::job::Detail {
        job: Some(job()),
        plan: Some(batch::plan()),
        run: Some(batch::run()),
        attempts: vec![tried(), Default::default()],
        home: "home".into(),
    }
}

/// [`wire::job::Tried`].
pub(super) fn tried() -> wire::job::Tried {
    wire::job::Tried {
        key: Some(batch::key()),
        host: "h2".into(),
        sent_ms: 1_623_497_638_077,
        ended_ms: 1_632_087_572_670,
        outcome: Some(batch::outcome()),
        running: Some(batch::running()),
    }
}

/// [`wire::job::Why`].
pub(super) fn why() -> wire::job::Why {
    wire::job::Why {
        job: Some(job()),
        blockers: vec!["blockers".into(), "other".into()],
        hosts: vec![why_host(), Default::default()],
        remedies: vec!["remedies".into(), "other".into()],
        ahead: 1_640_677_507_263,
    }
}

/// [`wire::job::WhyHost`].
pub(super) fn why_host() -> wire::job::WhyHost {
    wire::job::WhyHost {
        host: "h2".into(),
        blockers: vec!["blockers".into(), "other".into()],
        never: true,
    }
}

/// [`wire::job::Progress`].
pub(super) fn progress() -> wire::job::Progress {
    wire::job::Progress {
        counts: vec![count(), Default::default()],
        changed: vec![tried(), Default::default()],
        states: vec![wire::job::State::Buried as i32, wire::job::State::Buried as i32],
    }
}

/// [`wire::job::Over`].
pub(super) fn over() -> wire::job::Over {
    wire::job::Over {
        code: 1444,
        signal: Some(1451),
        counts: vec![count(), Default::default()],
        bad: vec![job(), Default::default()],
        nothing: true,
    }
}

/// [`wire::job::Acted`].
pub(super) fn acted() -> wire::job::Acted {
    wire::job::Acted {
        number: 1_666_447_311_042,
        lines: vec!["lines".into(), "other".into()],
        failed: vec!["failed".into(), "other".into()],
    }
}

/// [`wire::job::Outputs`].
pub(super) fn outputs() -> wire::job::Outputs {
    wire::job::Outputs {
        outputs: vec![output(), Default::default()],
    }
}

/// [`wire::job::Output`].
pub(super) fn output() -> wire::job::Output {
    wire::job::Output {
        key: Some(batch::key()),
        host: "h2".into(),
        path: b"path".to_vec(),
        spooled: true,
        state: wire::job::State::Buried as i32,
        outcome: Some(batch::outcome()),
        error: b"/home/alice/err".to_vec(),
        place: Some(local::placed()),
    }
}

/// [`wire::job::Stats`].
pub(super) fn stats() -> wire::job::Stats {
    wire::job::Stats {
        counts: vec![count(), Default::default()],
        users: vec![user_stats(), Default::default()],
        causes: vec![cause_count(), Default::default()],
        hosts: vec![user_stats(), Default::default()],
        window_ms: 1_675_037_245_635,
        since_ms: 1_683_627_180_228,
        letters: 1_692_217_114_821,
        store_bytes: 1_700_807_049_414,
    }
}

/// [`wire::job::UserStats`].
pub(super) fn user_stats() -> wire::job::UserStats {
    wire::job::UserStats {
        name: "h3".into(),
        done: 1_709_396_984_007,
        failed: 1_717_986_918_600,
        wall_ms: 1_726_576_853_193,
        cpu_ms: 1_735_166_787_786,
        wait_ms: 1_743_756_722_379,
    }
}

/// [`wire::job::CauseCount`].
pub(super) fn cause_count() -> wire::job::CauseCount {
    wire::job::CauseCount {
        cause: wire::job::Cause::Unfit as i32,
        number: 1_752_346_656_972,
        host: "h2".into(),
    }
}

/// [`wire::job::Limits`].
pub(super) fn limits() -> wire::job::Limits {
    wire::job::Limits {
        limits: vec![limit(), Default::default()],
    }
}

/// [`wire::job::Limit`].
pub(super) fn limit() -> wire::job::Limit {
    wire::job::Limit {
        name: "h3".into(),
        total: Some(1535),
        used: 1542,
        waiting: 1_778_116_460_751,
    }
}

/// [`wire::job::Classes`].
pub(super) fn classes() -> wire::job::Classes {
    wire::job::Classes {
        classes: vec![class(), Default::default()],
    }
}

/// [`wire::job::Class`].
pub(super) fn class() -> wire::job::Class {
    wire::job::Class {
        name: "h3".into(),
        priority: -209,
        retries: 1563,
        restart: wire::job::Restart::Ask as i32,
        lease_ms: 1_803_886_264_530,
        time_ms: 1_812_476_199_123,
        mail: 1584,
        max_running: 1591,
        need: Some(hosts::need()),
    }
}
