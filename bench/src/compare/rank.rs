//! Whether two samples differ by more than chance: Mann-Whitney's U, and Holm's correction for many tests.

/// Both together. Larger samples, and those with ties, are judged by the normal approximation.
const MOST_EXACT: usize = 80;

/// The two-sided p-value that both samples come from one distribution. 1 when one of them is empty.
pub(crate) fn mann_whitney(one: &[f64], other: &[f64]) -> f64 {
    if one.is_empty() || other.is_empty() {
        return 1.0;
    }
    let (u, ties) = statistic(one, other);
    let p = match ties.is_empty() && one.len() + other.len() <= MOST_EXACT {
        true => exact(u, one.len(), other.len()),
        false => approximate(u, one.len(), other.len(), &ties),
    };
    p.clamp(0.0, 1.0)
}

/// The least p-value that samples of these sizes can have: all of one below all of the other.
pub(crate) fn least_p(one: usize, other: usize) -> f64 {
    // 2 / (one + other over one)
    let ways = (1..=one).map(|k| (other + k) as f64 / k as f64).product::<f64>();
    (2.0 / ways).min(1.0)
}

/// Holm's step-down: each p-value as it is after all of them were tested. In the order given.
pub(crate) fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|one, other| p_values[*one].total_cmp(&p_values[*other]));
    let mut corrected = vec![1.0; p_values.len()];
    let mut least = 0.0_f64;
    for (step, place) in order.into_iter().enumerate() {
        least = least.max(p_values[place] * (p_values.len() - step) as f64).min(1.0);
        corrected[place] = least;
    }
    corrected
}

/// U of `one`, and the sizes of the groups of equal values.
fn statistic(one: &[f64], other: &[f64]) -> (f64, Vec<usize>) {
    let mut all: Vec<(f64, bool)> = one.iter().map(|value| (*value, true)).collect();
    all.extend(other.iter().map(|value| (*value, false)));
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (mut ranks, mut before, mut ties) = (0.0, 0, Vec::new());
    for group in all.chunk_by(|one, other| one.0 == other.0) {
        // Equal values share the mean of their ranks.
        let rank = before as f64 + (group.len() + 1) as f64 / 2.0;
        ranks += rank * group.iter().filter(|(_, of_one)| *of_one).count() as f64;
        before += group.len();
        if group.len() > 1 {
            ties.push(group.len());
        }
    }
    let n = one.len() as f64;
    (ranks - n * (n + 1.0) / 2.0, ties)
}

/// By counting the ways in which U can come about.
fn exact(u: f64, one: usize, other: usize) -> f64 {
    let lower = u.min((one * other) as f64 - u).round() as usize;
    // ways[n][u]: in how many orders of n of `one` among some of `other` the statistic is u. As shares of all orders
    // of that many, so that they stay floats of reasonable size.
    let most = one * other;
    let mut ways = vec![vec![0.0; most + 1]; one + 1];
    ways.iter_mut().for_each(|ways| ways[0] = 1.0);
    for m in 1..=other {
        for n in 1..=one {
            let total = (n + m) as f64;
            for u in (0..=n * m).rev() {
                // The largest is one of `one`, above all m of the others; or it is one of the others.
                let ours = if u >= m { ways[n - 1][u - m] } else { 0.0 };
                ways[n][u] = (ours * n as f64 + ways[n][u] * m as f64) / total;
            }
        }
    }
    2.0 * ways[one][..=lower].iter().sum::<f64>()
}

/// By the normal distribution, corrected for ties and for continuity.
fn approximate(u: f64, one: usize, other: usize, ties: &[usize]) -> f64 {
    let (n, m) = (one as f64, other as f64);
    let total = n + m;
    let tied: f64 = ties.iter().map(|size| (*size as f64).powi(3) - *size as f64).sum();
    let variance = n * m / 12.0 * (total + 1.0 - tied / (total * (total - 1.0)));
    if variance <= 0.0 {
        return 1.0;
    }
    let distance = ((u - n * m / 2.0).abs() - 0.5).max(0.0) / variance.sqrt();
    upper_tails(distance)
}

/// Share of the normal distribution beyond `z` on both sides, to seven digits (Abramowitz and Stegun 7.1.26).
fn upper_tails(z: f64) -> f64 {
    let x = z / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let series = [0.254_829_592, -0.284_496_736, 1.421_413_741, -1.453_152_027, 1.061_405_429];
    let sum = series.iter().rev().fold(0.0, |sum, part| (sum + part) * t);
    sum * (-x * x).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Dice;

    fn close(found: f64, right: f64, tolerance: f64) {
        assert!((found - right).abs() <= tolerance, "{found} for {right}");
    }

    #[test]
    fn small_samples_are_judged_exactly() {
        // By hand: 1 of 20 orders on each side; 2 + 2 of 20; the middle.
        close(mann_whitney(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]), 0.1, 1e-12);
        close(mann_whitney(&[1.0, 2.0, 4.0], &[3.0, 5.0, 6.0]), 0.2, 1e-12);
        close(mann_whitney(&[1.0, 4.0], &[2.0, 3.0]), 1.0, 1e-12);
        // 2 / (18 over 9).
        let (low, high): (Vec<f64>, Vec<f64>) = (1..=9).map(|n| (f64::from(n), f64::from(n + 100))).unzip();
        close(mann_whitney(&low, &high), 2.0 / 48_620.0, 1e-12);
        close(least_p(9, 9), 2.0 / 48_620.0, 1e-12);
    }

    #[test]
    fn the_approximation_agrees_with_the_exact_p() {
        let mut dice = Dice(11);
        for shift in [0.0, 0.1, 0.2, 0.4] {
            let one: Vec<f64> = (0..25).map(|_| dice.roll()).collect();
            let other: Vec<f64> = (0..25).map(|_| dice.roll() + shift).collect();
            let (u, ties) = statistic(&one, &other);
            assert!(ties.is_empty());
            close(approximate(u, 25, 25, &ties), exact(u, 25, 25), 0.01);
        }
        close(upper_tails(1.959_964), 0.05, 1e-6);
    }

    #[test]
    fn equal_values_share_their_rank() {
        assert_eq!(statistic(&[1.0, 2.0], &[2.0, 3.0]), (0.5, vec![2]));
        close(mann_whitney(&[7.0; 9], &[7.0; 9]), 1.0, 0.0);
    }

    #[test]
    fn without_a_sample_nothing_is_said() {
        close(mann_whitney(&[], &[1.0]), 1.0, 0.0);
    }

    #[test]
    fn one_distribution_seldom_seems_to_be_two() {
        let mut dice = Dice(3);
        let mut sample = || (0..12).map(|_| dice.roll()).collect::<Vec<_>>();
        let seeming = (0..1_000).filter(|_| mann_whitney(&sample(), &sample()) < 0.05).count();
        assert!((20..=70).contains(&seeming), "{seeming} of 1,000");
    }

    #[test]
    fn holm_corrects_for_the_number_of_tests() {
        let corrected = holm(&[0.04, 0.01, 0.03]);
        for (found, right) in corrected.into_iter().zip([0.06, 0.03, 0.06]) {
            close(found, right, 1e-12);
        }
        assert!(holm(&[]).is_empty());
    }
}
