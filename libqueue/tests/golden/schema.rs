//! The messages as their source has them: which type has which field under which tag. Read from the text of the
//! source, so that a field that somebody removes is missed. Knows the encoding of Protocol Buffers; no message.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Fields that no message has, one of each encoding (and one in a group, which are long out of use).
pub(crate) const UNKNOWN: [&[u8]; 5] = [
    &[0xa0, 0x9c, 0x01, 0xff, 0x7f],
    &[0xa9, 0x9c, 0x01, 1, 2, 3, 4, 5, 6, 7, 8],
    &[0xb2, 0x9c, 0x01, 3, 0xff, 0, 0x80],
    &[0xbd, 0x9c, 0x01, 1, 2, 3, 4],
    &[0xc3, 0x9c, 0x01, 0x08, 0x01, 0xc4, 0x9c, 0x01],
];

#[derive(Debug)]
struct Field {
    /// Name and type.
    text: String,
    /// The message that it is.
    message: Option<String>,
}

/// All messages.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    messages: BTreeMap<String, BTreeMap<u32, Field>>,
    /// Variants of enumerations.
    numbers: BTreeSet<String>,
}

/// A field as it stands in the source.
struct Source {
    owner: String,
    name: String,
    kind: String,
    attribute: String,
}

impl Schema {
    /// Reads the source.
    pub(crate) fn read() -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut schema = Self::default();
        let mut fields = Vec::new();
        let mut files = vec![(dir.join("wire.rs"), String::new())];
        let top = fs::read_to_string(dir.join("wire.rs")).expect("the source");
        for f in fs::read_dir(dir.join("wire")).expect("the source") {
            let path = f.expect("a file").path();
            let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
            // A room that is not public is a part of the whole, and gives no name to what is in it.
            let public = top.contains(&format!("pub mod {stem};"));
            let prefix = if public { stem + "::" } else { String::new() };
            if path.is_dir() {
                // Rooms of a room: all of them are parts of it.
                for f in fs::read_dir(&path).expect("the source") {
                    files.push((f.expect("a file").path(), prefix.clone()));
                }
            } else {
                files.push((path, prefix));
            }
        }
        for (path, prefix) in files {
            let text = fs::read_to_string(&path).expect("the source");
            schema.declarations(&text, &prefix, &mut fields);
        }
        // Variants of a `oneof` are fields of the message that has it.
        let mut owners = BTreeMap::new();
        for f in &fields {
            if f.attribute.starts_with("oneof") {
                let group = schema.resolve(
                    &f.owner,
                    &f.attribute
                        .split('"')
                        .nth(1)
                        .unwrap_or_default()
                        .replace("::Kind", ""),
                );
                owners.insert(group, f.owner.clone());
            }
        }
        for f in fields.iter().filter(|f| !f.attribute.starts_with("oneof")) {
            let owner = owners.get(&f.owner).unwrap_or(&f.owner);
            let tag = f
                .attribute
                .rsplit("tag = \"")
                .next()
                .and_then(|t| t.trim_end_matches('"').parse().ok());
            let tag: u32 = tag.unwrap_or_else(|| panic!("{}: {}", f.owner, f.attribute));
            let kind = f.attribute.rsplit_once(", tag").map_or("", |(k, _)| k);
            let message = kind
                .starts_with("message")
                .then(|| schema.resolve(owner, &f.kind));
            let text = match &message {
                Some(m) => format!("{} {kind} {m}", f.name),
                None => format!("{} {kind}", f.name),
            };
            let before = schema
                .messages
                .entry(owner.clone())
                .or_default()
                .insert(tag, Field { text, message });
            assert!(before.is_none(), "{owner} has tag {tag} twice");
        }
        assert!(
            schema.messages.len() > 100 && schema.numbers.len() > 50,
            "the source is not understood"
        );
        schema
    }

    /// Fields of structures and of the enumerations below `pub mod`, and the numbers of plain enumerations.
    fn declarations(&mut self, text: &str, prefix: &str, fields: &mut Vec<Source>) {
        let (mut module, mut derive, mut owner) = (String::new(), String::new(), String::new());
        let (mut attribute, mut numbers) = (String::new(), String::new());
        let mut open = String::new();
        for line in text.lines() {
            if line == "}" {
                module.clear();
            }
            let joined = open + line.trim();
            if joined.starts_with("#[") && !joined.ends_with(']') {
                open = joined + " ";
                continue;
            }
            open = String::new();
            let line = joined.as_str();
            if line.starts_with("#[cfg(test)]") {
                return;
            }
            if line.starts_with("#[derive") {
                line.clone_into(&mut derive);
            } else if let Some(a) = line.strip_prefix("#[prost(") {
                a.trim_end_matches(")]").trim().clone_into(&mut attribute);
            } else if let Some(m) = line.strip_prefix("pub mod ") {
                m.trim_end_matches(" {").clone_into(&mut module);
            } else if let Some(s) = line.strip_prefix("pub struct ") {
                let name = s.split(' ').next().unwrap_or_default();
                owner = format!("{prefix}{name}");
                numbers.clear();
                if derive.contains("Message") {
                    self.messages.entry(owner.clone()).or_default();
                }
                derive.clear();
            } else if let Some(e) = line.strip_prefix("pub enum ") {
                numbers.clear();
                if derive.contains("Oneof") {
                    owner = format!("{prefix}{module}");
                } else if derive.contains("Enumeration") {
                    numbers = format!("{prefix}{}", e.trim_end_matches(" {"));
                }
                derive.clear();
            } else if line.starts_with("//") || line.starts_with('#') {
            } else if !attribute.is_empty() {
                let line = line.trim_start_matches("pub ").trim_end_matches(',');
                let (name, kind) = line
                    .split_once(": ")
                    .or_else(|| line.trim_end_matches(')').split_once('('))
                    .unwrap_or((line, ""));
                fields.push(Source {
                    owner: owner.clone(),
                    name: name.into(),
                    kind: kind.into(),
                    attribute: std::mem::take(&mut attribute),
                });
            } else if !numbers.is_empty()
                && let Some((name, n)) = line.trim_end_matches(',').split_once(" = ")
            {
                self.numbers.insert(format!("{numbers} = {n} {name}"));
            }
        }
    }

    /// The full name of a type that is spelled so in a message: its own module's, else the outer one's.
    fn resolve(&self, owner: &str, spelled: &str) -> String {
        let inner = spelled
            .rsplit('<')
            .next()
            .unwrap_or_default()
            .trim_end_matches('>');
        let mut parts = inner.rsplit("::");
        let last = parts.next().unwrap_or_default();
        if let Some(module) = parts.next().filter(|m| *m != "super") {
            return format!("{module}::{last}");
        }
        match owner.split_once("::") {
            Some((module, _))
                if self.messages.contains_key(&format!("{module}::{last}"))
                    || last.starts_with(char::is_lowercase) =>
            {
                format!("{module}::{last}")
            }
            _ => last.to_owned(),
        }
    }

    /// One line for each field and number.
    pub(crate) fn lines(&self) -> BTreeSet<String> {
        let fields = self
            .messages
            .iter()
            .flat_map(|(m, all)| all.iter().map(move |(tag, f)| format!("{m}.{tag} {}", f.text)));
        fields.chain(self.numbers.iter().cloned()).collect()
    }

    /// Each message and tag.
    pub(crate) fn all_fields(&self) -> impl Iterator<Item = (String, u32)> {
        self.messages
            .iter()
            .flat_map(|(m, all)| all.keys().map(move |t| (m.clone(), *t)))
    }

    /// Which fields are in these bytes, and in the messages inside.
    pub(crate) fn fields_in(&self, kind: &str, bytes: &[u8], seen: &mut BTreeSet<(String, u32)>) {
        for (tag, _, content) in fields(bytes) {
            seen.insert((kind.to_owned(), tag));
            if let Some(m) = self.message(kind, tag) {
                self.fields_in(m, content, seen);
            }
        }
    }

    /// The same bytes with fields that nobody knows, before and behind the others, also in the messages inside.
    pub(crate) fn with_unknown(&self, kind: &str, bytes: &[u8]) -> Vec<u8> {
        let mut out = UNKNOWN.concat();
        for (tag, whole, content) in fields(bytes) {
            if let Some(m) = self.message(kind, tag) {
                let inner = self.with_unknown(m, content);
                put(&mut out, u64::from(tag) << 3 | 2);
                put(&mut out, inner.len() as u64);
                out.extend(inner);
            } else {
                out.extend(whole);
            }
        }
        out.extend(UNKNOWN.concat());
        out
    }

    fn message(&self, kind: &str, tag: u32) -> Option<&str> {
        let all = self
            .messages
            .get(kind)
            .unwrap_or_else(|| panic!("no message {kind}"));
        let field = all
            .get(&tag)
            .unwrap_or_else(|| panic!("{kind} has no field {tag}"));
        field.message.as_deref()
    }
}

fn put(out: &mut Vec<u8>, mut n: u64) {
    while n > 0x7f {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn number(bytes: &[u8]) -> (u64, usize) {
    let len = bytes
        .iter()
        .position(|b| b & 0x80 == 0)
        .expect("an end of a number")
        + 1;
    let n = bytes[..len]
        .iter()
        .rev()
        .fold(0, |n, b| n << 7 | u64::from(b & 0x7f));
    (n, len)
}

/// Fields one after the other: tag, all of its bytes, its content.
fn fields(mut bytes: &[u8]) -> Vec<(u32, &[u8], &[u8])> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (key, head) = number(bytes);
        let (skip, len) = match key & 7 {
            0 => (0, number(&bytes[head..]).1),
            1 => (0, 8),
            2 => {
                let (n, digits) = number(&bytes[head..]);
                (digits, n as usize)
            }
            5 => (0, 4),
            other => panic!("encoding {other}"),
        };
        let begin = head + skip;
        all.push((
            (key >> 3) as u32,
            &bytes[..begin + len],
            &bytes[begin..begin + len],
        ));
        bytes = &bytes[begin + len..];
    }
    all
}
