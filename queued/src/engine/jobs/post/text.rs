//! What a letter about one job says. Pure text; which letters are written is decided elsewhere.

use super::{Event, EventKind};
use crate::engine::grant::utc;
use libqueue::job::{exit_code, in_words, name, signal_name};
use libqueue::size;
use libqueue::wire::job::{Cause, Header, Outcome, State};
use std::fmt::Write as _;

/// Characters of a subject.
const SUBJECT: usize = 120;

/// One line without control characters, at most so many characters.
pub(super) fn line(text: &str, most: usize) -> String {
    let clean = |c: char| if libqueue::text::is_odd(c) { ' ' } else { c };
    let mut cut: String = text.chars().take(most).map(clean).collect();
    if text.chars().nth(most).is_some() {
        cut.push('…');
    }
    cut
}

/// Bytes of output as text: what moves a cursor or rings a bell is shown as a question mark.
fn output(bytes: &[u8]) -> String {
    let clean = |c: char| match c {
        '\n' | '\t' => c,
        c if libqueue::text::is_odd(c) => '?',
        c => c,
    };
    String::from_utf8_lossy(bytes).chars().map(clean).collect()
}

/// A length of time: `1 h 2 min 3 s`, `4.2 s`.
fn span(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{}.{} s", s, ms / 100 % 10),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min {} s", s / 3600, s / 60 % 60, s % 60),
    }
}

/// What one thing that happened is: for a letter of its own, or a line of a digest.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Item {
    /// Subject.
    pub subject: String,
    /// Text.
    pub body: String,
    /// Headers.
    pub headers: Vec<Header>,
    /// Job or task: `12.3`, with its name.
    pub what: String,
    /// How it ended, in words.
    pub how: String,
    /// Where.
    pub host: String,
    /// It went well.
    pub well: bool,
}

/// The first word of a subject.
fn verdict(e: &Event<'_>) -> &'static str {
    let crash = e.outcome.is_some_and(|o| o.cause() == Cause::Signal);
    match (e.kind, e.state) {
        (EventKind::Begin, _) => "Started",
        (EventKind::Lost, _) | (_, State::Lost) => "Lost",
        (_, State::Done) => "Success",
        (_, State::Buried) => "Buried",
        _ if crash => "Crash",
        _ => "Unsuccessful",
    }
}

/// How it ended, in words.
pub(super) fn how(e: &Event<'_>) -> String {
    match (e.kind, e.outcome) {
        (EventKind::Begin, _) => format!("runs on {}", e.host),
        (EventKind::Lost, _) => format!("host {} is lost", e.host),
        (EventKind::Rejected, _) => line(&e.job.reason, 200),
        (_, Some(o)) => line(&in_words(o), 200),
        _ if e.job.reason.is_empty() => libqueue::job::state_name(e.state).to_owned(),
        _ => line(&e.job.reason, 200),
    }
}

/// A job or task with its name, or its command where it has none.
pub(super) fn title(e: &Event<'_>, task: u32) -> String {
    let known = match e.job.plan.name.is_empty() {
        true => &e.job.command,
        false => &e.job.plan.name,
    };
    format!("{} {}", name(e.job.id, task), line(known, 60))
        .trim_end()
        .to_owned()
}

/// A header `X-Queue-NAME`.
pub(super) fn header(name: &str, value: impl Into<String>) -> Header {
    Header {
        name: name.to_owned(),
        value: line(&value.into(), 200),
    }
}

/// Headers by which a filter can sort letters about a job.
pub(super) fn headers(e: &Event<'_>, task: u32) -> Vec<Header> {
    let mut all = vec![
        header("User", &e.job.owner),
        header("Job", name(e.job.id, task)),
        header("State", libqueue::job::state_name(e.state)),
    ];
    let optional = [
        ("Class", &e.job.plan.class),
        ("Name", &e.job.plan.name),
        ("Group", &e.job.plan.group),
    ];
    all.extend(
        optional
            .into_iter()
            .filter(|(_, v)| !v.is_empty())
            .map(|(n, v)| header(n, v)),
    );
    if !e.host.is_empty() {
        all.push(header("Host", e.host));
    }
    if let Some(o) = e.outcome {
        all.extend(o.code.map(|c| header("Exit", c.to_string())));
        all.extend(o.signal.map(|s| header("Signal", signal_name(s))));
    }
    all
}

/// A line of a table in a letter's text.
fn field(body: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        let _ = writeln!(body, "  {name:<10} {value}");
    }
}

