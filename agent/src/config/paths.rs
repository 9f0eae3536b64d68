//! Paths of files, directories and sockets, and which may lie where.

use std::path::{Component, Path, PathBuf};

use toml::Spanned;

use super::check::Checker;
use crate::{front::MAX_SOCKET_PATH, problem::Problem};

impl Checker<'_> {
    /// Absolute: beneath the file's directory when it was written relative.
    pub(super) fn path(&self, key: &str, text: &Spanned<String>) -> Result<PathBuf, Problem> {
        if text.get_ref().is_empty() || text.get_ref().contains('\0') {
            return Err(self.problem("E0107", format!("`{key}` is no path"), text));
        }
        Ok(self.base.join(text.get_ref()))
    }

    pub(super) fn socket(&self, key: &str, text: &Spanned<String>) -> Result<PathBuf, Problem> {
        let path = self.path(key, text)?;
        check_socket(&path).map_err(|why| {
            self.problem("E0109", format!("`{key}` cannot be the path of a socket"), text).why(why)
        })?;
        Ok(path)
    }

    /// Who may enter the directory of the public socket must get no further than that socket.
    pub(super) fn directories(&self, rule: &Directories<'_>) -> Result<(), Problem> {
        let (admin, admin_text) = &rule.admin;
        let (state, state_text) = &rule.state;
        for (public, _) in &rule.public {
            if plain(public) == plain(admin) {
                return Err(self
                    .problem("E0110", "the admin socket is the public socket", *admin_text)
                    .fix("give [admin] socket a directory of its own"));
            }
            let entered = parent(public);
            if plain(admin).starts_with(&entered) {
                let title =
                    format!("the admin socket lies in {}, which every process may enter", entered.display());
                return Err(self
                    .problem("E0110", title, *admin_text)
                    .why("the public socket is there")
                    .fix("give [admin] socket a directory beside it, such as /run/vouch/admin"));
            }
            if plain(public).starts_with(plain(state)) {
                let title = format!("the public socket {} lies in the state directory", public.display());
                return Err(self
                    .problem("E0110", title, *state_text)
                    .why("the state directory is closed to everyone but the agent, and has to stay so")
                    .fix("give the socket a directory outside, such as /run/vouch/public"));
            }
        }
        Ok(())
    }
}

/// The paths that the rule is about, each with the setting that a refusal points at.
pub(super) struct Directories<'a> {
    pub(super) public: Vec<(PathBuf, &'a Spanned<String>)>,
    pub(super) admin: (PathBuf, &'a Spanned<String>),
    pub(super) state: (PathBuf, &'a Spanned<String>),
}

/// Whether `path` can be the address of a Unix socket, and why not.
pub(super) fn check_socket(path: &Path) -> Result<(), String> {
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        return Err(format!("it has {length} bytes, and the kernel takes at most {MAX_SOCKET_PATH}"));
    }
    if path.file_name().is_none() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err("it names a directory".into());
    }
    Ok(())
}

/// Without `.` and `..`, for comparison only: links are not followed, since nothing need exist yet.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

fn parent(path: &Path) -> PathBuf {
    plain(path).parent().map(Path::to_owned).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_socket_path_is_107_bytes() {
        let longest = format!("/{}", "s".repeat(106));
        assert_eq!(check_socket(Path::new(&longest)), Ok(()));
        assert!(check_socket(Path::new(&format!("{longest}s"))).is_err());
        assert!(check_socket(Path::new("/run/")).is_err() && check_socket(Path::new("/run/..")).is_err());
    }

    #[test]
    fn paths_are_compared_without_detours() {
        assert_eq!(plain(Path::new("/a/./b/../c//d")), Path::new("/a/c/d"));
        assert_eq!(parent(Path::new("/a/x/../s")), Path::new("/a"));
    }
}
