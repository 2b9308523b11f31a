//! What is said on the sockets.

use super::{compare, complete, name};
use queue_exec::protocol::{
    About, AttachState, Control, FromRunner, FromSession, JobKey, JobReply, JobRequest, Refusal, Reply,
    Request, Seen, ToRunner, ToSession,
};

const KEY: JobKey = JobKey {
    job: 12,
    task: 3,
    attempt: 1,
};
const NONCE: [u8; 16] = [4; 16];

fn ticket() -> Vec<u8> {
    b"ticket".to_vec()
}

fn cert() -> Vec<u8> {
    b"cert".to_vec()
}

fn controls() -> Vec<Control> {
    vec![
        Control::Kill {
            session: NONCE,
            signal: 15,
        },
        Control::Drain {
            reason: "new disk".into(),
        },
        Control::Undrain,
        Control::Detach { session: NONCE },
    ]
}

fn job_requests() -> Vec<JobRequest> {
    vec![
        JobRequest::Warrant {
            login: "bob".into(),
            run: [1; 32],
        },
        JobRequest::Run {
            key: KEY,
            warrant: b"warrant".to_vec(),
            source_cert: cert(),
            run: b"run".to_vec(),
            params: b"params".to_vec(),
            lease: 60_000,
            note: b"note".to_vec(),
        },
        JobRequest::End {
            key: KEY,
            signal: 9,
            cause: 10,
            text: "killed by bob@h2".into(),
        },
        JobRequest::Lease {
            leases: vec![(KEY, 1), (KEY, 2)],
        },
        JobRequest::Forget { keys: vec![KEY, KEY] },
        JobRequest::Vouch {
            ticket: ticket(),
            source_cert: cert(),
            body: [3; 32],
        },
        JobRequest::Deliver {
            job: 7,
            warrant: b"warrant".to_vec(),
            source_cert: cert(),
            run: b"run".to_vec(),
            from: "h2".into(),
        },
    ]
}

fn requests() -> Vec<Request> {
    let mut all = vec![
        Request::Sign {
            target_cert: cert(),
            login: "bob".into(),
            nonce: NONCE,
            request: [5; 32],
            client_key: [6; 32],
        },
        Request::Start {
            ticket: ticket(),
            source_cert: cert(),
            note: b"note".to_vec(),
        },
        Request::Admit {
            token: "token".into(),
            secret: "secret".into(),
            name: "h3".into(),
            host_key: [1; 32],
            tls_key: [2; 32],
            dry_run: true,
        },
        Request::Revoke {
            list: b"list".to_vec(),
        },
        Request::Watch,
        Request::Reload,
        Request::Control {
            ticket: ticket(),
            source_cert: cert(),
            body: b"body".to_vec(),
        },
        Request::Renew { cert: cert() },
        Request::Install { cert: cert() },
        Request::Adopt { nonce: NONCE },
        Request::Connect {
            session: NONCE,
            challenge: [9; 16],
        },
        Request::Attach {
            ticket: ticket(),
            source_cert: cert(),
            session: NONCE,
        },
        Request::About,
        Request::Upgrade,
    ];
    all.extend(job_requests().into_iter().map(Request::Job));
    all
}

fn job_replies() -> Vec<JobReply> {
    vec![
        JobReply::Warrant {
            warrant: b"warrant".to_vec(),
            source_cert: cert(),
        },
        JobReply::Vouched {
            user: "alice".into(),
            host: "h1".into(),
            operator: true,
        },
        JobReply::Delivered {
            failed: "no room".into(),
            hopeless: true,
        },
        JobReply::Life { life: NONCE },
        JobReply::Started {
            key: KEY,
            login: "bob".into(),
            pid: 77,
            running: b"running".to_vec(),
            note: b"note".to_vec(),
            since: 1_800_000_000_000,
        },
        JobReply::Stopped {
            key: KEY,
            stopped: true,
        },
        JobReply::Ended {
            key: KEY,
            outcome: b"outcome".to_vec(),
        },
        JobReply::Told,
    ]
}

fn replies() -> Vec<Reply> {
    let mut all = vec![
        Reply::Signed {
            ticket: ticket(),
            source_cert: cert(),
            target_key: [1; 32],
        },
        Reply::Started {
            nonce: NONCE,
            login: "bob".into(),
        },
        Reply::Admitted { cert: cert() },
        Reply::Done,
        Reply::Refused {
            code: Refusal::Internal,
            text: "no room".into(),
        },
        Reply::SessionStarted {
            nonce: NONCE,
            login: "bob".into(),
            pid: 77,
            ruser: "alice".into(),
            rhost: "h1".into(),
            since: 1_800_000_000_000,
            note: b"note".to_vec(),
        },
        Reply::SessionEnded { nonce: NONCE },
        Reply::Controlled {
            by: "alice@h1".into(),
            control: Control::Undrain,
        },
        Reply::Gone {
            proof: b"proof".to_vec(),
        },
        Reply::SessionState {
            nonce: NONCE,
            attached: STATE,
        },
        Reply::About(About {
            version: "0.1.0".into(),
            program: "/usr/lib/queue/queue-exec".into(),
            image: [2; 16],
            sessions: 5,
            jobs: 6,
        }),
    ];
    all.extend(job_replies().into_iter().map(Reply::Job));
    all
}

const STATE: AttachState = AttachState {
    detached: true,
    watchers: 3,
};

