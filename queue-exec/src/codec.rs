//! The fixed binary layout used by certificates, tickets and the monitor's protocol: big-endian integers
//! and byte strings with a 16-bit length. Knows no message; allocates nothing before a length is checked.

use std::fmt;

/// Bytes that do not have the expected layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(
    /// What was being read.
    pub &'static str,
);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed or truncated {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// Whether a character could drive a terminal or make a line read other than it is (marks of direction): it has no
/// place in names and texts for people. The same rule as `libqueue::text`, which the root process does not link.
pub fn is_odd(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Appends values in wire order.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Starts with the given magic bytes.
    pub fn new(magic: &[u8]) -> Self {
        Self(magic.to_vec())
    }

    /// One byte.
    pub fn u8(&mut self, v: u8) -> &mut Self {
        self.0.push(v);
        self
    }

    /// Two bytes, big endian.
    pub fn u16(&mut self, v: u16) -> &mut Self {
        self.0.extend_from_slice(&v.to_be_bytes());
        self
    }

    /// Four bytes, big endian.
    pub fn u32(&mut self, v: u32) -> &mut Self {
        self.0.extend_from_slice(&v.to_be_bytes());
        self
    }

    /// Eight bytes, big endian.
    pub fn u64(&mut self, v: u64) -> &mut Self {
        self.0.extend_from_slice(&v.to_be_bytes());
        self
    }

    /// Bytes of a length both sides know.
    pub fn fixed(&mut self, v: &[u8]) -> &mut Self {
        self.0.extend_from_slice(v);
        self
    }

    /// A byte string with a 16-bit length. Longer ones are cut, which the reader then rejects by signature
    /// or by name: callers check lengths where a person could exceed them.
    pub fn bytes(&mut self, v: &[u8]) -> &mut Self {
        let v = &v[..v.len().min(usize::from(u16::MAX))];
        self.u16(v.len() as u16).fixed(v)
    }

    /// A list of strings: a 16-bit count, then each.
    pub fn list<S: AsRef<[u8]>>(&mut self, v: &[S]) -> &mut Self {
        self.u16(v.len().min(usize::from(u16::MAX)) as u16);
        for s in v.iter().take(usize::from(u16::MAX)) {
            self.bytes(s.as_ref());
        }
        self
    }

    /// What was written so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The finished bytes.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

/// Reads values in wire order; every method fails on a short input, naming what was read.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Checks the magic bytes; `what` names the thing in errors.
    pub fn new(bytes: &'a [u8], magic: &[u8], what: &'static str) -> Result<Self, Malformed> {
        bytes
            .strip_prefix(magic)
            .map(|rest| Self { rest, what })
            .ok_or(Malformed(what))
    }

    /// `N` bytes.
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed(self.what))?;
        self.rest = rest;
        Ok(*head)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.fixed::<1>()?[0])
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.fixed().map(u16::from_be_bytes)
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.fixed().map(u32::from_be_bytes)
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.fixed().map(u64::from_be_bytes)
    }

    /// A byte string of at most `max` bytes.
    pub fn bytes(&mut self, max: usize) -> Result<&'a [u8], Malformed> {
        let n = usize::from(self.u16()?);
        if n > max || n > self.rest.len() {
            return Err(Malformed(self.what));
        }
        let (head, rest) = self.rest.split_at(n);
        self.rest = rest;
        Ok(head)
    }

    /// A UTF-8 string of at most `max` bytes without odd characters (it will be shown to people).
    pub fn text(&mut self, max: usize) -> Result<String, Malformed> {
        let s = std::str::from_utf8(self.bytes(max)?).map_err(|_| Malformed(self.what))?;
        if s.chars().any(is_odd) {
            return Err(Malformed(self.what));
        }
        Ok(s.to_owned())
    }

    /// A list of at most `count` texts of at most `max` bytes each.
    pub fn list(&mut self, count: usize, max: usize) -> Result<Vec<String>, Malformed> {
        let n = usize::from(self.u16()?);
        if n > count {
            return Err(Malformed(self.what));
        }
        (0..n).map(|_| self.text(max)).collect()
    }

    /// Nothing may be left.
    pub fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed(self.what))
        }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut s, b| {
            let _ = write!(s, "{b:02x}");
            s
        })
}

/// The reverse of [`hex`]; `None` unless it is exactly `N` bytes.
pub fn unhex<const N: usize>(s: &str) -> Option<[u8; N]> {
    let mut out = [0; N];
    if s.len() != N * 2 || !s.is_ascii() {
        return None;
    }
    for (i, o) in out.iter_mut().enumerate() {
        *o = u8::from_str_radix(&s[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_limits() {
        let b = Writer::new(b"M")
            .u8(1)
            .u16(2)
            .u32(3)
            .u64(4)
            .bytes(b"abc")
            .list(&["x", "yz"])
            .finish();
        let mut r = Reader::new(&b, b"M", "test").unwrap();
        assert_eq!((r.u8(), r.u16(), r.u32(), r.u64()), (Ok(1), Ok(2), Ok(3), Ok(4)));
        assert_eq!(r.bytes(3), Ok(&b"abc"[..]));
        assert_eq!(r.list(2, 2), Ok(vec!["x".to_owned(), "yz".to_owned()]));
        assert_eq!(r.end(), Ok(()));
        for cut in 0..b.len() {
            let Ok(mut r) = Reader::new(&b[..cut], b"M", "test") else {
                continue;
            };
            let all = (|| {
                r.u8()?;
                r.u16()?;
                r.u32()?;
                r.u64()?;
                r.bytes(3)?;
                r.list(2, 2)
            })();
            assert_eq!(all, Err(Malformed("test")), "cut at {cut}");
        }
        let mut r = Reader::new(b"M\x00\x04abcd", b"M", "test").unwrap();
        assert_eq!(r.bytes(3), Err(Malformed("test")));
        assert_eq!(unhex::<2>(&hex(&[0xab, 1])), Some([0xab, 1]));
        assert_eq!(unhex::<2>("abc"), None);
    }
}
