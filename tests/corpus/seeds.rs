//! One valid input for each kind of bytes. They are golden files as well: a changed encoding fails.

use ed25519_dalek::SigningKey;
use libqueue::stream::{Channel, Role, Stream};
use libqueue::wire::gossip::Kind;
use libqueue::{frame, wire};
use prost::Message as _;
use queue_exec::cert::{HostCert, Revocations, Vouch, fingerprint};
use queue_exec::protocol::{Control, FromSession, Refusal, Reply, Request, ToSession};
use queue_exec::ticket::{Grant, Ticket};

mod jobs;
mod local;

pub(super) fn all() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let authority = SigningKey::from_bytes(&[7; 32]);
    let host_key = SigningKey::from_bytes(&[3; 32]);
    let cluster = fingerprint(&authority.verifying_key().to_bytes());
    let cert = HostCert {
        cluster,
        serial: 3,
        name: "h1".into(),
        host_key: host_key.verifying_key().to_bytes(),
        tls_key: [2; 32],
        vouch: Vouch::Only(vec!["alice".into(), "*".into()]),
        issued: 1_800_000_000,
        expires: 1_834_560_000,
    };
    let ticket = Ticket {
        cluster,
        source: "h1".into(),
        user: "alice".into(),
        login: "alice".into(),
        target: "h2".into(),
        nonce: [4; 16],
        issued: 1_800_000_000,
        request: [5; 32],
        client_key: [6; 32],
    };
    let grant = Grant {
        nonce: [4; 16],
        session_key: [8; 32],
    }
    .sign(&host_key);
    let launch = wire::Launch {
        form: wire::Form::Launch as i32,
        argv: vec![b"ls".to_vec(), b"-l".to_vec()],
        env: vec![b"A=1".to_vec(), b"B=two\nlines".to_vec()],
        cwd: b"/tmp".to_vec(),
        umask: Some(0o22),
        nice: 5,
        rlimits: vec![wire::Rlimit {
            resource: 7,
            soft: 1024,
            hard: u64::MAX,
        }],
        ignored: 1 << 12,
        blocked: 0,
        pty: Some(wire::Pty {
            stdin: true,
            stdout: true,
            stderr: false,
            modes: Some(wire::Termios {
                iflag: 0x500,
                oflag: 5,
                cflag: 0xbf,
                lflag: 0x8a3b,
                cc: vec![3; 19],
            }),
            size: Some(wire::Winsize {
                rows: 24,
                cols: 80,
                xpixel: 0,
                ypixel: 0,
            }),
        }),
        no_stdin: false,
        leave: false,
        submit_host: "h1".into(),
        look: None,
        resume: false,
        x11: None,
        agent: false,
    };
    let resumable = wire::Launch {
        resume: true,
        agent: true,
        x11: Some(wire::X11 {
            protocol: "MIT-MAGIC-COOKIE-1".into(),
            cookie: vec![9; 16],
            screen: 0,
        }),
        ..launch.clone()
    };
    let attach = wire::Attach {
        session: vec![4; 16],
        watch: true,
        host: "h3".into(),
        ..wire::Attach::default()
    };
    let forward = wire::FromSession {
        kind: Some(wire::from_session::Kind::Forward(wire::Forward {
            id: 1,
            kind: Some(wire::forward::Kind::Data(b"l\0\x0b".to_vec())),
        })),
    };
    let look = wire::Launch {
        look: Some(wire::Look {
            sessions: vec![vec![4; 16]],
            env: true,
        }),
        ..wire::Launch::default()
    };
    let cert_bytes = cert.sign(&authority);
    let ticket_bytes = ticket.sign(&host_key);
    let hello = wire::SessionHello {
        ticket: ticket_bytes.clone(),
        source_cert: cert_bytes.clone(),
        need: None,
    };
    let need = wire::Need {
        cores: 2,
        mem: 4 << 30,
        expr: "raid>=200G".into(),
        ..Default::default()
    };
    let needing = wire::SessionHello {
        need: Some(need.clone()),
        ..hello.clone()
    };
    let facts = wire::Facts {
        version: 7,
        cores: 8,
        mem: 24 << 30,
        gpus: vec![wire::Gpu {
            name: "A100".into(),
            mem: 40 << 30,
        }],
        arch: "x86_64".into(),
        resources: [("raid".to_owned(), "200G".to_owned())].into(),
        power: 1.5,
        ..Default::default()
    };
    let report = wire::Load {
        load1: 0.5,
        cores: 8,
        mem_total: 24 << 30,
        facts: 7,
        seq: 9,
        ..Default::default()
    };
    let gossip = |kind| wire::Gossip { kind: Some(kind) }.encode_to_vec();
    let ended = wire::FromSession {
        kind: Some(wire::from_session::Kind::Ended(wire::Ended {
            code: Some(3),
            ..Default::default()
        })),
    };
    let place = wire::Request {
        kind: Some(wire::request::Kind::Place(wire::Place {
            host: "h2".into(),
            ..Default::default()
        })),
    };
    let needing_place = wire::Request {
        kind: Some(wire::request::Kind::Place(wire::Place {
            need: Some(need),
            wait: true,
            ..Default::default()
        })),
    };
    let kill = Control::Kill {
        session: [4; 16],
        signal: 15,
    };
    let asked = wire::ControlAsk {
        ticket: ticket_bytes.clone(),
        source_cert: cert_bytes.clone(),
        body: kill.encode(),
    };
    let member = wire::Member {
        kind: Some(wire::member::Kind::Hello(wire::MemberHello {
            errand: false,
            cert: cert_bytes.clone(),
            address: "10.0.0.1:7838".into(),
            boot: vec![1; 16],
            version: "0.1.0".into(),
            clock_ms: 1_800_000_000_000,
            protocol: wire::PROTOCOL,
        })),
    };
    let (k, n) = ([2; 32], [4; 16]);
    let sign = Request::Sign {
        target_cert: cert_bytes.clone(),
        login: String::new(),
        nonce: n,
        request: [5; 32],
        client_key: k,
    };
    let admit = Request::Admit {
        token: "abc".into(),
        secret: "def".into(),
        name: "h2".into(),
        host_key: k,
        tls_key: k,
        dry_run: false,
    };
    let refused = Reply::Refused {
        code: Refusal::Policy,
        text: "h1 may not vouch for root here".into(),
    };
    let claim = ToSession::Claim {
        nonce: n,
        login: "alice".into(),
        ruser: "alice".into(),
        rhost: "h1".into(),
        host: "h2".into(),
        request: [5; 32],
        client_key: [6; 32],
        grant: grant.clone(),
        pam: false,
        grace: 60,
        cgroup: true,
        uid_min: 1000,
        allow_root: false,
        socket: "/run/queue/exec.sock".into(),
    };
    let mut frames = frame::encode(&place);
    frames.extend(frame::encode(&wire::Request {
        kind: Some(wire::request::Kind::Hosts(wire::Empty {})),
    }));
    let token = queue_exec::token::Token {
        address: "10.0.0.1:7838".into(),
        authority: cluster,
        id: queue_exec::token::base32(&[1; queue_exec::token::ID_LEN]),
        secret: queue_exec::token::base32(&[2; queue_exec::token::SECRET_LEN]),
    };
    let mut all = vec![
        ("cert", "host", cert_bytes),
        (
            "cert",
            "revoked",
            Revocations {
                version: 2,
                serials: vec![1, 9],
            }
            .sign(&cluster, &authority),
        ),
        ("ticket", "ticket", ticket_bytes),
        (
            "ticket",
            "long-ago",
            Ticket {
                issued: 1 << 63,
                ..ticket
            }
            .sign(&host_key),
        ),
        ("ticket", "grant", grant),
        (
            "preamble",
            "session",
            wire::preamble(wire::KIND_SESSION, &hello.encode_to_vec()),
        ),
        (
            "preamble",
            "need",
            wire::preamble(wire::KIND_SESSION, &needing.encode_to_vec()),
        ),
        (
            "preamble",
            "resume",
            wire::preamble(
                wire::KIND_RESUME,
                &wire::ResumeHello {
                    session: vec![4; 16],
                    challenge: vec![5; 16],
                }
                .encode_to_vec(),
            ),
        ),
        (
            "preamble",
            "attach",
            wire::preamble(
                wire::KIND_ATTACH,
                &wire::AttachHello {
                    ticket: hello.ticket.clone(),
                    source_cert: hello.source_cert.clone(),
                    session: vec![4; 16],
                }
                .encode_to_vec(),
            ),
        ),
        ("preamble", "member", wire::preamble(wire::KIND_MEMBER, &[])),
        ("frame", "requests", frames),
        ("frame", "member", member.encode_to_vec()),
        ("frame", "need", frame::encode(&needing_place)),
        ("frame", "control", asked.encode_to_vec()),
        ("launch", "look", look.encode_to_vec()),
        ("launch", "launch", launch.encode_to_vec()),
        ("launch", "resumable", resumable.encode_to_vec()),
        ("launch", "attach", attach.encode_to_vec()),
        ("launch", "forward", forward.encode_to_vec()),
        ("launch", "ended", ended.encode_to_vec()),
        ("stream", "broken", broken()),
        ("forward", "messages", forwarded()),
        (
            "forward",
            "ends",
            b"\x00\x00\x19\x05\x01\xff\x81\xfe\x19\x05\x99\x05\x05\x40\x85\x40\x07\x00\x99\x05\x87\x00"
                .to_vec(),
        ),
        ("stream", "to-session", to_session(&launch.encode_to_vec())),
        ("stream", "to-front", to_front(&ended.encode_to_vec())),
        ("monitor", "sign", sign.encode(1)),
        ("monitor", "admit", admit.encode(2)),
        (
            "monitor",
            "start",
            Request::Start {
                ticket: vec![1; 40],
                source_cert: vec![2; 40],
                note: vec![3; 20],
            }
            .encode(3),
        ),
        (
            "monitor",
            "revoke",
            Request::Revoke { list: vec![3; 40] }.encode(4),
        ),
        (
            "monitor",
            "control",
            Request::Control {
                ticket: vec![1; 40],
                source_cert: vec![2; 40],
                body: kill.encode(),
            }
            .encode(5),
        ),
        ("monitor", "kill", kill.encode()),
        ("monitor", "refused", refused.encode(1)),
        (
            "monitor",
            "started",
            Reply::Started {
                nonce: n,
                login: "alice".into(),
            }
            .encode(3),
        ),
        ("monitor", "claim", claim.encode()),
        ("monitor", "ready", FromSession::Ready { session_key: k }.encode()),
        ("token", "token", token.to_string().into_bytes()),
        (
            "config",
            "exec.conf",
            b"vouch h1 * root\nlogin carol build\nuid-min 1000\npam no\nwarm 2\n".to_vec(),
        ),
        (
            "config",
            "queued.toml",
            b"port = 7838\nlisten = [\"0.0.0.0\"]\nlog = \"info\"\n".to_vec(),
        ),
        (
            "config",
            "resources.toml",
            b"power = 1.5\noperators = ['alice', '@wheel']\n[resources]\nraid = '200G'\nmatlab = 3\n"
                .to_vec(),
        ),
        ("gossip", "report", gossip(Kind::Report(report))),
        ("gossip", "facts", gossip(Kind::Facts(facts))),
        ("expr", "size", b"raid>=200G && arch==x86_64".to_vec()),
        (
            "expr",
            "all",
            b"!(gpu || kernel<6.1), host~gpu[0-9]* && room='b 12'".to_vec(),
        ),
        ("size", "size", b"1.5TiB".to_vec()),
    ];
    all.extend(jobs::all(cluster, &host_key));
    all.extend(local::all());
    all
}

