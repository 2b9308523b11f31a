//! What users ask of this host itself, beside sessions: to end one, to drain the host, to look at what runs.
//! Everything that can be said against it is said here; for whom an account has to be looked up first is parked
//! meanwhile. Draining itself is the daemon's: here it is only decided whether the asker may.
//!
//! Whoever runs as the account that a session has may end that session. Everything else is for operators: root
//! here, root of a host that may vouch for all ordinary users, and whom `operators` in queued.toml names.

use super::Monitor;
use super::accounts::{Answer, Found};
use super::events::{Source, Timer};
use super::log::log;
use super::lookup::LOOKUP_TIMEOUT;
use super::sessions::Phase;
use queue_exec::client;
use queue_exec::codec::hex;
use queue_exec::operators::Operators;
use queue_exec::policy::Asker;
use queue_exec::protocol::{Control, JobReply, Refusal, Reply, SEEN_MAX, Seen, ToSession};
use queue_exec::ticket::{Nonce, Ticket};
use sha2::{Digest as _, Sha256};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

/// A session that was told to end, and has not, is killed after this: its own steps take 5 s.
const END_WITHIN: Duration = Duration::from_secs(10);
/// Who wait for one look-up.
const WAITING_MAX: usize = 64;
const SIGNAL_MAX: u8 = 64;

/// A request whose ticket was found good and is used up.
#[derive(Debug)]
pub(super) struct Asked {
    conn: u32,
    request: u32,
    /// For people: `alice@h1`.
    by: String,
    /// His account here.
    login: String,
    asker: Asker,
    wish: Wish,
}

/// What he asks.
#[derive(Debug)]
enum Wish {
    Control(Control),
    /// That the leader of the jobs is told who he is.
    Vouch {
        user: String,
        host: String,
    },
}

/// Who waits for an account to be looked up.
#[derive(Debug)]
pub(super) enum Waiting {
    Control(Asked),
    /// A session that looks.
    Look(u32),
}

/// Reads who the operators are. What is wrong makes nobody one.
pub(super) fn operators(file: &Path) -> Operators {
    Operators::load(file).unwrap_or_else(|e| {
        log!("{e}: nobody but root is an operator");
        Operators::default()
    })
}

/// How people know a session.
fn name(nonce: &Nonce) -> String {
    format!("s{}", hex(&nonce[..4]))
}

impl Monitor {
    /// The daemon brings what a user asks.
    pub(super) fn control_requested(
        &mut self,
        conn: u32,
        request: u32,
        ticket: &[u8],
        source_cert: &[u8],
        body: &[u8],
    ) {
        let hash = Sha256::digest(body).into();
        let wish = |_: &Ticket| {
            let control = Control::decode(body).map_err(|e| e.to_string())?;
            match control {
                Control::Kill { signal, .. } if signal > SIGNAL_MAX => {
                    Err("there is no such signal".to_owned())
                }
                c => Ok(Wish::Control(c)),
            }
        };
        let asked = self.check_asked(conn, request, ticket, source_cert, &hash, wish);
        self.asked(conn, request, asked);
    }

    /// The daemon of the leader wants to know who asks it about jobs.
    pub(super) fn vouch_requested(
        &mut self,
        conn: u32,
        request: u32,
        ticket: &[u8],
        source_cert: &[u8],
        hash: &[u8; 32],
    ) {
        let wish = |t: &Ticket| {
            let (user, host) = (t.user.clone(), t.source.clone());
            Ok(Wish::Vouch { user, host })
        };
        let asked = self.check_asked(conn, request, ticket, source_cert, hash, wish);
        self.asked(conn, request, asked);
    }

    fn asked(&mut self, conn: u32, request: u32, asked: Result<Asked, (Refusal, String)>) {
        match asked {
            Ok(asked) => self.wish_asked(asked),
            Err((code, text)) => {
                log!("request refused: {text}");
                self.refuse(conn, request, code, &text);
            }
        }
    }

