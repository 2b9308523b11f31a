//! Jobs that misbehave, and how they are ended.

use crate::fake::*;

use libqueue::wire::job::{Cause, Params};
use queue_exec::protocol::{FromRunner, JobKey, ToRunner};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

#[test]
fn time_is_limited_with_a_warning() {
    let room = Room::new("time");
    let mut r = Runner::new(&room);
    let params = Params {
        time_ms: 1000,
        warn_signal: 10,
        warn_ms: 500,
        ..Params::default()
    };
    let start = Instant::now();
    let run = room.sh("exec 2>/dev/null; trap 'echo warned' USR1; trap 'echo term; exit 4' TERM; while :; do sleep 0.05; done");
    let o = r.outcome(&run, &params);
    assert_eq!(
        (cause(&o), o.text.as_str(), o.code),
        (Cause::Time, "ran 1 s of 1 s", Some(4))
    );
    assert_eq!(o.head, b"warned\nterm\n");
    assert!(
        o.wall_ms >= 1000 && start.elapsed() < Duration::from_secs(4),
        "{o:?}"
    );
    // One that will not hear, and has fled: double fork, session of its own.
    let script =
        "trap '' TERM HUP; setsid sh -c 'trap \"\" TERM HUP; echo $$; exec sleep 1000' & wait; sleep 1000";
    let params = Params {
        time_ms: 300,
        ..Params::default()
    };
    let o = r.outcome(&room.sh(script), &params);
    assert_eq!((cause(&o), o.signal), (Cause::Time, Some(9)), "{o:?}");
    let pid = String::from_utf8_lossy(&o.head).trim().parse().unwrap();
    assert!(gone(pid));
    assert!((5000..8000).contains(&o.wall_ms), "TERM, 5 s, KILL: {o:?}");
    r.still_works(&room);
}

#[test]
fn somebody_ends_it_or_stops_it() {
    let room = Room::new("end");
    let mut r = Runner::new(&room);
    let end = |key, signal, text: &str| ToRunner::End {
        key,
        signal,
        cause: Cause::Killed as u8,
        text: text.into(),
    };
    let key = r.give(&room.run(&["sleep", "1000"]), &Params::default(), 0);
    let running = r.started(key);
    assert!(running.pid > 1 && running.output.ends_with(b"/queue-1.out") && !running.spooled);
    r.tell(end(JobKey { job: 99, ..key }, 0, "nobody"));
    for (signal, stopped) in [
        (libc::SIGSTOP, true),
        (libc::SIGCONT, false),
        (libc::SIGSTOP, true),
    ] {
        r.tell(end(key, signal as u8, ""));
        assert_eq!(r.hear(), FromRunner::Stopped { key, stopped });
    }
    r.tell(end(key, 0, "killed by alice@h1"));
    let o = r.ended(key);
    assert_eq!(
        (cause(&o), o.signal, o.text.as_str()),
        (Cause::Killed, Some(15), "killed by alice@h1")
    );
    // A signal is only a signal.
    let key = r.give(
        &room.sh("exec 2>/dev/null; trap 'echo usr1; exit 3' USR1; echo on; while :; do sleep 0.05; done"),
        &Params::default(),
        0,
    );
    r.started(key);
    let out = room.cwd().join("queue-2.out");
    wait_for("live output", || {
        fs::read_to_string(&out).is_ok_and(|t| t == "on\n")
    });
    r.tell(end(key, libc::SIGUSR1 as u8, ""));
    let o = r.ended(key);
    assert_eq!(
        (cause(&o), o.code, &o.head[..]),
        (Cause::Exited, Some(3), &b"on\nusr1\n"[..])
    );
    r.still_works(&room);
}

