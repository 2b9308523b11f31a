//! The join token's text: one word that says where the cluster is, which authority it must show, and the
//! secret that admits. Pure: no files, no network. Whether a token is good is decided by `authority`.
//!
//! `QJOIN1-HOST:PORT-FINGERPRINT-ID-SECRET-CHECK`: lower-case base32 (RFC 4648, no padding), the address in
//! clear so that a person sees where it leads, an IPv6 address without its brackets (the port is always there,
//! so the last colon divides), so that no shell finds anything to expand in it. The check is over everything
//! before it: a truncated or mistyped token is told as such before anything is sent anywhere.
//!
//! `QJOIN1-lan-...`, without a port, is a token without an address: the joiner looks for the authority on its LAN.

use crate::cert::{Fingerprint, PublicKey};
use sha2::{Digest as _, Sha256};
use std::fmt;

const PREFIX: &str = "QJOIN1";
/// In the place of an address: there is none.
const LAN: &str = "lan";
/// Bytes of a token's id.
pub const ID_LEN: usize = 5;
/// Bytes of a token's secret.
pub const SECRET_LEN: usize = 20;
/// Characters of the check.
const CHECK_CHARS: usize = 6;
/// Longest token looked at.
const MAX: usize = 512;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// What a proof begins with; no secret does.
pub(crate) const PROOF: &str = "p1-";
const PROOF_CONTEXT: &[u8] = b"QUEUE join proof 1\0";

/// What a joiner shows in the place of its token's secret: an HMAC-SHA256 with it over the name and the keys that are to
/// be admitted. Whoever passes it on, as the authority's own daemon does, can have nobody else admitted by it.
pub fn proof(secret: &str, name: &str, host_key: &PublicKey, tls_key: &PublicKey) -> String {
    proof_by(&Sha256::digest(secret.as_bytes()).into(), name, host_key, tls_key)
}

/// The same with what the authority keeps of a secret.
pub(crate) fn proof_by(
    secret_hash: &[u8; 32],
    name: &str,
    host_key: &PublicKey,
    tls_key: &PublicKey,
) -> String {
    let mut pads = [[0x36u8; 64], [0x5c; 64]];
    for pad in &mut pads {
        for (p, k) in pad.iter_mut().zip(secret_hash) {
            *p ^= k;
        }
    }
    let [inner, outer] = pads;
    // The keys are of fixed length, so nothing can be moved from one part into another.
    let inner = Sha256::new()
        .chain_update(inner)
        .chain_update(PROOF_CONTEXT)
        .chain_update(host_key)
        .chain_update(tls_key)
        .chain_update(name.as_bytes())
        .finalize();
    let mac = Sha256::new().chain_update(outer).chain_update(inner).finalize();
    format!("{PROOF}{}", base32(&mac))
}

/// What a join token says.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// `HOST:PORT` or `[IPV6]:PORT` of the authority's daemon. Empty: to be found on the LAN.
    pub address: String,
    /// Fingerprint that the authority must have.
    pub authority: Fingerprint,
    /// Which token, as [`Request::Admit`](crate::protocol::Request::Admit) names it.
    pub id: String,
    /// Its secret, which is never sent: see [`proof`].
    pub secret: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("address", &self.address)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Why a word is not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    /// Something else altogether.
    NotAToken,
    /// A token of a version that this program does not know.
    OtherVersion,
    /// Its end is missing.
    Truncated,
    /// Some character of it is wrong.
    Mistyped,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAToken => {
                "this is not a join token (one begins with QJOIN1-): `queued token` prints one"
            }
            Self::OtherVersion => {
                "this join token is of another version: use the same version of Queue here and there"
            }
            Self::Truncated => "the join token is cut short: copy the whole word that `queued token` printed",
            Self::Mistyped => {
                "the join token is mistyped (its check does not fit): copy it as `queued token` printed it"
            }
        })
    }
}

impl std::error::Error for TokenError {}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address: String = if self.address.is_empty() {
            LAN.to_owned()
        } else {
            self.address.chars().filter(|c| !matches!(c, '[' | ']')).collect()
        };
        let body = format!(
            "{PREFIX}-{address}-{}-{}-{}",
            base32(&self.authority),
            self.id,
            self.secret
        );
        write!(f, "{body}-{}", checksum(&body))
    }
}

impl std::str::FromStr for Token {
    type Err = TokenError;

    fn from_str(s: &str) -> Result<Self, TokenError> {
        let s = s.trim();
        if !s.starts_with(PREFIX) {
            return Err(match s.get(..5) {
                _ if s.len() >= 2 && PREFIX.starts_with(s) => TokenError::Truncated,
                Some("QJOIN") => TokenError::OtherVersion,
                _ => TokenError::NotAToken,
            });
        }
        if s.len() > MAX
            || !s.is_ascii()
            || s.bytes().any(|b| b.is_ascii_whitespace() || b.is_ascii_control())
        {
            return Err(TokenError::Mistyped);
        }
        // From the right, because a host name may have dashes.
        let fields: Vec<&str> = s.rsplitn(5, '-').collect();
        let [check, secret, id, print, front] = fields[..] else {
            return Err(TokenError::Truncated);
        };
        let lengths = [check.len(), secret.len(), id.len(), print.len()];
        let body = &s[..s.len() - check.len() - 1];
        if lengths != [CHECK_CHARS, chars(SECRET_LEN), chars(ID_LEN), chars(32)] || checksum(body) != check {
            // The last field is never as long as a whole one when something was cut off, and then the fields
            // before it are found one place too far to the right.
            let cut = lengths[0] != CHECK_CHARS || lengths[1] != chars(SECRET_LEN);
            return Err(if cut {
                TokenError::Truncated
            } else {
                TokenError::Mistyped
            });
        }
        let address = front
            .strip_prefix(PREFIX)
            .and_then(|a| a.strip_prefix('-'))
            .ok_or(TokenError::Mistyped)?;
        let address = if address == LAN {
            String::new()
        } else {
            let (host, port) = address.rsplit_once(':').ok_or(TokenError::Mistyped)?;
            if host.is_empty() || port.parse::<u16>().is_err() {
                return Err(TokenError::Mistyped);
            }
            if host.contains(':') {
                format!("[{host}]:{port}")
            } else {
                address.to_owned()
            }
        };
        let authority = unbase32(print)
            .and_then(|v| v.try_into().ok())
            .ok_or(TokenError::Mistyped)?;
        Ok(Self {
            address,
            authority,
            id: id.to_owned(),
            secret: secret.to_owned(),
        })
    }
}

