//! What jobs execute, kept in memory as long as there is room: the leader's engine does not keep it, and every
//! dispatch needs it. Knows bytes and ages; where they come from when they are not here is the store's.

use libqueue::wire::job::{Dispatch, JobRun, Params, Submit};
use queue_exec::entries::Tree;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes kept of each kind.
const ROOM: usize = 64 << 20;

/// Entries of a job's tasks, and the hash tree over them.
#[derive(Debug)]
pub(super) struct Entries {
    entries: Vec<Vec<u8>>,
    tree: Tree,
}

impl Entries {
    /// Builds the tree.
    pub(super) fn new(entries: Vec<Vec<u8>>) -> Self {
        let tree = Tree::new(&entries);
        Self { entries, tree }
    }

    /// Puts a task's entry into its parameters.
    fn fill(&self, params: &mut Params) {
        let Some(entry) = self.entries.get(params.entry_index as usize) else {
            return;
        };
        params.entry = Some(entry.clone());
        params.entry_proof = self.tree.proof(params.entry_index);
    }

    fn size(&self) -> usize {
        // Two hashes each, and the vectors' own fields.
        self.entries.iter().map(|e| e.len() + 96).sum()
    }
}

/// Drops what was used longest ago when there is too much of it. The newest is always kept.
#[derive(Debug)]
struct Cache<T> {
    by_job: BTreeMap<u64, (u64, usize, T)>,
    by_age: BTreeMap<u64, u64>,
    clock: u64,
    bytes: usize,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self {
            by_job: BTreeMap::new(),
            by_age: BTreeMap::new(),
            clock: 0,
            bytes: 0,
        }
    }
}

impl<T: Clone> Cache<T> {
    fn get(&mut self, job: u64) -> Option<T> {
        let (age, _, value) = self.by_job.get_mut(&job)?;
        self.clock += 1;
        self.by_age.remove(age);
        *age = self.clock;
        self.by_age.insert(self.clock, job);
        Some(value.clone())
    }

    fn put(&mut self, job: u64, bytes: usize, value: T, room: usize) {
        self.remove(job);
        self.clock += 1;
        self.by_age.insert(self.clock, job);
        self.by_job.insert(job, (self.clock, bytes, value));
        self.bytes += bytes;
        while self.bytes > room && self.by_job.len() > 1 {
            let Some((_, oldest)) = self.by_age.pop_first() else {
                return;
            };
            if let Some((_, n, _)) = self.by_job.remove(&oldest) {
                self.bytes -= n;
            }
        }
    }

    fn remove(&mut self, job: u64) {
        if let Some((age, n, _)) = self.by_job.remove(&job) {
            self.by_age.remove(&age);
            self.bytes -= n;
        }
    }
}

/// Both kinds.
#[derive(Debug, Default)]
pub(super) struct Runs {
    runs: Cache<Arc<JobRun>>,
    entries: Cache<Arc<Entries>>,
}

/// What is lacking: jobs whose runs, and jobs whose entries.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lack {
    /// Runs.
    pub runs: Vec<u64>,
    /// Entries.
    pub entries: Vec<u64>,
}

impl Runs {
    /// A job was submitted: most are dispatched soon.
    pub(super) fn submitted(&mut self, s: &Submit) {
        self.put_run(JobRun {
            job: s.id,
            run: s.run.clone(),
            warrant: s.warrant.clone(),
            cert: s.cert.clone(),
        });
    }

    /// The store has it.
    pub(super) fn put_run(&mut self, run: JobRun) {
        let bytes = run.run.len() + run.warrant.len() + run.cert.len() + 200;
        self.runs.put(run.job, bytes, Arc::new(run), ROOM);
    }

    /// The store has them.
    pub(super) fn put_entries(&mut self, job: u64, entries: Entries) {
        let bytes = entries.size();
        self.entries.put(job, bytes, Arc::new(entries), ROOM);
    }

    /// A job is over.
    pub(super) fn remove(&mut self, job: u64) {
        self.runs.remove(job);
        self.entries.remove(job);
    }

