//! The attackers' side: what runs inside a host. Each role is one function; it says what it saw, and never judges.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use libqueue::tls::{KeyPair, Peer, client_config, server_name};
use libqueue::wire::preamble;
use rustls::{ClientConnection, StreamOwned};

use super::{escapes, files, liar, possessed, strangers, tickets};

/// Runs the role that the arguments name.
pub(crate) fn main(args: &[String]) -> ExitCode {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match role(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let _ = writeln!(io::stderr(), "{e:#}");
            ExitCode::FAILURE
        }
    }
}

fn role(args: &[&str]) -> Result<()> {
    match args {
        ["crowd", to, number, sources @ ..] => strangers::crowd(to, number.parse()?, sources),
        ["loris", to] => strangers::loris(to),
        ["garbage", to] => strangers::garbage(to),
        ["datagrams", to] => strangers::datagrams(to),
        ["shakers", to] => strangers::shakers(to),
        ["tickets", to, target] => tickets::tickets(to, target),
        ["bob", to, target] => tickets::bob(to, target, false),
        ["bob-later", to, target] => tickets::bob(to, target, true),
        ["captured", cert, to] => possessed::captured(cert, to),
        ["possessed", cert, captured] => possessed::possessed(cert, captured),
        ["middle", port] => possessed::middle(port),
        ["fake-daemon", cert, which] => possessed::fake_daemon(cert, which),
        ["swap", dir, name, target] => files::swap(dir, name, target),
        ["odd-jobs"] => escapes::odd_jobs(),
        ["join-as", to, name] => strangers::join_as(to, name),
        ["lie", args @ ..] => liar::play(args),
        _ => bail!("no such role: {args:?}"),
    }
}

/// Says something to whoever started this.
pub(super) fn tell(word: &str, what: impl std::fmt::Display) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{word}: {what}");
    let _ = out.flush();
}

/// A TCP connection, with limits on everything.
pub(super) fn connect(to: &str) -> Result<TcpStream> {
    let to: SocketAddr = to.parse()?;
    let s = TcpStream::connect_timeout(&to, Duration::from_secs(10))?;
    s.set_read_timeout(Some(Duration::from_secs(30)))?;
    s.set_write_timeout(Some(Duration::from_secs(30)))?;
    s.set_nodelay(true)?;
    Ok(s)
}

/// A connection of this kind with TLS, as somebody with this key who takes whoever answers.
pub(super) fn tls(to: &str, kind: u8, key: &KeyPair) -> Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut s = connect(to)?;
    s.write_all(&preamble(kind, &[]))?;
    let config = client_config(key, Peer::Any)?;
    let mut tls = ClientConnection::new(config, server_name())?;
    while tls.is_handshaking() {
        tls.complete_io(&mut s)?;
    }
    Ok(StreamOwned::new(tls, s))
}

/// How long it takes until the other end has closed.
pub(super) fn until_closed(s: &mut impl Read, since: Instant) -> Result<Duration> {
    let mut buf = [0; 4096];
    loop {
        match s.read(&mut buf) {
            Ok(0) => return Ok(since.elapsed()),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                bail!("still open after {:?}", since.elapsed())
            }
            Err(_) => return Ok(since.elapsed()),
        }
    }
}
