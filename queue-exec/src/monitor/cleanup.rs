//! Ends what sessions leave behind, a little at a time. Knows cgroups and process trees; not why.

use super::Monitor;
use super::cgroup::Cgroup;
use super::events::Timer;
use super::tree::{self, Id};
use queue_exec::protocol::JobKey;
use queue_exec::ticket::Nonce;
use std::time::{Duration, Instant};

/// Rounds follow each other at these distances.
const FIRST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(500);
/// A cgroup whose processes may stay is looked at this often at last.
const PATIENT: Duration = Duration::from_secs(60);
/// A tree that is still there after so long hangs in the kernel; it is left alone then but for its cgroup.
const GIVE_UP: Duration = Duration::from_secs(60);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// Kill all but what carries the session.
    Others { session: u32 },
    /// Kill all.
    All,
    /// Kill nothing; remove the cgroup when it is empty.
    Leave,
}

/// A task under way.
#[derive(Debug)]
pub(super) struct Cleanup {
    task: Task,
    cgroup: Option<Cgroup>,
    /// Where there is no cgroup: the top of the tree.
    roots: Vec<Id>,
    /// To be removed in the end.
    record: Option<Nonce>,
    /// The attempt that is over then, and its outcome.
    attempt: Option<(JobKey, Vec<u8>)>,
    since: Instant,
    delay: Duration,
}

impl Cleanup {
    /// What it is for.
    pub(super) fn kind(&self) -> Task {
        self.task
    }
}

impl Monitor {
    /// Starts a task; its first step is done at once.
    pub(super) fn clean(
        &mut self,
        task: Task,
        cgroup: Option<Cgroup>,
        roots: Vec<Id>,
        record: Option<Nonce>,
        attempt: Option<(JobKey, Vec<u8>)>,
    ) {
        let id = self.new_id();
        let c = Cleanup {
            task,
            cgroup,
            roots,
            record,
            attempt,
            since: Instant::now(),
            delay: FIRST,
        };
        self.cleanups.insert(id, c);
        self.cleanup_step(id);
    }

    /// One round; a further one is planned unless all is done.
    pub(super) fn cleanup_step(&mut self, id: u32) {
        self.cleanup_round(id);
        let Some(c) = self.cleanups.get_mut(&id) else {
            return;
        };
        self.events.after(c.delay, Timer::Cleanup(id));
        let longest = if c.task == Task::Leave { PATIENT } else { LONGEST };
        c.delay = (c.delay * 2).min(longest);
    }

    fn cleanup_round(&mut self, id: u32) {
        let Some(c) = self.cleanups.remove(&id) else {
            return;
        };
        let done = match c.task {
            Task::Others { session } => match self.sessions.get_mut(&session) {
                // The session is gone, and its own end cleans up all.
                None => true,
                Some(s) => {
                    let done = kill_others(s.process.0, c.cgroup.as_ref(), &c.roots);
                    if done {
                        s.killing = false;
                    }
                    done
                }
            },
            Task::All => kill_all(&c),
            Task::Leave => c.cgroup.as_ref().is_none_or(Cgroup::remove),
        };
        if done || (c.task == Task::All && c.cgroup.is_none() && c.since.elapsed() > GIVE_UP) {
            if let Some(nonce) = c.record {
                super::record::Record::remove(&self.layout.sessions(), &nonce);
            }
            if let Some((key, outcome)) = c.attempt {
                self.attempt_over(key, outcome);
            }
            return;
        }
        self.cleanups.insert(id, c);
    }

    /// Kills the trees that an earlier monitor left, and waits a moment for them to be gone. Only before we say
    /// that we are ready.
    pub(super) fn finish_cleanups(&mut self, within: Duration) {
        let until = Instant::now() + within;
        while Instant::now() < until && self.cleanups.values().any(|c| c.task == Task::All) {
            std::thread::sleep(FIRST);
            for id in self.cleanups.keys().copied().collect::<Vec<_>>() {
                self.cleanup_round(id);
            }
        }
    }
}

/// `true` when there is nothing left to kill.
fn kill_others(session: i32, cgroup: Option<&Cgroup>, roots: &[Id]) -> bool {
    let mut below: Vec<i32> = match cgroup {
        Some(c) => c.procs(),
        None => {
            let tops: Vec<i32> = roots
                .iter()
                .filter(|r| tree::alive(**r))
                .map(|r| r.0)
                .chain([session])
                .collect();
            tree::descendants(&tops).into_iter().map(|i| i.0).collect()
        }
    };
    below.extend(roots.iter().map(|r| r.0).filter(|_| cgroup.is_none()));
    let bearers = tree::bearers(session, &below);
    let mut done = true;
    for pid in below {
        if bearers.contains(&pid) {
            continue;
        }
        // Of the process that has this id now: opened first, looked at again then.
        let Some(s) = tree::stat(pid).filter(|s| !s.zombie) else {
            continue;
        };
        if let Some(fd) = tree::open(pid, Some(s.start)) {
            if cgroup.is_some_and(|c| !c.holds(pid)) {
                continue;
            }
            tree::kill_fd(&fd);
            done = false;
        }
    }
    done
}

fn kill_all(c: &Cleanup) -> bool {
    if let Some(g) = &c.cgroup {
        return g.remove() || {
            g.kill();
            g.remove()
        };
    }
    let tops: Vec<Id> = c.roots.iter().filter(|r| tree::alive(**r)).copied().collect();
    let below = tree::descendants(&tops.iter().map(|r| r.0).collect::<Vec<_>>());
    // From the top: who is about to fork must not outlive his children.
    for (pid, start) in tops.iter().chain(&below) {
        tree::kill(*pid, Some(*start));
    }
    tops.is_empty() && below.is_empty()
}
