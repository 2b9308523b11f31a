//! A stream that outlives its connections: cut anywhere, by anybody, and by strangers not at all.

use crate::fake::{Front, LIMIT, Run, gone, passed_on, sh};
use libqueue::link::join::{Joining, Resume, Step};
use libqueue::link::{LinkError, wait};
use libqueue::stream::Channel;
use libqueue::tls::{KeyPair, Peer, client_config};
use libqueue::wire::{Empty, Launch, ToSession, from_session, to_session};
use nix::poll::PollFlags;
use nix::sys::socket::{setsockopt, sockopt};
use prost::Message as _;
use queue_exec::client;
use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::{Duration, Instant};

fn resumable(script: &str) -> Launch {
    Launch {
        resume: true,
        ..sh(script)
    }
}

/// xorshift64*, so that a seed replays.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }
}

/// Closes the connection: as a program that ends does, or with a reset that loses what is under way.
fn break_off(front: &mut Front, reset: bool) {
    if reset {
        let now = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&front.link.socket().unwrap(), sockopt::Linger, &now).unwrap();
    }
    front.link.cut();
}

/// Both directions in bulk, the connection broken off again and again, at any byte.
#[test]
fn no_byte_is_lost_or_comes_twice() {
    let total = 24 << 20;
    let input: Vec<u8> = (0..total).map(|i: usize| (i * 31 + (i >> 11)) as u8).collect();
    let mut r = Run::start(&resumable("cat; echo done >&2; exit 9"));
    let mut random = Random(7);
    let (mut sent, mut cuts, mut ended) = (0, 0, false);
    let end = Instant::now() + 4 * LIMIT;
    let mut next = 300_000;
    while !matches!(r.said.last(), Some(from_session::Kind::Ended(_))) {
        assert!(Instant::now() < end, "{} of {total}", r.out[1].len());
        while sent < total {
            let most = (total - sent).min(1 + random.below(100_000) as usize);
            let n = r.link.send(Channel::Stdin, &input[sent..sent + most]).unwrap();
            sent += n;
            if n == 0 {
                break;
            }
        }
        if sent == total && !ended {
            r.link.send_eof(Channel::Stdin).unwrap();
            ended = true;
        }
        let moved = sent + r.out[1].len();
        if moved >= next {
            next = moved + random.below(900_000) as usize;
            cuts += 1;
            break_off(&mut r, random.below(2) == 0);
            r.rejoin();
            continue;
        }
        let _ = r.link.flush();
        let events = if r.link.backlog() > 0 {
            PollFlags::POLLIN | PollFlags::POLLOUT
        } else {
            PollFlags::POLLIN
        };
        wait(r.link.socket().unwrap(), events, end).unwrap();
        r.take().unwrap();
    }
    assert!(cuts > 40, "{cuts}");
    assert!(r.out[1] == input, "the output differs from the input");
    assert_eq!(r.out[2], b"done\n");
    assert_eq!(r.ended, [false, true, true], "the status comes last");
    assert_eq!(r.finish().0, Some(9));
}

/// What happens while nobody is connected is told afterwards, in order, and nothing has ended because of it.
#[test]
fn what_happens_meanwhile_is_told_afterwards() {
    let mut r = Run::start(&resumable(
        "echo one; read x; echo two; kill -STOP $$; echo $x; exit 3",
    ));
    r.until("one", |r| r.out[1] == b"one\n");
    r.link.send(Channel::Stdin, b"three\n").unwrap();
    r.link.flush_all(LIMIT).unwrap();
    break_off(&mut r, false);
    r.rejoin();
    let stopped = |k: &from_session::Kind| matches!(k, from_session::Kind::Stopped(_));
    r.until("the stop", |r| r.said.iter().any(stopped));
    assert_eq!(r.out[1], b"one\ntwo\n");
    // Said to nobody: kept, and the rest of it comes with the next connection.
    r.link.cut();
    let kind = Some(to_session::Kind::Continue(Empty {}));
    r.link.send_control(&ToSession { kind }.encode_to_vec()).unwrap();
    r.rejoin();
    r.link.flush_all(LIMIT).unwrap();
    let (code, _, out) = r.finish();
    assert_eq!((code, out[1].as_slice()), (Some(3), &b"one\ntwo\nthree\n"[..]));
}

/// A command that ends while nobody is connected: its status waits, for a moment.
#[test]
fn the_status_waits_for_the_client() {
    let mut r = Run::start(&resumable("echo $$; read x; echo bye; exit 5"));
    r.until("a pid", |r| r.out[1].ends_with(b"\n"));
    let pid: i32 = String::from_utf8_lossy(&r.out[1]).trim().parse().unwrap();
    r.link.send(Channel::Stdin, b"\n").unwrap();
    r.link.flush_all(LIMIT).unwrap();
    break_off(&mut r, false);
    let end = Instant::now() + LIMIT;
    while !gone(pid) {
        assert!(Instant::now() < end);
    }
    r.rejoin();
    let (code, _, out) = r.finish();
    assert_eq!(code, Some(5));
    assert!(out[1].ends_with(b"\nbye\n"), "{out:?}");
    // Nobody comes for it: soon over.
    let mut r = Run::start(&resumable("echo on; read x"));
    r.until("on", |r| r.out[1] == b"on\n");
    r.link.send_eof(Channel::Stdin).unwrap();
    r.link.flush_all(LIMIT).unwrap();
    break_off(&mut r, true);
    let Run {
        mut child, monitor, ..
    } = r;
    let start = Instant::now();
    assert!(child.wait().unwrap().success());
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    drop(monitor);
}

