//! The proxy rule on a real terminal: an interactive bash on a pseudo-terminal runs `queue` against a faked
//! cluster, and the test types.

mod fake;

use fake::{Fake, LIMIT};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::{read, write};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// A bash with job control on its own terminal.
struct Shell {
    master: OwnedFd,
    /// Kept open to look at the modes.
    slave: OwnedFd,
    bash: Child,
    seen: String,
}

impl Shell {
    fn new(fake: &Fake) -> Self {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).unwrap();
        // Or every child of every test would keep the terminal alive.
        for fd in [&master, &slave] {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        let end = || Stdio::from(slave.try_clone().unwrap());
        let mut c = Command::new("bash");
        c.args(["--norc", "--noprofile", "-i"])
            .stdin(end())
            .stdout(end())
            .stderr(end());
        c.env("PS1", "@> ")
            .env("TERM", "dumb")
            .env("HISTFILE", "/dev/null");
        c.env("QUEUE_SOCKET", fake.dir.join("queued.sock"))
            .env("Q", env!("CARGO_BIN_EXE_queue"));
        c.env(
            "EIGHT",
            "for i in 1 2 3 4 5 6 7 8; do $Q -- $W </dev/tty & done; wait",
        );
        c.env("F", fake.dir.join("out"));
        // SAFETY: only calls that may be made between fork and exec.
        unsafe {
            c.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let bash = c.spawn().unwrap();
        let mut shell = Self {
            master,
            slave,
            bash,
            seen: String::new(),
        };
        shell.expect("@> ");
        shell
    }

    fn send(&self, keys: &str) {
        write(&self.master, keys.as_bytes()).unwrap();
    }

    /// Waits for a text in what the terminal shows, and forgets everything up to it; gives what came before.
    fn expect(&mut self, text: &str) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(at) = self.seen.find(text) {
                let before = self.seen[..at].to_owned();
                self.seen.drain(..at + text.len());
                return before;
            }
            let mut fd = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            poll(&mut fd, PollTimeout::from(100u8)).unwrap();
            assert!(Instant::now() < end, "waited for {text:?}, saw {:?}", self.seen);
            if fd[0].any() == Some(true) {
                let mut buf = [0; 4096];
                let n = read(&self.master, &mut buf).unwrap();
                self.seen.push_str(&String::from_utf8_lossy(&buf[..n]));
            }
        }
    }

    /// Types a line to the shell and waits until it was echoed.
    fn line(&mut self, text: &str) {
        self.send(&format!("{text}\n"));
        self.expect(text);
    }

    fn is_canonical(&self) -> bool {
        let flags = tcgetattr(&self.slave).unwrap().local_flags;
        flags.contains(LocalFlags::ICANON) && flags.contains(LocalFlags::ECHO)
    }

    fn wait_canonical(&self, want: bool) {
        let end = Instant::now() + LIMIT;
        while self.is_canonical() != want {
            assert!(Instant::now() < end, "terminal modes");
            std::thread::yield_now();
        }
    }

    /// The modes as the shell's commands see them.
    fn modes(&mut self) -> String {
        self.line("stty -g; echo modes' were'");
        let text = self.expect("modes were");
        self.expect("@> ");
        text.split_whitespace()
            .find(|w| w.matches(':').count() > 20)
            .unwrap_or_default()
            .to_owned()
    }

    fn resize(&self, rows: u16, cols: u16) {
        let w = Winsize {
            ws_row: rows,
            ws_col: cols,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: this request reads one `winsize`.
        let result = unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const w) };
        assert_eq!(result, 0);
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.bash.kill();
        let _ = self.bash.wait();
    }
}

#[test]
fn keys_go_through_and_the_modes_come_back() {
    let fake = Fake::one();
    let mut sh = Shell::new(&fake);
    let before = sh.modes();
    sh.line("$Q -- keys; echo code $?");
    sh.expect("ready");
    assert!(!sh.is_canonical());
    let pty = fake.last_launch().pty.unwrap();
    assert!(pty.stdin && pty.stdout && pty.stderr);
    let size = pty.size.unwrap();
    assert_eq!((size.rows, size.cols), (24, 80));
    assert_eq!(pty.modes.unwrap().cc.len(), 19);
    sh.send("a\x03\r");
    sh.expect("[a\\u{3}\\r]");
    sh.resize(30, 100);
    sh.expect("<100x30>");
    sh.send("q");
    sh.expect("code 0");
    sh.expect("@> ");
    assert_eq!(sh.modes(), before);
}

