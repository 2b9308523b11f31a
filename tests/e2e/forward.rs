//! X11 and agent forwarding from h2 to alice's display and agent on h1: a real X server without a screen, a real
//! ssh-agent, and a socket that sends everything back.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use queue_harness::{Cluster, HostCommand, LIMIT, Output, Running, Status, wait_for, wait_until};

use crate::world::{World, bash, queue};

pub(crate) fn trials(w: &Arc<World>) -> Vec<Trial> {
    vec![
        w.shared("forward::off_unless_asked_for", off_unless_asked_for),
        w.shared("forward::a_real_display", a_real_display),
        w.shared("forward::only_with_the_cookie", only_with_the_cookie),
        w.shared("forward::a_real_agent", a_real_agent),
        w.shared("forward::only_for_the_user", only_for_the_user),
        w.shared("forward::many_at_once", many_at_once),
        w.shared("forward::much_through_one", much_through_one),
        w.shared("forward::gone_with_the_session", gone_with_the_session),
        w.alone("forward::a_cut_in_the_middle", a_cut_in_the_middle),
    ]
}

/// The true cookie of all displays here.
const COOKIE: &str = "0123456789abcdef0123456789abcdef";

/// A program of alice's on h1 that is ended with the test.
struct Server {
    _running: Running,
    /// What leads to it.
    place: String,
}

/// An X server without a screen, as display `n`, for those who have the cookie in alice's `~/.x-N`.
fn display(c: &Cluster, n: u32) -> Result<Server> {
    let file = format!("/home/alice/.x-{n}");
    bash(
        c,
        &format!("rm -f {file}; xauth -q -f {file} add :{n} MIT-MAGIC-COOKIE-1 {COOKIE}"),
    )
    .ok()?;
    let name = format!(":{n}");
    let words = [
        "Xvfb",
        &name,
        "-screen",
        "0",
        "64x64x8",
        "-nolisten",
        "tcp",
        // Else it begins anew, and is not there for a moment, whenever the last program has gone.
        "-noreset",
        "-auth",
        &file,
    ];
    let running = c.host(1).command(words).user("alice").spawn()?;
    let server = Server {
        _running: running,
        place: name,
    };
    wait_until(LIMIT, "the X server", || {
        with_display(&server, bash(c, "xdpyinfo"))
            .run()
            .is_ok_and(|o| o.status == Status::Exit(0))
    })?;
    Ok(server)
}

fn with_display<'a>(server: &Server, command: HostCommand<'a>) -> HostCommand<'a> {
    let file = format!("/home/alice/.x-{}", server.place.trim_start_matches(':'));
    command.env("DISPLAY", &server.place).env("XAUTHORITY", file)
}

/// Sends back what it gets, each connection for itself.
const ECHO: &str = "import socket, sys, threading
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen(200)
def serve(c):
    while True:
        b = c.recv(65536)
        if not b: break
        c.sendall(b)
    c.close()
while True:
    c, _ = s.accept()
    threading.Thread(target=serve, args=(c,), daemon=True).start()
";

/// So many connections to the agent at once, each with so many bytes there and back.
const TALK: &str = "import os, random, socket, sys, threading
def talk(n, size):
    s = socket.socket(socket.AF_UNIX)
    s.connect(os.environ['SSH_AUTH_SOCK'])
    data = random.Random(n).randbytes(size)
    def up():
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
    t = threading.Thread(target=up)
    t.start()
    got = b''.join(iter(lambda: s.recv(1 << 16), b''))
    t.join()
    good.append(got == data)
good = []
count, size = map(int, sys.argv[1:])
print('talking', flush=True)
all_of_them = [threading.Thread(target=talk, args=(n, size)) for n in range(count)]
for t in all_of_them: t.start()
for t in all_of_them: t.join()
print(len(good), all(good))
";

fn echo(c: &Cluster, name: &str) -> Result<Server> {
    let place = format!("/tmp/echo-{name}");
    c.host(1).command(["rm", "-f", &place]).ok()?;
    let running = c
        .host(1)
        .command(["python3", "-c", ECHO, &place])
        .user("alice")
        .spawn()?;
    wait_until(LIMIT, "the echo", || c.host(1).exists(&place))?;
    Ok(Server {
        _running: running,
        place,
    })
}

/// `queue -A` from where this is the agent.
fn talking<'a>(c: &'a Cluster, echo: &Server, count: &str, size: &str) -> HostCommand<'a> {
    queue(c, &["-A", "-h", "h2", "--", "python3", "-c", TALK, count, size])
        .env("SSH_AUTH_SOCK", &echo.place)
        .timeout(Duration::from_secs(120))
}

/// A command of alice's on h2 with everything forwarded that says where it leads, and then waits.
struct Waiting {
    running: Running,
    display: String,
    xauthority: String,
    agent: String,
}

