//! Forwarding at the caller's end: what somebody connects to at the executing end is connected to our display, or to
//! our agent, and only if that was asked for (`-X`, `-A`).
//!
//! The true cookie never leaves this host: the session gets one that was made for it, and what comes with it gets the
//! true one in its place; what comes without it gets nowhere. Knows displays and agents; must not know the session's
//! stream.

pub mod display;
pub mod setup;
pub mod xauthority;

use crate::forms::Run;
use crate::launch::Session;
use crate::messages::say;
use crate::sys;
use display::Display;
use libqueue::forward::Side;
use libqueue::forward::pump::Pump;
use libqueue::wire::{self, Service, to_session};
use nix::errno::Errno;
use setup::Verdict;
use std::ffi::OsString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Length of a cookie.
const COOKIE: usize = 16;

/// What is forwarded, before there is a session.
#[derive(Debug, Default)]
pub struct Wanted {
    x11: Option<X11>,
    agent: Option<PathBuf>,
}

/// Our display, and how to tell who may use it.
#[derive(Debug)]
struct X11 {
    display: Display,
    /// Its name, as the user has it.
    name: String,
    /// What programs there have to show.
    fake: Vec<u8>,
    /// What the display wants to see; empty: it asks only who we are.
    cookie: Vec<u8>,
}

/// What of our surroundings is needed.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// `DISPLAY`.
    pub display: Option<OsString>,
    /// The file with the cookies.
    pub cookies: Option<PathBuf>,
    /// `SSH_AUTH_SOCK`.
    pub agent: Option<OsString>,
}

impl Surroundings {
    /// Ours.
    pub fn ours() -> Self {
        let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
        Self {
            display: var("DISPLAY"),
            cookies: var("XAUTHORITY")
                .map(PathBuf::from)
                .or_else(|| var("HOME").map(|h| PathBuf::from(h).join(".Xauthority"))),
            agent: var("SSH_AUTH_SOCK"),
        }
    }
}

impl Wanted {
    /// What was asked for and can be had. What cannot be had is told, and the command runs without.
    pub fn new(run: &Run, around: impl FnOnce() -> Surroundings) -> Self {
        let mut wanted = Self::default();
        if !run.x11 && !run.agent {
            return wanted;
        }
        let around = around();
        if run.x11 {
            match X11::new(&around) {
                Ok(x11) => wanted.x11 = Some(x11),
                Err(e) => say(&format!("X11 is not forwarded: {e}"), false),
            }
        }
        if run.agent {
            match agent(&around) {
                Ok(path) => wanted.agent = Some(path),
                Err(e) => say(&format!("the agent is not forwarded: {e}"), false),
            }
        }
        wanted
    }

    /// Writes it into the request.
    pub fn tell(&self, launch: &mut wire::Launch) {
        launch.x11 = self.x11.as_ref().map(|x| wire::X11 {
            protocol: String::from_utf8_lossy(setup::PROTOCOL).into_owned(),
            cookie: x.fake.clone(),
            screen: x.display.screen,
        });
        launch.agent = self.agent.is_some();
    }

    /// Ready for connections of this session; `None`: nothing is forwarded.
    pub fn start(self, session: &Session) -> Option<Forwarding> {
        if self.x11.is_none() && self.agent.is_none() {
            return None;
        }
        // Both came with the same version.
        if session.way.is_none() {
            let host = &session.host;
            let text =
                format!("{host} runs an older version of Queue, which forwards neither X11 nor the agent");
            say(&text, false);
            return None;
        }
        match Pump::new(Side::Front) {
            Ok(pump) => Some(Forwarding {
                wanted: self,
                pump,
                told: [false; 2],
                trouble: None,
            }),
            Err(e) => {
                say(&format!("nothing is forwarded: {e}"), false);
                None
            }
        }
    }
}

/// The agent's socket.
fn agent(around: &Surroundings) -> Result<PathBuf, String> {
    let Some(path) = &around.agent else {
        return Err("there is none here (SSH_AUTH_SOCK is not set): start ssh-agent first".into());
    };
    // Asked now, so that it is not the program there that finds out.
    let path = PathBuf::from(path);
    display::unix(&path).map_err(|e| format!("{}: {}", path.display(), e.desc()))?;
    Ok(path)
}

