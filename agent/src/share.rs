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
    /// Of the reserve nobody takes who holds as much as each would have if there were one holder more, nor as much as
    /// half of what is left: however much those who came before have taken, a newcomer, who may be the honest one, finds room.
    ///
    /// # Errors
    /// When there is nothing left for it.
    pub fn admits(&self, taken: usize, holders: usize, held: usize) -> Result<(), Full> {
        if taken >= self.total {
            return Err(Full::Total);
        }
        let share = (self.total / (holders + 1)).min((self.total - taken) / 2).max(1);
        if taken < self.open || held < share {
            return Ok(());
        }
        Err(Full::Reserve)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn anybody_may_take_what_is_open_and_only_the_poor_take_of_the_reserve() {
        let share = Share::new(100, 0.25);
        assert_eq!(share.admits(74, 1, 74), Ok(()));
        assert_eq!(share.admits(75, 1, 75), Err(Full::Reserve));
        assert_eq!(share.admits(75, 1, 0), Ok(()), "a newcomer");
        assert_eq!(share.admits(80, 20, 3), Ok(()), "below one in twenty-one");
        assert_eq!(share.admits(80, 20, 4), Err(Full::Reserve));
        assert_eq!(share.admits(80, 2, 9), Ok(()), "below half of what is left");
        assert_eq!(share.admits(80, 2, 10), Err(Full::Reserve));
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
        /// They come one after the other, and each takes all that it gets.
        #[test]
        fn greed_leaves_room_for_a_newcomer(total in 64usize..20_000, greedy in 1usize..6) {
            let share = Share::new(total, 0.25);
            let mut taken = 0;
            for holders in 0..greedy {
                let mut held = 0;
                while share.admits(taken, holders + usize::from(held > 0), held).is_ok() {
                    (taken, held) = (taken + 1, held + 1);
                }
            }
            prop_assert!(taken < total);
            prop_assert_eq!(share.admits(taken, greedy, 0), Ok(()));
        }
    }
}
