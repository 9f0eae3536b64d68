//! When the streams of a round had the new secret, out of the histogram that the results hold.
//!
//! Read by a decoder of our own, because a file is somebody else's bytes: what it takes is bounded before it is taken.

use std::io::Read;

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::read::ZlibDecoder;

/// A histogram of 10,000 streams takes some 10 KiB.
const LONGEST_TEXT: usize = 1 << 20;
/// Of an inflated histogram.
const MOST_BYTES: u64 = 4 << 20;
/// First four bytes, with the width of numbers masked out: plain, and deflated.
const PLAIN: u32 = 0x1c84_9303;
const DEFLATED: u32 = 0x1c84_9304;
const WIDTH: u32 = 0xf0;
/// What stands before the counts, the cookie included.
const HEADER: usize = 40;

/// Streams by the time at which they were served.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Delivery {
    /// Microseconds, ascending, with the streams served at that time; none of the counts is zero.
    steps: Vec<(u64, u64)>,
    total: u64,
}

impl Delivery {
    /// Reads HDR's V2 encoding, deflated or not, in base64.
    ///
    /// # Errors
    /// For anything else, and for what is larger than a histogram of deliveries can be.
    pub fn parse(text: &str) -> Result<Self> {
        ensure!(text.len() <= LONGEST_TEXT, "a histogram of {} bytes is too long", text.len());
        let bytes = STANDARD.decode(text.trim()).context("a histogram is not base64")?;
        let (cookie, rest) = number(&bytes)?;
        let plain = match cookie & !WIDTH {
            PLAIN => bytes,
            DEFLATED => {
                let mut plain = Vec::new();
                ZlibDecoder::new(rest.get(4..).context(SHORT)?)
                    .take(MOST_BYTES + 1)
                    .read_to_end(&mut plain)
                    .context("inflating a histogram")?;
                ensure!(
                    plain.len() as u64 <= MOST_BYTES,
                    "a histogram inflates to more than {MOST_BYTES} bytes"
                );
                plain
            }
            _ => bail!("this is no histogram that HDR's V2 encoding writes"),
        };
        Self::of_counts(&plain)
    }

    /// All of `parts`, as if they were one round.
    pub fn merged<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut steps: Vec<(u64, u64)> =
            parts.into_iter().flat_map(|part| part.steps.iter().copied()).collect();
        steps.sort_unstable();
        let mut merged = Self::default();
        steps.into_iter().for_each(|(time, streams)| merged.push(time, streams));
        merged
    }

    /// Streams in all.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Microseconds until the share `quantile` of the streams was served; 1 is the last one. `None` without streams.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let wanted = (quantile.clamp(0.0, 1.0) * self.total as f64).ceil().max(1.0);
        let mut served = 0_u64;
        let reached = self.steps.iter().find(|(_, streams)| {
            served = served.saturating_add(*streams);
            served as f64 >= wanted
        });
        reached.or(self.steps.last()).map(|(time, _)| *time as f64)
    }

    fn of_counts(plain: &[u8]) -> Result<Self> {
        let (cookie, _) = number(plain)?;
        ensure!(cookie & !WIDTH == PLAIN, "this is no histogram that HDR's V2 encoding writes");
        let word = |at: usize| Ok::<_, anyhow::Error>(number(plain.get(at..).context(SHORT)?)?.0);
        let (length, offset, digits, low_high, low) = (word(4)?, word(8)?, word(12)?, word(16)?, word(20)?);
        ensure!(offset == 0 && digits <= 5, "a histogram of this kind is not ours");
        let scale = Scale::new(digits, u64::from(low_high) << 32 | u64::from(low));
        let counts = plain.get(HEADER..).context(SHORT)?;
        let mut counts = counts.get(..length as usize).context(SHORT)?;
        let (mut delivery, mut index) = (Self::default(), 0_u64);
        while !counts.is_empty() {
            let (count, rest) = varint(counts)?;
            counts = rest;
            match u64::try_from(count) {
                Ok(count) => {
                    delivery.push(scale.time(index)?, count);
                    index += 1;
                }
                // So many empty places.
                Err(_) => index = index.saturating_add(count.unsigned_abs()),
            }
        }
        Ok(delivery)
    }

    /// `time` is no earlier than what is there.
    fn push(&mut self, time: u64, streams: u64) {
        if streams == 0 {
            return;
        }
        self.total = self.total.saturating_add(streams);
        match self.steps.last_mut() {
            Some((last, count)) if *last == time => *count = count.saturating_add(streams),
            _ => self.steps.push((time, streams)),
        }
    }
}

const SHORT: &str = "a histogram ends too early";

/// From a place in the counts to the times that fall into it.
struct Scale {
    /// Places in the lower half of a bucket, as a power of two.
    half_bits: u32,
    unit_bits: u32,
}

