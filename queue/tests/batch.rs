//! Batch jobs from the command line, against a faked cluster: what is submitted, and what of jobs comes back.

mod fake;

use fake::{Fake, Host, Jobs, LIMIT, Step};
use libqueue::wire::job::{
    Act, Cause, Count, Deed, Job, Key, Outcome, Output, Outputs, Over, Progress, Running, State, Tried,
    job_reply, mail_when, query,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// A directory to submit in.
struct Cluster {
    fake: Fake,
    cwd: PathBuf,
}

impl Cluster {
    fn new() -> Self {
        let fake = Fake::new(&[Host::Well, Host::Well]);
        let cwd = fake.dir.join("work");
        std::fs::create_dir(&cwd).unwrap();
        Self { fake, cwd }
    }

    fn queue(&self, args: &[&str]) -> Command {
        let mut c = self.fake.queue(args);
        c.current_dir(&self.cwd).env_remove("PWD").stdin(Stdio::null());
        c
    }

    /// Exit code, standard output, standard error.
    fn say(&self, args: &[&str]) -> (i32, String, String) {
        let o = self.queue(args).output().unwrap();
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        (o.status.code().unwrap_or(-1), text(&o.stdout), text(&o.stderr))
    }

    fn jobs(&self) -> std::sync::MutexGuard<'_, Jobs> {
        self.fake.jobs.lock().unwrap()
    }

    fn answers(&self, answer: impl Fn(&query::Kind) -> Vec<Step> + Send + 'static) {
        self.jobs().answer = Some(Box::new(answer));
    }

    fn files(&self) -> Vec<String> {
        let mut all: Vec<_> = std::fs::read_dir(&self.cwd)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        all.sort();
        all
    }
}

#[test]
fn a_job_is_taken_down_as_it_is_and_its_number_is_printed() {
    let c = Cluster::new();
    let o = c
        .queue(&[
            "-b", "--cores", "2", "--name", "n", "--mail", "all", "--", "make", "a b", "",
        ])
        .env("A", "1")
        .env("QUEUE_JOB_ID", "7")
        .output()
        .unwrap();
    assert!(o.status.success());
    assert_eq!((o.stdout, o.stderr), (b"12\n".to_vec(), Vec::new()));
    let jobs = c.jobs();
    let (run, plan) = (jobs.last_run(), jobs.submitted[0].plan.clone().unwrap());
    assert_eq!(run.argv, [b"make".to_vec(), b"a b".to_vec(), Vec::new()]);
    assert_eq!(
        (run.submit_host.as_str(), run.cwd),
        ("here", c.cwd.as_os_str().as_bytes().to_vec())
    );
    assert!(run.env.contains(&b"A=1".to_vec()) && !run.env.iter().any(|e| e.starts_with(b"QUEUE_JOB_ID")));
    assert_eq!(
        (run.nonce.len(), run.class.as_str(), run.name.as_str()),
        (16, "wait", "n")
    );
    assert_eq!(
        (plan.need.unwrap().cores, plan.name.as_str(), plan.mail),
        (2, "n", Some(7))
    );
    assert!(!plan.attached && plan.parent.is_none());
    // The file by which a host knows this directory.
    assert_eq!(c.files(), std::slice::from_ref(&run.nonce_file));
    assert_eq!(
        std::fs::read_to_string(c.cwd.join(&run.nonce_file)).unwrap(),
        run.nonce_file
    );
}

#[test]
fn the_file_of_the_directory_is_there_only_if_it_is_needed() {
    let c = Cluster::new();
    assert_eq!(c.say(&["-b", "-h", "here", "--", "x"]).0, 0);
    assert!(
        c.queue(&["-b", "--", "x"])
            .env("QMAIL", "FALSE")
            .status()
            .unwrap()
            .success()
    );
    assert!(c.jobs().last_run().discard);
    assert!(c.files().is_empty());
    c.jobs().refuses = true;
    let (code, out, err) = c.say(&["-b", "-d", "night", "--", "x"]);
    assert_eq!((code, out.as_str()), (125, ""));
    assert_eq!(err, "queue: there is no class\\x1b night\n");
    assert_eq!(c.say(&["-b", "-l", "forbidden", "--", "x"]).0, 125);
    assert!(c.files().is_empty());
    c.jobs().refuses = false;
    c.jobs().says.existed = true;
    let (code, out, err) = c.say(&["-b", "--dedupe", "--", "x"]);
    assert_eq!((code, err.contains("there already")), (0, true));
    assert_eq!(
        out.trim().parse::<u64>().unwrap(),
        11 + c.jobs().submitted.len() as u64
    );
    assert!(c.files().is_empty());
}

