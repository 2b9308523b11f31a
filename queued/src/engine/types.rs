//! What goes into the engine and what comes out: plain data. The rooms that do input and output know these
//! types; they do not know the engine.

use libqueue::wire;
use std::time::Duration;

/// Time of the engine: since its start, by a clock that never jumps.
pub(crate) type Now = Duration;
/// Names a member connection, given by whoever opens or accepts it; never used twice.
pub(crate) type ConnId = u64;
/// Names a question, so that its answer finds the asker.
pub(crate) type AskId = u64;

/// A host as its certificate says it. Whoever makes one outside of tests has verified the authority's
/// signature; the engine checks the rest (revocation, name, newer certificates).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// Its name.
    pub name: String,
    /// Serial number of the certificate.
    pub serial: u64,
    /// Key of its TLS connections.
    pub tls_key: [u8; 32],
    /// The certificate itself.
    pub cert: Vec<u8>,
}

impl Host {
    /// Names it in datagrams: a part of its key, so that it stays the same when the certificate is renewed, and
    /// is another one when the host joins again. Short, as a datagram names many hosts.
    pub(crate) fn number(&self) -> u64 {
        let [a, b, c, d, e, f, ..] = self.tls_key;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// Whether this is the same host by its keys, perhaps with another certificate.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.name == other.name && self.tls_key == other.tls_key
    }
}

/// A member as it is kept and passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The host.
    pub host: Host,
    /// Where it is reached; empty: not said.
    pub address: String,
    /// Whether it holds the authority.
    pub authority: bool,
}

/// What the other end of a member connection said of itself first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    /// Where others reach it.
    pub address: String,
    /// Random, made at its start.
    pub boot: Vec<u8>,
    /// Version of its software.
    pub version: String,
    /// How far its clock is ahead of ours, in seconds.
    pub skew: i64,
}

/// A verified revocation list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Revoked {
    /// Rises with each change.
    pub version: u64,
    /// Serial numbers that no longer count.
    pub serials: Vec<u64>,
    /// The signed list itself.
    pub bytes: Vec<u8>,
}

/// What a member said.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Message {
    /// Its load; the sign of life.
    Load(wire::Load),
    /// Members that it knows.
    Roster(Vec<Entry>),
    /// It lacks some member's certificate.
    RosterWanted,
    /// The revocation list that it knows.
    Revocations(Revoked),
    /// It goes, with the reason.
    Bye(String),
    /// Gossip keys with a good signature.
    Keys(wire::Keys),
}

/// Names a session: its nonce.
pub(crate) type SessionId = [u8; 16];

/// Why nothing new is started here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Drain {
    /// Who wants it: `alice@h1`.
    pub by: String,
    /// Why, for people; may be empty.
    pub reason: String,
    /// Seconds since the epoch.
    pub since: u64,
}

