//! Stays with jobs until they have ended, and shows what they write. What happens is pushed by the leader; bytes come
//! from a [`Source`] for each file. One thread tells of the leader, one each of a file, one of signals; all that is
//! known is kept here.

use super::show::{Lines, Screen};
use super::source::{Source, Told};
use crate::command::batch::wait::until_over;
use crate::leader;
use crate::messages::{Failure, printable};
use crate::verbs::inner::Tail;
use libqueue::job;
use libqueue::wire::job::{
    IdRange, Key, Outcome, Output, Over, Progress, Running, Selection, TaskRange, Wait, job_reply, query,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Files that are read at once.
const SOURCES: usize = 32;
/// Messages that wait to be looked at: a fast writer waits for a slow terminal.
const WAITING: usize = 64;
/// The leader has not said anything for so long after it was asked: what runs is looked up.
const SILENCE: Duration = Duration::from_millis(200);
/// A task of many has to run so long before it is followed: shorter ones are shown when they have ended.
const SHORT: Duration = Duration::from_millis(300);

/// What happens.
pub enum Event {
    /// Jobs changed.
    Progress(Progress),
    /// They have ended.
    Over(Result<Over, Failure>),
    /// Of a file.
    Told(usize, Told),
    /// A signal came.
    Signal(i32),
    /// What a signal has set off is done.
    Killed(Result<(), Failure>),
    /// The user leaves, and the jobs go on.
    Left,
}

/// What is shown.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which jobs.
    pub which: Selection,
    /// Output (1) and error output (2), where that has a file of its own.
    pub fds: [bool; 2],
    /// Where error output is shown.
    pub error_to: usize,
    /// A number in front of each line.
    pub prefix: bool,
    /// Only so many lines of what is there already.
    pub tail: Option<u64>,
    /// What the file of this name has in it now is older than the job.
    pub old: Option<(PathBuf, u64)>,
    /// The job may not be known to the leader yet.
    pub patient: bool,
    /// How often the leader is asked again, a second later, if it cannot be reached at the beginning.
    pub tries: u32,
    /// Name of this host.
    pub here: String,
}

/// A file: which task, and whether it is that of the error output.
type Which = (u64, u32, bool);

struct Stream {
    attempt: u32,
    host: String,
    path: Vec<u8>,
    source: Option<(usize, Source)>,
    /// Bytes of it that were read.
    read: u64,
    outcome: Option<Outcome>,
    /// Its place was asked for again.
    again: bool,
    lines: Lines,
}

/// A file that is not read yet.
struct Due {
    at: Instant,
    which: Which,
    follow: bool,
}

/// Stays with jobs.
pub struct Follow {
    options: Options,
    to: SyncSender<Event>,
    from: Receiver<Event>,
    streams: BTreeMap<Which, Stream>,
    sources: BTreeMap<usize, Which>,
    due: VecDeque<Due>,
    ended: BTreeSet<(u64, u32)>,
    next: usize,
    looked: bool,
    /// Where it is shown.
    pub screen: Screen,
}

impl Follow {
    /// Ready to begin.
    pub fn new(options: Options, screen: Screen) -> Self {
        let (to, from) = sync_channel(WAITING);
        Self {
            options,
            to,
            from,
            streams: BTreeMap::new(),
            sources: BTreeMap::new(),
            due: VecDeque::new(),
            ended: BTreeSet::new(),
            next: 0,
            looked: false,
            screen,
        }
    }

    /// Where events are sent.
    pub fn sender(&self) -> SyncSender<Event> {
        self.to.clone()
    }

