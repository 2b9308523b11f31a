//! `queued run`: everything that needs root or blocks, in order, before the first thread exists; then the
//! daemon itself.

use super::{Run, Site, init};
use crate::context::Context;
use crate::identity::{self, Identity};
use crate::spawn::{self, Spawner};
use crate::takeover::{self, Before, Left, Sockets};
use crate::verify::wire_keys;
use crate::{End, account, gossip, listen, name};
use anyhow::{Context as _, bail};
use libqueue::config::{LogLevel, PORT};
use libqueue::frame;
use libqueue::wire::{self, ErrorCode, Reply, reply};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{getsockopt, sockopt};
use queue_exec::cert::Revocations;
use queue_exec::layout::Layout;
use queue_exec::state::{Room, random, write_atomic_for};
use queue_exec::takeover::Inherited;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tracing::level_filters::LevelFilter;

/// Threads that still read or write for somebody are given so long before another program takes over.
const THREADS: Duration = Duration::from_secs(1);

pub(super) fn run(args: &Run) -> anyhow::Result<()> {
    let port = args.port;
    let program = queue_exec::takeover::program().context("/proc/self/exe")?;
    let inherited = args.takeover.as_deref().map(Inherited::receive).transpose()?;
    let site = Site::open()?;
    start_log(site.config.log);
    let left = inherited.and_then(|i| {
        let left = takeover::read(i);
        left.inspect_err(|e| tracing::warn!("{e}: starting as if there had been none"))
            .ok()
    });
    if let Some(left) = left {
        return take_over(&site, port, program, left);
    }
    not_twice(&site.layout)?;
    more_descriptors();
    let user = if site.root { Some(account::ensure()?) } else { None };
    if !identity::exists(&site.layout) {
        // Before anything is written or started: a second installation beside another one ends here.
        drop(listen::open(
            &site.config.listen,
            port.or(site.config.port).unwrap_or(PORT),
        )?);
        set_up(&site)?;
    }
    if let Some(u) = &user {
        take_revocations(&site.layout, u)?;
    }
    take_keys(&site.layout, user.as_ref())?;
    run_dir(&site.layout, user.as_ref())?;
    let identity = Identity::load(&site.layout)?;
    let context = context(&site, identity, port, program)?;
    let tcp = listen::open(&site.config.listen, context.port)?;
    let udp = gossip::open(&site.config.listen, context.port)?;
    let spawner = queue_exec(&site)?;
    if let Some(u) = &user {
        account::become_user(u)?;
    }
    let lock = lock(&site.layout)?;
    let local = local_socket(&site.layout)?;
    let sockets = Sockets { tcp, udp, local };
    serve(&site, context, &sockets, &lock, Before::default(), spawner)
}

/// Goes on where the program before this one was.
fn take_over(
    site: &Site,
    port: Option<u16>,
    program: PathBuf,
    (lock, mut sockets, left): (File, Sockets, Left),
) -> anyhow::Result<()> {
    let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, e)| anyhow::anyhow!("the lock of the program before is lost: {}", e.desc()))?;
    let context = context(site, Identity::load(&site.layout)?, port, program)?;
    if !sockets.fit(&site.config.listen, context.port) {
        tracing::warn!("port or addresses are others now: whoever was about to connect there is lost");
        let (tcp, udp) = (Vec::new(), Vec::new());
        (sockets.tcp, sockets.udp) = (tcp, udp);
        sockets.tcp = listen::open(&site.config.listen, context.port)?;
        sockets.udp = gossip::open(&site.config.listen, context.port)?;
    }
    let spawner = match (left.child, Spawner::find(&site.layout)) {
        (Some(pid), Ok(s)) => Some(s.having(pid)),
        (None, Ok(s)) if site.config.spawn_exec && !site.layout.root => Some(s),
        _ => None,
    };
    serve(site, context, &sockets, &lock, left.before, spawner)
}

fn context(site: &Site, identity: Identity, port: Option<u16>, program: PathBuf) -> anyhow::Result<Context> {
    let c = Context::new(site.layout.clone(), site.config.clone(), identity, random(), port)?;
    Ok(c.with_config_file(site.config_file.clone()).with_program(program))
}

/// Runs the daemon, and the program that takes its place. If that cannot be executed, this one starts over.
fn serve(
    site: &Site,
    mut context: Context,
    sockets: &Sockets,
    lock: &Flock<File>,
    mut before: Before,
    mut spawner: Option<Spawner>,
) -> anyhow::Result<()> {
    let (port, program) = (context.port, context.program.clone());
    let result = loop {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the event loop")?;
        let end = runtime.block_on(crate::run(Arc::new(context), sockets, before, spawner.take()));
        let (left, mut by) = match end {
            Ok(End::Upgrade(left, by)) => (left, by),
            Ok(End::Stopped) => break Ok(()),
            Err(e) => break Err(e),
        };
        runtime.shutdown_timeout(THREADS);
        let e = takeover::hand_over(&program, sockets, lock, &left);
        tracing::error!("{e}: the program that runs goes on");
        let refused = wire::Error {
            code: ErrorCode::Internal as i32,
            text: e.to_string(),
        };
        let refused = Reply {
            kind: Some(reply::Kind::Error(refused)),
        };
        let _ = by.write_all(&frame::encode(&refused));
        let Left { before: was, child } = *left;
        before = was;
        spawner = Spawner::find(&site.layout)
            .ok()
            .and_then(|s| child.map(|pid| s.having(pid)));
        context = self::context(site, Identity::load(&site.layout)?, Some(port), program.clone())?;
    };
    let _ = fs::remove_file(site.layout.queued_socket());
    result
}

