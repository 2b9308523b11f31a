//! The other side of everything that `queue` talks to, in this process: a daemon that places, a monitor that
//! signs, a host that answers, and a session that plays a part named by the command's first word. It uses the
//! real protocol code, so only the decisions are faked.

use ed25519_dalek::SigningKey;
use libqueue::frame;
use libqueue::link::{Link, LinkError, wait};
use libqueue::stream::{Channel, DATA_MAX, Event, HEAD};
use libqueue::tls::{KeyPair, Peer, server_config};
use libqueue::wire::{self, FromSession, Launch, ToSession, from_session, reply, request, to_session};
use nix::poll::PollFlags;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, listen, socket};
use prost::Message as _;
use queue_exec::client;
use queue_exec::protocol::{Reply, Request};
use queue_exec::ticket::Grant;
use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// No test waits longer for anything.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// How a host answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// As it should.
    Well,
    /// With a refusal.
    Refuses,
    /// With a grant that somebody else signed.
    Impostor,
    /// Not at all: it closes the connection.
    Closes,
    /// Nothing listens there.
    Deaf,
}

/// A cluster of one daemon and some hosts.
pub(crate) struct Fake {
    pub(crate) dir: PathBuf,
    /// What the daemon was asked, in order.
    pub(crate) asked: Arc<Mutex<Vec<wire::Place>>>,
    /// What was launched, in order.
    pub(crate) launched: Arc<Mutex<Vec<Launch>>>,
}

impl Fake {
    /// Hosts are named `h0`, `h1`...; the daemon offers the first one that is not to be avoided.
    pub(crate) fn new(hosts: &[Host]) -> Self {
        static N: AtomicU32 = AtomicU32::new(0);
        let n = N.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("queue-fake-{}-{n}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let fake = Self {
            dir,
            asked: Arc::default(),
            launched: Arc::default(),
        };
        let addresses: Vec<_> = hosts.iter().map(|h| fake.host(*h)).collect();
        fake.daemon(addresses);
        fake.monitor();
        fake
    }

    /// One good host.
    pub(crate) fn one() -> Self {
        Self::new(&[Host::Well])
    }

