//! The sockets of forwarded connections: what can be read goes into the [`Table`], what came is
//! written. Never blocks. Both ends use it; the session's end listens as well.
//!
//! Knows sockets; must not know X11, displays, or who may connect: that is decided before a socket comes here.

use super::watch::{READ, WRITE, Watch};
use super::{DATA_MAX, Heard, MAX, Side, Table};
use crate::wire::{Forward, Service};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, SockFlag, accept4, recv, send, shutdown};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// Numbers of listeners begin here; below are those of connections.
const LISTENER: u64 = 1 << 32;
/// Messages of one connection that are read before the others get their turn.
const ROUNDS: usize = 4;
/// Bytes of messages that may wait for a peer which does not read. More means that it only makes us answer.
const BACKLOG_MAX: u64 = 12 << 20;

/// The local end of a connection.
#[derive(Debug)]
struct End {
    sock: OwnedFd,
    /// The kernel is still connecting it.
    connecting: bool,
    /// Written before everything else.
    first: Vec<u8>,
    /// Nothing more is written.
    shut: bool,
    watched: u32,
}

/// Somebody listens here.
#[derive(Debug)]
struct Listener {
    sock: OwnedFd,
    service: Service,
    watched: u32,
    /// No descriptor was left for another one while so many were open: not before some have gone.
    paused: Option<usize>,
}

/// Whether somebody who connects may.
pub type Admit = fn(BorrowedFd<'_>, Service) -> bool;

/// All sockets of one end.
#[derive(Debug)]
pub struct Pump {
    table: Table,
    watch: Watch,
    ends: BTreeMap<u32, End>,
    listeners: Vec<Listener>,
    admit: Admit,
    buf: Vec<u8>,
    /// Something was told by `receive` that `turn` has to look after.
    touched: bool,
    unreached: Option<(Service, Errno)>,
}

impl Pump {
    /// No connections.
    ///
    /// # Errors
    /// If the kernel has no descriptor left.
    pub fn new(side: Side) -> io::Result<Self> {
        Ok(Self {
            table: Table::new(side),
            watch: Watch::new()?,
            ends: BTreeMap::new(),
            listeners: Vec::new(),
            admit: |_, _| true,
            buf: Vec::new(),
            touched: false,
            unreached: None,
        })
    }

    /// For the poll of the loop: readable if [`turn`](Self::turn) has something to do.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.watch.fd()
    }

    /// Accepts connections from this socket, which is non-blocking and listens.
    pub fn listen(&mut self, sock: OwnedFd, service: Service) {
        self.listeners.push(Listener {
            sock,
            service,
            watched: 0,
            paused: None,
        });
    }

    /// Who may connect; everybody unless this is called.
    pub fn admit(&mut self, who: Admit) {
        self.admit = who;
    }

    /// Messages for the peer, to be sent in this order.
    pub fn outgoing(&mut self) -> Option<Forward> {
        self.table.outgoing()
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.table.len()
    }

    /// Takes a message of the peer's. `kept`: how many bytes wait for it.
    pub fn receive(&mut self, message: Forward, kept: u64) {
        if kept > BACKLOG_MAX {
            self.table.give_up("");
        }
        self.touched = true;
        if let Heard::Over(id, rest) = self.table.receive(message)
            && let Some(end) = self.ends.remove(&id)
        {
            // What came before the end is the other program's, as far as it can be had without waiting.
            if !end.connecting && !end.shut {
                let _ = write(&end.sock, &rest);
            }
        }
    }

    /// Connections that were opened by the peer and have no socket yet.
    pub fn unconnected(&self) -> Vec<(u32, Service)> {
        let ids = self.table.ids().into_iter();
        ids.filter(|id| !self.ends.contains_key(id))
            .filter_map(|id| Some((id, self.table.service(id)?)))
            .collect()
    }

    /// What came for a connection that has no socket yet, and whether that is all.
    pub fn waiting(&self, id: u32) -> (&[u8], bool) {
        (self.table.waiting(id), self.table.is_peer_ended(id))
    }

    /// Gives a connection its socket: non-blocking, may be connecting. `first` takes the place of the first `used`
    /// bytes that came.
    pub fn adopt(&mut self, id: u32, sock: OwnedFd, first: Vec<u8>, used: usize) {
        self.ends.insert(
            id,
            End {
                sock,
                connecting: true,
                first,
                shut: false,
                watched: 0,
            },
        );
        self.table.written(id, used);
        self.touched = true;
    }

    /// Ends a connection, with a last word for the program that opened it.
    pub fn refuse(&mut self, id: u32, last: &[u8], reason: &str) {
        self.table.send(id, last);
        self.table.close(id, reason);
        self.ends.remove(&id);
    }

    /// Ends everything: nothing is forwarded from now on, and who still connects is turned away.
    pub fn give_up(&mut self, reason: &str) {
        self.table.give_up(reason);
        self.ends.clear();
        self.touched = true;
    }

    /// A socket of [`adopt`](Self::adopt) that could not be connected since this was last asked, and why.
    pub fn unreached(&mut self) -> Option<(Service, Errno)> {
        self.unreached.take()
    }

    /// Moves bytes as far as they go, and says what is to be watched next. `may_send`: whether the peer's connection
    /// takes more. To be called before each poll; does nothing if nothing is ready.
    pub fn turn(&mut self, may_send: bool, ready: bool) {
        if ready {
            for token in self.watch.ready() {
                match u32::try_from(token) {
                    Ok(id) => {
                        if may_send {
                            self.read(id);
                        }
                        self.write(id);
                    }
                    Err(_) => self.accept((token - LISTENER) as usize),
                }
            }
        }
        if std::mem::take(&mut self.touched) {
            for id in self.ends.keys().copied().collect::<Vec<_>>() {
                self.write(id);
            }
        }
        self.look_after(may_send);
    }

    fn accept(&mut self, at: usize) {
        let Some(l) = self.listeners.get_mut(at) else {
            return;
        };
        while self.table.len() < MAX || self.table.has_given_up() {
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            let sock = match accept4(l.sock.as_raw_fd(), flags) {
                // SAFETY: the kernel just made it for us.
                Ok(fd) => unsafe { OwnedFd::from_raw_fd(fd) },
                Err(Errno::EINTR | Errno::ECONNABORTED) => continue,
                Err(Errno::EAGAIN) => return,
                Err(_) => {
                    l.paused = Some(self.ends.len());
                    return;
                }
            };
            if !(self.admit)(sock.as_fd(), l.service) {
                continue;
            }
            let Some(id) = self.table.open(l.service) else {
                continue;
            };
            let end = End {
                sock,
                connecting: false,
                first: Vec::new(),
                shut: false,
                watched: 0,
            };
            self.ends.insert(id, end);
        }
    }

    fn read(&mut self, id: u32) {
        for _ in 0..ROUNDS {
            let room = self.table.room(id);
            let Some(end) = self.ends.get(&id).filter(|e| room > 0 && !e.connecting) else {
                return;
            };
            self.buf.resize(DATA_MAX, 0);
            match recv(
                end.sock.as_raw_fd(),
                &mut self.buf[..room],
                MsgFlags::MSG_DONTWAIT,
            ) {
                Ok(0) => self.table.end(id),
                Ok(n) => {
                    self.table.send(id, &self.buf[..n]);
                    continue;
                }
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => {}
                Err(e) => self.table.close(id, e.desc()),
            }
            break;
        }
        self.forget_if_over(id);
    }

    fn write(&mut self, id: u32) {
        let Some(end) = self.ends.get_mut(&id) else { return };
        if end.connecting {
            match connected(&end.sock) {
                Ok(true) => end.connecting = false,
                Ok(false) => return,
                Err(e) => {
                    self.unreached = self.table.service(id).map(|s| (s, e));
                    return self.refuse(id, &[], e.desc());
                }
            }
        }
        let mut result = Ok(());
        if !end.first.is_empty() {
            result = write(&end.sock, &end.first).map(|n| drop(end.first.drain(..n)));
        }
        if end.first.is_empty() && !self.table.waiting(id).is_empty() {
            let written = write(&end.sock, self.table.waiting(id));
            result = written.map(|n| self.table.written(id, n));
        }
        if let Err(e) = result {
            // Nobody reads there any more, and nobody who does not read needs to be read.
            return self.refuse(id, &[], e.desc());
        }
        if end.first.is_empty()
            && self.table.waiting(id).is_empty()
            && self.table.is_peer_ended(id)
            && !std::mem::replace(&mut end.shut, true)
        {
            let _ = shutdown(end.sock.as_raw_fd(), Shutdown::Write);
        }
        self.forget_if_over(id);
    }

    fn forget_if_over(&mut self, id: u32) {
        if self.table.service(id).is_none() {
            self.ends.remove(&id);
        }
    }

    /// Watches each socket for what it is wanted for.
    fn look_after(&mut self, may_send: bool) {
        let mut broken = Vec::new();
        for (id, end) in &mut self.ends {
            let mut wanted = 0;
            if end.connecting || !end.first.is_empty() || !self.table.waiting(*id).is_empty() {
                wanted |= WRITE;
            }
            if may_send && !end.connecting && self.table.room(*id) > 0 {
                wanted |= READ;
            }
            if !change(&self.watch, &end.sock, u64::from(*id), &mut end.watched, wanted) {
                broken.push(*id);
            }
        }
        for id in broken {
            self.refuse(id, &[], "no memory for another connection");
        }
        let takes = self.table.has_given_up() || (may_send && self.table.len() < MAX);
        let open = self.ends.len();
        for (i, l) in self.listeners.iter_mut().enumerate() {
            l.paused = l.paused.filter(|n| open >= *n);
            let wanted = if takes && l.paused.is_none() { READ } else { 0 };
            change(&self.watch, &l.sock, LISTENER + i as u64, &mut l.watched, wanted);
        }
    }
}

