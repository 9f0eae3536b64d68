//! The repository speaks of no one machine: no path into somebody's home or work tree, no host of a registry.

use super::Finding;

/// First folders of absolute paths that exist on one machine only; `home` needs a name behind it.
const PRIVATE_ROOTS: [&str; 3] = ["work", "root", "home"];
/// Hosts from which package managers fetch, by domain and ending.
const REGISTRIES: [(&str, &str); 8] = [
    ("crates", "io"),
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("npmjs", "org"),
    ("golang", "org"),
    ("debian", "org"),
    ("maven", "org"),
    ("docker", "io"),
];
/// Written by a tool that names where it fetches from, or in whose names of modules that stands.
const LOCK_FILES: [&str; 3] = ["Cargo.lock", "go.mod", "go.sum"];

/// Lines of `text` that name a path of one machine or the host of a package registry.
pub(super) fn check(file: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut found = |rule| findings.push(Finding { file: file.to_owned(), line: index + 1, rule });
        if let Some(path) = private_path(line) {
            found(format!("`{path}` is a path of one machine"));
        }
        if let Some(host) = registry(line).filter(|_| !LOCK_FILES.iter().any(|lock| file.ends_with(lock))) {
            found(format!("`{host}` is the host of a package registry"));
        }
    }
    findings
}

fn private_path(line: &str) -> Option<String> {
    for root in PRIVATE_ROOTS {
        let folder = format!("/{root}/");
        for (at, _) in line.match_indices(&folder) {
            let rest: String = line[at + folder.len()..].chars().take_while(|c| is_in_path(*c)).collect();
            // Further down, or behind a variable, it does not start at the root of the file system.
            let starts =
                line[..at].chars().next_back().is_none_or(|before| !is_in_path(before) && before != '}');
            if starts && !(root == "home" && rest.is_empty()) {
                return Some(format!("{folder}{rest}"));
            }
        }
    }
    None
}

fn registry(line: &str) -> Option<String> {
    REGISTRIES.iter().map(|(domain, ending)| format!("{domain}.{ending}")).find(|host| {
        line.match_indices(host.as_str()).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let behind = line[at + host.len()..].chars().next();
            before.is_none_or(|c| !c.is_alphanumeric() && c != '_')
                && behind.is_none_or(|c| !c.is_alphanumeric())
        })
    })
}

fn is_in_path(character: char) -> bool {
    character.is_alphanumeric() || "._-~*".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> bool {
        !check("notes.md", line).is_empty()
    }

    #[test]
    fn a_path_into_one_machine_is_found() {
        for root in PRIVATE_ROOTS {
            assert!(found(&format!("see /{root}/someone/file")), "{root}");
            assert!(found(&format!("path = \"/{root}/x\"")), "{root}");
        }
    }

    #[test]
    fn paths_of_every_machine_are_fine() {
        let root = PRIVATE_ROOTS[0];
        for line in [
            "/var/lib/vouch",
            "/run/vouch/public/api.sock",
            "/tmp/spire-agent/public/api.sock",
            "/sys/fs/cgroup",
            "/home/",
            "proto/workload/x",
        ] {
            assert!(!found(line), "{line}");
        }
        assert!(!found(&format!("below target/{root}/x and ${{DIR}}/{root}/x")));
    }

    #[test]
    fn the_host_of_a_registry_is_found_but_not_in_a_lock_file() {
        let (domain, ending) = REGISTRIES[0];
        let line = format!("https://static.{domain}.{ending}/x");
        assert!(found(&line));
        for lock in ["Cargo.lock", "bench/peers/x/go.sum"] {
            assert!(check(lock, &line).is_empty());
        }
        assert!(!found(&format!("my{domain}.{ending}")));
    }
}
