//! `queue` on a real terminal: tmux shows it, a bash with job control starts it on h1, the command runs on h2.
//! Where a program draws, the screen must be the one that the same program draws when it runs here.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use queue_harness::{Cluster, LIMIT, Tmux, wait_for, wait_until};

use crate::world::{World, bash, pids, runs};

pub(crate) fn trials(w: &Arc<World>) -> Vec<Trial> {
    vec![
        w.shared("terminal::vim_edits", vim_edits),
        w.shared("terminal::less_pages", less_pages),
        w.shared("terminal::top_shows_and_leaves", top_shows_and_leaves),
        w.shared("terminal::python_prompt", python_prompt),
        w.shared("terminal::job_control_inside", job_control_inside),
        w.shared("terminal::login_shell", login_shell),
        w.shared("terminal::passwords_are_not_shown", passwords_are_not_shown),
        w.shared("terminal::modes_are_the_local_ones", modes_are_the_local_ones),
        w.shared("terminal::size_follows", size_follows),
        w.shared(
            "terminal::editor_stops_and_comes_back",
            editor_stops_and_comes_back,
        ),
        w.shared("terminal::stopped_from_outside", stopped_from_outside),
        w.shared("terminal::modes_come_back", modes_come_back),
        w.shared(
            "terminal::closed_terminal_ends_the_tree",
            closed_terminal_ends_the_tree,
        ),
        w.shared("terminal::killed_queue_ends_the_tree", killed_queue_ends_the_tree),
        w.shared("terminal::eight_recipes_at_once", eight_recipes_at_once),
        w.shared(
            "terminal::how_much_of_it_is_a_terminal",
            how_much_of_it_is_a_terminal,
        ),
        w.shared(
            "terminal::nohup_outlives_the_terminal",
            nohup_outlives_the_terminal,
        ),
        w.shared("terminal::full_disk_under_tee", full_disk_under_tee),
    ]
}

/// Written before a command to run it on h2.
const THERE: &str = "queue -h h2 -- ";

/// An interactive bash of alice's on h1, in a directory that all hosts have.
struct Shell<'a> {
    t: Tmux<'a>,
    dir: PathBuf,
    /// Number of the command that is typed next; the prompt shows it, so that no old prompt is taken for a new one.
    number: Cell<u32>,
}

impl<'a> Shell<'a> {
    fn start(c: &'a Cluster, name: &str) -> Result<Self> {
        let dir = c.shared().join(format!("terminal-{name}"));
        let at = dir.display();
        bash(c, &format!("rm -rf {at}; mkdir {at}")).ok()?;
        let line = format!("cd {at} && PS1='@\\#> ' HISTFILE=/dev/null exec bash --norc --noprofile -i");
        let sh = Self {
            t: Tmux::start(c.host(1), "alice", 80, 24, &line)?,
            dir,
            number: Cell::new(1),
        };
        sh.prompt()?;
        Ok(sh)
    }

    /// Types a line to bash.
    fn line(&self, text: &str) -> Result<()> {
        self.number.set(self.number.get() + 1);
        self.t.line(text)
    }

    /// Waits until bash asks for the next command; returns the screen.
    fn prompt(&self) -> Result<String> {
        let want = format!("@{}>", self.number.get());
        let asks = |s: &str| s.trim_end().lines().last().map(str::trim_end) == Some(&want);
        self.t
            .wait_for(LIMIT, asks)
            .with_context(|| format!("waited for the prompt {want}"))
    }

    /// Types a line to bash and waits until it has been carried out.
    fn run(&self, text: &str) -> Result<String> {
        self.line(text)?;
        self.prompt()
    }

    /// Runs a line, and gives what it wrote to the file named `out`.
    fn out_of(&self, text: &str) -> Result<String> {
        self.run(text)?;
        self.file("out")
    }

    fn file(&self, name: &str) -> Result<String> {
        fs::read_to_string(self.dir.join(name)).with_context(|| name.to_owned())
    }

    /// A file of alice's.
    fn write(&self, name: &str, text: &str) -> Result<()> {
        let at = self.dir.join(name);
        fs::write(&at, text)?;
        let owner = fs::metadata(&self.dir)?;
        use std::os::unix::fs::MetadataExt;
        Ok(std::os::unix::fs::chown(
            at,
            Some(owner.uid()),
            Some(owner.gid()),
        )?)
    }

