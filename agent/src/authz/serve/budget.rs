//! Bytes of questions that have not ended yet: who begins many and ends none holds no more than that.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use tonic::Status;

/// Most bytes of all unfinished questions together.
pub(super) const MOST_BYTES: usize = 64 << 20;

/// What is left of [`MOST_BYTES`]; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Budget(Arc<AtomicUsize>);

/// A body whose bytes are counted as long as it is there.
#[derive(Debug)]
pub(super) struct Measured<B> {
    inner: B,
    held: usize,
    budget: Budget,
}

impl Budget {
    pub(super) fn measure<B>(&self, inner: B) -> Measured<B> {
        Measured { inner, held: 0, budget: self.clone() }
    }
}

impl<B> Measured<B> {
    fn hold(&mut self, bytes: usize) -> Result<(), Status> {
        self.held += bytes;
        let before = self.budget.0.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes <= MOST_BYTES {
            return Ok(());
        }
        Err(Status::resource_exhausted("too many large questions at once"))
    }
}

impl<B> Drop for Measured<B> {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.held, Ordering::Relaxed);
    }
}

impl<B> Body for Measured<B>
where
    B: Body<Data = Bytes, Error = Status> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            let frame = frame?;
            self.hold(frame.data_ref().map_or(0, Bytes::len))?;
            Ok(frame)
        }))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    fn body(bytes: usize) -> impl Body<Data = Bytes, Error = Status> + Unpin {
        Full::new(Bytes::from(vec![0; bytes])).map_err(|never| match never {})
    }

    #[tokio::test]
    async fn questions_beyond_the_budget_fail_until_others_have_ended() {
        let budget = Budget::default();
        let mut first = budget.measure(body(MOST_BYTES));
        assert!(first.frame().await.unwrap().is_ok());
        let mut second = budget.measure(body(1));
        assert_eq!(second.frame().await.unwrap().unwrap_err().code(), tonic::Code::ResourceExhausted);
        drop((first, second));
        assert!(budget.measure(body(MOST_BYTES)).frame().await.unwrap().is_ok());
    }
}
