//! `queue admin fetch`: brings home what a job wrote on another host. `queue-exec` starts it on the host of the
//! submission, as the user, in the directory of the submission; an ordinary session of the user reads the spool on
//! the other host ([`super::spool`]).
//!
//! What arrives is only written where the job's own options say: the other host's word for a path is not enough. A
//! file that is interrupted on its way is not there twice afterwards: see `place`.

mod place;
mod records;

use super::attached::selection;
use super::output::source::{said_by, session};
use super::spool::DONE;
use crate::leader;
use crate::messages::Failure;
use libqueue::wire::job::{job_reply, query};
use records::{Reader, Take};
use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::net::Shutdown;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Exit code for what may go well later.
const TEMPORARY: u8 = 75;
/// Exit code for what will not.
const HOPELESS: u8 = 1;
/// Variables in which `queue-exec` says where the job's output and error output go, as it was submitted.
const OUTPUT: &str = "QUEUE_FETCH_OUTPUT";
const ERROR: &str = "QUEUE_FETCH_ERROR";

/// Fetches.
///
/// # Errors
/// None: it is said, and the exit code tells whether to try again.
pub fn run(job: u64, from: &str) -> Result<u8, Failure> {
    match fetch(job, from) {
        Ok(()) => Ok(0),
        Err((failure, code)) => {
            crate::messages::say(&failure.text, false);
            Ok(code)
        }
    }
}

fn fetch(job: u64, from: &str) -> Result<(), (Failure, u8)> {
    let later = |f: Failure| (f, TEMPORARY);
    let cwd = crate::context::directory().map_err(|f| (f, HOPELESS))?;
    let pattern = |name: &str| std::env::var_os(name).map(OsString::into_vec).unwrap_or_default();
    let allowed = Allowed {
        job,
        cwd: PathBuf::from(OsStr::from_bytes(&cwd)),
        patterns: [pattern(OUTPUT), pattern(ERROR)],
    };
    let mut words = vec![b"spool".to_vec(), job.to_string().into_bytes()];
    words.extend(root(job, from).map(|r| r.into_os_string().into_vec()));

    let (mut ours, theirs) = UnixStream::pair().map_err(|e| later(Failure::own(format!("socket: {e}"))))?;
    let mut files = Files {
        allowed: &allowed,
        current: None,
        placed: Vec::new(),
        refused: None,
    };
    let mut reader = Reader::default();
    let mut wrong: Option<io::Error> = None;
    let mut complete = false;
    let result = session(from, "", words, Some(&theirs), &mut |data| {
        let taken = reader.take(data, &mut files).and_then(|end| {
            if end {
                complete = true;
                // Only what is on our disk is removed there.
                files.placed.iter().try_for_each(place::Placed::sync)?;
                ours.write_all(DONE)?;
                ours.shutdown(Shutdown::Write)?;
            }
            Ok(())
        });
        taken.map_err(|e| {
            let kind = e.kind();
            wrong = Some(e);
            kind.into()
        })
    });
    if let Some(refused) = files.refused.take() {
        return Err((Failure::own(refused), HOPELESS));
    }
    if let Some(e) = wrong {
        let code = match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory => {
                HOPELESS
            }
            _ => TEMPORARY,
        };
        return Err((
            Failure::own(format!("output of job {job} from {from}: {e}")),
            code,
        ));
    }
    let (code, said) = result.map_err(later)?;
    if code != 0 || !complete {
        return Err(later(Failure::own(said_by(from, code, &said))));
    }
    // It is gone there: nothing comes a second time.
    files.placed.into_iter().for_each(place::Placed::forget);
    Ok(())
}

/// Where the user's spool is there, by what the leader knows of the job's files.
fn root(job: u64, from: &str) -> Option<PathBuf> {
    let Ok(job_reply::Kind::Outputs(o)) = leader::reply(query::Kind::Outputs(selection(job))) else {
        return None;
    };
    let file = o
        .outputs
        .into_iter()
        .find(|o| o.spooled && o.host == from && !o.path.is_empty())?;
    let path = PathBuf::from(OsString::from_vec(file.path));
    path.parent()?.parent().map(Path::to_owned)
}