    /// All modes of the terminal, as commands get them from bash.
    fn modes(&self) -> Result<String> {
        self.out_of("stty -g >out")
    }

    /// The modes that the terminal has at this moment.
    fn modes_now(&self, c: &Cluster) -> Result<String> {
        let tty = self.file("tty")?;
        Ok(c.host(1).command(["stty", "-g", "-F", tty.trim()]).ok()?.text())
    }

    /// How the last command ended.
    fn code(&self) -> Result<String> {
        Ok(self.out_of("echo $? >out")?.trim().to_owned())
    }

    /// The screen when it shows a text and does not change any more.
    fn settled(&self, text: &str) -> Result<String> {
        let last = Cell::new(String::new());
        self.t
            .wait_for(LIMIT, |s| s.contains(text) && last.replace(s.to_owned()) == s)
            .with_context(|| format!("waited for {text:?}"))
    }

    /// Waits until the screen is this one.
    fn same(&self, screen: &str) -> Result<()> {
        let seen = self.t.wait_for(LIMIT, |s| s == screen);
        seen.map(drop)
            .with_context(|| format!("the screen should show:\n{screen}"))
    }
}

/// The one process on host `k` with this in its command line.
fn one(c: &Cluster, k: usize, text: &str) -> Result<i32> {
    wait_for(
        LIMIT,
        &format!("`{text}` on h{k}"),
        || match pids(c, k, text)[..] {
            [pid] => Some(pid),
            _ => None,
        },
    )
}

fn signal(pid: i32, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(pid), signal).with_context(|| format!("{signal} to {pid}"))
}

fn vim_edits(c: &Cluster) -> Result<()> {
    let sh = Shell::start(c, "vim")?;
    let mut screens = Vec::new();
    for prefix in ["", THERE] {
        sh.write("text", "first line\nsecond line\nthird line\n")?;
        sh.run("clear")?;
        sh.line(&format!("{prefix}vim -N -u NONE -i NONE -c 'set ruler' text"))?;
        screens.push(sh.settled("third line")?);
        sh.t.keys("jddoadded: é ✓\ttab")?;
        sh.t.wait_text("INSERT")?;
        sh.t.press("Escape")?;
        sh.t.keys("kyyGp")?;
        screens.push(sh.settled("4,1")?);
        sh.t.line(":wq")?;
        sh.prompt()?;
        assert_eq!(
            sh.file("text")?,
            "first line\nthird line\nadded: é ✓\ttab\nthird line\n"
        );
    }
    assert_eq!(screens[..2], screens[2..]);
    assert_eq!(sh.code()?, "0");
    Ok(())
}

fn less_pages(c: &Cluster) -> Result<()> {
    let sh = Shell::start(c, "less")?;
    sh.run("for i in {1..1000}; do echo \"$i: number $i\"; done >text")?;
    let steps = [
        (" ", "46: "),
        ("G", "1000: "),
        ("g", "1: "),
        ("/number 777\r", "777: "),
        ("b", "770: "),
        ("h", "HELP"),
    ];
    let mut screens = Vec::new();
    for prefix in ["", THERE] {
        sh.run("clear")?;
        sh.line(&format!("{prefix}less text"))?;
        let mut seen = vec![sh.settled("23: number 23")?];
        for (i, (keys, text)) in steps.iter().enumerate() {
            sh.t.keys(keys)?;
            if screens.is_empty() {
                seen.push(sh.settled(text)?);
            } else {
                let want: &Vec<String> = &screens;
                sh.same(&want[i + 1]).with_context(|| format!("after {keys:?}"))?;
            }
        }
        if screens.is_empty() {
            screens = seen;
        } else {
            assert_eq!(screens[0], seen[0]);
        }
        sh.t.keys("qq")?;
        sh.prompt()?;
    }
    Ok(())
}

