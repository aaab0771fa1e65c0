//! Paths inside the container, from the descriptor of its root.
//!
//! A path is never looked up twice: what is opened here is what is mounted on. Folders are made one by one below
//! descriptors that are held, so that a link that somebody swaps in leads nowhere outside.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use sys::Errno;
use sys::fs::{self, FileType, OFlags};

use super::Child;
use crate::error::{Error, Result};

/// What a destination has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// A folder; made where it is not there.
    Folder,
    /// Something that is no folder; an empty file is made where it is not there.
    File,
}

/// Whether symbolic links in a path are followed (inside the root) or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// Followed, the container's root being `/`.
    Inside,
    /// Refused.
    Refused,
}

/// The kernel's own bound on links in one path.
const MAX_LINKS: usize = 40;

impl Child<'_> {
    /// The container's root.
    pub(super) fn root(&self) -> Result<BorrowedFd<'_>> {
        match &self.progress.root {
            Some(root) => Ok(root.as_fd()),
            None => Err(sys::Error::new("the root of the container is not known yet", Errno::BADF).into()),
        }
    }

    /// Opens what is at a path (O_PATH), without making anything.
    pub(super) fn look(&self, path: &str, links: Links) -> sys::Result<OwnedFd> {
        let root =
            self.root().map_err(|_| sys::Error::new("the root of the container is not known yet", Errno::BADF))?;
        open_at(root, path, OFlags::PATH, links)
    }

    /// Opens a destination (O_PATH), making what is missing of it.
    pub(super) fn make(&self, path: &str, want: Want, links: Links) -> Result<OwnedFd> {
        self.find_or_make(path, want, links).map(|(fd, _)| fd)
    }

    /// The same, with whether it was there before.
    pub(super) fn find_or_make(&self, path: &str, want: Want, links: Links) -> Result<(OwnedFd, bool)> {
        find_or_make(self.root()?, path, want, links)
    }
}