    /// Runs until all have ended and all is shown; `other` takes signals and what follows from them, and may end it.
    ///
    /// # Errors
    /// There are no such jobs, or nobody knows how they ended.
    pub fn run<E>(
        &mut self,
        mut other: impl FnMut(Event) -> Option<Result<E, Failure>>,
        over: impl FnOnce(&mut Self, Over) -> Result<E, Failure>,
    ) -> Result<E, Failure> {
        self.ask()?;
        let mut asked = Some(Instant::now() + SILENCE);
        let mut last: Option<Over> = None;
        loop {
            self.begin_due(last.is_some())?;
            if let Some(o) = last.take_if(|_| self.sources.is_empty() && self.due.is_empty()) {
                self.end_lines();
                return over(self, o);
            }
            let due = self.due.iter().map(|d| d.at).min();
            let until = [asked, due].into_iter().flatten().min();
            let event = match until {
                None => self.from.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(t) => self
                    .from
                    .recv_timeout(t.saturating_duration_since(Instant::now())),
            };
            match event {
                Ok(Event::Progress(p)) => {
                    if asked.take().is_some() {
                        self.look()?;
                    }
                    self.progress(p);
                }
                Ok(Event::Over(o)) => {
                    let o = o?;
                    asked = None;
                    let total: u64 = o.counts.iter().map(|c| c.number).sum();
                    if !self.looked || (self.ended.len() as u64) < total {
                        self.look()?;
                    }
                    self.let_go();
                    last = Some(o);
                }
                Ok(Event::Told(n, told)) => self.told(n, told)?,
                Ok(e @ (Event::Signal(_) | Event::Killed(_) | Event::Left)) => {
                    if let Some(end) = other(e) {
                        self.end_lines();
                        return end;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    if asked.is_some_and(|t| t <= Instant::now()) {
                        asked = None;
                        self.look()?;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::own("nobody tells anything any more"));
                }
            }
        }
    }

    /// Has the leader tell, in a thread of its own.
    fn ask(&self) -> Result<(), Failure> {
        let wait = Wait {
            which: Some(self.options.which.clone()),
            any: false,
            follow: true,
        };
        let (to, patient, mut tries) = (self.to.clone(), self.options.patient, self.options.tries);
        let ask = move || {
            loop {
                let over = until_over(&wait, |p| {
                    let _ = to.send(Event::Progress(p.clone()));
                });
                let again = match &over {
                    Ok(o) => o.nothing && patient,
                    Err(_) => patient || tries > 0,
                };
                if again {
                    tries = tries.saturating_sub(1);
                    std::thread::sleep(Duration::from_secs(1));
                    continue;
                }
                let _ = to.send(Event::Over(over));
                return;
            }
        };
        let thread = std::thread::Builder::new().spawn(ask);
        thread
            .map(drop)
            .map_err(|e| Failure::own(format!("a thread for what the leader says: {e}")))
    }

    /// Looks up where all output is.
    fn look(&mut self) -> Result<(), Failure> {
        self.looked = true;
        let outputs = match leader::reply(query::Kind::Outputs(self.options.which.clone())) {
            Ok(job_reply::Kind::Outputs(o)) => o.outputs,
            Ok(_) => return Err(leader::strange()),
            // What is pushed tells the same, later.
            Err(_) => return Ok(()),
        };
        for o in outputs {
            self.output(o);
        }
        Ok(())
    }

    fn output(&mut self, o: Output) {
        let Some(key) = o.key.filter(|k| k.attempt > 0) else {
            return;
        };
        match o.outcome {
            Some(mut outcome) => {
                // It may have been brought home since.
                if !o.path.is_empty() {
                    outcome.output.clone_from(&o.path);
                    outcome.error.clone_from(&o.error);
                }
                self.has_ended(key, &o.host, outcome);
            }
            None => self.runs(
                key,
                &o.host,
                Running {
                    output: o.path,
                    error: o.error,
                    spooled: o.spooled,
                    ..Running::default()
                },
            ),
        }
    }

    fn progress(&mut self, p: Progress) {
        for t in p.changed {
            let Some(key) = t.key else { continue };
            match (t.outcome, t.running) {
                (Some(outcome), _) => self.has_ended(key, &t.host, outcome),
                (None, Some(running)) => self.runs(key, &t.host, running),
                (None, None) => {}
            }
        }
    }

    /// The file of a task, ready to be read; `None`: it is read already, or there is none.
    fn stream(&mut self, key: Key, error: bool, host: &str, path: &[u8]) -> Option<&mut Stream> {
        if path.is_empty() || !self.options.fds[usize::from(error)] {
            return None;
        }
        let which = (key.job, key.task, error);
        let name = job::name(key.job, key.task);
        let prefix = self.options.prefix.then_some(name.as_str());
        let s = self.streams.entry(which).or_insert_with(|| Stream {
            attempt: 0,
            host: String::new(),
            path: Vec::new(),
            source: None,
            read: 0,
            outcome: None,
            again: false,
            lines: Lines::new(prefix),
        });
        if s.attempt > key.attempt {
            return None;
        }
        if s.attempt < key.attempt {
            // What an earlier attempt wrote is read to its end; the next one goes on in the same file.
            if let Some((n, mut source)) = s.source.take() {
                source.until(0);
                self.sources.remove(&n);
            }
            if (s.host.as_str(), &s.path[..]) != (host, path) {
                s.read = match &self.options.old {
                    Some((old, size)) if old.as_os_str().as_bytes() == path => *size,
                    _ => 0,
                };
            }
            (s.attempt, s.outcome, s.again) = (key.attempt, None, false);
        }
        host.clone_into(&mut s.host);
        path.clone_into(&mut s.path);
        Some(s)
    }

    fn runs(&mut self, key: Key, host: &str, r: Running) {
        let late = if self.options.prefix {
            SHORT
        } else {
            Duration::ZERO
        };
        for (error, path) in [(false, &r.output), (true, &r.error)] {
            let Some(s) = self.stream(key, error, host, path) else {
                continue;
            };
            if s.source.is_none() && s.outcome.is_none() {
                self.plan((key.job, key.task, error), late, true);
            }
        }
    }

    fn has_ended(&mut self, key: Key, host: &str, o: Outcome) {
        self.ended.insert((key.job, key.task));
        for (error, path) in [(false, &o.output), (true, &o.error)] {
            if path.is_empty() {
                self.wrote_nothing(key, error, &o);
            }
            let Some(s) = self.stream(key, error, host, path) else {
                continue;
            };
            if s.outcome.replace(o.clone()).is_some() {
                continue;
            }
            // How much of it is which file's is not told, and what is cut never comes.
            let exact = o.error.is_empty() && !o.cut;
            match &mut s.source {
                Some((_, source)) => source.until(if exact { o.written } else { 0 }),
                None if o.written == 0 => {}
                None if exact && s.read == 0 && o.head.len() as u64 == o.written => {
                    // The history has all of it.
                    s.read = o.written;
                    let mut shown = Vec::with_capacity(o.head.len());
                    s.lines.add(&o.head, |d| shown.extend_from_slice(d));
                    self.screen.write(1, &shown);
                }
                None => self.plan((key.job, key.task, error), Duration::ZERO, false),
            }
        }
    }

    /// Its end names no file: the one that was waited for since its start never comes.
    fn wrote_nothing(&mut self, key: Key, error: bool, o: &Outcome) {
        let which = (key.job, key.task, error);
        let Some(s) = self.streams.get_mut(&which).filter(|s| s.attempt == key.attempt) else {
            return;
        };
        if s.outcome.replace(o.clone()).is_none()
            && let Some((_, source)) = &mut s.source
        {
            source.until(0);
        }
    }

    /// All is over: files of which no end was told get no more either.
    fn let_go(&mut self) {
        for s in self.streams.values_mut().filter(|s| s.outcome.is_none()) {
            if let Some((_, source)) = &mut s.source {
                source.until(0);
            }
        }
    }

    fn plan(&mut self, which: Which, late: Duration, follow: bool) {
        self.due.retain(|d| d.which != which);
        self.due.push_back(Due {
            at: Instant::now() + late,
            which,
            follow,
        });
    }

    /// Begins to read what is due.
    fn begin_due(&mut self, over: bool) -> Result<(), Failure> {
        let now = Instant::now();
        let mut i = 0;
        while i < self.due.len() && self.sources.len() < SOURCES {
            if !over && self.due[i].at > now {
                i += 1;
                continue;
            }
            let Some(d) = self.due.remove(i) else { break };
            let Some(s) = self.streams.get_mut(&d.which).filter(|s| s.source.is_none()) else {
                continue;
            };
            // It was planned before the end was known.
            let follow = d.follow && s.outcome.is_none() && !over;
            if s.outcome.as_ref().is_some_and(|o| o.written == 0) {
                continue;
            }
            let n = self.next;
            self.next += 1;
            let tail = Tail {
                path: PathBuf::from(OsStr::from_bytes(&s.path)),
                offset: s.read,
                lines: self.options.tail.filter(|_| s.read == 0),
                follow,
            };
            let host = Some(s.host.clone()).filter(|h| *h != self.options.here);
            let source = Source::start(host, tail, self.to.clone(), move |t| Event::Told(n, t))?;
            s.source = Some((n, source));
            self.sources.insert(n, d.which);
        }
        // With all places taken, what is due waits for the next event.
        if self.sources.len() >= SOURCES {
            let later = now + SHORT;
            self.due.iter_mut().for_each(|d| d.at = d.at.max(later));
        }
        Ok(())
    }

    fn told(&mut self, n: usize, told: Told) -> Result<(), Failure> {
        // Of an attempt that a newer one has replaced.
        let Some(which) = self.sources.get(&n).copied() else {
            return Ok(());
        };
        let Some(s) = self.streams.get_mut(&which) else {
            return Ok(());
        };
        let to = if which.2 { self.options.error_to } else { 1 };
        match told {
            Told::Bytes(d) => {
                s.read += d.len() as u64;
                let (lines, screen) = (&mut s.lines, &mut self.screen);
                lines.add(&d, |d| screen.write(to, d));
                return Ok(());
            }
            Told::End => {
                s.source = None;
                self.sources.remove(&n);
                return Ok(());
            }
            Told::Gone | Told::Failed(_) => {}
        }
        s.source = None;
        self.sources.remove(&n);
        let failed = match told {
            Told::Failed(f) => Some(f),
            _ => None,
        };
        if !std::mem::replace(&mut s.again, true) && self.moved(which)? {
            return Ok(());
        }
        self.instead(which, failed.as_ref());
        Ok(())
    }

    /// Output that was brought home meanwhile is elsewhere: it is read on there.
    fn moved(&mut self, which: Which) -> Result<bool, Failure> {
        let one = Selection {
            ids: vec![IdRange {
                from: which.0,
                to: which.0,
                tasks: (which.1 > 0).then_some(TaskRange {
                    from: which.1,
                    to: which.1,
                    step: 1,
                }),
            }],
            ..Selection::default()
        };
        let Ok(job_reply::Kind::Outputs(found)) = leader::reply(query::Kind::Outputs(one)) else {
            return Ok(false);
        };
        let Some(s) = self.streams.get_mut(&which) else {
            return Ok(false);
        };
        for o in found.outputs {
            let path = if which.2 { &o.error } else { &o.path };
            let fits = o
                .key
                .is_some_and(|k| (k.job, k.task, k.attempt) == (which.0, which.1, s.attempt));
            if fits && !path.is_empty() && (o.host != s.host || *path != s.path) {
                s.host.clone_from(&o.host);
                s.path.clone_from(path);
                let follow = s.outcome.is_none();
                self.plan(which, Duration::ZERO, follow);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The file cannot be read: what the history has of it.
    fn instead(&mut self, which: Which, why: Option<&Failure>) {
        let Some(s) = self.streams.get_mut(&which) else {
            return;
        };
        let name = job::name(which.0, which.1);
        match &s.outcome {
            Some(o) if !which.2 => {
                self.screen.note(&gone(&name, &s.path, &s.host, why));
                let (lines, screen) = (&mut s.lines, &mut self.screen);
                lines.add(&ends(o), |d| screen.write(1, d));
            }
            _ => {
                if let Some(why) = why {
                    self.screen.note(&format!("the output of {name}: {}", why.text));
                }
            }
        }
    }

    fn end_lines(&mut self) {
        let screen = &mut self.screen;
        for (which, s) in &mut self.streams {
            let to = if which.2 { self.options.error_to } else { 1 };
            s.lines.end(|d| screen.write(to, d));
        }
    }
}

/// Why the ends of output are shown, and not all of it.
pub fn gone(name: &str, path: &[u8], host: &str, why: Option<&Failure>) -> String {
    let file = printable(&String::from_utf8_lossy(path));
    let host = printable(host);
    match why {
        None => format!("output file {file} on {host} is gone; the history of {name} has its ends:"),
        Some(f) => format!(
            "output file {file} on {host}: {}; the history of {name} has its ends:",
            f.text
        ),
    }
}

/// What the history has of output.
pub fn ends(o: &Outcome) -> Vec<u8> {
    let mut all = o.head.clone();
    if !o.tail.is_empty() {
        let missing = o.written.saturating_sub((o.head.len() + o.tail.len()) as u64);
        if missing > 0 {
            all.extend_from_slice(format!("\n[... {missing} bytes ...]\n").as_bytes());
        }
        all.extend_from_slice(&o.tail);
    }
    all
}
