//! Reads one file of output, here or by a session of ours on the host that has it, in a thread of its own, and tells
//! what comes.

use crate::command::tail::{self, Fault};
use crate::launch::{self, Ask};
use crate::messages::{Failure, link_reason, printable, reason};
use crate::sys;
use crate::verbs::inner::Tail;
use libqueue::link::{Link, LinkError};
use libqueue::stream::{Channel, Event};
use libqueue::wire::{self, FromSession, Need, Place, from_session};
use nix::libc;
use prost::Message as _;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

/// How long a host may take to accept the connection, and to start the session.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(15);
/// Most text of an error that is kept.
const SAID_MAX: usize = 4096;
/// Starts the front end that is installed there: the one of the same path as ours, else that of the search path.
const START: &str = r#"q=$1; shift
if [ -x "$q" ]; then exec "$q" "$@"; fi
PATH=$PATH:/usr/local/bin:/usr/bin:/bin
exec queue "$@""#;

/// What a source tells.
#[derive(Debug)]
pub enum Told {
    /// Bytes.
    Bytes(Vec<u8>),
    /// There are no more.
    End,
    /// The file is not there.
    Gone,
    /// It cannot be read.
    Failed(Failure),
}

/// A file that is being read.
#[derive(Debug)]
pub struct Source {
    control: UnixStream,
}

impl Source {
    /// Begins. `host`: where it is; `None`: here. What it tells comes with `tag`.
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn start<T: Send + 'static>(
        host: Option<String>,
        tail: Tail,
        to: SyncSender<T>,
        tag: impl Fn(Told) -> T + Send + 'static,
    ) -> Result<Self, Failure> {
        let failed = |e: io::Error| Failure::own(format!("a thread for output: {}", reason(&e)));
        let (control, theirs) = UnixStream::pair().map_err(failed)?;
        std::thread::Builder::new()
            .spawn(move || {
                let mut tell = |told| to.send(tag(told)).map_err(|_| io::ErrorKind::BrokenPipe.into());
                let last = match host {
                    None => here(&tail, &theirs, &mut tell),
                    Some(host) => there(&host, &tail, &theirs, &mut tell),
                };
                // Nobody listens any more: nobody needs to know.
                let _ = tell(last);
            })
            .map_err(failed)?;
        Ok(Self { control })
    }

    /// The file has so many bytes when all is written: no more are to be waited for.
    pub fn until(&mut self, bytes: u64) {
        // It has ended by itself otherwise.
        let _ = self.control.write_all(format!("until {bytes}\n").as_bytes());
    }
}

type Tell<'a> = &'a mut dyn FnMut(Told) -> io::Result<()>;

fn here(t: &Tail, control: &UnixStream, tell: Tell<'_>) -> Told {
    match tail::copy(t, control.as_fd(), &mut |d| tell(Told::Bytes(d.to_vec()))) {
        Ok(()) | Err(Fault::Reader(_)) => Told::End,
        Err(Fault::File(e)) if e.kind() == io::ErrorKind::NotFound => Told::Gone,
        Err(Fault::File(e)) => Told::Failed(Failure::own(format!("{}: {}", t.path.display(), reason(&e)))),
    }
}

fn there(host: &str, t: &Tail, control: &UnixStream, tell: Tell<'_>) -> Told {
    let mut words = vec![b"tail".to_vec()];
    let mut add = |w: &str| words.push(w.as_bytes().to_vec());
    if t.offset > 0 {
        add("--offset");
        add(&t.offset.to_string());
    }
    if let Some(n) = t.lines {
        add("--lines");
        add(&n.to_string());
    }
    if t.follow {
        add("--follow");
    }
    add("--");
    words.push(t.path.as_os_str().as_bytes().to_vec());
    let mut bytes = |d: &[u8]| tell(Told::Bytes(d.to_vec()));
    match session(host, "", words, t.follow.then_some(control), &mut bytes) {
        Ok((0, _)) => Told::End,
        Ok((tail::GONE, _)) => Told::Gone,
        Ok((code, said)) => Told::Failed(Failure::own(said_by(host, code, &said))),
        Err(f) => Told::Failed(f),
    }
}

/// What a session of ours said when it failed.
pub fn said_by(host: &str, code: u8, said: &str) -> String {
    let said = said.trim().strip_prefix("queue: ").unwrap_or(said.trim());
    match (code, said) {
        (127, _) => format!("{host}: no `queue` is installed there that could read it"),
        (_, "") => format!("{host}: it ended with {code}"),
        _ => format!("{host}: {}", printable(said)),
    }
}

