//! Leaving a session and coming back, taking it over, looking at it.

use crate::fake::{Front, LIMIT, Run, packet, sh, socket_of};
use libqueue::link::{LinkError, wait};
use libqueue::stream::Channel;
use libqueue::tls::KeyPair;
use libqueue::wire::{Attach, Empty, Launch, Pty, Winsize, from_session, to_session};
use nix::poll::PollFlags;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, listen, socket};
use prost::Message as _;
use queue_exec::client;
use queue_exec::protocol::{self, AttachState};
use std::num::NonZeroU16;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

fn size(rows: u32, cols: u32) -> Winsize {
    Winsize {
        rows,
        cols,
        xpixel: 0,
        ypixel: 0,
    }
}

fn terminal(script: &str) -> Launch {
    Launch {
        resume: true,
        pty: Some(Pty {
            stdin: true,
            stdout: true,
            stderr: true,
            modes: None,
            size: Some(size(24, 80)),
        }),
        ..sh(script)
    }
}

fn wish(watch: bool) -> Attach {
    Attach {
        session: vec![1; 16],
        watch,
        size: Some(size(30, 90)),
        host: "h3".into(),
        resume: true,
    }
}

fn state(r: &Run) -> AttachState {
    match packet(&r.monitor) {
        protocol::FromSession::State(s) => s,
        p => panic!("{p:?}"),
    }
}

/// What a terminal of this size shows after all of that.
fn shown(front: &Front, rows: u16, cols: u16) -> String {
    let n = |v| NonZeroU16::new(v).unwrap();
    let mut p = vt100::Parser::new(n(rows), n(cols), 0);
    p.process(&front.out[1]);
    p.screen().contents()
}

const NOBODY: AttachState = AttachState {
    detached: true,
    watchers: 0,
};
const SOMEBODY: AttachState = AttachState {
    detached: false,
    watchers: 0,
};

const ASKS: &str = "stty -echo; echo ready; while read x; do case $x in size) stty size;; end) exit 7;; *) echo \"got $x\";; esac; done";

#[test]
fn one_can_leave_and_come_back() {
    let mut r = Run::start(&terminal(ASKS));
    r.sees("ready");
    r.input(b"one\r");
    r.sees("got one");
    r.tell(to_session::Kind::Detach(Empty {}));
    assert_eq!(r.detached(), (String::new(), false));
    r.link.cut();
    assert_eq!(state(&r), NOBODY);
    // From elsewhere, in another window.
    let mut back = r.attach("alice@h3", &wish(false));
    back.sees("got one");
    let Some(from_session::Kind::Attached(a)) = back.said.first() else {
        panic!("{:?}", back.said)
    };
    assert!(
        a.pid > 1 && a.tty.starts_with("/dev/pts/") && a.stopped == 0,
        "{a:?}"
    );
    assert_eq!(
        (a.size, a.program.ends_with("sh")),
        (Some(size(30, 90)), true),
        "{a:?}"
    );
    assert_eq!(state(&r), SOMEBODY);
    back.input(b"size\r");
    back.sees("30 90");
    assert_eq!(shown(&back, 30, 90), "ready\ngot one\n30 90");
    // Its connection may break as any other.
    back.link.cut();
    back.rejoin(crate::fake::passed_on(&r.monitor)).unwrap();
    // Let go by somebody who has no connection to it, and back again.
    let detach = protocol::ToSession::Detach {
        by: "alice@h1".into(),
    };
    client::send(r.monitor.as_fd(), &detach.encode(), None).unwrap();
    assert_eq!(back.detached(), ("alice@h1".into(), false));
    assert_eq!(state(&r), NOBODY);
    r.front = r.attach("alice@h3", &wish(false));
    assert_eq!(state(&r), SOMEBODY);
    r.input(b"end\r");
    assert_eq!(r.finish().0, Some(7));
}

/// A detached session is not hung up; it ends with its command, or when somebody says so.
#[test]
fn a_detached_session_is_waited_for_by_nobody() {
    let mut r = Run::start_with(&terminal("echo ready; read x; echo never"), 1);
    r.sees("ready");
    r.tell(to_session::Kind::Detach(Empty {}));
    r.detached();
    r.link.cut();
    assert_eq!(state(&r), NOBODY);
    // Longer than any time of grace.
    let moment = Instant::now() + Duration::from_millis(2500);
    wait(r.monitor.as_fd(), PollFlags::POLLIN, moment).unwrap_err();
    let kill = protocol::ToSession::Kill {
        by: "root@h1".into(),
        signal: 0,
    };
    client::send(r.monitor.as_fd(), &kill.encode(), None).unwrap();
    assert!(matches!(packet(&r.monitor), protocol::FromSession::Ended { .. }));
    assert!(r.child.wait().unwrap().success());
}

