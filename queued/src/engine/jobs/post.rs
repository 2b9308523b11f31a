//! Which letters are written: one for what happened, or a digest of much. Knows owners, and what became of jobs;
//! not how mail is sent.
//!
//! What happened to the tasks of an array is gathered until the array is over, what happened to the jobs of a group
//! until none of them is live; each of these, and each other job, is then one thing for its owner. He gets a letter
//! about it if nothing more ends within [`HOLD`]; else one digest when it is quiet for [`QUIET`], or after [`LONG`].
//! What is gathered is also written as a draft into the store now and then: if the leader dies, that is sent.

mod gather;
mod notice;
mod outbox;
#[cfg(test)]
mod tests;
mod text;

use super::types::{Clock, LeaderEffect};
use crate::store::{JobRow, Op};
use gather::Gather;
use libqueue::wire::job::{Cause, Key, Letter, Mailed, Outcome, State, mail_when};
use notice::{array_item, group_item, operators, summary, undelivered};
use outbox::Outbox;
use std::collections::BTreeMap;
use text::{Item, item};

/// So long a first letter waits for company.
const HOLD: u64 = 5_000;
/// A digest is written when nothing was added for so long,
const QUIET: u64 = 30_000;
/// but not later than so long after its first item.
const LONG: u64 = 600_000;
/// Drafts are written so often.
const DRAFT: u64 = 10_000;
/// Letters to the operator in an hour, and the hour.
const OPERATOR: u32 = 10;
const HOUR: u64 = 3_600_000;
/// Arrays and groups of which something is gathered; beyond, each thing is told by itself.
const GATHERED: usize = 10_000;

/// What happened to a job or a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// An attempt has started.
    Begin,
    /// It is done, failed, killed or buried: `state` says which.
    Ended,
    /// Its host is lost.
    Lost,
    /// It was refused at submission: `job.reason` says why.
    Rejected,
}

/// Something that its owner may want to know.
#[derive(Debug, Clone)]
pub(crate) struct Event<'a> {
    /// What.
    pub kind: EventKind,
    /// The job.
    pub job: &'a JobRow,
    /// The attempt; attempt 0: none was made.
    pub key: Key,
    /// How it ended, with the ends of its output.
    pub outcome: Option<&'a Outcome>,
    /// What it is now.
    pub state: State,
    /// Where; may be empty.
    pub host: &'a str,
    /// Tasks by state now; of a job that is no array: one.
    pub counts: &'a [(State, u32)],
    /// Nothing of the job runs or will, unless somebody acts.
    pub last_of_job: bool,
    /// Nor of its group (of the same owner); the same as `last_of_job` without a group.
    pub last_of_group: bool,
}

/// Something that is gathered, with its draft in the store.
#[derive(Debug, Default)]
struct Pile {
    all: Gather,
    to: String,
    owner: String,
    /// Number of the draft, when it was written, and of how many items.
    draft: Option<(u64, u64, u64)>,
    /// When the first item came, and the last.
    first: u64,
    last: u64,
}

impl Pile {
    fn add(&mut self, now: u64, item: Item) {
        if self.all.items() == 0 {
            self.first = now;
        }
        self.last = now;
        self.all.add(item);
    }

    /// When it is written, if it is a user's.
    fn due(&self) -> u64 {
        match self.all.items() {
            0 | 1 => self.first + HOLD,
            _ => (self.last + QUIET).min(self.first + LONG),
        }
    }

    /// When its draft is to be written.
    fn draft_due(&self) -> Option<u64> {
        match self.draft {
            None => Some(self.first),
            Some((_, at, n)) => (n != self.all.items()).then_some(at + DRAFT),
        }
    }
}

/// The letters.
#[derive(Debug, Default)]
pub(crate) struct Post {
    /// By array.
    arrays: BTreeMap<u64, Pile>,
    /// By owner and group.
    groups: BTreeMap<(String, String), Pile>,
    /// By address and owner.
    users: BTreeMap<(String, String), Pile>,
    /// Faults that an operator should see; when the present hour began, and how many letters it has had.
    faults: Vec<(Item, u64)>,
    hour: u64,
    sent: u32,
    /// Those beyond.
    more: Gather,
    /// Drafts of what came to nothing.
    stale: Vec<u64>,
    outbox: Outbox,
    wake: Option<u64>,
}

/// Whether an owner wants to know.
fn wanted(e: &Event<'_>) -> bool {
    let plan = &e.job.plan;
    if plan.silent || plan.attached {
        return false;
    }
    let when = plan.mail.unwrap_or(mail_when::FAIL);
    let bit = match (e.kind, e.state) {
        (EventKind::Begin, _) => mail_when::BEGIN,
        (EventKind::Ended, State::Done) => mail_when::END,
        (EventKind::Ended, State::Killed) if own_doing(e) => return false,
        _ => mail_when::FAIL,
    };
    when & bit != 0
}

/// He killed it himself.
fn own_doing(e: &Event<'_>) -> bool {
    let text = e.outcome.map_or(&e.job.reason, |o| &o.text);
    let by = format!("by {}", e.job.owner);
    text.split(by.as_str())
        .skip(1)
        .any(|rest| rest.is_empty() || rest.starts_with(['@', ' ', ',', ';']))
}

