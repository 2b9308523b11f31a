//! From a job's run to what init is told, and to where the output goes. Runs as the user; touches files only to see
//! where home is and to write a script down.

use super::home::{self, Spool};
use super::memory::Samples;
use super::output::{Names, Target, below, expand};
use crate::account::Account;
use libqueue::wire::job::{Cause, Params, Run, Running};
use prost::Message as _;
use queue_exec::entries;
use queue_exec::protocol::{JobKey, RUN_MAX};
use queue_init::Spec;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Instant;

/// What a job finds out about itself. Nothing of the submission's own (made in another job) is left of these.
const OWN: [&str; 10] = [
    "QUEUE_JOB_ID",
    "QUEUE_TASK_ID",
    "QUEUE_ENTRY",
    "QUEUE_ATTEMPT",
    "QUEUE_RESTARTS",
    "QUEUE_HOST",
    "QUEUE_SUBMIT_HOST",
    "QUEUE_CLASS",
    "QUEUE_CORES",
    "QUEUE_SESSION_ID",
];

/// Why a job is not run: for its outcome.
pub(crate) type Refused = (Cause, String);

/// Where and as whom it runs.
pub(crate) struct Here {
    pub(crate) host: String,
    pub(crate) account: Account,
    pub(crate) pam_env: Vec<Vec<u8>>,
    /// Or why there is none.
    pub(crate) spool: Result<Spool, String>,
}

/// What is to be done.
pub(crate) struct Plan {
    pub(crate) spec: Spec,
    /// Where standard output goes, and standard error, if elsewhere; none: it is thrown away.
    pub(crate) targets: Vec<Target>,
    pub(crate) cap: u64,
    /// To be removed in the end.
    pub(crate) script: Option<PathBuf>,
    /// What people call it.
    pub(crate) name: Vec<u8>,
}

impl Plan {
    /// What the job says of itself once it runs.
    pub(crate) fn running(&self, pid: i32, started_ms: u64) -> Running {
        let path = |i: usize| {
            self.targets
                .get(i)
                .map(|t| t.path.as_os_str().as_bytes().to_vec())
        };
        Running {
            pid: pid as u32,
            started_ms,
            output: path(0).unwrap_or_default(),
            spooled: self.targets.iter().any(|t| t.home.is_some()),
            error: path(1).unwrap_or_default(),
        }
    }
}

/// The run's bytes, out of the packet or the memory file that came with it.
pub(crate) fn read_run(inline: Vec<u8>, file: Option<OwnedFd>) -> Result<Vec<u8>, Refused> {
    let Some(file) = file else { return Ok(inline) };
    let failed = |e: &dyn std::fmt::Display| (Cause::Internal, format!("the run could not be read: {e}"));
    let file = File::from(file);
    let len = file.metadata().map_err(|e| failed(&e))?.len();
    if len > RUN_MAX as u64 {
        return Err((
            Cause::Rejected,
            format!("the run has {len} bytes, at most {RUN_MAX} are allowed"),
        ));
    }
    let mut bytes = Vec::with_capacity(len as usize + 1);
    // Wherever its position is.
    nix::unistd::lseek(&file, 0, nix::unistd::Whence::SeekSet).map_err(|e| failed(&e.desc()))?;
    file.take(RUN_MAX as u64)
        .read_to_end(&mut bytes)
        .map_err(|e| failed(&e))?;
    Ok(bytes)
}

/// Reads run and parameters.
pub(crate) fn decode(run: &[u8], params: &[u8]) -> Result<(Run, Params), Refused> {
    let wrong = |what: &str| {
        (
            Cause::Rejected,
            format!("malformed {what}: is the submitting host's queue newer?"),
        )
    };
    let run = Run::decode(run).map_err(|_| wrong("run"))?;
    let params = Params::decode(params).map_err(|_| wrong("parameters"))?;
    Ok((run, params))
}

/// Works out what to execute, and where its output goes.
pub(crate) fn plan(run: Run, params: &Params, key: JobKey, here: &mut Here) -> Result<Plan, Refused> {
    check(&run, params)?;
    let here_is_home = run.submit_host == here.host || params.home_here || home::is_here(&run);
    let targets = targets(&run, key, here, here_is_home)?;
    if here_is_home && params.last {
        home::forget(&run);
    }
    let env = environment(&run, params, key, here);
    let mut plan = Plan {
        targets,
        cap: run.output_cap,
        script: None,
        name: run.argv[0].clone(),
        spec: Spec {
            program: run.argv[0].clone(),
            argv: run.argv,
            env,
            cwd: run.cwd,
            cwd_optional: false,
            umask: Some(run.umask),
            nice: run.nice,
            rlimits: run.rlimits.iter().map(|r| (r.resource, r.soft, r.hard)).collect(),
            ignored: 0,
            blocked: 0,
            terminal: u8::MAX,
        },
    };
    if !run.script.is_empty() {
        script(&mut plan, &run.script, here)?;
    }
    Ok(plan)
}

