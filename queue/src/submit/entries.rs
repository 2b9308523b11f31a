//! Entries of an array's tasks: the lines of a file, or the values of a JSON array. Each task finds its own in
//! `QUEUE_ENTRY`.

use super::client::unreadable;
use super::values::tasks;
use crate::messages::Failure;
use libqueue::wire::job::{Array, TASKS_MAX, TaskRange};
use serde::de::IgnoredAny;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Largest entry: it goes along with each dispatch, and through an environment.
const ENTRY_MAX: usize = 16 * 1024;
/// Largest file of entries: a job cannot be larger anyhow.
const FILE_MAX: u64 = 64 << 20;

/// Reads a file, or standard input for `-`.
///
/// # Errors
/// It cannot be read, or is too large.
pub fn file(path: &Path, option: &str) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let result = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(FILE_MAX + 1).read_to_end(&mut text)
    } else {
        File::open(path).and_then(|f| f.take(FILE_MAX + 1).read_to_end(&mut text))
    };
    result.map_err(|e| unreadable(&format!("{option} "), path, &e))?;
    if text.len() as u64 > FILE_MAX {
        return Err(Failure::own(format!(
            "{option} {}: larger than {} MiB",
            path.display(),
            FILE_MAX >> 20
        )));
    }
    Ok(text)
}

/// One entry for each line.
///
/// # Errors
/// Which line cannot be one.
pub fn lines(text: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    if text.is_empty() {
        return Err("there is no line in it".into());
    }
    let all = text.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    checked(all, "line")
}

/// One entry for each value of an array: its text, without blanks between its parts.
///
/// # Errors
/// It is no array, or which value cannot be an entry.
pub fn json(text: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let values: Vec<IgnoredAny> =
        serde_json::from_slice(text).map_err(|e| format!("it is no JSON array: {e}"))?;
    if values.is_empty() {
        return Err("the array is empty".into());
    }
    checked(values_of(text, values.len()), "value")
}

/// The texts of the values of an array that is known to be one.
fn values_of(text: &[u8], count: usize) -> Vec<Vec<u8>> {
    let mut all = Vec::with_capacity(count);
    let mut value = Vec::new();
    let (mut depth, mut inside, mut escaped) = (0_usize, false, false);
    for b in text.iter().copied() {
        if inside {
            inside = b != b'"' || escaped;
            escaped = b == b'\\' && !escaped;
            value.push(b);
            continue;
        }
        match b {
            b' ' | b'\t' | b'\n' | b'\r' => continue,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => inside = true,
            _ => {}
        }
        match (b, depth) {
            (b'[', 1) => {}
            (b']', 0) | (b',', 1) => all.push(std::mem::take(&mut value)),
            _ => value.push(b),
        }
    }
    all
}

fn checked(all: Vec<Vec<u8>>, what: &str) -> Result<Vec<Vec<u8>>, String> {
    if all.len() > TASKS_MAX as usize {
        return Err(format!("more than {TASKS_MAX} of them"));
    }
    for (n, entry) in all.iter().enumerate() {
        let n = n + 1;
        if entry.len() > ENTRY_MAX {
            return Err(format!("{what} {n} is longer than {ENTRY_MAX} bytes"));
        }
        if entry.contains(&0) {
            return Err(format!(
                "{what} {n} has a zero byte in it, which no environment can hold"
            ));
        }
    }
    Ok(all)
}

/// Picks those that the tasks need, and says which tasks there are.
///
/// # Errors
/// A task has no entry.
pub fn pick(all: Vec<Vec<u8>>, array: Option<Array>) -> Result<(Array, Vec<Vec<u8>>), String> {
    let count = all.len() as u32;
    let mut array = array.unwrap_or_default();
    if array.ranges.is_empty() {
        array.ranges.push(TaskRange {
            from: 1,
            to: count,
            step: 1,
        });
        return Ok((array, all));
    }
    let mut picked = Vec::with_capacity(usize::try_from(tasks(&array.ranges)).unwrap_or_default());
    for r in &array.ranges {
        for n in (r.from..=r.to).step_by(r.step.max(1) as usize) {
            let entry = all.get(n as usize - 1);
            picked.push(
                entry
                    .cloned()
                    .ok_or_else(|| format!("there is no entry {n}: there are {count}"))?,
            );
        }
    }
    Ok((array, picked))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(all: Vec<Vec<u8>>) -> Vec<String> {
        all.into_iter().map(|e| String::from_utf8(e).unwrap()).collect()
    }

    #[test]
    fn entries_of_both_kinds() {
        assert_eq!(text(lines(b"a\n\nb c\n").unwrap()), ["a", "", "b c"]);
        assert_eq!(text(lines(b"a").unwrap()), ["a"]);
        assert!(lines(b"").is_err() && lines(b"\n").is_err() && lines(b"a\0b").is_err());
        assert!(lines(&vec![b'x'; ENTRY_MAX + 1]).unwrap_err().contains("line 1"));
        let all = json(br#" [ {"b": [1, 2],  "a": "x, ]\" \\"}, "s p" , 1.50, [ ] , null, "\\" ] "#).unwrap();
        assert_eq!(
            text(all),
            [
                r#"{"b":[1,2],"a":"x, ]\" \\"}"#,
                r#""s p""#,
                "1.50",
                "[]",
                "null",
                r#""\\""#
            ]
        );
        for bad in ["", "{}", "[]", "[1,]", "[1] 2", "3"] {
            assert!(json(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn tasks_have_their_own_entries() {
        let all = || lines(b"a\nb\nc\nd\ne").unwrap();
        let (array, entries) = pick(all(), None).unwrap();
        assert_eq!((tasks(&array.ranges), entries.len()), (5, 5));
        let some = super::super::values::array("2-4:2,5%7").unwrap();
        let (array, entries) = pick(all(), Some(some)).unwrap();
        assert_eq!(
            (array.at_once, text(entries)),
            (7, vec!["b".into(), "d".into(), "e".into()])
        );
        let too_many = super::super::values::array("5-6").unwrap();
        assert!(pick(all(), Some(too_many)).unwrap_err().contains("no entry 6"));
        let (array, entries) = pick(all(), Some(super::super::values::array("%2").unwrap())).unwrap();
        assert_eq!((array.at_once, tasks(&array.ranges), entries.len()), (2, 5, 5));
    }
}
