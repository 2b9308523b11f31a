//! What all rooms of a running daemon share and none of them changes: identity, keys, addresses. Made at the
//! start and anew at each reload; connections keep the one that they began with.

use crate::address;
use crate::identity::Identity;
use crate::verify::Verifier;
use anyhow::Context as _;
use libqueue::config::{Config, PORT};
use libqueue::tls::{self, Peer};
use queue_exec::layout::Layout;
use rustls::{ClientConfig, ServerConfig};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

/// The shared state.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where the files are.
    pub layout: Layout,
    /// `queued.toml`.
    pub config: Config,
    /// Where that was read.
    pub config_file: PathBuf,
    /// Where this program was started from.
    pub program: PathBuf,
    /// Who we are.
    pub identity: Identity,
    /// Checks certificates.
    pub verifier: Verifier,
    /// Random, made at this start.
    pub boot: [u8; 16],
    /// Port that we listen on.
    pub port: u16,
    /// The address that was said to be ours, if any.
    advertise: Option<SocketAddr>,
    /// TLS of accepted connections: whoever shows a key is heard, and then has to show a certificate for it.
    pub server: Arc<ServerConfig>,
}

impl Context {
    /// Puts it together. `port` is the command line's, if any.
    ///
    /// # Errors
    /// If keys or addresses are not usable.
    pub(crate) fn new(
        layout: Layout,
        config: Config,
        identity: Identity,
        boot: [u8; 16],
        port: Option<u16>,
    ) -> anyhow::Result<Self> {
        let said = config
            .advertise
            .clone()
            .or_else(|| identity.cluster.advertise.clone());
        let typed = said
            .as_deref()
            .map(address::parse)
            .transpose()
            .map_err(anyhow::Error::msg)?;
        let port = port
            .or(config.port)
            .or(identity.cluster.port)
            .or(typed.as_ref().and_then(|t| t.port))
            .unwrap_or(PORT);
        let advertise = typed
            .map(|t| t.resolve(port).map(|a| a[0]))
            .transpose()
            .map_err(anyhow::Error::msg)
            .context("the address to advertise (advertise in queued.toml, or as said at init or join)")?;
        let server = tls::server_config(&identity.tls, Peer::Any).context("cannot set TLS up")?;
        let verifier = Verifier::new(identity.authority);
        let config_file = layout.queued_toml();
        Ok(Self {
            layout,
            config,
            config_file,
            program: PathBuf::new(),
            identity,
            verifier,
            boot,
            port,
            advertise,
            server,
        })
    }

    /// The same with the configuration read from elsewhere.
    #[must_use]
    pub(crate) fn with_config_file(mut self, file: PathBuf) -> Self {
        self.config_file = file;
        self
    }

    /// The same, started from there.
    #[must_use]
    pub(crate) fn with_program(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    /// TLS towards the host with this key.
    ///
    /// # Errors
    /// If TLS cannot be set up (a build fault).
    pub(crate) fn client(&self, key: [u8; 32]) -> Result<Arc<ClientConfig>, rustls::Error> {
        tls::client_config(&self.identity.tls, Peer::Pinned(key))
    }

    /// Where the other end of a connection reaches us: what was said, else the address that the connection
    /// uses at this end.
    pub(crate) fn address_for(&self, local: Option<IpAddr>) -> String {
        let ip = local.map_or_else(address::own, address::plain);
        self.advertise
            .unwrap_or_else(|| SocketAddr::new(ip, self.port))
            .to_string()
    }

    /// Our address as far as we know it ourselves.
    pub(crate) fn address(&self) -> String {
        self.address_for(None)
    }

    /// Where programs on this host reach us: loopback, unless we do not listen there.
    pub(crate) fn dial_self(&self) -> String {
        let listen = &self.config.listen;
        let home = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let ip = match listen.first() {
            Some(first) if !listen.iter().any(|ip| ip.is_unspecified() || *ip == home) => *first,
            _ => home,
        };
        SocketAddr::new(ip, self.port).to_string()
    }
}
