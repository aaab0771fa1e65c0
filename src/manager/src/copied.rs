//! Files that are copied where layers cannot be stacked.
//!
//! ```text
//! --storage copy     own/upper is the whole root file system: a copy of what the layers show, mounted by nobody
//! --from host, with the data folder among the host's files: own/upper is an upper layer as usual, but nothing frozen can
//!                    lie between it and "/", since the kernel takes no layer that is inside another one (ELOOP)
//! ```
//!
//! In both cases a snapshot is a copy of the upper folder, and so is what `restore` and `copy` make of one. Blocks are shared
//! where the file system can (btrfs, xfs).

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rootfs_tools::{Stack, copy_stack};
use runtime_spec::state::Status;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sys::fs::StatFs;

use crate::changes;
use crate::definition::{Definition, From, Upper};
use crate::output::tell;
use crate::pending::{self, Intent};
use crate::places::{Places, UPPER};
use crate::run::Manager;

/// How a root file system is put together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Storage {
    /// Of layers that are only read, and one that takes the changes.
    #[default]
    Overlay,
    /// Of a copy of all files.
    Copy,
}

impl Storage {
    /// Whether it is the usual one.
    #[must_use]
    pub fn is_overlay(&self) -> bool {
        *self == Storage::Overlay
    }
}

/// File systems that the kernel takes no upper layer from (fs/overlayfs/super.c, `ovl_mount_dir_check`: names that have to be
/// asked for again; `ovl_make_workdir`: no whiteouts), by their numbers in include/uapi/linux/magic.h.
const NO_UPPER: [(u64, &str); 10] = [
    (0x794c_7630, "overlay"),
    (0x6573_5546, "fuse"),
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb3"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "ceph"),
    (0x4d44, "vfat"),
    (0x2011_bab0, "exfat"),
    (0xf15f, "ecryptfs"),
];

/// Decides how a container that is being defined is put together, and says when it is not the usual way.
///
/// # Errors
/// What was asked for cannot be had; what the kernel says.
pub fn decide(places: &Places, definition: &Definition, wanted: Option<Storage>) -> Result<Storage> {
    let refusal = match definition.upper {
        // Only root of the first user namespace gives a container's layers to it.
        _ if sys::process::effective_uid() != 0 => Some("an ordinary user cannot mount layers".to_owned()),
        // Nothing of the data folder is written to.
        _ if matches!(definition.from, From::Adopted { .. }) => None,
        Upper::Disk => probe_refusal(&places.data)?,
        // Nothing of the data folder is written to.
        Upper::Memory(_) => None,
    };
    let storage = match (wanted, &refusal) {
        (Some(Storage::Copy), _) | (None, Some(_)) => Storage::Copy,
        (None, None) => Storage::Overlay,
        (Some(Storage::Overlay), None) => return Ok(Storage::Overlay),
        (Some(Storage::Overlay), Some(why)) => bail!("--storage overlay cannot be had: {why}"),
    };
    if storage == Storage::Copy {
        let why = refusal.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let refused = match definition {
            Definition { from: From::Host { .. }, .. } => Some("the host's own files are not copied"),
            Definition { from: From::Adopted { .. }, .. } => Some("files that are used where they lie are not copied"),
            Definition { ids: Some(_), .. } => {
                Some("a copy has no mapped ids: leave --ids out, or give --privileged with --init")
            }
            Definition { upper: Upper::Memory(_), .. } => Some("a copy is on disk: leave --ephemeral out"),
            _ => None,
        };
        if let Some(refused) = refused {
            bail!("{refused}{why}");
        }
        if let Some(why) = refusal {
            tell(&format!("note: {:?} gets a copy of all its files: {why}", definition.name));
        }
    }
    Ok(storage)
}

/// What the kernel says of the file system that the data folder is on, or will be on: it may not be there yet.
///
/// # Errors
/// What the kernel says.
pub fn file_system(data: &Path) -> Result<StatFs> {
    let there = data.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let folder = File::open(there).with_context(|| format!("cannot open {}", there.display()))?;
    Ok(sys::fs::statfs(folder.as_fd())?)
}

/// Why nothing can be stacked on a folder of this file system; `None` where nothing is known against it.
///
/// # Errors
/// What the kernel says.
pub fn probe_refusal(data: &Path) -> Result<Option<String>> {
    if in_user_namespace()? {
        // The marks would be `user.overlay.*`, which anybody may set who owns a file.
        return Ok(Some("in a user namespace the marks of layers on disk cannot be trusted".to_owned()));
    }
    let kind = u64::try_from(file_system(data)?.f_type).unwrap_or(0);
    if let Some(name) = plan_refusal(kind) {
        return Ok(Some(format!("the kernel takes no upper layer from {}, which is on {name}", data.display())));
    }
    let known = fs::read_to_string("/proc/filesystems").context("cannot read /proc/filesystems")?;
    // A module is loaded by the first mount.
    if !parse_knows_overlay(&known) && !Path::new("/proc/modules").exists() {
        return Ok(Some("this kernel has no overlay file system".to_owned()));
    }
    Ok(None)
}

/// Whether this process is in a user namespace that has not all ids of the machine: a container inside another one.
///
/// # Errors
/// What the kernel says.
pub fn in_user_namespace() -> Result<bool> {
    const MAP: &str = "/proc/self/uid_map";
    match fs::read_to_string(MAP) {
        // A kernel without user namespaces.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        other => Ok(!sys::namespace::maps_every_id(&other.with_context(|| format!("cannot read {MAP}"))?)),
    }
}

