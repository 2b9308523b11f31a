//! Values of the options of batch jobs: durations, times, signals, tasks, what is waited for. Pure: text in, a value
//! or what is wrong with it out.

use libqueue::job;
use libqueue::wire::job::{
    After, AfterHow, Array, LimitUse, Restart, Selection, TASKS_MAX, TaskRange, mail_when,
};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::str::FromStr as _;

/// Longest duration: ten years, in milliseconds. Longer ones are slips.
const LONGEST: u64 = 3650 * 24 * 3_600_000;
/// Most ranges of an array.
const RANGES_MAX: usize = 10_000;
/// Most tasks of ranges that lie within each other, which are put in order one by one.
const MIXED_MAX: u64 = 1_000_000;
/// How long before the end a warning comes, if nothing is said, in milliseconds.
const WARNING: u64 = 60_000;
/// Longest name of anything.
const NAME_MAX: usize = 255;

/// Reads `90`, `90s`, `15m`, `2h`, `1d`, `1h30m`, `1.5h`, `500ms`, `15:00`, `1:30:00` or `1-12:00:00`: milliseconds,
/// never 0.
///
/// # Errors
/// What is wrong with it.
pub fn duration(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is no duration: write 90 (seconds), 15m, 2h, 1d or 1:30:00");
    let ms = if text.contains(':') {
        clock(text)
    } else {
        units(text)
    };
    match ms.ok_or_else(bad)? {
        0 => Err(format!("`{text}` is no time at all")),
        ms if ms > LONGEST => Err(format!("`{text}` is more than ten years")),
        ms => Ok(ms),
    }
}

/// `15:00`, `1:30:00`, `1-12:00:00`.
fn clock(text: &str) -> Option<u64> {
    let (days, rest) = match text.split_once('-') {
        Some((d, rest)) => (whole(d)?, rest),
        None => (0, text),
    };
    let parts: Vec<u64> = rest.split(':').map(whole).collect::<Option<_>>()?;
    let (h, m, s) = match parts[..] {
        [m, s] if days == 0 => (0, m, s),
        [h, m, s] => (h, m, s),
        _ => return None,
    };
    // The first part may be as large as it likes: 90:00 is an hour and a half.
    let first_is_minutes = parts.len() == 2;
    if s > 59 || (m > 59 && !first_is_minutes) {
        return None;
    }
    let seconds = days
        .checked_mul(86_400)?
        .checked_add(h.checked_mul(3600)?)?
        .checked_add(m.checked_mul(60)?)?
        .checked_add(s)?;
    seconds.checked_mul(1000)
}

fn whole(text: &str) -> Option<u64> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

/// `90`, `90s`, `1h30m`, `1.5h`.
fn units(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let cut = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, behind) = rest.split_at(cut);
        let end = behind
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(behind.len());
        let (unit, next) = behind.split_at(end);
        let unit = match unit {
            // Seconds: only where nothing else is said.
            "" if total == 0 && next.is_empty() => 1000,
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            _ => return None,
        };
        let ms = match number.split_once('.') {
            None => whole(number).filter(|_| !number.is_empty())?.checked_mul(unit)?,
            Some((a, b)) if !a.is_empty() && !b.is_empty() && b.len() <= 6 => {
                let part = whole(b)? as u128 * u128::from(unit) / 10_u128.pow(b.len() as u32);
                whole(a)?.checked_mul(unit)?.checked_add(part as u64)?
            }
            Some(_) => return None,
        };
        total = total.checked_add(ms)?;
        rest = next;
    }
    (!text.is_empty()).then_some(total)
}

/// When something begins, as it was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// So many milliseconds from now on.
    In(u64),
    /// At the next time that the clock shows hour, minute and second.
    Clock([u32; 3]),
    /// Tomorrow at that time.
    Tomorrow([u32; 3]),
    /// At year, month, day, hour, minute, second of local time.
    Date([u32; 6]),
}

