//! What a shell asks a program that is being completed, and the answer: candidates with what they mean, file names,
//! users, or that another command begins. Pure. Knows what shells do to words; not what any program takes.
//!
//! The question is the command line up to the cursor: `--shell bash [--lead TEXT] -- WORD...`, of which the last word
//! is the one that is completed (it may be empty). bash hands words over as they were typed, with their quotes; zsh
//! without; fish without but for the last one.
//!
//! The answer is made of lines, with tabs between the fields:
//!
//! | line | |
//! |---|---|
//! | `k TEXT` | so much of the word stays as it is, and is not shown (in front of all others) |
//! | `g TAG TITLE` | what follows is of this kind |
//! | `w VALUE HELP` | a candidate |
//! | `s` | nothing is put behind a candidate: the word goes on |
//! | `f` | names of files |
//! | `u` | users |
//! | `c N` | from word N on (the first is 0) it is a command line of its own |

mod quote;

use std::ffi::OsString;

/// Longest explanation, in characters.
const HELP_MAX: usize = 70;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// Takes the text that replaces the word's last piece, quoted; shows no explanations.
    Bash,
    /// Takes plain words without what stays; quotes, chooses and shows explanations itself.
    Zsh,
    /// Takes whole plain words; quotes, chooses and shows explanations itself.
    Fish,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// By whom.
    pub shell: Shell,
    /// The words without their quotes, from the program's name to the one that is completed.
    pub words: Vec<String>,
    /// The last word as it was typed.
    raw: String,
    /// bash: so much of it stands in front of the piece that is replaced.
    lead: String,
}

impl Question {
    /// Reads it; `None`: these are other words.
    pub fn read(args: &[OsString]) -> Option<Self> {
        let cut = args.iter().position(|a| a == "--")?;
        let (mut shell, mut lead) = (None, String::new());
        let mut options = args[..cut].iter();
        while let Some(o) = options.next() {
            let value = options.next()?.to_string_lossy();
            match (o.to_str()?, &*value) {
                ("--shell", "bash") => shell = Some(Shell::Bash),
                ("--shell", "zsh") => shell = Some(Shell::Zsh),
                ("--shell", "fish") => shell = Some(Shell::Fish),
                ("--lead", text) => lead = text.to_owned(),
                _ => return None,
            }
        }
        let shell = shell?;
        // What is not valid UTF-8 is nothing that we could complete; it still is a word.
        let mut words: Vec<String> = args[cut + 1..]
            .iter()
            .map(|w| w.to_string_lossy().into_owned())
            .collect();
        let raw = words.last().filter(|_| words.len() > 1)?.clone();
        let last = words.len() - 1;
        for (i, w) in words.iter_mut().enumerate() {
            if shell == Shell::Bash || (shell == Shell::Fish && i == last) {
                *w = quote::removed(w).0;
            }
        }
        Some(Self {
            shell,
            words,
            raw,
            lead,
        })
    }

    /// The word that is completed.
    pub fn word(&self) -> &str {
        self.words.last().map_or("", String::as_str)
    }

    /// Whether explanations are shown.
    pub fn wants_help(&self) -> bool {
        self.shell != Shell::Bash
    }
}

/// A candidate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Item {
    /// What the word may become, without what is kept of it.
    pub value: String,
    /// What it means, in a few words.
    pub help: String,
}

impl Item {
    /// One with an explanation.
    pub fn new(value: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            value: value.into(),
            help: help.into(),
        }
    }
}

/// Candidates of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// A short name for settings of the shell.
    pub tag: &'static str,
    /// A heading.
    pub title: &'static str,
    /// The candidates.
    pub items: Vec<Item>,
}

/// The answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// So much of the word stays as it is; the candidates are for what is behind it.
    pub keep: String,
    /// Candidates.
    pub groups: Vec<Group>,
    /// File names will do.
    pub files: bool,
    /// Names of users will do.
    pub users: bool,
    /// From this word on it is a command line of its own.
    pub command: Option<usize>,
    /// Nothing is put behind a candidate.
    pub open: bool,
}

impl Answer {
    /// With these candidates.
    pub fn of(tag: &'static str, title: &'static str, items: Vec<Item>) -> Self {
        Self {
            groups: vec![Group { tag, title, items }],
            ..Self::default()
        }
    }

    /// As the script of that shell reads it.
    pub fn render(&self, question: &Question) -> String {
        let mut out = String::new();
        let mut line = |fields: &[&str]| {
            out += &fields.join("\t");
            out.push('\n');
        };
        // A script that cannot take it off again would put it twice.
        if !is_harmless(&self.keep) {
            return String::new();
        }
        if !self.keep.is_empty() {
            line(&["k", &self.keep]);
        }
        if let Some(n) = self.command {
            line(&["c", &n.to_string()]);
        }
        for (set, kind) in [(self.files, "f"), (self.users, "u"), (self.open, "s")] {
            if set {
                line(&[kind]);
            }
        }
        for group in &self.groups {
            let mut first = true;
            for item in &group.items {
                let Some(value) = self.value(&item.value, question) else {
                    continue;
                };
                if std::mem::take(&mut first) {
                    line(&["g", group.tag, group.title]);
                }
                line(&["w", &value, &explanation(&item.help)]);
            }
        }
        out
    }