fn top_shows_and_leaves(c: &Cluster) -> Result<()> {
    let sh = Shell::start(c, "top")?;
    let modes = sh.modes()?;
    sh.run("clear")?;
    sh.line("queue -h h2 -- top -u alice")?;
    // Itself is what it shows, on that host.
    let screen = sh.t.wait_for(LIMIT, |s| {
        let own = |l: &str| l.contains("alice") && l.trim_end().ends_with(" top");
        s.contains("load average") && s.contains("PID USER") && s.lines().any(own)
    })?;
    assert!(!screen.contains("tmux"), "{screen}");
    // A key that it answers at once.
    sh.t.keys("h")?;
    sh.t.wait_text("Help for Interactive Commands")?;
    sh.t.press("Escape")?;
    sh.t.wait_text("PID USER")?;
    sh.t.keys("q")?;
    sh.prompt()?;
    assert_eq!(sh.code()?, "0");
    assert_eq!(sh.modes()?, modes);
    Ok(())
}

fn python_prompt(c: &Cluster) -> Result<()> {
    let sh = Shell::start(c, "python")?;
    sh.line("queue -h h2 -- /usr/bin/python3 -q")?;
    sh.t.wait_text(">>>")?;
    sh.t.line("import socket; 'at ' + socket.gethostname() + ' ' + str(6 * 7)")?;
    sh.t.wait_text("at h2 42")?;
    // Line editing: the last line again, with its end rubbed out.
    sh.t.press("Up")?;
    sh.t.press("BSpace")?;
    sh.t.press("BSpace")?;
    sh.t.line("8)")?;
    sh.t.wait_text("at h2 48")?;
    // The interrupt key is the command's, whether it waits or works.
    sh.t.keys("never finished")?;
    sh.t.wait_text("never finished")?;
    sh.t.press("C-c")?;
    sh.t.wait_text("KeyboardInterrupt")?;
    sh.t.line("print('be' 'gun'); [None for _ in iter(int, 1)]")?;
    sh.t.wait_text("begun")?;
    sh.t.press("C-c")?;
    sh.t.wait_for(LIMIT, |s| s.matches("KeyboardInterrupt").count() == 2)?;
    sh.t.line("'still ' + 'there'")?;
    sh.t.wait_text("still there")?;
    sh.t.press("C-d")?;
    sh.prompt()?;
    assert_eq!(sh.code()?, "0");
    Ok(())
}

fn job_control_inside(c: &Cluster) -> Result<()> {
    let sh = Shell::start(c, "inside")?;
    let modes = sh.modes()?;
    sh.run("clear")?;
    sh.line("PS1='in\\#> ' queue -h h2 -- bash --norc --noprofile -i")?;
    let asks = |k: u32| {
        let want = format!("in{k}>");
        let ends = |s: &str| s.trim_end().lines().last().map(str::trim_end) == Some(&want);
        sh.t.wait_for(LIMIT, ends)
            .with_context(|| format!("waited for {want}"))
    };
    let screen = asks(1)?;
    assert!(!screen.contains("job control"), "{screen}");
    sh.t.line("sleep 73001")?;
    one(c, 2, "sleep 73001")?;
    sh.t.press("C-z")?;
    assert!(asks(2)?.contains("Stopped"));
    sh.t.line("bg")?;
    asks(3)?;
    sh.t.line("jobs")?;
    assert!(asks(4)?.contains("Running"));
    sh.t.line("fg")?;
    sh.t.wait_for(LIMIT, |s| s.trim_end().ends_with("fg\nsleep 73001"))?;
    sh.t.press("C-c")?;
    asks(5)?;
    wait_until(LIMIT, "the end of sleep", || !runs(c, 2, "sleep 73001"))?;
    // In the background it may not read.
    sh.t.line("cat &")?;
    asks(6)?;
    sh.t.line("wait %1")?;
    asks(7)?;
    sh.t.line("jobs; kill -KILL %1; wait; clear")?;
    assert!(sh.t.history()?.contains("Stopped                 cat"));
    asks(8)?;
    sh.t.line("exit 7")?;
    sh.prompt()?;
    assert_eq!(sh.code()?, "7");
    assert_eq!(sh.modes()?, modes);
    Ok(())
}

