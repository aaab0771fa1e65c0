//! Who called, from where, and what follows from that: the only reader of the environment.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};

use anyhow::{Context, bail};
use engine::options::{IdMapHelpers, SystemdOptions};
use systemd::Endpoint;

use crate::args::Global;
use crate::args::command::HandoverArgs;

/// What the command line leaves to the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Absolute current folder.
    pub cwd: String,
    /// `XDG_RUNTIME_DIR`, where it is set and not empty.
    pub xdg_runtime_dir: Option<String>,
    /// Whether the state of containers belongs to one user rather than to the machine.
    pub unprivileged: bool,
    /// How many descriptors from 3 on were passed by socket activation (sd_listen_fds(3)).
    pub listen_fds: u32,
    /// `NOTIFY_SOCKET`: where a service tells that it is ready (sd_notify(3)). Other kinds of addresses than a path and an
    /// abstract name lead out of the machine and are no concern of a container's.
    pub notify_socket: Option<String>,
}

/// The folder of the run-time state, and who chose it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRoot {
    /// Absolute, without `.` and `..`.
    pub path: String,
    /// Whether it is the default: one that does not exist is then an empty one.
    pub is_default: bool,
    /// Whether it is below a folder that is swept of old files: the sticky bit keeps it (XDG Base Directory
    /// Specification, `$XDG_RUNTIME_DIR`).
    pub needs_sticky_bit: bool,
}

impl Caller {
    /// Looks at the process and its environment.
    ///
    /// # Errors
    /// The path of the current folder is not UTF-8, or the id maps cannot be read.
    pub fn probe() -> anyhow::Result<Caller> {
        let cwd = match sys::process::current_dir() {
            // It was removed. Commands that need no relative path still work; for the others this path says ENOENT.
            Err(error) if error.is(sys::Errno::NOENT) => "/proc/self/cwd".to_owned(),
            other => other.context("cannot tell the current folder")?,
        };
        let xdg_runtime_dir = variable("XDG_RUNTIME_DIR");
        // The maps are read only where the answer matters.
        let ordinary = sys::process::effective_uid() != 0;
        let unprivileged =
            ordinary || (xdg_runtime_dir.is_some() && is_unprivileged().context("cannot read /proc/self/uid_map")?);
        let notify_socket = variable("NOTIFY_SOCKET").filter(|socket| socket.starts_with(['/', '@']));
        Ok(Caller { cwd, xdg_runtime_dir, unprivileged, listen_fds: listen_fds(), notify_socket })
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

    /// The programs that map ids for an ordinary user. Nobody else needs them.
    #[must_use]
    pub fn id_map_helpers(&self) -> IdMapHelpers {
        if sys::process::effective_uid() == 0 {
            return IdMapHelpers::default();
        }
        IdMapHelpers { newuidmap: find_program("newuidmap"), newgidmap: find_program("newgidmap") }
    }

    /// The service manager that makes cgroups for this caller: that of the machine, or a user's own.
    ///
    /// # Errors
    /// The id maps cannot be read.
    pub fn systemd(&self) -> anyhow::Result<SystemdOptions> {
        let user = is_ordinary().context("cannot read /proc/self/uid_map")?;
        let bus = variable(if user { "DBUS_SESSION_BUS_ADDRESS" } else { "DBUS_SYSTEM_BUS_ADDRESS" });
        Ok(SystemdOptions { endpoints: self.endpoints(user, bus), user })
    }

    /// Ways to the service manager, the best first: the machine's own socket is root's and needs no bus; a user's session
    /// bus is where other programs have the user's manager too.
    fn endpoints(&self, user: bool, bus: Option<String>) -> Vec<Endpoint> {
        let given = bus.map(|address| Endpoint { address, direct: false });
        if !user {
            let usual = Endpoint::at("/run/dbus/system_bus_socket", false);
            return vec![Endpoint::at("/run/systemd/private", true), given.unwrap_or(usual)];
        }
        let dir = self.xdg_runtime_dir.as_deref().map(|dir| self.absolute(dir));
        let at = |dir: &String| {
            [Endpoint::at(&format!("{dir}/bus"), false), Endpoint::at(&format!("{dir}/systemd/private"), true)]
        };
        given.into_iter().chain(dir.iter().flat_map(at)).collect()
    }

    /// The folder of the run-time state: `--root`, or `/run/skep`, or `skep` below the user's run-time folder, which is
    /// `XDG_RUNTIME_DIR`, else `/run/user/UID` (pam_systemd(8)) where that is the user's own.
    ///
    /// The default is the same for each name that the program is called by: what `runc` left in `/run/runc` is in
    /// runc's own format.
    ///
    /// # Errors
    /// `--root` names the root of the file system; an ordinary user has no run-time folder.
    pub fn state_root(&self, global: &Global) -> anyhow::Result<StateRoot> {
        if let Some(root) = &global.root {
            let path = self.absolute(root);
            if path == "/" {
                bail!("option --root should not be set to /");
            }
            return Ok(StateRoot { path, is_default: false, needs_sticky_bit: false });
        }
        Ok(match &self.xdg_runtime_dir {
            Some(dir) if self.unprivileged => {
                let path = format!("{}/skep", self.absolute(dir));
                StateRoot { path, is_default: true, needs_sticky_bit: true }
            }
            None if self.unprivileged => {
                let path = format!("{}/skep", session_dir(sys::process::effective_uid())?);
                StateRoot { path, is_default: true, needs_sticky_bit: true }
            }
            _ => StateRoot { path: "/run/skep".to_owned(), is_default: true, needs_sticky_bit: false },
        })
    }
}

impl StateRoot {
    /// Makes the folder, for its owner alone, and what is missing above it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn make(&self) -> anyhow::Result<()> {
        let path = &self.path;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.with_context(|| format!("cannot make the folder {path} for the state of containers"))?;
        if self.needs_sticky_bit {
            let set = fs::set_permissions(path, Permissions::from_mode(0o1700));
            set.with_context(|| format!("cannot set the sticky bit of {path}"))?;
        }
        Ok(())
    }
}

