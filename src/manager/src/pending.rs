//! Changes of several steps: what is being done to a container is on disk before it is done.
//!
//! ```text
//! containers/NAME/pending.json   what is under way; gone when it is done
//!
//! freeze    the upper layer becomes changes/ID, the definition refers to it, a snapshot is written
//!           done once the definition says so: before that it is undone, after that finished
//! copy      changes/ID is made of what a running container changed: undone; the container is let go on
//! restore   the definition goes back, the upper layer is replaced: finished
//! rename    the folder gets its new name: before that undone, after that finished, with its addresses
//! refresh   a running container is stopped and started again: finished; one that does not start stays stopped
//! ```
//!
//! Whoever takes a container's lock settles what an interrupted command left; so does each command at its beginning.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use runtime_spec::state::Status;
use serde::{Deserialize, Serialize};

use crate::changes;
use crate::definition::Definition;
use crate::document;
use crate::monitor::Input;
use crate::ops::{network, remove_tree, start, stop};
use crate::output::tell;
use crate::places::{Lock, Places, Readers, UPPER, write_whole};
use crate::run::Manager;
use crate::snapshots::{self, Snapshot};

/// Name of the document in the container's folder.
const FILE: &str = "pending.json";
/// Upper layer that takes the place of another.
pub const NEXT_UPPER: &str = "own/upper.next";

/// What is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Intent {
    /// The upper layer becomes frozen changes.
    Freeze {
        /// Their id.
        id: String,
        /// The snapshot that is written afterwards.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        snapshot: Option<Snapshot>,
    },
    /// Frozen changes are made of what a running container changed.
    Copy {
        /// Their id.
        id: String,
        /// Whether the container was stopped for it and has to go on.
        frozen: bool,
    },
    /// The container goes back to these frozen changes.
    Restore {
        /// The lowest first.
        changes: Vec<String>,
    },
    /// The container gets another name.
    Rename {
        /// The old one.
        from: String,
        /// The new one.
        to: String,
    },
    /// The container is started anew.
    Refresh {
        /// The first process that it is to have no more.
        pid: Option<u32>,
        /// Seconds that it has to end by itself.
        time: u64,
    },
}

impl Intent {
    /// The frozen changes that it refers to.
    #[must_use]
    pub fn changes(&self) -> Vec<String> {
        match self {
            Intent::Freeze { id, snapshot } => {
                let others = snapshot.iter().flat_map(|snapshot| snapshot.changes.clone());
                others.chain([id.clone()]).collect()
            }
            Intent::Copy { id, .. } => vec![id.clone()],
            Intent::Restore { changes } => changes.clone(),
            Intent::Rename { .. } | Intent::Refresh { .. } => Vec::new(),
        }
    }
}

fn file(places: &Places, name: &str) -> PathBuf {
    places.container(name).join(FILE)
}

/// What is under way with a container.
///
/// # Errors
/// The document cannot be read.
pub fn read(places: &Places, name: &str) -> Result<Option<Intent>> {
    let path = file(places, name);
    let bytes = match fs::read(&path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        other => other.with_context(|| format!("cannot read {}", path.display()))?,
    };
    serde_json::from_slice(&bytes).with_context(|| format!("cannot use {}", path.display())).map(Some)
}

/// Takes the lock of a container and settles what was left.
///
/// # Errors
/// The lock cannot be had; what was left can neither be finished nor undone.
pub fn lock(manager: &Manager, name: &str) -> Result<Lock> {
    let lock = manager.places.lock(name)?;
    settle(manager, name)?;
    document::convert(&manager.places.container(name))?;
    Ok(lock)
}

/// Does something of several steps, with its intent on disk. A failure is undone at once, as far as that is possible.
///
/// # Errors
/// What the work says; the intent cannot be written, then nothing was done.
pub fn perform<T>(manager: &Manager, name: &str, intent: &Intent, work: impl FnOnce() -> Result<T>) -> Result<T> {
    write_whole(&file(&manager.places, name), &serde_json::to_vec_pretty(intent)?, Readers::Owner)?;
    let done = work();
    match (done, settle(manager, name)) {
        (Err(error), Err(left)) => Err(error.context(format!("the next command goes on, as {left:#}"))),
        (Err(error), Ok(())) => Err(error),
        (Ok(value), settled) => settled.map(|()| value),
    }
}

/// Gives up what is under way, of which nothing has been done yet.
///
/// # Errors
/// What the kernel says.
pub fn abandon(places: &Places, name: &str) -> Result<()> {
    remove_tree(&places.container(name).join(NEXT_UPPER))?;
    let path = file(places, name);
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
}

