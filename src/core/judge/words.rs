//! Numbers for people.

/// With its thousands parted.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A share: `0.52%`.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let decimals = if percent >= 10.0 { 1 } else { 2 };
    format!("{percent:.decimals$}%")
}

/// A time: `45 s`, `12 min`, `3.5 h`, `9 d`.
pub fn time(seconds: u64) -> String {
    let minutes = seconds.div_ceil(60);
    match seconds {
        0..=99 => format!("{seconds} s"),
        100..=7_199 => format!("{minutes} min"),
        7_200..=172_799 => {
            let tenths = minutes.div_ceil(6);
            format!("{}.{} h", tenths / 10, tenths % 10)
        }
        _ => format!("{} d", count(seconds.div_ceil(86_400))),
    }
}

/// What an open gate waits for.
pub(in crate::judge) fn needs(requests: u64, eta_s: Option<u64>) -> String {
    let eta = eta_s.map_or_else(String::new, |eta_s| format!(" (about {})", time(eta_s)));
    format!("waits for {} more requests of extracted{eta}", count(requests))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.005_2, 0.123_4].map(percent), ["0.52%", "12.3%"]);
        assert_eq!([45, 600, 36_000, 86_400 * 9].map(time), ["45 s", "10 min", "10.0 h", "9 d"]);
    }
}