fn login_shell(c: &Cluster) -> Result<()> {
    let sh = Shell::start(c, "login")?;
    sh.line("queue h2")?;
    // What is typed before it is there is not lost, but it would be shown twice.
    let there = wait_for(LIMIT, "the login shell", || {
        let all = pids(c, 2, "-bash");
        all.into_iter().find(|p| {
            let text = fs::read(format!("/proc/{p}/cmdline")).unwrap_or_default();
            text.starts_with(b"-bash\0")
        })
    });
    there?;
    sh.t.line("shopt -q login_shell; echo \"login=$? at=$(hostname) $TERM $LANG $PWD $(tty)\"")?;
    sh.t.wait_text("login=0 at=h2 screen-256color C.UTF-8 /home/alice /dev/pts/")?;
    sh.t.line("exit 3")?;
    sh.prompt()?;
    assert_eq!(sh.code()?, "3");
    Ok(())
}

fn passwords_are_not_shown(c: &Cluster) -> Result<()> {
    let sh = Shell::start(c, "password")?;
    let modes = sh.modes()?;
    let asking = [
        "sh -c 'stty -echo; printf Pass; printf word:; read p; stty echo; echo; echo \"<$p\" | tr a-z A-Z'",
        "bash -c 'stty -echo; printf Pass; read -rsp word: p; stty echo; echo; echo \"<${p^^}\"'",
        // By way of /dev/tty, with its input elsewhere.
        "/usr/bin/python3 -c 'import getpass; print(\"<\" + getpass.getpass(\"Pass\" + \"word:\").upper())'",
    ];
    for command in asking {
        sh.run("clear")?;
        sh.line(&format!("{THERE}{command}"))?;
        sh.t.wait_text("Password:")?;
        sh.t.line("open-sesame")?;
        sh.t.wait_text("<OPEN-SESAME")?;
        sh.prompt()?;
        let all = sh.t.history()?;
        assert!(!all.contains("open-sesame"), "{all}");
        assert_eq!(sh.modes()?, modes);
    }
    Ok(())
}

fn modes_are_the_local_ones(c: &Cluster) -> Result<()> {
    let sh = Shell::start(c, "modes")?;
    // As they are, and with some that nobody has by default.
    for change in [
        "true",
        "stty intr ^X erase ^H quit undef -ixon iutf8 echok -echoctl tostop brkint",
        "stty sane eof ^B susp ^Y -imaxbel onlcr inlcr",
    ] {
        sh.run(change)?;
        let here = sh.out_of("stty -a >out")?;
        let there = sh.out_of("queue -h h2 -- sh -c 'stty -a >out'")?;
        // The speed of a line that is none.
        assert_eq!(there, here, "after {change}");
        assert_eq!(sh.out_of("stty -a >out")?, here, "left behind after {change}");
    }
    Ok(())
}

fn size_follows(c: &Cluster) -> Result<()> {
    let sh = Shell::start(c, "size")?;
    sh.run("queue -h h2 -- stty size")?;
    sh.t.wait_text("24 80")?;
    let script = "import os,signal\n\
        show = lambda *_: print('<%dx%d>' % os.get_terminal_size(), flush=True)\n\
        signal.signal(signal.SIGWINCH, show)\n\
        show()\n\
        while True: signal.pause()\n";
    sh.write("show.py", script)?;
    sh.line("queue -h h2 -- /usr/bin/python3 show.py")?;
    sh.t.wait_text("<80x24>")?;
    for (cols, rows) in [(100, 30), (40, 10), (132, 43)] {
        sh.t.resize(cols, rows)?;
        sh.t.wait_text(&format!("<{cols}x{rows}>"))?;
    }
    sh.t.press("C-c")?;
    sh.prompt()?;
    // While it is stopped nobody tells it; then it is told.
    sh.run("clear")?;
    sh.line("queue -h h2 -- /usr/bin/python3 show.py")?;
    sh.t.wait_text("<132x43>")?;
    sh.t.press("C-z")?;
    sh.prompt()?;
    sh.t.resize(90, 20)?;
    sh.line("fg")?;
    sh.t.wait_text("<90x20>")?;
    sh.t.press("C-c")?;
    sh.prompt()?;
    Ok(())
}

