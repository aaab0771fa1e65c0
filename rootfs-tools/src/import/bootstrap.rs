//! Root file systems that a program installs from a distribution's packages: mmdebstrap writes an archive, debootstrap
//! fills a folder.
//!
//! Such a program mounts `/proc`, `/sys` and devices in the tree and runs what packages bring. It runs in a mount and a pid
//! namespace of its own: when this process is killed, the kernel ends all of it and no mount is left. All of it has the lock
//! of the work open, so nobody takes the tree for a left one while something of it still writes.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::remove::remove_tree;
use crate::store::{Image, Work, at, called};

use super::{Import, ImportError};

/// Which program it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installer {
    /// `mmdebstrap`, called as `mmdebstrap OPTIONS SUITE - MIRRORS`.
    Mmdebstrap,
    /// `debootstrap`, called as `debootstrap OPTIONS SUITE FOLDER MIRROR`.
    Debootstrap,
}

/// What to install, and with which program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// The shell, which starts the program apart from everything else. It needs util-linux.
    pub shell: PathBuf,
    /// The program.
    pub program: PathBuf,
    /// How it is called.
    pub installer: Installer,
    /// Options in front, as the program has them: `--variant=minbase`, `--include=init`.
    pub options: Vec<String>,
    /// The release: `bookworm`.
    pub suite: String,
    /// Where its packages are: addresses, lines of a sources.list, files. Empty asks the program's own default.
    pub mirrors: Vec<String>,
}

impl Bootstrap {
    /// Tells the installer by the program's name; none for another name.
    #[must_use]
    pub fn parse_installer(program: &Path) -> Option<Installer> {
        match program.file_name()?.to_str()? {
            "mmdebstrap" => Some(Installer::Mmdebstrap),
            "debootstrap" => Some(Installer::Debootstrap),
            _ => None,
        }
    }

    /// The arguments; `target` is where a folder is wanted.
    fn arguments(&self, target: &Path) -> Vec<String> {
        let mut arguments = self.options.clone();
        arguments.push(self.suite.clone());
        arguments.push(match self.installer {
            Installer::Mmdebstrap => "-".to_owned(),
            Installer::Debootstrap => target.display().to_string(),
        });
        arguments.extend(self.mirrors.iter().cloned());
        arguments
    }
}

impl fmt::Display for Bootstrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.program.display(), self.suite)
    }
}

/// Runs the program and makes a layer of what it builds. What it says goes to a file: its end is part of an error.
pub(super) fn build(import: &Import<'_>, bootstrap: &Bootstrap) -> Result<Image, ImportError> {
    let program = &bootstrap.program;
    let failed = |source| ImportError::File { action: "run", path: program.clone(), source };
    let (said, target) = (import.work.path.join("said"), import.work.path.join("target"));
    let log = File::create_new(&said).map_err(at("make", &said))?;
    let mut command = apart(bootstrap, &import.work)?;
    command.args(bootstrap.arguments(&target));
    command.stderr(log.try_clone().map_err(at("write", &said))?);
    let end = |status: ExitStatus| {
        let program = program.display().to_string();
        if status.success() { Ok(()) } else { Err(ImportError::Program { program, status, said: read_end(&said) }) }
    };
    match bootstrap.installer {
        Installer::Debootstrap => {
            command.stdout(log);
            end(command.status().map_err(failed)?)?;
            let image = import.folder(&target)?;
            remove_tree(&target).map_err(called("remove", &target))?;
            Ok(image)
        }
        Installer::Mmdebstrap => {
            import.started(None);
            let mut child = command.stdout(Stdio::piped()).spawn().map_err(failed)?;
            let output = child.stdout.take().expect("a pipe was asked for");
            // It is read to its end or dropped, so that the program ends either way.
            let image = import.single(Box::new(output));
            let status = child.wait().map_err(failed)?;
            match (image, end(status)) {
                // When it failed, an archive that is cut off is the consequence.
                (Err(error), Err(_)) if !super::is_early_end(&error) => Err(error),
                (_, Err(error)) => Err(error),
                (image, Ok(())) => image,
            }
        }
    }
}

/// How the program gets namespaces of its own: by util-linux, which every system with dpkg has. The lock of the work comes
/// as standard input and stays open under another number; `exec` keeps the one process, which ends with this thread.
const APART: &str = "exec 9<&0 </dev/null; \
    exec setpriv --pdeathsig KILL -- unshare --mount --propagation private --pid --fork --kill-child --mount-proc -- \"$@\"";

/// The call of a program that ends with its caller, with everything that it started and mounted.
fn apart(bootstrap: &Bootstrap, work: &Work) -> Result<Command, ImportError> {
    let lock = work.lock().map_err(at("open", &work.path))?;
    let mut command = Command::new(&bootstrap.shell);
    command.args(["-c", APART, "sh"]).arg(&bootstrap.program);
    command.stdin(Stdio::from(lock));
    Ok(command)
}

/// The last lines of what a program said, in one line.
fn read_end(said: &Path) -> String {
    let text = fs::read(said).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_is_called_as_it_wants() {
        let mut bootstrap = Bootstrap {
            shell: "/bin/sh".into(),
            program: "/usr/sbin/debootstrap".into(),
            installer: Bootstrap::parse_installer(Path::new("/usr/sbin/debootstrap")).unwrap(),
            options: vec!["--variant=minbase".into()],
            suite: "bookworm".into(),
            mirrors: vec!["file:///mirror".into()],
        };
        let words = |bootstrap: &Bootstrap| bootstrap.arguments(Path::new("/t")).join(" ");
        assert_eq!(words(&bootstrap), "--variant=minbase bookworm /t file:///mirror");
        bootstrap.installer = Bootstrap::parse_installer(Path::new("mmdebstrap")).unwrap();
        assert_eq!(words(&bootstrap), "--variant=minbase bookworm - file:///mirror");
        assert_eq!(Bootstrap::parse_installer(Path::new("/bin/sh")), None);
    }
}
