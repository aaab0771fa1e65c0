//! A root file system of one static busybox, for trying things and for tests.
//!
//! ```text
//! bin/busybox      a copy of the host's
//! bin/sh …         a symbolic link to it for each command that it knows
//! sbin usr/bin usr/sbin   links to /bin
//! etc/             passwd group hosts resolv.conf
//! dev proc sys run home tmp root   empty
//! ```

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Empty folders and their modes.
const FOLDERS: [(&str, u32); 11] = [
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
];

/// Where programs look for commands, all led to the one folder that has them.
const LINKS: [(&str, &str); 3] = [("sbin", "bin"), ("usr/bin", "../bin"), ("usr/sbin", "../bin")];

const FILES: [(&str, &str); 4] = [
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n"),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    // Empty: an engine binds its own over it.
    ("etc/resolv.conf", ""),
];

/// Why a root file system could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A step on a file failed.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The busybox did not list its commands.
    #[error("{} --list ended with {status}", busybox.display())]
    List {
        /// The program.
        busybox: PathBuf,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// The busybox needs a loader and libraries, which the root file system would lack.
    #[error("{} is not static: install busybox-static", .0.display())]
    Dynamic(PathBuf),
}

/// Fills `dir` with a small root file system whose commands are those of the static `busybox`.
///
/// `dir` is made when it is missing. What is there already stays, and the own files are written anew, so that a second
/// call brings a damaged tree back to order.
///
/// # Errors
/// [`Error::Dynamic`] for a busybox that has an interpreter, [`Error::List`] when it does not list its commands,
/// [`Error::File`] for a step that the file system refuses.
pub fn busybox(dir: &Path, busybox: &Path) -> Result<(), Error> {
    let image = fs::read(busybox).map_err(at("read", busybox))?;
    if has_interpreter(&image) {
        return Err(Error::Dynamic(busybox.to_owned()));
    }
    let applets = list_applets(busybox)?;
    fs::create_dir_all(dir).map_err(at("make", dir))?;
    for (name, mode) in FOLDERS {
        make_folder(&dir.join(name), mode)?;
    }
    for (name, target) in LINKS {
        make_link(&dir.join(name), Path::new(target))?;
    }
    for (name, text) in FILES {
        write_file(&dir.join(name), text.as_bytes(), 0o644)?;
    }
    write_file(&dir.join("bin/busybox"), &image, 0o755)?;
    for applet in applets.iter().filter(|applet| *applet != "busybox") {
        make_link(&dir.join("bin").join(applet), Path::new("busybox"))?;
    }
    Ok(())
}

fn at<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + use<'a> {
    move |source| Error::File { action, path: path.to_owned(), source }
}

/// Asks the program itself, so that every link leads to a command that it has.
fn list_applets(busybox: &Path) -> Result<Vec<String>, Error> {
    let output = Command::new(busybox).arg("--list").output().map_err(at("run", busybox))?;
    if !output.status.success() {
        return Err(Error::List { busybox: busybox.to_owned(), status: output.status });
    }
    Ok(parse_applets(&String::from_utf8_lossy(&output.stdout)))
}

fn parse_applets(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|name| !name.is_empty() && !name.contains('/')).map(str::to_owned).collect()
}

/// Whether a 64-bit ELF image has a `PT_INTERP` header. Anything else is left to the kernel to judge.
fn has_interpreter(image: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let number = |at: usize, bytes: usize| {
        let field = image.get(at..at + bytes)?;
        Some(field.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte)))
    };
    // Little-endian, 64 bit: e_phoff at 32, e_phentsize at 54, e_phnum at 56; p_type comes first in a header.
    if image.get(..6) != Some(b"\x7fELF\x02\x01") {
        return false;
    }
    let (Some(start), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2)) else { return false };
    (0..count).any(|index| {
        let at = start.saturating_add(index * size);
        usize::try_from(at).ok().and_then(|at| number(at, 4)) == Some(u64::from(PT_INTERP))
    })
}