/// Strangers who know the session's number change nothing, whatever they send.
#[test]
fn strangers_do_not_disturb() {
    let mut r = Run::start(&resumable("cat"));
    let mut said = Vec::new();
    let mut open = Vec::new();
    let config = |key: &KeyPair, front: &Front| client_config(key, Peer::Pinned(front.session())).unwrap();
    for i in 0..24u8 {
        let mut stranger = passed_on(&r.monitor);
        match i % 4 {
            // Nothing, and the connection stays open.
            0 => open.push(stranger),
            // Nothing, and it is closed.
            1 => drop(stranger),
            2 => {
                let garbage: Vec<u8> = (0..5000u32).map(|b| (b * u32::from(i)) as u8).collect();
                stranger.write_all(&garbage).unwrap();
                open.push(stranger);
            }
            _ => {
                let key = KeyPair::generate().unwrap();
                let mut j = Joining::client(stranger.into(), config(&key, &r), &[]).unwrap();
                let end = Instant::now() + LIMIT;
                let refused = loop {
                    match j.step() {
                        Ok(Step::Again) => wait(j.socket(), PollFlags::POLLIN, end).unwrap(),
                        // His end of TLS is through before ours has seen his key.
                        Ok(Step::Secure) => {
                            let number = u64::MAX;
                            let _ = j.tell(Resume { number, received: 0 });
                        }
                        Ok(s) => panic!("{s:?}"),
                        Err(e) => break e,
                    }
                };
                assert!(
                    matches!(refused, LinkError::Io(_) | LinkError::Tls(_)),
                    "{refused}"
                );
            }
        }
        let line = format!("line {i}\n");
        r.input(line.as_bytes());
        said.extend_from_slice(line.as_bytes());
        r.until("the line", |r| r.out[1] == said);
    }
    r.rejoin();
    r.link.send_eof(Channel::Stdin).unwrap();
    let (code, _, out) = r.finish();
    assert_eq!((code, &out[1]), (Some(0), &said));
}

/// An old connection that comes late, and one that comes twice, change nothing.
#[test]
fn only_a_newer_connection_counts() {
    let mut r = Run::start(&resumable("cat"));
    let late = passed_on(&r.monitor);
    let mut old = r.joining(late);
    secure(&mut old);
    r.number = 1;
    r.rejoin();
    assert_eq!(r.number, 2);
    // Both with numbers that were there before.
    let again = passed_on(&r.monitor);
    let mut twice = r.joining(again);
    secure(&mut twice);
    for (j, number) in [(&mut old, 1), (&mut twice, 2)] {
        let received = r.link.stream().received();
        j.tell(Resume { number, received }).unwrap();
        let end = Instant::now() + LIMIT;
        let over = loop {
            match j.step() {
                Ok(Step::Again) => wait(j.socket(), PollFlags::POLLIN, end).unwrap(),
                Ok(s) => panic!("{s:?}"),
                Err(e) => break e,
            }
        };
        assert!(matches!(over, LinkError::Io(_)), "{over}");
    }
    r.input(b"still here\n");
    r.until("the line", |r| r.out[1] == b"still here\n");
    // A claim that cannot be: more than was ever sent.
    let sock = passed_on(&r.monitor);
    let mut j = r.joining(sock);
    secure(&mut j);
    j.tell(Resume {
        number: 3,
        received: 1 << 40,
    })
    .unwrap();
    let start = Instant::now();
    assert!(r.child.wait().unwrap().success());
    assert!(start.elapsed() < Duration::from_secs(5));
}

fn secure(j: &mut Joining) {
    let end = Instant::now() + LIMIT;
    loop {
        match j.step().unwrap() {
            Step::Secure => return,
            Step::Again => wait(j.socket(), PollFlags::POLLIN, end).unwrap(),
            s => panic!("{s:?}"),
        }
    }
}

