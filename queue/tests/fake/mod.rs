//! The other side of everything that `queue` talks to, in this process: a daemon that places, a monitor that
//! signs, a host that answers, and a session that plays a part named by the command's first word. It uses the
//! real protocol code, so only the decisions are faked.

mod again;
mod batch;

#[allow(unused_imports, reason = "each test file uses its part")]
pub(crate) use again::Again;
#[allow(unused_imports, reason = "each test file uses its part")]
pub(crate) use batch::{Jobs, Step};

use ed25519_dalek::SigningKey;
use libqueue::frame;
use libqueue::link::{Link, LinkError, wait};
use libqueue::stream::{Channel, Event};
use libqueue::tls::{KeyPair, Peer, server_config};
use libqueue::wire::{self, FromSession, Launch, ToSession, from_session, reply, request, to_session};
use nix::poll::PollFlags;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, listen, socket};
use prost::Message as _;
use queue_exec::cert::{HostCert, Vouch};
use queue_exec::client;
use queue_exec::protocol::{Control, JobReply, JobRequest, Reply, Request};
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
    /// As it should, and its sessions outlive their connections.
    Resumes,
    /// Not at all: it closes the connection.
    Closes,
    /// Nothing listens there.
    Deaf,
    /// With a refusal: it has no room.
    Full,
    /// The first time as `Full`, then as it should.
    FullOnce,
}

