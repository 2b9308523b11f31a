//! Letters about jobs, through a real mail server (OpenSMTPD, as Debian has it) on a host that does not lead: what
//! they say, which are written, and what becomes of them where the server is away, silent, or refuses.
//!
//! The server is not installed on this machine: `make check` unpacks it beside the built programs, and it is laid
//! over `/usr` of one host. `QUEUE_MTA` names another directory where it is unpacked.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::{Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use queue_harness::{Cluster, LIMIT, Status, queue as install, wait_for, wait_until};
use serde_json::Value;

use crate::batch::{dir, say, state, submit, until};
use crate::world::{bare, built, named};

/// Each has hosts of its own: which host can send is the whole cluster's business.
pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("mail::letters", served, letters_are_written),
        trial("mail::trouble", unserved, trouble_with_the_server),
    ]
}

fn trial(name: &str, make: fn() -> Result<Cluster>, test: fn(&Cluster) -> Result<()>) -> Trial {
    let run = move || {
        let cluster = make()?;
        test(&cluster)?;
        cluster.down()
    };
    Trial::test(name, move || {
        run().map_err(|e: anyhow::Error| Failed::from(format!("{e:?}")))
    })
}

/// A digest waits for half a minute of quiet, and a letter that failed for a minute.
const LONG: Duration = Duration::from_secs(90);
/// Most that somebody waits who has nothing to do with mail.
const SOON: Duration = Duration::from_secs(5);
/// The host with the mail server; h1 leads, and has none.
const POST: usize = 2;
/// All letters are alice's in the end; [`Letter::to`] says to whom they were sent.
const SERVER: &str = "
listen on 0.0.0.0
listen on 127.0.0.1 port 2525
listen on socket
action keep maildir \"/home/alice/letters\" virtual { \"@\" = alice }
match from any for any rcpt-to \"refused@h2\" reject
match from any for any action keep
";

/// What installing the package does on a host, but for its service.
const SET_UP: &str = "set -eu
install -d /var/lib/opensmtpd/empty
install -d -m 711 /var/spool/smtpd
hostname >/etc/mailname
if [ -d $1 ]; then
	echo opensmtpd:x:3901: >>/etc/group
	echo opensmtpq:x:3902: >>/etc/group
	echo opensmtpd:x:3901:3901::/var/lib/opensmtpd/empty:/usr/sbin/nologin >>/etc/passwd
	echo opensmtpq:x:3902:3902::/var/lib/opensmtpd/empty:/usr/sbin/nologin >>/etc/passwd
	chgrp 3902 $1/usr/sbin/smtpctl
	chmod 2755 $1/usr/sbin/smtpctl
	mount -n -t overlay -o lowerdir=$1/usr:/usr overlay /usr
fi
smtpd -n
";

fn served() -> Result<Cluster> {
    let c = without_mail()?;
    set_up(&c)?;
    serve(&c)?;
    write_mail(&c, POST, "smtp = \"h2:25\"\ntls = \"none\"\n")?;
    install::start(&c)?;
    Ok(c)
}

fn unserved() -> Result<Cluster> {
    let c = without_mail()?;
    install::start(&c)?;
    Ok(c)
}

/// Two hosts that cannot send mail, whatever this machine can.
fn without_mail() -> Result<Cluster> {
    let c = bare(2)?;
    for h in c.hosts().filter(|h| h.exists("/usr/sbin/sendmail")) {
        write_mail(&c, h.number(), "enabled = false\n")?;
    }
    Ok(c)
}

/// Where the server was unpacked.
fn unpacked() -> Result<Option<PathBuf>> {
    let beside = || Some(built().ok()?.parent()?.join("mta"));
    let Some(dir) = std::env::var_os("QUEUE_MTA").map(PathBuf::from).or_else(beside) else {
        bail!("no directory of built programs");
    };
    if dir.join("usr/sbin/smtpd").exists() {
        return Ok(Some(dir));
    }
    // Elsewhere people install it themselves.
    ensure!(
        std::path::Path::new("/usr/sbin/smtpd").exists(),
        "no OpenSMTPD in {}: `tests/scripts/check tools` unpacks it there",
        dir.display()
    );
    Ok(None)
}

