//! Who may see, end and drain everything on this host: the key `operators` of `queued.toml`, as queue-exec reads
//! it. Pure but for [`Operators::load`].
//!
//! The file is the daemon's, in TOML. Only this one key is read here, at its top level, by a reader that knows
//! just enough of the format to step over the others: less to go wrong in a root process than a whole TOML
//! library. What it does not understand it refuses, and there are no operators but root then.
//!
//! ```text
//! operators = "alice"
//! operators = ["alice", '@wheel']     # @: a group
//! ```

use crate::cert::USER_MAX;
use crate::policy::{PolicyError, read_trusted};
use std::collections::BTreeSet;
use std::path::Path;

const KEY: &str = "operators";
/// Most names.
const NAMES_MAX: usize = 1024;

/// Users and groups of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operators {
    users: BTreeSet<String>,
    groups: BTreeSet<String>,
}

impl Operators {
    /// Reads the file; nobody if there is none, or no such key in it. It must belong to root, or to the caller in
    /// a single-user install, and nobody else may be able to change it.
    ///
    /// # Errors
    /// What is wrong, with file and line.
    pub fn load(file: &Path) -> Result<Self, PolicyError> {
        match read_trusted(file)? {
            Some(text) => Self::parse(&text, file),
            None => Ok(Self::default()),
        }
    }

    /// Reads the text of `queued.toml`; `file` is for errors only.
    ///
    /// # Errors
    /// The first thing wrong, with its line.
    pub fn parse(text: &str, file: &Path) -> Result<Self, PolicyError> {
        let mut scanner = Scanner { text, at: 0 };
        let wrong = |line, text| PolicyError {
            file: file.to_owned(),
            line,
            text,
        };
        let names = scanner.find().map_err(|text| wrong(scanner.line(), text))?;
        let Some((names, line)) = names else {
            return Ok(Self::default());
        };
        let mut o = Self::default();
        for name in names {
            let (set, plain) = match name.strip_prefix('@') {
                Some(group) => (&mut o.groups, group),
                None => (&mut o.users, name.as_str()),
            };
            let odd = |c: char| {
                c.is_control() || c.is_whitespace() || matches!(c, ':' | '/' | ',' | '@' | '*' | '\\')
            };
            if plain.is_empty() || plain.len() > USER_MAX || plain.contains(odd) {
                let text = format!("{KEY}: {name:?} is no name of a user, or of a group with @ before it");
                return Err(wrong(line, text));
            }
            set.insert(plain.to_owned());
        }
        Ok(o)
    }

    /// Whether the user is named himself.
    pub fn names(&self, user: &str) -> bool {
        self.users.contains(user)
    }

    /// Whether one of these groups is named.
    pub fn names_group(&self, groups: &[String]) -> bool {
        groups.iter().any(|g| self.groups.contains(g))
    }

    /// Whether it matters in which groups somebody is.
    pub fn has_groups(&self) -> bool {
        !self.groups.is_empty()
    }
}

/// Steps through TOML.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

