//! One layer: from compressed bytes to a folder in the store.
//!
//! ```text
//! bytes ─► counted, hashed (digest) ─► decoded ─► bounded, hashed (diff id) ─► entries ─► files
//! ```

use std::fs;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};

use crate::compress::Decoder;
use crate::digest::Digest;
use crate::extract;
use crate::limits::{Budget, LimitError, Limits};
use crate::store::{Layer, SCHEMA, Store, StoreError, Work, XattrFlavour, at, called, now};
use crate::tar::Reader;

use super::{ImportError, Teller};

/// Bytes that are read ahead of a decoder.
const READ_AHEAD: usize = 256 * 1024;

/// What is known of a layer before it is read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Expected {
    /// Hash of the bytes as they come.
    pub(super) digest: Option<Digest>,
    /// Their count.
    pub(super) size: Option<u64>,
    /// Hash of what they decode to.
    pub(super) diff_id: Option<Digest>,
}

/// What all layers of an import share.
pub(super) struct Shared<'a, 'p> {
    pub(super) store: &'a Store,
    pub(super) work: &'a Work,
    pub(super) budget: &'a Budget,
    pub(super) teller: &'a Teller<'p>,
    /// Another layer failed: this one need not be finished.
    pub(super) stop: &'a AtomicBool,
}

/// Unpacks a layer into the folder `name` of the work, and makes it one of the store's once its hashes are right.
///
/// Returns its record and the bytes that were read.
pub(super) fn import_layer(
    shared: &Shared<'_, '_>,
    name: &str,
    source: &mut (dyn Read + Send),
    expected: Expected,
) -> Result<(Layer, u64), ImportError> {
    let folder = shared.work.path.join(name);
    let root = folder.join("root");
    for path in [&folder, &root] {
        fs::create_dir(path).map_err(at("make", path))?;
    }
    // What the root is where the archive does not say: not what the caller's umask makes of it.
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).map_err(at("set the mode of", &root))?;
    let tree = sys::fs::open_dir(&root.to_string_lossy()).map_err(called("open", &root))?;
    let mut raw = Raw::new(source, shared, expected.size);
    let unpacked = unpack(&mut raw, tree, shared.budget, expected.diff_id);
    // A stop looks like a failure of the source; what made us stop is the error that counts.
    let (summary, diff_id, archive_bytes) = match unpacked {
        Err(_) if shared.stop.load(Ordering::Relaxed) => return Err(ImportError::Stopped),
        other => other?,
    };
    let (digest, bytes) = raw.finish()?;
    for (what, expected, found) in [("compressed layer", expected.digest, digest), ("layer", expected.diff_id, diff_id)]
    {
        if let Some(expected) = expected
            && expected != found
        {
            return Err(ImportError::Digest { what, expected, found });
        }
    }
    let layer = Layer {
        schema: SCHEMA,
        diff_id,
        entries: summary.entries,
        bytes: summary.bytes,
        archive_bytes,
        xattrs: XattrFlavour::Trusted,
        opaque_root: summary.opaque_root,
        imported: now(),
    };
    shared.work.commit_layer(shared.store, name, &layer)?;
    for note in &summary.notes {
        shared.teller.note(&format!("layer {}: {note}", &diff_id.hex()[..12]));
    }
    Ok((layer, bytes))
}

/// Unpacks, and returns the hash and the length of the archive.
fn unpack(
    raw: &mut Raw<'_, '_>,
    tree: std::os::fd::OwnedFd,
    budget: &Budget,
    known: Option<Digest>,
) -> Result<(extract::Summary, Digest, u64), ImportError> {
    let read = raw.count.clone();
    let decoder = Decoder::new(BufReader::with_capacity(READ_AHEAD, raw)).map_err(ImportError::Read)?;
    let mut archive = Decoded { decoder, hash: Sha256::new(), bytes: 0, read, limits: budget.limits };
    let mut reader = Reader::new(&mut archive);
    let summary = extract::extract(&mut reader, tree, budget)?;
    if known.is_none() {
        reader.require_end().map_err(extract::ExtractError::from)?;
    }
    // The hash is of all bytes, those after the archive's end too.
    reader.drain().map_err(extract::ExtractError::from)?;
    Ok((summary, Digest::from_bytes(archive.hash.finalize().into()), archive.bytes))
}

/// The bytes as they come.
struct Raw<'a, 'p> {
    source: &'a mut (dyn Read + Send),
    hash: Sha256,
    count: Arc<AtomicU64>,
    size: Option<u64>,
    teller: &'a Teller<'p>,
    stop: &'a AtomicBool,
}

impl<'a, 'p> Raw<'a, 'p> {
    fn new(source: &'a mut (dyn Read + Send), shared: &Shared<'a, 'p>, size: Option<u64>) -> Raw<'a, 'p> {
        Raw { source, hash: Sha256::new(), count: Arc::default(), size, teller: shared.teller, stop: shared.stop }
    }

    /// Reads what no decoder asked for, and returns the hash and the count.
    fn finish(mut self) -> Result<(Digest, u64), ImportError> {
        io::copy(&mut self, &mut io::sink()).map_err(ImportError::Read)?;
        let bytes = self.count.load(Ordering::Relaxed);
        match self.size {
            Some(size) if size != bytes => Err(ImportError::Size { expected: size, found: bytes }),
            _ => Ok((Digest::from_bytes(self.hash.finalize().into()), bytes)),
        }
    }
}

impl Read for Raw<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("another layer failed"));
        }
        let count = self.source.read(buffer)?;
        self.hash.update(&buffer[..count]);
        let total = self.count.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
        if let Some(size) = self.size.filter(|size| total > *size) {
            return Err(io::Error::other(LimitError::Document(size)));
        }
        self.teller.advanced(count as u64);
        Ok(count)
    }
}

/// The bytes of the archive.
struct Decoded<R> {
    decoder: R,
    hash: Sha256,
    bytes: u64,
    /// Bytes that were read to get here.
    read: Arc<AtomicU64>,
    limits: Limits,
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.decoder.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.bytes += count as u64;
        let allowed = self.read.load(Ordering::Relaxed).saturating_mul(self.limits.ratio).max(self.limits.ratio_floor);
        if self.bytes > allowed {
            return Err(io::Error::other(LimitError::Ratio(self.limits.ratio)));
        }
        // What is in no file (headers, names, what follows the end) has its bound too.
        if self.bytes / 2 > self.limits.bytes.max(self.limits.ratio_floor) {
            return Err(io::Error::other(LimitError::Bytes(self.limits.bytes)));
        }
        Ok(count)
    }
}

impl From<StoreError> for ImportError {
    fn from(error: StoreError) -> ImportError {
        ImportError::Store(error)
    }
}
