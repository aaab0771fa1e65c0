//! One file per verb.

pub mod attach;
pub mod autostart;
pub mod cgroup;
pub mod checkconfig;
pub mod config;
pub mod console;
pub mod copy;
pub mod create;
pub mod destroy;
pub mod device;
pub mod diff;
pub mod doctor;
pub mod ended;
pub mod export;
pub mod follow;
pub mod freeze;
pub mod gc;
pub mod image;
pub mod info;
pub mod list;
pub mod monitor;
pub mod mount;
pub mod network;
pub mod refresh;
pub mod snapshot;
pub mod start;
pub mod status;
pub mod stop;
pub mod template;
pub mod top;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::changes;
use crate::definition::Definition;
use crate::output::tell;
use crate::pending;
use crate::quota;
use crate::run::Manager;
use crate::runs::Run;

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

/// Takes away what interrupted commands left, finishes or undoes what they left half done, and removes what they had moved
/// aside. What cannot be dealt with is told: other containers can be worked with all the same.
pub fn recover(manager: &Manager) {
    let warn = |result: Result<()>| {
        if let Err(error) = result {
            tell(&format!("warning: what an interrupted command left stays: {error:#}"));
        }
    };
    match unfinished(manager) {
        Ok(names) => names.iter().for_each(|name| warn(remove_unfinished(manager, name))),
        Err(error) => warn(Err(error)),
    }
    warn(pending::recover(manager, tell));
    warn(crate::template::recover(manager));
    warn(changes::sweep(&manager.places));
}

/// The folders that are being made or removed: they have a dot in front.
fn unfinished(manager: &Manager) -> Result<Vec<String>> {
    let dir = manager.places.containers();
    match fs::metadata(&dir).and_then(|_| fs::read_dir(&dir)) {
        // An ordinary user may ask for help or fail later.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", dir.display())),
        Ok(_) => Ok(changes::names(&dir)?.into_iter().filter(|name| name.starts_with('.')).collect()),
    }
}

/// Removes `.NAME.new` or `.NAME.gone`, unless somebody works on it.
fn remove_unfinished(manager: &Manager, folder: &str) -> Result<()> {
    let Some((container, state)) = folder.strip_prefix('.').and_then(|name| name.rsplit_once('.')) else {
        return Ok(());
    };
    let Some(_lock) = manager.places.try_lock(container)? else { return Ok(()) };
    // Somebody may have done it meanwhile, and another container may have the name.
    let path = manager.places.containers().join(folder);
    if state == "gone" && path.exists() && !manager.places.container(container).exists() {
        network::disconnect(manager, container)?;
    }
    quota::release(&path)?;
    remove_tree(&path)
}

/// Refuses a container that runs; what the runtime has left of one that ended is removed.
///
/// # Errors
/// It runs; what the runtime says.
pub fn need_stopped(manager: &Manager, name: &str) -> Result<()> {
    let state = manager.runtime.state(name)?;
    match &state {
        Some(state) if state.status.is_alive() => bail!("container {name:?} is {}: stop it first", state.status),
        _ if Run::read(&manager.places, name)?.is_some_and(|run| run.again_at.is_some()) => {
            bail!("container {name:?} is about to be started again: stop it first")
        }
        _ => ended::clear(manager, &Definition::need(&manager.places, name)?, state.is_some(), false),
    }
}

/// Removes a folder with all that is in it, if it is there.
///
/// # Errors
/// What the kernel says.
pub fn remove_tree(path: &Path) -> Result<()> {
    rootfs_tools::remove_tree(path).with_context(|| format!("cannot remove {}", path.display()))
}
