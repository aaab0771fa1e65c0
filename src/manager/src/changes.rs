//! Frozen changes: what was a container's upper layer and is nobody's to write any more.
//!
//! ```text
//! data folder:
//!   changes/ID/layer.json     what it is, written before its content comes
//!   changes/ID/root           its tree, with the marks of overlay
//!   gone/NAME                 what was taken away by a rename and is being removed
//!   locks/.changes            shared: references to frozen changes are made; exclusive: what nobody refers to goes
//!   locks/.gone               who removes
//! ```
//!
//! A layer belongs to no container: definitions and snapshots refer to it by its id, and [`gc`] takes away what neither
//! names. It never changes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::base;
use crate::definition::Definition;
use crate::ops::remove_tree;
use crate::places::{Lock, Places, Readers, make_closed_dir, make_private_dir, now, write_whole};
use crate::snapshots;

/// Most frozen layers below one container. The kernel mounts 500 layers, of which an image has up to 127; each costs a look
/// at every name that is not in the layers above.
pub const DEPTH_MAX: usize = 100;

/// Lock of the references to frozen changes.
const LOCK: &str = ".changes";
/// Lock of the folder of what is being removed.
const GONE_LOCK: &str = ".gone";

/// What `layer.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Version of the document.
    schema: u32,
    /// Seconds since 1970.
    created: u64,
    /// The container whose changes it holds.
    container: String,
    /// How the marks of overlay are named in it: `trusted.overlay.*`.
    xattrs: String,
}

/// The folder of a frozen layer.
#[must_use]
pub fn folder(places: &Places, id: &str) -> PathBuf {
    places.data.join("changes").join(id)
}

/// The tree of a frozen layer.
#[must_use]
pub fn root(places: &Places, id: &str) -> PathBuf {
    folder(places, id).join("root")
}

/// All that lies below a container's upper layer: its frozen changes and its base, the uppermost first.
///
/// # Errors
/// One of them is not there any more.
pub fn layers(places: &Places, definition: &Definition) -> Result<Vec<PathBuf>> {
    let mut layers = Vec::new();
    for id in definition.changes.iter().rev() {
        let path = root(places, id);
        if !path.is_dir() {
            bail!("the frozen changes {} are not there", path.display());
        }
        layers.push(path);
    }
    layers.extend(base::layers(places, &definition.from)?);
    Ok(layers)
}

/// Makes the folder of a frozen layer without its tree.
///
/// # Errors
/// What the kernel says.
pub fn make(places: &Places, id: &str, container: &str) -> Result<()> {
    make_closed_dir(&places.data.join("changes"))?;
    let folder = folder(places, id);
    make_private_dir(&folder)?;
    let record = Record {
        schema: Definition::SCHEMA,
        created: now(),
        container: container.to_owned(),
        xattrs: "trusted".to_owned(),
    };
    write_whole(&folder.join("layer.json"), &serde_json::to_vec_pretty(&record)?, Readers::Owner)
}

/// Makes an empty upper layer above these layers.
///
/// # Errors
/// What the kernel says.
pub fn make_upper(path: &Path, below: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("cannot make {}", path.display()));
        }
        _ => {}
    }
    base::copy_root_attributes(below, path)
}

/// Whether an upper layer changes anything: it has entries, or its root differs from the one below.
///
/// # Errors
/// What the kernel says.
pub fn is_changed(upper: &Path, below: &Path) -> Result<bool> {
    let look = |path: &Path| fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()));
    let (above, below) = (look(upper)?, look(below)?);
    let attributes = |meta: &fs::Metadata| (meta.mode(), meta.uid(), meta.gid());
    let mut entries = fs::read_dir(upper).with_context(|| format!("cannot read {}", upper.display()))?;
    Ok(entries.next().is_some() || attributes(&above) != attributes(&below))
}

