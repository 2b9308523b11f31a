//! Strangers at the port: crowds, slow talkers, garbage, floods. They have no key and no name.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libqueue::frame;
use libqueue::tls::KeyPair;
use libqueue::wire::job::{KIND_JOBS, KIND_WORK};
use libqueue::wire::{
    KIND_ATTACH, KIND_CONTROL, KIND_JOIN, KIND_MEMBER, KIND_RESUME, KIND_SESSION, preamble,
};
use libtest_mimic::Trial;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn};
use queue_harness::{Cluster, LIMIT, Running, Status, wait_until};

use super::play::{connect, tell, tls, until_closed};
use super::{attacker, daemon, descriptors, figure, launch, memory, port, reported, unharmed};
use crate::world::{World, state};

/// With 10,000 strangers at the door a launch takes no longer than this,
const CROWDED: Duration = Duration::from_secs(2);
/// and half of them no longer than this.
const CROWDED_MEDIAN: Duration = Duration::from_millis(500);
/// Memory that strangers may make a daemon use.
const GROWTH: u64 = 64 << 20;
/// Whoever talks slowly is heard for so long at most.
const PATIENCE: Duration = Duration::from_secs(16);
/// All kinds of connections.
const KINDS: [u8; 8] = [
    KIND_MEMBER,
    KIND_JOIN,
    KIND_SESSION,
    KIND_CONTROL,
    KIND_WORK,
    KIND_JOBS,
    KIND_RESUME,
    KIND_ATTACH,
];
/// Those whose preamble has a body, and no TLS with queued after it.
const WITH_BODY: [u8; 3] = [KIND_SESSION, KIND_RESUME, KIND_ATTACH];

pub(super) fn trials(w: &Arc<World>) -> Vec<Trial> {
    vec![
        w.alone("hostile::a_crowd_takes_no_place_of_members", a_crowd),
        w.alone("hostile::a_crowd_that_shakes_hands", a_crowd_that_shakes_hands),
        w.shared("hostile::slow_talkers_are_cut_off", slow_talkers),
        w.shared("hostile::garbage_is_closed", garbage_is_closed),
        w.alone("hostile::a_flood_of_datagrams", a_flood_of_datagrams),
    ]
}

// ---- Crowds ------------------------------------------------------------------------------------------

/// Addresses of a host beside its own.
fn more_addresses(c: &Cluster, k: usize, number: usize) -> Result<Vec<String>> {
    let base = c.host(k).address();
    let net = base.rsplit_once('.').context("no address")?.0.to_owned();
    let all: Vec<String> = (0..number).map(|i| format!("{net}.{}", 120 + i)).collect();
    for ip in &all {
        c.host(k).sh(&format!("ip addr replace {ip}/24 dev eth0")).ok()?;
    }
    Ok(all)
}

/// What launches and members notice while somebody is at it.
fn meanwhile(c: &Cluster, launches: usize) -> Result<()> {
    let mut took = Vec::new();
    for _ in 0..launches {
        took.push(launch(c)?);
        for (at, name) in [(1, "h2"), (2, "h1"), (2, "h3"), (3, "h2")] {
            let s = state(c, at, name);
            ensure!(s == "up", "h{at} finds {name} {s}");
        }
    }
    took.sort();
    let (half, worst) = (took[took.len() / 2], took[took.len() - 1]);
    figure("launches meanwhile", format!("{half:?}, the slowest {worst:?}"));
    ensure!(worst <= CROWDED, "a launch took {worst:?}: {took:?}");
    ensure!(
        half <= CROWDED_MEDIAN,
        "half of the launches took {half:?}: {took:?}"
    );
    Ok(())
}

