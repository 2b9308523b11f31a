//! The rsh form, `qsh HOST [COMMAND]` and `queue HOST [COMMAND]`, as programs call ssh. Nothing of the other forms.

use super::options::Options;
use super::words::{escape_char, no_descriptors, target, text};
use super::{Command, Target, Tty, What};
use crate::args::Parsed;
use crate::messages::Failure;
use crate::options::Id;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

pub(super) fn rsh(parsed: &Parsed<'_>, qsh: bool) -> Result<Command, Failure> {
    rsh_command(parsed, qsh).map_err(Failure::in_rsh)
}

fn rsh_command(parsed: &Parsed<'_>, qsh: bool) -> Result<Command, Failure> {
    let mut o = Options::new();
    let (mut subsystem, mut print_config) = (false, false);
    for f in &parsed.found {
        let Some(opt) = f.rsh.or(f.launch) else { continue };
        match opt.id {
            Id::Login => o.login = text(&f.value, &f.spelled)?,
            Id::NullStdin | Id::NoStdin => o.no_stdin = true,
            id @ (Id::X11 | Id::NoX11 | Id::Agent | Id::NoAgent) => o.forward(id),
            Id::Tty => {
                o.tty = Some(if matches!(o.tty, Some(Tty::Login | Tty::Force)) {
                    Tty::Force
                } else {
                    Tty::Login
                })
            }
            Id::NoTty => o.tty = Some(Tty::None),
            Id::Subsystem => subsystem = true,
            Id::PrintConfig => print_config = true,
            Id::SshOption => ssh_option(&f.value, &mut o)?,
            Id::Tee => o.tee = Some(f.value.clone().into()),
            Id::Escape => o.escape = escape_char(&f.value, &f.spelled)?,
            Id::Port | Id::Ignored => {}
            Id::Refused => {
                return Err(Failure::own(format!(
                    "{} is not done here: qsh runs commands and forwards no connections",
                    f.spelled
                )));
            }
            _ => {
                return Err(Failure::own(format!(
                    "{} does not belong to the rsh form",
                    f.spelled
                )));
            }
        }
    }
    let program = if qsh { "qsh" } else { "queue" };
    let Some((host, words)) = parsed.rest.split_first() else {
        return Err(Failure::own(format!(
            "no host: `{program} [OPTIONS] [USER@]HOST [COMMAND...]`"
        )));
    };
    let host = text(host, "HOST")?;
    let (user, host) = host.rsplit_once('@').map_or(("", host.as_str()), |(u, h)| (u, h));
    if o.login.is_empty() {
        user.clone_into(&mut o.login);
    }
    o.host = target(OsStr::new(host), "HOST", Target::Only)?;
    if print_config {
        return Ok(Command::PrintConfig {
            host: host.to_owned(),
            login: o.login,
        });
    }
    // GNU parallel and others put a `--` behind the host as well; ssh drops it.
    let words = match words.split_first() {
        Some((dashes, rest)) if dashes == "--" => rest,
        _ => words,
    };
    no_descriptors(words)?;
    let mut command = words.join(OsStr::new(" "));
    if subsystem {
        if command != "sftp" {
            return Err(Failure::own(format!(
                "no such subsystem: `{}`",
                command.to_string_lossy()
            )));
        }
        command = SFTP.into();
    }
    let (command, tty) = if command.is_empty() {
        (None, Tty::Login)
    } else {
        (Some(command), Tty::None)
    };
    Ok(o.run(What::Rsh(command), tty))
}

/// Where distributions keep the program behind ssh's subsystem. Said to `/bin/sh`, because a login shell
/// may be any.
const SFTP: &str = "exec /bin/sh -c 'PATH=$PATH:/usr/lib/openssh:/usr/libexec/openssh:/usr/lib/ssh:/usr/libexec; exec sftp-server'";

/// `KEY=VALUE` or `KEY VALUE`, names in any case, as in `ssh_config(5)`. Unknown ones are ignored: they
/// configure what we do not have.
fn ssh_option(value: &OsStr, o: &mut Options) -> Result<(), Failure> {
    let bytes = value.as_bytes();
    let cut = bytes
        .iter()
        .position(|b| matches!(b, b'=' | b' ' | b'\t'))
        .unwrap_or(bytes.len());
    let key = String::from_utf8_lossy(&bytes[..cut]).to_ascii_lowercase();
    let rest = OsStr::from_bytes(bytes.get(cut + 1..).unwrap_or_default().trim_ascii());
    let word = rest.to_string_lossy();
    let words = || {
        rest.as_bytes()
            .split(u8::is_ascii_whitespace)
            .filter(|w| !w.is_empty())
    };
    match key.as_str() {
        "user" if o.login.is_empty() => o.login = text(rest, "-o User")?,
        "connecttimeout" => {
            o.connect_timeout = word.parse().ok().filter(|s| *s > 0).map(Duration::from_secs);
        }
        "forwardx11" | "forwardagent" => {
            // An agent's path, which ssh takes as well, is not guessed at.
            let on = word.eq_ignore_ascii_case("yes");
            match key.as_str() {
                _ if !on && !word.eq_ignore_ascii_case("no") => {}
                "forwardx11" => o.x11 = on,
                _ => o.agent = on,
            }
        }
        "escapechar" => o.escape = escape_char(rest, "-o EscapeChar")?,
        "stdinnull" => o.no_stdin |= word.eq_ignore_ascii_case("yes"),
        "sendenv" => o
            .send_env
            .extend(words().map(|w| OsStr::from_bytes(w).to_owned())),
        "setenv" => o.set_env.push(rest.to_owned()),
        "requesttty" => {
            o.tty = match word.to_ascii_lowercase().as_str() {
                "no" => Some(Tty::None),
                "yes" => Some(Tty::Login),
                "force" => Some(Tty::Force),
                _ => o.tty,
            }
        }
        _ => {}
    }
    Ok(())
}
