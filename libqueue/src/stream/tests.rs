use super::*;
use std::collections::VecDeque;

/// xorshift64*: the simulation's only source of choice, so that a seed replays.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }
}

/// One end with what its owner would hold: bytes to send and bytes that arrived.
struct End {
    stream: Stream,
    to_send: [VecDeque<u8>; 3],
    received: [Vec<u8>; 3],
    unconsumed: [usize; 3],
    ended: [bool; 3],
    controls: Vec<Vec<u8>>,
}

/// Takes what a stream has for the transport, `most` bytes at most.
fn drain(s: &mut Stream, most: usize) -> Vec<u8> {
    let mut v = Vec::new();
    while v.len() < most && !s.outgoing().is_empty() {
        let n = s.outgoing().len().min(most - v.len());
        v.extend_from_slice(&s.outgoing()[..n]);
        s.taken(n);
    }
    v
}

impl End {
    fn new(role: Role) -> Self {
        Self {
            stream: Stream::new(role),
            to_send: Default::default(),
            received: Default::default(),
            unconsumed: [0; 3],
            ended: [false; 3],
            controls: Vec::new(),
        }
    }

    fn send(&mut self, c: Channel, most: usize) {
        let to_send = &mut self.to_send[c as usize];
        let n = to_send.len().min(most);
        let n = self.stream.send(c, &to_send.make_contiguous()[..n]);
        to_send.drain(..n);
        if to_send.is_empty() {
            self.stream.eof(c);
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let (received, unconsumed, ended, controls) = (
            &mut self.received,
            &mut self.unconsumed,
            &mut self.ended,
            &mut self.controls,
        );
        self.stream
            .receive(bytes, |e| match e {
                Event::Data(c, d) => {
                    assert!(!ended[c as usize], "data after the end of {c:?}");
                    received[c as usize].extend_from_slice(d);
                    unconsumed[c as usize] += d.len();
                }
                Event::Eof(c) => ended[c as usize] = true,
                Event::Closed(_) => {}
                Event::Control(m) => controls.push(m.to_vec()),
            })
            .expect("an honest peer");
    }

    fn consume(&mut self, c: Channel, most: usize) {
        let n = self.unconsumed[c as usize].min(most);
        self.unconsumed[c as usize] -= n;
        self.stream.consumed(c, n);
    }
}

/// Any interleaving of sending, cutting into pieces, consuming and control messages delivers every byte once
/// and in order, never holds more than a window, and control messages pass although a channel is full.
#[test]
fn every_byte_once_in_order_whatever_the_pieces() {
    for seed in 1..=3000u64 {
        let mut r = Random(seed);
        let mut ends = [End::new(Role::Front), End::new(Role::Session)];
        let mut wanted: [Vec<u8>; 3] = Default::default();
        for c in Channel::ALL {
            // Some runs are larger than the window, most are small so that many seeds run.
            let most = if seed % 100 == 0 { 3 << 20 } else { 5000 };
            let n = r.below(most);
            wanted[c as usize] = (0..n).map(|i| (i * 7 + c as usize) as u8).collect();
            let writer = usize::from(c != Channel::Stdin);
            ends[writer].to_send[c as usize] = wanted[c as usize].iter().copied().collect();
        }
        let mut controls = [Vec::new(), Vec::new()];
        for _ in 0..100_000 {
            let e = r.below(2);
            match r.below(4) {
                0 => {
                    let c = Channel::ALL[r.below(3)];
                    if ends[e].stream.writes(c) {
                        let most = 1 + r.below(200_000);
                        ends[e].send(c, most);
                    }
                }
                1 => {
                    let bytes = drain(&mut ends[e].stream, 1 + r.below(150_000));
                    ends[1 - e].take(&bytes);
                }
                2 => {
                    let c = Channel::ALL[r.below(3)];
                    let most = r.below(400_000);
                    ends[e].consume(c, most);
                }
                _ if controls[e].len() < 5 => {
                    let m = vec![controls[e].len() as u8; r.below(40)];
                    ends[e].stream.control(&m);
                    controls[e].push(m);
                }
                _ => {}
            }
            for end in &ends {
                for c in Channel::ALL {
                    assert!(
                        end.unconsumed[c as usize] as u64 <= WINDOW,
                        "seed {seed}: more than a window held"
                    );
                    let w = &end.stream.writing[c as usize];
                    assert!(w.sent <= w.limit, "seed {seed}: credit negative on {c:?}");
                }
            }
            let done = (0..3).all(|c| ends[usize::from(c == 0)].ended[c]);
            if done
                && ends.iter().all(|e| e.stream.outgoing().is_empty())
                && controls.iter().all(|c| c.len() == 5)
            {
                break;
            }
        }
        for c in Channel::ALL {
            let reader = usize::from(c == Channel::Stdin);
            assert!(ends[reader].ended[c as usize], "seed {seed}: {c:?} did not end");
            assert!(
                ends[reader].received[c as usize] == wanted[c as usize],
                "seed {seed}: {c:?} differs"
            );
        }
        assert_eq!(ends[1].controls, controls[0], "seed {seed}");
        assert_eq!(ends[0].controls, controls[1], "seed {seed}");
    }
}

#[test]
fn a_full_channel_blocks_nothing_else() {
    let mut s = Stream::new(Role::Session);
    let mut front = Stream::new(Role::Front);
    let much = vec![0; 2 * WINDOW as usize];
    assert_eq!(s.send(Channel::Stdout, &much) as u64, WINDOW);
    assert_eq!(s.credit(Channel::Stdout), 0);
    assert_eq!(s.send(Channel::Stderr, &[1]), 1);
    s.control(b"x");
    let wire = drain(&mut s, usize::MAX);
    let mut seen = (0, false, false);
    front
        .receive(&wire, |e| match e {
            Event::Data(Channel::Stdout, d) => seen.0 += d.len(),
            Event::Data(_, _) => seen.1 = true,
            Event::Control(b"x") => seen.2 = true,
            _ => panic!("{e:?}"),
        })
        .unwrap();
    assert_eq!(seen, (WINDOW as usize, true, true));
    front.consumed(Channel::Stdout, WINDOW as usize / 4);
    let credit = drain(&mut front, usize::MAX);
    s.receive(&credit, |e| panic!("{e:?}")).unwrap();
    assert_eq!(s.credit(Channel::Stdout) as u64, WINDOW / 4);
}

#[test]
fn closing_drops_what_still_comes() {
    let mut front = Stream::new(Role::Front);
    front.close(Channel::Stdout);
    front.close(Channel::Stdout);
    assert_eq!(drain(&mut front, usize::MAX).len(), HEAD, "said once");
    let mut s = Stream::new(Role::Session);
    s.send(Channel::Stdout, b"abc");
    let bytes = drain(&mut s, usize::MAX);
    front.receive(&bytes, |e| panic!("{e:?}")).unwrap();
    let mut closed = false;
    s.receive(&super::head(CLOSE | 1, 0), |e| {
        closed = e == Event::Closed(Channel::Stdout)
    })
    .unwrap();
    assert!(closed && s.is_closed(Channel::Stdout) && s.credit(Channel::Stdout) == 0);
}

#[test]
fn rule_breakers_are_found() {
    let try_front = |bytes: &[u8]| Stream::new(Role::Front).receive(bytes, |_| {});
    assert_eq!(try_front(&head(0x50, 0)), Err(ProtocolError::UnknownFrame(0x50)));
    assert_eq!(try_front(&head(0x03, 0)), Err(ProtocolError::UnknownFrame(3)));
    assert_eq!(
        try_front(&head(DATA, 1)),
        Err(ProtocolError::Unexpected(Channel::Stdin))
    );
    assert_eq!(
        try_front(&head(DATA | 1, DATA_MAX + 1)),
        Err(ProtocolError::TooLong(DATA_MAX + 1))
    );
    assert_eq!(
        try_front(&head(CONTROL, CONTROL_MAX + 1)),
        Err(ProtocolError::TooLong(CONTROL_MAX + 1))
    );
    assert_eq!(try_front(&head(EOF | 1, 1)), Err(ProtocolError::Malformed));
    assert_eq!(
        try_front(&[head(EOF | 1, 0), head(EOF | 1, 0)].concat()),
        Err(ProtocolError::Unexpected(Channel::Stdout))
    );
    let mut over = Vec::new();
    for _ in 0..17 {
        over.extend(head(DATA | 1, DATA_MAX));
        over.resize(over.len() + DATA_MAX, 0);
    }
    assert_eq!(try_front(&over), Err(ProtocolError::OverCredit(Channel::Stdout)));
    let credit = [&head(CREDIT, 8)[..], &u64::MAX.to_be_bytes()].concat();
    assert_eq!(try_front(&credit), Err(ProtocolError::Malformed));
    assert_eq!(
        Stream::new(Role::Session).receive(&head(CONTROL, FIRST_CONTROL_MAX + 1), |_| {}),
        Err(ProtocolError::TooLong(FIRST_CONTROL_MAX + 1))
    );
}

/// Bytes at random never panic and never make the stream hold more than its limits.
#[test]
fn garbage_is_refused_or_ignored() {
    for seed in 1..=20_000u64 {
        let mut r = Random(seed);
        let bytes: Vec<u8> = (0..r.below(64))
            .map(|_| [0, 1, 2, 8, 0x10, 0x20, 0x30, 0x40, 0xff][r.below(9)])
            .collect();
        let mut s = Stream::new(if seed % 2 == 0 { Role::Front } else { Role::Session });
        let _ = s.receive(&bytes, |_| {});
    }
}

#[test]
fn an_acknowledgement_that_was_lost_comes_again_and_is_old() {
    let (mut front, mut session) = (Stream::new(Role::Front), Stream::new(Role::Session));
    front.make_resumable();
    session.make_resumable();
    let part = vec![7; 400_000];
    let mut came = 0;
    for _ in 0..2 {
        assert_eq!(session.send(Channel::Stdout, &part), part.len());
        let bytes = drain(&mut session, usize::MAX);
        let count = |e: Event<'_>| {
            if let Event::Data(_, d) = e {
                came += d.len();
            }
        };
        front.receive(&bytes, count).expect("an honest peer");
        // Its acknowledgement is given to a transport that loses it.
        assert!(!drain(&mut front, usize::MAX).is_empty());
    }
    let (have, has) = (front.received(), session.received());
    session.resume(have).expect("the truth");
    front.resume(has).expect("the truth");
    assert!(session.is_all_acknowledged());
    let again = drain(&mut front, usize::MAX);
    assert_eq!(session.receive(&again, |_| {}), Ok(()));
    assert!(session.is_all_acknowledged() && came == 2 * part.len());
    // One that was never sent is still none.
    let mut false_word = head(ACK, 8).to_vec();
    false_word.extend((session.kept() + have + 1).to_be_bytes());
    assert_eq!(
        session.receive(&false_word, |_| {}),
        Err(ProtocolError::Malformed)
    );
}
