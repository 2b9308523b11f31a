//! What was typed, taken apart: letters and words with their values, up to the host or the `--`. Pure; what it
//! means is decided in [`crate::forms`].

use crate::messages::Failure;
use crate::nearest;
use crate::options::{self, BATCH, Id, LATER, LAUNCH, Opt, QSH, RSH};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// An option as found. A letter may be known to both forms until it is clear which one is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What the launch form takes it for.
    pub launch: Option<&'static Opt>,
    /// What the rsh form takes it for.
    pub rsh: Option<&'static Opt>,
    /// Its value, empty if it takes none.
    pub value: OsString,
    /// As typed, for messages: `-x` or `--host`.
    pub spelled: String,
}

/// Where the options ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// At a `--`; what follows is behind it.
    Dashes,
    /// At a word, which is the first of what follows.
    Word,
    /// With the arguments.
    Nothing,
}

/// The arguments, taken apart.
#[derive(Debug, Clone)]
pub struct Parsed<'a> {
    /// The options in order.
    pub found: Vec<Found>,
    /// Where they ended.
    pub end: End,
    /// What follows.
    pub rest: &'a [OsString],
}

/// Takes the options off the front. `qsh`: only the rsh form's are known, and more of them.
pub fn parse(args: &[OsString], qsh: bool) -> Result<Parsed<'_>, Failure> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(arg) = args.get(at) {
        let bytes = arg.as_bytes();
        at += 1;
        if bytes == b"--" {
            return Ok(Parsed {
                found,
                end: End::Dashes,
                rest: &args[at..],
            });
        }
        if let Some(word) = bytes.strip_prefix(b"--") {
            at += long(word, args.get(at), &mut found)?;
        } else if bytes.len() > 1 && bytes[0] == b'-' {
            at += cluster(arg, args.get(at), qsh, &mut found)?;
        } else {
            return Ok(Parsed {
                found,
                end: End::Word,
                rest: &args[at - 1..],
            });
        }
    }
    Ok(Parsed {
        found,
        end: End::Nothing,
        rest: &[],
    })
}

/// `--word`, `--word=value` or `--word value`. How many further arguments were used.
fn long(word: &[u8], next: Option<&OsString>, found: &mut Vec<Found>) -> Result<usize, Failure> {
    let (name, given) = match word.iter().position(|b| *b == b'=') {
        Some(i) => (&word[..i], Some(&word[i + 1..])),
        None => (word, None),
    };
    let name = String::from_utf8_lossy(name);
    let spelled = format!("--{name}");
    let opt = options::by_word(&name).ok_or_else(|| {
        let failure = Failure::own(format!("unknown option {spelled} (`queue --help` lists all)"));
        nearest::option(&name, options::words(), failure)
    })?;
    let (value, used) = match (opt.value.is_empty(), given) {
        (true, None) => (OsString::new(), 0),
        (true, Some(_)) => return Err(Failure::own(format!("{spelled} takes no value"))),
        (false, Some(v)) => (OsStr::from_bytes(v).to_owned(), 0),
        (false, None) if opt.value.starts_with('[') => match next.filter(|n| is_number(opt, n)) {
            // It would be taken for letters of options.
            None if opt.id == Id::Retries && next.is_some_and(|n| is_negative(n)) => {
                return Err(Failure::own(format!(
                    "{spelled}: the value must not be negative: {}",
                    next.map_or_else(String::new, |n| n.to_string_lossy().into_owned())
                )));
            }
            Some(n) => (n.clone(), 1),
            None => (OsString::new(), 0),
        },
        // What looks like the next option is none of an escape character's spellings.
        (false, None) => match next.filter(|n| opt.id != Id::Escape || !is_option(n)) {
            Some(n) => (n.clone(), 1),
            None => return Err(missing(&spelled, opt)),
        },
    };
    found.push(Found {
        launch: Some(opt),
        rsh: None,
        value,
        spelled,
    });
    Ok(used)
}