/// One who came later and vanishes leaves it as he found it.
#[test]
fn who_attached_and_vanishes_has_detached() {
    let mut r = Run::start(&terminal(ASKS));
    r.sees("ready");
    let mut second = r.attach("alice@h3", &wish(false));
    r.detached();
    r.link.cut();
    second.input(b"two\r");
    second.sees("got two");
    second.link.cut();
    assert_eq!(state(&r), NOBODY);
    let mut third = r.attach("alice@h1", &wish(false));
    third.sees("got two");
    assert_eq!(state(&r), SOMEBODY);
    // Who wants it to end has to say so.
    third.tell(to_session::Kind::Hangup(Empty {}));
    assert_eq!(third.status().1, Some(libc::SIGHUP as u32));
    drop(third);
    assert!(r.child.wait().unwrap().success());
}

#[test]
fn one_takes_over_from_another() {
    let mut r = Run::start(&terminal(ASKS));
    r.sees("ready");
    let mut second = r.attach("bob@h3", &wish(false));
    assert_eq!(r.detached(), ("bob@h3".into(), true));
    second.sees("ready");
    // What the first one still says does not count.
    r.tell(to_session::Kind::Hangup(Empty {}));
    let _ = r.link.send(Channel::Stdin, b"end\r");
    let _ = r.link.flush();
    second.input(b"two\r");
    second.sees("got two");
    // Nor does he come back with another connection.
    let again = crate::fake::passed_on(&r.monitor);
    let back = r.front.rejoin(again);
    assert!(
        matches!(back, Ok(()) | Err(LinkError::Io(_) | LinkError::Tls(_))),
        "{back:?}"
    );
    second.input(b"three\r");
    second.sees("got three");
    second.input(b"end\r");
    assert_eq!(second.status().0, Some(7));
    drop(second);
    assert!(r.child.wait().unwrap().success());
}

/// One whose connection broke hears, when he comes back, that he was taken over from.
#[test]
fn who_was_away_hears_of_it() {
    let mut r = Run::start(&terminal(ASKS));
    r.sees("ready");
    r.link.cut();
    let mut second = r.attach("bob@h3", &wish(false));
    second.sees("ready");
    r.rejoin();
    assert_eq!(r.detached(), ("bob@h3".into(), true));
    second.input(b"end\r");
    assert_eq!(second.status().0, Some(7));
}

#[test]
fn a_stopped_command_goes_on_when_somebody_comes() {
    let mut r = Run::start(&terminal("echo ready; kill -STOP $$; echo on; read x; exit 3"));
    let stopped = |k: &from_session::Kind| matches!(k, from_session::Kind::Stopped(19));
    r.until("the stop", |r| r.said.iter().any(stopped));
    let mut watcher = r.attach("bob@h3", &wish(true));
    watcher.sees("ready");
    assert!(
        matches!(watcher.said.first(), Some(from_session::Kind::Attached(a)) if a.stopped == 19),
        "{:?}",
        watcher.said
    );
    r.tell(to_session::Kind::Detach(Empty {}));
    r.detached();
    r.front = r.attach("alice@h3", &wish(false));
    r.sees("on");
    r.input(b"\r");
    assert_eq!(watcher.status().0, Some(3));
    assert_eq!(r.finish().0, Some(3));
}

/// The command ended while nobody was connected: whoever comes gets the rest, and the status.
#[test]
fn a_status_can_be_fetched_by_another() {
    let mut r = Run::start(&terminal("echo ready; read x; echo rest; exit 6"));
    r.sees("ready");
    r.input(b"\r");
    r.link.cut();
    let mut second = r.attach("alice@h3", &wish(false));
    assert_eq!(second.status().0, Some(6));
    assert!(shown(&second, 30, 90).ends_with("rest"), "{:?}", second.text());
}

