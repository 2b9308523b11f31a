//! The cluster's authority: makes it, mints tokens, admits hosts, removes them. Called in-process by root's
//! `queued init`, `token`, `join` and `hosts remove`, and by the monitor for a host that shows a token.
//!
//! Knows the files of the root-only room and what admits a host. Must not know sockets, TLS or who asks.
//! Everything blocks on small local files; what has to survive a crash is on the disk when a function returns.

use crate::cert::{
    CLOCK_SKEW, Fingerprint, HostCert, LIFETIME, NAME_MAX, PublicKey, Revocations, USER_MAX, Vouch,
    fingerprint,
};
use crate::layout::Layout;
pub use crate::ledger::USES_MAX;
use crate::ledger::{
    CERTS_MAX, StoredToken, VOUCH_MAX, issued_file, next_serial, read_issued, sweep_tokens, write_issued,
};
use crate::protocol::Refusal;
use crate::state::{
    self, AUTHORITY_KEY, AUTHORITY_PUB, HOST_CERT, HOST_KEY, ISSUED, REVOKED, Room, SERIAL, StateError,
    TOKENS, random, replace_room, unix_now,
};
use crate::token::{ID_LEN, PROOF, SECRET_LEN, base32, proof_by};
use ed25519_dalek::SigningKey;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::time::Duration;

/// How long root's command line waits for another one, or for the monitor.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// Why something was not done; the text is for people, the code for programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Kind.
    pub code: Refusal,
    /// What, and what to do next.
    pub text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    pub(crate) fn new(code: Refusal, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }
}

impl From<StateError> for Failure {
    fn from(e: StateError) -> Self {
        Self::new(
            if e.missing {
                Refusal::NotReady
            } else {
                Refusal::Internal
            },
            e.to_string(),
        )
    }
}

/// What [`init`] and [`install_joined`] leave for the daemon's own room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Id of the cluster.
    pub cluster: Fingerprint,
    /// The authority's public key.
    pub authority: PublicKey,
    /// This host's certificate.
    pub cert: Vec<u8>,
}

/// A new token; only the SHA-256 of its secret stays here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Its public part.
    pub id: String,
    /// Its secret.
    pub secret: String,
    /// Fingerprint of the authority, for the token's text.
    pub authority: Fingerprint,
    /// Until when it admits, seconds since the epoch.
    pub expires: u64,
}

/// A host that asks to be admitted.
#[derive(Debug, Clone, Copy)]
pub struct Applicant<'a> {
    /// Which token it shows.
    pub token: &'a str,
    /// The proof that it knows the token's secret ([`crate::token::proof`]); of an older version: the secret.
    pub secret: &'a str,
    /// The name it wants.
    pub name: &'a str,
    /// Its key for tickets.
    pub host_key: &'a PublicKey,
    /// Its key for TLS.
    pub tls_key: &'a PublicKey,
}

/// Makes a new cluster: authority, host key, and this host's certificate. Refused if this host is in a cluster
/// already. Nothing is left behind if it fails. `lifetime` is that of all certificates of the cluster, if not the
/// usual one.
///
/// # Errors
/// [`Refusal::Name`] for a bad name or an existing membership, else what failed on the disk.
pub fn init(
    layout: &Layout,
    name: &str,
    tls_key: &PublicKey,
    vouch: &[String],
    lifetime: Option<Duration>,
) -> Result<Installed, Failure> {
    check_name(name)?;
    let vouch = vouching(vouch)?;
    let dir = layout.exec_state();
    not_a_member(&dir)?;
    let authority = SigningKey::from_bytes(&random());
    let host_key = generate_host_key(layout)?;
    let public = authority.verifying_key().to_bytes();
    let cluster = fingerprint(&public);
    let now = unix_now();
    let cert = HostCert {
        cluster,
        serial: 1,
        name: name.to_owned(),
        host_key: host_key.verifying_key().to_bytes(),
        tls_key: *tls_key,
        vouch,
        issued: now,
        expires: now.saturating_add(lifetime.map_or(LIFETIME, |t| t.as_secs())),
    }
    .sign(&authority);
    replace_room(&dir, |room| {
        room.mkdir(TOKENS)?;
        room.mkdir(ISSUED)?;
        room.write(AUTHORITY_KEY, authority.as_bytes())?;
        room.write(AUTHORITY_PUB, &public)?;
        room.write(HOST_KEY, host_key.as_bytes())?;
        room.write(SERIAL, b"1\n")?;
        if let Some(t) = lifetime {
            room.write(state::LIFETIME, format!("{}\n", t.as_secs()).as_bytes())?;
        }
        write_issued(room, name, std::slice::from_ref(&cert))?;
        room.write(HOST_CERT, &cert)
    })?;
    Ok(Installed {
        cluster,
        authority: public,
        cert,
    })
}

