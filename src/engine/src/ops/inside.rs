//! `inside`: what a container that runs gets or loses in its mount namespace: mounts of the host's files, device nodes.
//!
//! ```text
//! host's namespaces:       what is to be mounted, as a detached copy ── setns ──► container's: target below its root, attach
//! ```
//! This process enters the container's user and mount namespaces alone, executes nothing there and ends. It is in none of
//! the container's groups and has no pid there, so nobody in the container can look into it.

use std::os::fd::{AsFd, OwnedFd};

use runtime_spec::ContainerSpec;
use runtime_spec::model::{Device, DeviceKind, IdMapping, MountAttr, NamespaceKind};
use runtime_spec::state::Status;
use sys::Errno;
use sys::fs::{FileType, OFlags};
use sys::mount::{AttrChange, Depth, FsContext, Propagation, UnmountFlags};

use super::{Context, spec_of};
use crate::child::devices::reuse_device;
use crate::child::identity::become_namespace_root;
use crate::child::resolve::{Links, Want, find_or_make, make_folders, split};
use crate::error::{Error, Result};
use crate::host::nodes;
use crate::plan::root_ids;
use crate::source;
use crate::state::open_process;

/// Mode of a device node: its owner is the container's root.
const NODE_MODE: u32 = 0o660;

/// What is changed. Targets are absolute paths inside the container; links in them are followed below its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Shows a folder or file of the host, with the mounts below it.
    Mount {
        /// Path on the host.
        source: String,
        /// Path inside; made where it is not there.
        target: String,
        /// Nothing of it can be written.
        read_only: bool,
        /// In a user namespace: whose ids the owners of files are.
        owners: Owners,
    },
    /// Takes the uppermost mount of a path away, if there is one. What is open goes on.
    Unmount {
        /// Path inside.
        target: String,
    },
    /// Shows a device of the host by a node of its own, which root inside owns. Rules for devices are not this one's.
    Node {
        /// Path on the host.
        source: String,
        /// Path inside; made where it is not there.
        target: String,
    },
    /// Takes such a node away, with the empty file that it was mounted on in a user namespace.
    RemoveNode {
        /// Path inside.
        target: String,
    },
}

/// Whose ids the owners of a mount's files are, as they are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// The container's: the mount maps them.
    Container,
    /// The host's: those that the container has no id for are nobody.
    Host,
}

impl Change {
    fn target(&self) -> &str {
        match self {
            Change::Mount { target, .. }
            | Change::Unmount { target }
            | Change::Node { target, .. }
            | Change::RemoveNode { target } => target,
        }
    }
}

/// Changes what is mounted in a container that runs.
///
/// # Errors
/// [`Error::NotRunning`]; [`Error::Unsupported`] where it has the host's mount namespace or the file system of the source
/// takes no mapped owners; what the kernel says.
pub fn change(context: &Context<'_>, id: &str, change: &Change) -> Result<()> {
    let (_, folder) = context.find(id)?;
    let _lock = folder.lock()?;
    let ((record, config), status) = folder.judge(&context.proc)?;
    if matches!(status, Status::Stopped | Status::Creating) {
        return Err(Error::NotRunning);
    }
    let spec = spec_of(id, &config)?;
    if spec.namespace(NamespaceKind::Mount).is_none() {
        return Err(Error::Unsupported("the container has no mount namespace of its own".to_owned()));
    }
    let init = record.init.ok_or(Error::NotRunning)?;
    let process = open_process(&context.proc, init)?.ok_or(Error::NotRunning)?;
    let root = context.proc.open_root(init.pid)?;
    let mounts = context.proc.open_namespace(init.pid, "mnt")?;
    let has_user = spec.namespace(NamespaceKind::User).is_some();
    let user = if has_user { Some(context.proc.open_namespace(init.pid, "user")?) } else { None };
    // Held by its descriptor: it was this process whose root and namespaces were opened by its number.
    if sys::process::has_ended(process.as_fd())? {
        return Err(Error::NotRunning);
    }
    let made = match change {
        Change::Mount { source, read_only, owners, .. } => {
            let owner = user.as_ref().filter(|_| *owners == Owners::Container);
            Made::Mount(open_source(source, *read_only, owner)?)
        }
        Change::Node { source, target } if has_user => Made::Mount(open_node(&spec, source, target)?),
        Change::Node { source, target } => Made::Device(read_device(source, target)?),
        Change::Unmount { .. } | Change::RemoveNode { .. } => Made::Nothing,
    };
    // What runs inside may not look into what is still open of the host.
    sys::process::set_dumpable(false)?;
    let made = enter(&mounts, user.as_ref(), made)?;
    sys::process::chdir_fd(root.as_fd())?;
    sys::process::chroot_here()?;
    if has_user {
        let (uid, gid) = root_ids(&spec);
        become_namespace_root(uid, gid, &context.proc)?;
    }
    perform(change, &made, &root).map_err(|error| error.in_step(format!("{} in container {id}", change.target())))
}

