//! `queued upgrade`: looks whether the programs that are installed now would start, and then has those that run
//! replaced by them, queue-exec first. Knows both daemons from outside; what goes on in them meanwhile is theirs.

use super::{Site, note, say};
use crate::account;
use anyhow::{Context as _, bail};
use libqueue::frame;
use libqueue::wire::{Empty, Reply, Request as Question, Status, reply, request};
use queue_exec::client;
use queue_exec::layout::{DAEMON_USER, Layout};
use queue_exec::protocol::{About, Refusal, Reply as ExecReply, Request};
use std::io::{self, Read, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long a new program may take to say its version, or what is wrong.
const TRY: Duration = Duration::from_secs(20);
/// How long a daemon may take to bring what was begun to its end, and the next one to be usable.
const REPLACE: Duration = Duration::from_secs(30);
/// How often it is looked whether it is.
const LOOK: Duration = Duration::from_millis(10);
/// How long a daemon may take to answer a question.
const ANSWER: Duration = Duration::from_secs(10);

pub(super) fn run(args: &super::Upgrade) -> anyhow::Result<()> {
    let unchanged = || "nothing was changed, and what runs goes on".to_owned();
    let site = Site::open().with_context(unchanged)?;
    let system = Layout::system().queued_socket();
    if !site.root && (site.layout.root || (system.exists() && !site.layout.queued_socket().exists())) {
        bail!("only root may replace the programs that run: sudo queued upgrade");
    }
    let queued = status(&site).with_context(|| {
        let run = site.how_to_run();
        format!("queued does not run here, so there is nothing to replace (start it: {run})")
    })?;
    let exec = about(&site).context(
        "queue-exec does not run, or is of a version that cannot be replaced while it runs: nothing was changed \
         (restart it: sessions go on)",
    )?;
    if queued.boot.is_empty() {
        bail!(
            "the queued that runs is too old to be replaced while it runs: restart it once (sessions go on)"
        );
    }
    try_exec(&site, &exec).with_context(unchanged)?;
    try_queued(&site, &queued).with_context(unchanged)?;
    let new_exec = replace_exec(&site, &exec)?;
    let new_queued = replace_queued(&site, &queued).with_context(|| {
        format!(
            "queue-exec {} runs now, but queued was not replaced",
            new_exec.version
        )
    })?;
    tell(args.json, (&queued, &new_queued), (&exec, &new_exec));
    Ok(())
}

/// What runs now, in a line.
fn tell(json: bool, queued: (&Status, &Status), exec: (&About, &About)) {
    let sessions = exec.0.sessions.min(exec.1.sessions);
    let jobs = exec.0.jobs.min(exec.1.jobs);
    if json {
        let one = |before: &str, now: &str, program: &str| {
            let (before, now, program) = (quoted(before), quoted(now), quoted(program));
            format!("{{\"before\":{before},\"version\":{now},\"program\":{program}}}")
        };
        let all = format!(
            "{{\"host\":{},\"queued\":{},\"queue_exec\":{},\"sessions\":{sessions},\"jobs\":{jobs}}}",
            quoted(&queued.1.host),
            one(&queued.0.version, &queued.1.version, &queued.1.program),
            one(&exec.0.version, &exec.1.version, &exec.1.program),
        );
        return say(&all);
    }
    let count = |n: u32, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    say(&format!(
        "{}: {}, {}; {} and {} went on",
        queued.1.host,
        replaced("queued", &queued.0.version, &queued.1.version, &queued.1.program),
        replaced("queue-exec", &exec.0.version, &exec.1.version, &exec.1.program),
        count(sessions, "session"),
        count(jobs, "job"),
    ));
}

/// What became of a program, in words. Of the same version it may be another build: it says from where.
fn replaced(name: &str, before: &str, now: &str, program: &str) -> String {
    if before == now {
        format!("{name} {now} (same version) replaced by {program}")
    } else {
        format!("{name} {before} → {now}")
    }
}

/// A text as JSON has it.
fn quoted(text: &str) -> String {
    let one = |c: char| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    format!("\"{}\"", text.chars().map(one).collect::<String>())
}

// ---- The new programs ------------------------------------------------------------------------------------

/// The new queue-exec, and its session program, start and like their configuration.
fn try_exec(site: &Site, about: &About) -> anyhow::Result<()> {
    let program = Path::new(&about.program);
    version(program, "queue-exec", |c| c)?;
    let mut c = Command::new(program);
    if !site.layout.root {
        c.arg("--user");
    }
    c.args(["--check", "--state"])
        .arg(&site.layout.state)
        .arg("--run")
        .arg(&site.layout.run)
        .arg("--config")
        .arg(&site.layout.config);
    said(program, &output(&mut c, program)?)
}

/// The new queued starts and likes its configuration. It is tried as the user that it would run as: which program
/// that is was only said by the one that runs.
fn try_queued(site: &Site, status: &Status) -> anyhow::Result<()> {
    let program = Path::new(&status.program);
    let user = if site.root { account::find()? } else { None };
    if site.root && user.is_none() {
        bail!("there is no user {DAEMON_USER}, whom queued runs as");
    }
    let as_user = |mut c: Command| {
        if let Some(u) = &user {
            c.uid(u.uid.as_raw()).gid(u.gid.as_raw());
        }
        c
    };
    version(program, "queued", as_user)?;
    let mut c = as_user(Command::new(program));
    c.args(["check", "--takeover"]);
    said(program, &output(&mut c, program)?)
}

fn version(program: &Path, name: &str, prepare: impl FnOnce(Command) -> Command) -> anyhow::Result<()> {
    let mut c = prepare(Command::new(program));
    let out = output(c.arg("--version"), program)?;
    let text = String::from_utf8_lossy(&out.stdout);
    if !out.status.success() || text.split(' ').next() != Some(name) {
        bail!(
            "{} does not start: '{0} --version' did not say its version ({}){}; install it again",
            program.display(),
            out.status,
            last_line(&out.stderr)
        );
    }
    Ok(())
}

fn said(program: &Path, out: &Output) -> anyhow::Result<()> {
    if out.status.success() {
        return Ok(());
    }
    bail!(
        "the new {} would not run ({}){}: mend that and try again",
        program.display(),
        out.status,
        last_line(&out.stderr)
    )
}

/// Runs it with nothing to read, within a time.
fn output(c: &mut Command, program: &Path) -> anyhow::Result<Output> {
    c.stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .current_dir("/");
    let failed = || format!("{} does not start: install it again", program.display());
    let mut child = c.spawn().with_context(failed)?;
    let read = |mut from: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = from.read_to_end(&mut bytes);
            bytes
        })
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let readers = (
        stdout.map(|s| read(Box::new(s))),
        stderr.map(|s| read(Box::new(s))),
    );
    let end = Instant::now() + TRY;
    let status = loop {
        match child.try_wait().with_context(failed)? {
            Some(s) => break s,
            None if Instant::now() >= end => {
                let _ = child.kill();
                let _ = child.wait();
                bail!(
                    "{} said nothing for {} s: install it again",
                    program.display(),
                    TRY.as_secs()
                );
            }
            None => std::thread::sleep(LOOK),
        }
    };
    let text =
        |r: Option<std::thread::JoinHandle<Vec<u8>>>| r.and_then(|t| t.join().ok()).unwrap_or_default();
    Ok(Output {
        status,
        stdout: text(readers.0),
        stderr: text(readers.1),
    })
}

