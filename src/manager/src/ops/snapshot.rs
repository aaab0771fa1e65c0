//! `snapshot` and `restore`: the changes of a container at a moment, and the way back to them.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result, bail};
use runtime_spec::clock;
use runtime_spec::state::Status;
use serde::Serialize;

use crate::args_kept::{RestoreArgs, SnapshotArgs};
use crate::changes;
use crate::copied;
use crate::definition::{Definition, From, Upper};
use crate::output::{self, Format};
use crate::pending::{self, Intent, NEXT_UPPER};
use crate::places::{Places, UPPER, now, validate_name};
use crate::run::Manager;
use crate::snapshots::{self, Snapshot};

/// `snapshot NAME`: makes one, lists them or removes one.
///
/// # Errors
/// What is wrong with the names; what the kernel or the runtime says. Then there is no new snapshot.
pub fn snapshot(manager: &Manager, args: &SnapshotArgs) -> Result<()> {
    let places = &manager.places;
    if args.list {
        Definition::need(places, &args.name)?;
        return print(args.printed.format(), &snapshots::list(places, &args.name)?);
    }
    let _lock = pending::lock(manager, &args.name)?;
    let definition = Definition::need(places, &args.name)?;
    if let Some(name) = &args.remove {
        return snapshots::remove(places, &args.name, name);
    }
    let existing = snapshots::list(places, &args.name)?;
    let name = args.snapshot.clone().unwrap_or_else(|| snapshots::plan_name(&existing));
    validate_name("snapshot", &name)?;
    if existing.iter().any(|known| known.name == name) {
        bail!("container {:?} has a snapshot {name:?} already", args.name);
    }
    let snapshot = Snapshot {
        schema: Definition::SCHEMA,
        name: name.clone(),
        created: now(),
        comment: args.comment.clone(),
        from: definition.from.render(),
        changes: Vec::new(),
        copied: false,
    };
    let _kept = changes::lock(places)?;
    let made = if copied::is_alone(places, &definition)? {
        copy_alone(manager, &definition).and_then(|id| {
            snapshots::write(places, &args.name, &Snapshot { changes: vec![id], copied: true, ..snapshot })
        })
    } else {
        freeze(manager, definition, Some(snapshot)).map(drop)
    };
    made.with_context(|| format!("cannot make snapshot {name:?}"))?;
    output::write(&format!("{name}\n"))
}

/// The state of a container that has a process.
///
/// # Errors
/// It keeps its changes in memory, or where it was adopted with; what the runtime says.
fn alive(manager: &Manager, definition: &Definition) -> Result<Option<Status>> {
    if let From::Adopted { path, .. } = &definition.from {
        bail!(
            "the changes of container {:?} cannot be frozen: they go to {}, which it was adopted with",
            definition.name,
            path.display()
        );
    }
    let name = &definition.name;
    let status = manager.runtime.state(name)?.map(|state| state.status).filter(|status| status.is_alive());
    if status.is_some() && definition.upper != Upper::Disk {
        bail!("container {name:?} keeps its changes in memory, where they cannot be frozen");
    }
    Ok(status)
}

/// Freezes a copy of what a container has changed, where nothing frozen can be a layer of it ([`copied`]). Returns its id.
/// The locks are those of [`freeze`].
///
/// # Errors
/// What the kernel or the runtime says; then there is no such copy.
pub(super) fn copy_alone(manager: &Manager, definition: &Definition) -> Result<String> {
    copied::freeze(manager, &definition.name, alive(manager, definition)?)
}