#[test]
fn stop_by_key_background_and_foreground() {
    let fake = Fake::one();
    let mut sh = Shell::new(&fake);
    let before = sh.modes();
    // A script is stopped with its command, or the shell would wait for it for ever.
    for command in ["$Q -- keys", "sh -c '$Q -- keys; exit'"] {
        sh.line(command);
        sh.expect("ready");
        sh.send("z");
        sh.expect("Stopped");
        sh.expect("@> ");
        assert_eq!(sh.modes(), before, "{command}");
        // In the background it goes on without the terminal.
        sh.line("bg");
        sh.expect("<continue>");
        assert_eq!(sh.modes(), before);
        sh.line("echo typed to the shell");
        sh.expect("typed to the shell");
        // To the foreground without having been stopped: nobody tells it.
        sh.line("fg");
        sh.wait_canonical(false);
        sh.send("b");
        sh.expect("[b]");
        // Stopped and straight to the foreground; the window changed meanwhile.
        sh.send("z");
        sh.expect("Stopped");
        sh.expect("@> ");
        sh.resize(40, 90);
        sh.line("fg");
        sh.expect("<90x40>");
        sh.expect("<continue>");
        sh.wait_canonical(false);
        sh.send("c");
        sh.expect("[c]");
        sh.send("q");
        sh.expect("@> ");
        assert_eq!(sh.modes(), before, "{command}");
        sh.resize(24, 80);
    }
}

#[test]
fn started_in_the_background() {
    let fake = Fake::one();
    let mut sh = Shell::new(&fake);
    let before = sh.modes();
    // Without asking for a terminal there is none, and the command's end is told.
    sh.line("$Q -- exit 0 &");
    sh.expect("@> ");
    sh.line("wait; echo all done");
    sh.expect("all done");
    assert!(fake.last_launch().pty.is_none());
    // With one, it waits for its turn.
    sh.line("$Q -p -- keys &");
    sh.expect("ready");
    assert_eq!(sh.modes(), before);
    sh.line("fg");
    sh.wait_canonical(false);
    sh.send("x");
    sh.expect("[x]");
    sh.send("q");
    sh.expect("@> ");
    assert_eq!(sh.modes(), before);
}

#[test]
fn stop_from_outside_restores_the_terminal() {
    let fake = Fake::one();
    let mut sh = Shell::new(&fake);
    let before = sh.modes();
    for signal in ["TSTP", "STOP"] {
        let number = if signal == "TSTP" { 20 } else { 19 };
        sh.line(&format!("$Q -- stopped {number}; echo code $?"));
        sh.expect("Stopped");
        sh.expect("@> ");
        assert_eq!(sh.modes(), before);
        sh.line("fg");
        sh.expect("continued");
        sh.expect("@> ");
        assert_eq!(sh.modes(), before);
    }
}

#[test]
fn whatever_ends_it_the_modes_come_back() {
    let fake = Fake::one();
    let mut sh = Shell::new(&fake);
    let before = sh.modes();
    for (command, seen) in [
        ("$Q -- die 11; echo code $?", "code 139"),
        ("$Q -- die 9; echo code $?", "code 137"),
        ("$Q -- vanish; echo code $?", "code 125"),
        ("$Q -- no-such-program; echo code $?", "code 127"),
        ("$Q -h h9 -- keys; echo code $?", "code 125"),
        ("$Q -tt h0 exit 200; echo code $?", "code 200"),
        ("$Q h0; echo code $?", "code 0"),
    ] {
        sh.line(command);
        let out = sh.expect(seen);
        assert!(!out.contains("@> "), "{out}");
        sh.expect("@> ");
        assert_eq!(sh.modes(), before, "{command}");
    }
    // The rsh form without a command has a terminal, with one it has none.
    sh.line("$Q h0 exit 3 </dev/null; $Q -t h0 exit 3; $Q h0 exit 3; echo all done");
    sh.expect("\nall done");
    let ptys: Vec<bool> = fake
        .launched
        .lock()
        .unwrap()
        .iter()
        .rev()
        .take(4)
        .map(|l| l.pty.is_some())
        .collect();
    assert_eq!(ptys, [false, true, false, true]);
}