fn editor_stops_and_comes_back(c: &Cluster) -> Result<()> {
    let sh = Shell::start(c, "editor")?;
    let modes = sh.modes()?;
    sh.run("clear")?;
    sh.line("queue -h h2 -- vim -N -u NONE -i NONE -c 'set ruler' text")?;
    sh.t.wait_text("0,0-1")?;
    for round in 0..3 {
        sh.t.keys("oan edited line")?;
        sh.t.wait_text("INSERT")?;
        sh.t.press("Escape")?;
        let screen = sh.settled(&format!("{},14", round + 2))?;
        sh.t.press("C-z")?;
        let stopped = sh.prompt()?;
        assert!(stopped.contains("Stopped"), "{stopped}");
        assert_eq!(sh.modes()?, modes);
        sh.run("echo something else")?;
        sh.line("fg")?;
        // Some of what vim says below its text it says only once.
        let body = |s: &str| s.lines().take(23).map(str::to_owned).collect::<Vec<_>>();
        sh.t.wait_for(LIMIT, |s| body(s) == body(&screen))
            .with_context(|| format!("the screen should show:\n{screen}"))?;
    }
    sh.t.line(":wq")?;
    sh.prompt()?;
    assert_eq!(sh.file("text")?, format!("\n{}", "an edited line\n".repeat(3)));
    assert_eq!(sh.modes()?, modes);
    Ok(())
}

fn stopped_from_outside(c: &Cluster) -> Result<()> {
    let sh = Shell::start(c, "outside")?;
    let modes = sh.modes()?;
    sh.run("clear")?;
    sh.line("queue -h h2 -- cat - /dev/null/73100 2>/dev/null")?;
    let here = one(c, 1, "queue -h h2 -- cat - /dev/null/73100")?;
    let there = wait_for(LIMIT, "cat", || {
        pids(c, 2, "cat - /dev/null/73100").first().copied()
    })?;
    let answers = |text: &str| -> Result<()> {
        sh.t.line(text)?;
        // Once by the echo, once by cat.
        let twice = format!("{text}\n{text}\n");
        sh.t.wait_for(LIMIT, |s| s.contains(&twice)).map(drop)
    };
    answers("at first")?;
    let stops = [
        ("the key", None),
        ("TSTP of queue", Some((here, Signal::SIGTSTP))),
        ("STOP of queue", Some((here, Signal::SIGSTOP))),
        ("STOP of the command", Some((there, Signal::SIGSTOP))),
        ("TSTP of the command", Some((there, Signal::SIGTSTP))),
    ];
    for (how, target) in stops {
        let stopped = || -> Result<()> {
            match target {
                None => sh.t.press("C-z")?,
                Some((pid, s)) => signal(pid, s)?,
            }
            let screen = sh.prompt()?;
            ensure!(screen.contains("Stopped"), "{screen}");
            ensure!(sh.modes()? == modes, "other modes");
            Ok(())
        };
        stopped().context(how)?;
        sh.line("fg")?;
        answers(&format!("after {how}")).context(how)?;
        stopped().context(how)?;
        // In the background it runs, and what is typed is the shell's.
        sh.run("bg")?;
        let screen = sh.run("clear; jobs")?;
        ensure!(screen.contains("Running"), "{how}: {screen}");
        sh.line("fg")?;
        answers(&format!("from the background, {how}")).context(how)?;
        sh.t.press("C-z")?;
        sh.prompt()?;
        // Continued by another than the shell, it is in the background.
        signal(here, Signal::SIGCONT)?;
        wait_until(LIMIT, "cat to go on", || state(there) != Some('T'))?;
        sh.run("clear")?;
        sh.line("fg")?;
        answers(&format!("continued, {how}")).context(how)?;
    }
    sh.t.press("C-d")?;
    sh.prompt()?;
    assert_eq!(sh.modes()?, modes);
    Ok(())
}

/// The state of a process: `R`, `S`, `T`...
fn state(pid: i32) -> Option<char> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.chars().next()
}

/// The process of this name that a process comes from.
fn ancestor(mut pid: i32, name: &str) -> Result<i32> {
    loop {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (head, tail) = text.rsplit_once(") ").context("stat")?;
        if head.rsplit_once('(').is_some_and(|(_, n)| n == name) {
            return Ok(pid);
        }
        pid = tail.split(' ').nth(1).context("stat")?.parse()?;
        ensure!(pid > 1, "no {name} above it");
    }
}

