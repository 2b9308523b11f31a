//! A session with the test in the place of monitor and client.

use libqueue::link::join::{Joining, Resume, Step};
use libqueue::link::{Link, LinkError, wait};
use libqueue::stream::{Channel, Event};
use libqueue::tls::{KeyPair, Peer, client_config};
use libqueue::wire::{Attach, Form, FromSession, Launch, SessionAnswer, ToSession, from_session, to_session};
use nix::poll::PollFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use prost::Message as _;
use queue_exec::{client, protocol};
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn session_binary() -> &'static str {
    env!("CARGO_BIN_EXE_queue-session")
}

/// One at the other end.
pub(crate) struct Front {
    pub(crate) link: Link,
    key: KeyPair,
    session_key: [u8; 32],
    /// Of the last connection.
    pub(crate) number: u64,
    pub(crate) out: [Vec<u8>; 3],
    pub(crate) ended: [bool; 3],
    pub(crate) said: Vec<from_session::Kind>,
}

/// A session, and the one who started it.
pub(crate) struct Run {
    pub(crate) front: Front,
    pub(crate) monitor: OwnedFd,
    pub(crate) child: Child,
}

impl Deref for Run {
    type Target = Front;
    fn deref(&self) -> &Front {
        &self.front
    }
}

impl DerefMut for Run {
    fn deref_mut(&mut self) -> &mut Front {
        &mut self.front
    }
}

pub(crate) fn own_name() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid())
        .unwrap()
        .unwrap()
        .name
}

pub(crate) fn packet(monitor: &OwnedFd) -> protocol::FromSession {
    let mut buf = vec![0; protocol::PACKET_MAX];
    wait(monitor.as_fd(), PollFlags::POLLIN, Instant::now() + LIMIT).unwrap();
    let (n, _) = client::receive(monitor.as_fd(), &mut buf).unwrap();
    protocol::FromSession::decode(&buf[..n]).unwrap()
}

/// The client's end and the session's.
pub(crate) fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let front = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    front.set_nodelay(true).unwrap();
    let back = listener.accept().unwrap().0;
    // As queued, which goes on listening: as long as nobody does, nobody is given up.
    std::mem::forget(listener);
    (front, back)
}

/// Passes a further connection to a session, as the monitor does; gives the client's end.
pub(crate) fn passed_on(monitor: &OwnedFd) -> TcpStream {
    let (front, back) = connection();
    client::send(
        monitor.as_fd(),
        &protocol::ToSession::Connection.encode(),
        Some(back.as_fd()),
    )
    .unwrap();
    front
}

pub(crate) fn hash(bytes: &[u8]) -> [u8; 32] {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes)
        .as_ref()
        .try_into()
        .unwrap()
}

/// Starts a session for a login; gives what the client has before TLS.
pub(crate) fn claim(
    login: &str,
    launch: &[u8],
    grace: u32,
) -> (OwnedFd, Child, TcpStream, KeyPair, [u8; 32]) {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .unwrap();
    let fd = theirs.as_raw_fd();
    let mut command = Command::new(session_binary());
    command.env_clear();
    // SAFETY: dup2 is async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            nix::errno::Errno::result(libc::dup2(fd, 3))?;
            Ok(())
        });
    }
    let child = command.spawn().unwrap();
    drop(theirs);
    let protocol::FromSession::Ready { session_key } = packet(&ours) else {
        panic!("not ready")
    };
    let (front, back) = connection();
    let key = KeyPair::generate().unwrap();
    let claim = protocol::ToSession::Claim {
        nonce: [1; 16],
        login: login.to_owned(),
        ruser: own_name(),
        rhost: "h1".into(),
        host: "h2".into(),
        request: hash(launch),
        client_key: key.public(),
        grant: b"the grant".to_vec(),
        pam: false,
        grace,
        cgroup: false,
        uid_min: 0,
        allow_root: true,
        socket: socket_of(&child).to_str().unwrap().to_owned(),
    };
    client::send(ours.as_fd(), &claim.encode(), Some(back.as_fd())).unwrap();
    (ours, child, front, key, session_key)
}

/// Where a session looks for a new monitor.
pub(crate) fn socket_of(session: &Child) -> PathBuf {
    std::env::temp_dir().join(format!("queue-session-test-{}.sock", session.id()))
}