impl Scale {
    fn new(digits: u32, lowest: u64) -> Self {
        let places = 2 * 10_u64.pow(digits);
        Self { half_bits: places.next_power_of_two().ilog2() - 1, unit_bits: lowest.max(1).ilog2() }
    }

    /// The latest time that falls into this place.
    fn time(&self, index: u64) -> Result<u64> {
        let half = 1_u64 << self.half_bits;
        let bucket = (index >> self.half_bits).saturating_sub(1);
        let place = if index < half { index } else { (index & (half - 1)) + half };
        let shift = bucket + u64::from(self.unit_bits);
        ensure!(shift + u64::from(self.half_bits) + 1 < 64, "a histogram holds a time that no clock has");
        Ok((place << shift) + ((1 << shift) - 1))
    }
}

fn number(bytes: &[u8]) -> Result<(u32, &[u8])> {
    let (first, rest) = bytes.split_first_chunk().context(SHORT)?;
    Ok((u32::from_be_bytes(*first), rest))
}

/// Zig-zag in little groups of seven bits, nine bytes at most; the ninth has eight.
fn varint(bytes: &[u8]) -> Result<(i64, &[u8])> {
    let mut value = 0_u64;
    for place in 0..9 {
        let byte = *bytes.get(place).context(SHORT)?;
        let last = place == 8 || byte & 0x80 == 0;
        let bits = if place == 8 { byte } else { byte & 0x7f };
        value |= u64::from(bits) << (7 * place);
        if last {
            return Ok(((value >> 1) as i64 ^ -((value & 1) as i64), &bytes[place + 1..]));
        }
    }
    unreachable!("the ninth byte is the last")
}

#[cfg(test)]
mod tests {
    use hdrhistogram::{
        Histogram,
        serialization::{Serializer, V2DeflateSerializer, V2Serializer},
    };
    use proptest::prelude::*;

    use super::*;

    fn histogram(times: &[u64], digits: u8) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000, digits).unwrap();
        times.iter().for_each(|time| histogram.record(*time).unwrap());
        histogram
    }

    fn encoded(histogram: &Histogram<u64>, mut serializer: impl Serializer) -> String {
        let mut bytes = Vec::new();
        serializer.serialize(histogram, &mut bytes).ok().unwrap();
        STANDARD.encode(bytes)
    }

    proptest! {
        #[test]
        fn every_quantile_is_what_the_crate_says_that_wrote_it(
            times in prop::collection::vec(1..60_000_000_u64, 1..400),
            digits in 1..=4_u8,
        ) {
            let written = histogram(&times, digits);
            for text in [encoded(&written, V2DeflateSerializer::new()), encoded(&written, V2Serializer::new())] {
                let read = Delivery::parse(&text).unwrap();
                prop_assert_eq!(read.total(), times.len() as u64);
                for quantile in [0.0, 0.1, 0.5, 0.9, 0.99, 1.0] {
                    let found = read.quantile(quantile).unwrap();
                    let right = written.value_at_quantile(quantile);
                    let exact = written.equivalent(found as u64, right);
                    prop_assert!(exact, "{quantile}: {found} for {right}");
                }
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0..200_usize) {
            Delivery::parse(&STANDARD.encode(&bytes)).ok();
            let mut damaged = STANDARD.decode(encoded(&histogram(&[7, 7_000], 3), V2Serializer::new())).unwrap();
            for (place, byte) in bytes.iter().take(8).enumerate() {
                let at = (cut + place * 7) % damaged.len();
                damaged[at] ^= byte;
            }
            Delivery::parse(&STANDARD.encode(&damaged)).ok();
            damaged.truncate(cut);
            Delivery::parse(&STANDARD.encode(&damaged)).ok();
        }
    }

    #[test]
    fn a_small_text_that_inflates_to_much_is_refused() {
        let mut zeroes = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut zeroes, &vec![0; 2 * MOST_BYTES as usize]).unwrap();
        let mut bytes = (DEFLATED | 0x10).to_be_bytes().to_vec();
        bytes.extend([0; 4]);
        bytes.extend(zeroes.finish().unwrap());
        let refused = Delivery::parse(&STANDARD.encode(bytes)).unwrap_err().to_string();
        assert!(refused.contains("inflates to more"), "{refused}");
    }

    #[test]
    fn rounds_are_merged_stream_by_stream() {
        let parse =
            |times: &[u64]| Delivery::parse(&encoded(&histogram(times, 3), V2DeflateSerializer::new()));
        let (one, other) = (parse(&[10, 30]).unwrap(), parse(&[20, 30]).unwrap());
        let merged = Delivery::merged([&one, &other]);
        assert_eq!(merged, parse(&[10, 20, 30, 30]).unwrap());
        assert_eq!(Delivery::default().quantile(0.5), None);
    }
}