/// Whether the watch could be changed.
fn change(watch: &Watch, sock: &OwnedFd, token: u64, watched: &mut u32, wanted: u32) -> bool {
    if *watched == wanted {
        return true;
    }
    let done = watch.set(sock.as_fd(), token, *watched, wanted).is_ok();
    if done {
        *watched = wanted;
    }
    done
}

/// Whether a connection has been made.
fn connected(sock: &OwnedFd) -> Result<bool, Errno> {
    let failed = nix::sys::socket::getsockopt(sock, nix::sys::socket::sockopt::SocketError)?;
    if failed != 0 {
        return Err(Errno::from_raw(failed));
    }
    match nix::sys::socket::getpeername::<nix::sys::socket::SockaddrStorage>(sock.as_raw_fd()) {
        Ok(_) => Ok(true),
        Err(Errno::ENOTCONN) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Writes what can be written without waiting.
fn write(sock: &OwnedFd, mut bytes: &[u8]) -> Result<usize, Errno> {
    let mut done = 0;
    while !bytes.is_empty() {
        match send(
            sock.as_raw_fd(),
            bytes,
            MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
        ) {
            Ok(n) => {
                done += n;
                bytes = &bytes[n..];
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => break,
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// The user at the other end of a unix socket.
pub fn peer_uid(sock: BorrowedFd<'_>) -> Option<u32> {
    let peer = nix::sys::socket::getsockopt(&sock, nix::sys::socket::sockopt::PeerCredentials);
    peer.ok().map(|p| p.uid())
}

#[cfg(test)]
mod tests;