/// What a job may write.
struct Allowed {
    job: u64,
    cwd: PathBuf,
    /// Of output and error output; empty: the default, or none.
    patterns: [Vec<u8>; 2],
}

impl Allowed {
    fn path(&self, path: &[u8]) -> bool {
        let job = self.job.to_string();
        let default = [format!("queue-{job}.out"), format!("queue-{job}.%a.out")];
        let patterns = self.patterns.iter().map(Vec::as_slice).filter(|p| !p.is_empty());
        patterns.chain(default.iter().map(String::as_bytes)).any(|p| {
            fits(
                self.cwd.join(OsStr::from_bytes(p)).as_os_str().as_bytes(),
                path,
                job.as_bytes(),
            )
        })
    }
}

/// Whether a path can come of a pattern: `%j` is the job, `%a` digits, `%h %x %u` a part of a name.
fn fits(pattern: &[u8], path: &[u8], job: &[u8]) -> bool {
    let Some((first, rest)) = pattern.split_first() else {
        return path.is_empty();
    };
    let (Some(kind), true) = (rest.first(), *first == b'%') else {
        return path.first() == Some(first) && fits(rest, &path[1..], job);
    };
    let rest = &rest[1..];
    let some = |part: fn(&u8) -> bool| {
        let most = path.iter().take_while(|b| part(b)).count();
        (0..=most).any(|n| fits(rest, &path[n..], job))
    };
    match kind {
        b'%' => path.first() == Some(&b'%') && fits(rest, &path[1..], job),
        b'j' => path.strip_prefix(job).is_some_and(|p| fits(rest, p, job)),
        b'a' => some(u8::is_ascii_digit),
        _ => some(|b| *b != b'/'),
    }
}

/// The files that arrive.
struct Files<'a> {
    allowed: &'a Allowed,
    current: Option<place::Arriving>,
    placed: Vec<place::Placed>,
    refused: Option<String>,
}

impl Take for Files<'_> {
    fn begin(&mut self, room: &str, path: &[u8], size: u64) -> io::Result<()> {
        if !self.allowed.path(path) {
            let shown = String::from_utf8_lossy(path);
            let text = format!(
                "{shown} is not where job {} writes: nothing is put there",
                self.allowed.job
            );
            self.refused = Some(text);
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.current = Some(place::Arriving::begin(
            Path::new(OsStr::from_bytes(path)),
            room,
            size,
        )?);
        Ok(())
    }

    fn bytes(&mut self, data: &[u8]) -> io::Result<()> {
        self.current.as_mut().map_or(Ok(()), |c| c.write(data))
    }

    fn end(&mut self) -> io::Result<()> {
        if let Some(c) = self.current.take() {
            self.placed.push(c.finish()?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_the_job_writes() {
        let allowed = |output: &str, error: &str| Allowed {
            job: 12,
            cwd: "/home/alice/%p".into(),
            patterns: [output.into(), error.into()],
        };
        // A blank of the directory is no pattern, but it cannot be told apart there.
        let plain = |output: &str, error: &str| Allowed {
            cwd: "/home/alice".into(),
            ..allowed(output, error)
        };
        for (output, path, may) in [
            ("", "/home/alice/queue-12.out", true),
            ("", "/home/alice/queue-12.3.out", true),
            ("", "/home/alice/queue-13.out", false),
            ("", "/home/alice/.bashrc", false),
            ("", "/home/alice/queue-12.x.out", false),
            ("", "/etc/passwd", false),
            ("out/%x-%j.%a@%h%%", "/home/alice/out/a b-12.7@h2%", true),
            ("out/%x-%j", "/home/alice/out/a/../../.ssh/x-12", false),
            ("/data/%u/log", "/data/alice/log", true),
            ("/data/%u/log", "/data/a/b/log", false),
            ("log", "/home/alice/log", true),
            ("log", "/home/alice/log2", false),
        ] {
            assert_eq!(plain(output, "").path(path.as_bytes()), may, "{output} {path}");
            assert_eq!(plain("", output).path(path.as_bytes()), may, "{output} {path}");
        }
    }
}
