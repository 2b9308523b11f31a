//! What X11 programs, their files and their environment say.

use queue_front::forward::display::{At, Display};
use queue_front::forward::setup::{PROTOCOL, Verdict, check};
use queue_front::forward::xauthority::{INTERNET, LOCAL, find};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

/// What is written for the programs of a session.
#[path = "../../queue-exec/session/src/forward/xauthority.rs"]
mod written;

const FAKE: [u8; 16] = [9; 16];
const TRUE: [u8; 16] = [7; 16];

/// First bytes of a connection, a file of cookies, and the name of a display.
pub fn x11(data: &[u8]) {
    for cookie in [&TRUE[..], &[]] {
        setup(data, cookie);
    }
    cookies(data);
    for line in data.split(|b| *b == b'\n').take(64) {
        display(line, data);
    }
}

fn setup(data: &[u8], cookie: &[u8]) {
    let verdict = check(data, &FAKE, cookie);
    let more = [data, &[0]].concat();
    match &verdict {
        // Nobody is waited for without end.
        Verdict::More => assert!(data.len() < 12 + 256 + 256),
        Verdict::Right { used, instead } => {
            assert_eq!(check(&data[..*used], &FAKE, cookie), verdict);
            assert_eq!(check(&data[..used - 1], &FAKE, cookie), Verdict::More);
            assert_eq!(check(&more, &FAKE, cookie), verdict);
            assert!(
                data[..*used].windows(FAKE.len()).any(|w| w == FAKE),
                "it was not shown"
            );
            // A display that wants it takes it.
            let again = check(instead, cookie, cookie);
            let taken = matches!(again, Verdict::Right { used, .. } if used == instead.len());
            assert!(taken || cookie.is_empty(), "{again:?}");
        }
        Verdict::Wrong { answer, why } => {
            assert_eq!(check(&more, &FAKE, cookie), verdict);
            assert!(!why.is_empty());
            if let Some(head) = answer.first_chunk::<8>() {
                let n = [head[6], head[7]];
                let words = if data[0] == b'B' {
                    u16::from_be_bytes(n)
                } else {
                    u16::from_le_bytes(n)
                };
                assert_eq!(answer.len(), 8 + 4 * usize::from(words));
            }
        }
    }
}

fn cookies(data: &[u8]) {
    let here = [(LOCAL, b"h1".to_vec())];
    let found = find(data, &here, 0, PROTOCOL);
    for n in (0..data.len()).step_by(1 + data.len() / 64) {
        // One that breaks off is read as far as it goes.
        let part = find(&data[..n], &here, 0, PROTOCOL);
        assert!(part.is_none() || part == found);
    }
    // What is written there is found, by name and without.
    let host = &data[..data.len().min(1000)];
    let file = written::file(host, 10, "MIT-MAGIC-COOKIE-1", &FAKE);
    for here in [[(LOCAL, host.to_vec())], [(INTERNET, vec![127, 0, 0, 1])]] {
        assert_eq!(find(&file, &here, 10, PROTOCOL).as_deref(), Some(&FAKE[..]));
        assert_eq!(find(&file, &here, 11, PROTOCOL), None);
    }
}

fn display(name: &[u8], hosts: &[u8]) {
    let name = OsStr::from_bytes(name);
    for exists in [true, false] {
        let Ok(d) = Display::parse(name, |_| exists) else {
            continue;
        };
        assert!(d.number <= 59_535, "it has a port");
        if let Ok(found) = d.clone().find(|| hosts.to_vec()) {
            assert!(!matches!(found.at, At::Name(_)));
            assert!(!found.addresses(OsStr::new("h1")).is_empty());
            assert_eq!((found.number, found.screen), (d.number, d.screen));
        }
        if let At::Ip(ip) = d.at {
            let host = if ip.is_ipv6() {
                format!("[{ip}]")
            } else {
                ip.to_string()
            };
            let again = Display::parse(format!("{host}:{}.{}", d.number, d.screen).as_ref(), |_| exists);
            assert_eq!(again, Ok(d));
        }
    }
}
