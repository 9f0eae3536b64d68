//! What the shell learns.
//!
//! 0 done; 1 failed; 2 wrong usage; 3 agent not reachable; 4 warnings, with `--fail-on warn`; 5 checks found
//! problems; 6 denied, or no identity; 7 timed out; 78 bad configuration or entries (EX_CONFIG).

use std::process::ExitCode;

use crate::problem::Problem;

pub(super) const UNREACHABLE: &str = "E0310";
pub(super) const UNAVAILABLE: &str = "E0311";
pub(super) const TIMED_OUT: &str = "E0312";
pub(super) const CALL_FAILED: &str = "E0313";
pub(super) const STRANGER: &str = "E0319";
pub(super) const NOT_ADMITTED: &str = "E0322";
pub(super) const NO_IDENTITY: &str = "E0412";

pub(super) const WARNINGS: u8 = 4;
pub(super) const FOUND_PROBLEMS: u8 = 5;

/// The exit code of a command that ended with `problem`.
pub(super) fn of(problem: &Problem) -> ExitCode {
    ExitCode::from(match problem.code {
        UNREACHABLE | STRANGER => 3,
        TIMED_OUT => 7,
        NO_IDENTITY | NOT_ADMITTED => 6,
        code if code.starts_with("E01") || code.starts_with("E06") => 78,
        _ => 1,
    })
}
