//! Mounts: made or copied while detached, given their attributes, then attached to what was resolved inside the root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use runtime_spec::model::{MountAttr, PropagationKind, SuperFlags};
use sys::fs::{self, FileType, OFlags};
use sys::mount::{AttrChange, Depth, FsContext};

use super::Child;
use super::resolve::{Links, Want, make_folders, split};
use super::rootfs::kernel;
use crate::error::{Error, Result};
use crate::step::{BindMount, CgroupMount, CgroupView, FilesystemMount};

impl Child<'_> {
    pub(super) fn mount_filesystem(&mut self, mount: &FilesystemMount) -> Result<()> {
        let links = if mount.nofollow { Links::Refused } else { Links::Inside };
        let (target, existed) = self
            .find_or_make(&mount.destination, Want::Folder, links)
            .map_err(|e| told(e, &mount.destination, links))?;
        refuse_procfs(target.as_fd(), mount.on_proc)?;
        refuse_as_proc(&mount.destination, mount.fstype == "proc")?;
        let context = FsContext::open(&mount.fstype)?;
        context.set_string("source", &mount.source)?;
        for flag in super_flag_names(mount.super_flags) {
            context.set_flag(flag)?;
        }
        set_options(&context, &mount.data)?;
        if let Some(mode) = inherited_mode(mount, existed.then(|| target.as_fd()))? {
            context.set_string("mode", &mode)?;
        }
        let copied_later = mount.copy_up && mount.attributes.contains(MountAttr::RDONLY);
        let attributes = if copied_later { mount.attributes - MountAttr::RDONLY } else { mount.attributes };
        let new = context.mount(attributes.bits())?;
        if mount.copy_up {
            let from = fs::open_at(target.as_fd(), ".", OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
            copy_tree(from.as_fd(), new.as_fd(), 0)?;
        }
        if copied_later {
            set_and_clear(new.as_fd(), MountAttr::RDONLY, MountAttr::empty(), Depth::One)?;
        }
        set_and_clear(new.as_fd(), mount.recursive, MountAttr::empty(), Depth::Tree)?;
        sys::mount::attach(new.as_fd(), target.as_fd())?;
        set_propagations(new.as_fd(), &mount.propagation)?;
        if is_root(&mount.destination) {
            self.progress.root = Some(new);
        }
        Ok(())
    }

    pub(super) fn mount_bind(&mut self, mount: &BindMount) -> Result<()> {
        let source = self.slot(mount.slot)?;
        let kind = fs::file_type(&fs::stat(source)?);
        if kind == FileType::Symlink && mount.copy_symlink {
            return self.copy_symlink(source, &mount.destination);
        }
        let want = if kind == FileType::Directory { Want::Folder } else { Want::File };
        let target = if kind == FileType::Symlink || mount.nofollow {
            self.make_itself(&mount.destination, kind)?
        } else {
            let links = if mount.links_refused { Links::Refused } else { Links::Inside };
            self.make(&mount.destination, want, links).map_err(|e| told(e, &mount.destination, links))?
        };
        refuse_procfs(target.as_fd(), mount.on_proc)?;
        refuse_as_proc(&mount.destination, sys::procfs::is_procfs(source)?)?;
        set_and_clear(source, mount.recursive_set, mount.recursive_clear, Depth::Tree)?;
        set_and_clear(source, mount.set, mount.clear, Depth::One)?;
        sys::mount::attach(source, target.as_fd())?;
        set_propagations(source, &mount.propagation)?;
        if is_root(&mount.destination) {
            self.progress.root = Some(sys::process::dup(source)?);
        }
        Ok(())
    }

    /// A place whose last name is not followed. Where nothing is, something of the source's kind is made.
    fn make_itself(&self, destination: &str, kind: FileType) -> Result<OwnedFd> {
        let (parent, name) = split(destination);
        let dir = make_folders(self.root()?, &parent, Links::Inside)?;
        let made = match kind {
            FileType::Symlink => fs::symlink_at(".", dir.as_fd(), &name),
            FileType::Directory => fs::mkdir_at(dir.as_fd(), &name, 0o755),
            _ => fs::open_at(dir.as_fd(), &name, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY, 0o755).map(drop),
        };
        match made {
            Err(error) if !error.is(sys::Errno::EXIST) => return Err(error.into()),
            _ => {}
        }
        Ok(fs::open_at(dir.as_fd(), &name, OFlags::PATH | OFlags::NOFOLLOW, 0)?)
    }

    fn copy_symlink(&self, source: BorrowedFd<'_>, destination: &str) -> Result<()> {
        let target = fs::readlink_at(source, "")?;
        let (parent, name) = split(destination);
        let dir = make_folders(self.root()?, &parent, Links::Inside)?;
        match fs::symlink_at(&target, dir.as_fd(), &name) {
            Err(error)
                if error.is(sys::Errno::EXIST) && fs::readlink_at(dir.as_fd(), &name).is_ok_and(|t| t == target) =>
            {
                Ok(())
            }
            other => Ok(other?),
        }
    }

    pub(super) fn remount(
        &self,
        destination: &str,
        (set, clear): (MountAttr, MountAttr),
        (super_set, super_clear): (SuperFlags, SuperFlags),
        data: &[String],
    ) -> Result<()> {
        let target = self.look(destination, Links::Inside)?;
        if !super_set.is_empty() || !super_clear.is_empty() || !data.is_empty() {
            let mut flags = super_flag_names(super_set);
            flags.extend(super_flag_negations(super_clear));
            let options: Vec<_> = data.iter().map(|option| key_and_value(option)).collect();
            sys::mount::reconfigure(target.as_fd(), &flags, &options)?;
        }
        set_and_clear(target.as_fd(), set, clear, Depth::One)
    }

    pub(super) fn mount_cgroups(&mut self, mount: &CgroupMount) -> Result<()> {
        let target = self.make(&mount.destination, Want::Folder, Links::Refused)?;
        if mount.unified_only {
            let view = mount.views.first().ok_or_else(|| Error::Unsupported("no cgroup2 on this host".to_owned()))?;
            let new = self.cgroup_view(view, mount)?;
            sys::mount::attach(new.as_fd(), target.as_fd())?;
            return set_propagations(new.as_fd(), &mount.propagation);
        }
        let context = FsContext::open("tmpfs")?;
        context.set_string("source", "cgroup")?;
        context.set_string("mode", "755")?;
        let base = context.mount((mount.attributes - MountAttr::RDONLY).bits())?;
        sys::mount::attach(base.as_fd(), target.as_fd())?;
        for view in &mount.views {
            fs::mkdir_at(base.as_fd(), &view.name, 0o755)?;
            let place = fs::open_at(base.as_fd(), &view.name, OFlags::PATH | OFlags::DIRECTORY, 0)?;
            let new = self.cgroup_view(view, mount).map_err(|e| e.in_step(format!("hierarchy {}", view.name)))?;
            sys::mount::attach(new.as_fd(), place.as_fd())?;
            set_propagations(new.as_fd(), &mount.propagation)?;
            for link in &view.links {
                fs::symlink_at(&view.name, base.as_fd(), link)?;
            }
        }
        let read_only = mount.attributes & MountAttr::RDONLY;
        set_and_clear(base.as_fd(), read_only, MountAttr::empty(), Depth::One)?;
        set_propagations(base.as_fd(), &mount.propagation)
    }

    /// One hierarchy: new in the container's cgroup namespace, or a copy of the host's folder of the group.
    fn cgroup_view(&mut self, view: &CgroupView, mount: &CgroupMount) -> Result<OwnedFd> {
        if let Some(slot) = view.slot {
            let copy = self.take_slot(slot)?;
            set_and_clear(copy.as_fd(), mount.attributes, MountAttr::empty(), Depth::One)?;
            return Ok(copy);
        }
        let context = FsContext::open(if view.options.is_empty() { "cgroup2" } else { "cgroup" })?;
        context.set_string("source", "cgroup")?;
        set_options(&context, &view.options)?;
        Ok(context.mount(mount.attributes.bits())?)
    }

    /// Files go behind the container's `/dev/null`, which is checked to be that device and then used by descriptor;
    /// folders behind one read-only tmpfs that all of them share.
    pub(super) fn mask_paths(&self, paths: &[String], label: Option<&str>) -> Result<()> {
        let mut null = None;
        let mut empty: Option<OwnedFd> = None;
        for path in paths {
            let target = match self.look(path, Links::Inside) {
                Ok(target) => target,
                Err(error) if error.is(sys::Errno::NOENT) || error.is(sys::Errno::NOTDIR) => continue,
                Err(error) => return Err(error.into()),
            };
            let cover = if fs::file_type(&fs::stat(target.as_fd())?) != FileType::Directory {
                let null = match &null {
                    Some(null) => null,
                    None => null.insert(self.null_device()?),
                };
                sys::mount::clone_tree(null.as_fd(), Depth::One)?
            } else if let Some(empty) = &empty {
                sys::mount::clone_tree(empty.as_fd(), Depth::One)?
            } else {
                empty_tmpfs(label)?
            };
            sys::mount::attach(cover.as_fd(), target.as_fd())
                .map_err(|e| Error::from(e).in_step(format!("mask {path}")))?;
            if empty.is_none() && fs::file_type(&fs::stat(cover.as_fd())?) == FileType::Directory {
                empty = Some(cover);
            }
        }
        Ok(())
    }

    pub(super) fn null_device(&self) -> Result<OwnedFd> {
        let null = self.look("/dev/null", Links::Refused)?;
        if super::identity::is_null(null.as_fd())? {
            return Ok(null);
        }
        Err(Error::Unsupported(
            "/dev/null of the container is not the null device (1:3), so nothing can be masked".to_owned(),
        ))
    }

    pub(super) fn protect_paths(&self, paths: &[String]) -> Result<()> {
        for path in paths {
            let target = match self.look(path, Links::Inside) {
                Ok(target) => target,
                Err(error) if error.is(sys::Errno::NOENT) || error.is(sys::Errno::NOTDIR) => continue,
                Err(error) => return Err(error.into()),
            };
            let copy = sys::mount::clone_tree(target.as_fd(), Depth::Tree)?;
            set_and_clear(copy.as_fd(), MountAttr::RDONLY, MountAttr::empty(), Depth::One)?;
            sys::mount::attach(copy.as_fd(), target.as_fd())
                .map_err(|e| Error::from(e).in_step(format!("make {path} read-only")))?;
        }
        Ok(())
    }
}

