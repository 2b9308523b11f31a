//! What runs on this host, and what may start: this host alone grants, and counts at once. Part of the engine;
//! knows nothing of other hosts.

use super::fit::{Claim, Known, No, Terms, fit, there};
use super::held::Held;
use super::place::FADE;
use super::types::{AskId, Drain, Effect, Effects, Level, Now, SessionId};
use super::{Engine, wire};
use libqueue::expr::Expr;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;
use wire::{ErrorCode, Load, Need, reply};

/// A grant that neither started nor was taken back counts no longer than this.
const GRANT: Duration = Duration::from_secs(20);
/// A launch that this host was asked about is expected for so long.
const EXPECTED: Duration = Duration::from_millis(200);
/// What it needs is kept for it so long: of several who ask for the last core, one is told yes.
const KEPT: Duration = Duration::from_millis(50);
/// Launches that are expected at most: whoever asks without end does not matter beyond it.
const EXPECTED_MAX: usize = 1024;

/// Time constant of the measured `running`.
const MEASURED: Duration = Duration::from_secs(5);
/// A command that ended at once counts so much of a task, and fades: many of them are work, too.
const BRIEF: f64 = 0.4;

/// Sessions and grants of this host.
#[derive(Debug, Default)]
pub(super) struct Granting {
    grants: Held<AskId>,
    /// Since when they were granted, and what they need.
    sessions: Held<SessionId>,
    /// Those of them that are attempts of batch jobs.
    jobs: BTreeSet<SessionId>,
    /// How many there were.
    mean: Mean,
    /// Commands that ended soon after their start, faded as they were at that time.
    brief: (f64, Now),
    /// Launches that this host was asked about: since when, by whom, what for.
    expected: VecDeque<(Now, u64, Claim)>,
}

/// The average number of sessions, faded as the measured `running` is: so it tells how many of the present ones
/// that figure cannot show yet, or still shows although they ended.
#[derive(Debug, Default, Clone, Copy)]
struct Mean {
    /// At that time, and how many there are since.
    value: f64,
    at: Now,
    sessions: f64,
    /// At the last measurement.
    measured: (Now, f64),
}

impl Mean {
    fn at(&self, then: Now) -> f64 {
        if then == self.measured.0 {
            return self.measured.1;
        }
        let age = then.saturating_sub(self.at);
        self.sessions + (self.value - self.sessions) * fade(age, MEASURED)
    }

    /// There are so many from now on.
    fn set(&mut self, now: Now, measured: Now, sessions: usize) {
        self.measured = (measured, self.at(measured));
        let age = now.saturating_sub(self.at);
        self.value = self.sessions + (self.value - self.sessions) * fade(age, MEASURED);
        self.at = now;
        self.sessions = sessions as f64;
    }
}

impl Granting {
    /// What all sessions and grants have.
    fn claim(&self) -> Claim {
        self.grants.claim().and(self.sessions.claim())
    }

    /// The tasks that run, by what was measured and by what began and ended since; and those that are about to.
    fn tasks(&self, now: Now, measured: Now, running: f64) -> (f64, f64) {
        let (sessions, mean) = (self.mean.sessions, self.mean.at(measured));
        let running = if sessions < mean && running > 0.0 {
            let share = (running / mean).min(1.0);
            (running - share * (mean - sessions)).max(0.0)
        } else {
            running
        };
        (running, (sessions - mean).max(0.0) + BRIEF * self.faded(now))
    }

    /// Launches that are expected: of all, and of one who asked.
    fn expected(&self, now: Now, asker: u64) -> (u32, u32) {
        let all = self.expected.iter().filter(|(at, ..)| now < *at + EXPECTED);
        all.fold((0, 0), |(all, his), (_, by, _)| {
            (all + 1, his + u32::from(*by == asker))
        })
    }

    fn faded(&self, now: Now) -> f64 {
        self.brief.0 * fade(now.saturating_sub(self.brief.1), FADE)
    }

    /// The number of sessions changed. `measured`: when the load was, last.
    fn changed(&mut self, now: Now, measured: Now) {
        self.mean
            .set(now, measured, self.grants.len() + self.sessions.len());
    }

    /// What others were told they could have, a moment ago.
    fn kept_for_others(&self, now: Now, asker: u64) -> Claim {
        let kept = self
            .expected
            .iter()
            .filter(|(at, by, _)| now < *at + KEPT && *by != asker);
        kept.map(|(.., c)| *c).fold(Claim::default(), Claim::and)
    }

    fn tidy(&mut self, now: Now) {
        while self
            .expected
            .front()
            .is_some_and(|(at, ..)| now >= *at + EXPECTED)
        {
            self.expected.pop_front();
        }
    }

    /// When something runs out.
    pub(super) fn wake(&self) -> Option<Now> {
        self.grants.oldest().map(|at| at + GRANT)
    }
}

fn fade(age: Duration, constant: Duration) -> f64 {
    (-age.as_secs_f64() / constant.as_secs_f64()).exp()
}

