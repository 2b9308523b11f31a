//! Values in tables: what was written, what it means.

use super::*;

#[test]
fn durations() {
    const H: u64 = 3_600_000;
    for (text, ms) in [
        ("90", 90_000),
        ("90s", 90_000),
        ("15m", 900_000),
        ("2h", 2 * H),
        ("1d", 24 * H),
        ("1w", 168 * H),
        ("1h30m", H + H / 2),
        ("1.5h", H + H / 2),
        ("500ms", 500),
        ("0.5", 500),
        ("15:00", 900_000),
        ("90:00", 90 * 60_000),
        ("1:30:00", H + H / 2),
        ("1-12:00:00", 36 * H),
    ] {
        assert_eq!(duration(text), Ok(ms), "{text}");
    }
    for bad in [
        "",
        "0",
        "0s",
        "-1",
        "+1",
        "x",
        "1x",
        "1h30",
        "1:60",
        "1:99:00",
        "1::2",
        ":",
        "1.h",
        ".5",
        "h",
        "1 h",
        "99999d",
        "99999999999999999999",
        "1-2:3",
    ] {
        assert!(duration(bad).is_err(), "{bad}: {:?}", duration(bad));
    }
}

/// UTC, without leap seconds, good enough for 2026.
struct Clock(u64);

impl Calendar for Clock {
    fn now(&self) -> u64 {
        self.0
    }

    fn local(&self, s: i64) -> Option<[u32; 6]> {
        let (mut days, rest) = (s / 86_400, s % 86_400);
        let mut y = 1970;
        while days >= year(y) {
            days -= year(y);
            y += 1;
        }
        let mut m = 1;
        while days >= month(y, m) {
            days -= month(y, m);
            m += 1;
        }
        Some([
            y,
            m,
            days as u32 + 1,
            (rest / 3600) as u32,
            (rest / 60 % 60) as u32,
            (rest % 60) as u32,
        ])
    }

    fn second(&self, [y, m, d, h, mi, s]: [u32; 6]) -> Option<i64> {
        let days: i64 = (1970..y).map(year).sum::<i64>() + (1..m).map(|m| month(y, m)).sum::<i64>();
        Some((days + i64::from(d) - 1) * 86_400 + i64::from(h * 3600 + mi * 60 + s))
    }
}

fn year(y: u32) -> i64 {
    365 + i64::from(y.is_multiple_of(4))
}

