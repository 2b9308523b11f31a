use super::paint::Whom;
use super::*;

/// A terminal that gets everything.
fn terminal(rows: u16, cols: u16) -> Parser<Modes> {
    let n = |v| NonZeroU16::new(v).unwrap();
    Parser::new_with_callbacks(n(rows), n(cols), SCROLLBACK, Modes::default())
}

fn assert_same(what: &str, a: &Parser<Modes>, b: &Parser<Modes>) {
    let (x, y) = (a.screen(), b.screen());
    assert_eq!(x.contents(), y.contents(), "{what}");
    assert_eq!(x.contents_formatted(), y.contents_formatted(), "{what}");
    assert_eq!(x.cursor_position(), y.cursor_position(), "{what}");
    assert_eq!(x.input_mode_formatted(), y.input_mode_formatted(), "{what}");
    assert_eq!(x.attributes_formatted(), y.attributes_formatted(), "{what}");
    assert_eq!(x.alternate_screen(), y.alternate_screen(), "{what}");
    assert_eq!(a.callbacks().enter(true), b.callbacks().enter(true), "{what}");
}

/// What each kind of program leaves on a terminal.
const SCENES: [(&str, &str); 12] = [
    ("nothing", ""),
    ("a prompt", "$ ls\r\na  b\r\n\x1b[1;32muser\x1b[m$ "),
    (
        "colours that go on",
        "\x1b[38;5;208mwarm \x1b[48;2;1;2;3mdeep \x1b[7m",
    ),
    (
        "an editor",
        "$ vim\r\n\x1b[?1049h\x1b[?1h\x1b=\x1b[?2004h\x1b[?1002h\x1b[?1006h\x1b[>4;2m\x1b[2 q\x1b[?25l\
         \x1b[1;23r\x1b[H~\r\n~\r\n~\x1b[24;1H-- INSERT --\x1b[2;5Htext\x1b]2;file - VIM\x07\x1b[?25h",
    ),
    (
        "a pager",
        "$ less x\r\n\x1b[?1049h\x1b[?1h\x1b=line 1\r\nline 2\r\n\x1b[7m(END)\x1b[27m\x1b[K",
    ),
    ("a region", "head\r\n\x1b[5;10r\x1b[7;3Hin it"),
    ("a region with its own origin", "\x1b[5;10r\x1b[?6h\x1b[2;3Hin it"),
    ("wide characters", "漢字 é e\u{301} 😀\r\n→"),
    (
        "a full line",
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901",
    ),
    (
        "a full line, and the cursor behind it",
        "01234567890123456789012345678901234567890123456789012345678901234567890123456789",
    ),
    ("lines", "\x1b(0lqqk\r\nx  x\x1b(B ok"),
    ("keys", "\x1b[>1u\x1b[>5u\x1b[<u\x1b[?1004h\x1b[?7l\x1b[4h"),
];

/// What is on a newcomer's screen.
const BEFORE: &[u8] = b"$ make\r\ndone\r\n$ queue attach s1\r\n";

