//! Jobs in the real session process and its init, with the test in the place of the monitor.

mod away;
mod ends;
mod fake;

use fake::*;

use libqueue::wire::job::{Cause, Entries, Params, Run};
use prost::Message as _;
use queue_exec::client;
use queue_exec::entries::Tree;
use queue_exec::protocol::{JobKey, ToRunner, ToSession};
use std::fs;
use std::os::fd::AsFd as _;
use std::path::Path;

#[test]
fn jobs_follow_each_other_and_each_has_what_it_needs() {
    let room = Room::new("order");
    let mut r = Runner::new(&room);
    let mut run =
        room.sh("pwd; umask; cat; echo $QUEUE_JOB_ID $QUEUE_ATTEMPT $QUEUE_HOST; echo err >&2; exit 10");
    let o = r.outcome(&run, &Params::default());
    assert_eq!(
        (cause(&o), o.code, o.signal, o.text.as_str()),
        (Cause::Exited, Some(10), None, "")
    );
    let text = format!("{}\n0022\n1 1 h2\nerr\n", room.cwd().display());
    assert_eq!(String::from_utf8_lossy(&o.head), text);
    let path = room.cwd().join("queue-1.out");
    assert_eq!(
        (o.output.as_slice(), o.spooled),
        (path.to_str().unwrap().as_bytes(), false)
    );
    assert_eq!(read(&path), text);
    assert!(
        o.started_ms > 1_600_000_000_000 && o.cpu_us > 0 && o.maxrss_kib > 0,
        "{o:?}"
    );
    // Nothing written, no file.
    let o = r.outcome(&room.run(&["true"]), &Params::default());
    assert_eq!((o.code, o.written, o.output.len()), (Some(0), 0, 0));
    assert!(!room.cwd().join("queue-2.out").exists());
    // Two files; a second attempt adds to them.
    run = room.sh("echo o; echo e >&2");
    run.output = b"%x-%j.out".to_vec();
    run.error = b"%x.%u.err".to_vec();
    run.name = "n".into();
    let key = key(3);
    r.give_as(key, &run, &Params::default(), 0);
    let o = r.ended(key);
    let error = room.cwd().join(format!("n.{}.err", own_name()));
    assert_eq!(o.error, error.to_str().unwrap().as_bytes(), "{o:?}");
    r.give_as(JobKey { attempt: 2, ..key }, &run, &Params::default(), 0);
    r.ended(JobKey { attempt: 2, ..key });
    let text = read(&room.cwd().join("n-3.out"));
    assert!(
        text.starts_with("o\n--- attempt 2 on h2, 20") && text.ends_with(" ---\no\n"),
        "{text}"
    );
    assert!(read(&error).contains("attempt 2"));
    r.next = 4;
    let o = r.outcome(&room.sh("kill -SEGV $$"), &Params::default());
    assert_eq!((cause(&o), o.code, o.signal), (Cause::Signal, None, Some(11)));
    run.discard = true;
    let o = r.outcome(&run, &Params::default());
    assert_eq!((o.code, o.written, o.head.len()), (Some(0), 0, 0));
    r.still_works(&room);
}

#[test]
fn what_cannot_be_started_says_why() {
    let room = Room::new("start");
    let mut r = Runner::new(&room);
    let mut o = |run: &Run| {
        let o = r.outcome(run, &Params::default());
        assert_eq!(o.started_ms, 0);
        (cause(&o), o.code, o.text)
    };
    let found = o(&room.run(&["no-such-program"]));
    assert_eq!(
        found,
        (
            Cause::NotFound,
            Some(127),
            "no-such-program: command not found".into()
        )
    );
    assert_eq!(o(&room.run(&["/etc/passwd"])).0, Cause::NotExecutable);
    let mut run = room.run(&["true"]);
    run.cwd = b"/no/such/place".to_vec();
    let (why, code, text) = o(&run);
    assert!(
        why == Cause::Directory && code.is_none() && text.contains("/no/such/place"),
        "{text}"
    );
    assert_eq!(o(&Run::default()).0, Cause::Rejected);
    let key = r.give(&room.run(&["true"]), &Params::default(), boot_ms() - 1);
    assert_eq!(cause(&r.ended(key)), Cause::Lease);
    r.still_works(&room);
}

