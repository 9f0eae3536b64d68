//! The `vouch` binary: daemon and command line in one.

use std::process::ExitCode;

fn main() -> ExitCode {
    vouch::cli::main()
}
