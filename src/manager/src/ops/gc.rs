//! `gc`: what nothing needs any more.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use rootfs_tools::Digest;
use rootfs_tools::store::{self, Report, Store};
use serde::Serialize;

use crate::args_kept::GcArgs;
use crate::changes;
use crate::cni;
use crate::definition::{Definition, From};
use crate::output::{self, Format};
use crate::places::{Places, UNFINISHED, remove_if_there};
use crate::run::Manager;
use crate::snapshots;
use crate::template;

/// One thing that is removed, as `--format json` has it. Names of fields are not changed, only added to.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// `changes`, `layer`, `template` or `attachment`.
    kind: &'static str,
    /// Its id, name and version, or network and container.
    name: String,
}

/// Removes frozen changes, layers of images and versions of templates that nothing refers to, and links of CNI whose
/// containers have ended; prints what it was.
///
/// # Errors
/// A record cannot be read, then nothing of its kind is removed; what the kernel says.
pub fn gc(manager: &Manager, args: &GcArgs) -> Result<()> {
    let places = &manager.places;
    let mut rows = templates(manager, args)?;
    let row = |kind| move |name| Row { kind, name };
    rows.extend(changes::gc(places, args.dry_run)?.into_iter().map(row("changes")));
    rows.extend(
        layers(places, args.dry_run)?.into_iter().map(|digest| Row { kind: "layer", name: digest.to_string() }),
    );
    rows.extend(cni::gc(manager, args.dry_run)?.into_iter().map(row("attachment")));
    changes::sweep(places)?;
    if !args.dry_run {
        sweep_unfinished(places)?;
    }
    print(args.printed.format(), &rows)
}

/// Removes files whose writing was killed, of containers that nobody works on. Readers pass over them.
fn sweep_unfinished(places: &Places) -> Result<()> {
    for name in changes::names(&places.containers())?.into_iter().filter(|name| !name.starts_with('.')) {
        let Some(_lock) = places.try_lock(&name)? else { continue };
        for folder in [places.container(&name), snapshots::folder(places, &name)] {
            for file in changes::names(&folder)?.into_iter().filter(|file| file.ends_with(UNFINISHED)) {
                remove_if_there(&folder.join(file))?;
            }
        }
    }
    Ok(())
}

/// Versions of templates alone.
///
/// # Errors
/// As [`gc`].
pub(super) fn templates(manager: &Manager, args: &GcArgs) -> Result<Vec<Row>> {
    let removed = template::gc(manager, args.keep, args.dry_run)?;
    Ok(removed.into_iter().map(|name| Row { kind: "template", name }).collect())
}

pub(super) fn print(format: Format, rows: &[Row]) -> Result<()> {
    output::print(format, &rows, || {
        let header = ["KIND", "REMOVED"].map(str::to_owned).to_vec();
        std::iter::once(header).chain(rows.iter().map(|row| vec![row.kind.to_owned(), row.name.clone()])).collect()
    })
}

/// Layers that neither an image nor a container needs.
fn layers(places: &Places, dry_run: bool) -> Result<Vec<Digest>> {
    if !Path::new(&places.data.join("layers")).is_dir() {
        return Ok(Vec::new());
    }
    let store = Store::open(&places.data)?;
    if dry_run {
        let mut needed = layers_in_use(places)?;
        needed.extend(store.images()?.into_iter().flat_map(|image| image.layers));
        return Ok(store.layers()?.into_iter().filter(|digest| !needed.contains(digest)).collect());
    }
    Ok(remove_layers(places, &store)?.layers)
}

/// Removes layers that neither an image nor a container needs. What containers need is asked under the store's lock, under
/// which whoever makes one pins its layers.
///
/// # Errors
/// A definition cannot be read, then nothing is removed; what the kernel says.
pub(super) fn remove_layers(places: &Places, store: &Store) -> Result<Report> {
    // One that cannot be read is found here, before anything goes.
    layers_in_use(places)?;
    // Asked once, with the first layer, when the lock is held already: nobody can begin to use one until it is free.
    let needed = OnceCell::new();
    let is_needed = |digest: Digest| {
        let needed = needed.get_or_init(|| layers_in_use(places).ok());
        needed.as_ref().is_none_or(|needed| needed.contains(&digest))
    };
    Ok(store::gc(store, &is_needed)?)
}

/// The layers of images that containers are made of, also those that are being made.
///
/// # Errors
/// A definition cannot be read.
fn layers_in_use(places: &Places) -> Result<BTreeSet<Digest>> {
    let mut needed = BTreeSet::new();
    for name in changes::names(&places.containers())? {
        if let Some(Definition { from: From::Image { layers, .. }, .. }) = Definition::read(places, &name)? {
            needed.extend(layers);
        }
    }
    Ok(needed)
}