/// The crowd has gone, and has left nothing in the daemon `h2`, which had `fds` descriptors before.
fn over(crowd: Running, grown: u64, h2: i32, fds: usize) -> Result<()> {
    let out = crowd.wait(LIMIT)?;
    figure("the crowd", out.text().replace('\n', ", "));
    ensure!(out.status == Status::Exit(0), "{out:?}");
    ensure!(grown < GROWTH, "queued grew by {grown} bytes");
    wait_until(LIMIT, "the descriptors to be free again", || {
        descriptors(h2) <= fds + 8
    })
}

fn a_crowd(c: &Cluster) -> Result<()> {
    let sources = more_addresses(c, 4, 40)?;
    let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
    let h2 = daemon(c, 2)?;
    launch(c)?;
    let (fds, before) = (descriptors(h2), memory(h2)?);
    let to = port(c, 2);
    let args: Vec<&str> = [to.as_str(), "10000"].into_iter().chain(sources).collect();
    let crowd = attacker(c, 4, "root", "crowd", &args).spawn_piped()?;
    wait_until(LIMIT, "the crowd", || {
        String::from_utf8_lossy(&crowd.stdout()).contains("asked: ")
    })
    .with_context(|| String::from_utf8_lossy(&crowd.stderr()).into_owned())?;
    let result = meanwhile(c, 25);
    let grown = memory(h2)?.saturating_sub(before);
    figure(
        "grown by",
        format!("{} KiB, {} descriptors", grown >> 10, descriptors(h2) - fds),
    );
    result?;
    over(crowd, grown, h2, fds)?;
    launch(c)?;
    unharmed(c, 2, h2)
}

/// Holds so many connections that say nothing, and makes each anew that is closed, until its input ends.
pub(super) fn crowd(to: &str, number: usize, sources: &[&str]) -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("descriptors")?;
    ensure!(
        most > number as u64 + 100,
        "only {most} descriptors are to be had"
    );
    let to: SocketAddr = to.parse()?;
    let SocketAddr::V4(to) = to else {
        anyhow::bail!("an IPv4 address is wanted")
    };
    let to = SockaddrIn::from(to);
    let open = |i: usize| -> Result<OwnedFd> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let s = socket::socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
        let from: SocketAddr = format!("{}:0", sources[i % sources.len()]).parse()?;
        let SocketAddr::V4(from) = from else {
            anyhow::bail!("an IPv4 address is wanted")
        };
        socket::setsockopt(&s, socket::sockopt::ReuseAddr, &true)?;
        socket::bind(s.as_raw_fd(), &SockaddrIn::from(from))?;
        match socket::connect(s.as_raw_fd(), &to) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(s),
            Err(e) => Err(e.into()),
        }
    };
    let mut all = VecDeque::with_capacity(number);
    for i in 0..number {
        all.push_back(open(i)?);
    }
    tell("asked", number);
    // Every connection's fate is looked at in turn; those that were closed are made anew, 10,000 a second at most.
    let begun = Instant::now();
    let (mut made, mut closed, mut looked) = (number, 0u64, 0usize);
    let mut stdin = [nix::libc::pollfd {
        fd: 0,
        events: nix::libc::POLLIN,
        revents: 0,
    }];
    while begun.elapsed() < Duration::from_secs(90) {
        // SAFETY: one descriptor; a millisecond.
        if unsafe { nix::libc::poll(stdin.as_mut_ptr(), 1, 1) } > 0 {
            break;
        }
        for _ in 0..10 {
            let Some(s) = all.pop_front() else { break };
            looked += 1;
            let mut byte = [0u8; 16];
            match socket::recv(s.as_raw_fd(), &mut byte, socket::MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EAGAIN | Errno::ENOTCONN) => all.push_back(s),
                _ => {
                    closed += 1;
                    drop(s);
                    // Out of ports for a moment, perhaps.
                    if let Ok(s) = open(made) {
                        made += 1;
                        all.push_back(s);
                    }
                }
            }
        }
    }
    tell("made", made);
    tell("closed", closed);
    tell("looked", looked);
    Ok(())
}

