//! Batch jobs: what is run and what is not, what is remembered, and how runners come and go.

use crate::daemon::{Daemon, key, request};
use crate::host::{Host, Member, alive, as_user, refused, wait_for};
use crate::tests::Test;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use queue_exec::cert::HostCert;
use queue_exec::client;
use queue_exec::protocol::{JobKey, JobReply, JobRequest, RUN_INLINE_MAX, RUN_MAX, Refusal, Reply, Request};
use queue_exec::state::{random, unix_now};
use queue_exec::ticket::Ticket;
use queue_exec::warrant::{LIFETIME, Warrant};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// Name, whether it needs root, and the test.
pub(crate) const ALL: &[Test] = &[
    ("a_warrant_names_the_user_that_the_kernel_names", true, warrants),
    ("jobs_are_the_daemon_s_and_warrants_are_not", true, permits),
    ("a_job_runs_as_its_warrant_says_and_no_other", true, checks),
    (
        "what_was_found_good_is_looked_at_again_after_a_change",
        true,
        changes,
    ),
    ("an_attempt_runs_once", true, once),
    ("a_large_run_comes_in_a_sealed_file", true, sealed),
    ("a_runner_takes_one_job_after_the_other_of_one_user", true, reuse),
    ("a_runner_goes_when_there_is_nothing_to_do", true, idle),
    ("jobs_count_as_sessions_and_wait_for_a_process", true, room),
    ("a_job_is_told_ended_signalled_and_leased", true, orders),
    ("a_job_that_does_not_end_is_ended", true, stubborn),
    ("a_tree_is_gone_before_the_job_is", true, trees),
    (
        "a_restarted_monitor_knows_what_runs_and_what_has_ended",
        true,
        restart,
    ),
    ("a_job_that_its_session_never_got_is_lost", true, lost),
    ("a_torn_journal_is_read_as_far_as_it_goes", true, torn),
    ("a_session_sees_jobs_of_its_user", true, looks),
    ("who_asks_about_jobs_is_vouched_for", true, vouch),
    ("output_is_brought_home_to_where_it_belongs", true, deliver),
    ("a_single_user_install_runs_its_owner_s_jobs", true, single),
];

fn host() -> Host {
    let mut h = Host::new(0);
    h.up();
    h
}

