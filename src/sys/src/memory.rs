//! Files in memory that can be sealed.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

use crate::error::{Context, Result};

/// `memfd_create(2)`, to be sealed and executed.
///
/// # Errors
/// What the kernel says.
pub fn create_file(name: &str) -> Result<OwnedFd> {
    make(name, MemfdFlags::ALLOW_SEALING, MemfdFlags::EXEC)
}

fn make(name: &str, flags: MemfdFlags, execution: MemfdFlags) -> Result<OwnedFd> {
    let flags = flags | MemfdFlags::CLOEXEC;
    match rustix::fs::memfd_create(name, flags | execution) {
        // KERNEL(6.3): before, there is neither MFD_EXEC nor MFD_NOEXEC_SEAL, and every such file can be executed.
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags),
        other => other,
    }
    .call(|| format!("memfd_create({name:?})"))
}

/// `memfd_create(2)` of a file that holds these bytes and is read from its start.
///
/// # Errors
/// What the kernel says.
pub fn data_file(name: &str, bytes: &[u8]) -> Result<OwnedFd> {
    let file = make(name, MemfdFlags::empty(), MemfdFlags::NOEXEC_SEAL)?;
    crate::fs::write_all(file.as_fd(), bytes)?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).call(|| format!("lseek({name:?}, 0)"))?;
    Ok(file)
}

fn all_seals() -> SealFlags {
    SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE
}

/// Forbids every change of the file, and of the seals.
///
/// # Errors
/// What the kernel says; EBUSY while it is mapped for writing.
pub fn seal(file: BorrowedFd<'_>) -> Result<()> {
    rustix::fs::fcntl_add_seals(file, all_seals()).call(|| format!("fcntl(fd {}, F_ADD_SEALS)", file.as_raw_fd()))
}

/// Whether the file can never change.
#[must_use]
pub fn is_sealed(file: BorrowedFd<'_>) -> bool {
    rustix::fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(all_seals()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_read_from_its_start() {
        let file = data_file("test", b"state").unwrap();
        assert_eq!(crate::fs::read_all(file.as_fd()).unwrap(), b"state");
    }

    #[test]
    fn a_sealed_file_does_not_change() {
        let file = create_file("test").unwrap();
        crate::fs::write_all(file.as_fd(), b"before").unwrap();
        assert!(!is_sealed(file.as_fd()));
        seal(file.as_fd()).unwrap();
        assert!(is_sealed(file.as_fd()));
        assert!(crate::fs::write_all(file.as_fd(), b"after").unwrap_err().is(crate::Errno::PERM));
    }
}
