//! Sessions.

use super::{hosts, local};
use libqueue::wire;

/// [`wire::SessionHello`].
pub(super) fn session_hello() -> wire::SessionHello {
    wire::SessionHello {
        ticket: b"ticket".to_vec(),
        source_cert: b"source_cert".to_vec(),
        need: Some(hosts::need()),
    }
}

/// [`wire::ResumeHello`].
pub(super) fn resume_hello() -> wire::ResumeHello {
    wire::ResumeHello {
        session: b"session".to_vec(),
        challenge: b"challenge".to_vec(),
    }
}

/// [`wire::AttachHello`].
pub(super) fn attach_hello() -> wire::AttachHello {
    wire::AttachHello {
        ticket: b"ticket".to_vec(),
        source_cert: b"source_cert".to_vec(),
        session: b"session".to_vec(),
    }
}

/// [`wire::Attach`].
pub(super) fn attach() -> wire::Attach {
    wire::Attach {
        session: b"session".to_vec(),
        watch: true,
        size: Some(winsize()),
        host: "h2".into(),
        resume: true,
    }
}

/// [`wire::SessionAnswer`].
pub(super) fn session_answer() -> wire::SessionAnswer {
    wire::SessionAnswer {
        grant: b"grant".to_vec(),
        refused: "refused".into(),
        code: wire::ErrorCode::Unfit as i32,
        resume: true,
        gone: b"gone".to_vec(),
    }
}

/// [`wire::Look`].
pub(super) fn look() -> wire::Look {
    wire::Look {
        sessions: vec![b"sessions".to_vec(), Vec::new()],
        env: true,
    }
}

/// [`wire::Looked`].
pub(super) fn looked() -> wire::Looked {
    wire::Looked {
        sessions: vec![looked_session(), Default::default()],
    }
}

/// [`wire::LookedSession`].
pub(super) fn looked_session() -> wire::LookedSession {
    wire::LookedSession {
        id: b"id".to_vec(),
        pid: 604,
        argv: vec![b"argv".to_vec(), Vec::new()],
        cwd: b"/home/alice".to_vec(),
        env: vec![b"env".to_vec(), Vec::new()],
        state: "S".into(),
        tty: "/dev/pts/3".into(),
    }
}

/// [`wire::ControlAsk`].
pub(super) fn control_ask() -> wire::ControlAsk {
    wire::ControlAsk {
        ticket: b"ticket".to_vec(),
        source_cert: b"source_cert".to_vec(),
        body: b"body".to_vec(),
    }
}

/// [`wire::ControlReply`].
pub(super) fn control_reply() -> wire::ControlReply {
    wire::ControlReply {
        error: Some(local::error()),
        text: "it is full, twice".into(),
    }
}

/// [`wire::Launch`].
pub(super) fn launch() -> wire::Launch {
    wire::Launch {
        form: wire::Form::Shell as i32,
        argv: vec![b"argv".to_vec(), Vec::new()],
        env: vec![b"env".to_vec(), Vec::new()],
        cwd: b"/home/alice".to_vec(),
        umask: Some(611),
        nice: -75,
        rlimits: vec![rlimit(), Default::default()],
        ignored: 644_245_094_475,
        blocked: 652_835_029_068,
        pty: Some(pty()),
        no_stdin: true,
        leave: true,
        submit_host: "h1".into(),
        look: Some(look()),
        resume: true,
        x11: Some(x11()),
        agent: true,
    }
}

/// [`wire::X11`].
pub(super) fn x11() -> wire::X11 {
    wire::X11 {
        protocol: "MIT-MAGIC-COOKIE-1".into(),
        cookie: b"cookie".to_vec(),
        screen: 639,
    }
}

/// [`wire::Forward`].
pub(super) fn forward_kinds() -> Vec<(&'static str, wire::Forward)> {
    use wire::forward::Kind;
    vec![
        (
            "Open",
            wire::Forward {
                id: 646,
                kind: Some(Kind::Open(wire::Service::Agent as i32)),
            },
        ),
        (
            "Data",
            wire::Forward {
                id: 646,
                kind: Some(Kind::Data(b"Data".to_vec())),
            },
        ),
        (
            "Eof",
            wire::Forward {
                id: 646,
                kind: Some(Kind::Eof(wire::Empty {})),
            },
        ),
        (
            "Close",
            wire::Forward {
                id: 646,
                kind: Some(Kind::Close("a close".into())),
            },
        ),
        (
            "Credit",
            wire::Forward {
                id: 646,
                kind: Some(Kind::Credit(653)),
            },
        ),
    ]
}