/// Gives the host of the post its server, not started.
fn set_up(c: &Cluster) -> Result<()> {
    let own = c.dir().join("mta");
    if let Some(from) = unpacked()? {
        let done = Command::new("cp").arg("-a").arg(&from).arg(&own).status()?;
        ensure!(done.success(), "copying {}", from.display());
    }
    let h = c.host(POST);
    h.write("/etc/smtpd.conf", SERVER)?;
    let own = own.to_str().context("an odd directory")?;
    h.command(["/bin/sh", "-c", SET_UP, "sh", own]).ok()?;
    Ok(())
}

/// Starts the server.
fn serve(c: &Cluster) -> Result<()> {
    let h = c.host(POST);
    h.command(["smtpd", "-d"]).detach(&h.dir().join("smtpd.log"))?;
    let up = "exec 3<>/dev/tcp/127.0.0.1/2525 && read -r line <&3 && [ \"${line#220}\" != \"$line\" ]";
    wait_until(LIMIT, "the mail server", || {
        h.command(["bash", "-c", up])
            .run()
            .is_ok_and(|o| o.status == Status::Exit(0))
    })
}

fn write_mail(c: &Cluster, k: usize, lines: &str) -> Result<()> {
    let h = c.host(k);
    h.sh("install -d /etc/queue").ok()?;
    h.write("/etc/queue/queued.toml", format!("[mail]\n{lines}"))
}

/// Gives the daemon of the host of the post other lines in `[mail]`.
fn configure(c: &Cluster, lines: &str) -> Result<()> {
    let h = c.host(POST);
    let log = || std::fs::read_to_string(install::log(h)).unwrap_or_default();
    let read = || log().matches("members read again").count();
    let before = read();
    write_mail(c, POST, lines)?;
    for pid in named(c, POST, "queued") {
        kill(Pid::from_raw(pid), Signal::SIGHUP)?;
    }
    wait_until(LIMIT, "the configuration to be read", || read() > before).with_context(log)
}

/// A letter as it is in the mailbox.
#[derive(Debug)]
struct Letter {
    head: Vec<(String, String)>,
    body: String,
}

impl Letter {
    fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\n\n")?;
        let mut lines: Vec<(String, String)> = Vec::new();
        for line in head.lines() {
            match (line.starts_with([' ', '\t']), lines.last_mut()) {
                (true, Some((_, value))) => value.push_str(line),
                _ => lines.push({
                    let (name, value) = line.split_once(':')?;
                    (name.to_owned(), value.trim().to_owned())
                }),
            }
        }
        let body = body.to_owned();
        Some(Self { head: lines, body })
    }

    fn get(&self, name: &str) -> &str {
        let found = self.head.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    /// The receiver that the server was told.
    fn to(&self) -> &str {
        self.get("Delivered-To")
    }

    /// This and all of those.
    fn says(&self, subject: &str, lines: &[&str]) -> Result<()> {
        ensure!(self.get("Subject") == subject, "not {subject:?}: {self:?}");
        for line in lines {
            // Columns are for people.
            let words = |l: &str| l.split_whitespace().collect::<Vec<_>>().join(" ");
            let found = self.body.lines().any(|l| words(l).contains(line));
            ensure!(found, "no {line:?} in {self:?}");
        }
        Ok(())
    }
}

/// The mailbox: a file for each letter.
fn mailbox(c: &Cluster) -> Vec<Letter> {
    let dir = c.host(POST).path("/home/alice/letters/new");
    let files = dir.ok().and_then(|d| std::fs::read_dir(d).ok());
    let read = |f: std::fs::DirEntry| {
        let raw = std::fs::read(f.path()).ok()?;
        Letter::parse(&String::from_utf8_lossy(&raw).replace("\r\n", "\n"))
    };
    files.into_iter().flatten().flatten().filter_map(read).collect()
}

