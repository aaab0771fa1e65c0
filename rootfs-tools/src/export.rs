//! What layers show together, as an archive.

use std::io::Write;
use std::os::fd::AsFd;

use crate::source::folder::{Marks, TreeError, Walk};
use crate::stack::{Stack, join};

/// Writes what a stack of layers shows as an archive, without marks: the same tree makes the same bytes. Returns what was
/// left out, a line each.
///
/// # Errors
/// [`TreeError`] for the first entry that cannot be read; one that vanishes meanwhile is left out.
pub fn write_stack<W: Write>(stack: &Stack, sink: W) -> Result<(W, Vec<String>), TreeError> {
    let root = stack.root()?;
    let top = stack.open_folder(&root, 0)?.ok_or_else(|| TreeError::Gone("/".to_owned()))?;
    let mut walk = Walk::new(top, Marks::None, sink);
    walk.write_root()?;
    let mut pending = vec![root];
    while let Some(folder) = pending.pop() {
        let mut folders = Vec::new();
        for found in stack.entries(&folder)? {
            let Some(parent) = stack.open_folder(&folder, found.layer)? else { continue };
            walk.write_named(parent.as_fd(), &found.name, &join(&folder.path, &found.name), &found.stat)?;
            folders.extend(found.folder);
        }
        pending.extend(folders.into_iter().rev());
    }
    walk.finish()
}
