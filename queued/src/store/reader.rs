//! Reads the leader's store on connections of their own, so that a long search keeps no commit waiting.

use super::select::{self, Rows};
use super::{StoreError, error, export, history, open};
use crate::engine::jobs::types::{Asker, Read};
use libqueue::wire::job::{JobRun, job_reply};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections that are kept for the next question.
const KEPT: usize = 4;

/// Reads. May be cloned and used from any thread; all calls block for as long as the disk takes.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    path: Arc<PathBuf>,
    free: Arc<Mutex<Vec<Connection>>>,
}

impl Reader {
    /// Of the store at this path, which is open for writing already.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let first = open::reader(path)?;
        Ok(Self {
            path: Arc::new(path.to_owned()),
            free: Arc::new(Mutex::new(vec![first])),
        })
    }

    fn free(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with a connection that nobody else uses.
    fn with<T>(&self, f: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let kept = self.free().pop();
        let conn = match kept {
            Some(c) => c,
            None => open::reader(&self.path)?,
        };
        let done = f(&conn);
        let mut free = self.free();
        if free.len() < KEPT {
            free.push(conn);
        }
        done
    }

    fn failed(&self, e: &rusqlite::Error) -> StoreError {
        error::sqlite(&self.path, "read", e)
    }

    /// What a job executes; `None`: there is no such job. Some microseconds.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn run(&self, job: u64) -> Result<Option<JobRun>, StoreError> {
        self.with(|c| select::run(c, job).map_err(|e| self.failed(&e)))
    }

    /// Entries of its tasks.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn entries(&self, job: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        self.with(|c| select::entries(c, job).map_err(|e| self.failed(&e)))
    }

    /// Completes an answer, as [`super::JobStore::read`]: may take long, so not on the thread of an event loop.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn read(
        &self,
        who: &Asker,
        read: Read,
        reply: &mut dyn FnMut(job_reply::Kind),
    ) -> Result<(), StoreError> {
        match read {
            Read::Export => export::export(&self.path, reply),
            read => self.with(|c| history::answer(&Rows::new(c, &self.path), who, read, reply)),
        }
    }
}
