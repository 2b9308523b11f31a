//! Bytes of several outputs, each line whole and with the number of its task in front; or of one, as they are.

use crate::messages::{say, write_all};
use crate::tee::Tee;

/// A line longer than this is cut in two.
const LINE_MAX: usize = 64 * 1024;

/// One output.
#[derive(Debug, Default)]
pub struct Lines {
    /// In front of each line; empty: bytes as they come.
    prefix: Vec<u8>,
    part: Vec<u8>,
}

impl Lines {
    /// With this number in front of each line, if any.
    pub fn new(name: Option<&str>) -> Self {
        Self {
            prefix: name.map(|n| format!("{n}| ").into_bytes()).unwrap_or_default(),
            part: Vec::new(),
        }
    }

    /// Takes bytes, gives those that can be shown.
    pub fn add(&mut self, data: &[u8], mut show: impl FnMut(&[u8])) {
        if self.prefix.is_empty() {
            show(data);
            return;
        }
        let mut whole = Vec::with_capacity(data.len() + 64);
        for line in data.split_inclusive(|b| *b == b'\n') {
            self.part.extend_from_slice(line);
            if line.ends_with(b"\n") || self.part.len() >= LINE_MAX {
                self.flush(&mut whole);
            }
        }
        if !whole.is_empty() {
            show(&whole);
        }
    }

    /// Gives what is left: a last line without an end gets one, as others follow.
    pub fn end(&mut self, mut show: impl FnMut(&[u8])) {
        if !self.part.is_empty() {
            let mut whole = Vec::new();
            self.flush(&mut whole);
            show(&whole);
        }
    }

    fn flush(&mut self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.prefix);
        to.append(&mut self.part);
        if to.last() != Some(&b'\n') {
            to.push(b'\n');
        }
    }
}

/// Only the first lines.
#[derive(Debug)]
pub struct Head {
    left: Option<u64>,
}

impl Head {
    /// So many; `None`: all.
    pub fn new(lines: Option<u64>) -> Self {
        Self { left: lines }
    }

    /// The part of these bytes that belongs to them.
    pub fn cut<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        let Some(left) = &mut self.left else { return data };
        if *left == 0 {
            return &[];
        }
        for (i, b) in data.iter().enumerate() {
            if *b == b'\n' {
                *left -= 1;
                if *left == 0 {
                    return &data[..=i];
                }
            }
        }
        data
    }

    /// Nothing more belongs to them.
    pub fn is_done(&self) -> bool {
        self.left == Some(0)
    }
}

/// Where it goes.
#[derive(Debug, Default)]
pub struct Screen {
    /// A copy.
    pub tee: Option<Tee>,
}

impl Screen {
    /// Shows bytes on standard output (1) or error (2).
    pub fn write(&mut self, n: usize, data: &[u8]) {
        if let Some(t) = &mut self.tee {
            t.write(data, false);
        }
        write_all(n, data);
    }

    /// Says something of ours.
    pub fn note(&self, text: &str) {
        say(text, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_whole_and_have_their_number() {
        let mut got = Vec::new();
        let mut l = Lines::new(Some("12.3"));
        l.add(b"a\nb", |d| got.extend_from_slice(d));
        l.add(b"c", |d| got.extend_from_slice(d));
        assert_eq!(got, b"12.3| a\n");
        l.add(b"\n\nlast", |d| got.extend_from_slice(d));
        l.end(|d| got.extend_from_slice(d));
        assert_eq!(got, b"12.3| a\n12.3| bc\n12.3| \n12.3| last\n");
        let mut raw = Lines::new(None);
        got.clear();
        raw.add(b"x\ny", |d| got.extend_from_slice(d));
        raw.end(|_| panic!());
        assert_eq!(got, b"x\ny");
    }

    #[test]
    fn first_lines() {
        let mut h = Head::new(Some(2));
        assert_eq!(h.cut(b"a\nb"), b"a\nb");
        assert!(!h.is_done());
        assert_eq!(h.cut(b"c\nd\n"), b"c\n");
        assert!(h.is_done() && h.cut(b"x").is_empty());
        assert_eq!(Head::new(None).cut(b"x\ny"), b"x\ny");
        assert!(Head::new(Some(0)).cut(b"x").is_empty());
    }
}