fn to_runner() -> Vec<ToRunner> {
    vec![
        ToRunner::Hire {
            nonce: NONCE,
            login: "bob".into(),
            ruser: "alice".into(),
            rhost: "h1".into(),
            host: "h2".into(),
            pam: true,
            cgroup: true,
            uid_min: 1000,
            allow_root: true,
            socket: "/run/queue/exec.sock".into(),
            spool: "/var/lib/queue/spool/bob".into(),
        },
        ToRunner::Job {
            key: KEY,
            run: b"run".to_vec(),
            params: b"params".to_vec(),
            lease: 60_000,
        },
        ToRunner::End {
            key: KEY,
            signal: 9,
            cause: 10,
            text: "killed by bob@h2".into(),
        },
        ToRunner::Lease { key: KEY, lease: 4 },
        ToRunner::Deliver {
            job: 7,
            run: b"run".to_vec(),
            from: "h2".into(),
        },
    ]
}

fn to_session() -> Vec<ToSession> {
    let mut all = vec![
        ToSession::Claim {
            nonce: NONCE,
            login: "bob".into(),
            ruser: "alice".into(),
            rhost: "h1".into(),
            host: "h2".into(),
            request: [5; 32],
            client_key: [6; 32],
            grant: b"grant".to_vec(),
            pam: true,
            grace: 60,
            cgroup: true,
            uid_min: 1000,
            allow_root: true,
            socket: "/run/queue/exec.sock".into(),
        },
        ToSession::Connection,
        ToSession::Seen {
            sessions: vec![
                Seen { nonce: NONCE, pid: 9 },
                Seen {
                    nonce: [5; 16],
                    pid: 10,
                },
            ],
        },
        ToSession::Kill {
            by: "alice@h1".into(),
            signal: 15,
        },
        ToSession::Attach {
            by: "alice@h3".into(),
            request: [5; 32],
            client_key: [6; 32],
            grant: b"grant".to_vec(),
        },
        ToSession::Detach {
            by: "alice@h3".into(),
        },
    ];
    all.extend(to_runner().into_iter().map(ToSession::Job));
    all
}

fn from_runner() -> Vec<FromRunner> {
    vec![
        FromRunner::Started {
            key: KEY,
            running: b"running".to_vec(),
        },
        FromRunner::Stopped {
            key: KEY,
            stopped: true,
        },
        FromRunner::Ended {
            key: KEY,
            outcome: b"outcome".to_vec(),
            last: true,
        },
        FromRunner::Delivered {
            failed: "no room".into(),
            hopeless: true,
        },
    ]
}

fn from_session() -> Vec<FromSession> {
    let mut all = vec![
        FromSession::Ready { session_key: [1; 32] },
        FromSession::Running,
        FromSession::Failed {
            text: "no such account".into(),
        },
        FromSession::KillTree,
        FromSession::Ended { leave: true },
        FromSession::Look,
        FromSession::State(STATE),
    ];
    all.extend(from_runner().into_iter().map(FromSession::Job));
    all
}

/// With names of variants for labels: `Sign`, `Job Run`.
fn labelled<T: std::fmt::Debug>(all: Vec<T>) -> Vec<(String, T)> {
    all.into_iter()
        .map(|v| {
            let inner = format!("{v:?}");
            let label = match inner.strip_prefix("Job(") {
                Some(job) => format!("Job {}", job.split([' ', ')', '{']).next().unwrap_or_default()),
                None => name(&v),
            };
            (label, v)
        })
        .collect()
}

const CONTROL: &str = "protocol/control.rs";
const REPLY: &str = "protocol/reply.rs";
const REQUEST: &str = "protocol/request.rs";
const SESSION: &str = "protocol/session.rs";
const JOBS: &str = "protocol/jobs.rs";

#[test]
fn asked_of_the_monitor() {
    complete(REQUEST, "Request", requests());
    complete(JOBS, "JobRequest", job_requests());
    let read = |b: &[u8]| Request::decode(b).map(|(_, m)| m);
    compare("request.hex", &labelled(requests()), |m| m.encode(7), read);
}

#[test]
fn said_by_the_monitor() {
    complete(REPLY, "Reply", replies());
    complete(JOBS, "JobReply", job_replies());
    let read = |b: &[u8]| Reply::decode(b).map(|(_, m)| m);
    compare("reply.hex", &labelled(replies()), |m| m.encode(7), read);
}

#[test]
fn asked_of_a_host() {
    complete(CONTROL, "Control", controls());
    compare(
        "control.hex",
        &labelled(controls()),
        Control::encode,
        Control::decode,
    );
}

#[test]
fn said_to_sessions() {
    complete(SESSION, "ToSession", to_session());
    complete(JOBS, "ToRunner", to_runner());
    compare(
        "to-session.hex",
        &labelled(to_session()),
        ToSession::encode,
        ToSession::decode,
    );
}

#[test]
fn said_by_sessions() {
    complete(SESSION, "FromSession", from_session());
    complete(JOBS, "FromRunner", from_runner());
    compare(
        "from-session.hex",
        &labelled(from_session()),
        FromSession::encode,
        FromSession::decode,
    );
}

#[test]
fn kinds_that_are_not_known_are_refused() {
    // Magic, id, kind; and without an id between sessions and the monitor.
    for kind in [0, 200, 255] {
        let with_id = [b"QX1", &[0, 0, 0, 7, kind][..], &[0; 60]].concat();
        assert!(Request::decode(&with_id).is_err() && Reply::decode(&with_id).is_err());
        let without = [b"QX1", &[kind][..], &[0; 60]].concat();
        assert!(ToSession::decode(&without).is_err() && FromSession::decode(&without).is_err());
        let control = [b"QUEUE control 1\0", &[kind][..], &[0; 60]].concat();
        assert!(Control::decode(&control).is_err());
    }
}
