//! Forwarding at the executing end: a display and an agent's socket that only exist while the session does, and that
//! lead to those of the caller. Runs as the user.
//!
//! The display listens as sshd's does: on `localhost`, TCP, from number 10 on. Anybody on this host can connect to
//! it, and gets nowhere without the cookie, which is in a file of the session's and checked where the true display
//! is. The agent's socket is in a directory that only the user can enter, and whoever connects is asked for his user.
//!
//! Knows sockets, files and the environment of the command; must not know the session's stream.

mod display;
mod place;
mod xauthority;

use libqueue::forward::Side;
use libqueue::forward::pump::{Pump, peer_uid};
use libqueue::wire::{self, Launch, Service, from_session};
use nix::unistd::geteuid;
use place::Place;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// What is forwarded in a session. Dropped, all of it is gone from this host.
pub(crate) struct Forwarding {
    pump: Pump,
    place: Place,
    /// Key of the client whose display and agent these are.
    owner: [u8; 32],
}

/// What came of a wish to forward.
#[derive(Default)]
pub(crate) struct Begun {
    /// `None`: nothing is forwarded.
    pub(crate) forwarding: Option<Forwarding>,
    /// `NAME=VALUE` for the command.
    pub(crate) env: Vec<Vec<u8>>,
    /// What could not be had, one line each: the command runs all the same.
    pub(crate) notices: Vec<String>,
}

/// Makes what the client with this key asked for. `pam_env` may name a directory that is the user's alone.
pub(crate) fn begin(launch: &Launch, pam_env: &[Vec<u8>], owner: [u8; 32]) -> Begun {
    let mut b = Begun::default();
    if launch.x11.is_none() && !launch.agent {
        return b;
    }
    let made = Place::make(pam_env).and_then(|place| {
        let mut pump = Pump::new(Side::Session)?;
        pump.admit(admit);
        Ok(Forwarding { pump, place, owner })
    });
    let mut f = match made {
        Ok(f) => f,
        Err(e) => {
            b.notices.push(format!("nothing is forwarded: {e}"));
            return b;
        }
    };
    if let Some(x11) = &launch.x11 {
        match f.display(x11) {
            Ok(env) => b.env.extend(env),
            Err(e) => b.notices.push(format!("X11 is not forwarded: {e}")),
        }
    }
    if launch.agent {
        match f.agent() {
            Ok(entry) => b.env.push(entry),
            Err(e) => b.notices.push(format!("the agent is not forwarded: {e}")),
        }
    }
    if !b.env.is_empty() {
        f.pump.turn(true, false);
        b.forwarding = Some(f);
    }
    b
}

/// Root may in any case; it could become the user as well.
fn admit(sock: BorrowedFd<'_>, service: Service) -> bool {
    let own = geteuid().as_raw();
    service != Service::Agent || peer_uid(sock).is_some_and(|uid| uid == own || uid == 0)
}

fn entry(name: &str, path: &Path) -> Vec<u8> {
    [name.as_bytes(), b"=", path.as_os_str().as_bytes()].concat()
}

impl Forwarding {
    fn display(&mut self, x11: &wire::X11) -> io::Result<[Vec<u8>; 2]> {
        let (number, listeners) = display::listen()?;
        let host = nix::sys::utsname::uname().map(|u| u.nodename().as_bytes().to_vec());
        let content = xauthority::file(&host.unwrap_or_default(), number, &x11.protocol, &x11.cookie);
        let path = self.place.write("Xauthority", &content)?;
        for l in listeners {
            self.pump.listen(l, Service::X11);
        }
        let display = format!("DISPLAY=localhost:{number}.{}", x11.screen);
        Ok([display.into_bytes(), entry("XAUTHORITY", &path)])
    }

    fn agent(&mut self) -> io::Result<Vec<u8>> {
        let (path, listener) = self.place.listen("agent")?;
        self.pump.listen(listener, Service::Agent);
        Ok(entry("SSH_AUTH_SOCK", &path))
    }

    /// Whether they are this client's.
    pub(crate) fn is_for(&self, key: &[u8; 32]) -> bool {
        self.owner == *key
    }

    /// For the poll of the session's loop.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.pump.fd()
    }

    /// Takes a message of the client's. `kept`: bytes that wait for it.
    pub(crate) fn receive(&mut self, m: wire::Forward, kept: u64) {
        self.pump.receive(m, kept);
    }

    /// Moves bytes. `may_send`: the client's connection takes more; `ready`: the poll said so.
    pub(crate) fn turn(&mut self, may_send: bool, ready: bool) {
        self.pump.turn(may_send, ready);
    }

    /// What is to be said to the client.
    pub(crate) fn outgoing(&mut self) -> Option<from_session::Kind> {
        self.pump.outgoing().map(from_session::Kind::Forward)
    }

    /// The client whose display and agent these are has left: who uses them is turned away from now on.
    pub(crate) fn give_up(&mut self) {
        self.pump.give_up("the caller has left");
        while self.pump.outgoing().is_some() {}
    }
}

#[cfg(test)]
mod tests;