/// Reads `06:00`, `tomorrow 06:00`, `2026-12-24 18:00`, `2026-12-24T18:00:30`, `+90m` or `now`.
///
/// # Errors
/// What is wrong with it.
pub fn when(text: &str) -> Result<When, String> {
    let bad = || format!("`{text}` is no time: write 22:30, `tomorrow 06:00`, `2026-12-24 18:00` or +90m");
    let trimmed = text.trim();
    if trimmed == "now" {
        return Ok(When::In(0));
    }
    if let Some(rest) = trimmed.strip_prefix('+') {
        return duration(rest.trim()).map(When::In);
    }
    if let Some(rest) = trimmed.strip_prefix("tomorrow") {
        return match rest.trim() {
            "" => Ok(When::Tomorrow([0; 3])),
            t => time_of_day(t).map(When::Tomorrow).ok_or_else(bad),
        };
    }
    if let Some(time) = time_of_day(trimmed) {
        return Ok(When::Clock(time));
    }
    let (date, time) = match trimmed.split_once([' ', 'T']) {
        Some((d, t)) => (d, time_of_day(t.trim()).ok_or_else(bad)?),
        None => (trimmed, [0; 3]),
    };
    let parts: Vec<&str> = date.split('-').collect();
    let number = |s: &str| whole(s).and_then(|n| u32::try_from(n).ok());
    let &[y, m, d] = &parts[..] else { return Err(bad()) };
    let (Some(y), Some(m), Some(d)) = (number(y), number(m), number(d)) else {
        return Err(bad());
    };
    if !(1970..=9999).contains(&y) || !(1..=12).contains(&m) || !(1..=31).contains(&d) {
        return Err(bad());
    }
    Ok(When::Date([y, m, d, time[0], time[1], time[2]]))
}

/// `6:00`, `06:00:30`.
fn time_of_day(text: &str) -> Option<[u32; 3]> {
    let parts: Vec<u32> = text
        .split(':')
        .map(|p| (!p.is_empty() && p.len() <= 2).then(|| whole(p)).flatten())
        .map(|p| p.and_then(|n| u32::try_from(n).ok()))
        .collect::<Option<_>>()?;
    let t = match parts[..] {
        [h, m] => [h, m, 0],
        [h, m, s] => [h, m, s],
        _ => return None,
    };
    (t[0] < 24 && t[1] < 60 && t[2] < 60).then_some(t)
}

/// What is known of the clock, to resolve a [`When`].
pub trait Calendar {
    /// Now, in milliseconds since the epoch.
    fn now(&self) -> u64;
    /// Year, month, day, hour, minute and second of local time at a second since the epoch.
    fn local(&self, seconds: i64) -> Option<[u32; 6]>;
    /// The second since the epoch of a local time; days beyond the end of a month count on into the next one.
    fn second(&self, local: [u32; 6]) -> Option<i64>;
}

/// The time in milliseconds since the epoch.
///
/// # Errors
/// There is no such time, or it has passed long ago.
pub fn resolve(when: When, text: &str, calendar: &impl Calendar) -> Result<u64, String> {
    let none = || format!("`{text}`: there is no such time");
    let now = calendar.now();
    let today = || calendar.local((now / 1000) as i64).ok_or_else(none);
    let at = |days: u32, time: [u32; 3]| -> Result<u64, String> {
        let [y, m, d, ..] = today()?;
        let second = calendar
            .second([y, m, d + days, time[0], time[1], time[2]])
            .ok_or_else(none)?;
        u64::try_from(second).map(|s| s * 1000).map_err(|_| none())
    };
    match when {
        When::In(ms) => Ok(now + ms),
        When::Tomorrow(time) => at(1, time),
        When::Clock(time) => {
            let ms = at(0, time)?;
            if ms > now { Ok(ms) } else { at(1, time) }
        }
        When::Date(date) => {
            let second = calendar.second(date).ok_or_else(none)?;
            // 30 February is no day, 02:30 may be none on the day when summer time begins.
            if calendar.local(second).is_none_or(|l| l[..3] != date[..3]) {
                return Err(none());
            }
            let ms = u64::try_from(second).map_err(|_| none())? * 1000;
            if ms + 1000 < now {
                return Err(format!("`{text}` has passed"));
            }
            Ok(ms)
        }
    }
}

/// Reads `USR1@5m`, `SIGTERM`, `10@60`: the signal, and how long before the end.
///
/// # Errors
/// What is wrong with it.
pub fn warning(text: &str) -> Result<(u32, u64), String> {
    let (name, before) = match text.split_once('@') {
        Some((name, d)) => (name, duration(d)?),
        None => (text, WARNING),
    };
    let upper = name.to_ascii_uppercase();
    let number = match upper.parse::<u32>() {
        Ok(n) => Some(n).filter(|n| (1..=64).contains(n)),
        Err(_) => Signal::from_str(&upper)
            .or_else(|_| Signal::from_str(&format!("SIG{upper}")))
            .ok()
            .map(|s| s as u32),
    };
    let number = number.ok_or_else(|| format!("`{name}` is no signal: write USR1@60, TERM@5m or 10@60"))?;
    Ok((number, before))
}