fn a_crowd_that_shakes_hands(c: &Cluster) -> Result<()> {
    let h2 = daemon(c, 2)?;
    launch(c)?;
    let (fds, before) = (descriptors(h2), memory(h2)?);
    let to = port(c, 2);
    let shakers = attacker(c, 4, "root", "shakers", &[&to]).spawn_piped()?;
    wait_until(LIMIT, "the crowd", || {
        String::from_utf8_lossy(&shakers.stdout()).contains("shaking: ")
    })?;
    let result = meanwhile(c, 15);
    let grown = memory(h2)?.saturating_sub(before);
    figure("grown by", format!("{} KiB", grown >> 10));
    result?;
    over(shakers, grown, h2, fds)?;
    unharmed(c, 2, h2)
}

/// From several threads: all the work and memory that a stranger can cause. Handshakes, then a large question that
/// never ends.
pub(super) fn shakers(to: &str) -> Result<()> {
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let shake = {
        let (to, stop) = (to.to_owned(), stop.clone());
        move |i: usize| {
            let Ok(key) = KeyPair::generate() else { return 0 };
            let mut held = VecDeque::new();
            let mut n = 0u32;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let kind = [KIND_JOBS, KIND_CONTROL, KIND_JOIN, KIND_MEMBER][i % 4];
                if let Ok(mut t) = tls(&to, kind, &key) {
                    n += 1;
                    // As much as may be announced, but for the last byte.
                    for size in [1usize << 20, 64 << 10, 4 << 10] {
                        let _ = t.write_all(&(size as u32).to_be_bytes());
                        if t.write_all(&vec![0; size - 1]).is_ok() {
                            break;
                        }
                    }
                    held.push_back(t);
                }
                if held.len() > 100 {
                    held.pop_front();
                }
            }
            n
        }
    };
    let threads: Vec<_> = (0..8)
        .map(|i| {
            let shake = shake.clone();
            std::thread::spawn(move || shake(i))
        })
        .collect();
    tell("shaking", threads.len());
    let _ = std::io::stdin().read(&mut [0]);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let n: u32 = threads.into_iter().filter_map(|t| t.join().ok()).sum();
    tell("handshakes", n);
    Ok(())
}

// ---- Slow talkers ------------------------------------------------------------------------------------

fn slow_talkers(c: &Cluster) -> Result<()> {
    let out = attacker(c, 4, "root", "loris", &[&port(c, 1)]).ok()?;
    let told = reported(&out, "closed");
    // Each kind: nothing said, slow in the preamble; four of them also in the body or in TLS, and in a frame after it.
    ensure!(told.len() >= 20, "{out:?}");
    for line in &told {
        let seconds: f64 = line
            .rsplit(' ')
            .next()
            .and_then(|s| s.parse().ok())
            .with_context(|| line.clone())?;
        ensure!(seconds <= PATIENCE.as_secs_f64(), "heard for too long: {line}");
    }
    ensure!(reported(&out, "open").is_empty(), "{out:?}");
    figure("slow talkers", told.join("; "));
    Ok(())
}

/// One byte a second, in every part of every kind of connection; one thread each.
pub(super) fn loris(to: &str) -> Result<()> {
    let mut threads = Vec::new();
    let mut slow = |name: String, first: Vec<u8>, rest: Vec<u8>| {
        let to = to.to_owned();
        threads.push(std::thread::spawn(move || {
            let begun = Instant::now();
            let result = connect(&to).and_then(|mut s| {
                s.write_all(&first)?;
                drip(&mut s, &rest, begun)
            });
            said(&name, result);
        }));
    };
    slow("silent".into(), vec![], vec![]);
    for kind in KINDS {
        let k = char::from(kind);
        slow(format!("{k} preamble"), vec![], preamble(kind, &[0; 100]));
        if WITH_BODY.contains(&kind) {
            slow(
                format!("{k} body"),
                preamble(kind, &[0; 100])[..20].to_vec(),
                vec![0; 88],
            );
            continue;
        }
        slow(format!("{k} before TLS"), preamble(kind, &[]), vec![]);
        // The beginning of a ClientHello.
        let hello = [&[22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3][..], &[7; 240]].concat();
        slow(format!("{k} TLS"), preamble(kind, &[]), hello);
    }
    for kind in KINDS.into_iter().filter(|k| !WITH_BODY.contains(k)) {
        let to = to.to_owned();
        threads.push(std::thread::spawn(move || {
            let name = format!("{} frame", char::from(kind));
            let begun = Instant::now();
            let result = KeyPair::generate()
                .map_err(Into::into)
                .and_then(|key| tls(&to, kind, &key))
                .and_then(|mut t| {
                    let rest = [&200u32.to_be_bytes()[..], &[10; 196]].concat();
                    drip(&mut t, &rest, begun)
                });
            said(&name, result);
        }));
    }
    for t in threads {
        t.join().ok().context("a thread broke")?;
    }
    Ok(())
}