fn waiting(c: &Cluster, display: &Server, agent: &Server) -> Result<Waiting> {
    let line = "echo $DISPLAY; echo $XAUTHORITY; echo $SSH_AUTH_SOCK; echo ready; read x";
    let command = queue(c, &["-X", "-A", "-h", "h2", "--", "sh", "-c", line]);
    let running = with_display(display, command)
        .env("SSH_AUTH_SOCK", &agent.place)
        .spawn_piped()?;
    let said = wait_for(LIMIT, "the command", || {
        let text = String::from_utf8_lossy(&running.stdout()).into_owned();
        text.contains("ready").then_some(text)
    })
    .with_context(|| String::from_utf8_lossy(&running.stderr()).into_owned())?;
    let line = |n: usize| said.lines().nth(n).unwrap_or_default().to_owned();
    Ok(Waiting {
        running,
        display: line(0),
        xauthority: line(1),
        agent: line(2),
    })
}

/// It worked, and nothing was said.
fn quiet(out: &Output) -> Result<()> {
    ensure!(out.status == Status::Exit(0) && out.error().is_empty(), "{out:?}");
    Ok(())
}

fn off_unless_asked_for(c: &Cluster) -> Result<()> {
    let (x, e) = (display(c, 21)?, echo(c, "off")?);
    let line = "ls -d /tmp/queue-* 2>/dev/null; xdpyinfo >/dev/null 2>&1; echo $?; ssh-add -l >/dev/null 2>&1; echo $?";
    for words in [
        &["-h", "h2", "--", "sh", "-c", line][..],
        &["-XA", "-x", "-a", "-h", "h2", "--", "sh", "-c", line],
        &["-oForwardX11=no", "-oForwardAgent=no", "h2", line],
    ] {
        let out = with_display(&x, queue(c, words))
            .env("SSH_AUTH_SOCK", &e.place)
            .run()?;
        quiet(&out)?;
        // No display, no agent; what others forward at this time is not ours.
        let codes: Vec<String> = out.text().lines().map(str::to_owned).collect();
        ensure!(
            codes.ends_with(&["1".to_owned(), "2".to_owned()]),
            "{words:?}: {out:?}"
        );
    }
    // Asked for where there is nothing: said, and the command runs.
    let out = queue(c, &["-XA", "-h", "h2", "--", "echo", "ran"]).run()?;
    ensure!(out.status == Status::Exit(0) && out.text() == "ran", "{out:?}");
    ensure!(
        out.error().contains("X11 is not forwarded: ")
            && out.error().contains("the agent is not forwarded: "),
        "{out:?}"
    );
    let out = queue(c, &["-X", "-h", "h2", "--", "echo", "ran"])
        .env("DISPLAY", "somewhere.example:0")
        .run()?;
    ensure!(
        out.text() == "ran" && out.error().contains("somewhere.example is not in /etc/hosts"),
        "{out:?}"
    );
    // A display that is not there is told once, when it is wanted.
    for name in [":7", "localhost:7"] {
        let line = "xdpyinfo 2>/dev/null; xdpyinfo 2>/dev/null";
        let out = queue(c, &["-X", "-h", "h2", "--", "sh", "-c", line])
            .env("DISPLAY", name)
            .run()?;
        let told = format!("queue: -X: cannot connect to the display {name} here: ");
        ensure!(out.error().matches(&told).count() == 1, "{out:?}");
    }
    Ok(())
}

fn a_real_display(c: &Cluster) -> Result<()> {
    let x = display(c, 22)?;
    for words in [
        &["queue", "-X", "-h", "h2", "--", "xdpyinfo"][..],
        &["queue", "-Y", "h2", "xdpyinfo"],
        &["qsh", "-oForwardX11=yes", "h2", "xdpyinfo"],
    ] {
        let out = with_display(&x, c.host(1).command(words).user("alice")).run()?;
        quiet(&out)?;
        let text = out.text();
        ensure!(
            text.contains("localhost:") && text.contains("dimensions:    64x64"),
            "{words:?}: {out:?}"
        );
    }
    // A display that is asked for by TCP, and one that is itself forwarded: from h3 over h2.
    let chain = "queue -X -h h3 -- xdpyinfo";
    let out = with_display(&x, queue(c, &["-X", "-h", "h2", "--", "sh", "-c", chain])).run()?;
    quiet(&out)?;
    ensure!(out.text().contains("dimensions:    64x64"), "{out:?}");
    // The true cookie does not leave this host, and another one is not the display's.
    let line = "xauth list; xauth -f $XAUTHORITY nlist";
    let out = with_display(&x, queue(c, &["-X", "-h", "h2", "--", "sh", "-c", line])).run()?;
    ensure!(
        out.text().contains("MIT-MAGIC-COOKIE-1") && !out.text().contains(COOKIE),
        "{out:?}"
    );
    let out = bash(c, "queue -X -h h2 -- xdpyinfo")
        .env("DISPLAY", &x.place)
        .env("XAUTHORITY", "/dev/null")
        .run()?;
    ensure!(
        out.status == Status::Exit(1),
        "a display without its cookie: {out:?}"
    );
    // Many programs at once, and 20 of them one after the other.
    let line = "for i in $(seq 20); do xdpyinfo >/dev/null & done; wait; \
                for i in $(seq 20); do xdpyinfo >/dev/null || echo failed; done; echo done";
    let out = with_display(&x, queue(c, &["-X", "-h", "h2", "--", "sh", "-c", line])).run()?;
    quiet(&out)?;
    ensure!(out.text() == "done", "{out:?}");
    Ok(())
}

