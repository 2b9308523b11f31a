//! The journal of attempts: what was handed to sessions here, and how it ended, until the leader has it. A file in
//! a root-only directory, so that a restarted monitor knows it. Knows attempts and the file; not what is done
//! with them.
//!
//! Each record is one write, and nothing is synced: the file has to survive the monitor, not the machine. What runs
//! on the machine ends with it, and its next start begins another *life*, by which everybody knows that. What a
//! monitor could not finish writing is cut off by the next.

use crate::monitor::log::log;
use queue_exec::attempts::{Attempt, Head, Record, Seen, frame, unframe};
use queue_exec::protocol::JobKey;
use queue_exec::state::{random, unix_now};
use queue_exec::ticket::Nonce;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// It is rewritten when it is this large, and this many times as large as when it was last.
const REWRITE_MIN: u64 = 1 << 20;
const REWRITE_TIMES: u64 = 4;

/// The journal, and what is in it.
#[derive(Debug)]
pub(in crate::monitor) struct Journal {
    path: PathBuf,
    boot: String,
    life: Nonce,
    file: Option<File>,
    written: u64,
    /// Its size when it was last rewritten.
    base: u64,
    attempts: BTreeMap<JobKey, Attempt>,
    seen: Seen,
}

/// The hours since the epoch.
fn hour() -> u32 {
    u32::try_from(unix_now() / 3600).unwrap_or(u32::MAX)
}

impl Journal {
    /// Reads what an earlier monitor left. After another start of the machine this is another life, in which what
    /// had not ended has.
    pub(in crate::monitor) fn load(path: PathBuf, boot: &str) -> Self {
        let mut j = Self {
            path,
            boot: boot.to_owned(),
            life: random(),
            file: None,
            written: 0,
            base: 0,
            attempts: BTreeMap::new(),
            seen: Seen::default(),
        };
        match fs::read(&j.path) {
            Ok(bytes) => j.read(&bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => log!("{}: {e}: what ran here is not known", j.path.display()),
        }
        j.rewrite();
        j
    }

    fn read(&mut self, bytes: &[u8]) {
        let (Head { life, boot }, mut at) = match Head::read(bytes) {
            Ok(h) => h,
            Err(e) => {
                log!(
                    "{}: {e}: it is begun anew; what ran here is not known",
                    self.path.display()
                );
                return;
            }
        };
        let mut records = 0u64;
        while let Some((record, len)) = unframe(&bytes[at..]) {
            self.apply(record);
            at += len;
            records += 1;
        }
        if at < bytes.len() {
            log!(
                "{}: the last {} bytes, after {records} records, make no sense and are cut off",
                self.path.display(),
                bytes.len() - at
            );
        }
        if boot == self.boot {
            self.life = life;
        } else {
            for a in self.attempts.values_mut() {
                a.outcome.get_or_insert_default();
            }
        }
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::Handed(key, a) => {
                self.seen.note(key, hour());
                self.attempts.insert(key, a);
            }
            Record::Started(key, running) => {
                if let Some(a) = self.attempts.get_mut(&key) {
                    a.running = running;
                }
            }
            Record::Ended(key, outcome) => {
                if let Some(a) = self.attempts.get_mut(&key) {
                    a.outcome = Some(outcome);
                    a.stopped = false;
                }
            }
            Record::Forgotten(keys) => {
                for k in keys {
                    self.attempts.remove(&k);
                }
            }
            Record::Retracted(key) => {
                self.attempts.remove(&key);
                self.seen.retract(key);
            }
            Record::Seen(line) => self.seen.restore(line),
        }
    }

    // ---- What is in it -------------------------------------------------------------------------------

    /// Names the life of these records.
    pub(in crate::monitor) fn life(&self) -> Nonce {
        self.life
    }

    /// The attempts that are not forgotten.
    pub(in crate::monitor) fn attempts(&self) -> &BTreeMap<JobKey, Attempt> {
        &self.attempts
    }

    /// One of them.
    pub(in crate::monitor) fn get(&self, key: JobKey) -> Option<&Attempt> {
        self.attempts.get(&key)
    }

    /// Whether it, or a newer one of the same task, was ever here.
    pub(in crate::monitor) fn seen(&self, key: JobKey) -> bool {
        self.seen.highest(key.job, key.task) >= key.attempt
    }

    // ---- What is written -----------------------------------------------------------------------------

    /// An attempt is about to be handed to a session.
    ///
    /// # Errors
    /// It could not be written down: then it must not be handed over.
    pub(in crate::monitor) fn handed(&mut self, key: JobKey, attempt: Attempt) -> io::Result<()> {
        let record = Record::Handed(key, attempt);
        self.append(&record)?;
        self.apply(record);
        Ok(())
    }