#[test]
fn what_is_worth_knowing_is_said_beside_the_number() {
    let c = Cluster::new();
    c.jobs().says.spooled = "h0 does not\x1b answer".into();
    let (code, out, err) = c.say(&["-b", "--", "x"]);
    assert_eq!((code, out.as_str()), (0, "12\n"));
    assert!(
        err.starts_with("queue: job 12 waits on this host") && err.contains("not\\x1b answer"),
        "{err}"
    );
    let (_, out, err) = c.say(&["-b", "--json", "--", "x"]);
    let v: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (v["id"].as_u64(), v["existed"].as_bool(), err.as_str()),
        (Some(13), Some(false), "")
    );
    assert!(v["spooled"].as_str().unwrap().contains("does not"));
    let o = c.queue(&["-b", "--", "x"]).env("QMAIL", "OFF").output().unwrap();
    assert!(o.status.success() && c.jobs().submitted.last().unwrap().plan.as_ref().unwrap().silent);
}

#[test]
fn scripts_entries_and_strings() {
    let c = Cluster::new();
    std::fs::write(
        c.cwd.join("job.sh"),
        "#!/bin/sh\n#QUEUE --cores 4 --name s\n#QUEUE --mail never\necho\n",
    )
    .unwrap();
    let (code, _, err) = c.say(&["-b", "--name", "typed", "job.sh", "a", "-b"]);
    assert_eq!((code, err.as_str()), (0, ""));
    {
        let jobs = c.jobs();
        let (run, plan) = (jobs.last_run(), jobs.submitted[0].plan.clone().unwrap());
        assert_eq!(run.argv, [b"job.sh".to_vec(), b"a".to_vec(), b"-b".to_vec()]);
        assert!(run.script.starts_with(b"#!/bin/sh\n#QUEUE"));
        assert_eq!((plan.need.unwrap().cores, plan.name.as_str()), (4, "typed"));
        assert_eq!(plan.mail, Some(mail_when::NEVER));
    }
    let mut child = c
        .queue(&[
            "-b",
            "--each-line",
            "-",
            "--array",
            "%2",
            "-c",
            "echo $QUEUE_ENTRY",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"one\ntwo\n").unwrap();
    assert!(child.wait().unwrap().success());
    let jobs = c.jobs();
    let (run, submit) = (jobs.last_run(), jobs.submitted.last().unwrap().clone());
    assert_eq!(run.argv[..2], [b"/bin/sh".to_vec(), b"-c".to_vec()]);
    assert_eq!(submit.entries, [b"one".to_vec(), b"two".to_vec()]);
    let (entries, array) = (run.entries.unwrap(), submit.plan.unwrap().array.unwrap());
    assert_eq!(
        (entries.count, array.at_once, array.ranges[0].to, run.array),
        (2, 2, 2, true)
    );
    assert_eq!(
        entries.root,
        queue_exec::entries::Tree::new(&submit.entries).root()
    );
}

/// What the leader tells of one job, which a test moves on.
#[derive(Default)]
struct Life {
    host: String,
    path: PathBuf,
    outcome: Option<Outcome>,
}

const KEY: Key = Key {
    job: 12,
    task: 0,
    attempt: 1,
};

fn tried(life: &Life) -> Tried {
    Tried {
        key: Some(KEY),
        host: life.host.clone(),
        outcome: life.outcome.clone(),
        running: life.outcome.is_none().then(|| Running {
            output: life.path.as_os_str().as_bytes().to_vec(),
            ..Running::default()
        }),
        ..Tried::default()
    }
}

fn progress(life: &Life) -> Step {
    Step::Say(job_reply::Kind::Progress(Progress {
        changed: vec![tried(life)],
        states: vec![State::Running as i32],
        counts: Vec::new(),
    }))
}

/// A job that runs on `host`, is pushed when `outcome` is known, and then is over with `code`.
fn lives(c: &Cluster, host: &str, path: &Path) -> Arc<Mutex<Life>> {
    let life = Arc::new(Mutex::new(Life {
        host: host.into(),
        path: path.into(),
        outcome: None,
    }));
    let shared = life.clone();
    c.answers(move |q| {
        let now = shared.lock().unwrap();
        let outputs = |now: &Life| {
            Step::Say(job_reply::Kind::Outputs(Outputs {
                outputs: vec![Output {
                    key: Some(KEY),
                    host: now.host.clone(),
                    path: now.path.as_os_str().as_bytes().to_vec(),
                    state: State::Running as i32,
                    outcome: now.outcome.clone(),
                    ..Output::default()
                }],
            }))
        };
        match q {
            query::Kind::Outputs(_) => vec![outputs(&now)],
            query::Kind::Act(_) => vec![Step::Say(job_reply::Kind::Acted(Default::default()))],
            query::Kind::Wait(_) => {
                let (a, b) = (shared.clone(), shared.clone());
                let mut steps = vec![progress(&now)];
                steps.push(Step::Until(Box::new(move || a.lock().unwrap().outcome.is_some())));
                // Said when it is known: the steps are made beforehand.
                steps.push(Step::Later(Box::new(move || {
                    let now = b.lock().unwrap();
                    let o = now.outcome.clone().unwrap();
                    let bad = o.code != Some(0);
                    vec![
                        progress(&now),
                        Step::Say(job_reply::Kind::Over(Over {
                            code: u32::from(libqueue::job::exit_code(&o)),
                            signal: o.signal,
                            counts: vec![Count {
                                state: State::Done as i32,
                                number: 1,
                            }],
                            bad: bad
                                .then(|| Job {
                                    id: 12,
                                    outcome: Some(o),
                                    ..Job::default()
                                })
                                .into_iter()
                                .collect(),
                            nothing: false,
                        })),
                    ]
                })));
                steps
            }
            other => panic!("{other:?}"),
        }
    });
    life
}

fn ends(life: &Mutex<Life>, code: u32, written: u64) {
    let mut life = life.lock().unwrap();
    life.outcome = Some(Outcome {
        cause: Cause::Exited as i32,
        code: Some(code),
        written,
        output: life.path.as_os_str().as_bytes().to_vec(),
        head: b"only the head\n".to_vec(),
        ..Outcome::default()
    });
}

fn read_line(child: &mut BufReader<std::process::ChildStdout>) -> String {
    let mut line = String::new();
    child.read_line(&mut line).unwrap();
    line
}

fn spawn(c: &mut Command) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = c.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

#[test]
fn who_stays_sees_output_as_it_comes_and_ends_as_the_job_ends() {
    for host in ["here", "h1"] {
        let c = Cluster::new();
        let path = c.cwd.join("queue-12.out");
        let life = lives(&c, host, &path);
        let (mut child, mut out) = spawn(&mut c.queue(&["-w", "--", "x"]));
        let mut file = std::fs::File::create(&path).unwrap();
        for line in ["one\n", "two\n"] {
            file.write_all(line.as_bytes()).unwrap();
            assert_eq!(read_line(&mut out), line, "{host}");
        }
        file.write_all(b"last").unwrap();
        ends(&life, 7, 12);
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        assert_eq!(
            (rest.as_str(), child.wait().unwrap().code()),
            ("last", Some(7)),
            "{host}"
        );
        let plan = c.jobs().submitted[0].plan.clone().unwrap();
        assert!(plan.attached);
    }
}

#[test]
fn a_signal_ends_the_job_and_then_queue_by_the_same() {
    let c = Cluster::new();
    let path = c.cwd.join("queue-12.out");
    let _life = lives(&c, "here", &path);
    let (mut child, mut out) = spawn(&mut c.queue(&["-bw", "--", "x"]));
    std::fs::write(&path, "ready\n").unwrap();
    assert_eq!(read_line(&mut out), "ready\n");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(15));
    let jobs = c.jobs();
    let act = jobs.asked.iter().find_map(|q| match q {
        query::Kind::Act(a) => Some(a.clone()),
        _ => None,
    });
    let Act {
        deed, which, signal, ..
    } = act.unwrap();
    let ids = which.unwrap().ids;
    assert_eq!(
        (deed, signal, ids[0].from, ids[0].to),
        (Deed::Kill as i32, 0, 12, 12)
    );
}

