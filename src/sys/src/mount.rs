//! Mounts by descriptor: the mount API of Linux 5.2 and `mount_setattr` of 5.12.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::CWD;
pub use rustix::mount::UnmountFlags;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::error::{Context, Error, Result};
use crate::raw;

/// Propagation types, in the numbers that `mount_setattr` takes (MS_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Propagation {
    /// MS_UNBINDABLE.
    Unbindable = 1 << 17,
    /// MS_PRIVATE.
    Private = 1 << 18,
    /// MS_SLAVE.
    Slave = 1 << 19,
    /// MS_SHARED.
    Shared = 1 << 20,
}

/// Whether a call works on one mount or on the whole tree below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// This mount alone.
    One,
    /// AT_RECURSIVE.
    Tree,
}

/// What `mount_setattr(2)` changes.
#[derive(Debug, Clone, Copy, Default)]
pub struct AttrChange<'fd> {
    /// MOUNT_ATTR_* to set.
    pub set: u64,
    /// MOUNT_ATTR_* to clear.
    pub clear: u64,
    /// New propagation.
    pub propagation: Option<Propagation>,
    /// User namespace whose mapping the mount gets (MOUNT_ATTR_IDMAP).
    pub idmap: Option<BorrowedFd<'fd>>,
}

const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
const AT_RECURSIVE: usize = 0x8000;

#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Size of `struct mount_attr` in its first version, which is all that we use.
const _: () = assert!(std::mem::size_of::<MountAttr>() == 32);

