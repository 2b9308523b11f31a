//! The language of `-R`: what must hold for a host, as in `raid>=200G && arch==x86_64`.
//!
//! ```text
//! expression   and { || and }
//! and          not { && not }          a comma is the same as &&
//! not          ! not | ( expression ) | name | name OP value
//! OP           ==  !=  >=  <=  >  <  ~      a single = is the same as ==
//! ```
//!
//! - A name alone: the host has it, and it is not `0`, `no` or `false`.
//! - A value is a number, a size (`200G`), a word or a text in quotes (`"..."` or `'...'`, a backslash takes the next
//!   character as it is).
//! - Where one side has a unit, or both are whole numbers, or the host's value is a figure, numbers are compared.
//!   Otherwise `==` and `!=` compare texts, and the others compare version by version part: `6.9` is before `6.12`.
//! - `~` compares with a pattern of the shell: `*`, `?`, `[a-z]`, `[^a-z]`.
//! - A name that the host does not have makes every comparison false, `!=` too.
//!
//! Knows no names: what a host has, a function says (`resources.rs`).

use crate::size;
use std::cmp::Ordering;
use std::fmt;

mod glob;
mod read;

/// Longest expression.
pub const LEN_MAX: usize = 1024;
/// Parentheses and `!` within each other.
pub const DEPTH_MAX: usize = 32;

/// What a host has under a name.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A figure.
    Number(f64),
    /// A word, or a size as somebody wrote it.
    Text(String),
}

/// What is known of a name, for [`Expr::judge`].
#[derive(Debug, Clone, PartialEq)]
pub enum Sight {
    /// The host does not have it.
    Absent,
    /// It has this.
    Is(Value),
    /// A figure that changes, and never is above this.
    AtMost(f64),
}

impl From<Option<Value>> for Sight {
    fn from(v: Option<Value>) -> Self {
        v.map_or(Self::Absent, Self::Is)
    }
}

/// An expression that was understood. Shown as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expr {
    text: String,
    node: Node,
}

/// Why a text is no expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExprError {
    /// Where, in characters from 1.
    pub column: usize,
    /// What is wrong and what is allowed, in one line.
    pub text: String,
}

impl fmt::Display for ExprError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column, self.text)
    }
}

impl std::error::Error for ExprError {}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Eq,
    Ne,
    Ge,
    Le,
    Gt,
    Lt,
    Glob,
}

impl Op {
    fn text(self) -> &'static str {
        match self {
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Ge => ">=",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Lt => "<",
            Self::Glob => "~",
        }
    }

    /// Whether it holds for values that are so ordered. Never asked of `~`.
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Eq | Self::Glob => order.is_eq(),
            Self::Ne => order.is_ne(),
            Self::Ge => order.is_ge(),
            Self::Le => order.is_le(),
            Self::Gt => order.is_gt(),
            Self::Lt => order.is_lt(),
        }
    }
}

/// A part of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Has(String),
    Compare(String, Op, String),
    Not(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
}

/// What is looked at.
type Look<'a> = &'a dyn Fn(&str) -> Sight;

impl Expr {
    /// Reads an expression.
    ///
    /// # Errors
    /// Where it stops making sense, and what is allowed there.
    pub fn parse(text: &str) -> Result<Self, ExprError> {
        Ok(Self {
            text: text.trim().to_owned(),
            node: read::read(text)?,
        })
    }

    /// Whether it holds for a host that has what `look` says.
    pub fn holds(&self, look: &dyn Fn(&str) -> Option<Value>) -> bool {
        self.judge(&|name| look(name).into()) == Some(true)
    }

    /// The first part that does not hold, for people: `raid>=200G: raid is 100G`. `None` if all of it holds.
    pub fn missing(&self, look: &dyn Fn(&str) -> Option<Value>) -> Option<String> {
        self.refused(&|name| look(name).into())
    }

