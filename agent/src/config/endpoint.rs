//! The address of a Workload API, as environment variables and flags write it.

use std::path::{Path, PathBuf};

use super::paths::check_socket;
use crate::problem::Problem;

const EXAMPLE: &str = "unix:///run/vouch/public/api.sock";

/// The path in `unix:///path/to/api.sock`, the form in which `SPIFFE_ENDPOINT_SOCKET` names a Unix socket, or in
/// `unix:/path/to/api.sock`, the same address without its empty authority.
///
/// # Errors
/// For everything else, TCP addresses among them. Source: SPIFFE Workload Endpoint §4.
pub fn endpoint_socket(text: &str) -> Result<PathBuf, Problem> {
    let refused = |why: &str, fix: String| {
        Err(Problem::new("E0114", format!("{text:?} is not the address of a Workload API")).why(why).fix(fix))
    };
    if text.starts_with("tcp:") {
        return refused("TCP endpoints are not supported", format!("name a Unix socket, as {EXAMPLE}"));
    }
    let Some(path) = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")) else {
        let fix = match text.strip_prefix('/') {
            Some(path) => format!("write unix:///{}", path.trim_start_matches('/')),
            None => format!("name a Unix socket, as {EXAMPLE}"),
        };
        return refused("it does not start with unix://", fix);
    };
    if !path.starts_with('/') {
        return refused("what follows unix: is not an absolute path", format!("write unix:///{path}"));
    }
    if path.contains(['?', '#', '%', '\0']) {
        return refused("the path of a socket has no query, fragment or escape", "name a plain path".into());
    }
    match check_socket(Path::new(path)) {
        Ok(()) => Ok(PathBuf::from(path)),
        Err(why) => refused(&why, "name a plain path".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absolute_unix_path_is_an_address() {
        for address in ["unix:///run/a.sock", "unix:/run/a.sock"] {
            assert_eq!(endpoint_socket(address).unwrap(), Path::new("/run/a.sock"));
        }
    }

    #[test]
    fn everything_else_is_refused_with_the_right_form() {
        for (bad, fix) in [
            ("/run/a.sock", "write unix:///run/a.sock"),
            ("unix:run/a.sock", "write unix:///run/a.sock"),
            ("unix://run/a.sock", "write unix:///run/a.sock"),
            ("", "name a Unix socket, as unix:///run/vouch/public/api.sock"),
            ("http://x", "name a Unix socket, as unix:///run/vouch/public/api.sock"),
            ("tcp://127.0.0.1:80", "name a Unix socket, as unix:///run/vouch/public/api.sock"),
            ("unix:///run/a?b", "name a plain path"),
            ("unix:///", "name a plain path"),
        ] {
            let problem = endpoint_socket(bad).unwrap_err();
            assert_eq!((problem.code, problem.fix.unwrap().as_str()), ("E0114", fix), "{bad}");
        }
        assert_eq!(endpoint_socket(&format!("unix:///{}", "a".repeat(200))).unwrap_err().code, "E0114");
    }
}
