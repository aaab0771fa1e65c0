//! What a whole system has besides, when engines are to run containers inside. Rendering is pure.
//!
//! An engine keeps layers on disk and stacks them; the kernel stacks nothing on a stack, which the container's own files are.
//! So the places where engines keep theirs are folders of the container's on the host's file system, whose owners are mapped as
//! the container's files are. They are removed with the container; snapshots, copies and exports leave them out.
//!
//! The kernel lets a new user namespace mount a procfs or a sysfs only where one is there of which nothing is covered. Where
//! something is (what a container sees of its limits, and what a privileged one is not to see), others that are whole lie below
//! [`WHOLE`].

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::bundle::device_rule;
use crate::definition::{Definition, Upper};
use crate::system::Guest;

/// The folder in the container's own that has them.
const FOLDER: &str = "own/nested";

/// Where engines keep layers: name of the folder, and its place inside.
const PLACES: [(&str, &str); 4] = [
    ("containerd", "/var/lib/containerd"),
    ("containers", "/var/lib/containers"),
    ("docker", "/var/lib/docker"),
    ("skep", "/var/lib/skep"),
];

/// Where the file systems of the kernel are that nothing covers.
const WHOLE: &str = "/dev/.skep";

/// `/dev/console` of the machine, which engines have in the list of what their containers may open, and which they may not give
/// away when they do not have it.
const CONSOLE: (u32, u32) = (5, 1);

/// Makes the folders, which belong to the container's root. What is there already stays.
///
/// # Errors
/// What the kernel says.
pub fn make_folders(container: &Path, definition: &Definition) -> Result<()> {
    if definition.upper != Upper::Disk {
        return Ok(());
    }
    let root = definition.ids.map_or(0, |(first, _)| first);
    let all = container.join(FOLDER);
    for folder in std::iter::once(all.clone()).chain(PLACES.iter().map(|(name, _)| all.join(name))) {
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
            other => other.with_context(|| format!("cannot make {}", folder.display()))?,
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o711))
            .and_then(|()| chown(&folder, Some(root), Some(root)))
            .with_context(|| format!("cannot give {} to the container", folder.display()))?;
    }
    Ok(())
}

/// The file systems of the kernel that nothing covers.
#[must_use]
pub fn render_whole() -> [Value; 2] {
    let whole = |kind: &str, options: &[&str]| {
        let place = format!("{WHOLE}/{kind}");
        json!({ "destination": place, "type": kind, "source": kind, "options": options })
    };
    let options = ["nosuid", "noexec", "nodev", "ro"];
    [whole("proc", &options[..3]), whole("sysfs", &options)]
}

/// Adds it to what is rendered for a system.
pub(super) fn render(config: &mut Value, definition: &Definition, guest: &Guest<'_>) {
    let Some(mounts) = config["mounts"].as_array_mut() else { return };
    let taken = |place: &str| definition.volumes.iter().any(|volume| volume.destination == place);
    let mount = |(name, place): &(&str, &str)| match definition.upper {
        Upper::Disk => {
            let source: PathBuf = guest.folder.join(FOLDER).join(name);
            json!({ "destination": place, "type": "bind", "source": source, "options": ["bind", "rprivate", "nodev"] })
        }
        Upper::Memory(_) => {
            json!({ "destination": place, "type": "tmpfs", "source": "tmpfs", "options": ["nodev", "mode=711"] })
        }
    };
    mounts.extend(PLACES.iter().filter(|(_, place)| !taken(place)).map(mount));
    if definition.ids.is_none()
        && let Some(rules) = config["linux"]["resources"]["devices"].as_array_mut()
    {
        rules.push(device_rule('c', CONSOLE.0, CONSOLE.1, "rwm"));
    }
}
