//! Fuzzes `authz::xfcc`: `cargo xtask fuzz xfcc`. Without libFuzzer it asks everything of the inputs in
//! the files that are named: `cargo run --package vouch-fuzz --bin fuzz-xfcc FILE…`.
#![cfg_attr(feature = "libfuzzer", no_main)]

#[cfg(feature = "libfuzzer")]
libfuzzer_sys::fuzz_target!(init: vouch_fuzz::xfcc::write_seeds(), |input: &[u8]| {
    vouch_fuzz::xfcc::check(input);
});

#[cfg(not(feature = "libfuzzer"))]
fn main() -> anyhow::Result<()> {
    vouch_fuzz::ask_again(vouch_fuzz::xfcc::check)
}
