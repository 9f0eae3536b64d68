//! Prints results that nobody measured, for whoever works on the report:
//! `cargo run -p vouch-bench --example made_up > made-up.json`.

fn main() -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(&vouch_bench::testing::plausible())?);
    Ok(())
}
