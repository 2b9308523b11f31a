//! What letters about more than one job say, and those to the operator. Pure text.

use super::Event;
use super::gather::Gather;
use super::text::{Item, header, headers, item, line, title};
use libqueue::wire::job::{Header, Letter, State};

/// How many of what: `97 done, 3 failed`.
fn tally(counts: &[(State, u32)]) -> String {
    let words = counts.iter().filter(|(_, n)| *n > 0);
    let words = words.map(|(s, n)| format!("{n} {}", libqueue::job::state_name(*s)));
    words.collect::<Vec<_>>().join(", ")
}

/// An array that is over.
pub(super) fn array_item(e: &Event<'_>, failed: &Gather) -> Item {
    let what = title(e, 0);
    let counts = tally(e.counts);
    let total: u64 = e.counts.iter().map(|(_, n)| u64::from(*n)).sum();
    let verdict = if failed.bad == 0 {
        "Success"
    } else {
        "Unsuccessful"
    };
    let class = match e.job.plan.class.is_empty() {
        true => String::new(),
        false => format!(" [{}]", e.job.plan.class),
    };
    let how = match failed.bad {
        0 => format!("all {total} tasks done"),
        n => format!("{n} of {total} tasks ended badly"),
    };
    let id = e.job.id;
    let retry = match failed.bad {
        0 => String::new(),
        _ => format!("To run those that ended badly again: queue retry {id}\n"),
    };
    let next = format!(
        "{retry}For the output of its tasks:          queue log {id}\n\
         For everything about it:              queue show {id}"
    );
    let mut h = headers(e, 0);
    h.retain(|h| !matches!(h.name.as_str(), "Exit" | "Signal" | "Host"));
    let subject = format!("{verdict}: {what}{class}: {how}");
    let item = failed.digest(&subject, &format!("Array {what} is over: {counts}."), &next, h);
    Item { what, how, ..item }
}

/// A group of which nothing is live any more.
pub(super) fn group_item(group: &str, owner: &str, all: &Gather) -> Item {
    let group = line(group, 60);
    let verdict = if all.bad == 0 { "Success" } else { "Unsuccessful" };
    let how = match (all.bad, all.well) {
        (0, n) => format!("{n} jobs done"),
        (n, 0) => format!("{n} jobs ended badly"),
        (n, m) => format!("{n} jobs ended badly, {m} done"),
    };
    let next = format!("For all of them: queue history --group '{group}'");
    let h = vec![header("User", owner), header("Group", group.clone())];
    let subject = format!("{verdict}: group {group}: {how}");
    let item = all.digest(&subject, &format!("Group {group} is over: {how}."), &next, h);
    Item {
        what: format!("group {group}"),
        how,
        ..item
    }
}

/// All that was gathered for one owner, as one letter.
pub(super) fn summary(all: &Gather, owner: &str) -> Item {
    if let Some(only) = &all.only {
        return only.clone();
    }
    let (bad, well) = (all.bad, all.well);
    let how = match (bad, well) {
        (0, n) => format!("{n} jobs ended well"),
        (n, 0) => format!("{n} jobs ended badly"),
        (n, m) => format!("{n} jobs ended badly, {m} well"),
    };
    let verdict = if bad == 0 { "Success" } else { "Unsuccessful" };
    let h: Vec<Header> = vec![header("User", owner)];
    let next = "To run one of them again: queue retry NUMBER\nFor all of them:          queue history";
    all.digest(&format!("{verdict}: {how}"), &format!("{how}."), next, h)
}

/// What the operator is told of a job that failed for the host's fault.
pub(super) fn operators(e: &Event<'_>) -> Item {
    let mut item = item(e, e.key.task);
    let host = if e.host.is_empty() { "a host" } else { e.host };
    item.subject = line(
        &format!("queue: error on {host}: job {}: {}", item.what, item.how),
        150,
    );
    let note =
        "\nThis is not the job's fault: look at that host, and at the logs of its queued and queue-exec.\n";
    // The output is its owner's alone.
    if let Some(at) = item.body.find("\nOutput:\n") {
        item.body.truncate(at);
    }
    item.body.push_str(note);
    item
}

/// What the operator is told of a letter that was refused for good.
pub(super) fn undelivered(letter: &Letter, why: &str) -> Item {
    let (to, why) = (line(&letter.to, 100), line(why, 300));
    let body = format!(
        "A letter to {to} is given up: {why}.\n\nIts subject was:\n  {}\n\n\
         It is not tried again. The address comes from --mail-to, or is the account of the job's owner.\n",
        line(&letter.subject, 150)
    );
    // Who answers means the owner, who does not know of it.
    let owner = letter.headers.iter().filter(|h| h.name == "User");
    Item {
        subject: line(&format!("queue: a letter to {to} is given up"), 150),
        body,
        headers: owner.cloned().collect(),
        what: format!("letter to {to}"),
        how: why,
        ..Item::default()
    }
}
