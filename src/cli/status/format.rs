//! Numbers and times as people read them.

/// `floor(position * 100 / total)`, at most 100. `None` if `total` is 0.
pub(super) fn percent(position: u64, total: u64) -> Option<u8> {
    let percent = (u128::from(position) * 100).checked_div(u128::from(total))?;
    u8::try_from(percent.min(100)).ok()
}

/// Three digits and a binary unit.
pub(super) fn bytes(bytes: u64) -> String {
    let mut unit = "B";
    let mut number = bytes as f64;
    for larger in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        // A number that would be rounded to 1000 has the next unit.
        if number < 999.5 {
            break;
        }
        number /= 1024.0;
        unit = larger;
    }
    if unit == "B" || number >= 99.95 {
        format!("{number:.0} {unit}")
    } else {
        format!("{number:.1} {unit}")
    }
}

/// The same without a space and with one letter for the unit, such as `1.5G`: binary units, as `ls -h` has them.
pub(super) fn short_bytes(number: u64) -> String {
    let spelt = bytes(number);
    let (digits, unit) = spelt.split_once(' ').unwrap_or((&spelt, ""));
    let digits = digits.strip_suffix(".0").unwrap_or(digits);
    format!("{digits}{}", unit.get(..1).unwrap_or(""))
}

/// At most `width` characters of a text. A longer text is cut in the middle.
pub(super) fn shorten(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let (head, tail) = (kept / 2, kept - kept / 2);
    let start: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(length - tail).collect();
    format!("{start}…{end}")
}

/// Hours, minutes and seconds.
pub(super) fn duration(seconds: u64) -> String {
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes}:{seconds:02}"),
        (hours, minutes) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents() {
        assert_eq!(percent(999, 1000), Some(99));
        assert_eq!(percent(u64::MAX, 1), Some(100));
        assert_eq!(percent(5, 0), None);
    }

    #[test]
    fn sizes() {
        for (number, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 KiB"),
            (1 << 30, "1.0 GiB"),
            (535_822_336, "511 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn short_sizes() {
        for (number, text) in [
            (0, "0B"),
            (1 << 30, "1G"),
            (3 << 29, "1.5G"),
            (535_822_336, "511M"),
        ] {
            assert_eq!(short_bytes(number), text);
        }
    }

    #[test]
    fn long_texts_lose_their_middle() {
        assert_eq!(shorten("/dev/sdb", 8), "/dev/sdb");
        assert_eq!(shorten("0123456789", 5), "01…89");
        assert_eq!(shorten("0123456789", 4), "0…89");
        assert_eq!(shorten("ééééé", 3), "é…é");
    }

    #[test]
    fn times() {
        assert_eq!(duration(7), "0:07");
        assert_eq!(duration(3_725), "1:02:05");
    }
}