fn start_log(level: LogLevel) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        .with_target(false)
        .with_ansi(false);
    // The journal puts the time itself.
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        log.without_time().init();
    } else {
        log.init();
    }
}

/// With nothing set up, this machine alone.
fn set_up(site: &Site) -> anyhow::Result<()> {
    if site.layout.root && !site.root {
        bail!("this host is in no cluster yet: run 'queued init' or 'queued join TOKEN' as root");
    }
    // A host name that could not be joined with is good enough for one's own.
    let name = site.host_name(None, true).or_else(|e| match site.config.name {
        Some(_) => Err(e),
        None => name::check("localhost", true)
            .map(|()| "localhost".to_owned())
            .map_err(Into::into),
    })?;
    let new = init::New {
        host: &name,
        ..init::New::default()
    };
    let id = init::first(site, &new)?;
    spawn::reload(&site.layout).context("queue-exec runs, but did not take the new keys up")?;
    tracing::info!(
        "nothing was set up: this host is {} of a cluster of its own now ('queued join TOKEN' makes it part of another)",
        id.own.name
    );
    Ok(())
}

/// Refuses to run beside another one of the same installation.
fn not_twice(layout: &Layout) -> anyhow::Result<()> {
    let path = layout.queued_socket();
    let Ok(s) = UnixStream::connect(&path) else {
        return Ok(());
    };
    let pid = getsockopt(&s, sockopt::PeerCredentials).map_or(0, |c| c.pid());
    bail!(
        "queued runs already (process {pid} has {}): stop it first",
        path.display()
    )
}

/// Held while this daemon runs.
fn lock(layout: &Layout) -> anyhow::Result<Flock<File>> {
    let path = layout.run.join("queued.pid");
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644);
    let f = options
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    let mut lock = Flock::lock(f, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| {
        anyhow::anyhow!(
            "queued runs already (it holds {}): stop it first ({})",
            path.display(),
            e.desc()
        )
    })?;
    lock.set_len(0)?;
    writeln!(lock, "{}", std::process::id())?;
    Ok(lock)
}

fn local_socket(layout: &Layout) -> anyhow::Result<UnixListener> {
    let path = layout.queued_socket();
    match fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(e).with_context(|| format!("cannot replace {}", path.display()));
        }
        _ => {}
    }
    let s = UnixListener::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
    // All local users in a root install; a single-user one serves its owner.
    let mode = if layout.root { 0o666 } else { 0o600 };
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    s.set_nonblocking(true)?;
    Ok(s)
}

/// One connection a session for a moment, one a member for ever: the soft limit of 1024 is for `select`.
fn more_descriptors() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard.min(1 << 20), hard);
    }
}

/// Hosts may have been removed while we did not run: queue-exec's room, which only root reads, has the list.
fn take_revocations(layout: &Layout, user: &nix::unistd::User) -> anyhow::Result<()> {
    let Ok(room) = Room::open(&layout.exec_state()) else {
        return Ok(());
    };
    let (Some(authority), Some(list)) = (room.authority()?, room.read(queue_exec::state::REVOKED)?) else {
        return Ok(());
    };
    let path = layout.queued_state().join(identity::REVOKED);
    let version = |b: &[u8]| Revocations::verify(b, &authority).map_or(0, |r| r.version);
    if version(&list) > fs::read(&path).map_or(0, |b| version(&b)) {
        write_atomic_for(&path, &list, 0o600, Some((user.uid.as_raw(), user.gid.as_raw())))?;
    }
    Ok(())
}

/// Nor may the gossip keys have reached us that were made meanwhile, on the authority's host.
fn take_keys(layout: &Layout, user: Option<&nix::unistd::User>) -> anyhow::Result<()> {
    let Ok(room) = Room::open(&layout.exec_state()) else {
        return Ok(());
    };
    let Some(key) = queue_exec::keys::current(&room)? else {
        return Ok(());
    };
    if identity::read_keys(layout)?.is_some_and(|k| k.version >= key.version) {
        return Ok(());
    }
    identity::keep_keys(layout, &wire_keys(&key), user.map(|u| (u.uid, u.gid)))
}

/// The directory of the sockets. queue-exec makes it, too; whoever comes first.
fn run_dir(layout: &Layout, user: Option<&nix::unistd::User>) -> anyhow::Result<()> {
    let dir = &layout.run;
    if dir.is_dir() {
        return Ok(());
    }
    let failed = || format!("cannot make {}", dir.display());
    if let Some(parent) = dir.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)
            .with_context(failed)?;
    }
    DirBuilder::new().mode(0o700).create(dir).with_context(failed)?;
    if let Some(u) = user {
        nix::unistd::chown(dir, None, Some(u.gid)).with_context(failed)?;
        // Sticky, so that the daemon cannot replace queue-exec's socket.
        fs::set_permissions(dir, fs::Permissions::from_mode(0o1775)).with_context(failed)?;
    }
    Ok(())
}

/// Starts queue-exec where that is ours to do; what is needed to start it again later.
fn queue_exec(site: &Site) -> anyhow::Result<Option<Spawner>> {
    if !site.config.spawn_exec || (site.layout.root && !site.root) {
        return Ok(None);
    }
    if spawn::answers(&site.layout) {
        return Ok(Spawner::find(&site.layout).ok());
    }
    let mut s = Spawner::find(&site.layout)?;
    s.start()?;
    s.wait()?;
    Ok(Some(s))
}