#[test]
fn a_newcomer_sees_the_same() {
    for (what, scene) in SCENES {
        for whom in [Whom::Newcomer, Whom::Same] {
            let mut s = Screen::new(24, 80);
            s.feed(scene.as_bytes());
            let mut theirs = terminal(24, 80);
            if whom == Whom::Newcomer {
                theirs.process(BEFORE);
            } else {
                // It saw everything, and then something else.
                theirs.process(&Lines::default().translate(scene.as_bytes().to_vec()));
                theirs.process(b"garbage \x1b[31m\x1b[7;9Hsomewhere \x1b[3");
            }
            theirs.process(&s.paint(whom));
            let mut wanted = terminal(24, 80);
            if whom == Whom::Newcomer && scene.contains("1049h") {
                // What was on the newcomer's screen stays above.
                wanted.process(BEFORE);
            }
            wanted.process(&Lines::default().translate(scene.as_bytes().to_vec()));
            assert_same(what, &wanted, &theirs);
            // And goes on the same.
            let more = "more\r\n\x1b[10;10Hthere\x1b[1;1Hfirst\x1b[24;1H\r\n\r\nlast";
            wanted.process(more.as_bytes());
            theirs.process(more.as_bytes());
            assert_same(what, &wanted, &theirs);
            s.feed(more.as_bytes());
            if whom == Whom::Newcomer {
                // The program ends, and what was there before it comes back.
                let end = b"\x1b[r\x1b[?1049l back";
                wanted.process(end);
                theirs.process(end);
                assert_same(what, &wanted, &theirs);
            }
            // Back to what is usual.
            theirs.process(&s.leave());
            let fresh = terminal(24, 80);
            let (x, y) = (fresh.screen(), theirs.screen());
            assert_eq!(x.input_mode_formatted(), y.input_mode_formatted(), "{what}");
            assert!(!y.alternate_screen() && !y.hide_cursor(), "{what}");
            assert!(theirs.callbacks().leave().is_empty(), "{what}");
        }
    }
}

/// A program that fills the screen ends on a terminal that went back to the first screen in between, or came later.
#[test]
fn the_first_screen_is_there_again() {
    for (whom, direct) in [
        (Whom::Same, false),
        (Whom::Newcomer, false),
        (Whom::Newcomer, true),
    ] {
        let first = if direct { "" } else { "a\r\nb\r\n$ vim" };
        let mut s = Screen::new(24, 80);
        s.feed(format!("{first}\x1b[?1049h\x1b[1;23r\x1b[Htext\x1b[24;1H:q").as_bytes());
        let mut theirs = terminal(24, 80);
        theirs.process(BEFORE);
        theirs.process(&s.paint(whom));
        assert_eq!(theirs.screen().contents(), s.text());
        theirs.process(b"\x1b[r\x1b[?1049l");
        let wanted = match whom {
            Whom::Same => ("$ make\ndone\n$ queue attach s1".to_owned(), (3, 0)),
            Whom::Newcomer if direct => ("$ make\ndone\n$ queue attach s1".to_owned(), (3, 0)),
            Whom::Newcomer => ("$ make\ndone\n$ queue attach s1\na\nb\n$ vim".to_owned(), (5, 5)),
        };
        let shown = theirs.screen();
        assert_eq!((shown.contents(), shown.cursor_position()), wanted, "{whom:?}");
    }
}

#[test]
fn it_may_be_cut_anywhere() {
    let scene = SCENES.map(|(_, s)| s).concat();
    for cut in 0..scene.len() {
        let (now, later) = scene.as_bytes().split_at(cut);
        let mut s = Screen::new(24, 80);
        s.feed(now);
        let mut theirs = terminal(24, 80);
        // The parser knows no special set: as if the terminal drew lines itself. And all at once: it loses what
        // follows a character that comes in two parts.
        let mut lines = Lines::default();
        theirs.process(&lines.translate([&s.paint(Whom::Newcomer)[..], later].concat()));
        let mut wanted = terminal(24, 80);
        wanted.process(&Lines::default().translate(scene.as_bytes().to_vec()));
        assert_same(
            &format!("cut after {:?}", String::from_utf8_lossy(now)),
            &wanted,
            &theirs,
        );
    }
}

/// What left the screen is there for a newcomer, and the middle of a flood costs nothing.
#[test]
fn a_flood_leaves_its_end() {
    let mut s = Screen::new(24, 80);
    let mut n = 0;
    while n < 400_000 {
        let lines: String = (n..n + 50)
            .map(|i| format!("\x1b[32mline\x1b[m {i}\r\n"))
            .collect();
        s.feed(lines.as_bytes());
        assert!(s.raw.capacity() < 3 * RAW_MAX);
        n += 50;
    }
    let mut theirs = terminal(24, 80);
    theirs.process(&s.paint(Whom::Newcomer));
    let shown = theirs.screen().contents();
    assert!(
        shown.starts_with("line 399977\n") && shown.ends_with("line 399999"),
        "{shown}"
    );
    theirs.screen_mut().set_scrollback(400);
    assert!(
        theirs
            .screen()
            .contents()
            .starts_with(&format!("line {}\n", 399_977 - 400)),
        "{}",
        theirs.screen().contents()
    );
    assert_eq!(s.text(), shown);
}