/// What the attempt used, and where its output is.
fn figures(body: &mut String, o: &Outcome, host: &str) {
    if o.started_ms != 0 {
        field(body, "started", &utc(o.started_ms / 1000));
        field(body, "wall", &span(o.wall_ms));
        field(body, "CPU", &span(o.cpu_us / 1000));
        field(
            body,
            "memory",
            &format!("{} at most", size::show(o.maxrss_kib << 10)),
        );
    }
    if let (Some(code), None) = (o.code, o.signal) {
        field(body, "exit code", &code.to_string());
    } else if let Some(signal) = o.signal {
        let core = if o.core { ", core dumped" } else { "" };
        field(
            body,
            "signal",
            &format!("{} (exit code {}{core})", signal_name(signal), exit_code(o)),
        );
    }
    if o.written > 0 {
        let path = line(&String::from_utf8_lossy(&o.output), 200);
        let cut = if o.cut { ", cut off at its limit" } else { "" };
        let place = match (path.is_empty(), o.spooled) {
            (true, _) => "not kept".to_owned(),
            (false, true) => format!("on {host}, being brought home"),
            (false, false) => path,
        };
        field(
            body,
            "output",
            &format!("{place} ({}{cut})", size::show(o.written)),
        );
    }
}

/// The ends of the output.
fn ends(body: &mut String, o: &Outcome) {
    if o.head.is_empty() && o.tail.is_empty() {
        return;
    }
    let shown = (o.head.len() + o.tail.len()) as u64;
    let _ = writeln!(body, "\nOutput:\n\n{}", output(&o.head).trim_end_matches('\n'));
    if !o.tail.is_empty() {
        if o.written > shown {
            let _ = writeln!(body, "\n[{} left out]\n", size::show(o.written - shown));
        }
        let _ = writeln!(body, "{}", output(&o.tail).trim_end_matches('\n'));
    }
}

/// What its owner can type next.
fn next(body: &mut String, e: &Event<'_>, id: &str) {
    let retry = match (e.kind, e.state) {
        (EventKind::Begin, _) => "",
        (EventKind::Rejected, _) | (_, State::Done) => "",
        (EventKind::Lost, _) => {
            let _ = write!(
                body,
                "\nIt may still run there. If {host} returns, the job goes on.\n\
                 If {host} is dead for certain:     queue retry --confirm-dead {id}\n\
                 If it may run twice at once:       queue retry --may-double {id}\n",
                host = e.host
            );
            ""
        }
        _ => "run it again",
    };
    body.push('\n');
    if !retry.is_empty() {
        let _ = writeln!(body, "To {retry}:         queue retry {id}");
    }
    if e.key.attempt > 0 {
        let _ = writeln!(body, "For all its output:      queue log {id}");
    }
    let _ = writeln!(body, "For everything about it: queue show {id}");
}

/// One job or task.
pub(super) fn item(e: &Event<'_>, task: u32) -> Item {
    let id = name(e.job.id, task);
    let verdict = verdict(e);
    let how = how(e);
    let written = e.outcome.is_some_and(|o| o.written > 0);
    let plus = if written { "+Output" } else { "" };
    let class = match e.job.plan.class.is_empty() {
        true => String::new(),
        false => format!(" [{}]", e.job.plan.class),
    };
    let what = title(e, task);
    let mut body = format!("Job {what}: {how}.\n\n");
    field(&mut body, "job", &id);
    field(&mut body, "name", &line(&e.job.plan.name, 200));
    field(&mut body, "group", &line(&e.job.plan.group, 200));
    field(&mut body, "class", &line(&e.job.plan.class, 200));
    field(&mut body, "command", &line(&e.job.command, 200));
    field(&mut body, "host", e.host);
    field(&mut body, "cause", &how);
    let from = format!("{} on {}", utc(e.job.submitted_ms / 1000), e.job.submit_host);
    field(&mut body, "submitted", &from);
    if let Some(o) = e.outcome {
        figures(&mut body, o, e.host);
    }
    if e.key.attempt > 0 {
        field(&mut body, "attempts", &e.key.attempt.to_string());
    }
    next(&mut body, e, &id);
    if let Some(o) = e.outcome {
        ends(&mut body, o);
    }
    Item {
        subject: line(&format!("{verdict}{plus}: {what}{class}: {how}"), SUBJECT),
        body,
        headers: headers(e, task),
        what,
        how,
        host: e.host.to_owned(),
        well: matches!(e.kind, EventKind::Begin) || e.state == State::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_spans() {
        assert_eq!(line("a\r\nBcc: x\u{7f}", 20), "a  Bcc: x ");
        assert_eq!(line("abcdef", 3), "abc…");
        assert_eq!(output(b"a\x1b[1mb\n\xff"), "a?[1mb\n\u{fffd}");
        assert_eq!(span(4_230), "4.2 s");
        assert_eq!(span(3_723_400), "1 h 2 min 3 s");
        assert_eq!(span(61_000), "1 min 1 s");
    }
}