/// A cluster of one daemon and some hosts.
#[allow(dead_code, reason = "each test file uses its part")]
pub(crate) struct Fake {
    pub(crate) dir: PathBuf,
    /// What the daemon was asked, in order.
    pub(crate) asked: Arc<Mutex<Vec<wire::Place>>>,
    /// What was launched, in order.
    pub(crate) launched: Arc<Mutex<Vec<Launch>>>,
    /// What the sessions of `launched` were said to need, in order.
    pub(crate) needed: Arc<Mutex<Vec<Option<wire::Need>>>>,
    /// The sessions that the daemon tells of.
    pub(crate) sessions: Arc<Mutex<wire::Sessions>>,
    /// What the hosts themselves were asked for, in order, each with the host's number.
    pub(crate) controls: Arc<Mutex<Vec<(usize, Control)>>>,
    /// What hosts do with connections that are to take a broken one's place.
    pub(crate) again: Arc<Mutex<VecDeque<Again>>>,
    /// What concerns batch jobs.
    pub(crate) jobs: Arc<Mutex<Jobs>>,
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
            needed: Arc::default(),
            sessions: Arc::default(),
            controls: Arc::default(),
            again: Arc::default(),
            jobs: Arc::default(),
        };
        let places = hosts.iter().enumerate().map(|(n, h)| fake.host(n, *h)).collect();
        fake.daemon(places);
        fake.monitor();
        fake
    }

    /// One good host.
    #[allow(dead_code, reason = "each test file uses its part")]
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

    #[allow(dead_code, reason = "each test file uses its part")]
    pub(crate) fn last_launch(&self) -> Launch {
        self.launched.lock().unwrap().last().unwrap().clone()
    }

    fn daemon(&self, places: Vec<wire::Placed>) {
        let listener = UnixListener::bind(self.dir.join("queued.sock")).unwrap();
        let daemon = Arc::new(Daemon {
            places,
            asked: self.asked.clone(),
            sessions: self.sessions.clone(),
            jobs: self.jobs.clone(),
        });
        std::thread::spawn(move || {
            for mut conn in listener.incoming().flatten() {
                let daemon = daemon.clone();
                std::thread::spawn(move || daemon.serve(&mut conn));
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
                std::thread::spawn(move || {
                    let mut buf = vec![0; 65536];
                    while let Ok((n @ 1.., _)) = client::receive(conn.as_fd(), &mut buf) {
                        let Ok((id, request)) = Request::decode(&buf[..n]) else {
                            return;
                        };
                        let answer = sign(request);
                        let _ = client::send(conn.as_fd(), &answer.encode(id), None);
                    }
                });
            }
        });
    }

    fn host(&self, n: usize, how: Host) -> wire::Placed {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tls = KeyPair::generate().unwrap();
        let cert = HostCert {
            cluster: [1; 32],
            serial: n as u64,
            name: format!("h{n}"),
            host_key: host_key().verifying_key().to_bytes(),
            tls_key: tls.public(),
            vouch: Vouch::Users,
            issued: 0,
            expires: u64::MAX,
        };
        let placed = wire::Placed {
            host: format!("h{n}"),
            address: listener.local_addr().unwrap().to_string(),
            cert: cert.sign(&host_key()),
            local: false,
        };
        if how == Host::Deaf {
            return placed;
        }
        let launched = self.launched.clone();
        let needed = self.needed.clone();
        let controls = self.controls.clone();
        let jobs = self.jobs.clone();
        let again = self.again.clone();
        std::thread::spawn(move || {
            let mut how = how;
            for conn in listener.incoming().flatten() {
                let now = if how == Host::FullOnce { Host::Full } else { how };
                if how == Host::FullOnce {
                    how = Host::Well;
                }
                let (launched, needed) = (launched.clone(), needed.clone());
                let (controls, tls, jobs) = (controls.clone(), tls.clone(), jobs.clone());
                let again = again.clone();
                std::thread::spawn(move || match preamble(conn) {
                    (conn, wire::KIND_CONTROL, _) => control(conn, n, &tls, &controls),
                    (conn, wire::KIND_RESUME, body) => again::resume(conn, &body, &again),
                    (conn, wire::KIND_ATTACH, body) => again::attach(conn, &body),
                    (conn, wire::job::KIND_JOBS, _) => batch::answer(conn, &tls, &jobs),
                    (conn, kind, body) => {
                        assert_eq!(kind, wire::KIND_SESSION);
                        session(conn, &body, now, &launched, &needed);
                    }
                });
            }
        });
        placed
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The answer of the monitor.
fn sign(request: Request) -> Reply {
    let refused = || Reply::Refused {
        code: queue_exec::protocol::Refusal::Policy,
        text: "you may not be forbidden".into(),
    };
    match request {
        Request::Sign { login, .. } if login == "forbidden" => refused(),
        Request::Sign {
            nonce,
            request,
            client_key,
            ..
        } => Reply::Signed {
            ticket: [&nonce[..], &request, &client_key].concat(),
            source_cert: b"source".to_vec(),
            target_key: host_key().verifying_key().to_bytes(),
        },
        Request::Job(JobRequest::Warrant { login, .. }) if login == "forbidden" => refused(),
        Request::Job(JobRequest::Warrant { login, run }) => Reply::Job(JobReply::Warrant {
            warrant: [&run[..], login.as_bytes()].concat(),
            source_cert: b"source".to_vec(),
        }),
        other => panic!("{other:?}"),
    }
}

fn host_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

struct Daemon {
    places: Vec<wire::Placed>,
    asked: Arc<Mutex<Vec<wire::Place>>>,
    sessions: Arc<Mutex<wire::Sessions>>,
    jobs: Arc<Mutex<Jobs>>,
}

impl Daemon {
    fn serve(&self, conn: &mut UnixStream) {
        while let Ok(wire::Request { kind: Some(kind) }) = frame::read(conn) {
            let mut say = |kind| {
                let _ = conn.write_all(&frame::encode(&wire::Reply { kind: Some(kind) }));
            };
            match kind {
                request::Kind::Place(place) => {
                    self.asked.lock().unwrap().push(place.clone());
                    if place.wait {
                        for ahead in [2, 0] {
                            say(reply::Kind::Waiting(wire::Waiting {
                                reason: "all hosts are\x1b full".into(),
                                ahead,
                            }));
                        }
                    }
                    // So many there are never.
                    if place.need.as_ref().is_none_or(|n| n.cores < 1000) {
                        say(self.place(&place));
                    }
                }
                request::Kind::Sessions(_) => {
                    say(reply::Kind::Sessions(self.sessions.lock().unwrap().clone()));
                }
                request::Kind::Status(_) => say(reply::Kind::Status(wire::Status {
                    host: "here".into(),
                    ..wire::Status::default()
                })),
                request::Kind::Submit(s) => say(batch::submit(&self.jobs, s)),
                request::Kind::Leader(_) => say(reply::Kind::Placed(self.places[0].clone())),
                request::Kind::Hosts(_) => say(reply::Kind::Hosts(self.hosts())),
                request::Kind::Explain(place) => say(reply::Kind::Explained(wire::Explained {
                    formula: "score = 1".into(),
                    hosts: vec![wire::Judged {
                        host: "h0".into(),
                        score: 1.0,
                        chance: 1.0,
                        ..wire::Judged::default()
                    }],
                    verdict: format!("{} cores on h0", place.need.unwrap_or_default().cores),
                })),
                _ => return,
            }
        }
    }

    fn hosts(&self) -> wire::Hosts {
        let host = |p: &wire::Placed| wire::HostInfo {
            name: p.host.clone(),
            address: p.address.clone(),
            state: wire::HostState::Up as i32,
            load: Some(wire::Load {
                cores: 2,
                ..wire::Load::default()
            }),
            facts: Some(wire::Facts {
                version: 1,
                cores: 2,
                resources: [("raid".to_owned(), format!("{}G", p.host.len()))].into(),
                ..wire::Facts::default()
            }),
            ..wire::HostInfo::default()
        };
        wire::Hosts {
            cluster: "fake".into(),
            hosts: self.places.iter().map(host).collect(),
        }
    }

    fn place(&self, place: &wire::Place) -> reply::Kind {
        let named = place.host.strip_prefix('h').and_then(|n| n.parse::<usize>().ok());
        let free = |n: &usize| !place.avoid.contains(&format!("h{n}"));
        let first = || (0..self.places.len()).find(free);
        let n = match (place.host.as_str(), named) {
            ("" | "+", _) => first(),
            (_, Some(n)) if n < self.places.len() && free(&n) => Some(n),
            _ if place.prefer => first(),
            _ => None,
        };
        n.map_or_else(
            || {
                reply::Kind::Error(wire::Error {
                    code: wire::ErrorCode::NoHost as i32,
                    text: "no host\x1b[2J is willing".into(),
                })
            },
            |n| reply::Kind::Placed(self.places[n].clone()),
        )
    }
}

/// What stands in front of every connection.
fn preamble(mut conn: TcpStream) -> (TcpStream, u8, Vec<u8>) {
    conn.set_nodelay(true).unwrap();
    let mut head = [0; wire::PREAMBLE_LEN];
    conn.read_exact(&mut head).unwrap();
    let (kind, len) = wire::parse_preamble(&head).unwrap();
    let mut body = vec![0; len];
    conn.read_exact(&mut body).unwrap();
    (conn, kind, body)
}

/// The host itself is asked: it says what it did, but for draining, of which only the fact counts. It does not
/// let anybody kill a session whose id begins with `bad`.
fn control(conn: TcpStream, n: usize, key: &KeyPair, controls: &Mutex<Vec<(usize, Control)>>) {
    let tls = rustls::ServerConnection::new(server_config(key, Peer::Any).unwrap()).unwrap();
    let mut stream = rustls::StreamOwned::new(tls, conn);
    let ask: wire::ControlAsk = frame::read(&mut stream).unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &ask.body);
    assert_eq!(digest.as_ref(), &ask.ticket[16..48]);
    let control = Control::decode(&ask.body).unwrap();
    let mut reply = wire::ControlReply::default();
    match &control {
        Control::Kill {
            session: [0xba, 0xd0..=0xdf, ..],
            ..
        } => {
            reply.error = Some(wire::Error {
                code: wire::ErrorCode::Denied as i32,
                text: "only operators\x1b may".into(),
            });
        }
        Control::Kill { .. } | Control::Detach { .. } => reply.text = "told".into(),
        Control::Drain { .. } | Control::Undrain => {}
    }
    controls.lock().unwrap().push((n, control));
    stream.write_all(&frame::encode(&reply)).unwrap();
    stream.flush().unwrap();
}