/// Whether a destination is the root itself. What is mounted there is what later paths begin at: a descriptor of what it
/// covers leads below it.
fn is_root(destination: &str) -> bool {
    destination.split('/').all(|name| matches!(name, "" | "." | ".."))
}

/// Says what a link in the way means, in the words that callers know.
fn told(error: Error, destination: &str, links: Links) -> Error {
    match error.errno() {
        Some(sys::Errno::LOOP) if links == Links::Refused => {
            error.in_step(format!("{destination} must be mounted on ordinary directory"))
        }
        _ => error,
    }
}

/// Keeps a mount off a procfs, however its destination led there.
fn refuse_procfs(target: BorrowedFd<'_>, allowed: bool) -> Result<()> {
    if allowed || !sys::procfs::is_procfs(target)? {
        return Ok(());
    }
    Err(Error::Unsupported("it is inside /proc, where only a few informative files may be covered".to_owned()))
}

/// Keeps what is no procfs from standing in for one: programs believe what they read there.
fn refuse_as_proc(destination: &str, is_proc: bool) -> Result<()> {
    if is_proc || split(destination) != (String::new(), "proc".to_owned()) {
        return Ok(());
    }
    Err(Error::Unsupported("/proc can be a procfs only".to_owned()))
}

/// An empty read-only tmpfs with room for nothing.
fn empty_tmpfs(label: Option<&str>) -> Result<OwnedFd> {
    let context = FsContext::open("tmpfs")?;
    context.set_string("source", "tmpfs")?;
    context.set_string("nr_blocks", "1")?;
    context.set_string("nr_inodes", "1")?;
    context.set_string("mode", "555")?;
    if let Some((key, value)) = label.and_then(|label| label.split_once('=')) {
        context.set_string(key, value.trim_matches('"'))?;
    }
    let attributes = MountAttr::RDONLY | MountAttr::NOSUID | MountAttr::NODEV | MountAttr::NOEXEC;
    Ok(context.mount(attributes.bits())?)
}

