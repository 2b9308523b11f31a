//! Looks at sessions on another host: a session of one's own there that runs nothing, reads what the kernel
//! shows to its user, and says it.

use crate::launch::{self, Ask, Session};
use crate::messages::{Failure, link_reason, printable};
use libqueue::link::{LinkError, wait};
use libqueue::stream::Event;
use libqueue::wire::{self, FromSession, Look, Looked, Need, Place, from_session};
use nix::poll::PollFlags;
use prost::Message as _;
use std::time::{Duration, Instant};

/// How long a host may take to accept the connection.
const CONNECT: Duration = Duration::from_secs(3);
/// How long it may take to start the session.
const ANSWER: Duration = Duration::from_secs(8);
/// How long the session may take to look.
const LIMIT: Duration = Duration::from_secs(8);

/// Looks, as the account `login` there (empty: the same name).
///
/// # Errors
/// The host cannot be reached or refuses.
pub fn look(host: &str, login: &str, look: Look) -> Result<Looked, Failure> {
    let ask = Ask {
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
    let session = launch::open(&ask, || {
        Ok(wire::Launch {
            form: wire::Form::Launch as i32,
            cwd: b"/".to_vec(),
            no_stdin: true,
            look: Some(look),
            ..wire::Launch::default()
        })
    })?;
    let name = printable(&session.host);
    listen(session).map_err(|e| match e {
        Fault::Said(text) => Failure::own(format!("{name}: {text}")),
        Fault::Link(e) => Failure::own(format!("{name}: {}", link_reason(&e))),
    })
}

enum Fault {
    Said(String),
    Link(LinkError),
}

impl From<LinkError> for Fault {
    fn from(e: LinkError) -> Self {
        Self::Link(e)
    }
}

fn listen(session: Session) -> Result<Looked, Fault> {
    let mut link = session.link;
    let end = Instant::now() + LIMIT;
    link.send_control(&session.launch)?;
    let mut controls = Vec::new();
    let mut looked: Option<Looked> = None;
    loop {
        link.flush()?;
        for kind in controls.drain(..) {
            match kind {
                // More than one message can hold comes in several.
                from_session::Kind::Looked(l) => {
                    looked.get_or_insert_default().sessions.extend(l.sessions);
                }
                from_session::Kind::Failed(f) => return Err(Fault::Said(printable(&f.text))),
                from_session::Kind::Ended(_) => {
                    return looked.ok_or_else(|| {
                        Fault::Said("the session there did not look: is it of an older version?".into())
                    });
                }
                _ => {}
            }
        }
        let out = if link.backlog() > 0 {
            PollFlags::POLLOUT
        } else {
            PollFlags::empty()
        };
        let Some(socket) = link.socket() else {
            return Err(Fault::Said("the connection is gone".into()));
        };
        wait(socket, PollFlags::POLLIN | out, end)?;
        link.receive(|event| {
            if let Event::Control(message) = event
                && let Ok(FromSession { kind: Some(kind) }) = FromSession::decode(message)
            {
                controls.push(kind);
            }
        })?;
    }
}
