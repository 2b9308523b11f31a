//! What people write: options, scripts, entries, configuration.

use libqueue::config::{Config, class as class_file, parse_as};
use libqueue::expr::Expr;
use libqueue::resources::{lacking, lookup};
use libqueue::wire::job::{AfterHow, Class, TASKS_MAX, mail_when};
use libqueue::{duration, job, size, wire};
use queue_exec::cert::{HostCert, Vouch};
use queue_exec::operators::Operators;
use queue_exec::policy::Policy;
use queue_front::messages::{Failure, printable};
use queue_front::submit::options::Batch;
use queue_front::submit::values::{self, Calendar, When};
use queue_front::submit::{directives, entries};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Expressions, looked up on a host that has a little.
pub fn expr(data: &[u8]) {
    let Ok(e) = std::str::from_utf8(data).unwrap_or_default().parse::<Expr>() else {
        return;
    };
    assert_eq!(e.to_string().parse::<Expr>().as_ref(), Ok(&e));
    let facts = wire::Facts {
        cores: 8,
        mem: 24 << 30,
        arch: "x86_64".into(),
        kernel: "6.12.4".into(),
        resources: [("raid".to_owned(), "100G".to_owned())].into(),
        ..wire::Facts::default()
    };
    let load = wire::Load::default();
    let look = |name: &str| lookup(name, "h1", &facts, Some(&load));
    assert_eq!(e.holds(&look), e.missing(&look).is_none());
    let need = wire::Need {
        expr: e.to_string(),
        ..wire::Need::default()
    };
    // What an empty host can never do, no host does now.
    if lacking(&need, "h1", &facts, None).is_some() {
        assert!(!e.holds(&look), "{e}");
    }
}

/// Sizes, and what is shown of them.
pub fn size(data: &[u8]) {
    let text = std::str::from_utf8(data).unwrap_or_default();
    match size::parse(text) {
        // Shown with two digits at least: at most a tenth away.
        Ok(bytes) => {
            // The largest are rounded up to one more than there are.
            let again = size::parse(&size::show(bytes)).unwrap_or(u64::MAX) as f64;
            let bytes = bytes as f64;
            assert!((again - bytes).abs() <= bytes * 0.1, "{text}: {bytes} {again}");
        }
        Err(e) => assert!(!e.contains('\n'), "{e}"),
    }
}

/// Join tokens.
pub fn token(data: &[u8]) {
    let text = std::str::from_utf8(data).unwrap_or_default();
    if let Ok(t) = text.parse::<queue_exec::token::Token>() {
        assert_eq!(t.to_string().parse(), Ok(t));
    }
}

/// `queued.toml` as the daemon and as queue-exec read it, `exec.conf`.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let file = Path::new("file");
    let lines = text.lines().count().max(1);
    policy(text, file, lines);
    match Config::parse(text, file) {
        Ok(c) => {
            let operators = Operators::parse(text, file);
            for name in c.operators.names() {
                // Keys and names may be spelled with backslashes, which queue-exec does not read.
                if let Ok(o) = &operators
                    && !text.contains('\\')
                {
                    let plain = name.strip_prefix('@');
                    let named = plain.map_or_else(|| o.names(name), |g| o.names_group(&[g.to_owned()]));
                    assert!(named, "{name:?}");
                }
            }
        }
        Err(e) => {
            let at = e.at.unwrap_or((1, 1));
            assert!(at.0 > 0 && at.1 > 0 && at.0 <= lines + 1, "{e}");
            assert!(!e.text.contains('\n'), "{e}");
        }
    }
    operators(text, file, lines);
}

/// A root process reads one key with a reader of its own: it must not find an operator where TOML has none.
fn operators(text: &str, file: &Path, lines: usize) {
    match Operators::parse(text, file) {
        Ok(found) => {
            // A file that is no TOML has no meaning to compare with.
            let Ok(table) = parse_as::<BTreeMap<String, Value>>(text, file) else {
                return;
            };
            let names: BTreeSet<String> = match table.get("operators") {
                Some(Value::String(one)) => [one.clone()].into(),
                Some(Value::Array(many)) => {
                    many.iter().filter_map(|v| Some(v.as_str()?.to_owned())).collect()
                }
                _ => BTreeSet::new(),
            };
            let (groups, users): (Vec<_>, Vec<_>) = names.iter().partition(|n| n.starts_with('@'));
            let mut rest = format!("{found:?}");
            for n in users {
                rest = rest.replacen(&format!("{n:?}"), "", 1);
            }
            for n in groups {
                rest = rest.replacen(&format!("{:?}", &n[1..]), "", 1);
            }
            assert!(!rest.contains('"'), "more than {names:?}: {found:?}");
        }
        Err(e) => assert!(e.line > 0 && e.line <= lines + 1, "{e}"),
    }
}