#[test]
fn without_a_terminal_one_can_only_look() {
    let mut r = Run::start(&Launch {
        resume: true,
        ..sh("echo one; read x; echo two; echo err >&2; read x; exit 4")
    });
    r.until("one", |r| r.out[1] == b"one\n");
    let mut refused = r.attach("alice@h3", &wish(false));
    refused.until("a refusal", |r| !r.said.is_empty());
    assert!(
        matches!(&refused.said[0], from_session::Kind::Failed(f) if f.text.contains("only a session with a terminal")),
        "{:?}",
        refused.said
    );
    let mut watcher = r.attach("alice@h3", &wish(true));
    watcher.until("an answer", |r| !r.said.is_empty());
    r.tell(to_session::Kind::Detach(Empty {}));
    r.until("a notice", |r| matches!(r.said.last(), Some(from_session::Kind::Notice(t)) if t.contains("nothing to come back to")));
    // He cannot do anything.
    for kind in [to_session::Kind::Signal(9), to_session::Kind::Resize(size(1, 1))] {
        watcher.tell(kind);
    }
    watcher.input(b"typed\n");
    r.input(b"\n");
    watcher.until("two", |w| w.out[1] == b"two\n" && w.out[2] == b"err\n");
    r.input(b"\n");
    assert_eq!(watcher.status().0, Some(4));
    assert_eq!(r.finish().2[1], b"one\ntwo\n");
}

#[test]
fn what_was_not_signed_for_is_refused() {
    let mut r = Run::start(&terminal(ASKS));
    r.sees("ready");
    let key = KeyPair::generate().unwrap();
    let request = wish(true).encode_to_vec();
    let other = wish(false).encode_to_vec();
    let sock = r.let_in("bob@h3", &request, &key);
    let mut liar = Front::new(sock, key, r.session(), &other, true);
    liar.until("a refusal", |r| !r.said.is_empty());
    assert!(
        matches!(&liar.said[0], from_session::Kind::Failed(f) if f.text.contains("signed")),
        "{:?}",
        liar.said
    );
    // With another key than his ticket's: nothing at all.
    let key = KeyPair::generate().unwrap();
    let sock = r.let_in("bob@h3", &request, &key);
    let other = KeyPair::generate().unwrap();
    let config = libqueue::tls::client_config(&other, libqueue::tls::Peer::Pinned(r.session())).unwrap();
    let mut j = libqueue::link::Link::client(sock.into(), config).unwrap();
    let _ = j.handshake(LIMIT, |_| {});
    let _ = j.send_control(&request);
    let _ = j.flush();
    let over = loop {
        if let Err(e) = wait(j.socket().unwrap(), PollFlags::POLLIN, Instant::now() + LIMIT)
            .and_then(|()| j.receive(|e| panic!("{e:?}")))
        {
            break e;
        }
    };
    assert!(matches!(over, LinkError::Io(_) | LinkError::Tls(_)), "{over}");
    r.input(b"end\r");
    assert_eq!(r.finish().0, Some(7));
}

/// An editor's screen is there for one who comes in the middle of it, also after what was dropped.
#[test]
fn the_screen_is_restored() {
    let draw = "printf 'shell$ vim\\r\\n\\033[?1049h\\033[?2004h\\033[?1h\\033=\\033[2;23r\\033[H\\033[7mtitle\\033[m\\033[24;1H-- INSERT --\\033[5;3Hword'";
    let mut r = Run::start(&terminal(&format!(
        "stty -echo; {draw}; read x; printf ' more\\033[r\\033[?1049lover\\r\\n'; read x; exit 2"
    )));
    r.sees("word");
    let mut watcher = r.attach("bob@h1", &wish(true));
    watcher.sees("word");
    r.tell(to_session::Kind::Detach(Empty {}));
    r.detached();
    // Who leaves has his own terminal as it was.
    let n = |v| NonZeroU16::new(v).unwrap();
    let mut left = vt100::Parser::new(n(24), n(80), 0);
    left.process(&r.out[1]);
    let s = left.screen();
    assert!(
        !s.alternate_screen() && !s.bracketed_paste() && !s.application_cursor(),
        "{s:?}"
    );
    let attach = Attach {
        size: Some(size(24, 80)),
        ..wish(false)
    };
    r.front = r.attach("alice@h3", &attach);
    r.sees("word");
    for (who, out) in [("who came", &r.out[1]), ("who looks", &watcher.out[1])] {
        let mut p = vt100::Parser::new(n(24), n(80), 0);
        p.process(b"$ queue attach\r\n");
        p.process(out);
        let s = p.screen();
        assert!(
            s.alternate_screen() && s.bracketed_paste() && s.application_cursor(),
            "{who}"
        );
        let lines: Vec<String> = s.rows(0, 80).collect();
        assert_eq!(
            (&lines[0][..], &lines[4][..], &lines[23][..]),
            ("title", "  word", "-- INSERT --"),
            "{who}"
        );
        assert!(s.cell(0, 0).unwrap().inverse(), "{who}");
        assert_eq!(s.cursor_position(), (4, 6), "{who}");
    }
    // Shown again on demand.
    let before = r.text().matches("word").count();
    r.tell(to_session::Kind::Redraw(Empty {}));
    r.until("the screen", |r| r.text().matches("word").count() > before);
    r.input(b"\r");
    r.sees("over");
    assert_eq!(shown(&r, 24, 80), "shell$ vim\nover");
    r.input(b"\r");
    assert_eq!(r.finish().0, Some(2));
    assert_eq!(watcher.status().0, Some(2));
}

