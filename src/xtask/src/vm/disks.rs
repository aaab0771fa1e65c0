//! Root file systems that the native tests have made, as more disks of the machine, which has no mirror to make them from.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::command::{bound_to_us, run};
use super::image;

/// A folder of the cache, by its name, and the test programs that want it.
const KINDS: [(&str, &[&str]); 2] = [
    ("systems", &["nesting", "services", "systems", "systems_kept", "view"]),
    ("services", &["nesting", "services", "view"]),
];

/// Size of a disk. Sparse: the larger kind has about 900 MB.
const SIZE: &str = "4G";

/// How long the making of one may take; 4 to 10 s were measured.
const LIMIT: Duration = Duration::from_secs(120);

/// A disk with a file system that is read only.
#[derive(Debug)]
pub(super) struct Disk {
    /// What the file system is called, and the folder below `/srv` that it is mounted at.
    pub(super) label: &'static str,
    /// Its image.
    pub(super) path: PathBuf,
}

/// The disks that one of these programs wants, made below `dir` unless they are there.
///
/// What no native test has made is left out: the tests say what they lack.
///
/// # Errors
/// A file system cannot be made.
pub(super) fn prepare(dir: &Path, wants: impl Fn(&str) -> bool) -> Result<Vec<Disk>> {
    let mut disks = Vec::new();
    for (label, programs) in KINDS {
        if !programs.iter().any(|program| wants(program)) {
            continue;
        }
        let Some(folder) = find_made(label)? else { continue };
        let key = folder.file_name().and_then(|name| name.to_str()).context("a folder of the cache has a name")?;
        let path = dir.join(format!("{label}-{key}.img"));
        if !path.exists() {
            make(dir, label, &folder, &path)?;
        }
        disks.push(Disk { label, path });
    }
    Ok(disks)
}

/// The folder that the tests made, which their helpers name by a key; the one that is being made has another name.
fn find_made(kind: &str) -> Result<Option<PathBuf>> {
    let cache = image::cache_dir()?.with_file_name(kind);
    let Ok(entries) = fs::read_dir(&cache) else { return Ok(None) };
    let is_key = |path: &PathBuf| {
        path.is_dir()
            && path.file_name().and_then(|name| name.to_str()).is_some_and(|name| u64::from_str_radix(name, 16).is_ok())
    };
    Ok(entries.flatten().map(|entry| entry.path()).find(is_key))
}

fn make(dir: &Path, label: &str, folder: &Path, path: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    // Those of scripts before.
    for entry in fs::read_dir(dir).context("cannot list the disks")?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&format!("{label}-")) {
            fs::remove_file(entry.path()).context("cannot remove a disk")?;
        }
    }
    let unfinished = dir.join(format!("{label}.new"));
    let mut command = bound_to_us("mke2fs");
    command.args(["-q", "-F", "-t", "ext4", "-O", "^has_journal,^metadata_csum", "-E", "nodiscard", "-L", label, "-d"]);
    command.arg(folder).arg(&unfinished).arg(SIZE);
    run(command, LIMIT, &dir.join("log"))?;
    fs::rename(&unfinished, path).with_context(|| format!("cannot name {}", path.display()))
}
