//! Bounds on what an import may bring in, so that a hostile archive ends early and cheaply.

use std::sync::atomic::{AtomicU64, Ordering};

/// Longest name of one entry, in bytes: what file systems of Linux can say (NAME_MAX).
pub(crate) const NAME_MAX: usize = 255;

/// Longest path below the root, in bytes: one less than PATH_MAX, which counts the final NUL.
pub(crate) const PATH_MAX: usize = 4095;

/// Bounds on one import. The default lets every image through that is made in earnest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of file content that all layers together may unpack to. Default 128 GiB.
    pub bytes: u64,
    /// Entries in all layers together. Default 4,000,000.
    pub entries: u64,
    /// Device nodes in all layers together. Default 4,096.
    pub devices: u64,
    /// Folders that an entry may lie below. Default 256.
    pub depth: usize,
    /// Layers of an image. Default 256; overlay takes 500.
    pub layers: usize,
    /// Times that a layer may grow when it is decompressed. Default 200.
    pub ratio: u64,
    /// Bytes that it may unpack to before the ratio counts: short layers of zeros are common and harmless. Default 256 MiB.
    pub ratio_floor: u64,
    /// Bytes of one document: a manifest, an index, a configuration. Default 8 MiB.
    pub document: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            bytes: 128 << 30,
            entries: 4_000_000,
            devices: 4096,
            depth: 256,
            layers: 256,
            ratio: 200,
            ratio_floor: 256 << 20,
            document: 8 << 20,
        }
    }
}

/// A bound that was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// [`Limits::bytes`].
    #[error("it unpacks to more than the {0} bytes that are allowed")]
    Bytes(u64),
    /// [`Limits::entries`].
    #[error("it has more than the {0} entries that are allowed")]
    Entries(u64),
    /// [`Limits::devices`].
    #[error("it has more than the {0} device nodes that are allowed")]
    Devices(u64),
    /// [`Limits::depth`].
    #[error("it lies deeper than the {0} folders that are allowed")]
    Depth(usize),
    /// [`NAME_MAX`] or [`PATH_MAX`].
    #[error("its name is longer than {0} bytes")]
    Name(usize),
    /// [`Limits::layers`].
    #[error("it has more than the {0} layers that are allowed")]
    Layers(usize),
    /// [`Limits::ratio`].
    #[error("it grows to more than {0} times its compressed size")]
    Ratio(u64),
    /// [`Limits::document`].
    #[error("it is longer than the {0} bytes that are allowed")]
    Document(u64),
}

/// What is used up of the bounds that all layers of an import share.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) limits: Limits,
    bytes: AtomicU64,
    entries: AtomicU64,
    devices: AtomicU64,
}

impl Budget {
    pub(crate) fn new(limits: Limits) -> Budget {
        Budget { limits, bytes: AtomicU64::new(0), entries: AtomicU64::new(0), devices: AtomicU64::new(0) }
    }

    pub(crate) fn take_bytes(&self, count: u64) -> Result<(), LimitError> {
        take(&self.bytes, count, self.limits.bytes).map_err(LimitError::Bytes)
    }

    pub(crate) fn take_entry(&self) -> Result<(), LimitError> {
        take(&self.entries, 1, self.limits.entries).map_err(LimitError::Entries)
    }

    pub(crate) fn take_device(&self) -> Result<(), LimitError> {
        take(&self.devices, 1, self.limits.devices).map_err(LimitError::Devices)
    }
}

fn take(used: &AtomicU64, count: u64, limit: u64) -> Result<(), u64> {
    let before = used.fetch_add(count, Ordering::Relaxed);
    if before.saturating_add(count) > limit { Err(limit) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_what_may_be_reached() {
        let budget = Budget::new(Limits { bytes: 10, entries: 1, devices: 0, ..Limits::default() });
        assert_eq!(budget.take_bytes(6), Ok(()));
        assert_eq!(budget.take_bytes(4), Ok(()));
        assert_eq!(budget.take_bytes(1), Err(LimitError::Bytes(10)));
        assert_eq!(budget.take_entry(), Ok(()));
        assert_eq!(budget.take_entry(), Err(LimitError::Entries(1)));
        assert_eq!(budget.take_device(), Err(LimitError::Devices(0)));
    }
}
