//! The way to a session: ask the daemon for a host, the local `queue-exec` for a signature, connect, check the
//! grant, and finish TLS. What can overlap does: each wait is filled with the next step's preparation.
//!
//! Nothing is run before the [`wire::Launch`] is sent, which happens after this; so another host can be tried
//! as long as we are here.

mod attach;
mod connect;
mod host;
mod quiet;

pub use attach::attach;
pub(crate) use connect::{start_connect, unreachable, wait};

use crate::messages::Failure;
use crate::place::Daemon;
use crate::sign::{self, Signer};
use crate::waiting::Line;
use host::{Asker, Fault, Wanted};
use libqueue::link::Link;
use libqueue::stream::FIRST_CONTROL_MAX;
use libqueue::tls::KeyPair;
use libqueue::wire::{self, ErrorCode, Place, Placed, reply, request};
use prost::Message as _;
use queue_exec::cert::PublicKey;
use queue_exec::layout::Layout;
use queue_exec::ticket::Nonce;
use rustls::ClientConfig;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// How many hosts may fail when the choice is ours. One that only has no room is not counted.
const TRIES: usize = 3;
/// How long a host of our choice may take to accept a connection; then another one is tried.
const CONNECT_CHOSEN: Duration = Duration::from_secs(1);
/// How long a host that the user named may take.
const CONNECT_NAMED: Duration = Duration::from_secs(10);
/// How long a host of our choice may take to start a session; then another one is tried. A session that comes
/// too late finds nobody and runs nothing. A slow name service there says so sooner, after 8 s.
const ANSWER_CHOSEN: Duration = Duration::from_secs(10);
/// How long a host that the user named may take: more than its queued and its session grant each other.
const ANSWER_NAMED: Duration = Duration::from_secs(30);
/// How often, and how long after one another, a host that has no room is asked again before that is an error.
const PAUSES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(50);
/// After a host that we waited for had no room after all: how long until it is asked for again, at first and at
/// most.
const AGAIN: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(2)];

/// What a session is wanted for.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// Where.
    pub place: Place,
    /// The account there; empty for the same name.
    pub login: String,
    /// How long a host may take to accept the connection, if that was said.
    pub connect: Option<Duration>,
    /// How long it may take to start the session, if that was said.
    pub answer: Option<Duration>,
    /// Tell the user of a host that says nothing for long.
    pub tell: bool,
}

impl Ask {
    /// Whether the choice of the host is ours.
    fn chooses(&self) -> bool {
        matches!(self.place.host.as_str(), "" | "+") || self.place.prefer
    }
}

/// A session that waits for its first message.
#[derive(Debug)]
pub struct Session {
    /// The connection, TLS finished.
    pub link: Link,
    /// The host's name.
    pub host: String,
    /// The encoded request, to be sent first.
    pub launch: Vec<u8>,
    /// Whether it says that standard input is not read.
    pub no_stdin: bool,
    /// How to come back to it when the connection breaks; `None`: the session cannot do that.
    pub way: Option<Way>,
    /// Connections with the daemons here that have served. Closing them wakes those, which can wait until the request is
    /// on its way.
    pub spent: Vec<OwnedFd>,
}

/// What is needed to come back to a session.
#[derive(Debug, Clone)]
pub struct Way {
    /// Where its host listens, `IP:PORT`.
    pub address: String,
    /// The session: its ticket's nonce.
    pub session: Nonce,
    /// TLS with the session's key and ours.
    pub config: Arc<ClientConfig>,
    /// The host's key: it signs that there is no such session any more ([`queue_exec::ticket::Gone`]).
    pub host_key: PublicKey,
}