    /// Everything that can be said against it without knowing the account.
    fn check_asked(
        &mut self,
        conn: u32,
        request: u32,
        ticket: &[u8],
        source_cert: &[u8],
        hash: &[u8; 32],
        wish: impl FnOnce(&Ticket) -> Result<Wish, String>,
    ) -> Result<Asked, (Refusal, String)> {
        let bad = |text: &str| (Refusal::BadTicket, text.to_owned());
        let (_, source, t) = self.check_ticket(ticket, source_cert)?;
        if *hash != t.request {
            return Err(bad("the request is not the one that its ticket was signed for"));
        }
        let wish = wish(&t).map_err(|text| bad(&text))?;
        let asker = self
            .policy
            .may_ask(&source, &t.user, &t.login)
            .map_err(|e| (Refusal::Policy, e))?;
        self.take_ticket(&t)?;
        Ok(Asked {
            conn,
            request,
            by: format!("{}@{}", t.user, t.source),
            login: t.login,
            asker,
            wish,
        })
    }

    /// Decides at once if the account is known well enough.
    fn wish_asked(&mut self, asked: Asked) {
        let own = match &asked.wish {
            Wish::Control(Control::Kill { session, .. } | Control::Detach { session }) => {
                self.live(session).is_some_and(|(_, login)| login == asked.login)
            }
            Wish::Control(Control::Drain { .. } | Control::Undrain) | Wish::Vouch { .. } => false,
        };
        let groups = self.operators.has_groups()
            && !(own || asked.asker.operator || self.operators.names(&asked.login));
        match self.names.local_uid(&asked.login) {
            Some(uid) if !groups => self.asker_known(asked, Some(uid), &[]),
            _ => {
                let login = asked.login.clone();
                self.look_up(&login, Waiting::Control(asked));
            }
        }
    }

    /// Has an account looked up. Whoever waits for it goes on in `account_found`.
    fn look_up(&mut self, login: &str, waiting: Waiting) {
        let id = match self.accounts.get(login) {
            Answer::Known(found) => return self.account_found(waiting, &found),
            Answer::Wait(id) => id,
            Answer::Started(id) => {
                let watched = self
                    .accounts
                    .descriptor(id)
                    .map(|fd| self.events.add(fd, Source::Account(id)));
                if !matches!(watched, Some(Ok(()))) {
                    self.accounts.finish(id, true);
                    return self.account_found(waiting, &Found::Failed);
                }
                self.events.after(LOOKUP_TIMEOUT, Timer::Account(id));
                id
            }
        };
        if self.parked.accounts.get(&id).map_or(0, Vec::len) >= WAITING_MAX {
            return self.account_found(waiting, &Found::Failed);
        }
        if let Waiting::Control(a) = &waiting {
            self.park(a.conn, true);
        }
        self.parked.accounts.entry(id).or_default().push(waiting);
    }

    /// A look-up has said something, or takes too long: who waited for it goes on.
    pub(super) fn account_ready(&mut self, id: u32, timed_out: bool) {
        let Some(found) = self.accounts.finish(id, timed_out) else {
            return;
        };
        self.events.after(Duration::from_millis(50), Timer::Reap);
        for waiting in self.parked.accounts.remove(&id).unwrap_or_default() {
            if let Waiting::Control(a) = &waiting {
                self.park(a.conn, false);
            }
            self.account_found(waiting, &found);
        }
    }

    fn account_found(&mut self, waiting: Waiting, found: &Found) {
        match (waiting, found) {
            (Waiting::Control(asked), Found::Account(a)) => {
                self.asker_known(asked, Some(a.uid), &a.groups);
            }
            (Waiting::Control(asked), Found::None) => self.asker_known(asked, None, &[]),
            (Waiting::Control(asked), Found::Failed) => {
                let text = format!(
                    "the name service of {} does not say who {} is: try again",
                    self.host_name(),
                    asked.login
                );
                self.refuse(asked.conn, asked.request, Refusal::Busy, &text);
            }
            (Waiting::Look(id), Found::Account(a)) => {
                let all = self.operators.names_group(&a.groups);
                self.tell_seen(id, all);
            }
            (Waiting::Look(id), _) => self.tell_seen(id, false),
        }
    }