type Wrong = String;

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn next(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Where it is, counted from 1.
    fn line(&self) -> usize {
        1 + self.text[..self.at].matches('\n').count()
    }

    fn take(&mut self, word: &str) -> bool {
        let is = self.rest().starts_with(word);
        if is {
            self.at += word.len();
        }
        is
    }

    fn take_while(&mut self, mut ok: impl FnMut(char) -> bool) -> &'a str {
        let rest = self.rest();
        let n = rest.find(|c| !ok(c)).unwrap_or(rest.len());
        self.at += n;
        &rest[..n]
    }

    /// Spaces, and with `lines` also ends of lines and comments.
    fn space(&mut self, lines: bool) {
        loop {
            self.take_while(|c| c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r')));
            if !lines || self.next() != Some('#') {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    /// The names, and the line they begin in.
    fn find(&mut self) -> Result<Option<(Vec<String>, usize)>, Wrong> {
        let mut found = None;
        self.take("\u{feff}");
        loop {
            self.space(true);
            // The keys of the top level come before the first table.
            if matches!(self.next(), None | Some('[')) {
                return Ok(found);
            }
            let key = self.key()?;
            if key.first().is_some_and(|k| k == KEY) {
                if key.len() > 1 {
                    return Err(format!("{KEY} is a name or a list of names"));
                }
                let line = self.line();
                if found.replace((self.names()?, line)).is_some() {
                    return Err(format!("{KEY} is there twice"));
                }
            } else {
                self.value()?;
            }
            self.space(false);
            if !matches!(self.next(), None | Some('\n' | '\r' | '#')) {
                return Err("expected the end of the line".to_owned());
            }
        }
    }

    /// A key with its dots and the equals sign.
    fn key(&mut self) -> Result<Vec<String>, Wrong> {
        let mut parts = Vec::new();
        loop {
            self.space(false);
            let part = if matches!(self.next(), Some('"' | '\'')) {
                self.string()?
            } else {
                self.take_while(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
                    .to_owned()
            };
            parts.push(part);
            self.space(false);
            if self.take("=") {
                self.space(false);
                return Ok(parts);
            }
            if !self.take(".") {
                return Err("expected: key = value".to_owned());
            }
        }
    }

    /// One string, or an array of strings.
    fn names(&mut self) -> Result<Vec<String>, Wrong> {
        let wrong = || format!("{KEY}: expected a name in quotes, or several of them in brackets");
        let mut names = Vec::new();
        let list = self.take("[");
        loop {
            self.space(list);
            if list && self.take("]") {
                return Ok(names);
            }
            if !matches!(self.next(), Some('"' | '\'')) {
                return Err(wrong());
            }
            names.push(self.string()?);
            if !list {
                return Ok(names);
            }
            if names.len() > NAMES_MAX {
                return Err(format!("{KEY}: more than {NAMES_MAX} names"));
            }
            self.space(true);
            if !self.take(",") && self.next() != Some(']') {
                return Err(wrong());
            }
        }
    }

    /// A string of any of the four kinds. What stands behind a backslash is taken over as it is written: no name
    /// has one.
    fn string(&mut self) -> Result<String, Wrong> {
        let open = || "a string has no end".to_owned();
        let kinds = [
            (r#"""""#, false, true),
            ("'''", true, true),
            ("\"", false, false),
            ("'", true, false),
        ];
        for (quote, raw, lines) in kinds {
            if !self.take(quote) {
                continue;
            }
            if lines && !self.take("\n") {
                self.take("\r\n");
            }
            let begin = self.at;
            loop {
                if self.rest().starts_with(quote) {
                    // Up to two quotes may stand right before the closing ones.
                    while lines && self.rest()[1..].starts_with(quote) {
                        self.at += 1;
                    }
                    let s = self.text[begin..self.at].to_owned();
                    self.at += quote.len();
                    return Ok(s);
                }
                match self.next() {
                    None => return Err(open()),
                    Some('\n') if !lines => return Err(open()),
                    Some('\\') if !raw => {
                        self.at += 1;
                        self.at += self.next().map_or(0, char::len_utf8);
                    }
                    Some(c) => self.at += c.len_utf8(),
                }
            }
        }
        Err("expected a string".to_owned())
    }

    /// Steps over any value.
    fn value(&mut self) -> Result<(), Wrong> {
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '_' | '.' | ':');
        let mut depth = 0usize;
        loop {
            self.space(depth > 0);
            match self.next() {
                Some('"' | '\'') => drop(self.string()?),
                Some('[' | '{') => {
                    depth += 1;
                    self.at += 1;
                }
                Some(']' | '}') if depth > 0 => {
                    depth -= 1;
                    self.at += 1;
                }
                Some(',' | '=') if depth > 0 => self.at += 1,
                Some(c) if word(c) => drop(self.take_while(word)),
                _ => return Err("expected a value".to_owned()),
            }
            // A date may have a space before its time.
            let time = self.rest().strip_prefix(' ');
            if depth == 0 && !time.is_some_and(|t| t.starts_with(|c: char| c.is_ascii_digit())) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Names = (Vec<String>, Vec<String>);

    fn parse(text: &str) -> Result<Names, String> {
        Operators::parse(text, Path::new("queued.toml"))
            .map(|o| (o.users.into_iter().collect(), o.groups.into_iter().collect()))
            .map_err(|e| e.to_string())
    }

    fn of(users: &[&str], groups: &[&str]) -> Result<Names, String> {
        let own = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
        Ok((own(users), own(groups)))
    }

    #[test]
    fn finds_the_one_key_whatever_stands_around_it() {
        assert_eq!(parse(""), of(&[], &[]));
        assert_eq!(parse("operators = \"alice\""), of(&["alice"], &[]));
        assert_eq!(parse("operators='@wheel' # them"), of(&[], &["wheel"]));
        assert_eq!(parse("\"operators\" = []\r\nport = 7\r\n"), of(&[], &[]));
        let lines =
            "'operators' = [ # who\n  \"alice\", # her\n\n  '''@wheel''' ,\n  \"\"\"\nbob\"\"\",\n]\n";
        assert_eq!(parse(lines), of(&["alice", "bob"], &["wheel"]));
        let around = r##"
# operators = "mallory"
name = "operators = 'mallory' \" # not" # a comment
listen = ["::1", '127.0.0.1', ["#]"], ]
note = """
operators = "mallory"
""""
raw = '''
operators = 'mallory\'''
dotted."ke.y" . x = { a = 1, b = [true, -1.5e3, 0x1f], c = "}" }
when = 1979-05-27 07:32:00.5Z
at = 07:32:00
port = 7_838
operators = [ "alice" ]
power = +inf

[resources]
operators = "mallory"
"##;
        assert_eq!(parse(around), of(&["alice"], &[]));
        assert_eq!(parse(&around.replace('\n', "\r\n")), of(&["alice"], &[]));
        let table = "[a]\noperators = \"mallory\"\nwhat ever";
        assert_eq!(parse(table), of(&[], &[]));
    }

    #[test]
    fn what_it_does_not_understand_makes_nobody_an_operator() {
        for (line, bad) in [
            (1, "operators = alice"),
            (1, "operators = [alice]"),
            (1, "operators = [\"alice\" \"bob\"]"),
            (1, "operators = [\"alice\", [\"bob\"]]"),
            (1, "operators = { a = \"alice\" }"),
            (1, "operators = 1"),
            (1, "operators.a = \"alice\""),
            (1, "operators = \"alice"),
            (1, "operators = \"alice\nbob\""),
            (1, "operators = \"al\\u0069ce\""),
            (1, "operators = \"*\""),
            (1, "operators = \"\""),
            (1, "operators = \"@\""),
            (1, "operators = \"a b\""),
            (1, "operators = \"alice\" \"bob\""),
            (2, "operators = \"alice\"\noperators = \"bob\""),
            (3, "\n\nport 7\noperators = \"alice\""),
            (2, "port = 7\n= = 8\noperators = \"alice\""),
            (2, "operators = [\n\"alice\""),
            (1, "port = 7 operators = \"alice\""),
            (1, "port = \noperators = \"alice\""),
            (1, "name = \"\"\" operators = \"alice\""),
            (1, "port = ]\noperators = \"alice\""),
        ] {
            let e = parse(bad).unwrap_err();
            assert!(e.starts_with(&format!("queued.toml:{line}: ")), "{bad:?}: {e}");
        }
        let long = format!("operators = [{}]", "\"a\",".repeat(NAMES_MAX + 1));
        assert!(parse(&long).unwrap_err().contains("more than"));
        assert!(parse(&format!("operators = \"{}\"", "a".repeat(USER_MAX + 1))).is_err());
    }

    #[test]
    fn any_text_comes_to_an_end() {
        let text = "a=\"x\\\"\"\noperators=['b',\"\"\"c\"\"\"]\nd={e=[1,{f='#'}]}\n#g\n[h]";
        for from in 0..text.len() {
            for to in from..=text.len() {
                let _ = parse(&text[from..to]);
            }
        }
        let _ = parse(&format!("a = {}", "[{".repeat(100_000)));
    }

    #[test]
    fn names_users_and_groups() {
        let o = Operators::parse("operators = [\"alice\", \"@wheel\"]", Path::new("f")).unwrap();
        assert!(o.names("alice") && !o.names("wheel") && o.has_groups());
        assert!(o.names_group(&["users".into(), "wheel".into()]));
        assert!(!o.names_group(&["alice".into()]));
        assert!(!Operators::default().has_groups());
    }
}
