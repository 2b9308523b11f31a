//! Sends letters from this host: by the program that takes mail here, or to a server. Knows configuration, MIME and
//! SMTP; not why a letter was written, nor what follows if it is not sent.

mod message;
mod program;
mod server;
#[cfg(test)]
mod tests;

use libqueue::config::{Mail as Config, Tls};
use libqueue::wire::job::{Letter, Mailed};
use message::Ready;
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

/// A letter that is not away by then has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why a letter was not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    /// In one line.
    text: String,
    /// It makes no sense to try again, here or elsewhere.
    hopeless: bool,
}

impl Failure {
    fn later(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            hopeless: false,
        }
    }

    fn never(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            hopeless: true,
        }
    }
}

/// How letters leave this host.
#[derive(Debug, Clone)]
pub(crate) struct MailRoom {
    config: Config,
    /// This host.
    host: String,
    /// Name of the cluster, for the numbers of letters.
    cluster: String,
    patience: Duration,
}

impl MailRoom {
    /// As configured on this host.
    pub(crate) fn new(config: &Config, host: &str, cluster: &str) -> Self {
        Self {
            config: config.clone(),
            host: host.to_owned(),
            cluster: cluster.to_owned(),
            patience: PATIENCE,
        }
    }

    /// Whether this host can send mail, as far as can be said beforehand.
    pub(crate) fn able(&self) -> bool {
        self.config.enabled && (self.config.server().is_some() || self.config.program().is_some())
    }

    /// Sends a letter: it is with the mail system, or the answer says why not. Takes two minutes at most.
    pub(crate) async fn send(&self, letter: Letter) -> Mailed {
        let number = letter.number;
        let sent = match timeout(self.patience, self.try_send(&letter)).await {
            Ok(sent) => sent,
            Err(_) => Err(Failure::later(format!(
                "{} did not take the letter in {} s",
                self.taker(),
                self.patience.as_secs()
            ))),
        };
        match sent {
            Ok(()) => Mailed {
                number,
                ..Mailed::default()
            },
            Err(f) => Mailed {
                number,
                failed: message::clean(&f.text, 300),
                hopeless: f.hopeless,
            },
        }
    }

    async fn try_send(&self, letter: &Letter) -> Result<(), Failure> {
        if !self.config.enabled {
            return Err(Failure::later("mail is turned off on this host"));
        }
        let ready = message::build(&self.config, &self.host, &self.cluster, letter)?;
        if self.config.smtp.is_some() {
            return server::send(&self.config, &self.host, &ready).await;
        }
        let Some(program) = self.config.program() else {
            return Err(Failure::later(
                "this host has no program that takes mail, and no server is named",
            ));
        };
        self.by_program(program, &ready).await
    }

    /// Hands it to the program. Where that may not do its work (a sandbox without its group), the server on this host
    /// may: it is asked if nobody said how letters are to go.
    async fn by_program(&self, program: &Path, ready: &Ready) -> Result<(), Failure> {
        let failed = match program::send(program, ready).await {
            Ok(()) => return Ok(()),
            Err(f) => f,
        };
        if failed.hopeless || self.config.sendmail.is_some() {
            return Err(failed);
        }
        let here = Config {
            smtp: Some("127.0.0.1:25".to_owned()),
            tls: Some(Tls::None),
            ..self.config.clone()
        };
        server::send(&here, &self.host, ready).await.map_err(|f| Failure {
            text: format!("{}; {}", failed.text, f.text),
            ..f
        })
    }

    /// Who takes the letters, for errors.
    fn taker(&self) -> String {
        let program = || self.config.program().map(|p| p.display().to_string());
        self.config.smtp.clone().or_else(program).unwrap_or_default()
    }
}
