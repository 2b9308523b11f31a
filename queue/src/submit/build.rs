//! From what was asked, and from what this process is, to the job: its run, its plan, its entries.

use super::entries;
use super::options::Batch;
use super::values::{self, Calendar};
use super::{Job, directives};
use crate::context;
use crate::forms::{Submission, Target, Work};
use crate::messages::Failure;
use crate::sign;
use crate::sys;
use crate::whoami;
use libqueue::wire::Rlimit;
use libqueue::wire::job::{Dedupe, Entries, Key, Plan, Run};
use nix::unistd::geteuid;
use queue_exec::entries::Tree;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::time::SystemTime;

/// Variables that say which job one is in: a job that is submitted there has its own.
const OF_A_JOB: [&[u8]; 9] = [
    b"QUEUE_JOB_ID",
    b"QUEUE_TASK_ID",
    b"QUEUE_ATTEMPT",
    b"QUEUE_ENTRY",
    b"QUEUE_CLASS",
    b"QUEUE_CORES",
    b"QUEUE_RESTARTS",
    b"QUEUE_HOST",
    b"QUEUE_SUBMIT_HOST",
];
/// Longest name that is made of a command.
const NAME_MAX: usize = 64;

/// A job that is ready to go, and what of its options concerns this end.
#[derive(Debug)]
pub struct Built {
    /// The job.
    pub job: Job,
    /// Its options.
    pub batch: Batch,
}

/// Builds it.
///
/// # Errors
/// A file of it cannot be read, or an option makes no sense.
pub fn build(s: &Submission) -> Result<Built, Failure> {
    let bytes = |v: &[OsString]| v.iter().map(|w| w.as_bytes().to_vec()).collect::<Vec<_>>();
    let (mut script, mut found) = (Vec::new(), Vec::new());
    let argv = match &s.what {
        Work::Launch(argv) => bytes(argv),
        Work::Shell(args) => [vec![b"/bin/sh".to_vec()], bytes(args)].concat(),
        Work::Script(words) => {
            let name = words.first().map(|w| w.as_os_str()).unwrap_or_default();
            script = directives::read(name)?;
            found = directives::options(&name.to_string_lossy(), &script)?;
            bytes(words)
        }
    };
    found.extend(s.found.iter().cloned());
    let mut batch = Batch::new(&found)?;
    if batch.name.is_empty() {
        batch.name = default_name(&s.what);
    }
    let cwd = context::directory()?;
    let env = environment(sys::environ());
    let qmail = std::env::var("QMAIL").unwrap_or_default().to_ascii_uppercase();
    let (array, entries) = tasks(&batch)?;
    let run = Run {
        argv,
        env,
        umask: context::own_umask(),
        nice: sys::nice(),
        rlimits: (0..context::LIMITS)
            .filter_map(|resource| sys::rlimit(resource).map(|(soft, hard)| Rlimit { resource, soft, hard }))
            .collect(),
        script,
        output: batch.output.clone(),
        error: batch.error.clone(),
        entries: (!entries.is_empty()).then(|| Entries {
            count: entries.len() as u32,
            root: Tree::new(&entries).root().to_vec(),
        }),
        output_cap: batch.cap,
        discard: qmail == "FALSE",
        name: batch.name.clone(),
        class: batch.class.clone(),
        array: array.is_some(),
        cwd,
        ..Run::default()
    };
    let plan = Plan {
        array,
        dedupe: batch.dedupe.map(|d| dedupe(&run, &batch.login, d)).transpose()?,
        parent: s.attached.then(parent).flatten(),
        attached: s.attached,
        silent: qmail == "OFF",
        ..plan(&batch)?
    };
    Ok(Built {
        job: Job {
            run,
            plan,
            entries,
            login: batch.login.clone(),
        },
        batch,
    })
}