fn only_with_the_cookie(c: &Cluster) -> Result<()> {
    let (x, e) = (display(c, 23)?, echo(c, "cookie")?);
    let w = waiting(c, &x, &e)?;
    let ask = |user: &str, cookies: &str| {
        c.host(2)
            .command(["xdpyinfo"])
            .user(user)
            .env("DISPLAY", &w.display)
            .env("XAUTHORITY", cookies)
            .run()
    };
    quiet(&ask("alice", &w.xauthority)?)?;
    // None, a wrong one (the true one of the display itself, too), another user's.
    let wrong = format!(
        "rm -f ~/wrong; for c in 00 {COOKIE}; do xauth -q -f ~/wrong add {} MIT-MAGIC-COOKIE-1 $c; \
         XAUTHORITY=~/wrong DISPLAY={} xdpyinfo 2>&1; echo $?; done",
        w.display, w.display
    );
    let out = c.host(2).command(["bash", "-c", &wrong]).user("alice").run()?;
    let said = "wrong authorisation for a forwarded display";
    ensure!(out.text().matches(said).count() == 2, "{out:?}");
    for (user, cookies) in [
        ("alice", "/dev/null"),
        ("bob", "/dev/null"),
        ("bob", &w.xauthority),
    ] {
        let out = ask(user, cookies)?;
        ensure!(
            out.status == Status::Exit(1) && out.error().contains(said),
            "{user} with {cookies}: {out:?}"
        );
    }
    // What is no X11 gets nothing, and those who have the cookie are not disturbed.
    let number = w.display.trim_start_matches("localhost:").trim_end_matches(".0");
    let port = 6000 + number.parse::<u32>().context("a display")?;
    let noise = format!(
        "import socket\nfor b in [b'GET / HTTP/1.0\\r\\n\\r\\n', b'l' * 5000, b'B\\0\\0\\x0b' + b'\\xff' * 2000]:\n\
         \x20s = socket.create_connection(('127.0.0.1', {port}))\n s.sendall(b)\n s.settimeout(20)\n\
         \x20try: print(len(s.recv(100)))\n except ConnectionResetError: print(0)"
    );
    let out = c.host(2).command(["python3", "-c", &noise]).user("bob").run()?;
    quiet(&out)?;
    quiet(&ask("alice", &w.xauthority)?)?;
    Ok(())
}

fn a_real_agent(c: &Cluster) -> Result<()> {
    let dir = c.shared().join("forward-agent").display().to_string();
    let line = "set -e; rm -rf $D; mkdir $D; cd $D\n\
        eval $(ssh-agent -a ~/true-agent) >/dev/null; trap 'kill $SSH_AGENT_PID' EXIT\n\
        ssh-keygen -q -t ed25519 -N '' -f key; ssh-add -q key; ssh-add -l >here\n\
        queue -A -h h2 -- ssh-add -l >there; cmp here there\n\
        qsh -oForwardAgent=yes h2 ssh-add -l >there; cmp here there\n\
        qsh -A h2 'cat >k.pub; ssh-add -T k.pub && rm k.pub' <key.pub\n\
        # Twice: from h3 over h2.\n\
        queue -A -h h2 -- queue -A -h h3 -- ssh-add -l >there; cmp here there\n\
        # At a terminal as well.\n\
        script -qec 'queue -A -t h2 ssh-add -l' /dev/null </dev/null | grep -qF \"$(cut -d' ' -f2 here)\"; echo fine";
    let out = bash(c, line).env("D", dir).run()?;
    ensure!(out.status == Status::Exit(0) && out.text() == "fine", "{out:?}");
    Ok(())
}