/// Letters to this receiver, when there is one.
fn letters(c: &Cluster, to: &str) -> Result<Vec<Letter>> {
    let to = format!("{to}@h2");
    let found = wait_for(LONG, &format!("a letter to {to}"), || {
        let found: Vec<_> = mailbox(c).into_iter().filter(|l| l.to() == to).collect();
        (!found.is_empty()).then_some(found)
    });
    found.with_context(|| {
        let logs = [install::log(c.host(1)), c.host(POST).dir().join("smtpd.log")];
        let text = logs.map(|l| std::fs::read_to_string(l).unwrap_or_default());
        let subjects: Vec<_> = mailbox(c)
            .iter()
            .map(|l| format!("{} {}", l.to(), l.get("Subject")))
            .collect();
        format!("{subjects:?} {}", text.join("\n"))
    })
}

/// The only letter to this receiver.
fn letter(c: &Cluster, to: &str) -> Result<Letter> {
    let mut all = letters(c, to)?;
    ensure!(all.len() == 1, "{all:?}");
    all.pop().context("none")
}

/// How many letters the leader has that wait.
fn waiting(c: &Cluster) -> Result<u64> {
    let out = say(c, 1, "alice", "/", &["stats", "--json"])?;
    let all: Value = serde_json::from_slice(&out.stdout).with_context(|| format!("{out:?}"))?;
    all["letters"].as_u64().with_context(|| format!("{out:?}"))
}