/// Base32 in lower case without padding.
pub fn base32(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(chars(bytes.len()));
    let (mut acc, mut bits) = (0u32, 0);
    for b in bytes {
        acc = (acc << 8) | u32::from(*b);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(char::from(ALPHABET[(acc >> bits) as usize & 31]));
        }
        acc &= (1 << bits) - 1;
    }
    if bits > 0 {
        out.push(char::from(ALPHABET[(acc << (5 - bits)) as usize & 31]));
    }
    out
}

/// The reverse; upper case is accepted too.
pub fn unbase32(s: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(s.len() * 5 / 8);
    let (mut acc, mut bits) = (0u32, 0);
    for c in s.bytes() {
        let c = c.to_ascii_lowercase();
        acc = (acc << 5) | ALPHABET.iter().position(|a| *a == c)? as u32;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push((acc >> bits) as u8);
        }
        acc &= (1 << bits) - 1;
    }
    (acc == 0).then_some(out)
}

/// Characters that `n` bytes need.
const fn chars(n: usize) -> usize {
    (n * 8).div_ceil(5)
}

fn checksum(body: &str) -> String {
    let mut c = base32(&Sha256::digest(body.as_bytes())[..4]);
    c.truncate(CHECK_CHARS);
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(address: &str) -> Token {
        Token {
            address: address.into(),
            authority: [0xa5; 32],
            id: base32(&[1; ID_LEN]),
            secret: base32(&[2; SECRET_LEN]),
        }
    }

    #[test]
    fn comes_back_whatever_the_address() {
        for a in [
            "10.77.0.1:7838",
            "[fe80::1%eth0]:7838",
            "[::1]:1",
            "node-1.my-site.example:65535",
            "lan:7838",
            "",
        ] {
            let word = token(a).to_string();
            assert!(!word.contains(['[', ']', '*', '?', ' ', '$', '\'']), "{word}");
            assert_eq!(word.parse(), Ok(token(a)), "{word}");
            assert_eq!(format!(" {word}\n").parse(), Ok(token(a)));
        }
    }

    #[test]
    fn one_for_the_lan_has_no_address() {
        let word = token("").to_string();
        assert!(word.starts_with("QJOIN1-lan-"), "{word}");
        // Anything else has to have a port.
        for other in ["LAN", "h1", "lan:"] {
            let body = word.replace("-lan-", &format!("-{other}-"));
            let body = &body[..body.len() - CHECK_CHARS - 1];
            let word = format!("{body}-{}", checksum(body));
            assert_eq!(word.parse::<Token>(), Err(TokenError::Mistyped), "{word}");
        }
    }

    #[test]
    fn each_truncation_and_each_wrong_character_is_told() {
        let word = token("node-1.example:7838").to_string();
        for n in 2..word.len() {
            assert_eq!(
                word[..n].parse::<Token>(),
                Err(TokenError::Truncated),
                "{}",
                &word[..n]
            );
        }
        for i in 0..word.len() {
            for c in ["q", "Z", "7", "-", ".", ":", " ", "é"] {
                if &word[i..=i] != c {
                    let bad = format!("{}{c}{}", &word[..i], &word[i + 1..]);
                    assert!(bad.parse::<Token>().is_err(), "{bad}");
                }
            }
        }
        assert_eq!(
            word.replace("node", "nude").parse::<Token>(),
            Err(TokenError::Mistyped)
        );
        assert_eq!(
            word.replace("QJOIN1", "QJOIN2").parse::<Token>(),
            Err(TokenError::OtherVersion)
        );
    }

    #[test]
    fn garbage_is_not_a_token() {
        for s in [
            "",
            "-",
            "hello",
            "h2",
            "QJ",
            "QJOIN1",
            "QJOIN1-----",
            &"QJOIN1-".repeat(999),
            "é",
            "\0",
        ] {
            assert!(s.parse::<Token>().is_err(), "{s:?}");
        }
        assert_eq!("hello".parse::<Token>(), Err(TokenError::NotAToken));
    }

    #[test]
    fn base32_is_rfc_4648s() {
        assert_eq!(base32(b"foobar"), "mzxw6ytboi");
        assert_eq!(base32(b"f"), "my");
        assert_eq!(unbase32("MZXW6YTBOI"), Some(b"foobar".to_vec()));
        assert_eq!(unbase32("m1"), None);
        for n in 0..40u8 {
            let v: Vec<u8> = (0..n).map(|i| i.wrapping_mul(37)).collect();
            assert_eq!(unbase32(&base32(&v)), Some(v.clone()));
            assert_eq!(base32(&v).len(), chars(v.len()));
        }
    }
}
