//! Points and spans of time as text. Nanoseconds are those of a signed number of 64 bits, since 1970.

use regorus::Value;
use time::{Date, Duration, Month, OffsetDateTime, PrimitiveDateTime, Time};

use super::args::{Answer, Failure, exactly, text};

/// `time.parse_rfc3339_ns`. The hour may have one digit, and a comma may stand before fractions of a second.
pub(super) fn parse_rfc3339_ns(args: &[Value]) -> Answer {
    let [value] = exactly(args)?;
    let parsed = Parser(text(value)?).rfc3339().ok_or(Failure::Error)?;
    let ns = i64::try_from(parsed.unix_timestamp_nanos()).map_err(|_| Failure::Error)?;
    Ok(Value::from(ns))
}

struct Parser<'a>(&'a str);

impl Parser<'_> {
    fn rfc3339(mut self) -> Option<OffsetDateTime> {
        let year = self.digits(4)?;
        let month = Month::try_from(u8::try_from(self.after('-')?.digits(2)?).ok()?).ok()?;
        let day = u8::try_from(self.after('-')?.digits(2)?).ok()?;
        let hour = self.after('T')?.hour()?;
        let minute = u8::try_from(self.after(':')?.digits(2)?).ok()?;
        let second = u8::try_from(self.after(':')?.digits(2)?).ok()?;
        let time = Time::from_hms_nano(hour, minute, second, self.fraction()?).ok()?;
        let date = Date::from_calendar_date(year, month, day).ok()?;
        let offset = self.offset()?;
        let is_whole = self.0.is_empty();
        is_whole.then(|| PrimitiveDateTime::new(date, time).assume_utc().checked_sub(offset))?
    }

    fn after(&mut self, c: char) -> Option<&mut Self> {
        self.0 = self.0.strip_prefix(c)?;
        Some(self)
    }

    fn digits(&mut self, count: usize) -> Option<i32> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
    }

    fn hour(&mut self) -> Option<u8> {
        let has_two = self.0.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
        u8::try_from(self.digits(if has_two { 2 } else { 1 })?).ok()
    }

    /// Nanoseconds; further digits are cut off.
    fn fraction(&mut self) -> Option<u32> {
        let Some(rest) = self.0.strip_prefix(['.', ',']) else { return Some(0) };
        let count = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, rest) = rest.split_at(count);
        self.0 = rest;
        let nine = digits.bytes().chain(std::iter::repeat(b'0')).take(9);
        (count > 0).then(|| nine.fold(0, |value, digit| value * 10 + u32::from(digit - b'0')))
    }

    fn offset(&mut self) -> Option<Duration> {
        if self.after('Z').is_some() {
            return Some(Duration::ZERO);
        }
        let sign = if self.after('+').is_some() { 1 } else { self.after('-').map(|_| -1)? };
        let hours = self.digits(2).filter(|&hours| hours <= 24)?;
        let minutes = self.after(':')?.digits(2).filter(|&minutes| minutes <= 60)?;
        Some(Duration::minutes(i64::from(sign * (hours * 60 + minutes))))
    }
}

/// `time.parse_duration_ns`: numbers with units from `ns` to `y`, after one sign or none. Days have 24 hours, years 365 days.
pub(super) fn parse_duration_ns(args: &[Value]) -> Answer {
    let [value] = exactly(args)?;
    let given = text(value)?;
    let (negative, mut rest) = match given.as_bytes().first() {
        Some(b'-') => (true, &given[1..]),
        Some(b'+') => (false, &given[1..]),
        _ => (false, given),
    };
    if rest.is_empty() {
        return Err(Failure::Error);
    }
    let mut total = 0_i128;
    // Only zero may go without a unit.
    if rest == "0" {
        return Ok(Value::from(0_u64));
    }
    while !rest.is_empty() {
        let ns = segment(&mut rest).ok_or(Failure::Error)?;
        total = total.checked_add(ns).ok_or(Failure::Error)?;
    }
    let ns = i64::try_from(if negative { -total } else { total }).map_err(|_| Failure::Error)?;
    Ok(Value::from(ns))
}

/// Digits with or without a point, and a unit.
fn segment(rest: &mut &str) -> Option<i128> {
    let is_part = |c: char| c == '.' || c.is_ascii_digit();
    let (number, after) = rest.split_at(rest.find(|c| !is_part(c))?);
    let (unit, after) = after.split_at(after.find(is_part).unwrap_or(after.len()));
    *rest = after;
    let unit = match unit {
        "ns" => 1_i128,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        "w" => 604_800_000_000_000,
        "y" => 31_536_000_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    // As many digits as can make a nanosecond of a year.
    let fraction = &fraction[..fraction.len().min(18)];
    let digits = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<i128>().ok() };
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let whole = digits(whole)?.checked_mul(unit)?;
    whole.checked_add(digits(fraction)?.checked_mul(unit)? / scale)
}