/// Runs `queue admin WORDS` on a host as this user (or as `login`), gives its output to `out` and what is read from
/// `input` to its standard input. Its exit code, and what it said on standard error.
///
/// # Errors
/// There is no session, or it broke off.
pub fn session(
    host: &str,
    login: &str,
    words: Vec<Vec<u8>>,
    input: Option<&UnixStream>,
    out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(u8, String), Failure> {
    let ask = Ask {
        // It reads a file and ends: that is no load, and drained hosts are read as well.
        place: Place {
            host: host.to_owned(),
            need: Some(Need {
                by_name: true,
                look: true,
                ..Need::default()
            }),
            ..Place::default()
        },
        login: login.to_owned(),
        connect: Some(CONNECT),
        answer: Some(ANSWER),
        tell: false,
    };
    let mut session = launch::open(&ask, || Ok(request(words, input.is_none())))?;
    let host = printable(&session.host);
    let lost = |e: &LinkError| Failure::own(format!("connection to {host} lost ({})", link_reason(e)));
    session.link.send_control(&session.launch).map_err(|e| lost(&e))?;
    let mut pump = Pump {
        link: session.link,
        input,
        said: Vec::new(),
    };
    match pump.run(out) {
        Ok(Ended::Code(code)) => Ok((code, String::from_utf8_lossy(&pump.said).into_owned())),
        Ok(Ended::Failed(text)) => Err(Failure::own(format!("{host}: {}", printable(&text)))),
        Err(e) => Err(lost(&e)),
    }
}

fn request(words: Vec<Vec<u8>>, no_stdin: bool) -> wire::Launch {
    let exe = std::env::current_exe()
        .map(|p| p.into_os_string())
        .unwrap_or_default();
    let head = [
        b"-c".to_vec(),
        START.as_bytes().to_vec(),
        b"queue".to_vec(),
        exe.as_bytes().to_vec(),
        b"admin".to_vec(),
    ];
    // Where the daemons are is another matter there; the rest is as it is here.
    let env = sys::environ()
        .into_iter()
        .filter(|e| e.starts_with(b"PATH=") || e.starts_with(b"HOME=") || e.starts_with(b"XDG_"));
    wire::Launch {
        form: wire::Form::Shell as i32,
        argv: head.into_iter().chain(words).collect(),
        env: env.collect(),
        cwd: b"/".to_vec(),
        umask: Some(0o077),
        no_stdin,
        ..wire::Launch::default()
    }
}

enum Ended {
    Code(u8),
    Failed(String),
}

struct Pump<'a> {
    link: Link,
    input: Option<&'a UnixStream>,
    said: Vec<u8>,
}

impl Pump<'_> {
    fn run(&mut self, out: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<Ended, LinkError> {
        let mut taken = true;
        loop {
            self.link.flush()?;
            let mut fds = [
                libc::pollfd {
                    fd: self.link.socket().map_or(-1, |s| s.as_raw_fd()),
                    events: libc::POLLIN | if self.link.backlog() > 0 { libc::POLLOUT } else { 0 },
                    revents: 0,
                },
                libc::pollfd {
                    fd: self
                        .input
                        .filter(|_| self.link.room(Channel::Stdin) > 0)
                        .map_or(-1, |i| i.as_raw_fd()),
                    events: libc::POLLIN,
                    revents: 0,
                },
            ];
            match sys::poll(&mut fds, -1) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
            if fds[1].revents != 0 {
                self.pass_on()?;
            }
            if fds[0].revents & !libc::POLLOUT == 0 {
                continue;
            }
            let (mut ended, mut got) = (None, [0_usize; 2]);
            let said = &mut self.said;
            self.link.receive(|event| match event {
                Event::Data(Channel::Stderr, d) => {
                    got[1] += d.len();
                    let room = SAID_MAX.saturating_sub(said.len());
                    said.extend_from_slice(&d[..d.len().min(room)]);
                }
                Event::Data(_, d) => {
                    got[0] += d.len();
                    taken = taken && out(d).is_ok();
                }
                Event::Control(message) => match FromSession::decode(message).ok().and_then(|m| m.kind) {
                    Some(from_session::Kind::Ended(e)) => {
                        ended = Some(Ended::Code(match (e.code, e.signal) {
                            (_, Some(s)) => 128_u8.saturating_add(s as u8),
                            (code, None) => code.unwrap_or_default() as u8,
                        }));
                    }
                    Some(from_session::Kind::Failed(f)) => ended = Some(Ended::Failed(f.text)),
                    _ => {}
                },
                Event::Closed(_) | Event::Eof(_) => {}
            })?;
            if let Some(end) = ended {
                return Ok(end);
            }
            if self.link.is_peer_closed() {
                return Err(LinkError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            // Nobody reads any more: the other side ends when we are gone.
            if !taken {
                return Ok(Ended::Code(0));
            }
            for (channel, n) in [(Channel::Stdout, got[0]), (Channel::Stderr, got[1])] {
                if n > 0 {
                    self.link.consumed(channel, n)?;
                }
            }
        }
    }

    /// From our side to its standard input.
    fn pass_on(&mut self) -> Result<(), LinkError> {
        let Some(mut input) = self.input else {
            return Ok(());
        };
        let space = self.link.space(Channel::Stdin);
        if space.is_empty() {
            return Ok(());
        }
        match input.read(space) {
            Ok(0) | Err(_) => {
                self.input = None;
                self.link.send_eof(Channel::Stdin)
            }
            Ok(n) => self.link.commit(Channel::Stdin, n),
        }
    }
}
