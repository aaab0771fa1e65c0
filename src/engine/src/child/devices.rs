//! Device nodes and the links of `/dev`.
//!
//! The folder is opened once, without following links: a rootfs whose `/dev` leads elsewhere is refused. The file mode
//! mask is 0 at this point, so a node is born with its mode and no name is looked up again to change it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use runtime_spec::model::{Device, MountAttr};
use sys::Errno;
use sys::fs::{self, FileType, OFlags};
use sys::mount::{AttrChange, Depth};

use super::Child;
use super::resolve::{Links, make_folders, split};
use crate::error::{Error, Result};
use crate::source;
use crate::step::Slot;

/// Name below `/dev` and what the link says. Source: runtime-spec, runtime-linux.md, dev symbolic links.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// The folder of the links, as [`split`] names that of the devices.
const DEV: &str = "dev";

impl Child<'_> {
    pub(super) fn make_device(&mut self, device: &Device, bind: Option<Slot>) -> Result<()> {
        let (parent, name) = split(&device.path);
        let dir = self.take_device_folder(&parent)?;
        self.make_device_in(dir.as_fd(), &name, device, bind)?;
        self.progress.device_folder = Some((parent, dir));
        Ok(())
    }

    /// Most devices are in one folder, which is opened once for all that follow each other.
    fn take_device_folder(&mut self, path: &str) -> Result<OwnedFd> {
        match self.progress.device_folder.take() {
            Some((opened, dir)) if opened == path => Ok(dir),
            _ => make_folders(self.root()?, path, Links::Refused),
        }
    }

    fn make_device_in(&self, dir: BorrowedFd<'_>, name: &str, device: &Device, bind: Option<Slot>) -> Result<()> {
        // What was opened or made for it was seen to be the device then.
        if let Some(slot) = bind {
            return self.bind_device(dir, name, slot);
        }
        let kind = source::file_type(device.kind);
        let number = fs::makedev(device.major, device.minor);
        let mode = device.mode.unwrap_or(0o666) & 0o7777;
        match fs::mknod_at(dir, name, kind, mode, number) {
            Err(error) if error.is(Errno::EXIST) => return reuse_device(dir, name, kind, device),
            other => other?,
        }
        if (device.uid, device.gid) != (0, 0) {
            fs::chown_at(dir, name, device.uid, device.gid)?;
        }
        Ok(())
    }

    fn bind_device(&self, dir: BorrowedFd<'_>, name: &str, slot: Slot) -> Result<()> {
        match fs::open_at(dir, name, OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY, 0o666) {
            Err(error) if !error.is(Errno::EXIST) => return Err(error.into()),
            _ => {}
        }
        let target = fs::open_at(dir, name, OFlags::PATH | OFlags::NOFOLLOW, 0)?;
        let mount = self.slot(slot)?;
        sys::mount::attach(mount, target.as_fd())?;
        // A device is not a program, whatever the host's own mount of /dev allows.
        let change = AttrChange { set: (MountAttr::NOSUID | MountAttr::NOEXEC).bits(), ..AttrChange::default() };
        Ok(sys::mount::set_attr(mount, change, Depth::One)?)
    }

    pub(super) fn make_device_links(&mut self) -> Result<()> {
        let dir = self.take_device_folder(DEV)?;
        for (name, target) in LINKS {
            make_link(dir.as_fd(), name, target)?;
        }
        match self.look("/proc/kcore", Links::Refused) {
            Ok(_) => make_link(dir.as_fd(), "core", "/proc/kcore"),
            Err(_) => Ok(()),
        }
    }
}

/// A node that is there already serves when it is the same device.
pub(crate) fn reuse_device(dir: BorrowedFd<'_>, name: &str, kind: FileType, device: &Device) -> Result<()> {
    let stat = fs::stat_at(dir, name)?;
    let same_number =
        kind == FileType::Fifo || (fs::major(stat.st_rdev), fs::minor(stat.st_rdev)) == (device.major, device.minor);
    if fs::file_type(&stat) != kind || !same_number {
        return Err(Error::Unsupported(format!("{} is there already and is another kind of file", device.path)));
    }
    Ok(())
}

/// A link, in the place of an empty `ptmx` file or another link that the image may have.
fn make_link(dir: BorrowedFd<'_>, name: &str, target: &str) -> Result<()> {
    match fs::symlink_at(target, dir, name) {
        Err(error) if error.is(Errno::EXIST) => {}
        other => return Ok(other?),
    }
    let is_wanted = fs::readlink_at(dir, name).is_ok_and(|t| t == target);
    if is_wanted || name != "ptmx" {
        return Ok(());
    }
    fs::unlink_at(dir, name)?;
    Ok(fs::symlink_at(target, dir, name)?)
}
