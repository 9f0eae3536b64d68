//! What this process has allocated.
#![expect(unsafe_code, reason = "mallinfo2(3) has no safe form")]

/// Bytes in use, the allocator's own included, over all threads. `None` where another C library allocates.
pub(crate) fn bytes_in_use() -> Option<usize> {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it may be called at any time, by any thread.
        let facts = unsafe { libc::mallinfo2() };
        Some(facts.uordblks + facts.hblkhd)
    }
    #[cfg(not(target_env = "gnu"))]
    None
}
