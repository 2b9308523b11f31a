//! Text that would drive a terminal, or make a line read other than it is: wherever people look, it is made harmless.

use std::fs;
use std::sync::Arc;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use queue_exec::layout::Layout;
use queue_front::submit::Job;
use queue_front::submit::client::Client;
use queue_harness::{Cluster, HostCommand, LIMIT, Output, Status, queue as install, wait_until};

use super::play::tell;
use super::{attacker, reported};
use crate::world::{World, queue};

/// Escape sequences of seven and of eight bits, a bell, a delete, marks of direction, and the end of a line.
const BAD: &str = "a\u{1b}[2J\u{1b}]0;t\u{7}\u{9b}31m\u{7f}\u{202e}b\u{2066}\u{200f}\r\u{8}\n\u{85}c";
/// The same without what the shell or a table would notice first.
const QUIET: &str = "a\u{202e}b\u{2066}\u{200f}c";

pub(super) fn trials(w: &Arc<World>) -> Vec<Trial> {
    vec![
        w.shared("hostile::names_of_jobs_are_harmless", names_of_jobs),
        w.shared("hostile::command_lines_are_harmless", command_lines),
        w.shared("hostile::errors_are_harmless", errors),
        w.shared("hostile::logs_are_harmless", logs),
    ]
}

fn odd(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// That nothing in it could do anything to a terminal.
fn harmless(what: &str, bytes: &[u8]) -> Result<()> {
    let text = String::from_utf8(bytes.to_vec())
        .map_err(|e| anyhow::anyhow!("{what}: {e}: {:?}", String::from_utf8_lossy(bytes)))?;
    if let Some(at) = text.find(odd) {
        let from = text[..at].rfind('\n').map_or(0, |n| n + 1);
        let line: String = text[from..].chars().take(300).collect();
        anyhow::bail!("{what} shows {line:?}");
    }
    Ok(())
}

fn both(what: &str, out: &Output) -> Result<()> {
    harmless(what, &out.stdout)?;
    harmless(what, &out.stderr)
}

fn look<'a>(c: &'a Cluster, user: &str, args: &[&str]) -> HostCommand<'a> {
    c.host(1).command(["queue"].iter().chain(args)).user(user)
}

fn names_of_jobs(c: &Cluster) -> Result<()> {
    // The front end does not take them; somebody else's does, and the leader does not believe it.
    for (option, text) in [
        ("--name", BAD),
        ("--name", QUIET),
        ("--group", QUIET),
        ("--mail-to", QUIET),
    ] {
        let out = queue(c, &["-b", option, text, "--", "true"]).run()?;
        ensure!(out.status == Status::Exit(125), "{option} {text:?}: {out:?}");
        both(option, &out)?;
    }
    let out = attacker(c, 1, "alice", "odd-jobs", &[]).ok()?;
    let told = reported(&out, "tried");
    ensure!(
        told.len() == 5 && told.iter().all(|t| t.contains("refused")),
        "{told:?}"
    );
    Ok(())
}

/// As alice, past her `queue`: jobs with names of all kinds.
pub(super) fn odd_jobs() -> Result<()> {
    let mut client = Client::dial(&Layout::for_client()).map_err(|e| anyhow::anyhow!("{}", e.text))?;
    let long = "x".repeat(100_000);
    for i in 0..5 {
        let mut job = Job::default();
        job.run.argv = vec![b"true".to_vec()];
        job.run.cwd = b"/".to_vec();
        job.run.discard = true;
        (job.run.class, job.plan.class) = ("wait".into(), "wait".into());
        match i {
            0 => job.plan.name = BAD.into(),
            1 => job.plan.group = QUIET.into(),
            2 => job.plan.name = long.clone(),
            3 => job.plan.mail_to = BAD.into(),
            _ => job.plan.class = BAD.into(),
        }
        job.plan.hold = true;
        match client.submit(&job) {
            Ok(r) => tell("tried", format!("{i}: taken {r:?}")),
            Err(e) => tell("tried", format!("{i}: refused {:?}", e.text)),
        }
    }
    Ok(())
}

