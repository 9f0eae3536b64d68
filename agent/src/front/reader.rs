//! What the SDS calls of a connection are answered with, as of the last look.

use std::task::Context;

use futures_util::future::BoxFuture;

use crate::svid::{Holder, Identities, Subscriber, WeakIdentities};

/// One for all SDS calls of a connection. Keeps no SVID from turn to turn.
pub(super) struct Reader {
    pub(super) subscriber: Subscriber,
    identities: WeakIdentities,
    learned: BoxFuture<'static, ()>,
}

impl Reader {
    pub(super) fn new(mut subscriber: Subscriber, cx: &mut Context<'_>) -> Self {
        let identities = (&subscriber.current()).into();
        let learned = Box::pin(subscriber.learned());
        let mut reader = Self { subscriber, identities, learned };
        reader.wait(cx);
        reader
    }

    pub(super) fn holder(&self) -> Holder {
        self.identities.holder
    }

    pub(super) fn is_pending(&self) -> bool {
        self.identities.pending > 0
    }

    /// Says whether there is news.
    pub(super) fn refresh(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.subscriber.has_news() {
            return false;
        }
        let news = self.subscriber.look();
        if self.subscriber.take_learned() {
            self.wait(cx);
        }
        let is_news = news.is_some();
        if let Some(identities) = news {
            self.identities = (&identities).into();
        }
        is_news
    }

    pub(super) fn identities(&mut self, cx: &mut Context<'_>) -> Identities {
        self.identities.upgrade().unwrap_or_else(|| {
            // Another connection of this process has seen others since.
            let identities = self.subscriber.current();
            self.identities = (&identities).into();
            if self.subscriber.take_learned() {
                self.wait(cx);
            }
            identities
        })
    }

    /// Has the bell rung when more is learned of the process. Publications ring it anyway.
    fn wait(&mut self, cx: &mut Context<'_>) {
        while self.learned.as_mut().poll(cx).is_ready() {
            self.learned = Box::pin(self.subscriber.learned());
        }
    }
}
