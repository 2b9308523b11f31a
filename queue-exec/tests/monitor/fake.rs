//! The fake session: takes a claim as the real one does, then obeys the lines it reads from the connection.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use queue_exec::client;
use queue_exec::codec::{Writer, hex};
use queue_exec::layout::Layout;
use queue_exec::protocol::{AttachState, FromSession, PACKET_MAX, Reply, Request, ToRunner, ToSession};
use queue_exec::ticket::Nonce;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

/// Prints three process ids: of one that has left the tree, of one in it, and of its top.
pub(crate) const TREE: &str =
    "exec 2>/dev/null; (setsid sleep 1000 >&2 & echo $!); sleep 1000 >&2 & echo $!; echo $$; exec 1>&2; wait";

/// Client of the socket at this path.
fn dial(socket: &str) -> io::Result<OwnedFd> {
    let run = Path::new(socket).parent().unwrap_or(Path::new("/")).to_owned();
    client::dial(&Layout {
        root: false,
        run,
        ..Layout::system()
    })
}

/// The fake zygote: forks on request, as the real one does. Ends at once where a file says so.
fn zygote(monitor: OwnedFd) -> Option<OwnedFd> {
    if std::env::current_exe().ok()?.with_file_name("no-zygote").exists() {
        return None;
    }
    let mut buf = [0; 16];
    loop {
        let (n, channel) = client::receive(monitor.as_fd(), &mut buf).ok()?;
        let channel = channel?;
        let cgroup = if &buf[..n] == b"C" {
            client::receive(monitor.as_fd(), &mut buf).ok()?.1
        } else {
            None
        };
        let mut pidfd: i32 = -1;
        // SAFETY: all-zero is a valid clone_args.
        let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
        args.flags = (libc::CLONE_PIDFD | libc::CLONE_PARENT) as u64;
        args.pidfd = (&raw mut pidfd) as u64;
        if let Some(dir) = &cgroup {
            args.flags |= 0x2_0000_0000;
            args.cgroup = dir.as_raw_fd() as u64;
        }
        // SAFETY: a fork of a process with one thread.
        match unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) } {
            0 => return Some(channel),
            pid => {
                // SAFETY: the kernel just made it for us.
                let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
                let packet = Writer::new(b"P").u32(pid as u32).finish();
                client::send(monitor.as_fd(), &packet, Some(pidfd.as_fd())).ok()?;
            }
        }
    }
}

pub(crate) fn tell(monitor: Option<&OwnedFd>, m: &FromSession) {
    if let Some(fd) = monitor {
        // It may have ended.
        let _ = client::send(fd.as_fd(), &m.encode(), None);
    }
}

pub(crate) fn run() {
    // SAFETY: by contract ours.
    let mut monitor = Some(unsafe { OwnedFd::from_raw_fd(3) });
    // SAFETY: no memory is involved.
    unsafe { libc::fcntl(3, libc::F_SETFD, libc::FD_CLOEXEC) };
    if std::env::args().nth(1).is_some_and(|a| a == "--zygote") {
        monitor = monitor.and_then(zygote);
        if monitor.is_none() {
            return;
        }
    }
    tell(monitor.as_ref(), &FromSession::Ready { session_key: [7; 32] });
    let mut packet = vec![0; PACKET_MAX];
    let Ok((n @ 1.., conn)) = client::receive(monitor.as_ref().unwrap().as_fd(), &mut packet) else {
        return;
    };
    let said = ToSession::decode(&packet[..n]);
    if let Ok(ToSession::Job(ToRunner::Hire {
        nonce,
        login,
        ruser,
        rhost,
        uid_min,
        allow_root,
        socket,
        spool,
        pam,
        ..
    })) = said
    {
        let hello =
            format!("{ruser}@{rhost} as {login} uid-min {uid_min} root {allow_root} pam {pam} in {spool}");
        let hired = crate::runner::Hired { nonce, socket, hello };
        return crate::runner::run(monitor.unwrap(), hired);
    }
    let Ok(ToSession::Claim {
        nonce,
        login,
        ruser,
        uid_min,
        allow_root,
        socket,
        cgroup,
        ..
    }) = said
    else {
        return;
    };
    let mut conn = File::from(conn.unwrap());
    tell(monitor.as_ref(), &FromSession::Running);
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() - 1;
    let env: Vec<String> = std::env::vars().map(|(k, _)| k).collect();
    let said = writeln!(
        conn,
        "hello {ruser} as {login} uid-min {uid_min} root {allow_root} cgroup {cgroup} fds {open} env {} pid {}",
        env.join(","),
        std::process::id()
    );
    if said.is_err() {
        return;
    }
    let mut stubborn = false;
    loop {
        let (from_conn, from_monitor) = wait(&conn, monitor.as_ref());
        if from_monitor {
            match hear(&mut conn, monitor.as_ref()) {
                Heard::Kill if !stubborn => {
                    tell(monitor.as_ref(), &FromSession::Ended { leave: false });
                    return;
                }
                Heard::Kill | Heard::Other => {}
                Heard::Gone => monitor = None,
            }
        }
        if monitor.is_none() {
            match adopt(&socket, nonce) {
                Some((fd, Reply::Done)) => {
                    monitor = Some(fd);
                    let _ = writeln!(conn, "adopted");
                }
                Some(_) => {
                    let _ = writeln!(conn, "denied");
                    return;
                }
                None => {}
            }
        }
        if from_conn && !obey(&mut conn, monitor.as_ref(), &mut stubborn) {
            return;
        }
    }
}

