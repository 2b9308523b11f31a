//! The first request of an X11 connection: byte order, version, name and data of the authorisation (X Window System
//! Protocol, section 8 and appendix B). Pure.

use std::num::Wrapping;

/// The only authorisation that is forwarded.
pub const PROTOCOL: &[u8] = b"MIT-MAGIC-COOKIE-1";
/// Length of the part before the name.
const HEAD: usize = 12;
/// Longest name, and longest data, of what is looked at.
const FIELD_MAX: usize = 256;

/// What is to be done with a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Wait for more.
    More,
    /// It may go on: the first `used` bytes are replaced by `instead`.
    Right {
        /// How many.
        used: usize,
        /// By these.
        instead: Vec<u8>,
    },
    /// It may not, and is told so.
    Wrong {
        /// What a display would say; empty: nothing that would be understood.
        answer: Vec<u8>,
        /// For people.
        why: &'static str,
    },
}

/// Padding to a multiple of four.
fn padded(n: usize) -> usize {
    n.next_multiple_of(4)
}

/// Looks at what came so far. The cookie `fake` has to be there, and is replaced by `cookie`; if that is empty, by
/// no authorisation at all.
pub fn check(bytes: &[u8], fake: &[u8], cookie: &[u8]) -> Verdict {
    let Some(order) = bytes.first().copied() else {
        return Verdict::More;
    };
    let big = match order {
        b'B' => true,
        b'l' => false,
        // No X11 at all: nothing that it would understand can be said.
        _ => {
            return Verdict::Wrong {
                answer: Vec::new(),
                why: "no X11",
            };
        }
    };
    let Some(head) = bytes.first_chunk::<HEAD>() else {
        return Verdict::More;
    };
    let number = |at: usize| {
        let b = [head[at], head[at + 1]];
        usize::from(if big {
            u16::from_be_bytes(b)
        } else {
            u16::from_le_bytes(b)
        })
    };
    let (name_len, data_len) = (number(6), number(8));
    if name_len > FIELD_MAX || data_len > FIELD_MAX {
        return wrong(big, "authorisation too long");
    }
    let data_at = HEAD + padded(name_len);
    let used = data_at + padded(data_len);
    if bytes.len() < used {
        return Verdict::More;
    }
    let name = &bytes[HEAD..HEAD + name_len];
    let data = &bytes[data_at..data_at + data_len];
    // Both are always compared, and all of them.
    if !(same(name, PROTOCOL) & same(data, fake)) {
        return wrong(big, "wrong authorisation for a forwarded display");
    }
    let name: &[u8] = if cookie.is_empty() { b"" } else { PROTOCOL };
    let mut instead = head[..6].to_vec();
    for n in [name.len(), cookie.len(), 0] {
        let n = n as u16;
        instead.extend(if big { n.to_be_bytes() } else { n.to_le_bytes() });
    }
    for field in [name, cookie] {
        instead.extend_from_slice(field);
        instead.resize(padded(instead.len()), 0);
    }
    Verdict::Right { used, instead }
}

/// Whether both are the same, in a time that does not tell how much of them is.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differ = a
        .iter()
        .zip(b)
        .fold(Wrapping(0_u8), |d, (a, b)| d | Wrapping(a ^ b));
    std::hint::black_box(differ).0 == 0 && a.len() == b.len()
}

/// What a display says to a connection that it does not take.
fn wrong(big: bool, why: &'static str) -> Verdict {
    let number = |n: usize| {
        let n = n as u16;
        if big { n.to_be_bytes() } else { n.to_le_bytes() }
    };
    let mut answer = vec![0, why.len() as u8];
    for n in [11, 0, padded(why.len()) / 4] {
        answer.extend(number(n));
    }
    answer.extend_from_slice(why.as_bytes());
    answer.resize(padded(answer.len()), 0);
    Verdict::Wrong { answer, why }
}