impl Engine {
    /// This host's load at this moment: what was measured, and what the engine knows itself. Launches that are only
    /// expected are no part of it.
    pub(super) fn current_load(&self, now: Now) -> Load {
        let (at, measured) = self.load.filter(|(at, _)| *at <= now).unwrap_or_default();
        let g = &self.placing.granting;
        let claim = g.claim();
        let (running, starts) = g.tasks(now, at, measured.running);
        Load {
            cores: if self.monitor { measured.cores } else { 0 },
            sessions: claim.sessions,
            jobs: g.jobs.len() as u32,
            running,
            starts,
            cores_reserved: claim.cores,
            mem_reserved: claim.mem,
            gpus_reserved: claim.gpus,
            disk_reserved: claim.disk,
            draining: self.drain.is_some(),
            facts: self.facts.version,
            seq: self.seq,
            ..measured
        }
    }

    /// The same for choosing: with the launches that others are about to send here.
    pub(super) fn own_word(&self, now: Now) -> Load {
        let load = self.current_load(now);
        let (all, own) = self.placing.granting.expected(now, self.own.number());
        Load {
            starts: load.starts + f64::from(all - own) / 2.0,
            ..load
        }
    }

    /// Whether a session may start here now; counted if so.
    pub(super) fn grant(&mut self, now: Now, ask: AskId, need: Need, from_here: bool, out: &mut Effects) {
        if from_here && !need.look {
            self.placing.seen.arrived(self.own.number(), &need);
        }
        let reply = match self.may_start(now, &need, from_here, Claim::default()) {
            Ok(()) => {
                if !need.look {
                    self.count(now, ask, need, from_here);
                }
                reply::Kind::Done(wire::Empty {})
            }
            Err(no) => reply::Kind::Error(self.no_here(&no)),
        };
        out.push(Effect::Answer { ask, reply });
    }

    fn count(&mut self, now: Now, ask: AskId, need: Need, from_here: bool) {
        let own = self.own.number();
        let g = &mut self.placing.granting;
        // Most likely the first one that came from there.
        if let Some(i) = g.expected.iter().position(|(_, by, _)| (*by == own) == from_here) {
            g.expected.remove(i);
        }
        g.grants.insert(ask, (now, need));
        self.changed(now);
    }

    /// The number of sessions here changed.
    fn changed(&mut self, now: Now) {
        let measured = self.load.map_or(Now::ZERO, |(at, _)| at);
        self.placing.granting.changed(now, measured);
        self.report_soon(now);
    }

    /// Whether a session may start here now, if others are to have `before`.
    fn may_start(&self, now: Now, need: &Need, from_here: bool, before: Claim) -> Result<(), No> {
        let own = self.known_own(now);
        let expr = match need.expr.as_str() {
            "" => None,
            e => Some(
                Expr::parse(e)
                    .map_err(|e| No::new(ErrorCode::BadRequest, format!("was asked for -R: {e}")))?,
            ),
        };
        there(&own, true)?;
        // A measurement that is yet to come is no reason.
        let own = Known {
            load: Some((now, self.current_load(now))),
            ..own
        };
        let terms = Terms {
            named: true,
            from_here,
            before,
        };
        fit(&own, need, expr.as_ref(), terms).map_err(|no| self.in_detail(no))
    }

    /// A refusal with what only this host knows.
    fn in_detail(&self, no: No) -> No {
        match (&self.drain, no.code) {
            (Some(d), ErrorCode::Draining) => No::new(no.code, drained(d, &self.own.name)),
            _ => no,
        }
    }

    fn no_here(&self, no: &No) -> wire::Error {
        wire::Error {
            code: no.code as i32,
            text: no.of(&self.own.name),
        }
    }

    /// The fresh word to somebody who asks whether this host would take that. He is expected from now on.
    pub(super) fn word(&mut self, now: Now, asker: u64, id: u64, need: &Need) -> wire::Word {
        self.placing.granting.tidy(now);
        let before = self.placing.granting.kept_for_others(now, asker);
        let mut load = self.current_load(now);
        let (expected, yours) = self.placing.granting.expected(now, asker);
        load.starts += f64::from(expected) / 2.0;
        let from_here = asker == self.own.number();
        let (no, code) = match self.may_start(now, need, from_here, before) {
            Ok(()) => (String::new(), 0),
            Err(no) => (no.text, no.code as i32),
        };
        let g = &mut self.placing.granting;
        if no.is_empty() && !need.look && g.expected.len() < EXPECTED_MAX {
            g.expected.push_back((now, asker, Claim::of(need)));
        }
        wire::Word {
            id,
            load: Some(load),
            no,
            code,
            yours,
        }
    }

    /// A granted session did not start.
    pub(super) fn ungrant(&mut self, now: Now, ask: AskId) {
        if self.placing.granting.grants.remove(&ask).is_some() {
            self.changed(now);
        }
    }