/// A client that is killed is waited for a moment, and then all ends within the time that is promised, whatever
/// the command ignores.
#[test]
fn all_ends_soon_after_the_client_vanished() {
    for reset in [false, true] {
        let mut r = Run::start(&resumable(
            "trap '' HUP TERM; setsid sleep 1000 & echo $!; while :; do sleep 1; done",
        ));
        r.until("a pid", |r| r.out[1].ends_with(b"\n"));
        let pid: i32 = String::from_utf8_lossy(&r.out[1]).trim().parse().unwrap();
        let start = Instant::now();
        break_off(&mut r, reset);
        let Run {
            mut child, monitor, ..
        } = r;
        assert!(child.wait().unwrap().success());
        let took = start.elapsed();
        assert!(gone(pid), "sleep lives on");
        assert!(
            took > Duration::from_secs(1) && took < Duration::from_secs(5),
            "{took:?}"
        );
        drop(monitor);
    }
    // One that says that it goes is not waited for.
    let mut r = Run::start(&resumable("sleep 1000 & echo $!; wait"));
    r.until("a pid", |r| r.out[1].ends_with(b"\n"));
    let start = Instant::now();
    r.link.send_goodbye().unwrap();
    r.link.flush_all(LIMIT).unwrap();
    r.link.cut();
    assert!(r.child.wait().unwrap().success());
    assert!(
        start.elapsed() < Duration::from_millis(900),
        "{:?}",
        start.elapsed()
    );
}

/// Control messages for a client that does not come back are not kept without limit, and its output not beyond
/// its credit.
#[test]
fn what_is_kept_is_bounded() {
    let mut r = Run::start(&resumable("yes & echo $! >&2; wait"));
    r.until("a pid", |r| r.out[2].ends_with(b"\n"));
    let before = resident(r.child.id());
    // Nobody reads: the socket fills, then the credit, then the pipe.
    let pid = String::from_utf8_lossy(&r.out[2]).trim().to_owned();
    let written = || std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let (mut last, end) = (String::new(), Instant::now() + LIMIT);
    while last != written() {
        assert!(Instant::now() < end, "it is never full");
        last = written();
        let moment = Instant::now() + Duration::from_millis(100);
        wait(r.monitor.as_fd(), PollFlags::POLLIN, moment).unwrap_err();
    }
    let after = resident(r.child.id());
    assert!(after < before + (8 << 20), "{before} {after}");
    let kill = queue_exec::protocol::ToSession::Kill {
        by: "root@h1".into(),
        signal: 0,
    };
    client::send(r.monitor.as_fd(), &kill.encode(), None).unwrap();
    r.status();
}

/// Bytes of memory that a process has.
fn resident(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// The client's host neither sends nor answers any more, as far as this connection goes.
fn silence(front: &Front) {
    let drop_all = libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: 0,
    };
    let mut filter = [drop_all];
    let program = libc::sock_fprog {
        len: 1,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: valid pointers with their lengths.
    let done = unsafe {
        libc::setsockopt(
            front.link.socket().unwrap().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    assert_eq!(done, 0);
}

/// A host that does not answer is waited for as long as grace, and not longer.
#[test]
fn a_silent_client_is_waited_for_until_grace_is_over() {
    let grace = Duration::from_secs(3);
    let mut r = Run::start_with(&resumable("sleep 1000 & echo $!; wait"), 3);
    r.until("a pid", |r| r.out[1].ends_with(b"\n"));
    let start = Instant::now();
    silence(&r);
    let Run {
        front,
        mut child,
        monitor,
    } = r;
    assert!(child.wait().unwrap().success());
    let took = start.elapsed();
    assert!(took > grace - Duration::from_millis(500), "{took:?}");
    assert!(took < grace + Duration::from_secs(4), "{took:?}");
    drop((front, monitor));
}

/// The old connection is neither open nor closed when the new one comes.
#[test]
fn a_new_connection_replaces_a_silent_one() {
    let mut r = Run::start(&resumable("cat; exit 8"));
    r.input(b"one\n");
    r.until("one", |r| r.out[1] == b"one\n");
    let mut said = b"one\n".to_vec();
    for i in 0..20 {
        silence(&r);
        let line = format!("line {i}\n");
        said.extend_from_slice(line.as_bytes());
        // On its way there, or not: what comes back does not arrive.
        r.link.send(Channel::Stdin, line.as_bytes()).unwrap();
        let _ = r.link.flush();
        r.rejoin();
        r.until("the line", |r| r.out[1] == said);
    }
    r.link.send_eof(Channel::Stdin).unwrap();
    r.link.flush_all(LIMIT).unwrap();
    assert_eq!(r.finish().0, Some(8));
}

/// Its last word is heard, and nobody lingers, also where the client still sends in bulk.
#[test]
fn a_command_that_does_not_read_ends_at_once() {
    let mut r = Run::start(&resumable("read x; exit 11"));
    let bulk = vec![b'\n'; 1 << 20];
    let start = Instant::now();
    let mut sent = 0;
    while !matches!(r.said.last(), Some(from_session::Kind::Ended(_))) {
        sent += r.link.send(Channel::Stdin, &bulk).unwrap();
        let _ = r.link.flush();
        wait(
            r.link.socket().unwrap(),
            PollFlags::POLLIN,
            Instant::now() + LIMIT,
        )
        .unwrap();
        r.take().unwrap();
    }
    assert!(sent > 0);
    assert_eq!(r.finish().0, Some(11));
    assert!(
        start.elapsed() < Duration::from_millis(900),
        "{:?}",
        start.elapsed()
    );
}
