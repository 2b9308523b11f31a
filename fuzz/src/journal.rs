//! The journal of attempts, as a monitor finds it.

use queue_exec::attempts::{Head, Line, Record, Seen, frame, unframe};

/// A journal as it comes, and its records without what protects them: what was understood is written as it was.
pub fn journal(data: &[u8]) {
    if let Ok((head, at)) = Head::read(data) {
        assert_eq!(head.write(), data[..at]);
        play(&data[at..]);
    }
    play(data);
    if let Ok(record) = Record::read(data) {
        let bytes = frame(&record);
        assert_eq!(bytes[8..], *data);
        assert_eq!(unframe(&bytes), Some((record, bytes.len())));
        for n in (0..bytes.len()).step_by(1 + bytes.len() / 64) {
            assert_eq!(unframe(&bytes[..n]), None, "torn");
        }
        for n in (8..bytes.len()).step_by(1 + bytes.len() / 64) {
            let mut bad = bytes.clone();
            bad[n] ^= 1 << (n % 8);
            assert_eq!(unframe(&bad), None, "damaged");
        }
    }
    seen(data);
}

/// Records one after the other.
fn play(mut bytes: &[u8]) {
    while let Some((record, n)) = unframe(bytes) {
        assert_eq!(frame(&record), bytes[..n]);
        bytes = &bytes[n..];
    }
}

/// Which attempts were ever seen: the same after it was written down and read again.
fn seen(data: &[u8]) {
    let mut seen = Seen::default();
    let mut hour = 0;
    for piece in data.chunks(26) {
        let body = [&[6 + piece[0] % 2], &piece[1..]].concat();
        let Some(Record::Seen(line)) = [21, 25].iter().find_map(|n| Record::read(body.get(..*n)?).ok())
        else {
            continue;
        };
        match line {
            Line::First { hour: h, .. } => {
                seen.restore(line);
                hour = h;
            }
            Line::Later { key, hour: h } => {
                if piece[0] < 128 {
                    seen.note(key, h);
                    assert!(seen.highest(key.job, key.task) >= key.attempt.min(1));
                    assert!(key.attempt < 2 || seen.highest(key.job, key.task) >= key.attempt);
                } else {
                    let before = seen.highest(key.job, key.task);
                    seen.retract(key);
                    assert!(seen.highest(key.job, key.task) <= before);
                }
            }
        }
    }
    seen.expire(hour);
    let mut again = Seen::default();
    for line in seen.lines() {
        let record = Record::Seen(line);
        assert_eq!(unframe(&frame(&record)).map(|(r, _)| r), Some(record));
        again.restore(line);
    }
    assert_eq!(again, seen);
}
