//! A root file system of layers, mounted for one container and for nobody else.
//!
//! A maker mounts it ([`super::maker`]), so there is nothing to undo, also after a crash. Layers are attached there under
//! short names, since the kernel takes no more than 255 bytes for the value of an option, and takes a mount as a layer only
//! where it is attached (before 6.15).
//!
//! Layers that follow the container's ids are mapped by its user namespace. What the overlay itself writes (its working
//! folder, a copy of a lower file) it writes as whoever mounted it, by the ids for file systems: those have to be the
//! container's root, or the kernel finds that they have no mapping (EOVERFLOW) and mounts read-only without a word.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use runtime_spec::overlay::{Overlay, Upper};
use sys::Errno;
use sys::fs::{self, OFlags};
use sys::mount::{AttrChange, Depth, FsContext};

use super::hide;
use super::maker::{self, Maker};
use crate::error::Result;
use crate::step::OverlayRoot;

/// Most bytes of an option's value (fs/fsopen.c, `strndup_user(_value, 256)`).
const OPTION_MAX: usize = 255;
/// Folder of the upper layer in the maker's file system.
const CHANGES: &str = "u";
/// Folder of the layer that hides.
const HIDING: &str = "h";
/// An empty folder.
const NOTHING: &str = "e";
/// Where the mount is attached for a moment.
const MERGED: &str = "m";
/// Names of the two folders of an upper layer in memory.
const MEMORY: (&str, &str) = ("upper", "work");

/// Has a maker mount the layers. `userns` is the one whose ids they follow.
///
/// # Errors
/// What the kernel says; what goes wrong with the layers, [`take`] tells.
pub(super) fn start(root: &OverlayRoot, userns: Option<BorrowedFd<'_>>) -> Result<Maker> {
    maker::start(|sender| {
        let mount = mount_inside(root, userns)?;
        // The kernel copies a mount only where it is attached.
        let copy = if root.copy.is_some() { Some(copy(mount.as_fd())?) } else { None };
        sender.send(copy.as_ref().unwrap_or(&mount).as_fd())?;
        match copy {
            Some(_) => sender.send(sys::mount::clone_tree(mount.as_fd(), Depth::One)?.as_fd()),
            None => Ok(()),
        }
    })
}

/// Takes the mount, attached nowhere, and a copy of it where one was made.
///
/// # Errors
/// What the kernel says, with the layer.
pub(super) fn take(maker: Maker, copied: bool) -> Result<Vec<OwnedFd>> {
    maker.take(["mount the layers", "copy that mount"].into_iter().take(1 + usize::from(copied)))
}

/// Attaches a mount in the maker's file system and copies it.
fn copy(mount: BorrowedFd<'_>) -> Result<OwnedFd> {
    let folder = fs::open_at(fs::CWD, ".", OFlags::PATH | OFlags::DIRECTORY, 0)?;
    attach(folder.as_fd(), MERGED, mount)?;
    Ok(sys::mount::clone_tree(mount, Depth::One)?)
}

fn mount_inside(root: &OverlayRoot, userns: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    let layers = &root.layers;
    let lower: Vec<OwnedFd> = layers.lower.iter().map(|path| open_layer(path, userns)).collect::<Result<_>>()?;
    let changes = open_changes(&layers.upper, userns)?;
    let folder = FsContext::open("tmpfs")?.mount(0)?;
    sys::mount::attach(folder.as_fd(), fs::open_dir("/")?.as_fd())?;
    for (number, layer) in lower.iter().enumerate() {
        attach(folder.as_fd(), &number.to_string(), layer.as_fd())?;
    }
    if let Some(changes) = &changes {
        attach(folder.as_fd(), CHANGES, changes.as_fd())?;
    }
    fs::mkdir_at(folder.as_fd(), NOTHING, 0o755)?;
    sys::process::chdir_fd(folder.as_fd())?;
    if !layers.hide.is_empty() {
        let below: Vec<BorrowedFd<'_>> = lower[above_hiding(layers)..].iter().map(AsFd::as_fd).collect();
        hide::make_layer(folder.as_fd(), HIDING, &below, &layers.hide, layers.user_xattr)?;
    }
    if let Some((uid, gid)) = root.owner {
        sys::process::set_file_system_ids(uid, gid)?;
    }
    if let (Upper::Memory { .. }, Some(changes)) = (&layers.upper, &changes) {
        make_memory_folders(changes.as_fd(), lower[0].as_fd())?;
    }
    configure(layers, root.label.as_deref())?.mount(0).map_err(Into::into)
}

