//! Numbers as people read them, for the terminal and the status page.

/// Bytes in the largest unit that leaves something before the point.
#[allow(clippy::cast_precision_loss, reason = "a number for people")]
pub fn bytes(count: u64) -> String {
    rate(count as f64)
}

/// As [`bytes()`], for what is no whole number.
pub fn rate(mut value: f64) -> String {
    if value < 1024.0 {
        return format!("{value:.0} B");
    }
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_readable() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (9 << 20, "9.0 MiB"),
            (3 << 39, "1.5 TiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