/// The name of a file system that cannot have the upper layer.
fn plan_refusal(kind: u64) -> Option<&'static str> {
    NO_UPPER.iter().find(|(number, _)| *number == kind & 0xffff_ffff).map(|(_, name)| *name)
}

fn parse_knows_overlay(filesystems: &str) -> bool {
    filesystems.lines().any(|line| line.split_whitespace().last() == Some("overlay"))
}

/// Has the bundle of a container use its folder of files instead of layers.
pub fn set_root(config: &mut Value, container: &Path) {
    config["root"]["path"] = json!(container.join(UPPER));
    if let Some(annotations) = config["annotations"].as_object_mut() {
        annotations.remove(runtime_spec::overlay::ANNOTATION);
    }
}

/// What a container sees, the uppermost folder first.
///
/// # Errors
/// One of them is not there any more.
pub fn shown(places: &Places, definition: &Definition) -> Result<Vec<PathBuf>> {
    let mut all = vec![places.container(&definition.name).join(UPPER)];
    if definition.storage == Storage::Overlay {
        all.extend(changes::layers(places, definition)?);
    }
    Ok(all)
}

/// Copies what layers show into an upper folder, which is there and empty.
///
/// # Errors
/// What the kernel says; then the folder is to be thrown away.
pub fn fill(upper: &Path, layers: &[PathBuf]) -> Result<()> {
    copy(&Stack::open(layers)?, upper)
}

/// Copies an upper folder with its marks into another, which is there and empty.
///
/// # Errors
/// What the kernel says; then the folder is to be thrown away.
pub fn fill_raw(upper: &Path, from: &Path) -> Result<()> {
    copy(&Stack::open_raw(from)?, upper)
}

fn copy(stack: &Stack, to: &Path) -> Result<()> {
    let folder = File::open(to).with_context(|| format!("cannot open {}", to.display()))?;
    copy_stack(stack, folder.into())?.iter().for_each(|note| tell(note));
    Ok(())
}

/// Whether what the container has changed can be frozen by a copy alone.
///
/// # Errors
/// What the kernel says.
pub fn is_alone(places: &Places, definition: &Definition) -> Result<bool> {
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).with_context(|| path.display().to_string());
    Ok(match definition.from {
        _ if definition.storage == Storage::Copy => true,
        From::Host { .. } => definition.changes.is_empty() && device(Path::new("/"))? == device(&places.data)?,
        _ => false,
    })
}

/// Copies the upper folder of a container into a frozen layer, as it is while the container stands still. Returns its id.
///
/// # Errors
/// What the kernel or the runtime says; then there is no such layer.
pub fn freeze(manager: &Manager, name: &str, status: Option<Status>) -> Result<String> {
    let places = &manager.places;
    let upper = places.container(name).join(UPPER);
    let id = changes::random_id()?;
    let mut status = status.unwrap_or(Status::Stopped);
    // It may end before it can be frozen: then it stands still for good.
    while !copy_upper(manager, name, &id, &upper, status)? {
        status = Status::Stopped;
    }
    Ok(id)
}

/// Copies the upper layer of a container. `false` where its process ended before it could be frozen: then nothing is copied,
/// and it is a stopped one.
///
/// # Errors
/// What the kernel or the runtime says; then nothing is copied.
pub fn copy_upper(manager: &Manager, name: &str, id: &str, upper: &Path, status: Status) -> Result<bool> {
    // One that stands still already, or has not begun, stays as it is.
    let frozen = status == Status::Running;
    let places = &manager.places;
    pending::perform(manager, name, &Intent::Copy { id: id.to_owned(), frozen }, || {
        if frozen && !manager.runtime.set_frozen(name, true)? {
            return Ok(false);
        }
        changes::make(places, id, name)?;
        let root = changes::root(places, id);
        let unfinished = root.with_extension("new");
        fs::create_dir(&unfinished).with_context(|| format!("cannot make {}", unfinished.display()))?;
        fill_raw(&unfinished, upper)?;
        if frozen {
            manager.runtime.set_frozen(name, false)?;
        }
        let folder = File::open(&unfinished).with_context(|| format!("cannot open {}", unfinished.display()))?;
        sys::entry::sync_file_system(folder.as_fd())?;
        fs::rename(&unfinished, &root).with_context(|| format!("cannot make {}", root.display()))?;
        Ok(true)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_without_upper_layers_are_known_by_number() {
        assert_eq!(plan_refusal(0x6969), Some("nfs"));
        // As a signed number of 32 bits that was widened.
        assert_eq!(plan_refusal(0xffff_ffff_ff53_4d42), Some("cifs"));
        assert_eq!(plan_refusal(0xef53), None);
    }

    #[test]
    fn a_kernel_says_which_file_systems_it_knows() {
        assert!(parse_knows_overlay("nodev\tsysfs\nnodev\toverlay\n\text4\n"));
        assert!(!parse_knows_overlay("nodev\toverlayfs\n\text4\n"));
    }

    #[test]
    fn a_bundle_with_a_folder_has_no_layers() {
        let mut config = json!({ "root": { "path": "rootfs" }, "annotations": { "io.skep.overlay": "{}", "a": "b" } });
        set_root(&mut config, Path::new("/c/web1"));
        assert_eq!(config, json!({ "root": { "path": "/c/web1/own/upper" }, "annotations": { "a": "b" } }));
    }
}
