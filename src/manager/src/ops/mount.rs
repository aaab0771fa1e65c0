//! `mount`: folders and files of the host in a container that is defined, hot where it runs.

use anyhow::{Context, Error, Result, bail};
use serde::Serialize;

use crate::added::{self, Running};
use crate::args_live::MountVerb;
use crate::definition::{Definition, Volume};
use crate::mounted::{Mark, Mounts, Place, same};
use crate::ops::checkconfig;
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
    let before = Definition::need(&manager.places, name)?;
    let (running, mut added) = added::look(manager, name)?;
    volume.idmap &= before.ids.is_some();
    let target = volume.destination.clone();
    let defined = before.volumes.iter().find(|known| same(&known.destination, &target));
    let is_removed = running.is_some() && added.removed_mounts.iter().any(|known| same(known, &target));
    if is_there(&added.mounts, &target) || (defined.is_some() && !is_removed) {
        bail!("container {name:?} has something of the host on {target} already: skep mount del it first");
    }
    let saved = save || running.is_none() || defined == Some(&volume);
    let mut after = before.clone();
    match defined {
        Some(defined) if *defined == volume => {}
        Some(defined) if saved => bail!(
            "the definition of container {name:?} has {} on {target}: skep mount del --save takes it away first",
            defined.source
        ),
        _ if saved => after.volumes.push(volume.clone()),
        _ => {}
    }
    checkconfig::refuse_new(manager, Some(&before), &after)?;
    if let Some(running) = &running {
        let mut words = vec!["mount", &volume.source, &target];
        words.extend(volume.read_only.then_some("--read-only"));
        words.extend((!volume.idmap).then_some("--host-owners"));
        manager.runtime.inside(name, &words)?;
        let old = added.clone();
        let noted = Mounts::read(running.pid).and_then(|mounts| {
            added.marks.extend(mounts.mark(&volume)?.map(|mark| (target.clone(), mark)));
            if defined == Some(&volume) {
                added.removed_mounts.retain(|known| !same(known, &target));
            } else {
                added.mounts.push(volume.clone());
            }
            running.write(&added)
        });
        let kept = noted.and_then(|()| keep(manager, &before, &after));
        if let Err(error) = kept {
            manager.runtime.inside(name, &["unmount", &target]).context("and its mount stays")?;
            running.write(&old)?;
            return Err(error);
        }
    } else {
        keep(manager, &before, &after)?;
    }
    Ok(row(&volume, running.is_some(), saved))
}

/// Puts down a definition if it is another one now.
pub(super) fn keep(manager: &Manager, before: &Definition, after: &Definition) -> Result<()> {
    if before == after { Ok(()) } else { after.write(&manager.places.container(&after.name)) }
}

fn remove(manager: &Manager, name: &str, source: Option<&str>, target: &str, save: bool) -> Result<()> {
    let _lock = pending::lock(manager, name)?;
    let before = Definition::need(&manager.places, name)?;
    let (running, mut added) = added::look(manager, name)?;
    let fits =
        |volume: &Volume| same(&volume.destination, target) && source.is_none_or(|source| same(&volume.source, source));
    let Some(volume) = added.mounts.iter().chain(&before.volumes).find(|volume| fits(volume)).cloned() else {
        bail!("container {name:?} has nothing of the host on {target}: skep mount ls {name} lists what it has");
    };
    let was_added = added.mounts.iter().any(fits);
    let is_removed = !was_added && added.removed_mounts.iter().any(|known| same(known, target));
    if is_removed && !save {
        bail!("{target} was taken away from container {name:?} already: --save keeps it out of its next start");
    }
    if let Some(running) = running.as_ref().filter(|_| !is_removed) {
        take_away(manager, name, running, &volume, added.marks.get(&volume.destination))?;
        added.marks.remove(&volume.destination);
        added.mounts.retain(|volume| !fits(volume));
        if is_there(&before.volumes, target) {
            added.removed_mounts.insert(volume.destination.clone());
        }
        running.write(&added)?;
    }
    if save || running.is_none() {
        let mut after = before.clone();
        after.volumes.retain(|volume| !fits(volume));
        keep(manager, &before, &after)?;
    }
    Ok(())
}

/// Takes a mount away, and none that the container has made itself.
fn take_away(manager: &Manager, name: &str, running: &Running, volume: &Volume, mark: Option<&Mark>) -> Result<()> {
    let target = &volume.destination;
    match Mounts::read(running.pid)?.find(volume, mark)? {
        Place::Uppermost(at) => manager.runtime.inside(name, &["unmount", &at]),
        // Somebody inside has taken it away.
        Place::Gone => Ok(()),
        Place::Covered => bail!(
            "container {name:?} has mounted something of its own over {target}: it has to take that away first (skep exec \
             {name} umount {target}), or be stopped"
        ),
        Place::Other => bail!(
            "what is mounted on {target} in container {name:?} is not {}, or not any more: a restart without it takes it away",
            volume.source
        ),
    }
}

fn list(manager: &Manager, name: &str, format: Format) -> Result<()> {
    let definition = Definition::need(&manager.places, name)?;
    let (running, added) = added::look(manager, name)?;
    let mounts = running.as_ref().map(|running| Mounts::read(running.pid)).transpose()?;
    let is_active = |volume: &Volume| -> Result<bool> {
        let Some(mounts) = &mounts else { return Ok(false) };
        Ok(mounts.find(volume, added.marks.get(&volume.destination))? != Place::Gone)
    };
    let mut rows = Vec::new();
    for volume in &definition.volumes {
        let is_removed = added.removed_mounts.iter().any(|known| same(known, &volume.destination));
        rows.push(row(volume, !is_removed && is_active(volume)?, true));
    }
    // One that is saved is in the list already.
    for volume in added.mounts.iter().filter(|volume| !definition.volumes.contains(volume)) {
        rows.push(row(volume, is_active(volume)?, false));
    }
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
