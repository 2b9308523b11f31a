//! A launch: everything that can be said against it, then a warm session gets the connection. The hot path of
//! the executing side: one signature checked, one made.

use super::Monitor;
use super::events::Timer;
use super::log::log;
use super::record::About;
use super::serve::code_of;
use super::sessions::Phase;
use super::tree;
use super::trust::Unfit;
use queue_exec::cert::HostCert;
use queue_exec::client;
use queue_exec::policy::Allowed;
use queue_exec::protocol::{AttachState, Refusal, Reply, ToSession};
use queue_exec::state::{Identity, unix_now};
use queue_exec::ticket::{Grant, Ticket, TicketError};
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Launches that wait for a session process to start.
const STARTS_MAX: usize = 256;
const STARTS_WITHIN: Duration = Duration::from_secs(10);
const SLOW: &str = "starting a session process took too long here";

/// A launch whose ticket was found good.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) conn: u32,
    request: u32,
    since: Instant,
    ticket: Ticket,
    allowed: Allowed,
    connection: OwnedFd,
    note: Vec<u8>,
}

/// Our identity, the source's certificate, and the ticket.
type Checked = (Rc<Identity>, Rc<HostCert>, Ticket);

impl Monitor {
    /// The daemon hands a connection over.
    pub(super) fn start_requested(
        &mut self,
        conn: u32,
        request: u32,
        ticket: &[u8],
        source_cert: &[u8],
        note: Vec<u8>,
        fd: OwnedFd,
    ) {
        match self.check_start(ticket, source_cert) {
            Ok((ticket, allowed)) => {
                let start = Start {
                    conn,
                    request,
                    since: Instant::now(),
                    ticket,
                    allowed,
                    connection: fd,
                    note,
                };
                match self.pool.warm.pop_front() {
                    Some(id) => self.hand_over(id, start),
                    None => self.park_start(start),
                }
            }
            Err((code, text)) => {
                log!("start refused: {text}");
                self.refuse(conn, request, code, &text);
            }
        }
    }

    /// Everything that can be said against a ticket itself, but for its use before and for policy.
    pub(super) fn check_ticket(
        &mut self,
        ticket: &[u8],
        source_cert: &[u8],
    ) -> Result<Checked, (Refusal, String)> {
        let id = self.member()?;
        let source = self
            .trust
            .host(&id, source_cert)
            .map_err(|e| (code_of(&e), e.to_string()))?;
        let t = Ticket::verify(ticket, &source, &id.cert, unix_now()).map_err(|e| {
            let code = if matches!(e, TicketError::Clock(_)) {
                Refusal::Clock
            } else {
                Refusal::BadTicket
            };
            (code, e.to_string())
        })?;
        Ok((id, source, t))
    }

    /// Uses a ticket up.
    pub(super) fn take_ticket(&mut self, t: &Ticket) -> Result<(), (Refusal, String)> {
        let was_empty = self.seen.is_empty();
        self.seen.take(t).map_err(|e| match e {
            Unfit::Replayed => (Refusal::BadTicket, "this ticket was used before".to_owned()),
            Unfit::Full => (
                Refusal::Busy,
                format!("{}: too many launches in the last minutes", t.target),
            ),
        })?;
        if was_empty {
            self.events.after(Duration::from_secs(60), Timer::Nonces);
        }
        Ok(())
    }

    /// Everything that can be said against a launch.
    fn check_start(
        &mut self,
        ticket: &[u8],
        source_cert: &[u8],
    ) -> Result<(Ticket, Allowed), (Refusal, String)> {
        let (_, source, t) = self.check_ticket(ticket, source_cert)?;
        let allowed = self
            .policy
            .may(&source, &t.user, &t.login)
            .map_err(|e| (Refusal::Policy, e))?;
        self.room_for_one()?;
        self.take_ticket(&t)?;
        Ok((t, allowed))
    }

    fn park_start(&mut self, start: Start) {
        if self.parked.starts.len() >= STARTS_MAX || self.pool_fails() {
            let text = "no session process is to be had here at the moment: try again, or another host";
            return self.refuse(start.conn, start.request, Refusal::Busy, text);
        }
        self.park(start.conn, true);
        self.parked.starts.push_back(start);
        self.events.after(STARTS_WITHIN, Timer::Starts);
        // At once: somebody waits for it.
        self.fill_pool();
    }

    pub(super) fn starts_timer(&mut self) {
        while self
            .parked
            .starts
            .front()
            .is_some_and(|s| s.since.elapsed() >= STARTS_WITHIN)
        {
            self.refuse_first_start(SLOW);
        }
        self.refuse_waiting(false, SLOW);
    }

    /// Gives all waiting launches up.
    pub(super) fn refuse_starts(&mut self, text: &str) {
        while !self.parked.starts.is_empty() {
            self.refuse_first_start(text);
        }
        self.refuse_waiting(true, text);
    }

    fn refuse_first_start(&mut self, text: &str) {
        if let Some(s) = self.parked.starts.pop_front() {
            self.park(s.conn, false);
            self.refuse(s.conn, s.request, Refusal::Busy, text);
        }
    }

    /// Gives a warm session the connection. If the session has just died, the launch waits for the next one.
    pub(super) fn hand_over(&mut self, id: u32, start: Start) {
        let Ok(me) = self.trust.identity() else { return };
        let Some(s) = self.sessions.get_mut(&id) else {
            return self.park_start(start);
        };
        let (Phase::Warm { key }, Some(channel)) = (&s.phase, &s.channel) else {
            return self.park_start(start);
        };
        let t = &start.ticket;
        let claim = ToSession::Claim {
            nonce: t.nonce,
            login: t.login.clone(),
            ruser: t.user.clone(),
            rhost: t.source.clone(),
            host: me.cert.name.clone(),
            request: t.request,
            client_key: t.client_key,
            grant: Grant {
                nonce: t.nonce,
                session_key: *key,
            }
            .sign(&me.host_key),
            pam: self.policy.pam,
            grace: self.policy.grace,
            cgroup: s.cgroup.is_some(),
            uid_min: start.allowed.uid_min,
            allow_root: start.allowed.root,
            socket: self.layout.exec_socket().to_string_lossy().into_owned(),
        };
        if client::send(channel.as_fd(), &claim.encode(), Some(start.connection.as_fd())).is_err() {
            tree::kill_fd(&s.pidfd);
            return self.park_start(start);
        }
        let Start {
            conn,
            request,
            ticket,
            connection,
            note,
            ..
        } = start;
        drop(connection);
        let about = About {
            nonce: ticket.nonce,
            login: ticket.login.clone(),
            ruser: ticket.user,
            rhost: ticket.source,
            since: unix_now_ms(),
            note,
            key: Some(*key),
            attached: AttachState::default(),
        };
        let event = about.started(s.process.0);
        s.phase = Phase::Live {
            about: Box::new(about),
            ended: None,
        };
        // After the claim, because the session is at work meanwhile. Should we die in between, it finds no
        // record when it comes back, is denied, and ends itself.
        self.write_record(id);
        self.reply(
            conn,
            request,
            &Reply::Started {
                nonce: ticket.nonce,
                login: ticket.login,
            },
        );
        self.tell_watchers(&event);
        self.pool_is_short();
    }
}

/// Milliseconds since the epoch, by this host's clock.
pub(super) fn unix_now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
