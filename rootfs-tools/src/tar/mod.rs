//! Archives in tar's formats: ustar, pax, GNU and V7, read and written by own code.
//!
//! ```text
//! header block │ its content, padded to 512 bytes │ header block │ … │ two blocks of zeros
//!   x  records for the next entry      g  records for all (not used by images: passed over)
//!   L  a long name, K a long target    S  a sparse file of GNU, with its map
//! ```
//!
//! It knows nothing of files: an [`Entry`] is what the archive says, and what may be done with it is decided elsewhere.

mod header;
mod pax;
mod reader;
mod sparse;
mod write;

use std::io;

pub(crate) use reader::{Reader, Skip};
pub(crate) use write::Writer;

/// A point in time: seconds since 1970, which may be negative, and the nanoseconds that follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Time {
    /// Seconds.
    pub(crate) seconds: i64,
    /// 0..=999,999,999.
    pub(crate) nanos: u32,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A regular file. Without a map its content is [`Entry::size`] bytes; with one, the pieces of the map.
    File {
        /// Where the pieces of content are, in ascending order; holes are between them.
        map: Option<Vec<(u64, u64)>>,
    },
    /// Another name of an entry that came before.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A folder.
    Folder,
    /// A FIFO.
    Fifo,
}

/// An entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The name as it stands: nothing is left out or made safe.
    pub(crate) path: Vec<u8>,
    /// Target of a link.
    pub(crate) link: Vec<u8>,
    /// What it is.
    pub(crate) kind: Kind,
    /// Permissions with the bits for set-user-id, set-group-id and sticky.
    pub(crate) mode: u32,
    /// Owner.
    pub(crate) uid: u64,
    /// Group.
    pub(crate) gid: u64,
    /// Length of a file, its holes included; else 0.
    pub(crate) size: u64,
    /// Last change.
    pub(crate) mtime: Time,
    /// Last access, where the archive has it.
    pub(crate) atime: Option<Time>,
    /// Major and minor number of a device.
    pub(crate) device: (u32, u32),
    /// Extended attributes: names with their namespace, and values.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Why an archive cannot be read. `at` is the place in the archive in bytes, after decompression.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The source of the bytes failed, or ended early.
    #[error("cannot read the archive at byte {at}")]
    Read {
        /// Where.
        at: u64,
        /// Why.
        source: io::Error,
    },
    /// The check sum of a header does not fit: this is no archive, or a damaged one.
    #[error("no header of an archive at byte {at}: the check sum is wrong")]
    Sum {
        /// Where.
        at: u64,
    },
    /// A field of a header has no value that it may have.
    #[error("the {field} in the header at byte {at} is no number that it may be")]
    Field {
        /// Which.
        field: &'static str,
        /// Where.
        at: u64,
    },
    /// A record of an extended header is malformed.
    #[error("a record of the extended header at byte {at} is malformed")]
    Record {
        /// Where.
        at: u64,
    },
    /// The long names and extended headers of an entry are longer than anything that is made in earnest.
    #[error("with the extension at byte {at} those of its entry have {size} bytes: {limit} are allowed")]
    Extension {
        /// Where.
        at: u64,
        /// Their length in bytes.
        size: u64,
        /// The bound in bytes.
        limit: u64,
    },
    /// The map of a sparse file contradicts itself.
    #[error("the map of the sparse file at byte {at} is malformed")]
    Sparse {
        /// Where.
        at: u64,
    },
    /// The type of an entry is none that a root file system has.
    #[error("the entry at byte {at} has the type {flag:?}, which no root file system has")]
    Type {
        /// The type flag.
        flag: char,
        /// Where.
        at: u64,
    },
    /// The bytes end where another header or the end of the archive should be.
    #[error("the archive has no end at byte {at}: it was cut off")]
    NoEnd {
        /// Where.
        at: u64,
    },
    /// A header follows a block of zeros, which ends an archive.
    #[error("the archive goes on after its end at byte {at}")]
    AfterEnd {
        /// Where.
        at: u64,
    },
}
