//! The proxy rule without a terminal: the real program against a faked cluster.

mod fake;

use fake::{Fake, Host, LIMIT};
use nix::libc;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

fn output(c: &mut Command) -> Output {
    c.stdin(Stdio::null()).output().unwrap()
}

fn err(o: &Output) -> String {
    String::from_utf8_lossy(&o.stderr).into_owned()
}

fn kill(child: &Child, signal: i32) {
    // SAFETY: a number; the process is our child and not waited for yet.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

/// Waits until a process is (or is no longer) stopped, by the kernel's word for it.
fn wait_for_state(child: &Child, stopped: bool) {
    let end = Instant::now() + LIMIT;
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let state = stat.rsplit(") ").next().unwrap().as_bytes()[0];
        if (state == b'T') == stopped {
            return;
        }
        assert!(Instant::now() < end, "state {}", char::from(state));
        std::thread::yield_now();
    }
}

#[test]
fn every_exit_code_and_death_is_ours() {
    let fake = Fake::one();
    for code in [0, 1, 2, 77, 125, 126, 127, 128, 200, 255] {
        let o = output(&mut fake.queue(&["--", "exit", &code.to_string()]));
        assert_eq!((o.status.code(), err(&o).as_str()), (Some(code), ""));
    }
    for signal in (1..=31).chain([34, 50, 64]) {
        if matches!(signal, 17 | 18 | 19 | 20 | 21 | 22 | 23 | 28) {
            continue;
        }
        let o = output(&mut fake.queue(&["--", "die", &signal.to_string()]));
        assert_eq!(
            (o.status.signal(), o.status.core_dumped()),
            (Some(signal), false),
            "{}",
            err(&o)
        );
    }
}

#[test]
fn what_cannot_run_has_its_exit_code_and_one_line() {
    let fake = Fake::one();
    for (args, code, line) in [
        (
            &["--", "no-such-program"][..],
            127,
            "queue: h0: no-such-program: not found\\x1b[0m\n",
        ),
        (
            &["--", "not-executable"],
            126,
            "queue: h0: not-executable: permission denied\n",
        ),
        (
            &["--", "no-directory"],
            125,
            "queue: h0: /gone: no such directory\n",
        ),
        (
            &["h0", "no-directory"],
            255,
            "queue: h0: /gone: no such directory\n",
        ),
        (&["h7", "true"], 255, "queue: no host\\x1b[2J is willing\n"),
        (
            &["-h", "h7", "--", "true"],
            125,
            "queue: no host\\x1b[2J is willing\n",
        ),
        (
            &["-l", "forbidden", "--", "true"],
            125,
            "queue: you may not be forbidden\n",
        ),
    ] {
        let o = output(&mut fake.queue(args));
        assert_eq!(
            (o.status.code(), err(&o).as_str()),
            (Some(code), line),
            "{args:?}"
        );
    }
    let o = output(&mut fake.queue(&["--", "vanish"]));
    assert_eq!(o.status.code(), Some(125));
    assert!(err(&o).starts_with("queue: connection to h0 lost (") && err(&o).lines().count() == 1);
    assert_eq!(
        output(&mut fake.queue(&["h0", "vanish"])).status.code(),
        Some(255)
    );
    let o = output(&mut fake.queue(&["--", "notice"]));
    assert_eq!(
        (o.status.code(), err(&o).as_str()),
        (Some(0), "queue: h0: hello\\x1b there\n")
    );
}

#[test]
fn no_daemon_no_monitor() {
    let o = output(
        Command::new(env!("CARGO_BIN_EXE_queue"))
            .args(["--", "x"])
            .env("QUEUE_SOCKET", "/nowhere/s"),
    );
    assert_eq!(o.status.code(), Some(125));
    assert!(
        err(&o).contains("/nowhere/queued.sock: start it with `queued run`"),
        "{}",
        err(&o)
    );
    let fake = Fake::one();
    std::fs::remove_file(fake.dir.join("exec.sock")).unwrap();
    let o = output(&mut fake.queue(&["--", "x"]));
    assert_eq!(o.status.code(), Some(125));
    assert!(err(&o).contains("no queue-exec answers at"), "{}", err(&o));
}

