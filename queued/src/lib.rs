//! `queued`, the daemon of a host: keeps a connection with every other member, knows how they are, chooses
//! hosts, and passes the connections of sessions on to queue-exec. It runs as an unprivileged user, starts no
//! user's process, and no byte of a session goes through it.
//!
//! The rooms: `engine` decides and does no input or output; `driver` owns it; `listen`, `mesh`, `admit`,
//! `handler` and `exec` do input and output and know the engine's inputs and effects, not each other's
//! business; `batch` does the same for batch jobs, with engines and a task of its own. `command` is the command line; `identity` the files.
#![forbid(unsafe_code)]

mod account;
mod address;
mod admit;
mod applicant;
mod batch;
pub mod command;
mod context;
mod control;
mod discover;
mod door;
mod driver;
mod engine;
mod errand;
mod exec;
mod gossip;
mod guests;
mod handler;
mod identity;
mod listen;
mod mail;
mod mesh;
mod name;
mod notify;
mod probe;
mod rejoin;
mod renew;
mod spawn;
mod store;
mod takeover;
mod usage;
mod verify;

use anyhow::Context as _;
use context::Context;
use door::{Door, Porter, Visitor};
use driver::{Driver, Event, Ready};
use exec::Exec;
use spawn::Spawner;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long members are given to read that we go.
const GOODBYE: Duration = Duration::from_secs(1);

/// Why the daemon does not run any more.
enum End {
    /// It was told to end.
    Stopped,
    /// Another program is to take its place: what it needs, and who wants it.
    Upgrade(Box<takeover::Left>, UnixStream),
}

/// Runs the daemon on these sockets until it is told to end, or to make room.
async fn run(
    context: Arc<Context>,
    sockets: &takeover::Sockets,
    before: takeover::Before,
    spawner: Option<Spawner>,
) -> anyhow::Result<End> {
    let takeover::Sockets { tcp, udp, local } = sockets.again().context("cannot listen")?;
    let takeover::Before { up, visitors } = before;
    let (mut locals, mut remotes) = (Vec::new(), Vec::new());
    for v in visitors {
        match v {
            Visitor::Local(s, said) => locals.push((tokio::net::UnixStream::from_std(s)?, said)),
            Visitor::Remote(s) => remotes.push(tokio::net::TcpStream::from_std(s)?),
        }
    }
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    takeover::signals(true);
    let (mut porter, door) = Porter::new();
    let ready = Ready::new(context.clone());
    let driver = ready.driver();
    let jobs = batch::Ready::new();
    let batch = jobs.batch();
    let exec = Exec::start(context.layout.clone(), driver.clone(), batch.clone(), spawner);
    let gossip = gossip::Gossip::start(&context, udp, driver.clone())?;
    tokio::spawn(ready.run(exec.clone(), gossip, batch.clone()));
    tokio::spawn(jobs.run(driver.clone(), exec.clone()));
    let askers = batch::ask::places();
    let guests = guests::Guests::new();
    tokio::spawn(listen::look(guests.clone(), driver.clone()));
    for s in tcp {
        let s = tokio::net::TcpListener::from_std(s).context("cannot listen")?;
        let rooms = listen::Rooms {
            driver: driver.clone(),
            exec: exec.clone(),
            batch: batch.clone(),
            askers: askers.clone(),
            door: door.clone(),
            guests: guests.clone(),
        };
        tokio::spawn(listen::serve(s, std::mem::take(&mut remotes), rooms));
    }
    tokio::spawn(renew::keep(driver.clone(), exec.clone()));
    let local = tokio::net::UnixListener::from_std(local).context("cannot listen")?;
    let rooms = handler::Rooms {
        driver: driver.clone(),
        exec: exec.clone(),
        batch: batch.clone(),
        door: door.clone(),
    };
    match up {
        None => {
            porter.open();
            tokio::spawn(handler::serve(local, locals, rooms));
            let (driver, exec) = (driver.clone(), exec.clone());
            tokio::spawn(async move {
                exec.ready().await;
                announce(&driver.context());
            });
        }
        Some(up) => {
            door::learn(&driver, &exec, &batch, &up).await;
            porter.open();
            tokio::spawn(handler::serve(local, locals, rooms));
            announce(&driver.context());
        }
    }
    let (lan_stop, stop) = oneshot::channel();
    let lan = tokio::spawn(discover::announce(driver.contexts(), stop));
    loop {
        tokio::select! {
            _ = term.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload(&driver).await,
            by = porter.wanted() => {
                let left = make_room(&porter, &door, &driver, &exec, &batch).await;
                return Ok(End::Upgrade(Box::new(left), by));
            }
        }
    }
    drop(lan_stop);
    end(&driver, &exec).await;
    let _ = timeout(GOODBYE, lan).await;
    Ok(End::Stopped)
}

/// Brings what was begun to its end. Members are not told that we go: we are back before they miss us.
async fn make_room(
    porter: &Porter,
    door: &Door,
    driver: &Driver,
    exec: &Exec,
    batch: &batch::Batch,
) -> takeover::Left {
    tracing::info!("another program takes over");
    notify::reloading();
    let up = door::up(driver).await;
    let visitors = porter.shut(door).await;
    batch.stop().await;
    takeover::Left {
        before: takeover::Before {
            up: Some(up),
            visitors,
        },
        child: exec.child(),
    }
}

/// Usable from now on: says so to whoever started us.
fn announce(c: &Context) {
    let text = format!(
        "{} of cluster {} at {}",
        c.identity.own.name,
        c.identity.cluster.name,
        c.address()
    );
    notify::tell(&format!("READY=1\nSTATUS={text}\n"));
    // Whatever the log level is.
    let _ = writeln!(std::io::stderr(), "queued: READY: {text}");
}

async fn reload(driver: &Driver) {
    notify::reloading();
    let (tx, rx) = oneshot::channel();
    driver.send(Event::Reload(tx)).await;
    match rx.await {
        Ok(Err(e)) => tracing::error!("not read again: {e}"),
        _ => tracing::info!("configuration, keys and members read again"),
    }
    notify::tell("READY=1\n");
}

/// Tells the members, and ends. Sessions go on: they are queue-exec's, which is left running if root started
/// it (a later `queued` finds it), or if it has sessions.
async fn end(driver: &Driver, exec: &Exec) {
    notify::tell("STOPPING=1\n");
    tracing::info!("ending; sessions go on, and queue-exec with them (the next 'queued run' finds it)");
    let (tx, rx) = oneshot::channel();
    driver.send(Event::Stop(tx)).await;
    let _ = timeout(GOODBYE, rx).await;
    let _ = timeout(GOODBYE, driver.idle()).await;
    exec.end();
}