/// A name that nothing has: 16 hexadecimal digits.
///
/// # Errors
/// The kernel has no random numbers.
pub fn random_id() -> Result<String> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("cannot read /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Held by whoever makes a reference to frozen changes, from when it has read one until its own is on disk.
///
/// # Errors
/// What the kernel says.
pub fn lock(places: &Places) -> Result<Lock> {
    places.lock_own_shared(LOCK)
}

/// Moves something aside to be removed. From then on it is gone, whatever happens.
///
/// # Errors
/// What the kernel says.
pub fn discard(places: &Places, path: &Path) -> Result<()> {
    let gone = places.data.join("gone");
    make_closed_dir(&gone)?;
    fs::rename(path, gone.join(random_id()?)).with_context(|| format!("cannot remove {}", path.display()))
}

/// Removes what was moved aside, unless somebody does already.
///
/// # Errors
/// What the kernel says.
pub fn sweep(places: &Places) -> Result<()> {
    let gone = places.data.join("gone");
    let mut entries = match fs::read_dir(&gone) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => return Ok(()),
        other => other.with_context(|| format!("cannot read {}", gone.display()))?.peekable(),
    };
    if entries.peek().is_none() {
        return Ok(());
    }
    let Some(_lock) = places.try_lock_own(GONE_LOCK)? else { return Ok(()) };
    for entry in entries {
        remove_tree(&entry.with_context(|| format!("cannot read {}", gone.display()))?.path())?;
    }
    Ok(())
}

/// The frozen layers that nobody refers to; they are taken away unless this is a dry run.
///
/// # Errors
/// A definition or snapshot cannot be read: then nothing is taken away.
pub fn gc(places: &Places, dry_run: bool) -> Result<Vec<String>> {
    let folder_of_all = places.data.join("changes");
    if !folder_of_all.is_dir() {
        return Ok(Vec::new());
    }
    let _lock = places.lock_own(LOCK)?;
    let needed = needed(places)?;
    let mut found = Vec::new();
    for id in names(&folder_of_all)?.into_iter().filter(|id| !needed.contains(id)) {
        if !dry_run {
            discard(places, &folder(places, &id))?;
        }
        found.push(id);
    }
    Ok(found)
}

/// The ids that definitions and snapshots refer to, also those that are being made.
fn needed(places: &Places) -> Result<BTreeSet<String>> {
    let mut needed = BTreeSet::new();
    for name in names(&places.containers())? {
        if let Some(definition) = Definition::read(places, &name)? {
            needed.extend(definition.changes);
        }
        for snapshot in snapshots::list(places, &name)? {
            needed.extend(snapshot.changes);
        }
        if let Some(intent) = crate::pending::read(places, &name)? {
            needed.extend(intent.changes());
        }
    }
    Ok(needed)
}

/// The names in a folder, in order; none where it is not there.
///
/// # Errors
/// What the kernel says.
pub fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        other => other.with_context(|| format!("cannot read {}", folder.display()))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upper_layer_with_the_attributes_of_the_one_below_changes_nothing() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (upper, below) = (dir.path().join("upper"), dir.path().join("below"));
        fs::create_dir(&below).unwrap();
        fs::set_permissions(&below, fs::Permissions::from_mode(0o750)).unwrap();
        make_upper(&upper, &below).unwrap();
        assert!(!is_changed(&upper, &below).unwrap());
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(is_changed(&upper, &below).unwrap());
        make_upper(&upper, &below).unwrap();
        fs::write(upper.join("x"), "").unwrap();
        assert!(is_changed(&upper, &below).unwrap());
    }

    #[test]
    fn what_is_discarded_is_gone_at_once_and_swept_later() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places { data: dir.path().to_owned() };
        let id = random_id().unwrap();
        assert_eq!(id.len(), 16);
        make(&places, &id, "web1").unwrap();
        discard(&places, &folder(&places, &id)).unwrap();
        assert!(!folder(&places, &id).exists());
        assert_eq!(names(&dir.path().join("gone")).unwrap().len(), 1);
        sweep(&places).unwrap();
        assert_eq!(names(&dir.path().join("gone")).unwrap().len(), 0);
    }

    #[test]
    fn layers_that_nobody_refers_to_are_collected() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places { data: dir.path().to_owned() };
        for id in ["aa", "bb"] {
            make(&places, id, "web1").unwrap();
        }
        let snapshots = places.container("web1").join("snapshots");
        fs::create_dir_all(&snapshots).unwrap();
        let snapshot = r#"{"schema": 1, "name": "s", "created": 1, "from": "host", "changes": ["aa"]}"#;
        fs::write(snapshots.join("s.json"), snapshot).unwrap();
        assert_eq!(gc(&places, true).unwrap(), ["bb"]);
        assert_eq!(gc(&places, false).unwrap(), ["bb"]);
        assert_eq!(names(&dir.path().join("changes")).unwrap(), ["aa"]);
        assert_eq!(gc(&places, false).unwrap(), Vec::<String>::new());
    }
}