fn letters_are_written(c: &Cluster) -> Result<()> {
    let d = dir(c, "letters")?;
    let to = |name: &str, more: &[&str], line: &str| {
        let address = format!("{name}@h2");
        let all = [&["--mail-to", &address], more, &["--", "sh", "-c", line]].concat();
        submit(c, &d, &all).context(address)
    };
    // What takes longest comes first.
    let burst = "for i in $(seq 20); do queue -b --mail-to burst@h2 -- sh -c 'exit 7' || exit; done";
    let out = c.host(1).sh(burst).user("alice").dir(&d).ok()?;
    let burst: Vec<String> = out.text().lines().map(str::to_owned).collect();
    ensure!(burst.len() == 20, "{out:?}");
    to("array", &["--array", "1-10"], "[ $((QUEUE_TASK_ID % 2)) = 0 ]")?;
    let line = "echo one; echo two; exit 3";
    let plain = submit(c, &d, &["-h", "h2", "--name", "harbour", "--", "sh", "-c", line])?;
    let crash = to("crash", &["-h", "h1"], "kill -SEGV $$")?;
    let end = to("end", &["--mail", "end"], "true")?;
    let begin = to("begin", &["--mail", "begin"], "true")?;
    // Nobody hears of these.
    to("none", &[], "true")?;
    to("none", &["--mail", "never"], "exit 1")?;
    let wait = ["-b", "-w", "--mail-to", "none@h2", "--", "sh", "-c", "exit 2"];
    let out = say(c, 1, "alice", &d, &wait)?;
    ensure!(out.status == Status::Exit(2), "{out:?}");
    for (value, to) in [("OFF", "none@h2"), ("FALSE", "quiet@h2")] {
        let line = "echo sec''ret; exit 4";
        c.host(1)
            .command(["queue", "-b", "--mail-to", to, "--", "sh", "-c", line])
            .env("QMAIL", value)
            .user("alice")
            .dir(&d)
            .ok()?;
    }
    // Text that would be headers, receivers or the end of a letter.
    let name = ["-b", "--name", "n\r\nBcc: root@h2", "--", "false"];
    let out = say(c, 1, "alice", &d, &name)?;
    ensure!(
        out.status == Status::Exit(125) && out.error().contains("is no name"),
        "{out:?}"
    );
    let odd = "exit 5 #\r\nBcc: root@h2\r\nX-Odd: 1\r\n\r\n.\r\nMAIL FROM:<x@h2>";
    let odd = to("odd", &[], &format!("printf 'a\\n.\\nFrom x\\nb\\n'; {odd}"))?;

    whole_letter(&letter(c, "alice")?, &plain)?;
    let l = letter(c, "crash")?;
    ensure!(l.get("X-Queue-Signal") == "SIGSEGV", "{l:?}");
    ensure!(l.get("Subject").starts_with(&format!("Crash: {crash} ")), "{l:?}");
    ensure!(l.body.contains("SIGSEGV (exit code 139"), "{l:?}");
    let l = letter(c, "end")?;
    ensure!(l.get("Subject").starts_with(&format!("Success: {end} ")), "{l:?}");
    let l = letter(c, "begin")?;
    ensure!(
        l.get("Subject").starts_with(&format!("Started: {begin} ")),
        "{l:?}"
    );
    let l = letter(c, "quiet")?;
    ensure!(
        l.get("X-Queue-Exit") == "4" && !l.body.contains("secret"),
        "{l:?}"
    );
    let l = letter(c, "odd")?;
    ensure!(
        l.get("X-Queue-Job") == odd && l.get("X-Queue-Exit") == "5",
        "{l:?}"
    );
    let foreign = ["Bcc", "X-Odd", "Cc"].iter().any(|n| !l.get(n).is_empty());
    ensure!(!foreign && l.body.contains("\na\n.\nFrom x\nb\n"), "{l:?}");
    let l = letter(c, "array")?;
    ensure!(l.get("Subject").ends_with(": 5 of 10 tasks ended badly"), "{l:?}");
    ensure!(l.body.contains("queue retry "), "{l:?}");
    told_of_all(c, &burst)?;

    wait_until(LONG, "all letters to be sent", || {
        waiting(c).is_ok_and(|n| n == 0)
    })?;
    let all = mailbox(c);
    let unwanted: Vec<_> = all
        .iter()
        .filter(|l| ["none@h2", "root@h2", "x@h2"].contains(&l.to()))
        .collect();
    ensure!(unwanted.is_empty(), "{unwanted:?}");
    // By the program, if there is one and nothing else is said.
    let local = |l: &Letter| l.get("Received").contains("[local]");
    ensure!(!all.iter().any(local), "{all:?}");
    configure(c, "from = \"jobs@h2\"\n")?;
    let id = to("program", &[], "exit 6")?;
    let l = letter(c, "program")?;
    ensure!(
        local(&l) && l.get("X-Queue-Job") == id && l.get("From").contains("jobs@h2"),
        "{l:?}"
    );
    Ok(())
}

/// All that a letter about one job says.
fn whole_letter(l: &Letter, id: &str) -> Result<()> {
    let class = l.get("X-Queue-Class");
    let class = match class {
        "" => String::new(),
        c => format!(" [{c}]"),
    };
    l.says(
        &format!("Unsuccessful+Output: {id} harbour{class}: exit 3"),
        &[
            &format!("Job {id} harbour: exit 3."),
            "name harbour",
            "command sh -c",
            "host h2",
            "exit code 3",
            "wall 0.",
            "CPU 0.",
            "memory ",
            "submitted ",
            "on h1",
            &format!("queue retry {id}"),
            &format!("queue log {id}"),
            &format!("queue show {id}"),
        ],
    )?;
    ensure!(l.body.contains("\nOutput:\n\none\ntwo\n"), "{l:?}");
    for (name, value) in [
        ("X-Queue-User", "alice"),
        ("X-Queue-Job", id),
        ("X-Queue-Exit", "3"),
        ("X-Queue-Host", "h2"),
        ("Auto-Submitted", "auto-generated"),
    ] {
        ensure!(l.get(name) == value, "{name}: {l:?}");
    }
    ensure!(l.get("From").contains("queue@h2"), "{l:?}");
    ensure!(l.get("Message-ID").starts_with("<queue-"), "{l:?}");
    Ok(())
}