fn session(
    mut conn: TcpStream,
    body: &[u8],
    how: Host,
    launched: &Mutex<Vec<Launch>>,
    needed: &Mutex<Vec<Option<wire::Need>>>,
) {
    if how == Host::Closes {
        return;
    }
    let hello = wire::SessionHello::decode(body).unwrap();
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
    } else if how == Host::Full {
        answer.refused = "no\x1b room".into();
        answer.code = wire::ErrorCode::Full as i32;
    } else {
        answer.grant = Grant {
            nonce,
            session_key: key.public(),
        }
        .sign(&signer);
        answer.resume = how == Host::Resumes;
    }
    let bytes = answer.encode_to_vec();
    conn.write_all(&(bytes.len() as u16).to_be_bytes()).unwrap();
    conn.write_all(&bytes).unwrap();
    if !matches!(how, Host::Well | Host::Resumes) {
        // Until the other end has seen it.
        let _ = conn.read(&mut [0; 4096]);
        return;
    }
    let config = server_config(&key, Peer::Pinned(client_key)).unwrap();
    let mut s = Session {
        link: Link::server(conn.into(), config.clone()).unwrap(),
        events: VecDeque::new(),
        rejoin: None,
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
    if how == Host::Resumes {
        assert!(launch.resume);
        s.link.make_resumable();
        s.rejoin = Some(again::Rejoin::new(nonce, config));
    }
    launched.lock().unwrap().push(launch.clone());
    needed.lock().unwrap().push(hello.need);
    if let Some(look) = &launch.look {
        s.look(look);
        return;
    }
    s.tell(from_session::Kind::Started(wire::Started {
        pid: 1,
        tty: String::new(),
        grace: 0,
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
    /// It outlives its connection.
    rejoin: Option<again::Rejoin>,
}

impl Session {
    fn pump(&mut self, flags: PollFlags) -> Result<(), LinkError> {
        match (self.pump_once(flags), &mut self.rejoin) {
            (Err(LinkError::Io(_)), Some(rejoin)) => {
                rejoin.wait(&mut self.link)?;
                let events = &mut self.events;
                self.link.receive(|e| events.push_back(Seen::of(&e)))?;
                self.link.flush().map(drop)
            }
            (result, _) => result,
        }
    }

    fn pump_once(&mut self, flags: PollFlags) -> Result<(), LinkError> {
        let Some(socket) = self.link.socket() else {
            return Err(LinkError::Io(std::io::ErrorKind::NotConnected.into()));
        };
        wait(socket, flags, Instant::now() + LIMIT)?;
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
        while !data.is_empty() {
            if self.link.stream().is_closed(c) {
                return false;
            }
            let n = self.link.send(c, data).unwrap();
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
            data = &data[n..];
            if self.link.flush().is_err() {
                if self.rejoin.is_none() {
                    return false;
                }
                self.link.cut();
            }
        }
        true
    }

    /// All that were asked for run the same.
    fn look(&mut self, look: &wire::Look) {
        let one = |id: &Vec<u8>| wire::LookedSession {
            id: id.clone(),
            pid: 4711,
            argv: vec![b"sleep".to_vec(), b"76001".to_vec()],
            cwd: b"/srv".to_vec(),
            env: if look.env {
                vec![b"A=b".to_vec()]
            } else {
                Vec::new()
            },
            state: "S".into(),
            tty: String::new(),
        };
        self.tell(from_session::Kind::Looked(wire::Looked {
            sessions: look.sessions.iter().map(one).collect(),
        }));
        self.end(0);
        let _ = self.link.flush_all(LIMIT);
        while self.next().is_some() {}
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
        if launch.argv.get(4).is_some_and(|w| w == b"admin") {
            return self.front_end(&launch.argv[4..]);
        }
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
            // As `cat`, and after so many bytes the connection is gone, again and again.
            "breaks" => {
                let mut left = number(1) as usize;
                while let Some(e) = self.next() {
                    match e {
                        Seen::Data(d) => {
                            if !self.write(Channel::Stdout, &d) {
                                return self.die(13);
                            }
                            if left < d.len() {
                                self.link.cut();
                                left = number(1) as usize;
                            } else {
                                left -= d.len();
                            }
                        }
                        Seen::Eof => break,
                        _ => {}
                    }
                }
                self.link.cut();
                self.end(number(2));
                // The end is fetched over another connection.
                while self.next().is_some() {}
            }
            "detached" => {
                self.tell(from_session::Kind::Detached(wire::Detached {
                    session: "s1a2b3c4d".into(),
                    by: if number(1) > 0 {
                        "alice@h3".into()
                    } else {
                        String::new()
                    },
                    taken: number(1) > 1,
                }));
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
                        to_session::Kind::Detach(_) => "detach\n".to_owned(),
                        to_session::Kind::Redraw(_) => "redraw\n".to_owned(),
                        to_session::Kind::Forward(_) => "forward\n".to_owned(),
                        to_session::Kind::Ping(e) => {
                            self.tell(from_session::Kind::Pong(e.clone()));
                            continue;
                        }
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
                    self.link.socket().unwrap().as_raw_fd(),
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
