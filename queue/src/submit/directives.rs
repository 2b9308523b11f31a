//! A script, and the options that stand in it: lines `#QUEUE --cores 4` before its first command. Pure, but for
//! reading the file.

use super::options::Batch;
use crate::args::{End, Found, parse};
use crate::messages::Failure;
use crate::options::Id;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

/// Largest script: 4 MiB.
const SCRIPT_MAX: u64 = 4 << 20;
/// What such a line begins with.
const MARK: &[u8] = b"#QUEUE";

/// Reads a script: its text. A word without a `/` has to begin with `#!`, because it could be a command as well.
///
/// # Errors
/// It cannot be read, or it is none; how to say what was meant.
pub fn read(word: &OsStr) -> Result<Vec<u8>, Failure> {
    let shown = word.to_string_lossy();
    let command = || format!("a command comes behind `--`: `queue -b ... -- {shown} ...`");
    let path = Path::new(word);
    let explicit = word.as_bytes().contains(&b'/');
    let mut text = Vec::new();
    let result = File::open(path).and_then(|f| {
        if !f.metadata()?.is_file() {
            return Err(std::io::Error::other("it is no file"));
        }
        f.take(SCRIPT_MAX + 1).read_to_end(&mut text)
    });
    if let Err(e) = result {
        let why = crate::messages::reason(&e);
        return Err(Failure::own(format!("script {shown}: {why}; {}", command())));
    }
    if text.len() as u64 > SCRIPT_MAX {
        return Err(Failure::own(format!(
            "script {shown}: larger than {} MiB",
            SCRIPT_MAX >> 20
        )));
    }
    // A program is no text; and what is executed has no zeros in its first line.
    if text.iter().take(4096).any(|b| *b == 0) {
        return Err(Failure::own(format!(
            "{shown} is a program, not a script; {}",
            command()
        )));
    }
    if !explicit && !text.starts_with(b"#!") {
        return Err(Failure::own(format!(
            "{shown} does not begin with `#!`: for a script say `queue -b ./{shown}`; {}",
            command()
        )));
    }
    if text.is_empty() {
        return Err(Failure::own(format!("script {shown} is empty")));
    }
    Ok(text)
}

/// The options in a script.
///
/// # Errors
/// File, line, and what is wrong there.
pub fn options(name: &str, text: &[u8]) -> Result<Vec<Found>, Failure> {
    let mut all = Vec::new();
    for (n, line) in text.split(|b| *b == b'\n').enumerate() {
        let line = line.trim_ascii();
        if !line.is_empty() && !line.starts_with(b"#") {
            break;
        }
        let Some(rest) = line.strip_prefix(MARK) else {
            continue;
        };
        if !rest.first().is_none_or(u8::is_ascii_whitespace) {
            continue;
        }
        let found = one(rest).map_err(|e| Failure::own(format!("{name}:{}: {e}", n + 1)))?;
        all.extend(found);
    }
    Ok(all)
}

fn one(line: &[u8]) -> Result<Vec<Found>, String> {
    let words = split(line)?;
    let parsed = parse(&words, false).map_err(|f| f.text)?;
    if parsed.end != End::Nothing {
        let word = parsed.rest.first().map_or("--".into(), |w| w.to_string_lossy());
        return Err(format!("`{word}` is no option: the command is the script itself"));
    }
    for f in &parsed.found {
        let belongs = f.launch.is_some_and(|o| {
            !matches!(
                o.id,
                Id::Interactive
                    | Id::Batch
                    | Id::Wait
                    | Id::Json
                    | Id::Help
                    | Id::Version
                    | Id::CommandString
                    | Id::Tee
                    | Id::NoStdin
            )
        });
        if !belongs {
            return Err(format!("{} does not belong into a script", f.spelled));
        }
    }
    Batch::check(&parsed.found).map_err(|f| f.text)?;
    Ok(parsed.found)
}

/// Words as a shell would see them: quotes and backslashes, a `#` begins a comment. Nothing is replaced.
fn split(line: &[u8]) -> Result<Vec<OsString>, String> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    let mut bytes = line.iter().copied();
    while let Some(b) = bytes.next() {
        match (quote, b) {
            (Some(q), b) if q == b => quote = None,
            (Some(b'"') | None, b'\\') => {
                let next = bytes.next().ok_or("a backslash at the end of the line")?;
                word.get_or_insert_default().push(next);
            }
            (Some(_), b) => word.get_or_insert_default().push(b),
            (None, b'\'' | b'"') => {
                quote = Some(b);
                word.get_or_insert_default();
            }
            (None, b'#') if word.is_none() => break,
            (None, b) if b.is_ascii_whitespace() => words.extend(word.take()),
            (None, b) => word.get_or_insert_default().push(b),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".into());
    }
    words.extend(word);
    Ok(words.into_iter().map(OsString::from_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_a_script() {
        let text =
            b"#!/bin/sh\n# a comment\n#QUEUE --cores 4 --name 'a b' # that many\n\n  #QUEUE -R \"mem>=1G\"\n\
            #QUEUED is something else\n#QUEUE\nset -e\n#QUEUE --frob\n";
        let found = options("x.sh", text).unwrap();
        let b = Batch::new(&found).unwrap();
        assert_eq!(
            (b.need.cores, b.name.as_str(), b.need.expr.as_str()),
            (4, "a b", "mem>=1G")
        );
        // What is typed comes behind it and counts.
        let typed = parse(&["--cores=8".into()], false).unwrap().found;
        let both = [found, typed].concat();
        assert_eq!(Batch::new(&both).unwrap().need.cores, 8);
        // Parts of one thing may stand on several lines.
        assert!(options("x", b"#QUEUE --array %3\n#QUEUE --each-line list\n").is_ok());
    }

    #[test]
    fn mistakes_are_told_with_file_and_line() {
        for (line, part) in [
            ("--frob", "unknown option --frob"),
            ("--cores zero", "--cores: `zero`"),
            ("--cores", "needs a value"),
            ("make", "`make` is no option"),
            ("-- make", "`make` is no option"),
            ("--name 'x", "a quote is not closed"),
            ("-b", "-b does not belong"),
            ("-w", "-w does not belong"),
            ("-t", "-t does not belong"),
            ("--name \\", "a backslash"),
        ] {
            let e = options("dir/x.sh", format!("#!/bin/sh\n#QUEUE {line}\n").as_bytes()).unwrap_err();
            assert!(
                e.text.starts_with("dir/x.sh:2: ") && e.text.contains(part),
                "{line}: {}",
                e.text
            );
        }
    }

    #[test]
    fn what_is_a_script() {
        let dir = std::env::temp_dir().join(format!("queue-script-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let file = |name: &str, text: &[u8]| {
            std::fs::write(dir.join(name), text).unwrap();
            read(dir.join(name).as_os_str())
        };
        assert_eq!(file("a", b"#!/bin/sh\ntrue\n").unwrap(), b"#!/bin/sh\ntrue\n");
        // With a path it need not say so itself, as in the shell form.
        assert!(file("b", b"true\n").is_ok());
        assert!(file("c", b"\x7fELF\0\0").unwrap_err().text.contains("a program"));
        assert!(file("d", b"").unwrap_err().text.contains("empty"));
        assert!(read(dir.as_os_str()).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
        let e = read(OsStr::new("make")).unwrap_err().text;
        assert!(e.contains("behind `--`: `queue -b ... -- make ...`"), "{e}");
        assert!(
            read(OsStr::new("Cargo.toml"))
                .unwrap_err()
                .text
                .contains("./Cargo.toml")
        );
    }
}
