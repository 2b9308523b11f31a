//! What one program of the daemon leaves for the next, which takes its place in the same process: sockets, the lock,
//! who came and was not served yet, and who was up. Knows the note; not how the doors are shut.

use crate::door::Visitor;
use nix::sys::signal::{SigSet, Signal};
use queue_exec::codec::{Malformed, Reader, Writer};
use queue_exec::takeover::{self, Inherited};
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

const MAGIC: &[u8] = b"queued 1\0";
/// Members that are told of at most.
const UP_MAX: usize = 65_535;
const NAME_MAX: usize = 253;

/// The sockets that the daemon listens on.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// For connections.
    pub tcp: Vec<TcpListener>,
    /// For datagrams.
    pub udp: Vec<UdpSocket>,
    /// For local programs.
    pub local: UnixListener,
}

/// What the program before knew.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// Members that were up; `None`: there was no program before.
    pub up: Option<Vec<String>>,
    /// Who came and was not served yet.
    pub visitors: Vec<Visitor>,
}

/// What this program leaves.
#[derive(Debug)]
pub(crate) struct Left {
    /// What it knew.
    pub before: Before,
    /// The queue-exec that it started.
    pub child: Option<i32>,
}

impl Sockets {
    /// Whether these are the addresses and the port that are wanted; no addresses: all.
    pub(crate) fn fit(&self, listen: &[IpAddr], port: u16) -> bool {
        let mut wanted: Vec<IpAddr> = listen.to_vec();
        wanted.sort_unstable();
        let fit = |at: Vec<SocketAddr>| {
            let mut ips: Vec<IpAddr> = at.iter().map(SocketAddr::ip).collect();
            ips.sort_unstable();
            let all = wanted.is_empty() && ips.iter().all(IpAddr::is_unspecified);
            at.iter().all(|a| a.port() == port) && (all || ips == wanted)
        };
        fit(self.tcp.iter().filter_map(|s| s.local_addr().ok()).collect())
            && fit(self.udp.iter().filter_map(|s| s.local_addr().ok()).collect())
    }

    /// The same ones once more.
    ///
    /// # Errors
    /// Out of descriptors.
    pub(crate) fn again(&self) -> io::Result<Self> {
        Ok(Self {
            tcp: self
                .tcp
                .iter()
                .map(TcpListener::try_clone)
                .collect::<Result<_, _>>()?,
            udp: self
                .udp
                .iter()
                .map(UdpSocket::try_clone)
                .collect::<Result<_, _>>()?,
            local: self.local.try_clone()?,
        })
    }
}

/// Takes signals, or keeps them for the next program: while there is no handler they would end us.
pub(crate) fn signals(taken: bool) {
    let mut set = SigSet::empty();
    for s in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(s);
    }
    let done = if taken {
        set.thread_unblock()
    } else {
        set.thread_block()
    };
    if let Err(e) = done {
        tracing::warn!("signals: {}", e.desc());
    }
}

/// Executes the program in our place. Returns only if that failed: then everything is as it was.
pub(crate) fn hand_over(program: &Path, sockets: &Sockets, lock: &File, left: &Left) -> io::Error {
    let mut fds: Vec<BorrowedFd<'_>> = vec![lock.as_fd(), sockets.local.as_fd()];
    let mut note = Writer::new(MAGIC);
    for fd in &fds {
        note.u32(number(*fd));
    }
    note.u32(left.child.map_or(0, i32::unsigned_abs));
    note.u32(sockets.tcp.len() as u32);
    for s in &sockets.tcp {
        note.u32(number(s.as_fd()));
        fds.push(s.as_fd());
    }
    note.u32(sockets.udp.len() as u32);
    for s in &sockets.udp {
        note.u32(number(s.as_fd()));
        fds.push(s.as_fd());
    }
    let up = left.before.up.as_deref().unwrap_or_default();
    note.list(&up[..up.len().min(UP_MAX)]);
    note.u32(left.before.visitors.len() as u32);
    for v in &left.before.visitors {
        let (kind, fd, said) = match v {
            Visitor::Local(s, said) => (0, s.as_fd(), &said[..]),
            Visitor::Remote(s) => (1, s.as_fd(), &[][..]),
        };
        note.u8(kind).u32(number(fd)).u32(said.len() as u32).fixed(said);
        fds.push(fd);
    }
    signals(false);
    let e = takeover::hand_over(program, &fds, &note.finish());
    signals(true);
    e
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

/// Reads what the program before left: the lock, the sockets, and the rest.
///
/// # Errors
/// It is of a version that left something else: then this one starts as if there had been none.
pub(crate) fn read(mut inherited: Inherited) -> Result<(File, Sockets, Left), Malformed> {
    let note = inherited.note().to_vec();
    let mut r = Reader::new(&note, MAGIC, "note of the queued before")?;
    let mut take = |number: u32| -> Result<OwnedFd, Malformed> {
        let lost = Malformed("note of the queued before: a descriptor is missing");
        inherited.take(number).ok_or(lost)
    };
    let lock = take(r.u32()?)?.into();
    let local = UnixListener::from(take(r.u32()?)?);
    let child = i32::try_from(r.u32()?).ok().filter(|p| *p > 0);
    let mut tcp = Vec::new();
    for _ in 0..r.u32()? {
        tcp.push(TcpListener::from(take(r.u32()?)?));
    }
    let mut udp = Vec::new();
    for _ in 0..r.u32()? {
        udp.push(UdpSocket::from(take(r.u32()?)?));
    }
    let up = Some(r.list(UP_MAX, NAME_MAX)?);
    let mut visitors = Vec::new();
    for _ in 0..r.u32()? {
        let (kind, fd, n) = (r.u8()?, take(r.u32()?)?, r.u32()?);
        let mut said = Vec::new();
        for _ in 0..n {
            said.push(r.u8()?);
        }
        visitors.push(match kind {
            0 => Visitor::Local(UnixStream::from(fd), said),
            _ => Visitor::Remote(TcpStream::from(fd)),
        });
    }
    let before = Before { up, visitors };
    Ok((lock, Sockets { tcp, udp, local }, Left { before, child }))
}
