//! From a request to what init is told: which program, which environment. Pure. Runs as the user.

use crate::account::Account;
use libqueue::wire::{Form, Launch};
use queue_init::Spec;

/// Where the command finds what it needs to know of its session.
pub(crate) struct Here<'a> {
    /// Name of this host.
    pub(crate) host: &'a str,
    /// Address and port of the client, and our port: for `SSH_CLIENT` in the rsh form.
    pub(crate) client: &'a str,
    /// Name of the terminal, if one was made.
    pub(crate) tty: &'a str,
    /// Environment that PAM gave.
    pub(crate) pam_env: &'a [Vec<u8>],
    /// Environment that leads to what is forwarded.
    pub(crate) forward: &'a [Vec<u8>],
}

/// Search path of a login, where PAM and the shell's own files say nothing better.
const PATH: &[u8] = b"/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games";
/// Umask of a login, where PAM and the shell's own files say nothing else.
const LOGIN_UMASK: u32 = 0o022;
const PATH_ROOT: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An environment: later settings replace earlier ones, order is kept.
struct Env(Vec<Vec<u8>>);

impl Env {
    fn name(entry: &[u8]) -> &[u8] {
        entry.split(|c| *c == b'=').next().unwrap_or_default()
    }

    fn put(&mut self, entry: Vec<u8>) {
        match self.0.iter_mut().find(|e| Self::name(e) == Self::name(&entry)) {
            Some(e) => *e = entry,
            None => self.0.push(entry),
        }
    }

    fn set(&mut self, name: &str, value: &[u8]) {
        self.put([name.as_bytes(), b"=", value].concat());
    }
}

/// What is wrong with a request.
pub(crate) type Wrong = &'static str;

/// Works out what to execute.
///
/// # Errors
/// The request makes no sense (and `queue` would not have sent it).
pub(crate) fn spec(launch: &Launch, account: &Account, here: &Here<'_>) -> Result<Spec, Wrong> {
    let form =
        Form::try_from(launch.form).map_err(|_| "unknown form of launch: is queue newer than this host?")?;
    let nul = |list: &[Vec<u8>]| list.iter().any(|s| s.contains(&0));
    if nul(&launch.argv) || nul(&launch.env) || launch.cwd.contains(&0) {
        return Err("NUL byte in an argument");
    }
    let mut s = Spec {
        cwd: launch.cwd.clone(),
        umask: launch.umask,
        nice: launch.nice,
        rlimits: launch
            .rlimits
            .iter()
            .map(|r| (r.resource, r.soft, r.hard))
            .collect(),
        ignored: launch.ignored,
        blocked: launch.blocked,
        terminal: u8::MAX,
        ..Spec::default()
    };
    if let Some(pty) = &launch.pty {
        s.terminal = [pty.stdin, pty.stdout, pty.stderr]
            .iter()
            .position(|t| *t)
            .map_or(u8::MAX, |p| p as u8);
    }
    match form {
        Form::Launch => {
            s.program = launch.argv.first().ok_or("no command")?.clone();
            s.argv.clone_from(&launch.argv);
        }
        Form::Shell => {
            s.program = b"/bin/sh".to_vec();
            s.argv = [vec![b"sh".to_vec()], launch.argv.clone()].concat();
        }
        Form::Rsh => {
            let base = account.shell.rsplit(|c| *c == b'/').next().unwrap_or_default();
            s.program.clone_from(&account.shell);
            s.argv = match launch.argv.first() {
                Some(command) => vec![base.to_vec(), b"-c".to_vec(), command.clone()],
                None => vec![[b"-", base].concat()],
            };
            s.cwd.clone_from(&account.home);
            s.cwd_optional = true;
            s.umask = Some(launch.umask.unwrap_or(LOGIN_UMASK));
        }
    }
    s.env = environment(form, launch, account, here);
    Ok(s)
}

