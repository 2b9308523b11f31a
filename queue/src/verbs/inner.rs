//! Words that nobody types: what a session of ours on another host, or `queue-exec` here, starts to bring output
//! to its reader, and what scripts of shells ask. Pure.

use crate::messages::Failure;
use libqueue::complete::Question;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inner {
    /// `queue admin tail FILE`: a file to standard output.
    Tail(Tail),
    /// `queue admin spool JOB`: a job's output here to standard output, to be brought home.
    Spool {
        /// The job.
        job: u64,
        /// The user's spool, if it is not where it usually is.
        root: Option<PathBuf>,
    },
    /// `queue admin fetch JOB HOST`: bring a job's output home, into this directory.
    Fetch {
        /// The job.
        job: u64,
        /// The host that has it.
        from: String,
    },
    /// `queue admin complete --shell SHELL -- WORD...`: what a shell may complete.
    Complete(Question),
}

/// How a file is read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tail {
    /// The file.
    pub path: PathBuf,
    /// From here on.
    pub offset: u64,
    /// Only so many lines from its end.
    pub lines: Option<u64>,
    /// Until standard input says `until BYTES`, or ends.
    pub follow: bool,
}

/// Reads the words behind `admin`; `None`: they are others.
pub fn read(words: &[OsString]) -> Option<Result<Inner, Failure>> {
    let (first, rest) = words.split_first()?;
    let words: Vec<&OsStr> = rest.iter().map(OsString::as_os_str).collect();
    let inner = match first.to_str()? {
        "tail" => tail(&words),
        "spool" => spool(&words),
        "fetch" => fetch(&words),
        "complete" => Question::read(rest).map(Inner::Complete),
        _ => return None,
    };
    Some(inner.ok_or_else(|| {
        Failure::own(format!(
            "`queue admin {}` is for queue itself, and these words are not what it says: are versions mixed?",
            first.to_string_lossy()
        ))
    }))
}

fn tail(words: &[&OsStr]) -> Option<Inner> {
    let mut t = Tail::default();
    let mut rest = words.iter();
    while let Some(w) = rest.next() {
        let mut number = || rest.next()?.to_str()?.parse().ok();
        match w.to_str() {
            Some("--offset") => t.offset = number()?,
            Some("--lines") => t.lines = Some(number()?),
            Some("--follow") => t.follow = true,
            Some("--") => t.path = PathBuf::from(rest.next()?),
            _ => return None,
        }
    }
    t.path.is_absolute().then_some(Inner::Tail(t))
}

fn spool(words: &[&OsStr]) -> Option<Inner> {
    let (job, root) = match *words {
        [job] => (job, None),
        [job, root] => (job, Some(PathBuf::from(root))),
        _ => return None,
    };
    Some(Inner::Spool {
        job: job.to_str()?.parse().ok()?,
        root,
    })
}

fn fetch(words: &[&OsStr]) -> Option<Inner> {
    let [job, from] = *words else { return None };
    Some(Inner::Fetch {
        job: job.to_str()?.parse().ok()?,
        from: from.to_str().filter(|f| !f.is_empty())?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_our_own() {
        let line = |l: &str| {
            let words: Vec<OsString> = l.split_whitespace().map(OsString::from).collect();
            read(&words)
        };
        assert_eq!(
            line("tail --offset 5 --lines 2 --follow -- /a/--b")
                .unwrap()
                .unwrap(),
            Inner::Tail(Tail {
                path: "/a/--b".into(),
                offset: 5,
                lines: Some(2),
                follow: true
            })
        );
        assert_eq!(
            line("spool 7").unwrap().unwrap(),
            Inner::Spool { job: 7, root: None }
        );
        assert!(line("fetch 7 h2").unwrap().is_ok());
        assert!(matches!(
            line("complete --shell zsh -- queue --json").unwrap(),
            Ok(Inner::Complete(q)) if q.words == ["queue", "--json"]
        ));
        for bad in [
            "tail",
            "tail a",
            "tail -- a",
            "tail --offset x -- /a",
            "spool x",
            "fetch 7",
            "fetch 7 h2 x",
            "complete --shell tcsh -- queue k",
        ] {
            assert!(line(bad).unwrap().is_err(), "{bad}");
        }
        assert!(line("rotate-keys").is_none() && line("").is_none());
    }
}