/// To whom.
fn address(job: &JobRow) -> String {
    match job.plan.mail_to.is_empty() {
        true => job.owner.clone(),
        false => job.plan.mail_to.clone(),
    }
}

/// Where a failure is the host's, and somebody has to look at it.
fn fault(e: &Event<'_>) -> bool {
    e.kind == EventKind::Ended
        && e.outcome
            .is_some_and(|o| matches!(o.cause(), Cause::Internal | Cause::Disk | Cause::Pam))
}

impl Post {
    /// From letters that were not sent yet, and the highest number of one.
    pub(crate) fn new(letters: Vec<Letter>, last_number: u64) -> Self {
        let wake = (!letters.is_empty()).then_some(0);
        Self {
            outbox: Outbox::new(letters, last_number),
            wake,
            ..Self::default()
        }
    }

    /// Something happened.
    pub(crate) fn event(&mut self, clock: Clock, e: Event<'_>) {
        let now = clock.boot;
        let wanted = wanted(&e);
        if fault(&e) {
            self.faults.push((operators(&e), now));
            self.wake = Some(0);
        }
        let array = e.job.plan.array.is_some();
        // What has to be known at once is not gathered by arrays and groups.
        if e.kind != EventKind::Ended {
            // Of an array only the first start is told: then nothing of it has ended.
            let told =
                e.kind == EventKind::Begin && array && e.counts.iter().any(|(s, n)| *n > 0 && over(*s));
            if wanted && !told && !(array && e.kind == EventKind::Begin && started(e.counts) > 1) {
                self.tell(now, &e, item(&e, e.key.task));
            }
            return;
        }
        if array {
            if wanted && e.state != State::Done && self.room(self.arrays.len()) {
                let pile = self.arrays.entry(e.job.id).or_default();
                pile.to = address(e.job);
                pile.owner.clone_from(&e.job.owner);
                pile.add(now, item(&e, e.key.task));
                self.wake = Some(0);
            }
            if e.last_of_job {
                self.array_over(now, &e);
            }
        } else if wanted {
            self.done(now, &e, item(&e, e.key.task));
        }
        if e.last_of_group && !e.job.plan.group.is_empty() {
            self.group_over(now, &e);
        }
    }

    fn room(&self, n: usize) -> bool {
        n < GATHERED
    }

    /// A job is over: for its group, or for its owner.
    fn done(&mut self, now: u64, e: &Event<'_>, item: Item) {
        if e.job.plan.group.is_empty() || !self.room(self.groups.len()) {
            return self.tell(now, e, item);
        }
        let name = (e.job.owner.clone(), e.job.plan.group.clone());
        let pile = self.groups.entry(name).or_default();
        pile.to = address(e.job);
        pile.owner.clone_from(&e.job.owner);
        pile.add(now, item);
        self.wake = Some(0);
    }

    /// One thing for an owner.
    fn tell(&mut self, now: u64, e: &Event<'_>, item: Item) {
        let to = address(e.job);
        let pile = self.users.entry((to.clone(), e.job.owner.clone())).or_default();
        pile.to = to;
        pile.owner.clone_from(&e.job.owner);
        pile.add(now, item);
        self.wake = Some(0);
    }

    /// An array is over: its digest.
    fn array_over(&mut self, now: u64, e: &Event<'_>) {
        let pile = self.arrays.remove(&e.job.id).unwrap_or_default();
        self.drop_draft(&pile);
        let plan = &e.job.plan;
        let end = plan.mail.unwrap_or(mail_when::FAIL) & mail_when::END != 0;
        if plan.silent || plan.attached || (pile.all.items() == 0 && !end) {
            return;
        }
        self.done(now, e, array_item(e, &pile.all));
    }

    /// No job of a group is live any more: one thing for its owner.
    fn group_over(&mut self, now: u64, e: &Event<'_>) {
        let name = (e.job.owner.clone(), e.job.plan.group.clone());
        let Some(pile) = self.groups.remove(&name) else {
            return;
        };
        self.drop_draft(&pile);
        let item = match &pile.all.only {
            Some(only) => only.clone(),
            None => group_item(&name.1, &name.0, &pile.all),
        };
        let user = self
            .users
            .entry((pile.to.clone(), pile.owner.clone()))
            .or_default();
        user.to = pile.to;
        user.owner = pile.owner;
        user.add(now, item);
        self.wake = Some(0);
    }

    fn drop_draft(&mut self, pile: &Pile) {
        if let Some((number, ..)) = pile.draft {
            self.stale.push(number);
            self.wake = Some(0);
        }
    }

