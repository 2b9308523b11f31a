//! One at the other end: the link, and how it stands after its connection broke or its last word was said. Knows
//! links; must not know commands, or what the control messages mean.

use libqueue::link::silence::silence;
use libqueue::link::{Link, LinkError, join};
use libqueue::stream::CONTROL_BACKLOG;
use libqueue::stream::{Channel, WINDOW};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, SockaddrLike as _, SockaddrStorage, sockopt,
};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::time::{Duration, Instant};

/// How long a client may take to come back after the host it is on has said that the connection is closed: one that
/// lives does within milliseconds.
pub(super) const BACK_WITHIN: Duration = Duration::from_secs(1);
/// How long a client that cannot come back may take to read its last word.
const LINGER: Duration = Duration::from_secs(10);
/// The same for one who is not attached.
const LINGER_GUEST: Duration = Duration::from_secs(2);
/// Bytes that are kept for a client that does not read, or is away: what the credit of its channels allows, and
/// control messages.
const KEPT_MAX: u64 = CONTROL_BACKLOG + 3 * WINDOW;

/// What becomes of a client whose connection broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It may come back.
    Waits,
    /// It has gone for good.
    Gone,
}

/// One at the other end.
pub(super) struct Client {
    pub(super) link: Link,
    /// Whoever comes back has this key.
    pub(super) key: [u8; 32],
    /// The highest number of its connections.
    number: u64,
    /// Nothing more will be said to it: it was told the status, or that it is no longer attached.
    told: bool,
    /// It has no connection, and is waited for until then.
    away: Option<Instant>,
    /// The same while this host lets nobody in: the address and port at which it did, and how long at most.
    door: Option<(SockaddrStorage, Instant)>,
    linger: Option<Instant>,
    /// The screen, as far as there was no credit for it yet.
    showing: Vec<u8>,
    /// The poll said that there is something.
    pub(super) ready: bool,
}

impl Client {
    /// Over a connection that is there.
    pub(super) fn new(link: Link, key: [u8; 32]) -> Self {
        Self {
            link,
            key,
            number: 0,
            told: false,
            away: None,
            door: None,
            linger: None,
            showing: Vec::new(),
            ready: true,
        }
    }

    /// Whether its last word was said.
    pub(super) fn is_told(&self) -> bool {
        self.told
    }

    /// For the poll; nothing while there is no connection.
    pub(super) fn poll(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        self.link.polled()
    }

