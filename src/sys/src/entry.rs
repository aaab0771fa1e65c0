//! Entries of a tree whose names are bytes, as archives and other people's folders have them.
//!
//! A name of Linux is any bytes but `/` and NUL, so nothing here asks for UTF-8. Each call takes an open folder and one
//! path below it and never follows a link in the last place.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, Dev, FileType, Mode, OFlags, Stat, Timestamps, XattrFlags};
pub use rustix::fs::{ResolveFlags, Timespec};
use rustix::io::Errno;

use crate::error::{Context, Result};

/// `openat2(2)` with O_CLOEXEC, again for as long as a rename race makes the kernel say EAGAIN (at most 128 times).
///
/// # Errors
/// What the kernel says.
pub fn open(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: u32, resolve: ResolveFlags) -> Result<OwnedFd> {
    let mut tries = 0;
    loop {
        match fs::openat2(dir, path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(mode), resolve) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if tries < 128 => tries += 1,
            other => return other.call(|| format!("openat2({}, {}, {resolve:?})", fd(dir), text(path))),
        }
    }
}

/// `mkdirat(2)`.
///
/// # Errors
/// What the kernel says.
pub fn mkdir(dir: BorrowedFd<'_>, path: &[u8], mode: u32) -> Result<()> {
    fs::mkdirat(dir, path, Mode::from_raw_mode(mode)).call(|| format!("mkdirat({}, {})", fd(dir), text(path)))
}

/// `mknodat(2)`.
///
/// # Errors
/// What the kernel says.
pub fn mknod(dir: BorrowedFd<'_>, path: &[u8], kind: FileType, mode: u32, dev: Dev) -> Result<()> {
    fs::mknodat(dir, path, kind, Mode::from_raw_mode(mode), dev)
        .call(|| format!("mknodat({}, {}, {kind:?}, {}:{})", fd(dir), text(path), fs::major(dev), fs::minor(dev)))
}

/// `symlinkat(2)`.
///
/// # Errors
/// What the kernel says.
pub fn symlink(target: &[u8], dir: BorrowedFd<'_>, path: &[u8]) -> Result<()> {
    fs::symlinkat(target, dir, path).call(|| format!("symlinkat({}, {}, {})", text(target), fd(dir), text(path)))
}

/// `linkat(2)`; a symbolic link is linked itself.
///
/// # Errors
/// What the kernel says.
pub fn link(old_dir: BorrowedFd<'_>, old: &[u8], new_dir: BorrowedFd<'_>, new: &[u8]) -> Result<()> {
    fs::linkat(old_dir, old, new_dir, new, AtFlags::empty())
        .call(|| format!("linkat({}, {}, {}, {})", fd(old_dir), text(old), fd(new_dir), text(new)))
}

/// `unlinkat(2)` of what is no folder.
///
/// # Errors
/// What the kernel says.
pub fn unlink(dir: BorrowedFd<'_>, path: &[u8]) -> Result<()> {
    fs::unlinkat(dir, path, AtFlags::empty()).call(|| format!("unlinkat({}, {})", fd(dir), text(path)))
}

/// `unlinkat(2)` of an empty folder.
///
/// # Errors
/// What the kernel says.
pub fn rmdir(dir: BorrowedFd<'_>, path: &[u8]) -> Result<()> {
    fs::unlinkat(dir, path, AtFlags::REMOVEDIR).call(|| format!("unlinkat({}, {}, AT_REMOVEDIR)", fd(dir), text(path)))
}

