//! Who called, from where, and what follows from that: the only reader of the environment.

use std::io;

use anyhow::{Context, bail};

use crate::args::Global;

/// What the command line leaves to the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Absolute current folder.
    pub cwd: String,
    /// `XDG_RUNTIME_DIR`, where it is set and not empty.
    pub xdg_runtime_dir: Option<String>,
    /// Whether the state of containers belongs to one user rather than to the machine.
    pub unprivileged: bool,
}

/// The folder of the run-time state, and who chose it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRoot {
    /// Absolute, without `.` and `..`.
    pub path: String,
    /// Whether it is the default: one that does not exist is then an empty one.
    pub is_default: bool,
}

/// The identity map of a process that is not in a user namespace (user_namespaces(7)).
const WHOLE_ID_RANGE: &str = "0 0 4294967295";

impl Caller {
    /// Looks at the process and its environment.
    ///
    /// # Errors
    /// The current folder is gone, or its path is not UTF-8.
    pub fn probe() -> anyhow::Result<Caller> {
        let cwd = sys::process::current_dir().context("cannot tell the current folder")?;
        let xdg_runtime_dir = std::env::var("XDG_RUNTIME_DIR").ok().filter(|dir| !dir.is_empty());
        // The maps are read only where the answer matters.
        let unprivileged = xdg_runtime_dir.is_some() && is_unprivileged().context("cannot read /proc/self/uid_map")?;
        Ok(Caller { cwd, xdg_runtime_dir, unprivileged })
    }

    /// Makes a path that was typed absolute, without looking at the file system: `..` goes one name back.
    #[must_use]
    pub fn absolute(&self, path: &str) -> String {
        let base = if path.starts_with('/') { "" } else { &self.cwd };
        let mut names: Vec<&str> = Vec::new();
        for name in base.split('/').chain(path.split('/')) {
            match name {
                "" | "." => {}
                ".." => drop(names.pop()),
                name => names.push(name),
            }
        }
        format!("/{}", names.join("/"))
    }

    /// The folder of the run-time state: `--root`, or `/run/skep`, or `skep` below the user's run-time folder.
    ///
    /// The default is the same for each name that the program is called by: what `runc` left in `/run/runc` is in
    /// runc's own format.
    ///
    /// # Errors
    /// `--root` names the root of the file system.
    pub fn state_root(&self, global: &Global) -> anyhow::Result<StateRoot> {
        if let Some(root) = &global.root {
            let path = self.absolute(root);
            if path == "/" {
                bail!("option --root should not be set to /");
            }
            return Ok(StateRoot { path, is_default: false });
        }
        let path = match &self.xdg_runtime_dir {
            Some(dir) if self.unprivileged => format!("{}/skep", self.absolute(dir)),
            _ => "/run/skep".to_owned(),
        };
        Ok(StateRoot { path, is_default: true })
    }
}

/// Whether the caller is an ordinary user: by its id, or as the root of a user namespace that such a user made.
///
/// Root of the machine keeps to `/run` even with `XDG_RUNTIME_DIR` set, and so does a user namespace in which `USER` is
/// `root`, as in runc.
fn is_unprivileged() -> io::Result<bool> {
    if sys::process::effective_uid() != 0 {
        return Ok(true);
    }
    let map = std::fs::read_to_string("/proc/self/uid_map")?;
    let whole = map.split_whitespace().eq(WHOLE_ID_RANGE.split(' '));
    Ok(!whole && std::env::var("USER").as_deref() != Ok("root"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Program;

    fn caller(cwd: &str, xdg: Option<&str>, unprivileged: bool) -> Caller {
        Caller { cwd: cwd.to_owned(), xdg_runtime_dir: xdg.map(str::to_owned), unprivileged }
    }

    #[track_caller]
    fn check_absolute(cwd: &str, path: &str, expected: &str) {
        assert_eq!(caller(cwd, None, false).absolute(path), expected);
    }

    #[test]
    fn typed_paths_become_absolute() {
        check_absolute("/a/b", "c", "/a/b/c");
        check_absolute("/a/b", "./c//d/", "/a/b/c/d");
        check_absolute("/a/b", "../c", "/a/c");
        check_absolute("/a/b", "../../../..", "/");
        check_absolute("/a/b", "/c/../d", "/d");
        check_absolute("/", "c", "/c");
        check_absolute("/a", "", "/a");
    }

    #[track_caller]
    fn check_root(caller: &Caller, root: Option<&str>, expected: &str) {
        let global = Global { root: root.map(str::to_owned), ..Global::new(Program::Skep) };
        let state = caller.state_root(&global).expect("a root");
        assert_eq!((state.path.as_str(), state.is_default), (expected, root.is_none()));
    }

    #[test]
    fn the_default_root_depends_on_privilege() {
        check_root(&caller("/", None, false), None, "/run/skep");
        check_root(&caller("/", Some("/run/user/0"), false), None, "/run/skep");
        check_root(&caller("/", Some("/run/user/7"), true), None, "/run/user/7/skep");
        check_root(&caller("/x", Some("/run/user/7"), true), Some("y"), "/x/y");
    }

    #[test]
    fn the_root_cannot_be_the_whole_file_system() {
        let global = Global { root: Some("..".to_owned()), ..Global::new(Program::Skep) };
        assert!(caller("/x", None, false).state_root(&global).is_err());
    }
}
