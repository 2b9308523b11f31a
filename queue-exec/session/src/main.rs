//! `queue-session`: the process at the executing end of one session. It waits, warm, to be claimed by the
//! monitor; looks the account up, becomes the user, and only then reads a byte of what the client sent. Or it is hired
//! to run batch jobs ([`job`]).
//!
//! Knows one session. Must not know other sessions, hosts, placement, or the daemon.

mod account;
mod alarm;
mod child;
mod forward;
mod job;
mod look;
mod monitor;
#[cfg_attr(not(feature = "pam"), path = "no_pam.rs")]
mod pam;
mod plan;
mod pump;
mod serve;
mod terminal;
mod zygote;

use account::Account;
use child::Init;
use libqueue::link::Link;
use libqueue::tls::{KeyPair, Peer, server_config};
use libqueue::wire::job::Cause;
use libqueue::wire::{Launch, LaunchError, SessionAnswer};
use monitor::Monitor;
use nix::poll::PollFlags;
use nix::sys::socket::{MsgFlags, send, setsockopt, sockopt};
use prost::Message as _;
use queue_exec::client;
use queue_exec::protocol::{FromSession, PACKET_MAX, ToRunner, ToSession};
use queue_init::ToInit;
use serve::{Begin, Inbox, Refused, Session};
use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// The descriptor that the monitor is found on.
const MONITOR_FD: i32 = 3;
/// How long TLS may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|a| a == "--version") {
        let text = concat!("queue-session ", env!("CARGO_PKG_VERSION"), "\n");
        return ExitCode::from(u8::from(std::io::stdout().write_all(text.as_bytes()).is_err()));
    }
    // SAFETY: the descriptor is ours by contract; whoever started us otherwise gets an error on first use.
    let monitor = unsafe { OwnedFd::from_raw_fd(MONITOR_FD) };
    // SAFETY: no memory is involved. Its children must not get the monitor's socket.
    unsafe { libc::fcntl(MONITOR_FD, libc::F_SETFD, libc::FD_CLOEXEC) };
    preload();
    let channel = if std::env::args_os().nth(1).is_some_and(|a| a == "--zygote") {
        zygote::serve(monitor)
    } else {
        Some(monitor)
    };
    match channel.and_then(run) {
        Some(()) => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    }
}

/// Loads what every session needs, and is no secret.
fn preload() {
    // Tables of the name service, and the libraries that it is configured to ask.
    let _ = account::look_up("root", "", 0, true);
    // Code and tables of the cryptography; the key is thrown away.
    if let Ok(key) = KeyPair::generate() {
        let _ = server_config(&key, Peer::Any);
    }
}

/// Everything that can be done before it is known for whom.
struct Warm {
    key: KeyPair,
    client_key: Arc<OnceLock<[u8; 32]>>,
    config: Arc<rustls::ServerConfig>,
    init: Init,
}

impl Warm {
    fn up() -> Option<Self> {
        // First: it must not inherit the key.
        let init = Init::start()
            .map_err(|e| log(&format!("no init process: {e}")))
            .ok()?;
        let key = KeyPair::generate().ok()?;
        let client_key = Arc::new(OnceLock::new());
        let config = server_config(&key, Peer::Later(client_key.clone())).ok()?;
        Some(Self {
            key,
            client_key,
            config,
            init,
        })
    }
}

/// One line for the monitor's log.
fn log(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "queue-session: {text}");
}

/// The bytes of a refusal, as they go on the connection in clear.
fn refusal(text: &str) -> Vec<u8> {
    answer(&SessionAnswer {
        code: 0,
        refused: queue_exec::protocol::printable(text),
        ..SessionAnswer::default()
    })
}

/// An answer as it goes on the connection in clear.
pub(crate) fn answer(a: &SessionAnswer) -> Vec<u8> {
    let body = a.encode_to_vec();
    [&(body.len() as u16).to_be_bytes()[..], &body].concat()
}

/// Nice value added while a session is only being prepared: it must not take the processor from launches that
/// are under way. Root's sessions only, because nobody else can go back.
const PREPARING: i32 = 10;

/// Sets the nice value of this process, and of another one.
fn set_nice(value: i32, other: i32) {
    for pid in [0, other] {
        // SAFETY: no memory is involved. A refusal costs only some speed.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, pid as libc::id_t, value) };
    }
}

