//! What is kept on disk: layers by their content, images by their name.
//!
//! ```text
//! DATA/lock                         shared: something is taken into use; exclusive: something is taken away
//! DATA/layers/sha256-HEX/layer.json what the layer is; HEX is of its uncompressed archive (the diff id)
//!                        root/      its tree, with overlay's marks for what is gone
//! DATA/images/NAME.json             an image; NAME has what no file name may have as %XX
//! DATA/tmp/PID-N/                   work in progress, for as long as somebody holds its lock
//!                 pins/sha256-HEX   layers that this work needs
//! ```
//!
//! A layer is made in `tmp`, synced and renamed: it is there as a whole or not at all. An image is a file that is written,
//! synced and renamed after its layers. What a killed process leaves lies in `tmp` with a free lock, and whoever opens the
//! store next removes it. A layer that nobody needs is moved to `tmp` before it is removed.
//!
//! Only root may look into it: layers have programs with set-user-id of all ages.

mod check;
mod gc;
mod image;
mod work;

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sys::fs::{FlockOperation, OFlags};

use crate::digest::Digest;

pub use check::{Finding, check};
pub use gc::{Report, gc};
pub use image::{Image, ImageConfig, NameError, validate_name};
pub use work::Pin;
pub(crate) use work::Work;

/// Mode of the lock: its owner alone opens it.
const LOCK_MODE: u32 = 0o600;

/// Version of the records. A newer one is refused.
pub(crate) const SCHEMA: u32 = 1;

/// A place with images and their layers.
#[derive(Debug, Clone)]
pub struct Store {
    data: PathBuf,
}

/// Which names overlay's own attributes have in a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XattrFlavour {
    /// `trusted.overlay.*`: what overlay reads by default.
    Trusted,
    /// `user.overlay.*`: what it reads when mounted with `userxattr`.
    User,
}

/// What `layer.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Version of this record.
    pub schema: u32,
    /// Hash of the uncompressed archive.
    pub diff_id: Digest,
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of file content.
    pub bytes: u64,
    /// Bytes of the uncompressed archive.
    pub archive_bytes: u64,
    /// How overlay's own attributes are named in it.
    pub xattrs: XattrFlavour,
    /// Nothing of lower layers shows: a stack ends here.
    pub opaque_root: bool,
    /// When it came, in seconds since 1970.
    pub imported: u64,
}

/// Why the store cannot do what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A step on a file failed.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A kernel call on a file failed.
    #[error("cannot {action} {}", path.display())]
    Call {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: sys::Error,
    },
    /// A record is none.
    #[error("{} is no record of this store", path.display())]
    Record {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A record was written by a later version.
    #[error("{} has schema {found}: up to {SCHEMA} is known here", path.display())]
    Schema {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// No image has this name.
    #[error("there is no image {0:?}")]
    NoImage(String),
    /// A layer is not there.
    #[error("there is no layer {0}")]
    NoLayer(Digest),
    /// The marks of a layer are not those that overlay reads by default.
    #[error("layer {0} has marks by the name of user.overlay, which are not read here")]
    Flavour(Digest),
    /// The name is none that an image may have.
    #[error(transparent)]
    Name(#[from] NameError),
}

pub(crate) fn at<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + use<'a> {
    move |source| StoreError::File { action, path: path.to_owned(), source }
}

pub(crate) fn called<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(sys::Error) -> StoreError + use<'a> {
    move |source| StoreError::Call { action, path: path.to_owned(), source }
}

