//! Numbers for people: ages, times, figures. Pure. (Sizes are [`libqueue::size`]'s.)

/// How long ago, with the two largest units at most: `45s`, `12m`, `3h05m`, `2d07h`.
pub fn age(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..=119 => format!("{s}s"),
        120..=3599 => format!("{}m", s / 60),
        3600..=86_399 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3600 % 24),
    }
}

/// CPU time as ps(1) has it, with tenths while it is short: `0:04.2`, `12:07`, `3:20:00`.
pub fn cpu_time(ms: u64) -> String {
    let s = ms / 1000;
    let (h, m) = (s / 3600, s / 60 % 60);
    if h > 0 {
        format!("{h}:{m:02}:{:02}", s % 60)
    } else if m >= 10 {
        format!("{m}:{:02}", s % 60)
    } else {
        format!("{m}:{:02}.{}", s % 60, ms / 100 % 10)
    }
}

/// A number with as many digits as help: `0.25`, `12.3`, `140`.
pub fn number(value: f64) -> String {
    match value {
        v if !v.is_finite() => "-".to_owned(),
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

/// A moment in UTC, from milliseconds since the epoch: `2026-11-22 04:19:26 UTC`.
pub fn moment(ms: u64) -> String {
    let (days, s) = (ms / 86_400_000, ms / 1000 % 86_400);
    // Years that begin in March have their leap day at the end; eras of 400 years are all alike.
    let z = days + 719_468;
    let (era, day) = (z / 146_097, z % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, march) = (day - (153 * month + 2) / 5 + 1, month < 10);
    let (month, year) = if march {
        (month + 3, year)
    } else {
        (month - 9, year + 1)
    };
    format!(
        "{:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        year + era * 400,
        s / 3600,
        s / 60 % 60,
        s % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (ms, text) in [
            (0, "0s"),
            (119_999, "119s"),
            (120_000, "2m"),
            (3_600_000, "1h00m"),
            (90_000_000, "1d01h"),
        ] {
            assert_eq!(age(ms), text);
        }
        for (ms, text) in [
            (0, "0:00.0"),
            (4_250, "0:04.2"),
            (727_000, "12:07"),
            (12_000_000, "3:20:00"),
        ] {
            assert_eq!(cpu_time(ms), text);
        }
        for (ms, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_825_600_000, "2000-02-29 12:00:00 UTC"),
            (1_795_321_166_000, "2026-11-22 04:19:26 UTC"),
            (4_107_542_399_000, "2100-02-28 23:59:59 UTC"),
        ] {
            assert_eq!(moment(ms), text);
        }
    }

    #[test]
    fn numbers() {
        for (value, text) in [(0.254, "0.25"), (9.999, "10.0"), (140.2, "140"), (f64::NAN, "-")] {
            assert_eq!(number(value), text);
        }
    }
}