    /// When [`is_overdue`](Self::is_overdue) may change.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.away.into_iter().chain(self.linger).min()
    }

    /// Whether it was waited for long enough.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|t| now >= t)
    }

    /// [`is_overdue`](Self::is_overdue); but one who would have to come back through a door at which nobody listens, as
    /// `queued` here is being started again, has a moment more each time.
    pub(super) fn is_gone(&mut self, now: Instant) -> bool {
        if !self.is_overdue(now) {
            return false;
        }
        if self.away.is_some_and(|t| now >= t)
            && let Some((door, most)) = &self.door
            && now < *most
            && is_shut(door)
        {
            // Whoever is turned away tries once a second.
            self.away = Some(now + 2 * BACK_WITHIN);
        }
        self.is_overdue(now)
    }

    /// How long its host has not answered; `None` as long as it does, or there is no connection.
    pub(super) fn silence(&self) -> Option<Duration> {
        self.link.socket().and_then(silence)
    }

    /// Says something.
    ///
    /// # Errors
    /// The connection is of no use; or the client does not read, and what is kept for it is too much.
    pub(super) fn say(&mut self, message: &[u8]) -> Result<(), LinkError> {
        if self.told {
            return Ok(());
        }
        if self.link.stream().kept() + message.len() as u64 > KEPT_MAX {
            return Err(LinkError::Timeout);
        }
        self.link.send_control(message)
    }

    /// Says the last word, and goodbye.
    ///
    /// # Errors
    /// The connection is of no use.
    pub(super) fn last_word(&mut self, message: &[u8]) -> Result<(), LinkError> {
        self.say(message)?;
        self.told = true;
        if !self.link.stream().is_resumable() {
            self.linger = Some(Instant::now() + LINGER);
        }
        self.goodbye()?;
        self.flush()
    }

    /// It is not waited for much longer: nobody depends on what it reads.
    pub(super) fn linger(&mut self) {
        self.linger.get_or_insert(Instant::now() + LINGER_GUEST);
    }

    /// It is not waited for at all.
    pub(super) fn dismiss(&mut self) {
        self.told = true;
        self.link.cut();
        self.away = Some(Instant::now());
    }

    /// Shows the screen: as output, which goes on as there is credit.
    ///
    /// # Errors
    /// The connection is of no use.
    pub(super) fn show(&mut self, painted: &[u8]) -> Result<(), LinkError> {
        self.showing.extend_from_slice(painted);
        self.show_more()
    }

    /// Whether there is more of the screen to be shown, before any other output.
    pub(super) fn is_showing(&self) -> bool {
        !self.showing.is_empty()
    }

    fn show_more(&mut self) -> Result<(), LinkError> {
        if self.showing.is_empty() {
            return Ok(());
        }
        if self.link.stream().is_closed(Channel::Stdout) {
            self.showing = Vec::new();
            return Ok(());
        }
        let n = self.link.send(Channel::Stdout, &self.showing)?;
        self.showing.drain(..n);
        if self.showing.is_empty() {
            self.showing = Vec::new();
        }
        Ok(())
    }

    /// TLS's goodbye goes behind everything else.
    fn goodbye(&mut self) -> Result<(), LinkError> {
        if self.told && self.link.stream().outgoing().is_empty() {
            self.link.send_goodbye()?;
        }
        Ok(())
    }

    /// Writes what waits, as far as the socket takes it.
    ///
    /// # Errors
    /// The connection is of no use.
    pub(super) fn flush(&mut self) -> Result<(), LinkError> {
        if !self.told {
            self.show_more()?;
        }
        self.link.flush()?;
        if self.told {
            self.goodbye()?;
            self.link.flush()?;
        }
        Ok(())
    }

    /// Notes that received bytes have gone where they belong.
    ///
    /// # Errors
    /// The connection is of no use.
    pub(super) fn consumed(&mut self, n: usize) -> Result<(), LinkError> {
        if n == 0 || self.told {
            return Ok(());
        }
        self.link.consumed(Channel::Stdin, n)
    }

    /// Whether it has all that will ever be said, as far as it said so itself.
    pub(super) fn has_everything(&self) -> bool {
        let s = self.link.stream();
        self.told && (self.link.is_peer_closed() || (s.is_resumable() && s.is_all_acknowledged()))
    }

    /// Whether there is nothing more to be done for it.
    pub(super) fn is_done(&self) -> bool {
        self.has_everything() || self.link.is_peer_closed()
    }

    /// Its connection broke. One that can come back is waited for: a moment if its host has said that the connection
    /// is closed, and for the rest of `grace` if its host does not answer.
    pub(super) fn broke(&mut self, why: &LinkError, grace: Duration) -> Fate {
        if self.has_everything() || self.has_closed(why) {
            return Fate::Gone;
        }
        if !self.link.stream().is_resumable() || matches!(why, LinkError::Protocol(_) | LinkError::Timeout) {
            return Fate::Gone;
        }
        let wait = match why {
            LinkError::Io(e) if is_silence(e) => grace.saturating_sub(self.silence().unwrap_or_default()),
            _ => BACK_WITHIN,
        };
        let now = Instant::now();
        let door = self
            .link
            .socket()
            .and_then(|s| socket::getsockname(s.as_raw_fd()).ok());
        self.door = door.map(|d| (d, now + grace)).or(self.door);
        self.link.cut();
        self.away.get_or_insert(now + wait);
        Fate::Waits
    }

    /// Whether it closed the connection after it had read everything: its host closes it so, and otherwise resets it.
    fn has_closed(&self, why: &LinkError) -> bool {
        let closed = matches!(why, LinkError::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof);
        self.told && closed && self.link.backlog() == 0 && self.link.socket().is_some_and(|s| unsent(s) == 0)
    }

    /// Goes on over a connection whose peer has said how much it has, unless it is an old one.
    pub(super) fn resume(&mut self, mut joining: join::Joining, peer: join::Resume) -> Fate {
        if peer.number <= self.number || !self.link.stream().is_resumable() {
            return Fate::Waits;
        }
        self.number = peer.number;
        self.link.cut();
        self.away.get_or_insert(Instant::now() + BACK_WITHIN);
        let own = join::Resume {
            number: peer.number,
            received: self.link.stream().received(),
        };
        if joining.tell(own).is_err() {
            return Fate::Waits;
        }
        match self.link.resume(joining.joined(peer)) {
            Ok(()) => {
                self.away = None;
                self.door = None;
                self.ready = true;
                Fate::Waits
            }
            Err(_) => Fate::Gone,
        }
    }
}

/// Whether an error of a socket says that the other host does not answer.
fn is_silence(e: &io::Error) -> bool {
    let silent = [
        Errno::ETIMEDOUT,
        Errno::EHOSTUNREACH,
        Errno::ENETUNREACH,
        Errno::ENETDOWN,
    ];
    silent.iter().any(|s| e.raw_os_error() == Some(*s as i32))
}

/// Whether nobody listens at an address of this host.
fn is_shut(door: &SockaddrStorage) -> bool {
    let family = door.family().unwrap_or(AddressFamily::Inet);
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let Ok(sock) = socket::socket(family, SockType::Stream, flags, None) else {
        return false;
    };
    match socket::connect(sock.as_raw_fd(), door) {
        Err(Errno::ECONNREFUSED) => true,
        Err(Errno::EINPROGRESS) => {
            // This host answers itself at once.
            let mut fds = [PollFd::new(sock.as_fd(), PollFlags::POLLOUT)];
            let _ = poll(&mut fds, PollTimeout::from(20u8));
            socket::getsockopt(&sock, sockopt::SocketError) == Ok(Errno::ECONNREFUSED as i32)
        }
        _ => false,
    }
}

/// Bytes that the other host has not acknowledged.
fn unsent(socket: BorrowedFd<'_>) -> i32 {
    let mut n: libc::c_int = 0;
    // SAFETY: valid pointer.
    let ok = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut n) } == 0;
    if ok { n } else { i32::MAX }
}
