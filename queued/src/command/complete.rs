//! What shells complete behind `queued`: its own grammar, as the parser has it. Pure but for its end.

use super::Cli;
use clap::{Arg, Command, CommandFactory as _};
use libqueue::complete::{Answer, Item, Question};
use std::ffi::OsString;
use std::io::{self, Write as _};

/// Answers a shell. Nothing is said about what goes wrong: a prompt is no place for it.
pub(super) fn run(args: &[OsString]) {
    if let Some(question) = Question::read(args) {
        let text = answer(&question.words).render(&question);
        let _ = io::stdout().write_all(text.as_bytes());
    }
}

/// What may stand in place of the last word.
fn answer(words: &[String]) -> Answer {
    let mut root = Cli::command();
    root.build();
    let (Some((cursor, before)), mut at) = (words.split_last(), &root) else {
        return Answer::default();
    };
    let mut value_of: Option<&Arg> = None;
    let mut operands = 0;
    let mut only_operands = false;
    for word in before.iter().skip(1) {
        if value_of.take().is_some() {
            continue;
        }
        match word.as_str() {
            "--" => only_operands = true,
            w if !only_operands && w.starts_with("--") => {
                let (name, value) = split(w);
                value_of = option(at, name).filter(|a| takes_value(a) && value.is_none());
            }
            w if !only_operands && w.starts_with('-') && w != "-" => {}
            w => match at.find_subcommand(w).filter(|_| operands == 0) {
                Some(sub) => at = sub,
                None => operands += 1,
            },
        }
    }
    if let Some(arg) = value_of {
        return values(arg);
    }
    if !only_operands && cursor.starts_with('-') {
        if let (name, Some(value)) = split(cursor) {
            let kept = cursor.len() - value.len();
            return Answer {
                keep: cursor[..kept].to_owned(),
                ..option(at, name).map(values).unwrap_or_default()
            };
        }
        return options(at);
    }
    if at.has_subcommands() && operands == 0 && !only_operands {
        let all = at.get_subcommands().filter(|s| !s.is_hide_set());
        let items = all.map(|s| Item::new(s.get_name(), about(s.get_about())));
        return Answer::of("verbs", "verb", items.collect());
    }
    match at.get_positionals().nth(operands) {
        Some(arg) if is(arg, "TOKEN") => Answer::of(
            "values",
            "token",
            vec![Item::new("-", "read it from standard input")],
        ),
        _ => Answer::default(),
    }
}

/// `--name=value` and `--name`.
fn split(word: &str) -> (&str, Option<&str>) {
    let word = word.trim_start_matches('-');
    word.split_once('=').map_or((word, None), |(n, v)| (n, Some(v)))
}

fn option<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|a| a.get_long() == Some(name))
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values()
}

fn is(arg: &Arg, value: &str) -> bool {
    arg.get_value_names()
        .is_some_and(|all| all.iter().any(|n| n == value))
}

/// Those that a value may have: the others are for who types them to know.
fn values(arg: &Arg) -> Answer {
    Answer {
        users: is(arg, "USERS"),
        ..Answer::default()
    }
}

fn options(command: &Command) -> Answer {
    let all = command
        .get_arguments()
        .filter(|a| !a.is_positional() && !a.is_hide_set());
    let items = all.flat_map(|a| {
        let help = about(a.get_help());
        let short = a.get_short().map(|c| Item::new(format!("-{c}"), help.clone()));
        let long = a.get_long().map(|l| Item::new(format!("--{l}"), help.clone()));
        short.into_iter().chain(long)
    });
    Answer::of("options", "option", items.collect())
}

fn about(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: &str) -> Answer {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        answer(&words)
    }

    fn values(line: &str) -> Vec<String> {
        let items = at(line).groups.into_iter().flat_map(|g| g.items);
        items.map(|i| i.value).collect()
    }

    #[test]
    fn each_place_has_its_own() {
        let subcommands = ["init", "token", "join", "run", "check", "upgrade"];
        assert_eq!(values("queued "), subcommands);
        assert_eq!(values("queued --port 1 "), subcommands);
        assert_eq!(values("queued join "), ["-"]);
        for (line, option) in [
            ("queued -", "--port"),
            ("queued -", "--version"),
            ("queued token -", "--vouch"),
            ("queued token --t", "--ttl"),
            ("queued join - --", "--advertise"),
            ("queued init --name run --", "--force"),
        ] {
            assert!(
                values(line).iter().any(|v| v == option),
                "{line}: {:?}",
                values(line)
            );
        }
        // What is hidden stays so.
        assert!(!values("queued init -").iter().any(|v| v == "--cert-lifetime"));
        for line in [
            "queued --port ",
            "queued token --ttl ",
            "queued join x ",
            "queued run ",
            "queued token -- -",
            "queued init --name=",
        ] {
            assert!(values(line).is_empty() && !at(line).users, "{line}");
        }
        assert!(at("queued token --vouch ").users);
        let with = at("queued token --vouch=a");
        assert!(with.users && with.keep == "--vouch=");
        // Each is explained.
        for line in ["queued ", "queued token -", "queued -"] {
            assert!(
                at(line).groups[0].items.iter().all(|i| !i.help.is_empty()),
                "{line}"
            );
        }
    }
}