    /// The session did not get it after all.
    pub(in crate::monitor) fn retracted(&mut self, key: JobKey) {
        self.take_down(Record::Retracted(key));
    }

    /// Its command was executed.
    pub(in crate::monitor) fn started(&mut self, key: JobKey, running: Vec<u8>) {
        self.take_down(Record::Started(key, running));
    }

    /// It is over.
    pub(in crate::monitor) fn ended(&mut self, key: JobKey, outcome: Vec<u8>) {
        self.take_down(Record::Ended(key, outcome));
    }

    /// It was stopped, or goes on.
    pub(in crate::monitor) fn stopped(&mut self, key: JobKey, stopped: bool) {
        if let Some(a) = self.attempts.get_mut(&key) {
            a.stopped = stopped;
        }
    }

    /// The leader has their outcomes.
    pub(in crate::monitor) fn forgotten(&mut self, keys: Vec<JobKey>) {
        self.take_down(Record::Forgotten(keys));
    }

    /// What has happened has happened, whether or not it can be written down.
    fn take_down(&mut self, record: Record) {
        if let Err(e) = self.append(&record) {
            log!(
                "{}: {e}: a restarted monitor will not know how far attempts are",
                self.path.display()
            );
        }
        self.apply(record);
    }

    fn append(&mut self, record: &Record) -> io::Result<()> {
        if self.file.is_none() || self.written > REWRITE_MIN.max(self.base * REWRITE_TIMES) {
            self.rewrite();
        }
        let Some(f) = &mut self.file else {
            return Err(io::Error::other("cannot be written"));
        };
        let bytes = frame(record);
        match f.write(&bytes) {
            Ok(n) if n == bytes.len() => {
                self.written += n as u64;
                Ok(())
            }
            done => {
                // Half a record would hide what comes after it.
                if f.set_len(self.written).is_err() {
                    self.file = None;
                }
                Err(done.err().unwrap_or_else(|| io::ErrorKind::StorageFull.into()))
            }
        }
    }