#[test]
fn scripts_run_by_their_interpreter() {
    let room = Room::new("script");
    let mut r = Runner::new(&room);
    let mut run = room.run(&["/home/alice/my job.sh", "a b", "c"]);
    run.script = b"#!/bin/sh -e\necho \"$# $2 ${0##*/}\"\nfalse\necho never\n".to_vec();
    let o = r.outcome(&run, &Params::default());
    assert_eq!(
        (o.code, String::from_utf8_lossy(&o.head).as_ref()),
        (Some(1), "2 c my job.sh\n")
    );
    run.script = b"echo plain $1".to_vec();
    assert_eq!(r.outcome(&run, &Params::default()).head, b"plain a b\n");
    run.script = b"#!/no/such/thing\n".to_vec();
    let o = r.outcome(&run, &Params::default());
    assert_eq!((cause(&o), o.code), (Cause::NotFound, Some(127)));
    if Path::new("/usr/bin/python3").exists() {
        run.script = b"#!/usr/bin/env python3\nimport sys\nprint(sys.argv[1:])\n".to_vec();
        assert_eq!(r.outcome(&run, &Params::default()).head, b"['a b', 'c']\n");
    }
    // In a memory file, because it is large.
    run.script = [b"exit 7\n".to_vec(), vec![b'#'; 300_000]].concat();
    let bytes = run.encode_to_vec();
    let file = nix::sys::memfd::memfd_create(c"run", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
    let mut file = fs::File::from(file);
    std::io::Write::write_all(&mut file, &bytes).unwrap();
    let key = key(r.next);
    r.next += 1;
    let m = ToSession::Job(ToRunner::Job {
        key,
        run: Vec::new(),
        params: Vec::new(),
        lease: 0,
    });
    client::send(
        r.channel.as_ref().unwrap().as_fd(),
        &m.encode(),
        Some(file.as_fd()),
    )
    .unwrap();
    assert_eq!(r.ended(key).code, Some(7));
    r.still_works(&room);
    // Killed, it left its room; the next one removes that.
    Runner::new(&room).still_works(&room);
    let left: Vec<_> = fs::read_dir(room.0.join("spool").join(own_name()))
        .unwrap()
        .flatten()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_task_gets_the_entry_that_was_submitted() {
    let room = Room::new("entry");
    let mut r = Runner::new(&room);
    let entries = ["one", "two"];
    let tree = Tree::new(&entries);
    let mut run = room.sh("echo $QUEUE_TASK_ID $QUEUE_ENTRY");
    run.array = true;
    run.entries = Some(Entries {
        count: 2,
        root: tree.root().to_vec(),
    });
    let mut params = Params {
        entry: Some(b"two".to_vec()),
        entry_index: 1,
        entry_proof: tree.proof(1),
        ..Params::default()
    };
    let key = JobKey { task: 9, ..key(1) };
    r.give_as(key, &run, &params, 0);
    let o = r.ended(key);
    assert_eq!(
        (&o.head[..], o.output.ends_with(b"/queue-1.9.out")),
        (&b"9 two\n"[..], true)
    );
    params.entry = Some(b"one".to_vec());
    r.next = 2;
    assert_eq!(cause(&r.outcome(&run, &params)), Cause::Rejected);
    r.still_works(&room);
}

#[test]
fn output_stays_in_the_spool_where_home_is_not() {
    let room = Room::new("spool");
    let mut r = Runner::new(&room);
    let mut run = room.sh("echo out");
    run.submit_host = "h1".into();
    run.nonce_file = ".queue-nonce".into();
    let o = r.outcome(&run, &Params::default());
    let spool = room.0.join("spool").join(own_name()).join("1");
    let path = spool.join("queue-1.out");
    assert_eq!(
        (o.spooled, o.output.as_slice()),
        (true, path.to_str().unwrap().as_bytes())
    );
    assert_eq!(read(&path), "out\n");
    let note = format!("queue-1.out\0{}\0", room.cwd().join("queue-1.out").display());
    assert_eq!(read(&spool.join(".home")), note);
    // The same directory, as its file shows.
    fs::write(room.cwd().join(".queue-nonce"), ".queue-nonce").unwrap();
    let o = r.outcome(&run, &Params::default());
    assert!(!o.spooled && room.cwd().join("queue-2.out").exists());
    let last = Params {
        last: true,
        ..Params::default()
    };
    assert!(!r.outcome(&run, &last).spooled);
    assert!(!room.cwd().join(".queue-nonce").exists());
    assert!(r.outcome(&run, &Params::default()).spooled);
    r.still_works(&room);
}