/// Reads `1-100000%50`, `1-10:2,20`, `%50`: no ranges mean all that there are.
///
/// # Errors
/// What is wrong with it.
pub fn array(text: &str) -> Result<Array, String> {
    let bad = |part: &str| format!("`{part}` is no range of tasks: write 1-100, 1-10:2,20 or 1-1000%50");
    let (ranges, at_once) = match text.split_once('%') {
        Some((r, n)) => {
            let n = n.parse::<u32>().ok().filter(|n| *n > 0);
            (
                r,
                n.ok_or_else(|| format!("`{text}`: behind `%` comes how many at once, from 1 on"))?,
            )
        }
        None => (text, 0),
    };
    let mut all = Vec::new();
    if !ranges.is_empty() {
        for part in ranges.split(',') {
            let range = job::task_range(part.trim()).ok_or_else(|| bad(part))?;
            if range.from == 0 {
                return Err(format!("`{part}`: tasks are counted from 1 on"));
            }
            all.push(range);
        }
    } else if at_once == 0 {
        return Err(bad(text));
    }
    if all.len() > RANGES_MAX {
        return Err(format!("more than {RANGES_MAX} ranges"));
    }
    Ok(Array {
        ranges: in_order(all)?,
        at_once,
    })
}

/// How many tasks a range has.
pub fn tasks_of(r: &TaskRange) -> u64 {
    u64::from(r.to - r.from) / u64::from(r.step.max(1)) + 1
}

/// How many tasks ranges have.
pub fn tasks(ranges: &[TaskRange]) -> u64 {
    ranges.iter().map(tasks_of).sum()
}

/// Ascending, disjoint, each task once.
fn in_order(mut all: Vec<TaskRange>) -> Result<Vec<TaskRange>, String> {
    all.sort();
    let too_many = || format!("more than {TASKS_MAX} tasks");
    if all.windows(2).all(|w| w[0].to < w[1].from) {
        return if tasks(&all) <= u64::from(TASKS_MAX) {
            Ok(all)
        } else {
            Err(too_many())
        };
    }
    if tasks(&all) > MIXED_MAX {
        return Err(format!(
            "ranges of more than {MIXED_MAX} tasks must not overlap each other"
        ));
    }
    let each: BTreeSet<u32> = all
        .iter()
        .flat_map(|r| (r.from..=r.to).step_by(r.step.max(1) as usize))
        .collect();
    Ok(compress(each))
}

/// The fewest ranges in steps, taken from the front.
fn compress(each: BTreeSet<u32>) -> Vec<TaskRange> {
    let mut out: Vec<TaskRange> = Vec::new();
    for n in each {
        match out.last_mut() {
            Some(r) if r.from == r.to => (r.to, r.step) = (n, n - r.from),
            Some(r) if r.to.checked_add(r.step) == Some(n) => r.to = n,
            _ => out.push(TaskRange {
                from: n,
                to: n,
                step: 1,
            }),
        }
    }
    // Two tasks far apart are no range that anybody would write; but they are one.
    out
}

/// Reads `12,15`, `ok:12`, `any:12,fail:10-20`, names and groups as words. `how` is what holds where nothing is
/// said; a prefix holds until the next one.
///
/// # Errors
/// What is wrong with it.
pub fn after(text: &str, mut how: AfterHow) -> Result<Vec<After>, String> {
    let mut out: Vec<After> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let mut word = part;
        if let Some((prefix, rest)) = part.split_once(':')
            && let Some(said) = how_named(prefix)
        {
            (how, word) = (said, rest.trim());
        }
        if word.is_empty() {
            return Err(format!("`{part}` names no job"));
        }
        if job::is_id(word) {
            let ids = job::ids(word)?;
            let same = out
                .iter_mut()
                .find(|a| a.how == how as i32 && a.jobs.as_ref().is_some_and(|s| !s.ids.is_empty()));
            match same.and_then(|a| a.jobs.as_mut()) {
                Some(s) => s.ids.extend(ids),
                None => out.push(waits_for(how, ids, Vec::new())),
            }
        } else {
            out.push(waits_for(how, Vec::new(), vec![name(word)?]));
        }
    }
    if out.is_empty() {
        return Err(format!(
            "`{text}` names no job: write 12, ok:12,15, any:12 or a name"
        ));
    }
    Ok(out)
}

fn waits_for(how: AfterHow, ids: Vec<libqueue::wire::job::IdRange>, words: Vec<String>) -> After {
    After {
        jobs: Some(Selection {
            ids,
            words,
            ..Selection::default()
        }),
        how: how as i32,
    }
}

