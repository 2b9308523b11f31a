//! Answers requests: reads one packet, asks the permit table, does it or parks it. Everything that decides is
//! elsewhere (`permit`, `policy`, `ticket`, `authority`); here it is put in order.

use super::Monitor;
use super::events::{Source, Timer};
use super::launch::Start;
use super::log::log;
use super::names::{Answer, LOOKUP_TIMEOUT};
use super::permit::{Role, State, Verdict, kind, permit};
use queue_exec::authority::{self, Applicant};
use queue_exec::cert::CertError;
use queue_exec::client;
use queue_exec::protocol::{JobRequest, Refusal, Reply, Request};
use queue_exec::renewal;
use queue_exec::state::{Identity, Room, unix_now};
use queue_exec::ticket::Ticket;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// Requests of one uid that wait for its name.
const SIGNS_MAX: usize = 256;
/// Admissions that wait for root's command line to let go of the authority's files.
const ADMITS_MAX: usize = 64;
const ADMIT_WITHIN: Duration = Duration::from_secs(5);
const ADMIT_AGAIN: Duration = Duration::from_millis(20);

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Parked {
    pub(super) starts: VecDeque<Start>,
    signs: HashMap<u32, Vec<(u32, u32, Request)>>,
    admits: VecDeque<(u32, u32, Request, Instant)>,
    /// By the number of the look-up that they wait for.
    pub(super) accounts: HashMap<u32, Vec<super::control::Waiting>>,
}

impl Parked {
    /// Whether somebody waits.
    pub(super) fn any(&self) -> bool {
        let asked = self.signs.len() + self.accounts.len() + self.admits.len();
        asked > 0 || !self.starts.is_empty()
    }
}

impl Monitor {
    /// Answers who waits for look-ups, or for root's command line, as if that had taken too long.
    pub(super) fn refuse_parked(&mut self, text: &str) {
        for uid in self.parked.signs.keys().copied().collect::<Vec<_>>() {
            self.lookup_ready(uid, true);
        }
        for id in self.parked.accounts.keys().copied().collect::<Vec<_>>() {
            self.account_ready(id, true);
        }
        for (conn, request, ..) in std::mem::take(&mut self.parked.admits) {
            self.park(conn, false);
            self.refuse(conn, request, Refusal::Busy, text);
        }
    }