    /// What a job executes, if it is here.
    pub(super) fn run(&mut self, job: u64) -> Option<Arc<JobRun>> {
        self.runs.get(job)
    }

    /// Adds runs and entries to a dispatch, or says what has to be fetched first. Jobs in `known` were looked for:
    /// what is not here of them is nowhere.
    pub(super) fn fill(
        &mut self,
        dispatch: &mut Dispatch,
        runs: &[u64],
        entries: &[u64],
        known: &Lack,
    ) -> Result<(), Lack> {
        let mut lack = Lack::default();
        let mut found = Vec::with_capacity(runs.len());
        for job in runs {
            match self.runs.get(*job) {
                Some(r) => found.push(r),
                None if known.runs.contains(job) => {}
                None => lack.runs.push(*job),
            }
        }
        let mut trees = BTreeMap::new();
        for job in entries {
            match self.entries.get(*job) {
                Some(e) => drop(trees.insert(*job, e)),
                None if known.entries.contains(job) => {}
                None => lack.entries.push(*job),
            }
        }
        if lack != Lack::default() {
            return Err(lack);
        }
        dispatch.runs = found.iter().map(|r| (**r).clone()).collect();
        for a in &mut dispatch.attempts {
            let job = a.key.map_or(0, |k| k.job);
            if let (Some(tree), Some(params)) = (trees.get(&job), &mut a.params) {
                tree.fill(params);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libqueue::wire::job::{Attempt, Key};

    #[test]
    fn the_oldest_goes_and_the_newest_stays() {
        let mut c: Cache<u8> = Cache::default();
        for job in 1..=3 {
            c.put(job, 40, 0, 100);
        }
        assert_eq!((c.get(1), c.get(2), c.get(3)), (None, Some(0), Some(0)));
        c.get(2);
        c.put(4, 40, 0, 100);
        assert_eq!((c.get(2), c.get(3)), (Some(0), None));
        c.put(5, 1000, 0, 100);
        assert_eq!((c.get(5), c.by_job.len(), c.bytes), (Some(0), 1, 1000));
        c.remove(5);
        assert_eq!((c.by_age.len(), c.bytes), (0, 0));
    }

    #[test]
    fn a_dispatch_gets_runs_and_proven_entries() {
        let mut r = Runs::default();
        let entries: Vec<Vec<u8>> = (0..5).map(|i| vec![i; 3]).collect();
        let attempt = |index| Attempt {
            key: Some(Key {
                job: 7,
                task: index + 1,
                attempt: 1,
            }),
            params: Some(Params {
                entry_index: index,
                ..Params::default()
            }),
            ..Attempt::default()
        };
        let mut d = Dispatch {
            attempts: vec![attempt(0), attempt(4)],
            ..Dispatch::default()
        };
        let lack = r.fill(&mut d, &[7], &[7], &Lack::default()).unwrap_err();
        assert_eq!(
            (lack.runs.as_slice(), lack.entries.as_slice()),
            (&[7][..], &[7][..])
        );
        r.put_run(JobRun {
            job: 7,
            run: vec![1],
            ..JobRun::default()
        });
        r.put_entries(7, Entries::new(entries.clone()));
        r.fill(&mut d, &[7], &[7], &Lack::default()).unwrap();
        assert_eq!(d.runs.len(), 1);
        let root = Tree::new(&entries).root();
        for a in &d.attempts {
            let p = a.params.as_ref().unwrap();
            let e = p.entry.as_ref().unwrap();
            assert_eq!(e, &entries[p.entry_index as usize]);
            assert!(queue_exec::entries::verify(
                &root,
                5,
                p.entry_index,
                e,
                &p.entry_proof
            ));
        }
        // What is nowhere is left out; the host says then that it cannot run it.
        let known = Lack {
            runs: vec![9],
            entries: vec![],
        };
        r.fill(&mut d, &[9], &[], &known).unwrap();
        assert!(d.runs.is_empty());
    }
}
