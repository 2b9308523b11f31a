//! Further connections for sessions: those that take a broken one's place, and those of people who want to see one.

use super::{LIMIT, Seen, Session, host_key};
use ed25519_dalek::SigningKey;
use libqueue::link::join::{Joining, Resume, Step};
use libqueue::link::{Link, LinkError, wait};
use libqueue::stream::Channel;
use libqueue::tls::{KeyPair, Peer, server_config};
use libqueue::wire::{self, Attach, AttachHello, ResumeHello, SessionAnswer, from_session};
use nix::poll::PollFlags;
use prost::Message as _;
use queue_exec::ticket::{Gone, Grant, Nonce};
use rustls::ServerConfig;
use std::collections::{BTreeMap, VecDeque};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What a host does with the next connection that is to take a broken one's place; as it should, if nothing is said.
#[allow(dead_code, reason = "each test file uses its part")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// It says no.
    Refuses,
    /// It closes the connection.
    Closes,
    /// It says that there is no such session, and signs that.
    Gone,
    /// Somebody else signs that.
    GoneSaysAnother,
    /// It says nothing.
    Silent,
}

/// Sessions that wait for another connection.
static WAITING: Mutex<BTreeMap<Nonce, Sender<OwnedFd>>> = Mutex::new(BTreeMap::new());

/// The session's end of it.
pub(crate) struct Rejoin {
    connections: Receiver<OwnedFd>,
    config: Arc<ServerConfig>,
    number: u64,
}

impl Rejoin {
    /// Of this session.
    pub(crate) fn new(session: Nonce, config: Arc<ServerConfig>) -> Self {
        let (to, connections) = channel();
        WAITING.lock().unwrap().insert(session, to);
        Self {
            connections,
            config,
            number: 0,
        }
    }

    /// Waits for a connection that is the right one.
    pub(crate) fn wait(&mut self, link: &mut Link) -> Result<(), LinkError> {
        link.cut();
        loop {
            let conn = self.connections.recv_timeout(LIMIT);
            let conn = conn.map_err(|_| LinkError::Timeout)?;
            if self.join(link, conn).is_ok() {
                return Ok(());
            }
        }
    }

    fn join(&mut self, link: &mut Link, conn: OwnedFd) -> Result<(), LinkError> {
        let mut joining = Joining::server(conn, self.config.clone())?;
        loop {
            match joining.step()? {
                Step::Again => {
                    let out = if joining.wants_write() {
                        PollFlags::POLLOUT
                    } else {
                        PollFlags::empty()
                    };
                    wait(joining.socket(), PollFlags::POLLIN | out, Instant::now() + LIMIT)?;
                }
                Step::Heard(peer) => {
                    assert!(peer.number > self.number, "attempts are numbered");
                    self.number = peer.number;
                    joining.tell(Resume {
                        number: peer.number,
                        received: link.stream().received(),
                    })?;
                    return link.resume(joining.joined(peer));
                }
                Step::Secure => {}
                Step::Refused(_) => return Err(LinkError::Timeout),
            }
        }
    }
}

fn answer(conn: &mut TcpStream, answer: &SessionAnswer) {
    let bytes = answer.encode_to_vec();
    let _ = conn.write_all(&(bytes.len() as u16).to_be_bytes());
    let _ = conn.write_all(&bytes);
    // Until the other end has seen it.
    let _ = conn.read(&mut [0; 4096]);
}

/// A connection that is to take a broken one's place.
pub(crate) fn resume(mut conn: TcpStream, body: &[u8], again: &Mutex<VecDeque<Again>>) {
    let hello = ResumeHello::decode(body).unwrap();
    let session: Nonce = hello.session[..].try_into().unwrap();
    let challenge: Nonce = hello.challenge[..].try_into().unwrap();
    let mut said = SessionAnswer {
        refused: "that session\x1b has ended".into(),
        ..SessionAnswer::default()
    };
    let mode = again.lock().unwrap().pop_front();
    match mode {
        None => {
            let waiting = WAITING.lock().unwrap().get(&session).cloned();
            let _ = waiting.expect("a session").send(conn.into());
        }
        Some(Again::Refuses) => answer(&mut conn, &said),
        Some(Again::Closes) => {}
        Some(Again::Silent) => while conn.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {},
        Some(m) => {
            let key = match m {
                Again::Gone => host_key(),
                _ => SigningKey::from_bytes(&[8; 32]),
            };
            said.gone = Gone { session, challenge }.sign(&key);
            answer(&mut conn, &said);
        }
    }
}

/// Somebody who wants to see a session. What he sees: a line, his window's size, and the end with code 7.
pub(crate) fn attach(mut conn: TcpStream, body: &[u8]) {
    let hello = AttachHello::decode(body).unwrap();
    let (nonce, rest) = hello.ticket.split_first_chunk::<16>().unwrap();
    let (hash, client_key) = rest.split_first_chunk::<32>().unwrap();
    let client_key: [u8; 32] = client_key.try_into().unwrap();
    let key = KeyPair::generate().unwrap();
    let grant = Grant {
        nonce: *nonce,
        session_key: key.public(),
    };
    let said = SessionAnswer {
        grant: grant.sign(&host_key()),
        resume: true,
        ..SessionAnswer::default()
    };
    let bytes = said.encode_to_vec();
    conn.write_all(&(bytes.len() as u16).to_be_bytes()).unwrap();
    conn.write_all(&bytes).unwrap();
    let config = server_config(&key, Peer::Pinned(client_key)).unwrap();
    let mut s = Session {
        link: Link::server(conn.into(), config).unwrap(),
        events: VecDeque::new(),
        rejoin: None,
    };
    let events = &mut s.events;
    s.link
        .handshake(LIMIT, |e| events.push_back(Seen::of(&e)))
        .unwrap();
    s.link.flush_all(LIMIT).unwrap();
    let Some(Seen::Control(first)) = s.next() else {
        panic!("no message")
    };
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &first);
    assert_eq!(digest.as_ref(), hash, "the request is the one that was signed");
    let attach = Attach::decode(&first[..]).unwrap();
    assert_eq!(attach.session, hello.session);
    assert_eq!(attach.resume, !attach.watch);
    if attach.resume {
        s.link.make_resumable();
    }
    s.tell(from_session::Kind::Attached(wire::Attached {
        pid: 1,
        program: "vim".into(),
        ..wire::Attached::default()
    }));
    let how = if attach.watch { "watched" } else { "attached" };
    s.write(Channel::Stdout, format!("{how}\r\n").as_bytes());
    s.end(7);
    let _ = s.link.flush_all(LIMIT);
    while s.next().is_some() {}
}
