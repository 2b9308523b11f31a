//! Reads the text of an expression.

use super::{DEPTH_MAX, ExprError, LEN_MAX, Node, Op};

/// What a value may be made of without quotes.
pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || "_.-+/:@%*?[]^#".contains(c)
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// Reads all of it.
pub(super) fn read(text: &str) -> Result<Node, ExprError> {
    if text.len() > LEN_MAX {
        return Err(ExprError {
            column: 1,
            text: format!("the expression is too long: at most {LEN_MAX} bytes"),
        });
    }
    let mut r = Reader {
        text: text.chars().collect(),
        at: 0,
        depth: 0,
    };
    let node = r.any()?;
    match r.peek() {
        None => Ok(node),
        Some(')') => Err(r.error("this ) closes nothing")),
        Some(c) => Err(r.error(&format!(
            "{c:?} is not expected here: use && || == != >= <= > < ~"
        ))),
    }
}

struct Reader {
    text: Vec<char>,
    at: usize,
    depth: usize,
}

impl Reader {
    fn error(&self, text: &str) -> ExprError {
        ExprError {
            column: self.at + 1,
            text: text.to_owned(),
        }
    }

    /// The next character that is no space.
    fn peek(&mut self) -> Option<char> {
        while self.text.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    /// Takes these characters if they come next.
    fn take(&mut self, word: &str) -> bool {
        self.peek();
        let n = word.chars().count();
        let here = self.text.get(self.at..self.at + n);
        let found = here.is_some_and(|h| h.iter().copied().eq(word.chars()));
        if found {
            self.at += n;
        }
        found
    }

    /// Takes characters as long as they are such.
    fn run(&mut self, such: fn(char) -> bool) -> String {
        let from = self.at;
        while self.text.get(self.at).is_some_and(|c| such(*c)) {
            self.at += 1;
        }
        self.text[from..self.at].iter().collect()
    }

    fn any(&mut self) -> Result<Node, ExprError> {
        let first = self.all()?;
        let mut parts = vec![first];
        while self.take("||") {
            parts.push(self.all()?);
        }
        Ok(one_or(parts, Node::Or))
    }

    fn all(&mut self) -> Result<Node, ExprError> {
        let first = self.not()?;
        let mut parts = vec![first];
        while self.take("&&") || self.take(",") {
            parts.push(self.not()?);
        }
        Ok(one_or(parts, Node::And))
    }

    fn not(&mut self) -> Result<Node, ExprError> {
        let deeper = |r: &mut Self| {
            r.depth += 1;
            if r.depth > DEPTH_MAX {
                return Err(r.error(&format!(
                    "too deep: at most {DEPTH_MAX} ( and ! within each other"
                )));
            }
            Ok(())
        };
        if self.take("!") {
            deeper(self)?;
            let node = Node::Not(Box::new(self.not()?));
            self.depth -= 1;
            return Ok(node);
        }
        if self.take("(") {
            deeper(self)?;
            let node = self.any()?;
            if !self.take(")") {
                return Err(self.error("a ) is missing"));
            }
            self.depth -= 1;
            return Ok(node);
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Node, ExprError> {
        match self.peek() {
            Some(c) if c.is_ascii_alphabetic() || c == '_' => {}
            Some(c) => {
                return Err(self.error(&format!(
                    "{c:?} is not expected here: write a name, as in mem>=4G, !name or ( )"
                )));
            }
            None => return Err(self.error("a name is missing here, as in mem>=4G")),
        }
        let name = self.run(is_name);
        let ops = [
            ("==", Op::Eq),
            ("!=", Op::Ne),
            (">=", Op::Ge),
            ("<=", Op::Le),
            (">", Op::Gt),
            ("<", Op::Lt),
            ("=", Op::Eq),
            ("~", Op::Glob),
        ];
        let Some((_, op)) = ops.into_iter().find(|(text, _)| self.take(text)) else {
            return Ok(Node::Has(name));
        };
        Ok(Node::Compare(name, op, self.value()?))
    }

    fn value(&mut self) -> Result<String, ExprError> {
        match self.peek() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote),
            Some(c) if is_word(c) => Ok(self.run(is_word)),
            Some(c) => Err(self.error(&format!(
                "{c:?} is not expected here: write a number, a size as 200G, a word, or \"a text\""
            ))),
            None => {
                Err(self.error("a value is missing here: a number, a size as 200G, a word, or \"a text\""))
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, ExprError> {
        let start = self.at;
        self.at += 1;
        let mut value = String::new();
        while let Some(c) = self.text.get(self.at).copied() {
            self.at += 1;
            match c {
                c if c == quote => return Ok(value),
                '\\' => {
                    value.extend(self.text.get(self.at));
                    self.at += 1;
                }
                c => value.push(c),
            }
        }
        self.at = start;
        Err(self.error(&format!("this {quote} is never closed")))
    }
}

/// Several parts, or the only one itself.
fn one_or(mut parts: Vec<Node>, several: fn(Vec<Node>) -> Node) -> Node {
    match parts.len() {
        1 => parts.remove(0),
        _ => several(parts),
    }
}
