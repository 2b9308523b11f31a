//! Golden files of the wire format: what a version of Queue wrote is read by every later one, and written again as
//! it was. `schema.txt` has each field's tag and type, `messages/*.hex` has each kind of message, with every field
//! set, as bytes.
//!
//! A message that gets a field keeps its example: give the new field its default there, and make another example,
//! with another label, that has it set. `QUEUE_GOLDEN=write` adds what is not there yet, and never changes what is.

mod examples;
mod schema;

use prost::Message;
use schema::Schema;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What to do about a difference.
const BROKEN: &str = "this is a break of the format: other hosts, and what lies on their disks, have the old one. \
    Take a new tag for what is new, and leave alone what is there. (Only as long as no version with it was ever \
    used: remove it from its file, and run the test with QUEUE_GOLDEN=write.)";

/// Any message.
pub(crate) trait Wire: Message + Default + PartialEq + std::fmt::Debug + 'static {}

impl<M: Message + Default + PartialEq + std::fmt::Debug + 'static> Wire for M {}

/// Says what is wrong with bytes.
type Judge = dyn Fn(&[u8]) -> Result<(), String>;

/// One message in a file.
pub(crate) struct Case {
    /// What it is.
    label: String,
    /// As it is written today.
    bytes: Vec<u8>,
    /// Whether bytes mean it.
    means: Box<Judge>,
    /// Whether bytes without any known field mean nothing: no variant, all fields as if not said.
    nothing: Box<Judge>,
}

impl Case {
    /// Of this value.
    fn new<M: Wire>(label: &str, value: M) -> Self {
        Self {
            label: label.to_owned(),
            bytes: value.encode_to_vec(),
            means: Box::new(move |bytes| match M::decode(bytes) {
                Ok(m) if m == value => Ok(()),
                Ok(m) => Err(format!("it means {m:?}\ninstead of {value:?}")),
                Err(e) => Err(format!("it is not read: {e}")),
            }),
            nothing: Box::new(|bytes| match M::decode(bytes) {
                Ok(m) if m == M::default() => Ok(()),
                other => Err(format!("{other:?}")),
            }),
        }
    }
}

/// A file of messages of one type.
pub(crate) struct Golden {
    /// Type, as in the schema: `Launch`, `job::Run`.
    kind: &'static str,
    /// Name of the file.
    file: String,
    cases: Vec<Case>,
}

impl Golden {
    /// One message.
    pub(crate) fn one<M: Wire>(kind: &'static str, value: M) -> Self {
        Self::many(kind, vec![("all fields", value)])
    }

    /// One of each variant.
    pub(crate) fn many<M: Wire>(kind: &'static str, values: Vec<(&'static str, M)>) -> Self {
        let file = kind.replace("::", "-").to_lowercase() + ".hex";
        let cases = values.into_iter().map(|(l, v)| Case::new(l, v)).collect();
        Self { kind, file, cases }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn writing() -> bool {
    std::env::var_os("QUEUE_GOLDEN").is_some_and(|v| v == "write")
}

/// Writes what is not in a file yet: for each message `# label`, then its bytes in lines of hexadecimal digits.
fn add(path: &Path, g: &Golden) {
    let head = || {
        format!(
            "# {} as it was written when it was put here; see main.rs.\n",
            g.kind
        )
    };
    let mut text = fs::read_to_string(path).unwrap_or_else(|_| head());
    let old = parse(&text);
    for c in g.cases.iter().filter(|c| !old.contains_key(&c.label)) {
        text += &format!("\n# {}\n", c.label);
        for line in c.bytes.chunks(48) {
            text.extend(line.iter().map(|b| format!("{b:02x}")));
            text.push('\n');
        }
    }
    fs::write(path, text).expect("written");
}

/// Messages of a file, by their labels.
fn parse(text: &str) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let digits = |line: &str, at| u8::from_str_radix(&line[at..at + 2], 16).expect("hexadecimal digits");
    let mut label = String::new();
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

#[test]
fn messages_are_what_they_were() {
    let folder = folder().join("messages");
    let schema = Schema::read();
    let mut files = BTreeSet::new();
    for g in examples::all() {
        let path = folder.join(&g.file);
        assert!(files.insert(g.file.clone()), "{} twice", g.file);
        if writing() {
            add(&path, &g);
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        let mut old = parse(&text);
        for case in &g.cases {
            let at = format!("{}, {}", path.display(), case.label);
            let bytes = old.remove(&case.label);
            let bytes =
                &bytes.unwrap_or_else(|| panic!("{at}: it is not there: run with QUEUE_GOLDEN=write"));
            (case.means)(bytes).unwrap_or_else(|e| panic!("{at}: {e}\n{BROKEN}"));
            assert_eq!(
                &case.bytes, bytes,
                "{at}: it is written otherwise today\n{BROKEN}"
            );
            // What a later version adds, here and in the messages inside, makes no difference.
            let later = schema.with_unknown(g.kind, bytes);
            assert!(later.len() > bytes.len());
            (case.means)(&later).unwrap_or_else(|e| panic!("{at}, with unknown fields: {e}"));
            (case.nothing)(&schema::UNKNOWN.concat())
                .unwrap_or_else(|e| panic!("{at}, an unknown variant: {e}"));
        }
        assert!(
            old.is_empty(),
            "{}: no example for {:?} any more\n{BROKEN}",
            g.file,
            old.keys()
        );
    }
    for f in fs::read_dir(&folder).expect("a folder") {
        let name = f.expect("a file").file_name().to_string_lossy().into_owned();
        assert!(
            files.contains(&name),
            "{name}: there is no example for it any more\n{BROKEN}"
        );
    }
}

#[test]
fn every_field_of_every_message_is_in_some_file() {
    let schema = Schema::read();
    let mut seen = BTreeSet::new();
    for g in examples::all() {
        for c in &g.cases {
            schema.fields_in(g.kind, &c.bytes, &mut seen);
        }
    }
    let missing: Vec<String> = schema
        .all_fields()
        .filter(|f| !seen.contains(f))
        .map(|(m, t)| format!("{m} {t}"))
        .collect();
    assert!(missing.is_empty(), "no example has {missing:?}: make one");
}

#[test]
fn tags_are_never_used_again() {
    let path = folder().join("schema.txt");
    let now = Schema::read().lines();
    if writing() {
        let mut all: BTreeSet<String> = fs::read_to_string(&path)
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect();
        all.extend(now.iter().cloned());
        fs::write(&path, all.into_iter().map(|l| l + "\n").collect::<String>()).expect("written");
    }
    let old = fs::read_to_string(&path).expect("schema.txt");
    let old: BTreeSet<String> = old.lines().map(str::to_owned).collect();
    let gone: Vec<_> = old.difference(&now).collect();
    assert!(
        gone.is_empty(),
        "not in the messages any more: {gone:#?}\n{BROKEN} If only a name has changed, change it in schema.txt."
    );
    let new: Vec<_> = now.difference(&old).collect();
    assert!(
        new.is_empty(),
        "not yet in schema.txt: {new:#?}: run with QUEUE_GOLDEN=write"
    );
}

#[test]
fn numbers_that_are_not_known_are_not_said() {
    use libqueue::wire::{ErrorCode, SessionAnswer, job};
    let answer = SessionAnswer {
        code: 999,
        ..SessionAnswer::default()
    };
    let again = SessionAnswer::decode(&answer.encode_to_vec()[..]).expect("a message");
    assert_eq!((again.code(), again.code), (ErrorCode::Unknown, 999));
    let job = job::Job {
        state: 99,
        ..job::Job::default()
    };
    assert_eq!(job.state(), job::State::Unknown);
}
