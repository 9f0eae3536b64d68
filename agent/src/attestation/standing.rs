//! What may be said of the process behind a connection, from its first moment to its last.

use std::sync::Arc;

use super::selector::SelectorSet;

/// The selectors of a connection as of now.
///
/// A connection speaks for its process as that was when it connected. Whatever changes afterwards can take away, and
/// never add: who else may hold the socket since then, nobody can say. To be judged anew a process connects anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// True when it connected, and true still.
    pub selectors: Arc<SelectorSet>,
    /// What the process is now, when it is no longer what it was: a new connection would be judged by this.
    pub now: Option<Arc<SelectorSet>>,
    /// The process has ended; the selectors are none.
    pub gone: bool,
}

impl Standing {
    pub fn new(selectors: Arc<SelectorSet>) -> Self {
        Self { selectors, now: None, gone: false }
    }
}
