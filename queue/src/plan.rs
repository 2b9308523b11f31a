//! From what was asked to what is done, given a few facts about our own descriptors. Pure.

use crate::forms::{Run, Target, Tty, What};
use libqueue::wire;
use nix::libc;

/// What our standard descriptors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// For each of 0, 1, 2: whether it is a terminal.
    pub tty: [bool; 3],
    /// Whether we are in the foreground of the terminal on descriptor 0.
    pub foreground: bool,
}

/// Which of the command's descriptors are its terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PtyFor {
    /// For each of 0, 1, 2.
    pub fds: [bool; 3],
}

/// Decides about the terminal.
pub fn pty(tty: Tty, facts: &Facts) -> Option<PtyFor> {
    let [stdin, stdout, stderr] = facts.tty;
    let fds = match tty {
        Tty::None => return None,
        Tty::Auto if stdin && stdout && facts.foreground => [true, true, stderr],
        Tty::Full if stdin || stdout => [stdin, stdout, stderr],
        Tty::Input if stdin => [true, false, false],
        Tty::Login if stdin => [true; 3],
        Tty::Force => [true; 3],
        _ => return None,
    };
    Some(PtyFor { fds })
}

/// The form on the wire.
pub fn form(what: &What) -> wire::Form {
    match what {
        What::Launch(_) => wire::Form::Launch,
        What::Rsh(_) => wire::Form::Rsh,
        What::Shell(_) => wire::Form::Shell,
    }
}

/// Whether background processes may outlive the command, as under sshd: the rsh form on a named host.
pub fn leave(run: &Run) -> bool {
    matches!(run.what, What::Rsh(_)) && matches!(run.host, Target::Only(_))
}

/// Whether a variable goes along in the rsh form.
pub fn goes_along(entry: &[u8], more: &[std::ffi::OsString]) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let Some(cut) = entry.iter().position(|b| *b == b'=') else {
        return false;
    };
    let name = &entry[..cut];
    name == b"TERM"
        || name == b"LANG"
        || name.starts_with(b"LC_")
        || more.iter().any(|p| matches(p.as_bytes(), name))
}

/// Whether a name fits a pattern with `*` and `?`.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=name.len()).any(|i| matches(rest, &name[i..])),
        (Some((b'?', p)), Some((_, n))) => matches(p, n),
        (Some((a, p)), Some((b, n))) => a == b && matches(p, n),
        _ => false,
    }
}

/// The modes that a terminal has while its keys go to another one: every byte as it comes. Output is left to
/// the remote terminal as well, unless only input goes there.
pub fn raw(modes: &libc::termios, output_too: bool) -> libc::termios {
    let mut m = *modes;
    m.c_iflag |= libc::IGNPAR;
    m.c_iflag &= !(libc::ISTRIP
        | libc::INLCR
        | libc::IGNCR
        | libc::ICRNL
        | libc::IXON
        | libc::IXANY
        | libc::IXOFF
        | libc::IGNBRK
        | libc::BRKINT
        | libc::PARMRK
        | libc::IUCLC);
    m.c_lflag &=
        !(libc::ISIG | libc::ICANON | libc::ECHO | libc::ECHOE | libc::ECHOK | libc::ECHONL | libc::IEXTEN);
    if output_too {
        m.c_oflag &= !libc::OPOST;
    }
    m.c_cc[libc::VMIN] = 1;
    m.c_cc[libc::VTIME] = 0;
    // What they were is kept in bits that mean nothing to a terminal, for others of us that come meanwhile.
    m.c_iflag = (m.c_iflag & LOW) | (modes.c_iflag & LOW) << 16;
    m.c_oflag = (m.c_oflag & LOW) | (modes.c_lflag & LOW) << 16;
    m.c_lflag = (m.c_lflag & LFLAG)
        | KEPT
        | if modes.c_oflag & libc::OPOST != 0 {
            KEPT_OPOST
        } else {
            0
        };
    m
}

/// The bits that mean something in input and output flags.
const LOW: libc::tcflag_t = 0xffff;
/// Those in local flags.
const LFLAG: libc::tcflag_t = 0x1_ffff;
/// In local flags: the others hold what was there before [`raw`].
const KEPT: libc::tcflag_t = 0x5154_0000;
/// In local flags: `OPOST` was set.
const KEPT_OPOST: libc::tcflag_t = 0x8000_0000;