/// `readlinkat(2)`.
///
/// # Errors
/// What the kernel says.
pub fn readlink(dir: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<u8>> {
    fs::readlinkat(dir, path, Vec::new())
        .map(std::ffi::CString::into_bytes)
        .call(|| format!("readlinkat({}, {})", fd(dir), text(path)))
}

/// `renameat2(2)` with RENAME_NOREPLACE.
///
/// # Errors
/// What the kernel says; EEXIST where `new` exists.
pub fn rename_new(old_dir: BorrowedFd<'_>, old: &[u8], new_dir: BorrowedFd<'_>, new: &[u8]) -> Result<()> {
    fs::renameat_with(old_dir, old, new_dir, new, fs::RenameFlags::NOREPLACE)
        .call(|| format!("renameat2({}, {}, {}, {})", fd(old_dir), text(old), fd(new_dir), text(new)))
}

/// `fstatat(2)`.
///
/// # Errors
/// What the kernel says.
pub fn stat(dir: BorrowedFd<'_>, path: &[u8]) -> Result<Stat> {
    fs::statat(dir, path, AtFlags::SYMLINK_NOFOLLOW).call(|| format!("fstatat({}, {})", fd(dir), text(path)))
}

/// `fchownat(2)`. The kernel takes the bits for set-user-id, set-group-id and file capabilities away.
///
/// # Errors
/// What the kernel says; EINVAL for an id that this user namespace has not.
pub fn chown(dir: BorrowedFd<'_>, path: &[u8], uid: u32, gid: u32) -> Result<()> {
    let (owner, group) = (fs::Uid::from_raw(uid), fs::Gid::from_raw(gid));
    fs::chownat(dir, path, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)
        .call(|| format!("fchownat({}, {}, {uid}, {gid})", fd(dir), text(path)))
}

/// `fchmodat(2)`, which follows a symbolic link: it is for what the caller knows to be none.
///
/// # Errors
/// What the kernel says.
pub fn chmod(dir: BorrowedFd<'_>, path: &[u8], mode: u32) -> Result<()> {
    fs::chmodat(dir, path, Mode::from_raw_mode(mode), AtFlags::empty())
        .call(|| format!("fchmodat({}, {}, {mode:#o})", fd(dir), text(path)))
}

/// `utimensat(2)`: times of the last access and the last change.
///
/// # Errors
/// What the kernel says.
pub fn set_times(dir: BorrowedFd<'_>, path: &[u8], access: Timespec, change: Timespec) -> Result<()> {
    let times = Timestamps { last_access: access, last_modification: change };
    fs::utimensat(dir, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .call(|| format!("utimensat({}, {}, {}.{:09})", fd(dir), text(path), change.tv_sec, change.tv_nsec))
}

/// `futimens(3)`: the same for an open file.
///
/// # Errors
/// What the kernel says.
pub fn set_times_of(file: BorrowedFd<'_>, access: Timespec, change: Timespec) -> Result<()> {
    let times = Timestamps { last_access: access, last_modification: change };
    fs::futimens(file, &times).call(|| format!("futimens({}, {}.{:09})", fd(file), change.tv_sec, change.tv_nsec))
}

/// `lsetxattr(2)` of an entry of any kind. It goes through `/proc/self/fd`, as no call takes a folder and a name before
/// Linux 6.13. The path `.` is the folder itself.
///
/// # Errors
/// What the kernel says.
pub fn set_xattr(dir: BorrowedFd<'_>, path: &[u8], name: &[u8], value: &[u8]) -> Result<()> {
    fs::lsetxattr(through_proc(dir, path), name, value, XattrFlags::empty())
        .call(|| format!("lsetxattr({}, {}, {}, {} bytes)", fd(dir), text(path), text(name), value.len()))
}

/// `lgetxattr(2)` of an entry of any kind.
///
/// # Errors
/// What the kernel says; ENODATA where it has none of this name.
pub fn get_xattr(dir: BorrowedFd<'_>, path: &[u8], name: &[u8]) -> Result<Vec<u8>> {
    let full = through_proc(dir, path);
    let mut value = vec![0; 256];
    loop {
        match fs::lgetxattr(full.as_slice(), name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                return Ok(value);
            }
            // The kernel's bound is 64 KiB (XATTR_SIZE_MAX).
            Err(Errno::RANGE) if value.len() < 1 << 16 => value.resize(1 << 16, 0),
            Err(errno) => {
                return Err(errno).call(|| format!("lgetxattr({}, {}, {})", fd(dir), text(path), text(name)));
            }
        }
    }
}

/// `llistxattr(2)` of an entry of any kind: the names, in the kernel's order.
///
/// # Errors
/// What the kernel says.
pub fn list_xattrs(dir: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<Vec<u8>>> {
    let full = through_proc(dir, path);
    let mut names = vec![0; 1024];
    loop {
        match fs::llistxattr(full.as_slice(), &mut names[..]) {
            Ok(length) => {
                let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
                return Ok(names.map(<[u8]>::to_vec).collect());
            }
            // The kernel's bound is 64 KiB (XATTR_LIST_MAX).
            Err(Errno::RANGE) if names.len() < 1 << 16 => names.resize(1 << 16, 0),
            Err(errno) => return Err(errno).call(|| format!("llistxattr({}, {})", fd(dir), text(path))),
        }
    }
}

/// Names in an open folder, without `.` and `..`, in the kernel's order.
///
/// # Errors
/// What the kernel says.
pub fn list(dir: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in fs::Dir::read_from(dir).call(|| format!("getdents64({})", fd(dir)))? {
        let entry = entry.call(|| format!("getdents64({})", fd(dir)))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// `ftruncate(2)`: sets the length of an open file, with a hole where it grows.
///
/// # Errors
/// What the kernel says; EFBIG past what the file system has room to say.
pub fn set_length(file: BorrowedFd<'_>, length: u64) -> Result<()> {
    fs::ftruncate(file, length).call(|| format!("ftruncate({}, {length})", fd(file)))
}

/// The ioctl FICLONE: an empty file gets the content of another, whose blocks both share from then on (btrfs, xfs).
///
/// # Errors
/// What the kernel says; EOPNOTSUPP, EINVAL or ENOTTY where the file system cannot, EXDEV where it is not the same one.
pub fn share_content(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    fs::ioctl_ficlone(to, from).call(|| format!("ioctl({}, FICLONE, {})", fd(to), fd(from)))
}

/// `lseek(2)` to a place from the start.
///
/// # Errors
/// What the kernel says.
pub fn seek(file: BorrowedFd<'_>, to: u64) -> Result<()> {
    fs::seek(file, fs::SeekFrom::Start(to)).map(drop).call(|| format!("lseek({}, {to})", fd(file)))
}

/// `lseek(2)` with SEEK_DATA and SEEK_HOLE: the first piece of data at or after a place, as start and end. None when only
/// a hole follows. The file position moves.
///
/// # Errors
/// What the kernel says.
pub fn next_data(file: BorrowedFd<'_>, from: u64) -> Result<Option<(u64, u64)>> {
    match fs::seek(file, fs::SeekFrom::Data(from)) {
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno).call(|| format!("lseek({}, {from}, SEEK_DATA)", fd(file))),
        Ok(start) => {
            let end = fs::seek(file, fs::SeekFrom::Hole(start)).call(|| format!("lseek({}, SEEK_HOLE)", fd(file)))?;
            Ok(Some((start, end)))
        }
    }
}

/// `syncfs(2)`: everything written to the file system of `file` is on disk.
///
/// # Errors
/// What the kernel says, earlier failures of writing back included (Linux 5.8).
pub fn sync_file_system(file: BorrowedFd<'_>) -> Result<()> {
    fs::syncfs(file).call(|| format!("syncfs({})", fd(file)))
}

/// The effective user id is 0.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn through_proc(dir: BorrowedFd<'_>, path: &[u8]) -> Vec<u8> {
    let mut full = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    full.extend_from_slice(path);
    full
}

fn fd(dir: BorrowedFd<'_>) -> String {
    crate::fs::shown(dir.as_fd())
}

/// How bytes are shown in an error: quoted, with what is no text escaped.
fn text(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}