/// The host's key for tickets: the one that lies here already (a host that joins again keeps it, and a cloned
/// image is found by it), or a new one. Nothing is written.
///
/// # Errors
/// If the room exists but is not private, or the key in it is damaged.
pub fn generate_host_key(layout: &Layout) -> Result<SigningKey, Failure> {
    match Room::open(&layout.exec_state()) {
        Err(e) if e.missing => Ok(SigningKey::from_bytes(&random())),
        Err(e) => Err(e.into()),
        Ok(room) => Ok(room
            .key(HOST_KEY)?
            .unwrap_or_else(|| SigningKey::from_bytes(&random()))),
    }
}

/// Makes this host a member with what the authority sent: all files or none. The certificate is checked
/// against the authority's key, the host key and this host's clock. An earlier membership is replaced, unless
/// this host holds an authority.
///
/// `revoked` is the signed revocation list that came along, if any.
///
/// # Errors
/// What does not fit or failed on the disk; then everything is as before.
pub fn install_joined(
    layout: &Layout,
    host_key: &SigningKey,
    authority: &PublicKey,
    cert: &[u8],
    revoked: Option<&[u8]>,
) -> Result<Installed, Failure> {
    let dir = layout.exec_state();
    if let Ok(room) = Room::open(&dir)
        && room.key(AUTHORITY_KEY)?.is_some()
    {
        return Err(Failure::new(
            Refusal::Name,
            format!(
                "this host holds the authority of a cluster ({}): it cannot join another one",
                dir.display()
            ),
        ));
    }
    let bad = |e: crate::cert::CertError| Failure::new(Refusal::BadTicket, e.to_string());
    let c = HostCert::verify(cert, authority).map_err(bad)?;
    let list = revoked
        .map(|b| Revocations::verify(b, authority))
        .transpose()
        .map_err(bad)?
        .unwrap_or_default();
    let now = unix_now();
    // It was issued a moment ago, so it tells the authority's time.
    if now.abs_diff(c.issued) > CLOCK_SKEW {
        let (by, way) = (
            now.abs_diff(c.issued),
            if now > c.issued { "ahead of" } else { "behind" },
        );
        return Err(Failure::new(
            Refusal::Clock,
            format!("this host's clock is {by} s {way} the authority's: set the clocks, then join again"),
        ));
    }
    c.check_now(now, &list).map_err(bad)?;
    if c.host_key != host_key.verifying_key().to_bytes() {
        return Err(Failure::new(
            Refusal::BadTicket,
            "the authority's certificate is for another host key",
        ));
    }
    replace_room(&dir, |room| {
        room.write(HOST_KEY, host_key.as_bytes())?;
        room.write(AUTHORITY_PUB, authority)?;
        if let Some(b) = revoked {
            room.write(REVOKED, b)?;
        }
        room.write(HOST_CERT, cert)
    })?;
    Ok(Installed {
        cluster: c.cluster,
        authority: *authority,
        cert: cert.to_vec(),
    })
}

/// Makes a token. `vouch` names whom the new hosts may vouch for (empty: all ordinary users); `bound` is the
/// only host name it admits, if given.
///
/// # Errors
/// If this host is not the authority, a name is not one, or the disk failed.
pub fn create_token(
    layout: &Layout,
    ttl: Duration,
    uses: u32,
    vouch: &[String],
    bound: Option<&str>,
) -> Result<NewToken, Failure> {
    let room = Room::open(&layout.exec_state())?;
    let (_, public) = authority_of(&room)?;
    if uses == 0 || uses > USES_MAX {
        return Err(Failure::new(
            Refusal::Token,
            format!("--uses must be between 1 and {USES_MAX}"),
        ));
    }
    bound.map_or(Ok(()), check_name)?;
    let _lock = wait_lock(&room)?;
    let now = unix_now();
    sweep_tokens(&room, now)?;
    let (id, secret) = (base32(&random::<ID_LEN>()), base32(&random::<SECRET_LEN>()));
    let token = StoredToken {
        secret: Sha256::digest(secret.as_bytes()).into(),
        expires: now.saturating_add(ttl.as_secs()),
        uses,
        vouch: vouching(vouch)?,
        bound: bound.unwrap_or_default().to_owned(),
        users: Vec::new(),
    };
    room.write(&format!("{TOKENS}/{id}"), &token.encode())?;
    Ok(NewToken {
        id,
        secret,
        authority: fingerprint(&public),
        expires: token.expires,
    })
}