fn run(monitor: OwnedFd) -> Option<()> {
    let root = nix::unistd::Uid::effective().is_root();
    // SAFETY: no memory is involved.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    if root {
        set_nice(nice + PREPARING, 0);
    }
    let warm = Warm::up()?;
    client::send(
        monitor.as_fd(),
        &FromSession::Ready {
            session_key: warm.key.public(),
        }
        .encode(),
        None,
    )
    .ok()?;
    let mut packet = vec![0; PACKET_MAX];
    let (n, conn) = client::receive(monitor.as_fd(), &mut packet).ok()?;
    let (first, conn) = (ToSession::decode(&packet[..n]).ok()?, conn);
    drop(packet);
    if root {
        set_nice(nice, warm.init.pid());
    }
    if let ToSession::Job(hire) = first {
        return hired(monitor, warm, hire);
    }
    let (
        ToSession::Claim {
            nonce,
            login,
            ruser,
            rhost,
            host,
            request,
            client_key,
            grant,
            pam,
            grace,
            uid_min,
            allow_root,
            socket,
            ..
        },
        Some(conn),
    ) = (first, conn)
    else {
        return None;
    };

    let slow = format!(
        "{host} could not look up account {login} within {} s: its name service or PAM does not answer",
        alarm::LIMIT
    );
    alarm::set(
        conn.as_raw_fd(),
        refusal(&slow),
        monitor.as_raw_fd(),
        FromSession::Failed { text: slow.clone() }.encode(),
    );
    let who = Who {
        login: &login,
        ruser: &ruser,
        rhost: &rhost,
        host: &host,
        pam,
        uid_min,
        allow_root,
    };
    let user = match become_somebody(&who, &warm.init, |_| {}) {
        Ok(user) => user,
        Err((_, text)) => {
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            let _ = send(conn.as_raw_fd(), &refusal(&text), flags);
            let _ = client::send(monitor.as_fd(), &FromSession::Failed { text }.encode(), None);
            return None;
        }
    };
    alarm::cancel();
    client::send(monitor.as_fd(), &FromSession::Running.encode(), None).ok()?;

    // From here on we are the user.
    let _ = warm.client_key.set(client_key);
    let peer = peer_address(&conn);
    let grace = Duration::from_secs(grace.max(1).into());
    keep_alive(&conn, grace);
    let mut link = Link::server(conn, warm.config).ok()?;
    link.prepend(&answer(&SessionAnswer {
        code: 0,
        grant,
        resume: true,
        ..SessionAnswer::default()
    }));
    let mut inbox = Inbox::new();
    link.handshake(HANDSHAKE, |e| inbox.event(e))
        .map_err(|e| log(&format!("session of {login} from {rhost}: {e}")))
        .ok()?;
    let end = Instant::now() + HANDSHAKE;
    let bytes = loop {
        if let Some(bytes) = inbox.launch.take() {
            inbox.launch = Some(Vec::new());
            break bytes;
        }
        link.flush_all(HANDSHAKE).ok()?;
        libqueue::link::wait(link.socket()?, PollFlags::POLLIN, end).ok()?;
        link.receive(|e| inbox.event(e)).ok()?;
    };
    let launch = checked(&bytes, &request);
    if launch.as_ref().is_ok_and(|l| l.resume) {
        link.make_resumable();
    }
    let monitor = Monitor::new(monitor, nonce, socket);
    if let Ok(Launch { look: Some(look), .. }) = &launch {
        look::Looker {
            look: look.clone(),
            link,
            init: warm.init,
            monitor,
            host,
            pam: user.pam,
        }
        .run();
        return Some(());
    }
    let mut session = Session::begin(Begin {
        launch,
        link,
        key: warm.key,
        client_key,
        grace,
        init: warm.init,
        monitor,
        host,
        account: user.account,
        client_address: peer,
        pam_env: user.pam_env,
        inbox,
    });
    session.run();
    // Before the monitor is told: it then ends whatever is left of us.
    pam::close(user.pam);
    session.end();
    Some(())
}