    #[allow(dead_code, reason = "each test file uses its part")]
    /// A `queue` that talks to this cluster.
    pub(crate) fn queue(&self, args: &[&str]) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_queue"));
        c.args(args).env("QUEUE_SOCKET", self.dir.join("queued.sock"));
        c
    }

    pub(crate) fn last_launch(&self) -> Launch {
        self.launched.lock().unwrap().last().unwrap().clone()
    }

    fn daemon(&self, addresses: Vec<String>) {
        let listener = UnixListener::bind(self.dir.join("queued.sock")).unwrap();
        let asked = self.asked.clone();
        std::thread::spawn(move || {
            for mut conn in listener.incoming().flatten() {
                let (asked, addresses) = (asked.clone(), addresses.clone());
                std::thread::spawn(move || serve(&mut conn, &asked, &addresses));
            }
        });
    }

    fn monitor(&self) {
        let fd = socket(
            AddressFamily::Unix,
            SockType::SeqPacket,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .unwrap();
        bind(
            fd.as_raw_fd(),
            &UnixAddr::new(&self.dir.join("exec.sock")).unwrap(),
        )
        .unwrap();
        listen(&fd, Backlog::new(64).unwrap()).unwrap();
        std::thread::spawn(move || {
            while let Ok(conn) = accept4(fd.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
                // SAFETY: `accept4` just made it.
                let conn = unsafe { OwnedFd::from_raw_fd(conn) };
                let mut buf = vec![0; 65536];
                let Ok((n, _)) = client::receive(conn.as_fd(), &mut buf) else {
                    continue;
                };
                let Ok((
                    id,
                    Request::Sign {
                        login,
                        nonce,
                        request,
                        client_key,
                        ..
                    },
                )) = Request::decode(&buf[..n])
                else {
                    continue;
                };
                let answer = if login == "forbidden" {
                    let code = queue_exec::protocol::Refusal::Policy;
                    Reply::Refused {
                        code,
                        text: "you may not be forbidden".into(),
                    }
                } else {
                    Reply::Signed {
                        ticket: [&nonce[..], &request, &client_key].concat(),
                        source_cert: b"source".to_vec(),
                        target_key: host_key().verifying_key().to_bytes(),
                    }
                };
                let _ = client::send(conn.as_fd(), &answer.encode(id), None);
            }
        });
    }

    fn host(&self, how: Host) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        if how == Host::Deaf {
            return address;
        }
        let launched = self.launched.clone();
        std::thread::spawn(move || {
            for conn in listener.incoming().flatten() {
                let launched = launched.clone();
                std::thread::spawn(move || session(conn, how, &launched));
            }
        });
        address
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn host_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn serve(conn: &mut UnixStream, asked: &Mutex<Vec<wire::Place>>, addresses: &[String]) {
    while let Ok(wire::Request {
        kind: Some(request::Kind::Place(place)),
    }) = frame::read(conn)
    {
        asked.lock().unwrap().push(place.clone());
        let named = place.host.strip_prefix('h').and_then(|n| n.parse::<usize>().ok());
        let free = |n: &usize| !place.avoid.contains(&format!("h{n}"));
        let first = || (0..addresses.len()).find(free);
        let n = match (place.host.as_str(), named) {
            ("" | "+", _) => first(),
            (_, Some(n)) if n < addresses.len() && free(&n) => Some(n),
            _ if place.prefer => first(),
            _ => None,
        };
        let kind = n.map_or_else(
            || {
                reply::Kind::Error(wire::Error {
                    code: wire::ErrorCode::NoHost as i32,
                    text: "no host\x1b[2J is willing".into(),
                })
            },
            |n| {
                reply::Kind::Placed(wire::Placed {
                    host: format!("h{n}"),
                    address: addresses[n].clone(),
                    cert: vec![1],
                    local: false,
                })
            },
        );
        let _ = conn.write_all(&frame::encode(&wire::Reply { kind: Some(kind) }));
    }
}

fn session(mut conn: TcpStream, how: Host, launched: &Mutex<Vec<Launch>>) {
    if how == Host::Closes {
        return;
    }
    conn.set_nodelay(true).unwrap();
    let mut head = [0; wire::PREAMBLE_LEN];
    conn.read_exact(&mut head).unwrap();
    let (kind, len) = wire::parse_preamble(&head).unwrap();
    assert_eq!(kind, wire::KIND_SESSION);
    let mut body = vec![0; len];
    conn.read_exact(&mut body).unwrap();
    let hello = wire::SessionHello::decode(&body[..]).unwrap();
    assert_eq!(hello.source_cert, b"source");
    let nonce: [u8; 16] = hello.ticket[..16].try_into().unwrap();
    let hash: [u8; 32] = hello.ticket[16..48].try_into().unwrap();
    let client_key: [u8; 32] = hello.ticket[48..].try_into().unwrap();

    let key = KeyPair::generate().unwrap();
    let signer = if how == Host::Impostor {
        SigningKey::from_bytes(&[8; 32])
    } else {
        host_key()
    };
    let mut answer = wire::SessionAnswer::default();
    if how == Host::Refuses {
        answer.refused = "not\x1b today".into();
    } else {
        answer.grant = Grant {
            nonce,
            session_key: key.public(),
        }
        .sign(&signer);
    }
    let bytes = answer.encode_to_vec();
    conn.write_all(&(bytes.len() as u16).to_be_bytes()).unwrap();
    conn.write_all(&bytes).unwrap();
    if how != Host::Well {
        // Until the other end has seen it.
        let _ = conn.read(&mut [0; 4096]);
        return;
    }
    let config = server_config(&key, Peer::Pinned(client_key)).unwrap();
    let mut s = Session {
        link: Link::server(conn.into(), config).unwrap(),
        events: VecDeque::new(),
    };
    let events = &mut s.events;
    if s.link
        .handshake(LIMIT, |e| events.push_back(Seen::of(&e)))
        .is_err()
    {
        return;
    }
    s.link.flush_all(LIMIT).unwrap();
    let Some(Seen::Control(first)) = s.next() else {
        return;
    };
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &first);
    assert_eq!(digest.as_ref(), hash, "the request is the one that was signed");
    let launch = Launch::decode(&first[..]).unwrap();
    launched.lock().unwrap().push(launch.clone());
    s.tell(from_session::Kind::Started(wire::Started {
        pid: 1,
        tty: String::new(),
    }));
    s.play(&launch);
    let _ = s.link.flush_all(LIMIT);
    // The other end closes first.
    while s.next().is_some() {}
}

