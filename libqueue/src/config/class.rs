//! What the file of a class of jobs may say. Knows text; must not know where files lie, nor what a default means.

use super::{ConfigError, parse_as};
use crate::expr::Expr;
use crate::wire::Need;
use crate::wire::job::{Class, Restart, mail_when};
use crate::{duration, size};
use serde::{Deserialize, Deserializer};
use std::path::Path;

/// Longest name.
const NAME_MAX: usize = 64;
/// Shortest lease.
const LEASE_MIN_MS: u64 = 10 * 1000;
/// Priorities are from minus this to this.
const PRIORITY: i32 = 1_000_000;

/// What a file may say. All keys are optional.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Text {
    priority: Option<Priority>,
    retries: Option<u32>,
    restart: Option<Policy>,
    lease: Option<Lease>,
    time: Option<Time>,
    mail: Option<Mail>,
    max_running: Option<u32>,
    cores: Option<u32>,
    mem: Option<Size>,
    gpus: Option<u32>,
    disk: Option<Size>,
    requires: Option<Wanted>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Policy {
    Restart,
    Fail,
    Ask,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum When {
    Begin,
    End,
    Fail,
    Never,
}

/// A number or a text, in a file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Word {
    Number(u64),
    Text(String),
}

impl Word {
    fn text(self) -> String {
        match self {
            Self::Number(n) => n.to_string(),
            Self::Text(t) => t,
        }
    }
}

/// Judged while it is read, so that an error names the very place.
macro_rules! judged {
    ($name:ident($value:ty), $from:ty, $judge:expr) => {
        #[derive(Debug)]
        struct $name($value);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let judge: fn($from) -> Result<$value, String> = $judge;
                judge(<$from>::deserialize(d)?)
                    .map(Self)
                    .map_err(serde::de::Error::custom)
            }
        }
    };
}

judged!(Priority(i32), i32, |p| if (-PRIORITY..=PRIORITY).contains(&p) {
    Ok(p)
} else {
    Err(format!("priority {p}: use -{PRIORITY} to {PRIORITY}"))
});
judged!(Time(u64), Word, |t| duration::parse(&t.text()));
judged!(Size(u64), Word, |t| size::parse(&t.text()));
judged!(Lease(u64), Word, |t| match duration::parse(&t.text())? {
    ms if ms < LEASE_MIN_MS => Err(format!(
        "a lease is at least {} s: it has to be renewed in time",
        LEASE_MIN_MS / 1000
    )),
    ms => Ok(ms),
});
judged!(Wanted(String), String, |t| match Expr::parse(&t) {
    Ok(_) => Ok(t),
    Err(e) => Err(e.to_string()),
});
judged!(Mail(u32), Times, |t| {
    let bit = |w: When| match w {
        When::Begin => mail_when::BEGIN,
        When::End => mail_when::END,
        When::Fail => mail_when::FAIL,
        When::Never => mail_when::NEVER,
    };
    let all: u32 = match t {
        Times::One(w) => bit(w),
        Times::Many(many) => many.into_iter().map(bit).fold(0, |a, b| a | b),
    };
    Ok(all)
});

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected \"begin\", \"end\", \"fail\", \"never\", or a list of them"
)]
enum Times {
    One(When),
    Many(Vec<When>),
}

/// The class that a file is called after.
///
/// # Errors
/// It is no name of a class.
pub fn name(file: &Path) -> Result<&str, ConfigError> {
    let name = file.file_stem().and_then(|n| n.to_str()).unwrap_or_default();
    let such = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(such) {
        return Err(ConfigError {
            file: file.to_owned(),
            at: None,
            text: format!(
                "{name:?} is no name of a class: use up to {NAME_MAX} letters, digits, -, _ and dots"
            ),
        });
    }
    Ok(name)
}

/// What a file makes of a class: what it does not say is as in `base`, but for what a job needs.
///
/// # Errors
/// The file, line and column of what is wrong.
pub fn parse(text: &str, file: &Path, name: &str, base: &Class) -> Result<Class, ConfigError> {
    let said: Text = parse_as(text, file)?;
    let need = Need {
        cores: said.cores.unwrap_or(0),
        mem: said.mem.map_or(0, |s| s.0),
        gpus: said.gpus.unwrap_or(0),
        disk: said.disk.map_or(0, |s| s.0),
        expr: said.requires.map_or_else(String::new, |e| e.0),
        ..Need::default()
    };
    Ok(Class {
        name: name.to_owned(),
        priority: said.priority.map_or(base.priority, |p| p.0),
        retries: said.retries.unwrap_or(base.retries),
        restart: said.restart.map_or(base.restart, |p| match p {
            Policy::Restart => Restart::Restart as i32,
            Policy::Fail => Restart::Fail as i32,
            Policy::Ask => Restart::Ask as i32,
        }),
        lease_ms: said.lease.map_or(base.lease_ms, |l| l.0),
        time_ms: said.time.map_or(base.time_ms, |t| t.0),
        mail: said.mail.map_or(base.mail, |m| m.0),
        max_running: said.max_running.unwrap_or(base.max_running),
        need: (need != Need::default()).then_some(need),
    })
}
