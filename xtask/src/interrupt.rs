//! Ctrl-C in front of a child that handles it itself.
#![expect(unsafe_code, reason = "the standard library cannot ignore a signal")]

/// From now on Ctrl-C does not end us. Children start with that setting and may put a handler in its place.
pub(crate) fn ignore() {
    // SAFETY: SIG_IGN is no function of ours, so nothing runs when the signal comes.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
}
