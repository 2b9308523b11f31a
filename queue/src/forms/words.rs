//! Single words: hosts, texts, the escape character, and those that cannot travel. Knows no form.

use super::Target;
use crate::messages::Failure;
use crate::relay::escape;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

/// The escape character.
pub(crate) fn escape_char(value: &OsStr, spelled: &str) -> Result<Option<u8>, Failure> {
    escape::parse(value.as_bytes()).ok_or_else(|| {
        Failure::own(format!(
            "{spelled}: `{}` is no escape character: one character, ^X for a control character, or none",
            value.to_string_lossy()
        ))
    })
}

pub(crate) fn target(name: &OsStr, spelled: &str, named: fn(String) -> Target) -> Result<Target, Failure> {
    let name = text(name, spelled)?;
    if name == "+" {
        return Ok(Target::Any);
    }
    if name.is_empty() || name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
        return Err(Failure::own(format!("{spelled}: `{name}` is no host name")));
    }
    Ok(named(name))
}

pub(crate) fn text(value: &OsStr, spelled: &str) -> Result<String, Failure> {
    value.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::own(format!(
            "{spelled}: `{}` is not valid UTF-8",
            value.to_string_lossy()
        ))
    })
}

/// `<(...)` and its like name a descriptor of the shell here, which cannot travel.
pub(super) fn no_descriptors(words: &[OsString]) -> Result<(), Failure> {
    let names_descriptor = |w: &[u8]| {
        [&b"/dev/fd/"[..], b"/proc/self/fd/"].iter().any(|dir| {
            w.strip_prefix(*dir)
                .and_then(|n| std::str::from_utf8(n).ok()?.parse::<u32>().ok())
                .is_some_and(|n| n > 2)
        })
    };
    match words.iter().find(|w| {
        names_descriptor(w.as_bytes())
            || w.as_bytes()
                .splitn(2, |b| *b == b'=')
                .nth(1)
                .is_some_and(names_descriptor)
    }) {
        Some(w) => Err(Failure::own(format!(
            "`{}` is a descriptor of this shell and cannot go to another host: use a pipe or a file instead of <(...)",
            w.to_string_lossy()
        ))),
        None => Ok(()),
    }
}
