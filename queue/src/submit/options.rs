//! What the options of a batch job mean together. Pure: options in, a [`Batch`] or an error out.

use super::values::{self, When};
use crate::args::Found;
use crate::forms::{Target, target, text};
use crate::messages::Failure;
use crate::need::Need;
use crate::options::Id;
use libqueue::size;
use libqueue::wire::job::{After, AfterHow, Array, LimitUse, Restart};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// How often it is tried again, if only that is said.
const RETRIES: u32 = 3;
/// Most retries: more are a slip.
const RETRIES_MAX: u32 = 10_000;
/// Shortest lease, in milliseconds: below that the network decides.
const LEASE_MIN: u64 = 10_000;

/// The options of a batch job.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Where.
    pub host: Target,
    /// What it needs.
    pub need: Need,
    /// The account there; empty for the same name.
    pub login: String,
    /// Class.
    pub class: String,
    /// Name; empty: the command's.
    pub name: String,
    /// Group.
    pub group: String,
    /// Priority, if said.
    pub priority: Option<i32>,
    /// Retries, if said.
    pub retries: Option<u32>,
    /// Time limit in milliseconds; 0: none.
    pub time_ms: u64,
    /// Signal before its end, and how long before.
    pub warning: Option<(u32, u64)>,
    /// What is waited for.
    pub after: Vec<After>,
    /// Not before, and as it was written.
    pub start: Option<(When, String)>,
    /// Tasks.
    pub array: Option<Array>,
    /// File with a line for each task.
    pub each_line: Option<PathBuf>,
    /// File with a JSON value for each task.
    pub from_json: Option<PathBuf>,
    /// Limits.
    pub limits: Vec<LimitUse>,
    /// Pattern of the output's file; empty: the default.
    pub output: Vec<u8>,
    /// Pattern of the error output's file; empty: none of its own.
    pub error: Vec<u8>,
    /// Most bytes of output; 0: the host's default.
    pub cap: u64,
    /// When there is mail, if said.
    pub mail: Option<u32>,
    /// To whom.
    pub mail_to: String,
    /// Not twice; also not within so many milliseconds after it ended.
    pub dedupe: Option<u64>,
    /// What if its host is lost.
    pub restart: Restart,
    /// Lease in milliseconds; 0: the class's.
    pub lease_ms: u64,
    /// On hold.
    pub hold: bool,
    /// A copy of the output, for who stays.
    pub tee: Option<PathBuf>,
    /// The escape character, for who stays.
    pub escape: Option<u8>,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            host: Target::Any,
            need: Need::default(),
            login: String::new(),
            class: "wait".into(),
            name: String::new(),
            group: String::new(),
            priority: None,
            retries: None,
            time_ms: 0,
            warning: None,
            after: Vec::new(),
            start: None,
            array: None,
            each_line: None,
            from_json: None,
            limits: Vec::new(),
            output: Vec::new(),
            error: Vec::new(),
            cap: 0,
            mail: None,
            mail_to: String::new(),
            dedupe: None,
            restart: Restart::Unset,
            lease_ms: 0,
            hold: false,
            tee: None,
            escape: Some(crate::relay::escape::DEFAULT),
        }
    }
}

impl Batch {
    /// Reads them.
    ///
    /// # Errors
    /// One line for the user that names the option.
    pub fn new(found: &[Found]) -> Result<Self, Failure> {
        let mut b = Self::default();
        for f in found {
            b.take(f)?;
        }
        if b.each_line.is_some() && b.from_json.is_some() {
            return Err(Failure::own(
                "--each-line and --from-json: tasks have one entry each",
            ));
        }
        let all = b.array.as_ref().is_some_and(|a| a.ranges.is_empty());
        if all && b.each_line.is_none() && b.from_json.is_none() {
            return Err(Failure::own(
                "--array: which tasks? `%N` alone goes with --each-line and --from-json",
            ));
        }
        if b.lease_ms > 0 && !matches!(b.restart, Restart::Restart | Restart::Unset) {
            return Err(Failure::own("--lease goes with --restart restart"));
        }
        if b.warning
            .is_some_and(|(_, before)| b.time_ms > 0 && before >= b.time_ms)
        {
            return Err(Failure::own(
                "--signal: that is before the job begins: see --time",
            ));
        }
        Ok(b)
    }