/// A detached copy of a folder's mount, with the ids of the container.
fn open_layer(path: &str, userns: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    let layer = sys::mount::clone_path(path, Depth::One, false)?;
    if fs::file_type(&fs::stat(layer.as_fd())?) != fs::FileType::Directory {
        return Err(sys::Error::new(format!("open layer {path:?}"), Errno::NOTDIR).into());
    }
    map_ids(layer.as_fd(), userns).map_err(|error| error.in_step(format!("map the ids of layer {path:?}")))?;
    Ok(layer)
}

fn map_ids(mount: BorrowedFd<'_>, userns: Option<BorrowedFd<'_>>) -> Result<()> {
    let Some(userns) = userns else { return Ok(()) };
    let change = AttrChange { idmap: Some(userns), ..AttrChange::default() };
    Ok(sys::mount::set_attr(mount, change, Depth::One)?)
}

/// The mount that holds both folders of the upper layer: the kernel wants them on the same one.
fn open_changes(upper: &Upper, userns: Option<BorrowedFd<'_>>) -> Result<Option<OwnedFd>> {
    match upper {
        Upper::None => Ok(None),
        Upper::Folder { upper, .. } => Ok(Some(open_layer(split(upper).0, userns)?)),
        Upper::Memory { bytes } => {
            let context = FsContext::open("tmpfs")?;
            context.set_string("source", "changes")?;
            context.set_string("mode", "0755")?;
            if *bytes > 0 {
                context.set_string("size", &bytes.to_string())?;
            }
            let memory = context.mount(0)?;
            map_ids(memory.as_fd(), userns)?;
            Ok(Some(memory))
        }
    }
}

