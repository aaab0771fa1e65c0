//! `lxc-snapshot`: copies of a container in its own folder, `NAME/snaps/snapN`, with their time and a comment.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::clone::{self, Keep, Place, Way};
use crate::options::Call;
use crate::output;
use crate::places;
use crate::skep::Skep;
use crate::tools::{create, find};

/// Folder of snapshots in a container's folder.
pub(super) const FOLDER: &str = "snaps";
/// What their names begin with.
const PREFIX: &str = "snap";
/// Name of the file with the time.
const TIME: &str = "ts";
/// Name of the file with the comment.
const COMMENT: &str = "comment";

/// Takes, lists, restores or removes snapshots.
pub(super) fn snapshot(skep: &Skep, call: &Call) -> Result<u8> {
    let lxcpath = std::path::absolute(&call.lxcpath).context("cannot tell the current folder")?;
    let container = Place { lxcpath, name: call.name.clone() };
    if !container.exists() {
        bail!("No such container");
    }
    if let Some(name) = call.get("destroy") {
        return remove(&container, name).map(|()| 0);
    }
    if call.has("list") {
        return list(&container, call.has("showcomments")).map(|()| 0);
    }
    if let Some(name) = call.get("restore") {
        return restore(skep, call, &container, name).map(|()| 0);
    }
    take(skep, call, &container).map(|()| 0)
}

fn snaps(container: &Place) -> Place {
    Place { lxcpath: container.folder().join(FOLDER), name: String::new() }
}

/// Snapshots in the order of their numbers.
fn names(container: &Place) -> Result<Vec<String>> {
    let mut names = places::names(&snaps(container).lxcpath)?;
    names.sort_by_key(|name| (name.strip_prefix(PREFIX).and_then(|number| number.parse::<u32>().ok()), name.clone()));
    Ok(names)
}

fn take(skep: &Skep, call: &Call, container: &Place) -> Result<()> {
    if find(skep, call)?.is_alive() {
        bail!("Original container ({}) is running", container.name);
    }
    let place = snaps(container);
    // What was begun and not finished has no configuration; its number is not used again.
    let name = (0..).map(|number| format!("{PREFIX}{number}")).find(|name| !place.lxcpath.join(name).exists());
    let to = Place { name: name.context("no name is left for a snapshot")?, ..place };
    clone::make(container, &to, Way::Copy, Keep { name: true, mac: true })?;
    let time = Command::new("date").arg("+%Y:%m:%d %H:%M:%S").output().context("cannot run date")?;
    fs::write(to.folder().join(TIME), String::from_utf8_lossy(&time.stdout).trim_end())?;
    if let Some(comment) = call.get("comment") {
        fs::copy(comment, to.folder().join(COMMENT)).with_context(|| format!("cannot copy {comment}"))?;
    }
    Ok(())
}

fn list(container: &Place, comments: bool) -> Result<()> {
    let names = names(container)?;
    if names.is_empty() {
        return output::write("No snapshots\n");
    }
    let place = snaps(container).lxcpath;
    for name in names {
        let time = fs::read_to_string(place.join(&name).join(TIME)).unwrap_or_default();
        let mut text = format!("{name} ({}) {}\n", place.display(), time.trim_end());
        if comments {
            text.push_str(&fs::read_to_string(place.join(&name).join(COMMENT)).unwrap_or_default());
        }
        output::write(&text)?;
    }
    Ok(())
}

/// Makes a container of a snapshot: one of another name, or the container itself, whose files go then.
fn restore(skep: &Skep, call: &Call, container: &Place, name: &str) -> Result<()> {
    let from = find_snapshot(container, name)?;
    let to = match call.get("newname") {
        Some(name) => Place::named(container.lxcpath.clone(), name)?,
        None => container.clone(),
    };
    if to != *container {
        return clone::make(&from, &to, Way::Copy, Keep { name: false, mac: true });
    }
    if find(skep, call)?.is_alive() {
        bail!("{} is running", container.name);
    }
    if clone::has_clones(container)? {
        bail!("{} has clones", container.name);
    }
    // Beside the one of now first: what fails leaves that as it is.
    let beside = Place { lxcpath: container.folder(), name: format!(".{name}.new") };
    clone::make(&from, &beside, Way::Copy, Keep { name: true, mac: true })?;
    let new = fs::read_to_string(beside.config())?;
    let path = |place: &Place| format!("{}/", place.folder().display());
    let text = new.replace(&path(&beside), &path(container));
    clone::leave_origin(container)?;
    for part in ["rootfs", "overlay"] {
        let (old, new) = (container.folder().join(part), beside.folder().join(part));
        if old.exists() {
            create::remove(&old)?;
        }
        if new.exists() {
            fs::rename(&new, &old).with_context(|| format!("cannot rename {}", new.display()))?;
        }
    }
    fs::write(container.config(), text).with_context(|| format!("cannot write {}", container.config().display()))?;
    create::remove(&beside.folder())
}

fn remove(container: &Place, name: &str) -> Result<()> {
    let folder = snaps(container).lxcpath;
    if !folder.is_dir() {
        bail!("there are no snapshots");
    }
    let going = if name == "ALL" { names(container)? } else { vec![name.to_owned()] };
    for name in going {
        create::remove(&find_snapshot(container, &name)?.folder())?;
    }
    match fs::remove_dir(&folder) {
        // Others are left.
        Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => other.with_context(|| format!("cannot remove {}", folder.display())),
    }
}

fn find_snapshot(container: &Place, name: &str) -> Result<Place> {
    let place = Place { name: name.to_owned(), ..snaps(container) };
    if name.contains('/') || name.starts_with('.') || !place.exists() {
        bail!("Error opening snapshot {name}");
    }
    Ok(place)
}
