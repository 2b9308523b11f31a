//! How membership goes over the wire: a version byte, then foca's header and members in as few bytes as will do.
//! Foreign bytes give an error, never a panic; an unknown version is one.
//!
//! ```text
//! packet   = version(1) src incarnation(2) dst kind(1) [id] [number(1)] [count(2) member*]
//! member   = id incarnation(2) state(1)
//! id       = host(varint) epoch(varint) family(1: 4 or 6) ip(4 or 16) port(2)
//! ```

use super::{Change, Id, Verdict};
use bytes::{Buf, BufMut};
use foca::{Header, Member, Message, State};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

/// First byte of each packet.
pub(super) const VERSION: u8 = 1;

/// What can be wrong with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Bad {
    /// It ends too soon.
    #[error("too short")]
    Short,
    /// Another version, or no packet of ours.
    #[error("unknown version or content")]
    Content,
    /// It does not fit into the space.
    #[error("no room")]
    Room,
}

/// The codec. What it encodes as an update is what was applied: the log of that is how suspicions become known.
#[derive(Debug, Default)]
pub(super) struct Codec {
    pub applied: Arc<Mutex<Vec<Change>>>,
}

/// State of a member as we call it.
pub(super) fn verdict(state: State) -> Verdict {
    match state {
        State::Alive => Verdict::Alive,
        State::Suspect => Verdict::Suspect,
        State::Down => Verdict::Down,
    }
}

fn byte(buf: &mut impl Buf) -> Result<u8, Bad> {
    if buf.has_remaining() {
        Ok(buf.get_u8())
    } else {
        Err(Bad::Short)
    }
}

fn short(buf: &mut impl Buf) -> Result<u16, Bad> {
    Ok(u16::from_be_bytes([byte(buf)?, byte(buf)?]))
}

fn varint(buf: &mut impl Buf) -> Result<u64, Bad> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let b = byte(buf)?;
        let bits = u64::from(b & 0x7f);
        if shift == 63 && bits > 1 {
            return Err(Bad::Content);
        }
        n |= bits << shift;
        if b & 0x80 == 0 {
            return Ok(n);
        }
    }
    Err(Bad::Content)
}

fn id(buf: &mut impl Buf) -> Result<Id, Bad> {
    let (host, epoch) = (varint(buf)?, varint(buf)?);
    let ip: IpAddr = match byte(buf)? {
        4 => {
            let mut ip = [0; 4];
            for b in &mut ip {
                *b = byte(buf)?;
            }
            ip.into()
        }
        6 => {
            let mut ip = [0; 16];
            for b in &mut ip {
                *b = byte(buf)?;
            }
            ip.into()
        }
        _ => return Err(Bad::Content),
    };
    Ok(Id::new(host, epoch, SocketAddr::new(ip, short(buf)?)))
}

fn member(buf: &mut impl Buf) -> Result<Member<Id>, Bad> {
    let (id, incarnation) = (id(buf)?, short(buf)?);
    let state = match byte(buf)? {
        0 => State::Alive,
        1 => State::Suspect,
        2 => State::Down,
        _ => return Err(Bad::Content),
    };
    Ok(Member::new(id, incarnation, state))
}

fn header(buf: &mut impl Buf) -> Result<Header<Id>, Bad> {
    if byte(buf)? != VERSION {
        return Err(Bad::Content);
    }
    let (src, src_incarnation, dst) = (id(buf)?, short(buf)?, id(buf)?);
    let message = match byte(buf)? {
        1 => Message::Ping(byte(buf)?),
        2 => Message::Ack(byte(buf)?),
        3 => Message::PingReq {
            target: id(buf)?,
            probe_number: byte(buf)?,
        },
        4 => Message::IndirectPing {
            origin: id(buf)?,
            probe_number: byte(buf)?,
        },
        5 => Message::IndirectAck {
            target: id(buf)?,
            probe_number: byte(buf)?,
        },
        6 => Message::ForwardedAck {
            origin: id(buf)?,
            probe_number: byte(buf)?,
        },
        7 => Message::Announce,
        8 => Message::Feed,
        9 => Message::Gossip,
        10 => Message::TurnUndead,
        _ => return Err(Bad::Content),
    };
    Ok(Header {
        src,
        src_incarnation,
        dst,
        message,
    })
}

fn put_varint(v: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        v.push(n as u8 | 0x80);
        n >>= 7;
    }
    v.push(n as u8);
}

fn put_id(v: &mut Vec<u8>, id: &Id) {
    put_varint(v, id.host);
    put_varint(v, id.epoch);
    let address = id.address();
    match address.ip() {
        IpAddr::V4(ip) => {
            v.push(4);
            v.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            v.push(6);
            v.extend_from_slice(&ip.octets());
        }
    }
    v.extend_from_slice(&address.port().to_be_bytes());
}

fn put_member(v: &mut Vec<u8>, m: &Member<Id>) {
    put_id(v, m.id());
    v.extend_from_slice(&m.incarnation().to_be_bytes());
    v.push(match m.state() {
        State::Alive => 0,
        State::Suspect => 1,
        State::Down => 2,
    });
}