    pub(super) fn host_name(&self) -> String {
        self.trust
            .identity()
            .map_or_else(|_| "this host".to_owned(), |id| id.cert.name.clone())
    }

    /// The account is known: decides, and does it.
    fn asker_known(&mut self, asked: Asked, uid: Option<u32>, groups: &[String]) {
        let host = self.host_name();
        let vouch = matches!(asked.wish, Wish::Vouch { .. });
        let refusal = match uid {
            // Who has jobs need not have an account where they are led.
            None if vouch => None,
            None => Some(format!("{host} has no account {}", asked.login)),
            Some(uid) if !asked.asker.allowed.fits(uid) => Some(format!(
                "{} is no ordinary user on {host} (uid {uid}), and a line 'vouch' in exec.conf there does not name it",
                asked.login
            )),
            Some(_) => None,
        };
        if let Some(text) = refusal {
            log!("request of {} refused: {text}", asked.by);
            return self.refuse(asked.conn, asked.request, Refusal::Policy, &text);
        }
        let operator =
            asked.asker.operator || self.operators.names(&asked.login) || self.operators.names_group(groups);
        let control = match asked.wish {
            Wish::Control(c) => c,
            Wish::Vouch { user, host } => {
                let vouched = JobReply::Vouched { user, host, operator };
                return self.reply(asked.conn, asked.request, &Reply::Job(vouched));
            }
        };
        let done = match &control {
            Control::Kill { session, signal } => {
                self.kill(session, *signal, &asked.by, &asked.login, operator)
            }
            Control::Detach { session } => self.detach(session, &asked.by, &asked.login),
            Control::Drain { .. } | Control::Undrain if operator => Ok(()),
            Control::Drain { .. } => Err((Refusal::Policy, self.only_operators(&format!("drain {host}")))),
            Control::Undrain => Err((Refusal::Policy, self.only_operators(&format!("undrain {host}")))),
        };
        match done {
            Ok(()) => {
                log!("{}: {control:?}", asked.by);
                let by = asked.by;
                let reply = Reply::Controlled { by, control };
                self.reply(asked.conn, asked.request, &reply);
            }
            Err((code, text)) => {
                log!("request of {} refused: {text}", asked.by);
                self.refuse(asked.conn, asked.request, code, &text);
            }
        }
    }

    fn only_operators(&self, what: &str) -> String {
        let file = self.layout.queued_toml();
        format!(
            "only operators may {what}: root, or whoever `operators` in {} there names",
            file.display()
        )
    }

    /// A claimed session: its number here, and its account.
    pub(super) fn live(&self, nonce: &Nonce) -> Option<(u32, &str)> {
        self.sessions.iter().find_map(|(id, s)| match &s.phase {
            Phase::Live { about, .. } if about.nonce == *nonce => Some((*id, about.login.as_str())),
            _ => None,
        })
    }

    /// Has whoever is attached to a session let go.
    fn detach(&mut self, nonce: &Nonce, by: &str, login: &str) -> Result<(), (Refusal, String)> {
        let text = match self.live(nonce) {
            Some((_, owner)) if owner != login => {
                format!(
                    "session {} runs as {owner}: only {owner} may detach it",
                    name(nonce)
                )
            }
            Some((id, _)) => {
                let by = by.to_owned();
                if self.tell_session(id, &ToSession::Detach { by }) {
                    return Ok(());
                }
                format!("session {} does not listen: try again", name(nonce))
            }
            None => format!(
                "no session {} runs on {}: it has ended",
                name(nonce),
                self.host_name()
            ),
        };
        Err((Refusal::Policy, text))
    }

