//! What was added to a container since it was started, and taken away: a document in the folder of its run, which ends with the run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use network::{DeviceMove, LinkRecord};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::definition::{Device, Volume};
use crate::mounted::Mark;
use crate::places::{Places, Readers, write_whole};
use crate::run::Manager;
use crate::runs::Run;

/// The document's name in the run's folder.
const FILE: &str = "added.json";
/// What the files begin with on which the network namespaces of moved links are mounted.
const PIN: &str = "netns-";

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// Mounts.
    #[serde(default)]
    pub mounts: Vec<Volume>,
    /// Which mounts of the container they are, by the place inside.
    #[serde(default)]
    pub marks: BTreeMap<String, Mark>,
    /// Volumes of the definition that were taken away since, by the place inside.
    #[serde(default)]
    pub removed_mounts: BTreeSet<String>,
    /// Devices.
    #[serde(default)]
    pub devices: Vec<Device>,
    /// Devices of the definition that were taken away since, by the path inside.
    #[serde(default)]
    pub removed_devices: BTreeSet<String>,
    /// The rules of devices that were added, by the path inside: what a path of the host leads to may change.
    #[serde(default)]
    pub device_rules: BTreeMap<String, Value>,
    /// Links of the host, with all that brings them back.
    #[serde(default)]
    pub links: Vec<LinkRecord>,
    /// The rules for devices that hold now; `None` are those of the start.
    #[serde(default)]
    pub rules: Option<Vec<Value>>,
}

/// A run that is under way.
#[derive(Debug)]
pub struct Running {
    /// Its first process.
    pub pid: u32,
    /// Its folder.
    folder: PathBuf,
}

impl Running {
    /// The run of a container; `None` where it does not run. The container's lock is to be held.
    ///
    /// # Errors
    /// It is only being made or about to be started again; what the runtime says.
    pub fn find(manager: &Manager, name: &str) -> Result<Option<Running>> {
        let Some(state) = manager.runtime.state(name)?.filter(|state| state.status.is_alive()) else {
            return Ok(None);
        };
        let Some(run) = Run::read(&manager.places, name)? else {
            bail!("container {name:?} runs, and nobody knows since when: restart it first");
        };
        let pid = state.pid.with_context(|| format!("container {name:?} has no process yet"))?;
        Ok(Some(Running { pid, folder: run.folder(&manager.places, name) }))
    }

    /// What was added to it.
    ///
    /// # Errors
    /// The document cannot be read.
    pub fn added(&self) -> Result<Added> {
        read(&self.folder)
    }

    /// Puts down what was added.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn write(&self, added: &Added) -> Result<()> {
        write_whole(&self.folder.join(FILE), &serde_json::to_vec(added)?, Readers::Owner)
    }

    /// Its network namespace.
    ///
    /// # Errors
    /// It has ended.
    pub fn network_namespace(&self) -> Result<File> {
        let path = format!("/proc/{}/ns/net", self.pid);
        File::open(&path).with_context(|| format!("cannot open {path}"))
    }

    /// A file for the network namespace of a link that goes in.
    #[must_use]
    pub fn pin(&self, link: &str) -> PathBuf {
        self.folder.join(format!("{PIN}{link}"))
    }
}

/// The run of a container, if it runs, and what was added to it. The container's lock is to be held.
///
/// # Errors
/// As [`Running::find`] and [`Running::added`].
pub fn look(manager: &Manager, name: &str) -> Result<(Option<Running>, Added)> {
    let running = Running::find(manager, name)?;
    let added = running.as_ref().map_or(Ok(Added::default()), Running::added)?;
    Ok((running, added))
}

fn read(folder: &std::path::Path) -> Result<Added> {
    let path = folder.join(FILE);
    match fs::read(&path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Added::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("cannot use {}", path.display())),
    }
}

/// Brings the links back that went into a container whose run is over.
///
/// # Errors
/// What the kernel says.
pub fn take_back(places: &Places, name: &str) -> Result<()> {
    let Some(run) = Run::read(places, name)? else { return Ok(()) };
    for record in read(&run.folder(places, name))?.links {
        network::undo_link(&record).with_context(|| format!("cannot bring a link back from container {name:?}"))?;
    }
    Ok(())
}

/// Moves a link of the host into a container that runs; what brings it back is on disk before.
///
/// # Errors
/// There is no such link, its name is taken inside; what the kernel says.
pub fn move_link(running: &Running, added: &mut Added, device: &DeviceMove) -> Result<()> {
    let namespace = running.network_namespace()?;
    let pin = running.pin(&device.container_name);
    let text = pin.to_str().with_context(|| format!("{} is no text", pin.display()))?.to_owned();
    added.links.push(LinkRecord::Phys { pin: text.clone(), device: Some(device.clone()) });
    running.write(added)?;
    let moved = network::pin_netns(&text, namespace.as_fd())
        .and_then(|()| network::apply_device_move(device, namespace.as_fd()));
    if let Err(error) = moved {
        added.links.pop();
        network::unpin_netns(&text)?;
        running.write(added)?;
        return Err(error.into());
    }
    Ok(())
}
