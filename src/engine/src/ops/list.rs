//! `list`: all containers of a store.

use runtime_spec::state::State as Document;

use super::Context;
use crate::error::{Error, Result};
use crate::state::{self, Folder, Store};

/// One line of the list.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its state.
    pub document: Document,
    /// Who created it, by user id.
    pub owner: u32,
}

/// All containers, by id, with what they use if that is wanted. One that goes meanwhile is left out; one whose record makes
/// no sense is a warning.
///
/// # Errors
/// What the kernel says of the folder.
pub fn list(context: &Context<'_>, usage: bool) -> Result<Vec<Entry>> {
    let Some(store) = Store::open_existing(&context.root)? else { return Ok(Vec::new()) };
    let mut entries = Vec::new();
    for id in store.ids()? {
        let entry = store.folder(&id).and_then(|folder| {
            let ((record, _), status) = folder.judge(&context.proc)?;
            let mut document = Folder::document(&record, status)?;
            if usage {
                document.usage = state::usage(&record)?;
            }
            Ok(Entry { document, owner: record.owner })
        });
        match entry {
            Ok(entry) => entries.push(entry),
            Err(Error::NotFound) => {}
            Err(error) => context.warn(&error.chain().join(": ")),
        }
    }
    Ok(entries)
}