impl X11 {
    fn new(around: &Surroundings) -> Result<Self, String> {
        let Some(name) = &around.display else {
            return Err("there is no display here (DISPLAY is not set)".into());
        };
        let shown = name.to_string_lossy().into_owned();
        let display = Display::parse(name, |p| Path::new(p).exists())
            .and_then(|d| d.find(|| std::fs::read("/etc/hosts").unwrap_or_default()))
            .map_err(|e| format!("DISPLAY={shown}: {e}"))?;
        let host = nix::sys::utsname::uname().map(|u| u.nodename().to_owned());
        let addresses = display.addresses(&host.unwrap_or_default());
        let file = around.cookies.as_deref().map(std::fs::read);
        let cookie = file
            .and_then(Result::ok)
            .and_then(|f| xauthority::find(&f, &addresses, display.number, setup::PROTOCOL))
            .unwrap_or_default();
        let mut fake = vec![0; COOKIE];
        sys::random(&mut fake).map_err(|e| format!("no random numbers: {e}"))?;
        Ok(Self {
            display,
            name: shown,
            fake,
            cookie,
        })
    }
}

/// Forwarding in a session.
#[derive(Debug)]
pub struct Forwarding {
    wanted: Wanted,
    pump: Pump,
    /// The user knows that our display, and our agent, cannot be connected to.
    told: [bool; 2],
    trouble: Option<String>,
}

impl Forwarding {
    /// For the poll of the loop.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.pump.fd()
    }

    /// Takes a message of the session's. `kept`: bytes that wait for it.
    pub fn receive(&mut self, m: wire::Forward, kept: u64) {
        self.pump.receive(m, kept);
        for (id, service) in self.pump.unconnected() {
            match service {
                Service::X11 => self.x11(id),
                Service::Agent => match &self.wanted.agent {
                    Some(path) => {
                        let made = display::unix(path);
                        self.join(id, service, made, Vec::new(), 0);
                    }
                    None => self.pump.refuse(id, &[], "the agent is not forwarded (-A)"),
                },
                Service::Unknown => self.pump.refuse(id, &[], "not known here"),
            }
        }
    }

    /// The display is connected to once the cookie was right.
    fn x11(&mut self, id: u32) {
        let Some(x11) = &self.wanted.x11 else {
            return self.pump.refuse(id, &[], "X11 is not forwarded (-X)");
        };
        let (bytes, ended) = self.pump.waiting(id);
        match setup::check(bytes, &x11.fake, &x11.cookie) {
            Verdict::More if ended => self.pump.refuse(id, &[], "ended before it began"),
            Verdict::More => {}
            Verdict::Right { used, instead } => {
                let made = x11.display.connect();
                self.join(id, Service::X11, made, instead, used);
            }
            Verdict::Wrong { answer, why } => self.pump.refuse(id, &answer, why),
        }
    }

    fn join(&mut self, id: u32, service: Service, made: nix::Result<OwnedFd>, first: Vec<u8>, used: usize) {
        match made {
            Ok(sock) => self.pump.adopt(id, sock, first, used),
            Err(e) => {
                self.pump.refuse(id, &[], e.desc());
                self.unreached(service, e);
            }
        }
    }

    /// Ours cannot be connected to: programs there only see a connection that ends, so it is told here, once.
    fn unreached(&mut self, service: Service, e: Errno) {
        let (known, text) = match (service, &self.wanted.x11, &self.wanted.agent) {
            (Service::X11, Some(x), _) => (
                &mut self.told[0],
                format!("-X: cannot connect to the display {} here: {}", x.name, e.desc()),
            ),
            (Service::Agent, _, Some(path)) => (
                &mut self.told[1],
                format!(
                    "-A: cannot connect to the agent {} here: {}",
                    path.display(),
                    e.desc()
                ),
            ),
            _ => return,
        };
        if !std::mem::replace(known, true) {
            self.trouble = Some(text);
        }
    }

    /// What the user has to know, once.
    pub fn trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }

    /// Moves bytes. `may_send`: the session's connection takes more; `ready`: the poll said so.
    pub fn turn(&mut self, may_send: bool, ready: bool) {
        self.pump.turn(may_send, ready);
        if let Some((service, e)) = self.pump.unreached() {
            self.unreached(service, e);
        }
    }

    /// What is to be said to the session.
    pub fn outgoing(&mut self) -> Option<to_session::Kind> {
        self.pump.outgoing().map(to_session::Kind::Forward)
    }
}

#[cfg(test)]
mod tests;
