//! Which jobs and tasks a selection means. Reads the leader's tables.

use super::leader::Leader;
use super::leader::table::{Job, Stage};
use super::types::Asker;
use libqueue::wire::job::{IdRange, Selection, TaskRange};

/// A job, or some of its tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picked {
    /// The job.
    pub job: u64,
    /// Indices of its tasks, ascending; `None`: all of it.
    pub tasks: Option<Vec<u32>>,
}

/// What a selection means.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Selected {
    /// In memory, by number.
    pub jobs: Vec<Picked>,
    /// Numbers that were asked for and are not in memory: long over, or never given.
    pub rest: Vec<IdRange>,
}

impl Leader {
    /// Finds the jobs. Without numbers and with `own`: only those of the asker, unless he is an operator or names a
    /// user. `ended`: also those that are over.
    pub(crate) fn select(&self, who: &Asker, which: &Selection, own: bool, ended: bool) -> Selected {
        let mut found = Selected::default();
        if which.ids.is_empty() {
            if !(which.all || is_narrow(which)) {
                return found;
            }
            let user = match which.user.as_str() {
                "" if own && !who.operator => &who.user,
                user => user,
            };
            let over = ended.then_some(&self.ended).into_iter().flatten();
            let jobs = self.jobs.values().chain(over.map(|(_, j)| j));
            let jobs = jobs.filter(|j| user.is_empty() || j.row.owner == user);
            for job in jobs {
                found.jobs.extend(self.fits(job, which, None));
            }
            found.jobs.sort_by_key(|p| p.job);
            return found;
        }
        for range in &which.ids {
            self.by_number(range, which, ended, &mut found);
        }
        // A number may have been named twice.
        found.jobs.sort_by_key(|p| p.job);
        found.jobs.dedup_by(|b, a| {
            let same = a.job == b.job;
            if same {
                a.tasks = match (a.tasks.take(), b.tasks.take()) {
                    (Some(mut all), Some(more)) => {
                        all.extend(more);
                        all.sort_unstable();
                        all.dedup();
                        Some(all)
                    }
                    _ => None,
                };
            }
            same
        });
        found
    }

    fn by_number(&self, range: &IdRange, which: &Selection, ended: bool, found: &mut Selected) {
        let to = range.to.max(range.from);
        let mut ids: Vec<u64> = self.jobs.range(range.from..=to).map(|(id, _)| *id).collect();
        let live = ids.len();
        ids.extend(self.ended.range(range.from..=to).map(|(id, _)| *id));
        if ids.len() > live && live > 0 {
            ids.sort_unstable();
        }
        let mut next = range.from;
        for id in ids {
            if id > next {
                found.rest.push(IdRange {
                    from: next,
                    to: id - 1,
                    tasks: range.tasks,
                });
            }
            next = id + 1;
            let Some(job) = self.job(id) else { continue };
            let user = which.user.is_empty() || which.user == job.row.owner;
            if user && (ended || job.ended.is_none() || which.ids.len() == 1 && range.from == to) {
                found.jobs.extend(self.fits(job, which, range.tasks.as_ref()));
            }
        }
        if next <= to {
            found.rest.push(IdRange {
                from: next,
                to,
                tasks: range.tasks,
            });
        }
    }

    /// What of a job is meant, if anything.
    fn fits(&self, job: &Job, which: &Selection, tasks: Option<&TaskRange>) -> Option<Picked> {
        let plan = &job.row.plan;
        let named = |pattern: &str, name: &str| pattern.is_empty() || glob(pattern, name);
        if !named(&which.name, &plan.name) || !named(&which.group, &plan.group) {
            return None;
        }
        if !which.class.is_empty() && which.class != plan.class {
            return None;
        }
        let word = |w: &String| glob(w, &plan.name) || glob(w, &plan.group);
        if !which.words.is_empty() && !which.words.iter().any(word) {
            return None;
        }
        let id = job.row.id;
        let mut picked: Option<Vec<u32>> = None;
        if let Some(r) = tasks {
            let to = r.to.max(r.from);
            let numbers = (r.from..=to).step_by(r.step.max(1) as usize);
            // A range may be far longer than the array.
            let all: Vec<u32> = if to - r.from > job.tasks.len() {
                (0..job.tasks.len())
                    .filter(|i| {
                        let n = job.tasks.number(*i);
                        (r.from..=to).contains(&n) && (n - r.from).is_multiple_of(r.step.max(1))
                    })
                    .collect()
            } else {
                numbers.filter_map(|n| job.tasks.index(n)).collect()
            };
            if all.is_empty() {
                return None;
            }
            picked = Some(all);
        }
        let wall = self.clock.wall;
        if !which.states.is_empty() {
            let blocked = job.blocked(wall);
            let wanted = |s: Stage| which.states.contains(&(s.state(blocked) as i32));
            if !Stage::ALL.iter().any(|s| wanted(*s) && job.tasks.count(*s) > 0) {
                return None;
            }
            if Stage::ALL.iter().any(|s| !wanted(*s) && job.tasks.count(*s) > 0) {
                let all = picked.unwrap_or_else(|| (0..job.tasks.len()).collect());
                let all = all.into_iter().filter(|i| wanted(job.tasks.stage(*i)));
                picked = Some(all.collect());
            }
        }
        if !which.host.is_empty() {
            let all = picked.unwrap_or_else(|| job.tasks.extras().keys().copied().collect());
            let there = |i: &u32| {
                let at = |h: &str| h == which.host;
                let extra = job.tasks.extra(*i);
                self.live.get(&job.key(*i)).is_some_and(|l| at(&l.row.host))
                    || extra.and_then(|e| e.fate.as_ref()).is_some_and(|f| at(&f.host))
            };
            picked = Some(all.into_iter().filter(there).collect());
        }
        if picked.as_ref().is_some_and(Vec::is_empty) {
            return None;
        }
        Some(Picked {
            job: id,
            tasks: picked.filter(|_| job.tasks.is_array()),
        })
    }
}

/// Some condition besides numbers.
fn is_narrow(which: &Selection) -> bool {
    let texts = [&which.user, &which.name, &which.group, &which.class, &which.host];
    texts.iter().any(|t| !t.is_empty()) || !which.words.is_empty() || !which.states.is_empty()
}

/// Whether a text is as the pattern says: `*` is anything, `?` one character.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut i, mut j) = (0, 0);
    // Where the last `*` is, and how much it has taken.
    let mut star: Option<(usize, usize)> = None;
    while j < t.len() {
        if i < p.len() && p[i] == '*' {
            star = Some((i, j));
            i += 1;
        } else if i < p.len() && (p[i] == '?' || p[i] == t[j]) {
            i += 1;
            j += 1;
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            i = at + 1;
            j = taken + 1;
        } else {
            return false;
        }
    }
    p[i..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (p, t) in [
            ("a*", "a"),
            ("*", ""),
            ("?b*d", "abcd"),
            ("*.*x", "a.b.x"),
            ("", ""),
            ("ä?", "äö"),
        ] {
            assert!(glob(p, t), "{p} {t}");
        }
        for (p, t) in [("a", "ab"), ("", "a"), ("?", ""), ("*a", "ab"), ("a*b*c", "acb")] {
            assert!(!glob(p, t), "{p} {t}");
        }
        let long = "a".repeat(2000);
        assert!(!glob(&"a*".repeat(500), &format!("b{long}")));
        assert!(!glob("*a*a*a*a*a*a*a*a*b", &long));
    }
}
