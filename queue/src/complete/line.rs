//! What may stand at the cursor. Pure: the words of the line in, what is wanted out.
//!
//! There is no second grammar: the word at the cursor is replaced by one that nobody types, the parsers of the
//! program read the line, and where they put that word tells what it is.

use super::look::Source;
use super::values;
use crate::args::{End, Found, Parsed, parse};
use crate::forms::{is_batch, neutral};
use crate::options::{BATCH, Id, LAUNCH, Opt, QSH, RSH, VERB_NAMES, by_letter, by_word};
use crate::verbs::table::{self, VERBS, Verb};
use crate::verbs::take_apart;
use libqueue::complete::{Group, Item};
use std::ffi::OsString;

/// Stands for the word at the cursor: no option, no verb, no number, no path.
const CURSOR: &str = "\u{1}cursor";

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// One of these.
    Words(Group),
    /// A file.
    Files,
    /// A user.
    Users,
    /// The word goes on behind what is put in.
    Open,
    /// From the word with this number on it is a command line of its own.
    Command(usize),
    /// Something that the cluster knows.
    Known(Source),
}

/// What may stand at the cursor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// So much of the word stays.
    pub keep: String,
    /// Any of these.
    pub wants: Vec<Want>,
    /// These stand there already.
    pub given: Vec<String>,
}

impl Plan {
    pub(super) fn of(wants: Vec<Want>) -> Self {
        Self {
            wants,
            ..Self::default()
        }
    }

    fn command(at: usize) -> Self {
        Self::of(vec![Want::Command(at)])
    }

    /// The same, behind a part of the word that stays.
    pub(super) fn behind(mut self, kept: &str) -> Self {
        self.keep.insert_str(0, kept);
        self
    }
}

/// The line up to the cursor; the last word is the one there, the first one the program.
pub fn plan(words: &[String]) -> Plan {
    let Some((program, args)) = words.split_first() else {
        return Plan::default();
    };
    let Some((cursor, before)) = args.split_last() else {
        return Plan::default();
    };
    let line = Line {
        before,
        cursor,
        at: 1,
    };
    let name = program.rsplit('/').next().unwrap_or_default();
    match name.trim_start_matches('-') {
        "qsh" => line.remote(),
        "queue-sh" => line.shell(),
        _ => line.queue(),
    }
}

/// Words, the last of which is at the cursor.
#[derive(Debug, Clone, Copy)]
struct Line<'a> {
    before: &'a [String],
    cursor: &'a str,
    /// The number of the first of them.
    at: usize,
}

