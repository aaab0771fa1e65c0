//! `diff NAME`: what a container has changed.

use anyhow::{Result, bail};
use serde::Serialize;

use crate::args_kept::DiffArgs;
use crate::changes;
use crate::copied::Storage;
use crate::definition::{Definition, From, Upper};
use crate::diff::{Change, Kind, read_changes};
use crate::output::{self, Format};
use crate::places::UPPER;
use crate::run::Manager;

/// One change, as `--format json` has it. Names of fields are not changed, only added to.
#[derive(Debug, Serialize)]
struct Row {
    /// From the container's root; bytes that are no UTF-8 are replaced.
    path: String,
    /// `added`, `changed` or `deleted`.
    change: Kind,
    /// Whether it is, or was, a folder.
    folder: bool,
    /// Whether the folder hides all that was in it.
    opaque: bool,
}

/// Prints the changes.
///
/// # Errors
/// The changes are in memory; what the kernel says.
pub fn diff(manager: &Manager, args: &DiffArgs) -> Result<()> {
    let places = &manager.places;
    let definition = Definition::need(places, &args.name)?;
    if let From::Adopted { path, .. } = &definition.from {
        bail!(
            "container {:?} changes {}, which it was adopted with: nothing says how it was before",
            args.name,
            path.display()
        );
    }
    need_on_disk(manager, &definition)?;
    if definition.storage == Storage::Copy {
        bail!("container {:?} has a copy of all its files, and no layer of what it has changed", args.name);
    }
    let layers = changes::layers(places, &definition)?;
    let upper = places.container(&args.name).join(UPPER);
    let kept = if args.all { definition.changes.len() } else { 0 };
    let above: Vec<_> = std::iter::once(upper).chain(layers[..kept].iter().cloned()).collect();
    let found = read_changes(&above, &layers[kept..])?;
    if args.printed.format() == Format::Table {
        return output::write(&found.iter().map(line).collect::<String>());
    }
    let row = |change: &Change| Row {
        path: String::from_utf8_lossy(&change.path).into_owned(),
        change: change.kind,
        folder: change.is_folder(),
        opaque: change.opaque,
    };
    output::print(args.printed.format(), &found.iter().map(row).collect::<Vec<_>>(), Vec::new)
}

fn line(change: &Change) -> String {
    let letter = match change.kind {
        Kind::Added => 'A',
        Kind::Changed => 'C',
        Kind::Deleted => 'D',
    };
    format!("{letter} {}\n", String::from_utf8_lossy(&change.path).escape_debug())
}

/// Refuses a running container whose changes nobody but itself can see.
///
/// # Errors
/// It is one; what the runtime says.
pub(super) fn need_on_disk(manager: &Manager, definition: &Definition) -> Result<()> {
    let name = &definition.name;
    if definition.upper != Upper::Disk && manager.runtime.is_alive(name)? {
        bail!("container {name:?} keeps its changes in memory, where only itself can see them");
    }
    Ok(())
}