pub(crate) fn answer(front: &mut TcpStream) -> SessionAnswer {
    front.set_read_timeout(Some(LIMIT)).unwrap();
    let mut head = [0; 2];
    front.read_exact(&mut head).unwrap();
    let mut body = vec![0; usize::from(u16::from_be_bytes(head))];
    front.read_exact(&mut body).unwrap();
    SessionAnswer::decode(&body[..]).unwrap()
}

impl Run {
    pub(crate) fn start(launch: &Launch) -> Self {
        Self::start_with(launch, 60)
    }

    /// With so many seconds of grace.
    pub(crate) fn start_with(launch: &Launch, grace: u32) -> Self {
        let bytes = launch.encode_to_vec();
        let (monitor, child, mut front, key, session_key) = claim(&own_name(), &bytes, grace);
        let answer = answer(&mut front);
        assert_eq!(answer.grant, b"the grant");
        assert!(answer.resume);
        assert_eq!(packet(&monitor), protocol::FromSession::Running);
        let front = Front::new(front, key, session_key, &bytes, launch.resume);
        Self {
            front,
            monitor,
            child,
        }
    }

    /// A new connection for the client, which goes on.
    pub(crate) fn rejoin(&mut self) {
        let sock = passed_on(&self.monitor);
        self.front.rejoin(sock).expect("taken back");
    }

    /// Somebody else's client, whom the monitor lets in.
    pub(crate) fn attach(&self, by: &str, attach: &Attach) -> Front {
        let (key, bytes) = (KeyPair::generate().unwrap(), attach.encode_to_vec());
        let sock = self.let_in(by, &bytes, &key);
        Front::new(sock, key, self.front.session_key, &bytes, attach.resume)
    }

    /// His connection, answered; he may send this request.
    pub(crate) fn let_in(&self, by: &str, request: &[u8], key: &KeyPair) -> TcpStream {
        let (mut sock, back) = connection();
        let attach = protocol::ToSession::Attach {
            by: by.into(),
            request: hash(request),
            client_key: key.public(),
            grant: b"another grant".to_vec(),
        };
        client::send(self.monitor.as_fd(), &attach.encode(), Some(back.as_fd())).unwrap();
        let answer = answer(&mut sock);
        assert_eq!(
            (answer.grant.as_slice(), answer.resume),
            (&b"another grant"[..], true)
        );
        sock
    }

    /// Waits for the status; gives it with the output.
    pub(crate) fn finish(mut self) -> (Option<u32>, Option<u32>, [Vec<u8>; 3]) {
        let status = self.front.status();
        self.front.link.send_goodbye().unwrap();
        self.front.link.flush_all(LIMIT).unwrap();
        let out = std::mem::take(&mut self.front.out);
        drop(self.front);
        loop {
            match packet(&self.monitor) {
                protocol::FromSession::State(_) => {}
                protocol::FromSession::Ended { .. } => break,
                p => panic!("{p:?}"),
            }
        }
        assert!(self.child.wait().unwrap().success());
        (status.0, status.1, out)
    }
}

impl Front {
    /// Over a connection that was answered, with a first message.
    pub(crate) fn new(
        sock: TcpStream,
        key: KeyPair,
        session_key: [u8; 32],
        first: &[u8],
        resume: bool,
    ) -> Self {
        let config = client_config(&key, Peer::Pinned(session_key)).unwrap();
        let mut link = Link::client(sock.into(), config).unwrap();
        if resume {
            link.make_resumable();
        }
        link.handshake(LIMIT, |e| panic!("{e:?}")).unwrap();
        link.send_control(first).unwrap();
        link.flush_all(LIMIT).unwrap();
        Self {
            link,
            key,
            session_key,
            number: 0,
            out: Default::default(),
            ended: [false; 3],
            said: Vec::new(),
        }
    }

    /// The session's key.
    pub(crate) fn session(&self) -> [u8; 32] {
        self.session_key
    }

    /// A connection on its way with this client's key.
    pub(crate) fn joining(&self, sock: TcpStream) -> Joining {
        let config = client_config(&self.key, Peer::Pinned(self.session_key)).unwrap();
        Joining::client(sock.into(), config, &[]).unwrap()
    }

