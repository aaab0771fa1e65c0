//! Root file systems that the native tests have made, as more disks of the machine, which has no mirror to make them
//! from.

use std::fs::{self, File};
use std::io::ErrorKind;
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
    /// Which scripts made what it has.
    pub(super) key: String,
    /// Its image.
    pub(super) path: PathBuf,
}

/// The disks that one of these programs wants, made below `dir` unless they are there.
///
/// What no native test has made is left out: the tests say what they lack.
///
/// # Errors
/// The cache cannot be read; a file system cannot be made.
pub(super) fn prepare(dir: &Path, wants: impl Fn(&str) -> bool) -> Result<Vec<Disk>> {
    let mut disks = Vec::new();
    for (label, programs) in KINDS {
        if !programs.iter().any(|program| wants(program)) {
            continue;
        }
        let cache = image::cache_dir()?.with_file_name(label);
        if !cache.try_exists().with_context(|| format!("cannot look at {}", cache.display()))? {
            continue;
        }
        // Nobody makes it anew meanwhile, and nobody else its disk.
        let _stays = lock(&cache, File::lock_shared)?;
        let Some((folder, key)) = find_made(&cache)? else { continue };
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let _alone = lock(dir, File::lock)?;
        let path = dir.join(format!("{label}-{key}.img"));
        if !is_newer(&path, &folder)? {
            make(dir, label, &folder, &path)?;
        }
        disks.push(Disk { label, key, path });
    }
    Ok(disks)
}

/// The file `lock` of a folder, with a lock on it.
fn lock(dir: &Path, how: impl Fn(&File) -> std::io::Result<()>) -> Result<File> {
    let path = dir.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    how(&file).with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// Whether a disk is there, and was made after the folder that it has.
fn is_newer(disk: &Path, folder: &Path) -> Result<bool> {
    let changed = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified());
    match changed(disk) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        made => Ok(made.context("cannot look at a disk")? > changed(folder).context("cannot look at the cache")?),
    }
}

/// The folder that the tests made, which their helpers name by a key; the one that is being made has another name.
fn find_made(cache: &Path) -> Result<Option<(PathBuf, String)>> {
    for entry in fs::read_dir(cache).with_context(|| format!("cannot list {}", cache.display()))? {
        let path = entry.with_context(|| format!("cannot list {}", cache.display()))?.path();
        let key = path.file_name().and_then(|name| name.to_str()).filter(|name| u64::from_str_radix(name, 16).is_ok());
        if let Some(key) = key.map(str::to_owned).filter(|_| path.is_dir()) {
            return Ok(Some((path, key)));
        }
    }
    Ok(None)
}

fn make(dir: &Path, label: &str, folder: &Path, path: &Path) -> Result<()> {
    // Those of scripts before.
    for entry in fs::read_dir(dir).context("cannot list the disks")? {
        let entry = entry.context("cannot list the disks")?;
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