    /// Whether each of them makes sense by itself.
    ///
    /// # Errors
    /// As [`Batch::new`].
    pub fn check(found: &[Found]) -> Result<(), Failure> {
        let mut b = Self::default();
        found.iter().try_for_each(|f| b.take(f))
    }

    fn take(&mut self, f: &Found) -> Result<(), Failure> {
        let Some(opt) = f.launch else { return Ok(()) };
        let wrong = |e: String| Failure::own(format!("{}: {e}", f.spelled));
        let word = || text(&f.value, &f.spelled);
        let after = |how| values::after(&word()?, how).map_err(wrong);
        match opt.id {
            Id::Interactive => self.class = "now".into(),
            Id::Queue => self.class = "wait".into(),
            Id::Class => self.class = values::word_of(&word()?).map_err(wrong)?,
            Id::Host => self.host = target(&f.value, &f.spelled, Target::Only)?,
            Id::Prefer => self.host = target(&f.value, &f.spelled, Target::Prefer)?,
            Id::Login => self.login = word()?,
            Id::Tee => self.tee = Some(f.value.clone().into()),
            Id::Escape => self.escape = crate::forms::escape_char(&f.value, &f.spelled)?,
            id @ (Id::Cores | Id::Mem | Id::Gpus | Id::Disk | Id::Expr) => {
                self.need.take(id, &f.spelled, &word()?)?;
            }
            Id::Name => self.name = values::name(&word()?).map_err(wrong)?,
            Id::Group => self.group = values::name(&word()?).map_err(wrong)?,
            Id::Priority => {
                let w = word()?;
                let n = w.parse().map_err(|_| wrong(format!("`{w}` is no number")))?;
                self.priority = Some(n);
            }
            Id::Retries => self.retries = Some(retries(&word()?).map_err(wrong)?),
            Id::Time => self.time_ms = values::duration(&word()?).map_err(wrong)?,
            Id::Warning => self.warning = Some(values::warning(&word()?).map_err(wrong)?),
            Id::After | Id::AfterOk => self.after.extend(after(AfterHow::Ok)?),
            Id::AfterAny => self.after.extend(after(AfterHow::Any)?),
            Id::AfterFail => self.after.extend(after(AfterHow::Fail)?),
            Id::At => {
                let w = word()?;
                self.start = Some((values::when(&w).map_err(wrong)?, w));
            }
            Id::Delay => {
                let w = word()?;
                self.start = Some((When::In(values::duration(&w).map_err(wrong)?), w));
            }
            Id::Array => self.array = Some(values::array(&word()?).map_err(wrong)?),
            Id::EachLine => self.each_line = Some(f.value.clone().into()),
            Id::FromJson => self.from_json = Some(f.value.clone().into()),
            Id::Limit => {
                let limit = values::limit(&word()?).map_err(wrong)?;
                self.limits.retain(|l| l.name != limit.name);
                self.limits.push(limit);
            }
            Id::Output => self.output = values::pattern(f.value.as_bytes()).map_err(wrong)?,
            Id::Error => self.error = values::pattern(f.value.as_bytes()).map_err(wrong)?,
            Id::OutputCap => self.cap = size::parse(&word()?).map_err(wrong)?,
            Id::Mail => self.mail = Some(values::mail(&word()?).map_err(wrong)?),
            Id::MailTo => self.mail_to = values::address(&word()?).map_err(wrong)?,
            Id::Dedupe => {
                self.dedupe = Some(match word()?.as_str() {
                    "" => 0,
                    w => values::duration(w).map_err(wrong)?,
                })
            }
            Id::Restart => self.restart = values::restart(&word()?).map_err(wrong)?,
            Id::Lease => {
                self.lease_ms = values::duration(&word()?).map_err(wrong)?;
                if self.lease_ms < LEASE_MIN {
                    return Err(wrong(format!(
                        "at least {} s: shorter ones run out while all is well",
                        LEASE_MIN / 1000
                    )));
                }
            }
            Id::Hold => self.hold = true,
            Id::PtyFull | Id::PtyInput => {
                return Err(Failure::own(format!(
                    "{} asks for a terminal, which a batch job has not: without -b, -q waits for a host and keeps the terminal",
                    f.spelled
                )));
            }
            Id::X11 | Id::Agent => {
                return Err(Failure::own(format!(
                    "{} leads to the caller, who need not be there when a batch job runs: without -b, -q waits for a host and forwards",
                    f.spelled
                )));
            }
            Id::Later => return Err(crate::forms::later(f)),
            // A batch job reads nothing anyhow; the rest says how it is submitted.
            _ => {}
        }
        Ok(())
    }
}

