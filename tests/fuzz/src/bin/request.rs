//! Fuzzes `sds::RequestReader`: `cargo xtask fuzz request`. Without libFuzzer it asks everything of the inputs in
//! the files that are named: `cargo run --package vouch-fuzz --bin fuzz-request FILE…`.
#![cfg_attr(feature = "libfuzzer", no_main)]

#[cfg(feature = "libfuzzer")]
libfuzzer_sys::fuzz_target!(init: vouch_fuzz::request::write_seeds(), |input: &[u8]| {
    vouch_fuzz::request::check(input);
});

#[cfg(not(feature = "libfuzzer"))]
fn main() -> anyhow::Result<()> {
    use anyhow::{Context, ensure};

    let files: Vec<_> = std::env::args_os().skip(1).map(std::path::PathBuf::from).collect();
    ensure!(!files.is_empty(), "name the files whose inputs are to be asked again");
    for file in &files {
        let input = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        vouch_fuzz::request::check(&input);
        println!("{} keeps the rules", file.display());
    }
    Ok(())
}
