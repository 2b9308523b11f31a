//! Batch jobs: a session that is hired for a user and runs his jobs one after the other, each with its output in
//! files and its limits kept, whatever becomes of the daemons meanwhile. Knows one user on this host; not the
//! leader, the queue, or other hosts.

mod channel;
mod deliver;
mod ends;
mod home;
mod limits;
mod memory;
mod outcome;
mod output;
mod pump;
mod runner;
mod start;

use crate::account::Account;
use crate::child::Init;
use crate::{User, Who, alarm, become_somebody, log};
use channel::Channel;
use libqueue::wire::job::Cause;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use prost::Message as _;
use queue_exec::client;
use queue_exec::protocol::{FromRunner, FromSession, PACKET_MAX, ToRunner, ToSession};
use queue_exec::ticket::Nonce;
use runner::{Begin, Runner};
use start::Here;
use std::fs::OpenOptions;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;

/// How long a session that could not become the user waits for the job that it has to refuse, in milliseconds.
const REFUSE_WITHIN: u16 = 10_000;

/// What the monitor said.
pub(crate) struct Hire {
    pub(crate) nonce: Nonce,
    pub(crate) login: String,
    pub(crate) ruser: String,
    pub(crate) rhost: String,
    pub(crate) host: String,
    pub(crate) pam: bool,
    pub(crate) cgroup: bool,
    pub(crate) uid_min: u32,
    pub(crate) allow_root: bool,
    pub(crate) socket: String,
    pub(crate) spool: String,
}

/// Becomes the user and runs his jobs. `None`: it could not.
pub(crate) fn hired(monitor: OwnedFd, init: Init, h: Hire) -> Option<()> {
    let slow = format!(
        "{} could not look up account {} within {} s: its name service or PAM does not answer",
        h.host,
        h.login,
        alarm::LIMIT
    );
    // There is no client yet who could be told.
    alarm::set(
        -1,
        Vec::new(),
        monitor.as_raw_fd(),
        FromSession::Failed { text: slow }.encode(),
    );
    let spool = |a: &Account| home::make_spool(Path::new(&h.spool), a.uid, a.gid);
    let mut made = Err(String::new());
    let who = Who {
        login: &h.login,
        ruser: &h.ruser,
        rhost: &h.rhost,
        host: &h.host,
        pam: h.pam,
        uid_min: h.uid_min,
        allow_root: h.allow_root,
    };
    let became = become_somebody(&who, &init, |a| made = spool(a));
    alarm::cancel();
    let user = match became {
        Ok(user) => user,
        Err((cause, text)) => return refuse(&monitor, cause, text),
    };
    let User {
        account,
        pam_env,
        pam,
    } = user;
    client::send(monitor.as_fd(), &FromSession::Running.encode(), None).ok()?;
    if let Err(why) = &made {
        log(&format!("no spool for {}: {why}", h.login));
    }
    // Files get the permissions that their run says.
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").ok()?;
    Runner::new(Begin {
        init,
        channel: Channel::new(monitor, h.nonce, h.socket.clone()),
        here: Here {
            host: h.host,
            account,
            pam_env,
            spool: made.map(|()| home::Spool::open(h.spool.into())),
        },
        null: null.into(),
        cgroup: h.cgroup,
        pam,
        socket: h.socket,
    })
    .run();
    Some(())
}

/// Says why not: for the log, and as the outcome of the job that comes.
fn refuse(monitor: &OwnedFd, cause: Cause, text: String) -> Option<()> {
    client::send(
        monitor.as_fd(),
        &FromSession::Failed { text: text.clone() }.encode(),
        None,
    )
    .ok()?;
    let mut fds = [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(REFUSE_WITHIN))
        .ok()
        .filter(|n| *n > 0)?;
    let mut buf = vec![0; PACKET_MAX];
    let (n, _) = client::receive(monitor.as_fd(), &mut buf).ok()?;
    let answer = match ToSession::decode(&buf[..n]).ok()? {
        ToSession::Job(ToRunner::Job { key, .. }) => FromRunner::Ended {
            key,
            outcome: outcome::refused((cause, text)).encode_to_vec(),
            last: true,
        },
        ToSession::Job(ToRunner::Deliver { .. }) => FromRunner::Delivered {
            failed: text,
            hopeless: true,
        },
        _ => return None,
    };
    client::send(monitor.as_fd(), &FromSession::Job(answer).encode(), None).ok()?;
    None
}
