//! Further connections for sessions that run: one that takes a broken one's place, and those of people who want to
//! see a session of their own. The descriptor goes to the session; who may have it is decided here for the second
//! kind, and by the session's keys for the first.

use super::Monitor;
use super::log::log;
use super::sessions::Phase;
use queue_exec::client;
use queue_exec::protocol::{AttachState, Refusal, Reply, ToSession};
use queue_exec::ticket::{Gone, Grant, Nonce};
use std::os::fd::{AsFd as _, OwnedFd};

/// What is said of a session that is not there.
fn ended(nonce: &Nonce, host: &str) -> String {
    let id = queue_exec::codec::hex(&nonce[..4]);
    format!("no session s{id} runs on {host}: it has ended")
}

impl Monitor {
    /// Somebody wants to go on with a session. That he may is for the session to find out, by his key.
    pub(super) fn connect_requested(
        &mut self,
        conn: u32,
        request: u32,
        session: Nonce,
        challenge: Nonce,
        fd: &OwnedFd,
    ) {
        let id = match self.member() {
            Ok(id) => id,
            Err((code, text)) => return self.refuse(conn, request, code, &text),
        };
        let Some((live, _)) = self.live(&session) else {
            let proof = Gone { session, challenge }.sign(&id.host_key);
            return self.reply(conn, request, &Reply::Gone { proof });
        };
        let done = self.pass_on(live, &ToSession::Connection, fd);
        self.passed_on(conn, request, done);
    }

    fn passed_on(&mut self, conn: u32, request: u32, done: bool) {
        if done {
            return self.reply(conn, request, &Reply::Done);
        }
        // It comes back to a restarted monitor in a moment, or it ends.
        let text = "the session does not listen: try again";
        self.refuse(conn, request, Refusal::Busy, text);
    }

    /// Somebody wants to see a session.
    pub(super) fn attach_requested(
        &mut self,
        conn: u32,
        request: u32,
        ticket: &[u8],
        source_cert: &[u8],
        session: &Nonce,
        fd: &OwnedFd,
    ) {
        match self.check_attach(ticket, source_cert, session) {
            Ok((live, attach)) => {
                let done = self.pass_on(live, &attach, fd);
                self.passed_on(conn, request, done);
            }
            Err((code, text)) => {
                log!("attach refused: {text}");
                self.refuse(conn, request, code, &text);
            }
        }
    }

    /// Everything that can be said against it.
    fn check_attach(
        &mut self,
        ticket: &[u8],
        source_cert: &[u8],
        session: &Nonce,
    ) -> Result<(u32, ToSession), (Refusal, String)> {
        let (id, source, t) = self.check_ticket(ticket, source_cert)?;
        let allowed = self
            .policy
            .may(&source, &t.user, &t.login)
            .map_err(|e| (Refusal::Policy, e))?;
        self.take_ticket(&t)?;
        let host = &id.cert.name;
        let refused = |text: String| Err((Refusal::Policy, text));
        let Some((live, owner)) = self.live(session) else {
            return refused(ended(session, host));
        };
        if owner != t.login {
            return refused(format!(
                "that session runs as {owner}: only {owner} may attach to it"
            ));
        }
        let Some(s) = self.sessions.get(&live) else {
            return refused(ended(session, host));
        };
        // What it runs as, by the kernel's word: names say nothing about system accounts.
        if !super::tree::uid(s.process).is_some_and(|uid| allowed.fits(uid)) {
            return refused(format!("{} may not use the account {owner} on {host}", t.user));
        }
        let Some(session_key) = s.phase.about().and_then(|a| a.key) else {
            return refused(
                "that session was started by an older version, which cannot be attached to".into(),
            );
        };
        let attach = ToSession::Attach {
            by: format!("{}@{}", t.user, t.source),
            request: t.request,
            client_key: t.client_key,
            grant: Grant {
                nonce: t.nonce,
                session_key,
            }
            .sign(&id.host_key),
        };
        Ok((live, attach))
    }

    /// Gives a session a descriptor.
    fn pass_on(&self, id: u32, message: &ToSession, fd: &OwnedFd) -> bool {
        let channel = self.sessions.get(&id).and_then(|s| s.channel.as_ref());
        channel.is_some_and(|c| client::send(c.as_fd(), &message.encode(), Some(fd.as_fd())).is_ok())
    }

    /// A session says who is attached; the daemon is told.
    pub(super) fn attach_state(&mut self, id: u32, state: AttachState) {
        let Some(s) = self.sessions.get_mut(&id) else {
            return;
        };
        let Phase::Live { about, .. } = &mut s.phase else {
            return;
        };
        about.attached = state;
        let (nonce, attached) = (about.nonce, state);
        self.tell_watchers(&Reply::SessionState { nonce, attached });
    }
}
