//! What comes from this host: files that people and programs wrote, and what programs say to a terminal or a display.

use queue_exec::attempts::{Attempt, Head, Line, Record, frame};
use queue_exec::protocol::JobKey;

type Seed = (&'static str, &'static str, Vec<u8>);

/// Of all kinds.
pub(super) fn all() -> Vec<Seed> {
    let mut all = vec![
        (
            "class",
            "all",
            b"priority = -5\nretries = 3\nrestart = 'restart'\nlease = '1h'\ntime = 90\nmail = ['begin', 'fail']\n\
              max-running = 4\ncores = 8\nmem = '16G'\ngpus = 1\ndisk = '1T'\nrequires = 'arch==x86_64'\n"
                .to_vec(),
        ),
        ("class", "one", b"# Short ones.\nmail = \"never\"\npriority = 1000000\n".to_vec()),
        ("class", "lowest", b"priority = -2147483648\n".to_vec()),
        ("class", "names", b"big.toml\nclasses/a-b_c.1.toml\n".to_vec()),
        ("x11", "setup", setup(b'l', &[9; 16])),
        ("x11", "setup-big", setup(b'B', &[9; 16])),
        ("x11", "setup-wrong", setup(b'l', &[8; 16])),
        ("x11", "cookies", cookies()),
        (
            "x11",
            "displays",
            b":0\nunix:10.1\nlocalhost:10.0\n[::1]:0\n192.0.2.7:3.2\n/tmp/launch-x/org.xquartz:0\nbox:1\n\
              192.0.2.9 box box.example # hosts(5)\n"
                .to_vec(),
        ),
    ];
    for (name, text) in [
        ("prompt", &b"$ ls\r\na  b\r\n\x1b[1;32muser\x1b[m$ "[..]),
        (
            "editor",
            b"$ vim\r\n\x1b[?1049h\x1b[?1h\x1b=\x1b[?2004h\x1b[?1002h\x1b[>4;2m\x1b[1;23r\x1b[H~\r\n\x1b[24;1H-- INSERT --\
              \x1b[2;5Htext\x1b]2;file - VIM\x07\x1b[?25h",
        ),
        ("region", b"head\r\n\x1b[5;10r\x1b[?6h\x1b[2;3Hin it\x1b[7;3Hbelow"),
        ("wide", "漢字 é e\u{301} 😀\r\n→".as_bytes()),
        ("lines", b"\x1b(0lqqk\r\nx  x\x1b(B ok \x1b)0\x0eqq\x0f"),
        ("keys", b"\x1b[>1u\x1b[>5u\x1b[<u\x1b[?1004h\x1b[?7l\x1b[4h"),
    ] {
        all.push(("screen", name, [&[24, 80, 10, 30][..], text].concat()));
    }
    all.extend(journal());
    all
}

/// The first request of a connection: order, version, lengths, name, cookie.
fn setup(order: u8, cookie: &[u8]) -> Vec<u8> {
    let mut v = vec![order, 0];
    for n in [11, 0, 18, cookie.len() as u16, 0] {
        v.extend(if order == b'B' {
            n.to_be_bytes()
        } else {
            n.to_le_bytes()
        });
    }
    v.extend_from_slice(b"MIT-MAGIC-COOKIE-1\0\0");
    v.extend_from_slice(cookie);
    v
}

/// A file of cookies with two entries.
fn cookies() -> Vec<u8> {
    let mut v = Vec::new();
    for (family, address, display) in [(0_u16, &[192, 0, 2, 7][..], &b"3"[..]), (256, b"h1", b"0")] {
        v.extend(family.to_be_bytes());
        for field in [address, display, b"MIT-MAGIC-COOKIE-1", &[7; 16]] {
            v.extend((field.len() as u16).to_be_bytes());
            v.extend_from_slice(field);
        }
    }
    v
}

/// A journal with one record of each kind, and each of them without what protects it.
fn journal() -> Vec<Seed> {
    let key = JobKey {
        job: 12,
        task: 3,
        attempt: 2,
    };
    let attempt = Attempt {
        login: "alice".into(),
        process: (4711, 99),
        since: 1_800_000_000_000,
        note: vec![1, 2],
        ..Attempt::default()
    };
    let records = [
        ("handed", Record::Handed(key, attempt)),
        ("started", Record::Started(key, b"runs".to_vec())),
        ("ended", Record::Ended(key, b"done".to_vec())),
        ("forgotten", Record::Forgotten(vec![key, key])),
        ("retracted", Record::Retracted(key)),
        (
            "first",
            Record::Seen(Line::First {
                chunk: (12, 1),
                bits: 0b1011,
                hour: 500_000,
            }),
        ),
        ("later", Record::Seen(Line::Later { key, hour: 500_000 })),
    ];
    let mut whole = Head {
        life: [4; 16],
        boot: "6b4f0c9e-boot".into(),
    }
    .write();
    let mut all = Vec::new();
    for (name, record) in records {
        let bytes = frame(&record);
        whole.extend_from_slice(&bytes);
        all.push(("journal", name, bytes[8..].to_vec()));
    }
    all.push(("journal", "journal", whole));
    all
}