/// What options alone say.
fn plan(b: &Batch) -> Result<Plan, Failure> {
    let (host, prefer) = match &b.host {
        Target::Any => (String::new(), String::new()),
        Target::Only(h) => (h.clone(), String::new()),
        Target::Prefer(h) => (String::new(), h.clone()),
    };
    let at_ms = match &b.start {
        None => 0,
        Some((when, text)) => {
            values::resolve(*when, text, &Here).map_err(|e| Failure::own(format!("--at: {e}")))?
        }
    };
    Ok(Plan {
        name: b.name.clone(),
        group: b.group.clone(),
        class: b.class.clone(),
        priority: b.priority,
        need: b.need.wire(false),
        host,
        prefer,
        retries: b.retries,
        time_ms: b.time_ms,
        warn_signal: b.warning.map_or(0, |(s, _)| s),
        warn_ms: b.warning.map_or(0, |(_, ms)| ms),
        after: b.after.clone(),
        at_ms,
        limits: b.limits.clone(),
        restart: b.restart as i32,
        lease_ms: b.lease_ms,
        mail: b.mail,
        mail_to: b.mail_to.clone(),
        hold: b.hold,
        ..Plan::default()
    })
}

/// The system's clock and zone.
struct Here;

impl Calendar for Here {
    fn now(&self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |d| d.as_millis() as u64)
    }

    fn local(&self, seconds: i64) -> Option<[u32; 6]> {
        sys::local_time(seconds)
    }

    fn second(&self, local: [u32; 6]) -> Option<i64> {
        sys::second_of(local)
    }
}

/// The array and the entries of its tasks.
fn tasks(b: &Batch) -> Result<(Option<libqueue::wire::job::Array>, Vec<Vec<u8>>), Failure> {
    let (option, path) = match (&b.each_line, &b.from_json) {
        (Some(p), _) => ("--each-line", p),
        (None, Some(p)) => ("--from-json", p),
        (None, None) => return Ok((b.array.clone(), Vec::new())),
    };
    let text = entries::file(path, option)?;
    let wrong = |e: String| Failure::own(format!("{option} {}: {e}", path.display()));
    let all = if b.each_line.is_some() {
        entries::lines(&text)
    } else {
        entries::json(&text)
    };
    let (array, entries) = entries::pick(all.map_err(wrong)?, b.array.clone()).map_err(wrong)?;
    Ok((Some(array), entries))
}

/// Without what tells this process of its own job.
fn environment(mut env: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    env.retain(|e| {
        let name = e.split(|b| *b == b'=').next().unwrap_or_default();
        !name.starts_with(b"QUEUE_") || !OF_A_JOB.contains(&name)
    });
    env
}

/// What people call a job that has no name: what it runs.
fn default_name(what: &Work) -> String {
    let base = |w: &OsStr| {
        Path::new(w)
            .file_name()
            .unwrap_or(w)
            .to_string_lossy()
            .into_owned()
    };
    let name = match what {
        Work::Launch(argv) | Work::Script(argv) => argv.first().map(|w| base(w)).unwrap_or_default(),
        Work::Shell(args) => {
            let first = args.get(1).map(|s| s.as_bytes().trim_ascii()).unwrap_or_default();
            let end = first
                .iter()
                .position(|b| !(b.is_ascii_alphanumeric() || b"/._+-".contains(b)));
            base(OsStr::from_bytes(&first[..end.unwrap_or(first.len())]))
        }
    };
    let name: String = crate::messages::printable(&name).chars().take(NAME_MAX).collect();
    // A name that reads as a number would be taken for a job.
    values::name(&name).unwrap_or_else(|_| "job".into())
}

/// What makes two jobs the same: owner, command or script, directory.
fn dedupe(run: &Run, login: &str, window_ms: u64) -> Result<Dedupe, Failure> {
    let uid = geteuid();
    let owner = whoami::name(uid).unwrap_or_else(|| uid.to_string());
    Ok(Dedupe {
        identity: identity(&owner, login, run)?,
        window_ms,
    })
}

fn identity(owner: &str, login: &str, run: &Run) -> Result<Vec<u8>, Failure> {
    let mut all = Vec::new();
    // Each with its length, so that no two lists give the same bytes.
    let mut part = |p: &[u8]| {
        all.extend_from_slice(&(p.len() as u64).to_be_bytes());
        all.extend_from_slice(p);
    };
    for p in [owner.as_bytes(), login.as_bytes(), &run.cwd, &run.script] {
        part(p);
    }
    // A script is what it says, not what it is called.
    let words = if run.script.is_empty() {
        &run.argv[..]
    } else {
        run.argv.get(1..).unwrap_or_default()
    };
    words.iter().for_each(|w| part(w));
    if let Some(e) = &run.entries {
        part(&e.root);
    }
    Ok(sign::hash(&all)?.to_vec())
}