/// Opens a destination below a root (O_PATH), making what is missing of it, and tells whether it was there before.
pub(crate) fn find_or_make(root: BorrowedFd<'_>, path: &str, want: Want, links: Links) -> Result<(OwnedFd, bool)> {
    match open_at(root, path, OFlags::PATH, links) {
        Ok(fd) => return check_kind(fd, path, want).map(|fd| (fd, true)),
        Err(error) if error.is(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let (parent, name) = split(path);
    let dir = make_folders(root, &parent, links)?;
    let made = match want {
        _ if name.is_empty() => dir,
        Want::File => make_file(root, dir, &parent, &name, links, path)?,
        // A path that ends with `..` is no name to make.
        Want::Folder if name == ".." => make_folders(root, path, links)?,
        Want::Folder => match make_folder(dir.as_fd(), &name)? {
            Made::Folder(fd) => fd,
            Made::DanglingLink(_) => make_folders(root, path, links)?,
        },
    };
    check_kind(made, path, want).map(|fd| (fd, false))
}

/// Makes an empty file in a folder. A link that is there and leads to nothing is followed inside the root.
fn make_file(
    root: BorrowedFd<'_>,
    dir: OwnedFd,
    parent: &str,
    name: &str,
    links: Links,
    path: &str,
) -> Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY;
    match fs::open_at(dir.as_fd(), name, flags, 0o755) {
        Ok(file) => Ok(file),
        Err(error) if error.is(Errno::EXIST) && links == Links::Inside => {
            let target = fs::readlink_at(dir.as_fd(), name)?;
            let target = if target.starts_with('/') { target } else { format!("{parent}/{target}") };
            let (parent, name) = split(&target);
            let dir = make_folders(root, &parent, links)?;
            Ok(fs::open_at(dir.as_fd(), &name, flags, 0o755)?)
        }
        Err(error) => Err(Error::from(error).in_step(format!("make file {path}"))),
    }
}

/// Opens a folder, making what is missing of the path.
pub(crate) fn make_folders(root: BorrowedFd<'_>, path: &str, links: Links) -> Result<OwnedFd> {
    match open_at(root, path, OFlags::PATH | OFlags::DIRECTORY, links) {
        Err(error) if error.is(Errno::NOENT) => make_missing_folders(root, path, links),
        other => Ok(other?),
    }
}

fn make_missing_folders(root: BorrowedFd<'_>, path: &str, links: Links) -> Result<OwnedFd> {
    let mut rest: Vec<String> = parts(path).rev().map(str::to_owned).collect();
    let mut done: Vec<String> = Vec::new();
    let mut here = fs::open_at(root, ".", OFlags::PATH | OFlags::DIRECTORY, 0)?;
    let mut followed = 0;
    while let Some(name) = rest.pop() {
        if name == ".." {
            done.pop();
            here = open_at(root, &done.join("/"), OFlags::PATH | OFlags::DIRECTORY, links)?;
            continue;
        }
        done.push(name.clone());
        here = match open_at(root, &done.join("/"), OFlags::PATH | OFlags::DIRECTORY, links) {
            Ok(fd) => fd,
            Err(error) if error.is(Errno::NOENT) => match make_folder(here.as_fd(), &name)? {
                Made::Folder(fd) => fd,
                Made::DanglingLink(target) => {
                    followed += 1;
                    if links == Links::Refused || followed > MAX_LINKS {
                        return Err(sys::Error::new(format!("open({path:?}) in the container"), Errno::LOOP).into());
                    }
                    done.pop();
                    if target.starts_with('/') {
                        done.clear();
                    }
                    rest.extend(parts(&target).rev().map(str::to_owned));
                    open_at(root, &done.join("/"), OFlags::PATH | OFlags::DIRECTORY, links)?
                }
            },
            Err(error) => return Err(error.into()),
        };
    }
    Ok(here)
}

enum Made {
    Folder(OwnedFd),
    DanglingLink(String),
}

fn make_folder(dir: BorrowedFd<'_>, name: &str) -> Result<Made> {
    match fs::mkdir_at(dir, name, 0o755) {
        Err(error) if !error.is(Errno::EXIST) => return Err(error.into()),
        _ => {}
    }
    match fs::open_at(dir, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW, 0) {
        Ok(fd) => Ok(Made::Folder(fd)),
        Err(error) if error.is(Errno::NOTDIR) || error.is(Errno::LOOP) => {
            Ok(Made::DanglingLink(fs::readlink_at(dir, name)?))
        }
        Err(error) => Err(error.into()),
    }
}

fn open_at(root: BorrowedFd<'_>, path: &str, flags: OFlags, links: Links) -> sys::Result<OwnedFd> {
    let path = path.trim_start_matches('/');
    let path = if path.is_empty() { "." } else { path };
    match links {
        Links::Inside => fs::open_in_root(root, path, flags),
        Links::Refused => fs::open_in_root_no_links(root, path, flags),
    }
}

fn check_kind(fd: OwnedFd, path: &str, want: Want) -> Result<OwnedFd> {
    let is_folder = fs::file_type(&fs::stat(fd.as_fd())?) == FileType::Directory;
    match (want, is_folder) {
        (Want::Folder, true) | (Want::File, false) => Ok(fd),
        (Want::Folder, false) => Err(sys::Error::new(format!("{path} in the container"), Errno::NOTDIR).into()),
        (Want::File, true) => Err(sys::Error::new(format!("{path} in the container"), Errno::ISDIR).into()),
    }
}

/// Names of a path, without empty ones and `.`.
fn parts(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".")
}

/// The folder of a path and its last name.
pub(crate) fn split(path: &str) -> (String, String) {
    let mut names: Vec<&str> = parts(path).collect();
    let last = names.pop().unwrap_or_default().to_owned();
    (names.join("/"), last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_split_at_the_last_name() {
        let split = |path| split(path);
        assert_eq!(split("/a/b//c/"), ("a/b".to_owned(), "c".to_owned()));
        assert_eq!(split("/"), (String::new(), String::new()));
        assert_eq!(split("x"), (String::new(), "x".to_owned()));
    }

    #[test]
    fn folders_are_made_inside_whatever_links_say() {
        let dir = std::env::temp_dir().join(format!("skep-resolve-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("real")).unwrap();
        std::os::unix::fs::symlink("/outside/../new", dir.join("absolute")).unwrap();
        std::os::unix::fs::symlink("../../../../up", dir.join("real/relative")).unwrap();
        std::os::unix::fs::symlink("loop", dir.join("loop")).unwrap();
        let root = fs::open_dir(dir.to_str().unwrap()).unwrap();

        make_folders(root.as_fd(), "/absolute/x", Links::Inside).unwrap();
        assert!(dir.join("new/x").is_dir(), "an absolute dangling link is followed from the root");
        make_folders(root.as_fd(), "real/relative/y", Links::Inside).unwrap();
        assert!(dir.join("up/y").is_dir(), "a link cannot climb out of the root");
        assert!(make_folders(root.as_fd(), "absolute2/../absolute/z", Links::Refused).is_err());
        assert!(make_folders(root.as_fd(), "loop/z", Links::Inside).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