/// Enters the container's user and mount namespaces.
fn enter(mounts: &OwnedFd, user: Option<&OwnedFd>, mut made: Made) -> Result<Made> {
    if let Some(user) = user {
        let join = || sys::namespace::join(user.as_fd(), NamespaceKind::User.clone_flag());
        match made {
            Made::Mount(mount) => made = Made::Mount(lock_attributes(&mount, join)?),
            _ => join()?,
        }
    }
    sys::namespace::join(mounts.as_fd(), NamespaceKind::Mount.clone_flag())?;
    Ok(made)
}

/// Copies a mount so that its attributes are locked: root of a user namespace may change those of every mount, unless the
/// kernel has copied it from a mount namespace of more rights. Ends in the user namespace.
///
/// Kernel: mount_namespaces(7), restrictions on mount namespaces.
fn lock_attributes(mount: &OwnedFd, join: impl FnOnce() -> sys::Result<()>) -> Result<OwnedFd> {
    const NAME: &str = "mount";
    let own = NamespaceKind::Mount.clone_flag();
    sys::namespace::unshare(own)?;
    let private = AttrChange { propagation: Some(Propagation::Private), ..AttrChange::default() };
    sys::mount::set_attr(sys::mount::open_mount("/")?.as_fd(), private, Depth::Tree)?;
    // The current folder is followed from one namespace to the next.
    let context = FsContext::open("tmpfs")?;
    context.set_string("source", "inside")?;
    let folder = context.mount(0)?;
    sys::mount::attach(folder.as_fd(), sys::fs::open_dir("/")?.as_fd())?;
    sys::process::chdir_fd(folder.as_fd())?;
    if sys::fs::file_type(&sys::fs::stat(mount.as_fd())?) == FileType::Directory {
        sys::fs::mkdir_at(folder.as_fd(), NAME, 0o755)?;
    } else {
        sys::fs::open_at(folder.as_fd(), NAME, OFlags::CREATE | OFlags::WRONLY, 0o644)?;
    }
    sys::mount::attach(mount.as_fd(), sys::fs::open(NAME, OFlags::PATH)?.as_fd())?;
    join()?;
    sys::namespace::unshare(own)?;
    Ok(sys::mount::clone_path(NAME, Depth::Tree, false)?)
}

/// What is brought from outside.
enum Made {
    /// A detached mount.
    Mount(OwnedFd),
    /// The numbers of a device, for a node that is made inside: without a user namespace one can be, as at a start.
    Device(Device),
    /// Something is taken away.
    Nothing,
}

/// Works in the container's namespaces, where its root is `/`.
fn perform(change: &Change, made: &Made, root: &OwnedFd) -> Result<()> {
    let target = change.target();
    let mount = match (made, change) {
        (Made::Mount(mount), _) => mount,
        (Made::Device(device), _) => return make_node(device, root),
        (Made::Nothing, Change::RemoveNode { .. }) => return remove_node(target, root),
        (Made::Nothing, _) => return unmount(target),
    };
    let is_folder = sys::fs::file_type(&sys::fs::stat(mount.as_fd())?) == FileType::Directory;
    let want = if is_folder { Want::Folder } else { Want::File };
    let (place, _) = find_or_make(root.as_fd(), target, want, Links::Inside)?;
    Ok(sys::mount::attach(mount.as_fd(), place.as_fd())?)
}

/// Somebody inside may have taken the mount away before.
fn unmount(target: &str) -> Result<()> {
    match sys::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Err(error) if error.is(Errno::INVAL) || error.is(Errno::NOENT) => Ok(()),
        other => Ok(other?),
    }
}