/// One who looks and does not read makes nobody wait, and sees the screen as it is when he reads again.
#[test]
fn a_slow_watcher_makes_nobody_wait() {
    let lines = 600_000;
    let mut r = Run::start(&terminal(&format!(
        "stty -echo -onlcr; read x; seq {lines} | sed 's/$/\\r/'; echo done; read x; exit 1"
    )));
    let mut watcher = r.attach("bob@h1", &wish(true));
    watcher.until("an answer", |r| !r.said.is_empty());
    r.input(b"\r");
    r.sees("done");
    let wanted: String = (1..=lines).map(|n| format!("{n}\r\n")).collect::<String>() + "done\n";
    assert!(
        r.text().ends_with(&wanted),
        "the one who is attached gets everything"
    );
    let end = Instant::now() + LIMIT;
    while !shown(&watcher, 24, 80).ends_with("done") {
        wait(watcher.link.socket().unwrap(), PollFlags::POLLIN, end).unwrap();
        watcher.take().unwrap();
    }
    assert!(
        watcher.out[1].len() < wanted.len(),
        "not everything was kept for him"
    );
    assert!(shown(&watcher, 24, 80).contains(&format!("{lines}\ndone")));
    r.input(b"\r");
    assert_eq!(watcher.status().0, Some(1));
    assert_eq!(r.finish().0, Some(1));
}

/// A monitor that was restarted hears who is attached.
#[test]
fn a_new_monitor_hears_who_is_attached() {
    let mut r = Run::start(&terminal(ASKS));
    r.sees("ready");
    let mut watcher = r.attach("bob@h3", &wish(true));
    watcher.sees("ready");
    r.tell(to_session::Kind::Detach(Empty {}));
    r.detached();
    r.link.cut();
    let path = socket_of(&r.child);
    let (family, kind) = (AddressFamily::Unix, SockType::SeqPacket);
    let listener = socket(family, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    listen(&listener, Backlog::new(1).unwrap()).unwrap();
    r.monitor = std::fs::File::open("/dev/null").unwrap().into();
    wait(listener.as_fd(), PollFlags::POLLIN, Instant::now() + LIMIT).unwrap();
    let fd = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC).unwrap();
    // SAFETY: the kernel just made it for us.
    r.monitor = unsafe { OwnedFd::from_raw_fd(fd) };
    std::fs::remove_file(path).unwrap();
    let mut buf = vec![0; protocol::PACKET_MAX];
    let (n, _) = client::receive(r.monitor.as_fd(), &mut buf).unwrap();
    let (id, request) = protocol::Request::decode(&buf[..n]).unwrap();
    assert_eq!(request, protocol::Request::Adopt { nonce: [1; 16] });
    client::send(r.monitor.as_fd(), &protocol::Reply::Done.encode(id), None).unwrap();
    let watched = AttachState {
        detached: true,
        watchers: 1,
    };
    assert_eq!(state(&r), watched);
    // And passes on connections as the old one did.
    r.front = r.attach("alice@h3", &wish(false));
    r.sees("ready");
    r.input(b"end\r");
    assert_eq!(watcher.status().0, Some(7));
    assert_eq!(r.finish().0, Some(7));
}