    /// What the shell is to put in, if it can.
    fn value(&self, value: &str, question: &Question) -> Option<String> {
        if value.is_empty() || !is_harmless(value) {
            return None;
        }
        match question.shell {
            Shell::Zsh => Some(value.to_owned()),
            Shell::Fish => Some(format!("{}{value}", self.keep)),
            Shell::Bash => {
                let whole = format!("{}{value}", self.keep);
                if !whole.starts_with(question.word()) {
                    return None;
                }
                quote::piece(&whole, &question.raw, &question.lead)
            }
        }
    }
}

/// Whether a terminal shows a text as it is: names come from others, and a shell writes what it completes.
fn is_harmless(text: &str) -> bool {
    !text.chars().any(is_harmful)
}

/// Control characters, and marks that turn the direction of writing.
fn is_harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn explanation(text: &str) -> String {
    let safe = |c: char| match c {
        '\n' | '\t' => ' ',
        c if is_harmful(c) => '?',
        c => c,
    };
    let mut chars = text.trim().chars().map(safe);
    let mut short: String = chars.by_ref().take(HELP_MAX).collect();
    if chars.next().is_some() {
        short.pop();
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(shell: &str, lead: &str, words: &[&str]) -> Question {
        let mut args: Vec<OsString> = vec!["--shell".into(), shell.into()];
        if !lead.is_empty() {
            args.extend(["--lead".into(), lead.into()]);
        }
        args.push("--".into());
        args.extend(words.iter().map(OsString::from));
        Question::read(&args).unwrap()
    }

    fn words(a: &Answer, q: &Question) -> Vec<String> {
        let text = a.render(q);
        let lines = text.lines().filter_map(|l| l.strip_prefix("w\t"));
        lines
            .map(|l| l.split('\t').next().unwrap_or_default().to_owned())
            .collect()
    }

    fn named(names: &[&str]) -> Answer {
        Answer::of("x", "y", names.iter().map(|n| Item::new(*n, "")).collect())
    }

    #[test]
    fn questions() {
        let q = ask("bash", "", &["queue", "-h", "'h 1'", "a\\ \"b"]);
        assert_eq!(q.words, ["queue", "-h", "h 1", "a b"]);
        assert_eq!((q.word(), q.wants_help()), ("a b", false));
        // Who hands over words without quotes has none to lose.
        let q = ask("zsh", "", &["queue", "it's", "\"x"]);
        assert_eq!(q.words, ["queue", "it's", "\"x"]);
        let q = ask("fish", "", &["queue", "it's", "\"x"]);
        assert_eq!(q.words, ["queue", "it's", "x"]);
        for bad in [
            &["--", "queue", ""][..],
            &["--shell", "ksh", "--", "queue", ""],
            &["--shell", "bash", "queue", ""],
            &["--shell", "bash", "--", "queue"],
            &["--shell", "bash", "--"],
            &["--shell", "--", "queue", ""],
            &["--frob", "x", "--shell", "bash", "--", "queue", ""],
        ] {
            let args: Vec<OsString> = bad.iter().map(OsString::from).collect();
            assert_eq!(Question::read(&args), None, "{bad:?}");
        }
    }

    #[test]
    fn each_shell_gets_what_it_puts_in() {
        let mut a = named(&["h1", "h 2", "k"]);
        a.keep = "--host=".into();
        assert_eq!(
            words(&a, &ask("bash", "--host=", &["queue", "--host=h"])),
            ["h1", "h\\ 2"]
        );
        assert_eq!(
            words(&a, &ask("zsh", "", &["queue", "--host=h"])),
            ["h1", "h 2", "k"]
        );
        assert_eq!(
            words(&a, &ask("fish", "", &["queue", "--host=h"])),
            ["--host=h1", "--host=h 2", "--host=k"]
        );
    }

    #[test]
    fn names_cannot_drive_a_terminal_or_break_a_line() {
        let a = Answer::of(
            "jobs",
            "jobs",
            vec![
                Item::new("a\x1b[2J", "x"),
                Item::new("a\tb", "x"),
                Item::new("a\u{202e}", "x"),
                Item::new("", "x"),
                Item::new("ab", "one\x1b]0;x\x07\ntwo\u{9b}3"),
            ],
        );
        let text = a.render(&ask("fish", "", &["queue", ""]));
        assert_eq!(text, "g\tjobs\tjobs\nw\tab\tone?]0;x? two?3\n");
        let a = Answer {
            keep: "\x1b[2J,".into(),
            ..named(&["x"])
        };
        assert_eq!(a.render(&ask("zsh", "", &["queue", "\x1b[2J,"])), "");
    }

    #[test]
    fn everything_else() {
        let a = Answer {
            keep: "-".into(),
            files: true,
            users: true,
            command: Some(3),
            open: true,
            groups: vec![Group::default()],
        };
        assert_eq!(
            a.render(&ask("zsh", "", &["queue", "-"])),
            "k\t-\nc\t3\nf\nu\ns\n"
        );
        let long = "x".repeat(200);
        assert_eq!(explanation(&long).chars().count(), HELP_MAX);
    }
}
