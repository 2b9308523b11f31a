//! A session's stream.

use libqueue::stream::{Channel, Event, Role, Stream};

/// A session's stream means the same however the transport cuts it.
pub fn stream(data: &[u8]) {
    let play = |role: Role, step: usize| {
        let mut s = Stream::new(role);
        let mut seen: Vec<(u8, Vec<u8>)> = Vec::new();
        for piece in data.chunks(step.max(1)) {
            let mut used = Vec::new();
            let more = s.receive(piece, |e| {
                let (kind, bytes) = match e {
                    Event::Data(c, d) => {
                        used.push((c, d.len()));
                        (c as u8, d.to_vec())
                    }
                    Event::Eof(c) => (0x10 | c as u8, Vec::new()),
                    Event::Closed(c) => (0x20 | c as u8, Vec::new()),
                    Event::Control(m) => (0x40, m.to_vec()),
                };
                match seen.last_mut() {
                    // Data comes piece by piece.
                    Some((k, b)) if *k == kind && kind < 0x10 => b.extend_from_slice(&bytes),
                    _ => seen.push((kind, bytes)),
                }
            });
            if let Err(e) = more {
                return (seen, Some(e));
            }
            for (c, n) in used {
                let _ = s.consumed(c, n);
            }
        }
        for c in Channel::ALL {
            let _ = (s.credit(c), s.is_closed(c), s.is_ended(c), s.eof(c), s.close(c));
        }
        (seen, None)
    };
    for role in [Role::Front, Role::Session] {
        let whole = play(role, data.len());
        for step in [1, 3, 7] {
            let cut = play(role, step);
            // Credit is given between pieces, so only a stream without errors has to be the same.
            if whole.1.is_none() && cut.1.is_none() {
                assert_eq!(whole.0, cut.0);
            }
        }
    }
}
