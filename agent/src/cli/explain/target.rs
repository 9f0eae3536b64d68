//! What an operator asks about, told from its form.

use std::{net::SocketAddr, path::PathBuf};

use super::number;
use crate::{decision::DecisionId, problem::Problem, spiffe::SpiffeId};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Number(String),
    Pid(u32),
    Decision(DecisionId),
    /// Of authorization.
    Check(String),
    Id(SpiffeId),
    Socket(Socket),
}

/// One end of a connection, or who listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Socket {
    /// Of TCP, on this node.
    Tcp(SocketAddr),
    /// Bound to a path; an abstract one begins with `@`.
    Unix(PathBuf),
    Inode(u64),
}

impl Target {
    /// # Errors
    /// E0423 when it has none of the forms.
    pub(super) fn of(text: &str) -> Result<Self, Problem> {
        if number::is_number(text) {
            return Ok(Self::Number(text.to_uppercase()));
        }
        if let Ok(pid) = text.parse() {
            return if pid == 0 { Err(unknown(text)) } else { Ok(Self::Pid(pid)) };
        }
        if let Ok(id) = text.parse() {
            return Ok(Self::Decision(id));
        }
        if is_check(text) {
            return Ok(Self::Check(text.to_lowercase()));
        }
        if text.starts_with("spiffe://") {
            let id = text.parse::<SpiffeId>();
            return id.map(Self::Id).map_err(|error| unknown(text).why(format!("not a SPIFFE ID: {error}")));
        }
        Socket::of(text).map(Self::Socket).ok_or_else(|| unknown(text))
    }
}

impl Socket {
    fn of(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")) {
            return Some(Self::Unix(path.into()));
        }
        if text.starts_with(['/', '@']) {
            return Some(Self::Unix(text.into()));
        }
        let inode = text.strip_prefix("socket:").or_else(|| text.strip_prefix("inode:"));
        if let Some(inode) = inode {
            return inode.trim_start_matches('[').trim_end_matches(']').parse().ok().map(Self::Inode);
        }
        text.strip_prefix("tcp:").unwrap_or(text).parse().ok().map(Self::Tcp)
    }
}

/// `0197b2c4-6e11-0003`: one group longer than a decision about a caller.
fn is_check(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    lengths == [8, 4, 4] && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn unknown(text: &str) -> Problem {
    Problem::new("E0423", format!("{text:?} is nothing that can be explained"))
        .why("what is meant is told from its form")
        .fix(
            "name a pid (20117), a decision (0197b2c4-6e11, of authorization 0197b2c4-6e11-0003), a SPIFFE ID, a number (E0412), a TCP address \
             (10.0.0.7:443), or a Unix socket (/run/x.sock, @name, socket:[4711])",
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_is_told_from_its_form() {
        let id = "0197b2c4-6e11".parse().unwrap();
        let tcp = |text: &str| Target::Socket(Socket::Tcp(text.parse().unwrap()));
        let unix = |text: &str| Target::Socket(Socket::Unix(text.into()));
        for (text, expected) in [
            ("20117", Target::Pid(20117)),
            ("0197b2c4-6e11", Target::Decision(id)),
            ("e0412", Target::Number("E0412".into())),
            ("W0613", Target::Number("W0613".into())),
            ("spiffe://example.org/web", Target::Id("spiffe://example.org/web".parse().unwrap())),
            ("10.0.0.7:443", tcp("10.0.0.7:443")),
            ("tcp:10.0.0.7:443", tcp("10.0.0.7:443")),
            ("[::1]:443", tcp("[::1]:443")),
            ("/run/x.sock", unix("/run/x.sock")),
            ("unix:///run/x.sock", unix("/run/x.sock")),
            ("@name", unix("@name")),
            ("socket:[4711]", Target::Socket(Socket::Inode(4711))),
            ("inode:4711", Target::Socket(Socket::Inode(4711))),
        ] {
            assert_eq!(Target::of(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_has_no_known_form_is_refused_with_the_forms() {
        for text in [
            "",
            "0",
            "-1",
            "99999999999",
            "spiffe://",
            "spiffe://Example.org/x",
            "web",
            "socket:[x]",
            "10.0.0.7",
        ] {
            let problem = Target::of(text).unwrap_err();
            assert_eq!(problem.code, "E0423", "{text}");
            assert!(problem.fix.is_some_and(|fix| fix.contains("SPIFFE ID")));
        }
    }
}
