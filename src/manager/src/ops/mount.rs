//! `mount`: folders and files of the host in a container that is defined, hot where it runs.

use anyhow::{Context, Error, Result, bail};
use serde::Serialize;

use crate::added;
use crate::args_live::MountVerb;
use crate::definition::{Definition, Volume};
use crate::output::{self, Format, yes_no};
use crate::pending;
use crate::run::Manager;
use crate::validate::validate_inside;

/// One mount, as JSON has it. Names of fields are not changed, only added to.
#[derive(Debug, Serialize)]
struct Row {
    source: String,
    target: String,
    read_only: bool,
    /// Whether owners are ids of the container.
    idmap: bool,
    /// Whether the container has it now.
    active: bool,
    /// Whether it has it at its next start.
    saved: bool,
}

/// `mount add | del | ls`.
///
/// # Errors
/// There is no such container, source or mount; the target is taken; what the runtime says: then nothing is changed.
pub fn mount(manager: &Manager, verb: &MountVerb) -> Result<()> {
    match verb {
        MountVerb::Add { name, source, target, read_only, host_owners, save, printed } => {
            let source = std::path::absolute(source).context("cannot tell the current folder")?;
            let source = source.to_str().with_context(|| format!("{} is no text", source.display()))?.to_owned();
            let volume = Volume { source, destination: target.clone(), read_only: *read_only, idmap: !host_owners };
            let row = add(manager, name, volume, *save)?;
            output::print_document(printed.format(), &row)
        }
        MountVerb::Del { name, paths, save } => {
            let (source, target) = match &paths[..] {
                [source, target] => (Some(source.as_str()), target),
                [target] => (None, target),
                _ => bail!("want TARGET, or SOURCE and TARGET"),
            };
            remove(manager, name, source, target, *save)
        }
        MountVerb::Ls { name, printed } => list(manager, name, printed.format()),
    }
}

fn add(manager: &Manager, name: &str, mut volume: Volume, save: bool) -> Result<Row> {
    validate_inside(&volume.destination).map_err(Error::msg)?;
    std::fs::metadata(&volume.source).with_context(|| format!("cannot use {}", volume.source))?;
    let _lock = pending::lock(manager, name)?;
    let mut definition = Definition::need(&manager.places, name)?;
    let (running, mut added) = added::look(manager, name)?;
    volume.idmap &= definition.ids.is_some();
    if is_there(&definition.volumes, &volume.destination) || is_there(&added.mounts, &volume.destination) {
        bail!(
            "container {name:?} has something of the host on {} already: skep mount del it first",
            volume.destination
        );
    }
    if let Some(running) = &running {
        let mut words = vec!["mount", &volume.source, &volume.destination];
        words.extend(volume.read_only.then_some("--read-only"));
        words.extend((!volume.idmap).then_some("--host-owners"));
        manager.runtime.inside(name, &words)?;
        added.mounts.push(volume.clone());
        if let Err(error) = running.write(&added) {
            manager.runtime.inside(name, &["unmount", &volume.destination])?;
            return Err(error);
        }
    }
    let saved = save || running.is_none();
    let row = row(&volume, running.is_some(), saved);
    if saved {
        definition.volumes.push(volume);
        definition.write(&manager.places.container(name))?;
    }
    Ok(row)
}

fn remove(manager: &Manager, name: &str, source: Option<&str>, target: &str, save: bool) -> Result<()> {
    let _lock = pending::lock(manager, name)?;
    let mut definition = Definition::need(&manager.places, name)?;
    let (running, mut added) = added::look(manager, name)?;
    let fits =
        |volume: &Volume| same(&volume.destination, target) && source.is_none_or(|source| same(&volume.source, source));
    let was_added = added.mounts.iter().any(fits);
    if !was_added && !definition.volumes.iter().any(fits) {
        bail!("container {name:?} has nothing of the host on {target}: skep mount ls {name} lists what it has");
    }
    if let Some(running) = &running {
        manager.runtime.inside(name, &["unmount", target])?;
        added.mounts.retain(|volume| !fits(volume));
        running.write(&added)?;
    }
    if save || running.is_none() {
        definition.volumes.retain(|volume| !fits(volume));
        definition.write(&manager.places.container(name))?;
    }
    Ok(())
}

fn list(manager: &Manager, name: &str, format: Format) -> Result<()> {
    let definition = Definition::need(&manager.places, name)?;
    let (running, added) = added::look(manager, name)?;
    let saved = |volume: &Volume| is_there(&definition.volumes, &volume.destination);
    let mut rows: Vec<Row> = definition.volumes.iter().map(|volume| row(volume, running.is_some(), true)).collect();
    rows.extend(added.mounts.iter().filter(|volume| !saved(volume)).map(|volume| row(volume, true, false)));
    output::print(format, &rows, || {
        let header = ["SOURCE", "TARGET", "ACCESS", "ACTIVE", "SAVED"].map(str::to_owned).to_vec();
        let cells = |row: &Row| {
            let access = if row.read_only { "ro" } else { "rw" };
            vec![row.source.clone(), row.target.clone(), access.to_owned(), yes_no(row.active), yes_no(row.saved)]
        };
        std::iter::once(header).chain(rows.iter().map(cells)).collect()
    })
}

fn row(volume: &Volume, active: bool, saved: bool) -> Row {
    Row {
        source: volume.source.clone(),
        target: volume.destination.clone(),
        read_only: volume.read_only,
        idmap: volume.idmap,
        active,
        saved,
    }
}

fn is_there(volumes: &[Volume], target: &str) -> bool {
    volumes.iter().any(|volume| same(&volume.destination, target))
}

/// Whether two paths are the same but for slashes.
pub(super) fn same(one: &str, other: &str) -> bool {
    let parts = |path: &'_ str| -> Vec<String> {
        path.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect()
    };
    parts(one) == parts(other)
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn slashes_make_no_difference() {
        assert!(same("/a//b/", "/a/./b"));
        assert!(!same("/a/b", "/a/c"));
    }
}