fn said(name: &str, result: Result<Duration>) {
    match result {
        Ok(after) => tell("closed", format!("{name} after {:.1}", after.as_secs_f64())),
        Err(e) => tell("open", format!("{name}: {e:#}")),
    }
}

/// A byte a second; when the other end closed.
fn drip(s: &mut (impl Read + Write), bytes: &[u8], begun: Instant) -> Result<Duration> {
    for b in bytes {
        if s.write_all(&[*b]).and_then(|()| s.flush()).is_err() {
            return Ok(begun.elapsed());
        }
        std::thread::sleep(Duration::from_secs(1));
        if begun.elapsed() > 2 * PATIENCE {
            anyhow::bail!("still heard after {:?}", begun.elapsed());
        }
    }
    until_closed(s, begun)
}

// ---- Garbage -----------------------------------------------------------------------------------------

fn garbage_is_closed(c: &Cluster) -> Result<()> {
    let (h1, before) = (daemon(c, 1)?, memory(daemon(c, 1)?)?);
    let out = attacker(c, 4, "root", "garbage", &[&port(c, 1)]).ok()?;
    let sent: usize = reported(&out, "sent").first().context("no count")?.parse()?;
    ensure!(sent >= 3000, "{out:?}");
    ensure!(reported(&out, "open").is_empty(), "{out:?}");
    ensure!(memory(h1)?.saturating_sub(before) < GROWTH, "queued grew");
    launch(c)?;
    unharmed(c, 1, h1)
}

/// A random number, the same each time.
struct Lots(u64);

