//! Connections for sessions that run already, as the port answers them.

use crate::site::{LIMIT, Site};
use libqueue::wire::{
    AttachHello, KIND_ATTACH, KIND_RESUME, PREAMBLE_LEN, ResumeHello, SessionAnswer, preamble,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use prost::Message as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// As many as one host may have on another.
const MANY: usize = 1000;

/// Begins, with what would follow for the session.
fn begin(site: &Site, preamble: &[u8]) -> TcpStream {
    let mut s = TcpStream::connect(site.address()).expect("a connection");
    s.set_read_timeout(Some(LIMIT)).expect("a limit");
    s.write_all(&[preamble, &[22; 300]].concat()).expect("a preamble");
    s
}

/// The whole answer, and a clean end.
fn answer(s: TcpStream) -> SessionAnswer {
    try_answer(s).expect("an answer and a clean end")
}

/// The same, or a connection that broke.
fn try_answer(mut s: TcpStream) -> std::io::Result<SessionAnswer> {
    let mut all = Vec::new();
    s.read_to_end(&mut all)?;
    let (head, rest) = all.split_first_chunk::<2>().expect("an answer");
    assert_eq!(rest.len(), usize::from(u16::from_be_bytes(*head)));
    Ok(SessionAnswer::decode(rest).expect("an answer"))
}

fn resume(session: &[u8], challenge: &[u8]) -> Vec<u8> {
    let hello = ResumeHello {
        session: session.to_vec(),
        challenge: challenge.to_vec(),
    };
    preamble(KIND_RESUME, &hello.encode_to_vec())
}

#[test]
fn who_comes_back_is_told_that_a_session_is_gone() {
    let mut sites = Site::cluster(&["h1"]);
    let site = &sites[0];
    let a = answer(begin(site, &resume(&[1; 16], &[2; 16])));
    // Whose word that is, is for `queue` to find out; it is about this session, and in answer to this question.
    let has = |part: [u8; 16]| a.gone.windows(16).any(|w| w == part);
    assert!(has([1; 16]) && has([2; 16]), "{a:?}");
    assert!(a.refused.contains("has ended"), "{a:?}");

    for bad in [
        resume(&[1; 15], &[2; 16]),
        resume(&[1; 16], &[]),
        preamble(KIND_RESUME, &[0xff; 20]),
        preamble(KIND_ATTACH, &[0xff; 20]),
    ] {
        let a = answer(begin(site, &bad));
        assert!(a.gone.is_empty() && a.refused.contains("malformed"), "{a:?}");
    }
    let hello = AttachHello {
        ticket: vec![1; 100],
        source_cert: vec![2; 100],
        session: vec![1; 16],
    };
    let a = answer(begin(site, &preamble(KIND_ATTACH, &hello.encode_to_vec())));
    assert!(a.gone.is_empty() && !a.refused.is_empty(), "{a:?}");
    // A body that is too long is not read at all.
    let long = preamble(KIND_RESUME, &[0; 4000]);
    let mut s = TcpStream::connect(site.address()).expect("a connection");
    s.set_read_timeout(Some(LIMIT)).expect("a limit");
    s.write_all(&long[..PREAMBLE_LEN]).expect("a preamble");
    assert!(matches!(s.read(&mut [0]), Ok(0)));

    // Without queue-exec nobody can say that it is gone.
    sites[0].configure("spawn-exec = false");
    assert!(sites[0].stop(nix::sys::signal::Signal::SIGTERM));
    let site = &sites[0];
    let _daemon = crate::Ended(
        site.command("queued", &["run"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("queued"),
    );
    crate::site::wait_for("its port", || TcpStream::connect(site.address()).is_ok());
    // The one before may still be about to go: of what was said to that nobody knows anything, and it is said again.
    let mut a = SessionAnswer::default();
    crate::site::wait_for("an answer", || {
        try_answer(begin(site, &resume(&[1; 16], &[2; 16]))).is_ok_and(|said| {
            a = said;
            a.gone.is_empty()
        })
    });
    assert!(
        a.gone.is_empty() && a.refused.contains("queue-exec on h1 does not run"),
        "{a:?}"
    );
}

/// After a cut all sessions of a host come back within the same moment: none is turned away as a stranger.
#[test]
fn all_sessions_of_a_host_come_back_at_once() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, most.min(65_536), most).expect("a limit");
    let sites = Site::cluster(&["h1"]);
    let begun = Instant::now();
    let all: Vec<TcpStream> = (0..MANY)
        .map(|i| begin(&sites[0], &resume(&[1; 16], &[i as u8; 16])))
        .collect();
    let sent = begun.elapsed();
    for s in all {
        assert!(!answer(s).gone.is_empty());
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10), "{sent:?} to ask, {took:?} in all");
}