fn modes_come_back(c: &Cluster) -> Result<()> {
    let sh = Shell::start(c, "restored")?;
    // A script does not put modes back as an interactive bash would: the script's parent looks at them.
    sh.write(
        "look",
        "queue -h h2 -- sh -c 'stty raw -echo; echo ra''w; exec sleep 73200'; echo $? >code; stty -g >after\n",
    )?;
    sh.run("tty >tty")?;
    let modes = sh.modes()?;
    type End = fn(i32, i32) -> Result<()>;
    let ends: [(&str, &str, End); 6] = [
        ("TERM to queue", "143", |here, _| signal(here, Signal::SIGTERM)),
        ("HUP to queue", "129", |here, _| signal(here, Signal::SIGHUP)),
        ("QUIT to queue", "131", |here, _| signal(here, Signal::SIGQUIT)),
        ("KILL to the command", "137", |_, there| {
            signal(there, Signal::SIGKILL)
        }),
        ("SEGV to the command", "139", |_, there| {
            signal(there, Signal::SIGSEGV)
        }),
        ("a lost connection", "125", |_, there| {
            signal(ancestor(there, "queue-session")?, Signal::SIGKILL)
        }),
    ];
    for (how, code, end) in ends {
        let all = || -> Result<()> {
            sh.run("clear; rm -f after code; ulimit -c 0")?;
            sh.line("sh look")?;
            sh.t.wait_text("raw")?;
            let here = one(c, 1, "queue -h h2 -- sh -c").or_else(|_| -> Result<i32> {
                Ok(*pids(c, 1, "exec sleep 73200").first().context("no queue")?)
            })?;
            let there = wait_for(LIMIT, "sleep", || {
                let all = pids(c, 2, "sleep 73200");
                all.into_iter()
                    .find(|p| fs::read(format!("/proc/{p}/cmdline")).is_ok_and(|t| t.starts_with(b"sleep")))
            })?;
            ensure!(
                sh.modes_now(c)? != modes.trim(),
                "the terminal is not the command's"
            );
            end(here, there)?;
            sh.prompt()?;
            ensure!(sh.file("after")? == modes, "other modes");
            ensure!(sh.file("code")?.trim() == code, "ended with {}", sh.file("code")?);
            wait_until(LIMIT, "the end of sleep", || !runs(c, 2, "sleep 73200"))
        };
        all().context(how)?;
    }
    // And the ordinary end of one that leaves its own terminal in disorder.
    sh.run("sh -c 'queue -h h2 -- stty raw -echo; stty -g >after'")?;
    assert_eq!(sh.file("after")?, modes);
    Ok(())
}

fn closed_terminal_ends_the_tree(c: &Cluster) -> Result<()> {
    let sh = Shell::start(c, "closed")?;
    sh.line("queue -h h2 -- sh -c 'trap \"\" HUP TERM; sleep 73301 & sleep 73302'")?;
    wait_until(LIMIT, "the command", || {
        runs(c, 2, "sleep 73301") && runs(c, 2, "sleep 73302")
    })?;
    // Ends tmux, and the terminal with it.
    drop(sh);
    wait_until(Duration::from_secs(6), "the end of the tree", || {
        !runs(c, 2, "sleep 7330")
    })?;
    wait_until(LIMIT, "the end of queue", || !runs(c, 1, "sleep 7330"))
}

fn killed_queue_ends_the_tree(c: &Cluster) -> Result<()> {
    let sh = Shell::start(c, "killed")?;
    let modes = sh.modes()?;
    sh.line("queue -h h2 -- sh -c 'trap \"\" HUP TERM; sleep 73401 & sleep 73402'")?;
    wait_until(LIMIT, "the command", || {
        runs(c, 2, "sleep 73401") && runs(c, 2, "sleep 73402")
    })?;
    signal(one(c, 1, "sleep 73401")?, Signal::SIGKILL)?;
    wait_until(Duration::from_secs(6), "the end of the tree", || {
        !runs(c, 2, "sleep 7340")
    })?;
    sh.prompt()?;
    assert_eq!(sh.code()?, "137");
    assert_eq!(sh.modes()?, modes);
    Ok(())
}