#[test]
fn nothing_outlives_its_lease() {
    let room = Room::new("lease");
    let mut r = Runner::new(&room);
    let key = r.give(
        &room.sh("trap '' TERM HUP; sleep 1000 & wait"),
        &Params::default(),
        boot_ms() + 600,
    );
    let running = r.started(key);
    r.tell(ToRunner::Lease {
        key,
        lease: boot_ms() + 1200,
    });
    let o = r.ended(key);
    assert_eq!((cause(&o), o.signal), (Cause::Lease, Some(9)), "{o:?}");
    assert!(
        (1000..3000).contains(&o.wall_ms) && gone(running.pid as i32),
        "{o:?}"
    );
    r.still_works(&room);
}

#[test]
fn memory_is_limited() {
    let room = Room::new("memory");
    if !Path::new("/usr/bin/python3").exists() {
        return;
    }
    let mut r = Runner::new(&room);
    let params = Params {
        mem: 100 << 20,
        ..Params::default()
    };
    let eat = "import time\nx = b'x' * (150 << 20)\ntime.sleep(1000)";
    let o = r.outcome(&room.run(&["sh", "-c", "python3 -c \"$0\" & wait", eat]), &params);
    assert_eq!((cause(&o), o.signal), (Cause::Memory, Some(9)), "{o:?}");
    assert!(
        o.text.ends_with(" M of 100 M") && o.maxrss_kib > 150 << 10,
        "{o:?}"
    );
    // Shared memory counts once.
    let share = "import os, time\nx = b'x' * (60 << 20)\nfor i in range(3):\n if os.fork() == 0: break\ntime.sleep(1.2)";
    let o = r.outcome(&room.run(&["python3", "-c", share]), &params);
    assert_eq!((cause(&o), o.code), (Cause::Exited, Some(0)), "{o:?}");
    r.still_works(&room);
}

#[test]
fn the_whole_tree_ends_with_its_first_process() {
    let room = Room::new("tree");
    let mut r = Runner::new(&room);
    // The pipe stays open in the background, and so does a process that fled.
    let o = r.outcome(
        &room.sh("sleep 1000 & echo $!; setsid sleep 1000 & echo $!; exit 4"),
        &Params::default(),
    );
    assert_eq!(o.code, Some(4));
    for pid in String::from_utf8_lossy(&o.head).lines() {
        assert!(gone(pid.parse().unwrap()), "{pid} lives on");
    }
    // What it says while it is ended is still kept.
    let o = r.outcome(
        &room.sh(
            "exec 2>/dev/null; (trap 'echo bye; exit' TERM; trap '' HUP; while :; do sleep 0.05; done) & sleep 0.2; exit 5",
        ),
        &Params::default(),
    );
    assert_eq!((o.code, &o.head[..]), (Some(5), &b"bye\n"[..]));
    // Descriptors closed, session changed.
    let o = r.outcome(
        &room.sh("exec >&- 2>&- <&-; sleep 0.1; exit 6"),
        &Params::default(),
    );
    assert_eq!((o.code, o.written), (Some(6), 0));
    let o = r.outcome(
        &room.run(&["setsid", "-w", "sh", "-c", "echo in; exit 7"]),
        &Params::default(),
    );
    assert_eq!((o.code, &o.head[..]), (Some(7), &b"in\n"[..]));
    r.still_works(&room);
}

#[test]
fn much_output_is_cut_and_keeps_nobody_waiting() {
    let room = Room::new("much");
    let mut r = Runner::new(&room);
    let mut run = room.sh("head -c 300000000 /dev/zero; echo end");
    run.output_cap = 1 << 20;
    let o = r.outcome(&run, &Params::default());
    assert_eq!((o.code, o.written, o.cut), (Some(0), 300_000_004, true));
    assert!(o.head.len() == 4096 && o.tail.len() == 4096 && o.tail.ends_with(b"\0end\n"));
    let text = fs::read(room.cwd().join("queue-1.out")).unwrap();
    let note = String::from_utf8_lossy(&text[1 << 20..]).into_owned();
    assert!(
        note.contains("--- 298951428 bytes more were written and dropped: at most 1 M are kept ---"),
        "{note}"
    );
    // It never stops writing, and is ended all the same.
    let params = Params {
        time_ms: 500,
        ..Params::default()
    };
    run = room.run(&["yes"]);
    run.output_cap = 1 << 20;
    let o = r.outcome(&run, &params);
    assert_eq!((cause(&o), o.signal), (Cause::Time, Some(15)));
    run = room.sh("printf 'start\\n10%%\\r20%%\\r30%%\\ndone\\n'");
    assert_eq!(
        r.outcome(&run, &Params::default()).head,
        b"start\n10%\n[...]\n30%\ndone\n"
    );
    r.still_works(&room);
}

