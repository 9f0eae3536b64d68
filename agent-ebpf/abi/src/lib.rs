#![no_std]
//! Layout of every record that the kernel programs and the agent exchange.
