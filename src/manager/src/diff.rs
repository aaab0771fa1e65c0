//! What some layers change of those below them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use rootfs_tools::{Folder, Found, Stack};
use serde::Serialize;
use sys::fs::{FileType, Stat};

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It is new.
    Added,
    /// It was there, and is another file or a file with other content or attributes; a folder in which something changed.
    Changed,
    /// It is gone.
    Deleted,
}

/// One path that is not what it was.
#[derive(Debug)]
pub struct Change {
    /// From the root, with a slash in front.
    pub path: Vec<u8>,
    /// What happened.
    pub kind: Kind,
    /// Whether a folder hides all that was in it before.
    pub opaque: bool,
    /// What is there now.
    pub above: Option<Stat>,
    /// What was there.
    pub below: Option<Stat>,
}

impl Change {
    /// Whether there is, or was, a folder.
    #[must_use]
    pub fn is_folder(&self) -> bool {
        let is_folder = |stat: &Stat| sys::fs::file_type(stat) == FileType::Directory;
        self.above.as_ref().or(self.below.as_ref()).is_some_and(is_folder)
    }
}

/// Lists what the layers `above` change of what those `below` show, in the order of the paths. Only folders that a layer
/// above has are looked into.
///
/// # Errors
/// What the kernel says.
pub fn read_changes(above: &[PathBuf], below: &[PathBuf]) -> Result<Vec<Change>> {
    let all: Vec<&PathBuf> = above.iter().chain(below).collect();
    let (merged, lower) = (Stack::open(&all)?, Stack::open(below)?);
    let mut changes = Vec::new();
    let mut pending = vec![(merged.root()?, Some(lower.root()?))];
    while let Some((folder, under)) = pending.pop() {
        let mut was: BTreeMap<Vec<u8>, Found> = BTreeMap::new();
        if let Some(under) = &under {
            was.extend(lower.entries(under)?.into_iter().map(|found| (found.name.clone(), found)));
        }
        for now in merged.entries(&folder)? {
            let before = was.remove(&now.name);
            let touched = now.layer < above.len();
            let into = now.folder.filter(|inner| inner.layers.first().is_some_and(|layer| *layer < above.len()));
            if touched {
                changes.push(Change {
                    path: path_of(&folder, &now.name),
                    kind: if before.is_some() { Kind::Changed } else { Kind::Added },
                    opaque: before.is_some() && into.as_ref().is_some_and(|inner| hides(inner, above.len())),
                    above: Some(now.stat),
                    below: before.as_ref().map(|found| found.stat),
                });
            }
            if let Some(inner) = into {
                pending.push((inner, before.and_then(|found| found.folder)));
            }
        }
        for (name, gone) in was {
            let path = path_of(&folder, &name);
            changes.push(Change { path, kind: Kind::Deleted, opaque: false, above: None, below: Some(gone.stat) });
        }
    }
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(changes)
}

/// Whether a folder that layers above have shows nothing of those below, by a mark.
fn hides(folder: &Folder, above: usize) -> bool {
    folder.opaque && folder.layers.iter().all(|layer| *layer < above)
}

fn path_of(folder: &Folder, name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if folder.path.is_empty() { b"" } else { b"/" };
    [b"/", folder.path.as_slice(), slash, name].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd;

    #[test]
    fn every_kind_of_change_is_found() {
        if !sys::entry::is_root() {
            println!("SKIPPED: marks of overlay are made by root only");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let [upper, frozen, base] = ["upper", "frozen", "base"].map(|name| dir.path().join(name));
        for folder in ["a/deep", "b", "same"] {
            fs::create_dir_all(base.join(folder)).unwrap();
        }
        for file in ["a/one", "a/deep/two", "b/three", "same/four", "was-file"] {
            fs::write(base.join(file), file).unwrap();
        }
        fs::create_dir_all(frozen.join("a")).unwrap();
        fs::write(frozen.join("a/frozen"), "").unwrap();
        for folder in ["a", "b", "new", "was-file"] {
            fs::create_dir_all(upper.join(folder)).unwrap();
        }
        for file in ["a/one", "b/fresh", "new/x", "was-file/y"] {
            fs::write(upper.join(file), "changed").unwrap();
        }
        let fd = sys::fs::open_dir(&upper.to_string_lossy()).unwrap();
        sys::entry::mknod(fd.as_fd(), b"a/deep", FileType::CharacterDevice, 0, 0).unwrap();
        sys::entry::mknod(fd.as_fd(), b"a/never-was", FileType::CharacterDevice, 0, 0).unwrap();
        sys::entry::set_xattr(fd.as_fd(), b"b", b"trusted.overlay.opaque", b"y").unwrap();
        let lines = |above: &[PathBuf], below: &[PathBuf]| -> Vec<String> {
            let line = |change: &Change| {
                let kind = format!("{:?}", change.kind);
                let mark = if change.opaque { "!" } else { "" };
                format!("{}{mark} {}", &kind[..1], String::from_utf8_lossy(&change.path))
            };
            read_changes(above, below).unwrap().iter().map(line).collect()
        };
        let expected = [
            "C /a",
            "D /a/deep",
            "C /a/one",
            "C! /b",
            "A /b/fresh",
            "D /b/three",
            "A /new",
            "A /new/x",
            "C /was-file",
            "A /was-file/y",
        ];
        assert_eq!(lines(std::slice::from_ref(&upper), &[frozen.clone(), base.clone()]), expected);
        let all = lines(&[upper, frozen], &[base]);
        assert_eq!(all.len(), expected.len() + 1);
        assert!(all.contains(&"A /a/frozen".to_owned()), "{all:?}");
    }
}