fn make_folder(path: &Path, mode: u32) -> Result<(), Error> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(at("make", path)(error)),
        _ => {}
    }
    // Not by the mode of mkdir: the caller's umask would take bits away.
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(at("set the mode of", path))
}

fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    remove(path)?;
    fs::write(path, bytes).map_err(at("write", path))?;
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(at("set the mode of", path))
}

fn make_link(path: &Path, target: &Path) -> Result<(), Error> {
    remove(path)?;
    symlink(target, path).map_err(at("link", path))
}

/// Removes a file or a link that an earlier call left: writing through it would follow it.
fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that lists applets as busybox does. A script is no ELF image, so it counts as static.
    fn fake(dir: &Path, script: &str) -> PathBuf {
        let path = dir.join("fake");
        write_file(&path, format!("#!/bin/sh\n{script}\n").as_bytes(), 0o755).unwrap();
        path
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn the_tree_has_its_folders_files_and_commands() {
        let temporary = tempfile::tempdir().unwrap();
        let program = fake(temporary.path(), "printf 'busybox\\nsh\\nls\\n'");
        let root = temporary.path().join("a/rootfs");
        busybox(&root, &program).unwrap();
        assert_eq!(mode(&root.join("tmp")), 0o1777);
        assert_eq!(mode(&root.join("root")), 0o700);
        assert_eq!(mode(&root.join("bin/busybox")), 0o755);
        assert_eq!(fs::read(root.join("usr/sbin/busybox")).unwrap(), fs::read(&program).unwrap());
        for applet in ["sh", "ls"] {
            assert_eq!(fs::read_link(root.join("bin").join(applet)).unwrap(), Path::new("busybox"));
        }
        assert!(fs::read_to_string(root.join("etc/passwd")).unwrap().starts_with("root:x:0:0:"));
        assert_eq!(fs::read_dir(root.join("proc")).unwrap().count(), 0);
    }

    #[test]
    fn a_second_call_repairs_and_keeps() {
        let temporary = tempfile::tempdir().unwrap();
        let program = fake(temporary.path(), "echo sh");
        let root = temporary.path().join("rootfs");
        busybox(&root, &program).unwrap();
        let outside = temporary.path().join("outside");
        fs::write(&outside, "mine").unwrap();
        fs::remove_file(root.join("etc/passwd")).unwrap();
        symlink(&outside, root.join("etc/passwd")).unwrap();
        fs::write(root.join("home/kept"), "kept").unwrap();
        busybox(&root, &program).unwrap();
        assert_eq!(fs::read_to_string(&outside).unwrap(), "mine");
        assert!(fs::read_to_string(root.join("etc/passwd")).unwrap().starts_with("root:"));
        assert_eq!(fs::read_to_string(root.join("home/kept")).unwrap(), "kept");
    }

    #[test]
    fn a_program_that_does_not_list_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let program = fake(temporary.path(), "exit 3");
        let error = busybox(&temporary.path().join("rootfs"), &program).unwrap_err();
        assert!(error.to_string().ends_with("fake --list ended with exit status: 3"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = busybox(Path::new("unused"), Path::new("/nonexistent/busybox")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nonexistent/busybox");
    }

    /// An ELF header with one program header of this type.
    fn elf(kind: u8) -> Vec<u8> {
        let mut image = b"\x7fELF\x02\x01".to_vec();
        image.resize(64 + 56, 0);
        (image[32], image[54], image[56], image[64]) = (64, 56, 1, kind);
        image
    }

    #[test]
    fn an_interpreter_is_seen_in_the_program_headers() {
        assert!(has_interpreter(&elf(3)));
        assert!(!has_interpreter(&elf(1)));
        assert!(!has_interpreter(&elf(3)[..60]));
        assert!(!has_interpreter(b"#!/bin/sh"));
    }

    #[test]
    fn applets_are_names_only() {
        assert_eq!(parse_applets("sh\n\n ls \nbin/x\n"), ["sh", "ls"]);
    }
}
