//! Gossip: sealed datagrams between members. Knows the sockets, the keys and the seal; what is said, and what
//! follows from it, is the engine's. It keeps strangers out; any member can speak in another's name, so nothing
//! that is said here ever grants anything.
//!
//! `ring`: which keys are in use. `window`: what was seen before. The seal itself is [`libqueue::seal`].

mod ring;
mod sockets;
mod window;

pub(crate) use sockets::open;

use crate::address;
use crate::context::Context;
use crate::driver::{Driver, Event};
use crate::engine::types::Input;
use crate::identity;
use anyhow::Context as _;
use libqueue::seal::{DATAGRAM_MAX, PAYLOAD_MAX};
use libqueue::wire::{self, Keys, gossip};
use prost::Message as _;
use ring::{Opened, Own, Ring};
use sockets::Sockets;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;

/// Datagrams taken at one go before others have their turn.
const BATCH: usize = 64;
/// What is dropped is told at most so often.
const TELL: Duration = Duration::from_secs(60);

/// The way to the sockets.
#[derive(Debug, Clone)]
pub(crate) struct Gossip(Arc<Room>);

#[derive(Debug)]
struct Room {
    sockets: Sockets,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    /// Whose keys these are.
    authority: [u8; 32],
    own: Own,
    /// Of the datagram that was sent last: never goes back, whatever happens to keys and certificates.
    counter: u64,
    /// The datagram being sealed.
    out: Vec<u8>,
    /// Dropped since it was told last: they came faster than they were taken, or did not leave.
    flooded: u64,
    unsent: u64,
    told: Option<Instant>,
}

impl Gossip {
    /// Starts receiving: what comes in and can be unsealed goes to the driver.
    ///
    /// # Errors
    /// If the event loop does not take the sockets.
    pub(crate) fn start(
        context: &Context,
        udp: Vec<std::net::UdpSocket>,
        driver: Driver,
    ) -> anyhow::Result<Self> {
        let sockets = Sockets::new(udp).context("cannot receive datagrams")?;
        let boot = identity::next_boot(&context.layout).unwrap_or_else(|e| {
            tracing::warn!("{e:#}: if this host's clock goes back, other hosts will not hear it for as long");
            crate::mesh::clock_ms()
        });
        let own = Own {
            host: context.identity.own.number(),
            boot,
        };
        let state = State {
            ring: Ring::default(),
            authority: context.identity.authority,
            own,
            counter: 0,
            out: Vec::with_capacity(DATAGRAM_MAX),
            flooded: 0,
            unsent: 0,
            told: None,
        };
        let gossip = Self(Arc::new(Room {
            sockets,
            state: Mutex::new(state),
        }));
        if context.identity.keys.is_none() {
            no_keys(context);
        }
        for socket in gossip.0.sockets.all() {
            tokio::spawn(receive(socket.clone(), gossip.clone(), driver.clone()));
        }
        Ok(gossip)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seals and sends. What cannot be sent is lost.
    pub(crate) fn send(&self, address: &str, message: gossip::Kind) {
        let Ok(to) = address.parse::<SocketAddr>() else {
            return;
        };
        let payload = wire::Gossip { kind: Some(message) }.encode_to_vec();
        let mut state = self.state();
        let State {
            ring,
            own,
            counter,
            out,
            ..
        } = &mut *state;
        if ring.is_empty() {
            return;
        }
        *counter += 1;
        if !ring.seal(Instant::now(), *own, *counter, &payload, out) {
            tracing::warn!(
                "a datagram for {to} of {} bytes is over the limit of {PAYLOAD_MAX}",
                payload.len()
            );
            return;
        }
        if self.0.sockets.send(out, to).is_err() {
            state.unsent += 1;
            state.tell();
        }
    }

    /// Uses these keys from now on (signature checked before).
    pub(crate) fn adopt(&self, keys: &Keys) {
        if let Ok(key) = keys.key[..].try_into() {
            self.state().ring.adopt(Instant::now(), keys.version, &key);
        }
    }

    /// Takes any datagram of this host for new, once: it is known to live, and is not heard.
    pub(crate) fn forget(&self, host: u64) {
        self.state().ring.forget(host);
    }

    /// A host was removed from the cluster: the keys that it knows are used no longer than necessary.
    pub(crate) fn removed(&self) {
        self.state().ring.removed(Instant::now());
    }

    /// Keys may have been read anew: this host may belong to another cluster now.
    pub(crate) fn renew(&self, context: &Context) {
        let mut state = self.state();
        state.own.host = context.identity.own.number();
        if state.authority != context.identity.authority {
            state.authority = context.identity.authority;
            state.ring = Ring::default();
            if context.identity.keys.is_none() {
                no_keys(context);
            }
        }
    }

    /// Unseals a datagram; `None`: it is not for us.
    fn unseal(&self, datagram: &mut [u8]) -> Option<(u64, gossip::Kind)> {
        let mut state = self.state();
        let own = state.own.host;
        match state.ring.open(Instant::now(), datagram) {
            // Our own, or of a copy of this host, which the links find out about.
            Opened::Payload(head, _) if head.host == own => None,
            Opened::Payload(head, payload) => {
                let said = wire::Gossip::decode(payload).ok()?;
                Some((head.host, said.kind?))
            }
            Opened::Refused | Opened::OtherKey => None,
        }
    }

    /// Counts one that the driver had no room for.
    fn dropped(&self) {
        let mut state = self.state();
        state.flooded += 1;
        state.tell();
    }
}

impl State {
    fn tell(&mut self) {
        let now = Instant::now();
        if self.told.is_some_and(|t| now < t + TELL) {
            return;
        }
        self.told = Some(now);
        let (flooded, unsent) = (
            std::mem::take(&mut self.flooded),
            std::mem::take(&mut self.unsent),
        );
        tracing::debug!(
            "datagrams lost here: {flooded} came too fast, {unsent} could not be sent (since this was said last)"
        );
    }
}

/// What an administrator has to do about a cluster that has no keys.
fn no_keys(context: &Context) {
    let id = &context.identity;
    let holder = if id.cluster.authority {
        id.own.name.as_str()
    } else {
        id.members
            .iter()
            .find(|m| m.authority)
            .map_or("the host that ran 'queued init'", |m| &m.host.name)
    };
    tracing::warn!(
        "no gossip keys yet: hosts hear of each other's load and end only after they came; a cluster made by an \
         older version gets them by 'queue admin rotate-keys' as root on {holder}"
    );
}

/// Takes what comes in on one socket, for ever.
async fn receive(socket: Arc<UdpSocket>, gossip: Gossip, driver: Driver) {
    // One byte more than any that is ours, so that a longer one shows.
    let mut buf = [0; DATAGRAM_MAX + 1];
    loop {
        if let Err(e) = socket.readable().await {
            return tracing::error!("datagrams are received no more: {e}");
        }
        for _ in 0..BATCH {
            let (n, from) = match socket.try_recv_from(&mut buf) {
                Ok(r) => r,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break,
                // An ICMP message about something that was sent: nothing to be done.
                Err(_) => continue,
            };
            let Some((host, message)) = gossip.unseal(&mut buf[..n]) else {
                continue;
            };
            let from = SocketAddr::new(address::plain(from.ip()), from.port());
            let input = Input::Datagram {
                from: host,
                address: from.to_string(),
                message,
            };
            if !driver.offer(Event::Input(input)) {
                gossip.dropped();
            }
        }
        tokio::task::yield_now().await;
    }
}