/// A session that runs jobs needs no key, and must not have one.
fn hired(monitor: OwnedFd, warm: Warm, hire: ToRunner) -> Option<()> {
    let Warm { init, .. } = warm;
    let ToRunner::Hire {
        nonce,
        login,
        ruser,
        rhost,
        host,
        pam,
        cgroup,
        uid_min,
        allow_root,
        socket,
        spool,
    } = hire
    else {
        return None;
    };
    let hire = job::Hire {
        nonce,
        login,
        ruser,
        rhost,
        host,
        pam,
        cgroup,
        uid_min,
        allow_root,
        socket,
        spool,
    };
    job::hired(monitor, init, hire)
}

/// The request, if it is the one that the ticket was signed for.
fn checked(bytes: &[u8], hash: &[u8; 32]) -> Result<Launch, Refused> {
    let wrong = |text: &str| (LaunchError::Request, text.to_owned());
    if aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref() != hash {
        return Err(wrong("the request is not the one that its ticket was signed for"));
    }
    Launch::decode(bytes).map_err(|_| wrong("malformed request"))
}

/// Whom to become, and what policy says about it.
struct Who<'a> {
    login: &'a str,
    ruser: &'a str,
    rhost: &'a str,
    host: &'a str,
    pam: bool,
    uid_min: u32,
    allow_root: bool,
}

/// The user that we have become.
struct User {
    account: Account,
    pam_env: Vec<Vec<u8>>,
    /// The open PAM session.
    pam: Option<pam::Holder>,
}

/// Looks the account up and becomes it; `as_root` is done in between.
///
/// # Errors
/// A line for people, and the cause that it has in the outcome of a job.
fn become_somebody(
    who: &Who<'_>,
    init: &Init,
    as_root: impl FnOnce(&Account),
) -> Result<User, (Cause, String)> {
    let host = who.host;
    let account = account::look_up(who.login, host, who.uid_min, who.allow_root)
        .map_err(|text| (Cause::Account, text))?;
    let (pam, pam_env) = if who.pam {
        let (holder, env) = pam::open(who.login, who.ruser, who.rhost)
            .map_err(|e| (Cause::Pam, format!("PAM on {host} refuses {}: {e}", who.login)))?;
        (Some(holder), env)
    } else {
        (None, Vec::new())
    };
    as_root(&account);
    if nix::unistd::Uid::effective().is_root() {
        let (uid, gid, groups) = (account.uid, account.gid, account.groups.clone());
        init.tell(&ToInit::Become { uid, gid, groups }, None)
            .map_err(|e| {
                let text = format!("the session's init process on {host} is gone: {e}");
                (Cause::Internal, text)
            })?;
    }
    account::become_user(&account).map_err(|e| {
        let text = format!(
            "the session on {host} could not become {}: {}",
            who.login,
            e.desc()
        );
        (Cause::Account, text)
    })?;
    Ok(User {
        account,
        pam_env,
        pam,
    })
}

/// The client's address as `SSH_CLIENT` has it: address, port, our port.
fn peer_address(conn: &OwnedFd) -> String {
    use nix::sys::socket::{SockaddrStorage, getpeername, getsockname};
    let show = |a: nix::Result<SockaddrStorage>| -> Option<(std::net::IpAddr, u16)> {
        let a = a.ok()?;
        a.as_sockaddr_in()
            .map(|a| (a.ip().into(), a.port()))
            .or_else(|| a.as_sockaddr_in6().map(|a| (a.ip().to_canonical(), a.port())))
    };
    match (
        show(getpeername(conn.as_raw_fd())),
        show(getsockname(conn.as_raw_fd())),
    ) {
        (Some((ip, port)), Some((_, own))) => format!("{ip} {port} {own}"),
        _ => String::new(),
    }
}

/// Seconds between two probes of an idle connection, at most.
const PROBE: u32 = 5;

/// A client's host that does not answer is noticed ([`libqueue::link::silence`]) well within the time of grace. Only
/// we end a connection because of that: the kernel's own limit is out of the way.
pub(crate) fn keep_alive(conn: &OwnedFd, grace: Duration) {
    let every = (grace.as_secs() / 8).clamp(1, PROBE.into()) as u32;
    let _ = setsockopt(conn, sockopt::TcpNoDelay, &true);
    let _ = setsockopt(conn, sockopt::KeepAlive, &true);
    let _ = setsockopt(conn, sockopt::TcpKeepIdle, &every);
    let _ = setsockopt(conn, sockopt::TcpKeepInterval, &every);
    let _ = setsockopt(conn, sockopt::TcpKeepCount, &127);
}
