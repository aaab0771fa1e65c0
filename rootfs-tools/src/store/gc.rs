//! Takes away what nobody needs.

use std::collections::BTreeSet;
use std::fs;

use sys::fs::FlockOperation;

use crate::digest::Digest;
use crate::remove::remove_tree;

use super::work::Work;
use super::{Store, StoreError, at, called, work};

/// What was taken away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Layers.
    pub layers: Vec<Digest>,
    /// Bytes of their file content.
    pub bytes: u64,
    /// Pieces of work that killed processes left.
    pub left_over: usize,
}

/// Takes away the layers that no image names, nobody's work needs and `in_use` does not know.
///
/// `in_use` is asked under the store's lock and should answer from what is on disk: who makes a container holds a
/// [`super::Pin`] on its layers until its record is written, so that either this or the record is seen.
///
/// # Errors
/// [`StoreError`]; an image whose record cannot be read ends it before anything is taken away.
pub fn gc(store: &Store, in_use: &dyn Fn(Digest) -> bool) -> Result<Report, StoreError> {
    let left_over = work::sweep(store)?;
    let trash = Work::begin(store)?;
    let mut report = Report { left_over, ..Report::default() };
    let lock = store.lock(FlockOperation::LockExclusive)?;
    let mut needed: BTreeSet<Digest> = store.images()?.into_iter().flat_map(|image| image.layers).collect();
    needed.extend(work::pinned(store)?);
    for diff_id in store.layers()? {
        if needed.contains(&diff_id) || in_use(diff_id) {
            continue;
        }
        // A record that cannot be read is no reason to keep a layer that nobody needs.
        report.bytes += store.layer(diff_id).map_or(0, |layer| layer.bytes);
        let from = store.layer_folder(diff_id);
        fs::rename(&from, trash.path.join(diff_id.folder())).map_err(at("move away", &from))?;
        report.layers.push(diff_id);
    }
    drop(lock);
    // What takes long is done without the lock; when it is cut short, the next one to open the store goes on.
    remove_tree(&trash.path).map_err(called("remove", &trash.path))?;
    Ok(report)
}
