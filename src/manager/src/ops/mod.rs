//! One file per verb.

pub mod copy;
pub mod create;
pub mod destroy;
pub mod diff;
pub mod export;
pub mod gc;
pub mod image;
pub mod list;
pub mod network;
pub mod refresh;
pub mod snapshot;
pub mod start;
pub mod stop;
pub mod template;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::changes;
use crate::output::tell;
use crate::pending;
use crate::run::Manager;
use crate::runtime::is_alive;

/// Does the same for each name. A failure is told and the others are done all the same.
///
/// # Errors
/// One of them failed.
pub fn each(names: &[String], mut work: impl FnMut(&str) -> Result<()>) -> Result<()> {
    if let [name] = names {
        return work(name);
    }
    let mut failed = 0;
    for name in names {
        if let Err(error) = work(name) {
            tell(&format!("error: {error:#}"));
            failed += 1;
        }
    }
    if failed > 0 {
        bail!("{failed} of {} failed", names.len());
    }
    Ok(())
}

/// Takes away what an interrupted command left: folders with a dot in front are being made or removed. One that somebody
/// works on is left alone.
///
/// # Errors
/// What the kernel says.
pub fn recover(manager: &Manager) -> Result<()> {
    let dir = manager.places.containers();
    let entries = match fs::read_dir(&dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        // An ordinary user may ask for help or fail later.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(()),
        other => other.with_context(|| format!("cannot read {}", dir.display()))?,
    };
    for entry in entries {
        let name = entry.with_context(|| format!("cannot read {}", dir.display()))?.file_name();
        let Some(name) = name.to_str().and_then(|name| name.strip_prefix('.')) else { continue };
        let Some((container, _)) = name.rsplit_once('.') else { continue };
        if let Some(_lock) = manager.places.try_lock(container)? {
            remove_tree(&dir.join(format!(".{name}")))?;
        }
    }
    Ok(())
}

/// Finishes or undoes what interrupted commands left half done, and removes what they had moved aside.
///
/// # Errors
/// What the kernel says.
pub fn settle(manager: &Manager) -> Result<()> {
    pending::recover(manager, tell)?;
    crate::template::recover(manager)?;
    changes::sweep(&manager.places)
}

/// Refuses a container that runs; what the runtime has left of one that ended is removed.
///
/// # Errors
/// It runs; what the runtime says.
pub fn need_stopped(manager: &Manager, name: &str) -> Result<()> {
    match manager.runtime.state(name)? {
        Some(state) if is_alive(state.status) => bail!("container {name:?} is {}: stop it first", state.status),
        Some(_) => manager.runtime.delete(name),
        None => Ok(()),
    }
}

/// Removes a folder with all that is in it, if it is there.
///
/// # Errors
/// What the kernel says.
pub fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