#[test]
fn log_reads_where_the_output_is_and_else_what_the_history_has() {
    let c = Cluster::new();
    let path = c.cwd.join("o");
    let life = lives(&c, "h1", &path);
    // It runs and has written nothing.
    assert_eq!(c.say(&["log", "12"]), (0, String::new(), String::new()));
    std::fs::write(&path, "a\nb\nc\n").unwrap();
    assert_eq!(c.say(&["log", "12"]).1, "a\nb\nc\n");
    assert_eq!(c.say(&["log", "--tail", "1", "12"]).1, "c\n");
    assert_eq!(c.say(&["log", "--head", "2", "12"]).1, "a\nb\n");
    let launch = c.fake.last_launch();
    assert!(launch.cwd == b"/" && launch.argv[4..6] == [b"admin".to_vec(), b"tail".to_vec()]);
    assert!(!launch.env.iter().any(|e| e.starts_with(b"QUEUE_SOCKET=")));
    // Followed to its end.
    let (mut child, mut out) = spawn(&mut c.queue(&["log", "-f", "12"]));
    assert_eq!(read_line(&mut out), "a\n");
    ends(&life, 1, 6);
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!((rest.as_str(), child.wait().unwrap().code()), ("b\nc\n", Some(0)));
    std::fs::remove_file(&path).unwrap();
    let (code, text, err) = c.say(&["log", "12"]);
    assert_eq!((code, text.as_str()), (0, "only the head\n"));
    assert!(
        err.contains("/o on h1 is gone; the history of 12 has its ends:"),
        "{err}"
    );
    let (_, json, _) = c.say(&["log", "--json", "12"]);
    let v: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (v[0]["host"].as_str(), v[0]["bytes"].as_u64()),
        (Some("h1"), Some(6))
    );
    c.answers(|_| vec![Step::Say(job_reply::Kind::Outputs(Outputs::default()))]);
    assert_eq!(c.say(&["log", "13"]).0, 125);
}

