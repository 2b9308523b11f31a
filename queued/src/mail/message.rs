//! A letter as a message: headers by the builder only, so that no text of a user becomes a header of its own.

use super::Failure;
use lettre::Address;
use lettre::address::Envelope;
use lettre::message::header::{ContentType, HeaderName, HeaderValue, MIME_VERSION_1_0};
use lettre::message::{Mailbox, Message};
use libqueue::config::Mail as Config;
use libqueue::wire::job::Letter;
use std::time::{Duration, SystemTime};

/// Longest value of a header of ours.
const VALUE: usize = 300;

/// What is handed to a mail system.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    /// Sender and receiver.
    pub envelope: Envelope,
    /// An account of this host, where the receiver is none of elsewhere.
    pub account: Option<String>,
    /// The message, with lines as SMTP has them.
    pub bytes: Vec<u8>,
}

/// One line without control characters, at most so many characters.
pub(super) fn clean(text: &str, most: usize) -> String {
    let plain = |c: char| if libqueue::text::is_odd(c) { ' ' } else { c };
    text.chars()
        .take(most)
        .map(plain)
        .collect::<String>()
        .trim()
        .to_owned()
}

/// Only what may stand in a domain or a number.
fn plain(text: &str) -> String {
    let fits = |c: &char| c.is_ascii_alphanumeric() || *c == '-' || *c == '.';
    let word: String = text.chars().filter(fits).take(60).collect();
    match word.trim_matches(['.', '-']) {
        "" => "localhost".to_owned(),
        w => w.to_owned(),
    }
}

/// The name of an account, as it may stand in an envelope.
fn account(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    !name.is_empty() && name.len() <= 64 && !name.starts_with(['-', '.']) && name.chars().all(fits)
}

fn parse(text: &str) -> Result<Address, Failure> {
    text.parse()
        .map_err(|e| Failure::never(format!("{} is no address: {e}", clean(text, 100))))
}

/// An address, or an account in the sender's domain: both as an address, and the account alone.
fn receiver(to: &str, domain: &str) -> Result<(Address, Option<String>), Failure> {
    if to.contains('@') {
        return Ok((parse(to)?, None));
    }
    if !account(to) {
        return Err(Failure::never(format!(
            "{} is neither an address nor an account",
            clean(to, 100)
        )));
    }
    Ok((parse(&format!("{to}@{domain}"))?, Some(to.to_owned())))
}

/// Makes the message.
pub(super) fn build(config: &Config, host: &str, cluster: &str, letter: &Letter) -> Result<Ready, Failure> {
    let from = match &config.from {
        Some(from) => parse(from)?,
        None => parse(&format!("queue@{}", plain(host)))?,
    };
    let to = match letter.to.as_str() {
        "" => config.operator.as_deref().unwrap_or("root"),
        to => to,
    };
    let (address, account) = receiver(to, from.domain())?;
    let id = format!(
        "<queue-{}-{}@{}.{}>",
        letter.number,
        letter.at_ms,
        plain(cluster),
        from.domain()
    );
    let date = SystemTime::UNIX_EPOCH + Duration::from_millis(letter.at_ms);
    let mut builder = Message::builder()
        .from(Mailbox::new(Some("queue".to_owned()), from.clone()))
        .to(Mailbox::new(None, address.clone()))
        .subject(clean(&letter.subject, VALUE))
        .date(date)
        .message_id(Some(id))
        .header(MIME_VERSION_1_0)
        .header(ContentType::TEXT_PLAIN);
    // Who answers a letter means the owner of the job.
    let owner = letter.headers.iter().find(|h| h.name == "User");
    if let Some((owner, _)) = owner.and_then(|h| receiver(&h.value, from.domain()).ok()) {
        builder = builder.reply_to(Mailbox::new(None, owner));
    }
    builder = builder.raw_header(header("Auto-Submitted", "auto-generated")?);
    for h in &letter.headers {
        builder = builder.raw_header(header(&format!("X-Queue-{}", h.name), &clean(&h.value, VALUE))?);
    }
    let text: String = letter
        .body
        .chars()
        .filter(|c| !libqueue::text::is_odd(*c) || matches!(c, '\n' | '\t'))
        .collect();
    let message = builder
        .body(text)
        .map_err(|e| Failure::never(format!("cannot make the message: {e}")))?;
    let envelope = Envelope::new(Some(from), vec![address])
        .map_err(|e| Failure::never(format!("cannot make the envelope: {e}")))?;
    Ok(Ready {
        envelope,
        account,
        bytes: message.formatted(),
    })
}

/// A header with a name of ours.
fn header(name: &str, value: &str) -> Result<HeaderValue, Failure> {
    let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let known = letters
        .then(|| HeaderName::new_from_ascii(name.to_owned()).ok())
        .flatten();
    let name = known.ok_or_else(|| Failure::never(format!("{} is no header", clean(name, 60))))?;
    Ok(HeaderValue::new(name, value.to_owned()))
}