fn kill(pid: i32) {
    // SAFETY: a process that this test had started.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

fn warrants() {
    let h = host();
    let ask = |uid: u32, login: &str| {
        let r = JobRequest::Warrant {
            login: login.into(),
            run: [7; 32],
        };
        h.ask_as(uid, &Request::Job(r))
    };
    let here = HostCert::verify(&h.cert, &h.authority).unwrap();
    for (uid, login, user, want) in [
        (1, "", "daemon", "daemon"),
        (1, "root", "daemon", "root"),
        (0, "", "root", "root"),
    ] {
        let Reply::Job(JobReply::Warrant { warrant, source_cert }) = ask(uid, login) else {
            panic!("not signed");
        };
        assert_eq!(source_cert, h.cert);
        let w = Warrant::verify(&warrant, &here, &here.cluster, unix_now()).unwrap();
        assert_eq!((w.user.as_str(), w.login.as_str(), w.run), (user, want, [7; 32]));
    }
    for login in ["a/b", "..", "a:b"] {
        assert_eq!(refused(&ask(1, login), "name of an account"), Refusal::Policy);
    }
    // Who has to be looked up waits, and is named then.
    let mut h = Host::new(0).with_lookup("echo carol");
    h.up();
    let r = JobRequest::Warrant {
        login: String::new(),
        run: [7; 32],
    };
    let Reply::Job(JobReply::Warrant { warrant, .. }) = h.ask_as(12345, &Request::Job(r)) else {
        panic!("not signed");
    };
    assert_eq!(Warrant::parse(&warrant).unwrap().0.user, "carol");
}

fn permits() {
    let h = host();
    let m = h.member("h2");
    for r in [
        request(&h, &m, "alice", key(1), "ok"),
        JobRequest::End {
            key: key(1),
            signal: 0,
            cause: 0,
            text: String::new(),
        },
        JobRequest::Lease {
            leases: vec![(key(1), 1)],
        },
        JobRequest::Forget { keys: vec![key(1)] },
        JobRequest::Vouch {
            ticket: vec![1],
            source_cert: vec![2],
            body: [3; 32],
        },
        JobRequest::Deliver {
            job: 1,
            warrant: vec![],
            source_cert: vec![],
            run: vec![],
            from: "h2".into(),
        },
    ] {
        let no = h.ask_as(1, &Request::Job(r));
        assert_eq!(refused(&no, "not for you"), Refusal::Denied);
    }
}

fn checks() {
    let h = host();
    let (m, n) = (h.member("h2"), h.member("h3"));
    let d = Daemon::new(&h);
    let good = m.warrant(&h, "alice", b"ok");
    let ask = |w: &[u8], cert: &[u8], run: &[u8]| {
        d.ask(JobRequest::Run {
            key: key(1),
            warrant: w.to_vec(),
            source_cert: cert.to_vec(),
            run: run.to_vec(),
            params: vec![],
            lease: 0,
            note: vec![],
        })
    };
    let signed = good.sign(&m.key);
    let mut bad = signed.clone();
    bad[70] ^= 1;
    let changed = |f: &dyn Fn(&mut Warrant)| {
        let mut w = good.clone();
        f(&mut w);
        w.sign(&m.key)
    };
    let mut forged = m.cert.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    for (w, cert, run, text, code) in [
        (&bad, &m.cert, &b"ok"[..], "", Refusal::BadTicket),
        (&signed, &forged, b"ok", "signature", Refusal::BadTicket),
        // Of another host than it says.
        (&signed, &n.cert, b"ok", "signature", Refusal::BadTicket),
        (&signed, &h.cert, b"ok", "signature", Refusal::BadTicket),
        (
            &changed(&|w| w.source = "h3".into()),
            &m.cert,
            b"ok",
            "signature",
            Refusal::BadTicket,
        ),
        (
            &changed(&|w| w.cluster = [1; 32]),
            &m.cert,
            b"ok",
            "signature",
            Refusal::BadTicket,
        ),
        (&b"junk".to_vec(), &m.cert, b"ok", "malformed", Refusal::BadTicket),
        (
            &m.ticket(&h, "alice").sign(&m.key),
            &m.cert,
            b"ok",
            "malformed",
            Refusal::BadTicket,
        ),
        // Another run than he wanted.
        (&signed, &m.cert, b"die", "not the one", Refusal::BadTicket),
        (&signed, &m.cert, b"", "not the one", Refusal::BadTicket),
        // At another time, as somebody else.
        (
            &changed(&|w| w.issued -= LIFETIME + 60),
            &m.cert,
            b"ok",
            "366 days ago",
            Refusal::Clock,
        ),
        (
            &changed(&|w| w.issued += 3600),
            &m.cert,
            b"ok",
            "ahead",
            Refusal::Clock,
        ),
        (
            &changed(&|w| w.login = "bob".into()),
            &m.cert,
            b"ok",
            "may not run as bob",
            Refusal::Policy,
        ),
        (
            &changed(&|w| w.login = "../x".into()),
            &m.cert,
            b"ok",
            "name of an account",
            Refusal::Policy,
        ),
        (
            &changed(&|w| (w.user, w.login) = ("root".into(), "root".into())),
            &m.cert,
            b"ok",
            "may not vouch for root",
            Refusal::Policy,
        ),
    ] {
        assert_eq!(refused(&ask(w, cert, run), text), code, "{text}");
    }
    let zero = request(&h, &m, "alice", JobKey { attempt: 0, ..key(1) }, "ok");
    assert_eq!(refused(&d.ask(zero), "count from 1"), Refusal::Denied);
    // None of that was an attempt.
    let (_, outcome) = d.through(request(&h, &m, "alice", key(1), "ok"));
    let spool = h.layout.state.join("spool/alice");
    let want = format!(
        "params 0 alice@h2 as alice uid-min 1000 root false pam false in {}",
        spool.display()
    );
    assert!(outcome.ends_with(&want), "{outcome}");
    // As a session is not told of, and no ticket was used.
    assert!(d.next(Duration::from_millis(50)).is_none());
}

fn changes() {
    let h = host();
    let m = h.member("h2");
    let d = Daemon::new(&h);
    let run = |n| request(&h, &m, "alice", key(n), "ok");
    d.through(run(1));
    let (pid, _) = d.through(run(2));
    fs::write(h.layout.exec_conf(), "vouch h2 bob\n").unwrap();
    d.through(run(3));
    assert_eq!(h.ask(&Request::Reload), Reply::Done);
    assert_eq!(refused(&d.ask(run(4)), "exec.conf"), Refusal::Policy);
    wait_for("the end of a runner under the old policy", || !alive(pid));
    fs::write(h.layout.exec_conf(), "vouch h2 *\n").unwrap();
    assert_eq!(h.ask(&Request::Reload), Reply::Done);
    d.through(run(4));
    let list = queue_exec::authority::remove(&h.layout, "h2").unwrap();
    assert_eq!(h.ask(&Request::Revoke { list }), Reply::Done);
    assert_eq!(refused(&d.ask(run(5)), "h2 was removed"), Refusal::BadTicket);
}

fn once() {
    let mut h = host();
    let m = h.member("h2");
    let d = Daemon::new(&h);
    let k = |task, attempt| JobKey {
        job: 7,
        task,
        attempt,
    };
    let run = |key| request(&h, &m, "alice", key, "ok");
    let again = |d: &Daemon, key| {
        let no = d.ask(request(&h, &m, "alice", key, "ok"));
        assert_eq!(refused(&no, "was here before"), Refusal::Denied, "{key:?}");
    };
    d.through(run(k(1, 1)));
    again(&d, k(1, 1));
    d.through(run(k(1, 3)));
    again(&d, k(1, 2));
    again(&d, k(1, 3));
    d.forget(&[k(1, 1), k(1, 3)]);
    again(&d, k(1, 3));
    // Others are others.
    d.through(run(k(2, 1)));
    d.through(run(k(0, 1)));
    d.run(request(&h, &m, "alice", k(3, 1), "wait"));
    d.started(k(3, 1));
    again(&d, k(3, 1));
    let life = d.life;
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        h.down(signal);
        h.up();
        let d = Daemon::new(&h);
        assert_eq!(d.life, life);
        for key in [k(1, 1), k(1, 3), k(2, 1), k(0, 1), k(3, 1)] {
            let no = d.ask(request(&h, &m, "alice", key, "ok"));
            assert_eq!(refused(&no, "was here before"), Refusal::Denied, "{key:?}");
        }
    }
    let d = Daemon::new(&h);
    assert_eq!(d.end(k(3, 1), 0), Reply::Done);
    d.ended(k(3, 1));
    d.through(request(&h, &m, "alice", k(3, 2), "ok"));
    // After another start of the machine there is nothing to remember.
    h.down(libc::SIGTERM);
    fs::remove_dir_all(&h.layout.run).unwrap();
    fs::create_dir(&h.layout.run).unwrap();
    h.up();
    let d = Daemon::new(&h);
    assert_ne!(d.life, life);
    assert_eq!(d.told, []);
}

