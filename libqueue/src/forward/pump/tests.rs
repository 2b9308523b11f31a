//! Real sockets, both ends in one process.

use super::*;
use nix::sys::socket::{AddressFamily, SockType, socketpair};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;

/// Both ends, and the messages between them.
struct Both {
    session: Pump,
    front: Pump,
    /// What `queue` would connect to.
    made: Vec<UnixStream>,
}

impl Both {
    /// One round: messages both ways, and what is new gets a socket.
    fn round(&mut self, may_send: bool) {
        self.session.turn(may_send, true);
        while let Some(m) = self.session.outgoing() {
            self.front.receive(m, 0);
        }
        for (id, _) in self.front.unconnected() {
            let (ours, theirs) = UnixStream::pair().expect("sockets");
            ours.set_nonblocking(true).expect("non-blocking");
            self.front.adopt(id, ours.into(), Vec::new(), 0);
            self.made.push(theirs);
        }
        self.front.turn(may_send, true);
        while let Some(m) = self.front.outgoing() {
            self.session.receive(m, 0);
        }
    }

    fn until(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        for _ in 0..200_000 {
            self.round(true);
            if condition(self) {
                return;
            }
            thread::yield_now();
        }
        panic!("{what} did not happen");
    }
}

fn both() -> (Both, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("non-blocking");
    let address = listener.local_addr().expect("an address");
    let mut session = Pump::new(Side::Session).expect("a pump");
    session.listen(listener.into(), Service::X11);
    session.turn(true, false);
    let front = Pump::new(Side::Front).expect("a pump");
    let made = Vec::new();
    (Both { session, front, made }, address)
}

#[test]
fn megabytes_both_ways_and_half_close() {
    const LEN: usize = 3_000_000;
    let (mut b, address) = both();
    let client = thread::spawn(move || {
        let mut c = TcpStream::connect(address).expect("connected");
        let mut writer = c.try_clone().expect("a second one");
        let up = thread::spawn(move || {
            let bytes: Vec<u8> = (0..LEN).map(|i| (i * 7) as u8).collect();
            writer.write_all(&bytes).expect("written");
            writer.shutdown(std::net::Shutdown::Write).expect("ended");
        });
        let mut got = Vec::new();
        c.read_to_end(&mut got).expect("read");
        up.join().expect("up");
        got
    });
    b.until("a connection", |b| !b.made.is_empty());
    let mut server = b.made.remove(0);
    let server = thread::spawn(move || {
        let mut writer = server.try_clone().expect("a second one");
        let down = thread::spawn(move || {
            let bytes: Vec<u8> = (0..LEN).map(|i| (i * 11) as u8).collect();
            writer.write_all(&bytes).expect("written");
        });
        let mut got = Vec::new();
        server.read_to_end(&mut got).expect("read");
        down.join().expect("down");
        got
    });
    b.until("the end of both", |b| {
        b.session.open() == 0 && b.front.open() == 0
    });
    let (down, up) = (client.join().expect("client"), server.join().expect("server"));
    assert!(down.len() == LEN && down.iter().enumerate().all(|(i, b)| *b == (i * 11) as u8));
    assert!(up.len() == LEN && up.iter().enumerate().all(|(i, b)| *b == (i * 7) as u8));
}

#[test]
fn nobody_reads_and_nothing_grows() {
    let (mut b, address) = both();
    let mut client = TcpStream::connect(address).expect("connected");
    client.set_nonblocking(true).expect("non-blocking");
    b.until("a connection", |b| !b.made.is_empty());
    let (mut sent, mut stuck) = (0, 0);
    while stuck < 2000 {
        match client.write(&[7; 4096]) {
            Ok(n) => (sent, stuck) = (sent + n, 0),
            Err(_) => stuck += 1,
        }
        b.round(true);
    }
    assert!(b.front.waiting(1).0.len() <= super::super::WINDOW as usize);
    // The kernel's own buffers and one window.
    assert!(sent < 16 << 20, "{sent} bytes went nowhere");
    // And nothing spins: all that could be done is done.
    let (ready, _) = (b.session.watch.ready(), b.front.watch.ready());
    assert!(ready.is_empty(), "{ready:?}");
    drop(client);
    b.made.clear();
    b.until("the end", |b| b.session.open() == 0);
}

#[test]
fn refused_with_a_last_word() {
    let (mut b, address) = both();
    let mut client = TcpStream::connect(address).expect("connected");
    client.write_all(b"hello").expect("written");
    let mut id = None;
    for _ in 0..200_000 {
        b.session.turn(true, true);
        while let Some(m) = b.session.outgoing() {
            b.front.receive(m, 0);
        }
        id = b.front.unconnected().first().map(|(id, _)| *id);
        if id.is_some_and(|id| b.front.waiting(id).0 == b"hello") {
            break;
        }
    }
    b.front.refuse(id.expect("a connection"), b"no", "not you");
    b.until("the end", |b| b.session.open() == 0 && b.front.open() == 0);
    let mut got = Vec::new();
    client.read_to_end(&mut got).expect("read");
    assert_eq!(got, b"no");
    assert!(b.made.is_empty());
}

#[test]
fn given_up_means_turned_away() {
    let (mut b, address) = both();
    let mut old = TcpStream::connect(address).expect("connected");
    b.until("a connection", |b| !b.made.is_empty());
    b.session.give_up("detached");
    b.round(true);
    assert_eq!(old.read(&mut [0; 1]).expect("end"), 0);
    let mut late = TcpStream::connect(address).expect("the kernel accepts");
    for _ in 0..3 {
        b.round(true);
    }
    assert_eq!(late.read(&mut [0; 1]).unwrap_or(0), 0);
    assert_eq!((b.session.open(), b.front.open()), (0, 0));
}

#[test]
fn what_fails_to_connect_is_closed() {
    let (mut b, address) = both();
    let mut client = TcpStream::connect(address).expect("connected");
    for _ in 0..200_000 {
        b.session.turn(true, true);
        while let Some(m) = b.session.outgoing() {
            b.front.receive(m, 0);
        }
        if !b.front.unconnected().is_empty() {
            break;
        }
    }
    let id = b.front.unconnected()[0].0;
    // Both ends of a pair, and one is gone: what writing to it says is the reason.
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::Stream,
        None,
        SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
    )
    .expect("sockets");
    drop(theirs);
    b.front.adopt(id, ours, b"first".to_vec(), 0);
    b.until("the end", |b| b.session.open() == 0 && b.front.open() == 0);
    assert_eq!(client.read(&mut [0; 1]).expect("end"), 0);
}