fn command_lines(c: &Cluster) -> Result<()> {
    let dir = c.shared().join("odd");
    let _ = fs::remove_dir_all(&dir);
    let inner = dir.join(BAD.replace('/', "_"));
    fs::create_dir_all(&inner)?;
    for d in [&dir, &inner] {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(d, fs::Permissions::from_mode(0o777))?;
    }
    let bad = std::ffi::OsString::from(BAD);
    // A batch job that fails and says why, in a directory and with arguments of that kind; and one that is no text.
    let submit = |args: &[&std::ffi::OsStr]| -> Result<String> {
        let line = ["queue".as_ref(), "-b".as_ref(), "--".as_ref()];
        let out = c
            .host(1)
            .command(line.iter().chain(args))
            .user("alice")
            .dir(&inner)
            .env("ODD", BAD)
            .ok()?;
        both("queue -b", &out)?;
        let text = out.text();
        let id: String = text.chars().filter(char::is_ascii_digit).collect();
        ensure!(!id.is_empty(), "{out:?}");
        Ok(id)
    };
    use std::os::unix::ffi::OsStrExt;
    let no_text = std::ffi::OsStr::from_bytes(b"\xff\xfe\x9b31m\x1b[2J");
    let jobs = [
        submit(&[
            "sh".as_ref(),
            "-c".as_ref(),
            "printf '%s' \"$0\"; exit 3".as_ref(),
            &bad,
        ])?,
        submit(&[&bad])?,
        submit(&["sh".as_ref(), "-c".as_ref(), "exit 4".as_ref(), no_text])?,
    ];
    let range = jobs.join(" ");
    for id in &jobs {
        let over = || {
            let out = look(c, "alice", &["show", id, "--json"]).run();
            out.is_ok_and(|o| o.text().contains("failed") || o.text().contains("buried"))
        };
        wait_until(LIMIT, &format!("job {id} to end"), over)?;
    }
    // And a session.
    let mut session = c
        .host(1)
        .command([
            "queue".as_ref(),
            "-h".as_ref(),
            "h2".as_ref(),
            "--".as_ref(),
            "sh".as_ref(),
            "-c".as_ref(),
            "echo up; read x".as_ref(),
            bad.as_os_str(),
            no_text,
        ])
        .user("alice")
        .dir(&inner)
        .spawn_piped()?;
    wait_until(LIMIT, "the session", || session.stdout() == b"up\n")?;
    let listed = look(c, "alice", &["jobs", "--json"]).ok()?;
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout)?;
    let text = listed.to_string();
    let id = text
        .split('"')
        .find(|w| w.len() == 9 && w.starts_with('s') && w[1..].chars().all(|c| c.is_ascii_hexdigit()))
        .unwrap_or("s00000000")
        .to_owned();
    let mut seen = 0;
    for user in ["alice", "bob", "root"] {
        let ids: Vec<&str> = range.split(' ').collect();
        let first = ids[0];
        let mut lines: Vec<Vec<&str>> = vec![
            vec!["jobs"],
            vec!["jobs", "--json"],
            vec!["jobs", "--all"],
            vec!["history"],
            vec!["history", "--json"],
            vec!["hosts"],
            vec!["stats"],
            vec!["stats", "--json"],
            vec!["show", &id],
            vec!["show", &id, "--json"],
            vec!["explain", first],
            vec!["wait", first],
            vec!["wait", first, "--json"],
            vec!["kill", first],
            vec!["retry", "--json", first],
        ];
        for id in &ids {
            lines.push(vec!["show", id]);
            lines.push(vec!["show", id, "--json"]);
        }
        for line in lines {
            let out = look(c, user, &line).run()?;
            both(&format!("queue {} of {user}", line.join(" ")), &out)?;
            seen += out.stdout.len();
        }
    }
    ensure!(seen > 4000, "hardly anything was shown: {seen} bytes");
    use std::io::Write;
    session.stdin()?.write_all(b"\n")?;
    session.wait(LIMIT)?;
    Ok(())
}

fn errors(c: &Cluster) -> Result<()> {
    let lines: [&[&str]; 12] = [
        &["-h", BAD, "--", "true"],
        &["-h", "h2", "--", BAD],
        &["-h", "h2", "-l", BAD, "--", "true"],
        &["-h", "h2", "-R", BAD, "--", "true"],
        &["-d", BAD, "-b", "--", "true"],
        &[BAD],
        &["kill", BAD],
        &["show", BAD],
        &["hosts", "remove", BAD],
        &["drain", "h2", "--reason", BAD],
        &["--mem", BAD, "--", "true"],
        &["-b", "--array", BAD, "--", "true"],
    ];
    for line in lines {
        let out = queue(c, line).run()?;
        ensure!(out.status != Status::Exit(0), "{line:?}: {out:?}");
        both(&format!("queue {line:?}"), &out)?;
        ensure!(!out.stderr.is_empty(), "{line:?} fails without a word");
    }
    // What an operator says is shown to everybody.
    for reason in [BAD, QUIET] {
        let out = look(c, "root", &["drain", "h3", "--reason", reason]).run()?;
        both("queue drain", &out)?;
        let shown = look(c, "bob", &["hosts"]).ok()?;
        both("queue hosts", &shown)?;
        both("queue hosts --json", &look(c, "bob", &["hosts", "--json"]).ok()?)?;
        both("queue explain", &look(c, "bob", &["explain"]).run()?)?;
        look(c, "root", &["undrain", "h3"]).ok()?;
    }
    Ok(())
}

fn logs(c: &Cluster) -> Result<()> {
    // What strangers, users and members had said by now, and a name that wants to join.
    attacker(c, 4, "root", "join-as", &[&super::port(c, 1), BAD]).ok()?;
    for k in 1..=3 {
        let log = fs::read(install::log(c.host(k)))?;
        ensure!(!log.is_empty());
        harmless(&format!("the log of h{k}"), &log)?;
    }
    Ok(())
}