impl Line<'_> {
    /// With the cursor's word replaced.
    fn probe(&self) -> Vec<OsString> {
        let before = self.before.iter().map(OsString::from);
        before.chain([CURSOR.into()]).collect()
    }

    /// The number of the first of the last `n` words.
    fn number(&self, n: usize) -> usize {
        (self.at + self.before.len() + 1).saturating_sub(n)
    }

    /// `queue ...`.
    fn queue(self) -> Plan {
        let probe = self.probe();
        let Ok(parsed) = parse(&probe, false) else {
            return self.recipe();
        };
        if let Some(plan) = self.value(&parsed) {
            return plan;
        }
        let has = |id| parsed.found.iter().any(|f| f.launch.is_some_and(|o| o.id == id));
        let batch = is_batch(&parsed.found);
        let only_launch = parsed.found.iter().any(|f| f.rsh.is_none() && !neutral(f));
        let only_rsh = parsed.found.iter().any(|f| f.launch.is_none());
        let number = self.number(parsed.rest.len());
        let first = match (parsed.end, parsed.rest) {
            (End::Word, [_]) => None,
            (_, [first, ..]) => Some(first.to_string_lossy()),
            (_, []) => return Plan::default(),
        };
        match (parsed.end, first) {
            (End::Word, None) => {
                let launch = LAUNCH.iter().filter(|_| !only_rsh);
                let more = BATCH.iter().filter(|_| batch);
                let rsh = RSH.iter().filter(|_| !only_launch);
                if let Some(plan) = self.option(launch.chain(more).chain(rsh), false) {
                    return plan;
                }
                if has(Id::CommandString) {
                    return Plan::of(vec![Want::Files]);
                }
                if batch {
                    return Plan::of(vec![Want::Files, dashes()]);
                }
                if only_launch {
                    return Plan::of(vec![dashes()]);
                }
                // A script, as make hands it to a shell.
                if self.cursor.contains('/') {
                    return Plan::of(vec![Want::Files]);
                }
                let verbs = parsed
                    .found
                    .iter()
                    .all(|f| f.launch.is_some_and(|o| o.id == Id::Json));
                self.first(verbs)
            }
            (End::Dashes, Some(_)) if only_rsh => self.host_or_command(&parsed),
            (End::Dashes, _) => Plan::command(number),
            (_, Some(first)) => {
                if has(Id::CommandString) {
                    Plan::of(vec![Want::Files])
                } else if batch || first.contains('/') {
                    Plan::command(number)
                } else if VERB_NAMES.contains(&&*first) {
                    let before = self.before.len() + 1 - parsed.rest.len() + 1;
                    let behind = Line {
                        before: &self.before[before..],
                        at: self.at + before,
                        ..self
                    };
                    behind.verb(&first)
                } else {
                    Plan::command(number + 1)
                }
            }
            (End::Nothing, None) => Plan::default(),
        }
    }

    /// A verb, or a host.
    fn first(self, verbs: bool) -> Plan {
        if let Some(plan) = self.user_at_host() {
            return plan;
        }
        let mut wants = Vec::new();
        if verbs {
            let all = VERBS.iter().map(|v| Item::new(v.name, v.summary));
            let help = Item::new("help", "show the help of queue or of a verb");
            wants.push(Want::Words(Group {
                tag: "verbs",
                title: "verb",
                items: all.chain([help]).collect(),
            }));
        }
        wants.push(Want::Known(Source::Hosts(values::Hosts::Usable)));
        wants.push(values::any_host());
        Plan::of(wants)
    }

    fn user_at_host(self) -> Option<Plan> {
        let cut = self.cursor.find('@')? + 1;
        let plan = Plan::of(vec![Want::Known(Source::Hosts(values::Hosts::Usable))]);
        Some(plan.behind(&self.cursor[..cut]))
    }

    /// `qsh ...`.
    fn remote(self) -> Plan {
        let probe = self.probe();
        let Ok(parsed) = parse(&probe, true) else {
            return Plan::default();
        };
        if let Some(plan) = self.value(&parsed) {
            return plan;
        }
        // Words of the launch form that make sense here as well.
        let found = |launch| Found {
            launch: Some(launch),
            rsh: None,
            value: OsString::new(),
            spelled: String::new(),
        };
        let shared = LAUNCH.iter().filter(|o| o.id != Id::Json && neutral(&found(*o)));
        if parsed.end == End::Word
            && parsed.rest.len() == 1
            && let Some(plan) = self.option(RSH.iter().chain(shared), true)
        {
            return plan;
        }
        self.host_or_command(&parsed)
    }

    /// What follows the options of the rsh form.
    fn host_or_command(self, parsed: &Parsed<'_>) -> Plan {
        match parsed.rest.len() {
            0 | 1 => self.first(false),
            n => Plan::command(self.number(n) + 1),
        }
    }

    /// Arguments of `sh`: `-c STRING`, or a script.
    fn recipe(self) -> Plan {
        let is_c = |w: &String| w.starts_with('-') && !w.starts_with("--") && w.ends_with('c');
        let string = self.before.iter().position(is_c);
        match string {
            Some(i) if self.before.len() > i + 1 => Plan::of(vec![Want::Files]),
            _ => Plan::default(),
        }
    }

    /// `queue-sh ...`.
    fn shell(self) -> Plan {
        let script = self.before.iter().position(|w| !w.starts_with('-'));
        let string = self.before.iter().any(|w| w.starts_with('-') && w.ends_with('c'));
        match script {
            Some(_) if string => Plan::of(vec![Want::Files]),
            Some(i) => Plan::command(self.at + i),
            None if string => Plan::default(),
            None if self.cursor.starts_with('-') => Plan::of(vec![Want::Words(Group {
                tag: "options",
                title: "option",
                items: vec![
                    Item::new("-c", "run this command of the shell"),
                    Item::new("-e", "end at the first command that fails"),
                    Item::new("--help", "show a help and exit 0"),
                    Item::new("--version", "show the version and exit 0"),
                ],
            })]),
            None => Plan::of(vec![Want::Files]),
        }
    }

    /// What is behind a verb.
    fn verb(self, name: &str) -> Plan {
        if name == "help" {
            let programs = ["queue", "qsh", "queue-sh"].map(|p| Item::new(p, "the program"));
            let verbs = VERBS.iter().map(|v| Item::new(v.name, v.summary));
            return match self.before.is_empty() {
                true => Plan::of(vec![Want::Words(Group {
                    tag: "verbs",
                    title: "verb",
                    items: verbs.chain(programs).collect(),
                })]),
                false => Plan::default(),
            };
        }
        let Some(verb) = table::by_name(name) else {
            return Plan::default();
        };
        if verb.name == "explain" {
            return self.explain(verb);
        }
        let Ok(given) = take_apart(verb, &self.probe()) else {
            return Plan::default();
        };
        if let Some((id, _)) = given.found.last().filter(|(_, value)| value == CURSOR) {
            let opt = verb.options.iter().find(|o| o.id == *id);
            return opt.map_or_else(Plan::default, |o| values::of_option(o, Some(verb), self.cursor));
        }
        if !self.before.iter().any(|w| w == "--") {
            let find = |long: bool, name: &str| {
                let fits = |o: &&'static Opt| {
                    if long {
                        o.long.contains(&name)
                    } else {
                        o.short == name
                    }
                };
                verb.options.iter().find(fits)
            };
            if let Some(plan) = self.option_of(&listed(verb.options.iter()), &find, Some(verb)) {
                return plan;
            }
        }
        let words = given.words.split_last().map_or(&[][..], |(_, before)| before);
        values::of_operand(verb, words, self.cursor)
    }

    /// `queue explain`: the launch form's options and command, or numbers of jobs.
    fn explain(self, verb: &'static Verb) -> Plan {
        let probe = self.probe();
        let Ok(parsed) = parse(&probe, false) else {
            return Plan::default();
        };
        if let Some(plan) = self.value(&parsed) {
            return plan;
        }
        match parsed.end {
            End::Dashes => Plan::command(self.number(parsed.rest.len())),
            End::Nothing => Plan::default(),
            End::Word => {
                if parsed.rest.len() == 1
                    && let Some(plan) = self.option(LAUNCH.iter().chain(BATCH), false)
                {
                    return plan;
                }
                let words = &self.before[self.before.len() + 1 - parsed.rest.len()..];
                match parsed.found.is_empty() {
                    true => values::of_operand(verb, words, self.cursor),
                    false => Plan::of(vec![dashes()]),
                }
            }
        }
    }

    /// The cursor is at the value of an option of the launch or rsh form.
    fn value(self, parsed: &Parsed<'_>) -> Option<Plan> {
        let last = parsed.found.last().filter(|f| f.value == CURSOR)?;
        let opt = last.launch.or(last.rsh)?;
        Some(values::of_option(opt, None, self.cursor))
    }

    /// An option of these tables is begun at the cursor.
    fn option(self, offered: impl Iterator<Item = &'static Opt>, qsh: bool) -> Option<Plan> {
        let find = |long: bool, name: &str| match (long, name.chars().next()) {
            (true, _) => by_word(name),
            (false, Some(c)) if qsh => by_letter(&[RSH, QSH], c),
            // Those that mean two things mean the one without a value as long as nothing follows.
            (false, Some(c)) => by_letter(&[LAUNCH, BATCH], c).or_else(|| by_letter(&[RSH], c)),
            (false, None) => None,
        };
        self.option_of(&listed(offered), &find, None)
    }

    fn option_of(
        self,
        offered: &Group,
        find: &dyn Fn(bool, &str) -> Option<&'static Opt>,
        verb: Option<&'static Verb>,
    ) -> Option<Plan> {
        let behind = self.cursor.strip_prefix('-')?;
        if let Some(long) = behind.strip_prefix('-') {
            let Some((name, value)) = long.split_once('=') else {
                return Some(Plan::of(vec![Want::Words(offered.clone())]));
            };
            let opt = find(true, name).filter(|o| !o.value.is_empty());
            let plan = opt.map_or_else(Plan::default, |o| values::of_option(o, verb, value));
            return Some(plan.behind(&format!("--{name}=")));
        }
        // `-abVALUE`: the first letter that takes a value has the rest.
        for (i, c) in behind.char_indices() {
            let (name, rest) = behind[i..].split_at(c.len_utf8());
            let Some(opt) = find(false, name) else {
                return Some(Plan::default());
            };
            if !opt.value.is_empty() && !rest.is_empty() {
                let kept = self.cursor.len() - rest.len();
                return Some(values::of_option(opt, verb, rest).behind(&self.cursor[..kept]));
            }
        }
        let mut group = offered.clone();
        // Several letters in one word are as good as each for itself.
        if behind.chars().count() > 1 {
            group.items.push(Item::new(self.cursor, ""));
        }
        Some(Plan::of(vec![Want::Words(group)]))
    }
}

/// Options, each as it is spelled; those that do nothing are left out.
fn listed(offered: impl Iterator<Item = &'static Opt>) -> Group {
    let mut items: Vec<Item> = Vec::new();
    let useful = |o: &&'static Opt| !matches!(o.id, Id::Ignored | Id::Refused | Id::Port | Id::Later);
    for o in offered.filter(useful) {
        let short = o.short.chars().map(|c| format!("-{c}"));
        let long = o.long.iter().map(|w| format!("--{w}"));
        for name in short.chain(long) {
            // A letter of both forms is explained by the first.
            if !items.iter().any(|i| i.value == name) {
                items.push(Item::new(name, o.help));
            }
        }
    }
    Group {
        tag: "options",
        title: "option",
        items,
    }
}

fn dashes() -> Want {
    Want::Words(Group {
        tag: "options",
        title: "option",
        items: vec![Item::new("--", "the command comes behind it")],
    })
}

#[cfg(test)]
mod tests;
