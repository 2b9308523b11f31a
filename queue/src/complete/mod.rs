//! What shells complete: the scripts ask `queue admin complete`, and this answers, from the same tables that the
//! parser and `--help` read.
//!
//! [`mod@line`] finds out what may stand at the cursor (pure), [`values`] what values options and operands have (pure),
//! [`look`] what the cluster knows, for which it has a moment and no more. Whatever fails, the answer is shorter;
//! nothing is ever said about it, since a prompt is no place for it.

pub mod line;
pub mod look;
pub mod values;

use crate::messages::write_all;
use crate::sys;
use libqueue::complete::{Answer, Question};
use line::{Plan, Want};
use std::collections::BTreeSet;

/// Answers a shell, and ends the process: at once, since threads that came too late are still at work.
pub fn run(question: &Question) -> ! {
    let plan = line::plan(&question.words);
    write_all(1, answer(plan, question).render(question).as_bytes());
    sys::leave()
}

fn answer(plan: Plan, question: &Question) -> Answer {
    let mut answer = Answer {
        keep: plan.keep,
        ..Answer::default()
    };
    let mut sources = Vec::new();
    for want in plan.wants {
        match want {
            Want::Words(group) => answer.groups.push(group),
            Want::Files => answer.files = true,
            Want::Users => answer.users = true,
            Want::Open => answer.open = true,
            Want::Command(n) => answer.command = Some(n),
            Want::Known(source) => sources.push(source),
        }
    }
    answer.groups.extend(look::fetch(&sources, question.wants_help()));
    // What stands there already, or was offered already, is not offered again.
    let mut seen: BTreeSet<String> = plan.given.into_iter().collect();
    for group in &mut answer.groups {
        group.items.retain(|i| seen.insert(i.value.clone()));
    }
    answer
}
