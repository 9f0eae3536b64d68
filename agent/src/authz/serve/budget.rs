//! Bytes of questions that have not ended yet, and of answers that nobody takes: who begins many and ends none holds no more
//! than that.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tonic::Status;

/// Most bytes of all that one budget is for.
const MOST_BYTES: usize = 64 << 20;

/// Of all connections together; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Budgets {
    /// For those that have not ended.
    pub(super) questions: Budget,
    /// For those that wait until their client has room for them.
    pub(super) answers: Budget,
}

/// What is left of [`MOST_BYTES`]; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Budget(Arc<AtomicUsize>);

/// What one call holds of it; given back on drop.
#[derive(Debug)]
pub(super) struct Held {
    bytes: usize,
    budget: Budget,
}

impl Budget {
    pub(super) fn nothing(&self) -> Held {
        Held { bytes: 0, budget: self.clone() }
    }
}

impl Held {
    /// # Errors
    /// When all together hold too much; these bytes count all the same until this is dropped.
    pub(super) fn more(&mut self, bytes: usize) -> Result<(), Status> {
        self.bytes += bytes;
        let before = self.budget.0.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes <= MOST_BYTES {
            return Ok(());
        }
        Err(Status::resource_exhausted("too many large calls at once"))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_beyond_the_budget_fail_until_others_have_ended() {
        let budget = Budget::default();
        let (mut first, mut second) = (budget.nothing(), budget.nothing());
        assert!(first.more(MOST_BYTES).is_ok());
        assert_eq!(second.more(1).unwrap_err().code(), tonic::Code::ResourceExhausted);
        drop((first, second));
        assert!(budget.nothing().more(MOST_BYTES).is_ok());
    }
}