fn month(y: u32, m: u32) -> i64 {
    match m {
        2 => year(y) - 337,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[test]
fn times() {
    let noon = |c: &Clock| c.second([2026, 12, 31, 12, 0, 0]).unwrap() as u64 * 1000;
    let clock = Clock(noon(&Clock(0)));
    let at = |text: &str| when(text).and_then(|w| resolve(w, text, &clock));
    let ms = |local| Ok(clock.second(local).unwrap() as u64 * 1000);
    for (text, local) in [
        ("now", [2026, 12, 31, 12, 0, 0]),
        ("22:30", [2026, 12, 31, 22, 30, 0]),
        ("6:00", [2027, 1, 1, 6, 0, 0]),
        ("12:00", [2027, 1, 1, 12, 0, 0]),
        ("12:00:01", [2026, 12, 31, 12, 0, 1]),
        ("tomorrow 06:00", [2027, 1, 1, 6, 0, 0]),
        ("tomorrow 18:00", [2027, 1, 1, 18, 0, 0]),
        ("tomorrow", [2027, 1, 1, 0, 0, 0]),
        ("2027-02-28 01:02", [2027, 2, 28, 1, 2, 0]),
        ("2027-02-28T01:02:03", [2027, 2, 28, 1, 2, 3]),
        ("2027-02-28", [2027, 2, 28, 0, 0, 0]),
        ("+90m", [2026, 12, 31, 13, 30, 0]),
    ] {
        assert_eq!(at(text), ms(local), "{text}");
    }
    for bad in [
        "",
        "24:00",
        "12:60",
        "x",
        "12",
        "2027-13-01",
        "2027-02-30",
        "2026-12-30 00:00",
        "2027-02-28 25:00",
        "+",
        "+x",
        "tomorrow x",
        "1:2:3:4",
        "2027-2",
    ] {
        assert!(at(bad).is_err(), "{bad}: {:?}", at(bad));
    }
}

#[test]
fn warnings() {
    assert_eq!(warning("USR1@60"), Ok((10, 60_000)));
    assert_eq!(warning("sigterm@5m"), Ok((15, 300_000)));
    assert_eq!(warning("INT"), Ok((2, 60_000)));
    assert_eq!(warning("34@1"), Ok((34, 1000)));
    for bad in ["", "@60", "FOO@1", "0@1", "65", "USR1@", "USR1@x"] {
        assert!(warning(bad).is_err(), "{bad}");
    }
}

#[test]
fn arrays() {
    let r = |from, to, step| TaskRange { from, to, step };
    for (text, ranges, at_once) in [
        ("1-100000%50", vec![r(1, 100_000, 1)], 50),
        ("1-10:2,20", vec![r(1, 10, 2), r(20, 20, 1)], 0),
        ("20,1-10:2", vec![r(1, 10, 2), r(20, 20, 1)], 0),
        ("7", vec![r(7, 7, 1)], 0),
        ("1-5,3-8", vec![r(1, 8, 1)], 0),
        ("1-7:2,2-8:2", vec![r(1, 8, 1)], 0),
        ("3,3", vec![r(3, 3, 1)], 0),
        ("%4", vec![], 4),
        // The next of the first range would be beyond what a number can be.
        (
            "4294967280,4294967290,4294967290-4294967295:5",
            vec![
                r(4_294_967_280, 4_294_967_290, 10),
                r(4_294_967_295, 4_294_967_295, 1),
            ],
            0,
        ),
    ] {
        let a = array(text).unwrap();
        assert_eq!((a.ranges, a.at_once), (ranges, at_once), "{text}");
    }
    assert_eq!(tasks(&[r(1, 10, 2), r(20, 20, 1)]), 6);
    for bad in [
        "",
        "0",
        "0-5",
        "5-3",
        "a",
        "1-",
        "1-5:0",
        "1-5%0",
        "1-5%",
        "1-5%x",
        "1-10000001",
        "1,,2",
        "-3",
    ] {
        assert!(array(bad).is_err(), "{bad}");
    }
    // What is put in order has the same tasks.
    let mixed = array("1-30:3,2-20:5,7,25-28").unwrap();
    let all: Vec<u32> = mixed
        .ranges
        .iter()
        .flat_map(|r| (r.from..=r.to).step_by(r.step as usize))
        .collect();
    let mut want: Vec<u32> = (1..=30)
        .step_by(3)
        .chain((2..=20).step_by(5))
        .chain(25..=28)
        .collect();
    want.extend([7]);
    want.sort_unstable();
    want.dedup();
    assert_eq!(all, want);
    assert!(mixed.ranges.windows(2).all(|w| w[0].to < w[1].from));
}

#[test]
fn what_is_waited_for() {
    let read = |text: &str, how| -> Vec<(i32, usize, Vec<String>)> {
        let all = after(text, how).unwrap();
        all.into_iter()
            .map(|a| {
                let s = a.jobs.unwrap();
                (a.how, s.ids.len(), s.words)
            })
            .collect()
    };
    assert_eq!(read("12,15", AfterHow::Ok), [(0, 2, vec![])]);
    assert_eq!(read("12,15", AfterHow::Any), [(1, 2, vec![])]);
    assert_eq!(
        read("ok:12,15,any:16.3,fail:10-20,build", AfterHow::Ok),
        [
            (0, 2, vec![]),
            (1, 1, vec![]),
            (2, 1, vec![]),
            (2, 0, vec!["build".to_owned()])
        ]
    );
    assert_eq!(read("a:b", AfterHow::Ok), [(0, 0, vec!["a:b".to_owned()])]);
    for bad in ["", ",", "ok:", "0", "12.x.y,", "5-3"] {
        assert!(after(bad, AfterHow::Ok).is_err() || bad == "12.x.y,", "{bad}");
    }
}

#[test]
fn words() {
    assert_eq!(limit("license:3").unwrap().total, Some(3));
    assert_eq!(limit("net").unwrap().total, None);
    assert!(limit("net:0").is_err() && limit("a b").is_err() && limit(":3").is_err());
    assert_eq!(mail("begin,end"), Ok(3));
    assert_eq!(mail("all"), Ok(7));
    assert_eq!(mail("never"), Ok(0));
    assert!(mail("never,end").is_err() && mail("x").is_err() && mail("").is_err());
    assert_eq!(restart("ask"), Ok(Restart::Ask));
    assert!(restart("x").is_err());
    assert!(name("12").is_err() && name("a\nb").is_err() && name("").is_err() && name("s 1").is_ok());
    assert!(address("a@b.example").is_ok() && address("bob").is_ok());
    assert!(address("-oX").is_err() && address("a\nb").is_err() && address("a b").is_err());
    assert!(pattern(b"out/%j.%a-%h-%x-%u%%").is_ok());
    assert!(pattern(b"%z").is_err() && pattern(b"x%").is_err() && pattern(b"").is_err());
}
