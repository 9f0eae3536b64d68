//! From numbers to places along an axis, and what is written there.

use crate::report::words;

/// More marks than this on one axis are too many for a phone.
const MOST_MARKS: usize = 7;
/// Numbers beyond are drawn at the edge: arithmetic with them would leave the floats.
const LARGEST: f64 = 1e100;
const SMALLEST: f64 = 1e-100;
/// From the least to the most; with more, a linear axis shows only the most.
const WIDE: f64 = 8.0;

/// One axis with its marks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    is_log: bool,
    from: f64,
    to: f64,
    pub(crate) marks: Vec<(f64, String)>,
}

impl Axis {
    /// For `values`: logarithmic when they lie far apart and all are positive, else linear and with zero.
    pub(crate) fn fitting(values: impl IntoIterator<Item = f64>) -> Self {
        let (least, most) = bounds(values);
        if least > 0.0 && most > least * WIDE { Self::log(least, most) } else { Self::linear(least, most) }
    }

    /// Linear, up to `most`.
    pub(crate) fn from_zero(most: f64) -> Self {
        Self::linear(0.0, if most.is_finite() { most.min(LARGEST) } else { 1.0 })
    }

    /// Logarithmic over `counts`, each of which is a mark.
    pub(crate) fn of_counts(counts: impl IntoIterator<Item = u32>) -> Self {
        let mut counts: Vec<u32> = counts.into_iter().map(|count| count.max(1)).collect();
        counts.sort_unstable();
        counts.dedup();
        let (from, to) = (counts.first().copied().unwrap_or(1), counts.last().copied().unwrap_or(1));
        // A single one stands in the middle; the others leave room for dots.
        let room = (f64::from(to) / f64::from(from)).powf(0.06).max(1.2);
        let marks = counts.iter().map(|count| (f64::from(*count), words::whole((*count).into())));
        Self { is_log: true, from: f64::from(from) / room, to: f64::from(to) * room, marks: marks.collect() }
    }

    /// Of 1/(1-p), up to one in `samples`; marked by p.
    pub(crate) fn of_tails(samples: f64) -> Self {
        let to = samples.clamp(10.0, LARGEST);
        let mut marks = vec![(1.0, "0 %".to_owned()), (2.0, "50 %".to_owned())];
        let mut at = 10.0;
        for decade in 1..=12_usize {
            if at <= to * 1.01 {
                marks.push((at, format!("{:.*} %", decade.saturating_sub(2), 100.0 - 100.0 / at)));
            }
            at *= 10.0;
        }
        Self { is_log: true, from: 1.0, to, marks }
    }

    /// From nothing to all.
    pub(crate) fn of_shares() -> Self {
        let marks = [0.0, 0.25, 0.5, 0.75, 1.0].map(|share| (share, format!("{:.0} %", share * 100.0)));
        Self { is_log: false, from: 0.0, to: 1.0, marks: marks.to_vec() }
    }

    /// From 0 at the axis's begin to 1 at its end; outside of it, the nearer end.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let on = |value: f64| if self.is_log { value.clamp(SMALLEST, LARGEST).log10() } else { value };
        let (from, to) = (on(self.from), on(self.to));
        let place = (on(value.clamp(-LARGEST, LARGEST)) - from) / (to - from);
        if place.is_finite() { place.clamp(0.0, 1.0) } else { 0.0 }
    }

    fn linear(least: f64, most: f64) -> Self {
        let least = if least < -SMALLEST { least } else { 0.0 };
        let most = if most > SMALLEST || least < 0.0 { most.max(0.0) } else { 1.0 };
        let step = round_up((most - least) / 5.0);
        let (from, to) = ((least / step).floor() * step, (most / step).ceil() * step);
        let count = ((to - from) / step).round().min(MOST_MARKS as f64) as usize;
        let marks = (0..=count).map(|place| {
            let at = from + place as f64 * step;
            (at, words::mark(at, step))
        });
        Self { is_log: false, from, to, marks: marks.collect() }
    }

    fn log(least: f64, most: f64) -> Self {
        let (first, last) = (least.log10().floor() as i32, most.log10().ceil() as i32);
        let decades = (last - first).max(1) as usize;
        let parts: &[f64] = if (most / least).log10() <= 2.2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let all = (first..=last).step_by(decades.div_ceil(MOST_MARKS - 1));
        let marks = all.flat_map(|decade| parts.iter().map(move |part| part * 10_f64.powi(decade)));
        let marks: Vec<f64> = marks.collect();
        // The nearest marks outside are the ends.
        let from = marks.iter().copied().rev().find(|mark| *mark <= least * 1.001).unwrap_or(least);
        let to = marks.iter().copied().find(|mark| *mark >= most * 0.999).unwrap_or(most);
        let inside = marks.into_iter().filter(|mark| *mark >= from * 0.999 && *mark <= to * 1.001);
        Self { is_log: true, from, to, marks: inside.map(|mark| (mark, words::mark(mark, mark))).collect() }
    }
}

/// Of those that are numbers; zero and one without any.
fn bounds(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let mut bounds: Option<(f64, f64)> = None;
    for value in values.into_iter().filter(|value| value.is_finite()) {
        let value = value.clamp(-LARGEST, LARGEST);
        let (least, most) = bounds.unwrap_or((value, value));
        bounds = Some((least.min(value), most.max(value)));
    }
    bounds.unwrap_or((0.0, 1.0))
}

/// 1, 2 or 5 times a power of ten.
fn round_up(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let parts = [1.0, 2.0, 5.0, 10.0].map(|part| part * power);
    parts.into_iter().find(|part| *part >= step * 0.999).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn marks(axis: &Axis) -> Vec<&str> {
        axis.marks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn near_numbers_get_a_linear_axis_with_zero() {
        let axis = Axis::fitting([12.0, 43.0]);
        assert_eq!(marks(&axis), ["0", "10", "20", "30", "40", "50"]);
        assert_eq!((axis.place(0.0), axis.place(25.0), axis.place(70.0)), (0.0, 0.5, 1.0));
    }

    #[test]
    fn numbers_far_apart_get_a_logarithmic_axis() {
        let axis = Axis::fitting([4.2, 104.0]);
        assert_eq!(marks(&axis), ["2", "5", "10", "20", "50", "100", "200"]);
        assert!((axis.place(20.0) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn tails_are_marked_by_percentiles() {
        let axis = Axis::of_tails(45_000.0);
        assert_eq!(marks(&axis), ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }

    #[test]
    fn every_count_is_a_mark() {
        assert_eq!(marks(&Axis::of_counts([10_000, 100, 100, 5_000])), ["100", "5,000", "10,000"]);
        assert!((Axis::of_counts([700]).place(700.0) - 0.5).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn whatever_the_numbers_they_lie_on_the_axis(values in prop::collection::vec(any::<f64>(), 0..9)) {
            let axis = Axis::fitting(values.iter().copied());
            prop_assert!(axis.marks.len() <= 3 * MOST_MARKS, "{axis:?}");
            for value in values.iter().copied().chain(axis.marks.iter().map(|mark| mark.0)) {
                prop_assert!((0.0..=1.0).contains(&axis.place(value)), "{value} on {axis:?}");
            }
        }
    }
}