#[test]
fn eight_at_once_leave_the_terminal_as_it_was() {
    let fake = Fake::one();
    let mut sh = Shell::new(&fake);
    let before = sh.modes();
    for words in ["echo x", "exit 3"] {
        sh.line(&format!("W='{words}' sh -c \"$EIGHT\"; echo all done"));
        sh.expect("\nall done");
        assert_eq!(sh.modes(), before);
    }
    let launched = fake.launched.lock().unwrap();
    assert!(launched.len() == 16 && launched.iter().all(|l| l.pty.is_some()));
}

#[test]
fn what_is_no_terminal_stays_a_pipe() {
    let fake = Fake::one();
    let mut sh = Shell::new(&fake);
    for (command, want) in [
        ("$Q -- true 2>/dev/null", Some([true, true, false])),
        ("$Q -- true | cat", None),
        ("$Q -p -- true | cat", Some([true, false, true])),
        ("$Q -o -- true", Some([true, false, false])),
        ("$Q -p -- true </dev/null", Some([false, true, true])),
        ("$Q -p -- true </dev/null >/dev/null", None),
        ("$Q -n -- true", None),
        ("$Q -c true", None),
        ("$Q h0 true", None),
        ("$Q -tt h0 true </dev/null >/dev/null", Some([true; 3])),
        ("$Q -t h0 true </dev/null", None),
    ] {
        sh.line(&format!("{command}; echo all done"));
        sh.expect("\nall done");
        let got = fake.last_launch().pty.map(|p| [p.stdin, p.stdout, p.stderr]);
        assert_eq!(got, want, "{command}");
    }
}

#[test]
fn waiting_is_one_line_that_goes_away() {
    let fake = Fake::one();
    let mut sh = Shell::new(&fake);
    sh.line("$Q -q -- echo \"ran\"; echo end-$?");
    let waiting = "\r\x1b[Kqueue: waiting: all hosts are\\x1b full";
    sh.expect(&format!("{waiting} (2 ahead){waiting}\r\x1b[Kran\nend-0"));
    sh.expect("@> ");
    sh.line("$Q -q --cores 1000 -- echo ran");
    sh.expect(&format!("{waiting} (2 ahead){waiting}"));
    sh.send("\x03");
    assert!(!sh.expect("@> ").contains("ran"));
    sh.line("echo end-$?");
    sh.expect("end-130");
}

#[test]
fn watched_hosts_are_drawn_in_place() {
    let fake = Fake::new(&[fake::Host::Well, fake::Host::Well]);
    let mut sh = Shell::new(&fake);
    sh.line("$Q hosts --watch 0.1");
    sh.expect("HOST ");
    sh.expect("h1 ");
    // Three lines up, and the same again.
    sh.expect("\x1b[J\r\x1b[3AHOST ");
    sh.send("\x03");
    sh.expect("@> ");
}

#[test]
fn closed_terminal_ends_the_command_there() {
    let fake = Fake::one();
    let mut sh = Shell::new(&fake);
    sh.line("$Q -p -- controls >$F");
    wait_for_text(&fake, "ready");
    drop(sh);
    wait_for_text(&fake, "hangup");
}

/// Waits until the file `$F` has a text in it.
fn wait_for_text(fake: &Fake, text: &str) {
    let end = Instant::now() + LIMIT;
    loop {
        let seen = std::fs::read_to_string(fake.dir.join("out")).unwrap_or_default();
        if seen.contains(text) {
            return;
        }
        assert!(Instant::now() < end, "waited for {text}, saw {seen:?}");
        std::thread::yield_now();
    }
}