fn put_header(v: &mut Vec<u8>, h: &Header<Id>) -> Result<(), Bad> {
    v.push(VERSION);
    put_id(v, &h.src);
    v.extend_from_slice(&h.src_incarnation.to_be_bytes());
    put_id(v, &h.dst);
    let (kind, who, number) = match &h.message {
        Message::Ping(n) => (1, None, Some(*n)),
        Message::Ack(n) => (2, None, Some(*n)),
        Message::PingReq { target, probe_number } => (3, Some(target), Some(*probe_number)),
        Message::IndirectPing { origin, probe_number } => (4, Some(origin), Some(*probe_number)),
        Message::IndirectAck { target, probe_number } => (5, Some(target), Some(*probe_number)),
        Message::ForwardedAck { origin, probe_number } => (6, Some(origin), Some(*probe_number)),
        Message::Announce => (7, None, None),
        Message::Feed => (8, None, None),
        Message::Gossip => (9, None, None),
        Message::TurnUndead => (10, None, None),
        // There are no custom broadcasts.
        Message::Broadcast => return Err(Bad::Content),
    };
    v.push(kind);
    if let Some(id) = who {
        put_id(v, id);
    }
    v.extend(number);
    Ok(())
}

fn put(buf: &mut impl BufMut, v: &[u8]) -> Result<(), Bad> {
    if buf.remaining_mut() < v.len() {
        return Err(Bad::Room);
    }
    buf.put_slice(v);
    Ok(())
}

impl foca::Codec<Id> for Codec {
    type Error = Bad;

    fn encode_header(&mut self, h: &Header<Id>, mut buf: impl BufMut) -> Result<(), Bad> {
        let mut v = Vec::with_capacity(64);
        put_header(&mut v, h)?;
        put(&mut buf, &v)
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Id>, Bad> {
        header(&mut buf)
    }

    fn encode_member(&mut self, m: &Member<Id>, mut buf: impl BufMut) -> Result<(), Bad> {
        let mut v = Vec::with_capacity(32);
        put_member(&mut v, m);
        put(&mut buf, &v)?;
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        applied.push(Change {
            id: *m.id(),
            verdict: verdict(m.state()),
        });
        Ok(())
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Id>, Bad> {
        member(&mut buf)
    }
}

/// A packet taken apart.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Packet {
    pub header: Header<Id>,
    /// `None`: it has no list of members, not even an empty one.
    pub members: Option<Vec<Member<Id>>>,
}

impl Packet {
    /// Reads a whole packet. What follows the members is a newer version's, and left out.
    pub(super) fn read(mut data: &[u8]) -> Result<Self, Bad> {
        let header = header(&mut data)?;
        let members = if data.is_empty() {
            None
        } else {
            // Grows as they come, not as they are announced.
            let mut all = Vec::new();
            for _ in 0..short(&mut data)? {
                all.push(member(&mut data)?);
            }
            Some(all)
        };
        Ok(Self { header, members })
    }

    /// The packet's bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut v = Vec::with_capacity(256);
        // A packet that was read or built here has no broadcast.
        let _ = put_header(&mut v, &self.header);
        if let Some(all) = &self.members {
            v.extend_from_slice(&u16::try_from(all.len()).unwrap_or(u16::MAX).to_be_bytes());
            for m in all.iter().take(usize::from(u16::MAX)) {
                put_member(&mut v, m);
            }
        }
        v
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rng::Rng;

    fn ids() -> [Id; 3] {
        [
            Id::new(1, 2, "10.0.0.1:7838".parse().unwrap()),
            Id::new(u64::MAX, u64::MAX, "[2001:db8::1]:1".parse().unwrap()),
            Id::new(300, 3_500_000_000_000, "192.0.2.255:65535".parse().unwrap()),
        ]
    }

    fn packets() -> Vec<Packet> {
        let [a, b, c] = ids();
        let messages = [
            Message::Ping(1),
            Message::Ack(255),
            Message::PingReq {
                target: c,
                probe_number: 7,
            },
            Message::IndirectPing {
                origin: c,
                probe_number: 7,
            },
            Message::IndirectAck {
                target: b,
                probe_number: 7,
            },
            Message::ForwardedAck {
                origin: a,
                probe_number: 7,
            },
            Message::Announce,
            Message::Feed,
            Message::Gossip,
            Message::TurnUndead,
        ];
        let members = vec![
            Member::new(a, 0, State::Alive),
            Member::new(b, 9, State::Suspect),
            Member::new(c, u16::MAX, State::Down),
        ];
        messages
            .into_iter()
            .enumerate()
            .map(|(i, message)| Packet {
                header: Header {
                    src: a,
                    src_incarnation: 5,
                    dst: b,
                    message,
                },
                members: (i % 2 == 0).then(|| members.clone()),
            })
            .collect()
    }

    #[test]
    fn comes_back_as_it_went() {
        for p in packets() {
            let bytes = p.bytes();
            assert_eq!(Packet::read(&bytes), Ok(p.clone()));
            let mut newer = bytes.clone();
            newer[0] = VERSION + 1;
            assert_eq!(Packet::read(&newer), Err(Bad::Content));
            for n in 0..bytes.len() {
                // Cut short: an error, or the packet without its members.
                if let Ok(short) = Packet::read(&bytes[..n]) {
                    assert!(short.members.is_none());
                }
            }
        }
    }

    #[test]
    fn an_ipv4_host_takes_little_room() {
        let mut v = Vec::new();
        put_member(&mut v, &Member::new(ids()[2], 0, State::Alive));
        assert!(v.len() <= 20, "{}", v.len());
    }

    #[test]
    fn foreign_bytes_are_refused() {
        let mut rng = Rng::new(11);
        for p in packets() {
            let good = p.bytes();
            for _ in 0..2000 {
                let mut bad = good.clone();
                for _ in 0..=rng.below(4) {
                    let i = rng.below(bad.len());
                    bad[i] = rng.next() as u8;
                }
                bad.truncate(1 + rng.below(bad.len()));
                if let Ok(p) = Packet::read(&bad) {
                    assert_eq!(Packet::read(&p.bytes()), Ok(p));
                }
            }
        }
    }
}
