use super::display::At;
use super::xauthority::{Address, INTERNET, INTERNET6, LOCAL};
use super::*;
use std::ffi::OsStr;
use std::net::IpAddr;

fn parsed(name: &str) -> Result<Display, String> {
    Display::parse(OsStr::new(name), |p| p == "/tmp/l/org.xquartz:0")
}

#[test]
fn names_of_displays() {
    let unix = |p: &str| At::Unix(p.into());
    let ip = |a: &str| At::Ip(a.parse::<IpAddr>().expect("an address"));
    let named = |n: &str| At::Name(n.to_owned());
    for (name, at, number, screen) in [
        (":0", unix("/tmp/.X11-unix/X0"), 0, 0),
        (":12.3", unix("/tmp/.X11-unix/X12"), 12, 3),
        ("unix:1.0", unix("/tmp/.X11-unix/X1"), 1, 0),
        ("localhost:10.0", named("localhost"), 10, 0),
        ("desk.example.org:2", named("desk.example.org"), 2, 0),
        ("tcp/desk:2", named("desk"), 2, 0),
        ("192.0.2.7:0", ip("192.0.2.7"), 0, 0),
        ("[2001:db8::1]:0.1", ip("2001:db8::1"), 0, 1),
        ("::1:11", ip("::1"), 11, 0),
        ("/tmp/l/org.xquartz:0", unix("/tmp/l/org.xquartz:0"), 0, 0),
        ("/tmp/l/org.xquartz:0.1", unix("/tmp/l/org.xquartz:0"), 0, 1),
        ("unix:/tmp/l/org.xquartz:0", unix("/tmp/l/org.xquartz:0"), 0, 0),
    ] {
        let want = Display { at, number, screen };
        assert_eq!(parsed(name), Ok(want), "{name}");
    }
    for name in [
        "",
        "0",
        "host",
        ":",
        ":x",
        ":0.",
        ":-1",
        "decnet::0",
        ":60000",
        "host:0.0.0",
    ] {
        let e = parsed(name).expect_err(name);
        assert!(e.contains("no name of a display"), "{name}: {e}");
    }
}

#[test]
fn hosts_without_a_name_service() {
    let file = b"# all\n127.0.0.1 localhost\n192.0.2.9\tdesk.example.org Desk # mine\nbroken line\n";
    let find = |name: &str| parsed(name).and_then(|d| d.find(|| file.to_vec())).map(|d| d.at);
    assert_eq!(find("desk:0"), Ok(At::Ip("192.0.2.9".parse().expect("address"))));
    assert_eq!(
        find("localhost:0"),
        Ok(At::Ip("127.0.0.1".parse().expect("address")))
    );
    assert!(find("mine:0").expect_err("a comment").contains("mine"));
}

/// Family, address, number of the display, protocol and cookie.
type Entry<'a> = (u16, &'a [u8], &'a str, &'a str, &'a [u8]);

fn cookie_file(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for (family, address, number, name, data) in entries {
        out.extend(family.to_be_bytes());
        for f in [address, number.as_bytes(), name.as_bytes(), data] {
            out.extend((f.len() as u16).to_be_bytes());
            out.extend(f);
        }
    }
    out
}

