//! A member that lies in gossip. It has the key that all members share, so it can speak in anybody's name; nothing that
//! it says may grant anything, harm anybody, or last.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use libqueue::seal::{Head, SharedKey};
use libqueue::wire::{self, Gossip, Keys, Load, gossip};
use libtest_mimic::Trial;
use prost::Message;
use queue_exec::cert::HostCert;
use queue_harness::{Cluster, HostCommand, LIMIT, Status, wait_until};

use super::play::tell;
use super::{attacker, daemon, figure, port, unharmed};
use crate::world::{World, hosts, until_state};

/// After the last lie, the host that was lied about is usable within this time.
const FORGIVEN: Duration = Duration::from_secs(20);

pub(super) fn trials(w: &Arc<World>) -> Vec<Trial> {
    vec![
        w.alone("hostile::lies_about_another_host_do_not_last", lies_about_another),
        w.alone("hostile::a_host_that_is_spoken_for_is_heard_again", silenced),
        w.alone("hostile::nonsense_in_gossip_is_harmless", nonsense),
        w.alone("hostile::datagrams_count_once", replays),
    ]
}

/// What datagrams call the host.
fn number(c: &Cluster, k: usize) -> Result<String> {
    let cert = c.host(k).read("/var/lib/queue/queued/host.cert")?;
    let (cert, ..) = HostCert::parse(&cert).map_err(|e| anyhow::anyhow!("{e}"))?;
    let mut n = [0; 8];
    n[2..].copy_from_slice(&cert.tls_key[..6]);
    Ok(u64::from_be_bytes(n).to_string())
}

/// h3, which says something of h1 to h2 for a while.
fn liar<'a>(c: &'a Cluster, what: &str, seconds: u32) -> Result<HostCommand<'a>> {
    let (to, address) = (port(c, 2), port(c, 1));
    let (about, own, seconds) = (number(c, 1)?, number(c, 3)?, seconds.to_string());
    let to_number = number(c, 2)?;
    let args = [what, &to, &to_number, &own, &about, &address, &seconds];
    Ok(attacker(c, 3, "queue", "lie", &args))
}

fn lie(c: &Cluster, what: &str, seconds: u32) -> Result<()> {
    let out = liar(c, what, seconds)?.ok()?;
    figure("lies", out.text());
    Ok(())
}