#[test]
fn output_is_brought_home_once_and_only_where_it_belongs() {
    let c = Cluster::new();
    let root = c.fake.dir.join("spool/alice");
    let room = root.join("12");
    let home = c.cwd.join("queue-12.out");
    let give = |text: &str, home: &Path| {
        std::fs::create_dir_all(&room).unwrap();
        std::fs::write(room.join("out"), text).unwrap();
        let line = [b"out\0", home.as_os_str().as_bytes(), b"\0"].concat();
        std::fs::write(room.join(".home"), line).unwrap();
    };
    let path = room.join("out");
    c.answers(move |_| {
        vec![Step::Say(job_reply::Kind::Outputs(Outputs {
            outputs: vec![Output {
                key: Some(KEY),
                host: "h1".into(),
                path: path.as_os_str().as_bytes().to_vec(),
                spooled: true,
                ..Output::default()
            }],
        }))]
    });
    give("text\n", &home);
    let (code, _, err) = c.say(&["admin", "fetch", "12", "h1"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(std::fs::read_to_string(&home).unwrap(), "text\n");
    let end = Instant::now() + LIMIT;
    while room.exists() && Instant::now() < end {
        std::thread::yield_now();
    }
    assert!(!room.exists());
    assert_eq!(c.files(), ["queue-12.out"]);
    // Nothing is there any more: that is no error.
    assert_eq!(c.say(&["admin", "fetch", "12", "h1"]).0, 0);
    // A host that wants to write elsewhere.
    give("evil\n", &c.cwd.join(".bashrc"));
    let (code, _, err) = c.say(&["admin", "fetch", "12", "h1"]);
    assert!(
        code == 1 && err.contains("is not where job 12 writes"),
        "{code} {err}"
    );
    assert!(room.exists());
    assert_eq!(c.files(), ["queue-12.out"]);
    // A host that is not there: later.
    assert_eq!(c.say(&["admin", "fetch", "12", "h7"]).0, 75);
}
