//! Project quotas: what all files with one number may take of a file system (ext4, xfs).
//!
//! A folder hands its number down to what is made in it. Kernel: Documentation/filesystems/quota.rst;
//! include/uapi/linux/quota.h, dqblk_xfs.h and fs.h.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::error::{Context, Result};
use crate::raw;

/// `_IOR('X', 31, struct fsxattr)` and `_IOW('X', 32, struct fsxattr)`.
const FSGETXATTR: usize = 0x801c_581f;
const FSSETXATTR: usize = 0x401c_5820;
/// The number goes down to what is made in a folder (`FS_XFLAG_PROJINHERIT`).
const INHERIT: u32 = 0x200;

/// Quotas of projects, not of users or groups.
const PRJQUOTA: usize = 2;
const Q_GETQUOTA: usize = 0x0080_0007;
const Q_SETQUOTA: usize = 0x0080_0008;
const Q_XGETQSTAT: usize = 0x5805;
/// The limits of blocks in `valid` (`QIF_BLIMITS`).
const BLOCK_LIMITS: u32 = 1;
/// Bytes of a block of a limit (`QIF_DQBLKSIZE`).
const BLOCK: u64 = 1024;
/// What `Q_XGETQSTAT` says of projects: usage is counted, limits are enforced.
const COUNTED: u16 = 1 << 4;
const ENFORCED: u16 = 1 << 5;

/// `struct fsxattr`.
#[repr(C)]
#[derive(Default)]
struct FileAttributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_extent_size: u32,
    padding: [u8; 8],
}

/// `struct if_dqblk`.
#[repr(C)]
#[derive(Default)]
struct Block {
    hard_limit: u64,
    soft_limit: u64,
    space: u64,
    inode_hard_limit: u64,
    inode_soft_limit: u64,
    inodes: u64,
    block_grace: u64,
    inode_grace: u64,
    valid: u32,
}

/// What a file system does about projects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// It counts what they use.
    pub counted: bool,
    /// It refuses what goes beyond their limits.
    pub enforced: bool,
}

/// What a project uses, and may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of blocks.
    pub bytes: u64,
    /// Files and folders.
    pub inodes: u64,
    /// Most bytes; 0 is no limit.
    pub limit: u64,
}

/// The project of a file or folder; 0 is none (`ioctl(FS_IOC_FSGETXATTR)`).
///
/// # Errors
/// What the kernel says; ENOTTY or EOPNOTSUPP where the file system knows no projects.
pub fn project(file: BorrowedFd<'_>) -> Result<u32> {
    Ok(read_attributes(file)?.project)
}

/// Gives a folder a project, which it hands down to what is made in it from then on (`ioctl(FS_IOC_FSSETXATTR)`).
///
/// # Errors
/// What the kernel says; EOPNOTSUPP or ENOTTY where the file system knows no projects, EINVAL outside the first user
/// namespace.
pub fn set_project(folder: BorrowedFd<'_>, project: u32) -> Result<()> {
    let mut attributes = read_attributes(folder)?;
    attributes.project = project;
    attributes.flags |= INHERIT;
    let address = (&raw const attributes) as usize;
    // SAFETY: the kernel reads a `struct fsxattr`, which is what `attributes` is, and it outlives the call.
    unsafe { raw::syscall(libc::SYS_ioctl, [descriptor(folder), FSSETXATTR, address, 0, 0, 0]) }
        .map(drop)
        .call(|| format!("ioctl(FS_IOC_FSSETXATTR, project {project})"))
}

fn read_attributes(file: BorrowedFd<'_>) -> Result<FileAttributes> {
    let mut attributes = FileAttributes::default();
    let address = (&raw mut attributes) as usize;
    // SAFETY: the kernel writes a `struct fsxattr`, which is what `attributes` is, and it outlives the call.
    unsafe { raw::syscall(libc::SYS_ioctl, [descriptor(file), FSGETXATTR, address, 0, 0, 0]) }
        .call(|| "ioctl(FS_IOC_FSGETXATTR)".to_owned())?;
    Ok(attributes)
}

