//! One setting at a time: its form, its bounds, and the words when it breaks them.

use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};

use toml::Spanned;

use super::{check::Checker, raw::Setting};
use crate::problem::{Problem, nearest};

/// Units of sizes, largest first.
pub(super) const SIZE_UNITS: [(&str, u64); 4] =
    [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// No machine has room for more of anything that is counted.
pub(super) const COUNT_MAX: usize = 1_000_000;
/// What the kernel allows a listen queue unless it is told otherwise (net.core.somaxconn).
pub(super) const QUEUE_MAX: usize = 4_096;

impl Checker<'_> {
    /// The value of `key`, or `default`; durations as "90s", "1h 30m", "1y".
    pub(super) fn duration(
        &self,
        key: &str,
        setting: &Setting<String>,
        default: Duration,
        bounds: RangeInclusive<Duration>,
    ) -> Result<Duration, Problem> {
        let Some(text) = setting else { return Ok(default) };
        let duration = humantime::parse_duration(text.get_ref()).map_err(|error| {
            self.problem("E0107", format!("`{key}` is not a duration: {error}"), text)
                .fix("write a number and a unit, such as \"30s\", \"15m\", \"1h\", \"7days\" or \"1y\"")
        })?;
        if bounds.contains(&duration) {
            return Ok(duration);
        }
        let (low, high) = bounds.into_inner();
        let (low, high) = (humantime::format_duration(low), humantime::format_duration(high));
        Err(self.out_of_bounds(key, &format!("\"{low}\" to \"{high}\""), text))
    }

    /// In bytes; as "512MiB".
    pub(super) fn size(
        &self,
        key: &str,
        setting: &Setting<String>,
        default: u64,
        bounds: RangeInclusive<u64>,
    ) -> Result<u64, Problem> {
        let Some(text) = setting else { return Ok(default) };
        let size = parse_size(text.get_ref()).ok_or_else(|| {
            self.problem("E0107", format!("`{key}` is not a size"), text)
                .fix("write a whole number and a unit: B, KiB, MiB or GiB, such as \"512MiB\"")
        })?;
        if bounds.contains(&size) {
            return Ok(size);
        }
        let (low, high) = bounds.into_inner();
        Err(self.out_of_bounds(key, &format!("\"{}\" to \"{}\"", format_size(low), format_size(high)), text))
    }

    pub(super) fn count(&self, key: &str, setting: &Setting<i64>, default: usize) -> Result<usize, Problem> {
        self.count_to(COUNT_MAX, key, setting, default)
    }

    pub(super) fn count_to(
        &self,
        most: usize,
        key: &str,
        setting: &Setting<i64>,
        default: usize,
    ) -> Result<usize, Problem> {
        let Some(number) = setting else { return Ok(default) };
        usize::try_from(*number.get_ref())
            .ok()
            .filter(|count| (1..=most).contains(count))
            .ok_or_else(|| self.out_of_bounds(key, &format!("1 to {most}"), number))
    }

    pub(super) fn share(
        &self,
        key: &str,
        setting: &Setting<f64>,
        default: f64,
        bounds: RangeInclusive<f64>,
    ) -> Result<f64, Problem> {
        match setting {
            None => Ok(default),
            Some(share) if bounds.contains(share.get_ref()) => Ok(*share.get_ref()),
            Some(share) => {
                let (low, high) = bounds.into_inner();
                Err(self.out_of_bounds(key, &format!("{low:?} to {high:?}"), share))
            }
        }
    }

    /// One of a few words; the first is the default.
    pub(super) fn word<T: Copy>(
        &self,
        key: &str,
        setting: &Setting<String>,
        words: &[(&'static str, T)],
        default: T,
    ) -> Result<T, Problem> {
        let Some(text) = setting else { return Ok(default) };
        if let Some((_, value)) = words.iter().find(|(word, _)| word == text.get_ref()) {
            return Ok(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let mut problem = Problem::new("E0107", format!("`{key}` cannot be {:?}", text.get_ref()))
            .fix(format!("one of: {}", known.join(", ")));
        if let Some(file) = self.file {
            let near = nearest(text.get_ref(), known.iter().copied());
            let hint = near.map_or_else(String::new, |near| format!("did you mean \"{near}\"?"));
            problem = problem.at(file.place(&text.span()).hint(hint));
        }
        Err(problem)
    }

    /// A loopback address, or "off".
    pub(super) fn loopback(
        &self,
        key: &str,
        setting: &Setting<String>,
        default: SocketAddr,
    ) -> Result<Option<SocketAddr>, Problem> {
        let Some(text) = setting else { return Ok(Some(default)) };
        if text.get_ref() == "off" {
            return Ok(None);
        }
        let address: SocketAddr = text.get_ref().parse().map_err(|_| {
            self.problem("E0107", format!("`{key}` is neither an address with a port nor \"off\""), text)
                .fix(format!("write an IP address and a port, such as \"{default}\""))
        })?;
        if address.ip().is_loopback() {
            return Ok(Some(address));
        }
        Err(self
            .problem("E0112", format!("`{key}` may only be a loopback address for now"), text)
            .why("what is served there is neither encrypted nor asks who reads it")
            .fix(format!("write \"{default}\", and let something on this node that is trusted pass it on")))
    }

    pub(super) fn out_of_bounds<T>(&self, key: &str, bounds: &str, value: &Spanned<T>) -> Problem {
        self.problem("E0108", format!("`{key}` is out of bounds"), value).fix(format!("allowed is {bounds}"))
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim_start() {
        "" => 1,
        unit => SIZE_UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// With the largest unit that divides it.
pub(super) fn format_size(size: u64) -> String {
    let (name, unit) = SIZE_UNITS.iter().find(|(_, unit)| size.is_multiple_of(*unit)).unwrap_or(&("B", 1));
    format!("{}{name}", size / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_numbers_of_binary_units() {
        for (text, size) in [("0", 0), ("17", 17), ("17B", 17), ("1KiB", 1024), ("512 MiB", 512 << 20)] {
            assert_eq!(parse_size(text), Some(size), "{text}");
        }
        for text in ["", "MiB", "1MB", "1mib", "-1", "1.5GiB", "17179869184GiB", "99999999999999999999"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn a_printed_size_reads_as_itself() {
        for size in [1, 1023, 1024, 1025, 16 << 10, 1 << 20, (1 << 30) + 1024, 64 << 30] {
            assert_eq!(parse_size(&format_size(size)), Some(size));
        }
        assert_eq!(format_size(512 << 20), "512MiB");
    }
}
