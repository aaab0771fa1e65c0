//! Where a destination leads. CRIU knows mounts by where they are, a definition by how one gets there.

use std::os::fd::{AsFd, BorrowedFd};

use sys::fs::{self, FileType, OFlags};
use sys::{Errno, ProcFs};

use crate::error::Result;

/// The mount point that a destination stands for: symbolic links are followed inside the root, and names that are not
/// there are taken as they are written.
///
/// `rootfs` is the path of `root`. The same question gets the same answer before the dump and before the restore, since it
/// is asked of the root file system without the mounts in it.
///
/// # Errors
/// What the kernel says, but for names that are not there.
pub(crate) fn mount_point(proc: &ProcFs, root: BorrowedFd<'_>, rootfs: &str, destination: &str) -> Result<String> {
    let clean = clean(destination);
    let mut end = clean.len();
    loop {
        let (known, rest) = clean.split_at(end);
        match fs::open_in_root(
            root,
            known.strip_prefix('/').filter(|path| !path.is_empty()).unwrap_or("."),
            OFlags::PATH,
        ) {
            Ok(fd) => {
                let path = proc.path_of(fd.as_fd())?;
                let inside = path.strip_prefix(rootfs.trim_end_matches('/')).unwrap_or(known);
                return Ok(format!("{inside}{rest}"));
            }
            Err(error) if end > 0 && (error.is(Errno::NOENT) || error.is(Errno::NOTDIR)) => {
                end = known.rfind('/').unwrap_or(0);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The mount point behind a path of a running container, where that is a file; a folder, or nothing, is `None`.
///
/// # Errors
/// What the kernel says, but for names that are not there.
pub(crate) fn covered_file(proc: &ProcFs, root: BorrowedFd<'_>, path: &str) -> Result<Option<String>> {
    let fd = match fs::open_in_root(root, clean(path).trim_start_matches('/'), OFlags::PATH) {
        Err(error) if error.is(Errno::NOENT) || error.is(Errno::NOTDIR) => return Ok(None),
        other => other?,
    };
    match fs::file_type(&fs::stat(fd.as_fd())?) {
        FileType::Directory => Ok(None),
        _ => Ok(Some(proc.path_of(fd.as_fd())?)),
    }
}

/// `//a/./b/` is `/a/b`, and `/` is empty. `..` stays: what it leads to depends on links.
fn clean(path: &str) -> String {
    path.split('/').filter(|name| !name.is_empty() && *name != ".").fold(String::new(), |path, name| path + "/" + name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_lead_to_mount_points() {
        let dir = std::env::temp_dir().join(format!("skep-places-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("real/conf")).unwrap();
        std::fs::write(dir.join("file"), "").unwrap();
        std::os::unix::fs::symlink("/real/conf", dir.join("conf")).unwrap();
        std::os::unix::fs::symlink("../../../real", dir.join("up")).unwrap();
        let dir = dir.canonicalize().unwrap();
        let rootfs = dir.to_str().unwrap();
        let (proc, root) = (ProcFs::open().unwrap(), fs::open_dir(rootfs).unwrap());
        let check = |destination: &str, expected: &str| {
            assert_eq!(mount_point(&proc, root.as_fd(), rootfs, destination).unwrap(), expected, "{destination}");
        };
        check("/conf", "/real/conf");
        check("/conf/./new//deep/", "/real/conf/new/deep");
        check("/up/conf", "/real/conf");
        check("/nowhere/at/all", "/nowhere/at/all");
        check("/file/below", "/file/below");
        check("/", "");
        let file = |path: &str| covered_file(&proc, root.as_fd(), path).unwrap();
        assert_eq!(file("/file"), Some(format!("{rootfs}/file")));
        assert_eq!(file("/conf"), None);
        assert_eq!(file("/none"), None);
        std::fs::remove_dir_all(rootfs).unwrap();
    }
}
