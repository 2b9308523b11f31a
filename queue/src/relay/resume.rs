//! A connection that broke, and the search for another one: attempts, and what is known of the host meanwhile. Never
//! waits: its owner polls and calls [`Resume::step`]. Knows connections; what the user is told is its owner's.

use super::retry::{MOST, PATIENCE, Retry};
use crate::control::locate;
use crate::launch::{Way, start_connect};
use crate::sys;
use libqueue::link::join::{Joining, Resume as Told, Step};
use libqueue::link::silence::{round_trip, silence};
use libqueue::link::{Link, LinkError};
use libqueue::wire::{self, ResumeHello};
use nix::libc;
use nix::sys::socket::{SockaddrStorage, getpeername};
use prost::Message as _;
use queue_exec::layout::Layout;
use queue_exec::ticket::{Gone, Nonce};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long nothing may have come until the user is told.
const SILENT: Duration = Duration::from_secs(2);
/// How long a host may be silent until there is no hope, if it does not say how long it waits itself.
const GRACE: Duration = Duration::from_secs(60);
/// How much longer than the host we wait: it may notice later.
const MORE: Duration = Duration::from_secs(5);
/// An accepted attempt whose host has been silent for so long is of no use.
const STALE: Duration = Duration::from_secs(1);
/// Nobody was reached for so long: the host may have another address by now.
const LOST: Duration = Duration::from_secs(3);
/// If more time than this has passed between two steps, we did not run.
const ASLEEP: Duration = Duration::from_secs(3);

/// How to come back to a session, and whether that is needed.
#[derive(Debug)]
pub(super) struct Resume {
    way: Way,
    host: String,
    number: u64,
    grace: Duration,
    round_trip: Option<Duration>,
    outage: Option<Outage>,
}

/// Nothing comes from the host.
#[derive(Debug)]
struct Outage {
    /// Since when.
    since: Instant,
    stepped: Instant,
    retry: Retry,
    attempts: Vec<Attempt>,
    /// When somebody was last known to listen there.
    reached: Instant,
    finder: Option<Finder>,
    /// Not to be asked for the address before this.
    ask: Instant,
    noticed: bool,
}

#[derive(Debug)]
struct Attempt {
    joining: Joining,
    begun: Instant,
    number: u64,
    challenge: Nonce,
    accepted: bool,
    /// We have said how much we have: the old connection is no more.
    told: bool,
}

/// What a step brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing.
    None,
    /// The old connection stands after all.
    Back,
    /// Another one has taken its place: receive from it without waiting.
    Resumed,
}

/// Why there is no hope.
#[derive(Debug)]
pub(super) enum Over {
    /// The host says that the session is over.
    Gone,
    /// It has been silent for so long.
    Silent(Duration),
    /// It claims what cannot be.
    Protocol(LinkError),
}

enum Fate {
    Goes,
    /// Nobody is there, or he went away.
    Broken,
    /// He says no.
    Refused,
    /// He is the right one, and was told how much we have.
    Secure,
    /// He says how much he has.
    Heard(Told),
}

impl Resume {
    pub(super) fn new(way: Way, host: String) -> Self {
        Self {
            way,
            host,
            number: 0,
            grace: GRACE,
            round_trip: None,
            outage: None,
        }
    }

    /// How long the host waits for us, as it says.
    pub(super) fn set_grace(&mut self, seconds: u32) {
        if seconds > 0 {
            self.grace = Duration::from_secs(seconds.into());
        }
    }

    /// Whether the host does not answer.
    pub(super) fn is_needed(&self) -> bool {
        self.outage.is_some()
    }

    /// Whether the user was told so.
    pub(super) fn is_noticed(&self) -> bool {
        self.outage.as_ref().is_some_and(|o| o.noticed)
    }