    /// Whether it holds, where some figures change: `None` if it may hold at times.
    pub fn judge(&self, look: &dyn Fn(&str) -> Sight) -> Option<bool> {
        self.node.judge(look)
    }

    /// The first part that can never hold; `None` if all of it may.
    pub fn refused(&self, look: &dyn Fn(&str) -> Sight) -> Option<String> {
        self.node.refused(look)
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::str::FromStr for Expr {
    type Err = ExprError;

    fn from_str(text: &str) -> Result<Self, ExprError> {
        Self::parse(text)
    }
}

impl Node {
    fn judge(&self, look: Look<'_>) -> Option<bool> {
        match self {
            Self::Has(name) => match look(name) {
                Sight::Absent => Some(false),
                Sight::Is(v) => Some(v.is_something()),
                Sight::AtMost(most) => (most <= 0.0).then_some(false),
            },
            Self::Compare(name, op, value) => match look(name) {
                Sight::Absent => Some(false),
                Sight::Is(v) => Some(v.compare(*op, value)),
                Sight::AtMost(most) => at_most(most, *op, value),
            },
            Self::Not(n) => n.judge(look).map(|b| !b),
            // Certain as soon as one part decides, and only if no part is open otherwise.
            Self::And(all) => fold(all, look, false),
            Self::Or(any) => fold(any, look, true),
        }
    }

    fn refused(&self, look: Look<'_>) -> Option<String> {
        if self.judge(look) != Some(false) {
            return None;
        }
        if let Self::And(all) = self {
            return all.iter().find_map(|n| n.refused(look));
        }
        Some(format!("{self}: {}", self.reason(look)))
    }

    /// Why it does not hold, for people.
    fn reason(&self, look: Look<'_>) -> String {
        match self {
            Self::Has(name) => said(name, None, &look(name)),
            Self::Compare(name, _, value) => said(name, Some(value), &look(name)),
            Self::Not(n) => match &**n {
                Self::Has(_) | Self::Compare(..) => n.reason(look),
                other => format!("{other} holds"),
            },
            Self::And(all) => {
                let first = all.iter().find(|n| n.judge(look) == Some(false));
                first.map_or_else(String::new, |n| n.reason(look))
            }
            Self::Or(any) => {
                let mut reasons: Vec<String> = Vec::new();
                for r in any.iter().map(|n| n.reason(look)) {
                    if !reasons.contains(&r) {
                        reasons.push(r);
                    }
                }
                reasons.join(", ")
            }
        }
    }
}

/// The verdict on several parts, where one that is `decides` decides.
fn fold(parts: &[Node], look: Look<'_>, decides: bool) -> Option<bool> {
    let mut open = false;
    for p in parts {
        match p.judge(look) {
            Some(b) if b == decides => return Some(decides),
            Some(_) => {}
            None => open = true,
        }
    }
    (!open).then_some(!decides)
}

/// What a host has under a name, for people.
fn said(name: &str, value: Option<&str>, sight: &Sight) -> String {
    // Where somebody asked with a unit, he is answered with one.
    let unit = value.and_then(size::split).is_some_and(|q| q.has_unit());
    let number = |v: f64| match unit && (0.0..1.8e19).contains(&v) {
        true => size::show(v as u64),
        false => figure(v),
    };
    match sight {
        Sight::Absent => format!("there is no {name}"),
        Sight::Is(Value::Number(v)) => format!("{name} is {}", number(*v)),
        Sight::Is(Value::Text(t)) => format!("{name} is {t}"),
        Sight::AtMost(v) => format!("{name} is {} at most", number(*v)),
    }
}

/// A figure for people: at most two digits of a fraction.
fn figure(v: f64) -> String {
    if v.fract() == 0.0 {
        format!("{v:.0}")
    } else {
        format!("{v:.2}")
    }
}

/// Whether a comparison with a figure that changes can hold: `Some(false)` if never.
fn at_most(most: f64, op: Op, value: &str) -> Option<bool> {
    let Some(v) = size::split(value).map(|q| q.value()) else {
        return (op != Op::Glob).then_some(op == Op::Ne);
    };
    let never = match op {
        Op::Ge | Op::Eq => v > most,
        Op::Gt => v >= most,
        Op::Lt => v <= 0.0,
        Op::Le | Op::Ne | Op::Glob => false,
    };
    never.then_some(false)
}

impl Value {
    fn is_something(&self) -> bool {
        match self {
            Self::Number(n) => *n != 0.0,
            Self::Text(t) => {
                !matches!(t.as_str(), "" | "no" | "false") && size::split(t).is_none_or(|q| q.value() != 0.0)
            }
        }
    }

    fn compare(&self, op: Op, value: &str) -> bool {
        let asked = size::split(value);
        if op == Op::Glob {
            return match self {
                Self::Number(n) => glob::matches(value, &figure(*n)),
                Self::Text(t) => glob::matches(value, t),
            };
        }
        let text = match self {
            Self::Number(n) => {
                return match asked {
                    Some(q) => n.partial_cmp(&q.value()).is_some_and(|o| op.holds(o)),
                    // A figure is unlike any word.
                    None => op == Op::Ne,
                };
            }
            Self::Text(t) => t,
        };
        if let (Some(has), Some(asked)) = (size::split(text), asked) {
            let whole = !has.has_fraction() && !asked.has_fraction();
            if whole || has.has_unit() || asked.has_unit() {
                return op.holds(has.value().total_cmp(&asked.value()));
            }
        }
        match op {
            Op::Eq => text == value,
            Op::Ne => text != value,
            _ => op.holds(versions(text, value)),
        }
    }
}

/// Compares two versions part by part: runs of digits as numbers, the rest as text. Dots and dashes only part.
fn versions(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (parts(a), parts(b));
    loop {
        return match (a.next(), b.next()) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(x), Some(y)) => {
                let order = match (is_number(x), is_number(y)) {
                    (true, true) => {
                        let (x, y) = (x.trim_start_matches('0'), y.trim_start_matches('0'));
                        x.len().cmp(&y.len()).then_with(|| x.cmp(y))
                    }
                    _ => x.cmp(y),
                };
                match order {
                    Ordering::Equal => continue,
                    other => other,
                }
            }
        };
    }
}