/// Makes what a container has changed so far immutable and returns its frozen changes, the lowest first. The container's
/// lock and the one of the references are to be held.
///
/// A stopped container's upper layer is frozen as it is and an empty one takes its place. Of a running one a copy is made
/// while it stands still.
///
/// # Errors
/// What the kernel or the runtime says; then the container is as it was.
pub(super) fn freeze(manager: &Manager, definition: Definition, snapshot: Option<Snapshot>) -> Result<Vec<String>> {
    let places = &manager.places;
    let status = alive(manager, &definition)?;
    let upper = places.container(&definition.name).join(UPPER);
    let below = changes::layers(places, &definition)?;
    let mut chain = definition.changes.clone();
    if definition.upper == Upper::Disk && changes::is_changed(&upper, &below[0])? {
        if chain.len() >= changes::DEPTH_MAX {
            bail!(
                "container {:?} has {} layers of frozen changes, more are too slow: export it and go on from the archive \
                 as an image",
                definition.name,
                chain.len()
            );
        }
        let id = changes::random_id()?;
        chain.push(id.clone());
        let is_copied = match status {
            Some(status) => copied::copy_upper(manager, &definition.name, &id, &upper, status)?,
            None => false,
        };
        if !is_copied {
            let snapshot = snapshot.map(|snapshot| Snapshot { changes: chain.clone(), ..snapshot });
            let intent = Intent::Freeze { id: id.clone(), snapshot };
            let definition = Definition { changes: chain.clone(), ..definition };
            pending::perform(manager, &definition.name, &intent, || move_upper(places, &definition, &id, &upper))?;
            return Ok(chain);
        }
    }
    if let Some(snapshot) = snapshot {
        snapshots::write(places, &definition.name, &Snapshot { changes: chain.clone(), ..snapshot })?;
    }
    Ok(chain)
}

/// The definition comes last: it decides whether this has happened.
fn move_upper(places: &Places, definition: &Definition, id: &str, upper: &Path) -> Result<()> {
    changes::make(places, id, &definition.name)?;
    let root = changes::root(places, id);
    fs::rename(upper, &root).with_context(|| format!("cannot move {} to {}", upper.display(), root.display()))?;
    changes::make_upper(upper, &root)?;
    let folder = changes::folder(places, id);
    File::open(&folder)
        .and_then(|file| file.sync_all())
        .with_context(|| format!("cannot sync {}", folder.display()))?;
    definition.write(&places.container(&definition.name))
}

/// `restore NAME SNAP`: the container's files become those of the snapshot. What it changed since is gone.
///
/// # Errors
/// It runs, or there is no such snapshot; what the kernel says.
pub fn restore(manager: &Manager, args: &RestoreArgs) -> Result<()> {
    let places = &manager.places;
    let _lock = pending::lock(manager, &args.name)?;
    let definition = Definition::need(places, &args.name)?;
    let snapshot = snapshots::need(places, &args.name, &args.snapshot)?;
    super::need_stopped(manager, &args.name)?;
    let _kept = changes::lock(places)?;
    let folder = places.container(&args.name);
    let chain = if snapshot.copied { Vec::new() } else { snapshot.changes.clone() };
    let after = Definition { changes: chain.clone(), ..definition };
    let below = changes::layers(places, &after)?;
    let next = folder.join(NEXT_UPPER);
    super::remove_tree(&next)?;
    let made = changes::make_upper(&next, &below[0]).and_then(|()| match snapshot.changes.first() {
        Some(id) if snapshot.copied => copied::fill_raw(&next, &changes::root(places, id)),
        _ => Ok(()),
    });
    if let Err(error) = made {
        super::remove_tree(&next)?;
        return Err(error);
    }
    let intent = Intent::Restore { changes: chain };
    pending::perform(manager, &args.name, &intent, || match after.write(&folder) {
        // Nothing has changed yet: better none of it than the rest at some later command.
        Err(error) => pending::abandon(places, &args.name).and(Err(error)),
        Ok(()) => Ok(()),
    })
}

/// One snapshot, as `--format json` has it. Names of fields are not changed, only added to.
#[derive(Debug, Serialize)]
struct Row<'a> {
    name: &'a str,
    /// RFC 3339.
    created: String,
    comment: Option<&'a str>,
    from: &'a str,
    changes: &'a [String],
}

fn print(format: Format, snapshots: &[Snapshot]) -> Result<()> {
    let rows: Vec<Row<'_>> = snapshots
        .iter()
        .map(|snapshot| Row {
            name: &snapshot.name,
            created: clock::render_seconds(std::time::Duration::from_secs(snapshot.created)),
            comment: snapshot.comment.as_deref(),
            from: &snapshot.from,
            changes: &snapshot.changes,
        })
        .collect();
    output::print(format, &rows, || {
        let header = ["NAME", "CREATED", "LAYERS", "COMMENT"].map(str::to_owned).to_vec();
        let cells = |row: &Row<'_>| {
            let comment = row.comment.unwrap_or_default().to_owned();
            vec![row.name.to_owned(), row.created.clone(), row.changes.len().to_string(), comment]
        };
        std::iter::once(header).chain(rows.iter().map(cells)).collect()
    })
}
