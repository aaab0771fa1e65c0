//! The program: its folder, its path, its home, and the exec.

use std::os::fd::AsFd;

use sys::Errno;
use sys::fs::{FileType, OFlags};
use sys::process::Prepared;

use super::Child;
use crate::error::{Error, Result};
use crate::step::ChildStep;

/// Where a name without a slash is looked up when the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// No line of `/etc/passwd` beyond this many bytes is read.
const PASSWD_LIMIT: usize = 1 << 20;

impl Child<'_> {
    pub(super) fn change_folder(&mut self, path: &str) -> Result<()> {
        match sys::process::chdir(path) {
            Err(error) if matches!(error.errno(), Errno::ACCESS | Errno::PERM) => {
                self.progress.pending_folder = Some(path.to_owned());
                return Ok(());
            }
            other => other?,
        }
        check_inside()
    }

    /// The folder that root of the container could not enter may be the user's own.
    pub(super) fn enter_pending_folder(&mut self) -> Result<()> {
        match self.progress.pending_folder.take() {
            Some(path) => {
                sys::process::chdir(&path)?;
                check_inside()
            }
            None => Ok(()),
        }
    }

    pub(super) fn find_program(&mut self, name: &str, path: Option<&str>) -> Result<()> {
        let program = find(name, path.unwrap_or(DEFAULT_PATH))?;
        for planned in &self.plan.child {
            if let ChildStep::Execute { args, env } = &planned.step {
                let env = with_home(env);
                self.progress.program = Some(Prepared::new(&program, args, &env)?);
                self.progress.environment = env;
            }
        }
        Ok(())
    }

    /// Everything was prepared before the filter was loaded, so this is one call.
    pub(super) fn execute(&self, args: &[String]) -> Result<()> {
        let name = args.first().map_or("", String::as_str);
        let errno = self.progress.program.as_ref().map_or(Errno::NOENT, Prepared::execute);
        Err(program_error(name, &sys::error::Reason(errno).to_string()))
    }
}

/// The environment with a home. An empty one is none: programs would take it for the current folder.
fn with_home(env: &[String]) -> Vec<String> {
    let mut env: Vec<String> = env.iter().filter(|entry| *entry != "HOME=").cloned().collect();
    if !env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(format!("HOME={}", home_of(sys::process::effective_uid())));
    }
    env
}

/// A folder that is not below the root shows as `(unreachable)/...`: the way out that leaked descriptors have opened.
fn check_inside() -> Result<()> {
    let here = sys::process::current_dir()?;
    if here.starts_with('/') {
        return Ok(());
    }
    Err(Error::Unsupported(format!("current working directory is outside of container mount namespace root ({here})")))
}

/// The text that docker, containerd and podman look for.
fn program_error(name: &str, reason: &str) -> Error {
    Error::Child { text: format!("exec: {name:?}: {reason}"), source: None }
}

fn find(name: &str, path: &str) -> Result<String> {
    if name.contains('/') {
        return match executable(name) {
            Ok(()) => Ok(name.to_owned()),
            Err(Errno::NOENT) => Err(program_error(name, &format!("stat {name}: no such file or directory"))),
            Err(errno) => Err(program_error(name, &sys::error::Reason(errno).to_string())),
        };
    }
    let mut refused = None;
    for folder in path.split(':') {
        let candidate = if folder.is_empty() { format!("./{name}") } else { format!("{folder}/{name}") };
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            // The last two come of a filter around the runtime, and say nothing of the file.
            Err(errno @ (Errno::ACCESS | Errno::PERM | Errno::NOSYS)) => refused = Some(errno),
            Err(_) => {}
        }
    }
    match refused {
        Some(errno) => Err(program_error(name, &sys::error::Reason(errno).to_string())),
        None => Err(program_error(name, "executable file not found in $PATH")),
    }
}

/// A regular file that may be executed.
fn executable(path: &str) -> std::result::Result<(), Errno> {
    let file = sys::fs::open(path, OFlags::PATH).map_err(|e| e.errno())?;
    let stat = sys::fs::stat(file.as_fd()).map_err(|e| e.errno())?;
    // What execve says of anything but a file.
    if sys::fs::file_type(&stat) != FileType::RegularFile {
        return Err(Errno::ACCESS);
    }
    sys::fs::may_execute(path).map_err(|e| e.errno())
}

/// Home folder of a user by number, from the container's `/etc/passwd`; `/` when nothing is said there. A name that looks
/// like the number is not the user.
fn home_of(uid: u32) -> String {
    let read = || -> sys::Result<String> {
        let file = sys::fs::open("/etc/passwd", OFlags::RDONLY | OFlags::NONBLOCK)?;
        if sys::fs::file_type(&sys::fs::stat(file.as_fd())?) != FileType::RegularFile {
            return Ok(String::new());
        }
        sys::fs::read_limited(file.as_fd(), PASSWD_LIMIT).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    };
    // An image without a readable /etc/passwd has no home folders.
    read().ok().and_then(|text| home_in(&text, uid)).unwrap_or_else(|| "/".to_owned())
}

fn home_in(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.nth(2)?.parse::<u32>().ok()? == uid;
        found.then(|| fields.nth(2).unwrap_or_default().to_owned()).filter(|home| !home.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_found_by_number_not_by_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n1000:x:0:0::/evil:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n";
        assert_eq!(home_in(passwd, 1000).as_deref(), Some("/home/user"));
        assert_eq!(home_in(passwd, 7), None);
        assert_eq!(home_in("broken\n::\n:::::::", 0), None);
    }

    #[test]
    fn errors_say_what_callers_match() {
        let text = |name: &str| find(name, "/nowhere:/usr/bin").unwrap_err().to_string();
        assert_eq!(text("no-such-program"), "exec: \"no-such-program\": executable file not found in $PATH");
        assert_eq!(text("/no/such"), "exec: \"/no/such\": stat /no/such: no such file or directory");
        assert!(text("/etc/passwd").contains("permission denied"));
        assert!(text("/etc").contains("permission denied"));
        assert!(find("env", "/nowhere:/usr/bin").unwrap().ends_with("/usr/bin/env"));
    }
}
