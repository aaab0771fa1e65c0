//! Work in progress: a folder in `tmp` that is removed when its owner is gone, by whatever cause.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sys::Errno;
use sys::fs::FlockOperation;

use crate::digest::Digest;
use crate::remove::remove_tree;

use super::{Store, StoreError, at, called, list};

/// A folder of one piece of work. Its lock says that somebody still works; dropping it removes the folder.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) path: PathBuf,
    // Held, and handed on by an import alone.
    #[cfg_attr(not(feature = "import"), allow(dead_code))]
    lock: File,
}

impl Work {
    /// Makes a folder that nobody else has.
    pub(crate) fn begin(store: &Store) -> Result<Work, StoreError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = store.tmp_folder().join(name);
            match DirBuilder::new().mode(0o700).create(&path) {
                // A process had our number before, or another pid namespace has the same numbers.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                other => other.map_err(at("make", &path))?,
            }
            let lock = match File::open(&path) {
                // Who opened the store at this moment has taken it for a left one.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                other => other.map_err(at("open", &path))?,
            };
            sys::fs::flock(lock.as_fd(), FlockOperation::LockExclusive).map_err(called("lock", &path))?;
            if lock.metadata().map_err(at("look at", &path))?.nlink() > 0 {
                let pins = path.join("pins");
                fs::create_dir(&pins).map_err(at("make", &pins))?;
                return Ok(Work { path, lock });
            }
        }
    }

    /// The lock once more, for a program that works on it: the work lasts until that has ended too.
    #[cfg(feature = "import")]
    pub(crate) fn lock(&self) -> std::io::Result<File> {
        self.lock.try_clone()
    }

    /// Keeps a layer from being taken away while this work lasts, and says whether it is there.
    pub(crate) fn pin(&self, store: &Store, diff_id: Digest) -> Result<bool, StoreError> {
        let path = self.path.join("pins").join(diff_id.folder());
        let _lock = store.lock(FlockOperation::LockShared)?;
        File::create(&path).map_err(at("make", &path))?;
        store.has_layer(diff_id)
    }

    /// Makes a finished layer of the folder `name`, which has a full `root`: writes its record, syncs all of it, and
    /// renames it. When the layer came meanwhile, this one is left for the end of the work.
    #[cfg(feature = "import")]
    pub(crate) fn commit_layer(&self, store: &Store, name: &str, layer: &super::Layer) -> Result<(), StoreError> {
        let from = self.path.join(name);
        super::write_record(&from.join("layer.json"), layer)?;
        let folder = File::open(&from).map_err(at("open", &from))?;
        sys::entry::sync_file_system(folder.as_fd()).map_err(called("sync", &from))?;
        self.pin(store, layer.diff_id)?;
        let to = store.layer_folder(layer.diff_id);
        match fs::rename(&from, &to) {
            // A folder with something in it is in the way: the same layer.
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => Ok(()),
            other => {
                other.map_err(at("rename a layer to", &to)).and_then(|()| super::sync_folder(&store.layers_folder()))
            }
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // Nobody could be told, and who opens the store next tries again.
        drop(remove_tree(&self.path));
    }
}

/// Layers that stay for as long as this lives, whoever collects garbage.
#[derive(Debug)]
pub struct Pin {
    _work: Work,
}

impl Store {
    /// Keeps layers from being taken away until the result is dropped or this process ends: between the look at an
    /// image and the record of what uses it.
    ///
    /// # Errors
    /// [`StoreError::NoLayer`] for one that is not there.
    pub fn pin(&self, layers: &[Digest]) -> Result<Pin, StoreError> {
        let work = Work::begin(self)?;
        for diff_id in layers {
            if !work.pin(self, *diff_id)? {
                return Err(StoreError::NoLayer(*diff_id));
            }
        }
        Ok(Pin { _work: work })
    }
}

/// Removes the folders in `tmp` that nobody works in. Returns how many.
pub(super) fn sweep(store: &Store) -> Result<usize, StoreError> {
    let mut removed = 0;
    for name in list(&store.tmp_folder())? {
        let path = store.tmp_folder().join(name);
        let Some(_lock) = lock_left(&path)? else { continue };
        remove_tree(&path).map_err(called("remove", &path))?;
        removed += 1;
    }
    Ok(removed)
}

/// Takes the lock of a folder whose owner is gone; none while somebody has it, or when it is gone itself.
fn lock_left(path: &Path) -> Result<Option<File>, StoreError> {
    let folder = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(at("open", path))?,
    };
    match sys::fs::flock(folder.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Err(error) if error.is(Errno::WOULDBLOCK) => return Ok(None),
        other => other.map_err(called("lock", path))?,
    }
    // Its owner has removed it meanwhile, and somebody else may have made another with its name.
    let gone = folder.metadata().map_err(at("look at", path))?.nlink() == 0;
    Ok((!gone).then_some(folder))
}

/// Layers that somebody's work needs. The store's lock is to be held.
pub(super) fn pinned(store: &Store) -> Result<Vec<Digest>, StoreError> {
    let mut found = Vec::new();
    for name in list(&store.tmp_folder())? {
        match list(&store.tmp_folder().join(name).join("pins")) {
            Ok(names) => found.extend(names.iter().filter_map(|name| Digest::parse_folder(name))),
            // It ended, or has not begun.
            Err(StoreError::File { source, .. })
                if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}
