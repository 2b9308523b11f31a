//! What the words of `queue attach` and `queue detach` ask for. Pure.

use super::table::Verb;
use super::{Given, take_apart, usage};
use crate::forms::escape_char;
use crate::messages::Failure;
use crate::options::{Id, Opt, opt};
use crate::relay::escape;
use libqueue::job;
use std::ffi::OsString;

/// `queue attach`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// A session or a job; `None`: the only session that is detached.
    pub id: Option<String>,
    /// Only look.
    pub watch: bool,
    /// The escape character.
    pub escape: Option<u8>,
    /// As JSON: what could be attached to.
    pub json: bool,
}

/// `queue detach`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detach {
    /// The sessions; none: the one that we are in, or the only one that is attached.
    pub ids: Vec<String>,
    /// As JSON.
    pub json: bool,
}

const HELP: Opt = opt(Id::Help, "", &["help"], "", "show this and exit 0");

/// The entry of `attach` in the table.
#[rustfmt::skip]
pub const ATTACH: Verb = Verb {
    name: "attach",
    usage: &["[--watch] [--escape CHAR] [--json] [ID]"],
    summary: "this terminal becomes that of a session; or follow a job",
    text: "\
From any host of the cluster, for sessions of your own with a terminal: what is on the screen there is shown here, and \
the window gets this one's size. Whoever was attached is let go. Without ID it is your only detached session. It ends as the \
command ends, or with `~d`, which leaves it alone.
With the number of a batch job: shows its output and goes on until it ends, and exits as it does. `~.` and `~d` (with \
Enter) and Ctrl-C leave the job alone.
",
    options: &[
        opt(Id::Named("watch"), "", &["watch"], "", "only look, beside whoever is attached; q leaves"),
        opt(Id::Escape, "", &["escape"], "CHAR", "`CHAR.` gives up, `CHARd` detaches; none: nothing does (~)"),
        opt(Id::Json, "", &["json"], "", "print the sessions that could be meant, and attach to none"),
        HELP,
    ],
    examples: &[
        ("queue attach", "back to what I detached"),
        ("queue attach --watch s1a2", "look over my own shoulder"),
        ("queue attach 12", "what a batch job does"),
    ],
};

/// The entry of `detach`.
#[rustfmt::skip]
pub const DETACH: Verb = Verb {
    name: "detach",
    usage: &["[--json] [ID...]"],
    summary: "leave sessions with a terminal; their commands go on",
    text: "\
As `~d` inside of a session, from anywhere. The `queue` that was attached says how to come back, and exits 0. Without \
ID it is the session in which this is typed, else the only one of yours that is attached.
",
    options: &[opt(Id::Json, "", &["json"], "", "print JSON, for programs"), HELP],
    examples: &[("queue detach s1a2b3c4d", ""), ("queue detach", "typed inside of a session: that one")],
};

/// Reads the words of `attach`.
///
/// # Errors
/// One line for the user.
pub fn attach(verb: &'static Verb, words: &[OsString], json: bool) -> Result<Attach, Failure> {
    let Given { found, mut words } = take_apart(verb, words)?;
    if words.len() > 1 {
        return Err(usage(verb));
    }
    let mut a = Attach {
        id: words.pop(),
        watch: false,
        escape: Some(escape::DEFAULT),
        json,
    };
    for (id, value) in &found {
        match id {
            Id::Escape => a.escape = escape_char(value.as_ref(), "--escape")?,
            Id::Json => a.json = true,
            Id::Named(_) => a.watch = true,
            _ => {}
        }
    }
    if let Some(id) = a.id.as_deref().filter(|id| job::is_id(id)) {
        job::ids(id).map_err(Failure::own)?;
    }
    Ok(a)
}

/// Reads the words of `detach`.
///
/// # Errors
/// One line for the user.
pub fn detach(verb: &'static Verb, words: &[OsString], json: bool) -> Result<Detach, Failure> {
    let given = take_apart(verb, words)?;
    // Digits alone may be the beginning of a session's id; a session is meant here, then.
    let is_job = |w: &&String| job::is_id(w) && (w.len() < 3 || w.contains(['.', '-']));
    if let Some(job) = given.words.iter().find(is_job) {
        return Err(Failure::own(format!(
            "{job} is the number of a batch job, and only sessions are detached (`queue jobs` lists them): jobs run with nobody attached"
        )));
    }
    Ok(Detach {
        json: json || given.has(Id::Json),
        ids: given.words,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn attach_words() {
        let read = |l: &str| attach(&ATTACH, &words(l), false);
        let plain = Attach {
            id: None,
            watch: false,
            escape: Some(b'~'),
            json: false,
        };
        assert_eq!(read("").unwrap(), plain);
        assert_eq!(
            read("--watch s1a2 --escape=%").unwrap(),
            Attach {
                id: Some("s1a2".into()),
                watch: true,
                escape: Some(b'%'),
                json: false
            }
        );
        assert_eq!(read("12.3 --escape none").unwrap().escape, None);
        assert!(attach(&ATTACH, &[], true).unwrap().json);
        for (line, part) in [
            ("a b", "usage"),
            ("--escape ab", "no escape character"),
            ("--what", "does not know --what"),
        ] {
            let e = read(line).unwrap_err();
            assert!(e.text.contains(part), "{line}: {}", e.text);
        }
    }

    #[test]
    fn detach_words() {
        let read = |l: &str| detach(&DETACH, &words(l), false);
        assert_eq!(read("").unwrap().ids, Vec::<String>::new());
        let d = read("s1 --json s2").unwrap();
        assert!(d.json && d.ids == ["s1", "s2"]);
        assert!(read("12").unwrap_err().text.contains("batch job"));
    }
}