fn is_number(part: &str) -> bool {
    part.starts_with(|c: char| c.is_ascii_digit())
}

/// Runs of digits and runs of letters.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(|c: char| !c.is_alphanumeric());
        let digit = is_number(rest);
        let end = rest
            .find(|c: char| !c.is_alphanumeric() || c.is_ascii_digit() != digit)
            .unwrap_or(rest.len());
        let part;
        (part, rest) = rest.split_at(end);
        (!part.is_empty()).then_some(part)
    })
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, parts: &[Self], word: &str| {
            for (i, p) in parts.iter().enumerate() {
                if i > 0 {
                    write!(f, " {word} ")?;
                }
                match p {
                    Self::And(_) | Self::Or(_) => write!(f, "({p})")?,
                    _ => write!(f, "{p}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::Has(name) => f.write_str(name),
            Self::Compare(name, op, value) => {
                write!(f, "{name}{}", op.text())?;
                if !value.is_empty() && value.chars().all(read::is_word) {
                    return f.write_str(value);
                }
                f.write_str("\"")?;
                for c in value.chars() {
                    if matches!(c, '"' | '\\') {
                        f.write_str("\\")?;
                    }
                    write!(f, "{c}")?;
                }
                f.write_str("\"")
            }
            Self::Not(n) => match &**n {
                Self::Has(_) => write!(f, "!{n}"),
                _ => write!(f, "!({n})"),
            },
            Self::And(all) => list(f, all, "&&"),
            Self::Or(any) => list(f, any, "||"),
        }
    }
}

#[cfg(test)]
mod tests;
