use super::*;
use crate::tls::{KeyPair, Peer, client_config, server_config};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::sync::OnceLock;

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(
        AddressFamily::Unix,
        SockType::Stream,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .unwrap()
}

fn connect(
    session: KeyPair,
    pin: [u8; 32],
    wanted_client: Option<[u8; 32]>,
) -> (Result<Link, LinkError>, Result<Link, LinkError>) {
    let (a, b) = pair();
    let front = KeyPair::generate().unwrap();
    let client_key = wanted_client.unwrap_or(front.public());
    let server = std::thread::spawn(move || {
        let mut s = Link::server(b, server_config(&session, Peer::Pinned(client_key)).unwrap())?;
        let mut got = Vec::new();
        s.handshake(Duration::from_secs(5), |e| got.push(format!("{e:?}")))?;
        s.flush_all(Duration::from_secs(5))?;
        while got.is_empty() {
            wait(
                s.socket().unwrap(),
                PollFlags::POLLIN,
                Instant::now() + Duration::from_secs(5),
            )?;
            s.receive(|e| got.push(format!("{e:?}")))?;
        }
        assert_eq!(got, [format!("{:?}", Event::Control(b"hello"))]);
        Ok(s)
    });
    let later = Arc::new(OnceLock::new());
    let _ = later.set(pin);
    let client = (|| {
        let mut c = Link::client(a, client_config(&front, Peer::Later(later)).unwrap())?;
        c.handshake(Duration::from_secs(5), |_| {})?;
        c.send_control(b"hello")?;
        c.flush_all(Duration::from_secs(5))?;
        Ok(c)
    })();
    (client, server.join().unwrap())
}

#[test]
fn both_ends_must_have_the_expected_keys() {
    let session = KeyPair::generate().unwrap();
    let (c, s) = connect(session.clone(), session.public(), None);
    let (c, mut s) = (c.unwrap(), s.unwrap());
    drop(c);
    assert!(matches!(s.receive(|_| {}), Err(LinkError::Io(e)) if e.kind() == io::ErrorKind::UnexpectedEof));

    let (c, s) = connect(session.clone(), [1; 32], None);
    assert!(matches!(c, Err(LinkError::Tls(_))) && s.is_err());
    let (_, s) = connect(session.clone(), session.public(), Some([2; 32]));
    assert!(matches!(s, Err(LinkError::Tls(_))), "{s:?}");
}

#[test]
fn bulk_data_flows_within_its_credit() {
    bulk(false, 20 << 20, true);
    bulk(true, 20 << 20, true);
}

/// What keeping and acknowledging costs, in turn with the same without: time, and processor time, which other work on
/// the machine changes less. Figures are of use from a release build only:
/// `cargo test --release -p libqueue keeping -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stderr, reason = "it is there to say figures")]
fn keeping_costs_little() {
    let used = || {
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID)
            .map(Duration::from)
            .unwrap()
    };
    let mut all = [Vec::new(), Vec::new()];
    for round in 0..22 {
        let resumable = round % 2 == 1;
        let (wall, cpu) = (Instant::now(), used());
        bulk(resumable, 512 << 20, false);
        let cost = [wall.elapsed().as_secs_f64(), (used() - cpu).as_secs_f64()];
        // The first of each warms up.
        if round >= 2 {
            all[usize::from(resumable)].push(cost);
        }
    }
    for (what, i) in [("time", 0), ("processor time", 1)] {
        let median = |rounds: &[[f64; 2]]| {
            let mut v: Vec<f64> = rounds.iter().map(|r| r[i]).collect();
            v.sort_by(f64::total_cmp);
            v[v.len() / 2]
        };
        let (without, with) = (median(&all[0]), median(&all[1]));
        eprintln!(
            "{what} of 512 MiB: {without:.3} s, kept {with:.3} s: throughput x {:.3}",
            without / with
        );
        assert!(without / with > 0.8, "{what}: keeping costs too much");
    }
}

fn bulk(resumable: bool, total: usize, looks: bool) {
    let session = KeyPair::generate().unwrap();
    let (c, s) = connect(session.clone(), session.public(), None);
    let (mut c, mut s) = (c.unwrap(), s.unwrap());
    if resumable {
        c.make_resumable();
        s.make_resumable();
    }
    let reader = std::thread::spawn(move || {
        let (mut sum, mut n) = (0u64, 0);
        while n < total {
            wait(
                c.socket().unwrap(),
                PollFlags::POLLIN,
                Instant::now() + Duration::from_secs(10),
            )
            .unwrap();
            let before = n;
            c.receive(|e| {
                if let Event::Data(Channel::Stdout, d) = e {
                    n += d.len();
                    if !looks {
                        return;
                    }
                    sum += d.iter().map(|b| u64::from(*b)).sum::<u64>();
                }
            })
            .unwrap();
            c.consumed(Channel::Stdout, n - before).unwrap();
            c.flush_all(Duration::from_secs(5)).unwrap();
        }
        sum
    });
    let (mut sent, mut sum) = (0, 0u64);
    while sent < total {
        let space = s.space(Channel::Stdout);
        let n = space.len().min(total - sent);
        if n > 0 {
            for (i, b) in space[..n].iter_mut().enumerate().take(if looks { n } else { 0 }) {
                *b = (sent + i) as u8;
                sum += u64::from(*b);
            }
            s.commit(Channel::Stdout, n).unwrap();
            sent += n;
        } else {
            let events = if s.backlog() > 0 {
                PollFlags::POLLIN | PollFlags::POLLOUT
            } else {
                PollFlags::POLLIN
            };
            wait(
                s.socket().unwrap(),
                events,
                Instant::now() + Duration::from_secs(10),
            )
            .unwrap();
            s.receive(|_| {}).unwrap();
        }
        s.flush().unwrap();
    }
    s.flush_all(Duration::from_secs(5)).unwrap();
    assert_eq!(reader.join().unwrap(), sum);
}