    /// A session runs here. It counts, whoever granted it.
    pub(super) fn started(&mut self, now: Now, grant: Option<AskId>, session: SessionId, need: Need) {
        let g = &mut self.placing.granting;
        let granted = grant.and_then(|id| g.grants.remove(&id));
        if !need.look {
            g.sessions
                .insert(session, (granted.map_or(now, |(at, _)| at), need));
        }
        self.changed(now);
    }

    /// What is about to be told as a session is an attempt of a batch job.
    pub(super) fn is_job(&mut self, session: SessionId) {
        self.placing.granting.jobs.insert(session);
    }

    /// A session ended here.
    pub(super) fn ended(&mut self, now: Now, session: &SessionId) {
        let g = &mut self.placing.granting;
        g.jobs.remove(session);
        let Some((since, _)) = g.sessions.remove(session) else {
            return;
        };
        g.brief = (g.faded(now) + fade(now.saturating_sub(since), FADE), now);
        self.changed(now);
    }

    /// queue-exec answers, or no longer; then it tells all sessions again when it is back.
    pub(super) fn set_monitor(&mut self, now: Now, up: bool) {
        if !up {
            self.placing.granting.sessions.clear();
            self.placing.granting.jobs.clear();
            self.changed(now);
        }
        if self.monitor != up {
            self.monitor = up;
            self.report_soon(now);
        }
    }

    /// Starts nothing new from now on, or again.
    pub(super) fn set_drain(&mut self, now: Now, drain: Option<Drain>, out: &mut Effects) {
        if self.drain == drain {
            return;
        }
        let text = match &drain {
            Some(d) => format!("{} {}", self.own.name, drained(d, &self.own.name)),
            None => format!("{} is no longer drained: it starts new work again", self.own.name),
        };
        out.log(Level::Info, text);
        self.drain.clone_from(&drain);
        out.push(Effect::KeepDrain(drain));
        self.report_now(now);
    }

    /// Forgets grants that came to nothing.
    pub(super) fn tidy_grants(&mut self, now: Now) {
        let grants = &mut self.placing.granting.grants;
        let before = grants.len();
        grants.retain(|at| now < at + GRANT);
        if grants.len() != before {
            self.changed(now);
        }
    }
}

/// That a host is drained, since when, by whom, why, and how that ends; goes on after its name.
pub(super) fn drained(d: &Drain, host: &str) -> String {
    let by = if d.by.is_empty() {
        String::new()
    } else {
        format!(" by {}", d.by)
    };
    let reason = if d.reason.is_empty() {
        String::new()
    } else {
        format!(" ({})", d.reason)
    };
    let since = utc(d.since);
    format!("is being drained since {since}{by}{reason}: 'queue undrain {host}' ends that")
}

/// A time as people read it: `2025-03-04 10:11 UTC`.
pub(super) fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Civil date by the calendar's period of 400 years, each beginning on a first of March.
    let z = days + 719_468;
    let (era, day) = (z / 146_097, z % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let in_year = day - (365 * year + year / 4 - year / 100);
    let m = (5 * in_year + 2) / 153;
    let (d, month) = (
        in_year - (153 * m + 2) / 5 + 1,
        if m < 10 { m + 3 } else { m - 9 },
    );
    let year = year + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{d:02} {:02}:{:02} UTC",
        rest / 3600,
        rest / 60 % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (s, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_741_083_060, "2025-03-04 10:11 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
        ] {
            assert_eq!(utc(s), text);
        }
    }

    #[test]
    fn what_began_and_ended_since_the_measurement_counts() {
        let s = Duration::from_secs;
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
        let mut g = Granting::default();
        let begin = |g: &mut Granting, n: u64, now, measured| {
            g.grants.insert(n, (now, Need::default()));
            g.changed(now, measured);
        };
        // Two begin: measured before, they are newcomers, and they are fewer in each later measurement.
        begin(&mut g, 1, s(10), s(9));
        begin(&mut g, 2, s(10), s(9));
        near(g.tasks(s(10), s(9), 0.0).1, 2.0);
        let shown = |n: f64, t: u64| n * (1.0 - (-(t as f64) / 5.0).exp());
        let (running, starts) = g.tasks(s(14), s(14), shown(2.0, 4));
        near(running + starts, 2.0);
        // Long after, one ends: the measurement shows it still.
        g.grants.remove(&1);
        g.changed(s(100), s(99));
        let (running, starts) = g.tasks(s(100), s(99), 2.0);
        near(running, 1.0);
        near(starts, 0.0);
        near(g.tasks(s(103), s(103), 1.0 + (-3.0f64 / 5.0).exp()).0, 1.0);
        // One that did nothing is nothing less.
        near(g.tasks(s(100), s(99), 0.0).0, 0.0);
    }

    #[test]
    fn who_asked_is_expected_but_not_for_long() {
        let s = Duration::from_secs;
        let mut g = Granting::default();
        g.expected.push_back((s(13), 1, Claim::default()));
        assert_eq!((g.expected(s(13), 1), g.expected(s(13), 2)), ((1, 1), (1, 0)));
        assert_eq!(g.expected(s(14), 1), (0, 0));
        g.tidy(s(14));
        assert!(g.expected.is_empty());
    }
}
