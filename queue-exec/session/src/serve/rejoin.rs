//! New connections for those whose own broke. Whoever connects has only the session's number, which is no secret:
//! until TLS has shown one of the keys that are expected nothing changes for anybody. Knows connections on their way;
//! must not know what is said on them.

use super::Session;
use super::client::{Client, Fate};
use crate::keep_alive;
use libqueue::link::join::{Joining, Step};
use libqueue::tls::{Peer, server_config};
use nix::poll::PollFlags;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Connections that may be on their way at a time; one more takes the place of the oldest.
const PENDING_MAX: usize = 4;
/// How long each may take.
const WITHIN: Duration = Duration::from_secs(10);

/// A connection on its way.
pub(super) struct Pending {
    joining: Joining,
    until: Instant,
    pub(super) ready: bool,
}

impl Pending {
    /// For the poll.
    pub(super) fn poll(&self) -> (BorrowedFd<'_>, PollFlags) {
        let mut events = PollFlags::POLLIN;
        if self.joining.wants_write() {
            events |= PollFlags::POLLOUT;
        }
        (self.joining.socket(), events)
    }

    /// When it has taken too long.
    pub(super) fn deadline(&self) -> Instant {
        self.until
    }
}

impl Session {
    /// Everybody who may come back.
    fn resumable(&mut self) -> impl Iterator<Item = &mut Client> {
        let guests = self.guests.iter_mut().map(|g| &mut g.client);
        let all = self.client.iter_mut().chain(guests);
        all.filter(|c| c.link.stream().is_resumable())
    }

    /// Somebody connected and named this session.
    pub(super) fn connection(&mut self, fd: OwnedFd) {
        let keys: Vec<[u8; 32]> = self.resumable().map(|c| c.key).collect();
        if keys.is_empty() {
            return;
        }
        keep_alive(&fd, self.grace);
        let joining = server_config(&self.key, Peer::OneOf(keys))
            .map_err(Into::into)
            .and_then(|config| Joining::server(fd, config));
        let Ok(joining) = joining else {
            return;
        };
        if self.pending.len() >= PENDING_MAX {
            self.pending.remove(0);
        }
        self.pending.push(Pending {
            joining,
            until: Instant::now() + WITHIN,
            ready: true,
        });
    }

    /// Goes on with the connections that are ready for it.
    pub(super) fn rejoin(&mut self) {
        let mut i = 0;
        while i < self.pending.len() {
            if !std::mem::take(&mut self.pending[i].ready) || self.go_on(i) {
                i += 1;
            }
        }
    }

    /// Goes on with one connection; says whether it is still on its way.
    fn go_on(&mut self, i: usize) -> bool {
        loop {
            match self.pending[i].joining.step() {
                Ok(Step::Again) => return true,
                Ok(Step::Secure) => {}
                Ok(Step::Heard(peer)) => {
                    let joining = self.pending.remove(i).joining;
                    let Some(key) = joining.peer_key() else {
                        return false;
                    };
                    let fate = self
                        .resumable()
                        .find(|c| c.key == key)
                        .map(|c| c.resume(joining, peer));
                    if fate == Some(Fate::Gone) {
                        if self.client.as_ref().is_some_and(|c| c.key == key) {
                            self.vanished();
                        }
                        self.guests.retain(|g| g.client.key != key);
                    }
                    return false;
                }
                // A session is never refused by the one who connects to it.
                Ok(Step::Refused(_)) | Err(_) => {
                    self.pending.remove(i);
                    return false;
                }
            }
        }
    }

    /// Gives up those that take too long.
    pub(super) fn check_pending(&mut self, now: Instant) {
        self.pending.retain(|p| now < p.until);
    }
}