/// What makes no sense is refused before anything is touched.
fn check(run: &Run, params: &Params) -> Result<(), Refused> {
    let rejected = |text: &str| Err((Cause::Rejected, text.to_owned()));
    let nul = |list: &[Vec<u8>]| list.iter().any(|s| s.contains(&0));
    if run.argv.is_empty() {
        return rejected("no command");
    }
    let entry = params.entry.as_deref();
    if nul(&run.argv)
        || nul(&run.env)
        || [&run.cwd, &run.output, &run.error].iter().any(|s| s.contains(&0))
        || entry.is_some_and(|e| e.contains(&0))
    {
        return rejected("NUL byte in an argument");
    }
    if !run.cwd.starts_with(b"/") {
        return rejected("working directory is not absolute");
    }
    match (&run.entries, entry) {
        (None, None) => Ok(()),
        (Some(e), Some(entry))
            if entries::verify(&e.root, e.count, params.entry_index, entry, &params.entry_proof) =>
        {
            Ok(())
        }
        _ => rejected("the task's entry is not the one that was submitted"),
    }
}

fn targets(run: &Run, key: JobKey, here: &Here, home: bool) -> Result<Vec<Target>, Refused> {
    if run.discard {
        return Ok(Vec::new());
    }
    let names = Names {
        job: key.job,
        task: key.task,
        host: &here.host,
        name: &run.name,
        user: &here.account.name,
    };
    let template: &[u8] = match (run.output.is_empty(), run.array) {
        (false, _) => &run.output,
        (true, false) => b"queue-%j.out",
        (true, true) => b"queue-%j.%a.out",
    };
    let mut paths = vec![below(&run.cwd, &expand(template, &names))];
    if !run.error.is_empty() {
        let error = below(&run.cwd, &expand(&run.error, &names));
        if error != paths[0] {
            paths.push(error);
        }
    }
    let header = match key.attempt {
        0 | 1 => String::new(),
        n => format!("--- attempt {n} on {}, {} ---\n", here.host, local_time()),
    };
    let target = |path, home| Target {
        path,
        home,
        header: header.clone(),
        mode: 0o666 & !run.umask,
    };
    if home {
        return Ok(paths.into_iter().map(|p| target(p, None)).collect());
    }
    let spool = here.spool.as_ref().map_err(|why| {
        (
            Cause::Internal,
            format!(
                "{} has no place for the output of {}: {why}",
                here.host, here.account.name
            ),
        )
    })?;
    let room = spool.room(key);
    let mut names: Vec<std::ffi::OsString> = Vec::new();
    let mut targets = Vec::new();
    for path in paths {
        // The same everywhere, and nobody misses what is in it.
        if path.as_os_str() == "/dev/null" {
            targets.push(target(path, None));
            continue;
        }
        let belongs = path.as_os_str().as_bytes();
        let mut name = home::base_name(belongs).unwrap_or_else(|| "output".into());
        if names.contains(&name) {
            name.push(".stderr");
        }
        targets.push(target(room.join(&name), Some(belongs.to_vec())));
        names.push(name);
    }
    Ok(targets)
}

/// A script is run by its interpreter from a file of the user's own, as the kernel would do it.
fn script(plan: &mut Plan, text: &[u8], here: &mut Here) -> Result<(), Refused> {
    let failed = |why: &str| {
        let user = &here.account.name;
        (
            Cause::Internal,
            format!("{} has no place for a script of {user}: {why}", here.host),
        )
    };
    let spool = match &mut here.spool {
        Ok(s) => s,
        Err(why) => return Err(failed(&why.clone())),
    };
    let written = spool.script(&plan.name, text);
    let path = written.map_err(|e| failed(&e.to_string()))?;
    let mut argv = interpreter(text);
    plan.spec.program.clone_from(&argv[0]);
    argv.push(path.as_os_str().as_bytes().to_vec());
    argv.extend(plan.spec.argv.drain(..).skip(1));
    plan.spec.argv = argv;
    plan.script = Some(path);
    Ok(())
}