fn memory(bytes: &[u8], seals: SealFlag) -> OwnedFd {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut f = File::from(memfd_create(c"run", flags).unwrap());
    f.write_all(bytes).unwrap();
    fcntl(&f, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    f.into()
}

fn sealed() {
    let h = host();
    let m = h.member("h2");
    let d = Daemon::new(&h);
    let all = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    let mut text = b"ok ".to_vec();
    text.resize(RUN_INLINE_MAX * 40, b'x');
    let ask = |job, text: &[u8], fd: &OwnedFd| {
        let r = JobRequest::Run {
            key: key(job),
            warrant: m.warrant(&h, "alice", text).sign(&m.key),
            source_cert: m.cert.clone(),
            run: vec![],
            params: vec![],
            lease: 0,
            note: b"note".to_vec(),
        };
        client::ask(d.asks.as_fd(), &Request::Job(r), Some(fd.as_fd())).unwrap()
    };
    let good = memory(&text, all);
    for job in 1..4 {
        assert_eq!(ask(job, &text, &good), Reply::Done);
        d.started(key(job));
        d.ended(key(job));
    }
    let open = memory(&text, SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW);
    assert_eq!(refused(&ask(9, &text, &open), "not sealed"), Refusal::Denied);
    let other = memory(&text[..text.len() - 1], all);
    assert_eq!(refused(&ask(9, &text, &other), "not the one"), Refusal::BadTicket);
    let large = memory(&vec![b'x'; RUN_MAX + 1], all);
    assert_eq!(refused(&ask(9, &text, &large), "more than"), Refusal::Denied);
    let file = File::open("/dev/zero").unwrap().into();
    assert_eq!(refused(&ask(9, &text, &file), "no memory file"), Refusal::Denied);
}

fn reuse() {
    let mut h = Host::new(0);
    fs::write(h.layout.exec_conf(), "vouch * *\nlogin alice bob\n").unwrap();
    h.up();
    let (m, n) = (h.member("h2"), h.member("h3"));
    let d = Daemon::new(&h);
    let mut job = 0;
    let mut run = |m: &Member, user: &str, login: &str| {
        job += 1;
        let w = Warrant {
            login: login.into(),
            ..m.warrant(&h, user, b"ok")
        };
        let r = JobRequest::Run {
            key: key(job),
            warrant: w.sign(&m.key),
            source_cert: m.cert.clone(),
            run: b"ok".to_vec(),
            params: vec![],
            lease: 0,
            note: b"note".to_vec(),
        };
        let (pid, outcome) = d.through(r);
        assert!(outcome.starts_with(&format!("{pid} ")), "{outcome}");
        pid
    };
    let alice = run(&m, "alice", "alice");
    for _ in 0..5 {
        assert_eq!(run(&m, "alice", "alice"), alice);
    }
    // Others get others, and each keeps his.
    let bob = run(&m, "bob", "bob");
    let as_bob = run(&m, "alice", "bob");
    let from_h3 = run(&n, "alice", "alice");
    let all = [alice, bob, as_bob, from_h3];
    assert!(
        (0..4).all(|i| all[i + 1..].iter().all(|p| *p != all[i])),
        "{all:?}"
    );
    assert_eq!(run(&m, "bob", "bob"), bob);
    assert_eq!(run(&m, "alice", "alice"), alice);
    // One that runs something is not free; one that died is not used.
    job_waits(&h, &d, &m, key(100));
    assert_ne!(run(&m, "alice", "alice"), alice);
    kill(bob);
    wait_for("its end", || !alive(bob));
    assert_ne!(run(&m, "bob", "bob"), bob);
    // With PAM each job has its own.
    fs::write(h.layout.exec_conf(), "vouch * *\npam yes\n").unwrap();
    assert_eq!(h.ask(&Request::Reload), Reply::Done);
    let first = run(&m, "alice", "alice");
    assert_ne!(run(&m, "alice", "alice"), first);
    wait_for("its end", || !alive(first));
}

fn job_waits(h: &Host, d: &Daemon, m: &Member, key: JobKey) -> i32 {
    d.run(request(h, m, "alice", key, "wait"));
    d.started(key).0
}

fn idle() {
    let h = host();
    let m = h.member("h2");
    let d = Daemon::new(&h);
    let (pid, _) = d.through(request(&h, &m, "alice", key(1), "ok"));
    let since = Instant::now();
    assert_eq!(h.records().len(), 1);
    wait_for("the end of an idle runner", || !alive(pid));
    assert!(since.elapsed() > Duration::from_secs(8), "it had its time");
    wait_for("the record's end", || h.records().is_empty());
    let (other, _) = d.through(request(&h, &m, "alice", key(2), "ok"));
    assert_ne!(other, pid);
}

fn room() {
    let mut h = Host::new(0);
    fs::write(h.layout.exec_conf(), "max-sessions 3\nwarm 0\n").unwrap();
    h.up();
    let m = h.member("h2");
    let d = Daemon::new(&h);
    // Free runners count for nothing.
    for (n, user) in ["alice", "bob", "carol", "dora"].iter().enumerate() {
        d.through(request(&h, &m, user, key(n as u64 + 1), "ok"));
    }
    job_waits(&h, &d, &m, key(11));
    job_waits(&h, &d, &m, key(12));
    let s = h.session(&m, "alice");
    let no = d.ask(request(&h, &m, "alice", key(13), "ok"));
    assert_eq!(refused(&no, "max-sessions 3"), Refusal::Busy);
    let t = m.ticket(&h, "bob").sign(&m.key);
    assert_eq!(refused(&h.start(&t, &m.cert).0, "max-sessions 3"), Refusal::Busy);
    drop(s);
    wait_for("room", || {
        d.ask(request(&h, &m, "alice", key(13), "ok")) == Reply::Done
    });
    d.started(key(13));
    d.ended(key(13));
    // Nothing can be started any more: who waits is told so, and his attempt may come again.
    fs::remove_file(h.dir.join("lib/queue-session")).unwrap();
    h.down(libc::SIGTERM);
    fs::write(h.layout.exec_conf(), "warm 0\n").unwrap();
    h.up();
    let d = Daemon::new(&h);
    for _ in 0..2 {
        let no = d.ask(request(&h, &m, "alice", key(14), "ok"));
        assert_eq!(refused(&no, "session process"), Refusal::Busy);
    }
}

fn orders() {
    let h = host();
    let m = h.member("h2");
    let d = Daemon::new(&h);
    let k = key(1);
    job_waits(&h, &d, &m, k);
    assert_eq!(d.end(k, 10), Reply::Done);
    assert_eq!(refused(&d.end(k, 65), "no signal 65"), Refusal::Denied);
    let lease = JobRequest::Lease {
        leases: vec![(key(77), 5), (k, u64::MAX)],
    };
    assert_eq!(d.ask(lease), Reply::Done);
    // One that runs is not forgotten.
    d.forget(&[k, key(77)]);
    let again = Daemon::new(&h);
    assert_eq!((again.life, again.told.len()), (d.life, 1));
    assert!(matches!(again.told[0], JobReply::Started { key, .. } if key == k));
    assert_eq!(d.end(k, 0), Reply::Done);
    let outcome = format!("killed by bob, signal 10, lease {}", u64::MAX);
    assert_eq!(d.ended(k), outcome);
    assert_eq!(again.ended(k), outcome, "all who watch are told");
    assert_eq!(d.end(k, 0), Reply::Done, "it has ended");
    assert_eq!(refused(&d.end(key(2), 0), "does not run here"), Refusal::Policy);
    let again = Daemon::new(&h);
    assert!(
        matches!(&again.told[..], [JobReply::Ended { key, outcome }] if *key == k && outcome.starts_with(b"killed by bob"))
    );
    d.forget(&[k]);
    assert_eq!(Daemon::new(&h).told, []);
    // One that is stopped.
    let k = key(3);
    d.run(request(&h, &m, "alice", k, "stop"));
    d.started(k);
    let stopped = JobReply::Stopped {
        key: k,
        stopped: true,
    };
    assert_eq!(d.event(), stopped);
    assert_eq!(Daemon::new(&h).told[1..], [stopped]);
    assert_eq!(d.end(k, 0), Reply::Done);
    d.ended(k);
    // A lease that is over, whatever the session thinks of it.
    let JobRequest::Run {
        warrant,
        source_cert,
        run,
        ..
    } = request(&h, &m, "alice", key(4), "deaftree")
    else {
        panic!()
    };
    let begin = Instant::now();
    d.run(JobRequest::Run {
        key: key(4),
        warrant,
        source_cert,
        run,
        params: vec![],
        lease: boottime_ms() + 300,
        note: b"note".to_vec(),
    });
    d.started(key(4));
    assert_eq!(d.ended(key(4)), "its tree is gone");
    assert!(begin.elapsed() < Duration::from_secs(10));
}

fn boottime_ms() -> u64 {
    let t = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap();
    t.tv_sec() as u64 * 1000 + t.tv_nsec() as u64 / 1_000_000
}

fn stubborn() {
    let h = host();
    let m = h.member("h2");
    let d = Daemon::new(&h);
    let begin = Instant::now();
    let mut pids = Vec::new();
    for (n, word) in [(1, "deaftree"), (2, "deaf")] {
        d.run(request(&h, &m, "alice", key(n), word));
        pids.push(d.started(key(n)).0);
        assert_eq!(d.end(key(n), 0), Reply::Done);
    }
    // Its tree goes first, and it is asked how it was.
    assert_eq!(d.ended(key(1)), "its tree is gone");
    assert!(begin.elapsed() > Duration::from_secs(14), "it had its time");
    assert!(alive(pids[0]) && alive(pids[1]));
    assert_eq!(d.ended(key(2)), "");
    assert!(!alive(pids[1]));
    assert!(begin.elapsed() < Duration::from_secs(30));
}

fn trees() {
    let h = host();
    let m = h.member("h2");
    let d = Daemon::new(&h);
    // Its session dies; its session cannot end it; both die at once.
    for (n, way) in [(1, "die"), (2, "last"), (3, "die")] {
        d.run(request(&h, &m, "alice", key(n), "tree"));
        let (pid, pids) = d.started(key(n));
        let pids: Vec<i32> = pids.split(' ').map(|p| p.parse().unwrap()).collect();
        assert!(pids.len() == 3 && pids.iter().all(|p| alive(*p)));
        let outcome = if way == "die" {
            kill(pid);
            ""
        } else {
            assert_eq!(d.end(key(n), 0), Reply::Done);
            "killed by bob"
        };
        assert_eq!(d.ended(key(n)), outcome);
        assert!(
            !pids.iter().any(|p| alive(*p)) && !alive(pid),
            "nothing runs any more"
        );
        wait_for("the record's end", || h.records().is_empty());
    }
    d.run(request(&h, &m, "alice", key(4), "die"));
    d.started(key(4));
    assert_eq!(d.ended(key(4)), "");
    // And the next one runs.
    d.through(request(&h, &m, "alice", key(5), "ok"));
}

fn restart() {
    let mut h = host();
    let m = h.member("h2");
    let d = Daemon::new(&h);
    let pid = job_waits(&h, &d, &m, key(1));
    d.run(request(&h, &m, "alice", key(2), "tree"));
    let (dead, pids) = d.started(key(2));
    d.through(request(&h, &m, "bob", key(3), "ok"));
    d.through(request(&h, &m, "bob", key(4), "ok"));
    d.forget(&[key(4)]);
    d.run(request(&h, &m, "bob", key(5), "die"));
    d.started(key(5));
    d.ended(key(5));
    let life = d.life;
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        h.down(signal);
        // While nobody looks.
        kill(dead);
        wait_for("its end", || !alive(dead));
        h.up();
        let pids: Vec<i32> = pids.split(' ').map(|p| p.parse().unwrap()).collect();
        assert!(!pids.iter().any(|p| alive(*p)), "before it says ready");
        let d = Daemon::new(&h);
        assert_eq!(d.life, life);
        let told: Vec<(u64, bool)> = d
            .told
            .iter()
            .map(|e| match e {
                JobReply::Started {
                    key, running, note, ..
                } => {
                    assert_eq!((&running[..], &note[..]), (&b"runs"[..], &b"note"[..]));
                    (key.job, false)
                }
                JobReply::Ended { key, outcome } => {
                    assert_eq!(outcome.is_empty(), key.job != 3);
                    (key.job, true)
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, [(1, false), (2, true), (3, true), (5, true)]);
        assert!(alive(pid));
    }
    // It has come back, and does what it is told; what was said while it was away is said again.
    h.down(libc::SIGKILL);
    // SAFETY: a process that this test had started.
    unsafe { libc::kill(pid, libc::SIGSTOP) };
    h.up();
    let d = Daemon::new(&h);
    let lease = JobRequest::Lease {
        leases: vec![(key(1), u64::MAX)],
    };
    assert_eq!(d.ask(lease), Reply::Done);
    let busy = refused(&d.end(key(1), 10), "does not listen");
    assert_eq!(busy, Refusal::Busy);
    assert_eq!(d.end(key(1), 0), Reply::Done);
    // SAFETY: as above.
    unsafe { libc::kill(pid, libc::SIGCONT) };
    assert_eq!(d.ended(key(1)), format!("killed by bob, lease {}", u64::MAX));
    // Of an earlier monitor: it is used no more.
    wait_for("its end", || !alive(pid));
}

fn lost() {
    let mut h = host();
    let m = h.member("h2");
    let d = Daemon::new(&h);
    // Ended while the monitor was away: its session says it again.
    let pid = job_waits(&h, &d, &m, key(1));
    let dead = job_waits(&h, &d, &m, key(2));
    h.down(libc::SIGKILL);
    let file = fs::read(h.layout.sessions().join("jobs.journal")).unwrap();
    kill(dead);
    wait_for("its end", || !alive(dead));
    // Its record is gone as well: nothing is known of it but its attempt.
    for r in h.records() {
        let path = h.layout.sessions().join(&r);
        if fs::read_to_string(&path)
            .unwrap()
            .contains(&format!("process {dead} "))
        {
            fs::remove_file(path).unwrap();
        }
    }
    h.up();
    let d = Daemon::new(&h);
    assert!(matches!(d.told[0], JobReply::Started { key: k, .. } if k == key(1)));
    assert!(matches!(&d.told[1], JobReply::Ended { key: k, outcome } if *k == key(2) && outcome.is_empty()));
    assert_eq!(d.end(key(1), 0), Reply::Done);
    d.ended(key(1));
    wait_for("its end", || !alive(pid));
    // A session whose attempt is not known here is denied, and goes.
    let pid = job_waits(&h, &d, &m, key(3));
    h.down(libc::SIGKILL);
    fs::write(h.layout.sessions().join("jobs.journal"), &file).unwrap();
    h.up();
    wait_for("the end of one that nobody knows", || !alive(pid));
}

fn torn() {
    let mut h = host();
    let m = h.member("h2");
    let d = Daemon::new(&h);
    d.through(request(&h, &m, "alice", key(1), "ok"));
    let pid = job_waits(&h, &d, &m, key(2));
    let path = h.layout.sessions().join("jobs.journal");
    h.down(libc::SIGKILL);
    let mut f = OpenOptions::new().append(true).open(&path).unwrap();
    f.write_all(&[0, 0, 0, 40, 1, 2, 3, 4, 5]).unwrap();
    h.up();
    let again = Daemon::new(&h);
    assert_eq!((again.life, again.told.len()), (d.life, 2));
    again.through(request(&h, &m, "alice", key(3), "ok"));
    h.down(libc::SIGKILL);
    h.up();
    assert_eq!(Daemon::new(&h).told.len(), 3);
    // What is none at all begins another life, in which nothing of the old one runs.
    h.down(libc::SIGKILL);
    fs::write(&path, "something else").unwrap();
    h.up();
    let other = Daemon::new(&h);
    assert_ne!(other.life, d.life);
    assert_eq!(other.told, []);
    wait_for("the end of what ran", || !alive(pid));
    other.through(request(&h, &m, "alice", key(3), "ok"));
}

fn looks() {
    let h = host();
    let m = h.member("h2");
    let d = Daemon::new(&h);
    let pid = job_waits(&h, &d, &m, key(1));
    d.through(request(&h, &m, "alice", key(2), "ok"));
    let mut s = h.session(&m, "alice");
    let name = queue_exec::codec::hex(&key(1).to_bytes());
    assert_eq!(s.ask("look"), format!("seen {name} {pid}"));
    assert_eq!(h.session(&m, "bob").ask("look"), "seen");
}

fn vouch() {
    let mut h = Host::new(0).with_lookup(
        "[ \"$1\" = --print-account ] || exit 2
case $2 in
  alice) printf '2001\\nalice\\n.\\n' ;;
  bob) printf '2002\\nbob\\nwheel\\n.\\n' ;;
  service) printf '300\\nservice\\nwheel\\n.\\n' ;;
  broken) printf '2004\\nwheel\\n' ;;
  *) echo . ;;
