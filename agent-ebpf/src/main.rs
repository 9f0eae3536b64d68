//! The kernel side of Vouch. Programs gather: they read fields, fill a record and submit it. What a record
//! means is decided by the agent.
//!
//! Structures of the kernel are read through BTF-typed pointers at offsets that the agent resolves and freezes
//! before the programs are verified, so a wrong layout is refused at load instead of yielding wrong identities.
#![no_std]
#![no_main]

mod event;
mod flow;
mod delay;
mod hooks;
mod identity;
mod kernel;
mod maps;
mod origin;
mod record;

/// The tracing helpers are open to programs under a licence that the kernel counts as compatible with its own.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached: nothing here panics, and the verifier refuses a loop without end.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