/// What is understood in time has all its lines.
#[test]
fn the_lines_above_are_kept() {
    let mut s = Screen::new(24, 80);
    for i in 0..1000 {
        s.feed(format!("{i} {}\r\n", "x".repeat(70)).as_bytes());
        while i % 300 == 299 && s.has_work() {
            s.work();
        }
    }
    let mut theirs = terminal(24, 80);
    theirs.process(&s.paint(Whom::Newcomer));
    assert!(theirs.screen().contents().starts_with("977 x"));
    theirs.screen_mut().set_scrollback(SCROLLBACK);
    assert!(
        theirs.screen().contents().starts_with("477 x"),
        "{}",
        theirs.screen().contents()
    );
}

#[test]
fn there_is_little_to_do_at_a_time() {
    let mut s = Screen::new(24, 80);
    s.feed("text".as_bytes());
    assert!(
        !s.has_work() && s.parser.is_none(),
        "nothing is made for a prompt"
    );
    s.feed("\x1b[1;1Htext \x1b[5m".repeat(3000).as_bytes());
    let mut rounds = 0;
    while s.has_work() {
        s.work();
        rounds += 1;
    }
    assert!(rounds > 2 && s.parser.is_some());
    assert!(s.text().starts_with("text"));
}

/// Whatever comes, and however the window changes, nothing fails, and little is kept.
#[test]
fn hostile_output_harms_nobody() {
    let mut seed = 3u64;
    let mut random = move |n: u64| {
        seed ^= seed >> 12;
        seed ^= seed << 25;
        seed ^= seed >> 27;
        (seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    };
    let words: [&[u8]; 30] = [
        b"\x1b[",
        b"\x1b]0;",
        b"\x1b(0",
        b"\x1b)",
        b"\x0e",
        b"\x0f",
        b"\x1bc",
        b"\x1bM",
        b"\x1b7",
        b"\x1b8",
        b"?1049h",
        b"?1049l",
        b"?6h",
        b"r",
        b";",
        b"99999999999",
        b"65535",
        b"0",
        b"H",
        b"L",
        b"M",
        b"P",
        b"@",
        b"\r\n",
        b"\x07",
        b"b",
        b"S",
        b"\x1bP",
        "漢".as_bytes(),
        "e\u{301}".as_bytes(),
    ];
    for _ in 0..300 {
        let mut s = Screen::new(random(30) as u32, random(100) as u32);
        for _ in 0..60 {
            match random(8) {
                0 => s.resize(random(70) as u32, random(300) as u32),
                1 if random(10) == 0 => s.resize(u32::MAX, random(70_000) as u32),
                2 => drop(s.paint(Whom::Newcomer)),
                3 => drop(s.paint(Whom::Same)),
                4 => drop(s.leave()),
                5 => {
                    let noise: Vec<u8> = (0..random(2000)).map(|_| random(256) as u8).collect();
                    s.feed(&noise);
                }
                _ => {
                    for _ in 0..random(60) {
                        s.feed(words[random(words.len() as u64) as usize]);
                    }
                }
            }
            while s.has_work() {
                s.work();
            }
        }
        assert!(s.raw.len() < RAW_MAX);
    }
}

#[test]
fn a_parser_that_fails_costs_only_the_screen() {
    let mut s = Screen::new(24, 80);
    s.feed(b"before");
    s.catch_up();
    s.guard(|_| panic!("on purpose"));
    assert_eq!(s.text(), "");
    s.feed(b"after");
    assert_eq!(s.text(), "after");
}