/// `mount_setattr(2)` on a descriptor of a mount's root.
///
/// # Errors
/// What the kernel says.
pub fn set_attr(mount: BorrowedFd<'_>, change: AttrChange<'_>, depth: Depth) -> Result<()> {
    let attr = MountAttr {
        attr_set: change.set | if change.idmap.is_some() { MOUNT_ATTR_IDMAP } else { 0 },
        attr_clr: change.clear,
        propagation: change.propagation.map_or(0, |p| p as u64),
        userns_fd: change.idmap.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH as usize | if depth == Depth::Tree { AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string; `attr` outlives the call and its size is given.
    unsafe {
        raw::syscall(
            libc::SYS_mount_setattr,
            [
                mount.as_raw_fd() as usize,
                c"".as_ptr() as usize,
                flags,
                std::ptr::from_ref(&attr) as usize,
                std::mem::size_of::<MountAttr>(),
                0,
            ],
        )
    }
    .map(drop)
    .call(|| {
        format!(
            "mount_setattr(fd {}, set {:#x}, clear {:#x}, propagation {:?}{})",
            mount.as_raw_fd(),
            attr.attr_set,
            attr.attr_clr,
            change.propagation,
            if depth == Depth::Tree { ", AT_RECURSIVE" } else { "" }
        )
    })
}

/// `open_tree(2)` with OPEN_TREE_CLONE of what a descriptor stands for: a detached copy of the mount (or mounts) there.
///
/// # Errors
/// What the kernel says.
pub fn clone_tree(at: BorrowedFd<'_>, depth: Depth) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if depth == Depth::Tree {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(at, "", flags).call(|| format!("open_tree(fd {}, OPEN_TREE_CLONE)", at.as_raw_fd()))
}

/// `open_tree(2)` with OPEN_TREE_CLONE of a path of the host. With `nofollow` a symbolic link in the last place is taken
/// itself.
///
/// # Errors
/// What the kernel says.
pub fn clone_path(path: &str, depth: Depth, nofollow: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if depth == Depth::Tree {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    if nofollow {
        flags |= OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    }
    open_tree(CWD, path, flags).call(|| format!("open_tree({path:?}, OPEN_TREE_CLONE)"))
}

/// [`clone_path`] of one mount, and `mount_setattr(2)` with MOUNT_ATTR_RDONLY: what is reached through it cannot be written.
///
/// # Errors
/// What the kernel says.
pub fn clone_read_only(path: &str) -> Result<OwnedFd> {
    /// MOUNT_ATTR_RDONLY (include/uapi/linux/mount.h).
    const READ_ONLY: u64 = 1;
    let copy = clone_path(path, Depth::One, false)?;
    set_attr(copy.as_fd(), AttrChange { set: READ_ONLY, ..AttrChange::default() }, Depth::One)?;
    Ok(copy)
}

/// `move_mount(2)` of a detached mount onto what `target` stands for.
///
/// # Errors
/// What the kernel says.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags)
        .call(|| format!("move_mount(fd {}, fd {})", mount.as_raw_fd(), target.as_raw_fd()))
}

/// A new file system that is being configured.
#[derive(Debug)]
pub struct FsContext {
    fd: OwnedFd,
    name: String,
}

impl FsContext {
    /// `fsopen(2)`.
    ///
    /// # Errors
    /// What the kernel says; ENODEV for a type that it does not have.
    pub fn open(name: &str) -> Result<FsContext> {
        let fd = fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC).call(|| format!("fsopen({name:?})"))?;
        Ok(FsContext { fd, name: name.to_owned() })
    }

    /// `fsconfig(2)`: a key with a value.
    ///
    /// # Errors
    /// What the kernel says, with its own words where it left some.
    pub fn set_string(&self, key: &str, value: &str) -> Result<()> {
        fsconfig_set_string(&self.fd, key, value)
            .map_err(|errno| self.explain(format!("fsconfig({}, {key:?}, {value:?})", self.name), errno))
    }

    /// `fsconfig(2)`: a key alone.
    ///
    /// # Errors
    /// What the kernel says, with its own words where it left some.
    pub fn set_flag(&self, key: &str) -> Result<()> {
        fsconfig_set_flag(&self.fd, key)
            .map_err(|errno| self.explain(format!("fsconfig({}, {key:?})", self.name), errno))
    }

    /// Makes the super block and a detached mount of it with these MOUNT_ATTR_*.
    ///
    /// # Errors
    /// What the kernel says, with its own words where it left some.
    pub fn mount(&self, attributes: u64) -> Result<OwnedFd> {
        fsconfig_create(&self.fd).map_err(|errno| self.explain(format!("fsconfig({}, create)", self.name), errno))?;
        let attributes = MountAttrFlags::from_bits_retain(u32::try_from(attributes).unwrap_or(u32::MAX));
        fsmount(&self.fd, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|errno| self.explain(format!("fsmount({})", self.name), errno))
    }

    /// Adds what the kernel wrote to the context's log.
    fn explain(&self, call: String, errno: rustix::io::Errno) -> Error {
        let mut log = [0u8; 256];
        match rustix::io::read(&self.fd, &mut log) {
            Ok(n) if n > 2 => {
                let words = String::from_utf8_lossy(&log[2..n]).trim().to_owned();
                Error::new(format!("{call} [{words}]"), errno)
            }
            _ => Error::new(call, errno),
        }
    }
}

/// `pivot_root(".", ".")`: the current folder becomes the root, the old root is stacked on it.
///
/// # Errors
/// What the kernel says.
pub fn pivot_root_here() -> Result<()> {
    rustix::process::pivot_root(".", ".").call(|| "pivot_root(\".\", \".\")".to_owned())
}

/// `umount2(2)`.
///
/// # Errors
/// What the kernel says.
pub fn unmount(path: &str, flags: UnmountFlags) -> Result<()> {
    rustix::mount::unmount(path, flags).call(|| format!("umount2({path:?}, {flags:?})"))
}

/// `mount(2)` with MS_MOVE of the current folder onto `/`.
///
/// # Errors
/// What the kernel says.
pub fn move_here_to_root() -> Result<()> {
    rustix::mount::mount_move(".", "/").call(|| "mount(\".\", \"/\", MS_MOVE)".to_owned())
}

/// `open_tree(2)` without a copy: a descriptor of what a path stands for, usable with [`set_attr`].
///
/// # Errors
/// What the kernel says.
pub fn open_mount(path: &str) -> Result<OwnedFd> {
    open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLOEXEC).call(|| format!("open_tree({path:?})"))
}

/// `fspick(2)` and FSCONFIG_CMD_RECONFIGURE: changes flags and options of a mounted file system.
///
/// # Errors
/// What the kernel says.
pub fn reconfigure(at: BorrowedFd<'_>, flags: &[&str], options: &[(String, Option<String>)]) -> Result<()> {
    let call = || format!("fspick(fd {})", at.as_raw_fd());
    let context = rustix::mount::fspick(
        at,
        "",
        rustix::mount::FsPickFlags::FSPICK_CLOEXEC | rustix::mount::FsPickFlags::FSPICK_EMPTY_PATH,
    )
    .call(call)?;
    let context = FsContext { fd: context, name: "reconfigure".to_owned() };
    for flag in flags {
        context.set_flag(flag)?;
    }
    for (key, value) in options {
        match value {
            Some(value) => context.set_string(key, value)?,
            None => context.set_flag(key)?,
        }
    }
    rustix::mount::fsconfig_reconfigure(&context.fd)
        .map_err(|errno| context.explain("fsconfig(reconfigure)".to_owned(), errno))
}