    /// Writes what matters of it into a new file, which takes its place.
    fn rewrite(&mut self) {
        self.seen.expire(hour());
        let mut all = Head {
            life: self.life,
            boot: self.boot.clone(),
        }
        .write();
        for line in self.seen.lines() {
            all.extend_from_slice(&frame(&Record::Seen(line)));
        }
        for (key, a) in &self.attempts {
            all.extend_from_slice(&frame(&Record::Handed(*key, a.clone())));
            if !a.running.is_empty() {
                all.extend_from_slice(&frame(&Record::Started(*key, a.running.clone())));
            }
            if let Some(outcome) = &a.outcome {
                all.extend_from_slice(&frame(&Record::Ended(*key, outcome.clone())));
            }
        }
        match replace(&self.path, &all) {
            Ok(f) => {
                self.file = Some(f);
                self.written = all.len() as u64;
                self.base = self.written;
            }
            // The old one, if there is one, goes on.
            Err(e) => {
                log!("{}: {e}", self.path.display());
                self.base = self.written;
            }
        }
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let tmp = path.with_extension("new");
    let _ = fs::remove_file(&tmp);
    let mut f = OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&tmp)?;
    f.write_all(bytes)?;
    fs::rename(&tmp, path)?;
    Ok(f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Dir(PathBuf);

    impl Dir {
        fn new() -> Self {
            static N: AtomicU32 = AtomicU32::new(0);
            let n = N.fetch_add(1, Ordering::Relaxed);
            let d = std::env::temp_dir().join(format!("queue-attempts-{}-{n}", std::process::id()));
            fs::create_dir_all(&d).unwrap();
            Self(d)
        }

        fn file(&self) -> PathBuf {
            self.0.join("jobs.journal")
        }

        fn load(&self) -> Journal {
            Journal::load(self.file(), "boot")
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn key(job: u64, attempt: u32) -> JobKey {
        JobKey {
            job,
            task: 3,
            attempt,
        }
    }

    fn attempt(pid: i32) -> Attempt {
        Attempt {
            login: "alice".into(),
            process: (pid, 99),
            since: 1_700_000_000_000,
            note: vec![1, 2],
            ..Attempt::default()
        }
    }

    #[test]
    fn comes_back_as_far_as_it_was_written() {
        let d = Dir::new();
        let mut j = d.load();
        for n in 1..=4 {
            j.handed(key(n, 1), attempt(n as i32)).unwrap();
        }
        j.started(key(2, 1), b"runs".to_vec());
        j.started(key(3, 1), b"ran".to_vec());
        j.ended(key(3, 1), b"done".to_vec());
        j.ended(key(4, 1), vec![]);
        j.forgotten(vec![key(4, 1), key(77, 1)]);
        j.handed(key(5, 2), attempt(5)).unwrap();
        j.retracted(key(5, 2));
        let check = |j: &Journal| {
            let keys: Vec<u64> = j.attempts().keys().map(|k| k.job).collect();
            assert_eq!(keys, [1, 2, 3]);
            assert_eq!(j.get(key(1, 1)), Some(&attempt(1)));
            let two = j.get(key(2, 1)).unwrap();
            assert_eq!((&two.running[..], &two.outcome), (&b"runs"[..], &None));
            let three = j.get(key(3, 1)).unwrap();
            assert_eq!(three.outcome.as_deref(), Some(&b"done"[..]));
            for n in 1..=4 {
                assert!(j.seen(key(n, 1)) && !j.seen(key(n, 2)), "{n}");
            }
            assert!(j.seen(key(5, 1)) && !j.seen(key(5, 2)));
        };
        check(&j);
        let k = d.load();
        check(&k);
        assert_eq!(j.life(), k.life());
        check(&d.load());
        // Of another start of the machine nothing runs.
        let k = Journal::load(d.file(), "other");
        assert_ne!(j.life(), k.life());
        assert_eq!(k.get(key(1, 1)).unwrap().outcome.as_deref(), Some(&b""[..]));
        assert_eq!(k.get(key(3, 1)).unwrap().outcome.as_deref(), Some(&b"done"[..]));
        assert!(k.seen(key(4, 1)));
    }

    #[test]
    fn a_torn_tail_is_cut_off() {
        let d = Dir::new();
        let mut j = d.load();
        j.handed(key(1, 1), attempt(1)).unwrap();
        let whole = fs::read(d.file()).unwrap();
        j.ended(key(1, 1), b"done".to_vec());
        let more = fs::read(d.file()).unwrap();
        assert_eq!(more[..whole.len()], whole);
        for cut in whole.len()..more.len() {
            fs::write(d.file(), &more[..cut]).unwrap();
            let k = d.load();
            assert_eq!(k.get(key(1, 1)), Some(&attempt(1)), "{cut}");
            assert_eq!(k.life(), j.life());
            // And is written to from there.
            let mut k = k;
            k.ended(key(1, 1), b"so".to_vec());
            assert_eq!(
                d.load().get(key(1, 1)).unwrap().outcome.as_deref(),
                Some(&b"so"[..])
            );
        }
        for flip in whole.len()..more.len() {
            let mut bad = more.clone();
            bad[flip] ^= 1;
            fs::write(d.file(), &bad).unwrap();
            assert_eq!(d.load().get(key(1, 1)), Some(&attempt(1)), "{flip}");
        }
        // A foreign one says nothing.
        for junk in [&b""[..], b"x", b"QUEUE attempts 2\0", &[0; 9999]] {
            fs::write(d.file(), junk).unwrap();
            let k = d.load();
            assert!(k.attempts().is_empty() && k.life() != j.life());
            assert_eq!(d.load().life(), k.life(), "it is whole again");
        }
    }

    #[test]
    fn does_not_grow_without_end() {
        let d = Dir::new();
        let mut j = d.load();
        j.handed(key(1, 7), attempt(1)).unwrap();
        let mut largest = 0;
        for n in 2..3000 {
            j.handed(key(n, 1), attempt(1)).unwrap();
            j.ended(key(n, 1), vec![0; 2000]);
            j.forgotten(vec![key(n, 1)]);
            largest = largest.max(fs::metadata(d.file()).unwrap().len());
        }
        assert!(
            (REWRITE_MIN - 4096..REWRITE_MIN + 4096).contains(&largest),
            "{largest}"
        );
        let k = d.load();
        assert_eq!(k.attempts().len(), 1);
        assert!((2..3000).all(|n| k.seen(key(n, 1))) && k.seen(key(1, 7)) && !k.seen(key(1, 8)));
        assert!(fs::metadata(d.file()).unwrap().len() < 128 * 1024);
    }

    #[test]
    fn what_cannot_be_written_down_is_not_handed_over() {
        let d = Dir::new();
        let mut j = d.load();
        // As a full disk does.
        j.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
        assert!(j.handed(key(1, 1), attempt(1)).is_err());
        assert!(!j.seen(key(1, 1)) && j.attempts().is_empty());
        // That one cannot be cut either; the next goes into a new file.
        j.handed(key(1, 1), attempt(1)).unwrap();
        assert_eq!(d.load().get(key(1, 1)), Some(&attempt(1)));
    }
}
