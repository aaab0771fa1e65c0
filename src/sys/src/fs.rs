//! Files by descriptor: open, create, read, write, look.
//!
//! Paths are resolved below a folder that the caller holds open. [`open_beneath`] and [`open_in_root`] are the ones for
//! trees that somebody else can change while we look.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, ResolveFlags, StatxAttributes, StatxFlags};
pub use rustix::fs::{Dev, FileType, FlockOperation, Mode, OFlags, Stat, StatFs, major, makedev, minor};
use rustix::io::Errno;

use crate::error::{Context, Error, Result};

/// The current working folder, for the `*at` calls.
pub use rustix::fs::CWD;

/// `openat(2)` with O_CLOEXEC.
///
/// # Errors
/// What the kernel says.
pub fn open_at(dir: BorrowedFd<'_>, path: &str, flags: OFlags, mode: u32) -> Result<OwnedFd> {
    fs::openat(dir, path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(mode))
        .call(|| format!("openat({}, {:?})", shown(dir), path))
}

/// Opens a path of the host as it stands.
///
/// # Errors
/// What the kernel says.
pub fn open(path: &str, flags: OFlags) -> Result<OwnedFd> {
    fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).call(|| format!("open({path:?})"))
}

/// Opens a folder of the host as a place to work from.
///
/// # Errors
/// What the kernel says.
pub fn open_dir(path: &str) -> Result<OwnedFd> {
    fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .call(|| format!("open({path:?}, O_PATH|O_DIRECTORY)"))
}

/// `openat2(2)` that never leaves `dir`: no `..` out of it, no absolute or magic link, no other mount.
///
/// # Errors
/// What the kernel says; EXDEV or ELOOP where the path would leave.
pub fn open_beneath(dir: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    openat2(dir, path, flags, 0, how)
}