fn how_named(prefix: &str) -> Option<AfterHow> {
    match prefix {
        "ok" | "after-ok" | "afterok" => Some(AfterHow::Ok),
        "any" | "after-any" | "afterany" => Some(AfterHow::Any),
        "fail" | "after-fail" | "afternotok" => Some(AfterHow::Fail),
        _ => None,
    }
}

/// Reads `license`, `license:3`.
///
/// # Errors
/// What is wrong with it.
pub fn limit(text: &str) -> Result<LimitUse, String> {
    let (word, total) = match text.split_once(':') {
        Some((n, t)) => {
            let t = t.parse::<u32>().ok().filter(|t| *t > 0);
            (
                n,
                Some(t.ok_or_else(|| format!("`{text}`: behind `:` comes how many there are, from 1 on"))?),
            )
        }
        None => (text, None),
    };
    Ok(LimitUse {
        name: word_of(word)?,
        total,
    })
}

/// Reads `begin,end,fail`, `all` or `never`: bits of [`mail_when`].
///
/// # Errors
/// What is wrong with it.
pub fn mail(text: &str) -> Result<u32, String> {
    let mut bits = 0;
    for word in text.split(',').map(str::trim) {
        bits |= match word.to_ascii_lowercase().as_str() {
            "begin" => mail_when::BEGIN,
            "end" => mail_when::END,
            "fail" => mail_when::FAIL,
            "all" => mail_when::BEGIN | mail_when::END | mail_when::FAIL,
            "never" | "none" if text.trim() == word => mail_when::NEVER,
            _ => {
                return Err(format!(
                    "`{text}`: write begin, end and fail with commas between them, all, or never"
                ));
            }
        };
    }
    Ok(bits)
}

/// Reads a policy of `--restart`.
///
/// # Errors
/// What is wrong with it.
pub fn restart(text: &str) -> Result<Restart, String> {
    match text {
        "restart" => Ok(Restart::Restart),
        "fail" => Ok(Restart::Fail),
        "ask" => Ok(Restart::Ask),
        _ => Err(format!("`{text}` is none of restart, fail and ask")),
    }
}

/// A name for people: anything that stands in one line and is no number.
///
/// # Errors
/// What is wrong with it.
pub fn name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > NAME_MAX || text.chars().any(libqueue::text::is_odd) {
        return Err(format!(
            "`{}` is no name: one line of at most {NAME_MAX} bytes",
            crate::messages::printable(text)
        ));
    }
    if job::is_id(text) {
        return Err(format!("`{text}` is no name: it reads as the number of a job"));
    }
    Ok(text.to_owned())
}

/// A name of a class or limit: letters, digits, `.`, `_`, `-`.
///
/// # Errors
/// What is wrong with it.
pub fn word_of(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if text.is_empty() || text.len() > 64 || !text.chars().all(fits) || text.starts_with(['-', '.']) {
        return Err(format!(
            "`{}` is no name: letters, digits, `.`, `_` and `-`",
            crate::messages::printable(text)
        ));
    }
    Ok(text.to_owned())
}

/// An address or account for mail.
///
/// # Errors
/// What is wrong with it.
pub fn address(text: &str) -> Result<String, String> {
    let bad = |c: char| libqueue::text::is_odd(c) || c.is_whitespace() || "<>()\"\\;:".contains(c);
    if text.is_empty() || text.len() > NAME_MAX || text.starts_with('-') || text.contains(bad) {
        return Err(format!(
            "`{}` is neither an address nor a user",
            crate::messages::printable(text)
        ));
    }
    Ok(text.to_owned())
}

/// A pattern for the name of an output file: `%j %a %h %x %u %%`.
///
/// # Errors
/// What is wrong with it.
pub fn pattern(text: &[u8]) -> Result<Vec<u8>, String> {
    let shown = || String::from_utf8_lossy(text).into_owned();
    let mut rest = text.iter();
    while let Some(b) = rest.next() {
        if *b == b'%' && !matches!(rest.next(), Some(b'j' | b'a' | b'h' | b'x' | b'u' | b'%')) {
            return Err(format!(
                "`{}`: behind `%` comes j (job), a (task), h (host), x (name), u (user) or another `%`",
                shown()
            ));
        }
    }
    if text.is_empty() {
        return Err("an empty name is no file".into());
    }
    Ok(text.to_vec())
}

#[cfg(test)]
mod tests;
