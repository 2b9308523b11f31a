//! Dependencies: when a job ends, those that wait for it go on or fail. A buried job has not ended: somebody may
//! still run it again.

use super::table::Stage;
use super::{Change, Leader, LeaderEffect};
use crate::engine::jobs::post::EventKind;
use crate::store::Op;
use libqueue::wire::job::{AfterHow, Cause, Key, Outcome, State};

/// What an end means for one that waits: `None`: it goes on; else why it never will.
pub(super) fn hinders(before: u64, how: i32, state: State) -> Option<String> {
    let text = match state {
        State::Done => "ended well",
        State::Killed => "was killed",
        _ => "failed",
    };
    let fits = match AfterHow::try_from(how).unwrap_or(AfterHow::Ok) {
        AfterHow::Ok => state == State::Done,
        AfterHow::Any => true,
        AfterHow::Fail => state != State::Done,
    };
    (!fits).then(|| format!("{before} {text}"))
}

impl Leader {
    /// Tells those that wait for jobs that ended during this input; also what ends by that.
    pub(super) fn tell_dependants(&mut self, out: &mut Vec<LeaderEffect>) {
        while let Some((before, state)) = self.news.pop_front() {
            for id in self.dependants.remove(&before).unwrap_or_default() {
                self.prerequisite(id, before, state, out);
            }
        }
    }

    fn prerequisite(&mut self, id: u64, before: u64, state: State, out: &mut Vec<LeaderEffect>) {
        let wall = self.clock.wall;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let hows = job.row.after.iter().filter(|(b, _)| *b == before);
        let bad = hows.filter_map(|(_, how)| hinders(before, *how, state)).next();
        if let Some(text) = bad {
            return self.fail_dependant(id, text, out);
        }
        let was = job.blocked(wall);
        job.row.after.retain(|(b, _)| *b != before);
        out.push(LeaderEffect::Store(Op::Row(Box::new(job.row.clone()))));
        self.unblocked(id, was);
    }

    /// After something that may let a whole job go on, or keep it: tells who watches, and looks at its place.
    pub(super) fn unblocked(&mut self, id: u64, was: bool) {
        let Some(job) = self.jobs.get(&id) else { return };
        let is = job.blocked(self.clock.wall);
        if was != is && job.tasks.idle() > 0 {
            let key = job.key(0);
            self.changes.push(Change {
                job: id,
                task: 0,
                before: Stage::Fresh.state(was),
                after: Stage::Fresh.state(is),
                attempt: if job.tasks.is_array() { 0 } else { key.attempt },
            });
        }
        self.dirty.insert(id);
    }

    /// What a job waited for ended otherwise.
    pub(super) fn fail_dependant(&mut self, id: u64, text: String, out: &mut Vec<LeaderEffect>) {
        let outcome = Outcome {
            cause: Cause::Dependency as i32,
            text: text.clone(),
            ..Outcome::default()
        };
        if self.end_rest(id, Stage::Failed, text, out) == 0 {
            return;
        }
        let Some(job) = self.jobs.get(&id) else { return };
        let array = job.tasks.is_array();
        let key = Key {
            job: id,
            task: 0,
            attempt: if array { 0 } else { job.key(0).attempt },
        };
        if !array {
            self.keep_fate(id, 0, &outcome, "");
        }
        self.tell(EventKind::Ended, key, Some(&outcome), State::Failed, "");
        self.look_over(id, out);
    }
}
