//! Making the command's pipes and terminal, and telling init to go. Knows the launch; must not know the connection.

use super::{Launch, LaunchError, Refused, Session};
use crate::account::Account;
use crate::plan::{Here, spec};
use crate::pump::{Source, pipe};
use crate::terminal;
use libqueue::stream::Channel;
use queue_init::ToInit;
use queue_screen::Screen;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::rc::Rc;

impl Session {
    pub(super) fn launch(
        &mut self,
        launch: &Launch,
        account: &Account,
        client: &str,
        pam_env: &[Vec<u8>],
    ) -> Result<(), Refused> {
        let internal =
            |what: &'static str| move |e: std::io::Error| (LaunchError::Internal, format!("{what}: {e}"));
        let mut theirs: [Option<OwnedFd>; 3] = [None, None, None];
        let pty = launch.pty.clone().unwrap_or_default();
        if launch.pty.is_some() {
            let t = terminal::open(&pty).map_err(internal("no terminal could be made"))?;
            let slave = |on: bool| {
                if on {
                    t.slave.try_clone().map(Some)
                } else {
                    Ok(None)
                }
            };
            theirs = [
                slave(pty.stdin).map_err(internal("terminal"))?,
                slave(pty.stdout).map_err(internal("terminal"))?,
                slave(pty.stderr).map_err(internal("terminal"))?,
            ];
            let master = Rc::new(t.master);
            if pty.stdout || pty.stderr {
                self.sources
                    .push(Source::new(Channel::Stdout, master.clone(), true));
                let size = pty.size.unwrap_or_default();
                self.size = Some(size);
                if pty.stdout {
                    self.screen = Some(Screen::new(size.rows, size.cols));
                }
            }
            self.keyboard = pty.stdin;
            if pty.stdin {
                self.inbox.sink.connect(Some(master.clone()), Some(t.eof));
            }
            self.master = Some(master);
            self.tty = t.name;
        }
        if theirs[0].is_none() {
            if launch.no_stdin {
                let null = std::fs::File::open("/dev/null").map_err(internal("/dev/null"))?;
                theirs[0] = Some(null.into());
                self.inbox.sink.connect(None, None);
            } else {
                let (ours, end) = pipe(false).map_err(internal("pipe"))?;
                theirs[0] = Some(end);
                self.inbox.sink.connect(Some(Rc::new(ours)), None);
            }
        }
        for (i, channel) in [(1, Channel::Stdout), (2, Channel::Stderr)] {
            if theirs[i].is_none() {
                let (ours, end) = pipe(true).map_err(internal("pipe"))?;
                theirs[i] = Some(end);
                self.sources.push(Source::new(channel, Rc::new(ours), false));
            }
        }
        let forward = self.begin_forwarding(launch, pam_env);
        let here = Here {
            host: &self.host,
            client,
            tty: &self.tty,
            pam_env,
            forward: &forward,
        };
        let spec = spec(launch, account, &here).map_err(|e| (LaunchError::Request, e.to_owned()))?;
        self.cwd.clone_from(&spec.cwd);
        self.program.clone_from(&spec.program);
        let raw = theirs
            .each_ref()
            .map(|f| f.as_ref().map_or(-1, |f| f.as_raw_fd()));
        self.init
            .tell(&ToInit::Exec(Box::new(spec)), Some(raw))
            .map_err(internal("the session's init process is gone"))?;
        self.tree_empty = false;
        Ok(())
    }
}