impl Lots {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

/// Bytes that mean nothing, in every place where bytes are read.
pub(super) fn garbage(to: &str) -> Result<()> {
    let mut lots = Lots(0x9e37_79b9_7f4a_7c15);
    let mut sent = 0;
    // In clear: nothing of ours; a preamble and then anything; lengths that are none.
    for i in 0..3000 {
        let kind = KINDS[i % KINDS.len()];
        let n = (lots.next() % 600) as usize;
        let bytes = match i % 5 {
            0 => lots.bytes(n),
            1 => [preamble(kind, &[]), lots.bytes(n)].concat(),
            2 => preamble(lots.next() as u8, &lots.bytes(n)),
            // More than any body may have, or than comes.
            3 => [b"QUE1", &[kind, 0, 0xff, 0xff][..], &lots.bytes(n)].concat(),
            _ => [b"QUE1", &[kind, lots.next() as u8][..], &lots.bytes(2)].concat(),
        };
        let mut s = connect(to)?;
        let _ = s.write_all(&bytes);
        // Half of them wait for what the other end does, those that are closed at once do not wait long.
        let _ = s.shutdown(std::net::Shutdown::Write);
        if i % 2 == 0 {
            said_if_open("in clear", until_closed(&mut s, Instant::now()));
        }
        sent += 1;
    }
    // After TLS: lengths that are none, frames that do not decode, frames of others.
    let key = KeyPair::generate()?;
    for i in 0..200 {
        let kind = KINDS[i % KINDS.len()];
        if WITH_BODY.contains(&kind) {
            continue;
        }
        let n = (lots.next() % 2000) as usize;
        let bytes = match i % 3 {
            0 => [&u32::MAX.to_be_bytes()[..], &lots.bytes(n)].concat(),
            1 => [&(n as u32).to_be_bytes()[..], &lots.bytes(n)].concat(),
            _ => frame::encode(&libqueue::wire::Member {
                kind: Some(libqueue::wire::member::Kind::Bye("\u{1b}[2J".repeat(100))),
            }),
        };
        let Ok(mut t) = tls(to, kind, &key) else { continue };
        let _ = t.write_all(&bytes);
        let _ = t.flush();
        let _ = t.sock.shutdown(std::net::Shutdown::Write);
        said_if_open("after TLS", until_closed(&mut t, Instant::now()));
        sent += 1;
    }
    tell("sent", sent);
    Ok(())
}

fn said_if_open(name: &str, result: Result<Duration>) {
    if let Err(e) = result {
        tell("open", format!("{name}: {e:#}"));
    }
}

// ---- Datagrams ---------------------------------------------------------------------------------------

fn a_flood_of_datagrams(c: &Cluster) -> Result<()> {
    let h2 = daemon(c, 2)?;
    let before = memory(h2)?;
    let flood = attacker(c, 4, "root", "datagrams", &[&port(c, 2)]).spawn_piped()?;
    wait_until(LIMIT, "the flood", || {
        String::from_utf8_lossy(&flood.stdout()).contains("flooding: ")
    })?;
    // Longer than it takes to be called dead.
    let begun = Instant::now();
    let mut result = Ok(());
    while begun.elapsed() < Duration::from_secs(10) && result.is_ok() {
        result = meanwhile(c, 3);
    }
    let out = flood.wait(LIMIT)?;
    figure("the flood", out.text().replace('\n', ", "));
    result?;
    let grown = memory(h2)?.saturating_sub(before);
    ensure!(grown < GROWTH, "queued grew by {grown} bytes");
    unharmed(c, 2, h2)
}

/// Datagrams of all lengths with nothing of ours in them, or a head that could be ours, as fast as they go.
pub(super) fn datagrams(to: &str) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let to: SocketAddr = to.parse()?;
    let mut lots = Lots(77);
    let some: Vec<Vec<u8>> = (0..256)
        .map(|i| {
            let n = (lots.next() % 1500) as usize;
            let mut b = lots.bytes(n.max(64));
            if i % 2 == 0 {
                b[0] = 1;
            }
            b
        })
        .collect();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = stop.clone();
    let thread = std::thread::spawn(move || {
        let mut n = 0u64;
        while !flag.load(std::sync::atomic::Ordering::Relaxed) {
            for b in &some {
                n += u64::from(socket.send_to(b, to).is_ok());
            }
        }
        n
    });
    tell("flooding", to);
    let _ = std::io::stdin().read(&mut [0]);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    tell("sent", thread.join().ok().context("the thread broke")?);
    Ok(())
}

/// Asks to be admitted by a name, without a token that counts.
pub(super) fn join_as(to: &str, name: &str) -> Result<()> {
    let mut t = tls(to, KIND_JOIN, &KeyPair::generate()?)?;
    let offer: libqueue::wire::JoinOffer = frame::read(&mut t)?;
    let wanted = libqueue::wire::JoinRequest {
        token: name.into(),
        secret: name.into(),
        name: name.into(),
        force: true,
        clock_ms: offer.clock_ms,
        host_key: vec![1; 32],
        port: 7838,
        ..libqueue::wire::JoinRequest::default()
    };
    t.write_all(&frame::encode(&wanted))?;
    let reply: libqueue::wire::JoinReply = frame::read(&mut t)?;
    tell(
        "answered",
        reply.error.map(|e| format!("{:?}", e.text)).unwrap_or_default(),
    );
    Ok(())
}