fn only_for_the_user(c: &Cluster) -> Result<()> {
    let (x, e) = (display(c, 24)?, echo(c, "user")?);
    let w = waiting(c, &x, &e)?;
    let dir = w.agent.trim_end_matches("/agent");
    let modes = format!("stat -c '%a %U' {dir} {} {}", w.agent, w.xauthority);
    let out = c.host(2).sh(&modes).ok()?;
    ensure!(out.text() == "700 alice\n600 alice\n600 alice", "{out:?}");
    let connect = |user: &str| {
        let code = format!(
            "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('{}')\ns.sendall(b'hello')\nprint(s.recv(5))",
            w.agent
        );
        c.host(2).command(["python3", "-c", &code]).user(user).run()
    };
    ensure!(connect("alice")?.text() == "b'hello'");
    let out = connect("bob")?;
    ensure!(out.error().contains("PermissionError"), "{out:?}");
    // Even where the directory is open to all, as it would be if somebody opened it.
    c.host(2)
        .sh(&format!("chmod 755 {dir}; chmod 666 {}", w.agent))
        .ok()?;
    let out = connect("bob")?;
    ensure!(!out.text().contains("hello"), "{out:?}");
    ensure!(connect("alice")?.text() == "b'hello'");
    Ok(())
}

fn many_at_once(c: &Cluster) -> Result<()> {
    let e = echo(c, "many")?;
    // More than may be open: the others wait for their turn.
    for (count, size) in [("20", "1000000"), ("100", "30000")] {
        let out = talking(c, &e, count, size).run()?;
        quiet(&out)?;
        ensure!(out.text() == format!("talking\n{count} True"), "{out:?}");
    }
    Ok(())
}

fn much_through_one(c: &Cluster) -> Result<()> {
    let e = echo(c, "much")?;
    let out = talking(c, &e, "1", "50000000").run()?;
    quiet(&out)?;
    ensure!(out.text() == "talking\n1 True", "{out:?}");
    Ok(())
}

/// Nothing of it is left on h2.
fn gone(c: &Cluster, w: &Waiting) -> Result<()> {
    let dir = w.agent.trim_end_matches("/agent").to_owned();
    wait_until(LIMIT, "the directory to go", || !c.host(2).exists(&dir))?;
    let number = w.display.trim_start_matches("localhost:").trim_end_matches(".0");
    let port = 6000 + number.parse::<u32>().context("a display")?;
    wait_until(LIMIT, "nobody to listen", || {
        let out = c.host(2).sh(&format!("ss -Hltn 'sport = :{port}'")).ok();
        out.is_ok_and(|o| o.text().is_empty())
    })
}

fn gone_with_the_session(c: &Cluster) -> Result<()> {
    let (x, e) = (display(c, 25)?, echo(c, "gone")?);
    // The command ends by itself.
    let mut w = waiting(c, &x, &e)?;
    w.running.close_stdin();
    let status = w.running.wait_exit(LIMIT)?;
    // `read` finds the end of its input.
    ensure!(status == Status::Exit(1), "{status:?}");
    gone(c, &w)?;
    // It is hung up.
    let mut w = waiting(c, &x, &e)?;
    w.running.signal(Signal::SIGHUP)?;
    w.running.wait_exit(LIMIT)?;
    gone(c, &w)?;
    // Whoever waits for it is killed, without a word.
    let w = waiting(c, &x, &e)?;
    kill(Pid::from_raw(w.running.pid()?), Signal::SIGKILL)?;
    gone(c, &w)?;
    // Programs that are connected at that moment notice.
    let w = waiting(c, &x, &e)?;
    let code = format!(
        "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('{}')\ns.sendall(b'hello')\nprint(s.recv(5), flush=True)\n\
         print(s.recv(5))",
        w.agent
    );
    let connected = c
        .host(2)
        .command(["python3", "-c", &code])
        .user("alice")
        .spawn()?;
    wait_until(LIMIT, "the connection", || {
        connected.stdout().starts_with(b"b'hello'")
    })?;
    kill(Pid::from_raw(w.running.pid()?), Signal::SIGKILL)?;
    let out = connected.wait(LIMIT)?;
    ensure!(out.text() == "b'hello'\nb''", "{out:?}");
    gone(c, &w)
}

fn a_cut_in_the_middle(c: &Cluster) -> Result<()> {
    let e = echo(c, "cut")?;
    let running = talking(c, &e, "4", "25000000").spawn()?;
    wait_until(LIMIT, "the talk", || !running.stdout().is_empty())?;
    for n in 1..=2 {
        c.cut(1, 2)?;
        let told = |what: &str| String::from_utf8_lossy(&running.stderr()).matches(what).count();
        wait_until(LIMIT, "the notice", || told("h2 does not answer") == n)?;
        c.heal()?;
        wait_until(LIMIT, "the other notice", || told("h2 answers again") == n)?;
    }
    let out = running.wait(Duration::from_secs(100))?;
    ensure!(
        out.status == Status::Exit(0) && out.text() == "talking\n4 True",
        "{out:?}"
    );
    Ok(())
}
