//! `start NAME` of a definition: bundle, then the runtime.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::base;
use crate::bundle::{Surroundings, render_config};
use crate::changes;
use crate::definition::{Definition, Device, From};
use crate::host;
use crate::ops::network;
use crate::pending;
use crate::places::{Readers, UPPER, write_whole};
use crate::run::Manager;
use crate::runtime::is_alive;
use crate::template;

/// Starts a container that does not run.
///
/// # Errors
/// It runs already, or cannot be started; then nothing is left of the attempt.
pub fn start(manager: &Manager, name: &str) -> Result<()> {
    let _lock = pending::lock(manager, name)?;
    let definition = Definition::need(&manager.places, name)?;
    start_locked(manager, &definition)
}

pub(super) fn start_locked(manager: &Manager, definition: &Definition) -> Result<()> {
    let name = &definition.name;
    if let Some(state) = manager.runtime.state(name)? {
        if is_alive(state.status) {
            bail!("container {name:?} is {} already", state.status);
        }
        // What an earlier run left.
        manager.runtime.delete(name)?;
    }
    let folder = manager.places.container(name);
    let _version_stays = template::lock_in_use(&manager.places, &definition.from)?;
    let lower = changes::layers(&manager.places, definition)?;
    let (hidden, parts) = match &definition.from {
        From::Host { hide, show } => {
            let hidden = host::probe_hidden(hide, show, &manager.places.data)?;
            let mountinfo = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts of the host")?;
            let parts = host::parse_parts(&mountinfo, &hidden);
            (hidden, parts)
        }
        _ => (Vec::new(), Vec::new()),
    };
    let upper = folder.join(UPPER);
    let all: Vec<_> = std::iter::once(&upper).chain(&lower).cloned().collect();
    let user = base::find_user(&all, definition.process.user.as_deref())?;
    let devices = definition.devices.iter().map(probe_device).collect::<Result<Vec<_>>>()?;
    let covers: Vec<_> = host::plan_covers(&parts, &hidden)
        .into_iter()
        .filter_map(|path| fs::metadata(&path).ok().map(|meta| (path, meta.is_dir())))
        .collect();
    let mut config = render_config(
        definition,
        &Surroundings {
            folder: &folder,
            lower: &lower,
            systemd: manager.runtime.uses_systemd(),
            user: &user,
            devices: &devices,
            files: &network::FILES,
            hidden: &hidden,
            parts: &parts,
            covers: &covers,
        },
    );
    if let Some(hooks) = template::read_hooks(&manager.places, &definition.from)? {
        config["hooks"] = hooks;
    }
    write_whole(&folder.join("config.json"), &serde_json::to_vec_pretty(&config)?, Readers::Owner)?;
    let log = open_log(&folder)?;
    let started = network::raise(manager, definition).and_then(|link| {
        network::write_files(manager, definition, &folder)?;
        network::tell_neighbours(manager, definition);
        manager.runtime.run(name, &folder, link.as_slice(), &log)
    });
    if let Err(error) = started {
        network::lower(manager, definition)?;
        return Err(error.context(format!("cannot start container {name:?}")));
    }
    Ok(())
}

/// Type and numbers of a device of the host.
fn probe_device(device: &Device) -> Result<(char, u32, u32)> {
    let path = &device.source;
    let meta = fs::metadata(path).with_context(|| format!("cannot use the device {path}"))?;
    let kind = match meta.file_type() {
        kind if kind.is_char_device() => 'c',
        kind if kind.is_block_device() => 'b',
        _ => bail!("cannot use {path}: it is no device"),
    };
    Ok((kind, sys::fs::major(meta.rdev()), sys::fs::minor(meta.rdev())))
}

/// A new log; the last one with something in it is kept beside it. One that failed to start leaves an empty one.
fn open_log(folder: &Path) -> Result<File> {
    let path = folder.join("log");
    let aside = match fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Ok(meta) if meta.len() == 0 => Ok(()),
        other => other.and_then(|_| fs::rename(&path, folder.join("log.1"))),
    };
    aside.with_context(|| format!("cannot put {} aside", path.display()))?;
    let open = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    open.with_context(|| format!("cannot open {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn an_empty_log_does_not_replace_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        open_log(folder).unwrap().write_all(b"first").unwrap();
        for _ in 0..3 {
            open_log(folder).unwrap();
        }
        assert_eq!(fs::read_to_string(folder.join("log.1")).unwrap(), "first");
        assert_eq!(fs::read_to_string(folder.join("log")).unwrap(), "");
    }
}
