//! Hands a message to a mail server.

use super::Failure;
use super::message::{Ready, clean};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls as Encrypted, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use libqueue::config::{Mail as Config, Tls};
use std::error::Error as _;
use std::path::Path;
use std::time::Duration;

/// For each step of the conversation.
const STEP: Duration = Duration::from_secs(30);
/// Longest password.
const SECRET: u64 = 4096;

/// Answers that say that the message or its receiver is at fault, and not the way that it went.
fn hopeless(code: u16) -> bool {
    matches!(code, 501 | 510..=512 | 550..=556)
}

/// Sends it, one connection for each letter: there are few.
pub(super) async fn send(config: &Config, host: &str, ready: &Ready) -> Result<(), Failure> {
    let Some((server, port)) = config.server() else {
        return Err(Failure::later("smtp in queued.toml is not HOST:PORT"));
    };
    let at = format!("{server}:{port}");
    let parameters = || {
        TlsParameters::new_rustls(server.to_owned())
            .map_err(|e| Failure::later(format!("cannot use TLS with {at}: {e}")))
    };
    let tls = match config.encryption() {
        Tls::Required => Encrypted::Wrapper(parameters()?),
        Tls::Starttls => Encrypted::Required(parameters()?),
        Tls::None => Encrypted::None,
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server)
        .port(port)
        .tls(tls)
        .timeout(Some(STEP))
        .hello_name(ClientId::Domain(host.to_owned()));
    if let (Some(user), Some(file)) = (&config.user, &config.password_file) {
        builder = builder.credentials(Credentials::new(user.clone(), secret(file)?));
    }
    let sent = builder
        .build::<Tokio1Executor>()
        .send_raw(&ready.envelope, &ready.bytes)
        .await;
    sent.map(drop).map_err(|e| {
        let code = e.status().map(u16::from);
        // The first line says what failed, its source why.
        let mut text = e.to_string();
        if let Some(source) = e
            .source()
            .map(ToString::to_string)
            .filter(|s| !text.contains(s.as_str()))
        {
            text = format!("{text}: {source}");
        }
        Failure {
            text: format!("{at}: {}", clean(&text, 200)),
            hopeless: code.is_some_and(hopeless),
        }
    })
}

/// The password: the first line of its file.
fn secret(file: &Path) -> Result<String, Failure> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(file).and_then(|f| f.take(SECRET).read_to_string(&mut text));
    read.map_err(|e| Failure::later(format!("cannot read {}: {e}", file.display())))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