/// Admits a host that shows a token: `Some(certificate)`, or `None` after a dry run that would have succeeded.
/// A use of the token is counted only on success, and before the certificate is returned. The same host may
/// ask again with the same keys (its answer was lost, or it joins again): that costs no further use.
///
/// # Errors
/// [`Refusal::Token`], [`Refusal::Name`], [`Refusal::Clone`], each with its own text; [`Refusal::Busy`] if the
/// files are in use at this moment and `wait` is over; [`Refusal::NotReady`] if the authority is elsewhere.
pub fn admit(
    room: &Room,
    who: &Applicant<'_>,
    dry_run: bool,
    wait: Duration,
) -> Result<Option<Vec<u8>>, Failure> {
    let (authority, public) = authority_of(room)?;
    let _lock = room.lock(wait)?.ok_or_else(busy)?;
    let now = unix_now();
    let mut token = check_token(room, who, now)?;
    check_name(who.name)?;
    if !token.bound.is_empty() && !token.bound.eq_ignore_ascii_case(who.name) {
        return Err(Failure::new(
            Refusal::Name,
            format!(
                "this token admits only a host named {}, not {}",
                token.bound, who.name
            ),
        ));
    }
    let revoked = room.revocations(&public)?;
    let mine = check_membership(room, &public, &revoked, who, &token)?;
    if dry_run {
        return Ok(None);
    }
    let wanted = HostCert {
        cluster: fingerprint(&public),
        serial: 0,
        name: who.name.to_owned(),
        host_key: *who.host_key,
        tls_key: *who.tls_key,
        vouch: token.vouch.clone(),
        issued: 0,
        expires: 0,
    };
    let cert = issue(room, &authority, wanted, live(&mine, &public, now))?;
    let user = token_user(who);
    if !token.users.contains(&user) {
        token.users.push(user);
        if let Err(e) = room.write(&format!("{TOKENS}/{}", who.token), &token.encode()) {
            // Not counted, so not admitted either.
            let _ = if mine.is_empty() {
                room.remove(&issued_file(who.name))
            } else {
                write_issued(room, who.name, &mine)
            };
            return Err(e.into());
        }
    }
    Ok(Some(cert))
}

/// Those of a host's certificates that may still be used: they stay valid until they expire, so they stay listed, as
/// `remove` has to revoke them all.
pub(crate) fn live(certs: &[Vec<u8>], public: &PublicKey, now: u64) -> Vec<Vec<u8>> {
    let valid =
        |b: &&Vec<u8>| HostCert::verify(b, public).is_ok_and(|c| c.expires.saturating_add(CLOCK_SKEW) >= now);
    certs.iter().filter(valid).cloned().collect()
}

/// Issues a certificate: what it says, but with the next serial number and a new time. `earlier` are the others of
/// this host that are still valid.
pub(crate) fn issue(
    room: &Room,
    authority: &SigningKey,
    what: HostCert,
    mut earlier: Vec<Vec<u8>>,
) -> Result<Vec<u8>, Failure> {
    if earlier.len() >= CERTS_MAX {
        return Err(Failure::new(
            Refusal::Name,
            format!(
                "{} joined too often: remove it first (queue hosts remove {0})",
                what.name
            ),
        ));
    }
    let now = unix_now();
    let what = HostCert {
        serial: next_serial(room)?,
        issued: now,
        expires: now.saturating_add(lifetime(room)?),
        ..what
    };
    let cert = what.sign(authority);
    earlier.push(cert.clone());
    write_issued(room, &what.name, &earlier)?;
    Ok(cert)
}

/// How long certificates of this authority are valid.
fn lifetime(room: &Room) -> Result<u64, Failure> {
    let Some(b) = room.read(state::LIFETIME)? else {
        return Ok(LIFETIME);
    };
    let said = std::str::from_utf8(&b).ok().and_then(|s| s.trim().parse().ok());
    said.ok_or_else(|| {
        StateError::other(
            &room.path(state::LIFETIME),
            "is not a number of seconds: remove it",
        )
        .into()
    })
}

