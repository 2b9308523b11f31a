//! Sizes as people write and read them: `512`, `4G`, `1.5T`. K is 1024. Knows numbers; not what they measure.

/// Letters of the units, each 1024 times the one before.
const UNITS: &str = "KMGTPE";

/// Reads a size in bytes: digits, perhaps a fraction, perhaps a unit (`K M G T P E`, small letters too, also `Ki`,
/// `KB`, `KiB`, or `B` for bytes).
///
/// # Errors
/// What is wrong with it, in one line.
pub fn parse(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is no size: write for example 512M, 4G or 1.5T");
    let number = split(text).ok_or_else(bad)?;
    if number.unit.is_none() && !number.fraction.is_empty() {
        return Err(format!(
            "{text:?} is a part of a byte: say which unit, for example {text}G"
        ));
    }
    number.bytes().ok_or_else(|| format!("{text:?} is too large"))
}

/// Bytes for people: `3.9G`.
pub fn show(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "K", "M", "G", "T", "P"] {
        // What rounds to 10.0 has two digits already.
        if value < 999.5 || unit == "P" {
            return if value < 9.95 && unit != "B" {
                format!("{value:.1}{unit}")
            } else {
                format!("{value:.0}{unit}")
            };
        }
        value /= 1024.0;
    }
    String::new()
}

/// Bytes for somebody who asks for no more than there are: never rounded up, `24166M` for 23.6 GiB.
pub fn at_most(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes, 0);
    while value >= 102_400 && unit < 5 {
        value /= 1024;
        unit += 1;
    }
    format!("{value}{}", ["B", "K", "M", "G", "T", "P"][unit])
}

/// A number with a unit, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quantity<'a> {
    whole: &'a str,
    fraction: &'a str,
    /// Power of two of the unit; `None`: there is none.
    unit: Option<u32>,
}

impl Quantity<'_> {
    /// The value, without what is smaller than 1.
    fn bytes(&self) -> Option<u64> {
        let shift = self.unit.unwrap_or(0);
        let whole = self.whole.parse::<u64>().ok()?.checked_mul(1 << shift)?;
        // Nine digits are exact enough: a unit has ten at least, but nobody writes so many.
        let digits = &self.fraction[..self.fraction.len().min(9)];
        let part = match digits {
            "" => 0,
            d => (d.parse::<u128>().ok()? << shift) / 10_u128.pow(d.len() as u32),
        };
        whole.checked_add(u64::try_from(part).ok()?)
    }

    /// The value, with its fraction.
    pub(crate) fn value(&self) -> f64 {
        let number = format!("{}.{}", self.whole, self.fraction);
        number.parse::<f64>().unwrap_or(f64::INFINITY) * (1_u64 << self.unit.unwrap_or(0)) as f64
    }

    /// Whether it has a unit.
    pub(crate) fn has_unit(&self) -> bool {
        self.unit.is_some()
    }

    /// Whether it has a fraction.
    pub(crate) fn has_fraction(&self) -> bool {
        !self.fraction.is_empty()
    }
}

/// Takes a number with a unit apart; `None` if it is none.
pub(crate) fn split(text: &str) -> Option<Quantity<'_>> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (number, ""),
    };
    if whole.is_empty() || fraction.contains('.') {
        return None;
    }
    let mut letters = rest.chars();
    let unit = match letters.next() {
        None => None,
        Some('B' | 'b') if rest.len() == 1 => Some(0),
        Some(c) => {
            let at = UNITS.find(c.to_ascii_uppercase())?;
            if !matches!(letters.as_str(), "" | "i" | "B" | "b" | "iB" | "ib") {
                return None;
            }
            Some(10 * (at as u32 + 1))
        }
    };
    Some(Quantity {
        whole,
        fraction,
        unit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_to_ask_for_more_than_there_is() {
        for bytes in [0, 1, 1023, 99_999, 102_400, 25_340_000_000, u64::MAX] {
            let told = parse(&at_most(bytes)).unwrap();
            assert!(told <= bytes && bytes - told <= bytes / 100, "{bytes}: {told}");
        }
        assert_eq!(at_most(24 << 30), "24576M");
        assert_eq!(at_most(200 << 30), "200G");
    }

    #[test]
    fn as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("64K", 64 << 10),
            ("200M", 200 << 20),
            ("4G", 4 << 30),
            ("4g", 4 << 30),
            ("4GB", 4 << 30),
            ("4GiB", 4 << 30),
            ("4Gi", 4 << 30),
            ("1.5T", 3 << 39),
            ("0.5k", 512),
            ("2P", 2 << 50),
            ("15E", 15 << 60),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_said() {
        for text in [
            "", "G", "4X", "-1G", "4 G", "1.G", ".5G", "1.2.3G", "4GG", "4Bi", "x", "1e3", "16Ei!",
        ] {
            let e = parse(text).unwrap_err();
            assert!(e.contains("1.5T") && !e.contains('\n'), "{e}");
        }
        assert!(parse("1.5").unwrap_err().contains("1.5G"));
        for text in ["16E", "99999999999999999999", "20000P"] {
            assert!(parse(text).unwrap_err().contains("too large"), "{text}");
        }
    }

    #[test]
    fn shown_with_two_or_three_digits() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.0K"),
            (4_187_593_114, "3.9G"),
            (24 << 30, "24G"),
            (200 << 30, "200G"),
            (1000 << 30, "1.0T"),
            (3 << 29, "1.5G"),
            (u64::MAX, "16384P"),
        ] {
            assert_eq!(show(bytes), text);
        }
    }
}
