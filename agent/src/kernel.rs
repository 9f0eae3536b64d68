//! What the kernel programs saw.