/// Removes a host from the cluster: all its certificates go on the revocation list, whose new, signed form is
/// stored and returned.
///
/// # Errors
/// If there is no such host, it is this one, or the disk failed.
pub fn remove(layout: &Layout, name: &str) -> Result<Vec<u8>, Failure> {
    let room = Room::open(&layout.exec_state())?;
    let (authority, public) = authority_of(&room)?;
    let _lock = wait_lock(&room)?;
    let own = room.identity()?.cert;
    if own.name.eq_ignore_ascii_case(name) {
        return Err(Failure::new(
            Refusal::Name,
            format!("{name} is this host, which holds the cluster's authority: it cannot be removed"),
        ));
    }
    check_name(name)?;
    let certs = read_issued(&room, &issued_file(name))?;
    if certs.is_empty() {
        return Err(Failure::new(
            Refusal::Name,
            format!("no host named {name} was ever admitted here"),
        ));
    }
    let mut list = room.revocations(&public)?;
    for b in &certs {
        if let Ok(c) = HostCert::verify(b, &public)
            && !list.serials.contains(&c.serial)
        {
            list.serials.push(c.serial);
        }
    }
    list.serials.sort_unstable();
    list.version += 1;
    let signed = list.sign(&fingerprint(&public), &authority);
    room.write(REVOKED, &signed)?;
    room.remove(&issued_file(name))?;
    Ok(signed)
}

/// Takes a newer revocation list over; `false` if the one here is as new.
///
/// # Errors
/// If the authority did not sign it, or the disk failed.
pub fn take_revocations(room: &Room, list: &[u8]) -> Result<bool, Failure> {
    let public = room
        .authority()?
        .ok_or_else(|| Failure::new(Refusal::NotReady, "this host is in no cluster yet"))?;
    let new =
        Revocations::verify(list, &public).map_err(|e| Failure::new(Refusal::BadTicket, e.to_string()))?;
    if new.version <= room.revocations(&public)?.version {
        return Ok(false);
    }
    room.write(REVOKED, list)?;
    Ok(true)
}

/// Whether a name can be a host's: labels of letters, digits, `-` and `_`, divided by dots.
///
/// # Errors
/// [`Refusal::Name`] with what is wrong.
pub fn check_name(name: &str) -> Result<(), Failure> {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() <= NAME_MAX && !name.is_empty() && name.split('.').all(label) {
        return Ok(());
    }
    let shown: String = name
        .chars()
        .filter(|c| !crate::codec::is_odd(*c))
        .take(80)
        .collect();
    Err(Failure::new(
        Refusal::Name,
        format!("'{shown}' cannot be a host's name: letters, digits, - and _ in parts divided by dots"),
    ))
}

fn not_a_member(dir: &std::path::Path) -> Result<(), Failure> {
    match Room::open(dir) {
        Err(e) if e.missing => Ok(()),
        Err(e) => Err(e.into()),
        Ok(room) if room.read(HOST_CERT)?.is_some() || room.read(AUTHORITY_KEY)?.is_some() => {
            Err(Failure::new(
                Refusal::Name,
                format!(
                    "this host is in a cluster already ({}): remove that directory to start afresh",
                    dir.display()
                ),
            ))
        }
        Ok(_) => Ok(()),
    }
}

pub(crate) fn authority_of(room: &Room) -> Result<(SigningKey, PublicKey), Failure> {
    let key = room.key(AUTHORITY_KEY)?.ok_or_else(|| {
        Failure::new(
            Refusal::NotReady,
            "this host does not hold the cluster's authority: ask the host that ran `queued init`",
        )
    })?;
    let public = key.verifying_key().to_bytes();
    if room.authority()? != Some(public) {
        return Err(Failure::new(
            Refusal::Internal,
            "authority.key and authority.pub do not belong together",
        ));
    }
    Ok((key, public))
}

pub(crate) fn wait_lock(room: &Room) -> Result<crate::state::Lock, Failure> {
    room.lock(LOCK_WAIT)?.ok_or_else(busy)
}

pub(crate) fn busy() -> Failure {
    Failure::new(
        Refusal::Busy,
        "the authority's files are in use by another program: try again",
    )
}

