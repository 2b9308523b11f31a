//! Durable jobs, `queue -b` and `queue -w`. What their options mean is not known here.

use super::launch::runnable;
use super::words::no_descriptors;
use super::{Command, Submission, Topic, Work, informative};
use crate::args::{End, Found, Parsed};
use crate::messages::Failure;
use crate::options::{Id, VERB_NAMES};
use crate::submit::options::Batch;

/// Whether a durable job is wanted: `-b` or `-w`, unless `-i` comes after it.
pub(crate) fn is_batch(found: &[Found]) -> bool {
    found
        .iter()
        .filter_map(|f| f.launch)
        .fold(false, |is, o| match o.id {
            Id::Batch | Id::Wait => true,
            Id::Interactive => false,
            _ => is,
        })
}

pub(super) fn batch(parsed: &Parsed<'_>) -> Result<Command, Failure> {
    if let Some(c) = informative(&parsed.found, Topic::Queue) {
        return Ok(c);
    }
    if let Some(f) = parsed.found.iter().find(|f| f.launch.is_none()) {
        return Err(Failure::own(format!(
            "{} is of the rsh form, which runs at once: a batch job is `queue -b -- COMMAND`",
            f.spelled
        )));
    }
    let has = |id| parsed.found.iter().any(|f| f.launch.is_some_and(|o| o.id == id));
    let string = parsed
        .found
        .iter()
        .rfind(|f| f.launch.is_some_and(|o| o.id == Id::CommandString));
    let what = match (string, parsed.end) {
        (Some(s), _) => {
            let head = ["-c".into(), s.value.clone()];
            Work::Shell(head.into_iter().chain(parsed.rest.iter().cloned()).collect())
        }
        (None, End::Dashes) => {
            runnable(parsed.rest)?;
            Work::Launch(parsed.rest.to_vec())
        }
        (None, End::Word) => {
            let word = parsed.rest[0].to_string_lossy();
            if VERB_NAMES.contains(&&*word) {
                return Err(Failure::own(format!(
                    "-b in front of `{word}` is ambiguous: say `queue -b -- {word} ...` to run that, `queue -b ./{word}` for a script, `queue {word} --help` for the verb"
                )));
            }
            no_descriptors(parsed.rest)?;
            Work::Script(parsed.rest.to_vec())
        }
        (None, End::Nothing) => {
            return Err(Failure::own(
                "nothing to run: `queue -b [OPTIONS] -- COMMAND [ARG...]`, or `queue -b [OPTIONS] SCRIPT [ARG...]`",
            ));
        }
    };
    // What is wrong with the options is told before anything is read.
    let batch = Batch::new(&parsed.found)?;
    let attached = has(Id::Wait);
    if batch.tee.is_some() && !attached {
        return Err(Failure::own(
            "--tee is for those who stay: add -w, or say --output FILE",
        ));
    }
    Ok(Command::Submit(Submission {
        found: parsed.found.clone(),
        what,
        attached,
        json: has(Id::Json),
    }))
}

/// What of the interface is to come.
pub(crate) fn later(f: &Found) -> Failure {
    match f.spelled.as_str() {
        "--checkpoint" => Failure::own(
            "--checkpoint comes with migration, which is not in this version yet: a job that saves its state itself gets a warning with --signal",
        ),
        s => Failure::not_yet(s),
    }
}