/// The run-time folder that a login gives to a user.
fn session_dir(uid: u32) -> anyhow::Result<String> {
    use std::os::unix::fs::MetadataExt;
    let dir = format!("/run/user/{uid}");
    match fs::metadata(&dir) {
        Ok(metadata) if metadata.is_dir() && metadata.uid() == uid => Ok(dir),
        _ => bail!(
            "no place for the state of containers: XDG_RUNTIME_DIR is not set and {dir} is not there (see --root)"
        ),
    }
}

/// A variable of the environment that is set, not empty, and text.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where programs are searched when there is no `PATH`: what a login of root has on Debian.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program of the host that the runtime starts, by `PATH`. This is the one place where it is looked for: the crates below
/// get the path.
#[must_use]
pub fn find_program(name: &str) -> Option<String> {
    sys::fs::find_executable(variable("PATH").as_deref().unwrap_or(DEFAULT_PATH), name)
}

/// How many descriptors from 3 on stay open for a new container: those of socket activation, and those that were asked for.
#[must_use]
pub fn kept_fds(handover: &HandoverArgs) -> u32 {
    handover.preserve_fds.saturating_add(listen_fds())
}

/// How many descriptors socket activation passed to this very process. It is asked for once before the program protects
/// itself, to keep them, and once by the protected program, which knows nothing but the environment.
pub fn listen_fds() -> u32 {
    let count = variable("LISTEN_FDS");
    // Without the second name, which is the rule, nothing else is asked.
    if count.is_none() { 0 } else { count_listen_fds(variable("LISTEN_PID"), count, sys::process::own_pid()) }
}