impl Store {
    /// Opens the store in `data`, which is made where it is missing, and removes what killed processes left.
    ///
    /// # Errors
    /// [`StoreError`] where the folders cannot be made or what was left cannot be removed.
    pub fn open(data: &Path) -> Result<Store, StoreError> {
        // The way to it is the host's: only what is ours is closed to others.
        fs::create_dir_all(data).map_err(at("make", data))?;
        let store = Store { data: data.to_owned() };
        for folder in ["layers", "images", "tmp"] {
            let path = data.join(folder);
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(at("make", &path)(error)),
                _ => {}
            }
        }
        work::sweep(&store)?;
        Ok(store)
    }

    /// The folder that the store lies in.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The folder of a layer's tree. Whether it is there is not looked at.
    #[must_use]
    pub fn layer_root(&self, diff_id: Digest) -> PathBuf {
        self.layer_folder(diff_id).join("root")
    }

    /// Whether a layer is there.
    ///
    /// # Errors
    /// [`StoreError::File`] where that cannot be told.
    pub fn has_layer(&self, diff_id: Digest) -> Result<bool, StoreError> {
        let path = self.layer_folder(diff_id);
        fs::exists(&path).map_err(at("look for", &path))
    }

    /// Reads what a layer is.
    ///
    /// # Errors
    /// [`StoreError::NoLayer`], or what is wrong with its record.
    pub fn layer(&self, diff_id: Digest) -> Result<Layer, StoreError> {
        let layer: Option<Layer> = read_record(&self.layer_folder(diff_id).join("layer.json"))?;
        layer.ok_or(StoreError::NoLayer(diff_id))
    }

    /// The layers that are there, in the order of their digests.
    ///
    /// # Errors
    /// [`StoreError::File`] where the folder cannot be read.
    pub fn layers(&self) -> Result<Vec<Digest>, StoreError> {
        let mut found: Vec<Digest> =
            list(&self.layers_folder())?.iter().filter_map(|name| Digest::parse_folder(name)).collect();
        found.sort();
        Ok(found)
    }

    /// The trees that an overlay of these layers (lowest first) is made of, highest first as overlay wants them.
    ///
    /// A layer that stands in an image twice is there once, at its highest place, as overlay refuses a folder twice and
    /// what the lower one has is hidden. Nothing is below a layer with an opaque root.
    ///
    /// # Errors
    /// [`StoreError::NoLayer`], [`StoreError::Flavour`], or what is wrong with a layer's record.
    pub fn stack(&self, layers: &[Digest]) -> Result<Vec<PathBuf>, StoreError> {
        let mut seen = Vec::new();
        for diff_id in layers.iter().rev() {
            if seen.contains(diff_id) {
                continue;
            }
            seen.push(*diff_id);
            let layer = self.layer(*diff_id)?;
            if layer.xattrs != XattrFlavour::Trusted {
                return Err(StoreError::Flavour(*diff_id));
            }
            if layer.opaque_root {
                break;
            }
        }
        Ok(seen.into_iter().map(|diff_id| self.layer_root(diff_id)).collect())
    }

    pub(crate) fn layers_folder(&self) -> PathBuf {
        self.data.join("layers")
    }

    pub(crate) fn layer_folder(&self, diff_id: Digest) -> PathBuf {
        self.layers_folder().join(diff_id.folder())
    }

    pub(crate) fn images_folder(&self) -> PathBuf {
        self.data.join("images")
    }

    pub(crate) fn tmp_folder(&self) -> PathBuf {
        self.data.join("tmp")
    }

    /// Holds the store's lock for as long as the result lives. It is held for moments: a rename, a look at a few files.
    pub(crate) fn lock(&self, operation: FlockOperation) -> Result<File, StoreError> {
        let path = self.data.join("lock");
        let mut options = File::options();
        options
            .create(true)
            .truncate(false)
            .write(true)
            .mode(LOCK_MODE)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        let file = options.open(&path).map_err(at("open", &path))?;
        let stat = sys::fs::stat(file.as_fd()).map_err(called("look at", &path))?;
        // Whoever may open it may hold it for ever: one that a careless umask or an earlier version left open is closed.
        if stat.st_mode & 0o7777 & !LOCK_MODE != 0 {
            sys::fs::chmod(file.as_fd(), LOCK_MODE).map_err(called("close to others", &path))?;
        }
        sys::fs::flock(file.as_fd(), operation).map_err(called("lock", &path))?;
        Ok(file)
    }
}

/// Names in a folder that are UTF-8, which all of ours are.
pub(crate) fn list(folder: &Path) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(at("list", folder))? {
        names.extend(entry.map_err(at("list", folder))?.file_name().into_string().ok());
    }
    Ok(names)
}

/// Reads a record; none where the file is missing.
pub(crate) fn read_record<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>, StoreError> {
    #[derive(Deserialize)]
    struct Versioned {
        schema: u32,
    }
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(at("read", path))?,
    };
    let record = |source| StoreError::Record { path: path.to_owned(), source };
    // The version first: a later record may have any other fields.
    let found = serde_json::from_slice::<Versioned>(&bytes).map_err(record)?.schema;
    if found > SCHEMA {
        return Err(StoreError::Schema { path: path.to_owned(), found });
    }
    serde_json::from_slice(&bytes).map(Some).map_err(record)
}

/// Writes a record to a new file and syncs it.
pub(crate) fn write_record<T: Serialize>(path: &Path, record: &T) -> Result<(), StoreError> {
    let mut bytes =
        serde_json::to_vec_pretty(record).map_err(|source| StoreError::Record { path: path.to_owned(), source })?;
    bytes.push(b'\n');
    let mut file = File::create_new(path).map_err(at("make", path))?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(at("write", path))
}

/// Makes a rename in this folder outlive a crash.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(at("sync", folder))
}

/// Seconds since 1970.
#[cfg(feature = "import")]
pub(crate) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
#[cfg(feature = "import")]
mod tests;
