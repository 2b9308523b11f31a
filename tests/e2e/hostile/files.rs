//! Links, pipes and devices where files are expected, and things that change while they are looked at.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use queue_harness::{Cluster, LIMIT, Status, wait_until};

use super::attacker;
use super::play::tell;
use crate::world::{World, queue};

pub(super) fn trials(w: &Arc<World>) -> Vec<Trial> {
    vec![
        w.shared("hostile::output_follows_no_link_of_others", output_and_links),
        w.shared("hostile::output_to_pipes_and_devices_ends", output_and_pipes),
        w.shared("hostile::tee_is_opened_as_the_user", tee),
    ]
}

/// A directory where everybody may write.
fn trap(c: &Cluster, name: &str) -> Result<std::path::PathBuf> {
    let dir = c.shared().join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir(&dir)?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777))?;
    Ok(dir)
}

/// Runs a batch job to its end: what is known of it then.
fn batch(c: &Cluster, args: &[&str]) -> Result<String> {
    let line = [&["-b"], args].concat();
    let out = queue(c, &line).ok()?;
    let id: String = out.text().chars().filter(char::is_ascii_digit).collect();
    let wait = queue(c, &["wait", &id]).run()?;
    ensure!(matches!(wait.status, Status::Exit(_)), "{wait:?}");
    Ok(queue(c, &["show", &id]).ok()?.text())
}

fn output_and_links(c: &Cluster) -> Result<()> {
    let dir = trap(c, "links")?;
    // A file of alice's that bob would like her to write to.
    let precious = "/srv/shared/links/precious";
    c.host(1)
        .sh(&format!("umask 077; echo mine > {precious}"))
        .user("alice")
        .ok()?;
    c.host(1)
        .sh("ln -s precious /srv/shared/links/out; ln -s /srv/shared/links/precious /srv/shared/links/err")
        .user("bob")
        .ok()?;
    let out = "/srv/shared/links/out";
    let said = batch(c, &["-h", "h1", "--output", out, "--", "echo", "written"])?;
    ensure!(said.contains("another user"), "{said}");
    // Brought home from another host, it is added here, by her front end.
    let away = ["-b", "-h", "h2", "--output", out, "--", "echo", "written"];
    let id: String = queue(c, &away).ok()?.text();
    let id: String = id.chars().filter(char::is_ascii_digit).collect();
    // It was tried: it lies beside its place, complete.
    let tried = || {
        let names = fs::read_dir(&dir).into_iter().flatten().flatten();
        names.map(|e| e.file_name()).any(|n| {
            let n = n.to_string_lossy().into_owned();
            n.starts_with(&format!(".out.queue-{id}")) && n.contains('@')
        })
    };
    wait_until(LIMIT, "it to be brought home", tried)?;
    let said = batch(
        c,
        &[
            "-h",
            "h1",
            "--error",
            "/srv/shared/links/err",
            "--output",
            "/dev/null",
            "--",
            "sh",
            "-c",
            "echo written >&2",
        ],
    )?;
    ensure!(said.contains("another user"), "{said}");
    // Her own links she may use.
    c.host(1)
        .sh("ln -s own-target /srv/shared/links/own")
        .user("alice")
        .ok()?;
    batch(c, &["--output", "/srv/shared/links/own", "--", "echo", "written"])?;
    ensure!(fs::read_to_string(dir.join("own-target"))?.contains("written"));
    // While bob swaps a file of his and a link as fast as he can.
    let mut swapper =
        attacker(c, 1, "bob", "swap", &["/srv/shared/links", "race", "precious"]).spawn_piped()?;
    wait_until(LIMIT, "bob", || swapper.stdout().starts_with(b"swapping"))?;
    let line = [
        "-b",
        "-w",
        "--array",
        "1-60",
        "--output",
        "/srv/shared/links/race",
        "--",
        "echo",
        "written",
    ];
    let ran = queue(c, &line).run()?;
    // His end is the end of his input.
    let _ = swapper.stdin();
    let swapped = swapper.wait(LIMIT)?;
    ensure!(matches!(ran.status, Status::Exit(_)), "{ran:?}");
    let times: u64 = super::reported(&swapped, "swapped")
        .first()
        .context("no count")?
        .parse()?;
    ensure!(times > 1000, "{swapped:?}");
    ensure!(
        fs::read_to_string(dir.join("precious"))? == "mine\n",
        "somebody wrote to it"
    );
    Ok(())
}

/// As bob: puts a file and a link to somebody else's in turn at one place.
pub(super) fn swap(dir: &str, name: &str, target: &str) -> Result<()> {
    let dir = Path::new(dir);
    let (place, file, link) = (dir.join(name), dir.join(".file"), dir.join(".link"));
    tell("swapping", name);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = stop.clone();
    std::thread::spawn(move || {
        let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0]);
        flag.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let (mut n, begun) = (0u64, Instant::now());
    while !stop.load(std::sync::atomic::Ordering::Relaxed) && begun.elapsed() < Duration::from_secs(60) {
        fs::write(&file, "")?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666))?;
        fs::rename(&file, &place)?;
        std::os::unix::fs::symlink(target, &link)?;
        fs::rename(&link, &place)?;
        n += 2;
    }
    tell("swapped", n);
    Ok(())
}

fn output_and_pipes(c: &Cluster) -> Result<()> {
    trap(c, "pipes")?;
    c.host(1)
        .sh("cd /srv/shared/pipes && mkfifo fifo && chmod 666 fifo && mkdir dir")
        .user("bob")
        .ok()?;
    for (place, why) in [
        ("/srv/shared/pipes/fifo", ""),
        ("/srv/shared/pipes/dir", "directory"),
        ("/dev/full", "disk full"),
        ("/root/x", "denied"),
        ("/run/queue/x", "denied"),
        ("/var/lib/queue/spool/x", "denied"),
    ] {
        let begun = Instant::now();
        let said = batch(c, &["-h", "h1", "--output", place, "--", "echo", "written"])?;
        ensure!(begun.elapsed() < LIMIT, "{place} took {:?}", begun.elapsed());
        ensure!(
            said.contains("output lost") && said.contains(why),
            "{place}: {said}"
        );
    }
    Ok(())
}

fn tee(c: &Cluster) -> Result<()> {
    let dir = trap(c, "tees")?;
    let run = |file: &str| queue(c, &["--tee", file, "-h", "h2", "--", "echo", "seen"]).run();
    for file in [
        "/root/tee",
        "/run/queue/tee",
        "/var/lib/queue/tee",
        "/srv/shared/tees",
    ] {
        let out = run(file)?;
        ensure!(
            out.status == Status::Exit(125) && out.error().contains(file),
            "{file}: {out:?}"
        );
        ensure!(out.stdout.is_empty(), "it ran: {out:?}");
    }
    let out = run("/srv/shared/tees/tee")?;
    ensure!(out.status == Status::Exit(0) && out.text() == "seen", "{out:?}");
    let m = fs::metadata(dir.join("tee"))?;
    ensure!(
        m.uid() == 2001 && fs::read(dir.join("tee"))? == b"seen\n",
        "{m:?}"
    );
    Ok(())
}