fn eight_recipes_at_once(c: &Cluster) -> Result<()> {
    let sh = Shell::start(c, "recipes")?;
    let modes = sh.modes()?;
    let names = "all: a b c d e f g h\na b c d e f g h:\n";
    sh.write(
        "by-prefix",
        &format!("{names}\t@$Q for i in 1 2 3; do echo recipe $@ $$i; done\n"),
    )?;
    sh.write(
        "by-word",
        &format!("{names}\t@$Q sh -c 'for i in 1 2 3; do echo recipe $@ $$i; done'\n"),
    )?;
    let ways = [
        "make -f by-prefix -j8 SHELL=queue-sh",
        "make -f by-word -j8 Q='queue -h h2 --'",
        "make -f by-word -j8 Q='queue -p -h h2 --'",
        "make -f by-word -j8 Q='queue --'",
    ];
    let mut want: Vec<String> = Vec::new();
    for name in 'a'..='h' {
        want.extend((1..=3).map(|i| format!("recipe {name} {i}")));
    }
    for way in ways.iter().cycle().take(3 * ways.len()) {
        sh.run(&format!("clear; {way}; echo code=$?; stty -g >after"))?;
        let all = sh.t.history()?;
        let (_, shown) = all.rsplit_once("clear; make").context("no command")?;
        // Where a line begins is not looked at: the terminal may become another's between two of them.
        ensure!(
            want.iter().all(|l| shown.matches(l).count() == 1),
            "{way}:{shown}"
        );
        ensure!(shown.contains("code=0"), "{way}:{shown}");
        ensure!(sh.file("after")? == modes, "{way}: other modes");
    }
    // One has the terminal, another writes plain lines on it meanwhile.
    sh.write(
        "two",
        "(until test -e go; do sleep 0.1; done; queue -h h2 -- printf '%s\\n' one two three) & \
        queue -h h2 -- sh -c 'echo up; touch go; read x; echo got $x'; wait",
    )?;
    sh.run("clear")?;
    sh.line("sh two")?;
    sh.t.wait_text("up\none\ntwo\nthree\n")?;
    sh.t.line("it")?;
    sh.t.wait_text("got it")?;
    sh.prompt()?;
    assert_eq!(sh.modes()?, modes);
    // The keys are the shell's again.
    let screen = sh.run("echo so''und")?;
    assert!(screen.contains("\nsound\n"), "{screen}");
    Ok(())
}

fn how_much_of_it_is_a_terminal(c: &Cluster) -> Result<()> {
    let sh = Shell::start(c, "streams")?;
    sh.write(
        "look",
        "for i in 0 1 2; do test -t $i && printf y || printf n; done >>out\n",
    )?;
    for (line, want) in [
        ("queue -h h2 -- sh look", "yyy"),
        ("queue -p -h h2 -- sh look", "yyy"),
        ("queue -o -h h2 -- sh look", "ynn"),
        ("queue -n -h h2 -- sh look", "nnn"),
        ("queue -h h2 -- sh look </dev/null", "nnn"),
        ("queue -h h2 -- sh look | cat", "nnn"),
        ("queue -h h2 -- sh look 2>err", "yyn"),
        ("queue -p -h h2 -- sh look | cat", "yny"),
        ("queue -p -h h2 -- sh look </dev/null", "nyy"),
        ("queue -c 'sh look'", "nnn"),
        ("queue -t h2 sh $PWD/look", "yyy"),
        ("qsh h2 sh $PWD/look", "nnn"),
    ] {
        // In the rsh form it is elsewhere, and says it on the terminal or into the pipe instead.
        let rsh = line.contains("h2 sh $PWD");
        if rsh {
            sh.write(
                "look",
                "for i in 0 1 2; do test -t $i && printf y || printf n; done >>${0%look}out\n",
            )?;
        }
        let out = sh.out_of(&format!("clear; rm -f out; {line}"))?;
        // What tests its own output does so before that is the file.
        let own: String = want.chars().collect();
        let out: Vec<char> = out.chars().collect();
        ensure!(out.len() == 3, "{line}: {out:?}");
        ensure!(
            out[0] == own.as_bytes()[0].into() && out[2] == own.as_bytes()[2].into(),
            "{line}: {out:?}, not {want}"
        );
    }
    // Standard error stays apart, byte for byte, while the rest is a terminal.
    sh.run("clear; queue -h h2 -- sh -c 'echo to-out; printf \"to\\nerr\\n\" >&2; test -t 1 && echo tty-out' 2>err")?;
    let screen = sh.t.wait_text("tty-out")?;
    assert!(screen.contains("to-out\ntty-out\n"), "{screen}");
    assert_eq!(sh.file("err")?, "to\nerr\n");
    // Input only: the output is a pipe's, no mode of a terminal touches it.
    sh.run("clear; queue -o -h h2 -- sh -c 'test -t 1 || echo pipe-out; tty'")?;
    let screen = sh.t.wait_text("/dev/pts/")?;
    assert!(screen.contains("pipe-out\n/dev/pts/"), "{screen}");
    Ok(())
}