fn retries(text: &str) -> Result<u32, String> {
    if text.is_empty() {
        return Ok(RETRIES);
    }
    if text.starts_with('-') {
        return Err(format!("the value must not be negative: {text}"));
    }
    let n = text.parse::<u32>().ok().filter(|n| *n <= RETRIES_MAX);
    n.ok_or_else(|| format!("`{text}` is no number from 0 to {RETRIES_MAX}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::parse;
    use std::ffi::OsString;

    fn read(line: &str) -> Result<Batch, Failure> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        Batch::new(&parse(&words, false).unwrap().found)
    }

    #[test]
    fn options_together() {
        let b = read(
            "-b -d night -h h2 --name n --group g --priority -5 --retries --time 1h --signal USR1@5m --after 3 \
             --after-any 4,5 --delay 90 --limit a:2 --limit b --limit a:3 --output o.%j --error e --output-cap 1M \
             --mail all --mail-to me@example.org --dedupe=1h --restart restart --lease 1m --hold --mem 1G -- x",
        )
        .unwrap();
        assert_eq!((b.class.as_str(), b.host), ("night", Target::Only("h2".into())));
        assert_eq!((b.priority, b.retries, b.time_ms), (Some(-5), Some(3), 3_600_000));
        assert_eq!(
            (b.warning, b.start),
            (Some((10, 300_000)), Some((When::In(90_000), "90".into())))
        );
        assert_eq!(b.after.iter().map(|a| a.how).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(
            b.limits.iter().map(|l| l.total).collect::<Vec<_>>(),
            [None, Some(3)]
        );
        assert_eq!((b.cap, b.mail, b.dedupe), (1 << 20, Some(7), Some(3_600_000)));
        assert_eq!(
            (b.restart, b.lease_ms, b.hold, b.need.mem),
            (Restart::Restart, 60_000, true, 1 << 30)
        );
        let plain = read("-b -- x").unwrap();
        assert_eq!(plain, Batch::default());
        assert_eq!(read("-b --retries 5 -- x").unwrap().retries, Some(5));
        assert_eq!(read("-b --dedupe -- x").unwrap().dedupe, Some(0));
        assert_eq!(read("-d night -q -b -- x").unwrap().class, "wait");
        assert_eq!(
            read("-b --each-line - --array %2 -- x")
                .unwrap()
                .array
                .unwrap()
                .at_once,
            2
        );
    }

    #[test]
    fn mistakes_name_the_option() {
        for (line, part) in [
            ("-b --time 5x -- x", "--time: `5x`"),
            ("-b --retries=many -- x", "--retries: "),
            ("-b --name 12 -- x", "--name: "),
            ("-b -d a/b -- x", "-d: "),
            ("-b --at 25:00 -- x", "--at: "),
            ("-b --array 0-3 -- x", "--array: "),
            ("-b --array %3 -- x", "--array: which"),
            ("-b --each-line a --from-json b -- x", "one entry each"),
            ("-b --lease 1h --restart fail -- x", "--lease goes with"),
            ("-b --lease 1 -- x", "--lease: at least 10 s"),
            ("-b --time 60 --signal INT@60 -- x", "--signal: "),
            ("-b -p -- x", "-p asks for a terminal"),
            ("-b -X -- x", "-X leads to the caller"),
            ("-b -A -- x", "-A leads to the caller"),
            ("-b --mem 1Q -- x", "--mem: "),
            ("-b --priority high -- x", "--priority: `high`"),
            ("-b --checkpoint x -- x", "comes with migration"),
        ] {
            let e = read(line).unwrap_err().text;
            assert!(e.contains(part) && !e.contains('\n'), "{line}: {e}");
        }
    }
}