/// What happens to the engine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Input {
    /// The time named by `Engine::wake` has come.
    Tick,
    /// A host opened a connection, showed its certificate and its key, and waits to be welcomed.
    Arrived {
        /// The connection.
        conn: ConnId,
        /// Who.
        host: Host,
        /// What it said.
        hello: Hello,
        /// IP address that it came from.
        from: String,
    },
    /// A host that we dialled welcomed us.
    Reached {
        /// The connection.
        conn: ConnId,
        /// Who.
        host: Host,
        /// What it said.
        hello: Hello,
        /// IP address that it was reached at.
        from: String,
    },
    /// Dialling failed.
    DialFailed {
        /// Who was dialled.
        name: String,
        /// Why, in one line.
        text: String,
        /// Whether the other end answered and said no.
        refused: bool,
    },
    /// A connection ended.
    Lost {
        /// Which.
        conn: ConnId,
        /// Why, in one line.
        text: String,
    },
    /// A message came in.
    Heard {
        /// From where.
        conn: ConnId,
        /// What.
        message: Message,
    },
    /// This host's load was measured. What the engine knows better (sessions, starts, reservations, draining,
    /// facts, seq) it fills in itself.
    OwnLoad(wire::Load),
    /// What this host is, at the start and when it changed.
    OwnFacts(wire::Facts),
    /// This host is reached at another address from now on.
    OwnAddress(String),
    /// Whether this host's queue-exec answers. When it stops answering, all sessions are forgotten: it tells them
    /// again.
    Monitor(bool),
    /// A datagram came in that was sealed with the group's key. `from` is the number ([`Host::number`]) that its
    /// sender claims, and any member can claim any.
    Datagram {
        /// Who it says it is from.
        from: u64,
        /// Where it came from, `IP:PORT`.
        address: String,
        /// What it says.
        message: wire::gossip::Kind,
    },
    /// The authority's gossip keys: read from disk, or brought by a local program; the signature is good.
    Keys(wire::Keys),
    /// A session wants to start here: `Answer`ed with `Done` (granted and counted) or `Error`.
    Grant {
        /// The question; names the grant until `Started` or `Ungrant`.
        ask: AskId,
        /// What it needs.
        need: wire::Need,
        /// It comes from this host itself.
        from_here: bool,
    },
    /// A granted session did not start.
    Ungrant {
        /// The grant.
        ask: AskId,
    },
    /// A session runs here.
    Started {
        /// Of which grant, if this daemon granted it.
        grant: Option<AskId>,
        /// Which.
        session: SessionId,
        /// What it needs.
        need: wire::Need,
        /// It is an attempt of a batch job.
        job: bool,
    },
    /// A session ended here.
    Ended {
        /// Which.
        session: SessionId,
    },
    /// Start nothing new here (`Some`), or again (`None`).
    Drain(Option<Drain>),
    /// This host's certificate was renewed: the same name and keys, another number and time.
    Renewed(Host),
    /// A host was admitted here, or found on disk.
    Joined(Entry),
    /// A list came in from a local program.
    Revoke(Revoked),
    /// A local program asks where to run.
    Place {
        /// The question.
        ask: AskId,
        /// What is wanted.
        place: wire::Place,
    },
    /// A local program asks how hosts are judged for this; `Answer`ed with `Explained`.
    Explain {
        /// The question.
        ask: AskId,
        /// What is wanted.
        place: wire::Place,
    },
    /// Whoever asked this no longer waits for the answer.
    Gone {
        /// The question.
        ask: AskId,
    },
    /// A local program asks for all hosts.
    Hosts {
        /// The question.
        ask: AskId,
    },
    /// This daemon ends.
    Stop,
}

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Somebody has to do something.
    Error,
    /// Unusual.
    Warn,
    /// What an administrator wants to read afterwards.
    Info,
    /// For developers.
    Debug,
}

/// What the engine wants done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    /// Open a connection. Answered by `Reached` or `DialFailed`.
    Dial {
        /// Whom.
        name: String,
        /// Where.
        address: String,
        /// The key it has to show.
        key: [u8; 32],
    },
    /// Say hello on this connection that arrived.
    Welcome {
        /// Which.
        conn: ConnId,
    },
    /// Send a message.
    Send {
        /// On which connection.
        conn: ConnId,
        /// What.
        message: wire::member::Kind,
    },
    /// Close a connection; no `Lost` is to follow.
    Close {
        /// Which.
        conn: ConnId,
        /// Said before closing, if anything.
        bye: Option<String>,
    },
    /// Send a datagram. It may be lost.
    Datagram {
        /// The receiver's address, `IP:PORT`.
        address: String,
        /// What.
        message: wire::gossip::Kind,
    },
    /// A host lives, but its datagrams do not get through: forget which of them were seen. Somebody may have spoken in
    /// its name with numbers that its own never reach.
    Unheard(u64),
    /// Tell a local program that its answer is not there yet: `Waiting`.
    Progress {
        /// Which question.
        ask: AskId,
        /// What to say.
        reply: wire::reply::Kind,
    },
    /// Use these gossip keys from now on, and write them down.
    Keys(wire::Keys),
    /// Write down that this host is drained, or is no longer.
    KeepDrain(Option<Drain>),
    /// Answer a local program.
    Answer {
        /// Which question.
        ask: AskId,
        /// The answer.
        reply: wire::reply::Kind,
    },
    /// Write a member down.
    Keep(Entry),
    /// Forget a member.
    Forget(String),
    /// Write the revocation list down and tell queue-exec.
    Revoked(Vec<u8>),
    /// Say something in the log.
    Log(Level, String),
}

/// Collects effects, in order.
#[derive(Debug, Default)]
pub(crate) struct Effects(pub Vec<Effect>);

impl Effects {
    /// One more.
    pub(crate) fn push(&mut self, e: Effect) {
        self.0.push(e);
    }

    /// A log line.
    pub(crate) fn log(&mut self, level: Level, text: impl Into<String>) {
        self.push(Effect::Log(level, text.into()));
    }
}