esac",
    );
    fs::write(h.layout.queued_toml(), "operators = ['carol', '@wheel']\n").unwrap();
    h.up();
    let m = h.member("h2");
    let ask = |t: &Ticket, body: &[u8]| {
        let r = JobRequest::Vouch {
            ticket: t.sign(&m.key),
            source_cert: m.cert.clone(),
            body: Sha256::digest(body).into(),
        };
        h.ask(&Request::Job(r))
    };
    let ticket = |user: &str| Ticket {
        request: Sha256::digest(b"list").into(),
        ..m.ticket(&h, user)
    };
    // One without an account here may have jobs as well.
    for (user, operator) in [
        ("alice", false),
        ("bob", true),
        ("carol", true),
        ("root", true),
        ("zoe", false),
    ] {
        let t = ticket(user);
        let vouched = Reply::Job(JobReply::Vouched {
            user: user.into(),
            host: "h2".into(),
            operator,
        });
        assert_eq!(ask(&t, b"list"), vouched);
        assert_eq!(refused(&ask(&t, b"list"), "used before"), Refusal::BadTicket);
        assert_eq!(
            refused(&ask(&ticket(user), b"kill"), "signed for"),
            Refusal::BadTicket
        );
    }
    let elsewhere = Ticket {
        target: "h3".into(),
        ..ticket("alice")
    };
    assert_eq!(refused(&ask(&elsewhere, b"list"), "for h3"), Refusal::BadTicket);
    let late = Ticket {
        issued: unix_now() - 3600,
        ..ticket("alice")
    };
    assert_eq!(refused(&ask(&late, b"list"), "too late"), Refusal::Clock);
    let su = Ticket {
        login: "bob".into(),
        ..ticket("alice")
    };
    assert_eq!(refused(&ask(&su, b"list"), "may not run as bob"), Refusal::Policy);
    let no = ask(&ticket("service"), b"list");
    assert_eq!(refused(&no, "no ordinary user"), Refusal::Policy);
    let no = ask(&ticket("broken"), b"list");
    assert_eq!(refused(&no, "name service"), Refusal::Busy);
}