/// A disk that is full costs the output, not the job.
#[test]
fn a_full_disk_is_told() {
    let room = Room::new("disk");
    let mut r = Runner::new(&room);
    let mut run = room.sh("sleep 0.1; echo lost");
    run.output = b"/dev/full".to_vec();
    let o = r.outcome(&run, &Params::default());
    assert_eq!(
        (o.code, o.text.as_str()),
        (Some(0), "output lost: disk full at /dev/full")
    );
    assert_eq!((&o.head[..], o.output.len(), o.cut), (&b"lost\n"[..], 0, true));
    run.output = b"no/such/directory".to_vec();
    let o = r.outcome(&run, &Params::default());
    assert!(
        o.text.starts_with("output lost: No such file or directory at "),
        "{}",
        o.text
    );
    r.still_works(&room);
}

#[test]
fn a_small_disk_is_filled_and_no_more() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let room = Room::new("small");
    let disk = room.0.join("disk");
    fs::create_dir(&disk).unwrap();
    let flags = nix::mount::MsFlags::empty();
    if nix::mount::mount(Some("none"), &disk, Some("tmpfs"), flags, Some("size=1m")).is_err() {
        return;
    }
    let mut r = Runner::new(&room);
    let mut run = room.sh("head -c 3000000 /dev/zero; exit 3");
    run.output = disk.join("out").to_str().unwrap().into();
    let o = r.outcome(&run, &Params::default());
    let size = fs::metadata(disk.join("out")).unwrap().len();
    nix::mount::umount(&disk).unwrap();
    assert_eq!(
        (o.code, o.written, o.cut, size),
        (Some(3), 3_000_000, true, 1 << 20)
    );
    assert_eq!(
        o.text,
        format!("output cut: disk full at {}", disk.join("out").display())
    );
    r.still_works(&room);
}

/// The kernel kills it for want of memory; needs root, and a memory controller that has a directory here.
#[test]
fn the_kernels_kill_is_told_from_others() {
    let own = read(Path::new("/proc/self/cgroup"));
    let Some(path) = own.lines().find_map(|l| l.split_once(":memory:")).map(|l| l.1) else {
        return;
    };
    let name = format!("queue-jobs-{}", std::process::id());
    let dir = Path::new("/sys/fs/cgroup/memory")
        .join(path.trim_start_matches('/'))
        .join(name);
    if fs::create_dir(&dir).is_err() || fs::write(dir.join("memory.limit_in_bytes"), "60M").is_err() {
        let _ = fs::remove_dir(&dir);
        return;
    }
    let room = Room::new("oom");
    let program = Path::new(env!("CARGO_BIN_EXE_queue-session"));
    let mut r = Runner::of(&room, start_as(program, Some(dir.join("cgroup.procs"))));
    let eat = room.run(&["python3", "-c", "x = b'x' * (300 << 20)"]);
    let params = Params {
        mem: 1 << 30,
        ..Params::default()
    };
    let o = r.outcome(&eat, &params);
    let killed = r.outcome(&room.sh("kill -9 $$"), &params);
    drop(r);
    wait_for("an empty cgroup", || fs::remove_dir(&dir).is_ok());
    assert_eq!((cause(&o), o.signal), (Cause::OutOfMemory, Some(9)), "{o:?}");
    assert!(
        o.text.starts_with("killed by the kernel, ") && o.text.ends_with(" M of 1 G"),
        "{o:?}"
    );
    assert_eq!(cause(&killed), Cause::Signal);
}