    /// A client's socket is ready.
    pub(super) fn conn_ready(&mut self, id: u32) {
        let Some(c) = self.conns.get_mut(&id) else { return };
        if c.wants_out && !c.flush() {
            self.conns.remove(&id);
            return;
        }
        let (packet, fd) = match client::receive(c.fd(), &mut self.buffer) {
            Ok((0, _)) => {
                self.conns.remove(&id);
                return;
            }
            Ok((n, fd)) => (&self.buffer[..n], fd),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return self.watch_output(id);
            }
            Err(_) => {
                self.conns.remove(&id);
                return;
            }
        };
        c.active = Instant::now();
        let (role, why) = (c.peer.role, c.peer.why);
        match Request::decode(packet) {
            Ok((request, _)) if role == Role::Nobody => self.deny(id, request, why),
            Ok((request, r)) => {
                let state = if self.trust.identity().is_ok() {
                    State::Member
                } else {
                    State::NoKey
                };
                match permit(role, kind(&r), state) {
                    Verdict::Yes => self.serve(id, request, r, fd),
                    Verdict::NotReady => {
                        let text = self.trust.identity().err().unwrap_or_default().to_owned();
                        self.refuse(id, request, Refusal::NotReady, &text);
                    }
                    Verdict::No => self.deny(id, request, "this request is not for you to make"),
                }
            }
            Err(e) => self.deny(id, 0, &e.to_string()),
        }
        self.watch_output(id);
    }

    fn serve(&mut self, conn: u32, request: u32, r: Request, fd: Option<OwnedFd>) {
        match r {
            Request::Job(job) => self.job_requested(conn, request, job, fd),
            Request::Sign { .. } => self.sign(conn, request, r),
            Request::Control {
                ticket,
                source_cert,
                body,
            } => self.control_requested(conn, request, &ticket, &source_cert, &body),
            Request::Start {
                ticket,
                source_cert,
                note,
            } => match fd {
                Some(fd) => self.start_requested(conn, request, &ticket, &source_cert, note, fd),
                None => self.deny(conn, request, "a start needs the connection's descriptor"),
            },
            Request::Admit { .. } => self.admit(conn, request, r, Instant::now()),
            Request::Revoke { list } => {
                let taken = Room::open(&self.layout.exec_state())
                    .map_err(Into::into)
                    .and_then(|room| authority::take_revocations(&room, &list));
                match taken {
                    // Whether or not the list is new on the disk: where the authority is it was written there
                    // before anybody told us.
                    Ok(_) => {
                        self.trust = super::Trust::load(&self.layout.exec_state());
                        self.reply(conn, request, &Reply::Done);
                    }
                    Err(f) => self.refuse(conn, request, f.code, &f.text),
                }
            }
            Request::Renew { cert } => {
                let done = Room::open(&self.layout.exec_state())
                    .map_err(Into::into)
                    .and_then(|room| renewal::renew(&room, &cert, Duration::ZERO));
                match done {
                    Ok(cert) => self.reply(conn, request, &Reply::Admitted { cert }),
                    Err(f) => self.refuse(conn, request, f.code, &f.text),
                }
            }
            Request::Install { cert } => {
                let done = Room::open(&self.layout.exec_state())
                    .map_err(Into::into)
                    .and_then(|room| renewal::install(&room, &cert));
                match done {
                    Ok(new) => {
                        if new {
                            log!("this host has a new certificate");
                            self.trust = super::Trust::load(&self.layout.exec_state());
                        }
                        self.reply(conn, request, &Reply::Done);
                    }
                    Err(f) => {
                        log!("did not take a new certificate: {f}");
                        self.refuse(conn, request, f.code, &f.text);
                    }
                }
            }
            Request::Watch => self.watch(conn, request),
            Request::Reload => match self.reload() {
                Ok(()) => self.reply(conn, request, &Reply::Done),
                Err(e) => self.refuse(conn, request, Refusal::Internal, &e),
            },
            Request::Adopt { nonce } => self.adopt(conn, request, &nonce),
            Request::Connect { session, challenge } => match fd {
                Some(fd) => self.connect_requested(conn, request, session, challenge, &fd),
                None => self.deny(conn, request, "it needs the connection's descriptor"),
            },
            Request::Attach {
                ticket,
                source_cert,
                session,
            } => match fd {
                Some(fd) => self.attach_requested(conn, request, &ticket, &source_cert, &session, &fd),
                None => self.deny(conn, request, "it needs the connection's descriptor"),
            },
            Request::About => self.about(conn, request),
            Request::Upgrade => self.upgrade_requested(conn, request),
        }
    }

    /// Sends a reply; a client that does not read is dropped.
    pub(super) fn reply(&mut self, conn: u32, request: u32, reply: &Reply) {
        if let Some(c) = self.conns.get_mut(&conn) {
            if c.send(request, reply) {
                self.watch_output(conn);
            } else {
                self.conns.remove(&conn);
            }
        }
    }

    pub(super) fn refuse(&mut self, conn: u32, request: u32, code: Refusal, text: &str) {
        self.reply(
            conn,
            request,
            &Reply::Refused {
                code,
                text: text.to_owned(),
            },
        );
    }

    /// Refuses, and closes the connection.
    pub(super) fn deny(&mut self, conn: u32, request: u32, text: &str) {
        if let Some(c) = self.conns.get(&conn) {
            log!("denied to uid {} (process {}): {text}", c.peer.uid, c.peer.pid);
        }
        self.refuse(conn, request, Refusal::Denied, text);
        self.conns.remove(&conn);
    }

    /// Waits for room to write exactly while there is something to write.
    fn watch_output(&mut self, id: u32) {
        if let Some(c) = self.conns.get_mut(&id)
            && c.wants_out != c.has_queued()
        {
            c.wants_out = c.has_queued();
            let _ = self.events.change(c.fd.as_fd(), Source::Conn(id), c.wants_out);
        }
    }

    // ---- Sign -----------------------------------------------------------------------------------------

    pub(super) fn sign(&mut self, conn: u32, request: u32, r: Request) {
        let Some(uid) = self.conns.get(&conn).map(|c| c.peer.uid) else {
            return;
        };
        match self.names.get(uid) {
            Answer::Known(user) => self.sign_as(conn, request, &r, &user),
            Answer::Unknown => self.no_name(conn, request, uid),
            Answer::Busy => self.refuse(
                conn,
                request,
                Refusal::Busy,
                "the name service is too slow: try again",
            ),
            answer => {
                if answer == Answer::Started {
                    let watched = self
                        .names
                        .descriptor(uid)
                        .map(|fd| self.events.add(fd, Source::Lookup(uid)));
                    if !matches!(watched, Some(Ok(()))) {
                        self.names.finish(uid, true);
                        return self.no_name(conn, request, uid);
                    }
                    self.events.after(LOOKUP_TIMEOUT, Timer::Lookup(uid));
                }
                let waiting = self.parked.signs.entry(uid).or_default();
                if waiting.len() >= SIGNS_MAX {
                    return self.refuse(
                        conn,
                        request,
                        Refusal::Busy,
                        "the name service is too slow: try again",
                    );
                }
                waiting.push((conn, request, r));
                self.park(conn, true);
            }
        }
    }

    fn no_name(&mut self, conn: u32, request: u32, uid: u32) {
        let text = format!("uid {uid} has no user name on this host, or its name service does not answer");
        self.refuse(conn, request, Refusal::Policy, &text);
    }

    pub(super) fn park(&mut self, conn: u32, parked: bool) {
        if let Some(c) = self.conns.get_mut(&conn) {
            c.parked = if parked {
                c.parked + 1
            } else {
                c.parked.saturating_sub(1)
            };
        }
    }

    /// A look-up has said something, or takes too long: who waited for it goes on.
    pub(super) fn lookup_ready(&mut self, uid: u32, timed_out: bool) {
        let Some(name) = self.names.finish(uid, timed_out) else {
            return;
        };
        self.events.after(Duration::from_millis(50), Timer::Reap);
        for (conn, request, r) in self.parked.signs.remove(&uid).unwrap_or_default() {
            self.park(conn, false);
            match &name {
                Some(user) => self.sign_as(conn, request, &r, user),
                None => self.no_name(conn, request, uid),
            }
        }
    }

    fn sign_as(&mut self, conn: u32, request: u32, r: &Request, user: &str) {
        if let Request::Job(JobRequest::Warrant { login, run }) = r {
            return self.sign_warrant(conn, request, login, *run, user);
        }
        let Request::Sign {
            target_cert,
            login,
            nonce,
            request: hash,
            client_key,
        } = r
        else {
            return;
        };
        let id = match self.member() {
            Ok(id) => id,
            Err((code, text)) => return self.refuse(conn, request, code, &text),
        };
        let target = match self.trust.host(&id, target_cert) {
            Ok(t) => t,
            Err(e) => return self.refuse(conn, request, code_of(&e), &e.to_string()),
        };
        if login.contains([':', '/']) {
            return self.refuse(
                conn,
                request,
                Refusal::Policy,
                "that cannot be the name of an account",
            );
        }
        let ticket = Ticket {
            cluster: id.cluster,
            source: id.cert.name.clone(),
            user: user.to_owned(),
            login: if login.is_empty() {
                user.to_owned()
            } else {
                login.clone()
            },
            target: target.name.clone(),
            nonce: *nonce,
            issued: unix_now(),
            request: *hash,
            client_key: *client_key,
        }
        .sign(&id.host_key);
        let reply = Reply::Signed {
            ticket,
            source_cert: id.cert_bytes.clone(),
            target_key: target.host_key,
        };
        self.reply(conn, request, &reply);
    }

    /// Our identity, if our own certificate is good at this time.
    pub(super) fn member(&self) -> Result<std::rc::Rc<Identity>, (Refusal, String)> {
        let id = self
            .trust
            .identity()
            .map_err(|e| (Refusal::NotReady, e.to_owned()))?;
        id.cert
            .check_now(unix_now(), &id.revoked)
            .map_err(|e| (Refusal::NotReady, e.to_string()))?;
        Ok(id)
    }

    // ---- Admit ----------------------------------------------------------------------------------------

    fn admit(&mut self, conn: u32, request: u32, r: Request, since: Instant) {
        let Request::Admit {
            token,
            secret,
            name,
            host_key,
            tls_key,
            dry_run,
        } = &r
        else {
            return;
        };
        let who = Applicant {
            token,
            secret,
            name,
            host_key,
            tls_key,
        };
        let done = Room::open(&self.layout.exec_state())
            .map_err(Into::into)
            .and_then(|room| authority::admit(&room, &who, *dry_run, Duration::ZERO));
        match done {
            Ok(Some(cert)) => {
                log!("admitted {name}");
                self.reply(conn, request, &Reply::Admitted { cert });
            }
            Ok(None) => self.reply(conn, request, &Reply::Done),
            Err(f)
                if f.code == Refusal::Busy
                    && since.elapsed() < ADMIT_WITHIN
                    && self.parked.admits.len() < ADMITS_MAX =>
            {
                self.park(conn, true);
                self.parked.admits.push_back((conn, request, r, since));
                self.events.after(ADMIT_AGAIN, Timer::Admit);
            }
            Err(f) => {
                log!("did not admit {name}: {f}");
                self.refuse(conn, request, f.code, &f.text);
            }
        }
    }

    pub(super) fn admit_again(&mut self) {
        if let Some((conn, request, r, since)) = self.parked.admits.pop_front() {
            self.park(conn, false);
            self.admit(conn, request, r, since);
        }
    }
}

pub(super) fn code_of(e: &CertError) -> Refusal {
    match e {
        CertError::NotNow { .. } => Refusal::Clock,
        _ => Refusal::BadTicket,
    }
}