/// Few letters about many jobs that ended at once, and each job is in one.
fn told_of_all(c: &Cluster, ids: &[String]) -> Result<()> {
    let told = |all: &[Letter], id: &String| {
        let start = format!("{id} ");
        let line = |l: &Letter| l.body.lines().any(|l| l.trim_start().starts_with(&start));
        all.iter().any(|l| l.get("X-Queue-Job") == id || line(l))
    };
    let mut all = Vec::new();
    wait_until(LONG, "letters about all jobs", || {
        all = letters(c, "burst").unwrap_or_default();
        ids.iter().all(|id| told(&all, id))
    })
    .with_context(|| format!("{ids:?}: {all:?}"))?;
    ensure!(all.len() <= 3, "{all:?}");
    Ok(())
}

/// Takes connections, and says nothing.
const SILENT: &str = "import socket
s = socket.create_server(('127.0.0.1', 2525))
print('ready', flush=True)
kept = []
while True:
    kept.append(s.accept())
    print('taken', flush=True)
";

fn trouble_with_the_server(c: &Cluster) -> Result<()> {
    let d = dir(c, "trouble")?;
    let fail = |to: &str| {
        let to = format!("{to}@h2");
        submit(c, &d, &["--mail-to", &to, "--", "sh", "-c", "exit 3"])
    };
    let log = || std::fs::read_to_string(install::log(c.host(1))).unwrap_or_default();
    let says = |text: &str| {
        wait_until(LONG, text, || log().contains(text)).with_context(log)?;
        anyhow::Ok(())
    };
    // No host has mail: that is no error.
    let down = fail("down")?;
    until(c, &down, "failed")?;
    wait_until(LIMIT, "the letter", || waiting(c).is_ok_and(|n| n == 1))?;
    ensure!(!log().contains("letter"), "{}", log());
    // One has it, and its server is not there.
    set_up(c)?;
    configure(c, "smtp = \"127.0.0.1:2525\"\n")?;
    says("letters cannot be sent now, and are tried again: h2 says 127.0.0.1:2525: ")?;
    ensure!(waiting(c)? == 1);
    // A server that says nothing keeps nobody waiting but the letter.
    let silent = c.host(POST).command(["python3", "-c", SILENT]).spawn()?;
    wait_until(LIMIT, "the silent server", || silent.stdout() == b"ready\n")?;
    let slow = fail("slow")?;
    wait_until(LIMIT, "the letter to be brought", || {
        silent.stdout().ends_with(b"taken\n")
    })?;
    for k in [1, POST] {
        let out = say(c, k, "alice", &d, &["-b", "-w", "--", "echo", "here"])?;
        ensure!(out.text() == "here" && out.elapsed < SOON, "{out:?}");
    }
    ensure!(waiting(c)? == 2);
    drop(silent);
    // A server that is there at last, and does not want one of them.
    serve(c)?;
    let refused = fail("refused")?;
    says("to refused@h2 (Unsuccessful: ")?;
    says("is given up: h2 says 127.0.0.1:2525: ")?;
    let l = letter(c, "root")?;
    ensure!(
        l.get("Subject") == "queue: a letter to refused@h2 is given up",
        "{l:?}"
    );
    ensure!(l.body.contains("550"), "{l:?}");
    for (to, id) in [("down", down), ("slow", slow)] {
        let l = letter(c, to)?;
        ensure!(l.get("X-Queue-Job") == id, "{l:?}");
    }
    wait_until(LONG, "all letters to be gone", || {
        waiting(c).is_ok_and(|n| n == 0)
    })?;
    ensure!(mailbox(c).len() == 3, "{:?}", mailbox(c));
    ensure!(state(c, &refused) == "failed");
    Ok(())
}