fn nohup_outlives_the_terminal(c: &Cluster) -> Result<()> {
    let sh = Shell::start(c, "nohup")?;
    sh.write(
        "work",
        "echo up; until test -e stop; do sleep 0.1; done; echo finished 73500\n",
    )?;
    sh.line("nohup queue -h h2 -- sh work 73500 &")?;
    let shows =
        |sh: &PathBuf, text: &str| fs::read_to_string(sh.join("nohup.out")).is_ok_and(|t| t.contains(text));
    let dir = sh.dir.clone();
    wait_until(LIMIT, "the command", || shows(&dir, "up\n"))?;
    sh.write("waiting", "")?;
    drop(sh);
    wait_until(LIMIT, "the end of bash", || !runs(c, 1, "terminal-nohup && "))?;
    ensure!(runs(c, 1, "queue -h h2 -- sh work 73500"), "queue is gone");
    ensure!(runs(c, 2, "sh work 73500"), "the command is gone");
    fs::rename(dir.join("waiting"), dir.join("stop"))?;
    wait_until(LIMIT, "its last line", || shows(&dir, "finished 73500\n"))?;
    wait_until(LIMIT, "its end", || !runs(c, 1, "sh work 73500"))
}

fn full_disk_under_tee(c: &Cluster) -> Result<()> {
    let small = "/srv/small-disk";
    let mount = format!("mkdir -p {small} && mount -t tmpfs -o size=64k,mode=1777 none {small}");
    c.host(1).sh(&mount).ok()?;
    let tests = || -> Result<()> {
        let line = format!("queue -h h2 --tee {small}/piped -- sh -c 'seq 100000; exit 5'; echo code=$?");
        let out = bash(c, &line).ok()?;
        let want: String = (1..=100_000).map(|i| format!("{i}\n")).collect();
        ensure!(out.stdout == format!("{want}code=5\n").as_bytes(), "{out:?}");
        ensure!(
            out.error().starts_with("queue: ") && out.error().lines().count() == 1,
            "{out:?}"
        );
        ensure!(out.error().contains(small), "{out:?}");
        // What there was room for is there.
        let kept = c.host(1).read(format!("{small}/piped"))?;
        ensure!(
            !kept.is_empty() && want.as_bytes().starts_with(&kept),
            "{} bytes",
            kept.len()
        );
        // On the terminal too, and told at the beginning of a line.
        let sh = Shell::start(c, "tee")?;
        let modes = sh.modes()?;
        sh.run(&format!(
            "clear; queue -h h2 --tee {small}/typed -- sh -c 'seq 20000; exit 6'; echo code=$?"
        ))?;
        let all = sh.t.history()?;
        ensure!(all.contains("\n20000\n") && all.contains("code=6"), "{all}");
        let told: Vec<&str> = all
            .lines()
            .filter(|l| l.starts_with("queue: ") && l.contains(small))
            .collect();
        ensure!(told.len() == 1, "{told:?}");
        ensure!(sh.modes()? == modes, "other modes");
        Ok(())
    };
    let result = tests();
    c.host(1).sh(&format!("umount {small}")).ok()?;
    result
}