/// A tmpfs over a folder keeps the folder's mode, unless the definition gives one.
fn inherited_mode(mount: &FilesystemMount, existed: Option<BorrowedFd<'_>>) -> Result<Option<String>> {
    if mount.fstype != "tmpfs" || mount.data.iter().any(|option| option.starts_with("mode=")) {
        return Ok(None);
    }
    match existed {
        Some(fd) => Ok(Some(format!("{:o}", fs::stat(fd)?.st_mode & 0o7777))),
        None => Ok(None),
    }
}

fn set_options(context: &FsContext, options: &[String]) -> Result<()> {
    for option in options {
        match key_and_value(option) {
            (key, Some(value)) => context.set_string(&key, &value)?,
            (key, None) => context.set_flag(&key)?,
        }
    }
    Ok(())
}

/// `size=64k` is a key with a value, `nr_inodes` alone a flag; quotes around a value are for whoever wrote it.
fn key_and_value(option: &str) -> (String, Option<String>) {
    match option.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.trim_matches('"').to_owned())),
        None => (option.to_owned(), None),
    }
}

fn super_flag_names(flags: SuperFlags) -> Vec<&'static str> {
    named(flags, |(_, on, _)| *on)
}

fn super_flag_negations(flags: SuperFlags) -> Vec<&'static str> {
    named(flags, |(_, _, off)| *off)
}

type FlagName = (SuperFlags, Option<&'static str>, Option<&'static str>);

