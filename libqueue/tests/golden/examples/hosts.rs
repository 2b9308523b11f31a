//! Hosts: resources, gossip, members, joining.

use super::local;
use libqueue::wire;

/// [`wire::Need`].
pub(super) fn need() -> wire::Need {
    wire::Need {
        cores: 324,
        mem: 283_467_841_569,
        gpus: 338,
        disk: 300_647_710_755,
        expr: "raid>=200G && arch==x86_64".into(),
        by_name: true,
        look: true,
    }
}

/// [`wire::SessionNote`].
pub(super) fn session_note() -> wire::SessionNote {
    wire::SessionNote {
        need: Some(need()),
        grant: 309_237_645_348,
        boot: b"boot".to_vec(),
        lease_ms: 317_827_579_941,
    }
}

/// [`wire::Facts`].
pub(super) fn facts() -> wire::Facts {
    wire::Facts {
        version: 326_417_514_534,
        cores: 373,
        mem: 343_597_383_720,
        disk: 352_187_318_313,
        gpus: vec![gpu(), Default::default()],
        arch: "x86_64".into(),
        kernel: "6.12.4".into(),
        os: "debian-13".into(),
        resources: [
            ("raid".to_owned(), "200G".to_owned()),
            ("room".to_owned(), "b12".to_owned()),
        ]
        .into(),
        power: 42.8,
        max_sessions: 408,
        version_text: "version text".into(),
        unwilling: true,
    }
}

/// [`wire::Gpu`].
pub(super) fn gpu() -> wire::Gpu {
    wire::Gpu {
        name: "h3".into(),
        mem: 386_547_056_685,
    }
}

/// [`wire::Waiting`].
pub(super) fn waiting() -> wire::Waiting {
    wire::Waiting {
        reason: "new disk".into(),
        ahead: 422,
    }
}

/// [`wire::Explained`].
pub(super) fn explained() -> wire::Explained {
    wire::Explained {
        hosts: vec![judged(), Default::default()],
        formula: "formula".into(),
        verdict: "verdict".into(),
    }
}

/// [`wire::Judged`].
pub(super) fn judged() -> wire::Judged {
    wire::Judged {
        host: "h2".into(),
        score: 47.4,
        terms: vec![term(), Default::default()],
        no: "no".into(),
        chance: 49.6,
        age_ms: 438_086_664_243,
    }
}

/// [`wire::Term`].
pub(super) fn term() -> wire::Term {
    wire::Term {
        name: "h3".into(),
        value: 52.9,
        text: "it is full, twice".into(),
    }
}

/// [`wire::Sessions`].
pub(super) fn sessions() -> wire::Sessions {
    wire::Sessions {
        sessions: vec![session_info(), Default::default()],
        silent: vec!["silent".into(), "other".into()],
    }
}

/// [`wire::SessionInfo`].
pub(super) fn session_info() -> wire::SessionInfo {
    wire::SessionInfo {
        id: b"id".to_vec(),
        host: "h2".into(),
        login: "bob".into(),
        user: "alice".into(),
        from: "h1".into(),
        since_ms: 463_856_468_022,
        cpu_ms: 472_446_402_615,
        cpu_now: 56.4,
        mem: 498_216_206_394,
        processes: 513,
        need: Some(need()),
        clock_ms: 515_396_075_580,
        detached: true,
        watchers: 527,
    }
}

/// [`wire::Keys`].
pub(super) fn keys() -> wire::Keys {
    wire::Keys {
        version: 532_575_944_766,
        key: b"key".to_vec(),
        signature: b"signature".to_vec(),
    }
}

/// [`wire::Gossip`].
pub(super) fn gossip_kinds() -> Vec<(&'static str, wire::Gossip)> {
    use wire::gossip::Kind;
    let kind = |k| wire::Gossip { kind: Some(k) };
    vec![
        ("Swim", kind(Kind::Swim(b"Swim".to_vec()))),
        ("Report", kind(Kind::Report(local::load()))),
        ("FactsAsk", kind(Kind::FactsAsk(wire::Empty {}))),
        ("Facts", kind(Kind::Facts(facts()))),
        ("Ask", kind(Kind::Ask(ask()))),
        ("Word", kind(Kind::Word(word()))),
    ]
}

/// [`wire::Ask`].
pub(super) fn ask() -> wire::Ask {
    wire::Ask {
        id: 541_165_879_359,
        need: Some(need()),
    }
}

/// [`wire::Word`].
pub(super) fn word() -> wire::Word {
    wire::Word {
        id: 549_755_813_952,
        load: Some(local::load()),
        no: "no".into(),
        code: wire::ErrorCode::Unfit as i32,
        yours: 555,
    }
}

/// [`wire::Member`].
pub(super) fn member_kinds() -> Vec<(&'static str, wire::Member)> {
    use wire::member::Kind;
    let kind = |k| wire::Member { kind: Some(k) };
    vec![
        ("Hello", kind(Kind::Hello(member_hello()))),
        ("Load", kind(Kind::Load(local::load()))),
        ("Roster", kind(Kind::Roster(roster()))),
        ("Revocations", kind(Kind::Revocations(b"Revocations".to_vec()))),
        ("Bye", kind(Kind::Bye("a bye".into()))),
        ("Keys", kind(Kind::Keys(keys()))),
        ("SessionsAsk", kind(Kind::SessionsAsk(wire::Empty {}))),
        ("Sessions", kind(Kind::Sessions(sessions()))),
        ("Renew", kind(Kind::Renew(wire::Empty {}))),
        ("Renewed", kind(Kind::Renewed(b"Renewed".to_vec()))),
        ("Failed", kind(Kind::Failed("a failed".into()))),
    ]
}

/// [`wire::MemberHello`].
pub(super) fn member_hello() -> wire::MemberHello {
    wire::MemberHello {
        cert: b"cert".to_vec(),
        address: "10.0.0.1:7838".into(),
        boot: b"boot".to_vec(),
        version: "0.1.0".into(),
        clock_ms: 566_935_683_138,
        protocol: 569,
        errand: true,
    }
}

/// [`wire::Roster`].
pub(super) fn roster() -> wire::Roster {
    wire::Roster {
        members: vec![roster_entry(), Default::default()],
        wanted: true,
    }
}

/// [`wire::RosterEntry`].
pub(super) fn roster_entry() -> wire::RosterEntry {
    wire::RosterEntry {
        cert: b"cert".to_vec(),
        address: "10.0.0.1:7838".into(),
        authority: true,
    }
}

/// [`wire::JoinOffer`].
pub(super) fn join_offer() -> wire::JoinOffer {
    wire::JoinOffer {
        authority: b"authority".to_vec(),
        cert: b"cert".to_vec(),
        clock_ms: 584_115_552_324,
        protocol: 583,
        cluster: "lab".into(),
    }
}

/// [`wire::JoinRequest`].
pub(super) fn join_request() -> wire::JoinRequest {
    wire::JoinRequest {
        token: "abcdefgh".into(),
        secret: "ijklmnop".into(),
        name: "h3".into(),
        host_key: b"host_key".to_vec(),
        address: "10.0.0.1:7838".into(),
        port: 590,
        force: true,
        clock_ms: 609_885_356_103,
        dry_run: true,
    }
}

/// [`wire::JoinReply`].
pub(super) fn join_reply() -> wire::JoinReply {
    wire::JoinReply {
        error: Some(local::error()),
        cert: b"cert".to_vec(),
        roster: Some(roster()),
        revocations: b"revocations".to_vec(),
        cluster: "lab".into(),
        address: "10.0.0.1:7838".into(),
        keys: Some(keys()),
    }
}