/// Gets a session for a request on a host that fits.
///
/// # Errors
/// No daemon, no host, or refused.
pub fn open(ask: &Ask, request: impl FnOnce() -> Result<wire::Launch, Failure>) -> Result<Session, Failure> {
    let layout = Layout::for_client();
    let (mut place, ours) = (ask.place.clone(), ask.chooses());
    let mut daemon = Daemon::dial(&layout)?;
    daemon.ask(request::Kind::Place(place.clone()))?;

    // While the daemon thinks:
    let key = KeyPair::generate().map_err(|e| Failure::own(e.to_string()))?;
    let launch = request()?;
    let (no_stdin, resume) = (launch.no_stdin, launch.resume);
    let launch = encode(&launch)?;
    let hash = sign::hash(&launch)?;
    let mut signer = Some(Signer::dial(&layout));
    let or = |given: Option<Duration>, chosen, named| given.unwrap_or(if ours { chosen } else { named });

    let asker = Asker {
        layout: &layout,
        key: &key,
        login: &ask.login,
        wanted: Wanted::Session(ask.place.need.clone()),
        hash,
        resume,
        limit: or(ask.connect, CONNECT_CHOSEN, CONNECT_NAMED),
        answer: or(ask.answer, ANSWER_CHOSEN, ANSWER_NAMED),
        tell: ask.tell,
    };
    let mut before: Option<Failure> = None;
    let mut failed = 0;
    let mut again = AGAIN[0];
    let mut pauses = PAUSES;
    loop {
        let placed = match placed(&mut daemon, place.wait) {
            Ok(placed) => placed,
            Err(_) if daemon.is_full() && pauses > 0 => {
                // What ran there may be ending right now: one command after the other has room.
                pauses -= 1;
                std::thread::sleep(PAUSE);
                place.avoid.clear();
                daemon = Daemon::dial(&layout)?;
                daemon.ask(request::Kind::Place(place.clone()))?;
                continue;
            }
            // What was wrong with the last host tells more than that there is no other one.
            Err(e) => return Err(before.unwrap_or(e)),
        };
        match asker.try_host(&placed, signer.take()) {
            Ok((link, way, spent)) => {
                return Ok(Session {
                    link,
                    host: placed.host,
                    launch,
                    no_stdin,
                    way,
                    spent: vec![spent, daemon.into()],
                });
            }
            Err(Fault::Final(f)) => return Err(f),
            Err(Fault::NoRoom(_, code)) if place.wait && code != ErrorCode::Unfit => {
                // Somebody else was faster: back to waiting.
                std::thread::sleep(again);
                again = (again * 2).min(AGAIN[1]);
            }
            Err(Fault::NoRoom(_, ErrorCode::Full)) if !ours && pauses > 0 => {
                pauses -= 1;
                std::thread::sleep(PAUSE);
            }
            Err(Fault::NoRoom(f, _)) if ours => {
                place.avoid.push(placed.host);
                before = Some(f);
            }
            Err(Fault::Host(f)) if ours && failed + 1 < TRIES => {
                failed += 1;
                place.avoid.push(placed.host);
                before = Some(f);
            }
            Err(Fault::Host(f) | Fault::NoRoom(f, _)) => return Err(f),
        }
        daemon = Daemon::dial(&layout)?;
        daemon.ask(request::Kind::Place(place.clone()))?;
    }
}

/// The daemon's choice, which may take as long as it likes if the user wants to wait.
fn placed(daemon: &mut Daemon, wait: bool) -> Result<Placed, Failure> {
    if wait {
        daemon.have_patience()?;
    }
    let mut line = Line::default();
    let result = loop {
        match daemon.answer() {
            Ok(reply::Kind::Placed(placed)) => break Ok(placed),
            Ok(reply::Kind::Waiting(w)) if wait => line.show(&w),
            Ok(_) => break Err(daemon.strange()),
            Err(e) => break Err(e),
        }
    };
    line.clear();
    result
}

fn encode(launch: &wire::Launch) -> Result<Vec<u8>, Failure> {
    let bytes = launch.encode_to_vec();
    if bytes.len() > FIRST_CONTROL_MAX {
        return Err(Failure::own(format!(
            "arguments and environment are {} bytes together; at most {FIRST_CONTROL_MAX} can go along",
            bytes.len()
        )));
    }
    Ok(bytes)
}