/// What a program complained of last, to go after what failed.
fn last_line(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().map(str::trim).rfind(|l| !l.is_empty());
    let plain = |l: &str| -> String { l.chars().filter(|c| !c.is_control()).take(300).collect() };
    line.map(|l| format!(": {}", plain(l))).unwrap_or_default()
}

// ---- The programs that run -------------------------------------------------------------------------------

fn about(site: &Site) -> anyhow::Result<About> {
    let fd = client::dial(&site.layout)?;
    match client::ask(fd.as_fd(), &Request::About, None)? {
        ExecReply::About(a) => Ok(a),
        ExecReply::Refused { text, .. } => bail!("{text}"),
        _ => bail!("it gave an answer that this version does not know"),
    }
}

/// Has queue-exec replaced; what runs then.
fn replace_exec(site: &Site, before: &About) -> anyhow::Result<About> {
    let fd = client::dial(&site.layout).context("queue-exec does not answer any more")?;
    match client::ask(fd.as_fd(), &Request::Upgrade, None) {
        Ok(ExecReply::Refused {
            code: Refusal::Busy,
            text,
        }) => note(&format!("{text}: waiting for it")),
        Ok(ExecReply::Refused { text, .. }) => {
            bail!("queue-exec goes on as it was, and so does queued: {text}")
        }
        Ok(_) => bail!("queue-exec gave an answer that this version does not know"),
        // It went, and the next one is about to come.
        Err(e) if gone(&e) => {}
        Err(e) => return Err(e).context("queue-exec does not answer"),
    }
    let other = || about(site).ok().filter(|a| a.image != before.image);
    wait_for(other).context(
        "queue-exec was replaced and does not answer: see its log; 'systemctl restart queue-exec' (or 'queued run' \
         anew) starts it, and sessions go on",
    )
}

fn status(site: &Site) -> anyhow::Result<Status> {
    match site.ask(request::Kind::Status(Empty {}))? {
        Some(reply::Kind::Status(s)) => Ok(s),
        Some(_) => bail!("queued gave an answer that this version does not know"),
        None => bail!("nothing listens at {}", site.layout.queued_socket().display()),
    }
}

/// Has queued replaced; what runs then.
fn replace_queued(site: &Site, before: &Status) -> anyhow::Result<Status> {
    let path = site.layout.queued_socket();
    let mut s = UnixStream::connect(&path)
        .with_context(|| format!("nothing listens at {} any more", path.display()))?;
    s.set_read_timeout(Some(REPLACE))?;
    s.set_write_timeout(Some(ANSWER))?;
    let question = Question {
        kind: Some(request::Kind::Upgrade(Empty {})),
    };
    s.write_all(&frame::encode(&question))?;
    match frame::read::<Reply>(&mut s) {
        Ok(Reply {
            kind: Some(reply::Kind::Error(e)),
        }) => bail!("it goes on as it was: {}", e.text),
        Ok(_) => bail!("it gave an answer that this version does not know"),
        Err(e) if gone(&e) => {}
        Err(e) => return Err(e).context("it does not answer"),
    }
    let other = || status(site).ok().filter(|s| s.boot != before.boot);
    wait_for(other).context(
        "it was executed and does not answer: see its log; 'systemctl restart queued' (or 'queued run' anew) starts \
         it, and jobs and sessions go on",
    )
}

/// The other end of the connection is no more.
fn gone(e: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(e.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

fn wait_for<T>(mut found: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let end = Instant::now() + REPLACE;
    loop {
        if let Some(t) = found() {
            return Ok(t);
        }
        if Instant::now() >= end {
            bail!("no answer of the new program for {} s", REPLACE.as_secs());
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_as_json_has_them() {
        assert_eq!(quoted("/a b/é"), "\"/a b/é\"");
        assert_eq!(quoted("\"\\\n"), "\"\\\"\\\\\\u000a\"");
    }

    #[test]
    fn what_a_program_complained_of_is_one_line() {
        assert_eq!(last_line(b"first\n bad \x1b[m thing \n\n"), ": bad [m thing");
        assert_eq!(last_line(b""), "");
    }
}