/// A table without anything that could drive a terminal, and with each host in it once.
fn readable(c: &Cluster, k: usize) -> Result<()> {
    for args in [
        &["queue", "hosts"][..],
        &["queue", "hosts", "--json"],
        &["queue", "explain"],
    ] {
        let out = c.host(k).command(args).ok()?;
        let text = String::from_utf8(out.stdout)?;
        let odd = |c: &char| {
            (c.is_control() && *c != '\n')
                || matches!(*c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        ensure!(!text.chars().any(|c| odd(&c)), "{args:?}: {text:?}");
        ensure!(text.len() < 20_000, "{args:?} is {} bytes long", text.len());
    }
    let names: Vec<_> = hosts(c, k)?.iter().map(|h| h["name"].to_string()).collect();
    ensure!(names.len() == 3, "h{k} knows {names:?}");
    Ok(())
}

/// Within the time, h2 and h3 find h1 up, and h2 runs something there.
fn forgiven(c: &Cluster) -> Result<()> {
    let begun = Instant::now();
    until_state(c, FORGIVEN, &[2, 3], "h1", "up")?;
    let run = || {
        c.host(2)
            .command(["queue", "-h", "h1", "--", "true"])
            .user("alice")
            .run()
    };
    wait_until(FORGIVEN.saturating_sub(begun.elapsed()), "a launch on h1", || {
        run().is_ok_and(|o| o.status == Status::Exit(0))
    })?;
    figure("forgiven after", format!("{:?}", begun.elapsed()));
    Ok(())
}

fn lies_about_another(c: &Cluster) -> Result<()> {
    let daemons = [daemon(c, 1)?, daemon(c, 2)?];
    for what in ["dead", "left", "last-epoch", "elsewhere"] {
        lie(c, what, 3)?;
        readable(c, 2)?;
        forgiven(c).with_context(|| format!("after the lie that h1 is {what}"))?;
    }
    unharmed(c, 1, daemons[0])?;
    unharmed(c, 2, daemons[1])
}

/// How many sessions h2 believes that a host has.
fn sessions(c: &Cluster, name: &str) -> Option<u64> {
    let all = hosts(c, 2).ok()?;
    all.iter().find(|h| h["name"] == name)?["sessions"].as_u64()
}

fn silenced(c: &Cluster) -> Result<()> {
    let h2 = daemon(c, 2)?;
    lie(c, "silenced", 2)?;
    let told = sessions(c, "h1");
    ensure!(told == Some(999), "the lie was not even heard: {told:?}");
    let begun = Instant::now();
    wait_until(FORGIVEN, "h1 to be heard itself", || {
        sessions(c, "h1").is_some_and(|n| n != 999)
    })?;
    figure("heard after", format!("{:?}", begun.elapsed()));
    forgiven(c)?;
    unharmed(c, 2, h2)
}

fn nonsense(c: &Cluster) -> Result<()> {
    let h2 = daemon(c, 2)?;
    lie(c, "nonsense", 3)?;
    readable(c, 2)?;
    // Whatever it said of itself and of h1: a launch is placed, and runs.
    let run = c.host(2).command(["queue", "--", "true"]).user("alice").run()?;
    ensure!(run.status == Status::Exit(0), "{run:?}");
    forgiven(c)?;
    readable(c, 2)?;
    unharmed(c, 2, h2)
}

fn replays(c: &Cluster) -> Result<()> {
    let h2 = daemon(c, 2)?;
    // One report of h3, newer by its number than any that its daemon sends; then the same datagram again and again,
    // and with h1 as its sender.
    let liar = liar(c, "replay", 40)?.spawn_piped()?;
    wait_until(LIMIT, "the report", || sessions(c, "h3") == Some(888))?;
    for _ in 0..20 {
        ensure!(sessions(c, "h1") != Some(888), "another sender was believed");
    }
    drop(liar);
    // When nobody repeats it any more, the daemon's own reports count again.
    wait_until(2 * FORGIVEN, "h3 to be heard itself", || {
        sessions(c, "h3").is_some_and(|n| n != 888)
    })?;
    forgiven(c)?;
    unharmed(c, 2, h2)
}

// ---- The liar ----------------------------------------------------------------------------------------

fn clock_ms() -> u64 {
    let d = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    d.as_millis() as u64
}

/// Speaks in one host's name, as one run of it.
struct Voice<'a> {
    socket: &'a UdpSocket,
    to: SocketAddr,
    shared: &'a SharedKey,
    host: u64,
    boot: u64,
    counter: u64,
}

impl Voice<'_> {
    fn sealed(&mut self, kind: gossip::Kind) -> Result<Vec<u8>> {
        let head = Head {
            key: self.shared.id(),
            host: self.host,
            boot: self.boot,
            counter: self.counter,
        };
        self.counter = self.counter.wrapping_add(1);
        let payload = Gossip { kind: Some(kind) }.encode_to_vec();
        let mut out = Vec::new();
        let sealed = self
            .shared
            .sender(self.host, self.boot)
            .seal(&head, &payload, &mut out);
        ensure!(sealed, "too long: {} bytes", payload.len());
        Ok(out)
    }

    fn say(&mut self, kind: gossip::Kind) -> Result<()> {
        let out = self.sealed(kind)?;
        self.socket.send_to(&out, self.to)?;
        Ok(())
    }
}

/// One host at one time of its life, as the membership protocol writes it.
#[derive(Clone, Copy)]
struct Id {
    host: u64,
    epoch: u64,
    at: SocketAddr,
}

