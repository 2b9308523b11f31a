//! What local programs and their daemon say.

use super::{batch, hosts};
use libqueue::wire;

/// [`wire::Request`].
pub(super) fn request_kinds() -> Vec<(&'static str, wire::Request)> {
    use wire::request::Kind;
    let kind = |k| wire::Request { kind: Some(k) };
    vec![
        ("Place", kind(Kind::Place(place()))),
        ("Hosts", kind(Kind::Hosts(wire::Empty {}))),
        ("Reload", kind(Kind::Reload(wire::Empty {}))),
        ("Revoke", kind(Kind::Revoke(b"Revoke".to_vec()))),
        ("Status", kind(Kind::Status(wire::Empty {}))),
        ("Explain", kind(Kind::Explain(place()))),
        ("Sessions", kind(Kind::Sessions(wire::Empty {}))),
        ("Keys", kind(Kind::Keys(hosts::keys()))),
        ("Submit", kind(Kind::Submit(batch::submit()))),
        ("Leader", kind(Kind::Leader(wire::Empty {}))),
        ("Upgrade", kind(Kind::Upgrade(wire::Empty {}))),
    ]
}

/// [`wire::Place`].
pub(super) fn place() -> wire::Place {
    wire::Place {
        host: "h2".into(),
        prefer: true,
        avoid: vec!["avoid".into(), "other".into()],
        need: Some(hosts::need()),
        wait: true,
    }
}

/// [`wire::Reply`].
pub(super) fn reply_kinds() -> Vec<(&'static str, wire::Reply)> {
    use wire::reply::Kind;
    let kind = |k| wire::Reply { kind: Some(k) };
    vec![
        ("Placed", kind(Kind::Placed(placed()))),
        ("Hosts", kind(Kind::Hosts(hosts()))),
        ("Done", kind(Kind::Done(wire::Empty {}))),
        ("Error", kind(Kind::Error(error()))),
        ("Status", kind(Kind::Status(status()))),
        ("Status, of a program", kind(Kind::Status(program()))),
        ("Waiting", kind(Kind::Waiting(hosts::waiting()))),
        ("Explained", kind(Kind::Explained(hosts::explained()))),
        ("Sessions", kind(Kind::Sessions(hosts::sessions()))),
        ("Submitted", kind(Kind::Submitted(batch::submitted()))),
    ]
}

/// [`wire::Placed`].
pub(super) fn placed() -> wire::Placed {
    wire::Placed {
        host: "h2".into(),
        address: "10.0.0.1:7838".into(),
        cert: b"cert".to_vec(),
        local: true,
    }
}

/// [`wire::Error`].
pub(super) fn error() -> wire::Error {
    wire::Error {
        code: wire::ErrorCode::Unfit as i32,
        text: "it is full, twice".into(),
    }
}

/// [`wire::Hosts`].
pub(super) fn hosts() -> wire::Hosts {
    wire::Hosts {
        hosts: vec![host_info(), Default::default()],
        cluster: "lab".into(),
    }
}

/// [`wire::HostInfo`].
pub(super) fn host_info() -> wire::HostInfo {
    wire::HostInfo {
        name: "h3".into(),
        address: "10.0.0.1:7838".into(),
        state: wire::HostState::Left as i32,
        load: Some(load()),
        age_ms: 8_589_934_593,
        reason: "new disk".into(),
        authority: true,
        version: "0.1.0".into(),
        local: true,
        facts: Some(hosts::facts()),
    }
}

/// [`wire::Load`].
pub(super) fn load() -> wire::Load {
    wire::Load {
        load1: 2.4,
        load5: 4.6,
        load15: 6.8,
        cores: 156,
        mem_total: 77_309_411_337,
        mem_available: 85_899_345_930,
        sessions: 177,
        running: 12.5,
        busy: 14.7,
        psi_cpu: 16.9,
        psi_mem: 18.2,
        psi_io: 20.4,
        starts: 22.6,
        cores_reserved: 268,
        mem_reserved: 214_748_364_825,
        gpus_reserved: 282,
        disk_free: 231_928_234_011,
        disk_reserved: 240_518_168_604,
        draining: true,
        facts: 249_108_103_197,
        jobs: 310,
        seq: 266_287_972_383,
    }
}

/// [`wire::Status`].
pub(super) fn status() -> wire::Status {
    wire::Status {
        host: "h2".into(),
        cluster: "lab".into(),
        version: "0.1.0".into(),
        authority: true,
        address: "10.0.0.1:7838".into(),
        fingerprint: b"fingerprint".to_vec(),
        ..wire::Status::default()
    }
}

/// The same of a version that can be replaced while it runs.
fn program() -> wire::Status {
    wire::Status {
        boot: b"boot".to_vec(),
        program: "/usr/bin/queued".into(),
        ..status()
    }
}