/// The upper layer has the say on the root folder itself: it gets the attributes of the layer below.
fn make_memory_folders(memory: BorrowedFd<'_>, below: BorrowedFd<'_>) -> Result<()> {
    let stat = fs::stat(below)?;
    fs::mkdir_at(memory, MEMORY.1, 0o700)?;
    fs::mkdir_at(memory, MEMORY.0, 0o755)?;
    fs::chown_at(memory, MEMORY.0, stat.st_uid, stat.st_gid)?;
    let upper = fs::open_at(memory, MEMORY.0, OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
    Ok(fs::chmod(upper.as_fd(), stat.st_mode & 0o7777)?)
}

fn attach(folder: BorrowedFd<'_>, name: &str, mount: BorrowedFd<'_>) -> Result<()> {
    fs::mkdir_at(folder, name, 0o700)?;
    let place = fs::open_at(folder, name, OFlags::PATH | OFlags::DIRECTORY, 0)?;
    Ok(sys::mount::attach(mount, place.as_fd())?)
}

fn configure(layers: &Overlay, label: Option<&str>) -> Result<FsContext> {
    let context = FsContext::open("overlay")?;
    context.set_string("source", "overlay")?;
    for (key, value) in render_options(layers) {
        match value {
            Some(value) => context.set_string(key, &value)?,
            None => context.set_flag(key)?,
        }
    }
    if let Some(label) = label {
        context.set_string("context", label)?;
    }
    Ok(context)
}

/// How many layers are above the one that hides: all but the lowest, since what is above has been the container's own.
fn above_hiding(layers: &Overlay) -> usize {
    layers.lower.len() - 1
}

/// The options of the mount, by the names of the maker's file system.
///
/// A layer may come from a stranger: no redirection that it holds is followed, and no file of it is taken for the mere
/// attributes of another (`redirect_dir`, `metacopy`), whatever the kernel was built with. An upper layer may have been
/// copied (`index`).
/// Kernel: Documentation/filesystems/overlayfs.rst.
fn render_options(layers: &Overlay) -> Vec<(&'static str, Option<String>)> {
    let mut names: Vec<String> = (0..layers.lower.len()).map(|number| number.to_string()).collect();
    if !layers.hide.is_empty() {
        names.insert(above_hiding(layers), HIDING.to_owned());
    }
    if matches!(layers.upper, Upper::None) && names.len() == 1 {
        // The kernel wants two layers, or one that takes changes.
        names.push(NOTHING.to_owned());
    }
    let all = names.join(":");
    let mut options = Vec::new();
    if all.len() <= OPTION_MAX {
        options.push(("lowerdir", Some(all)));
    } else {
        // KERNEL(6.7): one at a time.
        options.extend(names.into_iter().map(|name| ("lowerdir+", Some(name))));
    }
    let folders = match &layers.upper {
        Upper::None => None,
        Upper::Folder { upper, work } => Some((split(upper).1, split(work).1)),
        Upper::Memory { .. } => Some(MEMORY),
    };
    if let Some((upper, work)) = folders {
        options.push(("upperdir", Some(format!("{CHANGES}/{upper}"))));
        options.push(("workdir", Some(format!("{CHANGES}/{work}"))));
        options.push(("index", Some("off".to_owned())));
    }
    options.push(("redirect_dir", Some("nofollow".to_owned())));
    options.push(("metacopy", Some("off".to_owned())));
    options.extend(layers.user_xattr.then_some(("userxattr", None)));
    options.extend(layers.volatile.then_some(("volatile", None)));
    options
}

/// A path's folder and its name there.
fn split(path: &str) -> (&str, &str) {
    let path = path.trim_end_matches('/');
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some(parts) => parts,
        None => (".", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(count: usize, upper: Upper) -> Overlay {
        let lower = (0..count).map(|number| format!("/layers/{number}")).collect();
        Overlay { lower, upper, hide: Vec::new(), idmap: false, user_xattr: false, volatile: false }
    }

    fn text(overlay: &Overlay) -> String {
        let option = |(key, value): &(&str, Option<String>)| match value {
            Some(value) => format!("{key}={value}"),
            None => (*key).to_owned(),
        };
        render_options(overlay).iter().map(option).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn layers_are_named_by_their_place() {
        let upper = Upper::Folder { upper: "/c/web1/upper/".to_owned(), work: "/c/web1/work".to_owned() };
        assert_eq!(
            text(&layers(3, upper)),
            "lowerdir=0:1:2 upperdir=u/upper workdir=u/work index=off redirect_dir=nofollow metacopy=off"
        );
        assert_eq!(text(&layers(1, Upper::None)), "lowerdir=0:e redirect_dir=nofollow metacopy=off");
        let memory = Overlay { volatile: true, user_xattr: true, ..layers(1, Upper::Memory { bytes: 0 }) };
        assert!(text(&memory).contains("upperdir=u/upper workdir=u/work"), "{}", text(&memory));
        assert!(text(&memory).ends_with("userxattr volatile"), "{}", text(&memory));
        let hiding = Overlay { hide: vec!["/root".to_owned()], ..layers(2, Upper::None) };
        assert!(text(&hiding).starts_with("lowerdir=0:h:1 "), "{}", text(&hiding));
    }

    #[test]
    fn more_layers_than_one_option_holds_come_one_by_one() {
        assert!(text(&layers(88, Upper::None)).starts_with("lowerdir=0:1:"));
        assert!(text(&layers(89, Upper::None)).starts_with("lowerdir+=0 lowerdir+=1 "));
    }

    #[test]
    fn a_path_is_its_folder_and_its_name() {
        assert_eq!(split("/a/b"), ("/a", "b"));
        assert_eq!(split("/a"), ("/", "a"));
        assert_eq!(split("/a/b/"), ("/a", "b"));
    }
}