/// The same from what the variables say.
fn count_listen_fds(pid: Option<String>, count: Option<String>, own_pid: i32) -> u32 {
    let is_for_us = pid.and_then(|pid| pid.parse().ok()) == Some(own_pid);
    count.filter(|_| is_for_us).and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Whether the caller is an ordinary user: by its id, or as the root of a user namespace that such a user made.
///
/// Root of the machine keeps to `/run` even with `XDG_RUNTIME_DIR` set, and so does a user namespace in which `USER` is
/// `root`, as in runc.
fn is_unprivileged() -> io::Result<bool> {
    let root = sys::process::effective_uid() == 0;
    Ok(is_ordinary()? && !(root && std::env::var("USER").as_deref() == Ok("root")))
}

/// Whether the caller has not all rights of the machine's root.
fn is_ordinary() -> io::Result<bool> {
    if sys::process::effective_uid() != 0 {
        return Ok(true);
    }
    Ok(!has_every_id()?)
}

/// Whether the process is not in a user namespace that somebody made.
///
/// # Errors
/// The map cannot be read.
pub fn has_every_id() -> io::Result<bool> {
    fs::read_to_string("/proc/self/uid_map").map(|map| sys::namespace::maps_every_id(&map))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Program;

    fn caller(cwd: &str, xdg: Option<&str>, unprivileged: bool) -> Caller {
        let xdg_runtime_dir = xdg.map(str::to_owned);
        Caller { cwd: cwd.to_owned(), xdg_runtime_dir, unprivileged, listen_fds: 0, notify_socket: None }
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
    fn a_folder_of_the_session_must_be_there() {
        let refused = session_dir(u32::MAX - 7).expect_err("a user that does not exist").to_string();
        assert!(refused.contains("XDG_RUNTIME_DIR") && refused.contains("--root"), "{refused}");
    }

    #[test]
    fn programs_are_found_by_path() {
        assert_eq!(sys::fs::find_executable("relative:/no/such:/bin:/usr/bin", "sh").as_deref(), Some("/bin/sh"));
        assert_eq!(sys::fs::find_executable("/bin", "no-such-program"), None);
        assert_eq!(sys::fs::find_executable("/", "bin"), None);
    }

    #[test]
    fn a_users_default_root_is_kept_from_sweeping() {
        let user = caller("/", Some("/run/user/7"), true).state_root(&Global::new(Program::Skep)).expect("a root");
        assert!(user.needs_sticky_bit);
        let path = std::env::temp_dir().join(format!("caller-{}/a/skep", std::process::id()));
        let path = path.to_str().expect("a UTF-8 path").to_owned();
        let root = StateRoot { path: path.clone(), is_default: true, needs_sticky_bit: true };
        root.make().expect("a folder");
        root.make().expect("the same folder");
        let mode = fs::metadata(&path).expect("a folder").permissions().mode();
        assert_eq!(mode & 0o7777, 0o1700);
        fs::remove_dir_all(path.trim_end_matches("/a/skep")).expect("a folder to remove");
    }

    #[test]
    fn the_service_manager_is_the_machines_or_the_users() {
        let check = |user: bool, bus: Option<&str>, expected: &[&str]| {
            let endpoints = caller("/", Some("/run/user/7"), user).endpoints(user, bus.map(str::to_owned));
            let shown: Vec<String> =
                endpoints.iter().map(|e| format!("{}{}", if e.direct { "direct " } else { "" }, e.address)).collect();
            assert_eq!(shown, expected);
        };
        check(false, None, &["direct unix:path=/run/systemd/private", "unix:path=/run/dbus/system_bus_socket"]);
        check(false, Some("unix:path=/x"), &["direct unix:path=/run/systemd/private", "unix:path=/x"]);
        let own = ["unix:path=/run/user/7/bus", "direct unix:path=/run/user/7/systemd/private"];
        check(true, None, &own);
        check(true, Some("unix:abstract=y"), &["unix:abstract=y", own[0], own[1]]);
        assert!(caller("/", None, true).endpoints(true, None).is_empty());
    }

    #[test]
    fn activation_is_for_one_process() {
        let text = |value: &str| Some(value.to_owned());
        assert_eq!(count_listen_fds(text("7"), text("2"), 7), 2);
        assert_eq!(count_listen_fds(text("8"), text("2"), 7), 0);
        assert_eq!(count_listen_fds(None, text("2"), 7), 0);
        assert_eq!(count_listen_fds(text("7"), text("-2"), 7), 0);
        assert_eq!(count_listen_fds(text("7"), None, 7), 0);
    }

    #[test]
    fn the_root_cannot_be_the_whole_file_system() {
        let global = Global { root: Some("..".to_owned()), ..Global::new(Program::Skep) };
        assert!(caller("/x", None, false).state_root(&global).is_err());
    }
}
