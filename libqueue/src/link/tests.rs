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
    bulk(false);
    bulk(true);
}

fn bulk(resumable: bool) {
    let session = KeyPair::generate().unwrap();
    let (c, s) = connect(session.clone(), session.public(), None);
    let (mut c, mut s) = (c.unwrap(), s.unwrap());
    if resumable {
        c.make_resumable();
        s.make_resumable();
    }
    let total = 20 << 20;
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
            for (i, b) in space[..n].iter_mut().enumerate() {
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