    /// Nothing has come since then; a connection that broke was cut.
    pub(super) fn begin(&mut self, link: &Link, since: Instant, now: Instant) {
        if let Some(socket) = link.socket() {
            self.round_trip = round_trip(socket).or(self.round_trip);
        }
        match &mut self.outage {
            Some(o) => o.retry.hurry(now),
            None => {
                self.outage = Some(Outage {
                    since,
                    stepped: now,
                    retry: Retry::new(now),
                    attempts: Vec::new(),
                    reached: now,
                    finder: None,
                    ask: now,
                    noticed: false,
                });
            }
        }
    }

    /// When to step again, whatever comes; `None`: all is well.
    pub(super) fn due(&self) -> Option<Instant> {
        let o = self.outage.as_ref()?;
        let mut due = o.retry.due().min(o.since + self.grace + MORE);
        if !o.noticed {
            due = due.min(o.since + SILENT);
        }
        Some(due)
    }

    /// Whether the user is to be told now; says so once.
    pub(super) fn notice(&mut self, now: Instant) -> bool {
        match &mut self.outage {
            Some(o) if !o.noticed && now >= o.since + SILENT => {
                o.noticed = true;
                true
            }
            _ => false,
        }
    }

    /// What to poll for.
    pub(super) fn polled(&self, fds: &mut Vec<libc::pollfd>) {
        let Some(o) = &self.outage else { return };
        fds.extend(o.attempts.iter().map(|a| libc::pollfd {
            fd: a.joining.socket().as_raw_fd(),
            events: libc::POLLIN | if a.joining.wants_write() { libc::POLLOUT } else { 0 },
            revents: 0,
        }));
        fds.extend(o.finder.iter().map(|f| libc::pollfd {
            fd: f.pipe.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        }));
    }

    /// Goes on as far as possible.
    pub(super) fn step(&mut self, link: &mut Link, now: Instant) -> Result<News, Over> {
        let Some(o) = &mut self.outage else {
            return Ok(News::None);
        };
        if link.socket().is_some_and(|s| silence(s).is_none()) {
            self.outage = None;
            return Ok(News::Back);
        }
        let gap = now.saturating_duration_since(o.stepped);
        if gap > ASLEEP {
            // Nothing could be heard then.
            o.since += gap;
            o.retry.hurry(now);
        }
        o.stepped = now;
        if let Some(address) = o.finder.as_mut().and_then(Finder::answer) {
            o.finder = None;
            if !address.is_empty() && address != self.way.address {
                self.way.address = address;
                o.attempts.retain(|a| a.told);
                o.retry.hurry(now);
            }
        }
        let mut at = 0;
        while at < o.attempts.len() {
            let a = &mut o.attempts[at];
            let fate = a.follow(&self.way, link)?;
            if !a.accepted && a.is_accepted() {
                a.accepted = true;
                o.reached = now;
                o.retry.accepted(now);
            }
            match fate {
                Fate::Goes if !a.is_over(now) => at += 1,
                Fate::Goes | Fate::Broken => {
                    if a.accepted {
                        o.retry.broken(now);
                    }
                    o.attempts.remove(at);
                }
                Fate::Refused => {
                    o.reached = now;
                    o.retry.refused(now);
                    o.attempts.remove(at);
                }
                Fate::Secure => {
                    // What the others would still say is too late.
                    let number = a.number;
                    o.attempts.retain(|a| a.number == number);
                    o.retry.accepted(now);
                    at = 1;
                }
                Fate::Heard(peer) => {
                    let joined = o.attempts.swap_remove(at).joining.joined(peer);
                    self.outage = None;
                    return match link.resume(joined) {
                        Ok(()) => Ok(News::Resumed),
                        Err(e) => Err(Over::Protocol(e)),
                    };
                }
            }
        }
        if now >= o.since + self.grace + MORE {
            return Err(Over::Silent(now.saturating_duration_since(o.since)));
        }
        if now >= o.reached + LOST && now >= o.ask && o.finder.is_none() {
            o.finder = Finder::start(self.host.clone());
            o.ask = now + LOST;
        }
        if now >= o.retry.due() {
            o.retry.begun(now, self.round_trip);
            if o.attempts.len() >= MOST {
                // The oldest of those that nobody has accepted, if there is one.
                let oldest = o.attempts.iter().position(|a| !a.accepted).unwrap_or(0);
                o.attempts.remove(oldest);
            }
            self.number += 1;
            match Attempt::begin(&self.way, self.number, now) {
                Ok(a) => o.attempts.push(a),
                Err(e) if is_refusal(&e) => {
                    o.reached = now;
                    o.retry.refused(now);
                }
                Err(_) => {}
            }
        }
        Ok(News::None)
    }
}