fn environment(form: Form, launch: &Launch, account: &Account, here: &Here<'_>) -> Vec<Vec<u8>> {
    if form != Form::Rsh {
        // The caller's environment, whole and in his order. What PAM gives is only put where he has nothing.
        let mut env = launch.env.clone();
        let has = |env: &[Vec<u8>], name: &[u8]| env.iter().any(|e| Env::name(e) == name);
        for e in here.pam_env {
            if !has(&launch.env, Env::name(e)) {
                env.push(e.clone());
            }
        }
        env.retain(|e| !matches!(Env::name(e), b"QUEUE_HOST" | b"QUEUE_SUBMIT_HOST"));
        env.push([b"QUEUE_HOST=", here.host.as_bytes()].concat());
        env.push([b"QUEUE_SUBMIT_HOST=", launch.submit_host.as_bytes()].concat());
        env.retain(|e| !has(here.forward, Env::name(e)));
        env.extend_from_slice(here.forward);
        return env;
    }
    let mut env = Env(Vec::new());
    env.set("HOME", &account.home);
    env.set("USER", account.name.as_bytes());
    env.set("LOGNAME", account.name.as_bytes());
    env.set("SHELL", &account.shell);
    env.set("PATH", if account.uid == 0 { PATH_ROOT } else { PATH });
    env.set("MAIL", &[b"/var/mail/", account.name.as_bytes()].concat());
    for e in here.pam_env {
        env.put(e.clone());
    }
    for e in &launch.env {
        env.put(e.clone());
    }
    env.set("QUEUE_HOST", here.host.as_bytes());
    env.set("QUEUE_SUBMIT_HOST", launch.submit_host.as_bytes());
    // bash reads ~/.bashrc for a remote command only if it finds this, as under sshd.
    env.set("SSH_CLIENT", here.client.as_bytes());
    if !here.tty.is_empty() {
        env.set("SSH_TTY", here.tty.as_bytes());
    }
    for e in here.forward {
        env.put(e.clone());
    }
    env.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        Account {
            name: "alice".into(),
            uid: 2001,
            gid: 2001,
            groups: vec![],
            home: b"/home/alice".to_vec(),
            shell: b"/bin/bash".to_vec(),
        }
    }

    fn plan(l: &Launch) -> Spec {
        let pam_env = [b"A=pam".to_vec(), b"B=pam".to_vec()];
        let here = Here {
            host: "h2",
            client: "10.0.0.1 1 2",
            tty: "",
            pam_env: &pam_env,
            forward: &[],
        };
        spec(l, &account(), &here).unwrap()
    }

    fn strings(list: &[Vec<u8>]) -> Vec<&str> {
        list.iter().map(|s| std::str::from_utf8(s).unwrap()).collect()
    }

    #[test]
    fn launch_keeps_the_callers_environment_whole() {
        let l = Launch {
            argv: vec![b"ls".to_vec(), b"-l".to_vec()],
            env: vec![b"Z=1\n2".to_vec(), b"A=user".to_vec(), b"novalue".to_vec()],
            cwd: b"/tmp".to_vec(),
            submit_host: "h1".into(),
            ..Launch::default()
        };
        let s = plan(&l);
        assert_eq!(s.program, b"ls");
        assert_eq!(
            strings(&s.env),
            [
                "Z=1\n2",
                "A=user",
                "novalue",
                "B=pam",
                "QUEUE_HOST=h2",
                "QUEUE_SUBMIT_HOST=h1"
            ]
        );
        assert_eq!(
            (s.cwd, s.cwd_optional, s.terminal),
            (b"/tmp".to_vec(), false, 255)
        );
    }

    #[test]
    fn rsh_form_is_a_login() {
        let mut l = Launch {
            form: Form::Rsh as i32,
            env: vec![b"TERM=vt100".to_vec()],
            ..Launch::default()
        };
        assert_eq!(strings(&plan(&l).argv), ["-bash"]);
        l.argv = vec![b"echo $HOME".to_vec()];
        let s = plan(&l);
        assert_eq!(strings(&s.argv), ["bash", "-c", "echo $HOME"]);
        assert_eq!(s.cwd, b"/home/alice");
        assert!(s.cwd_optional);
        let env = strings(&s.env);
        for e in [
            "HOME=/home/alice",
            "USER=alice",
            "TERM=vt100",
            "A=pam",
            "SSH_CLIENT=10.0.0.1 1 2",
        ] {
            assert!(env.contains(&e), "{e} in {env:?}");
        }
    }

    #[test]
    fn what_is_forwarded_takes_the_place_of_the_callers() {
        let forward = [b"DISPLAY=localhost:10.0".to_vec()];
        let here = Here {
            host: "h",
            client: "",
            tty: "",
            pam_env: &[],
            forward: &forward,
        };
        for form in [Form::Launch, Form::Rsh] {
            let l = Launch {
                form: form as i32,
                argv: vec![b"xterm".to_vec()],
                env: vec![b"DISPLAY=:0".to_vec(), b"TERM=x".to_vec(), b"DISPLAY=:1".to_vec()],
                ..Launch::default()
            };
            let s = spec(&l, &account(), &here).unwrap();
            let env = strings(&s.env).into_iter().filter(|e| e.starts_with("DISPLAY="));
            assert_eq!(env.collect::<Vec<_>>(), ["DISPLAY=localhost:10.0"], "{form:?}");
        }
    }

    #[test]
    fn shell_form_and_nonsense() {
        let mut l = Launch {
            form: Form::Shell as i32,
            argv: vec![b"-ec".to_vec(), b"a".to_vec()],
            ..Launch::default()
        };
        assert_eq!(strings(&plan(&l).argv), ["sh", "-ec", "a"]);
        l.argv[1].push(0);
        let here = Here {
            host: "h",
            client: "",
            tty: "",
            pam_env: &[],
            forward: &[],
        };
        assert!(spec(&l, &account(), &here).is_err());
        assert!(
            spec(
                &Launch {
                    form: 9,
                    ..Launch::default()
                },
                &account(),
                &here
            )
            .is_err()
        );
        assert!(spec(&Launch::default(), &account(), &here).is_err());
    }
}
