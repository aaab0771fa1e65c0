//! Snapshots of a container: which frozen changes it had at a moment.
//!
//! `containers/NAME/snapshots/SNAP.json`, written by rename: what is not whole is not there.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::changes;
use crate::places::{Places, Readers, validate_name, write_whole};

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Version of the document.
    pub schema: u32,
    /// Its name.
    pub name: String,
    /// When it was made, seconds since 1970.
    pub created: u64,
    /// What somebody wrote about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// What the container was made from: `host`, a path, `image:NAME` or `template:NAME`.
    pub from: String,
    /// The frozen changes above that, the lowest first.
    pub changes: Vec<String>,
    /// Whether they are one copy of the upper folder, which is no layer of the container.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub copied: bool,
}

/// Where the snapshots of a container are.
#[must_use]
pub fn folder(places: &Places, container: &str) -> PathBuf {
    places.container(container).join("snapshots")
}

fn file(places: &Places, container: &str, name: &str) -> PathBuf {
    folder(places, container).join(format!("{name}.json"))
}

/// The snapshots of a container in the order of their making.
///
/// # Errors
/// One of them cannot be read.
pub fn list(places: &Places, container: &str) -> Result<Vec<Snapshot>> {
    let folder = folder(places, container);
    let mut found = Vec::new();
    for file in changes::names(&folder)? {
        let Some(name) = file.strip_suffix(".json") else { continue };
        // It may have been removed since.
        let Some(snapshot) = read(places, container, name)? else { continue };
        // The record has seconds, which are long enough for several.
        let written = fs::metadata(folder.join(&file)).and_then(|meta| meta.modified()).ok();
        found.push((snapshot.created, written, snapshot));
    }
    found.sort_by(|a, b| (a.0, a.1, &a.2.name).cmp(&(b.0, b.1, &b.2.name)));
    Ok(found.into_iter().map(|(_, _, snapshot)| snapshot).collect())
}

fn read(places: &Places, container: &str, name: &str) -> Result<Option<Snapshot>> {
    let path = file(places, container, name);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("cannot read {}", path.display()))?,
    };
    serde_json::from_slice(&bytes).with_context(|| format!("cannot use {}", path.display())).map(Some)
}

/// Reads a snapshot that has to be there.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn need(places: &Places, container: &str, name: &str) -> Result<Snapshot> {
    validate_name("snapshot", name)?;
    match read(places, container, name)? {
        Some(snapshot) => Ok(snapshot),
        None => bail!("container {container:?} has no snapshot {name:?}"),
    }
}

/// Writes a snapshot.
///
/// # Errors
/// What the kernel says.
pub fn write(places: &Places, container: &str, snapshot: &Snapshot) -> Result<()> {
    let folder = folder(places, container);
    match fs::create_dir(&folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("cannot make {}", folder.display()));
        }
        _ => {}
    }
    write_whole(&file(places, container, &snapshot.name), &serde_json::to_vec_pretty(snapshot)?, Readers::Owner)
}

/// Removes a snapshot. What it alone referred to is taken away by `gc`.
///
/// # Errors
/// There is none; what the kernel says.
pub fn remove(places: &Places, container: &str, name: &str) -> Result<()> {
    need(places, container, name)?;
    let path = file(places, container, name);
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
}

/// The first free name of `snap0`, `snap1` and so on, above all that there are.
#[must_use]
pub fn plan_name(existing: &[Snapshot]) -> String {
    let numbers = existing.iter().filter_map(|snapshot| snapshot.name.strip_prefix("snap")?.parse::<u64>().ok());
    format!("snap{}", numbers.max().map_or(0, |last| last.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(name: &str, created: u64) -> Snapshot {
        Snapshot {
            schema: 1,
            name: name.to_owned(),
            created,
            comment: Some("before the upgrade".to_owned()),
            from: "host".to_owned(),
            changes: vec!["aa".to_owned()],
            copied: false,
        }
    }

    #[test]
    fn names_go_on_above_the_last() {
        assert_eq!(plan_name(&[]), "snap0");
        assert_eq!(plan_name(&[snapshot("snap7", 1), snapshot("snap2", 2), snapshot("mine", 3)]), "snap8");
    }

    #[test]
    fn snapshots_are_read_back_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places { data: dir.path().to_owned() };
        fs::create_dir_all(places.container("web1")).unwrap();
        for (name, created) in [("b", 1), ("a", 2)] {
            write(&places, "web1", &snapshot(name, created)).unwrap();
        }
        assert_eq!(list(&places, "web1").unwrap(), [snapshot("b", 1), snapshot("a", 2)]);
        remove(&places, "web1", "b").unwrap();
        let said = need(&places, "web1", "b").unwrap_err().to_string();
        assert_eq!(said, "container \"web1\" has no snapshot \"b\"");
        need(&places, "web1", "../a").unwrap_err();
    }
}
