//! `[mail]` of `queued.toml`: whether and how this host sends letters.

use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Where systems have the program that takes mail.
const SENDMAIL: &str = "/usr/sbin/sendmail";

/// How letters leave this host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Mail {
    /// `false`: this host sends none, although it could.
    pub enabled: bool,
    /// Sender; without it `queue@` and the name of the host.
    pub from: Option<String>,
    /// Program that takes mail, as sendmail does; `/usr/sbin/sendmail` if nothing is said and it is there.
    pub sendmail: Option<PathBuf>,
    /// Server that takes mail, `HOST:PORT`, instead.
    pub smtp: Option<String>,
    /// Name at that server.
    pub user: Option<String>,
    /// File with the password, for the daemon's account only.
    pub password_file: Option<PathBuf>,
    /// How the connection is encrypted.
    pub tls: Option<Tls>,
    /// Who is told of errors that are no job's fault; `root` without it.
    pub operator: Option<String>,
}

/// How the connection with a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// From its beginning (port 465).
    Required,
    /// After STARTTLS; without it nothing is sent.
    Starttls,
    /// Not at all: for a server on this host.
    None,
}

impl Default for Mail {
    fn default() -> Self {
        Self {
            enabled: true,
            from: None,
            sendmail: None,
            smtp: None,
            user: None,
            password_file: None,
            tls: None,
            operator: None,
        }
    }
}

/// One word that may stand in an envelope.
fn word(text: &str) -> bool {
    let odd = |c: char| c.is_control() || c.is_whitespace() || "<>()[],;:\\\"".contains(c);
    !text.is_empty() && text.len() <= 254 && !text.starts_with('-') && !text.chars().any(odd)
}

/// `NAME@DOMAIN`.
fn address(text: &str) -> bool {
    let parts = text.split_once('@');
    word(text) && parts.is_some_and(|(n, d)| !n.is_empty() && !d.is_empty() && !d.contains('@'))
}

impl Mail {
    /// Host and port of the mail server.
    pub fn server(&self) -> Option<(&str, u16)> {
        let (host, port) = self.smtp.as_deref()?.rsplit_once(':')?;
        let host = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host);
        let port = port.parse().ok().filter(|p| *p != 0)?;
        (!host.is_empty()).then_some((host, port))
    }

    /// How the connection is encrypted: if nothing is said, from its beginning on port 465, not at all with a server
    /// on this host, else after STARTTLS.
    pub fn encryption(&self) -> Tls {
        match (self.tls, self.server()) {
            (Some(tls), _) => tls,
            (None, Some((_, 465))) => Tls::Required,
            (None, Some((host, _))) if local(host) => Tls::None,
            (None, _) => Tls::Starttls,
        }
    }

    /// The program that takes mail, if there is one and no server is named.
    pub fn program(&self) -> Option<&Path> {
        let named = self.sendmail.as_deref().unwrap_or(Path::new(SENDMAIL));
        (self.smtp.is_none() && named.is_file()).then_some(named)
    }

    /// What is wrong, and with which key.
    pub(super) fn wrong(&self) -> Option<(&'static str, String)> {
        let bad = |key, text: &str| Some((key, format!("{key}: {text}")));
        if self.from.as_ref().is_some_and(|f| !address(f)) {
            return bad("from", "this is the sender, NAME@DOMAIN");
        }
        if self
            .operator
            .as_ref()
            .is_some_and(|o| !address(o) && (!word(o) || o.contains('@')))
        {
            return bad("operator", "use NAME@DOMAIN, or an account's name");
        }
        if self.smtp.is_some() && self.sendmail.is_some() {
            return bad("smtp", "either smtp or sendmail, not both");
        }
        if self.smtp.is_some() && self.server().is_none() {
            return bad("smtp", "use HOST:PORT, as in \"mail.example.org:587\"");
        }
        for (key, path) in [
            ("sendmail", &self.sendmail),
            ("password-file", &self.password_file),
        ] {
            if path.as_ref().is_some_and(|p| !p.is_absolute()) {
                return bad(key, "the path must begin with /");
            }
        }
        if self.smtp.is_none() {
            let keys = [
                ("user", self.user.is_some()),
                ("password-file", self.password_file.is_some()),
                ("tls", self.tls.is_some()),
            ];
            if let Some((key, _)) = keys.into_iter().find(|(_, said)| *said) {
                return bad(key, "this is for a server: name it with smtp = \"HOST:PORT\"");
            }
        }
        if self.user.is_some() != self.password_file.is_some() {
            let key = if self.user.is_some() {
                "user"
            } else {
                "password-file"
            };
            return bad(key, "user and password-file go together");
        }
        let remote = self.server().is_some_and(|(host, _)| !local(host));
        if self.user.is_some() && remote && self.encryption() == Tls::None {
            return bad(
                "tls",
                "a password is not sent over the network without TLS: use \"required\" or \"starttls\"",
            );
        }
        None
    }
}

/// Whether a name is this host's own.
fn local(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn parse(text: &str) -> Result<Mail, String> {
        Config::parse(text, Path::new("queued.toml"))
            .map(|c| c.mail)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn all_keys_and_what_follows() {
        let m = parse(
            "[mail]\nfrom = 'queue@example.org'\nsmtp = 'mail.example.org:587'\nuser = 'queue'\n\
             password-file = '/etc/queue/mail.password'\noperator = 'root'\nenabled = true\n",
        )
        .unwrap();
        assert_eq!(m.server(), Some(("mail.example.org", 587)));
        assert_eq!(m.encryption(), Tls::Starttls);
        assert_eq!(m.program(), None);
        let tls = |text: &str| parse(&format!("[mail]\n{text}")).unwrap().encryption();
        assert_eq!(tls("smtp = 'm:465'"), Tls::Required);
        assert_eq!(tls("smtp = 'localhost:25'"), Tls::None);
        assert_eq!(tls("smtp = '[::1]:25'"), Tls::None);
        assert_eq!(tls("smtp = 'm:25'\ntls = 'none'"), Tls::None);
        assert_eq!(parse(""), Ok(Mail::default()));
    }

    #[test]
    fn errors_name_the_key_and_its_place() {
        for (text, place, word) in [
            ("from = 'queue'", "2:1", "NAME@DOMAIN"),
            ("from = 'a b@c'", "2:1", "NAME@DOMAIN"),
            ("operator = '-t'", "2:1", "NAME@DOMAIN"),
            ("smtp = 'mail'", "2:1", "HOST:PORT"),
            ("smtp = 'mail:0'", "2:1", "HOST:PORT"),
            ("sendmail = 'sendmail'", "2:1", "begin with /"),
            ("user = 'x'", "2:1", "smtp ="),
            ("smtp = 'm:25'\nuser = 'x'", "3:1", "go together"),
            (
                "smtp = 'm:25'\nuser = 'x'\npassword-file = '/p'\ntls = 'none'",
                "5:1",
                "without TLS",
            ),
            ("smtp = 'm:25'\nsendmail = '/s'", "2:1", "not both"),
            ("tls = 'some'", "2:7", "starttls"),
            ("mailer = 'x'", "2:1", "unknown field"),
        ] {
            let e = parse(&format!("[mail]\n{text}")).unwrap_err();
            assert!(e.starts_with(&format!("queued.toml:{place}: ")), "{text}: {e}");
            assert!(e.contains(word) && !e.contains('\n'), "{text}: {e}");
        }
    }
}
