//! The tasks of a running agent, none of which ends before it is told to.

use std::{collections::HashMap, future::pending};

use tokio::task::{Id, JoinSet};

use crate::telemetry::Probes;

/// Tasks by name. They are aborted when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Parts {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Parts {
    pub(super) fn spawn(&mut self, name: &'static str, part: impl Future<Output = ()> + Send + 'static) {
        let task = self.tasks.spawn(part);
        self.names.insert(task.id(), name);
    }

    /// Says of each part that ends, or panics, that it did. The node is not live then: a new process is what helps,
    /// and whoever supervises this one may see to it. Never returns.
    pub(super) async fn watch(&mut self, probes: &Probes) {
        loop {
            let (id, why) = match self.tasks.join_next_with_id().await {
                Some(Ok((id, ()))) => (id, "it returned".to_owned()),
                Some(Err(error)) => (error.id(), error.to_string()),
                None => return pending().await,
            };
            let part = self.names.remove(&id).unwrap_or("a part");
            tracing::error!(part, why, "a part of the agent has ended, so the node is not live (E0758)");
            probes.part_ended(part);
        }
    }

    /// Waits for the parts of this name, which have been told to end.
    pub(super) async fn ended(&mut self, name: &'static str) {
        while self.names.values().any(|other| *other == name) {
            match self.tasks.join_next_with_id().await {
                Some(Ok((id, ()))) => self.names.remove(&id),
                Some(Err(error)) => self.names.remove(&error.id()),
                None => return,
            };
        }
    }

    /// Ends them all.
    pub(super) async fn shutdown(mut self) {
        self.tasks.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// What the probes say after a moment of a part that runs and another one.
    async fn live_beside(other: impl Future<Output = ()> + Send + 'static) -> Result<(), &'static str> {
        let probes = Probes::default();
        let mut parts = Parts::default();
        parts.spawn("runs", pending());
        parts.spawn("other", other);
        let watched = timeout(Duration::from_millis(50), parts.watch(&probes)).await;
        assert!(watched.is_err(), "it watches on");
        parts.shutdown().await;
        probes.live()
    }

    #[tokio::test]
    async fn a_part_that_ends_or_panics_makes_the_node_not_live() {
        assert_eq!(live_beside(pending()).await, Ok(()));
        assert_eq!(live_beside(async {}).await, Err("other"));
        assert_eq!(live_beside(async { panic!("on purpose") }).await, Err("other"));
    }
}