/// Finishes or undoes what is under way. The container's lock is to be held.
///
/// # Errors
/// What the kernel or the runtime says; the next command tries again.
pub fn settle(manager: &Manager, name: &str) -> Result<()> {
    let places = &manager.places;
    let Some(intent) = read(places, name)? else { return Ok(()) };
    match &intent {
        Intent::Freeze { id, snapshot } => settle_freeze(places, name, id, snapshot.as_ref())?,
        Intent::Copy { id, frozen } => {
            if *frozen && manager.runtime.state(name)?.is_some_and(|state| state.status == Status::Paused) {
                manager.runtime.set_frozen(name, false)?;
            }
            settle_copy(places, id)?;
        }
        Intent::Restore { changes } => settle_restore(places, name, changes)?,
        Intent::Rename { from, to } => settle_rename(manager, name, from, to)?,
        Intent::Refresh { pid, time } => {
            let settled = settle_refresh(manager, name, *pid, *time);
            if settled.is_err() {
                // One that does not start is not tried again by every command from here on.
                abandon(places, name)?;
                return settled;
            }
        }
    }
    let path = file(places, name);
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    changes::sweep(places)
}

fn settle_freeze(places: &Places, name: &str, id: &str, snapshot: Option<&Snapshot>) -> Result<()> {
    let definition = Definition::need(places, name)?;
    if definition.changes.iter().any(|known| known == id) {
        return snapshot.map_or(Ok(()), |snapshot| snapshots::write(places, name, snapshot));
    }
    let (root, upper) = (changes::root(places, id), places.container(name).join(UPPER));
    if root.exists() {
        // The new one is empty: nothing runs while the lock is held.
        match fs::remove_dir(&upper) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", upper.display()));
            }
            _ => {}
        }
        rename(&root, &upper)?;
    }
    remove_tree(&changes::folder(places, id))
}

/// A copy that is not whole is not there; one that is whole and that nobody refers to is collected later.
fn settle_copy(places: &Places, id: &str) -> Result<()> {
    let folder = changes::folder(places, id);
    if folder.exists() && !changes::root(places, id).exists() {
        changes::discard(places, &folder)?;
    }
    Ok(())
}

fn settle_restore(places: &Places, name: &str, changes_then: &[String]) -> Result<()> {
    let mut definition = Definition::need(places, name)?;
    let folder = places.container(name);
    if definition.changes != changes_then {
        definition.changes = changes_then.to_vec();
        definition.write(&folder)?;
    }
    let (upper, next) = (folder.join(UPPER), folder.join(NEXT_UPPER));
    if next.exists() {
        if upper.exists() {
            changes::discard(places, &upper)?;
        }
        rename(&next, &upper)?;
    }
    Ok(())
}

fn settle_rename(manager: &Manager, name: &str, from: &str, to: &str) -> Result<()> {
    if name != to {
        return Ok(());
    }
    let mut definition = Definition::need(&manager.places, name)?;
    network::rename(manager, from, to)?;
    if definition.hostname == from {
        definition.hostname = to.to_owned();
    }
    to.clone_into(&mut definition.name);
    definition.write(&manager.places.container(name))?;
    rename_in_others(manager, from, to)
}

/// Has those that begin after a container begin after its new name. One that somebody works on, or that cannot be read, is
/// told and left: the name that it waits for is not there any more, which keeps nothing from starting.
fn rename_in_others(manager: &Manager, from: &str, to: &str) -> Result<()> {
    let places = &manager.places;
    for other in Definition::names(places)?.iter().filter(|other| *other != to) {
        let waits = |definition: &Definition| {
            definition.autostart.as_ref().is_some_and(|autostart| autostart.after.iter().any(|after| after == from))
        };
        if !Definition::read(places, other).ok().flatten().is_some_and(|definition| waits(&definition)) {
            continue;
        }
        let Some(_lock) = places.try_lock(other)? else {
            tell(&format!("note: container {other:?} still begins after {from:?}: somebody works on it"));
            continue;
        };
        // Again, now that nobody changes it.
        let Some(mut definition) = Definition::read(places, other)?.filter(waits) else { continue };
        for after in definition.autostart.iter_mut().flat_map(|autostart| &mut autostart.after) {
            if after == from {
                to.clone_into(after);
            }
        }
        definition.write(&places.container(other))?;
    }
    Ok(())
}

fn settle_refresh(manager: &Manager, name: &str, pid: Option<u32>, time: u64) -> Result<()> {
    let definition = Definition::need(&manager.places, name)?;
    let alive = manager.runtime.state(name)?.filter(|state| state.status.is_alive());
    // Another process: it was started again, by whomever.
    if alive.as_ref().is_some_and(|state| state.pid != pid) {
        return Ok(());
    }
    if alive.is_some() {
        stop::stop_locked(manager, &definition, time)?;
    }
    start::start_locked(manager, &definition, None, Input::Null)
        .with_context(|| format!("container {name:?} was stopped and does not start again"))
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("cannot rename {} to {}", from.display(), to.display()))
}

/// Settles what is left of interrupted commands, container by container. One that somebody works on is left alone.
///
/// # Errors
/// What the kernel says of the folder of all.
pub fn recover(manager: &Manager, tell: impl Fn(&str)) -> Result<()> {
    for name in changes::names(&manager.places.containers())? {
        if name.starts_with('.') || !file(&manager.places, &name).exists() {
            continue;
        }
        let settled = manager.places.try_lock(&name).and_then(|lock| match lock {
            Some(_lock) => settle(manager, &name),
            None => Ok(()),
        });
        if let Err(error) = settled {
            // Other containers can be worked with all the same.
            tell(&format!("warning: container {name:?} is half changed: {error:#}"));
        }
    }
    Ok(())
}