#[test]
fn another_host_is_tried_only_where_the_choice_was_ours() {
    for bad in [Host::Refuses, Host::Closes, Host::Impostor, Host::Deaf] {
        let fake = Fake::new(&[bad, bad, Host::Well]);
        for args in [
            &["--", "exit", "9"][..],
            &["-H", "h0", "--", "exit", "9"],
            &["+", "exit", "9"],
        ] {
            let o = output(&mut fake.queue(args));
            assert_eq!(
                (o.status.code(), err(&o).as_str()),
                (Some(9), ""),
                "{bad:?} {args:?}"
            );
        }
        assert_eq!(fake.asked.lock().unwrap()[2].avoid, ["h0", "h1"]);
        let o = output(&mut fake.queue(&["-h", "h1", "--", "true"]));
        assert_eq!(
            (o.status.code(), err(&o).lines().count()),
            (Some(125), 1),
            "{bad:?}"
        );
        assert!(err(&o).contains("h1"), "{}", err(&o));
        // Three tries, and the reason is the last host's.
        let fake = Fake::new(&[bad, bad, bad, Host::Well]);
        let o = output(&mut fake.queue(&["--", "true"]));
        assert_eq!(o.status.code(), Some(125));
        assert!(
            err(&o).contains("h2") && err(&o).lines().count() == 1,
            "{}",
            err(&o)
        );
        assert!(fake.launched.lock().unwrap().is_empty());
    }
}

#[test]
fn what_goes_along() {
    let fake = Fake::one();
    let dir = fake.dir.join("real");
    std::fs::create_dir(&dir).unwrap();
    let link = fake.dir.join("link");
    std::os::unix::fs::symlink(&dir, &link).unwrap();
    let big = "x".repeat(100_000);
    let mut c = fake.queue(&["--", "true", "a b", ""]);
    c.current_dir(&dir)
        .env("PWD", &link)
        .env("WITH_NEWLINE", "a\nb")
        .env("BIG", &big);
    // SAFETY: only calls that may be made between fork and exec.
    unsafe {
        c.pre_exec(|| {
            libc::umask(0o27);
            libc::nice(3);
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGUSR2);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
            let l = libc::rlimit {
                rlim_cur: 77,
                rlim_max: 99,
            };
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const l);
            Ok(())
        });
    }
    let o = output(&mut c);
    assert_eq!(o.status.code(), Some(0), "{}", err(&o));
    let l = fake.last_launch();
    assert_eq!(l.argv, [&b"true"[..], b"a b", b""]);
    assert_eq!(l.form, libqueue::wire::Form::Launch as i32);
    assert_eq!(l.cwd, link.as_os_str().as_encoded_bytes());
    // SAFETY: no pointers. Our own nice value, since the tests may be run with `nice`.
    let own = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    assert_eq!((l.umask, l.nice), (Some(0o27), (own + 3).min(19)));
    assert_eq!(
        (l.ignored, l.blocked),
        (1 << (libc::SIGHUP - 1), 1 << (libc::SIGUSR2 - 1))
    );
    assert!(l.no_stdin && !l.leave && l.pty.is_none());
    assert!(
        l.env.contains(&b"WITH_NEWLINE=a\nb".to_vec()) && l.env.contains(&format!("BIG={big}").into_bytes())
    );
    assert_eq!(l.rlimits.len(), 16);
    let files = l
        .rlimits
        .iter()
        .find(|r| r.resource == libc::RLIMIT_NOFILE)
        .unwrap();
    assert_eq!((files.soft, files.hard), (77, 99));

    // A wrong PWD is not believed.
    let mut c = fake.queue(&["--", "true"]);
    output(c.current_dir(&dir).env("PWD", "/tmp"));
    assert_eq!(
        fake.last_launch().cwd,
        dir.canonicalize().unwrap().as_os_str().as_encoded_bytes()
    );

    // The rsh form takes almost nothing along.
    let mut c = fake.queue(&["-o", "SendEnv=GIT_*", "h0", "true", "x"]);
    c.env_clear().env("QUEUE_SOCKET", fake.dir.join("queued.sock"));
    output(
        c.env("TERM", "vt100")
            .env("LC_ALL", "C")
            .env("GIT_PROTOCOL", "2")
            .env("PATH", "/x"),
    );
    let mut l = fake.last_launch();
    l.env.sort();
    assert_eq!(l.env, [&b"GIT_PROTOCOL=2"[..], b"LC_ALL=C", b"TERM=vt100"]);
    assert_eq!((l.umask, l.cwd.len(), l.leave), (None, 0, true));
    assert_eq!(l.argv, [b"true x".to_vec()]);
    output(&mut fake.queue(&["+", "true"]));
    assert!(!fake.last_launch().leave);
    // The shell form keeps everything and never has a terminal.
    output(fake.queue(&["-ec", "true"]).env("BIG", "1"));
    let l = fake.last_launch();
    assert_eq!(l.form, libqueue::wire::Form::Shell as i32);
    assert_eq!(l.argv, [b"-ec".to_vec(), b"true".to_vec()]);
    assert!(l.env.contains(&b"BIG=1".to_vec()) && l.umask.is_some());
}