    /// The time named by `wake` has come, or something else happened: writes and sends what is due.
    pub(crate) fn tick(&mut self, clock: Clock, out: &mut Vec<LeaderEffect>) {
        if self.wake.is_none_or(|w| w > clock.boot) {
            return;
        }
        let due: Vec<_> = self
            .users
            .iter()
            .filter(|(_, p)| p.due() <= clock.boot)
            .map(|(k, _)| k.clone())
            .collect();
        for key in due {
            let Some(pile) = self.users.remove(&key) else {
                continue;
            };
            let number = match pile.draft {
                Some((n, ..)) => n,
                None => self.outbox.number(),
            };
            let letter = letter(clock, number, &pile, &summary(&pile.all, &pile.owner));
            out.push(LeaderEffect::Store(Op::Letter(Box::new(letter.clone()))));
            self.outbox.add(letter, clock.boot);
        }
        self.drafts(clock, out);
        self.operator(clock, out);
        for number in std::mem::take(&mut self.stale) {
            out.push(LeaderEffect::Store(Op::LetterGone(number)));
        }
        self.outbox.tick(clock, out);
        self.wake = self.next(clock);
    }

    /// Writes down what is gathered.
    fn drafts(&mut self, clock: Clock, out: &mut Vec<LeaderEffect>) {
        let arrays = self.arrays.values_mut();
        for pile in arrays
            .chain(self.groups.values_mut())
            .chain(self.users.values_mut())
        {
            if pile.draft_due().is_none_or(|d| d > clock.boot) {
                continue;
            }
            let number = match pile.draft {
                Some((n, ..)) => n,
                None => self.outbox.number(),
            };
            let letter = letter(clock, number, pile, &summary(&pile.all, &pile.owner));
            pile.draft = Some((number, clock.boot, pile.all.items()));
            out.push(LeaderEffect::Store(Op::Letter(Box::new(letter))));
        }
    }

    /// Tells the operator, not too often.
    fn operator(&mut self, clock: Clock, out: &mut Vec<LeaderEffect>) {
        if clock.boot >= self.hour + HOUR {
            if self.more.items() > 0 {
                let gathered = std::mem::take(&mut self.more);
                let n = gathered.items();
                let subject = format!("queue: {n} more errors in the last hour");
                let opening = format!(
                    "{n} more jobs failed for reasons that are not theirs, after the {OPERATOR} of which you were told."
                );
                let item = gathered.digest(&subject, &opening, "", Vec::new());
                self.post(clock, item, out);
                self.sent = 1;
            } else {
                self.sent = 0;
            }
            self.hour = clock.boot;
        }
        for (item, _) in std::mem::take(&mut self.faults) {
            if self.sent < OPERATOR {
                self.sent += 1;
                self.post(clock, item, out);
            } else {
                self.more.add(item);
            }
        }
    }

    /// A letter to the operator.
    fn post(&mut self, clock: Clock, item: Item, out: &mut Vec<LeaderEffect>) {
        let number = self.outbox.number();
        let letter = letter(clock, number, &Pile::default(), &item);
        out.push(LeaderEffect::Store(Op::Letter(Box::new(letter.clone()))));
        self.outbox.add(letter, clock.boot);
    }

    /// When something is due.
    fn next(&self, clock: Clock) -> Option<u64> {
        let users = self.users.values().map(Pile::due).min();
        let piles = self
            .arrays
            .values()
            .chain(self.groups.values())
            .chain(self.users.values());
        let drafts = piles.filter_map(Pile::draft_due).min();
        let operator = (self.more.items() > 0).then_some(self.hour + HOUR);
        [users, drafts, operator, self.outbox.wake(clock)]
            .into_iter()
            .flatten()
            .min()
    }

    /// When `tick` is due, in milliseconds of [`Clock::boot`]; at once if something happened.
    pub(crate) fn wake(&self) -> Option<u64> {
        self.wake
    }

    /// A host says what became of a letter.
    pub(crate) fn mailed(&mut self, clock: Clock, host: &str, mailed: Mailed, out: &mut Vec<LeaderEffect>) {
        let refused = self.outbox.mailed(clock, host, mailed, out);
        // Of what goes to the operator himself the log has to be enough.
        if let Some((letter, why)) = refused.filter(|(l, _)| !l.to.is_empty()) {
            self.faults.push((undelivered(&letter, &why), clock.boot));
        }
        self.wake = Some(0);
    }

    /// Whether a host can send mail; a connection that ended cannot.
    pub(crate) fn mailer(&mut self, host: &str, conn: u64, able: bool) {
        self.outbox.mailer(host, conn, able);
        if self.outbox.len() > 0 {
            self.wake = Some(0);
        }
    }

    /// Letters that wait to be sent.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> u64 {
        self.outbox.len() + self.users.len() as u64
    }
}

/// Whether nothing more happens in this state by itself.
fn over(state: State) -> bool {
    matches!(state, State::Done | State::Failed | State::Killed | State::Buried)
}

/// Tasks that run.
fn started(counts: &[(State, u32)]) -> u32 {
    let running = counts
        .iter()
        .filter(|(s, _)| matches!(s, State::Running | State::Suspended));
    running.map(|(_, n)| n).sum()
}

/// An item as a letter.
fn letter(clock: Clock, number: u64, pile: &Pile, item: &Item) -> Letter {
    Letter {
        number,
        to: pile.to.clone(),
        subject: item.subject.clone(),
        body: item.body.clone(),
        at_ms: clock.wall,
        headers: item.headers.clone(),
    }
}
