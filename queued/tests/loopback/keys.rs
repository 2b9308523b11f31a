//! Gossip keys and certificates in real daemons: they are made, spread, rotated and renewed while nobody misses
//! anybody.

use crate::site::{Site, wait_for};
use libqueue::wire::Keys;
use nix::sys::signal::Signal;
use prost::Message as _;
use queue_exec::cert::HostCert;
use std::fs;
use std::time::{Duration, Instant};

/// The gossip keys that a host has written down.
fn keys(s: &Site) -> Option<Keys> {
    let bytes = fs::read(s.dir.join("state/queued/gossip.keys")).ok()?;
    Keys::decode(&bytes[..]).ok()
}

fn version(s: &Site) -> u64 {
    keys(s).map_or(0, |k| k.version)
}

#[track_caller]
fn queue(s: &Site, args: &[&str]) -> String {
    let out = s.command("queue", args).output().expect("queue");
    assert!(
        out.status.success(),
        "queue {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Watches for so long that all see each other all the time.
#[track_caller]
fn all_the_time(sites: &[Site], names: &[&str], time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        for s in sites {
            assert!(s.all_up(names), "as {} sees it: {:?}", s.name, s.hosts());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn keys_are_rotated_and_nobody_is_missed() {
    let names = ["h1", "h2", "h3"];
    let mut sites = Site::cluster(&names);
    let first = keys(&sites[0]).expect("made with the cluster");
    for s in &sites {
        assert_eq!(
            keys(s).as_ref(),
            Some(&first),
            "{} got them when it joined",
            s.name
        );
    }
    // One is away, and gets them when it is back.
    assert!(sites[2].stop(Signal::SIGTERM));
    let said = queue(&sites[0], &["admin", "rotate-keys"]);
    assert!(said.contains("number 2"), "{said}");
    wait_for("the new keys", || sites[..2].iter().all(|s| version(s) == 2));
    sites[2].start();
    wait_for("the new keys on h3", || version(&sites[2]) == 2);
    for s in &sites {
        wait_for("all", || s.all_up(&names));
    }
    // Long enough to go over to the new keys, and twice in a row.
    for n in 3..=4 {
        queue(&sites[0], &["admin", "rotate-keys"]);
        wait_for("the newer keys", || sites.iter().all(|s| version(s) == n));
        all_the_time(&sites, &names, Duration::from_secs(1));
    }
    all_the_time(&sites, &names, Duration::from_secs(5));
    // Not everybody may.
    let out = sites[1]
        .command("queue", &["admin", "rotate-keys"])
        .output()
        .expect("queue");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && said.contains("on h1"), "{said}");
    // Whoever is removed does not get the next ones.
    let known = keys(&sites[2]).expect("keys");
    queue(&sites[0], &["hosts", "remove", "h3"]);
    wait_for("the keys without h3", || {
        sites[..2].iter().all(|s| version(s) == 5)
    });
    for s in &sites[..2] {
        wait_for("two", || s.all_up(&["h1", "h2"]));
    }
    all_the_time(&sites[..2], &["h1", "h2"], Duration::from_secs(3));
    assert_eq!(keys(&sites[2]), Some(known));
    assert_ne!(keys(&sites[0]).map(|k| k.key), keys(&sites[2]).map(|k| k.key));
    assert!(sites[2].place("h1").is_err_and(|e| e.contains("was removed")));
}

#[test]
fn a_cluster_without_keys_works_and_gets_them() {
    let names = ["h1", "h2"];
    let mut sites = Site::cluster(&names);
    for s in &mut sites {
        assert!(s.stop(Signal::SIGTERM));
        // As an older version left it.
        fs::remove_file(s.dir.join("state/queued/gossip.keys")).expect("keys");
        let _ = fs::remove_file(s.dir.join("state/exec/gossip.key"));
    }
    for s in &mut sites {
        s.start();
        assert!(
            s.log().contains("queue admin rotate-keys' as root on h1"),
            "{}",
            s.log()
        );
    }
    queue(&sites[0], &["admin", "rotate-keys"]);
    wait_for("keys", || sites.iter().all(|s| version(s) == 1));
    for s in &sites {
        wait_for("both", || s.all_up(&names));
    }
    // Keys that were made while no daemon ran are taken up when it starts.
    assert!(sites[0].stop(Signal::SIGTERM));
    let out = sites[0]
        .command("queue", &["admin", "rotate-keys"])
        .output()
        .expect("queue");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        !out.status.success() && said.contains("do not have them yet"),
        "{said}"
    );
    sites[0].start();
    wait_for("the later keys", || sites.iter().all(|s| version(s) == 2));
}

/// The certificate that a host's daemon has, and the one that its queue-exec has.
fn certs(s: &Site) -> (Option<HostCert>, Option<HostCert>) {
    let read = |p: &str| {
        let bytes = fs::read(s.dir.join(p)).ok()?;
        HostCert::parse(&bytes).ok().map(|(c, _, _)| c)
    };
    (read("state/queued/host.cert"), read("state/exec/host.cert"))
}

#[test]
fn certificates_renew_themselves_while_nobody_is_missed() {
    let names = ["h1", "h2", "h3"];
    let sites = Site::cluster_of(&names, &["--cert-lifetime", "18s"]);
    let before: Vec<_> = sites.iter().map(|s| certs(s).0.expect("a certificate")).collect();
    let until = Instant::now() + Duration::from_secs(40);
    loop {
        for s in &sites {
            assert!(s.all_up(&names), "as {} sees it: {:?}", s.name, s.hosts());
        }
        let renewed = |(s, old): (&Site, &HostCert)| {
            let (ours, exec) = certs(s);
            ours.is_some_and(|c| c.serial > old.serial && Some(c) == exec)
        };
        if sites.iter().zip(&before).all(renewed) {
            break;
        }
        assert!(
            Instant::now() < until,
            "{:?}",
            sites.iter().map(certs).collect::<Vec<_>>()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    for (s, old) in sites.iter().zip(&before) {
        let new = certs(s).0.expect("a certificate");
        assert_eq!(
            (&new.name, new.host_key, new.tls_key),
            (&old.name, old.host_key, old.tls_key)
        );
        assert!(new.expires > old.expires);
        for n in names {
            assert_eq!(s.place(n), Ok(n.to_owned()));
        }
    }
    // The others know the new ones, and who starts anew with his is the same host still.
    wait_for("the new certificates at h1", || {
        ["h2", "h3"].iter().zip(&before[1..]).all(|(n, old)| {
            let bytes = fs::read(sites[0].dir.join("state/queued/members").join(n)).unwrap_or_default();
            let entry = libqueue::wire::RosterEntry::decode(&bytes[..]).unwrap_or_default();
            HostCert::parse(&entry.cert).is_ok_and(|(c, _, _)| c.serial > old.serial)
        })
    });
    let mut sites = sites;
    assert!(sites[1].stop(Signal::SIGTERM));
    sites[1].start();
    for s in &sites {
        wait_for("all of them again", || s.all_up(&names));
    }
    // All that were ever issued to a host go with it.
    queue(&sites[0], &["hosts", "remove", "h2"]);
    wait_for("h2 to know", || {
        sites[1].place("h1").is_err_and(|e| e.contains("was removed"))
    });
    wait_for("two", || sites[0].all_up(&["h1", "h3"]));
}