/// Interpreter of a script and its one argument, if it has one (`execve(2)`).
fn interpreter(text: &[u8]) -> Vec<Vec<u8>> {
    let line = text.split(|b| *b == b'\n').next().unwrap_or_default();
    let words = line.strip_prefix(b"#!").unwrap_or_default().trim_ascii();
    let cut = words
        .iter()
        .position(|b| matches!(b, b' ' | b'\t'))
        .unwrap_or(words.len());
    let (program, argument) = (&words[..cut], words[cut..].trim_ascii());
    if program.is_empty() {
        return vec![b"/bin/sh".to_vec()];
    }
    // A path from the working directory, never one to be searched.
    let mut found = vec![if program.contains(&b'/') {
        program.to_vec()
    } else {
        [b"./", program].concat()
    }];
    if !argument.is_empty() {
        found.push(argument.to_vec());
    }
    found
}

fn environment(run: &Run, params: &Params, key: JobKey, here: &Here) -> Vec<Vec<u8>> {
    fn name(entry: &[u8]) -> &[u8] {
        entry.split(|c| *c == b'=').next().unwrap_or_default()
    }
    let own = |e: &[u8]| e.starts_with(b"QUEUE_") && OWN.iter().any(|n| n.as_bytes() == name(e));
    let mut env = Vec::with_capacity(run.env.len() + OWN.len() + here.pam_env.len());
    env.extend(run.env.iter().filter(|e| !own(e)).cloned());
    for e in &here.pam_env {
        if !run.env.iter().any(|r| name(r) == name(e)) {
            env.push(e.clone());
        }
    }
    let mut set = |name: &str, value: &[u8]| env.push([name.as_bytes(), b"=", value].concat());
    set("QUEUE_JOB_ID", key.job.to_string().as_bytes());
    if run.array {
        set("QUEUE_TASK_ID", key.task.to_string().as_bytes());
    }
    if let Some(entry) = &params.entry {
        set("QUEUE_ENTRY", entry);
    }
    set("QUEUE_ATTEMPT", key.attempt.to_string().as_bytes());
    set("QUEUE_RESTARTS", params.restarts.to_string().as_bytes());
    set("QUEUE_HOST", here.host.as_bytes());
    set("QUEUE_SUBMIT_HOST", run.submit_host.as_bytes());
    if !run.class.is_empty() {
        set("QUEUE_CLASS", run.class.as_bytes());
    }
    set("QUEUE_CORES", params.cores.max(1).to_string().as_bytes());
    env
}

/// Local date and time.
fn local_time() -> String {
    // SAFETY: all-zero is a valid value to be overwritten; valid pointers.
    let tm = unsafe {
        let now = libc::time(std::ptr::null_mut());
        let mut tm: libc::tm = std::mem::zeroed();
        libc::localtime_r(&raw const now, &raw mut tm);
        tm
    };
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        tm.tm_year + 1900,
        tm.tm_mon + 1,
        tm.tm_mday,
        tm.tm_hour,
        tm.tm_min,
        tm.tm_sec
    )
}

/// Samples for a run with these parameters.
pub(crate) fn samples(now: Instant, params: &Params) -> Samples {
    Samples::start(now, params.mem)
}

