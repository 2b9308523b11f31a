//! Control connections: a user asks this host itself for something (to end a session, to drain).

use crate::driver::Driver;
use crate::exec::Exec;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// Serves one.
pub(crate) async fn serve(_stream: TcpStream, from: SocketAddr, _driver: &Driver, _exec: &Exec) {
    tracing::debug!("control connection from {from}");
}
