//! Are these a shell's arguments, as make and configure give them to `$SHELL`? Pure.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

/// Whether arguments are a shell's.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shell {
    Yes,
    No,
    /// They could be, but for this option, which is also ours.
    Unclear(String),
}

/// Letters that `sh` takes and that stand alone. Those which take a value here (`-l`, `-h`) or are not sh's are
/// left out.
const SH_LETTERS: &[u8] = b"abefimnpqsuvxCEIV";
/// Of these, the letters that are options of the launch form here: they make it unclear which is meant.
const OURS: &[u8] = b"bimnopq";

/// `-c` among a shell's options, or a script: a first word with a `/`.
pub(super) fn looks_like_shell(args: &[OsString]) -> Shell {
    let mut unclear = None;
    let verdict = |unclear: Option<String>| unclear.map_or(Shell::Yes, Shell::Unclear);
    let mut at = 0;
    while let Some(arg) = args.get(at).map(|a| a.as_bytes()) {
        at += 1;
        let letters = match arg {
            [b'-' | b'+', rest @ ..] if !rest.is_empty() && rest[0] != b'-' => rest,
            [b'-', ..] | [b'+'] | [] => return Shell::No,
            // `host:/path` and `user@host` are for the rsh form to refuse.
            word if word.contains(&b'/') => return verdict(unclear),
            _ => return Shell::No,
        };
        let takes_name = letters.last() == Some(&b'o');
        let flags = if takes_name {
            &letters[..letters.len() - 1]
        } else {
            letters
        };
        if !flags.iter().all(|b| SH_LETTERS.contains(b) || *b == b'c') {
            return Shell::No;
        }
        if flags.contains(&b'c') {
            return if arg[0] == b'-' {
                verdict(unclear)
            } else {
                Shell::No
            };
        }
        if takes_name {
            // `-o pipefail` has the name of a shell's option behind it; anything else is not a shell's.
            if !args.get(at).is_some_and(|n| SH_OPTIONS.contains(&n.as_bytes())) {
                return Shell::No;
            }
            at += 1;
        } else if arg[0] == b'-' && letters.iter().all(|b| OURS.contains(b)) {
            unclear.get_or_insert_with(|| String::from_utf8_lossy(arg).into_owned());
        }
    }
    Shell::No
}

/// Names that `sh -o` takes (dash's and bash's).
const SH_OPTIONS: &[&[u8]] = &[
    b"allexport",
    b"braceexpand",
    b"emacs",
    b"errexit",
    b"errtrace",
    b"functrace",
    b"hashall",
    b"histexpand",
    b"history",
    b"ignoreeof",
    b"interactive",
    b"keyword",
    b"monitor",
    b"noclobber",
    b"noexec",
    b"noglob",
    b"nolog",
    b"notify",
    b"nounset",
    b"onecmd",
    b"physical",
    b"pipefail",
    b"posix",
    b"privileged",
    b"stdin",
    b"verbose",
    b"vi",
    b"xtrace",
];