/// A path for people.
pub(crate) fn show(path: &[u8]) -> String {
    OsStr::from_bytes(path).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use libqueue::wire::job::Entries;
    use queue_exec::entries::Tree;

    fn here(spool: Result<Spool, String>) -> Here {
        Here {
            host: "h2".into(),
            account: Account {
                name: "alice".into(),
                uid: 2001,
                gid: 2001,
                groups: vec![],
                home: b"/home/alice".to_vec(),
                shell: b"/bin/bash".to_vec(),
            },
            pam_env: vec![b"A=pam".to_vec(), b"B=pam".to_vec()],
            spool,
        }
    }

    fn run() -> Run {
        Run {
            argv: vec![b"ls".to_vec(), b"-l".to_vec()],
            env: vec![
                b"A=1".to_vec(),
                b"QUEUE_TASK_ID=9".to_vec(),
                b"QUEUE_OPTIONS=x".to_vec(),
            ],
            cwd: b"/proj".to_vec(),
            umask: 0o27,
            submit_host: "h1".into(),
            ..Run::default()
        }
    }

    const KEY: JobKey = JobKey {
        job: 12,
        task: 0,
        attempt: 1,
    };

    fn spool() -> Result<Spool, String> {
        Ok(Spool::open("/spool/alice".into()))
    }

    #[test]
    fn a_job_knows_what_it_is() {
        let params = Params {
            restarts: 2,
            ..Params::default()
        };
        let p = plan(run(), &params, KEY, &mut here(spool())).unwrap();
        let env: Vec<_> = p.spec.env.iter().map(|e| String::from_utf8_lossy(e)).collect();
        let all = [
            "A=1",
            "QUEUE_OPTIONS=x",
            "B=pam",
            "QUEUE_JOB_ID=12",
            "QUEUE_ATTEMPT=1",
            "QUEUE_RESTARTS=2",
            "QUEUE_HOST=h2",
            "QUEUE_SUBMIT_HOST=h1",
            "QUEUE_CORES=1",
        ];
        assert_eq!(env, all);
        let bad = |change: fn(&mut Run)| {
            let mut r = run();
            change(&mut r);
            plan(r, &params, KEY, &mut here(spool()))
                .map(|_| ())
                .unwrap_err()
                .0
        };
        assert_eq!(bad(|r| r.argv.clear()), Cause::Rejected);
        assert_eq!(bad(|r| r.env.push(b"X=\0".to_vec())), Cause::Rejected);
        assert_eq!(bad(|r| r.cwd = b"here".to_vec()), Cause::Rejected);
        assert_eq!(bad(|r| r.entries = Some(Entries::default())), Cause::Rejected);
    }

    #[test]
    fn a_task_has_its_own_entry_only() {
        let entries = ["a", "b", "c"];
        let tree = Tree::new(&entries);
        let mut r = run();
        r.array = true;
        r.entries = Some(Entries {
            count: 3,
            root: tree.root().to_vec(),
        });
        let key = JobKey { task: 2, ..KEY };
        let mut params = Params {
            entry: Some(b"b".to_vec()),
            entry_index: 1,
            entry_proof: tree.proof(1),
            ..Params::default()
        };
        let p = plan(r.clone(), &params, key, &mut here(spool())).unwrap();
        for e in ["QUEUE_TASK_ID=2", "QUEUE_ENTRY=b"] {
            assert!(p.spec.env.contains(&e.as_bytes().to_vec()), "{e}");
        }
        assert!(p.targets[0].path.ends_with("12.2/queue-12.2.out"));
        params.entry = Some(b"c".to_vec());
        assert_eq!(
            plan(r, &params, key, &mut here(spool()))
                .map(|_| ())
                .unwrap_err()
                .0,
            Cause::Rejected
        );
    }

    #[test]
    fn output_goes_home_or_to_the_spool() {
        let of = |r: Run, params: &Params| plan(r, params, KEY, &mut here(spool())).unwrap();
        let paths =
            |p: &Plan| -> Vec<String> { p.targets.iter().map(|t| t.path.display().to_string()).collect() };
        let away = Params::default();
        let home = Params {
            home_here: true,
            ..Params::default()
        };
        let p = of(run(), &away);
        assert_eq!(paths(&p), ["/spool/alice/12/queue-12.out"]);
        assert_eq!(p.targets[0].home.as_deref(), Some(&b"/proj/queue-12.out"[..]));
        assert!(p.running(7, 1).spooled && p.targets[0].mode == 0o640);
        let mut r = run();
        r.name = "a/b".into();
        r.output = b"o/%x-%u@%h.%%%q".to_vec();
        r.error = b"e/%x-%u@%h.%%%q".to_vec();
        assert_eq!(
            paths(&of(r.clone(), &home)),
            ["/proj/o/a_b-alice@h2.%%q", "/proj/e/a_b-alice@h2.%%q"]
        );
        let spooled = [
            "/spool/alice/12/a_b-alice@h2.%%q",
            "/spool/alice/12/a_b-alice@h2.%%q.stderr",
        ];
        assert_eq!(paths(&of(r.clone(), &away)), spooled);
        r.error.clone_from(&r.output);
        assert_eq!(paths(&of(r.clone(), &home)).len(), 1, "one file, one pipe");
        r.submit_host = "h2".into();
        r.error = b"/dev/null".to_vec();
        assert_eq!(paths(&of(r.clone(), &away))[1], "/dev/null");
        r.discard = true;
        assert!(of(r, &away).targets.is_empty());
        let none = plan(run(), &away, KEY, &mut here(Err("disk".into())));
        assert_eq!(none.map(|_| ()).unwrap_err().0, Cause::Internal);
    }

    #[test]
    fn interpreters_are_found_as_the_kernel_finds_them() {
        let of = |text: &str| -> Vec<String> {
            interpreter(text.as_bytes())
                .into_iter()
                .map(|w| String::from_utf8(w).unwrap())
                .collect()
        };
        assert_eq!(of("echo a\n"), ["/bin/sh"]);
        assert_eq!(of("#!\n"), ["/bin/sh"]);
        assert_eq!(
            of("#! /usr/bin/env  python3 -u \nprint()"),
            ["/usr/bin/env", "python3 -u"]
        );
        assert_eq!(of("#!bin"), ["./bin"]);
    }
}