fn policy(text: &str, file: &Path, lines: usize) {
    match Policy::parse(text, file) {
        Err(e) => assert!(e.line > 0 && e.line <= lines, "{e}"),
        Ok(p) => {
            let source = HostCert {
                cluster: [0; 32],
                serial: 1,
                name: "h1".into(),
                host_key: [0; 32],
                tls_key: [0; 32],
                vouch: Vouch::Users,
                issued: 0,
                expires: u64::MAX,
            };
            for (user, login) in [
                ("root", "root"),
                ("alice", "root"),
                ("alice", "alice"),
                ("*", "*"),
            ] {
                // Root is never let in by a line that does not name it.
                if let Ok(a) = p.may(&source, user, login)
                    && a.root
                {
                    assert!(text.contains("root"), "{user} as {login}");
                }
                let _ = p.may_ask(&source, user, login);
            }
        }
    }
}

/// The file of a class of jobs, and its name.
pub fn class(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let file = Path::new("classes/big.toml");
    let base = Class {
        name: "wait".into(),
        priority: 5,
        lease_ms: 900_000,
        ..Class::default()
    };
    match class_file::parse(text, file, "big", &base) {
        Ok(c) => {
            assert_eq!(c.name, "big");
            assert!((-1_000_000..=1_000_000).contains(&c.priority), "{}", c.priority);
            assert!(c.lease_ms >= 10_000);
            let all = mail_when::BEGIN | mail_when::END | mail_when::FAIL;
            assert_eq!(c.mail & !all, 0);
            let expr = c.need.map(|n| n.expr).unwrap_or_default();
            assert!(expr.is_empty() || Expr::parse(&expr).is_ok());
        }
        Err(e) => {
            let lines = text.lines().count().max(1);
            let at = e.at.unwrap_or((1, 1));
            assert!(at.0 > 0 && at.1 > 0 && at.0 <= lines + 1, "{e}");
            assert!(!e.text.contains('\n'), "{e}");
        }
    }
    for line in text.lines() {
        if let Ok(name) = class_file::name(Path::new(line)) {
            assert!(!name.contains(|c: char| c == '/' || c.is_control() || c.is_whitespace()));
            let path = Path::new("classes").join(format!("{name}.toml"));
            assert_eq!(class_file::name(&path).ok(), Some(name));
        }
    }
}

/// Scripts with options, files of entries, and the values of options.
pub fn jobfile(data: &[u8]) {
    match directives::options("script", data) {
        Ok(found) => {
            if let Err(e) = Batch::new(&found) {
                one_line(&e);
            }
        }
        Err(e) => {
            one_line(&e);
            assert!(e.text.starts_with("script:"), "{}", e.text);
        }
    }
    if let Ok(all) = entries::lines(data) {
        assert_eq!(all.join(&b'\n'), data.strip_suffix(b"\n").unwrap_or(data));
    }
    if let Ok(all) = entries::json(data) {
        let whole: Option<Vec<Value>> = serde_json::from_slice(data).ok();
        // What is not a value to serde_json (half a surrogate pair) is still a text without meaning to us.
        if let Some(whole) = whole {
            let each: Vec<Value> = all
                .iter()
                .map(|e| serde_json::from_slice(e).expect("an entry is JSON"))
                .collect();
            assert_eq!(each, whole);
        }
    }
    if let Ok(text) = std::str::from_utf8(data) {
        for word in text.lines().chain([text]) {
            times(word);
            tasks(word);
            jobs(word);
        }
    }
}

/// Shown on one line, without anything that a terminal would obey.
fn one_line(e: &Failure) {
    assert!(!e.text.is_empty());
    assert!(!printable(&e.text).chars().any(char::is_control));
}

/// A calendar without zones.
struct Utc;

const NOW: u64 = 1_800_000_000_000;

impl Calendar for Utc {
    fn now(&self) -> u64 {
        NOW
    }