    /// Goes on over this connection.
    pub(crate) fn rejoin(&mut self, sock: TcpStream) -> Result<(), LinkError> {
        let mut j = self.joining(sock);
        self.number += 1;
        let end = Instant::now() + LIMIT;
        loop {
            match j.step()? {
                Step::Secure => {
                    self.link.cut();
                    j.tell(Resume {
                        number: self.number,
                        received: self.link.stream().received(),
                    })?;
                }
                Step::Heard(peer) => {
                    assert_eq!(peer.number, self.number);
                    self.link.resume(j.joined(peer))?;
                    self.take()?;
                    return Ok(());
                }
                Step::Refused(a) => panic!("{a:?}"),
                Step::Again => {
                    let write = if j.wants_write() {
                        PollFlags::POLLOUT
                    } else {
                        PollFlags::empty()
                    };
                    wait(j.socket(), write | PollFlags::POLLIN, end)?;
                }
            }
        }
    }

    /// Takes what is there.
    pub(crate) fn take(&mut self) -> Result<bool, LinkError> {
        let (out, ended, said) = (&mut self.out, &mut self.ended, &mut self.said);
        let mut got = [0; 3];
        let some = self.link.receive(|e| match e {
            Event::Data(c, d) => {
                assert!(!ended[c as usize], "data after the end of {c:?}");
                out[c as usize].extend_from_slice(d);
                got[c as usize] += d.len();
            }
            Event::Eof(c) => ended[c as usize] = true,
            Event::Closed(_) => {}
            Event::Control(m) => said.extend(FromSession::decode(m).unwrap().kind),
        })?;
        for c in Channel::ALL {
            self.link.consumed(c, got[c as usize])?;
        }
        self.link.flush()?;
        Ok(some)
    }

    pub(crate) fn tell(&mut self, kind: to_session::Kind) {
        self.link
            .send_control(&ToSession { kind: Some(kind) }.encode_to_vec())
            .unwrap();
        self.link.flush_all(LIMIT).unwrap();
    }

    pub(crate) fn input(&mut self, bytes: &[u8]) {
        assert_eq!(self.link.send(Channel::Stdin, bytes).unwrap(), bytes.len());
        self.link.flush_all(LIMIT).unwrap();
    }

    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + LIMIT;
        while !done(self) {
            let events = if self.link.backlog() > 0 {
                PollFlags::POLLIN | PollFlags::POLLOUT
            } else {
                PollFlags::POLLIN
            };
            wait(self.link.socket().unwrap(), events, end).unwrap_or_else(|e| panic!("{what}: {e}"));
            self.take()
                .unwrap_or_else(|e| panic!("{what}: {e}; so far {:?}", self.said));
        }
    }

    /// Everything that was printed so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out[1]).into_owned()
    }

    /// Waits until this was printed.
    pub(crate) fn sees(&mut self, text: &str) {
        self.until(text, |r| r.text().contains(text));
    }

    /// Waits until it is let go; says by whom, and whether he took over.
    pub(crate) fn detached(&mut self) -> (String, bool) {
        self.until("the end of the attachment", |r| {
            matches!(r.said.last(), Some(from_session::Kind::Detached(_)))
        });
        match self.said.last() {
            Some(from_session::Kind::Detached(d)) => {
                assert_eq!(d.session, "s01010101");
                (d.by.clone(), d.taken)
            }
            k => panic!("{k:?}"),
        }
    }

    /// Waits for the status: code and signal.
    pub(crate) fn status(&mut self) -> (Option<u32>, Option<u32>) {
        self.until("the end", |r| {
            matches!(
                r.said.last(),
                Some(from_session::Kind::Ended(_) | from_session::Kind::Failed(_))
            )
        });
        match self.said.last() {
            Some(from_session::Kind::Ended(e)) => (e.code, e.signal),
            _ => panic!("{:?}", self.said),
        }
    }
}

pub(crate) fn sh(script: &str) -> Launch {
    Launch {
        form: Form::Shell as i32,
        argv: vec![b"-c".to_vec(), script.as_bytes().to_vec()],
        env: vec![b"PATH=/usr/bin:/bin".to_vec(), b"TERM=vt100".to_vec()],
        cwd: b"/tmp".to_vec(),
        umask: Some(0o27),
        ..Launch::default()
    }
}

pub(crate) fn gone(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |s| {
        s.rsplit_once(") ").is_some_and(|(_, r)| r.starts_with('Z'))
    })
}
