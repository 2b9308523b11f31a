//! `queue -b` and `queue -w`: a durable job. What is typed is built into a job, which the daemon keeps; then its
//! number is printed, or we stay with it.

use super::attached;
use super::batch::explain::hopeless;
use crate::forms::{Submission, Target};
use crate::messages::{Failure, printable, say, write_all};
use crate::relay::End;
use crate::submit::build::{self, Built};
use crate::submit::client::Client;
use crate::submit::nonce::NonceFile;
use crate::tee::Tee;
use libqueue::wire::job::Submitted;
use nix::unistd::isatty;
use queue_exec::layout::Layout;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Submits it, and with `-w` stays until it has ended.
///
/// # Errors
/// It was not submitted, or nobody knows how it ended.
pub fn run(submission: &Submission) -> Result<End, Failure> {
    let mut client = Client::dial(&Layout::for_client())?;
    // While the daemon thinks of its name:
    let mut built = build::build(submission)?;
    if !submission.attached {
        let submitted = submit(&mut client, &mut built)?;
        tell(&submitted, submission.json);
        if isatty(std::io::stderr()).unwrap_or(false) {
            warn(&built, &submitted);
        }
        return Ok(End::Code(0));
    }
    let tee = built.batch.tee.as_deref().map(Tee::create).transpose()?;
    // From here on a signal ends the job as well.
    let signals = attached::Signals::catch()?;
    let old = old(&built);
    let submitted = submit(&mut client, &mut built)?;
    note(&submitted);
    if submission.json {
        tell(&submitted, true);
    }
    // Whoever stays would wait for ever.
    warn(&built, &submitted);
    let job = attached::Job {
        id: submitted.id,
        array: built.job.plan.array.is_some(),
        spooled: !submitted.spooled.is_empty(),
        here: client.host()?.to_owned(),
        old,
        escape: built.batch.escape,
    };
    attached::stay(job, signals, tee)
}

fn submit(client: &mut Client, built: &mut Built) -> Result<Submitted, Failure> {
    let here = match &built.batch.host {
        Target::Only(host) => client.host()?.eq_ignore_ascii_case(host),
        _ => false,
    };
    let run = &mut built.job.run;
    let nonce = if here || run.discard {
        None
    } else {
        NonceFile::create(Path::new("."))?
    };
    if let Some(n) = &nonce {
        n.name().clone_into(&mut run.nonce_file);
    }
    let submitted = client.submit(&built.job)?;
    // The job that was there already has a file of its own.
    if let Some(n) = nonce.filter(|_| !submitted.existed) {
        n.keep();
    }
    Ok(submitted)
}

/// The file that the job's output goes to, if it has a name of its own, and how large it is now: output is added to
/// what is in it.
fn old(built: &Built) -> Option<(PathBuf, u64)> {
    let run = &built.job.run;
    if run.output.is_empty() || run.output.contains(&b'%') {
        return None;
    }
    let path = Path::new(OsStr::from_bytes(&run.cwd)).join(OsStr::from_bytes(&run.output));
    let size = std::fs::metadata(&path).ok().filter(|m| m.is_file())?.len();
    Some((path, size))
}

fn tell(submitted: &Submitted, json: bool) {
    let text = if json {
        let spooled = Some(&submitted.spooled).filter(|s| !s.is_empty());
        serde_json::json!({
            "id": submitted.id,
            "existed": submitted.existed,
            "spooled": spooled,
        })
        .to_string()
            + "\n"
    } else {
        note(submitted);
        format!("{}\n", submitted.id)
    };
    write_all(1, text.as_bytes());
}

/// Says so if no host can ever run what was submitted. That takes a question more, which only those jobs are worth that
/// ask for something.
fn warn(built: &Built, submitted: &Submitted) {
    let plan = &built.job.plan;
    let asks = !plan.host.is_empty() || plan.need.is_some();
    if !asks || submitted.existed || !submitted.spooled.is_empty() {
        return;
    }
    if let Some(why) = hopeless(submitted.id) {
        say(&format!("job {} waits: {}", submitted.id, printable(&why)), false);
    }
}

/// What is worth knowing beside the number.
fn note(submitted: &Submitted) {
    if submitted.existed {
        say(
            &format!("the same job is there already: {} (--dedupe)", submitted.id),
            false,
        );
    }
    if !submitted.spooled.is_empty() {
        say(
            &format!(
                "job {} waits on this host, and goes to the leader by itself as soon as that answers: {}",
                submitted.id,
                printable(&submitted.spooled)
            ),
            false,
        );
    }
}
