//! Layers seen as one tree, as overlay would show them, without a mount.
//!
//! ```text
//! upper   etc/  hosts   srv (gone)     a name is that of the uppermost layer that has it; what is marked as gone hides
//! lower   etc/  passwd  srv/  www      it below; a folder shows what all layers have, down to one that is opaque
//! shown   etc/  hosts   etc/  passwd
//! ```
//!
//! What lies on other mounts below a layer is not seen. Kernel: Documentation/filesystems/overlayfs.rst.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use sys::Errno;
use sys::entry;
use sys::fs::{FileType, OFlags, Stat};

use crate::remove::HERE;
use crate::source::folder::{TreeError, called};

/// What marks a folder of which lower layers show nothing. Only this flavour: whoever owns a file of a container may set
/// `user.overlay.*`, which no mount of such layers reads ([`crate::store::XattrFlavour`]).
const OPAQUE: &[u8] = b"trusted.overlay.opaque";

/// Open layers, the uppermost first.
#[derive(Debug)]
pub struct Stack {
    layers: Vec<OwnedFd>,
    /// Whether marks are entries like others: one layer is looked at for its own sake.
    raw: bool,
}

/// A folder of a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Path from the root, without a slash in front; the root's is empty.
    pub path: Vec<u8>,
    /// The layers that show something of it, the uppermost first.
    pub layers: Vec<usize>,
    /// Whether what lower layers have of it is hidden by a mark.
    pub opaque: bool,
}

/// One entry of a folder.
#[derive(Debug)]
pub struct Found {
    /// Its name in the folder.
    pub name: Vec<u8>,
    /// The layer that shows it, 0 for the uppermost.
    pub layer: usize,
    /// What it is.
    pub stat: Stat,
    /// The folder that it is.
    pub folder: Option<Folder>,
}

impl Stack {
    /// Opens layers, the uppermost first.
    ///
    /// # Errors
    /// What the kernel says, with the layer.
    pub fn open<P: AsRef<Path>>(layers: &[P]) -> Result<Stack, TreeError> {
        let open = |path: &P| {
            let path = path.as_ref().to_string_lossy();
            sys::fs::open_dir(&path).map_err(|source| TreeError::Call { path: path.clone().into_owned(), source })
        };
        Ok(Stack { layers: layers.iter().map(open).collect::<Result<_, _>>()?, raw: false })
    }

    /// Opens one layer with its marks: what is gone is an entry, a character device 0:0.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open_raw(layer: &Path) -> Result<Stack, TreeError> {
        Ok(Stack { raw: true, ..Stack::open(&[layer])? })
    }

    /// Whether marks are entries.
    pub(crate) fn is_raw(&self) -> bool {
        self.raw
    }

    /// The root.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn root(&self) -> Result<Folder, TreeError> {
        let mut root = Folder { path: Vec::new(), layers: Vec::new(), opaque: false };
        for number in 0..self.layers.len() {
            root.layers.push(number);
            if !self.raw && is_opaque(self.layers[number].as_fd(), b"")? {
                root.opaque = true;
                break;
            }
        }
        Ok(root)
    }

    /// The folder as one layer has it; `None` where the layer has another mount there, or it is gone by now.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open_folder(&self, folder: &Folder, layer: usize) -> Result<Option<OwnedFd>, TreeError> {
        let at: &[u8] = if folder.path.is_empty() { b"." } else { &folder.path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        match entry::open(self.layers[layer].as_fd(), at, flags, 0, HERE) {
            Err(error) if error.is(Errno::XDEV) || error.is(Errno::NOENT) || error.is(Errno::NOTDIR) => Ok(None),
            other => other.map(Some).map_err(called(&folder.path)),
        }
    }

    /// What a folder shows, in the order of the names.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn entries(&self, folder: &Folder) -> Result<Vec<Found>, TreeError> {
        /// What is known of a name: what shows, and whether lower layers can still add to it.
        struct Name {
            found: Option<Found>,
            open: bool,
        }
        let mut names: BTreeMap<Vec<u8>, Name> = BTreeMap::new();
        for layer in &folder.layers {
            let Some(fd) = self.open_folder(folder, *layer)? else { continue };
            for name in entry::list(fd.as_fd()).map_err(called(&folder.path))? {
                if names.get(&name).is_some_and(|known| !known.open) {
                    continue;
                }
                let full = join(&folder.path, &name);
                let stat = match entry::stat(fd.as_fd(), &name) {
                    Err(error) if error.is(Errno::NOENT) => continue,
                    other => other.map_err(called(&full))?,
                };
                let is_folder = sys::fs::file_type(&stat) == FileType::Directory;
                let opaque = is_folder && !self.raw && self.is_opaque_at(fd.as_fd(), &name, &full)?;
                match names.get_mut(&name) {
                    // A lower folder below one that shows: it adds what it has.
                    Some(known) => {
                        known.open = is_folder && !opaque;
                        if let Some(shown) = known.found.as_mut().and_then(|found| found.folder.as_mut())
                            && is_folder
                        {
                            shown.layers.push(*layer);
                            shown.opaque |= opaque;
                        }
                    }
                    None => {
                        let gone = !self.raw && is_gone(&stat);
                        let shown = is_folder.then(|| Folder { path: full, layers: vec![*layer], opaque });
                        let found = Found { name: name.clone(), layer: *layer, stat, folder: shown };
                        let known = Name { found: (!gone).then_some(found), open: is_folder && !opaque };
                        names.insert(name, known);
                    }
                }
            }
        }
        Ok(names.into_values().filter_map(|known| known.found).collect())
    }

    fn is_opaque_at(&self, folder: BorrowedFd<'_>, name: &[u8], full: &[u8]) -> Result<bool, TreeError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        match entry::open(folder, name, flags, 0, HERE) {
            Err(error) if error.is(Errno::XDEV) || error.is(Errno::NOENT) || error.is(Errno::NOTDIR) => Ok(false),
            other => is_opaque(other.map_err(called(full))?.as_fd(), full),
        }
    }
}

/// Whether overlay takes an entry for a name that is gone: a character device 0:0.
fn is_gone(stat: &Stat) -> bool {
    sys::fs::file_type(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn is_opaque(folder: BorrowedFd<'_>, full: &[u8]) -> Result<bool, TreeError> {
    match entry::get_xattr(folder, b".", OPAQUE) {
        Ok(value) => Ok(value == b"y"),
        Err(error) if [Errno::NODATA, Errno::OPNOTSUPP, Errno::NOENT].iter().any(|errno| error.is(*errno)) => Ok(false),
        Err(error) => Err(called(full)(error)),
    }
}

/// A name below a folder's path.
pub(crate) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}
