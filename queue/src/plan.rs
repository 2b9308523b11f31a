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
    m
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
