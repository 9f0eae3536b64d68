//! A witness that the operator does not want to hear.

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};

use super::{Selector, Silence, Subject, Witness};

/// Says nothing of whomever the witness within could have spoken about.
#[derive(Debug)]
pub(super) struct Off(pub(super) Arc<dyn Witness>);

impl Witness for Off {
    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    fn concerns(&self, subject: &Subject) -> bool {
        self.0.concerns(subject)
    }

    fn testify<'a>(&'a self, _subject: &'a Subject) -> BoxFuture<'a, Result<Vec<Selector>, Silence>> {
        let silence = Silence::new(format!("[attest.{}] is switched off", self.kind()));
        std::future::ready(Err(silence)).boxed()
    }
}
