//! The manual pages and the programs say the same, both ways: options of the parsers and of `--help`, keys of
//! `queued.toml`, words of `exec.conf`. What the pages say *about* them is for people to check.

use anyhow::{Context, Result, ensure};
use queue_front::options::{BATCH, LATER, LAUNCH, Opt, QSH, RSH};
use queue_front::verbs::table::VERBS;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

type Words = BTreeSet<String>;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default()
}

/// The source of a page.
fn page(name: &str) -> Result<String> {
    let path = top().join("man").join(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// Words of mdoc macros that are not arguments.
fn is_macro(word: &str) -> bool {
    let callable = [
        "Ar", "Bc", "Bo", "Bq", "Cm", "Dv", "Ev", "Fl", "Ic", "Nm", "No", "Ns", "Oc", "Oo", "Op", "Pa", "Pq",
        "Ql", "Qq", "Sq", "Sy", "Xr",
    ];
    callable.contains(&word)
}

/// The arguments of a macro, wherever it stands on its line: `.Op Fl p | o` gives `p` and `o`.
fn arguments(source: &str, name: &str) -> Words {
    let mut found = Words::new();
    for line in source.lines().filter_map(|l| l.strip_prefix('.')) {
        let mut inside = false;
        for word in line.split_whitespace() {
            if word == name || is_macro(word) {
                inside = word == name;
            } else if inside && word.chars().any(char::is_alphanumeric) {
                found.insert(word.to_owned());
            }
        }
    }
    found
}

/// Options that a page names, with their dashes. A bundle of letters, `Fl 46nT`, is one option each.
fn options_of_page(source: &str) -> Words {
    let letters = |w: String| -> Vec<String> {
        match w.strip_prefix('-') {
            Some(long) => vec![format!("--{long}")],
            None => w.chars().map(|c| format!("-{c}")).collect(),
        }
    };
    arguments(source, "Fl").into_iter().flat_map(letters).collect()
}

/// Options of tables of the front end's parser.
fn options_of_tables(tables: &[&[Opt]]) -> Words {
    let all = tables.iter().flat_map(|t| t.iter());
    all.flat_map(|o| {
        o.short
            .chars()
            .map(|c| format!("-{c}"))
            .chain(o.long.iter().map(|l| format!("--{l}")))
            .collect::<Vec<_>>()
    })
    .collect()
}

/// Options in the text of a `--help`: whatever a line lists before its explanation, which two blanks divide.
fn options_of_help(text: &str) -> Words {
    let lines = text.lines().map(str::trim_start).filter(|l| l.starts_with('-'));
    let heads = lines.map(|l| l.split("  ").next().unwrap_or_default());
    heads
        .flat_map(|h| h.split([' ', ',', '=', '[', '|']))
        .filter(|w| w.starts_with('-') && w.len() > 1 && *w != "--")
        .map(|w| w.trim_end_matches('.').to_owned())
        .collect()
}

/// Runs a program that was built beside this test. Programs are built by `cargo build --workspace`.
fn help(program: &str, words: &[&str]) -> Result<String> {
    let me = std::env::current_exe()?;
    let built = me.ancestors().nth(2).context("where is the target directory?")?;
    let path = built.join(program);
    let out = Command::new(&path).args(words).arg("--help").output();
    let out = out.with_context(|| {
        format!(
            "{} (cargo build --workspace with this profile first)",
            path.display()
        )
    })?;
    ensure!(out.status.success(), "{program} {words:?} --help: {}", out.status);
    Ok(String::from_utf8(out.stdout)?)
}

#[track_caller]
fn same(page: &Words, program: &Words) {
    let undocumented: Vec<_> = program.difference(page).collect();
    let invented: Vec<_> = page.difference(program).collect();
    assert!(
        undocumented.is_empty() && invented.is_empty(),
        "not in the manual page: {undocumented:?}; only in the manual page: {invented:?}"
    );
}

fn words(list: &[&str]) -> Words {
    list.iter().map(|w| (*w).to_owned()).collect()
}

#[test]
fn queue_1() -> Result<()> {
    let page = options_of_page(&page("queue.1")?);
    let mut table = options_of_tables(&[LAUNCH, BATCH, RSH]);
    table.extend(VERBS.iter().flat_map(|v| options_of_tables(&[v.options])));
    // The shell form's own.
    table.insert("-c".into());
    same(&page, &table);
    Ok(())
}

#[test]
fn verbs_of_queue_1() -> Result<()> {
    let page = arguments(&page("queue.1")?, "Cm");
    for v in VERBS {
        ensure!(page.contains(v.name), "{} is not in the manual page", v.name);
        let shown = options_of_help(&help("queue", &[v.name])?);
        ensure!(
            shown == options_of_tables(&[v.options]),
            "queue {} --help: {shown:?}",
            v.name
        );
    }
    Ok(())
}

#[test]
fn qsh_1() -> Result<()> {
    let mut table = options_of_tables(&[RSH, QSH]);
    table.extend(words(&["--no-stdin", "--tee", "--escape", "--help", "--version"]));
    same(&options_of_page(&page("qsh.1")?), &table);
    Ok(())
}

#[test]
fn help_of_queue_names_what_its_parser_knows() -> Result<()> {
    let shown = options_of_help(&help("queue", &[])?);
    for o in options_of_tables(&[LAUNCH, BATCH]) {
        assert!(shown.contains(&o), "{o} is not in queue --help");
    }
    let known = options_of_tables(&[LAUNCH, BATCH, LATER, RSH, QSH]);
    assert!(shown.difference(&known).all(|o| o == "-c"), "{shown:?}");
    Ok(())
}

#[test]
fn queued_8() -> Result<()> {
    let mut shown = options_of_help(&help("queued", &[])?);
    for verb in ["init", "token", "join", "run", "check", "upgrade"] {
        shown.extend(options_of_help(&help("queued", &[verb])?));
    }
    // clap's short forms of --help and --version.
    for short in ["-h", "-V"] {
        shown.remove(short);
    }
    same(&options_of_page(&page("queued.8")?), &shown);
    Ok(())
}

#[test]
fn queue_exec_8() -> Result<()> {
    let mut page = options_of_page(&page("queue-exec.8")?);
    // Of the other programs that it refers to.
    for other in ["-l", "--vouch"] {
        page.remove(other);
    }
    // It has several options on its last line.
    let shown = help("queue-exec", &[])?;
    let shown: Words = shown
        .split([' ', ',', '\n'])
        .filter(|w| w.starts_with("--"))
        .map(str::to_owned)
        .collect();
    same(&page, &shown);
    Ok(())
}

#[test]
fn exec_conf() -> Result<()> {
    use queue_exec::policy::Policy;
    let page = page("queue-exec.8")?;
    let (_, section) = page
        .split_once(".Ss exec.conf")
        .context("no section on exec.conf")?;
    let entries: String = section
        .lines()
        .filter(|l| l.starts_with(".It Ic"))
        .fold(String::new(), |a, l| a + l + "\n");
    // The parser is asked about each word that occurs in its source.
    let source = include_str!("../../queue-exec/src/policy.rs");
    let candidates = source
        .split(|c: char| !(c.is_ascii_lowercase() || c == '-'))
        .filter(|w| w.len() > 1);
    let unknown = |w: &str| Policy::parse(w, Path::new("x")).is_err_and(|e| e.text.contains("unknown word"));
    ensure!(
        unknown("no-such-word"),
        "the error for an unknown word has changed"
    );
    let known: Words = candidates
        .filter(|w| !w.starts_with('-') && !unknown(w))
        .map(str::to_owned)
        .collect();
    same(&arguments(&entries, "Ic"), &known);
    Ok(())
}

#[test]
fn queued_toml_5() -> Result<()> {
    use libqueue::config::Config;
    let e = Config::parse("no-such-key = 1", Path::new("x"))
        .err()
        .context("an unknown key was taken")?;
    let (_, list) = e.text.split_once("expected").with_context(|| e.text.clone())?;
    let words = |list: &str| -> Words { list.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let mut known = words(list);
    // A table has keys of its own.
    known.remove("mail");
    let e = Config::parse("[mail]\nno-such-key = 1", Path::new("x"))
        .err()
        .context("an unknown key of [mail] was taken")?;
    let (_, list) = e.text.split_once("expected").with_context(|| e.text.clone())?;
    known.extend(words(list));
    same(&arguments(&page("queued.toml.5")?, "Ic"), &known);
    Ok(())
}

#[test]
fn examples_are_valid() -> Result<()> {
    let exec = fs::read_to_string(top().join("contrib/exec.conf"))?;
    let toml = fs::read_to_string(top().join("contrib/queued.toml"))?;
    // As they stand, and with every line that is commented out switched on.
    let on = |text: &str| {
        text.lines()
            .map(|l| {
                l.strip_prefix("#")
                    .filter(|l| !l.starts_with(' '))
                    .unwrap_or(l)
                    .to_owned()
                    + "\n"
            })
            .collect::<String>()
    };
    for text in [exec.clone(), on(&exec)] {
        queue_exec::policy::Policy::parse(&text, Path::new("contrib/exec.conf"))?;
    }
    // One of two ways to send mail.
    let one_way: String = toml
        .lines()
        .filter(|l| !l.starts_with("#sendmail"))
        .fold(String::new(), |a, l| a + l + "\n");
    for text in [toml, on(&one_way)] {
        libqueue::config::Config::parse(&text, Path::new("contrib/queued.toml"))?;
    }
    Ok(())
}