    fn local(&self, seconds: i64) -> Option<[u32; 6]> {
        let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400) as u32);
        let mut year = 1970 + day.div_euclid(366);
        while days(year + 1, 1) <= day {
            year += 1;
        }
        let month = (1..=12).rev().find(|m| days(year, *m) <= day)?;
        let of_month = u32::try_from(day - days(year, month) + 1).ok()?;
        let year = u32::try_from(year).ok()?;
        Some([
            year,
            month,
            of_month,
            second / 3600,
            second / 60 % 60,
            second % 60,
        ])
    }

    fn second(&self, [y, m, d, h, min, s]: [u32; 6]) -> Option<i64> {
        let day = days(i64::from(y), m) + i64::from(d) - 1;
        Some(day * 86_400 + i64::from(h) * 3600 + i64::from(min) * 60 + i64::from(s))
    }
}

/// Days from the epoch to the first of a month.
fn days(year: i64, month: u32) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let before = year - 1;
    let years = before * 365 + before / 4 - before / 100 + before / 400 - 719_162;
    let lengths = [
        31,
        if leap { 29 } else { 28 },
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    years + lengths.iter().take(month as usize - 1).sum::<i64>()
}

fn times(text: &str) {
    let long = values::duration(text);
    if let Ok(ms) = long {
        assert!(ms > 0);
        // Both readers of durations mean the same where both take it.
        if let Ok(other) = duration::parse(text) {
            assert!(other.abs_diff(ms) <= 1 + ms / 1_000_000, "{text}: {ms} {other}");
        }
    }
    if let Ok((signal, before)) = values::warning(text) {
        assert!((1..=64).contains(&signal) && before > 0, "{text}");
        assert!(!job::signal_name(signal).is_empty());
    }
    let Ok(when) = values::when(text) else { return };
    match (when, values::resolve(when, text, &Utc)) {
        (When::In(ms), at) => assert_eq!(at, Ok(NOW + ms)),
        (When::Clock(time), Ok(at)) => {
            assert!(at > NOW && at <= NOW + 86_400_000, "{text}: {at}");
            assert_eq!(
                Utc.local((at / 1000) as i64).map(|l| [l[3], l[4], l[5]]),
                Some(time)
            );
        }
        (When::Tomorrow(_), Ok(at)) => assert!(at > NOW && at < NOW + 2 * 86_400_000, "{text}: {at}"),
        (When::Date(date), Ok(at)) => {
            assert!(at + 1000 >= NOW, "{text}: {at}");
            assert_eq!(Utc.local((at / 1000) as i64), Some(date));
        }
        (When::Date(_), Err(_)) => {}
        (when, Err(e)) => panic!("{text}: {when:?}: {e}"),
    }
}

fn tasks(text: &str) {
    let Ok(array) = values::array(text) else { return };
    let all = &array.ranges;
    let count = values::tasks(all);
    assert!(
        all.iter().all(|r| r.from > 0 && r.from <= r.to),
        "{text}: {all:?}"
    );
    assert!(all.windows(2).all(|w| w[0].to < w[1].from), "{text}: {all:?}");
    assert!(count <= u64::from(TASKS_MAX), "{text}");
    // Those that were said, and no others.
    let said: Vec<_> = text
        .split('%')
        .next()
        .unwrap_or_default()
        .split(',')
        .filter_map(|r| job::task_range(r.trim()))
        .collect();
    let each = |ranges: &[wire::job::TaskRange]| -> BTreeSet<u32> {
        ranges
            .iter()
            .flat_map(|r| (r.from..=r.to).step_by(r.step.max(1) as usize))
            .collect()
    };
    if values::tasks(&said) <= 1000 {
        assert_eq!(each(&said), each(all), "{text}");
    }
    let lines: Vec<Vec<u8>> = (1..=20u8).map(|n| vec![n]).collect();
    if let Ok((array, picked)) = entries::pick(lines, Some(array)) {
        assert_eq!(values::tasks(&array.ranges), picked.len() as u64, "{text}");
    }
}

fn jobs(text: &str) {
    if let Ok(ids) = job::ids(text) {
        assert!(ids.iter().all(|r| r.from > 0 && r.from <= r.to), "{text}");
    }
    if let Ok(after) = values::after(text, AfterHow::Ok) {
        assert!(!after.is_empty());
    }
    if let Ok(limit) = values::limit(text) {
        assert_eq!(values::word_of(&limit.name), Ok(limit.name.clone()));
    }
    let names = [values::name(text), values::word_of(text), values::address(text)];
    for ok in names.into_iter().flatten() {
        assert_eq!(ok, text);
        assert!(!ok.chars().any(char::is_control));
    }
    let _ = (
        values::mail(text),
        values::restart(text),
        values::pattern(text.as_bytes()),
    );
}