#[test]
fn cookies_are_found_as_the_library_finds_them() {
    const MIT: &str = "MIT-MAGIC-COOKIE-1";
    let file = cookie_file(&[
        (LOCAL, b"desk", "0", "XDM-AUTHORIZATION-1", b"xdm"),
        (LOCAL, b"other", "0", MIT, b"other"),
        (LOCAL, b"desk", "0", MIT, b"desk"),
        (INTERNET, &[192, 0, 2, 9], "1", MIT, b"far"),
        (INTERNET6, &[0; 16], "1", MIT, b"six"),
        (LOCAL, b"desk", "", MIT, b"any number"),
        (65535, b"", "7", MIT, b"anywhere"),
    ]);
    let find = |name: &str| {
        let d = parsed(name).and_then(|d| d.find(|| b"192.0.2.9 far\n".to_vec()));
        let d = d.expect("a display");
        let at = d.addresses(OsStr::new("desk"));
        xauthority::find(&file, &at, d.number, setup::PROTOCOL)
            .map(|c| String::from_utf8_lossy(&c).into_owned())
    };
    assert_eq!(find(":0").as_deref(), Some("desk"));
    assert_eq!(find("localhost:0.0").as_deref(), Some("desk"));
    assert_eq!(find(":3").as_deref(), Some("any number"));
    assert_eq!(find("far:1").as_deref(), Some("far"));
    assert_eq!(find("far:0"), None);
    assert_eq!(find("far:7").as_deref(), Some("anywhere"));
    assert_eq!(find("[::]:1").as_deref(), Some("six"));
    // A file that breaks off, and one that is none.
    let at: Vec<Address> = vec![(LOCAL, b"desk".to_vec())];
    for cut in 0..file.len() {
        let _ = xauthority::find(&file[..cut], &at, 99, setup::PROTOCOL);
    }
    assert_eq!(xauthority::find(&[0xff; 300], &at, 0, setup::PROTOCOL), None);
    assert_eq!(xauthority::find(b"", &at, 0, setup::PROTOCOL), None);
}

/// A first request with this authorisation, and something behind it.
fn request(order: u8, name: &[u8], data: &[u8]) -> Vec<u8> {
    let n = |n: usize| {
        let n = n as u16;
        if order == b'B' {
            n.to_be_bytes()
        } else {
            n.to_le_bytes()
        }
    };
    let mut r = vec![order, 0];
    for v in [11, 0, name.len(), data.len(), 0] {
        r.extend(n(v));
    }
    for field in [name, data] {
        r.extend(field);
        r.resize(r.len().next_multiple_of(4), 0);
    }
    r
}

#[test]
fn the_cookie_is_checked_and_replaced() {
    let (fake, cookie) = ([1; 16], [2; 16]);
    for order in [b'B', b'l'] {
        let mut bytes = request(order, setup::PROTOCOL, &fake);
        let used = bytes.len();
        for cut in 0..used {
            assert_eq!(setup::check(&bytes[..cut], &fake, &cookie), Verdict::More);
        }
        bytes.extend(b"what follows");
        let instead = request(order, setup::PROTOCOL, &cookie);
        assert_eq!(
            setup::check(&bytes, &fake, &cookie),
            Verdict::Right { used, instead }
        );
        // A display that has no cookie is told none.
        let instead = request(order, b"", b"");
        assert_eq!(setup::check(&bytes, &fake, &[]), Verdict::Right { used, instead });
    }
}

#[test]
fn who_has_not_the_cookie_is_told_so() {
    let (fake, cookie) = ([1; 16], [2; 16]);
    let almost = [[1; 15].as_slice(), &[0]].concat();
    for order in [b'B', b'l'] {
        for (name, data) in [
            (setup::PROTOCOL, &cookie[..]),
            (setup::PROTOCOL, &almost),
            (setup::PROTOCOL, &fake[..15]),
            (setup::PROTOCOL, &[1; 17]),
            (setup::PROTOCOL, b""),
            (b"", b""),
            (b"XDM-AUTHORIZATION-1", &fake),
            (b"MIT-MAGIC-COOKIE-12", &fake),
            (&[b'x'; 300], &fake),
        ] {
            let verdict = setup::check(&request(order, name, data), &fake, &cookie);
            let Verdict::Wrong { answer, why } = verdict else {
                panic!("{verdict:?}");
            };
            // As a display says it: failed, length, version 11.0, words that follow, text.
            let words = if order == b'B' {
                u16::from_be_bytes([answer[6], answer[7]])
            } else {
                u16::from_le_bytes([answer[6], answer[7]])
            };
            assert_eq!((answer[0], usize::from(answer[1])), (0, why.len()));
            assert_eq!(answer.len(), 8 + usize::from(words) * 4);
            assert_eq!(&answer[8..8 + why.len()], why.as_bytes());
        }
    }
    let verdict = setup::check(b"GET / HTTP/1.0\r\n", &fake, &cookie);
    assert!(matches!(verdict, Verdict::Wrong { answer, .. } if answer.is_empty()));
}
