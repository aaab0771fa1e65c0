//! A root file system that is put together from layers when the container starts.
//!
//! The specification knows a folder as the root file system. Layers stand as JSON text in the annotation [`ANNOTATION`]
//! (docs/overlay.md); the folder that `root.path` names is then the place where they are mounted, inside the container's
//! mount namespace alone.

use serde::Serialize;

/// The annotation that holds the layers.
pub const ANNOTATION: &str = "io.skep.overlay";

/// Most lower layers of an overlay (`OVL_MAX_STACK`, fs/overlayfs/params.h).
pub const LOWER_MAX: usize = 500;

/// The layers of a root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Overlay {
    /// Absolute paths on the host of the layers that are only read, the uppermost first; at least one.
    pub lower: Vec<String>,
    /// Where changes go.
    pub upper: Upper,
    /// Absolute paths of the lowest layer that are not shown: a folder is empty, all else is not there.
    pub hide: Vec<String>,
    /// Whether the layers' owners are those of the container: their ids follow its user namespace.
    pub idmap: bool,
    /// Whether the marks of the overlay are `user.overlay.*` attributes, not `trusted.overlay.*`.
    pub user_xattr: bool,
    /// Whether nothing is synced to disk: for what is thrown away anyway.
    pub volatile: bool,
}

/// Where the changes of a container go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Upper {
    /// There are none: the root is read-only.
    None,
    /// Into a folder.
    Folder {
        /// Absolute path on the host.
        upper: String,
        /// Absolute path of an empty folder on the same file system, for the kernel's use.
        work: String,
    },
    /// Into memory, until the container ends.
    Memory {
        /// Most bytes; 0 is the kernel's own choice, half of the memory.
        bytes: u64,
    },
}