    fn kill(
        &mut self,
        nonce: &Nonce,
        signal: u8,
        by: &str,
        login: &str,
        operator: bool,
    ) -> Result<(), (Refusal, String)> {
        let Some((id, owner)) = self.live(nonce) else {
            let text = format!(
                "no session {} runs on {}: it has ended",
                name(nonce),
                self.host_name()
            );
            return Err((Refusal::Policy, text));
        };
        if !operator && owner != login {
            let text = format!(
                "session {} runs as {owner}: only {owner} and operators may end it (on {}, those are root and whoever `operators` in {} names)",
                name(nonce),
                self.host_name(),
                self.layout.queued_toml().display()
            );
            return Err((Refusal::Policy, text));
        }
        if signal == 0 {
            if let Some(s) = self.sessions.get_mut(&id) {
                s.unwanted = Some(by.to_owned());
            }
            self.end_unwanted(id);
            return Ok(());
        }
        let by = by.to_owned();
        if self.tell_session(id, &ToSession::Kill { by, signal }) {
            Ok(())
        } else {
            let text = format!("session {} does not listen at the moment: try again", name(nonce));
            Err((Refusal::Busy, text))
        }
    }

    /// Tells a session that somebody wants it ended, if so. It is killed if it does not do it in time.
    pub(super) fn end_unwanted(&mut self, id: u32) {
        let Some(by) = self.sessions.get(&id).and_then(|s| s.unwanted.clone()) else {
            return;
        };
        // One that does not listen meets its deadline.
        self.tell_session(id, &ToSession::Kill { by, signal: 0 });
        self.set_deadline(id, END_WITHIN);
    }

    fn tell_session(&self, id: u32, m: &ToSession) -> bool {
        let channel = self.sessions.get(&id).and_then(|s| s.channel.as_ref());
        channel.is_some_and(|c| client::send(c.as_fd(), &m.encode(), None).is_ok())
    }

    // ---- Look -----------------------------------------------------------------------------------------

    /// A session asks which others there are.
    pub(super) fn look(&mut self, id: u32) {
        let Some(Phase::Live { about, .. }) = self.sessions.get(&id).map(|s| &s.phase) else {
            return;
        };
        let login = about.login.clone();
        let root = login == "root" || self.owner.is_some();
        if root || self.operators.names(&login) {
            return self.tell_seen(id, true);
        }
        let waits = |w: &Waiting| matches!(w, Waiting::Look(l) if *l == id);
        if self.parked.accounts.values().flatten().any(waits) {
            return;
        }
        if self.operators.has_groups() {
            self.look_up(&login, Waiting::Look(id));
        } else {
            self.tell_seen(id, false);
        }
    }

    /// Tells a session those of its own account, or all.
    fn tell_seen(&mut self, id: u32, all: bool) {
        let Some(Phase::Live { about, .. }) = self.sessions.get(&id).map(|s| &s.phase) else {
            return;
        };
        let mut found: Vec<(bool, u64, Seen)> = self
            .sessions
            .iter()
            .filter(|(other, _)| **other != id)
            .filter_map(|(_, s)| {
                let (a, nonce) = match &s.phase {
                    Phase::Live { about, .. } => (&**about, about.nonce),
                    // By its attempt: that is what the daemon calls it.
                    Phase::Runner(r) => (&r.about, r.job()?.to_bytes()),
                    Phase::Starting | Phase::Warm { .. } => return None,
                };
                let pid = s.process.0.unsigned_abs();
                (all || a.login == about.login).then_some((
                    a.login != about.login,
                    a.since,
                    Seen { nonce, pid },
                ))
            })
            .collect();
        // If there are too many: one's own, and the oldest.
        found.sort_by_key(|(other, since, seen)| (*other, *since, seen.nonce));
        found.truncate(SEEN_MAX);
        let sessions = found.into_iter().map(|(_, _, seen)| seen).collect();
        self.tell_session(id, &ToSession::Seen { sessions });
    }
}