/// The modes that the terminal's user gave it: if another of us made it raw just now (eight recipes in one
/// terminal), those that it had before; else these. Only `VMIN` and `VTIME` are not known any more.
pub fn original(modes: &libc::termios) -> libc::termios {
    let mut m = *modes;
    m.c_iflag = modes.c_iflag >> 16;
    m.c_oflag &= LOW & !libc::OPOST;
    if modes.c_lflag & KEPT_OPOST != 0 {
        m.c_oflag |= libc::OPOST;
    }
    m.c_lflag = (modes.c_lflag & LFLAG & !LOW) | modes.c_oflag >> 16;
    // Kept bits alone prove nothing: `stty sane` leaves them when it ends raw modes.
    if [true, false].iter().any(|both| same(&raw(&m, *both), modes)) {
        return m;
    }
    m = *modes;
    if m.c_lflag & !LFLAG & !KEPT_OPOST == KEPT {
        m.c_iflag &= LOW;
        m.c_oflag &= LOW;
        m.c_lflag &= LFLAG;
    }
    m
}

/// Whether they are the same modes.
pub fn same(a: &libc::termios, b: &libc::termios) -> bool {
    (a.c_iflag, a.c_oflag, a.c_cflag, a.c_lflag, a.c_cc)
        == (b.c_iflag, b.c_oflag, b.c_cflag, b.c_lflag, b.c_cc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_is_made_for_what_is_one_here() {
        let at = |tty: [u8; 3], foreground| Facts {
            tty: tty.map(|b| b == 1),
            foreground,
        };
        for (mode, tty, foreground, want) in [
            (Tty::Auto, [1, 1, 1], true, Some([1, 1, 1])),
            (Tty::Auto, [1, 1, 0], true, Some([1, 1, 0])),
            (Tty::Auto, [1, 1, 1], false, None),
            (Tty::Auto, [0, 1, 1], true, None),
            (Tty::Auto, [1, 0, 1], true, None),
            (Tty::Full, [1, 1, 1], false, Some([1, 1, 1])),
            (Tty::Full, [0, 0, 1], true, None),
            (Tty::Full, [0, 1, 1], true, Some([0, 1, 1])),
            (Tty::Full, [1, 0, 1], true, Some([1, 0, 1])),
            (Tty::Input, [1, 1, 1], true, Some([1, 0, 0])),
            (Tty::Input, [0, 1, 1], true, None),
            (Tty::None, [1, 1, 1], true, None),
            (Tty::Login, [1, 0, 0], true, Some([1, 1, 1])),
            (Tty::Login, [0, 1, 1], true, None),
            (Tty::Force, [0, 0, 0], false, Some([1, 1, 1])),
        ] {
            let got = pty(mode, &at(tty, foreground)).map(|p| p.fds.map(u8::from));
            assert_eq!(got, want, "{mode:?} {tty:?} {foreground}");
        }
    }

    #[test]
    fn raw_modes_tell_what_was_before() {
        let pty = nix::pty::openpty(None, None).unwrap();
        let mut modes: libc::termios = nix::sys::termios::tcgetattr(&pty.slave).unwrap().into();
        for (iflag, oflag, lflag) in [
            (
                libc::ICRNL | libc::IXON | libc::IUTF8,
                libc::OPOST | libc::ONLCR,
                0o105073,
            ),
            (
                libc::INLCR,
                libc::ONLCR,
                libc::ISIG | libc::EXTPROC | libc::IEXTEN,
            ),
            (0, 0, 0),
        ] {
            (modes.c_iflag, modes.c_oflag, modes.c_lflag) = (iflag, oflag, lflag);
            assert!(same(&original(&modes), &modes), "not raw");
            for both in [true, false] {
                let mut now = raw(&modes, both);
                assert!(same(&original(&now), &modes));
                assert!(same(&raw(&original(&now), both), &now));
                // Changed by somebody else.
                now.c_lflag |= libc::ECHOE | libc::ISIG;
                now.c_iflag |= libc::ICRNL;
                let seen = original(&now);
                assert!(seen.c_lflag & libc::ISIG != 0 && seen.c_iflag & !LOW == 0);
            }
        }
    }

    #[test]
    fn variables_of_the_rsh_form() {
        for (entry, yes) in [
            ("TERM=x", true),
            ("LANG=", true),
            ("LC_ALL=C", true),
            ("LANGUAGE=de", false),
            ("PATH=/bin", false),
            ("TERM", false),
            ("GIT_PROTOCOL=version=2", true),
            ("XMODIFIERS=1", true),
            ("XX=1", false),
        ] {
            assert_eq!(
                goes_along(entry.as_bytes(), &["GIT_*".into(), "X?OD*S".into()]),
                yes,
                "{entry}"
            );
        }
    }
}