#[test]
fn stdin_is_read_to_its_end_or_not_at_all() {
    let fake = Fake::one();
    let data: Vec<u8> = (0..5_000_000u32).map(|i| ((i * 7) >> 3) as u8).collect();
    let mut child = fake
        .queue(&["--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let copy = data.clone();
    let feeder = std::thread::spawn(move || stdin.write_all(&copy).unwrap());
    let mut got = Vec::new();
    stdout.read_to_end(&mut got).unwrap();
    feeder.join().unwrap();
    assert!(got == data, "{} bytes came back", got.len());
    assert!(child.wait().unwrap().success());

    // From a file and to a file.
    let (from, to) = (fake.dir.join("from"), fake.dir.join("to"));
    std::fs::write(&from, &data).unwrap();
    let file = |p| std::fs::File::open(p).unwrap();
    let status = fake
        .queue(&["--", "cat"])
        .stdin(file(&from))
        .stdout(std::fs::File::create(&to).unwrap())
        .status()
        .unwrap();
    assert!(status.success() && std::fs::read(&to).unwrap() == data);

    // A loop's list stays unread.
    let list = file(&from);
    let status = fake
        .queue(&["--no-stdin", "--", "exit", "0"])
        .stdin(list.try_clone().unwrap())
        .status()
        .unwrap();
    assert!(status.success() && fake.last_launch().no_stdin);
    assert_eq!(std::io::Seek::stream_position(&mut &list).unwrap(), 0);
}

#[test]
fn channels_stay_apart_and_tee_has_both() {
    let fake = Fake::one();
    let o = output(&mut fake.queue(&["--", "both"]));
    assert_eq!((&o.stdout[..], &o.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    let copy = fake.dir.join("copy");
    std::fs::write(&copy, "old contents that must go").unwrap();
    let o = output(&mut fake.queue(&["--tee", copy.to_str().unwrap(), "--", "both"]));
    assert_eq!((&o.stdout[..], o.status.code()), (&b"out\n"[..], Some(0)));
    assert_eq!(std::fs::read(&copy).unwrap(), b"out\nerr\n");
    // A full disk stops neither output nor command.
    for (words, code) in [(["zeros", "3"], 125), (["exit", "7"], 7)] {
        let o = output(fake.queue(&["--tee", "/dev/full", "--"]).args(words));
        assert_eq!(o.status.code(), Some(code));
        if code == 125 {
            assert_eq!(o.stdout.len(), 300_000);
            assert!(
                err(&o).contains("/dev/full: No space left") && err(&o).lines().count() == 1,
                "{}",
                err(&o)
            );
        }
    }
    let o = output(&mut fake.queue(&["--tee", "/nowhere/x", "--", "both"]));
    assert_eq!((o.status.code(), o.stdout.len()), (Some(125), 0));
    // Nor does a full disk behind standard output pass for success.
    let full = std::fs::File::create("/dev/full").unwrap();
    let o = fake
        .queue(&["--", "zeros", "3"])
        .stdin(Stdio::null())
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(o.status.code(), Some(125));
    assert!(
        err(&o).contains("standard output: No space left on device"),
        "{}",
        err(&o)
    );
}

#[test]
fn broken_pipe_comes_back_as_its_signal() {
    let fake = Fake::one();
    let mut child = fake
        .queue(&["--", "yes"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut some = [0; 1000];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGPIPE));
}

#[test]
fn writer_into_our_stdin_learns_that_nobody_reads() {
    let fake = Fake::one();
    let mut child = fake
        .queue(&["--", "closes-stdin"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let end = Instant::now() + LIMIT;
    // Rust's test runner ignores SIGPIPE, so this is an error and no death.
    while stdin.write_all(&[0; 4096]).is_ok() {
        assert!(Instant::now() < end);
    }
    kill(&child, libc::SIGUSR1);
    assert!(child.wait().unwrap().success());
}

#[test]
fn every_signal_arrives_once_and_in_order() {
    let fake = Fake::one();
    let mut child = fake
        .queue(&["--", "controls"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    for signal in (1..=64).filter(|s| !matches!(s, 9 | 15 | 18 | 19 | 20..=22)) {
        kill(&child, signal);
        assert_eq!(lines.next().unwrap().unwrap(), format!("signal {signal}"));
    }
    kill(&child, libc::SIGTERM);
    assert_eq!(lines.next().unwrap().unwrap(), "signal 15");
    assert!(lines.next().is_none());
    assert_eq!(child.wait().unwrap().signal(), Some(15));
}

#[test]
fn ignored_signals_stay_ignored() {
    let fake = Fake::one();
    let mut c = fake.queue(&["--", "controls"]);
    // SAFETY: only calls that may be made between fork and exec.
    unsafe {
        c.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            Ok(())
        });
    }
    let mut child = c.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    kill(&child, libc::SIGHUP);
    kill(&child, libc::SIGTERM);
    assert_eq!(lines.next().unwrap().unwrap(), "signal 15");
    child.wait().unwrap();
}

#[test]
fn stops_and_goes_on_with_its_command() {
    let fake = Fake::one();
    for signal in [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
        let mut child = fake
            .queue(&["--", "stopped", &signal.to_string()])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for_state(&child, true);
        kill(&child, libc::SIGCONT);
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "continued\n");
        assert_eq!(child.wait().unwrap().code(), Some(7));
    }
    // A stop from here goes there, and comes back as the command's stop.
    let mut child = fake
        .queue(&["--", "controls"])
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    kill(&child, libc::SIGTSTP);
    wait_for_state(&child, true);
    kill(&child, libc::SIGCONT);
    assert_eq!(lines.next().unwrap().unwrap(), "signal 20");
    assert_eq!(lines.next().unwrap().unwrap(), "continue");
    kill(&child, libc::SIGTERM);
    assert_eq!(lines.next().unwrap().unwrap(), "signal 15");
    child.wait().unwrap();
}

#[test]
fn a_slow_reader_delays_no_signal_and_gets_everything() {
    let fake = Fake::one();
    let mut child = fake
        .queue(&["--", "zeros", "50"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut got = vec![0; 10];
    stdout.read_exact(&mut got).unwrap();
    std::thread::yield_now();
    stdout.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), 5_000_000);
    assert!(child.wait().unwrap().success());
    // The command has ended, its output waits for a reader: a signal ends us, as it would end a local writer.
    let mut child = fake
        .queue(&["--", "zeros", "3"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let end = Instant::now() + LIMIT;
    // Nothing is left to come from the network when the pipe is full and everything was received.
    while fake.launched.lock().unwrap().len() < 2 {
        assert!(Instant::now() < end);
        std::thread::yield_now();
    }
    while child.try_wait().unwrap().is_none() {
        kill(&child, libc::SIGTERM);
        assert!(Instant::now() < end);
        std::thread::yield_now();
    }
    assert_eq!(child.wait().unwrap().signal(), Some(15));
}

#[test]
fn a_live_job_server_keeps_the_shell_here() {
    let fake = Fake::one();
    let sh = |flags: &str| {
        let mut c = fake.queue(&["-c", "echo here $0 $1", "name", "arg"]);
        // 0 and 1 are always open.
        c.env("MAKEFLAGS", flags).arg0("queue-sh");
        output(&mut c)
    };
    let o = sh(" -j8 --jobserver-auth=0,1");
    assert_eq!(String::from_utf8_lossy(&o.stdout), "here name arg\n");
    assert!(fake.launched.lock().unwrap().is_empty());
    sh(" -j8 --jobserver-auth=0,1 --jobserver-auth=-2,-2");
    assert_eq!(fake.launched.lock().unwrap().len(), 1);
}

#[test]
fn information() {
    for (args, part) in [
        (&["--help"][..], "queue [OPTIONS] -- COMMAND"),
        (&["--version"], "queue 0."),
        (&["hosts", "--help"], "queue hosts remove NAME"),
        (&["-G", "bob@h1"], "user bob\n"),
    ] {
        let o = output(Command::new(env!("CARGO_BIN_EXE_queue")).args(args));
        assert_eq!((o.status.code(), err(&o).as_str()), (Some(0), ""));
        assert!(String::from_utf8_lossy(&o.stdout).contains(part), "{args:?}");
    }
}