fn vouching(names: &[String]) -> Result<Vouch, Failure> {
    let good = |n: &&String| {
        !n.is_empty()
            && n.len() <= USER_MAX
            && !n.chars().any(|c| c.is_control() || c.is_whitespace() || c == ':')
    };
    if names.len() > VOUCH_MAX || names.iter().any(|n| !good(&n)) {
        return Err(Failure::new(
            Refusal::Policy,
            format!("--vouch takes up to {VOUCH_MAX} user names (* for all ordinary users)"),
        ));
    }
    Ok(if names.is_empty() {
        Vouch::Users
    } else {
        Vouch::Only(names.to_vec())
    })
}

/// Finds the token and checks secret, time and uses, in this order: who does not know the secret learns
/// nothing else about it.
fn check_token(room: &Room, who: &Applicant<'_>, now: u64) -> Result<StoredToken, Failure> {
    let token = |text: &str| Failure::new(Refusal::Token, text);
    let unknown = || {
        token(
            "unknown join token: it was made by another cluster, or withdrawn; make one with `queued token`",
        )
    };
    // The id becomes a file name.
    if who.token.is_empty() || who.token.len() > 32 || !who.token.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(unknown());
    }
    let bytes = room
        .read(&format!("{TOKENS}/{}", who.token))?
        .ok_or_else(unknown)?;
    let t = StoredToken::decode(&bytes)
        .map_err(|e| StateError::other(&room.path(TOKENS).join(who.token), e.to_string()))?;
    let digest = |s: &str| Sha256::digest(s.as_bytes()).into();
    let wanted = if who.secret.starts_with(PROOF) {
        digest(&proof_by(&t.secret, who.name, who.host_key, who.tls_key))
    } else {
        // A joiner of an older version shows the secret itself.
        t.secret
    };
    if !same(&digest(who.secret), &wanted) {
        return Err(token("wrong secret in the join token"));
    }
    if now > t.expires {
        let ago = now - t.expires;
        return Err(token(&format!(
            "the join token expired {ago} s ago: make a new one with `queued token`"
        )));
    }
    if t.users.len() >= t.uses as usize && !t.users.contains(&token_user(who)) {
        return Err(token(
            "the join token is used up: make a new one with `queued token`",
        ));
    }
    Ok(t)
}

/// Checks name and keys against all members; the certificates that this same host has already.
fn check_membership(
    room: &Room,
    public: &PublicKey,
    revoked: &Revocations,
    who: &Applicant<'_>,
    token: &StoredToken,
) -> Result<Vec<Vec<u8>>, Failure> {
    let mut mine = Vec::new();
    for file in room.list(ISSUED)? {
        let certs = read_issued(room, &format!("{ISSUED}/{file}"))?;
        let Some(c) = certs.last().and_then(|b| HostCert::verify(b, public).ok()) else {
            continue;
        };
        if revoked.serials.contains(&c.serial) {
            continue;
        }
        let same_name = c.name.eq_ignore_ascii_case(who.name);
        if same_name && c.host_key != *who.host_key {
            return Err(Failure::new(
                Refusal::Name,
                format!(
                    "there is a host named {} already, with another key: choose another name (--name), or, if this is \
                     the same host installed anew, remove the old one first (queue hosts remove {0})",
                    c.name
                ),
            ));
        }
        if !same_name && (c.host_key == *who.host_key || c.tls_key == *who.tls_key) {
            return Err(Failure::new(
                Refusal::Clone,
                format!(
                    "this host has the key of {}: it is a copy of that host's disk; delete Queue's state \
                     directory here (it holds the copied keys), and join again",
                    c.name
                ),
            ));
        }
        if same_name {
            if c.vouch != token.vouch {
                return Err(Failure::new(
                    Refusal::Name,
                    format!(
                        "{} is a member and may vouch for other users than this token says: to change that, remove \
                         it first (queue hosts remove {0})",
                        c.name
                    ),
                ));
            }
            mine = certs;
        }
    }
    Ok(mine)
}

/// Compares without telling by time where they differ.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    std::hint::black_box(a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y))) == 0
}

/// Names a host that used a token: its keys and name.
fn token_user(who: &Applicant<'_>) -> [u8; 32] {
    let mut h = Sha256::new();
    h.update(who.host_key);
    h.update(who.tls_key);
    h.update(who.name.to_ascii_lowercase());
    h.finalize().into()
}

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;