/// An [`Event`] that owns its bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Data(Vec<u8>),
    Eof,
    Closed(Channel),
    Control(Vec<u8>),
}

impl Seen {
    fn of(e: &Event<'_>) -> Self {
        match e {
            Event::Data(_, d) => Self::Data(d.to_vec()),
            Event::Eof(_) => Self::Eof,
            Event::Closed(c) => Self::Closed(*c),
            Event::Control(m) => Self::Control(m.to_vec()),
        }
    }
}

struct Session {
    link: Link,
    events: VecDeque<Seen>,
}

impl Session {
    fn pump(&mut self, flags: PollFlags) -> Result<(), LinkError> {
        wait(self.link.socket(), flags, Instant::now() + LIMIT)?;
        let events = &mut self.events;
        self.link.receive(|e| events.push_back(Seen::of(&e)))?;
        self.link.flush()?;
        Ok(())
    }

    /// The next thing that comes; `None` when the other end is gone.
    fn next(&mut self) -> Option<Seen> {
        while self.events.is_empty() {
            self.pump(PollFlags::POLLIN).ok()?;
        }
        let e = self.events.pop_front();
        if let Some(Seen::Data(d)) = &e {
            self.link.consumed(Channel::Stdin, d.len()).ok()?;
            self.link.flush().ok()?;
        }
        e
    }

    fn next_control(&mut self) -> Option<to_session::Kind> {
        loop {
            if let Seen::Control(m) = self.next()? {
                return ToSession::decode(&m[..]).unwrap().kind;
            }
        }
    }

    fn tell(&mut self, kind: from_session::Kind) {
        let m = FromSession { kind: Some(kind) }.encode_to_vec();
        let _ = self.link.send_control(&m);
        let _ = self.link.flush();
    }

    /// Writes to a channel; `false` once the other end closed it or has gone.
    fn write(&mut self, c: Channel, mut data: &[u8]) -> bool {
        let mut buf = vec![0; HEAD + DATA_MAX];
        while !data.is_empty() {
            if self.link.stream().is_closed(c) {
                return false;
            }
            let n = self.link.room(c).min(data.len());
            if n == 0 {
                let out = if self.link.backlog() > 0 {
                    PollFlags::POLLOUT
                } else {
                    PollFlags::empty()
                };
                if self.pump(PollFlags::POLLIN | out).is_err() {
                    return false;
                }
                continue;
            }
            buf[HEAD..HEAD + n].copy_from_slice(&data[..n]);
            self.link.send_data(c, &mut buf, n).unwrap();
            data = &data[n..];
            if self.link.flush().is_err() {
                return false;
            }
        }
        true
    }

    fn end(&mut self, code: u32) {
        self.tell(from_session::Kind::Ended(wire::Ended {
            code: Some(code),
            ..Default::default()
        }));
    }

    fn die(&mut self, signal: u32) {
        self.tell(from_session::Kind::Ended(wire::Ended {
            signal: Some(signal),
            ..Default::default()
        }));
    }