fn is_refusal(e: &LinkError) -> bool {
    matches!(e, LinkError::Io(e) if e.raw_os_error() == Some(libc::ECONNREFUSED))
}

impl Attempt {
    fn begin(way: &Way, number: u64, now: Instant) -> Result<Self, LinkError> {
        let mut challenge = Nonce::default();
        sys::random(&mut challenge)?;
        let hello = ResumeHello {
            session: way.session.to_vec(),
            challenge: challenge.to_vec(),
        };
        let preamble = wire::preamble(wire::KIND_RESUME, &hello.encode_to_vec());
        Ok(Self {
            joining: Joining::client(start_connect(&way.address)?, way.config.clone(), &preamble)?,
            begun: now,
            number,
            challenge,
            accepted: false,
            told: false,
        })
    }

    fn follow(&mut self, way: &Way, link: &mut Link) -> Result<Fate, Over> {
        let mut secure = false;
        loop {
            match self.joining.step() {
                Ok(Step::Again) if secure => return Ok(Fate::Secure),
                Ok(Step::Again) => return Ok(Fate::Goes),
                Ok(Step::Secure) => {
                    link.cut();
                    secure = true;
                    self.told = true;
                    let told = Told {
                        number: self.number,
                        received: link.stream().received(),
                    };
                    if self.joining.tell(told).is_err() {
                        return Ok(Fate::Broken);
                    }
                }
                Ok(Step::Heard(peer)) if peer.number == self.number => return Ok(Fate::Heard(peer)),
                Ok(Step::Heard(_)) => return Ok(Fate::Broken),
                Ok(Step::Refused(answer)) => {
                    let gone = Gone {
                        session: way.session,
                        challenge: self.challenge,
                    };
                    if gone.is_signed(&answer.gone, &way.host_key) {
                        return Err(Over::Gone);
                    }
                    return Ok(Fate::Refused);
                }
                Err(e) if is_refusal(&e) => return Ok(Fate::Refused),
                Err(_) => return Ok(Fate::Broken),
            }
        }
    }

    fn is_accepted(&self) -> bool {
        getpeername::<SockaddrStorage>(self.joining.socket().as_raw_fd()).is_ok()
    }

    /// Whether to wait for it any more makes no sense. One that nobody accepts makes room for a later one.
    fn is_over(&self, now: Instant) -> bool {
        self.accepted
            && (now > self.begun + PATIENCE || silence(self.joining.socket()).is_some_and(|d| d >= STALE))
    }
}

/// Asks the daemon here where a host is, in a thread of its own: it may take long.
#[derive(Debug)]
struct Finder {
    pipe: UnixStream,
}

impl Finder {
    fn start(host: String) -> Option<Self> {
        let (pipe, mut theirs) = UnixStream::pair().ok()?;
        pipe.set_nonblocking(true).ok()?;
        let ask = move || {
            if let Ok(placed) = locate(&Layout::for_client(), &host) {
                // Nobody may want to know any more.
                let _ = theirs.write_all(placed.address.as_bytes());
            }
        };
        std::thread::Builder::new().spawn(ask).ok()?;
        Some(Self { pipe })
    }

    /// What it says; empty: nothing, and it is done.
    fn answer(&mut self) -> Option<String> {
        let mut text = [0; 128];
        match self.pipe.read(&mut text) {
            Ok(n) => Some(String::from_utf8_lossy(&text[..n]).into_owned()),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => None,
            Err(_) => Some(String::new()),
        }
    }
}
