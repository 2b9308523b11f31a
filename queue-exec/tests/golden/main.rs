//! Golden files: what is signed and stored, and what is said on the sockets of `queue-exec`, as some version wrote
//! it. Later ones read it and write it the same. These layouts are fixed: bytes that are too many, and kinds that
//! are not known, are refused.
//!
//! `QUEUE_GOLDEN=write` adds examples that are not in their file yet, and never changes one that is.

mod packets;
mod signed;

use queue_exec::codec::hex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

/// What to do about a difference.
const BROKEN: &str = "this is a break of the format: other hosts, sessions that run through an upgrade, and files have \
    the old one. Take a new kind for what is new, and leave alone what is there. (Only as long as no version with it \
    was ever used: remove it from its file, and run the test with QUEUE_GOLDEN=write.)";

fn source(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(file)
}

/// Bytes by their labels: `# label`, then lines of hexadecimal digits.
fn parse(text: &str) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut label = String::new();
    let digits = |line: &str, at| u8::from_str_radix(&line[at..at + 2], 16).expect("hexadecimal digits");
    for line in text.lines().skip(1) {
        if let Some(l) = line.strip_prefix("# ") {
            l.clone_into(&mut label);
            assert!(all.insert(label.clone(), Vec::new()).is_none(), "{label} twice");
        } else if let Some(bytes) = all.get_mut(&label) {
            bytes.extend((0..line.len() / 2).map(|i| digits(line, 2 * i)));
        }
    }
    all
}

/// Compares examples with a file: each is read from there as it is, written as it is there, and not read with
/// another byte behind it, or without its last one.
fn compare<T: PartialEq + Debug, E: Debug>(
    file: &str,
    examples: &[(String, T)],
    write: impl Fn(&T) -> Vec<u8>,
    read: impl Fn(&[u8]) -> Result<T, E>,
) {
    let path = path(file);
    let mut text = fs::read_to_string(&path).unwrap_or_default();
    if std::env::var_os("QUEUE_GOLDEN").is_some_and(|v| v == "write") {
        if text.is_empty() {
            text = "# As it was written when it was put here; see main.rs.\n".to_owned();
        }
        let old = parse(&text);
        for (label, value) in examples.iter().filter(|(l, _)| !old.contains_key(l)) {
            text += &format!("\n# {label}\n");
            for line in write(value).chunks(48) {
                text += &hex(line);
                text.push('\n');
            }
        }
        fs::write(&path, &text).expect("written");
    }
    let mut old = parse(&text);
    for (label, value) in examples {
        let at = format!("{}, {label}", path.display());
        let bytes = old.remove(label);
        let bytes = bytes.unwrap_or_else(|| panic!("{at}: it is not there: run with QUEUE_GOLDEN=write"));
        match read(&bytes) {
            Ok(v) => assert_eq!(&v, value, "{at}: it means something else today\n{BROKEN}"),
            Err(e) => panic!("{at}: it is not read: {e:?}\n{BROKEN}"),
        }
        assert_eq!(
            write(value),
            bytes,
            "{at}: it is written otherwise today\n{BROKEN}"
        );
        let longer = [&bytes[..], &[0]].concat();
        assert!(read(&longer).is_err(), "{at}: a byte too many is taken");
        let shorter = &bytes[..bytes.len() - 1];
        assert!(read(shorter).is_err(), "{at}: a byte too few is taken");
    }
    assert!(
        old.is_empty(),
        "{}: no example for {:?} any more\n{BROKEN}",
        path.display(),
        old.keys()
    );
}

/// The name of a variant.
fn name(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    text.split(|c: char| !c.is_alphanumeric())
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Variants of an enumeration, from its source.
fn variants(file: &str, of: &str) -> BTreeSet<String> {
    let text = source(file);
    let (_, body) = text
        .split_once(&format!("pub enum {of} {{\n"))
        .expect("the enumeration");
    let (body, _) = body.split_once("\n}").expect("its end");
    let lines = body.lines().filter_map(|l| l.strip_prefix("    "));
    lines
        .filter(|l| l.starts_with(char::is_uppercase))
        .map(|l| l.chars().take_while(|c| c.is_alphanumeric()).collect())
        .collect()
}

/// Each variant has an example.
fn complete<T: Debug>(file: &str, of: &str, examples: impl IntoIterator<Item = T>) {
    let have: BTreeSet<String> = examples.into_iter().map(|v| name(&v)).collect();
    let all = variants(file, of);
    assert!(all.len() > 1, "the source of {of} is not understood");
    assert_eq!(have, all, "of {of}: make an example of each");
}
