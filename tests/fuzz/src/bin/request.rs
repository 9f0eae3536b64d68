//! Fuzzes `sds::RequestReader`: `cargo xtask fuzz request`. Without libFuzzer it asks everything of the inputs in
//! the files that are named: `cargo run --package vouch-fuzz --bin fuzz-request FILE…`.
#![cfg_attr(feature = "libfuzzer", no_main)]

#[cfg(feature = "libfuzzer")]
libfuzzer_sys::fuzz_target!(init: vouch_fuzz::request::write_seeds(), |input: &[u8]| {
    vouch_fuzz::request::check(input);
});

#[cfg(not(feature = "libfuzzer"))]
fn main() -> anyhow::Result<()> {
    vouch_fuzz::ask_again(vouch_fuzz::request::check)
}
