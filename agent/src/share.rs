//! A total that many share: the last part of it is kept for those who hold less than their share.

/// How much there is, and how much of it is for anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    total: usize,
    /// Beyond so much begins the reserve.
    open: usize,
}

/// Why somebody gets no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    #[error("everything is taken")]
    Total,
    #[error("what is left is kept for those who hold less")]
    Reserve,
}

impl Share {
    /// The part `reserve`, 0 to 1, of `total` is kept.
    pub fn new(total: usize, reserve: f64) -> Self {
        let kept = (total as f64 * reserve.clamp(0.0, 1.0)) as usize;
        Self { total, open: total - kept.min(total) }
    }

    /// Whether one that holds `held` may have one more when `taken` are taken by `holders`.
    ///
    /// Of the reserve everybody may take up to what each would have if there were one holder more: so there is always
    /// room for a newcomer, who may be the honest one.
    ///
    /// # Errors
    /// When there is nothing left for it.
    pub fn admits(&self, taken: usize, holders: usize, held: usize) -> Result<(), Full> {
        if taken >= self.total {
            return Err(Full::Total);
        }
        if taken < self.open || held < (self.total / (holders + 1)).max(1) {
            return Ok(());
        }
        Err(Full::Reserve)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn anybody_may_take_what_is_open_and_only_the_poor_take_of_the_reserve() {
        let share = Share::new(100, 0.25);
        assert_eq!(share.admits(74, 1, 74), Ok(()));
        assert_eq!(share.admits(75, 1, 75), Err(Full::Reserve));
        assert_eq!(share.admits(75, 1, 0), Ok(()), "a newcomer");
        assert_eq!(share.admits(80, 4, 19), Ok(()), "below a fifth");
        assert_eq!(share.admits(80, 4, 20), Err(Full::Reserve));
        assert_eq!(share.admits(99, 1_000, 0), Ok(()), "with many holders a share is still one");
        assert_eq!(share.admits(99, 1_000, 1), Err(Full::Reserve));
        assert_eq!(share.admits(100, 1, 0), Err(Full::Total));
    }

    #[test]
    fn without_a_reserve_one_may_take_everything() {
        let share = Share::new(10, 0.0);
        assert_eq!(share.admits(9, 1, 9), Ok(()));
        assert_eq!(share.admits(10, 1, 10), Err(Full::Total));
        assert_eq!(Share::new(usize::MAX, 0.25).admits(1 << 40, 1, 1 << 40), Ok(()));
    }

    proptest! {
        /// However many greedy ones there are, short of as many as the reserve has places.
        #[test]
        fn greed_leaves_room_for_a_newcomer(total in 8usize..400, greedy in 1usize..200, turns in 1usize..2_000) {
            prop_assume!(greedy < total / 4);
            let share = Share::new(total, 0.25);
            let mut held: HashMap<usize, usize> = HashMap::new();
            for turn in 0..turns {
                let taken = held.values().sum();
                let (who, holders) = (turn % greedy, held.len());
                let mine = held.get(&who).copied().unwrap_or(0);
                if share.admits(taken, holders, mine).is_ok() {
                    *held.entry(who).or_default() += 1;
                }
            }
            prop_assert_eq!(share.admits(held.values().sum(), held.len(), 0), Ok(()));
        }
    }
}