fn wait(conn: &File, monitor: Option<&OwnedFd>) -> (bool, bool) {
    let mut fds = vec![PollFd::new(conn.as_fd(), PollFlags::POLLIN)];
    fds.extend(monitor.map(|m| PollFd::new(m.as_fd(), PollFlags::POLLIN)));
    let timeout = if monitor.is_some() {
        PollTimeout::NONE
    } else {
        PollTimeout::from(20u8)
    };
    poll(&mut fds, timeout).unwrap();
    (
        fds[0].any().unwrap(),
        fds.get(1).is_some_and(|f| f.any().unwrap()),
    )
}

/// What the monitor said.
enum Heard {
    /// The session is to end.
    Kill,
    Other,
    Gone,
}

/// Reads one packet of the monitor, and says on the connection what it was.
fn hear(conn: &mut File, monitor: Option<&OwnedFd>) -> Heard {
    let mut packet = vec![0; PACKET_MAX];
    let Some(Ok((n @ 1.., fd))) = monitor.map(|m| client::receive(m.as_fd(), &mut packet)) else {
        return Heard::Gone;
    };
    let fd = fd.map(File::from);
    match ToSession::decode(&packet[..n]) {
        Ok(ToSession::Kill { by, signal }) => {
            let _ = writeln!(conn, "kill {signal} {by}");
            if signal == 0 { Heard::Kill } else { Heard::Other }
        }
        Ok(ToSession::Seen { sessions }) => {
            let each = sessions.iter().map(|s| format!(" {} {}", hex(&s.nonce), s.pid));
            let _ = writeln!(conn, "seen{}", each.collect::<String>());
            Heard::Other
        }
        // Further connections are told what they are for.
        Ok(ToSession::Connection) => {
            let _ = fd.map(|mut c| writeln!(c, "go on"));
            Heard::Other
        }
        Ok(ToSession::Attach {
            by,
            request,
            client_key,
            grant,
        }) => {
            let words = format!("{by} {} {} {}", hex(&request), hex(&client_key), hex(&grant));
            let _ = fd.map(|mut c| writeln!(c, "attach {words}"));
            Heard::Other
        }
        Ok(ToSession::Detach { by }) => {
            let _ = writeln!(conn, "detach {by}");
            let state = AttachState {
                detached: true,
                watchers: 2,
            };
            tell(monitor, &FromSession::State(state));
            Heard::Other
        }
        _ => Heard::Other,
    }
}

/// One command; `false` to end.
fn obey(conn: &mut File, monitor: Option<&OwnedFd>, stubborn: &mut bool) -> bool {
    let mut line = String::new();
    let mut byte = [0];
    while conn.read(&mut byte).unwrap_or(0) == 1 && byte[0] != b'\n' {
        line.push(char::from(byte[0]));
    }
    match line.as_str() {
        // A tree with a process that has left it: its own session, its parent gone.
        "spawn" => {
            let mut child = Command::new("sh")
                .args(["-c", TREE])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut pids = String::new();
            child.stdout.take().unwrap().read_to_string(&mut pids).unwrap();
            // It is the monitor's to end, and nobody's to wait for.
            std::mem::forget(child);
            writeln!(conn, "{}", pids.split_whitespace().collect::<Vec<_>>().join(" ")).unwrap();
        }
        "stubborn" => {
            *stubborn = true;
            writeln!(conn, "stubborn").unwrap();
        }
        "look" => tell(monitor, &FromSession::Look),
        "running" => tell(monitor, &FromSession::Running),
        "kill tree" => tell(monitor, &FromSession::KillTree),
        become_uid if become_uid.starts_with("become ") => {
            let uid: u32 = become_uid[7..].parse().unwrap();
            nix::unistd::setresuid(uid.into(), uid.into(), uid.into()).unwrap();
            writeln!(conn, "became").unwrap();
        }
        "end" | "leave" => {
            tell(
                monitor,
                &FromSession::Ended {
                    leave: line == "leave",
                },
            );
            return false;
        }
        "nonsense" => tell(monitor, &FromSession::Ready { session_key: [0; 32] }),
        "echo" => writeln!(conn, "echo").unwrap(),
        // "die", or the test is gone.
        _ => return false,
    }
    true
}

pub(crate) fn adopt(socket: &str, nonce: Nonce) -> Option<(OwnedFd, Reply)> {
    let fd = dial(socket).ok()?;
    let reply = client::ask(fd.as_fd(), &Request::Adopt { nonce }, None).ok()?;
    Some((fd, reply))
}

/// Asks from a user namespace of its own, and prints the answer.
pub(crate) fn ask_from_userns(socket: &str) {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).unwrap();
    let fd = dial_any(socket);
    let r = Request::Sign {
        target_cert: vec![],
        login: String::new(),
        nonce: [0; 16],
        request: [0; 32],
        client_key: [0; 32],
    };
    let _ = writeln!(io::stdout(), "{:?}", client::ask(fd.as_fd(), &r, None));
}

/// Without looking who listens.
pub(crate) fn dial_any(socket: &str) -> OwnedFd {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect};
    let fd = nix::sys::socket::socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    connect(fd.as_raw_fd(), &UnixAddr::new(socket).unwrap()).unwrap();
    fd
}