fn deliver() {
    let h = host();
    let m = h.member("h2");
    let d = Daemon::new(&h);
    let run = b"ok";
    let r = |warrant: Vec<u8>, cert: &[u8], from: &str| JobRequest::Deliver {
        job: 12,
        warrant,
        source_cert: cert.to_vec(),
        run: run.to_vec(),
        from: from.into(),
    };
    let word = JobRequest::Warrant {
        login: String::new(),
        run: Sha256::digest(run).into(),
    };
    fs::write(h.layout.exec_conf(), "vouch h1 daemon *\nvouch h2 *\n").unwrap();
    assert_eq!(h.ask(&Request::Reload), Reply::Done);
    let Reply::Job(JobReply::Warrant { warrant, .. }) = h.ask_as(1, &Request::Job(word)) else {
        panic!("not signed");
    };
    for (from, hopeless) in [("h2", false), ("", true)] {
        let Reply::Job(JobReply::Delivered {
            failed,
            hopeless: told,
        }) = d.ask(r(warrant.clone(), &h.cert, from))
        else {
            panic!("not delivered");
        };
        assert_eq!(told, hopeless);
        let want = format!("12 2 {from} daemon@h1 as daemon uid-min 1 root false");
        assert!(failed.starts_with(&want), "{failed}");
    }
    let Reply::Job(JobReply::Delivered { failed, hopeless }) = d.ask(r(warrant.clone(), &h.cert, "dies"))
    else {
        panic!("not delivered");
    };
    assert!(failed.contains("ended before") && !hopeless, "{failed}");
    for from in ["-x", "a b", "../x"] {
        let no = d.ask(r(warrant.clone(), &h.cert, from));
        assert_eq!(refused(&no, "name of a host"), Refusal::Denied);
    }
    // Of another host's job.
    let theirs = m.warrant(&h, "alice", run).sign(&m.key);
    let no = d.ask(r(theirs, &m.cert, "h2"));
    assert_eq!(refused(&no, "submitted on h2"), Refusal::Policy);
    let mut bad = warrant.clone();
    bad[70] ^= 1;
    assert_eq!(refused(&d.ask(r(bad, &h.cert, "h2")), ""), Refusal::BadTicket);
    // It was no attempt, and leaves nothing behind.
    wait_for("the record's end", || h.records().is_empty());
    assert_eq!(Daemon::new(&h).told, []);
}