/// `openat2(2)` with `dir` as `/`: links are followed inside it, magic links are not.
///
/// # Errors
/// What the kernel says.
pub fn open_in_root(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd> {
    openat2(root, path, flags, 0, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// As [`open_in_root`], but a symbolic link anywhere in the path is refused.
///
/// # Errors
/// What the kernel says; ELOOP for a link.
pub fn open_in_root_no_links(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd> {
    openat2(root, path, flags, 0, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS)
}

/// `openat2(2)`, again for as long as a rename race makes the kernel say EAGAIN (at most 128 times).
///
/// # Errors
/// What the kernel says.
pub fn openat2(dir: BorrowedFd<'_>, path: &str, flags: OFlags, mode: u32, resolve: ResolveFlags) -> Result<OwnedFd> {
    for _ in 0..128 {
        match fs::openat2(dir, path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(mode), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other.call(|| format!("openat2({}, {path:?}, {resolve:?})", shown(dir))),
        }
    }
    Err(Errno::AGAIN).call(|| format!("openat2({}, {path:?}, {resolve:?})", shown(dir)))
}

/// `mkdirat(2)`.
///
/// # Errors
/// What the kernel says.
pub fn mkdir_at(dir: BorrowedFd<'_>, path: &str, mode: u32) -> Result<()> {
    fs::mkdirat(dir, path, Mode::from_raw_mode(mode)).call(|| format!("mkdirat({}, {path:?})", shown(dir)))
}

/// `unlinkat(2)` of a file.
///
/// # Errors
/// What the kernel says.
pub fn unlink_at(dir: BorrowedFd<'_>, path: &str) -> Result<()> {
    fs::unlinkat(dir, path, AtFlags::empty()).call(|| format!("unlinkat({}, {path:?})", shown(dir)))
}

/// `unlinkat(2)` of an empty folder.
///
/// # Errors
/// What the kernel says.
pub fn rmdir_at(dir: BorrowedFd<'_>, path: &str) -> Result<()> {
    fs::unlinkat(dir, path, AtFlags::REMOVEDIR).call(|| format!("rmdir({}, {path:?})", shown(dir)))
}

/// `symlinkat(2)`.
///
/// # Errors
/// What the kernel says.
pub fn symlink_at(target: &str, dir: BorrowedFd<'_>, path: &str) -> Result<()> {
    fs::symlinkat(target, dir, path).call(|| format!("symlinkat({target:?}, {}, {path:?})", shown(dir)))
}

/// `readlinkat(2)`; an empty path reads the link that `dir` itself is.
///
/// # Errors
/// What the kernel says; EILSEQ where the target is not UTF-8.
pub fn readlink_at(dir: BorrowedFd<'_>, path: &str) -> Result<String> {
    fs::readlinkat(dir, path, Vec::new())
        .and_then(|target: CString| target.into_string().map_err(|_| Errno::ILSEQ))
        .call(|| format!("readlinkat({}, {path:?})", shown(dir)))
}

/// `mknodat(2)`.
///
/// # Errors
/// What the kernel says.
pub fn mknod_at(dir: BorrowedFd<'_>, path: &str, kind: FileType, mode: u32, dev: Dev) -> Result<()> {
    fs::mknodat(dir, path, kind, Mode::from_raw_mode(mode), dev)
        .call(|| format!("mknodat({}, {path:?}, {kind:?}, {}:{})", shown(dir), major(dev), minor(dev)))
}

/// `renameat(2)`.
///
/// # Errors
/// What the kernel says.
pub fn rename_at(old_dir: BorrowedFd<'_>, old: &str, new_dir: BorrowedFd<'_>, new: &str) -> Result<()> {
    fs::renameat(old_dir, old, new_dir, new)
        .call(|| format!("renameat({}, {old:?}, {}, {new:?})", shown(old_dir), shown(new_dir)))
}

/// `fchmod(2)`; for an O_PATH descriptor see [`chmod_at`].
///
/// # Errors
/// What the kernel says.
pub fn chmod(fd: BorrowedFd<'_>, mode: u32) -> Result<()> {
    fs::fchmod(fd, Mode::from_raw_mode(mode)).call(|| format!("fchmod({}, {mode:#o})", shown(fd)))
}

/// `fchownat(2)` without following a link; an empty path means `dir` itself.
///
/// # Errors
/// What the kernel says.
pub fn chown_at(dir: BorrowedFd<'_>, path: &str, uid: u32, gid: u32) -> Result<()> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    fs::chownat(dir, path, Some(fs::Uid::from_raw(uid)), Some(fs::Gid::from_raw(gid)), flags)
        .call(|| format!("fchownat({}, {path:?}, {uid}, {gid})", shown(dir)))
}

/// `fstat(2)`.
///
/// # Errors
/// What the kernel says.
pub fn stat(fd: BorrowedFd<'_>) -> Result<Stat> {
    fs::fstat(fd).call(|| format!("fstat({})", shown(fd)))
}

/// The number that mountinfo has for the mount that a file was opened by, and whether the file is what is mounted.
///
/// Kernel: statx(2), `STATX_MNT_ID` and `STATX_ATTR_MOUNT_ROOT` (5.8).
///
/// # Errors
/// What the kernel says.
pub fn mount_of(fd: BorrowedFd<'_>) -> Result<(u64, bool)> {
    let seen = fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
        .call(|| format!("statx({}, STATX_MNT_ID)", shown(fd)))?;
    Ok((seen.stx_mnt_id, seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)))
}

/// `fstatat(2)` without following a link in the last place.
///
/// # Errors
/// What the kernel says.
pub fn stat_at(dir: BorrowedFd<'_>, path: &str) -> Result<Stat> {
    fs::statat(dir, path, AtFlags::SYMLINK_NOFOLLOW).call(|| format!("fstatat({}, {path:?})", shown(dir)))
}

/// `fstatfs(2)`.
///
/// # Errors
/// What the kernel says.
pub fn statfs(fd: BorrowedFd<'_>) -> Result<StatFs> {
    fs::fstatfs(fd).call(|| format!("fstatfs({})", shown(fd)))
}

/// The kind of file that a mode names.
#[must_use]
pub fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// `access(2)` for writing with the effective ids (`faccessat2` with AT_EACCESS).
///
/// # Errors
/// What the kernel says.
pub fn may_write(path: &str) -> Result<()> {
    access(path, fs::Access::WRITE_OK, "W_OK")
}

/// `access(2)` for execution with the effective ids (`faccessat2` with AT_EACCESS).
///
/// # Errors
/// What the kernel says.
pub fn may_execute(path: &str) -> Result<()> {
    access(path, fs::Access::EXEC_OK, "X_OK")
}

fn access(path: &str, wanted: fs::Access, name: &str) -> Result<()> {
    fs::accessat(CWD, path, wanted, AtFlags::EACCESS).call(|| format!("access({path:?}, {name})"))
}

/// The first file of that name in the folders of a `PATH` that may be executed. Folders that are not absolute are passed
/// over: what is found there would depend on where the caller is.
#[must_use]
pub fn find_executable(path: &str, name: &str) -> Option<String> {
    let absolute = path.split(':').filter(|folder| folder.starts_with('/'));
    absolute
        .map(|folder| format!("{folder}/{name}"))
        .find(|file| may_execute(file).is_ok() && std::fs::metadata(file).is_ok_and(|metadata| metadata.is_file()))
}

/// `flock(2)`, again after a signal.
///
/// # Errors
/// What the kernel says; EWOULDBLOCK for a non-blocking one that is taken.
pub fn flock(fd: BorrowedFd<'_>, operation: FlockOperation) -> Result<()> {
    loop {
        match fs::flock(fd, operation) {
            Err(Errno::INTR) => {}
            other => return other.call(|| format!("flock({})", shown(fd))),
        }
    }
}

/// `fsync(2)`.
///
/// # Errors
/// What the kernel says.
pub fn fsync(fd: BorrowedFd<'_>) -> Result<()> {
    fs::fsync(fd).call(|| format!("fsync({})", shown(fd)))
}

/// Reads a whole file that is open. Meant for files of the kernel and our own: there is no bound on the size.
///
/// # Errors
/// What the kernel says.
pub fn read_all(fd: BorrowedFd<'_>) -> Result<Vec<u8>> {
    read_limited(fd, usize::MAX)
}

/// One `read(2)`, again after a signal. Returns the number of bytes; 0 is the end.
///
/// # Errors
/// What the kernel says.
pub fn read_some(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match rustix::io::read(fd, &mut *buffer) {
            Err(Errno::INTR) => {}
            other => return other.call(|| format!("read({})", shown(fd))),
        }
    }
}

/// Reads at most `limit` bytes of an open file.
///
/// # Errors
/// What the kernel says.
pub fn read_limited(fd: BorrowedFd<'_>, limit: usize) -> Result<Vec<u8>> {
    // The state of a container and most definitions fit at once.
    let mut bytes = Vec::with_capacity(16 * 1024);
    while bytes.len() < limit {
        if bytes.capacity() - bytes.len() < 512 {
            bytes.reserve(bytes.capacity());
        }
        match rustix::io::read(fd, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).call(|| format!("read({})", shown(fd))),
        }
    }
    bytes.truncate(limit);
    Ok(bytes)
}

/// Reads a whole file below a folder.
///
/// # Errors
/// What the kernel says.
pub fn read_at(dir: BorrowedFd<'_>, path: &str) -> Result<Vec<u8>> {
    read_all(open_at(dir, path, OFlags::RDONLY, 0)?.as_fd())
}

/// Reads a whole text file below a folder. Bytes that are not UTF-8 become U+FFFD.
///
/// # Errors
/// What the kernel says.
pub fn read_text_at(dir: BorrowedFd<'_>, path: &str) -> Result<String> {
    read_at(dir, path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Copies what is left of one open file to another.
///
/// # Errors
/// What the kernel says.
pub fn copy_contents(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let mut buffer = vec![0u8; 64 * 1024];
    loop {
        match read_some(from, &mut buffer)? {
            0 => return Ok(()),
            n => write_all(to, &buffer[..n])?,
        }
    }
}

/// One `write(2)`, again after a signal. Returns how many bytes were taken.
///
/// # Errors
/// What the kernel says.
pub fn write_some(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    loop {
        match rustix::io::write(fd, bytes) {
            Err(Errno::INTR) => {}
            other => return other.call(|| format!("write({}, {:?})", shown(fd), excerpt(bytes))),
        }
    }
}

/// Puts a file aside under its name with a number: `NAME.1` is the newest, and `kept` of them stay. With `kept` of 0 it is
/// removed. Nobody else may do the same at that time.
///
/// # Errors
/// What the kernel says; ENOENT where the file is not there, but then older ones may have another number.
pub fn put_aside(path: &str, kept: u32) -> Result<()> {
    let name = |number: u32| if number == 0 { path.to_owned() } else { format!("{path}.{number}") };
    for number in (0..kept).rev() {
        let (from, to) = (name(number), name(number + 1));
        match rename_at(CWD, &from, CWD, &to) {
            Err(error) if error.is(Errno::NOENT) && number > 0 => {}
            other => other?,
        }
    }
    if kept == 0 { unlink_at(CWD, path) } else { Ok(()) }
}

/// Writes all bytes to an open file.
///
/// # Errors
/// What the kernel says.
pub fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        bytes = &bytes[write_some(fd, bytes)?..];
    }
    Ok(())
}

/// Writes a value to an existing file of the kernel below a folder, in one `write(2)`.
///
/// # Errors
/// What the kernel says, with the file and the value.
pub fn write_value_at(dir: BorrowedFd<'_>, path: &str, value: &str) -> Result<()> {
    write_value(open_at(dir, path, OFlags::WRONLY, 0)?.as_fd(), value)
        .map_err(|error| Error::new(format!("write({path:?}, {:?})", excerpt(value.as_bytes())), error.errno()))
}

/// Writes a value to an open file of the kernel, in one `write(2)`. Such a file takes each write as a whole, so the same
/// descriptor serves for several.
///
/// # Errors
/// What the kernel says, with the value; EIO where it took only a part.
pub fn write_value(file: BorrowedFd<'_>, value: &str) -> Result<()> {
    let call = || format!("write({}, {:?})", shown(file), excerpt(value.as_bytes()));
    loop {
        match rustix::io::write(file, value.as_bytes()) {
            Err(Errno::INTR) => {}
            Ok(n) if n < value.len() => return Err(Errno::IO).call(call),
            other => return other.map(drop).call(call),
        }
    }
}

/// Names in a folder, without `.` and `..`, in the kernel's order.
///
/// # Errors
/// What the kernel says.
pub fn list(dir: BorrowedFd<'_>, path: &str) -> Result<Vec<(String, FileType)>> {
    let fd = open_at(dir, path, OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
    let mut names = Vec::new();
    for entry in fs::Dir::read_from(&fd).call(|| format!("getdents64({path:?})"))? {
        let entry = entry.call(|| format!("getdents64({path:?})"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push((name, entry.file_type()));
        }
    }
    Ok(names)
}

/// How a descriptor is shown in an error: by its number.
pub(crate) fn shown(fd: BorrowedFd<'_>) -> String {
    if fd.as_raw_fd() == CWD.as_raw_fd() { "AT_FDCWD".to_owned() } else { format!("fd {}", fd.as_raw_fd()) }
}

fn excerpt(bytes: &[u8]) -> String {
    let shown: String = String::from_utf8_lossy(bytes).chars().take(80).collect();
    if bytes.len() > 80 { format!("{shown}...") } else { shown }
}