fn to_session(launch: &[u8]) -> Vec<u8> {
    let mut s = Stream::new(Role::Front);
    s.control(launch);
    s.send(Channel::Stdin, b"hello");
    s.eof(Channel::Stdin);
    s.close(Channel::Stderr);
    s.outgoing().to_vec()
}

fn to_front(ended: &[u8]) -> Vec<u8> {
    let mut s = Stream::new(Role::Session);
    for (c, text) in [(Channel::Stdout, &b"out"[..]), (Channel::Stderr, b"error")] {
        s.send(c, text);
        s.eof(c);
    }
    s.control(ended);
    s.outgoing().to_vec()
}

/// What two ends do: send, lose the connection, go on.
fn broken() -> Vec<u8> {
    let ops: &[(u8, u8)] = &[
        (0x00, 0x70),
        (0x80, 0xb0),
        (0xc0, 0x50),
        (0x08, 0x05),
        (0x03, 0x38),
        (0x83, 0x90),
        (0x85, 0x2a),
        (0x05, 0x70),
        (0x07, 0x40),
        (0x0b, 0x00),
        (0x80, 0xff),
        (0x83, 0xff),
        (0x05, 0xf0),
        (0x07, 0xff),
        (0x8b, 0x01),
        (0x83, 0x47),
        (0x0a, 0x00),
        (0xc9, 0x00),
        (0x09, 0x00),
        (0x0c, 0x00),
    ];
    ops.iter().flat_map(|(op, n)| [*op, *n]).collect()
}

/// One of each message about a forwarded connection.
fn forwarded() -> Vec<u8> {
    use wire::forward::Kind;
    let mut v = Vec::new();
    for (id, kind) in [
        (1, Kind::Open(wire::Service::X11 as i32)),
        (1, Kind::Data(b"l\0\x0b\0".to_vec())),
        (2, Kind::Open(wire::Service::Agent as i32)),
        (1, Kind::Credit(5)),
        (1, Kind::Eof(wire::Empty {})),
        (2, Kind::Close("no agent".into())),
        (1, Kind::Data(vec![1])),
    ] {
        let m = wire::Forward { id, kind: Some(kind) };
        v.extend(m.encode_length_delimited_to_vec());
    }
    v
}
