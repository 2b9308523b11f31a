//! A real terminal for tests: tmux, inside a host, as a user.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::Status;
use crate::host::Host;
use crate::wait::wait_for;

static NEXT: AtomicU32 = AtomicU32::new(1);

/// A terminal with one program in it; ended when dropped.
pub struct Tmux<'a> {
    host: Host<'a>,
    user: String,
    socket: String,
}

impl<'a> Tmux<'a> {
    /// Starts a line of shell in a terminal of this size. When it ends, the terminal stays to be looked at.
    pub fn start(host: Host<'a>, user: &str, cols: u16, rows: u16, line: &str) -> Result<Self> {
        let socket = format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let conf = format!("/tmp/{socket}.conf");
        host.write(
            &conf,
            "set -g status off\nset -g remain-on-exit on\nset -g default-terminal screen-256color\n\
             set -g history-limit 20000\nset -g escape-time 0\n",
        )?;
        let t = Self {
            host,
            user: user.into(),
            socket,
        };
        let (c, r) = (cols.to_string(), rows.to_string());
        t.tmux_with(
            &["-f", &conf],
            &["new-session", "-d", "-s", "t", "-x", &c, "-y", &r, line],
        )
        .context("starting tmux (package tmux)")?;
        Ok(t)
    }

    fn tmux(&self, args: &[&str]) -> Result<String> {
        self.tmux_with(&[], args)
    }

    fn tmux_with(&self, options: &[&str], args: &[&str]) -> Result<String> {
        let argv = ["tmux", "-u", "-L", &self.socket]
            .into_iter()
            .chain(options.iter().copied());
        let out = self
            .host
            .command(argv.chain(args.iter().copied()))
            .user(&self.user)
            .ok()?;
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Types text, literally.
    pub fn keys(&self, text: &str) -> Result<()> {
        self.tmux(&["send-keys", "-t", "t", "-l", "--", text]).map(drop)
    }

    /// Presses one key by tmux's name for it: `Enter`, `C-z`, `Escape`, `Up`.
    pub fn press(&self, key: &str) -> Result<()> {
        self.tmux(&["send-keys", "-t", "t", key]).map(drop)
    }

    /// Types a line.
    pub fn line(&self, text: &str) -> Result<()> {
        self.keys(text)?;
        self.press("Enter")
    }

    /// What the screen shows.
    pub fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p", "-t", "t"])
    }

    /// What the screen shows and what scrolled out of it, with lines that were wrapped joined again.
    pub fn history(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p", "-J", "-S", "-", "-t", "t"])
    }

    /// Column and row of the cursor, from 0.
    pub fn cursor(&self) -> Result<(u16, u16)> {
        let text = self.tmux(&["display-message", "-p", "-t", "t", "#{cursor_x} #{cursor_y}"])?;
        let (x, y) = text.trim().split_once(' ').context("no cursor")?;
        Ok((x.parse()?, y.parse()?))
    }

    /// Changes the size of the terminal.
    pub fn resize(&self, cols: u16, rows: u16) -> Result<()> {
        self.tmux(&[
            "resize-window",
            "-t",
            "t",
            "-x",
            &cols.to_string(),
            "-y",
            &rows.to_string(),
        ])
        .map(drop)
    }

    /// Waits until the screen satisfies the condition, and returns it.
    pub fn wait_for(&self, limit: Duration, condition: impl Fn(&str) -> bool) -> Result<String> {
        let mut last = String::new();
        let found = wait_for(limit, "the screen", || {
            last = self.screen().ok()?;
            condition(&last).then(|| last.clone())
        });
        found.with_context(|| format!("the screen shows:\n{last}"))
    }

    /// Waits until the screen shows a text.
    pub fn wait_text(&self, text: &str) -> Result<String> {
        self.wait_for(crate::LIMIT, |s| s.contains(text))
            .with_context(|| format!("waited for {text:?}"))
    }

    /// How the program ended, if it has.
    pub fn status(&self) -> Result<Option<Status>> {
        let format = "#{pane_dead}/#{pane_dead_status}/#{pane_dead_signal}/#{pid}";
        let text = self.tmux(&["display-message", "-p", "-t", "t", format])?;
        let f: Vec<&str> = text.trim().split('/').collect();
        Ok(match f[..] {
            // On a busy machine tmux can miss the signal that its child has ended; another one wakes it up.
            ["1", "", "", server] => {
                self.host.command(["kill", "-CHLD", server]).ok()?;
                None
            }
            ["1", code, "", _] => Some(Status::Exit(code.parse()?)),
            ["1", _, signal, _] => Some(Status::Signal(signal.parse()?)),
            _ => None,
        })
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        // The host may be dead, and the server with it.
        let _ = self.tmux(&["kill-server"]);
    }
}
