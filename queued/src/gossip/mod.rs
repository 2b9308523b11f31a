//! Gossip: sealed datagrams between members. Knows the socket, the keys and the seal; what is said, and what
//! follows from it, is the engine's.

use crate::context::Context;
use crate::driver::Driver;
use libqueue::wire::{Keys, gossip};
use std::net::{IpAddr, UdpSocket};

/// Opens the sockets, on the same addresses and port as TCP.
///
/// # Errors
/// The port is taken, or not permitted.
pub(crate) fn open(_listen_on: &[IpAddr], _port: u16) -> anyhow::Result<Vec<UdpSocket>> {
    Ok(Vec::new())
}

/// The way to the sockets.
#[derive(Debug, Clone)]
pub(crate) struct Gossip;

impl Gossip {
    /// Starts receiving: what comes in and can be unsealed goes to the driver.
    ///
    /// # Errors
    /// If the event loop does not take the sockets.
    pub(crate) fn start(_context: &Context, _udp: Vec<UdpSocket>, _driver: Driver) -> anyhow::Result<Self> {
        Ok(Self)
    }

    /// Seals and sends. What cannot be sent is lost.
    pub(crate) fn send(&self, _address: &str, _message: gossip::Kind) {}

    /// Uses these keys from now on (signature checked before).
    pub(crate) fn adopt(&self, _keys: &Keys) {}
}