/// What `fsconfig` calls the flags of a super block. Silence is the default of the mount API. It has no word for inode
/// versions either: file systems that count them (ext4, xfs, btrfs, tmpfs) always do, others refuse `iversion`.
const FLAG_NAMES: [FlagName; 5] = [
    (SuperFlags::RDONLY, Some("ro"), Some("rw")),
    (SuperFlags::SYNCHRONOUS, Some("sync"), Some("async")),
    (SuperFlags::MANDLOCK, Some("mand"), Some("nomand")),
    (SuperFlags::DIRSYNC, Some("dirsync"), None),
    (SuperFlags::LAZYTIME, Some("lazytime"), Some("nolazytime")),
];

fn named(flags: SuperFlags, name: impl Fn(&FlagName) -> Option<&'static str>) -> Vec<&'static str> {
    FLAG_NAMES.iter().filter(|(flag, _, _)| flags.contains(*flag)).filter_map(name).collect()
}

/// Attributes of a mount. Modes of access time are one field of the kernel's: it is cleared before one is set.
pub(super) fn set_and_clear(mount: BorrowedFd<'_>, set: MountAttr, clear: MountAttr, depth: Depth) -> Result<()> {
    if set.is_empty() && clear.is_empty() {
        return Ok(());
    }
    let modes = MountAttr::NOATIME | MountAttr::STRICTATIME;
    let mut clear = clear.bits();
    if set.intersects(modes) || clear & modes.bits() != 0 {
        clear |= MountAttr::ATIME.bits();
    }
    let change = AttrChange { set: set.bits(), clear, ..AttrChange::default() };
    Ok(sys::mount::set_attr(mount, change, depth)?)
}

fn set_propagations(mount: BorrowedFd<'_>, list: &[(PropagationKind, bool)]) -> Result<()> {
    for (kind, recursive) in list {
        let change = AttrChange { propagation: Some(kernel(*kind)), ..AttrChange::default() };
        sys::mount::set_attr(mount, change, if *recursive { Depth::Tree } else { Depth::One })?;
    }
    Ok(())
}

/// Deepest folder that is copied into a tmpfs; deeper ones are an error, not a stack overflow.
const MAX_DEPTH: usize = 128;

/// Copies folders, files, links, owners and modes. Device nodes and sockets are left out.
fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(sys::Error::new("tmpcopyup: folders too deep", sys::Errno::LOOP).into());
    }
    for (name, _) in fs::list(from, ".")? {
        let stat = fs::stat_at(from, &name)?;
        match fs::file_type(&stat) {
            FileType::Directory => {
                fs::mkdir_at(to, &name, 0o700)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                let (below, made) = (fs::open_at(from, &name, flags, 0)?, fs::open_at(to, &name, flags, 0)?);
                copy_tree(below.as_fd(), made.as_fd(), depth + 1)?;
                fs::chown_at(made.as_fd(), "", stat.st_uid, stat.st_gid)?;
                fs::chmod(made.as_fd(), stat.st_mode & 0o7777)?;
            }
            FileType::RegularFile => {
                let source = fs::open_at(from, &name, OFlags::RDONLY | OFlags::NOFOLLOW, 0)?;
                let made = fs::open_at(to, &name, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY, 0o600)?;
                fs::copy_contents(source.as_fd(), made.as_fd())?;
                fs::chown_at(made.as_fd(), "", stat.st_uid, stat.st_gid)?;
                fs::chmod(made.as_fd(), stat.st_mode & 0o7777)?;
            }
            FileType::Symlink => {
                fs::symlink_at(&fs::readlink_at(from, &name)?, to, &name)?;
                fs::chown_at(to, &name, stat.st_uid, stat.st_gid)?;
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_keys_and_values() {
        assert_eq!(key_and_value("size=64k"), ("size".to_owned(), Some("64k".to_owned())));
        assert_eq!(key_and_value("newinstance"), ("newinstance".to_owned(), None));
        assert_eq!(key_and_value("context=\"a:b,c\""), ("context".to_owned(), Some("a:b,c".to_owned())));
    }

    #[test]
    fn the_root_has_many_names() {
        assert!(["/", "//", "/.", "/../"].into_iter().all(is_root));
        assert!(!["/a", "/a/..", "/..a"].into_iter().any(is_root));
    }

    #[test]
    fn flags_have_names_both_ways() {
        assert_eq!(super_flag_names(SuperFlags::RDONLY | SuperFlags::SILENT | SuperFlags::I_VERSION), ["ro"]);
        assert_eq!(super_flag_negations(SuperFlags::RDONLY | SuperFlags::DIRSYNC), ["rw"]);
    }
}