fn single() {
    let mut h = Host::new(1);
    h.up();
    let m = h.member("h2");
    as_user(1, || {
        let d = Daemon::new(&h);
        let (_, outcome) = d.through(request(&h, &m, "daemon", key(1), "ok"));
        assert!(
            outcome.contains("daemon@h2 as daemon uid-min 1 root false"),
            "{outcome}"
        );
        let no = d.ask(request(&h, &m, "alice", key(2), "ok"));
        assert_eq!(refused(&no, "single-user"), Refusal::Policy);
    });
}

/// Runs so many jobs one after the other, and says what each cost the monitor.
pub(crate) fn measure(jobs: u64) {
    let h = host();
    let m = h.member("h2");
    let d = Daemon::new(&h);
    let mut run = b"ok ".to_vec();
    run.resize(3000, b'x');
    let w = m.warrant(&h, "alice", &run).sign(&m.key);
    let cpu = || {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", h.pid())).unwrap();
        let ns: u64 = text.split(' ').next().unwrap().parse().unwrap();
        Duration::from_nanos(ns)
    };
    let nonce: [u8; 4] = random();
    let (begin, before) = (Instant::now(), cpu());
    for n in 0..jobs {
        let r = JobRequest::Run {
            key: key(u64::from(u32::from_be_bytes(nonce)) + n),
            warrant: w.clone(),
            source_cert: m.cert.clone(),
            run: run.clone(),
            params: vec![1; 100],
            lease: 0,
            note: b"note".to_vec(),
        };
        let JobRequest::Run { key, .. } = r else { return };
        d.through(r);
        d.forget(&[key]);
    }
    let each = (cpu() - before) / u32::try_from(jobs).unwrap();
    let wall = begin.elapsed() / u32::try_from(jobs).unwrap();
    let _ = writeln!(
        std::io::stdout(),
        "{each:?} of the monitor's time, {wall:?} in all, for each job"
    );
}
