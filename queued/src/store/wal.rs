//! Looks at a write-ahead log of SQLite before it is opened. SQLite drops a tail whose checksums are wrong without a
//! word, and overwrites it; we keep a copy and say so. Knows the format (sqlite.org/walformat.html); changes nothing.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Length of the log's header, and of that of each frame.
const HEADER: usize = 32;
const FRAME: usize = 24;
/// Copies of damaged logs that may be there; then no more are made.
const COPIES: usize = 20;

/// What is in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tail {
    /// Bytes that SQLite will use: up to the end of the last commit.
    pub good: u64,
    /// Bytes in the file.
    pub len: u64,
    /// Something is torn or damaged after the last commit that can be used.
    pub torn: bool,
    /// Frames of the same run of the log after the torn one: what they say is lost.
    pub after: u64,
}

/// SQLite's checksum: two sums over pairs of words.
fn sum(bytes: &[u8], big: bool, start: (u32, u32)) -> (u32, u32) {
    let word = |b: [u8; 4]| {
        if big {
            u32::from_be_bytes(b)
        } else {
            u32::from_le_bytes(b)
        }
    };
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().fold(start, |(a, b), &[p, q, r, s, t, u, v, w]| {
        let a = a.wrapping_add(word([p, q, r, s])).wrapping_add(b);
        (a, b.wrapping_add(word([t, u, v, w])).wrapping_add(a))
    })
}

/// A word of a header; they are all big-endian.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_be_bytes)
}

/// Reads until `buf` is full or the file ends: how much.
fn fill(from: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < buf.len() {
        match from.read(&mut buf[n..]) {
            Ok(0) => break,
            Ok(m) => n += m,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(n)
}

/// Reads a log from its beginning.
pub(super) fn scan(from: &mut impl Read) -> io::Result<Tail> {
    let mut tail = Tail::default();
    let mut head = [0; HEADER];
    let n = fill(from, &mut head)?;
    tail.len = n as u64;
    let magic = word(&head, 0);
    let big = magic & 1 == 1;
    let page = match word(&head, 8) {
        1 => 65536,
        p => p as usize,
    };
    let mut sums = sum(&head[..24], big, (0, 0));
    if n == 0 {
        return Ok(tail);
    }
    let sound = n == HEADER
        && magic & !1 == 0x377f_0682
        && page.is_power_of_two()
        && (512..=65536).contains(&page)
        && (word(&head, 24), word(&head, 28)) == sums;
    if !sound {
        tail.torn = true;
        tail.len += io::copy(from, &mut io::sink())?;
        return Ok(tail);
    }
    tail.good = HEADER as u64;
    let mut frame = vec![0; FRAME + page];
    loop {
        let n = fill(from, &mut frame)?;
        tail.len += n as u64;
        if n == 0 {
            return Ok(tail);
        }
        // The frame of an earlier run, which the present one has not yet overwritten, has other salts.
        let ours = n >= 16 && frame[8..16] == head[16..24];
        if tail.torn {
            tail.after += u64::from(ours && n == frame.len());
            continue;
        }
        if !ours {
            if n < frame.len() && n < 16 {
                tail.torn = true;
            }
            // All that follows is older still, but for a frame of ours behind a gap.
            let mut behind = 0;
            loop {
                let n = fill(from, &mut frame)?;
                tail.len += n as u64;
                if n == 0 {
                    break;
                }
                behind += u64::from(n == frame.len() && frame[8..16] == head[16..24]);
            }
            tail.torn |= behind > 0;
            tail.after = behind;
            return Ok(tail);
        }
        let next = sum(&frame[FRAME..], big, sum(&frame[..8], big, sums));
        if n < frame.len() || (word(&frame, 16), word(&frame, 20)) != next {
            tail.torn = true;
            continue;
        }
        sums = next;
        if word(&frame, 4) != 0 {
            tail.good = tail.len;
        }
    }
}

/// Looks at the log of a database that nobody has open. If it has a damaged tail, it is copied aside first: the answer
/// says so, for the log. `date` becomes part of the copy's name.
pub(super) fn inspect(db: &Path, date: &str) -> io::Result<Option<String>> {
    let wal = beside(db, "-wal");
    let file = match File::open(&wal) {
        Ok(f) => f,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let tail = scan(&mut io::BufReader::with_capacity(1 << 17, file))?;
    if !tail.torn {
        return Ok(None);
    }
    let (copied, copies) = (aside(db, date), copies(db));
    let lost = match tail.after {
        0 => "what was written last was not finished and had not been acknowledged, unless the disk lost it"
            .to_owned(),
        n => format!(
            "{n} records behind the damage cannot be used: acknowledged jobs of the last moments may be missing"
        ),
    };
    let kept = if copies >= COPIES {
        format!("{copies} copies of earlier ones are there, no more are made")
    } else {
        std::fs::copy(&wal, &copied)?;
        format!("a copy is kept as {}", copied.display())
    };
    Ok(Some(format!(
        "the end of {} is damaged after {} of {} bytes; {kept}; {lost}",
        wal.display(),
        tail.good,
        tail.len
    )))
}

/// A file beside the database.
pub(super) fn beside(db: &Path, suffix: &str) -> PathBuf {
    let mut name = db.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A name for a copy that is not there yet.
fn aside(db: &Path, date: &str) -> PathBuf {
    let first = beside(db, &format!("-wal.damaged-{date}"));
    let others = (1..=COPIES).map(|n| beside(db, &format!("-wal.damaged-{date}.{n}")));
    let mut all = std::iter::once(first.clone()).chain(others);
    all.find(|p| !p.exists()).unwrap_or(first)
}

/// How many copies there are.
fn copies(db: &Path) -> usize {
    let Some((dir, name)) = db.parent().zip(db.file_name()) else {
        return 0;
    };
    let start = format!("{}-wal.damaged-", name.to_string_lossy());
    std::fs::read_dir(dir).map_or(0, |d| {
        d.flatten()
            .filter(|e| e.file_name().to_string_lossy().starts_with(&start))
            .count()
    })
}