fn make_node(device: &Device, root: &OwnedFd) -> Result<()> {
    let (parent, name) = split(&device.path);
    let dir = make_folders(root.as_fd(), &parent, Links::Inside)?;
    sys::process::set_umask(0);
    let (kind, number) = (source::file_type(device.kind), sys::fs::makedev(device.major, device.minor));
    match sys::fs::mknod_at(dir.as_fd(), &name, kind, NODE_MODE, number) {
        Err(error) if error.is(Errno::EXIST) => reuse_device(dir.as_fd(), &name, kind, device),
        other => Ok(other?),
    }
}

/// Somebody inside may have taken the node away before.
fn remove_node(target: &str, root: &OwnedFd) -> Result<()> {
    unmount(target)?;
    let (parent, name) = split(target);
    let parent = if parent.is_empty() { "." } else { &parent };
    let dir = match sys::fs::open_in_root(root.as_fd(), parent, OFlags::PATH | OFlags::DIRECTORY) {
        Err(error) if error.is(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    match sys::fs::stat_at(dir.as_fd(), &name) {
        Ok(stat) => match sys::fs::file_type(&stat) {
            FileType::CharacterDevice | FileType::BlockDevice => Ok(sys::fs::unlink_at(dir.as_fd(), &name)?),
            FileType::RegularFile if stat.st_size == 0 => Ok(sys::fs::unlink_at(dir.as_fd(), &name)?),
            _ => Ok(()),
        },
        Err(error) if error.is(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A private copy of what is mounted at a path of the host.
fn open_source(path: &str, read_only: bool, owners: Option<&OwnedFd>) -> Result<OwnedFd> {
    let copy = sys::mount::clone_path(path, Depth::Tree, false)?;
    let private = AttrChange {
        set: if read_only { MountAttr::RDONLY.bits() } else { 0 },
        propagation: Some(Propagation::Private),
        ..AttrChange::default()
    };
    sys::mount::set_attr(copy.as_fd(), private, Depth::Tree)?;
    if let Some(owners) = owners {
        let mapped = AttrChange { idmap: Some(owners.as_fd()), ..AttrChange::default() };
        match sys::mount::set_attr(copy.as_fd(), mapped, Depth::Tree) {
            Err(error) if error.is(Errno::INVAL) || error.is(Errno::PERM) => {
                return Err(Error::from(error).in_step(format!(
                    "map the owners of {path}: its file system, or one below it, takes no mapping; --host-owners shows them as they are"
                )));
            }
            other => other?,
        }
    }
    Ok(copy)
}

/// What a device of the host is, for a node of root's.
fn read_device(source: &str, target: &str) -> Result<Device> {
    let stat = sys::fs::stat(sys::fs::open(source, OFlags::PATH)?.as_fd())?;
    let kind = match sys::fs::file_type(&stat) {
        FileType::CharacterDevice => DeviceKind::Char,
        FileType::BlockDevice => DeviceKind::Block,
        _ => return Err(Error::Unsupported(format!("{source} is no device"))),
    };
    let (major, minor) = (sys::fs::major(stat.st_rdev), sys::fs::minor(stat.st_rdev));
    Ok(Device { path: target.to_owned(), kind, major, minor, mode: Some(NODE_MODE), uid: 0, gid: 0 })
}

/// A node of its own for a device of the host, on a file system that nobody sees: in a user namespace none can be made.
fn open_node(spec: &ContainerSpec, source: &str, target: &str) -> Result<OwnedFd> {
    let root = |mappings: &[IdMapping]| {
        let none = || Error::Unsupported(format!("{source}: the container has no root that could own a node"));
        IdMapping::host_id_of(0, mappings).ok_or_else(none)
    };
    let (uid, gid) = (root(&spec.uid_mappings)?, root(&spec.gid_mappings)?);
    let device = Device { uid, gid, ..read_device(source, target)? };
    let label = spec.mount_label.as_ref().map(|label| format!("context=\"{label}\""));
    let made = nodes::make(&[(device, 0)], label.as_deref())?;
    let node = made.into_iter().next().ok_or_else(|| Error::Unsupported(format!("{source}: no node was made")))?;
    let change = AttrChange { set: (MountAttr::NOSUID | MountAttr::NOEXEC).bits(), ..AttrChange::default() };
    sys::mount::set_attr(node.as_fd(), change, Depth::One)?;
    Ok(node)
}