/// Whether a word has the form of an option.
fn is_option(word: &OsStr) -> bool {
    word.len() > 1 && word.as_bytes().starts_with(b"-")
}

/// Whether a word is a number below zero.
fn is_negative(word: &OsStr) -> bool {
    let digits = word.as_bytes().strip_prefix(b"-");
    digits.is_some_and(|d| !d.is_empty() && d.iter().all(u8::is_ascii_digit))
}

/// Whether a word is the value of an option that may have none.
fn is_number(opt: &Opt, word: &OsStr) -> bool {
    let digits = !word.is_empty() && word.as_bytes().iter().all(u8::is_ascii_digit);
    digits && !opt.value.starts_with("[=")
}

/// `-abc`, the last of which may have its value behind it (`-lalice`) or in the next argument.
fn cluster(
    arg: &OsString,
    next: Option<&OsString>,
    qsh: bool,
    found: &mut Vec<Found>,
) -> Result<usize, Failure> {
    let bytes = arg.as_bytes();
    for i in 1..bytes.len() {
        let letter = char::from(bytes[i]);
        let (behind, spelled) = (&bytes[i + 1..], format!("-{letter}"));
        let (launch, rsh) = meaning(letter, behind, next, qsh);
        let Some(opt) = launch.or(rsh) else {
            return Err(unknown(&spelled, arg, qsh));
        };
        if opt.value.is_empty() {
            found.push(Found {
                launch,
                rsh,
                value: OsString::new(),
                spelled,
            });
            continue;
        }
        let (value, used) = if behind.is_empty() {
            // `--` is nobody's host, class or size: the value was left out. `-c --` is as `sh` has it.
            let value = next.filter(|n| launch.is_none() || opt.id == Id::CommandString || *n != "--");
            (value.ok_or_else(|| missing(&spelled, opt))?.clone(), 1)
        } else {
            (OsString::from_vec(behind.to_vec()), 0)
        };
        found.push(Found {
            launch,
            rsh,
            value,
            spelled,
        });
        return Ok(used);
    }
    Ok(0)
}

/// What a letter may mean, in each of the two forms. `-p` followed by digits and `-o` followed by a word with
/// `=` (or, in one word, a blank) are ssh's; otherwise they are the launch form's, which take no value.
fn meaning(
    letter: char,
    behind: &[u8],
    next: Option<&OsString>,
    qsh: bool,
) -> (Option<&'static Opt>, Option<&'static Opt>) {
    if qsh {
        return (None, options::by_letter(&[RSH, QSH], letter));
    }
    let launch = options::by_letter(&[LAUNCH, BATCH, LATER], letter);
    let rsh = options::by_letter(&[RSH], letter);
    let value = if behind.is_empty() {
        next.map_or(&b""[..], |n| n.as_bytes())
    } else {
        behind
    };
    let ssh = match letter {
        'p' => !value.is_empty() && value.iter().all(u8::is_ascii_digit),
        'o' => !value.starts_with(b"-") && value.iter().any(|b| matches!(b, b'=' | b' ')),
        _ => return (launch, rsh),
    };
    if ssh { (None, rsh) } else { (launch, None) }
}

fn missing(spelled: &str, opt: &Opt) -> Failure {
    let hint = match opt.id {
        _ if spelled == "-h" => " (help is --help)",
        Id::Escape => ", one character as ~, ^X for a control character, or none",
        _ => "",
    };
    Failure::own(format!("{spelled} needs a value: {}{hint}", opt.value))
}

fn unknown(spelled: &str, arg: &OsStr, qsh: bool) -> Failure {
    let whole = arg.to_string_lossy();
    let place = if whole == spelled {
        String::new()
    } else {
        format!(" in {whole}")
    };
    let program = if qsh { "qsh" } else { "queue" };
    Failure::own(format!(
        "unknown option {spelled}{place} (`{program} --help` lists all)"
    ))
}