/// [`wire::Rlimit`].
pub(super) fn rlimit() -> wire::Rlimit {
    wire::Rlimit {
        resource: 660,
        soft: 695_784_702_033,
        hard: 704_374_636_626,
    }
}

/// [`wire::Pty`].
pub(super) fn pty() -> wire::Pty {
    wire::Pty {
        stdin: true,
        stdout: true,
        stderr: true,
        modes: Some(termios()),
        size: Some(winsize()),
    }
}

/// [`wire::Termios`].
pub(super) fn termios() -> wire::Termios {
    wire::Termios {
        iflag: 681,
        oflag: 688,
        cflag: 695,
        lflag: 702,
        cc: b"cc".to_vec(),
    }
}

/// [`wire::Winsize`].
pub(super) fn winsize() -> wire::Winsize {
    wire::Winsize {
        rows: 709,
        cols: 716,
        xpixel: 723,
        ypixel: 730,
    }
}

/// [`wire::ToSession`].
pub(super) fn to_session_kinds() -> Vec<(&'static str, wire::ToSession)> {
    use wire::to_session::Kind;
    let kind = |k| wire::ToSession { kind: Some(k) };
    vec![
        ("Signal", kind(Kind::Signal(737))),
        ("Resize", kind(Kind::Resize(winsize()))),
        ("Continue", kind(Kind::Continue(wire::Empty {}))),
        ("Hangup", kind(Kind::Hangup(wire::Empty {}))),
        ("Detach", kind(Kind::Detach(wire::Empty {}))),
        ("Redraw", kind(Kind::Redraw(wire::Empty {}))),
        ("Forward", kind(Kind::Forward(forward_kinds().swap_remove(0).1))),
        ("Ping", kind(Kind::Ping(wire::Empty {}))),
    ]
}

/// [`wire::FromSession`].
pub(super) fn from_session_kinds() -> Vec<(&'static str, wire::FromSession)> {
    use wire::from_session::Kind;
    let kind = |k| wire::FromSession { kind: Some(k) };
    vec![
        ("Started", kind(Kind::Started(started()))),
        ("Started, grace", kind(Kind::Started(started_with_grace()))),
        ("Failed", kind(Kind::Failed(launch_failed()))),
        ("Stopped", kind(Kind::Stopped(744))),
        ("Continued", kind(Kind::Continued(wire::Empty {}))),
        ("Ended", kind(Kind::Ended(ended()))),
        ("Notice", kind(Kind::Notice("a notice".into()))),
        ("Looked", kind(Kind::Looked(looked()))),
        ("Detached", kind(Kind::Detached(detached()))),
        ("Attached", kind(Kind::Attached(attached()))),
        ("Attached, grace", kind(Kind::Attached(attached_with_grace()))),
        ("Forward", kind(Kind::Forward(forward_kinds().swap_remove(0).1))),
        ("Pong", kind(Kind::Pong(wire::Empty {}))),
    ]
}

/// [`wire::Started`].
pub(super) fn started() -> wire::Started {
    wire::Started {
        pid: 751,
        tty: "/dev/pts/3".into(),
        grace: 0,
    }
}

/// [`wire::Started`] of a host that says how long it waits.
fn started_with_grace() -> wire::Started {
    wire::Started {
        grace: 793,
        ..started()
    }
}

/// [`wire::Detached`].
pub(super) fn detached() -> wire::Detached {
    wire::Detached {
        session: "session".into(),
        by: "alice@h1".into(),
        taken: true,
    }
}

/// [`wire::Attached`].
pub(super) fn attached() -> wire::Attached {
    wire::Attached {
        pid: 758,
        tty: "/dev/pts/3".into(),
        program: "vim".into(),
        size: Some(winsize()),
        stopped: 765,
        grace: 0,
    }
}

/// [`wire::Attached`] of a host that says how long it waits.
fn attached_with_grace() -> wire::Attached {
    wire::Attached {
        grace: 800,
        ..attached()
    }
}

/// [`wire::LaunchFailed`].
pub(super) fn launch_failed() -> wire::LaunchFailed {
    wire::LaunchFailed {
        code: wire::LaunchError::Request as i32,
        errno: 772,
        text: "it is full, twice".into(),
    }
}

/// [`wire::Ended`].
pub(super) fn ended() -> wire::Ended {
    wire::Ended {
        code: Some(779),
        signal: Some(786),
        core: true,
        cpu_us: 850_403_524_707,
        maxrss_kib: 858_993_459_300,
    }
}
