//! A wire that is slow: packets between two hosts, held back for a while by a thread here.
//!
//! The hosts were told (`net.rs`) to send each other's packets to addresses of the wire; the bridge floods
//! them to the wire's port; a packet socket takes them, and later sends them on with the addresses set right.
//! Works for every protocol. Headers of segmentation offload travel along (`PACKET_VNET_HDR`), so that big
//! packets of hosts on one machine stay big and their check sums are made by who would have made them.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::net;
use crate::process::Process;

const ETH_P_ALL: u16 = 0x0003;
/// Size of `struct virtio_net_hdr`, which precedes each packet.
const VNET: usize = 10;
const PACKET_VNET_HDR: i32 = 15;

/// One slow wire between two hosts; dropping it stops it (packets then vanish).
pub(crate) struct Wire {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// Starts to carry packets between `a` and `b`, each `delay` late.
    pub(crate) fn start(switch: Process, number: u8, a: usize, b: usize, delay: Duration) -> Result<Self> {
        let socket = open(switch)?;
        let stop = Arc::new(AtomicBool::new(false));
        let asked = stop.clone();
        let run = move || carry(&socket, number, (a, b), delay, &asked);
        Ok(Self {
            stop,
            thread: Some(std::thread::spawn(run)),
        })
    }

    /// Waits for ever, for a process that does nothing else.
    pub(crate) fn keep(mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A packet socket at the wires' port, in the network of the switch.
fn open(switch: Process) -> Result<OwnedFd> {
    let space = switch.open()?;
    // A thread of its own: entering a network is for good, and per thread.
    let made = std::thread::spawn(move || -> io::Result<OwnedFd> {
        // SAFETY: system calls; the pointers are to local variables of the right type and size.
        unsafe {
            ok(libc::setns(space.as_raw_fd(), libc::CLONE_NEWNET))?;
            let protocol = ETH_P_ALL.to_be();
            let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            let raw = ok(libc::socket(libc::AF_PACKET, kind, i32::from(protocol)))?;
            let fd = OwnedFd::from_raw_fd(raw);
            let on = 1i32;
            let room = 64i32 << 20;
            let set =
                |level, name, value: *const i32| ok(libc::setsockopt(raw, level, name, value.cast(), 4));
            set(libc::SOL_PACKET, PACKET_VNET_HDR, &on)?;
            set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &room)?;
            set(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &room)?;
            let mut at: libc::sockaddr_ll = std::mem::zeroed();
            at.sll_family = libc::AF_PACKET as u16;
            at.sll_protocol = protocol;
            at.sll_ifindex = libc::if_nametoindex(c"wire1".as_ptr()) as i32;
            ok(libc::bind(raw, (&raw const at).cast(), size_of_val(&at) as u32))?;
            Ok(fd)
        }
    });
    made.join()
        .ok()
        .context("opening the wire")?
        .context("opening a packet socket")
}

fn ok(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn carry(socket: &OwnedFd, number: u8, (a, b): (usize, usize), delay: Duration, stop: &AtomicBool) {
    let fd = socket.as_raw_fd();
    let mut late: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut buffer = vec![0u8; 256 << 10];
    while !stop.load(Ordering::Relaxed) {
        // Short enough that a stop is noticed soon.
        let mut pause = Duration::from_millis(20);
        let now = Instant::now();
        while let Some((due, packet)) = late.front() {
            if *due > now {
                pause = pause.min(*due - now);
                break;
            }
            // SAFETY: the packet outlives the call. A packet that the kernel refuses is lost, as on any wire.
            unsafe { libc::send(fd, packet.as_ptr().cast(), packet.len(), 0) };
            late.pop_front();
        }
        let mut poll = libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        let time = libc::timespec {
            tv_sec: 0,
            tv_nsec: i64::from(pause.subsec_nanos()),
        };
        // SAFETY: one pollfd and one timespec, both local; no signal mask.
        unsafe { libc::ppoll(&mut poll, 1, &time, std::ptr::null()) };
        loop {
            // SAFETY: the buffer is as long as said.
            let n = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            if n <= 0 {
                break;
            }
            let packet = &mut buffer[..n as usize];
            if redirect(packet, number, a, b) || redirect(packet, number, b, a) {
                late.push_back((Instant::now() + delay, packet.to_vec()));
            }
        }
    }
}

/// If the packet is one that `from` sent to `to`: corrects its addresses.
fn redirect(packet: &mut [u8], number: u8, from: usize, to: usize) -> bool {
    let Some(header) = packet.get_mut(VNET..VNET + 12) else {
        return false;
    };
    if header[..6] != net::wire_mac(number, from, to) {
        return false;
    }
    header[..6].copy_from_slice(&net::mac(number, to));
    // The sender is who the receiver sends to: so the bridge learns where the wire is.
    header[6..].copy_from_slice(&net::wire_mac(number, to, from));
    true
}