    fn play(&mut self, launch: &Launch) {
        let words: Vec<String> = launch
            .argv
            .iter()
            .map(|a| String::from_utf8_lossy(a).into_owned())
            .collect();
        let words: Vec<&str> = words.iter().flat_map(|w| w.split(' ')).collect();
        let number = |n: usize| words.get(n).and_then(|w| w.parse().ok()).unwrap_or(0u32);
        match words.first().copied().unwrap_or("true") {
            "exit" => self.end(number(1)),
            "die" => self.die(number(1)),
            "echo" => {
                self.write(Channel::Stdout, format!("{}\n", words[1..].join(" ")).as_bytes());
                self.end(0);
            }
            "both" => {
                self.write(Channel::Stdout, b"out\n");
                self.write(Channel::Stderr, b"err\n");
                self.end(0);
            }
            "cat" => {
                while let Some(e) = self.next() {
                    match e {
                        Seen::Data(d) if !self.write(Channel::Stdout, &d) => return self.die(13),
                        Seen::Eof => break,
                        _ => {}
                    }
                }
                self.end(0);
            }
            "zeros" => {
                let block = vec![0; 100_000];
                for _ in 0..number(1) {
                    if !self.write(Channel::Stdout, &block) {
                        return self.die(13);
                    }
                }
                self.end(0);
            }
            "yes" => {
                while self.write(Channel::Stdout, b"y\ny\ny\ny\ny\ny\ny\n") {}
                self.die(13);
            }
            // Says each message it gets; ends by TERM's number, or as told by a hangup.
            "controls" => {
                self.write(Channel::Stdout, b"ready\n");
                while let Some(kind) = self.next_control() {
                    let text = match &kind {
                        to_session::Kind::Signal(n) => format!("signal {n}\n"),
                        to_session::Kind::Resize(w) => format!("size {}x{}\n", w.cols, w.rows),
                        to_session::Kind::Continue(_) => "continue\n".to_owned(),
                        to_session::Kind::Hangup(_) => "hangup\n".to_owned(),
                    };
                    self.write(Channel::Stdout, text.as_bytes());
                    match kind {
                        to_session::Kind::Signal(15) => return self.die(15),
                        to_session::Kind::Hangup(_) => return self.die(1),
                        to_session::Kind::Signal(n @ (20..=22)) => {
                            self.tell(from_session::Kind::Stopped(n));
                        }
                        _ => {}
                    }
                }
            }
            // A terminal program: keys come back in brackets; `z` stops it, `q` ends it.
            "keys" => {
                self.write(Channel::Stdout, b"ready\r\n");
                while let Some(e) = self.next() {
                    match e {
                        Seen::Data(d) if d.contains(&b'q') => break,
                        Seen::Data(d) if d.contains(&b'z') => self.tell(from_session::Kind::Stopped(20)),
                        Seen::Data(d) => {
                            let text = format!("[{}]", String::from_utf8_lossy(&d).escape_default());
                            self.write(Channel::Stdout, text.as_bytes());
                        }
                        Seen::Control(m) => {
                            let kind = ToSession::decode(&m[..]).unwrap().kind;
                            let text = format!(
                                "<{}>",
                                match kind {
                                    Some(to_session::Kind::Continue(_)) => "continue".to_owned(),
                                    Some(to_session::Kind::Resize(w)) => format!("{}x{}", w.cols, w.rows),
                                    other => format!("{other:?}"),
                                }
                            );
                            self.write(Channel::Stdout, text.as_bytes());
                        }
                        _ => {}
                    }
                }
                self.end(0);
            }
            // It was stopped from outside, and goes on when told.
            "stopped" => {
                self.tell(from_session::Kind::Stopped(number(1)));
                while let Some(kind) = self.next_control() {
                    if matches!(kind, to_session::Kind::Continue(_)) {
                        break;
                    }
                }
                self.write(Channel::Stdout, b"continued\n");
                self.end(7);
            }
            "closes-stdin" => {
                let _ = self.link.send_close(Channel::Stdin);
                let _ = self.link.flush();
                while !matches!(self.next_control(), None | Some(to_session::Kind::Signal(_))) {}
                self.end(0);
            }
            "no-such-program" => self.tell(from_session::Kind::Failed(wire::LaunchFailed {
                code: wire::LaunchError::NotFound as i32,
                errno: 2,
                text: "no-such-program: not found\x1b[0m".into(),
            })),
            "not-executable" => self.tell(from_session::Kind::Failed(wire::LaunchFailed {
                code: wire::LaunchError::NotExecutable as i32,
                errno: 13,
                text: "not-executable: permission denied".into(),
            })),
            "no-directory" => self.tell(from_session::Kind::Failed(wire::LaunchFailed {
                code: wire::LaunchError::Directory as i32,
                errno: 2,
                text: "/gone: no such directory".into(),
            })),
            "vanish" => {
                let _ = nix::sys::socket::shutdown(
                    self.link.socket().as_raw_fd(),
                    nix::sys::socket::Shutdown::Both,
                );
            }
            "notice" => {
                self.tell(from_session::Kind::Notice("hello\x1b\nthere".into()));
                self.end(0);
            }
            _ => self.end(0),
        }
    }
}
