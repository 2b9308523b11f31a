//! Which of the jobs that ended are wanted, and what their owners let others see.

use super::JobRow;
use super::source::{Record, in_range};
use crate::engine::jobs::types::Asker;
use libqueue::job::{in_words, is_over};
use libqueue::wire::job::{Cause, History, Outcome, Selection, State};

/// Whether a text is like a pattern in which `*` is any text and `?` any character.
pub(super) fn like(pattern: &str, text: &str) -> bool {
    let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut i, mut j, mut star) = (0, 0, None);
    while j < t.len() {
        match p.get(i) {
            Some('*') => {
                star = Some((i, j));
                i += 1;
            }
            Some(c) if *c == '?' || *c == t[j] => {
                i += 1;
                j += 1;
            }
            _ => match &mut star {
                // The last star takes one character more.
                Some((s, from)) => {
                    *from += 1;
                    (i, j) = (*s + 1, *from);
                }
                None => return false,
            },
        }
    }
    p[i..].iter().all(|c| *c == '*')
}

/// Whether the asker may see commands and output of this owner.
pub(super) fn private(who: &Asker, owner: &str) -> bool {
    who.operator || who.user == owner
}

/// Takes what others may not see out of an outcome.
pub(super) fn veil(mut o: Outcome) -> Outcome {
    o.head.clear();
    o.tail.clear();
    o.output.clear();
    o.error.clear();
    o
}

/// State of an attempt that has ended.
pub(super) fn attempt_state(o: &Outcome) -> State {
    match Cause::try_from(o.cause) {
        Ok(Cause::Exited) if o.code == Some(0) => State::Done,
        Ok(Cause::Killed) => State::Killed,
        _ => State::Failed,
    }
}

/// Conditions of a search.
#[derive(Debug)]
pub(super) struct Filter<'a> {
    who: &'a Asker,
    which: Selection,
    words: Vec<String>,
}

impl<'a> Filter<'a> {
    /// Of a question.
    pub(super) fn new(who: &'a Asker, ask: &History) -> Self {
        let mut which = ask.which.clone().unwrap_or_default();
        if which.all && which.user.is_empty() && !who.operator {
            which.user.clone_from(&who.user);
        }
        Self {
            who,
            which,
            words: ask.text.split_whitespace().map(str::to_lowercase).collect(),
        }
    }

    /// Only jobs of this user; empty: of all.
    pub(super) fn owner(&self) -> &str {
        &self.which.user
    }

    /// Whether a look at the attempt is needed.
    pub(super) fn deep(&self) -> bool {
        !self.words.is_empty() || !self.which.host.is_empty()
    }

    /// Whether a job is wanted, as far as its own row tells. `state` is that of the job or attempt.
    pub(super) fn job(&self, j: &JobRow, task: Option<u32>, state: i32) -> bool {
        let w = &self.which;
        let name = |pattern: &str, name: &str| pattern.is_empty() || like(pattern, name);
        let number = w.ids.is_empty()
            || w.ids.iter().any(|r| {
                let tasks = r.tasks.as_ref().filter(|_| task.is_some());
                (r.from..=r.to).contains(&j.id) && in_range(tasks, task.unwrap_or(0))
            });
        number
            && (w.user.is_empty() || w.user == j.owner)
            && name(&w.name, &j.plan.name)
            && name(&w.group, &j.plan.group)
            && (w.class.is_empty() || w.class == j.plan.class)
            && (w.states.is_empty() || w.states.contains(&state))
            && w.words
                .iter()
                .all(|x| like(x, &j.plan.name) || like(x, &j.plan.group))
    }

    /// Whether it is wanted, by its attempt and the words that must occur.
    pub(super) fn attempt(&self, j: &JobRow, last: Option<&Record>) -> bool {
        let host = last.map_or("", |r| &r.row.host);
        if !self.which.host.is_empty() && self.which.host != host {
            return false;
        }
        let private = private(self.who, &j.owner);
        let mut places = vec![
            j.plan.name.to_lowercase(),
            j.plan.group.to_lowercase(),
            j.reason.to_lowercase(),
        ];
        if private {
            places.push(j.command.to_lowercase());
        }
        if let Some(o) = last.and_then(|r| r.outcome.as_ref()) {
            places.push(in_words(o).to_lowercase());
            if private {
                places.push(String::from_utf8_lossy(&o.head).to_lowercase());
                places.push(String::from_utf8_lossy(&o.tail).to_lowercase());
            }
        }
        self.words.iter().all(|w| places.iter().any(|p| p.contains(w)))
    }
}

/// Whether this is a state in which nothing more happens by itself.
pub(super) fn ended(state: i32) -> bool {
    State::try_from(state).is_ok_and(|s| is_over(s) || s == State::Buried)
}

#[cfg(test)]
mod tests {
    use super::like;

    #[test]
    fn patterns() {
        for (p, t) in [
            ("*", ""),
            ("a*c", "abbc"),
            ("a*c", "ac"),
            ("?b*", "abc"),
            ("*.fa", "x.fa.fa"),
            ("", ""),
        ] {
            assert!(like(p, t), "{p} {t}");
        }
        for (p, t) in [("a", ""), ("a*c", "abd"), ("?", "ab"), ("", "a"), ("*a?", "a")] {
            assert!(!like(p, t), "{p} {t}");
        }
    }
}
