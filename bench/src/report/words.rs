//! Numbers as people read them.

use crate::numbers::Spread;

/// To three digits or more, with thousands apart: `0.0123`, `1.63`, `12.4`, `1,234`. A dash for what is no number.
pub(crate) fn figure(number: f64) -> String {
    if !number.is_finite() {
        return "–".to_owned();
    }
    let decimals = match number.abs() {
        0.0 => 0,
        ..0.09995 => 4,
        ..0.9995 => 3,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    let text = format!("{:.decimals$}", number.abs());
    let (digits, decimals) = text.split_at(text.find('.').unwrap_or(text.len()));
    let sign = if number < 0.0 { "−" } else { "" };
    format!("{sign}{}{decimals}", apart(digits))
}

/// A mark on an axis whose marks are `step` apart: no more digits than that takes, and six characters or so at most.
pub(crate) fn mark(number: f64, step: f64) -> String {
    let (scale, unit) = match number.abs() {
        0.0 => (1.0, ""),
        ..1e-4 => return format!("{number:.0e}"),
        ..1e5 => (1.0, ""),
        ..1e6 => (1e3, "k"),
        ..1e9 => (1e6, "M"),
        _ => return format!("{number:.0e}"),
    };
    let decimals = (-(step / scale).log10().floor()).clamp(0.0, 4.0) as usize;
    let text = format!("{:.decimals$}", number.abs() / scale);
    let (digits, decimals) = text.split_at(text.find('.').unwrap_or(text.len()));
    let sign = if number < 0.0 { "−" } else { "" };
    format!("{sign}{}{decimals}{unit}", apart(digits))
}

/// With thousands apart.
pub(crate) fn whole(number: u64) -> String {
    apart(&number.to_string())
}

/// `1.63×`
pub(crate) fn times(ratio: f64) -> String {
    format!("{}×", figure(ratio))
}

/// The least and the most: `1.5–1.8`.
pub(crate) fn range(spread: Spread) -> String {
    format!("{}–{}", figure(spread.min), figure(spread.max))
}

/// `144 B`, `61.2 KB` (1 KB is 1,000 bytes).
pub(crate) fn bytes(number: usize) -> String {
    match number {
        ..1_000 => format!("{number} B"),
        _ => format!("{} KB", figure(number as f64 / 1e3)),
    }
}

/// Of microseconds: `870 µs`, `12.4 ms`, `1.63 s`.
pub(crate) fn time(us: f64) -> String {
    match us.abs() {
        ..1e3 => format!("{} µs", figure(us)),
        ..1e6 => format!("{} ms", figure(us / 1e3)),
        _ => format!("{} s", figure(us / 1e6)),
    }
}

/// `41 %`
pub(crate) fn percent(share: f64) -> String {
    format!("{} %", figure((share * 1e3).round() / 10.0))
}

fn apart(digits: &str) -> String {
    let mut apart = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            apart.push(',');
        }
        apart.push(digit);
    }
    apart
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_has_three_digits_or_more() {
        let figures = [(0.0, "0"), (0.01234, "0.0123"), (0.9996, "1.00"), (1.634, "1.63"), (12.41, "12.4")];
        for (number, text) in figures.into_iter().chain([(99.96, "100"), (1_234_567.8, "1,234,568")]) {
            assert_eq!(figure(number), text);
        }
        assert_eq!(figure(-5.0), "−5.00");
        assert_eq!(figure(f64::NAN), "–");
    }

    #[test]
    fn a_mark_is_short() {
        for (number, step, text) in [
            (0.5, 0.5, "0.5"),
            (2.0, 2.0, "2"),
            (0.25, 0.05, "0.25"),
            (10_000.0, 10_000.0, "10,000"),
            (200_000.0, 1e5, "200k"),
            (1_500_000.0, 5e5, "1.5M"),
            (-5e6, 1e6, "−5M"),
            (1e12, 1e12, "1e12"),
        ] {
            assert_eq!(mark(number, step), text);
        }
        assert_eq!(mark(0.0, 0.2), "0.0");
    }

    #[test]
    fn units_follow_the_size() {
        assert_eq!(
            ["870 µs", "12.4 ms", "1.63 s"],
            [870.0, 12_400.0, 1_630_000.0].map(time).each_ref().map(|t| &t[..])
        );
        assert_eq!((bytes(144), bytes(61_231)), ("144 B".to_owned(), "61.2 KB".to_owned()));
        assert_eq!(percent(0.9), "90.0 %");
    }
}