/// What the file system of a folder does about projects.
///
/// # Errors
/// What the kernel says; ENOSYS where the file system has no quotas, or is mounted without.
pub fn state(folder: BorrowedFd<'_>) -> Result<State> {
    /// More than `struct fs_quota_stat` has. It begins with a version (1 byte), a hole, and the flags (2 bytes).
    const SIZE: usize = 512;
    let mut buffer = [0u64; SIZE / 8];
    // SAFETY: the kernel writes a `struct fs_quota_stat`, which is smaller than `buffer`, and `buffer` outlives the call.
    unsafe { quotactl(folder, Q_XGETQSTAT, 0, buffer.as_mut_ptr() as usize) }
        .call(|| "quotactl_fd(Q_XGETQSTAT)".to_owned())?;
    let bytes = buffer[0].to_ne_bytes();
    let flags = u16::from_ne_bytes([bytes[2], bytes[3]]);
    Ok(State { counted: flags & COUNTED != 0, enforced: flags & ENFORCED != 0 })
}

/// What a project uses of the file system of a folder. One that nobody has ever used has nothing.
///
/// # Errors
/// What the kernel says; ESRCH where projects are not counted.
pub fn usage(folder: BorrowedFd<'_>, project: u32) -> Result<Usage> {
    let mut block = Block::default();
    // SAFETY: the kernel writes a `struct if_dqblk`, which is what `block` is, and it outlives the call.
    match unsafe { quotactl(folder, Q_GETQUOTA, project, (&raw mut block) as usize) } {
        // xfs makes the record with the first file.
        Err(Errno::NOENT) => {}
        other => other.call(|| format!("quotactl_fd(Q_GETQUOTA, project {project})"))?,
    }
    Ok(Usage { bytes: block.space, inodes: block.inodes, limit: block.hard_limit.saturating_mul(BLOCK) })
}

/// Limits what a project may use, in bytes; 0 takes the limit away. It is rounded up to 1 KiB.
///
/// # Errors
/// What the kernel says; ESRCH where projects are not counted.
pub fn set_limit(folder: BorrowedFd<'_>, project: u32, bytes: u64) -> Result<()> {
    let block = Block { hard_limit: bytes.div_ceil(BLOCK), valid: BLOCK_LIMITS, ..Block::default() };
    // SAFETY: the kernel reads a `struct if_dqblk`, which is what `block` is, and it outlives the call.
    unsafe { quotactl(folder, Q_SETQUOTA, project, (&raw const block) as usize) }
        .call(|| format!("quotactl_fd(Q_SETQUOTA, project {project}, {bytes} bytes)"))
}

/// `quotactl_fd(2)` (Linux 5.14) for projects.
///
/// # Safety
/// `address` is that of what the command reads or writes, valid for the call.
unsafe fn quotactl(folder: BorrowedFd<'_>, command: usize, id: u32, address: usize) -> std::result::Result<(), Errno> {
    let command = command << 8 | PRJQUOTA;
    // SAFETY: passed on to our caller.
    unsafe { raw::syscall(libc::SYS_quotactl_fd, [descriptor(folder), command, id as usize, address, 0, 0]) }.map(drop)
}

fn descriptor(fd: BorrowedFd<'_>) -> usize {
    // An open descriptor is never negative.
    fd.as_raw_fd().unsigned_abs() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn structures_have_the_sizes_of_the_kernel() {
        assert_eq!((size_of::<FileAttributes>(), size_of::<Block>()), (28, 72));
    }

    /// A file system in memory, and the one of processes, count no projects.
    #[test]
    fn a_file_system_without_quotas_says_so() {
        let proc = File::open("/proc/self").unwrap();
        assert!(state(proc.as_fd()).is_err());
        assert!(set_project(proc.as_fd(), 7).is_err());
    }
}
