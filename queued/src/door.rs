//! The doors of the daemon, shut while another program takes its place: what was begun is brought to its end, what was
//! not is left for the next program, with its connection. Knows who is inside; not what for.

use crate::batch::Batch;
use crate::driver::{Driver, Question};
use crate::exec::Exec;
use libqueue::wire::{HostInfo, HostState, reply};
use std::collections::BTreeSet;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

/// What was begun is given so long.
const SETTLE: Duration = Duration::from_secs(5);
/// The next program lets nobody in before it knows as much as the one before did, but no later than this.
const LEARN: Duration = Duration::from_secs(3);
/// How often it is looked whether it does.
const LOOK: Duration = Duration::from_millis(5);

/// Who came and was not served yet.
#[derive(Debug)]
pub(crate) enum Visitor {
    /// A local program, with what it said so far.
    Local(UnixStream, Vec<u8>),
    /// Somebody at the port, who has said nothing.
    Remote(TcpStream),
}

/// The rooms' view of the doors.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    open: watch::Receiver<bool>,
    shut: watch::Receiver<bool>,
    inside: Arc<watch::Sender<usize>>,
    left: Arc<Mutex<Vec<Visitor>>>,
    upgrade: mpsc::Sender<UnixStream>,
}

/// Somebody is inside until this is dropped.
#[derive(Debug)]
pub(crate) struct Inside(Arc<watch::Sender<usize>>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

impl Door {
    /// Counts somebody who is served.
    pub(crate) fn enter(&self) -> Inside {
        self.inside.send_modify(|n| *n += 1);
        Inside(self.inside.clone())
    }

    /// Waits until it is shut.
    pub(crate) async fn shut(&self) {
        if self.shut.clone().wait_for(|s| *s).await.is_err() {
            // Nobody will.
            std::future::pending().await
        }
    }

    /// Waits until the daemon knows enough to serve anybody.
    pub(crate) async fn open(&self) {
        let _ = self.open.clone().wait_for(|o| *o).await;
    }

    /// Leaves somebody for the next program.
    pub(crate) fn leave(&self, v: Visitor) {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).push(v);
    }

    /// Leaves a local program, with what it said so far.
    pub(crate) fn leave_local(&self, stream: tokio::net::UnixStream, said: Vec<u8>) {
        if let Ok(s) = stream.into_std() {
            self.leave(Visitor::Local(s, said));
        }
    }

    /// Somebody who may wants another program here, and listens on this connection.
    pub(crate) fn upgrade(&self, by: UnixStream) {
        // With one on its way, it is on its way.
        let _ = self.upgrade.try_send(by);
    }
}

/// Opens and shuts them.
#[derive(Debug)]
pub(crate) struct Porter {
    open: watch::Sender<bool>,
    shut: watch::Sender<bool>,
    upgrade: mpsc::Receiver<UnixStream>,
}

impl Porter {
    /// Doors that are not open yet.
    pub(crate) fn new() -> (Self, Door) {
        let (open, opened) = watch::channel(false);
        let (shut, is_shut) = watch::channel(false);
        let (wanted, upgrade) = mpsc::channel(1);
        let door = Door {
            open: opened,
            shut: is_shut,
            inside: Arc::new(watch::channel(0).0),
            left: Arc::default(),
            upgrade: wanted,
        };
        (Self { open, shut, upgrade }, door)
    }

    /// Waits for somebody who wants another program here.
    pub(crate) async fn wanted(&mut self) -> UnixStream {
        match self.upgrade.recv().await {
            Some(s) => s,
            None => std::future::pending().await,
        }
    }

    /// Lets everybody in.
    pub(crate) fn open(&self) {
        let _ = self.open.send(true);
    }

    /// Shuts them, waits for those inside, and says who is left.
    pub(crate) async fn shut(&self, door: &Door) -> Vec<Visitor> {
        let _ = self.shut.send(true);
        let mut inside = door.inside.subscribe();
        // Each that waits at the door has to see that it is shut.
        tokio::task::yield_now().await;
        if timeout(SETTLE, inside.wait_for(|n| *n == 0)).await.is_err() {
            tracing::warn!(
                "{} requests are not over after {} s: they are cut off",
                *inside.borrow(),
                SETTLE.as_secs()
            );
        }
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        std::mem::take(&mut *door.left.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The members that this host finds up.
pub(crate) async fn up(driver: &Driver) -> Vec<String> {
    let Some(reply::Kind::Hosts(hosts)) = driver.ask(Question::Hosts).await else {
        return Vec::new();
    };
    let up = hosts.hosts.into_iter().filter(|h| h.state() == HostState::Up);
    up.map(|h| h.name).collect()
}

/// Waits until the new program can serve anybody as the one before it did: queue-exec answers, the members that were
/// up are, and the stores of batch jobs are open.
pub(crate) async fn learn(driver: &Driver, exec: &Exec, batch: &Batch, before: &[String]) {
    let known = async {
        exec.ready().await;
        batch.ready().await;
        let wanted: BTreeSet<&str> = before.iter().map(String::as_str).collect();
        loop {
            let Some(reply::Kind::Hosts(hosts)) = driver.ask(Question::Hosts).await else {
                return;
            };
            let told = |h: &HostInfo| {
                let can = !h.local || h.load.as_ref().is_some_and(|l| l.cores > 0);
                h.state() == HostState::Up && h.load.is_some() && h.facts.is_some() && can
            };
            let mut some = hosts.hosts.iter();
            if some.all(|h| told(h) || !(h.local || wanted.contains(h.name.as_str()))) {
                return;
            }
            sleep(LOOK).await;
        }
    };
    if timeout(LEARN, known).await.is_err() {
        tracing::info!("not all members that were up have been heard yet: serving all the same");
    }
}
