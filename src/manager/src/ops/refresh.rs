//! `refresh`: running containers get what their template or the host has by now.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::Serialize;
use sys::fs::{FileType, Stat};

use crate::args_kept::RefreshArgs;
use crate::base;
use crate::bundle;
use crate::changes;
use crate::copied::Storage;
use crate::definition::{Definition, From, Upper};
use crate::diff::{Change, read_changes};
use crate::ops::stop;
use crate::output::{self, Format, tell};
use crate::pending::{self, Intent};
use crate::places::UPPER;
use crate::run::Manager;

/// What becomes of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    /// It is restarted.
    Restarted,
    /// It has all that there is.
    Current,
    /// It does not run, and takes what there is when it starts.
    Stopped,
}

/// One container, as `--format json` has it. Names of fields are not changed, only added to.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    /// `restarted` (with --dry-run: it would be), `current` or `stopped`.
    action: Action,
    from: String,
    /// Files that the container has changed, and that are newer below: it does not see those.
    shadowed: Vec<String>,
}

/// Restarts the containers whose base is not what they run on.
///
/// # Errors
/// One of them is not there, or could not be restarted; the others are done all the same.
pub fn refresh(manager: &Manager, args: &RefreshArgs) -> Result<()> {
    let names = if args.all { Definition::names(&manager.places)? } else { args.names.clone() };
    let mut rows = Vec::new();
    let mut failed = 0;
    for name in &names {
        match refresh_one(manager, args, name) {
            Ok(Some(row)) => rows.push(row),
            Ok(None) => {}
            Err(error) => {
                tell(&format!("error: {error:#}"));
                failed += 1;
            }
        }
    }
    print(args, &rows)?;
    if failed > 0 {
        bail!("{failed} of {} failed", names.len());
    }
    Ok(())
}

fn refresh_one(manager: &Manager, args: &RefreshArgs, name: &str) -> Result<Option<Row>> {
    let places = &manager.places;
    let _lock = pending::lock(manager, name)?;
    let definition = match Definition::read(places, name)? {
        Some(definition) => definition,
        None if args.all => return Ok(None),
        None => bail!("container {name:?} is not defined"),
    };
    let state = manager.runtime.state(name)?;
    let alive = state.as_ref().is_some_and(|state| state.status.is_alive());
    if args.all && !alive {
        return Ok(None);
    }
    if definition.storage == Storage::Copy {
        // Its files are its own.
        let action = if alive { Action::Current } else { Action::Stopped };
        return Ok(Some(Row { name: name.to_owned(), action, from: definition.from.render(), shadowed: Vec::new() }));
    }
    let base = base::layers(places, &definition.from)?;
    let ran_on = bundle::read_lower(&places.container(name))?;
    let is_current = ran_on.as_ref().is_some_and(|ran_on| ran_on.ends_with(&base));
    let action = match definition.from {
        _ if !alive => Action::Stopped,
        From::Template { .. } | From::Image { .. } if is_current => Action::Current,
        // Whether a folder has changed can be said by whoever changed it.
        From::Folder { .. } | From::Adopted { .. } if args.all => Action::Current,
        _ => Action::Restarted,
    };
    let before = ran_on.filter(|_| !is_current).and_then(|ran_on| ran_on.last().cloned());
    let shadowed =
        if args.dry_run { find_shadowed(manager, &definition, &base, before.as_deref())? } else { Vec::new() };
    if action == Action::Restarted && !args.dry_run {
        let pid = state.and_then(|state| state.pid);
        // Settling starts it again: whatever ends this command, the next one does the same.
        pending::perform(manager, name, &Intent::Refresh { pid, time: args.time }, || {
            stop::stop_locked(manager, &definition, args.time)
        })?;
    }
    Ok(Some(Row { name: name.to_owned(), action, from: definition.from.render(), shadowed }))
}

/// Files that the container has a copy of, and that have changed below since.
///
/// Of a template two versions can be compared. Of the host only the time of the last change of the inode tells: it is that
/// of the upgrade, whatever time of modification a package gives to its files.
fn find_shadowed(
    manager: &Manager,
    definition: &Definition,
    base: &[PathBuf],
    before: Option<&Path>,
) -> Result<Vec<String>> {
    if definition.upper != Upper::Disk {
        return Ok(Vec::new());
    }
    let frozen = changes::layers(&manager.places, definition)?;
    let mut above = vec![manager.places.container(&definition.name).join(UPPER)];
    above.extend(frozen[..definition.changes.len()].iter().cloned());
    let before = before.filter(|before| before.is_dir());
    let is_shadowed = |change: &Change| match (&change.above, &change.below) {
        (Some(above), Some(below)) if !is_folder(above) && !is_folder(below) => match before {
            Some(before) => is_other(before, &change.path, below),
            None => (below.st_ctime, below.st_ctime_nsec) > (above.st_ctime, above.st_ctime_nsec),
        },
        _ => false,
    };
    let found = read_changes(&above, base)?;
    let path = |change: &Change| String::from_utf8_lossy(&change.path).into_owned();
    Ok(found.iter().filter(|change| is_shadowed(change)).map(path).collect())
}

fn is_folder(stat: &Stat) -> bool {
    sys::fs::file_type(stat) == FileType::Directory
}

/// Whether a file is not the one that another version of the template has.
fn is_other(version: &Path, path: &[u8], now: &Stat) -> bool {
    let relative = std::ffi::OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path));
    match fs::symlink_metadata(version.join(relative)) {
        Ok(then) => {
            let modified = (then.mtime(), then.mtime_nsec(), then.mode());
            modified != (now.st_mtime, i64::try_from(now.st_mtime_nsec).unwrap_or(0), now.st_mode)
                || i64::try_from(then.size()) != Ok(now.st_size)
        }
        // It is new in this one.
        Err(_) => true,
    }
}

fn print(args: &RefreshArgs, rows: &[Row]) -> Result<()> {
    let action = |row: &Row| match row.action {
        Action::Restarted if args.dry_run => "restart",
        Action::Restarted => "restarted",
        Action::Current => "current",
        Action::Stopped => "stopped",
    };
    if args.printed.format() != Format::Table || !args.dry_run {
        return output::print(args.printed.format(), &rows, || {
            let header = ["NAME", "ACTION", "FROM"].map(str::to_owned).to_vec();
            let cells = |row: &Row| vec![row.name.clone(), action(row).to_owned(), row.from.clone()];
            std::iter::once(header).chain(rows.iter().map(cells)).collect()
        });
    }
    output::print(args.printed.format(), &rows, || {
        let header = ["NAME", "ACTION", "FROM", "SHADOWED"].map(str::to_owned).to_vec();
        let mut table = vec![header];
        for row in rows {
            table.push(vec![
                row.name.clone(),
                action(row).to_owned(),
                row.from.clone(),
                row.shadowed.len().to_string(),
            ]);
        }
        for row in rows {
            table.extend(row.shadowed.iter().map(|path| vec![row.name.clone(), "shadows".to_owned(), path.clone()]));
        }
        table
    })
}