fn varint(v: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        v.push(n as u8 | 0x80);
        n >>= 7;
    }
    v.push(n as u8);
}

impl Id {
    fn put(&self, v: &mut Vec<u8>) {
        varint(v, self.host);
        varint(v, self.epoch);
        if let SocketAddr::V4(a) = self.at {
            v.push(4);
            v.extend(a.ip().octets());
        }
        v.extend(self.at.port().to_be_bytes());
    }
}

/// A packet of the membership protocol that passes these members on: identity, incarnation, state (alive, suspect, dead).
fn swim(src: Id, dst: Id, members: &[(Id, u16, u8)]) -> gossip::Kind {
    let mut v = vec![1];
    src.put(&mut v);
    v.extend(u16::MAX.to_be_bytes());
    dst.put(&mut v);
    v.push(9);
    v.extend((members.len() as u16).to_be_bytes());
    for (id, incarnation, state) in members {
        id.put(&mut v);
        v.extend(incarnation.to_be_bytes());
        v.push(*state);
    }
    gossip::Kind::Swim(v)
}

/// Lies of one kind, for some seconds.
pub(super) fn play(args: &[&str]) -> Result<()> {
    let [what, to, to_number, own, about, address, seconds] = args else {
        bail!("seven words are wanted")
    };
    let bytes = std::fs::read("/var/lib/queue/queued/gossip.keys").context("the keys")?;
    let keys = Keys::decode(&bytes[..])?;
    let key: [u8; 32] = keys.key[..].try_into()?;
    let shared = SharedKey::new(&key);
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let to: SocketAddr = to.parse()?;
    let voice = |host: u64, boot: u64| Voice {
        socket: &socket,
        to,
        shared: &shared,
        host,
        boot,
        counter: 1,
    };
    let (own, about, h2): (u64, u64, u64) = (own.parse()?, about.parse()?, to_number.parse()?);
    let at: SocketAddr = address.parse()?;
    let now = clock_ms();
    let me = |epoch| Id {
        host: own,
        epoch,
        at: SocketAddr::from(([10, 0, 0, 1], 7838)),
    };
    let h1 = |epoch| Id {
        host: about,
        epoch,
        at,
    };
    let dst = Id {
        host: h2,
        epoch: 0,
        at: to,
    };
    let mut mine = voice(own, now);
    let mut theirs = voice(about, now);
    let end = Instant::now() + Duration::from_secs(seconds.parse()?);
    let (mut said, mut first) = (0u32, Vec::new());
    while Instant::now() < end {
        let epoch = clock_ms() << 1;
        match *what {
            "dead" => {
                // Of every life that it may have, in our own name and in its own.
                for e in [epoch, now << 1, epoch + 2] {
                    mine.say(swim(
                        me(epoch),
                        dst,
                        &[(h1(e), u16::MAX, 2), (h1(e), u16::MAX, 1)],
                    ))?;
                    theirs.say(swim(h1(e), dst, &[(h1(e), u16::MAX, 2)]))?;
                }
            }
            "left" => {
                mine.say(swim(me(epoch), dst, &[(h1(epoch | 1), 0, 2)]))?;
                theirs.say(swim(h1(epoch | 1), dst, &[(h1(epoch | 1), 0, 2)]))?;
            }
            "last-epoch" => {
                for e in [
                    u64::MAX,
                    u64::MAX - 1,
                    1 << 63,
                    (epoch + (1 << 39)) | 1,
                    (epoch + (1 << 42)) | 1,
                ] {
                    mine.say(swim(me(epoch), dst, &[(h1(e), u16::MAX, 2)]))?;
                    theirs.say(swim(h1(e), dst, &[(h1(e), u16::MAX, 2)]))?;
                }
            }
            "elsewhere" => {
                let wrong = Id {
                    at: SocketAddr::from(([10, 78, 250, 250], 1)),
                    ..h1(epoch)
                };
                mine.say(swim(me(epoch), dst, &[(wrong, 0, 0)]))?;
                theirs.say(swim(wrong, dst, &[(wrong, 0, 0)]))?;
            }
            "silenced" => {
                // Numbers that its own never reach, in three runs, and a load that is not its.
                for (boot, counter) in [
                    (now, 1),
                    (now, u64::MAX - 1),
                    (u64::MAX - 1, 1),
                    (u64::MAX, u64::MAX - 1),
                ] {
                    let mut v = voice(about, boot);
                    v.counter = counter;
                    v.say(gossip::Kind::Report(Load {
                        sessions: 999,
                        cores: 1,
                        seq: u64::MAX,
                        ..Load::default()
                    }))?;
                }
            }
            "nonsense" => {
                for v in [&mut mine, &mut theirs] {
                    for kind in nonsenses(epoch) {
                        v.say(kind)?;
                    }
                }
            }
            "replay" => {
                if first.is_empty() {
                    let report = Load {
                        sessions: 888,
                        cores: 1,
                        seq: u64::MAX - 1,
                        ..Load::default()
                    };
                    first = mine.sealed(gossip::Kind::Report(report))?;
                }
                socket.send_to(&first, to)?;
                let mut altered = first.clone();
                altered[5..13].copy_from_slice(&about.to_be_bytes());
                socket.send_to(&altered, to)?;
            }
            _ => bail!("no such lie: {what}"),
        }
        said += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    tell("said", said);
    Ok(())
}

/// Numbers that are none, names that drive terminals, and lists without end.
fn nonsenses(epoch: u64) -> Vec<gossip::Kind> {
    let bad = "\u{1b}[2J\u{9b}31m\u{202e}\u{7f}\r\u{7}h1";
    let mut all = Vec::new();
    for f in [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        -1.0,
        f64::MIN_POSITIVE,
    ] {
        all.push(gossip::Kind::Report(Load {
            load1: f,
            load5: f,
            load15: f,
            running: f,
            busy: f,
            psi_cpu: f,
            psi_mem: f,
            psi_io: f,
            starts: f,
            cores: u32::MAX,
            mem_total: u64::MAX,
            mem_available: u64::MAX,
            sessions: u32::MAX,
            cores_reserved: u32::MAX,
            mem_reserved: u64::MAX,
            gpus_reserved: u32::MAX,
            disk_free: u64::MAX,
            disk_reserved: u64::MAX,
            draining: true,
            facts: u64::MAX,
            jobs: u32::MAX,
            seq: u64::MAX,
        }));
        all.push(gossip::Kind::Facts(wire::Facts {
            version: u64::MAX,
            cores: u32::MAX,
            mem: u64::MAX,
            disk: u64::MAX,
            gpus: vec![
                wire::Gpu {
                    name: bad.into(),
                    mem: u64::MAX
                };
                6
            ],
            arch: bad.repeat(4),
            kernel: bad.into(),
            os: bad.into(),
            resources: (0..6).map(|i| (format!("{bad}{i}"), bad.to_owned())).collect(),
            power: f,
            max_sessions: u32::MAX,
            version_text: bad.into(),
            unwilling: true,
        }));
    }
    all.push(gossip::Kind::Ask(wire::Ask {
        id: epoch,
        need: Some(wire::Need {
            cores: u32::MAX,
            mem: u64::MAX,
            expr: "((((".repeat(60),
            ..wire::Need::default()
        }),
    }));
    all.push(gossip::Kind::Word(wire::Word {
        id: epoch,
        no: bad.into(),
        code: i32::MAX,
        yours: u32::MAX,
        ..wire::Word::default()
    }));
    all.push(gossip::Kind::Swim(vec![1; 300]));
    all.push(gossip::Kind::FactsAsk(wire::Empty {}));
    all
}
