//! What the words of `queue log` ask for. Pure.

use super::table::Verb;
use super::{Given, take_apart, usage};
use crate::messages::Failure;
use crate::options::{Id, opt};
use libqueue::job;
use libqueue::wire::job::IdRange;
use std::ffi::OsString;

/// `queue log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Which jobs and tasks.
    pub ids: Vec<IdRange>,
    /// Until they end.
    pub follow: bool,
    /// Error output, if it has a file of its own.
    pub error: bool,
    /// Only so many lines from the front.
    pub head: Option<u64>,
    /// Only so many lines from the end.
    pub tail: Option<u64>,
    /// Without the names of the tasks.
    pub raw: bool,
    /// As JSON: where it is.
    pub json: bool,
}

/// Its entry in the table.
#[rustfmt::skip]
pub const VERB: Verb = Verb {
    name: "log",
    usage: &["[-f] [--error] [--head N | --tail N] [--raw] [--json] ID..."],
    summary: "the output of jobs, from any host, also while they run",
    text: "\
The file is read by a session of your own on the host that has it, so no directory need be shared. If it is gone, \
the ends of the output that the history keeps are shown. Lines of several tasks or jobs begin with their number, as \
`12.3| `. A job that has written nothing shows nothing.
",
    options: &[
        opt(Id::Follow, "f", &["follow"], "", "go on until the jobs have ended; wait for those that have not begun"),
        opt(Id::Error, "", &["error"], "", "the error output, where it has a file of its own"),
        opt(Id::Head, "", &["head"], "N", "only the first N lines"),
        opt(Id::Tail, "n", &["tail"], "N", "only the last N lines (with -f: and what follows)"),
        opt(Id::Raw, "", &["raw"], "", "byte for byte: no numbers in front of lines"),
        opt(Id::Json, "", &["json"], "", "print JSON: where the output is, and how much; not with -f"),
        opt(Id::Help, "", &["help"], "", "show this and exit 0"),
    ],
    examples: &[
        ("queue log 12", ""),
        ("queue log -f 12", "as it is written, until the job ends"),
        ("queue log --tail 5 12.1-100", "five lines of each of these tasks"),
    ],
};

/// Reads its words.
///
/// # Errors
/// One line for the user.
pub fn read(verb: &'static Verb, words: &[OsString], json: bool) -> Result<Log, Failure> {
    let given: Given = take_apart(verb, words)?;
    if given.words.is_empty() {
        return Err(usage(verb));
    }
    let lines = |id, spelled: &str| match given.value(id) {
        None => Ok(None),
        Some(n) => match n.parse::<u64>() {
            Ok(n) => Ok(Some(n)),
            Err(_) => Err(Failure::own(format!("{spelled}: `{n}` is no number of lines"))),
        },
    };
    let log = Log {
        ids: ids(&given.words)?,
        follow: given.has(Id::Follow),
        error: given.has(Id::Error),
        head: lines(Id::Head, "--head")?,
        tail: lines(Id::Tail, "--tail")?,
        raw: given.has(Id::Raw),
        json: json || given.has(Id::Json),
    };
    if log.head.is_some() && (log.tail.is_some() || log.follow) {
        return Err(Failure::own("--head goes neither with --tail nor with -f"));
    }
    if log.json && log.follow {
        return Err(Failure::own(
            "--json tells where the output is; -f shows it: say one of them",
        ));
    }
    Ok(log)
}

fn ids(words: &[String]) -> Result<Vec<IdRange>, Failure> {
    let mut all = Vec::new();
    for w in words {
        all.extend(job::ids(w).map_err(Failure::own)?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Log, Failure> {
        let all: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        read(&VERB, &all, false)
    }

    #[test]
    fn words_of_log() {
        let l = words("-f --tail 5 12 13.2 10-20").unwrap();
        assert_eq!((l.follow, l.tail, l.ids.len()), (true, Some(5), 3));
        assert_eq!(words("-fn 5 12").unwrap().tail, Some(5));
        assert!(words("--error --raw --json 12").unwrap().json);
        for (line, part) in [
            ("", "usage: queue log"),
            ("x", "no number of a job"),
            ("--head x 1", "--head: `x`"),
            ("--head 1 --tail 1 1", "--head goes"),
            ("--head 1 -f 1", "--head goes"),
            ("--json -f 1", "say one"),
            ("--frob 1", "does not know --frob"),
        ] {
            let e = words(line).unwrap_err().text;
            assert!(e.contains(part), "{line}: {e}");
        }
    }
}