/// The job that we are in.
fn parent() -> Option<Key> {
    let var = |name: &str| std::env::var_os(name).map(OsString::into_vec);
    key_of(var("QUEUE_JOB_ID"), var("QUEUE_TASK_ID"), var("QUEUE_ATTEMPT"))
}

fn key_of(job: Option<Vec<u8>>, task: Option<Vec<u8>>, attempt: Option<Vec<u8>>) -> Option<Key> {
    let number = |v: Option<Vec<u8>>| -> Option<u64> { String::from_utf8(v?).ok()?.parse().ok() };
    Some(Key {
        job: number(job).filter(|n| *n > 0)?,
        task: number(task).and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
        attempt: u32::try_from(number(attempt)?).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(argv: &[&str], script: &str, cwd: &str) -> Run {
        Run {
            argv: argv.iter().map(|a| a.as_bytes().to_vec()).collect(),
            script: script.as_bytes().to_vec(),
            cwd: cwd.as_bytes().to_vec(),
            ..Run::default()
        }
    }

    #[test]
    fn the_same_job_is_that_of_the_same_owner_words_and_directory() {
        let id = |owner, login, r: &Run| identity(owner, login, r).unwrap();
        let base = run(&["make", "all"], "", "/a");
        let same = id("alice", "", &base);
        assert_eq!(same.len(), 32);
        // Environment, name and the like do not count.
        let mut other = base.clone();
        (other.env, other.name, other.nonce) = (vec![b"A=1".to_vec()], "x".into(), vec![1]);
        assert_eq!(id("alice", "", &other), same);
        for different in [
            id("bob", "", &base),
            id("alice", "bob", &base),
            id("alice", "", &run(&["make"], "", "/a")),
            id("alice", "", &run(&["makeall"], "", "/a")),
            id("alice", "", &run(&["make", "all"], "", "/b")),
            id("alice", "", &run(&["make", "all"], "#!", "/a")),
        ] {
            assert_ne!(different, same);
        }
        let script = |name: &str, text: &str| id("alice", "", &run(&[name, "1"], text, "/a"));
        assert_eq!(script("a.sh", "x"), script("b.sh", "x"));
        assert_ne!(script("a.sh", "x"), script("a.sh", "y"));
    }

    #[test]
    fn jobs_in_jobs() {
        let v = |s: &str| Some(s.as_bytes().to_vec());
        let key = key_of(v("12"), v("3"), v("2")).unwrap();
        assert_eq!((key.job, key.task, key.attempt), (12, 3, 2));
        assert_eq!(key_of(v("12"), None, v("1")).unwrap().task, 0);
        assert!(key_of(None, None, v("1")).is_none() && key_of(v("x"), None, v("1")).is_none());
        let env = [
            "A=1",
            "QUEUE_ENTRY=x",
            "QUEUE_SOCKET=/s",
            "QUEUE_JOB_ID=1",
            "QUEUE_TASK_ID=2",
        ];
        let env = environment(env.iter().map(|e| e.as_bytes().to_vec()).collect());
        assert_eq!(env, [b"A=1".to_vec(), b"QUEUE_SOCKET=/s".to_vec()]);
    }

    #[test]
    fn names_of_what_has_none() {
        let words = |w: &[&str]| w.iter().map(OsString::from).collect::<Vec<_>>();
        for (what, name) in [
            (Work::Launch(words(&["/usr/bin/make", "x"])), "make"),
            (Work::Launch(words(&["12"])), "job"),
            (Work::Script(words(&["./run.sh"])), "run.sh"),
            (Work::Shell(words(&["-c", " sleep 3; x"])), "sleep"),
            (Work::Shell(words(&["-c", "$x"])), "job"),
            (Work::Launch(words(&["a\nb"])), "a b"),
        ] {
            assert_eq!(default_name(&what), name, "{what:?}");
        }
    }
}
